// Theory of operation: an entry knows its folder by its place, so what the next one of a walk may be is known from the last one alone: it is in that
// folder, beside it, or beside one of the folders above it, and behind what stands there.
//
// A listing's file is a head, and for each entry its numbers, its digest and its two texts. It is read where it lies.
#include "build/listing.h"

#include <limits.h>

#define MAGIC "berth-listing-1"
#define MARK_SIZE 64

struct head {
    char magic[16], mark[MARK_SIZE];
    uint64_t len;
};

struct row { // behind it: the path and its NUL, the link and its NUL, zeros up to a multiple of 8
    int64_t size, mtime_ns, major, minor;
    uint32_t type, mode, uid, gid;
    unsigned char digest[LISTING_DIGEST_SIZE];
    uint32_t path_size, link_size; // with their NULs
};

void listing_done(struct listing *listing)
{
    free(listing->items);
    free(listing->text);
    *listing = (struct listing){ 0 };
}

// ---- the order of a walk --------------------------------------------------------------------------------------------

// A slash comes before all else.
static int compare_paths(const char *left, const char *right)
{
    while (*left && *left == *right) {
        left++;
        right++;
    }
    int a = *left == '/' ? 1 : (unsigned char)*left + (*left != 0), b = *right == '/' ? 1 : (unsigned char)*right + (*right != 0);
    return a - b;
}

static bool is_clean(const char *path)
{
    struct slice rest = slice_of(path), part;
    if (!path || !*path || strlen(path) >= PATH_MAX || path[strlen(path) - 1] == '/')
        return false;
    while (slice_cut(&rest, '/', &part))
        if (part.size == 0 || part.size > NAME_MAX || slice_eq(part, ".") || slice_eq(part, ".."))
            return false;
    return true;
}

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool is_in(const struct listing *listing, uint32_t folder, const char *path)
{
    size_t size = (size_t)(base_of(path) - path);
    if (folder == 0)
        return size == 0;
    const struct listing_entry *entry = &listing->items[folder - 1];
    return entry->type == LISTING_FOLDER && size > 0 && strlen(entry->path) == size - 1 && memcmp(entry->path, path, size - 1) == 0;
}

// Up from the last entry to the folder that the path is in; what stands there already comes before it.
static bool find_above(const struct listing *listing, const char *path, uint32_t *above)
{
    uint32_t at = (uint32_t)listing->len, below = 0;
    while (!is_in(listing, at, path)) {
        if (at == 0)
            return false;
        below = at;
        at = listing->items[at - 1].above;
    }
    *above = at;
    return below == 0 || strcmp(base_of(listing->items[below - 1].path), base_of(path)) < 0;
}

static bool is_known(uint32_t type)
{
    return type >= LISTING_FILE && type <= LISTING_FIFO;
}

int listing_add(struct listing *listing, const struct listing_entry *entry, struct err *err)
{
    uint32_t above;
    if (listing->len == LISTING_LEN_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "the build context has more than %d files", LISTING_LEN_MAX);
    if (!is_clean(entry->path) || !is_known(entry->type) || entry->mode > 07777 || entry->size < 0 || strlen(entry->link) >= PATH_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "the list of the context's files is malformed");
    if (!find_above(listing, entry->path, &above))
        return err_set(err, ERR_INVALID_ARGUMENT, "the list of the context's files is out of order at %.300s", entry->path);
    if (listing->len == listing->capacity) {
        listing->capacity = MAX_OF(2 * listing->capacity, (size_t)256);
        listing->items = mem_grow(listing->items, listing->capacity * sizeof(*listing->items));
    }
    struct listing_entry *added = &listing->items[listing->len++];
    *added = *entry;
    added->above = above;
    added->fresh = false;
    return 0;
}

