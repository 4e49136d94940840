// The walk over a template's tree. A value is JSON and what the field's name says of its type; `dot` travels as an argument.
#include "client/template_private.h"

struct value run_keep(struct run *run, json_t *value)
{
    json_array_append_new(run->made, value);
    return (struct value){ .json = value };
}

static int fail(const struct run *run, const struct node *node, struct err *err, const char *fmt, ...) _printf_(4, 5);
static int fail(const struct run *run, const struct node *node, struct err *err, const char *fmt, ...)
{
    char what[600];
    const char *text = run->template->text, *start = text + node->at, *shown = text + node->shown;
    int line = 1, column = 0;
    for (const char *at = text; at < shown; at++) {
        column = *at == '\n' ? 0 : column + 1;
        line += *at == '\n';
    }
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    size_t size = node->end > node->at ? node->end - node->at : 0;
    return err_set(err, ERR_INVALID_ARGUMENT, "template: %s:%d:%d: executing \"%s\" at <%.*s%s>: %s", run->template->name, line, column,
                   run->template->name, (int)MIN_OF(size, (size_t)20), start, size > 20 ? "..." : "", what);
}

// ---- fields ---------------------------------------------------------------------------------------------------------

// Members match exactly, then without regard to case: `.ID` finds "Id", as Go's struct fields are named.
static json_t *member(json_t *object, const char *name)
{
    const char *key;
    json_t *value = json_object_get(object, name);
    if (value)
        return value;
    json_object_foreach(object, key, value)
        if (strcasecmp(key, name) == 0)
            return value;
    return NULL;
}

static int no_field(const struct run *run, const struct node *node, const char *name, bool at_root, struct err *err)
{
    if (at_root && run->data->type)
        return fail(run, node, err, "can't evaluate field %s in type %s", name, run->data->type);
    return fail(run, node, err, "map has no entry for key \"%s\"", name);
}

static int field(const struct run *run, const struct node *node, struct value of, const char *name, struct value *out, struct err *err)
{
    if (!json_is_object(of.json)) {
        if (!of.json || json_is_null(of.json)) {
            if (nature_is_map(of.nature) || run->data->loose)
                return (*out = (struct value){ 0 }), 0;
            return fail(run, node, err, "nil data; no entry for key \"%s\"", name);
        }
        return fail(run, node, err, "can't evaluate field %s in type interface {}", name);
    }
    if (nature_is_map(of.nature)) {
        json_t *value = json_object_get(of.json, name);
        *out = value ? value_item(of, name) : (struct value){ 0 };
        return 0;
    }
    json_t *value = member(of.json, name);
    enum nature nature = nature_of(name);
    if (!value && nature == NATURE_UNKNOWN && !run->data->loose)
        return no_field(run, node, name, of.json == run->data->root, err);
    if (!value && run->data->type && of.json == run->data->root)
        return no_field(run, node, name, true, err);
    if (json_is_null(value) && nature == NATURE_UNKNOWN)
        nature = NATURE_LIST;
    *out = (struct value){ value, value && !json_is_null(value) && !nature_is_map(nature) ? NATURE_UNKNOWN : nature };
    return 0;
}

static int fields(const struct run *run, const struct node *node, struct value of, struct value *out, struct err *err)
{
    for (size_t i = 0; i < node->names.len; i++)
        if (field(run, node, of, node->names.items[i], &of, err) < 0)
            return -1;
    *out = of;
    return 0;
}

static struct value *variable(struct run *run, const char *name)
{
    for (size_t i = run->variables_len; i-- > 0;)
        if (str_eq(run->variables[i].name, name))
            return &run->variables[i].value;
    return &run->variables[0].value;
}

static void declare(struct run *run, const char *name, struct value value)
{
    if (run->variables_len < ARRAY_LEN(run->variables))
        run->variables[run->variables_len++] = (struct variable){ name, value };
}

// ---- pipelines ------------------------------------------------------------------------------------------------------

#define ARGS_MAX 32

static int pipeline(struct run *run, const struct node *pipe, struct value dot, struct value *out, struct err *err);

