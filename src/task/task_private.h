// What frames on a socket and frames on a guest link have in common: their JSON payloads.
#ifndef TASK_TASK_PRIVATE_H
#define TASK_TASK_PRIVATE_H

#include "json/json.h"

// An object, {} for no bytes; nesting is bounded. The caller owns *out.
int task_payload_parse(const char *text, size_t size, json_t **out, struct err *err);
// {"class", "errno", "message"} and back; task_payload_error() returns -1, as err_set() does.
json_t *task_error_payload(const struct err *error);
int task_payload_error(const json_t *payload, struct err *err);

#endif
