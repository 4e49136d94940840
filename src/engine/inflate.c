#include "inflate.h"

#include <errno.h>
#include <fcntl.h>

#include "layer/layer.h"
#include "worker/worker.h"

// By tee(2): the bytes stay in the pipe.
static int peek(int input_fd, char start[LAYER_MAGIC_SIZE], size_t *size, struct err *err)
{
    int ends[2];
    if (fd_pipe(ends, err) < 0)
        return -1;
    _cleanup_close_ int read_end = ends[0], write_end = ends[1];
    ssize_t got = tee(input_fd, write_end, LAYER_MAGIC_SIZE, 0);
    if (got > 0)
        got = fd_read_full(read_end, start, (size_t)got, NULL);
    *size = got > 0 ? (size_t)got : 0;
    return got < 0 ? err_errno(err, errno, "look at the archive") : 0;
}

static int spawn(struct inflate *inflate, int input_fd, struct err *err)
{
    char *const argv[] = { (char *)"berth-image", (char *)WORKER_MODE, (char *)"inflate", NULL };
    char *const envp[] = { (char *)"LC_ALL=C.UTF-8", NULL };
    int ends[2];
    _cleanup_close_ int staging = image_staging_new(inflate->engine->images, &inflate->staging, err);
    if (staging < 0 || fd_pipe(ends, err) < 0)
        return -1;
    inflate->fd = ends[0];
    _cleanup_close_ int write_end = ends[1];
    const struct process_io io = { input_fd, write_end, STDERR_FILENO, &staging, 1 };
    return process_spawn(inflate->engine->image_program, -1, argv, envp, &io, &inflate->process, err);
}

int inflate_start(struct inflate *inflate, int input_fd, const struct cancel *cancel, struct err *err)
{
    char start[LAYER_MAGIC_SIZE];
    size_t size;
    if (cancel_wait(cancel, input_fd, -1, err) < 0 || peek(input_fd, start, &size, err) < 0)
        return -1;
    return layer_is_compressed(start, size) ? spawn(inflate, input_fd, err) : 0;
}

int inflate_file(struct inflate *inflate, int file_fd, struct err *err)
{
    return spawn(inflate, file_fd, err);
}

void inflate_done(struct inflate *inflate)
{
    process_done(&inflate->process);
    fd_close(inflate->fd);
    if (inflate->staging)
        image_staging_remove(inflate->engine->images, inflate->staging);
    free(inflate->staging);
}
