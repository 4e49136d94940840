// The client's files as a tar: ustar heads, with pax records before an entry whose name, link or size does not fit into one.
#include <errno.h>

#include "base/fd.h"
#include "buildkit_private.h"

#define BLOCK 512
#define NAME_FIELD 100
#define SIZE_MAX_OCTAL INT64_C(077777777777)
#define ID_MAX_OCTAL 07777777u

static char type_of(const struct stat_message *stat)
{
    return stat->mode & MODE_DIR       ? '5'
           : stat->mode & MODE_SYMLINK ? '2'
           : stat->mode & MODE_DEVICE  ? (stat->mode & MODE_CHAR ? '3' : '4')
           : stat->mode & MODE_PIPE    ? '6'
           : !str_empty(stat->linkname) ? '1'
                                        : '0';
}

static unsigned mode_of(const struct stat_message *stat)
{
    return (stat->mode & 0777) | (stat->mode & MODE_SETUID ? 04000 : 0) | (stat->mode & MODE_SETGID ? 02000 : 0) |
           (stat->mode & MODE_STICKY ? 01000 : 0);
}

static void put_octal(char *field, size_t width, uint64_t value)
{
    snprintf(field, width, "%0*llo", (int)width - 1, (unsigned long long)value);
}

// A field that is too long is cut: a pax record says it whole.
static void put_text(char *field, size_t width, const char *text)
{
    size_t len = strlen(text);
    memcpy(field, text, MIN_OF(len, width));
}

static void make_head(char head[BLOCK], const char *name, const char *link, char type, const struct stat_message *stat, int64_t size)
{
    unsigned sum = 0;
    memset(head, 0, BLOCK);
    put_text(head, NAME_FIELD, name);
    put_octal(head + 100, 8, mode_of(stat));
    put_octal(head + 108, 8, MIN_OF(stat->uid, ID_MAX_OCTAL));
    put_octal(head + 116, 8, MIN_OF(stat->gid, ID_MAX_OCTAL));
    put_octal(head + 124, 12, (uint64_t)MIN_OF(size, SIZE_MAX_OCTAL));
    put_octal(head + 136, 12, (uint64_t)MAX_OF(stat->mtime_ns / NS_PER_S, INT64_C(0)));
    memset(head + 148, ' ', 8);
    head[156] = type;
    put_text(head + 157, NAME_FIELD, link);
    memcpy(head + 257, "ustar\00000", 8);
    put_octal(head + 329, 8, (uint64_t)MAX_OF(stat->major, INT64_C(0)) & ID_MAX_OCTAL);
    put_octal(head + 337, 8, (uint64_t)MAX_OF(stat->minor, INT64_C(0)) & ID_MAX_OCTAL);
    for (size_t i = 0; i < BLOCK; i++)
        sum += (unsigned char)head[i];
    snprintf(head + 148, 8, "%06o", sum);
}

// "30 path=some/name\n": the length counts itself.
static void add_record(struct buf *out, const char *key, const char *value)
{
    size_t rest = strlen(key) + strlen(value) + 3, size = rest + 1, digits = 1;
    while (digits != (size_t)snprintf(NULL, 0, "%zu", size))
        size = rest + ++digits;
    buf_addf(out, "%zu %s=%s\n", size, key, value);
}

static void add_number(struct buf *out, const char *key, int64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%lld", (long long)value);
    add_record(out, key, text);
}

static int flush(struct tar_out *tar, struct err *err)
{
    size_t size = tar->held_size;
    tar->held_size = 0;
    return tar->bytes ? tar->bytes(tar->bytes_of, tar->held, size, err) : fd_write_full(tar->fd, tar->held, size, err);
}

static int put(struct tar_out *tar, const char *data, size_t size, struct err *err)
{
    while (size > 0) {
        size_t part = MIN_OF(size, sizeof(tar->held) - tar->held_size);
        memcpy(tar->held + tar->held_size, data, part);
        tar->held_size += part;
        data += part;
        size -= part;
        if (tar->held_size == sizeof(tar->held) && flush(tar, err) < 0)
            return -1;
    }
    return 0;
}

