// A token is believed after its signature, its issuer, its audience and its times, in this order; then its access is read.
#include <gnutls/crypto.h>

#include "base/num.h"
#include "token_private.h"

#define TOKEN_MAX (32u << 10) // bytes of a token: what a header may have
#define LEEWAY_S 60 // clocks differ

// ---- base64url ------------------------------------------------------------------------------------------------------

bool token_decode(struct slice part, struct arena *arena, struct slice *out)
{
    size_t padded = (part.size + 3) / 4 * 4;
    char *text = arena_alloc(arena, padded + 1);
    for (size_t i = 0; i < padded; i++) {
        char c = i < part.size ? part.data[i] : '=';
        if (i < part.size && (c == '+' || c == '/' || c == '='))
            return false;
        text[i] = c == '-' ? '+' : c == '_' ? '/' : c;
    }
    gnutls_datum_t bytes, in = { (unsigned char *)text, (unsigned)padded };
    if (gnutls_base64_decode2(&in, &bytes) < 0)
        return false;
    char *copy = arena_alloc(arena, bytes.size + 1);
    if (bytes.size)
        memcpy(copy, bytes.data, bytes.size);
    *out = (struct slice){ copy, bytes.size };
    gnutls_free(bytes.data);
    return true;
}

static char *encode_part(const void *data, size_t size, struct arena *arena)
{
    gnutls_datum_t text, in = { (unsigned char *)data, (unsigned)size };
    if (gnutls_base64_encode2(&in, &text) < 0)
        abort(); // only memory can be missing
    char *part = arena_strndup(arena, (const char *)text.data, text.size);
    gnutls_free(text.data);
    for (char *c = part; *c; c++)
        *c = (char)(*c == '+' ? '-' : *c == '/' ? '_' : *c);
    part[strcspn(part, "=")] = '\0';
    return part;
}

// ---- signatures -----------------------------------------------------------------------------------------------------

struct algorithm {
    const char *name;
    gnutls_sign_algorithm_t sign;
    size_t half; // ECDSA: bytes of r and of s; 0: the signature is as the library wants it
};

static const struct algorithm algorithms[] = { // HS256 is the own secret's alone, "none" nobody's
    { "RS256", GNUTLS_SIGN_RSA_SHA256, 0 }, { "RS384", GNUTLS_SIGN_RSA_SHA384, 0 }, { "RS512", GNUTLS_SIGN_RSA_SHA512, 0 },
    { "ES256", GNUTLS_SIGN_ECDSA_SHA256, 32 }, { "ES384", GNUTLS_SIGN_ECDSA_SHA384, 48 },
    { "ES512", GNUTLS_SIGN_ECDSA_SHA512, 66 }, { "PS256", GNUTLS_SIGN_RSA_PSS_SHA256, 0 }, { "PS384", GNUTLS_SIGN_RSA_PSS_SHA384, 0 },
    { "PS512", GNUTLS_SIGN_RSA_PSS_SHA512, 0 }, { "EdDSA", GNUTLS_SIGN_EDDSA_ED25519, 0 },
};

static void sign_own(const uint8_t *secret, struct slice text, uint8_t out[32])
{
    if (gnutls_hmac_fast(GNUTLS_MAC_SHA256, secret, TOKEN_SECRET_SIZE, text.data, text.size, out) < 0)
        abort(); // part of every build of the library
}

static bool own_signature_fits(const uint8_t *secret, struct slice text, struct slice signature)
{
    uint8_t right[32];
    sign_own(secret, text, right);
    return signature.size == sizeof(right) && gnutls_memcmp(right, signature.data, sizeof(right)) == 0;
}

static bool one_key_fits(const struct token_keys *keys, const json_t *header, const struct algorithm *algorithm, struct slice text,
                         struct slice signature)
{
    const gnutls_datum_t data = { (unsigned char *)text.data, (unsigned)text.size };
    gnutls_datum_t sign = { (unsigned char *)signature.data, (unsigned)signature.size }, encoded = { 0 };
    if (algorithm->half) {
        const gnutls_datum_t r = { sign.data, (unsigned)algorithm->half }, s = { sign.data + algorithm->half, (unsigned)algorithm->half };
        if (signature.size != 2 * algorithm->half || gnutls_encode_rs_value(&encoded, &r, &s) < 0)
            return false;
        sign = encoded;
    }
    gnutls_pubkey_t brought = token_key_of_chain(keys, header);
    bool fits = brought && gnutls_pubkey_verify_data2(brought, algorithm->sign, 0, &data, &sign) >= 0;
    for (size_t i = 0; i < keys->len && !fits; i++)
        fits = gnutls_pubkey_verify_data2(keys->keys[i], algorithm->sign, 0, &data, &sign) >= 0;
    if (brought)
        gnutls_pubkey_deinit(brought);
    gnutls_free(encoded.data);
    return fits;
}

static bool signature_fits(const struct token_rules *rules, const json_t *header, struct slice text, struct slice signature)
{
    const char *name = json_get_text(header, "alg", "");
    if (rules->secret && str_eq(name, "HS256"))
        return own_signature_fits(rules->secret, text, signature);
    for (size_t i = 0; rules->keys && i < ARRAY_LEN(algorithms); i++)
        if (str_eq(name, algorithms[i].name))
            return one_key_fits(rules->keys, header, &algorithms[i], text, signature);
    return false;
}

// ---- claims ---------------------------------------------------------------------------------------------------------

struct access {
    char *type, *name;
    struct strv actions;
};

struct claims {
    char *issuer, *subject;
    struct strv audience;
    int64_t expires, not_before;
    struct json_list access;
};

