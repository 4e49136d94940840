// What any URL names, as docker import fetches it: no registry, no login but the URL's own and what the caller says.
#include "distribution_private.h"

#define NO_SUCH_HOST 6 // CURLE_COULDNT_RESOLVE_HOST
#define NOT_MODIFIED 304

struct url {
    struct exchange exchange;
    distribution_begun_fn *begun;
    distribution_sink_fn *sink;
    void *context;
    bool told;
    struct distribution_document *document; // NULL: nobody asks
};

void distribution_document_done(struct distribution_document *document)
{
    free(document->etag);
    free(document->type);
}

static void take_document(struct url *url)
{
    struct distribution_document *document = url->document;
    struct exchange *exchange = &url->exchange;
    document->unchanged = exchange->status == NOT_MODIFIED;
    document->etag = take_ptr(&exchange->etag);
    document->type = take_ptr(&exchange->content_type_said);
    document->modified = exchange->modified ? (int64_t)curl_getdate(exchange->modified, NULL) : -1;
}

static int begin(struct url *url, struct err *err)
{
    if (url->told)
        return 0;
    url->told = true;
    return url->begun(url->context, url->exchange.length, err);
}

static int take(void *context, const void *data, size_t size, struct err *err)
{
    struct url *url = context;
    return begin(url, err) < 0 ? -1 : url->sink(url->context, data, size, err);
}

static const char *phrase(long status)
{
    static const struct {
        long status;
        const char *phrase;
    } table[] = { { 400, " Bad Request" }, { 401, " Unauthorized" }, { 403, " Forbidden" }, { 404, " Not Found" }, { 410, " Gone" },
                  { 429, " Too Many Requests" }, { 500, " Internal Server Error" }, { 502, " Bad Gateway" }, { 503, " Service Unavailable" } };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].status == status)
            return table[i].phrase;
    return "";
}

static enum err_class class_of(long status)
{
    return status == 404 ? ERR_NOT_FOUND : status == 400 ? ERR_INVALID_ARGUMENT : status == 401 ? ERR_UNAUTHENTICATED
           : status == 403 ? ERR_PERMISSION_DENIED : status == 503 ? ERR_UNAVAILABLE : ERR_INTERNAL;
}

// As a part of one line.
static void make_line(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 127)
            *text = ' ';
}

// In the words of Docker, which are those of Go's client.
static int judge(struct url *url, int run, struct err *err)
{
    const struct exchange *exchange = &url->exchange;
    if (exchange->sink_err.class != ERR_NONE) {
        *err = exchange->sink_err;
        return -1;
    }
    if (run < 0)
        return err_set(err, exchange->curl_code == NO_SUCH_HOST ? ERR_NOT_FOUND : ERR_INTERNAL, "Get \"%.500s\": %s", exchange->url,
                       exchange->failure.message + strlen("registry "));
    if (exchange->status / 100 == 2 || (exchange->status == NOT_MODIFIED && exchange->known)) {
        if (url->document)
            take_document(url);
        return exchange->status == NOT_MODIFIED ? 0 : begin(url, err);
    }
    struct slice body = slice_utf8_head(slice_trim((struct slice){ buf_text(&exchange->text), exchange->text.size }), 500);
    _cleanup_free_ char *said = mem_strndup(body.data ? body.data : "", body.size);
    make_line(said);
    return err_set(err, class_of(exchange->status), "failed to GET %.500s with status %ld%s: %s", exchange->url, exchange->status,
                   phrase(exchange->status), said);
}

int distribution_url(const char *text, struct distribution_document *document, distribution_begun_fn *begun, distribution_sink_fn *sink, void *context,
                     struct err *err)
{
    const char *host = strstr(text, "://");
    _cleanup_free_ char *name = mem_strndup(host ? host + 3 : "", host ? strcspn(host + 3, "/?#") : 0);
    const char *at = strrchr(name, '@'); // a login stays out of messages
    struct endpoint endpoint = { .base = name, .host = (char *)(at ? at + 1 : name), .verify = true };
    struct distribution distribution = { .shown = name };
    struct url url = { .begun = begun, .sink = sink, .context = context, .document = document };
    url.exchange = (struct exchange){ .method = "GET", .url = text, .endpoint = &endpoint, .sink = take, .context = &url,
                                    .known = document && !str_empty(document->known) ? document->known : NULL,
                                    .authorization = document && !str_empty(document->authorization) ? document->authorization : NULL };
    mutex_init(&distribution.lock, 0);
    cond_init(&distribution.changed);
    int run = exchange_run(&distribution, &url.exchange), result = judge(&url, run, err);
    exchange_done(&url.exchange);
    distribution_idle_done(&distribution);
    mutex_done(&distribution.lock);
    cond_done(&distribution.changed);
    return result;
}
