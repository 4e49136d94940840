// Docker's default profile. Whatever it does not know: a number that existed when the table was made is refused
// (EPERM), a newer one is unknown (ENOSYS), so that a libc which tries a new call first falls back to the old one.
#include <errno.h>

#include "seccomp.h"
#include "seccomp_rules.h"

#define EQ(number)                              \
    {                                           \
        .compare = FILTER_EQ, .value = (number) \
    }
#define LT(number)                              \
    {                                           \
        .compare = FILTER_LT, .value = (number) \
    }

// Address families that stay closed: 12 DECnet, 19 Econet, 20 ATM SVC, 23 IrDA, 25 wanpipe, 34 ISDN, 37 CAIF, 38 the
// kernel's crypto API, 40 vsock, and all above 45.
static const struct filter_condition socket_families[] = {
    LT(12), EQ(13), EQ(14), EQ(15), EQ(16), EQ(17), EQ(18), EQ(21), EQ(22), EQ(24), EQ(26), EQ(27), EQ(28),
    EQ(29), EQ(30), EQ(31), EQ(32), EQ(33), EQ(35), EQ(36), EQ(39), EQ(41), EQ(42), EQ(43), EQ(44), EQ(45),
};

// PER_LINUX, PER_LINUX32, both with UNAME26, and the question 0xffffffff.
static const struct filter_condition personalities[] = { EQ(0), EQ(8), EQ(0x20000), EQ(0x20008), EQ(0xffffffff) };

// clone may make no namespace: CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET.
#define NAMESPACE_FLAGS 0x7e020000U
static const struct filter_condition no_namespaces[] = { { .compare = FILTER_MASKED_EQ, .mask = NAMESPACE_FLAGS } };
static const struct filter_condition no_namespaces_s390[] = {
    { .arg = 1, .compare = FILTER_MASKED_EQ, .mask = NAMESPACE_FLAGS } // where clone's first two arguments are swapped
};

static const struct {
    const char *native, *also[2];
} companions[] = {
    { "SCMP_ARCH_X86_64", { "SCMP_ARCH_X86", "SCMP_ARCH_X32" } },
    { "SCMP_ARCH_AARCH64", { "SCMP_ARCH_ARM" } },
    { "SCMP_ARCH_MIPS64", { "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64N32" } },
    { "SCMP_ARCH_MIPSEL64", { "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64N32" } },
    { "SCMP_ARCH_S390X", { "SCMP_ARCH_S390" } },
};

#define CAP_SYS_ADMIN_BIT (UINT64_C(1) << 21)

static int allow_each(struct seccomp_rules *rules, const struct syscall_row *row,
                      const struct filter_condition *conditions, size_t len, struct err *err)
{
    for (size_t i = 0; i < len; i++) {
        struct filter_rule match = { .conditions = { conditions[i] }, .len = 1, .action = SECCOMP_RET_ALLOW };
        if (seccomp_rules_add(rules, row, &match, err) < 0)
            return -1;
    }
    return 0;
}

static bool is_s390x(const struct seccomp_rules *rules)
{
    return rules->archs[0]->column == SYSCALL_S390X;
}

static int add_call(struct seccomp_rules *rules, const struct seccomp_call *call, uint64_t caps, struct err *err)
{
    const struct syscall_row *row = syscall_find(slice_of(call->name));
    bool granted = call->caps == 0 || (call->caps & caps);
    struct filter_rule match = { .action = granted ? SECCOMP_RET_ALLOW : rules->default_action };
    if (!row)
        return err_set(err, ERR_INTERNAL, "seccomp: no numbers for %s", call->name);
    switch ((enum seccomp_call_rule)call->rule) {
    case SECCOMP_PLAIN:
        break;
    case SECCOMP_SOCKET:
        return allow_each(rules, row, socket_families, ARRAY_LEN(socket_families), err);
    case SECCOMP_PERSONALITY:
        return allow_each(rules, row, personalities, ARRAY_LEN(personalities), err);
    case SECCOMP_CLONE:
        if (!(caps & CAP_SYS_ADMIN_BIT))
            return allow_each(rules, row, is_s390x(rules) ? no_namespaces_s390 : no_namespaces, 1, err);
        break;
    case SECCOMP_ENOSYS:
        if (!granted)
            match.action = FILTER_ERRNO(ENOSYS);
        break;
    }
    return seccomp_rules_add(rules, row, &match, err);
}

static void add_archs(struct seccomp_rules *rules, const struct syscall_arch *native)
{
    seccomp_rules_add_arch(rules, native);
    for (size_t i = 0; i < ARRAY_LEN(companions); i++)
        for (size_t k = 0; str_eq(companions[i].native, native->name) && k < 2 && companions[i].also[k]; k++)
            seccomp_rules_add_arch(rules, syscall_arch_find(slice_of(companions[i].also[k])));
}

int seccomp_default_profile(uint64_t caps, struct filter_program *out, struct err *err)
{
    const struct syscall_arch *native = syscall_arch_native();
    _cleanup_(seccomp_rules_done) struct seccomp_rules rules = { .default_action = FILTER_ERRNO(EPERM),
                                                                 .newer_is_enosys = true };
    if (!native)
        return err_set(err, ERR_NOT_IMPLEMENTED, "the default seccomp profile has no table for this architecture");
    add_archs(&rules, native);
    size_t len;
    const struct seccomp_call *calls = seccomp_calls(&len);
    for (size_t i = 0; i < len; i++)
        if (add_call(&rules, &calls[i], caps, err) < 0)
            return -1;
    // Without SPEC_ALLOW older kernels slow every filtered process down by SSBD.
    out->flags = SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    return seccomp_rules_compile(&rules, out, err);
}
