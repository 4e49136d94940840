#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "base/fd.h"
#include "vmm/kvm.h"
#include "vmm/layout.h"

const struct kvm_need kvm_needs[KVM_NEEDS_LEN] = {
    { "KVM_CAP_IRQCHIP", KVM_CAP_IRQCHIP, 1, "interrupt controllers in the kernel" },
    { "KVM_CAP_PIT2", KVM_CAP_PIT2, 1, "the timer that clocks are calibrated against" },
    { "KVM_CAP_USER_MEMORY", KVM_CAP_USER_MEMORY, 1, "guest memory" },
    { "KVM_CAP_READONLY_MEM", KVM_CAP_READONLY_MEM, 1, "read-only devices mapped into the guest" },
    { "KVM_CAP_NR_MEMSLOTS", KVM_CAP_NR_MEMSLOTS, 64, "guest memory in pieces" },
    { "KVM_CAP_SET_TSS_ADDR", KVM_CAP_SET_TSS_ADDR, 1, "real mode" },
    { "KVM_CAP_EXT_CPUID", KVM_CAP_EXT_CPUID, 1, "the processor's description" },
    { "KVM_CAP_MP_STATE", KVM_CAP_MP_STATE, 1, "several processors" },
    { "KVM_CAP_IRQFD", KVM_CAP_IRQFD, 1, "interrupts without a call" },
    { "KVM_CAP_IOEVENTFD", KVM_CAP_IOEVENTFD, 1, "kicks without an exit" },
    { "KVM_CAP_IRQ_ROUTING", KVM_CAP_IRQ_ROUTING, LAYOUT_GSI_LEN, "interrupt lines" },
    { "KVM_CAP_IMMEDIATE_EXIT", KVM_CAP_IMMEDIATE_EXIT, 1, "pause" },
    { "KVM_CAP_XSAVE", KVM_CAP_XSAVE, 1, "saving a processor" },
    { "KVM_CAP_ADJUST_CLOCK", KVM_CAP_ADJUST_CLOCK, 1, "saving the clock" },
};

int kvm_call(int fd, unsigned long request, void *argument, const char *what, struct err *err)
{
    int result;
    do
        result = ioctl(fd, request, argument);
    while (result < 0 && errno == EINTR);
    return result < 0 ? err_errno(err, errno, "%s", what) : result;
}

int kvm_capability(const struct kvm *kvm, int capability)
{
    int value = ioctl(kvm->fd, KVM_CHECK_EXTENSION, (unsigned long)capability);
    return value < 0 ? 0 : value;
}

static int check_needs(struct kvm *kvm, struct err *err)
{
    int version = ioctl(kvm->fd, KVM_GET_API_VERSION, 0UL);
    if (version != KVM_API_VERSION)
        return err_set(err, ERR_NOT_IMPLEMENTED, "KVM's interface has version %d, not %d", version, KVM_API_VERSION);
    for (size_t i = 0; i < KVM_NEEDS_LEN; i++)
        if (kvm_capability(kvm, kvm_needs[i].capability) < kvm_needs[i].at_least)
            return err_set(err, ERR_NOT_IMPLEMENTED, "this host's KVM has no %s (%s)", kvm_needs[i].name, kvm_needs[i].why);
    int run_size = ioctl(kvm->fd, KVM_GET_VCPU_MMAP_SIZE, 0UL);
    if (run_size < (int)sizeof(struct kvm_run))
        return err_set(err, ERR_NOT_IMPLEMENTED, "KVM shares %d bytes with a vCPU, too few", run_size);
    kvm->run_size = (size_t)run_size;
    kvm->xsave_size = (size_t)MAX_OF(kvm_capability(kvm, KVM_CAP_XSAVE2), (int)sizeof(struct kvm_xsave));
    return 0;
}

int kvm_open(struct kvm *kvm, int fd, struct err *err)
{
    *kvm = (struct kvm)KVM_NONE;
    kvm->fd = fd >= 0 ? fd : open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm->fd < 0) {
        err_errno(err, errno, "/dev/kvm");
        if (err)
            err->class = ERR_UNAVAILABLE;
        return -1;
    }
    if (check_needs(kvm, err) == 0)
        return 0;
    if (fd < 0)
        fd_close(kvm->fd);
    *kvm = (struct kvm)KVM_NONE;
    return -1;
}

