// From a challenge to what is sent: Basic, or a token that the realm gives for a scope.
#include <gnutls/gnutls.h>

#include "distribution_private.h"

char *auth_header(struct distribution *distribution)
{
    mutex_lock(&distribution->lock);
    char *header = mem_strdup(distribution->authorization);
    mutex_unlock(&distribution->lock);
    return header;
}

static void keep(struct distribution *distribution, char *header)
{
    mutex_lock(&distribution->lock);
    free(distribution->authorization);
    distribution->authorization = header;
    mutex_unlock(&distribution->lock);
}

static bool has_password(const struct distribution_login *login)
{
    return !str_empty(login->username) && login->password;
}

static char *basic(const struct distribution_login *login)
{
    _cleanup_free_ char *plain = mem_printf("%s:%s", login->username, login->password);
    gnutls_datum_t in = { (unsigned char *)plain, (unsigned)strlen(plain) }, out = { 0 };
    if (gnutls_base64_encode2(&in, &out) < 0)
        abort(); // memory alone can be missing
    char *header = mem_printf("Basic %.*s", (int)out.size, out.data);
    gnutls_free(out.data);
    return header;
}

// ---- tokens ---------------------------------------------------------------------------------------------------------

static void add_parameter(struct buf *out, char separator, const char *key, const char *value)
{
    char *escaped = curl_easy_escape(NULL, value, 0);
    buf_addf(out, "%c%s=%s", separator, key, escaped ? escaped : "");
    curl_free(escaped);
}

// OAuth2 has one member with blanks, Docker's own way one for each.
static void add_scopes(struct distribution *distribution, struct buf *out, bool one_text)
{
    const char *actions = distribution->purpose == DISTRIBUTION_PUSH ? "pull,push" : "pull";
    if (str_empty(distribution->path))
        return;
    _cleanup_buf_ struct buf all = BUF_INIT(16384);
    buf_addf(&all, "repository:%s:%s", distribution->path, actions);
    if (!one_text)
        add_parameter(out, '&', "scope", buf_text(&all));
    mutex_lock(&distribution->lock);
    for (size_t i = 0; i < distribution->extra_scopes.len; i++) {
        buf_addf(&all, " %s", distribution->extra_scopes.items[i]);
        if (!one_text)
            add_parameter(out, '&', "scope", distribution->extra_scopes.items[i]);
    }
    mutex_unlock(&distribution->lock);
    if (one_text)
        add_parameter(out, '&', "scope", buf_text(&all));
}

// RFC 6749: an identity token is a refresh token.
static void fill_form(struct distribution *distribution, const struct challenge *challenge, struct buf *form)
{
    buf_adds(form, "grant_type=refresh_token");
    add_parameter(form, '&', "refresh_token", distribution->login.identity_token);
    add_parameter(form, '&', "service", challenge->service ? challenge->service : "");
    add_parameter(form, '&', "client_id", "berth");
    add_scopes(distribution, form, true);
}

static void fill_url(struct distribution *distribution, const struct challenge *challenge, struct buf *url)
{
    const char *separator = strchr(challenge->realm, '?') ? "&" : "?";
    buf_addf(url, "%s%s", challenge->realm, separator);
    buf_adds(url, "client_id=berth");
    if (!str_empty(challenge->service))
        add_parameter(url, '&', "service", challenge->service);
    if (has_password(&distribution->login))
        add_parameter(url, '&', "account", distribution->login.username);
    if (distribution->wants_identity)
        add_parameter(url, '&', "offline_token", "true");
    add_scopes(distribution, url, false);
}

// A bearer token is sent as it is: no byte of it may end the header.
static bool token_valid(const char *token)
{
    for (const char *at = token; *at; at++)
        if (*at <= ' ' || *at > '~')
            return false;
    return *token;
}

static int take_token(struct distribution *distribution, const struct exchange *exchange, char **out, struct err *err)
{
    _cleanup_json_ json_t *document = NULL;
    if (json_parse(buf_text(&exchange->text), exchange->text.size, &document, NULL) < 0 || !json_is_object(document))
        return err_set(err, ERR_UNAVAILABLE, "registry %s: its token server did not answer with JSON", distribution->domain);
    const char *token = json_get_text(document, "token", "");
    if (!*token)
        token = json_get_text(document, "access_token", "");
    if (!token_valid(token))
        return err_set(err, ERR_UNAVAILABLE, "registry %s: its token server gave no token", distribution->domain);
    const char *identity = json_get_text(document, "refresh_token", NULL);
    if (identity) {
        mutex_lock(&distribution->lock);
        free(distribution->identity_token);
        distribution->identity_token = mem_strdup(identity);
        mutex_unlock(&distribution->lock);
    }
    *out = mem_printf("Bearer %s", token);
    return 0;
}

