// Folders come last, when it is known what they have and where that is. Twice over all of them: first each gets its place, from
// the size of its list alone; then lists are written, in which each name has its inode's place.
#include "erofs_image.h"

#define LIST_MAX ((size_t)1 << 30) // of one folder; names are bounded by EROFS_TREE_MAX

// An entry of a list on its way to the image; "." and ".." are ordinary ones.
struct item {
    const char *text;
    size_t size;
    uint64_t nid;
    mode_t mode;
};

static int compare_items(const void *a, const void *b)
{
    const struct item *one = a, *other = b;
    int order = memcmp(one->text, other->text, MIN_OF(one->size, other->size));
    return order ? order : one->size < other->size ? -1 : one->size > other->size;
}

static struct item *sorted_items(const struct erofs_folder *folder, size_t *len)
{
    struct item *items = mem_alloc((folder->name_len + 2) * sizeof(*items));
    size_t count = 0;
    items[count++] = (struct item){ ".", 1, folder->inode.nid, S_IFDIR };
    items[count++] = (struct item){ "..", 2, folder->parent->inode.nid, S_IFDIR };
    for (const struct erofs_name *name = folder->names; name; name = name->next)
        if (name->inode)
            items[count++] = (struct item){ name->text, name->size, name->inode->nid, name->inode->mode };
    qsort(items, count, sizeof(*items), compare_items);
    *len = count;
    return items;
}

// How many items, from the first on, one block takes; *size: bytes that they fill of it.
static size_t block_items(const struct item *items, size_t len, size_t *size)
{
    size_t count = 0;
    *size = 0;
    while (count < len && *size + sizeof(struct erofs_dirent) + items[count].size <= EROFS_BLOCK)
        *size += sizeof(struct erofs_dirent) + items[count++].size;
    return count;
}

static uint64_t content_size(const struct item *items, size_t len)
{
    uint64_t size = 0;
    for (size_t at = 0, used; at < len;) {
        size_t count = block_items(items + at, len - at, &used);
        at += count;
        size += at < len ? EROFS_BLOCK : used;
    }
    return size;
}

static uint8_t file_type(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR: return EROFS_TYPE_FOLDER;
    case S_IFCHR: return EROFS_TYPE_CHAR;
    case S_IFBLK: return EROFS_TYPE_BLOCK;
    case S_IFIFO: return EROFS_TYPE_FIFO;
    case S_IFLNK: return EROFS_TYPE_LINK;
    default: return EROFS_TYPE_FILE;
    }
}

static void add_content(struct buf *out, const struct item *items, size_t len)
{
    for (size_t at = 0, used; at < len;) {
        size_t start = out->size, count = block_items(items + at, len - at, &used);
        size_t name_at = count * sizeof(struct erofs_dirent);
        for (size_t i = 0; i < count; name_at += items[at + i].size, i++) {
            const struct item *item = &items[at + i];
            struct erofs_dirent entry = { .nid = item->nid, .name_at = (uint16_t)name_at, .type = file_type(item->mode) };
            buf_add(out, &entry, sizeof(entry));
        }
        for (size_t i = 0; i < count; i++)
            buf_add(out, items[at + i].text, items[at + i].size);
        at += count;
        static const char zeros[EROFS_BLOCK];
        if (at < len)
            buf_add(out, zeros, EROFS_BLOCK - (out->size - start));
    }
}

// ---- places ---------------------------------------------------------------------------------------------------------

struct places {
    uint64_t at; // of the next inode, from the start of their blocks
    uint64_t block_len; // full blocks of lists so far
};

static int keep_head(struct erofs_image *image, struct erofs_tree *tree, struct erofs_folder *folder, struct err *err)
{
    const struct erofs_attributes attributes = {
        folder->inode.mode, folder->uid, folder->gid, folder->mtime, folder->inode.nlink, folder->xattrs,
    };
    if (erofs_image_head(image, &attributes, EROFS_FLAT_PLAIN, 0, 0, err) < 0)
        return -1;
    folder->head_size = (uint32_t)image->head.size;
    folder->head = memcpy(arena_alloc(&tree->arena, folder->head_size), image->head.data, folder->head_size);
    return erofs_tree_check(tree, err);
}

