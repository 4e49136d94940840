// The lists of solves and sessions.
#include "base/fd.h"
#include "buildkit_private.h"

static bool good_name(const char *name)
{
    size_t len = name ? strlen(name) : 0;
    if (len == 0 || len > NAME_MAX_SIZE)
        return false;
    for (size_t i = 0; i < len; i++)
        if (name[i] <= ' ' || name[i] > '~')
            return false;
    return true;
}

// ---- solves ---------------------------------------------------------------------------------------------------------

void solve_free(struct solve *solve)
{
    buf_done(&solve->events);
    scan_done(solve);
    arena_done(&solve->arena);
    free(solve->ref);
    free(solve->session);
    free(solve);
}

struct solve *solve_find(struct buildkit *buildkit, const char *ref)
{
    for (struct solve *solve = buildkit->solves; solve; solve = solve->next)
        if (str_eq(solve->ref, ref))
            return solve;
    return NULL;
}

// A build's progress may be asked for when it is over: the last ones stay, the list's head is the newest.
void solves_forget(struct buildkit *buildkit)
{
    size_t over = 0, pinned = 0, size = 0;
    for (struct solve **at = &buildkit->solves, *solve; (solve = *at);) {
        bool kept = solve->pinned && ++pinned <= HISTORY_MAX;
        over += solve->over && !kept;
        size += solve->over ? MAX_OF(solve->events.size, solve->kept_size) : 0;
        if (solve->over && solve->users == 0 && (solve->deleted || (!kept && over > HISTORY_MAX) || size > HISTORY_SIZE_MAX)) {
            *at = solve->next;
            size -= MAX_OF(solve->events.size, solve->kept_size);
            history_unlink(solve);
            solve_free(solve);
        } else {
            at = &solve->next;
        }
    }
}

static int check_solve(struct buildkit *buildkit, const char *ref, struct err *err)
{
    size_t running = 0;
    for (struct solve *solve = buildkit->solves; solve; solve = solve->next)
        running += !solve->over;
    if (!good_name(ref))
        return err_set(err, ERR_INVALID_ARGUMENT, "a build needs a ref");
    if (running >= SOLVES_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "%d builds at a time", SOLVES_MAX);
    return solve_find(buildkit, ref) ? err_set(err, ERR_CONFLICT, "job ID %s exists", ref) : 0;
}

int solve_begin(struct buildkit *buildkit, const struct solve_request *request, struct solve *settings, struct solve **out, struct err *err)
{
    mutex_lock(&buildkit->lock);
    int result = check_solve(buildkit, request->ref, err);
    if (result == 0) {
        solves_forget(buildkit);
        struct solve *solve = mem_new(struct solve);
        solve->buildkit = buildkit;
        solve->ref = mem_strdup(request->ref);
        solve->session = mem_strdup(request->session ? request->session : "");
        solve->arena = settings->arena;
        memcpy(solve->outputs, settings->outputs, sizeof(solve->outputs));
        solve->output_len = settings->output_len;
        solve->cache_from = settings->cache_from;
        solve->cache_from_len = settings->cache_from_len;
        solve->cache_to = settings->cache_to;
        solve->cache_to_len = settings->cache_to_len;
        solve->cache_max = settings->cache_max;
        solve->events = (struct buf)BUF_INIT(EVENTS_MAX);
        solve->users = 1;
        solve->internal = request->internal;
        solve->began_ns = clock_wall_ns();
        solve->generation = ++buildkit->generation;
        solve->next = buildkit->solves;
        buildkit->solves = solve;
        *out = solve;
        cond_wake_all(&buildkit->changed);
    }
    mutex_unlock(&buildkit->lock);
    return result;
}

// What is waited for comes with another connection of the client, so a cancelled call is looked for now and then.
static bool wait_a_moment(struct buildkit *buildkit, const struct cancel *cancel, int64_t deadline_ns) REQUIRES(&buildkit->lock)
{
    int64_t now_ns = clock_mono_ns();
    if (now_ns >= deadline_ns || cancel_now(cancel))
        return false;
    cond_wait_until(&buildkit->changed, &buildkit->lock, MIN_OF(now_ns + NS_PER_S, deadline_ns));
    return true;
}

