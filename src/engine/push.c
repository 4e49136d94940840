// Pushes: the worker gets the image's documents and its layers' files by descriptors, and what registries are known to have.
#include <errno.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "worker.h"

struct push {
    struct engine *engine;
    const struct image *image;
    const char *tag;
    engine_progress_fn *progress;
    void *context;
    bool gone; // the client
};

static int say(void *context, json_t *object)
{
    struct push *push = context;
    push->gone = push->gone || push->progress(push->context, object) < 0;
    return push->gone ? -1 : 0;
}

// ---- what the worker says -------------------------------------------------------------------------------------------

static int take_pushed(struct worker *worker, json_t *form, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    const struct push *push = worker->context;
    struct image_manifest manifest;
    if (json_decode(&image_manifest_table, form, &manifest, &arena, NULL, err) < 0)
        return -1;
    manifest.image_id = push->image->id;
    if (!oci_digest_valid(manifest.digest))
        return err_set(err, ERR_INTERNAL, "the image worker gave a bad digest");
    if (image_record_push(push->engine->images, &manifest, err) < 0)
        return -1;
    json_int_t size = (json_int_t)strlen(manifest.text);
    worker_tell(worker, json_pack("{s:o}", "status", json_sprintf("%s: digest: %s size: %lld", push->tag, manifest.digest, (long long)size)));
    worker_tell(worker, json_pack("{s:{}, s:{s:s, s:s, s:I}}", "progressDetail", "aux", "Tag", push->tag, "Digest", manifest.digest,
                                  "Size", size));
    worker->image_len++;
    return 0;
}

static int take_line(struct worker *worker, json_t *object, struct err *err)
{
    json_t *part = json_object_get(object, "pushed");
    if (part)
        return take_pushed(worker, part, err);
    if ((part = json_object_get(object, "progress")))
        worker_tell(worker, worker_progress(part));
    return ((const struct push *)worker->context)->gone ? err_set(err, ERR_CANCELLED, "the client is gone") : 0;
}

// ---- what it is given -----------------------------------------------------------------------------------------------

static int text_fd(const char *text, struct err *err)
{
    _cleanup_close_ int fd = memfd_create("request", MFD_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "request");
    return fd_write_full(fd, text, strlen(text), err) < 0 ? -1 : take_fd(&fd);
}

struct layer_files {
    int fds[2]; // recipe, image
    bool there;
};

static void close_files(struct layer_files *files, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (files[i].there) {
            fd_close(files[i].fds[0]);
            fd_close(files[i].fds[1]);
        }
}

static int open_files(const struct push *push, struct layer_files *files, struct err *err)
{
    const struct strv *chains = &push->image->chain_ids;
    for (size_t i = 0; i < chains->len; i++) {
        int there = image_layer_recipe(push->engine->images, push->image, i, &files[i].fds[0], &files[i].fds[1], err);
        if (there < 0)
            return -1;
        files[i].there = there > 0;
    }
    return 0;
}

static char *request_text(const struct push *push, const struct layer_files *files, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct json_list known;
    const struct strv *diff_ids = &push->image->config.rootfs.diff_ids;
    if (image_manifests(push->engine->images, push->image->id, &arena, &known, err) < 0)
        return NULL;
    _cleanup_json_ json_t *request = json_pack("{s:[], s:[], s:o}", "diff_ids", "recipes", "manifests",
                                               json_encode_list(&image_manifest_table, &known));
    for (size_t i = 0; i < diff_ids->len; i++) {
        json_array_append_new(json_object_get(request, "diff_ids"), json_string(diff_ids->items[i]));
        json_array_append_new(json_object_get(request, "recipes"), json_boolean(files[i].there));
    }
    return json_text(request);
}

// Everything waits in the socket until the worker reads it; many layers need a reader, and so this comes after its start.
static int send_files(const struct push *push, int sock, const struct layer_files *files, struct err *err)
{
    _cleanup_free_ char *request = request_text(push, files, err);
    _cleanup_close_ int request_fd = request ? text_fd(request, err) : -1;
    _cleanup_close_ int config_fd = request_fd < 0 ? -1 : text_fd(push->image->config_text, err);
    const int documents[] = { request_fd, config_fd };
    if (config_fd < 0 || fd_send(sock, "d", 1, documents, 2, err) < 0)
        return -1;
    for (size_t i = 0; i < push->image->chain_ids.len; i++)
        if (files[i].there && fd_send(sock, "l", 1, files[i].fds, 2, err) < 0)
            return -1;
    return 0;
}

