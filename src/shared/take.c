// An image that was pushed becomes the engine's. To the worker we are the fetching half of a pull (transfer/link.h): it gets the documents,
// which layers the store has, and the blobs of the others as files; what it stages is taken over in one transaction.
//
// The blobs that came stay: each gets a second name beside its layer, so that what the registry drops after a while is only its own.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/file.h"
#include "json/json.h"
#include "shared_private.h"
#include "transfer/link.h"
#include "worker/worker.h"

#define CONFIG_MAX ((size_t)8 << 20)

struct taken_layer {
    const char *digest, *diff_id;
    int64_t size; // of a layer that the store has, else -1
    bool repeated; // its blob stands lower in the same image, too
};

struct taking {
    struct shared *shared;
    const struct registry_image *image;
    struct arena *arena;
    struct oci_manifest manifest;
    struct buf config;
    struct taken_layer *layers;
    size_t len;
    char *id;
    int link_fd, their_fd;
    pthread_t sender;
    bool sends;
    struct err failure; // of the sender: what it could not give
};

// ---- what it is -----------------------------------------------------------------------------------------------------

static const struct oci_descriptor *layer_at(const struct taking *taking, size_t index)
{
    return json_list_at(&taking->manifest.layers, &oci_descriptor_table, index);
}

// What has the form of an image and is none (signatures, charts, modules) shows in its media types. The store knows SHA-256 alone.
static bool is_image(const struct taking *taking)
{
    const struct oci_descriptor *config = &taking->manifest.config;
    if ((!str_eq(config->media_type, MEDIA_OCI_CONFIG) && !str_eq(config->media_type, MEDIA_DOCKER_CONFIG)) || !oci_digest_valid(config->digest))
        return false;
    for (size_t i = 0; i < taking->manifest.layers.len; i++)
        if (!oci_layer_is_tar(layer_at(taking, i)->media_type) || !oci_digest_valid(layer_at(taking, i)->digest))
            return false;
    return true;
}

// The registry's own blob, else the engine's.
static int open_blob(const struct taking *taking, const char *digest, struct err *err)
{
    const struct registry_image *image = taking->image;
    struct image_blob blob = { -1, -1, 0 };
    struct err why = { 0 };
    int fd = image->open(image->context, digest, &why);
    if (fd >= 0)
        return fd;
    if (why.class != ERR_NOT_FOUND)
        return *err = why, -1;
    int found = image_blob_open(taking->shared->images, digest, true, &blob, err);
    if (found > 0 && blob.recipe_fd < 0)
        return blob.fd;
    image_blob_done(&blob);
    return found < 0 ? -1 : err_set(err, ERR_NOT_FOUND, "%s", why.message);
}

static int read_config(struct taking *taking, struct oci_image_config *out, struct err *err)
{
    _cleanup_close_ int fd = open_blob(taking, taking->manifest.config.digest, err);
    if (fd < 0 || file_read_fd(fd, "image configuration", &taking->config, err) < 0)
        return -1;
    if (json_decode_text(&oci_image_config_table, buf_text(&taking->config), taking->config.size, out, taking->arena, NULL, err) < 0)
        return err_wrap(err, "image configuration");
    return 0;
}

// ---- its layers -----------------------------------------------------------------------------------------------------

static bool is_repeated(const struct taking *taking, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (str_eq(taking->layers[i].digest, taking->layers[index].digest))
            return true;
    return false;
}

// That a blob is the layer's is known only of what was inflated here: the store's own, else it comes (again).
static int find_layer(struct taking *taking, size_t index, const char *diff_id, struct err *err)
{
    struct taken_layer *layer = &taking->layers[index];
    *layer = (struct taken_layer){ .digest = layer_at(taking, index)->digest, .diff_id = diff_id, .size = -1 };
    if (!oci_digest_valid(diff_id))
        return err_set(err, ERR_INVALID_ARGUMENT, "diffID of layer %zu: not a digest", index);
    layer->repeated = is_repeated(taking, index);
    int64_t size;
    int known = image_layer_has(taking->shared->images, diff_id, layer->digest, &size, err);
    if (known > 0)
        layer->size = size;
    if (known != 0)
        return known < 0 ? -1 : 0;
    int fd = open_blob(taking, layer->digest, err); // so that what is missing is told before anything is done
    fd_close(fd);
    return fd < 0 ? -1 : 0;
}

static int find_layers(struct taking *taking, const struct oci_image_config *config, struct err *err)
{
    const struct strv *diff_ids = &config->rootfs.diff_ids;
    taking->len = taking->manifest.layers.len;
    if (diff_ids->len != taking->len)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid manifest, layers length mismatch: expected %zu, got %zu", diff_ids->len, taking->len);
    taking->layers = arena_alloc(taking->arena, (taking->len + 1) * sizeof(*taking->layers));
    for (size_t i = 0; i < taking->len; i++)
        if (find_layer(taking, i, diff_ids->items[i], err) < 0)
            return -1;
    return 0;
}

// ---- what the worker gets -------------------------------------------------------------------------------------------

static int send_message(const struct taking *taking, const struct link_message *message, int fd, struct err *err)
{
    return fd_send(taking->link_fd, message, sizeof(*message), &fd, fd >= 0, err) < 0 ? -1 : 0;
}

static int send_text(const struct taking *taking, enum link_kind kind, const char *text, size_t size, struct err *err)
{
    const struct link_message message = { .kind = kind };
    _cleanup_close_ int fd = memfd_create("document", MFD_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "document");
    return fd_write_at(fd, text, size, 0, err) < 0 ? -1 : send_message(taking, &message, fd, err);
}

