// Our filter against libseccomp: the same numbers for the names, and the same decisions for every number.
#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernel/caps.h"
#include "sandbox/seccomp.h"

#define X32_BIT 0x40000000

static void test_numbers(void **state)
{
    size_t len, unknown = 0;
    const struct seccomp_call *calls = seccomp_calls(&len);
    static const uint32_t arches[] = { SCMP_ARCH_X86_64, SCMP_ARCH_X86, SCMP_ARCH_X32 };
    for (size_t i = 0; i < len; i++) {
        const int16_t ours[] = { calls[i].x86_64, calls[i].i386, calls[i].x32 };
        for (int arch = 0; arch < 3; arch++) {
            int theirs = seccomp_syscall_resolve_name_arch(arches[arch], calls[i].name);
            if (theirs == __NR_SCMP_ERROR) {
                unknown++; // newer than the library
                continue;
            }
            if (theirs < 0) // by its own numbering: does not exist there, or is multiplexed (i386's sockets and ipc)
                continue;
            if (arch == 2 && (theirs & ~X32_BIT) == calls[i].x86_64)
                continue;
            if (ours[arch] != (theirs & ~X32_BIT) && ours[arch] >= 0)
                fail_msg("%s: %d, not %d", calls[i].name, theirs, ours[arch]);
            if (ours[arch] < 0 && theirs < 424)
                fail_msg("%s: has a number: %d", calls[i].name, theirs);
        }
    }
    assert_true(unknown < len / 4);
}

// The profile as a user of libseccomp would write it.
static scmp_filter_ctx oracle(uint64_t caps, uint32_t arch)
{
    size_t len;
    const struct seccomp_call *calls = seccomp_calls(&len);
    scmp_filter_ctx context = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (arch != SCMP_ARCH_X86_64) {
        assert_int_equal(seccomp_arch_remove(context, SCMP_ARCH_X86_64), 0);
        assert_int_equal(seccomp_arch_add(context, arch), 0);
    }
    for (size_t i = 0; i < len; i++) {
        int nr = arch == SCMP_ARCH_X86_64 ? calls[i].x86_64 : calls[i].i386;
        bool granted = calls[i].caps == 0 || (calls[i].caps & caps);
        // Rules are added by the native number and translated: only what has the same name there is compared.
        int native = seccomp_syscall_resolve_name(calls[i].name);
        if (nr < 0 || native == __NR_SCMP_ERROR)
            continue;
        if (calls[i].rule == SECCOMP_PLAIN && granted)
            seccomp_rule_add(context, SCMP_ACT_ALLOW, native, 0);
        else if (calls[i].rule == SECCOMP_ENOSYS)
            seccomp_rule_add(context, granted ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(ENOSYS), native, 0);
        else if (calls[i].rule == SECCOMP_CLONE && (caps & (UINT64_C(1) << CAP_SYS_ADMIN)))
            seccomp_rule_add(context, SCMP_ACT_ALLOW, native, 0);
        else if (calls[i].rule == SECCOMP_CLONE)
            seccomp_rule_add(context, SCMP_ACT_ALLOW, native, 1, SCMP_A0(SCMP_CMP_MASKED_EQ, 0x7e020000, 0));
        else if (calls[i].rule == SECCOMP_PERSONALITY)
            for (int k = 0; k < 5; k++)
                seccomp_rule_add(context, SCMP_ACT_ALLOW, native, 1,
                                 SCMP_A0(SCMP_CMP_EQ, ((const uint32_t[]){ 0, 8, 0x20000, 0x20008, 0xffffffff })[k]));
        else if (calls[i].rule == SECCOMP_SOCKET) {
            static const int open[] = { 13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44, 45 };
            seccomp_rule_add(context, SCMP_ACT_ALLOW, native, 1, SCMP_A0(SCMP_CMP_LT, 12));
            for (size_t k = 0; k < ARRAY_LEN(open); k++)
                seccomp_rule_add(context, SCMP_ACT_ALLOW, native, 1, SCMP_A0(SCMP_CMP_EQ, open[k]));
        }
    }
    return context;
}

static void export_program(scmp_filter_ctx context, struct filter_program *out)
{
    int fd = memfd_create("bpf", MFD_CLOEXEC);
    assert_int_equal(seccomp_export_bpf(context, fd), 0);
    off_t size = lseek(fd, 0, SEEK_END);
    assert_true(size > 0 && (size_t)size <= sizeof(out->code));
    assert_int_equal(pread(fd, out->code, (size_t)size, 0), size);
    out->len = (size_t)size / sizeof(out->code[0]);
    close(fd);
    seccomp_release(context);
}

static const uint64_t arguments[] = { 0, 1, 8, 11, 12, 13, 16, 19, 20, 23, 34, 38, 40, 45, 46, 0x11, 0x1200011, 0x10000000, 0x20000000,
                                      0x00020000, 0x20008, 0x02000000, 0x7e020000, 0xffffffff, UINT64_C(0x100000000), UINT64_C(0x10000000d), UINT64_MAX };

