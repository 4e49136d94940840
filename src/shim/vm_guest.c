// The conversation with a machine's guest: calls, streams, what it tells, and how it ends. Whose idea is whose: wall_vm.c.
#include <signal.h>
#include <sys/syscall.h>

#include "shim/vm.h"

#define KERNEL_NAME_MAX 128 // what uname may say, and a little more
#define GUEST_WORDS_MAX 256

// ---- the machine's end, by our hand ---------------------------------------------------------------------------------

void vm_kill_machine(struct vm *vm, const char *reason)
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
    vm_kill_machine(vm, reason);
}

static void deadline_over(void *context)
{
    struct vm *vm = context;
    _cleanup_free_ char *reason = mem_printf("its guest did not %s in time", vm->late);
    vm_kill_machine(vm, reason);
}

void vm_expect(struct vm *vm, const char *late, int64_t ns)
{
    vm->late = late;
    if (vm->deadline)
        loop_set_timer(vm->deadline, late ? ns : -1);
    else if (late && loop_add_timer(vm->shim->loop, ns, deadline_over, vm, &vm->deadline, NULL) < 0)
        vm_kill_machine(vm, "no timer for it");
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

int vm_ask(struct request *request, const char *verb, json_t *arguments, bool fatal,
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

int vm_tell(struct request *request, const char *verb, json_t *arguments, bool fatal, struct err *err)
{
    if (!request->shim->paused)
        return vm_ask(request, verb, arguments, fatal, NULL, err);
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

int vm_open_streams(struct vm *vm, struct unit *unit, const struct task_stdio *wish, struct stdio_ends *ends,
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

void vm_forget_deadlines(struct vm *vm)
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
    vm_forget_deadlines(vm);
    vm->state = VM_GONE;
    end_execs(shim);
    if (shim->init->state == UNIT_RUNNING) {
        shim->init->message = mem_strdup(vm->obituary);
        unit_exited(shim->init, 137);
    } else if (!vm->halted && !shim->init->message) {
        shim->init->message = mem_printf("what was written may not be whole: %s", vm->obituary);
    }
    unit_release(shim->init);
}

void vm_process_exited(void *context, int fd, uint32_t events)
{
    struct vm *vm = context;
    struct unit *init = vm->shim->init;
    int exit_code = 255;
    loop_remove(take_ptr(&init->exit_source));
    vm_forget_deadlines(vm);
    if (sandbox_wait(init->sandbox, &exit_code, NULL) < 0)
        exit_code = 255;
    sandbox_free(take_ptr(&init->sandbox));
    vm->lost = true;
    vm_dial_done(&vm->dial);
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
    vm_expect(vm, "halt", vm->shim->vm_times->halt_ns);
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

// A stranger's words, for people's eyes.
static char *plain_words(const char *text)
{
    char *plain = mem_strndup(text, GUEST_WORDS_MAX);
    for (char *c = plain; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    return plain;
}

// `message`: the upper could not be put away as it should.
static void halted(struct vm *vm, const json_t *event)
{
    _cleanup_free_ char *trouble = plain_words(json_get_text(event, "message", ""));
    struct unit *init = vm->shim->init;
    if (vm->state == VM_HALTING && trouble[0] && !init->message)
        init->message = mem_printf("what was written may not be whole: its guest could not %s", trouble);
    vm->halted = true;
    vm_kill_machine(vm, vm->state == VM_HALTING ? NULL : "its guest halted");
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
    if (!vm->shim || vm->reason) // who lied, or came too late, is heard no more
        return;
    for (size_t i = 0; i < ARRAY_LEN(guest_events); i++) {
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
    vm_expect(vm, NULL, 0);
    stdio_begin(&init->stdio, -1, &vm->wish, NULL);
    unit_take_clients(init, &request->clients);
    _cleanup_free_ char *kernel = mem_strndup(json_get_text(result, "kernel", ""), KERNEL_NAME_MAX);
    json_object_set_new(request->result, "kernel", json_new_text(kernel));
}

static int tell_document(struct vm *vm, struct err *err)
{
    struct task_streams streams;
    if (vm_open_streams(vm, vm->shim->init, &vm->wish, &vm->ends, &streams, err) < 0)
        return -1;
    stdio_ends_done(&vm->ends);
    json_t *arguments = json_pack("{s:O, s:o}", "document", vm->document, "streams",
                                  json_encode(&task_streams_table, &streams));
    return call_guest(vm, vm->life, "create", arguments, false, guest_created, err);
}

static void link_ready_came(void *context, const json_t *hello)
{
    struct vm *vm = context;
    struct err err = { 0 };
    if (!vm->shim || vm->state != VM_BOOTING)
        return;
    vm->state = VM_CREATING;
    vm_expect(vm, "make its container", vm->shim->vm_times->answer_ns);
    if (tell_document(vm, &err) < 0)
        request_finish(take_ptr(&vm->life), -1, &err);
}

// Where the guest's connection is the VMM's own, that most likely has ended, and its pidfd tells more than we know. A guest that
// dials may come again; until it does it is silent, no more.
static void link_closed(void *context, const struct err *why)
{
    struct vm *vm = context;
    if (!vm->shim || vm->state == VM_GONE)
        return;
    if (why->class != ERR_UNAVAILABLE)
        break_guest(vm, why->message);
    else if (!vm->vmm->dials)
        vm_kill_machine(vm, NULL);
}

const struct link_handlers vm_link_handlers = { .ready = link_ready_came, .event = link_event_came, .closed = link_closed };
