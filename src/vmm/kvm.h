// KVM: the device file, one virtual machine of it, its interrupt controllers and the wires to them.
//
// Order matters: memory slots come before the first vCPU (0.06 ms each then, 6 ms later), interrupt controllers before the
// first vCPU too (its LAPIC is made with it). One owner, one thread, until vCPUs run; kvm_irq_line() lines may then be raised
// by anybody.
#ifndef VMM_KVM_H
#define VMM_KVM_H

#include <linux/kvm.h>

#include "base/err.h"
#include "vmm/bus.h"

struct kvm {
    int fd; // /dev/kvm
    int vm_fd;
    size_t run_size; // bytes of a vCPU's shared page
    size_t xsave_size; // bytes of its extended registers
    uint32_t slots_len;
};

#define KVM_NONE { .fd = -1, .vm_fd = -1 }

// What this host's KVM must have, and has; the first that is missing names itself in kvm_open()'s error.
struct kvm_need {
    const char *name;
    int capability;
    int at_least;
    const char *why;
};
#define KVM_NEEDS_LEN 14
extern const struct kvm_need kvm_needs[KVM_NEEDS_LEN];

// `fd` is an open /dev/kvm (taken on success); -1 opens it. unavailable when there is none or it may not be opened,
// not_implemented when it lacks a capability.
int kvm_open(struct kvm *kvm, int fd, struct err *err);
int kvm_capability(const struct kvm *kvm, int capability); // 0: not there; never fails
// The virtual machine with PIC-less routing, IOAPIC and PIT.
int kvm_create(struct kvm *kvm, struct err *err);
void kvm_close(struct kvm *kvm);

// ioctl(2) on any of its descriptors, repeated over EINTR; -1 is an error that begins with `what`.
int kvm_call(int fd, unsigned long request, void *argument, const char *what, struct err *err);

int kvm_add_memory(struct kvm *kvm, uint64_t gpa, uint64_t size, void *host, bool read_only, struct err *err);
// A fresh eventfd (the caller's) each write to which is one edge on interrupt line `gsi`.
int kvm_irq_line(struct kvm *kvm, unsigned gsi, struct irq_line *out, struct err *err);
// Writes of `value` with `size` bytes to `address` end in `event_fd` and never leave the kernel.
int kvm_ioeventfd(struct kvm *kvm, bool port, uint64_t address, unsigned size, uint64_t value, int event_fd, struct err *err);

#endif
