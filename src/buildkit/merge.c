// The files of a result that is more than one image's root: a folder for each platform where there are several, and beside the files what attests
// them, with the digests of all of them. Made as a tar, which is looked at by our own reader (untar.c) on its way in and written anew.
#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "untar.h"

struct extra {
    const char *name, *text;
};

struct merge_part {
    const struct solve_result *result;
    const char *prefix; // "linux_amd64/", or ""
    int tree_fd;
    struct extra *extras; // by name
    size_t len;
};

static int export(struct merge *merge, const struct merge_part *part, buildkit_bytes_fn *bytes, void *of, struct err *err)
{
    const struct buildkit_config *config = &merge->solve->buildkit->config;
    const struct buildkit_export asked = { .image = part->result->image, .same_time = merge->solve->same_time, .time = merge->solve->time };
    return config->export(config->of, &asked, bytes, of, merge->cancel, err);
}

// ---- digests of all files -------------------------------------------------------------------------------------------

struct digesting {
    struct untar untar;
    json_t *subjects;
    gnutls_hash_hd_t hash;
    bool file;
};

static int digest_entry(void *of, const struct stat_message *stat, struct err *err)
{
    struct digesting *digesting = of;
    digesting->file = !(stat->mode & (MODE_DIR | MODE_SYMLINK | MODE_DEVICE | MODE_PIPE)) && str_empty(stat->linkname);
    return 0;
}

static int digest_content(void *of, const char *data, size_t size, struct err *err)
{
    struct digesting *digesting = of;
    if (digesting->file)
        gnutls_hash(digesting->hash, data, size);
    return 0;
}

static int digest_end(void *of, const struct stat_message *stat, struct err *err)
{
    struct digesting *digesting = of;
    unsigned char hash[32];
    char hex[65];
    if (!digesting->file)
        return 0;
    gnutls_hash_output(digesting->hash, hash);
    for (size_t i = 0; i < sizeof(hash); i++)
        snprintf(hex + 2 * i, 3, "%02x", hash[i]);
    json_t *name = json_new_text(stat->path);
    json_array_append_new(digesting->subjects, json_pack("{s:o, s:{s:s}}", "name", name, "digest", "sha256", hex));
    return 0;
}

static int digest_bytes(void *of, const char *data, size_t size, struct err *err)
{
    struct digesting *digesting = of;
    return untar_add(&digesting->untar, data, size, err);
}

static int list_subjects(struct merge *merge, const struct merge_part *part, json_t *subjects, struct err *err)
{
    struct digesting digesting = { .subjects = subjects };
    const struct files_sink sink = { digest_entry, digest_content, digest_end, &digesting };
    if (gnutls_hash_init(&digesting.hash, GNUTLS_DIG_SHA256) < 0)
        return err_set(err, ERR_INTERNAL, "no SHA-256");
    untar_init(&digesting.untar, &sink);
    int result = export(merge, part, digest_bytes, &digesting, err);
    untar_done(&digesting.untar);
    gnutls_hash_deinit(digesting.hash, NULL);
    return result;
}

// ---- what attests them ----------------------------------------------------------------------------------------------

static void add_extra(struct merge *merge, struct merge_part *part, const char *name, const char *type, json_t *predicate, json_t *subjects)
{
    _cleanup_json_ json_t *document = json_pack("{s:s, s:s, s:O, s:O}", "_type", "https://in-toto.io/Statement/v1", "predicateType", type, "subject", subjects,
                                                "predicate", predicate);
    _cleanup_free_ char *text = json_dumps(document, JSON_INDENT(2));
    const char *prefix = merge->output->prefix ? merge->output->prefix : "";
    part->extras[part->len++] = (struct extra){ arena_printf(merge->arena, "%s%s", prefix, name), arena_strdup(merge->arena, text ? text : "{}") };
}

static int by_name(const void *one, const void *other)
{
    return strcmp(((const struct extra *)one)->name, ((const struct extra *)other)->name);
}

