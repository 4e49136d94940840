// The verbs: each a row of the table, a function that reads its arguments and fills a result. What differs between the walls
// is in wall_container.c and wall_vm.c.
#include <signal.h>

#include "shim/wall.h"

static const struct json_field arguments_fields[] = {
    JSON_FIELD("proto_min", JSON_INT, struct arguments, proto_min),
    JSON_FIELD("proto_max", JSON_INT, struct arguments, proto_max),
    JSON_FIELD("signal", JSON_INT, struct arguments, signal),
    JSON_FIELD("height", JSON_INT, struct arguments, height),
    JSON_FIELD("width", JSON_INT, struct arguments, width),
    JSON_FIELD("seq", JSON_INT, struct arguments, seq),
    JSON_FIELD("data_fd", JSON_INT, struct arguments, data_fd),
    JSON_FIELD("report_fd", JSON_INT, struct arguments, report_fd),
    JSON_FIELD("udp_fd", JSON_INT, struct arguments, udp_fd),
    JSON_FIELD("tcp_fd", JSON_INT, struct arguments, tcp_fd),
    JSON_FIELD("lists_fd", JSON_INT, struct arguments, lists_fd),
    JSON_FIELD("exec_id", JSON_TEXT, struct arguments, exec_id),
    JSON_FIELD("all", JSON_FLAG, struct arguments, all),
    JSON_FIELD("attach", JSON_LIST, struct arguments, attach, .sub = &task_attach_table),
};
static const struct json_table arguments_table = JSON_TABLE(struct arguments, arguments_fields);

typedef int verb_fn(struct request *request, struct err *err);

// ---- finding things -------------------------------------------------------------------------------------------------

static struct unit *find_unit(struct request *request, struct err *err)
{
    struct shim *shim = request->shim;
    const char *exec_id = request->arguments.exec_id;
    if (str_empty(exec_id) && shim->init)
        return shim->init;
    for (struct unit *unit = shim->execs; unit && !str_empty(exec_id); unit = unit->next) {
        if (str_eq(unit->exec_id, exec_id))
            return unit;
    }
    if (str_empty(exec_id))
        err_set(err, ERR_NOT_FOUND, "no task was created");
    else
        err_set(err, ERR_NOT_FOUND, "no exec %.64s", exec_id);
    return NULL;
}

static struct unit *find_live_unit(struct request *request, struct err *err)
{
    struct unit *unit = find_unit(request, err);
    if (!unit || unit_is_live(unit))
        return unit;
    err_set(err, ERR_CONFLICT, "process already finished");
    return NULL;
}

static bool is_running(const struct shim *shim)
{
    return shim->init && shim->init->state == UNIT_RUNNING;
}

static int check_running(const struct shim *shim, struct err *err)
{
    return is_running(shim) ? 0 : err_set(err, ERR_CONFLICT, "the container is not running");
}

// What makes new events is refused while too many are not acknowledged: nothing is ever dropped.
static int check_event_room(const struct shim *shim, struct err *err)
{
    if (shim->events.len < SHIM_EVENT_MAX)
        return 0;
    return err_set(err, ERR_RESOURCE_EXHAUSTED, "%d events are not acknowledged", SHIM_EVENT_MAX);
}

static size_t count_clients(const struct stdio *stdio)
{
    size_t len = 0;
    for (const struct client *client = stdio->clients; client; client = client->next)
        len += !client->gone;
    return len;
}

