// The verbs over a link, with a machine made of folders: real sandboxes on this host, a guest in a child process.
#include "host.h"

#include <sys/prctl.h>

#include "guest/guest.h"
#include "kernel/cgroup.h"

#define WAIT_NS (60 * NS_PER_S)

// ---- a machine of folders ------------------------------------------------------------------------------------------

struct box {
    char dir[64], cgroup_parent[40], cgroup_path[56];
    int dir_fd;
    struct guest_machine machine;
    pid_t guest;
    int listener;
    struct host host;
};

static int connect_to_host(void *context, struct err *err)
{
    struct box *box = context;
    int fd = fd_unix_connect_at(box->dir_fd, "link", err);
    return fd >= 0 ? fd : err_set(err, ERR_UNAVAILABLE, "the host is not there");
}

static int open_rootfs(void *context, const struct task_rootfs *rootfs, struct err *err)
{
    if (rootfs->layers.len != 1 || !str_eq(rootfs->upper.kind, "disk"))
        return err_set(err, ERR_INVALID_ARGUMENT, "another rootfs");
    return file_open_dir(((struct box *)context)->dir_fd, "root", err);
}

static int close_rootfs(void *context, struct err *err)
{
    return file_write_at(((struct box *)context)->dir_fd, "closed", "", 0, 0644, false, err);
}

static int set_network(void *context, const struct json_list *nics, struct err *err)
{
    return nics->len ? err_set(err, ERR_UNAVAILABLE, "no card here") : 0;
}

static void power_off(void *context)
{
    _exit(0);
}

static void make_root(struct box *box)
{
    static const char *const folders[] = { "root", "root/bin", "root/tmp", "files" };
    static const char *const applets[] = { "sh",  "true", "cat", "echo", "sleep",   "stty",
                                           "tty", "head", "yes", "wc",   "hostname" };
    for (size_t i = 0; i < ARRAY_LEN(folders); i++)
        assert_int_equal(mkdirat(box->dir_fd, folders[i], 0755), 0);
    struct buf program = BUF_INIT(16 << 20);
    assert_int_equal(file_read_at(AT_FDCWD, BUSYBOX, &program, NULL), 0);
    assert_int_equal(file_write_at(box->dir_fd, "root/bin/busybox", program.data, program.size, 0755, false, NULL), 0);
    buf_done(&program);
    for (size_t i = 0; i < ARRAY_LEN(applets); i++) {
        char path[64];
        snprintf(path, sizeof(path), "root/bin/%s", applets[i]);
        assert_int_equal(symlinkat("busybox", box->dir_fd, path), 0);
    }
}

static void start_guest(struct box *box)
{
    box->listener = fd_unix_listen_at(box->dir_fd, "link", NULL);
    assert_true(box->listener >= 0);
    box->guest = fork();
    if (box->guest == 0) {
        struct err err;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        fd_close(box->listener);
        guest_run(&box->machine, &err);
        fprintf(stderr, "guest: %s\n", err.message);
        _exit(1);
    }
}

static void accept_guest(struct box *box)
{
    struct pollfd wait = { box->listener, POLLIN, 0 };
    assert_int_equal(poll(&wait, 1, 60000), 1);
    int fd = accept4(box->listener, NULL, NULL, SOCK_CLOEXEC);
    assert_int_equal(link_connect(box->host.link, fd, NULL), 0);
}

