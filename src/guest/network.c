// The machine's cards, configured as the document says. By ioctl: five calls a card for IPv4, two for IPv6, and nothing to link.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <linux/ipv6.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/file.h"
#include "guest_private.h"

#define CARD_MAX 16

bool network_parse_mac(const char *text, unsigned char out[6])
{
    struct slice rest = slice_of(text), part;
    for (size_t i = 0; i < 6; i++) {
        static const char digits[] = "0123456789abcdefABCDEF";
        if (!slice_cut(&rest, ':', &part) || part.size != 2 || !memchr(digits, part.data[0], 22) ||
            !memchr(digits, part.data[1], 22))
            return false;
        out[i] = (unsigned char)strtoul((char[]){ part.data[0], part.data[1], '\0' }, NULL, 16);
    }
    return rest.data == NULL;
}

uint32_t network_mask(int64_t prefix)
{
    return prefix <= 0 ? 0 : htonl(UINT32_MAX << (32 - MIN_OF(prefix, INT64_C(32))));
}

struct card {
    int sock;
    const struct task_nic *nic;
    unsigned char mac[6];
    bool any_mac;
    char name[IFNAMSIZ]; // once found
};

static struct ifreq request_for(const char *name)
{
    struct ifreq request = { 0 };
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    return request;
}

static bool is_our_card(const struct card *card, const char *name)
{
    struct ifreq request = request_for(name);
    if (ioctl(card->sock, SIOCGIFHWADDR, &request) < 0 || request.ifr_hwaddr.sa_family != ARPHRD_ETHER)
        return false;
    return card->any_mac || memcmp(request.ifr_hwaddr.sa_data, card->mac, sizeof(card->mac)) == 0;
}

static bool card_is_there(void *context)
{
    struct card *card = context;
    struct if_nameindex *list = if_nameindex();
    bool found = false;
    for (struct if_nameindex *at = list; at && at->if_index && !found; at++) {
        found = is_our_card(card, at->if_name);
        if (found)
            snprintf(card->name, sizeof(card->name), "%s", at->if_name);
    }
    if (list)
        if_freenameindex(list);
    return found;
}

static int rename_card(struct card *card, struct err *err)
{
    if (str_empty(card->nic->name) || str_eq(card->name, card->nic->name))
        return 0;
    struct ifreq request = request_for(card->name);
    snprintf(request.ifr_newname, sizeof(request.ifr_newname), "%s", card->nic->name);
    if (ioctl(card->sock, SIOCSIFNAME, &request) < 0)
        return err_errno(err, errno, "rename %s to %s", card->name, card->nic->name);
    snprintf(card->name, sizeof(card->name), "%s", card->nic->name);
    return 0;
}

static int set_address(const struct card *card, unsigned long call, uint32_t address, struct err *err)
{
    struct ifreq request = request_for(card->name);
    struct sockaddr_in *in = (struct sockaddr_in *)&request.ifr_addr;
    *in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = address };
    return ioctl(card->sock, call, &request) == 0 ? 0 : err_errno(err, errno, "address of %s", card->name);
}

static int bring_up(int sock, const char *name, struct err *err)
{
    struct ifreq request = request_for(name);
    if (ioctl(sock, SIOCGIFFLAGS, &request) < 0)
        return err_errno(err, errno, "%s", name);
    request.ifr_flags |= IFF_UP | IFF_RUNNING;
    return ioctl(sock, SIOCSIFFLAGS, &request) == 0 ? 0 : err_errno(err, errno, "bring up %s", name);
}

static int add_gateway(const struct card *card, uint32_t gateway, struct err *err)
{
    struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY, .rt_dev = (char *)card->name };
    *(struct sockaddr_in *)&route.rt_dst = (struct sockaddr_in){ .sin_family = AF_INET };
    *(struct sockaddr_in *)&route.rt_genmask = (struct sockaddr_in){ .sin_family = AF_INET };
    *(struct sockaddr_in *)&route.rt_gateway =
        (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = gateway };
    return ioctl(card->sock, SIOCADDRT, &route) == 0 ? 0
                                                     : err_errno(err, errno, "default route by %s", card->nic->gateway);
}

// Addresses are the daemon's to give: nobody is asked whether it is somebody's, which would take a second.
static int skip_detection(const struct card *card, struct err *err)
{
    _cleanup_free_ char *path = mem_printf("/proc/sys/net/ipv6/conf/%s/accept_dad", card->name);
    return file_put(AT_FDCWD, path, "0", err);
}

