// A real shim in a child process, with a made-up busybox rootfs, its own cgroup and a task socket; driven by task_client
// as the engine drives it.
#ifndef FIXTURE_H
#define FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mutex.h"
#include "base/num.h"
#include "kernel/cgroup.h"
#include "shim/shim.h"
#include "task/task.h"

#define BUSYBOX "/bin/busybox"
#define CONTAINER_ID "00aa11bb22cc33dd44ee55ff66007788990011223344556677889900aabbccdd"
#define CALL_NS (10 * NS_PER_S)
#define EVENTS_MAX 64

struct seen_event {
    int64_t seq, exit_code, pid;
    char kind[16], exec_id[72];
    bool oom;
};

struct box {
    char dir[64], daemon_id[9], cgroup_path[96], log_path[96];
    int dir_fd, state_fd, container_fd;
    struct cgroup_layout layout;
    struct cgroup *cgroup;
    pid_t shim;
    struct loop *loop;
    pthread_t loop_thread;
    struct task_client *client; // NULL: no daemon
    bool hold_acks; // events are not acknowledged by themselves
    struct mutex lock;
    struct cond changed;
    struct seen_event events[EVENTS_MAX];
    size_t event_len;
    int closed;
};

struct run {
    const char *script; // for sh -c
    const char *const *args; // instead
    bool terminal, open_stdin, stdin_once, no_log;
    const struct task_attach *attach;
    const int *attach_fds; // of the same length
    size_t attach_len;
};

// ---- events ---------------------------------------------------------------------------------------------------------

static void box_on_event(void *context, const struct task_event *event)
{
    struct box *box = context;
    mutex_lock(&box->lock);
    if (box->event_len < EVENTS_MAX) {
        struct seen_event *seen = &box->events[box->event_len++];
        *seen = (struct seen_event){ .seq = event->seq, .exit_code = event->exit_code, .pid = event->pid, .oom = event->oom };
        snprintf(seen->kind, sizeof(seen->kind), "%s", event->kind);
        snprintf(seen->exec_id, sizeof(seen->exec_id), "%s", event->exec_id ? event->exec_id : "");
    }
    bool ack = !box->hold_acks && box->client;
    cond_wake_all(&box->changed);
    mutex_unlock(&box->lock);
    if (ack)
        task_ack(box->client, event->seq);
}

static void box_on_closed(void *context)
{
    struct box *box = context;
    mutex_lock(&box->lock);
    box->closed++;
    cond_wake_all(&box->changed);
    mutex_unlock(&box->lock);
}

// The first event of that kind from `from` on, waited for; its place in the list.
static _unused_ size_t box_await(struct box *box, const char *kind, size_t from)
{
    int64_t deadline = clock_mono_ns() + CALL_NS;
    size_t found = EVENTS_MAX;
    mutex_lock(&box->lock);
    do {
        for (size_t i = from; i < box->event_len && found == EVENTS_MAX; i++)
            found = str_eq(box->events[i].kind, kind) ? i : EVENTS_MAX;
    } while (found == EVENTS_MAX && cond_wait_until(&box->changed, &box->lock, deadline));
    mutex_unlock(&box->lock);
    if (found == EVENTS_MAX)
        fail_msg("no event %s", kind);
    return found;
}

static _unused_ bool box_await_closed(struct box *box, int times)
{
    int64_t deadline = clock_mono_ns() + CALL_NS;
    mutex_lock(&box->lock);
    while (box->closed < times && cond_wait_until(&box->changed, &box->lock, deadline))
        ;
    bool enough = box->closed >= times;
    mutex_unlock(&box->lock);
    return enough;
}

// ---- calls ----------------------------------------------------------------------------------------------------------

static _unused_ struct task_client *box_connect_client(struct box *box, struct err *err)
{
    struct task_client *client = NULL;
    int sock = fd_unix_connect_at(box->state_fd, TASK_SOCKET_NAME, err);
    if (sock < 0 || task_client_new(sock, box->loop, box_on_event, box_on_closed, box, &client, err) < 0)
        return NULL;
    return client;
}

static _unused_ void box_connect(struct box *box)
{
    struct err err;
    box->client = box_connect_client(box, &err);
    if (!box->client)
        fail_msg("connect: %s", err.message);
}

