// The fetching half of the daemon's pulls.
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "fetch.h"
#include "link.h"
#include "stage.h"

#define PIPE_SIZE (1 << 20)

struct hand_over {
    int link_fd;
};

static int send_text(int link_fd, enum link_kind kind, const struct buf *text, struct err *err)
{
    const struct link_message message = { .kind = kind };
    _cleanup_close_ int fd = memfd_create("document", MFD_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "document");
    return fd_write_at(fd, buf_text(text), text->size, 0, err) < 0 ? -1 : fetch_link_send(link_fd, &message, fd, err);
}

static int send_documents(struct fetch *fetch, int link_fd, struct err *err)
{
    if (send_text(link_fd, LINK_TOP, &fetch->top.text, err) < 0 ||
        (fetch->manifest.text.size && send_text(link_fd, LINK_MANIFEST, &fetch->manifest.text, err) < 0))
        return -1;
    return send_text(link_fd, LINK_CONFIG, &fetch->config, err);
}

// ---- which layers ---------------------------------------------------------------------------------------------------

// A blob that stands in the image twice is fetched once.
static bool is_repeated(const struct fetch *fetch, size_t position)
{
    for (size_t i = 0; i < position; i++)
        if (str_eq(fetch_layer(fetch, i)->digest, fetch_layer(fetch, position)->digest))
            return true;
    return false;
}

static int read_answer(struct fetch *fetch, int answers_fd, int link_fd, bool *wanted, struct err *err)
{
    _cleanup_buf_ struct buf line = BUF_INIT(TRANSFER_LINE_MAX);
    _cleanup_json_ json_t *answer = NULL;
    if (transfer_read_line(answers_fd, &line, err) < 0 || json_parse(buf_text(&line), line.size, &answer, err) < 0)
        return -1;
    json_t *have = json_object_get(answer, "have");
    for (size_t i = 0; i < fetch->image.layers.len; i++) {
        int64_t size = json_is_integer(json_array_get(have, i)) ? json_integer_value(json_array_get(have, i)) : -1;
        const struct link_message known = { .kind = LINK_KNOWN, .position = (uint32_t)i, .size = size };
        wanted[i] = size < 0 && !is_repeated(fetch, i);
        if (size >= 0 && fetch_link_send(link_fd, &known, -1, err) < 0)
            return -1;
    }
    return 0;
}

// ---- layers ---------------------------------------------------------------------------------------------------------

// A reader that is gone has its own reason, which it tells itself.
static int write_pipe(void *context, const void *data, size_t size, struct err *err)
{
    if (fd_write_full(*(int *)context, data, size, err) == 0)
        return 0;
    if (err->number == EPIPE)
        err->class = ERR_CANCELLED;
    return -1;
}

static int send_layer(struct fetch *fetch, void *context, size_t position, struct err *err)
{
    const struct hand_over *to = context;
    const struct link_message message = { .kind = LINK_LAYER, .position = (uint32_t)position };
    int ends[2];
    if (fd_pipe(ends, err) < 0)
        return -1;
    _cleanup_close_ int read_end = ends[0], write_end = ends[1];
    fcntl(write_end, F_SETPIPE_SZ, PIPE_SIZE); // smaller is slower, nothing else
    if (fetch_link_send(to->link_fd, &message, read_end, err) < 0)
        return -1;
    fd_close(take_fd(&read_end));
    return fetch_blob(fetch, position, false, write_pipe, &write_end, err);
}

// ---- the whole ------------------------------------------------------------------------------------------------------

static int run(struct fetch *fetch, int answers_fd, int link_fd, struct err *err)
{
    struct hand_over to = { link_fd };
    const struct link_message end = { .kind = LINK_END };
    bool wanted[STAGE_LAYERS_MAX];
    if (fetch_documents(fetch, err) < 0 || send_documents(fetch, link_fd, err) < 0 ||
        read_answer(fetch, answers_fd, link_fd, wanted, err) < 0 || fetch_layers(fetch, wanted, send_layer, &to, err) < 0)
        return -1;
    return fetch_link_send(link_fd, &end, -1, err);
}

int transfer_fetch(struct fetch *fetch, int answers_fd, int link_fd, struct err *err)
{
    struct fetch_watch watch = { .fds = { answers_fd, link_fd } }; // the daemon, and the half that unpacks
    if (fetch_watch_start(&watch, err) < 0)
        return -1;
    int result = run(fetch, answers_fd, link_fd, err);
    fetch_watch_stop(&watch);
    if (result == 0)
        return 0;
    transfer_fetch_failed(link_fd, err);
    return -1;
}

void transfer_fetch_failed(int link_fd, const struct err *err)
{
    const struct link_message failed = { .kind = LINK_ERROR, .err = *err };
    fetch_link_send(link_fd, &failed, -1, NULL);
}

int transfer_fetch_new(const char *reference, const char *platform, const struct transfer_remote *remote, struct fetch **out,
                       struct err *err)
{
    struct fetch *fetch = mem_new(struct fetch);
    if (fetch_open(fetch, reference, platform, remote, err) < 0) {
        transfer_fetch_free(fetch);
        return -1;
    }
    *out = fetch;
    return 0;
}

void transfer_fetch_free(struct fetch *fetch)
{
    if (fetch)
        fetch_done(fetch);
    free(fetch);
}
