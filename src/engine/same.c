// A client's tar beside one that came before. Bytes are compared, nothing is read as an archive: so it is the daemon that does it.
#include <errno.h>

#include "base/fd.h"
#include "layer/layer.h"
#include "steps.h"

#define PIECE_SIZE ((size_t)64 << 10)

// A stream that may be compressed is told from its first bytes: of these all are taken, or none.
static bool begins_alike(const struct tar_same *same, size_t size)
{
    return same->at > 0 || size >= LAYER_MAGIC_SIZE;
}

// A file that can't be read is another one.
static bool is_same(struct tar_same *same, const char *data, size_t size)
{
    struct err ignored = { 0 };
    if (!same->known)
        same->known = mem_alloc(PIECE_SIZE);
    return begins_alike(same, size) && fd_read_at(same->known_fd, same->known, size, (off_t)same->at, &ignored) == 0 && memcmp(data, same->known, size) == 0;
}

size_t tar_same_piece(void *of, const char *data, size_t size, bool *more)
{
    struct tar_same *same = of;
    size_t taken = 0;
    while (taken < size && same->at < same->size) {
        size_t part = (size_t)MIN_OF((int64_t)MIN_OF(size - taken, PIECE_SIZE), same->size - same->at);
        if (!is_same(same, data + taken, part))
            break;
        same->at += (int64_t)part;
        taken += part;
    }
    *more = same->at < same->size;
    return taken;
}

int tar_same_copy(const struct tar_same *same, int spool_fd, struct err *err)
{
    off_t from = 0;
    while (from < same->at) {
        ssize_t moved = copy_file_range(same->known_fd, &from, spool_fd, NULL, (size_t)(same->at - from), 0);
        if (moved < 0 && errno == EINTR)
            continue;
        if (moved <= 0)
            return err_errno(err, moved < 0 ? errno : EIO, "copy a build's archive");
    }
    return 0;
}
