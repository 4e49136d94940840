// Theory of operation: a pull chain. libarchive asks for tar bytes, they come from the inflater and go through the hash
// on their way; after the archive's own end the rest of the stream is drained through the same hash, because a DiffID
// covers padding too. libarchive only parses: placing entries is ours (tree.h), none of its disk writers is used. It
// runs in the C locale: in a UTF-8 one it composes the names of pax headers (e + U+0301 becomes U+00E9), in this one it
// fails to convert them, warns, and gives the bytes as they are.
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "layer/layer.h"
#include "tree.h"
#include "base/fd.h"

#define READ_SIZE (256 * 1024)
#define ENTRIES_MAX 4000000
#define XATTRS_MAX 256 // of one entry
#define XATTR_VALUE_MAX 65536 // the kernel's own bound
#define WHITEOUT ".wh."
#define WHITEOUT_META ".wh..wh." // aufs' own files; only its opaque mark has a meaning for others
#define WHITEOUT_OPAQUE ".wh..wh..opq"

// ---- the stream -----------------------------------------------------------------------------------------------------

struct source {
    struct layer_inflate *inflate;
    struct layer_digest *digest;
    struct archive *tar;
    void *buffer; // READ_SIZE
    struct err *err; // the call's own: a failing reader fills it from below libarchive
    bool started, failed;
};

static ssize_t source_read(struct source *source)
{
    ssize_t got = layer_inflate_read(source->inflate, source->buffer, READ_SIZE, source->err);
    if (got > 0)
        layer_digest_add(source->digest, source->buffer, (size_t)got);
    source->failed = got < 0;
    return got;
}

// libarchive loses the target of a symlink that only a pax header tells (tars written by Go, targets without ASCII) as
// long as it has met no link before. So it meets this one first: "." -> "x", which is never placed nor hashed.
static const char first_header[512] = {
    [0] = '.',   [148] = '0', [149] = '0', [150] = '2', [151] = '1', [152] = '4', [153] = '7', [156] = '2', [157] = 'x',
    [257] = 'u', [258] = 's', [259] = 't', [260] = 'a', [261] = 'r', [263] = '0', [264] = '0',
};

static la_ssize_t tar_input(struct archive *archive, void *context, const void **data)
{
    struct source *source = context;
    if (!source->started) {
        source->started = true;
        *data = first_header;
        return sizeof(first_header);
    }
    ssize_t got = source_read(source);
    if (got < 0)
        archive_set_error(archive, EIO, "read failed");
    *data = source->buffer;
    return got;
}

static int tar_error(struct source *source, struct err *err)
{
    if (source->failed)
        return -1; // *err has it
    const char *why = archive_error_string(source->tar);
    return err_set(err, ERR_INVALID_ARGUMENT, "not a valid tar archive: %s", why ? why : "unknown error");
}

static int source_open(struct source *source, layer_read_fn *read, void *context, struct err *err)
{
    source->err = err;
    if (layer_inflate_new(read, context, &source->inflate, err) < 0)
        return -1;
    source->buffer = mem_alloc(READ_SIZE);
    source->digest = layer_digest_new();
    source->tar = archive_read_new();
    archive_read_support_format_tar(source->tar);
    struct archive_entry *first;
    if (archive_read_open(source->tar, source, NULL, tar_input, NULL) != ARCHIVE_OK ||
        archive_read_next_header(source->tar, &first) != ARCHIVE_OK)
        return tar_error(source, err);
    return 0; // what follows may be nothing at all: a layer that changes nothing
}

static int source_drain(struct source *source)
{
    ssize_t got;
    do
        got = source_read(source);
    while (got > 0);
    return got < 0 ? -1 : 0;
}

static void source_done(struct source *source)
{
    if (source->tar)
        archive_read_free(source->tar);
    layer_digest_free(source->digest);
    layer_inflate_free(source->inflate);
    free(source->buffer);
}

// ---- attributes -----------------------------------------------------------------------------------------------------

struct owner {
    uid_t uid;
    gid_t gid;
};

static int entry_owner(struct archive_entry *entry, struct owner *out, struct err *err)
{
    int64_t uid = archive_entry_uid(entry), gid = archive_entry_gid(entry);
    // The highest number means "leave it" to chown.
    if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "owner %lld:%lld is out of range", (long long)uid, (long long)gid);
    *out = (struct owner){ (uid_t)uid, (gid_t)gid };
    return 0;
}

static struct timespec entry_time(struct archive_entry *entry)
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

