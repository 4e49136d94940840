#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "keep.h"
#include "base/fd.h"
#include "base/file.h"

#define ROWS_FLUSH ((size_t)256 << 10)
#define ROWS_MAX ((size_t)512 << 20) // bytes of a table that is looked through
#define DEPTH_MAX 256

void keep_init(struct keep *keep, const struct layer_keep *where, int root_fd)
{
    *keep = (struct keep){ .where = where, .root_fd = root_fd, .rows = BUF_INIT(ROWS_MAX) };
    if (where)
        keep->recipe = recipe_new(where->recipe_fd);
}

void keep_done(struct keep *keep)
{
    recipe_free(keep->recipe);
    buf_done(&keep->rows);
}

// ---- while the tar is read ------------------------------------------------------------------------------------------

static int flush(struct keep *keep, struct err *err)
{
    if (buf_check(&keep->rows, "table of contents", err) < 0 ||
        fd_write_at(keep->where->table_fd, keep->rows.data, keep->rows.size, keep->written, err) < 0)
        return -1;
    keep->written += (off_t)keep->rows.size;
    buf_clear(&keep->rows);
    return 0;
}

static void add_row(struct buf *rows, char place, uint64_t inode, uint64_t offset, uint64_t size, const char *path)
{
    buf_addf(rows, "%c %llu %llu %llu %s", place, (unsigned long long)inode, (unsigned long long)offset, (unsigned long long)size, path);
    buf_add(rows, "", 1);
}

static int end_piece(struct keep *keep, struct err *err)
{
    if (keep->size > 0)
        add_row(&keep->rows, 'd', keep->inode, keep->offset, keep->size, keep->path);
    keep->size = 0;
    return keep->rows.size >= ROWS_FLUSH ? flush(keep, err) : 0;
}

int keep_file(struct keep *keep, const char *path, int fd, struct err *err)
{
    struct stat info;
    if (!keep->where)
        return 0;
    if (end_piece(keep, err) < 0)
        return -1;
    if (fstat(fd, &info) < 0)
        return err_errno(err, errno, "stat");
    snprintf(keep->path, sizeof(keep->path), "%s", path);
    keep->inode = info.st_ino;
    keep->offset = 0;
    return 0;
}

int keep_data(struct keep *keep, uint64_t position, uint64_t offset, size_t size, struct err *err)
{
    if (!keep->where)
        return 0;
    if (recipe_data(keep->recipe, position, size, keep->at, err) < 0)
        return -1;
    if (keep->offset + keep->size != offset) {
        if (end_piece(keep, err) < 0)
            return -1;
        keep->offset = offset;
    }
    keep->size += size;
    keep->at += size;
    return 0;
}

// ---- what was replaced ----------------------------------------------------------------------------------------------
//
// Rare, so it may cost a walk: every file of the layer and of what it lost, by its inode.

struct name {
    uint64_t inode;
    char place;
    char *path;
};

struct names {
    struct name *items;
    size_t len;
    struct arena arena;
};

static void add_name(struct names *names, char place, uint64_t inode, char *path)
{
    if ((names->len & (names->len - 1)) == 0)
        names->items = mem_grow(names->items, MAX_OF(2 * names->len, (size_t)1) * sizeof(*names->items));
    names->items[names->len++] = (struct name){ inode, place, path };
}

static int list_files(struct names *names, char place, int dir_fd, const char *path, unsigned depth, struct err *err)
{
    _cleanup_strv_ struct strv found = { 0 };
    if (depth > DEPTH_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "folders nested deeper than %d, and some were replaced", DEPTH_MAX);
    if (file_list_names(dir_fd, ".", &found, err) < 0)
        return -1;
    for (size_t i = 0; i < found.len; i++) {
        struct stat info;
        char *below = arena_printf(&names->arena, "%s%s%s", path, *path ? "/" : "", found.items[i]);
        if (fstatat(dir_fd, found.items[i], &info, AT_SYMLINK_NOFOLLOW) < 0)
            return err_errno(err, errno, "%s", below);
        if (S_ISREG(info.st_mode))
            add_name(names, place, info.st_ino, below);
        if (!S_ISDIR(info.st_mode))
            continue;
        _cleanup_close_ int fd = openat(dir_fd, found.items[i], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
            return err_errno(err, errno, "%s", below);
        if (list_files(names, place, fd, below, depth + 1, err) < 0)
            return -1;
    }
    return 0;
}

// Of two names of one file that in the layer comes first.
static int compare_names(const void *a, const void *b)
{
    const struct name *one = a, *other = b;
    if (one->inode != other->inode)
        return one->inode > other->inode ? 1 : -1;
    return one->place - other->place;
}

static const struct name *find_name(const struct names *names, uint64_t inode)
{
    size_t low = 0, high = names->len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (names->items[middle].inode < inode)
            low = middle + 1;
        else
            high = middle;
    }
    return low < names->len && names->items[low].inode == inode ? &names->items[low] : NULL;
}

static int list_all(struct keep *keep, struct names *names, struct err *err)
{
    _cleanup_close_ int root = openat(keep->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return err_errno(err, errno, "layer");
    if (list_files(names, 'd', root, "", 0, err) < 0 || list_files(names, 'l', keep->where->lost_fd, "", 0, err) < 0)
        return -1;
    if (names->len > 1)
        qsort(names->items, names->len, sizeof(*names->items), compare_names);
    // Nothing outside the layer counts among a file's links.
    for (size_t i = 1; i < names->len; i++)
        if (names->items[i].place == 'l' && find_name(names, names->items[i].inode)->place == 'd' &&
            unlinkat(keep->where->lost_fd, names->items[i].path, 0) < 0)
            return err_errno(err, errno, "%s", names->items[i].path);
    return 0;
}

static int settle_rows(struct keep *keep, const struct names *names, const struct buf *table, struct err *err)
{
    struct slice rest = { table->data, table->size };
    struct layer_row row;
    int more;
    while ((more = layer_row_next(&rest, &row, err)) > 0) {
        const struct name *name = find_name(names, row.inode);
        if (!name)
            return err_set(err, ERR_INTERNAL, "%.256s: its content was lost", row.path);
        add_row(&keep->rows, name->place, row.inode, row.offset, row.size, name->path);
        if (keep->rows.size >= ROWS_FLUSH && flush(keep, err) < 0)
            return -1;
    }
    return more < 0 ? -1 : flush(keep, err);
}

static int settle(struct keep *keep, struct err *err)
{
    _cleanup_buf_ struct buf table = BUF_INIT(ROWS_MAX);
    struct names names = { 0 };
    int table_fd = keep->where->table_fd;
    int done = list_all(keep, &names, err);
    if (done == 0 && lseek(table_fd, 0, SEEK_SET) < 0)
        done = err_errno(err, errno, "table of contents");
    if (done == 0)
        done = file_read_fd(table_fd, "table of contents", &table, err);
    if (done == 0 && ftruncate(table_fd, 0) < 0)
        done = err_errno(err, errno, "table of contents");
    keep->written = 0;
    if (done == 0)
        done = settle_rows(keep, &names, &table, err);
    free(names.items);
    arena_done(&names.arena);
    return done;
}

int keep_end(struct keep *keep, const char *diff_id, bool replaced, struct err *err)
{
    if (!keep->where)
        return 0;
    if (end_piece(keep, err) < 0 || flush(keep, err) < 0 || (replaced && settle(keep, err) < 0))
        return -1;
    return recipe_end(keep->recipe, diff_id, err);
}
