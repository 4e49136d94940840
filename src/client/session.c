// One thread, one poll: our stdin to the process, the process's output to us, signals to the process or to the terminal's size, and the
// answer to `wait`. With a terminal the stream is bytes; without one it is frames: a byte 1 (stdout), 2 (stderr) or 3 (an error of the
// daemon's), three zeros, the length in four bytes, the data.
#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>

#include "client/client_private.h"
#include "base/fd.h"

#define PIECE 32768
#define KEYS_MAX 16

// What is handed on; what ends or stops a program by itself (SEGV, STOP) is not.
static const struct {
    int number;
    const char *name;
} proxied[] = {
    { SIGHUP, "HUP" },   { SIGINT, "INT" },   { SIGQUIT, "QUIT" }, { SIGTERM, "TERM" }, { SIGUSR1, "USR1" }, { SIGUSR2, "USR2" },
    { SIGALRM, "ALRM" }, { SIGCONT, "CONT" }, { SIGTSTP, "TSTP" }, { SIGIO, "IO" },     { SIGVTALRM, "VTALRM" }, { SIGPROF, "PROF" },
};

struct demux {
    unsigned char head[8];
    size_t head_size;
    uint32_t left;
    struct buf error; // type 3
};

struct keys {
    unsigned char bytes[KEYS_MAX];
    size_t len, matched;
};

// Input that the stream has not taken yet. No more is read meanwhile: a daemon that reads nothing any more must not keep us from
// what it sends.
struct held {
    unsigned char bytes[PIECE + KEYS_MAX];
    size_t at, end;
};

struct loop_state {
    struct session *session;
    struct held held;
    struct demux demux;
    struct keys keys;
    struct termios saved;
    bool raw, in_open;
    int signals, code;
    bool ended; // the wait's answer is there
};

static void session_signals(const struct session *session, sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGWINCH);
    for (size_t i = 0; i < ARRAY_LEN(proxied) && session->signal_id; i++)
        sigaddset(set, proxied[i].number);
}

void session_block_signals(const struct session *session)
{
    sigset_t set;
    session_signals(session, &set);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

// ---- output ---------------------------------------------------------------------------------------------------------

static int write_out(int fd, const void *data, size_t size)
{
    struct err ignored;
    return fd_write_full(fd, data, size, &ignored);
}

static int demux(struct demux *d, const unsigned char *data, size_t size, struct err *err)
{
    while (size) {
        if (!d->left) {
            size_t part = MIN_OF(sizeof(d->head) - d->head_size, size);
            memcpy(d->head + d->head_size, data, part);
            d->head_size += part;
            data += part;
            size -= part;
            if (d->head_size < sizeof(d->head))
                return 0;
            d->left = (uint32_t)d->head[4] << 24 | (uint32_t)d->head[5] << 16 | (uint32_t)d->head[6] << 8 | d->head[7];
            if (d->head[0] > 3)
                return err_set(err, ERR_INTERNAL, "Unrecognized input header: %d", d->head[0]);
            if (!d->left)
                d->head_size = 0;
            continue;
        }
        size_t part = MIN_OF((size_t)d->left, size);
        if (d->head[0] == 3)
            buf_add(&d->error, data, part);
        else if (write_out(d->head[0] == 2 ? STDERR_FILENO : STDOUT_FILENO, data, part) < 0)
            return output_failed(err);
        data += part;
        size -= part;
        d->left -= (uint32_t)part;
        if (!d->left)
            d->head_size = 0;
    }
    return d->error.size ? err_set(err, ERR_INTERNAL, "error from daemon in stream: %s", buf_text(&d->error)) : 0;
}

static int take_output(struct http_exchange *x, bool tty, struct demux *d, struct err *err)
{
    unsigned char data[PIECE];
    ssize_t got = http_exchange_read(x, data, sizeof(data), err);
    if (got <= 0)
        return (int)got;
    if (!tty)
        return demux(d, data, (size_t)got, err) < 0 ? -1 : 1;
    return write_out(STDOUT_FILENO, data, (size_t)got) < 0 ? output_failed(err) : 1;
}

int session_copy(struct http_exchange *x, bool tty, struct err *err)
{
    struct demux d = { .error = BUF_INIT(65536) };
    int result;
    do
        result = take_output(x, tty, &d, err);
    while (result > 0);
    buf_done(&d.error);
    return result;
}

// ---- input ----------------------------------------------------------------------------------------------------------

static bool parse_key(struct slice word, unsigned char *out)
{
    if (word.size == 1) {
        *out = (unsigned char)*word.data;
        return true;
    }
    if (!slice_starts(word, "ctrl-") || word.size != 6)
        return false;
    char c = word.data[5];
    bool letter = c >= 'a' && c <= 'z';
    if (!letter && !(c && strchr("@[\\]^_", c)))
        return false;
    *out = (unsigned char)((letter ? c - 'a' + 'A' : c) - '@');
    return true;
}

static int parse_keys(const char *text, struct keys *out, struct err *err)
{
    struct slice word, rest = slice_of(str_empty(text) ? "ctrl-p,ctrl-q" : text);
    *out = (struct keys){ 0 };
    while (slice_cut(&rest, ',', &word))
        if (out->len == KEYS_MAX || !parse_key(word, &out->bytes[out->len++]))
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid detach keys (%s): Unknown character: '%.*s'", text, (int)word.size, word.data);
    return 0;
}

int check_detach_keys(const char *keys, struct err *err)
{
    struct keys parsed;
    return str_empty(keys) ? 0 : parse_keys(keys, &parsed, err);
}

// Keeps what is no part of the keys; true when all of them were pressed. A beginning of them that goes on otherwise comes late.
static bool take_keys(struct keys *keys, struct held *held, const unsigned char *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (data[i] == keys->bytes[keys->matched]) {
            if (++keys->matched == keys->len)
                return true;
            continue;
        }
        memcpy(held->bytes + held->end, keys->bytes, keys->matched);
        held->end += keys->matched;
        keys->matched = data[i] == keys->bytes[0];
        if (!keys->matched)
            held->bytes[held->end++] = data[i];
    }
    return false;
}

