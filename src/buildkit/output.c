// --output: an image of this daemon (and, with push, of its registry), its files in a folder of the client's, or one archive. What a client may say
// of each stands in a table; the rest is refused by name. What becomes of them is in results.c.
#include "base/num.h"
#include "buildkit_private.h"

#define ARCHIVES (OUTPUT_OCI | OUTPUT_DOCKER)
#define FILES (OUTPUT_LOCAL | OUTPUT_TAR)
#define ANY (OUTPUT_IMAGE | ARCHIVES | FILES)

// ---- what is asked for ----------------------------------------------------------------------------------------------

static void split(const char *text, struct arena *arena, struct strv *out)
{
    struct slice rest = slice_of(text), part;
    while (slice_cut(&rest, ',', &part))
        if (part.size)
            strv_push_arena(out, arena, arena_strndup(arena, part.data, part.size));
}

static bool is_false(const char *value)
{
    return str_empty(value) || str_eq(value, "false") || str_eq(value, "0");
}

// False: that value is not supported.
typedef bool take_fn(struct output *output, struct arena *arena, const char *value);

static bool take_names(struct output *output, struct arena *arena, const char *value)
{
    split(value, arena, &output->names);
    return true;
}

static bool take_push(struct output *output, struct arena *arena, const char *value)
{
    output->push = !is_false(value);
    return true;
}

static bool take_store(struct output *output, struct arena *arena, const char *value)
{
    output->unseen = is_false(value);
    return true;
}

static bool take_times(struct output *output, struct arena *arena, const char *value)
{
    output->times = !is_false(value);
    return true;
}

static bool take_mode(struct output *output, struct arena *arena, const char *value)
{
    output->mirror = str_eq(value, "delete");
    return output->mirror || str_empty(value) || str_eq(value, "copy");
}

static bool take_compression(struct output *output, struct arena *arena, const char *value)
{
    bool own = str_eq(value, output->kind == OUTPUT_IMAGE ? "gzip" : "uncompressed"); // as of docker push, and of docker save
    output->compression = own ? NULL : arena_strdup(arena, value);
    return own || str_eq(value, "gzip") || str_eq(value, "zstd") || str_eq(value, "uncompressed");
}

static bool take_level(struct output *output, struct arena *arena, const char *value)
{
    int64_t level;
    if (!num_parse_i64(slice_of(value), &level) || level < 0 || level > 22)
        return false;
    output->level = (int)level;
    return true;
}

static bool take_types(struct output *output, struct arena *arena, const char *value)
{
    output->docker_types = is_false(value);
    output->oci_types = !output->docker_types && output->kind == OUTPUT_IMAGE;
    return true;
}

static bool take_tar(struct output *output, struct arena *arena, const char *value)
{
    output->folder = !str_empty(value) && is_false(value);
    return true;
}

static bool take_by_digest(struct output *output, struct arena *arena, const char *value)
{
    output->by_digest = !is_false(value);
    output->unseen |= output->by_digest;
    return true;
}

static bool take_prefix(struct output *output, struct arena *arena, const char *value)
{
    output->prefix = arena_strdup(arena, value);
    return !strchr(value, '/');
}

static bool take_true(struct output *output, struct arena *arena, const char *value)
{
    return str_empty(value) || !is_false(value);
}

static bool take_false(struct output *output, struct arena *arena, const char *value)
{
    return is_false(value);
}

// It says nothing about what comes out here.
static bool pass(struct output *output, struct arena *arena, const char *value)
{
    return true;
}

static const struct {
    const char *name;
    unsigned kinds;
    take_fn *take;
} attributes[] = {
    { "name", OUTPUT_IMAGE | ARCHIVES, take_names },
    { "push", OUTPUT_IMAGE, take_push },
    { "store", OUTPUT_IMAGE, take_store },
    { "rewrite-timestamp", OUTPUT_IMAGE | ARCHIVES, take_times },
    { "mode", OUTPUT_LOCAL, take_mode },
    { "compression", OUTPUT_IMAGE | ARCHIVES, take_compression },
    { "compression-level", OUTPUT_IMAGE | ARCHIVES, take_level },
    { "force-compression", OUTPUT_IMAGE | ARCHIVES, pass }, // every layer is compressed anew where it is asked for
    { "oci-mediatypes", OUTPUT_IMAGE | ARCHIVES, take_types },
    { "tar", ARCHIVES, take_tar },
    { "push-by-digest", OUTPUT_IMAGE, take_by_digest },
    { "name-canonical", OUTPUT_IMAGE, pass },
    { "unpack", OUTPUT_IMAGE, pass },
    { "prefer-image-digest", ANY, pass },
    { "platform-split", FILES, take_true },
    { "attestation-prefix", FILES, take_prefix },
    { NULL, ANY, take_false },
};

