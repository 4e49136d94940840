// A folder brought up to date: what is asked for, what the worker gets, and what becomes of a client that lies.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "build/listing.h"
#include "made_up_client.h"

struct build_kept { // one folder for all
    char *key;
    struct listing listing; // with texts of its own
    int changes, settled;
    bool open;
    struct buf removed;
    char tar[1 << 16];
    size_t tar_size;
};
static struct build_kept world;

static int open_it(void *of, const char *key, const char *description, struct build_kept **out, struct err *err)
{
    free(world.key);
    world.key = mem_strdup(key ? key : "none");
    world.changes = world.settled = 0;
    world.open = true;
    buf_clear(&world.removed);
    *out = &world;
    return 0;
}

static const struct listing *listing_of(const struct build_kept *kept)
{
    return &kept->listing;
}

static int change(struct build_kept *kept, const struct strv *removed, int tar_fd, const struct cancel *cancel, struct err *err)
{
    kept->changes++;
    for (size_t i = 0; i < removed->len; i++)
        buf_addf(&kept->removed, "%s ", removed->items[i]);
    ssize_t got = fd_read_full(tar_fd, kept->tar, sizeof(kept->tar), err);
    assert_true(got >= 0);
    kept->tar_size = (size_t)got;
    return 0;
}

static int settle(struct build_kept *kept, const struct listing *now, struct err *err)
{
    struct buf text = BUF_INIT(1 << 20);
    listing_write(now, "", &text);
    size_t size = text.size;
    listing_done(&kept->listing);
    kept->settled++;
    return listing_read(buf_take(&text), size, "", &kept->listing, err);
}

static void free_it(struct build_kept *kept)
{
    if (kept)
        kept->open = false;
}

static int sync_it(struct session *session, struct err *err)
{
    struct solve solve = { .buildkit = session->buildkit, .events = BUF_INIT(EVENTS_MAX) };
    const struct cancel never = CANCEL_NEVER;
    struct build_kept *kept = NULL;
    struct sync_request request = { .solve = &solve, .files = { .folder = "context" }, .step = "load", .hint = "context", .cancel = &never };
    assert_int_equal(session_get(session->buildkit, "s1", &never, &request.session, err), 0);
    client.asked = 0;
    int result = sync_folder(&request, &kept, err);
    session_put(request.session);
    buf_done(&solve.events);
    assert_true((result == 0) == world.open);
    world.open = false;
    return result;
}

// Names in the tar, in its order.
static char *names_in_tar(void)
{
    struct buf out = BUF_INIT(1 << 16);
    for (size_t at = 0; at + 512 <= world.tar_size && world.tar[at];) {
        buf_addf(&out, "%s ", world.tar + at);
        at += 512 + (strtoul(world.tar + at + 124, NULL, 8) + 511) / 512 * 512;
    }
    return buf_take(&out);
}

static int setup(void **state)
{
    struct session *session = mem_new(struct session);
    const struct buildkit_config config = { .keeping = { open_it, listing_of, change, settle, free_it } };
    open_session_of(session, &config, "the key");
    client.lie = HONEST;
    *state = session;
    return 0;
}

static int teardown(void **state)
{
    close_session(*state);
    free(*state);
    listing_done(&world.listing);
    buf_done(&world.removed);
    free(take_ptr(&world.key));
    return 0;
}

static void say(const struct made_up *files, size_t len)
{
    client.files = files;
    client.len = len;
}

