// A tmpfs with an id map, across a checkpoint. CRIU keeps the content of a tmpfs and not its map: files would belong to others than before.
// So it is told that the mount comes from outside, and the content is ours: written by tar when all processes stand still and CRIU has done its
// part, read into a new tmpfs with the map before CRIU binds it. Both times owners are seen through the map, so they are the same.
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/statfs.h>

#include "base/process.h"
#include "kernel/path.h"
#include "oci/oci_private.h"

#define NAME_SIZE 64

static bool has_map(const struct oci_mount *mount)
{
    bool mapped = mount->uid_mappings.len || mount->gid_mappings.len;
    for (size_t i = 0; i < mount->options.len; i++)
        mapped |= str_eq(mount->options.items[i], "idmap") || str_eq(mount->options.items[i], "ridmap");
    return mapped && !mount_is_bind(mount);
}

bool mapped_tmpfs(const struct oci_mount *mount)
{
    return str_eq(mount->type, "tmpfs") && has_map(mount);
}

int mapped_tmpfs_check(const struct oci_config *config, struct err *err)
{
    const struct oci_mount *mounts = config->mounts.items;
    for (size_t i = 0; i < config->mounts.len; i++)
        if (has_map(&mounts[i]) && !mapped_tmpfs(&mounts[i]))
            return err_set(err, ERR_NOT_IMPLEMENTED, "mounts[%zu] is a file system of its own (%.40s) with an id map, which CRIU can't restore",
                           i, mounts[i].type ? mounts[i].type : "");
    return 0;
}

// What may have links on the way, or be the container's, is named by our descriptors.
static void fd_name(char out[NAME_SIZE], int fd)
{
    snprintf(out, NAME_SIZE, "/proc/%d/fd/%d", (int)getpid(), fd);
}

static int tar(const char *verb, int archive_fd, int folder_fd, struct err *err)
{
    char archive[NAME_SIZE], folder[NAME_SIZE];
    struct buf said = BUF_INIT(1 << 20);
    fd_name(archive, archive_fd);
    fd_name(folder, folder_fd);
    char *const argv[] = { (char *)"tar", (char *)verb, (char *)"--file", archive, (char *)"--no-unquote", (char *)"--no-wildcards",
                           (char *)"--one-file-system", (char *)"--preserve-permissions", (char *)"--sparse", (char *)"--numeric-owner",
                           (char *)"--same-owner", (char *)"--directory", folder, (char *)".", NULL };
    int result = process_run(argv, NULL, &said, err);
    buf_done(&said);
    return result;
}

static int open_archive(int images_fd, size_t index, int flags, struct err *err)
{
    char name[NAME_SIZE];
    snprintf(name, sizeof(name), "mapped-tmpfs-%zu.tar", index);
    int fd = openat(images_fd, name, flags | O_NOFOLLOW | O_CLOEXEC, 0600);
    return fd >= 0 ? fd : err_errno(err, errno, "%s", name);
}

static int dump(const struct oci_mount *mount, size_t index, int root_fd, int images_fd, struct err *err)
{
    struct statfs fs;
    _cleanup_close_ int content = path_open(root_fd, mount->destination, true, err);
    if (content < 0)
        return -1;
    if (fstatfs(content, &fs) < 0 || fs.f_type != TMPFS_MAGIC)
        return err_set(err, ERR_CONFLICT, "is no tmpfs any more");
    _cleanup_close_ int archive = open_archive(images_fd, index, O_CREAT | O_TRUNC | O_WRONLY, err);
    return archive < 0 ? -1 : tar("--create", archive, content, err);
}

int mapped_tmpfs_dump(const struct container *container, int images_fd, struct err *err)
{
    const struct oci_mount *mounts = container->config.mounts.items;
    char root[NAME_SIZE];
    snprintf(root, sizeof(root), "/proc/%d/root", (int)container->pid);
    _cleanup_close_ int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0)
        return err_errno(err, errno, "%s", root);
    for (size_t i = 0; i < container->config.mounts.len; i++)
        if (mapped_tmpfs(&mounts[i]) && dump(&mounts[i], i, root_fd, images_fd, err) < 0)
            return err_wrap(err, "mounts[%zu] (%s)", i, mounts[i].destination);
    return 0;
}

int mapped_tmpfs_fill(int images_fd, size_t index, int folder_fd, struct err *err)
{
    _cleanup_close_ int archive = open_archive(images_fd, index, O_RDONLY, err);
    return archive < 0 ? -1 : tar("--extract", archive, folder_fd, err);
}
