// What the daemon asks a registry without fetching an image: whether it takes a login, and what a reference names there.
#include "fetch.h"
#include "platform.h"
#include "report.h"

static int new_host(const char *domain, enum distribution_purpose purpose, const struct transfer_remote *remote, struct distribution **out,
                    struct err *err)
{
    const struct image_ref ref = { .domain = (char *)domain, .path = (char *)"", .familiar_name = (char *)domain };
    return distribution_new(&ref, purpose, &remote->login, &remote->options, out, err);
}

int transfer_login_new(const char *domain, const struct transfer_remote *remote, struct distribution **out, struct err *err)
{
    return new_host(domain, DISTRIBUTION_PULL, remote, out, err);
}

int transfer_search_new(const char *domain, const struct transfer_remote *remote, struct distribution **out, struct err *err)
{
    return new_host(domain, DISTRIBUTION_SEARCH, remote, out, err);
}

// What the index says may be anything: only this is passed on.
static json_t *search_result(const json_t *from)
{
    json_t *result = json_object();
    json_object_set_new(result, "star_count", json_integer(json_get_int(from, "star_count", 0)));
    json_object_set_new(result, "is_official", json_boolean(json_get_flag(from, "is_official", false)));
    json_object_set_new(result, "name", json_new_text(json_get_text(from, "name", "")));
    json_object_set_new(result, "is_automated", json_false()); // Docker Hub's word for it means nothing any more
    json_object_set_new(result, "description", json_new_text(json_get_text(from, "description", "")));
    return result;
}

int transfer_search(struct distribution *distribution, const char *query, FILE *report, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(DISTRIBUTION_SEARCH_MAX);
    _cleanup_json_ json_t *answer = NULL, *results = json_array();
    if (distribution_search(distribution, query, &text, err) < 0)
        return -1;
    if (json_parse(buf_text(&text), text.size, &answer, err) < 0)
        return err_wrap(err, "the index's answer");
    const json_t *list = json_object_get(answer, "results");
    for (size_t i = 0; i < json_array_size(list); i++)
        json_array_append_new(results, search_result(json_array_get(list, i)));
    return report_line(report, "search", json_incref(results), err);
}

int transfer_login(struct distribution *distribution, FILE *report, struct err *err)
{
    _cleanup_free_ char *token = NULL;
    if (distribution_login(distribution, &token, err) < 0)
        return -1;
    return report_line(report, "login", json_pack("{s:s}", "token", token ? token : ""), err);
}

int transfer_tags(struct fetch *fetch, FILE *report, struct err *err)
{
    _cleanup_strv_ struct strv tags = { 0 };
    json_t *list = json_array();
    int result = distribution_tags(fetch->distribution, &tags, err);
    for (size_t i = 0; result == 0 && i < tags.len; i++)
        json_array_append_new(list, json_string(tags.items[i]));
    if (result == 0)
        return report_line(report, "tags", list, err);
    json_decref(list);
    return -1;
}

// ---- what a reference names -----------------------------------------------------------------------------------------

static void add_platform(json_t *list, const char *os, const char *architecture, const char *variant)
{
    json_t *platform = json_pack("{s:s, s:s}", "architecture", architecture ? architecture : "", "os", os ? os : "");
    if (!str_empty(variant))
        json_object_set_new(platform, "variant", json_string(variant));
    json_array_append_new(list, platform);
}

static int index_platforms(struct fetch *fetch, json_t *list, struct err *err)
{
    struct oci_index index;
    if (json_decode_text(&oci_index_table, buf_text(&fetch->top.text), fetch->top.text.size, &index, &fetch->arena, NULL, err) < 0)
        return err_wrap(err, "index %s", fetch->top.digest);
    for (size_t i = 0; i < index.manifests.len; i++) {
        const struct oci_descriptor *entry = json_list_at(&index.manifests, &oci_descriptor_table, i);
        if (entry->platform)
            add_platform(list, entry->platform->os, entry->platform->architecture, entry->platform->variant);
    }
    return 0;
}

static int image_platform(struct fetch *fetch, json_t *list, struct err *err)
{
    struct oci_image_config config;
    if (fetch_documents(fetch, err) < 0)
        return -1;
    if (json_decode_text(&oci_image_config_table, buf_text(&fetch->config), fetch->config.size, &config, &fetch->arena, NULL, err) < 0)
        return err_wrap(err, "image config");
    add_platform(list, config.os, config.architecture, config.variant);
    return 0;
}

int transfer_lookup(struct fetch *fetch, FILE *report, struct err *err)
{
    const char *name = fetch->ref.digest ? fetch->ref.digest : fetch->ref.tag;
    _cleanup_json_ json_t *platforms = json_array();
    if (distribution_manifest_get(fetch->distribution, name, &fetch->top, err) < 0)
        return -1;
    bool is_index = distribution_is_index(fetch->top.media_type);
    if ((is_index ? index_platforms(fetch, platforms, err) : image_platform(fetch, platforms, err)) < 0)
        return -1;
    return report_line(report, "manifest", json_pack("{s:{s:s, s:s, s:I}, s:O}", "Descriptor", "mediaType", fetch->top.media_type,
                                                     "digest", fetch->top.digest, "size", (json_int_t)fetch->top.text.size,
                                                     "Platforms", platforms), err);
}
