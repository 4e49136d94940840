// The shim's life: one loop from the first connection to `delete`.
//
// It leaves by itself in two cases only: nobody ever gave it a task and nobody is connected, or its container has ended
// and its state folder is gone. Else it stays, with the exit record and the events, until a daemon comes.
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "shim/vm.h"

#define SETTLE_NS NS_PER_S // a container that lives so long is worth a cgroup of its own for its shim
#define HOUSEKEEPING_NS (10 * NS_PER_S)
#define IDLE_ROUNDS 3 // without task and daemon

// ---- events ---------------------------------------------------------------------------------------------------------

void shim_emit(struct shim *shim, const struct task_event *event, int64_t *seq)
{
    const struct task_event *kept = event_queue_add(&shim->events, event);
    if (seq)
        *seq = kept->seq;
    connection_send_event(shim, kept);
}

void shim_daemon_gone(struct shim *shim)
{
    if (shim->init && shim->init->state == UNIT_ENDED)
        stdio_finish_clients(&shim->init->stdio);
    for (struct unit *unit = shim->execs; unit; unit = unit->next) {
        if (unit->state == UNIT_ENDED)
            stdio_finish_clients(&unit->stdio);
    }
    shim_watch_housekeeping(shim);
}

void shim_oom_check(struct shim *shim)
{
    if (!shim->cgroup)
        return;
    int64_t kills = cgroup_oom_kills(shim->cgroup);
    if (kills <= shim->oom_seen)
        return;
    shim->oom_seen = kills;
    shim->oom = true;
    shim_emit(shim, &(struct task_event){ .kind = (char *)"oom" }, NULL);
}

void shim_init_ended(struct shim *shim)
{
    if (shim->log)
        log_end(shim->log, clock_wall_ns());
    relay_set_stop(shim->relays); // what the container still sent is passed on
    resolver_free(take_ptr(&shim->resolver));
    shim->paused = false;
    shim_watch_housekeeping(shim);
}

// ---- sweeping -------------------------------------------------------------------------------------------------------

static void sweep_execs(struct shim *shim)
{
    for (struct unit **at = &shim->execs; *at;) {
        struct unit *unit = *at;
        stdio_sweep(&unit->stdio);
        if (unit->state != UNIT_ENDED || stdio_has_clients(&unit->stdio)) {
            at = &unit->next;
            continue;
        }
        *at = unit->next;
        unit_free(unit);
    }
}

static void sweep(void *context)
{
    struct shim *shim = context;
    shim->sweeping = false;
    connection_sweep(shim);
    vm_sweep(shim);
    sweep_execs(shim);
    if (shim->init)
        stdio_sweep(&shim->init->stdio);
    bool busy = shim->execs || (shim->init && stdio_has_clients(&shim->init->stdio));
    if (shim->leaving && !busy)
        loop_stop(shim->loop);
}

void shim_schedule_sweep(struct shim *shim)
{
    if (shim->sweeping)
        return;
    shim->sweeping = true;
    loop_post(shim->loop, sweep, shim);
}

void shim_leave(struct shim *shim)
{
    shim->leaving = true;
    loop_remove(take_ptr(&shim->listener_source));
    fd_close(take_fd(&shim->listener));
    if (shim->init)
        stdio_finish_clients(&shim->init->stdio);
    for (struct unit *unit = shim->execs; unit; unit = unit->next)
        stdio_finish_clients(&unit->stdio);
    shim_schedule_sweep(shim);
}

// ---- housekeeping: only where there is something to look after -------------------------------------------------------

static bool is_known_child(const struct shim *shim, pid_t pid)
{
    if (shim->init && shim->init->sandbox && shim->init->pid == pid)
        return true;
    for (const struct unit *unit = shim->execs; unit; unit = unit->next) {
        if (unit->sandbox && unit->pid == pid)
            return true;
    }
    return false;
}

// As subreaper we inherit orphans of containers that share the host's pid namespace. Our own children are reaped through
// their pidfds: one of those in front only delays the strays behind it.
static void reap_strays(struct shim *shim)
{
    for (;;) {
        siginfo_t info = { 0 };
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0 ||
            is_known_child(shim, info.si_pid))
            return;
        waitpid(info.si_pid, NULL, WNOHANG);
    }
}

static bool state_folder_is_gone(const struct shim *shim)
{
    struct stat status;
    return fstat(shim->state_fd, &status) == 0 && status.st_nlink == 0;
}

static bool is_abandoned(struct shim *shim)
{
    if (shim->init)
        return shim->init->state == UNIT_ENDED && state_folder_is_gone(shim);
    shim->idle_rounds = shim->daemon ? 0 : shim->idle_rounds + 1;
    return shim->idle_rounds >= IDLE_ROUNDS;
}

