#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "guest.h"

static void buffers_are_filled(void **state)
{
    struct guest guest;
    struct virtio_device *device;
    struct virtio_mmio mmio;
    struct ring ring;
    guest_init(&guest);
    assert_int_equal(virtio_rng_new(&guest.memory, &device, NULL), 0);
    virtio_mmio_init(&mmio, device);
    ring_init(&ring, &guest, GUEST_BASE, 8);
    assert_int_equal(reg_read(&mmio, VIRTIO_MMIO_DEVICE_ID), 4);
    assert_int_equal(driver_start(&mmio, FEATURES_BASE, &ring, 1), STATUS_LIVE);
    static const struct {
        struct part parts[2];
        unsigned len;
        uint32_t got;
    } cases[] = {
        { { { GUEST_DATA, 64, true }, { GUEST_DATA + 0x100, 64, true } }, 2, 128 },
        { { { GUEST_DATA, 8, false } }, 1, 0 }, // nothing to fill
        { { { GUEST_DATA, 0, true } }, 1, 0 },
        { { { GUEST_DATA, 1 << 20, true } }, 1, 64 << 10 }, // bounded
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        memset(guest_at(&guest, GUEST_DATA), 0, 0x1000);
        ring_add(&ring, cases[i].parts, cases[i].len);
        driver_kick(&mmio, 0);
        uint32_t id, len;
        assert_true(ring_take(&ring, &id, &len));
        assert_int_equal(len, cases[i].got);
        static const uint8_t zeroes[64];
        assert_int_equal(memcmp(guest_at(&guest, GUEST_DATA), zeroes, 64) != 0, cases[i].got != 0);
        assert_int_equal(memcmp(guest_at(&guest, GUEST_DATA + 0x100), zeroes, 64) != 0, cases[i].got > 64);
    }
    virtio_free(device);
    guest_done(&guest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffers_are_filled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
