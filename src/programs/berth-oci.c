// berth-oci: an OCI runtime with runc's command line (oci/oci.h).
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "oci/oci.h"

// A container could overwrite the file of a program that enters it, through /proc/<pid>/exe; so the one that does so is a
// sealed copy in memory.
static int become_copy(char **argv)
{
    struct err err = { 0 };
    int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int seals = self < 0 ? -1 : fcntl(self, F_GET_SEALS);
    fd_close(self);
    if (seals >= 0 && (seals & F_SEAL_WRITE))
        return 0;
    int copy = fd_sealed_copy("/proc/self/exe", &err);
    if (copy >= 0)
        syscall(SYS_execveat, copy, "", argv, environ, AT_EMPTY_PATH);
    fprintf(stderr, "berth-oci: run from a copy: %s\n", copy < 0 ? err.message : strerror(errno));
    return -1;
}

int main(int argc, char **argv)
{
    if (oci_enters_container(argc, argv) && become_copy(argv) < 0)
        return 1;
    return oci_main(argc, argv);
}
