#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "vmm/layout.h"
#include "vmm/vcpu.h"

#define KICK_SIGNAL (SIGRTMIN + 1)

// ---- life ----------------------------------------------------------------------------------------------------------

int vcpu_init(struct vcpu *vcpu, struct kvm *kvm, unsigned index, unsigned cpus, struct err *err)
{
    *vcpu = (struct vcpu){ .kvm = kvm, .index = index, .fd = -1 };
    vcpu->fd = kvm_call(kvm->vm_fd, KVM_CREATE_VCPU, (void *)(uintptr_t)index, "KVM_CREATE_VCPU", err);
    if (vcpu->fd < 0)
        return -1;
    void *run = mmap(NULL, kvm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (run == MAP_FAILED) {
        err_errno(err, errno, "vCPU %u: mmap", index);
        fd_close(take_fd(&vcpu->fd));
        return -1;
    }
    vcpu->run = run;
    return vcpu_set_cpuid(kvm, vcpu->fd, index, cpus, err);
}

void vcpu_done(struct vcpu *vcpu)
{
    if (!vcpu->run)
        return;
    munmap(vcpu->run, vcpu->kvm->run_size);
    fd_close(vcpu->fd);
    *vcpu = (struct vcpu){ .fd = -1 };
}

// ---- registers at boot ---------------------------------------------------------------------------------------------

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool code64)
{
    return (struct kvm_segment){
        .limit = 0xffffffff, .selector = selector, .type = type, .present = 1, .s = 1, .g = 1,
        .db = !code64, .l = code64,
    };
}

static void set_data_segments(struct kvm_sregs *sregs, uint16_t selector)
{
    sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = segment(selector, 0x3, false);
    sregs->tr = (struct kvm_segment){ .limit = 0x67, .type = 0xb, .present = 1 };
}

// PVH: flat 32-bit protected mode without paging.
static void set_pvh(struct kvm_sregs *sregs, struct kvm_regs *regs, const struct boot_entry *entry)
{
    sregs->cr0 = 0x11; // PE, ET
    sregs->cr4 = 0;
    sregs->efer = 0;
    sregs->cs = segment(0x8, 0xb, false);
    set_data_segments(sregs, 0x10);
    regs->rbx = entry->info_gpa;
}

// Long mode on the identity pages that boot_linux64() wrote.
static void set_linux64(struct kvm_sregs *sregs, struct kvm_regs *regs, const struct boot_entry *entry)
{
    sregs->cr0 = 0x80050033; // PG, AM, WP, NE, ET, MP, PE
    sregs->cr3 = LAYOUT_PAGE_TABLES;
    sregs->cr4 = 0x20; // PAE
    sregs->efer = 0x500; // LMA, LME
    sregs->gdt = (struct kvm_dtable){ .base = LAYOUT_GDT, .limit = 31 };
    sregs->cs = segment(0x10, 0xb, true);
    set_data_segments(sregs, 0x18);
    regs->rsp = LAYOUT_STACK;
    regs->rsi = entry->info_gpa;
}

// As a BIOS leaves them. Both only make a guest faster (fast string moves, write-back memory): a KVM without them is no error.
static void set_boot_msrs(const struct vcpu *vcpu)
{
    vcpu_set_msr(vcpu->fd, 0x1a0, 1); // IA32_MISC_ENABLE
    vcpu_set_msr(vcpu->fd, 0x2ff, 0x806); // IA32_MTRR_DEF_TYPE
}

