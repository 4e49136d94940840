// berth-init as PID 1 of a container. The program is found beside this one in the build folder.
#include <libgen.h>
#include <limits.h>
#include <signal.h>

#include "fixture.h"

static int find_init(void)
{
    char self[PATH_MAX], path[PATH_MAX + 64];
    ssize_t size = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (size < 0)
        return -1;
    self[size] = '\0';
    snprintf(path, sizeof(path), "%s/../src/programs/berth-init", dirname(self));
    return access(path, X_OK) == 0 ? fd_sealed_copy(path, NULL) : -1;
}

static struct box *init_box(void)
{
    if (!box_possible())
        return NULL;
    int init = find_init();
    if (init < 0) {
        print_message("skipped: berth-init is not built\n");
        return NULL;
    }
    struct box *box = box_new();
    box->spec.init_fd = init;
    return box;
}

static void init_box_free(struct box *box)
{
    close(box->spec.init_fd);
    box_free(box);
}

#define NEED_INIT(box) \
    if (!(box))        \
    skip()

static void test_runs_and_ends(void **state)
{
    struct box *box = init_box();
    NEED_INIT(box);
    EXPECT(box, 0, SH(box, "echo $$; cat /proc/1/cmdline | head -c 17; echo; ls -1 /proc/self/fd | wc -l"));
    EXPECT_LACKS(box, "1\n/");
    EXPECT_HAS(box, "/sbin/docker-init");
    EXPECT_HAS(box, "4\n");
    EXPECT(box, 9, SH(box, "exit 9"));
    EXPECT(box, 143, SH(box, "kill -TERM $$"));
    EXPECT(box, 127, RUN(box, "nosuch"));
    EXPECT_HAS(box, "exec nosuch failed: No such file or directory");
    EXPECT(box, 126, RUN(box, "/etc/passwd"));
    EXPECT_HAS(box, "exec /etc/passwd failed: Permission denied");
    init_box_free(box);
}

// The copy must be executable by whoever the container's user is.
static void test_other_user(void **state)
{
    struct box *box = init_box();
    NEED_INIT(box);
    struct stat st;
    assert_int_equal(fstat(box->spec.init_fd, &st), 0);
    if (!(st.st_mode & S_IXOTH)) {
        print_message("skipped: the sealed copy is executable by root only\n");
        init_box_free(box);
        skip();
    }
    box->process.user.name = arena_strdup(&box->arena, "mina");
    EXPECT(box, 0, SH(box, "id -u; cat /proc/1/status | grep Uid"));
    EXPECT_HAS(box, "1000\nUid:\t1000");
    init_box_free(box);
}

static void test_reaps_orphans(void **state)
{
    struct box *box = init_box();
    NEED_INIT(box);
    EXPECT(box, 0, SH(box, "for i in 1 2 3 4 5; do (sh -c 'true & true' &); done; sleep 0.3; "
                           "grep -l 'State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l"));
    EXPECT_HAS(box, "0\n");
    init_box_free(box);
}

static void test_hands_signals_on(void **state)
{
    struct box *box = init_box();
    NEED_INIT(box);
    struct box_run run;
    char line[16];
    box->process.args = WORDS(box, "sh", "-c", "trap 'echo got usr1; exit 5' USR1; echo ready; while :; do sleep 0.05; done");
    assert_int_equal(box_create(box, &run), 0);
    assert_int_equal(sandbox_start(run.sandbox, &box->err), 0);
    assert_int_equal(read(run.out, line, 6), 6);
    assert_int_equal(kill(sandbox_pid(run.sandbox), SIGUSR1), 0);
    int code = 0;
    assert_int_equal(sandbox_wait(run.sandbox, &code, &box->err), 0);
    assert_int_equal(code, 5);
    box_collect(box, run.out);
    EXPECT_HAS(box, "got usr1");
    box_run_done(&run);
    init_box_free(box);
}

// A signal that comes as soon as the start has succeeded, when berth-init may have hardly begun.
static void test_loses_no_early_signal(void **state)
{
    struct box *box = init_box();
    NEED_INIT(box);
    for (int i = 0; i < 20; i++) {
        struct box_run run;
        int code = 0;
        box->process.args = WORDS(box, "sleep", "5");
        assert_int_equal(box_create(box, &run), 0);
        assert_int_equal(sandbox_start(run.sandbox, &box->err), 0);
        assert_int_equal(kill(sandbox_pid(run.sandbox), SIGTERM), 0);
        assert_int_equal(sandbox_wait(run.sandbox, &code, &box->err), 0);
        assert_int_equal(code, 143);
        box_run_done(&run);
    }
    EXPECT(box, 0, RUN(box, "grep", "SigBlk", "/proc/self/status"));
    EXPECT_HAS(box, "SigBlk:\t0000000000000000\n");
    init_box_free(box);
}

static void test_terminal(void **state)
{
    struct box *box = init_box();
    NEED_INIT(box);
    struct box_run run;
    box->process.terminal = true;
    // Ctrl-C on the terminal reaches the command: it is in the foreground group.
    box->process.args = WORDS(box, "sh", "-c", "trap 'echo interrupted; exit 6' INT; echo ready; while :; do sleep 0.05; done");
    assert_int_equal(box_create(box, &run), 0);
    assert_int_equal(sandbox_start(run.sandbox, &box->err), 0);
    char text[64] = "";
    assert_true(read(run.master, text, sizeof(text) - 1) > 0);
    assert_non_null(strstr(text, "ready"));
    assert_int_equal(write(run.master, "\x03", 1), 1);
    int code = 0;
    assert_int_equal(sandbox_wait(run.sandbox, &code, &box->err), 0);
    assert_int_equal(code, 6);
    box_run_done(&run);
    init_box_free(box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_and_ends),
        cmocka_unit_test(test_other_user),
        cmocka_unit_test(test_reaps_orphans),
        cmocka_unit_test(test_hands_signals_on),
        cmocka_unit_test(test_loses_no_early_signal),
        cmocka_unit_test(test_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