static int set_up(void **state)
{
    *state = NULL;
    if (geteuid() != 0 || access(BUSYBOX, X_OK) < 0)
        return 0;
    struct box *box = mem_new(struct box);
    snprintf(box->dir, sizeof(box->dir), "/tmp/berth-test-guest-XXXXXX");
    assert_non_null(mkdtemp(box->dir));
    box->dir_fd = file_open_dir(AT_FDCWD, box->dir, NULL);
    make_root(box);
    char digits[9];
    random_hex(digits, 8);
    snprintf(box->cgroup_parent, sizeof(box->cgroup_parent), "berth-test-%s", digits);
    snprintf(box->cgroup_path, sizeof(box->cgroup_path), "%s/guest", box->cgroup_parent);
    box->machine = (struct guest_machine){ .context = box,
                                           .connect = connect_to_host,
                                           .open_rootfs = open_rootfs,
                                           .close_rootfs = close_rootfs,
                                           .set_network = set_network,
                                           .power_off = power_off,
                                           .files_fd = file_open_dir(box->dir_fd, "files", NULL),
                                           .netns_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC),
                                           .init_fd = -1,
                                           .cgroup_path = box->cgroup_path,
                                           .kernel = "1.2.3-test" };
    host_init(&box->host, WAIT_NS);
    start_guest(box);
    accept_guest(box);
    HOST_UNTIL(&box->host, box->host.hello);
    assert_non_null(box->host.hello);
    *state = box;
    return 0;
}

static int tear_down(void **state)
{
    struct box *box = *state;
    if (!box)
        return 0;
    struct cgroup_layout layout;
    struct cgroup *cgroup;
    kill(box->guest, SIGKILL);
    waitpid(box->guest, NULL, 0);
    host_done(&box->host);
    cgroup_layout_probe(&layout);
    if (cgroup_open(&layout, box->cgroup_path, &cgroup, NULL) == 0) {
        cgroup_kill(cgroup, 5 * NS_PER_S, NULL);
        cgroup_free(cgroup);
    }
    cgroup_remove(&layout, box->cgroup_path, 5 * NS_PER_S, NULL);
    cgroup_remove(&layout, box->cgroup_parent, 5 * NS_PER_S, NULL);
    fd_close(box->machine.files_fd);
    fd_close(box->machine.netns_fd);
    fd_close(box->listener);
    fd_close(box->dir_fd);
    file_remove_tree(AT_FDCWD, box->dir, NULL);
    free(box);
    return 0;
}

#define NEED_BOX(state)                                              \
    struct box *box = *(state);                                      \
    if (!box) {                                                      \
        print_message("skipped: needs root and a static busybox\n"); \
        skip();                                                      \
    }                                                                \
    struct host *host = &box->host

// ---- tests ---------------------------------------------------------------------------------------------------------

static void expect_halted(struct box *box)
{
    json_t *last = host_await(&box->host, "halted");
    assert_null(json_object_get(last, "message"));
    assert_ptr_equal(box->host.events[box->host.event_len - 1], last);
    assert_int_equal(faccessat(box->dir_fd, "closed", F_OK, 0), 0);
}

static void one_run(void **state)
{
    NEED_BOX(state);
    assert_string_equal(json_get_text(host->hello, "kernel", ""), "1.2.3-test");
    struct host_run run = { .script = "hostname; cat /etc/hosts; echo wrong >&2; exit 7" };
    json_t *created = host_call(host, "create", host_create_arguments(host, &run, 1));
    assert_string_equal(json_get_text(created, "kernel", ""), "1.2.3-test");
    json_t *started = host_call(host, "start", NULL);
    assert_true(json_get_int(started, "pid", 0) > 0);
    json_decref(created);
    json_decref(started);
    assert_int_equal(host_exit_code(host), 7);
    expect_halted(box);
    host_expect_text(host, 2, "box\n127.0.0.1 localhost\n");
    host_expect_text(host, 3, "wrong\n");
    assert_true(host->streams[2].ended && host->streams[3].ended);
    assert_false(json_get_flag(host_find_event(host, "exited"), "oom", true));
}

// More than a window and a pipe: all is there when `halted` comes.
static void much_output(void **state)
{
    NEED_BOX(state);
    host_run_task(host, &(struct host_run){ .script = "yes | head -c 3000000" }, 1);
    assert_int_equal(host_exit_code(host), 0);
    expect_halted(box);
    struct stat status;
    assert_int_equal(fstat(host->streams[2].sink_fd, &status), 0);
    assert_int_equal(status.st_size, 3000000);
}

