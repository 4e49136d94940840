// The standard streams of one process: two pipes or a terminal's master to read, a pipe or the same master to write.
//
// What is read goes to the log, then to every client. While a client is at its budget nothing is read, so the process
// blocks on its own pipe; once the process is dead nothing is held back any more, because its end must not wait for a
// slow reader. Input from clients is written as the process takes it; `in_pending` holds at most one read of rest, and
// while it does no client is read.
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>

#include "shim/shim_private.h"

#define TERMINAL_RETRY_NS (100 * NS_PER_MS)
#define DRAIN_ROUNDS 64 // reads in one turn: whoever still holds a dead process's pipe might write for ever

static void outlet_ready(void *context, int fd, uint32_t events);
static void input_writable(void *context, int fd, uint32_t events);

void stdio_ends_done(struct stdio_ends *ends)
{
    fd_close(take_fd(&ends->in));
    fd_close(take_fd(&ends->out));
    fd_close(take_fd(&ends->error));
}

// ---- opening --------------------------------------------------------------------------------------------------------

static int open_null(int *out, struct err *err)
{
    *out = open("/dev/null", O_RDWR | O_CLOEXEC);
    return *out < 0 ? err_errno(err, errno, "open /dev/null") : 0;
}

// *ours does not block, *theirs does. `read_end`: ours is the one that reads.
static int open_pipe(int *ours, int *theirs, bool read_end, struct err *err)
{
    int ends[2];
    if (fd_pipe(ends, err) < 0)
        return -1;
    *ours = ends[read_end ? 0 : 1];
    *theirs = ends[read_end ? 1 : 0];
    return fd_set_nonblock(*ours, true, err);
}

// Two pipes where the master would be, so that the end of one direction is seen without the other's.
static int open_far_terminal(struct stdio *stdio, const struct task_stdio *wish, struct stdio_ends *ends, struct err *err)
{
    if (wish->open_stdin && open_pipe(&stdio->in_fd, &ends->in, false, err) < 0)
        return -1;
    return open_pipe(&stdio->outlets[0].fd, &ends->out, true, err);
}

int stdio_open(struct stdio *stdio, const struct task_stdio *wish, bool discard, struct stdio_ends *ends,
               struct err *err)
{
    stdio->terminal = wish->terminal;
    stdio->stdin_once = wish->stdin_once;
    if (wish->terminal)
        return stdio->far ? open_far_terminal(stdio, wish, ends, err) : 0;
    if (discard)
        return open_null(&ends->in, err) < 0 || open_null(&ends->out, err) < 0 || open_null(&ends->error, err) < 0
                   ? -1 : 0;
    int made = wish->open_stdin ? open_pipe(&stdio->in_fd, &ends->in, false, err) : open_null(&ends->in, err);
    if (made < 0 || open_pipe(&stdio->outlets[0].fd, &ends->out, true, err) < 0)
        return -1;
    return open_pipe(&stdio->outlets[1].fd, &ends->error, true, err);
}

static int take_terminal(struct stdio *stdio, int master_fd, const struct task_stdio *wish, struct err *err)
{
    stdio->outlets[0].fd = master_fd;
    if (fd_set_nonblock(master_fd, true, err) < 0)
        return -1;
    if (wish->height > 0 && wish->width > 0 && stdio_resize(stdio, wish->height, wish->width, err) < 0)
        return -1;
    // One descriptor can be watched once, so the direction to the process gets its own number.
    stdio->in_fd = wish->open_stdin ? fd_dup(master_fd, err) : -1;
    return wish->open_stdin && stdio->in_fd < 0 ? -1 : 0;
}

static int watch_outlet(struct outlet *outlet, struct err *err)
{
    if (outlet->fd < 0 || outlet->source)
        return 0;
    return loop_add_fd(outlet->stdio->loop, outlet->fd, EPOLLIN, outlet_ready, outlet, &outlet->source, err);
}

int stdio_begin(struct stdio *stdio, int master_fd, const struct task_stdio *wish, struct err *err)
{
    if (stdio->terminal && !stdio->far && take_terminal(stdio, master_fd, wish, err) < 0)
        return -1;
    return watch_outlet(&stdio->outlets[0], err) < 0 || watch_outlet(&stdio->outlets[1], err) < 0 ? -1 : 0;
}

