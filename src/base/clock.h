// Times. Wall-clock nanoseconds since 1970 for records, monotonic nanoseconds for waits.
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include "base/slice.h"

#define NS_PER_S INT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)

int64_t clock_wall_ns(void);
int64_t clock_mono_ns(void);

#define CLOCK_TEXT_SIZE 40
// "2026-01-02T03:04:05.123456789Z" as Go's RFC3339Nano writes it (trailing zeros of the fraction dropped, none when
// zero); 0 gives Go's zero time "0001-01-01T00:00:00Z".
void clock_format(int64_t wall_ns, char out[CLOCK_TEXT_SIZE]);
// The same with all nine digits kept, for log lines ("timestamps=1").
void clock_format_fixed(int64_t wall_ns, char out[CLOCK_TEXT_SIZE]);
// "1m30s", "500ms", "1.5s": as Go writes a duration that is not negative.
void clock_duration(int64_t ns, char out[32]);
// RFC 3339 with fraction and offset; false when malformed or outside the years 1678 to 2261. Go's zero time gives 0.
bool clock_parse(struct slice text, int64_t *wall_ns);

#endif
