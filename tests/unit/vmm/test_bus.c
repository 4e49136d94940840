#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <sys/eventfd.h>

#include "base/fd.h"
#include "vmm/bus.h"

struct probe {
    struct bus_device bus;
    uint64_t offset;
    unsigned size;
    int reads, writes;
};

static void probe_read(struct bus_device *device, uint64_t offset, void *data, unsigned size)
{
    struct probe *probe = (struct probe *)device;
    probe->offset = offset;
    probe->size = size;
    probe->reads++;
    memset(data, 0x11, size);
}

static void probe_write(struct bus_device *device, uint64_t offset, const void *data, unsigned size)
{
    struct probe *probe = (struct probe *)device;
    probe->offset = offset;
    probe->size = size;
    probe->writes++;
}

static const struct bus_ops probe_ops = { "probe", probe_read, probe_write };

static void ranges_never_overlap(void **state)
{
    struct probe probe = { .bus.ops = &probe_ops };
    struct bus bus = { .len = 0 };
    static const struct {
        uint64_t base, size;
        int result;
    } cases[] = {
        { 0x3000, 0x1000, 0 },  { 0x1000, 0x1000, 0 }, { 0x2000, 0x1000, 0 },      { 0x2fff, 1, -1 },  { 0x0, 0x1001, -1 },
        { 0x0, 0x10000, -1 },   { 0x5000, 0, -1 },     { UINT64_MAX, 2, -1 },      { 0x0, 0x1000, 0 }, { UINT64_MAX, 1, 0 },
        { 0x4000, UINT64_MAX - 0x3fff, -1 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(bus_add(&bus, cases[i].base, cases[i].size, &probe.bus, NULL), cases[i].result);
    for (size_t i = 1; i < bus.len; i++)
        assert_true(bus.ranges[i - 1].base < bus.ranges[i].base);
}

static void an_access_lies_in_one_range(void **state)
{
    struct probe low = { .bus.ops = &probe_ops }, high = { .bus.ops = &probe_ops };
    struct bus bus = { .len = 0 };
    assert_int_equal(bus_add(&bus, 0x1000, 0x10, &low.bus, NULL), 0);
    assert_int_equal(bus_add(&bus, 0x1010, 0x10, &high.bus, NULL), 0);
    uint64_t data = 0;
    assert_true(bus_read(&bus, 0x100c, &data, 4));
    assert_int_equal(low.offset, 0xc);
    assert_int_equal(low.size, 4);
    assert_true(data == 0x11111111);
    assert_true(bus_write(&bus, 0x1010, &data, 8));
    assert_int_equal(high.offset, 0);
    assert_false(bus_read(&bus, 0x100c, &data, 8)); // runs into the next device
    assert_true(data == UINT64_MAX);
    assert_false(bus_write(&bus, 0x101c, &data, 8));
    assert_false(bus_write(&bus, 0xfff, &data, 1));
    assert_false(bus_write(&bus, UINT64_MAX, &data, 8));
    assert_false(bus_read(&bus, 0x1000, &data, 3)); // no such width
    assert_int_equal(low.reads, 1);
    assert_int_equal(high.writes, 1);
}

static void the_table_is_bounded(void **state)
{
    struct probe probe = { .bus.ops = &probe_ops };
    struct bus bus = { .len = 0 };
    struct err err = { 0 };
    for (uint64_t i = BUS_RANGE_MAX; i > 0; i--)
        assert_int_equal(bus_add(&bus, i * 16, 16, &probe.bus, &err), 0);
    assert_int_equal(bus_add(&bus, 0x10000, 16, &probe.bus, &err), -1);
    assert_int_equal(err.class, ERR_RESOURCE_EXHAUSTED);
}

static void raising_writes_the_eventfd(void **state)
{
    _cleanup_close_ int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    irq_raise(&(struct irq_line){ fd });
    irq_raise(&(struct irq_line){ fd });
    irq_raise(&(struct irq_line){ -1 });
    eventfd_t count = 0;
    assert_int_equal(eventfd_read(fd, &count), 0);
    assert_int_equal(count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_never_overlap),
        cmocka_unit_test(an_access_lies_in_one_range),
        cmocka_unit_test(the_table_is_bounded),
        cmocka_unit_test(raising_writes_the_eventfd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
