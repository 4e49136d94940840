// Finding what a COPY names. Private to the room.
#ifndef ARCHIVE_PLACE_H
#define ARCHIVE_PLACE_H

#include "base/strv.h"
#include "tar.h"

// Appends the paths ("/a/b") that a source's pattern names in its tree, sorted within each folder. not_found with ENOENT: a path without
// a wildcard is not there; invalid_argument: a pattern that names nothing.
int source_matches(const struct archive_source *source, struct strv *out, struct err *err);

#endif
