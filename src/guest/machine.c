// The way to the host: a virtio-serial port or a vsock connection.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <linux/vm_sockets.h>

#include "base/file.h"
#include "guest_private.h"

#define PORTS "/sys/class/virtio-ports"

static bool port_has_our_name(const char *port)
{
    char path[sizeof(PORTS) + NAME_MAX + 16];
    _cleanup_buf_ struct buf text = BUF_INIT(4096);
    snprintf(path, sizeof(path), PORTS "/%s/name", port);
    return file_read_at(AT_FDCWD, path, &text, NULL) == 0 &&
           slice_eq(slice_trim(slice_of(buf_text(&text))), LINK_SERIAL_NAME);
}

struct port {
    char device[NAME_MAX + 8];
};

static bool port_is_there(void *context)
{
    struct port *port = context;
    bool found = false;
    _cleanup_dir_ DIR *dir = opendir(PORTS);
    for (struct dirent *entry; dir && !found && (entry = readdir(dir));) {
        found = entry->d_name[0] != '.' && port_has_our_name(entry->d_name);
        if (found)
            snprintf(port->device, sizeof(port->device), "/dev/%s", entry->d_name);
    }
    return found && access(port->device, F_OK) == 0;
}

// The port stays ours between connections; a hang-up on it means that the host's end is closed.
static int connect_serial(int events_fd, int *port_fd, struct err *err)
{
    struct port port;
    if (*port_fd < 0) {
        if (device_await(events_fd, port_is_there, &port, "the serial port " LINK_SERIAL_NAME, err) < 0)
            return -1;
        *port_fd = open(port.device, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (*port_fd < 0 && errno != EBUSY)
            return err_errno(err, errno, "open %s", port.device);
    }
    struct pollfd look = { *port_fd, 0, 0 };
    if (*port_fd < 0 || (poll(&look, 1, 0) > 0 && (look.revents & POLLHUP)))
        return err_set(err, ERR_UNAVAILABLE, "the host has not opened the serial port");
    return take_fd(port_fd);
}

static int connect_vsock(struct err *err)
{
    struct sockaddr_vm host = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = LINK_VSOCK_PORT };
    struct timeval patience = { .tv_usec = 500000 };
    _cleanup_close_ int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(err, errno, "vsock");
    setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof(patience));
    if (connect(fd, (struct sockaddr *)&host, sizeof(host)) == 0)
        return take_fd(&fd);
    if (errno == ENODEV || errno == ECONNRESET || errno == ETIMEDOUT || errno == EINTR)
        return err_set(err, ERR_UNAVAILABLE, "vsock to the host: %s", strerror(errno));
    return err_errno(err, errno, "vsock to the host");
}

int machine_connect(enum guest_transport transport, int events_fd, int *port_fd, struct err *err)
{
    return transport == GUEST_SERIAL ? connect_serial(events_fd, port_fd, err) : connect_vsock(err);
}
