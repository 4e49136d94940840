// The root as the machine has it: one disk with a partition a layer (EROFS), one with the upper (ext4), an overlay of
// them.
//
//     <dir>/layers/0 ...    the layers, top first       <dir>/upper    the upper's disk, with upper/ and work/ on it
//     <dir>/root            what the container gets
//
// mount(2) for the overlay, which nothing else in Berth uses: on kernels before 6.8 the new mount API takes 256 bytes
// of layer names, and mount(2) a page; with the layers' short names from inside their folder that is room for a
// thousand of them.
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <time.h>

#include "base/file.h"
#include "guest_private.h"
#include "kernel/abi.h"
#include "kernel/mount.h"

#define LAYER_MAX 500 // overlayfs takes no more
#define OVERLAY_OPTIONS_MAX 4000 // a page, and some room
#define RELEASE_WAIT_NS (500 * NS_PER_MS)

struct found {
    size_t layer_len;
    bool want_upper;
    struct disk disks[DISK_MAX];
    const struct disk *layers, *upper;
};

static bool has_device(const char *name)
{
    char path[64];
    snprintf(path, sizeof(path), "/dev/%s", name);
    return access(path, F_OK) == 0;
}

static bool all_there(void *context)
{
    struct found *found = context;
    char last[2 * DISK_NAME_SIZE];
    _cleanup_close_ int sys_fd = open("/sys", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    size_t len = sys_fd >= 0 ? disk_list(sys_fd, found->disks) : 0;
    found->layers = disk_of_layers(found->disks, len);
    found->upper = disk_of_upper(found->disks, len);
    if (found->want_upper && (!found->upper || !has_device(found->upper->name)))
        return false;
    if (found->layer_len == 0)
        return true;
    if (found->layers)
        disk_partition(found->layers, found->layer_len, last);
    return found->layers && has_device(last);
}

// A folder for a mount point; its descriptor.
static int mount_point(int dir_fd, const char *path, struct err *err)
{
    if (file_mkdirs(dir_fd, path, 0700, err) < 0)
        return -1;
    return file_open_dir(dir_fd, path, err);
}

static int mount_device(const char *fstype, const char *device, const struct mount_option *more, size_t more_len,
                        uint64_t attrs, int target_fd, struct err *err)
{
    char path[96];
    struct mount_option options[4] = { { .key = "source", .value = path } };
    snprintf(path, sizeof(path), "/dev/%s", device);
    for (size_t i = 0; i < more_len; i++)
        options[i + 1] = more[i];
    _cleanup_close_ int mount_fd = mount_new(fstype, options, more_len + 1, attrs, err);
    if (mount_fd < 0 || mount_attach(mount_fd, target_fd, err) < 0)
        return err_wrap(err, "%s", path);
    return 0;
}

// A guest's write into the window of a pmem device would seem to succeed: the kernel must not even try.
static void forbid_writing(const struct disk *disk)
{
    char path[64];
    int read_only = 1;
    snprintf(path, sizeof(path), "/dev/%s", disk->name);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        ioctl(fd, BLKROSET, &read_only);
}

static int mount_layers(const struct storage *storage, const struct disk *disk, struct err *err)
{
    static const struct mount_option options[] = { { .key = "ro" }, { .key = "dax", .value = "always" } };
    bool pmem = disk_is_pmem(disk);
    if (pmem)
        forbid_writing(disk);
    for (size_t i = 0; i < storage->layer_len; i++) {
        char device[2 * DISK_NAME_SIZE], place[32];
        disk_partition(disk, i + 1, device);
        snprintf(place, sizeof(place), "layers/%zu", i);
        _cleanup_close_ int target = mount_point(storage->dir_fd, place, err);
        if (target < 0 ||
            mount_device("erofs", device, options, pmem ? 2 : 1, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV, target, err) < 0)
            return err_wrap(err, "layer %zu", i);
    }
    return 0;
}

static int mount_upper(struct storage *storage, const struct disk *disk, struct err *err)
{
    _cleanup_close_ int target = mount_point(storage->dir_fd, "upper", err);
    if (target < 0 || mount_device("ext4", disk->name, NULL, 0, MOUNT_ATTR_NOATIME, target, err) < 0)
        return err_wrap(err, "upper");
    storage->has_upper = true;
    snprintf(storage->upper_device, sizeof(storage->upper_device), "/dev/%s", disk->name);
    if (file_mkdirs(storage->dir_fd, "upper/upper", 0755, err) < 0 ||
        file_mkdirs(storage->dir_fd, "upper/work", 0700, err) < 0)
        return err_wrap(err, "upper");
    // A volatile overlay leaves its mark, so that nobody trusts what may not have been written. What a run left behind
    // here was written out at its end, or its machine died, and then there is no other.
    return storage->ephemeral ? file_remove_tree(storage->dir_fd, "upper/work/work/incompat", err) : 0;
}

static int mount_overlay_here(const struct storage *storage, struct err *err)
{
    _cleanup_buf_ struct buf options = BUF_INIT(OVERLAY_OPTIONS_MAX);
    buf_adds(&options, "lowerdir=");
    for (size_t i = 0; i < storage->layer_len; i++)
        buf_addf(&options, i ? ":%zu" : "%zu", i);
    if (storage->has_upper)
        buf_adds(&options, ",upperdir=../upper/upper,workdir=../upper/work");
    if (storage->has_upper && storage->ephemeral)
        buf_adds(&options, ",volatile");
    if (buf_check(&options, "overlay options", err) < 0)
        return -1;
    _cleanup_close_ int layers_fd = file_open_dir(storage->dir_fd, "layers", err);
    if (layers_fd < 0)
        return -1;
    if (fchdir(layers_fd) < 0)
        return err_errno(err, errno, "enter the layers' folder");
    int mounted = mount("overlay", "../root", "overlay", 0, buf_text(&options));
    int number = errno;
    if (chdir("/") < 0)
        return err_errno(err, errno, "enter /");
    return mounted == 0 ? 0 : err_errno(err, number, "mount overlay");
}

// One layer alone, or an upper alone, is the tree itself.
static int open_tree_of(struct storage *storage, struct err *err)
{
    if (storage->layer_len == 0)
        return file_open_dir(storage->dir_fd, "upper/upper", err);
    if (storage->layer_len == 1 && !storage->has_upper)
        return file_open_dir(storage->dir_fd, "layers/0", err);
    if (file_mkdirs(storage->dir_fd, "root", 0700, err) < 0 || mount_overlay_here(storage, err) < 0)
        return -1;
    storage->has_root = true;
    return file_open_dir(storage->dir_fd, "root", err);
}

static int check_rootfs(const struct task_rootfs *rootfs, struct err *err)
{
    if (!str_eq(rootfs->kind, "layers"))
        return err_set(err, ERR_NOT_IMPLEMENTED, "rootfs.kind: %s", rootfs->kind);
    if (!str_empty(rootfs->upper.kind) && !str_eq(rootfs->upper.kind, "disk"))
        return err_set(err, ERR_NOT_IMPLEMENTED, "rootfs.upper.kind: %s", rootfs->upper.kind);
    if (rootfs->layers.len > LAYER_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d layers", LAYER_MAX);
    if (rootfs->layers.len == 0 && str_empty(rootfs->upper.kind))
        return err_set(err, ERR_INVALID_ARGUMENT, "rootfs without a layer");
    return 0;
}

int storage_open(struct storage *storage, const struct task_rootfs *rootfs, struct err *err)
{
    if (check_rootfs(rootfs, err) < 0)
        return -1;
    struct found found = { .layer_len = rootfs->layers.len, .want_upper = !str_empty(rootfs->upper.kind) };
    storage->layer_len = rootfs->layers.len;
    storage->ephemeral = rootfs->upper.ephemeral;
    if (device_await(storage->events_fd, all_there, &found, "the disk of the layers or of the upper", err) < 0)
        return -1;
    if (found.layer_len && mount_layers(storage, found.layers, err) < 0)
        return -1;
    if (found.want_upper && mount_upper(storage, found.upper, err) < 0)
        return -1;
    return open_tree_of(storage, err);
}

// ---- its parts -----------------------------------------------------------------------------------------------------

static int open_lower(const struct storage *storage, struct err *err)
{
    int fds[LAYER_MAX], result = -1;
    size_t len = 0;
    for (char place[32]; len < storage->layer_len; len++) {
        snprintf(place, sizeof(place), "layers/%zu", len);
        if ((fds[len] = file_open_dir(storage->dir_fd, place, err)) < 0)
            break;
    }
    const struct mount_overlay overlay = { .lower_fds = fds, .lower_len = len, .upper_fd = -1, .work_fd = -1 };
    if (len == storage->layer_len)
        result = len == 1 ? fd_dup(fds[0], err) : mount_overlay(&overlay, MOUNT_OVERLAY_ANY, err);
    while (len > 0)
        fd_close(fds[--len]);
    return result;
}

int storage_open_parts(const struct storage *storage, int *upper_fd, int *lower_fd, struct err *err)
{
    if (!storage->has_upper)
        return err_set(err, ERR_NOT_IMPLEMENTED, "the machine has no disk that is written to");
    int lower = storage->layer_len ? open_lower(storage, err) : -1;
    if (storage->layer_len && lower < 0)
        return -1;
    *upper_fd = file_open_dir(storage->dir_fd, "upper/upper", err);
    *lower_fd = *upper_fd < 0 ? (fd_close(lower), -1) : lower;
    return *upper_fd < 0 ? -1 : 0;
}

// ---- the end -------------------------------------------------------------------------------------------------------

static int unmount(const struct storage *storage, const char *name, struct err *err)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", storage->dir_fd, name);
    return umount2(path, UMOUNT_NOFOLLOW) == 0 ? 0 : err_errno(err, errno, "unmount %s", name);
}

// The container's own copies of the mounts go a moment after its last process: only then the disk is closed.
static void await_release(const char *device)
{
    int64_t deadline = clock_mono_ns() + RELEASE_WAIT_NS;
    for (;;) {
        _cleanup_close_ int fd = open(device, O_RDONLY | O_EXCL | O_CLOEXEC);
        if (fd >= 0 || errno != EBUSY || clock_mono_ns() > deadline)
            return;
        nanosleep(&(struct timespec){ .tv_nsec = NS_PER_MS }, NULL);
    }
}

// An ephemeral upper too: it may be restarted before it is removed. Ephemeral means that nothing waits for the disk meanwhile.
int storage_close(struct storage *storage, struct err *err)
{
    if (!storage->has_upper)
        return 0;
    _cleanup_close_ int upper_fd = file_open_dir(storage->dir_fd, "upper", err);
    if (upper_fd < 0)
        return -1;
    if (syncfs(upper_fd) < 0)
        return err_errno(err, errno, "sync the upper");
    fd_close(take_fd(&upper_fd));
    if (storage->has_root && unmount(storage, "root", err) < 0)
        return -1;
    if (unmount(storage, "upper", err) < 0)
        return -1;
    await_release(storage->upper_device);
    return 0;
}
