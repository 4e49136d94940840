#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>

#include "base/fd.h"
#include "guest.h"

#define SECTORS 64
#define HEADER GUEST_DATA
#define STATUS (GUEST_DATA + 0x100)
#define DATA (GUEST_DATA + 0x1000)

struct fixture {
    struct guest guest;
    struct ring ring;
    struct virtio_device *device;
    struct virtio_mmio mmio;
    int file; // our own look at the disk
};

static uint8_t pattern(uint64_t at)
{
    return (uint8_t)(at / 512 * 7 + at % 251);
}

static int temp_file(void)
{
    char path[] = "/tmp/test-blk-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    unlink(path);
    uint8_t data[SECTORS * 512 + 100]; // the odd end is not part of the disk
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = pattern(i);
    assert_int_equal(pwrite(fd, data, sizeof(data), 0), sizeof(data));
    return fd;
}

static void make(struct fixture *fixture, bool read_only)
{
    assert_int_equal(virtio_blk_new(&fixture->guest.memory, fd_dup(fixture->file, NULL), read_only, "disk-of-the-test-suite",
                                    &fixture->device, NULL), 0);
    fixture->device->irq.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    virtio_mmio_init(&fixture->mmio, fixture->device);
}

static void unmake(struct fixture *fixture)
{
    fd_close(fixture->device->irq.event_fd);
    virtio_free(fixture->device);
}

static int set_up(void **state)
{
    struct fixture *fixture = mem_new(struct fixture);
    guest_init(&fixture->guest);
    fixture->file = temp_file();
    ring_init(&fixture->ring, &fixture->guest, GUEST_BASE, 128);
    make(fixture, false);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    unmake(fixture);
    fd_close(fixture->file);
    guest_done(&fixture->guest);
    free(fixture);
    return 0;
}

static void start(struct fixture *fixture)
{
    uint64_t features = driver_offered(&fixture->mmio);
    assert_int_equal(driver_start(&fixture->mmio, features, &fixture->ring, 1), STATUS_LIVE);
}

// Queues a request with its data in `parts`; the answer comes later.
static void submit(struct fixture *fixture, uint32_t type, uint64_t sector, const struct part *parts, unsigned len)
{
    const struct virtio_blk_outhdr header = { type, 0, sector };
    struct part all[100] = { { HEADER, sizeof(header), false } };
    memcpy(guest_at(&fixture->guest, HEADER), &header, sizeof(header));
    memset(guest_at(&fixture->guest, STATUS), 0xee, 1);
    for (unsigned i = 0; i < len; i++)
        all[i + 1] = parts[i];
    all[len + 1] = (struct part){ STATUS, 1, true };
    ring_add(&fixture->ring, all, len + 2);
}

static uint8_t request(struct fixture *fixture, uint32_t type, uint64_t sector, const struct part *parts, unsigned len,
                       uint32_t *written)
{
    uint32_t id;
    submit(fixture, type, sector, parts, len);
    driver_kick(&fixture->mmio, 0);
    assert_true(ring_take(&fixture->ring, &id, written));
    return *(uint8_t *)guest_at(&fixture->guest, STATUS);
}

// ---- a disk ---------------------------------------------------------------------------------------------------------

static void tells_what_it_is(void **state)
{
    struct fixture *fixture = *state;
    struct virtio_blk_config config;
    for (unsigned i = 0; i < sizeof(config); i++)
        fixture->mmio.bus.ops->read(&fixture->mmio.bus, VIRTIO_MMIO_CONFIG + i, (uint8_t *)&config + i, 1);
    assert_int_equal(config.capacity, SECTORS);
    assert_int_equal(config.seg_max, 254);
    assert_true((uint64_t)config.seg_max * config.size_max < VIRTQ_CHAIN_BYTES_MAX);
    assert_int_equal(reg_read(&fixture->mmio, VIRTIO_MMIO_DEVICE_ID), 2);
    start(fixture);
    uint32_t written;
    const struct part id = { DATA, 20, true };
    assert_int_equal(request(fixture, VIRTIO_BLK_T_GET_ID, 0, &id, 1, &written), VIRTIO_BLK_S_OK);
    assert_int_equal(written, 21);
    assert_memory_equal(guest_at(&fixture->guest, DATA), "disk-of-the-test-suite", 20);
    const struct part tiny = { DATA + 100, 4, true };
    assert_int_equal(request(fixture, VIRTIO_BLK_T_GET_ID, 0, &tiny, 1, &written), VIRTIO_BLK_S_OK);
    assert_int_equal(written, 5);
}

