// Frames on a unix stream socket.
//
// Descriptors arrive with the first byte of the message that carried them, and the kernel glues messages together when a
// read is larger than one. So the reader never reads across a frame's end: first the 16 header bytes, then exactly the
// payload. What comes along with header bytes belongs to that frame; descriptors in the middle of a payload are a
// violation. Two system calls a frame buy the certainty of who owns what.
#include "task/task.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "task/task_private.h"

#define HEADER_SIZE 16
#define SEND_PATIENCE_NS (5 * NS_PER_S) // a peer that reads nothing for so long is gone

struct header {
    uint32_t size;
    uint16_t type, flags;
    uint64_t id;
};

struct task_reader {
    int sock;
    uint8_t head[HEADER_SIZE];
    size_t head_size;
    struct header header; // decoded once head is whole
    char *payload;
    size_t payload_size;
    bool complete;
    int fds[TASK_FD_MAX]; // of this request: TASK_FDS frames fold into the next one
    size_t fd_len;
    uint64_t fds_id; // request id of the pending TASK_FDS frames
    bool fds_pending;
};

static void close_all(const int *fds, size_t len)
{
    for (size_t i = 0; i < len; i++)
        fd_close(fds[i]);
}

void task_frame_done(struct task_frame *frame)
{
    json_decref(frame->payload);
    close_all(frame->fds, frame->fd_len);
    free(frame->fds);
    *frame = (struct task_frame){ 0 };
}

// ---- sending --------------------------------------------------------------------------------------------------------

static int wait_writable(int sock, int64_t deadline_ns, struct err *err)
{
    int64_t left = deadline_ns - clock_mono_ns();
    struct pollfd poll_fd = { sock, POLLOUT, 0 };
    int ready = left > 0 ? poll(&poll_fd, 1, (int)(left / NS_PER_MS) + 1) : 0;
    if (ready < 0 && errno != EINTR)
        return err_errno(err, errno, "task socket");
    if (ready == 0)
        return err_set(err, ERR_UNAVAILABLE, "task socket: the other side does not read");
    return 0;
}

static void attach_fds(struct msghdr *message, void *control, const int *fds, size_t fd_len)
{
    message->msg_control = control;
    message->msg_controllen = CMSG_SPACE(fd_len * sizeof(int));
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(message);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(fd_len * sizeof(int));
    memcpy(CMSG_DATA(cmsg), fds, fd_len * sizeof(int));
}

