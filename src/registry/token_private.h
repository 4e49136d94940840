// What token.c and token_keys.c share.
#ifndef REGISTRY_TOKEN_PRIVATE_H
#define REGISTRY_TOKEN_PRIVATE_H

#include <gnutls/abstract.h>
#include <gnutls/x509.h>

#include "json/json.h"
#include "registry/token.h"

struct token_keys {
    gnutls_pubkey_t keys[32];
    size_t len;
    gnutls_x509_trust_list_t roots; // the file's certificates; NULL: none
};

// base64url: the bytes in the arena, ended by a NUL that does not count.
bool token_decode(struct slice part, struct arena *arena, struct slice *out);
// The key that a token brings itself (header "x5c": certificates, its own first), if the file's certificates vouch for it now; NULL: none. The
// caller's to gnutls_pubkey_deinit().
gnutls_pubkey_t token_key_of_chain(const struct token_keys *keys, const json_t *header);

#endif
