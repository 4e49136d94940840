// A process behind the wall inside the guest, and its streams.
//
//     created --start--> running --pidfd--> draining --streams at their end--> ended, swept
//
// Its end is told at once; its output follows on the link until every writer of its pipes is gone, or a grace is over.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>

#include "guest_private.h"

#define TERMINAL_LOOK_NS (20 * NS_PER_MS)

// ---- pipes ---------------------------------------------------------------------------------------------------------

void guest_ends_done(struct guest_ends *ends)
{
    for (size_t i = 0; i < GUEST_STREAM_COUNT; i++) {
        fd_close(take_fd(&ends->theirs[i]));
        fd_close(take_fd(&ends->ours[i]));
    }
}

static int open_end(int64_t number, enum guest_stream stream, struct guest_ends *out, struct err *err)
{
    int fds[2];
    if (number < 0 || number > UINT32_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "streams: number %lld", (long long)number);
    if (number == 0) {
        out->theirs[stream] = open("/dev/null", O_RDWR | O_CLOEXEC);
        return out->theirs[stream] < 0 ? err_errno(err, errno, "open /dev/null") : 0;
    }
    if (fd_pipe(fds, err) < 0)
        return -1;
    out->ours[stream] = fds[stream == GUEST_IN ? 1 : 0];
    out->theirs[stream] = fds[stream == GUEST_IN ? 0 : 1];
    return 0;
}

int guest_ends_open(const struct task_streams *numbers, bool terminal, struct guest_ends *out, struct err *err)
{
    if (terminal)
        return numbers->terminal > 0 && numbers->terminal <= UINT32_MAX
                   ? 0
                   : err_set(err, ERR_INVALID_ARGUMENT, "streams: a terminal without a number");
    if (open_end(numbers->in, GUEST_IN, out, err) < 0 || open_end(numbers->out, GUEST_OUT, out, err) < 0)
        return -1;
    return open_end(numbers->error, GUEST_ERROR, out, err);
}

// ---- a unit --------------------------------------------------------------------------------------------------------

struct guest_unit *guest_unit_new(struct guest *guest, const char *exec_id)
{
    struct guest_unit *unit = mem_new(struct guest_unit);
    unit->guest = guest;
    unit->exec_id = mem_strdup(exec_id);
    unit->master_fd = -1;
    for (size_t i = 0; i < GUEST_STREAM_COUNT; i++)
        unit->pipes[i].unit = unit;
    return unit;
}

static void drop_stream(struct guest_pipe *pipe)
{
    if (pipe->stream)
        link_stream_drop(take_ptr(&pipe->stream));
}

void guest_unit_free(struct guest_unit *unit)
{
    if (!unit)
        return;
    loop_remove(unit->exit_source);
    loop_remove(unit->grace);
    sandbox_free(unit->sandbox);
    for (size_t i = 0; i < GUEST_STREAM_COUNT; i++)
        drop_stream(&unit->pipes[i]);
    fd_close(unit->master_fd);
    free(unit->exec_id);
    free(unit);
}

bool guest_unit_is_init(const struct guest_unit *unit)
{
    return str_empty(unit->exec_id);
}

bool guest_unit_is_live(const struct guest_unit *unit)
{
    return unit->state == GUEST_UNIT_CREATED || unit->state == GUEST_UNIT_RUNNING;
}

int guest_unit_resize(struct guest_unit *unit, int64_t height, int64_t width, struct err *err)
{
    if (unit->master_fd < 0)
        return 0; // as Docker: no terminal, nothing to do
    if (height < 0 || height > UINT16_MAX || width < 0 || width > UINT16_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "terminal size %lldx%lld", (long long)height, (long long)width);
    struct winsize size = { .ws_row = (unsigned short)height, .ws_col = (unsigned short)width };
    return ioctl(unit->master_fd, TIOCSWINSZ, &size) == 0 ? 0 : err_errno(err, errno, "resize the terminal");
}

// ---- the end -------------------------------------------------------------------------------------------------------

static void end_if_drained(struct guest_unit *unit)
{
    if (unit->state != GUEST_UNIT_DRAINING || unit->pipes[GUEST_OUT].stream || unit->pipes[GUEST_ERROR].stream)
        return;
    loop_remove(take_ptr(&unit->grace));
    unit->state = GUEST_UNIT_ENDED;
    guest_schedule_sweep(unit->guest);
}

static void stream_ended(void *context)
{
    struct guest_pipe *pipe = context;
    pipe->stream = NULL;
    end_if_drained(pipe->unit);
}

static void finish_output(struct guest_unit *unit)
{
    for (size_t i = GUEST_OUT; i < GUEST_STREAM_COUNT; i++) {
        if (unit->pipes[i].stream)
            link_stream_finish(unit->pipes[i].stream); // may end it, and the last one the unit
    }
}

static void grace_over(void *context)
{
    finish_output(context);
}

static short master_events(const struct guest_unit *unit)
{
    struct pollfd look = { unit->master_fd, POLLIN, 0 };
    return poll(&look, 1, 0) > 0 ? look.revents : 0;
}

