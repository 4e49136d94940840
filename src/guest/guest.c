// The guest's life: one loop from the first connection to the power-off.
#include "guest/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "guest_private.h"

#define RETRY_FIRST_NS NS_PER_MS
#define RETRY_MAX_NS (50 * NS_PER_MS)

static void stop(struct guest *guest, const struct err *why)
{
    if (why)
        guest->failed = *why;
    loop_stop(guest->loop);
}

void guest_event(struct guest *guest, json_t *payload)
{
    link_event(guest->link, payload);
    json_decref(payload);
}

// ---- the host ------------------------------------------------------------------------------------------------------

static void try_connect(void *context);

static void connect_later(struct guest *guest)
{
    guest->retry_ns = guest->retry_ns ? MIN_OF(2 * guest->retry_ns, RETRY_MAX_NS) : RETRY_FIRST_NS;
    loop_set_timer(guest->retry, guest->retry_ns);
}

static void try_connect(void *context)
{
    struct guest *guest = context;
    struct err err = { 0 };
    int fd = guest->machine->connect(guest->machine->context, &err);
    if (fd >= 0 && link_connect(guest->link, fd, &err) == 0)
        return;
    fd_close(fd);
    // Without a host that was ever there nobody will miss us; with one, it comes back or takes the machine away.
    bool hopeless = err.class != ERR_UNAVAILABLE || clock_mono_ns() > guest->reach_before_ns;
    if (hopeless && !guest->reached)
        stop(guest, &err);
    else
        connect_later(guest);
}

static void on_ready(void *context, const json_t *hello)
{
    struct guest *guest = context;
    guest->reached = true;
    guest->retry_ns = 0;
}

static void on_closed(void *context, const struct err *why)
{
    connect_later(context);
}

// ---- out of memory -------------------------------------------------------------------------------------------------

void guest_check_oom(struct guest *guest)
{
    int64_t kills = guest->cgroup ? cgroup_oom_kills(guest->cgroup) : 0;
    if (kills <= guest->oom_seen)
        return;
    guest->oom_seen = kills;
    guest->oom = true;
    guest_event(guest, json_pack("{s:s}", "kind", "oom"));
}

static void oom_changed(void *context, int fd, uint32_t events)
{
    char event[4096];
    while (read(fd, event, sizeof(event)) > 0)
        ;
    guest_check_oom(context);
}

// The kernel tells changes of memory.events to inotify. Without that file (no cgroup2) kills are seen when a process
// ends.
void guest_watch_oom(struct guest *guest)
{
    char path[256];
    snprintf(path, sizeof(path), "/sys/fs/cgroup/%s/memory.events", guest->machine->cgroup_path);
    guest->oom_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (guest->oom_fd < 0 || inotify_add_watch(guest->oom_fd, path, IN_MODIFY) < 0 ||
        loop_add_fd(guest->loop, guest->oom_fd, EPOLLIN, oom_changed, guest, &guest->oom_source, NULL) < 0)
        fd_close(take_fd(&guest->oom_fd));
}

// ---- orphans -------------------------------------------------------------------------------------------------------

static bool is_known_child(const struct guest *guest, pid_t pid)
{
    if (guest->init && guest->init->sandbox && sandbox_pid(guest->init->sandbox) == pid)
        return true;
    for (const struct guest_unit *unit = guest->execs; unit; unit = unit->next) {
        if (unit->sandbox && sandbox_pid(unit->sandbox) == pid)
            return true;
    }
    return false;
}

// Our own children are reaped through their pidfds: one of those in front only delays the strays behind it.
void guest_reap_strays(struct guest *guest)
{
    while (guest->child_fd >= 0) {
        siginfo_t info = { 0 };
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0 ||
            is_known_child(guest, info.si_pid))
            return;
        waitpid(info.si_pid, NULL, WNOHANG);
    }
}

static void child_ended(void *context, int fd, uint32_t events)
{
    struct signalfd_siginfo info;
    while (read(fd, &info, sizeof(info)) > 0)
        ;
    guest_reap_strays(context);
}

