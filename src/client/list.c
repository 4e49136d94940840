// Rows through a template: a table with a head, lines, or JSON.
#include "client/rows.h"
#include "client/text.h"

const char *item_text(const json_t *list, size_t i)
{
    const char *text = json_string_value(json_array_get(list, i));
    return text ? text : "";
}

void row_put(json_t *row, const char *key, const char *value)
{
    json_object_set_new(row, key, json_new_text(value));
}

void row_putf(json_t *row, const char *key, const char *fmt, ...)
{
    _cleanup_buf_ struct buf text = BUF_INIT(1u << 20);
    va_list args;
    va_start(args, fmt);
    buf_vaddf(&text, fmt, args);
    va_end(args);
    row_put(row, key, buf_text(&text));
}

static bool is_table(const char *format)
{
    return str_starts(format, "table");
}

// What -q and --format come to.
static const char *chosen(const struct list *list)
{
    const char *format = str_empty(list->format) || str_eq(list->format, "table") ? list->table : list->format;
    if (str_eq(format, "raw") && list->raw)
        return list->raw;
    return list->quiet ? "{{.ID}}" : str_eq(format, "json") ? "{{json .}}" : format;
}

// Without "table", blanks around, and with \t and \n as they are meant.
static char *template_text(const char *format)
{
    struct slice text = slice_of(is_table(format) ? format + 5 : format);
    struct buf out = BUF_INIT(1u << 20);
    while (text.size && *text.data == ' ')
        text = (struct slice){ text.data + 1, text.size - 1 };
    while (text.size && text.data[text.size - 1] == ' ')
        text.size--;
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] == '\\' && i + 1 < text.size && (text.data[i + 1] == 't' || text.data[i + 1] == 'n'))
            buf_addc(&out, text.data[++i] == 't' ? '\t' : '\n');
        else
            buf_addc(&out, text.data[i]);
    return buf_take(&out);
}

int list_template(const struct list *list, struct template **out, struct err *err)
{
    _cleanup_free_ char *text = template_text(chosen(list));
    bool ps = list->columns == container_columns; // docker's words differ
    return template_parse("", text, out, err) < 0 ? err_wrap(err, ps ? "failed to parse template" : "template parsing error") : 0;
}

static int print_head(const struct list *list, const struct template *template, struct buf *out)
{
    _cleanup_json_ json_t *heads = json_object(), *labels = json_object();
    struct err ignored;
    for (size_t i = 0; i < list->columns_len; i++)
        row_put(heads, list->columns[i].name, list->columns[i].head);
    struct template_data data = { .root = heads, .labels = labels, .type = list->type, .header = true };
    template_run(template, &data, out, &ignored); // as docker's: what can't be a head ends it
    buf_addc(out, '\n');
    return 0;
}

int list_print(const struct list *list, const struct row *rows, size_t len, struct err *err)
{
    _cleanup_template_ struct template *template = NULL;
    _cleanup_buf_ struct buf text = BUF_INIT(TEMPLATE_OUTPUT_MAX), table = BUF_INIT(2 * TEMPLATE_OUTPUT_MAX);
    bool as_table = !list->quiet && is_table(chosen(list));
    if (list_template(list, &template, err) < 0)
        return -1;
    if (as_table)
        print_head(list, template, &text);
    for (size_t i = 0; i < len; i++) {
        struct template_data data = { .root = rows[i].fields, .labels = rows[i].labels, .type = list->type };
        if (template_run(template, &data, &text, err) < 0)
            return err_wrap(err, "template parsing error");
        buf_addc(&text, '\n');
    }
    if (as_table)
        text_table((struct slice){ buf_text(&text), text.size }, 10, 3, &table);
    if (buf_check(&text, "the output", err) < 0 || buf_check(&table, "the output", err) < 0)
        return -1;
    fputs(buf_text(as_table ? &table : &text), stdout);
    return 0;
}

int format_object(const char *name, const char *format, json_t *object, const char *type, struct err *err)
{
    _cleanup_template_ struct template *template = NULL;
    _cleanup_buf_ struct buf out = BUF_INIT(TEMPLATE_OUTPUT_MAX);
    _cleanup_free_ char *text = template_text(str_eq(format, "json") ? "{{json .}}" : format);
    if (template_parse(name, text, &template, err) < 0) {
        err_wrap(err, "template parsing error");
        return -EXIT_TEMPLATE;
    }
    struct template_data data = { .root = object, .type = type };
    int result = template_run(template, &data, &out, err);
    printf("%s\n", buf_text(&out));
    return result;
}

int check_list(const json_t *answer, struct err *err)
{
    bool list = !answer || json_is_null(answer) || json_is_array(answer);
    return list ? 0 : err_set(err, ERR_INTERNAL, "the daemon's answer is no list");
}

int print_rows(const struct list *list, const json_t *objects, row_fn *row, bool no_trunc, struct err *err)
{
    if (check_list(objects, err) < 0)
        return -1;
    size_t len = json_array_size(objects);
    struct row *rows = mem_alloc((len + 1) * sizeof(*rows));
    for (size_t i = 0; i < len; i++) {
        const json_t *object = json_array_get(objects, i);
        rows[i] = (struct row){ row(object, no_trunc), json_object_get(object, "Labels") };
        if (!json_is_object(rows[i].labels))
            rows[i].labels = NULL;
    }
    int result = list_print(list, rows, len, err);
    for (size_t i = 0; i < len; i++)
        json_decref(rows[i].fields);
    free(rows);
    return result;
}

void put_filters(const struct call *call, struct buf *path)
{
    _cleanup_json_ json_t *filters = flags_filters(&call->flags, "filter");
    _cleanup_buf_ struct buf text = BUF_INIT(1u << 20);
    if (!json_object_size(filters))
        return;
    json_write(filters, &text);
    query_add(path, "filters", buf_text(&text));
}
