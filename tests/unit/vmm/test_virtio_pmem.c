#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <linux/virtio_pmem.h>
#include <sys/mman.h>

#include "guest.h"

#define START UINT64_C(0x200000000)
#define SIZE UINT64_C(0x400000)

static uint32_t flush(struct virtio_mmio *mmio, struct ring *ring, uint32_t type, uint32_t request_size)
{
    memcpy(guest_at(ring->guest, GUEST_DATA), &type, sizeof(type));
    memset(guest_at(ring->guest, GUEST_DATA + 16), 0x55, 4);
    const struct part parts[] = { { GUEST_DATA, request_size, false }, { GUEST_DATA + 16, 4, true } };
    ring_add(ring, parts, 2);
    driver_kick(mmio, 0);
    uint32_t id, len, result;
    assert_true(ring_take(ring, &id, &len));
    assert_int_equal(len, 4);
    memcpy(&result, guest_at(ring->guest, GUEST_DATA + 16), sizeof(result));
    return result;
}

static void tells_its_range_and_flushes(void **state)
{
    struct guest guest;
    struct virtio_mmio mmio;
    struct ring ring;
    guest_init(&guest);
    for (int writable = 0; writable < 2; writable++) {
        struct virtio_device *device;
        int fd = writable ? memfd_create("pmem", MFD_CLOEXEC) : -1;
        assert_int_equal(virtio_pmem_new(&guest.memory, START, SIZE, fd, &device, NULL), 0);
        virtio_mmio_init(&mmio, device);
        ring_init(&ring, &guest, GUEST_BASE, 8);
        assert_int_equal(reg_read(&mmio, VIRTIO_MMIO_DEVICE_ID), 27);
        assert_int_equal(driver_start(&mmio, FEATURES_BASE, &ring, 1), STATUS_LIVE);
        struct virtio_pmem_config config;
        for (unsigned i = 0; i < sizeof(config); i += 8)
            mmio.bus.ops->read(&mmio.bus, VIRTIO_MMIO_CONFIG + i, (uint8_t *)&config + i, 8);
        assert_true(config.start == START && config.size == SIZE);
        assert_int_equal(flush(&mmio, &ring, VIRTIO_PMEM_REQ_TYPE_FLUSH, 4), 0);
        assert_int_equal(flush(&mmio, &ring, 77, 4), UINT32_MAX);
        assert_int_equal(flush(&mmio, &ring, VIRTIO_PMEM_REQ_TYPE_FLUSH, 3), UINT32_MAX);
        assert_int_equal(reg_read(&mmio, VIRTIO_MMIO_STATUS), STATUS_LIVE);
        virtio_free(device);
    }
    guest_done(&guest);
}

static void only_whole_steps(void **state)
{
    static const uint64_t cases[][2] = { { START, 0 }, { START, SIZE + 4096 }, { START + 4096, SIZE },
                                         { UINT64_MAX << 21, 4 << 20 } };
    struct gmem memory = { .len = 0 };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct virtio_device *device;
        struct err err = { 0 };
        assert_int_equal(virtio_pmem_new(&memory, cases[i][0], cases[i][1], -1, &device, &err), -1);
        assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    }
}

static void a_moved_range_is_refused(void **state)
{
    struct gmem memory = { .len = 0 };
    struct virtio_device *device, *other;
    struct err err = { 0 };
    _cleanup_buf_ struct buf saved = BUF_INIT(4096);
    assert_int_equal(virtio_pmem_new(&memory, START, SIZE, -1, &device, NULL), 0);
    assert_int_equal(virtio_pmem_new(&memory, START + SIZE, SIZE, -1, &other, NULL), 0);
    virtio_save(device, &(struct state_writer){ &saved });
    struct state_reader reader = state_open(saved.data, saved.size, &err);
    assert_int_equal(virtio_load(device, &reader), 0);
    assert_int_equal(state_finish(&reader), 0);
    reader = state_open(saved.data, saved.size, &err);
    assert_int_equal(virtio_load(other, &reader), -1);
    assert_non_null(strstr(err.message, "virtio-pmem: the range was"));
    virtio_free(device);
    virtio_free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_its_range_and_flushes),
        cmocka_unit_test(only_whole_steps),
        cmocka_unit_test(a_moved_range_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
