#include "shim/aide.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fd.h"

#define PATH_OF_PROGRAMS "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" // CRIU calls tar and others

// ---- the job's side -------------------------------------------------------------------------------------------------

static int send_word(int sock, const struct aide_word *word, int fd, struct err *err)
{
    return fd_send(sock, word, sizeof(*word), &fd, fd >= 0 ? 1 : 0, err) < 0 ? -1 : 0;
}

int aide_say(int sock, pid_t pid, int fd, struct err *err)
{
    return send_word(sock, &(struct aide_word){ .pid = pid }, fd, err);
}

int aide_await(int sock, struct err *err)
{
    char byte;
    ssize_t got = recv(sock, &byte, 1, 0);
    return got == 1 ? 0 : err_set(err, ERR_CANCELLED, "the start was called off");
}

static _Noreturn void run(aide_job *job, void *context, int sock)
{
    struct aide_word word = { .last = true };
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setenv("PATH", PATH_OF_PROGRAMS, 0); // a shim has no environment
    word.result = job(context, sock, &word.err);
    send_word(sock, &word, -1, NULL);
    _exit(0);
}

// ---- the shim's side ------------------------------------------------------------------------------------------------

static void reap(struct aide *aide)
{
    siginfo_t info;
    while (waitid(P_PIDFD, (id_t)aide->pidfd, &info, WEXITED) < 0 && errno == EINTR)
        ;
    fd_close(take_fd(&aide->pidfd));
}

static void word_came(void *context, int fd, uint32_t events)
{
    struct aide *aide = context;
    struct aide_word word;
    int passed = -1;
    size_t passed_len = 1;
    ssize_t size = fd_recv(aide->sock, &word, sizeof(word), &passed, &passed_len, NULL);
    if (passed_len == 0)
        passed = -1;
    if (size != sizeof(word)) {
        word = (struct aide_word){ .result = -1, .last = true };
        err_set(&word.err, ERR_INTERNAL, "the process that speaks with criu has ended");
    }
    if (word.last) {
        loop_remove(take_ptr(&aide->source));
        reap(aide);
    }
    aide->on_word(aide, &word, passed);
}

static int watch(struct aide *aide, struct err *err)
{
    aide->pidfd = (int)syscall(SYS_pidfd_open, aide->pid, 0);
    if (aide->pidfd < 0)
        return err_errno(err, errno, "pidfd_open");
    return loop_add_fd(aide->shim->loop, aide->sock, EPOLLIN, word_came, aide, &aide->source, err);
}

int aide_start(struct shim *shim, aide_job *job, void *context, aide_word_fn *on_word, struct aide **out, struct err *err)
{
    int socks[2];
    if (fd_socketpair(SOCK_SEQPACKET, socks, err) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        fd_close(socks[0]);
        run(job, context, socks[1]);
    }
    fd_close(socks[1]);
    if (pid < 0) {
        fd_close(socks[0]);
        return err_errno(err, errno, "fork");
    }
    struct aide *aide = mem_new(struct aide);
    *aide = (struct aide){ .shim = shim, .pid = pid, .pidfd = -1, .sock = socks[0], .on_word = on_word };
    if (watch(aide, err) < 0) {
        aide_free(aide);
        return -1;
    }
    *out = aide;
    return 0;
}

int aide_go_on(struct aide *aide, struct err *err)
{
    return fd_send(aide->sock, "", 1, NULL, 0, err) < 0 ? -1 : 0;
}

void aide_free(struct aide *aide)
{
    if (!aide)
        return;
    loop_remove(aide->source);
    fd_close(aide->sock);
    if (aide->pidfd >= 0) {
        syscall(SYS_pidfd_send_signal, aide->pidfd, SIGKILL, NULL, 0);
        reap(aide);
    }
    free(aide);
}
