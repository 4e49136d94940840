// Mutexes and conditions with clang's thread-safety annotations, so that lock rules are compiled
// (-Wthread-safety -Wthread-safety-beta), and with ranks, so that a debug build stops at a wrong order: a thread may
// take a lock only if its rank is higher than that of every lock it holds. Rank 0 is unranked.
#ifndef BASE_MUTEX_H
#define BASE_MUTEX_H

#include <pthread.h>

#include "base/defs.h"

#if defined(__clang__)
#define TS_(x) __attribute__((x))
#else
#define TS_(x)
#endif

// For the reader: in C, clang (14) does not find another member of the same struct by its name, so this compiles to nothing
// and the compiler checks what the functions say.
#define GUARDED_BY(m)
#define REQUIRES(...) TS_(requires_capability(__VA_ARGS__))
#define ACQUIRES(...) TS_(acquire_capability(__VA_ARGS__))
#define RELEASES(...) TS_(release_capability(__VA_ARGS__))
#define EXCLUDES(...) TS_(locks_excluded(__VA_ARGS__))
// For a function that makes or ends a locked object, when nobody else can see it.
#define UNCHECKED TS_(no_thread_safety_analysis)

struct TS_(capability("mutex")) mutex {
    pthread_mutex_t pthread;
    int rank;
};

struct cond {
    pthread_cond_t pthread; // CLOCK_MONOTONIC
};

void mutex_init(struct mutex *mutex, int rank);
void mutex_done(struct mutex *mutex);
void mutex_lock(struct mutex *mutex) ACQUIRES(mutex);
void mutex_unlock(struct mutex *mutex) RELEASES(mutex);

void cond_init(struct cond *cond);
void cond_done(struct cond *cond);
void cond_wait(struct cond *cond, struct mutex *mutex) REQUIRES(mutex);
// False when `deadline_ns` (clock_mono_ns) passed.
bool cond_wait_until(struct cond *cond, struct mutex *mutex, int64_t deadline_ns) REQUIRES(mutex);
void cond_wake_all(struct cond *cond);

#endif
