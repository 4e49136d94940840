#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "guest.h"

#define WRITE VRING_DESC_F_WRITE
#define NEXT VRING_DESC_F_NEXT
#define INDIRECT VRING_DESC_F_INDIRECT
#define ALL_FEATURES (FEATURE(VIRTIO_RING_F_EVENT_IDX) | FEATURE(VIRTIO_RING_F_INDIRECT_DESC))

struct fixture {
    struct guest guest;
    struct ring ring;
    struct virtq queue;
    struct virtq_chain chain;
};

static void start(struct fixture *fixture, uint16_t size, uint64_t features)
{
    ring_init(&fixture->ring, &fixture->guest, GUEST_BASE, size);
    virtq_init(&fixture->queue, 256);
    fixture->queue.size = size;
    fixture->queue.desc_gpa = fixture->ring.desc_gpa;
    fixture->queue.avail_gpa = fixture->ring.avail_gpa;
    fixture->queue.used_gpa = fixture->ring.used_gpa;
    assert_true(virtq_start(&fixture->queue, &fixture->guest.memory, features));
}

static int set_up(void **state)
{
    struct fixture *fixture = mem_new(struct fixture);
    guest_init(&fixture->guest);
    start(fixture, 8, ALL_FEATURES);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    guest_done(&fixture->guest);
    free(fixture);
    return 0;
}

static int next(struct fixture *fixture)
{
    return virtq_next(&fixture->queue, &fixture->chain);
}

// ---- good drivers ---------------------------------------------------------------------------------------------------

static void a_chain_comes_whole(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(next(fixture), 0);
    memcpy(guest_at(&fixture->guest, GUEST_DATA), "hello, ", 7);
    memcpy(guest_at(&fixture->guest, GUEST_DATA + 100), "device", 6);
    const struct part parts[] = { { GUEST_DATA, 7, false }, { GUEST_DATA + 100, 6, false }, { 0, 0, false },
                                  { GUEST_DATA + 200, 3, true }, { GUEST_DATA + 300, 5, true } };
    uint16_t head = ring_add(&fixture->ring, parts, ARRAY_LEN(parts));
    assert_int_equal(next(fixture), 1);
    struct virtq_chain *chain = &fixture->chain;
    assert_int_equal(chain->out_len, 2); // an empty descriptor is nothing
    assert_int_equal(chain->in_len, 2);
    assert_int_equal(chain->out_size, 13);
    assert_int_equal(chain->in_size, 8);
    char text[32] = "";
    assert_int_equal(virtq_read(chain, 0, text, sizeof(text)), 13);
    assert_string_equal(text, "hello, device");
    assert_int_equal(virtq_read(chain, 5, text, 4), 4);
    assert_memory_equal(text, ", de", 4);
    assert_int_equal(virtq_read(chain, 13, text, 4), 0);
    assert_int_equal(virtq_write(chain, 1, "ABCDEFGHIJ", 10), 7);
    assert_memory_equal(guest_at(&fixture->guest, GUEST_DATA + 201), "AB", 3);
    assert_memory_equal(guest_at(&fixture->guest, GUEST_DATA + 300), "CDEFG", 6);
    struct iovec iov[VIRTQ_SIZE_MAX];
    uint64_t got;
    assert_int_equal(virtq_slice(chain, true, 2, 2, iov, &got), 2);
    assert_int_equal(got, 2);
    assert_ptr_equal(iov[1].iov_base, guest_at(&fixture->guest, GUEST_DATA + 300));
    assert_int_equal(virtq_slice(chain, false, 6, UINT64_MAX, iov, &got), 2);
    assert_int_equal(got, 7);
    virtq_put(&fixture->queue, chain->head, 8);
    uint32_t id, len;
    assert_true(ring_take(&fixture->ring, &id, &len));
    assert_int_equal(id, head);
    assert_int_equal(len, 8);
    assert_int_equal(next(fixture), 0);
}

static void indices_run_on_past_16_bits(void **state)
{
    struct fixture *fixture = *state;
    for (uint32_t i = 0; i < 70000; i++) {
        const struct part part = { GUEST_DATA + i % 1000, 1 + i % 100, true };
        uint16_t head = ring_add(&fixture->ring, &part, 1);
        assert_int_equal(next(fixture), 1);
        virtq_put(&fixture->queue, fixture->chain.head, i % 100);
        uint32_t id, len;
        assert_true(ring_take(&fixture->ring, &id, &len));
        assert_true(id == head && len == i % 100);
    }
}

