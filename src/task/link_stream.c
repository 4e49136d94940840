// Streams: descriptors here, numbered bytes on the link.
//
// Each direction by itself. Outgoing bytes are read only when the peer has given credit and the link has room, so nothing is
// ever held twice. Incoming bytes are written at once or wait in `pending`, never more than the window; what was written is
// credited back in portions. A direction ends once: with LINK_END from its sender. A receiver that can't write any more says
// LINK_STOP, and the sender then ends.
#include <endian.h>
#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "task/link_private.h"

#define CREDIT_PORTION (LINK_WINDOW / 4)
#define TERMINAL_RETRY_NS (100 * NS_PER_MS)
#define FINISH_ROUNDS 64 // reads of what is there: whoever still holds a dead process's pipe might write for ever

static void update_reading(struct link_stream *stream);

static struct link_stream *find_stream(struct link *link, uint64_t number)
{
    for (struct link_stream *stream = link->streams; stream; stream = stream->next) {
        if (stream->number == number)
            return stream;
    }
    return NULL;
}

static bool is_over(const struct link_stream *stream)
{
    return stream->end_sent && stream->end_came && stream->write_fd < 0;
}

static void stream_free(struct link_stream *stream)
{
    struct link_stream **at = &stream->link->streams;
    while (*at != stream)
        at = &(*at)->next;
    *at = stream->next;
    stream->link->stream_len--;
    loop_remove(stream->read_source);
    loop_remove(stream->retry);
    loop_remove(stream->write_source);
    fd_close(stream->read_fd);
    fd_close(stream->write_fd);
    buf_done(&stream->pending);
    free(stream);
}

static void end_if_over(struct link_stream *stream)
{
    if (!is_over(stream))
        return;
    link_stream_fn *ended = stream->ended;
    void *context = stream->context;
    stream_free(stream);
    if (ended)
        ended(context);
}

// ---- outgoing ---------------------------------------------------------------------------------------------------------

static void end_reading(struct link_stream *stream)
{
    loop_remove(take_ptr(&stream->read_source));
    loop_remove(take_ptr(&stream->retry));
    fd_close(take_fd(&stream->read_fd));
    if (!stream->end_sent)
        link_send(stream->link, TASK_DATA, LINK_END, stream->number, NULL, 0);
    stream->end_sent = true;
}

static void retry_reading(void *context)
{
    struct link_stream *stream = context;
    loop_remove(take_ptr(&stream->retry));
    update_reading(stream);
}

// One read. 1: more may be there, 0: nothing now, -1: the end.
static int read_once(struct link_stream *stream, size_t most)
{
    char *copy = stream->link->copy;
    ssize_t got = read(stream->read_fd, copy, MIN_OF(most, (size_t)LINK_DATA_MAX));
    if (got > 0) {
        link_send(stream->link, TASK_DATA, 0, stream->number, copy, (size_t)got);
        stream->credit -= MIN_OF(stream->credit, (uint32_t)got);
        return 1;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR) && !stream->finishing)
        return 0;
    if (got == 0 || errno != EIO || stream->finishing)
        return -1;
    // A terminal whose slave nobody has open; the living process may open /dev/console again.
    loop_remove(take_ptr(&stream->read_source));
    if (!stream->retry)
        loop_add_timer(stream->link->loop, TERMINAL_RETRY_NS, retry_reading, stream, &stream->retry, NULL);
    return 0;
}

static void on_readable(void *context, int fd, uint32_t events)
{
    struct link_stream *stream = context;
    if (read_once(stream, stream->credit) < 0) {
        end_reading(stream);
        end_if_over(stream);
        return;
    }
    update_reading(stream);
}

static void update_reading(struct link_stream *stream)
{
    bool wanted = stream->read_fd >= 0 && stream->credit && stream->link->held < LINK_HELD_HIGH && !stream->retry &&
                  !stream->finishing;
    if (wanted == (stream->read_source != NULL))
        return;
    if (!wanted)
        loop_remove(take_ptr(&stream->read_source));
    else if (loop_add_fd(stream->link->loop, stream->read_fd, EPOLLIN, on_readable, stream, &stream->read_source, NULL) < 0)
        end_reading(stream);
}

void link_streams_update(struct link *link)
{
    for (struct link_stream *stream = link->streams; stream; stream = stream->next)
        update_reading(stream);
}

// What is there and has credit; ends the direction unless more waits for credit.
static void finish_step(struct link_stream *stream)
{
    int more = stream->read_fd < 0 ? -1 : 1;
    while (more > 0 && stream->credit && stream->finish_rounds++ < FINISH_ROUNDS)
        more = read_once(stream, stream->credit);
    if (more <= 0 || stream->finish_rounds > FINISH_ROUNDS)
        end_reading(stream);
}

void link_stream_finish(struct link_stream *stream)
{
    stream->finishing = true;
    loop_remove(take_ptr(&stream->retry));
    update_reading(stream);
    finish_step(stream);
    end_if_over(stream);
}

int link_stream_take_credit(struct link *link, const struct link_header *header, const void *data, struct err *err)
{
    struct link_stream *stream = find_stream(link, header->id);
    uint32_t credit;
    if (header->size != sizeof(credit))
        return err_set(err, ERR_INVALID_ARGUMENT, "guest link: a credit of %u bytes", header->size);
    if (!stream)
        return 0;
    memcpy(&credit, data, sizeof(credit));
    credit = le32toh(credit);
    if (credit > LINK_WINDOW - stream->credit)
        return err_set(err, ERR_INVALID_ARGUMENT, "guest link: stream %u: more credit than a window", stream->number);
    stream->credit += credit;
    if (header->flags & LINK_STOP)
        end_reading(stream);
    else if (stream->finishing)
        finish_step(stream);
    else
        update_reading(stream);
    end_if_over(stream);
    return 0;
}

