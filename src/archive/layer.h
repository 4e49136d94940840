// What is a layer's and what is not, for who writes its tar and for who keeps its folder. Private to the room.
#ifndef ARCHIVE_LAYER_H
#define ARCHIVE_LAYER_H

#include "archive/archive.h"

// Where a layer's entries are read.
struct layer_source {
    int upper_fd; // borrowed
    char *parent; // of the last entry, malloc'ed: most are followed by a sibling
    int parent_fd;
};
struct layer_source layer_source_of(const struct archive_layers *layers);
void layer_source_done(struct layer_source *source);
// The folder of "/a/b" in the upper, where no component is a link. Borrowed, until the next call.
int layer_parent_of(struct layer_source *source, const char *path, struct err *err);

// Which changes are places of mounts alone, and left out: malloc'ed, one for each change.
bool *layer_stubs(const struct archive_layers *layers, const struct archive_changes *changes);
// The engine's own paths, a folder before what is in it.
extern const char *const layer_engines_own[];
extern const size_t layer_engines_own_len;

#endif