static void an_indirect_table_counts_as_the_chain(void **state)
{
    struct fixture *fixture = *state;
    struct vring_desc *table = guest_at(&fixture->guest, GUEST_DATA + 0x1000);
    for (uint16_t i = 0; i < 7; i++)
        table[i] = (struct vring_desc){ GUEST_DATA + i, 1, (i < 4 ? 0 : WRITE) | (i < 6 ? NEXT : 0), (uint16_t)(i + 1) };
    ring_desc(&fixture->ring, 0, GUEST_DATA, 5, NEXT, 3); // an ordinary one before it
    ring_desc(&fixture->ring, 3, GUEST_DATA + 0x1000, 7 * 16, INDIRECT | WRITE, 0); // WRITE means nothing here
    ring_offer(&fixture->ring, 0);
    assert_int_equal(next(fixture), 1);
    assert_int_equal(fixture->chain.out_len, 5);
    assert_int_equal(fixture->chain.in_len, 3);
}

static void undone_chains_come_again(void **state)
{
    struct fixture *fixture = *state;
    const struct part part = { GUEST_DATA, 10, true };
    uint16_t first = ring_add(&fixture->ring, &part, 1);
    ring_add(&fixture->ring, &part, 1);
    assert_int_equal(next(fixture), 1);
    assert_int_equal(next(fixture), 1);
    assert_int_equal(next(fixture), 0);
    virtq_undo(&fixture->queue, 2);
    assert_int_equal(next(fixture), 1);
    assert_int_equal(fixture->chain.head, first);
}

static void staged_chains_appear_at_once(void **state)
{
    struct fixture *fixture = *state;
    const struct part part = { GUEST_DATA, 10, true };
    ring_add(&fixture->ring, &part, 1);
    ring_add(&fixture->ring, &part, 1);
    uint32_t id, len;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(next(fixture), 1);
        virtq_stage(&fixture->queue, fixture->chain.head, 1);
        assert_false(ring_take(&fixture->ring, &id, &len));
    }
    virtq_publish(&fixture->queue);
    assert_true(ring_take(&fixture->ring, &id, &len));
    assert_true(ring_take(&fixture->ring, &id, &len));
}

// ---- notifications --------------------------------------------------------------------------------------------------

static bool give_one(struct fixture *fixture)
{
    const struct part part = { GUEST_DATA, 10, true };
    ring_add(&fixture->ring, &part, 1);
    assert_int_equal(next(fixture), 1);
    virtq_put(&fixture->queue, fixture->chain.head, 0);
    return virtq_should_notify(&fixture->queue);
}

static void interrupts_by_event_index(void **state)
{
    struct fixture *fixture = *state;
    uint16_t *used_event = &ring_avail(&fixture->ring)[2 + 8];
    assert_false(virtq_should_notify(&fixture->queue)); // nothing happened
    *used_event = 100;
    assert_true(give_one(fixture)); // the first after a start, whatever the ring says
    assert_false(give_one(fixture));
    *used_event = 2;
    assert_true(give_one(fixture)); // used index 2 to 3
    assert_false(virtq_should_notify(&fixture->queue));
    assert_false(give_one(fixture));
}

static void interrupts_by_flag(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 8, 0);
    assert_true(give_one(fixture));
    ring_avail(&fixture->ring)[0] = VRING_AVAIL_F_NO_INTERRUPT;
    assert_false(give_one(fixture));
    ring_avail(&fixture->ring)[0] = 0;
    assert_true(give_one(fixture));
}

static void kicks_are_wanted_when_the_ring_is_empty(void **state)
{
    struct fixture *fixture = *state;
    const uint16_t *avail_event = &ring_used(&fixture->ring)[2 + 4 * 8];
    give_one(fixture);
    give_one(fixture);
    assert_int_equal(*avail_event, 0); // still in the middle of it
    assert_int_equal(next(fixture), 0);
    assert_int_equal(*avail_event, 2);
}

// ---- hostile drivers ------------------------------------------------------------------------------------------------

