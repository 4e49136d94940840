// events: statistics as runc prints them, and out-of-memory kills.
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/num.h"
#include "base/slice.h"
#include "oci/oci_private.h"

static json_t *stats_of(const struct cgroup_stats *stats)
{
    return json_pack("{s:{s:{s:I,s:I,s:I},s:{s:I,s:I,s:I}},s:{s:I,s:{s:I,s:I,s:I}},s:{s:I,s:I}}", "cpu", "usage", "total",
                     (json_int_t)stats->cpu_total_ns, "kernel", (json_int_t)stats->cpu_system_ns, "user",
                     (json_int_t)stats->cpu_user_ns, "throttling", "periods", (json_int_t)stats->cpu_periods, "throttledPeriods",
                     (json_int_t)stats->cpu_throttled_periods, "throttledTime", (json_int_t)stats->cpu_throttled_ns, "memory",
                     "cache", (json_int_t)stats->memory_inactive_file, "usage", "limit", (json_int_t)stats->memory_limit, "usage",
                     (json_int_t)stats->memory_usage, "max", (json_int_t)stats->memory_max_usage, "pids", "current",
                     (json_int_t)stats->pids_current, "limit", (json_int_t)stats->pids_limit);
}

static void print_event(const char *type, const char *id, json_t *data)
{
    _cleanup_json_ json_t *event = json_pack("{s:s,s:s}", "type", type, "id", id);
    if (data)
        json_object_set_new(event, "data", data);
    json_dumpf(event, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
}

// "5s", "100ms", "1m": what the flag of such a kind takes.
static int parse_duration(const char *text, int64_t *ns, struct err *err)
{
    static const struct {
        const char *unit;
        int64_t ns;
    } units[] = { { "ms", NS_PER_MS }, { "us", 1000 }, { "ns", 1 }, { "s", NS_PER_S }, { "m", 60 * NS_PER_S }, { "h", 3600 * NS_PER_S } };
    size_t digits = strspn(text, "0123456789");
    uint64_t value = 0;
    if (num_parse_u64((struct slice){ text, digits }, 1000000, &value))
        for (size_t i = 0; i < ARRAY_LEN(units); i++)
            if (str_eq(text + digits, units[i].unit)) {
                *ns = (int64_t)value * units[i].ns;
                return *ns > 0 ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "duration interval must be greater than 0");
            }
    return err_set(err, ERR_INVALID_ARGUMENT, "invalid value \"%.60s\" for flag -interval: parse error", text);
}

static int print_stats(struct container *container, struct cgroup *cgroup, struct err *err)
{
    struct cgroup_stats stats;
    if (cgroup_stats(cgroup, &stats, err) < 0)
        return -1;
    print_event("stats", container->id, stats_of(&stats));
    return 0;
}

// Looks for deaths by lack of memory four times a second; the kernel's own notice would need a descriptor that v2 has not.
static int follow(struct container *container, struct cgroup *cgroup, int64_t interval, struct err *err)
{
    int64_t next = clock_mono_ns() + interval, kills = cgroup_oom_kills(cgroup);
    while (container_alive(container)) {
        nanosleep(&(struct timespec){ .tv_nsec = MIN_OF(interval, 250 * NS_PER_MS) % NS_PER_S }, NULL);
        int64_t now = cgroup_oom_kills(cgroup);
        for (; kills < now; kills++)
            print_event("oom", container->id, NULL);
        if (clock_mono_ns() < next)
            continue;
        next += interval;
        if (print_stats(container, cgroup, err) < 0)
            return -1;
    }
    return 0;
}

int verb_events(struct call *call, struct err *err)
{
    struct container container;
    struct cgroup *cgroup = NULL;
    int64_t interval = 5 * NS_PER_S;
    const char *given = args_text(&call->args, "interval");
    int result = container_load(call, call->args.words.items[0], &container, err);
    if (result == 0 && given)
        result = parse_duration(given, &interval, err);
    if (result == 0 && container_status(&container) == STATUS_STOPPED)
        result = err_set(err, ERR_CONFLICT, "container with id %s is not running", container.id);
    if (result == 0 && (result = container_cgroup(&container, &cgroup, err)) == 0 && !cgroup)
        result = err_set(err, ERR_NOT_IMPLEMENTED, "the container has no cgroup");
    if (result == 0)
        result = args_flag(&call->args, "stats") ? print_stats(&container, cgroup, err) : follow(&container, cgroup, interval, err);
    cgroup_free(cgroup);
    container_done(&container);
    return result;
}
