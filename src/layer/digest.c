#include <nettle/sha2.h>
#include <stdio.h>

#include "layer/layer.h"
#include "base/num.h"

struct layer_digest {
    struct sha256_ctx hash;
};

struct layer_digest *layer_digest_new(void)
{
    struct layer_digest *digest = mem_new(struct layer_digest);
    sha256_init(&digest->hash);
    return digest;
}

void layer_digest_add(struct layer_digest *digest, const void *data, size_t size)
{
    sha256_update(&digest->hash, size, data);
}

void layer_digest_end(struct layer_digest *digest, char out[72])
{
    unsigned char raw[32];
    sha256_digest(&digest->hash, sizeof(raw), raw);
    memcpy(out, "sha256:", 7);
    hex_encode(raw, sizeof(raw), out + 7);
    layer_digest_free(digest);
}

void layer_digest_free(struct layer_digest *digest)
{
    free(digest);
}
