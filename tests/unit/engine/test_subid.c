// /etc/subuid and /etc/subgid are other people's files: what is no line of ours must not matter, and what is none at all must not hurt.
#include "fixture.h"

#include "engine/subid.h"

struct expected {
    const char *text;
    const char *map; // "inside outside len;"
    const char *message;
};

static void check(const struct expected *expected)
{
    static struct users_map map;
    struct err err = { 0 };
    _cleanup_buf_ struct buf text = BUF_INIT(1 << 16);
    int done = subid_parse(expected->text, "subuid", "me", 1000, &map, &err);
    if (expected->message) {
        assert_int_equal(done, -1);
        assert_string_equal(err.message, expected->message);
        return;
    }
    if (done < 0)
        fail_msg("%s: %s", expected->text, err.message);
    for (size_t i = 0; i < map.len; i++)
        buf_addf(&text, "%u %u %u;", map.ranges[i].inside, map.ranges[i].outside, map.ranges[i].len);
    assert_string_equal(buf_text(&text), expected->map);
}

#define NO_FORMAT "Cannot parse subuid/gid information: Format not correct for /etc/subuid file"
#define NONE "no subuid ranges found for user \"me\""
#define OF_ME "subuid of user \"me\": "

static void test_lines(void **state)
{
    static const struct expected table[] = {
        { "me:100000:65536\n", "0 100000 65536;", NULL },
        { "me:100000:65536", "0 100000 65536;", NULL },
        { "  me:100000:65536  \n\n", "0 100000 65536;", NULL },
        { "1000:7:1\n", "0 7 1;", NULL },
        { "other:1:2\nme:300:10\nme:100:5\n1000:200:1\n", "0 300 10;10 100 5;15 200 1;", NULL },
        { "me:4294967294:1\n", "0 4294967294 1;", NULL },
        // Lines of others, whatever they are.
        { "other\n:::\nother:x:y\n\x01\xff:1:1\n10000:1:1\nmee:1:1\nm:1:1\n#me:9:9\nme:5:5\n", "0 5 5;", NULL },
        { "", NULL, NONE },
        { "\n\n:\n::\n", NULL, NONE },
        { "me2:1:1\nMe:1:1\n01000x:1:1\n", NULL, NONE },
        { "me", NULL, NO_FORMAT },
        { "me:\n", NULL, NO_FORMAT },
        { "me:1\n", NULL, NO_FORMAT },
        { "me:1:2:3\n", NULL, NO_FORMAT },
        { "me:1:\n", NULL, NO_FORMAT },
        { "me:-1:5\n", NULL, NO_FORMAT },
        { "me:0x10:5\n", NULL, NO_FORMAT },
        { "me: 1:5\n", NULL, NO_FORMAT },
        { "me:4294967296:1\n", NULL, NO_FORMAT },
        { "me:1:99999999999999999999\n", NULL, NO_FORMAT },
        { "me:1:0\n", NULL, OF_ME "0 ids from 1 on is out of range" },
        { "me:4294967295:1\n", NULL, OF_ME "1 ids from 4294967295 on is out of range" },
        { "me:1:4294967295\n", NULL, OF_ME "4294967295 ids from 1 on is out of range" },
        { "me:0:5\n", NULL, OF_ME "the host's root is among the ids" },
        { "me:10:5\nme:14:1\n", NULL, OF_ME "two ranges share ids" },
        { "me:10:5\nme:10:5\n", NULL, OF_ME "two ranges share ids" },
        { "me:10:5\nme:1:100\n", NULL, OF_ME "two ranges share ids" },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        check(&table[i]);
}

static void test_many(void **state)
{
    static struct users_map map;
    struct err err = { 0 };
    _cleanup_buf_ struct buf text = BUF_INIT(1 << 16);
    for (int i = 0; i < USERS_RANGES_MAX; i++)
        buf_addf(&text, "me:%d:1\n", 10 + i);
    assert_int_equal(subid_parse(buf_text(&text), "subuid", "me", 1000, &map, &err), 0);
    assert_int_equal(map.len, USERS_RANGES_MAX);
    buf_adds(&text, "me:5:1\n");
    assert_int_equal(subid_parse(buf_text(&text), "subuid", "me", 1000, &map, &err), -1);
    assert_string_equal(err.message, "subuid of user \"me\": more than 340 ranges");
}

static void test_outside(void **state)
{
    static const struct users_map map = { .ranges = { { 0, 300, 10 }, { 10, 100, 5 } }, .len = 2 };
    uint32_t id = 7;
    assert_true(users_outside(&map, 0, &id) && id == 300);
    assert_true(users_outside(&map, 9, &id) && id == 309);
    assert_true(users_outside(&map, 10, &id) && id == 100);
    assert_false(users_outside(&map, 15, &id) || users_outside(&map, UINT32_MAX, &id));
}

static void test_what_is_free(void **state)
{
    assert_int_equal(subid_free("", 65536), 100000);
    assert_int_equal(subid_free("a:5:10\nb:x:y\n", 65536), 100000);
    assert_int_equal(subid_free("a:100000:65536\nb:90000:10\n", 65536), 165536);
    assert_int_equal(subid_free("a:4294900000:60000\n", 65536), 0);
    assert_int_equal(subid_free("a:4294967295:4294967295\n", 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_lines), cmocka_unit_test(test_many), cmocka_unit_test(test_outside),
                                        cmocka_unit_test(test_what_is_free) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
