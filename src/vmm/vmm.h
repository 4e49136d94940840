// The thick wall: one virtual machine on KVM.
//
//     machine_new ── machine_memory, devices: machine_map, machine_add_* ──┬── machine_boot ────┬── machine_start ──┐
//                                                                          └── machine_restore ─┘                   │
//     machine_free ── machine_wait ── ( machine_pause ── machine_save ── machine_resume )*  ────────────────────────┘
//
// What it is: x86-64, 1 to MACHINE_CPUS_MAX processors, RAM (layout.h says where), interrupt controllers and timer in the
// kernel, a serial port, hardware-reduced ACPI, virtio devices over MMIO. It boots an ELF kernel or a bzImage by PVH, or by
// the 64-bit Linux protocol where a kernel has no PVH note.
//
// Threads: one for each processor, and one I/O thread with an event loop for the serial port and the devices. All begin with
// machine_start() and wait while the machine is paused: a process that runs a machine makes no thread. All calls here
// belong to one thread, the owner's, but for machine_stop(), machine_press_power() and machine_end_fd()'s descriptor. Signal
// SIGRTMIN+1 is taken for the process by the first machine: it interrupts processors.
//
// A guest can end its machine, in any way it likes, and nothing else: that is an end with a reason, never an error here.
#ifndef VMM_VMM_H
#define VMM_VMM_H

#include "base/err.h"
#include "base/loop.h"
#include "vmm/bus.h"
#include "vmm/memory.h"
#include "vmm/virtio.h"

struct machine;

#define MACHINE_CPUS_MAX 8
#define MACHINE_MEMORY_MIN (UINT64_C(4) << 20)
#define MACHINE_MEMORY_MAX (UINT64_C(1) << 40)

// What a thread is for, so that each can be fenced in for it.
enum machine_thread {
    MACHINE_THREAD_OWNER, // who calls machine_start()
    MACHINE_THREAD_PROCESSOR,
    MACHINE_THREAD_IO,
};
// Runs in each thread before the guest does, and the owner's last: from then on no thread is made. Negative: no start.
typedef int machine_thread_fn(void *context, enum machine_thread thread, struct err *err);

struct machine_config {
    unsigned cpus;
    uint64_t memory_size; // bytes, a multiple of 2 MiB
    bool shared_memory; // a memfd that other processes may map, else private: for KSM, restore and fork
    // A saved machine: then cpus and memory_size are its own, and private memory is mapped from the file, copy on write.
    // The file must not change as long as the machine lives. -1: none.
    int state_fd;
    int kvm_fd; // an open /dev/kvm; -1 opens it
    // The serial port's ends; -1: none. Output that is not taken makes the guest's port busy, never a processor wait. Input
    // ends at end of file; a descriptor that can't be waited for gives none.
    int serial_in_fd, serial_out_fd;
    int pagemap_fd; // this process's open /proc/self/pagemap, by which saving finds the pages in use; -1 opens it then
    machine_thread_fn *thread_begins; // NULL: nothing
    void *context;
};
#define MACHINE_CONFIG_INIT { .cpus = 1, .state_fd = -1, .kvm_fd = -1, .serial_in_fd = -1, .serial_out_fd = -1, .pagemap_fd = -1 }

// Descriptors stay the caller's and must outlive the machine. unavailable: no KVM here; not_implemented: KVM lacks something;
// invalid_argument: a size or count that is no machine's, a state file that is none.
int machine_new(const struct machine_config *config, struct machine **out, struct err *err);
void machine_free(struct machine *machine); // stops it first; NULL is fine
unsigned machine_cpus(const struct machine *machine);

// ---- devices: before machine_boot() or machine_restore(), the same in the same order for both ----------------------

