// The lists, by what a process under them may still do; then the fence itself, seen from inside.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/kvm.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "kernel/caps.h"
#include "vmm/jail.h"

#define O 1u
#define P 2u
#define I 4u
#define ALL 7u

// The numbers decide; what the kernel would say to the arguments doesn't matter.
static const struct {
    unsigned number;
    uint64_t args[3];
    unsigned allowed; // threads
} decisions[] = {
    { SYS_futex, { 0 }, ALL },
    { SYS_write, { 1 }, ALL },
    { SYS_read, { 0 }, O | I },
    { SYS_ioctl, { 3, KVM_RUN }, P },
    { SYS_ioctl, { 3, KVM_GET_LAPIC }, O },
    { SYS_ioctl, { 3, KVM_GET_REGS }, O | P },
    { SYS_ioctl, { 3, KVM_SET_USER_MEMORY_REGION }, 0 },
    { SYS_ioctl, { 3, KVM_CREATE_VM }, 0 },
    { SYS_ioctl, { 3, KVM_RUN | UINT64_C(1) << 32 }, 0 },
    { SYS_ioctl, { 0, 0x5412 /* TIOCSTI */ }, 0 },
    { SYS_mmap, { 0, 4096, PROT_READ | PROT_WRITE }, ALL },
    { SYS_mmap, { 0, 4096, PROT_READ | PROT_EXEC }, 0 },
    { SYS_mprotect, { 0, 4096, PROT_EXEC }, 0 },
    { SYS_preadv, { 3 }, I },
    { SYS_pwrite64, { 3 }, O | I },
    { SYS_recvmsg, { 3 }, O },
    { SYS_accept4, { 3 }, O },
    { SYS_socketpair, { AF_UNIX }, 0 },
    { SYS_fcntl, { 3, F_SETFL }, O | I },
    { SYS_fcntl, { 3, F_SETOWN }, 0 },
    { SYS_exit_group, { 0 }, O },
    { SYS_open, { 0 }, 0 },
    { SYS_openat, { 0 }, 0 },
    { SYS_openat2, { 0 }, 0 },
    { SYS_socket, { AF_INET }, 0 },
    { SYS_connect, { 3 }, 0 },
    { SYS_clone, { 0 }, 0 },
    { SYS_clone3, { 0 }, 0 },
    { SYS_fork, { 0 }, 0 },
    { SYS_execve, { 0 }, 0 },
    { SYS_execveat, { 0 }, 0 },
    { SYS_ptrace, { 0 }, 0 },
    { SYS_process_vm_writev, { 0 }, 0 },
    { SYS_kill, { 1 }, 0 },
    { SYS_unshare, { CLONE_NEWUSER }, 0 },
    { SYS_setns, { 0 }, 0 },
    { SYS_mount, { 0 }, 0 },
    { SYS_bpf, { 0 }, 0 },
    { SYS_io_uring_setup, { 0 }, 0 },
    { SYS_userfaultfd, { 0 }, 0 },
    { SYS_setuid, { 0 }, 0 },
    { SYS_prctl, { 0 }, 0 },
    { SYS_seccomp, { 0 }, 0 },
    { SYS_write | 0x40000000 /* x32 */, { 1 }, 0 },
};

static void test_decisions(void **state)
{
    for (enum machine_thread thread = MACHINE_THREAD_OWNER; thread <= MACHINE_THREAD_IO; thread++) {
        struct filter_program program;
        struct err err;
        if (jail_filter(thread, &program, &err) < 0)
            fail_msg("%s", err.message);
        for (size_t i = 0; i < ARRAY_LEN(decisions); i++) {
            struct seccomp_data data = { .nr = (int)decisions[i].number, .arch = AUDIT_ARCH_X86_64 };
            memcpy(data.args, decisions[i].args, sizeof(decisions[i].args));
            uint32_t wanted = decisions[i].allowed & 1u << thread ? SECCOMP_RET_ALLOW : SECCOMP_RET_KILL_PROCESS;
            if (filter_run(&program, &data) != wanted)
                fail_msg("thread %d, call %u, argument 0x%llx", thread, decisions[i].number,
                         (unsigned long long)decisions[i].args[1]);
            data.arch = AUDIT_ARCH_I386;
            assert_int_equal(filter_run(&program, &data), SECCOMP_RET_KILL_PROCESS);
        }
    }
}

