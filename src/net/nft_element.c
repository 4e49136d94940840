// Elements of the port maps, straight by netlink: ten microseconds where `nft -f` takes four milliseconds.
//
// A batch is three messages in one send: BATCH_BEGIN, one NEWSETELEM or DELSETELEM with a list of elements, BATCH_END. It is
// atomic, and answered by one ACK with the sequence number of the middle message. Each part of a concatenated key or value
// is padded to four bytes, as nft itself lays it out in the set's registers.
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "net_private.h"

enum { ELEMENTS_PER_BATCH = 256, BATCH_SIZE = ELEMENTS_PER_BATCH * 96 + 512, ANSWER_SIZE = 16 * 1024, DUMP_TRIES = 8 };

// ---- the socket -----------------------------------------------------------------------------------------------------

int nft_open(struct nft_socket *out, struct err *err)
{
    *out = (struct nft_socket){ .sock = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC), .seq = 1 };
    if (!out->sock)
        return err_errno(err, errno, "open nfnetlink");
    if (mnl_socket_bind(out->sock, 0, MNL_SOCKET_AUTOPID) < 0) {
        int number = errno;
        nft_close(out);
        return err_errno(err, number, "bind nfnetlink");
    }
    return 0;
}

void nft_close(struct nft_socket *nft)
{
    if (nft->sock)
        mnl_socket_close(nft->sock);
    nft->sock = NULL;
}

struct nlmsghdr *nft_put_header(char *where, uint16_t type, uint16_t flags, uint32_t seq, uint8_t family, uint16_t id)
{
    struct nlmsghdr *header = mnl_nlmsg_put_header(where);
    header->nlmsg_type = type;
    header->nlmsg_flags = NLM_F_REQUEST | flags;
    header->nlmsg_seq = seq;
    struct nfgenmsg *generic = mnl_nlmsg_put_extra_header(header, sizeof(*generic));
    *generic = (struct nfgenmsg){ .nfgen_family = family, .version = NFNETLINK_V0, .res_id = htons(id) };
    return header;
}

static struct nlmsghdr *put_request(char *where, int family, uint16_t type, uint16_t flags, uint32_t seq)
{
    return nft_put_header(where, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, seq, family == AF_INET6 ? NFPROTO_IPV6 : NFPROTO_IPV4, 0);
}

int nft_read_answers(struct nft_socket *nft, uint32_t first, nft_answer_fn *fn, void *context)
{
    char answer[ANSWER_SIZE] __attribute__((aligned(8)));
    for (;;) {
        ssize_t size = mnl_socket_recvfrom(nft->sock, answer, sizeof(answer));
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            return -errno;
        const struct nlmsghdr *header = (const struct nlmsghdr *)answer;
        if (!mnl_nlmsg_ok(header, (int)size) || (int32_t)(header->nlmsg_seq - first) < 0)
            continue; // what an earlier, failed request left behind
        int result = mnl_cb_run(answer, (size_t)size, 0, 0, fn, context);
        if (result < 0)
            return -errno;
        if (result == MNL_CB_STOP)
            return 0;
    }
}

// Wraps the message that `fill` writes into a batch, and sends it. Returns 0 or the negative errno.
typedef void fill_fn(struct nlmsghdr *header, const void *context);
static int send_batch(struct nft_socket *nft, int family, uint16_t type, uint16_t flags, fill_fn *fill, const void *context)
{
    char batch[BATCH_SIZE] __attribute__((aligned(8)));
    uint32_t first = nft->seq;
    size_t size = nft_put_header(batch, NFNL_MSG_BATCH_BEGIN, 0, nft->seq++, AF_UNSPEC, NFNL_SUBSYS_NFTABLES)->nlmsg_len;
    struct nlmsghdr *header = put_request(batch + size, family, type, (uint16_t)(flags | NLM_F_ACK), nft->seq++);
    fill(header, context);
    size += header->nlmsg_len;
    size += nft_put_header(batch + size, NFNL_MSG_BATCH_END, 0, nft->seq++, AF_UNSPEC, NFNL_SUBSYS_NFTABLES)->nlmsg_len;
    if (mnl_socket_sendto(nft->sock, batch, size) < 0)
        return -errno;
    return nft_read_answers(nft, first, NULL, NULL);
}

