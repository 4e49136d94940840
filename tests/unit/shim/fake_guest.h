// A guest that lies as it is told: the test program itself, started in a VMM's place (and in its jail), speaks the guest's
// side of the link on descriptor 3, or dials for it. "fake=WORD" on the kernel's command line is how it misbehaves; what its process does
// stands in the document: {"exit", "7"}, {"say", "text", "7"}, {"cat"} (until its input ends), {"hang"}.
#ifndef FAKE_GUEST_H
#define FAKE_GUEST_H

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

#include "base/num.h"
#include "task/link.h"
#include "task/task.h"

struct fake_process {
    char exec_id[72];
    json_t *args; // owned
    int out, in; // the process's own ends, -1: none
    struct fake *fake;
    struct link_stream *streams[3];
    struct loop_source *source;
};

struct fake {
    struct loop *loop;
    struct link *link;
    const char *mode;
    const char *dial; // the option that says how it dials; NULL: descriptor 3 is the link
    struct fake_process init, exec;
};

static bool fake_is(const struct fake *fake, const char *mode)
{
    return str_eq(fake->mode, mode);
}

static void fake_tell(struct fake *fake, json_t *event)
{
    link_event(fake->link, event);
    json_decref(event);
}

static void fake_halt(void *context)
{
    struct fake *fake = context;
    if (fake_is(fake, "torn"))
        fake_tell(fake, json_pack("{s:s, s:s}", "kind", "halted", "message", "sync the upper: \033[1minput/output error"));
    else if (!fake_is(fake, "nohalt"))
        fake_tell(fake, json_pack("{s:s}", "kind", "halted"));
}

static void fake_exit(struct fake_process *process, int code)
{
    struct fake *fake = process->fake;
    fd_close(take_fd(&process->out));
    if (process->streams[1])
        link_stream_finish(process->streams[1]);
    if (process == &fake->exec) {
        fake_tell(fake, json_pack("{s:s, s:s, s:i}", "kind", "exec_exited", "exec_id", process->exec_id, "exit_code", code));
        return;
    }
    fake_tell(fake, json_pack("{s:s, s:i, s:b}", "kind", "exited", "exit_code", fake_is(fake, "code") ? 999 : code, "oom",
                              fake_is(fake, "oom")));
    if (fake_is(fake, "twice"))
        fake_tell(fake, json_pack("{s:s, s:i}", "kind", "exited", "exit_code", code));
    struct loop_source *never_removed;
    loop_add_timer(fake->loop, 20000000, fake_halt, fake, &never_removed, NULL);
}

static const char *fake_arg(const struct fake_process *process, size_t index)
{
    const char *text = json_string_value(json_array_get(process->args, index));
    return text ? text : "";
}

static int fake_number(const char *text)
{
    uint64_t number = 0;
    num_parse_u64(slice_of(text), 255, &number);
    return (int)number;
}

static void fake_input(void *context, int fd, uint32_t events)
{
    struct fake_process *process = context;
    char data[4096];
    ssize_t got = read(fd, data, sizeof(data));
    if (got > 0) {
        fd_write_full(process->out, data, (size_t)got, NULL);
        return;
    }
    loop_remove(take_ptr(&process->source));
    fake_exit(process, 3);
}

static void fake_run(struct fake_process *process)
{
    const char *what = fake_arg(process, 0);
    if (str_eq(what, "exit")) {
        fake_exit(process, fake_number(fake_arg(process, 1)));
    } else if (str_eq(what, "say")) {
        dprintf(process->out, "%s\n", fake_arg(process, 1));
        fake_exit(process, fake_number(fake_arg(process, 2)));
    } else if (str_eq(what, "cat")) {
        loop_add_fd(process->fake->loop, process->in, EPOLLIN, fake_input, process, &process->source, NULL);
    }
}

