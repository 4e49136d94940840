// PID 1 of a container started with --init: starts one command, hands signals on to it, reaps whatever is orphaned, and
// ends as the command ended. Uses nothing but libc. It is started with all signals blocked, so that none is lost before it
// is there; the command begins with none blocked.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_NOT_FOUND 127
#define EXIT_NOT_EXECUTABLE 126

// These tell of this process's own faults or of its terminal: never handed on.
static const int kept[] = { SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGABRT, SIGTRAP, SIGSYS, SIGTTIN, SIGTTOU };

static void watched_signals(sigset_t *set)
{
    sigfillset(set);
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
        sigdelset(set, kept[i]);
}

// Runs in the child. Its own process group in front of the terminal, so that Ctrl-C reaches the command and what it
// starts; SIGTTOU is ignored while a background group takes the terminal.
static void run_command(char **argv)
{
    sigset_t none;
    sigemptyset(&none);
    setpgid(0, 0);
    signal(SIGTTOU, SIG_IGN);
    if (isatty(STDIN_FILENO))
        tcsetpgrp(STDIN_FILENO, getpgrp());
    signal(SIGTTOU, SIG_DFL);
    signal(SIGTTIN, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execvp(argv[0], argv);
    int number = errno;
    fprintf(stderr, "exec %s failed: %s\n", argv[0], strerror(number));
    _exit(number == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE);
}

// Reaps all that has ended; 1 with *code when the command is among them.
static int reap(pid_t command, int *code)
{
    int status, ended = 0;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid != command)
            continue;
        *code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        ended = 1;
    }
    return ended;
}

static int supervise(pid_t command, const sigset_t *watched)
{
    int code = 0;
    for (;;) {
        siginfo_t info;
        if (sigwaitinfo(watched, &info) < 0)
            continue; // interrupted
        if (info.si_signo != SIGCHLD)
            kill(command, info.si_signo);
        if (reap(command, &code))
            return code;
    }
}

int main(int argc, char **argv)
{
    int first = argc > 1 && strcmp(argv[1], "--") == 0 ? 2 : 1;
    if (argc <= first) {
        fprintf(stderr, "usage: %s [--] COMMAND [ARGUMENT...]\n", argc > 0 ? argv[0] : "berth-init");
        return EXIT_NOT_FOUND;
    }
    prctl(PR_SET_NAME, "docker-init"); // else ps shows the memfd we were executed from
    sigset_t watched;
    watched_signals(&watched);
    sigprocmask(SIG_SETMASK, &watched, NULL);
    signal(SIGTTIN, SIG_IGN); // reading or writing from the background must not stop PID 1
    signal(SIGTTOU, SIG_IGN);
    pid_t command = fork();
    if (command < 0) {
        perror("fork");
        return EXIT_NOT_EXECUTABLE;
    }
    if (command == 0)
        run_command(argv + first);
    return supervise(command, &watched);
}