static void compare(uint64_t caps, uint32_t theirs, uint32_t audit_arch)
{
    static struct filter_program ours, library;
    struct err err = { 0 };
    assert_int_equal(seccomp_default_profile(caps, &ours, &err), 0);
    export_program(oracle(caps, theirs), &library);
    for (int nr = 0; nr <= 450; nr++) { // all that the library knows
        char *name = seccomp_syscall_resolve_num_arch(theirs, nr);
        bool known = name != NULL;
        free(name);
        for (size_t i = 0; known && i < ARRAY_LEN(arguments); i++) {
            struct seccomp_data data = { .nr = nr, .arch = audit_arch, .args = { arguments[i] } };
            uint32_t want = filter_run(&library, &data), got = filter_run(&ours, &data);
            if (audit_arch == AUDIT_ARCH_I386 && arguments[i] > UINT32_MAX)
                continue; // no such arguments there
            if (want != got)
                fail_msg("call %d(%#llx) of %#x: %#x, libseccomp says %#x", nr, (unsigned long long)arguments[i], audit_arch, got, want);
        }
    }
}

static void test_decisions(void **state)
{
    static const uint64_t sets[] = { 0, UINT64_MAX, UINT64_C(1) << CAP_SYS_ADMIN, UINT64_C(1) << CAP_BPF, UINT64_C(1) << CAP_SYS_PTRACE,
                                     UINT64_C(1) << CAP_SYS_TIME };
    compare(caps_docker_default(), SCMP_ARCH_X86_64, AUDIT_ARCH_X86_64);
    for (size_t i = 0; i < ARRAY_LEN(sets); i++)
        compare(sets[i], SCMP_ARCH_X86_64, AUDIT_ARCH_X86_64);
}

static uint32_t decide(const struct filter_program *program, uint32_t arch, int nr)
{
    struct seccomp_data data = { .nr = nr, .arch = arch };
    return filter_run(program, &data);
}

static void test_edges(void **state)
{
    static struct filter_program program;
    struct err err = { 0 };
    assert_int_equal(seccomp_default_profile(caps_docker_default(), &program, &err), 0);
    static const struct {
        uint32_t arch;
        int nr;
        uint32_t action;
    } cases[] = {
        { AUDIT_ARCH_X86_64, 0, SECCOMP_RET_ALLOW },                     // read
        { AUDIT_ARCH_X86_64, 165, FILTER_ERRNO(EPERM) },                 // mount
        { AUDIT_ARCH_X86_64, 435, FILTER_ERRNO(ENOSYS) },                // clone3
        { AUDIT_ARCH_X86_64, 425, FILTER_ERRNO(EPERM) },                 // io_uring_setup
        { AUDIT_ARCH_X86_64, 466, SECCOMP_RET_ALLOW },                   // removexattrat
        { AUDIT_ARCH_X86_64, 467, FILTER_ERRNO(ENOSYS) },                // newer than the table
        { AUDIT_ARCH_X86_64, 0x3fffffff, FILTER_ERRNO(ENOSYS) },
        { AUDIT_ARCH_X86_64, -1, FILTER_ERRNO(ENOSYS) },
        { AUDIT_ARCH_X86_64, X32_BIT | 0, SECCOMP_RET_ALLOW },           // read of x32
        { AUDIT_ARCH_X86_64, X32_BIT | 514, SECCOMP_RET_ALLOW },         // its own ioctl
        { AUDIT_ARCH_X86_64, X32_BIT | 528, FILTER_ERRNO(EPERM) },       // its own kexec_load
        { AUDIT_ARCH_X86_64, X32_BIT | 165, FILTER_ERRNO(EPERM) },
        { AUDIT_ARCH_X86_64, X32_BIT | 548, FILTER_ERRNO(ENOSYS) },
        { AUDIT_ARCH_I386, 3, SECCOMP_RET_ALLOW },                       // read
        { AUDIT_ARCH_I386, 21, FILTER_ERRNO(EPERM) },                    // mount
        { AUDIT_ARCH_I386, 102, SECCOMP_RET_ALLOW },                     // socketcall
        { AUDIT_ARCH_I386, 435, FILTER_ERRNO(ENOSYS) },
        { AUDIT_ARCH_I386, 467, FILTER_ERRNO(ENOSYS) },
        { AUDIT_ARCH_AARCH64, 63, SECCOMP_RET_KILL_PROCESS },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (decide(&program, cases[i].arch, cases[i].nr) != cases[i].action)
            fail_msg("%#x %d: %#x", cases[i].arch, cases[i].nr, decide(&program, cases[i].arch, cases[i].nr));
    assert_true(program.len < 500);
}

// The other architecture by our own table: every name as it is there, everything else refused.
static void test_i386(void **state)
{
    static struct filter_program program;
    struct err err = { 0 };
    size_t len;
    const struct seccomp_call *calls = seccomp_calls(&len);
    assert_int_equal(seccomp_default_profile(0, &program, &err), 0);
    for (int nr = 0; nr <= 466; nr++) {
        uint32_t want = FILTER_ERRNO(EPERM);
        for (size_t i = 0; i < len; i++) {
            if (calls[i].i386 != nr)
                continue;
            bool closed = calls[i].caps != 0;
            want = calls[i].rule == SECCOMP_ENOSYS ? FILTER_ERRNO(ENOSYS) : closed ? FILTER_ERRNO(EPERM) : SECCOMP_RET_ALLOW;
        }
        if (decide(&program, AUDIT_ARCH_I386, nr) != want) // argument 0 is allowed by all three checks
            fail_msg("i386 %d: %#x", nr, decide(&program, AUDIT_ARCH_I386, nr));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_decisions),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_i386),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
