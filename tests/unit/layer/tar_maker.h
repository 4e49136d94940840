// Tars made header by header, so that a test can say what no tar program would write. Also a scratch folder.
#ifndef TESTS_LAYER_TAR_MAKER_H
#define TESTS_LAYER_TAR_MAKER_H

#include <fcntl.h>
#include <stdio.h>
#include <sys/xattr.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/slice.h"
#include "layer/layer.h"

#define TAR_MAX ((size_t)64 << 20)

struct tar_entry {
    const char *name;
    char type; // '0' file (the default), '1' hard link, '2' symlink, '3' '4' devices, '5' folder, '6' fifo
    unsigned mode; // 0: 0644, folders 0755
    unsigned uid, gid;
    long mtime;
    const char *link;
    const char *data;
    size_t size; // of data; 0: its text length
    unsigned major, minor;
    const char *pax; // "key=value\n..." records of an extended header
};

static inline void tar_pad(struct buf *tar)
{
    static const char zeros[512];
    buf_add(tar, zeros, (512 - tar->size % 512) % 512);
}

// Octal digits up to a closing NUL.
static inline void tar_number(char *field, size_t size, size_t value)
{
    for (size_t i = size - 1; i-- > 0; value >>= 3)
        field[i] = (char)('0' + (value & 7));
}

static inline void tar_header(struct buf *tar, const struct tar_entry *entry, char type, size_t size)
{
    char head[512] = { 0 };
    unsigned mode = entry->mode ? entry->mode : type == '5' ? 0755 : 0644, sum = 0;
    snprintf(head, 100, "%s", entry->name);
    tar_number(head + 100, 8, mode);
    tar_number(head + 108, 8, entry->uid);
    tar_number(head + 116, 8, entry->gid);
    tar_number(head + 124, 12, size);
    tar_number(head + 136, 12, (size_t)entry->mtime);
    head[156] = type;
    snprintf(head + 157, 100, "%s", entry->link ? entry->link : "");
    memcpy(head + 257, "ustar\00000", 8);
    tar_number(head + 329, 8, entry->major);
    tar_number(head + 337, 8, entry->minor);
    memset(head + 148, ' ', 8);
    for (size_t i = 0; i < sizeof(head); i++)
        sum += (unsigned char)head[i];
    tar_number(head + 148, 7, sum);
    buf_add(tar, head, sizeof(head));
}

// "key=value" gets its own length in front, which counts itself.
static inline void tar_pax(struct buf *tar, const char *records)
{
    struct buf text = BUF_INIT(TAR_MAX);
    struct slice rest = slice_of(records), record;
    while (slice_cut(&rest, '\n', &record)) {
        if (record.size == 0)
            continue;
        size_t len = record.size + 3, digits = 1;
        for (;;) {
            char number[24];
            digits = (size_t)snprintf(number, sizeof(number), "%zu", len);
            if (record.size + 2 + digits == len)
                break;
            len = record.size + 2 + digits;
        }
        buf_addf(&text, "%zu %.*s\n", len, (int)record.size, record.data);
    }
    tar_header(tar, &(struct tar_entry){ .name = "pax" }, 'x', text.size);
    buf_add(tar, text.data, text.size);
    tar_pad(tar);
    buf_done(&text);
}

static inline void tar_add(struct buf *tar, const struct tar_entry *entry)
{
    char type = entry->type ? entry->type : '0';
    size_t size = entry->size ? entry->size : entry->data ? strlen(entry->data) : 0;
    if (entry->pax)
        tar_pax(tar, entry->pax);
    tar_header(tar, entry, type, size);
    buf_add(tar, entry->data, size);
    tar_pad(tar);
}

static inline void tar_end(struct buf *tar)
{
    static const char zeros[1024];
    buf_add(tar, zeros, sizeof(zeros));
}

// A layer_read_fn over memory that gives `step` bytes at most at once (0: all).
struct memory {
    const char *data;
    size_t size, at, step;
};

static inline ssize_t memory_read(void *context, void *data, size_t size, struct err *err)
{
    struct memory *memory = context;
    size_t got = MIN_OF(size, memory->size - memory->at);
    if (memory->step)
        got = MIN_OF(got, memory->step);
    if (got)
        memcpy(data, memory->data + memory->at, got);
    memory->at += got;
    return (ssize_t)got;
}

struct scratch {
    char path[64];
    int fd;
};

static inline void scratch_open_at(struct scratch *scratch, const char *where)
{
    snprintf(scratch->path, sizeof(scratch->path), "%s/berth-test-XXXXXX", where);
    scratch->fd = mkdtemp(scratch->path) ? open(scratch->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
}

static inline void scratch_open(struct scratch *scratch)
{
    scratch_open_at(scratch, "/tmp");
}

// In memory, where such a file system takes users' attributes (Linux 6.6): for trees of many files.
static inline void scratch_open_fast(struct scratch *scratch)
{
    scratch_open_at(scratch, "/dev/shm");
    if (scratch->fd >= 0 && fsetxattr(scratch->fd, "user.probe", "", 0, 0) == 0) {
        fremovexattr(scratch->fd, "user.probe");
        return;
    }
    if (scratch->fd >= 0) {
        close(scratch->fd);
        rmdir(scratch->path);
    }
    scratch_open(scratch);
}

static inline void scratch_close(struct scratch *scratch)
{
    close(scratch->fd);
    file_remove_tree(AT_FDCWD, scratch->path, NULL);
}

#endif
