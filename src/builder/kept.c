// Clients' folders that are kept between builds: <data root>/build-contexts/<name>/, with `tree`, and `list` beside it, which says what is in it
// (build/listing.h). Those that come as tars are kept as such (kept_tar.c), in folders of the same kind.
//
// Theory of operation: the list is there only while the tree is known to be what it says. Who changes the tree takes the list away first, and writes a
// new one once the worker has done all; so a daemon or a worker that is killed in between leaves a tree without a list, which nobody believes.
// A list also says in which run of the kernel it was written, and of which folder: after a crash of the machine a file may be there without its content.
//
// A tree belongs to one build at a time. A second one of the same key takes another tree, or a new one.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/file.h"
#include "builder_private.h"

#define KEPT_LEN_MAX 64
#define DISK_PART 8 // at most that part of the disk

// ---- names and places -----------------------------------------------------------------------------------------------

static char *path_of(const struct builder *builder, const char *name)
{
    return mem_printf("%s/build-contexts/%s", engine_data_root(builder->engine), name);
}

bool kept_in_use(const struct builder *builder, const char *name)
{
    for (const struct build_kept *kept = builder->kept; kept; kept = kept->next)
        if (str_eq(kept->name, name))
            return true;
    return false;
}

static int take_row(void *context, const struct store_row *row, struct err *err)
{
    strv_add(context, store_text(row, 0));
    return 0;
}

// A tree of that key that is nobody's now, or a name for a new one.
static int take_name(struct build_kept *kept, struct err *err)
{
    struct builder *builder = kept->builder;
    _cleanup_strv_ struct strv names = { 0 };
    mutex_lock(&builder->lock);
    int done = kept->key ? store_query(builder->store, err, take_row, &names, "SELECT name FROM build_contexts WHERE key = ? ORDER BY used_ns DESC", "t", kept->key) : 0;
    for (size_t i = 0; i < names.len && !*kept->name; i++)
        if (!kept_in_use(builder, names.items[i]))
            snprintf(kept->name, sizeof(kept->name), "%s", names.items[i]);
    if (!*kept->name)
        random_hex(kept->name, 64);
    kept->next = builder->kept;
    builder->kept = kept;
    mutex_unlock(&builder->lock);
    return done;
}

static void give_name_back(struct build_kept *kept)
{
    struct builder *builder = kept->builder;
    mutex_lock(&builder->lock);
    for (struct build_kept **at = &builder->kept; *at; at = &(*at)->next)
        if (*at == kept) {
            *at = kept->next;
            break;
        }
    mutex_unlock(&builder->lock);
}

// ---- what goes ------------------------------------------------------------------------------------------------------

int kept_forget(struct builder *builder, const char *name, char **gone, struct err *err)
{
    char random[17];
    _cleanup_free_ char *path = path_of(builder, name);
    random_hex(random, 16);
    *gone = mem_printf("%s/staging/context-%s", engine_data_root(builder->engine), random);
    if (rename(path, *gone) < 0 && errno != ENOENT)
        return err_errno(err, errno, "kept context");
    return cache_exec(builder->store, "DELETE FROM build_contexts WHERE name = ?", name, err);
}

static void drop(struct builder *builder, const char *name)
{
    _cleanup_free_ char *gone = NULL;
    struct err ignored = { 0 };
    if (kept_forget(builder, name, &gone, &ignored) == 0)
        file_remove_tree(AT_FDCWD, gone, &ignored);
}

struct bounds {
    struct strv excess;
    size_t len;
    int64_t size, size_max;
};

// The latest used first.
static int judge(void *context, const struct store_row *row, struct err *err)
{
    struct bounds *bounds = context;
    bounds->len++;
    if (__builtin_add_overflow(bounds->size, store_int(row, 1), &bounds->size))
        bounds->size = INT64_MAX;
    if (bounds->len > KEPT_LEN_MAX || bounds->size > bounds->size_max)
        strv_add(&bounds->excess, store_text(row, 0));
    return 0;
}

