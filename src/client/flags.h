// Flags by tables, parsed as docker's parser does it: --name value, --name=value, -n value, -nvalue, -abc, --bool=false, "--" ends
// them. Where a value goes in a request stands in its row:
//
//     "HostConfig.CpuShares"   that place in the body's JSON
//     "?signal"                that parameter of the query
//     NULL                     the command asks for it by name
//
// Everything parsed lives in the caller's arena. Errors are one line (invalid_argument) with docker's words.
#ifndef CLIENT_FLAGS_H
#define CLIENT_FLAGS_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"
#include "base/strv.h"
#include "json/json.h"

enum flag_kind {
    FLAG_BOOL,
    FLAG_TEXT,
    FLAG_INT,
    FLAG_UINT,
    FLAG_LIST, // may be repeated
    FLAG_COMMAS, // may be repeated, and split at commas
    FLAG_MAP, // may be repeated: KEY=VALUE; an object in JSON
    FLAG_BYTES, // 512m; an integer in JSON. "-1" where the row's fallback is "-1"
    FLAG_DURATION, // 1m30s; nanoseconds in JSON
    FLAG_CPUS, // 1.5; billionths in JSON
    FLAG_FILTER, // may be repeated: KEY=VALUE
};

struct flag {
    const char *name;
    char letter; // 0: none
    enum flag_kind kind;
    const char *to;
    const char *help;
    const char *fallback; // what counts without it, for the help; flag_on() and the like know what is given alone
    const char *refused; // why it is known and refused; a value equal to the fallback, or false, passes
    const char *word; // what the value is called in the help, instead of the kind's word
};

#define FLAG(flag_name, flag_letter, flag_kind, flag_to, flag_help, ...) \
    { .name = (flag_name), .letter = (flag_letter), .kind = (flag_kind), .to = (flag_to), .help = (flag_help), ##__VA_ARGS__ }

// Two tables, so that commands can share one: "own" and "shared". Each may be empty.
struct flag_tables {
    const struct flag *rows[2];
    size_t len[2];
};

struct flag_value {
    const struct flag *flag;
    struct strv texts; // in order; the last one counts for single values
};

struct flags {
    struct flag_value *values;
    size_t len, capacity;
    struct arena *arena;
};

// Takes flags off argv[0..argc): *args gets the rest. With `leading` the first argument that is no flag ends them (run, exec).
// A flag `help` or `h` (where no row has it) sets *help and ends the parse.
int flags_parse(struct flags *flags, const struct flag_tables *tables, char **argv, int argc, bool leading, struct strv *args,
                bool *help, struct err *err);

const struct flag *flag_find(const struct flag_tables *tables, const char *name, size_t size);
const struct flag *flag_letter(const struct flag_tables *tables, char letter);
bool flag_has_value(const struct flag *flag); // false: FLAG_BOOL
const char *flag_word(const struct flag *flag); // "list", "string", ...

bool flag_set(const struct flags *flags, const char *name); // given on the command line
bool flag_on(const struct flags *flags, const char *name); // FLAG_BOOL, `otherwise` is the row's fallback
const char *flag_text(const struct flags *flags, const char *name); // the last value, NULL without
const struct strv *flag_texts(const struct flags *flags, const char *name); // all values, never NULL
int64_t flag_int(const struct flags *flags, const char *name, int64_t otherwise);

// What the rows with a place say, into `body` (an object) and `query`.
void flags_to_body(const struct flags *flags, json_t *body);
void flags_to_query(const struct flags *flags, struct buf *query);

// The pieces, for who needs them alone.
bool parse_cpus(const char *text, int64_t *nano);
// Puts a value at a dotted path, objects made on the way; takes the reference.
void body_put(json_t *body, const char *path, json_t *value);
// Appends "?key=value" or "&key=value", escaped.
void query_add(struct buf *query, const char *key, const char *value);
void query_escape(struct buf *out, const char *text);
// {"key":{"value":true}} for filters= in a query.
json_t *flags_filters(const struct flags *flags, const char *name);

#endif