static size_t place_of(const struct listing *listing, const char *path)
{
    size_t low = 0, high = listing->len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_paths(listing->items[middle].path, path) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct listing_entry *listing_find(const struct listing *listing, const char *path)
{
    size_t at = place_of(listing, path);
    return at < listing->len && str_eq(listing->items[at].path, path) ? &listing->items[at] : NULL;
}

int64_t listing_size(const struct listing *listing)
{
    int64_t size = 0;
    for (size_t i = 0; i < listing->len; i++)
        if (__builtin_add_overflow(size, listing->items[i].size, &size))
            return INT64_MAX;
    return size;
}

// ---- what changed ---------------------------------------------------------------------------------------------------

static bool is_same(const struct listing_entry *a, const struct listing_entry *b)
{
    return a->type == b->type && a->type != LISTING_NAME && a->mode == b->mode && a->uid == b->uid && a->gid == b->gid && a->size == b->size &&
           a->mtime_ns == b->mtime_ns && a->major == b->major && a->minor == b->minor && str_eq(a->link, b->link);
}

static bool is_below(const char *path, const char *folder)
{
    size_t size = folder ? strlen(folder) : 0;
    return folder && strncmp(path, folder, size) == 0 && path[size] == '/';
}

// The folder of a path that went is told anew, if it is still one.
static void touch_folder_of(struct listing *now, const char *path)
{
    _cleanup_free_ char *folder = mem_strndup(path, (size_t)(base_of(path) - path));
    size_t size = strlen(folder);
    if (size == 0)
        return;
    folder[size - 1] = '\0';
    struct listing_entry *entry = (struct listing_entry *)listing_find(now, folder);
    if (entry)
        entry->fresh = true;
}

// From the end, for a folder stands before what is in it.
static size_t count_fresh(struct listing *now)
{
    size_t fresh = 0;
    for (size_t i = now->len; i-- > 0;) {
        struct listing_entry *entry = &now->items[i];
        fresh += entry->fresh;
        if (entry->fresh && entry->above)
            now->items[entry->above - 1].fresh = true;
    }
    return fresh;
}

static void judge(const struct listing_entry *old, struct listing_entry *entry)
{
    entry->fresh = !old || !is_same(old, entry);
    if (!entry->fresh)
        memcpy(entry->digest, old->digest, sizeof(entry->digest));
}

size_t listing_compare(const struct listing *before, struct listing *now, struct strv *removed)
{
    const char *gone = NULL; // what is below it went with it
    size_t i = 0, k = 0;
    while (i < before->len || k < now->len) {
        const struct listing_entry *old = i < before->len ? &before->items[i] : NULL;
        int order = !old ? 1 : k == now->len ? -1 : compare_paths(old->path, now->items[k].path);
        if (order >= 0)
            judge(order == 0 ? old : NULL, &now->items[k]);
        if (order < 0 && !is_below(old->path, gone)) {
            strv_add(removed, old->path);
            gone = old->path;
        }
        i += order <= 0;
        k += order >= 0;
    }
    for (i = 0; i < removed->len; i++)
        touch_folder_of(now, removed->items[i]);
    return count_fresh(now);
}

// ---- its file -------------------------------------------------------------------------------------------------------

void listing_put(const struct listing_entry *entry, struct buf *out)
{
    static const char zeros[8];
    struct row row = { entry->size, entry->mtime_ns, entry->major, entry->minor, entry->type, entry->mode, entry->uid, entry->gid, { 0 },
                       (uint32_t)strlen(entry->path) + 1, (uint32_t)strlen(entry->link) + 1 };
    memcpy(row.digest, entry->digest, sizeof(row.digest));
    buf_add(out, &row, sizeof(row));
    buf_add(out, entry->path, row.path_size);
    buf_add(out, entry->link, row.link_size);
    buf_add(out, zeros, (8 - (row.path_size + row.link_size) % 8) % 8);
}

void listing_write(const struct listing *listing, const char *mark, struct buf *out)
{
    struct head head = { .magic = MAGIC, .len = listing->len };
    snprintf(head.mark, sizeof(head.mark), "%s", mark);
    buf_add(out, &head, sizeof(head));
    for (size_t i = 0; i < listing->len; i++)
        listing_put(&listing->items[i], out);
}

static int compare_entries(const void *a, const void *b)
{
    return compare_paths(((const struct listing_entry *)a)->path, ((const struct listing_entry *)b)->path);
}

void listing_sort(struct listing_entry *entries, size_t len)
{
    if (len > 1)
        qsort(entries, len, sizeof(*entries), compare_entries);
}

// A text of that many bytes, of which the last is its only NUL.
static const char *take_text(struct slice *rest, size_t size)
{
    const char *text = rest->data;
    if (size == 0 || size > rest->size || strnlen(text, size) != size - 1)
        return NULL;
    *rest = (struct slice){ text + size, rest->size - size };
    return text;
}

bool listing_take(struct slice *rest, struct listing_entry *out)
{
    struct row row;
    if (rest->size < sizeof(row))
        return false;
    memcpy(&row, rest->data, sizeof(row));
    *rest = (struct slice){ rest->data + sizeof(row), rest->size - sizeof(row) };
    *out = (struct listing_entry){ .type = row.type, .mode = row.mode, .uid = row.uid, .gid = row.gid, .size = row.size, .mtime_ns = row.mtime_ns,
                                   .major = row.major, .minor = row.minor };
    memcpy(out->digest, row.digest, sizeof(row.digest));
    out->path = take_text(rest, row.path_size);
    out->link = out->path ? take_text(rest, row.link_size) : NULL;
    size_t spare = (8 - ((size_t)row.path_size + row.link_size) % 8) % 8;
    if (!out->link || spare > rest->size)
        return false;
    *rest = (struct slice){ rest->data + spare, rest->size - spare };
    return true;
}

static int read_rows(struct slice rest, uint64_t len, struct listing *out, struct err *err)
{
    struct listing_entry entry;
    if (len > LISTING_LEN_MAX || len > rest.size / sizeof(struct row))
        return err_set(err, ERR_INVALID_ARGUMENT, "a listing of another length");
    out->capacity = (size_t)len + 1;
    out->items = mem_alloc(out->capacity * sizeof(*out->items));
    for (uint64_t i = 0; i < len; i++)
        if (!listing_take(&rest, &entry))
            return err_set(err, ERR_INVALID_ARGUMENT, "a listing that is cut off");
        else if (listing_add(out, &entry, err) < 0)
            return -1;
    return rest.size ? err_set(err, ERR_INVALID_ARGUMENT, "bytes behind a listing") : 0;
}

int listing_read(char *take_data, size_t size, const char *mark, struct listing *out, struct err *err)
{
    struct head head = { 0 };
    *out = (struct listing){ .text = take_data };
    if (size >= sizeof(head))
        memcpy(&head, take_data, sizeof(head));
    int done = memcmp(head.magic, MAGIC, sizeof(head.magic)) != 0 || strncmp(head.mark, mark, sizeof(head.mark)) != 0
                   ? err_set(err, ERR_INVALID_ARGUMENT, "no listing")
                   : read_rows((struct slice){ take_data + sizeof(head), size - sizeof(head) }, head.len, out, err);
    if (done < 0)
        listing_done(out);
    return done;
}
