// GET /containers/{id}/stats and /top. A sample carries the one before it: clients make rates of the two.
#include "api_private.h"

#define EVERY_NS NS_PER_S

static json_t *shape_io(const struct cgroup_io_entries *entries)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < entries->len; i++)
        json_array_append_new(rows, json_pack("{s:I, s:I, s:s, s:I}", "major", (json_int_t)entries->items[i].major, "minor",
                                              (json_int_t)entries->items[i].minor, "op", entries->items[i].operation, "value",
                                              (json_int_t)entries->items[i].value));
    return rows;
}

static json_t *shape_cpu(const struct engine_use *use)
{
    const struct cgroup_report *report = &use->report;
    json_t *usage = json_pack("{s:I, s:I, s:I}", "total_usage", (json_int_t)report->cpu.total_ns, "usage_in_kernelmode",
                              (json_int_t)report->cpu.system_ns, "usage_in_usermode", (json_int_t)report->cpu.user_ns);
    json_t *each = json_array();
    for (size_t i = 0; i < report->cpu.cpu_len; i++)
        json_array_append_new(each, json_integer((json_int_t)report->cpu.total_per_cpu_ns[i]));
    if (json_array_size(each))
        json_object_set(usage, "percpu_usage", each);
    json_decref(each);
    json_t *throttling = json_pack("{s:I, s:I, s:I}", "periods", (json_int_t)report->cpu.periods, "throttled_periods",
                                   (json_int_t)report->cpu.throttled_periods, "throttled_time",
                                   (json_int_t)report->cpu.throttled_ns);
    json_t *cpu = json_pack("{s:o, s:o}", "cpu_usage", usage, "throttling_data", throttling);
    if (use->running) {
        json_object_set_new(cpu, "system_cpu_usage", json_integer(use->system_cpu_ns));
        json_object_set_new(cpu, "online_cpus", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
    }
    return cpu;
}

static json_t *shape_memory(const struct engine_use *use)
{
    const struct cgroup_memory_use *memory = &use->report.memory.memory;
    json_t *stats = json_object();
    if (!use->running)
        return stats;
    for (size_t i = 0; i < use->report.memory.raw.len; i++)
        json_object_set_new(stats, use->report.memory.raw.items[i].name,
                            json_integer((json_int_t)use->report.memory.raw.items[i].value));
    // Without a limit of its own a container has the host's memory.
    int64_t limit = memory->limit && memory->limit < (uint64_t)use->memory_host ? (int64_t)memory->limit : use->memory_host;
    json_t *shaped = json_pack("{s:I, s:o, s:I}", "usage", (json_int_t)memory->usage, "stats", stats, "limit", (json_int_t)limit);
    if (memory->max_usage)
        json_object_set_new(shaped, "max_usage", json_integer((json_int_t)memory->max_usage));
    if (memory->failures)
        json_object_set_new(shaped, "failcnt", json_integer((json_int_t)memory->failures));
    return shaped;
}

static json_t *shape_interfaces(const struct engine_use *use)
{
    json_t *all = json_object();
    for (size_t i = 0; i < use->interface_len; i++) {
        const struct engine_interface *one = &use->interfaces[i];
        json_object_set_new(all, one->name,
                            json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "rx_bytes", (json_int_t)one->rx_bytes,
                                      "rx_packets", (json_int_t)one->rx_packets, "rx_errors", (json_int_t)one->rx_errors,
                                      "rx_dropped", (json_int_t)one->rx_dropped, "tx_bytes", (json_int_t)one->tx_bytes,
                                      "tx_packets", (json_int_t)one->tx_packets, "tx_errors", (json_int_t)one->tx_errors,
                                      "tx_dropped", (json_int_t)one->tx_dropped));
    }
    return all;
}

static json_t *shape_pids(const struct engine_use *use)
{
    json_t *pids = json_object();
    if (use->running)
        json_object_set_new(pids, "current", json_integer((json_int_t)use->report.pids_current));
    if (use->running && use->report.pids_limit)
        json_object_set_new(pids, "limit", json_integer((json_int_t)use->report.pids_limit));
    return pids;
}

