// Whatever the profile does not know: a number that existed when the table was made is refused (EPERM), a newer one is
// unknown (ENOSYS), so that a libc which tries a new call first falls back to the old one.
#include <errno.h>
#include <linux/audit.h>

#include "seccomp.h"

#define NEWEST_CALL 466 // removexattrat; numbers are the same on all architectures from 424 on
#define X32_BIT 0x40000000U
#define X32_FIRST 512
#define X32_LAST 547
#define CALLS_MAX 512

enum check { CHECK_SOCKET, CHECK_PERSONALITY, CHECK_CLONE };

// Address families that stay closed: 12 DECnet, 19 Econet, 20 ATM SVC, 23 IrDA, 25 wanpipe, 34 ISDN, 37 CAIF, 38 the
// kernel's crypto API, 40 vsock, and all above 45.
static const struct filter_span socket_families[] = {
    { 0, 11, SECCOMP_RET_ALLOW },  { 13, 18, SECCOMP_RET_ALLOW }, { 21, 22, SECCOMP_RET_ALLOW },
    { 24, 24, SECCOMP_RET_ALLOW }, { 26, 33, SECCOMP_RET_ALLOW }, { 35, 36, SECCOMP_RET_ALLOW },
    { 39, 39, SECCOMP_RET_ALLOW }, { 41, 45, SECCOMP_RET_ALLOW },
};

// PER_LINUX, PER_LINUX32, both with UNAME26, and the question 0xffffffff.
static const struct filter_span personalities[] = {
    { 0, 0, SECCOMP_RET_ALLOW },
    { 8, 8, SECCOMP_RET_ALLOW },
    { 0x20000, 0x20000, SECCOMP_RET_ALLOW },
    { 0x20008, 0x20008, SECCOMP_RET_ALLOW },
    { 0xffffffff, 0xffffffff, SECCOMP_RET_ALLOW },
};

// clone may make no namespace: CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET.
#define NAMESPACE_FLAGS 0x7e020000U

static const struct filter_check checks[] = {
    [CHECK_SOCKET] = { .spans = socket_families, .span_len = ARRAY_LEN(socket_families), .otherwise = FILTER_ERRNO(EPERM) },
    [CHECK_PERSONALITY] = { .spans = personalities, .span_len = ARRAY_LEN(personalities), .otherwise = FILTER_ERRNO(EPERM) },
    [CHECK_CLONE] = { .mask = NAMESPACE_FLAGS, .otherwise = FILTER_ERRNO(EPERM) },
};

#define CAP_SYS_ADMIN_BIT (UINT64_C(1) << 21)

static uint32_t action_of(const struct seccomp_call *call, uint64_t caps)
{
    bool granted = call->caps == 0 || (call->caps & caps);
    switch ((enum seccomp_rule)call->rule) {
    case SECCOMP_PLAIN: break;
    case SECCOMP_SOCKET: return FILTER_CHECK(CHECK_SOCKET);
    case SECCOMP_PERSONALITY: return FILTER_CHECK(CHECK_PERSONALITY);
    case SECCOMP_CLONE: return caps & CAP_SYS_ADMIN_BIT ? SECCOMP_RET_ALLOW : FILTER_CHECK(CHECK_CLONE);
    case SECCOMP_ENOSYS: return granted ? SECCOMP_RET_ALLOW : FILTER_ERRNO(ENOSYS);
    }
    return granted ? SECCOMP_RET_ALLOW : FILTER_ERRNO(EPERM);
}

struct spans {
    struct filter_span items[CALLS_MAX * 2];
    size_t len;
};

static void add_span(struct spans *spans, int64_t first, int64_t last, uint32_t action)
{
    if (first >= 0 && spans->len < ARRAY_LEN(spans->items))
        spans->items[spans->len++] = (struct filter_span){ (uint32_t)first, (uint32_t)last, action };
}

int seccomp_default_profile(uint64_t caps, struct filter_program *out, struct err *err)
{
#if !defined(__x86_64__)
    return err_set(err, ERR_NOT_IMPLEMENTED, "the default seccomp profile has no table for this architecture");
#endif
    size_t len;
    const struct seccomp_call *calls = seccomp_calls(&len);
    struct spans native = { .len = 0 }, compat = { .len = 0 };
    for (size_t i = 0; i < len; i++) {
        uint32_t action = action_of(&calls[i], caps);
        add_span(&native, calls[i].x86_64, calls[i].x86_64, action);
        add_span(&native, calls[i].x32, calls[i].x32, action);
        add_span(&compat, calls[i].i386, calls[i].i386, action);
    }
    // x32 has the numbers of x86_64 with a bit set, and 36 of its own, which mean nothing without that bit: one search
    // serves both.
    add_span(&native, NEWEST_CALL + 1, X32_FIRST - 1, FILTER_ERRNO(ENOSYS));
    add_span(&native, X32_LAST + 1, UINT32_MAX, FILTER_ERRNO(ENOSYS));
    add_span(&compat, NEWEST_CALL + 1, UINT32_MAX, FILTER_ERRNO(ENOSYS));
    struct filter_arch arches[] = {
        { AUDIT_ARCH_X86_64, X32_BIT, native.items, native.len, FILTER_ERRNO(EPERM) },
        { AUDIT_ARCH_I386, 0, compat.items, compat.len, FILTER_ERRNO(EPERM) },
    };
    return filter_compile(arches, ARRAY_LEN(arches), checks, ARRAY_LEN(checks), out, err);
}