int stdio_resize(struct stdio *stdio, int64_t height, int64_t width, struct err *err)
{
    if (!stdio->terminal)
        return 0; // as Docker: no terminal, nothing to do
    if (height < 0 || height > UINT16_MAX || width < 0 || width > UINT16_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "terminal size %lldx%lld", (long long)height, (long long)width);
    struct winsize size = { .ws_row = (unsigned short)height, .ws_col = (unsigned short)width };
    if (stdio->outlets[0].fd < 0)
        return err_set(err, ERR_CONFLICT, "the terminal is closed");
    if (ioctl(stdio->outlets[0].fd, TIOCSWINSZ, &size) < 0)
        return err_errno(err, errno, "resize the terminal");
    return 0;
}

// ---- output ---------------------------------------------------------------------------------------------------------

static void outlet_pause(struct outlet *outlet)
{
    loop_remove(take_ptr(&outlet->source));
}

static void outlet_end(struct outlet *outlet)
{
    outlet_pause(outlet);
    loop_remove(take_ptr(&outlet->retry));
    fd_close(take_fd(&outlet->fd));
}

bool stdio_drained(const struct stdio *stdio)
{
    return stdio->outlets[0].fd < 0 && stdio->outlets[1].fd < 0;
}

static bool is_held_back(const struct stdio *stdio)
{
    if (stdio->process_dead)
        return false;
    if (stdio->log && log_is_full(stdio->log))
        return true;
    for (const struct client *client = stdio->clients; client; client = client->next) {
        if (!client->gone && client_pending(client) >= SHIM_READER_BUDGET)
            return true;
    }
    return false;
}

static void fan_out(struct stdio *stdio, enum stdio_stream stream, size_t size)
{
    if (stdio->log)
        log_write(stdio->log, stream == STDIO_ERROR ? LOG_STDERR : LOG_STDOUT, stdio->copy, size, clock_wall_ns());
    for (struct client *client = stdio->clients; client; client = client->next)
        client_write(client, stream, stdio->copy, size);
    if (is_held_back(stdio)) {
        outlet_pause(&stdio->outlets[0]);
        outlet_pause(&stdio->outlets[1]);
    }
}

static void retry_outlet(void *context)
{
    struct outlet *outlet = context;
    loop_remove(take_ptr(&outlet->retry));
    if (!is_held_back(outlet->stdio))
        watch_outlet(outlet, NULL);
}

// One read. 1: more may be there, 0: nothing now, -1: the end.
static int read_outlet(struct outlet *outlet)
{
    struct stdio *stdio = outlet->stdio;
    ssize_t got = read(outlet->fd, stdio->copy, SHIM_COPY_SIZE);
    if (got > 0) {
        fan_out(stdio, outlet->stream, (size_t)got);
        return 1;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    // A terminal whose slave nobody has open says EIO, but the living process may open /dev/console again.
    if (!stdio->terminal || stdio->far || stdio->process_dead)
        return -1;
    outlet_pause(outlet);
    if (!outlet->retry)
        loop_add_timer(stdio->loop, TERMINAL_RETRY_NS, retry_outlet, outlet, &outlet->retry, NULL);
    return 0;
}

static void end_and_tell(struct outlet *outlet)
{
    struct stdio *stdio = outlet->stdio;
    outlet_end(outlet);
    if (stdio_drained(stdio))
        stdio->on_drained(stdio->context);
}

static void outlet_ready(void *context, int fd, uint32_t events)
{
    struct outlet *outlet = context;
    if (read_outlet(outlet) < 0)
        end_and_tell(outlet);
}

void stdio_process_died(struct stdio *stdio)
{
    stdio->process_dead = true;
    for (size_t i = 0; i < ARRAY_LEN(stdio->outlets); i++) {
        struct outlet *outlet = &stdio->outlets[i];
        loop_remove(take_ptr(&outlet->retry));
        int more = outlet->fd < 0 ? 0 : 1;
        for (int round = 0; more > 0 && round < DRAIN_ROUNDS; round++)
            more = read_outlet(outlet);
        if (more < 0)
            outlet_end(outlet);
        else
            watch_outlet(outlet, NULL);
    }
}

void stdio_abandon_output(struct stdio *stdio)
{
    for (size_t i = 0; i < ARRAY_LEN(stdio->outlets); i++) {
        struct outlet *outlet = &stdio->outlets[i];
        for (int round = 0; outlet->fd >= 0 && round < DRAIN_ROUNDS && read_outlet(outlet) > 0; round++)
            ;
        outlet_end(outlet);
    }
}

void stdio_reader_changed(struct stdio *stdio)
{
    if (is_held_back(stdio))
        return;
    for (size_t i = 0; i < ARRAY_LEN(stdio->outlets); i++) {
        if (!stdio->outlets[i].retry)
            watch_outlet(&stdio->outlets[i], NULL);
    }
}

// ---- input ----------------------------------------------------------------------------------------------------------

bool stdio_input_open(const struct stdio *stdio)
{
    return stdio->in_fd >= 0 && !stdio->in_closing;
}

bool stdio_input_ready(const struct stdio *stdio)
{
    return stdio_input_open(stdio) && stdio->in_pending.size == 0;
}

static void readers_go_on(struct stdio *stdio)
{
    for (struct client *client = stdio->clients; client; client = client->next)
        client_read_on(client);
}

static void close_input_now(struct stdio *stdio)
{
    loop_remove(take_ptr(&stdio->in_source));
    fd_close(take_fd(&stdio->in_fd));
    buf_done(&stdio->in_pending);
    stdio->in_pending = (struct buf)BUF_INIT(SHIM_COPY_SIZE);
    // Input for nobody stays unread, as with Docker; who hung up over it can go.
    for (struct client *client = stdio->clients; client; client = client->next) {
        if (client->hung_up && !client->gone)
            client_drop(client);
    }
}

// Writes what goes without waiting; the count, or -1 when nobody reads any more.
static ssize_t write_input(struct stdio *stdio, const char *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t wrote = write(stdio->in_fd, data + done, size - done);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0 && errno == EAGAIN)
            break;
        if (wrote < 0)
            return -1;
        done += (size_t)wrote;
    }
    return (ssize_t)done;
}

