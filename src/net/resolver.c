// A container's name server: two sockets on 127.0.0.11 inside its network namespace, and rules there that make them port 53.
//
// They are bound to ports of the kernel's choice, so that a server of the container's own still gets port 53 on every address. The
// rules rewrite the one port of a packet on its way out and of its answer on the way back, without NAT: the addresses stay, so
// nothing has to be remembered, and the namespace's other traffic is not tracked. A question is rewritten before connection tracking
// sees it and an answer after that, so whoever tracks in the namespace sees one flow.
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "net_private.h"

#define TABLE "berth_names"
#define RESOLVER_ADDRESS 0x7f00000bu // NET_RESOLVER_ADDRESS
enum { DNS_PORT = 53, BATCH_SIZE = 8192, BACKLOG = 64 };

// ---- the sockets ----------------------------------------------------------------------------------------------------

static int bind_socket(int type, int *out, uint16_t *port, struct err *err)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(RESOLVER_ADDRESS) };
    socklen_t size = sizeof(at);
    _cleanup_close_ int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || (type == SOCK_STREAM && listen(fd, BACKLOG) < 0) ||
        getsockname(fd, (struct sockaddr *)&at, &size) < 0)
        return err_errno(err, errno, "listen on " NET_RESOLVER_ADDRESS);
    *port = ntohs(at.sin_port);
    *out = take_fd(&fd);
    return 0;
}

// ---- the rules ------------------------------------------------------------------------------------------------------

// Where a packet's own address and port stand, and what the port becomes.
struct rewrite {
    const char *chain;
    uint32_t address_offset, port_offset; // in the IP header, in the transport header
    uint8_t protocol;
    uint16_t from, to;
};

struct batch {
    char bytes[BATCH_SIZE] __attribute__((aligned(8)));
    size_t size, last; // `last`: where the last message begins
    uint32_t seq;
};

static struct nlmsghdr *add_message(struct batch *batch, uint16_t type, uint16_t flags)
{
    batch->last = batch->size;
    return nft_put_header(batch->bytes + batch->size, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, batch->seq++,
                          NFPROTO_IPV4, 0);
}

static void put32(struct nlmsghdr *header, uint16_t type, uint32_t value)
{
    mnl_attr_put_u32(header, type, htonl(value));
}

// An expression is a name and its data, in a nest of the rule's list.
struct expression {
    struct nlattr *item, *data;
};

static struct expression begin_expression(struct nlmsghdr *header, const char *name)
{
    struct expression expression = { .item = mnl_attr_nest_start(header, NFTA_LIST_ELEM) };
    mnl_attr_put_strz(header, NFTA_EXPR_NAME, name);
    expression.data = mnl_attr_nest_start(header, NFTA_EXPR_DATA);
    return expression;
}

static void end_expression(struct nlmsghdr *header, struct expression expression)
{
    mnl_attr_nest_end(header, expression.data);
    mnl_attr_nest_end(header, expression.item);
}

static void put_value(struct nlmsghdr *header, uint16_t type, const void *value, size_t size)
{
    struct nlattr *nest = mnl_attr_nest_start(header, type);
    mnl_attr_put(header, NFTA_DATA_VALUE, size, value);
    mnl_attr_nest_end(header, nest);
}

static void put_compare(struct nlmsghdr *header, const void *value, size_t size)
{
    struct expression expression = begin_expression(header, "cmp");
    put32(header, NFTA_CMP_SREG, NFT_REG_1);
    put32(header, NFTA_CMP_OP, NFT_CMP_EQ);
    put_value(header, NFTA_CMP_DATA, value, size);
    end_expression(header, expression);
}

