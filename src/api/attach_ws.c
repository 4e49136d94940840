// Attaching by a websocket (RFC 6455): the shim is given one end of a socket pair and knows nothing of frames; this thread carries bytes
// between the other end and the client. What the container writes goes out as binary messages, unframed otherwise, as dockerd does it.
//
// What a container does not read yet is kept, a chunk at most, and nothing more is read from the client meanwhile: its output goes on. What a
// client does not read holds this thread, until the shim gives such a reader up.
#include <endian.h>
#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <poll.h>
#include <strings.h>
#include <sys/socket.h>

#include "api_private.h"
#include "base/fd.h"

#define CHUNK ((size_t)16 << 10)
#define CONTROL_MAX 125 // bytes of a ping or a close
#define HEAD_MAX 14

enum opcode { OP_CONTINUATION = 0, OP_TEXT = 1, OP_BINARY = 2, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };

struct websocket {
    int client_fd, container_fd;
    const struct cancel *cancel;
    uint8_t head[HEAD_MAX];
    size_t head_size; // of the message under way, so far
    bool inside; // its head is whole
    enum opcode opcode;
    uint64_t left, position; // of its content
    uint8_t mask[4], control[CONTROL_MAX];
    char *chunk; // CHUNK
    struct buf pending; // for the container: of one chunk at most
    bool ended; // the client says no more, or hears no more
};

// ---- the handshake --------------------------------------------------------------------------------------------------

static bool has_word(const char *list, const char *word)
{
    struct slice rest = slice_of(list ? list : ""), part;
    while (slice_cut(&rest, ',', &part)) {
        part = slice_trim(part);
        if (part.size == strlen(word) && strncasecmp(part.data, word, part.size) == 0)
            return true;
    }
    return false;
}

