// What has to do with registries: pulling, and who a client is to them.
#include <gnutls/gnutls.h>

#include "api_private.h"

#define AUTH_MAX (64u << 10)

// base64url, with or without padding, of a JSON object. As with Docker a header that is not that says nothing.
json_t *registry_auth(struct call *call, const char *header)
{
    gnutls_datum_t out = { 0 };
    json_t *object = NULL;
    if (str_empty(header) || strlen(header) > AUTH_MAX)
        return NULL;
    size_t size = strlen(header);
    char *text = arena_printf(call->arena, "%s===", header);
    text[size + (4 - size % 4) % 4] = 0;
    for (char *at = text; *at; at++)
        *at = *at == '-' ? '+' : *at == '_' ? '/' : *at;
    const gnutls_datum_t in = { (unsigned char *)text, (unsigned)strlen(text) };
    if (gnutls_base64_decode2(&in, &out) == 0 && json_parse((const char *)out.data, out.size, &object, NULL) < 0)
        object = NULL;
    if (out.data)
        gnutls_memset(out.data, 0, out.size);
    gnutls_free(out.data);
    return object;
}

struct engine_login registry_login(const json_t *auth)
{
    return (struct engine_login){ json_get_text(auth, "username", NULL), json_get_text(auth, "password", NULL),
                                  json_get_text(auth, "identitytoken", NULL), json_get_text(auth, "registrytoken", NULL) };
}

// fromImage has the name, tag a tag or a digest; a tag in the name gives way to it. Without any it is all tags that are meant.
static int pull_reference(struct call *call, char **out, bool *all, struct err *err)
{
    const char *name = httpd_query(call->request, "fromImage"), *tag = httpd_query(call->request, "tag");
    struct image_ref ref;
    if (image_ref_parse(name, false, call->arena, &ref, err) < 0)
        return -1;
    *all = str_empty(tag) && !ref.tag && !ref.digest;
    *out = str_empty(tag) ? arena_strdup(call->arena, name)
                          : arena_printf(call->arena, "%s/%s%s%s", ref.domain, ref.path, strchr(tag, ':') ? "@" : ":", tag);
    return 0;
}

int handle_image_pull(struct call *call, struct err *err)
{
    struct progress progress = { call };
    _cleanup_json_ json_t *auth = registry_auth(call, httpd_header(call->request, "X-Registry-Auth"));
    struct engine_login login = registry_login(auth);
    char *reference = NULL;
    bool all = false;
    if (pull_reference(call, &reference, &all, err) < 0)
        return -1;
    int result = (all ? engine_pull_all : engine_pull)(call->engine, reference, httpd_query(call->request, "platform"), &login,
                                                       progress_write, &progress, httpd_cancel(call->request), err);
    return progress_end(&progress, result, err);
}

// One image is of one platform here: another than its own is not there to be pushed. Of several that are asked for at once, each goes as it is.
static int check_platform(struct call *call, struct err *err)
{
    const char *tag = httpd_query(call->request, "tag");
    struct image image;
    if (call->version < 46 || str_empty(httpd_query(call->request, "platform")))
        return 0;
    if (str_empty(tag))
        return err_set(err, ERR_NOT_IMPLEMENTED, "platform: not supported for all tags at once");
    const char *name = arena_printf(call->arena, "%s:%s", call->values[0], tag);
    return image_get(engine_images(call->engine), name, call->arena, &image, NULL) < 0 ? 0 : platform_check(call, "platform", name, &image, err);
}

int handle_image_push(struct call *call, struct err *err)
{
    if (check_platform(call, err) < 0)
        return -1;
    struct progress progress = { call };
    _cleanup_json_ json_t *auth = registry_auth(call, httpd_header(call->request, "X-Registry-Auth"));
    struct engine_login login = registry_login(auth);
    int result = engine_push(call->engine, call->values[0], httpd_query(call->request, "tag"), &login, progress_write, &progress,
                             httpd_cancel(call->request), err);
    return progress_end(&progress, result, err);
}

int handle_registry_auth(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *body = NULL;
    char *token = NULL;
    if (body_json(call, &body, err) < 0)
        return -1;
    struct engine_login login = registry_login(body);
    if (engine_registry_login(call->engine, json_get_text(body, "serveraddress", ""), &login, call->arena, &token,
                              httpd_cancel(call->request), err) < 0)
        return -1;
    return reply_json(call, 200, json_pack("{s:s, s:s}", "Status", "Login Succeeded", "IdentityToken", token));
}

int handle_registry_lookup(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *auth = registry_auth(call, httpd_header(call->request, "X-Registry-Auth"));
    struct engine_login login = registry_login(auth);
    json_t *answer = NULL;
    if (engine_registry_lookup(call->engine, call->values[0], &login, &answer, httpd_cancel(call->request), err) < 0)
        return -1;
    return reply_json(call, 200, answer);
}
