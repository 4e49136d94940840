// What a container uses, and its processes: top and stats. Both read the host's files; the container is not asked.
#include <fcntl.h>

#include "base/file.h"
#include "base/num.h"
#include "base/process.h"
#include "namespaces.h"
#include "vm.h"

enum { PS_OUTPUT_MAX = 16 << 20, PS_ARGS_MAX = 64, PROC_MAX = 1 << 20 };

void container_cgroup_path(const struct container *container, char out[CONTAINER_CGROUP_SIZE])
{
    const char *parent = container->config.host_config.cgroup_parent;
    if (str_empty(parent))
        snprintf(out, CONTAINER_CGROUP_SIZE, "berth-%s/%s", container->engine->id, container->id);
    else
        snprintf(out, CONTAINER_CGROUP_SIZE, "%s/%s", parent + strspn(parent, "/"), container->id);
}

static int open_cgroup(const struct container *container, struct cgroup **out, struct err *err)
{
    char path[CONTAINER_CGROUP_SIZE];
    container_cgroup_path(container, path);
    return cgroup_open(&container->engine->cgroups, path, out, err);
}

// The pid of its first process; 0 when it does not run.
static int64_t pid_of(struct container *container)
{
    mutex_lock(&container->lock);
    int64_t pid = container_is_live(container) ? container->state.pid : 0;
    mutex_unlock(&container->lock);
    return pid;
}

// ---- stats ----------------------------------------------------------------------------------------------------------

// "cpu  user nice system idle iowait irq softirq steal ..." in ticks; guests' time is in user's already.
static int read_system_cpu(int64_t *out_ns, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(PROC_MAX);
    struct slice line, word;
    uint64_t ticks = 0, sum = 0;
    if (file_read_at(AT_FDCWD, "/proc/stat", &text, err) < 0)
        return -1;
    struct slice rest = { text.data, text.size };
    slice_cut(&rest, '\n', &line);
    for (int i = 0; i < 8 && slice_cut(&line, ' ', &word);) {
        if (word.size == 0 || !num_parse_u64(word, UINT64_MAX, &ticks))
            continue; // "cpu", and the blanks behind it
        sum += ticks;
        i++;
    }
    *out_ns = (int64_t)(sum * (uint64_t)(NS_PER_S / sysconf(_SC_CLK_TCK)));
    return 0;
}

// "  eth0: rx_bytes packets errs drop fifo frame compressed multicast tx_bytes packets errs drop ..."
static bool parse_interface(struct slice line, struct arena *arena, struct engine_interface *out)
{
    struct slice name, word;
    uint64_t numbers[12];
    size_t len = 0;
    if (!slice_cut(&line, ':', &name) || !line.data)
        return false;
    while (len < ARRAY_LEN(numbers) && slice_cut(&line, ' ', &word))
        if (word.size && !num_parse_u64(word, UINT64_MAX, &numbers[len++]))
            return false;
    name = slice_trim(name);
    if (len < ARRAY_LEN(numbers) || slice_eq(name, "lo"))
        return false;
    *out = (struct engine_interface){ arena_strndup(arena, name.data, name.size), numbers[0], numbers[1], numbers[2], numbers[3],
                                      numbers[8], numbers[9], numbers[10], numbers[11] };
    return true;
}

// Of the network namespace that the process is in. One that is gone has none.
static void read_interfaces(int64_t pid, struct arena *arena, struct engine_use *out)
{
    enum { INTERFACES_MAX = 64 };
    char path[64];
    _cleanup_buf_ struct buf text = BUF_INIT(PROC_MAX);
    struct slice line;
    snprintf(path, sizeof(path), "/proc/%lld/net/dev", (long long)pid);
    if (file_read_at(AT_FDCWD, path, &text, NULL) < 0)
        return;
    struct slice rest = { text.data, text.size };
    out->interfaces = arena_alloc(arena, INTERFACES_MAX * sizeof(*out->interfaces));
    while (slice_cut(&rest, '\n', &line) && out->interface_len < INTERFACES_MAX)
        if (parse_interface(line, arena, &out->interfaces[out->interface_len]))
            out->interface_len++;
}

