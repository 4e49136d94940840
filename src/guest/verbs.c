// The verbs of the guest's part (task/task.h): each a row of the table, a function that reads its arguments and fills a
// result.
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>

#include "guest_private.h"

struct arguments {
    int64_t signal, height, width;
    char *exec_id;
    bool all;
    struct task_streams streams;
};

static const struct json_field arguments_fields[] = {
    JSON_FIELD("signal", JSON_INT, struct arguments, signal),
    JSON_FIELD("height", JSON_INT, struct arguments, height),
    JSON_FIELD("width", JSON_INT, struct arguments, width),
    JSON_FIELD("exec_id", JSON_TEXT, struct arguments, exec_id),
    JSON_FIELD("all", JSON_FLAG, struct arguments, all),
    JSON_FIELD("streams", JSON_STRUCT, struct arguments, streams, .sub = &task_streams_table),
};
static const struct json_table arguments_table = JSON_TABLE(struct arguments, arguments_fields);

struct request {
    struct guest *guest;
    json_t *payload, *result;
    struct arguments arguments;
    struct arena *arena;
};

// ---- finding things ------------------------------------------------------------------------------------------------

static struct guest_unit *find_unit(struct request *request, struct err *err)
{
    struct guest *guest = request->guest;
    const char *exec_id = request->arguments.exec_id;
    if (str_empty(exec_id) && guest->init)
        return guest->init;
    for (struct guest_unit *unit = guest->execs; unit && !str_empty(exec_id); unit = unit->next) {
        if (str_eq(unit->exec_id, exec_id))
            return unit;
    }
    if (str_empty(exec_id))
        err_set(err, ERR_NOT_FOUND, "no task was created");
    else
        err_set(err, ERR_NOT_FOUND, "no exec %.64s", exec_id);
    return NULL;
}

static struct guest_unit *find_live_unit(struct request *request, struct err *err)
{
    struct guest_unit *unit = find_unit(request, err);
    if (!unit || guest_unit_is_live(unit))
        return unit;
    err_set(err, ERR_CONFLICT, "process already finished");
    return NULL;
}

static void set_pid(struct request *request, const struct guest_unit *unit)
{
    json_object_set_new(request->result, "pid", json_integer(sandbox_pid(unit->sandbox)));
}

// ---- create --------------------------------------------------------------------------------------------------------

static bool makes_pid_namespace(const struct oci_linux *section)
{
    for (size_t i = 0; i < section->namespaces.len; i++) {
        const struct oci_namespace *namespaces = section->namespaces.items;
        if (str_eq(namespaces[i].type, "pid") && str_empty(namespaces[i].path))
            return true;
    }
    return false;
}

// A namespace by path is one of the host: there is none here. The network's is the machine's own.
static int check_document(const struct guest *guest, const struct task_document *document, struct err *err)
{
    if (document->version != TASK_DOCUMENT_VERSION)
        return err_set(err, ERR_NOT_IMPLEMENTED, "task document of version %lld", (long long)document->version);
    if (document->init && guest->machine->init_fd < 0)
        return err_set(err, ERR_NOT_IMPLEMENTED, "init: this guest has no berth-init");
    for (size_t i = 0; i < document->linux_section.namespaces.len; i++) {
        const struct oci_namespace *namespaces = document->linux_section.namespaces.items;
        if (!str_empty(namespaces[i].path))
            return err_set(err, ERR_NOT_IMPLEMENTED, "linux.namespaces: a %s namespace by path, in a guest",
                           namespaces[i].type);
    }
    for (size_t i = 0; i < document->mounts.len; i++) {
        const struct task_mount *mount = json_list_at(&document->mounts, &task_mount_table, i);
        if (!str_eq(mount->kind, "tmpfs"))
            return err_set(err, ERR_NOT_IMPLEMENTED, "mount %s: a %s does not reach into a guest", mount->target,
                           mount->kind);
    }
    return 0;
}

// The document has no limits of processors: those are the machine's. Memory and pids are counted inside, where the kills can
// be seen. Devices too: the machine's disks are below the container's root, and must not be written from it.
static int make_cgroup(struct guest *guest, const struct oci_resources *resources, struct arena *arena, struct err *err)
{
    struct cgroup_layout layout;
    struct cgroup_limits limits;
    unsigned missing = 0;
    task_limits(resources, arena, &limits);
    cgroup_layout_probe(&layout);
    if (cgroup_create(&layout, guest->machine->cgroup_path, &guest->cgroup, err) < 0 ||
        cgroup_limit(guest->cgroup, &limits, &missing, err) < 0)
        return -1;
    guest->oom_seen = cgroup_oom_kills(guest->cgroup);
    guest_watch_oom(guest);
    return 0;
}