static void wild_rings_never_start(void **state)
{
    struct fixture *fixture = *state;
    const uint64_t end = GUEST_BASE + GUEST_SIZE;
    const struct {
        uint64_t desc, avail, used;
        uint16_t size;
    } cases[] = {
        { GUEST_BASE, GUEST_BASE, GUEST_BASE, 0 },
        { GUEST_BASE, GUEST_BASE, GUEST_BASE, 7 },
        { GUEST_BASE, GUEST_BASE, GUEST_BASE, 512 },
        { GUEST_BASE, GUEST_BASE, GUEST_BASE, 0x8000 },
        { GUEST_BASE + 8, GUEST_BASE, GUEST_BASE, 8 },
        { GUEST_BASE, GUEST_BASE + 1, GUEST_BASE, 8 },
        { GUEST_BASE, GUEST_BASE, GUEST_BASE + 2, 8 },
        { 0, GUEST_BASE, GUEST_BASE, 8 },
        { UINT64_MAX - 15, GUEST_BASE, GUEST_BASE, 8 },
        { end - 7 * 16, GUEST_BASE, GUEST_BASE, 8 },
        { GUEST_BASE, end - 20, GUEST_BASE, 8 },
        { GUEST_BASE, GUEST_BASE, end - 68, 8 },
        { GUEST_BASE, GUEST_BASE, 0x10000000, 8 }, // read-only memory
    };
    static uint8_t rom[0x1000] __attribute__((aligned(16)));
    assert_int_equal(gmem_add(&fixture->guest.memory, 0x10000000, sizeof(rom), rom, true, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct virtq queue;
        virtq_init(&queue, 256);
        queue.size = cases[i].size;
        queue.desc_gpa = cases[i].desc;
        queue.avail_gpa = cases[i].avail;
        queue.used_gpa = cases[i].used;
        assert_false(virtq_start(&queue, &fixture->guest.memory, ALL_FEATURES));
        assert_non_null(queue.broken);
        assert_int_equal(virtq_next(&queue, &fixture->chain), -1);
        virtq_put(&queue, 0, 0);
        assert_false(virtq_should_notify(&queue));
    }
}

static void a_queue_that_never_started_gives_nothing(void **state)
{
    struct fixture *fixture = *state;
    virtq_reset(&fixture->queue);
    assert_int_equal(next(fixture), -1);
    virtq_put(&fixture->queue, 0, 0);
    assert_false(virtq_should_notify(&fixture->queue));
}

struct descriptor {
    uint16_t index;
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

#define TABLE (GUEST_DATA + 0x1000) // of indirect descriptors: the second one is WRITE, the third another INDIRECT
#define OUTSIDE (GUEST_BASE + GUEST_SIZE)

static void broken_chains_break_the_queue(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *why;
        uint16_t head;
        struct descriptor chain[4];
        unsigned len;
    } cases[] = {
        { "outside of its table", 8, { { 0 } }, 0 },
        { "outside of its table", 0xffff, { { 0 } }, 0 },
        { "outside of its table", 0, { { 0, GUEST_DATA, 1, NEXT, 8 } }, 1 },
        { "longer than the queue", 0, { { 0, GUEST_DATA, 1, NEXT, 0 } }, 1 },
        { "longer than the queue", 0, { { 0, GUEST_DATA, 0, NEXT, 1 }, { 1, GUEST_DATA, 0, NEXT, 0 } }, 2 },
        { "outside of memory", 0, { { 0, OUTSIDE, 1, 0, 0 } }, 1 },
        { "outside of memory", 0, { { 0, OUTSIDE - 1, 2, 0, 0 } }, 1 },
        { "outside of memory", 0, { { 0, UINT64_MAX, 2, 0, 0 } }, 1 },
        { "outside of memory", 0, { { 0, 0, 1, 0, 0 } }, 1 },
        { "outside of writable memory", 0, { { 0, 0x10000000, 1, WRITE, 0 } }, 1 },
        { "too many bytes", 0, { { 0, GUEST_BASE, UINT32_MAX, 0, 0 } }, 1 },
        { "outside of memory", 0, { { 0, GUEST_BASE, 64 << 20, 0, 0 } }, 1 },
        { "follows a writable", 0, { { 0, GUEST_DATA, 1, WRITE | NEXT, 1 }, { 1, GUEST_DATA, 1, 0, 0 } }, 2 },
        { "both INDIRECT and NEXT", 0, { { 0, TABLE, 16, INDIRECT | NEXT, 1 } }, 1 },
        { "wrong size", 0, { { 0, TABLE, 0, INDIRECT, 0 } }, 1 },
        { "wrong size", 0, { { 0, TABLE, 15, INDIRECT, 0 } }, 1 },
        { "wrong size", 0, { { 0, TABLE, 17, INDIRECT, 0 } }, 1 },
        { "wrong size", 0, { { 0, TABLE, 9 * 16, INDIRECT, 0 } }, 1 },
        { "wrong size", 0, { { 0, TABLE, UINT32_MAX & ~15u, INDIRECT, 0 } }, 1 },
        { "table outside", 0, { { 0, OUTSIDE - 16, 32, INDIRECT, 0 } }, 1 },
        { "outside of its table", 0, { { 0, TABLE, 16, INDIRECT, 0 } }, 1 }, // its first one has NEXT
        { "inside an indirect", 0, { { 0, TABLE, 48, INDIRECT, 0 } }, 1 },
    };
    static uint8_t rom[0x1000];
    assert_int_equal(gmem_add(&fixture->guest.memory, 0x10000000, sizeof(rom), rom, true, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        start(fixture, 8, ALL_FEATURES);
        struct vring_desc *table = guest_at(&fixture->guest, TABLE);
        table[0] = (struct vring_desc){ GUEST_DATA, 1, NEXT, 1 };
        table[1] = (struct vring_desc){ GUEST_DATA, 1, WRITE | NEXT, 2 };
        table[2] = (struct vring_desc){ TABLE, 16, INDIRECT, 0 };
        for (unsigned j = 0; j < cases[i].len; j++) {
            const struct descriptor *one = &cases[i].chain[j];
            ring_desc(&fixture->ring, one->index, one->addr, one->len, one->flags, one->next);
        }
        ring_offer(&fixture->ring, cases[i].head);
        assert_int_equal(next(fixture), -1);
        assert_non_null(fixture->queue.broken);
        if (!strstr(fixture->queue.broken, cases[i].why))
            fail_msg("case %zu: %s", i, fixture->queue.broken);
        assert_int_equal(next(fixture), -1); // and stays so
    }
}

static void bytes_of_a_chain_are_bounded(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 64, ALL_FEATURES);
    for (uint16_t i = 0; i < 40; i++) // 40 times the same 2 MiB
        ring_desc(&fixture->ring, i, GUEST_BASE, GUEST_SIZE, NEXT, (uint16_t)(i + 1));
    ring_offer(&fixture->ring, 0);
    assert_int_equal(next(fixture), -1);
    assert_non_null(strstr(fixture->queue.broken, "too many bytes"));
}

static void indirect_needs_its_feature(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, 8, 0);
    ring_desc(&fixture->ring, 0, TABLE, 16, INDIRECT, 0);
    ring_offer(&fixture->ring, 0);
    assert_int_equal(next(fixture), -1);
}

