// What the document names, opened: layers, upper, mounts, network, the machine, and the clients that wait.
#include <errno.h>
#include <fcntl.h>

#include "cargo.h"
#include "mounts.h"
#include "machine.h"
#include "namespaces.h"
#include "tree.h"
#include "users.h"
#include "vm.h"

void cargo_done(struct cargo *cargo)
{
    for (size_t i = 0; i < cargo->len; i++)
        if (cargo->owned[i])
            fd_close(cargo->fds[i]);
    cargo->len = 0;
}

int cargo_add(struct cargo *cargo, int fd, bool owned, int64_t *index, struct err *err)
{
    if (cargo->len == TASK_FD_MAX) {
        if (owned)
            fd_close(fd);
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d descriptors for one container", TASK_FD_MAX);
    }
    *index = (int64_t)cargo->len;
    cargo->owned[cargo->len] = owned;
    cargo->fds[cargo->len++] = fd;
    return 0;
}

// ---- layers and upper -----------------------------------------------------------------------------------------------

static int open_folder(int dirfd, const char *name, struct err *err)
{
    int fd = openat(dirfd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "%s", name) : fd;
}

// The folders that the driver opened are what the document says: an image that holds one layer twice has it once here.
int cargo_layers(struct container *container, const struct image *image, struct arena *arena, struct task_document *document,
                 struct image_layers *out, struct err *err)
{
    struct image_store *images = container->engine->images;
    bool guest = document->vm != NULL;
    if (!guest && container_has_copy(container))
        return 0;
    if ((guest ? image_erofs_open(images, image, arena, out, err) : image_layers_open(images, image, arena, out, err)) < 0)
        return -1;
    if (users_map_layers(container->users, out, err) < 0)
        return -1;
    for (size_t i = 0; i < out->len; i++) {
        struct task_layer *layer = json_list_add(&document->rootfs.layers, &task_layer_table, arena);
        *layer = (struct task_layer){ .diff_id = out->diff_ids.items[i], .fd = -1 };
        *(guest ? &layer->erofs : &layer->dir) = out->paths.items[i];
    }
    return 0;
}

static int load_layers(const struct image_layers *layers, struct task_document *document, struct cargo *cargo,
                       struct err *err)
{
    for (size_t i = 0; i < layers->len; i++) {
        struct task_layer *layer = json_list_at(&document->rootfs.layers, &task_layer_table, i);
        if (cargo_add(cargo, layers->fds[i], false, &layer->fd, err) < 0)
            return -1;
    }
    return 0;
}

static int load_folders(struct container *container, struct task_document *document, struct cargo *cargo, struct err *err)
{
    int64_t unnamed;
    int folder = users_open_folder(container, container->users, err);
    if (folder < 0 || cargo_add(cargo, folder, true, &unnamed, err) < 0) // a detached mount lasts as long as its descriptor
        return -1;
    int upper = open_folder(folder, container_has_copy(container) ? ROOT_COPY : "diff", err);
    if (upper < 0 || cargo_add(cargo, upper, true, &document->rootfs.upper.upper_fd, err) < 0)
        return -1;
    int work = open_folder(folder, "work", err);
    return work < 0 ? -1 : cargo_add(cargo, work, true, &document->rootfs.upper.work_fd, err);
}

static int load_upper(struct container *container, struct task_document *document, struct cargo *cargo, struct err *err)
{
    if (!document->vm)
        return load_folders(container, document, cargo, err);
    int disk = disk_open(container, document->vm->uid, err);
    return disk < 0 ? -1 : cargo_add(cargo, disk, true, &document->rootfs.upper.upper_fd, err);
}

// ---- mounts, network, clients ---------------------------------------------------------------------------------------

// Of a device by CDI: the administrator's file names the source.
static int open_source(const struct task_mount *mount, struct err *err)
{
    int fd = open(mount->source, O_PATH | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "CDI device injection failed: mount %s", mount->source) : fd;
}

