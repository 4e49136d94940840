// ~/.docker/config.json: what it says of registries, keys and contexts; and its credential helpers.
#include <fcntl.h>
#include <sys/stat.h>

#include "client/client_private.h"
#include "client/text.h"
#include "base/file.h"
#include "base/process.h"

#define HUB "https://index.docker.io/v1/"

json_t *client_config(struct client *client)
{
    _cleanup_buf_ struct buf text = BUF_INIT(16u << 20);
    struct err err;
    if (client->config)
        return client->config;
    _cleanup_free_ char *path = mem_printf("%s/config.json", client->config_dir);
    bool there = access(path, R_OK) == 0 && file_read_at(AT_FDCWD, path, &text, &err) == 0;
    if (there && (json_parse(buf_text(&text), text.size, &client->config, &err) < 0 || !json_is_object(client->config)))
        fprintf(stderr, "WARNING: Error loading config file: %s: %s\n", path, err.message);
    if (!json_is_object(client->config)) {
        json_decref(client->config);
        client->config = json_object();
    }
    return client->config;
}

const char *config_detach_keys(struct client *client)
{
    return json_get_text(client_config(client), "detachKeys", NULL);
}

char *config_headers(struct client *client)
{
    struct buf lines = BUF_INIT(65536);
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(client_config(client), "HttpHeaders"), key, value) {
        const char *text = json_string_value(value);
        if (text && !strpbrk(key, "\r\n: ") && !strpbrk(text, "\r\n") && strcasecmp(key, "User-Agent") != 0)
            buf_addf(&lines, "%s: %s\r\n", key, text);
    }
    return buf_take(&lines);
}

// config.json's proxies for this daemon's containers, or those for all, as variables in both spellings.
void config_proxies(struct client *client, json_t *environment)
{
    static const struct {
        const char *key, *name;
    } proxies[] = { { "httpProxy", "HTTP_PROXY" }, { "httpsProxy", "HTTPS_PROXY" }, { "noProxy", "NO_PROXY" }, { "ftpProxy", "FTP_PROXY" },
                    { "allProxy", "ALL_PROXY" } };
    const json_t *all = json_object_get(client_config(client), "proxies"), *ours = json_object_get(all, client->host);
    if (!ours)
        ours = json_object_get(all, "default");
    for (size_t i = 0; i < ARRAY_LEN(proxies); i++) {
        const char *value = json_get_text(ours, proxies[i].key, "");
        char lower[16] = "";
        for (size_t c = 0; proxies[i].name[c]; c++)
            lower[c] = proxies[i].name[c] == '_' ? '_' : (char)(proxies[i].name[c] - 'A' + 'a');
        for (int spelling = 0; spelling < 2 && *value; spelling++) {
            _cleanup_free_ char *whole = mem_printf("%s=%s", spelling ? lower : proxies[i].name, value);
            json_array_append_new(environment, json_new_text(whole));
        }
    }
}

// ---- base64 ---------------------------------------------------------------------------------------------------------

static const char digits[2][65] = {
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
};

char *base64_text(const void *data, size_t size, bool url)
{
    const unsigned char *in = data;
    char *out = mem_alloc(size / 3 * 4 + 8), *at = out;
    for (size_t i = 0; i < size; i += 3) {
        uint32_t bits = (uint32_t)in[i] << 16 | (i + 1 < size ? (uint32_t)in[i + 1] << 8 : 0) | (i + 2 < size ? in[i + 2] : 0);
        *at++ = digits[url][bits >> 18];
        *at++ = digits[url][bits >> 12 & 63];
        *at++ = i + 1 < size ? digits[url][bits >> 6 & 63] : '=';
        *at++ = i + 2 < size ? digits[url][bits & 63] : '=';
    }
    return out;
}

bool base64_decode(struct slice text, struct buf *out)
{
    uint32_t bits = 0;
    int count = 0;
    while (text.size && text.data[text.size - 1] == '=')
        text.size--;
    for (size_t i = 0; i < text.size; i++) {
        const char *at = memchr(digits[0], text.data[i], 64);
        if (!at)
            return false;
        bits = bits << 6 | (uint32_t)(at - digits[0]);
        count += 6;
        if (count >= 8) {
            count -= 8;
            buf_addc(out, (char)(bits >> count & 255));
        }
    }
    return true;
}

// ---- credentials ----------------------------------------------------------------------------------------------------

static char *registry_of(const char *image)
{
    size_t size = image_host(image);
    _cleanup_free_ char *host = mem_strndup(image, size);
    return mem_strdup(size && !str_eq(host, "docker.io") && !str_eq(host, "index.docker.io") ? host : HUB);
}

