// The client's files by moby.filesync.v1.FileSync/DiffCopy. First the client says what there is, an entry a packet, in its walk's order, and an
// empty one at the end; then each file is asked for by its place in that list, and comes in pieces, the last one empty. What the caller has
// already is passed over.
//
// Several files are asked for ahead, so that small ones do not cost a round trip each; what comes before its turn is kept. All that is
// asked for and not yet passed on is at most AHEAD_SIZE bytes, or one file, which goes through piece by piece.
#include <limits.h>

#include "buildkit_private.h"

#define ENTRIES_MAX 1000000
#define LIST_MAX ((size_t)512 << 20) // bytes of all entries
#define AHEAD_SIZE (4 << 20)
#define AHEAD_LEN 64 // the client's own queue has 128
#define PACKET_MAX ((size_t)4 << 20)
#define CANCEL_EVERY 64u // packets: looking costs a call

struct file {
    struct stat_message stat;
    struct buf early; // what came before its turn
    bool whole;
    bool known; // it is not asked for, nor passed on
};

struct files {
    struct grpc_call *call;
    const struct files_sink *sink;
    const struct cancel *cancel;
    struct step *step;
    const char *label; // of its progress
    struct arena arena; // of the list
    struct file *files;
    size_t len, capacity;
    size_t next; // the first that was not asked for
    size_t ahead_len;
    int64_t ahead_size;
    int64_t received, told;
    struct buf packet;
    unsigned packet_len; // that came
};

// ---- the request ----------------------------------------------------------------------------------------------------

static bool is_ascii(const struct strv *list)
{
    for (size_t i = 0; i < list->len; i++)
        for (const char *c = list->items[i]; *c; c++)
            if (*c < ' ' || *c > '~')
                return false;
    return true;
}

