// The life of a container under a real shim: exit codes, events and their acknowledgement, the exit record, daemons that
// come and go.
#include "fixture.h"

static void exit_codes_and_order(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    box_run(box, &(struct run){ .script = "echo out; echo err >&2; exit 7" });
    size_t at = box_await(box, "exited", 0);
    assert_string_equal(box->events[0].kind, "started");
    assert_int_equal(at, 1);
    assert_int_equal(box->events[at].exit_code, 7);
    assert_false(box->events[at].oom);
    struct arena arena = ARENA_INIT;
    struct task_state now;
    box_state(box, &now, &arena);
    assert_string_equal(now.status, "exited");
    assert_int_equal(now.exit_code, 7);
    assert_true(now.started_ns > 0 && now.exited_ns >= now.started_ns);
    _cleanup_free_ char *log = box_log(box);
    assert_non_null(strstr(log, "{\"log\":\"out\\n\",\"stream\":\"stdout\",\"time\":\""));
    assert_non_null(strstr(log, "{\"log\":\"err\\n\",\"stream\":\"stderr\",\"time\":\""));
    arena_done(&arena);
}

static void the_record_is_there_with_the_event(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    box_run(box, &(struct run){ .script = "exit 3" });
    box_await(box, "exited", 0);
    struct buf text = BUF_INIT(4096);
    struct stat status;
    struct arena arena = ARENA_INIT;
    struct task_exit_record record;
    assert_int_equal(file_read_at(box->container_fd, TASK_EXIT_RECORD_NAME, &text, NULL), 0);
    assert_int_equal(json_decode_text(&task_exit_record_table, text.data, text.size, &record, &arena, NULL, NULL), 0);
    assert_int_equal(record.exit_code, 3);
    assert_int_equal(strlen(record.boot_id), 36);
    assert_true(record.time_ns >= record.started_ns);
    assert_int_equal(fstatat(box->container_fd, TASK_EXIT_RECORD_NAME, &status, 0), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    arena_done(&arena);
    buf_done(&text);
}

static void delete_ends_the_shim(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    box_run(box, &(struct run){ .script = "exit 0" });
    box_await(box, "exited", 0);
    box_call(box, "delete", NULL);
    assert_int_equal(box_await_leave(box), 0);
    assert_int_equal(faccessat(box->state_fd, TASK_SOCKET_NAME, F_OK, 0), -1);
}

// Running, with an exec, and frozen: what a daemon finds that was killed in the middle of a removal.
static void delete_kills_what_still_runs(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    struct err err;
    pid_t *pids;
    size_t len;
    box_run(box, &(struct run){ .script = "sleep 1000 & exec sleep 1000" });
    if (box_exec(box, "e1", &(struct run){ .script = "exec sleep 1000" }, &err) < 0)
        fail_msg("%s", err.message);
    box_call(box, "pause", NULL);
    box_call(box, "delete", NULL);
    assert_int_equal(cgroup_pids(box->cgroup, &pids, &len, NULL), 0);
    assert_int_equal(len, 0);
    free(pids);
    assert_int_equal(box_await_leave(box), 0);
}

static void a_created_task_can_be_deleted(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    pid_t *pids;
    size_t len;
    box_create(box, &(struct run){ .script = "true" });
    box_call(box, "delete", NULL);
    assert_int_equal(box_await_leave(box), 0);
    assert_int_equal(cgroup_pids(box->cgroup, &pids, &len, NULL), 0);
    assert_int_equal(len, 0);
    free(pids);
}

static void a_shim_without_task_can_be_deleted(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    box_call(box, "delete", NULL);
    assert_int_equal(box_await_leave(box), 0);
}

static void failing_starts_keep_their_words(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    static const struct { const char *program, *words; } cases[] = {
        { "nosuch", "exec: \"nosuch\": executable file not found in $PATH" },
        { "/nosuch", "exec: \"/nosuch\": stat /nosuch: no such file or directory" },
        { "/etc/passwd", "exec: \"/etc/passwd\": permission denied" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *const args[] = { cases[i].program, NULL };
        struct err err = { 0 };
        int ends[2];
        struct task_attach attach = { .out = true, .error = true };
        fd_socketpair(SOCK_STREAM, ends, NULL);
        struct run run = { .args = args, .attach = &attach, .attach_fds = &ends[1], .attach_len = 1 };
        int outcome = box_try_create(box, &run, &err);
        if (outcome == 0)
            outcome = box_try(box, "start", NULL, &err);
        fd_close(ends[1]);
        assert_int_equal(outcome, -1);
        if (!strstr(err.message, cases[i].words))
            fail_msg("%s", err.message);
        _cleanup_free_ char *nothing = read_text(ends[0], NULL); // the client is not left waiting
        assert_string_equal(nothing, "");
        fd_close(ends[0]);
    }
    box_run(box, &(struct run){ .script = "exit 4" }); // and the shim takes a better document
    assert_int_equal(box->events[box_await(box, "exited", 0)].exit_code, 4);
}

static void refuses_what_is_no_document(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    struct run run = { .script = "true" };
    static const struct { const char *key, *value; enum err_class class; } cases[] = {
        { "version", "99", ERR_NOT_IMPLEMENTED },
        { "id", "\"another\"", ERR_INVALID_ARGUMENT },
        { "isolation", "\"vm\"", ERR_INVALID_ARGUMENT }, // without its section
        { "isolation", "\"zone\"", ERR_NOT_IMPLEMENTED },
        { "process", "7", ERR_INVALID_ARGUMENT },
        { "rootfs", "{\"kind\":\"layers\",\"layers\":[{\"fd\":3}],\"upper\":{\"upper_fd\":0,\"work_fd\":0}}", ERR_INVALID_ARGUMENT },
        { "rootfs", "{\"kind\":\"layers\",\"layers\":[{\"fd\":-1}],\"upper\":{\"upper_fd\":0,\"work_fd\":0}}", ERR_INVALID_ARGUMENT },
        { "mounts", "[{\"kind\":\"bind\",\"target\":\"/x\",\"fd\":99}]", ERR_INVALID_ARGUMENT },
        { "mounts", "[{\"kind\":\"nfs\",\"target\":\"/x\",\"fd\":-1}]", ERR_NOT_IMPLEMENTED },
        { "files", "[{\"path\":\"/etc/..\"}]", ERR_INVALID_ARGUMENT },
        { "files", "[{\"path\":\"hosts\"}]", ERR_INVALID_ARGUMENT },
        { "files", "[{\"path\":\"/a/x\"},{\"path\":\"/b/x\"}]", ERR_INVALID_ARGUMENT },
        { "log", "{\"driver\":\"awslogs\"}", ERR_NOT_IMPLEMENTED },
        { "log", "{\"driver\":\"json-file\",\"path\":\"relative\"}", ERR_INVALID_ARGUMENT },
        { "ports", "[{\"proto\":\"tcp\",\"target_address\":\"1.2.3.4\",\"target_port\":1,\"listener_fd\":50}]", ERR_INVALID_ARGUMENT },
        { "nics", "[{\"netns_fd\":50,\"tap_fd\":-1}]", ERR_INVALID_ARGUMENT },
        { "init", "true", ERR_NOT_IMPLEMENTED },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = { 0 };
        int fds[3] = { box->dir_fd, box->dir_fd, box->dir_fd };
        json_t *document = box_document(box, &run);
        json_object_set_new(document, cases[i].key, json_loads(cases[i].value, JSON_DECODE_ANY, NULL));
        json_t *result = box_call_fds(box, "create", json_pack("{s:o}", "document", document), fds, 3, &err);
        if (result || err.class != cases[i].class)
            fail_msg("%s: %s: %s", cases[i].key, cases[i].value, err.message);
    }
    box_run(box, &run);
    box_await(box, "exited", 0);
}

static void verbs_out_of_place(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    static const struct { const char *verb; enum err_class class; } before[] = {
        { "start", ERR_CONFLICT }, { "state", ERR_NOT_FOUND }, { "kill", ERR_NOT_FOUND }, { "resize", ERR_NOT_FOUND },
        { "pause", ERR_CONFLICT }, { "resume", ERR_CONFLICT }, { "attach", ERR_NOT_FOUND }, { "stdin_close", ERR_NOT_FOUND },
        { "snapshot", ERR_NOT_IMPLEMENTED }, { "", ERR_NOT_IMPLEMENTED },
    };
    for (size_t i = 0; i < ARRAY_LEN(before); i++) {
        struct err err = { 0 };
        assert_int_equal(box_try(box, before[i].verb, NULL, &err), -1);
        assert_int_equal(err.class, before[i].class);
    }
    struct err err = { 0 };
    box_run(box, &(struct run){ .script = "exit 0" });
    box_await(box, "exited", 0);
    assert_int_equal(box_try(box, "kill", json_pack("{s:i}", "signal", SIGTERM), &err), -1);
    assert_int_equal(err.class, ERR_CONFLICT);
    assert_int_equal(box_try(box, "start", NULL, &err), -1);
    assert_int_equal(err.class, ERR_CONFLICT);
    assert_int_equal(box_try(box, "resize", json_pack("{s:s}", "exec_id", "nosuch"), &err), -1);
    assert_int_equal(err.class, ERR_NOT_FOUND);
}

static void pause_and_resume(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    struct arena arena = ARENA_INIT;
    struct task_state now;
    struct err err;
    box_run(box, &(struct run){ .script = "while true; do echo tick; sleep 0.01; done" });
    box_call(box, "pause", NULL);
    box_await(box, "paused", 0);
    box_state(box, &now, &arena);
    assert_string_equal(now.status, "paused");
    assert_int_equal(box_try(box, "pause", NULL, &err), -1);
    usleep(50000);
    _cleanup_free_ char *before = box_log(box);
    usleep(100000);
    _cleanup_free_ char *after = box_log(box);
    assert_string_equal(before, after);
    box_call(box, "resume", NULL);
    box_await(box, "resumed", 0);
    usleep(200000);
    _cleanup_free_ char *later = box_log(box);
    assert_true(strlen(later) > strlen(after));
    box_call(box, "kill", json_pack("{s:i, s:b}", "signal", SIGKILL, "all", 1));
    assert_int_equal(box->events[box_await(box, "exited", 0)].exit_code, 137);
    arena_done(&arena);
}

static void an_oom_kill_is_told(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    if (!cgroup_layout_has(&box->layout, "memory"))
        skip();
    struct cgroup_limits limits = { .memory_limit = 16 << 20 };
    assert_int_equal(cgroup_limit(box->cgroup, &limits, NULL, NULL), 0);
    box_run(box, &(struct run){ .script = "exec dd if=/dev/zero of=/dev/null bs=100M count=1" });
    size_t at = box_await(box, "exited", 0);
    assert_int_equal(box->events[at].exit_code, 137);
    assert_true(box->events[at].oom);
    assert_true(box_await(box, "oom", 0) < at);
}

// ---- daemons --------------------------------------------------------------------------------------------------------

static void a_newer_daemon_displaces_the_older(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    box_run(box, &(struct run){ .script = "exec sleep 1000" });
    struct task_client *older = box->client;
    box_connect(box);
    assert_true(box_await_closed(box, 1));
    struct err err;
    assert_int_equal(task_call(older, "state", NULL, NULL, 0, CALL_NS, NULL, NULL, NULL, &err), -1);
    assert_int_equal(err.class, ERR_UNAVAILABLE);
    task_client_free(older);
    box_call(box, "kill", json_pack("{s:i}", "signal", SIGTERM));
    box_call(box, "kill", json_pack("{s:i}", "signal", SIGKILL));
    box_await(box, "exited", 0);
}

static void events_come_again_until_acknowledged(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    box->hold_acks = true;
    box_run(box, &(struct run){ .script = "exit 9" });
    size_t at = box_await(box, "exited", 0);
    int64_t started = box->events[0].seq, exited = box->events[at].seq;
    assert_true(exited > started);
    box_disconnect(box);
    size_t seen = box->event_len;
    box_connect(box);
    at = box_await(box, "exited", seen);
    assert_int_equal(box->events[seen].seq, started);
    assert_int_equal(box->events[at].seq, exited);
    assert_int_equal(box->events[at].exit_code, 9);
    task_ack(box->client, started);
    task_ack(box->client, exited);
    box_call(box, "state", NULL); // both are handled now
    box_disconnect(box);
    seen = box->event_len;
    box_connect(box);
    box_call(box, "state", NULL);
    usleep(50000);
    assert_int_equal(box->event_len, seen);
}

static void the_container_may_end_while_nobody_is_there(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    struct arena arena = ARENA_INIT;
    struct task_state now;
    box_run(box, &(struct run){ .script = "echo before; sleep 0.3; echo after; exit 5" });
    box_await(box, "started", 0);
    box_disconnect(box);
    for (int i = 0; i < 500 && faccessat(box->container_fd, TASK_EXIT_RECORD_NAME, F_OK, 0) < 0; i++)
        usleep(10000);
    size_t seen = box->event_len;
    box_connect(box);
    size_t at = box_await(box, "exited", seen);
    assert_int_equal(box->events[at].exit_code, 5);
    box_state(box, &now, &arena);
    assert_string_equal(now.status, "exited");
    _cleanup_free_ char *log = box_log(box);
    assert_non_null(strstr(log, "after\\n"));
    box_call(box, "delete", NULL);
    assert_int_equal(box_await_leave(box), 0);
    arena_done(&arena);
}

// A daemon in a process of its own, killed without a word.
static void a_killed_daemon_is_followed_by_another(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    struct arena arena = ARENA_INIT;
    struct task_state before, after;
    box_run(box, &(struct run){ .script = "exec sleep 1000" });
    box_state(box, &before, &arena);
    box_disconnect(box);
    pid_t daemon = fork();
    if (daemon == 0) {
        int sock = fd_unix_connect_at(box->state_fd, TASK_SOCKET_NAME, NULL);
        json_t *hello = json_pack("{s:s, s:i, s:i}", "verb", "hello", "proto_min", 1, "proto_max", 9);
        task_send(sock, TASK_REQUEST, 1, hello, NULL, 0, NULL);
        char bytes[16];
        fd_read_full(sock, bytes, sizeof(bytes), NULL);
        raise(SIGKILL);
    }
    waitpid(daemon, NULL, 0);
    box_connect(box);
    box_state(box, &after, &arena);
    assert_string_equal(after.status, "running");
    assert_int_equal(after.pid, before.pid);
    assert_true(after.started_ns == before.started_ns);
    box_call(box, "kill", json_pack("{s:i}", "signal", SIGKILL));
    box_await(box, "exited", 0);
    arena_done(&arena);
}

static void garbage_closes_only_its_connection(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    static const char *const garbage[] = { "GET / HTTP/1.1\r\n\r\n", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                                           "{\"verb\":\"hello\"}" };
    for (size_t i = 0; i < ARRAY_LEN(garbage); i++) {
        int sock = fd_unix_connect_at(box->state_fd, TASK_SOCKET_NAME, NULL);
        assert_true(write(sock, garbage[i], strlen(garbage[i])) > 0);
        _cleanup_free_ char *nothing = read_text(sock, NULL);
        assert_string_equal(nothing, "");
        fd_close(sock);
    }
    int sock = fd_unix_connect_at(box->state_fd, TASK_SOCKET_NAME, NULL); // a verb before hello
    json_t *request = json_pack("{s:s}", "verb", "delete");
    task_send(sock, TASK_REQUEST, 1, request, NULL, 0, NULL);
    _cleanup_free_ char *nothing = read_text(sock, NULL);
    assert_string_equal(nothing, "");
    json_decref(request);
    fd_close(sock);
    int silent[20]; // more than it keeps
    for (size_t i = 0; i < ARRAY_LEN(silent); i++)
        silent[i] = fd_unix_connect_at(box->state_fd, TASK_SOCKET_NAME, NULL);
    box_run(box, &(struct run){ .script = "exit 0" });
    box_await(box, "exited", 0);
    for (size_t i = 0; i < ARRAY_LEN(silent); i++)
        fd_close(silent[i]);
}

static void a_daemon_of_another_age_is_refused(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    struct err err = { 0 };
    assert_int_equal(box_try(box, "hello", json_pack("{s:i, s:i}", "proto_min", 7, "proto_max", 9), &err), -1);
    assert_int_equal(err.class, ERR_NOT_IMPLEMENTED);
    box_call(box, "hello", json_pack("{s:i, s:i, s:s}", "proto_min", 0, "proto_max", 9, "later", "x"));
}

static void the_shim_leaves_the_daemons_cgroup(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    char path[64], wanted[64];
    bool unified = false;
    for (size_t i = 0; i < box->layout.len; i++)
        unified |= box->layout.hierarchies[i].v2;
    if (!unified) {
        print_message("skipped: no cgroup2 tree\n");
        skip();
    }
    box_run(box, &(struct run){ .script = "exec sleep 1000" });
    snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)box->shim);
    snprintf(wanted, sizeof(wanted), "0::/berth-%s/shim\n", box->daemon_id);
    bool there = false;
    for (int i = 0; i < 300 && !there; i++) {
        struct buf text = BUF_INIT(16384);
        file_read_at(AT_FDCWD, path, &text, NULL);
        there = strstr(buf_text(&text), wanted);
        buf_done(&text);
        usleep(10000);
    }
    assert_true(there);
    box_call(box, "kill", json_pack("{s:i}", "signal", SIGKILL));
    box_await(box, "exited", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOX_TEST(exit_codes_and_order),
        BOX_TEST(the_record_is_there_with_the_event),
        BOX_TEST(delete_ends_the_shim),
        BOX_TEST(delete_kills_what_still_runs),
        BOX_TEST(a_created_task_can_be_deleted),
        BOX_TEST(a_shim_without_task_can_be_deleted),
        BOX_TEST(failing_starts_keep_their_words),
        BOX_TEST(refuses_what_is_no_document),
        BOX_TEST(verbs_out_of_place),
        BOX_TEST(pause_and_resume),
        BOX_TEST(an_oom_kill_is_told),
        BOX_TEST(a_newer_daemon_displaces_the_older),
        BOX_TEST(events_come_again_until_acknowledged),
        BOX_TEST(the_container_may_end_while_nobody_is_there),
        BOX_TEST(a_killed_daemon_is_followed_by_another),
        BOX_TEST(garbage_closes_only_its_connection),
        BOX_TEST(a_daemon_of_another_age_is_refused),
        BOX_TEST(the_shim_leaves_the_daemons_cgroup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
