// An image archive, read once from a stream: its members as numbered files in <staging>/spool/ and a table of their
// names. The description of an archive stands at its end, so little can be made of a member before all have been seen. But a plain tar
// that is larger than any document may be can only be a layer: it is made one while it passes. Private to the room.
#ifndef TRANSFER_SPOOL_H
#define TRANSFER_SPOOL_H

#include "base/buf.h"
#include "base/err.h"
#include "layer/layer.h"

#define SPOOL_MEMBERS_MAX 65536
#define SPOOL_DOCUMENT_MAX ((size_t)4 << 20) // bytes of a manifest, an index, a config
#define SPOOL_NAMES_MAX ((size_t)16 << 20) // bytes of all names

struct spool_member {
    char *name; // as layer_clean_name() has it
    char *link; // a link's target in the same form, NULL for a file
    size_t number; // of the file in spool/
    int64_t size;
    size_t layer; // 1 + index of what was unpacked from it (stage.h), 0: nothing yet
    bool passed; // it was a layer while it passed, and has no file
    struct err *failure; // why it is no layer after all; owned
};

// Takes a layer that passes: reads it, not always to its end, and sets `layer`. Of its errors invalid_argument is kept in `failure`,
// because nobody may ask for that member; any other ends the reading.
typedef int spool_take_fn(void *context, struct spool_member *member, layer_read_fn *read, void *reader, struct err *err);

struct spool {
    int fd; // the folder
    struct spool_member *members; // sorted by name once read
    size_t len, capacity;
    size_t names_size;
    struct layer_bound *bound; // of the stream; borrowed
};

#define SPOOL_INIT { .fd = -1 }
#define _cleanup_spool_ _cleanup_(spool_done)

// `spool` is initialised; reads `input_fd` (compressed or not) to its end. `take` NULL: nothing is taken while it passes.
int spool_read(struct spool *spool, int input_fd, int staging_fd, spool_take_fn *take, void *context, struct err *err);
void spool_done(struct spool *spool);

// The file of that name, links followed as they would lead in the unpacked archive; NULL when there is none. Of several
// members of one name the last counts. `name` is a foreign text of any shape.
struct spool_member *spool_find(const struct spool *spool, const char *name);
int spool_open(const struct spool *spool, const struct spool_member *member, struct err *err); // for reading
int spool_text(const struct spool *spool, const struct spool_member *member, struct buf *out, struct err *err);
void spool_drop(const struct spool *spool, const struct spool_member *member); // its file has been used up

#endif
