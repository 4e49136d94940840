// COPY and ADD.
#include <errno.h>

#include "build/chmod.h"
#include "builder_private.h"

#define CHMOD_SIZE_MAX 256
#define NOT_OPENED (-2) // a source's tree: from_fd, once that is open

struct copying {
    struct stage *stage;
    const struct copy_fields *fields;
    const char *name; // "COPY"
    const char *said; // the instruction's meaning, as a key has it
    struct step_source *sources;
    size_t len;
    struct step_place place;
    struct step_sources looked;
    int from_fd; // the tree of the context, or of --from; -1: it is not open
    bool origin_known; // something is taken of it
    const struct listing *listing; // what is in it; NULL: that is not known
    const char *image; // whose tree it is; NULL: no image's
    int files_fd; // the tree of heredocs; -1
    struct remote *remotes; // sources[remote_at[i]] is remotes[i]
    size_t *remote_at, remote_len;
};

static void copying_done(struct copying *copying)
{
    for (size_t i = 0; i < copying->remote_len; i++)
        remote_done(&copying->remotes[i]);
    fd_close(copying->from_fd);
    fd_close(copying->files_fd);
}

// ---- what is asked for ----------------------------------------------------------------------------------------------

static int check(const struct copying *copying, bool add, struct err *err)
{
    const struct copy_fields *fields = copying->fields;
    bool remote = false;
    for (size_t i = 0; i < fields->sources.len; i++) {
        const char *source = fields->sources.items[i];
        remote = remote || remote_is(source);
        if (!add && remote_is(source))
            return err_set(err, ERR_INVALID_ARGUMENT, "source can't be %s for COPY", remote_is_git(source) ? "a git ref" : "a URL");
    }
    if (fields->checksum && fields->sources.len + fields->files_len > 1)
        return err_set(err, ERR_INVALID_ARGUMENT, "checksum can't be specified for multiple sources");
    if (fields->checksum && !remote)
        return err_set(err, ERR_INVALID_ARGUMENT, "checksum requires HTTP(S) or Git sources");
    return 0;
}

// Octal, or a change.
static int parse_mode(const char *text, struct step_place *place, struct err *err)
{
    uint64_t mode;
    uint32_t changed = 0;
    place->mode = -1;
    if (str_empty(text))
        return 0;
    if (num_parse_octal(slice_of(text), 07777, &mode))
        place->mode = (int64_t)mode;
    else if (*text >= '0' && *text <= '9')
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid chmod parameter: '%.64s'. it should be octal string and between 0 and 07777", text);
    else if (strlen(text) > CHMOD_SIZE_MAX || !chmod_apply(text, false, &changed))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid chmod parameter: '%.64s': invalid syntax", text);
    else
        place->chmod = text;
    return 0;
}

// ---- sources --------------------------------------------------------------------------------------------------------

// Heredocs become files of a folder of ours.
static int write_files(struct copying *copying, struct err *err)
{
    struct build *build = copying->stage->build;
    const struct copy_fields *fields = copying->fields;
    const char *folder = arena_printf(build->arena, "files-%u", build->folders++);
    if (fields->files_len == 0)
        return 0;
    _cleanup_close_ int files = workshop_folder(build->workshop, folder, err);
    copying->files_fd = files < 0 ? -1 : tree_of_folder(files, err);
    if (copying->files_fd < 0)
        return -1;
    for (size_t i = 0; i < fields->files_len; i++) {
        const struct inline_file *file = &fields->files[i];
        if (workshop_write(build->workshop, folder, file->name, file->content, strlen(file->content), 0644, err) < 0)
            return -1;
        copying->sources[copying->len++] = (struct step_source){ .tree_fd = copying->files_fd, .path = arena_printf(build->arena, "/%s", file->name) };
    }
    return 0;
}

// Where files are taken from, without a look into it.
static int find_origin(struct copying *copying, struct err *err)
{
    struct build *build = copying->stage->build;
    const char *from = copying->fields->from;
    struct named *named = named_find(build, from);
    copying->origin_known = true;
    if (!named && from)
        return find_from(copying->stage, from, &copying->image, err);
    if (named && named_bring(build, named, err) < 0)
        return -1;
    copying->image = named ? named_id(named) : NULL;
    copying->listing = named ? named_listing(named) : build->context->listing;
    return 0;
}

