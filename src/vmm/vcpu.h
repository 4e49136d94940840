// One virtual processor: its KVM descriptor, its registers at boot, its saved state, its run loop.
//
// vcpu_init() and everything that touches registers belong to the thread that runs the processor, or to any other while it
// doesn't run. vcpu_kick() is for everybody.
#ifndef VMM_VCPU_H
#define VMM_VCPU_H

#include <pthread.h>

#include "vmm/boot.h"
#include "vmm/bus.h"
#include "vmm/kvm.h"

#define VCPU_MAX 8

struct vcpu {
    struct kvm *kvm; // the machine's
    unsigned index; // also its APIC id
    int fd;
    struct kvm_run *run; // shared with the kernel
    pthread_t thread;
    bool has_thread;
};

// Interrupt controllers must be there. A vCPU that was never initialised may be passed to vcpu_done() if it is zeroed.
int vcpu_init(struct vcpu *vcpu, struct kvm *kvm, unsigned index, unsigned cpus, struct err *err);
void vcpu_done(struct vcpu *vcpu);

// The registers of the boot protocol: vCPU 0. The others wait for INIT and SIPI from the guest.
int vcpu_boot(struct vcpu *vcpu, const struct boot_entry *entry, struct err *err);

// Everything KVM holds of it. Only between two completed instructions: see vcpu_settle().
int vcpu_save(struct vcpu *vcpu, struct state_writer *writer, struct err *err);
int vcpu_load(struct vcpu *vcpu, struct state_reader *reader);

struct vcpu_buses {
    const struct bus *ports, *mmio;
};

enum vcpu_exit {
    VCPU_AGAIN, // handled, or interrupted by a kick
    VCPU_SHUTDOWN, // triple fault
    VCPU_RESET, VCPU_OFF, // asked of the kernel's own emulation
    VCPU_FAILED, // *why says it
};

// Runs the guest until the next exit and serves it.
enum vcpu_exit vcpu_run(struct vcpu *vcpu, const struct vcpu_buses *buses, char *why, size_t why_size);
// Completes an access that the last exit began (KVM finishes it at the next entry) without running the guest further.
enum vcpu_exit vcpu_settle(struct vcpu *vcpu, const struct vcpu_buses *buses, char *why, size_t why_size);

// Kicks: the signal that interrupts KVM_RUN, with immediate_exit against the moment before it. Set up once per process.
int vcpu_signal_setup(struct err *err);
void vcpu_kick(struct vcpu *vcpu);
void vcpu_thread_signals(void); // in its thread: only the kick reaches it

// cpuid.c: what KVM supports, as processor `index` of `cpus` sees it.
int vcpu_set_cpuid(struct kvm *kvm, int vcpu_fd, unsigned index, unsigned cpus, struct err *err);
// vcpu_state.c: a model-specific register by its number; false when KVM refuses it.
bool vcpu_set_msr(int vcpu_fd, uint32_t number, uint64_t value);

#endif
