#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernel/caps.h"
#include "sandbox/seccomp.h"

#define BIT(cap) (UINT64_C(1) << (cap))

static struct filter_program program;

static void compile(const char *text, uint64_t caps)
{
    struct err err = { 0 };
    if (seccomp_compile_text(text, strlen(text), caps, &program, &err) < 0)
        fail_msg("%s", err.message);
}

static uint32_t decide(uint32_t arch, int nr, uint64_t arg0, uint64_t arg1)
{
    struct seccomp_data data = { .nr = nr, .arch = arch, .args = { arg0, arg1 } };
    return filter_run(&program, &data);
}

static uint32_t native(int nr)
{
    return decide(AUDIT_ARCH_X86_64, nr, 0, 0);
}

// Docker's form: what is included and excluded by architecture, capability and kernel.
static const char docker_profile[] =
    "{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"defaultErrnoRet\": 13,"
    " \"archMap\": [{\"architecture\": \"SCMP_ARCH_X86_64\", \"subArchitectures\": [\"SCMP_ARCH_X86\"]},"
    "               {\"architecture\": \"SCMP_ARCH_AARCH64\", \"subArchitectures\": [\"SCMP_ARCH_ARM\"]}],"
    " \"syscalls\": ["
    "  {\"names\": [\"read\", \"write\", \"nosuchcall\", \"cachestat\"], \"action\": \"SCMP_ACT_ALLOW\", \"comment\": \"x\"},"
    "  {\"name\": \"close\", \"action\": \"SCMP_ACT_ALLOW\"},"
    "  {\"names\": [\"ptrace\"], \"action\": \"SCMP_ACT_ALLOW\", \"includes\": {\"minKernel\": \"4.8\"}},"
    "  {\"names\": [\"kcmp\"], \"action\": \"SCMP_ACT_ALLOW\", \"includes\": {\"minKernel\": \"200.1\"}},"
    "  {\"names\": [\"mount\"], \"action\": \"SCMP_ACT_ALLOW\", \"includes\": {\"caps\": [\"CAP_SYS_ADMIN\"]}},"
    "  {\"names\": [\"umount2\"], \"action\": \"SCMP_ACT_ALLOW\", \"includes\": {\"caps\": [\"CAP_SYS_ADMIN\", \"CAP_BPF\"]}},"
    "  {\"names\": [\"clone\"], \"action\": \"SCMP_ACT_ALLOW\", \"excludes\": {\"caps\": [\"CAP_SYS_ADMIN\"], \"arches\": [\"s390x\"]},"
    "   \"args\": [{\"index\": 0, \"value\": 2114060288, \"valueTwo\": 0, \"op\": \"SCMP_CMP_MASKED_EQ\"}]},"
    "  {\"names\": [\"clone\"], \"action\": \"SCMP_ACT_ALLOW\", \"includes\": {\"arches\": [\"s390x\"]}},"
    "  {\"names\": [\"clone3\"], \"action\": \"SCMP_ACT_ERRNO\", \"errnoRet\": 38, \"excludes\": {\"caps\": [\"CAP_SYS_ADMIN\"]}},"
    "  {\"names\": [\"arch_prctl\"], \"action\": \"SCMP_ACT_ALLOW\", \"includes\": {\"arches\": [\"amd64\", \"x32\"]}},"
    "  {\"names\": [\"getpid\"], \"action\": \"SCMP_ACT_ALLOW\", \"excludes\": {\"arches\": [\"amd64\"]}},"
    "  {\"names\": [\"getuid\"], \"action\": \"SCMP_ACT_ALLOW\", \"excludes\": {\"minKernel\": \"4.8\"}}"
    "]}";