int solve_get(struct buildkit *buildkit, const char *ref, const struct cancel *cancel, struct solve **out, struct err *err)
{
    int64_t deadline_ns = clock_mono_ns() + WAIT_NS;
    struct solve *solve = NULL;
    if (!good_name(ref))
        return err_set(err, ERR_INVALID_ARGUMENT, "no buildid found in context");
    mutex_lock(&buildkit->lock);
    while (!(solve = solve_find(buildkit, ref)) && wait_a_moment(buildkit, cancel, deadline_ns))
        ;
    if (solve)
        solve->users++;
    mutex_unlock(&buildkit->lock);
    *out = solve;
    return solve ? 0 : err_set(err, ERR_NOT_FOUND, "no such job %s", ref);
}

void solve_put(struct solve *solve)
{
    if (!solve)
        return;
    struct buildkit *buildkit = solve->buildkit;
    mutex_lock(&buildkit->lock);
    solve->users--;
    solves_forget(buildkit);
    mutex_unlock(&buildkit->lock);
}

// ---- sessions -------------------------------------------------------------------------------------------------------

static struct buildkit_session *find_session(struct buildkit *buildkit, const char *id)
{
    for (struct buildkit_session *session = buildkit->sessions; session; session = session->next)
        if (!session->ended && str_eq(session->id, id))
            return session;
    return NULL;
}

static int check_session(struct buildkit *buildkit, const char *id, struct err *err)
{
    size_t len = 0;
    for (struct buildkit_session *session = buildkit->sessions; session; session = session->next)
        len++;
    if (!good_name(id))
        return err_set(err, ERR_INVALID_ARGUMENT, "a session needs an id: X-Docker-Expose-Session-Uuid");
    if (len >= SESSIONS_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "%d sessions at a time", SESSIONS_MAX);
    return find_session(buildkit, id) ? err_set(err, ERR_CONFLICT, "session %s already exists", id) : 0;
}

int buildkit_session_check(struct buildkit *buildkit, const char *id, struct err *err)
{
    mutex_lock(&buildkit->lock);
    int result = check_session(buildkit, id, err);
    mutex_unlock(&buildkit->lock);
    return result;
}

static struct buildkit_session *add_session(struct buildkit *buildkit, const char *id, const char *key, struct grpc *grpc)
{
    struct buildkit_session *session = mem_new(struct buildkit_session);
    session->buildkit = buildkit;
    session->id = mem_strdup(id);
    session->key = mem_strdup(key ? key : "");
    session->grpc = grpc;
    session->next = buildkit->sessions;
    buildkit->sessions = session;
    cond_wake_all(&buildkit->changed);
    return session;
}

// Nobody gets it any more; whoever has it is waited for.
static void remove_session(struct buildkit_session *session)
{
    struct buildkit *buildkit = session->buildkit;
    mutex_lock(&buildkit->lock);
    session->ended = true;
    while (session->users > 0)
        cond_wait(&buildkit->changed, &buildkit->lock);
    struct buildkit_session **at = &buildkit->sessions;
    while (*at != session)
        at = &(*at)->next;
    *at = session->next;
    mutex_unlock(&buildkit->lock);
    free(session->id);
    free(session->key);
    free(session);
}

void buildkit_session_serve(struct buildkit *buildkit, const char *id, const char *key, int take_fd, const struct cancel *stop)
{
    const struct grpc_config config = { .role = GRPC_CLIENT, .message_max = MESSAGE_MAX };
    struct grpc *grpc;
    if (grpc_new(&config, take_fd, &grpc, NULL) < 0)
        return;
    mutex_lock(&buildkit->lock);
    struct buildkit_session *session = check_session(buildkit, id, NULL) == 0 ? add_session(buildkit, id, key, grpc) : NULL;
    mutex_unlock(&buildkit->lock);
    if (session) {
        grpc_run(grpc, stop);
        remove_session(session);
    }
    grpc_free(grpc);
}

