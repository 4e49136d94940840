// The tags of a repository, page after page: the answer's Link header leads to the next one.
#include "distribution_private.h"

#define PAGE "1000" // tags that we ask for at a time; a registry may give fewer, or more

// </v2/app/tags/list?last=b&n=2>; rel="next" -> "last=b&n=2", malloc'ed; NULL: none. Only what is asked is taken from it, not whom: we stay
// with the registry and the repository.
static char *next_query(const char *link)
{
    const char *begin = link ? strchr(link, '<') : NULL, *end = begin ? strchr(begin, '>') : NULL;
    const char *query = begin ? strchr(begin, '?') : NULL;
    if (!end || !query || query > end || !strstr(end, "next"))
        return NULL;
    for (const char *at = query; at < end; at++)
        if (*at <= ' ' || *at > '~')
            return NULL;
    return mem_strndup(query + 1, (size_t)(end - query - 1));
}

static int take_page(const struct distribution *distribution, const struct exchange *exchange, struct strv *out, struct err *err)
{
    _cleanup_json_ json_t *document = NULL;
    const char *host = exchange->endpoint->host;
    json_t *tag;
    size_t i;
    if (json_parse(buf_text(&exchange->text), exchange->text.size, &document, NULL) < 0 || !json_is_object(document))
        return err_set(err, ERR_UNAVAILABLE, "registry %s answered with no list of tags", host);
    const json_t *tags = json_object_get(document, "tags");
    if (json_array_size(tags) + out->len > DISTRIBUTION_TAGS_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "%s has more than %d tags", distribution->shown, DISTRIBUTION_TAGS_MAX);
    json_array_foreach((json_t *)tags, i, tag) {
        if (!json_string_value(tag) || !image_tag_valid(json_string_value(tag)))
            return err_set(err, ERR_UNAVAILABLE, "registry %s names a tag of %s that can be none", host, distribution->shown);
        strv_add(out, json_string_value(tag));
    }
    return 0;
}

// *query becomes the next page's, or NULL.
static int fetch_page(struct distribution *distribution, const struct endpoint *endpoint, char **query, struct strv *out, struct err *err)
{
    _cleanup_free_ char *url = mem_printf("%s/v2/%s/tags/list?%s", endpoint->base, distribution->path, *query);
    struct exchange exchange = { .method = "GET", .url = url, .accept = "application/json", .endpoint = endpoint };
    int result = exchange_call(distribution, &exchange, err);
    if (result == 0 && (exchange.failure.class != ERR_NONE || exchange.status != 200))
        result = exchange_fail(distribution, &exchange, distribution->shown, err);
    else if (result == 0)
        result = take_page(distribution, &exchange, out, err);
    free(*query);
    *query = result == 0 ? next_query(exchange.link) : NULL;
    exchange_done(&exchange);
    return result;
}

static int fetch_all(struct distribution *distribution, struct strv *out, struct err *err)
{
    const struct endpoint *endpoint = distribution_endpoint(distribution);
    char *query = mem_strdup("n=" PAGE);
    int result = 0;
    // A page without a tag ends it, whatever it says of a next one.
    for (size_t before = SIZE_MAX; result == 0 && query && before != out->len;) {
        before = out->len;
        result = fetch_page(distribution, endpoint, &query, out, err);
    }
    free(query);
    return result;
}

int distribution_tags(struct distribution *distribution, struct strv *out, struct err *err)
{
    do {
        strv_done(out);
        if (distribution_connect(distribution, err) < 0)
            break;
        if (fetch_all(distribution, out, err) == 0)
            return 0;
    } while (distribution_next_endpoint(distribution));
    return distribution_deny(distribution, err);
}
