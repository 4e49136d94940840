// Health checks: a probe at a time, an exec like any other, whose exit code says how the container is.
//
// Nobody waits for a probe. A job starts it when it is due; the watcher takes what it prints (the first 4 KiB are kept); the end of
// its output is the end of the probe, because the shim ends it once the exit code is known here; then a worker judges. A probe
// that takes too long is killed, and is judged the same way. State is Docker's: starting, healthy, unhealthy, a streak of
// failures, the last five results. It is recorded with each result, so the next daemon goes on with it.
#ifndef ENGINE_HEALTH_H
#define ENGINE_HEALTH_H

#include "engine_private.h"

#define HEALTH_LOG_MAX 5
#define HEALTH_OUTPUT_MAX 4096

enum health_status { HEALTH_STARTING, HEALTH_HEALTHY, HEALTH_UNHEALTHY };

struct health_result {
    int64_t start_ns, end_ns, exit_code; // -1: it could not run, or took too long
    char *output; // malloc'ed in struct health
};

struct probe {
    struct container *container; // a reference, until its end is seen
    int fd;
    struct loop_source *source; // the watcher's
    int64_t start_ns, end_ns;
    bool timed_out, dropped, ended; // guarded by the container's lock; dropped: nobody wants to know any more
    char output[HEALTH_OUTPUT_MAX]; // the watcher's until it has ended
    size_t size;
    bool truncated;
};

// Guarded by the container's lock.
struct health {
    enum health_status status;
    int64_t failing_streak;
    struct health_result log[HEALTH_LOG_MAX]; // oldest first
    size_t log_len;
    char exec_id[65]; // of the probe that runs, or will be next: recorded ahead, so that the next daemon can end a stray one
    bool active; // the container runs and is not paused
    struct probe *probe; // the one under way
};

// ---- probe.c --------------------------------------------------------------------------------------------------------

// Starts the probe whose id stands in the health. Its end comes as a job. Needs container_begin().
int probe_start(struct container *container, const struct exec_config *config, struct err *err);
// Ends it, whatever it is doing; its end comes as for any other. Needs container_begin().
void probe_kill(struct container *container);
void probe_free(struct probe *probe); // the watcher does not know it, or turns no more

#endif
