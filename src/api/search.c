// docker search.
#include "api_private.h"

static const char *const search_filter_keys[] = { "is-automated", "is-official", "stars", NULL };

struct search {
    struct filters filters;
    int automated, official; // 1 only, 0 none, -1 any
    int64_t stars; // at least
};

static int read_search(struct call *call, struct search *out, struct err *err)
{
    *out = (struct search){ 0 };
    if (filters_parse(httpd_query(call->request, "filters"), search_filter_keys, call->arena, &out->filters, err) < 0 ||
        filters_flag(&out->filters, "is-automated", &out->automated, err) < 0 ||
        filters_flag(&out->filters, "is-official", &out->official, err) < 0)
        return -1;
    const struct strv *stars = filters_get(&out->filters, "stars");
    for (size_t i = 0; stars && i < stars->len; i++) {
        int64_t number;
        if (!num_parse_i64(slice_of(stars->items[i]), &number))
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid filter 'stars=%.100s': strconv.Atoi: parsing \"%.100s\": invalid syntax", stars->items[i], stars->items[i]);
        out->stars = MAX_OF(out->stars, number);
    }
    return 0;
}

static bool fits(const struct search *search, const json_t *result)
{
    bool official = json_get_flag(result, "is_official", false);
    return (search->official < 0 || official == (search->official == 1)) && json_get_int(result, "star_count", 0) >= search->stars;
}

int handle_image_search(struct call *call, struct err *err)
{
    enum { LIMIT_DEFAULT = 25, LIMIT_MAX = 100 };
    _cleanup_json_ json_t *auth = registry_auth(call, httpd_header(call->request, "X-Registry-Auth")), *found = NULL;
    const struct engine_login login = registry_login(auth);
    const char *term = httpd_query(call->request, "term");
    struct search search;
    int64_t limit;
    if (query_int(call, "limit", LIMIT_DEFAULT, &limit, err) < 0 || read_search(call, &search, err) < 0)
        return -1;
    if (limit < 1 || limit > LIMIT_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "limit %lld is outside the range of [1, %d]", (long long)limit, LIMIT_MAX);
    if (search.automated != 1 && // nothing is, any more
        engine_registry_search(call->engine, term ? term : "", limit, &login, &found, httpd_cancel(call->request), err) < 0)
        return -1;
    json_t *fitting = json_array();
    for (size_t i = 0; i < json_array_size(found); i++)
        if (fits(&search, json_array_get(found, i)))
            json_array_append(fitting, json_array_get(found, i));
    return reply_json(call, 200, fitting);
}
