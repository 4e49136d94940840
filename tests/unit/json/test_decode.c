#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "everything.h"

struct decoded {
    struct everything value;
    struct json_report report;
    struct arena arena;
    json_t *document; // of Raw
    struct err err;
};

static int decode(struct decoded *out, const char *text)
{
    *out = (struct decoded){ .arena = ARENA_INIT };
    if (json_parse(text, strlen(text), &out->document, &out->err) < 0)
        fail_msg("%s: %s", text, out->err.message);
    memset(&out->value, 0xff, sizeof(out->value)); // the decoder zeroes
    return json_decode(&everything_table, out->document, &out->value, &out->arena, &out->report, &out->err);
}

static void decoded_done(struct decoded *decoded)
{
    json_decref(decoded->document);
    arena_done(&decoded->arena);
}

static void every_kind(void **state)
{
    struct decoded got;
    assert_int_equal(decode(&got,
        "{\"Text\":\"t\",\"Integer\":-5,\"Flag\":true,\"Number\":1.5,\"Texts\":[\"a\",\"b\"],\"One\":\"single\","
        "\"Labels\":{\"k\":\"v\",\"e\":\"\"},\"Exposed\":{\"80/tcp\":{},\"53/udp\":null},"
        "\"InPlace\":{\"HostIp\":\"::1\",\"Number\":1},\"Pointer\":{\"Number\":2},\"List\":[{\"Number\":3},{\"Number\":4}],"
        "\"Map\":{\"m\":{\"Number\":5}},\"Bindings\":{\"80/tcp\":[{\"Number\":6},{\"Number\":7}],\"81/tcp\":null},"
        "\"Raw\":{\"any\":[1]}}"), 0);
    const struct everything *value = &got.value;
    assert_string_equal(value->text, "t");
    assert_int_equal(value->integer, -5);
    assert_true(value->flag);
    assert_true(value->number == 1.5);
    assert_int_equal(value->texts.len, 2);
    assert_string_equal(value->texts.items[1], "b");
    assert_null(value->texts.items[2]);
    assert_int_equal(value->one.len, 1);
    assert_string_equal(value->one.items[0], "single");
    assert_string_equal(kvs_get(&value->labels, "k"), "v");
    assert_string_equal(kvs_get(&value->labels, "e"), "");
    assert_true(value->exposed.len == 2 && strv_has(&value->exposed, "53/udp"));
    assert_string_equal(value->in_place.host, "::1");
    assert_int_equal(value->pointer->number, 2);
    assert_int_equal(((struct port *)json_list_at(&value->list, &port_table, 1))->number, 4);
    assert_string_equal(value->map.keys[0], "m");
    assert_int_equal(((struct port *)json_map_at(&value->map, &port_table, 0))->number, 5);
    const struct json_list *lists = value->bindings.items;
    assert_int_equal(value->bindings.len, 2);
    assert_true(lists[0].len == 2 && lists[1].len == 0);
    assert_int_equal(((struct port *)json_list_at(&lists[0], &port_table, 1))->number, 7);
    assert_ptr_equal(value->raw, json_object_get(got.document, "Raw"));
    assert_int_equal(got.report.unknown.len, 0);
    decoded_done(&got);
}

static bool is_all_empty(const struct everything *value)
{
    static const struct everything zero;
    return memcmp(value, &zero, offsetof(struct everything, raw)) == 0;
}

static void absent_and_null_are_empty(void **state)
{
    struct decoded got;
    assert_int_equal(decode(&got, "{}"), 0);
    assert_true(is_all_empty(&got.value));
    assert_null(got.value.raw);
    decoded_done(&got);
    assert_int_equal(decode(&got,
        "{\"Text\":null,\"Integer\":null,\"Flag\":null,\"Number\":null,\"Texts\":null,\"One\":null,\"Labels\":null,"
        "\"Exposed\":null,\"InPlace\":null,\"Pointer\":null,\"List\":null,\"Map\":null,\"Bindings\":null,\"Raw\":null,"
        "\"Refused\":null,\"Harmless\":null,\"Stranger\":null}"), 0);
    assert_true(is_all_empty(&got.value));
    assert_true(json_is_null(got.value.raw));
    assert_int_equal(got.report.unknown.len, 0);
    decoded_done(&got);
}

static void names_match_as_in_go(void **state)
{
    struct decoded got;
    assert_int_equal(decode(&got, "{\"text\":\"lower\",\"INTEGER\":3}"), 0);
    assert_string_equal(got.value.text, "lower");
    assert_int_equal(got.value.integer, 3);
    decoded_done(&got);
}

