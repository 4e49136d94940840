// Log lines of a program, to stderr. Only programs and long-running edges log; libraries return errors.
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_FATAL };

// Set once in main, before threads.
void log_setup(const char *program, enum log_level level, bool json);
void log_set_level(enum log_level level); // from then on; any thread
bool log_level_parse(const char *name, enum log_level *out); // debug info warn error fatal
void log_line(enum log_level level, const char *fmt, ...) _printf_(2, 3);

#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)

#endif
