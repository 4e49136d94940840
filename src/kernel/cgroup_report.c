#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/num.h"
#include "cgroup_private.h"
#include "kernel/cgroup_report.h"

#define FILE_MAX (1 << 20)
#define LINES_MAX 65536 // of one file; more devices or counters than that are cut off

// "max" and what is not there are the fallback.
static uint64_t number(int dir_fd, const char *file, uint64_t fallback)
{
    _cleanup_buf_ struct buf text = BUF_INIT(256);
    uint64_t value;
    if (dir_fd < 0 || cgroup_read(dir_fd, file, &text, NULL) < 0)
        return fallback;
    return num_parse_u64(slice_trim(slice_of(buf_text(&text))), UINT64_MAX, &value) ? value : fallback;
}

static uint64_t keyed(int dir_fd, const char *file, const char *key)
{
    return (uint64_t)cgroup_keyed(dir_fd, file, key, 0);
}

static void read_text(int dir_fd, const char *file, struct arena *arena, char **out)
{
    _cleanup_buf_ struct buf text = BUF_INIT(65536);
    if (dir_fd < 0 || cgroup_read(dir_fd, file, &text, NULL) < 0)
        return;
    struct slice trimmed = slice_trim(slice_of(buf_text(&text)));
    *out = arena_strndup(arena, trimmed.data, trimmed.size);
}

// One more zeroed item in an array of the arena.
static void *grow(struct arena *arena, void **items, size_t *len, size_t *capacity, size_t size)
{
    if (*len == *capacity) {
        size_t more = *capacity ? *capacity * 2 : 16;
        void *copy = arena_alloc(arena, more * size);
        if (*len)
            memcpy(copy, *items, *len * size);
        *items = copy;
        *capacity = more;
    }
    return (char *)*items + (*len)++ * size;
}

#define GROW(arena, list) grow(arena, (void **)&(list)->items, &(list)->len, &(list)->capacity, sizeof(*(list)->items))

// ---- lists of numbers -----------------------------------------------------------------------------------------------

bool cgroup_list_parse(const char *text, uint16_t *out, size_t max, size_t *len)
{
    struct slice rest = slice_trim(slice_of(text ? text : "")), part, first;
    *len = 0;
    if (rest.size == 0)
        return true;
    while (slice_cut(&rest, ',', &part)) {
        uint64_t from, to;
        struct slice range = slice_trim(part);
        if (!slice_cut(&range, '-', &first) || !num_parse_u64(first, UINT16_MAX, &from))
            return false;
        to = from;
        if (range.data && !num_parse_u64(range, UINT16_MAX, &to))
            return false;
        if (to < from || (*len > 0 && out[*len - 1] >= from) || to - from >= max - *len)
            return false;
        while (from <= to)
            out[(*len)++] = (uint16_t)from++;
    }
    return true;
}

static uint64_t *read_numbers(int dir_fd, const char *file, struct arena *arena, size_t *len)
{
    _cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX);
    struct {
        uint64_t *items;
        size_t len, capacity;
    } list = { 0 };
    *len = 0;
    if (dir_fd < 0 || cgroup_read(dir_fd, file, &text, NULL) < 0)
        return NULL;
    struct slice rest = slice_trim(slice_of(buf_text(&text))), word;
    uint64_t value;
    while (slice_cut(&rest, ' ', &word) && num_parse_u64(word, UINT64_MAX, &value) && list.len < LINES_MAX)
        *(uint64_t *)GROW(arena, &list) = value;
    *len = list.len;
    return list.items;
}

// ---- pressure -------------------------------------------------------------------------------------------------------

// "some avg10=0.00 avg60=0.00 avg300=0.00 total=0"
static void parse_pressure(struct slice line, struct cgroup_pressure *out)
{
    struct slice kind, word, key;
    if (!slice_cut(&line, ' ', &kind))
        return;
    struct cgroup_pressure_line *to = slice_eq(kind, "full") ? &out->full : &out->some;
    while (slice_cut(&line, ' ', &word)) {
        char value[40];
        if (!slice_cut(&word, '=', &key) || !word.data)
            continue;
        snprintf(value, sizeof(value), "%.*s", (int)word.size, word.data);
        if (slice_eq(key, "avg10"))
            to->avg10 = strtod(value, NULL);
        else if (slice_eq(key, "avg60"))
            to->avg60 = strtod(value, NULL);
        else if (slice_eq(key, "avg300"))
            to->avg300 = strtod(value, NULL);
        else if (slice_eq(key, "total"))
            num_parse_u64(word, UINT64_MAX, &to->total_us);
    }
}

