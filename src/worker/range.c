// A part of a layer's tar: the worker makes it out of the layer's files, which it gets by descriptors (transfer/transfer.h).
#include <fcntl.h>
#include <sys/socket.h>

#include "worker/worker.h"

struct ranging {
    struct image_store *images;
    char *staging; // the jail's root; nothing is staged there
    struct process process;
    int order_fd, output_fd;
};

static void ranging_done(struct ranging *ranging)
{
    process_done(&ranging->process);
    fd_close(ranging->order_fd);
    fd_close(ranging->output_fd);
    if (ranging->staging)
        image_staging_remove(ranging->images, ranging->staging);
    free(ranging->staging);
}

static int start(struct ranging *ranging, const char *program, struct err *err)
{
    int ends[2];
    char *const argv[] = { (char *)"berth-image", (char *)WORKER_MODE, (char *)"range", NULL };
    char *const envp[] = { (char *)"LC_ALL=C.UTF-8", NULL };
    _cleanup_close_ int staging = image_staging_new(ranging->images, &ranging->staging, err);
    if (staging < 0 || fd_socketpair(SOCK_SEQPACKET, ends, err) < 0)
        return -1;
    ranging->order_fd = ends[0];
    _cleanup_close_ int order_end = ends[1];
    const struct process_io io = { order_end, -1, STDERR_FILENO, &staging, 1 };
    return process_spawn(program, -1, argv, envp, &io, &ranging->process, err);
}

static int send_order(struct ranging *ranging, const struct worker_range *range, struct err *err)
{
    int ends[2];
    if (fd_pipe(ends, err) < 0)
        return -1;
    ranging->output_fd = ends[0];
    _cleanup_close_ int output_end = ends[1];
    fcntl(output_end, F_SETPIPE_SZ, 1 << 20); // fewer switches between the two; 64 KiB where it is refused
    _cleanup_free_ char *order = mem_printf("%lld %lld %s", (long long)range->start, (long long)range->size, range->diff_id);
    const int fds[] = { output_end, range->image_fd, range->recipe_fd };
    return fd_send(ranging->order_fd, order, strlen(order), fds, ARRAY_LEN(fds), err) < 0 ? -1 : 0;
}

int worker_range(struct image_store *images, const char *program, const struct worker_range *range, worker_pipe_fn *sink, void *context,
                 const struct cancel *cancel, struct err *err)
{
    _cleanup_(ranging_done) struct ranging ranging = { .images = images, .process = PROCESS_NONE, .order_fd = -1, .output_fd = -1 };
    int status;
    if (start(&ranging, program, err) < 0 || send_order(&ranging, range, err) < 0 ||
        pipe_relay(ranging.output_fd, sink, context, cancel, err) < 0 || process_wait(&ranging.process, &status, err) < 0)
        return -1;
    return process_exit_code(status) == 0 ? 0 : err_set(err, ERR_INTERNAL, "layer %.19s can't be given", range->diff_id);
}