static void reads_and_writes_scattered(void **state)
{
    struct fixture *fixture = *state;
    uint32_t written;
    start(fixture);
    const struct part in[] = { { DATA, 700, true }, { DATA + 0x1000, 1, true }, { DATA + 0x2000, 1536 - 701, true } };
    assert_int_equal(request(fixture, VIRTIO_BLK_T_IN, 3, in, 3, &written), VIRTIO_BLK_S_OK);
    assert_int_equal(written, 1537);
    const uint8_t *data = guest_at(&fixture->guest, DATA);
    for (unsigned i = 0; i < 1536; i++) {
        unsigned at = i < 700 ? i : i == 700 ? 0x1000 : 0x2000 + i - 701;
        assert_int_equal(data[at], pattern(3 * 512 + i));
    }
    const struct part out[] = { { DATA + 0x2000, 12, false }, { DATA, 500, false } };
    assert_int_equal(request(fixture, VIRTIO_BLK_T_OUT, SECTORS - 1, out, 2, &written), VIRTIO_BLK_S_OK);
    assert_int_equal(written, 1);
    uint8_t back[512];
    assert_int_equal(pread(fixture->file, back, 512, (SECTORS - 1) * 512), 512);
    assert_memory_equal(back, data + 0x2000, 12);
    assert_memory_equal(back + 12, data, 500);
    assert_int_equal(request(fixture, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, &written), VIRTIO_BLK_S_OK);
    assert_int_equal(lseek(fixture->file, 0, SEEK_END), SECTORS * 512 + 100);
}

static void write_through_without_flush(void **state)
{
    struct fixture *fixture = *state;
    uint32_t written;
    assert_int_equal(driver_start(&fixture->mmio, FEATURES_BASE, &fixture->ring, 1), STATUS_LIVE);
    memset(guest_at(&fixture->guest, DATA), 0xab, 512);
    const struct part out = { DATA, 512, false };
    assert_int_equal(request(fixture, VIRTIO_BLK_T_OUT, 0, &out, 1, &written), VIRTIO_BLK_S_OK);
    // What was not negotiated is not there.
    const struct virtio_blk_discard_write_zeroes range = { 0, 1, 0 };
    memcpy(guest_at(&fixture->guest, DATA), &range, sizeof(range));
    const struct part ranges = { DATA, sizeof(range), false };
    assert_int_equal(request(fixture, VIRTIO_BLK_T_DISCARD, 0, &ranges, 1, &written), VIRTIO_BLK_S_UNSUPP);
}

static void ranges_of_discard_and_zeroes(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        uint32_t type;
        struct virtio_blk_discard_write_zeroes range;
        uint32_t size;
        uint8_t status;
    } cases[] = {
        { VIRTIO_BLK_T_WRITE_ZEROES, { 2, 3, 0 }, 16, VIRTIO_BLK_S_OK },
        { VIRTIO_BLK_T_WRITE_ZEROES, { 8, 8, 1 }, 16, VIRTIO_BLK_S_OK },
        { VIRTIO_BLK_T_DISCARD, { 16, 8, 0 }, 16, VIRTIO_BLK_S_OK },
        { VIRTIO_BLK_T_DISCARD, { 16, 0, 0 }, 16, VIRTIO_BLK_S_OK },
        { VIRTIO_BLK_T_DISCARD, { 16, 8, 1 }, 16, VIRTIO_BLK_S_UNSUPP },
        { VIRTIO_BLK_T_WRITE_ZEROES, { 0, 1, 2 }, 16, VIRTIO_BLK_S_UNSUPP },
        { VIRTIO_BLK_T_WRITE_ZEROES, { SECTORS - 1, 2, 0 }, 16, VIRTIO_BLK_S_IOERR },
        { VIRTIO_BLK_T_WRITE_ZEROES, { UINT64_MAX, 1, 0 }, 16, VIRTIO_BLK_S_IOERR },
        { VIRTIO_BLK_T_WRITE_ZEROES, { UINT64_MAX / 512, 1, 0 }, 16, VIRTIO_BLK_S_IOERR },
        { VIRTIO_BLK_T_DISCARD, { 0, UINT32_MAX, 0 }, 16, VIRTIO_BLK_S_IOERR },
        { VIRTIO_BLK_T_DISCARD, { 0, 1, 0 }, 15, VIRTIO_BLK_S_IOERR },
        { VIRTIO_BLK_T_DISCARD, { 0, 1, 0 }, 17 * 16, VIRTIO_BLK_S_IOERR },
    };
    uint32_t written;
    start(fixture);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        memcpy(guest_at(&fixture->guest, DATA), &cases[i].range, sizeof(cases[i].range));
        const struct part part = { DATA, cases[i].size, false };
        if (request(fixture, cases[i].type, 0, &part, 1, &written) != cases[i].status)
            fail_msg("case %zu", i);
    }
    assert_int_equal(request(fixture, VIRTIO_BLK_T_DISCARD, 0, NULL, 0, &written), VIRTIO_BLK_S_IOERR);
    uint8_t disk[SECTORS * 512];
    assert_int_equal(pread(fixture->file, disk, sizeof(disk), 0), sizeof(disk));
    for (unsigned i = 0; i < sizeof(disk); i++) {
        unsigned sector = i / 512;
        if (sector >= 16 && sector < 24)
            continue; // discarded: anything
        bool zero = (sector >= 2 && sector < 5) || (sector >= 8 && sector < 16);
        assert_int_equal(disk[i], zero ? 0 : pattern(i));
    }
}

