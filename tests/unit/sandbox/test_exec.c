#include <signal.h>

#include "fixture.h"

// A container that sleeps, to be entered.
struct host {
    struct box *box;
    struct box_run run;
};

static void host_start(struct host *host, struct box *box)
{
    host->box = box;
    box->process.args = WORDS(box, "sleep", "1000");
    if (box_create(box, &host->run) < 0 || sandbox_start(host->run.sandbox, &box->err) < 0)
        fail_msg("%s", box->err.message);
}

static int enter(struct host *host, struct oci_process *process, bool seccomp)
{
    struct box *box = host->box;
    struct sandbox_exec exec = { .process = process, .seccomp_profile = seccomp ? "default" : NULL };
    struct box_run run = { .in = -1, .out = -1, .master = -1 };
    int in[2], out[2];
    fd_pipe(in, NULL);
    fd_pipe(out, NULL);
    struct sandbox_stdio stdio = { .terminal = process->terminal, .in = in[0], .out = out[1], .error = out[1] };
    box->err = (struct err){ 0 };
    box->out[0] = '\0';
    int result = sandbox_exec(sandbox_pidfd(host->run.sandbox), box->spec.cgroup, &exec, &stdio, &run.sandbox, &run.master,
                              &box->err);
    close(in[0]);
    close(out[1]);
    run.in = in[1];
    run.out = out[0];
    if (result < 0) {
        box_run_done(&run);
        return -1;
    }
    return box_finish(box, &run);
}

#define ENTER(host, process, ...) \
    ((process)->args = WORDS((host)->box, __VA_ARGS__), enter((host), (process), true))

static void test_enters_everything(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    box_use_cgroup(box, NULL);
    struct host host;
    host_start(&host, box);
    struct oci_process process = box->process;
    EXPECT(box, 0, ENTER(&host, &process, "sh", "-c",
                         "hostname; for n in mnt pid ipc uts net cgroup; do "
                         "test $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) || echo other $n; done; "
                         "cat /proc/self/cgroup | cut -d: -f3 | grep -v '^/$'; grep -E 'CapEff|Seccomp:' /proc/self/status; "
                         "ls -1 /proc/self/fd | wc -l; pwd; env"));
    EXPECT_HAS(box, "box\n");
    EXPECT_LACKS(box, "other");
    EXPECT_LACKS(box, "/berth-test");
    EXPECT_HAS(box, "CapEff:\t00000000a80425fb\nSeccomp:\t2\n4\n/\n");
    EXPECT_HAS(box, "HOME=/root");
    // The caller's own pid namespace is what its next children are born into.
    pid_t pid = fork();
    if (pid == 0)
        _exit(getppid() > 1 && getpid() > 1 ? 0 : 1);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    box_run_done(&host.run);
    box_free(box);
}

static void test_process_as_asked(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    struct host host;
    host_start(&host, box);
    struct oci_process process = box->process;
    EXPECT(box, 9, ENTER(&host, &process, "sh", "-c", "exit 9"));
    process.user.name = arena_strdup(&box->arena, "mina");
    process.env = WORDS(box, "PATH=/bin", "COLOUR=green");
    process.cwd = arena_strdup(&box->arena, "/etc");
    EXPECT(box, 0, ENTER(&host, &process, "sh", "-c", "id; pwd; echo $COLOUR $HOME"));
    EXPECT_HAS(box, "uid=1000(mina) gid=1001(mina) groups=10(wheel),44(video),1001(mina)\n/etc\ngreen /home/mina\n");
    process.user.name = arena_strdup(&box->arena, "nosuch");
    EXPECT(box, -1, ENTER(&host, &process, "true"));
    assert_string_equal(box->err.message, "unable to find user nosuch: no matching entries in passwd file");
    process.user.name = NULL;
    EXPECT(box, -1, ENTER(&host, &process, "nosuch"));
    assert_string_equal(box->err.message, "exec: \"nosuch\": executable file not found in $PATH");
    EXPECT(box, -1, ENTER(&host, &process, "/etc/group"));
    assert_string_equal(box->err.message, "exec: \"/etc/group\": permission denied");
    process.cwd = arena_strdup(&box->arena, "/nowhere");
    EXPECT(box, -1, ENTER(&host, &process, "true"));
    assert_string_equal(box->err.message,
                        "chdir to cwd (\"/nowhere\") set in config.json failed: no such file or directory");
    box_run_done(&host.run);
    box_free(box);
}

