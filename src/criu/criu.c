#include "criu/criu.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "criu/protobuf.h"

#define MESSAGE_MAX (64 << 10) // bytes of an answer
#define END_WAIT_NS (10 * NS_PER_S) // from the answer to the program's end

// Numbers of criu_req, criu_resp, criu_notify, criu_features and criu_restore_resp.
enum { REQ_TYPE = 1, REQ_OPTS = 2, REQ_NOTIFY_SUCCESS = 3, REQ_FEATURES = 5 };
enum { RESP_TYPE = 1, RESP_SUCCESS = 2, RESP_NOTIFY = 5, RESP_ERRNO = 7, RESP_FEATURES = 8, RESP_ERRMSG = 9 };
enum { NOTIFY_SCRIPT = 1, NOTIFY_PID = 2 };
enum { FEATURE_MEM_TRACK = 1, FEATURE_LAZY_PAGES = 2 };

struct response {
    uint64_t type;
    bool success;
    int number; // errno
    struct slice message, notify, features;
};

char *criu_find(const char *given, struct err *err)
{
    bool path = !str_empty(given) && strchr(given, '/');
    char *found = !path                     ? process_find(str_empty(given) ? "criu" : given)
                  : access(given, X_OK) == 0 ? realpath(given, NULL) // restore changes to the bundle before it is run
                                             : NULL;
    if (!found)
        err_set(err, ERR_NOT_FOUND, "%.200s: no such program: checkpoint and restore need CRIU", str_empty(given) ? "criu" : given);
    return found;
}

