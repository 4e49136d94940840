#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "spool.h"
#include "source.h"
#include "base/fd.h"
#include "layer/layer.h"

#define LINKS_FOLLOWED 8

void spool_done(struct spool *spool)
{
    fd_close(spool->fd);
    for (size_t i = 0; i < spool->len; i++) {
        free(spool->members[i].name);
        free(spool->members[i].link);
        free(spool->members[i].failure);
    }
    free(spool->members);
    *spool = (struct spool)SPOOL_INIT;
}

// ---- reading --------------------------------------------------------------------------------------------------------

struct outer {
    struct source source; // the stream
    struct layer_inflate *inflate;
    struct archive *tar;
    void *buffer; // SOURCE_BUFFER_SIZE
    spool_take_fn *take;
    void *take_context;
    struct err *err; // the call's own: a failing reader fills it from below libarchive
    bool failed;
};

static la_ssize_t outer_input(struct archive *archive, void *context, const void **data)
{
    struct outer *outer = context;
    ssize_t got = layer_inflate_read(outer->inflate, outer->buffer, SOURCE_BUFFER_SIZE, outer->err);
    outer->failed = got < 0;
    if (got < 0)
        archive_set_error(archive, EIO, "read failed");
    *data = outer->buffer;
    return got;
}

static int outer_error(struct outer *outer, struct err *err)
{
    if (outer->failed)
        return -1; // *err has it
    const char *why = archive_error_string(outer->tar);
    return err_set(err, ERR_INVALID_ARGUMENT, "not a valid tar archive: %s", why ? why : "unknown error");
}

static int outer_open(struct outer *outer, int input_fd, struct layer_bound *bound, struct err *err)
{
    outer->source.fd = input_fd;
    outer->source.bound = bound;
    outer->err = err;
    if (layer_inflate_new(source_read, &outer->source, bound, &outer->inflate, err) < 0)
        return -1;
    outer->buffer = mem_alloc(SOURCE_BUFFER_SIZE);
    outer->tar = archive_read_new();
    archive_read_support_format_tar(outer->tar);
    archive_read_support_format_empty(outer->tar);
    if (archive_read_open(outer->tar, outer, NULL, outer_input, NULL) != ARCHIVE_OK)
        return outer_error(outer, err);
    return 0;
}

// The sender must not be left with bytes that nobody reads.
static int outer_drain(struct outer *outer, struct err *err)
{
    ssize_t got;
    do
        got = layer_inflate_read(outer->inflate, outer->buffer, SOURCE_BUFFER_SIZE, err);
    while (got > 0);
    return got < 0 ? -1 : 0;
}

static void outer_done(struct outer *outer)
{
    if (outer->tar)
        archive_read_free(outer->tar);
    layer_inflate_free(outer->inflate);
    free(outer->buffer);
}

// ---- a member's content ---------------------------------------------------------------------------------------------

// The next piece of the member under way, in libarchive's memory; at its end 0 and no bytes.
struct piece {
    const char *data;
    size_t size;
    int64_t at; // where it ends
};

static int next_piece(struct outer *outer, struct piece *piece, struct err *err)
{
    const void *data;
    size_t size;
    la_int64_t offset;
    int result = archive_read_data_block(outer->tar, &data, &size, &offset);
    if (result == ARCHIVE_EOF) {
        piece->size = 0;
        return 0;
    }
    if (result != ARCHIVE_OK && result != ARCHIVE_WARN)
        return outer_error(outer, err);
    if (offset != piece->at)
        return err_set(err, ERR_INVALID_ARGUMENT, "sparse members are not supported");
    *piece = (struct piece){ data, size, offset + (int64_t)size };
    return 0;
}

