// Theory of operation: what an overlay changed is in its upper, and nothing else is; so the upper's folders are walked, beside the same
// folders of the merged tree and of the lower one. What is in the upper is added or changed. What the lower folder has and the merged one
// has not was deleted, whichever way the upper says it: a whiteout, or a folder that is opaque. So no attribute of overlayfs is read.
//
// Where the container has a copy of the image instead, the copy stands in the upper's place, and what is in it as it was is no change: the
// copy keeps times, and whoever writes to a file moves its time.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/fd.h"
#include "base/file.h"
#include "base/strv.h"
#include "layer.h"

#define DEPTH_MAX 1000
#define CHANGES_MAX 4000000

// What the engine puts there before the container's first process runs: empty files and folders to mount on. Docker's lie in a layer
// of their own.
const char *const layer_engines_own[] = { "/.dockerenv", "/dev", "/dev/console", "/dev/pts", "/dev/shm", "/dev/mqueue", "/etc", "/etc/hostname",
                                           "/etc/hosts", "/etc/resolv.conf", "/proc", "/sys" };
const size_t layer_engines_own_len = ARRAY_LEN(layer_engines_own);

struct folders {
    int upper_fd, merged_fd, lower_fd; // -1: not there
    bool copy; // the upper is the merged tree itself
    bool exact; // contents are compared
};

static void folders_done(struct folders *folders)
{
    fd_close(folders->upper_fd);
    fd_close(folders->merged_fd);
    fd_close(folders->lower_fd);
}

static bool is_engines(const char *path)
{
    for (size_t i = 0; i < ARRAY_LEN(layer_engines_own); i++)
        if (str_eq(layer_engines_own[i], path))
            return true;
    return false;
}

