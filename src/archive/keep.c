// An overlay's upper as a layer, where it lies: what archive_layer() leaves out is removed from it. Folders keep their times.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/strv.h"
#include "layer.h"

static int64_t size_of(struct layer_source *source, const struct archive_change *change)
{
    struct stat info;
    int parent = change->kind == ARCHIVE_DELETED ? -1 : layer_parent_of(source, change->path, NULL);
    return parent >= 0 && fstatat(parent, strrchr(change->path, '/') + 1, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(info.st_mode) ? info.st_size : 0;
}

static bool is_change(const struct archive_changes *changes, const bool *dropped, const char *path)
{
    for (size_t i = 0; i < changes->len; i++)
        if (!dropped[i] && str_eq(changes->items[i].path, path))
            return true;
    return false;
}

// An empty file, or a folder with nothing in it but what went already. Missing is fine; so is a folder that holds a deletion of nothing.
static int remove_one(struct layer_source *source, const char *path, struct err *err)
{
    const char *name = strrchr(path, '/') + 1;
    struct stat info, folder;
    int parent = layer_parent_of(source, path, NULL);
    if (parent < 0 || fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    _cleanup_close_ int fd = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &folder) < 0 || (unlinkat(fd, name, S_ISDIR(info.st_mode) ? AT_REMOVEDIR : 0) < 0 && errno != ENOTEMPTY))
        return err_errno(err, errno, "remove %s", path);
    const struct timespec times[2] = { folder.st_atim, folder.st_mtim };
    return futimens(fd, times) < 0 ? err_errno(err, errno, "%s", path) : 0;
}

static int trim(struct layer_source *source, const struct archive_changes *changes, const bool *dropped, struct err *err)
{
    for (size_t i = changes->len; i-- > 0;)
        if (dropped[i] && remove_one(source, changes->items[i].path, err) < 0)
            return -1;
    for (size_t i = layer_engines_own_len; i-- > 0;)
        if (!is_change(changes, dropped, layer_engines_own[i]) && remove_one(source, layer_engines_own[i], err) < 0)
            return -1;
    return 0;
}

int archive_keep(const struct archive_layers *layers, struct archive_kept *out, struct err *err)
{
    struct archive_changes changes;
    if (layers->upper_fd < 0)
        return err_set(err, ERR_INTERNAL, "a layer to be kept has no folder");
    if (archive_changes(layers, &changes, err) < 0)
        return -1;
    _cleanup_(layer_source_done) struct layer_source source = layer_source_of(layers);
    _cleanup_free_ bool *dropped = layer_stubs(layers, &changes);
    *out = (struct archive_kept){ 0 };
    for (size_t i = 0; i < changes.len; i++) {
        out->any = out->any || !dropped[i];
        out->size += dropped[i] ? 0 : size_of(&source, &changes.items[i]);
    }
    int done = out->any ? trim(&source, &changes, dropped, err) : 0;
    archive_changes_done(&changes);
    return done;
}
