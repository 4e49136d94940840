#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include "base/fd.h"
#include "kernel/erofs_mount.h"
#include "kernel/mount.h"

#define BLOCK_SIZE_OF_IMAGES 4096
#define LOOP_TRIES 64 // another may take the free device that we were told of
#define LOOP_PATH_SIZE 32

// Whoever stacks the layer has nodes and set-id bits of his own mount: in this one nothing needs to work.
#define LAYER_ATTRIBUTES (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID)

static const char *const way_texts[] = {
    [EROFS_ANY] = "unknown",
    [EROFS_FILE_DIRECT] = "file, direct I/O",
    [EROFS_FILE] = "file",
    [EROFS_LOOP] = "loop device",
};

const char *erofs_way_text(enum erofs_way way)
{
    return way_texts[way];
}

// ---- from the file --------------------------------------------------------------------------------------------------

static int mount_source(const char *source, bool direct, struct err *err)
{
    const struct mount_option options[] = { { .key = "source", .value = source }, { .key = "ro" }, { .key = "directio" } };
    return mount_new("erofs", options, direct ? 3 : 2, LAYER_ATTRIBUTES, err);
}

// ---- by a loop device -----------------------------------------------------------------------------------------------

static int configure_loop(int device_fd, int image_fd, const char *path)
{
    struct loop_config config = {
        .fd = (__u32)image_fd,
        .block_size = BLOCK_SIZE_OF_IMAGES, // a device of smaller blocks may not do direct I/O
        .info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO,
    };
    snprintf((char *)config.info.lo_file_name, sizeof(config.info.lo_file_name), "%s", path);
    int done = ioctl(device_fd, LOOP_CONFIGURE, &config);
    if (done < 0 && errno == EINVAL) { // the file system has no direct I/O
        config.info.lo_flags &= ~(__u32)LO_FLAGS_DIRECT_IO;
        done = ioctl(device_fd, LOOP_CONFIGURE, &config);
    }
    return done;
}

// A device with the image in it; it is gone when the descriptor and the last mount are.
static int open_loop(int image_fd, const char *path, char device[LOOP_PATH_SIZE], struct err *err)
{
    _cleanup_close_ int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control < 0)
        return err_errno(err, errno, "/dev/loop-control");
    for (int tries = 0; tries < LOOP_TRIES; tries++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0)
            return err_errno(err, errno, "no free loop device");
        snprintf(device, LOOP_PATH_SIZE, "/dev/loop%d", number);
        _cleanup_close_ int fd = open(device, O_RDWR | O_CLOEXEC);
        if (fd < 0)
            return err_errno(err, errno, "%s", device);
        if (configure_loop(fd, image_fd, path) == 0)
            return take_fd(&fd);
        if (errno != EBUSY)
            return err_errno(err, errno, "%s", device);
    }
    return err_set(err, ERR_RESOURCE_EXHAUSTED, "no free loop device");
}

static int mount_by_loop(int image_fd, const char *path, struct err *err)
{
    char device[LOOP_PATH_SIZE];
    _cleanup_close_ int loop = open_loop(image_fd, path, device, err);
    return loop < 0 ? -1 : mount_source(device, false, err);
}

// ---- the choice -----------------------------------------------------------------------------------------------------

static int mount_in_way(int image_fd, const char *path, enum erofs_way way, struct err *err)
{
    return way == EROFS_LOOP ? mount_by_loop(image_fd, path, err) : mount_source(path, way == EROFS_FILE_DIRECT, err);
}

int erofs_mount(const char *path, enum erofs_way *way, struct err *err)
{
    char block[BLOCK_SIZE_OF_IMAGES];
    _cleanup_close_ int image = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    // A cold first block makes Linux 6.18 print a warning.
    if (image < 0 || pread(image, block, sizeof(block), 0) < 0)
        return err_errno(err, errno, "%s", path);
    if (*way != EROFS_ANY)
        return mount_in_way(image, path, *way, err);
    struct err why = { 0 };
    for (enum erofs_way next = EROFS_FILE_DIRECT; next <= EROFS_LOOP; next++) {
        int mount = mount_in_way(image, path, next, &why);
        if (mount >= 0) {
            *way = next;
            return mount;
        }
    }
    return err_set(err, why.class, "%s", why.message);
}
