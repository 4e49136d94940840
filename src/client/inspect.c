// inspect, of whatever has that name: containers, images, networks, volumes, plugins, in this order.
#include "client/client_private.h"
#include "client/text.h"

struct kind {
    const char *type, *prefix, *rest;
    const char *word; // "No such container: %s" where one type is asked for; NULL: the daemon's words
};

static const struct kind kinds[] = {
    { "container", "/containers/", "/json", NULL }, { "image", "/images/", "/json", NULL },   { "network", "/networks/", "", NULL },
    { "volume", "/volumes/", "", NULL },            { "plugin", "/plugins/", "/json", NULL },
};

static const char *const swarm_kinds[] = { "config", "node", "secret", "service", "task" };

static int fetch(struct call *call, const struct kind *kind, const char *name, struct buf *out, struct err *err)
{
    _cleanup_buf_ struct buf path = PATH_INIT;
    path_put(&path, kind->prefix, name, kind->rest);
    flags_to_query(&call->flags, &path);
    if (put_platforms(call, "platform", 49, &path, err) < 0)
        return -1;
    if (str_eq(kind->type, "container") && flag_on(&call->flags, "size"))
        query_add(&path, "size", "1");
    return api_text(call->client, "GET", buf_text(&path), out, err);
}

// -1 when nothing of the name is there.
static int find(struct call *call, const char *type, const char *name, struct buf *out, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (type && !str_eq(type, kinds[i].type))
            continue;
        if (fetch(call, &kinds[i], name, out, err) >= 0) {
            if (flag_on(&call->flags, "size") && i)
                fprintf(stderr, "WARNING: --size ignored for %s\n", kinds[i].type);
            return 0;
        }
        bool next = err->class == ERR_NOT_FOUND || strstr(err->message, "not supported") || strstr(err->message, "invalid reference format");
        if (type || !next)
            return -1;
    }
    return err_set(err, ERR_NOT_FOUND, "Error: No such object: %s", name);
}

struct found {
    struct buf plain; // "[\n    {...},\n    {...}"
    struct buf formatted;
    struct buf errors;
    size_t len;
};

static int add_formatted(const struct template *template, struct buf *json, struct found *found, struct err *err)
{
    _cleanup_json_ json_t *object = NULL;
    if (json_parse(buf_text(json), json->size, &object, err) < 0)
        return -1;
    struct template_data data = { .root = object };
    if (template_run(template, &data, &found->formatted, err) < 0)
        return err_wrap(err, "template parsing error");
    buf_addc(&found->formatted, '\n');
    return 0;
}

// The text as it came, indented; the numbers and names in it are the daemon's own.
static void add_plain(struct buf *json, struct found *found)
{
    struct slice text = slice_trim((struct slice){ buf_text(json), json->size });
    buf_adds(&found->plain, found->len++ ? ",\n    " : "[\n    ");
    text_indent(text, "    ", "    ", &found->plain);
}

static int inspect_all(struct call *call, const char *type, const struct template *template, bool json, struct found *found, struct err *err)
{
    for (size_t i = 0; i < call->args.len; i++) {
        _cleanup_buf_ struct buf text = BUF_INIT(CLIENT_ANSWER_MAX);
        if (find(call, type, call->args.items[i], &text, err) < 0) {
            buf_addf(&found->errors, "%s%s", found->errors.size ? "\n" : "", err->message);
            err_clear(err);
        } else if (template) {
            if (add_formatted(template, &text, found, err) < 0)
                return -1;
        } else if (json) {
            struct slice trimmed = slice_trim((struct slice){ buf_text(&text), text.size });
            buf_addf(&found->plain, "%s%.*s", found->len++ ? "," : "[", (int)trimmed.size, trimmed.data);
        } else {
            add_plain(&text, found);
        }
    }
    return 0;
}

static void print_found(struct found *found, bool templated, bool json)
{
    if (templated)
        printf("%s%s", buf_text(&found->formatted), found->formatted.size ? "" : "\n");
    else
        printf("%s%s\n", found->len ? buf_text(&found->plain) : "[", found->len && !json ? "\n]" : "]");
}

static int inspect(struct call *call, const char *type, struct err *err)
{
    const char *format = flag_text(&call->flags, "format");
    bool json = str_eq(format, "json"), templated = !str_empty(format) && !json;
    _cleanup_template_ struct template *template = NULL;
    struct found found = { .plain = BUF_INIT(CLIENT_ANSWER_MAX), .formatted = BUF_INIT(TEMPLATE_OUTPUT_MAX), .errors = BUF_INIT(1u << 20) };
    if (templated && template_parse("", format, &template, err) < 0) {
        err_wrap(err, "template parsing error");
        return -EXIT_TEMPLATE;
    }
    int result = inspect_all(call, type, template, json, &found, err);
    print_found(&found, templated, json);
    fflush(stdout);
    if (found.errors.size)
        fprintf(stderr, "%s\n", buf_text(&found.errors));
    if (result == 0)
        result = found.errors.size ? 1 : 0;
    buf_done(&found.plain);
    buf_done(&found.formatted);
    buf_done(&found.errors);
    return result;
}

static const char *const all_types = "config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume";

int command_inspect(struct call *call, struct err *err)
{
    const char *type = flag_text(&call->flags, "type");
    if (type && !*type)
        return err_set(err, ERR_INVALID_ARGUMENT, "type is empty: must be one of \"%s\"", all_types);
    for (size_t i = 0; type && i < ARRAY_LEN(swarm_kinds); i++)
        if (str_eq(type, swarm_kinds[i]))
            return err_set(err, ERR_NOT_IMPLEMENTED, "--type %s: swarm's objects are not inspected here", type);
    bool known = !type;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        known |= str_eq(type, kinds[i].type);
    return known ? inspect(call, type, err) : err_set(err, ERR_INVALID_ARGUMENT, "unknown type: \"%s\": must be one of \"%s\"", type, all_types);
}

int command_container_inspect(struct call *call, struct err *err)
{
    return inspect(call, "container", err);
}

int command_image_inspect(struct call *call, struct err *err)
{
    return inspect(call, "image", err);
}

int command_network_inspect(struct call *call, struct err *err)
{
    return inspect(call, "network", err);
}

int command_volume_inspect(struct call *call, struct err *err)
{
    return inspect(call, "volume", err);
}
