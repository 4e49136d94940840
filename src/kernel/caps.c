#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "kernel/caps.h"

// Index is the capability's number.
static const char *const names[] = {
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
};

#define BIT(number) (UINT64_C(1) << (number))

int caps_number(const char *name)
{
    if (!name)
        return -1;
    bool full = strncasecmp(name, "CAP_", 4) == 0;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcasecmp(names[i] + (full ? 0 : 4), name) == 0)
            return (int)i;
    return -1;
}

const char *caps_name(int number)
{
    return number >= 0 && (size_t)number < ARRAY_LEN(names) ? names[number] : NULL;
}

int caps_last(void)
{
    // PR_CAPBSET_READ answers EINVAL beyond the kernel's highest; halving finds the edge in six calls.
    int low = 0, high = 63;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (prctl(PR_CAPBSET_READ, middle, 0, 0, 0) >= 0)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

uint64_t caps_docker_default(void)
{
    return BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FSETID) | BIT(CAP_FOWNER) | BIT(CAP_MKNOD) |
           BIT(CAP_NET_RAW) | BIT(CAP_SETGID) | BIT(CAP_SETUID) | BIT(CAP_SETFCAP) | BIT(CAP_SETPCAP) |
           BIT(CAP_NET_BIND_SERVICE) | BIT(CAP_SYS_CHROOT) | BIT(CAP_KILL) | BIT(CAP_AUDIT_WRITE);
}

uint64_t caps_all(void)
{
    int last = caps_last();
    return last >= 63 ? UINT64_MAX : BIT(last + 1) - 1;
}

static uint64_t read_mask(int op)
{
    uint64_t mask = 0;
    for (int cap = 0; cap <= 63; cap++) {
        int has = op ? prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) : prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
        if (has < 0)
            break;
        if (has > 0)
            mask |= BIT(cap);
    }
    return mask;
}

static uint64_t join(uint32_t low, uint32_t high)
{
    return (uint64_t)high << 32 | low;
}

static int get_three(struct caps_sets *out, struct err *err)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2] = { 0 };
    if (syscall(SYS_capget, &header, data) < 0)
        return err_errno(err, errno, "read capabilities");
    out->effective = join(data[0].effective, data[1].effective);
    out->permitted = join(data[0].permitted, data[1].permitted);
    out->inheritable = join(data[0].inheritable, data[1].inheritable);
    return 0;
}

int caps_get(struct caps_sets *out, struct err *err)
{
    if (get_three(out, err) < 0)
        return -1;
    out->bounding = read_mask(0);
    out->ambient = read_mask(1);
    return 0;
}

int caps_drop_bounding(uint64_t bounding, struct err *err)
{
    for (int cap = 0; cap <= 63; cap++) {
        if (bounding & BIT(cap))
            continue;
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0)
            continue;
        if (errno == EINVAL)
            return 0; // beyond the kernel's last
        int has = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
        if (has != 0)
            return err_errno(err, EPERM, "drop %s from the bounding set", caps_name(cap) ? caps_name(cap) : "capability");
    }
    return 0;
}

static int set_ambient(uint64_t ambient, struct err *err)
{
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return err_errno(err, errno, "clear ambient capabilities");
    for (int cap = 0; cap <= 63; cap++)
        if ((ambient & BIT(cap)) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
            return err_errno(err, errno, "raise ambient %s", caps_name(cap) ? caps_name(cap) : "capability");
    return 0;
}

int caps_set(const struct caps_sets *sets, struct err *err)
{
    struct caps_sets now;
    if (get_three(&now, err) < 0)
        return -1;
    uint64_t permitted = sets->permitted & now.permitted;
    uint64_t effective = sets->effective & permitted;
    uint64_t inheritable = sets->inheritable & (now.permitted | now.inheritable);
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2] = {
        { (uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable },
        { (uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32) },
    };
    if (syscall(SYS_capset, &header, data) < 0)
        return err_errno(err, errno, "set capabilities");
    return set_ambient(sets->ambient & permitted & inheritable, err);
}
