// The thick wall: one machine, in it PID 1 at the other end of the guest link, and everything else behind that.
//
//     booting --hello--> creating --answer--> ready --start--> running --exited--> halting --halted--> gone
//
// The first unit's process, here, is the VMM: its pidfd tells the machine's end whatever the guest says. Its exit code and
// the end of its output come from the guest; the unit is held until the machine is gone, because only then the upper's disk is
// whole and free. A machine that goes without a word of an exit was killed: 137, with the reason and the console's last lines.
//
// The guest is a stranger's. It can say what it likes about its own processes, and nothing about anything else: its words are
// checked for being possible now, and one that is not ends the machine. What it does not say in time, a deadline says.
//
// A machine may have to go while the link is still calling us, and a link is not freed from below its own callbacks. So
// vm_forget() only takes it from the shim; vm_sweep() frees it, from the loop itself.
#include <signal.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "shim/vm.h"

#define DRAIN_NS (5 * NS_PER_S) // the guest waits a while for its own pipes

const struct vm_times vm_times_usual = { .answer_ns = 60 * NS_PER_S, .kill_ns = 5 * NS_PER_S, .halt_ns = 30 * NS_PER_S };

static const struct vmm *const vmms[] = { &vmm_qemu };

enum vm_state { VM_BOOTING, VM_CREATING, VM_READY, VM_RUNNING, VM_HALTING, VM_GONE };

// A verb that went to the guest.
struct vm_call {
    struct vm_call *next;
    struct vm *vm;
    struct request *request; // NULL: finished already
    bool fatal; // a SIGKILL of the first process
    void (*answered)(struct request *request, const json_t *result); // before a good outcome is told; may be NULL
};

struct vm {
    struct vm *next; // of the forgotten
    struct shim *shim; // NULL: forgotten
    enum vm_state state;
    struct link *link;
    struct vm_call *calls;
    struct request *life; // `create`, while it waits for the guest
    json_t *document;
    struct stdio_ends ends; // of the first process, until the guest is told
    struct task_stdio wish;
    struct vm_console console;
    struct loop_source *deadline, *kill_deadline;
    const char *late; // what the deadline is for
    uint32_t last_stream;
    char *reason; // why we ended it
    bool lost; // the VMM has ended
    char *obituary; // how, for who asks later
};

// ---- the machine's end, by our hand ---------------------------------------------------------------------------------

// What is frozen does not die. The rest follows when its pidfd tells.
static void kill_machine(struct vm *vm, const char *reason)
{
    struct shim *shim = vm->shim;
    if (!vm->reason && reason)
        vm->reason = mem_strdup(reason);
    if (shim->paused && shim->cgroup)
        cgroup_freeze(shim->cgroup, false, NULL);
    if (shim->init && shim->init->sandbox)
        syscall(SYS_pidfd_send_signal, sandbox_pidfd(shim->init->sandbox), SIGKILL, NULL, 0);
}

static void break_guest(struct vm *vm, const char *what)
{
    _cleanup_free_ char *reason = mem_printf("its guest broke the protocol: %s", what);
    kill_machine(vm, reason);
}

static void deadline_over(void *context)
{
    struct vm *vm = context;
    _cleanup_free_ char *reason = mem_printf("its guest did not %s in time", vm->late);
    kill_machine(vm, reason);
}

// `late` is what the guest has to do; NULL: nothing.
static void expect(struct vm *vm, const char *late, int64_t ns)
{
    vm->late = late;
    if (vm->deadline)
        loop_set_timer(vm->deadline, late ? ns : -1);
    else if (late && loop_add_timer(vm->shim->loop, ns, deadline_over, vm, &vm->deadline, NULL) < 0)
        kill_machine(vm, "no timer for it");
}

// ---- calls ----------------------------------------------------------------------------------------------------------

static void call_forget(struct vm_call *call)
{
    struct vm_call **at = &call->vm->calls;
    while (*at != call)
        at = &(*at)->next;
    *at = call->next;
    free(call);
}

// What a lost machine leaves unanswered, its end answers: a SIGKILL is carried out.
static int lost_outcome(const struct vm *vm, bool fatal, struct err *err)
{
    if (!vm->lost || err->class != ERR_UNAVAILABLE)
        return -1;
    return fatal ? 0 : err_set(err, ERR_UNAVAILABLE, "%s", vm->obituary);
}

static void call_answered(void *context, json_t *result, const struct err *error)
{
    struct vm_call call = *(struct vm_call *)context;
    call_forget(context);
    if (!call.request)
        return;
    struct err err = { 0 };
    int outcome = 0;
    if (!result) {
        err = *error;
        outcome = lost_outcome(call.vm, call.fatal, &err);
    } else if (call.answered) {
        call.answered(call.request, result);
    }
    request_finish(call.request, outcome, &err);
}

