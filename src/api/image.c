// Images: list, inspect, history, import, load, save, tag, remove.
#include "api_private.h"

#define FILTER_GONE_SINCE 41
#define COUNTED_SINCE 51 // before it a list says -1 for an image's containers

// ---- list -----------------------------------------------------------------------------------------------------------

static const char *const image_filter_keys[] = { "reference", "dangling", "label", "before", "since", "until", NULL };

struct image_query {
    struct filters filters;
    int64_t before_ns, since_ns; // created before, after; 0: any
    bool all; // also those that have no name, and children
    int dangling; // 1 only, 0 none, -1 any
};

static int image_boundary(struct call *call, const struct filters *filters, const char *key, int64_t *out_ns,
                          struct err *err)
{
    struct image image;
    const struct strv *values = filters_get(filters, key);
    if (!values)
        return 0;
    if (image_get(engine_images(call->engine), values->items[values->len - 1], call->arena, &image, err) < 0)
        return -1;
    *out_ns = image.created_ns;
    return 0;
}

// Before 1.41 one name stood beside the filters.
static void add_old_filter(const struct call *call, struct filters *filters)
{
    const char *name = httpd_query(call->request, "filter");
    if (call->version >= FILTER_GONE_SINCE || str_empty(name) || filters_get(filters, "reference"))
        return;
    struct filter *items = arena_alloc(call->arena, (filters->len + 1) * sizeof(*items));
    for (size_t i = 0; i < filters->len; i++)
        items[i] = filters->items[i];
    items[filters->len].key = (char *)"reference";
    strv_push_arena(&items[filters->len].values, call->arena, name);
    *filters = (struct filters){ items, filters->len + 1 };
}

static int read_image_query(struct call *call, struct image_query *out, struct err *err)
{
    struct filters *filters = &out->filters;
    int64_t until_ns;
    *out = (struct image_query){ 0 };
    if (filters_parse(httpd_query(call->request, "filters"), image_filter_keys, call->arena, filters, err) < 0 ||
        image_boundary(call, filters, "before", &out->before_ns, err) < 0 ||
        image_boundary(call, filters, "since", &out->since_ns, err) < 0 ||
        filters_flag(filters, "dangling", &out->dangling, err) < 0)
        return -1;
    add_old_filter(call, filters);
    const struct strv *references = filters_get(filters, "reference");
    for (size_t i = 0; references && i < references->len; i++)
        if (!glob_valid(references->items[i]))
            return err_set(err, ERR_INVALID_ARGUMENT, "syntax error in pattern");
    out->all = httpd_query_flag(call->request, "all", false);
    const struct strv *until = filters_get(filters, "until");
    if (until && until_parse(until->items[0], &until_ns, err) < 0)
        return -1;
    if (until && (!out->before_ns || until_ns < out->before_ns))
        out->before_ns = until_ns;
    return 0;
}

// "debian", "debian:book*", "*": against the full reference and, without its tag, against the name.
static bool fits_reference(const struct filters *filters, const char *tag)
{
    const struct strv *values = filters_get(filters, "reference");
    const char *colon = strrchr(tag, ':');
    _cleanup_free_ char *name = mem_strndup(tag, colon ? (size_t)(colon - tag) : strlen(tag));
    for (size_t i = 0; values && i < values->len; i++)
        if (glob_match(values->items[i], tag) || glob_match(values->items[i], name))
            return true;
    return !values;
}

// Of an image that a reference filter chose only the tags that fit are shown.
static bool fits_image(const struct image_query *query, struct image *image, struct arena *arena)
{
    struct strv tags = { 0 };
    for (size_t i = 0; i < image->tags.len; i++)
        if (fits_reference(&query->filters, image->tags.items[i]))
            strv_push_arena(&tags, arena, image->tags.items[i]);
    bool dangling = image->tags.len == 0;
    // What is only another one's parent is no image of anybody's.
    if (!query->all && dangling && image->digests.len == 0 && image->has_children)
        return false;
    if (filters_get(&query->filters, "reference") && tags.len == 0)
        return false;
    image->tags = tags;
    return (query->dangling < 0 || (query->dangling == 1) == dangling) &&
           (!query->before_ns || image->created_ns < query->before_ns) &&
           (!query->since_ns || image->created_ns > query->since_ns) &&
           filters_labels(&query->filters, "label", &image->config.config.labels);
}

