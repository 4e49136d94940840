// What a tree takes, while others may change it under the walk.
//
// The walk holds one descriptor, however deep it is, and goes up by "..": the folder it finds there must be the one it came
// down from, else somebody moved a folder meanwhile and the count starts again.
#include <errno.h>
#include <fcntl.h>

#include "base/file.h"

enum { ENTRY_MAX = 10000000, TRY_MAX = 5 };

// Inode numbers of files that have several names; open addressing, a power of two, 0 is empty.
struct seen {
    uint64_t *slots;
    size_t len, capacity;
};

struct level {
    dev_t dev;
    ino_t ino;
    struct strv folders; // still to be entered
};

struct walk {
    int fd; // of the lowest level
    struct level *levels;
    size_t depth, capacity;
    struct seen seen;
    size_t entries;
    int64_t size;
};

static void walk_done(struct walk *walk)
{
    for (size_t i = 0; i < walk->depth; i++)
        strv_done(&walk->levels[i].folders);
    free(walk->levels);
    free(walk->seen.slots);
    fd_close(walk->fd);
}

// ---- files of several names -----------------------------------------------------------------------------------------

static size_t slot_of(const struct seen *seen, uint64_t ino)
{
    size_t at = (ino * UINT64_C(0x9e3779b97f4a7c15)) >> 20;
    while (seen->slots[at & (seen->capacity - 1)] && seen->slots[at & (seen->capacity - 1)] != ino)
        at++;
    return at & (seen->capacity - 1);
}

static void seen_grow(struct seen *seen)
{
    struct seen larger = { .capacity = seen->capacity ? 2 * seen->capacity : 64, .len = seen->len };
    larger.slots = mem_alloc(larger.capacity * sizeof(*larger.slots));
    memset(larger.slots, 0, larger.capacity * sizeof(*larger.slots));
    for (size_t i = 0; i < seen->capacity; i++)
        if (seen->slots[i])
            larger.slots[slot_of(&larger, seen->slots[i])] = seen->slots[i];
    free(seen->slots);
    *seen = larger;
}

static bool seen_before(struct seen *seen, uint64_t ino)
{
    if (2 * (seen->len + 1) > seen->capacity)
        seen_grow(seen);
    size_t at = slot_of(seen, ino);
    if (seen->slots[at])
        return true;
    seen->slots[at] = ino;
    seen->len++;
    return false;
}

// ---- the walk -------------------------------------------------------------------------------------------------------

static int count_entry(struct walk *walk, struct level *level, const char *name, struct err *err)
{
    struct stat info;
    if (++walk->entries > ENTRY_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d entries", ENTRY_MAX);
    if (fstatat(walk->fd, name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_errno(err, errno, "%s", name);
    if (info.st_dev != level->dev)
        return 0;
    if (S_ISDIR(info.st_mode))
        strv_add(&level->folders, name);
    else if (info.st_nlink < 2 || !seen_before(&walk->seen, info.st_ino))
        walk->size += info.st_size;
    return 0;
}

static int count_folder(struct walk *walk, struct level *level, struct err *err)
{
    _cleanup_strv_ struct strv names = { 0 };
    if (file_list_names(walk->fd, ".", &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++)
        if (count_entry(walk, level, names.items[i], err) < 0)
            return -1;
    return 0;
}

// Takes the descriptor.
static int enter(struct walk *walk, int fd, struct err *err)
{
    struct stat info;
    fd_close(walk->fd);
    walk->fd = fd;
    if (fstat(fd, &info) < 0)
        return err_errno(err, errno, "folder");
    if (walk->depth == walk->capacity) {
        walk->capacity = walk->capacity ? 2 * walk->capacity : 16;
        walk->levels = mem_grow(walk->levels, walk->capacity * sizeof(*walk->levels));
    }
    struct level *level = &walk->levels[walk->depth++];
    *level = (struct level){ .dev = info.st_dev, .ino = info.st_ino };
    return count_folder(walk, level, err);
}

static int go_up(struct walk *walk, struct err *err)
{
    struct stat info;
    strv_done(&walk->levels[--walk->depth].folders);
    if (walk->depth == 0)
        return 0;
    const struct level *level = &walk->levels[walk->depth - 1];
    int parent = openat(walk->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0)
        return errno == ENOENT ? err_set(err, ERR_CONFLICT, "a folder went") : err_errno(err, errno, "folder");
    fd_close(walk->fd);
    walk->fd = parent;
    if (fstat(parent, &info) < 0 || info.st_ino != level->ino || info.st_dev != level->dev)
        return err_set(err, ERR_CONFLICT, "a folder was moved");
    return 0;
}

static int step(struct walk *walk, struct err *err)
{
    struct strv *folders = &walk->levels[walk->depth - 1].folders;
    if (folders->len == 0)
        return go_up(walk, err);
    _cleanup_free_ char *name = folders->items[--folders->len];
    int fd = openat(walk->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) // gone, or something else by now
        return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? 0 : err_errno(err, errno, "%s", name);
    return enter(walk, fd, err);
}

static int measure(int dirfd, const char *path, int64_t *out, struct err *err)
{
    _cleanup_(walk_done) struct walk walk = { .fd = -1 };
    int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "%s", path);
    if (enter(&walk, fd, err) < 0)
        return -1;
    while (walk.depth > 0)
        if (step(&walk, err) < 0)
            return -1;
    *out = walk.size;
    return 0;
}

int file_tree_size(int dirfd, const char *path, int64_t *out, struct err *err)
{
    struct err failed = { 0 };
    for (int i = 0; i < TRY_MAX; i++) {
        failed = (struct err){ 0 };
        if (measure(dirfd, path, out, &failed) == 0)
            return 0;
        if (failed.class != ERR_CONFLICT)
            break;
    }
    if (err)
        *err = failed;
    return err_wrap(err, "size of %s", path);
}
