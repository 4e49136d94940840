// A process behind the wall, from its making to the event that tells its end.
//
//     created --start--> running --its end--> draining --output at its end--> ended --acknowledged--> clients closed
//
// `draining` lasts until every writer of the process's pipes is gone. The first process takes its pid namespace with it,
// so that is at once; a grandchild of an exec may keep them, and then a short grace ends the wait. The first process of a
// machine is held until the machine itself is gone.
#include "shim/shim_private.h"
#include "task/link.h"

static void unit_end(struct unit *unit);

static void on_drained(void *context)
{
    struct unit *unit = context;
    if (unit->state == UNIT_DRAINING && !unit->held)
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
    unit->grace_ns = SHIM_DRAIN_GRACE_NS;
    unit->stdio = (struct stdio){ .loop = shim->loop, .copy = shim->copy, .stall_ns = SHIM_READER_STALL_NS,
                                  .in_fd = -1, .in_pending = BUF_INIT(SHIM_COPY_SIZE), .on_drained = on_drained,
                                  .on_detached = on_detached, .on_client_gone = on_client_gone, .context = unit };
    unit->stdio.outlets[0] = (struct outlet){ .stdio = &unit->stdio, .stream = STDIO_OUT, .fd = -1 };
    unit->stdio.outlets[1] = (struct outlet){ .stdio = &unit->stdio, .stream = STDIO_ERROR, .fd = -1 };
    return unit;
}

void unit_drop_streams(struct unit *unit)
{
    for (size_t i = 0; i < UNIT_STREAM_MAX; i++) {
        if (unit->streams[i])
            link_stream_drop(take_ptr(&unit->streams[i]));
    }
}

void unit_free(struct unit *unit)
{
    if (!unit)
        return;
    loop_remove(unit->exit_source);
    loop_remove(unit->grace);
    sandbox_free(unit->sandbox);
    unit_drop_streams(unit);
    stdio_done(&unit->stdio);
    free(unit->exec_id);
    free(unit->message);
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
                                .exit_code = unit->exit_code, .time_ns = unit->exited_ns, .message = unit->message };
    if (unit_is_init(unit)) {
        shim_init_ended(shim);
        unit->oom = shim->oom;
        event.kind = (char *)"exited";
        event.exec_id = NULL;
        event.oom = unit->oom;
        if (exit_record_write(shim->container_fd, unit->exit_code, unit->exited_ns, unit->started_ns, unit->oom, &err) < 0 &&
            !event.message)
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

static void await_output(struct unit *unit)
{
    struct shim *shim = unit->shim;
    if (unit->held)
        return;
    if (stdio_drained(&unit->stdio))
        unit_end(unit);
    else if (loop_add_timer(shim->loop, unit->grace_ns, grace_over, unit, &unit->grace, NULL) < 0)
        grace_over(unit);
}

void unit_exited(struct unit *unit, int exit_code)
{
    unit->exit_code = exit_code;
    unit->exited_ns = clock_wall_ns();
    unit->state = UNIT_DRAINING;
    if (!unit_is_init(unit))
        unit->shim->exec_len--;
    shim_oom_check(unit->shim);
    stdio_process_died(&unit->stdio);
    await_output(unit);
}

void unit_release(struct unit *unit)
{
    if (!unit->held)
        return;
    unit->held = false;
    if (unit->state == UNIT_DRAINING)
        await_output(unit);
}

// ---- the beginning --------------------------------------------------------------------------------------------------

void unit_take_clients(struct unit *unit, struct client **clients)
{
    struct client *next;
    for (struct client *client = take_ptr(clients); client; client = next) {
        next = client->next;
        stdio_add_client(&unit->stdio, client);
        if (client_watch(client, NULL) < 0)
            client_drop(client);
    }
}