static int call_guest(struct vm *vm, struct request *request, const char *verb, json_t *arguments, bool fatal,
                      void (*answered)(struct request *, const json_t *), struct err *err)
{
    struct vm_call *call = mem_new(struct vm_call);
    *call = (struct vm_call){ .next = vm->calls, .vm = vm, .request = request, .fatal = fatal, .answered = answered };
    int result = link_call(vm->link, verb, arguments, call_answered, call, err);
    json_decref(arguments);
    if (result < 0) {
        free(call);
        return -1;
    }
    vm->calls = call;
    return 0;
}

// A verb that the guest carries out. Takes `arguments`.
static int ask_guest(struct request *request, const char *verb, json_t *arguments, bool fatal,
                     void (*answered)(struct request *, const json_t *), struct err *err)
{
    struct vm *vm = request->shim->vm;
    int outcome = vm->state == VM_GONE ? err_set(err, ERR_UNAVAILABLE, "%s", vm->obituary) : request_defer(request, err);
    if (outcome < 0) {
        json_decref(arguments);
        return -1;
    }
    return call_guest(vm, request, verb, arguments, fatal, answered, err) < 0 ? -1 : VERB_LATER;
}

// The same for what needs no answer of a guest that is frozen: it will hear it first of all.
static int tell_guest(struct request *request, const char *verb, json_t *arguments, bool fatal, struct err *err)
{
    if (!request->shim->paused)
        return ask_guest(request, verb, arguments, fatal, NULL, err);
    return call_guest(request->shim->vm, NULL, verb, arguments, fatal, NULL, err);
}

// ---- streams --------------------------------------------------------------------------------------------------------

static void stream_ended(void *context)
{
    *(struct link_stream **)context = NULL;
}

static int open_stream(struct vm *vm, struct link_stream **place, int *read_fd, int *write_fd, int64_t *number, struct err *err)
{
    int none = -1;
    int *reads = read_fd ? read_fd : &none, *writes = write_fd ? write_fd : &none;
    if (*reads < 0 && *writes < 0)
        return 0;
    if (link_stream_open(vm->link, ++vm->last_stream, *reads, *writes, stream_ended, place, place, err) < 0)
        return -1;
    *reads = *writes = -1;
    *number = vm->last_stream;
    return 0;
}

// Takes the ends that became streams. Nothing is said to the guest here: the numbers travel with the verb.
static int open_streams(struct vm *vm, struct unit *unit, const struct task_stdio *wish, struct stdio_ends *ends,
                        struct task_streams *out, struct err *err)
{
    *out = (struct task_streams){ 0 };
    if (wish->terminal)
        return open_stream(vm, &unit->streams[0], &ends->in, &ends->out, &out->terminal, err);
    if (wish->open_stdin && open_stream(vm, &unit->streams[0], &ends->in, NULL, &out->in, err) < 0)
        return -1;
    if (open_stream(vm, &unit->streams[1], NULL, &ends->out, &out->out, err) < 0)
        return -1;
    return open_stream(vm, &unit->streams[2], NULL, &ends->error, &out->error, err);
}

// ---- the machine's end ----------------------------------------------------------------------------------------------

static void write_obituary(struct vm *vm, int exit_code)
{
    char said[512];
    vm_console_drain(&vm->console);
    vm_console_tail(&vm->console, said, sizeof(said));
    bool killed = exit_code > 128;
    _cleanup_free_ char *how = killed ? mem_printf("its VMM was killed by signal %d", exit_code - 128)
                                      : mem_printf("its VMM ended with exit code %d", exit_code);
    vm->obituary = mem_printf("the machine has ended: %s%s%s", vm->reason ? vm->reason : how, said[0] ? ": " : "", said);
}

static void end_execs(struct shim *shim)
{
    for (struct unit *unit = shim->execs, *next; unit; unit = next) {
        next = unit->next;
        if (unit->state == UNIT_RUNNING)
            unit_exited(unit, 137);
    }
}

static void forget_deadlines(struct vm *vm)
{
    loop_remove(take_ptr(&vm->deadline));
    loop_remove(take_ptr(&vm->kill_deadline));
}

