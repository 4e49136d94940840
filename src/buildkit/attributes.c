// A frontend's attributes: one table of those that are known, and of those that say nothing about the result.
#include "base/num.h"
#include "buildkit_private.h"

struct reading {
    struct arena *arena;
    struct buildkit_build *out;
    struct asked *asked;
};

typedef int take_fn(struct reading *reading, const char *name, const char *value, struct err *err);

// Values are lists as a line of CSV; a value with a comma or a quote stands in quotes.
void csv_fields(struct arena *arena, const char *text, struct strv *out)
{
    char *part = arena_alloc(arena, strlen(text) + 1), *end = part;
    bool quoted = false;
    for (const char *c = text;; c++) {
        if (*c == '"') {
            if (quoted && c[1] == '"')
                *end++ = *c++;
            else
                quoted = !quoted;
        } else if (!*c || (*c == ',' && !quoted)) {
            *end = 0;
            if (end > part)
                strv_push_arena(out, arena, part);
            end = part;
            if (!*c)
                return;
        } else {
            *end++ = *c;
        }
    }
}

static void add_pair(struct arena *arena, struct kvs *map, const char *key, const char *value)
{
    struct kv *items = arena_alloc(arena, (map->len + 1) * sizeof(*items));
    if (map->len)
        memcpy(items, map->items, map->len * sizeof(*items));
    items[map->len] = (struct kv){ arena_strdup(arena, key), arena_strdup(arena, value) };
    *map = (struct kvs){ items, map->len + 1 };
}

static int take_arg(struct reading *reading, const char *name, const char *value, struct err *err)
{
    add_pair(reading->arena, &reading->out->args, name, value);
    return 0;
}

static int take_label(struct reading *reading, const char *name, const char *value, struct err *err)
{
    add_pair(reading->arena, &reading->out->labels, name, value);
    return 0;
}

static int take_target(struct reading *reading, const char *name, const char *value, struct err *err)
{
    reading->out->target = arena_strdup(reading->arena, value);
    return 0;
}

static int take_platform(struct reading *reading, const char *name, const char *value, struct err *err)
{
    struct strv *platforms = &reading->asked->platforms;
    csv_fields(reading->arena, value, platforms);
    if (platforms->len > PLATFORMS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %d platforms", PLATFORMS_MAX);
    for (size_t i = 0; i < platforms->len; i++)
        if (strlen(platforms->items[i]) > 100)
            return err_set(err, ERR_INVALID_ARGUMENT, "\"%.100s\": unknown operating system or architecture: invalid argument", platforms->items[i]);
    reading->out->platform = platforms->len ? platforms->items[0] : NULL;
    return 0;
}

static int take_no_cache(struct reading *reading, const char *name, const char *value, struct err *err)
{
    if (*value && !str_eq(value, "true")) // --no-cache-filter
        csv_fields(reading->arena, value, &reading->out->no_cache_stages);
    else
        reading->out->no_cache = true;
    return 0;
}

static int take_resolve_mode(struct reading *reading, const char *name, const char *value, struct err *err)
{
    reading->out->pull = str_eq(value, "pull");
    return 0;
}

static int take_hosts(struct reading *reading, const char *name, const char *value, struct err *err)
{
    csv_fields(reading->arena, value, &reading->out->extra_hosts);
    for (size_t i = 0; i < reading->out->extra_hosts.len; i++) {
        char *equals = strchr(reading->out->extra_hosts.items[i], '=');
        if (equals) // "name=address" here, "name:address" elsewhere
            *equals = ':';
    }
    return 0;
}

static int take_network(struct reading *reading, const char *name, const char *value, struct err *err)
{
    reading->out->network = arena_strdup(reading->arena, str_eq(value, "sandbox") ? "default" : value);
    return 0;
}

static int take_shm_size(struct reading *reading, const char *name, const char *value, struct err *err)
{
    if (!num_parse_i64(slice_of(value), &reading->out->shm_size) || reading->out->shm_size < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "failed to parse shm size: %.100s", value);
    return 0;
}

static int take_ulimits(struct reading *reading, const char *name, const char *value, struct err *err)
{
    csv_fields(reading->arena, value, &reading->out->ulimits);
    return 0;
}

static int take_cgroup(struct reading *reading, const char *name, const char *value, struct err *err)
{
    reading->out->cgroup_parent = arena_strdup(reading->arena, value);
    return 0;
}

static int take_context(struct reading *reading, const char *name, const char *value, struct err *err)
{
    reading->out->remote = *value ? arena_strdup(reading->arena, value) : NULL;
    return 0;
}

static int take_named_context(struct reading *reading, const char *name, const char *value, struct err *err)
{
    if (str_starts(value, "input:"))
        return err_set(err, ERR_NOT_IMPLEMENTED, "--build-context %.100s=%.100s is not supported", name, value);
    add_pair(reading->arena, &reading->out->contexts, name, value);
    return 0;
}

static int take_attestation(struct reading *reading, const char *name, const char *value, struct err *err)
{
    return attest_take(&reading->asked->attest, name, value, reading->arena, err);
}

// What a frontend must be able to do to understand the others. Dockerfiles with contexts of every kind are: that they are refused says their own row.
static int pass(struct reading *reading, const char *name, const char *value, struct err *err)
{
    return 0;
}

static const struct {
    const char *name; // with a ':' at its end: what follows is the name
    take_fn *take;
} rows[] = {
    { "build-arg:", take_arg },
    { "label:", take_label },
    { "target", take_target },
    { "platform", take_platform },
    { "no-cache", take_no_cache },
    { "image-resolve-mode", take_resolve_mode },
    { "add-hosts", take_hosts },
    { "force-network-mode", take_network },
    { "shm-size", take_shm_size },
    { "ulimit", take_ulimits },
    { "cgroup-parent", take_cgroup },
    { "context", take_context },
    { "context:", take_named_context },
    { "attest:", take_attestation },
    { "filename", pass }, // these are read where they are used
    { "requestid", pass },
    { "dockerfilekey", pass },
    { "contextkey", pass },
    { "source", pass },
    { "cmdline", pass },
    { "frontend.caps", pass },
    { "cache-imports", pass }, // also in Control.Solve
    { "cache-from", pass },
    { "vcs:", pass }, // of the client's checkout: for provenance
    { "local-sessionid:", pass },
    { "sharedkey:", pass },
    { "multi-platform", pass },
};

int attributes_read(const struct kvs *attributes, struct arena *arena, struct buildkit_build *out, struct asked *asked, struct err *err)
{
    struct reading reading = { arena, out, asked };
    for (size_t i = 0; i < attributes->len; i++) {
        const char *name = attributes->items[i].key, *rest = NULL;
        size_t row = 0;
        for (; row < ARRAY_LEN(rows); row++) {
            size_t len = strlen(rows[row].name);
            bool prefix = rows[row].name[len - 1] == ':';
            if (prefix ? str_starts(name, rows[row].name) : str_eq(name, rows[row].name)) {
                rest = name + (prefix ? len : 0);
                break;
            }
        }
        if (!rest)
            return err_set(err, ERR_NOT_IMPLEMENTED, "the frontend's attribute %.100s is not supported", name);
        if (rows[row].take(&reading, rest, attributes->items[i].value, err) < 0)
            return -1;
    }
    return 0;
}