static int set_xattrs(int fd, struct archive_entry *entry, bool regular, struct err *err)
{
    if (archive_entry_xattr_reset(entry) > XATTRS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %d extended attributes", XATTRS_MAX);
    const char *name;
    const void *value;
    size_t size;
    while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
        if (!name || !xattr_wanted(name, regular))
            continue;
        if (size > XATTR_VALUE_MAX)
            return err_set(err, ERR_INVALID_ARGUMENT, "extended attribute %.64s is too large", name);
        // Like Docker: a file system without user attributes just does not keep them; capabilities must not get lost.
        if (fsetxattr(fd, name, value, size, 0) < 0 && (errno != EOPNOTSUPP || !str_starts(name, "user.")))
            return err_errno(err, errno, "set attribute %.64s", name);
    }
    return 0;
}

// The order matters: a change of owner clears set-id bits and security.capability.
static int set_attributes(int fd, struct archive_entry *entry, bool regular, struct err *err)
{
    struct owner owner;
    if (entry_owner(entry, &owner, err) < 0)
        return -1;
    if (fchown(fd, owner.uid, owner.gid) < 0)
        return err_errno(err, errno, "set owner");
    if (set_xattrs(fd, entry, regular, err) < 0)
        return -1;
    return fchmod(fd, archive_entry_perm(entry) & 07777) == 0 ? 0 : err_errno(err, errno, "set mode");
}