static void read_pressure(int dir_fd, const char *file, struct cgroup_pressure *out)
{
    _cleanup_buf_ struct buf text = BUF_INIT(4096);
    if (dir_fd < 0 || cgroup_read(dir_fd, file, &text, NULL) < 0)
        return; // not built in, or switched off
    struct slice rest = slice_of(buf_text(&text)), line;
    out->present = true;
    while (slice_cut(&rest, '\n', &line))
        parse_pressure(line, out);
}

// ---- memory ---------------------------------------------------------------------------------------------------------

static void read_named(int dir_fd, const char *file, struct arena *arena, struct cgroup_named_numbers *out)
{
    _cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX);
    if (dir_fd < 0 || cgroup_read(dir_fd, file, &text, NULL) < 0)
        return;
    struct slice rest = slice_of(buf_text(&text)), line, name;
    while (slice_cut(&rest, '\n', &line) && out->len < LINES_MAX) {
        uint64_t value;
        if (!slice_cut(&line, ' ', &name) || name.size == 0 || !num_parse_u64(slice_trim(line), UINT64_MAX, &value))
            continue;
        struct cgroup_named_number *item = GROW(arena, out);
        *item = (struct cgroup_named_number){ arena_strndup(arena, name.data, name.size), value };
    }
}

static uint64_t named(const struct cgroup_named_numbers *list, const char *name)
{
    for (size_t i = 0; i < list->len; i++)
        if (str_eq(list->items[i].name, name))
            return list->items[i].value;
    return 0;
}

// memory, memory.memsw, memory.kmem, memory.kmem.tcp
static void read_use_v1(int dir_fd, const char *prefix, struct cgroup_memory_use *out)
{
    static const struct {
        const char *file;
        size_t offset;
    } files[] = {
        { "usage_in_bytes", offsetof(struct cgroup_memory_use, usage) },
        { "max_usage_in_bytes", offsetof(struct cgroup_memory_use, max_usage) },
        { "failcnt", offsetof(struct cgroup_memory_use, failures) },
        { "limit_in_bytes", offsetof(struct cgroup_memory_use, limit) },
    };
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char name[64];
        snprintf(name, sizeof(name), "%s.%s", prefix, files[i].file);
        *(uint64_t *)((char *)out + files[i].offset) = number(dir_fd, name, 0);
    }
}

static void memory_v1(int dir, struct arena *arena, struct cgroup_report *out)
{
    read_named(dir, "memory.stat", arena, &out->memory.raw);
    out->memory.cache = named(&out->memory.raw, "cache");
    read_use_v1(dir, "memory", &out->memory.memory);
    read_use_v1(dir, "memory.memsw", &out->memory.with_swap);
    read_use_v1(dir, "memory.kmem", &out->memory.kernel);
    read_use_v1(dir, "memory.kmem.tcp", &out->memory.kernel_tcp);
    if (out->memory.with_swap.usage >= out->memory.memory.usage)
        out->memory.swap_alone.usage = out->memory.with_swap.usage - out->memory.memory.usage;
    if (out->memory.with_swap.failures >= out->memory.memory.failures)
        out->memory.swap_alone.failures = out->memory.with_swap.failures - out->memory.memory.failures;
    out->memory.hierarchical = number(dir, "memory.use_hierarchy", 0) == 1;
}

static void read_use_v2(int dir_fd, const char *prefix, struct cgroup_memory_use *out)
{
    char name[64];
    snprintf(name, sizeof(name), "%s.current", prefix);
    out->usage = number(dir_fd, name, 0);
    snprintf(name, sizeof(name), "%s.max", prefix);
    out->limit = cgroup_has_file(dir_fd, name) ? number(dir_fd, name, UINT64_MAX) : 0;
    snprintf(name, sizeof(name), "%s.peak", prefix);
    out->max_usage = number(dir_fd, name, 0);
}

