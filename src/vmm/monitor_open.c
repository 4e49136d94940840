#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/num.h"
#include "vmm/monitor.h"

// A descriptor that was handed over, from "fd:N"; 0 when the text is a path.
static int handed(const char *text, struct err *err)
{
    uint64_t number;
    if (!str_starts(text, "fd:"))
        return 0;
    if (!num_parse_u64(slice_of(text + 3), INT32_MAX, &number) || number < 3)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s: not fd:N with N above 2", text);
    if (fcntl((int)number, F_SETFD, FD_CLOEXEC) < 0)
        return err_errno(err, errno, "%s", text);
    return (int)number;
}

static int open_file(const char *text, int flags, struct err *err)
{
    int fd = handed(text, err);
    if (fd == 0 && (fd = open(text, flags | O_CLOEXEC, 0600)) < 0)
        return err_errno(err, errno, "%s", text);
    return fd;
}

static int open_into(int *out, const char *text, int flags, struct err *err)
{
    *out = text ? open_file(text, flags, err) : -1;
    return text && *out < 0 ? -1 : 0;
}

static int open_tap(const char *text, struct err *err)
{
    struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
    int given = handed(text, err);
    if (given)
        return given;
    if (strlen(text) >= IFNAMSIZ)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s: no name of an interface", text);
    memcpy(request.ifr_name, text, strlen(text) + 1);
    _cleanup_close_ int fd = open_file("/dev/net/tun", O_RDWR, err);
    if (fd < 0)
        return -1;
    return ioctl(fd, TUNSETIFF, &request) < 0 ? err_errno(err, errno, "tap %s", text) : take_fd(&fd);
}

// A handed descriptor is output, and input too when it can be read.
static int open_serial(struct monitor *monitor, struct err *err)
{
    const char *serial = monitor->serial;
    if (str_eq(serial, "none"))
        return 0;
    if (str_eq(serial, "stdio")) {
        monitor->serial_in_fd = STDIN_FILENO;
        monitor->serial_out_fd = STDOUT_FILENO;
        return 0;
    }
    if (open_into(&monitor->serial_out_fd, serial, O_WRONLY | O_CREAT | O_APPEND, err) < 0)
        return -1;
    int mode = fcntl(monitor->serial_out_fd, F_GETFL);
    if (str_starts(serial, "fd:") && mode >= 0 && (mode & O_ACCMODE) == O_RDWR)
        monitor->serial_in_fd = monitor->serial_out_fd;
    return mode < 0 || (mode & O_ACCMODE) == O_RDONLY
               ? err_set(err, ERR_INVALID_ARGUMENT, "%s: the serial port can't write there", serial)
               : 0;
}

static int open_vsock(struct monitor *monitor, struct err *err)
{
    int pair[2], given = handed(monitor->vsock, err);
    if (given) {
        monitor->vsock_fd = given;
        return given < 0 ? -1 : 0;
    }
    monitor->vsock_listener = fd_unix_listen_at(AT_FDCWD, monitor->vsock, err);
    if (monitor->vsock_listener < 0 || fd_socketpair(SOCK_STREAM, pair, err) < 0)
        return -1;
    monitor->vsock_fd = pair[0];
    monitor->link_fd = pair[1];
    return 0;
}

static int open_apis(struct monitor *monitor, struct err *err)
{
    for (size_t i = 0; i < monitor->apis_len; i++)
        if (fcntl(monitor->api_fds[i], F_SETFD, FD_CLOEXEC) < 0)
            return err_errno(err, errno, "--api-fd %d", monitor->api_fds[i]);
    if (!monitor->api_path)
        return 0;
    if (monitor->apis_len == MONITOR_APIS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %d control sockets", MONITOR_APIS_MAX);
    int fd = fd_unix_listen_at(AT_FDCWD, monitor->api_path, err);
    if (fd < 0)
        return -1;
    monitor->api_fds[monitor->apis_len++] = fd;
    return 0;
}

int monitor_open(struct monitor *monitor, struct err *err)
{
    if (open_into(&monitor->kernel_fd, monitor->kernel, O_RDONLY, err) < 0 ||
        open_into(&monitor->initrd_fd, monitor->initrd, O_RDONLY, err) < 0 ||
        open_into(&monitor->state_fd, monitor->state, O_RDONLY, err) < 0 ||
        open_into(&monitor->kvm_fd, monitor->kvm, O_RDWR, err) < 0 || open_serial(monitor, err) < 0)
        return -1;
    for (size_t i = 0; i < monitor->disks_len; i++)
        if (open_into(&monitor->disks[i].fd, monitor->disks[i].file, monitor->disks[i].read_only ? O_RDONLY : O_RDWR, err) < 0)
            return -1;
    for (size_t i = 0; i < monitor->layers_len; i++)
        if (open_into(&monitor->layer_fds[i], monitor->layers[i], O_RDONLY, err) < 0)
            return -1;
    for (size_t i = 0; i < monitor->nets_len; i++)
        if ((monitor->nets[i].fd = open_tap(monitor->nets[i].tap, err)) < 0)
            return -1;
    if (monitor->guest_cid && open_vsock(monitor, err) < 0)
        return -1;
    return open_apis(monitor, err);
}

// ---- all of them ---------------------------------------------------------------------------------------------------

static int by_number(const void *a, const void *b)
{
    return *(const int *)a < *(const int *)b ? -1 : *(const int *)a > *(const int *)b;
}

size_t monitor_fds(const struct monitor *monitor, int *out)
{
    const int single[] = { monitor->kernel_fd, monitor->initrd_fd, monitor->state_fd, monitor->kvm_fd, monitor->serial_in_fd,
                           monitor->serial_out_fd, monitor->vsock_fd };
    size_t len = 0, distinct = 0;
    for (size_t i = 0; i < ARRAY_LEN(single); i++)
        out[len++] = single[i];
    for (size_t i = 0; i < monitor->disks_len; i++)
        out[len++] = monitor->disks[i].fd;
    for (size_t i = 0; i < monitor->layers_len; i++)
        out[len++] = monitor->layer_fds[i];
    for (size_t i = 0; i < monitor->nets_len; i++)
        out[len++] = monitor->nets[i].fd;
    for (size_t i = 0; i < monitor->apis_len; i++)
        out[len++] = monitor->api_fds[i];
    qsort(out, len, sizeof(*out), by_number);
    for (size_t i = 0; i < len; i++)
        if (out[i] >= 3 && (distinct == 0 || out[distinct - 1] != out[i]))
            out[distinct++] = out[i];
    return distinct;
}

void monitor_close(struct monitor *monitor)
{
    int fds[MONITOR_FDS_MAX];
    size_t len = monitor_fds(monitor, fds);
    for (size_t i = 0; i < len; i++)
        fd_close(fds[i]);
}

void monitor_done(struct monitor *monitor)
{
    for (size_t i = 0; i < monitor->disks_len; i++)
        free(monitor->disks[i].file);
    for (size_t i = 0; i < monitor->layers_len; i++)
        free(monitor->layers[i]);
    for (size_t i = 0; i < monitor->nets_len; i++)
        free(monitor->nets[i].tap);
}