// KVM's default wires every line to the PIC as well, whose lines nobody has masked under hardware-reduced ACPI: it would
// deliver vectors of its own. Ours go to the IOAPIC alone.
static int set_routing(struct kvm *kvm, struct err *err)
{
    struct kvm_irq_routing_entry *entries;
    _cleanup_free_ struct kvm_irq_routing *routing = mem_alloc(sizeof(*routing) + LAYOUT_GSI_LEN * sizeof(*entries));
    routing->nr = LAYOUT_GSI_LEN;
    entries = routing->entries;
    for (uint32_t gsi = 0; gsi < LAYOUT_GSI_LEN; gsi++) {
        entries[gsi].gsi = gsi;
        entries[gsi].type = KVM_IRQ_ROUTING_IRQCHIP;
        entries[gsi].u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
        entries[gsi].u.irqchip.pin = gsi;
    }
    return kvm_call(kvm->vm_fd, KVM_SET_GSI_ROUTING, routing, "KVM_SET_GSI_ROUTING", err);
}

int kvm_create(struct kvm *kvm, struct err *err)
{
    kvm->vm_fd = kvm_call(kvm->fd, KVM_CREATE_VM, NULL, "KVM_CREATE_VM", err);
    if (kvm->vm_fd < 0)
        return -1;
    struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
    if (kvm_call(kvm->vm_fd, KVM_SET_TSS_ADDR, (void *)(uintptr_t)LAYOUT_KVM_TSS, "KVM_SET_TSS_ADDR", err) < 0 ||
        kvm_call(kvm->vm_fd, KVM_CREATE_IRQCHIP, NULL, "KVM_CREATE_IRQCHIP", err) < 0 ||
        kvm_call(kvm->vm_fd, KVM_CREATE_PIT2, &pit, "KVM_CREATE_PIT2", err) < 0)
        return -1;
    return set_routing(kvm, err);
}

void kvm_close(struct kvm *kvm)
{
    fd_close(kvm->vm_fd);
    fd_close(kvm->fd);
    *kvm = (struct kvm)KVM_NONE;
}

int kvm_add_memory(struct kvm *kvm, uint64_t gpa, uint64_t size, void *host, bool read_only, struct err *err)
{
    struct kvm_userspace_memory_region slot = {
        .slot = kvm->slots_len,
        .flags = read_only ? KVM_MEM_READONLY : 0,
        .guest_phys_addr = gpa,
        .memory_size = size,
        .userspace_addr = (uint64_t)(uintptr_t)host,
    };
    if (kvm_call(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot, "KVM_SET_USER_MEMORY_REGION", err) < 0)
        return -1;
    kvm->slots_len++;
    return 0;
}

int kvm_irq_line(struct kvm *kvm, unsigned gsi, struct irq_line *out, struct err *err)
{
    _cleanup_close_ int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return err_errno(err, errno, "eventfd");
    struct kvm_irqfd irqfd = { .fd = (uint32_t)fd, .gsi = gsi };
    if (kvm_call(kvm->vm_fd, KVM_IRQFD, &irqfd, "KVM_IRQFD", err) < 0)
        return -1;
    out->event_fd = take_fd(&fd);
    return 0;
}

int kvm_ioeventfd(struct kvm *kvm, bool port, uint64_t address, unsigned size, uint64_t value, int event_fd, struct err *err)
{
    struct kvm_ioeventfd request = {
        .datamatch = value,
        .addr = address,
        .len = size,
        .fd = event_fd,
        .flags = KVM_IOEVENTFD_FLAG_DATAMATCH | (port ? KVM_IOEVENTFD_FLAG_PIO : 0U),
    };
    return kvm_call(kvm->vm_fd, KVM_IOEVENTFD, &request, "KVM_IOEVENTFD", err);
}
