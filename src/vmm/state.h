// Saved state: a stretch of bytes in which every device writes and reads the same fields in the same order. Each section
// begins with its name and version. Numbers are little-endian.
//
// Writing never fails by itself: the ceiling of `out` holds, and the machine asks buf_check() once at the end. Reading checks
// every length; the first thing that does not fit is kept in *err as invalid_argument with the section's name, and from there
// on every read gives zeros: a loader reads on and asks state_check() once.
#ifndef VMM_STATE_H
#define VMM_STATE_H

#include "base/buf.h"
#include "base/err.h"

#define STATE_NAME_MAX 32

struct state_writer {
    struct buf *out;
};

struct state_reader {
    const uint8_t *data;
    size_t size, at;
    const char *section; // for messages
    struct err *err;
    bool failed; // sticky: later reads give zeros
};

// `name` has at most STATE_NAME_MAX bytes.
void state_begin(struct state_writer *writer, const char *name, uint16_t version);
void state_put8(struct state_writer *writer, uint8_t value);
void state_put16(struct state_writer *writer, uint16_t value);
void state_put32(struct state_writer *writer, uint32_t value);
void state_put64(struct state_writer *writer, uint64_t value);
// Both sides know the size.
void state_put_bytes(struct state_writer *writer, const void *data, size_t size);
// With its size before it.
void state_put_blob(struct state_writer *writer, const void *data, uint32_t size);

// `err` may be NULL. The bytes stay the caller's.
struct state_reader state_open(const void *data, size_t size, struct err *err);
// The section's version, 1 to `version_max`; 0 after a failure. `name` must outlive the section.
uint16_t state_enter(struct state_reader *reader, const char *name, uint16_t version_max);
uint8_t state_get8(struct state_reader *reader);
uint16_t state_get16(struct state_reader *reader);
uint32_t state_get32(struct state_reader *reader);
uint64_t state_get64(struct state_reader *reader);
void state_get_bytes(struct state_reader *reader, void *out, size_t size);
// A blob of at most `size_max` bytes into `out`; returns its size.
uint32_t state_get_blob(struct state_reader *reader, void *out, uint32_t size_max);
// What was read makes no sense: the reader has failed, unless it had before.
void state_fail(struct state_reader *reader, const char *fmt, ...) _printf_(2, 3);
int state_check(const struct state_reader *reader); // 0, or -1 with *err filled
int state_finish(struct state_reader *reader); // the same, and nothing may be left

#endif
