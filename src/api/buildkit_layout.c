// Results that are more than an image, as BuildKit's door asks the engine for them (engine/layout.h).
#include "api_private.h"
#include "buildkit/buildkit.h"
#include "engine/layout.h"

struct buildkit_layout {
    struct layout *layout;
};

static int make_layout(void *of, const struct buildkit_form *asked, struct buildkit_layout **out, const struct cancel *cancel, struct err *err)
{
    const struct api *api = of;
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct layout *layout;
    struct layout_image *images = arena_alloc(&arena, (asked->len + 1) * sizeof(*images));
    for (size_t i = 0; i < asked->len; i++) {
        const struct buildkit_form_image *image = &asked->images[i];
        struct layout_statement *statements = arena_alloc(&arena, (image->statement_len + 1) * sizeof(*statements));
        for (size_t at = 0; at < image->statement_len; at++)
            statements[at] = (struct layout_statement){ image->statements[at].type, image->statements[at].predicate };
        images[i] = (struct layout_image){ image->id, image->annotations, image->descriptor_annotations, statements, image->statement_len };
    }
    const struct layout_form form = { asked->compression, asked->level, asked->docker, asked->index, asked->annotations, asked->names, images, asked->len };
    if (layout_new(api->engine, &form, &layout, cancel, err) < 0)
        return -1;
    *out = mem_new(struct buildkit_layout);
    (*out)->layout = layout;
    return 0;
}

static void free_layout(struct buildkit_layout *layout)
{
    if (layout)
        layout_free(layout->layout);
    free(layout);
}

static json_t *describe_layout(const struct buildkit_layout *layout)
{
    return layout_descriptor(layout->layout);
}

static int archive_layout(void *of, const struct buildkit_layout *layout, const struct strv *names, const struct kvs *annotations, buildkit_bytes_fn *bytes,
                          void *bytes_of, const struct cancel *cancel, struct err *err)
{
    struct relay relay = { .bytes = bytes, .of = bytes_of };
    int result = layout_archive(layout->layout, names, annotations, relay_pipe, &relay, cancel, err);
    if (result < 0 && relay.err.class != ERR_NONE)
        *err = relay.err; // the one who reads knows why
    return result;
}

static int push_layout(void *of, struct buildkit_session *session, const struct buildkit_layout *layout, const char *name, bool by_digest,
                       buildkit_progress_fn *progress, void *progress_of, const struct cancel *cancel, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct image_ref ref;
    if (image_ref_parse(name, true, &arena, &ref, err) < 0)
        return -1;
    const struct engine_login login = buildkit_login_for(session, ref.domain, &arena);
    return layout_push(layout->layout, ref.familiar, by_digest, &login, progress, progress_of, cancel, err);
}

static char *full_name(const char *name, struct arena *arena)
{
    struct image_ref ref;
    if (image_ref_parse(name, true, arena, &ref, NULL) < 0)
        return arena_strdup(arena, name);
    return arena_printf(arena, "%s/%s%s%s", ref.domain, ref.path, ref.digest ? "@" : ":", ref.digest ? ref.digest : ref.tag);
}

void buildkit_layouts(struct buildkit_config *config)
{
    config->layout = make_layout;
    config->layout_free = free_layout;
    config->layout_descriptor = describe_layout;
    config->layout_archive = archive_layout;
    config->layout_push = push_layout;
    config->full_name = full_name;
}