static int write_padded(struct tar_out *tar, const char *data, size_t size, struct err *err)
{
    static const char zeros[BLOCK];
    if (put(tar, data, size, err) < 0)
        return -1;
    return put(tar, zeros, (BLOCK - size % BLOCK) % BLOCK, err);
}

static int write_extra(struct tar_out *tar, const char *name, const struct stat_message *stat, int64_t size, struct err *err)
{
    char head[BLOCK], time[48];
    _cleanup_buf_ struct buf extra = BUF_INIT(64 << 10);
    const struct stat_message plain = { .mode = 0644 };
    if (strlen(name) > NAME_FIELD)
        add_record(&extra, "path", name);
    if (stat->linkname && strlen(stat->linkname) > NAME_FIELD)
        add_record(&extra, "linkpath", stat->linkname);
    if (size > SIZE_MAX_OCTAL)
        add_number(&extra, "size", size);
    if (stat->uid > ID_MAX_OCTAL)
        add_number(&extra, "uid", stat->uid);
    if (stat->gid > ID_MAX_OCTAL)
        add_number(&extra, "gid", stat->gid);
    if (stat->mtime_ns > 0 && stat->mtime_ns % NS_PER_S) {
        snprintf(time, sizeof(time), "%lld.%09lld", (long long)(stat->mtime_ns / NS_PER_S), (long long)(stat->mtime_ns % NS_PER_S));
        add_record(&extra, "mtime", time);
    }
    if (extra.size == 0)
        return 0;
    if (buf_check(&extra, "a name in the build context", err) < 0)
        return -1;
    make_head(head, "pax", "", 'x', &plain, (int64_t)extra.size);
    return put(tar, head, BLOCK, err) < 0 ? -1 : write_padded(tar, extra.data, extra.size, err);
}

// ---- the sink -------------------------------------------------------------------------------------------------------

static int write_entry(void *of, const struct stat_message *stat, struct err *err)
{
    struct tar_out *tar = of;
    char head[BLOCK], type = type_of(stat);
    int64_t size = type == '0' ? stat->size : 0;
    tar->left = size;
    tar->padding = (size_t)((BLOCK - size % BLOCK) % BLOCK);
    if (stat->mode & MODE_SOCKET) // no archive can have one
        return 0;
    _cleanup_free_ char *name = mem_printf("%s%s", stat->path, type == '5' ? "/" : "");
    if (write_extra(tar, name, stat, size, err) < 0)
        return -1;
    make_head(head, name, stat->linkname ? stat->linkname : "", type, stat, size);
    return put(tar, head, BLOCK, err);
}

// A file that has grown is as long as it was said to be.
static int write_content(void *of, const char *data, size_t size, struct err *err)
{
    struct tar_out *tar = of;
    size_t part = (size_t)MIN_OF((int64_t)size, tar->left);
    tar->left -= (int64_t)part;
    return put(tar, data, part, err);
}

static int end_entry(void *of, const struct stat_message *stat, struct err *err)
{
    static const char zeros[BLOCK];
    struct tar_out *tar = of;
    if (tar->left > 0)
        return err_set(err, ERR_CONFLICT, "%s became shorter while it was read", stat->path);
    return put(tar, zeros, tar->padding, err);
}

void tar_sink(struct tar_out *tar, struct files_sink *out)
{
    *out = (struct files_sink){ write_entry, write_content, end_entry, tar };
}

int tar_end(struct tar_out *tar, struct err *err)
{
    static const char zeros[2 * BLOCK];
    return put(tar, zeros, sizeof(zeros), err) < 0 ? -1 : flush(tar, err);
}

// Half a head: a tar may end without its last blocks, but not in the middle of one.
void tar_break(struct tar_out *tar)
{
    static const char half[BLOCK / 2] = { 'x' };
    flush(tar, NULL);
    fd_write_full(tar->fd, half, sizeof(half), NULL);
}