static void send_held(struct loop_state *state)
{
    struct held *held = &state->held;
    ssize_t sent = send(state->session->stream->fd, held->bytes + held->at, held->end - held->at, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0)
        held->at += (size_t)sent;
    else if (sent < 0 && errno != EAGAIN && errno != EINTR) { // nobody takes input any more; what is left of the output still comes
        held->at = held->end;
        state->in_open = false;
    }
    if (held->at == held->end)
        held->at = held->end = 0;
}

// 1: go on, 0: detached.
static int take_input(struct loop_state *state)
{
    unsigned char data[PIECE];
    struct session *session = state->session;
    ssize_t got = read(STDIN_FILENO, data, sizeof(data));
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return 1;
    if (got <= 0) {
        state->in_open = false;
        shutdown(session->stream->fd, SHUT_WR);
        return 1;
    }
    if (session->tty && take_keys(&state->keys, &state->held, data, (size_t)got))
        return 0;
    if (!session->tty) {
        memcpy(state->held.bytes, data, (size_t)got);
        state->held.end = (size_t)got;
    }
    send_held(state);
    return 1;
}

static int raw_terminal(struct loop_state *state, struct err *err)
{
    struct termios raw;
    if (!state->session->tty || !state->session->in || tcgetattr(STDIN_FILENO, &state->saved) < 0)
        return 0;
    raw = state->saved;
    cfmakeraw(&raw);
    if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) < 0)
        return err_errno(err, errno, "the terminal's raw mode");
    state->raw = true;
    return 0;
}

// ---- signals --------------------------------------------------------------------------------------------------------

static void ask(struct client *client, const char *method, struct buf *path)
{
    struct err ignored;
    api_json(client, method, buf_text(path), NULL, NULL, &ignored);
    buf_done(path);
}

static void tell_size(const struct session *session)
{
    struct buf path = PATH_INIT;
    unsigned rows, columns;
    terminal_size(STDOUT_FILENO, &rows, &columns);
    if (!session->tty || !session->resize_path || !rows || !columns)
        return;
    buf_addf(&path, "%s?h=%u&w=%u", session->resize_path, rows, columns);
    ask(session->client, "POST", &path);
}

