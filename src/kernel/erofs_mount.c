#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>

#include "base/fd.h"
#include "kernel/erofs_mount.h"
#include "kernel/loop.h"
#include "kernel/mount.h"

#define BLOCK_SIZE_OF_IMAGES 4096

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

static int mount_by_loop(int image_fd, const char *path, struct err *err)
{
    char device[LOOP_PATH_SIZE];
    _cleanup_close_ int loop = loop_open(image_fd, path, true, device, err);
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