// A terminal's stream goes both ways and the host may leave its own direction open: what counts is that ours is read
// empty.
static void look_at_terminal(void *context)
{
    struct guest_unit *unit = context;
    struct guest_pipe *pipe = &unit->pipes[GUEST_OUT];
    if (pipe->stream)
        link_stream_finish(pipe->stream);
    if (!pipe->stream)
        return; // ended by itself
    if (master_events(unit) & POLLIN) {
        loop_set_timer(unit->grace, TERMINAL_LOOK_NS); // the host has given no credit
        return;
    }
    drop_stream(pipe);
    end_if_drained(unit);
}

// Nobody else has it open: then nothing will come any more. Else the grace.
static void drain(struct guest_unit *unit)
{
    bool terminal = unit->master_fd >= 0;
    int64_t wait_ns = terminal && (master_events(unit) & POLLHUP) ? 0 : GUEST_DRAIN_GRACE_NS;
    loop_fn *then = terminal ? look_at_terminal : grace_over;
    unit->state = GUEST_UNIT_DRAINING;
    drop_stream(&unit->pipes[GUEST_IN]);
    end_if_drained(unit);
    if (unit->state == GUEST_UNIT_DRAINING &&
        loop_add_timer(unit->guest->loop, wait_ns, then, unit, &unit->grace, NULL) < 0)
        finish_output(unit);
}

static void tell_end(struct guest_unit *unit)
{
    struct guest *guest = unit->guest;
    if (guest_unit_is_init(unit))
        guest_event(guest,
                    json_pack("{s:s, s:i, s:b}", "kind", "exited", "exit_code", unit->exit_code, "oom", guest->oom));
    else
        guest_event(guest, json_pack("{s:s, s:s, s:i}", "kind", "exec_exited", "exec_id", unit->exec_id, "exit_code",
                                     unit->exit_code));
}

static void process_exited(void *context, int fd, uint32_t events)
{
    struct guest_unit *unit = context;
    struct guest *guest = unit->guest;
    loop_remove(take_ptr(&unit->exit_source));
    if (sandbox_wait(unit->sandbox, &unit->exit_code, NULL) < 0)
        unit->exit_code = 255;
    sandbox_free(take_ptr(&unit->sandbox));
    if (!guest_unit_is_init(unit))
        guest->exec_len--;
    else if (!guest->own_pid_namespace)
        cgroup_kill(guest->cgroup, NS_PER_S, NULL); // nothing else ends what the first process left behind
    guest_check_oom(guest);
    tell_end(unit);
    drain(unit);
    guest_reap_strays(guest);
}

// ---- the beginning -------------------------------------------------------------------------------------------------

// Takes the descriptors on success.
static int open_pipe(struct guest_unit *unit, enum guest_stream stream, int64_t number, int *read_fd, int *write_fd,
                     struct err *err)
{
    struct guest_pipe *pipe = &unit->pipes[stream];
    if (*read_fd < 0 && *write_fd < 0)
        return 0;
    if (link_stream_open(unit->guest->link, (uint32_t)number, *read_fd, *write_fd, stream_ended, pipe, &pipe->stream,
                         err) < 0)
        return -1;
    *read_fd = *write_fd = -1;
    return 0;
}

static int open_terminal(struct guest_unit *unit, const struct task_streams *numbers, const struct task_stdio *stdio,
                         struct err *err)
{
    // The link's two directions and resizing: a descriptor each.
    _cleanup_close_ int read_fd = fd_dup(unit->master_fd, err);
    _cleanup_close_ int write_fd = read_fd < 0 ? -1 : fd_dup(unit->master_fd, err);
    if (write_fd < 0)
        return -1;
    if (stdio->height > 0 && stdio->width > 0 && guest_unit_resize(unit, stdio->height, stdio->width, err) < 0)
        return -1;
    return open_pipe(unit, GUEST_OUT, numbers->terminal, &read_fd, &write_fd, err);
}

static int open_pipes(struct guest_unit *unit, const struct task_streams *numbers, struct guest_ends *ends,
                      struct err *err)
{
    int none = -1;
    if (open_pipe(unit, GUEST_IN, numbers->in, &none, &ends->ours[GUEST_IN], err) < 0 ||
        open_pipe(unit, GUEST_OUT, numbers->out, &ends->ours[GUEST_OUT], &none, err) < 0)
        return -1;
    return open_pipe(unit, GUEST_ERROR, numbers->error, &ends->ours[GUEST_ERROR], &none, err);
}

int guest_unit_adopt(struct guest_unit *unit, struct sandbox *sandbox, int master_fd, struct guest_ends *ends,
                     const struct task_streams *numbers, const struct task_stdio *stdio, struct err *err)
{
    unit->sandbox = sandbox;
    unit->master_fd = master_fd;
    if ((master_fd >= 0 ? open_terminal(unit, numbers, stdio, err) : open_pipes(unit, numbers, ends, err)) < 0)
        return -1;
    return loop_add_fd(unit->guest->loop, sandbox_pidfd(sandbox), EPOLLIN, process_exited, unit, &unit->exit_source,
                       err);
}
