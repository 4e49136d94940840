// berth-oci: an OCI runtime with runc's command line (oci/oci.h).
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "oci/oci.h"

// A container could overwrite the file of a program that enters it, through /proc/<pid>/exe; so the one that does so runs from
// a read-only mount of its own that nothing else sees: whatever leads to the file leads through that mount. An exec by
// descriptor shows in the auxiliary vector; both together are only ever so by our doing.
static bool is_out_of_reach(void)
{
    struct statfs info;
    const char *name = (const char *)getauxval(AT_EXECFN);
    return name && str_starts(name, "/dev/fd/") && statfs("/proc/self/exe", &info) == 0 && (info.f_flags & ST_RDONLY);
}

static int read_only_self(void)
{
    struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };
    _cleanup_close_ int fd = open_tree(AT_FDCWD, "/proc/self/exe", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    return fd < 0 || mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0 ? -1 : take_fd(&fd);
}

// Who may not mount runs from a sealed copy in memory.
static bool is_copy(void)
{
    int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int seals = self < 0 ? -1 : fcntl(self, F_GET_SEALS);
    fd_close(self);
    return seals >= 0 && (seals & F_SEAL_WRITE);
}

static int get_out_of_reach(char **argv)
{
    struct err err = { 0 };
    if (is_out_of_reach() || is_copy())
        return 0;
    int self = read_only_self();
    if (self < 0)
        self = fd_sealed_copy("/proc/self/exe", &err);
    if (self >= 0)
        syscall(SYS_execveat, self, "", argv, environ, AT_EMPTY_PATH);
    fprintf(stderr, "berth-oci: run from a copy: %s\n", self < 0 ? err.message : strerror(errno));
    return -1;
}

int main(int argc, char **argv)
{
    if (oci_enters_container(argc, argv) && get_out_of_reach(argv) < 0)
        return 1;
    return oci_main(argc, argv);
}
