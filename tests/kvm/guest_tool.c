// What busybox can't do inside a guest: vsock, and asking whether a file's pages come straight from the device.
//
//     guest_tool connect PORT    to the host; standard input goes there, the answer to standard output
//     guest_tool listen PORT     one connection; what comes goes back, until its end
//     guest_tool dax FILE        exit code 0 when it is so
#include <fcntl.h>
#include <linux/stat.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static int copy(int from, int to)
{
    char data[16384];
    ssize_t got;
    while ((got = read(from, data, sizeof(data))) > 0)
        for (ssize_t done = 0, wrote; done < got; done += wrote)
            if ((wrote = write(to, data + done, (size_t)(got - done))) < 0)
                return fail("write");
    return got < 0 ? fail("read") : 0;
}

static int open_socket(unsigned cid, unsigned port, int (*step)(int, const struct sockaddr *, socklen_t))
{
    struct sockaddr_vm address = { .svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port };
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    return fd >= 0 && step(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ? fd : -1;
}

static int talk(unsigned port)
{
    int fd = open_socket(VMADDR_CID_HOST, port, connect);
    if (fd < 0)
        return fail("connect");
    if (copy(STDIN_FILENO, fd) || shutdown(fd, SHUT_WR) < 0)
        return 1;
    return copy(fd, STDOUT_FILENO);
}

static int echo(unsigned port)
{
    int fd = open_socket(VMADDR_CID_ANY, port, bind);
    if (fd < 0 || listen(fd, 1) < 0)
        return fail("listen");
    printf("listening\n");
    fflush(stdout);
    int peer = accept(fd, NULL, NULL);
    return peer < 0 ? fail("accept") : copy(peer, peer);
}

static int is_dax(const char *path)
{
    struct statx found;
    if (syscall(SYS_statx, AT_FDCWD, path, 0, 0, &found) < 0)
        return fail(path);
    return (found.stx_attributes & STATX_ATTR_DAX) ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    if (strcmp(argv[1], "dax") == 0)
        return is_dax(argv[2]);
    unsigned port = (unsigned)strtoul(argv[2], NULL, 10);
    return strcmp(argv[1], "connect") == 0 ? talk(port) : echo(port);
}