static int check_client_room(const struct request *request, struct err *err)
{
    const struct shim *shim = request->shim;
    size_t len = request->arguments.attach.len + (shim->init ? count_clients(&shim->init->stdio) : 0);
    for (const struct unit *unit = shim->execs; unit; unit = unit->next)
        len += count_clients(&unit->stdio);
    if (len > SHIM_ATTACH_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d attached clients", SHIM_ATTACH_MAX);
    return 0;
}

// The clients that came with a verb, before anything is made for them.
static int take_clients(struct request *request, struct err *err)
{
    if (check_client_room(request, err) < 0)
        return -1;
    for (size_t i = 0; i < request->arguments.attach.len; i++) {
        const struct task_attach *attach = json_list_at(&request->arguments.attach, &task_attach_table, i);
        struct client *client;
        int fd = fd_list_get(&request->fds, attach->fd, "attach", err);
        if (fd < 0 || client_new(attach, fd, &client, err) < 0)
            return -1;
        request->fds.fds[attach->fd] = -1;
        client->next = request->clients;
        request->clients = client;
    }
    return 0;
}

// ---- hello and the end ----------------------------------------------------------------------------------------------

static void replay_events(struct request *request)
{
    struct shim *shim = request->shim;
    for (struct event *event = shim->events.first; event && shim->daemon == request->from; event = event->next)
        connection_send_event(shim, &event->event);
}

static int verb_hello(struct request *request, struct err *err)
{
    struct shim *shim = request->shim;
    int64_t proto = MIN_OF(request->arguments.proto_max, (int64_t)TASK_PROTO_MAX);
    if (proto < TASK_PROTO_MIN || proto < request->arguments.proto_min)
        return err_set(err, ERR_NOT_IMPLEMENTED, "protocol %d to %d is spoken here", TASK_PROTO_MIN, TASK_PROTO_MAX);
    struct connection *before = shim->daemon;
    shim->daemon = request->from;
    if (before && before != request->from)
        connection_close(before);
    request_set_int(request, "proto", proto);
    request_set_int(request, "pid", getpid());
    json_object_set_new(request->result, "version", json_string(BERTH_VERSION));
    request->after = replay_events;
    return 0;
}

static void leave(struct request *request)
{
    shim_leave(request->shim);
}

static void free_execs(struct shim *shim)
{
    while (shim->execs) {
        struct unit *unit = shim->execs;
        shim->execs = unit->next;
        unit_free(unit);
    }
    shim->exec_len = 0;
}

// Execs first: the first process is not dead before every process of its namespace has been reaped, and those are our
// children. What is frozen cannot die.
static void kill_everything(struct shim *shim)
{
    if (shim->paused)
        cgroup_freeze(shim->cgroup, false, NULL);
    shim->wall->end(shim);
    requests_abandon(shim, &(struct err){ .class = ERR_UNAVAILABLE, .message = "the task was deleted" });
    free_execs(shim);
    unit_free(take_ptr(&shim->init));
    if (!shim->own_pid_namespace && shim->cgroup)
        cgroup_kill(shim->cgroup, NS_PER_S, NULL);
}

// The socket's name goes before the answer does: the next start makes one of the same name.
static int verb_delete(struct request *request, struct err *err)
{
    struct shim *shim = request->shim;
    if (shim->init && shim->init->state != UNIT_ENDED)
        kill_everything(shim);
    unlinkat(shim->state_fd, TASK_SOCKET_NAME, 0);
    request->after = leave;
    return 0;
}

static const char *status_of(const struct shim *shim)
{
    switch (shim->init->state) {
    case UNIT_CREATED:
        return "created";
    case UNIT_RUNNING:
        return shim->paused ? "paused" : "running";
    case UNIT_DRAINING: // until the exit is told
        return "running";
    default:
        return "exited";
    }
}

static void reply_fds(struct request *request)
{
    struct shim *shim = request->shim;
    request_set_int(request, "netns_fd", shim->netns_fd >= 0 ? 0 : -1);
    if (shim->netns_fd >= 0)
        request->reply_fds[request->reply_fd_len++] = shim->netns_fd;
    if (shim->relays)
        request->reply_fd_len += relay_set_listeners(shim->relays, request->reply_fds + request->reply_fd_len,
                                                     REPLY_FD_MAX - request->reply_fd_len);
}

static int verb_state(struct request *request, struct err *err)
{
    struct shim *shim = request->shim;
    if (!shim->init)
        return err_set(err, ERR_NOT_FOUND, "no task was created");
    const struct unit *init = shim->init;
    struct task_state state = { .status = (char *)status_of(shim), .pid = unit_is_live(init) ? init->pid : 0,
                                .started_ns = init->started_ns, .oom = init->oom };
    if (init->state == UNIT_ENDED) {
        state.exited_ns = init->exited_ns;
        state.exit_code = init->exit_code;
    }
    for (const struct unit *unit = shim->execs; unit; unit = unit->next) {
        if (unit->state != UNIT_ENDED)
            strv_push_arena(&state.execs, &request->arena, unit->exec_id);
    }
    json_decref(request->result);
    request->result = json_encode(&task_state_table, &state);
    reply_fds(request);
    return 0;
}

// ---- create and start -----------------------------------------------------------------------------------------------

static const struct wall_ops *const walls[] = { &wall_container, &wall_vm };

static const struct wall_ops *find_wall(const char *isolation, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(walls); i++) {
        if (str_eq(walls[i]->isolation, str_empty(isolation) ? "container" : isolation))
            return walls[i];
    }
    err_set(err, ERR_NOT_IMPLEMENTED, "isolation: %.64s", isolation);
    return NULL;
}

