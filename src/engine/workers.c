// Four workers for what the watcher finds: exits, removals, lost shims. A job may block; the watcher never does.
#include "engine_private.h"

static struct job *take_job(struct engine *engine) REQUIRES(engine->worker_lock)
{
    struct job *job = engine->jobs;
    if (job) {
        engine->jobs = job->next;
        if (!engine->jobs)
            engine->jobs_tail = &engine->jobs;
    }
    return job;
}

static void job_free(struct job *job)
{
    container_unref(job->container);
    free(job);
}

static struct job *next_job(struct engine *engine)
{
    mutex_lock(&engine->worker_lock);
    while (!engine->jobs && !engine->stopping)
        cond_wait(&engine->worker_wake, &engine->worker_lock);
    struct job *job = take_job(engine);
    mutex_unlock(&engine->worker_lock);
    return job;
}

static void *worker_main(void *context)
{
    struct engine *engine = context;
    struct job *job;
    while ((job = next_job(engine))) {
        job->fn(job->container);
        job_free(job);
    }
    return NULL;
}

// Fewer than four will do; none at all is a failure.
int workers_start(struct engine *engine, struct err *err)
{
    int failed = 0;
    for (engine->worker_len = 0; engine->worker_len < WORKER_COUNT; engine->worker_len++)
        if ((failed = pthread_create(&engine->workers[engine->worker_len], NULL, worker_main, engine)) != 0)
            break;
    return engine->worker_len ? 0 : err_errno(err, failed, "worker thread");
}

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

// Events that the watcher saw after the workers had gone: their shims send them again to the next daemon.
void workers_done(struct engine *engine)
{
    struct job *job;
    do {
        mutex_lock(&engine->worker_lock);
        job = take_job(engine);
        mutex_unlock(&engine->worker_lock);
        if (job)
            job_free(job);
    } while (job);
}

void worker_queue(struct container *container, job_fn *fn)
{
    struct engine *engine = container->engine;
    struct job *job = mem_new(struct job);
    job->fn = fn;
    job->container = container_ref(container);
    mutex_lock(&engine->worker_lock);
    *engine->jobs_tail = job;
    engine->jobs_tail = &job->next;
    cond_wake_all(&engine->worker_wake);
    mutex_unlock(&engine->worker_lock);
}
