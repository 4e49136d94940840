// The JSON lines that the daemon reads. Private to the room.
#ifndef TRANSFER_REPORT_H
#define TRANSFER_REPORT_H

#include <jansson.h>
#include <stdio.h>

#include "base/err.h"

// Writes {"key": value} as one line and flushes; the reference to `value` is used up. A reader that is gone is an
// error.
int report_line(FILE *report, const char *key, json_t *value, struct err *err);
int report_progress(FILE *report, const char *id, const char *status, int64_t current, int64_t total, struct err *err);

#endif
