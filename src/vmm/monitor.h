// The program around one machine, berth-vmm: two processes.
//
//     the watcher   keeps the caller's rights: opens what is named by path, holds the terminal, hands signals on, connects the
//                   guest's vsock ports to unix sockets, waits for the end
//     the machine   its child, in the jail (jail.h): descriptors, KVM, devices, the control API; nothing else
//
// A supervisor that hands everything over as a descriptor ("fd:5" wherever a path may stand) leaves the watcher nothing to do
// but to wait. The child dies with it.
//
// The control API is HTTP (http/http.h) on what --api-sock and --api-fd name:
//
//     GET /               {"state": "running" | "paused", "version", "cpus"}
//     PUT /pause          204 when no processor runs and no device works any more
//     PUT /resume         204
//     PUT /snapshot       204; the request brings one descriptor, of an empty regular file; the machine is paused
//     PUT /power-button   204; a guest that listens to it shuts down
//     PUT /stop           204; the machine ends
//     GET /events         lines: {"event": "started" | "paused"} as it is, then what happens: "paused", "resumed", and as the
//                         last one {"event": "ended", "kind", "cpu", "why"}
//
// One thread serves it: a request waits while another is worked on.
//
// The vsock link, between the machine's process and who connects its ports (the watcher, or a shim): a unix stream socket,
// messages of 8 bytes { u32 host port, u32 guest port }.
//
//     from the machine  the guest has connected to the host's port
//     to the machine    the answer to that, the same numbers with a stream socket's descriptor, or without one: refused;
//                       or host port 0: connect this descriptor to the guest's port
#ifndef VMM_MONITOR_H
#define VMM_MONITOR_H

#include "base/loop.h"
#include "kernel/layers_disk.h"
#include "vmm/vmm.h"

#define MONITOR_DISKS_MAX 8
#define MONITOR_NETS_MAX 4
#define MONITOR_APIS_MAX 4

struct monitor_disk {
    char *file;
    bool read_only;
    int fd;
};

struct monitor_net {
    char *tap;
    uint8_t mac[6];
    uint16_t mtu;
    int fd;
};

// What the command line says, then the descriptors that came of it; -1: none. A file is a path or "fd:N".
struct monitor {
    const char *kernel, *initrd, *state, *kvm, *serial, *cmdline;
    int kernel_fd, initrd_fd, state_fd, kvm_fd, serial_in_fd, serial_out_fd;
    struct monitor_disk disks[MONITOR_DISKS_MAX];
    char *layers[LAYERS_DISK_MAX];
    int layer_fds[LAYERS_DISK_MAX];
    struct monitor_net nets[MONITOR_NETS_MAX];
    size_t disks_len, layers_len, nets_len;
    uint64_t guest_cid; // 0: no vsock
    const char *vsock; // the socket's path, or "fd:N": a link
    int vsock_fd; // the machine's end of the link
    const char *api_path;
    int api_fds[MONITOR_APIS_MAX]; // the first is api_path's
    size_t apis_len;
    unsigned cpus;
    uint64_t memory_size;
    uint32_t uid, gid;
    bool no_jail, probe;

    // The watcher's.
    int link_fd; // the far end of the vsock link
    int vsock_listener;
    int life_fd; // the machine's process sees it hang up when the watcher is gone
};

// monitor_options.c: false after a usage message. What it took is freed by monitor_done().
bool monitor_parse(int argc, char **argv, struct monitor *out);
// monitor_open.c: every descriptor, with the caller's rights.
int monitor_open(struct monitor *monitor, struct err *err);
#define MONITOR_FDS_MAX (16 + MONITOR_DISKS_MAX + MONITOR_NETS_MAX + MONITOR_APIS_MAX + LAYERS_DISK_MAX)
size_t monitor_fds(const struct monitor *monitor, int *out); // the machine's, sorted
void monitor_close(struct monitor *monitor); // the same, in the watcher once the machine's process has them
void monitor_done(struct monitor *monitor);

// monitor_machine.c: the machine's process, from the jail to its exit code.
int monitor_machine(struct monitor *monitor);
// monitor_devices.c: in the order that a saved machine needs them again. *vsock is NULL without one.
int monitor_add_devices(const struct monitor *monitor, struct machine *machine, struct virtio_device **vsock, struct err *err);
// monitor_control.c: starts the machine and serves it until its end.
int monitor_control(const struct monitor *monitor, struct machine *machine, struct virtio_device *vsock,
                    struct machine_end *end, struct err *err);
// monitor_watch.c: forks the machine's process, waits; its exit code.
int monitor_watch(struct monitor *monitor, struct err *err);
int monitor_signals(struct err *err); // a signalfd for what both processes are told; blocks them
// monitor_broker.c: the far end of the vsock link, with sockets in the file system.
struct broker;
int broker_new(struct loop *loop, int link_fd, int listener_fd, const char *path, struct broker **out, struct err *err);
void broker_free(struct broker *broker);
// monitor_ctl.c: `berth-vmm ctl SOCKET VERB [FILE]`; the exit code.
int monitor_ctl(int argc, char **argv);

int monitor_main(int argc, char **argv);

#endif
