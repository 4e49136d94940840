// Which of the client's files a Dockerfile can need, by its text alone: the paths that COPY, ADD and RUN --mount name. Where a path is not known yet
// (a variable, a trigger), or is a pattern that a client does not follow, that is all of them.
#include <strings.h>

#include "build/dockerfile.h"
#include "build/git_source.h"
#include "buildkit_private.h"

// False: all files.
static bool add_path(const char *path, struct arena *arena, struct strv *out)
{
    if (strchr(path, '$') || strstr(path, "**"))
        return false;
    const char *clean = path_clean(slice_of(arena_printf(arena, "/%s", path)), arena) + 1;
    if (!*clean)
        return false;
    strv_push_arena(out, arena, clean);
    return true;
}

static bool is_elsewhere(const char *source, struct arena *arena)
{
    struct git_source git;
    struct err ignored = { 0 };
    return str_starts(source, "http://") || str_starts(source, "https://") || git_source_parse(source, arena, &git, &ignored) != 0;
}

static bool follow_copy(const struct copy_fields *copy, struct arena *arena, struct strv *out)
{
    for (size_t i = 0; i < copy->sources.len && !copy->from; i++)
        if (!is_elsewhere(copy->sources.items[i], arena) && !add_path(copy->sources.items[i], arena, out))
            return false;
    return true;
}

// A mount as it is written: only one of another type, or from elsewhere, needs nothing.
static bool follow_mount(const struct run_mount *mount, struct arena *arena, struct strv *out)
{
    struct slice rest = slice_of(mount->raw), field, key;
    const char *source = NULL;
    bool bind = true;
    if (mount->from)
        return true;
    if (strpbrk(mount->raw, "$\"")) // not split as simply as that
        return false;
    while (slice_cut(&rest, ',', &field)) {
        slice_cut(&field, '=', &key);
        const char *value = field.data ? arena_strndup(arena, field.data, field.size) : "";
        if (slice_eq(key, "type"))
            bind = str_eq(value, "bind");
        else if (slice_eq(key, "source") || slice_eq(key, "src"))
            source = value;
    }
    return !bind || (source && add_path(source, arena, out));
}

static bool follow_instruction(const struct instruction *instruction, struct arena *arena, struct strv *out)
{
    switch (instruction->kind) {
    case INSTRUCTION_COPY:
    case INSTRUCTION_ADD:
        return follow_copy(&instruction->copy, arena, out);
    case INSTRUCTION_RUN:
        for (size_t i = 0; i < instruction->run.mounts_len; i++)
            if (!follow_mount(&instruction->run.mounts[i], arena, out))
                return false;
        return true;
    default:
        return instruction->kind != INSTRUCTION_ONBUILD;
    }
}

static bool is_stage(const struct dockerfile *file, const char *name)
{
    for (size_t i = 0; i < file->len; i++)
        if (file->stages[i].name && strcasecmp(file->stages[i].name, name) == 0)
            return true;
    return str_eq(name, "scratch");
}

bool follow_paths(const struct buildkit *buildkit, struct slice text, struct arena *arena, struct strv *out)
{
    struct dockerfile *file;
    struct err ignored = { 0 };
    if (!buildkit->config.plain_image || dockerfile_parse(text, arena, &file, NULL, &ignored) < 0)
        return false;
    for (size_t i = 0; i < file->len; i++) {
        const struct dockerfile_stage *stage = &file->stages[i];
        if (!is_stage(file, stage->base) && (strchr(stage->base, '$') || !buildkit->config.plain_image(buildkit->config.of, stage->base)))
            return false;
        for (size_t j = 0; j < stage->len; j++)
            if (!follow_instruction(&stage->instructions[j], arena, out))
                return false;
    }
    return true;
}
