// COPY and ADD.
#include <errno.h>

#include "builder_private.h"

struct copying {
    struct stage *stage;
    const struct copy_fields *fields;
    const char *name; // "COPY"
    const char *said; // the instruction's meaning, as a key has it
    struct step_source *sources;
    size_t len;
    struct step_place place;
    struct step_sources looked;
    int from_fd; // the tree of the context, or of --from
    int files_fd; // the tree of heredocs; -1
};

static void copying_done(struct copying *copying)
{
    fd_close(copying->from_fd);
    fd_close(copying->files_fd);
}

// ---- what is not there ----------------------------------------------------------------------------------------------

static bool is_remote(const char *source)
{
    return str_starts(source, "http://") || str_starts(source, "https://") || str_starts(source, "git@") || str_starts(source, "git://") ||
           str_starts(source, "ssh://");
}

static int check(const struct copying *copying, struct err *err)
{
    const struct copy_fields *fields = copying->fields;
    for (size_t i = 0; i < fields->sources.len; i++)
        if (is_remote(fields->sources.items[i]))
            return err_set(err, ERR_NOT_IMPLEMENTED, "%s of a URL or a git repository is not supported yet: %.300s", copying->name, fields->sources.items[i]);
    const struct {
        bool asked;
        const char *flag;
    } flags[] = { { fields->parents, "parents" }, { fields->excludes.len > 0, "exclude" }, { fields->keep_git_dir != TRISTATE_UNSET, "keep-git-dir" } };
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (flags[i].asked)
            return err_set(err, ERR_NOT_IMPLEMENTED, "%s --%s is not supported yet", copying->name, flags[i].flag);
    if (fields->checksum)
        return err_set(err, ERR_INVALID_ARGUMENT, "checksum can't be specified for non-HTTP(S) sources");
    return 0;
}

static int parse_mode(const char *text, int64_t *out, struct err *err)
{
    uint64_t mode;
    *out = -1;
    if (str_empty(text))
        return 0;
    if (!num_parse_octal(slice_of(text), 07777, &mode))
        return err_set(err, strpbrk(text, "+-=") ? ERR_NOT_IMPLEMENTED : ERR_INVALID_ARGUMENT, "invalid chmod parameter: '%.64s'. it should be octal string and between 0 and 07777", text);
    *out = (int64_t)mode;
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

static int open_from(struct copying *copying, struct err *err)
{
    struct build *build = copying->stage->build;
    const char *id;
    if (!copying->fields->from)
        copying->from_fd = tree_of_folder(build->context_fd, err);
    else if (find_from(copying->stage, copying->fields->from, &id, err) == 0)
        copying->from_fd = tree_of_image(build->engine, id, err);
    return copying->from_fd < 0 ? -1 : 0;
}

static int list_sources(struct copying *copying, bool add, struct err *err)
{
    const struct copy_fields *fields = copying->fields;
    copying->sources = arena_alloc(copying->stage->build->arena, (fields->sources.len + fields->files_len + 1) * sizeof(*copying->sources));
    if (open_from(copying, err) < 0)
        return -1;
    for (size_t i = 0; i < fields->sources.len; i++)
        copying->sources[copying->len++] = (struct step_source){ .tree_fd = copying->from_fd, .path = fields->sources.items[i],
                                                                 .unpack = add && fields->unpack != TRISTATE_FALSE };
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
    copying->place = (struct step_place){ .sources = copying->sources, .source_len = copying->len, .target = target, .folder = slash || copying->len > 1,
                                          .owner = str_empty(fields->chown) ? NULL : fields->chown, .roots = !fields->from, .time_max = build->time_max,
                                          .now = build->created_ns / NS_PER_S };
    if (copying->len > 1 && !slash)
        return err_set(err, ERR_INVALID_ARGUMENT, "When using %s with more than one source file, the destination must be a directory and end with a /",
                       copying->name);
    return parse_mode(fields->chmod, &copying->place.mode, err);
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
    return arena_printf(arena, "%s #(nop) %s %s%s%s:%s in %s ", shell_words(copying->stage), copying->name, chown, chmod, copying->len > 1 ? "multi" : folder ? "dir" : "file",
                        oci_digest_hex(copying->looked.digest), copying->place.target);
}

static int make(struct copying *copying, const char *created_by, struct err *err)
{
    struct build *build = copying->stage->build;
    const struct step step = step_of(copying->stage, created_by);
    char *id;
    if (step_place(build->engine, &step, &copying->place, &copying->looked, build->arena, &id, build->cancel, err) < 0)
        return explain(copying, err);
    copying->stage->image = id;
    return 0;
}

static int run(struct copying *copying, struct err *err)
{
    struct stage *stage = copying->stage;
    struct build *build = stage->build;
    char key[OCI_DIGEST_SIZE];
    if (place_look(build->engine, &copying->place, build->arena, &copying->looked, build->cancel, err) < 0)
        return explain(copying, err);
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
    if (check(&copying, err) < 0 || list_sources(&copying, add, err) < 0 || plan(&copying, err) < 0)
        return -1;
    return run(&copying, err);
}
