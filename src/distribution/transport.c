// One HTTP request by libcurl, and the rules around it: login, pauses and second tries, what a bad answer means in one line.
//
// Redirects are followed by libcurl, which leaves our Authorization header out once host or port are others; they lead from
// https to https only.
#include <ctype.h>
#include <time.h>

#include "base/clock.h"
#include "base/num.h"
#include "distribution_private.h"

#define PAUSE_MAX_MS 20000
#define RETRY_AFTER_MAX_S 60 // who is told to come back later than that says so instead of waiting
#define REDIRECTS_MAX 10L
#define CONNECT_MS 30000L
#define STALL_S 60L // without a byte
#define WORK_S 600L // the same while the registry has something to do: hash a blob, write it

// ---- headers --------------------------------------------------------------------------------------------------------

static void forget_headers(struct exchange *exchange)
{
    char **texts[] = { &exchange->location, &exchange->content_type_said, &exchange->digest, &exchange->content_range,
                       &exchange->challenge, &exchange->range_said, &exchange->link, &exchange->etag, &exchange->modified };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        free(take_ptr(texts[i]));
    exchange->retry_after_s = exchange->length = -1;
}

static void forget_answer(struct exchange *exchange)
{
    forget_headers(exchange);
    buf_done(&exchange->text);
    exchange->text = (struct buf)BUF_INIT(exchange->text_max ? exchange->text_max : ANSWER_MAX);
    exchange->status = 0;
    exchange->curl_code = 0;
    err_clear(&exchange->sink_err);
    err_clear(&exchange->failure);
}

void exchange_done(struct exchange *exchange)
{
    forget_answer(exchange);
    buf_done(&exchange->text);
}

// Seconds, or a date.
static int64_t parse_retry_after(const char *text)
{
    uint64_t seconds;
    if (num_parse_u64(slice_of(text), INT32_MAX, &seconds))
        return (int64_t)seconds;
    time_t when = curl_getdate(text, NULL);
    return when < 0 ? -1 : MAX_OF((int64_t)(when - time(NULL)), INT64_C(0));
}

static void keep_text(char **place, struct slice value)
{
    free(*place);
    *place = mem_strndup(value.data, value.size);
}

static void keep_header(struct exchange *exchange, struct slice name, struct slice value)
{
    const struct {
        const char *name;
        char **place;
    } known[] = { { "location", &exchange->location },        { "content-type", &exchange->content_type_said },
                  { "docker-content-digest", &exchange->digest }, { "content-range", &exchange->content_range },
                  { "range", &exchange->range_said },          { "link", &exchange->link },
                  { "etag", &exchange->etag },                { "last-modified", &exchange->modified } };
    char word[32];
    if (name.size >= sizeof(word))
        return;
    for (size_t i = 0; i < name.size; i++)
        word[i] = (char)tolower((unsigned char)name.data[i]);
    word[name.size] = 0;
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (str_eq(word, known[i].name))
            keep_text(known[i].place, value);
    if (str_eq(word, "www-authenticate")) { // there may be several: one list
        char *all = mem_printf("%s%s%.*s", exchange->challenge ? exchange->challenge : "", exchange->challenge ? ", " : "",
                               (int)value.size, value.data);
        free(exchange->challenge);
        exchange->challenge = all;
    } else if (str_eq(word, "retry-after")) {
        _cleanup_free_ char *text = mem_strndup(value.data, value.size);
        exchange->retry_after_s = parse_retry_after(text);
    } else if (str_eq(word, "content-length") && !num_parse_i64(value, &exchange->length)) {
        exchange->length = -1;
    }
}

static size_t on_header(char *data, size_t one, size_t size, void *context)
{
    struct exchange *exchange = context;
    struct slice rest = { data, size }, name;
    if (size >= 5 && strncasecmp(data, "HTTP/", 5) == 0) {
        forget_headers(exchange); // of a redirect, or of a 100
        return size;
    }
    slice_cut(&rest, ':', &name);
    if (rest.data)
        keep_header(exchange, name, slice_trim(rest));
    return size;
}

