// Theory of operation: a folder of a source is walked beside the folder of the tree that it meets. Where only some of its files are meant
// (--parents, --exclude), a folder gets its entry when the first file in it gets one, so that none is made for nothing.
#include "place.h"

#include <errno.h>
#include <fcntl.h>

#include "base/fd.h"
#include "base/file.h"
#include "build/ignore.h"

#define DEPTH_MAX 1000
#define WHITEOUT ".wh."

// A folder under way.
struct level {
    struct placing *placing;
    const struct archive_source *source;
    struct level *above; // NULL: the source itself
    int from_fd, beside_fd;
    const char *as, *path; // in the layer; below the source, "" for itself
    bool whole; // all of it is meant, but for what is left out
    unsigned depth;
    // of one that has no entry yet
    bool untold;
    int parent_fd;
    const char *name;
    struct stat info;
};

int place_refuse_name(const char *name, struct err *err)
{
    return str_starts(name, WHITEOUT) ? err_set(err, ERR_INVALID_ARGUMENT, "%.200s: a name that begins with " WHITEOUT " can't be in an image", name)
                                      : 0;
}

static int open_folder_at(int parent, const char *name, struct err *err)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "open %s", name) : fd;
}

int place_meet(int beside_fd, const char *name, bool folder, const char *as, int *met_fd, struct err *err)
{
    struct stat info;
    *met_fd = -1;
    if (beside_fd < 0 || fstatat(beside_fd, name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    if (folder && !S_ISDIR(info.st_mode))
        return err_set(err, ERR_INVALID_ARGUMENT, "cannot copy to non-directory: /%s", as);
    if (!folder && S_ISDIR(info.st_mode))
        return err_set(err, ERR_INVALID_ARGUMENT, "cannot overwrite directory \"/%s\" with non-directory", as);
    return folder && (*met_fd = open_folder_at(beside_fd, name, err)) < 0 ? -1 : 0;
}

// ---- what is meant --------------------------------------------------------------------------------------------------

enum meant { MEANT_NOT, MEANT_PERHAPS, MEANT }; // perhaps: a folder, for what is in it

static enum meant meant(const struct level *level, const char *path, bool folder)
{
    const struct ignore *out = level->placing->place->excludes, *in = level->source->includes;
    if (out && ignore_match(out, path))
        return folder && ignore_takes_back_below(out, path) ? MEANT_PERHAPS : MEANT_NOT;
    if (level->whole || ignore_match(in, path))
        return MEANT;
    return folder ? MEANT_PERHAPS : MEANT_NOT;
}

// ---- the walk -------------------------------------------------------------------------------------------------------

static int tell_level(struct level *level, struct err *err)
{
    if (!level || !level->untold)
        return 0;
    _cleanup_close_ int met = -1;
    level->untold = false;
    if (tell_level(level->above, err) < 0 || place_meet(level->above->beside_fd, level->name, true, level->as, &met, err) < 0)
        return -1;
    return tar_write_entry(&level->placing->writer, level->parent_fd, level->name, &level->info, level->as, err);
}

static int walk(struct level *level, struct err *err);

static int walk_folder(struct level *level, const char *name, const struct stat *info, const char *as, const char *path, bool all, struct err *err)
{
    struct level below = { .placing = level->placing, .source = level->source, .above = level, .as = as, .path = path, .beside_fd = -1,
                           .whole = level->whole || ignore_match(level->source->includes, path), .depth = level->depth + 1, .untold = true, .parent_fd = level->from_fd, .name = name,
                           .info = *info };
    if (all && tell_level(&below, err) < 0)
        return -1;
    _cleanup_close_ int from = open_folder_at(level->from_fd, name, err);
    _cleanup_close_ int beside = level->beside_fd < 0 ? -1 : openat(level->beside_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (from < 0)
        return -1;
    below.from_fd = from;
    below.beside_fd = beside;
    return walk(&below, err);
}

static int walk_child(struct level *level, const char *name, const char *as, const char *path, struct err *err)
{
    struct stat info;
    _cleanup_close_ int met = -1;
    if (fstatat(level->from_fd, name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(err, errno, "stat %s", as);
    enum meant is = meant(level, path, S_ISDIR(info.st_mode));
    if (is == MEANT_NOT)
        return 0;
    if (place_refuse_name(name, err) < 0)
        return -1;
    if (S_ISDIR(info.st_mode))
        return walk_folder(level, name, &info, as, path, is == MEANT, err);
    if (place_meet(level->beside_fd, name, false, as, &met, err) < 0 || tell_level(level, err) < 0)
        return -1;
    return tar_write_entry(&level->placing->writer, level->from_fd, name, &info, as, err);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *join(const char *folder, const char *name)
{
    return *folder ? mem_printf("%s/%s", folder, name) : mem_strdup(name);
}

static int walk(struct level *level, struct err *err)
{
    _cleanup_strv_ struct strv names = { 0 };
    if (level->depth > DEPTH_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "folders nested deeper than %d", DEPTH_MAX);
    if (file_list_names(level->from_fd, ".", &names, err) < 0)
        return -1;
    if (names.len > 1)
        qsort(names.items, names.len, sizeof(*names.items), compare_names);
    for (size_t i = 0; i < names.len; i++) {
        _cleanup_free_ char *as = join(level->as, names.items[i]), *path = join(level->path, names.items[i]);
        if (walk_child(level, names.items[i], as, path, err) < 0)
            return -1;
    }
    return 0;
}

int place_children(struct placing *placing, const struct archive_source *source, int from_fd, int beside_fd, const char *as, struct err *err)
{
    struct level level = { .placing = placing, .source = source, .from_fd = from_fd, .beside_fd = beside_fd, .as = as, .path = "", .whole = !source->includes };
    return walk(&level, err);
}