// LINT0 takes an external controller's interrupts, LINT1 the NMI, as the MP and ACPI tables have it for the first processor.
static int set_local_interrupts(const struct vcpu *vcpu, struct err *err)
{
    static const struct {
        unsigned offset;
        uint32_t value;
    } lines[] = { { 0x350, 0x700 }, { 0x360, 0x400 } };
    struct kvm_lapic_state lapic;
    if (kvm_call(vcpu->fd, KVM_GET_LAPIC, &lapic, "KVM_GET_LAPIC", err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        memcpy(lapic.regs + lines[i].offset, &lines[i].value, sizeof(lines[i].value));
    return kvm_call(vcpu->fd, KVM_SET_LAPIC, &lapic, "KVM_SET_LAPIC", err);
}

int vcpu_boot(struct vcpu *vcpu, const struct boot_entry *entry, struct err *err)
{
    struct kvm_regs regs = { .rip = entry->rip, .rflags = 0x2 };
    struct kvm_sregs sregs;
    if (kvm_call(vcpu->fd, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS", err) < 0)
        return -1;
    if (entry->protocol == BOOT_PVH)
        set_pvh(&sregs, &regs, entry);
    else
        set_linux64(&sregs, &regs, entry);
    if (kvm_call(vcpu->fd, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS", err) < 0 ||
        kvm_call(vcpu->fd, KVM_SET_REGS, &regs, "KVM_SET_REGS", err) < 0)
        return -1;
    set_boot_msrs(vcpu);
    return set_local_interrupts(vcpu, err);
}

// ---- running -------------------------------------------------------------------------------------------------------

static void serve_port(const struct vcpu *vcpu, const struct bus *bus)
{
    struct kvm_run *run = vcpu->run;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
        if (run->io.direction == KVM_EXIT_IO_OUT)
            bus_write(bus, run->io.port, data, run->io.size);
        else
            bus_read(bus, run->io.port, data, run->io.size);
    }
}

static void serve_mmio(const struct vcpu *vcpu, const struct bus *bus)
{
    struct kvm_run *run = vcpu->run;
    if (run->mmio.is_write)
        bus_write(bus, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
    else
        bus_read(bus, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
}

static uint64_t instruction_pointer(const struct vcpu *vcpu)
{
    struct kvm_regs regs = { 0 };
    return ioctl(vcpu->fd, KVM_GET_REGS, &regs) < 0 ? 0 : regs.rip;
}

static enum vcpu_exit explain_internal_error(const struct vcpu *vcpu, char *why, size_t size)
{
    const struct kvm_run *run = vcpu->run;
    int used = snprintf(why, size, "KVM's internal error %u at 0x%llx", run->internal.suberror,
                        (unsigned long long)instruction_pointer(vcpu));
    if (run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION)
        return VCPU_FAILED;
    used = snprintf(why, size, "KVM can't emulate the instruction at 0x%llx", (unsigned long long)instruction_pointer(vcpu));
    if (run->emulation_failure.ndata < 1 ||
        !(run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))
        return VCPU_FAILED;
    unsigned len = MIN_OF(run->emulation_failure.insn_size, 15u);
    for (unsigned i = 0; i < len && (size_t)used < size; i++)
        used += snprintf(why + used, size - (size_t)used, "%s%02x", i ? " " : ": ", run->emulation_failure.insn_bytes[i]);
    return VCPU_FAILED;
}

static enum vcpu_exit serve_system_event(const struct kvm_run *run, char *why, size_t size)
{
    switch (run->system_event.type) {
    case KVM_SYSTEM_EVENT_SHUTDOWN:
        return VCPU_OFF;
    case KVM_SYSTEM_EVENT_RESET:
        return VCPU_RESET;
    default:
        snprintf(why, size, "KVM reports system event %u", run->system_event.type);
        return VCPU_FAILED;
    }
}

static enum vcpu_exit serve(struct vcpu *vcpu, const struct vcpu_buses *buses, char *why, size_t size)
{
    switch (vcpu->run->exit_reason) {
    case KVM_EXIT_IO:
        serve_port(vcpu, buses->ports);
        return VCPU_AGAIN;
    case KVM_EXIT_MMIO:
        serve_mmio(vcpu, buses->mmio);
        return VCPU_AGAIN;
    case KVM_EXIT_INTR:
    case KVM_EXIT_HLT:
        return VCPU_AGAIN;
    case KVM_EXIT_SHUTDOWN:
        // AMD resets the registers before it tells: the address is shown only where it still means something.
        snprintf(why, size, "triple fault (at 0x%llx)", (unsigned long long)instruction_pointer(vcpu));
        return VCPU_SHUTDOWN;
    case KVM_EXIT_SYSTEM_EVENT:
        return serve_system_event(vcpu->run, why, size);
    case KVM_EXIT_FAIL_ENTRY:
        snprintf(why, size, "the processor refuses to enter the guest, reason 0x%llx",
                 (unsigned long long)vcpu->run->fail_entry.hardware_entry_failure_reason);
        return VCPU_FAILED;
    case KVM_EXIT_INTERNAL_ERROR:
        return explain_internal_error(vcpu, why, size);
    default:
        snprintf(why, size, "unexpected exit %u of KVM", vcpu->run->exit_reason);
        return VCPU_FAILED;
    }
}

// EAGAIN comes once from a processor that just left its wait for SIPI.
static bool interrupted(int number)
{
    return number == EINTR || number == EAGAIN;
}

enum vcpu_exit vcpu_run(struct vcpu *vcpu, const struct vcpu_buses *buses, char *why, size_t why_size)
{
    if (ioctl(vcpu->fd, KVM_RUN, 0UL) == 0)
        return serve(vcpu, buses, why, why_size);
    if (interrupted(errno))
        return VCPU_AGAIN;
    snprintf(why, why_size, "KVM_RUN: %s", strerror(errno));
    return VCPU_FAILED;
}

enum vcpu_exit vcpu_settle(struct vcpu *vcpu, const struct vcpu_buses *buses, char *why, size_t why_size)
{
    // An access larger than a bus word takes several rounds.
    for (;;) {
        __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_RELAXED);
        if (ioctl(vcpu->fd, KVM_RUN, 0UL) < 0) {
            if (interrupted(errno))
                return VCPU_AGAIN;
            snprintf(why, why_size, "KVM_RUN: %s", strerror(errno));
            return VCPU_FAILED;
        }
        enum vcpu_exit exit = serve(vcpu, buses, why, why_size);
        if (exit != VCPU_AGAIN)
            return exit;
    }
}

// ---- kicks ---------------------------------------------------------------------------------------------------------

static void on_kick(int signal_number)
{
}

int vcpu_signal_setup(struct err *err)
{
    struct sigaction action = { .sa_handler = on_kick }; // no SA_RESTART: KVM_RUN must return
    return sigaction(KICK_SIGNAL, &action, NULL) < 0 ? err_errno(err, errno, "sigaction") : 0;
}

void vcpu_kick(struct vcpu *vcpu)
{
    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_RELAXED);
    if (vcpu->has_thread)
        pthread_kill(vcpu->thread, KICK_SIGNAL);
}

void vcpu_thread_signals(void)
{
    sigset_t set;
    sigfillset(&set);
    sigdelset(&set, KICK_SIGNAL);
    for (size_t i = 0; i < 4; i++) // faults of our own stay deadly
        sigdelset(&set, (int[]){ SIGSEGV, SIGBUS, SIGILL, SIGFPE }[i]);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
}
