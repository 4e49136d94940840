// A .dockerignore's lines as patterns. The client's side matches them; the file's syntax is ours to read.
#include "buildkit_private.h"

#define PATTERNS_MAX 10000

// A pattern's leading slash says nothing.
static const char *clean(struct slice pattern, struct arena *arena)
{
    const char *path = path_clean(pattern, arena);
    return path[0] == '/' && path[1] ? path + 1 : path;
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