static void fake_open(struct fake *fake, struct fake_process *process, json_t *payload, json_t *process_section)
{
    struct task_streams streams;
    struct arena arena = ARENA_INIT;
    int in[2] = { -1, -1 }, out[2] = { -1, -1 };
    *process = (struct fake_process){ .fake = fake, .in = -1, .out = -1 };
    process->args = json_incref(json_object_get(process_section, "args"));
    snprintf(process->exec_id, sizeof(process->exec_id), "%s", json_get_text(payload, "exec_id", ""));
    json_decode(&task_streams_table, json_object_get(payload, "streams"), &streams, &arena, NULL, NULL);
    if (streams.in || streams.terminal)
        fd_pipe(in, NULL);
    if (streams.out || streams.terminal)
        fd_pipe(out, NULL);
    if (streams.terminal)
        link_stream_open(fake->link, (uint32_t)streams.terminal, out[0], in[1], NULL, NULL, &process->streams[1], NULL);
    if (streams.in)
        link_stream_open(fake->link, (uint32_t)streams.in, -1, in[1], NULL, NULL, &process->streams[0], NULL);
    if (streams.out)
        link_stream_open(fake->link, (uint32_t)streams.out, out[0], -1, NULL, NULL, &process->streams[1], NULL);
    process->in = in[0];
    process->out = out[1];
    if (streams.error) {
        int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        link_stream_open(fake->link, (uint32_t)streams.error, null, -1, NULL, NULL, &process->streams[2], NULL);
    }
    arena_done(&arena);
}

static void fake_refuse(struct fake *fake, uint64_t id)
{
    struct err err;
    err_set(&err, ERR_NOT_FOUND, "exec: \"nosuch\": executable file not found in $PATH");
    link_answer_error(fake->link, id, &err);
}

static void fake_die(void *context)
{
    _exit(5);
}

static void fake_create(struct fake *fake, uint64_t id, json_t *payload)
{
    json_t *document = json_object_get(payload, "document");
    if (fake_is(fake, "diecreate"))
        _exit(4);
    if (fake_is(fake, "nocreate"))
        return;
    fake_open(fake, &fake->init, payload, json_object_get(document, "process"));
    if (fake_is(fake, "early"))
        fake_tell(fake, json_pack("{s:s, s:i}", "kind", "exited", "exit_code", 0));
    if (fake_is(fake, "refuse")) {
        fake_refuse(fake, id);
        return;
    }
    json_t *result = json_pack("{s:s}", "kernel", "fake");
    link_answer(fake->link, id, result);
    json_decref(result);
    struct loop_source *never_removed;
    if (fake_is(fake, "diecreated")) // once the answer is out
        loop_add_timer(fake->loop, 20000000, fake_die, fake, &never_removed, NULL);
}

static void fake_late_end(void *context)
{
    struct fake *fake = context;
    dprintf(1, "Kernel panic - not syncing: Attempted to kill init!\n");
    if (fake_is(fake, "dierunning"))
        _exit(9);
    static const char junk[64] = "no frame of any protocol at all, but sixty-four bytes of letters";
    fd_write_full(3, junk, sizeof(junk), NULL);
}

// Under berth-vmm's options the guest's connection is asked for: once for a port that is nobody's, then for the link's.
static int fake_dial(const char *option)
{
    uint64_t number = 0;
    uint32_t ports[2] = { 99, 5000 };
    int fd = -1;
    size_t fd_len = 1;
    if (!str_starts(option, "3,fd:") || !num_parse_u64(slice_of(option + 5), INT32_MAX, &number))
        return -1;
    fd_write_full((int)number, ports, sizeof(ports), NULL);
    if (fd_recv((int)number, ports, sizeof(ports), &fd, &fd_len, NULL) != sizeof(ports) || fd_len != 0)
        return -1;
    ports[0] = LINK_VSOCK_PORT;
    fd_write_full((int)number, ports, 3, NULL);
    fd_write_full((int)number, (char *)ports + 3, sizeof(ports) - 3, NULL);
    fd_len = 1;
    if (fd_recv((int)number, ports, sizeof(ports), &fd, &fd_len, NULL) != sizeof(ports) || fd_len != 1 || ports[1] != 5000)
        return -1;
    return fd;
}

// Somebody in the guest who is not its PID 1: another connection, or another greeting on the one there is.
static void fake_again(void *context)
{
    struct fake *fake = context;
    static const struct link_handlers none = { 0 };
    static const char junk[64] = "no frame of any protocol at all, but sixty-four bytes of letters";
    int fd = fake->dial ? fake_dial(fake->dial) : dup(3);
    struct link *other;
    if (fake_is(fake, "againjunk"))
        fd_write_full(fd, junk, sizeof(junk), NULL);
    if (!fake_is(fake, "againhello"))
        return;
    link_new(fake->loop, LINK_GUEST, 0, NULL, &none, NULL, &other, NULL);
    link_connect(other, fd, NULL);
}

