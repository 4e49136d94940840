// A guest's place in the network: the same as a container's, with a tap where the veth pair would be. What is configured inside
// (address, route) is the guest's own doing, from the task document.
//
// The tap is not persistent: it goes with its last descriptor, as a veth goes with its namespace.
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "base/fd.h"
#include "net_private.h"

int tap_open(const char *name, struct err *err)
{
    struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
    _cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "/dev/net/tun");
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    if (ioctl(fd, TUNSETIFF, &request) < 0)
        return err_errno(err, errno, "make tap %s", name);
    return take_fd(&fd);
}

int tap_join(struct link_socket *socket, const char *name, const char *alias, int bridge, struct err *err)
{
    struct link_info tap;
    struct err failed = { 0 };
    if (link_find(socket, name, &tap, err) < 0 || link_set_alias(socket, tap.index, alias, err) < 0)
        return -1;
    if (link_set_master(socket, tap.index, bridge, &failed) < 0) {
        if (failed.number == EXFULL)
            return err_set(err, ERR_RESOURCE_EXHAUSTED, "the bridge is full: a Linux bridge takes 1,023 ports");
        return err_set(err, failed.class, "%s", failed.message);
    }
    return link_set_up(socket, tap.index, err) < 0 ? -1 : link_set_hairpin(socket, tap.index, err);
}
