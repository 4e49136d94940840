#include <errno.h>
#include <linux/keyctl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "plan.h"

int op_join_cgroup(struct child *child, const struct op *op, struct err *err)
{
    for (size_t i = 0; i < child->join_len; i++)
        if (write(child->join_fds[i], "0", 1) != 1)
            return err_errno(err, errno, "write tasks");
    return 0;
}

int op_join_namespace(struct child *child, const struct op *op, struct err *err)
{
    return setns(op->fd, (int)op->flags) == 0 ? 0 : err_errno(err, errno, "setns");
}

int op_cgroup_namespace(struct child *child, const struct op *op, struct err *err)
{
    return unshare(CLONE_NEWCGROUP) == 0 ? 0 : err_errno(err, errno, "unshare");
}

// The caller's keyring may hold keys of the host. A kernel without keys, or a user's used-up quota, is no reason not to run.
int op_keyring(struct child *child, const struct op *op, struct err *err)
{
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) >= 0 || errno == ENOSYS || errno == EDQUOT)
        return 0;
    return err_errno(err, errno, "keyctl");
}

int op_loopback(struct child *child, const struct op *op, struct err *err)
{
    _cleanup_close_ int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sock < 0)
        return err_errno(err, errno, "socket");
    struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
    return ioctl(sock, SIOCSIFFLAGS, &request) == 0 ? 0 : err_errno(err, errno, "lo");
}

int op_hostname(struct child *child, const struct op *op, struct err *err)
{
    return sethostname(op->text, strlen(op->text)) == 0 ? 0 : err_errno(err, errno, "%s", op->text);
}

int op_domainname(struct child *child, const struct op *op, struct err *err)
{
    return setdomainname(op->text, strlen(op->text)) == 0 ? 0 : err_errno(err, errno, "%s", op->text);
}
