// docker save: what an image's archive has is named here, member by member; the worker writes it (transfer/transfer.h says how they
// talk). Its form is Docker's since 25: an OCI layout with a manifest.json and the oldest
// form's `repositories` beside it, layers as plain tars.
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/file.h"
#include "json/json.h"
#include "worker/worker.h"

enum { MESSAGE_LINES_MAX = 90, MESSAGE_FDS_MAX = 180, NAMES_MAX = 1000 };

struct saving {
    struct image_store *images;
    const char *program;
    struct arena *arena;
    struct strv seen; // blobs that are ordered already
    json_t *manifests, *entries, *repositories; // of index.json, manifest.json and repositories
    char *staging;
    struct process process;
    int order_fd, output_fd, report_fd;
    struct buf lines; // of the next message
    size_t line_len;
    int fds[MESSAGE_FDS_MAX]; // owned
    size_t fd_len;
};

static void drop_fds(struct saving *saving)
{
    while (saving->fd_len > 0)
        fd_close(saving->fds[--saving->fd_len]);
}

static void saving_done(struct saving *saving)
{
    process_done(&saving->process);
    drop_fds(saving);
    fd_close(saving->order_fd);
    fd_close(saving->output_fd);
    fd_close(saving->report_fd);
    if (saving->staging)
        image_staging_remove(saving->images, saving->staging);
    free(saving->staging);
    json_decref(saving->manifests);
    json_decref(saving->entries);
    json_decref(saving->repositories);
    buf_done(&saving->lines);
}

// ---- ordering members -----------------------------------------------------------------------------------------------

static int send_order(struct saving *saving, struct err *err)
{
    if (saving->line_len == 0)
        return 0;
    ssize_t sent = fd_send(saving->order_fd, buf_text(&saving->lines), saving->lines.size, saving->fds, saving->fd_len, err);
    drop_fds(saving);
    buf_clear(&saving->lines);
    saving->line_len = 0;
    return sent < 0 ? -1 : 0;
}

// Takes the descriptors, -1 is none.
static int order(struct saving *saving, const char *kind, const char *name, int first_fd, int second_fd, struct err *err)
{
    if ((saving->line_len == MESSAGE_LINES_MAX || saving->fd_len + 2 > MESSAGE_FDS_MAX) && send_order(saving, err) < 0) {
        fd_close(first_fd);
        fd_close(second_fd);
        return -1;
    }
    buf_addf(&saving->lines, "%s%s%s\n", kind, name ? " " : "", name ? name : "");
    saving->line_len++;
    if (first_fd >= 0)
        saving->fds[saving->fd_len++] = first_fd;
    if (second_fd >= 0)
        saving->fds[saving->fd_len++] = second_fd;
    return 0;
}

static int order_text(struct saving *saving, const char *name, const char *text, struct err *err)
{
    _cleanup_close_ int fd = memfd_create("berth-save", MFD_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "memfd_create");
    return fd_write_full(fd, text, strlen(text), err) < 0 ? -1 : order(saving, "file", name, take_fd(&fd), -1, err);
}

static int order_json(struct saving *saving, const char *name, json_t *value, struct err *err)
{
    _cleanup_free_ char *text = json_text(value);
    return order_text(saving, name, text, err);
}

// Its name in the archive; false in *fresh when it is there already.
static char *blob_name(struct saving *saving, const char *digest, bool *fresh)
{
    *fresh = !strv_has(&saving->seen, digest);
    if (*fresh)
        strv_push_arena(&saving->seen, saving->arena, digest);
    return arena_printf(saving->arena, "blobs/sha256/%s", oci_digest_hex(digest));
}

// ---- one image ------------------------------------------------------------------------------------------------------

static int order_layers(struct saving *saving, struct image_tars *tars, json_t *names, struct err *err)
{
    for (size_t i = 0; i < tars->len; i++) {
        struct image_tar *tar = &tars->items[i];
        bool fresh;
        char *name = blob_name(saving, tar->diff_id, &fresh);
        json_array_append_new(names, json_string(name));
        if (fresh && order(saving, "layer", name, take_fd(&tar->image_fd), take_fd(&tar->recipe_fd), err) < 0)
            return -1;
    }
    return 0;
}

