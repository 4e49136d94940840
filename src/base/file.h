// Files relative to a folder's descriptor (AT_FDCWD for plain paths). For folders that Berth owns; paths that come
// from images, containers or clients go through kernel/path.h only.
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <dirent.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/strv.h"

int file_open_dir(int dirfd, const char *path, struct err *err); // O_DIRECTORY | O_CLOEXEC
int file_mkdirs(int dirfd, const char *path, mode_t mode, struct err *err); // like mkdir -p; the umask applies
int file_read_at(int dirfd, const char *path, struct buf *out, struct err *err); // appends; ceiling of the buffer applies
int file_read_fd(int fd, const char *path, struct buf *out, struct err *err); // the same of an open one; `path` for messages
// Whole or not at all: temporary name beside it, rename; when `durable`, file and folder are synced.
int file_write_at(int dirfd, const char *path, const void *data, size_t size, mode_t mode, bool durable, struct err *err);
// One write(2) of a small text into an existing file (cgroup, sysctl, id maps).
int file_put(int dirfd, const char *path, const char *text, struct err *err);
// Removes a whole tree, never following links, never entering another mount, of whatever file system: conflict, with what
// is mounted left as it is. Memory, stack and descriptors stay bounded however deep the tree. Missing is success.
int file_remove_tree(int dirfd, const char *path, struct err *err);
// Appends the names of a folder's entries, without "." and "..", in no order.
int file_list_names(int dirfd, const char *path, struct strv *out, struct err *err);
// Bytes of everything below a folder but folders themselves, a file of several names once. Follows no link and enters no
// other file system; what goes or comes meanwhile counts or not. Stack and descriptors stay bounded however deep the tree;
// conflict when folders keep moving under the walk, resource_exhausted above ten million entries.
int file_tree_size(int dirfd, const char *path, int64_t *out, struct err *err);
// An advisory lock that dies with the descriptor (open-file-description lock); conflict when another holds it.
int file_lock_at(int dirfd, const char *name, struct err *err);
// The same for what one process owns while it lives: a child has no part in it, so none that was forked and not yet replaced
// outlives a killed owner with the lock. It is lost when this process closes any descriptor of the file.
int file_own_at(int dirfd, const char *name, struct err *err);

#define _cleanup_dir_ _cleanup_(file_dir_cleanup)
static inline void file_dir_cleanup(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

#endif
