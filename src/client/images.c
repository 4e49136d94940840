// images, history, rmi, tag, search: lists and small requests.
#include <time.h>

#include "client/rows.h"
#include "client/text.h"
#include "base/clock.h"

// "repository:tag" or "repository@digest", as the daemon lists them.
static void cut_tag(const char *text, char separator, struct buf *name, struct buf *rest)
{
    const char *slash = strrchr(text, '/'), *at = strrchr(slash && separator == ':' ? slash : text, separator);
    buf_clear(name);
    buf_clear(rest);
    buf_add(name, text, at ? (size_t)(at - text) : strlen(text));
    buf_adds(rest, at ? at + 1 : "");
}

void image_parts(const char *image, struct buf *name, struct buf *tag)
{
    const char *at = strchr(image, '@');
    cut_tag(image, at ? '@' : ':', name, tag);
    if (!tag->size)
        buf_adds(tag, "latest");
}

size_t image_host(const char *image)
{
    size_t size = strcspn(image, "/");
    if (!image[size])
        return 0;
    bool capital = false;
    for (size_t i = 0; i < size; i++)
        capital |= image[i] >= 'A' && image[i] <= 'Z';
    bool host = capital || memchr(image, '.', size) || memchr(image, ':', size) || (size == 9 && memcmp(image, "localhost", 9) == 0);
    return host ? size : 0;
}

// What the daemon would refuse with other words: blanks, and capitals behind the registry's name.
int image_check(const char *image, struct err *err)
{
    _cleanup_buf_ struct buf name = BUF_INIT(4096), tag = BUF_INIT(512);
    image_parts(image, &name, &tag);
    size_t host = image_host(buf_text(&name));
    const char *path = buf_text(&name) + host + (host > 0);
    if (!*path || strpbrk(image, " \t\n"))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid reference format");
    for (const char *c = path; *c; c++)
        if (*c >= 'A' && *c <= 'Z')
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid reference format: repository name (%s%s) must be lowercase",
                           strchr(path, '/') || host ? "" : "library/", path);
    return 0;
}

json_t *image_row(const json_t *image, const char *repository, const char *tag, const char *digest, bool no_trunc)
{
    json_t *row = json_object();
    char id[TEXT_SIZE], size[TEXT_SIZE];
    int64_t created = json_get_int(image, "Created", 0), bytes = json_get_int(image, "Size", 0), shared = json_get_int(image, "SharedSize", -1);
    int64_t containers = json_get_int(image, "Containers", -1);
    row_put(row, "ID", text_id(json_get_text(image, "Id", ""), no_trunc, id));
    row_put(row, "Repository", repository);
    row_put(row, "Tag", tag);
    row_put(row, "Digest", digest);
    put_age(row, "CreatedSince", created);
    put_time_text(row, "CreatedAt", text_ns(created));
    row_put(row, "Size", text_size((double)bytes, 3, size));
    row_put(row, "VirtualSize", text_size((double)bytes, 4, size));
    if (containers < 0)
        row_put(row, "Containers", "N/A");
    else
        row_putf(row, "Containers", "%lld", (long long)containers);
    row_put(row, "SharedSize", shared < 0 ? "N/A" : text_size((double)shared, 4, size));
    row_put(row, "UniqueSize", shared < 0 || bytes < 0 ? "N/A" : text_size((double)(bytes - shared), 4, size));
    return row;
}

const struct column image_columns[] = {
    { "ID", "IMAGE ID" }, { "Repository", "REPOSITORY" }, { "Tag", "TAG" }, { "Digest", "DIGEST" }, { "CreatedSince", "CREATED" },
    { "CreatedAt", "CREATED AT" }, { "Size", "SIZE" }, { "Containers", "CONTAINERS" }, { "VirtualSize", "SIZE" },
    { "SharedSize", "SHARED SIZE" }, { "UniqueSize", "UNIQUE SIZE" },
};
const size_t image_columns_len = ARRAY_LEN(image_columns);

// ---- images ---------------------------------------------------------------------------------------------------------

struct image_rows {
    struct row *rows;
    size_t len, capacity;
    bool digests, no_trunc;
};

