#include <errno.h>
#include <linux/serial_reg.h>
#include <poll.h>

#include "base/fd.h"
#include "vmm/serial.h"

#define RANK_DEVICE 0
#define MODEM_PRESENT (UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS)

// ---- output: with the lock held ------------------------------------------------------------------------------------

// Never waits, whatever kind of descriptor it is: a slow reader must not stop a processor. What poll() calls writable takes
// this many bytes at once.
#define WRITE_AT_ONCE 256

static bool writable(int fd)
{
    struct pollfd wait = { .fd = fd, .events = POLLOUT };
    return poll(&wait, 1, 0) == 1;
}

static void write_pending(struct serial *serial)
{
    size_t at = 0;
    while (at < serial->pending_size && writable(serial->out_fd)) {
        size_t some = MIN_OF(serial->pending_size - at, (size_t)WRITE_AT_ONCE);
        ssize_t wrote = fd_write_some(serial->out_fd, serial->pending + at, some);
        if (wrote < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        at = wrote <= 0 ? serial->pending_size : at + (size_t)wrote; // nobody reads any more: dropped
    }
    serial->pending_size -= at;
    memmove(serial->pending, serial->pending + at, serial->pending_size);
}

static void send_byte(struct serial *serial, uint8_t byte)
{
    if (serial->out_fd < 0 || serial->pending_size == SERIAL_PENDING_MAX)
        return;
    bool waiting = serial->pending_size > 0;
    serial->pending[serial->pending_size++] = (char)byte;
    if (waiting)
        return; // in order, behind what the flush will write
    write_pending(serial);
    if (serial->pending_size && serial->tell)
        serial->tell(serial->context, SERIAL_BLOCKED);
}

// ---- interrupts ----------------------------------------------------------------------------------------------------

// The cause with the highest priority, as the IIR shows it.
static uint8_t cause(const struct serial *serial)
{
    if ((serial->interrupt_enable & UART_IER_RDI) && serial->fifo_len)
        return UART_IIR_RDI;
    if ((serial->interrupt_enable & UART_IER_THRI) && serial->sent)
        return UART_IIR_THRI;
    return UART_IIR_NO_INT;
}

// Edges: one interrupt when a cause appears, none while it stays.
static void update_interrupt(struct serial *serial)
{
    bool wanted = cause(serial) != UART_IIR_NO_INT;
    if (wanted && !serial->interrupted)
        irq_raise(&serial->irq);
    serial->interrupted = wanted;
}

// ---- registers -----------------------------------------------------------------------------------------------------

static uint8_t read_line_status(const struct serial *serial)
{
    uint8_t busy = serial->pending_size == SERIAL_PENDING_MAX ? 0 : UART_LSR_THRE | UART_LSR_TEMT;
    return (uint8_t)(busy | (serial->fifo_len ? UART_LSR_DR : 0));
}

// In loopback the four outputs come back as the four inputs.
static uint8_t read_modem_status(const struct serial *serial)
{
    uint8_t control = serial->modem_control;
    if (!(control & UART_MCR_LOOP))
        return MODEM_PRESENT;
    return (uint8_t)((control & UART_MCR_RTS ? UART_MSR_CTS : 0) | (control & UART_MCR_DTR ? UART_MSR_DSR : 0) |
                     (control & UART_MCR_OUT1 ? UART_MSR_RI : 0) | (control & UART_MCR_OUT2 ? UART_MSR_DCD : 0));
}

static void tell_room(struct serial *serial)
{
    if (!serial->room_asked || serial->fifo_len == SERIAL_FIFO)
        return;
    serial->room_asked = false;
    if (serial->tell)
        serial->tell(serial->context, SERIAL_HAS_ROOM);
}

static uint8_t read_received(struct serial *serial)
{
    if (!serial->fifo_len)
        return 0;
    uint8_t byte = serial->fifo[serial->fifo_at];
    serial->fifo_at = (serial->fifo_at + 1) % SERIAL_FIFO;
    serial->fifo_len--;
    tell_room(serial);
    return byte;
}

static uint8_t read_interrupt_cause(struct serial *serial)
{
    uint8_t value = cause(serial);
    if (value == UART_IIR_THRI)
        serial->sent = false; // reading it is the acknowledgement
    return (uint8_t)(value | (serial->fifo_control & UART_FCR_ENABLE_FIFO ? 0xc0 : 0));
}

static bool latched(const struct serial *serial)
{
    return serial->line_control & UART_LCR_DLAB;
}

static uint8_t read_register(struct serial *serial, uint64_t offset)
{
    switch (offset) {
    case UART_RX:
        return latched(serial) ? serial->divisor[0] : read_received(serial);
    case UART_IER:
        return latched(serial) ? serial->divisor[1] : serial->interrupt_enable;
    case UART_IIR:
        return read_interrupt_cause(serial);
    case UART_LCR:
        return serial->line_control;
    case UART_MCR:
        return serial->modem_control;
    case UART_LSR:
        return read_line_status(serial);
    case UART_MSR:
        return read_modem_status(serial);
    default:
        return serial->scratch;
    }
}

static void put_received(struct serial *serial, uint8_t byte)
{
    if (serial->fifo_len < SERIAL_FIFO)
        serial->fifo[(serial->fifo_at + serial->fifo_len++) % SERIAL_FIFO] = byte;
}

static void write_data(struct serial *serial, uint8_t value)
{
    if (serial->modem_control & UART_MCR_LOOP)
        put_received(serial, value);
    else
        send_byte(serial, value);
    serial->sent = true;
}

static void write_interrupt_enable(struct serial *serial, uint8_t value)
{
    // Drivers count on an interrupt at once when they ask for it with the transmitter empty.
    if ((value & UART_IER_THRI) && !(serial->interrupt_enable & UART_IER_THRI))
        serial->sent = true;
    serial->interrupt_enable = value & 0x0f;
}

static void write_register(struct serial *serial, uint64_t offset, uint8_t value)
{
    switch (offset) {
    case UART_TX:
        if (latched(serial))
            serial->divisor[0] = value;
        else
            write_data(serial, value);
        break;
    case UART_IER:
        if (latched(serial))
            serial->divisor[1] = value;
        else
            write_interrupt_enable(serial, value);
        break;
    case UART_FCR:
        serial->fifo_control = value & UART_FCR_ENABLE_FIFO;
        if (value & UART_FCR_CLEAR_RCVR) {
            serial->fifo_len = 0;
            tell_room(serial);
        }
        break;
    case UART_LCR:
        serial->line_control = value;
        break;
    case UART_MCR:
        serial->modem_control = value & 0x1f;
        break;
    case UART_SCR:
        serial->scratch = value;
        break;
    default: // status registers
        break;
    }
}

static void bus_read_serial(struct bus_device *device, uint64_t offset, void *data, unsigned size)
{
    struct serial *serial = (struct serial *)device;
    memset(data, 0xff, size);
    if (size != 1)
        return;
    mutex_lock(&serial->lock);
    *(uint8_t *)data = read_register(serial, offset);
    update_interrupt(serial);
    mutex_unlock(&serial->lock);
}

static void bus_write_serial(struct bus_device *device, uint64_t offset, const void *data, unsigned size)
{
    struct serial *serial = (struct serial *)device;
    if (size != 1)
        return;
    mutex_lock(&serial->lock);
    write_register(serial, offset, *(const uint8_t *)data);
    update_interrupt(serial);
    mutex_unlock(&serial->lock);
}

static const struct bus_ops serial_ops = { "serial", bus_read_serial, bus_write_serial };

// ---- the machine's side --------------------------------------------------------------------------------------------

void serial_init(struct serial *serial, int out_fd, const struct irq_line *irq, serial_fn *tell, void *context)
{
    *serial = (struct serial){
        .bus.ops = &serial_ops, .irq = *irq, .out_fd = out_fd, .divisor = { 12, 0 }, .tell = tell, .context = context,
    };
    mutex_init(&serial->lock, RANK_DEVICE);
}

void serial_done(struct serial *serial)
{
    mutex_done(&serial->lock);
}

size_t serial_receive(struct serial *serial, const void *data, size_t size)
{
    mutex_lock(&serial->lock);
    size_t taken = MIN_OF(size, (size_t)(SERIAL_FIFO - serial->fifo_len));
    for (size_t i = 0; i < taken; i++)
        put_received(serial, ((const uint8_t *)data)[i]);
    update_interrupt(serial);
    mutex_unlock(&serial->lock);
    return taken;
}

size_t serial_room(struct serial *serial)
{
    mutex_lock(&serial->lock);
    size_t room = SERIAL_FIFO - serial->fifo_len;
    mutex_unlock(&serial->lock);
    return room;
}

void serial_ask_room(struct serial *serial)
{
    mutex_lock(&serial->lock);
    serial->room_asked = true;
    tell_room(serial);
    mutex_unlock(&serial->lock);
}

bool serial_flush(struct serial *serial)
{
    mutex_lock(&serial->lock);
    write_pending(serial);
    bool more = serial->pending_size > 0;
    mutex_unlock(&serial->lock);
    return more;
}

void serial_resume(struct serial *serial)
{
    mutex_lock(&serial->lock);
    serial->interrupted = false;
    update_interrupt(serial);
    mutex_unlock(&serial->lock);
}

void serial_save(struct serial *serial, struct state_writer *writer)
{
    mutex_lock(&serial->lock);
    uint8_t registers[] = { serial->interrupt_enable, serial->line_control, serial->modem_control, serial->fifo_control,
                            serial->scratch,          serial->divisor[0],   serial->divisor[1],    serial->sent };
    state_begin(writer, "serial", 1);
    state_put_bytes(writer, registers, sizeof(registers));
    uint8_t waiting[SERIAL_FIFO];
    for (unsigned i = 0; i < serial->fifo_len; i++)
        waiting[i] = serial->fifo[(serial->fifo_at + i) % SERIAL_FIFO];
    state_put_blob(writer, waiting, serial->fifo_len);
    mutex_unlock(&serial->lock);
}

int serial_load(struct serial *serial, struct state_reader *reader)
{
    uint8_t registers[8];
    state_enter(reader, "serial", 1);
    state_get_bytes(reader, registers, sizeof(registers));
    mutex_lock(&serial->lock);
    serial->interrupt_enable = registers[0] & 0x0f;
    serial->line_control = registers[1];
    serial->modem_control = registers[2] & 0x1f;
    serial->fifo_control = registers[3] & UART_FCR_ENABLE_FIFO;
    serial->scratch = registers[4];
    memcpy(serial->divisor, registers + 5, sizeof(serial->divisor));
    serial->sent = registers[7] & 1;
    serial->fifo_at = 0;
    serial->fifo_len = state_get_blob(reader, serial->fifo, SERIAL_FIFO);
    mutex_unlock(&serial->lock);
    return state_check(reader);
}
