// The tar of an image's root as it comes from our own worker, in pieces of whatever size: entries as a client's file list names them. Of what a
// tar may have, only that is known which that worker writes: ustar, and pax records before an entry (archive/tar_write.c).
#include "base/num.h"
#include "untar.h"

#define RECORDS_MAX ((size_t)8 << 20)
#define NUMBER_MAX 12

void untar_init(struct untar *untar, const struct files_sink *sink)
{
    *untar = (struct untar){ .sink = *sink, .records = BUF_INIT(RECORDS_MAX), .size = -1 };
}

void untar_done(struct untar *untar)
{
    buf_done(&untar->records);
    arena_done(&untar->arena);
}

// ---- fields ---------------------------------------------------------------------------------------------------------

static int64_t octal(const char *field, size_t size)
{
    int64_t value = 0;
    if ((unsigned char)field[0] == 0x80) { // a size that needs more digits is binary
        for (size_t i = 1; i < size; i++)
            value = (int64_t)((uint64_t)value << 8 | (unsigned char)field[i]);
        return MAX_OF(value, INT64_C(0));
    }
    for (size_t i = 0; i < size && field[i] >= '0' && field[i] <= '7'; i++)
        value = value * 8 + (field[i] - '0');
    return value;
}

// A Go os.FileMode, which is what a client reads.
static uint32_t mode_of(char type, uint32_t mode)
{
    uint32_t out = mode & 0777;
    out |= mode & 04000 ? MODE_SETUID : 0;
    out |= mode & 02000 ? MODE_SETGID : 0;
    out |= mode & 01000 ? MODE_STICKY : 0;
    switch (type) {
    case '5':
        return out | MODE_DIR;
    case '2':
        return out | MODE_SYMLINK;
    case '3':
        return out | MODE_DEVICE | MODE_CHAR;
    case '4':
        return out | MODE_DEVICE;
    case '6':
        return out | MODE_PIPE;
    default:
        return out;
    }
}

static void take_record(struct untar *untar, struct slice key, struct slice value, struct stat_message *stat)
{
    int64_t number = 0;
    bool is_number = num_parse_i64(value, &number) && number >= 0;
    if (slice_eq(key, "path"))
        stat->path = arena_strndup(&untar->arena, value.data, value.size);
    else if (slice_eq(key, "linkpath"))
        stat->linkname = arena_strndup(&untar->arena, value.data, value.size);
    else if (slice_eq(key, "size") && is_number)
        stat->size = number;
    else if (slice_eq(key, "uid") && is_number)
        stat->uid = (uint32_t)number;
    else if (slice_eq(key, "gid") && is_number)
        stat->gid = (uint32_t)number;
}

// "27 path=some/long/name\n", one behind the other.
static void take_records(struct untar *untar, struct stat_message *stat)
{
    struct slice rest = { buf_text(&untar->records), untar->records.size };
    while (rest.size > 0) {
        int64_t size = 0;
        const char *space = memchr(rest.data, ' ', MIN_OF(rest.size, (size_t)NUMBER_MAX));
        if (!space || !num_parse_i64((struct slice){ rest.data, (size_t)(space - rest.data) }, &size) || size <= space - rest.data + 2 ||
            (size_t)size > rest.size)
            return;
        struct slice record = { space + 1, (size_t)size - (size_t)(space - rest.data) - 2 }, key;
        if (slice_cut(&record, '=', &key))
            take_record(untar, key, record.data ? record : (struct slice){ "", 0 }, stat);
        rest = (struct slice){ rest.data + size, rest.size - (size_t)size };
    }
}

// ---- entries --------------------------------------------------------------------------------------------------------

