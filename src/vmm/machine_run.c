// Processors and their pause.
//
// `want` is what all threads are to do, `parked` how many processors do it. Whoever changes `want` kicks: the kick sets
// immediate_exit, so KVM_RUN returns at once even when the signal came a moment before it. A processor clears
// immediate_exit only under the lock and only when it is to run: no kick is lost.
//
// A processor that parks first settles: what its last exit began is completed, or a saved machine would do it twice or never.
//
// The I/O thread leaves its loop for a pause and waits like the processors; sources, timers and posted work wait in the loop.
#include <errno.h>
#include <sys/ioctl.h>

#include "base/fd.h"
#include "vmm/machine.h"

#define THREAD_STACK (512u << 10)

// ---- the end -------------------------------------------------------------------------------------------------------

static void kick_all(struct machine *machine)
{
    for (unsigned i = 0; i < machine->cpus; i++)
        if (machine->vcpus[i].run)
            vcpu_kick(&machine->vcpus[i]);
}

// The first reason stays.
static void end_machine(struct machine *machine, enum machine_end_kind kind, unsigned cpu, const char *why)
{
    mutex_lock(&machine->lock);
    if (!machine->ended) {
        machine->ended = true;
        machine->end = (struct machine_end){ .kind = kind, .cpu = cpu };
        snprintf(machine->end.why, sizeof(machine->end.why), "%s", why);
        __atomic_store_n(&machine->want, WANT_STOP, __ATOMIC_RELAXED);
        kick_all(machine);
        cond_wake_all(&machine->changed);
        (void)!write(machine->end_fd, &(uint64_t){ 1 }, sizeof(uint64_t));
    }
    mutex_unlock(&machine->lock);
}

const char *machine_end_name(enum machine_end_kind kind)
{
    static const char *const names[] = {
        [MACHINE_POWERED_OFF] = "powered off", [MACHINE_RESET] = "reset",     [MACHINE_CRASHED] = "crashed",
        [MACHINE_FAILED] = "failed",           [MACHINE_STOPPED] = "stopped",
    };
    return names[kind];
}

void machine_stop(struct machine *machine)
{
    end_machine(machine, MACHINE_STOPPED, 0, "");
}

void machine_press_power(struct machine *machine)
{
    irq_raise(&machine->button);
}

int machine_end_fd(const struct machine *machine)
{
    return machine->end_fd;
}

// platform_fn, in a processor's thread.
void machine_ask(void *context, enum platform_request request)
{
    end_machine(context, request == PLATFORM_RESET ? MACHINE_RESET : MACHINE_POWERED_OFF, 0, "");
}

int machine_wait(struct machine *machine, int64_t deadline_ns, struct machine_end *end)
{
    mutex_lock(&machine->lock);
    while (!machine->ended) {
        if (deadline_ns < 0)
            cond_wait(&machine->changed, &machine->lock);
        else if (!cond_wait_until(&machine->changed, &machine->lock, deadline_ns))
            break;
    }
    bool ended = machine->ended;
    if (ended)
        *end = machine->end;
    mutex_unlock(&machine->lock);
    return ended;
}

// ---- a processor's thread ------------------------------------------------------------------------------------------

static const struct {
    enum machine_end_kind kind;
    bool ends;
} exits[] = {
    [VCPU_SHUTDOWN] = { MACHINE_CRASHED, true },
    [VCPU_RESET] = { MACHINE_RESET, true },
    [VCPU_OFF] = { MACHINE_POWERED_OFF, true },
    [VCPU_FAILED] = { MACHINE_FAILED, true },
};

// Waits until it is to run again; false when it is to end.
static bool park(struct machine *machine, struct vcpu *vcpu)
{
    mutex_lock(&machine->lock);
    machine->parked++;
    cond_wake_all(&machine->changed);
    while (machine->want == WANT_PAUSE)
        cond_wait(&machine->changed, &machine->lock);
    machine->parked--;
    bool run = machine->want == WANT_RUN;
    if (run)
        __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_RELAXED);
    mutex_unlock(&machine->lock);
    return run;
}

