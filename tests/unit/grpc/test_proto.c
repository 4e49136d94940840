#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "grpc/proto.h"

struct pet {
    char *name;
    int32_t legs;
};
struct person {
    char *name;
    int64_t age;
    bool alive;
    uint32_t mode;
    int32_t offset;
    struct slice photo;
    struct strv nicknames;
    struct kvs labels;
    struct pet *favourite;
    struct proto_list pets;
    int64_t born_ns;
    struct person *parent;
};

static const struct proto_field pet_fields[] = {
    PROTO_FIELD(1, PROTO_TEXT, struct pet, name),
    PROTO_FIELD(2, PROTO_INT32, struct pet, legs),
};
static const struct proto_message pet_message = PROTO_MESSAGE_OF(struct pet, pet_fields);
static const struct proto_message person_message;
static const struct proto_field person_fields[] = {
    PROTO_FIELD(1, PROTO_TEXT, struct person, name),
    PROTO_FIELD(2, PROTO_INT64, struct person, age),
    PROTO_FIELD(3, PROTO_BOOL, struct person, alive),
    PROTO_FIELD(4, PROTO_UINT32, struct person, mode),
    PROTO_FIELD(5, PROTO_INT32, struct person, offset),
    PROTO_FIELD(6, PROTO_BYTES, struct person, photo),
    PROTO_FIELD(7, PROTO_TEXTS, struct person, nicknames),
    PROTO_FIELD(8, PROTO_MAP, struct person, labels),
    PROTO_SUB(9, PROTO_MESSAGE, struct person, favourite, &pet_message),
    PROTO_SUB(10, PROTO_MESSAGES, struct person, pets, &pet_message),
    PROTO_FIELD(11, PROTO_TIME, struct person, born_ns),
    PROTO_SUB(200, PROTO_MESSAGE, struct person, parent, &person_message),
};
static const struct proto_message person_message = PROTO_MESSAGE_OF(struct person, person_fields);

static int read_person(const char *bytes, size_t size, struct arena *arena, struct person *out, struct err *err)
{
    return proto_decode((struct slice){ bytes, size }, &person_message, arena, out, err);
}

#define READ(bytes, out) read_person(bytes, sizeof(bytes) - 1, &arena, out, &err)

// The bytes are those of the specification's own examples, and of protoc for this message.
static void test_bytes(void **state)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct person person;
    struct err err = { 0 };
    assert_int_equal(READ("\x10\x96\x01", &person), 0);
    assert_int_equal(person.age, 150);
    assert_int_equal(READ("\x0a\x07testing", &person), 0);
    assert_string_equal(person.name, "testing");
    assert_int_equal(person.age, 0);
    assert_int_equal(READ("\x28\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", &person), 0);
    assert_int_equal(person.offset, -2);
    assert_int_equal(READ("\x42\x06\x0a\x01k\x12\x01v\x42\x03\x0a\x01x", &person), 0);
    assert_int_equal(person.labels.len, 2);
    assert_string_equal(kvs_get(&person.labels, "k"), "v");
    assert_string_equal(kvs_get(&person.labels, "x"), "");
    assert_int_equal(READ("\x3a\x01p\x18\x01\x3a\x01q", &person), 0);
    assert_int_equal(person.nicknames.len, 2);
    assert_string_equal(person.nicknames.items[1], "q");
    assert_null(person.nicknames.items[2]);
    assert_true(person.alive);
    assert_int_equal(READ("\x5a\x06\x08\x80\x94\xeb\xdc\x03", &person), 0);
    assert_true(person.born_ns == INT64_C(1000000000) * 1000000000);
}

static void test_unknown_fields_pass(void **state)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct person person;
    struct err err = { 0 };
    assert_int_equal(READ("\xf8\x01\x05\xf9\x01" "12345678" "\xfd\x01" "1234" "\xfa\x01\x02" "ab" "\x10\x07", &person), 0);
    assert_int_equal(person.age, 7);
}

