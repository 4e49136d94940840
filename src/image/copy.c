// Copying a tree: names, owners, modes, times, extended attributes, links, hard links, holes, devices. Everything from descriptor to
// descriptor, and a folder is never entered through a link. Where the file system can share blocks, files share them.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <search.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "image_private.h"

enum { DEPTH_MAX = 1000, ATTR_NAMES_MAX = 65536, ATTR_VALUE_MAX = 65536 };

struct copy {
    int to_root;
    bool layer;
    void *names; // struct first_name by inode: files with several names
    char path[PATH_MAX]; // of the folder that is being copied, with a slash behind it; "" at the root
    size_t path_size;
    unsigned beyond; // folders below the last one whose path fits: files there are copied once for each name
};

struct first_name {
    dev_t device;
    ino_t inode;
    char *path;
};

static int copy_tree(struct copy *copy, int from, int to, unsigned depth, struct err *err);

// What is there already was made by another container that fills the same volume at the same moment: a layer makes room first.
static int not_made(const char *name, struct err *err)
{
    return errno != EEXIST ? err_errno(err, errno, "%s", name) : 0;
}

// ---- attributes -----------------------------------------------------------------------------------------------------

static bool xattr_wanted(const char *name)
{
    return (str_starts(name, "user.") && !str_starts(name, "user.overlay.")) || str_eq(name, "security.capability");
}

static void copy_xattrs(int from, int to)
{
    char few[1024];
    ssize_t size = flistxattr(from, few, sizeof(few));
    if (size == 0 || (size < 0 && errno != ERANGE))
        return; // as nearly all
    _cleanup_free_ char *names = mem_alloc(ATTR_NAMES_MAX), *value = mem_alloc(ATTR_VALUE_MAX);
    size = flistxattr(from, names, ATTR_NAMES_MAX);
    for (const char *name = names; size > 0 && name < names + size; name += strlen(name) + 1) {
        ssize_t len = xattr_wanted(name) ? fgetxattr(from, name, value, ATTR_VALUE_MAX) : -1;
        if (len >= 0)
            fsetxattr(to, name, value, (size_t)len, 0);
    }
}

// Owner first: chown clears set-user-id bits and capabilities, so those come after it; times last.
static int copy_attributes(int from, int to, const struct stat *info, struct err *err)
{
    const struct timespec times[] = { info->st_atim, info->st_mtim };
    if (fchown(to, info->st_uid, info->st_gid) < 0 || fchmod(to, info->st_mode & 07777) < 0)
        return err_errno(err, errno, "attributes");
    copy_xattrs(from, to);
    return futimens(to, times) < 0 ? err_errno(err, errno, "times") : 0;
}