// Its tree, when it is needed.
static int open_from(struct copying *copying, struct err *err)
{
    const char *from = copying->fields->from;
    if (copying->from_fd < 0)
        copying->from_fd = from ? open_from_tree(copying->stage, from, err) : context_tree(copying->stage->build, err);
    for (size_t i = 0; i < copying->len; i++)
        if (copying->sources[i].tree_fd == NOT_OPENED)
            copying->sources[i].tree_fd = copying->from_fd;
    return copying->from_fd < 0 ? -1 : 0;
}

static bool has_wildcard(const char *path)
{
    for (; *path; path++) {
        if (*path == '*' || *path == '?' || *path == '[')
            return true;
        if (*path == '\\' && !*++path)
            return false;
    }
    return false;
}

// --parents: what stands before "/./" is the folder whose parts are copied, with all folders on the way to them; else that is the context.
static struct step_source with_parents(const struct copying *copying, const char *path)
{
    struct arena *arena = copying->stage->build->arena;
    const char *pivot = strstr(path, "/./"), *folder = pivot ? arena_strndup(arena, path, (size_t)(pivot - path)) : "";
    const char *part = join_path(arena, "/", pivot ? pivot + 3 : path) + 1;
    struct step_source source = { .tree_fd = NOT_OPENED, .path = join_path(arena, "/", folder), .include = part };
    if (!has_wildcard(source.path) && !has_wildcard(part))
        source.required = join_path(arena, source.path, part);
    if (!*part) // all of it
        source.include = "**";
    return source;
}

static int add_remote(struct copying *copying, const char *path, struct err *err)
{
    struct remote *remote = &copying->remotes[copying->remote_len];
    if (remote_look(copying->stage, path, copying->fields, remote, err) < 0)
        return err_wrap(err, "%s failed", copying->name);
    copying->remote_at[copying->remote_len++] = copying->len;
    copying->sources[copying->len++] = (struct step_source){ .tree_fd = -1, .path = remote->path, .unpack = copying->fields->unpack == TRISTATE_TRUE };
    return 0;
}

static int add_path(struct copying *copying, const char *path, bool unpack, struct err *err)
{
    if (!copying->origin_known && find_origin(copying, err) < 0)
        return -1;
    const struct step_source plain = { .tree_fd = NOT_OPENED, .listing = copying->listing, .path = path, .unpack = unpack };
    copying->sources[copying->len++] = copying->fields->parents ? with_parents(copying, path) : plain;
    return 0;
}

static int list_sources(struct copying *copying, bool add, struct err *err)
{
    struct arena *arena = copying->stage->build->arena;
    const struct copy_fields *fields = copying->fields;
    size_t len = fields->sources.len + fields->files_len + 1;
    copying->sources = arena_alloc(arena, len * sizeof(*copying->sources));
    copying->remotes = arena_alloc(arena, len * sizeof(*copying->remotes));
    copying->remote_at = arena_alloc(arena, len * sizeof(*copying->remote_at));
    for (size_t i = 0; i < fields->sources.len; i++) {
        const char *path = fields->sources.items[i];
        if ((remote_is(path) ? add_remote(copying, path, err) : add_path(copying, path, add && fields->unpack != TRISTATE_FALSE, err)) < 0)
            return -1;
    }
    return write_files(copying, err);
}

static int plan(struct copying *copying, struct err *err)
{
    struct stage *stage = copying->stage;
    struct build *build = stage->build;
    const struct copy_fields *fields = copying->fields;
    size_t size = strlen(fields->target);
    bool slash = size > 0 && (fields->target[size - 1] == '/' || str_eq(fields->target, ".") || (size > 1 && str_eq(fields->target + size - 2, "/.")));
    const char *target = join_path(build->arena, stage->config.working_dir, fields->target);
    copying->place = (struct step_place){ .sources = copying->sources, .source_len = copying->len, .target = target, .folder = slash || copying->len > 1 || fields->parents,
                                          .excludes = &fields->excludes, .owner = owner_words(build->arena, fields->chown), .roots = !fields->from, .time_max = build->time_max,
                                          .now = build->created_ns / NS_PER_S, .optional = build->request->live };
    if (copying->len > 1 && !slash)
        return err_set(err, ERR_INVALID_ARGUMENT, "When using %s with more than one source file, the destination must be a directory and end with a /",
                       copying->name);
    return parse_mode(fields->chmod, &copying->place, err);
}