// Only PID 1 inherits orphans.
static int watch_orphans(struct guest *guest, struct err *err)
{
    sigset_t child;
    if (getpid() != 1)
        return 0;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    guest->child_fd = signalfd(-1, &child, SFD_NONBLOCK | SFD_CLOEXEC);
    if (guest->child_fd < 0)
        return err_errno(err, errno, "signalfd");
    return loop_add_fd(guest->loop, guest->child_fd, EPOLLIN, child_ended, guest, &guest->child_source, err);
}

// ---- the end -------------------------------------------------------------------------------------------------------

static void power_off(void *context)
{
    stop(context, NULL);
}

// All output is on its way before `halted` is: the link keeps the order.
static void halt(struct guest *guest)
{
    struct err err = { 0 };
    guest->halted = true;
    guest_files_end(guest);
    if (guest->machine->close_rootfs(guest->machine->context, &err) < 0)
        guest_event(guest, json_pack("{s:s, s:s}", "kind", "halted", "message", err.message));
    else
        guest_event(guest, json_pack("{s:s}", "kind", "halted"));
    if (loop_add_timer(guest->loop, GUEST_POWER_OFF_S * NS_PER_S, power_off, guest, &guest->power_off, NULL) < 0)
        stop(guest, NULL);
}

static void sweep(void *context)
{
    struct guest *guest = context;
    guest->sweeping = false;
    for (struct guest_unit **at = &guest->execs; *at;) {
        struct guest_unit *unit = *at;
        if (unit->state != GUEST_UNIT_ENDED) {
            at = &unit->next;
            continue;
        }
        *at = unit->next;
        guest_unit_free(unit);
    }
    if (guest->init && guest->init->state == GUEST_UNIT_ENDED)
        guest->over = true;
    if (guest->over && !guest->execs && !guest->halted)
        halt(guest);
}

void guest_schedule_sweep(struct guest *guest)
{
    if (guest->sweeping)
        return;
    guest->sweeping = true;
    loop_post(guest->loop, sweep, guest);
}

static void forget_cgroup(struct guest *guest)
{
    loop_remove(take_ptr(&guest->oom_source));
    fd_close(take_fd(&guest->oom_fd));
    if (guest->cgroup)
        cgroup_free(take_ptr(&guest->cgroup));
}

void guest_forget_task(struct guest *guest)
{
    guest_unit_free(take_ptr(&guest->init));
    forget_cgroup(guest);
    guest->over = true;
    guest_schedule_sweep(guest);
}

// ---- the whole -----------------------------------------------------------------------------------------------------

static int guest_init(struct guest *guest, const struct guest_machine *machine, struct err *err)
{
    static const struct link_handlers handlers = { .ready = on_ready, .request = guest_serve, .closed = on_closed };
    _cleanup_json_ json_t *hello = json_pack("{s:s}", "kernel", machine->kernel);
    *guest = (struct guest){ .machine = machine, .oom_fd = -1, .child_fd = -1 };
    guest->reach_before_ns = clock_mono_ns() + GUEST_HOST_WAIT_S * NS_PER_S;
    if (loop_new(&guest->loop, err) < 0 ||
        link_new(guest->loop, LINK_GUEST, 0, hello, &handlers, guest, &guest->link, err) < 0)
        return -1;
    if (watch_orphans(guest, err) < 0)
        return -1;
    return loop_add_timer(guest->loop, 0, try_connect, guest, &guest->retry, err);
}

static void guest_done(struct guest *guest)
{
    while (guest->execs) {
        struct guest_unit *unit = guest->execs;
        guest->execs = unit->next;
        guest_unit_free(unit);
    }
    guest_files_end(guest);
    guest_unit_free(take_ptr(&guest->init));
    forget_cgroup(guest);
    loop_remove(guest->child_source);
    fd_close(guest->child_fd);
    loop_remove(guest->retry);
    loop_remove(guest->power_off);
    guest_names_free(guest->names);
    link_free(guest->link);
    loop_free(guest->loop);
}

int guest_run(const struct guest_machine *machine, struct err *err)
{
    struct guest guest;
    int result = guest_init(&guest, machine, err);
    if (result == 0)
        result = loop_run(guest.loop, err);
    if (result == 0 && guest.failed.class != ERR_NONE) {
        result = -1;
        *err = guest.failed;
    }
    guest_done(&guest);
    if (result == 0)
        machine->power_off(machine->context);
    return result;
}
