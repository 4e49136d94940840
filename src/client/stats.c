// stats: two samples of each container, once or again and again.
#include <poll.h>

#include "client/rows.h"
#include "client/text.h"
#include "base/clock.h"

#define CONTAINERS_MAX 1024
#define PERIOD_MS 500

static double sum_of(const json_t *list, char first)
{
    double sum = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);
        const char *op = json_get_text(one, "op", "");
        if (*op == first || *op == first - 'a' + 'A')
            sum += (double)json_get_int(one, "value", 0);
    }
    return sum;
}

static double cpu_percent(json_t *stats)
{
    json_t *now = json_object_get(stats, "cpu_stats"), *before = json_object_get(stats, "precpu_stats");
    double used = (double)(json_get_int(json_object_get(now, "cpu_usage"), "total_usage", 0) -
                           json_get_int(json_object_get(before, "cpu_usage"), "total_usage", 0));
    double all = (double)(json_get_int(now, "system_cpu_usage", 0) - json_get_int(before, "system_cpu_usage", 0));
    double cpus = (double)json_get_int(now, "online_cpus", 0);
    if (cpus <= 0)
        cpus = (double)json_array_size(json_object_get(json_object_get(now, "cpu_usage"), "percpu_usage"));
    return all > 0 && used > 0 ? used / all * cpus * 100 : 0;
}

// Without the page cache that nobody has used lately.
static double memory_used(const json_t *memory)
{
    const json_t *detail = json_object_get(memory, "stats");
    int64_t usage = json_get_int(memory, "usage", 0);
    int64_t cache = json_get_int(detail, "total_inactive_file", json_get_int(detail, "inactive_file", 0));
    return (double)(cache > 0 && cache < usage ? usage - cache : usage);
}

static void put_numbers(json_t *row, json_t *stats)
{
    const json_t *memory = json_object_get(stats, "memory_stats"), *blocks = json_object_get(json_object_get(stats, "blkio_stats"), "io_service_bytes_recursive");
    double used = memory_used(memory), limit = (double)json_get_int(memory, "limit", 0), in = 0, out = 0;
    char a[TEXT_SIZE], b[TEXT_SIZE];
    const char *key;
    json_t *network;
    json_object_foreach(json_object_get(stats, "networks"), key, network) {
        in += (double)json_get_int(network, "rx_bytes", 0);
        out += (double)json_get_int(network, "tx_bytes", 0);
    }
    row_putf(row, "CPUPerc", "%.2f%%", cpu_percent(stats));
    row_putf(row, "MemUsage", "%s / %s", text_size_1024(used, a), text_size_1024(limit, b));
    row_putf(row, "MemPerc", "%.2f%%", limit > 0 ? used / limit * 100 : 0.0);
    row_putf(row, "NetIO", "%s / %s", text_size(in, 3, a), text_size(out, 3, b));
    row_putf(row, "BlockIO", "%s / %s", text_size(sum_of(blocks, 'r'), 3, a), text_size(sum_of(blocks, 'w'), 3, b));
    row_putf(row, "PIDs", "%lld", (long long)json_get_int(json_object_get(stats, "pids_stats"), "current", 0));
}

static json_t *stats_row(const char *asked, json_t *stats, bool no_trunc)
{
    static const char *const keys[] = { "CPUPerc", "MemPerc", "NetIO", "BlockIO", "PIDs" };
    json_t *row = json_object();
    char id[TEXT_SIZE];
    const char *name = json_get_text(stats, "name", "");
    row_put(row, "Container", asked);
    row_put(row, "Name", strlen(name) > 1 ? name + 1 : "--");
    row_put(row, "ID", text_id(json_get_text(stats, "id", ""), no_trunc, id));
    if (stats) {
        put_numbers(row, stats);
        return row;
    }
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        row_put(row, keys[i], "--");
    row_put(row, "MemUsage", "-- / --");
    return row;
}

// The ids of what runs, where no names are given.
static int add_running(struct call *call, struct strv *names, struct err *err)
{
    _cleanup_json_ json_t *containers = NULL;
    size_t i;
    json_t *one;
    if (api_json(call->client, "GET", flag_on(&call->flags, "all") ? "/containers/json?all=1" : "/containers/json", NULL, &containers, err) < 0)
        return -1;
    json_array_foreach(containers, i, one)
        if (names->len < CONTAINERS_MAX)
            strv_add(names, json_get_text(one, "Id", ""));
    return 0;
}

