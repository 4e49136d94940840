// The socket of seccompagent.py (AGENT, its path), which is there at once: the tests give the agent no time to start.
// seccompagent -socketfile=PATH -pid-file PATH
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const char *path = argc == 4 ? strchr(argv[1], '=') : NULL;
    if (!path || strlen(path + 1) >= sizeof(address.sun_path))
        return 2;
    strcpy(address.sun_path, path + 1);
    unlink(address.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    FILE *file = fopen(argv[3], "w");
    if (!file || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 8) < 0 || dup2(fd, 0) < 0) {
        perror("seccompagent");
        return 1;
    }
    fprintf(file, "%d", (int)getpid());
    fclose(file);
    execl(AGENT, AGENT, (char *)NULL);
    perror(AGENT);
    return 1;
}
