// The serial port, the ACPI tables and the platform's ports, without KVM.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <linux/serial_reg.h>
#include <sys/eventfd.h>

#include "base/fd.h"
#include "vmm/acpi.h"
#include "vmm/layout.h"
#include "vmm/platform.h"
#include "vmm/serial.h"

// ---- serial --------------------------------------------------------------------------------------------------------

struct port {
    struct serial serial;
    int out[2];
    struct irq_line irq;
    unsigned told[2];
};

static void count_told(void *context, enum serial_event event)
{
    ((struct port *)context)->told[event]++;
}

static void port_init(struct port *port)
{
    struct err err;
    *port = (struct port){ 0 };
    assert_int_equal(fd_pipe(port->out, &err), 0);
    port->irq.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    serial_init(&port->serial, port->out[1], &port->irq, count_told, port);
}

static void port_done(struct port *port)
{
    serial_done(&port->serial);
    fd_close(port->out[0]);
    fd_close(port->out[1]);
    fd_close(port->irq.event_fd);
}

static uint8_t get(struct port *port, uint64_t offset)
{
    uint8_t value;
    port->serial.bus.ops->read(&port->serial.bus, offset, &value, 1);
    return value;
}

static void set(struct port *port, uint64_t offset, uint8_t value)
{
    port->serial.bus.ops->write(&port->serial.bus, offset, &value, 1);
}

static unsigned interrupts(struct port *port)
{
    uint64_t count = 0;
    return read(port->irq.event_fd, &count, sizeof(count)) == sizeof(count) ? (unsigned)count : 0;
}

static void test_serial_output(void **state)
{
    struct port port;
    char text[8] = "";
    port_init(&port);
    for (const char *c = "hello"; *c; c++) {
        assert_int_equal(get(&port, UART_LSR) & UART_LSR_THRE, UART_LSR_THRE);
        set(&port, UART_TX, (uint8_t)*c);
    }
    assert_int_equal(read(port.out[0], text, sizeof(text) - 1), 5);
    assert_string_equal(text, "hello");
    assert_int_equal(interrupts(&port), 0);
    set(&port, UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8); // the divisor hides the data register
    set(&port, UART_DLL, 1);
    assert_int_equal(get(&port, UART_DLL), 1);
    port_done(&port);
}