static json_t *shape_use(const struct engine_use *use, const struct engine_use *before)
{
    // Of a scheduler that kernels no longer have; Docker's clients look for the keys.
    static const char *const never[] = { "io_queue_recursive", "io_service_time_recursive", "io_wait_time_recursive", "io_merged_recursive",
                                         "io_time_recursive",  "sectors_recursive" };
    const struct cgroup_report *report = &use->report;
    json_t *io = json_pack("{s:o, s:o}", "io_service_bytes_recursive", shape_io(&report->io.service_bytes), "io_serviced_recursive",
                           shape_io(&report->io.serviced));
    for (size_t i = 0; i < ARRAY_LEN(never); i++)
        json_object_set_new(io, never[i], json_null());
    json_t *object = json_pack("{s:o, s:o, s:o, s:o, s:i, s:{}, s:o, s:o, s:o, s:o, s:s}", "read", shape_time(use->read_ns), "preread",
                               shape_time(before->read_ns), "pids_stats", shape_pids(use), "blkio_stats", io, "num_procs", 0,
                               "storage_stats", "cpu_stats", shape_cpu(use), "precpu_stats", shape_cpu(before), "memory_stats",
                               shape_memory(use), "name", json_sprintf("/%s", use->name), "id", use->id);
    if (use->interface_len)
        json_object_set_new(object, "networks", shape_interfaces(use));
    return object;
}

// ---- the stream -----------------------------------------------------------------------------------------------------

static int write_line(struct call *call, json_t *take_object)
{
    _cleanup_free_ char *text = json_dumps(take_object, JSON_COMPACT);
    json_decref(take_object);
    if (!httpd_answered(call->request) && httpd_stream_begin(call->request, 200, "application/json") < 0)
        return -1;
    _cleanup_free_ char *line = mem_printf("%s\n", text);
    return httpd_stream_write(call->request, line, strlen(line));
}

// Two samples in turns, each in an arena of its own.
struct samples {
    struct arena arenas[2];
    struct engine_use uses[2];
    unsigned now;
};

static void samples_done(struct samples *samples)
{
    arena_done(&samples->arenas[0]);
    arena_done(&samples->arenas[1]);
}

static int sample(struct call *call, struct samples *samples, struct err *err)
{
    samples->now ^= 1;
    arena_done(&samples->arenas[samples->now]);
    samples->arenas[samples->now] = (struct arena)ARENA_INIT;
    return engine_use(call->engine, call->values[0], &samples->arenas[samples->now], &samples->uses[samples->now], err);
}

static int rest(struct call *call)
{
    struct err ignored = { 0 };
    return cancel_wait(httpd_cancel(call->request), -1, clock_mono_ns() + EVERY_NS, &ignored);
}

// Without a stream: one object, of two samples a second apart, or of one alone when the client is in a hurry. A stream ends with
// the client or with the container's removal, not with its stop.
int handle_container_stats(struct call *call, struct err *err)
{
    _cleanup_(samples_done) struct samples samples = { .arenas = { ARENA_INIT, ARENA_INIT } };
    bool stream = httpd_query_flag(call->request, "stream", true), hurry = httpd_query_flag(call->request, "one-shot", false);
    if (stream && hurry)
        return err_set(err, ERR_INVALID_ARGUMENT, "cannot have stream=true and one-shot=true");
    if (sample(call, &samples, err) < 0)
        return -1;
    if (!stream && !hurry && samples.uses[samples.now].running && (rest(call) < 0 || sample(call, &samples, err) < 0))
        return -1;
    if (!stream)
        return reply_json(call, 200, shape_use(&samples.uses[samples.now], &samples.uses[samples.now ^ 1]));
    struct err ended = { 0 };
    while (write_line(call, shape_use(&samples.uses[samples.now], &samples.uses[samples.now ^ 1])) == 0 && rest(call) == 0 &&
           sample(call, &samples, &ended) == 0)
        ;
    httpd_stream_end(call->request);
    return 0;
}

// ---- top ------------------------------------------------------------------------------------------------------------

int handle_container_top(struct call *call, struct err *err)
{
    struct engine_processes processes;
    if (engine_top(call->engine, call->values[0], httpd_query(call->request, "ps_args"), call->arena, &processes, err) < 0)
        return -1;
    json_t *rows = json_array();
    for (size_t i = 0; i < processes.len; i++)
        json_array_append_new(rows, shape_texts(&processes.rows[i]));
    return reply_json(call, 200, json_pack("{s:o, s:o}", "Titles", shape_texts(&processes.titles), "Processes", rows));
}
