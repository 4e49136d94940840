// A process behind the wall, from its making to the event that tells its end.
//
//     created --start--> running --pidfd--> draining --output at its end--> ended --acknowledged--> clients closed
//
// `draining` lasts until every writer of the process's pipes is gone. The first process takes its pid namespace with it,
// so that is at once; a grandchild of an exec may keep them, and then a short grace ends the wait.
#include "shim/shim_private.h"

static void unit_end(struct unit *unit);

static void on_drained(void *context)
{
    struct unit *unit = context;
    if (unit->state == UNIT_DRAINING)
        unit_end(unit);
}

static void on_detached(void *context)
{
    struct unit *unit = context;
    shim_emit(unit->shim, &(struct task_event){ .kind = (char *)"detached", .exec_id = unit->exec_id }, NULL);
}

static void on_client_gone(void *context)
{
    struct unit *unit = context;
    shim_schedule_sweep(unit->shim);
}

struct unit *unit_new(struct shim *shim, const char *exec_id)
{
    struct unit *unit = mem_new(struct unit);
    unit->shim = shim;
    unit->exec_id = mem_strdup(exec_id);
    unit->stdio = (struct stdio){ .loop = shim->loop, .copy = shim->copy, .stall_ns = SHIM_READER_STALL_NS,
                                  .in_fd = -1, .in_pending = BUF_INIT(SHIM_COPY_SIZE), .on_drained = on_drained,
                                  .on_detached = on_detached, .on_client_gone = on_client_gone, .context = unit };
    unit->stdio.outlets[0] = (struct outlet){ .stdio = &unit->stdio, .stream = STDIO_OUT, .fd = -1 };
    unit->stdio.outlets[1] = (struct outlet){ .stdio = &unit->stdio, .stream = STDIO_ERROR, .fd = -1 };
    return unit;
}

void unit_free(struct unit *unit)
{
    if (!unit)
        return;
    loop_remove(unit->exit_source);
    loop_remove(unit->grace);
    sandbox_free(unit->sandbox);
    stdio_done(&unit->stdio);
    free(unit->exec_id);
    free(unit);
}

bool unit_is_init(const struct unit *unit)
{
    return str_empty(unit->exec_id);
}

bool unit_is_live(const struct unit *unit)
{
    return unit->state == UNIT_CREATED || unit->state == UNIT_RUNNING;
}

// ---- the end --------------------------------------------------------------------------------------------------------

static void unit_end(struct unit *unit)
{
    struct shim *shim = unit->shim;
    loop_remove(take_ptr(&unit->grace));
    unit->state = UNIT_ENDED;
    struct err err;
    struct task_event event = { .kind = (char *)"exec_exited", .exec_id = unit->exec_id, .pid = unit->pid,
                                .exit_code = unit->exit_code, .time_ns = unit->exited_ns };
    if (unit_is_init(unit)) {
        shim_init_ended(shim);
        unit->oom = shim->oom;
        event.kind = (char *)"exited";
        event.exec_id = NULL;
        event.oom = unit->oom;
        if (exit_record_write(shim->container_fd, unit->exit_code, unit->exited_ns, unit->started_ns, unit->oom, &err) < 0)
            event.message = err.message; // the event itself still tells all to the daemon that is there
    }
    shim_emit(shim, &event, &unit->end_seq);
    if (!shim->daemon)
        stdio_finish_clients(&unit->stdio);
    shim_schedule_sweep(shim);
}

static void grace_over(void *context)
{
    struct unit *unit = context;
    stdio_abandon_output(&unit->stdio);
    if (unit->state == UNIT_DRAINING)
        unit_end(unit);
}

static void process_exited(void *context, int fd, uint32_t events)
{
    struct unit *unit = context;
    struct shim *shim = unit->shim;
    loop_remove(take_ptr(&unit->exit_source));
    if (sandbox_wait(unit->sandbox, &unit->exit_code, NULL) < 0)
        unit->exit_code = 255;
    sandbox_free(take_ptr(&unit->sandbox));
    unit->exited_ns = clock_wall_ns();
    unit->state = UNIT_DRAINING;
    if (!unit_is_init(unit))
        shim->exec_len--;
    else if (!shim->own_pid_namespace && shim->cgroup)
        cgroup_kill(shim->cgroup, NS_PER_S, NULL); // nothing else ends what the first process left behind
    shim_oom_check(shim);
    stdio_process_died(&unit->stdio);
    if (stdio_drained(&unit->stdio))
        unit_end(unit);
    else if (loop_add_timer(shim->loop, SHIM_DRAIN_GRACE_NS, grace_over, unit, &unit->grace, NULL) < 0)
        grace_over(unit);
}

// ---- the beginning --------------------------------------------------------------------------------------------------

int unit_adopt(struct unit *unit, struct sandbox *sandbox, int master_fd, const struct task_stdio *wish,
               struct client *clients, struct err *err)
{
    unit->sandbox = sandbox;
    unit->pid = sandbox_pid(sandbox);
    if (stdio_begin(&unit->stdio, master_fd, wish, err) < 0)
        return -1;
    if (loop_add_fd(unit->shim->loop, sandbox_pidfd(sandbox), EPOLLIN, process_exited, unit, &unit->exit_source, err) < 0)
        return -1;
    while (clients) {
        struct client *client = clients;
        clients = client->next;
        stdio_add_client(&unit->stdio, client);
        if (client_watch(client, NULL) < 0)
            client_drop(client);
    }
    return 0;
}

int unit_begin(struct unit *unit, struct err *err)
{
    if (sandbox_start(unit->sandbox, err) < 0)
        return -1;
    unit->state = UNIT_RUNNING;
    unit->started_ns = clock_wall_ns();
    return 0;
}
