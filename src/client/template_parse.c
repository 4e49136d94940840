// A recursive descent over the text. Positions are byte offsets; errors name the line they are in, as Go's do.
#include <ctype.h>

#include "client/template_private.h"
#include "client/text.h"
#include "base/num.h"

struct parser {
    struct template *template;
    const char *text;
    size_t at, size;
    int depth; // of parentheses and blocks
    int loops;
    struct strv variables; // in scope
    struct err *err;
};

static int line_at(const char *text, size_t at)
{
    int line = 1;
    for (size_t i = 0; i < at; i++)
        line += text[i] == '\n';
    return line;
}

static int fail(struct parser *p, const char *fmt, ...) _printf_(2, 3);
static int fail(struct parser *p, const char *fmt, ...)
{
    char what[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    return err_set(p->err, ERR_INVALID_ARGUMENT, "template: %s:%d: %s", p->template->name, line_at(p->text, MIN_OF(p->at, p->size)), what);
}

static struct node *new_node(struct parser *p, enum node_kind kind, size_t at)
{
    struct node *node = arena_alloc(&p->template->arena, sizeof(*node));
    node->kind = kind;
    node->at = node->shown = at;
    return node;
}

static void append(struct node **first, struct node *node)
{
    while (*first)
        first = &(*first)->next;
    *first = node;
}

static bool looking_at(const struct parser *p, const char *word)
{
    size_t size = strlen(word);
    return p->size - p->at >= size && memcmp(p->text + p->at, word, size) == 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void skip_blanks(struct parser *p)
{
    while (p->at < p->size && is_blank(p->text[p->at]))
        p->at++;
}

static bool word_char(char c)
{
    return c == '_' || isalnum((unsigned char)c) || (unsigned char)c >= 0x80;
}

static size_t word_size(const struct parser *p)
{
    size_t size = 0;
    while (p->at + size < p->size && word_char(p->text[p->at + size]))
        size++;
    return size;
}

static bool at_end_of_action(const struct parser *p)
{
    return looking_at(p, "}}") || (p->at + 3 < p->size && is_blank(p->text[p->at]) && memcmp(p->text + p->at + 1, "-}}", 3) == 0);
}

// ---- operands -------------------------------------------------------------------------------------------------------

static bool escape_char(struct parser *p, struct buf *out)
{
    static const char from[] = "abfnrtv\\\"'", to[] = "\a\b\f\n\r\t\v\\\"'";
    char c = p->text[p->at++];
    const char *known = strchr(from, c);
    if (known && c) {
        buf_addc(out, to[known - from]);
        return true;
    }
    size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 0;
    uint64_t number;
    if (!digits || p->size - p->at < digits || !num_parse_hex((struct slice){ p->text + p->at, digits }, &number))
        return false;
    p->at += digits;
    text_put_char((uint32_t)number, out);
    return true;
}

static struct node *literal(struct parser *p, size_t at, json_t *value)
{
    struct node *node = new_node(p, NODE_LITERAL, at);
    node->literal = value;
    json_array_append_new(p->template->literals, value);
    node->end = p->at;
    return node;
}

static struct node *parse_quoted(struct parser *p)
{
    _cleanup_buf_ struct buf text = BUF_INIT(1u << 20);
    size_t at = p->at;
    char quote = p->text[p->at++];
    while (p->at < p->size && p->text[p->at] != quote) {
        char c = p->text[p->at++];
        if (quote != '`' && c == '\n')
            break;
        if (c == '\\' && quote != '`') {
            if (p->at >= p->size || !escape_char(p, &text)) {
                fail(p, "invalid syntax");
                return NULL;
            }
            continue;
        }
        buf_addc(&text, c);
    }
    if (p->at >= p->size || p->text[p->at] != quote) {
        fail(p, quote == '`' ? "unterminated raw quoted string" : quote == '"' ? "unterminated quoted string" : "unterminated character constant");
        return NULL;
    }
    p->at++;
    if (quote == '\'')
        return literal(p, at, json_integer(text.size ? (unsigned char)text.data[0] : 0));
    return literal(p, at, json_new_text(buf_text(&text)));
}

static struct node *parse_number(struct parser *p)
{
    size_t at = p->at;
    bool real = false;
    p->at += p->text[p->at] == '-' || p->text[p->at] == '+';
    size_t digits = p->at;
    while (p->at < p->size && (word_char(p->text[p->at]) || p->text[p->at] == '.'))
        real |= !isdigit((unsigned char)p->text[p->at++]);
    char *word = arena_strndup(&p->template->arena, p->text + at, p->at - at), *end = word;
    int64_t number;
    if (!real && p->at > digits && num_parse_i64(slice_of(word + (*word == '+')), &number))
        return literal(p, at, json_integer(number));
    double value = strtod(word, &end);
    if (*end || end == word || !(value - value == 0)) {
        fail(p, "bad number syntax: \"%s\"", word);
        return NULL;
    }
    return literal(p, at, json_real(value));
}

// ".A.B" behind something.
static void parse_names(struct parser *p, struct node *node)
{
    while (p->at + 1 < p->size && p->text[p->at] == '.' && word_char(p->text[p->at + 1]) && !isdigit((unsigned char)p->text[p->at + 1])) {
        if (node->names.len == (node->kind == NODE_FIELD))
            node->shown = p->at;
        p->at++;
        size_t size = word_size(p);
        strv_push_arena(&node->names, &p->template->arena, arena_strndup(&p->template->arena, p->text + p->at, size));
        p->at += size;
    }
    node->end = p->at;
}

static struct node *parse_pipe(struct parser *p, bool in_parentheses, const char *of);

static struct node *parse_parentheses(struct parser *p)
{
    size_t at = p->at++;
    if (++p->depth > TEMPLATE_DEPTH_MAX) {
        fail(p, "max expression depth exceeded");
        return NULL;
    }
    struct node *pipe = parse_pipe(p, true, "parenthesized pipeline");
    if (!pipe)
        return NULL;
    p->depth--;
    p->at++;
    struct node *node = new_node(p, NODE_CHAIN, at);
    node->first = pipe;
    parse_names(p, node);
    return node;
}

static struct node *parse_variable(struct parser *p)
{
    struct node *node = new_node(p, NODE_VARIABLE, p->at++);
    size_t size = word_size(p);
    node->text = arena_strndup(&p->template->arena, p->text + node->at, size + 1);
    p->at += size;
    if (!strv_has(&p->variables, node->text)) {
        fail(p, "undefined variable \"%s\"", node->text);
        return NULL;
    }
    parse_names(p, node);
    return node;
}

static struct node *parse_word(struct parser *p)
{
    size_t at = p->at, size = word_size(p);
    struct slice word = { p->text + at, size };
    if (slice_eq(word, "true") || slice_eq(word, "false") || slice_eq(word, "nil")) {
        p->at += size;
        if (!slice_eq(word, "nil"))
            return literal(p, at, json_boolean(slice_eq(word, "true")));
    } else if (!function_known(word.data, word.size)) {
        fail(p, "function \"%.*s\" not defined", (int)size, word.data);
        return NULL;
    } else {
        p->at += size;
    }
    struct node *node = new_node(p, slice_eq(word, "nil") ? NODE_NIL : NODE_FUNCTION, at);
    node->text = arena_strndup(&p->template->arena, word.data, size);
    node->end = p->at;
    return node;
}

static struct node *parse_operand(struct parser *p)
{
    char c = p->text[p->at], next = p->at + 1 < p->size ? p->text[p->at + 1] : 0;
    if (c == '"' || c == '`' || c == '\'')
        return parse_quoted(p);
    if (isdigit((unsigned char)c) || ((c == '-' || c == '+') && isdigit((unsigned char)next)))
        return parse_number(p);
    if (c == '(')
        return parse_parentheses(p);
    if (c == '$')
        return parse_variable(p);
    if (c == '.' && word_char(next)) {
        struct node *node = new_node(p, NODE_FIELD, p->at);
        parse_names(p, node);
        if (node->names.len)
            return node;
        fail(p, "bad number syntax: \".%c\"", next);
        return NULL;
    }
    if (c == '.') {
        struct node *node = new_node(p, NODE_DOT, p->at++);
        node->end = p->at;
        return node;
    }
    if (word_char(c))
        return parse_word(p);
    if (strchr("|=:,)}]{<>!", c) && c)
        fail(p, "unexpected \"%c\" in operand", c);
    else
        fail(p, "unexpected bad character U+%04X '%c' in command", (unsigned)(unsigned char)c, isprint((unsigned char)c) ? c : '?');
    return NULL;
}

// ---- pipelines ------------------------------------------------------------------------------------------------------

// 1 at the end of the pipeline, 0 before an operand, -1.
static int at_end_of_pipe(struct parser *p, bool in_parentheses)
{
    if (p->at >= p->size)
        return in_parentheses ? fail(p, "unclosed left paren") : fail(p, "unclosed action");
    if (at_end_of_action(p))
        return in_parentheses ? fail(p, "unclosed left paren") : 1;
    if (p->text[p->at] == ')')
        return in_parentheses ? 1 : fail(p, "unexpected right paren");
    return 0;
}

static void skip_blanks_in_action(struct parser *p)
{
    while (p->at < p->size && is_blank(p->text[p->at]) && !at_end_of_action(p))
        p->at++;
}

static struct node *parse_command(struct parser *p, bool in_parentheses, const char *of)
{
    struct node *command = new_node(p, NODE_COMMAND, p->at);
    for (;;) {
        skip_blanks_in_action(p);
        int end = at_end_of_pipe(p, in_parentheses);
        if (end < 0)
            return NULL;
        if (end || p->text[p->at] == '|')
            break;
        struct node *operand = parse_operand(p);
        if (!operand)
            return NULL;
        append(&command->first, operand);
        command->end = p->at;
        if (p->at < p->size && !is_blank(p->text[p->at]) && !strchr(")|", p->text[p->at]) && !at_end_of_action(p)) {
            fail(p, p->text[p->at] == '.' ? "unexpected <%c> in operand" : "unexpected \"%c\" in operand", p->text[p->at]);
            return NULL;
        }
    }
    if (!command->first) {
        fail(p, "missing value for %s", of);
        return NULL;
    }
    return command;
}

// "$i, $x :=" in front of a pipeline; what is no declaration is left alone.
static int parse_declaration(struct parser *p, struct node *pipe)
{
    size_t start = p->at;
    struct strv names = { 0 };
    while (p->at < p->size && p->text[p->at] == '$' && names.len < 2) {
        size_t at = p->at++;
        p->at += word_size(p);
        strv_push_arena(&names, &p->template->arena, arena_strndup(&p->template->arena, p->text + at, p->at - at));
        skip_blanks_in_action(p);
        if (p->at >= p->size || p->text[p->at] != ',')
            break;
        p->at++;
        skip_blanks_in_action(p);
    }
    bool declares = looking_at(p, ":="), assigns = !declares && looking_at(p, "=");
    if (!names.len || !(declares || assigns)) {
        p->at = start;
        return 0;
    }
    p->at += declares ? 2 : 1;
    pipe->names = names;
    pipe->assigns = assigns;
    for (size_t i = 0; i < names.len; i++)
        if (assigns && !strv_has(&p->variables, names.items[i]))
            return fail(p, "undefined variable \"%s\"", names.items[i]);
    return 0;
}

static struct node *parse_pipe(struct parser *p, bool in_parentheses, const char *of)
{
    skip_blanks_in_action(p);
    struct node *pipe = new_node(p, NODE_PIPE, p->at);
    if (parse_declaration(p, pipe) < 0)
        return NULL;
    for (;;) {
        struct node *command = parse_command(p, in_parentheses, pipe->first ? "command" : of);
        if (!command)
            return NULL;
        if (pipe->first && command->first->kind != NODE_FUNCTION && command->first->kind != NODE_FIELD &&
            command->first->kind != NODE_CHAIN && command->first->kind != NODE_VARIABLE) {
            fail(p, "non executable command in pipeline stage 2");
            return NULL;
        }
        append(&pipe->first, command);
        pipe->end = p->at;
        if (p->text[p->at] != '|')
            break;
        p->at++;
    }
    for (size_t i = 0; i < pipe->names.len && !pipe->assigns; i++)
        strv_push_arena(&p->variables, &p->template->arena, pipe->names.items[i]);
    return pipe;
}

// ---- blocks ---------------------------------------------------------------------------------------------------------

static int close_action(struct parser *p)
{
    skip_blanks_in_action(p);
    if (p->at >= p->size)
        return fail(p, "unclosed action");
    if (looking_at(p, "}}")) {
        p->at += 2;
        return 0;
    }
    if (!at_end_of_action(p))
        return fail(p, "unexpected \"%c\" in command", p->text[p->at]);
    p->at += 4;
    skip_blanks(p);
    return 0;
}

enum ends { ENDS_TEMPLATE, ENDS_BLOCK, ENDS_ELSE }; // what ended a list
static int parse_list(struct parser *p, struct node **first, bool inside, enum ends *end);

static int parse_block(struct parser *p, enum node_kind kind, size_t at, struct node **out)
{
    enum ends end;
    struct node *block = *out = new_node(p, kind, at);
    size_t variables = p->variables.len;
    if (++p->depth > TEMPLATE_DEPTH_MAX)
        return fail(p, "max expression depth exceeded");
    block->pipe = parse_pipe(p, false, kind == NODE_IF ? "if" : kind == NODE_RANGE ? "range" : "with");
    p->loops += kind == NODE_RANGE;
    if (!block->pipe || close_action(p) < 0 || parse_list(p, &block->first, true, &end) < 0)
        return -1;
    p->loops -= kind == NODE_RANGE;
    if (end == ENDS_ELSE) {
        skip_blanks_in_action(p);
        bool chained = (kind == NODE_IF && looking_at(p, "if ")) || (kind == NODE_WITH && looking_at(p, "with "));
        if (chained) {
            size_t inner = p->at;
            p->at += kind == NODE_IF ? 2 : 4;
            if (parse_block(p, kind, inner, &block->otherwise) < 0)
                return -1;
        } else if (close_action(p) < 0 || parse_list(p, &block->otherwise, true, &end) < 0) {
            return -1;
        } else if (end == ENDS_ELSE) {
            return fail(p, "expected end; found {{else}}");
        }
    }
    p->variables.len = variables;
    p->depth--;
    return 0;
}

static int parse_comment(struct parser *p)
{
    const char *end = memmem(p->text + p->at, p->size - p->at, "*/", 2);
    if (!end)
        return fail(p, "unclosed comment");
    p->at = (size_t)(end - p->text) + 2;
    if (!at_end_of_action(p))
        return fail(p, "comment ends before closing delimiter");
    return close_action(p);
}

static int parse_keyword(struct parser *p, struct slice word, size_t at, struct node **out, bool inside, enum ends *end)
{
    static const struct {
        const char *word;
        enum node_kind kind;
    } blocks[] = { { "if", NODE_IF }, { "range", NODE_RANGE }, { "with", NODE_WITH } };
    for (size_t i = 0; i < ARRAY_LEN(blocks); i++)
        if (slice_eq(word, blocks[i].word)) {
            p->at += word.size;
            return parse_block(p, blocks[i].kind, at, out) < 0 ? -1 : 1;
        }
    if (slice_eq(word, "end") || slice_eq(word, "else")) {
        if (!inside)
            return fail(p, "unexpected {{%.*s}}", (int)word.size, word.data);
        p->at += word.size;
        *end = slice_eq(word, "end") ? ENDS_BLOCK : ENDS_ELSE;
        return *end == ENDS_BLOCK && close_action(p) < 0 ? -1 : 2;
    }
    if (slice_eq(word, "break") || slice_eq(word, "continue")) {
        if (!p->loops)
            return fail(p, "{{%.*s}} outside {{range}}", (int)word.size, word.data);
        p->at += word.size;
        *out = new_node(p, slice_eq(word, "break") ? NODE_BREAK : NODE_CONTINUE, at);
        return close_action(p) < 0 ? -1 : 1;
    }
    if (slice_eq(word, "define") || slice_eq(word, "template") || slice_eq(word, "block"))
        return fail(p, "{{%.*s}} is not supported", (int)word.size, word.data);
    return 0;
}

// Behind "{{": 1 with a node or nothing in *out, 2 when the list is over.
static int parse_action(struct parser *p, struct node **out, bool inside, enum ends *end)
{
    *out = NULL;
    if (p->at + 1 < p->size && p->text[p->at] == '-' && is_blank(p->text[p->at + 1]))
        p->at += 2;
    if (looking_at(p, "/*"))
        return parse_comment(p) < 0 ? -1 : 1;
    skip_blanks_in_action(p);
    size_t at = p->at;
    int done = parse_keyword(p, (struct slice){ p->text + p->at, word_size(p) }, at, out, inside, end);
    if (done)
        return done;
    struct node *action = new_node(p, NODE_ACTION, at);
    action->pipe = parse_pipe(p, false, "command");
    if (!action->pipe || close_action(p) < 0)
        return -1;
    action->end = p->at;
    *out = action;
    return 1;
}

static void parse_text(struct parser *p, struct node **first)
{
    size_t at = p->at;
    const char *open = memmem(p->text + at, p->size - at, "{{", 2);
    size_t end = open ? (size_t)(open - p->text) : p->size;
    p->at = end;
    if (open && end + 3 < p->size && p->text[end + 2] == '-' && is_blank(p->text[end + 3]))
        while (end > at && is_blank(p->text[end - 1]))
            end--;
    if (end == at)
        return;
    struct node *node = new_node(p, NODE_TEXT, at);
    node->text = p->text + at;
    node->size = end - at;
    append(first, node);
}

static int parse_list(struct parser *p, struct node **first, bool inside, enum ends *end)
{
    for (;;) {
        parse_text(p, first);
        if (p->at >= p->size)
            break;
        p->at += 2;
        struct node *node;
        int done = parse_action(p, &node, inside, end);
        if (done < 0)
            return -1;
        if (done == 2)
            return 0;
        if (node)
            append(first, node);
    }
    *end = ENDS_TEMPLATE;
    return inside ? fail(p, "unexpected EOF") : 0;
}

int template_parse(const char *name, const char *text, struct template **out, struct err *err)
{
    struct template *template = mem_new(struct template);
    template->name = arena_strdup(&template->arena, name);
    template->text = arena_strdup(&template->arena, text);
    template->literals = json_array();
    struct parser parser = { .template = template, .text = template->text, .size = strlen(text), .err = err };
    strv_push_arena(&parser.variables, &template->arena, "$");
    enum ends end;
    if (parse_list(&parser, &template->first, false, &end) < 0) {
        template_free(template);
        return -1;
    }
    *out = template;
    return 0;
}

void template_free(struct template *template)
{
    if (!template)
        return;
    json_decref(template->literals);
    arena_done(&template->arena);
    free(template);
}

static bool node_uses(const struct node *node, const char *field)
{
    for (; node; node = node->next)
        if ((node->kind == NODE_DOT && str_eq(field, ".")) || ((node->kind == NODE_FIELD || node->kind == NODE_VARIABLE) && strv_has(&node->names, field)) ||
            node_uses(node->pipe, field) || node_uses(node->first, field) || node_uses(node->otherwise, field))
            return true;
    return false;
}

bool template_uses(const struct template *template, const char *field)
{
    return node_uses(template->first, field);
}
