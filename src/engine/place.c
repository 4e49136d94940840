// COPY and ADD, as the jailed archive worker does them: what is asked of it.
#include "place.h"
#include "layer/layer.h"
#include "kernel/path.h"
#include "worker/worker.h"

#define HEAD_SIZE 512 // of a tar

// ---- the order ------------------------------------------------------------------------------------------------------

static json_t *add_source(struct place_order *order, int fd, const char *path, bool exact, bool tar)
{
    json_t *row = json_pack("{s:I, s:b, s:b}", "tree", (json_int_t)order->len, "exact", exact, "tar", tar);
    json_object_set_new(row, "path", json_new_text(path));
    json_array_append_new(json_object_get(order->spec, "sources"), row);
    order->fds = mem_grow(order->fds, (order->len + 1) * sizeof(*order->fds));
    order->fds[order->len++] = fd;
    return row;
}

static void add_tree(struct place_order *order, const struct step_source *source)
{
    json_t *row = add_source(order, source->tree_fd, source->path, false, false);
    if (source->include)
        json_object_set_new(row, "includes", json_pack("[o]", json_new_text(source->include)));
    if (source->required)
        json_object_set_new(row, "required", json_new_text(source->required));
}

void place_order_init(struct place_order *order, struct engine *engine, const struct step_place *place, bool tell)
{
    *order = (struct place_order){ .engine = engine };
    order->spec = json_pack("{s:[], s:[], s:b, s:b, s:I, s:I, s:I, s:b, s:b}", "sources", "excludes", "folder", place->folder, "roots", place->roots, "mode",
                            (json_int_t)place->mode, "time_max", (json_int_t)place->time_max, "now", (json_int_t)place->now, "tell", tell, "optional",
                            place->optional);
    json_object_set_new(order->spec, "target", json_new_text(place->target));
    if (place->owner)
        json_object_set_new(order->spec, "owner", json_new_text(place->owner));
    if (place->chmod)
        json_object_set_new(order->spec, "chmod", json_new_text(place->chmod));
    for (size_t i = 0; place->excludes && i < place->excludes->len; i++)
        json_array_append_new(json_object_get(order->spec, "excludes"), json_new_text(place->excludes->items[i]));
}

void place_order_done(struct place_order *order)
{
    for (size_t i = 0; i < order->inflate_len; i++) {
        inflate_done(order->inflates[i]);
        free(order->inflates[i]);
    }
    for (size_t i = 0; i < order->own_len; i++)
        fd_close(order->own_fds[i]);
    free(order->inflates);
    free(order->own_fds);
    free(order->fds);
    json_decref(order->spec);
}

// ---- archives -------------------------------------------------------------------------------------------------------

// A header's checksum, as every tar has it.
static bool is_header(const unsigned char head[HEAD_SIZE])
{
    char text[9] = { 0 };
    unsigned long sum = 0;
    memcpy(text, head + 148, 8);
    for (size_t i = 0; i < HEAD_SIZE; i++)
        sum += i >= 148 && i < 156 ? ' ' : head[i];
    return head[0] && strtoul(text, NULL, 8) == sum;
}

static struct inflate *add_inflate(struct place_order *order)
{
    struct inflate *inflate = mem_new(struct inflate);
    *inflate = (struct inflate)INFLATE_INIT(order->engine);
    order->inflates = mem_grow(order->inflates, (order->inflate_len + 1) * sizeof(struct inflate *));
    order->inflates[order->inflate_len++] = inflate;
    return inflate;
}

// What the file inflates to begins as a tar does. It is inflated twice: the first time nobody reads on.
static bool inflates_to_tar(struct engine *engine, int file_fd)
{
    unsigned char head[HEAD_SIZE];
    struct inflate probe = INFLATE_INIT(engine);
    bool tar = inflate_file(&probe, file_fd, NULL) == 0 && fd_read_full(probe.fd, head, sizeof(head), NULL) == HEAD_SIZE && is_header(head);
    inflate_done(&probe);
    lseek(file_fd, 0, SEEK_SET);
    return tar;
}