static void fake_start(struct fake *fake, uint64_t id)
{
    struct loop_source *never_removed;
    if (fake_is(fake, "diestart"))
        _exit(6);
    if (fake_is(fake, "nostart") || fake_is(fake, "diecreated"))
        return;
    if (fake_is(fake, "refusestart")) {
        fake_refuse(fake, id);
        return;
    }
    json_t *result = json_pack("{s:i}", "pid", 77);
    link_answer(fake->link, id, result);
    json_decref(result);
    if (fake_is(fake, "ghost"))
        fake_tell(fake, json_pack("{s:s, s:s, s:i}", "kind", "exec_exited", "exec_id", "ghost", "exit_code", 0));
    if (fake_is(fake, "haltonly"))
        fake_tell(fake, json_pack("{s:s}", "kind", "halted"));
    for (int i = 0; i < 5000 && fake_is(fake, "flood"); i++)
        fake_tell(fake, json_pack("{s:s}", "kind", i % 2 ? "oom" : "nonsense"));
    if (str_starts(fake->mode, "again")) // once the answer is out
        loop_add_timer(fake->loop, 20000000, fake_again, fake, &never_removed, NULL);
    if (fake_is(fake, "dierunning") || fake_is(fake, "laterubbish"))
        loop_add_timer(fake->loop, 20000000, fake_late_end, fake, &never_removed, NULL);
    fake_run(&fake->init);
}

static void fake_exec(struct fake *fake, uint64_t id, json_t *payload)
{
    fake_open(fake, &fake->exec, payload, json_object_get(payload, "process"));
    if (fake_is(fake, "refuseexec")) {
        fake_refuse(fake, id);
        return;
    }
    if (fake_is(fake, "noexec"))
        return;
    json_t *result = json_pack("{s:i}", "pid", 88);
    link_answer(fake->link, id, result);
    json_decref(result);
    fake_run(&fake->exec);
}

static void fake_kill(struct fake *fake, uint64_t id, json_t *payload)
{
    if (fake_is(fake, "deaf"))
        return;
    link_answer(fake->link, id, NULL);
    const char *exec_id = json_get_text(payload, "exec_id", "");
    int number = (int)json_get_int(payload, "signal", 0);
    fake_exit(str_empty(exec_id) ? &fake->init : &fake->exec, 128 + number);
}

static void fake_resize(struct fake *fake, uint64_t id, json_t *payload)
{
    dprintf(fake->init.out, "%dx%d\n", (int)json_get_int(payload, "height", 0), (int)json_get_int(payload, "width", 0));
    link_answer(fake->link, id, NULL);
}

static void fake_request(void *context, uint64_t id, json_t *payload)
{
    struct fake *fake = context;
    const char *verb = json_get_text(payload, "verb", "");
    if (str_eq(verb, "create"))
        fake_create(fake, id, payload);
    else if (str_eq(verb, "start"))
        fake_start(fake, id);
    else if (str_eq(verb, "exec"))
        fake_exec(fake, id, payload);
    else if (str_eq(verb, "kill"))
        fake_kill(fake, id, payload);
    else if (str_eq(verb, "resize"))
        fake_resize(fake, id, payload);
}

static void fake_closed(void *context, const struct err *why)
{
    struct fake *fake = context;
    if (!str_starts(fake->mode, "again"))
        _exit(1);
}

static int fake_main(int argc, char **argv)
{
    int link_fd = 3;
    static const struct link_handlers handlers = { .request = fake_request, .closed = fake_closed };
    struct fake fake = { .mode = "" };
    for (int i = 1; i < argc; i++) {
        const char *word = strstr(argv[i], "fake=");
        fake.mode = word ? word + 5 : fake.mode;
        if (str_eq(argv[i], "--vsock") && i + 1 < argc)
            fake.dial = argv[i + 1];
    }
    if (fake.dial)
        link_fd = fake_dial(fake.dial);
    dprintf(1, "[    0.000000] Linux version fake\nbooting \033[1m%s\n", fake.mode);
    if (fake_is(&fake, "die"))
        return 3;
    if (fake_is(&fake, "garbage"))
        fake_late_end(&fake);
    if (fake_is(&fake, "garbage") || fake_is(&fake, "silent"))
        pause();
    loop_new(&fake.loop, NULL);
    link_new(fake.loop, LINK_GUEST, 0, NULL, &handlers, &fake, &fake.link, NULL);
    link_connect(fake.link, link_fd, NULL);
    return loop_run(fake.loop, NULL) < 0;
}

#endif