static void requests_that_make_no_sense_fail_alone(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        uint32_t type;
        uint64_t sector;
        struct part part;
        uint8_t status;
    } cases[] = {
        { VIRTIO_BLK_T_IN, SECTORS, { DATA, 512, true }, VIRTIO_BLK_S_IOERR },
        { VIRTIO_BLK_T_IN, SECTORS - 1, { DATA, 1024, true }, VIRTIO_BLK_S_IOERR },
        { VIRTIO_BLK_T_IN, UINT64_MAX, { DATA, 512, true }, VIRTIO_BLK_S_IOERR },
        { VIRTIO_BLK_T_IN, UINT64_MAX / 512 + 1, { DATA, 512, true }, VIRTIO_BLK_S_IOERR },
        { VIRTIO_BLK_T_IN, 0, { DATA, 511, true }, VIRTIO_BLK_S_IOERR },
        { VIRTIO_BLK_T_IN, 0, { DATA, 512, false }, VIRTIO_BLK_S_OK }, // reads nothing into nothing
        { VIRTIO_BLK_T_OUT, 0, { DATA, 100, false }, VIRTIO_BLK_S_IOERR },
        { VIRTIO_BLK_T_OUT, SECTORS, { DATA, 512, false }, VIRTIO_BLK_S_IOERR },
        { VIRTIO_BLK_T_SCSI_CMD, 0, { DATA, 512, false }, VIRTIO_BLK_S_UNSUPP },
        { UINT32_MAX, 0, { DATA, 512, true }, VIRTIO_BLK_S_UNSUPP },
    };
    uint32_t written;
    start(fixture);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (request(fixture, cases[i].type, cases[i].sector, &cases[i].part, 1, &written) != cases[i].status || written != 1)
            fail_msg("case %zu", i);
    const struct part stub[] = { { HEADER, 15, false }, { STATUS, 1, true } };
    uint32_t id;
    ring_add(&fixture->ring, stub, 2);
    driver_kick(&fixture->mmio, 0);
    assert_true(ring_take(&fixture->ring, &id, &written));
    assert_int_equal(*(uint8_t *)guest_at(&fixture->guest, STATUS), VIRTIO_BLK_S_IOERR);
    assert_int_equal(reg_read(&fixture->mmio, VIRTIO_MMIO_STATUS), STATUS_LIVE);
}