// The same for what cannot be opened: links, devices, fifos.
static int set_attributes_at(struct tree *tree, const char *path, struct archive_entry *entry, struct err *err)
{
    struct owner owner;
    const char *name;
    const struct timespec times[2] = { entry_time(entry), entry_time(entry) };
    int parent = tree_parent(tree, path, &name, err);
    if (parent < 0 || entry_owner(entry, &owner, err) < 0)
        return -1;
    if (fchownat(parent, name, owner.uid, owner.gid, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(err, errno, "set owner");
    if (archive_entry_filetype(entry) != AE_IFLNK && fchmodat(parent, name, archive_entry_perm(entry) & 07777, 0) < 0)
        return err_errno(err, errno, "set mode");
    return utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : err_errno(err, errno, "set time");
}

// ---- entries --------------------------------------------------------------------------------------------------------

static int write_at(int fd, const char *data, size_t size, off_t offset, struct err *err)
{
    while (size > 0) {
        ssize_t put = pwrite(fd, data, size, offset);
        if (put < 0 && errno != EINTR)
            return err_errno(err, errno, "write");
        if (put > 0) {
            data += put;
            size -= (size_t)put;
            offset += put;
        }
    }
    return 0;
}

// Blocks come with their offsets; what lies between them is a hole.
static int copy_data(struct source *source, int fd, int64_t size, struct err *err)
{
    int64_t end = 0;
    for (;;) {
        const void *data;
        size_t len;
        la_int64_t offset;
        int result = archive_read_data_block(source->tar, &data, &len, &offset);
        if (result == ARCHIVE_EOF)
            break;
        if (result != ARCHIVE_OK && result != ARCHIVE_WARN)
            return tar_error(source, err);
        if (offset < 0 || write_at(fd, data, len, offset, err) < 0)
            return offset < 0 ? err_set(err, ERR_INVALID_ARGUMENT, "damaged sparse map") : -1;
        end = MAX_OF(end, offset + (int64_t)len);
    }
    if (end < size && ftruncate(fd, size) < 0)
        return err_errno(err, errno, "set size");
    return 0;
}

static int unpack_file(struct source *source, struct tree *tree, const char *path, struct archive_entry *entry,
                       struct layer_result *out, struct err *err)
{
    const struct timespec times[2] = { entry_time(entry), entry_time(entry) };
    int64_t size = archive_entry_size(entry);
    if (size < 0 || __builtin_add_overflow(out->size, size, &out->size))
        return err_set(err, ERR_INVALID_ARGUMENT, "size is out of range");
    _cleanup_close_ int fd = tree_new_file(tree, path, err);
    if (fd < 0 || copy_data(source, fd, size, err) < 0 || set_attributes(fd, entry, true, err) < 0)
        return -1;
    return futimens(fd, times) == 0 ? 0 : err_errno(err, errno, "set time");
}

static int unpack_folder(struct tree *tree, const char *path, struct archive_entry *entry, struct err *err)
{
    _cleanup_close_ int fd = tree_open_folder(tree, path, err);
    if (fd < 0 || set_attributes(fd, entry, false, err) < 0)
        return -1;
    return tree_folder_time(tree, path, entry_time(entry), err);
}

static int unpack_symlink(struct tree *tree, const char *path, struct archive_entry *entry, struct layer_result *out,
                          struct err *err)
{
    const char *target = archive_entry_symlink(entry);
    if (str_empty(target))
        return err_set(err, ERR_INVALID_ARGUMENT, "symlink without a target");
    if (__builtin_add_overflow(out->size, (int64_t)strlen(target), &out->size))
        return err_set(err, ERR_INVALID_ARGUMENT, "size is out of range");
    return tree_symlink(tree, path, target, err) < 0 ? -1 : set_attributes_at(tree, path, entry, err);
}

static int unpack_node(struct tree *tree, const char *path, struct archive_entry *entry, struct err *err)
{
    mode_t type = archive_entry_filetype(entry);
    dev_t device = type == AE_IFIFO ? 0 : makedev(archive_entry_rdevmajor(entry), archive_entry_rdevminor(entry));
    return tree_node(tree, path, type | 0600, device, err) < 0 ? -1 : set_attributes_at(tree, path, entry, err);
}

// A name with ".wh.": 1 when it was dealt with, 0 for an ordinary entry.
static int unpack_whiteout(struct tree *tree, char *path, struct err *err)
{
    char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    for (char *at = path; at && at < name; at = strchr(at, '/'), at = at ? at + 1 : NULL) {
        if (str_starts(at, WHITEOUT_META))
            return 1;
        if (str_starts(at, WHITEOUT))
            return err_set(err, ERR_INVALID_ARGUMENT, "lies below a whiteout");
    }
    if (!str_starts(name, WHITEOUT))
        return 0;
    if (str_starts(name, WHITEOUT_META)) {
        if (!str_eq(name, WHITEOUT_OPAQUE))
            return 1;
        *(slash ? slash : path) = '\0';
        return tree_opaque(tree, path, err) < 0 ? -1 : 1;
    }
    const char *hidden = name + strlen(WHITEOUT);
    if (!*hidden || str_eq(hidden, ".") || str_eq(hidden, ".."))
        return err_set(err, ERR_INVALID_ARGUMENT, "leads outside the layer");
    memmove(name, hidden, strlen(hidden) + 1);
    return tree_whiteout(tree, path, err) < 0 ? -1 : 1;
}

static int unpack_entry(struct source *source, struct tree *tree, const char *raw, struct archive_entry *entry,
                        struct layer_result *out, struct err *err)
{
    char path[PATH_MAX];
    if (layer_clean_name(raw, path, err) < 0)
        return -1;
    if (!*path)
        return 0; // the root's own entry
    int whiteout = unpack_whiteout(tree, path, err);
    if (whiteout != 0)
        return whiteout < 0 ? -1 : 0;
    if (archive_entry_hardlink(entry))
        return tree_hardlink(tree, path, archive_entry_hardlink(entry), err);
    switch (archive_entry_filetype(entry)) {
    case AE_IFREG:
        return unpack_file(source, tree, path, entry, out, err);
    case AE_IFDIR:
        return unpack_folder(tree, path, entry, err);
    case AE_IFLNK:
        return unpack_symlink(tree, path, entry, out, err);
    case AE_IFCHR:
    case AE_IFBLK:
    case AE_IFIFO:
        return unpack_node(tree, path, entry, err);
    default:
        return err_set(err, ERR_INVALID_ARGUMENT, "is of a kind that layers do not have");
    }
}

static int unpack_entries(struct source *source, struct tree *tree, struct layer_result *out, struct err *err)
{
    for (size_t count = 0;; count++) {
        struct archive_entry *entry;
        int result = archive_read_next_header(source->tar, &entry);
        if (result == ARCHIVE_EOF)
            return source->failed ? -1 : 0; // a reader that fails between two entries looks like the end
        if (result != ARCHIVE_OK && result != ARCHIVE_WARN)
            return tar_error(source, err);
        if (count >= ENTRIES_MAX)
            return err_set(err, ERR_RESOURCE_EXHAUSTED, "layer has more than %d entries", ENTRIES_MAX);
        const char *name = archive_entry_pathname(entry);
        if (!name)
            return err_set(err, ERR_INVALID_ARGUMENT, "layer entry %zu: name cannot be read", count);
        if (unpack_entry(source, tree, name, entry, out, err) < 0)
            return source->failed ? -1 : err_wrap(err, "layer entry %.256s", name);
    }
}

int layer_unpack(layer_read_fn *read, void *context, int target_fd, struct layer_result *out, struct err *err)
{
    struct source source = { 0 };
    struct tree tree;
    struct layer_result result = { 0 };
    tree_init(&tree, target_fd);
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0), before = uselocale(plain);
    int done = source_open(&source, read, context, err);
    if (done == 0)
        done = unpack_entries(&source, &tree, &result, err);
    if (done == 0)
        done = source_drain(&source);
    if (done == 0)
        done = tree_finish(&tree, &result.opaque, err);
    if (done == 0) {
        layer_digest_end(take_ptr(&source.digest), result.diff_id);
        *out = result;
    } else {
        layer_result_done(&result);
    }
    tree_done(&tree);
    source_done(&source);
    uselocale(before);
    freelocale(plain);
    return done;
}

void layer_result_done(struct layer_result *result)
{
    strv_done(&result->opaque);
}
