// --output: an image of this daemon (and, with push, of its registry), its files in a folder of the client's, or one archive. What a client may say
// of each stands in a table; the rest is refused by name.
#include "base/fd.h"
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

static bool take_plain(struct output *output, struct arena *arena, const char *value)
{
    return str_eq(value, "uncompressed");
}

static bool take_gzip(struct output *output, struct arena *arena, const char *value)
{
    return str_eq(value, "gzip");
}

static bool take_true(struct output *output, struct arena *arena, const char *value)
{
    return !is_false(value);
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
    { "compression", ARCHIVES, take_plain }, // as of docker save
    { "compression", OUTPUT_IMAGE, take_gzip }, // as of docker push
    { "oci-mediatypes", OUTPUT_OCI, take_true },
    { "tar", ARCHIVES, take_true },
    { "unpack", OUTPUT_IMAGE, pass },
    { "prefer-image-digest", ANY, pass },
    { "force-compression", OUTPUT_IMAGE | ARCHIVES, pass },
    { "platform-split", FILES, pass }, // there is one platform
    { "attestation-prefix", FILES, pass },
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
    while (attributes[row].name && (!str_eq(attributes[row].name, key) || !(attributes[row].kinds & output->kind)))
        row++;
    if (attributes[row].take(output, &solve->arena, value))
        return 0;
    if (str_starts(key, "annotation"))
        return err_set(err, ERR_NOT_IMPLEMENTED, "--annotation %.100s=%.100s is not supported: images of this daemon have none",
                       strchr(key, '.') ? strchr(key, '.') + 1 : key, value);
    return err_set(err, ERR_NOT_IMPLEMENTED, "--output type=%.60s: %.60s=%.100s is not supported", type, key, value);
}

int output_add(struct solve *solve, const char *type, const struct kvs *said, struct err *err)
{
    struct output output = { 0 };
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
    if (output.push && output.unseen)
        return err_set(err, ERR_NOT_IMPLEMENTED, "--output type=%.60s: push=true with store=false is not supported", type);
    solve->outputs[solve->output_len++] = output;
    return 0;
}

bool outputs_names(const struct solve *solve, struct arena *arena, struct strv *out)
{
    bool seen = false;
    for (size_t i = 0; i < solve->output_len; i++) {
        const struct output *output = &solve->outputs[i];
        if (output->kind != OUTPUT_IMAGE || output->unseen)
            continue;
        seen = true;
        for (size_t n = 0; n < output->names.len; n++)
            if (!strv_has(out, output->names.items[n]))
                strv_push_arena(out, arena, output->names.items[n]);
    }
    return seen;
}

bool outputs_times(const struct solve *solve)
{
    for (size_t i = 0; i < solve->output_len; i++)
        if (solve->outputs[i].times)
            return true;
    return false;
}

// ---- one output -----------------------------------------------------------------------------------------------------

struct running {
    struct solve *solve;
    struct buildkit_session *session;
    const struct output *output;
    const struct buildkit_config *config;
    struct buildkit_export export;
    struct arena *arena;
    const struct cancel *cancel;
    int tree_fd;
};

static int make(void *of, buildkit_bytes_fn *bytes, void *bytes_of, struct err *err)
{
    const struct running *running = of;
    return running->config->export(running->config->of, &running->export, bytes, bytes_of, running->cancel, err);
}

static int open_file(void *of, const char *path, struct err *err)
{
    const struct running *running = of;
    return running->config->file(running->config->of, running->tree_fd, path, err);
}

static int give_folder(struct running *running, const struct send_target *target, struct err *err)
{
    const struct send_tree tree = { make, open_file, running };
    running->tree_fd = running->config->tree(running->config->of, running->export.image, err);
    return running->tree_fd < 0 ? -1 : send_folder(target, &tree, err);
}

static int give(struct running *running, size_t number, struct err *err)
{
    static const struct {
        enum output_kind kind;
        const char *name;
    } rows[] = { { OUTPUT_LOCAL, "exporting to client directory" }, { OUTPUT_TAR, "exporting to client tarball" },
                 { OUTPUT_OCI, "exporting to oci image format" }, { OUTPUT_DOCKER, "exporting to docker image format" } };
    struct step step = { 0 };
    struct kv said = { (char *)"containerimage.config.digest", (char *)running->export.image };
    const struct kvs named = { &said, 1 };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (rows[i].kind == running->output->kind)
            step_start(&step, running->solve, rows[i].name);
    const struct send_target target = { .session = running->session, .number = number, .cancel = running->cancel, .step = &step,
                                        .said = running->export.archive ? &named : NULL, .mirror = running->output->mirror };
    int result = running->output->kind == OUTPUT_LOCAL ? give_folder(running, &target, err) : send_bytes(&target, make, running, err);
    step_end(&step, result < 0 ? err : NULL);
    return result;
}

