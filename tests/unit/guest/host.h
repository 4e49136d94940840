// The host's end of a guest link, for tests: one loop in the test's own thread, that runs until what is awaited has
// come.
#ifndef HOST_H
#define HOST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/num.h"
#include "task/link.h"
#include "task/task.h"

#define BUSYBOX "/bin/busybox"
#define CONTAINER_ID "00aa11bb22cc33dd44ee55ff66007788990011223344556677889900aabbccdd"
#define EVENTS_MAX 64
#define STREAMS_MAX 64

struct host_stream {
    struct host *host;
    int sink_fd; // memfd: all that came
    int feed_fd; // pipe: what goes there; -1 none
    bool ended;
};

struct host {
    struct loop *loop;
    struct link *link;
    struct loop_source *deadline;
    bool late;
    int64_t wait_ns;
    json_t *hello;
    json_t *events[EVENTS_MAX];
    size_t event_len;
    int closed;
    struct host_stream streams[STREAMS_MAX]; // by number
};

struct host_answer {
    struct host *host;
    bool come;
    json_t *result;
    struct err err;
};

// ---- running until something is so ---------------------------------------------------------------------------------

static void host_on_deadline(void *context)
{
    struct host *host = context;
    host->late = true;
    loop_stop(host->loop);
}

static void host_turn(struct host *host)
{
    loop_run(host->loop, NULL);
}

#define HOST_UNTIL(host, condition)                        \
    do {                                                   \
        (host)->late = false;                              \
        loop_set_timer((host)->deadline, (host)->wait_ns); \
        while (!(condition) && !(host)->late)              \
            host_turn(host);                               \
        loop_set_timer((host)->deadline, -1);              \
    } while (0)

static void host_on_ready(void *context, const json_t *hello)
{
    struct host *host = context;
    host->hello = json_deep_copy(hello);
    loop_stop(host->loop);
}

static void host_on_event(void *context, json_t *payload)
{
    struct host *host = context;
    if (host->event_len < EVENTS_MAX)
        host->events[host->event_len++] = json_incref(payload);
    loop_stop(host->loop);
}

static void host_on_closed(void *context, const struct err *why)
{
    struct host *host = context;
    host->closed++;
    loop_stop(host->loop);
}

static _unused_ void host_init(struct host *host, int64_t wait_ns)
{
    static const struct link_handlers handlers = { .ready = host_on_ready,
                                                   .event = host_on_event,
                                                   .closed = host_on_closed };
    *host = (struct host){ .wait_ns = wait_ns };
    for (size_t i = 0; i < STREAMS_MAX; i++)
        host->streams[i].sink_fd = host->streams[i].feed_fd = -1;
    assert_int_equal(loop_new(&host->loop, NULL), 0);
    assert_int_equal(loop_add_timer(host->loop, -1, host_on_deadline, host, &host->deadline, NULL), 0);
    assert_int_equal(link_new(host->loop, LINK_HOST, 4711, NULL, &handlers, host, &host->link, NULL), 0);
}

static _unused_ void host_done(struct host *host)
{
    link_free(host->link);
    loop_free(host->loop);
    json_decref(host->hello);
    for (size_t i = 0; i < host->event_len; i++)
        json_decref(host->events[i]);
    for (size_t i = 0; i < STREAMS_MAX; i++) {
        fd_close(host->streams[i].sink_fd);
        fd_close(host->streams[i].feed_fd);
    }
}

// ---- calls and events ----------------------------------------------------------------------------------------------

static void host_on_answer(void *context, json_t *result, const struct err *error)
{
    struct host_answer *answer = context;
    answer->come = true;
    answer->result = json_incref(result);
    if (!result)
        answer->err = *error;
    loop_stop(answer->host->loop);
}

// Takes `arguments`; a new reference, or NULL with *err.
static _unused_ json_t *host_try(struct host *host, const char *verb, json_t *arguments, struct err *err)
{
    struct host_answer answer = { .host = host };
    assert_int_equal(link_call(host->link, verb, arguments, host_on_answer, &answer, NULL), 0);
    json_decref(arguments);
    HOST_UNTIL(host, answer.come);
    if (!answer.come)
        fail_msg("%s: no answer", verb);
    if (!answer.result && err)
        *err = answer.err;
    return answer.result;
}

static _unused_ json_t *host_call(struct host *host, const char *verb, json_t *arguments)
{
    struct err err;
    json_t *result = host_try(host, verb, arguments, &err);
    if (!result)
        fail_msg("%s: %s", verb, err.message);
    return result;
}

static _unused_ void host_do(struct host *host, const char *verb, json_t *arguments)
{
    json_decref(host_call(host, verb, arguments));
}