static void test_docker_form(void **state)
{
    static const struct {
        int nr;
        uint32_t plain, admin;
    } cases[] = {
        { SYS_read, SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW },
        { SYS_close, SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW },
        { SYS_ptrace, SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW },
        { SYS_kcmp, FILTER_ERRNO(13), FILTER_ERRNO(13) },
        { SYS_mount, FILTER_ERRNO(13), SECCOMP_RET_ALLOW },
        { SYS_umount2, FILTER_ERRNO(13), FILTER_ERRNO(13) },
        { SYS_clone, SECCOMP_RET_ALLOW, FILTER_ERRNO(13) },
        { SYS_clone3, FILTER_ERRNO(38), FILTER_ERRNO(13) },
        { SYS_arch_prctl, SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW },
        { SYS_getpid, FILTER_ERRNO(13), FILTER_ERRNO(13) },
        { SYS_getuid, FILTER_ERRNO(13), FILTER_ERRNO(13) },
        { 451, SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW }, // cachestat, the newest that is named
        { 452, FILTER_ERRNO(ENOSYS), FILTER_ERRNO(ENOSYS) },
    };
    for (int admin = 0; admin < 2; admin++) {
        compile(docker_profile, admin ? BIT(CAP_SYS_ADMIN) : 0);
        assert_int_equal(program.flags, SECCOMP_FILTER_FLAG_SPEC_ALLOW);
        for (size_t i = 0; i < ARRAY_LEN(cases); i++)
            if (native(cases[i].nr) != (admin ? cases[i].admin : cases[i].plain))
                fail_msg("call %d: %#x", cases[i].nr, native(cases[i].nr));
    }
    compile(docker_profile, 0);
    assert_int_equal(decide(AUDIT_ARCH_X86_64, SYS_clone, 0x11, 0), SECCOMP_RET_ALLOW);
    assert_int_equal(decide(AUDIT_ARCH_X86_64, SYS_clone, 0x10000000, 0), FILTER_ERRNO(13));
    assert_int_equal(decide(AUDIT_ARCH_I386, 3, 0, 0), SECCOMP_RET_ALLOW);
    assert_int_equal(decide(AUDIT_ARCH_X86_64, 0x40000000, 0, 0), SECCOMP_RET_KILL_THREAD); // x32 is not listed
    assert_int_equal(decide(AUDIT_ARCH_AARCH64, 63, 0, 0), SECCOMP_RET_KILL_THREAD);
}