static int status_under_list(enum machine_thread thread, long number)
{
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        if (jail_thread(NULL, thread, NULL) < 0)
            _exit(9);
        syscall(number, -1, 0, 0);
        syscall(SYS_exit, 7);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void test_a_call_that_is_not_listed_kills(void **state)
{
    static const long killers[] = { SYS_socket, SYS_openat, SYS_execve, SYS_getuid };
    for (enum machine_thread thread = MACHINE_THREAD_OWNER; thread <= MACHINE_THREAD_IO; thread++) {
        int status = status_under_list(thread, SYS_close);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
        for (size_t i = 0; i < ARRAY_LEN(killers); i++) {
            status = status_under_list(thread, killers[i]);
            assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
        }
    }
}

// ---- the fence, from inside ------------------------------------------------------------------------------------------

static bool alone(void)
{
    struct stat root;
    return getpid() == 1 && stat("/", &root) == 0 && open("/proc", O_RDONLY) < 0 && errno == ENOENT &&
           open("/dev/kvm", O_RDWR) < 0 && errno == ENOENT && open("/x", O_CREAT | O_WRONLY, 0600) < 0 && errno == EROFS;
}

static bool powerless(void)
{
    struct caps_sets sets;
    struct rlimit files, core;
    return caps_get(&sets, NULL) == 0 && !(sets.bounding | sets.effective | sets.permitted | sets.inheritable | sets.ambient) &&
           prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 && getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max <= 1024 &&
           getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max == 0 && unshare(CLONE_NEWNS) < 0;
}

static int inside(int kept, int closed, bool root)
{
    const struct jail jail = { .uid = JAIL_ID_DEFAULT, .gid = JAIL_ID_DEFAULT, .keep = &kept, .keep_len = 1 };
    struct err err;
    if (jail_enter(&jail, &err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    if (fcntl(kept, F_GETFD) < 0 || fcntl(closed, F_GETFD) >= 0 || fcntl(closed + 1, F_GETFD) >= 0)
        return 2;
    if (!alone())
        return 3;
    if (!powerless())
        return 4;
    return !root || (getuid() == JAIL_ID_DEFAULT && getgid() == JAIL_ID_DEFAULT && getgroups(0, NULL) == 0) ? 0 : 5;
}

// A process in between, because what jail_prepare() does to the parent stays.
static int jailed_exit_code(uid_t uid)
{
    pid_t between = fork();
    if (between == 0) {
        int kept = open("/dev/null", O_RDWR), closed = open("/dev/null", O_RDWR), status;
        dup2(closed, closed + 1);
        if ((uid && setresuid(uid, uid, uid) < 0) || jail_prepare(NULL) < 0)
            _exit(77);
        pid_t child = fork();
        if (child == 0)
            _exit(inside(kept, closed, uid == 0));
        _exit(waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 78);
    }
    int status;
    assert_int_equal(waitpid(between, &status, 0), between);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_fence(void **state)
{
    if (geteuid() != 0)
        skip();
    assert_int_equal(jailed_exit_code(0), 0);
}

static void test_fence_of_an_ordinary_user(void **state)
{
    if (geteuid() != 0)
        skip();
    int code = jailed_exit_code(12345);
    if (code == 77) // this host gives users no namespaces
        skip();
    assert_int_equal(code, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decisions),
        cmocka_unit_test(test_a_call_that_is_not_listed_kills),
        cmocka_unit_test(test_fence),
        cmocka_unit_test(test_fence_of_an_ordinary_user),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
