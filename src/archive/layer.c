// What an overlay changed as an image layer's tar. The list of changes is the table of contents; entries come out of the upper, so the
// tar depends on what was changed alone.
#include <errno.h>
#include <fcntl.h>

#include "base/fd.h"
#include "kernel/path.h"
#include "tar.h"

struct source {
    int upper_fd;
    char *parent; // of the last entry, malloc'ed: most are followed by a sibling
    int parent_fd;
};

static void source_done(struct source *source)
{
    free(source->parent);
    fd_close(source->parent_fd);
}

// The folder of "/a/b" in the upper, where no component is a link.
static int parent_of(struct source *source, const char *path, struct err *err)
{
    _cleanup_free_ char *parent = mem_strndup(path, (size_t)(strrchr(path, '/') - path));
    if (str_eq(parent, source->parent))
        return source->parent_fd;
    source_done(source);
    source->parent_fd = path_open_plain(source->upper_fd, *parent ? parent : "/", err);
    source->parent = take_ptr(&parent);
    return source->parent_fd;
}

static int write_deleted(struct tar_writer *writer, const char *path, struct err *err)
{
    const char *name = strrchr(path, '/') + 1;
    _cleanup_free_ char *as = mem_printf("%.*s.wh.%s", (int)(name - path - 1), path + 1, name);
    return tar_write_empty(writer, as, err);
}

static int write_change(struct tar_writer *writer, struct source *source, const struct archive_change *change, struct err *err)
{
    struct stat info;
    const char *name = strrchr(change->path, '/') + 1;
    if (change->kind == ARCHIVE_DELETED)
        return write_deleted(writer, change->path, err);
    int parent = parent_of(source, change->path, err);
    if (parent < 0)
        return -1;
    if (fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_errno(err, errno, "stat %s", change->path); // it went meanwhile
    return tar_write_entry(writer, parent, name, &info, change->path + 1, err);
}

int archive_layer(const struct archive_layers *layers, const struct archive_times *times, int out_fd, struct err *err)
{
    struct archive_changes changes;
    struct tar_writer writer;
    _cleanup_(source_done) struct source source = { .upper_fd = layers->upper_fd < 0 ? layers->merged_fd : layers->upper_fd, .parent_fd = -1 };
    if (archive_changes(layers, &changes, err) < 0)
        return -1;
    const struct tar_changes said = times ? tar_changes_of(times) : (struct tar_changes){ 0 };
    tar_writer_init(&writer, out_fd);
    writer.changes = times ? &said : NULL;
    writer.content = layers->content;
    int done = 0;
    for (size_t i = 0; i < changes.len && done == 0; i++)
        done = write_change(&writer, &source, &changes.items[i], err);
    if (done == 0)
        done = tar_write_end(&writer, err);
    tar_writer_done(&writer);
    archive_changes_done(&changes);
    return done;
}
