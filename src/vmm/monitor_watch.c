#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>

#include "base/fd.h"
#include "vmm/jail.h"
#include "vmm/monitor.h"

// ---- terminal ------------------------------------------------------------------------------------------------------

struct terminal {
    bool changed;
    struct termios before;
};

// Keys go to the guest one by one, Ctrl-C and Ctrl-Z too; Ctrl-\ stays ours.
static void terminal_take(struct terminal *terminal)
{
    struct termios raw;
    if (tcgetattr(STDIN_FILENO, &terminal->before) < 0)
        return;
    raw = terminal->before;
    raw.c_iflag &= ~(tcflag_t)(ICRNL | INLCR | IXON);
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN);
    raw.c_cc[VINTR] = raw.c_cc[VSUSP] = _POSIX_VDISABLE;
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    terminal->changed = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

static void terminal_done(struct terminal *terminal)
{
    if (terminal->changed)
        tcsetattr(STDIN_FILENO, TCSANOW, &terminal->before);
}

// ---- signals and the end -------------------------------------------------------------------------------------------

int monitor_signals(struct err *err)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < 5; i++)
        sigaddset(&set, (int[]){ SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGCHLD }[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? err_errno(err, errno, "signalfd") : fd;
}

struct watch {
    struct loop *loop;
    struct loop_source *signals;
    pid_t pid;
    int status;
};

static void on_signal(void *context, int fd, uint32_t events)
{
    struct watch *watch = context;
    struct signalfd_siginfo info;
    if (read(fd, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo != SIGCHLD)
        kill(watch->pid, (int)info.ssi_signo);
    else if (waitpid(watch->pid, &watch->status, WNOHANG) == watch->pid) {
        watch->pid = 0;
        loop_stop(watch->loop);
    }
}

static int exit_code(int status)
{
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    if (WTERMSIG(status) == SIGSYS)
        fputs("berth-vmm: the machine's process was ended by its jail: a system call that is on no list of src/vmm/jail_calls.c "
              "(the kernel's log has its number); --no-jail runs without\n", stderr);
    else
        fprintf(stderr, "berth-vmm: the machine's process was ended by signal %d\n", WTERMSIG(status));
    return 1;
}

// ---- the two processes ---------------------------------------------------------------------------------------------

static int wait_for_machine(struct monitor *monitor, struct watch *watch, int signals, struct err *err)
{
    struct broker *broker = NULL;
    int result = loop_add_fd(watch->loop, signals, EPOLLIN, on_signal, watch, &watch->signals, err);
    if (result == 0 && monitor->link_fd >= 0)
        result = broker_new(watch->loop, monitor->link_fd, monitor->vsock_listener, monitor->vsock, &broker, err);
    if (result == 0)
        result = loop_run(watch->loop, err);
    broker_free(broker);
    loop_remove(watch->signals);
    return result < 0 ? -1 : exit_code(watch->status);
}

static pid_t fork_machine(struct monitor *monitor, int *life_fd, struct err *err)
{
    int life[2];
    if (fd_pipe(life, err) < 0 || (!monitor->no_jail && jail_prepare(err) < 0))
        return -1;
    monitor->life_fd = life[0];
    pid_t pid = fork();
    if (pid == 0) {
        fd_close(life[1]);
        fd_close(monitor->link_fd);
        fd_close(monitor->vsock_listener);
        exit(monitor_machine(monitor));
    }
    fd_close(life[0]);
    *life_fd = life[1];
    return pid < 0 ? err_errno(err, errno, "fork") : pid;
}

static int watch_machine(struct monitor *monitor, struct watch *watch, struct err *err)
{
    _cleanup_(terminal_done) struct terminal terminal = { 0 };
    _cleanup_close_ int life_fd = -1, signals = monitor_signals(err);
    if (signals < 0)
        return -1;
    // Before the fork: the machine may speak at once.
    if (monitor->serial_in_fd == STDIN_FILENO)
        terminal_take(&terminal);
    watch->pid = fork_machine(monitor, &life_fd, err);
    if (watch->pid < 0)
        return -1;
    monitor_close(monitor);
    int result = wait_for_machine(monitor, watch, signals, err);
    if (watch->pid > 0) {
        kill(watch->pid, SIGKILL);
        waitpid(watch->pid, &watch->status, 0);
    }
    return result;
}

int monitor_watch(struct monitor *monitor, struct err *err)
{
    struct watch watch = { .pid = 0 };
    if (loop_new(&watch.loop, err) < 0)
        return -1;
    int result = watch_machine(monitor, &watch, err);
    loop_free(watch.loop);
    if (monitor->api_path)
        unlink(monitor->api_path);
    if (monitor->vsock_listener >= 0)
        unlink(monitor->vsock);
    return result;
}
