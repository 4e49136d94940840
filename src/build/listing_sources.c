// Theory of operation: what the archive worker does with a tree (archive/match.c, archive/place_tree.c), done with its list. Where a list does not say
// what the kernel would, it is not guessed: the worker is asked then.
#include <fnmatch.h>

#include "base/path.h"
#include "build/listing.h"

#define WHITEOUT ".wh."

struct looking {
    const struct listing *listing;
    size_t source, match; // counted, for the names in the records
    bool roots, unknown;
    listing_each_fn *each;
    void *of;
    struct buf name, record;
};

// ---- records --------------------------------------------------------------------------------------------------------

#define NUMBER_SIZE 24 // digits of one, and what stands behind it

static char *put_number(char *out, uint64_t value, unsigned base, char behind)
{
    char digits[NUMBER_SIZE], *first = digits + sizeof(digits);
    do
        *--first = (char)('0' + value % base);
    while ((value /= base) > 0);
    size_t size = (size_t)(digits + sizeof(digits) - first);
    memcpy(out, first, size);
    out[size] = behind;
    return out + size + 1;
}

// "0 644 0 0 12 0:0 name": there are as many as files, and printf() would be half of the cost of a list.
void listing_record(const struct listing_entry *entry, const char *as, struct buf *out)
{
    char head[2 + 6 * NUMBER_SIZE] = { (char)entry->type, ' ' }, *end = head + 2;
    size_t size = strlen(as);
    bool device = entry->type == LISTING_CHAR || entry->type == LISTING_BLOCK;
    end = put_number(end, entry->type == LISTING_LINK ? 0 : entry->mode, 8, ' ');
    end = put_number(end, entry->uid, 10, ' ');
    end = put_number(end, entry->gid, 10, ' ');
    end = put_number(end, entry->type == LISTING_FILE ? (uint64_t)entry->size : 0, 10, ' ');
    end = put_number(end, device ? (uint64_t)entry->major : 0, 10, ':');
    end = put_number(end, device ? (uint64_t)entry->minor : 0, 10, ' ');
    buf_add(out, head, (size_t)(end - head));
    buf_add(out, as, size - (size > 1 && as[size - 1] == '/'));
    buf_addc(out, '\0');
    buf_add(out, entry->link, strlen(entry->link) + 1);
}

static void tell(struct looking *looking, const struct listing_entry *entry, const char *below)
{
    char as[64];
    struct listing_entry told = *entry;
    if (looking->roots)
        told.uid = told.gid = 0;
    int size = snprintf(as, sizeof(as), "%zu/%zu%s", looking->source, looking->match, *below ? "/" : "");
    buf_clear(&looking->name);
    buf_add(&looking->name, as, (size_t)size);
    buf_add(&looking->name, below, strlen(below));
    buf_clear(&looking->record);
    listing_record(&told, buf_text(&looking->name), &looking->record);
    looking->each(looking->of, &looking->record, entry->type == LISTING_FILE ? entry->digest : NULL);
}

static bool can_tell(const struct listing_entry *entry)
{
    const char *slash = strrchr(entry->path, '/');
    return entry->type != LISTING_NAME && !str_starts(slash ? slash + 1 : entry->path, WHITEOUT);
}

// ---- what a path names ----------------------------------------------------------------------------------------------

static bool is_below(const struct looking *looking, const struct listing_entry *folder, const struct listing_entry *entry)
{
    const struct listing *listing = looking->listing;
    size_t size = folder ? strlen(folder->path) : 0;
    return entry < listing->items + listing->len && (!folder || (strncmp(entry->path, folder->path, size) == 0 && entry->path[size] == '/'));
}

// All of a folder; NULL: the top.
static void take_folder(struct looking *looking, const struct listing_entry *folder)
{
    const struct listing_entry made = { .link = "", .type = LISTING_FOLDER, .mode = 0755 };
    size_t size = folder ? strlen(folder->path) + 1 : 0;
    tell(looking, &made, "");
    for (const struct listing_entry *at = folder ? folder + 1 : looking->listing->items; is_below(looking, folder, at) && !looking->unknown; at++) {
        looking->unknown = !can_tell(at);
        if (!looking->unknown)
            tell(looking, at, at->path + size);
    }
}

static void take_match(struct looking *looking, const struct listing_entry *entry)
{
    const char *slash = entry ? strrchr(entry->path, '/') : NULL;
    if (!entry || entry->type == LISTING_FOLDER)
        take_folder(looking, entry);
    else if (!can_tell(entry) || entry->type == LISTING_LINK)
        looking->unknown = true;
    else
        tell(looking, entry, slash ? slash + 1 : entry->path);
    looking->match++;
}

static void expand(struct looking *looking, const struct listing_entry *folder, const char *rest);

static void go_on(struct looking *looking, const struct listing_entry *entry, const char *rest)
{
    rest += strspn(rest, "/");
    if (entry->type == LISTING_LINK)
        looking->unknown = true;
    else if (!*rest)
        take_match(looking, entry);
    else if (entry->type == LISTING_FOLDER)
        expand(looking, entry, rest);
}

static void expand_names(struct looking *looking, const struct listing_entry *folder, const char *part, const char *rest)
{
    const struct listing *listing = looking->listing;
    uint32_t above = folder ? (uint32_t)(folder - listing->items) + 1 : 0;
    size_t skip = folder ? strlen(folder->path) + 1 : 0;
    for (const struct listing_entry *at = folder ? folder + 1 : listing->items; is_below(looking, folder, at) && !looking->unknown; at++)
        if (at->above == above && fnmatch(part, at->path + skip, 0) == 0)
            go_on(looking, at, rest);
}

// `rest` begins with a name or a pattern.
static void expand(struct looking *looking, const struct listing_entry *folder, const char *rest)
{
    size_t size = strcspn(rest, "/");
    _cleanup_free_ char *part = mem_strndup(rest, size);
    if (strpbrk(part, "*?[\\")) {
        expand_names(looking, folder, part, rest + size);
        return;
    }
    _cleanup_free_ char *path = folder ? mem_printf("%s/%s", folder->path, part) : mem_strdup(part);
    const struct listing_entry *entry = listing_find(looking->listing, path);
    if (entry)
        go_on(looking, entry, rest + size);
}

bool listing_sources(const struct listing *listing, const struct listing_wish *wish, listing_each_fn *each, void *of)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct looking looking = { .listing = listing, .roots = wish->roots, .each = each, .of = of, .name = BUF_INIT(64 << 10), .record = BUF_INIT(64 << 10) };
    for (size_t i = 0; i < wish->len && !looking.unknown; i++) {
        const char *clean = path_clean(slice_of(arena_printf(&arena, "/%s", wish->paths[i])), &arena) + 1;
        looking.source = i;
        looking.match = 0;
        if (*clean)
            expand(&looking, NULL, clean);
        else
            take_match(&looking, NULL);
        looking.unknown = looking.unknown || looking.match == 0;
    }
    looking.unknown = looking.unknown || looking.name.overflow || looking.record.overflow;
    buf_done(&looking.name);
    buf_done(&looking.record);
    return !looking.unknown;
}
