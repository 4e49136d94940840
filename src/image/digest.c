#include <gnutls/crypto.h>

#include "base/num.h"
#include "image_private.h"

void image_digest(const void *data, size_t size, char out[OCI_DIGEST_SIZE])
{
    unsigned char raw[32];
    if (gnutls_hash_fast(GNUTLS_DIG_SHA256, data, size, raw) < 0)
        abort(); // SHA-256 is part of every build of the library: only memory can be missing
    memcpy(out, "sha256:", 7);
    hex_encode(raw, sizeof(raw), out + 7);
}

void image_chain_id(const char *parent, const char *diff_id, char out[OCI_DIGEST_SIZE])
{
    char text[2 * OCI_DIGEST_SIZE];
    int size = snprintf(text, sizeof(text), "%s%s%s", parent ? parent : "", parent ? " " : "", diff_id);
    if (parent)
        image_digest(text, (size_t)size, out);
    else
        snprintf(out, OCI_DIGEST_SIZE, "%s", diff_id);
}
