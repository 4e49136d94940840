// moby.filesync.v1.FileSend/DiffCopy, by which results go to the client: as a stream of bytes, or as a folder. Of a folder first all entries
// are told, in the order of a walk; the client asks for the files that it wants by their places in that list.
#include <errno.h>

#include "base/fd.h"
#include "untar.h"

#define PART ((size_t)1 << 20) // of a message
#define ENTRIES_MAX 10000000
#define REQUEST_MAX ((size_t)64 << 10)

struct sending {
    const struct send_target *target;
    struct grpc_call *call;
    struct arena arena;
    int64_t sent, told;
    struct buf part, message;
};

static int open_call(struct sending *sending, struct err *err)
{
    const struct kvs *said = sending->target->said;
    struct arena *arena = &sending->arena;
    size_t len = 0;
    struct kv *metadata = arena_alloc(arena, (2 + (said ? said->len : 0)) * sizeof(*metadata));
    metadata[len++] = (struct kv){ arena_strdup(arena, "buildkit-attachable-exporter-id"), arena_printf(arena, "%zu", sending->target->number) };
    if (sending->target->mirror)
        metadata[len++] = (struct kv){ arena_strdup(arena, "buildkit-exporter-multi-platform"), arena_strdup(arena, "1") };
    for (size_t i = 0; said && i < said->len; i++)
        metadata[len++] = (struct kv){ arena_printf(arena, "exporter-md-%s", said->items[i].key), said->items[i].value };
    const struct grpc_request request = { .path = "/moby.filesync.v1.FileSend/DiffCopy", .metadata = metadata, .metadata_len = len };
    return grpc_call_new(sending->target->session->grpc, &request, &sending->call, err);
}

static void sending_done(struct sending *sending)
{
    grpc_call_free(sending->call);
    buf_done(&sending->part);
    buf_done(&sending->message);
    arena_done(&sending->arena);
}

static void tell_sent(struct sending *sending, size_t size, bool end)
{
    sending->sent += (int64_t)size;
    if (end || sending->sent - sending->told > (int64_t)(4 * PART)) {
        step_status(sending->target->step, sending->target->said ? "sending tarball" : "copying files", sending->sent, 0, end);
        sending->told = sending->sent;
    }
}

// Why the client has no more of it: it says so when it is asked.
static int refused(struct sending *sending, struct err *err)
{
    struct err said = { 0 };
    if (grpc_recv(sending->call, &sending->message, &said) < 0 && said.class != ERR_NONE)
        *err = said;
    return -1;
}

static int send_encoded(struct sending *sending, const struct proto_message *table, const void *message, struct err *err)
{
    buf_clear(&sending->message);
    proto_encode(table, message, &sending->message);
    if (buf_check(&sending->message, "message", err) < 0)
        return -1;
    return grpc_send(sending->call, (struct slice){ buf_text(&sending->message), sending->message.size }, err) < 0 ? refused(sending, err) : 0;
}

// ---- bytes ----------------------------------------------------------------------------------------------------------

static int flush(struct sending *sending, struct err *err)
{
    const struct bytes_message message = { { buf_text(&sending->part), sending->part.size } };
    if (sending->part.size == 0)
        return 0;
    if (send_encoded(sending, &bytes_table, &message, err) < 0)
        return -1;
    tell_sent(sending, sending->part.size, false);
    buf_clear(&sending->part);
    return 0;
}

static int take_bytes(void *of, const char *data, size_t size, struct err *err)
{
    struct sending *sending = of;
    while (size > 0) {
        size_t part = MIN_OF(size, PART - sending->part.size);
        buf_add(&sending->part, data, part);
        data += part;
        size -= part;
        if (sending->part.size == PART && flush(sending, err) < 0)
            return -1;
    }
    return 0;
}

int send_bytes(const struct send_target *target, send_make_fn *make, void *of, struct err *err)
{
    _cleanup_(sending_done) struct sending sending = { .target = target, .part = BUF_INIT(PART), .message = BUF_INIT(2 * PART) };
    if (open_call(&sending, err) < 0 || make(of, take_bytes, &sending, err) < 0 || flush(&sending, err) < 0)
        return -1;
    grpc_send_end(sending.call);
    if (grpc_recv(sending.call, &sending.message, err) < 0) // 0: the client has it all
        return -1;
    tell_sent(&sending, 0, true);
    return 0;
}

// ---- a folder -------------------------------------------------------------------------------------------------------

struct place {
    const char *path; // in the arena; NULL: nothing to ask for
    int64_t size;
};

struct folder {
    struct sending sending;
    const struct send_tree *tree;
    struct untar untar;
    struct place *places;
    size_t len, capacity;
};

static int send_packet(struct folder *folder, const struct packet_message *packet, struct err *err)
{
    return send_encoded(&folder->sending, &packet_table, packet, err);
}