// One name in several spellings: the later counts, and nothing of the earlier is left (or written past its end).
static void later_spelling_wins(void **state)
{
    struct decoded got;
    assert_int_equal(decode(&got,
        "{\"Labels\":{\"a\":\"1\",\"b\":\"2\",\"c\":\"3\",\"d\":\"4\",\"e\":\"5\"},\"labels\":{\"z\":\"9\"},"
        "\"LIST\":[{\"Number\":1},{\"Number\":2},{\"Number\":3}],\"list\":[{\"Number\":4}],"
        "\"Texts\":[\"a\",\"b\"],\"texts\":[\"c\"],\"Map\":{\"a\":{\"Number\":1},\"b\":{\"Number\":2}},\"map\":{\"c\":{\"Number\":3}},"
        "\"Bindings\":{\"a\":[],\"b\":[]},\"bindings\":{\"c\":[]},\"Exposed\":{\"a\":{}},\"exposed\":{},"
        "\"Text\":\"x\",\"tExt\":null,\"InPlace\":{\"HostIp\":\"h\",\"Number\":1},\"inplace\":{\"Number\":2}}"), 0);
    assert_int_equal(got.value.labels.len, 1);
    assert_string_equal(kvs_get(&got.value.labels, "z"), "9");
    assert_int_equal(got.value.list.len, 1);
    assert_int_equal(((struct port *)json_list_at(&got.value.list, &port_table, 0))->number, 4);
    assert_int_equal(got.value.texts.len, 1);
    assert_string_equal(got.value.texts.items[0], "c");
    assert_int_equal(got.value.map.len, 1);
    assert_string_equal(got.value.map.keys[0], "c");
    assert_int_equal(got.value.bindings.len, 1);
    assert_int_equal(got.value.exposed.len, 0);
    assert_null(got.value.text);
    assert_int_equal(got.value.in_place.number, 2);
    assert_string_equal(got.value.in_place.host, "h"); // merged
    decoded_done(&got);
}

// A nested object whose members stand in the outer struct.
static void nested_document_flat_struct(void **state)
{
    static const struct json_field inner_fields[] = { JSON_FIELD("Inner", JSON_INT, struct everything, integer) };
    static const struct json_table inner = JSON_TABLE(struct everything, inner_fields);
    static const struct json_field outer_fields[] = {
        JSON_FIELD("Text", JSON_TEXT, struct everything, text),
        { .name = "Nested", .kind = JSON_STRUCT, .sub = &inner },
    };
    static const struct json_table outer = JSON_TABLE(struct everything, outer_fields);
    static const char text[] = "{\"Text\":\"kept\",\"Nested\":{\"Inner\":5}}";
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct everything value;
    assert_int_equal(json_decode_text(&outer, text, strlen(text), &value, &arena, NULL, NULL), 0);
    assert_string_equal(value.text, "kept");
    assert_int_equal(value.integer, 5);
    _cleanup_json_ json_t *object = json_encode(&outer, &value);
    _cleanup_free_ char *again = json_text(object);
    assert_string_equal(again, text);
}

static void strings_are_copies(void **state)
{
    static const char text[] = "{\"Text\":\"kept\",\"Labels\":{\"key\":\"value\"},\"Exposed\":{\"80/tcp\":{}}}";
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct everything value;
    assert_int_equal(json_decode_text(&everything_table, text, strlen(text), &value, &arena, NULL, NULL), 0);
    assert_string_equal(value.text, "kept"); // the document is gone
    assert_string_equal(value.labels.items[0].key, "key");
    assert_string_equal(value.exposed.items[0], "80/tcp");
    struct err err;
    assert_int_equal(json_decode_text(&everything_table, "{", 1, &value, &arena, NULL, &err), -1);
    assert_true(str_starts(err.message, "invalid JSON"));
}

static void integers(void **state)
{
    static const struct {
        const char *text;
        int64_t value;
    } cases[] = {
        { "{\"Integer\":9223372036854775807}", INT64_MAX },
        { "{\"Integer\":18446744073709551615}", INT64_MAX },
        { "{\"Integer\":-18446744073709551615}", INT64_MIN },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct decoded got;
        assert_int_equal(decode(&got, cases[i].text), 0);
        assert_true(got.value.integer == cases[i].value);
        decoded_done(&got);
    }
}