static void add_row(struct image_rows *rows, const json_t *image, const char *repository, const char *tag, const char *digest)
{
    if (rows->len == rows->capacity) {
        rows->capacity = rows->capacity ? 2 * rows->capacity : 32;
        rows->rows = mem_grow(rows->rows, rows->capacity * sizeof(*rows->rows));
    }
    rows->rows[rows->len++] = (struct row){ image_row(image, repository, tag, digest, rows->no_trunc), NULL };
}

// Every tag with every digest of its repository, if digests are asked for; else each tag once.
static bool add_tagged(struct image_rows *rows, const json_t *image, const char *repository, const char *tag)
{
    const json_t *digests = json_object_get(image, "RepoDigests");
    _cleanup_buf_ struct buf name = BUF_INIT(4096), digest = BUF_INIT(512);
    bool any = false;
    for (size_t i = 0; i < json_array_size(digests); i++) {
        cut_tag(item_text(digests, i), '@', &name, &digest);
        if (!str_eq(buf_text(&name), repository))
            continue;
        any = true;
        if (rows->digests)
            add_row(rows, image, repository, tag, buf_text(&digest));
    }
    if (!any || !rows->digests)
        add_row(rows, image, repository, tag, "<none>");
    return any;
}

static bool has_repository(const json_t *tags, const char *repository)
{
    _cleanup_buf_ struct buf name = BUF_INIT(4096), tag = BUF_INIT(512);
    for (size_t i = 0; i < json_array_size(tags); i++) {
        cut_tag(item_text(tags, i), ':', &name, &tag);
        if (str_eq(buf_text(&name), repository))
            return true;
    }
    return false;
}

static void add_image(struct image_rows *rows, const json_t *image)
{
    const json_t *tags = json_object_get(image, "RepoTags"), *digests = json_object_get(image, "RepoDigests");
    _cleanup_buf_ struct buf name = BUF_INIT(4096), rest = BUF_INIT(512);
    const char *first_tag = item_text(tags, 0);
    bool none = str_eq(first_tag, "<none>:<none>");
    if ((!json_array_size(tags) || none) && (!json_array_size(digests) || str_eq(item_text(digests, 0), "<none>@<none>"))) {
        add_row(rows, image, "<none>", "<none>", "<none>");
        return;
    }
    for (size_t i = 0; i < json_array_size(tags) && !none; i++) {
        cut_tag(item_text(tags, i), ':', &name, &rest);
        add_tagged(rows, image, buf_text(&name), buf_text(&rest));
    }
    for (size_t i = 0; i < json_array_size(digests); i++) {
        cut_tag(item_text(digests, i), '@', &name, &rest);
        if (!has_repository(none ? NULL : tags, buf_text(&name)))
            add_row(rows, image, buf_text(&name), "<none>", rows->digests ? buf_text(&rest) : "");
    }
}

#define IMAGE_AGE "{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}"

int command_images(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *images = NULL, *filters = flags_filters(&call->flags, "filter");
    _cleanup_buf_ struct buf path = PATH_INIT, text = BUF_INIT(1u << 20);
    const char *format = flag_text(&call->flags, "format");
    bool digests = flag_on(&call->flags, "digests"), quiet = flag_on(&call->flags, "quiet");
    struct list list = {
        .format = quiet && !format ? NULL : format ? format : json_get_text(client_config(call->client), "imagesFormat", NULL),
        .table = digests ? "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t" IMAGE_AGE "\t{{.Size}}"
                         : "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t" IMAGE_AGE "\t{{.Size}}",
        .raw = quiet ? "image_id: {{.ID}}"
                     : "repository: {{ .Repository }}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n",
        .type = "*formatter.imageContext",
        .columns = image_columns,
        .columns_len = image_columns_len,
        .quiet = quiet,
    };
    struct image_rows rows = { .digests = digests || (format && strstr(format, "{{.Digest}}")), .no_trunc = flag_on(&call->flags, "no-trunc") };
    size_t i;
    json_t *image;
    if (call->args.len)
        json_object_set_new(filters, "reference", json_pack("{s:b}", call->args.items[0], 1));
    buf_adds(&path, "/images/json");
    if (flag_on(&call->flags, "all"))
        query_add(&path, "all", "1");
    if (json_object_size(filters)) {
        json_write(filters, &text);
        query_add(&path, "filters", buf_text(&text));
    }
    if (api_json(call->client, "GET", buf_text(&path), NULL, &images, err) < 0 || check_list(images, err) < 0)
        return -1;
    json_array_foreach(images, i, image)
        add_image(&rows, image);
    int result = list_print(&list, rows.rows, rows.len, err);
    for (i = 0; i < rows.len; i++)
        json_decref(rows.rows[i].fields);
    free(rows.rows);
    return result;
}

