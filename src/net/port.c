// Published ports: the socket that makes a conflict visible now and keeps the port ours.
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/fd.h"
#include "net_private.h"

enum { FREE_PORT_TRIES = 64, SCTP_FREE_FIRST = 32768, SCTP_FREE_LAST = 60999 };

union any_address {
    struct sockaddr generic;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

static bool fill_address(const char *text, uint16_t port, union any_address *out, socklen_t *size)
{
    *out = (union any_address){ 0 };
    if (inet_pton(AF_INET, text, &out->in.sin_addr) == 1) {
        out->in.sin_family = AF_INET;
        out->in.sin_port = htons(port);
        *size = sizeof(out->in);
        return true;
    }
    if (inet_pton(AF_INET6, text, &out->in6.sin6_addr) == 1) {
        out->in6.sin6_family = AF_INET6;
        out->in6.sin6_port = htons(port);
        *size = sizeof(out->in6);
        return true;
    }
    return false;
}

// A bound (TCP: listening) socket or the negative errno.
static int listen_at(int proto, const union any_address *address, socklen_t size)
{
    int one = 1, type = proto == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM;
    _cleanup_close_ int fd = socket(address->generic.sa_family, type | SOCK_CLOEXEC, proto);
    if (fd < 0)
        return -errno;
    // Passes over connections in TIME_WAIT; with a port of the kernel's choice it would allow a shared one.
    if (type == SOCK_STREAM && address->in.sin_port && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0)
        return -errno;
    if (address->generic.sa_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0)
        return -errno;
    if (bind(fd, &address->generic, size) < 0 || (type == SOCK_STREAM && listen(fd, SOMAXCONN) < 0))
        return -errno;
    return take_fd(&fd);
}

static uint16_t bound_port(int fd)
{
    union any_address address = { 0 };
    socklen_t size = sizeof(address);
    getsockname(fd, &address.generic, &size);
    return ntohs(address.in.sin_port); // at the same place in both families
}

// A port published on every IPv4 address is usually published on every IPv6 address next: a free one must be free there too.
static bool twin_is_free(const struct net_port *port, uint16_t number)
{
    union any_address twin;
    socklen_t size;
    if (!str_eq(port->host_address, "0.0.0.0") || !fill_address("::", number, &twin, &size))
        return true;
    int fd = listen_at(port->proto, &twin, size);
    fd_close(fd < 0 ? -1 : fd);
    return fd != -EADDRINUSE;
}

static int listen_anywhere(const struct net_port *port, const union any_address *address, socklen_t size)
{
    for (int i = 0; i < FREE_PORT_TRIES; i++) {
        int fd = listen_at(port->proto, address, size);
        if (fd < 0 || twin_is_free(port, bound_port(fd)))
            return fd;
        fd_close(fd);
    }
    return -EADDRINUSE;
}

static const char *reason(int number)
{
    switch (number) {
    case EADDRINUSE:
        return "address already in use";
    case EADDRNOTAVAIL:
        return "cannot assign requested address";
    case EACCES:
        return "permission denied";
    default:
        return strerror(number);
    }
}

static int refuse(struct net *net, const char *endpoint_name, const struct net_port *port, int number, struct err *err)
{
    bool v6 = strchr(port->host_address, ':');
    char at[INET6_ADDRSTRLEN + 16];
    snprintf(at, sizeof(at), v6 ? "[%s]:%u" : "%s:%u", port->host_address, port->host_port);
    if (number == EADDRINUSE && record_port_taken(net->store, port->proto, port->host_address, port->host_port))
        err_set(err, ERR_INTERNAL, "Bind for %s failed: port is already allocated", at);
    else
        err_set(err, ERR_INTERNAL, "listen %s%c %s: bind: %s", net_proto_name(port->proto), v6 ? '6' : '4', at, reason(number));
    if (err)
        err->number = number;
    return err_wrap(err, "driver failed programming external connectivity on endpoint %s", endpoint_name);
}

const char *net_proto_name(int proto)
{
    return proto == IPPROTO_UDP ? "udp" : proto == IPPROTO_SCTP ? "sctp" : "tcp";
}

// ---- SCTP -----------------------------------------------------------------------------------------------------------

// The firewall alone serves these, and kernels without sockets of SCTP know how. A name of a local socket keeps the port in the sockets' place.
static int reserve(struct net *net, const struct net_port *port)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    if (record_port_taken(net->store, port->proto, port->host_address, port->host_port))
        return -EADDRINUSE;
    int len = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "berth-%s-sctp-%s-%u", net->id, port->host_address, port->host_port);
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&name, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)) < 0)
        return -errno;
    return take_fd(&fd);
}

static int reserve_any(struct net *net, struct net_port *port)
{
    int fd = -EADDRINUSE;
    for (unsigned number = SCTP_FREE_FIRST; number <= SCTP_FREE_LAST && fd == -EADDRINUSE; number++) {
        port->host_port = (uint16_t)number;
        bool twin_taken = str_eq(port->host_address, "0.0.0.0") && record_port_taken(net->store, port->proto, "::", port->host_port);
        fd = twin_taken ? -EADDRINUSE : reserve(net, port);
    }
    return fd;
}

static int bind_sctp(struct net *net, const char *endpoint_name, struct net_port *port, struct err *err)
{
    if (strchr(port->host_address, ':') ? net->table.none6 : net->table.none)
        return err_set(err, ERR_NOT_IMPLEMENTED, "port %u/sctp: it needs the firewall's rules, which --iptables=false leaves out", port->target_port);
    int fd = port->host_port ? reserve(net, port) : reserve_any(net, port);
    if (fd < 0)
        return refuse(net, endpoint_name, port, -fd, err);
    port->listener_fd = fd;
    return 0;
}

int net_port_bind(struct net *net, const char *endpoint_name, struct net_port *port, struct err *err)
{
    union any_address address;
    socklen_t size;
    if (port->proto != IPPROTO_TCP && port->proto != IPPROTO_UDP && port->proto != IPPROTO_SCTP)
        return err_set(err, ERR_INVALID_ARGUMENT, "port %u: only TCP, UDP and SCTP ports can be published", port->target_port);
    if (!fill_address(port->host_address, port->host_port, &address, &size))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid IP address: %s", port->host_address);
    if (port->proto == IPPROTO_SCTP)
        return bind_sctp(net, endpoint_name, port, err);
    int fd = port->host_port ? listen_at(port->proto, &address, size) : listen_anywhere(port, &address, size);
    if (fd < 0)
        return refuse(net, endpoint_name, port, -fd, err);
    port->host_port = bound_port(fd);
    port->listener_fd = fd;
    return 0;
}