static int order_config(struct saving *saving, const struct image *image, struct err *err)
{
    bool fresh;
    char *name = blob_name(saving, image->id, &fresh);
    if (!fresh)
        return 0;
    int fd = image_config_open(saving->images, image, err);
    return fd < 0 ? -1 : order(saving, "file", name, fd, -1, err);
}

static void describe(struct saving *saving, const char *manifest_digest, size_t size, const char *tag)
{
    json_t *entry = json_pack("{s:s, s:s, s:I}", "mediaType", MEDIA_OCI_MANIFEST, "digest", manifest_digest, "size", (json_int_t)size);
    struct image_ref ref;
    if (tag && image_ref_parse(tag, true, saving->arena, &ref, NULL) == 0)
        json_object_set_new(entry, "annotations",
                            json_pack("{s:o, s:s}", "io.containerd.image.name", json_sprintf("%s/%s:%s", ref.domain, ref.path, ref.tag),
                                      "org.opencontainers.image.ref.name", ref.tag));
    json_array_append_new(saving->manifests, entry);
}

// {"name": {"tag": the uppermost layer}}
static void note_repository(struct saving *saving, const char *tag, const struct image_tars *tars)
{
    struct image_ref ref;
    if (tars->len == 0 || image_ref_parse(tag, true, saving->arena, &ref, NULL) < 0)
        return;
    json_t *tags = json_object_get(saving->repositories, ref.familiar_name);
    if (!tags)
        json_object_set_new(saving->repositories, ref.familiar_name, tags = json_object());
    json_object_set_new(tags, ref.tag, json_string(oci_digest_hex(tars->items[tars->len - 1].diff_id)));
}

static int save_image(struct saving *saving, const struct image *image, const struct strv *tags, struct err *err)
{
    _cleanup_(image_tars_done) struct image_tars tars = { 0 };
    char digest[OCI_DIGEST_SIZE];
    bool fresh;
    if (image_tars_open(saving->images, image, saving->arena, &tars, err) < 0)
        return -1;
    char *text = image_tars_manifest(image, &tars, saving->arena, digest), *name = blob_name(saving, digest, &fresh);
    json_t *layers = json_array(), *names = tags->len ? json_array() : json_null();
    for (size_t i = 0; i < tags->len; i++) {
        json_array_append_new(names, json_string(tags->items[i]));
        note_repository(saving, tags->items[i], &tars);
    }
    json_array_append_new(saving->entries, json_pack("{s:o, s:o, s:o}", "Config",
                                                     json_sprintf("blobs/sha256/%s", oci_digest_hex(image->id)), "RepoTags", names,
                                                     "Layers", layers));
    if (order_layers(saving, &tars, layers, err) < 0 || order_config(saving, image, err) < 0 ||
        (fresh && order_text(saving, name, text, err) < 0))
        return -1;
    for (size_t i = 0; i < MAX_OF(tags->len, (size_t)1); i++)
        describe(saving, digest, strlen(text), tags->len ? tags->items[i] : NULL);
    return 0;
}

static int order_begin(struct saving *saving, struct err *err)
{
    return order(saving, "folder", "blobs/", -1, -1, err) < 0 ? -1 : order(saving, "folder", "blobs/sha256/", -1, -1, err);
}

static int order_end(struct saving *saving, struct err *err)
{
    _cleanup_json_ json_t *index = json_pack("{s:i, s:s, s:O}", "schemaVersion", 2, "mediaType", MEDIA_OCI_INDEX, "manifests",
                                             saving->manifests);
    if (order_json(saving, "index.json", index, err) < 0 || order_json(saving, "manifest.json", saving->entries, err) < 0 ||
        order_text(saving, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}", err) < 0 ||
        (json_object_size(saving->repositories) && order_json(saving, "repositories", saving->repositories, err) < 0))
        return -1;
    return send_order(saving, err);
}

// ---- which images ---------------------------------------------------------------------------------------------------

struct wanted {
    struct image image;
    struct strv tags;
};

static struct wanted *add_wanted(struct wanted *list, size_t *len, const struct image *image)
{
    for (size_t i = 0; i < *len; i++)
        if (str_eq(list[i].image.id, image->id))
            return &list[i];
    list[*len] = (struct wanted){ .image = *image };
    return &list[(*len)++];
}

static void add_tag(struct wanted *wanted, struct arena *arena, const char *tag)
{
    if (!strv_has(&wanted->tags, tag))
        strv_push_arena(&wanted->tags, arena, tag);
}

