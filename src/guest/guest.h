// The far end of the seam: PID 1 of a microVM. It mounts what the machine has, finds the host, and serves the verbs
// that task/task.h lists under "the guest's part" over the guest link; behind them stands the same sandbox as in a
// container.
//
//     kernel -> guest_boot(): file systems, modules
//            -> guest_run(): link, HELLO, verbs until the first process has ended, its output is sent, its disk synced
//            -> `halted`: the host takes the machine away; after 10 s it powers off by itself
//
// The kernel's command line says how the host is reached: `berth.link=serial` (the virtio-serial port LINK_SERIAL_NAME)
// or `berth.link=vsock` (context id 2, port LINK_VSOCK_PORT). The network namespace, the memory and the processors are
// the machine's; memory and pids limits of the document hold inside, in one control group, so that its OOM kills are
// seen.
//
// The container's processes are hostile to PID 1. They live in namespaces of their own, see none of its descriptors,
// its /proc or its folders, and reach it by output only, which is bytes in a stream.
//
// One thread, one loop. What the machine is made of stands behind struct guest_machine: a test puts folders there.
#ifndef GUEST_GUEST_H
#define GUEST_GUEST_H

#include "sandbox/document.h"

#define GUEST_DEVICE_WAIT_S 10 // for a disk, a card, a port that should be there
#define GUEST_HOST_WAIT_S 60 // for the host's first answer
#define GUEST_POWER_OFF_S 10 // after `halted`
#define GUEST_EXEC_MAX 1024 // running execs

struct guest_machine {
    void *context;
    // A connected byte stream to the host; -1 with unavailable: not now, try again.
    int (*connect)(void *context, struct err *err);
    // The whole root as one folder, O_PATH or more; the caller's.
    int (*open_rootfs)(void *context, const struct task_rootfs *rootfs, struct err *err);
    // What open_rootfs() mounted, part by part: the folder that is written to, and the layers below as one tree (-1: there is none).
    int (*open_parts)(void *context, int *upper_fd, int *lower_fd, struct err *err);
    // Syncs and unmounts what open_rootfs() mounted, when no process is left.
    int (*close_rootfs)(void *context, struct err *err);
    int (*set_network)(void *context, const struct json_list *nics, struct err *err); // struct task_nic
    void (*power_off)(void *context);
    int files_fd; // folder for the document's files
    int netns_fd; // the network namespace that processes live in
    int init_fd; // sealed memfd of berth-init, or -1
    const char *cgroup_path; // of the group that is made for the container
    const char *kernel; // release, for the host
};

// Serves until the machine is told to power off (then power_off() is called). Fails only before the host was ever
// reached.
int guest_run(const struct guest_machine *machine, struct err *err);

// ---- the real machine ----------------------------------------------------------------------------------------------

struct guest_boot;
// Everything before the link: root, /proc /sys /dev /run, control groups, modules. Called once, by PID 1.
int guest_boot(struct guest_boot **out, struct err *err);
const struct guest_machine *guest_boot_machine(struct guest_boot *boot);
// One line on the console, then the machine is off.
_Noreturn void guest_die(const struct err *error);

#endif
