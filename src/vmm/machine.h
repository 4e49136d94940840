// The machine's inside, for the files machine*.c and probe.c alone. See vmm.h.
#ifndef VMM_MACHINE_H
#define VMM_MACHINE_H

#include <pthread.h>

#include "base/mutex.h"
#include "vmm/boot.h"
#include "vmm/kvm.h"
#include "vmm/layout.h"
#include "vmm/platform.h"
#include "vmm/serial.h"
#include "vmm/vcpu.h"
#include "vmm/virtio_mmio.h"
#include "vmm/vmm.h"

_Static_assert(VCPU_MAX == MACHINE_CPUS_MAX, "one number");

#define MACHINE_VIRTIO_MAX 16

// Where RAM comes from decides how its used pages are found.
enum ram_kind { RAM_PRIVATE, RAM_SHARED, RAM_RESTORED };

struct ram {
    enum ram_kind kind;
    uint64_t size;
    uint8_t *host; // all of it in one piece, though the guest sees a hole
    int memfd; // RAM_SHARED, else -1
    int pagemap_fd; // the caller's; -1: opened when needed
};

enum want { WANT_RUN, WANT_PAUSE, WANT_STOP };
enum machine_phase { PHASE_NEW, PHASE_READY, PHASE_RUNNING, PHASE_PAUSED };

struct machine {
    struct kvm kvm;
    struct ram ram;
    struct gmem memory;
    uint64_t map_next;
    struct bus ports, mmio;
    struct serial serial;
    struct platform platform;
    struct irq_line button;
    int serial_in_fd, serial_out_fd; // the latter a copy of our own
    struct loop *loop;
    struct loop_source *serial_in, *serial_out;

    struct virtio_mmio virtio[MACHINE_VIRTIO_MAX];
    unsigned virtio_gsi[MACHINE_VIRTIO_MAX];
    size_t virtio_len;
    int lines[LAYOUT_GSI_LEN]; // eventfds by number; -1
    unsigned next_line;

    int state_fd; // -1: boots
    enum machine_phase phase;
    unsigned cpus;
    struct vcpu vcpus[VCPU_MAX];
    pthread_t io_thread;
    bool has_io_thread;
    machine_thread_fn *thread_begins; // may be NULL
    void *context;

    // Under `lock`; `want` is also read without it, as a hint.
    struct mutex lock;
    struct cond changed;
    enum want want;
    unsigned parked; // processors that wait, settled
    bool io_parked; // the I/O thread is outside its loop
    unsigned ready; // threads that have begun well
    unsigned gone; // processors whose loop has ended
    bool ended;
    struct machine_end end;
    int end_fd;
};

// machine_ram.c
int ram_new(struct ram *ram, uint64_t size, bool shared, struct err *err);
// Private: mapped from `fd` at `offset`; shared: copied.
int ram_restore(struct ram *ram, uint64_t size, bool shared, int fd, uint64_t offset, struct err *err);
int ram_add(const struct ram *ram, struct kvm *kvm, struct gmem *memory, struct err *err);
int ram_save(const struct ram *ram, int fd, uint64_t offset, struct err *err); // pages of zeros stay holes
void ram_done(struct ram *ram);

// machine_kernel.c. `elf` becomes what was loaded; nothing of the file is in use afterwards.
int machine_load_kernel(struct machine *machine, int fd, struct boot_elf *elf, struct err *err);
// Errors begin with `what`: a file that is empty, none at all, or too large to boot from.
int boot_file_size(int fd, const char *what, uint64_t *out, struct err *err);

// machine_run.c
void machine_ask(void *context, enum platform_request request); // platform_fn
void machine_threads_done(struct machine *machine);

// machine_serial.c: the serial port's descriptors in the loop.
int machine_serial_init(struct machine *machine, const struct machine_config *config, struct err *err);

// machine_state.c: the fixed first page of a state file.
struct saved_header {
    unsigned cpus;
    uint64_t memory_size, state_size, memory_offset;
};
int saved_header_read(int fd, struct saved_header *out, struct err *err);

// machine.c
int machine_make_vcpus(struct machine *machine, struct err *err);

#endif
