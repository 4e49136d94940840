// The functions of templates: one table. Each takes its values by position and leaves its result in *out; errors are Go's words behind
// "error calling NAME:".
#include <ctype.h>

#include "client/flags.h"
#include "client/template_private.h"
#include "client/text.h"

struct call {
    struct run *run;
    const char *name;
    const struct value *args;
    size_t len;
    struct err *err;
};

static int fail(struct call *call, const char *fmt, ...) _printf_(2, 3);
static int fail(struct call *call, const char *fmt, ...)
{
    char what[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    return err_set(call->err, ERR_INVALID_ARGUMENT, "error calling %s: %s", call->name, what);
}

static struct value from_text(struct call *call, const char *text)
{
    return run_keep(call->run, json_new_text(text));
}

// The bytes of an argument that has to be text; "" for what has no value.
static int text_of(struct call *call, size_t i, const char **out)
{
    json_t *value = call->args[i].json;
    if (value && !json_is_string(value) && !json_is_null(value))
        return err_set(call->err, ERR_INVALID_ARGUMENT, "wrong type for value; expected string");
    *out = json_is_string(value) ? json_string_value(value) : "";
    return 0;
}

static int int_of(struct call *call, size_t i, int64_t *out)
{
    if (!json_is_integer(call->args[i].json))
        return err_set(call->err, ERR_INVALID_ARGUMENT, "wrong type for value; expected int");
    *out = json_integer_value(call->args[i].json);
    return 0;
}

// ---- docker's -------------------------------------------------------------------------------------------------------

static int fn_json(struct call *call, struct value *out)
{
    if (call->run->data->header && json_is_string(call->args[0].json))
        return (*out = call->args[0]), 0;
    _cleanup_buf_ struct buf text = BUF_INIT(TEMPLATE_OUTPUT_MAX);
    if (!call->args[0].json)
        buf_adds(&text, call->args[0].nature == NATURE_TEXT ? "\"\"" : call->args[0].nature == NATURE_NUMBER ? "0" : "null");
    else if (call->args[0].json == call->run->data->root && call->run->data->type)
        text_put_row(call->args[0].json, &text);
    else
        json_write(call->args[0].json, &text);
    *out = from_text(call, buf_text(&text));
    return 0;
}

static int fn_split(struct call *call, struct value *out)
{
    const char *text, *by;
    if (text_of(call, 0, &text) < 0 || text_of(call, 1, &by) < 0)
        return -1;
    if (call->run->data->header)
        return (*out = call->args[0]), 0;
    json_t *list = json_array();
    size_t size = strlen(by);
    while (size || *text) {
        const char *end = size ? strstr(text, by) : text + MAX_OF(slice_utf8_len(slice_of(text)), (size_t)1);
        char *part = mem_strndup(text, end ? (size_t)(end - text) : strlen(text));
        json_array_append_new(list, json_new_text(part));
        free(part);
        if (!end)
            break;
        text = end + size;
    }
    *out = run_keep(call->run, list);
    return 0;
}

static int fn_join(struct call *call, struct value *out)
{
    const char *by;
    json_t *list = call->args[0].json, *item;
    const char *key;
    _cleanup_buf_ struct buf text = BUF_INIT(TEMPLATE_OUTPUT_MAX);
    if (text_of(call, 1, &by) < 0)
        return -1;
    if (call->run->data->header)
        return (*out = call->args[0]), 0;
    if (list && !json_is_null(list) && !json_is_array(list) && !json_is_object(list))
        return fail(call, "expected slice, got string");
    for (size_t i = 0; json_is_array(list) && i < json_array_size(list); i++) {
        buf_adds(&text, i ? by : "");
        value_print((struct value){ .json = json_array_get(list, i) }, &text);
    }
    if (json_is_object(list))
        json_object_foreach(list, key, item) {
            buf_adds(&text, text.size ? by : "");
            value_print((struct value){ .json = item }, &text);
        }
    *out = from_text(call, buf_text(&text));
    return 0;
}

static int change_case(struct call *call, struct value *out)
{
    const char *text;
    if (text_of(call, 0, &text) < 0)
        return -1;
    if (call->run->data->header)
        return (*out = call->args[0]), 0;
    _cleanup_free_ char *copy = mem_strdup(text);
    bool title = str_eq(call->name, "title"), upper = str_eq(call->name, "upper"), start = true;
    for (char *c = copy; *c; c++) {
        bool up = title ? start : upper;
        start = !isalnum((unsigned char)*c) && *c != '_' && *c != '\'' && (unsigned char)*c < 0x80;
        if ((unsigned char)*c < 0x80 && (up || !title))
            *c = (char)(up ? toupper((unsigned char)*c) : tolower((unsigned char)*c));
    }
    *out = from_text(call, copy);
    return 0;
}

static int fn_pad(struct call *call, struct value *out)
{
    const char *text;
    int64_t before = 0, after = 0;
    if (text_of(call, 0, &text) < 0 || int_of(call, 1, &before) < 0 || int_of(call, 2, &after) < 0)
        return -1;
    if (before < 0 || after < 0 || before > 4096 || after > 4096)
        return fail(call, "strings: negative Repeat count");
    _cleanup_free_ char *padded = *text ? mem_printf("%*s%s%*s", (int)before, "", text, (int)after, "") : mem_strdup("");
    *out = from_text(call, padded);
    return 0;
}

static int fn_truncate(struct call *call, struct value *out)
{
    const char *text;
    int64_t size = 0;
    if (text_of(call, 0, &text) < 0 || int_of(call, 1, &size) < 0)
        return -1;
    if (call->run->data->header || (int64_t)strlen(text) < size)
        return (*out = call->args[0]), 0;
    if (size < 0)
        return fail(call, "slice bounds out of range");
    _cleanup_free_ char *head = mem_strndup(text, (size_t)size);
    *out = from_text(call, head);
    return 0;
}

// ---- Go's -----------------------------------------------------------------------------------------------------------

static struct value flag_value(struct call *call, bool on)
{
    return run_keep(call->run, json_boolean(on));
}

static int fn_not(struct call *call, struct value *out)
{
    *out = flag_value(call, !value_true(call->args[0]));
    return 0;
}

static int fn_len(struct call *call, struct value *out)
{
    json_t *value = call->args[0].json;
    size_t len = json_is_string(value) ? json_string_length(value) : json_is_array(value) ? json_array_size(value) : json_object_size(value);
    if (json_is_number(value) || json_is_boolean(value))
        return fail(call, "len of type %s", json_is_integer(value) ? "int" : json_is_real(value) ? "float64" : "bool");
    if (!value && call->args[0].nature == NATURE_UNKNOWN)
        return fail(call, "len of nil pointer");
    *out = run_keep(call->run, json_integer((json_int_t)len));
    return 0;
}

static int index_once(struct call *call, struct value in, struct value by, struct value *out)
{
    if (json_is_object(in.json) || (nature_is_map(in.nature) && !in.json)) {
        if (!json_is_string(by.json))
            return fail(call, "value has type int; should be string");
        *out = value_item(in, json_string_value(by.json));
        return 0;
    }
    bool text = json_is_string(in.json);
    if (!text && !json_is_array(in.json) && in.nature != NATURE_LIST)
        return fail(call, in.json && !json_is_null(in.json) ? "can't index item of this type" : "index of untyped nil");
    if (!json_is_integer(by.json))
        return fail(call, "cannot index slice/array with type %s", json_is_string(by.json) ? "string" : "nil");
    json_int_t at = json_integer_value(by.json);
    size_t len = text ? json_string_length(in.json) : json_array_size(in.json);
    if (at < 0 || (size_t)at >= len)
        return fail(call, "index out of range: %" JSON_INTEGER_FORMAT, at);
    if (text)
        *out = run_keep(call->run, json_integer((unsigned char)json_string_value(in.json)[at]));
    else
        *out = (struct value){ .json = json_array_get(in.json, (size_t)at) };
    return 0;
}

static int fn_index(struct call *call, struct value *out)
{
    struct value at = call->args[0];
    for (size_t i = 1; i < call->len; i++)
        if (index_once(call, at, call->args[i], &at) < 0)
            return -1;
    *out = at;
    return 0;
}

static int fn_slice(struct call *call, struct value *out)
{
    json_t *in = call->args[0].json;
    bool text = json_is_string(in);
    if (!text && !json_is_array(in))
        return fail(call, "can't slice item of this type");
    int64_t from = 0, to = (int64_t)(text ? json_string_length(in) : json_array_size(in)), end = to;
    if ((call->len > 1 && int_of(call, 1, &from) < 0) || (call->len > 2 && int_of(call, 2, &to) < 0))
        return -1;
    if (from < 0 || to > end || from > to)
        return fail(call, "index out of range: %lld", (long long)(from < 0 || from > to ? from : to));
    if (text) {
        _cleanup_free_ char *part = mem_strndup(json_string_value(in) + from, (size_t)(to - from));
        *out = from_text(call, part);
        return 0;
    }
    json_t *list = json_array();
    for (int64_t i = from; i < to; i++)
        json_array_append(list, json_array_get(in, (size_t)i));
    *out = run_keep(call->run, list);
    return 0;
}

enum order { ORDER_NONE, ORDER_TEXT, ORDER_NUMBER, ORDER_FLAG };
static enum order order_of(struct value value)
{
    if (json_is_string(value.json) || (!value.json && value.nature == NATURE_TEXT))
        return ORDER_TEXT;
    if (json_is_number(value.json) || (!value.json && value.nature == NATURE_NUMBER))
        return ORDER_NUMBER;
    return json_is_boolean(value.json) || (!value.json && value.nature == NATURE_FLAG) ? ORDER_FLAG : ORDER_NONE;
}

// <0, 0, >0 in *out.
static int compare(struct call *call, struct value a, struct value b, int *out)
{
    enum order order = order_of(a);
    if (order == ORDER_NONE && order_of(b) == ORDER_NONE && !json_is_array(a.json) && !json_is_object(a.json)) {
        *out = a.json && b.json ? !json_equal(a.json, b.json) : a.json != b.json && value_true(a) != value_true(b);
        return 0;
    }
    if (order != order_of(b) || order == ORDER_NONE)
        return fail(call, order == ORDER_NONE ? "non-comparable type" : "incompatible types for comparison");
    if (order == ORDER_TEXT) {
        const char *x = json_string_value(a.json), *y = json_string_value(b.json);
        *out = strcmp(x ? x : "", y ? y : "");
    } else if (order == ORDER_NUMBER) {
        double x = json_number_value(a.json), y = json_number_value(b.json);
        *out = (x > y) - (x < y);
    } else {
        *out = json_is_true(a.json) - json_is_true(b.json);
    }
    return 0;
}

static int fn_eq(struct call *call, struct value *out)
{
    int order = 1;
    for (size_t i = 1; i < call->len && order; i++)
        if (compare(call, call->args[0], call->args[i], &order) < 0)
            return -1;
    *out = flag_value(call, order == 0);
    return 0;
}

static int fn_compare(struct call *call, struct value *out)
{
    int order = 0;
    if (compare(call, call->args[0], call->args[1], &order) < 0)
        return -1;
    const char *name = call->name;
    bool less = name[0] == 'l', equal = name[1] == 'e';
    *out = flag_value(call, str_eq(name, "ne") ? order != 0 : (less ? order < 0 : order > 0) || (equal && order == 0));
    return 0;
}

static int fn_print(struct call *call, struct value *out)
{
    _cleanup_buf_ struct buf text = BUF_INIT(TEMPLATE_OUTPUT_MAX);
    bool line = str_eq(call->name, "println");
    for (size_t i = 0; i < call->len; i++) {
        bool both = i && !json_is_string(call->args[i].json) && !json_is_string(call->args[i - 1].json);
        buf_adds(&text, i && (line || both) ? " " : "");
        value_print(call->args[i], &text);
    }
    buf_adds(&text, line ? "\n" : "");
    *out = from_text(call, buf_text(&text));
    return 0;
}

// What C's printf has not: a character by its number, binary numbers, the bytes of a text in hexadecimal. False for anything else.
static bool print_digits(char verb, const char *spec, const json_t *value, struct buf *out)
{
    int64_t number = json_integer_value(value);
    const char *text = json_string_value(value);
    if (text && (verb == 'x' || verb == 'X')) {
        for (size_t i = 0; i < json_string_length(value); i++)
            buf_addf(out, verb == 'x' ? "%02x" : "%02X", (unsigned char)text[i]);
        return true;
    }
    if (!json_is_integer(value) || (verb != 'b' && verb != 'c'))
        return false;
    if (verb == 'c') {
        text_put_char(number < 0 || number > 0x10ffff ? 0xfffd : (uint32_t)number, out);
        return true;
    }
    uint64_t left = number < 0 ? -(uint64_t)number : (uint64_t)number;
    char digits[66];
    size_t at = sizeof(digits) - 1, width = *spec == '0' ? MIN_OF(strtoul(spec, NULL, 10), 64ul) : 1;
    digits[at] = 0;
    do
        digits[--at] = (char)('0' + (left & 1));
    while ((left >>= 1));
    while (sizeof(digits) - 1 - at + (number < 0) < width)
        digits[--at] = '0';
    buf_addf(out, "%s%s", number < 0 ? "-" : "", digits + at);
    return true;
}

// One verb: its flags, width and precision as C's printf has them.
static void print_verb(struct call *call, const char *spec, char verb, const struct value *arg, struct buf *out)
{
    char format[48];
    _cleanup_buf_ struct buf plain = BUF_INIT(1u << 20);
    bool integer = json_is_integer(arg->json), number = json_is_number(arg->json);
    if ((verb == 'c' || verb == 'b' || verb == 'x' || verb == 'X') && print_digits(verb, spec, arg->json, &plain)) {
        snprintf(format, sizeof(format), "%%%ss", *spec == '0' ? "" : spec);
        buf_addf(out, format, buf_text(&plain));
        return;
    }
    if (strchr("xXod", verb) && integer) {
        snprintf(format, sizeof(format), "%%%sll%c", spec, verb);
        buf_addf(out, format, (long long)json_integer_value(arg->json));
        return;
    }
    if (strchr("feEgG", verb) && number) {
        snprintf(format, sizeof(format), "%%%s%c", spec, verb);
        buf_addf(out, format, json_number_value(arg->json));
        return;
    }
    if (verb == 'q' && json_is_string(arg->json))
        buf_add_quoted(&plain, json_string_value(arg->json));
    else if (strchr("svt", verb))
        value_print(*arg, &plain);
    else
        value_print((struct value){ .json = arg->json }, &plain);
    if (strchr("bcdxXofeEgGt", verb) && !(verb == 't' && json_is_boolean(arg->json))) {
        buf_addf(out, "%%!%c(%s=%s)", verb, json_is_string(arg->json) ? "string" : "value", buf_text(&plain));
        return;
    }
    snprintf(format, sizeof(format), "%%%ss", spec);
    buf_addf(out, format, buf_text(&plain));
}

#pragma GCC diagnostic push
static int fn_printf(struct call *call, struct value *out)
{
    const char *at;
    size_t used = 1;
    _cleanup_buf_ struct buf text = BUF_INIT(TEMPLATE_OUTPUT_MAX);
    if (text_of(call, 0, &at) < 0)
        return -1;
    while (*at) {
        if (*at != '%') {
            buf_addc(&text, *at++);
            continue;
        }
        char spec[12];
        size_t size = strspn(++at, "-+ 0123456789.");
        if (size >= sizeof(spec) - 2 || strspn(at, "-+ 0") + 4 < strcspn(at, ".svdqtxXofeEgGcb"))
            return fail(call, "the format is too wide");
        snprintf(spec, sizeof(spec), "%.*s", (int)size, at);
        at += size;
        if (*at == '%' || !*at)
            buf_adds(&text, *at ? "%" : "%!(NOVERB)");
        else if (!strchr("svdqtxXofeEgGcb", *at))
            buf_addf(&text, "%%!%c", *at);
        else if (used >= call->len)
            buf_addf(&text, "%%!%c(MISSING)", *at);
        else
            print_verb(call, spec, *at, &call->args[used++], &text);
        at += *at != 0;
    }
    *out = from_text(call, buf_text(&text));
    return 0;
}
#pragma GCC diagnostic pop

static int fn_escape(struct call *call, struct value *out)
{
    _cleanup_buf_ struct buf plain = BUF_INIT(TEMPLATE_OUTPUT_MAX), text = BUF_INIT(TEMPLATE_OUTPUT_MAX);
    for (size_t i = 0; i < call->len; i++)
        value_print(call->args[i], &plain);
    if (str_eq(call->name, "urlquery"))
        for (const char *c = buf_text(&plain); *c; c++) {
            char one[2] = { *c, 0 };
            if (*c == ' ')
                buf_addc(&text, '+');
            else
                query_escape(&text, one);
        }
    else
        for (const char *c = buf_text(&plain); *c; c++)
            buf_addf(&text, *c == '<' ? "&lt;" : *c == '>' ? "&gt;" : *c == '&' ? "&amp;" : *c == '"' ? "&#34;" : *c == '\'' ? "&#39;" : "%c", *c);
    *out = from_text(call, buf_text(&text));
    return 0;
}

static int fn_lazy(struct call *call, struct value *out) // without arguments it can't come here
{
    *out = call->args[0];
    return 0;
}

static const struct {
    const char *name;
    size_t min, max;
    int (*run)(struct call *call, struct value *out);
} functions[] = {
    { "and", 1, 32, fn_lazy },      { "or", 1, 32, fn_lazy },       { "not", 1, 1, fn_not },        { "eq", 2, 32, fn_eq },
    { "ne", 2, 2, fn_compare },     { "lt", 2, 2, fn_compare },     { "le", 2, 2, fn_compare },     { "gt", 2, 2, fn_compare },
    { "ge", 2, 2, fn_compare },     { "index", 1, 32, fn_index },   { "slice", 1, 3, fn_slice },    { "len", 1, 1, fn_len },
    { "print", 0, 32, fn_print },   { "println", 0, 32, fn_print }, { "printf", 1, 32, fn_printf }, { "html", 1, 32, fn_escape },
    { "urlquery", 1, 32, fn_escape }, { "json", 1, 1, fn_json },    { "split", 2, 2, fn_split },    { "join", 2, 2, fn_join },
    { "title", 1, 1, change_case }, { "lower", 1, 1, change_case }, { "upper", 1, 1, change_case }, { "pad", 3, 3, fn_pad },
    { "truncate", 2, 2, fn_truncate },
};

static size_t find(const char *name, size_t size)
{
    size_t i = 0;
    while (i < ARRAY_LEN(functions) && (strlen(functions[i].name) != size || memcmp(functions[i].name, name, size) != 0))
        i++;
    return i;
}

bool function_known(const char *name, size_t size)
{
    return find(name, size) < ARRAY_LEN(functions);
}

int function_call(struct run *run, const char *name, const struct value *args, size_t len, struct value *out, struct err *err)
{
    size_t i = find(name, strlen(name));
    struct call call = { run, name, args, len, err };
    if (i == ARRAY_LEN(functions))
        return err_set(err, ERR_INVALID_ARGUMENT, "\"%s\" is not a defined function", name);
    bool many = functions[i].max == 32;
    if (len < functions[i].min || len > functions[i].max)
        return err_set(err, ERR_INVALID_ARGUMENT, "wrong number of args for %s: want %s%zu got %zu", name, many ? "at least " : "",
                       many ? functions[i].min : functions[i].max, len);
    return functions[i].run(&call, out);
}
