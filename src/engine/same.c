// A client's tar beside one that came before. Bytes are compared, nothing is read as an archive: so it is the daemon that does it.
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/fd.h"
#include "inflate.h"
#include "steps.h"
#include "worker/worker.h"

#define PIECE_SIZE ((size_t)256 << 10)
#define GATHER_NS NS_PER_MS

struct same {
    int input_fd, known_fd;
    int64_t size, at; // what is the same, of all
    char *came, *known; // the piece under way
    size_t piece;
};

// A client's pieces are small: what is there already is left a while, so that there is more of it.
static int wait_piece(const struct same *same, const struct cancel *cancel, struct err *err)
{
    int there;
    if (cancel_wait(cancel, same->input_fd, -1, err) < 0)
        return -1;
    if (ioctl(same->input_fd, FIONREAD, &there) == 0 && there > 0 && there < MIN_OF((int64_t)PIECE_SIZE, same->size - same->at)) {
        cancel_wait(cancel, -1, clock_mono_ns() + GATHER_NS, NULL);
        return cancel_now(cancel) ? cancel_wait(cancel, same->input_fd, -1, err) : 0;
    }
    return 0;
}

static ssize_t read_piece(struct same *same, const struct cancel *cancel, struct err *err)
{
    ssize_t got;
    if (wait_piece(same, cancel, err) < 0)
        return -1;
    do
        got = read(same->input_fd, same->came, (size_t)MIN_OF((int64_t)PIECE_SIZE, same->size - same->at));
    while (got < 0 && errno == EINTR);
    return got < 0 ? err_errno(err, errno, "read the archive") : got;
}

// 1: all is the same; 0: the piece under way, which may be the end, is not.
static int compare(struct same *same, const struct cancel *cancel, struct err *err)
{
    while (same->at < same->size) {
        ssize_t got = read_piece(same, cancel, err);
        if (got < 0)
            return -1;
        same->piece = (size_t)got;
        if (got == 0)
            return 0;
        if (fd_read_at(same->known_fd, same->known, same->piece, same->at, err) < 0)
            return -1;
        if (memcmp(same->came, same->known, same->piece) != 0)
            return 0;
        same->at += got;
    }
    return 1;
}

static int copy_same(const struct same *same, int spool_fd, struct err *err)
{
    off_t from = 0;
    while (from < same->at) {
        ssize_t moved = copy_file_range(same->known_fd, &from, spool_fd, NULL, (size_t)(same->at - from), 0);
        if (moved < 0 && errno == EINTR)
            continue;
        if (moved <= 0)
            return err_errno(err, moved < 0 ? errno : EIO, "copy a build's archive");
    }
    return fd_write_file(spool_fd, same->came, same->piece, err);
}

int tar_same(int input_fd, int known_fd, int64_t size, int spool_fd, const struct cancel *cancel, struct err *err)
{
    struct same same = { .input_fd = input_fd, .known_fd = known_fd, .size = size };
    int begins = inflate_begins(input_fd, known_fd, cancel, err); // before anything is taken out: it may be compressed
    if (begins <= 0)
        return begins;
    same.came = mem_alloc(2 * PIECE_SIZE);
    same.known = same.came + PIECE_SIZE;
    int done = compare(&same, cancel, err);
    if (done == 0 && copy_same(&same, spool_fd, err) < 0)
        done = -1;
    free(same.came);
    return done;
}
