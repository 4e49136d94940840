// What lasts: wait, attach, logs.
#include "api_private.h"

// ---- wait -----------------------------------------------------------------------------------------------------------

static int read_condition(const struct call *call, enum engine_condition *out, struct err *err)
{
    static const struct {
        const char *word;
        enum engine_condition condition;
    } words[] = { { "", ENGINE_NOT_RUNNING },
                  { "not-running", ENGINE_NOT_RUNNING },
                  { "next-exit", ENGINE_NEXT_EXIT },
                  { "removed", ENGINE_REMOVED } };
    const char *asked = httpd_query(call->request, "condition");
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (str_eq(words[i].word, asked ? asked : "")) {
            *out = words[i].condition;
            return 0;
        }
    return err_set(err, ERR_INVALID_ARGUMENT, "invalid condition: \"%.100s\"", asked);
}

int handle_container_wait(struct call *call, struct err *err)
{
    enum engine_condition condition = ENGINE_NOT_RUNNING;
    struct engine_waiter *waiter;
    int64_t exit_code;
    if (read_condition(call, &condition, err) < 0 ||
        engine_wait_begin(call->engine, call->values[0], condition, &waiter, err) < 0)
        return -1;
    // The head now, the code later: `docker run` starts the container only when it has the head.
    if (httpd_stream_begin(call->request, 200, "application/json") == 0 &&
        engine_wait(waiter, httpd_cancel(call->request), &exit_code, err) == 0) {
        char text[64];
        int size = snprintf(text, sizeof(text), "{\"StatusCode\":%lld}\n", (long long)exit_code);
        httpd_stream_write(call->request, text, (size_t)size);
    }
    engine_wait_end(call->engine, waiter);
    httpd_stream_end(call->request);
    return 0;
}

// ---- attach ---------------------------------------------------------------------------------------------------------

int handle_container_attach(struct call *call, struct err *err)
{
    const struct engine_attach attach = {
        .in = httpd_query_flag(call->request, "stdin", false),
        .out = httpd_query_flag(call->request, "stdout", false),
        .error = httpd_query_flag(call->request, "stderr", false),
        .stream = httpd_query_flag(call->request, "stream", false),
        .logs = httpd_query_flag(call->request, "logs", false),
        .detach_keys = httpd_query(call->request, "detachKeys"),
    };
    char id[65];
    bool terminal;
    if (detach_keys_check(attach.detach_keys, err) < 0 ||
        engine_attach_begin(call->engine, call->values[0], id, &terminal, err) < 0)
        return -1;
    int fd = httpd_hijack(call->request, stream_type(call, terminal, true), err);
    if (fd < 0)
        engine_attach_abandon(call->engine, id);
    return fd < 0 ? -1 : engine_attach(call->engine, id, &attach, fd, err);
}

// ---- logs -----------------------------------------------------------------------------------------------------------

static int write_log(void *request, const void *data, size_t size)
{
    return httpd_stream_write(request, data, size);
}

static int read_logs(const struct call *call, struct engine_logs *out, struct err *err)
{
    const char *tail = httpd_query(call->request, "tail");
    *out = (struct engine_logs){
        .out = httpd_query_flag(call->request, "stdout", false),
        .error = httpd_query_flag(call->request, "stderr", false),
        .follow = httpd_query_flag(call->request, "follow", false),
        .timestamps = httpd_query_flag(call->request, "timestamps", false),
        .details = httpd_query_flag(call->request, "details", false),
    };
    // "all" and everything else that is no number mean all, as in Docker.
    if (str_empty(tail) || !num_parse_i64(slice_of(tail), &out->tail) || out->tail < 0)
        out->tail = -1;
    return query_time(call, "since", &out->since_ns, err) < 0 ? -1 : query_time(call, "until", &out->until_ns, err);
}

int handle_container_logs(struct call *call, struct err *err)
{
    struct engine_logs logs;
    bool terminal;
    if (read_logs(call, &logs, err) < 0 || engine_logs_check(call->engine, call->values[0], &logs, &terminal, err) < 0)
        return -1;
    if (httpd_stream_begin(call->request, 200, stream_type(call, terminal, false)) == 0)
        engine_logs(call->engine, call->values[0], &logs, write_log, call->request, httpd_cancel(call->request), err);
    httpd_stream_end(call->request);
    return 0;
}
