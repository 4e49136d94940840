// Reads an EROFS image in memory and checks while it goes that it is one: everything lies inside, lists are sorted, counts and the
// checksum are right. Written from the format's description (Linux, filesystems/erofs.rst),
// not from the writer. What is wrong ends the program.
#ifndef TESTS_LAYER_EROFS_READER_H
#define TESTS_LAYER_EROFS_READER_H

#include <isa-l/crc.h>

#include "layer/erofs_format.h"
#include "tree_text.h"

struct erofs_reader {
    const char *data;
    uint64_t size;
    struct erofs_super super;
    uint32_t *links; // per slot: names met
};

#define EROFS_MUST(condition)                                                          \
    do {                                                                               \
        if (!(condition)) {                                                            \
            fprintf(stderr, "not an EROFS image: line %d: %s\n", __LINE__, #condition); \
            abort();                                                                   \
        }                                                                              \
    } while (0)

static inline const void *erofs_at(const struct erofs_reader *reader, uint64_t at, uint64_t size)
{
    EROFS_MUST(at <= reader->size && size <= reader->size - at);
    return reader->data + at;
}

static inline void erofs_reader_open(struct erofs_reader *reader, const void *data, uint64_t size)
{
    *reader = (struct erofs_reader){ .data = data, .size = size };
    EROFS_MUST(size >= EROFS_BLOCK && size % EROFS_BLOCK == 0);
    char first[EROFS_BLOCK];
    memcpy(first, data, sizeof(first));
    memcpy(&reader->super, first + EROFS_SUPER_OFFSET, sizeof(reader->super));
    EROFS_MUST(reader->super.magic == EROFS_MAGIC && reader->super.block_bits == EROFS_BLOCK_BITS);
    EROFS_MUST(reader->super.blocks == size / EROFS_BLOCK && reader->super.meta_block == 0);
    memset(first + EROFS_SUPER_OFFSET + 4, 0, 4);
    EROFS_MUST(crc32_iscsi((unsigned char *)first + EROFS_SUPER_OFFSET, EROFS_BLOCK - EROFS_SUPER_OFFSET, UINT32_MAX) ==
               reader->super.checksum);
    reader->links = mem_alloc(size / EROFS_SLOT * sizeof(*reader->links));
}

static inline void erofs_reader_done(struct erofs_reader *reader)
{
    free(reader->links);
}

// ---- inodes ---------------------------------------------------------------------------------------------------------

struct erofs_file {
    const struct erofs_reader *reader;
    struct erofs_inode_disk inode;
    uint64_t behind; // offset of what follows inode and attributes
    uint64_t at; // of the inode
};

static inline struct erofs_file erofs_open(const struct erofs_reader *reader, uint64_t nid)
{
    struct erofs_file file = { .reader = reader, .at = nid * EROFS_SLOT };
    EROFS_MUST(nid > 0);
    memcpy(&file.inode, erofs_at(reader, file.at, sizeof(file.inode)), sizeof(file.inode));
    EROFS_MUST(file.inode.format & EROFS_EXTENDED && file.inode.mtime_ns < 1000000000);
    EROFS_MUST(file.at % EROFS_BLOCK + sizeof(file.inode) <= EROFS_BLOCK);
    uint64_t xattrs = file.inode.xattr_count ? 12 + 4 * (file.inode.xattr_count - 1u) : 0;
    file.behind = file.at + sizeof(file.inode) + xattrs;
    erofs_at(reader, file.at, file.behind - file.at);
    return file;
}

// Where the byte at `offset` is, and how many follow there; *at 0: a hole.
static inline uint64_t erofs_map(const struct erofs_file *file, uint64_t offset, uint64_t *at)
{
    unsigned layout = file->inode.format >> 1;
    uint64_t size = file->inode.size, left = size - offset, whole = size - size % EROFS_BLOCK;
    if (layout == EROFS_CHUNKED) {
        unsigned bits = EROFS_BLOCK_BITS + (file->inode.place & 31);
        EROFS_MUST((file->inode.place & ~31u) == 0 && file->reader->super.feature_incompat & EROFS_INCOMPAT_CHUNKED);
        uint32_t block;
        memcpy(&block, erofs_at(file->reader, ((file->behind + 3) & ~3ull) + 4 * (offset >> bits), 4), 4);
        uint64_t inside = offset & ((1ull << bits) - 1);
        *at = block == EROFS_NO_BLOCK ? 0 : (uint64_t)block * EROFS_BLOCK + inside;
        return MIN_OF(left, (1ull << bits) - inside);
    }
    EROFS_MUST(layout == EROFS_FLAT_PLAIN || layout == EROFS_FLAT_INLINE);
    if (layout == EROFS_FLAT_INLINE && offset >= whole) {
        EROFS_MUST(size > whole && file->behind % EROFS_BLOCK + (size - whole) <= EROFS_BLOCK);
        *at = file->behind + (offset - whole);
        return left;
    }
    EROFS_MUST(file->inode.place > 0 && file->inode.place != EROFS_NO_BLOCK);
    *at = (uint64_t)file->inode.place * EROFS_BLOCK + offset;
    return layout == EROFS_FLAT_INLINE ? whole - offset : left;
}

static inline ssize_t erofs_read(void *context, void *data, size_t size, uint64_t offset)
{
    const struct erofs_file *file = context;
    uint64_t at, there = erofs_map(file, offset, &at);
    size = (size_t)MIN_OF((uint64_t)size, there);
    if (at == 0)
        memset(data, 0, size);
    else
        memcpy(data, erofs_at(file->reader, at, size), size);
    return (ssize_t)size;
}

static inline uint64_t erofs_xattr_read(const struct erofs_reader *reader, uint64_t at, struct strv *out)
{
    static const char *const prefixes[] = { [1] = "user.", [4] = "trusted.", [6] = "security." };
    struct erofs_xattr_entry entry;
    memcpy(&entry, erofs_at(reader, at, sizeof(entry)), sizeof(entry));
    EROFS_MUST(entry.prefix < ARRAY_LEN(prefixes) && prefixes[entry.prefix] && entry.name_size > 0);
    const char *text = erofs_at(reader, at + sizeof(entry), entry.name_size + (uint64_t)entry.value_size);
    _cleanup_free_ char *name = mem_printf("%s%.*s", prefixes[entry.prefix], entry.name_size, text);
    tree_xattr(out, name, text + entry.name_size, entry.value_size);
    return (sizeof(entry) + entry.name_size + entry.value_size + 3u) & ~3u;
}

static inline void erofs_xattrs(struct tree_text *text, const struct erofs_file *file)
{
    struct strv list = { 0 };
    struct erofs_xattr_head head;
    uint64_t at = file->at + sizeof(file->inode);
    if (file->inode.xattr_count == 0)
        return;
    memcpy(&head, erofs_at(file->reader, at, sizeof(head)), sizeof(head));
    at += sizeof(head);
    for (unsigned i = 0; i < head.shared_len; i++, at += 4) {
        uint32_t id;
        memcpy(&id, erofs_at(file->reader, at, 4), 4);
        EROFS_MUST(file->reader->super.xattr_block > 0);
        erofs_xattr_read(file->reader, (uint64_t)file->reader->super.xattr_block * EROFS_BLOCK + 4ull * id, &list);
    }
    while (at < file->behind)
        at += erofs_xattr_read(file->reader, at, &list);
    EROFS_MUST(at == file->behind);
    tree_xattrs_end(text, &list);
}

// ---- folders --------------------------------------------------------------------------------------------------------

static inline void erofs_add(struct tree_text *text, struct erofs_reader *reader, uint64_t nid, uint64_t parent, uint8_t type,
                             const char *path);

struct erofs_list {
    struct tree_text *text;
    struct erofs_reader *reader;
    uint64_t nid, parent;
    const char *path, *before; // the name before, NULL at first
    size_t before_size, folder_len;
    unsigned dots;
};

static inline void erofs_list_name(struct erofs_list *list, const struct erofs_dirent *entry, const char *name, size_t size)
{
    EROFS_MUST(size > 0 && size <= 255 && !memchr(name, '/', size));
    if (list->before) {
        int order = memcmp(list->before, name, MIN_OF(list->before_size, size));
        EROFS_MUST(order < 0 || (order == 0 && list->before_size < size));
    }
    list->before = name;
    list->before_size = size;
    if ((size == 1 || size == 2) && memcmp(name, "..", size) == 0) {
        list->dots++;
        EROFS_MUST(entry->nid == (size == 1 ? list->nid : list->parent) && entry->type == EROFS_TYPE_FOLDER);
        return;
    }
    list->folder_len += entry->type == EROFS_TYPE_FOLDER;
    bool root = strcmp(list->path, ".") == 0;
    _cleanup_free_ char *below = mem_printf("%s%s%.*s", root ? "" : list->path, root ? "" : "/", (int)size, name);
    erofs_add(list->text, list->reader, entry->nid, list->nid, entry->type, below);
}

static inline void erofs_list_block(struct erofs_list *list, const char *data, size_t size, bool last)
{
    struct erofs_dirent first;
    EROFS_MUST(size >= sizeof(first));
    memcpy(&first, data, sizeof(first));
    size_t len = first.name_at / sizeof(first);
    EROFS_MUST(first.name_at % sizeof(first) == 0 && len > 0 && first.name_at <= size);
    for (size_t i = 0; i < len; i++) {
        struct erofs_dirent entry, next;
        memcpy(&entry, data + i * sizeof(entry), sizeof(entry));
        size_t end = size;
        if (i + 1 < len) {
            memcpy(&next, data + (i + 1) * sizeof(next), sizeof(next));
            end = next.name_at;
        }
        EROFS_MUST(entry.name_at >= first.name_at && entry.name_at < end && end <= size);
        size_t name_size = strnlen(data + entry.name_at, end - entry.name_at);
        EROFS_MUST(name_size == end - entry.name_at || (i + 1 == len && !last));
        erofs_list_name(list, &entry, data + entry.name_at, name_size);
    }
}

static inline void erofs_list_folder(struct erofs_list *list, struct erofs_file *file)
{
    uint64_t size = file->inode.size;
    _cleanup_free_ char *data = mem_alloc(size);
    for (uint64_t at = 0; at < size;)
        at += (uint64_t)erofs_read(file, data + at, size - at, at);
    for (uint64_t at = 0; at < size; at += EROFS_BLOCK)
        erofs_list_block(list, data + at, (size_t)MIN_OF((uint64_t)EROFS_BLOCK, size - at), size - at <= EROFS_BLOCK);
    EROFS_MUST(list->dots == 2 && file->inode.nlink == 2 + list->folder_len);
}

static inline void erofs_add(struct tree_text *text, struct erofs_reader *reader, uint64_t nid, uint64_t parent, uint8_t type,
                             const char *path)
{
    static const mode_t types[] = { 0, S_IFREG, S_IFDIR, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK, S_IFLNK };
    struct erofs_file file = erofs_open(reader, nid);
    uint32_t rdev = file.inode.place;
    mode_t mode = file.inode.mode;
    EROFS_MUST(type < ARRAY_LEN(types) && types[type] == (mode & S_IFMT));
    struct tree_node node = {
        mode, file.inode.uid, file.inode.gid, file.inode.nlink, file.inode.size, nid,
        S_ISCHR(mode) || S_ISBLK(mode) ? makedev(rdev >> 8 & 0xfff, (rdev & 0xff) | (rdev >> 12 & 0xfff00)) : 0,
        { (time_t)file.inode.mtime, file.inode.mtime_ns },
    };
    reader->links[nid]++;
    EROFS_MUST(reader->links[nid] <= file.inode.nlink && (!S_ISDIR(mode) || reader->links[nid] == 1));
    tree_line(text, path, &node);
    if (S_ISLNK(mode)) {
        char target[PATH_MAX + 1] = "";
        EROFS_MUST(node.size > 0 && node.size < PATH_MAX && erofs_read(&file, target, node.size, 0) == (ssize_t)node.size);
        buf_addf(&text->out, " -> %s", target);
    }
    if (S_ISREG(mode))
        buf_addf(&text->out, " %016jx", (uintmax_t)tree_sum(erofs_read, &file, node.size));
    erofs_xattrs(text, &file);
    buf_addc(&text->out, '\n');
    if (!S_ISDIR(mode))
        return;
    struct erofs_list list = { .text = text, .reader = reader, .nid = nid, .parent = parent, .path = path };
    erofs_list_folder(&list, &file);
}

static inline void erofs_text(struct tree_text *text, const void *data, uint64_t size)
{
    struct erofs_reader reader;
    erofs_reader_open(&reader, data, size);
    erofs_add(text, &reader, reader.super.root_nid, reader.super.root_nid, EROFS_TYPE_FOLDER, ".");
    for (uint64_t i = 0; i < size / EROFS_SLOT; i++) {
        if (reader.links[i] == 0)
            continue;
        struct erofs_file file = erofs_open(&reader, i);
        EROFS_MUST(S_ISDIR(file.inode.mode) || reader.links[i] == file.inode.nlink);
    }
    erofs_reader_done(&reader);
}

#endif
