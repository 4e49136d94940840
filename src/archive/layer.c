// What an overlay changed as an image layer's tar. The list of changes is the table of contents; entries come out of the upper, so the
// tar depends on what was changed alone.
#include <errno.h>
#include <fcntl.h>

#include "base/fd.h"
#include "base/strv.h"
#include "kernel/path.h"
#include "layer.h"
#include "tar.h"

void layer_source_done(struct layer_source *source)
{
    free(source->parent);
    fd_close(source->parent_fd);
}

struct layer_source layer_source_of(const struct archive_layers *layers)
{
    return (struct layer_source){ .upper_fd = layers->upper_fd < 0 ? layers->merged_fd : layers->upper_fd, .parent_fd = -1 };
}

int layer_parent_of(struct layer_source *source, const char *path, struct err *err)
{
    _cleanup_free_ char *parent = mem_strndup(path, (size_t)(strrchr(path, '/') - path));
    if (str_eq(parent, source->parent))
        return source->parent_fd;
    layer_source_done(source);
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

static int write_change(struct tar_writer *writer, struct layer_source *source, const struct archive_change *change, struct err *err)
{
    struct stat info;
    const char *name = strrchr(change->path, '/') + 1;
    if (change->kind == ARCHIVE_DELETED)
        return write_deleted(writer, change->path, err);
    int parent = layer_parent_of(source, change->path, err);
    if (parent < 0)
        return -1;
    if (fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_errno(err, errno, "stat %s", change->path); // it went meanwhile
    return tar_write_entry(writer, parent, name, &info, change->path + 1, err);
}

// ---- what only mounts have left -------------------------------------------------------------------------------------

// The path is the mount's place, or a folder on the way to it.
static bool is_stub(const struct strv *stubs, const char *path)
{
    size_t size = strlen(path);
    for (size_t i = 0; i < stubs->len; i++)
        if (str_starts(stubs->items[i], path) && (stubs->items[i][size] == '/' || !stubs->items[i][size]))
            return true;
    return false;
}

static bool is_empty(struct layer_source *source, const char *path)
{
    struct stat info;
    int parent = layer_parent_of(source, path, NULL);
    return parent >= 0 && fstatat(parent, strrchr(path, '/') + 1, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
           (S_ISDIR(info.st_mode) || (S_ISREG(info.st_mode) && info.st_size == 0));
}

// Whether something below the change at `at` stays. What is below stands behind it.
static bool has_more(const struct archive_changes *changes, size_t at, const bool *dropped)
{
    size_t size = strlen(changes->items[at].path);
    for (size_t i = at + 1; i < changes->len && strncmp(changes->items[i].path, changes->items[at].path, size) == 0; i++)
        if (!dropped[i] && changes->items[i].path[size] == '/')
            return true;
    return false;
}

bool *layer_stubs(const struct archive_layers *layers, const struct archive_changes *changes)
{
    _cleanup_(layer_source_done) struct layer_source source = layer_source_of(layers);
    bool *dropped = mem_alloc(changes->len + 1);
    for (size_t i = changes->len; layers->stubs && i-- > 0;)
        dropped[i] = changes->items[i].kind == ARCHIVE_ADDED && is_stub(layers->stubs, changes->items[i].path) && is_empty(&source, changes->items[i].path) &&
                     !has_more(changes, i, dropped);
    return dropped;
}

int archive_layer(const struct archive_layers *layers, const struct archive_times *times, int out_fd, struct err *err)
{
    struct archive_changes changes;
    struct tar_writer writer;
    _cleanup_(layer_source_done) struct layer_source source = layer_source_of(layers);
    if (archive_changes(layers, &changes, err) < 0)
        return -1;
    const struct tar_changes said = times ? tar_changes_of(times) : (struct tar_changes){ 0 };
    tar_writer_init(&writer, out_fd);
    writer.changes = times ? &said : NULL;
    writer.content = layers->content;
    _cleanup_free_ bool *dropped = layer_stubs(layers, &changes);
    int done = 0;
    for (size_t i = 0; i < changes.len && done == 0; i++)
        done = dropped[i] ? 0 : write_change(&writer, &source, &changes.items[i], err);
    if (done == 0)
        done = tar_write_end(&writer, err);
    tar_writer_done(&writer);
    archive_changes_done(&changes);
    return done;
}