int engine_use(struct engine *engine, const char *ref, struct arena *arena, struct engine_use *out, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    _cleanup_(cgroup_freep) struct cgroup *cgroup = NULL;
    if (!container)
        return -1;
    *out = (struct engine_use){ .id = arena_strdup(arena, container->id) };
    mutex_lock(&engine->list_lock);
    out->name = arena_strdup(arena, container->name);
    mutex_unlock(&engine->list_lock);
    int64_t pid = pid_of(container);
    struct err ended = { 0 }; // it may end at any moment: then it does not run
    if (!pid || open_cgroup(container, &cgroup, &ended) < 0 || cgroup_report(cgroup, arena, &out->report, &ended) < 0)
        return 0;
    out->running = true;
    out->read_ns = clock_wall_ns();
    out->memory_host = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    if (!str_eq(namespaces_network(&container->config), "host")) // those are not the container's
        read_interfaces(pid, arena, out);
    return read_system_cpu(&out->system_cpu_ns, err);
}

// ---- top ------------------------------------------------------------------------------------------------------------

static int run_ps(const char *args, struct buf *output, struct err *err)
{
    _cleanup_strv_ struct strv words = { 0 };
    struct slice rest = slice_of(str_empty(args) ? "-ef" : args), word;
    strv_add(&words, "ps");
    while (slice_cut(&rest, ' ', &word) && words.len <= PS_ARGS_MAX)
        if (word.size)
            strv_addf(&words, "%.*s", (int)word.size, word.data);
    return process_run(words.items, NULL, output, err) < 0 ? err_wrap(err, "ps") : 0;
}

// Words between blanks; the last of `columns` is what is left of the line. 0 columns: as many as there are.
static void split(struct slice line, size_t columns, struct arena *arena, struct strv *out)
{
    struct slice rest = slice_trim(line), word;
    while (rest.data && rest.size) {
        if (columns && out->len + 1 == columns) {
            strv_push_arena(out, arena, arena_strndup(arena, rest.data, rest.size));
            return;
        }
        slice_cut(&rest, ' ', &word);
        strv_push_arena(out, arena, arena_strndup(arena, word.data, word.size));
        rest = rest.data ? slice_trim(rest) : rest;
    }
}

static int pid_column(const struct strv *titles)
{
    for (size_t i = 0; i < titles->len; i++)
        if (str_eq(titles->items[i], "PID"))
            return (int)i;
    return -1;
}

static bool is_one_of(const char *text, const pid_t *pids, size_t len)
{
    uint64_t pid;
    for (size_t i = 0; num_parse_u64(slice_of(text), INT32_MAX, &pid) && i < len; i++)
        if ((uint64_t)pids[i] == pid)
            return true;
    return false;
}

static int parse_ps(const struct buf *output, const pid_t *pids, size_t len, struct arena *arena, struct engine_processes *out,
                    struct err *err)
{
    struct slice rest = { output->data, output->size }, line;
    if (!slice_cut(&rest, '\n', &line))
        return err_set(err, ERR_INTERNAL, "ps says nothing");
    split(line, 0, arena, &out->titles);
    int column = pid_column(&out->titles);
    if (column < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "Couldn't find PID field in ps output");
    out->rows = arena_alloc(arena, (len + 1) * sizeof(*out->rows));
    while (out->len < len && slice_cut(&rest, '\n', &line)) {
        struct strv row = { 0 };
        split(line, out->titles.len, arena, &row);
        if (row.len > (size_t)column && is_one_of(row.items[column], pids, len))
            out->rows[out->len++] = row;
    }
    return 0;
}

int engine_top(struct engine *engine, const char *ref, const char *ps_args, struct arena *arena, struct engine_processes *out,
               struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    _cleanup_(cgroup_freep) struct cgroup *cgroup = NULL;
    _cleanup_free_ pid_t *pids = NULL;
    _cleanup_buf_ struct buf output = BUF_INIT(PS_OUTPUT_MAX);
    size_t len = 0;
    *out = (struct engine_processes){ 0 };
    if (!container)
        return -1;
    if (vm_wanted(&container->config.host_config))
        return err_set(err, ERR_NOT_IMPLEMENTED, "top of a microVM is not supported yet: its processes are its own kernel's");
    if (!pid_of(container))
        return err_set(err, ERR_CONFLICT, "container %s is not running", container->id);
    // The processes first: one that starts after that is not shown, one that ends is not found.
    if (open_cgroup(container, &cgroup, err) < 0 || cgroup_pids(cgroup, &pids, &len, err) < 0 || run_ps(ps_args, &output, err) < 0)
        return -1;
    if (parse_ps(&output, pids, len, arena, out, err) < 0)
        return -1;
    event_container(container, "top", NULL);
    return 0;
}
