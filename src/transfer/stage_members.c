// Several members of an archive at once: one thread for each core, as long as there are members.
#include <pthread.h>
#include <sched.h>

#include "stage.h"

#define THREADS_MAX 4 // each has an inflater's and a writer's memory, some 12 MiB

struct crew {
    struct stage *stage;
    const struct spool *spool;
    const struct stage_job *jobs;
    size_t len;
    struct mutex lock; // unranked
    size_t next GUARDED_BY(lock);
};

static const struct stage_job *take_job(struct crew *crew)
{
    mutex_lock(&crew->lock);
    const struct stage_job *job = crew->next < crew->len ? &crew->jobs[crew->next++] : NULL;
    mutex_unlock(&crew->lock);
    return job;
}

static void *work(void *context)
{
    struct crew *crew = context;
    for (const struct stage_job *job; (job = take_job(crew));) {
        struct err err = { 0 };
        size_t index;
        if (stage_member(crew->stage, crew->spool, job->member, &job->claim, &index, &err) == 0)
            continue;
        job->member->failure = mem_alloc(sizeof(err));
        *job->member->failure = err;
    }
    return NULL;
}

static size_t core_len(void)
{
    cpu_set_t cores;
    return sched_getaffinity(0, sizeof(cores), &cores) == 0 ? (size_t)CPU_COUNT(&cores) : 1;
}

void stage_members(struct stage *stage, const struct spool *spool, const struct stage_job *jobs, size_t len)
{
    struct crew crew = { .stage = stage, .spool = spool, .jobs = jobs, .len = len };
    pthread_t threads[THREADS_MAX];
    size_t wanted = MIN_OF(MIN_OF(core_len(), len), (size_t)THREADS_MAX), started = 0;
    mutex_init(&crew.lock, 0);
    // This thread is one of them, and does it all where there can be no other.
    while (started + 1 < wanted && pthread_create(&threads[started], NULL, work, &crew) == 0)
        started++;
    work(&crew);
    while (started > 0)
        pthread_join(threads[--started], NULL);
    mutex_done(&crew.lock);
}