// {"username":..., "password":..., "serveraddress":...} by `docker-credential-X get`.
static json_t *ask_helper(const char *helper, const char *server)
{
    _cleanup_buf_ struct buf out = BUF_INIT(1u << 20);
    _cleanup_json_ json_t *answer = NULL;
    _cleanup_free_ char *program = mem_printf("docker-credential-%s", helper);
    char *const argv[] = { program, (char *)"get", NULL };
    struct err ignored;
    if (process_run(argv, server, &out, &ignored) < 0 || json_parse(buf_text(&out), out.size, &answer, &ignored) < 0)
        return NULL;
    const char *user = json_get_text(answer, "Username", ""), *secret = json_get_text(answer, "Secret", "");
    if (str_eq(user, "<token>"))
        return json_pack("{s:s, s:s}", "identitytoken", secret, "serveraddress", server);
    return json_pack("{s:s, s:s, s:s}", "username", user, "password", secret, "serveraddress", server);
}

static json_t *from_auths(const json_t *auths, const char *server)
{
    _cleanup_buf_ struct buf plain = BUF_INIT(65536);
    const json_t *entry = json_object_get(auths, server);
    const char *token = json_get_text(entry, "identitytoken", ""), *auth = json_get_text(entry, "auth", "");
    if (*token)
        return json_pack("{s:s, s:s}", "identitytoken", token, "serveraddress", server);
    if (!*auth || !base64_decode(slice_of(auth), &plain))
        return NULL;
    struct slice user, password = { buf_text(&plain), plain.size };
    slice_cut(&password, ':', &user);
    if (!password.data)
        return NULL;
    while (password.size && !password.data[password.size - 1])
        password.size--;
    return json_pack("{s:o, s:o, s:s}", "username", json_stringn(user.data, user.size), "password",
                     json_stringn(password.data, password.size), "serveraddress", server);
}

static json_t *credentials(struct client *client, const char *server)
{
    json_t *config = client_config(client), *auths = json_object_get(config, "auths");
    const char *helper = json_get_text(json_object_get(config, "credHelpers"), server, json_get_text(config, "credsStore", ""));
    if (*helper)
        return ask_helper(helper, server);
    json_t *found = from_auths(auths, server);
    if (found)
        return found;
    _cleanup_free_ char *https = mem_printf("https://%s", server), *http = mem_printf("http://%s", server);
    found = from_auths(auths, https);
    return found ? found : from_auths(auths, http);
}

char *image_auth_header(struct client *client, const char *image)
{
    _cleanup_free_ char *server = registry_of(image);
    json_t *auth _cleanup_json_ = credentials(client, server);
    _cleanup_free_ char *text = auth ? json_text(auth) : mem_strdup("{}");
    _cleanup_free_ char *encoded = base64_text(text, strlen(text), true);
    return mem_printf("X-Registry-Auth: %s\r\n", encoded);
}

// Every registry's that we have any for: a build may pull from each of them.
char *registry_config_header(struct client *client)
{
    static const char *const places[] = { "auths", "credHelpers" };
    _cleanup_json_ json_t *all = json_object();
    const char *server;
    json_t *ignored;
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        json_object_foreach(json_object_get(client_config(client), places[i]), server, ignored) {
            json_t *auth = json_object_get(all, server) ? NULL : credentials(client, server);
            if (auth)
                json_object_set_new(all, server, auth);
        }
    _cleanup_free_ char *text = json_text(all), *encoded = base64_text(text, strlen(text), true);
    return mem_printf("X-Registry-Config: %s\r\n", encoded);
}

// ---- login, logout --------------------------------------------------------------------------------------------------

static const char *server_of(const struct call *call)
{
    const char *server = call->args.len ? call->args.items[0] : HUB;
    if (str_eq(server, "docker.io") || str_eq(server, "index.docker.io") || str_eq(server, "registry-1.docker.io"))
        return HUB;
    if (str_eq(server, HUB))
        return server;
    const char *start = str_starts(server, "https://") ? server + 8 : str_starts(server, "http://") ? server + 7 : server;
    return arena_strndup((struct arena *)&call->arena, start, strcspn(start, "/"));
}

// Indented by tabs, as docker writes it. A link to the file stays one.
static int save_config(struct client *client, struct err *err)
{
    _cleanup_free_ char *plain = json_text(client_config(client)), *named = mem_printf("%s/config.json", client->config_dir);
    _cleanup_free_ char *real = realpath(named, NULL);
    _cleanup_buf_ struct buf text = BUF_INIT(16u << 20);
    const char *path = real ? real : named;
    text_indent(slice_of(plain), "", "\t", &text);
    if (buf_check(&text, path, err) < 0 || file_mkdirs(AT_FDCWD, client->config_dir, 0700, err) < 0)
        return -1;
    return file_write_at(AT_FDCWD, path, buf_text(&text), text.size, 0600, false, err);
}

static int store_with_helper(const char *helper, const char *action, const char *input, struct err *err)
{
    _cleanup_free_ char *program = mem_printf("docker-credential-%s", helper);
    char *const argv[] = { program, (char *)action, NULL };
    return process_run(argv, input, NULL, err);
}

