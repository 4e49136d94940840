#include <errno.h>
#include <linux/audit.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

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
    static const struct filter_span values[] = { { 5, 9, SECCOMP_RET_ALLOW }, { UINT32_MAX, UINT32_MAX, SECCOMP_RET_ALLOW } };
    const struct filter_check checks[] = { { .spans = values, .span_len = 2, .otherwise = DENY },
                                           { .mask = 0xf0, .otherwise = DENY } };
    const struct filter_arch arch = { AUDIT_ARCH_X86_64, 0x40000000, spans, ARRAY_LEN(spans), DENY };
    struct filter_program program;
    struct err err = { 0 };
    assert_int_equal(filter_compile(&arch, 1, checks, 2, &program, &err), 0);
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
        { 0x40000032, 0, SECCOMP_RET_ALLOW },                       { 0x40000004, 0, DENY },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (run(&program, cases[i].nr, cases[i].arg) != cases[i].action)
            fail_msg("case %zu: %#x", i, run(&program, cases[i].nr, cases[i].arg));
    struct seccomp_data foreign = { .nr = 0, .arch = AUDIT_ARCH_AARCH64 };
    assert_int_equal(filter_run(&program, &foreign), SECCOMP_RET_KILL_PROCESS);
}

// Every second number allowed: the tree is deeper than a conditional jump reaches.
static void test_large(void **state)
{
    static struct filter_span spans[600];
    static struct filter_program program;
    for (uint32_t i = 0; i < 450; i++)
        spans[i] = (struct filter_span){ 2 * i, 2 * i, i % 3 ? SECCOMP_RET_ALLOW : FILTER_ERRNO(i % 7 + 1) };
    const struct filter_arch arch = { AUDIT_ARCH_X86_64, 0, spans, 450, DENY };
    struct err err = { 0 };
    assert_int_equal(filter_compile(&arch, 1, NULL, 0, &program, &err), 0);
    for (uint32_t nr = 0; nr < 1000; nr++) {
        uint32_t i = nr / 2, want = nr % 2 || nr >= 900 ? DENY : i % 3 ? SECCOMP_RET_ALLOW : FILTER_ERRNO(i % 7 + 1);
        assert_int_equal(run(&program, nr, 0), want);
    }
    for (uint32_t i = 450; i < 600; i++)
        spans[i] = (struct filter_span){ 2 * i, 2 * i, SECCOMP_RET_ALLOW };
    const struct filter_arch two[] = { { AUDIT_ARCH_X86_64, 0, spans, 600, DENY }, { AUDIT_ARCH_I386, 0, spans, 600, DENY } };
    assert_int_equal(filter_compile(two, 2, NULL, 0, &program, &err), -1); // too long, said so
}

static void test_refused(void **state)
{
    static struct filter_program program;
    struct err err = { 0 };
    struct filter_span overlap[] = { { 1, 5, SECCOMP_RET_ALLOW }, { 5, 6, DENY } };
    const struct filter_arch arch = { AUDIT_ARCH_X86_64, 0, overlap, 2, DENY };
    assert_int_equal(filter_compile(&arch, 1, NULL, 0, &program, &err), -1);
    struct filter_span nowhere[] = { { 1, 1, FILTER_CHECK(3) } };
    const struct filter_arch other = { AUDIT_ARCH_X86_64, 0, nowhere, 1, DENY };
    assert_int_equal(filter_compile(&other, 1, NULL, 0, &program, &err), -1);
}

#if defined(__x86_64__)
static void test_load(void **state)
{
    struct filter_span spans[] = { { SYS_getppid, SYS_getppid, FILTER_ERRNO(EXDEV) } };
    const struct filter_arch arch = { AUDIT_ARCH_X86_64, 0, spans, 1, SECCOMP_RET_ALLOW };
    static struct filter_program program;
    struct err err = { 0 };
    assert_int_equal(filter_compile(&arch, 1, NULL, 0, &program, &err), 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        _exit(filter_load(&program, &err) == 0 && syscall(SYS_getppid) == -1 && errno == EXDEV ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_refused),
#if defined(__x86_64__)
        cmocka_unit_test(test_load),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
