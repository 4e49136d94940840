// rooms: registry httpd store json base | jansson gnutls libmicrohttpd sqlite3 libcrypt threads
// A bearer token as a stranger sent it: none of them is taken. And the scopes for which a stranger asks a token: the token made for them is
// taken, and stays so when its claims are read again.
#include <stdint.h>
#include <stdlib.h>

#include "registry/registry_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t secret[TOKEN_SECRET_SIZE] = "a secret that nobody guesses";
    const struct token_rules rules = { .secret = secret, .issuer = "issuer", .service = "service", .now_s = 1000 };
    struct arena arena = ARENA_INIT;
    struct err err;
    char *text = arena_strndup(&arena, (const char *)data, size);
    struct strv scopes = { 0 };
    if (token_allows(&rules, text, "repository", "a", "pull", &arena, &err) >= 0 || err.class != ERR_UNAUTHENTICATED)
        abort();
    strv_push_arena(&scopes, &arena, text);
    char *made = token_issue(&rules, "user", &scopes, &arena);
    if (strlen(made) < 8192 && token_allows(&rules, made, "", "", "", &arena, &err) != 1)
        abort();
    arena_done(&arena);
    return 0;
}