// A bare name means all its tags, as Docker has it; a name with a tag that one. False: no image has such a name.
static bool want_named(struct saving *saving, const struct image_ref *ref, const struct image *all, size_t all_len, struct wanted *list, size_t *len)
{
    const char *start = arena_printf(saving->arena, "%s:", ref->familiar_name);
    bool any = false;
    for (size_t i = 0; i < all_len; i++)
        for (size_t t = 0; t < all[i].tags.len; t++)
            if (ref->tag ? str_eq(all[i].tags.items[t], ref->familiar) : str_starts(all[i].tags.items[t], start)) {
                add_tag(add_wanted(list, len, &all[i]), saving->arena, all[i].tags.items[t]);
                any = true;
            }
    return any;
}

// Anything else (an ID) means the image without a name.
static int want(struct saving *saving, const char *name, const struct image *all, size_t all_len, struct wanted *list, size_t *len,
                struct err *err)
{
    struct image image;
    struct image_ref ref = { 0 };
    bool is_ref = image_ref_parse(name, false, saving->arena, &ref, NULL) == 0 && !ref.digest;
    if (is_ref && want_named(saving, &ref, all, all_len, list, len))
        return 0;
    if (image_get(saving->images, name, saving->arena, &image, err) < 0)
        return -1;
    add_wanted(list, len, &image);
    return 0;
}

static int order_all(struct saving *saving, const struct strv *names, struct err *err)
{
    struct image *all;
    size_t all_len, len = 0;
    if (image_list(saving->images, saving->arena, &all, &all_len, err) < 0)
        return -1;
    struct wanted *list = arena_alloc(saving->arena, (all_len + names->len + 1) * sizeof(*list));
    for (size_t i = 0; i < names->len; i++)
        if (want(saving, names->items[i], all, all_len, list, &len, err) < 0)
            return -1;
    if (order_begin(saving, err) < 0)
        return -1;
    for (size_t i = 0; i < len; i++)
        if (save_image(saving, &list[i].image, &list[i].tags, err) < 0)
            return -1;
    return order_end(saving, err);
}

// One image, with names that it may not have here.
static int order_one(struct saving *saving, const char *id, const struct strv *names, struct err *err)
{
    struct image image;
    struct image_ref ref;
    struct strv tags = { 0 };
    for (size_t i = 0; i < names->len; i++) {
        if (image_ref_parse(names->items[i], true, saving->arena, &ref, err) < 0)
            return -1;
        strv_push_arena(&tags, saving->arena, ref.familiar);
    }
    if (image_get(saving->images, id, saving->arena, &image, err) < 0 || order_begin(saving, err) < 0 || save_image(saving, &image, &tags, err) < 0)
        return -1;
    return order_end(saving, err);
}

// ---- files ----------------------------------------------------------------------------------------------------------

static int order_file(struct saving *saving, const struct worker_file *file, struct err *err)
{
    size_t size = strlen(file->name);
    if (size && file->name[size - 1] == '/')
        return order(saving, "folder", file->name, -1, -1, err);
    if (file->fd < 0)
        return order_text(saving, file->name, file->text, err);
    int fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
    return fd < 0 ? err_errno(err, errno, "%s", file->name) : order(saving, "file", file->name, fd, -1, err);
}

static int order_files(struct saving *saving, const struct worker_file *files, size_t len, struct err *err)
{
    for (size_t i = 0; i < len; i++)
        if (order_file(saving, &files[i], err) < 0)
            return -1;
    return send_order(saving, err);
}

// ---- the worker -----------------------------------------------------------------------------------------------------

