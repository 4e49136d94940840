// RUN --mount: what a step sees besides its image and leaves nothing of in the layer, but for empty folders where it was.
//
//     cache    a folder that stays, <data root>/build-cache/<digest of its id>: one of its own for each build that asks for `private` at the
//              same time, waited for with `locked`; with from= one for each content that it may begin with
//     bind     a part of the context, read-only; or a copy of a part of the context (rw), of a stage or an image (from)
//     tmpfs    memory
//     secret   a file of the client's, or a variable (secrets.c)
//     ssh      the client's ssh agent (agents.c)
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "builder_private.h"
#include "kernel/path.h"

struct step_copy {
    int tree_fd; // the source's
    const char *source, *folder; // in it; of the workshop
    const char *cache; // it is the first content of this cache's folder; NULL: it is for this step alone
    char digest[OCI_DIGEST_SIZE]; // of the source
    bool roots;
};

#define RETRY_NS (50 * NS_PER_MS)
#define PRIVATE_MAX 64

static int refuse(const struct run_mount *mount, const char *why, struct err *err)
{
    return err_set(err, ERR_NOT_IMPLEMENTED, "RUN --mount=%.200s: %s", mount->raw, why);
}

static int check(const struct build *build, const struct run_mount *mount, struct err *err)
{
    if (mount->type == RUN_MOUNT_SSH && !build->request->agent)
        return refuse(mount, "an ssh agent is given by BuildKit's door alone: docker buildx build", err);
    if (mount->type == RUN_MOUNT_SECRET && !build->request->secret)
        return refuse(mount, "secrets are given by BuildKit's door alone: docker buildx build", err);
    if (mount->type == RUN_MOUNT_SECRET || mount->type == RUN_MOUNT_SSH)
        return 0;
    return str_empty(mount->target) ? err_set(err, ERR_INVALID_ARGUMENT, "invalid mount: target is required") : 0;
}

// ---- caches ---------------------------------------------------------------------------------------------------------

static int wait_lock(struct build *build, int folder, const char *name, struct err *err)
{
    for (;;) {
        struct err busy = { 0 };
        int lock = file_lock_at(folder, name, &busy);
        if (lock >= 0 || busy.class != ERR_CONFLICT)
            return lock >= 0 ? lock : err_set(err, busy.class, "%s", busy.message);
        if (cancel_wait(build->cancel, -1, clock_mono_ns() + RETRY_NS, err) < 0)
            return -1;
    }
}