static void errors_say_where(void **state)
{
    static const struct {
        const char *text, *message;
        enum err_class class;
    } cases[] = {
        { "[]", "expected object, got array", ERR_INVALID_ARGUMENT },
        { "null", "expected object, got null", ERR_INVALID_ARGUMENT },
        { "{\"Text\":5}", "Text: expected string, got integer", ERR_INVALID_ARGUMENT },
        { "{\"tEXT\":true}", "tEXT: expected string, got boolean", ERR_INVALID_ARGUMENT },
        { "{\"Integer\":\"5\"}", "Integer: expected integer, got string", ERR_INVALID_ARGUMENT },
        { "{\"Integer\":1.5}", "Integer: expected integer, got number", ERR_INVALID_ARGUMENT },
        { "{\"Integer\":1e300}", "Integer: expected integer, got number", ERR_INVALID_ARGUMENT },
        { "{\"Integer\":1e9}", "Integer: expected integer, got number", ERR_INVALID_ARGUMENT },
        { "{\"Integer\":-2.0}", "Integer: expected integer, got number", ERR_INVALID_ARGUMENT },
        { "{\"Flag\":0}", "Flag: expected boolean, got integer", ERR_INVALID_ARGUMENT },
        { "{\"Number\":\"1\"}", "Number: expected number, got string", ERR_INVALID_ARGUMENT },
        { "{\"Texts\":\"a\"}", "Texts: expected list of strings, got string", ERR_INVALID_ARGUMENT },
        { "{\"Texts\":[\"a\",1]}", "Texts[1]: expected string, got integer", ERR_INVALID_ARGUMENT },
        { "{\"Labels\":[]}", "Labels: expected object of strings, got array", ERR_INVALID_ARGUMENT },
        { "{\"Labels\":{\"a.b\":{}}}", "Labels.a.b: expected string, got object", ERR_INVALID_ARGUMENT },
        { "{\"Exposed\":{\"80/tcp\":1}}", "Exposed.80/tcp: expected object, got integer", ERR_INVALID_ARGUMENT },
        { "{\"InPlace\":[]}", "InPlace: expected object, got array", ERR_INVALID_ARGUMENT },
        { "{\"InPlace\":{}}", "InPlace.Number: missing", ERR_INVALID_ARGUMENT },
        { "{\"Pointer\":{\"number\":null}}", "Pointer.Number: missing", ERR_INVALID_ARGUMENT },
        { "{\"List\":[{\"Number\":1},null]}", "List[1].Number: missing", ERR_INVALID_ARGUMENT },
        { "{\"List\":{}}", "List: expected list, got object", ERR_INVALID_ARGUMENT },
        { "{\"Map\":{\"a\":{\"Number\":true}}}", "Map.a.Number: expected integer, got boolean", ERR_INVALID_ARGUMENT },
        { "{\"Bindings\":{\"80/tcp\":[{\"Number\":1,\"HostIp\":7}]}}",
          "Bindings.80/tcp[0].HostIp: expected string, got integer", ERR_INVALID_ARGUMENT },
        { "{\"Bindings\":{\"80/tcp\":{}}}", "Bindings.80/tcp: expected list, got object", ERR_INVALID_ARGUMENT },
        { "{\"Refused\":\"x\"}", "Refused: not supported yet: no such thing here", ERR_NOT_IMPLEMENTED },
        { "{\"refused\":[0]}", "refused: not supported yet: no such thing here", ERR_NOT_IMPLEMENTED },
        { "{\"RefusedMinus\":1}", "RefusedMinus: not supported yet", ERR_NOT_IMPLEMENTED },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct decoded got;
        assert_int_equal(decode(&got, cases[i].text), -1);
        assert_string_equal(got.err.message, cases[i].message);
        assert_int_equal(got.err.class, cases[i].class);
        decoded_done(&got);
    }
}

