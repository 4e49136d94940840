// The keys of an issuer: from a PEM file of public keys or certificates, or a JSON web key set; and those that a token brings itself, with
// certificates for which one of the file's vouches (RFC 7515, "x5c").
#include <fcntl.h>

#include "base/file.h"
#include "token_private.h"

#define KEY_FILE_MAX (1u << 20)
#define CHAIN_MAX 8

static gnutls_pubkey_t *new_key(struct token_keys *keys, struct err *err)
{
    if (keys->len == ARRAY_LEN(keys->keys)) {
        err_set(err, ERR_INVALID_ARGUMENT, "more than %zu keys", ARRAY_LEN(keys->keys));
        return NULL;
    }
    gnutls_pubkey_t *key = &keys->keys[keys->len];
    int failed = gnutls_pubkey_init(key);
    if (failed < 0) {
        err_set(err, ERR_INTERNAL, "%s", gnutls_strerror(failed));
        return NULL;
    }
    keys->len++;
    return key;
}

// ---- PEM ------------------------------------------------------------------------------------------------------------

// The certificate's key signs, and so may those for which it vouches.
static int take_certificate(struct token_keys *keys, gnutls_pubkey_t key, const gnutls_datum_t *pem)
{
    gnutls_x509_crt_t certificate;
    int failed = keys->roots ? 0 : gnutls_x509_trust_list_init(&keys->roots, 0);
    if (failed < 0 || (failed = gnutls_x509_crt_init(&certificate)) < 0)
        return failed;
    failed = gnutls_x509_crt_import(certificate, pem, GNUTLS_X509_FMT_PEM);
    if (failed >= 0)
        failed = gnutls_pubkey_import_x509(key, certificate, 0);
    if (failed >= 0 && gnutls_x509_trust_list_add_cas(keys->roots, &certificate, 1, 0) == 1)
        return 0; // the list has it now
    gnutls_x509_crt_deinit(certificate);
    return failed;
}

static int add_block(struct token_keys *keys, const char *block, struct err *err)
{
    const gnutls_datum_t pem = { (unsigned char *)block, (unsigned)strlen(block) };
    gnutls_pubkey_t *key = new_key(keys, err);
    if (!key)
        return -1;
    int failed = strncmp(block, "-----BEGIN CERTIFICATE", 22) == 0 ? take_certificate(keys, *key, &pem)
                                                                  : gnutls_pubkey_import(*key, &pem, GNUTLS_X509_FMT_PEM);
    return failed < 0 ? err_set(err, ERR_INVALID_ARGUMENT, "key %zu: %s", keys->len, gnutls_strerror(failed)) : 0;
}

static int read_pem(struct token_keys *keys, const char *text, struct err *err)
{
    for (const char *block = text; (block = strstr(block, "-----BEGIN ")); block++)
        if (add_block(keys, block, err) < 0)
            return -1;
    return 0;
}

// ---- JSON web keys --------------------------------------------------------------------------------------------------

static gnutls_datum_t number(const json_t *from, const char *name, struct arena *arena)
{
    struct slice bytes = { 0 };
    const char *text = json_get_text(from, name, "");
    if (!token_decode(slice_of(text), arena, &bytes))
        return (gnutls_datum_t){ 0 };
    return (gnutls_datum_t){ (unsigned char *)bytes.data, (unsigned)bytes.size };
}

static int import_curve(gnutls_pubkey_t key, const json_t *from, struct arena *arena)
{
    static const struct {
        const char *name;
        gnutls_ecc_curve_t curve;
    } curves[] = { { "P-256", GNUTLS_ECC_CURVE_SECP256R1 }, { "P-384", GNUTLS_ECC_CURVE_SECP384R1 }, { "P-521", GNUTLS_ECC_CURVE_SECP521R1 },
                   { "Ed25519", GNUTLS_ECC_CURVE_ED25519 } };
    const gnutls_datum_t x = number(from, "x", arena), y = number(from, "y", arena);
    for (size_t i = 0; i < ARRAY_LEN(curves); i++)
        if (str_eq(json_get_text(from, "crv", NULL), curves[i].name))
            return gnutls_pubkey_import_ecc_raw(key, curves[i].curve, &x, curves[i].curve == GNUTLS_ECC_CURVE_ED25519 ? NULL : &y);
    return GNUTLS_E_UNKNOWN_PK_ALGORITHM;
}