enum file_form file_form_of(struct engine *engine, int file_fd, struct err *err)
{
    unsigned char head[HEAD_SIZE];
    lseek(file_fd, 0, SEEK_SET);
    ssize_t size = fd_read_full(file_fd, head, sizeof(head), err);
    lseek(file_fd, 0, SEEK_SET);
    if (size < 0)
        return FILE_FORM_FAILED;
    if (layer_is_compressed(head, MIN_OF((size_t)size, (size_t)LAYER_MAGIC_SIZE)))
        return inflates_to_tar(engine, file_fd) ? FILE_FORM_COMPRESSED : FILE_FORM_NONE;
    return size == HEAD_SIZE && is_header(head) ? FILE_FORM_TAR : FILE_FORM_NONE;
}

static int own_fd(struct place_order *order, int fd)
{
    order->own_fds = mem_grow(order->own_fds, (order->own_len + 1) * sizeof(*order->own_fds));
    order->own_fds[order->own_len++] = fd;
    return fd;
}

// 1: it is an archive, and its members are in the order.
static int add_archive(struct place_order *order, int tree_fd, const char *path, struct err *err)
{
    int file = path_open_file(tree_fd, path, err);
    if (file < 0)
        return -1;
    own_fd(order, file);
    enum file_form form = file_form_of(order->engine, file, err);
    if (form == FILE_FORM_FAILED || form == FILE_FORM_NONE)
        return form == FILE_FORM_NONE ? 0 : -1;
    if (form == FILE_FORM_COMPRESSED) {
        struct inflate *inflate = add_inflate(order);
        if (inflate_file(inflate, file, err) < 0)
            return -1;
        file = inflate->fd;
    }
    add_source(order, file, "/", true, true);
    return 1;
}

int place_order_add(struct place_order *order, const struct step_place *place, const struct step_sources *looked, struct err *err)
{
    for (size_t i = 0; i < place->source_len; i++) {
        const struct step_source *source = &place->sources[i];
        if (!source->unpack || !looked) {
            add_tree(order, source);
            continue;
        }
        for (size_t k = 0; k < looked->len; k++) {
            const struct step_found *found = &looked->found[k];
            int archive = found->source != i ? -2 : found->packed ? add_archive(order, source->tree_fd, found->path, err) : 0;
            if (archive == -1)
                return -1;
            if (archive == 0)
                add_source(order, source->tree_fd, found->path, true, false);
        }
    }
    return 0;
}

// ---- a copy ---------------------------------------------------------------------------------------------------------

int folder_place(struct engine *engine, int folder_fd, const struct step_place *place, const struct cancel *cancel, struct err *err)
{
    struct err ended = { 0 };
    _cleanup_(place_order_done) struct place_order order;
    place_order_init(&order, engine, place, false);
    _cleanup_close_ int empty = tree_of_image(engine, NULL, err), tree = tree_of_folder(folder_fd, err);
    if (empty < 0 || tree < 0 || place_order_add(&order, place, NULL, err) < 0)
        return -1;
    _cleanup_(filer_done) struct filer from = FILER_ALONE(engine), into = FILER_ALONE(engine);
    const struct filer_wish give = { .verb = "place", .root_fd = empty, .source_fds = order.fds, .source_len = order.len, .spec = order.spec,
                                     .output = true, .data_fd = -1 };
    if (filer_start(&from, &give, err) < 0)
        return -1;
    const struct filer_wish take = { .verb = "put", .path = "/", .root_fd = tree, .data_fd = from.data_fd };
    if (filer_start(&into, &take, err) < 0)
        return -1;
    int taken = filer_end(&into, cancel, &ended);
    if (filer_end(&from, cancel, err) < 0)
        return -1;
    return taken < 0 ? err_set(err, ended.class, "%s", ended.message) : 0;
}
