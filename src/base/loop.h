// An epoll loop for one thread: descriptors, timers, and work posted from other threads. The shim is one such loop, the
// daemon's watcher another. Callbacks never block. A source may be removed from inside any callback; none of its own comes
// after that, and it is freed after the current turn. All calls belong to the loop's thread (or come before it runs), but
// for loop_stop() and loop_post().
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <sys/epoll.h>

#include "base/err.h"

struct loop;
struct loop_source;

typedef void loop_fd_fn(void *context, int fd, uint32_t events);
typedef void loop_fn(void *context);

int loop_new(struct loop **out, struct err *err);
// Frees its sources too, which nobody may touch afterwards, and drops what was posted and never ran.
void loop_free(struct loop *loop);
int loop_run(struct loop *loop, struct err *err); // until loop_stop(); can be run again
void loop_stop(struct loop *loop); // any thread, also ahead of loop_run(); the current turn is finished

// Level-triggered. The descriptor stays the caller's and must outlive the source.
int loop_add_fd(struct loop *loop, int fd, uint32_t events, loop_fd_fn *fn, void *context,
                struct loop_source **out, struct err *err);
void loop_set_events(struct loop_source *source, uint32_t events); // 0 keeps only ERR and HUP
void loop_remove(struct loop_source *source); // NULL is fine

// Fires once after `delay_ns`; loop_remove() cancels and is needed after firing too.
int loop_add_timer(struct loop *loop, int64_t delay_ns, loop_fn *fn, void *context, struct loop_source **out,
                   struct err *err);
void loop_set_timer(struct loop_source *source, int64_t delay_ns); // negative: disarmed

// Runs fn(context) in the loop's thread at its next turn. Any thread.
void loop_post(struct loop *loop, loop_fn *fn, void *context);

#endif
