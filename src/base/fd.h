// Descriptors: ownership, exact reads and writes, sockets that carry descriptors. All are CLOEXEC from birth.
#ifndef BASE_FD_H
#define BASE_FD_H

#include <sys/types.h>

#include "base/err.h"

#define _cleanup_close_ _cleanup_(fd_close_cleanup)

// -1 is "none" and closes to nothing. errno survives.
void fd_close(int fd);
static inline void fd_close_cleanup(int *fd)
{
    fd_close(*fd);
}
static inline int take_fd(int *fd)
{
    int held = *fd;
    *fd = -1;
    return held;
}

int fd_dup(int fd, struct err *err); // F_DUPFD_CLOEXEC at 3 or above
int fd_set_nonblock(int fd, bool on, struct err *err);

// Reads until `size` bytes or end of file; returns the count.
ssize_t fd_read_full(int fd, void *data, size_t size, struct err *err);
// Writes all or fails; waits when the descriptor is non-blocking. A broken pipe is an error, never a signal.
int fd_write_full(int fd, const void *data, size_t size, struct err *err);
// The same for a regular file, where no pipe can break: a system call and no more.
int fd_write_file(int fd, const void *data, size_t size, struct err *err);
// And at an offset of a file.
int fd_write_at(int fd, const void *data, size_t size, off_t offset, struct err *err);
// All `size` bytes at an offset of a file; invalid_argument when the file ends before.
int fd_read_at(int fd, void *data, size_t size, off_t offset, struct err *err);
// write(2), with its result and errno, but a broken pipe is EPIPE and never a signal.
ssize_t fd_write_some(int fd, const void *data, size_t size);

int fd_pipe(int out[2], struct err *err);
int fd_socketpair(int type, int out[2], struct err *err);

// Most descriptors one message can carry (SCM_MAX_FD of the kernel).
#define FD_MESSAGE_MAX 253
// One sendmsg/recvmsg with descriptors. Receive fills up to *fd_len descriptors (CLOEXEC) and stores the count; more are
// closed. When the kernel could not hand over all of them, because this process has no free ones, the message is lost:
// resource_exhausted. End of stream is 0.
ssize_t fd_send(int sock, const void *data, size_t size, const int *fds, size_t fd_len, struct err *err);
ssize_t fd_recv(int sock, void *data, size_t size, int *fds, size_t *fd_len, struct err *err);

// A sealed memfd with the bytes of the file at `path`, executable by execveat and fexecve; it can no longer change, in
// content, and where the kernel knows that seal (6.3), in its being executable.
int fd_sealed_copy(const char *path, struct err *err);

// Unix stream sockets in a folder: bound and connected through /proc/self/fd/<dirfd>/<name>, so that the folder's
// path may be longer than the 107 bytes of sockaddr_un. The socket file is 0600; an old one of that name is removed.
int fd_unix_listen_at(int dirfd, const char *name, struct err *err);
int fd_unix_connect_at(int dirfd, const char *name, struct err *err);

#endif