// What the guest had sent is taken first: its words and its output count. Among the calls that are answered then, `create`
// and `start` forget the machine when they fail.
static void machine_lost(struct vm *vm)
{
    struct shim *shim = vm->shim;
    link_lose(vm->link);
    if (vm->shim && vm->life) {
        struct err err = { 0 };
        err_set(&err, ERR_UNAVAILABLE, "%s", vm->obituary);
        request_finish(take_ptr(&vm->life), -1, &err);
    }
    if (!vm->shim)
        return;
    forget_deadlines(vm);
    vm->state = VM_GONE;
    end_execs(shim);
    if (shim->init->state == UNIT_RUNNING) {
        shim->init->message = mem_strdup(vm->obituary);
        unit_exited(shim->init, 137);
    }
    unit_release(shim->init);
}

static void vmm_exited(void *context, int fd, uint32_t events)
{
    struct vm *vm = context;
    struct unit *init = vm->shim->init;
    int exit_code = 255;
    loop_remove(take_ptr(&init->exit_source));
    forget_deadlines(vm);
    if (sandbox_wait(init->sandbox, &exit_code, NULL) < 0)
        exit_code = 255;
    sandbox_free(take_ptr(&init->sandbox));
    vm->lost = true;
    write_obituary(vm, exit_code);
    shim_oom_check(vm->shim);
    machine_lost(vm);
}

// ---- what the guest tells -------------------------------------------------------------------------------------------

static bool exit_code_of(const json_t *event, int *out)
{
    int64_t code = json_get_int(event, "exit_code", -1);
    *out = (int)code;
    return code >= 0 && code <= 255;
}

static void init_exited(struct vm *vm, const json_t *event)
{
    struct unit *init = vm->shim->init;
    int code;
    if (vm->state != VM_RUNNING || !exit_code_of(event, &code)) {
        break_guest(vm, "an exit that can't be");
        return;
    }
    loop_remove(take_ptr(&vm->kill_deadline));
    vm->state = VM_HALTING;
    expect(vm, "halt", vm->shim->vm_times->halt_ns);
    vm->shim->oom = vm->shim->oom || json_get_flag(event, "oom", false);
    init->held = true;
    unit_exited(init, code);
}

static void exec_exited(struct vm *vm, const json_t *event)
{
    const char *exec_id = json_get_text(event, "exec_id", "");
    struct unit *unit = vm->shim->execs;
    int code;
    while (unit && !str_eq(unit->exec_id, exec_id))
        unit = unit->next;
    if (!unit || unit->state != UNIT_RUNNING || !exit_code_of(event, &code))
        break_guest(vm, "an exec's exit that can't be");
    else
        unit_exited(unit, code);
}

static void oom_told(struct vm *vm, const json_t *event)
{
    struct shim *shim = vm->shim;
    if (shim->oom || vm->state != VM_RUNNING)
        return; // once is enough: a guest has many ways to be short of memory
    shim->oom = true;
    shim_emit(shim, &(struct task_event){ .kind = (char *)"oom" }, NULL);
}

static void halted(struct vm *vm, const json_t *event)
{
    kill_machine(vm, vm->state == VM_HALTING ? NULL : "its guest halted");
}

static const struct {
    const char *kind;
    void (*take)(struct vm *vm, const json_t *event);
} guest_events[] = {
    { "exited", init_exited },
    { "exec_exited", exec_exited },
    { "oom", oom_told },
    { "halted", halted },
};

static void link_event_came(void *context, json_t *event)
{
    struct vm *vm = context;
    const char *kind = json_get_text(event, "kind", "");
    for (size_t i = 0; vm->shim && i < ARRAY_LEN(guest_events); i++) {
        if (str_eq(guest_events[i].kind, kind)) {
            guest_events[i].take(vm, event);
            return;
        }
    }
}

static void guest_created(struct request *request, const json_t *result)
{
    struct vm *vm = request->shim->vm;
    struct unit *init = request->shim->init;
    vm->state = VM_READY;
    vm->life = NULL;
    expect(vm, NULL, 0);
    stdio_begin(&init->stdio, -1, &vm->wish, NULL);
    unit_take_clients(init, &request->clients);
}

static int tell_document(struct vm *vm, struct err *err)
{
    struct task_streams streams;
    if (open_streams(vm, vm->shim->init, &vm->wish, &vm->ends, &streams, err) < 0)
        return -1;
    stdio_ends_done(&vm->ends);
    json_t *arguments = json_pack("{s:O, s:o}", "document", vm->document, "streams", json_encode(&task_streams_table, &streams));
    return call_guest(vm, vm->life, "create", arguments, false, guest_created, err);
}

