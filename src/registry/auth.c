// Basic authentication by an htpasswd file, read anew for each login, so that a change needs no restart. bcrypt is slow on
// purpose: a header that was right is remembered by its digest until the file changes.
#include <crypt.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>

#include "registry_private.h"

#define HTPASSWD_MAX (4u << 20)

void auth_free(struct registry *registry) UNCHECKED
{
    for (size_t i = 0; i < ARRAY_LEN(registry->trusted); i++)
        free(registry->trusted[i]);
}

// "Basic bmFtZTpwYXNz": the text "name:pass" in the arena, NULL when it is not one.
static char *decode(struct call *call, const char *header)
{
    gnutls_datum_t text = { 0 }, in;
    if (!header || strncasecmp(header, "Basic ", 6) != 0)
        return NULL;
    in = (gnutls_datum_t){ (unsigned char *)header + 6, (unsigned)strlen(header + 6) };
    if (gnutls_base64_decode2(&in, &text) < 0)
        return NULL;
    char *copy = arena_strndup(call->arena, (const char *)text.data, text.size);
    bool plain = strlen(copy) == text.size && strchr(copy, ':');
    gnutls_free(text.data);
    return plain ? copy : NULL;
}

// The hash of a user in the file's text, NULL: none.
static char *find_hash(struct arena *arena, struct slice file, struct slice user)
{
    struct slice line, name;
    while (slice_cut(&file, '\n', &line)) {
        struct slice rest = slice_trim(line);
        if (slice_cut(&rest, ':', &name) && rest.data && name.size == user.size && memcmp(name.data, user.data, user.size) == 0)
            return arena_strndup(arena, rest.data, rest.size);
    }
    return NULL;
}

static bool hash_fits(const char *password, const char *hash)
{
    _cleanup_free_ struct crypt_data *data = mem_new(struct crypt_data); // 32 KiB: not for a handler's stack
    const char *made = crypt_r(password, hash, data);
    size_t size = strlen(hash), differ = 0;
    if (!made || *made == '*' || strlen(made) != size)
        return false;
    for (size_t i = 0; i < size; i++) // as long for a wrong first letter as for a wrong last one
        differ |= (size_t)(made[i] ^ hash[i]);
    return differ == 0;
}

// ---- what is remembered ---------------------------------------------------------------------------------------------

// The header together with the file's state: a changed file makes all of them strangers.
static void fingerprint(const char *header, struct slice file, char out[DIGEST_SIZE])
{
    struct digest_hash *hash = digest_hash_new("sha256");
    digest_hash_add(hash, header, strlen(header) + 1);
    digest_hash_add(hash, file.data, file.size);
    digest_hash_end(hash, out);
}

static bool is_trusted(struct registry *registry, const char *print)
{
    bool found = false;
    mutex_lock(&registry->auth_lock);
    for (size_t i = 0; i < ARRAY_LEN(registry->trusted); i++)
        found = found || str_eq(registry->trusted[i], print);
    mutex_unlock(&registry->auth_lock);
    return found;
}

static void trust(struct registry *registry, const char *print)
{
    mutex_lock(&registry->auth_lock);
    char **slot = &registry->trusted[registry->trusted_next++ % ARRAY_LEN(registry->trusted)];
    free(*slot);
    *slot = mem_strdup(print);
    mutex_unlock(&registry->auth_lock);
}

// ---- the question ---------------------------------------------------------------------------------------------------

// 1: the login is right, and *user is its name.
static int check(struct call *call, const char *header, char **user, struct err *err)
{
    _cleanup_buf_ struct buf file = BUF_INIT(HTPASSWD_MAX);
    char print[DIGEST_SIZE], *login = decode(call, header);
    if (!login)
        return 0;
    if (file_read_at(AT_FDCWD, call->registry->htpasswd, &file, err) < 0)
        return err_wrap(err, "htpasswd");
    struct slice text = { buf_text(&file), file.size };
    fingerprint(header, text, print);
    char *colon = strchr(login, ':');
    *user = arena_strndup(call->arena, login, (size_t)(colon - login));
    if (is_trusted(call->registry, print))
        return 1;
    const char *hash = find_hash(call->arena, text, slice_of(*user));
    if (!hash || !hash_fits(colon + 1, hash))
        return 0;
    trust(call->registry, print);
    return 1;
}

bool auth_basic(struct call *call, char **user)
{
    struct err err = { 0 };
    int right = check(call, httpd_header(call->request, "Authorization"), user, &err);
    if (right < 0) {
        call_failed(call, &err);
    } else if (!right) {
        set_headerf(call, "WWW-Authenticate", "Basic realm=\"%s\"", call->registry->realm);
        call_refuse(call, UNAUTHORIZED, "log in first");
    }
    return right > 0;
}

bool auth_allows(struct call *call, const struct auth_wish *wish)
{
    char *user;
    if (call->registry->issues || call->registry->token_keys)
        return bearer_allows(call, wish);
    return !call->registry->htpasswd || auth_basic(call, &user);
}

bool auth_may(struct call *call, const struct auth_wish *wish)
{
    return !(call->registry->issues || call->registry->token_keys) || bearer_may(call, wish);
}
