#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/fd.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x0020
#endif

void fd_close(int fd)
{
    int saved = errno;
    if (fd >= 0)
        close(fd);
    errno = saved;
}

int fd_dup(int fd, struct err *err)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return copy < 0 ? err_errno(err, errno, "dup descriptor %d", fd) : copy;
}

int fd_set_nonblock(int fd, bool on, struct err *err)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) < 0)
        return err_errno(err, errno, "set flags of descriptor %d", fd);
    return 0;
}

// ---- exact reads and writes -----------------------------------------------------------------------------------------

static void wait_for(int fd, short events)
{
    struct pollfd one = { fd, events, 0 };
    poll(&one, 1, -1);
}

ssize_t fd_read_full(int fd, void *data, size_t size, struct err *err)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = read(fd, (char *)data + done, size - done);
        if (n == 0)
            break;
        if (n > 0)
            done += (size_t)n;
        else if (errno == EAGAIN)
            wait_for(fd, POLLIN);
        else if (errno != EINTR)
            return err_errno(err, errno, "read");
    }
    return (ssize_t)done;
}

// A pipe has no MSG_NOSIGNAL: the signal is held back, and the one that the write made (it is the thread's own) taken away.
static ssize_t write_without_signal(int fd, const void *data, size_t size)
{
    sigset_t pipe_signal, old, pending;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_signal, &old);
    sigpending(&pending);
    ssize_t n = write(fd, data, size);
    int number = errno;
    if (n < 0 && number == EPIPE && !sigismember(&pending, SIGPIPE))
        sigtimedwait(&pipe_signal, NULL, &(struct timespec){ 0 });
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = number;
    return n;
}

ssize_t fd_write_some(int fd, const void *data, size_t size)
{
    ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
    return n < 0 && errno == ENOTSOCK ? write_without_signal(fd, data, size) : n;
}

int fd_write_full(int fd, const void *data, size_t size, struct err *err)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = fd_write_some(fd, (const char *)data + done, size - done);
        if (n >= 0)
            done += (size_t)n;
        else if (errno == EAGAIN)
            wait_for(fd, POLLOUT);
        else if (errno != EINTR)
            return err_errno(err, errno, "write");
    }
    return 0;
}

int fd_write_file(int fd, const void *data, size_t size, struct err *err)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, (const char *)data + done, size - done);
        if (n >= 0)
            done += (size_t)n;
        else if (errno != EINTR)
            return err_errno(err, errno, "write");
    }
    return 0;
}

int fd_write_at(int fd, const void *data, size_t size, off_t offset, struct err *err)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pwrite(fd, (const char *)data + done, size - done, offset + (off_t)done);
        if (n >= 0)
            done += (size_t)n;
        else if (errno != EINTR)
            return err_errno(err, errno, "write");
    }
    return 0;
}

int fd_read_at(int fd, void *data, size_t size, off_t offset, struct err *err)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(fd, (char *)data + done, size - done, offset + (off_t)done);
        if (n == 0)
            return err_set(err, ERR_INVALID_ARGUMENT, "the file is cut short");
        if (n > 0)
            done += (size_t)n;
        else if (errno != EINTR)
            return err_errno(err, errno, "read");
    }
    return 0;
}

int fd_pipe(int out[2], struct err *err)
{
    return pipe2(out, O_CLOEXEC) < 0 ? err_errno(err, errno, "pipe") : 0;
}

int fd_socketpair(int type, int out[2], struct err *err)
{
    return socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, out) < 0 ? err_errno(err, errno, "socketpair") : 0;
}

// ---- descriptors in messages ----------------------------------------------------------------------------------------

union fd_control {
    char space[CMSG_SPACE(FD_MESSAGE_MAX * sizeof(int))];
    struct cmsghdr align;
};

ssize_t fd_send(int sock, const void *data, size_t size, const int *fds, size_t fd_len, struct err *err)
{
    union fd_control control;
    struct iovec part = { (void *)data, size };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    if (fd_len > FD_MESSAGE_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "%zu descriptors in one message", fd_len);
    if (fd_len) {
        message.msg_control = control.space;
        message.msg_controllen = CMSG_SPACE(fd_len * sizeof(int));
        memset(control.space, 0, message.msg_controllen);
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(fd_len * sizeof(int));
        memcpy(CMSG_DATA(head), fds, fd_len * sizeof(int));
    }
    for (;;) {
        ssize_t n = sendmsg(sock, &message, MSG_NOSIGNAL);
        if (n >= 0)
            return n;
        if (errno == EAGAIN)
            wait_for(sock, POLLOUT);
        else if (errno != EINTR)
            return err_errno(err, errno, "sendmsg");
    }
}