static int set_ipv6(const struct card *card, struct err *err)
{
    const struct task_nic *nic = card->nic;
    struct in6_ifreq address = { .ifr6_prefixlen = (uint32_t)nic->prefix6, .ifr6_ifindex = (int)if_nametoindex(card->name) };
    struct in6_rtmsg route = { .rtmsg_flags = RTF_UP | RTF_GATEWAY, .rtmsg_metric = 1024, .rtmsg_ifindex = address.ifr6_ifindex };
    if (str_empty(nic->address6))
        return 0;
    if (inet_pton(AF_INET6, nic->address6, &address.ifr6_addr) != 1 || nic->prefix6 < 1 || nic->prefix6 > 128)
        return err_set(err, ERR_INVALID_ARGUMENT, "address %.64s/%lld: not an IPv6 address", nic->address6, (long long)nic->prefix6);
    if (!str_empty(nic->gateway6) && inet_pton(AF_INET6, nic->gateway6, &route.rtmsg_gateway) != 1)
        return err_set(err, ERR_INVALID_ARGUMENT, "gateway %.64s: not an IPv6 address", nic->gateway6);
    _cleanup_close_ int sock = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sock < 0 || ioctl(sock, SIOCSIFADDR, &address) < 0)
        return err_errno(err, errno, "address %s of %s", nic->address6, card->name);
    if (!str_empty(nic->gateway6) && ioctl(sock, SIOCADDRT, &route) < 0)
        return err_errno(err, errno, "default route by %s", nic->gateway6);
    return 0;
}

// What is larger than the bridge's is lost without a word.
static int set_mtu(const struct card *card, struct err *err)
{
    struct ifreq request = { .ifr_mtu = (int)card->nic->mtu };
    if (card->nic->mtu <= 0)
        return 0;
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", card->name);
    return ioctl(card->sock, SIOCSIFMTU, &request) == 0 ? 0 : err_errno(err, errno, "mtu %lld", (long long)card->nic->mtu);
}

static int set_card(struct card *card, struct err *err)
{
    const struct task_nic *nic = card->nic;
    struct in_addr address = { 0 }, gateway = { 0 };
    bool four = !str_empty(nic->address);
    if (four && inet_pton(AF_INET, nic->address, &address) != 1)
        return err_set(err, ERR_NOT_IMPLEMENTED, "address %.64s: not an IPv4 address", nic->address);
    if (!str_empty(nic->gateway) && inet_pton(AF_INET, nic->gateway, &gateway) != 1)
        return err_set(err, ERR_NOT_IMPLEMENTED, "gateway %.64s: not an IPv4 address", nic->gateway);
    if (four && (nic->prefix < 1 || nic->prefix > 32))
        return err_set(err, ERR_INVALID_ARGUMENT, "prefix %lld", (long long)nic->prefix);
    if (rename_card(card, err) < 0 || (four && set_address(card, SIOCSIFADDR, address.s_addr, err) < 0) ||
        (four && set_address(card, SIOCSIFNETMASK, network_mask(nic->prefix), err) < 0) || set_mtu(card, err) < 0 ||
        (!str_empty(nic->address6) && skip_detection(card, err) < 0) || bring_up(card->sock, card->name, err) < 0)
        return -1;
    if (!str_empty(nic->gateway) && add_gateway(card, gateway.s_addr, err) < 0)
        return -1;
    return set_ipv6(card, err);
}

static int find_card(int events_fd, struct card *card, struct err *err)
{
    char what[64];
    const char *mac = card->nic->mac;
    card->any_mac = str_empty(mac);
    if (!card->any_mac && !network_parse_mac(mac, card->mac))
        return err_set(err, ERR_INVALID_ARGUMENT, "mac %.64s", mac);
    snprintf(what, sizeof(what), "the network card %s", card->any_mac ? card->nic->name : mac);
    return device_await(events_fd, card_is_there, card, what, err);
}

int network_set(int events_fd, const struct json_list *nics, struct err *err)
{
    _cleanup_close_ int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sock < 0)
        return err_errno(err, errno, "network");
    if (bring_up(sock, "lo", err) < 0)
        return -1;
    if (nics->len > CARD_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d network cards", CARD_MAX);
    for (size_t i = 0; i < nics->len; i++) {
        struct card card = { .sock = sock, .nic = json_list_at(nics, &task_nic_table, i) };
        if (str_empty(card.nic->address) && str_empty(card.nic->address6))
            continue; // no network but the machine's own loopback
        if (find_card(events_fd, &card, err) < 0 || set_card(&card, err) < 0)
            return err_wrap(err, "network");
    }
    return 0;
}