static int operand(struct run *run, const struct node *node, struct value dot, struct value *out, struct err *err)
{
    struct value inner;
    switch (node->kind) {
    case NODE_DOT:
        *out = dot;
        return 0;
    case NODE_FIELD:
        return fields(run, node, dot, out, err);
    case NODE_VARIABLE:
        return fields(run, node, *variable(run, node->text), out, err);
    case NODE_CHAIN:
        return pipeline(run, node->first, dot, &inner, err) < 0 ? -1 : fields(run, node, inner, out, err);
    case NODE_LITERAL:
        *out = (struct value){ .json = node->literal };
        return 0;
    case NODE_FUNCTION:
        return function_call(run, node->text, NULL, 0, out, err) < 0 ? fail(run, node, err, "%s", err->message) : 0;
    default:
        *out = (struct value){ .nature = NATURE_POINTER };
        return 0;
    }
}

// {{.Label "name"}} of a row.
static int method(struct run *run, const struct node *node, const struct value *args, size_t len, struct value *out, struct err *err)
{
    bool at_root = node->kind == NODE_FIELD && node->names.len == 1 && run->data->type;
    if (!at_root || !str_eq(node->names.items[0], "Label"))
        return fail(run, node, err, "%s has arguments but cannot be invoked as function",
                    node->names.len ? node->names.items[node->names.len - 1] : "value");
    if (len != 1 || !json_is_string(args[0].json))
        return fail(run, node, err, "wrong number of args for Label: want 1 got %zu", len);
    *out = run->data->header ? args[0] : (struct value){ json_object_get(run->data->labels, json_string_value(args[0].json)), NATURE_TEXT };
    return 0;
}

// `and` and `or` look at no more arguments than they need.
static int lazy(struct run *run, const struct node *node, struct value dot, const struct value *piped, struct value *out, struct err *err)
{
    bool until = str_eq(node->text, "or");
    if (!node->next && !piped)
        return fail(run, node, err, "wrong number of args for %s: want at least 1 got 0", node->text);
    for (const struct node *arg = node->next; arg; arg = arg->next) {
        if (operand(run, arg, dot, out, err) < 0)
            return -1;
        if (value_true(*out) == until)
            return 0;
    }
    if (piped)
        *out = *piped;
    return 0;
}

static int command(struct run *run, const struct node *node, struct value dot, const struct value *piped, struct value *out, struct err *err)
{
    const struct node *first = node->first;
    struct value args[ARGS_MAX];
    size_t len = 0;
    bool callable = first->kind == NODE_FUNCTION;
    if (callable && (str_eq(first->text, "and") || str_eq(first->text, "or")))
        return lazy(run, first, dot, piped, out, err);
    for (const struct node *arg = first->next; arg; arg = arg->next)
        if (len == ARGS_MAX - 1)
            return fail(run, first, err, "too many arguments");
        else if (operand(run, arg, dot, &args[len++], err) < 0)
            return -1;
    if (piped)
        args[len++] = *piped;
    if (callable)
        return function_call(run, first->text, args, len, out, err) < 0 ? fail(run, node, err, "%s", err->message) : 0;
    if (!len)
        return operand(run, first, dot, out, err);
    if (first->kind == NODE_FIELD || first->kind == NODE_VARIABLE || first->kind == NODE_CHAIN)
        return method(run, first, args, len, out, err);
    return fail(run, first, err, "can't give argument to non-function %.*s", (int)(first->end - first->at), run->template->text + first->at);
}

