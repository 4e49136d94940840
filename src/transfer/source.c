#include <errno.h>

#include "source.h"
#include "report.h"
#include "base/fd.h"

#define REPORT_STEPS 50 // lines for one source at most,
#define REPORT_MIN (512 * 1024) // and this many bytes between two

static int progress(struct source *source, struct err *err)
{
    int64_t step = MAX_OF(source->total / REPORT_STEPS, (int64_t)REPORT_MIN);
    bool due = source->at - source->reported >= step || (source->at == source->total && source->reported < source->at);
    if (!source->report || !due)
        return 0;
    source->reported = source->at;
    return report_progress(source->report, source->id, source->status, source->at, source->total, err);
}

static ssize_t read_fd(int fd, void *data, size_t size, struct err *err)
{
    ssize_t got;
    do
        got = read(fd, data, size);
    while (got < 0 && errno == EINTR);
    return got < 0 ? err_errno(err, errno, "read archive") : got;
}

ssize_t source_read(void *context, void *data, size_t size, struct err *err)
{
    struct source *source = context;
    ssize_t got = source->below ? source->below(source->below_context, data, size, err) : read_fd(source->fd, data, size, err);
    if (got < 0)
        return -1;
    if (source->digest)
        layer_digest_add(source->digest, data, (size_t)got);
    if (source->keep_fd > 0 && fd_write_full(source->keep_fd, data, (size_t)got, err) < 0)
        return -1;
    if (source->bound)
        atomic_fetch_add(&source->bound->came, (uint64_t)got);
    source->at += got;
    return progress(source, err) < 0 ? -1 : got;
}

int source_drain(struct source *source, struct err *err)
{
    _cleanup_free_ void *buffer = mem_alloc(SOURCE_BUFFER_SIZE);
    ssize_t got;
    do
        got = source_read(source, buffer, SOURCE_BUFFER_SIZE, err);
    while (got > 0);
    return got < 0 ? -1 : 0;
}
