// unpack and mount: an image's root as a tree.
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "imagetool_private.h"
#include "base/file.h"
#include "kernel/mount.h"

static int lone_layer(int layer, struct err *err)
{
    struct statx info;
    bool is_mount = statx(layer, "", AT_EMPTY_PATH, 0, &info) == 0 && (info.stx_attributes & STATX_ATTR_MOUNT_ROOT);
    return is_mount ? fd_dup(layer, err) : mount_clone(layer, false, err);
}

// The read-only tree, seen by nobody: an O_PATH descriptor or a detached mount.
static int image_tree(struct visit *visit, const char *name, struct err *err)
{
    struct image image;
    struct image_layers layers;
    if (image_get(visit->images, name, &visit->arena, &image, err) < 0)
        return -1;
    if (image.chain_ids.len == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s has no layers", name);
    if (image_store_copies(visit->images)) {
        _cleanup_close_ int whole = image_tree_open(visit->images, &image, err);
        return whole < 0 ? -1 : mount_clone(whole, false, err);
    }
    if (image_layers_open(visit->images, &image, &visit->arena, &layers, err) < 0)
        return -1;
    // One layer alone is no overlay. A layer that is a file is a detached mount already.
    const struct mount_overlay overlay = { .lower_fds = layers.fds, .lower_len = layers.len, .upper_fd = -1, .work_fd = -1 };
    int tree = layers.len == 1 ? lone_layer(layers.fds[0], err) : mount_overlay(&overlay, MOUNT_OVERLAY_ANY, err);
    image_layers_done(&layers);
    return tree;
}

// cp has a decade's knowledge of copying trees: hard links, holes, attributes, devices, sub-second times.
static int copy_tree(int tree, const char *folder, struct err *err)
{
    struct process process = PROCESS_NONE;
    _cleanup_free_ char *program = process_find("cp");
    char *const argv[] = { (char *)"cp", (char *)"-a", (char *)"--", (char *)"/proc/self/fd/3/.", (char *)folder, NULL };
    char *const envp[] = { (char *)"LC_ALL=C", NULL };
    const struct process_io io = { -1, STDERR_FILENO, STDERR_FILENO, &tree, 1 };
    int status;
    if (!program)
        return err_set(err, ERR_NOT_FOUND, "cp is missing on this host: install the package coreutils");
    if (process_spawn(program, -1, argv, envp, &io, &process, err) < 0 || process_wait(&process, &status, err) < 0)
        return -1;
    return process_exit_code(status) == 0 ? 0 : err_set(err, ERR_INTERNAL, "%s: it is not whole", folder);
}

static int check_empty(const char *folder, struct err *err)
{
    _cleanup_strv_ struct strv names = { 0 };
    if (file_mkdirs(AT_FDCWD, folder, 0755, err) < 0 || file_list_names(AT_FDCWD, folder, &names, err) < 0)
        return -1;
    return names.len ? err_set(err, ERR_CONFLICT, "%s: not empty", folder) : 0;
}

int imagetool_unpack(const struct imagetool *tool, char **words, size_t len, struct err *err)
{
    _cleanup_visit_ struct visit visit;
    if (visit_begin(&visit, tool, err) < 0 || check_empty(words[1], err) < 0)
        return -1;
    _cleanup_close_ int tree = image_tree(&visit, words[0], err);
    return tree < 0 ? -1 : copy_tree(tree, words[1], err);
}

int imagetool_mount(const struct imagetool *tool, char **words, size_t len, struct err *err)
{
    _cleanup_visit_ struct visit visit;
    if (visit_begin(&visit, tool, err) < 0)
        return -1;
    _cleanup_close_ int tree = image_tree(&visit, words[0], err);
    _cleanup_close_ int target = tree < 0 ? -1 : open(words[1], O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (tree >= 0 && target < 0)
        return err_errno(err, errno, "%s", words[1]);
    return target < 0 || mount_attr(tree, MOUNT_ATTR_RDONLY, 0, 0, false, err) < 0 ? -1 : mount_attach(tree, target, err);
}
