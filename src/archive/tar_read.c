// Theory of operation: headers come one by one; pax records and GNU's long names change the entry behind them. Every length is checked
// against a bound before anything is read for it; an entry that says what no file system has is an error, not a guess.
#include <errno.h>
#include <stdio.h>
#include <sys/sysmacros.h>

#include "base/num.h"
#include "tar.h"

#define CHUNK ((size_t)128 << 10)
#define EXTRA_MAX ((uint64_t)8 << 20) // bytes of one header's records
#define HEADERS_MAX 16 // extra ones before an entry

// ---- bytes ----------------------------------------------------------------------------------------------------------

void tar_reader_init(struct tar_reader *reader, archive_read_fn *read, void *context)
{
    *reader = (struct tar_reader){ .read = read, .context = context, .chunk = mem_alloc(CHUNK) };
}

static void clear_xattrs(struct tar_entry *entry)
{
    while (entry->xattr_len > 0) {
        struct tar_xattr *xattr = &entry->xattrs[--entry->xattr_len];
        free(xattr->name);
        free(xattr->value);
    }
}

static void clear_entry(struct tar_entry *entry)
{
    free(entry->name);
    free(entry->link);
    clear_xattrs(entry);
    *entry = (struct tar_entry){ 0 };
}

void tar_reader_done(struct tar_reader *reader)
{
    clear_entry(&reader->entry);
    free(reader->chunk);
}

static int invalid(struct err *err)
{
    return err_set(err, ERR_INVALID_ARGUMENT, "archive/tar: invalid tar header");
}

static int cut_off(struct err *err)
{
    return err_set(err, ERR_INVALID_ARGUMENT, "unexpected EOF");
}

// At most `max` bytes that are there, without a copy; 0 at the end.
static ssize_t peek(struct tar_reader *reader, size_t max, const char **data, struct err *err)
{
    if (reader->chunk_at == reader->chunk_end) {
        ssize_t got = reader->read(reader->context, reader->chunk, CHUNK, err);
        if (got <= 0)
            return got;
        reader->chunk_at = 0;
        reader->chunk_end = (size_t)got;
    }
    *data = reader->chunk + reader->chunk_at;
    return (ssize_t)MIN_OF(max, reader->chunk_end - reader->chunk_at);
}

// All of it, or fewer bytes at the end of the stream.
static ssize_t take(struct tar_reader *reader, void *out, size_t size, struct err *err)
{
    size_t have = 0;
    while (have < size) {
        const char *data;
        ssize_t got = peek(reader, size - have, &data, err);
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        memcpy((char *)out + have, data, (size_t)got);
        reader->chunk_at += (size_t)got;
        have += (size_t)got;
    }
    return (ssize_t)have;
}

static int skip(struct tar_reader *reader, uint64_t size, struct err *err)
{
    while (size > 0) {
        const char *data;
        ssize_t got = peek(reader, MIN_OF(size, (uint64_t)CHUNK), &data, err);
        if (got <= 0)
            return got < 0 ? -1 : cut_off(err);
        reader->chunk_at += (size_t)got;
        size -= (uint64_t)got;
    }
    return 0;
}

// ---- numbers --------------------------------------------------------------------------------------------------------

// Octal digits between blanks and NULs; or, with the highest bit, a number of two's complement.
static bool parse_number(const char *field, size_t size, int64_t *out)
{
    const unsigned char *bytes = (const unsigned char *)field;
    uint64_t value = 0;
    if (bytes[0] & 0x80) {
        bool negative = bytes[0] & 0x40;
        for (size_t i = 0; i < size; i++) {
            unsigned char byte = i ? bytes[i] : bytes[i] & 0x7f;
            byte = i == 0 && negative ? byte | 0x80 : byte;
            if (i + 8 < size && byte != (negative ? 0xff : 0))
                return false;
            value = value << 8 | byte;
        }
        *out = (int64_t)value;
        return negative == (*out < 0);
    }
    while (size > 0 && (*field == ' ' || *field == 0))
        field++, size--;
    while (size > 0 && (field[size - 1] == ' ' || field[size - 1] == 0))
        size--;
    if (size > 0 && !num_parse_octal((struct slice){ field, size }, INT64_MAX, &value))
        return false;
    *out = (int64_t)value;
    return true;
}

static bool parse_below(const char *field, size_t size, int64_t max, int64_t *out)
{
    return parse_number(field, size, out) && *out >= 0 && *out <= max;
}

static bool check_sum(const char block[TAR_BLOCK])
{
    int64_t said, sum = 0;
    for (size_t i = 0; i < TAR_BLOCK; i++)
        sum += i >= 148 && i < 156 ? ' ' : (unsigned char)block[i];
    return parse_number(block + 148, 8, &said) && said == sum;
}

// ---- pax ------------------------------------------------------------------------------------------------------------

