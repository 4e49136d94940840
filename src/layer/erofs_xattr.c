// Extended attributes as they stand behind an inode. The first file that has one keeps it to itself, because most come once; the
// second and all later ones point to a copy in the shared area. What may come again is remembered, within bounds.
#include "erofs_image.h"
#include "base/slice.h"

#define SEEN_VALUE_MAX 1024 // with EROFS_SEEN_MAX of them EROFS_SHARED_MAX is never reached
#define SHARED_LEN_MAX 255 // of one inode

struct erofs_shared_xattr {
    char *name;
    void *value;
    size_t size;
    bool shared;
    uint32_t at; // in the area, in words
};

static const struct {
    const char *text;
    uint8_t number;
} prefixes[] = { { "user.", 1 }, { "trusted.", 4 }, { "security.", 6 } };

static uint8_t split_prefix(const char **name)
{
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
        if (str_starts(*name, prefixes[i].text)) {
            *name += strlen(prefixes[i].text);
            return prefixes[i].number;
        }
    return 0;
}

static void pad(struct buf *out, size_t start)
{
    static const char zeros[4];
    buf_add(out, zeros, (4 - (out->size - start) % 4) % 4);
}

static int add_entry(struct buf *out, const struct erofs_xattr *xattr, struct err *err)
{
    const char *name = xattr->name;
    struct erofs_xattr_entry entry = { .prefix = split_prefix(&name), .value_size = (uint16_t)xattr->size };
    size_t start = out->size, name_size = strlen(name);
    if (name_size == 0 || name_size > UINT8_MAX || xattr->size > UINT16_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "extended attribute %.64s: name or value is too large", xattr->name);
    entry.name_size = (uint8_t)name_size;
    buf_add(out, &entry, sizeof(entry));
    buf_add(out, name, name_size);
    buf_add(out, xattr->value, xattr->size);
    pad(out, start);
    return 0;
}

static struct erofs_shared_xattr *find_seen(struct erofs_image *image, const struct erofs_xattr *xattr)
{
    for (size_t i = 0; i < image->seen_len; i++) {
        struct erofs_shared_xattr *seen = &image->seen[i];
        if (seen->size == xattr->size && strcmp(seen->name, xattr->name) == 0 &&
            memcmp(seen->value, xattr->value, seen->size) == 0)
            return seen;
    }
    return NULL;
}

static void remember(struct erofs_image *image, const struct erofs_xattr *xattr)
{
    if (image->seen_len == EROFS_SEEN_MAX || xattr->size > SEEN_VALUE_MAX)
        return;
    if (!image->seen)
        image->seen = mem_alloc(EROFS_SEEN_MAX * sizeof(*image->seen));
    struct erofs_shared_xattr *seen = &image->seen[image->seen_len++];
    *seen = (struct erofs_shared_xattr){ mem_strdup(xattr->name), mem_alloc(xattr->size), xattr->size, false, 0 };
    memcpy(seen->value, xattr->value, xattr->size);
}

// Its place in the shared area, made there now if this is the second time; -1: it stands behind the inode. The area has room for
// all that is remembered.
static int64_t shared_place(struct erofs_image *image, const struct erofs_xattr *xattr)
{
    struct erofs_shared_xattr *seen = find_seen(image, xattr);
    if (!seen) {
        remember(image, xattr);
        return -1;
    }
    if (!seen->shared) {
        seen->at = (uint32_t)(image->shared.size / 4);
        seen->shared = add_entry(&image->shared, xattr, NULL) == 0;
    }
    return seen->shared ? (int64_t)seen->at : -1;
}

int erofs_xattrs_add(struct erofs_image *image, const struct erofs_xattr *xattrs, struct err *err)
{
    struct buf *out = &image->head;
    struct erofs_xattr_head head = { 0 };
    uint32_t shared[SHARED_LEN_MAX];
    _cleanup_buf_ struct buf own = BUF_INIT((size_t)EROFS_XATTR_COUNT_MAX * 4);
    if (!xattrs)
        return 0;
    for (const struct erofs_xattr *xattr = xattrs; xattr; xattr = xattr->next) {
        int64_t place = head.shared_len < SHARED_LEN_MAX ? shared_place(image, xattr) : -1;
        if (place >= 0)
            shared[head.shared_len++] = (uint32_t)place;
        else if (add_entry(&own, xattr, err) < 0)
            return -1;
    }
    size_t size = (size_t)head.shared_len * 4 + own.size;
    if (own.overflow || size / 4 + 1 > EROFS_XATTR_COUNT_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "extended attributes are too large");
    buf_add(out, &head, sizeof(head));
    buf_add(out, shared, (size_t)head.shared_len * 4);
    buf_add(out, own.data, own.size);
    return 0;
}

void erofs_xattrs_done(struct erofs_image *image)
{
    for (size_t i = 0; i < image->seen_len; i++) {
        free(image->seen[i].name);
        free(image->seen[i].value);
    }
    free(image->seen);
    buf_done(&image->shared);
}
