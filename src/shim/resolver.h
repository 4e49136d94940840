// The name server of a container on networks of clients. Private to the room.
//
// Questions come by the two sockets on 127.0.0.11 in the container's network namespace (net_resolver_open), or from a guest, whose PID 1 has
// such sockets, by one stream with a tag before each message (task/task.h). Each is answered from the
// settings and lists that the daemon keeps (dns/dns.h), read anew for each question: nothing is remembered here, so a container that
// joins a network costs the others nothing, and with no daemon the last lists hold. What they don't have is asked of the settings'
// servers, one after another, from the container's network or from the host's.
//
//     resolver            the sockets, the answers from lists            (resolver.c)
//      +- callers         clients by TCP: one question at a time; the guest: many
//      +- forwards        questions that a server was asked              (resolver_forward.c)
//
// Bounded: so many callers and forwards, each with one question; who asks more is refused, who is idle makes room.
#ifndef SHIM_RESOLVER_H
#define SHIM_RESOLVER_H

#include "dns/dns.h"
#include "shim/shim_private.h"

#define RESOLVER_FORWARD_MAX 256
#define RESOLVER_CALLER_MAX 32
#define RESOLVER_SERVER_NS (4 * NS_PER_S) // that a server has for its answer

struct resolver_config {
    struct loop *loop;
    char *copy; // SHIM_COPY_SIZE bytes, borrowed
    int state_fd; // where the settings are; borrowed
    int netns_fd; // the container's; borrowed; -1: it has none, everything is asked from the host's
    int lists_fd; // taken on success
    int udp_fd, tcp_fd; // the same; -1: there are none
    int guest_fd; // the same; -1: it is no guest
    int64_t server_ns;
    in_port_t port; // instead of 53 at the servers, for tests; 0
};

// Who asked.
struct asker {
    struct sockaddr_in from; // by datagram
    struct caller *caller; // else
    uint32_t tag; // a guest's
    bool stream; // by TCP
};

struct caller {
    struct caller *next;
    struct resolver *resolver;
    int fd;
    struct loop_source *source;
    struct buf in, out;
    bool guest; // its messages have a tag
    int64_t used_ns;
    bool waits; // for a server's answer
};

struct forward;

struct resolver {
    struct resolver_config config;
    int own_netns_fd;
    struct loop_source *udp_source, *tcp_source, *timer, *later;
    struct caller *callers;
    size_t caller_len;
    struct forward *forwards, **forwards_tail; // the first has the nearest deadline
    size_t forward_len;
};

int resolver_new(const struct resolver_config *config, struct resolver **out, struct err *err);
// The shim's, in the place of the one before. `config` says who asks; lists_fd is among the request's descriptors.
int resolver_install(struct request *request, struct resolver_config *config, struct err *err);

// The answer to who asked, if they are still there.
void resolver_reply(struct resolver *resolver, const struct asker *asker, const void *message, size_t size);

// Asks the servers; the answer, or that there is none, goes to the asker some day.
void forward_question(struct resolver *resolver, const struct asker *asker, const uint8_t *message, size_t size,
                      const struct dns_query *query, const struct dns_settings *settings);
void forwards_forget_caller(struct resolver *resolver, const struct caller *caller);
void forwards_free(struct resolver *resolver);

#endif
