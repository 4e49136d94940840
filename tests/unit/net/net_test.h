// What the tests of this room share: a network namespace of the test's own as "the host", a second one as "outside",
// joined by a veth, and sockets that live in a chosen namespace. Nothing of the machine's own network is touched.
#ifndef NET_TEST_H
#define NET_TEST_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/file.h"
#include "base/process.h"
#include "base/slice.h"
#include "net/net_private.h"

#define IP_FORWARD "/proc/sys/net/ipv4/ip_forward"
#define HOST "198.51.100.1"
#define OUTSIDE "198.51.100.2"
#define DAEMON_ID "0badc0de"
#define OTHER_ID "1badc0de"

#define OK(call)                                                \
    do {                                                        \
        struct err *err = &test_err;                            \
        *err = (struct err){ 0 };                               \
        if ((call) < 0)                                         \
            fail_msg("%s: %s", #call, err->message);            \
    } while (0)

static _unused_ struct err test_err;

struct world {
    char folder[32];
    int outside; // namespace
    struct store *store;
    struct net *net;
};

// False, with the reason as a skipped test program says it, where the machine gives no network namespace.
static inline bool world_enter(void)
{
    int fd;
    struct err err;
    if (unshare(CLONE_NEWNET) < 0 || namespace_make(NULL, NULL, &fd, &err) < 0) {
        printf("1..0 # SKIP needs the right to make network namespaces: %s\n", strerror(errno));
        return false;
    }
    fd_close(fd);
    return true;
}

static inline int run_tool(char *const argv[], const char *input, struct buf *output)
{
    return process_run(argv, input, output, &test_err);
}

static inline void nft(const char *script)
{
    char *argv[] = { (char *)"nft", (char *)"-f", (char *)"-", NULL };
    _cleanup_buf_ struct buf output = BUF_INIT(1 << 20);
    OK(process_run(argv, script, &output, err));
}

static inline char *ruleset(void)
{
    char *argv[] = { (char *)"nft", (char *)"list", (char *)"ruleset", NULL };
    struct buf output = BUF_INIT(1 << 22);
    OK(process_run(argv, NULL, &output, err));
    return buf_take(&output);
}

static inline int outside_config(void *context, int netns_fd, struct err *err)
{
    struct link_socket sock;
    struct in_addr address, gateway;
    inet_pton(AF_INET, OUTSIDE, &address);
    inet_pton(AF_INET, HOST, &gateway);
    int index = (int)if_nametoindex("eth0");
    if (link_open(&sock, err) < 0)
        return -1;
    int result = link_add_address(&sock, index, ntohl(address.s_addr), 24, err) < 0 || link_set_up(&sock, index, err) < 0 ||
                         link_add_default_route(&sock, index, ntohl(gateway.s_addr), err) < 0 ? -1 : 0;
    link_close(&sock);
    return result;
}

static inline void make_outside(struct world *world)
{
    struct link_socket sock;
    struct link_info link;
    struct in_addr address, gateway;
    const unsigned char mac[6] = { 2, 0, 0, 0, 0, 2 };
    inet_pton(AF_INET, HOST, &address);
    inet_pton(AF_INET, OUTSIDE, &gateway);
    OK(namespace_make(NULL, NULL, &world->outside, err));
    OK(link_open(&sock, err));
    OK(link_find(&sock, "lo", &link, err));
    OK(link_set_up(&sock, link.index, err));
    OK(link_add_veth(&sock, &(struct link_pair){ .name = "up0", .far = "eth0", .netns_fd = world->outside, .mac = mac }, err));
    OK(link_find(&sock, "up0", &link, err));
    OK(link_add_address(&sock, link.index, ntohl(address.s_addr), 24, err));
    OK(namespace_visit(world->outside, outside_config, NULL, err));
    OK(link_add_default_route(&sock, link.index, ntohl(gateway.s_addr), err));
    link_close(&sock);
}

static inline struct store *open_store(const struct world *world, const char *name)
{
    struct store *store = NULL;
    char path[64];
    snprintf(path, sizeof(path), "%s/%s.db", world->folder, name);
    OK(store_open(path, &store, err));
    return store;
}

static inline struct net *open_net(struct store *store, const char *id, const char *bip)
{
    const struct net_config config = { .daemon_id = id, .bip = bip };
    struct net *net = NULL;
    OK(net_open(store, &config, &net, err));
    return net;
}

// A fresh host per test: a new namespace for this (single) thread, an outside, an empty store, forwarding off.
static inline int world_setup(void **state)
{
    struct world *world = mem_new(struct world);
    assert_int_equal(unshare(CLONE_NEWNET), 0);
    snprintf(world->folder, sizeof(world->folder), "/tmp/berth-net-XXXXXX");
    assert_non_null(mkdtemp(world->folder));
    make_outside(world);
    OK(file_put(AT_FDCWD, IP_FORWARD, "0", err));
    world->store = open_store(world, "a");
    world->net = open_net(world->store, DAEMON_ID, NULL);
    *state = world;
    return 0;
}

static inline int world_teardown(void **state)
{
    struct world *world = *state;
    net_close(world->net);
    store_close(world->store);
    fd_close(world->outside);
    file_remove_tree(AT_FDCWD, world->folder, NULL);
    free(world);
    return 0;
}

// A container id of 64 equal digits.
static inline const char *id_of(char digit)
{
    static char ids[16][65];
    static size_t next;
    char *id = ids[next++ % 16];
    memset(id, digit, 64);
    id[64] = '\0';
    return id;
}

static inline struct net_port bind_port(struct net *net, int proto, const char *address, uint16_t port, uint16_t target)
{
    struct net_port out = { .proto = proto, .host_port = port, .target_port = target, .listener_fd = -1 };
    snprintf(out.host_address, sizeof(out.host_address), "%s", address);
    OK(net_port_bind(net, "web", &out, err));
    return out;
}

// ---- sockets in a namespace -----------------------------------------------------------------------------------------

// What must happen is tried again for TRIES times TRY_MS, on a machine that may be busy; what must not is waited for.
enum { TRY_MS = 3000, TRIES = 20, SILENCE_MS = 400 };

struct socket_request {
    int family, type, fd;
    int proto; // 0: the usual one
};

static inline int make_socket(void *context, int netns_fd, struct err *err)
{
    struct socket_request *request = context;
    request->fd = socket(request->family, request->type | SOCK_CLOEXEC | SOCK_NONBLOCK, request->proto);
    return request->fd < 0 ? err_errno(err, errno, "socket") : 0;
}

// netns_fd -1: the host.
static inline int socket_of(int netns_fd, int family, int type)
{
    struct socket_request request = { family, type, -1, 0 };
    if (netns_fd < 0)
        make_socket(&request, -1, &test_err);
    else
        OK(namespace_visit(netns_fd, make_socket, &request, err));
    return request.fd;
}

static inline int socket_in(int netns_fd, int type)
{
    return socket_of(netns_fd, AF_INET, type);
}

static inline struct sockaddr_in at(const char *address, uint16_t port)
{
    struct sockaddr_in out = { .sin_family = AF_INET, .sin_port = htons(port) };
    inet_pton(AF_INET, address, &out.sin_addr);
    return out;
}

static inline struct sockaddr_in6 at6(const char *address, uint16_t port)
{
    struct sockaddr_in6 out = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
    assert_int_equal(inet_pton(AF_INET6, address, &out.sin6_addr), 1);
    return out;
}

// The name of a socket of either kind.
struct end {
    union {
        struct sockaddr any;
        struct sockaddr_in four;
        struct sockaddr_in6 six;
    };
    socklen_t size;
};

static inline struct end end_of(const char *address, uint16_t port)
{
    if (strchr(address, ':'))
        return (struct end){ .six = at6(address, port), .size = sizeof(struct sockaddr_in6) };
    return (struct end){ .four = at(address, port), .size = sizeof(struct sockaddr_in) };
}

static inline int serve_at(int netns_fd, int type, const char *address, uint16_t port)
{
    struct end any = end_of(address, port);
    int fd = socket_of(netns_fd, any.any.sa_family, type);
    assert_int_equal(bind(fd, &any.any, any.size), 0);
    if (type == SOCK_STREAM)
        assert_int_equal(listen(fd, 16), 0);
    return fd;
}

static inline int serve_in(int netns_fd, int type, uint16_t port)
{
    return serve_at(netns_fd, type, "0.0.0.0", port);
}

static inline bool ready(int fd, short events, int timeout_ms)
{
    struct pollfd poll_fd = { .fd = fd, .events = events };
    return poll(&poll_fd, 1, timeout_ms) == 1 && (poll_fd.revents & events);
}

// False, and test_err says what did not come about, with the client's own reason.
static inline bool stuck(int client, const char *step)
{
    int number = 0;
    socklen_t size = sizeof(number);
    getsockopt(client, SOL_SOCKET, SO_ERROR, &number, &size);
    err_set(&test_err, ERR_UNAVAILABLE, "%s: %s", step, number ? strerror(number) : "timed out");
    return false;
}

// The connection that carries our byte: one of an earlier try, whose client has gone, is passed over.
static inline int accept_ours(int server, int timeout_ms, struct end *peer)
{
    while (ready(server, POLLIN, timeout_ms)) {
        char byte = 0;
        peer->size = sizeof(peer->six);
        int fd = accept4(server, &peer->any, &peer->size, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0 && ready(fd, POLLIN, timeout_ms) && read(fd, &byte, 1) == 1 && byte == 'x')
            return fd;
        fd_close(fd);
    }
    return -1;
}

// Connects from `netns_fd`, sends a byte each way, and gives the address that the server saw. False when that did not come about within
// `timeout_ms` (each step).
static inline bool talk(int netns_fd, const char *address, uint16_t port, int server, int timeout_ms, char seen[INET6_ADDRSTRLEN])
{
    struct end target = end_of(address, port), peer = { 0 };
    _cleanup_close_ int client = socket_of(netns_fd, target.any.sa_family, SOCK_STREAM), accepted = -1;
    char byte = 0;
    if (connect(client, &target.any, target.size) < 0 && errno != EINPROGRESS)
        return err_errno(&test_err, errno, "connect") == 0;
    if (!ready(client, POLLOUT, timeout_ms) || send(client, "x", 1, MSG_NOSIGNAL) != 1)
        return stuck(client, "connect");
    accepted = accept_ours(server, timeout_ms, &peer);
    if (accepted < 0)
        return stuck(client, "the server sees nobody");
    if (write(accepted, "y", 1) != 1 || !ready(client, POLLIN, timeout_ms) || read(client, &byte, 1) != 1 || byte != 'y')
        return stuck(client, "no answer");
    bool six = peer.any.sa_family == AF_INET6;
    inet_ntop(peer.any.sa_family, six ? (void *)&peer.six.sin6_addr : &peer.four.sin_addr, seen, INET6_ADDRSTRLEN);
    return true;
}

// What came of earlier tries.
static inline void drain(int fd)
{
    char byte;
    while (recv(fd, &byte, 1, MSG_DONTWAIT) >= 0)
        ;
}

// A datagram from `client` and its answer, all of one flow as long as the socket is the same.
static inline bool one_flow(int client, const char *address, uint16_t port, int server, int timeout_ms)
{
    struct end target = end_of(address, port), peer = { .size = sizeof(peer.six) };
    char byte = 0;
    drain(client);
    drain(server);
    if (sendto(client, "x", 1, 0, &target.any, target.size) != 1)
        return stuck(client, "send");
    if (!ready(server, POLLIN, timeout_ms) || recvfrom(server, &byte, 1, 0, &peer.any, &peer.size) != 1)
        return stuck(client, "the server sees nothing");
    if (sendto(server, "y", 1, 0, &peer.any, peer.size) != 1 || !ready(client, POLLIN, timeout_ms) || recv(client, &byte, 1, 0) != 1 || byte != 'y')
        return stuck(client, "no answer");
    return true;
}

static inline bool talk_udp(int netns_fd, const char *address, uint16_t port, int server, int timeout_ms)
{
    struct end target = end_of(address, port);
    _cleanup_close_ int client = socket_of(netns_fd, target.any.sa_family, SOCK_DGRAM);
    if (connect(client, &target.any, target.size) < 0)
        return stuck(client, "connect");
    return one_flow(client, address, port, server, timeout_ms);
}

// Whom the server saw; the test fails where nobody comes through.
#define reach(netns_fd, address, port, server) reach_at(__LINE__, netns_fd, address, port, server)
static inline const char *reach_at(int line, int netns_fd, const char *address, uint16_t port, int server)
{
    static char seen[INET6_ADDRSTRLEN];
    for (int i = 0; i < TRIES; i++)
        if (talk(netns_fd, address, port, server, TRY_MS, seen))
            return seen;
    fail_msg("line %d: %s port %u is not reached: %s", line, address, port, test_err.message);
    return "";
}

#define reach_udp(netns_fd, address, port, server) reach_udp_at(__LINE__, netns_fd, address, port, server)
static inline void reach_udp_at(int line, int netns_fd, const char *address, uint16_t port, int server)
{
    for (int i = 0; i < TRIES; i++)
        if (talk_udp(netns_fd, address, port, server, TRY_MS))
            return;
    fail_msg("line %d: %s port %u is not reached: %s", line, address, port, test_err.message);
}

#define flow_reaches(client, address, port, server) flow_reaches_at(__LINE__, client, address, port, server)
static inline void flow_reaches_at(int line, int client, const char *address, uint16_t port, int server)
{
    for (int i = 0; i < TRIES; i++)
        if (one_flow(client, address, port, server, TRY_MS))
            return;
    fail_msg("line %d: the flow to %s port %u does not arrive: %s", line, address, port, test_err.message);
}

// Nobody comes.
static inline bool silent(int netns_fd, const char *address, uint16_t port, int server)
{
    char seen[INET6_ADDRSTRLEN];
    return !talk(netns_fd, address, port, server, SILENCE_MS, seen);
}

#endif
