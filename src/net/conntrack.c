// Making the kernel forget flows, by ctnetlink. A forward is looked up for a flow's first packet only; later ones go where
// the first went. So when a container's address is given to another one, or a port is published while a client is already
// sending, its flow would go astray for as long as it does not pause.
//
// The kernel filters the dump (CTA_FILTER), but not by addresses of IPv6: kernels hand out those that are not equal, so all of that
// family are read. What it hands out is looked at once more, then each flow is deleted by the tuple and the id it was handed out with.
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/fd.h"
#include "net_private.h"

// The kernel's own numbers of a filter's flags (nf_internals.h), which its headers do not show.
enum { FILTER_IP_SRC = 1 << 0, FILTER_PROTO_NUM = 1 << 3 };

enum { PASS_MAX = 8, FLOWS_SIZE_MAX = 4 << 20, REQUEST_SIZE = 1024, TUPLE_SIZE_MAX = 256 };

// An address as it goes over the wire.
struct wire {
    unsigned char bytes[16];
    size_t size; // 0: none
};

struct wanted {
    int family;
    struct wire target; // none: by ports
    const struct record_ports *ports;
};

// A flow to be deleted: what identifies it, as the kernel said it.
struct flow {
    uint32_t id; // as it came
    uint16_t zone; // as it came
    uint16_t tuple_size;
    char tuple[TUPLE_SIZE_MAX]; // the payload of CTA_TUPLE_ORIG
};

struct hunt {
    const struct wanted *wanted;
    struct buf flows; // struct flow
};

// ---- reading a flow -------------------------------------------------------------------------------------------------

struct tuple {
    struct wire source, destination;
    uint16_t destination_port;
    uint8_t proto;
};

// The attribute of this type among those of a nest; NULL for none, or one below `size` bytes.
static const struct nlattr *find_in(const struct nlattr *nest, uint16_t type, size_t size)
{
    const struct nlattr *attribute;
    if (nest)
        mnl_attr_for_each_nested(attribute, nest) if (mnl_attr_get_type(attribute) ==
                                                      type) return mnl_attr_get_payload_len(attribute) >= size
            ? attribute
            : NULL;
    return NULL;
}

static struct wire read_wire(const struct nlattr *ip, uint16_t type4, uint16_t type6)
{
    struct wire out = { 0 };
    const struct nlattr *four = find_in(ip, type4, 4), *six = find_in(ip, type6, 16), *found = four ? four : six;
    if (found) {
        out.size = four ? 4 : 16;
        memcpy(out.bytes, mnl_attr_get_payload(found), out.size);
    }
    return out;
}