static void put_match(struct nlmsghdr *header, uint32_t base, uint32_t offset, const void *value, uint32_t size)
{
    struct expression expression = begin_expression(header, "payload");
    put32(header, NFTA_PAYLOAD_DREG, NFT_REG_1);
    put32(header, NFTA_PAYLOAD_BASE, base);
    put32(header, NFTA_PAYLOAD_OFFSET, offset);
    put32(header, NFTA_PAYLOAD_LEN, size);
    end_expression(header, expression);
    put_compare(header, value, size);
}

static void put_match_protocol(struct nlmsghdr *header, uint8_t protocol)
{
    struct expression expression = begin_expression(header, "meta");
    put32(header, NFTA_META_DREG, NFT_REG_1);
    put32(header, NFTA_META_KEY, NFT_META_L4PROTO);
    end_expression(header, expression);
    put_compare(header, &protocol, sizeof(protocol));
}

static void put_write_port(struct nlmsghdr *header, const struct rewrite *rewrite)
{
    uint16_t port = htons(rewrite->to);
    struct expression expression = begin_expression(header, "immediate");
    put32(header, NFTA_IMMEDIATE_DREG, NFT_REG_1);
    put_value(header, NFTA_IMMEDIATE_DATA, &port, sizeof(port));
    end_expression(header, expression);
    expression = begin_expression(header, "payload");
    put32(header, NFTA_PAYLOAD_SREG, NFT_REG_1);
    put32(header, NFTA_PAYLOAD_BASE, NFT_PAYLOAD_TRANSPORT_HEADER);
    put32(header, NFTA_PAYLOAD_OFFSET, rewrite->port_offset);
    put32(header, NFTA_PAYLOAD_LEN, sizeof(port));
    put32(header, NFTA_PAYLOAD_CSUM_TYPE, NFT_PAYLOAD_CSUM_INET);
    put32(header, NFTA_PAYLOAD_CSUM_OFFSET, rewrite->protocol == IPPROTO_UDP ? 6 : 16);
    end_expression(header, expression);
}

