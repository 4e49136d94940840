// Debian's QEMU with software emulation, where KVM can't run a guest kernel.
//
// Everything that it reads or writes is a descriptor in a set of its own (-add-fd), named /dev/fdset/N: so no file needs to be
// open to the uid that QEMU runs as. Kernel and initramfs are the exception: the loader opens them by name.
//
// The layers' disk is no file: a flat VMDK puts the partition table, the layer files and the table's copy together.
#include <fcntl.h>
#include <sys/stat.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "shim/vm.h"

// Devices on virtio-mmio, told by ACPI: no bus to look through, and a firmware that only starts the kernel.
#define MACHINE "microvm,acpi=on,pcie=off,usb=off,rtc=on,isa-serial=on,ioapic2=on"
#define KERNEL_PATH "/kernel"
#define INITRD_PATH "/initrd"
#define TSC_SAMPLE_NS (2 * NS_PER_MS)
#define VMDK_SIZE_MAX (64u << 10)

// What costs time in an emulated boot and tells nothing; no_timer_check and lpj spare two calibrations.
static const char kernel_words[] =
    "console=ttyS0 berth.link=serial quiet panic=-1 no_timer_check mitigations=off nokaslr audit=0 8250.nr_uarts=1 "
    "random.trust_cpu=on cryptomgr.notests rcupdate.rcu_expedited=1 lpj=4000000 nomodeset";

// ---- sets -----------------------------------------------------------------------------------------------------------

struct sets {
    struct vmm_keep *keep;
    struct strv *args;
    struct arena *arena;
    unsigned last;
};

static void word(struct sets *sets, const char *text)
{
    strv_push_arena(sets->args, sets->arena, text);
}

// `number` is what the vmm_keep functions gave: -1 passes through. Else the set's number.
static int add_set(struct sets *sets, int number)
{
    if (number < 0)
        return -1;
    word(sets, "-add-fd");
    word(sets, arena_printf(sets->arena, "fd=%d,set=%u", number, ++sets->last));
    return (int)sets->last;
}

// ---- disks ----------------------------------------------------------------------------------------------------------