// False when this thread can't be fenced in: the machine has failed then.
static bool begin(struct machine *machine, enum machine_thread thread)
{
    struct err err;
    vcpu_thread_signals();
    bool good = !machine->thread_begins || machine->thread_begins(machine->context, thread, &err) == 0;
    if (!good)
        end_machine(machine, MACHINE_FAILED, 0, err.message);
    mutex_lock(&machine->lock);
    machine->ready += good;
    cond_wake_all(&machine->changed);
    mutex_unlock(&machine->lock);
    return good;
}

struct vcpu_start {
    struct machine *machine;
    struct vcpu *vcpu;
};

static void run_processor(struct machine *machine, struct vcpu *vcpu)
{
    const struct vcpu_buses buses = { &machine->ports, &machine->mmio };
    char why[sizeof(machine->end.why)] = "";
    while (park(machine, vcpu)) {
        enum vcpu_exit exit = VCPU_AGAIN;
        while (exit == VCPU_AGAIN && __atomic_load_n(&machine->want, __ATOMIC_RELAXED) == WANT_RUN)
            exit = vcpu_run(vcpu, &buses, why, sizeof(why));
        if (exit == VCPU_AGAIN)
            exit = vcpu_settle(vcpu, &buses, why, sizeof(why));
        if (exits[exit].ends)
            end_machine(machine, exits[exit].kind, vcpu->index, why);
    }
}

static void *vcpu_main(void *argument)
{
    struct vcpu_start start = *(struct vcpu_start *)argument;
    free(argument);
    if (begin(start.machine, MACHINE_THREAD_PROCESSOR))
        run_processor(start.machine, start.vcpu);
    mutex_lock(&start.machine->lock);
    start.machine->gone++;
    cond_wake_all(&start.machine->changed);
    mutex_unlock(&start.machine->lock);
    return NULL;
}

// Waits until the loop is to turn; false when the thread is to end.
static bool park_io(struct machine *machine)
{
    mutex_lock(&machine->lock);
    machine->io_parked = true;
    cond_wake_all(&machine->changed);
    while (machine->want == WANT_PAUSE)
        cond_wait(&machine->changed, &machine->lock);
    machine->io_parked = false;
    bool run = machine->want == WANT_RUN;
    mutex_unlock(&machine->lock);
    return run;
}

static void *io_main(void *argument)
{
    struct machine *machine = argument;
    struct err err;
    if (!begin(machine, MACHINE_THREAD_IO))
        return NULL;
    while (park_io(machine))
        if (loop_run(machine->loop, &err) < 0)
            end_machine(machine, MACHINE_FAILED, 0, err.message);
    return NULL;
}

// ---- start, pause, resume ------------------------------------------------------------------------------------------

// Small stacks: the default of 8 MiB invites a large page into each.
static int start_thread(pthread_t *out, void *(*fn)(void *), void *argument)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, THREAD_STACK);
    int number = pthread_create(out, &attributes, fn, argument);
    pthread_attr_destroy(&attributes);
    return number;
}

static int start_io(struct machine *machine, struct err *err)
{
    int number = start_thread(&machine->io_thread, io_main, machine);
    if (number)
        return err_errno(err, number, "I/O thread");
    machine->has_io_thread = true;
    return 0;
}

static int start_processors(struct machine *machine, struct err *err)
{
    for (unsigned i = 0; i < machine->cpus; i++) {
        struct vcpu *vcpu = &machine->vcpus[i];
        struct vcpu_start *start = mem_new(struct vcpu_start);
        *start = (struct vcpu_start){ machine, vcpu };
        int number = start_thread(&vcpu->thread, vcpu_main, start);
        if (number) {
            free(start);
            return err_errno(err, number, "thread of vCPU %u", i);
        }
        vcpu->has_thread = true;
    }
    return 0;
}