// ---- content --------------------------------------------------------------------------------------------------------

static size_t on_content(char *data, size_t one, size_t size, void *context)
{
    struct exchange *exchange = context;
    curl_easy_getinfo(exchange->curl, CURLINFO_RESPONSE_CODE, &exchange->status);
    if (exchange->sink && exchange->status / 100 == 2)
        return exchange->sink(exchange->context, data, size, &exchange->sink_err) < 0 ? 0 : size;
    buf_add(&exchange->text, data, size);
    // An error's body counts as far as it fits; of what was asked for all is needed.
    if (exchange->text.overflow && exchange->status / 100 == 2) {
        err_set(&exchange->sink_err, ERR_INVALID_ARGUMENT, "registry %s: an answer is larger than %zu bytes",
                exchange->endpoint->host, exchange->text.ceiling);
        return 0;
    }
    return size;
}

// ---- one attempt ----------------------------------------------------------------------------------------------------

static CURL *take_handle(struct distribution *distribution)
{
    CURL *curl = NULL;
    mutex_lock(&distribution->lock);
    if (distribution->idle_len)
        curl = distribution->idle[--distribution->idle_len];
    mutex_unlock(&distribution->lock);
    if (curl)
        curl_easy_reset(curl); // its connections stay
    else
        curl = curl_easy_init();
    if (!curl)
        abort(); // memory alone can be missing
    return curl;
}

static void give_handle(struct distribution *distribution, CURL *curl)
{
    mutex_lock(&distribution->lock);
    bool kept = distribution->idle_len < ARRAY_LEN(distribution->idle);
    if (kept)
        distribution->idle[distribution->idle_len++] = curl;
    mutex_unlock(&distribution->lock);
    if (!kept)
        curl_easy_cleanup(curl);
}

static const char *environment(const char *upper, const char *lower)
{
    const char *value = getenv(upper);
    return str_empty(value) ? getenv(lower) : value;
}

// As Go's clients: by the request's scheme, never for this machine itself.
static void set_proxy(CURL *curl, const struct exchange *exchange)
{
    const char *host = strstr(exchange->url, "://"), *none = environment("NO_PROXY", "no_proxy"), *proxy;
    _cleanup_free_ char *name = mem_strndup(host ? host + 3 : "", host ? strcspn(host + 3, "/") : 0);
    proxy = str_starts(exchange->url, "https://") ? environment("HTTPS_PROXY", "https_proxy") : environment("HTTP_PROXY", "http_proxy");
    curl_easy_setopt(curl, CURLOPT_PROXY, proxy && !endpoint_is_loopback(name) ? proxy : "");
    if (none)
        curl_easy_setopt(curl, CURLOPT_NOPROXY, none);
}

static void set_blob(CURL *curl, CURLoption option, char *pem)
{
    struct curl_blob blob = { pem, strlen(pem), CURL_BLOB_NOCOPY };
    curl_easy_setopt(curl, option, &blob);
}

static void set_tls(CURL *curl, const struct endpoint *endpoint)
{
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, (long)endpoint->verify);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, endpoint->verify ? 2L : 0L);
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (endpoint->certs.authorities)
        set_blob(curl, CURLOPT_CAINFO_BLOB, endpoint->certs.authorities);
    if (endpoint->certs.certificate) {
        set_blob(curl, CURLOPT_SSLCERT_BLOB, endpoint->certs.certificate);
        set_blob(curl, CURLOPT_SSLKEY_BLOB, endpoint->certs.key);
    }
}