// The document has them as the record does, one by one; those of devices by CDI follow.
static int load_mounts(const struct container *container, struct task_document *document, struct cargo *cargo, struct err *err)
{
    for (size_t i = 0; i < document->path_mounts; i++) {
        struct task_mount *mount = json_list_at(&document->mounts, &task_mount_table, i);
        if (str_eq(mount->kind, "tmpfs"))
            continue;
        int fd = i < container->mount_len ? mounts_open(container, &container->mounts[i], container->users, err) : open_source(mount, err);
        if (fd < 0 || cargo_add(cargo, fd, true, &mount->fd, err) < 0 || mounts_check_propagation(mount, fd, err) < 0)
            return -1;
    }
    return 0;
}

static int load_network(struct container *container, struct task_document *document, struct cargo *cargo, struct err *err)
{
    int result = 0;
    mutex_lock(&container->lock);
    if (document->nics.len > 0) { // a guest may have none
        struct task_nic *nic = json_list_at(&document->nics, &task_nic_table, 0);
        result = document->vm ? cargo_add(cargo, container->tap_fd, false, &nic->tap_fd, err)
                              : cargo_add(cargo, container->netns_fd, false, &nic->netns_fd, err);
    }
    for (size_t i = 0; i < document->ports.len && result == 0; i++) {
        if (container->ports[i].listener_fd < 0)
            continue; // open at the container's own address: there is no socket
        struct task_port *port = json_list_at(&document->ports, &task_port_table, i);
        result = cargo_add(cargo, container->ports[i].listener_fd, false, &port->listener_fd, err);
    }
    mutex_unlock(&container->lock);
    return result;
}

// Attaches that came before the start; their descriptors belong to the cargo from here on.
static int load_attaches(struct container *container, struct arena *arena, struct json_list *attaches,
                         struct cargo *cargo, struct err *err)
{
    mutex_lock(&container->lock);
    struct pending_attach *pending = container->pending;
    container->pending = NULL;
    mutex_unlock(&container->lock);
    int result = 0;
    for (struct pending_attach *next; pending; pending = next) {
        next = pending->next;
        struct task_attach *attach = json_list_add(attaches, &task_attach_table, arena);
        *attach = (struct task_attach){ .in = pending->in, .out = pending->out, .error = pending->error,
                                        .framed = pending->framed, .detach_keys = arena_strdup(arena, pending->detach_keys) };
        if (cargo_add(cargo, pending->fd, true, &attach->fd, err) < 0)
            result = -1;
        free(pending->detach_keys);
        free(pending);
    }
    return result;
}

// ---- the machine ----------------------------------------------------------------------------------------------------

static int load_file(const char *path, int flags, int64_t *index, struct cargo *cargo, struct err *err)
{
    int fd = open(path, flags | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "%s", path) : cargo_add(cargo, fd, true, index, err);
}

static int load_machine(struct container *container, struct arena *arena, struct task_vm *vm, struct cargo *cargo, struct err *err)
{
    struct machine_choice choice;
    if (machines_choose(container->engine->machines, arena, &choice, err) < 0 ||
        load_file(arena_printf(arena, "%s/" MACHINE_KERNEL, choice.guest_dir), O_RDONLY, &vm->kernel_fd, cargo, err) < 0 ||
        load_file(arena_printf(arena, "%s/" MACHINE_INITRD, choice.guest_dir), O_RDONLY, &vm->initrd_fd, cargo, err) < 0)
        return -1;
    if (!str_eq(vm->accel, "kvm"))
        return 0;
    return load_file("/dev/kvm", O_RDWR, &vm->kvm_fd, cargo, err) < 0 ? -1
                                                                      : load_file(vm->vmm, O_RDONLY, &vm->vmm_fd, cargo, err);
}

// ---- all of it ------------------------------------------------------------------------------------------------------

int cargo_load(struct container *container, const struct image_layers *layers, struct arena *arena,
               struct task_document *document, struct json_list *attaches, struct cargo *cargo, struct err *err)
{
    if (load_layers(layers, document, cargo, err) < 0 || load_upper(container, document, cargo, err) < 0 ||
        load_mounts(container, document, cargo, err) < 0 || namespaces_load(container, document, cargo, err) < 0 || load_network(container, document, cargo, err) < 0 ||
        (document->vm && load_machine(container, arena, document->vm, cargo, err) < 0))
        return -1;
    return load_attaches(container, arena, attaches, cargo, err);
}