// Header and payload as one message, the descriptors with its first byte. The socket's own mode does not matter.
static int send_frame(int sock, const struct header *header, const char *payload, const int *fds, size_t fd_len,
                      struct err *err)
{
    struct header wire = { htole32(header->size), htole16(header->type), htole16(header->flags), htole64(header->id) };
    _Static_assert(sizeof(wire) == HEADER_SIZE, "the header has no padding");
    union {
        char bytes[CMSG_SPACE(FD_MESSAGE_MAX * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec parts[2] = { { &wire, sizeof(wire) }, { (void *)payload, header->size } };
    struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
    if (fd_len)
        attach_fds(&message, &control, fds, fd_len);

    int64_t deadline = clock_mono_ns() + SEND_PATIENCE_NS;
    while (parts[0].iov_len + parts[1].iov_len) {
        ssize_t sent = sendmsg(sock, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN && wait_writable(sock, deadline, err) < 0)
            return -1;
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return err_set(err, ERR_UNAVAILABLE, "task socket: %s", strerror(errno));
        if (sent < 0)
            continue;
        message.msg_control = NULL;
        message.msg_controllen = 0;
        for (size_t i = 0; i < 2; i++) {
            size_t done = MIN_OF((size_t)sent, parts[i].iov_len);
            parts[i].iov_base = (char *)parts[i].iov_base + done;
            parts[i].iov_len -= done;
            sent -= (ssize_t)done;
        }
    }
    return 0;
}

int task_send(int sock, uint16_t type, uint64_t id, json_t *payload, const int *fds, size_t fd_len, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(TASK_FRAME_MAX);
    if (payload)
        json_write(payload, &text);
    if (buf_check(&text, "task frame", err) < 0)
        return -1;
    if (fd_len > TASK_FD_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "task frame: more than %d descriptors", TASK_FD_MAX);

    for (; fd_len > FD_MESSAGE_MAX; fds += FD_MESSAGE_MAX, fd_len -= FD_MESSAGE_MAX) {
        struct header more = { 0, TASK_FDS, 0, id };
        if (send_frame(sock, &more, NULL, fds, FD_MESSAGE_MAX, err) < 0)
            return -1;
    }
    struct header header = { (uint32_t)text.size, type, 0, id };
    return send_frame(sock, &header, text.data, fds, fd_len, err);
}

int task_send_error(int sock, uint64_t id, const struct err *error, struct err *err)
{
    _cleanup_json_ json_t *payload = task_error_payload(error);
    return task_send(sock, TASK_ERROR, id, payload, NULL, 0, err);
}

// ---- reading --------------------------------------------------------------------------------------------------------

int task_reader_new(int sock, struct task_reader **out)
{
    struct task_reader *reader = mem_new(struct task_reader);
    reader->sock = sock;
    *out = reader;
    return 0;
}

void task_reader_free(struct task_reader *reader)
{
    if (!reader)
        return;
    close_all(reader->fds, reader->fd_len);
    free(reader->payload);
    free(reader);
}

static void next_head(struct task_reader *reader)
{
    free(take_ptr(&reader->payload));
    reader->payload_size = reader->head_size = 0;
    reader->complete = false;
}

// Everything that a header may claim, checked before a byte is allocated for it.
static int check_header(struct task_reader *reader, struct err *err)
{
    struct header wire;
    memcpy(&wire, reader->head, sizeof(wire));
    reader->header =
        (struct header){ le32toh(wire.size), le16toh(wire.type), le16toh(wire.flags), le64toh(wire.id) };
    const struct header *header = &reader->header;
    if (header->type < TASK_REQUEST || header->type > TASK_FDS)
        return err_set(err, ERR_INVALID_ARGUMENT, "task frame: unknown type %u", header->type);
    if (header->size > TASK_FRAME_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "task frame: %u bytes, at most %u", header->size, TASK_FRAME_MAX);
    if (header->type == TASK_FDS && header->size)
        return err_set(err, ERR_INVALID_ARGUMENT, "task frame: a payload beside descriptors");
    if (reader->fds_pending && header->id != reader->fds_id)
        return err_set(err, ERR_INVALID_ARGUMENT, "task frame: descriptors of another request");
    return 0;
}

static int head_done(struct task_reader *reader, struct err *err)
{
    if (check_header(reader, err) < 0)
        return -1;
    if (reader->header.type == TASK_FDS) {
        reader->fds_pending = true;
        reader->fds_id = reader->header.id;
        next_head(reader);
        return 0;
    }
    if (reader->header.size)
        reader->payload = mem_alloc(reader->header.size);
    reader->complete = reader->header.size == 0;
    return 0;
}

// Takes over what came; `lost` tells that the kernel could not hand over all (no room, no free numbers).
static int keep_fds(struct task_reader *reader, struct msghdr *message, struct err *err)
{
    bool refused = message->msg_flags & MSG_CTRUNC;
    bool misplaced = false;
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(message); cmsg; cmsg = CMSG_NXTHDR(message, cmsg)) {
        if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
            continue;
        size_t len = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        misplaced |= len && reader->head_size == HEADER_SIZE;
        for (size_t i = 0; i < len; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(int));
            if (reader->fd_len < TASK_FD_MAX && !misplaced) {
                reader->fds[reader->fd_len++] = fd;
            } else {
                fd_close(fd);
                refused = true;
            }
        }
    }
    if (misplaced)
        return err_set(err, ERR_INVALID_ARGUMENT, "task frame: descriptors inside a payload");
    if (refused)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "task frame: too many descriptors");
    return 0;
}

int task_reader_feed(struct task_reader *reader, struct err *err)
{
    if (reader->complete)
        return 1; // the caller has to take that one first
    bool in_head = reader->head_size < HEADER_SIZE;
    struct iovec part = { reader->head + reader->head_size, HEADER_SIZE - reader->head_size };
    if (!in_head)
        part = (struct iovec){ reader->payload + reader->payload_size, reader->header.size - reader->payload_size };
    union {
        char bytes[CMSG_SPACE(FD_MESSAGE_MAX * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                              .msg_controllen = sizeof(control) };
    ssize_t got = recvmsg(reader->sock, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (got < 0)
        return err_set(err, ERR_UNAVAILABLE, "task socket: %s", strerror(errno));
    if (keep_fds(reader, &message, err) < 0)
        return -1;
    if (got == 0)
        return err_set(err, ERR_UNAVAILABLE, "connection closed");

    if (!in_head) {
        reader->payload_size += (size_t)got;
        reader->complete = reader->payload_size == reader->header.size;
        return 1;
    }
    reader->head_size += (size_t)got;
    return reader->head_size == HEADER_SIZE && head_done(reader, err) < 0 ? -1 : 1;
}

int task_reader_next(struct task_reader *reader, struct task_frame *out, struct err *err)
{
    if (!reader->complete)
        return 0;
    json_t *payload;
    if (task_payload_parse(reader->payload, reader->header.size, &payload, err) < 0)
        return -1;
    *out = (struct task_frame){ .type = reader->header.type, .flags = reader->header.flags, .id = reader->header.id,
                                .payload = payload, .fd_len = reader->fd_len };
    if (reader->fd_len) {
        out->fds = mem_alloc(reader->fd_len * sizeof(int));
        memcpy(out->fds, reader->fds, reader->fd_len * sizeof(int));
    }
    reader->fd_len = 0;
    reader->fds_pending = false;
    next_head(reader);
    return 1;
}
