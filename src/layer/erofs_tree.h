// The names of a layer in memory, while its image is written: folders, what they have, and what links lead to. It follows the
// rules of tree.h without a file system: a name resolves inside the layer, whatever its links say. Private to the room.
//
// Everything lives in one arena until erofs_tree_done(); what is replaced or removed stays there as a dead object. Memory is
// bounded by EROFS_TREE_MAX.
#ifndef LAYER_EROFS_TREE_H
#define LAYER_EROFS_TREE_H

#include <limits.h>
#include <sys/stat.h>
#include <time.h>

#include "base/arena.h"
#include "base/err.h"

#define EROFS_TREE_MAX ((size_t)1 << 30)

struct erofs_folder;

// What a name means. Everything but a folder is in the image already when it gets its name.
struct erofs_inode {
    uint64_t nid;
    uint32_t nlink, nlink_written;
    mode_t mode; // type and permissions
    bool whiteout;
    union {
        const char *target; // of a symlink
        struct erofs_folder *folder;
    };
    struct erofs_inode *next_linked; // those with more than one name, for the end
};

struct erofs_name {
    struct erofs_name *next_hashed, *next;
    struct erofs_folder *folder;
    struct erofs_inode *inode; // NULL: removed
    uint32_t hash;
    uint8_t size;
    char text[]; // NUL-terminated
};

struct erofs_xattr {
    struct erofs_xattr *next;
    const char *name;
    const void *value;
    size_t size;
};

struct erofs_folder {
    struct erofs_inode inode;
    struct erofs_folder *parent, *next; // `next`: in the order they were made
    struct erofs_name *names;
    size_t name_len; // of them that are not removed
    uid_t uid;
    gid_t gid;
    struct timespec mtime;
    struct erofs_xattr *xattrs;
    bool gone;
    // What erofs_folders.c knows of it: its inode as it goes to the image, and the place and shape of its list.
    char *head;
    uint64_t content_size;
    uint32_t head_size, tail_size, content_block;
};

struct erofs_tree {
    struct arena arena;
    struct erofs_folder *root, *last;
    struct erofs_name **buckets;
    size_t bucket_len, name_len;
    uint64_t secret[2];
    struct timespec now; // of parents that the tar does not tell of
    struct erofs_inode *linked;
};

void erofs_tree_init(struct erofs_tree *tree);
void erofs_tree_done(struct erofs_tree *tree);
int erofs_tree_check(const struct erofs_tree *tree, struct err *err); // its bound

// The folder `path`, links in it and at its end followed; missing ones are made (0755, root's) when `make` is set.
int erofs_tree_folder(struct erofs_tree *tree, const char *path, bool make, struct erofs_folder **out, struct err *err);
// The parent of `path` (cleaned, not empty), made when missing; *name points into `path`.
int erofs_tree_parent(struct erofs_tree *tree, const char *path, bool make, struct erofs_folder **out, const char **name,
                      struct err *err);
struct erofs_inode *erofs_tree_find(struct erofs_tree *tree, const struct erofs_folder *folder, const char *name); // or NULL
// Gives `inode` this name, in place of whatever had it, a whole folder too.
void erofs_tree_set(struct erofs_tree *tree, struct erofs_folder *folder, const char *name, struct erofs_inode *inode);
void erofs_tree_remove(struct erofs_tree *tree, struct erofs_folder *folder, const char *name); // missing is fine
struct erofs_inode *erofs_tree_inode(struct erofs_tree *tree, mode_t mode, uint64_t nid); // without a name yet
struct erofs_folder *erofs_tree_new_folder(struct erofs_tree *tree, struct erofs_folder *parent, const char *name);

// Adds or replaces one of a list that lives in `arena`.
void erofs_xattr_set(struct arena *arena, struct erofs_xattr **list, const char *name, const void *value, size_t size);

#endif