static void memory_v2(int dir, struct arena *arena, struct cgroup_report *out)
{
    read_named(dir, "memory.stat", arena, &out->memory.raw);
    out->memory.cache = named(&out->memory.raw, "file");
    out->memory.hierarchical = true;
    read_use_v2(dir, "memory", &out->memory.memory);
    read_use_v2(dir, "memory.swap", &out->memory.swap_alone);
    out->memory.memory.failures = keyed(dir, "memory.events", "max");
    out->memory.with_swap = out->memory.swap_alone;
    out->memory.with_swap.usage += out->memory.memory.usage;
    out->memory.with_swap.max_usage = 0; // the peaks need not have been at one time
    if (out->memory.with_swap.limit != UINT64_MAX)
        out->memory.with_swap.limit = out->memory.memory.limit == UINT64_MAX
                                          ? UINT64_MAX
                                          : out->memory.with_swap.limit + out->memory.memory.limit;
    read_pressure(dir, "memory.pressure", &out->memory.pressure);
}

// ---- processors -----------------------------------------------------------------------------------------------------

// "cpu user system" and a line for each.
static void read_per_cpu(int dir_fd, struct arena *arena, struct cgroup_report *out)
{
    _cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX);
    out->cpu.total_per_cpu_ns = read_numbers(dir_fd, "cpuacct.usage_percpu", arena, &out->cpu.cpu_len);
    out->cpu.user_per_cpu_ns = arena_alloc(arena, (out->cpu.cpu_len + 1) * sizeof(uint64_t));
    out->cpu.system_per_cpu_ns = arena_alloc(arena, (out->cpu.cpu_len + 1) * sizeof(uint64_t));
    if (dir_fd < 0 || cgroup_read(dir_fd, "cpuacct.usage_all", &text, NULL) < 0)
        return;
    struct slice rest = slice_of(buf_text(&text)), line, cpu, user;
    while (slice_cut(&rest, '\n', &line)) {
        uint64_t index, user_ns, system_ns;
        if (slice_cut(&line, ' ', &cpu) && slice_cut(&line, ' ', &user) && num_parse_u64(cpu, UINT16_MAX, &index) &&
            index < out->cpu.cpu_len && num_parse_u64(user, UINT64_MAX, &user_ns) &&
            num_parse_u64(slice_trim(line), UINT64_MAX, &system_ns)) {
            out->cpu.user_per_cpu_ns[index] = user_ns;
            out->cpu.system_per_cpu_ns[index] = system_ns;
        }
    }
}

static void cpu_v1(struct cgroup *cgroup, struct arena *arena, struct cgroup_report *out)
{
    int cpu = cgroup_v1_dir(cgroup, "cpu"), account = cgroup_v1_dir(cgroup, "cpuacct");
    out->cpu.total_ns = number(account, "cpuacct.usage", 0);
    out->cpu.user_ns = number(account, "cpuacct.usage_user", 0);
    out->cpu.system_ns = number(account, "cpuacct.usage_sys", 0);
    out->cpu.periods = keyed(cpu, "cpu.stat", "nr_periods");
    out->cpu.throttled_periods = keyed(cpu, "cpu.stat", "nr_throttled");
    out->cpu.throttled_ns = keyed(cpu, "cpu.stat", "throttled_time");
    out->cpu.bursts = keyed(cpu, "cpu.stat", "nr_bursts");
    out->cpu.burst_ns = keyed(cpu, "cpu.stat", "burst_time");
    read_per_cpu(account, arena, out);
}

