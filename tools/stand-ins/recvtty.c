// Takes terminals from a runtime's --console-socket, as the helper of that name in runc's tests does: `null` reads any number
// of them to nowhere, `single` copies one to stdout. recvtty [--no-stdin] [--pid-file FILE] [--mode null|single] SOCKET
#include <getopt.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#define TERMINALS_MAX 63

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static int listen_at(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof(address.sun_path))
        return -1;
    memcpy(address.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 8) == 0 ? fd : -1;
}

static int receive(int listener)
{
    char text[4096], space[CMSG_SPACE(sizeof(int))];
    struct iovec part = { text, sizeof(text) };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space) };
    int terminal = -1, fd = accept(listener, NULL, NULL);
    if (fd < 0)
        return -1;
    ssize_t size = recvmsg(fd, &message, 0);
    struct cmsghdr *control = size < 0 ? NULL : CMSG_FIRSTHDR(&message);
    if (control && control->cmsg_type == SCM_RIGHTS)
        memcpy(&terminal, CMSG_DATA(control), sizeof(terminal));
    close(fd);
    return terminal;
}

// Whether the terminal may have more; not when nobody holds the other side.
static bool copy(int terminal, bool show)
{
    char text[4096];
    ssize_t size = read(terminal, text, sizeof(text));
    return size > 0 && (!show || write(STDOUT_FILENO, text, (size_t)size) == size);
}

static int show_one(int listener)
{
    struct termios state;
    int terminal = receive(listener);
    if (terminal < 0 || tcgetattr(terminal, &state) < 0)
        return fail("terminal");
    state.c_oflag &= ~(tcflag_t)ONLCR;
    tcsetattr(terminal, TCSANOW, &state);
    while (copy(terminal, true))
        ;
    return 0;
}

static int discard_all(int listener)
{
    struct pollfd polls[TERMINALS_MAX + 1] = { { .fd = listener, .events = POLLIN } };
    nfds_t len = 1;
    for (;;) {
        if (poll(polls, len, -1) < 0)
            return fail("poll");
        for (nfds_t i = 1; i < len; i++) {
            if (polls[i].revents == 0 || copy(polls[i].fd, false))
                continue;
            close(polls[i].fd);
            polls[i--] = polls[--len];
        }
        if (polls[0].revents == 0 || len > TERMINALS_MAX)
            continue;
        int terminal = receive(listener);
        if (terminal >= 0)
            polls[len++] = (struct pollfd){ .fd = terminal, .events = POLLIN };
    }
}

static int write_pid(const char *path)
{
    FILE *file = fopen(path, "w");
    if (!file)
        return -1;
    fprintf(file, "%d\n", (int)getpid());
    return fclose(file);
}

int main(int argc, char **argv)
{
    static const struct option options[] = { { "mode", required_argument, NULL, 'm' }, { "pid-file", required_argument, NULL, 'p' },
                                             { "no-stdin", no_argument, NULL, 'n' }, { 0 } };
    bool single = true;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'm')
            single = strcmp(optarg, "null") != 0;
        else if (c == 'p' && write_pid(optarg) < 0)
            return fail(optarg);
        else if (c == '?')
            return 2;
    }
    int listener = optind == argc - 1 ? listen_at(argv[optind]) : -1;
    if (listener < 0)
        return fail("socket");
    return single ? show_one(listener) : discard_all(listener);
}
