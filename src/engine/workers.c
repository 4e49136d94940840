// Four workers for what the watcher finds: exits, removals, lost shims. A job may block; the watcher never does.
#include "engine_private.h"

static struct job *next_job(struct engine *engine)
{
    struct job *job = NULL;
    mutex_lock(&engine->worker_lock);
    while (!engine->jobs && !engine->stopping)
        cond_wait(&engine->worker_wake, &engine->worker_lock);
    job = engine->jobs;
    if (job) {
        engine->jobs = job->next;
        if (!engine->jobs)
            engine->jobs_tail = &engine->jobs;
    }
    mutex_unlock(&engine->worker_lock);
    return job;
}

static void *worker_main(void *context)
{
    struct engine *engine = context;
    struct job *job;
    while ((job = next_job(engine))) {
        job->fn(engine, job->context);
        free(job);
    }
    return NULL;
}

void workers_start(struct engine *engine)
{
    mutex_init(&engine->worker_lock, RANK_WORKERS);
    cond_init(&engine->worker_wake);
    engine->jobs_tail = &engine->jobs;
    for (engine->worker_len = 0; engine->worker_len < WORKER_COUNT; engine->worker_len++)
        if (pthread_create(&engine->workers[engine->worker_len], NULL, worker_main, engine) != 0)
            break;
}

// Jobs that are queued are still done: an exit that was seen is recorded.
void workers_stop(struct engine *engine)
{
    mutex_lock(&engine->worker_lock);
    engine->stopping = true;
    cond_wake_all(&engine->worker_wake);
    mutex_unlock(&engine->worker_lock);
    for (unsigned i = 0; i < engine->worker_len; i++)
        pthread_join(engine->workers[i], NULL);
    engine->worker_len = 0;
}

void worker_queue(struct engine *engine, void (*fn)(struct engine *, void *), void *context)
{
    struct job *job = mem_new(struct job);
    job->fn = fn;
    job->context = context;
    mutex_lock(&engine->worker_lock);
    *engine->jobs_tail = job;
    engine->jobs_tail = &job->next;
    cond_wake_all(&engine->worker_wake);
    mutex_unlock(&engine->worker_lock);
}
