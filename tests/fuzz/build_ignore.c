// rooms: build json base | jansson
// A .dockerignore, and behind a NUL a path: asked as a whole and by going down from the top, the answers are the same
// (see ignore.h for where exceptions make a difference).
#include <stdint.h>
#include <stdlib.h>

#include "build/ignore.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool by_steps(const struct ignore *ignore, char *path, struct arena *arena)
{
    bool *above = NULL, matched = false;
    for (char *end = path; end;) {
        bool *mine = arena_alloc(arena, ignore_len(ignore) + 1);
        end = strchr(end, '/');
        if (end)
            *end = 0;
        matched = ignore_match_below(ignore, path, above, mine);
        if (end)
            *end++ = '/';
        above = mine;
    }
    return matched;
}

// As a walk would name it: no empty parts, none that are dots.
static bool is_path(const char *path)
{
    return *path && *path != '/' && path[strlen(path) - 1] != '/' && !strstr(path, "//") && !str_eq(path, ".");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    struct arena arena = ARENA_INIT;
    struct ignore *ignore;
    struct err err;
    if (nul && size < 4096 && ignore_parse((struct slice){ (const char *)data, (size_t)(nul - data) }, &arena, &ignore, &err) == 0) {
        char *path = arena_strndup(&arena, (const char *)nul + 1, size - (size_t)(nul + 1 - data));
        bool steps = is_path(path) && by_steps(ignore, path, &arena);
        if (is_path(path) && !ignore_has_exceptions(ignore) && ignore_match(ignore, path) != steps)
            abort();
        ignore_takes_back_below(ignore, path);
        ignore_hides_root(ignore);
    }
    arena_done(&arena);
    return 0;
}
