// containerd.services.content.v1.Content, which a client serves over folders of its own: blobs by their digests, to be read and to be written.
//
// Nothing that comes is believed: a blob has the size that was expected, its parts follow each other, and whoever takes it checks its digest.
#include <errno.h>

#include "buildkit_private.h"

#define PART ((size_t)1 << 20) // of a message
#define ANSWER_NS (60 * NS_PER_S)
#define SERVICE "/containerd.services.content.v1.Content/"

static int call_of(const struct content_store *store, const char *path, int64_t timeout_ns, struct grpc_call **out, struct err *err)
{
    char name[] = "buildkit-attachable-store-id";
    const struct kv metadata = { name, (char *)store->id };
    const struct grpc_request request = { .path = path, .metadata = &metadata, .metadata_len = 1, .timeout_ns = timeout_ns };
    return grpc_call_new(store->session->grpc, &request, out, err);
}

static int send_part(struct grpc_call *call, const struct proto_message *table, const void *in, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(2 * PART);
    proto_encode(table, in, &text);
    return buf_check(&text, "message", err) < 0 ? -1 : grpc_send(call, (struct slice){ buf_text(&text), text.size }, err);
}

// 0: that was the last one.
static int take_part(struct grpc_call *call, const struct proto_message *table, struct buf *text, struct arena *arena, void *out, struct err *err)
{
    int got = grpc_recv(call, text, err);
    if (got <= 0)
        return got;
    return proto_decode((struct slice){ buf_text(text), text->size }, table, arena, out, err) < 0 ? -1 : 1;
}

// ---- reading --------------------------------------------------------------------------------------------------------

int content_size(const struct content_store *store, const char *digest, int64_t *size, struct err *err)
{
    _cleanup_grpc_call_ struct grpc_call *call = NULL;
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_buf_ struct buf text = BUF_INIT(PART);
    const struct content_info_request request = { (char *)digest };
    struct content_info_response answer;
    if (call_of(store, SERVICE "Info", ANSWER_NS, &call, err) < 0 || send_part(call, &content_info_request_table, &request, err) < 0)
        return -1;
    grpc_send_end(call);
    int got = take_part(call, &content_info_response_table, &text, &arena, &answer, err);
    if (got < 0)
        return -1;
    if (got == 0 || !answer.info || !str_eq(answer.info->digest, digest) || answer.info->size < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "the client says nothing of its blob %s", digest);
    *size = answer.info->size;
    return 0;
}

int content_read(const struct content_store *store, const char *digest, int64_t size, buildkit_bytes_fn *bytes, void *bytes_of, struct err *err)
{
    _cleanup_grpc_call_ struct grpc_call *call = NULL;
    _cleanup_buf_ struct buf text = BUF_INIT(MESSAGE_MAX);
    const struct content_read_request request = { .digest = (char *)digest };
    int64_t at = 0;
    int got;
    if (call_of(store, SERVICE "Read", 0, &call, err) < 0 || send_part(call, &content_read_request_table, &request, err) < 0)
        return -1;
    grpc_send_end(call);
    for (;;) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct content_read_response part;
        if ((got = take_part(call, &content_read_response_table, &text, &arena, &part, err)) <= 0)
            break;
        if (cancel_now(store->cancel))
            return err_set(err, ERR_CANCELLED, "the build was cancelled");
        if (part.offset != at || (int64_t)part.data.size > size - at)
            return err_set(err, ERR_INVALID_ARGUMENT, "the client's blob %s is not of %lld bytes in their order", digest, (long long)size);
        at += (int64_t)part.data.size;
        if (bytes(bytes_of, part.data.data, part.data.size, err) < 0)
            return -1;
    }
    if (got < 0)
        return -1;
    return at == size ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "the client's blob %s is not of %lld bytes", digest, (long long)size);
}

// ---- writing --------------------------------------------------------------------------------------------------------

// 1: the client has it.
static int there_is(const struct err *err)
{
    return err->class == ERR_CONFLICT && err->number == EEXIST;
}

// Its answer to the one before.
static int take_answer(struct content_write *write, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct content_write_response answer;
    struct err said = { 0 };
    int got = take_part(write->call, &content_write_response_table, &write->answer, &arena, &answer, &said);
    if (got < 0 && there_is(&said)) {
        write->there = true;
        return 0;
    }
    if (got < 0 && err)
        *err = said;
    if (got == 0)
        err_set(err, ERR_UNAVAILABLE, "the client ended the transfer of %s", write->digest);
    return got > 0 ? 0 : -1;
}

static int say(struct content_write *write, enum content_action action, struct slice data, struct err *err)
{
    const struct content_write_request request = { .action = action, .ref = write->digest, .total = write->size, .expected = write->digest,
                                                   .offset = write->at, .data = data };
    if (send_part(write->call, &content_write_request_table, &request, NULL) < 0)
        return take_answer(write, err) < 0 || write->there ? -1 : err_set(err, ERR_UNAVAILABLE, "the client takes no more of %s", write->digest);
    return take_answer(write, err);
}

int content_write_begin(const struct content_store *store, const char *digest, int64_t size, struct content_write *out, struct err *err)
{
    struct err missing = { 0 };
    int64_t there;
    *out = (struct content_write){ .size = size, .digest = mem_strdup(digest), .part = BUF_INIT(PART), .answer = BUF_INIT(PART) };
    if (content_size(store, digest, &there, &missing) == 0) {
        out->there = true;
        return 0;
    }
    if (missing.class != ERR_NOT_FOUND) {
        if (err)
            *err = missing;
        return -1;
    }
    if (call_of(store, SERVICE "Write", 0, &out->call, err) < 0)
        return -1;
    return say(out, CONTENT_STAT, (struct slice){ 0 }, err) < 0 && !out->there ? -1 : 0;
}

static int flush(struct content_write *write, struct err *err)
{
    const struct slice part = { buf_text(&write->part), write->part.size };
    if (part.size == 0 || write->there)
        return 0;
    if (say(write, CONTENT_WRITE, part, err) < 0)
        return -1;
    write->at += (int64_t)part.size;
    buf_clear(&write->part);
    return 0;
}

int content_write_add(struct content_write *write, const char *data, size_t size, struct err *err)
{
    while (size > 0 && !write->there) {
        size_t part = MIN_OF(size, PART - write->part.size);
        buf_add(&write->part, data, part);
        data += part;
        size -= part;
        if (write->part.size == PART && flush(write, err) < 0)
            return -1;
    }
    return 0;
}

int content_write_end(struct content_write *write, struct err *err)
{
    if (flush(write, err) < 0)
        return -1;
    return write->there || say(write, CONTENT_COMMIT, (struct slice){ 0 }, err) == 0 || write->there ? 0 : -1;
}

void content_write_done(struct content_write *write)
{
    grpc_call_free(write->call);
    buf_done(&write->part);
    buf_done(&write->answer);
    free(write->digest);
    *write = (struct content_write){ 0 };
}