static int hand_over(struct worker *worker, struct err *err)
{
    const struct push *push = worker->context;
    size_t len = push->image->chain_ids.len;
    struct layer_files *files = mem_alloc((len + 1) * sizeof(*files));
    int result = open_files(push, files, err);
    if (result == 0)
        result = send_files(push, worker->words_fd, files, err);
    close_files(files, len);
    free(files);
    return result;
}

// ---- the verb -------------------------------------------------------------------------------------------------------

static int push_tag(struct push *push, const struct image_ref *ref, const struct engine_login *login, const struct cancel *cancel,
                    struct err *err)
{
    _cleanup_(worker_done) struct worker worker = WORKER_INIT(push->engine);
    _cleanup_free_ char *name = mem_printf("%s/%s:%s", ref->domain, ref->path, ref->tag);
    char *const argv[] = { (char *)"berth-image", (char *)"send", name, NULL };
    int ends[2];
    worker.progress = say;
    worker.context = push;
    worker.line = take_line;
    worker.started = hand_over;
    if (fd_socketpair(SOCK_STREAM, ends, err) < 0)
        return -1;
    _cleanup_close_ int theirs = ends[0];
    worker.words_fd = ends[1];
    push->tag = ref->tag;
    if (worker_write_words(&worker, login, err) < 0 || worker_run(&worker, argv, theirs, cancel, err) < 0)
        return -1;
    if (worker.image_len == 0)
        return err_set(err, ERR_INTERNAL, "the image worker pushed nothing");
    event_reference(push->engine, push->image->id, "push", ref->familiar);
    return 0;
}

static int push_name(struct push *push, const char *name, const struct engine_login *login, const struct cancel *cancel, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct image image;
    struct image_ref ref;
    struct err missing = { 0 };
    if (image_ref_parse(name, true, &arena, &ref, err) < 0)
        return -1;
    if (image_get(push->engine->images, name, &arena, &image, &missing) < 0)
        return missing.class != ERR_NOT_FOUND ? (*err = missing, -1)
                                              : err_set(err, ERR_NOT_FOUND, "An image does not exist locally with the tag: %s", ref.familiar_name);
    push->image = &image;
    int result = push_tag(push, &ref, login, cancel, err);
    push->image = NULL;
    return result;
}

// All tags of a repository.
static int list_tags(struct engine *engine, const struct image_ref *repository, struct arena *arena, struct strv *out, struct err *err)
{
    struct image *images;
    size_t len;
    if (image_list(engine->images, arena, &images, &len, err) < 0)
        return -1;
    for (size_t i = 0; i < len; i++)
        for (size_t tag = 0; tag < images[i].tags.len; tag++) {
            struct image_ref ref;
            if (image_ref_parse(images[i].tags.items[tag], true, arena, &ref, err) < 0)
                return -1;
            if (str_eq(ref.familiar_name, repository->familiar_name))
                strv_push_arena(out, arena, ref.familiar);
        }
    return out->len ? 0 : err_set(err, ERR_NOT_FOUND, "An image does not exist locally with the tag: %s", repository->familiar_name);
}

int engine_push(struct engine *engine, const char *name, const char *tag, const struct engine_login *login, engine_progress_fn *progress,
                void *context, const struct cancel *cancel, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct push push = { .engine = engine, .progress = progress, .context = context };
    struct image_ref ref;
    struct strv names = { 0 };
    if (image_ref_parse(name, false, &arena, &ref, err) < 0)
        return -1;
    if (ref.digest)
        return err_set(err, ERR_INVALID_ARGUMENT, "cannot push a digest reference");
    if (!str_empty(tag) || ref.tag)
        strv_push_arena(&names, &arena, arena_printf(&arena, "%s/%s:%s", ref.domain, ref.path, str_empty(tag) ? ref.tag : tag));
    else if (list_tags(engine, &ref, &arena, &names, err) < 0)
        return -1;
    _cleanup_json_ json_t *first = json_pack("{s:o}", "status", json_sprintf("The push refers to repository [%s/%s]", ref.domain, ref.path));
    if (names.len && image_get(engine->images, names.items[0], &arena, &(struct image){ 0 }, NULL) == 0)
        say(&push, first);
    for (size_t i = 0; i < names.len; i++)
        if (push_name(&push, names.items[i], login, cancel, err) < 0)
            return -1;
    return 0;
}