static int answer_of(const struct call *call, char **out, struct err *err)
{
    enum { SHA1_SIZE = 20 };
    const char *key = httpd_header(call->request, "Sec-WebSocket-Key"), *version = httpd_header(call->request, "Sec-WebSocket-Version");
    unsigned char digest[SHA1_SIZE];
    if (!has_word(httpd_header(call->request, "Upgrade"), "websocket") || !has_word(httpd_header(call->request, "Connection"), "upgrade") ||
        str_empty(key) || strlen(key) > 64 || !str_eq(version, "13"))
        return err_set(err, ERR_INVALID_ARGUMENT, "not websocket protocol");
    const char *text = arena_printf(call->arena, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    if (gnutls_hash_fast(GNUTLS_DIG_SHA1, text, strlen(text), digest) < 0)
        return err_set(err, ERR_INTERNAL, "no SHA-1");
    *out = base64_text(digest, sizeof(digest), call->arena);
    return 0;
}

// ---- frames ---------------------------------------------------------------------------------------------------------

static int send_frame(const struct websocket *socket, enum opcode opcode, const void *data, size_t size)
{
    uint8_t head[4] = { (uint8_t)(0x80 | opcode), (uint8_t)size };
    size_t head_size = 2;
    if (size > CONTROL_MAX) {
        head[1] = 126;
        head[2] = (uint8_t)(size >> 8);
        head[3] = (uint8_t)size;
        head_size = 4;
    }
    return fd_write_full(socket->client_fd, head, head_size, NULL) < 0 ? -1 : fd_write_full(socket->client_fd, data, size, NULL);
}

static size_t head_need(const struct websocket *socket)
{
    uint8_t size = socket->head[1] & 0x7f;
    return socket->head_size < 2 ? 2 : (size_t)(2 + 4 + (size == 126 ? 2 : size == 127 ? 8 : 0));
}

// False: no client of the protocol would say so.
static bool take_head(struct websocket *socket)
{
    const uint8_t *head = socket->head;
    uint64_t size = head[1] & 0x7f;
    if (size == 126)
        size = (uint64_t)head[2] << 8 | head[3];
    else if (size == 127)
        for (size_t i = size = 0; i < 8; i++)
            size = size << 8 | head[2 + i];
    socket->opcode = (enum opcode)(head[0] & 0x0f);
    socket->left = size;
    socket->position = 0;
    socket->inside = true;
    memcpy(socket->mask, head + socket->head_size - 4, 4);
    bool control = socket->opcode >= OP_CLOSE;
    return !(head[0] & 0x70) && (!control || (size <= CONTROL_MAX && (head[0] & 0x80)));
}

// A whole message, or of one that carries bytes a part. Negative: the end.
static int end_message(struct websocket *socket)
{
    socket->inside = false;
    socket->head_size = 0;
    if (socket->opcode == OP_PING)
        return send_frame(socket, OP_PONG, socket->control, socket->position);
    if (socket->opcode == OP_CLOSE)
        send_frame(socket, OP_CLOSE, socket->control, MIN_OF(socket->position, UINT64_C(2)));
    return socket->opcode == OP_CLOSE ? -1 : 0;
}

static void take_content(struct websocket *socket, char *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        data[i] = (char)((uint8_t)data[i] ^ socket->mask[(socket->position + i) & 3]);
    if (socket->opcode >= OP_CLOSE)
        memcpy(socket->control + socket->position, data, size);
    else
        buf_add(&socket->pending, data, size);
    socket->position += size;
    socket->left -= size;
}

static int take_bytes(struct websocket *socket, char *data, size_t size)
{
    while (size > 0) {
        if (!socket->inside) {
            socket->head[socket->head_size++] = (uint8_t)*data++;
            size--;
            if (socket->head_size == 2 && !(socket->head[1] & 0x80)) // a client's are masked
                return -1;
            if (socket->head_size == head_need(socket) && socket->head_size > 2 && !take_head(socket))
                return -1;
        }
        size_t part = socket->inside ? (size_t)MIN_OF(socket->left, (uint64_t)size) : 0;
        if (part > 0)
            take_content(socket, data, part);
        data += part;
        size -= part;
        if (socket->inside && socket->left == 0 && end_message(socket) < 0)
            return -1;
    }
    return 0;
}

// ---- both ways ------------------------------------------------------------------------------------------------------

static ssize_t read_some(const struct websocket *socket, int fd)
{
    ssize_t got = read(fd, socket->chunk, CHUNK);
    return got < 0 && (errno == EAGAIN || errno == EINTR) ? -1 : got <= 0 ? 0 : got;
}

static void from_client(struct websocket *socket)
{
    ssize_t got = read_some(socket, socket->client_fd);
    if (got == 0 || (got > 0 && take_bytes(socket, socket->chunk, (size_t)got) < 0))
        socket->ended = true;
}

// -1: the container's side has ended.
static int to_container(struct websocket *socket)
{
    ssize_t sent = send(socket->container_fd, socket->pending.data, socket->pending.size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    buf_consume(&socket->pending, (size_t)sent);
    return 0;
}

// -1: the container's side has ended.
static int from_container(struct websocket *socket)
{
    ssize_t got = read_some(socket, socket->container_fd);
    if (got == 0)
        send_frame(socket, OP_CLOSE, NULL, 0);
    else if (got > 0 && send_frame(socket, OP_BINARY, socket->chunk, (size_t)got) < 0)
        socket->ended = true;
    return got == 0 ? -1 : 0;
}

static int carry(struct websocket *socket, short client, short container)
{
    if (client)
        from_client(socket);
    if (socket->pending.size > 0 && to_container(socket) < 0)
        return -1;
    if (socket->ended)
        return container & (POLLHUP | POLLERR) ? -1 : 0;
    return container & ~POLLOUT ? from_container(socket) : 0;
}

// Of a client that has ended what it sent before is still carried.
static void relay(struct websocket *socket)
{
    struct pollfd fds[3] = { { .events = POLLIN }, { .fd = socket->container_fd }, { socket->cancel->event_fd, POLLIN, 0 } };
    while (!socket->ended || socket->pending.size > 0) {
        fds[0].fd = socket->ended || socket->pending.size > 0 ? -1 : socket->client_fd;
        fds[1].events = (short)((socket->ended ? 0 : POLLIN) | (socket->pending.size > 0 ? POLLOUT : 0));
        int ready = poll(fds, ARRAY_LEN(fds), -1);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready < 0 || fds[2].revents || carry(socket, fds[0].revents, fds[1].revents) < 0)
            return;
    }
}

static int attach(struct call *call, const char *id, const struct engine_attach *wanted, const char *answer, struct err *err)
{
    int ends[2];
    if (fd_socketpair(SOCK_STREAM, ends, err) < 0) {
        engine_attach_abandon(call->engine, id);
        return -1;
    }
    _cleanup_close_ int ours = ends[0], theirs = ends[1];
    _cleanup_close_ int client = httpd_hijack_websocket(call->request, answer, err);
    if (client < 0) {
        engine_attach_abandon(call->engine, id);
        return -1;
    }
    if (engine_attach(call->engine, id, wanted, take_fd(&theirs), err) < 0)
        return -1;
    _cleanup_free_ char *chunk = mem_alloc(CHUNK);
    struct websocket socket = { .client_fd = client, .container_fd = ours, .cancel = httpd_cancel(call->request), .chunk = chunk,
                                .pending = BUF_INIT(CHUNK) };
    relay(&socket);
    buf_done(&socket.pending);
    return 0;
}

int handle_container_attach_ws(struct call *call, struct err *err)
{
    const struct engine_attach wanted = {
        .in = httpd_query_flag(call->request, "stdin", false),
        .out = httpd_query_flag(call->request, "stdout", false),
        .error = httpd_query_flag(call->request, "stderr", false),
        .stream = httpd_query_flag(call->request, "stream", false),
        .logs = httpd_query_flag(call->request, "logs", false),
        .raw = true,
        .detach_keys = httpd_query(call->request, "detachKeys"),
    };
    char id[65], *answer = NULL;
    bool terminal;
    if (detach_keys_check(wanted.detach_keys, err) < 0 || answer_of(call, &answer, err) < 0 ||
        engine_attach_begin(call->engine, call->values[0], id, &terminal, err) < 0)
        return -1;
    return attach(call, id, &wanted, answer, err);
}
