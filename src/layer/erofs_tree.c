#include <errno.h>

#include "erofs_tree.h"
#include "base/num.h"

#define LINKS_MAX 40 // followed for one name, as the kernel does
#define BUCKETS_START 1024

void erofs_tree_init(struct erofs_tree *tree)
{
    *tree = (struct erofs_tree){ .arena = ARENA_INIT, .bucket_len = BUCKETS_START };
    tree->buckets = mem_alloc(BUCKETS_START * sizeof(struct erofs_name *));
    random_bytes(tree->secret, sizeof(tree->secret));
    tree->root = tree->last = arena_alloc(&tree->arena, sizeof(*tree->root));
    *tree->root = (struct erofs_folder){ .inode = { .nlink = 2, .mode = S_IFDIR | 0755, .folder = tree->root }, .parent = tree->root };
}

void erofs_tree_done(struct erofs_tree *tree)
{
    free(tree->buckets);
    arena_done(&tree->arena);
}

int erofs_tree_check(const struct erofs_tree *tree, struct err *err)
{
    if (tree->arena.used > EROFS_TREE_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "layer has too many files and folders");
    return 0;
}

// ---- names ----------------------------------------------------------------------------------------------------------

static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

// Keyed, so that no tar can be made whose names all meet in one bucket.
static uint32_t hash_name(const struct erofs_tree *tree, const struct erofs_folder *folder, const char *name, size_t size)
{
    uint64_t hash = mix((uintptr_t)folder ^ tree->secret[0], size ^ tree->secret[1]);
    for (; size > 0;) {
        uint64_t word = 0;
        size_t part = MIN_OF(size, sizeof(word));
        memcpy(&word, name, part);
        hash = mix(hash ^ word ^ tree->secret[0], tree->secret[1] ^ 0x9e3779b97f4a7c15u);
        name += part;
        size -= part;
    }
    return (uint32_t)(hash ^ hash >> 32);
}

static struct erofs_name *find(struct erofs_tree *tree, const struct erofs_folder *folder, const char *name, size_t size)
{
    uint32_t hash = hash_name(tree, folder, name, size);
    struct erofs_name *at = tree->buckets[hash & (tree->bucket_len - 1)];
    while (at && (at->hash != hash || at->folder != folder || at->size != size || memcmp(at->text, name, size) != 0))
        at = at->next_hashed;
    return at;
}

static void grow_buckets(struct erofs_tree *tree)
{
    size_t len = tree->bucket_len * 2;
    struct erofs_name **buckets = mem_alloc(len * sizeof(struct erofs_name *));
    for (size_t i = 0; i < tree->bucket_len; i++)
        for (struct erofs_name *name = tree->buckets[i], *next; name; name = next) {
            next = name->next_hashed;
            name->next_hashed = buckets[name->hash & (len - 1)];
            buckets[name->hash & (len - 1)] = name;
        }
    free(tree->buckets);
    tree->buckets = buckets;
    tree->bucket_len = len;
}

static struct erofs_name *add(struct erofs_tree *tree, struct erofs_folder *folder, const char *text, size_t size)
{
    if (tree->name_len++ >= tree->bucket_len)
        grow_buckets(tree);
    struct erofs_name *name = arena_alloc(&tree->arena, sizeof(*name) + size + 1);
    name->hash = hash_name(tree, folder, text, size);
    name->folder = folder;
    name->size = (uint8_t)size;
    memcpy(name->text, text, size);
    struct erofs_name **bucket = &tree->buckets[name->hash & (tree->bucket_len - 1)];
    name->next_hashed = *bucket;
    *bucket = name;
    name->next = folder->names;
    folder->names = name;
    return name;
}

// A folder has one name, so that it is gone with it; and all that it has with it, however deep.
static void empty(struct erofs_folder *top)
{
    for (struct erofs_folder *folder = top; folder;) {
        struct erofs_name *name = folder->names;
        if (!name) {
            folder->gone = true;
            folder = folder == top ? NULL : folder->parent;
            continue;
        }
        folder->names = name->next;
        struct erofs_inode *inode = take_ptr(&name->inode);
        if (inode && S_ISDIR(inode->mode))
            folder = inode->folder;
        else if (inode)
            inode->nlink--;
    }
}

static void unlink_name(struct erofs_name *name)
{
    struct erofs_inode *inode = take_ptr(&name->inode);
    if (!inode)
        return;
    name->folder->name_len--;
    if (S_ISDIR(inode->mode)) {
        name->folder->inode.nlink--;
        empty(inode->folder);
    } else {
        inode->nlink--;
    }
}

struct erofs_inode *erofs_tree_find(struct erofs_tree *tree, const struct erofs_folder *folder, const char *name)
{
    struct erofs_name *found = find(tree, folder, name, strlen(name));
    return found ? found->inode : NULL;
}

void erofs_tree_remove(struct erofs_tree *tree, struct erofs_folder *folder, const char *name)
{
    struct erofs_name *found = find(tree, folder, name, strlen(name));
    if (found)
        unlink_name(found);
}

