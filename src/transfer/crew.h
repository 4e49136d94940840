// A few threads that share a list of work. Private to the room.
#ifndef TRANSFER_CREW_H
#define TRANSFER_CREW_H

#include <stdatomic.h>

#include "base/err.h"

#define CREW_MAX 8 // threads

// Calls `work` for each of [0, len), in that order, by `parallel` threads (CREW_MAX at most). The first error sets *stopped, which the
// others may look at; what has not begun is left out.
int crew_run(size_t len, unsigned parallel, int (*work)(void *context, size_t index, struct err *err), void *context,
             atomic_bool *stopped, struct err *err);

#endif
