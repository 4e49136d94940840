// What a layer that is unpacked into a folder keeps of its tar, beside the folder: a recipe (recipe.h) over the content of its files, one
// after another in the tar's order, and a table of where that content is. Private to the room; layer_content() in layer.h reads the table.
//
// The table: rows of text, each with a NUL behind it, "PLACE INODE OFFSET SIZE PATH": so many bytes of the file, from OFFSET on. PLACE is "d"
// for the layer's folder, "l" for the folder of what a later entry of the same tar has replaced.
#ifndef LAYER_KEEP_H
#define LAYER_KEEP_H

#include <limits.h>

#include "layer/layer.h"
#include "recipe.h"

struct keep {
    const struct layer_keep *where; // NULL: nothing is kept, and all calls do nothing
    int root_fd; // of the layer; borrowed
    struct recipe *recipe;
    struct buf rows; // not yet written
    off_t written;
    uint64_t at; // bytes of content so far
    char path[PATH_MAX]; // of the file under way
    uint64_t inode, offset, size; // and its piece under way
};

void keep_init(struct keep *keep, const struct layer_keep *where, int root_fd);
void keep_done(struct keep *keep);
// A new file, open as `fd`; then its content: `size` bytes from `position` of the tar belong at `offset`.
int keep_file(struct keep *keep, const char *path, int fd, struct err *err);
int keep_data(struct keep *keep, uint64_t position, uint64_t offset, size_t size, struct err *err);
// `replaced`: something is in the folder of the lost, so rows may lead elsewhere now and are looked through.
int keep_end(struct keep *keep, const char *diff_id, bool replaced, struct err *err);

#endif