static size_t take_rights(struct msghdr *message, int *fds, size_t room)
{
    size_t len = 0;
    for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head; head = CMSG_NXTHDR(message, head)) {
        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(head) + i * sizeof(int), sizeof(fd));
            if (len < room)
                fds[len++] = fd;
            else
                fd_close(fd);
        }
    }
    return len;
}

ssize_t fd_recv(int sock, void *data, size_t size, int *fds, size_t *fd_len, struct err *err)
{
    union fd_control control;
    struct iovec part = { data, size };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space,
                              .msg_controllen = sizeof(control.space) };
    ssize_t n;
    do
        n = recvmsg(sock, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        int number = errno;
        *fd_len = 0;
        return err_errno(err, number, "recvmsg");
    }
    *fd_len = take_rights(&message, fds, *fd_len);
    if (message.msg_flags & MSG_CTRUNC) {
        while (*fd_len > 0)
            fd_close(fds[--*fd_len]);
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "descriptors of a message were lost");
    }
    return n;
}

// ---- sealed copies --------------------------------------------------------------------------------------------------

static int copy_whole(int from, int to, struct err *err)
{
    struct stat info;
    if (fstat(from, &info) < 0)
        return err_errno(err, errno, "stat");
    for (off_t at = 0; at < info.st_size;) {
        ssize_t n = sendfile(to, from, &at, (size_t)(info.st_size - at));
        if (n < 0 && errno != EINTR)
            return err_errno(err, errno, "copy");
        if (n == 0)
            return err_set(err, ERR_INTERNAL, "copy: the file became shorter");
    }
    return 0;
}

int fd_sealed_copy(const char *path, struct err *err)
{
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    _cleanup_close_ int from = open(path, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        return err_errno(err, errno, "%s", path);
    _cleanup_close_ int copy = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
    if (copy < 0 && errno == EINVAL) // before Linux 6.3 every memfd is executable
        copy = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (copy < 0)
        return err_errno(err, errno, "memfd");
    if (copy_whole(from, copy, err) < 0)
        return err_wrap(err, "%s", path);
    if (fchmod(copy, 0755) < 0)
        return err_errno(err, errno, "mode of the copy of %s", path);
    const int seals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
    if (fcntl(copy, F_ADD_SEALS, F_SEAL_EXEC) < 0 && errno != EINVAL)
        return err_errno(err, errno, "seal %s", path);
    if (fcntl(copy, F_ADD_SEALS, seals | F_SEAL_SEAL) < 0)
        return err_errno(err, errno, "seal %s", path);
    return take_fd(&copy);
}

// ---- unix sockets in a folder ---------------------------------------------------------------------------------------

static int unix_address(int dirfd, const char *name, struct sockaddr_un *out, struct err *err)
{
    *out = (struct sockaddr_un){ .sun_family = AF_UNIX };
    int len = dirfd == AT_FDCWD ? snprintf(out->sun_path, sizeof(out->sun_path), "%s", name)
                                : snprintf(out->sun_path, sizeof(out->sun_path), "/proc/self/fd/%d/%s", dirfd, name);
    if (len < 0 || (size_t)len >= sizeof(out->sun_path))
        return err_set(err, ERR_INVALID_ARGUMENT, "socket path too long: %s", name);
    return 0;
}

int fd_unix_listen_at(int dirfd, const char *name, struct err *err)
{
    struct sockaddr_un address;
    if (unix_address(dirfd, name, &address, err) < 0)
        return -1;
    _cleanup_close_ int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sock < 0)
        return err_errno(err, errno, "socket");
    unlinkat(dirfd, name, 0);
    // The mode is taken from the descriptor's before bind: nobody can connect in between.
    if (fchmod(sock, 0600) < 0 || bind(sock, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(sock, SOMAXCONN) < 0)
        return err_errno(err, errno, "listen on %s", name);
    return take_fd(&sock);
}

int fd_unix_connect_at(int dirfd, const char *name, struct err *err)
{
    struct sockaddr_un address;
    if (unix_address(dirfd, name, &address, err) < 0)
        return -1;
    _cleanup_close_ int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sock < 0)
        return err_errno(err, errno, "socket");
    if (connect(sock, (struct sockaddr *)&address, sizeof(address)) < 0)
        return err_errno(err, errno, "connect to %s", name);
    return take_fd(&sock);
}
