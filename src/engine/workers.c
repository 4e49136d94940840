// The threads that work off what others queue: four workers for what the watcher finds (exits, removals, lost shims), four
// starters for what a restart policy starts again, because a guest's boot takes seconds and an exit must not wait for it. A job
// may block; the watcher never does.
//
// What is due later waits in one list, ordered by time, with one timer of the watcher's loop for its head.
#include "engine_private.h"

static struct job *take_job(struct pool *pool) REQUIRES(pool->lock)
{
    struct job *job = pool->jobs;
    if (job) {
        pool->jobs = job->next;
        if (!pool->jobs)
            pool->jobs_tail = &pool->jobs;
    }
    return job;
}

static void job_free(struct job *job)
{
    container_unref(job->container);
    free(job);
}

static struct job *next_job(struct pool *pool)
{
    mutex_lock(&pool->lock);
    while (!pool->jobs && !pool->stopping)
        cond_wait(&pool->wake, &pool->lock);
    struct job *job = pool->stopping && pool->drops ? NULL : take_job(pool);
    mutex_unlock(&pool->lock);
    return job;
}

static void *pool_main(void *context)
{
    struct pool *pool = context;
    struct job *job;
    while ((job = next_job(pool))) {
        job->fn(job->container);
        job_free(job);
    }
    return NULL;
}

// Fewer threads than asked for will do; none at all is a failure.
static int pool_start(struct pool *pool, struct err *err)
{
    int failed = 0;
    for (pool->thread_len = 0; pool->thread_len < WORKER_COUNT; pool->thread_len++)
        if ((failed = pthread_create(&pool->threads[pool->thread_len], NULL, pool_main, pool)) != 0)
            break;
    return pool->thread_len ? 0 : err_errno(err, failed, "worker thread");
}

static void pool_stop(struct pool *pool)
{
    mutex_lock(&pool->lock);
    pool->stopping = true;
    cond_wake_all(&pool->wake);
    mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->thread_len; i++)
        pthread_join(pool->threads[i], NULL);
    pool->thread_len = 0;
}

static void pool_drop_jobs(struct pool *pool)
{
    struct job *job;
    do {
        mutex_lock(&pool->lock);
        job = take_job(pool);
        mutex_unlock(&pool->lock);
        if (job)
            job_free(job);
    } while (job);
}

static void pool_add(struct pool *pool, struct job *job)
{
    job->next = NULL;
    mutex_lock(&pool->lock);
    *pool->jobs_tail = job;
    pool->jobs_tail = &job->next;
    cond_wake_all(&pool->wake);
    mutex_unlock(&pool->lock);
}

static struct job *job_new(struct container *container, struct pool *pool, job_fn *fn)
{
    struct job *job = mem_new(struct job);
    job->fn = fn;
    job->pool = pool;
    job->container = container_ref(container);
    return job;
}

void pool_queue(struct container *container, struct pool *pool, job_fn *fn)
{
    pool_add(pool, job_new(container, pool, fn));
}

void worker_queue(struct container *container, job_fn *fn)
{
    pool_queue(container, &container->engine->workers, fn);
}

// ---- what is due later ----------------------------------------------------------------------------------------------

// In the watcher's thread.
static void run_due(void *context)
{
    struct engine *engine = context;
    for (;;) {
        int64_t now_ns = clock_mono_ns();
        mutex_lock(&engine->later_lock);
        struct job *job = engine->later;
        bool due = job && job->due_ns <= now_ns;
        if (due)
            engine->later = job->next;
        mutex_unlock(&engine->later_lock);
        if (!due) {
            loop_set_timer(engine->later_timer, job ? job->due_ns - now_ns : -1);
            return;
        }
        pool_add(job->pool, job);
    }
}

// A job of that function for that container, off the list. At most one stands there.
static struct job *take_later(struct engine *engine, const struct container *container, job_fn *fn) REQUIRES(engine->later_lock)
{
    for (struct job **at = &engine->later; *at; at = &(*at)->next)
        if ((*at)->container == container && (*at)->fn == fn) {
            struct job *job = *at;
            *at = job->next;
            return job;
        }
    return NULL;
}

void later_cancel(struct container *container, job_fn *fn)
{
    struct engine *engine = container->engine;
    mutex_lock(&engine->later_lock);
    struct job *job = take_later(engine, container, fn);
    mutex_unlock(&engine->later_lock);
    if (job)
        job_free(job);
}

void later_queue(struct container *container, struct pool *pool, job_fn *fn, int64_t delay_ns)
{
    struct engine *engine = container->engine;
    struct job *job = job_new(container, pool, fn);
    const int64_t now_ns = clock_mono_ns();
    job->due_ns = now_ns + MIN_OF(delay_ns, INT64_MAX - now_ns); // a health check's times may be as long as the type allows
    mutex_lock(&engine->later_lock);
    struct job *before = take_later(engine, container, fn), **at = &engine->later;
    while (*at && (*at)->due_ns <= job->due_ns)
        at = &(*at)->next;
    job->next = *at;
    *at = job;
    bool first = engine->later == job;
    mutex_unlock(&engine->later_lock);
    if (before)
        job_free(before);
    if (first)
        loop_post(engine->loop, run_due, engine);
}

// ---- all of it ------------------------------------------------------------------------------------------------------

static void pool_init(struct pool *pool)
{
    mutex_init(&pool->lock, RANK_WORKERS);
    cond_init(&pool->wake);
    pool->jobs_tail = &pool->jobs;
}

static void pool_done(struct pool *pool)
{
    mutex_done(&pool->lock);
    cond_done(&pool->wake);
}

void workers_init(struct engine *engine)
{
    pool_init(&engine->workers);
    pool_init(&engine->starters);
    engine->starters.drops = true;
    mutex_init(&engine->later_lock, RANK_WORKERS);
}

int workers_start(struct engine *engine, struct err *err)
{
    if (loop_add_timer(engine->loop, -1, run_due, engine, &engine->later_timer, err) < 0)
        return -1;
    return pool_start(&engine->workers, err) < 0 ? -1 : pool_start(&engine->starters, err);
}

// What is queued is still done, but for starts and what is due later: the next daemon finds out about those by itself.
void workers_stop(struct engine *engine)
{
    pool_stop(&engine->starters);
    pool_stop(&engine->workers);
}

// Starts that were not begun, and events that the watcher saw after the workers had gone: their shims send them again to the next daemon.
void workers_drop(struct engine *engine)
{
    pool_drop_jobs(&engine->starters);
    pool_drop_jobs(&engine->workers);
    struct job *job;
    do {
        mutex_lock(&engine->later_lock);
        if ((job = engine->later))
            engine->later = job->next;
        mutex_unlock(&engine->later_lock);
        if (job)
            job_free(job);
    } while (job);
}

void workers_done(struct engine *engine)
{
    pool_done(&engine->workers);
    pool_done(&engine->starters);
    mutex_done(&engine->later_lock);
}