// Of what is not opened: links, devices, pipes.
static int copy_attributes_at(int to_dir, const char *name, const struct stat *info, struct err *err)
{
    const struct timespec times[] = { info->st_atim, info->st_mtim };
    if (fchownat(to_dir, name, info->st_uid, info->st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
        utimensat(to_dir, name, times, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(err, errno, "%s", name);
    return 0;
}

// ---- files ----------------------------------------------------------------------------------------------------------

static int copy_range_by_hand(int from, int to, off_t at, off_t end, struct err *err)
{
    _cleanup_free_ char *chunk = mem_alloc(65536);
    while (at < end) {
        ssize_t n = pread(from, chunk, (size_t)MIN_OF(end - at, (off_t)65536), at);
        if (n <= 0)
            return n < 0 ? err_errno(err, errno, "read") : 0;
        if (fd_write_at(to, chunk, (size_t)n, at, err) < 0)
            return -1;
        at += n;
    }
    return 0;
}

static int copy_range(int from, int to, off_t at, off_t end, struct err *err)
{
    off_t there = at;
    while (at < end) {
        ssize_t n = copy_file_range(from, &at, to, &there, (size_t)MIN_OF(end - at, (off_t)1 << 30), 0);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return errno == ENOSPC || errno == EDQUOT ? err_errno(err, errno, "write") : copy_range_by_hand(from, to, at, end, err);
    }
    return 0;
}

// Data alone; holes stay holes.
static int copy_bytes(int from, int to, off_t size, struct err *err)
{
    for (off_t at = 0, end; at < size; at = end) {
        off_t data = lseek(from, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break;
        data = data < 0 ? at : data;
        end = lseek(from, data, SEEK_HOLE);
        end = end < 0 ? size : end;
        if (copy_range(from, to, data, end, err) < 0)
            return -1;
    }
    return ftruncate(to, size) < 0 ? err_errno(err, errno, "size") : 0;
}

static int copy_file(int from_dir, int to_dir, const char *name, const struct stat *info, struct err *err)
{
    _cleanup_close_ int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (from < 0)
        return err_errno(err, errno, "%s", name);
    _cleanup_close_ int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (to < 0)
        return not_made(name, err);
    return copy_bytes(from, to, info->st_size, err) < 0 ? -1 : copy_attributes(from, to, info, err);
}

// ---- hard links -----------------------------------------------------------------------------------------------------

static int compare_inodes(const void *a, const void *b)
{
    const struct first_name *one = a, *other = b;
    if (one->device != other->device)
        return one->device < other->device ? -1 : 1;
    return one->inode < other->inode ? -1 : one->inode > other->inode;
}

static void free_name(void *name)
{
    free(((struct first_name *)name)->path);
    free(name);
}

// 1: the file has its first name already, and this is one more of it; 0: it is to be copied.
static int link_again(struct copy *copy, int to_dir, const char *name, const struct stat *info, struct err *err)
{
    const struct first_name wanted = { .device = info->st_dev, .inode = info->st_ino };
    struct first_name **found = tfind(&wanted, &copy->names, compare_inodes);
    if (found)
        return linkat(copy->to_root, (*found)->path, to_dir, name, 0) == 0 || errno == EEXIST ? 1
               : errno == EMLINK ? 0 : err_errno(err, errno, "link %s", name);
    struct first_name *fresh = mem_new(struct first_name);
    *fresh = (struct first_name){ info->st_dev, info->st_ino, mem_printf("%s%s", copy->path, name) };
    if (!tsearch(fresh, &copy->names, compare_inodes))
        free_name(fresh);
    return 0;
}

// ---- entries --------------------------------------------------------------------------------------------------------

// overlayfs's mark on a layer's folder: what lower layers have there is hidden.
static bool is_opaque(int fd)
{
    char value;
    return fgetxattr(fd, image_opaque_name(), &value, 1) == 1 && value == 'y';
}

static int clear_folder(int fd, struct err *err)
{
    _cleanup_strv_ struct strv names = { 0 };
    if (file_list_names(fd, ".", &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++)
        if (file_remove_tree(fd, names.items[i], err) < 0)
            return -1;
    return 0;
}

static void enter(struct copy *copy, const char *name)
{
    size_t size = strlen(name);
    if (copy->beyond || copy->path_size + size + 2 > sizeof(copy->path)) {
        copy->beyond++;
        return;
    }
    memcpy(copy->path + copy->path_size, name, size);
    memcpy(copy->path + copy->path_size + size, "/", 2);
    copy->path_size += size + 1;
}

static void leave(struct copy *copy, size_t before)
{
    if (copy->beyond) {
        copy->beyond--;
        return;
    }
    copy->path_size = before;
    copy->path[before] = 0;
}

// A folder merges into one that is there; anything else that is there gives way.
static int copy_folder(struct copy *copy, int from_dir, int to_dir, const char *name, unsigned depth, struct err *err)
{
    struct stat there;
    size_t before = copy->path_size;
    bool merges = fstatat(to_dir, name, &there, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(there.st_mode);
    if (!merges && copy->layer && file_remove_tree(to_dir, name, err) < 0)
        return -1;
    if (!merges && mkdirat(to_dir, name, 0700) < 0 && not_made(name, err) < 0)
        return -1;
    _cleanup_close_ int from = openat(from_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    _cleanup_close_ int to = openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (from < 0 || to < 0)
        return err_errno(err, errno, "%s", name);
    if (copy->layer && merges && is_opaque(from) && clear_folder(to, err) < 0)
        return -1;
    enter(copy, name);
    int result = copy_tree(copy, from, to, depth + 1, err);
    leave(copy, before);
    return result;
}

static int copy_link(int from_dir, int to_dir, const char *name, const struct stat *info, struct err *err)
{
    char target[PATH_MAX];
    ssize_t len = readlinkat(from_dir, name, target, sizeof(target) - 1);
    if (len < 0)
        return err_errno(err, errno, "%s", name);
    target[len] = 0;
    return symlinkat(target, to_dir, name) < 0 ? not_made(name, err) : copy_attributes_at(to_dir, name, info, err);
}

static int copy_node(int to_dir, const char *name, const struct stat *info, struct err *err)
{
    if (S_ISSOCK(info->st_mode))
        return 0;
    if (mknodat(to_dir, name, info->st_mode, info->st_rdev) < 0)
        return not_made(name, err);
    if (copy_attributes_at(to_dir, name, info, err) < 0)
        return -1;
    return fchmodat(to_dir, name, info->st_mode & 07777, 0) < 0 ? err_errno(err, errno, "%s", name) : 0;
}

static int copy_entry(struct copy *copy, int from_dir, int to_dir, const char *name, unsigned depth, struct err *err)
{
    struct stat info;
    if (fstatat(from_dir, name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(err, errno, "%s", name);
    if (S_ISDIR(info.st_mode))
        return copy_folder(copy, from_dir, to_dir, name, depth, err);
    if (copy->layer && file_remove_tree(to_dir, name, err) < 0)
        return -1;
    if (copy->layer && S_ISCHR(info.st_mode) && info.st_rdev == makedev(0, 0))
        return 0; // a whiteout
    int linked = info.st_nlink > 1 && !copy->beyond ? link_again(copy, to_dir, name, &info, err) : 0;
    if (linked != 0)
        return linked < 0 ? -1 : 0;
    if (S_ISREG(info.st_mode))
        return copy_file(from_dir, to_dir, name, &info, err);
    return S_ISLNK(info.st_mode) ? copy_link(from_dir, to_dir, name, &info, err) : copy_node(to_dir, name, &info, err);
}

static int copy_tree(struct copy *copy, int from, int to, unsigned depth, struct err *err)
{
    struct stat info;
    _cleanup_strv_ struct strv names = { 0 };
    if (depth > DEPTH_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "folders nested deeper than %d", DEPTH_MAX);
    if (fstat(from, &info) < 0)
        return err_errno(err, errno, "read folder");
    if (file_list_names(from, ".", &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++)
        if (copy_entry(copy, from, to, names.items[i], depth, err) < 0)
            return -1;
    return copy_attributes(from, to, &info, err);
}

// ---- on a stack of its own ------------------------------------------------------------------------------------------

// Handlers' stacks are small, and images nest folders as deep as they like.
int image_run_deep(void *(*run)(void *), void *context, struct err *err)
{
    enum { STACK_SIZE = 16 << 20 }; // of it only what is used is there
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    int failed = pthread_create(&thread, &attributes, run, context);
    pthread_attr_destroy(&attributes);
    if (failed)
        return err_errno(err, failed, "thread");
    pthread_join(thread, NULL);
    return 0;
}

struct copy_job {
    struct copy copy;
    int from, result;
    struct err err;
};

static void *run_job(void *context)
{
    struct copy_job *job = context;
    job->result = copy_tree(&job->copy, job->from, job->copy.to_root, 0, &job->err);
    return NULL;
}

static int copy_all(int from_fd, int to_fd, bool layer, struct err *err)
{
    struct copy_job *job = mem_new(struct copy_job);
    job->copy.to_root = to_fd;
    job->copy.layer = layer;
    job->from = from_fd;
    int result = image_run_deep(run_job, job, err);
    if (result == 0 && (result = job->result) < 0 && err)
        *err = job->err;
    tdestroy(job->copy.names, free_name);
    free(job);
    return result;
}

int image_copy_tree(int from_fd, int to_fd, struct err *err)
{
    return copy_all(from_fd, to_fd, false, err);
}

int image_apply_layer(int layer_fd, int to_fd, struct err *err)
{
    return copy_all(layer_fd, to_fd, true, err);
}
