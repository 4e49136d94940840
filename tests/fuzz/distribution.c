// rooms: distribution image layer store spec kernel json base | libcurl gnutls nettle jansson
// What a registry says: a challenge header, and an index to choose from. Whatever is chosen names a valid digest, and a bearer
// challenge has a realm.
#include <stdint.h>
#include <stdlib.h>

#include "distribution/distribution_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void as_challenge(struct slice text)
{
    struct arena arena = ARENA_INIT;
    struct challenge challenge = challenge_parse(text, &arena);
    if (challenge.kind == CHALLENGE_BEARER && str_empty(challenge.realm))
        abort();
    arena_done(&arena);
}

static void as_index(struct slice text)
{
    struct arena arena = ARENA_INIT;
    struct oci_index index;
    struct oci_descriptor chosen;
    struct err err;
    const struct oci_platform wanted[] = { { .os = (char *)"linux", .architecture = (char *)"amd64" },
                                           { .os = (char *)"linux", .architecture = (char *)"arm", .variant = (char *)"v7" } };
    if (json_decode_text(&oci_index_table, text.data, text.size, &index, &arena, NULL, &err) == 0)
        for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
            if (distribution_choose(&index, &wanted[i], &chosen, &err) == 0 && !oci_digest_valid(chosen.digest))
                abort();
    arena_done(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = { (const char *)data, size };
    as_challenge(text);
    as_index(text);
    return 0;
}
