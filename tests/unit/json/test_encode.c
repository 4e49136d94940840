#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>

#include "everything.h"

static void writes(const struct json_table *table, const void *in, const char *wanted)
{
    _cleanup_json_ json_t *value = json_encode(table, in);
    _cleanup_free_ char *text = json_text(value);
    assert_string_equal(text, wanted);
}

static void empty_values(void **state)
{
    const struct everything value = { 0 };
    writes(&everything_table, &value,
           "{\"Text\":\"\",\"Integer\":0,\"Flag\":false,\"Number\":0.0,\"Texts\":[],\"One\":[],\"Labels\":{},"
           "\"Exposed\":{},\"InPlace\":{\"HostIp\":\"\",\"Number\":0},\"Pointer\":null,\"List\":[],\"Map\":{},"
           "\"Bindings\":{},\"Raw\":null}");
}

// What was decoded is written as it was, and decodes to the same again.
static void round_trip(void **state)
{
    static const char text[] =
        "{\"Text\":\"t\xe2\x82\xac\\n\",\"Integer\":-9223372036854775808,\"Flag\":true,\"Number\":0.25,"
        "\"Texts\":[\"a\",\"\"],\"One\":[\"x\"],\"Labels\":{\"k\":\"v\",\"a\":\"\"},\"Exposed\":{\"80/tcp\":{}},"
        "\"InPlace\":{\"HostIp\":\"::\",\"Number\":1},\"Pointer\":{\"HostIp\":\"\",\"Number\":2},"
        "\"List\":[{\"HostIp\":\"\",\"Number\":3},{\"HostIp\":\"h\",\"Number\":4}],\"Map\":{\"m\":{\"HostIp\":\"\",\"Number\":5}},"
        "\"Bindings\":{\"80/tcp\":[{\"HostIp\":\"\",\"Number\":6}],\"81/tcp\":[]},\"Raw\":{\"any\":[1,{\"b\":null}]}}";
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_json_ json_t *document = NULL;
    struct everything value;
    assert_int_equal(json_parse(text, strlen(text), &document, NULL), 0);
    assert_int_equal(json_decode(&everything_table, document, &value, &arena, NULL, NULL), 0);
    writes(&everything_table, &value, text);
}

struct sparse {
    char *text;
    int64_t integer;
    bool flag;
    double number;
    struct strv list, null_list;
    struct kvs null_map;
    struct port *pointer;
    struct json_map bindings;
    json_t *raw;
    struct port in_place;
};

