// Paths as texts, without a look at any file system.
#ifndef BASE_PATH_H
#define BASE_PATH_H

#include "base/arena.h"
#include "base/slice.h"

// Without empty parts, "." and "..", as Go's path.Clean has it: "/a//b/./c/../d/" is "/a/b/d"; "" is ".".
char *path_clean(struct slice path, struct arena *arena);

#endif