// ---- the step -------------------------------------------------------------------------------------------------------

static int explain(const struct copying *copying, struct err *err)
{
    if (err->class == ERR_NOT_FOUND && err->number == ENOENT) {
        char *path = arena_strdup(copying->stage->build->arena, err->message), *reason = strrchr(path, ':');
        if (reason)
            *reason = '\0';
        return err_set(err, ERR_NOT_FOUND, "%s failed: file not found in build context or excluded by .dockerignore: stat %.400s: file does not exist",
                       copying->name, path);
    }
    return err_wrap(err, "%s failed", copying->name);
}

// "file:DIGEST in /target "; the digest is that of all that is read.
static const char *describe(const struct copying *copying)
{
    struct arena *arena = copying->stage->build->arena;
    const char *path = copying->sources[0].path;
    size_t size = strlen(path);
    bool folder = size == 0 || path[size - 1] == '/' || path[size - 1] == '.';
    const char *chown = copying->place.owner ? arena_printf(arena, "--chown=%s ", copying->place.owner) : "",
               *chmod = str_empty(copying->fields->chmod) ? "" : arena_printf(arena, "--chmod=%s ", copying->fields->chmod);
    const char *link = copying->fields->link ? "--link " : "", *parents = copying->fields->parents ? "--parents " : "";
    return arena_printf(arena, "%s #(nop) %s %s%s%s%s%s:%s in %s ", shell_words(copying->stage), copying->name, link, parents, chown, chmod, copying->len > 1 ? "multi" : folder ? "dir" : "file",
                        oci_digest_hex(copying->looked.digest), copying->place.target);
}

// At the files themselves, for which of them are archives; the key has its digest already.
static int look_again(struct copying *copying, struct err *err)
{
    struct build *build = copying->stage->build;
    char digest[OCI_DIGEST_SIZE];
    memcpy(digest, copying->looked.digest, sizeof(digest));
    if (place_look(build->engine, &copying->place, build->arena, &copying->looked, build->cancel, err) < 0)
        return explain(copying, err);
    memcpy(copying->looked.digest, digest, sizeof(digest));
    return 0;
}

static bool lacks_archives(const struct copying *copying)
{
    for (size_t i = 0; i < copying->len; i++)
        if (copying->sources[i].unpack && copying->looked.listed)
            return true;
    return copying->remote_len > 0;
}

// What is elsewhere is fetched now, if it was not to know what it is.
static int fetch_remotes(struct copying *copying, struct err *err)
{
    for (size_t i = 0; i < copying->remote_len; i++) {
        if (remote_fetch(copying->stage, &copying->remotes[i], err) < 0)
            return err_wrap(err, "%s failed", copying->name);
        copying->sources[copying->remote_at[i]].tree_fd = copying->remotes[i].tree_fd;
    }
    return 0;
}

static int make_layer(struct copying *copying, const struct step *step, char **id, struct err *err)
{
    struct build *build = copying->stage->build;
    if (copying->origin_known && open_from(copying, err) < 0)
        return -1;
    if (fetch_remotes(copying, err) < 0 || (lacks_archives(copying) && look_again(copying, err) < 0))
        return -1;
    if (step_place(build->engine, step, &copying->place, &copying->looked, build->arena, id, build->cancel, err) < 0)
        return explain(copying, err);
    return 0;
}

// --link: the layer is made of an empty tree, once for whatever it comes to stand on, and known by what it is alone: an image of its own.
static int find_linked(struct copying *copying, const char *created_by, struct image *out, struct err *err)
{
    struct build *build = copying->stage->build;
    const struct oci_image_process nothing = { 0 };
    struct stage alone = { .build = build, .index = copying->stage->index, .config = nothing };
    char key[OCI_DIGEST_SIZE], *id;
    cache_key(&alone, created_by, copying->said, key);
    int found = cache_take(&alone, key, err);
    if (found < 0)
        return -1;
    if (found == 0) {
        struct step step = step_of(&alone, created_by);
        if (make_layer(copying, &step, &id, err) < 0)
            return -1;
        alone.image = id;
        cache_put(&alone, key, NULL, created_by);
    }
    return image_get(engine_images(build->engine), alone.image, build->arena, out, err);
}