static _unused_ void host_refused(struct host *host, const char *verb, json_t *arguments, enum err_class class,
                                  const char *text)
{
    struct err err = { 0 };
    json_t *result = host_try(host, verb, arguments, &err);
    if (result)
        fail_msg("%s was not refused", verb);
    if (err.class != class || !strstr(err.message, text))
        fail_msg("%s: %s: %s", verb, err_class_name(err.class), err.message);
}

static json_t *host_find_event(const struct host *host, const char *kind)
{
    for (size_t i = 0; i < host->event_len; i++) {
        if (str_eq(json_get_text(host->events[i], "kind", ""), kind))
            return host->events[i];
    }
    return NULL;
}

static _unused_ json_t *host_await(struct host *host, const char *kind)
{
    HOST_UNTIL(host, host_find_event(host, kind));
    if (!host_find_event(host, kind))
        fail_msg("no event %s", kind);
    return host_find_event(host, kind);
}

static _unused_ int host_exit_code(struct host *host)
{
    return (int)json_get_int(host_await(host, "exited"), "exit_code", -1);
}

// ---- streams -------------------------------------------------------------------------------------------------------

static void host_stream_ended(void *context)
{
    struct host_stream *stream = context;
    stream->ended = true;
    loop_stop(stream->host->loop);
}

// What comes goes to a file; with `feed`, what is written to feed_fd goes there.
static _unused_ void host_stream(struct host *host, uint32_t number, bool sink, bool feed)
{
    struct host_stream *stream = &host->streams[number];
    struct link_stream *made;
    int pipe[2] = { -1, -1 };
    stream->host = host;
    if (feed)
        assert_int_equal(fd_pipe(pipe, NULL), 0);
    stream->feed_fd = pipe[1];
    stream->sink_fd = sink ? memfd_create("sink", MFD_CLOEXEC) : -1;
    int write_fd = sink ? fd_dup(stream->sink_fd, NULL) : -1;
    assert_int_equal(link_stream_open(host->link, number, pipe[0], write_fd, host_stream_ended, stream, &made, NULL),
                     0);
}

static _unused_ char *host_text(const struct host *host, uint32_t number)
{
    struct buf text = BUF_INIT(64 << 20);
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", host->streams[number].sink_fd);
    file_read_at(AT_FDCWD, path, &text, NULL);
    return buf_take(&text);
}

static bool host_has(struct host *host, uint32_t number, const char *text)
{
    _cleanup_free_ char *all = host_text(host, number);
    return strstr(all, text);
}

static void host_on_tick(void *context)
{
    loop_stop(((struct host *)context)->loop);
}

static _unused_ void host_await_text(struct host *host, uint32_t number, const char *text)
{
    struct loop_source *tick;
    int64_t deadline = clock_mono_ns() + host->wait_ns;
    loop_add_timer(host->loop, NS_PER_MS, host_on_tick, host, &tick, NULL);
    while (!host_has(host, number, text) && clock_mono_ns() < deadline) {
        host_turn(host);
        loop_set_timer(tick, 5 * NS_PER_MS);
    }
    loop_remove(tick);
    _cleanup_free_ char *all = host_text(host, number);
    if (!strstr(all, text))
        fail_msg("stream %u: no \"%s\" in: %.400s", number, text, all);
}

static _unused_ void host_expect_text(struct host *host, uint32_t number, const char *text)
{
    _cleanup_free_ char *all = host_text(host, number);
    assert_string_equal(all, text);
}

// ---- documents -----------------------------------------------------------------------------------------------------

struct host_run {
    const char *script; // for sh -c
    const char *const *args; // instead
    bool terminal, init;
    bool confined; // by the default seccomp profile
    json_t *sysctl; // taken
    int64_t memory_limit;
    json_t *more; // members that replace those of the document; taken
};

static json_t *host_process(const struct host_run *run)
{
    json_t *args = run->script ? json_pack("[s, s, s]", "/bin/sh", "-c", run->script) : json_array();
    for (size_t i = 0; !run->script && run->args[i]; i++)
        json_array_append_new(args, json_string(run->args[i]));
    return json_pack("{s:b, s:{s:i, s:i, s:i}, s:o, s:[s, s], s:s, s:{s:[s], s:[s], s:[s]}}", "terminal", run->terminal,
                     "user", "uid", 0, "gid", 0, "umask", -1, "args", args, "env", "PATH=/bin", "HOME=/", "cwd", "/",
                     "capabilities", "bounding", "CAP_MKNOD", "effective", "CAP_MKNOD", "permitted", "CAP_MKNOD");
}

