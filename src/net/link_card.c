// Links that stand on others of the host, and those that stand for one: ipvlan cards, VLANs, dummies. By messages of our own, because
// libnl knows no flags of ipvlan.
#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include "base/slice.h"
#include "net_private.h"

struct number {
    int attribute;
    uint16_t value;
};

static void put_kind(struct nl_msg *message, const char *kind, const struct number *numbers, size_t len)
{
    struct nlattr *info = nla_nest_start(message, IFLA_LINKINFO);
    nla_put_string(message, IFLA_INFO_KIND, kind);
    struct nlattr *data = len ? nla_nest_start(message, IFLA_INFO_DATA) : NULL;
    for (size_t i = 0; i < len; i++)
        nla_put_u16(message, numbers[i].attribute, numbers[i].value);
    if (data)
        nla_nest_end(message, data);
    nla_nest_end(message, info);
}

// `what` is what a kernel without that kind has not.
static int add(struct link_socket *socket, const struct link_pair *link, const char *kind, const struct number *numbers, size_t len,
               const char *what, struct err *err)
{
    const struct ifinfomsg header = { .ifi_family = AF_UNSPEC };
    struct nl_msg *message = nlmsg_alloc_simple(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
    nlmsg_append(message, (void *)&header, sizeof(header), NLMSG_ALIGNTO);
    nla_put_string(message, IFLA_IFNAME, link->far);
    if (link->master)
        nla_put_u32(message, IFLA_LINK, (uint32_t)link->master);
    if (link->mtu)
        nla_put_u32(message, IFLA_MTU, (uint32_t)link->mtu);
    if (link->netns_fd >= 0)
        nla_put_u32(message, IFLA_NET_NS_FD, (uint32_t)link->netns_fd);
    put_kind(message, kind, numbers, len);
    socket->number = 0;
    int result = nl_send_sync(socket->sock, message); // frees the message
    if (result < 0 && socket->number == EOPNOTSUPP) {
        socket->number = 0;
        return err_set(err, ERR_NOT_IMPLEMENTED, "the kernel has no %s", what);
    }
    _cleanup_free_ char *making = mem_printf("make a link of the kind %s", kind);
    return result < 0 ? link_failed(socket, result, err, making) : 0;
}

// "l2", "l3s/private"; false: there is no such mode.
static bool read_mode(const char *text, uint16_t *mode, uint16_t *flags)
{
    static const char *const modes[] = { [IPVLAN_MODE_L2] = "l2", [IPVLAN_MODE_L3] = "l3", [IPVLAN_MODE_L3S] = "l3s" };
    const char *flag = strchr(text, '/');
    *flags = !flag ? 0 : str_eq(flag, "/private") ? IPVLAN_F_PRIVATE : IPVLAN_F_VEPA;
    for (size_t i = 0; i < ARRAY_LEN(modes); i++)
        if (slice_eq((struct slice){ text, flag ? (size_t)(flag - text) : strlen(text) }, modes[i])) {
            *mode = (uint16_t)i;
            return true;
        }
    return false;
}

bool link_ipvlan_mode(const char *mode)
{
    uint16_t number, flags;
    return read_mode(mode, &number, &flags);
}

int link_add_ipvlan(struct link_socket *socket, const struct link_pair *card, const char *mode, struct err *err)
{
    uint16_t number = 0, flags = 0;
    read_mode(mode, &number, &flags);
    const struct number numbers[] = { { IFLA_IPVLAN_MODE, number }, { IFLA_IPVLAN_FLAGS, flags } };
    return add(socket, card, "ipvlan", numbers, ARRAY_LEN(numbers), "ipvlan", err);
}

int link_add_vlan(struct link_socket *socket, const char *name, int master, uint16_t vlan, struct err *err)
{
    const struct link_pair link = { .far = name, .master = master, .netns_fd = -1 };
    return add(socket, &link, "vlan", &(struct number){ IFLA_VLAN_ID, vlan }, 1, "VLANs (8021q)", err);
}

int link_add_dummy(struct link_socket *socket, const char *name, struct err *err)
{
    const struct link_pair link = { .far = name, .netns_fd = -1 };
    return add(socket, &link, "dummy", NULL, 0, "dummy links, which a network without a parent link needs", err);
}
