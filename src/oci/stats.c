// events: statistics as runc prints them, and out-of-memory kills.
#include <poll.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/num.h"
#include "base/slice.h"
#include "kernel/cgroup_report.h"
#include "oci/oci_private.h"

// JSON numbers end at 2^63-1 here: a v2 "no limit" is that.
static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)MIN_OF(value, (uint64_t)INT64_MAX));
}

// Members that runc leaves out when they are zero.
static void add(json_t *object, const char *key, uint64_t value)
{
    if (value)
        json_object_set_new(object, key, number(value));
}

static void add_list(json_t *object, const char *key, const uint64_t *values, size_t len)
{
    json_t *list = json_array();
    for (size_t i = 0; i < len && values; i++)
        json_array_append_new(list, number(values[i]));
    if (json_array_size(list))
        json_object_set(object, key, list);
    json_decref(list);
}

static json_t *pressure_line(const struct cgroup_pressure_line *line)
{
    return json_pack("{s:f,s:f,s:f,s:o}", "avg10", line->avg10, "avg60", line->avg60, "avg300", line->avg300, "total", number(line->total_us));
}

static void add_pressure(json_t *object, const struct cgroup_pressure *pressure)
{
    if (pressure->present)
        json_object_set_new(object, "psi", json_pack("{s:o,s:o}", "some", pressure_line(&pressure->some), "full", pressure_line(&pressure->full)));
}

static json_t *cpu_of(const struct cgroup_report *report)
{
    json_t *usage = json_object(), *throttling = json_object();
    add(usage, "total", report->cpu.total_ns);
    add_list(usage, "percpu", report->cpu.total_per_cpu_ns, report->cpu.cpu_len);
    add_list(usage, "percpu_kernel", report->cpu.system_per_cpu_ns, report->cpu.cpu_len);
    add_list(usage, "percpu_user", report->cpu.user_per_cpu_ns, report->cpu.cpu_len);
    json_object_set_new(usage, "kernel", number(report->cpu.system_ns));
    json_object_set_new(usage, "user", number(report->cpu.user_ns));
    add(throttling, "periods", report->cpu.periods);
    add(throttling, "throttledPeriods", report->cpu.throttled_periods);
    add(throttling, "throttledTime", report->cpu.throttled_ns);
    json_t *out = json_pack("{s:o,s:o}", "usage", usage, "throttling", throttling);
    add_pressure(out, &report->cpu.pressure);
    return out;
}

static void add_cpus(json_t *object, const char *key, const char *text)
{
    uint16_t cpus[1024];
    size_t len = 0;
    json_t *list = json_array();
    if (!str_empty(text) && cgroup_list_parse(text, cpus, ARRAY_LEN(cpus), &len))
        for (size_t i = 0; i < len; i++)
            json_array_append_new(list, json_integer(cpus[i]));
    if (json_array_size(list))
        json_object_set(object, key, list);
    json_decref(list);
}

static json_t *cpuset_of(const struct cgroup_report *report)
{
    json_t *out = json_object();
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        { "cpu_exclusive", report->cpuset.cpu_exclusive },         { "mem_hardwall", report->cpuset.mem_hardwall },
        { "mem_exclusive", report->cpuset.mem_exclusive },         { "memory_migrate", report->cpuset.memory_migrate },
        { "memory_spread_page", report->cpuset.memory_spread_page }, { "memory_spread_slab", report->cpuset.memory_spread_slab },
        { "memory_pressure", report->cpuset.memory_pressure },     { "sched_load_balance", report->cpuset.sched_load_balance },
    };
    add_cpus(out, "cpus", report->cpuset.cpus);
    add_cpus(out, "mems", report->cpuset.mems);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        json_object_set_new(out, numbers[i].key, number(numbers[i].value));
    json_object_set_new(out, "sched_relax_domain_level", json_integer(report->cpuset.sched_relax_domain_level));
    return out;
}

static json_t *memory_use(const struct cgroup_memory_use *use)
{
    json_t *out = json_object();
    json_object_set_new(out, "limit", number(use->limit));
    add(out, "usage", use->usage);
    add(out, "max", use->max_usage);
    json_object_set_new(out, "failcnt", number(use->failures));
    return out;
}