static struct curl_slist *make_headers(const struct exchange *exchange)
{
    const struct {
        const char *name, *value;
    } known[] = { { "Authorization", exchange->authorization }, { "Accept", exchange->accept },
                  { "Content-Type", exchange->content_type }, { "If-None-Match", exchange->known }, { "Content-Range", exchange->body ? exchange->range : NULL } };
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (!known[i].value)
            continue;
        _cleanup_free_ char *line = mem_printf("%s: %s", known[i].name, known[i].value);
        headers = curl_slist_append(headers, line);
    }
    return headers;
}

// A server may take its time over what was sent: it hashes it, writes it.
static void set_patience(CURL *curl, const struct distribution *distribution, const char *method)
{
    bool asks = str_eq(method, "GET") || str_eq(method, "HEAD");
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, distribution->patience_s ? distribution->patience_s * 1000L : CONNECT_MS);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, distribution->patience_s ? (long)distribution->patience_s : asks ? STALL_S : WORK_S);
}

static void set_request(CURL *curl, const struct exchange *exchange)
{
    bool secure = str_starts(exchange->url, "https://");
    curl_easy_setopt(curl, CURLOPT_URL, exchange->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, secure ? "https" : "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, REDIRECTS_MAX);
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "berth/" BERTH_VERSION);
    curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 512L * 1024);
    if (str_eq(exchange->method, "HEAD"))
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    // On a connection that was used before, libcurl itself sends again what got no answer.
    curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, (long)exchange->once);
    if (exchange->form || exchange->body) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE,
                         (curl_off_t)(exchange->form ? strlen(exchange->form) : exchange->body_size));
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, exchange->form ? exchange->form : exchange->body);
    } else if (exchange->range) {
        curl_easy_setopt(curl, CURLOPT_RANGE, exchange->range);
    }
    if (!str_eq(exchange->method, "GET") && !str_eq(exchange->method, "HEAD"))
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, exchange->method);
}

int exchange_run(struct distribution *distribution, struct exchange *exchange)
{
    char reason[CURL_ERROR_SIZE] = "";
    CURL *curl = exchange->curl = take_handle(distribution);
    forget_answer(exchange);
    set_request(curl, exchange);
    set_patience(curl, distribution, exchange->method);
    set_proxy(curl, exchange);
    set_tls(curl, exchange->endpoint);
    struct curl_slist *headers = make_headers(exchange);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, exchange);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_content);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, exchange);
    CURLcode code = curl_easy_perform(curl);
    curl_slist_free_all(headers);
    exchange->curl_code = (int)code;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &exchange->status);
    exchange->curl = NULL;
    give_handle(distribution, curl);
    if (code == CURLE_OK)
        return 0;
    if (exchange->sink_err.class != ERR_NONE)
        exchange->failure = exchange->sink_err;
    else
        err_set(&exchange->failure, ERR_UNAVAILABLE, "registry %s: %s", exchange->endpoint->host,
                *reason ? reason : curl_easy_strerror(code));
    return -1;
}

// ---- what an answer means -------------------------------------------------------------------------------------------

// A foreign text as part of one line.
static char *one_line(const char *text, struct arena *arena)
{
    struct slice head = slice_utf8_head(slice_of(text ? text : ""), 300);
    char *line = arena_strndup(arena, head.data, head.size);
    for (char *at = line; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 127)
            *at = ' ';
    return line;
}

// "manifest unknown: the tag is not there" out of {"errors":[{"code":"MANIFEST_UNKNOWN","message":...}]}; NULL: another text.
static char *registry_words(const struct exchange *exchange, struct arena *arena)
{
    _cleanup_json_ json_t *document = NULL;
    if (json_parse(buf_text(&exchange->text), exchange->text.size, &document, NULL) < 0 || !json_is_object(document))
        return NULL;
    json_t *first = json_array_get(json_object_get(document, "errors"), 0);
    const char *message = json_get_text(first, "message", NULL), *plain = json_get_text(document, "details", NULL);
    char *code = one_line(json_get_text(first, "code", ""), arena);
    for (char *at = code; *at; at++)
        *at = *at == '_' ? ' ' : (char)tolower((unsigned char)*at);
    if (!*code && !message)
        return plain ? one_line(plain, arena) : NULL;
    return arena_printf(arena, "%s%s%s", code, *code && message ? ": " : "", one_line(message, arena));
}

