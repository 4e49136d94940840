#include "api_private.h"

#define JSON_ERRORS_SINCE 24 // what came before read the text as it is
#define REPLY_MAX (256u << 20)

int reply_json(struct call *call, int status, json_t *value)
{
    _cleanup_json_ json_t *owned = value;
    _cleanup_buf_ struct buf text = BUF_INIT(REPLY_MAX);
    struct err err = { 0 };
    json_write(owned, &text);
    buf_addc(&text, '\n');
    if (buf_check(&text, "answer", &err) < 0)
        reply_error(call->request, &err);
    else
        httpd_reply(call->request, status, "application/json", text.data, text.size);
    return 0;
}

int reply_empty(struct call *call, int status)
{
    httpd_reply(call->request, status, NULL, NULL, 0);
    return 0;
}

void reply_error(struct httpd_request *request, const struct err *err)
{
    int status = err_http_status(err->class);
    if (status == 304) {
        httpd_reply(request, status, NULL, NULL, 0);
        return;
    }
    if (path_version(httpd_path(request)) < JSON_ERRORS_SINCE) {
        _cleanup_free_ char *plain = mem_printf("%s\n", err->message);
        httpd_reply(request, status, "text/plain; charset=utf-8", plain, strlen(plain));
        return;
    }
    // A message may carry a client's bytes, which need not be UTF-8; jansson refuses those.
    _cleanup_json_ json_t *message = json_string(err->message);
    if (!message)
        message = json_string("the error's message is not valid UTF-8");
    _cleanup_json_ json_t *object = json_pack("{s:O}", "message", message);
    _cleanup_free_ char *text = json_text(object);
    _cleanup_free_ char *line = mem_printf("%s\n", text);
    // Exactly this type: the Go client compares the header as it is.
    httpd_reply(request, status, "application/json", line, strlen(line));
}

// ---- progress -------------------------------------------------------------------------------------------------------

int progress_write(void *context, json_t *object)
{
    struct httpd_request *request = ((struct progress *)context)->call->request;
    _cleanup_free_ char *text = json_text(object);
    _cleanup_free_ char *line = mem_printf("%s\r\n", text);
    if (!httpd_answered(request) && httpd_stream_begin(request, 200, "application/json") < 0)
        return -1;
    return httpd_stream_write(request, line, strlen(line));
}

int progress_end(struct progress *progress, int result, struct err *err)
{
    struct httpd_request *request = progress->call->request;
    if (result < 0 && !httpd_answered(request))
        return -1;
    if (result < 0) {
        // Both keys: some clients read one, some the other.
        _cleanup_json_ json_t *last =
            json_pack("{s:{s:s}, s:s}", "errorDetail", "message", err->message, "error", err->message);
        if (last)
            progress_write(progress, last);
    }
    if (!httpd_answered(request))
        httpd_stream_begin(request, 200, "application/json");
    httpd_stream_end(request);
    return 0;
}