static void link_ready_came(void *context, const json_t *hello)
{
    struct vm *vm = context;
    struct err err = { 0 };
    if (!vm->shim || vm->state != VM_BOOTING)
        return;
    vm->state = VM_CREATING;
    expect(vm, "make its container", vm->shim->vm_times->answer_ns);
    if (tell_document(vm, &err) < 0)
        request_finish(take_ptr(&vm->life), -1, &err);
}

static void link_closed(void *context, const struct err *why)
{
    struct vm *vm = context;
    if (!vm->shim || vm->state == VM_GONE)
        return;
    if (why->class == ERR_UNAVAILABLE) // most likely the VMM has ended, and its own end tells more
        kill_machine(vm, NULL);
    else
        break_guest(vm, why->message);
}

static const struct link_handlers link_handlers = { .ready = link_ready_came, .event = link_event_came, .closed = link_closed };

// ---- create and start -----------------------------------------------------------------------------------------------

static const struct vmm *find_vmm(const char *accel, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(vmms); i++) {
        if (str_eq(vmms[i]->accel, accel))
            return vmms[i];
    }
    err_set(err, ERR_NOT_IMPLEMENTED, "vm.accel: %.64s", accel);
    return NULL;
}

static int vm_check(const struct shim *shim, const struct task_document *document, struct err *err)
{
    if (vm_check_document(document, err) < 0)
        return -1;
    return find_vmm(document->vm->accel, err) ? 0 : -1;
}

static struct vm *vm_new(struct shim *shim, const struct task_document *document)
{
    struct vm *vm = mem_new(struct vm);
    *vm = (struct vm){ .shim = shim, .ends = STDIO_ENDS_NONE, .wish = document->stdio, .console.fd = -1 };
    vm->document = vm_document(document);
    return vm;
}

static uint32_t draw_session(void)
{
    uint32_t session = 0;
    if (getrandom(&session, sizeof(session), 0) != sizeof(session) || session == 0)
        session = (uint32_t)clock_mono_ns() | 1;
    return session;
}

static int launch(struct request *request, struct vm *vm, const struct task_document *document, struct err *err)
{
    struct shim *shim = vm->shim;
    const struct vmm *vmm = find_vmm(document->vm->accel, err);
    int ends[2];
    _cleanup_close_ int console_fd = -1;
    if (vm_console_open(&vm->console, shim->loop, &console_fd, err) < 0 || fd_socketpair(SOCK_STREAM, ends, err) < 0)
        return -1;
    _cleanup_close_ int far = ends[1];
    if (link_connect(vm->link, ends[0], err) < 0) {
        fd_close(ends[0]);
        return -1;
    }
    struct vmm_start start = { .document = document, .fds = &request->fds, .cgroup = shim->cgroup, .arena = &request->arena,
                               .container_fd = shim->container_fd, .link_fd = far, .console_fd = console_fd };
    struct unit *init = shim->init;
    if (vmm->start(&start, &init->sandbox, err) < 0)
        return -1;
    init->pid = sandbox_pid(init->sandbox);
    expect(vm, "say hello", shim->vm_times->boot_ns ? shim->vm_times->boot_ns : vmm->boot_ns);
    return loop_add_fd(shim->loop, sandbox_pidfd(init->sandbox), EPOLLIN, vmm_exited, vm, &init->exit_source, err);
}

static int vm_create(struct request *request, const struct task_document *document, struct err *err)
{
    struct shim *shim = request->shim;
    struct unit *init = shim->init;
    struct vm *vm = shim->vm = vm_new(shim, document);
    shim->own_pid_namespace = true;
    init->grace_ns = DRAIN_NS;
    init->stdio.far = true;
    if (link_new(shim->loop, LINK_HOST, draw_session(), NULL, &link_handlers, vm, &vm->link, err) < 0 ||
        stdio_open(&init->stdio, &document->stdio, false, &vm->ends, err) < 0 || launch(request, vm, document, err) < 0)
        return -1;
    if (request_defer(request, err) < 0)
        return -1;
    vm->life = request;
    return VERB_LATER;
}

static void guest_started(struct request *request, const json_t *result)
{
    struct vm *vm = request->shim->vm;
    vm->state = VM_RUNNING;
    expect(vm, NULL, 0);
}

static int vm_start(struct request *request, struct err *err)
{
    struct vm *vm = request->shim->vm;
    expect(vm, vm->state == VM_GONE ? NULL : "start its process", vm->shim->vm_times->answer_ns);
    return ask_guest(request, "start", NULL, false, guest_started, err);
}

// ---- exec -----------------------------------------------------------------------------------------------------------