static void test_actions(void **state)
{
    static const struct {
        const char *action;
        uint32_t value;
        unsigned flags;
    } cases[] = {
        { "\"SCMP_ACT_KILL\"", SECCOMP_RET_KILL_THREAD, 0 },
        { "\"SCMP_ACT_KILL_THREAD\"", SECCOMP_RET_KILL_THREAD, 0 },
        { "\"SCMP_ACT_KILL_PROCESS\"", SECCOMP_RET_KILL_PROCESS, 0 },
        { "\"SCMP_ACT_TRAP\"", SECCOMP_RET_TRAP, 0 },
        { "\"SCMP_ACT_ERRNO\"", FILTER_ERRNO(EPERM), 0 },
        { "\"SCMP_ACT_ERRNO\", \"errnoRet\": 0", SECCOMP_RET_ERRNO, 0 },
        { "\"SCMP_ACT_ERRNO\", \"errnoRet\": 5", FILTER_ERRNO(5), 0 },
        { "\"SCMP_ACT_TRACE\"", SECCOMP_RET_TRACE | EPERM, 0 },
        { "\"SCMP_ACT_TRACE\", \"errnoRet\": 77", SECCOMP_RET_TRACE | 77, 0 },
        { "\"SCMP_ACT_LOG\"", SECCOMP_RET_LOG, 0 },
        { "\"SCMP_ACT_NOTIFY\"", SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[256];
        snprintf(text, sizeof(text), "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"flags\":[],\"syscalls\":[{\"names\":[\"getppid\"],\"action\":%s}]}",
                 cases[i].action);
        compile(text, 0);
        assert_int_equal(native(SYS_getppid), cases[i].value);
        assert_int_equal(native(SYS_getpid), SECCOMP_RET_ALLOW);
        assert_int_equal(native(4000), SECCOMP_RET_ALLOW); // what the default allows needs no ENOSYS
        assert_int_equal(program.flags, cases[i].flags);
    }
}

static void test_operators(void **state)
{
    static const struct {
        const char *op;
        uint64_t value, two;
        bool below, at, above; // 99, 100, 101
    } cases[] = {
        { "NE", 100, 0, true, false, true },  { "LT", 100, 0, true, false, false }, { "LE", 100, 0, true, true, false },
        { "EQ", 100, 0, false, true, false }, { "GE", 100, 0, false, true, true },  { "GT", 100, 0, false, false, true },
        { "MASKED_EQ", 4, 4, false, true, true }, { "MASKED_EQ", 1, 1, true, false, true },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[400];
        snprintf(text, sizeof(text), "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"getppid\"],\"action\":\"SCMP_ACT_TRAP\","
                 "\"args\":[{\"index\":1,\"value\":%llu,\"valueTwo\":%llu,\"op\":\"SCMP_CMP_%s\"}]}]}",
                 (unsigned long long)cases[i].value, (unsigned long long)cases[i].two, cases[i].op);
        compile(text, 0);
        const bool want[] = { cases[i].below, cases[i].at, cases[i].above };
        for (uint64_t k = 0; k < 3; k++)
            if ((decide(AUDIT_ARCH_X86_64, SYS_getppid, 0, 99 + k) == SECCOMP_RET_TRAP) != want[k])
                fail_msg("%s of %llu", cases[i].op, (unsigned long long)(99 + k));
    }
}

// Conditions hold together, unless two look at one argument: then each alone is enough.
static void test_conditions(void **state)
{
    compile("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"getppid\"],\"action\":\"SCMP_ACT_TRAP\",\"args\":["
            "{\"index\":0,\"value\":1,\"op\":\"SCMP_CMP_EQ\"},{\"index\":1,\"value\":2,\"op\":\"SCMP_CMP_EQ\"}]}]}", 0);
    assert_int_equal(decide(AUDIT_ARCH_X86_64, SYS_getppid, 1, 2), SECCOMP_RET_TRAP);
    assert_int_equal(decide(AUDIT_ARCH_X86_64, SYS_getppid, 1, 3), SECCOMP_RET_ALLOW);
    compile("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"getppid\"],\"action\":\"SCMP_ACT_TRAP\",\"args\":["
            "{\"index\":0,\"value\":1,\"op\":\"SCMP_CMP_EQ\"},{\"index\":0,\"value\":2,\"op\":\"SCMP_CMP_EQ\"}]}]}", 0);
    assert_int_equal(decide(AUDIT_ARCH_X86_64, SYS_getppid, 1, 0), SECCOMP_RET_TRAP);
    assert_int_equal(decide(AUDIT_ARCH_X86_64, SYS_getppid, 2, 0), SECCOMP_RET_TRAP);
    assert_int_equal(decide(AUDIT_ARCH_X86_64, SYS_getppid, 3, 0), SECCOMP_RET_ALLOW);
}

static void test_enosys(void **state)
{
    static const struct {
        const char *head;
        uint32_t newer;
    } cases[] = {
        { "\"SCMP_ACT_ERRNO\"", FILTER_ERRNO(ENOSYS) },
        { "\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":38", FILTER_ERRNO(ENOSYS) },
        { "\"SCMP_ACT_KILL_PROCESS\"", FILTER_ERRNO(ENOSYS) },
        { "\"SCMP_ACT_TRAP\"", FILTER_ERRNO(ENOSYS) },
        { "\"SCMP_ACT_ALLOW\"", SECCOMP_RET_ALLOW },
        { "\"SCMP_ACT_LOG\"", SECCOMP_RET_LOG },
        { "\"SCMP_ACT_TRACE\"", SECCOMP_RET_TRACE | EPERM },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[256];
        snprintf(text, sizeof(text), "{\"defaultAction\":%s,\"syscalls\":[{\"names\":[\"close_range\"],\"action\":\"SCMP_ACT_ALLOW\"}]}",
                 cases[i].head);
        compile(text, 0);
        assert_int_equal(native(437), cases[i].newer);
        assert_int_equal(native(436), SECCOMP_RET_ALLOW);
    }
}

static void test_flags(void **state)
{
    static const struct {
        const char *flags;
        unsigned value;
    } cases[] = {
        { "", SECCOMP_FILTER_FLAG_SPEC_ALLOW },
        { "\"flags\":null,", SECCOMP_FILTER_FLAG_SPEC_ALLOW },
        { "\"flags\":[],", 0 },
        { "\"flags\":[\"SECCOMP_FILTER_FLAG_TSYNC\"],", 0 },
        { "\"flags\":[\"SECCOMP_FILTER_FLAG_LOG\",\"SECCOMP_FILTER_FLAG_SPEC_ALLOW\"],", SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW },
        { "\"flags\":[\"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV\"],", 1 << 5 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[256];
        snprintf(text, sizeof(text), "{%s\"defaultAction\":\"SCMP_ACT_ALLOW\"}", cases[i].flags);
        compile(text, 0);
        assert_int_equal(program.flags, cases[i].value);
    }
    assert_true(seccomp_flag_supported("SECCOMP_FILTER_FLAG_LOG"));
    assert_true(seccomp_flag_supported("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")); // Linux 5.19
    assert_false(seccomp_flag_supported("SECCOMP_FILTER_FLAG_NOSUCH"));
    assert_string_equal(seccomp_word(SECCOMP_FLAGS, 1), "SECCOMP_FILTER_FLAG_LOG");
    assert_null(seccomp_word(SECCOMP_ACTIONS, 9));
    assert_non_null(seccomp_word(SECCOMP_ARCHITECTURES, 17));
    assert_null(seccomp_word(SECCOMP_OPERATORS, 7));
    compile("{}", 0);
    assert_int_equal(program.len, 0);
}

#define CALL(text) "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[" text "]}"

static void test_refused(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        { "", "invalid JSON" },
        { "[]", "expected" },
        { "{\"defaultAction\":\"ALLOW\"}", "string ALLOW is not a valid action for seccomp" },
        { "{\"defaultAction\":\"SCMP_ACT_NOTIFY\"}", "SCMP_ACT_NOTIFY cannot be used as default action" },
        { "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":-1}", "errnoRet must be a number from 0 to 65535" },
        { "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"SCMP_ARCH_VAX\"]}", "string SCMP_ARCH_VAX is not a valid arch for seccomp" },
        { "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"SCMP_ARCH_X86\"],\"archMap\":[{}]}", "both 'architectures' and 'archMap'" },
        { "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"flags\":[\"X\"]}", "seccomp flag X is not known" },
        { "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"flags\":3}", "flags: expected list" },
        { CALL("{\"names\":[\"read\"]}"), "is not a valid action" },
        { CALL("{\"names\":[\"write\"],\"action\":\"SCMP_ACT_NOTIFY\"}"), "SCMP_ACT_NOTIFY cannot be used for the write syscall" },
        { CALL("{\"names\":[\"\"],\"action\":\"SCMP_ACT_TRAP\"}"), "empty string is not a valid syscall" },
        { CALL("{\"names\":[\"read\"],\"name\":\"write\",\"action\":\"SCMP_ACT_TRAP\"}"), "both 'name' and 'names'" },
        { CALL("{\"names\":[\"read\"],\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"op\":\"EQ\"}]}"), "string EQ is not a valid operator for seccomp" },
        { CALL("{\"names\":[\"read\"],\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"index\":6,\"op\":\"SCMP_CMP_EQ\"}]}"), "read has no argument 6" },
        { CALL("{\"names\":[\"read\"],\"action\":\"SCMP_ACT_TRAP\",\"args\":[{\"value\":18446744073709551615,\"op\":\"SCMP_CMP_EQ\"}]}"), "beyond 2^63-1" },
        { CALL("{\"names\":[\"read\"],\"action\":\"SCMP_ACT_TRAP\",\"includes\":{\"minKernel\":\"4\"}}"), "invalid kernel version: 4" },
        { CALL("{\"names\":[\"read\"],\"action\":\"SCMP_ACT_TRAP\",\"excludes\":{\"minKernel\":\"0.0\"}}"), "invalid kernel version" },
        { CALL("{\"names\":\"read\",\"action\":\"SCMP_ACT_TRAP\"}"), "names" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = { 0 };
        if (seccomp_compile_text(cases[i].text, strlen(cases[i].text), 0, &program, &err) == 0)
            fail_msg("accepted: %s", cases[i].text);
        if (!strstr(err.message, cases[i].says) || err.class != ERR_INVALID_ARGUMENT)
            fail_msg("%s: \"%s\"", cases[i].text, err.message);
    }
}

// The kernel takes it, and it does what it says.
static void test_load(void **state)
{
    static const char text[] = "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"SCMP_ARCH_X86_64\",\"SCMP_ARCH_X86\",\"SCMP_ARCH_X32\"],"
        "\"flags\":[\"SECCOMP_FILTER_FLAG_LOG\"],\"syscalls\":[{\"names\":[\"getppid\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":18},"
        "{\"names\":[\"kill\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":7,\"args\":[{\"index\":1,\"value\":40,\"op\":\"SCMP_CMP_GT\"}]}]}";
    struct err err = { 0 };
    int status;
    for (int which = 0; which < 2; which++) {
        if (which == 0)
            compile(text, 0);
        else
            assert_int_equal(seccomp_default_profile(caps_docker_default(), &program, &err), 0);
        pid_t pid = fork();
        if (pid == 0) {
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            if (filter_load(&program, &err) < 0)
                _exit(1);
            if (which)
                _exit(syscall(SYS_mount, NULL, NULL, NULL, 0, NULL) < 0 && errno == EPERM ? 0 : 2);
            bool refused = syscall(SYS_getppid) == -1 && errno == 18;
            refused = refused && syscall(SYS_kill, getpid(), 41) == -1 && errno == 7;
            _exit(refused && syscall(SYS_kill, getpid(), 0) == 0 ? 0 : 2);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_docker_form), cmocka_unit_test(test_actions), cmocka_unit_test(test_operators),
        cmocka_unit_test(test_conditions),  cmocka_unit_test(test_enosys),  cmocka_unit_test(test_flags),
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
