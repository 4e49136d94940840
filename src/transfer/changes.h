// Dockerfile instructions over an image's config, as `docker import -c` takes them. Private to the room.
#ifndef TRANSFER_CHANGES_H
#define TRANSFER_CHANGES_H

#include "spec/spec.h"

// All changes are one small Dockerfile: lines, comments, a backslash at a line's end. What is added lives in the arena.
int changes_apply(const struct strv *changes, struct oci_image_process *config, struct arena *arena, struct err *err);

#endif
