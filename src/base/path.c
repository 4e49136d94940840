#include "base/path.h"

#include "base/slice.h"

char *path_clean(struct slice path, struct arena *arena)
{
    char *out = arena_alloc(arena, path.size + 2);
    bool rooted = slice_starts(path, "/");
    size_t size = rooted, floor = rooted; // nothing is taken back before `floor`
    struct slice part;
    out[0] = '/';
    while (slice_cut(&path, '/', &part)) {
        bool up = slice_eq(part, "..");
        if (!part.size || slice_eq(part, "."))
            continue;
        if (up && size > floor) {
            while (size > floor && out[size - 1] != '/')
                size--;
            size -= size > floor;
            continue;
        }
        if (up && rooted)
            continue;
        if (size > (size_t)rooted)
            out[size++] = '/';
        memcpy(out + size, part.data, part.size);
        size += part.size;
        floor = up ? size : floor;
    }
    out[size] = 0;
    return size ? out : arena_strdup(arena, ".");
}