static void what_differs_is_asked_for(void **state)
{
    const struct made_up first[] = { { "a", NULL, "hello", 0644, 0, NS_PER_S }, { "d", NULL, "", DIR | 0755, 0, NS_PER_S }, { "d/b", NULL, "world", 0644, 0, NS_PER_S }, { "d/c", NULL, "c", 0644, 0, NS_PER_S } },
                         later[] = { { "a", NULL, "other", 0644, 0, NS_PER_S }, { "d", NULL, "", DIR | 0755, 0, NS_PER_S }, { "d/c", NULL, "C", 0644, 0, 2 * NS_PER_S } };
    struct err err = { 0 };
    world.removed = (struct buf)BUF_INIT(1 << 16);
    say(first, ARRAY_LEN(first));
    assert_int_equal(sync_it(*state, &err), 0);
    assert_string_equal(world.key, "context:context:the key");
    assert_true(client.asked == 3 && world.changes == 1 && world.settled == 1);
    const unsigned char hello[] = { 0x2c, 0xf2, 0x4d, 0xba };
    assert_memory_equal(world.listing.items[0].digest, hello, sizeof(hello));
    assert_int_equal(sync_it(*state, &err), 0);
    assert_true(client.asked == 0 && world.changes == 0 && world.settled == 0);
    say(later, ARRAY_LEN(later));
    assert_int_equal(sync_it(*state, &err), 0);
    assert_true(client.asked == 1 && world.changes == 1); // a has the same size and time
    _cleanup_free_ char *names = names_in_tar();
    assert_string_equal(names, "d/ d/c ");
    assert_string_equal(buf_text(&world.removed), "d/b ");
    assert_memory_equal(world.listing.items[0].digest, hello, sizeof(hello));
}

static void a_file_that_has_grown_is_as_it_was_listed(void **state)
{
    const struct made_up files[] = { { "a", NULL, "hello", 0644, 0, NS_PER_S } };
    const unsigned char hello[] = { 0x2c, 0xf2, 0x4d, 0xba };
    struct err err = { 0 };
    world.removed = (struct buf)BUF_INIT(1 << 16);
    say(files, 1);
    client.lie = TOO_LONG;
    assert_int_equal(sync_it(*state, &err), 0);
    assert_memory_equal(world.listing.items[0].digest, hello, sizeof(hello));
    assert_memory_equal(world.tar + 512, "hello\0\0", 7);
}

// What was wrong is never settled; what is no list is no change either.
static void clients_that_lie(void **state)
{
    static const struct {
        struct made_up files[3];
        enum lie lie;
        const char *says;
        bool change;
    } table[] = {
        { { { "b", NULL, "", 0644, 0, 0 }, { "a", NULL, "", 0644, 0, 0 } }, HONEST, "out of order", false },
        { { { "a", NULL, "", 0644, 0, 0 }, { "a", NULL, "", 0644, 0, 0 } }, HONEST, "out of order", false },
        { { { "../a", NULL, "x", 0644, 0, 0 } }, HONEST, "malformed", false },
        { { { "/etc", NULL, "x", 0644, 0, 0 } }, HONEST, "malformed", false },
        { { { "d/a", NULL, "x", 0644, 0, 0 } }, HONEST, "out of order", false },
        { { { "l", "/etc", "", LINK | 0777, 0, 0 }, { "l/passwd", NULL, "x", 0644, 0, 0 } }, HONEST, "out of order", false },
        { { { "a", NULL, "x", 1u << 19 | DIR | LINK, 0, 0 } }, HONEST, "malformed", false },
        { { { "a", NULL, "hello", 0644, 0, 0 } }, TOO_SHORT, "shorter", true },
        { { { "a", NULL, "hello", 0644, 0, 0 } }, WRONG_ID, "not asked for", true },
        { { { "a", NULL, "hello", 0644, 0, 0 } }, NO_FIN, "ended", true },
        { { { "a", NULL, "hello", 0644, 0, 0 } }, AN_ERROR, "no such folder", false },
        { { { "a", NULL, "hello", 0644, 0, 0 } }, NEGATIVE_SIZE, "malformed", false },
    };
    world.removed = (struct buf)BUF_INIT(1 << 16);
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct err err = { 0 };
        size_t len = 0;
        while (len < 3 && table[i].files[len].path)
            len++;
        say(table[i].files, len);
        client.lie = table[i].lie;
        assert_int_equal(sync_it(*state, &err), -1);
        if (!strstr(err.message, table[i].says))
            fail_msg("%zu: %s", i, err.message);
        assert_int_equal(world.settled, 0);
        assert_int_equal(world.changes, table[i].change);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_differs_is_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_has_grown_is_as_it_was_listed, setup, teardown),
        cmocka_unit_test_setup_teardown(clients_that_lie, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
