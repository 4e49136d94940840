#include <errno.h>

#include "shim/vm.h"

#define TAIL_LINES 6
#define DRAIN_ROUNDS 16

// 1: more may be there, 0: nothing now, -1: the end.
static int read_some(struct vm_console *console)
{
    char data[4096];
    ssize_t got = read(console->fd, data, sizeof(data));
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (got <= 0)
        return -1;
    for (ssize_t i = 0; i < got; i++)
        console->ring[console->total++ % VM_CONSOLE_SIZE] = data[i];
    return 1;
}

static void console_end(struct vm_console *console)
{
    loop_remove(take_ptr(&console->source));
    fd_close(take_fd(&console->fd));
}

static void console_readable(void *context, int fd, uint32_t events)
{
    if (read_some(context) < 0)
        console_end(context);
}

int vm_console_open(struct vm_console *console, struct loop *loop, int *write_end, struct err *err)
{
    int ends[2];
    if (fd_pipe(ends, err) < 0)
        return -1;
    console->fd = ends[0];
    *write_end = ends[1];
    console->ring = mem_alloc(VM_CONSOLE_SIZE);
    if (fd_set_nonblock(console->fd, true, err) < 0)
        return -1;
    return loop_add_fd(loop, console->fd, EPOLLIN, console_readable, console, &console->source, err);
}

void vm_console_drain(struct vm_console *console)
{
    int more = console->fd < 0 ? 0 : 1;
    for (int round = 0; more > 0 && round < DRAIN_ROUNDS; round++)
        more = read_some(console);
    if (more < 0)
        console_end(console);
}

void vm_console_done(struct vm_console *console)
{
    console_end(console);
    free(take_ptr(&console->ring));
}

// ---- what it said last ----------------------------------------------------------------------------------------------

static char at(const struct vm_console *console, size_t place)
{
    return console->ring[place % VM_CONSOLE_SIZE];
}

// Where the last lines begin that fit into `room` bytes.
static size_t tail_start(const struct vm_console *console, size_t room)
{
    size_t first = console->total > VM_CONSOLE_SIZE ? console->total - VM_CONSOLE_SIZE : 0;
    size_t place = console->total, lines = 0;
    while (place > first && at(console, place - 1) == '\n')
        place--;
    for (size_t end = place; place > first && end - place < room; place--) {
        if (at(console, place - 1) == '\n' && ++lines == TAIL_LINES)
            break;
    }
    return place;
}

void vm_console_tail(const struct vm_console *console, char *out, size_t size)
{
    size_t used = 0;
    bool gap = false;
    for (size_t place = console->ring ? tail_start(console, size / 2) : console->total; place < console->total; place++) {
        char c = at(console, place);
        if (c == '\n') {
            gap = true;
            continue;
        }
        if (c < ' ' || c > '~')
            continue;
        if (gap && used && used + 4 < size) {
            memcpy(out + used, " | ", 3);
            used += 3;
        }
        gap = false;
        if (used + 1 < size)
            out[used++] = c;
    }
    out[used] = '\0';
}
