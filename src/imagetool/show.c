// ls and inspect.
#include <stdio.h>

#include "imagetool_private.h"
#include "base/clock.h"

// ---- ls -------------------------------------------------------------------------------------------------------------

static void human_size(int64_t size, char out[24])
{
    static const char *const units[] = { "B", "kB", "MB", "GB", "TB", "PB" };
    double value = (double)size;
    size_t unit = 0;
    while (value >= 1000 && unit + 1 < ARRAY_LEN(units)) {
        value /= 1000;
        unit++;
    }
    snprintf(out, 24, "%.3g%s", value, units[unit]);
}

static void print_row(const struct image *image, const char *tag)
{
    char created[CLOCK_TEXT_SIZE], size[24];
    const char *colon = tag ? strrchr(tag, ':') : NULL;
    clock_format(image->created_ns, created);
    human_size(image->size, size);
    printf("%-40.*s %-20s %.12s   %.19sZ   %s\n", colon ? (int)(colon - tag) : 6, colon ? tag : "<none>", colon ? colon + 1 : "<none>",
           oci_digest_hex(image->id), created, size);
}

int imagetool_ls(const struct imagetool *tool, char **words, size_t len, struct err *err)
{
    _cleanup_visit_ struct visit visit;
    struct image *images;
    size_t count;
    if (visit_begin(&visit, tool, err) < 0 || image_list(visit.images, &visit.arena, &images, &count, err) < 0)
        return -1;
    if (!tool->quiet)
        printf("%-40s %-20s %-12s   %-20s   %s\n", "REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE");
    for (size_t i = 0; i < count; i++) {
        if (tool->quiet)
            puts(images[i].id);
        for (size_t tag = 0; tag < images[i].tags.len && !tool->quiet; tag++)
            print_row(&images[i], images[i].tags.items[tag]);
        if (images[i].tags.len == 0 && !tool->quiet)
            print_row(&images[i], NULL);
    }
    return 0;
}

// ---- inspect --------------------------------------------------------------------------------------------------------

static json_t *texts(const struct strv *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < list->len; i++)
        json_array_append_new(array, json_string(list->items[i]));
    return array;
}

static json_t *describe_layers(const struct image *image)
{
    json_t *layers = json_array();
    for (size_t i = 0; i < image->chain_ids.len; i++)
        json_array_append_new(layers, json_pack("{s:s, s:s, s:I}", "DiffID", image->config.rootfs.diff_ids.items[i], "ChainID",
                                                image->chain_ids.items[i], "Size", (json_int_t)image->layer_sizes[i]));
    return layers;
}

static int describe(struct visit *visit, const char *name, json_t *out, struct err *err)
{
    struct image image;
    struct json_list manifests;
    json_t *config, *known = json_array();
    if (image_get(visit->images, name, &visit->arena, &image, err) < 0 ||
        json_parse(image.config_text, strlen(image.config_text), &config, err) < 0 ||
        image_manifests(visit->images, image.id, &visit->arena, &manifests, err) < 0) {
        json_decref(known);
        return -1;
    }
    for (size_t i = 0; i < manifests.len; i++) {
        const struct image_manifest *manifest = json_list_at(&manifests, &image_manifest_table, i);
        if (str_eq(manifest->image_id, image.id))
            json_array_append_new(known, json_pack("{s:s, s:s, s:s}", "Repository", manifest->repository, "Digest", manifest->digest,
                                                   "MediaType", manifest->media_type));
    }
    json_array_append_new(out, json_pack("{s:s, s:o, s:o, s:I, s:o, s:o, s:o}", "Id", image.id, "RepoTags", texts(&image.tags),
                                         "RepoDigests", texts(&image.digests), "Size", (json_int_t)image.size, "Layers",
                                         describe_layers(&image), "Manifests", known, "Configuration", config));
    return 0;
}

int imagetool_inspect(const struct imagetool *tool, char **words, size_t len, struct err *err)
{
    _cleanup_visit_ struct visit visit;
    _cleanup_json_ json_t *all = json_array();
    if (visit_begin(&visit, tool, err) < 0)
        return -1;
    for (size_t i = 0; i < len; i++)
        if (describe(&visit, words[i], all, err) < 0)
            return -1;
    json_dumpf(all, stdout, JSON_INDENT(4));
    putchar('\n');
    return 0;
}
