#include <pthread.h>

#include "crew.h"
#include "base/mutex.h"

#define THREADS_MAX CREW_MAX

struct crew {
    size_t len;
    int (*work)(void *context, size_t index, struct err *err);
    void *context;
    atomic_bool *stopped;
    atomic_size_t next;
    struct mutex lock;
    struct err err GUARDED_BY(lock); // the first one
};

static void keep_first(struct crew *crew, const struct err *err)
{
    mutex_lock(&crew->lock);
    if (crew->err.class == ERR_NONE)
        crew->err = *err;
    mutex_unlock(&crew->lock);
    atomic_store(crew->stopped, true);
}

static void *member(void *context)
{
    struct crew *crew = context;
    for (size_t index; !atomic_load(crew->stopped) && (index = atomic_fetch_add(&crew->next, 1)) < crew->len;) {
        struct err err = { 0 };
        if (crew->work(crew->context, index, &err) < 0)
            keep_first(crew, &err);
    }
    return NULL;
}

int crew_run(size_t len, unsigned parallel, int (*work)(void *context, size_t index, struct err *err), void *context,
             atomic_bool *stopped, struct err *err)
{
    struct crew crew = { .len = len, .work = work, .context = context, .stopped = stopped };
    pthread_t threads[THREADS_MAX];
    size_t count = 0, wanted = MIN_OF(MIN_OF((size_t)parallel, (size_t)THREADS_MAX), len);
    mutex_init(&crew.lock, 0);
    while (count < wanted && pthread_create(&threads[count], NULL, member, &crew) == 0)
        count++;
    if (count == 0)
        member(&crew); // no thread to be had, or nothing to do
    for (size_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    mutex_done(&crew.lock);
    if (crew.err.class == ERR_NONE)
        return 0;
    *err = crew.err;
    return -1;
}