static int add(struct archive_changes *changes, enum archive_kind kind, const char *path, struct err *err)
{
    if (changes->len == CHANGES_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d changes", CHANGES_MAX);
    if (changes->len == changes->capacity) {
        changes->capacity = changes->capacity ? changes->capacity * 2 : 256;
        changes->items = mem_grow(changes->items, changes->capacity * sizeof(*changes->items));
    }
    changes->items[changes->len++] = (struct archive_change){ kind, mem_strdup(path) };
    return 0;
}

// ---- one folder -----------------------------------------------------------------------------------------------------

static bool look(int folder_fd, const char *name, struct stat *info)
{
    return folder_fd >= 0 && fstatat(folder_fd, name, info, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool is_whiteout(const struct stat *info)
{
    return S_ISCHR(info->st_mode) && info->st_rdev == makedev(0, 0);
}

static int open_folder(int folder_fd, const char *name)
{
    return folder_fd < 0 ? -1 : openat(folder_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// Names of the upper's folder and, behind them, those that it hides; sorted, each once.
static int list_names(const struct folders *folders, struct strv *out, struct err *err)
{
    _cleanup_strv_ struct strv lower = { 0 };
    struct stat info;
    if (file_list_names(folders->upper_fd, ".", out, err) < 0 ||
        (folders->lower_fd >= 0 && file_list_names(folders->lower_fd, ".", &lower, err) < 0))
        return -1;
    for (size_t i = 0; i < lower.len; i++)
        if (!look(folders->merged_fd, lower.items[i], &info) && !look(folders->upper_fd, lower.items[i], &info))
            strv_add(out, lower.items[i]);
    if (out->len > 1)
        qsort(out->items, out->len, sizeof(*out->items), compare_names);
    return 0;
}

static bool same_folder(const struct stat *a, const struct stat *b, bool times)
{
    return a->st_mode == b->st_mode && a->st_uid == b->st_uid && a->st_gid == b->st_gid &&
           (!times || (a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec));
}

static bool same_capability(const struct folders *folders, const char *name)
{
    enum { CAPABILITY_MAX = 64 };
    char own[CAPABILITY_MAX], first[CAPABILITY_MAX];
    _cleanup_close_ int own_fd = openat(folders->upper_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    _cleanup_close_ int first_fd = openat(folders->lower_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    ssize_t own_size = fgetxattr(own_fd, "security.capability", own, sizeof(own));
    ssize_t first_size = fgetxattr(first_fd, "security.capability", first, sizeof(first));
    return own_size == first_size && (own_size <= 0 || memcmp(own, first, (size_t)own_size) == 0);
}

// Not inlined: the walk is a recursion, and its frames shall stay small.
static __attribute__((noinline)) bool same_target(const struct folders *folders, const char *name)
{
    char own[PATH_MAX], first[PATH_MAX];
    ssize_t own_size = readlinkat(folders->upper_fd, name, own, sizeof(own));
    ssize_t first_size = readlinkat(folders->lower_fd, name, first, sizeof(first));
    return own_size >= 0 && own_size == first_size && memcmp(own, first, (size_t)own_size) == 0;
}

static __attribute__((noinline)) bool same_content(const struct folders *folders, const char *name)
{
    enum { PART = 16384 };
    _cleanup_free_ char *own = mem_alloc(PART), *first = mem_alloc(PART);
    _cleanup_close_ int own_fd = openat(folders->upper_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    _cleanup_close_ int first_fd = openat(folders->lower_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    for (;;) {
        ssize_t own_size = fd_read_full(own_fd, own, PART, NULL), first_size = fd_read_full(first_fd, first, PART, NULL);
        if (own_size <= 0 || own_size != first_size || memcmp(own, first, (size_t)own_size) != 0)
            return own_size == 0 && first_size == 0;
    }
}

// An entry of a copy that nobody has touched.
static bool same_entry(const struct folders *folders, const char *name, const struct stat *own, const struct stat *first)
{
    if (!same_folder(own, first, true) || own->st_rdev != first->st_rdev || own->st_size != first->st_size)
        return false;
    if (S_ISLNK(own->st_mode))
        return same_target(folders, name);
    if (S_ISREG(own->st_mode) && folders->exact && !same_content(folders, name))
        return false;
    return !S_ISREG(own->st_mode) || !(own->st_mode & 0111) || same_capability(folders, name);
}

static int walk(const struct folders *folders, const char *path, unsigned depth, struct archive_changes *out, struct err *err);

// A folder stands before what is in it, and counts only if something is.
static int walk_folder(const struct folders *folders, const char *name, const char *path, const struct stat *upper, const struct stat *lower,
                       unsigned depth, struct archive_changes *out, struct err *err)
{
    size_t place = out->len;
    bool both = lower && S_ISDIR(lower->st_mode), own = is_engines(path);
    _cleanup_(folders_done) struct folders below = { open_folder(folders->upper_fd, name), open_folder(folders->merged_fd, name),
                                                     both ? open_folder(folders->lower_fd, name) : -1, folders->copy, folders->exact };
    if (below.upper_fd < 0)
        return errno == ENOENT ? 0 : err_errno(err, errno, "open %s", path);
    if (add(out, lower ? ARCHIVE_CHANGED : ARCHIVE_ADDED, path, err) < 0 || walk(&below, path, depth + 1, out, err) < 0)
        return -1;
    bool unchanged = both ? same_folder(upper, lower, !own) : own && !lower;
    if (out->len == place + 1 && unchanged)
        free(out->items[--out->len].path);
    return 0;
}

static int walk_entry(const struct folders *folders, const char *name, const char *path, unsigned depth, struct archive_changes *out,
                      struct err *err)
{
    struct stat upper, lower;
    bool below = look(folders->lower_fd, name, &lower), here = look(folders->upper_fd, name, &upper);
    if (!here || is_whiteout(&upper))
        return below ? add(out, ARCHIVE_DELETED, path, err) : 0;
    if (S_ISDIR(upper.st_mode))
        return walk_folder(folders, name, path, &upper, below ? &lower : NULL, depth, out, err);
    if (folders->copy && below && same_entry(folders, name, &upper, &lower))
        return 0;
    if (!below && S_ISREG(upper.st_mode) && upper.st_size == 0 && is_engines(path))
        return 0;
    return add(out, below ? ARCHIVE_CHANGED : ARCHIVE_ADDED, path, err);
}

static int walk(const struct folders *folders, const char *path, unsigned depth, struct archive_changes *out, struct err *err)
{
    _cleanup_strv_ struct strv names = { 0 };
    if (depth > DEPTH_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "folders nested deeper than %d", DEPTH_MAX);
    if (list_names(folders, &names, err) < 0)
        return err_wrap(err, "%s", path);
    for (size_t i = 0; i < names.len; i++) {
        _cleanup_free_ char *child = mem_printf("%s/%s", path, names.items[i]);
        if (walk_entry(folders, names.items[i], child, depth, out, err) < 0)
            return -1;
    }
    return 0;
}

// ---- the face -------------------------------------------------------------------------------------------------------

int archive_changes(const struct archive_layers *layers, struct archive_changes *out, struct err *err)
{
    bool copy = layers->upper_fd < 0;
    _cleanup_(folders_done) struct folders top = { open_folder(copy ? layers->merged_fd : layers->upper_fd, "."),
                                                   open_folder(layers->merged_fd, "."), open_folder(layers->lower_fd, "."), copy, layers->exact };
    *out = (struct archive_changes){ 0 };
    if (top.upper_fd < 0 || top.merged_fd < 0)
        return err_errno(err, errno, "open the container's layers");
    if (walk(&top, "", 0, out, err) == 0)
        return 0;
    archive_changes_done(out);
    return -1;
}

void archive_changes_done(struct archive_changes *changes)
{
    for (size_t i = 0; i < changes->len; i++)
        free(changes->items[i].path);
    free(changes->items);
    *changes = (struct archive_changes){ 0 };
}