static json_t *memory_of(const struct cgroup_report *report)
{
    json_t *out = json_object(), *raw = json_object();
    add(out, "cache", report->memory.cache);
    json_object_set_new(out, "usage", memory_use(&report->memory.memory));
    json_object_set_new(out, "swap", memory_use(&report->memory.with_swap));
    json_object_set_new(out, "kernel", memory_use(&report->memory.kernel));
    json_object_set_new(out, "kernelTCP", memory_use(&report->memory.kernel_tcp));
    for (size_t i = 0; i < report->memory.raw.len; i++)
        json_object_set_new(raw, report->memory.raw.items[i].name, number(report->memory.raw.items[i].value));
    json_object_set_new(out, "raw", raw);
    add_pressure(out, &report->memory.pressure);
    return out;
}

static void add_io(json_t *object, const char *key, const struct cgroup_io_entries *entries)
{
    json_t *list = json_array();
    for (size_t i = 0; i < entries->len; i++) {
        json_t *entry = json_object();
        add(entry, "major", entries->items[i].major);
        add(entry, "minor", entries->items[i].minor);
        if (entries->items[i].operation[0])
            json_object_set_new(entry, "op", json_string(entries->items[i].operation));
        add(entry, "value", entries->items[i].value);
        json_array_append_new(list, entry);
    }
    if (json_array_size(list))
        json_object_set(object, key, list);
    json_decref(list);
}

static json_t *io_of(const struct cgroup_report *report)
{
    json_t *out = json_object();
    add_io(out, "ioServiceBytesRecursive", &report->io.service_bytes);
    add_io(out, "ioServicedRecursive", &report->io.serviced);
    add_io(out, "ioQueueRecursive", &report->io.queued);
    add_io(out, "ioServiceTimeRecursive", &report->io.service_time);
    add_io(out, "ioWaitTimeRecursive", &report->io.wait_time);
    add_io(out, "ioMergedRecursive", &report->io.merged);
    add_io(out, "ioTimeRecursive", &report->io.time);
    add_io(out, "sectorsRecursive", &report->io.sectors);
    add_pressure(out, &report->io.pressure);
    return out;
}

static json_t *stats_of(const struct container *container, const struct cgroup_report *report)
{
    json_t *pids = json_object(), *huge = json_object();
    add(pids, "current", report->pids_current);
    add(pids, "limit", report->pids_limit);
    for (size_t i = 0; i < report->huge_page_len; i++) {
        json_t *use = json_object();
        add(use, "usage", report->huge_pages[i].usage);
        add(use, "max", report->huge_pages[i].max_usage);
        json_object_set_new(use, "failcnt", number(report->huge_pages[i].failures));
        json_object_set_new(huge, report->huge_pages[i].page_size, use);
    }
    return json_pack("{s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:n}", "cpu", cpu_of(report), "cpuset", cpuset_of(report), "memory",
                     memory_of(report), "pids", pids, "blkio", io_of(report), "hugetlb", huge, "intel_rdt", rdt_stats(container),
                     "network_interfaces");
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
    struct cgroup_report report;
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    if (cgroup_report(cgroup, &arena, &report, err) < 0)
        return -1;
    print_event("stats", container->id, stats_of(container, &report));
    return 0;
}

static int follow(struct container *container, struct cgroup *cgroup, int64_t interval, struct err *err)
{
    int64_t next = clock_mono_ns() + interval, kills = cgroup_oom_kills(cgroup);
    _cleanup_close_ int oom = cgroup_oom_fd(cgroup, err);
    if (oom < 0)
        return -1;
    while (container_alive(container)) {
        struct pollfd fd = { .fd = oom, .events = POLLIN };
        int64_t left = MAX_OF(next - clock_mono_ns(), INT64_C(0));
        // The end of the container is looked for four times a second.
        if (poll(&fd, 1, (int)(MIN_OF(left, NS_PER_S / 4) / NS_PER_MS) + 1) > 0)
            cgroup_oom_read(oom);
        for (int64_t now = cgroup_oom_kills(cgroup); kills < now; kills++)
            print_event("oom", container->id, NULL);
        if (clock_mono_ns() < next)
            continue;
        next += interval;
        if (container_alive(container) && print_stats(container, cgroup, err) < 0)
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
    if (result == 0)
        result = container_load_config(&container, err);
    if (result == 0 && (result = container_cgroup(&container, &cgroup, err)) == 0 && !cgroup)
        result = err_set(err, ERR_NOT_IMPLEMENTED, "the container has no cgroup");
    if (result == 0)
        result = args_flag(&call->args, "stats") ? print_stats(&container, cgroup, err) : follow(&container, cgroup, interval, err);
    cgroup_free(cgroup);
    container_done(&container);
    return result;
}