static void no_room_for_a_status_breaks_the_device(void **state)
{
    struct fixture *fixture = *state;
    const struct part only = { HEADER, 16, false };
    start(fixture);
    ring_add(&fixture->ring, &only, 1);
    driver_kick(&fixture->mmio, 0);
    assert_int_equal(reg_read(&fixture->mmio, VIRTIO_MMIO_STATUS), STATUS_LIVE | VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void a_file_that_shrank_gives_errors(void **state)
{
    struct fixture *fixture = *state;
    uint32_t written;
    start(fixture);
    assert_int_equal(ftruncate(fixture->file, 600), 0);
    const struct part in = { DATA, 1024, true };
    assert_int_equal(request(fixture, VIRTIO_BLK_T_IN, 0, &in, 1, &written), VIRTIO_BLK_S_IOERR);
    assert_int_equal(written, 1);
}

static void read_only_disks_stay_as_they_are(void **state)
{
    struct fixture *fixture = *state;
    uint32_t written;
    unmake(fixture);
    make(fixture, true);
    assert_true(driver_offered(&fixture->mmio) & FEATURE(VIRTIO_BLK_F_RO));
    assert_false(driver_offered(&fixture->mmio) & FEATURE(VIRTIO_BLK_F_DISCARD));
    start(fixture);
    const struct part out = { DATA, 512, false }, in = { DATA, 512, true };
    assert_int_equal(request(fixture, VIRTIO_BLK_T_OUT, 0, &out, 1, &written), VIRTIO_BLK_S_IOERR);
    assert_int_equal(request(fixture, VIRTIO_BLK_T_DISCARD, 0, &out, 1, &written), VIRTIO_BLK_S_UNSUPP);
    assert_int_equal(request(fixture, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, &written), VIRTIO_BLK_S_OK);
    assert_int_equal(request(fixture, VIRTIO_BLK_T_IN, 0, &in, 1, &written), VIRTIO_BLK_S_OK);
    assert_int_equal(*(uint8_t *)guest_at(&fixture->guest, DATA), pattern(0));
}

static void writing_needs_a_writable_file(void **state)
{
    struct fixture *fixture = *state;
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fixture->file);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    _cleanup_close_ int pipe_end = -1;
    struct virtio_device *device;
    struct err err = { 0 };
    int ends[2];
    assert_int_equal(virtio_blk_new(&fixture->guest.memory, fd, false, "x", &device, &err), -1);
    assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    assert_int_equal(fd_pipe(ends, NULL), 0);
    pipe_end = ends[0];
    fd_close(ends[1]);
    assert_int_equal(virtio_blk_new(&fixture->guest.memory, pipe_end, true, "x", &device, &err), -1);
}

// ---- state ----------------------------------------------------------------------------------------------------------

static void requests_in_flight_survive_a_restore(void **state)
{
    struct fixture *fixture = *state;
    struct err err = { 0 };
    uint32_t id, written;
    start(fixture);
    const struct part in = { DATA, 512, true };
    assert_int_equal(request(fixture, VIRTIO_BLK_T_IN, 1, &in, 1, &written), VIRTIO_BLK_S_OK);
    virtio_pause(fixture->device);
    submit(fixture, VIRTIO_BLK_T_IN, 5, &in, 1);
    driver_kick(&fixture->mmio, 0);
    _cleanup_buf_ struct buf saved = BUF_INIT(64 << 10);
    virtio_mmio_save(&fixture->mmio, &(struct state_writer){ &saved });
    unmake(fixture);
    make(fixture, false);
    virtio_pause(fixture->device);
    struct state_reader reader = state_open(saved.data, saved.size, &err);
    assert_int_equal(virtio_mmio_load(&fixture->mmio, &reader), 0);
    assert_int_equal(state_finish(&reader), 0);
    assert_false(ring_take(&fixture->ring, &id, &written));
    virtio_resume(fixture->device);
    assert_true(ring_take(&fixture->ring, &id, &written));
    assert_int_equal(written, 513);
    assert_int_equal(*(uint8_t *)guest_at(&fixture->guest, DATA), pattern(5 * 512));
    assert_true(irq_count(fixture->device) > 0);
    assert_int_equal(request(fixture, VIRTIO_BLK_T_IN, 7, &in, 1, &written), VIRTIO_BLK_S_OK);

    // Another disk than the one the guest knows.
    assert_int_equal(ftruncate(fixture->file, 512), 0);
    unmake(fixture);
    make(fixture, false);
    reader = state_open(saved.data, saved.size, &err);
    assert_int_equal(virtio_mmio_load(&fixture->mmio, &reader), -1);
    assert_string_equal(err.message, "saved state of virtio-blk: the disk had 64 sectors, this one has 1");
}

static void more_than_a_budget_is_finished(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    for (unsigned i = 0; i < 128 / 3; i++)
        submit(fixture, VIRTIO_BLK_T_IN, i, &(struct part){ DATA + i * 512, 512, true }, 1);
    for (unsigned i = 0; i < VIRTIO_BUDGET; i++) // the same chain over and over
        ring_offer(&fixture->ring, 0);
    driver_kick(&fixture->mmio, 0);
    uint32_t id, written, count = 0;
    while (ring_take(&fixture->ring, &id, &written))
        count++;
    assert_int_equal(count, 128 / 3 + VIRTIO_BUDGET);
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH(tells_what_it_is),
        WITH(reads_and_writes_scattered),
        WITH(write_through_without_flush),
        WITH(ranges_of_discard_and_zeroes),
        WITH(requests_that_make_no_sense_fail_alone),
        WITH(no_room_for_a_status_breaks_the_device),
        WITH(a_file_that_shrank_gives_errors),
        WITH(read_only_disks_stay_as_they_are),
        WITH(writing_needs_a_writable_file),
        WITH(requests_in_flight_survive_a_restore),
        WITH(more_than_a_budget_is_finished),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
