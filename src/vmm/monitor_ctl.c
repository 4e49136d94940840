// The client of a machine's control socket. What is saved is written by the machine's process into a file that is opened here,
// with the caller's rights: the jail has no paths.
#include <errno.h>
#include <fcntl.h>

#include "base/clock.h"
#include "base/fd.h"
#include "http/http.h"
#include "vmm/monitor.h"

#define ANSWER_NS (600 * NS_PER_S) // a large machine is saved by a slow disk

static const struct {
    const char *word, *method, *path;
    bool with_file;
} verbs[] = {
    { "state", "GET", "/", false },         { "pause", "PUT", "/pause", false },
    { "resume", "PUT", "/resume", false },  { "power-button", "PUT", "/power-button", false },
    { "stop", "PUT", "/stop", false },      { "save", "PUT", "/snapshot", true },
    { "events", "GET", "/events", false },
};

// Lines as they come, until the machine's end.
static int follow(struct http_client *client, struct err *err)
{
    struct http_part part = { 0 };
    if (http_client_send(client, "GET", "/events", NULL, 0, err) < 0)
        return -1;
    while (!part.last) {
        int got = http_client_next(client, &part, err);
        if (got < 0)
            return -1;
        if (got > 0) {
            fwrite(part.body.data, 1, part.body.size, stdout);
            fflush(stdout);
        } else if (http_client_receive(client, err) <= 0) {
            return err_set(err, ERR_UNAVAILABLE, "the machine's process is gone");
        }
    }
    return 0;
}

static int call(struct http_client *client, size_t verb, const char *file, struct err *err)
{
    _cleanup_buf_ struct buf body = BUF_INIT(HTTP_BODY_MAX);
    _cleanup_close_ int fd = file ? open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
    if (file && fd < 0)
        return err_errno(err, errno, "%s", file);
    if (http_client_call(client, verbs[verb].method, verbs[verb].path, &fd, fd >= 0, clock_mono_ns() + ANSWER_NS, &body, err) < 0) {
        if (file)
            unlink(file);
        return -1;
    }
    if (body.size)
        printf("%s\n", buf_text(&body));
    return 0;
}

static int talk(const char *path, size_t verb, const char *file, struct err *err)
{
    struct http_client client;
    _cleanup_close_ int fd = fd_unix_connect_at(AT_FDCWD, path, err);
    if (fd < 0)
        return -1;
    http_client_init(&client, fd);
    int result = str_eq(verbs[verb].word, "events") ? follow(&client, err) : call(&client, verb, file, err);
    http_client_done(&client);
    return result;
}

int monitor_ctl(int argc, char **argv)
{
    struct err err;
    for (size_t i = 0; argc >= 2 && i < ARRAY_LEN(verbs); i++) {
        if (!str_eq(argv[1], verbs[i].word) || argc != 2 + verbs[i].with_file)
            continue;
        if (talk(argv[0], i, verbs[i].with_file ? argv[2] : NULL, &err) == 0)
            return 0;
        fprintf(stderr, "berth-vmm: %s\n", err.message);
        return 1;
    }
    fputs("usage: berth-vmm ctl SOCKET state|pause|resume|power-button|stop|events|save FILE\n", stderr);
    return 2;
}