static void input_until_its_end(void **state)
{
    NEED_BOX(state);
    host_run_task(host, &(struct host_run){ .script = "cat; echo end" }, 1);
    fd_write_full(host->streams[1].feed_fd, "hello\n", 6, NULL);
    host_await_text(host, 2, "hello\n");
    fd_close(take_fd(&host->streams[1].feed_fd));
    assert_int_equal(host_exit_code(host), 0);
    expect_halted(box);
    host_expect_text(host, 2, "hello\nend\n");
}

static void signals(void **state)
{
    NEED_BOX(state);
    host_run_task(
        host, &(struct host_run){ .script = "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.05; done" },
        1);
    host_await_text(host, 2, "ready");
    host_refused(host, "kill", json_pack("{s:i}", "signal", 65), ERR_INVALID_ARGUMENT, "signal 65");
    host_refused(host, "kill", json_pack("{s:i, s:s}", "signal", 9, "exec_id", "none"), ERR_NOT_FOUND, "no exec none");
    host_do(host, "kill", json_pack("{s:i, s:s}", "signal", SIGTERM, "exec_id", ""));
    assert_int_equal(host_exit_code(host), 9);
    expect_halted(box);
    host_expect_text(host, 2, "ready\ngot\n");
    host_refused(host, "kill", json_pack("{s:i}", "signal", 9), ERR_UNAVAILABLE, "halted");
}

static void a_signal_for_all(void **state)
{
    NEED_BOX(state);
    host_run_task(host, &(struct host_run){ .script = "sleep 100 & sleep 100 & echo ready; wait" }, 1);
    host_await_text(host, 2, "ready");
    host_do(host, "kill", json_pack("{s:i, s:b}", "signal", SIGKILL, "all", 1));
    assert_int_equal(host_exit_code(host), 137);
    expect_halted(box);
}

static void further_processes(void **state)
{
    NEED_BOX(state);
    struct host_run main_run = { .script = "echo up; sleep 100" }, run = { .script = "cat; echo $$ >&2; exit 5" };
    host_refused(host, "exec", host_exec_arguments(host, "early", &run, 40), ERR_CONFLICT, "not running");
    host_run_task(host, &main_run, 1);
    host_do(host, "exec", host_exec_arguments(host, "one", &run, 10));
    host_refused(host, "exec", host_exec_arguments(host, "one", &run, 20), ERR_CONFLICT, "runs already");
    struct host_run missing = { .args = (const char *const[]){ "/nosuch", NULL } };
    host_refused(host, "exec", host_exec_arguments(host, "two", &missing, 30), ERR_NOT_FOUND, "exec: \"/nosuch\"");
    fd_write_full(host->streams[10].feed_fd, "in", 2, NULL);
    fd_close(take_fd(&host->streams[10].feed_fd));
    json_t *event = host_await(host, "exec_exited");
    assert_string_equal(json_get_text(event, "exec_id", ""), "one");
    assert_int_equal(json_get_int(event, "exit_code", -1), 5);
    HOST_UNTIL(host, host->streams[11].ended && host->streams[12].ended);
    host_expect_text(host, 11, "in");
    assert_null(host_find_event(host, "exited"));
    host_do(host, "kill", json_pack("{s:i}", "signal", SIGKILL));
    assert_int_equal(host_exit_code(host), 137);
    expect_halted(box);
}

// What an exec leaves behind keeps its pipe: the exec's stream ends all the same, and the last one the machine.
static void a_pipe_that_stays_open(void **state)
{
    NEED_BOX(state);
    host_run_task(host, &(struct host_run){ .script = "sleep 100" }, 1);
    host_do(host, "exec", host_exec_arguments(host, "e", &(struct host_run){ .script = "sleep 100 & echo bye" }, 10));
    host_await(host, "exec_exited");
    HOST_UNTIL(host, host->streams[11].ended);
    assert_true(host->streams[11].ended);
    host_expect_text(host, 11, "bye\n");
    host_do(host, "kill", json_pack("{s:i}", "signal", SIGKILL));
    expect_halted(box);
}