static void add_rule(struct batch *batch, const struct rewrite *rewrite)
{
    const uint32_t address = htonl(RESOLVER_ADDRESS);
    const uint16_t port = htons(rewrite->from);
    struct nlmsghdr *header = add_message(batch, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
    mnl_attr_put_strz(header, NFTA_RULE_TABLE, TABLE);
    mnl_attr_put_strz(header, NFTA_RULE_CHAIN, rewrite->chain);
    struct nlattr *all = mnl_attr_nest_start(header, NFTA_RULE_EXPRESSIONS);
    put_match(header, NFT_PAYLOAD_NETWORK_HEADER, rewrite->address_offset, &address, sizeof(address));
    put_match_protocol(header, rewrite->protocol);
    put_match(header, NFT_PAYLOAD_TRANSPORT_HEADER, rewrite->port_offset, &port, sizeof(port));
    put_write_port(header, rewrite);
    mnl_attr_nest_end(header, all);
    batch->size += header->nlmsg_len;
}

static void add_chain(struct batch *batch, const char *name, uint32_t hook, int32_t priority)
{
    struct nlmsghdr *header = add_message(batch, NFT_MSG_NEWCHAIN, NLM_F_CREATE);
    mnl_attr_put_strz(header, NFTA_CHAIN_TABLE, TABLE);
    mnl_attr_put_strz(header, NFTA_CHAIN_NAME, name);
    struct nlattr *nest = mnl_attr_nest_start(header, NFTA_CHAIN_HOOK);
    put32(header, NFTA_HOOK_HOOKNUM, hook);
    put32(header, NFTA_HOOK_PRIORITY, (uint32_t)priority);
    mnl_attr_nest_end(header, nest);
    mnl_attr_put_strz(header, NFTA_CHAIN_TYPE, "filter");
    batch->size += header->nlmsg_len;
}

static void add_table(struct batch *batch, uint16_t type)
{
    struct nlmsghdr *header = add_message(batch, type, type == NFT_MSG_NEWTABLE ? NLM_F_CREATE | NLM_F_EXCL : 0);
    mnl_attr_put_strz(header, NFTA_TABLE_NAME, TABLE);
    batch->size += header->nlmsg_len;
}

static void add_mark(struct batch *batch, uint16_t type)
{
    batch->size += nft_put_header(batch->bytes + batch->size, type, 0, batch->seq++, AF_UNSPEC, NFNL_SUBSYS_NFTABLES)->nlmsg_len;
}

static void fill_batch(struct batch *batch, uint16_t udp_port, uint16_t tcp_port, bool again)
{
    enum { SOURCE = 12, DESTINATION = 16, SOURCE_PORT = 0, DESTINATION_PORT = 2, BEFORE_TRACKING = -300, LATE = 300 };
    const struct rewrite rewrites[] = {
        { "questions", DESTINATION, DESTINATION_PORT, IPPROTO_UDP, DNS_PORT, udp_port },
        { "questions", DESTINATION, DESTINATION_PORT, IPPROTO_TCP, DNS_PORT, tcp_port },
        { "answers", SOURCE, SOURCE_PORT, IPPROTO_UDP, udp_port, DNS_PORT },
        { "answers", SOURCE, SOURCE_PORT, IPPROTO_TCP, tcp_port, DNS_PORT },
    };
    add_mark(batch, NFNL_MSG_BATCH_BEGIN);
    if (again)
        add_table(batch, NFT_MSG_DELTABLE);
    add_table(batch, NFT_MSG_NEWTABLE);
    add_chain(batch, "questions", NF_INET_LOCAL_OUT, BEFORE_TRACKING);
    add_chain(batch, "answers", NF_INET_POST_ROUTING, LATE);
    for (size_t i = 0; i < ARRAY_LEN(rewrites); i++)
        add_rule(batch, &rewrites[i]);
    ((struct nlmsghdr *)(batch->bytes + batch->last))->nlmsg_flags |= NLM_F_ACK;
    add_mark(batch, NFNL_MSG_BATCH_END);
}

static int send_rules(struct nft_socket *nft, uint16_t udp_port, uint16_t tcp_port, bool again)
{
    struct batch batch = { .seq = nft->seq };
    fill_batch(&batch, udp_port, tcp_port, again);
    uint32_t first = nft->seq;
    nft->seq = batch.seq;
    return mnl_socket_sendto(nft->sock, batch.bytes, batch.size) < 0 ? -errno : nft_read_answers(nft, first, NULL, NULL);
}

// The rules of a name server before this one, in the same namespace, go; that takes the kernel ten milliseconds, so it is asked for only then.
static int make_rules(uint16_t udp_port, uint16_t tcp_port, struct err *err)
{
    struct nft_socket nft;
    if (nft_open(&nft, err) < 0)
        return -1;
    int result = send_rules(&nft, udp_port, tcp_port, false);
    if (result == -EEXIST)
        result = send_rules(&nft, udp_port, tcp_port, true);
    nft_close(&nft);
    return result < 0 ? err_errno(err, -result, "make the rules of a name server") : 0;
}

// ---- both -----------------------------------------------------------------------------------------------------------

static int open_inside(void *context, int netns_fd, struct err *err)
{
    struct net_resolver *out = context;
    _cleanup_close_ int udp_fd = -1, tcp_fd = -1;
    uint16_t udp_port, tcp_port;
    if (bind_socket(SOCK_DGRAM, &udp_fd, &udp_port, err) < 0 || bind_socket(SOCK_STREAM, &tcp_fd, &tcp_port, err) < 0 ||
        make_rules(udp_port, tcp_port, err) < 0)
        return -1;
    *out = (struct net_resolver){ take_fd(&udp_fd), take_fd(&tcp_fd) };
    return 0;
}

int net_resolver_open(int netns_fd, struct net_resolver *out, struct err *err)
{
    return namespace_visit(netns_fd, open_inside, out, err) < 0 ? err_wrap(err, "name server of a container") : 0;
}