// What the document names by disks has become one folder: descriptor 0.
static void point_at_root(struct task_document *document, struct arena *arena)
{
    document->rootfs.kind = (char *)"tree";
    document->rootfs.layers = (struct json_list){ 0 };
    json_list_add(&document->rootfs.layers, &task_layer_table, arena);
}

static void plan_cleanup(struct sandbox_plan **plan)
{
    sandbox_plan_free(*plan);
}

// `opened` keeps what the plan borrows until the sandbox is there.
static int make_plan(struct request *request, struct task_document *document, struct fd_list *opened,
                     struct sandbox_plan **out, struct err *err)
{
    const struct guest *guest = request->guest;
    const struct guest_machine *machine = guest->machine;
    struct sandbox_spec spec;
    int root_fd = machine->open_rootfs(machine->context, &document->rootfs, err);
    if (root_fd < 0)
        return -1;
    fd_list_add(opened, root_fd);
    point_at_root(document, request->arena);
    struct fd_list fds = { &root_fd, 1 };
    if (rootfs_spec(document, &fds, machine->files_fd, request->arena, opened, &spec, err) < 0)
        return -1;
    spec.netns_fd = machine->netns_fd;
    spec.cgroup = guest->cgroup;
    spec.init_fd = document->init ? machine->init_fd : -1;
    return sandbox_plan_new(&spec, out, err);
}

static int make_sandbox(struct request *request, struct task_document *document, struct guest_unit *unit,
                        struct err *err)
{
    _cleanup_(fd_list_done) struct fd_list opened = { 0 };
    _cleanup_(plan_cleanup) struct sandbox_plan *plan = NULL;
    _cleanup_(guest_ends_done) struct guest_ends ends = GUEST_ENDS_NONE;
    const struct task_streams *streams = &request->arguments.streams;
    struct sandbox *sandbox;
    int master_fd = -1;
    if (make_plan(request, document, &opened, &plan, err) < 0 ||
        guest_ends_open(streams, document->stdio.terminal, &ends, err) < 0)
        return -1;
    struct sandbox_stdio stdio = { document->stdio.terminal, ends.theirs[GUEST_IN], ends.theirs[GUEST_OUT],
                                   ends.theirs[GUEST_ERROR] };
    if (sandbox_create(plan, &stdio, &sandbox, &master_fd, err) < 0)
        return -1;
    return guest_unit_adopt(unit, sandbox, master_fd, &ends, streams, &document->stdio, err);
}

static int create_task(struct request *request, struct task_document *document, struct err *err)
{
    struct guest *guest = request->guest;
    const struct guest_machine *machine = guest->machine;
    guest->own_pid_namespace = makes_pid_namespace(&document->linux_section);
    guest->init = guest_unit_new(guest, "");
    if (make_cgroup(guest, &document->linux_section.resources, request->arena, err) < 0 ||
        machine->set_network(machine->context, &document->nics, err) < 0)
        return -1;
    return make_sandbox(request, document, guest->init, err);
}

static int verb_create(struct request *request, struct err *err)
{
    struct guest *guest = request->guest;
    struct task_document document;
    if (guest->init)
        return err_set(err, ERR_CONFLICT, "a task was created already");
    if (json_decode(&task_document_table, json_object_get(request->payload, "document"), &document, request->arena,
                    NULL, err) < 0)
        return err_wrap(err, "task document");
    if (check_document(guest, &document, err) < 0)
        return -1;
    if (create_task(request, &document, err) < 0) {
        guest_forget_task(guest);
        return -1;
    }
    json_object_set_new(request->result, "kernel", json_string(guest->machine->kernel));
    return 0;
}

static int verb_start(struct request *request, struct err *err)
{
    struct guest *guest = request->guest;
    if (!guest->init || guest->init->state != GUEST_UNIT_CREATED)
        return err_set(err, ERR_CONFLICT, guest->init ? "the container was started already" : "no task was created");
    if (sandbox_start(guest->init->sandbox, err) < 0) {
        guest_forget_task(guest);
        return -1;
    }
    guest->init->state = GUEST_UNIT_RUNNING;
    set_pid(request, guest->init);
    return 0;
}

// ---- exec ----------------------------------------------------------------------------------------------------------

static int check_exec(struct request *request, struct err *err)
{
    struct guest *guest = request->guest;
    if (!guest->init || guest->init->state != GUEST_UNIT_RUNNING)
        return err_set(err, ERR_CONFLICT, "the container is not running");
    if (guest->exec_len >= GUEST_EXEC_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "%d execs run already", GUEST_EXEC_MAX);
    if (str_empty(request->arguments.exec_id))
        return err_set(err, ERR_INVALID_ARGUMENT, "exec without an id");
    if (find_unit(request, NULL))
        return err_set(err, ERR_CONFLICT, "exec %.64s runs already", request->arguments.exec_id);
    return 0;
}

