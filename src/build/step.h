// What an instruction says, as one line of text that is the same exactly where the meaning is: material of a cache key.
//
//     COPY from="base" source="a" source="b" target="/x/" chown="1:1" link
//     RUN shell="make" mount{type="cache" target="/root/.cache"} network="none"
//
// The instruction's case, blanks, comments, place and flags' order don't show; defaults neither. Texts are quoted as Go's %q does, so no
// value can look like another field. Neither files nor the environment are in it: they are for the one who makes the key.
#ifndef BUILD_STEP_H
#define BUILD_STEP_H

#include "build/dockerfile.h"

void step_text(const struct instruction *instruction, struct buf *out);

#endif