static void cpu_v2(int dir, struct cgroup_report *out)
{
    out->cpu.total_ns = keyed(dir, "cpu.stat", "usage_usec") * 1000;
    out->cpu.user_ns = keyed(dir, "cpu.stat", "user_usec") * 1000;
    out->cpu.system_ns = keyed(dir, "cpu.stat", "system_usec") * 1000;
    out->cpu.periods = keyed(dir, "cpu.stat", "nr_periods");
    out->cpu.throttled_periods = keyed(dir, "cpu.stat", "nr_throttled");
    out->cpu.throttled_ns = keyed(dir, "cpu.stat", "throttled_usec") * 1000;
    out->cpu.bursts = keyed(dir, "cpu.stat", "nr_bursts");
    out->cpu.burst_ns = keyed(dir, "cpu.stat", "burst_usec") * 1000;
    read_pressure(dir, "cpu.pressure", &out->cpu.pressure);
}

static void cpuset_v1(int dir, struct arena *arena, struct cgroup_report *out)
{
    read_text(dir, "cpuset.cpus", arena, &out->cpuset.cpus);
    read_text(dir, "cpuset.mems", arena, &out->cpuset.mems);
    out->cpuset.cpu_exclusive = number(dir, "cpuset.cpu_exclusive", 0);
    out->cpuset.mem_exclusive = number(dir, "cpuset.mem_exclusive", 0);
    out->cpuset.mem_hardwall = number(dir, "cpuset.mem_hardwall", 0);
    out->cpuset.memory_migrate = number(dir, "cpuset.memory_migrate", 0);
    out->cpuset.memory_spread_page = number(dir, "cpuset.memory_spread_page", 0);
    out->cpuset.memory_spread_slab = number(dir, "cpuset.memory_spread_slab", 0);
    out->cpuset.memory_pressure = number(dir, "cpuset.memory_pressure", 0);
    out->cpuset.sched_load_balance = number(dir, "cpuset.sched_load_balance", 0);
    out->cpuset.sched_relax_domain_level = cgroup_number(dir, "cpuset.sched_relax_domain_level", 0);
}

// ---- block devices --------------------------------------------------------------------------------------------------

static bool parse_device(struct slice text, struct cgroup_io_entry *out)
{
    struct slice major;
    return slice_cut(&text, ':', &major) && num_parse_u64(major, UINT32_MAX, &out->major) && text.data &&
           num_parse_u64(text, UINT32_MAX, &out->minor);
}

// "8:0 Read 4096" or "8:0 4096"; the line "Total 4096" names no device.
static void read_io_v1(int dir_fd, const char *file, struct arena *arena, struct cgroup_io_entries *out)
{
    _cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX);
    if (dir_fd < 0 || cgroup_read(dir_fd, file, &text, NULL) < 0)
        return;
    struct slice rest = slice_of(buf_text(&text)), line, device, second;
    while (slice_cut(&rest, '\n', &line) && out->len < LINES_MAX) {
        struct cgroup_io_entry entry = { 0 };
        if (!slice_cut(&line, ' ', &device) || !parse_device(device, &entry) || !slice_cut(&line, ' ', &second))
            continue;
        if (line.data)
            snprintf(entry.operation, sizeof(entry.operation), "%.*s", (int)second.size, second.data);
        if (num_parse_u64(line.data ? slice_trim(line) : second, UINT64_MAX, &entry.value))
            *(struct cgroup_io_entry *)GROW(arena, out) = entry;
    }
}

// Who schedules decides who counts: BFQ, the scheduler before 5.0, else only what throttling sees. The first that has
// counted anything is believed.
#define LIST(member) offsetof(struct cgroup_report, io.member)
static const struct {
    const char *prefix, *suffix;
} counters[] = {
    { "blkio.bfq.", "_recursive" },
    { "blkio.", "_recursive" },
    { "blkio.throttle.", "_recursive" },
    { "blkio.throttle.", "" },
};
static const struct {
    const char *name;
    size_t list;
} io_files[] = {
    { "io_service_bytes", LIST(service_bytes) },
    { "io_serviced", LIST(serviced) },
    { "io_queued", LIST(queued) },
    { "io_service_time", LIST(service_time) },
    { "io_wait_time", LIST(wait_time) },
    { "io_merged", LIST(merged) },
    { "time", LIST(time) },
    { "sectors", LIST(sectors) },
};