// All are asked before the first is read: each answer takes the daemon a second.
struct sample {
    struct http_exchange x;
    bool open;
    json_t *stats;
};

static void ask(struct client *client, const char *name, struct sample *sample, struct err *err)
{
    _cleanup_buf_ struct buf path = PATH_INIT;
    if (api_open(client, &sample->x, err) < 0)
        return;
    buf_addf(&path, "/v1.%d", client->api);
    path_put(&path, "/containers/", name, "/stats?stream=0");
    sample->open = http_exchange_send(&sample->x, "GET", buf_text(&path), "", (struct slice){ 0 }, err) == 0;
    if (!sample->open)
        http_exchange_done(&sample->x);
}

static void read_sample(struct client *client, struct sample *sample, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(4u << 20);
    if (!sample->open)
        return;
    if (http_exchange_receive(&sample->x, err) == 0 && api_check(&sample->x, err) == 0 && api_read_all(&sample->x, &text, err) == 0)
        json_parse(buf_text(&text), text.size, &sample->stats, err);
    api_close(client, &sample->x);
}

static int sample_all(struct call *call, const struct strv *names, struct row *rows, struct err *err)
{
    struct sample *samples = mem_alloc((names->len + 1) * sizeof(*samples));
    struct err first;
    err_clear(&first);
    for (size_t i = 0; i < names->len; i++)
        ask(call->client, names->items[i], &samples[i], err);
    for (size_t i = 0; i < names->len; i++) {
        err_clear(err);
        read_sample(call->client, &samples[i], err);
        if (!samples[i].stats && !first.class)
            first = *err;
        char id[TEXT_SIZE];
        const char *asked = call->args.len ? names->items[i] : text_id(names->items[i], false, id);
        rows[i] = (struct row){ stats_row(asked, samples[i].stats, flag_on(&call->flags, "no-trunc")), NULL };
        json_decref(samples[i].stats);
    }
    free(samples);
    *err = first;
    return first.class ? -1 : 0;
}

static int show_once(struct call *call, const struct list *list, struct err *err)
{
    _cleanup_strv_ struct strv names = { 0 };
    for (size_t i = 0; i < call->args.len; i++)
        strv_add(&names, call->args.items[i]);
    if (!call->args.len && add_running(call, &names, err) < 0)
        return -1;
    struct row *rows = mem_alloc((names.len + 1) * sizeof(*rows));
    int sampled = sample_all(call, &names, rows, err);
    bool named = call->args.len > 0;
    int result = sampled < 0 && named ? -1 : list_print(list, rows, names.len, err);
    for (size_t i = 0; i < names.len; i++)
        json_decref(rows[i].fields);
    free(rows);
    return result;
}

int command_stats(struct call *call, struct err *err)
{
    static const struct column columns[] = { { "Container", "CONTAINER" }, { "Name", "NAME" }, { "ID", "CONTAINER ID" }, { "CPUPerc", "CPU %" },
                                             { "MemUsage", "MEM USAGE / LIMIT" }, { "MemPerc", "MEM %" }, { "NetIO", "NET I/O" },
                                             { "BlockIO", "BLOCK I/O" }, { "PIDs", "PIDS" } };
    const char *format = flag_text(&call->flags, "format");
    struct list list = { .format = format ? format : json_get_text(client_config(call->client), "statsFormat", NULL),
                         .table = "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
                         .type = "*container.statsContext", .columns = columns, .columns_len = ARRAY_LEN(columns) };
    bool once = flag_on(&call->flags, "no-stream"), terminal = on_terminal(STDOUT_FILENO);
    for (;;) {
        if (terminal && !once)
            fputs("\033[H\033[2J", stdout);
        int64_t begun = clock_mono_ns();
        if (show_once(call, &list, err) < 0 || flush_output(err) < 0)
            return -1;
        if (once)
            return 0;
        int64_t rest = PERIOD_MS - (clock_mono_ns() - begun) / NS_PER_MS; // a sample takes longer, but where no container is nothing does
        if (rest > 0)
            poll(NULL, 0, (int)rest);
    }
}
