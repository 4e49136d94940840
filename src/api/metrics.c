// GET /metrics: what this daemon is and does, in Prometheus' text form. dockerd's names where they mean the same (its dashboards
// work), berth_container_* for each running container.
#include <fcntl.h>
#include <sys/resource.h>

#include "api_private.h"
#include "base/file.h"

#define TEXT_MAX (64u << 20)
#define LABEL_MAX 256 // bytes of a label's value

// A quoted label value, as the text form wants it.
static void add_label(struct buf *text, const char *name, const char *value, bool first)
{
    struct slice rest = slice_utf8_head(slice_of(value ? value : ""), LABEL_MAX);
    buf_addf(text, "%s%s=\"", first ? "{" : ",", name);
    for (size_t i = 0; i < rest.size; i++) {
        if (rest.data[i] == '"' || rest.data[i] == '\\')
            buf_addc(text, '\\');
        if (rest.data[i] == '\n')
            buf_adds(text, "\\n");
        else
            buf_addc(text, rest.data[i]);
    }
    buf_addc(text, '"');
}

static void add_head(struct buf *text, const char *name, const char *type, const char *help)
{
    buf_addf(text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void add_number(struct buf *text, const char *name, const char *type, const char *help, double value)
{
    add_head(text, name, type, help);
    buf_addf(text, "%s %.17g\n", name, value);
}

// ---- the daemon -----------------------------------------------------------------------------------------------------

static void add_engine(struct buf *text, const struct engine_info *info)
{
    const char *const labels[][2] = { { "architecture", info->architecture }, { "daemon_id", info->id }, { "graphdriver", info->driver },
                                      { "kernel", info->kernel_version }, { "os", info->operating_system }, { "os_type", "linux" },
                                      { "os_version", info->os_version }, { "version", BERTH_VERSION } };
    add_head(text, "engine_daemon_engine_info", "gauge", "The information related to the engine and the OS it is running on");
    buf_adds(text, "engine_daemon_engine_info");
    for (size_t i = 0; i < ARRAY_LEN(labels); i++)
        add_label(text, labels[i][0], labels[i][1], i == 0);
    buf_adds(text, "} 1\n");
    add_number(text, "engine_daemon_engine_cpus_cpus", "gauge", "The number of cpus that the host system of the engine has", (double)info->cpus);
    add_number(text, "engine_daemon_engine_memory_bytes", "gauge", "The number of bytes of memory that the host system of the engine has",
               (double)info->memory);
    add_head(text, "engine_daemon_container_states_containers", "gauge", "The count of containers in various states");
    buf_addf(text, "engine_daemon_container_states_containers{state=\"paused\"} %lld\n", (long long)info->paused);
    buf_addf(text, "engine_daemon_container_states_containers{state=\"running\"} %lld\n", (long long)info->running);
    buf_addf(text, "engine_daemon_container_states_containers{state=\"stopped\"} %lld\n", (long long)info->stopped);
    add_number(text, "engine_daemon_events_total", "counter", "The number of events logged", (double)info->events);
    add_number(text, "engine_daemon_events_subscribers_total", "gauge", "The number of current subscribers to events",
               (double)info->event_listeners);
    add_number(text, "berth_images", "gauge", "Images that the engine has", (double)info->images);
}

static double resident_bytes(void)
{
    _cleanup_buf_ struct buf text = BUF_INIT(256);
    struct slice rest, word;
    uint64_t pages = 0;
    if (file_read_at(AT_FDCWD, "/proc/self/statm", &text, NULL) < 0)
        return 0;
    rest = slice_of(buf_text(&text));
    slice_cut(&rest, ' ', &word);
    if (!slice_cut(&rest, ' ', &word) || !num_parse_u64(word, UINT64_MAX, &pages))
        return 0;
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static double seconds_of(const struct timeval *time)
{
    return (double)time->tv_sec + (double)time->tv_usec / 1e6;
}

static void add_process(struct buf *text)
{
    struct rusage use = { 0 };
    struct rlimit files = { 0 };
    _cleanup_strv_ struct strv open_files = { 0 };
    getrusage(RUSAGE_SELF, &use);
    getrlimit(RLIMIT_NOFILE, &files);
    file_list_names(AT_FDCWD, "/proc/self/fd", &open_files, NULL);
    add_number(text, "process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.",
               seconds_of(&use.ru_utime) + seconds_of(&use.ru_stime));
    add_number(text, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", resident_bytes());
    add_number(text, "process_open_fds", "gauge", "Number of open file descriptors.", (double)open_files.len);
    add_number(text, "process_max_fds", "gauge", "Maximum number of open file descriptors.", (double)files.rlim_cur);
}

// ---- containers -----------------------------------------------------------------------------------------------------

static double sum_of(const struct cgroup_io_entries *entries, char operation)
{
    double sum = 0;
    for (size_t i = 0; i < entries->len; i++)
        sum += (entries->items[i].operation[0] | 32) == operation ? (double)entries->items[i].value : 0;
    return sum;
}

static double cpu_seconds(const struct engine_use *use)
{
    return (double)use->report.cpu.total_ns / 1e9;
}

static double memory_bytes(const struct engine_use *use)
{
    return (double)use->report.memory.memory.usage;
}

// What the container may have: the host's memory where it has no limit.
static double memory_limit(const struct engine_use *use)
{
    double limit = (double)use->report.memory.memory.limit, host = (double)use->memory_host;
    return limit > 0 && limit < host ? limit : host;
}

static double read_bytes(const struct engine_use *use)
{
    return sum_of(&use->report.io.service_bytes, 'r');
}

static double written_bytes(const struct engine_use *use)
{
    return sum_of(&use->report.io.service_bytes, 'w');
}

static double received_bytes(const struct engine_use *use)
{
    double sum = 0;
    for (size_t i = 0; i < use->interface_len; i++)
        sum += (double)use->interfaces[i].rx_bytes;
    return sum;
}

static double sent_bytes(const struct engine_use *use)
{
    double sum = 0;
    for (size_t i = 0; i < use->interface_len; i++)
        sum += (double)use->interfaces[i].tx_bytes;
    return sum;
}

static double processes(const struct engine_use *use)
{
    return (double)use->report.pids_current;
}

static const struct {
    const char *name, *type, *help;
    double (*value)(const struct engine_use *use);
} measures[] = {
    { "berth_container_cpu_seconds_total", "counter", "CPU time that the container has used", cpu_seconds },
    { "berth_container_memory_usage_bytes", "gauge", "Memory that the container holds, caches included", memory_bytes },
    { "berth_container_memory_limit_bytes", "gauge", "Memory that the container may hold", memory_limit },
    { "berth_container_io_read_bytes_total", "counter", "Bytes read from disks", read_bytes },
    { "berth_container_io_written_bytes_total", "counter", "Bytes written to disks", written_bytes },
    { "berth_container_network_received_bytes_total", "counter", "Bytes received", received_bytes },
    { "berth_container_network_sent_bytes_total", "counter", "Bytes sent", sent_bytes },
    { "berth_container_processes", "gauge", "Processes and threads of the container", processes },
};

static void add_containers(struct buf *text, const struct engine_container *containers, const struct engine_use *uses, size_t len)
{
    for (size_t m = 0; m < ARRAY_LEN(measures); m++) {
        add_head(text, measures[m].name, measures[m].type, measures[m].help);
        for (size_t i = 0; i < len; i++) {
            if (!uses[i].running)
                continue;
            buf_adds(text, measures[m].name);
            add_label(text, "id", containers[i].id, true);
            add_label(text, "image", containers[i].image_name, false);
            add_label(text, "name", containers[i].name, false);
            buf_addf(text, "} %.17g\n", measures[m].value(&uses[i]));
        }
    }
}

static int collect(struct call *call, struct buf *text, struct err *err)
{
    struct engine_info info;
    struct engine_container *containers;
    size_t len;
    if (engine_info(call->engine, call->arena, &info, err) < 0)
        return -1;
    engine_list(call->engine, false, call->arena, &containers, &len);
    struct engine_use *uses = arena_alloc(call->arena, (len + 1) * sizeof(*uses));
    for (size_t i = 0; i < len; i++)
        if (engine_use(call->engine, containers[i].id, call->arena, &uses[i], NULL) < 0)
            uses[i].running = false; // it went meanwhile
    add_engine(text, &info);
    add_process(text);
    add_containers(text, containers, uses, len);
    return buf_check(text, "metrics", err);
}

enum httpd_body api_body_metrics(void *context, struct httpd_request *request)
{
    return HTTPD_BODY_TEXT;
}

void api_handle_metrics(void *context, struct httpd_request *request)
{
    struct api *api = context;
    struct call call = { .engine = api->engine, .request = request, .arena = httpd_arena(request) };
    _cleanup_buf_ struct buf text = BUF_INIT(TEXT_MAX);
    struct err err = { 0 };
    if (!str_eq(httpd_path(request), "/metrics") || !str_eq(httpd_method(request), "GET"))
        httpd_reply(request, 404, "text/plain; charset=utf-8", "404 page not found\n", strlen("404 page not found\n"));
    else if (collect(&call, &text, &err) < 0)
        reply_error(request, &err);
    else
        httpd_reply(request, 200, "text/plain; version=0.0.4; charset=utf-8", text.data, text.size);
}
