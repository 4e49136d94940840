// What a person is asked for on the terminal.
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <termios.h>

#include "client/client_private.h"
#include "base/fd.h"

bool confirm(const struct call *call, const char *warning)
{
    char answer[16] = "";
    if (flag_on(&call->flags, "force"))
        return true;
    printf("WARNING! %s\nAre you sure you want to continue? [y/N] ", warning);
    fflush(stdout);
    if (!fgets(answer, sizeof(answer), stdin))
        printf("\n");
    return answer[0] == 'y' || answer[0] == 'Y';
}

char *ask_line(const char *prompt)
{
    char text[4096] = "";
    fputs(prompt, stdout);
    fflush(stdout);
    if (!fgets(text, sizeof(text), stdin))
        *text = 0;
    return mem_strndup(text, strcspn(text, "\r\n"));
}

// The terminal shows again what is typed before a signal ends us, so signals wait until then; getpass() would take Ctrl-C for a letter.
char *ask_hidden(const char *prompt)
{
    static const int ends[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP };
    struct termios before, hidden;
    sigset_t set, old;
    sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_LEN(ends); i++)
        sigaddset(&set, ends[i]);
    bool known = tcgetattr(STDIN_FILENO, &before) == 0;
    sigprocmask(SIG_BLOCK, &set, &old);
    _cleanup_close_ int signals = signalfd(-1, &set, SFD_CLOEXEC); // looked at, never read
    if (known) {
        hidden = before;
        hidden.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
    }
    fputs(prompt, stdout);
    fflush(stdout);
    struct pollfd fds[2] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = signals, .events = POLLIN } };
    char text[4096];
    ssize_t got = poll(fds, 2, -1) > 0 && !fds[1].revents ? read(STDIN_FILENO, text, sizeof(text) - 1) : 0;
    text[got > 0 ? got : 0] = 0;
    if (known)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    puts("");
    fflush(stdout);
    sigprocmask(SIG_SETMASK, &old, NULL);
    char *line = mem_strndup(text, strcspn(text, "\r\n"));
    explicit_bzero(text, sizeof(text));
    return line;
}