// How many containers each was the start of.
static void count_users(struct call *call, json_t *rows)
{
    struct engine_container *containers;
    size_t len, index;
    json_t *row;
    engine_list(call->engine, true, call->arena, &containers, &len);
    json_array_foreach (rows, index, row) {
        int64_t users = 0;
        for (size_t i = 0; i < len; i++)
            users += str_eq(containers[i].image_id, json_string_value(json_object_get(row, "Id")));
        json_object_set_new(row, "Containers", json_integer(users));
    }
}

int handle_image_list(struct call *call, struct err *err)
{
    struct image_query query;
    struct image *images;
    size_t len;
    if (read_image_query(call, &query, err) < 0 ||
        image_list(engine_images(call->engine), call->arena, &images, &len, err) < 0)
        return -1;
    _cleanup_json_ json_t *rows = json_array();
    for (size_t i = 0; i < len; i++)
        if (fits_image(&query, &images[i], call->arena))
            json_array_append_new(rows, shape_image_row(&images[i], call->version));
    if (call->version >= 42 && httpd_query_flag(call->request, "shared-size", false))
        image_rows_share(call, images, len, rows);
    if (call->version >= COUNTED_SINCE)
        count_users(call, rows);
    return reply_json(call, 200, json_incref(rows));
}

// ---- one image ------------------------------------------------------------------------------------------------------

int handle_image_inspect(struct call *call, struct err *err)
{
    struct image image;
    struct image_store *images = engine_images(call->engine);
    if (image_get(images, call->values[0], call->arena, &image, err) < 0 ||
        (call->version >= 49 && platform_check(call, "platform", call->values[0], &image, err) < 0))
        return -1;
    return reply_json(call, 200, shape_image(&image, image_driver_name(images), call->version));
}

static json_t *shape_step(const struct oci_history *step, int64_t size)
{
    int64_t created_ns = 0;
    clock_parse(slice_of(step->created ? step->created : ""), &created_ns);
    return json_pack("{s:s, s:I, s:o, s:n, s:I, s:o}", "Id", "<missing>", "Created", (json_int_t)(created_ns / NS_PER_S),
                     "CreatedBy", shape_text(step->created_by), "Tags", "Size", (json_int_t)size, "Comment",
                     shape_text(step->comment));
}

// The newest step is the image; those behind it are the images that it was committed on, as far as they are known here.
static void name_steps(struct call *call, const struct image *image, json_t *rows)
{
    struct image step = *image;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        json_t *row = json_array_get(rows, i);
        json_object_set_new(row, "Id", json_string(step.id));
        json_object_set_new(row, "Tags", shape_texts_or_null(&step.tags));
        if (!step.parent || image_get(engine_images(call->engine), step.parent, call->arena, &step, NULL) < 0)
            return;
    }
}

// The configuration's history, newest first; it is empty where the image's maker wrote none. Each step that is not empty
// made the next layer. Steps below the first have no image of their own.
int handle_image_history(struct call *call, struct err *err)
{
    struct image image;
    size_t layer = 0; // steps that made one
    if (image_get(engine_images(call->engine), call->values[0], call->arena, &image, err) < 0 ||
        (call->version >= 48 && platform_check(call, "platform", call->values[0], &image, err) < 0))
        return -1;
    const struct json_list *history = &image.config.history;
    for (size_t i = 0; i < history->len; i++)
        layer += !((const struct oci_history *)json_list_at(history, &oci_history_table, i))->empty_layer;
    if (layer > image.chain_ids.len)
        return err_set(err, ERR_INTERNAL, "too many non-empty layers in History section");
    json_t *rows = json_array();
    for (size_t i = history->len; i-- > 0;) {
        const struct oci_history *step = json_list_at(history, &oci_history_table, i);
        json_array_append_new(rows, shape_step(step, step->empty_layer ? 0 : image.layer_sizes[--layer]));
    }
    name_steps(call, &image, rows);
    return reply_json(call, 200, rows);
}

int handle_image_tag(struct call *call, struct err *err)
{
    const char *name = httpd_query(call->request, "repo"), *tag = httpd_query(call->request, "tag");
    if (str_empty(name))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid reference format");
    const char *reference = str_empty(tag) ? name : arena_printf(call->arena, "%s:%s", name, tag);
    return engine_image_tag(call->engine, call->values[0], reference, err) < 0 ? -1 : reply_empty(call, 201);
}