// ---- tables ---------------------------------------------------------------------------------------------------------

static int count_one(const struct nlmsghdr *header, void *context)
{
    ++*(size_t *)context;
    return MNL_CB_OK;
}

int nft_count_rules(struct nft_socket *nft, int family, const struct nft_table *table, size_t *out, struct err *err)
{
    char request[512] __attribute__((aligned(8)));
    int result = -EINTR; // the rules changed while they were read
    for (int i = 0; i < DUMP_TRIES && result == -EINTR; i++) {
        uint32_t seq = nft->seq++;
        struct nlmsghdr *header = put_request(request, family, NFT_MSG_GETRULE, NLM_F_DUMP, seq);
        mnl_attr_put_strz(header, NFTA_RULE_TABLE, table->name);
        *out = 0;
        if (mnl_socket_sendto(nft->sock, header, header->nlmsg_len) < 0)
            return err_errno(err, errno, "read table %s", table->name);
        result = nft_read_answers(nft, seq, count_one, out);
    }
    if (result < 0 && result != -ENOENT)
        return err_errno(err, -result, "read table %s", table->name);
    return 0;
}

static void fill_table(struct nlmsghdr *header, const void *table)
{
    mnl_attr_put_strz(header, NFTA_TABLE_NAME, table);
}

int nft_delete_table(struct nft_socket *nft, int family, const struct nft_table *table, struct err *err)
{
    int result = send_batch(nft, family, NFT_MSG_DELTABLE, 0, fill_table, table->name);
    return result < 0 && result != -ENOENT ? err_errno(err, -result, "remove table %s", table->name) : 0;
}

// ---- elements -------------------------------------------------------------------------------------------------------

enum { ADDRESS_CELLS = 4 }; // of an IPv6 address; an IPv4 address has one

struct element {
    uint32_t key[ADDRESS_CELLS + 2]; // publish_at, open: address, proto, port; publish_any: proto, port
    size_t key_len;
    uint32_t value[ADDRESS_CELLS + 1]; // address, port
    size_t value_len;
};

struct element_list {
    int family;
    const char *table, *name;
    const struct element *items;
    size_t len;
    bool with_value;
};

// A number of one or two bytes stands at the start of its four-byte cell, in network order.
static uint32_t cell8(int value)
{
    uint32_t cell = 0;
    memcpy(&cell, &(uint8_t){ (uint8_t)value }, 1);
    return cell;
}

static uint32_t cell16(uint16_t value)
{
    uint32_t cell = 0;
    memcpy(&cell, &(uint16_t){ htons(value) }, 2);
    return cell;
}

static void add_key(struct element *element, const void *cells, size_t size)
{
    memcpy(element->key + element->key_len, cells, size);
    element->key_len += size / sizeof(element->key[0]);
}

static void add_value(struct element *element, const void *cells, size_t size)
{
    memcpy(element->value + element->value_len, cells, size);
    element->value_len += size / sizeof(element->value[0]);
}

static struct element element_of(const struct record_port *from, int family, enum nft_list list, const unsigned char *host)
{
    struct element element = { 0 };
    const uint32_t proto = cell8(from->port.proto), port = cell16(from->port.host_port), target_port = cell16(from->port.target_port);
    const uint32_t four = htonl(from->target);
    const size_t size = family == AF_INET ? sizeof(four) : sizeof(struct in6_addr);
    unsigned char target[sizeof(struct in6_addr)];
    if (family == AF_INET)
        memcpy(target, &four, sizeof(four));
    else
        address6_bytes(from->target6, target);
    bool open = list == NFT_OPEN || list == NFT_OPEN_TRUSTED;
    if (list != NFT_PUBLISH_ANY)
        add_key(&element, open ? target : host, size);
    add_key(&element, &proto, sizeof(proto));
    add_key(&element, open ? &target_port : &port, sizeof(port));
    if (open)
        return element;
    add_value(&element, target, size);
    add_value(&element, &target_port, sizeof(target_port));
    return element;
}

static void put_data(struct nlmsghdr *header, uint16_t type, const void *data, size_t size)
{
    struct nlattr *nest = mnl_attr_nest_start(header, type);
    mnl_attr_put(header, NFTA_DATA_VALUE, size, data);
    mnl_attr_nest_end(header, nest);
}