static _unused_ void box_disconnect(struct box *box)
{
    task_client_free(take_ptr(&box->client));
}

// Takes `arguments`. The result is a new reference, NULL with *err filled on failure.
static _unused_ json_t *box_call_fds(struct box *box, const char *verb, json_t *arguments, const int *fds, size_t len,
                                     struct err *err)
{
    json_t *result = NULL;
    task_call(box->client, verb, arguments, fds, len, CALL_NS, &result, NULL, NULL, err);
    json_decref(arguments);
    return result;
}

static _unused_ int box_try(struct box *box, const char *verb, json_t *arguments, struct err *err)
{
    json_t *result = box_call_fds(box, verb, arguments, NULL, 0, err);
    json_decref(result);
    return result ? 0 : -1;
}

static _unused_ void box_call(struct box *box, const char *verb, json_t *arguments)
{
    struct err err;
    if (box_try(box, verb, arguments, &err) < 0)
        fail_msg("%s: %s", verb, err.message);
}

static _unused_ void box_state(struct box *box, struct task_state *out, struct arena *arena)
{
    struct err err;
    json_t *result = box_call_fds(box, "state", NULL, NULL, 0, &err);
    if (!result || json_decode(&task_state_table, result, out, arena, NULL, &err) < 0)
        fail_msg("state: %s", err.message);
    json_decref(result);
}

// ---- documents ------------------------------------------------------------------------------------------------------

static json_t *box_process(const struct run *run)
{
    json_t *args = run->script ? json_pack("[s, s, s]", "/bin/sh", "-c", run->script) : json_array();
    for (size_t i = 0; !run->script && run->args[i]; i++)
        json_array_append_new(args, json_string(run->args[i]));
    return json_pack("{s:b, s:{s:i, s:i}, s:o, s:[s, s], s:s}", "terminal", run->terminal, "user", "uid", 0, "gid", 0,
                     "args", args, "env", "PATH=/bin", "HOME=/", "cwd", "/");
}

static json_t *box_stdio(const struct run *run)
{
    return json_pack("{s:b, s:b, s:b, s:i, s:i}", "terminal", run->terminal, "open_stdin", run->open_stdin, "stdin_once",
                     run->stdin_once, "height", run->terminal ? 25 : 0, "width", run->terminal ? 81 : 0);
}

static json_t *box_attach(const struct run *run, size_t first_index)
{
    json_t *list = json_array();
    for (size_t i = 0; i < run->attach_len; i++) {
        struct task_attach attach = run->attach[i];
        attach.fd = (int64_t)(first_index + i);
        json_array_append_new(list, json_encode(&task_attach_table, &attach));
    }
    return list;
}

static json_t *box_document(struct box *box, const struct run *run)
{
    json_t *linux_section = json_pack("{s:[{s:s}, {s:s}, {s:s}, {s:s}, {s:s}], s:s}", "namespaces", "type", "pid", "type",
                                      "mount", "type", "ipc", "type", "uts", "type", "network", "cgroupsPath",
                                      box->cgroup_path);
    json_t *rootfs = json_pack("{s:s, s:[{s:s, s:i}], s:{s:s, s:i, s:i, s:b}}", "kind", "layers", "layers", "dir", "layer",
                               "fd", 0, "upper", "kind", "dir", "upper_fd", 1, "work_fd", 2, "ephemeral", 1);
    return json_pack("{s:i, s:s, s:s, s:s, s:o, s:o, s:s, s:o, s:[{s:s, s:s, s:i}], s:{s:s, s:s}, s:o}", "version", 1,
                     "id", CONTAINER_ID, "daemon_id", box->daemon_id, "isolation", "container", "process",
                     box_process(run), "linux", linux_section, "hostname", "box", "rootfs", rootfs, "files", "path",
                     "/etc/hosts", "content", "127.0.0.1 localhost\n", "mode", 0644, "log", "driver",
                     run->no_log ? "none" : "json-file", "path", box->log_path, "stdio", box_stdio(run));
}

