// A machine with the test guest in it: serial output through a pipe, a device that the guest can reach.
#ifndef TEST_MACHINE_GUEST_H
#define TEST_MACHINE_GUEST_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/fd.h"
#include "vmm/kvm.h"
#include "vmm/vmm.h"

#define MEMORY_SIZE (UINT64_C(16) << 20)
#define WAIT_NS (20 * NS_PER_S) // a busy machine is slow, never this slow

// A port that answers and raises line 6 at each write, and 16 bytes of registers at 0xd0100000.
struct test_device {
    struct bus_device port, mmio;
    struct irq_line line;
    uint8_t registers[16];
    unsigned port_writes;
};

static void test_port_read(struct bus_device *device, uint64_t offset, void *data, unsigned size)
{
    memcpy(data, &(uint32_t){ 0x12345678 }, MIN_OF(size, 4u));
}

static void test_port_write(struct bus_device *device, uint64_t offset, const void *data, unsigned size)
{
    struct test_device *test = (struct test_device *)device;
    test->port_writes++;
    irq_raise(&test->line);
}

static struct test_device *of_mmio(struct bus_device *device)
{
    return (struct test_device *)(void *)((char *)device - offsetof(struct test_device, mmio));
}

static void test_mmio_read(struct bus_device *device, uint64_t offset, void *data, unsigned size)
{
    memcpy(data, of_mmio(device)->registers + offset, size);
}

static void test_mmio_write(struct bus_device *device, uint64_t offset, const void *data, unsigned size)
{
    memcpy(of_mmio(device)->registers + offset, data, size);
}

static const struct bus_ops test_port_ops = { "test port", test_port_read, test_port_write };
static const struct bus_ops test_mmio_ops = { "test registers", test_mmio_read, test_mmio_write };

struct guest {
    struct machine *machine;
    struct test_device device;
    int out; // what the guest's serial port says
    int in; // what it hears
    int serial[2]; // the machine's ends
    char text[65536];
    size_t size;
};

// The guests are built beside the test programs.
static int open_guest(const char *name)
{
    char path[PATH_MAX], *slash;
    ssize_t size = readlink("/proc/self/exe", path, sizeof(path) - 1);
    assert_true(size > 0);
    path[size] = '\0';
    slash = strrchr(path, '/');
    snprintf(slash, sizeof(path) - (size_t)(slash - path), "/unit/vmm/guest_%s.elf", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        fail_msg("%s: %s", path, strerror(errno));
    return fd;
}

// Tests of machines are skipped where none can be made.
static bool have_kvm(void)
{
    struct kvm kvm;
    struct err err;
    bool works = kvm_open(&kvm, -1, &err) == 0 && kvm_create(&kvm, &err) == 0;
    if (works)
        kvm_close(&kvm);
    else
        print_message("skipped: %s\n", err.message);
    return works;
}

static void check(int result, const struct err *err)
{
    if (result < 0)
        fail_msg("%s", err->message);
}

// The machine with its devices; neither booted nor restored.
_unused_ static void guest_make(struct guest *guest, struct machine_config config)
{
    struct err err;
    unsigned gsi;
    int out[2], in[2];
    *guest = (struct guest){ .device = { { &test_port_ops }, { &test_mmio_ops }, { -1 }, { 0 }, 0 } };
    check(fd_pipe(out, &err), &err);
    check(fd_pipe(in, &err), &err);
    guest->out = out[0];
    guest->in = in[1];
    guest->serial[0] = in[0];
    guest->serial[1] = out[1];
    config.serial_in_fd = in[0];
    config.serial_out_fd = out[1];
    check(machine_new(&config, &guest->machine, &err), &err);
    check(machine_add_ports(guest->machine, 0x500, 4, &guest->device.port, &err), &err);
    check(machine_add_mmio(guest->machine, 0xd0100000, sizeof(guest->device.registers), &guest->device.mmio, &err), &err);
    check(machine_add_line(guest->machine, &guest->device.line, &gsi, &err), &err);
    assert_int_equal(gsi, 6);
}

_unused_ static struct machine_config small_machine(unsigned cpus)
{
    struct machine_config config = MACHINE_CONFIG_INIT;
    config.cpus = cpus;
    config.memory_size = MEMORY_SIZE;
    return config;
}

_unused_ static void guest_boot(struct guest *guest, const char *name, const char *command, enum machine_protocol protocol)
{
    struct err err;
    _cleanup_close_ int kernel = open_guest(name);
    check(machine_boot(guest->machine, &(struct machine_kernel){ kernel, -1, command, protocol }, &err), &err);
    check(machine_start(guest->machine, &err), &err);
}

_unused_ static void guest_done(struct guest *guest)
{
    machine_free(guest->machine);
    fd_close(guest->out);
    fd_close(guest->in);
    fd_close(guest->serial[0]);
    fd_close(guest->serial[1]);
}

// Reads what the guest says until `until` is in it, or until it says nothing more for `quiet_ms`.
static bool guest_listen(struct guest *guest, const char *until, int quiet_ms)
{
    for (;;) {
        guest->text[guest->size] = '\0';
        if (until && strstr(guest->text, until))
            return true;
        struct pollfd wait = { .fd = guest->out, .events = POLLIN };
        if (poll(&wait, 1, quiet_ms) <= 0 || guest->size == sizeof(guest->text) - 1)
            return false;
        ssize_t got = read(guest->out, guest->text + guest->size, sizeof(guest->text) - 1 - guest->size);
        if (got <= 0)
            return false;
        guest->size += (size_t)got;
    }
}

_unused_ static struct machine_end guest_end(struct guest *guest)
{
    struct machine_end end = { 0 };
    if (machine_wait(guest->machine, clock_mono_ns() + WAIT_NS, &end) != 1)
        fail_msg("the machine goes on; it said: %s", guest->text);
    guest_listen(guest, NULL, 0);
    return end;
}

#endif