static const struct {
    const char *bytes;
    size_t size;
    const char *why;
} broken[] = {
    { "\x10", 1, "a tag alone" },
    { "\x10\xff", 2, "half a number" },
    { "\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11, "65 bits" },
    { "\x10\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", 12, "eleven bytes" },
    { "\x0a\x05" "abc", 5, "a text beyond the end" },
    { "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, "a length of 2^64 - 1" },
    { "\x0a\x03" "a\0b", 5, "a NUL in a text" },
    { "\x08\x01", 2, "a number for a text" },
    { "\x12\x01x", 3, "bytes for a number" },
    { "\x02\x01x", 3, "field 0" },
    { "\x13\x14", 2, "a group" },
    { "\x17", 1, "wire type 7" },
    { "\x42\x02\x08\x01", 4, "a map with a number for its key" },
    { "\x42\x03\x0a\x05x", 5, "a map entry that is cut off" },
    { "\x4a\x02\x0a\x09", 4, "a message that is cut off" },
    { "\x5a\x06\x10\x80\xa8\xd6\xb9\x07", 8, "two thousand million nanoseconds" },
    { "\x5a\x0a\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 12, "a time beyond all times" },
};

static void test_broken(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct person person;
        struct err err = { 0 };
        if (read_person(broken[i].bytes, broken[i].size, &arena, &person, &err) == 0)
            fail_msg("%s was taken", broken[i].why);
        assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    }
}

static void test_there_and_back(void **state)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_buf_ struct buf bytes = BUF_INIT(1 << 16), again = BUF_INIT(1 << 16);
    char *nicknames[] = { (char *)"a", (char *)"", (char *)"c", NULL };
    struct kv labels[] = { { (char *)"k", (char *)"v" }, { (char *)"", (char *)"" } };
    struct pet pets[] = { { (char *)"cat", 4 }, { NULL, 0 }, { (char *)"bird", -2 } };
    struct person parent = { .name = (char *)"old", .born_ns = -1 };
    struct person in = {
        .name = (char *)"N", .age = -5, .alive = true, .mode = UINT32_MAX, .offset = INT32_MIN, .photo = { "\0\xff", 2 },
        .nicknames = { nicknames, 3, 0 }, .labels = { labels, 2 }, .favourite = &pets[2], .pets = { pets, 3 },
        .born_ns = 1700000000123456789, .parent = &parent,
    };
    struct person out;
    proto_encode(&person_message, &in, &bytes);
    assert_int_equal(proto_decode((struct slice){ bytes.data, bytes.size }, &person_message, &arena, &out, NULL), 0);
    assert_string_equal(out.name, "N");
    assert_int_equal(out.age, -5);
    assert_int_equal(out.mode, UINT32_MAX);
    assert_int_equal(out.offset, INT32_MIN);
    assert_memory_equal(out.photo.data, "\0\xff", 2);
    assert_string_equal(out.nicknames.items[1], "");
    assert_int_equal(out.pets.len, 3);
    assert_null(((struct pet *)out.pets.items)[1].name);
    assert_int_equal(((struct pet *)out.pets.items)[2].legs, -2);
    assert_string_equal(out.favourite->name, "bird");
    assert_true(out.born_ns == in.born_ns);
    assert_true(out.parent->born_ns == -1);
    proto_encode(&person_message, &out, &again);
    assert_int_equal(again.size, bytes.size);
    assert_memory_equal(again.data, bytes.data, bytes.size);
}

static void test_ceilings(void **state)
{
    struct err err = { 0 };
    struct person person;
    // A million empty pets in two megabytes.
    _cleanup_buf_ struct buf pets = BUF_INIT(4 << 20);
    for (int i = 0; i < 1000000; i++)
        buf_add(&pets, "\x52\x00", 2);
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    assert_int_equal(read_person(pets.data, pets.size, &arena, &person, &err), -1);
    assert_int_equal(err.class, ERR_RESOURCE_EXHAUSTED);
    assert_true(arena.used < 1 << 20);
    // Parents of parents.
    struct person chain[40] = { 0 };
    for (size_t i = 0; i + 1 < ARRAY_LEN(chain); i++)
        chain[i].parent = &chain[i + 1];
    _cleanup_buf_ struct buf deep = BUF_INIT(1 << 16), small = BUF_INIT(8);
    proto_encode(&person_message, chain, &deep);
    assert_int_equal(read_person(deep.data, deep.size, &arena, &person, &err), -1);
    assert_non_null(strstr(err.message, "nested"));
    proto_encode(&person_message, chain, &small);
    assert_int_equal(buf_check(&small, "message", &err), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),          cmocka_unit_test(test_unknown_fields_pass), cmocka_unit_test(test_broken),
        cmocka_unit_test(test_there_and_back), cmocka_unit_test(test_ceilings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
