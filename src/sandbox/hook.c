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

#define SAID_MAX 384

struct said {
    int fd;
    char text[SAID_MAX]; // the first bytes
    size_t len;
};

struct talk {
    int in, pidfd; // in: a socket, by which the errno of an exec that failed comes back
    const char *state;
    size_t left;
    struct said out, err;
};

static _Noreturn void become(const struct config_hook *hook, int in, int out, int err)
{
    struct sigaction plain = { .sa_handler = SIG_DFL };
    sigset_t none;
    for (int sig = 1; sig < NSIG; sig++)
        sigaction(sig, &plain, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int fds[] = { fcntl(in, F_DUPFD, 3), fcntl(out, F_DUPFD, 3), fcntl(err, F_DUPFD, 3) }; // away from 0..2
    for (int i = 0; i < 3; i++)
        if (fds[i] < 0 || dup2(fds[i], i) < 0)
            _exit(127);
    close_range(3, ~0U, 0);
    execve(hook->path, hook->argv, hook->envp);
    int number = errno;
    send(0, &number, sizeof(number), MSG_NOSIGNAL);
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
        shutdown(talk->in, SHUT_WR);
}

static void listen_to(struct said *said)
{
    char bytes[SAID_MAX];
    ssize_t got = read(said->fd, bytes, sizeof(bytes));
    if (got <= 0) {
        if (got == 0 || errno != EINTR)
            fd_close(take_fd(&said->fd));
        return;
    }
    size_t room = SAID_MAX - 1 - said->len, size = MIN_OF((size_t)got, room);
    memcpy(said->text + said->len, bytes, size);
    said->len += size;
}

// Until the process has ended; what a grandchild keeps open is not waited for. False: the time is over.
static bool follow(struct talk *talk, int64_t deadline)
{
    for (;;) {
        struct pollfd fds[] = { { .fd = talk->left ? talk->in : -1, .events = POLLOUT }, { .fd = talk->out.fd, .events = POLLIN },
                                { .fd = talk->err.fd, .events = POLLIN }, { .fd = talk->pidfd, .events = POLLIN } };
        int64_t left = deadline ? deadline - clock_mono_ns() : -1;
        if (deadline && left <= 0)
            return false;
        if (poll(fds, ARRAY_LEN(fds), deadline ? (int)(left / NS_PER_MS) + 1 : -1) < 0)
            continue;
        if (fds[0].revents)
            feed(talk);
        if (fds[1].revents)
            listen_to(&talk->out);
        if (fds[2].revents)
            listen_to(&talk->err);
        if (fds[3].revents && !fds[1].revents && !fds[2].revents)
            return true;
    }
}

static const char *text_of(struct said *said)
{
    while (said->len && (said->text[said->len - 1] == '\n' || said->text[said->len - 1] == '\r'))
        said->len--;
    said->text[said->len] = '\0';
    return said->text;
}

static int judge(const siginfo_t *info, const struct config_hook *hook, struct talk *talk, struct err *err)
{
    int number;
    if (info->si_code == CLD_EXITED && info->si_status == 0)
        return 0;
    if (recv(talk->in, &number, sizeof(number), MSG_DONTWAIT) == sizeof(number) && number > 0) {
        err_errno(err, number, "fork/exec %s", hook->path);
        return err_wrap(err, "error running hook");
    }
    const char *out = text_of(&talk->out), *said = text_of(&talk->err);
    if (info->si_code == CLD_EXITED)
        return err_set(err, ERR_INTERNAL, "error running hook: exit status %d, stdout: %s, stderr: %s", info->si_status, out, said);
    const char *name = sigdescr_np(info->si_status);
    if (!name)
        return err_set(err, ERR_INTERNAL, "error running hook: signal: %d, stdout: %s, stderr: %s", info->si_status, out, said);
    return err_set(err, ERR_INTERNAL, "error running hook: signal: %c%s, stdout: %s, stderr: %s", name[0] | 0x20, name + 1, out, said);
}

static int wait_for(struct talk *talk, const struct config_hook *hook, struct err *err)
{
    siginfo_t info = { 0 };
    int64_t timeout_s = hook->timeout_s;
    bool ended = follow(talk, timeout_s > 0 ? clock_mono_ns() + timeout_s * NS_PER_S : 0);
    if (!ended)
        syscall(SYS_pidfd_send_signal, talk->pidfd, SIGKILL, NULL, 0);
    while (waitid(P_PIDFD, (id_t)talk->pidfd, &info, WEXITED) < 0 && errno == EINTR)
        ;
    return ended ? judge(&info, hook, talk, err) : err_set(err, ERR_UNAVAILABLE, "hook ran past specified timeout of %.1fs", (double)timeout_s);
}

static int open_streams(struct talk *talk, int ours[3], struct err *err)
{
    int pair[2];
    if (fd_socketpair(SOCK_STREAM, pair, err) < 0) // a socket, so that a hook that reads nothing costs no signal
        return -1;
    ours[0] = pair[0];
    talk->in = pair[1];
    struct said *said[] = { &talk->out, &talk->err };
    for (int i = 0; i < 2; i++) {
        if (fd_pipe(pair, err) < 0)
            return -1;
        said[i]->fd = pair[0];
        ours[i + 1] = pair[1];
    }
    return fd_set_nonblock(talk->in, true, err);
}

// The filter of a container may know no clone3: there is its process, under it already, that runs startContainer hooks.
static pid_t give_birth(int *pidfd)
{
    struct clone_args args = { .flags = CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)pidfd, .exit_signal = SIGCHLD };
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    if (pid >= 0 || (errno != ENOSYS && errno != EPERM))
        return pid;
    pid = fork();
    if (pid > 0)
        *pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    return pid;
}

int config_hook_run(const struct config_hook *hook, const char *state, size_t size, struct err *err)
{
    struct talk talk = { .in = -1, .out.fd = -1, .err.fd = -1, .pidfd = -1, .state = state, .left = size };
    int theirs[] = { -1, -1, -1 }, result = open_streams(&talk, theirs, err);
    pid_t pid = -1;
    if (result == 0) {
        pid = give_birth(&talk.pidfd);
        if (pid == 0)
            become(hook, theirs[0], theirs[1], theirs[2]);
        result = pid < 0 || talk.pidfd < 0 ? err_errno(err, errno, "clone") : 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(theirs); i++)
        fd_close(theirs[i]);
    if (result == 0)
        result = wait_for(&talk, hook, err);
    fd_close(talk.in);
    fd_close(talk.out.fd);
    fd_close(talk.err.fd);
    fd_close(talk.pidfd);
    return result;
}
