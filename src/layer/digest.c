#include <gnutls/crypto.h>
#include <stdio.h>

#include "layer/layer.h"
#include "base/num.h"

struct layer_digest {
    gnutls_hash_hd_t hash;
};

struct layer_digest *layer_digest_new(void)
{
    struct layer_digest *digest = mem_new(struct layer_digest);
    if (gnutls_hash_init(&digest->hash, GNUTLS_DIG_SHA256) < 0)
        abort(); // SHA-256 is part of every build of the library: only memory can be missing
    return digest;
}

void layer_digest_add(struct layer_digest *digest, const void *data, size_t size)
{
    gnutls_hash(digest->hash, data, size);
}

void layer_digest_end(struct layer_digest *digest, char out[72])
{
    unsigned char raw[32];
    gnutls_hash_output(digest->hash, raw);
    memcpy(out, "sha256:", 7);
    hex_encode(raw, sizeof(raw), out + 7);
    layer_digest_free(digest);
}

void layer_digest_free(struct layer_digest *digest)
{
    if (!digest)
        return;
    gnutls_hash_deinit(digest->hash, NULL);
    free(digest);
}