// As a form's values are: what a header can't carry is percent-encoded, all values of a name or none.
static const char *encode(const char *text, struct arena *arena)
{
    char *out = arena_alloc(arena, 3 * strlen(text) + 1), *end = out;
    for (const char *c = text; *c; c++)
        if ((*c >= '0' && *c <= '9') || (*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z') || strchr("-_.~", *c))
            *end++ = *c;
        else
            end += snprintf(end, 4, "%%%02X", (unsigned char)*c);
    return out;
}

static size_t add_values(struct kv *out, const char *name, const struct strv *list, struct arena *arena)
{
    size_t len = 0;
    if (!list || list->len == 0)
        return 0;
    bool plain = is_ascii(list);
    for (size_t i = 0; i < list->len; i++)
        out[len++] = (struct kv){ arena_strdup(arena, name), plain ? list->items[i] : arena_strdup(arena, encode(list->items[i], arena)) };
    if (!plain)
        out[len++] = (struct kv){ arena_printf(arena, "%s-encoded", name), arena_strdup(arena, "1") };
    return len;
}

static int open_call(struct files *transfer, struct buildkit_session *session, const struct files_request *asked, struct err *err)
{
    size_t max = 3 + (asked->excludes ? asked->excludes->len : 0) + (asked->follow ? asked->follow->len : 0);
    struct kv *metadata = arena_alloc(&transfer->arena, max * sizeof(*metadata));
    char *folder = arena_strdup(&transfer->arena, asked->folder);
    const struct strv folders = { &folder, 1, 0 };
    size_t len = add_values(metadata, "dir-name", &folders, &transfer->arena);
    len += add_values(metadata + len, "exclude-patterns", asked->excludes, &transfer->arena);
    len += add_values(metadata + len, "followpaths", asked->follow, &transfer->arena);
    const struct grpc_request request = { .path = "/moby.filesync.v1.FileSync/DiffCopy", .metadata = metadata, .metadata_len = len };
    return grpc_call_new(session->grpc, &request, &transfer->call, err);
}

// ---- packets --------------------------------------------------------------------------------------------------------

static int send_packet(struct files *transfer, int32_t type, uint32_t id, struct err *err)
{
    struct buf bytes = BUF_INIT(64);
    const struct packet_message packet = { .type = type, .id = id };
    proto_encode(&packet_table, &packet, &bytes);
    int result = grpc_send(transfer->call, (struct slice){ buf_text(&bytes), bytes.size }, err);
    buf_done(&bytes);
    return result;
}

// Its texts are in `arena`, its data in the transfer's packet.
static int next_packet(struct files *transfer, struct arena *arena, struct packet_message *out, struct err *err)
{
    if (transfer->packet_len++ % CANCEL_EVERY == 0 && cancel_now(transfer->cancel))
        return err_set(err, ERR_CANCELLED, "the build was cancelled");
    int got = grpc_recv(transfer->call, &transfer->packet, err);
    if (got <= 0)
        return got < 0 ? -1 : err_set(err, ERR_UNAVAILABLE, "the client ended the transfer of its files");
    if (proto_decode((struct slice){ buf_text(&transfer->packet), transfer->packet.size }, &packet_table, arena, out, err) < 0)
        return -1;
    if (out->type == PACKET_ERR)
        return err_set(err, ERR_UNAVAILABLE, "error from sender: %.*s", (int)MIN_OF(out->data.size, (size_t)500), out->data.data);
    return 0;
}

// ---- the list -------------------------------------------------------------------------------------------------------

static int check_stat(const struct files *transfer, const struct stat_message *stat, struct err *err)
{
    if (str_empty(stat->path) || strlen(stat->path) >= PATH_MAX || (stat->linkname && strlen(stat->linkname) >= PATH_MAX) || stat->size < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "the client's file list is malformed");
    if (transfer->len == ENTRIES_MAX || transfer->arena.used > LIST_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "the build context has more than %d files", ENTRIES_MAX);
    return 0;
}

static int receive_list(struct files *transfer, struct err *err)
{
    for (;;) {
        struct packet_message packet;
        if (next_packet(transfer, &transfer->arena, &packet, err) < 0)
            return -1;
        if (packet.type != PACKET_STAT)
            return err_set(err, ERR_INVALID_ARGUMENT, "the client sent what it was not asked for");
        if (!packet.stat)
            return 0;
        if (check_stat(transfer, packet.stat, err) < 0)
            return -1;
        if (transfer->len == transfer->capacity) {
            transfer->capacity = MAX_OF(2 * transfer->capacity, (size_t)64);
            transfer->files = mem_grow(transfer->files, transfer->capacity * sizeof(*transfer->files));
        }
        transfer->files[transfer->len++] = (struct file){ .stat = *packet.stat, .early = { .ceiling = AHEAD_SIZE } };
    }
}

// ---- the content ----------------------------------------------------------------------------------------------------

// A regular file with bytes of its own. The mode's type bits are those of Go.
static bool has_content(const struct file *file)
{
    const uint32_t types = 1u << 31 | 1u << 27 | 1u << 26 | 1u << 25 | 1u << 24 | 1u << 21 | 1u << 19;
    return !(file->stat.mode & types) && str_empty(file->stat.linkname) && file->stat.size > 0;
}

static int ask_ahead(struct files *transfer, size_t turn, struct err *err)
{
    for (; transfer->next < transfer->len; transfer->next++) {
        struct file *file = &transfer->files[transfer->next];
        if (file->known || !has_content(file))
            continue;
        bool fits = transfer->ahead_len < AHEAD_LEN && file->stat.size <= AHEAD_SIZE - MIN_OF(transfer->ahead_size, (int64_t)AHEAD_SIZE);
        if (!fits && transfer->next > turn)
            return 0;
        if (send_packet(transfer, PACKET_REQ, (uint32_t)transfer->next, err) < 0)
            return -1;
        transfer->ahead_len++;
        transfer->ahead_size += file->stat.size;
    }
    return 0;
}

static void tell_received(struct files *transfer, size_t size, bool end)
{
    transfer->received += (int64_t)size;
    if (end || transfer->received - transfer->told > AHEAD_SIZE) {
        step_status(transfer->step, transfer->label, transfer->received, 0, end);
        transfer->told = transfer->received;
    }
}

// Bytes of whatever file was asked for: of the one whose turn it is they go on at once.
static int take_data(struct files *transfer, size_t turn, const struct packet_message *packet, struct err *err)
{
    struct file *file = packet->id < transfer->next && packet->id >= turn ? &transfer->files[packet->id] : NULL;
    if (packet->type != PACKET_DATA || !file || file->known || !has_content(file) || file->whole)
        return err_set(err, ERR_INVALID_ARGUMENT, "the client sent what it was not asked for");
    if (packet->data.size == 0) {
        file->whole = true;
        return 0;
    }
    tell_received(transfer, packet->data.size, false);
    if (packet->id == turn)
        return transfer->sink->content(transfer->sink->of, packet->data.data, packet->data.size, err);
    // What a file has grown since it was listed is dropped, here as where it is written.
    size_t room = (size_t)file->stat.size - MIN_OF(file->early.size, (size_t)file->stat.size);
    buf_add(&file->early, packet->data.data, MIN_OF(packet->data.size, room));
    return buf_check(&file->early, file->stat.path, err);
}

static int receive_content(struct files *transfer, size_t turn, struct err *err)
{
    struct file *file = &transfer->files[turn];
    if (file->early.size && transfer->sink->content(transfer->sink->of, file->early.data, file->early.size, err) < 0)
        return -1;
    buf_done(&file->early);
    while (!file->whole) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct packet_message packet;
        if (next_packet(transfer, &arena, &packet, err) < 0 || take_data(transfer, turn, &packet, err) < 0)
            return -1;
    }
    transfer->ahead_len--;
    transfer->ahead_size -= file->stat.size;
    return 0;
}

static int receive_files(struct files *transfer, struct err *err)
{
    for (size_t i = 0; i < transfer->len; i++) {
        struct file *file = &transfer->files[i];
        if (file->known)
            continue;
        if (ask_ahead(transfer, i, err) < 0 || transfer->sink->entry(transfer->sink->of, &file->stat, err) < 0 ||
            (has_content(file) && receive_content(transfer, i, err) < 0) || transfer->sink->entry_end(transfer->sink->of, &file->stat, err) < 0)
            return -1;
    }
    return 0;
}

// ---- the whole ------------------------------------------------------------------------------------------------------

// Both sides say that they are done.
static int finish(struct files *transfer, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct packet_message packet;
    if (send_packet(transfer, PACKET_FIN, 0, err) < 0 || next_packet(transfer, &arena, &packet, err) < 0)
        return -1;
    if (packet.type != PACKET_FIN)
        return err_set(err, ERR_INVALID_ARGUMENT, "the client sent what it was not asked for");
    grpc_send_end(transfer->call);
    return grpc_recv(transfer->call, &transfer->packet, err) < 0 ? -1 : 0;
}

void files_close(struct files *transfer)
{
    if (!transfer)
        return;
    for (size_t i = 0; i < transfer->len; i++)
        buf_done(&transfer->files[i].early);
    free(transfer->files);
    grpc_call_free(transfer->call);
    buf_done(&transfer->packet);
    arena_done(&transfer->arena);
    free(transfer);
}

int files_list(struct buildkit_session *session, const struct files_request *request, struct step *step, const struct cancel *cancel, struct files **out,
               struct err *err)
{
    struct files *transfer = mem_new(struct files);
    *transfer = (struct files){ .cancel = cancel, .step = step, .packet = BUF_INIT(PACKET_MAX) };
    transfer->label = arena_printf(&transfer->arena, "transferring %s:", request->folder);
    int result = open_call(transfer, session, request, err);
    if (result == 0) {
        grpc_gather(transfer->call, true);
        result = receive_list(transfer, err);
        grpc_gather(transfer->call, false);
    }
    if (result < 0) {
        files_close(transfer);
        return -1;
    }
    *out = transfer;
    return 0;
}

size_t files_len(const struct files *transfer)
{
    return transfer->len;
}

const struct stat_message *files_stat(const struct files *transfer, size_t index)
{
    return &transfer->files[index].stat;
}

void files_skip(struct files *transfer, size_t index)
{
    transfer->files[index].known = true;
}

int files_fetch(struct files *transfer, const struct files_sink *sink, struct err *err)
{
    transfer->sink = sink;
    if (receive_files(transfer, err) < 0 || finish(transfer, err) < 0)
        return -1;
    tell_received(transfer, 0, true);
    return 0;
}

int files_receive(struct buildkit_session *session, const struct files_request *request, const struct files_sink *sink, struct step *step,
                  const struct cancel *cancel, struct err *err)
{
    struct files *files;
    if (files_list(session, request, step, cancel, &files, err) < 0)
        return -1;
    int result = files_fetch(files, sink, err);
    files_close(files);
    return result;
}