// ---- history --------------------------------------------------------------------------------------------------------

static void rfc3339(int64_t seconds, char out[64])
{
    struct tm tm;
    time_t time = (time_t)seconds;
    size_t size = localtime_r(&time, &tm) ? strftime(out, 48, "%Y-%m-%dT%H:%M:%S%z", &tm) : 0;
    if (size < 5) // no year that a calendar has
        snprintf(out, 64, "%lld", (long long)seconds);
    else if (str_eq(out + size - 5, "+0000"))
        snprintf(out + size - 5, 8, "Z");
    else
        memmove(out + size - 1, out + size - 2, 3), out[size - 2] = ':';
}

static json_t *history_row(const json_t *layer, bool human, bool no_trunc)
{
    json_t *row = json_object();
    char id[TEXT_SIZE], size[TEXT_SIZE], time_text[64];
    int64_t created = json_get_int(layer, "Created", 0), bytes = json_get_int(layer, "Size", 0);
    _cleanup_free_ char *by = mem_strdup(json_get_text(layer, "CreatedBy", ""));
    _cleanup_buf_ struct buf cut = BUF_INIT(1u << 20);
    for (char *c = by; *c; c++)
        *c = *c == '\t' ? ' ' : *c;
    if (no_trunc)
        buf_adds(&cut, by);
    else
        text_ellipsis(by, 45, &cut);
    rfc3339(created, time_text);
    row_put(row, "ID", text_id(json_get_text(layer, "Id", ""), no_trunc, id));
    row_put(row, "CreatedAt", time_text);
    if (!human)
        row_put(row, "CreatedSince", time_text);
    else if (created <= 946684800) // before 2000 nothing was built
        row_put(row, "CreatedSince", "N/A");
    else
        put_age(row, "CreatedSince", created);
    row_put(row, "CreatedBy", buf_text(&cut));
    if (human)
        row_put(row, "Size", text_size((double)bytes, 3, size));
    else
        row_putf(row, "Size", "%lld", (long long)bytes);
    row_put(row, "Comment", json_get_text(layer, "Comment", ""));
    return row;
}

static json_t *history_row_human(const json_t *layer, bool no_trunc)
{
    return history_row(layer, true, no_trunc);
}

static json_t *history_row_plain(const json_t *layer, bool no_trunc)
{
    return history_row(layer, false, no_trunc);
}

int command_history(struct call *call, struct err *err)
{
    static const struct column columns[] = { { "ID", "IMAGE" }, { "CreatedSince", "CREATED" }, { "CreatedAt", "CREATED AT" },
                                             { "CreatedBy", "CREATED BY" }, { "Size", "SIZE" }, { "Comment", "COMMENT" } };
    bool human = !flag_set(&call->flags, "human") || flag_on(&call->flags, "human");
    struct list list = {
        .format = flag_text(&call->flags, "format"),
        .table = human ? "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
                       : "table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
        .type = "*image.historyContext",
        .columns = columns,
        .columns_len = ARRAY_LEN(columns),
        .quiet = flag_on(&call->flags, "quiet"),
    };
    _cleanup_json_ json_t *layers = NULL;
    _cleanup_buf_ struct buf path = PATH_INIT;
    path_put(&path, "/images/", call->args.items[0], "/history");
    if (put_platforms(call, "platform", 48, &path, err) < 0 || api_json(call->client, "GET", buf_text(&path), NULL, &layers, err) < 0)
        return -1;
    return print_rows(&list, layers, human ? history_row_human : history_row_plain, flag_on(&call->flags, "no-trunc"), err);
}