static int push_names(const struct running *running, char **digest, struct err *err)
{
    const struct strv *names = &running->output->names;
    int result = 0;
    for (size_t i = 0; i < names->len && result == 0; i++) {
        struct stream stream = { .solve = running->solve };
        step_start(&stream.step, running->solve, arena_printf(running->arena, "pushing %s with docker", names->items[i]));
        result = running->config->push(running->config->of, running->session, NULL, names->items[i], stream_take, &stream, running->arena, digest,
                                       running->cancel, err);
        stream_end(&stream, result < 0 ? err : NULL);
    }
    return result;
}

static int run(struct solve *solve, const struct output *output, struct buildkit_session *session, struct arena *arena, char **digest,
               const struct cancel *cancel, struct err *err)
{
    mutex_lock(&solve->buildkit->lock);
    struct running running = { .solve = solve, .session = session, .output = output, .config = &solve->buildkit->config, .arena = arena,
                               .cancel = cancel, .tree_fd = -1,
                               .export = { .image = solve->image, .archive = output->kind & ARCHIVES, .names = output->names,
                                           .same_time = solve->same_time, .time = solve->time } };
    mutex_unlock(&solve->buildkit->lock);
    if (!running.export.image)
        return err_set(err, ERR_INVALID_ARGUMENT, "there is no result to export");
    if (output->kind == OUTPUT_IMAGE)
        return output->push ? push_names(&running, digest, err) : 0;
    int result = give(&running, (size_t)(output - solve->outputs), err);
    fd_close(running.tree_fd);
    return result;
}

static int push_cache(struct running *running, const char *name, struct err *err)
{
    const struct buildkit_config *config = running->config;
    struct stream stream = { .solve = running->solve };
    char *digest;
    step_start(&stream.step, running->solve, arena_printf(running->arena, "exporting cache to registry %s", name));
    int result = config->push(config->of, running->session, running->export.image, name, stream_take, &stream, running->arena, &digest, running->cancel, err);
    stream_end(&stream, result < 0 ? err : NULL);
    return result;
}

// *descriptor is what the client enters into the folder's index.
static int give_cache(struct running *running, const char *folder, char **descriptor, struct err *err)
{
    const struct content_store store = { running->session, arena_printf(running->arena, "local:%s", folder), running->cancel };
    struct step step;
    step_start(&step, running->solve, "exporting cache to client directory");
    int result = layout_send(&store, &step, make, running, running->arena, descriptor, err);
    step_end(&step, result < 0 ? err : NULL);
    return result;
}

// Once for all that are named: it is the same image.
static int give_caches(struct solve *solve, struct buildkit_session *session, struct arena *arena, struct outputs_said *said, const struct cancel *cancel,
                       struct err *err)
{
    struct running running = { .solve = solve, .session = session, .config = &solve->buildkit->config, .arena = arena, .cancel = cancel, .tree_fd = -1,
                               .export = { .image = solve->cache, .archive = true } };
    int result = 0;
    for (size_t i = 0; i < solve->cache_to_len && solve->cache && result == 0; i++) {
        const struct cache_place *place = &solve->cache_to[i];
        result = place->folder ? give_cache(&running, place->name, &said->cache, err) : push_cache(&running, place->name, err);
    }
    return result;
}

int outputs_run(struct solve *solve, struct arena *arena, struct outputs_said *said, const struct cancel *cancel, struct err *err)
{
    struct buildkit_session *session = NULL;
    *said = (struct outputs_said){ 0 };
    if (solve->output_len + solve->cache_to_len > 0 && session_get(solve->buildkit, solve->session, cancel, &session, err) < 0)
        return -1;
    int result = 0;
    for (size_t i = 0; i < solve->output_len && result == 0; i++)
        result = run(solve, &solve->outputs[i], session, arena, &said->digest, cancel, err);
    if (result == 0)
        result = give_caches(solve, session, arena, said, cancel, err);
    session_put(session);
    return result;
}