static void the_available_index_may_not_jump(void **state)
{
    struct fixture *fixture = *state;
    ring_avail(&fixture->ring)[1] = 8;
    assert_int_equal(next(fixture), 1); // as many as the ring has
    ring_avail(&fixture->ring)[1] = 10;
    assert_int_equal(next(fixture), -1);
    start(fixture, 8, ALL_FEATURES);
    ring_avail(&fixture->ring)[1] = 0xffff; // backwards
    assert_int_equal(next(fixture), -1);
    assert_non_null(strstr(fixture->queue.broken, "jumped"));
}

// ---- state ----------------------------------------------------------------------------------------------------------

static void a_saved_queue_goes_on(void **state)
{
    struct fixture *fixture = *state;
    const struct part part = { GUEST_DATA, 10, true };
    give_one(fixture);
    uint16_t waiting = ring_add(&fixture->ring, &part, 1);
    _cleanup_buf_ struct buf saved = BUF_INIT(4096);
    fixture->queue.ready = true;
    virtq_save(&fixture->queue, &(struct state_writer){ &saved });
    for (size_t size = 0; size <= saved.size; size++) {
        struct state_reader reader = state_open(saved.data, size, NULL);
        struct virtq loaded;
        virtq_init(&loaded, 256);
        virtq_load(&loaded, &reader, &fixture->guest.memory, ALL_FEATURES, true);
        assert_int_equal(state_finish(&reader), size == saved.size ? 0 : -1);
        fixture->queue = size == saved.size ? loaded : fixture->queue;
    }
    assert_int_equal(next(fixture), 1);
    assert_int_equal(fixture->chain.head, waiting);
    virtq_put(&fixture->queue, waiting, 3);
    assert_true(virtq_should_notify(&fixture->queue)); // whatever the ring says: the interrupt may have been lost
    uint32_t id, len;
    assert_true(ring_take(&fixture->ring, &id, &len));
    assert_true(ring_take(&fixture->ring, &id, &len));
    assert_int_equal(id, waiting);
}

static void a_saved_queue_of_another_memory_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct gmem other = { .len = 0 };
    struct err err = { 0 };
    _cleanup_buf_ struct buf saved = BUF_INIT(4096);
    fixture->queue.ready = true;
    virtq_save(&fixture->queue, &(struct state_writer){ &saved });
    struct state_reader reader = state_open(saved.data, saved.size, &err);
    virtq_reset(&fixture->queue);
    virtq_load(&fixture->queue, &reader, &other, ALL_FEATURES, true);
    assert_int_equal(state_finish(&reader), -1);
    assert_non_null(strstr(err.message, "not in memory"));
    assert_int_equal(next(fixture), -1);
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH(a_chain_comes_whole),
        WITH(indices_run_on_past_16_bits),
        WITH(an_indirect_table_counts_as_the_chain),
        WITH(undone_chains_come_again),
        WITH(staged_chains_appear_at_once),
        WITH(interrupts_by_event_index),
        WITH(interrupts_by_flag),
        WITH(kicks_are_wanted_when_the_ring_is_empty),
        WITH(wild_rings_never_start),
        WITH(a_queue_that_never_started_gives_nothing),
        WITH(broken_chains_break_the_queue),
        WITH(bytes_of_a_chain_are_bounded),
        WITH(indirect_needs_its_feature),
        WITH(the_available_index_may_not_jump),
        WITH(a_saved_queue_goes_on),
        WITH(a_saved_queue_of_another_memory_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
