// Runs a command and prints how much of it was resident at once, in KiB: the largest process's. Static and small itself, because
// what a process had before its exec counts as its own. Without a command it does nothing: the container's program when a runtime
// is measured, which must not be the larger of the two.
#include <spawn.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>

int main(int argc, char *argv[], char *envp[])
{
    pid_t pid;
    int status;
    struct rusage usage;
    if (argc < 2)
        return 0;
    if (posix_spawn(&pid, argv[1], NULL, NULL, argv + 1, envp) != 0 || waitpid(pid, &status, 0) < 0 || status != 0)
        return 1;
    getrusage(RUSAGE_CHILDREN, &usage);
    printf("%ld\n", usage.ru_maxrss);
    return 0;
}
