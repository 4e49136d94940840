// berth-shim <daemon id> <container id>: the supervisor of one instance (shim/shim.h). Started by the daemon; of no use by
// hand.
#include <fcntl.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/num.h"
#include "shim/shim.h"

static bool is_listening_socket(int fd)
{
    int listening = 0;
    socklen_t size = sizeof(listening);
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening;
}

static bool is_folder(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);
}

static const char *check_start(int argc, char **argv)
{
    if (argc != 3 || !hex_valid(slice_of(argv[1])) || !hex_valid(slice_of(argv[2])))
        return "usage: berth-shim <daemon id> <container id>, by berthd only";
    if (!is_listening_socket(SHIM_FD_LISTENER))
        return "descriptor 3 is not the task socket";
    if (!is_folder(SHIM_FD_STATE) || !is_folder(SHIM_FD_CONTAINER))
        return "descriptors 4 and 5 are not the folders of the task";
    return NULL;
}

// Nobody's child, in nobody's session, with nobody's terminal or log.
static int detach(void)
{
    pid_t child = fork();
    if (child)
        _exit(child < 0);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return -1;
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    if (null > 2)
        close(null);
    close_range(SHIM_FD_INIT + 1, ~0u, 0);
    return setsid() < 0 || chdir("/") < 0 ? -1 : 0;
}

// The daemon's own limits stay as they are: the container's processes inherit them through us.
static void settle_in(void)
{
    prctl(PR_SET_NAME, "berth-shim");
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    umask(0022);
    file_put(AT_FDCWD, "/proc/self/oom_score_adj", "-998", NULL); // refused where the daemon lacks CAP_SYS_RESOURCE
}

int main(int argc, char **argv)
{
    const char *wrong = check_start(argc, argv);
    if (wrong) {
        fprintf(stderr, "berth-shim: %s\n", wrong);
        return 2;
    }
    if (detach() < 0)
        return 1;
    settle_in();
    return shim_run(argv[1], argv[2]);
}