static int store(struct call *call, const char *server, const json_t *auth, struct err *err)
{
    json_t *config = client_config(call->client), *auths = json_object_get(config, "auths");
    const char *user = json_get_text(auth, "username", ""), *password = json_get_text(auth, "password", "");
    const char *token = json_get_text(auth, "identitytoken", "");
    const char *helper = json_get_text(json_object_get(config, "credHelpers"), server, json_get_text(config, "credsStore", ""));
    if (!json_is_object(auths))
        json_object_set_new(config, "auths", auths = json_object());
    if (*helper) {
        _cleanup_json_ json_t *entry = json_pack("{s:s, s:s, s:s}", "ServerURL", server, "Username", *token ? "<token>" : user, "Secret",
                                                 *token ? token : password);
        _cleanup_free_ char *text = json_text(entry);
        json_object_set_new(auths, server, json_object());
        return store_with_helper(helper, "store", text, err) < 0 ? -1 : save_config(call->client, err);
    }
    _cleanup_free_ char *plain = mem_printf("%s:%s", user, password), *encoded = base64_text(plain, strlen(plain), false);
    json_t *entry = json_pack("{s:s}", "auth", encoded);
    if (*token)
        json_object_set_new(entry, "identitytoken", json_new_text(token));
    json_object_set_new(auths, server, entry);
    fprintf(stderr, "\nWARNING! Your credentials are stored unencrypted in '%s/config.json'.\n"
                    "Configure a credential helper to remove this warning. See\n"
                    "https://docs.docker.com/go/credential-store/\n\n", call->client->config_dir);
    return save_config(call->client, err);
}

static int read_password(struct call *call, const char *user, char **out, struct err *err)
{
    const char *given = flag_text(&call->flags, "password");
    if (flag_on(&call->flags, "password-stdin")) {
        _cleanup_buf_ struct buf text = BUF_INIT(1u << 20);
        if (given)
            return err_set(err, ERR_INVALID_ARGUMENT, "conflicting options: cannot specify both --password and --password-stdin");
        if (str_empty(user))
            return err_set(err, ERR_INVALID_ARGUMENT, "the --password-stdin option requires --username to be set");
        if (file_read_fd(STDIN_FILENO, "standard input", &text, err) < 0)
            return -1;
        *out = mem_strndup(buf_text(&text), strcspn(buf_text(&text), "\r\n"));
        return 0;
    }
    if (given)
        fputs("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n", stderr);
    else if (!on_terminal(STDIN_FILENO))
        return err_set(err, ERR_INVALID_ARGUMENT, "Error: Cannot perform an interactive login from a non TTY device");
    *out = given ? mem_strdup(given) : ask_hidden("Password: ");
    return **out ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "Error: Password Required");
}

int command_login(struct call *call, struct err *err)
{
    const char *server = server_of(call), *user = flag_text(&call->flags, "username");
    _cleanup_free_ char *password = NULL, *typed = NULL;
    _cleanup_json_ json_t *answer = NULL, *known = credentials(call->client, server), *auth = NULL;
    bool asked = user || flag_set(&call->flags, "password") || flag_on(&call->flags, "password-stdin");
    if (!asked && known) {
        fputs("Authenticating with existing credentials...\n", stdout);
        auth = json_incref(known);
    } else {
        if (!user && !flag_on(&call->flags, "password-stdin") && on_terminal(STDIN_FILENO))
            user = typed = ask_line("Username: ");
        if (read_password(call, user, &password, err) < 0)
            return -1;
        auth = json_pack("{s:s, s:s, s:s}", "username", user ? user : "", "password", password, "serveraddress", server);
    }
    if (api_json(call->client, "POST", "/auth", json_incref(auth), &answer, err) < 0)
        return -1;
    const char *token = json_get_text(answer, "IdentityToken", "");
    if (*token)
        json_object_set_new(auth, "identitytoken", json_new_text(token));
    if (store(call, server, auth, err) < 0)
        return err_wrap(err, "Error saving credentials");
    printf("%s\n", json_get_text(answer, "Status", "Login Succeeded"));
    return 0;
}

int command_logout(struct call *call, struct err *err)
{
    const char *server = server_of(call);
    json_t *config = client_config(call->client), *auths = json_object_get(config, "auths");
    const char *helper = json_get_text(json_object_get(config, "credHelpers"), server, json_get_text(config, "credsStore", ""));
    bool known = json_object_get(auths, server) || *helper;
    printf("%s%s\n", known ? "Removing login credentials for " : "Not logged in to ", server);
    if (!known)
        return 0;
    if (*helper && store_with_helper(helper, "erase", server, err) < 0)
        return err_wrap(err, "WARNING: could not erase credentials");
    json_object_del(auths, server);
    return save_config(call->client, err);
}