static const struct {
    const char *type;
    enum output_kind kind;
} types[] = {
    { "moby", OUTPUT_IMAGE }, { "image", OUTPUT_IMAGE }, { "local", OUTPUT_LOCAL },
    { "tar", OUTPUT_TAR }, { "oci", OUTPUT_OCI }, { "docker", OUTPUT_DOCKER },
};

static int take_attribute(struct solve *solve, struct output *output, const char *type, const struct kv *attribute, struct err *err)
{
    const char *key = attribute->key, *value = attribute->value ? attribute->value : "";
    size_t row = 0;
    if (str_starts(key, "annotation") && output->kind & (OUTPUT_IMAGE | ARCHIVES))
        return annotation_take(output, &solve->arena, key, value, err);
    while (attributes[row].name && (!str_eq(attributes[row].name, key) || !(attributes[row].kinds & output->kind)))
        row++;
    if (attributes[row].take(output, &solve->arena, value))
        return 0;
    return err_set(err, ERR_NOT_IMPLEMENTED, "--output type=%.60s: %.60s=%.100s is not supported", type, key, value);
}

// What the daemon's own images have no place for.
static int check_own(const struct output *output, const char *type, struct err *err)
{
    if (output->push || output->kind != OUTPUT_IMAGE)
        return 0;
    if (output->annotation_len)
        return err_set(err, ERR_NOT_IMPLEMENTED, "--annotation %.100s=%.100s is not supported: images of this daemon have none", output->annotations[0].key,
                       output->annotations[0].value);
    if (output->compression)
        return err_set(err, ERR_NOT_IMPLEMENTED, "--output type=%.60s: compression=%.60s is not supported without push=true", type, output->compression);
    return 0;
}

int output_add(struct solve *solve, const char *type, const struct kvs *said, struct err *err)
{
    struct output output = { .level = -1 };
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (str_eq(types[i].type, type))
            output.kind = types[i].kind;
    if (!output.kind)
        return err_set(err, ERR_NOT_IMPLEMENTED, "exporter \"%.60s\" could not be found", type);
    if (solve->output_len == OUTPUTS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %d outputs", OUTPUTS_MAX);
    for (size_t i = 0; i < said->len; i++)
        if (take_attribute(solve, &output, type, &said->items[i], err) < 0)
            return -1;
    if (output.push && output.names.len == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "tag is needed when pushing to registry");
    if (check_own(&output, type, err) < 0)
        return -1;
    solve->outputs[solve->output_len++] = output;
    return 0;
}

static void add_name(const char *name, struct arena *arena, struct strv *out)
{
    if (!strv_has(out, name))
        strv_push_arena(out, arena, name);
}

bool outputs_names(const struct solve *solve, struct arena *arena, struct strv *out)
{
    bool seen = false;
    for (size_t i = 0; i < solve->output_len; i++) {
        const struct output *output = &solve->outputs[i];
        if (output->kind != OUTPUT_IMAGE || output->unseen)
            continue;
        seen = true;
        for (size_t at = 0; at < output->names.len; at++)
            add_name(output->names.items[at], arena, out);
    }
    return seen;
}

void outputs_all_names(const struct solve *solve, struct arena *arena, struct strv *out)
{
    const struct buildkit_config *config = &solve->buildkit->config;
    for (size_t i = 0; i < solve->output_len; i++) {
        const struct output *output = &solve->outputs[i];
        for (size_t at = 0; at < output->names.len; at++)
            add_name(output->kind & ARCHIVES ? config->full_name(output->names.items[at], arena) : output->names.items[at], arena, out);
    }
}

bool outputs_times(const struct solve *solve)
{
    for (size_t i = 0; i < solve->output_len; i++)
        if (solve->outputs[i].times)
            return true;
    return false;
}