static void io_v1(int dir, struct arena *arena, struct cgroup_report *out)
{
    for (size_t i = 0; i < ARRAY_LEN(counters) && out->io.serviced.len == 0; i++) {
        for (size_t k = 0; k < ARRAY_LEN(io_files); k++) {
            char file[64];
            struct cgroup_io_entries *list = (void *)((char *)out + io_files[k].list);
            snprintf(file, sizeof(file), "%s%s%s", counters[i].prefix, io_files[k].name, counters[i].suffix);
            *list = (struct cgroup_io_entries){ 0 };
            read_io_v1(dir, file, arena, list);
        }
    }
}

// "8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0"
static void parse_io_v2(struct slice line, struct arena *arena, struct cgroup_report *out)
{
    static const struct {
        const char *key, *operation;
        size_t list;
    } keys[] = {
        { "rbytes", "Read", LIST(service_bytes) },
        { "wbytes", "Write", LIST(service_bytes) },
        { "rios", "Read", LIST(serviced) },
        { "wios", "Write", LIST(serviced) },
    };
    struct cgroup_io_entry entry = { 0 };
    struct slice device, word, key;
    if (!slice_cut(&line, ' ', &device) || !parse_device(device, &entry))
        return;
    while (slice_cut(&line, ' ', &word)) {
        if (!slice_cut(&word, '=', &key) || !word.data || !num_parse_u64(word, UINT64_MAX, &entry.value))
            continue;
        for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
            struct cgroup_io_entries *list = (void *)((char *)out + keys[i].list);
            if (!slice_eq(key, keys[i].key) || list->len >= LINES_MAX)
                continue;
            snprintf(entry.operation, sizeof(entry.operation), "%s", keys[i].operation);
            *(struct cgroup_io_entry *)GROW(arena, list) = entry;
        }
    }
}

static void io_v2(int dir, struct arena *arena, struct cgroup_report *out)
{
    _cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX);
    read_pressure(dir, "io.pressure", &out->io.pressure);
    if (cgroup_read(dir, "io.stat", &text, NULL) < 0)
        return;
    struct slice rest = slice_of(buf_text(&text)), line;
    while (slice_cut(&rest, '\n', &line))
        parse_io_v2(line, arena, out);
}

// ---- huge pages, rdma -----------------------------------------------------------------------------------------------

// "hugepages-2048kB" in /sys/kernel/mm/hugepages is "2MB" in the group.
static bool huge_page_name(const char *folder, char out[16])
{
    uint64_t kib;
    struct slice name = slice_of(folder);
    if (!slice_starts(name, "hugepages-") || name.size < 13)
        return false;
    if (!num_parse_u64((struct slice){ name.data + 10, name.size - 12 }, UINT32_MAX, &kib))
        return false;
    bool gib = kib >= 1 << 20, mib = kib >= 1 << 10;
    snprintf(out, 16, "%llu%s",
             (unsigned long long)(gib   ? kib >> 20
                                  : mib ? kib >> 10
                                        : kib),
             gib   ? "GB"
             : mib ? "MB"
                   : "KB");
    return true;
}

static uint64_t huge_number(int dir, const char *size, const char *part)
{
    char file[64];
    snprintf(file, sizeof(file), "hugetlb.%s%s", size, part);
    return number(dir, file, 0);
}

static void read_huge_pages(int dir, const char *size, bool v2, struct cgroup_report *out)
{
    struct cgroup_huge_page_use *use = &out->huge_pages[out->huge_page_len];
    char file[64];
    snprintf(file, sizeof(file), "hugetlb.%s%s", size, v2 ? ".rsvd.current" : ".rsvd.usage_in_bytes");
    bool rsvd = cgroup_has_file(dir, file);
    snprintf(file, sizeof(file), "hugetlb.%s.%s", size, v2 ? "current" : "usage_in_bytes");
    if (!rsvd && !cgroup_has_file(dir, file))
        return;
    snprintf(use->page_size, sizeof(use->page_size), "%s", size);
    if (v2) {
        use->usage = huge_number(dir, size, rsvd ? ".rsvd.current" : ".current");
        snprintf(file, sizeof(file), "hugetlb.%s.events", size);
        use->failures = keyed(dir, file, "max");
    } else {
        use->usage = huge_number(dir, size, rsvd ? ".rsvd.usage_in_bytes" : ".usage_in_bytes");
        use->max_usage = huge_number(dir, size, rsvd ? ".rsvd.max_usage_in_bytes" : ".max_usage_in_bytes");
        use->failures = huge_number(dir, size, rsvd ? ".rsvd.failcnt" : ".failcnt");
    }
    out->huge_page_len++;
}