static void what_says_nothing(void **state)
{
    static const struct {
        const char *field, *value;
        bool passes;
    } cases[] = {
        { "Refused", "null", true },        { "Refused", "\"\"", true },         { "Refused", "[]", true },
        { "Refused", "{}", true },          { "Refused", "0", true },            { "Refused", "0.0", true },
        { "Refused", "false", true },       { "Refused", "true", false },        { "Refused", "-1", false },
        { "Refused", "\"no\"", false },     { "Refused", "[\"\"]", false },      { "Refused", "{\"a\":{\"b\":\"\"}}", true },
        { "Refused", "{\"a\":1}", false },  { "RefusedMinus", "-1", true },      { "RefusedMinus", "-2", false },
        { "RefusedWords", "\"default\"", true }, { "RefusedWords", "\"no\"", true }, { "RefusedWords", "\"private\"", false },
        { "RefusedPrivate", "\"private\"", true }, { "RefusedPrivate", "\"default\"", false },
        { "RefusedPrivate", "\"host\"", false }, { "RefusedTrue", "true", true }, { "RefusedTrue", "1", false },
        { "Harmless", "[{\"a\":1}]", true },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct decoded got;
        char text[200];
        snprintf(text, sizeof(text), "{\"%s\":%s}", cases[i].field, cases[i].value);
        int result = decode(&got, text);
        if (result != (cases[i].passes ? 0 : -1))
            fail_msg("%s: %s", text, result ? got.err.message : "passed");
        assert_int_equal(got.report.unknown.len, 0);
        decoded_done(&got);
    }
}

static void unknown_fields_are_told(void **state)
{
    struct decoded got;
    assert_int_equal(decode(&got,
        "{\"Stranger\":1,\"Quiet\":\"\",\"List\":[{\"Number\":1},{\"Number\":2,\"Extra\":{\"a\":\"x\"}}],"
        "\"Bindings\":{\"80/tcp\":[{\"Number\":1,\"Odd\":true}]},\"Exposed\":{\"80/tcp\":{\"More\":[1]}}}"), 0);
    static const char *const paths[] = { "Stranger", "List[1].Extra", "Bindings.80/tcp[0].Odd", "Exposed.80/tcp.More" };
    assert_int_equal(got.report.unknown.len, ARRAY_LEN(paths));
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        assert_string_equal(got.report.unknown.items[i], paths[i]);
    decoded_done(&got);
}

static void reports_and_paths_are_bounded(void **state)
{
    _cleanup_buf_ struct buf text = BUF_INIT(1 << 20);
    struct decoded got;
    buf_adds(&text, "{\"Labels\":{}");
    for (int i = 0; i < 5000; i++)
        buf_addf(&text, ",\"Stranger%d\":1", i);
    buf_adds(&text, "}");
    assert_int_equal(decode(&got, buf_text(&text)), 0);
    assert_int_equal(got.report.unknown.len, 100);
    decoded_done(&got);

    buf_clear(&text);
    buf_adds(&text, "{\"Labels\":{\"x");
    for (int i = 0; i < 100000; i++)
        buf_adds(&text, "\xe2\x82\xac");
    buf_adds(&text, "\":1}}");
    assert_int_equal(decode(&got, buf_text(&text)), -1);
    assert_true(strlen(got.err.message) < 300);
    assert_non_null(strstr(got.err.message, "\xe2\x82\xac: expected string, got integer")); // cut between characters
    decoded_done(&got);
}

static void large_documents(void **state)
{
    enum { ITEMS = 20000 };
    _cleanup_buf_ struct buf text = BUF_INIT(4 << 20);
    struct decoded got;
    buf_adds(&text, "{\"List\":[");
    for (int i = 0; i < ITEMS; i++)
        buf_addf(&text, "%s{\"Number\":%d}", i ? "," : "", i);
    buf_adds(&text, "],\"Texts\":[");
    for (int i = 0; i < ITEMS; i++)
        buf_addf(&text, "%s\"%d\"", i ? "," : "", i);
    buf_adds(&text, "]}");
    assert_int_equal(decode(&got, buf_text(&text)), 0);
    assert_int_equal(((struct port *)json_list_at(&got.value.list, &port_table, ITEMS - 1))->number, ITEMS - 1);
    assert_string_equal(got.value.texts.items[ITEMS - 1], "19999");
    assert_true(got.arena.used < 4 << 20);
    decoded_done(&got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind),
        cmocka_unit_test(absent_and_null_are_empty),
        cmocka_unit_test(names_match_as_in_go),
        cmocka_unit_test(later_spelling_wins),
        cmocka_unit_test(nested_document_flat_struct),
        cmocka_unit_test(strings_are_copies),
        cmocka_unit_test(integers),
        cmocka_unit_test(errors_say_where),
        cmocka_unit_test(what_says_nothing),
        cmocka_unit_test(unknown_fields_are_told),
        cmocka_unit_test(reports_and_paths_are_bounded),
        cmocka_unit_test(large_documents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