static int add_web_key(struct token_keys *keys, const json_t *from, struct arena *arena, struct err *err)
{
    const char *kind = json_get_text(from, "kty", "");
    if (str_eq(json_get_text(from, "use", "sig"), "enc"))
        return 0;
    gnutls_pubkey_t *key = new_key(keys, err);
    if (!key)
        return -1;
    const gnutls_datum_t n = number(from, "n", arena), e = number(from, "e", arena);
    int failed = str_eq(kind, "RSA") ? (n.size && e.size ? gnutls_pubkey_import_rsa_raw(*key, &n, &e) : GNUTLS_E_INVALID_REQUEST)
                 : str_eq(kind, "EC") || str_eq(kind, "OKP") ? import_curve(*key, from, arena) : GNUTLS_E_UNKNOWN_PK_ALGORITHM;
    return failed < 0 ? err_set(err, ERR_INVALID_ARGUMENT, "key %zu: %s", keys->len, gnutls_strerror(failed)) : 0;
}

static int read_web_keys(struct token_keys *keys, const struct buf *file, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_json_ json_t *document = NULL;
    json_t *key;
    size_t i;
    if (json_parse(buf_text(file), file->size, &document, err) < 0)
        return -1;
    json_array_foreach(json_object_get(document, "keys"), i, key)
        if (add_web_key(keys, key, &arena, err) < 0)
            return -1;
    return 0;
}

// ---- the file -------------------------------------------------------------------------------------------------------

int token_keys_read(const char *path, struct token_keys **out, struct err *err)
{
    _cleanup_buf_ struct buf file = BUF_INIT(KEY_FILE_MAX);
    if (file_read_at(AT_FDCWD, path, &file, err) < 0)
        return -1;
    struct token_keys *keys = mem_new(struct token_keys);
    const char *text = buf_text(&file);
    int result = text[strspn(text, " \t\r\n")] == '{' ? read_web_keys(keys, &file, err) : read_pem(keys, text, err);
    if (result == 0 && !keys->len)
        result = err_set(err, ERR_INVALID_ARGUMENT, "neither a public key nor a certificate in it (PEM, or a JSON web key set)");
    if (result < 0) {
        token_keys_free(keys);
        return err_wrap(err, "%s", path);
    }
    *out = keys;
    return 0;
}

void token_keys_free(struct token_keys *keys)
{
    for (size_t i = 0; keys && i < keys->len; i++)
        gnutls_pubkey_deinit(keys->keys[i]);
    if (keys && keys->roots)
        gnutls_x509_trust_list_deinit(keys->roots, 1);
    free(keys);
}

// ---- what a token brings --------------------------------------------------------------------------------------------

static int import_der(const char *text, gnutls_x509_crt_t *out)
{
    gnutls_datum_t der, in = { (unsigned char *)text, (unsigned)strlen(text) };
    if (gnutls_base64_decode2(&in, &der) < 0)
        return -1;
    int failed = gnutls_x509_crt_init(out);
    if (failed >= 0 && (failed = gnutls_x509_crt_import(*out, &der, GNUTLS_X509_FMT_DER)) < 0)
        gnutls_x509_crt_deinit(*out);
    gnutls_free(der.data);
    return failed;
}

static gnutls_pubkey_t vouched_key(const struct token_keys *keys, gnutls_x509_crt_t *chain, unsigned len)
{
    gnutls_pubkey_t key = NULL;
    unsigned status = 0;
    if (gnutls_x509_trust_list_verify_crt2(keys->roots, chain, len, NULL, 0, 0, &status, NULL) < 0 || status || gnutls_pubkey_init(&key) < 0)
        return NULL;
    if (gnutls_pubkey_import_x509(key, chain[0], 0) >= 0)
        return key;
    gnutls_pubkey_deinit(key);
    return NULL;
}

gnutls_pubkey_t token_key_of_chain(const struct token_keys *keys, const json_t *header)
{
    gnutls_x509_crt_t chain[CHAIN_MAX];
    const json_t *list = json_object_get(header, "x5c");
    size_t len = 0, wanted = json_array_size(list);
    if (!keys->roots || wanted == 0 || wanted > CHAIN_MAX)
        return NULL;
    while (len < wanted && json_is_string(json_array_get(list, len)) && import_der(json_string_value(json_array_get(list, len)), &chain[len]) >= 0)
        len++;
    gnutls_pubkey_t key = len == wanted ? vouched_key(keys, chain, (unsigned)len) : NULL;
    while (len > 0)
        gnutls_x509_crt_deinit(chain[--len]);
    return key;
}
