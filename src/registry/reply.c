#include <stdarg.h>

#include "base/log.h"
#include "registry_private.h"

#define REPLY_MAX (64u << 20)

struct code_row {
    const char *name;
    int status;
};

static const struct code_row codes[] = {
    [BLOB_UNKNOWN] = { "BLOB_UNKNOWN", 404 },
    [BLOB_UPLOAD_INVALID] = { "BLOB_UPLOAD_INVALID", 400 },
    [BLOB_UPLOAD_UNKNOWN] = { "BLOB_UPLOAD_UNKNOWN", 404 },
    [DENIED] = { "DENIED", 403 },
    [DIGEST_INVALID] = { "DIGEST_INVALID", 400 },
    [MANIFEST_BLOB_UNKNOWN] = { "MANIFEST_BLOB_UNKNOWN", 404 },
    [MANIFEST_INVALID] = { "MANIFEST_INVALID", 400 },
    [MANIFEST_UNKNOWN] = { "MANIFEST_UNKNOWN", 404 },
    [NAME_INVALID] = { "NAME_INVALID", 400 },
    [NAME_UNKNOWN] = { "NAME_UNKNOWN", 404 },
    [PAGE_NUMBER_INVALID] = { "PAGINATION_NUMBER_INVALID", 400 },
    [RANGE_INVALID] = { "RANGE_INVALID", 416 },
    [SIZE_INVALID] = { "SIZE_INVALID", 400 },
    [TAG_INVALID] = { "TAG_INVALID", 400 },
    [UNAUTHORIZED] = { "UNAUTHORIZED", 401 },
    [UNAVAILABLE] = { "UNAVAILABLE", 503 },
    [UNSUPPORTED] = { "UNSUPPORTED", 405 },
    [UNSUPPORTED_MEDIA] = { "UNSUPPORTED", 415 },
};

void call_reply(struct call *call, int status)
{
    metrics_count(call->registry, status);
    httpd_reply(call->request, status, NULL, NULL, 0);
}

void call_reply_json(struct call *call, int status, const char *content_type, json_t *take_value)
{
    _cleanup_json_ json_t *value = take_value;
    _cleanup_buf_ struct buf text = BUF_INIT(REPLY_MAX);
    json_write(value, &text);
    buf_addc(&text, '\n');
    if (text.overflow) {
        call_refuse(call, SIZE_INVALID, "the answer is larger than %u MiB", REPLY_MAX >> 20);
        return;
    }
    metrics_count(call->registry, status);
    httpd_reply(call->request, status, content_type, text.data, text.size);
}

// {"errors": [{"code": ..., "message": ...}]}
static void reply_error(struct call *call, int status, const char *code, const char *message)
{
    json_t *error = json_object(), *errors = json_array(), *body = json_object();
    json_object_set_new(error, "code", json_string(code));
    json_object_set_new(error, "message", json_new_text(message));
    json_array_append_new(errors, error);
    json_object_set_new(body, "errors", errors);
    call_reply_json(call, status, "application/json", body);
}

void call_refuse(struct call *call, enum code code, const char *fmt, ...)
{
    va_list args;
    char message[ERR_MESSAGE_SIZE];
    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    reply_error(call, codes[code].status, codes[code].name, message);
}

void call_failed(struct call *call, const struct err *err)
{
    bool full = err->class == ERR_RESOURCE_EXHAUSTED;
    log_warn("%s %s: %s", httpd_method(call->request), httpd_path(call->request), err->message);
    reply_error(call, full ? 507 : 500, "UNKNOWN", full ? "the registry has no room" : "the registry failed; its log says why");
}

void set_headerf(struct call *call, const char *name, const char *fmt, ...)
{
    va_list args;
    char value[1024];
    va_start(args, fmt);
    vsnprintf(value, sizeof(value), fmt, args);
    va_end(args);
    httpd_set_header(call->request, name, value);
}

void set_place(struct call *call, const char *kind, const char *digest)
{
    set_headerf(call, "Location", "/v2/%s/%s/%s", call->repository, kind, digest);
    httpd_set_header(call->request, "Docker-Content-Digest", digest);
}