static int add_extras(struct merge *merge, struct merge_part *part, struct err *err)
{
    const struct solve_result *result = part->result;
    const struct attest *attest = &merge->solve->attest;
    part->extras = arena_alloc(merge->arena, (result->statement_len + 2) * sizeof(*part->extras));
    if (!attest->provenance && !result->statement_len)
        return 0;
    _cleanup_json_ json_t *subjects = json_array();
    if (list_subjects(merge, part, subjects, err) < 0)
        return -1;
    if (attest->provenance) {
        const char *type;
        _cleanup_json_ json_t *predicate = provenance_make(merge->solve, result, merge->arena, &type);
        add_extra(merge, part, "provenance.json", type, predicate, subjects);
    }
    for (size_t i = 0; i < result->statement_len; i++)
        add_extra(merge, part, result->statements[i].name, result->statements[i].type, result->statements[i].predicate, subjects);
    qsort(part->extras, part->len, sizeof(*part->extras), by_name);
    return 0;
}

// ---- life -----------------------------------------------------------------------------------------------------------

int merge_open(struct merge *merge, struct err *err)
{
    const struct buildkit_config *config = &merge->solve->buildkit->config;
    merge->parts = arena_alloc(merge->arena, (merge->solve->result_len + 1) * sizeof(*merge->parts));
    for (size_t i = 0; i < merge->solve->result_len; i++) {
        const struct solve_result *result = &merge->solve->results[i];
        char *prefix = merge->solve->result_len > 1 ? arena_printf(merge->arena, "%s/", result->platform) : arena_strdup(merge->arena, "");
        for (char *slash = prefix; (slash = strchr(slash, '/')) && slash[1];)
            *slash = '_';
        struct merge_part *part = &merge->parts[merge->len++];
        *part = (struct merge_part){ .result = result, .prefix = prefix, .tree_fd = -1 };
        part->tree_fd = config->tree(config->of, result->image, err);
        if (part->tree_fd < 0 || add_extras(merge, part, err) < 0)
            return -1;
    }
    return 0;
}

void merge_done(struct merge *merge)
{
    for (size_t i = 0; i < merge->len; i++)
        fd_close(merge->parts[i].tree_fd);
    merge->len = 0;
}

int merge_file(void *of, const char *path, struct err *err)
{
    struct merge *merge = of;
    const struct buildkit_config *config = &merge->solve->buildkit->config;
    for (size_t i = 0; i < merge->len; i++) {
        const struct merge_part *part = &merge->parts[i];
        const char *rest = path + strlen(part->prefix);
        if (!str_starts(path, part->prefix))
            continue;
        for (size_t at = 0; at < part->len; at++)
            if (str_eq(part->extras[at].name, rest)) {
                int fd = memfd_create("attestation", MFD_CLOEXEC);
                if (fd < 0 || fd_write_full(fd, part->extras[at].text, strlen(part->extras[at].text), err) < 0 || lseek(fd, 0, SEEK_SET) < 0) {
                    fd_close(fd);
                    return fd < 0 ? err_errno(err, errno, "memfd_create") : -1;
                }
                return fd;
            }
        return config->file(config->of, part->tree_fd, rest, err);
    }
    return err_set(err, ERR_NOT_FOUND, "%.300s: no such file", path);
}

// ---- the tar --------------------------------------------------------------------------------------------------------

struct writing {
    struct merge *merge;
    const struct merge_part *part;
    struct untar untar;
    struct files_sink out;
    size_t extra; // of the part's, the next one
};

static int write_extra(struct writing *writing, const struct extra *extra, struct err *err)
{
    const struct solve *solve = writing->merge->solve;
    _cleanup_free_ char *path = mem_printf("%s%s", writing->part->prefix, extra->name);
    const struct stat_message stat = { .path = path, .mode = 0600, .size = (int64_t)strlen(extra->text),
                                       .mtime_ns = solve->same_time ? solve->time * NS_PER_S : clock_wall_ns() };
    const struct files_sink *out = &writing->out;
    return out->entry(out->of, &stat, err) < 0 || out->content(out->of, extra->text, strlen(extra->text), err) < 0 ? -1 : out->entry_end(out->of, &stat, err);
}

