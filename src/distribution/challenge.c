// WWW-Authenticate (RFC 9110, 11.6.1): scheme, then key=value pairs with or without quotes, then perhaps the next scheme.
#include <ctype.h>

#include "base/slice.h"
#include "distribution_private.h"

#define VALUE_MAX 4096

static bool is_token(char c)
{
    return isalnum((unsigned char)c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static void skip_blanks(struct slice *rest)
{
    while (rest->size && strchr(" \t,", *rest->data)) {
        rest->data++;
        rest->size--;
    }
}

static struct slice cut_token(struct slice *rest)
{
    struct slice token = { rest->data, 0 };
    while (token.size < rest->size && is_token(rest->data[token.size]))
        token.size++;
    rest->data += token.size;
    rest->size -= token.size;
    return token;
}

// "..." with backslashes, or a token; NULL when it is neither or too long.
static char *cut_value(struct slice *rest, struct arena *arena)
{
    if (!rest->size || *rest->data != '"') {
        struct slice token = cut_token(rest);
        return token.size && token.size <= VALUE_MAX ? arena_strndup(arena, token.data, token.size) : NULL;
    }
    size_t at = 1, size = 0;
    char *value = arena_alloc(arena, MIN_OF(rest->size, (size_t)VALUE_MAX) + 1);
    for (; at < rest->size && rest->data[at] != '"' && size < VALUE_MAX; at++) {
        at += rest->data[at] == '\\' && at + 1 < rest->size;
        value[size++] = rest->data[at];
    }
    if (at >= rest->size || rest->data[at] != '"')
        return NULL;
    rest->data += at + 1;
    rest->size -= at + 1;
    return value;
}

static void keep(struct challenge *challenge, struct slice key, char *value)
{
    const struct {
        const char *name;
        char **place;
    } known[] = { { "realm", &challenge->realm }, { "service", &challenge->service }, { "scope", &challenge->scope },
                  { "error", &challenge->error } };
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (key.size == strlen(known[i].name) && strncasecmp(key.data, known[i].name, key.size) == 0)
            *known[i].place = value;
}

// The pairs behind a scheme. Stops before the next scheme, which is a token without "=".
static void read_pairs(struct slice *rest, struct arena *arena, struct challenge *challenge)
{
    for (;;) {
        skip_blanks(rest);
        struct slice before = *rest, key = cut_token(rest);
        if (!key.size || !rest->size || *rest->data != '=') {
            *rest = before;
            return;
        }
        rest->data++;
        rest->size--;
        char *value = cut_value(rest, arena);
        if (!value || (rest->size && !strchr(" \t,", *rest->data))) {
            *challenge = (struct challenge){ .kind = CHALLENGE_NONE }; // broken: nothing of it counts, nor what follows
            rest->size = 0;
            return;
        }
        keep(challenge, key, value);
    }
}

static enum challenge_kind scheme_kind(struct slice scheme)
{
    if (scheme.size == 6 && strncasecmp(scheme.data, "bearer", 6) == 0)
        return CHALLENGE_BEARER;
    return scheme.size == 5 && strncasecmp(scheme.data, "basic", 5) == 0 ? CHALLENGE_BASIC : CHALLENGE_NONE;
}

struct challenge challenge_parse(struct slice header, struct arena *arena)
{
    struct challenge best = { .kind = CHALLENGE_NONE };
    while (header.size) {
        skip_blanks(&header);
        struct slice scheme = cut_token(&header);
        if (!scheme.size)
            break;
        struct challenge found = { .kind = scheme_kind(scheme) };
        read_pairs(&header, arena, &found);
        if (found.kind == CHALLENGE_BEARER && str_empty(found.realm))
            continue;
        if (found.kind > best.kind)
            best = found;
    }
    return best;
}
