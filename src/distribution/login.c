// The logins that `docker login` keeps: config.json, and the helper programs that it names.
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>

#include "base/file.h"
#include "base/process.h"
#include "distribution_private.h"

#define CONFIG_MAX ((size_t)4 << 20)
#define HUB_KEY "https://index.docker.io/v1/"

static char *config_path(struct arena *arena)
{
    const char *folder = getenv("DOCKER_CONFIG"), *home = getenv("HOME");
    if (!str_empty(folder))
        return arena_printf(arena, "%s/config.json", folder);
    return str_empty(home) ? NULL : arena_printf(arena, "%s/.docker/config.json", home);
}

static const char *key_of(const char *domain)
{
    return str_eq(domain, "docker.io") ? HUB_KEY : domain;
}

// "bmFtZTpwYXNz" -> name, pass.
static void split_auth(const char *text, struct arena *arena, struct distribution_login *out)
{
    gnutls_datum_t in = { (unsigned char *)text, (unsigned)strlen(text) }, plain = { 0 };
    if (gnutls_base64_decode2(&in, &plain) < 0)
        return;
    char *both = arena_strndup(arena, (const char *)plain.data, plain.size), *colon = strchr(both, ':');
    gnutls_free(plain.data);
    if (!colon)
        return;
    *colon = 0;
    out->username = both;
    out->password = colon + 1;
}

// Keys are hosts, or URLs of old times.
static bool key_names(const char *key, const char *domain)
{
    const char *host = strstr(key, "://");
    host = host ? host + 3 : key;
    return strlen(domain) == strcspn(host, "/") && strncmp(host, domain, strlen(domain)) == 0;
}

static void find_entry(json_t *config, const char *domain, struct arena *arena, struct distribution_login *out)
{
    json_t *all = json_object_get(config, "auths"), *entry = json_object_get(all, key_of(domain)), *value;
    const char *key;
    json_object_foreach(all, key, value)
        if (!entry && key_names(key, domain))
            entry = value;
    if (!json_is_object(entry))
        return;
    out->username = arena_strdup(arena, json_get_text(entry, "username", NULL));
    out->password = arena_strdup(arena, json_get_text(entry, "password", NULL));
    split_auth(json_get_text(entry, "auth", ""), arena, out);
    out->identity_token = arena_strdup(arena, json_get_text(entry, "identitytoken", NULL));
    out->registry_token = arena_strdup(arena, json_get_text(entry, "registrytoken", NULL));
}

// docker-credential-NAME get: the server on its input, {"Username","Secret"} on its output. A name of "<token>" says that the
// secret is an identity token.
static int ask_helper(const char *helper, const char *domain, struct arena *arena, struct distribution_login *out, struct err *err)
{
    _cleanup_buf_ struct buf answer = BUF_INIT(ANSWER_MAX);
    _cleanup_json_ json_t *document = NULL;
    _cleanup_free_ char *name = mem_printf("docker-credential-%s", helper);
    char *const argv[] = { name, (char *)"get", NULL };
    struct err why = { 0 };
    if (strchr(helper, '/'))
        return err_set(err, ERR_INVALID_ARGUMENT, "credential helper %.100s: not a name", helper);
    if (process_run(argv, key_of(domain), &answer, &why) < 0) {
        if (strstr(why.message, "credentials not found"))
            return 0;
        return err_set(err, why.class, "credential helper: %s", why.message);
    }
    if (json_parse(buf_text(&answer), answer.size, &document, err) < 0)
        return err_wrap(err, "credential helper %s", name);
    const char *user = json_get_text(document, "Username", ""), *secret = json_get_text(document, "Secret", "");
    if (str_eq(user, "<token>")) {
        out->identity_token = arena_strdup(arena, secret);
        return 0;
    }
    out->username = arena_strdup(arena, user);
    out->password = arena_strdup(arena, secret);
    return 0;
}

int distribution_login_find(const char *domain, struct arena *arena, struct distribution_login *out, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(CONFIG_MAX);
    _cleanup_json_ json_t *config = NULL;
    char *path = config_path(arena);
    *out = (struct distribution_login){ 0 };
    if (!path || access(path, F_OK) < 0)
        return 0;
    if (file_read_at(AT_FDCWD, path, &text, err) < 0)
        return -1;
    if (json_parse(buf_text(&text), text.size, &config, err) < 0)
        return err_wrap(err, "%s", path);
    const char *helper = json_get_text(json_object_get(config, "credHelpers"), key_of(domain), NULL);
    if (!helper)
        helper = json_get_text(json_object_get(config, "credHelpers"), domain, json_get_text(config, "credsStore", NULL));
    if (!str_empty(helper) && ask_helper(helper, domain, arena, out, err) < 0)
        return -1;
    if (!out->username && !out->identity_token)
        find_entry(config, domain, arena, out);
    return 0;
}
