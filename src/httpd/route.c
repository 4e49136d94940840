// Route patterns: literal components, {x} for one, {x...} for as many as possible.
#include "httpd/httpd.h"

struct part {
    const char *data;
    size_t size;
};

static bool next_part(const char **at, struct part *part)
{
    if (**at != '/')
        return false;
    part->data = ++*at;
    part->size = strcspn(*at, "/");
    *at += part->size;
    return true;
}

static bool is_variable(struct part part, bool *many)
{
    if (part.size < 3 || part.data[0] != '{' || part.data[part.size - 1] != '}')
        return false;
    *many = part.size > 5 && memcmp(part.data + part.size - 4, "...}", 4) == 0;
    return true;
}

struct matcher {
    struct arena *arena;
    char **values;
};

static bool match(const struct matcher *matcher, const char *pattern, const char *path, size_t index);

// The longest run of components first, shorter ones while what follows does not fit.
static bool match_many(const struct matcher *matcher, const char *pattern, const char *path, size_t index)
{
    for (const char *end = path + strlen(path); end > path + 1; end--) {
        if (*end && *end != '/')
            continue;
        if (match(matcher, pattern, end, index + 1)) {
            matcher->values[index] = arena_strndup(matcher->arena, path + 1, (size_t)(end - path - 1));
            return true;
        }
    }
    return false;
}

static bool match(const struct matcher *matcher, const char *pattern, const char *path, size_t index)
{
    struct part want, have;
    bool many = false;
    if (!*pattern)
        return !*path;
    const char *rest = path;
    if (!next_part(&pattern, &want) || !next_part(&rest, &have))
        return false;
    if (!is_variable(want, &many))
        return want.size == have.size && memcmp(want.data, have.data, want.size) == 0 &&
               match(matcher, pattern, rest, index);
    if (index >= HTTPD_ROUTE_VALUES || have.size == 0)
        return false;
    if (many)
        return match_many(matcher, pattern, path, index);
    if (!match(matcher, pattern, rest, index + 1))
        return false;
    matcher->values[index] = arena_strndup(matcher->arena, have.data, have.size);
    return true;
}

bool httpd_route_match(const char *pattern, const char *path, struct arena *arena, char *values[HTTPD_ROUTE_VALUES])
{
    const struct matcher matcher = { arena, values };
    return match(&matcher, pattern, path, 0);
}