static void keep_bounds(struct builder *builder)
{
    struct statvfs disk;
    struct bounds bounds = { .size_max = INT64_MAX };
    struct err ignored = { 0 };
    char *gone;
    if (statvfs(engine_data_root(builder->engine), &disk) == 0)
        bounds.size_max = (int64_t)disk.f_blocks / DISK_PART * (int64_t)disk.f_frsize;
    store_query(builder->store, &ignored, judge, &bounds, "SELECT name, size FROM build_contexts ORDER BY used_ns DESC", "");
    for (size_t i = 0; i < bounds.excess.len; i++) {
        gone = NULL;
        mutex_lock(&builder->lock);
        if (!kept_in_use(builder, bounds.excess.items[i]))
            kept_forget(builder, bounds.excess.items[i], &gone, &ignored);
        mutex_unlock(&builder->lock);
        if (gone)
            file_remove_tree(AT_FDCWD, gone, &ignored);
        free(gone);
    }
    strv_done(&bounds.excess);
}

// ---- a tree and its list --------------------------------------------------------------------------------------------

static int open_top(struct build_kept *kept, struct err *err)
{
    _cleanup_free_ char *path = path_of(kept->builder, kept->name);
    if (file_mkdirs(AT_FDCWD, path, 0700, err) < 0)
        return -1;
    kept->top_fd = file_open_dir(AT_FDCWD, path, err);
    return kept->top_fd < 0 ? -1 : 0;
}

static int open_folders(struct build_kept *kept, struct err *err)
{
    if (open_top(kept, err) < 0)
        return -1;
    if (mkdirat(kept->top_fd, "tree", 0755) < 0 && errno != EEXIST)
        return err_errno(err, errno, "kept context");
    kept->tree_fd = openat(kept->top_fd, "tree", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return kept->tree_fd < 0 ? err_errno(err, errno, "kept context") : 0;
}

static void close_folders(struct build_kept *kept)
{
    fd_close(take_fd(&kept->top_fd));
    fd_close(take_fd(&kept->tree_fd));
}

int kept_mark(struct build_kept *kept, int fd, struct err *err)
{
    _cleanup_buf_ struct buf boot = BUF_INIT(256);
    struct stat info;
    if (fstat(fd, &info) < 0)
        return err_errno(err, errno, "kept context");
    if (file_read_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &boot, err) < 0)
        return -1;
    free(kept->mark);
    kept->mark = mem_printf("%.36s %llx", buf_text(&boot), (unsigned long long)info.st_ino);
    return 0;
}

int kept_read_list(struct build_kept *kept)
{
    struct buf text = BUF_INIT(LISTING_SIZE_MAX);
    struct err ignored = { 0 };
    if (file_read_at(kept->top_fd, "list", &text, &ignored) < 0) {
        buf_done(&text);
        return -1;
    }
    size_t size = text.size;
    return listing_read(buf_take(&text), size, kept->mark, &kept->listing, &ignored);
}

static bool is_empty(const struct build_kept *kept)
{
    _cleanup_strv_ struct strv names = { 0 };
    return file_list_names(kept->tree_fd, ".", &names, NULL) == 0 && names.len == 0;
}

// A tree that nobody knows gets out of the way, for a new one: whoever was writing to it may still do so.
static int load(struct build_kept *kept, struct err *err)
{
    if (open_folders(kept, err) < 0 || kept_mark(kept, kept->tree_fd, err) < 0)
        return -1;
    if (kept_read_list(kept) == 0 || is_empty(kept))
        return 0;
    close_folders(kept);
    drop(kept->builder, kept->name);
    return open_folders(kept, err) < 0 ? -1 : kept_mark(kept, kept->tree_fd, err);
}

static int open_as(struct builder *builder, const char *key, const char *description, bool tar, struct build_kept **out, struct err *err)
{
    struct build_kept *kept = mem_new(struct build_kept);
    *kept = (struct build_kept){ .builder = builder, .key = mem_strdup(key), .description = mem_strdup(description), .top_fd = -1, .tree_fd = -1, .unknown = tar };
    if (take_name(kept, err) < 0 || (tar ? open_top : load)(kept, err) < 0) {
        kept->unknown = true;
        build_kept_free(kept);
        return -1;
    }
    *out = kept;
    return 0;
}

