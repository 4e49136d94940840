#include <errno.h>
#include <linux/audit.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "kernel/filter.h"

#define DENY FILTER_ERRNO(EPERM)

static uint32_t run(const struct filter_program *program, uint32_t nr, uint64_t arg)
{
    struct seccomp_data data = { .nr = (int)nr, .arch = AUDIT_ARCH_X86_64, .args = { arg } };
    return filter_run(program, &data);
}

static void test_spans(void **state)
{
    struct filter_span spans[] = { { 50, 60, SECCOMP_RET_ALLOW }, { 0, 3, SECCOMP_RET_ALLOW },
                                   { 61, 61, FILTER_CHECK(0) },   { 100, UINT32_MAX, FILTER_ERRNO(ENOSYS) },
                                   { 62, 62, FILTER_CHECK(1) } };
    static const struct filter_rule values[] = {
        { .conditions = { { .compare = FILTER_GE, .value = 5 }, { .compare = FILTER_LE, .value = 9 } }, .len = 2, .action = SECCOMP_RET_ALLOW },
        { .conditions = { { .compare = FILTER_EQ, .value = UINT32_MAX } }, .len = 1, .action = SECCOMP_RET_ALLOW },
    };
    static const struct filter_rule bits[] = {
        { .conditions = { { .compare = FILTER_MASKED_EQ, .mask = 0xf0 } }, .len = 1, .action = SECCOMP_RET_ALLOW },
    };
    const struct filter_check checks[] = { { .rules = values, .rule_len = 2, .otherwise = DENY, .wide = true },
                                           { .rules = bits, .rule_len = 1, .otherwise = DENY, .wide = true } };
    const struct filter_arch arch = { AUDIT_ARCH_X86_64, spans, ARRAY_LEN(spans), DENY };
    static struct filter_program program;
    struct err err = { 0 };
    assert_int_equal(filter_compile(&arch, 1, checks, 2, SECCOMP_RET_TRAP, &program, &err), 0);
    static const struct {
        uint32_t nr;
        uint64_t arg;
        uint32_t action;
    } cases[] = {
        { 0, 0, SECCOMP_RET_ALLOW },  { 3, 0, SECCOMP_RET_ALLOW },  { 4, 0, DENY },  { 49, 0, DENY }, { 50, 0, SECCOMP_RET_ALLOW },
        { 60, 0, SECCOMP_RET_ALLOW }, { 61, 4, DENY },              { 61, 5, SECCOMP_RET_ALLOW },     { 61, 10, DENY },
        { 61, UINT32_MAX, SECCOMP_RET_ALLOW },                      { 61, UINT64_C(5) << 32 | 5, DENY }, { 62, 0x0f, SECCOMP_RET_ALLOW },
        { 62, 0x10, DENY },           { 62, UINT64_C(0xf0) << 32, SECCOMP_RET_ALLOW },                { 63, 0, DENY },
        { 99, 0, DENY },              { 100, 0, FILTER_ERRNO(ENOSYS) }, { 0x3fffffff, 0, FILTER_ERRNO(ENOSYS) },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (run(&program, cases[i].nr, cases[i].arg) != cases[i].action)
            fail_msg("case %zu: %#x", i, run(&program, cases[i].nr, cases[i].arg));
    struct seccomp_data foreign = { .nr = 0, .arch = AUDIT_ARCH_AARCH64 };
    assert_int_equal(filter_run(&program, &foreign), SECCOMP_RET_TRAP);
}

// Every second number allowed: the tree is deeper than a conditional jump reaches.
static void test_large(void **state)
{
    static struct filter_span spans[1200];
    static struct filter_program program;
    for (uint32_t i = 0; i < 450; i++)
        spans[i] = (struct filter_span){ 2 * i, 2 * i, i % 3 ? SECCOMP_RET_ALLOW : FILTER_ERRNO(i % 7 + 1) };
    const struct filter_arch arch = { AUDIT_ARCH_X86_64, spans, 450, DENY };
    struct err err = { 0 };
    assert_int_equal(filter_compile(&arch, 1, NULL, 0, SECCOMP_RET_TRAP, &program, &err), 0);
    for (uint32_t nr = 0; nr < 1000; nr++) {
        uint32_t i = nr / 2, want = nr % 2 || nr >= 900 ? DENY : i % 3 ? SECCOMP_RET_ALLOW : FILTER_ERRNO(i % 7 + 1);
        assert_int_equal(run(&program, nr, 0), want);
    }
    for (uint32_t i = 450; i < 1200; i++)
        spans[i] = (struct filter_span){ 2 * i, 2 * i, SECCOMP_RET_ALLOW };
    const struct filter_arch two[] = { { AUDIT_ARCH_X86_64, spans, 1200, DENY }, { AUDIT_ARCH_I386, spans, 1200, DENY } };
    assert_int_equal(filter_compile(two, 2, NULL, 0, SECCOMP_RET_TRAP, &program, &err), -1); // too long, said so
    assert_int_equal(err.class, ERR_RESOURCE_EXHAUSTED);
}

// Each comparison at the edges of both halves, on little- and big-endian machines, wide and narrow.
static bool holds(enum filter_compare compare, uint64_t arg, uint64_t value, uint64_t mask)
{
    switch (compare) {
    case FILTER_NE: return arg != value;
    case FILTER_LT: return arg < value;
    case FILTER_LE: return arg <= value;
    case FILTER_EQ: return arg == value;
    case FILTER_GE: return arg >= value;
    case FILTER_GT: return arg > value;
    case FILTER_MASKED_EQ: return (arg & mask) == (value & mask);
    }
    return false;
}

static void check_comparison(const struct filter_condition *condition, bool wide, bool big_endian, uint64_t arg)
{
    static struct filter_program program;
    struct filter_span span = { 9, 9, FILTER_CHECK(0) };
    const struct filter_rule rule = { .conditions = { *condition }, .len = 1, .action = FILTER_ERRNO(7) };
    const struct filter_check check = { &rule, 1, DENY, wide, big_endian };
    const struct filter_arch arch = { AUDIT_ARCH_X86_64, &span, 1, SECCOMP_RET_ALLOW };
    struct err err = { 0 };
    assert_int_equal(filter_compile(&arch, 1, &check, 1, SECCOMP_RET_TRAP, &program, &err), 0);
    struct seccomp_data data = { .nr = 9, .arch = AUDIT_ARCH_X86_64 };
    data.args[condition->arg] = big_endian ? arg >> 32 | arg << 32 : arg;
    uint64_t kept = wide ? UINT64_MAX : UINT32_MAX;
    bool want = holds(condition->compare, arg & kept, condition->value & kept, condition->mask & kept);
    assert_int_equal(filter_run(&program, &data), want ? FILTER_ERRNO(7) : DENY);
}

static void test_comparisons(void **state)
{
    static const uint64_t values[] = { 0, 1, 0x7fffffff, 0x80000000, 0xffffffff, UINT64_C(0x100000000), UINT64_C(0x100000001),
                                       UINT64_C(0x7fffffffffffffff), UINT64_C(0x8000000000000000), UINT64_MAX - 1, UINT64_MAX };
    for (uint8_t compare = FILTER_NE; compare <= FILTER_MASKED_EQ; compare++)
        for (size_t i = 0; i < ARRAY_LEN(values); i++)
            for (size_t k = 0; k < ARRAY_LEN(values); k++)
                for (int kind = 0; kind < 4; kind++) {
                    struct filter_condition condition = { (uint8_t)(i % 6), compare, values[i], values[(i + k) % ARRAY_LEN(values)] };
                    check_comparison(&condition, kind & 1, kind & 2, values[k]);
                }
}

static void test_refused(void **state)
{
    static struct filter_program program;
    struct err err = { 0 };
    struct filter_span overlap[] = { { 1, 5, SECCOMP_RET_ALLOW }, { 5, 6, DENY } };
    const struct filter_arch arch = { AUDIT_ARCH_X86_64, overlap, 2, DENY };
    assert_int_equal(filter_compile(&arch, 1, NULL, 0, SECCOMP_RET_TRAP, &program, &err), -1);
    struct filter_span nowhere[] = { { 1, 1, FILTER_CHECK(3) } };
    const struct filter_arch other = { AUDIT_ARCH_X86_64, nowhere, 1, DENY };
    assert_int_equal(filter_compile(&other, 1, NULL, 0, SECCOMP_RET_TRAP, &program, &err), -1);
    const struct filter_rule rule = { .conditions = { { .arg = 6 } }, .len = 1 };
    const struct filter_check check = { .rules = &rule, .rule_len = 1 };
    assert_int_equal(filter_compile(&other, 1, &check, 1, SECCOMP_RET_TRAP, &program, &err), -1);
    program.flags = SECCOMP_FILTER_FLAG_NEW_LISTENER;
    assert_int_equal(filter_load(&program, &err), -1);
    program.flags = 0;
    assert_int_equal(filter_load_listener(&program, &err), -1);
}

#if defined(__x86_64__)
static void test_load(void **state)
{
    struct filter_span spans[] = { { SYS_getppid, SYS_getppid, FILTER_ERRNO(EXDEV) } };
    const struct filter_arch arch = { AUDIT_ARCH_X86_64, spans, 1, SECCOMP_RET_ALLOW };
    static struct filter_program program;
    struct err err = { 0 };
    assert_int_equal(filter_compile(&arch, 1, NULL, 0, SECCOMP_RET_TRAP, &program, &err), 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        _exit(filter_load(&program, &err) == 0 && syscall(SYS_getppid) == -1 && errno == EXDEV ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

// Somebody else answers the call.
static void test_listener(void **state)
{
    struct filter_span spans[] = { { SYS_getppid, SYS_getppid, SECCOMP_RET_USER_NOTIF } };
    const struct filter_arch arch = { AUDIT_ARCH_X86_64, spans, 1, SECCOMP_RET_ALLOW };
    static struct filter_program program;
    struct err err = { 0 };
    int sockets[2], listener;
    size_t len = 1;
    char byte;
    assert_int_equal(filter_compile(&arch, 1, NULL, 0, SECCOMP_RET_TRAP, &program, &err), 0);
    program.flags = SECCOMP_FILTER_FLAG_NEW_LISTENER;
    assert_int_equal(fd_socketpair(SOCK_SEQPACKET, sockets, &err), 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        listener = filter_load_listener(&program, &err);
        if (listener < 0 || fd_send(sockets[1], "x", 1, &listener, 1, &err) < 0)
            _exit(1);
        _exit(syscall(SYS_getppid) == 4711 ? 0 : 2);
    }
    assert_int_equal(fd_recv(sockets[0], &byte, 1, &listener, &len, &err), 1);
    assert_int_equal(len, 1);
    struct seccomp_notif request = { 0 };
    assert_int_equal(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request), 0);
    assert_int_equal(request.data.nr, SYS_getppid);
    struct seccomp_notif_resp answer = { .id = request.id, .val = 4711 };
    assert_int_equal(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer), 0);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(listener);
    close(sockets[0]);
    close(sockets[1]);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_comparisons),
        cmocka_unit_test(test_refused),
#if defined(__x86_64__)
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_listener),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