// As Linux probes: loopback, FIFO, the transmitter's interrupt.
static void test_serial_probe(void **state)
{
    struct port port;
    port_init(&port);
    set(&port, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
    assert_int_equal(get(&port, UART_MSR) & 0xf0, 0x90);
    set(&port, UART_TX, 'x');
    assert_int_equal(get(&port, UART_RX), 'x');
    set(&port, UART_MCR, 0);
    set(&port, UART_FCR, UART_FCR_ENABLE_FIFO);
    assert_int_equal(get(&port, UART_IIR) >> 6, 3);
    set(&port, UART_IER, UART_IER_THRI);
    assert_int_equal(interrupts(&port), 1);
    assert_int_equal(get(&port, UART_IIR) & 0xf, UART_IIR_THRI);
    assert_int_equal(get(&port, UART_IIR) & 0xf, UART_IIR_NO_INT); // read: acknowledged
    set(&port, UART_IER, 0);
    set(&port, UART_IER, UART_IER_THRI); // enabled anew: told anew
    assert_int_equal(interrupts(&port), 1);
    set(&port, UART_TX, 'y');
    assert_int_equal(interrupts(&port), 0); // one edge until it is acknowledged
    get(&port, UART_IIR);
    set(&port, UART_TX, 'z');
    assert_int_equal(interrupts(&port), 1);
    port_done(&port);
}

static void test_serial_input(void **state)
{
    struct port port;
    uint8_t data[100];
    port_init(&port);
    memset(data, 'a', sizeof(data));
    set(&port, UART_IER, UART_IER_RDI);
    assert_int_equal(serial_receive(&port.serial, data, sizeof(data)), SERIAL_FIFO);
    assert_int_equal(interrupts(&port), 1);
    serial_ask_room(&port.serial);
    assert_int_equal(port.told[SERIAL_HAS_ROOM], 0);
    assert_int_equal(get(&port, UART_IIR) & 0xf, UART_IIR_RDI);
    for (int i = 0; i < SERIAL_FIFO; i++)
        assert_int_equal(get(&port, UART_RX), 'a');
    assert_int_equal(port.told[SERIAL_HAS_ROOM], 1);
    assert_int_equal(get(&port, UART_LSR) & UART_LSR_DR, 0);
    assert_int_equal(get(&port, UART_RX), 0);
    assert_int_equal(serial_receive(&port.serial, "b", 1), 1);
    assert_int_equal(interrupts(&port), 1);
    port_done(&port);
}

static void test_serial_slow_reader(void **state)
{
    struct port port;
    char text[65536];
    size_t sent = 0, got = 0;
    port_init(&port);
    assert_int_equal(fcntl(port.out[1], F_SETPIPE_SZ, 4096), 4096);
    while (get(&port, UART_LSR) & UART_LSR_THRE) {
        set(&port, UART_TX, (uint8_t)('a' + sent % 26));
        sent++;
        assert_true(sent < sizeof(text));
    }
    assert_int_equal(port.told[SERIAL_BLOCKED], 1);
    set(&port, UART_TX, '!'); // a driver that doesn't wait: lost
    while (got < sent) {
        ssize_t size = read(port.out[0], text + got, sizeof(text) - got);
        assert_true(size > 0);
        got += (size_t)size;
        serial_flush(&port.serial);
    }
    for (size_t i = 0; i < sent; i++)
        assert_int_equal(text[i], 'a' + i % 26);
    assert_false(serial_flush(&port.serial));
    fd_close(take_fd(&port.out[0])); // nobody any more
    for (int i = 0; i < 10000; i++)
        set(&port, UART_TX, 'x');
    assert_true(get(&port, UART_LSR) & UART_LSR_THRE);
    port_done(&port);
}

static void test_serial_state(void **state)
{
    struct port port, other;
    _cleanup_buf_ struct buf saved = BUF_INIT(4096);
    struct state_writer writer = { &saved };
    struct err err;
    port_init(&port);
    port_init(&other);
    set(&port, UART_IER, UART_IER_RDI);
    set(&port, UART_SCR, 0x5a);
    set(&port, UART_LCR, UART_LCR_WLEN8);
    serial_receive(&port.serial, "abc", 3);
    get(&port, UART_RX);
    serial_save(&port.serial, &writer);
    struct state_reader reader = state_open(saved.data, saved.size, &err);
    assert_int_equal(serial_load(&other.serial, &reader), 0);
    assert_int_equal(state_finish(&reader), 0);
    serial_resume(&other.serial);
    assert_int_equal(interrupts(&other), 1); // what was not acknowledged comes again
    assert_int_equal(get(&other, UART_SCR), 0x5a);
    assert_int_equal(get(&other, UART_RX), 'b');
    assert_int_equal(get(&other, UART_RX), 'c');
    for (size_t size = 0; size < saved.size; size++) {
        reader = state_open(saved.data, size, &err);
        assert_int_equal(serial_load(&other.serial, &reader), -1);
    }
    port_done(&port);
    port_done(&other);
}

// ---- ports ---------------------------------------------------------------------------------------------------------

static void keep_request(void *context, enum platform_request request)
{
    *(int *)context = (int)request;
}

static void test_reset_and_power(void **state)
{
    struct platform platform;
    int asked = -1;
    uint8_t value;
    platform_init(&platform, keep_request, &asked);
    for (unsigned i = 0; i < 256; i++) {
        value = (uint8_t)i;
        platform.keyboard.ops->write(&platform.keyboard, 0, &value, 1);
        assert_int_equal(asked, i == 0xfe ? PLATFORM_RESET : -1);
        asked = -1;
        platform.sleep.ops->write(&platform.sleep, 0, &value, 1);
        assert_int_equal(asked, (i & 0x3c) == 0x34 ? PLATFORM_POWER_OFF : -1);
        asked = -1;
        platform.sleep.ops->write(&platform.sleep, 1, &value, 1); // the status register
        assert_int_equal(asked, -1);
    }
    platform.keyboard.ops->read(&platform.keyboard, 0, &value, 1);
    assert_int_equal(value, 0);
}

// ---- ACPI ----------------------------------------------------------------------------------------------------------

static uint64_t number(const struct buf *tables, uint64_t gpa, size_t size)
{
    uint64_t value = 0;
    assert_true(gpa >= LAYOUT_ACPI && gpa - LAYOUT_ACPI + size <= tables->size);
    memcpy(&value, tables->data + (gpa - LAYOUT_ACPI), size);
    return value;
}

static void check_sum(const struct buf *tables, uint64_t gpa, uint64_t size)
{
    uint8_t sum = 0;
    for (uint64_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + number(tables, gpa + i, 1));
    assert_int_equal(sum, 0);
}

static void check_table(const struct buf *tables, uint64_t gpa, const char *signature)
{
    assert_memory_equal(tables->data + (gpa - LAYOUT_ACPI), signature, 4);
    check_sum(tables, gpa, number(tables, gpa + 4, 4));
}

static void test_acpi_tables(void **state)
{
    struct acpi_mmio mmio[16];
    for (size_t i = 0; i < ARRAY_LEN(mmio); i++)
        mmio[i] = (struct acpi_mmio){ LAYOUT_MMIO + i * 4096, 4096, (uint32_t)(6 + i) };
    for (size_t len = 0; len <= ARRAY_LEN(mmio); len++) {
        _cleanup_buf_ struct buf tables = BUF_INIT(LAYOUT_ACPI_SIZE);
        acpi_build(&(struct acpi_machine){ 1 + (unsigned)len / 2 % 8, mmio, len }, LAYOUT_ACPI, &tables);
        assert_false(tables.overflow);
        assert_memory_equal(tables.data, "RSD PTR ", 8);
        check_sum(&tables, LAYOUT_ACPI, 20);
        check_sum(&tables, LAYOUT_ACPI, 36);
        uint64_t xsdt = number(&tables, LAYOUT_ACPI + 24, 8);
        check_table(&tables, xsdt, "XSDT");
        uint64_t fadt = number(&tables, xsdt + 36, 8), madt = number(&tables, xsdt + 44, 8);
        check_table(&tables, fadt, "FACP");
        check_table(&tables, madt, "APIC");
        check_table(&tables, number(&tables, fadt + 140, 8), "DSDT");
        assert_int_equal(number(&tables, fadt + 112, 4) >> 20 & 1, 1); // hardware-reduced
        assert_int_equal(number(&tables, madt + 4, 4), 44 + (1 + len / 2 % 8) * 8 + 12 + 6);
        assert_int_equal(memmem(tables.data, tables.size, "LNRO0005", 8) != NULL, len > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_serial_output), cmocka_unit_test(test_serial_probe),
        cmocka_unit_test(test_serial_input),  cmocka_unit_test(test_serial_slow_reader),
        cmocka_unit_test(test_serial_state),  cmocka_unit_test(test_reset_and_power),
        cmocka_unit_test(test_acpi_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