static bool set_text(char **place, struct slice value)
{
    if (value.size >= PATH_MAX || memchr(value.data, 0, value.size))
        return false;
    free(*place);
    *place = mem_strndup(value.data, value.size);
    return true;
}

// "1700000000.123456789"
static bool set_time(struct timespec *place, struct slice value)
{
    struct slice whole;
    int64_t seconds;
    slice_cut(&value, '.', &whole);
    if (!num_parse_i64(whole, &seconds))
        return false;
    *place = (struct timespec){ .tv_sec = seconds };
    for (size_t i = 0; value.data && i < 9; i++) {
        char digit = i < value.size ? value.data[i] : '0';
        if (digit < '0' || digit > '9')
            return false;
        place->tv_nsec = place->tv_nsec * 10 + (digit - '0');
    }
    return true;
}

static bool add_xattr(struct tar_entry *entry, struct slice name, struct slice value)
{
    if (entry->xattr_len == TAR_XATTRS_MAX || value.size > TAR_XATTR_VALUE_MAX || name.size > 255 || memchr(name.data, 0, name.size))
        return false;
    struct tar_xattr *xattr = &entry->xattrs[entry->xattr_len++];
    xattr->name = mem_strndup(name.data, name.size);
    xattr->value = mem_alloc(value.size);
    memcpy(xattr->value, value.data, value.size);
    xattr->size = value.size;
    return true;
}

// What the records say of the entry behind them, and whether they say it.
struct extra {
    bool has_size, has_uid, has_gid, has_time;
    int64_t size, uid, gid;
    struct timespec time;
};

static bool take_record(struct tar_entry *entry, struct extra *extra, struct slice key, struct slice value)
{
    static const char xattr[] = "SCHILY.xattr.";
    if (slice_eq(key, "path"))
        return set_text(&entry->name, value);
    if (slice_eq(key, "linkpath"))
        return set_text(&entry->link, value);
    if (slice_eq(key, "size"))
        return extra->has_size = num_parse_i64(value, &extra->size) && extra->size >= 0;
    if (slice_eq(key, "uid"))
        return extra->has_uid = num_parse_i64(value, &extra->uid) && extra->uid >= 0 && extra->uid < UINT32_MAX;
    if (slice_eq(key, "gid"))
        return extra->has_gid = num_parse_i64(value, &extra->gid) && extra->gid >= 0 && extra->gid < UINT32_MAX;
    if (slice_eq(key, "mtime"))
        return extra->has_time = set_time(&extra->time, value);
    if (slice_starts(key, xattr))
        return add_xattr(entry, (struct slice){ key.data + strlen(xattr), key.size - strlen(xattr) }, value);
    return !slice_starts(key, "GNU.sparse.");
}

// "27 path=some/long/name\n", each after the other.
static int take_records(struct tar_entry *entry, struct extra *extra, struct slice text, struct err *err)
{
    while (text.size > 0) {
        struct slice rest = text, count, key;
        uint64_t size;
        slice_cut(&rest, ' ', &count);
        if (!rest.data || !num_parse_u64(count, text.size, &size) || size <= count.size + 2 || text.data[size - 1] != '\n')
            return invalid(err);
        rest.size = size - count.size - 2;
        if (!slice_cut(&rest, '=', &key) || !rest.data || !take_record(entry, extra, key, rest))
            return err_set(err, ERR_INVALID_ARGUMENT, "archive/tar: header record %.*s is not supported", (int)MIN_OF(key.size, (size_t)64), key.data);
        text = (struct slice){ text.data + size, text.size - size };
    }
    return 0;
}

// ---- headers --------------------------------------------------------------------------------------------------------