static void housekeeping(void *context)
{
    struct shim *shim = context;
    loop_remove(take_ptr(&shim->housekeeping));
    reap_strays(shim);
    if (is_abandoned(shim))
        shim_leave(shim);
    else
        shim_watch_housekeeping(shim);
}

void shim_watch_housekeeping(struct shim *shim)
{
    bool needed = !shim->init || shim->init->state == UNIT_ENDED || !shim->own_pid_namespace;
    if (needed && !shim->housekeeping && !shim->leaving)
        loop_add_timer(shim->loop, HOUSEKEEPING_NS, housekeeping, shim, &shim->housekeeping, NULL);
}

// What the start needed and a life does not (the document, its plan) goes back to the system: a thousand shims wait side by side.
// The daemon's own group must not be charged with us: in the cgroup2 tree, where joining a group costs nothing, a shim
// moves beside the containers of its daemon. Best effort: without such a tree it stays where it was born.
static void settle(void *context)
{
    struct shim *shim = context;
    loop_remove(take_ptr(&shim->settle));
    malloc_trim(0);
    if (!shim->init || !unit_is_live(shim->init) || !shim->cgroup)
        return;
    const struct cgroup_layout *found = cgroup_layout_of(shim->cgroup);
    struct cgroup_layout unified = { .version = CGROUP_V2 };
    for (size_t i = 0; i < found->len; i++) {
        if (found->hierarchies[i].v2)
            unified.hierarchies[unified.len++] = found->hierarchies[i];
    }
    char path[64];
    snprintf(path, sizeof(path), "berth-%s/shim", shim->daemon_id);
    struct cgroup *cgroup;
    if (!unified.len || cgroup_create(&unified, path, &cgroup, NULL) < 0)
        return;
    cgroup_join(cgroup, getpid(), NULL);
    cgroup_free(cgroup);
}

void shim_settle(struct shim *shim)
{
    if (!shim->settle)
        loop_add_timer(shim->loop, SETTLE_NS, settle, shim, &shim->settle, NULL);
    shim_watch_housekeeping(shim);
}

// ---- beginning and end ----------------------------------------------------------------------------------------------

static void ignore_signal(int number)
{
}

// Handlers that do nothing instead of SIG_IGN: an ignored signal would stay ignored in the container's processes.
static void ignore_signals(void)
{
    static const int numbers[] = { SIGPIPE, SIGHUP, SIGINT, SIGQUIT, SIGTERM };
    struct sigaction action = { .sa_handler = ignore_signal, .sa_flags = SA_RESTART };
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        sigaction(numbers[i], &action, NULL);
}

static int shim_init(struct shim *shim, const char *daemon_id, const char *container_id, struct err *err)
{
    *shim = (struct shim){ .daemon_id = daemon_id, .container_id = container_id, .listener = SHIM_FD_LISTENER,
                           .state_fd = SHIM_FD_STATE, .container_fd = SHIM_FD_CONTAINER, .netns_fd = -1,
                           .vm_times = &vm_times_usual };
    shim->init_fd = fcntl(SHIM_FD_INIT, F_GETFD) < 0 ? -1 : SHIM_FD_INIT;
    for (int fd = SHIM_FD_LISTENER; fd <= SHIM_FD_INIT; fd++)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    ignore_signals();
    shim->copy = mem_alloc(SHIM_COPY_SIZE);
    if (loop_new(&shim->loop, err) < 0 || connection_listen(shim, err) < 0)
        return -1;
    shim_watch_housekeeping(shim);
    return 0;
}

static void shim_done(struct shim *shim)
{
    for (struct connection *connection = shim->connections; connection; connection = connection->next)
        connection_close(connection);
    connection_sweep(shim);
    if (shim->wall)
        shim->wall->end(shim);
    requests_abandon(shim, &(struct err){ .class = ERR_UNAVAILABLE, .message = "the shim is leaving" });
    vm_sweep(shim);
    while (shim->execs) {
        struct unit *unit = shim->execs;
        shim->execs = unit->next;
        unit_free(unit);
    }
    unit_free(take_ptr(&shim->init));
    relay_set_free(shim->relays);
    resolver_free(shim->resolver);
    log_free(shim->log);
    if (shim->cgroup)
        cgroup_free(shim->cgroup);
    event_queue_done(&shim->events);
    loop_remove(shim->settle);
    loop_remove(shim->housekeeping);
    loop_remove(shim->listener_source);
    fd_close(shim->netns_fd);
    fd_close(shim->listener);
    loop_free(shim->loop);
    free(shim->copy);
}

int shim_run(const char *daemon_id, const char *container_id)
{
    struct shim shim;
    int status = shim_init(&shim, daemon_id, container_id, NULL) < 0 || loop_run(shim.loop, NULL) < 0;
    shim.leaving = true;
    shim_done(&shim);
    return status;
}