static int run_exec(struct request *request, const struct task_exec *exec, struct guest_unit *unit, struct err *err)
{
    struct guest *guest = request->guest;
    const struct task_streams *streams = &request->arguments.streams;
    _cleanup_(guest_ends_done) struct guest_ends ends = GUEST_ENDS_NONE;
    struct sandbox_exec wish = { .process = &exec->process, .seccomp_profile = task_exec_seccomp(exec) };
    struct sandbox *sandbox;
    int master_fd = -1;
    if (guest_ends_open(streams, exec->stdio.terminal, &ends, err) < 0)
        return -1;
    struct sandbox_stdio stdio = { exec->stdio.terminal, ends.theirs[GUEST_IN], ends.theirs[GUEST_OUT],
                                   ends.theirs[GUEST_ERROR] };
    if (sandbox_exec(sandbox_pidfd(guest->init->sandbox), guest->cgroup, &wish, &stdio, &sandbox, &master_fd, err) < 0)
        return -1;
    if (guest_unit_adopt(unit, sandbox, master_fd, &ends, streams, &exec->stdio, err) < 0 ||
        sandbox_start(sandbox, err) < 0)
        return -1;
    unit->state = GUEST_UNIT_RUNNING;
    return 0;
}

static int verb_exec(struct request *request, struct err *err)
{
    struct guest *guest = request->guest;
    struct task_exec exec;
    if (json_decode(&task_exec_table, request->payload, &exec, request->arena, NULL, err) < 0 ||
        check_exec(request, err) < 0)
        return -1;
    struct guest_unit *unit = guest_unit_new(guest, exec.exec_id);
    if (run_exec(request, &exec, unit, err) < 0) {
        guest_unit_free(unit);
        return -1;
    }
    unit->next = guest->execs;
    guest->execs = unit;
    guest->exec_len++;
    set_pid(request, unit);
    return 0;
}

// ---- the living ----------------------------------------------------------------------------------------------------

static int verb_kill(struct request *request, struct err *err)
{
    struct guest_unit *unit = find_live_unit(request, err);
    int64_t number = request->arguments.signal;
    if (!unit)
        return -1;
    if (number < 1 || number > SIGRTMAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "signal %lld", (long long)number);
    if (request->arguments.all)
        return cgroup_signal_all(request->guest->cgroup, (int)number, err);
    if (syscall(SYS_pidfd_send_signal, sandbox_pidfd(unit->sandbox), (int)number, NULL, 0) == 0)
        return 0;
    if (errno == ESRCH)
        return err_set(err, ERR_CONFLICT, "process already finished");
    return err_errno(err, errno, "signal %lld", (long long)number);
}

static int verb_resize(struct request *request, struct err *err)
{
    struct guest_unit *unit = find_live_unit(request, err);
    return unit ? guest_unit_resize(unit, request->arguments.height, request->arguments.width, err) : -1;
}

// Also before the start: then the machine was made for this alone.
static int verb_files(struct request *request, struct err *err)
{
    const struct guest_unit *init = request->guest->init;
    if (!init || !init->sandbox || !guest_unit_is_live(init))
        return err_set(err, ERR_CONFLICT, "the container is not running");
    return guest_files_start(request->guest, request->payload, &request->arguments.streams, err);
}

static int verb_resolver(struct request *request, struct err *err)
{
    const struct guest_unit *init = request->guest->init;
    if (!init || !init->sandbox || !guest_unit_is_live(init))
        return err_set(err, ERR_CONFLICT, "the container is not running");
    return guest_names_start(request->guest, request->arguments.streams.in, err);
}

// ---- serving -------------------------------------------------------------------------------------------------------

static const struct {
    const char *name;
    int (*run)(struct request *request, struct err *err);
} verbs[] = {
    { "create", verb_create }, { "start", verb_start },   { "exec", verb_exec },
    { "kill", verb_kill },     { "resize", verb_resize }, { "files", verb_files },
    { "resolver", verb_resolver },
};

static int run_verb(struct request *request, struct err *err)
{
    const char *name = json_get_text(request->payload, "verb", "");
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        if (!str_eq(verbs[i].name, name))
            continue;
        if (request->guest->halted)
            return err_set(err, ERR_UNAVAILABLE, "the guest has halted");
        if (json_decode(&arguments_table, request->payload, &request->arguments, request->arena, NULL, err) < 0)
            return -1;
        return verbs[i].run(request, err);
    }
    return err_set(err, ERR_NOT_IMPLEMENTED, "unknown verb %.64s", name);
}

void guest_serve(void *context, uint64_t id, json_t *payload)
{
    struct guest *guest = context;
    struct err err = { 0 };
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_json_ json_t *result = json_object();
    struct request request = { .guest = guest, .payload = payload, .result = result, .arena = &arena };
    if (run_verb(&request, &err) < 0)
        link_answer_error(guest->link, id, &err);
    else
        link_answer(guest->link, id, result);
}
