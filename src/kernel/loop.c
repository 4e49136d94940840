#include "kernel/loop.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/fd.h"

#define BLOCK_SIZE_OF_IMAGES 4096
#define LOOP_TRIES 64 // another may take the free device that we were told of

static int configure(int device_fd, int image_fd, const char *name, bool read_only)
{
    struct loop_config config = {
        .fd = (__u32)image_fd,
        .block_size = BLOCK_SIZE_OF_IMAGES, // a device of smaller blocks may not do direct I/O
        .info.lo_flags = (read_only ? LO_FLAGS_READ_ONLY : 0) | LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO,
    };
    snprintf((char *)config.info.lo_file_name, sizeof(config.info.lo_file_name), "%s", name);
    int done = ioctl(device_fd, LOOP_CONFIGURE, &config);
    if (done < 0 && errno == EINVAL) { // the file system has no direct I/O
        config.info.lo_flags &= ~(__u32)LO_FLAGS_DIRECT_IO;
        done = ioctl(device_fd, LOOP_CONFIGURE, &config);
    }
    return done;
}

int loop_open(int image_fd, const char *name, bool read_only, char device[LOOP_PATH_SIZE], struct err *err)
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
        if (configure(fd, image_fd, name, read_only) == 0)
            return take_fd(&fd);
        if (errno != EBUSY)
            return err_errno(err, errno, "%s", device);
    }
    return err_set(err, ERR_RESOURCE_EXHAUSTED, "no free loop device");
}

// Asked of each device: a name in sysfs may be another file by now.
static int open_if_it_has(const char *device, const struct stat *image)
{
    struct loop_info64 info;
    _cleanup_close_ int fd = open(device, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, LOOP_GET_STATUS64, &info) < 0 || info.lo_inode != image->st_ino || info.lo_device != image->st_dev)
        return -1;
    return take_fd(&fd);
}

int loop_share(int image_fd, const char *name, char device[LOOP_PATH_SIZE], struct err *err)
{
    struct stat image;
    DIR *blocks = fstat(image_fd, &image) < 0 ? NULL : opendir("/sys/block");
    int fd = -1;
    if (!blocks)
        return err_errno(err, errno, "loop devices");
    for (const struct dirent *entry; fd < 0 && (entry = readdir(blocks));)
        if (str_starts(entry->d_name, "loop") && strlen(entry->d_name) < LOOP_PATH_SIZE - 6) {
            snprintf(device, LOOP_PATH_SIZE, "/dev/%s", entry->d_name);
            fd = open_if_it_has(device, &image);
        }
    closedir(blocks);
    return fd >= 0 ? fd : loop_open(image_fd, name, false, device, err);
}