// The realm is what the registry says. Credentials go to https there when the registry itself is secure, and its
// certificate is checked when it is another host.
static int check_realm(const struct endpoint *endpoint, const char *realm, struct endpoint *out, struct err *err)
{
    bool secure = str_starts(realm, "https://");
    if (!secure && !str_starts(realm, "http://"))
        return err_set(err, ERR_UNAVAILABLE, "registry %s: its token server %.200s is no http address", endpoint->host, realm);
    if (!secure && endpoint->verify)
        return err_set(err, ERR_UNAVAILABLE, "registry %s: its token server %.200s is not secure", endpoint->host, realm);
    const char *host = strstr(realm, "://") + 3;
    size_t size = strcspn(host, "/?#");
    _cleanup_free_ char *name = mem_strndup(host, size);
    *out = *endpoint;
    bool same = str_eq(name, endpoint->host) || endpoint_is_loopback(name);
    out->verify = endpoint->verify || !same;
    return 0;
}

static int fetch_token(struct distribution *distribution, const struct endpoint *endpoint, const struct challenge *challenge,
                       char **out, struct err *err)
{
    _cleanup_buf_ struct buf url = BUF_INIT(16384), form = BUF_INIT(65536);
    struct endpoint realm;
    bool refresh = !str_empty(distribution->login.identity_token);
    if (check_realm(endpoint, challenge->realm, &realm, err) < 0)
        return -1;
    if (refresh) {
        buf_adds(&url, challenge->realm);
        fill_form(distribution, challenge, &form);
    } else {
        fill_url(distribution, challenge, &url);
    }
    if (buf_check(&url, "token request", err) < 0 || buf_check(&form, "token request", err) < 0)
        return -1;
    _cleanup_free_ char *header = !refresh && has_password(&distribution->login) ? basic(&distribution->login) : NULL;
    struct exchange exchange = { .method = refresh ? "POST" : "GET", .url = buf_text(&url), .endpoint = &realm,
                                 .authorization = header, .form = refresh ? buf_text(&form) : NULL };
    int tries = 1, result;
    while (exchange_run(distribution, &exchange), exchange_is_transient(&exchange) &&
                                                     exchange_pause(distribution, &exchange, tries) == 0)
        tries++;
    if (exchange.failure.class == ERR_NONE && exchange.status == 200)
        result = take_token(distribution, &exchange, out, err);
    else
        result = exchange_fail(distribution, &exchange, "token", err);
    exchange_done(&exchange);
    return result;
}

// ---- the answer -----------------------------------------------------------------------------------------------------

static int answer_basic(struct distribution *distribution, const char *rejected, char **out, struct err *err)
{
    if (!has_password(&distribution->login))
        return err_set(err, ERR_UNAUTHENTICATED, "no basic auth credentials");
    if (rejected && str_starts(rejected, "Basic "))
        return err_set(err, ERR_UNAUTHENTICATED, "unauthorized: incorrect username or password");
    *out = basic(&distribution->login);
    return 0;
}

static int answer_bearer(struct distribution *distribution, const struct endpoint *endpoint, const struct challenge *challenge,
                         char **out, struct err *err)
{
    const char *token = distribution->login.registry_token;
    if (str_empty(token))
        return fetch_token(distribution, endpoint, challenge, out, err);
    if (!token_valid(token))
        return err_set(err, ERR_INVALID_ARGUMENT, "the registry token has a byte that no token has");
    *out = mem_printf("Bearer %s", token);
    return 0;
}

int auth_answer(struct distribution *distribution, const struct endpoint *endpoint, const char *text, const char *rejected,
                struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_free_ char *now = auth_header(distribution);
    char *header = NULL;
    if (now && !str_eq(now, rejected))
        return 0; // another thread was faster
    struct challenge challenge = challenge_parse(slice_of(text), &arena);
    int result = -1;
    if (challenge.kind == CHALLENGE_BEARER)
        result = answer_bearer(distribution, endpoint, &challenge, &header, err);
    else if (challenge.kind == CHALLENGE_BASIC)
        result = answer_basic(distribution, rejected, &header, err);
    else
        err_set(err, ERR_UNAUTHENTICATED, "registry %s: asks for a login of a kind that is not known", endpoint->host);
    if (result == 0)
        keep(distribution, header);
    return result;
}
