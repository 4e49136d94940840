// What a build has looked at: images, URLs, repositories, and the names of its secrets. Any of its stages notes it, each thing counts once.
#include "builder_private.h"

#define SOURCES_MAX 10000

static bool is_same(const struct build_source *one, const struct build_source *other)
{
    return one->kind == other->kind && str_eq(one->name, other->name) && str_eq(one->platform ? one->platform : "", other->platform ? other->platform : "");
}

static char *copy(const char *text)
{
    return text ? mem_strdup(text) : NULL;
}

void source_note(struct build *build, const struct build_source *source)
{
    struct crew *crew = build->crew;
    mutex_lock(&crew->lock);
    bool known = crew->source_len == SOURCES_MAX;
    for (size_t i = 0; i < crew->source_len && !known; i++)
        known = is_same(&crew->sources[i], source);
    if (!known) {
        crew->sources = mem_grow(crew->sources, (crew->source_len + 1) * sizeof(*crew->sources));
        crew->sources[crew->source_len++] = (struct build_source){ source->kind, copy(source->name), copy(source->digest), copy(source->platform), source->optional };
    }
    mutex_unlock(&crew->lock);
}

void sources_take(struct crew *crew, struct arena *arena, struct build_result *out)
{
    mutex_lock(&crew->lock);
    out->sources = arena_alloc(arena, (crew->source_len + 1) * sizeof(*out->sources));
    for (size_t i = 0; i < crew->source_len; i++) {
        const struct build_source *source = &crew->sources[i];
        out->sources[out->source_len++] = (struct build_source){ source->kind, arena_strdup(arena, source->name), arena_strdup(arena, source->digest),
                                                                 arena_strdup(arena, source->platform), source->optional };
    }
    mutex_unlock(&crew->lock);
}

void sources_done(struct crew *crew)
{
    for (size_t i = 0; i < crew->source_len; i++) {
        free((char *)crew->sources[i].name);
        free((char *)crew->sources[i].digest);
        free((char *)crew->sources[i].platform);
    }
    free(crew->sources);
    crew->sources = NULL;
    crew->source_len = 0;
}
