// rooms: image spec store json kernel base | gnutls sqlite3 jansson
// A reference that a client typed: whatever is accepted, its short form names the same image again.
#include <stdint.h>
#include <stdlib.h>

#include "image/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must_be_same(const struct image_ref *first, const char *text, struct arena *arena)
{
    struct image_ref again;
    struct err err;
    if (image_ref_parse(text, true, arena, &again, &err) < 0 || !str_eq(first->domain, again.domain) ||
        !str_eq(first->path, again.path) || !str_eq(first->digest, again.digest) ||
        (!first->digest && !str_eq(first->tag, again.tag)) || !str_eq(first->familiar, again.familiar))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = ARENA_INIT;
    struct image_ref ref;
    struct err err;
    char *text = arena_strndup(&arena, (const char *)data, size);
    if (image_ref_parse(text, true, &arena, &ref, &err) == 0) {
        must_be_same(&ref, ref.familiar, &arena);
        must_be_same(&ref, arena_printf(&arena, "%s/%s%s%s", ref.domain, ref.path, ref.digest ? "@" : ":",
                                        ref.digest ? ref.digest : ref.tag), &arena);
    } else if (err.class != ERR_INVALID_ARGUMENT) {
        abort();
    }
    arena_done(&arena);
    return 0;
}
