#include <errno.h>

#include "base/fd.h"
#include "vmm/machine.h"

// ---- input: as much as the port's FIFO has room for, the rest waits in the descriptor ------------------------------

static void on_input(void *context, int fd, uint32_t events);

static void watch_input(void *context)
{
    struct machine *machine = context;
    // It was watched before: it can be again, or the guest gets no input.
    if (machine->serial_in_fd >= 0 && !machine->serial_in)
        loop_add_fd(machine->loop, machine->serial_in_fd, EPOLLIN, on_input, machine, &machine->serial_in, NULL);
}

// A hung-up descriptor that nobody reads would wake the loop for ever: it is not watched while there is no room.
static void unwatch_input(struct machine *machine)
{
    loop_remove(machine->serial_in);
    machine->serial_in = NULL;
}

static void on_input(void *context, int fd, uint32_t events)
{
    struct machine *machine = context;
    char data[SERIAL_FIFO];
    size_t room = serial_room(&machine->serial);
    if (room == 0) {
        unwatch_input(machine);
        serial_ask_room(&machine->serial);
        return;
    }
    ssize_t got = read(fd, data, room);
    if (got > 0) {
        serial_receive(&machine->serial, data, (size_t)got);
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        unwatch_input(machine);
        machine->serial_in_fd = -1;
    }
}

// ---- output that its descriptor doesn't take now -------------------------------------------------------------------

static void on_output(void *context, int fd, uint32_t events)
{
    struct machine *machine = context;
    if (serial_flush(&machine->serial) && !(events & (EPOLLERR | EPOLLHUP)))
        return;
    loop_remove(machine->serial_out);
    machine->serial_out = NULL;
}

static void watch_output(void *context)
{
    struct machine *machine = context;
    if (!machine->serial_out)
        loop_add_fd(machine->loop, machine->serial_out_fd, EPOLLOUT, on_output, machine, &machine->serial_out, NULL);
}

// The port calls from a processor's thread.
static void on_serial(void *context, enum serial_event event)
{
    struct machine *machine = context;
    loop_post(machine->loop, event == SERIAL_HAS_ROOM ? watch_input : watch_output, machine);
}

// A regular file or /dev/null can't be waited for (EPERM): no input then.
static int watch_input_first(struct machine *machine, int fd, struct err *err)
{
    struct err reason = { 0 };
    machine->serial_in_fd = fd;
    if (loop_add_fd(machine->loop, fd, EPOLLIN, on_input, machine, &machine->serial_in, &reason) == 0)
        return 0;
    machine->serial_in = NULL;
    machine->serial_in_fd = -1;
    if (reason.number == EPERM)
        return 0;
    if (err)
        *err = reason;
    return -1;
}

int machine_serial_init(struct machine *machine, const struct machine_config *config, struct err *err)
{
    struct irq_line line;
    if (kvm_irq_line(&machine->kvm, LAYOUT_GSI_SERIAL, &line, err) < 0)
        return -1;
    machine->lines[LAYOUT_GSI_SERIAL] = line.event_fd;
    if (config->serial_out_fd >= 0) {
        machine->serial_out_fd = fd_dup(config->serial_out_fd, err); // may be the input's too: epoll takes each once
        if (machine->serial_out_fd < 0)
            return -1;
    }
    serial_init(&machine->serial, machine->serial_out_fd, &line, on_serial, machine);
    if (config->serial_in_fd >= 0 && watch_input_first(machine, config->serial_in_fd, err) < 0)
        return -1;
    return bus_add(&machine->ports, LAYOUT_PORT_SERIAL, SERIAL_PORTS, &machine->serial.bus, err);
}
