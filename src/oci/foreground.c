// A process in the foreground: signals are passed on to it, its terminal is relayed, orphans that fall to us are reaped.
// And what create, run and exec have in common around a process.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>

#include "base/file.h"
#include "base/num.h"
#include "base/slice.h"
#include "oci/oci_private.h"

int check_terminal(const struct oci_process *process, bool detach, const char *console_socket, struct err *err)
{
    if (detach && process->terminal && str_empty(console_socket))
        return err_set(err, ERR_INVALID_ARGUMENT, "cannot allocate tty if runc will detach without setting console socket");
    if ((!detach || !process->terminal) && !str_empty(console_socket))
        return err_set(err, ERR_INVALID_ARGUMENT, "cannot use console socket if runc will not detach or allocate tty");
    return 0;
}

int send_console(const char *socket_path, int master_fd, struct err *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    _cleanup_close_ int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sock < 0)
        return err_errno(err, errno, "socket");
    if (strlen(socket_path) >= sizeof(address.sun_path))
        return err_errno(err, ENAMETOOLONG, "dial unix %s: connect", socket_path);
    memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
    if (connect(sock, (struct sockaddr *)&address, sizeof(address)) < 0)
        return err_errno(err, errno, "dial unix %s: connect", socket_path);
    static const char name[] = "/dev/ptmx";
    return fd_send(sock, name, sizeof(name) - 1, &master_fd, 1, err) < 0 ? -1 : 0;
}

int write_pid_file(const char *path, pid_t pid, struct err *err)
{
    char text[16];
    int size = snprintf(text, sizeof(text), "%d", (int)pid);
    return file_write_at(AT_FDCWD, path, text, (size_t)size, 0644, false, err);
}

int hand_over(struct call *call, int master_fd, const char *pid_file, pid_t pid, struct err *err)
{
    const char *console = args_text(&call->args, "console-socket");
    if (master_fd >= 0 && !str_empty(console) && send_console(console, master_fd, err) < 0)
        return -1;
    return str_empty(pid_file) ? 0 : write_pid_file(pid_file, pid, err);
}

static int count_of(const char *text, const char *what, size_t *out, struct err *err)
{
    uint64_t value = 0;
    if (!str_empty(text) && !num_parse_u64(slice_of(text), SANDBOX_KEEP_MAX, &value))
        return err_set(err, ERR_INVALID_ARGUMENT, "%s: \"%.40s\" is no number up to %d", what, text, SANDBOX_KEEP_MAX);
    *out = (size_t)value;
    return 0;
}

// Those of systemd's protocol are ours only if it says so; who sets just the number, as callers of crun do, means us, too.
static int count_listeners(size_t *out, struct err *err)
{
    const char *pid = getenv("LISTEN_PID");
    uint64_t value;
    *out = 0;
    if (!str_empty(pid) && (!num_parse_u64(slice_of(pid), INT32_MAX, &value) || (pid_t)value != getpid()))
        return 0;
    return count_of(getenv("LISTEN_FDS"), "LISTEN_FDS", out, err);
}

int read_preserved(const struct args *args, struct arena *arena, struct oci_process *process, const int **out, size_t *len,
                   struct err *err)
{
    size_t listen = 0, preserved = 0;
    if (count_listeners(&listen, err) < 0 || count_of(args_text(args, "preserve-fds"), "--preserve-fds", &preserved, err) < 0)
        return -1;
    if (listen > 0) {
        strv_push_arena(&process->env, arena, arena_printf(arena, "LISTEN_FDS=%zu", listen));
        strv_push_arena(&process->env, arena, "LISTEN_PID=1");
    }
    int *fds = arena_alloc(arena, (listen + preserved + 1) * sizeof(int));
    for (size_t i = 0; i < listen + preserved; i++) {
        int flags = fcntl(3 + (int)i, F_GETFD);
        fds[i] = flags >= 0 && !(flags & FD_CLOEXEC) ? 3 + (int)i : -1; // with the flag it is ours, not the caller's
    }
    *out = fds;
    *len = listen + preserved;
    return 0;
}

// ---- the terminal ---------------------------------------------------------------------------------------------------

struct relay {
    int master, tty; // tty: ours; -1 for none
    struct termios saved;
    bool raw;
};

// A terminal without a size of its own leaves the container's as the document has it.
static void follow_size(const struct relay *relay)
{
    struct winsize size;
    if (relay->master >= 0 && relay->tty >= 0 && ioctl(relay->tty, TIOCGWINSZ, &size) == 0 && (size.ws_row || size.ws_col))
        ioctl(relay->master, TIOCSWINSZ, &size);
}