static void read_head(struct untar *untar, struct stat_message *stat)
{
    const char *head = untar->head;
    char type = head[156] ? head[156] : '0';
    *stat = (struct stat_message){ .path = arena_strndup(&untar->arena, head, strnlen(head, 100)), .size = octal(head + 124, 12),
                                   .linkname = arena_strndup(&untar->arena, head + 157, strnlen(head + 157, 100)),
                                   .mode = mode_of(type, (uint32_t)octal(head + 100, 8)), .uid = (uint32_t)octal(head + 108, 8),
                                   .gid = (uint32_t)octal(head + 116, 8), .mtime_ns = octal(head + 136, 12) * NS_PER_S,
                                   .major = octal(head + 329, 8), .minor = octal(head + 337, 8) };
    take_records(untar, stat);
    size_t len = strlen(stat->path);
    if (len > 1 && stat->path[len - 1] == '/')
        stat->path[len - 1] = '\0';
    if (type != '0')
        stat->size = 0;
}

static bool is_zero(const char head[UNTAR_BLOCK])
{
    for (size_t i = 0; i < UNTAR_BLOCK; i++)
        if (head[i])
            return false;
    return true;
}

static int end_head(struct untar *untar, struct err *err)
{
    untar->head_size = 0;
    if (is_zero(untar->head)) {
        untar->ended = true;
        return 0;
    }
    if (memcmp(untar->head + 257, "ustar", 5) != 0)
        return err_set(err, ERR_INTERNAL, "the image's archive is damaged");
    if (untar->head[156] == 'x') {
        untar->in_records = true;
        untar->size = octal(untar->head + 124, 12);
        buf_clear(&untar->records);
    } else {
        read_head(untar, &untar->stat);
        untar->size = untar->stat.size;
        buf_clear(&untar->records);
        if (untar->sink.entry(untar->sink.of, &untar->stat, err) < 0)
            return -1;
    }
    untar->padding = (UNTAR_BLOCK - (size_t)(untar->size % UNTAR_BLOCK)) % UNTAR_BLOCK;
    return 0;
}

static int end_content(struct untar *untar, struct err *err)
{
    bool records = untar->in_records;
    untar->size = -1;
    untar->in_records = false;
    if (records)
        return buf_check(&untar->records, "a name in the image", err);
    int done = untar->sink.entry_end(untar->sink.of, &untar->stat, err);
    arena_done(&untar->arena);
    return done;
}

// ---- bytes ----------------------------------------------------------------------------------------------------------

static int take_content(struct untar *untar, const char *data, size_t size, struct err *err)
{
    untar->size -= (int64_t)size;
    if (!untar->in_records)
        return untar->sink.content(untar->sink.of, data, size, err);
    buf_add(&untar->records, data, size);
    return 0;
}

// How many of them were taken; -1.
static ssize_t take_some(struct untar *untar, const char *data, size_t size, struct err *err)
{
    if (untar->size > 0) {
        size_t part = (size_t)MIN_OF((int64_t)size, untar->size);
        return take_content(untar, data, part, err) < 0 ? -1 : (ssize_t)part;
    }
    if (untar->padding > 0) {
        size_t part = MIN_OF(size, untar->padding);
        untar->padding -= part;
        return (ssize_t)part;
    }
    if (untar->ended)
        return (ssize_t)size;
    size_t part = MIN_OF(size, UNTAR_BLOCK - untar->head_size);
    memcpy(untar->head + untar->head_size, data, part);
    untar->head_size += part;
    return untar->head_size == UNTAR_BLOCK && end_head(untar, err) < 0 ? -1 : (ssize_t)part;
}

int untar_add(struct untar *untar, const char *data, size_t size, struct err *err)
{
    while (size > 0) {
        ssize_t taken = take_some(untar, data, size, err);
        if (taken < 0 || (untar->size == 0 && untar->padding == 0 && end_content(untar, err) < 0))
            return -1;
        data += taken;
        size -= (size_t)taken;
    }
    return 0;
}

int untar_end(const struct untar *untar, struct err *err)
{
    return untar->ended ? 0 : err_set(err, ERR_INTERNAL, "the image's archive lacks its end");
}