static int start_worker(struct saving *saving, struct err *err)
{
    int order_fds[2], output_fds[2], report_fds[2];
    char *const argv[] = { (char *)"berth-image", (char *)WORKER_MODE, (char *)"save", NULL };
    char *const envp[] = { (char *)"LC_ALL=C.UTF-8", NULL };
    _cleanup_close_ int staging = image_staging_new(saving->images, &saving->staging, err);
    if (staging < 0 || fd_socketpair(SOCK_SEQPACKET, order_fds, err) < 0)
        return -1;
    saving->order_fd = order_fds[0];
    _cleanup_close_ int order_end = order_fds[1];
    if (fd_pipe(report_fds, err) < 0)
        return -1;
    saving->report_fd = report_fds[0];
    _cleanup_close_ int report_end = report_fds[1];
    if (fd_pipe(output_fds, err) < 0)
        return -1;
    saving->output_fd = output_fds[0];
    fcntl(output_fds[1], F_SETPIPE_SZ, 1 << 20); // fewer switches between the two; 64 KiB where it is refused
    if (order(saving, "output", NULL, output_fds[1], -1, err) < 0)
        return -1;
    const struct process_io io = { order_end, report_end, STDERR_FILENO, &staging, 1 };
    return process_spawn(saving->program, -1, argv, envp, &io, &saving->process, err);
}

int pipe_relay(int fd, worker_pipe_fn *sink, void *context, const struct cancel *cancel, struct err *err)
{
    for (;;) {
        int size;
        if (cancel_wait(cancel, fd, -1, err) < 0)
            return -1;
        if (ioctl(fd, FIONREAD, &size) < 0)
            return err_errno(err, errno, "read the archive");
        if (size == 0)
            return 0; // readable without bytes: its end
        if (sink(context, fd, (size_t)size) < 0)
            return err_set(err, ERR_CANCELLED, "the client left");
    }
}

// What it said of a failure; one line at most.
static int end_worker(struct saving *saving, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64 << 10);
    _cleanup_json_ json_t *report = NULL;
    int status;
    if (file_read_fd(saving->report_fd, "report", &text, err) < 0 || process_wait(&saving->process, &status, err) < 0)
        return -1;
    if (process_exit_code(status) == 0)
        return 0;
    const json_t *error = json_parse(buf_text(&text), text.size, &report, NULL) == 0 ? json_object_get(report, "error") : NULL;
    return err_set(err, ERR_INTERNAL, "save: %s", error ? json_get_text(error, "message", "") : "the image worker failed");
}

// What is saved: one image with names that it may not have here, images by their names, or files.
struct save_order {
    const char *id;
    const struct strv *names;
    const struct worker_file *files;
    size_t len;
};

static int order_what(struct saving *saving, const struct save_order *what, struct err *err)
{
    if (!what->names)
        return order_files(saving, what->files, what->len, err);
    return what->id ? order_one(saving, what->id, what->names, err) : order_all(saving, what->names, err);
}

static int save(struct saving *saving, const struct save_order *what, worker_pipe_fn *sink, void *context, const struct cancel *cancel, struct err *err)
{
    // Everything that can be missing is found before the first byte goes out.
    if (start_worker(saving, err) < 0 || order_what(saving, what, err) < 0)
        return -1;
    fd_close(take_fd(&saving->order_fd));
    if (pipe_relay(saving->output_fd, sink, context, cancel, err) < 0)
        return -1;
    return end_worker(saving, err);
}

#define SAVING_INIT(of_images, of_program, of_arena) \
    { .images = (of_images), .program = (of_program), .arena = (of_arena), .process = PROCESS_NONE, .order_fd = -1, .output_fd = -1, .report_fd = -1, \
      .lines = BUF_INIT(32 << 10), .manifests = json_array(), .entries = json_array(), .repositories = json_object() }

int worker_save(struct image_store *images, const char *program, const struct strv *names, worker_pipe_fn *sink, void *context,
                const struct cancel *cancel, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_(saving_done) struct saving saving = SAVING_INIT(images, program, &arena);
    if (names->len == 0 || names->len > NAMES_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "save: 1 to %d images are named in a request", NAMES_MAX);
    return save(&saving, &(const struct save_order){ .names = names }, sink, context, cancel, err);
}

int worker_save_image(struct image_store *images, const char *program, const char *id, const struct strv *names, worker_pipe_fn *sink, void *context,
                      const struct cancel *cancel, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_(saving_done) struct saving saving = SAVING_INIT(images, program, &arena);
    return save(&saving, &(const struct save_order){ .id = id, .names = names }, sink, context, cancel, err);
}

int worker_save_files(struct image_store *images, const char *program, const struct worker_file *files, size_t len, worker_pipe_fn *sink, void *context,
                      const struct cancel *cancel, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_(saving_done) struct saving saving = SAVING_INIT(images, program, &arena);
    return save(&saving, &(const struct save_order){ .files = files, .len = len }, sink, context, cancel, err);
}