static int send_layer(const struct taking *taking, size_t index, struct err *err)
{
    const struct taken_layer *layer = &taking->layers[index];
    const struct link_message known = { .kind = LINK_KNOWN, .position = (uint32_t)index, .size = layer->size };
    const struct link_message comes = { .kind = LINK_LAYER, .position = (uint32_t)index };
    if (layer->size >= 0)
        return send_message(taking, &known, -1, err);
    if (layer->repeated)
        return 0;
    _cleanup_close_ int fd = open_blob(taking, layer->digest, err);
    return fd < 0 ? -1 : send_message(taking, &comes, fd, err);
}

static int send_all(const struct taking *taking, struct err *err)
{
    const struct link_message end = { .kind = LINK_END };
    if (send_text(taking, LINK_TOP, taking->image->text, strlen(taking->image->text), err) < 0 ||
        send_text(taking, LINK_CONFIG, buf_text(&taking->config), taking->config.size, err) < 0)
        return -1;
    for (size_t i = 0; i < taking->len; i++)
        if (send_layer(taking, i, err) < 0)
            return -1;
    return send_message(taking, &end, -1, err);
}

// In a thread: the worker reports meanwhile, and neither may wait for the other.
static void *send_thread(void *context)
{
    struct taking *taking = context;
    if (send_all(taking, &taking->failure) < 0) {
        const struct link_message failed = { .kind = LINK_ERROR, .err = taking->failure };
        send_message(taking, &failed, -1, NULL);
    }
    return NULL;
}

static int started(struct worker *worker, struct err *err)
{
    struct taking *taking = worker->owner;
    fd_close(take_fd(&taking->their_fd)); // a worker that is gone is seen
    int failed = pthread_create(&taking->sender, NULL, send_thread, taking);
    if (failed)
        return err_errno(err, failed, "thread");
    taking->sends = true;
    return 0;
}

static int told(struct worker *worker, const struct image_staged *staged, const char *id, struct arena *arena, struct err *err)
{
    struct taking *taking = worker->owner;
    taking->id = arena_strdup(taking->arena, id);
    return 0;
}

static char *tag_name(const struct taking *taking, size_t index)
{
    struct image_ref ref;
    shared_ref(taking->image->repository, taking->arena, &ref);
    return arena_printf(taking->arena, "%s:%s", ref.familiar_name, taking->image->tags->items[index]);
}

static int run_worker(struct taking *taking, struct err *err)
{
    static const struct cancel never = CANCEL_NEVER; // who hangs up now has sent everything
    int ends[2];
    _cleanup_(worker_done) struct worker worker = WORKER_INIT_OF(taking->shared->images, taking->shared->program, taking);
    char *const argv[] = { (char *)"berth-image", (char *)"receive", tag_name(taking, 0), NULL };
    worker.told = told;
    worker.started = started;
    if (fd_socketpair(SOCK_SEQPACKET, ends, err) < 0)
        return -1;
    taking->link_fd = ends[0];
    taking->their_fd = ends[1];
    int result = worker_run(&worker, argv, taking->their_fd, &never, err);
    shutdown(taking->link_fd, SHUT_RDWR);
    if (taking->sends)
        pthread_join(taking->sender, NULL);
    if (result == 0 && !taking->id)
        return err_set(err, ERR_INTERNAL, "the image worker staged nothing");
    return result;
}

// ---- the whole ------------------------------------------------------------------------------------------------------

static int keep_blobs(const struct taking *taking, struct err *err)
{
    for (size_t i = 0; i < taking->len; i++) {
        const struct taken_layer *layer = &taking->layers[i];
        if (layer->size >= 0 || layer->repeated || str_eq(layer->digest, layer->diff_id))
            continue;
        _cleanup_close_ int fd = open_blob(taking, layer->digest, err);
        if (fd < 0 || image_layer_keep(taking->shared->images, layer->diff_id, layer->digest, fd, err) < 0)
            return -1;
    }
    return 0;
}

static int take(struct taking *taking, struct err *err)
{
    if (run_worker(taking, err) < 0 || keep_blobs(taking, err) < 0)
        return -1;
    for (size_t i = 1; i < taking->image->tags->len; i++)
        if (image_tag(taking->shared->images, taking->id, tag_name(taking, i), err) < 0)
            return -1;
    return 0;
}

static int look_and_take(struct taking *taking, struct err *err)
{
    struct oci_image_config config;
    struct image_ref ref;
    const char *text = taking->image->text;
    if (!shared_ref(taking->image->repository, taking->arena, &ref) ||
        json_decode_text(&oci_manifest_table, text, strlen(text), &taking->manifest, taking->arena, NULL, NULL) < 0 || !is_image(taking))
        return 0;
    if (read_config(taking, &config, err) < 0 || find_layers(taking, &config, err) < 0)
        return -1;
    mutex_lock(&taking->shared->taking);
    int result = take(taking, err);
    mutex_unlock(&taking->shared->taking);
    return result < 0 ? -1 : 1;
}

int shared_take(void *shared, const struct registry_image *image, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct taking taking = { .shared = shared, .image = image, .arena = &arena, .config = BUF_INIT(CONFIG_MAX), .link_fd = -1, .their_fd = -1 };
    int result = look_and_take(&taking, err);
    fd_close(taking.link_fd);
    fd_close(taking.their_fd);
    buf_done(&taking.config);
    return result;
}
