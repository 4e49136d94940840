// A repository and how it is reached: the first endpoint that answers as a registry is kept.
#include <errno.h>

#include "distribution_private.h"

#define TRIES 5

int distribution_setup(struct err *err)
{
    CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT);
    return code == CURLE_OK ? 0 : err_set(err, ERR_INTERNAL, "libcurl: %s", curl_easy_strerror(code));
}

static void copy_login(const struct distribution_login *from, struct distribution_login *to)
{
    *to = (struct distribution_login){ mem_strdup(from->username), mem_strdup(from->password), mem_strdup(from->identity_token),
                                       mem_strdup(from->registry_token) };
}

static void wipe(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

int distribution_new(const struct image_ref *ref, enum distribution_purpose purpose, const struct distribution_login *login,
                     const struct distribution_options *options, struct distribution **out, struct err *err)
{
    struct distribution *distribution = mem_new(struct distribution);
    *distribution = (struct distribution){ .domain = mem_strdup(ref->domain), .path = mem_strdup(ref->path),
                                           .shown = mem_strdup(ref->familiar_name), .purpose = purpose,
                                           .patience_s = options->patience_s,
                                           .retry_ms = options->retry_ms ? options->retry_ms : 500,
                                           .attempts = options->attempts ? (int)options->attempts : TRIES };
    mutex_init(&distribution->lock, 0);
    cond_init(&distribution->changed);
    if (login)
        copy_login(login, &distribution->login);
    if (endpoints_make(ref, purpose, options, &distribution->endpoints, err) < 0) {
        distribution_free(distribution);
        return -1;
    }
    *out = distribution;
    return 0;
}

void distribution_idle_done(struct distribution *distribution) UNCHECKED
{
    for (size_t i = 0; i < distribution->idle_len; i++)
        curl_easy_cleanup(distribution->idle[i]);
    distribution->idle_len = 0;
}

void distribution_free(struct distribution *distribution) UNCHECKED
{
    if (!distribution)
        return;
    distribution_idle_done(distribution);
    endpoints_done(&distribution->endpoints);
    free(distribution->domain);
    free(distribution->path);
    free(distribution->shown);
    strv_done(&distribution->extra_scopes);
    wipe(distribution->authorization);
    wipe(distribution->identity_token);
    free(distribution->login.username);
    wipe(distribution->login.password);
    wipe(distribution->login.identity_token);
    wipe(distribution->login.registry_token);
    mutex_done(&distribution->lock);
    cond_done(&distribution->changed);
    free(distribution);
}

// ---- choosing an endpoint -------------------------------------------------------------------------------------------

const struct endpoint *distribution_endpoint(struct distribution *distribution)
{
    mutex_lock(&distribution->lock);
    const struct endpoint *endpoint = &distribution->endpoints.items[distribution->chosen];
    mutex_unlock(&distribution->lock);
    return endpoint;
}

static void choose(struct distribution *distribution, size_t index, bool connected)
{
    mutex_lock(&distribution->lock);
    distribution->chosen = index;
    distribution->connected = connected;
    free(take_ptr(&distribution->authorization)); // it was another's
    mutex_unlock(&distribution->lock);
}

// 1: a registry that takes us, 0: no registry (*reason says why), -1: a registry that does not.
static int ping(struct distribution *distribution, const struct endpoint *endpoint, bool last, struct err *reason)
{
    _cleanup_free_ char *url = mem_printf("%s/v2/", endpoint->base);
    struct exchange exchange = { .method = "GET", .url = url, .endpoint = endpoint };
    int result = 0, tries = 1;
    while (exchange_run(distribution, &exchange),
           last && exchange_is_transient(&exchange) && exchange_pause(distribution, &exchange, tries) == 0)
        tries++;
    if (exchange.failure.class == ERR_NONE && exchange.status == 200)
        result = 1;
    else if (exchange.failure.class == ERR_NONE && exchange.status == 401 && exchange.challenge)
        result = auth_answer(distribution, endpoint, exchange.challenge, NULL, reason) < 0 ? -1 : 1;
    else if (exchange.failure.class != ERR_NONE)
        *reason = exchange.failure;
    else
        exchange_fail(distribution, &exchange, endpoint->host, reason);
    exchange_done(&exchange);
    return result;
}

// Of several reasons the one that says most: an answer rather than none.
static void keep_reason(struct err *kept, const struct err *reason)
{
    bool answered = strstr(reason->message, " answered ") != NULL;
    if (kept->class == ERR_NONE || (answered && !strstr(kept->message, " answered 400")))
        *kept = *reason;
}

static int find_endpoint(struct distribution *distribution, size_t from, struct err *err)
{
    struct err kept = { 0 };
    for (size_t i = from; i < distribution->endpoints.len; i++) {
        struct err reason = { 0 };
        choose(distribution, i, false);
        const struct endpoint *endpoint = &distribution->endpoints.items[i];
        int found = ping(distribution, endpoint, i + 1 == distribution->endpoints.len, &reason);
        if (found > 0) {
            mutex_lock(&distribution->lock);
            distribution->connected = true;
            mutex_unlock(&distribution->lock);
            return 0;
        }
        if (found < 0 && !endpoint->mirror) {
            if (err)
                *err = reason;
            return -1;
        }
        keep_reason(&kept, &reason);
    }
    if (err)
        *err = kept;
    return -1;
}

int distribution_connect(struct distribution *distribution, struct err *err)
{
    mutex_lock(&distribution->lock);
    while (distribution->connecting)
        cond_wait(&distribution->changed, &distribution->lock);
    bool done = distribution->connected;
    size_t from = distribution->chosen;
    distribution->connecting = !done;
    mutex_unlock(&distribution->lock);
    if (done)
        return 0;
    int result = find_endpoint(distribution, from, err);
    mutex_lock(&distribution->lock);
    distribution->connecting = false;
    cond_wake_all(&distribution->changed);
    mutex_unlock(&distribution->lock);
    return result;
}

bool distribution_next_endpoint(struct distribution *distribution)
{
    mutex_lock(&distribution->lock);
    size_t now = distribution->chosen;
    bool mirror = distribution->endpoints.items[now].mirror && now + 1 < distribution->endpoints.len;
    mutex_unlock(&distribution->lock);
    if (mirror)
        choose(distribution, now + 1, false);
    return mirror;
}

int distribution_login(struct distribution *distribution, char **token, struct err *err)
{
    distribution->wants_identity = token != NULL;
    if (distribution_connect(distribution, err) < 0)
        return -1;
    // A token may be for nothing; a registry that refuses it says so now.
    const struct endpoint *endpoint = distribution_endpoint(distribution);
    _cleanup_free_ char *url = mem_printf("%s/v2/", endpoint->base);
    struct exchange exchange = { .method = "GET", .url = url, .endpoint = endpoint };
    int result = exchange_call(distribution, &exchange, err);
    if (result == 0 && (exchange.failure.class != ERR_NONE || exchange.status != 200))
        result = exchange_fail(distribution, &exchange, "login attempt", err);
    exchange_done(&exchange);
    if (result == 0 && token) {
        mutex_lock(&distribution->lock);
        *token = mem_strdup(distribution->identity_token);
        mutex_unlock(&distribution->lock);
    }
    return result;
}
