// A guest's upper, or that of a container with a quota (quota.h): an ext4 image in the container's folder, sparse, copied from a template
// that is formatted once, unless it has a size of its own. The guest makes upper/ and work/ on it. It stays from run to run and goes with
// the container.
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "quota.h"
#include "vm.h"

#define NEW_SUFFIX ".new"
#define TOOL_OUTPUT_MAX (64u << 10)

static void template_name(char out[40])
{
    snprintf(out, 40, "guest-disk-%lld.ext4", (long long)DISK_SIZE);
}

// ---- the template ---------------------------------------------------------------------------------------------------

// A sparse file reads as zeros, so inode tables and journal are what they shall be already: said so, no guest writes them out
// behind its user's back. Without room to grow, a fresh image takes a quarter of a MiB.
static int format(const char *path, struct err *err)
{
    _cleanup_buf_ struct buf output = BUF_INIT(TOOL_OUTPUT_MAX);
    char *const argv[] = { (char *)"mke2fs", (char *)"-q", (char *)"-F", (char *)"-t", (char *)"ext4", (char *)"-m", (char *)"0", (char *)"-b", (char *)"4096",
                           (char *)"-O", (char *)"^resize_inode", (char *)"-E", (char *)"assume_storage_prezeroed=1,nodiscard", (char *)path,
                           NULL };
    if (process_run(argv, NULL, &output, err) == 0)
        return 0;
    return err && err->class == ERR_NOT_FOUND
               ? err_set(err, ERR_UNAVAILABLE, "mke2fs is missing on this host: install the package e2fsprogs")
               : -1;
}

static int make_template(struct engine *engine, const char *name, struct err *err)
{
    _cleanup_free_ char *fresh = mem_printf("%s" NEW_SUFFIX, name);
    _cleanup_free_ char *path = mem_printf("%s/%s", engine->data_root, fresh);
    _cleanup_close_ int fd = openat(engine->root_fd, fresh, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, DISK_SIZE) < 0)
        return err_errno(err, errno, "%s", fresh);
    if (format(path, err) < 0)
        return -1;
    if (fsync(fd) < 0 || renameat(engine->root_fd, fresh, engine->root_fd, name) < 0)
        return err_errno(err, errno, "%s", name);
    return 0;
}

static int open_template(struct engine *engine, struct err *err)
{
    char name[40];
    template_name(name);
    mutex_lock(&engine->disk_lock);
    int result = 0, fd = openat(engine->root_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && (result = make_template(engine, name, err)) == 0)
        fd = openat(engine->root_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    mutex_unlock(&engine->disk_lock);
    if (result < 0)
        return -1;
    return fd < 0 ? err_errno(err, errno, "%s", name) : fd;
}

// ---- the copy -------------------------------------------------------------------------------------------------------

static int copy_range(int from, int to, off_t start, off_t end, struct err *err)
{
    off_t in = start, out = start;
    while (in < end) {
        ssize_t n = copy_file_range(from, &in, to, &out, (size_t)(end - in), 0);
        if (n <= 0)
            return n < 0 ? err_errno(err, errno, "copy") : err_set(err, ERR_INTERNAL, "copy: unexpected end of file");
    }
    return 0;
}

// Only what holds data; the rest stays a hole.
static int copy_data(int from, int to, struct err *err)
{
    off_t start = 0, end;
    while ((start = lseek(from, start, SEEK_DATA)) >= 0) {
        if ((end = lseek(from, start, SEEK_HOLE)) < 0)
            return err_errno(err, errno, "find a hole");
        if (copy_range(from, to, start, end, err) < 0)
            return -1;
        start = end;
    }
    return errno == ENXIO ? 0 : err_errno(err, errno, "find data");
}

static int copy_template(int from, int to, int64_t uid, struct err *err)
{
    if (fchown(to, (uid_t)uid, (gid_t)uid) < 0 || fchmod(to, 0600) < 0)
        return err_errno(err, errno, "owner");
    if (ioctl(to, FICLONE, from) == 0)
        return 0;
    if (ftruncate(to, DISK_SIZE) < 0)
        return err_errno(err, errno, "size");
    return copy_data(from, to, err);
}

static int fill_from_template(struct container *container, int disk, int64_t uid, struct err *err)
{
    _cleanup_close_ int from = open_template(container->engine, err);
    return from < 0 ? -1 : copy_template(from, disk, uid, err);
}

static int fill_by_size(const struct container *container, int disk, int64_t size, int64_t uid, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    if (fchown(disk, (uid_t)uid, (gid_t)uid) < 0 || ftruncate(disk, size) < 0)
        return err_errno(err, errno, "a file of %lld bytes", (long long)size);
    return format(container_path(container, &arena, DISK_NAME NEW_SUFFIX), err);
}

static int make_disk(struct container *container, int folder, int64_t uid, struct err *err)
{
    int64_t size = quota_size(&container->config.host_config);
    _cleanup_close_ int to = openat(folder, DISK_NAME NEW_SUFFIX, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (to < 0)
        return err_errno(err, errno, DISK_NAME);
    if ((size && size != DISK_SIZE ? fill_by_size(container, to, size, uid, err) : fill_from_template(container, to, uid, err)) < 0)
        return err_wrap(err, DISK_NAME);
    if (renameat(folder, DISK_NAME NEW_SUFFIX, folder, DISK_NAME) < 0)
        return err_errno(err, errno, DISK_NAME);
    return take_fd(&to);
}

// ---- using it -------------------------------------------------------------------------------------------------------

int disk_open(struct container *container, int64_t uid, struct err *err)
{
    _cleanup_close_ int folder = file_open_dir(container->engine->containers_fd, container->id, err);
    if (folder < 0)
        return -1;
    int fd = openat(folder, DISK_NAME, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    return errno == ENOENT ? make_disk(container, folder, uid, err) : err_errno(err, errno, DISK_NAME);
}

int64_t disk_allocated(const struct container *container)
{
    _cleanup_free_ char *path = mem_printf("%s/" DISK_NAME, container->id);
    struct stat info;
    return fstatat(container->engine->containers_fd, path, &info, AT_SYMLINK_NOFOLLOW) == 0 ? info.st_blocks * INT64_C(512) : 0;
}
