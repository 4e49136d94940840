#include "quota.h"

#include <errno.h>
#include <fcntl.h>
#include <strings.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "kernel/loop.h"
#include "kernel/mount.h"
#include "tree.h"
#include "vm.h"

// ---- what is asked for ----------------------------------------------------------------------------------------------

static const char *find_size(const struct host_config *host)
{
    for (size_t i = 0; i < host->storage_opt.len; i++)
        if (strcasecmp(host->storage_opt.items[i].key, "size") == 0)
            return host->storage_opt.items[i].value;
    return NULL;
}

int64_t quota_size(const struct host_config *host)
{
    const char *text = find_size(host);
    int64_t size = 0;
    return text && num_parse_bytes(text, &size) ? size : 0;
}

int quota_check(const struct engine *engine, const struct host_config *host, struct err *err)
{
    const char *text = find_size(host);
    int64_t size = 0;
    for (size_t i = 0; i < host->storage_opt.len; i++)
        if (strcasecmp(host->storage_opt.items[i].key, "size") != 0)
            return err_set(err, ERR_INVALID_ARGUMENT, "HostConfig.StorageOpt: Unknown option %.100s", host->storage_opt.items[i].key);
    if (!text)
        return 0;
    if (!num_parse_bytes(text, &size) || size < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "HostConfig.StorageOpt: invalid size: '%.100s'", text);
    if (size && (size < QUOTA_SIZE_MIN || size > QUOTA_SIZE_MAX))
        return err_set(err, ERR_INVALID_ARGUMENT, "HostConfig.StorageOpt: size=%.100s: a container's disk has 16 MiB to 8 TiB", text);
    // Docker's words for a disk without quotas: clients look for them, and try once more without the option.
    if (size && image_store_copies(engine->images) && !vm_wanted(host))
        return err_set(err, ERR_NOT_IMPLEMENTED,
                       "HostConfig.StorageOpt: --storage-opt is supported only for overlay over xfs with 'pquota' mount option, or for overlay2 and erofs here");
    return 0;
}

bool quota_has_disk(const struct container *container)
{
    const struct host_config *host = &container->config.host_config;
    return quota_size(host) > 0 && !vm_wanted(host) && !container_has_copy(container);
}

const char *quota_below(const struct container *container)
{
    return quota_has_disk(container) ? QUOTA_DISK "/" : "";
}

// ---- the mount ------------------------------------------------------------------------------------------------------

static bool is_mounted(int fd)
{
    struct statx point;
    return statx(fd, "", AT_EMPTY_PATH, 0, &point) == 0 && (point.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

static int open_point(const struct engine *engine, const char *id, struct err *err)
{
    _cleanup_free_ char *path = mem_printf("%s/" QUOTA_DISK, id);
    int fd = openat(engine->containers_fd, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "container %s: its disk", id) : fd;
}

// Freed blocks are holes of the image again.
static int mount_disk(struct container *container, struct err *err)
{
    char device[LOOP_PATH_SIZE];
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_close_ int image = disk_open(container, 0, err);
    _cleanup_close_ int loop = image < 0 ? -1 : loop_share(image, container_path(container, &arena, DISK_NAME), device, err);
    const struct mount_option options[] = { { .key = "source", .value = device }, { .key = "discard" }, { .key = "errors", .value = "remount-ro" } };
    return loop < 0 ? -1 : mount_new("ext4", options, ARRAY_LEN(options), 0, err);
}

static int make_folders(int root, struct err *err)
{
    if ((mkdirat(root, "diff", 0755) < 0 && errno != EEXIST) || (mkdirat(root, "work", 0700) < 0 && errno != EEXIST))
        return err_errno(err, errno, "folders");
    return 0;
}

static int mount_at(struct container *container, struct err *err)
{
    _cleanup_free_ char *path = mem_printf("%s/" QUOTA_DISK, container->id);
    _cleanup_close_ int disk = mount_disk(container, err);
    if (disk < 0 || make_folders(disk, err) < 0)
        return -1;
    if (mkdirat(container->engine->containers_fd, path, 0700) < 0 && errno != EEXIST)
        return err_errno(err, errno, "mount point");
    _cleanup_close_ int point = open_point(container->engine, container->id, err);
    return point < 0 ? -1 : mount_attach(disk, point, err);
}

int quota_open(struct container *container, struct err *err)
{
    _cleanup_close_ int before = open_point(container->engine, container->id, NULL);
    if (before >= 0 && is_mounted(before))
        return take_fd(&before);
    if (mount_at(container, err) < 0)
        return err_wrap(err, "container %s: its disk", container->id);
    return open_point(container->engine, container->id, err);
}

// Detached: whoever still has a file of it open goes on.
void quota_unmount(struct engine *engine, const char *id)
{
    _cleanup_free_ char *path = mem_printf("%s/containers/%s/" QUOTA_DISK, engine->data_root, id);
    while (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
        ;
}
