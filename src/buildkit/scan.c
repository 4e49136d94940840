// Bills of materials: a generator's image is run over each result (the caller does that, as a build of its own), and what it wrote is taken up. A file
// is an in-toto statement, of which the predicate stays; its subject is the image.
#include "untar.h"

#define SUFFIX ".spdx.json"
#define SPDX "https://spdx.dev/Document"
#define FILES_MAX 64
#define TEXT_MAX ((size_t)40 << 20) // as BuildKit has it

struct scanning {
    struct untar untar;
    struct arena *arena;
    struct buildkit_statement *statements;
    size_t len;
    bool wanted;
    struct buf text;
};

static int begin_file(void *of, const struct stat_message *stat, struct err *err)
{
    struct scanning *scanning = of;
    size_t size = strlen(stat->path), suffix = strlen(SUFFIX);
    bool file = !(stat->mode & (MODE_DIR | MODE_SYMLINK | MODE_DEVICE | MODE_PIPE)) && str_empty(stat->linkname);
    scanning->wanted = file && !strchr(stat->path, '/') && size > suffix && str_eq(stat->path + size - suffix, SUFFIX);
    buf_clear(&scanning->text);
    if (scanning->wanted && scanning->len == FILES_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "the generator wrote more than %d files", FILES_MAX);
    return 0;
}

static int add_text(void *of, const char *data, size_t size, struct err *err)
{
    struct scanning *scanning = of;
    if (scanning->wanted)
        buf_add(&scanning->text, data, size);
    return buf_check(&scanning->text, "what the generator wrote", err);
}

static int end_file(void *of, const struct stat_message *stat, struct err *err)
{
    struct scanning *scanning = of;
    _cleanup_json_ json_t *document = NULL;
    if (!scanning->wanted)
        return 0;
    if (json_parse(buf_text(&scanning->text), scanning->text.size, &document, err) < 0)
        return err_wrap(err, "%.100s", stat->path);
    json_t *predicate = json_object_get(document, "predicate");
    if (!predicate || !str_eq(json_get_text(document, "predicateType", ""), SPDX))
        return err_set(err, ERR_INVALID_ARGUMENT, "bundle entry %.100s does not match required predicate type " SPDX, stat->path);
    scanning->statements[scanning->len++] = (struct buildkit_statement){ SPDX, json_incref(predicate), arena_strdup(scanning->arena, stat->path) };
    return 0;
}

static int take_bytes(void *of, const char *data, size_t size, struct err *err)
{
    struct scanning *scanning = of;
    return untar_add(&scanning->untar, data, size, err);
}

static int read_files(const struct buildkit_config *config, const char *image, struct scanning *scanning, const struct cancel *cancel, struct err *err)
{
    const struct files_sink sink = { begin_file, add_text, end_file, scanning };
    const struct buildkit_export export = { .image = image };
    untar_init(&scanning->untar, &sink);
    int result = config->export(config->of, &export, take_bytes, scanning, cancel, err);
    untar_done(&scanning->untar);
    buf_done(&scanning->text);
    return result;
}

int scan_result(struct solve *solve, struct buildkit_session *session, struct solve_result *result, const struct cancel *cancel, struct err *err)
{
    const struct buildkit_config *config = &solve->buildkit->config;
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    const char *generator = str_empty(solve->attest.generator) ? "docker/buildkit-syft-scanner:stable-1" : solve->attest.generator;
    struct stream stream = { .solve = solve };
    struct scanning scanning = { .arena = &solve->arena, .text = BUF_INIT(TEXT_MAX) };
    char *image;
    scanning.statements = result->statements = arena_alloc(&solve->arena, FILES_MAX * sizeof(*result->statements));
    step_start(&stream.step, solve, arena_printf(&arena, "[%s] generating sbom using %s", result->platform, generator));
    int made = config->scan(config->of, session, generator, result->image, stream_take, &stream, &arena, &image, cancel, err);
    if (made == 0)
        made = read_files(config, image, &scanning, cancel, err);
    result->statement_len = scanning.len;
    if (made == 0 && scanning.len == 0)
        made = err_set(err, ERR_INVALID_ARGUMENT, "%s wrote no *" SUFFIX, generator);
    stream_end(&stream, made < 0 ? err : NULL);
    return made;
}

void scan_done(struct solve *solve)
{
    for (size_t i = 0; i < solve->result_len; i++)
        for (size_t at = 0; at < solve->results[i].statement_len; at++)
            json_decref(solve->results[i].statements[at].predicate);
}
