#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/num.h"
#include "kernel/notify.h"

enum { LISTEN_FDS_MAX = 64 };

static int send_to(const char *path, const char *text, struct err *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    size_t size = strlen(path);
    if (size >= sizeof(address.sun_path) || (path[0] != '/' && path[0] != '@'))
        return err_set(err, ERR_INVALID_ARGUMENT, "NOTIFY_SOCKET=%.200s is no address", path);
    memcpy(address.sun_path, path, size);
    if (path[0] == '@') // a name that is in no file system
        address.sun_path[0] = '\0';
    _cleanup_close_ int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sock < 0 || sendto(sock, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address,
                           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size)) < 0)
        return err_errno(err, errno, "NOTIFY_SOCKET=%s", path);
    return 0;
}

int notify_send(const char *text, struct err *err)
{
    const char *path = getenv("NOTIFY_SOCKET");
    if (str_empty(path))
        return 0;
    if (!str_starts(text, "RELOADING=1"))
        return send_to(path, text, err);
    _cleanup_free_ char *timed = mem_printf("%s\nMONOTONIC_USEC=%lld", text, (long long)(clock_mono_ns() / 1000));
    return send_to(path, timed, err);
}

int notify_listen_fds(void)
{
    const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
    uint64_t owner = 0, count = 0;
    bool ours = pid && fds && num_parse_u64(slice_of(pid), INT32_MAX, &owner) && num_parse_u64(slice_of(fds), LISTEN_FDS_MAX, &count) &&
                owner == (uint64_t)getpid();
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    for (uint64_t i = 0; ours && i < count; i++)
        if (fcntl(NOTIFY_FIRST_FD + (int)i, F_SETFD, FD_CLOEXEC) < 0)
            return (int)i;
    return ours ? (int)count : 0;
}