static bool same_wire(const struct wire *a, const struct wire *b)
{
    return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

static struct tuple read_tuple(const struct nlattr *nest)
{
    const struct nlattr *ip = find_in(nest, CTA_TUPLE_IP, 0), *proto = find_in(nest, CTA_TUPLE_PROTO, 0);
    const struct nlattr *number = find_in(proto, CTA_PROTO_NUM, 1), *port = find_in(proto, CTA_PROTO_DST_PORT, 2);
    return (struct tuple){ read_wire(ip, CTA_IP_V4_SRC, CTA_IP_V6_SRC), read_wire(ip, CTA_IP_V4_DST, CTA_IP_V6_DST),
                           port ? ntohs(mnl_attr_get_u16(port)) : 0, number ? mnl_attr_get_u8(number) : 0 };
}

// Only such an address can be bound.
static bool is_own_address(const struct wire *address)
{
    bool four = address->size == 4;
    struct sockaddr_in in = { .sin_family = AF_INET };
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
    memcpy(four ? (void *)&in.sin_addr : &in6.sin6_addr, address->bytes, address->size);
    _cleanup_close_ int fd = socket(four ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return fd >= 0 && bind(fd, four ? (const struct sockaddr *)&in : (const struct sockaddr *)&in6, four ? sizeof(in) : sizeof(in6)) == 0;
}

// The host's own queries to a port 53 elsewhere are none of ours.
static bool at_port(const struct record_ports *ports, const struct tuple *original)
{
    for (size_t i = 0; i < ports->len; i++)
        if (ports->items[i].port.proto == IPPROTO_UDP && ports->items[i].port.host_port == original->destination_port)
            return is_own_address(&original->destination);
    return false;
}

static int on_flow(const struct nlmsghdr *header, void *context)
{
    struct hunt *hunt = context;
    const struct nlattr *attribute, *original = NULL, *reply = NULL;
    struct flow flow = { 0 };
    mnl_attr_for_each(attribute, header, sizeof(struct nfgenmsg))
    {
        uint16_t type = mnl_attr_get_type(attribute);
        if (type == CTA_TUPLE_ORIG)
            original = attribute;
        else if (type == CTA_TUPLE_REPLY)
            reply = attribute;
        else if (type == CTA_ID && mnl_attr_get_payload_len(attribute) >= sizeof(flow.id))
            flow.id = mnl_attr_get_u32(attribute);
        else if (type == CTA_ZONE && mnl_attr_get_payload_len(attribute) >= sizeof(flow.zone))
            flow.zone = mnl_attr_get_u16(attribute);
    }
    const struct tuple to = read_tuple(original), back = read_tuple(reply);
    bool ours = hunt->wanted->target.size ? same_wire(&back.source, &hunt->wanted->target)
                                          : to.proto == IPPROTO_UDP && at_port(hunt->wanted->ports, &to);
    if (!ours || !original || mnl_attr_get_payload_len(original) > sizeof(flow.tuple))
        return MNL_CB_OK;
    flow.tuple_size = mnl_attr_get_payload_len(original);
    memcpy(flow.tuple, mnl_attr_get_payload(original), flow.tuple_size);
    buf_add(&hunt->flows, &flow, sizeof(flow)); // full: the rest is for the next pass
    return MNL_CB_OK;
}

// ---- requests -------------------------------------------------------------------------------------------------------

static struct nlmsghdr *put_request(char *where, int family, uint16_t type, uint16_t flags, uint32_t seq)
{
    return nft_put_header(where, (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type), flags, seq, (uint8_t)family, 0);
}

static void put_filter(struct nlmsghdr *header, uint16_t flags_type, uint32_t flags)
{
    struct nlattr *filter = mnl_attr_nest_start(header, CTA_FILTER);
    mnl_attr_put_u32(header, flags_type, flags);
    mnl_attr_nest_end(header, filter);
}

static void put_wanted(struct nlmsghdr *header, const struct wanted *wanted)
{
    const struct wire *target = &wanted->target;
    struct nlattr *tuple = mnl_attr_nest_start(header, target->size ? CTA_TUPLE_REPLY : CTA_TUPLE_ORIG);
    struct nlattr *part = mnl_attr_nest_start(header, target->size ? CTA_TUPLE_IP : CTA_TUPLE_PROTO);
    if (target->size)
        mnl_attr_put(header, CTA_IP_V4_SRC, target->size, target->bytes);
    else
        mnl_attr_put_u8(header, CTA_PROTO_NUM, IPPROTO_UDP);
    mnl_attr_nest_end(header, part);
    mnl_attr_nest_end(header, tuple);
    if (target->size)
        put_filter(header, CTA_FILTER_REPLY_FLAGS, FILTER_IP_SRC);
    else
        put_filter(header, CTA_FILTER_ORIG_FLAGS, FILTER_PROTO_NUM);
}

static int find_flows(struct nft_socket *nft, struct hunt *hunt)
{
    char request[REQUEST_SIZE] __attribute__((aligned(8)));
    uint32_t seq = nft->seq++;
    struct nlmsghdr *header = put_request(request, hunt->wanted->family, IPCTNL_MSG_CT_GET, NLM_F_DUMP, seq);
    if (!hunt->wanted->target.size || hunt->wanted->family == AF_INET)
        put_wanted(header, hunt->wanted);
    if (mnl_socket_sendto(nft->sock, header, header->nlmsg_len) < 0)
        return -errno;
    return nft_read_answers(nft, seq, on_flow, hunt);
}

// One that ended meanwhile answers ENOENT, which is as good.
static void delete_flow(struct nft_socket *nft, int family, const struct flow *flow)
{
    char request[REQUEST_SIZE] __attribute__((aligned(8)));
    uint32_t seq = nft->seq++;
    struct nlmsghdr *header = put_request(request, family, IPCTNL_MSG_CT_DELETE, NLM_F_ACK, seq);
    mnl_attr_put(header, CTA_TUPLE_ORIG | NLA_F_NESTED, flow->tuple_size, flow->tuple);
    if (flow->zone)
        mnl_attr_put_u16(header, CTA_ZONE, flow->zone);
    mnl_attr_put_u32(header, CTA_ID, flow->id);
    if (mnl_socket_sendto(nft->sock, header, header->nlmsg_len) >= 0)
        nft_read_answers(nft, seq, NULL, NULL);
}

// Again when the table changed under the dump, or held more than one pass takes.
static void forget(struct nft_socket *nft, const struct wanted *wanted)
{
    for (int pass = 0; pass < PASS_MAX; pass++) {
        struct hunt hunt = { .wanted = wanted, .flows = BUF_INIT(FLOWS_SIZE_MAX) };
        int result = find_flows(nft, &hunt);
        for (size_t at = 0; at + sizeof(struct flow) <= hunt.flows.size; at += sizeof(struct flow)) {
            struct flow flow;
            memcpy(&flow, hunt.flows.data + at, sizeof(flow));
            delete_flow(nft, wanted->family, &flow);
        }
        bool again = result == -EINTR || hunt.flows.overflow;
        buf_done(&hunt.flows);
        if (!again)
            return;
    }
}

void conntrack_forget_target(struct nft_socket *nft, uint32_t target, number128 target6)
{
    struct wanted four = { .family = AF_INET, .target.size = 4 }, six = { .family = AF_INET6, .target.size = 16 };
    target = htonl(target);
    memcpy(four.target.bytes, &target, sizeof(target));
    if (target)
        forget(nft, &four);
    address6_bytes(target6, six.target.bytes);
    if (target6)
        forget(nft, &six);
}

void conntrack_forget_ports(struct nft_socket *nft, const struct record_ports *ports)
{
    bool any = false, six = false;
    for (size_t i = 0; i < ports->len; i++) {
        any = any || ports->items[i].port.proto == IPPROTO_UDP;
        six = six || ports->items[i].target6;
    }
    if (any)
        forget(nft, &(struct wanted){ .family = AF_INET, .ports = ports });
    if (any && six)
        forget(nft, &(struct wanted){ .family = AF_INET6, .ports = ports });
}