// Those that stand before the path, in the order that a client's side wants; path NULL: all that are left.
static int write_extras(struct writing *writing, const char *path, struct err *err)
{
    const struct merge_part *part = writing->part;
    for (; writing->extra < part->len; writing->extra++) {
        const struct extra *extra = &part->extras[writing->extra];
        size_t size = path ? strcspn(path, "/") : 0;
        int order = path ? strncmp(extra->name, path, size) : -1;
        if (order > 0 || (order == 0 && extra->name[size]))
            return 0;
        if (path && order == 0)
            continue; // the image has one of that name: its own stays
        if (write_extra(writing, extra, err) < 0)
            return -1;
    }
    return 0;
}

// Of a hard link the other name is in the same folder.
static int write_entry(void *of, const struct stat_message *stat, struct err *err)
{
    struct writing *writing = of;
    struct stat_message moved = *stat;
    const char *prefix = writing->part->prefix;
    if (write_extras(writing, stat->path, err) < 0)
        return -1;
    bool hard = !str_empty(stat->linkname) && !(stat->mode & MODE_SYMLINK);
    _cleanup_free_ char *path = mem_printf("%s%s", prefix, stat->path), *link = hard ? mem_printf("%s%s", prefix, stat->linkname) : NULL;
    moved.path = path;
    moved.linkname = hard ? link : stat->linkname;
    return writing->out.entry(writing->out.of, &moved, err);
}

static int write_content(void *of, const char *data, size_t size, struct err *err)
{
    struct writing *writing = of;
    return writing->out.content(writing->out.of, data, size, err);
}

static int write_end(void *of, const struct stat_message *stat, struct err *err)
{
    struct writing *writing = of;
    return writing->out.entry_end(writing->out.of, stat, err);
}

static int write_bytes(void *of, const char *data, size_t size, struct err *err)
{
    struct writing *writing = of;
    return untar_add(&writing->untar, data, size, err);
}

static int write_folder(struct writing *writing, struct err *err)
{
    const struct solve *solve = writing->merge->solve;
    _cleanup_free_ char *path = mem_strdup(writing->part->prefix);
    if (!*path)
        return 0;
    path[strlen(path) - 1] = '\0';
    const struct stat_message stat = { .path = path, .mode = MODE_DIR | 0755, .mtime_ns = solve->same_time ? solve->time * NS_PER_S : clock_wall_ns() };
    return writing->out.entry(writing->out.of, &stat, err) < 0 ? -1 : writing->out.entry_end(writing->out.of, &stat, err);
}

static int write_part(struct merge *merge, const struct merge_part *part, const struct files_sink *out, struct err *err)
{
    struct writing writing = { .merge = merge, .part = part, .out = *out };
    const struct files_sink sink = { write_entry, write_content, write_end, &writing };
    untar_init(&writing.untar, &sink);
    int result = write_folder(&writing, err);
    if (result == 0)
        result = export(merge, part, write_bytes, &writing, err);
    if (result == 0)
        result = untar_end(&writing.untar, err);
    untar_done(&writing.untar);
    return result < 0 ? -1 : write_extras(&writing, NULL, err);
}

static int by_prefix(const void *one, const void *other)
{
    return strcmp(((const struct merge_part *)one)->prefix, ((const struct merge_part *)other)->prefix);
}

int merge_make(void *of, buildkit_bytes_fn *bytes, void *bytes_of, struct err *err)
{
    struct merge *merge = of;
    struct tar_out *tar = mem_new(struct tar_out);
    struct files_sink sink;
    int result = 0;
    tar->fd = -1;
    tar->bytes = bytes;
    tar->bytes_of = bytes_of;
    tar_sink(tar, &sink);
    qsort(merge->parts, merge->len, sizeof(*merge->parts), by_prefix);
    for (size_t i = 0; i < merge->len && result == 0; i++)
        result = write_part(merge, &merge->parts[i], &sink, err);
    if (result == 0)
        result = tar_end(tar, err);
    free(tar);
    return result;
}
