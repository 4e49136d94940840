// A container's files for its clients: docker cp, export and diff. The daemon opens the tree and names it; a jailed worker resolves the
// client's paths, reads and writes.
#include <errno.h>

#include "filer.h"
#include "inflate.h"
#include "worker.h"

enum { CHANGES_MAX = 1000000 };

// Docker's word for what is not there.
static int name_missing(const char *ref, const char *path, struct err *err)
{
    if (err && err->class == ERR_NOT_FOUND && err->number == ENOENT)
        return err_set(err, ERR_NOT_FOUND, "Could not find the file %s in container %s", path, ref);
    return -1;
}

static int read_stat(struct filer *filer, const struct cancel *cancel, struct arena *arena, struct engine_path *out, struct err *err)
{
    _cleanup_json_ json_t *line = NULL;
    int more = filer_next(filer, cancel, &line, err);
    const json_t *stat = more > 0 ? json_object_get(line, "stat") : NULL;
    if (!stat)
        return more < 0 ? -1 : err_set(err, ERR_INTERNAL, "the archive worker gave no answer");
    *out = (struct engine_path){ .name = arena_strdup(arena, json_get_text(stat, "name", "")), .size = json_get_int(stat, "size", 0),
                                 .mode = (uint32_t)json_get_int(stat, "mode", 0), .mtime_ns = json_get_int(stat, "mtime_ns", 0),
                                 .link_target = arena_strdup(arena, json_get_text(stat, "link_target", "")) };
    return 0;
}

int engine_path_stat(struct engine *engine, const char *ref, const char *path, struct arena *arena, struct engine_path *out,
                     const struct cancel *cancel, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container)
        return -1;
    _cleanup_(filer_done) struct filer filer = FILER_INIT(container);
    const struct filer_wish wish = { .verb = "stat", .path = path, .mounts = true, .data_fd = -1 };
    if (filer_start(&filer, &wish, err) < 0)
        return -1;
    return read_stat(&filer, cancel, arena, out, err) < 0 ? name_missing(ref, path, err) : 0;
}

int engine_archive_get(struct engine *engine, const char *ref, const char *path, engine_path_fn *found, engine_pipe_fn *sink, void *context,
                       const struct cancel *cancel, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    struct engine_path stat;
    if (!container)
        return -1;
    _cleanup_(filer_done) struct filer filer = FILER_INIT(container);
    const struct filer_wish wish = { .verb = "get", .path = path, .mounts = true, .output = true, .data_fd = -1 };
    if (filer_start(&filer, &wish, err) < 0)
        return -1;
    if (read_stat(&filer, cancel, &arena, &stat, err) < 0)
        return name_missing(ref, path, err);
    event_container(container, "archive-path", NULL);
    found(context, &stat);
    return pipe_relay(filer.data_fd, sink, context, cancel, err) < 0 ? -1 : filer_end(&filer, cancel, err);
}

int engine_export(struct engine *engine, const char *ref, engine_pipe_fn *sink, void *context, const struct cancel *cancel, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container)
        return -1;
    _cleanup_(filer_done) struct filer filer = FILER_INIT(container);
    const struct filer_wish wish = { .verb = "export", .output = true, .data_fd = -1 };
    if (filer_start(&filer, &wish, err) < 0 || pipe_relay(filer.data_fd, sink, context, cancel, err) < 0 ||
        filer_end(&filer, cancel, err) < 0)
        return -1;
    event_container(container, "export", NULL);
    return 0;
}

int engine_archive_put(struct engine *engine, const char *ref, const struct engine_archive_put *put, int input_fd, const struct cancel *cancel,
                       struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container)
        return -1;
    _cleanup_(inflate_done) struct inflate inflate = INFLATE_INIT(engine);
    if (inflate_start(&inflate, input_fd, cancel, err) < 0)
        return -1;
    _cleanup_(filer_done) struct filer filer = FILER_INIT(container);
    const struct filer_wish wish = { .verb = "put", .path = put->path, .owner = put->copy_owner ? container->config.process.user : NULL,
                                     .keep_kind = put->keep_kind, .tree = { .write = true }, .mounts = true,
                                     .data_fd = inflate.fd >= 0 ? inflate.fd : input_fd };
    int done = filer_start(&filer, &wish, err) < 0 || filer_end(&filer, cancel, err) < 0 ? -1 : 0;
    if (done < 0 && container_tree_ended(container, &filer.tree))
        return err_set(err, ERR_CONFLICT, "the copy into container %s was ended: somebody starts or removes it", ref);
    if (done < 0)
        return name_missing(ref, put->path, err);
    event_container(container, "extract-to-dir", NULL);
    return 0;
}

int engine_changes(struct engine *engine, const char *ref, json_t **out, const struct cancel *cancel, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    _cleanup_json_ json_t *changes = json_array();
    json_t *line;
    int more;
    if (!container)
        return -1;
    _cleanup_(filer_done) struct filer filer = FILER_INIT(container);
    const struct filer_wish wish = { .verb = "changes", .tree = { .layers = true }, .data_fd = -1 };
    if (filer_start(&filer, &wish, err) < 0)
        return -1;
    while ((more = filer_next(&filer, cancel, &line, err)) > 0) {
        if (json_array_size(changes) == CHANGES_MAX) {
            json_decref(line);
            return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d changes", CHANGES_MAX);
        }
        const json_t *change = json_object_get(line, "change");
        json_array_append_new(changes, json_pack("{s:s, s:I}", "Path", json_get_text(change, "path", ""), "Kind",
                                                 (json_int_t)json_get_int(change, "kind", 0)));
        json_decref(line);
    }
    if (more == 0)
        *out = json_incref(changes);
    return more;
}
