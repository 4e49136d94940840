// The task document on its way into a machine: what is checked before one is made, and what its guest is told.
#include "shim/vm.h"

#define MAC_TEXT_SIZE 17

// ---- checks ---------------------------------------------------------------------------------------------------------

static int check_machine(const struct task_vm *vm, struct err *err)
{
    if (vm->vcpus < 1 || vm->vcpus > VM_VCPUS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "vm.vcpus: %lld", (long long)vm->vcpus);
    if (vm->memory_size < VM_MEMORY_MIN || vm->memory_size > VM_MEMORY_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "vm.memory_size: %lld", (long long)vm->memory_size);
    if (vm->uid < 1 || vm->uid >= UINT32_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "vm.uid: %lld", (long long)vm->uid);
    if (str_empty(vm->vmm) || vm->vmm[0] != '/')
        return err_set(err, ERR_INVALID_ARGUMENT, "vm.vmm: no absolute path");
    if (vm->cmdline && strlen(vm->cmdline) > VM_CMDLINE_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "vm.cmdline: longer than %d", VM_CMDLINE_MAX);
    return 0;
}

static int check_root(const struct task_rootfs *rootfs, struct err *err)
{
    if (!str_eq(rootfs->kind, "layers"))
        return err_set(err, ERR_NOT_IMPLEMENTED, "rootfs.kind: %s is not there behind a machine", rootfs->kind);
    if (rootfs->layers.len == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "rootfs.layers: none");
    if (!str_empty(rootfs->upper.kind) && !str_eq(rootfs->upper.kind, "disk"))
        return err_set(err, ERR_NOT_IMPLEMENTED, "rootfs.upper.kind: %s is not there behind a machine", rootfs->upper.kind);
    return 0;
}

// It becomes a part of an option's text.
static bool mac_is_plain(const char *mac)
{
    if (strlen(mac) != MAC_TEXT_SIZE)
        return false;
    for (size_t i = 0; i < MAC_TEXT_SIZE; i++) {
        if (i % 3 == 2 ? mac[i] != ':' : !strchr("0123456789abcdefABCDEF", mac[i]))
            return false;
    }
    return true;
}

// One without a tap is the loopback alone: no card for it.
static int check_nics(const struct json_list *nics, struct err *err)
{
    const struct task_nic *nic = nics->items;
    if (nics->len > 1)
        return err_set(err, ERR_NOT_IMPLEMENTED, "nics: a machine has one");
    if (nics->len && nic->tap_fd >= 0 && (!nic->mac || !mac_is_plain(nic->mac)))
        return err_set(err, ERR_INVALID_ARGUMENT, "nics.mac: %.32s", nic->mac ? nic->mac : "none");
    return 0;
}

int vm_check_document(const struct task_document *document, struct err *err)
{
    if (!document->vm)
        return err_set(err, ERR_INVALID_ARGUMENT, "vm: a machine without its section");
    if (check_machine(document->vm, err) < 0 || check_root(&document->rootfs, err) < 0 || check_nics(&document->nics, err) < 0)
        return -1;
    for (size_t i = 0; i < document->mounts.len; i++) {
        const struct task_mount *mount = json_list_at(&document->mounts, &task_mount_table, i);
        if (!str_eq(mount->kind, "tmpfs"))
            return err_set(err, ERR_NOT_IMPLEMENTED, "mount %s: kind %s is not there behind a machine", mount->target, mount->kind);
    }
    return 0;
}

// ---- what the guest is told -----------------------------------------------------------------------------------------

static struct json_list copy_list(const struct json_list *list, const struct json_table *sub, struct arena *arena)
{
    struct json_list copy = { .items = arena_alloc(arena, (list->len + 1) * sub->size), .len = list->len };
    if (list->len)
        memcpy(copy.items, list->items, list->len * sub->size);
    return copy;
}

static void strip_root(struct task_rootfs *rootfs, struct arena *arena)
{
    rootfs->layers = copy_list(&rootfs->layers, &task_layer_table, arena);
    for (size_t i = 0; i < rootfs->layers.len; i++) {
        struct task_layer *layer = json_list_at(&rootfs->layers, &task_layer_table, i);
        layer->dir = layer->erofs = NULL;
        layer->fd = -1;
    }
    rootfs->upper.path = NULL;
    rootfs->upper.upper_fd = rootfs->upper.work_fd = -1;
}

static void strip_lists(struct task_document *document, struct arena *arena)
{
    document->mounts = copy_list(&document->mounts, &task_mount_table, arena);
    for (size_t i = 0; i < document->mounts.len; i++) {
        struct task_mount *mount = json_list_at(&document->mounts, &task_mount_table, i);
        mount->source = NULL;
        mount->fd = -1;
    }
    document->nics = copy_list(&document->nics, &task_nic_table, arena);
    for (size_t i = 0; i < document->nics.len; i++) {
        struct task_nic *nic = json_list_at(&document->nics, &task_nic_table, i);
        nic->netns_fd = nic->tap_fd = -1;
    }
    document->ports = (struct json_list){ 0 };
}

// Joining by path means the host's paths; in the guest every namespace is new.
static void strip_linux(struct oci_linux *section, struct arena *arena)
{
    size_t size = sizeof(struct oci_namespace), len = section->namespaces.len;
    struct oci_namespace *namespaces = arena_alloc(arena, (len + 1) * size);
    if (len)
        memcpy(namespaces, section->namespaces.items, len * size);
    for (size_t i = 0; i < len; i++)
        namespaces[i].path = NULL;
    section->namespaces.items = namespaces;
    section->cgroups_path = NULL;
}

json_t *vm_document(const struct task_document *document)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct task_document copy = *document;
    copy.vm = NULL;
    copy.daemon_id = NULL;
    copy.log = (struct task_log){ 0 };
    strip_root(&copy.rootfs, &arena);
    strip_lists(&copy, &arena);
    strip_linux(&copy.linux_section, &arena);
    return json_encode(&task_document_table, &copy);
}
