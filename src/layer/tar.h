// A layer's tar stream as both writers read it (unpack.c, erofs_write.c): inflated, hashed and parsed in one pass. Private to
// the room.
#ifndef LAYER_TAR_H
#define LAYER_TAR_H

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>
#include <time.h>

#include "layer/layer.h"

// Sees every byte of the plain tar before the parser does. `consumed`: bytes that the parser is done with; no data block that
// is still to come begins before it.
typedef int tar_watch_fn(void *context, const void *data, size_t size, uint64_t consumed, struct err *err);

struct tar {
    struct layer_inflate *inflate;
    struct layer_digest *digest;
    struct archive *archive;
    void *buffer;
    size_t entry_len; // so far
    int64_t entry_size, entry_end; // of the last one's content; where its last piece ended
    tar_watch_fn *watch; // NULL: nobody
    void *watcher;
    struct err *err; // the call's own: a failing reader fills it from below libarchive
    bool started, ended, failed;
    locale_t locale, locale_before;
};

// `bound` and `watch` may be NULL. tar_done() in any case.
int tar_open(struct tar *tar, layer_read_fn *read, void *context, struct layer_bound *bound, tar_watch_fn *watch, void *watcher,
             struct err *err);
void tar_done(struct tar *tar);
// 1 with an entry that is valid until the next call, its name readable; 0 at the end.
int tar_next(struct tar *tar, struct archive_entry **entry, const char **name, struct err *err);
// 1 with the next piece of the entry's content and where in the file it belongs (what lies between pieces is a hole); 0 at the
// end. Pieces come in order, none overlaps another or ends behind the size that the entry tells.
int tar_data(struct tar *tar, const void **data, size_t *size, int64_t *offset, struct err *err);
uint64_t tar_position(const struct tar *tar); // in the plain tar, of the piece that tar_data() gave last
// Reads on behind the archive's own end; then the digest is complete.
int tar_drain(struct tar *tar, char diff_id[72], struct err *err);

// ---- entries --------------------------------------------------------------------------------------------------------

struct tar_owner {
    uid_t uid;
    gid_t gid;
};

int tar_entry_owner(struct archive_entry *entry, struct tar_owner *out, struct err *err);
struct timespec tar_entry_time(struct archive_entry *entry);

struct tar_xattr {
    const char *name; // valid until the next one is asked for
    const void *value;
    size_t size;
};
// The attributes that a layer keeps: tar_xattr_first() checks their number, tar_xattr_next() gives 1, 0 at the end, or an error.
int tar_xattr_first(struct archive_entry *entry, struct err *err);
int tar_xattr_next(struct archive_entry *entry, bool regular, struct tar_xattr *out, struct err *err);

enum tar_whiteout {
    TAR_ORDINARY,
    TAR_HIDES, // *path becomes what is hidden
    TAR_OPAQUE, // *path becomes the folder that hides what is below it
    TAR_NOTHING, // aufs' own
};
// What a cleaned name with ".wh." in it means; an error for one that can't be meant. `path` is changed in place.
int tar_whiteout(char *path, enum tar_whiteout *out, struct err *err);

#endif