// `base`: what its content is at first; NULL: nothing.
static const char *name_of(const struct stage *stage, const struct run_mount *mount, const struct step_copy *base)
{
    struct arena *arena = stage->build->arena;
    const char *id = str_empty(mount->id) ? join_path(arena, stage->config.working_dir, mount->target) : mount->id;
    char digest[OCI_DIGEST_SIZE];
    if (base)
        id = arena_printf(arena, "%s\n%s", id, base->digest);
    image_digest(id, strlen(id), digest);
    return arena_strdup(arena, oci_digest_hex(digest));
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int open_caches(const struct build *build, struct err *err)
{
    const char *path = mounts_path(build->builder, "", build->arena);
    return file_mkdirs(AT_FDCWD, path, 0700, err) < 0 ? -1 : file_open_dir(AT_FDCWD, path, err);
}

// Each once, and in one order for all steps: of two that want the same two neither waits for the other for ever.
static int lock_caches(struct stage *stage, const struct run_fields *fields, struct step_mounts *out, struct err *err)
{
    struct build *build = stage->build;
    struct strv names = { 0 };
    for (size_t i = 0; i < fields->mounts_len; i++)
        if (fields->mounts[i].type == RUN_MOUNT_CACHE && fields->mounts[i].sharing == RUN_SHARING_LOCKED)
            strv_push_arena(&names, build->arena, name_of(stage, &fields->mounts[i], out->bases[i]));
    if (names.len == 0)
        return 0;
    _cleanup_close_ int folder = open_caches(build, err);
    if (folder < 0)
        return -1;
    qsort(names.items, names.len, sizeof(*names.items), compare_texts);
    for (size_t i = 0; i < names.len; i++) {
        if (i > 0 && str_eq(names.items[i], names.items[i - 1]))
            continue;
        int lock = wait_lock(build, folder, arena_printf(build->arena, "%s.lock", names.items[i]), err);
        if (lock < 0)
            return -1;
        out->locks[out->lock_len++] = lock;
    }
    return 0;
}

// The folder's name among those of this id; *lock_fd holds one that is private.
static int choose(struct build *build, int folder, const struct run_mount *mount, const char *id, const char **name, int *lock_fd, struct err *err)
{
    *name = id;
    for (int i = 1; mount->sharing == RUN_SHARING_PRIVATE; i++) {
        struct err busy = { 0 };
        *lock_fd = file_lock_at(folder, arena_printf(build->arena, "%s.lock", *name), &busy);
        if (*lock_fd >= 0)
            return 0;
        if (busy.class != ERR_CONFLICT || i == PRIVATE_MAX)
            return err_set(err, busy.class, "%s", busy.message);
        *name = arena_printf(build->arena, "%s-%d", id, i);
    }
    return 0;
}

static int make_folder(int folder, const char *name, const struct run_mount *mount, struct err *err)
{
    if (mkdirat(folder, name, 0700) < 0)
        return errno == EEXIST ? 0 : err_errno(err, errno, "cache folder");
    if (fchownat(folder, name, (uid_t)MAX_OF(mount->uid, INT64_C(0)), (gid_t)MAX_OF(mount->gid, INT64_C(0)), 0) < 0 ||
        fchmodat(folder, name, mount->mode >= 0 ? (mode_t)mount->mode : 0755, 0) < 0)
        return err_errno(err, errno, "cache folder");
    return 0;
}

static int add_cache(struct stage *stage, const struct run_mount *mount, const char *target, struct step_copy *base, struct step_mounts *out, struct err *err)
{
    struct build *build = stage->build;
    const char *name;
    int lock = -1;
    _cleanup_close_ int folder = open_caches(build, err);
    if (folder < 0 || choose(build, folder, mount, name_of(stage, mount, base), &name, &lock, err) < 0)
        return -1;
    if (lock >= 0)
        out->locks[out->lock_len++] = lock;
    if (mount_note(stage, name, target, str_empty(mount->id) ? target : mount->id, err) < 0 || (!base && make_folder(folder, name, mount, err) < 0))
        return -1;
    if (base) {
        base->cache = mounts_path(build->builder, name, build->arena);
        out->key = arena_printf(build->arena, "%s%s\n", out->key, base->digest);
    }
    json_array_append_new(out->list, json_pack("{s:s, s:s, s:o, s:b}", "Type", "bind", "Source", mounts_path(build->builder, name, build->arena), "Target",
                                               json_new_text(target), "ReadOnly", mount->read_only));
    return 0;
}

// ---- copies ---------------------------------------------------------------------------------------------------------

static struct step_place place_of_copy(const struct step_copy *copy, const struct step_source *one)
{
    return (struct step_place){ .sources = one, .source_len = 1, .target = "/it", .roots = copy->roots, .mode = -1, .time_max = -1 };
}

static int make_copy(struct build *build, const struct step_copy *copy, struct err *err)
{
    const struct step_source one = { .tree_fd = copy->tree_fd, .path = copy->source };
    const struct step_place place = place_of_copy(copy, &one);
    _cleanup_close_ int folder = workshop_folder(build->workshop, copy->folder, err);
    return folder < 0 ? -1 : folder_place(build->engine, folder, &place, build->cancel, err);
}

// Of two who make the same folder at the same time one is first; the other's goes with its build.
static int fill_cache(struct build *build, const struct step_copy *copy, struct err *err)
{
    _cleanup_free_ char *folder = workshop_path(build->workshop, copy->folder);
    if (access(copy->cache, F_OK) == 0)
        return 0;
    if (make_copy(build, copy, err) < 0)
        return -1;
    if (rename(arena_printf(build->arena, "%s/it", folder), copy->cache) < 0 && access(copy->cache, F_OK) < 0)
        return err_errno(err, errno, "cache folder");
    return 0;
}

int step_mounts_fill(struct stage *stage, struct step_mounts *mounts, struct err *err)
{
    for (size_t i = 0; i < mounts->copy_len; i++)
        if ((mounts->copies[i].cache ? fill_cache(stage->build, &mounts->copies[i], err) : make_copy(stage->build, &mounts->copies[i], err)) < 0)
            return -1;
    return 0;
}

static int open_source(struct stage *stage, const char *from, struct err *err)
{
    return str_empty(from) ? context_tree(stage->build, err) : open_from_tree(stage, from, err);
}

// What a mount's source is, looked at.
static int open_copy(struct stage *stage, const struct run_mount *mount, struct step_mounts *out, struct step_copy **opened, struct err *err)
{
    struct build *build = stage->build;
    struct step_copy *copy = *opened = &out->copies[out->copy_len];
    struct step_sources looked;
    *copy = (struct step_copy){ .tree_fd = open_source(stage, mount->from, err), .source = str_empty(mount->source) ? "/" : mount->source,
                                .folder = arena_printf(build->arena, "files-%u", build->folders++), .roots = str_empty(mount->from) };
    if (copy->tree_fd < 0)
        return -1;
    out->copy_len++;
    const struct named *named = named_find(build, mount->from);
    const struct listing *listing = named ? named_listing(named) : copy->roots ? build->context->listing : NULL;
    const struct step_source one = { .tree_fd = copy->tree_fd, .listing = listing, .path = copy->source };
    const struct step_place place = place_of_copy(copy, &one);
    if (look_place(build, &place, &looked, err) < 0)
        return -1;
    memcpy(copy->digest, looked.digest, sizeof(copy->digest));
    return 0;
}

static int add_copy(struct stage *stage, const struct run_mount *mount, const char *target, struct step_mounts *out, struct err *err)
{
    struct build *build = stage->build;
    struct step_copy *copy;
    if (open_copy(stage, mount, out, &copy, err) < 0)
        return -1;
    out->key = arena_printf(build->arena, "%s%s\n", out->key, copy->digest);
    _cleanup_free_ char *path = workshop_path(build->workshop, copy->folder);
    json_array_append_new(out->list, json_pack("{s:s, s:o, s:o, s:b}", "Type", "bind", "Source", json_sprintf("%s/it", path), "Target",
                                               json_new_text(target), "ReadOnly", mount->read_only));
    return 0;
}

// ---- the context ----------------------------------------------------------------------------------------------------

// The path is the kernel's own word for what the resolver found inside the context, which nobody changes any more.
static int add_bind(struct stage *stage, const struct run_mount *mount, const char *target, struct step_mounts *out, struct err *err)
{
    struct build *build = stage->build;
    const char *source = str_empty(mount->source) ? "/" : mount->source;
    struct step_sources looked;
    char link[64], path[PATH_MAX];
    _cleanup_close_ int tree = context_tree(build, err), found = tree < 0 ? -1 : path_open(build->context->folder_fd, source, false, err);
    if (tree < 0 || found < 0)
        return -1;
    const struct step_source one = { .tree_fd = tree, .listing = build->context->listing, .path = source };
    const struct step_place place = { .sources = &one, .source_len = 1, .target = "/", .folder = true, .roots = true, .mode = -1, .time_max = -1 };
    if (look_place(build, &place, &looked, err) < 0)
        return -1;
    out->key = arena_printf(build->arena, "%s%s\n", out->key, looked.digest);
    snprintf(link, sizeof(link), "/proc/self/fd/%d", found);
    ssize_t size = readlink(link, path, sizeof(path) - 1);
    if (size < 0)
        return err_errno(err, errno, "%s", source);
    path[size] = '\0';
    json_array_append_new(out->list, json_pack("{s:s, s:o, s:o, s:b}", "Type", "bind", "Source", json_new_text(path), "Target", json_new_text(target),
                                               "ReadOnly", 1));
    return 0;
}

static void add_tmpfs(const struct run_mount *mount, const char *target, struct step_mounts *out)
{
    json_t *row = json_pack("{s:s, s:o}", "Type", "tmpfs", "Target", json_new_text(target));
    if (mount->size > 0)
        json_object_set_new(row, "TmpfsOptions", json_pack("{s:I}", "SizeBytes", (json_int_t)mount->size));
    json_array_append_new(out->list, row);
}

// ---- all ------------------------------------------------------------------------------------------------------------

static int add(struct stage *stage, const struct run_mount *mount, struct step_copy *base, struct step_mounts *out, struct err *err)
{
    struct arena *arena = stage->build->arena;
    if (check(stage->build, mount, err) < 0)
        return -1;
    if (mount->type == RUN_MOUNT_SECRET)
        return secret_add(stage, mount, out, err);
    if (mount->type == RUN_MOUNT_SSH)
        return agent_add(stage, mount, out, err);
    const char *target = join_path(arena, stage->config.working_dir, mount->target);
    out->key = arena_printf(arena, "%s%s\n", out->key, mount->raw);
    switch (mount->type) {
    case RUN_MOUNT_CACHE:
        return add_cache(stage, mount, target, base, out, err);
    case RUN_MOUNT_BIND:
        return str_empty(mount->from) && mount->read_only ? add_bind(stage, mount, target, out, err) : add_copy(stage, mount, target, out, err);
    default:
        add_tmpfs(mount, target, out);
        return 0;
    }
}

int step_mounts_open(struct stage *stage, const struct run_fields *fields, struct step_mounts *out, struct err *err)
{
    struct arena *arena = stage->build->arena;
    const struct run_mount *mounts = fields->mounts;
    *out = (struct step_mounts){ .list = json_array(), .key = "", .locks = arena_alloc(arena, (fields->mounts_len + 1) * sizeof(int)),
                                  .copies = arena_alloc(arena, (fields->mounts_len + 1) * sizeof(*out->copies)),
                                  .bases = arena_alloc(arena, (fields->mounts_len + 1) * sizeof(struct step_copy *)) };
    for (size_t i = 0; i < fields->mounts_len; i++)
        if (mounts[i].type == RUN_MOUNT_CACHE && !str_empty(mounts[i].from) && open_copy(stage, &mounts[i], out, &out->bases[i], err) < 0)
            return -1;
    if (lock_caches(stage, fields, out, err) < 0)
        return -1;
    for (size_t i = 0; i < fields->mounts_len; i++)
        if (add(stage, &mounts[i], out->bases[i], out, err) < 0)
            return -1;
    return 0;
}

// It is in no layer: /dev is memory.
int step_mounts_script(struct stage *stage, const struct heredoc *script, struct step_mounts *out, struct err *err)
{
    struct build *build = stage->build;
    struct arena *arena = build->arena;
    const char *text = heredoc_content(script, arena), *folder = arena_printf(arena, "files-%u", build->folders++);
    _cleanup_close_ int fd = workshop_folder(build->workshop, folder, err);
    if (fd < 0 || workshop_write(build->workshop, folder, script->name, text, strlen(text), 0755, err) < 0)
        return -1;
    out->key = arena_printf(arena, "%sscript %s\n%s\n", out->key, script->name, text);
    _cleanup_free_ char *path = workshop_path(build->workshop, folder);
    json_array_append_new(out->list, json_pack("{s:s, s:o, s:o, s:b}", "Type", "bind", "Source", json_new_text(arena_printf(arena, "%s/%s", path, script->name)), "Target",
                                               json_new_text(arena_printf(arena, SCRIPTS "%s", script->name)), "ReadOnly", 1));
    return 0;
}

void step_mounts_close(struct step_mounts *mounts)
{
    for (size_t i = 0; i < mounts->lock_len; i++)
        fd_close(mounts->locks[i]);
    for (size_t i = 0; i < mounts->copy_len; i++)
        fd_close(mounts->copies[i].tree_fd);
    agents_close(mounts);
    secrets_close(mounts);
    json_decref(mounts->list);
}
