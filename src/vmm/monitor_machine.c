// The machine's process. It begins as a copy of the watcher and is alone in its jail before it looks at the first byte that
// somebody else wrote: the kernel, the initramfs, a saved state.
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>

#include "base/fd.h"
#include "vmm/jail.h"
#include "vmm/monitor.h"

static int compare(const void *a, const void *b)
{
    return *(const int *)a < *(const int *)b ? -1 : *(const int *)a > *(const int *)b;
}

static int enter_jail(const struct monitor *monitor, int pagemap_fd, struct err *err)
{
    int keep[MONITOR_FDS_MAX];
    size_t len = monitor_fds(monitor, keep);
    keep[len++] = monitor->life_fd;
    if (pagemap_fd >= 0)
        keep[len++] = pagemap_fd;
    qsort(keep, len, sizeof(*keep), compare);
    return jail_enter(&(struct jail){ monitor->uid, monitor->gid, keep, len }, err);
}

// Last, because a change of ids and capabilities takes it back.
static int die_with_watcher(const struct monitor *monitor, struct err *err)
{
    struct pollfd life = { .fd = monitor->life_fd };
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return err_errno(err, errno, "death signal");
    if (poll(&life, 1, 0) == 1 && (life.revents & POLLHUP)) // it died before that
        return err_set(err, ERR_CANCELLED, "the watcher is gone");
    return 0;
}

static int prepare(const struct monitor *monitor, struct machine *machine, struct virtio_device **vsock, struct err *err)
{
    const struct machine_kernel kernel = { monitor->kernel_fd, monitor->initrd_fd, monitor->cmdline, MACHINE_BOOT_ANY };
    if (monitor_add_devices(monitor, machine, vsock, err) < 0)
        return -1;
    return monitor->state_fd >= 0 ? machine_restore(machine, err) : machine_boot(machine, &kernel, err);
}

static int run(const struct monitor *monitor, struct machine_end *end, struct err *err)
{
    struct machine_config config = MACHINE_CONFIG_INIT;
    struct machine *machine;
    struct virtio_device *vsock;
    setsid(); // the terminal's signals are for the watcher, which hands them on
    // A thread's own heap would cost each a page table and more.
    mallopt(M_ARENA_MAX, 1);
    _cleanup_close_ int pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if ((!monitor->no_jail && enter_jail(monitor, pagemap_fd, err) < 0) || die_with_watcher(monitor, err) < 0)
        return -1;
    config.cpus = monitor->cpus;
    config.memory_size = monitor->memory_size;
    config.state_fd = monitor->state_fd;
    config.kvm_fd = monitor->kvm_fd;
    config.serial_in_fd = monitor->serial_in_fd;
    config.serial_out_fd = monitor->serial_out_fd;
    config.pagemap_fd = pagemap_fd;
    config.thread_begins = monitor->no_jail ? NULL : jail_thread;
    if (machine_new(&config, &machine, err) < 0)
        return -1;
    int result = prepare(monitor, machine, &vsock, err);
    if (result == 0)
        result = monitor_control(monitor, machine, vsock, end, err);
    machine_free(machine);
    return result;
}

int monitor_machine(struct monitor *monitor)
{
    struct machine_end end = { 0 };
    struct err err = { 0 };
    if (run(monitor, &end, &err) < 0) {
        fprintf(stderr, "berth-vmm: %s\n", err.message);
        return 1;
    }
    if (end.kind == MACHINE_POWERED_OFF || end.kind == MACHINE_RESET)
        return 0;
    fprintf(stderr, "berth-vmm: the machine %s%s%s\n", machine_end_name(end.kind), end.why[0] ? ": " : "", end.why);
    return 1;
}