static void fill_elements(struct nlmsghdr *header, const void *context)
{
    const struct element_list *list = context;
    mnl_attr_put_strz(header, NFTA_SET_ELEM_LIST_TABLE, list->table);
    mnl_attr_put_strz(header, NFTA_SET_ELEM_LIST_SET, list->name);
    struct nlattr *all = mnl_attr_nest_start(header, NFTA_SET_ELEM_LIST_ELEMENTS);
    for (size_t i = 0; i < list->len; i++) {
        const struct element *element = &list->items[i];
        struct nlattr *one = mnl_attr_nest_start(header, NFTA_LIST_ELEM);
        put_data(header, NFTA_SET_ELEM_KEY, element->key, element->key_len * sizeof(element->key[0]));
        if (list->with_value && element->value_len)
            put_data(header, NFTA_SET_ELEM_DATA, element->value, element->value_len * sizeof(element->value[0]));
        mnl_attr_nest_end(header, one);
    }
    mnl_attr_nest_end(header, all);
}

// One by one where a batch failed as a whole because a single element was not there.
static int remove_list(struct nft_socket *nft, struct element_list list)
{
    list.with_value = false;
    int result = send_batch(nft, list.family, NFT_MSG_DELSETELEM, 0, fill_elements, &list);
    for (size_t i = 0; result == -ENOENT && list.len > 1 && i < list.len; i++) {
        struct element_list one = list;
        one.items = &list.items[i];
        one.len = 1;
        int single = send_batch(nft, list.family, NFT_MSG_DELSETELEM, 0, fill_elements, &one);
        if (single < 0 && single != -ENOENT)
            return single;
    }
    return result == -ENOENT ? 0 : result;
}

// EBUSY or EEXIST: the key is there with another value, left by a run that was cut off.
static int add_list(struct nft_socket *nft, struct element_list list)
{
    list.with_value = true;
    int result = send_batch(nft, list.family, NFT_MSG_NEWSETELEM, NLM_F_CREATE, fill_elements, &list);
    if (result != -EBUSY && result != -EEXIST)
        return result;
    result = remove_list(nft, list);
    return result < 0 ? result : send_batch(nft, list.family, NFT_MSG_NEWSETELEM, NLM_F_CREATE, fill_elements, &list);
}

typedef int list_fn(struct nft_socket *nft, struct element_list list);
static int each_batch(struct nft_socket *nft, int family, const struct nft_table *table, enum nft_list where, const struct record_ports *ports,
                      list_fn *fn)
{
    struct element items[ELEMENTS_PER_BATCH];
    struct element_list list = { .family = family, .table = table->name, .name = nft_list_names[where], .items = items };
    int result = 0;
    for (size_t i = 0; i < ports->len && result == 0; i++) {
        unsigned char host[16];
        if (nft_lists(table, &ports->items[i], family, where, host))
            items[list.len++] = element_of(&ports->items[i], family, where, host);
        if (list.len == ELEMENTS_PER_BATCH) {
            result = fn(nft, list);
            list.len = 0;
        }
    }
    return result == 0 && list.len ? fn(nft, list) : result;
}

static int all_lists(struct nft_socket *nft, const struct nft_table *table, const struct record_ports *ports, list_fn *fn, const char *what,
                     struct err *err)
{
    static const int families[] = { AF_INET, AF_INET6 };
    int result = 0;
    for (size_t i = 0; i < ARRAY_LEN(families) * NFT_LIST_LEN && result == 0; i++)
        if (nft_has(table, families[i / NFT_LIST_LEN]))
            result = each_batch(nft, families[i / NFT_LIST_LEN], table, (enum nft_list)(i % NFT_LIST_LEN), ports, fn);
    return result < 0 ? err_errno(err, -result, "%s port forwards", what) : 0;
}

int nft_add_elements(struct nft_socket *nft, const struct nft_table *table, const struct record_ports *ports, struct err *err)
{
    return all_lists(nft, table, ports, add_list, "add", err);
}

int nft_remove_elements(struct nft_socket *nft, const struct nft_table *table, const struct record_ports *ports, struct err *err)
{
    return all_lists(nft, table, ports, remove_list, "remove", err);
}
