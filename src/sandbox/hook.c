// One hook: a process with the state on its standard input, its own environment and nothing else of ours. Used by the
// runtime and by the child, so nothing is allocated.
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/fd.h"
#include "kernel/abi.h"
#include "sandbox/config.h"

#define SAID_MAX 512

struct talk {
    int in, out, pidfd;
    const char *state;
    size_t left;
    char said[SAID_MAX]; // stdout and stderr, the first bytes
    size_t said_len;
};

static _Noreturn void become(const struct config_hook *hook, int in, int out)
{
    struct sigaction plain = { .sa_handler = SIG_DFL };
    sigset_t none;
    for (int sig = 1; sig < NSIG; sig++)
        sigaction(sig, &plain, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int from = fcntl(in, F_DUPFD, 3), to = fcntl(out, F_DUPFD, 3); // away from 0..2
    if (from < 0 || to < 0 || dup2(from, 0) < 0 || dup2(to, 1) < 0 || dup2(to, 2) < 0)
        _exit(127);
    close_range(3, ~0U, 0);
    execve(hook->path, hook->argv, hook->envp);
    const char *why = strerrorname_np(errno);
    if (!why || write(2, why, strlen(why)) < 0)
        _exit(126);
    _exit(127);
}

static void feed(struct talk *talk)
{
    ssize_t wrote = talk->left ? fd_write_some(talk->in, talk->state, talk->left) : 0;
    if (wrote < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    talk->state += wrote > 0 ? wrote : 0;
    talk->left -= wrote > 0 ? (size_t)wrote : talk->left; // a hook need not read it
    if (talk->left == 0)
        fd_close(take_fd(&talk->in));
}

static void listen_to(struct talk *talk)
{
    char bytes[SAID_MAX];
    ssize_t got = read(talk->out, bytes, sizeof(bytes));
    if (got <= 0) {
        if (got == 0 || errno != EINTR)
            fd_close(take_fd(&talk->out));
        return;
    }
    size_t room = SAID_MAX - 1 - talk->said_len, size = MIN_OF((size_t)got, room);
    memcpy(talk->said + talk->said_len, bytes, size);
    talk->said_len += size;
}

// Until the process has ended; what a grandchild keeps open is not waited for. False: the time is over.
static bool follow(struct talk *talk, int64_t deadline)
{
    for (;;) {
        struct pollfd fds[] = { { .fd = talk->in, .events = POLLOUT }, { .fd = talk->out, .events = POLLIN },
                                { .fd = talk->pidfd, .events = POLLIN } };
        int64_t left = deadline ? deadline - clock_mono_ns() : -1;
        if (deadline && left <= 0)
            return false;
        if (poll(fds, ARRAY_LEN(fds), deadline ? (int)(left / NS_PER_MS) + 1 : -1) < 0)
            continue;
        if (fds[0].revents)
            feed(talk);
        if (fds[1].revents)
            listen_to(talk);
        else if (fds[2].revents)
            return true;
    }
}

static int judge(const siginfo_t *info, struct talk *talk, struct err *err)
{
    while (talk->said_len && (talk->said[talk->said_len - 1] == '\n' || talk->said[talk->said_len - 1] == '\r'))
        talk->said_len--;
    talk->said[talk->said_len] = '\0';
    if (info->si_code == CLD_EXITED && info->si_status == 0)
        return 0;
    if (info->si_code == CLD_EXITED && info->si_status == 127)
        return err_set(err, ERR_INTERNAL, "error running hook: could not be executed: %s", talk->said);
    if (info->si_code == CLD_EXITED)
        return err_set(err, ERR_INTERNAL, "error running hook: exit status %d, stdout: , stderr: %s", info->si_status, talk->said);
    const char *name = sigdescr_np(info->si_status);
    if (!name)
        return err_set(err, ERR_INTERNAL, "error running hook: signal: %d, stdout: , stderr: %s", info->si_status, talk->said);
    return err_set(err, ERR_INTERNAL, "error running hook: signal: %c%s, stdout: , stderr: %s", name[0] | 0x20, name + 1, talk->said);
}

static int wait_for(struct talk *talk, int64_t timeout_s, struct err *err)
{
    siginfo_t info = { 0 };
    bool ended = follow(talk, timeout_s > 0 ? clock_mono_ns() + timeout_s * NS_PER_S : 0);
    if (!ended)
        syscall(SYS_pidfd_send_signal, talk->pidfd, SIGKILL, NULL, 0);
    while (waitid(P_PIDFD, (id_t)talk->pidfd, &info, WEXITED) < 0 && errno == EINTR)
        ;
    return ended ? judge(&info, talk, err) : err_set(err, ERR_UNAVAILABLE, "hook ran past specified timeout of %.1fs", (double)timeout_s);
}

int config_hook_run(const struct config_hook *hook, const char *state, size_t size, struct err *err)
{
    _cleanup_close_ int in_read = -1;
    _cleanup_close_ int out_write = -1;
    struct talk talk = { .in = -1, .out = -1, .pidfd = -1, .state = state, .left = size };
    int pipes[2];
    if (fd_socketpair(SOCK_STREAM, pipes, err) < 0) // a socket, so that a hook that reads nothing costs no signal
        return -1;
    in_read = pipes[0];
    talk.in = pipes[1];
    if (fd_pipe(pipes, err) < 0) {
        fd_close(talk.in);
        return -1;
    }
    talk.out = pipes[0];
    out_write = pipes[1];
    fd_set_nonblock(talk.in, true, NULL);
    struct clone_args args = { .flags = CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&talk.pidfd, .exit_signal = SIGCHLD };
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0)
        become(hook, in_read, out_write);
    int number = errno;
    fd_close(take_fd(&in_read));
    fd_close(take_fd(&out_write));
    int result = pid < 0 ? err_errno(err, number, "clone") : wait_for(&talk, hook->timeout_s, err);
    fd_close(talk.in);
    fd_close(talk.out);
    fd_close(talk.pidfd);
    return result;
}
