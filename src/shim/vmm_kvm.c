// berth-vmm, where KVM runs a guest kernel. It takes everything by descriptor ("fd:N") and jails the process that runs the
// machine by itself, in an empty root; so what it gets here is the thin wall around its watcher, with the rights for that.
#include <fcntl.h>

#include "shim/vm.h"

#define GUEST_CID 3 // the first that is no host's; a machine has its vsock for itself

static const char kernel_words[] = "console=ttyS0 berth.link=vsock quiet panic=-1 8250.nr_uarts=1 random.trust_cpu=on nomodeset";

struct line {
    struct vmm_command *command;
    const struct vmm_start *start;
};

static void add_option(struct line *line, const char *option, const char *value)
{
    strv_push_arena(&line->command->args, line->start->arena, option);
    strv_push_arena(&line->command->args, line->start->arena, value);
}

// `number` is what the vmm_keep functions gave: -1 passes through. `form` has one %d for it.
static int add_fd(struct line *line, const char *option, int number, const char *before, const char *behind)
{
    if (number < 0)
        return -1;
    add_option(line, option, arena_printf(line->start->arena, "%sfd:%d%s", before, number, behind));
    return 0;
}

static int keep_file(struct line *line, int64_t index, int flags, const char *what, struct err *err)
{
    return vmm_keep_file(&line->command->keep, line->start, index, flags, what, err);
}

static int add_layers(struct line *line, struct err *err)
{
    const struct json_list *layers = &line->start->document->rootfs.layers;
    const char *names = "";
    for (size_t i = 0; i < layers->len; i++) {
        const struct task_layer *layer = json_list_at(layers, &task_layer_table, i);
        int number = keep_file(line, layer->fd, O_RDONLY, "rootfs.layers", err);
        if (number < 0)
            return -1;
        names = arena_printf(line->start->arena, "%s%sfd:%d", names, i ? "," : "", number);
    }
    add_option(line, "--pmem", names);
    return 0;
}

static int add_upper(struct line *line, struct err *err)
{
    const struct task_upper *upper = &line->start->document->rootfs.upper;
    if (str_empty(upper->kind))
        return 0;
    return add_fd(line, "--disk", keep_file(line, upper->upper_fd, O_RDWR, "rootfs.upper.upper_fd", err), "", "");
}

static int add_nic(struct line *line, struct err *err)
{
    const struct task_nic *nic = line->start->document->nics.items;
    if (line->start->document->nics.len == 0 || nic->tap_fd < 0)
        return 0;
    int tap = fd_list_get(line->start->fds, nic->tap_fd, "nics.tap_fd", err);
    int number = tap < 0 ? -1 : vmm_keep(&line->command->keep, tap, err);
    return add_fd(line, "--net", number, "", arena_printf(line->start->arena, ",mac=%s", nic->mac));
}

static int add_kvm(struct line *line, struct err *err)
{
    int kvm = fd_list_get(line->start->fds, line->start->document->vm->kvm_fd, "vm.kvm_fd", err);
    return add_fd(line, "--kvm", kvm < 0 ? -1 : vmm_keep(&line->command->keep, kvm, err), "", "");
}

static void add_machine(struct line *line)
{
    const struct task_vm *vm = line->start->document->vm;
    struct arena *arena = line->start->arena;
    const char *uid = arena_printf(arena, "%lld", (long long)vm->uid);
    strv_push_arena(&line->command->args, arena, vm->vmm);
    add_option(line, "--cpus", arena_printf(arena, "%lld", (long long)vm->vcpus));
    add_option(line, "--memory", arena_printf(arena, "%lld", (long long)vm->memory_size));
    add_option(line, "--uid", uid);
    add_option(line, "--gid", uid);
    add_option(line, "--cmdline", arena_printf(arena, "%s%s%s", kernel_words, str_empty(vm->cmdline) ? "" : " ",
                                               vm->cmdline ? vm->cmdline : ""));
}

int kvm_command(const struct vmm_start *start, struct vmm_command *out, struct err *err)
{
    const struct task_vm *vm = start->document->vm;
    struct line line = { out, start };
    out->jails_itself = true;
    add_machine(&line);
    if (add_fd(&line, "--vsock", vmm_keep(&out->keep, start->link_fd, err), arena_printf(start->arena, "%d,", GUEST_CID), "") < 0 ||
        add_fd(&line, "--serial", vmm_keep(&out->keep, start->console_fd, err), "", "") < 0 || add_kvm(&line, err) < 0 ||
        add_fd(&line, "--kernel", keep_file(&line, vm->kernel_fd, O_RDONLY, "vm.kernel_fd", err), "", "") < 0 ||
        add_fd(&line, "--initrd", keep_file(&line, vm->initrd_fd, O_RDONLY, "vm.initrd_fd", err), "", "") < 0)
        return -1;
    return add_layers(&line, err) < 0 || add_upper(&line, err) < 0 || add_nic(&line, err) < 0 ? -1 : 0;
}

static int kvm_start(const struct vmm_start *start, struct sandbox **out, struct err *err)
{
    struct vmm_command command = { 0 };
    int result = kvm_command(start, &command, err);
    if (result == 0)
        result = vmm_jail(start, &command, out, err);
    vmm_keep_done(&command.keep);
    return result;
}

const struct vmm vmm_kvm = { .accel = "kvm", .boot_ns = 60 * NS_PER_S, .dials = true, .start = kvm_start };