static void take_signal(struct loop_state *state)
{
    struct signalfd_siginfo info;
    struct session *session = state->session;
    if (read(state->signals, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo == SIGWINCH)
        tell_size(session);
    for (size_t i = 0; i < ARRAY_LEN(proxied) && session->signal_id; i++)
        if ((int)info.ssi_signo == proxied[i].number) {
            struct buf path = PATH_INIT;
            path_put(&path, "/containers/", session->signal_id, "/kill");
            query_add(&path, "signal", proxied[i].name);
            ask(session->client, "POST", &path);
        }
}

static int open_signals(const struct session *session)
{
    sigset_t set;
    session_signals(session, &set);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

// ---- wait -----------------------------------------------------------------------------------------------------------

int wait_begin(struct client *client, const char *id, const char *condition, struct http_exchange *x, struct err *err)
{
    _cleanup_buf_ struct buf path = PATH_INIT;
    path_put(&path, "/containers/", id, "/wait");
    if (condition)
        query_add(&path, "condition", condition);
    if (api_open(client, x, err) < 0)
        return -1;
    int result = api_send(client, x, "POST", buf_text(&path), NULL, NULL, err);
    if (result < 0)
        api_close(client, x);
    return result;
}

int wait_end(struct client *client, struct http_exchange *x, struct err *err)
{
    _cleanup_buf_ struct buf body = BUF_INIT(65536);
    _cleanup_json_ json_t *answer = NULL;
    int result = api_read_all(x, &body, err);
    api_close(client, x);
    if (result < 0 || json_parse(buf_text(&body), body.size, &answer, err) < 0)
        return -1;
    const char *message = json_get_text(json_object_get(answer, "Error"), "Message", NULL);
    if (!str_empty(message))
        return err_set(err, ERR_INTERNAL, "Error waiting for container: %s", message);
    return (int)(json_get_int(answer, "StatusCode", 0) & 255);
}

// A daemon that goes while we wait takes the exit code with it; the process's output still comes from elsewhere.
static void take_wait(struct loop_state *state)
{
    struct err err;
    state->ended = true;
    state->code = wait_end(state->session->client, state->session->wait, &err);
    if (state->code < 0) {
        fprintf(stderr, "%s%s\n", str_starts(err.message, "Error waiting") ? "" : "error waiting for container: ", err.message);
        state->code = EXIT_ENGINE;
    }
}

// ---- the loop -------------------------------------------------------------------------------------------------------

enum { IN, STREAM, WAIT, SIGNALS, FDS };

// 1: go on, 0: over, -1.
static int turn(struct loop_state *state, bool *detached, struct err *err)
{
    struct session *session = state->session;
    bool output = session->out || session->err, held = state->held.end > 0;
    struct pollfd fds[FDS] = {
        [IN] = { .fd = state->in_open && !held ? STDIN_FILENO : -1, .events = POLLIN },
        [STREAM] = { .fd = session->stream->fd, .events = (short)(held ? POLLIN | POLLOUT : POLLIN) },
        [WAIT] = { .fd = session->wait && !state->ended ? session->wait->fd : -1, .events = POLLIN },
        [SIGNALS] = { .fd = state->signals, .events = POLLIN },
    };
    bool pending = http_exchange_pending(session->stream), told = session->wait && !state->ended && http_exchange_pending(session->wait);
    if (poll(fds, FDS, pending || told ? 0 : -1) < 0)
        return errno == EINTR ? 1 : err_errno(err, errno, "poll");
    if (fds[SIGNALS].revents)
        take_signal(state);
    if (fds[IN].revents && !take_input(state)) {
        *detached = true;
        return 0;
    }
    if (fds[STREAM].revents & POLLOUT)
        send_held(state);
    if ((fds[STREAM].revents & ~POLLOUT) || pending) {
        int result = take_output(session->stream, session->tty, &state->demux, err);
        if (result <= 0)
            return result;
    }
    if (fds[WAIT].revents || told) {
        take_wait(state);
        return output; // what is left of the output comes before the stream's end
    }
    return 1;
}

int session_run(struct session *session, bool *detached, struct err *err)
{
    struct loop_state state;
    memset(&state, 0, sizeof(state));
    state.session = session;
    state.in_open = session->in;
    state.demux.error = (struct buf)BUF_INIT(65536);
    *detached = false;
    fflush(stdout);
    state.signals = open_signals(session);
    int result = state.signals < 0 ? err_errno(err, errno, "signalfd") : parse_keys(session->detach_keys, &state.keys, err);
    if (result == 0)
        result = raw_terminal(&state, err);
    if (!session->in)
        shutdown(session->stream->fd, SHUT_WR);
    if (result == 0)
        tell_size(session);
    for (int more = result == 0; more > 0;)
        more = result = turn(&state, detached, err);
    if (state.raw)
        tcsetattr(STDIN_FILENO, TCSANOW, &state.saved);
    fd_close(state.signals);
    buf_done(&state.demux.error);
    if (result < 0)
        return -1;
    if (session->wait && !state.ended && !*detached)
        take_wait(&state);
    return state.code;
}
