// Bearer tokens at the door: which the registry asks for, which it takes, and those that it issues itself at GET /token.
#include <fcntl.h>

#include "registry_private.h"

#define OWN_ISSUER "berth-registry"
#define SECRET_NAME "token.key"
#define REALM_MAX 255

static int read_secret(struct registry *registry, struct err *err)
{
    struct buf file = BUF_INIT(TOKEN_SECRET_SIZE);
    struct err missing = { 0 };
    if (file_read_at(registry->root_fd, SECRET_NAME, &file, &missing) == 0 && file.size == TOKEN_SECRET_SIZE) {
        memcpy(registry->token_secret, file.data, TOKEN_SECRET_SIZE);
        buf_done(&file);
        return 0;
    }
    buf_done(&file);
    if (missing.class != ERR_NOT_FOUND)
        return err_set(err, ERR_INVALID_ARGUMENT, SECRET_NAME ": not the %d bytes of a secret: remove it, and a new one is made", TOKEN_SECRET_SIZE);
    random_bytes(registry->token_secret, TOKEN_SECRET_SIZE);
    return file_write_at(registry->root_fd, SECRET_NAME, registry->token_secret, TOKEN_SECRET_SIZE, 0600, true, err);
}

int bearer_open(struct registry *registry, const struct registry_options *options, struct err *err)
{
    registry->issues = options->token;
    registry->is_tls = options->is_tls;
    registry->token_realm = mem_strdup(options->token_realm);
    registry->token_service = mem_strdup(options->token_service ? options->token_service : OWN_ISSUER);
    registry->token_issuer = mem_strdup(options->token ? OWN_ISSUER : options->token_issuer);
    if (options->token && read_secret(registry, err) < 0)
        return -1;
    return options->token_keys ? token_keys_read(options->token_keys, &registry->token_keys, err) : 0;
}

void bearer_close(struct registry *registry)
{
    token_keys_free(registry->token_keys);
    free(registry->token_realm);
    free(registry->token_service);
    free(registry->token_issuer);
}

static struct token_rules rules_of(const struct registry *registry)
{
    return (struct token_rules){ .keys = registry->token_keys, .secret = registry->issues ? registry->token_secret : NULL,
                                 .issuer = registry->token_issuer, .service = registry->token_service,
                                 .now_s = clock_wall_ns() / NS_PER_S };
}

// ---- who comes with one ---------------------------------------------------------------------------------------------

// Where the client gets its token: what was said, or this server under the name by which the client called it.
static char *realm_of(struct call *call)
{
    if (call->registry->token_realm)
        return call->registry->token_realm;
    const char *host = httpd_header(call->request, "Host");
    if (str_empty(host) || strlen(host) > REALM_MAX || strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]_") != strlen(host))
        return (char *)"/token";
    return arena_printf(call->arena, "%s://%s/token", call->registry->is_tls ? "https" : "http", host);
}

static void challenge(struct call *call, const struct auth_wish *wish, const char *error)
{
    char *scope = (char *)"";
    if (*wish->action)
        scope = arena_printf(call->arena, ",scope=\"%s:%s:%s\"", wish->type, wish->name, str_eq(wish->action, "push") ? "pull,push" : wish->action);
    set_headerf(call, "WWW-Authenticate", "Bearer realm=\"%s\",service=\"%s\"%s%s%s%s", realm_of(call), call->registry->token_service, scope,
                error ? ",error=\"" : "", error ? error : "", error ? "\"" : "");
}

static const char *token_of(struct call *call)
{
    const char *header = httpd_header(call->request, "Authorization");
    return header && strncasecmp(header, "Bearer ", 7) == 0 ? header + 7 : NULL;
}

bool bearer_may(struct call *call, const struct auth_wish *wish)
{
    const struct token_rules rules = rules_of(call->registry);
    const char *token = token_of(call);
    return token && token_allows(&rules, token, wish->type, wish->name, wish->action, call->arena, NULL) > 0;
}

bool bearer_allows(struct call *call, const struct auth_wish *wish)
{
    struct err err = { 0 };
    const struct token_rules rules = rules_of(call->registry);
    const char *token = token_of(call);
    int allowed = token ? token_allows(&rules, token, wish->type, wish->name, wish->action, call->arena, &err) : -1;
    if (allowed > 0)
        return true;
    challenge(call, wish, !token ? NULL : allowed == 0 ? "insufficient_scope" : "invalid_token");
    if (allowed == 0)
        call_refuse(call, DENIED, "the token does not allow to %s %s", wish->action, wish->name);
    else
        call_refuse(call, UNAUTHORIZED, "%s", token ? err.message : "log in first");
    return false;
}

// ---- who asks for one -----------------------------------------------------------------------------------------------

void handle_token(struct call *call)
{
    char *user;
    const struct token_rules rules = rules_of(call->registry);
    const char *service = httpd_query(call->request, "service");
    struct strv scopes = { 0 };
    if (!call->registry->issues) {
        call_refuse(call, NAME_UNKNOWN, "this registry issues no tokens");
        return;
    }
    if (!auth_basic(call, &user)) // it was answered
        return;
    if (service && !str_eq(service, rules.service)) {
        call_refuse(call, DENIED, "tokens are issued for %s alone", rules.service);
        return;
    }
    httpd_query_all(call->request, "scope", &scopes);
    char *token = token_issue(&rules, user, &scopes, call->arena);
    httpd_set_header(call->request, "Cache-Control", "no-store");
    call_reply_json(call, 200, "application/json", json_pack("{s:s, s:s, s:i}", "token", token, "access_token", token, "expires_in", TOKEN_LIFE_S));
}