static int check_document(struct shim *shim, const struct task_document *document, struct err *err)
{
    if (document->version != TASK_DOCUMENT_VERSION)
        return err_set(err, ERR_NOT_IMPLEMENTED, "task document of version %lld", (long long)document->version);
    if (!str_eq(document->id, shim->container_id))
        return err_set(err, ERR_INVALID_ARGUMENT, "task document of another container");
    shim->wall = find_wall(document->isolation, err);
    return shim->wall ? shim->wall->check(shim, document, err) : -1;
}

static void log_has_room(void *context)
{
    struct shim *shim = context;
    if (shim->init)
        stdio_reader_changed(&shim->init->stdio);
}

static int open_log(struct shim *shim, const struct task_log *log, struct err *err)
{
    if (str_empty(log->driver) || str_eq(log->driver, "none"))
        return 0;
    return log_new(log, shim->loop, log_has_room, shim, &shim->log, err) < 0 ? err_wrap(err, "failed to initialize logging driver") : 0;
}

static int open_cgroup(struct shim *shim, const char *path, struct err *err)
{
    if (str_empty(path))
        return 0;
    struct cgroup_layout layout;
    cgroup_layout_probe(&layout);
    if (layout.version == CGROUP_NONE)
        return 0;
    if (cgroup_open(&layout, path, &shim->cgroup, err) < 0)
        return -1;
    shim->oom_seen = cgroup_oom_kills(shim->cgroup);
    return 0;
}