static void guest_ran(struct request *request, const json_t *result)
{
    struct unit *unit = request->unit;
    int64_t pid = json_get_int(result, "pid", 0);
    unit->pid = pid > 0 && pid <= INT32_MAX ? (pid_t)pid : 0; // the guest's own, and only for people
    unit->state = UNIT_RUNNING;
    unit->started_ns = clock_wall_ns();
    stdio_begin(&unit->stdio, -1, NULL, NULL);
    unit_take_clients(unit, &request->clients);
}

static int vm_exec(struct request *request, const struct task_exec *exec, struct err *err)
{
    struct vm *vm = request->shim->vm;
    struct unit *unit = request->unit;
    struct task_streams streams = { 0 };
    bool discard = !request->clients && !exec->stdio.terminal;
    _cleanup_(stdio_ends_done) struct stdio_ends ends = STDIO_ENDS_NONE;
    unit->grace_ns = DRAIN_NS;
    unit->stdio.far = true;
    if (!discard && (stdio_open(&unit->stdio, &exec->stdio, false, &ends, err) < 0 ||
                     open_streams(vm, unit, &exec->stdio, &ends, &streams, err) < 0))
        return -1;
    json_t *arguments = json_encode(&task_exec_table, exec);
    json_object_set_new(arguments, "streams", json_encode(&task_streams_table, &streams));
    return ask_guest(request, "exec", arguments, false, guest_ran, err);
}

// ---- the living -----------------------------------------------------------------------------------------------------

static void kill_late(void *context)
{
    struct vm *vm = context;
    for (struct vm_call *call = vm->calls; call; call = call->next) {
        struct err err = { 0 };
        if (call->fatal && call->request)
            request_finish(take_ptr(&call->request), 0, &err);
    }
    kill_machine(vm, "its guest did not carry out SIGKILL in time");
}

static int send_signal(struct request *request, const char *exec_id, int number, bool all, struct err *err)
{
    struct vm *vm = request->shim->vm;
    bool fatal = number == SIGKILL && str_empty(exec_id) && vm->state == VM_RUNNING;
    if (fatal && !vm->kill_deadline &&
        loop_add_timer(vm->shim->loop, vm->shim->vm_times->kill_ns, kill_late, vm, &vm->kill_deadline, err) < 0)
        return -1;
    json_t *arguments = json_pack("{s:i, s:s, s:b}", "signal", number, "exec_id", exec_id ? exec_id : "", "all", all);
    return tell_guest(request, "kill", arguments, fatal, err);
}

static int vm_signal(struct request *request, struct unit *unit, int number, struct err *err)
{
    return send_signal(request, unit->exec_id, number, false, err);
}

static int vm_signal_all(struct request *request, int number, struct err *err)
{
    return send_signal(request, "", number, true, err);
}

static int vm_resize(struct request *request, struct unit *unit, int64_t height, int64_t width, struct err *err)
{
    json_t *arguments = json_pack("{s:s, s:I, s:I}", "exec_id", unit->exec_id, "height", (json_int_t)height, "width",
                                  (json_int_t)width);
    return tell_guest(request, "resize", arguments, false, err);
}

// ---- the end --------------------------------------------------------------------------------------------------------

static void vm_forget(struct shim *shim)
{
    struct vm *vm = take_ptr(&shim->vm);
    if (!vm)
        return;
    if (shim->init) {
        loop_remove(take_ptr(&shim->init->exit_source));
        unit_drop_streams(shim->init);
    }
    for (struct unit *unit = shim->execs; unit; unit = unit->next)
        unit_drop_streams(unit);
    for (struct vm_call *call = vm->calls; call; call = call->next)
        call->request = NULL; // finished by who forgets
    forget_deadlines(vm);
    vm_console_done(&vm->console);
    vm->shim = NULL;
    vm->next = shim->forgotten;
    shim->forgotten = vm;
    shim_schedule_sweep(shim);
}

static void vm_free(struct vm *vm)
{
    link_free(vm->link);
    while (vm->calls) {
        struct vm_call *call = vm->calls;
        vm->calls = call->next;
        free(call);
    }
    stdio_ends_done(&vm->ends);
    json_decref(vm->document);
    free(vm->reason);
    free(vm->obituary);
    free(vm);
}

void vm_sweep(struct shim *shim)
{
    while (shim->forgotten) {
        struct vm *vm = shim->forgotten;
        shim->forgotten = vm->next;
        vm_free(vm);
    }
}

const struct wall_ops wall_vm = {
    .isolation = "vm",
    .check = vm_check,
    .create = vm_create,
    .start = vm_start,
    .exec = vm_exec,
    .signal = vm_signal,
    .signal_all = vm_signal_all,
    .resize = vm_resize,
    .end = vm_forget,
    .forget = vm_forget,
};
