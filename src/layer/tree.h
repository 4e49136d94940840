// The folder that a layer is unpacked into: where entries go. Every name resolves from the root's descriptor with
// kernel/path.h, and what is made is made relative to its parent's descriptor. Private to the room.
#ifndef LAYER_TREE_H
#define LAYER_TREE_H

#include <limits.h>
#include <sys/stat.h>
#include <time.h>

#include "base/buf.h"
#include "base/strv.h"

// What a stranger's tar can make us remember.
#define TREE_FOLDER_TEXT_MAX ((size_t)256 << 20) // names of folders whose times are set at the end
#define TREE_OPAQUE_MAX 65536
#define TREE_OPAQUE_TEXT_MAX ((size_t)4 << 20)

struct tree_folder {
    size_t path; // offset in folder_paths
    struct timespec time;
};

struct tree {
    int root_fd; // borrowed
    char parent[PATH_MAX]; // of the last entry, with parent_fd: most entries are followed by a sibling
    int parent_fd; // -1: none kept
    bool parent_stale; // something was removed since: the path may lead elsewhere now
    struct buf folder_paths; // NUL-terminated, one after another
    struct tree_folder *folders;
    size_t folder_len, folder_capacity;
    struct strv opaque;
    size_t opaque_text;
    int lost_fd; // where what is replaced goes; -1: nowhere
    unsigned lost_len;
    bool no_devices; // see layer.h
};

void tree_init(struct tree *tree, int root_fd);
void tree_done(struct tree *tree);

// The parent of `path` (cleaned, not empty), made when missing; borrowed until the next call. *name points into `path`.
int tree_parent(struct tree *tree, const char *path, const char **name, struct err *err);
// Removes whatever has this name, a whole folder too.
int tree_clear(struct tree *tree, int parent_fd, const char *name, struct err *err);

// A new, empty regular file in place of whatever was there, open for writing.
int tree_new_file(struct tree *tree, const char *path, struct err *err);
// The folder, open for reading; one that is there stays as it is.
int tree_open_folder(struct tree *tree, const char *path, struct err *err);
int tree_symlink(struct tree *tree, const char *path, const char *target, struct err *err);
int tree_hardlink(struct tree *tree, const char *path, const char *target, struct err *err);
int tree_node(struct tree *tree, const char *path, mode_t mode, dev_t device, struct err *err);

// "dir/.wh.name" hides name: `path` is "dir/name".
int tree_whiteout(struct tree *tree, const char *path, struct err *err);
// The folder `path` ("" is the root) hides all of its lower layers' content; made when missing.
int tree_opaque(struct tree *tree, const char *path, struct err *err);

// A folder's time is set when nothing more comes into it.
int tree_folder_time(struct tree *tree, const char *path, struct timespec time, struct err *err);
// Sets those times and hands over the list of opaque folders: sorted, none twice, each one still a folder.
int tree_finish(struct tree *tree, struct strv *opaque, struct err *err);

#endif
