// Tar's blocks, one way and the other. Private to the room.
#ifndef ARCHIVE_TAR_H
#define ARCHIVE_TAR_H

#include <sys/stat.h>

#include "archive/archive.h"
#include "base/buf.h"
#include "base/slice.h"

#define TAR_BLOCK 512
#define TAR_XATTR_VALUE_MAX 65536 // the kernel's own bound
#define TAR_XATTRS_MAX 64 // of one entry

enum tar_type {
    TAR_FILE = '0',
    TAR_HARDLINK = '1',
    TAR_SYMLINK = '2',
    TAR_CHAR = '3',
    TAR_BLOCK_DEVICE = '4',
    TAR_FOLDER = '5',
    TAR_FIFO = '6',
};

// ---- writing (tar_write.c) ------------------------------------------------------------------------------------------

struct tar_links;

// What entries say instead of what their files are.
struct tar_changes {
    bool give; // all belongs to uid and gid
    uid_t uid;
    gid_t gid;
    int64_t mode; // permissions of all but links; -1: their own
    const char *chmod; // a change of them; NULL: none
    int64_t time_max; // seconds: later times become this one; -1: none does
    bool same_time; // all times are this one, in seconds
    int64_t time;
};
struct tar_changes tar_changes_of(const struct archive_times *times);

struct tar_writer {
    int fd;
    const struct tar_changes *changes; // NULL: none
    archive_content_fn *content; // NULL: nobody asks, or it was told
    struct tar_links *links; // files with several names, by what they are
    struct buf extra; // pax records of the entry under way
    char *names; // room for attributes
    bool records; // no tar, but what archive_sources() writes
    char *held; // bytes that are not written yet: a call for each small file costs more than the file
    size_t held_size;
};

void tar_writer_init(struct tar_writer *writer, int fd);
void tar_writer_done(struct tar_writer *writer);
// One entry named `as` for `name` in the folder `dir_fd`, which is not followed. A folder's content is the caller's.
int tar_write_entry(struct tar_writer *writer, int dir_fd, const char *name, const struct stat *info, const char *as, struct err *err);
int tar_write_empty(struct tar_writer *writer, const char *as, struct err *err); // an empty file of root's, for whiteouts
int tar_write_folder(struct tar_writer *writer, const struct stat *info, const char *as, struct err *err); // one that is nowhere yet
// What a reader has come to, content and all, under another name; `link` for what is one.
struct tar_reader;
struct tar_entry;
int tar_write_copy(struct tar_writer *writer, struct tar_reader *reader, const struct tar_entry *entry, const char *as, const char *link,
                   struct err *err);
int tar_write_end(struct tar_writer *writer, struct err *err);
int tar_write_raw(struct tar_writer *writer, const void *data, size_t size, struct err *err); // bytes that are no tar's

// A folder and all below it, named `as`/...; "" for `as` names what is below alone. `depth` 0.
int tar_write_tree(struct tar_writer *writer, int folder_fd, const char *as, unsigned depth, struct err *err);

// ---- reading (tar_read.c) -------------------------------------------------------------------------------------------

struct tar_xattr {
    char *name; // malloc'ed
    char *value;
    size_t size;
};

struct tar_entry {
    enum tar_type type;
    char *name, *link; // malloc'ed
    uint32_t mode;
    uid_t uid;
    gid_t gid;
    int64_t size;
    struct timespec mtime;
    dev_t device;
    struct tar_xattr xattrs[TAR_XATTRS_MAX];
    size_t xattr_len;
};

struct tar_reader {
    archive_read_fn *read;
    void *context;
    char *chunk;
    size_t chunk_at, chunk_end;
    bool ended, marked; // marked: by a block of zeros, behind which nothing counts
    uint64_t left, padding; // of the entry's content; behind it
    struct tar_entry entry;
};

void tar_reader_init(struct tar_reader *reader, archive_read_fn *read, void *context);
void tar_reader_done(struct tar_reader *reader);
// 1 and an entry that is valid until the next call; 0 at the end. What was not read of the last one's content is passed over.
int tar_reader_next(struct tar_reader *reader, struct tar_entry **entry, struct err *err);
// The next bytes of its content, as they lie in the reader; 0 at its end.
ssize_t tar_reader_content(struct tar_reader *reader, const char **data, struct err *err);

// ---- names (stat.c) -------------------------------------------------------------------------------------------------

enum name_end { NAME_PLAIN, NAME_SLASH, NAME_DOT };
// "/a/b" of whatever the client wrote, and how that ended.
int name_clean(const char *path, char out[PATH_MAX], enum name_end *end, struct err *err);
const char *name_base(const char *clean, enum name_end end); // "b"; "/"; "."
// Where it leads when every link is followed, as far as that exists: for eyes, and for names in a tar. Nothing is opened by it.
void name_follow(int root_fd, const char *clean, char out[PATH_MAX]);
// An O_PATH descriptor of it: a link at a plain end is itself.
int name_open(int root_fd, const char *clean, enum name_end end, struct err *err);

#endif
