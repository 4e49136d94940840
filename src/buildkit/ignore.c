// A .dockerignore's lines as patterns. The client's side matches them; the file's syntax is ours to read.
#include "buildkit_private.h"

#define PATTERNS_MAX 10000

// "/a//b/./c/../d/" is "a/b/d".
static char *clean(struct slice path, struct arena *arena)
{
    char *out = arena_alloc(arena, path.size + 2);
    size_t size = 0;
    struct slice part;
    bool rooted = path.size && path.data[0] == '/';
    while (slice_cut(&path, '/', &part)) {
        if (part.size == 0 || slice_eq(part, "."))
            continue;
        bool up = slice_eq(part, ".."), can = size > 0 && !(size >= 2 && memcmp(out + size - 2, "..", 2) == 0 && (size == 2 || out[size - 3] == '/'));
        if (up && can) {
            while (size > 0 && out[--size] != '/')
                ;
            continue;
        }
        if (up && rooted)
            continue;
        if (size)
            out[size++] = '/';
        memcpy(out + size, part.data, part.size);
        size += part.size;
    }
    out[size] = 0;
    return size ? out : arena_strdup(arena, rooted ? "/" : ".");
}

void ignore_patterns(struct slice text, struct arena *arena, struct strv *out)
{
    struct slice line;
    if (slice_starts(text, "\xef\xbb\xbf"))
        text = (struct slice){ text.data + 3, text.size - 3 };
    while (out->len < PATTERNS_MAX && slice_cut(&text, '\n', &line)) {
        if (slice_starts(line, "#"))
            continue;
        line = slice_trim(line);
        bool back = slice_starts(line, "!");
        if (back)
            line = slice_trim((struct slice){ line.data + 1, line.size - 1 });
        if (line.size && !memchr(line.data, 0, line.size))
            strv_push_arena(out, arena, arena_printf(arena, "%s%s", back ? "!" : "", clean(line, arena)));
    }
}
