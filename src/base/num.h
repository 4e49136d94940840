// Strict numbers: the whole text, no blanks, no sign where none belongs, nothing after the last digit.
#ifndef BASE_NUM_H
#define BASE_NUM_H

#include "base/slice.h"

bool num_parse_u64(struct slice text, uint64_t max, uint64_t *out); // decimal
bool num_parse_i64(struct slice text, int64_t *out); // decimal, an optional '-'
bool num_parse_octal(struct slice text, uint64_t max, uint64_t *out);
bool num_parse_hex(struct slice text, uint64_t *out);
bool num_parse_bytes(const char *text, int64_t *out); // 10, 10k, 1.5GiB, 10 mb: powers of 1024
bool num_parse_duration(const char *text, int64_t *ns); // Go's: 1h2m3.5s, 100ms

void hex_encode(const void *data, size_t size, char *out); // out: 2 * size + 1 bytes
bool hex_valid(struct slice text); // lower-case hex digits only, at least one
void random_bytes(void *data, size_t size);
void random_hex(char *out, size_t digits); // out: digits + 1 bytes

#endif