static void huge_pages(int dir, bool v2, struct cgroup_report *out)
{
    int fd = dir < 0 ? -1 : open("/sys/kernel/mm/hugepages", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_dir_ DIR *sizes = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    while (sizes && (entry = readdir(sizes)) && out->huge_page_len < CGROUP_HUGE_PAGE_SIZES) {
        char size[16];
        if (huge_page_name(entry->d_name, size))
            read_huge_pages(dir, size, v2, out);
    }
}

static uint32_t rdma_number(struct slice text)
{
    uint64_t value;
    return num_parse_u64(text, UINT32_MAX, &value) ? (uint32_t)value : UINT32_MAX; // "max"
}

// "mlx4_0 hca_handle=2 hca_object=max"
static void read_rdma(int dir, const char *file, struct arena *arena, struct cgroup_rdma_uses *out)
{
    _cleanup_buf_ struct buf text = BUF_INIT(FILE_MAX);
    if (dir < 0 || cgroup_read(dir, file, &text, NULL) < 0)
        return;
    struct slice rest = slice_of(buf_text(&text)), line, device, word, key;
    while (slice_cut(&rest, '\n', &line) && out->len < LINES_MAX) {
        if (!slice_cut(&line, ' ', &device) || device.size == 0)
            continue;
        struct cgroup_rdma_use *use = GROW(arena, out);
        use->device = arena_strndup(arena, device.data, device.size);
        while (slice_cut(&line, ' ', &word)) {
            if (!slice_cut(&word, '=', &key) || !word.data)
                continue;
            if (slice_eq(key, "hca_handle"))
                use->hca_handles = rdma_number(word);
            else if (slice_eq(key, "hca_object"))
                use->hca_objects = rdma_number(word);
        }
    }
}

// ---- all ------------------------------------------------------------------------------------------------------------

static void report_v1(struct cgroup *cgroup, struct arena *arena, struct cgroup_report *out)
{
    cpu_v1(cgroup, arena, out);
    cpuset_v1(cgroup_v1_dir(cgroup, "cpuset"), arena, out);
    memory_v1(cgroup_v1_dir(cgroup, "memory"), arena, out);
    io_v1(cgroup_v1_dir(cgroup, "blkio"), arena, out);
    int huge = cgroup_v1_dir(cgroup, "hugetlb");
    huge_pages(huge >= 0 ? huge : cgroup_v2_dir(cgroup), huge < 0, out);
}

static void report_v2(int dir, struct arena *arena, struct cgroup_report *out)
{
    cpu_v2(dir, out);
    memory_v2(dir, arena, out);
    io_v2(dir, arena, out);
    huge_pages(dir, true, out);
}

int cgroup_report(struct cgroup *cgroup, struct arena *arena, struct cgroup_report *out, struct err *err)
{
    bool v2 = cgroup->layout.version == CGROUP_V2;
    int dir = cgroup_v2_dir(cgroup);
    int pids = v2 ? dir : cgroup_v1_dir(cgroup, "pids"), rdma = v2 ? dir : cgroup_v1_dir(cgroup, "rdma");
    rdma = rdma < 0 ? dir : rdma;
    if (cgroup->layout.version == CGROUP_NONE)
        return err_set(err, ERR_NOT_IMPLEMENTED, "this machine has no cgroups");
    *out = (struct cgroup_report){ 0 };
    if (v2)
        report_v2(dir, arena, out);
    else
        report_v1(cgroup, arena, out);
    out->pids_current = number(pids, "pids.current", 0);
    out->pids_limit = number(pids, "pids.max", 0);
    read_rdma(rdma, "rdma.max", arena, &out->rdma_limits);
    read_rdma(rdma, "rdma.current", arena, &out->rdma_current);
    return 0;
}
