#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "client/template.h"

static const char document[] =
    "{\"Id\":\"abc\",\"Name\":\"web\",\"Pid\":12,\"Half\":0.5,\"Big\":2500000000,\"On\":true,\"Off\":false,\"None\":null,"
    "\"List\":[\"a\",\"b\"],\"Numbers\":[1,2,3],\"Empty\":[],\"Labels\":{\"z\":\"1\",\"a.b\":\"2\"},"
    "\"State\":{\"Status\":\"up\",\"Code\":0},\"Ports\":{\"80/tcp\":[{\"HostPort\":\"8080\"}],\"81/tcp\":null}}";

static char *run(const char *text, bool row, struct err *err)
{
    struct template *template = NULL;
    struct buf out = BUF_INIT(1u << 16);
    json_t *root = NULL;
    assert_int_equal(json_parse(document, strlen(document), &root, err), 0);
    err_clear(err);
    if (template_parse("", text, &template, err) == 0) {
        struct template_data data = { .root = root, .labels = json_object_get(root, "Labels"), .type = row ? "*row" : NULL };
        template_run(template, &data, &out, err);
        template_free(template);
    }
    json_decref(root);
    return buf_take(&out);
}

static const struct {
    const char *text, *printed;
} rows[] = {
    { "plain", "plain" },
    { "{{.Name}}", "web" },
    { "{{.ID}} {{.Id}}", "abc abc" },
    { "{{.Pid}} {{.Half}} {{.Big}} {{.On}} {{.Off}}", "12 0.5 2500000000 true false" },
    { "{{.List}} {{.Numbers}} {{.Empty}} {{.None}}", "[a b] [1 2 3] [] []" },
    { "{{.Labels}} {{.State}}", "map[a.b:2 z:1] {up 0}" },
    { "{{index .Labels \"a.b\"}}|{{index .Labels \"no\"}}|{{.Labels.z}}|{{.Labels.no}}", "2||1|<no value>" },
    { "{{(index (index .Ports \"80/tcp\") 0).HostPort}}", "8080" },
    { "{{index .Ports \"81/tcp\"}} {{index .Ports \"9\"}}", "[] []" },
    { "{{.Health}}{{if .Health}}x{{else}}none{{end}}", "<nil>none" },
    { "{{json .List}} {{json .State}} {{json .None}} {{json .Health}}", "[\"a\",\"b\"] {\"Status\":\"up\",\"Code\":0} null null" },
    { "{{range .List}}<{{.}}>{{end}}{{range .Empty}}x{{else}}none{{end}}", "<a><b>none" },
    { "{{range $i, $x := .List}}{{$i}}{{$x}}{{$.Name}} {{end}}", "0aweb 1bweb " },
    { "{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a.b=2;z=1;" },
    { "{{range 3}}{{.}}{{end}}", "012" },
    { "{{range .Numbers}}{{if eq . 2}}{{continue}}{{end}}{{.}}{{if eq . 3}}{{break}}{{end}},{{end}}", "1,3" },
    { "{{with .State}}{{.Status}}{{else}}x{{end}}{{with .None}}x{{else}}y{{end}}", "upy" },
    { "{{if .Off}}a{{else if .On}}b{{else}}c{{end}}", "b" },
    { "{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2" },
    { "a {{- .Name -}}  b", "awebb" },
    { "{{/* no */}}x{{- /* no */ -}} y", "xy" },
    { "{{.Name | upper | printf \"%s!\"}}", "WEB!" },
    { "{{printf \"%5d|%-5d|%05d|%x|%v|%q|%6.2f|%%\" 7 7 7 255 true \"a\" 0.5}}", "    7|7    |00007|ff|true|\"a\"|  0.50|%" },
    { "{{printf \"%08b|%b|%4c|%c|%x|%X|%b|%-4x|%b\" 5 0 65 26085 \"ab\" \"z\" -5 \"a\" \"x\"}}", "00000101|0|   A|\xe6\x97\xa5|6162|7A|-101|61  |%!b(string=x)" },
    { "{{printf \"%s %d\" \"x\"}}{{printf \"%d\" \"x\"}}", "x %!d(MISSING)%!d(string=x)" },
    { "{{print 1 2 \"a\" \"b\" 3}}{{println \"x\" 1}}", "1 2ab3x 1\n" },
    { "{{and .On 0}} {{or 0 \"\" .Name}} {{not .On}} {{and 1 2}}", "0 web false 2" },
    { "{{eq .Name \"x\" \"web\"}} {{ne 1 2}} {{lt 1 2}} {{le \"a\" \"a\"}} {{gt 1.5 1.0}} {{ge 1 2}}", "true true true true true false" },
    { "{{len .List}} {{len .Name}} {{len .Labels}} {{slice .Name 1 2}} {{slice .List 1}}", "2 3 2 e [b]" },
    { "{{join .List \"-\"}} {{split \"a,b\" \",\"}} {{title \"ab cd\"}} {{lower \"AB\"}} {{pad \"x\" 1 2}}| {{truncate \"abc\" 2}}", "a-b [a b] Ab Cd ab  x  | ab" },
    { "{{\"tab\\t\\u00e9\\x41\"}}{{`raw\\t`}}{{'a'}}", "tab\t\xc3\xa9""Araw\\t97" },
    { "{{html \"<a href='x'>\"}} {{urlquery \"a b&c\"}}", "&lt;a href=&#39;x&#39;&gt; a+b%26c" },
    { "{{1e3}} {{-5}} {{1.25}} {{100000000000000000000.0}} {{1e21}} {{0.00001}}", "1000 -5 1.25 100000000000000000000 1e+21 1e-05" },
};