static int take_network(struct request *request, const struct task_document *document, struct err *err)
{
    struct shim *shim = request->shim;
    if (document->nics.len) {
        const struct task_nic *nic = json_list_at(&document->nics, &task_nic_table, 0);
        shim->netns_fd = nic->netns_fd < 0 ? -1 : fd_list_take(&request->fds, nic->netns_fd, "nics.netns_fd", err);
        if (nic->netns_fd >= 0 && shim->netns_fd < 0)
            return -1;
    }
    if (document->ports.len >= REPLY_FD_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d published ports", REPLY_FD_MAX - 1);
    for (size_t i = 0; i < document->ports.len; i++) {
        const struct task_port *port = json_list_at(&document->ports, &task_port_table, i);
        if (port->listener_fd < 0)
            continue;
        int listener = fd_list_get(&request->fds, port->listener_fd, "ports.listener_fd", err);
        if (listener < 0 || relay_set_add(shim->relays, port, listener, err) < 0)
            return -1;
        request->fds.fds[port->listener_fd] = -1;
    }
    return 0;
}

static void forget_task(struct shim *shim)
{
    if (shim->wall)
        shim->wall->forget(shim);
    unit_free(take_ptr(&shim->init));
    log_free(take_ptr(&shim->log));
    relay_set_free(take_ptr(&shim->relays));
    resolver_free(take_ptr(&shim->resolver));
    if (shim->cgroup)
        cgroup_free(take_ptr(&shim->cgroup));
    fd_close(take_fd(&shim->netns_fd));
    shim->wall = NULL;
}

static int task_created(struct request *request, int outcome, struct err *err)
{
    struct shim *shim = request->shim;
    shim->busy = false;
    if (outcome < 0)
        forget_task(shim);
    else
        request_set_int(request, "pid", shim->init->pid);
    return outcome;
}

static int no_checkpoints(const struct shim *shim, struct err *err)
{
    return err_set(err, ERR_NOT_IMPLEMENTED, "isolation %s: there are no checkpoints behind this wall yet", shim->wall->isolation);
}

static int create_task(struct request *request, const struct task_document *document, struct err *err)
{
    struct shim *shim = request->shim;
    request->then = task_created;
    shim->busy = true;
    if (check_document(shim, document, err) < 0)
        return -1;
    if (!shim->wall->checkpoint && json_object_get(request->payload, "checkpoint"))
        return no_checkpoints(shim, err);
    shim->relays = relay_set_new(shim->loop, shim->copy);
    if (open_cgroup(shim, document->linux_section.cgroups_path, err) < 0 || open_log(shim, &document->log, err) < 0 ||
        take_network(request, document, err) < 0 || take_clients(request, err) < 0)
        return -1;
    shim->init = unit_new(shim, "");
    shim->init->stdio.log = shim->log;
    return shim->wall->create(request, document, err);
}

static int verb_create(struct request *request, struct err *err)
{
    if (request->shim->init || request->shim->busy)
        return err_set(err, ERR_CONFLICT, "a task was created already");
    struct task_document *document = arena_alloc(&request->arena, sizeof(*document));
    if (json_decode(&task_document_table, json_object_get(request->payload, "document"), document, &request->arena,
                    NULL, err) < 0)
        return err_wrap(err, "task document");
    return create_task(request, document, err);
}

static int task_started(struct request *request, int outcome, struct err *err)
{
    struct shim *shim = request->shim;
    shim->busy = false;
    if (outcome < 0) {
        forget_task(shim); // its clients see the end of their stream
        return outcome;
    }
    struct unit *init = shim->init;
    init->state = UNIT_RUNNING;
    init->started_ns = clock_wall_ns();
    shim_settle(shim);
    shim_emit(shim, &(struct task_event){ .kind = (char *)"started", .pid = init->pid, .time_ns = init->started_ns }, NULL);
    request_set_int(request, "pid", init->pid);
    request_set_int(request, "started_ns", init->started_ns);
    return outcome;
}

static int verb_start(struct request *request, struct err *err)
{
    struct shim *shim = request->shim;
    if (!shim->init || shim->init->state != UNIT_CREATED)
        return err_set(err, ERR_CONFLICT, shim->init ? "the container was started already" : "no task was created");
    if (shim->busy)
        return err_set(err, ERR_CONFLICT, "the container is being created or started");
    request->then = task_started;
    shim->busy = true;
    return shim->wall->start(request, err);
}

// ---- exec -----------------------------------------------------------------------------------------------------------

static int check_exec(struct request *request, struct err *err)
{
    struct shim *shim = request->shim;
    if (check_running(shim, err) < 0 || check_event_room(shim, err) < 0)
        return -1;
    if (shim->paused || shim->aide)
        return err_set(err, ERR_CONFLICT, shim->paused ? "the container is paused" : "a checkpoint of the container is being made");
    if (shim->exec_len >= SHIM_EXEC_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "%d execs run already", SHIM_EXEC_MAX);
    if (str_empty(request->arguments.exec_id))
        return err_set(err, ERR_INVALID_ARGUMENT, "exec without an id");
    if (find_unit(request, NULL))
        return err_set(err, ERR_CONFLICT, "exec %.64s runs already", request->arguments.exec_id);
    return 0;
}

static void forget_exec(struct shim *shim, struct unit *unit)
{
    for (struct unit **at = &shim->execs; *at; at = &(*at)->next) {
        if (*at != unit)
            continue;
        *at = unit->next;
        shim->exec_len--;
        unit_free(unit);
        return;
    }
}

// A failure goes back to the daemon, which writes it to the client by its own descriptor: ours are just closed.
static int exec_started(struct request *request, int outcome, struct err *err)
{
    if (outcome < 0)
        forget_exec(request->shim, request->unit);
    else
        request_set_int(request, "pid", request->unit->pid);
    return outcome;
}

static int verb_exec(struct request *request, struct err *err)
{
    struct shim *shim = request->shim;
    struct task_exec *exec = arena_alloc(&request->arena, sizeof(*exec));
    if (json_decode(&task_exec_table, request->payload, exec, &request->arena, NULL, err) < 0 ||
        check_exec(request, err) < 0 || take_clients(request, err) < 0)
        return -1;
    struct unit *unit = request->unit = unit_new(shim, exec->exec_id);
    unit->next = shim->execs;
    shim->execs = unit;
    shim->exec_len++;
    request->then = exec_started;
    return shim->wall->exec(request, exec, err);
}

// ---- the living -----------------------------------------------------------------------------------------------------

static int verb_attach(struct request *request, struct err *err)
{
    struct unit *unit = find_live_unit(request, err);
    if (!unit || check_event_room(request->shim, err) < 0 || take_clients(request, err) < 0)
        return -1;
    unit_take_clients(unit, &request->clients);
    return 0;
}

static int verb_kill(struct request *request, struct err *err)
{
    struct unit *unit = find_live_unit(request, err);
    int64_t number = request->arguments.signal;
    if (!unit)
        return -1;
    if (number < 1 || number > SIGRTMAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "signal %lld", (long long)number);
    const struct wall_ops *wall = request->shim->wall;
    if (request->arguments.all)
        return wall->signal_all(request, (int)number, err);
    return wall->signal(request, unit, (int)number, err);
}

static int verb_resize(struct request *request, struct err *err)
{
    struct unit *unit = find_live_unit(request, err);
    int64_t height = request->arguments.height, width = request->arguments.width;
    if (!unit)
        return -1;
    if (!unit->stdio.terminal)
        return 0; // as Docker: no terminal, nothing to do
    if (height < 0 || height > UINT16_MAX || width < 0 || width > UINT16_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "terminal size %lldx%lld", (long long)height, (long long)width);
    return request->shim->wall->resize(request, unit, height, width, err);
}

static int verb_stdin_close(struct request *request, struct err *err)
{
    struct unit *unit = find_live_unit(request, err);
    if (!unit)
        return -1;
    stdio_close_input(&unit->stdio);
    return 0;
}

static int freeze(struct request *request, bool frozen, struct err *err)
{
    struct shim *shim = request->shim;
    if (check_running(shim, err) < 0 || check_event_room(shim, err) < 0)
        return -1;
    if (shim->paused == frozen)
        return err_set(err, ERR_CONFLICT, frozen ? "the container is paused already" : "the container is not paused");
    if (shim->aide)
        return err_set(err, ERR_CONFLICT, "a checkpoint of the container is being made");
    if (!shim->cgroup)
        return err_set(err, ERR_NOT_IMPLEMENTED, "pausing needs a control group");
    if (cgroup_freeze(shim->cgroup, frozen, err) < 0)
        return -1;
    shim->paused = frozen;
    shim_emit(shim, &(struct task_event){ .kind = (char *)(frozen ? "paused" : "resumed") }, NULL);
    return 0;
}

static int verb_pause(struct request *request, struct err *err)
{
    return freeze(request, true, err);
}

static int verb_resume(struct request *request, struct err *err)
{
    return freeze(request, false, err);
}

static int verb_checkpoint(struct request *request, struct err *err)
{
    struct shim *shim = request->shim;
    if (check_running(shim, err) < 0)
        return -1;
    if (!shim->wall->checkpoint)
        return no_checkpoints(shim, err);
    if (shim->paused || shim->aide)
        return err_set(err, ERR_CONFLICT, shim->paused ? "the container is paused: unpause it for a checkpoint"
                                                       : "a checkpoint of the container is being made");
    return shim->wall->checkpoint(request, err);
}

// The container came to a network, or left one: its published ports are reached at another address.
static int verb_retarget(struct request *request, struct err *err)
{
    struct relay_set *relays = request->shim->relays;
    const char *address = json_get_text(request->payload, "address", ""), *address6 = json_get_text(request->payload, "address6", "");
    return relays ? relay_set_retarget(relays, address, address6, err) : 0;
}

static int verb_root(struct request *request, struct err *err)
{
    return check_running(request->shim, err) < 0 ? -1 : request->shim->wall->root(request, err);
}

// Of the group on the host, whichever wall stands in it. What it has no word for stays as it is.
static int verb_update(struct request *request, struct err *err)
{
    struct shim *shim = request->shim;
    struct oci_resources resources;
    struct cgroup_limits limits;
    if (json_decode(&oci_resources_table, json_object_get(request->payload, "resources"), &resources, &request->arena, NULL, err) < 0)
        return err_wrap(err, "resources");
    if (!shim->init || !unit_is_live(shim->init))
        return err_set(err, ERR_CONFLICT, "the container is not running");
    if (!shim->cgroup)
        return err_set(err, ERR_NOT_IMPLEMENTED, "limits need a control group");
    task_limits(&resources, &request->arena, &limits);
    return cgroup_limit(shim->cgroup, &limits, NULL, err);
}

// Also before the start. Who is frozen would not answer.
static int verb_files(struct request *request, struct err *err)
{
    const struct shim *shim = request->shim;
    if (!shim->init || (shim->init->state != UNIT_CREATED && shim->init->state != UNIT_RUNNING))
        return err_set(err, ERR_CONFLICT, "the container is not running");
    if (shim->paused)
        return err_set(err, ERR_CONFLICT, "the container is paused: unpause it to reach its files");
    return shim->wall->files(request, err);
}

// Also while the container runs: the resolver before, if there is one, has lost its port to the new one.
static int verb_resolver(struct request *request, struct err *err)
{
    const struct shim *shim = request->shim;
    if (!shim->init || !unit_is_live(shim->init))
        return err_set(err, ERR_CONFLICT, "the container is not running");
    return shim->wall->resolver(request, err);
}

// The state that the event told is visible in the API now: whoever waits for the stream's end may see it.
static int verb_event_ack(struct request *request, struct err *err)
{
    struct shim *shim = request->shim;
    int64_t seq = request->arguments.seq;
    if (!event_queue_ack(&shim->events, seq))
        return 0;
    if (shim->init && shim->init->end_seq == seq)
        stdio_finish_clients(&shim->init->stdio);
    for (struct unit *unit = shim->execs; unit; unit = unit->next) {
        if (unit->end_seq == seq)
            stdio_finish_clients(&unit->stdio);
    }
    return 0;
}

// ---- serving --------------------------------------------------------------------------------------------------------

struct verb {
    const char *name;
    verb_fn *run;
    bool silent; // no answer
};

static const struct verb verbs[] = {
    { "hello", verb_hello, false },
    { "create", verb_create, false },
    { "start", verb_start, false },
    { "state", verb_state, false },
    { "delete", verb_delete, false },
    { "exec", verb_exec, false },
    { "attach", verb_attach, false },
    { "kill", verb_kill, false },
    { "resize", verb_resize, false },
    { "stdin_close", verb_stdin_close, false },
    { "pause", verb_pause, false },
    { "resume", verb_resume, false },
    { "checkpoint", verb_checkpoint, false },
    { "retarget", verb_retarget, false },
    { "root", verb_root, false },
    { "files", verb_files, false },
    { "update", verb_update, false },
    { "resolver", verb_resolver, false },
    { "event_ack", verb_event_ack, true },
};

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        if (str_eq(verbs[i].name, name))
            return &verbs[i];
    }
    return NULL;
}

static int run_verb(const struct verb *verb, struct request *request, struct err *err)
{
    if (!verb)
        return err_set(err, ERR_NOT_IMPLEMENTED, "unknown verb %.64s", json_get_text(request->payload, "verb", ""));
    request->silent = verb->silent;
    if (request->shim->leaving)
        return err_set(err, ERR_UNAVAILABLE, "the task was deleted");
    if (json_decode(&arguments_table, request->payload, &request->arguments, &request->arena, NULL, err) < 0)
        return -1;
    return verb->run(request, err);
}

bool verbs_serve(struct connection *connection, struct task_frame *frame)
{
    struct shim *shim = connection->shim;
    const char *name = json_get_text(frame->payload, "verb", "");
    if (frame->type != TASK_REQUEST || (shim->daemon != connection && !str_eq(name, "hello")))
        return false;
    const struct verb *verb = find_verb(name);
    struct request *request = request_open(connection, frame);
    struct err err = { 0 };
    int outcome = run_verb(verb, request, &err);
    return outcome == VERB_LATER ? true : request_finish(request, outcome, &err);
}
