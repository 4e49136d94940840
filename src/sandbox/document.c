// From the task document and its descriptors to what the wall needs.
#include <errno.h>
#include <fcntl.h>

#include "base/file.h"
#include "sandbox/document.h"

#define FILES_DIR "files"

int fd_list_get(const struct fd_list *list, int64_t index, const char *what, struct err *err)
{
    if (index < 0 || (uint64_t)index >= list->len || list->fds[index] < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s: descriptor %lld was not sent", what, (long long)index);
    return list->fds[index];
}

int fd_list_take(struct fd_list *list, int64_t index, const char *what, struct err *err)
{
    int fd = fd_list_get(list, index, what, err);
    if (fd >= 0)
        list->fds[index] = -1;
    return fd;
}

void fd_list_done(struct fd_list *list)
{
    for (size_t i = 0; i < list->len; i++)
        fd_close(list->fds[i]);
    free(list->fds);
    *list = (struct fd_list){ 0 };
}

void fd_list_add(struct fd_list *list, int fd)
{
    list->fds = mem_grow(list->fds, (list->len + 1) * sizeof(int));
    list->fds[list->len++] = fd;
}

// ---- the root -------------------------------------------------------------------------------------------------------

static int fill_layers(const struct task_rootfs *rootfs, const struct fd_list *fds, struct arena *arena,
                       struct sandbox_rootfs *out, struct err *err)
{
    int *lowers = arena_alloc(arena, (rootfs->layers.len + 1) * sizeof(int));
    for (size_t i = 0; i < rootfs->layers.len; i++) {
        const struct task_layer *layer = json_list_at(&rootfs->layers, &task_layer_table, i);
        lowers[i] = fd_list_get(fds, layer->fd, "rootfs.layers", err);
        if (lowers[i] < 0)
            return -1;
    }
    out->lower_fds = lowers;
    out->lower_len = rootfs->layers.len;
    if (str_empty(rootfs->upper.kind))
        return 0;
    if (!str_eq(rootfs->upper.kind, "dir"))
        return err_set(err, ERR_NOT_IMPLEMENTED, "rootfs.upper.kind: %s", rootfs->upper.kind);
    out->ephemeral = rootfs->upper.ephemeral;
    out->upper_fd = fd_list_get(fds, rootfs->upper.upper_fd, "rootfs.upper.upper_fd", err);
    if (out->upper_fd < 0)
        return -1;
    out->work_fd = fd_list_get(fds, rootfs->upper.work_fd, "rootfs.upper.work_fd", err);
    return out->work_fd < 0 ? -1 : 0;
}

static int fill_rootfs(const struct task_rootfs *rootfs, const struct fd_list *fds, struct arena *arena,
                       struct sandbox_rootfs *out, struct err *err)
{
    *out = (struct sandbox_rootfs){ .upper_fd = -1, .work_fd = -1, .tree_fd = -1, .read_only = rootfs->read_only };
    if (str_eq(rootfs->kind, "layers")) {
        out->kind = SANDBOX_ROOTFS_LAYERS;
        return fill_layers(rootfs, fds, arena, out, err);
    }
    if (!str_eq(rootfs->kind, "tree"))
        return err_set(err, ERR_INVALID_ARGUMENT, "rootfs.kind: %s", rootfs->kind);
    if (rootfs->layers.len != 1)
        return err_set(err, ERR_INVALID_ARGUMENT, "rootfs.layers: a tree has one");
    const struct task_layer *tree = json_list_at(&rootfs->layers, &task_layer_table, 0);
    out->kind = SANDBOX_ROOTFS_TREE;
    out->tree_fd = fd_list_get(fds, tree->fd, "rootfs.layers", err);
    return out->tree_fd < 0 ? -1 : 0;
}

// ---- mounts and files -----------------------------------------------------------------------------------------------

static int fill_mount(const struct task_mount *mount, const struct fd_list *fds, struct fd_list *opened, struct sandbox_mount *out,
                      struct err *err)
{
    *out = (struct sandbox_mount){ .kind = SANDBOX_MOUNT_BIND, .source_fd = -1, .target = mount->target,
                                   .read_only = mount->read_only, .no_suid = mount->no_suid, .no_dev = mount->no_dev,
                                   .no_exec = mount->no_exec, .recursive = mount->recursive,
                                   .writable_below = mount->writable_below,
                                   .propagation = mount->propagation, .data = mount->data, .mapped = mount->mapped };
    if (str_eq(mount->kind, "tmpfs")) {
        out->kind = SANDBOX_MOUNT_TMPFS;
        return 0;
    }
    bool shared = str_eq(mount->kind, "shared"), image = str_eq(mount->kind, "image");
    if (!shared && !image && !str_eq(mount->kind, "bind") && !str_eq(mount->kind, "volume"))
        return err_set(err, ERR_NOT_IMPLEMENTED, "mount %s: kind %s", mount->target, mount->kind);
    out->source_fd = fd_list_get(fds, mount->fd, mount->target, err);
    if (shared || image)
        out->kind = SANDBOX_MOUNT_TREE;
    if (out->source_fd < 0 || !shared)
        return out->source_fd < 0 ? -1 : 0;
    if (sandbox_tree(out->source_fd, mount->target, &out->source_fd, err) < 0)
        return -1;
    fd_list_add(opened, out->source_fd);
    return 0;
}

static const char *file_base_name(const struct task_file *file, struct err *err)
{
    const char *slash = strrchr(file->path, '/');
    const char *name = slash ? slash + 1 : file->path;
    if (file->path[0] != '/' || str_empty(name) || str_eq(name, ".") || str_eq(name, "..")) {
        err_set(err, ERR_INVALID_ARGUMENT, "files: %s: not an absolute path of a file", file->path);
        return NULL;
    }
    return name;
}

// Written anew at each start, as Docker does with /etc/hosts; the container then writes to this same file, unless its
// root is read-only.
static int fill_file(const struct task_file *file, const struct sandbox_spec *spec, int files_fd, struct fd_list *opened,
                     struct sandbox_mount *out, struct err *err)
{
    const char *name = file_base_name(file, err);
    if (!name)
        return -1;
    const char *content = file->content ? file->content : "";
    mode_t mode = file->mode ? (mode_t)file->mode & 0777 : 0644;
    if (file_write_at(files_fd, name, content, strlen(content), mode, false, err) < 0)
        return err_wrap(err, "file %s", file->path);
    if (spec->users && fchownat(files_fd, name, spec->users->root_uid, spec->users->root_gid, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(err, errno, "file %s", file->path);
    int fd = openat(files_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "open file %s", file->path);
    fd_list_add(opened, fd);
    *out = (struct sandbox_mount){ .kind = SANDBOX_MOUNT_BIND, .source_fd = fd, .target = file->path,
                                   .read_only = spec->rootfs.read_only };
    return 0;
}

static int check_file_names(const struct json_list *files, struct err *err)
{
    for (size_t i = 0; i < files->len; i++) {
        const struct task_file *file = json_list_at(files, &task_file_table, i);
        const char *name = file_base_name(file, err);
        for (size_t j = 0; name && j < i; j++) {
            const struct task_file *other = json_list_at(files, &task_file_table, j);
            if (str_eq(name, strrchr(other->path, '/') + 1))
                return err_set(err, ERR_INVALID_ARGUMENT, "files: two named %s", name);
        }
        if (!name)
            return -1;
    }
    return 0;
}

static size_t path_depth(const char *path)
{
    size_t depth = 0;
    for (size_t i = 0; path[i]; i++)
        depth += path[i] != '/' && (i == 0 || path[i - 1] == '/');
    return depth;
}

// Parents before what lies in them, else in the document's order.
static void sort_by_depth(struct sandbox_mount *mounts, size_t len)
{
    for (size_t i = 1; i < len; i++) {
        struct sandbox_mount mount = mounts[i];
        size_t depth = path_depth(mount.target), at = i;
        for (; at && path_depth(mounts[at - 1].target) > depth; at--)
            mounts[at] = mounts[at - 1];
        mounts[at] = mount;
    }
}

static int open_files_dir(int container_fd, struct err *err)
{
    if (file_mkdirs(container_fd, FILES_DIR, 0700, err) < 0)
        return -1;
    return file_open_dir(container_fd, FILES_DIR, err);
}

static int fill_mounts(const struct task_document *document, const struct fd_list *fds, int container_fd,
                       struct arena *arena, struct fd_list *opened, struct sandbox_spec *out, struct err *err)
{
    size_t len = document->mounts.len + document->files.len;
    struct sandbox_mount *mounts = arena_alloc(arena, (len + 1) * sizeof(*mounts));
    size_t used = 0;
    for (size_t i = 0; i < document->mounts.len; i++) {
        if (fill_mount(json_list_at(&document->mounts, &task_mount_table, i), fds, opened, &mounts[used++], err) < 0)
            return -1;
    }
    if (document->files.len) {
        _cleanup_close_ int files_fd = open_files_dir(container_fd, err);
        if (files_fd < 0 || check_file_names(&document->files, err) < 0)
            return -1;
        for (size_t i = 0; i < document->files.len; i++) {
            if (fill_file(json_list_at(&document->files, &task_file_table, i), out, files_fd, opened,
                          &mounts[used++], err) < 0)
                return -1;
        }
    }
    sort_by_depth(mounts, used);
    out->mounts = mounts;
    out->mount_len = used;
    return 0;
}

// ---- namespaces -----------------------------------------------------------------------------------------------------

static int fill_map(const struct json_list *list, struct users_map *out, struct err *err)
{
    if (list->len == 0 || list->len > USERS_RANGES_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "joins: a user namespace with %zu ranges of ids", list->len);
    for (size_t i = 0; i < list->len; i++) {
        const struct oci_id_mapping *range = json_list_at(list, &oci_id_mapping_table, i);
        out->ranges[i] = (struct users_range){ (uint32_t)range->container_id, (uint32_t)range->host_id, (uint32_t)range->size };
    }
    out->len = list->len;
    return 0;
}

static int fill_users(const struct oci_linux *section, int fd, struct arena *arena, struct sandbox_spec *out, struct err *err)
{
    struct sandbox_users *users = arena_alloc(arena, sizeof(*users));
    users->fd = fd;
    if (fill_map(&section->uid_mappings, &users->uids, err) < 0 || fill_map(&section->gid_mappings, &users->gids, err) < 0)
        return -1;
    if (!users_outside(&users->uids, 0, &users->root_uid) || !users_outside(&users->gids, 0, &users->root_gid) || !users->root_uid)
        return err_set(err, ERR_INVALID_ARGUMENT, "joins: a user namespace without a root of its own");
    out->users = users;
    return 0;
}

// The section's own list, and by path what others have.
static int fill_joins(const struct task_document *document, const struct fd_list *fds, struct arena *arena, struct sandbox_spec *out,
                      struct err *err)
{
    const struct json_list *own = &document->linux_section.namespaces;
    if (document->joins.len == 0)
        return 0;
    struct oci_linux *section = arena_alloc(arena, sizeof(*section));
    struct oci_namespace *all = arena_alloc(arena, (own->len + document->joins.len) * sizeof(*all));
    size_t len = own->len;
    if (own->len)
        memcpy(all, own->items, own->len * sizeof(*all));
    for (size_t i = 0; i < document->joins.len; i++) {
        const struct task_join *join = json_list_at(&document->joins, &task_join_table, i);
        int fd = fd_list_get(fds, join->fd, "joins", err);
        if (fd < 0)
            return -1;
        if (!str_eq(join->type, "user"))
            all[len++] = (struct oci_namespace){ .type = join->type, .path = arena_printf(arena, "/proc/self/fd/%d", fd) };
        else if (fill_users(&document->linux_section, fd, arena, out, err) < 0)
            return -1;
    }
    *section = document->linux_section;
    section->namespaces = (struct json_list){ .items = all, .len = len };
    out->linux_section = section;
    return 0;
}

int rootfs_spec(const struct task_document *document, const struct fd_list *fds, int container_fd, struct arena *arena,
                struct fd_list *opened, struct sandbox_spec *out, struct err *err)
{
    *out = (struct sandbox_spec){ .process = &document->process, .linux_section = &document->linux_section,
                                  .hostname = document->hostname, .domainname = document->domainname,
                                  .netns_fd = -1, .init_fd = -1, .cwd_before_mounts = true };
    if (fill_rootfs(&document->rootfs, fds, arena, &out->rootfs, err) < 0 || fill_joins(document, fds, arena, out, err) < 0)
        return -1;
    return fill_mounts(document, fds, container_fd, arena, opened, out, err);
}
