// Inside the log drivers' options: those of the drivers that send, in log_sockets.c; log_options.c has the rest.
#ifndef ENGINE_LOG_SOCKETS_H
#define ENGINE_LOG_SOCKETS_H

#include "engine_private.h"

#define LOG_BUFFER_MAX (INT64_C(64) << 20) // of lines that wait for a remote log, in the shim's memory

// By value, at create and at the start: out->driver says whose. What is settled stands in *out; texts are the options' own.
int log_read_remote(const struct kvs *options, struct task_log *out, struct err *err);
// At the start: addresses as numbers, what each line says of the container. `attrs`: labels and variables that were asked for.
int log_fill_remote(struct container *container, json_t *attrs, struct arena *arena, struct task_log *out, struct err *err);

// Of log_options.c.
bool log_is_one_of(const char *word, const char *const *list, size_t len); // `len` at most, or up to a NULL
int log_read_size(const char *text, int64_t base, int64_t *out, struct err *err); // "10k", "1.5 MB"
int log_read_flag(const char *text, bool *out, struct err *err); // Go's words

#endif
