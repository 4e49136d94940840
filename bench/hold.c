// What a container executes when only its making is measured: it waits, and has no C library to start.
#include <sys/syscall.h>
#include <unistd.h>

void _start(void);
void _start(void)
{
    for (;;)
        syscall(SYS_pause);
}