static void what_is_printed(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct err err;
        _cleanup_free_ char *got = run(rows[i].text, false, &err);
        if (err.class)
            fail_msg("%s: %s", rows[i].text, err.message);
        if (!str_eq(got, rows[i].printed))
            fail_msg("%s gave %s", rows[i].text, got);
    }
}

static const struct {
    const char *text, *words;
} errors[] = {
    { "{{", ":1: unclosed action" },
    { "a\n{{.Name", ":2: unclosed action" },
    { "{{.}", ":1: unexpected \"}\" in operand" },
    { "{{end}}", ":1: unexpected {{end}}" },
    { "{{if}}x{{end}}", ":1: missing value for if" },
    { "{{if .On}}x", ":1: unexpected EOF" },
    { "{{nosuch .}}", ":1: function \"nosuch\" not defined" },
    { "{{$x}}", ":1: undefined variable \"$x\"" },
    { "{{break}}", ":1: {{break}} outside {{range}}" },
    { "{{\"a}}", ":1: unterminated quoted string" },
    { "{{(.Name}}", ":1: unclosed left paren" },
    { "{{.Name)}}", ":1: unexpected right paren" },
    { "{{define \"x\"}}{{end}}", "{{define}} is not supported" },
    { "{{/* x}}", "unclosed comment" },
    { "{{.Foo}}", ":1:2: executing \"\" at <.Foo>: map has no entry for key \"Foo\"" },
    { "{{.State.Foo}}", ":1:8: executing \"\" at <.State.Foo>: map has no entry for key \"Foo\"" },
    { "{{.Name.Foo}}", "can't evaluate field Foo in type interface {}" },
    { "{{index .List 2}}", "at <index .List 2>: error calling index: index out of range: 2" },
    { "{{index .List -1}}", "index out of range: -1" },
    { "{{slice .Name 2 1}}", "index out of range" },
    { "{{lt 1 \"a\"}}", "error calling lt: incompatible types for comparison" },
    { "{{len 1}}", "error calling len: len of type int" },
    { "{{range .Name}}{{end}}", "range can't iterate over web" },
    { "{{.Name 1}}", "Name has arguments but cannot be invoked as function" },
    { "{{eq 1}}", "wrong number of args for eq: want at least 2 got 1" },
    { "{{printf \"%999999999999d\" 1}}", "error calling printf: the format is too wide" },
    { "{{pad \"x\" -1 0}}", "negative Repeat count" },
};

static void what_is_wrong(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
        struct err err;
        _cleanup_free_ char *got = run(errors[i].text, false, &err);
        if (!err.class)
            fail_msg("%s gave %s", errors[i].text, got);
        if (err.class != ERR_INVALID_ARGUMENT || !str_starts(err.message, "template: ") || !strstr(err.message, errors[i].words))
            fail_msg("%s: %s", errors[i].text, err.message);
    }
}

static void rows_have_labels_and_a_type(void **state)
{
    struct err err;
    _cleanup_free_ char *label = run("{{.Label \"z\"}}|{{.Label \"no\"}}", true, &err);
    assert_string_equal(label, "1|");
    _cleanup_free_ char *field = run("{{.Foo}}", true, &err);
    assert_string_equal(err.message, "template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type *row");
}

static void depth_is_bounded(void **state)
{
    struct err err;
    char deep[4096] = "{{";
    memset(deep + 2, '(', 2000);
    _cleanup_free_ char *got = run(deep, false, &err);
    assert_non_null(strstr(err.message, "max expression depth exceeded"));
    char *at = deep;
    for (int i = 0; i < 200; i++)
        at += snprintf(at, 16, "{{if 1}}");
    _cleanup_free_ char *blocks = run(deep, false, &err);
    assert_non_null(strstr(err.message, "max expression depth exceeded"));
}

static void what_it_uses(void **state)
{
    struct template *template = NULL;
    assert_int_equal(template_parse("", "{{if eq 1 2}}{{upper .Size}}{{end}}", &template, NULL), 0);
    assert_true(template_uses(template, "Size"));
    assert_false(template_uses(template, "Name"));
    assert_false(template_uses(template, "."));
    template_free(template);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_printed),
        cmocka_unit_test(what_is_wrong),
        cmocka_unit_test(rows_have_labels_and_a_type),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(what_it_uses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