static int new_file(const struct spool *spool, size_t number, struct err *err)
{
    char name[24];
    snprintf(name, sizeof(name), "%zu", number);
    int fd = openat(spool->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return fd >= 0 ? fd : err_errno(err, errno, "spool file");
}

static int copy_member(struct outer *outer, struct piece *piece, int fd, int64_t *size, struct err *err)
{
    while (piece->size > 0)
        if (fd_write_full(fd, piece->data, piece->size, err) < 0 || next_piece(outer, piece, err) < 0)
            return -1;
    *size = piece->at;
    return 0;
}

// The member as a layer_read_fn.
struct passing {
    struct outer *outer;
    struct piece piece;
    struct err err; // of the archive
    bool failed;
};

static ssize_t passing_read(void *context, void *data, size_t size, struct err *err)
{
    struct passing *passing = context;
    struct piece *piece = &passing->piece;
    size_t taken = MIN_OF(size, piece->size);
    if (taken == 0)
        return 0;
    memcpy(data, piece->data, taken);
    piece->data += taken;
    piece->size -= taken;
    if (piece->size == 0 && next_piece(passing->outer, piece, &passing->err) < 0) {
        passing->failed = true;
        return err_set(err, passing->err.class, "%s", passing->err.message);
    }
    return (ssize_t)taken;
}

// What the taker has left unread is passed over: the next header comes after it.
static int pass_layer(struct outer *outer, const struct piece *first, struct spool_member *member, struct err *err)
{
    struct passing passing = { .outer = outer, .piece = *first };
    struct err why = { 0 };
    member->passed = true;
    int done = outer->take(outer->take_context, member, passing_read, &passing, &why);
    if (passing.failed)
        return err_set(err, passing.err.class, "%s", passing.err.message);
    if (done == 0)
        return 0;
    if (why.class != ERR_INVALID_ARGUMENT)
        return err_set(err, why.class, "%s", why.message);
    member->failure = mem_alloc(sizeof(why));
    *member->failure = why;
    return 0;
}

#define TAR_MAGIC "ustar"
#define TAR_MAGIC_OFFSET 257

static bool can_pass(const struct outer *outer, const struct piece *piece, int64_t size)
{
    return outer->take && size > (int64_t)SPOOL_DOCUMENT_MAX && piece->size >= TAR_MAGIC_OFFSET + strlen(TAR_MAGIC) &&
           memcmp(piece->data + TAR_MAGIC_OFFSET, TAR_MAGIC, strlen(TAR_MAGIC)) == 0 &&
           !layer_is_compressed(piece->data, LAYER_MAGIC_SIZE);
}

// ---- members --------------------------------------------------------------------------------------------------------

static struct spool_member *add_member(struct spool *spool, const char *name, struct err *err)
{
    spool->names_size += strlen(name) + 1;
    if (spool->len >= SPOOL_MEMBERS_MAX || spool->names_size > SPOOL_NAMES_MAX) {
        err_set(err, ERR_INVALID_ARGUMENT, "more than %d members: not an image archive", SPOOL_MEMBERS_MAX);
        return NULL;
    }
    if (spool->len == spool->capacity) {
        spool->capacity = spool->capacity ? spool->capacity * 2 : 64;
        spool->members = mem_grow(spool->members, spool->capacity * sizeof(*spool->members));
    }
    struct spool_member *member = &spool->members[spool->len];
    *member = (struct spool_member){ .name = mem_strdup(name), .number = spool->len };
    spool->len++;
    return member;
}

static int add_file(struct spool *spool, struct outer *outer, const char *name, int64_t size, struct err *err)
{
    struct piece piece = { 0 };
    struct spool_member *member = add_member(spool, name, err);
    if (!member || next_piece(outer, &piece, err) < 0)
        return -1;
    if (can_pass(outer, &piece, size)) {
        member->size = size;
        return pass_layer(outer, &piece, member, err);
    }
    _cleanup_close_ int fd = new_file(spool, member->number, err);
    return fd < 0 ? -1 : copy_member(outer, &piece, fd, &member->size, err);
}

// A hard link's target counts from the archive's root, a symlink's from its own folder.
static int add_link(struct spool *spool, const char *name, const char *target, bool hard, struct err *err)
{
    char where[2 * PATH_MAX], clean[PATH_MAX];
    const char *slash = strrchr(name, '/');
    int folder_len = hard || !slash || *target == '/' ? 0 : (int)(slash - name);
    int len = snprintf(where, sizeof(where), "%.*s/%s", folder_len, name, target);
    if ((size_t)len >= sizeof(where) || layer_clean_name(where, clean, NULL) < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "link leads outside the archive");
    struct spool_member *member = add_member(spool, name, err);
    if (!member)
        return -1;
    spool->names_size += strlen(clean) + 1;
    member->link = mem_strdup(clean);
    return 0;
}

static int add_entry(struct spool *spool, struct outer *outer, struct archive_entry *entry, const char *raw,
                     struct err *err)
{
    char name[PATH_MAX];
    if (layer_clean_name(raw, name, err) < 0)
        return -1;
    if (!*name)
        return 0;
    const char *hard = archive_entry_hardlink(entry), *soft = archive_entry_symlink(entry);
    if (hard || (archive_entry_filetype(entry) == AE_IFLNK && soft))
        return add_link(spool, name, hard ? hard : soft, hard != NULL, err);
    // Folders need no memory here; devices and the like have no place in an image archive and are never looked up.
    return archive_entry_filetype(entry) == AE_IFREG ? add_file(spool, outer, name, archive_entry_size(entry), err)
                                                           : 0;
}

static int read_entries(struct spool *spool, struct outer *outer, struct err *err)
{
    for (;;) {
        struct archive_entry *entry;
        int result = archive_read_next_header(outer->tar, &entry);
        if (result == ARCHIVE_EOF)
            return outer->failed ? -1 : outer_drain(outer, err);
        if (result != ARCHIVE_OK && result != ARCHIVE_WARN)
            return outer_error(outer, err);
        const char *name = archive_entry_pathname(entry);
        if (!name)
            return err_set(err, ERR_INVALID_ARGUMENT, "archive member %zu: name cannot be read", spool->len);
        if (add_entry(spool, outer, entry, name, err) < 0)
            return outer->failed ? -1 : err_wrap(err, "archive member %.256s", name);
    }
}

static int compare_members(const void *a, const void *b)
{
    const struct spool_member *one = a, *other = b;
    int order = strcmp(one->name, other->name);
    return order ? order : (one->number > other->number) - (one->number < other->number);
}

int spool_read(struct spool *spool, int input_fd, int staging_fd, spool_take_fn *take, void *context, struct err *err)
{
    if (mkdirat(staging_fd, "spool", 0700) < 0)
        return err_errno(err, errno, "spool folder");
    spool->fd = openat(staging_fd, "spool", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (spool->fd < 0)
        return err_errno(err, errno, "spool folder");
    struct outer outer = { .take = take, .take_context = context };
    int done = outer_open(&outer, input_fd, spool->bound, err);
    if (done == 0)
        done = read_entries(spool, &outer, err);
    outer_done(&outer);
    if (done == 0 && spool->len > 1)
        qsort(spool->members, spool->len, sizeof(*spool->members), compare_members);
    return done;
}

// ---- using ----------------------------------------------------------------------------------------------------------

static struct spool_member *find_last(const struct spool *spool, const char *name)
{
    size_t low = 0, high = spool->len; // the first member that sorts after `name`
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(spool->members[middle].name, name) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 && str_eq(spool->members[low - 1].name, name) ? &spool->members[low - 1] : NULL;
}

struct spool_member *spool_find(const struct spool *spool, const char *name)
{
    char clean[PATH_MAX];
    if (layer_clean_name(name, clean, NULL) < 0)
        return NULL;
    struct spool_member *member = find_last(spool, clean);
    for (int links = 0; member && member->link; links++)
        member = links < LINKS_FOLLOWED ? find_last(spool, member->link) : NULL;
    return member;
}

int spool_open(const struct spool *spool, const struct spool_member *member, struct err *err)
{
    char name[24];
    snprintf(name, sizeof(name), "%zu", member->number);
    int fd = openat(spool->fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    return fd >= 0 ? fd : err_errno(err, errno, "%s", member->name);
}

int spool_text(const struct spool *spool, const struct spool_member *member, struct buf *out, struct err *err)
{
    _cleanup_close_ int fd = spool_open(spool, member, err);
    if (fd < 0)
        return -1;
    char *data = member->size <= (int64_t)out->ceiling ? buf_reserve(out, (size_t)member->size) : NULL;
    if (!data)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s: larger than %zu bytes", member->name, out->ceiling);
    ssize_t got = fd_read_full(fd, data, (size_t)member->size, err);
    if (got < 0)
        return err_wrap(err, "%s", member->name);
    buf_commit(out, (size_t)got);
    return 0;
}

void spool_drop(const struct spool *spool, const struct spool_member *member)
{
    char name[24];
    snprintf(name, sizeof(name), "%zu", member->number);
    unlinkat(spool->fd, name, 0);
}
