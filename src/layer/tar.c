// Theory of operation: a pull chain. libarchive asks for tar bytes, they come from the inflater and go through the hash
// on their way; after the archive's own end the rest of the stream is drained through the same hash, because a DiffID
// covers padding too. libarchive only parses: placing entries is ours (tree.h, erofs_tree.h), none of its disk writers is
// used. It runs in the C locale: in a UTF-8 one it composes the names of pax headers (e + U+0301 becomes U+00E9), in this
// one it fails to convert them, warns, and gives the bytes as they are.
#include <errno.h>

#include "tar.h"

#define READ_SIZE (256 * 1024)
#define ENTRIES_MAX 4000000
#define XATTRS_MAX 256 // of one entry
#define XATTR_VALUE_MAX 65536 // the kernel's own bound
#define WHITEOUT ".wh."
#define WHITEOUT_META ".wh..wh." // aufs' own files; only its opaque mark has a meaning for others
#define WHITEOUT_OPAQUE ".wh..wh..opq"

// libarchive loses the target of a symlink that only a pax header tells (tars written by Go, targets without ASCII) as
// long as it has met no link before. So it meets this one first: "." -> "x", which is never placed nor hashed.
static const char first_header[512] = {
    [0] = '.',   [148] = '0', [149] = '0', [150] = '2', [151] = '1', [152] = '4', [153] = '7', [156] = '2', [157] = 'x',
    [257] = 'u', [258] = 's', [259] = 't', [260] = 'a', [261] = 'r', [263] = '0', [264] = '0',
};

// ---- the stream -----------------------------------------------------------------------------------------------------

uint64_t tar_position(const struct tar *tar)
{
    int64_t at = archive_filter_bytes(tar->archive, 0);
    return at > (int64_t)sizeof(first_header) ? (uint64_t)at - sizeof(first_header) : 0;
}

static ssize_t read_some(struct tar *tar)
{
    ssize_t got = layer_inflate_read(tar->inflate, tar->buffer, READ_SIZE, tar->err);
    if (got > 0)
        layer_digest_add(tar->digest, tar->buffer, (size_t)got);
    if (got > 0 && tar->watch &&
        tar->watch(tar->watcher, tar->buffer, (size_t)got, tar->ended ? UINT64_MAX : tar_position(tar), tar->err) < 0)
        got = -1;
    tar->failed = got < 0;
    return got;
}

static la_ssize_t archive_input(struct archive *archive, void *context, const void **data)
{
    struct tar *tar = context;
    if (!tar->started) {
        tar->started = true;
        *data = first_header;
        return sizeof(first_header);
    }
    ssize_t got = read_some(tar);
    if (got < 0)
        archive_set_error(archive, EIO, "read failed");
    *data = tar->buffer;
    return got;
}

static int tar_error(struct tar *tar, struct err *err)
{
    if (tar->failed)
        return -1; // *err has it
    const char *why = archive_error_string(tar->archive);
    return err_set(err, ERR_INVALID_ARGUMENT, "not a valid tar archive: %s", why ? why : "unknown error");
}

int tar_open(struct tar *tar, layer_read_fn *read, void *context, struct layer_bound *bound, tar_watch_fn *watch, void *watcher,
             struct err *err)
{
    *tar = (struct tar){ .err = err, .watch = watch, .watcher = watcher };
    tar->locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    tar->locale_before = uselocale(tar->locale);
    if (layer_inflate_new(read, context, bound, &tar->inflate, err) < 0)
        return -1;
    tar->buffer = mem_alloc(READ_SIZE);
    tar->digest = layer_digest_new();
    tar->archive = archive_read_new();
    archive_read_support_format_tar(tar->archive);
    struct archive_entry *first;
    if (archive_read_open(tar->archive, tar, NULL, archive_input, NULL) != ARCHIVE_OK ||
        archive_read_next_header(tar->archive, &first) != ARCHIVE_OK)
        return tar_error(tar, err);
    return 0; // what follows may be nothing at all: a layer that changes nothing
}

int tar_drain(struct tar *tar, char diff_id[72], struct err *err)
{
    ssize_t got;
    tar->err = err;
    tar->ended = true;
    do
        got = read_some(tar);
    while (got > 0);
    if (got < 0)
        return -1;
    layer_digest_end(take_ptr(&tar->digest), diff_id);
    return 0;
}

void tar_done(struct tar *tar)
{
    if (tar->archive)
        archive_read_free(tar->archive);
    layer_digest_free(tar->digest);
    layer_inflate_free(tar->inflate);
    free(tar->buffer);
    uselocale(tar->locale_before);
    freelocale(tar->locale);
}