int criu_start(const char *program, bool own_stdio, const int *keep, size_t keep_len, struct criu *out, struct err *err)
{
    char *argv[] = { (char *)"criu", (char *)"swrk", (char *)"3", NULL }; // 3: the socket
    int socks[2], kept[PROCESS_KEEP_MAX];
    if (keep_len >= PROCESS_KEEP_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %d descriptors for criu", PROCESS_KEEP_MAX - 1);
    if (fd_socketpair(SOCK_SEQPACKET, socks, err) < 0)
        return -1;
    kept[0] = socks[1];
    for (size_t i = 0; i < keep_len; i++)
        kept[i + 1] = keep[i];
    const struct process_io io = { own_stdio ? 0 : -1, own_stdio ? 1 : -1, own_stdio ? 2 : -1, kept, keep_len + 1 };
    int result = process_spawn(program, -1, argv, environ, &io, &out->process, err);
    fd_close(socks[1]);
    if (result < 0)
        fd_close(socks[0]);
    else
        out->sock = socks[0];
    return result;
}

void criu_done(struct criu *criu)
{
    fd_close(take_fd(&criu->sock));
    process_done(&criu->process);
}

// ---- one message ----------------------------------------------------------------------------------------------------

static int ended(struct err *err)
{
    return err_set(err, ERR_INTERNAL, "criu failed: it ended without an answer");
}

static int send_request(struct criu *criu, const struct buf *request, struct err *err)
{
    if (buf_check(request, "request to criu", err) < 0)
        return -1;
    if (fd_send(criu->sock, request->data, request->size, NULL, 0, err) >= 0)
        return 0;
    return err->number == EPIPE ? ended(err) : err_wrap(err, "criu");
}

static int parse_response(struct slice bytes, struct response *out, struct err *err)
{
    struct pb_field field;
    int got;
    *out = (struct response){ 0 };
    while ((got = pb_next(&bytes, &field)) > 0) {
        switch (field.number) {
        case RESP_TYPE: out->type = field.value; break;
        case RESP_SUCCESS: out->success = field.value != 0; break;
        case RESP_ERRNO: out->number = (int)field.value; break;
        case RESP_NOTIFY: out->notify = field.bytes; break;
        case RESP_FEATURES: out->features = field.bytes; break;
        case RESP_ERRMSG: out->message = field.bytes; break;
        }
    }
    return got == 0 ? 0 : err_set(err, ERR_INTERNAL, "criu: an answer that is none");
}

static int receive(struct criu *criu, char *bytes, int *fd, struct response *out, struct err *err)
{
    size_t fd_len = 1;
    *fd = -1;
    ssize_t size = fd_recv(criu->sock, bytes, MESSAGE_MAX, fd, &fd_len, err);
    if (fd_len == 0)
        *fd = -1;
    if (size < 0 && err->number != ECONNRESET)
        return err_wrap(err, "criu");
    if (size <= 0)
        return ended(err);
    return parse_response((struct slice){ bytes, (size_t)size }, out, err);
}

static const char *request_name(uint64_t type)
{
    switch (type) {
    case CRIU_DUMP: return "DUMP";
    case CRIU_RESTORE: return "RESTORE";
    case CRIU_NOTIFY: return "NOTIFY";
    case CRIU_FEATURE_CHECK: return "FEATURE_CHECK";
    case CRIU_SINGLE_PRE_DUMP: return "PRE_DUMP";
    }
    return "EMPTY";
}

static int failed(const struct response *response, struct err *err)
{
    struct slice message = slice_trim(response->message); // its first
    if (message.data && criu_is_noise(message))
        message.size = 0;
    return err_set(err, ERR_INTERNAL, "criu failed: type %s errno %d%s%.*s", request_name(response->type), response->number,
                   message.size ? ": " : "", (int)MIN_OF(message.size, (size_t)500), message.size ? message.data : "");
}

// ---- the conversation -----------------------------------------------------------------------------------------------

static int pass_notice(const struct response *response, int fd, criu_notice_fn *notice, void *context, struct err *err)
{
    struct slice rest = response->notify;
    struct pb_field field;
    char script[64] = "";
    pid_t pid = 0;
    while (pb_next(&rest, &field) > 0) {
        if (field.number == NOTIFY_SCRIPT)
            snprintf(script, sizeof(script), "%.*s", (int)MIN_OF(field.bytes.size, sizeof(script)), field.bytes.data);
        else if (field.number == NOTIFY_PID)
            pid = (pid_t)field.value;
    }
    return notice ? notice(script, pid, fd, context, err) : 0;
}

// Our word on it goes back before an error of ours goes up, so that criu undoes what it has done.
static int answer_notice(struct criu *criu, const struct response *response, int fd, criu_notice_fn *notice, void *context,
                         struct err *err)
{
    _cleanup_buf_ struct buf reply = BUF_INIT(64);
    int result = pass_notice(response, fd, notice, context, err);
    pb_number(&reply, REQ_TYPE, CRIU_NOTIFY);
    pb_number(&reply, REQ_NOTIFY_SUCCESS, result == 0);
    struct err unsent = { 0 };
    return send_request(criu, &reply, result < 0 ? &unsent : err) < 0 ? -1 : result;
}

static int await(struct criu *criu, criu_notice_fn *notice, void *context, struct criu_answer *answer, struct err *err)
{
    _cleanup_free_ char *bytes = mem_alloc(MESSAGE_MAX);
    struct response response;
    struct err first = { 0 };
    for (;;) {
        _cleanup_close_ int fd = -1;
        if (receive(criu, bytes, &fd, &response, err) < 0)
            break;
        if (response.type != CRIU_NOTIFY && !response.success) {
            failed(&response, err);
            break;
        }
        if (response.type != CRIU_NOTIFY) {
            struct pb_field field;
            while (answer && pb_next(&response.features, &field) > 0) {
                answer->mem_track |= field.number == FEATURE_MEM_TRACK && field.value;
                answer->lazy_pages |= field.number == FEATURE_LAZY_PAGES && field.value;
            }
            return 0;
        }
        if (first.class == ERR_NONE && answer_notice(criu, &response, fd, notice, context, &first) < 0 && first.class == ERR_NONE)
            break;
    }
    if (first.class != ERR_NONE)
        *err = first; // what we said no to is the reason of what criu said after it
    return -1;
}

static void put_request(struct buf *out, enum criu_request type, const struct buf *options)
{
    _cleanup_buf_ struct buf features = BUF_INIT(64);
    pb_number(out, REQ_TYPE, type);
    if (options)
        pb_message(out, REQ_OPTS, options);
    if (type != CRIU_FEATURE_CHECK)
        return;
    pb_flag(&features, FEATURE_MEM_TRACK, true);
    pb_flag(&features, FEATURE_LAZY_PAGES, true);
    pb_message(out, REQ_FEATURES, &features);
}

int criu_ask(struct criu *criu, enum criu_request type, const struct buf *options, criu_notice_fn *notice, void *context,
             struct criu_answer *answer, struct err *err)
{
    _cleanup_buf_ struct buf request = BUF_INIT(CRIU_OPTIONS_MAX + 64);
    int status;
    if (options && buf_check(options, "options for criu", err) < 0)
        return -1;
    put_request(&request, type, options);
    if (send_request(criu, &request, err) < 0 || await(criu, notice, context, answer, err) < 0)
        return -1;
    fd_close(take_fd(&criu->sock));
    if (process_wait_until(&criu->process, clock_mono_ns() + END_WAIT_NS, &status, err) < 0)
        return err_wrap(err, "criu");
    return status == 0 ? 0 : err_set(err, ERR_INTERNAL, "criu failed: exit status %d", process_exit_code(status));
}
