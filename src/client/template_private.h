// The tree of a template and the values that it computes with.
#ifndef CLIENT_TEMPLATE_PRIVATE_H
#define CLIENT_TEMPLATE_PRIVATE_H

#include "base/arena.h"
#include "client/template.h"

enum node_kind {
    NODE_TEXT,
    NODE_ACTION, // prints its pipe
    NODE_IF,
    NODE_RANGE,
    NODE_WITH,
    NODE_BREAK,
    NODE_CONTINUE,
    NODE_PIPE, // first: commands
    NODE_COMMAND, // first: operands
    NODE_DOT,
    NODE_FIELD, // names
    NODE_VARIABLE, // text: its name with the '$'; names
    NODE_CHAIN, // (first).names
    NODE_FUNCTION, // text
    NODE_LITERAL, // literal
    NODE_NIL,
};

struct node {
    enum node_kind kind;
    size_t at, end; // in the template's text
    size_t shown; // where errors say it is: of ".A.B" the second name
    struct node *next;
    struct node *pipe; // of actions and blocks
    struct node *first, *otherwise; // children; the part behind {{else}}
    const char *text;
    size_t size;
    struct strv names; // of a field; of a pipe: the variables it declares
    bool assigns; // `=` instead of `:=`
    json_t *literal;
};

struct template {
    struct arena arena;
    const char *name, *text;
    struct node *first;
    json_t *literals; // array that owns them
};

// What Go's types say beyond JSON.
enum nature {
    NATURE_UNKNOWN,
    NATURE_TEXT,
    NATURE_NUMBER,
    NATURE_FLAG,
    NATURE_LIST,
    NATURE_POINTER,
    NATURE_MAP, // whose values are text
    NATURE_MAP_OF_LISTS,
    NATURE_MAP_OF_POINTERS,
    NATURE_MAP_OF_ANY,
};

struct value {
    json_t *json; // borrowed; NULL: no value, or the zero value of `nature`
    enum nature nature;
};

enum nature nature_of(const char *field);
static inline bool nature_is_map(enum nature nature)
{
    return nature >= NATURE_MAP;
}

bool value_true(struct value value);
void value_print(struct value value, struct buf *out); // as Go's fmt.Print
struct value value_item(struct value map, const char *key); // by a map's rule: the zero value when there is none

// A run: what it allocates lives as long.
struct run {
    const struct template *template;
    const struct template_data *data;
    struct buf *out;
    json_t *made; // array that owns the values functions return
    struct variable {
        const char *name;
        struct value value;
    } variables[256];
    size_t variables_len;
    int depth;
};

struct value run_keep(struct run *run, json_t *value); // takes the reference
bool function_known(const char *name, size_t size);
int function_call(struct run *run, const char *name, const struct value *args, size_t len, struct value *out, struct err *err);

#endif
