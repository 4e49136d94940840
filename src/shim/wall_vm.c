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

#include "shim/vm.h"

#define DRAIN_NS (5 * NS_PER_S) // the guest waits a while for its own pipes

const struct vm_times vm_times_usual = { .answer_ns = 60 * NS_PER_S, .kill_ns = 5 * NS_PER_S, .halt_ns = 30 * NS_PER_S };

static const struct vmm *const vmms[] = { &vmm_qemu, &vmm_kvm };

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
    *vm = (struct vm){ .shim = shim, .ends = STDIO_ENDS_NONE, .wish = document->stdio, .console.fd = -1,
                       .dial.fd = -1 };
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

static int take_link_end(struct vm *vm, int fd, struct err *err)
{
    if (vm->vmm->dials)
        return vm_dial_open(&vm->dial, vm->shim->loop, vm->link, fd, err);
    return link_connect(vm->link, fd, err);
}

static int launch(struct request *request, struct vm *vm, const struct task_document *document, struct err *err)
{
    struct shim *shim = vm->shim;
    struct unit *init = shim->init;
    int ends[2];
    _cleanup_close_ int console_fd = -1;
    if (vm_console_open(&vm->console, shim->loop, &console_fd, err) < 0 || fd_socketpair(SOCK_STREAM, ends, err) < 0)
        return -1;
    _cleanup_close_ int far = ends[1];
    if (take_link_end(vm, ends[0], err) < 0) {
        fd_close(ends[0]);
        return -1;
    }
    struct vmm_start start = { .document = document, .fds = &request->fds, .cgroup = shim->cgroup, .arena = &request->arena,
                               .container_fd = shim->container_fd, .link_fd = far, .console_fd = console_fd };
    if (vm->vmm->start(&start, &init->sandbox, err) < 0)
        return -1;
    init->pid = sandbox_pid(init->sandbox);
    vm_expect(vm, "say hello", shim->vm_times->boot_ns ? shim->vm_times->boot_ns : vm->vmm->boot_ns);
    return loop_add_fd(shim->loop, sandbox_pidfd(init->sandbox), EPOLLIN, vm_process_exited, vm, &init->exit_source, err);
}

static int vm_create(struct request *request, const struct task_document *document, struct err *err)
{
    struct shim *shim = request->shim;
    struct unit *init = shim->init;
    struct vm *vm = shim->vm = vm_new(shim, document);
    vm->vmm = find_vmm(document->vm->accel, err);
    shim->own_pid_namespace = true;
    init->grace_ns = DRAIN_NS;
    init->stdio.far = true;
    if (link_new(shim->loop, LINK_HOST, draw_session(), NULL, &vm_link_handlers, vm, &vm->link, err) < 0 ||
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
    vm_expect(vm, NULL, 0);
}

static int vm_start(struct request *request, struct err *err)
{
    struct vm *vm = request->shim->vm;
    vm_expect(vm, vm->state == VM_GONE ? NULL : "start its process", vm->shim->vm_times->answer_ns);
    return vm_ask(request, "start", NULL, false, guest_started, err);
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
                     vm_open_streams(vm, unit, &exec->stdio, &ends, &streams, err) < 0))
        return -1;
    json_t *arguments = json_encode(&task_exec_table, exec);
    json_object_set_new(arguments, "streams", json_encode(&task_streams_table, &streams));
    return vm_ask(request, "exec", arguments, false, guest_ran, err);
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
    vm_kill_machine(vm, "its guest did not carry out SIGKILL in time");
}

static int send_signal(struct request *request, const char *exec_id, int number, bool all, struct err *err)
{
    struct vm *vm = request->shim->vm;
    bool fatal = number == SIGKILL && str_empty(exec_id) && vm->state == VM_RUNNING;
    if (fatal && !vm->kill_deadline &&
        loop_add_timer(vm->shim->loop, vm->shim->vm_times->kill_ns, kill_late, vm, &vm->kill_deadline, err) < 0)
        return -1;
    json_t *arguments = json_pack("{s:i, s:s, s:b}", "signal", number, "exec_id", exec_id ? exec_id : "", "all", all);
    return vm_tell(request, "kill", arguments, fatal, err);
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
    return vm_tell(request, "resize", arguments, false, err);
}

static int vm_root(struct request *request, struct err *err)
{
    return err_set(err, ERR_NOT_IMPLEMENTED, "a microVM's files are its guest's alone");
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
    vm_forget_deadlines(vm);
    vm_console_done(&vm->console);
    vm_dial_done(&vm->dial);
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
    vm_files_done(vm);
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
    .root = vm_root,
    .files = vm_files,
    .resolver = vm_resolver,
    .end = vm_forget,
    .forget = vm_forget,
};