static void a_terminal(void **state)
{
    NEED_BOX(state);
    host_run_task(
        host,
        &(struct host_run){ .script = "tty; stty size; read line; stty size; echo \"got $line\"", .terminal = true },
        1);
    host_await_text(host, 4, "25 81");
    host_do(host, "resize", json_pack("{s:i, s:i}", "height", 40, "width", 100));
    host_refused(host, "resize", json_pack("{s:i, s:i}", "height", 70000, "width", 1), ERR_INVALID_ARGUMENT,
                 "terminal size");
    fd_write_full(host->streams[4].feed_fd, "words\n", 6, NULL);
    assert_int_equal(host_exit_code(host), 0);
    expect_halted(box); // although our direction of the terminal is still open
    host_expect_text(host, 4, "/dev/pts/0\r\n25 81\r\nwords\r\n40 100\r\ngot words\r\n");
}

static void a_host_that_comes_back(void **state)
{
    NEED_BOX(state);
    host_run_task(host, &(struct host_run){ .script = "echo one; read line; yes | head -c 400000; echo $line" }, 1);
    host_await_text(host, 2, "one\n");
    // The connection is cut; the guest finds us again, and nothing is lost.
    int dead[2];
    assert_int_equal(fd_socketpair(SOCK_STREAM, dead, NULL), 0);
    assert_int_equal(link_connect(host->link, dead[0], NULL), 0);
    fd_close(dead[1]);
    HOST_UNTIL(host, host->closed);
    accept_guest(box);
    fd_write_full(host->streams[1].feed_fd, "two\n", 4, NULL);
    assert_int_equal(host_exit_code(host), 0);
    expect_halted(box);
    struct stat status;
    assert_int_equal(fstat(host->streams[2].sink_fd, &status), 0);
    assert_int_equal(status.st_size, 4 + 400000 + 4);
}

static void a_command_that_is_not_there(void **state)
{
    NEED_BOX(state);
    struct host_run run = { .args = (const char *const[]){ "nosuch", NULL } };
    host_do(host, "create", host_create_arguments(host, &run, 1));
    host_refused(host, "start", NULL, ERR_NOT_FOUND, "exec: \"nosuch\": executable file not found in $PATH");
    expect_halted(box);
    assert_null(host_find_event(host, "exited"));
}

static void what_is_refused(void **state)
{
    NEED_BOX(state);
    static const struct {
        const char *members; // that replace the document's
        enum err_class class;
        const char *text;
    } rows[] = {
        { "{\"version\": 2}", ERR_NOT_IMPLEMENTED, "version 2" },
        { "{\"init\": true}", ERR_NOT_IMPLEMENTED, "berth-init" },
        { "{\"mounts\": [{\"kind\": \"bind\", \"target\": \"/x\", \"fd\": -1}]}", ERR_NOT_IMPLEMENTED, "mount /x" },
        { "{\"linux\": {\"namespaces\": [{\"type\": \"ipc\", \"path\": \"/proc/1/ns/ipc\"}]}}", ERR_NOT_IMPLEMENTED,
          "by path" },
        { "{\"rootfs\": 7}", ERR_INVALID_ARGUMENT, "rootfs" },
    };
    host_refused(host, "start", NULL, ERR_CONFLICT, "no task");
    host_refused(host, "snapshot", NULL, ERR_NOT_IMPLEMENTED, "unknown verb snapshot");
    host_refused(host, "kill", json_pack("{s:s}", "signal", "KILL"), ERR_INVALID_ARGUMENT, "signal");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct host_run run = { .script = "true", .more = json_loads(rows[i].members, 0, NULL) };
        assert_non_null(run.more);
        host_refused(host, "create", json_pack("{s:o}", "document", host_document(&run, 1)), rows[i].class,
                     rows[i].text);
    }
    host_run_task(host, &(struct host_run){ .script = "sleep 100" }, 1);
    struct host_run again = { .script = "true" };
    host_refused(host, "create", json_pack("{s:o}", "document", host_document(&again, 1)), ERR_CONFLICT, "already");
    host_refused(host, "start", NULL, ERR_CONFLICT, "already");
}