int tar_next(struct tar *tar, struct archive_entry **entry, const char **name, struct err *err)
{
    tar->err = err;
    int result = archive_read_next_header(tar->archive, entry);
    if (result == ARCHIVE_EOF)
        return tar->failed ? -1 : 0; // a reader that fails between two entries looks like the end
    if (result != ARCHIVE_OK && result != ARCHIVE_WARN)
        return tar_error(tar, err);
    if (tar->entry_len >= ENTRIES_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "layer has more than %d entries", ENTRIES_MAX);
    *name = archive_entry_pathname(*entry);
    if (!*name)
        return err_set(err, ERR_INVALID_ARGUMENT, "layer entry %zu: name cannot be read", tar->entry_len);
    tar->entry_len++;
    tar->entry_size = archive_entry_size(*entry);
    tar->entry_end = 0;
    return 1;
}

int tar_data(struct tar *tar, const void **data, size_t *size, int64_t *offset, struct err *err)
{
    tar->err = err;
    la_int64_t at;
    int result = archive_read_data_block(tar->archive, data, size, &at);
    if (result == ARCHIVE_EOF)
        return 0;
    if (result != ARCHIVE_OK && result != ARCHIVE_WARN)
        return tar_error(tar, err);
    // Overlapping pieces would lose bytes of the tar that nobody else keeps.
    if (at < tar->entry_end)
        return err_set(err, ERR_INVALID_ARGUMENT, "damaged sparse map");
    if (at > tar->entry_size || *size > (uint64_t)(tar->entry_size - at))
        return err_set(err, ERR_INVALID_ARGUMENT, "has content behind its end");
    tar->entry_end = at + (int64_t)*size;
    *offset = at;
    return 1;
}

// ---- entries --------------------------------------------------------------------------------------------------------

int tar_entry_owner(struct archive_entry *entry, struct tar_owner *out, struct err *err)
{
    int64_t uid = archive_entry_uid(entry), gid = archive_entry_gid(entry);
    // The highest number means "leave it" to chown.
    if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "owner %lld:%lld is out of range", (long long)uid, (long long)gid);
    *out = (struct tar_owner){ (uid_t)uid, (gid_t)gid };
    return 0;
}

struct timespec tar_entry_time(struct archive_entry *entry)
{
    // Out of range nanoseconds would be UTIME_NOW or UTIME_OMIT.
    long ns = archive_entry_mtime_nsec(entry);
    return (struct timespec){ .tv_sec = archive_entry_mtime(entry), .tv_nsec = ns < 0 || ns > 999999999 ? 0 : ns };
}

// user.overlay.* steers overlayfs when it is mounted with userxattr.
static bool xattr_wanted(const char *name, bool regular)
{
    if (str_eq(name, "security.capability"))
        return regular;
    return str_starts(name, "user.") && !str_starts(name, "user.overlay.");
}

int tar_xattr_first(struct archive_entry *entry, struct err *err)
{
    if (archive_entry_xattr_reset(entry) > XATTRS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %d extended attributes", XATTRS_MAX);
    return 0;
}

int tar_xattr_next(struct archive_entry *entry, bool regular, struct tar_xattr *out, struct err *err)
{
    while (archive_entry_xattr_next(entry, &out->name, &out->value, &out->size) == ARCHIVE_OK) {
        if (!out->name || !xattr_wanted(out->name, regular))
            continue;
        if (out->size > XATTR_VALUE_MAX)
            return err_set(err, ERR_INVALID_ARGUMENT, "extended attribute %.64s is too large", out->name);
        return 1;
    }
    return 0;
}

int tar_whiteout(char *path, enum tar_whiteout *out, struct err *err)
{
    char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    *out = TAR_NOTHING;
    for (char *at = path; at && at < name; at = strchr(at, '/'), at = at ? at + 1 : NULL) {
        if (str_starts(at, WHITEOUT_META))
            return 0;
        if (str_starts(at, WHITEOUT))
            return err_set(err, ERR_INVALID_ARGUMENT, "lies below a whiteout");
    }
    if (!str_starts(name, WHITEOUT)) {
        *out = TAR_ORDINARY;
        return 0;
    }
    if (str_starts(name, WHITEOUT_META)) {
        if (!str_eq(name, WHITEOUT_OPAQUE))
            return 0;
        *out = TAR_OPAQUE;
        *(slash ? slash : path) = '\0';
        return 0;
    }
    const char *hidden = name + strlen(WHITEOUT);
    if (!*hidden || str_eq(hidden, ".") || str_eq(hidden, ".."))
        return err_set(err, ERR_INVALID_ARGUMENT, "leads outside the layer");
    *out = TAR_HIDES;
    memmove(name, hidden, strlen(hidden) + 1);
    return 0;
}
