// A 16550A serial port, as far as consoles need it: sending is instant, receiving has a FIFO, no modem is attached.
//
// Output goes to `out_fd` byte by byte and never waits. When the descriptor takes no more, the port keeps up to
// SERIAL_PENDING_MAX bytes and then looks busy to the guest, until serial_flush(); a driver that doesn't wait loses bytes.
// vCPU threads read and write the registers, the I/O thread receives and flushes: the lock is inside.
#ifndef VMM_SERIAL_H
#define VMM_SERIAL_H

#include "base/mutex.h"
#include "vmm/bus.h"

#define SERIAL_PORTS 8 // addresses
#define SERIAL_FIFO 64 // bytes received and not read
#define SERIAL_PENDING_MAX 4096

// For the thread that moves bytes; called in a vCPU's thread with the port's lock held: only hand it on.
enum serial_event { SERIAL_HAS_ROOM /* after serial_ask_room() */, SERIAL_BLOCKED /* serial_flush() has work */ };
typedef void serial_fn(void *context, enum serial_event event);

struct serial {
    struct bus_device bus;
    struct irq_line irq;
    struct mutex lock;
    int out_fd; // -1: thrown away; the caller's
    uint8_t interrupt_enable, line_control, modem_control, fifo_control, scratch, divisor[2];
    bool sent; // "transmitter empty" was not told yet
    bool interrupted; // an interrupt was raised and its cause is still there
    uint8_t fifo[SERIAL_FIFO];
    unsigned fifo_at, fifo_len;
    char pending[SERIAL_PENDING_MAX];
    size_t pending_size;
    bool room_asked;
    serial_fn *tell; // NULL: nobody
    void *context;
};

void serial_init(struct serial *serial, int out_fd, const struct irq_line *irq, serial_fn *tell, void *context);
void serial_done(struct serial *serial);
// Bytes for the guest; returns how many it has room for.
size_t serial_receive(struct serial *serial, const void *data, size_t size);
size_t serial_room(struct serial *serial);
void serial_ask_room(struct serial *serial); // tell once when there is some; at once if there is
// Writes what waits; true when something still does.
bool serial_flush(struct serial *serial);
// Repeats the interrupt of a cause that is there: one may have been lost on the way when the machine was saved.
void serial_resume(struct serial *serial);
void serial_save(struct serial *serial, struct state_writer *writer);
int serial_load(struct serial *serial, struct state_reader *reader);

#endif