static const struct json_field access_fields[] = {
    JSON_FIELD("type", JSON_TEXT, struct access, type),
    JSON_FIELD("name", JSON_TEXT, struct access, name),
    JSON_FIELD("actions", JSON_TEXTS, struct access, actions),
};
static const struct json_table access_table = JSON_TABLE(struct access, access_fields);

static const struct json_field claim_fields[] = {
    JSON_FIELD("iss", JSON_TEXT, struct claims, issuer),
    JSON_FIELD("sub", JSON_TEXT, struct claims, subject),
    JSON_FIELD("aud", JSON_TEXTS, struct claims, audience, .flags = JSON_ONE_IS_LIST),
    JSON_FIELD("exp", JSON_INT, struct claims, expires, .required = true),
    JSON_FIELD("nbf", JSON_INT, struct claims, not_before),
    JSON_FIELD("access", JSON_LIST, struct claims, access, &access_table),
};
static const struct json_table claim_table = JSON_TABLE(struct claims, claim_fields);

static int refuse(struct err *err, const char *why)
{
    return err_set(err, ERR_UNAUTHENTICATED, "the token %s", why);
}

static int check_claims(const struct token_rules *rules, const struct claims *claims, struct err *err)
{
    if (rules->issuer && !str_eq(claims->issuer, rules->issuer))
        return refuse(err, "is of another issuer");
    if (rules->service && !strv_has(&claims->audience, rules->service))
        return refuse(err, "is for another service");
    if (claims->expires < rules->now_s - LEEWAY_S)
        return refuse(err, "has expired");
    return claims->not_before > rules->now_s + LEEWAY_S ? refuse(err, "is not valid yet") : 0;
}

static int read_claims(const struct token_rules *rules, const char *text, struct arena *arena, struct claims *out, struct err *err)
{
    struct slice rest = slice_of(text), head, body, tail, head_text, body_text, signature;
    if (rest.size > TOKEN_MAX || !slice_cut(&rest, '.', &head) || !slice_cut(&rest, '.', &body) || !slice_cut(&rest, '.', &tail) || rest.data)
        return refuse(err, "is not a JSON web token");
    const struct slice signed_text = { text, (size_t)(body.data + body.size - text) };
    _cleanup_json_ json_t *header = NULL;
    if (!token_decode(head, arena, &head_text) || !token_decode(body, arena, &body_text) || !token_decode(tail, arena, &signature) ||
        json_parse(head_text.data, head_text.size, &header, NULL) < 0)
        return refuse(err, "is not a JSON web token");
    if (!signature_fits(rules, header, signed_text, signature))
        return refuse(err, "is not signed by who may");
    if (json_decode_text(&claim_table, body_text.data, body_text.size, out, arena, NULL, NULL) < 0)
        return refuse(err, "has claims that can't be read");
    return check_claims(rules, out, err);
}

int token_allows(const struct token_rules *rules, const char *text, const char *type, const char *name, const char *action,
                 struct arena *arena, struct err *err)
{
    struct claims claims;
    if (read_claims(rules, text, arena, &claims, err) < 0)
        return -1;
    if (!*action)
        return 1;
    for (size_t i = 0; i < claims.access.len; i++) {
        const struct access *access = json_list_at(&claims.access, &access_table, i);
        if (str_eq(access->type, type) && str_eq(access->name, name) &&
            (strv_has(&access->actions, action) || strv_has(&access->actions, "*")))
            return 1;
    }
    return 0;
}

// ---- our own --------------------------------------------------------------------------------------------------------

// "repository:host:5000/name:pull,push": the kind ends at the first colon, the actions begin behind the last.
static void add_scope(json_t *list, const char *scope)
{
    const char *first = strchr(scope, ':'), *last = strrchr(scope, ':');
    if (!first || first == last)
        return;
    json_t *actions = json_array(), *access = json_object();
    struct slice rest = slice_of(last + 1), action;
    while (slice_cut(&rest, ',', &action))
        json_array_append_new(actions, json_stringn(action.data, action.size));
    json_object_set_new(access, "type", json_stringn(scope, (size_t)(first - scope)));
    json_object_set_new(access, "name", json_stringn(first + 1, (size_t)(last - first - 1)));
    json_object_set_new(access, "actions", actions);
    json_array_append_new(list, access);
}

char *token_issue(const struct token_rules *rules, const char *user, const struct strv *scopes, struct arena *arena)
{
    static const char header[] = "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";
    char id[33];
    uint8_t signature[32];
    random_hex(id, 32);
    _cleanup_json_ json_t *claims = json_object();
    json_t *access = json_array();
    json_object_set_new(claims, "iss", json_new_text(rules->issuer));
    json_object_set_new(claims, "aud", json_new_text(rules->service));
    json_object_set_new(claims, "sub", json_new_text(user));
    json_object_set_new(claims, "iat", json_integer(rules->now_s));
    json_object_set_new(claims, "exp", json_integer(rules->now_s + TOKEN_LIFE_S));
    json_object_set_new(claims, "jti", json_string(id));
    json_object_set_new(claims, "access", access);
    for (size_t i = 0; i < scopes->len; i++) {
        struct slice rest = slice_of(scopes->items[i]), scope; // several in one parameter, as OAuth 2 has it
        while (slice_cut(&rest, ' ', &scope))
            add_scope(access, arena_strndup(arena, scope.data, scope.size));
    }
    _cleanup_free_ char *body = json_text(claims);
    char *text = arena_printf(arena, "%s.%s", encode_part(header, strlen(header), arena), encode_part(body, strlen(body), arena));
    sign_own(rules->secret, slice_of(text), signature);
    return arena_printf(arena, "%s.%s", text, encode_part(signature, sizeof(signature), arena));
}
