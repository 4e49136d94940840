#include <time.h>

#include "base/clock.h"
#include "base/mutex.h"

#ifndef NDEBUG
// Ranks held by this thread, rising, because only a higher one may be added.
enum { HELD_MAX = 16 };
static _Thread_local struct {
    int ranks[HELD_MAX];
    int len;
} held;

static void push_rank(int rank)
{
    if (!rank)
        return;
    if (held.len && held.ranks[held.len - 1] >= rank) {
        dprintf(STDERR_FILENO, "lock order: rank %d taken while rank %d is held\n", rank, held.ranks[held.len - 1]);
        abort();
    }
    if (held.len < HELD_MAX)
        held.ranks[held.len++] = rank;
}

static void pop_rank(int rank)
{
    for (int i = held.len; rank && i-- > 0;)
        if (held.ranks[i] == rank) {
            memmove(&held.ranks[i], &held.ranks[i + 1], (size_t)(held.len - i - 1) * sizeof(held.ranks[0]));
            held.len--;
            return;
        }
}
#else
#define push_rank(rank) ((void)(rank))
#define pop_rank(rank) ((void)(rank))
#endif

void mutex_init(struct mutex *mutex, int rank)
{
    pthread_mutex_init(&mutex->pthread, NULL);
    mutex->rank = rank;
}

void mutex_done(struct mutex *mutex)
{
    pthread_mutex_destroy(&mutex->pthread);
}

UNCHECKED void mutex_lock(struct mutex *mutex)
{
    push_rank(mutex->rank);
    pthread_mutex_lock(&mutex->pthread);
}

UNCHECKED void mutex_unlock(struct mutex *mutex)
{
    pop_rank(mutex->rank); // not after: whoever takes the lock next may free it
    pthread_mutex_unlock(&mutex->pthread);
}

void cond_init(struct cond *cond)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&cond->pthread, &attributes);
    pthread_condattr_destroy(&attributes);
}

void cond_done(struct cond *cond)
{
    pthread_cond_destroy(&cond->pthread);
}

UNCHECKED void cond_wait(struct cond *cond, struct mutex *mutex)
{
    pthread_cond_wait(&cond->pthread, &mutex->pthread);
}

UNCHECKED bool cond_wait_until(struct cond *cond, struct mutex *mutex, int64_t deadline_ns)
{
    const struct timespec deadline = { deadline_ns / NS_PER_S, deadline_ns % NS_PER_S };
    return pthread_cond_timedwait(&cond->pthread, &mutex->pthread, &deadline) == 0;
}

void cond_wake_all(struct cond *cond)
{
    pthread_cond_broadcast(&cond->pthread);
}