static void set(struct erofs_tree *tree, struct erofs_folder *folder, const char *text, size_t size, struct erofs_inode *inode)
{
    struct erofs_name *name = find(tree, folder, text, size);
    if (name)
        unlink_name(name);
    else
        name = add(tree, folder, text, size);
    name->inode = inode;
    folder->name_len++;
    if (S_ISDIR(inode->mode)) {
        folder->inode.nlink++;
    } else if (++inode->nlink == 2 && !inode->next_linked) {
        inode->next_linked = tree->linked ? tree->linked : inode; // the last one points at itself
        tree->linked = inode;
    }
}

void erofs_tree_set(struct erofs_tree *tree, struct erofs_folder *folder, const char *name, struct erofs_inode *inode)
{
    set(tree, folder, name, strlen(name), inode);
}

struct erofs_inode *erofs_tree_inode(struct erofs_tree *tree, mode_t mode, uint64_t nid)
{
    struct erofs_inode *inode = arena_alloc(&tree->arena, sizeof(*inode));
    *inode = (struct erofs_inode){ .mode = mode, .nid = nid, .nlink_written = 1 };
    return inode;
}

static struct erofs_folder *new_folder(struct erofs_tree *tree, struct erofs_folder *parent, const char *name, size_t size)
{
    struct erofs_folder *folder = arena_alloc(&tree->arena, sizeof(*folder));
    *folder = (struct erofs_folder){
        .inode = { .nlink = 2, .mode = S_IFDIR | 0755, .folder = folder }, .parent = parent, .mtime = tree->now,
    };
    tree->last = tree->last->next = folder;
    set(tree, parent, name, size, &folder->inode);
    return folder;
}

struct erofs_folder *erofs_tree_new_folder(struct erofs_tree *tree, struct erofs_folder *parent, const char *name)
{
    return new_folder(tree, parent, name, strlen(name));
}

// ---- paths ----------------------------------------------------------------------------------------------------------

// A path on its way: what is left of it, and where its first component counts from.
struct walk {
    struct erofs_folder *folder;
    char text[PATH_MAX];
    const char *rest;
    int links;
};

static int follow(struct erofs_tree *tree, struct walk *walk, const char *target, struct err *err)
{
    char left[PATH_MAX];
    if (++walk->links > LINKS_MAX)
        return err_errno(err, ELOOP, "%s", target);
    int size = snprintf(left, sizeof(left), "%s/%s", target, walk->rest);
    if (size < 0 || (size_t)size >= sizeof(left))
        return err_errno(err, ENAMETOOLONG, "%.64s...", target);
    if (*target == '/')
        walk->folder = tree->root;
    memcpy(walk->text, left, (size_t)size + 1);
    walk->rest = walk->text;
    return 0;
}

static int step(struct erofs_tree *tree, struct walk *walk, const char *part, size_t size, bool make, struct err *err)
{
    if (size == 0 || (size == 1 && part[0] == '.'))
        return 0;
    if (size == 2 && part[0] == '.' && part[1] == '.') {
        walk->folder = walk->folder->parent; // the root's is the root
        return 0;
    }
    if (size > NAME_MAX)
        return err_errno(err, ENAMETOOLONG, "%.64s...", part);
    const struct erofs_name *name = find(tree, walk->folder, part, size);
    const struct erofs_inode *inode = name ? name->inode : NULL;
    if (inode && S_ISLNK(inode->mode))
        return follow(tree, walk, inode->target, err);
    if (inode && !S_ISDIR(inode->mode))
        return err_errno(err, ENOTDIR, "%.*s", (int)size, part);
    if (!inode && !make)
        return err_errno(err, ENOENT, "%.*s", (int)size, part);
    walk->folder = inode ? inode->folder : new_folder(tree, walk->folder, part, size);
    return erofs_tree_check(tree, err);
}

static int walk_folder(struct erofs_tree *tree, const char *path, size_t size, bool make, struct erofs_folder **out, struct err *err)
{
    struct walk walk = { .folder = tree->root };
    if (size >= sizeof(walk.text))
        return err_errno(err, ENAMETOOLONG, "%.64s...", path);
    memcpy(walk.text, path, size);
    walk.text[size] = '\0';
    walk.rest = walk.text;
    while (*walk.rest) {
        const char *part = walk.rest;
        size_t part_size = strcspn(part, "/");
        walk.rest = part + part_size + (part[part_size] == '/');
        if (step(tree, &walk, part, part_size, make, err) < 0)
            return -1;
    }
    *out = walk.folder;
    return 0;
}

int erofs_tree_folder(struct erofs_tree *tree, const char *path, bool make, struct erofs_folder **out, struct err *err)
{
    return walk_folder(tree, path, strlen(path), make, out, err);
}

int erofs_tree_parent(struct erofs_tree *tree, const char *path, bool make, struct erofs_folder **out, const char **name,
                      struct err *err)
{
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    return walk_folder(tree, path, slash ? (size_t)(slash - path) : 0, make, out, err);
}

// ---- attributes -----------------------------------------------------------------------------------------------------

void erofs_xattr_set(struct arena *arena, struct erofs_xattr **list, const char *name, const void *value, size_t size)
{
    struct erofs_xattr *xattr = *list;
    while (xattr && !str_eq(xattr->name, name))
        xattr = xattr->next;
    if (!xattr) {
        xattr = arena_alloc(arena, sizeof(*xattr));
        *xattr = (struct erofs_xattr){ .next = *list, .name = arena_strdup(arena, name) };
        *list = xattr;
    }
    xattr->value = memcpy(arena_alloc(arena, size + 1), value, size);
    xattr->size = size;
}