static _unused_ int box_try_create(struct box *box, const struct run *run, struct err *err)
{
    int fds[16];
    static const char *const folders[] = { "layer", "upper", "work" };
    file_remove_tree(box->dir_fd, "work/work", NULL); // a volatile upper mounts again only without its mark
    for (size_t i = 0; i < 3; i++)
        fds[i] = openat(box->dir_fd, folders[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; i < run->attach_len; i++)
        fds[3 + i] = run->attach_fds[i];
    json_t *arguments = json_pack("{s:o, s:o}", "document", box_document(box, run), "attach", box_attach(run, 3));
    json_t *result = box_call_fds(box, "create", arguments, fds, 3 + run->attach_len, err);
    for (size_t i = 0; i < 3; i++)
        fd_close(fds[i]);
    json_decref(result);
    return result ? 0 : -1;
}

static _unused_ void box_create(struct box *box, const struct run *run)
{
    struct err err;
    if (box_try_create(box, run, &err) < 0)
        fail_msg("create: %s", err.message);
}

static _unused_ void box_run(struct box *box, const struct run *run)
{
    box_create(box, run);
    box_call(box, "start", NULL);
}

static _unused_ int box_exec(struct box *box, const char *exec_id, const struct run *run, struct err *err)
{
    json_t *arguments = json_pack("{s:s, s:o, s:o, s:o}", "exec_id", exec_id, "process", box_process(run), "stdio",
                                  box_stdio(run), "attach", box_attach(run, 0));
    json_t *result = box_call_fds(box, "exec", arguments, run->attach_fds, run->attach_len, err);
    json_decref(result);
    return result ? 0 : -1;
}

// ---- reading --------------------------------------------------------------------------------------------------------

// Until the stream's end, or `stop` came; the text is the caller's.
static _unused_ char *read_text(int fd, const char *stop)
{
    struct buf text = BUF_INIT(64 << 20);
    for (;;) {
        struct pollfd wait = { fd, POLLIN, 0 };
        if (stop && text.data && memmem(text.data, text.size, stop, strlen(stop)))
            break;
        if (poll(&wait, 1, 10000) <= 0) {
            print_message("no end after: %.200s\n", buf_text(&text));
            break;
        }
        char *room = buf_reserve(&text, 65536);
        ssize_t got = read(fd, room, 65536);
        if (got <= 0)
            break;
        buf_commit(&text, (size_t)got);
    }
    return buf_take(&text);
}

static _unused_ char *box_log(struct box *box)
{
    struct buf text = BUF_INIT(64 << 20);
    file_read_at(AT_FDCWD, box->log_path, &text, NULL);
    return buf_take(&text);
}

// ---- set up and tear down -------------------------------------------------------------------------------------------

static void box_rootfs(struct box *box)
{
    static const char *const folders[] = { "state", "container", "layer", "upper", "work", "layer/bin", "layer/etc", "layer/tmp" };
    static const char *const applets[] = { "sh", "true", "cat", "echo", "sleep", "stty", "tty", "head", "yes", "kill", "dd", "wc",
                                           "hostname", "seq" };
    for (size_t i = 0; i < ARRAY_LEN(folders); i++)
        assert_int_equal(mkdirat(box->dir_fd, folders[i], 0755), 0);
    struct buf program = BUF_INIT(16 << 20);
    assert_int_equal(file_read_at(AT_FDCWD, BUSYBOX, &program, NULL), 0);
    assert_int_equal(file_write_at(box->dir_fd, "layer/bin/busybox", program.data, program.size, 0755, false, NULL), 0);
    buf_done(&program);
    for (size_t i = 0; i < ARRAY_LEN(applets); i++) {
        char path[64];
        snprintf(path, sizeof(path), "layer/bin/%s", applets[i]);
        assert_int_equal(symlinkat("busybox", box->dir_fd, path), 0);
    }
    static const char passwd[] = "root:x:0:0:root:/:/bin/sh\n";
    assert_int_equal(file_write_at(box->dir_fd, "layer/etc/passwd", passwd, sizeof(passwd) - 1, 0644, false, NULL), 0);
}

static void box_shim(struct box *box)
{
    int listener = fd_unix_listen_at(box->state_fd, TASK_SOCKET_NAME, NULL);
    assert_true(listener >= 0);
    box->shim = fork();
    if (box->shim == 0) {
        int fds[3] = { fcntl(listener, F_DUPFD, 20), fcntl(box->state_fd, F_DUPFD, 20), fcntl(box->container_fd, F_DUPFD, 20) };
        for (int i = 0; i < 3; i++)
            dup2(fds[i], SHIM_FD_LISTENER + i);
        close_range(SHIM_FD_INIT, ~0u, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        setsid();
        _exit(shim_run(box->daemon_id, CONTAINER_ID));
    }
    fd_close(listener);
}

static void *box_loop(void *context)
{
    loop_run(((struct box *)context)->loop, NULL);
    return NULL;
}

static _unused_ int box_set_up(void **state)
{
    *state = NULL;
    if (geteuid() != 0 || access(BUSYBOX, X_OK) < 0)
        return 0;
    struct box *box = mem_new(struct box);
    snprintf(box->dir, sizeof(box->dir), "/tmp/berth-test-shim-XXXXXX");
    assert_non_null(mkdtemp(box->dir));
    box->dir_fd = file_open_dir(AT_FDCWD, box->dir, NULL);
    snprintf(box->log_path, sizeof(box->log_path), "%s/container/log", box->dir);
    random_hex(box->daemon_id, 8);
    snprintf(box->cgroup_path, sizeof(box->cgroup_path), "berth-%s/%.16s", box->daemon_id, CONTAINER_ID);
    box_rootfs(box);
    box->state_fd = file_open_dir(box->dir_fd, "state", NULL);
    box->container_fd = file_open_dir(box->dir_fd, "container", NULL);
    struct err err;
    cgroup_layout_probe(&box->layout);
    if (cgroup_create(&box->layout, box->cgroup_path, &box->cgroup, &err) < 0)
        fail_msg("%s", err.message);
    box_shim(box);
    mutex_init(&box->lock, 0);
    cond_init(&box->changed);
    assert_int_equal(loop_new(&box->loop, NULL), 0);
    pthread_create(&box->loop_thread, NULL, box_loop, box);
    box_connect(box);
    *state = box;
    return 0;
}

static void box_stop_loop(void *context)
{
    loop_stop(context);
}

// Kills what is left, whatever the test did.
static _unused_ int box_tear_down(void **state)
{
    struct box *box = *state;
    if (!box)
        return 0;
    task_client_free(box->client);
    loop_post(box->loop, box_stop_loop, box->loop);
    pthread_join(box->loop_thread, NULL);
    loop_free(box->loop);
    if (box->shim > 0) {
        kill(box->shim, SIGKILL);
        waitpid(box->shim, NULL, 0);
    }
    char parent[32];
    snprintf(parent, sizeof(parent), "berth-%s", box->daemon_id);
    cgroup_freeze(box->cgroup, false, NULL);
    cgroup_kill(box->cgroup, 5 * NS_PER_S, NULL);
    cgroup_free(box->cgroup);
    cgroup_remove(&box->layout, box->cgroup_path, 5 * NS_PER_S, NULL);
    cgroup_remove(&box->layout, parent, 5 * NS_PER_S, NULL);
    fd_close(box->dir_fd);
    fd_close(box->state_fd);
    fd_close(box->container_fd);
    file_remove_tree(AT_FDCWD, box->dir, NULL);
    cond_done(&box->changed);
    mutex_done(&box->lock);
    free(box);
    return 0;
}

// The shim's own exit code once it has left; -1 when it did not within ten seconds.
static _unused_ int box_await_leave(struct box *box)
{
    for (int i = 0; i < 1000; i++) {
        int status;
        if (waitpid(box->shim, &status, WNOHANG) == box->shim) {
            box->shim = 0;
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
        usleep(10000);
    }
    return -1;
}

#define NEED_BOX(state)                                                    \
    do {                                                                   \
        if (!*(state)) {                                                   \
            print_message("skipped: needs root and a static busybox\n");   \
            skip();                                                        \
        }                                                                  \
    } while (0)

#define BOX_TEST(fn) cmocka_unit_test_setup_teardown(fn, box_set_up, box_tear_down)

#endif