static int file_size(const struct vmm_keep *keep, const char *what, uint64_t *out, struct err *err)
{
    struct stat status;
    if (fstat(keep->fds[keep->len - 1], &status) < 0 || !S_ISREG(status.st_mode) || status.st_size < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s: not a regular file", what);
    *out = (uint64_t)status.st_size;
    return 0;
}

static int add_bytes(struct sets *sets, const char *name, const void *data, size_t size, struct err *err)
{
    return add_set(sets, vmm_keep_bytes(sets->keep, name, data, size, err));
}

static const char *set_name(struct sets *sets)
{
    return arena_printf(sets->arena, "/dev/fdset/%u", sets->last);
}

static int add_layer_files(struct sets *sets, const struct vmm_start *start, const char **names, uint64_t *sizes, struct err *err)
{
    const struct json_list *layers = &start->document->rootfs.layers;
    for (size_t i = 0; i < layers->len; i++) {
        const struct task_layer *layer = json_list_at(layers, &task_layer_table, i);
        int number = vmm_keep_file(sets->keep, start, layer->fd, O_RDONLY, "rootfs.layers", err);
        if (add_set(sets, number) < 0 || file_size(sets->keep, "rootfs.layers", &sizes[i], err) < 0)
            return -1;
        names[i] = set_name(sets);
    }
    return 0;
}

static int add_layers(struct sets *sets, const struct vmm_start *start, struct err *err)
{
    size_t len = start->document->rootfs.layers.len;
    uint64_t *sizes = arena_alloc(sets->arena, (len + 1) * sizeof(*sizes));
    const char **names = arena_alloc(sets->arena, (len + 2) * sizeof(*names)); // head, files, tail
    _cleanup_layers_disk_ struct layers_disk disk = { 0 };
    _cleanup_buf_ struct buf text = BUF_INIT(VMDK_SIZE_MAX);
    if (add_layer_files(sets, start, names + 1, sizes, err) < 0 || layers_disk_make(sizes, len, &disk, err) < 0)
        return -1;
    if (add_bytes(sets, "layers-head", disk.head, LAYERS_DISK_HEAD, err) < 0)
        return -1;
    names[0] = set_name(sets);
    if (add_bytes(sets, "layers-tail", disk.tail, disk.tail_size, err) < 0)
        return -1;
    names[len + 1] = set_name(sets);
    layers_disk_vmdk(&disk, names, &text);
    if (buf_check(&text, "layers.vmdk", err) < 0 || add_bytes(sets, "layers.vmdk", text.data, text.size, err) < 0)
        return -1;
    word(sets, "-blockdev");
    word(sets, arena_printf(sets->arena, "driver=vmdk,node-name=layers,read-only=on,file.driver=file,file.read-only=on,"
                                         "file.filename=%s", set_name(sets)));
    word(sets, "-device");
    word(sets, "virtio-blk-device,drive=layers,serial=layers");
    return 0;
}

static int add_upper(struct sets *sets, const struct vmm_start *start, struct err *err)
{
    const struct task_upper *upper = &start->document->rootfs.upper;
    if (str_empty(upper->kind))
        return 0;
    int set = add_set(sets, vmm_keep_file(sets->keep, start, upper->upper_fd, O_RDWR, "rootfs.upper.upper_fd", err));
    if (set < 0)
        return -1;
    word(sets, "-blockdev");
    word(sets, arena_printf(sets->arena, "driver=file,node-name=upper,discard=unmap,filename=/dev/fdset/%d", set));
    word(sets, "-device");
    word(sets, "virtio-blk-device,drive=upper,serial=upper");
    return 0;
}

// ---- the other devices ----------------------------------------------------------------------------------------------

static int add_link(struct sets *sets, const struct vmm_start *start, struct err *err)
{
    int number = vmm_keep(sets->keep, start->link_fd, err);
    if (number < 0)
        return -1;
    word(sets, "-chardev");
    word(sets, arena_printf(sets->arena, "socket,id=link,fd=%d", number));
    word(sets, "-device");
    word(sets, "virtio-serial-device,id=serial,max_ports=2");
    word(sets, "-device");
    word(sets, "virtserialport,bus=serial.0,chardev=link,name=" LINK_SERIAL_NAME);
    return 0;
}

static int add_nic(struct sets *sets, const struct vmm_start *start, struct err *err)
{
    const struct task_nic *nic = start->document->nics.items;
    if (start->document->nics.len == 0 || nic->tap_fd < 0)
        return 0;
    int tap = fd_list_get(start->fds, nic->tap_fd, "nics.tap_fd", err);
    int number = tap < 0 ? -1 : vmm_keep(sets->keep, tap, err);
    if (number < 0)
        return -1;
    word(sets, "-netdev");
    word(sets, arena_printf(sets->arena, "tap,id=net,fd=%d", number));
    word(sets, "-device");
    word(sets, arena_printf(sets->arena, "virtio-net-device,netdev=net,mac=%s", nic->mac));
    return 0;
}

// ---- the machine ----------------------------------------------------------------------------------------------------

// Emulated, the guest's time stamp counter is the host's: told its rate, the kernel does not measure it. 0: unknown.
static unsigned tsc_khz(void)
{
#if defined(__x86_64__)
    int64_t start_ns = clock_mono_ns(), passed_ns;
    uint64_t start = __rdtsc(), now;
    do {
        passed_ns = clock_mono_ns() - start_ns;
        now = __rdtsc();
    } while (passed_ns < TSC_SAMPLE_NS);
    return (unsigned)((now - start) * 1000000 / (uint64_t)passed_ns);
#else
    return 0;
#endif
}

static void add_machine(struct sets *sets, const struct task_vm *vm)
{
    static const char *const words[] = {
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-M", MACHINE,
        "-accel", "tcg,thread=multi,tb-size=64", "-cpu", "max",
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
        "-object", "rng-builtin,id=rng", "-device", "virtio-rng-device,rng=rng",
        "-kernel", KERNEL_PATH, "-initrd", INITRD_PATH,
    };
    word(sets, vm->vmm);
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        word(sets, words[i]);
    word(sets, "-m");
    word(sets, arena_printf(sets->arena, "%lldk", (long long)(vm->memory_size >> 10)));
    word(sets, "-smp");
    word(sets, arena_printf(sets->arena, "%lld", (long long)vm->vcpus));
    unsigned khz = tsc_khz();
    const char *rate = khz ? arena_printf(sets->arena, " tsc_early_khz=%u", khz) : "";
    word(sets, "-append");
    word(sets, arena_printf(sets->arena, "%s%s%s%s", kernel_words, rate, str_empty(vm->cmdline) ? "" : " ",
                            vm->cmdline ? vm->cmdline : ""));
}

int qemu_command(const struct vmm_start *start, struct vmm_command *out, struct err *err)
{
    const struct task_vm *vm = start->document->vm;
    struct sets sets = { .keep = &out->keep, .args = &out->args, .arena = start->arena };
    int kernel = fd_list_get(start->fds, vm->kernel_fd, "vm.kernel_fd", err);
    int initrd = kernel < 0 ? -1 : fd_list_get(start->fds, vm->initrd_fd, "vm.initrd_fd", err);
    if (initrd < 0)
        return -1;
    out->binds[out->bind_len++] = (struct vmm_bind){ kernel, KERNEL_PATH };
    out->binds[out->bind_len++] = (struct vmm_bind){ initrd, INITRD_PATH };
    add_machine(&sets, vm);
    if (add_link(&sets, start, err) < 0 || add_nic(&sets, start, err) < 0 || add_layers(&sets, start, err) < 0)
        return -1;
    return add_upper(&sets, start, err);
}

static int qemu_start(const struct vmm_start *start, struct sandbox **out, struct err *err)
{
    struct vmm_command command = { 0 };
    int result = qemu_command(start, &command, err);
    if (result == 0)
        result = vmm_jail(start, &command, out, err);
    vmm_keep_done(&command.keep);
    return result;
}

const struct vmm vmm_qemu = { .accel = "tcg", .boot_ns = 60 * NS_PER_S, .start = qemu_start };
