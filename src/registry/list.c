// Lists: tags and repositories in pages, and what refers to a manifest.
#include "registry_private.h"

#define PAGE_MAX 10000 // items of a list that was asked for without a length

struct list {
    json_t *items;
    size_t max;
    bool more;
};

static int take_item(void *context, const struct store_row *row, struct err *err)
{
    struct list *list = context;
    list->more = json_array_size(list->items) == list->max;
    if (!list->more)
        json_array_append_new(list->items, json_new_text(store_text(row, 0)));
    return 0;
}

// n and last of the request. False: answered.
static bool read_page(struct call *call, uint64_t *max, const char **last)
{
    const char *n = httpd_query(call->request, "n");
    *last = httpd_query(call->request, "last");
    *max = PAGE_MAX;
    if (!*last)
        *last = "";
    if (!n || num_parse_u64(slice_of(n), UINT32_MAX, max)) {
        *max = MIN_OF(*max, PAGE_MAX);
        return true;
    }
    call_refuse(call, PAGE_NUMBER_INVALID, "n: %s: not a number", n);
    return false;
}

// A full page says where the next one begins (RFC 5988). A page of nothing has no next one.
static void set_next(struct call *call, const struct list *list)
{
    if (!list->more || list->max == 0)
        return;
    json_t *last = json_array_get(list->items, list->max - 1);
    set_headerf(call, "Link", "<%s?last=%s&n=%zu>; rel=\"next\"", httpd_path(call->request), json_string_value(last), list->max);
}

static void reply_page(struct call *call, const char *key, const char *sql, const char *types)
{
    uint64_t max;
    const char *last;
    struct err err = { 0 };
    if (!read_page(call, &max, &last))
        return;
    struct list list = { json_array(), (size_t)max, false };
    json_t *body = json_object();
    if (call->repository)
        json_object_set_new(body, "name", json_string(call->repository));
    json_object_set_new(body, key, list.items);
    if (store_query(call->registry->store, &err, take_item, &list, sql, types, last, (int64_t)max + 1, call->repository) < 0) {
        json_decref(body);
        call_failed(call, &err);
        return;
    }
    set_next(call, &list);
    call_reply_json(call, 200, "application/json", body);
}

// n and last of a sorted list that is not ours alone.
static void reply_part(struct call *call, const char *key, const struct strv *names)
{
    uint64_t max;
    const char *last;
    if (!read_page(call, &max, &last))
        return;
    struct list list = { json_array(), (size_t)max, false };
    for (size_t i = 0; i < names->len && !list.more; i++)
        if (strcmp(names->items[i], last) > 0) {
            list.more = json_array_size(list.items) == list.max;
            if (!list.more)
                json_array_append_new(list.items, json_string(names->items[i]));
        }
    json_t *body = json_object();
    if (call->repository)
        json_object_set_new(body, "name", json_string(call->repository));
    json_object_set_new(body, key, list.items);
    set_next(call, &list);
    call_reply_json(call, 200, "application/json", body);
}

static int compare_tags(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list_shared_tags(struct call *call)
{
    struct strv tags = { 0 };
    struct err err = { 0 };
    int found = record_has_repository(call, &err);
    if (found < 0 || backing_tags(call, &tags, &err) < 0)
        call_failed(call, &err);
    else if (!found && tags.len == 0)
        call_refuse(call, NAME_UNKNOWN, "%s: no such repository", call->repository);
    else
        reply_part(call, "tags", &tags);
}

void handle_tags(struct call *call)
{
    _cleanup_strv_ struct strv tags = { 0 };
    struct err err = { 0 };
    if (is_cache(call->registry) && proxy_tags(call, &tags)) {
        if (tags.len)
            qsort(tags.items, tags.len, sizeof(*tags.items), compare_tags);
        reply_part(call, "tags", &tags);
        return;
    }
    if (is_shared(call->registry)) {
        list_shared_tags(call);
        return;
    }
    int found = record_has_repository(call, &err);
    if (found < 0)
        call_failed(call, &err);
    else if (!found)
        call_refuse(call, NAME_UNKNOWN, "%s: no such repository", call->repository);
    else
        reply_page(call, "tags", "SELECT name FROM tags WHERE name > ?1 AND repository = ?3 ORDER BY name LIMIT ?2", "tit");
}

void handle_catalog(struct call *call)
{
    struct strv names = { 0 };
    struct err err = { 0 };
    if (is_shared(call->registry)) {
        if (backing_repositories(call, &names, &err) < 0)
            call_failed(call, &err);
        else
            reply_part(call, "repositories", &names);
        return;
    }
    reply_page(call, "repositories",
               "SELECT DISTINCT repository FROM manifests WHERE repository > ?1 ORDER BY repository LIMIT ?2", "ti");
}

// ---- referrers ------------------------------------------------------------------------------------------------------

static int take_descriptor(void *context, const struct store_row *row, struct err *err)
{
    json_t *descriptor = json_object();
    const char *artifact_type = store_text(row, 3), *annotations = store_text(row, 4);
    json_object_set_new(descriptor, "mediaType", json_new_text(store_text(row, 0)));
    json_object_set_new(descriptor, "digest", json_new_text(store_text(row, 1)));
    json_object_set_new(descriptor, "size", json_integer(store_int(row, 2)));
    if (artifact_type)
        json_object_set_new(descriptor, "artifactType", json_new_text(artifact_type));
    json_t *parsed = NULL;
    if (annotations && json_parse(annotations, strlen(annotations), &parsed, err) < 0) {
        json_decref(descriptor);
        return -1;
    }
    if (parsed)
        json_object_set_new(descriptor, "annotations", parsed);
    json_array_append_new(context, descriptor);
    return 0;
}

void handle_referrers(struct call *call)
{
    static const char index_type[] = "application/vnd.oci.image.index.v1+json";
    struct err err = { 0 };
    const char *type = httpd_query(call->request, "artifactType");
    if (!digest_valid(call->reference)) {
        call_refuse(call, DIGEST_INVALID, "%s: not a digest", call->reference);
        return;
    }
    json_t *body = json_object(), *manifests = json_array();
    json_object_set_new(body, "schemaVersion", json_integer(2));
    json_object_set_new(body, "mediaType", json_string(index_type));
    json_object_set_new(body, "manifests", manifests);
    if (store_query(call->registry->store, &err, take_descriptor, manifests,
                    "SELECT m.media_type, m.digest, b.size, m.artifact_type, m.annotations FROM manifests m"
                    " JOIN blobs b ON b.digest = m.digest"
                    " WHERE m.repository = ?1 AND m.subject = ?2 AND (?3 = '' OR m.artifact_type = ?3) ORDER BY m.pushed_ns",
                    "ttt", call->repository, call->reference, type ? type : "") < 0) {
        json_decref(body);
        call_failed(call, &err);
        return;
    }
    if (!str_empty(type))
        httpd_set_header(call->request, "OCI-Filters-Applied", "artifactType");
    call_reply_json(call, 200, index_type, body);
}
