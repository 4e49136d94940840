#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/clock.h"
#include "base/fd.h"
#include "guest.h"

// Two queues. Queue 0 gives every chain back with its readable bytes counted; queue 1 is never looked at. The host's side
// counts what arrives on an eventfd.
struct probe {
    struct virtio_device device;
    uint8_t config[6];
    int activated, resets, kicks[2];
    uint64_t host_events;
};

static void probe_activate(struct virtio_device *device)
{
    ((struct probe *)device)->activated++;
}

static void probe_reset(struct virtio_device *device)
{
    ((struct probe *)device)->resets++;
}

static bool probe_process(struct virtio_device *device, unsigned queue)
{
    ((struct probe *)device)->kicks[queue]++;
    struct virtq_chain chain;
    for (int i = 0; i < VIRTIO_BUDGET; i++) {
        if (queue != 0 || virtq_next(&device->queues[0], &chain) <= 0)
            return false;
        virtq_put(&device->queues[0], chain.head, (uint32_t)chain.out_size);
    }
    return true;
}

static bool probe_host_ready(struct virtio_device *device)
{
    eventfd_t count = 0;
    eventfd_read(device->host_fd, &count);
    ((struct probe *)device)->host_events += count;
    return false;
}

static void probe_free(struct virtio_device *device)
{
    fd_close(device->host_fd);
    free(device);
}

#define PROBE_FEATURE 5

static const struct virtio_ops probe_ops = {
    .name = "probe",
    .device_id = 42,
    .queues_len = 2,
    .queue_size = 16,
    .activate = probe_activate,
    .process = probe_process,
    .host_ready = probe_host_ready,
    .reset = probe_reset,
    .free = probe_free,
};

struct fixture {
    struct guest guest;
    struct probe *probe;
    struct virtio_mmio mmio;
    struct ring rings[2];
};

static struct probe *new_probe(struct guest *guest)
{
    struct probe *probe = mem_new(struct probe);
    memcpy(probe->config, "config", 6);
    virtio_init(&probe->device, &probe_ops, &guest->memory, FEATURE(PROBE_FEATURE), probe->config, sizeof(probe->config));
    probe->device.irq.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    probe->device.host_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return probe;
}

static void free_probe(struct probe *probe)
{
    fd_close(probe->device.irq.event_fd);
    virtio_free(&probe->device);
}

static int set_up(void **state)
{
    struct fixture *fixture = mem_new(struct fixture);
    guest_init(&fixture->guest);
    fixture->probe = new_probe(&fixture->guest);
    virtio_mmio_init(&fixture->mmio, &fixture->probe->device);
    ring_init(&fixture->rings[0], &fixture->guest, GUEST_BASE, 16);
    ring_init(&fixture->rings[1], &fixture->guest, GUEST_BASE + 0x4000, 16);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    free_probe(fixture->probe);
    guest_done(&fixture->guest);
    free(fixture);
    return 0;
}

#define FEATURES_ALL \
    (FEATURES_BASE | FEATURE(PROBE_FEATURE) | FEATURE(VIRTIO_RING_F_EVENT_IDX) | FEATURE(VIRTIO_RING_F_INDIRECT_DESC))

static void offer(struct fixture *fixture, uint32_t size)
{
    const struct part part = { GUEST_DATA, size, false };
    ring_add(&fixture->rings[0], &part, 1);
}

static uint32_t answered(struct fixture *fixture)
{
    uint32_t id, len, count = 0;
    while (ring_take(&fixture->rings[0], &id, &len))
        count++;
    return count;
}

// ---- registers ------------------------------------------------------------------------------------------------------

