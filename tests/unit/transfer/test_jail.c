// Each case runs in a child: a jail is for life.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "../layer/tar_maker.h"
#include "kernel/caps.h"
#include "transfer/transfer.h"

// 0 or the number of the first thing that was not as it should be.
typedef int jailed_fn(int staging_fd);
typedef int jail_fn(int staging_fd, struct err *err);

static int run_in(jail_fn *jail, jailed_fn *fn)
{
    struct scratch scratch;
    int status = -1;
    scratch_open(&scratch);
    pid_t pid = fork();
    if (pid == 0) {
        struct err err;
        if (jail(scratch.fd, &err) < 0) {
            fprintf(stderr, "%s\n", err.message);
            _exit(99);
        }
        _exit(fn(scratch.fd));
    }
    waitpid(pid, &status, 0);
    scratch_close(&scratch);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int run_jailed(jailed_fn *fn)
{
    return run_in(transfer_jail, fn);
}

static int jail_network(int fd, struct err *err)
{
    return transfer_jail_network(err);
}

static int work_in_staging(int fd)
{
    if (mkdirat(fd, "a", 0755) < 0 || mkdirat(fd, "b", 0755) < 0)
        return 1;
    int file = openat(fd, "a/f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || write(file, "x", 1) != 1 || ftruncate(file, 100) < 0 || fchown(file, 12, 34) < 0 ||
        fchmod(file, 06755) < 0)
        return 2;
    if (linkat(fd, "a/f", fd, "b/f", 0) < 0 || renameat(fd, "b/f", fd, "a/g") < 0 || symlinkat("f", fd, "a/s") < 0)
        return 3;
    if (mknodat(fd, "w", S_IFCHR, makedev(0, 0)) < 0 || mknodat(fd, "p", S_IFIFO | 0600, 0) < 0)
        return 4;
    return unlinkat(fd, "a/g", 0) < 0 || unlinkat(fd, "b", AT_REMOVEDIR) < 0 ? 5 : 0;
}

static int reach_outside(int fd)
{
    if (open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 || open("/proc/self/status", O_RDONLY | O_CLOEXEC) >= 0)
        return 1;
    if (openat(fd, "../../etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 || open("..", O_PATH | O_CLOEXEC) < 0)
        return 2;
    // The root is the staging folder, so ".." is it, too.
    struct stat up, here;
    if (stat("..", &up) < 0 || fstat(fd, &here) < 0 || up.st_ino != here.st_ino)
        return 3;
    return chroot("/") == 0 || errno != EPERM ? 4 : 0;
}

static int use_devices(int fd)
{
    // Memory's null device stands for any disk.
    if (mknodat(fd, "null", S_IFCHR | 0666, makedev(1, 3)) < 0)
        return 1;
    if (openat(fd, "null", O_RDWR | O_CLOEXEC) >= 0 || errno != EACCES)
        return 2;
    return 0;
}

static int use_network(int fd)
{
    int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(9), .sin_addr = { htonl(INADDR_LOOPBACK) } };
    if (sock >= 0 && (connect(sock, (struct sockaddr *)&address, sizeof(address)) == 0 || errno == ECONNREFUSED))
        return 1;
    return 0;
}

static int check_rights(int fd)
{
    struct caps_sets sets;
    const uint64_t kept = 1 << CAP_CHOWN | 1 << CAP_DAC_OVERRIDE | 1 << CAP_FOWNER | 1 << CAP_FSETID |
                          1 << CAP_MKNOD | UINT64_C(1) << CAP_SETFCAP;
    if (caps_get(&sets, NULL) < 0 || sets.effective != kept || sets.permitted != kept || sets.bounding != kept ||
        sets.inheritable || sets.ambient)
        return 1;
    for (int other = 3; other < 1000; other++)
        if (other != fd && fcntl(other, F_GETFD) >= 0)
            return 2;
    return 0;
}

// The half that speaks to registries.
static int reach_registries(int fd)
{
    struct caps_sets sets;
    if (geteuid() == 0 || getuid() == 0 || caps_get(&sets, NULL) < 0 || sets.effective || sets.permitted || sets.ambient)
        return 1;
    if (open("/etc/passwd", O_RDONLY | O_CLOEXEC) < 0 || open("/etc/shadow", O_RDONLY | O_CLOEXEC) >= 0)
        return 2;
    if (use_network(fd) == 0)
        return 3;
    return 0;
}

static int leave_traces(int fd)
{
    char name[] = "/tmp/trace-XXXXXX";
    char *const argv[] = { (char *)"true", NULL };
    if (mkstemp(name) >= 0 || openat(fd, "x", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0)
        return 1;
    if (open("/dev/shm/x", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0 || kill(getppid(), 0) == 0)
        return 2;
    execv("/bin/true", argv);
    return 0;
}

static void test_staging_works(void **state)
{
    assert_int_equal(run_jailed(work_in_staging), 0);
}

static void test_outside_is_gone(void **state)
{
    assert_int_equal(run_jailed(reach_outside), 0);
}

static void test_devices_do_not_open(void **state)
{
    assert_int_equal(run_jailed(use_devices), 0);
}

static void test_no_network(void **state)
{
    assert_int_equal(run_jailed(use_network), 0);
}

static void test_rights(void **state)
{
    assert_int_equal(run_jailed(check_rights), 0);
}

static void test_network_half_reaches_registries(void **state)
{
    assert_int_equal(run_in(jail_network, reach_registries), 0);
}

static void test_network_half_leaves_no_traces(void **state)
{
    assert_int_equal(run_in(jail_network, leave_traces), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_staging_works),
        cmocka_unit_test(test_outside_is_gone),
        cmocka_unit_test(test_devices_do_not_open),
        cmocka_unit_test(test_no_network),
        cmocka_unit_test(test_rights),
        cmocka_unit_test(test_network_half_reaches_registries),
        cmocka_unit_test(test_network_half_leaves_no_traces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