int build_kept_open(struct builder *builder, const char *key, const char *description, struct build_kept **out, struct err *err)
{
    if (open_as(builder, key, description, false, out, err) < 0)
        return -1;
    (*out)->size = listing_size(&(*out)->listing);
    return 0;
}

int kept_open_top(struct builder *builder, const char *key, const char *description, struct build_kept **out, struct err *err)
{
    return open_as(builder, key, description, true, out, err);
}

const struct listing *build_kept_listing(const struct build_kept *kept)
{
    return &kept->listing;
}

int build_kept_tree(const struct build_kept *kept, struct err *err)
{
    return fd_dup(kept->tree_fd, err);
}

int build_kept_change(struct build_kept *kept, const struct strv *removed, int tar_fd, const struct cancel *cancel, struct err *err)
{
    kept->unknown = true;
    if (unlinkat(kept->top_fd, "list", 0) < 0 && errno != ENOENT)
        return err_errno(err, errno, "kept context");
    return folder_update(kept->builder->engine, kept->tree_fd, removed, tar_fd, cancel, err);
}

int kept_write_list(struct build_kept *kept, const struct listing *now, struct buf *text, struct err *err)
{
    listing_write(now, kept->mark, text);
    if (buf_check(text, "the list of the context's files", err) < 0)
        return -1;
    return file_write_at(kept->top_fd, "list", text->data, text->size, 0600, false, err);
}

int build_kept_settle(struct build_kept *kept, const struct listing *now, struct err *err)
{
    struct buf text = BUF_INIT(LISTING_SIZE_MAX);
    if (kept_write_list(kept, now, &text, err) < 0) {
        buf_done(&text);
        return -1;
    }
    kept->size = listing_size(now);
    size_t size = text.size;
    listing_done(&kept->listing);
    if (listing_read(buf_take(&text), size, kept->mark, &kept->listing, err) < 0)
        return -1;
    kept->unknown = false;
    return 0;
}

// ---- its end --------------------------------------------------------------------------------------------------------

static int record(const struct build_kept *kept, struct err *err)
{
    struct store *store = kept->builder->store;
    int64_t now_ns = clock_wall_ns();
    if (store_begin(store, err) < 0)
        return -1;
    if (store_exec(store, err, "INSERT INTO build_contexts(name, key, description, size, created_ns, used_ns, uses) VALUES(?, ?, ?, ?, ?, ?, 1)"
                   " ON CONFLICT(name) DO UPDATE SET size = excluded.size, used_ns = excluded.used_ns, uses = uses + 1",
                   "tttiii", kept->name, kept->key, kept->description, kept->size, now_ns, now_ns) < 0) {
        store_rollback(store);
        return -1;
    }
    return store_commit(store, err);
}

void build_kept_free(struct build_kept *kept)
{
    struct err ignored = { 0 };
    if (!kept)
        return;
    close_folders(kept);
    bool stays = !kept->unknown && kept->key && record(kept, &ignored) == 0;
    if (!stays)
        drop(kept->builder, kept->name);
    give_name_back(kept);
    if (stays)
        keep_bounds(kept->builder);
    listing_done(&kept->listing);
    free(kept->key);
    free(kept->description);
    free(kept->mark);
    free(kept);
}

// ---- at the start ---------------------------------------------------------------------------------------------------

// Folders without a record, and records without a folder.
int kept_sweep(struct builder *builder, struct err *err)
{
    _cleanup_strv_ struct strv known = { 0 }, found = { 0 };
    _cleanup_free_ char *top = path_of(builder, "");
    struct err missing = { 0 };
    if (store_query(builder->store, err, take_row, &known, "SELECT name FROM build_contexts", "") < 0)
        return -1;
    if (file_list_names(AT_FDCWD, top, &found, &missing) < 0 && missing.number != ENOENT)
        return err_set(err, missing.class, "%s", missing.message);
    for (size_t i = 0; i < found.len; i++)
        if (!strv_has(&known, found.items[i]))
            drop(builder, found.items[i]);
    for (size_t i = 0; i < known.len; i++)
        if (!strv_has(&found, known.items[i]) && cache_exec(builder->store, "DELETE FROM build_contexts WHERE name = ?", known.items[i], err) < 0)
            return -1;
    return 0;
}
