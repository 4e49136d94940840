// Words for people: sizes, ages, quoted and shortened text, tables.
#ifndef CLIENT_TEXT_H
#define CLIENT_TEXT_H

#include "base/buf.h"
#include "base/slice.h"
#include "json/json.h"

#define TEXT_SIZE 32

const char *text_size(double bytes, int precision, char out[TEXT_SIZE]); // "1.98MB", powers of 1000
const char *text_size_1024(double bytes, char out[TEXT_SIZE]); // "1.892MiB"
const char *text_age(int64_t seconds, char out[TEXT_SIZE]); // "About a minute"
int64_t text_ns(int64_t seconds); // of a unix time that a daemon tells; 0 for one that no clock shows
void text_time(int64_t unix_ns, struct buf *out); // "2023-11-14 22:13:20.5 +0100 CET", in local time
void text_put_char(uint32_t character, struct buf *out); // as UTF-8
// At most `width` columns, the last of them "…" where something was cut off.
void text_ellipsis(const char *text, size_t width, struct buf *out);
size_t text_columns(struct slice text); // characters; wide ones count two

// A digest's or an id's first twelve digits; `no_trunc`: all of it.
const char *text_id(const char *id, bool no_trunc, char out[TEXT_SIZE]);

// A row of a list as JSON: sorted by key, with <, > and & escaped as Go's encoder does.
void text_put_row(json_t *row, struct buf *out);
// JSON text, indented as Go's json.Indent does: what stands in it is not changed.
void text_indent(struct slice json, const char *prefix, const char *step, struct buf *out);

// Lays out lines whose cells end in tabs, as Go's tabwriter: a column is as wide as its widest cell, at least `min`, and `gap` blanks
// are behind each; the last cell of a line belongs to no column.
void text_table(struct slice lines, size_t min, size_t gap, struct buf *out);

#endif