static int tell_entry(void *of, const struct stat_message *stat, struct err *err)
{
    struct folder *folder = of;
    const struct packet_message packet = { .type = PACKET_STAT, .stat = (struct stat_message *)stat };
    bool content = !(stat->mode & (MODE_DIR | MODE_SYMLINK | MODE_DEVICE | MODE_PIPE)) && str_empty(stat->linkname);
    if (folder->len == ENTRIES_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "the image has more than %d files", ENTRIES_MAX);
    if (folder->len == folder->capacity) {
        folder->capacity = MAX_OF(2 * folder->capacity, (size_t)256);
        folder->places = mem_grow(folder->places, folder->capacity * sizeof(*folder->places));
    }
    folder->places[folder->len++] = (struct place){ content ? arena_strdup(&folder->sending.arena, stat->path) : NULL, stat->size };
    return send_packet(folder, &packet, err);
}

static int skip_content(void *of, const char *data, size_t size, struct err *err)
{
    return 0;
}

static int skip_end(void *of, const struct stat_message *stat, struct err *err)
{
    return 0;
}

static int take_tar(void *of, const char *data, size_t size, struct err *err)
{
    struct folder *folder = of;
    return untar_add(&folder->untar, data, size, err);
}

static int send_list(struct folder *folder, struct err *err)
{
    const struct packet_message end = { .type = PACKET_STAT };
    if (folder->tree->make(folder->tree->of, take_tar, folder, err) < 0 || untar_end(&folder->untar, err) < 0)
        return -1;
    return send_packet(folder, &end, err);
}

static int send_file(struct folder *folder, uint32_t id, struct err *err)
{
    const struct place *place = id < folder->len ? &folder->places[id] : NULL;
    if (!place || !place->path)
        return err_set(err, ERR_INVALID_ARGUMENT, "the client asked for what is no file");
    _cleanup_close_ int fd = folder->tree->open(folder->tree->of, place->path, err);
    _cleanup_free_ char *data = mem_alloc(32 << 10);
    if (fd < 0)
        return err_wrap(err, "%.300s", place->path);
    for (;;) {
        ssize_t got = fd_read_full(fd, data, 32 << 10, err);
        if (got < 0)
            return -1;
        const struct packet_message packet = { .type = PACKET_DATA, .id = id, .data = { data, (size_t)got } };
        if (send_packet(folder, &packet, err) < 0)
            return -1;
        tell_sent(&folder->sending, (size_t)got, false);
        if (got == 0) // an empty one is the end
            return 0;
    }
}

static int next_request(struct folder *folder, struct packet_message *out, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_buf_ struct buf text = BUF_INIT(REQUEST_MAX);
    if (cancel_now(folder->sending.target->cancel))
        return err_set(err, ERR_CANCELLED, "the build was cancelled");
    int got = grpc_recv(folder->sending.call, &text, err);
    if (got <= 0)
        return got < 0 ? -1 : err_set(err, ERR_UNAVAILABLE, "the client ended the transfer of its files");
    if (proto_decode((struct slice){ buf_text(&text), text.size }, &packet_table, &arena, out, err) < 0)
        return -1;
    if (out->type == PACKET_ERR)
        return err_set(err, ERR_UNAVAILABLE, "error from receiver: %.*s", (int)MIN_OF(out->data.size, (size_t)500), out->data.data);
    out->stat = NULL;
    out->data = (struct slice){ 0 };
    return 0;
}

// Both sides say that they are done.
static int serve_requests(struct folder *folder, struct err *err)
{
    const struct packet_message end = { .type = PACKET_FIN };
    for (;;) {
        struct packet_message packet;
        if (next_request(folder, &packet, err) < 0)
            return -1;
        if (packet.type == PACKET_FIN)
            break;
        if (packet.type != PACKET_REQ)
            return err_set(err, ERR_INVALID_ARGUMENT, "the client sent what it was not asked for");
        if (send_file(folder, packet.id, err) < 0)
            return -1;
    }
    if (send_packet(folder, &end, err) < 0)
        return -1;
    grpc_send_end(folder->sending.call);
    return grpc_recv(folder->sending.call, &folder->sending.message, err) < 0 ? -1 : 0;
}

int send_folder(const struct send_target *target, const struct send_tree *tree, struct err *err)
{
    struct folder folder = { .sending = { .target = target, .part = BUF_INIT(0), .message = BUF_INIT(2 * PART) }, .tree = tree };
    const struct files_sink sink = { tell_entry, skip_content, skip_end, &folder };
    untar_init(&folder.untar, &sink);
    int result = open_call(&folder.sending, err) < 0 || send_list(&folder, err) < 0 || serve_requests(&folder, err) < 0 ? -1 : 0;
    if (result == 0)
        tell_sent(&folder.sending, 0, true);
    untar_done(&folder.untar);
    free(folder.places);
    sending_done(&folder.sending);
    return result;
}