// ---- rmi, tag, search -----------------------------------------------------------------------------------------------

static int remove_image(struct call *call, const char *name, struct err *err)
{
    _cleanup_json_ json_t *answer = NULL;
    _cleanup_buf_ struct buf path = PATH_INIT;
    size_t i;
    json_t *one;
    path_put(&path, "/images/", name, "");
    flags_to_query(&call->flags, &path);
    if (flag_on(&call->flags, "no-prune"))
        query_add(&path, "noprune", "1");
    if (put_platforms(call, "platforms", 50, &path, err) < 0)
        return -1;
    if (api_json(call->client, "DELETE", buf_text(&path), NULL, &answer, err) < 0)
        return flag_on(&call->flags, "force") && err->class == ERR_NOT_FOUND ? fprintf(stderr, "%s\n", err->message), 0 : -1;
    json_array_foreach(answer, i, one) {
        const char *deleted = json_get_text(one, "Deleted", NULL);
        printf("%s: %s\n", deleted ? "Deleted" : "Untagged", deleted ? deleted : json_get_text(one, "Untagged", ""));
    }
    return 0;
}

int command_rmi(struct call *call, struct err *err)
{
    return each_argument(call, remove_image, err);
}

int command_tag(struct call *call, struct err *err)
{
    _cleanup_buf_ struct buf path = PATH_INIT, name = BUF_INIT(4096), tag = BUF_INIT(512);
    image_parts(call->args.items[1], &name, &tag);
    if (strchr(call->args.items[1], '@'))
        return err_set(err, ERR_INVALID_ARGUMENT, "refusing to create a tag with a digest reference");
    path_put(&path, "/images/", call->args.items[0], "/tag");
    query_add(&path, "repo", buf_text(&name));
    query_add(&path, "tag", buf_text(&tag));
    return api_json(call->client, "POST", buf_text(&path), NULL, NULL, err) < 0 ? -1 : 0;
}

static json_t *search_row(const json_t *found, bool no_trunc)
{
    json_t *row = json_object();
    _cleanup_free_ char *description = mem_strdup(json_get_text(found, "description", ""));
    _cleanup_buf_ struct buf cut = BUF_INIT(1u << 20);
    for (char *c = description; *c; c++)
        *c = *c == '\n' || *c == '\r' ? ' ' : *c;
    if (no_trunc)
        buf_adds(&cut, description);
    else
        text_ellipsis(description, 45, &cut);
    row_put(row, "Name", json_get_text(found, "name", ""));
    row_put(row, "Description", buf_text(&cut));
    row_putf(row, "StarCount", "%lld", (long long)json_get_int(found, "star_count", 0));
    row_put(row, "IsOfficial", json_get_flag(found, "is_official", false) ? "[OK]" : "");
    row_put(row, "IsAutomated", json_get_flag(found, "is_automated", false) ? "[OK]" : "");
    return row;
}

int command_search(struct call *call, struct err *err)
{
    static const struct column columns[] = { { "Name", "NAME" }, { "Description", "DESCRIPTION" }, { "StarCount", "STARS" },
                                             { "IsOfficial", "OFFICIAL" }, { "IsAutomated", "AUTOMATED" } };
    struct list list = { .format = flag_text(&call->flags, "format"), .table = "table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
                         .type = "*registry.searchContext", .columns = columns, .columns_len = ARRAY_LEN(columns) };
    _cleanup_json_ json_t *found = NULL;
    _cleanup_buf_ struct buf path = PATH_INIT, body = BUF_INIT(CLIENT_ANSWER_MAX);
    _cleanup_free_ char *auth = image_auth_header(call->client, call->args.items[0]);
    buf_adds(&path, "/images/search");
    query_add(&path, "term", call->args.items[0]);
    if (flag_int(&call->flags, "limit", 0))
        query_add(&path, "limit", flag_text(&call->flags, "limit"));
    put_filters(call, &path);
    if (api_raw(call->client, "GET", buf_text(&path), auth, NULL, &body, err) < 0 || json_parse(buf_text(&body), body.size, &found, err) < 0)
        return -1;
    return print_rows(&list, found, search_row, flag_on(&call->flags, "no-trunc"), err);
}