static int make_linked(struct copying *copying, struct step *step, char **id, struct err *err)
{
    struct build *build = copying->stage->build;
    struct image layer;
    if (find_linked(copying, step->created_by, &layer, err) < 0)
        return -1;
    if (layer.config.rootfs.diff_ids.len > 0) {
        step->diff_id = layer.config.rootfs.diff_ids.items[0];
        step->layer_size = layer.layer_sizes[0];
    }
    return step_plain(build->engine, step, build->arena, id, err);
}

static int make(struct copying *copying, const char *created_by, struct err *err)
{
    struct step step = step_of(copying->stage, created_by);
    char *id;
    if ((copying->fields->link ? make_linked(copying, &step, &id, err) : make_layer(copying, &step, &id, err)) < 0)
        return -1;
    copying->stage->image = id;
    return 0;
}

// Of an image that is all once known; of a list without a look at a file.
static int look_here(struct copying *copying, struct step_place *here, struct step_source *sources, struct err *err)
{
    struct build *build = copying->stage->build;
    bool whole = copying->image && here->source_len == copying->len && copying->files_fd < 0;
    int known = whole ? look_recall(build->builder, copying->image, here, copying->looked.digest, err) : 0;
    if (known != 0 || place_listed(here, build->arena, &copying->looked))
        return known < 0 ? -1 : 0;
    if (copying->origin_known && open_from(copying, err) < 0)
        return -1;
    for (size_t i = 0, k = 0; i < copying->len; i++)
        if (copying->sources[i].tree_fd != -1)
            sources[k++] = copying->sources[i];
    if (place_look(build->engine, here, build->arena, &copying->looked, build->cancel, err) < 0)
        return explain(copying, err);
    if (whole)
        look_remember(build->builder, copying->image, here, copying->looked.digest);
    return 0;
}

// What is here by what it is, what is elsewhere by its identity: one digest of both.
static int look(struct copying *copying, struct err *err)
{
    struct build *build = copying->stage->build;
    struct step_place here = copying->place;
    struct step_source *sources = arena_alloc(build->arena, (copying->len + 1) * sizeof(*sources));
    here.sources = sources;
    here.source_len = 0;
    for (size_t i = 0; i < copying->len; i++)
        if (copying->sources[i].tree_fd != -1)
            sources[here.source_len++] = copying->sources[i];
    if ((here.source_len > 0 || copying->remote_len == 0) && look_here(copying, &here, sources, err) < 0)
        return -1;
    if (copying->remote_len == 0)
        return 0;
    char *text = arena_printf(build->arena, "%s\n", copying->looked.digest);
    for (size_t i = 0; i < copying->remote_len; i++)
        text = arena_printf(build->arena, "%s%s\n", text, copying->remotes[i].identity);
    image_digest(text, strlen(text), copying->looked.digest);
    return 0;
}

static int run(struct copying *copying, struct err *err)
{
    struct stage *stage = copying->stage;
    char key[OCI_DIGEST_SIZE];
    if (look(copying, err) < 0)
        return -1;
    const char *created_by = describe(copying), *parent = stage->image;
    cache_key(stage, created_by, copying->said, key);
    int hit = cache_find(stage, key, created_by, err);
    if (hit != 0)
        return hit < 0 ? -1 : 0;
    if (make(copying, created_by, err) < 0)
        return -1;
    cache_put(stage, key, parent, created_by);
    return 0;
}

int step_copy(struct stage *stage, const struct instruction *instruction, struct err *err)
{
    bool add = instruction->kind == INSTRUCTION_ADD;
    _cleanup_(copying_done) struct copying copying = { .stage = stage, .fields = &instruction->copy, .name = add ? "ADD" : "COPY", .from_fd = -1, .files_fd = -1 };
    struct buf said = BUF_INIT(DOCKERFILE_SIZE_MAX * 4);
    step_text(instruction, &said);
    copying.said = arena_strdup(stage->build->arena, buf_text(&said));
    buf_done(&said);
    if (check(&copying, add, err) < 0 || list_sources(&copying, add, err) < 0 || plan(&copying, err) < 0)
        return -1;
    return run(&copying, err);
}