static int pipeline(struct run *run, const struct node *pipe, struct value dot, struct value *out, struct err *err)
{
    struct value value = { 0 };
    for (const struct node *at = pipe->first; at; at = at->next) {
        struct value piped = value;
        if (command(run, at, dot, at == pipe->first ? NULL : &piped, &value, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < pipe->names.len; i++)
        if (pipe->assigns)
            *variable(run, pipe->names.items[i]) = value;
        else
            declare(run, pipe->names.items[i], value);
    *out = value;
    return 0;
}

// ---- blocks ---------------------------------------------------------------------------------------------------------

enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE };
static int walk(struct run *run, const struct node *node, struct value dot, enum flow *flow, struct err *err);

struct loop_state {
    size_t variables; // in front of the loop's own
    bool any, over;
};

static int turn(struct run *run, const struct node *node, struct value key, struct value item, struct loop_state *state, struct err *err)
{
    const struct strv *names = &node->pipe->names;
    enum flow flow = FLOW_ON;
    state->any = true;
    run->variables_len = state->variables;
    if (names->len == 2)
        declare(run, names->items[0], key);
    if (names->len)
        declare(run, names->items[names->len - 1], item);
    if (walk(run, node->first, item, &flow, err) < 0)
        return -1;
    state->over = flow == FLOW_BREAK;
    if (run->out->overflow)
        return fail(run, node->pipe, err, "the output is too long");
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int range_object(struct run *run, const struct node *node, struct value over, struct loop_state *state, struct err *err)
{
    size_t len = json_object_size(over.json), i = 0;
    const char **keys = mem_alloc((len + 1) * sizeof(*keys)), *key;
    json_t *item;
    json_object_foreach(over.json, key, item)
        keys[i++] = key;
    qsort(keys, len, sizeof(*keys), by_name);
    int result = 0;
    for (i = 0; i < len && result == 0 && !state->over; i++)
        result = turn(run, node, run_keep(run, json_string(keys[i])), value_item(over, keys[i]), state, err);
    free(keys);
    return result;
}

static int range_over(struct run *run, const struct node *node, struct value over, struct loop_state *state, struct err *err)
{
    if (json_is_object(over.json))
        return range_object(run, node, over, state, err);
    if (json_is_array(over.json)) {
        for (size_t i = 0; i < json_array_size(over.json) && !state->over; i++)
            if (turn(run, node, run_keep(run, json_integer((json_int_t)i)), (struct value){ .json = json_array_get(over.json, i) }, state, err) < 0)
                return -1;
        return 0;
    }
    if (json_is_integer(over.json)) {
        for (json_int_t i = 0; i < json_integer_value(over.json) && !state->over; i++)
            if (turn(run, node, run_keep(run, json_integer(i)), run_keep(run, json_integer(i)), state, err) < 0)
                return -1;
        return 0;
    }
    if (!over.json || json_is_null(over.json))
        return 0;
    _cleanup_buf_ struct buf text = BUF_INIT(256);
    value_print(over, &text);
    return fail(run, node->pipe, err, "range can't iterate over %s", buf_text(&text));
}

static int block(struct run *run, const struct node *node, struct value dot, enum flow *flow, struct err *err)
{
    size_t variables = run->variables_len;
    struct value value;
    struct loop_state state = { .variables = variables };
    int result;
    if (pipeline(run, node->pipe, dot, &value, err) < 0)
        return -1;
    if (node->kind == NODE_RANGE) {
        result = range_over(run, node, value, &state, err);
        if (result == 0 && !state.any)
            result = walk(run, node->otherwise, dot, flow, err);
    } else if (value_true(value)) {
        result = walk(run, node->first, node->kind == NODE_WITH ? value : dot, flow, err);
    } else {
        result = walk(run, node->otherwise, dot, flow, err);
    }
    run->variables_len = variables;
    return result;
}

static int action(struct run *run, const struct node *node, struct value dot, struct err *err)
{
    struct value value;
    if (pipeline(run, node->pipe, dot, &value, err) < 0)
        return -1;
    if (node->pipe->names.len)
        return 0;
    if (!value.json && value.nature == NATURE_UNKNOWN)
        buf_adds(run->out, "<no value>");
    else
        value_print(value, run->out);
    return 0;
}

static int walk(struct run *run, const struct node *node, struct value dot, enum flow *flow, struct err *err)
{
    for (; node && *flow == FLOW_ON; node = node->next) {
        if (node->kind == NODE_TEXT)
            buf_add(run->out, node->text, node->size);
        else if (node->kind == NODE_BREAK || node->kind == NODE_CONTINUE)
            *flow = node->kind == NODE_BREAK ? FLOW_BREAK : FLOW_CONTINUE;
        else if ((node->kind == NODE_ACTION ? action(run, node, dot, err) : block(run, node, dot, flow, err)) < 0)
            return -1;
    }
    return 0;
}

int template_run(const struct template *template, const struct template_data *data, struct buf *out, struct err *err)
{
    struct run *run = mem_new(struct run);
    enum flow flow = FLOW_ON;
    struct err inner;
    err_clear(&inner);
    *run = (struct run){ .template = template, .data = data, .out = out, .made = json_array() };
    struct value root = { .json = data->root };
    declare(run, "$", root);
    int result = walk(run, template->first, root, &flow, err ? err : &inner);
    json_decref(run->made);
    free(run);
    return result < 0 ? -1 : buf_check(out, "the output", err);
}