static void identity(void **state)
{
    struct fixture *fixture = *state;
    static const uint32_t registers[][2] = {
        { VIRTIO_MMIO_MAGIC_VALUE, 0x74726976 }, { VIRTIO_MMIO_VERSION, 2 },       { VIRTIO_MMIO_DEVICE_ID, 42 },
        { VIRTIO_MMIO_VENDOR_ID, 0x48545242 },   { VIRTIO_MMIO_QUEUE_NUM_MAX, 16 }, { VIRTIO_MMIO_QUEUE_READY, 0 },
        { VIRTIO_MMIO_INTERRUPT_STATUS, 0 },     { VIRTIO_MMIO_STATUS, 0 },         { VIRTIO_MMIO_CONFIG_GENERATION, 0 },
        { VIRTIO_MMIO_SHM_LEN_LOW, UINT32_MAX }, { VIRTIO_MMIO_SHM_BASE_HIGH, UINT32_MAX }, { 0x0d0, 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(registers); i++)
        assert_int_equal(reg_read(&fixture->mmio, registers[i][0]), registers[i][1]);
    assert_true(driver_offered(&fixture->mmio) == FEATURES_ALL);
    reg_write(&fixture->mmio, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
    assert_int_equal(reg_read(&fixture->mmio, VIRTIO_MMIO_DEVICE_FEATURES), 0);
    reg_write(&fixture->mmio, VIRTIO_MMIO_QUEUE_SEL, 2);
    assert_int_equal(reg_read(&fixture->mmio, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    reg_write(&fixture->mmio, VIRTIO_MMIO_QUEUE_SEL, UINT32_MAX);
    assert_int_equal(reg_read(&fixture->mmio, VIRTIO_MMIO_QUEUE_READY), 0);
}

static void widths(void **state)
{
    struct fixture *fixture = *state;
    const struct bus_ops *ops = fixture->mmio.bus.ops;
    uint64_t data = UINT64_MAX;
    ops->read(&fixture->mmio.bus, VIRTIO_MMIO_MAGIC_VALUE, &data, 8);
    assert_true(data == 0);
    data = UINT64_MAX;
    ops->read(&fixture->mmio.bus, VIRTIO_MMIO_MAGIC_VALUE + 2, &data, 2);
    assert_true((uint16_t)data == 0);
    ops->read(&fixture->mmio.bus, VIRTIO_MMIO_MAGIC_VALUE + 2, &data, 4);
    assert_true((uint32_t)data == 0);
    ops->write(&fixture->mmio.bus, VIRTIO_MMIO_STATUS, &(uint64_t){ 1 }, 1);
    ops->write(&fixture->mmio.bus, VIRTIO_MMIO_STATUS, &(uint64_t){ 1 }, 8);
    assert_int_equal(reg_read(&fixture->mmio, VIRTIO_MMIO_STATUS), 0);
    ops->read(&fixture->mmio.bus, VIRTIO_MMIO_CONFIG + 2, &data, 8); // past its end: zeros
    assert_memory_equal(&data, "nfig\0\0\0\0", 8);
    ops->read(&fixture->mmio.bus, VIRTIO_MMIO_CONFIG + 5, &data, 1);
    assert_int_equal((uint8_t)data, 'g');
    ops->read(&fixture->mmio.bus, VIRTIO_MMIO_SIZE - 8, &data, 8);
    assert_true(data == 0);
    ops->write(&fixture->mmio.bus, VIRTIO_MMIO_CONFIG, &data, 8);
    assert_memory_equal(fixture->probe->config, "config", 6);
}

// ---- the way to DRIVER_OK -------------------------------------------------------------------------------------------

static void steps_out_of_order_are_not_taken(void **state)
{
    struct fixture *fixture = *state;
    struct virtio_mmio *mmio = &fixture->mmio;
    static const struct {
        uint64_t features;
        uint32_t writes[6]; // to Status, 0 ends
        uint32_t result;
    } cases[] = {
        { FEATURES_BASE, { STATUS_LIVE }, STATUS_FEATURES & ~VIRTIO_CONFIG_S_FEATURES_OK },
        { FEATURES_BASE, { VIRTIO_CONFIG_S_DRIVER }, 0 },
        { FEATURES_BASE, { 1, 3, 7 }, 3 }, // DRIVER_OK before FEATURES_OK
        { FEATURES_BASE, { 1, 3, 11, 15 }, 15 },
        { FEATURES_BASE, { 1, 3, 11, 3 }, 11 }, // a bit taken back
        { FEATURES_BASE, { 1, 0x41 }, 1 }, // NEEDS_RESET is the device's
        { FEATURES_BASE, { 1, 0x81 }, 0x81 },
        { FEATURES_BASE, { 0xffffff00 }, 0 },
        { 0, { 1, 3, 11 }, 3 }, // no VERSION_1
        { FEATURES_BASE | FEATURE(6), { 1, 3, 11 }, 3 }, // never offered
        { FEATURES_BASE | FEATURE(63), { 1, 3, 11, 15 }, 3 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        reg_write(mmio, VIRTIO_MMIO_STATUS, 0);
        for (unsigned j = 0; j < 6 && cases[i].writes[j]; j++) {
            driver_features(mmio, cases[i].features); // taken when it is time
            reg_write(mmio, VIRTIO_MMIO_STATUS, cases[i].writes[j]);
        }
        if (reg_read(mmio, VIRTIO_MMIO_STATUS) != cases[i].result)
            fail_msg("case %zu: 0x%x", i, reg_read(mmio, VIRTIO_MMIO_STATUS));
    }
}

static void queues_are_set_at_their_time(void **state)
{
    struct fixture *fixture = *state;
    struct virtio_mmio *mmio = &fixture->mmio;
    driver_queue(mmio, 0, &fixture->rings[0]);
    assert_int_equal(reg_read(mmio, VIRTIO_MMIO_QUEUE_READY), 0); // too early
    assert_int_equal(driver_start(mmio, FEATURES_ALL, fixture->rings, 1), STATUS_LIVE);
    assert_int_equal(fixture->probe->activated, 1);
    reg_write(mmio, VIRTIO_MMIO_QUEUE_SEL, 0);
    assert_int_equal(reg_read(mmio, VIRTIO_MMIO_QUEUE_READY), 1);
    reg_write(mmio, VIRTIO_MMIO_QUEUE_READY, 0);
    reg_write(mmio, VIRTIO_MMIO_QUEUE_DESC_LOW, 0);
    driver_queue(mmio, 1, &fixture->rings[1]);
    driver_queue(mmio, 7, &fixture->rings[1]);
    driver_features(mmio, 0);
    assert_int_equal(fixture->probe->device.queues[0].ready, 1); // too late
    assert_int_equal(fixture->probe->device.queues[0].desc_gpa, GUEST_BASE);
    assert_int_equal(fixture->probe->device.queues[1].ready, 0);
    assert_true(fixture->probe->device.features == FEATURES_ALL);
    driver_kick(mmio, 1); // never made ready
    driver_kick(mmio, 2);
    driver_kick(mmio, UINT32_MAX);
    assert_int_equal(fixture->probe->kicks[1], 0);
}

// ---- work -----------------------------------------------------------------------------------------------------------

static void kick_answer_interrupt_acknowledge(void **state)
{
    struct fixture *fixture = *state;
    struct virtio_mmio *mmio = &fixture->mmio;
    driver_kick(mmio, 0); // before anything
    assert_int_equal(driver_start(mmio, FEATURES_BASE, fixture->rings, 2), STATUS_LIVE);
    offer(fixture, 100);
    offer(fixture, 100);
    driver_kick(mmio, 0);
    assert_int_equal(answered(fixture), 2);
    assert_int_equal(irq_count(&fixture->probe->device), 1);
    assert_int_equal(reg_read(mmio, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
    reg_write(mmio, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
    assert_int_equal(reg_read(mmio, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    driver_kick(mmio, 0); // nothing new: no interrupt
    assert_int_equal(irq_count(&fixture->probe->device), 0);
}

static void a_broken_ring_stops_the_device_until_reset(void **state)
{
    struct fixture *fixture = *state;
    struct virtio_mmio *mmio = &fixture->mmio;
    assert_int_equal(driver_start(mmio, FEATURES_BASE, fixture->rings, 2), STATUS_LIVE);
    offer(fixture, 100);
    ring_offer(&fixture->rings[0], 9999);
    driver_kick(mmio, 0);
    assert_int_equal(reg_read(mmio, VIRTIO_MMIO_STATUS), STATUS_LIVE | VIRTIO_CONFIG_S_NEEDS_RESET);
    assert_true(reg_read(mmio, VIRTIO_MMIO_INTERRUPT_STATUS) & VIRTIO_MMIO_INT_CONFIG);
    assert_true(irq_count(&fixture->probe->device) > 0);
    int kicks = fixture->probe->kicks[0];
    driver_kick(mmio, 0);
    driver_kick(mmio, 1);
    assert_int_equal(fixture->probe->kicks[0], kicks);
    assert_int_equal(irq_count(&fixture->probe->device), 0);
    ring_init(&fixture->rings[0], &fixture->guest, GUEST_BASE, 16);
    assert_int_equal(driver_start(mmio, FEATURES_BASE, fixture->rings, 2), STATUS_LIVE);
    offer(fixture, 1);
    driver_kick(mmio, 0);
    assert_int_equal(answered(fixture), 1);
}

static void wild_rings_need_reset_at_once(void **state)
{
    struct fixture *fixture = *state;
    fixture->rings[1].used_gpa = 0xdead0000;
    assert_int_equal(driver_start(&fixture->mmio, FEATURES_BASE, fixture->rings, 2),
                     STATUS_LIVE | VIRTIO_CONFIG_S_NEEDS_RESET);
    assert_int_equal(fixture->probe->activated, 0);
    driver_kick(&fixture->mmio, 0);
    assert_int_equal(fixture->probe->kicks[0], 0);
}

static void reset_forgets_everything(void **state)
{
    struct fixture *fixture = *state;
    struct virtio_mmio *mmio = &fixture->mmio;
    assert_int_equal(driver_start(mmio, FEATURES_ALL, fixture->rings, 2), STATUS_LIVE);
    offer(fixture, 1);
    driver_kick(mmio, 0);
    reg_write(mmio, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(reg_read(mmio, VIRTIO_MMIO_STATUS), 0);
    assert_int_equal(reg_read(mmio, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    assert_true(fixture->probe->device.features == 0);
    assert_int_equal(fixture->probe->device.queues[0].next_avail, 0);
    assert_int_equal(fixture->probe->device.queues[0].ready, 0);
    assert_int_equal(fixture->probe->device.queues[0].size_max, 16);
    offer(fixture, 1);
    driver_kick(mmio, 0);
    assert_int_equal(answered(fixture), 1);
}

// Every register, every width, any value: nothing but this device suffers.
static void noise(void **state)
{
    struct fixture *fixture = *state;
    uint64_t random = 88172645463325252;
    for (int i = 0; i < 200000; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        unsigned size = 1u << (random & 3);
        uint64_t offset = (random >> 2) % (i % 2 ? 0x110 : VIRTIO_MMIO_SIZE - 8), value = random >> 20;
        if (i % 3)
            value &= 15; // so that DRIVER_OK is reached now and then
        if (i % 5)
            offset &= ~UINT64_C(3), size = 4;
        if (random & (1 << 17))
            fixture->mmio.bus.ops->write(&fixture->mmio.bus, offset, &value, size);
        else
            fixture->mmio.bus.ops->read(&fixture->mmio.bus, offset, &value, size);
    }
    ring_init(&fixture->rings[0], &fixture->guest, GUEST_BASE, 16);
    assert_int_equal(driver_start(&fixture->mmio, FEATURES_BASE, fixture->rings, 2), STATUS_LIVE);
    offer(fixture, 1);
    driver_kick(&fixture->mmio, 0);
    assert_int_equal(answered(fixture), 1);
}

// ---- in a loop ------------------------------------------------------------------------------------------------------

struct io_thread {
    struct loop *loop;
    pthread_t thread;
};

static void *run_loop(void *context)
{
    struct io_thread *io = context;
    loop_run(io->loop, NULL);
    return NULL;
}

static void io_start(struct io_thread *io, struct virtio_device *device)
{
    assert_int_equal(loop_new(&io->loop, NULL), 0);
    assert_int_equal(virtio_attach(device, io->loop, NULL), 0);
    assert_int_equal(pthread_create(&io->thread, NULL, run_loop, io), 0);
}

static void io_stop(struct io_thread *io)
{
    loop_stop(io->loop);
    pthread_join(io->thread, NULL);
    loop_free(io->loop);
}

static uint32_t wait_answered(struct fixture *fixture, uint32_t wanted)
{
    uint32_t count = 0;
    for (int i = 0; i < 2000 && count < wanted; i++) {
        uint32_t id, len;
        if (ring_take(&fixture->rings[0], &id, &len))
            count++;
        else
            usleep(1000);
    }
    return count;
}

static void kicks_and_host_events_reach_the_io_thread(void **state)
{
    struct fixture *fixture = *state;
    struct io_thread io;
    io_start(&io, &fixture->probe->device);
    offer(fixture, 1); // kicked before DRIVER_OK, as a driver may (but should not)
    driver_kick(&fixture->mmio, 0);
    assert_int_equal(driver_start(&fixture->mmio, FEATURES_BASE, fixture->rings, 2), STATUS_LIVE);
    assert_int_equal(wait_answered(fixture, 1), 1);
    offer(fixture, 1);
    assert_int_equal(write(fixture->probe->device.kicks[0].fd, &(uint64_t){ 1 }, 8), 8); // as KVM's ioeventfd does
    assert_int_equal(wait_answered(fixture, 1), 1);
    assert_int_equal(write(fixture->probe->device.host_fd, &(uint64_t){ 5 }, 8), 8);
    for (int i = 0; i < 2000; i++) {
        mutex_lock(&fixture->probe->device.lock);
        uint64_t events = fixture->probe->host_events;
        mutex_unlock(&fixture->probe->device.lock);
        if (events)
            break;
        usleep(1000);
    }
    io_stop(&io);
    assert_int_equal(fixture->probe->host_events, 5);
}

static void a_paused_device_keeps_still_and_loses_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct virtio_device *device = &fixture->probe->device;
    struct io_thread io;
    io_start(&io, device);
    assert_int_equal(driver_start(&fixture->mmio, FEATURES_BASE, fixture->rings, 2), STATUS_LIVE);
    virtio_pause(device);
    offer(fixture, 1);
    driver_kick(&fixture->mmio, 0);
    assert_int_equal(write(device->host_fd, &(uint64_t){ 3 }, 8), 8);
    struct timespec before, after;
    clockid_t cpu;
    assert_int_equal(pthread_getcpuclockid(io.thread, &cpu), 0);
    clock_gettime(cpu, &before);
    usleep(50000);
    clock_gettime(cpu, &after);
    int64_t spent_ns = (after.tv_sec - before.tv_sec) * NS_PER_S + after.tv_nsec - before.tv_nsec;
    assert_true(spent_ns < 10 * NS_PER_MS); // it does not spin on the readable descriptor
    assert_int_equal(answered(fixture), 0);
    assert_int_equal(fixture->probe->host_events, 0);
    virtio_resume(device);
    assert_int_equal(wait_answered(fixture, 1), 1);
    for (int i = 0; i < 2000; i++) {
        mutex_lock(&device->lock);
        bool seen = fixture->probe->host_events == 3;
        mutex_unlock(&device->lock);
        if (seen)
            break;
        usleep(1000);
    }
    io_stop(&io);
    assert_int_equal(fixture->probe->host_events, 3);
}

static void *reset_storm(void *context)
{
    struct fixture *fixture = context;
    for (int i = 0; i < 2000; i++)
        reg_write(&fixture->mmio, VIRTIO_MMIO_STATUS, 0);
    return NULL;
}

// One vCPU resets while another sets up and kicks, with the I/O thread at work.
static void a_reset_storm_hurts_nobody(void **state)
{
    struct fixture *fixture = *state;
    struct io_thread io;
    pthread_t storm;
    io_start(&io, &fixture->probe->device);
    assert_int_equal(pthread_create(&storm, NULL, reset_storm, fixture), 0);
    for (int i = 0; i < 500; i++) {
        driver_start(&fixture->mmio, FEATURES_ALL, fixture->rings, 2);
        if (i % 16 == 0)
            offer(fixture, 10);
        driver_kick(&fixture->mmio, 0);
    }
    pthread_join(storm, NULL);
    io_stop(&io);
}

// ---- state ----------------------------------------------------------------------------------------------------------

static void saved_with_work_waiting_loaded_and_done(void **state)
{
    struct fixture *fixture = *state;
    struct err err = { 0 };
    assert_int_equal(driver_start(&fixture->mmio, FEATURES_ALL, fixture->rings, 2), STATUS_LIVE);
    offer(fixture, 1);
    driver_kick(&fixture->mmio, 0); // answered, its interrupt not acknowledged
    virtio_pause(&fixture->probe->device);
    offer(fixture, 1);
    driver_kick(&fixture->mmio, 0); // this kick is lost with the machine
    _cleanup_buf_ struct buf saved = BUF_INIT(64 << 10);
    virtio_mmio_save(&fixture->mmio, &(struct state_writer){ &saved });

    struct probe *other = new_probe(&fixture->guest);
    struct virtio_mmio mmio;
    virtio_mmio_init(&mmio, &other->device);
    virtio_pause(&other->device);
    struct state_reader reader = state_open(saved.data, saved.size, &err);
    assert_int_equal(virtio_mmio_load(&mmio, &reader), 0);
    assert_int_equal(state_finish(&reader), 0);
    assert_int_equal(other->activated, 1);
    assert_int_equal(answered(fixture), 1);
    virtio_resume(&other->device);
    assert_int_equal(answered(fixture), 1);
    assert_true(irq_count(&other->device) >= 1);
    assert_int_equal(reg_read(&mmio, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
    assert_int_equal(reg_read(&mmio, VIRTIO_MMIO_STATUS), STATUS_LIVE);
    free_probe(other);
}

static void every_cut_state_is_refused(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(driver_start(&fixture->mmio, FEATURES_ALL, fixture->rings, 2), STATUS_LIVE);
    _cleanup_buf_ struct buf saved = BUF_INIT(64 << 10);
    virtio_mmio_save(&fixture->mmio, &(struct state_writer){ &saved });
    for (size_t size = 0; size < saved.size; size++) {
        struct probe *other = new_probe(&fixture->guest);
        struct virtio_mmio mmio;
        struct err err = { 0 };
        virtio_mmio_init(&mmio, &other->device);
        struct state_reader reader = state_open(saved.data, size, &err);
        assert_int_equal(virtio_mmio_load(&mmio, &reader), -1);
        assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
        assert_int_equal(other->device.status, 0);
        free_probe(other);
    }
}

static void a_feature_this_host_lacks_is_refused(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(driver_start(&fixture->mmio, FEATURES_ALL, fixture->rings, 2), STATUS_LIVE);
    _cleanup_buf_ struct buf saved = BUF_INIT(64 << 10);
    virtio_mmio_save(&fixture->mmio, &(struct state_writer){ &saved });
    struct probe *other = new_probe(&fixture->guest);
    struct virtio_mmio mmio;
    struct err err = { 0 };
    other->device.offered &= ~FEATURE(PROBE_FEATURE);
    virtio_mmio_init(&mmio, &other->device);
    struct state_reader reader = state_open(saved.data, saved.size, &err);
    assert_int_equal(virtio_mmio_load(&mmio, &reader), -1);
    assert_non_null(strstr(err.message, "0x20 are missing"));
    free_probe(other);
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH(identity),
        WITH(widths),
        WITH(steps_out_of_order_are_not_taken),
        WITH(queues_are_set_at_their_time),
        WITH(kick_answer_interrupt_acknowledge),
        WITH(a_broken_ring_stops_the_device_until_reset),
        WITH(wild_rings_need_reset_at_once),
        WITH(reset_forgets_everything),
        WITH(noise),
        WITH(kicks_and_host_events_reach_the_io_thread),
        WITH(a_paused_device_keeps_still_and_loses_nothing),
        WITH(a_reset_storm_hurts_nobody),
        WITH(saved_with_work_waiting_loaded_and_done),
        WITH(every_cut_state_is_refused),
        WITH(a_feature_this_host_lacks_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