// ---- incoming ---------------------------------------------------------------------------------------------------------

static void send_credit(struct link_stream *stream, uint16_t flags)
{
    uint32_t credit = htole32(stream->written);
    link_send(stream->link, LINK_CREDIT, flags, stream->number, &credit, sizeof(credit));
    stream->window += stream->written;
    stream->written = 0;
}

static void end_writing(struct link_stream *stream)
{
    loop_remove(take_ptr(&stream->write_source));
    fd_close(take_fd(&stream->write_fd));
    buf_clear(&stream->pending);
}

// Nobody takes what the peer sends: it may stop.
static void stop_writing(struct link_stream *stream)
{
    end_writing(stream);
    if (!stream->end_came)
        send_credit(stream, LINK_STOP);
}

static void credit_written(struct link_stream *stream, size_t size)
{
    stream->written += (uint32_t)size;
    if (!stream->end_came && (stream->written >= CREDIT_PORTION || stream->window < CREDIT_PORTION))
        send_credit(stream, 0);
}

// Writes what goes without waiting; the count, or -1 when nobody reads any more.
static ssize_t write_some(struct link_stream *stream, const char *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t wrote = fd_write_some(stream->write_fd, data + done, size - done);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0 && errno == EAGAIN)
            break;
        if (wrote < 0)
            return -1;
        done += (size_t)wrote;
    }
    return (ssize_t)done;
}

static void on_writable(void *context, int fd, uint32_t events)
{
    struct link_stream *stream = context;
    ssize_t wrote = write_some(stream, stream->pending.data, stream->pending.size);
    if (wrote < 0 || (wrote == 0 && (events & EPOLLERR))) {
        stop_writing(stream);
        end_if_over(stream);
        return;
    }
    buf_consume(&stream->pending, (size_t)wrote);
    credit_written(stream, (size_t)wrote);
    if (stream->pending.size)
        return;
    loop_remove(take_ptr(&stream->write_source));
    if (stream->end_came)
        end_writing(stream);
    end_if_over(stream);
}

static void write_or_keep(struct link_stream *stream, const char *data, size_t size)
{
    ssize_t wrote = stream->pending.size ? 0 : write_some(stream, data, size);
    if (wrote < 0) {
        stop_writing(stream);
        return;
    }
    credit_written(stream, (size_t)wrote);
    buf_add(&stream->pending, data + wrote, size - (size_t)wrote);
    if (stream->pending.size && !stream->write_source &&
        loop_add_fd(stream->link->loop, stream->write_fd, EPOLLOUT, on_writable, stream, &stream->write_source, NULL) < 0)
        stop_writing(stream);
}

// Of a stream that we have dropped, or that ended: nobody's bytes.
int link_stream_take_data(struct link *link, const struct link_header *header, const void *data, struct err *err)
{
    struct link_stream *stream = find_stream(link, header->id);
    if (!stream)
        return 0;
    if (stream->end_came || header->size > stream->window)
        return err_set(err, ERR_INVALID_ARGUMENT, "guest link: stream %u: bytes %s", stream->number,
                       stream->end_came ? "after its end" : "beyond the window");
    stream->window -= header->size;
    if (stream->write_fd >= 0 && header->size)
        write_or_keep(stream, data, header->size);
    if (header->flags & LINK_END) {
        stream->end_came = true;
        if (!stream->pending.size)
            end_writing(stream);
    }
    end_if_over(stream);
    return 0;
}

// ---- life -------------------------------------------------------------------------------------------------------------

int link_stream_open(struct link *link, uint32_t number, int read_fd, int write_fd, link_stream_fn *ended, void *context,
                     struct link_stream **out, struct err *err)
{
    if (link->lost)
        return err_set(err, ERR_UNAVAILABLE, "the guest is gone");
    if (link->stream_len >= LINK_STREAM_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "guest link: more than %d streams", LINK_STREAM_MAX);
    if (find_stream(link, number))
        return err_set(err, ERR_CONFLICT, "guest link: stream %u is open", number);
    if ((read_fd >= 0 && fd_set_nonblock(read_fd, true, err) < 0) || (write_fd >= 0 && fd_set_nonblock(write_fd, true, err) < 0))
        return -1;
    struct link_stream *stream = mem_new(struct link_stream);
    *stream = (struct link_stream){ .next = link->streams, .link = link, .number = number, .read_fd = read_fd,
                                    .write_fd = write_fd, .credit = LINK_WINDOW, .window = LINK_WINDOW,
                                    .pending = BUF_INIT(LINK_WINDOW), .end_sent = read_fd < 0, .end_came = write_fd < 0,
                                    .ended = ended, .context = context };
    link->streams = stream;
    link->stream_len++;
    update_reading(stream);
    *out = stream;
    return 0;
}

void link_stream_drop(struct link_stream *stream)
{
    if (!stream->end_sent)
        link_send(stream->link, TASK_DATA, LINK_END, stream->number, NULL, 0);
    if (!stream->end_came)
        send_credit(stream, LINK_STOP);
    stream_free(stream);
}

static struct link_stream *find_over(struct link *link)
{
    for (struct link_stream *stream = link->streams; stream; stream = stream->next) {
        if (is_over(stream))
            return stream;
    }
    return NULL;
}

void link_streams_lose(struct link *link)
{
    for (struct link_stream *stream = link->streams; stream; stream = stream->next) {
        end_reading(stream);
        stream->end_came = true;
        if (!stream->pending.size)
            end_writing(stream);
    }
    for (struct link_stream *stream = find_over(link); stream; stream = find_over(link))
        end_if_over(stream);
}

void link_streams_free(struct link *link)
{
    while (link->streams)
        stream_free(link->streams);
}