static uint64_t padding_of(uint64_t size)
{
    return (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK;
}

static int take_extra(struct tar_reader *reader, char type, int64_t size, struct extra *extra, struct err *err)
{
    if (size < 0 || (uint64_t)size > EXTRA_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "archive/tar: a header is larger than %u MiB", (unsigned)(EXTRA_MAX >> 20));
    _cleanup_free_ char *text = mem_alloc((size_t)size + 1);
    ssize_t got = take(reader, text, (size_t)size, err);
    if (got < 0 || (got < size ? cut_off(err) : skip(reader, padding_of((uint64_t)size), err)) < 0)
        return -1;
    struct slice value = { text, (size_t)size };
    if (type == 'x')
        return take_records(&reader->entry, extra, value, err);
    value.size = strlen(text); // a NUL ends GNU's
    if (type == 'L' || type == 'K')
        return set_text(type == 'L' ? &reader->entry.name : &reader->entry.link, value) ? 0 : invalid(err);
    return 0; // of the whole archive: nothing that we keep
}

static char *short_name(const char block[TAR_BLOCK])
{
    bool ustar = memcmp(block + 257, "ustar\0", 6) == 0;
    int size = (int)strnlen(block, 100), prefix = ustar ? (int)strnlen(block + 345, 155) : 0;
    return prefix ? mem_printf("%.*s/%.*s", prefix, block + 345, size, block) : mem_printf("%.*s", size, block);
}

static bool fill_numbers(const char block[TAR_BLOCK], const struct extra *extra, struct tar_entry *entry)
{
    int64_t mode, uid, gid, time, high = 0, low = 0;
    if (!parse_below(block + 100, 8, INT32_MAX, &mode) || !parse_number(block + 136, 12, &time) ||
        !(extra->has_size || parse_below(block + 124, 12, INT64_MAX - TAR_BLOCK, &entry->size)) ||
        !(extra->has_uid || parse_below(block + 108, 8, UINT32_MAX - 1, &uid)) ||
        !(extra->has_gid || parse_below(block + 116, 8, UINT32_MAX - 1, &gid)))
        return false;
    bool device = block[156] == TAR_CHAR || block[156] == TAR_BLOCK_DEVICE;
    if (device && (!parse_below(block + 329, 8, INT32_MAX, &high) || !parse_below(block + 337, 8, INT32_MAX, &low)))
        return false;
    entry->mode = (uint32_t)mode & 07777;
    entry->uid = (uid_t)(extra->has_uid ? extra->uid : uid);
    entry->gid = (gid_t)(extra->has_gid ? extra->gid : gid);
    entry->size = extra->has_size ? extra->size : entry->size;
    entry->mtime = extra->has_time ? extra->time : (struct timespec){ .tv_sec = time };
    entry->device = makedev((unsigned)high, (unsigned)low);
    return true;
}

static int fill_entry(struct tar_reader *reader, const char block[TAR_BLOCK], const struct extra *extra, struct err *err)
{
    struct tar_entry *entry = &reader->entry;
    char type = block[156] == 0 || block[156] == '7' ? TAR_FILE : block[156];
    if (!fill_numbers(block, extra, entry))
        return invalid(err);
    if (!entry->name)
        entry->name = short_name(block);
    if (!entry->link)
        entry->link = mem_strndup(block + 157, strnlen(block + 157, 100));
    size_t size = strlen(entry->name);
    if (type == TAR_FILE && size > 0 && entry->name[size - 1] == '/')
        type = TAR_FOLDER; // as tars before ustar say it
    if (type < TAR_FILE || type > TAR_FIFO)
        return err_set(err, ERR_INVALID_ARGUMENT, "unhandled tar header type %d", (unsigned char)type);
    entry->type = (enum tar_type)type;
    // Only a file has content; what else claims some is passed over.
    reader->left = type == TAR_HARDLINK ? 0 : (uint64_t)entry->size;
    reader->padding = padding_of(reader->left);
    return 1;
}

static bool is_extra(char type)
{
    return type == 'x' || type == 'g' || type == 'L' || type == 'K';
}

static bool all_zero(const char block[TAR_BLOCK])
{
    static const char zeros[TAR_BLOCK];
    return memcmp(block, zeros, TAR_BLOCK) == 0;
}

int tar_reader_next(struct tar_reader *reader, struct tar_entry **entry, struct err *err)
{
    struct extra extra = { 0 };
    char block[TAR_BLOCK];
    if (reader->ended)
        return 0;
    if (skip(reader, reader->left, err) < 0)
        return -1;
    // A stream may end right behind the last content.
    ssize_t padding = take(reader, block, reader->padding, err);
    if (padding < (ssize_t)reader->padding) {
        reader->ended = padding >= 0;
        return padding < 0 ? -1 : 0;
    }
    reader->left = reader->padding = 0;
    clear_entry(&reader->entry);
    for (int headers = 0; headers < HEADERS_MAX; headers++) {
        int64_t size;
        ssize_t got = take(reader, block, TAR_BLOCK, err);
        if (got < 0)
            return -1;
        if (got == 0 || (got == TAR_BLOCK && all_zero(block))) {
            reader->ended = true;
            reader->marked = got > 0;
            return headers == 0 ? 0 : cut_off(err);
        }
        if (got < TAR_BLOCK)
            return cut_off(err);
        if (!check_sum(block) || !parse_number(block + 124, 12, &size))
            return invalid(err);
        *entry = &reader->entry;
        if (!is_extra(block[156]))
            return fill_entry(reader, block, &extra, err);
        if (take_extra(reader, block[156], size, &extra, err) < 0)
            return -1;
    }
    return invalid(err);
}

ssize_t tar_reader_content(struct tar_reader *reader, const char **data, struct err *err)
{
    if (reader->left == 0)
        return 0;
    ssize_t got = peek(reader, MIN_OF(reader->left, (uint64_t)CHUNK), data, err);
    if (got <= 0)
        return got < 0 ? -1 : cut_off(err);
    reader->chunk_at += (size_t)got;
    reader->left -= (uint64_t)got;
    return got;
}