static json_t *host_stdio(const struct host_run *run)
{
    return json_pack("{s:b, s:b, s:i, s:i}", "terminal", run->terminal, "open_stdin", 1, "height",
                     run->terminal ? 25 : 0, "width", run->terminal ? 81 : 0);
}

// Nodes may be made, but only the harmless ones opened.
static json_t *host_devices(void)
{
    static const char rules[] =
        "[{\"allow\": false, \"type\": \"a\", \"major\": -1, \"minor\": -1, \"access\": \"rwm\"},"
        "{\"allow\": true, \"type\": \"c\", \"major\": -1, \"minor\": -1, \"access\": \"m\"},"
        "{\"allow\": true, \"type\": \"b\", \"major\": -1, \"minor\": -1, \"access\": \"m\"},"
        "{\"allow\": true, \"type\": \"c\", \"major\": 1, \"minor\": -1, \"access\": \"rwm\"},"
        "{\"allow\": true, \"type\": \"c\", \"major\": 5, \"minor\": -1, \"access\": \"rwm\"},"
        "{\"allow\": true, \"type\": \"c\", \"major\": 136, \"minor\": -1, \"access\": \"rwm\"}]";
    return json_loads(rules, 0, NULL);
}

static json_t *host_document(const struct host_run *run, size_t layer_len)
{
    json_t *layers = json_array();
    for (size_t i = 0; i < layer_len; i++)
        json_array_append_new(layers, json_pack("{s:s, s:i}", "diff_id", "sha256:0", "fd", -1));
    json_t *rootfs = json_pack("{s:s, s:o, s:{s:s, s:i, s:i, s:b}}", "kind", "layers", "layers", layers, "upper",
                               "kind", "disk", "upper_fd", -1, "work_fd", -1, "ephemeral", 0);
    json_t *section = json_pack("{s:[{s:s}, {s:s}, {s:s}, {s:s}, {s:s}, {s:s}], s:s, s:{s:o, s:{s:I}, s:{s:i}}, s:s}",
                                "namespaces", "type", "pid", "type", "mount", "type", "ipc", "type", "uts", "type",
                                "cgroup", "type", "network", "cgroupsPath", "ignored", "resources", "devices",
                                host_devices(), "memory", "limit", (json_int_t)run->memory_limit, "pids", "limit", 200,
                                "seccompProfile", run->confined ? "default" : "unconfined");
    if (run->sysctl)
        json_object_set_new(section, "sysctl", run->sysctl);
    json_t *document = json_pack("{s:i, s:s, s:s, s:o, s:o, s:s, s:o, s:[{s:s, s:s, s:i}], s:o, s:b}", "version", 1,
                                 "id", CONTAINER_ID, "isolation", "vm", "process", host_process(run), "linux", section,
                                 "hostname", "box", "rootfs", rootfs, "files", "path", "/etc/hosts", "content",
                                 "127.0.0.1 localhost\n", "mode", 0644, "stdio", host_stdio(run), "init", run->init);
    if (run->more)
        json_object_update(document, run->more);
    json_decref(run->more);
    return document;
}

// Streams 1 in, 2 out, 3 error, or 4, a terminal.
static json_t *host_create_arguments(struct host *host, const struct host_run *run, size_t layer_len)
{
    if (run->terminal)
        host_stream(host, 4, true, true);
    else {
        host_stream(host, 1, false, true);
        host_stream(host, 2, true, false);
        host_stream(host, 3, true, false);
    }
    json_t *streams =
        run->terminal ? json_pack("{s:i}", "terminal", 4) : json_pack("{s:i, s:i, s:i}", "in", 1, "out", 2, "error", 3);
    return json_pack("{s:o, s:o}", "document", host_document(run, layer_len), "streams", streams);
}

static _unused_ void host_run_task(struct host *host, const struct host_run *run, size_t layer_len)
{
    host_do(host, "create", host_create_arguments(host, run, layer_len));
    host_do(host, "start", NULL);
}

// The exec's streams are first, first + 1 and first + 2; a terminal is first.
static _unused_ json_t *host_exec_arguments(struct host *host, const char *exec_id, const struct host_run *run,
                                            uint32_t first)
{
    json_t *streams;
    if (run->terminal) {
        host_stream(host, first, true, true);
        streams = json_pack("{s:i}", "terminal", first);
    } else {
        host_stream(host, first, false, true);
        host_stream(host, first + 1, true, false);
        host_stream(host, first + 2, true, false);
        streams = json_pack("{s:i, s:i, s:i}", "in", first, "out", first + 1, "error", first + 2);
    }
    return json_pack("{s:s, s:o, s:o, s:b, s:o}", "exec_id", exec_id, "process", host_process(run), "stdio",
                     host_stdio(run), "unconfined", 1, "streams", streams);
}

#endif
