// What runs guests on this host, found out once, when somebody first asks: berth-vmm where this host's KVM runs ordinary
// kernels, else QEMU's software emulation with the same kernel, initramfs and disks. And where those are.
//
// Thread-safe; a lock of its own (rank 7) is held while the probe runs. What was found stays; what was missing is looked for
// again at the next call.
#ifndef ENGINE_MACHINE_H
#define ENGINE_MACHINE_H

#include "base/arena.h"
#include "base/err.h"

struct machines;

struct machines_config {
    const char *program_dir; // berth-vmm stands there, and the guest's files in ../guest, or ../lib/berth/guest
    const char *data_root; // or in <data_root>/guest
    const char *guest_dir; // --guest: there and nowhere else; NULL: the three above, in this order
    const char *accel; // --accel: "auto" "kvm" "tcg"; NULL is "auto"
};

// invalid_argument: another word for `accel`.
int machines_new(const struct machines_config *config, struct machines **out, struct err *err);
void machines_free(struct machines *machines); // NULL is fine

struct machine_choice {
    const char *accel; // "kvm" or "tcg", as in the task document
    char *vmm; // path of the program: berth-vmm or QEMU
    char *guest_dir; // with vmlinux and initramfs
    char *kernel; // the guest kernel's release
    char *why; // tcg: why not KVM, one line; "" when that was asked for
};
// Texts in `arena`. unavailable, in one line that says what is missing, when this host can run no guest.
int machines_choose(struct machines *machines, struct arena *arena, struct machine_choice *out, struct err *err);

#define MACHINE_KERNEL "vmlinux"
#define MACHINE_INITRD "initramfs"
#define MACHINE_KERNEL_RELEASE "version"

// The output of `berth-vmm --probe`: whether this host's KVM runs ordinary kernels, else why not. False when it is not that.
bool machine_parse_probe(const char *text, bool *runs_kernels, char why[ERR_MESSAGE_SIZE]);

#endif