const struct gmem *machine_memory(const struct machine *machine);
// Makes `size` bytes at `host` (page-aligned, mapped as long as the machine lives) part of the guest's addresses, outside
// its RAM and memory map; machine_map_next() is a free place, on a 1 GiB boundary.
uint64_t machine_map_next(const struct machine *machine);
int machine_map(struct machine *machine, uint64_t gpa, uint64_t size, void *host, bool read_only, struct err *err);
// Behind virtio-mmio, in the guest's ACPI tables, with an interrupt line and kicks by eventfd. Taken on success.
int machine_add_virtio(struct machine *machine, struct virtio_device *device, struct err *err);
// Any other device; it stays the caller's and its state is the caller's to save. A line is one of its own.
int machine_add_ports(struct machine *machine, uint16_t base, uint16_t len, struct bus_device *device, struct err *err);
int machine_add_mmio(struct machine *machine, uint64_t base, uint64_t size, struct bus_device *device, struct err *err);
int machine_add_line(struct machine *machine, struct irq_line *out, unsigned *gsi, struct err *err); // the machine's descriptor
// Writes of `value` with `size` bytes to a port or MMIO address end in `event_fd` alone.
int machine_add_kick(struct machine *machine, bool port, uint64_t address, unsigned size, uint64_t value, int event_fd,
                     struct err *err);
struct loop *machine_loop(struct machine *machine); // the I/O thread's: add sources before it starts

// ---- life ----------------------------------------------------------------------------------------------------------

enum machine_protocol { MACHINE_BOOT_ANY, MACHINE_BOOT_PVH, MACHINE_BOOT_LINUX64 };

struct machine_kernel {
    int kernel_fd; // ELF or bzImage
    int initrd_fd; // -1: none
    const char *cmdline;
    enum machine_protocol protocol;
};

// Loads the kernel and makes the processors. The descriptors are read and not kept.
int machine_boot(struct machine *machine, const struct machine_kernel *kernel, struct err *err);
// Instead: the state of config.state_fd. The guest goes on where it was saved, its clock too: what was told of the wall
// clock in between is for an agent in the guest to say.
int machine_restore(struct machine *machine, struct err *err);

int machine_start(struct machine *machine, struct err *err);
// After it returned no processor runs, no access is half done and no device touches guest memory. unavailable when the
// machine has ended.
int machine_pause(struct machine *machine, struct err *err);
int machine_resume(struct machine *machine, struct err *err);
// Into `fd`, an empty regular file, while paused. Memory that the guest never used takes no place in it.
int machine_save(struct machine *machine, int fd, struct err *err);

enum machine_end_kind {
    MACHINE_POWERED_OFF,
    MACHINE_RESET, // the guest asked for it; whoever wants it again makes a new machine
    MACHINE_CRASHED, // triple fault
    MACHINE_FAILED, // KVM can't go on
    MACHINE_STOPPED, // machine_stop()
};

struct machine_end {
    enum machine_end_kind kind;
    unsigned cpu; // that crashed or failed, else 0
    char why[256]; // how it did, else ""
};

const char *machine_end_name(enum machine_end_kind kind); // "powered off"
void machine_stop(struct machine *machine);
void machine_press_power(struct machine *machine); // a guest with a driver shuts down, others don't notice
int machine_end_fd(const struct machine *machine); // readable when it has ended; the machine's
// Waits for the end; 1 with *end, 0 when `deadline_ns` (clock_mono_ns; negative: never) passed.
int machine_wait(struct machine *machine, int64_t deadline_ns, struct machine_end *end);

// ---- probe ---------------------------------------------------------------------------------------------------------

// What this host's KVM can do, found out by doing it: capabilities, a machine, and a guest of a few instructions.
struct vmm_probe {
    bool usable; // all that a machine needs is there and the guest ran
    bool runs_kernels; // privileged guest code runs on the processor: an ordinary kernel boots in reasonable time
    double privileged_mips; // of the guest's loop in ring 0, million instructions a second
    char why[ERR_MESSAGE_SIZE]; // not usable, or no kernels: the reason, one line
};
void vmm_probe(int kvm_fd, struct vmm_probe *out); // -1 opens /dev/kvm

#endif