int handle_image_delete(struct call *call, struct err *err)
{
    struct image_removed removed = { 0 };
    struct image image;
    if (call->version >= 50 && image_get(engine_images(call->engine), call->values[0], call->arena, &image, NULL) == 0 &&
        platform_check(call, "platforms", call->values[0], &image, err) < 0)
        return -1;
    unsigned flags = (httpd_query_flag(call->request, "force", false) ? IMAGE_REMOVE_FORCE : 0) |
                     (httpd_query_flag(call->request, "noprune", false) ? IMAGE_REMOVE_KEEP_PARENTS : 0);
    if (engine_image_remove(call->engine, call->values[0], flags, call->arena, &removed, err) < 0)
        return -1;
    json_t *rows = json_array();
    for (size_t i = 0; i < removed.untagged.len; i++)
        json_array_append_new(rows, json_pack("{s:s}", "Untagged", removed.untagged.items[i]));
    for (size_t i = 0; i < removed.deleted.len; i++)
        json_array_append_new(rows, json_pack("{s:s}", "Deleted", removed.deleted.items[i]));
    return reply_json(call, 200, rows);
}

// ---- to a stream ----------------------------------------------------------------------------------------------------

int write_archive(void *context, int pipe_fd, size_t size)
{
    struct httpd_request *request = context;
    if (!httpd_answered(request) && httpd_stream_begin(request, 200, "application/x-tar") < 0)
        return -1;
    return httpd_stream_splice(request, pipe_fd, size);
}

static int check_platforms(struct call *call, const struct strv *names, struct err *err)
{
    for (size_t i = 0; i < names->len; i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT; // there may be a thousand
        struct image image;
        if (image_get(engine_images(call->engine), names->items[i], &arena, &image, NULL) == 0 &&
            platform_check(call, "platform", names->items[i], &image, err) < 0)
            return -1;
    }
    return 0;
}

// One that fails after its first bytes has no last chunk: the client sees that it is not whole.
int handle_image_save(struct call *call, struct err *err)
{
    struct strv names = { 0 };
    if (call->values[0])
        strv_push_arena(&names, call->arena, call->values[0]);
    else
        httpd_query_all(call->request, "names", &names);
    if (call->version >= 48 && httpd_query(call->request, "platform") && check_platforms(call, &names, err) < 0)
        return -1;
    if (engine_save(call->engine, &names, write_archive, call->request, httpd_cancel(call->request), err) < 0) {
        httpd_stream_abort(call->request);
        return -1;
    }
    httpd_stream_end(call->request);
    return 0;
}

// ---- from a stream --------------------------------------------------------------------------------------------------

int handle_image_load(struct call *call, struct err *err)
{
    struct progress progress = { call };
    if (call->version >= 48 && platform_check_own(call, "platform", err) < 0)
        return -1;
    int result = engine_load(call->engine, httpd_body_fd(call->request), httpd_query_flag(call->request, "quiet", true),
                             progress_write, &progress, httpd_cancel(call->request), err);
    return progress_end(&progress, result, err);
}

int handle_image_create(struct call *call, struct err *err)
{
    const char *source = httpd_query(call->request, "fromSrc"), *name = httpd_query(call->request, "repo");
    const char *tag = httpd_query(call->request, "tag"), *reference = name;
    struct progress progress = { call };
    struct strv changes;
    if (!str_empty(httpd_query(call->request, "fromImage")))
        return handle_image_pull(call, err);
    if (str_empty(source))
        return err_set(err, ERR_INVALID_ARGUMENT, "neither fromImage nor fromSrc is given");
    const char *url = str_eq(source, "-") ? NULL : strstr(source, "://") ? source : arena_printf(call->arena, "http://%s", source);
    const char *message = httpd_query(call->request, "message");
    if (str_empty(message))
        message = arena_printf(call->arena, "Imported from %s", url ? url : source);
    if (!str_empty(name) && !str_empty(tag))
        reference = arena_printf(call->arena, "%s:%s", name, tag);
    httpd_query_all(call->request, "changes", &changes);
    int result = engine_import(call->engine, url ? -1 : httpd_body_fd(call->request), url, reference, message, &changes, httpd_query(call->request, "platform"),
                               progress_write, &progress, httpd_cancel(call->request), err);
    return progress_end(&progress, result, err);
}
