// rooms: registry httpd store json base | jansson gnutls libmicrohttpd sqlite3 libcrypt threads
// A manifest as a stranger pushed it: whatever is taken names valid digests only.
#include <stdint.h>
#include <stdlib.h>

#include "registry/registry_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct strv *digests)
{
    for (size_t i = 0; i < digests->len; i++)
        if (!digest_valid(digests->items[i]))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = ARENA_INIT;
    struct manifest manifest;
    struct err err;
    if (manifest_read((const char *)data, size, NULL, &arena, &manifest, &err) == 0) {
        check(&manifest.blobs);
        check(&manifest.children);
        if (manifest.subject && !digest_valid(manifest.subject))
            abort();
    }
    arena_done(&arena);
    return 0;
}