static const struct json_field quiet_port_fields[] = {
    JSON_FIELD("HostIp", JSON_TEXT, struct port, host, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("Number", JSON_INT, struct port, number, .flags = JSON_OMIT_EMPTY),
};
static const struct json_table quiet_port_table = JSON_TABLE(struct port, quiet_port_fields);

static const struct json_field sparse_fields[] = {
    JSON_FIELD("Text", JSON_TEXT, struct sparse, text, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("Integer", JSON_INT, struct sparse, integer, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("Flag", JSON_FLAG, struct sparse, flag, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("Number", JSON_NUMBER, struct sparse, number, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("List", JSON_TEXTS, struct sparse, list, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("NullList", JSON_TEXTS, struct sparse, null_list, .flags = JSON_NULL_EMPTY),
    JSON_FIELD("NullMap", JSON_TEXT_MAP, struct sparse, null_map, .flags = JSON_NULL_EMPTY),
    JSON_FIELD("Pointer", JSON_STRUCT_PTR, struct sparse, pointer, .sub = &quiet_port_table, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("Bindings", JSON_LIST_MAP, struct sparse, bindings, .sub = &port_table, .flags = JSON_NULL_ITEMS),
    JSON_FIELD("Raw", JSON_RAW, struct sparse, raw, .flags = JSON_OMIT_EMPTY),
    JSON_FIELD("InPlace", JSON_STRUCT, struct sparse, in_place, .sub = &quiet_port_table, .flags = JSON_OMIT_EMPTY),
};
static const struct json_table sparse_table = JSON_TABLE(struct sparse, sparse_fields);

static void omitted_and_null(void **state)
{
    struct sparse value = { 0 };
    writes(&sparse_table, &value, "{\"NullList\":null,\"NullMap\":null,\"Bindings\":{}}");

    char *items[] = { (char *)"a", NULL }, *keys[] = { (char *)"80/tcp" };
    struct kv pair = { (char *)"k", (char *)"v" };
    struct port nothing = { 0 };
    struct json_list none = { 0 };
    _cleanup_json_ json_t *raw = json_object();
    value = (struct sparse){ (char *)"t", 1, true, 0.5, { items, 1, 0 }, { items, 1, 0 }, { &pair, 1 }, &nothing,
                             { keys, &none, 1 }, raw, { NULL, 7 } };
    // A pointer that points somewhere is there, however empty what it points to; so is an empty open document.
    writes(&sparse_table, &value,
           "{\"Text\":\"t\",\"Integer\":1,\"Flag\":true,\"Number\":0.5,\"List\":[\"a\"],\"NullList\":[\"a\"],"
           "\"NullMap\":{\"k\":\"v\"},\"Pointer\":{},\"Bindings\":{\"80/tcp\":null},\"Raw\":{},\"InPlace\":{\"Number\":7}}");
}

static void bytes_that_are_not_utf8(void **state)
{
    char *items[] = { (char *)"ok", (char *)"b\xff" "d", NULL };
    struct kv pairs[] = { { (char *)"k\x80", (char *)"\xe2\x82" }, { (char *)"n", NULL } };
    const struct everything value = { .text = (char *)"a\xc3\xa4\xc3", .texts = { items, 2, 0 }, .labels = { pairs, 2 },
                                      .exposed = { items, 2, 0 } };
    _cleanup_json_ json_t *object = json_encode(&everything_table, &value);
    assert_string_equal(json_get_text(object, "Text", NULL), "a\xc3\xa4\xef\xbf\xbd");
    _cleanup_free_ char *texts = json_text(json_object_get(object, "Texts"));
    assert_string_equal(texts, "[\"ok\",\"b\xef\xbf\xbd" "d\"]");
    _cleanup_free_ char *labels = json_text(json_object_get(object, "Labels"));
    assert_string_equal(labels, "{\"k\xef\xbf\xbd\":\"\xef\xbf\xbd\xef\xbf\xbd\",\"n\":\"\"}");
    assert_int_equal(json_object_size(json_object_get(object, "Exposed")), 2);
    _cleanup_json_ json_t *none = json_new_text(NULL);
    assert_string_equal(json_string_value(none), "");
}

static void numbers_json_cannot_say(void **state)
{
    const struct everything value = { .number = NAN };
    _cleanup_json_ json_t *object = json_encode(&everything_table, &value);
    assert_true(json_real_value(json_object_get(object, "Number")) == 0);
}

static void lists_grow(void **state)
{
    enum { ITEMS = 10000 };
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct json_list list = { 0 };
    for (int i = 0; i < ITEMS; i++) {
        struct port *port = json_list_add(&list, &port_table, &arena);
        assert_true(!port->host && port->number == 0);
        port->number = i;
    }
    assert_int_equal(list.len, ITEMS);
    assert_true(arena.used < 4 * ITEMS * sizeof(struct port)); // doubling, no square of the length
    for (size_t i = 0; i < ITEMS; i++)
        assert_int_equal(((struct port *)json_list_at(&list, &port_table, i))->number, i);

    struct port own[] = { { NULL, 1 }, { NULL, 2 } };
    list = (struct json_list){ own, 2, 0 }; // sized by somebody else
    ((struct port *)json_list_add(&list, &port_table, &arena))->number = 3;
    _cleanup_json_ json_t *array = json_encode_list(&port_table, &list);
    _cleanup_free_ char *text = json_text(array);
    assert_string_equal(text, "[{\"HostIp\":\"\",\"Number\":1},{\"HostIp\":\"\",\"Number\":2},{\"HostIp\":\"\",\"Number\":3}]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_values),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(omitted_and_null),
        cmocka_unit_test(bytes_that_are_not_utf8),
        cmocka_unit_test(numbers_json_cannot_say),
        cmocka_unit_test(lists_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