static void a_card_that_is_not_there(void **state)
{
    NEED_BOX(state);
    json_t *nics = json_pack("{s:[{s:s, s:i, s:i}]}", "nics", "address", "10.0.0.2", "netns_fd", -1, "tap_fd", -1);
    struct host_run run = { .script = "true", .more = nics };
    host_refused(host, "create", json_pack("{s:o}", "document", host_document(&run, 1)), ERR_UNAVAILABLE,
                 "no card here");
    expect_halted(box);
}

// Streams first (tar) and first + 1 (report).
static json_t *files_arguments(struct host *host, const char *op, const char *path, uint32_t first)
{
    bool in = str_eq(op, "put");
    host_stream(host, first, !in, in);
    host_stream(host, first + 1, true, false);
    return json_pack("{s:s, s:s, s:{s:i, s:i}}", "op", op, "path", path, "streams", in ? "in" : "out", first, "error", first + 1);
}

static void files_of_the_container(void **state)
{
    NEED_BOX(state);
    host_refused(host, "files", files_arguments(host, "get", "/tmp", 5), ERR_CONFLICT, "not running");
    host_run_task(host, &(struct host_run){ .script = "echo text >/tmp/file; sleep 100" }, 1);
    host_do(host, "files", files_arguments(host, "stat", "/tmp", 7));
    host_await_text(host, 8, "{\"done\":true}");
    host_await_text(host, 8, "\"name\":\"tmp\"");
    host_do(host, "files", files_arguments(host, "get", "/bin/busybox", 9));
    host_await_text(host, 10, "{\"done\":true}");
    host_await_text(host, 9, "busybox");
    host_do(host, "files", files_arguments(host, "get", "/../../../etc/shadow", 11));
    host_await_text(host, 12, "\"class\":\"not_found\"");
    host_do(host, "files", files_arguments(host, "put", "/nosuch", 13));
    host_await_text(host, 14, "\"class\":\"not_found\"");
    host_do(host, "files", files_arguments(host, "nosuch", "/", 15));
    host_await_text(host, 16, "unknown verb nosuch");
    host_refused(host, "files", json_pack("{s:s, s:s}", "op", "get", "path", "/"), ERR_INVALID_ARGUMENT, "no report");
}

// A copy that nobody takes does not keep the machine from its end.
static void a_copy_that_stands_still(void **state)
{
    NEED_BOX(state);
    host_run_task(host, &(struct host_run){ .script = "sleep 100" }, 1);
    host_do(host, "files", files_arguments(host, "put", "/tmp", 7)); // waits for a tar for ever
    host_do(host, "kill", json_pack("{s:i, s:s}", "signal", SIGKILL, "exec_id", ""));
    expect_halted(box);
}

#define VERBS_TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        VERBS_TEST(one_run),
        VERBS_TEST(much_output),
        VERBS_TEST(input_until_its_end),
        VERBS_TEST(signals),
        VERBS_TEST(a_signal_for_all),
        VERBS_TEST(further_processes),
        VERBS_TEST(a_pipe_that_stays_open),
        VERBS_TEST(a_terminal),
        VERBS_TEST(a_host_that_comes_back),
        VERBS_TEST(a_command_that_is_not_there),
        VERBS_TEST(what_is_refused),
        VERBS_TEST(a_card_that_is_not_there),
        VERBS_TEST(files_of_the_container),
        VERBS_TEST(a_copy_that_stands_still),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