static void test_terminal(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    struct host host;
    host_start(&host, box);
    struct oci_process process = box->process;
    process.terminal = true;
    process.console_size = (struct oci_box){ .height = 20, .width = 90 };
    EXPECT(box, 0, ENTER(&host, &process, "sh", "-c", "tty; stty size; echo ok > /dev/tty"));
    EXPECT_HAS(box, "/dev/pts/0\r\n20 90\r\nok\r\n");
    box_run_done(&host.run);
    box_free(box);
}

static void test_dies_with_the_container(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    struct host host;
    host_start(&host, box);
    struct oci_process process = box->process;
    struct sandbox_exec exec = { .process = &process };
    struct sandbox *inside = NULL;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    struct sandbox_stdio stdio = { .in = null, .out = null, .error = null };
    process.args = WORDS(box, "sleep", "1000");
    assert_int_equal(sandbox_exec(sandbox_pidfd(host.run.sandbox), NULL, &exec, &stdio, &inside, NULL, &box->err), 0);
    assert_int_equal(sandbox_start(inside, &box->err), 0);
    assert_int_equal(kill(sandbox_pid(host.run.sandbox), SIGKILL), 0);
    int code = 0;
    assert_int_equal(sandbox_wait(inside, &code, &box->err), 0);
    assert_int_equal(code, 137);
    assert_int_equal(sandbox_wait(host.run.sandbox, &code, &box->err), 0);
    assert_int_equal(code, 137);
    sandbox_free(inside);
    close(null);
    box_run_done(&host.run);
    box_free(box);
}

// While it waits for its start, the joiner has rights of the host in memory: processes of the container see it but can
// neither read nor trace it.
static void test_joiner_is_closed(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    struct host host;
    host_start(&host, box);
    struct oci_process process = box->process;
    struct sandbox_exec exec = { .process = &process, .seccomp_profile = "default" };
    struct sandbox *waiting = NULL;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    struct sandbox_stdio stdio = { .in = null, .out = null, .error = null };
    process.args = WORDS(box, "true");
    assert_int_equal(sandbox_exec(sandbox_pidfd(host.run.sandbox), NULL, &exec, &stdio, &waiting, NULL, &box->err), 0);
    EXPECT(box, 0, ENTER(&host, &process, "sh", "-c",
                         "for p in /proc/[0-9]*; do test $p = /proc/1 -o $p = /proc/$$ && continue; "
                         "test -e $p/stat || continue; seen=1; "
                         "for f in $p/fd/* $p/exe $p/cwd $p/root; do readlink $f && echo open $f; done; head -c 1 $p/environ && echo open env; done; "
                         "echo seen $seen"));
    EXPECT_HAS(box, "seen 1");
    EXPECT_LACKS(box, "open");
    // What it still holds: stdio and one socket.
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)sandbox_pid(waiting));
    DIR *dir = opendir(path);
    int entries = 0;
    assert_non_null(dir);
    while (readdir(dir))
        entries++;
    closedir(dir);
    assert_int_equal(entries, 2 + 4);
    sandbox_free(waiting);
    close(null);
    box_run_done(&host.run);
    box_free(box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_enters_everything),
        cmocka_unit_test(test_process_as_asked),
        cmocka_unit_test(test_terminal),
        cmocka_unit_test(test_dies_with_the_container),
        cmocka_unit_test(test_joiner_is_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