static enum err_class status_class(long status)
{
    switch (status) {
    case 400:
        return ERR_INVALID_ARGUMENT;
    case 401:
        return ERR_UNAUTHENTICATED;
    case 403:
        return ERR_PERMISSION_DENIED;
    case 404:
        return ERR_NOT_FOUND;
    case 405:
    case 501:
        return ERR_NOT_IMPLEMENTED;
    default:
        return status >= 429 ? ERR_UNAVAILABLE : ERR_INTERNAL;
    }
}

int exchange_fail(const struct distribution *distribution, const struct exchange *exchange, const char *what, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    if (exchange->failure.class != ERR_NONE) {
        if (err)
            *err = exchange->failure;
        return err_wrap(err, "%s", what);
    }
    char *words = registry_words(exchange, &arena), later[64] = "";
    if (exchange->status == 429 && exchange->retry_after_s > 0)
        snprintf(later, sizeof(later), " (try again in %lld s)", (long long)exchange->retry_after_s);
    if (words)
        return err_set(err, status_class(exchange->status), "%s: %s%s", what, words, later);
    return err_set(err, status_class(exchange->status), "%s: registry %s answered %ld%s%s%s", what, exchange->endpoint->host,
                   exchange->status, exchange->content_type_said ? " with " : "",
                   exchange->content_type_said ? one_line(exchange->content_type_said, &arena) : "", later);
}

// ---- again ----------------------------------------------------------------------------------------------------------

bool exchange_is_transient(const struct exchange *exchange)
{
    if (exchange->sink_err.class != ERR_NONE)
        return false;
    switch (exchange->curl_code) {
    case CURLE_OK:
        return exchange->status == 429 || exchange->status == 408 ||
               (exchange->status >= 500 && exchange->status != 501 && exchange->status != 505);
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return true;
    default:
        return false;
    }
}

int exchange_pause(const struct distribution *distribution, const struct exchange *exchange, int attempt)
{
    int64_t pause_ms = distribution->retry_ms;
    if (attempt >= distribution->attempts || exchange->retry_after_s > RETRY_AFTER_MAX_S)
        return -1;
    for (int i = 1; i < attempt && pause_ms < PAUSE_MAX_MS; i++)
        pause_ms *= 2;
    uint16_t jitter; // so that many who were refused together do not come back together
    random_bytes(&jitter, sizeof(jitter));
    pause_ms += pause_ms * (jitter % 256) / 1024;
    pause_ms = MAX_OF(pause_ms, exchange->retry_after_s * 1000);
    const struct timespec pause = { pause_ms / 1000, pause_ms % 1000 * NS_PER_MS };
    nanosleep(&pause, NULL);
    return 0;
}

// One attempt with the login; the first 401 is answered.
static int attempt(struct distribution *distribution, struct exchange *exchange, struct err *err)
{
    for (bool answered = false;; answered = true) {
        _cleanup_free_ char *header = auth_header(distribution);
        exchange->authorization = header;
        int run = exchange_run(distribution, exchange);
        exchange->authorization = NULL;
        if (run < 0 || exchange->status != 401 || answered)
            return 0;
        if (auth_answer(distribution, exchange->endpoint, exchange->challenge, header, err) < 0)
            return -1;
    }
}

int exchange_call(struct distribution *distribution, struct exchange *exchange, struct err *err)
{
    for (int tries = 1;; tries++) {
        if (attempt(distribution, exchange, err) < 0)
            return -1;
        bool again = !exchange->sink && !exchange->once && exchange_is_transient(exchange) && exchange_pause(distribution, exchange, tries) == 0;
        if (!again)
            return 0;
    }
}