void stdio_input(struct stdio *stdio, const void *data, size_t size)
{
    ssize_t wrote = write_input(stdio, data, size);
    if (wrote < 0) {
        close_input_now(stdio);
        return;
    }
    if ((size_t)wrote == size)
        return;
    buf_add(&stdio->in_pending, (const char *)data + wrote, size - (size_t)wrote);
    if (loop_add_fd(stdio->loop, stdio->in_fd, EPOLLOUT, input_writable, stdio, &stdio->in_source, NULL) < 0) {
        close_input_now(stdio);
        return;
    }
    readers_go_on(stdio); // that is: they stop
}

static void input_writable(void *context, int fd, uint32_t events)
{
    struct stdio *stdio = context;
    ssize_t wrote = write_input(stdio, stdio->in_pending.data, stdio->in_pending.size);
    if (wrote < 0 || (wrote == 0 && (events & EPOLLERR))) {
        close_input_now(stdio);
        return;
    }
    buf_consume(&stdio->in_pending, (size_t)wrote);
    if (stdio->in_pending.size)
        return;
    loop_remove(take_ptr(&stdio->in_source));
    if (stdio->in_closing)
        close_input_now(stdio);
    else
        readers_go_on(stdio);
}

void stdio_close_input(struct stdio *stdio)
{
    if (stdio->in_fd < 0 || stdio->terminal)
        return;
    stdio->in_closing = true;
    if (!stdio->in_pending.size)
        close_input_now(stdio);
}

// ---- clients --------------------------------------------------------------------------------------------------------

void stdio_add_client(struct stdio *stdio, struct client *client)
{
    client->stdio = stdio;
    client->in = client->in && stdio_input_open(stdio);
    client->next = stdio->clients;
    stdio->clients = client;
}

void stdio_finish_clients(struct stdio *stdio)
{
    for (struct client *client = stdio->clients; client; client = client->next)
        client_finish(client);
}

bool stdio_has_clients(const struct stdio *stdio)
{
    return stdio->clients;
}

void stdio_sweep(struct stdio *stdio)
{
    for (struct client **at = &stdio->clients; *at;) {
        struct client *client = *at;
        if (!client->gone) {
            at = &client->next;
            continue;
        }
        *at = client->next;
        client_discard(client);
    }
}

void stdio_done(struct stdio *stdio)
{
    for (struct client *client = stdio->clients; client; client = client->next)
        client_drop(client);
    stdio_sweep(stdio);
    outlet_end(&stdio->outlets[0]);
    outlet_end(&stdio->outlets[1]);
    loop_remove(take_ptr(&stdio->in_source));
    fd_close(take_fd(&stdio->in_fd));
    buf_done(&stdio->in_pending);
}
