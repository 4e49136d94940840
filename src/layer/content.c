// The content that a layer's folder keeps of its tar (keep.h), in one piece. Table and folder are what a worker left, which is not
// trusted: numbers and paths are checked, and whether all is as it was only the tar's digest tells.
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "layer/layer.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/num.h"
#include "kernel/path.h"

#define TABLE_MAX ((size_t)512 << 20)

static int damaged(struct err *err)
{
    return err_set(err, ERR_INTERNAL, "the layer's table of contents is damaged");
}

int layer_row_next(struct slice *rest, struct layer_row *out, struct err *err)
{
    struct slice word;
    uint64_t *const numbers[] = { &out->inode, &out->offset, &out->size };
    if (rest->size == 0)
        return 0;
    const char *end = memchr(rest->data, '\0', rest->size);
    if (!end || !slice_cut(rest, ' ', &word) || word.size != 1)
        return damaged(err);
    out->place = *word.data;
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (!slice_cut(rest, ' ', &word) || !num_parse_u64(word, INT64_MAX, numbers[i]))
            return damaged(err);
    if (!rest->data || rest->data > end || (out->place != 'd' && out->place != 'l'))
        return damaged(err);
    out->path = rest->data;
    size_t taken = (size_t)(end + 1 - rest->data);
    *rest = (struct slice){ end + 1, rest->size - taken };
    return 1;
}

static int copy_piece(int from, const struct layer_row *row, int to, struct err *err)
{
    off_t at = (off_t)row->offset;
    for (uint64_t left = row->size; left > 0;) {
        ssize_t got = copy_file_range(from, &at, to, NULL, (size_t)MIN_OF(left, (uint64_t)1 << 30), 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? err_errno(err, errno, "%s", row->path) : damaged(err);
        left -= (uint64_t)got;
    }
    return 0;
}

static int copy_rows(const struct buf *table, int folder_fd, int lost_fd, uint64_t size_max, int to, struct err *err)
{
    struct slice rest = { table->data, table->size };
    struct layer_row row;
    uint64_t size = 0;
    int more;
    while ((more = layer_row_next(&rest, &row, err)) > 0) {
        int place = row.place == 'd' ? folder_fd : lost_fd;
        if (row.size > size_max - size || place < 0)
            return damaged(err);
        size += row.size;
        _cleanup_close_ int from = path_open_file(place, row.path, err);
        if (from < 0 || copy_piece(from, &row, to, err) < 0)
            return -1;
    }
    return more;
}

int layer_content(int folder_fd, int keep_fd, uint64_t size_max, int to_fd, struct err *err)
{
    _cleanup_buf_ struct buf table = BUF_INIT(TABLE_MAX);
    _cleanup_close_ int lost = openat(keep_fd, LAYER_LOST_NAME, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return file_read_at(keep_fd, LAYER_TABLE_NAME, &table, err) < 0 ? -1 : copy_rows(&table, folder_fd, lost, size_max, to_fd, err);
}
