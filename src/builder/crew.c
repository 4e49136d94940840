// Theory of operation: a stage is in the hands of one thread, which does step after step of it until it is finished, or its next step needs a stage
// that is not. Then it is put down, and whoever has nothing to do takes it up again once it can go on. No thread waits for a stage, so no two can wait
// for each other, and there are as many threads as processors (but two), the caller's among them. Of several stages the uppermost in the file goes first.
//
// A stage needs its base to begin, and what a --from names at the step that names it (build/graph.h). Two stages that come to the same step do it once:
// the second finds in the cache what the first has made.
//
// What fails first is the build's failure. The others are cancelled, and waited for.
#include <errno.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/fd.h"
#include "builder_private.h"

#define WORKERS_MAX 16
#define MEMORY_MAX ((size_t)256 << 20) // of all stages; as much as one Dockerfile may take

// ---- its life -------------------------------------------------------------------------------------------------------

static int watch(const struct crew *crew, int fd, struct err *err)
{
    struct epoll_event event = { .events = EPOLLIN };
    return fd >= 0 && epoll_ctl(crew->either_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? err_errno(err, errno, "epoll") : 0;
}

int crew_open(struct crew *crew, struct builder *builder, const char *id, const struct cancel *cancel, struct err *err)
{
    *crew = (struct crew){ .id = str_empty(id) ? NULL : id, .stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .either_fd = epoll_create1(EPOLL_CLOEXEC) };
    mutex_init(&crew->lock, 0);
    mutex_init(&crew->voice, 0);
    mutex_init(&crew->asking, 0);
    cond_init(&crew->changed);
    mutex_lock(&builder->lock);
    crew->next = builder->crews;
    builder->crews = crew;
    mutex_unlock(&builder->lock);
    crew->cancel = (struct cancel){ cancel ? cancel->fd : -1, crew->either_fd };
    if (crew->stop_fd < 0 || crew->either_fd < 0)
        return err_errno(err, errno, "a build");
    return watch(crew, crew->stop_fd, err) < 0 || watch(crew, cancel ? cancel->event_fd : -1, err) < 0 ? -1 : 0;
}

void crew_close(struct crew *crew, struct builder *builder)
{
    mutex_lock(&builder->lock);
    for (struct crew **at = &builder->crews; *at; at = &(*at)->next)
        if (*at == crew) {
            *at = crew->next;
            break;
        }
    if (crew->settled && !builder->crews)
        cache_sweep_twins(builder);
    mutex_unlock(&builder->lock);
    cache_used(builder, &crew->found);
    sources_done(crew);
    strv_done(&crew->found);
    strv_done(&crew->made);
    fd_close(crew->stop_fd);
    fd_close(crew->either_fd);
    cond_done(&crew->changed);
    mutex_done(&crew->asking);
    mutex_done(&crew->voice);
    mutex_done(&crew->lock);
}

void crew_stop(struct crew *crew)
{
    eventfd_write(crew->stop_fd, 1);
}

// ---- which one ------------------------------------------------------------------------------------------------------

static bool is_there(const struct stage *stage, const char *from)
{
    const struct build *build = stage->build;
    enum graph_origin origin;
    size_t index;
    struct err later = { 0 }; // a name that is wrong is the step's to report
    return !from || graph_from(build->graph, stage->index, from, &origin, &index, &later) < 0 || origin != GRAPH_STAGE || build->stages[index].finished;
}

static bool can_go_on(const struct build *build, const struct stage *stage) REQUIRES(&build->crew->lock)
{
    const struct graph_node *node = &build->graph->nodes[stage->index];
    if (!stage->begun)
        return node->origin != GRAPH_STAGE || build->stages[node->base_stage].finished;
    if (stage->done == stage->todo_len)
        return true;
    const struct instruction *next = stage->todo[stage->done];
    if (next->kind == INSTRUCTION_COPY)
        return is_there(stage, next->copy.from);
    for (size_t i = 0; next->kind == INSTRUCTION_RUN && i < next->run.mounts_len; i++)
        if (!is_there(stage, next->run.mounts[i].from))
            return false;
    return true;
}

static struct stage *pick(const struct build *build) REQUIRES(&build->crew->lock)
{
    const struct graph *graph = build->graph;
    struct crew *crew = build->crew;
    while (crew->first < graph->len && (!graph->nodes[crew->first].needed || build->stages[crew->first].finished))
        crew->first++;
    for (size_t i = crew->first; i < graph->len; i++) {
        struct stage *stage = &build->stages[i];
        if (graph->nodes[i].needed && !stage->finished && !stage->busy && can_go_on(build, stage))
            return stage;
    }
    return NULL;
}

// ---- work -----------------------------------------------------------------------------------------------------------

// The whole's view, but with an arena of the stage's, whatever is made in which thread.
static void give_view(const struct build *build, struct stage *stage)
{
    stage->build = mem_new(struct build);
    *stage->build = *build;
    stage->build->stage = stage;
    stage->build->arena = stage->build->global.arena = &stage->arena;
    stage->build->folders = (unsigned)stage->index << 20; // names of its folders are its own
    stage->build->held = (struct held){ 0 };
    stage->build->step = (unsigned)build->file->globals_len;
    for (size_t i = 0; i < stage->index; i++)
        stage->build->step += build->graph->nodes[i].needed ? 1 + (unsigned)build->graph->nodes[i].stage->len : 0;
}

static void fail(struct crew *crew, struct stage *stage, const struct err *err) REQUIRES(&crew->lock)
{
    if (!crew->over) {
        crew->failed = stage;
        crew->failure = *err;
    }
    crew->over = true;
    crew_stop(crew);
}

static int count_memory(struct crew *crew, size_t before, size_t after, struct err *err) REQUIRES(&crew->lock)
{
    crew->memory += after - before;
    return crew->memory <= MEMORY_MAX ? 0 : err_set(err, ERR_RESOURCE_EXHAUSTED, "the build needs more than %zu MiB of memory", MEMORY_MAX >> 20);
}

// Until it is finished (1), has to be put down (0), or fails.
static int go_on(struct build *build, struct stage *stage, struct err *err)
{
    struct crew *crew = build->crew;
    for (;;) {
        size_t before = stage->arena.used;
        int last = stage_advance(stage, err);
        if (last > 0)
            say_end(stage);
        mutex_lock(&build->crew->lock);
        if (count_memory(build->crew, before, stage->arena.used, err) < 0)
            last = -1;
        bool more = last == 0 && !crew->over && can_go_on(build, stage);
        mutex_unlock(&build->crew->lock);
        crew_release(stage);
        if (!more && last <= 0)
            say_down(stage, last == 0 ? "waits" : err->class == ERR_CANCELLED ? "cancelled" : "failed");
        if (!more)
            return last;
    }
}

static void work(struct build *build)
{
    struct crew *crew = build->crew;
    mutex_lock(&build->crew->lock);
    while (!crew->over) {
        struct stage *stage = pick(build);
        if (!stage && crew->busy == 0)
            break;
        if (!stage) {
            cond_wait(&crew->changed, &build->crew->lock);
            continue;
        }
        struct err err = { 0 };
        if (!stage->build)
            give_view(build, stage);
        stage->busy = true;
        crew->busy++;
        mutex_unlock(&build->crew->lock);
        int result = go_on(build, stage, &err);
        mutex_lock(&build->crew->lock);
        stage->busy = false;
        stage->finished = result > 0;
        crew->busy--;
        if (result < 0)
            fail(build->crew, stage, &err);
        cond_wake_all(&crew->changed);
    }
    cond_wake_all(&crew->changed);
    mutex_unlock(&build->crew->lock);
}

static void *work_thread(void *build)
{
    work(build);
    return NULL;
}

static size_t workers_for(const struct build *build)
{
    cpu_set_t cores;
    size_t len = sched_getaffinity(0, sizeof(cores), &cores) == 0 ? (size_t)CPU_COUNT(&cores) : 1;
    return MIN_OF(MIN_OF(MAX_OF(len, (size_t)2), (size_t)WORKERS_MAX), build->graph->needed_len); // two, for steps that wait for a network
}

int crew_work(struct build *build, struct err *err)
{
    struct crew *crew = build->crew;
    pthread_t threads[WORKERS_MAX];
    size_t len = 0, wanted = workers_for(build);
    say_begin(build);
    while (len + 1 < wanted && pthread_create(&threads[len], NULL, work_thread, build) == 0)
        len++; // with fewer it takes longer
    work(build);
    while (len > 0)
        pthread_join(threads[--len], NULL);
    if (!crew->failed)
        return build->stages[build->graph->target].finished ? 0 : err_set(err, ERR_INTERNAL, "a stage waits for one that never comes");
    build->exit_code = crew->failed->build->exit_code;
    build->place = crew->failed->build->place;
    *err = crew->failure;
    return -1;
}

void crew_done(struct build *build)
{
    for (size_t i = 0; build->stages && i < build->graph->len; i++) {
        struct stage *stage = &build->stages[i];
        if (stage->build)
            json_decref(stage->build->held.lines);
        free(stage->build);
        arena_done(&stage->arena);
    }
}

// ---- what stages ask of each other ----------------------------------------------------------------------------------

static bool is_made(const struct build *build, const struct stage *mine, const char *key) REQUIRES(&build->crew->lock)
{
    for (size_t i = build->crew->first; i < build->graph->len; i++)
        if (&build->stages[i] != mine && str_eq(build->stages[i].making, key))
            return true;
    return false;
}

void crew_claim(struct stage *stage, const char *key)
{
    struct build *build = stage->build;
    struct crew *crew = build->crew;
    mutex_lock(&build->crew->lock);
    stage->making[0] = '\0'; // who waits has nothing that others wait for
    cond_wake_all(&crew->changed);
    while (crew->busy > 1 && !crew->over && is_made(build, stage, key))
        cond_wait(&crew->changed, &build->crew->lock);
    snprintf(stage->making, sizeof(stage->making), "%s", key);
    mutex_unlock(&build->crew->lock);
}

void crew_release(struct stage *stage)
{
    struct crew *crew = stage->build->crew;
    mutex_lock(&crew->lock);
    stage->making[0] = '\0';
    cond_wake_all(&crew->changed);
    mutex_unlock(&crew->lock);
}

int crew_need(struct stage *stage, const struct instruction *trigger, struct err *err)
{
    struct build *build = stage->build;
    struct crew *crew = build->crew;
    struct graph *graph = build->graph;
    _cleanup_free_ bool *before = mem_alloc(graph->len * sizeof(*before));
    mutex_lock(&crew->lock);
    for (size_t i = 0; i < graph->len; i++)
        before[i] = graph->nodes[i].needed;
    int more = graph_add(graph, stage->index, trigger, 1, build->arena, err);
    for (size_t i = 0; i < graph->len && more > 0; i++)
        if (graph->nodes[i].needed && !before[i])
            crew->steps += 1 + (unsigned)graph->nodes[i].stage->len;
    if (more > 0)
        crew->first = 0;
    mutex_unlock(&crew->lock);
    return more < 0 ? -1 : 0;
}

struct engine_login crew_login(struct build *build, const char *domain)
{
    mutex_lock(&build->crew->asking);
    const struct engine_login login = build->request->login(build->request->login_of, domain);
    mutex_unlock(&build->crew->asking);
    return login;
}

int crew_secret(struct build *build, const char *id, struct buf *out, struct err *err)
{
    mutex_lock(&build->crew->asking);
    int result = build->request->secret(build->request->secret_of, id, out, err);
    mutex_unlock(&build->crew->asking);
    return result;
}

int crew_folder(struct build *build, const char *name, struct build_kept **out, struct err *err)
{
    mutex_lock(&build->crew->asking);
    int result = build->request->folder(build->request->folder_of, name, out, err);
    mutex_unlock(&build->crew->asking);
    return result;
}

int crew_layout(struct build *build, const struct named_layout *layout, build_take_fn *take, void *with, struct err *err)
{
    mutex_lock(&build->crew->asking);
    int result = build->request->layout(build->request->layout_of, layout->store, layout->digest, layout->platform, take, with, err);
    mutex_unlock(&build->crew->asking);
    return result;
}
