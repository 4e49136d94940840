// Go's text/template, the part that people write after --format: fields, variables, pipelines, if, range, with, break and continue,
// comments, trimmed blanks, the built-in functions but `js` and `call`, and docker's (json, split, join, title, lower, upper, pad, truncate). `define`,
// `template` and `block` are refused.
//
// Data is JSON. Go's client runs templates over typed structs, of which JSON keeps no trace in three cases: what a null or an absent
// optional field prints (nil pointer, empty list, empty map), and whether an object is a map (a key that is not there has no value)
// or a struct (it is an error). One table of field names (template_nature.c) says so.
#ifndef CLIENT_TEMPLATE_H
#define CLIENT_TEMPLATE_H

#include "base/buf.h"
#include "base/err.h"
#include "json/json.h"

struct template;

struct template_data {
    json_t *root;
    json_t *labels; // what {{.Label "name"}} looks in; NULL: there is no such method
    const char *type; // Go's name of the root's struct, for errors; NULL: the words of a map
    bool header; // functions that change text leave it as it is: a table's head
    bool loose; // a field that is not there has no value, wherever it is asked for
};

#define TEMPLATE_DEPTH_MAX 64
#define TEMPLATE_OUTPUT_MAX (64u << 20)

// `name` is the template's in errors. Errors are invalid_argument with Go's words: "template: :1: unclosed action".
int template_parse(const char *name, const char *text, struct template **out, struct err *err);
void template_free(struct template *template);
// Appends to `out`, also what was printed before an error.
int template_run(const struct template *template, const struct template_data *data, struct buf *out, struct err *err);
// Whether the template asks its root (or anything else) for a field of that name; ".": whether it takes it whole.
bool template_uses(const struct template *template, const char *field);

#define _cleanup_template_ _cleanup_(template_cleanup)
static inline void template_cleanup(struct template **template)
{
    template_free(*template);
}

#endif