int session_get(struct buildkit *buildkit, const char *id, const struct cancel *cancel, struct buildkit_session **out, struct err *err)
{
    int64_t deadline_ns = clock_mono_ns() + WAIT_NS;
    struct buildkit_session *session = NULL;
    mutex_lock(&buildkit->lock);
    while (!(session = find_session(buildkit, id)) && wait_a_moment(buildkit, cancel, deadline_ns))
        ;
    if (session)
        session->users++;
    mutex_unlock(&buildkit->lock);
    *out = session;
    return session ? 0 : err_set(err, ERR_NOT_FOUND, "no active session for %s", id);
}

void session_put(struct buildkit_session *session)
{
    if (!session)
        return;
    mutex_lock(&session->buildkit->lock);
    session->users--;
    cond_wake_all(&session->buildkit->changed);
    mutex_unlock(&session->buildkit->lock);
}

// ---- the face -------------------------------------------------------------------------------------------------------

int buildkit_new(const struct buildkit_config *config, struct buildkit **out, struct err *err)
{
    struct buildkit *buildkit = mem_new(struct buildkit);
    buildkit->config = *config;
    mutex_init(&buildkit->lock, 0);
    cond_init(&buildkit->changed);
    cond_init(&buildkit->told);
    if (history_open(buildkit, config->history, err) < 0) {
        buildkit_free(buildkit);
        return -1;
    }
    *out = buildkit;
    return 0;
}

void buildkit_free(struct buildkit *buildkit)
{
    if (!buildkit)
        return;
    for (struct solve *solve = buildkit->solves, *next; solve; solve = next) {
        next = solve->next;
        solve_free(solve);
    }
    fd_close(buildkit->history_fd);
    cond_done(&buildkit->changed);
    cond_done(&buildkit->told);
    mutex_done(&buildkit->lock);
    free(buildkit);
}

static const struct grpc_method methods[] = {
    { "/moby.buildkit.v1.Control/Info", handle_info },
    { "/moby.buildkit.v1.Control/ListWorkers", handle_workers },
    { "/moby.buildkit.v1.Control/Solve", handle_solve },
    { "/moby.buildkit.v1.Control/Status", handle_status },
    { "/moby.buildkit.v1.Control/DiskUsage", handle_usage },
    { "/moby.buildkit.v1.Control/Prune", handle_prune },
    { "/moby.buildkit.v1.Control/ListenBuildHistory", handle_history },
    { "/moby.buildkit.v1.Control/UpdateBuildHistory", handle_history_update },
    { "/moby.buildkit.v1.Control/Session", handle_session_call },
    { "/moby.buildkit.v1.frontend.LLBBridge/Ping", handle_ping },
    { "/moby.buildkit.v1.frontend.LLBBridge/Solve", handle_bridge_solve },
    { "/moby.buildkit.v1.frontend.LLBBridge/Return", handle_return },
    { "/grpc.health.v1.Health/Check", handle_health },
};

void buildkit_serve(struct buildkit *buildkit, int take_fd, const struct cancel *stop)
{
    const struct grpc_config config = { GRPC_SERVER, methods, ARRAY_LEN(methods), buildkit, MESSAGE_MAX, 0 };
    struct grpc *grpc;
    if (grpc_new(&config, take_fd, &grpc, NULL) < 0)
        return;
    grpc_run(grpc, stop);
    grpc_free(grpc);
}

int take_message(struct grpc_call *call, const struct proto_message *table, void *out, struct err *err)
{
    _cleanup_buf_ struct buf message = BUF_INIT(MESSAGE_MAX);
    if (grpc_recv_one(call, &message, err) < 0)
        return -1;
    char *kept = arena_strndup(grpc_arena(call), buf_text(&message), 0);
    if (message.size) {
        kept = arena_alloc(grpc_arena(call), message.size);
        memcpy(kept, message.data, message.size);
    }
    return proto_decode((struct slice){ kept, message.size }, table, grpc_arena(call), out, err);
}

int send_message(struct grpc_call *call, const struct proto_message *table, const void *in, struct err *err)
{
    _cleanup_buf_ struct buf message = BUF_INIT(MESSAGE_MAX);
    proto_encode(table, in, &message);
    if (buf_check(&message, "answer", err) < 0)
        return -1;
    return grpc_send(call, (struct slice){ buf_text(&message), message.size }, err);
}