static int own_terminal(void)
{
    for (int fd = 2; fd >= 0; fd--)
        if (isatty(fd))
            return fd;
    return -1;
}

// The kernel makes CR LF of each line end of a new terminal: relayed into a file or another terminal's line discipline that
// is one too many. So it is left to ours.
static void plain_line_ends(int master_fd)
{
    struct termios mode;
    if (master_fd < 0 || tcgetattr(master_fd, &mode) < 0)
        return;
    mode.c_oflag &= ~(tcflag_t)ONLCR;
    tcsetattr(master_fd, TCSANOW, &mode);
}

void foreground_terminal(int master_fd)
{
    plain_line_ends(master_fd);
    follow_size(&(struct relay){ .master = master_fd, .tty = own_terminal() });
}

static void relay_start(struct relay *relay, int master)
{
    *relay = (struct relay){ .master = master, .tty = master >= 0 ? own_terminal() : -1 };
    if (relay->tty < 0 || tcgetattr(relay->tty, &relay->saved) < 0)
        return;
    struct termios raw = relay->saved;
    cfmakeraw(&raw);
    raw.c_oflag |= OPOST;
    relay->raw = tcsetattr(relay->tty, TCSANOW, &raw) == 0;
    follow_size(relay);
}

static void relay_end(struct relay *relay)
{
    if (relay->raw)
        tcsetattr(relay->tty, TCSANOW, &relay->saved);
}

// False at the end of the stream.
static bool copy_some(int from, int to)
{
    char bytes[16384];
    ssize_t got = read(from, bytes, sizeof(bytes));
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return true;
    return got > 0 && fd_write_full(to, bytes, (size_t)got, NULL) == 0;
}

// ---- signals --------------------------------------------------------------------------------------------------------

static void reap_orphans(pid_t own)
{
    siginfo_t info = { 0 };
    while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0 && info.si_pid != own) {
        waitpid(info.si_pid, NULL, WNOHANG);
        info.si_pid = 0;
    }
}

static void pass_on(int signal_fd, struct sandbox *sandbox, const struct relay *relay)
{
    struct signalfd_siginfo info;
    if (read(signal_fd, &info, sizeof(info)) != sizeof(info))
        return;
    int sig = (int)info.ssi_signo;
    if (sig == SIGCHLD)
        reap_orphans(sandbox_pid(sandbox));
    else if (sig == SIGWINCH)
        follow_size(relay);
    else if (sig != SIGURG && sig != SIGPIPE)
        syscall(SYS_pidfd_send_signal, sandbox_pidfd(sandbox), sig, NULL, 0);
}

static int open_signals(sigset_t *old, struct err *err)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, old);
    int fd = signalfd(-1, &all, SFD_CLOEXEC);
    return fd >= 0 ? fd : err_errno(err, errno, "signalfd");
}

static void drain(const struct relay *relay)
{
    struct pollfd fd = { .fd = relay->master, .events = POLLIN };
    while (relay->master >= 0 && poll(&fd, 1, 0) > 0 && (fd.revents & POLLIN) && copy_some(relay->master, STDOUT_FILENO))
        ;
}

static void loop(struct sandbox *sandbox, int signal_fd, struct relay *relay)
{
    bool input = relay->master >= 0, output = relay->master >= 0;
    for (;;) {
        struct pollfd fds[] = { { .fd = signal_fd, .events = POLLIN }, { .fd = sandbox_pidfd(sandbox), .events = POLLIN },
                                { .fd = output ? relay->master : -1, .events = POLLIN },
                                { .fd = input ? STDIN_FILENO : -1, .events = POLLIN } };
        if (poll(fds, ARRAY_LEN(fds), -1) < 0)
            continue;
        if (fds[0].revents)
            pass_on(signal_fd, sandbox, relay);
        if (fds[2].revents)
            output = copy_some(relay->master, STDOUT_FILENO);
        if (fds[3].revents)
            input = copy_some(STDIN_FILENO, relay->master);
        if (fds[1].revents)
            return;
    }
}

int foreground(struct sandbox *sandbox, int master_fd, int *exit_code, struct err *err)
{
    sigset_t old;
    struct relay relay;
    _cleanup_close_ int signal_fd = open_signals(&old, err);
    if (signal_fd < 0)
        return -1;
    relay_start(&relay, master_fd);
    loop(sandbox, signal_fd, &relay);
    int result = sandbox_wait(sandbox, exit_code, err);
    drain(&relay);
    relay_end(&relay);
    sigprocmask(SIG_SETMASK, &old, NULL);
    return result;
}
