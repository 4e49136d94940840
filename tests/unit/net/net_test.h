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

struct socket_request {
    int type, fd;
};

static inline int make_socket(void *context, int netns_fd, struct err *err)
{
    struct socket_request *request = context;
    request->fd = socket(AF_INET, request->type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return request->fd < 0 ? err_errno(err, errno, "socket") : 0;
}

// netns_fd -1: the host.
static inline int socket_in(int netns_fd, int type)
{
    struct socket_request request = { type, -1 };
    if (netns_fd < 0)
        make_socket(&request, -1, &test_err);
    else
        OK(namespace_visit(netns_fd, make_socket, &request, err));
    return request.fd;
}

static inline struct sockaddr_in at(const char *address, uint16_t port)
{
    struct sockaddr_in out = { .sin_family = AF_INET, .sin_port = htons(port) };
    inet_pton(AF_INET, address, &out.sin_addr);
    return out;
}

static inline int serve_in(int netns_fd, int type, uint16_t port)
{
    int fd = socket_in(netns_fd, type);
    struct sockaddr_in any = at("0.0.0.0", port);
    assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof(any)), 0);
    if (type == SOCK_STREAM)
        assert_int_equal(listen(fd, 16), 0);
    return fd;
}

static inline bool ready(int fd, short events, int timeout_ms)
{
    struct pollfd poll_fd = { .fd = fd, .events = events };
    return poll(&poll_fd, 1, timeout_ms) == 1 && (poll_fd.revents & events);
}

// Connects from `netns_fd`, sends a byte each way, and gives the address that the server saw. False when no connection
// came about within `timeout_ms`.
static inline bool talk(int netns_fd, const char *address, uint16_t port, int server, int timeout_ms, char seen[INET_ADDRSTRLEN])
{
    _cleanup_close_ int client = socket_in(netns_fd, SOCK_STREAM), accepted = -1;
    struct sockaddr_in target = at(address, port), peer = { 0 };
    socklen_t size = sizeof(peer);
    char byte = 0;
    if (connect(client, (struct sockaddr *)&target, sizeof(target)) < 0 && errno != EINPROGRESS)
        return false;
    if (!ready(server, POLLIN, timeout_ms))
        return false;
    accepted = accept4(server, (struct sockaddr *)&peer, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (accepted < 0 || !ready(client, POLLOUT, timeout_ms) || write(client, "x", 1) != 1 ||
        !ready(accepted, POLLIN, timeout_ms) || read(accepted, &byte, 1) != 1 || byte != 'x' ||
        write(accepted, "y", 1) != 1 || !ready(client, POLLIN, timeout_ms) || read(client, &byte, 1) != 1 || byte != 'y')
        return false;
    inet_ntop(AF_INET, &peer.sin_addr, seen, INET_ADDRSTRLEN);
    return true;
}

static inline bool talk_udp(int netns_fd, const char *address, uint16_t port, int server, int timeout_ms)
{
    _cleanup_close_ int client = socket_in(netns_fd, SOCK_DGRAM);
    struct sockaddr_in target = at(address, port), peer = { 0 };
    socklen_t size = sizeof(peer);
    char byte = 0;
    if (connect(client, (struct sockaddr *)&target, sizeof(target)) < 0 || write(client, "x", 1) != 1 ||
        !ready(server, POLLIN, timeout_ms) ||
        recvfrom(server, &byte, 1, 0, (struct sockaddr *)&peer, &size) != 1)
        return false;
    return sendto(server, "y", 1, 0, (struct sockaddr *)&peer, size) == 1 && ready(client, POLLIN, timeout_ms) &&
           read(client, &byte, 1) == 1 && byte == 'y';
}

#endif