static void place(struct erofs_folder *folder, bool root, struct places *places)
{
    size_t len;
    _cleanup_free_ struct item *items = sorted_items(folder, &len);
    folder->content_size = content_size(items, len);
    size_t tail = folder->content_size % EROFS_BLOCK;
    if (root || folder->head_size + tail > EROFS_BLOCK)
        tail = 0;
    folder->tail_size = (uint32_t)tail;
    folder->content_block = (uint32_t)places->block_len;
    places->block_len += (folder->content_size - tail + EROFS_BLOCK - 1) / EROFS_BLOCK;
    if (root)
        return;
    uint64_t size = folder->head_size + tail, used = places->at % EROFS_BLOCK;
    if (used > 0 && used + size > EROFS_BLOCK)
        places->at += EROFS_BLOCK - used;
    folder->inode.nid = places->at / EROFS_SLOT;
    places->at = (places->at + size + EROFS_SLOT - 1) & ~(uint64_t)(EROFS_SLOT - 1);
}

static int place_all(struct erofs_image *image, struct erofs_tree *tree, uint32_t *inodes, uint32_t *lists, struct err *err)
{
    struct places places = { 0 };
    for (struct erofs_folder *folder = tree->root; folder; folder = folder->next) {
        if (folder->gone)
            continue;
        if (keep_head(image, tree, folder, err) < 0)
            return -1;
        place(folder, folder == tree->root, &places);
    }
    if (erofs_image_blocks(image, (places.at + EROFS_BLOCK - 1) / EROFS_BLOCK, inodes, err) < 0)
        return -1;
    return erofs_image_blocks(image, places.block_len, lists, err);
}

// ---- content --------------------------------------------------------------------------------------------------------

static int write_folder(struct erofs_image *image, const struct erofs_folder *folder, struct buf *list, struct err *err)
{
    size_t len;
    _cleanup_free_ struct item *items = sorted_items(folder, &len);
    buf_clear(list);
    add_content(list, items, len);
    if (buf_check(list, "folder", err) < 0)
        return -1;
    size_t whole = list->size - folder->tail_size;
    struct erofs_inode_disk *inode = (struct erofs_inode_disk *)folder->head;
    inode->format = EROFS_FORMAT(folder->tail_size > 0 ? EROFS_FLAT_INLINE : EROFS_FLAT_PLAIN);
    inode->size = list->size;
    inode->place = whole > 0 ? folder->content_block : EROFS_NO_BLOCK;
    uint64_t at = folder->inode.nid * EROFS_SLOT;
    if (erofs_image_write(image, (uint64_t)folder->content_block * EROFS_BLOCK, list->data, whole, err) < 0 ||
        erofs_image_write(image, at, folder->head, folder->head_size, err) < 0)
        return -1;
    return erofs_image_write(image, at + folder->head_size, list->data + whole, folder->tail_size, err);
}

int erofs_folders_write(struct erofs_image *image, struct erofs_tree *tree, uint64_t root_nid, struct err *err)
{
    uint32_t inodes, lists;
    _cleanup_buf_ struct buf list = BUF_INIT(LIST_MAX);
    if (place_all(image, tree, &inodes, &lists, err) < 0)
        return -1;
    for (struct erofs_folder *folder = tree->root; folder; folder = folder->next) {
        folder->inode.nid = folder == tree->root ? root_nid : folder->inode.nid + (uint64_t)inodes * (EROFS_BLOCK / EROFS_SLOT);
        folder->content_block += lists;
    }
    for (struct erofs_folder *folder = tree->root; folder; folder = folder->next)
        if (!folder->gone && write_folder(image, folder, &list, err) < 0)
            return -1;
    return 0;
}
