// What a container's interface has beyond its address and its route: further addresses and the kernel's settings of it.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <strings.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/slice.h"
#include "net_private.h"

enum { LINK_LOCAL_BITS = 16, LINK_LOCAL_BITS6 = 64 };

static int add_address(struct link_socket *inside, int index, const char *text, struct err *err)
{
    struct in_addr in;
    number128 six;
    if (inet_pton(AF_INET, text, &in) == 1)
        return link_add_address(inside, index, ntohl(in.s_addr), LINK_LOCAL_BITS, err);
    if (address6_parse(text, &six))
        return link_add_address6(inside, index, six, LINK_LOCAL_BITS6, err);
    return err_set(err, ERR_INVALID_ARGUMENT, "invalid link-local IP address: %.100s", text);
}

static int add_addresses(const struct net_interface *interface, struct err *err)
{
    struct link_socket inside;
    if (interface->addresses->len == 0)
        return 0;
    if (link_open(&inside, err) < 0)
        return -1;
    int result = 0, index = (int)if_nametoindex(interface->name);
    for (size_t i = 0; i < interface->addresses->len && result == 0; i++)
        result = add_address(&inside, index, interface->addresses->items[i], err);
    link_close(&inside);
    return result;
}

// "net.ipv4.conf.IFNAME.log_martians": the files are those of this thread's namespace.
static int set(const char *interface, const struct kv *setting, struct err *err)
{
    struct slice rest = slice_of(setting->key), word;
    _cleanup_buf_ struct buf path = BUF_INIT(4096);
    buf_adds(&path, "/proc/sys");
    while (slice_cut(&rest, '.', &word)) {
        buf_adds(&path, "/");
        if (strncasecmp(word.data, "IFNAME", MAX_OF(word.size, strlen("IFNAME"))) == 0)
            buf_adds(&path, interface);
        else
            buf_add(&path, word.data, word.size);
    }
    _cleanup_close_ int fd = open(buf_text(&path), O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_set(err, ERR_NOT_FOUND, "%s is not a sysctl file", buf_text(&path));
    if (write(fd, setting->value, strlen(setting->value)) < 0)
        return err_errno(err, errno, "unable to write to '%s'", buf_text(&path));
    return 0;
}

static int change(void *context, int netns_fd, struct err *err)
{
    const struct net_interface *interface = context;
    if (add_addresses(interface, err) < 0)
        return -1;
    for (size_t i = 0; i < interface->settings->len; i++)
        if (set(interface->name, &interface->settings->items[i], err) < 0)
            return -1;
    return 0;
}

int net_set_interface(int netns_fd, const struct net_interface *interface, struct err *err)
{
    if (interface->addresses->len == 0 && interface->settings->len == 0)
        return 0;
    return namespace_visit(netns_fd, change, (void *)interface, err);
}
