// What ends a long call early: the hang-up of the client's socket, or a stop that somebody else triggers. It goes down
// every call that may wait; NULL never cancels.
#ifndef BASE_CANCEL_H
#define BASE_CANCEL_H

#include "base/err.h"

struct cancel {
    int fd; // watched for hang-up (POLLRDHUP, POLLHUP, POLLERR), -1: none
    int event_fd; // readable once somebody cancelled, -1: none
};

#define CANCEL_NEVER { -1, -1 }

// Waits until `fd` is readable (1), the deadline passed (0; negative deadline: never), or cancelled (-1, ERR_CANCELLED).
// Cancelled comes first, so that a stream that never pauses can be ended. `fd` -1 waits for the other two.
int cancel_wait(const struct cancel *cancel, int fd, int64_t deadline_mono_ns, struct err *err);
bool cancel_now(const struct cancel *cancel); // already cancelled?

#endif
