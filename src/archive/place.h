// What the files that do a COPY share. Private to the room.
#ifndef ARCHIVE_PLACE_H
#define ARCHIVE_PLACE_H

#include "base/strv.h"
#include "tar.h"

struct placing {
    int root_fd; // -1: there is no tree, and names are the sources' own
    const struct archive_place *place;
    struct tar_writer writer;
    struct tar_changes changes;
    char target[PATH_MAX]; // real, "/a/b"
    bool folder; // the target is one, or becomes one
    bool within; // an archive: folders that it does not name are root's
    struct strv told; // real folders on the way that have their entries
};

// Appends the paths ("/a/b") that a source's pattern names in its tree, sorted within each folder. not_found with ENOENT: a path without
// a wildcard is not there; invalid_argument: a pattern that names nothing.
int source_matches(const struct archive_source *source, struct strv *out, struct err *err);

// A name that can't be in a layer.
int place_refuse_name(const char *name, struct err *err);
// What stands in the tree where `name` goes, with *met_fd open where both are folders: -1 and no error when there is nothing that matters.
int place_meet(int beside_fd, const char *name, bool folder, const char *as, int *met_fd, struct err *err);
// What a folder of a source has, as far as it is meant, goes into the folder `as`, whose own entry is the caller's. beside_fd: what is there
// already; -1: nothing.
int place_children(struct placing *placing, const struct archive_source *source, int from_fd, int beside_fd, const char *as, struct err *err);

#endif
