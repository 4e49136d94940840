// An image as `docker image inspect` and `docker images` see it.
#include "api_private.h"

static json_t *shape_image_config(const struct oci_image_process *process)
{
    json_t *object = json_object();
    shape_process(object, process);
    json_object_set_new(object, "Labels", process->labels.len ? shape_map(&process->labels) : json_null());
    return object;
}

json_t *shape_image(const struct image *image, const char *driver, int version)
{
    const struct oci_image_config *config = &image->config;
    json_t *object = json_pack("{s:s, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "Id", image->id, "RepoTags",
                               shape_texts(&image->tags), "RepoDigests", shape_texts(&image->digests), "Parent", image->parent ? image->parent : "",
                               "Comment", shape_text(config->comment), "Created",
                               str_empty(config->created) ? shape_time(0) : shape_text(config->created),
                               "DockerVersion", shape_text(config->docker_version), "Author",
                               shape_text(config->author), "Config", shape_image_config(&config->config),
                               "Architecture", shape_text(config->architecture), "Os", shape_text(config->os));
    if (!str_empty(config->variant))
        json_object_set_new(object, "Variant", shape_text(config->variant));
    if (!str_empty(config->os_version))
        json_object_set_new(object, "OsVersion", shape_text(config->os_version));
    json_object_set_new(object, "Size", json_integer(image->size));
    json_object_set_new(object, "GraphDriver", json_pack("{s:n, s:s}", "Data", "Name", driver));
    json_object_set_new(object, "RootFS",
                        json_pack("{s:s, s:o}", "Type", "layers", "Layers", shape_texts(&config->rootfs.diff_ids)));
    json_object_set_new(object, "Metadata", json_pack("{s:o}", "LastTagTime", shape_time(image->tagged_ns)));
    if (version < 45)
        json_object_set_new(object, "Container", shape_text(config->container));
    document_age(DOCUMENT_IMAGE, version, object);
    return object;
}

static json_t *shape_names(const struct strv *names, int version, const char *placeholder)
{
    return names->len || version >= 43 ? shape_texts(names) : json_pack("[s]", placeholder);
}

json_t *shape_image_row(const struct image *image, int version)
{
    const struct kvs *labels = &image->config.config.labels;
    json_t *row = json_pack("{s:s, s:s, s:o, s:o, s:I, s:I, s:i, s:o, s:i}", "Id", image->id, "ParentId", image->parent ? image->parent : "",
                            "RepoTags", shape_names(&image->tags, version, "<none>:<none>"), "RepoDigests",
                            shape_names(&image->digests, version, "<none>@<none>"), "Created",
                            (json_int_t)(image->created_ns / NS_PER_S), "Size", (json_int_t)image->size, "SharedSize",
                            -1, "Labels", labels->len ? shape_map(labels) : json_null(), "Containers", -1);
    document_age(DOCUMENT_IMAGE_ROW, version, row);
    return row;
}

struct shown_image {
    const char *name, *id;
    char *shown;
    struct shown_image *next;
};

char *image_shown(struct engine *engine, const struct engine_container *container, struct shown_image **seen, struct arena *arena)
{
    for (const struct shown_image *one = *seen; one; one = one->next)
        if (str_eq(one->name, container->image_name) && str_eq(one->id, container->image_id))
            return one->shown;
    _cleanup_arena_ struct arena scratch = ARENA_INIT;
    struct image image;
    bool is_it = image_get(engine_images(engine), container->image_name, &scratch, &image, NULL) == 0 && str_eq(image.id, container->image_id);
    struct shown_image *one = arena_alloc(arena, sizeof(*one));
    *one = (struct shown_image){ container->image_name, container->image_id, is_it ? container->image_name : container->image_id, *seen };
    *seen = one;
    return one->shown;
}