static int wait_for_threads(struct machine *machine, struct err *err)
{
    mutex_lock(&machine->lock);
    while (!machine->ended && machine->ready < machine->cpus + 1)
        cond_wait(&machine->changed, &machine->lock);
    bool ended = machine->ended;
    mutex_unlock(&machine->lock);
    return ended ? err_set(err, ERR_INTERNAL, "%s", machine->end.why) : 0;
}

static void wish(struct machine *machine, enum want want)
{
    mutex_lock(&machine->lock);
    if (!machine->ended) {
        __atomic_store_n(&machine->want, want, __ATOMIC_RELAXED);
        cond_wake_all(&machine->changed);
    }
    mutex_unlock(&machine->lock);
}

int machine_start(struct machine *machine, struct err *err)
{
    if (machine->phase != PHASE_READY)
        return err_set(err, ERR_CONFLICT, "the machine is not ready to start, or runs");
    for (size_t i = 0; machine->state_fd >= 0 && i < machine->virtio_len; i++)
        virtio_resume(machine->virtio[i].device);
    if (machine->state_fd >= 0)
        serial_resume(&machine->serial);
    if (start_io(machine, err) < 0 || start_processors(machine, err) < 0 || wait_for_threads(machine, err) < 0)
        return -1; // the owner frees the machine: what was started ends with it
    if (machine->thread_begins && machine->thread_begins(machine->context, MACHINE_THREAD_OWNER, err) < 0)
        return -1;
    machine->phase = PHASE_RUNNING;
    wish(machine, WANT_RUN);
    return 0;
}

int machine_pause(struct machine *machine, struct err *err)
{
    if (machine->phase == PHASE_PAUSED)
        return 0;
    if (machine->phase != PHASE_RUNNING)
        return err_set(err, ERR_CONFLICT, "the machine does not run");
    mutex_lock(&machine->lock);
    if (!machine->ended) {
        __atomic_store_n(&machine->want, WANT_PAUSE, __ATOMIC_RELAXED);
        kick_all(machine);
    }
    loop_stop(machine->loop);
    while (!machine->ended && (machine->parked < machine->cpus || !machine->io_parked))
        cond_wait(&machine->changed, &machine->lock);
    bool ended = machine->ended;
    mutex_unlock(&machine->lock);
    if (ended)
        return err_set(err, ERR_UNAVAILABLE, "the machine has ended");
    for (size_t i = 0; i < machine->virtio_len; i++)
        virtio_pause(machine->virtio[i].device);
    machine->phase = PHASE_PAUSED;
    return 0;
}

int machine_resume(struct machine *machine, struct err *err)
{
    if (machine->phase != PHASE_PAUSED)
        return err_set(err, ERR_CONFLICT, "the machine is not paused");
    for (size_t i = 0; i < machine->virtio_len; i++)
        virtio_resume(machine->virtio[i].device);
    // A guest with kvmclock is told that it stood still, or its watchdogs bark; others refuse, which is fine.
    for (unsigned i = 0; i < machine->cpus; i++)
        (void)ioctl(machine->vcpus[i].fd, KVM_KVMCLOCK_CTRL, 0UL);
    machine->phase = PHASE_RUNNING;
    wish(machine, WANT_RUN);
    return 0;
}

void machine_threads_done(struct machine *machine)
{
    if (!machine->loop)
        return;
    machine_stop(machine);
    for (unsigned i = 0; i < machine->cpus; i++)
        if (machine->vcpus[i].has_thread) {
            pthread_join(machine->vcpus[i].thread, NULL);
            machine->vcpus[i].has_thread = false;
        }
    if (machine->has_io_thread) {
        loop_stop(machine->loop);
        pthread_join(machine->io_thread, NULL);
        machine->has_io_thread = false;
    }
}
