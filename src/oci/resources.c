// linux.resources as limits of a group: where numbers may be absent the document itself is asked.
#include "oci/oci_private.h"

static struct cgroup_number number_of(const json_t *value)
{
    return (struct cgroup_number){ .set = json_is_integer(value), .value = json_integer_value(value) };
}

static const struct cgroup_device_rate *rates_of(const struct json_list *list, struct arena *arena, size_t *len)
{
    const struct oci_rate_device *in = list->items;
    struct cgroup_device_rate *out = arena_alloc(arena, (list->len + 1) * sizeof(*out));
    for (size_t i = 0; i < list->len; i++)
        out[i] = (struct cgroup_device_rate){ in[i].major, in[i].minor, (uint64_t)in[i].rate };
    *len = list->len;
    return out;
}

static void fill_block_io(const struct oci_block_io *in, struct arena *arena, struct cgroup_limits *out)
{
    const struct oci_weight_device *devices = in->weight_device.items;
    struct cgroup_device_weight *weights = arena_alloc(arena, (in->weight_device.len + 1) * sizeof(*weights));
    for (size_t i = 0; i < in->weight_device.len; i++)
        weights[i] = (struct cgroup_device_weight){ devices[i].major, devices[i].minor, devices[i].weight, devices[i].leaf_weight };
    out->io_weight = in->weight;
    out->io_leaf_weight = in->leaf_weight;
    out->io_weights = weights;
    out->io_weight_len = in->weight_device.len;
    out->io_read_bps = rates_of(&in->read_bps, arena, &out->io_read_bps_len);
    out->io_write_bps = rates_of(&in->write_bps, arena, &out->io_write_bps_len);
    out->io_read_iops = rates_of(&in->read_iops, arena, &out->io_read_iops_len);
    out->io_write_iops = rates_of(&in->write_iops, arena, &out->io_write_iops_len);
}

static void fill_lists(const struct oci_resources_more *in, struct arena *arena, struct cgroup_limits *out)
{
    const struct oci_huge_page_limit *pages = in->huge_pages.items;
    const struct oci_interface_priority *priorities = in->network.priorities.items;
    struct cgroup_huge_pages *huge = arena_alloc(arena, (in->huge_pages.len + 1) * sizeof(*huge));
    struct cgroup_net_priority *net = arena_alloc(arena, (in->network.priorities.len + 1) * sizeof(*net));
    struct cgroup_rdma *rdma = arena_alloc(arena, (in->rdma.len + 1) * sizeof(*rdma));
    struct cgroup_setting *unified = arena_alloc(arena, (in->unified.len + 1) * sizeof(*unified));
    for (size_t i = 0; i < in->huge_pages.len; i++)
        huge[i] = (struct cgroup_huge_pages){ pages[i].page_size, (uint64_t)pages[i].limit };
    for (size_t i = 0; i < in->network.priorities.len; i++)
        net[i] = (struct cgroup_net_priority){ priorities[i].name, (uint32_t)priorities[i].priority };
    for (size_t i = 0; i < in->rdma.len; i++) {
        const struct oci_rdma *entry = json_map_at(&in->rdma, &oci_rdma_table, i);
        rdma[i] = (struct cgroup_rdma){ in->rdma.keys[i], number_of(entry->hca_handles), number_of(entry->hca_objects) };
    }
    for (size_t i = 0; i < in->unified.len; i++)
        unified[i] = (struct cgroup_setting){ in->unified.items[i].key, in->unified.items[i].value };
    out->huge_pages = huge;
    out->huge_page_len = in->huge_pages.len;
    out->net_priorities = net;
    out->net_priority_len = in->network.priorities.len;
    out->rdma = rdma;
    out->rdma_len = in->rdma.len;
    out->unified = unified;
    out->unified_len = in->unified.len;
}

// What the runtime-spec has as unsigned numbers: the kernel's files would take some of the others for something else.
static int check_number(int64_t value, int64_t max, const char *name, struct err *err)
{
    if (value >= 0 && value <= max)
        return 0;
    return err_set(err, ERR_INVALID_ARGUMENT, "resources.%s: %lld is out of range", name, (long long)value);
}

static int check_rates(const struct json_list *list, const char *name, struct err *err)
{
    const struct oci_rate_device *devices = list->items;
    for (size_t i = 0; i < list->len; i++)
        if (check_number(devices[i].rate, INT64_MAX, name, err) < 0)
            return -1;
    return 0;
}

static int check_lists(const struct oci_resources_more *in, struct err *err)
{
    const struct oci_weight_device *weights = in->block_io.weight_device.items;
    const struct oci_huge_page_limit *pages = in->huge_pages.items;
    const struct oci_interface_priority *priorities = in->network.priorities.items;
    for (size_t i = 0; i < in->block_io.weight_device.len; i++)
        if (check_number(weights[i].weight, UINT16_MAX, "blockIO.weightDevice", err) < 0 ||
            check_number(weights[i].leaf_weight, UINT16_MAX, "blockIO.weightDevice", err) < 0)
            return -1;
    for (size_t i = 0; i < in->huge_pages.len; i++)
        if (check_number(pages[i].limit, INT64_MAX, "hugepageLimits", err) < 0)
            return -1;
    for (size_t i = 0; i < in->network.priorities.len; i++)
        if (check_number(priorities[i].priority, UINT32_MAX, "network.priorities", err) < 0)
            return -1;
    for (size_t i = 0; i < in->rdma.len; i++) {
        const struct oci_rdma *entry = json_map_at(&in->rdma, &oci_rdma_table, i);
        if (check_number(number_of(entry->hca_handles).value, UINT32_MAX, "rdma", err) < 0 ||
            check_number(number_of(entry->hca_objects).value, UINT32_MAX, "rdma", err) < 0)
            return -1;
    }
    return 0;
}

static int check_numbers(const struct oci_resources *in, const struct oci_resources_more *more, struct err *err)
{
    const struct {
        int64_t value, max;
        const char *name;
    } numbers[] = {
        { in->cpu_shares, INT64_MAX, "cpu.shares" },
        { in->cpu_period, INT64_MAX, "cpu.period" },
        { more->cpu.realtime_period, INT64_MAX, "cpu.realtimePeriod" },
        { number_of(more->cpu.burst).value, INT64_MAX, "cpu.burst" },
        { number_of(more->memory.swappiness).value, INT64_MAX, "memory.swappiness" },
        { more->block_io.weight, UINT16_MAX, "blockIO.weight" },
        { more->block_io.leaf_weight, UINT16_MAX, "blockIO.leafWeight" },
        { more->network.class_id, UINT32_MAX, "network.classID" },
    };
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (check_number(numbers[i].value, numbers[i].max, numbers[i].name, err) < 0)
            return -1;
    const struct oci_block_io *io = &more->block_io;
    return check_rates(&io->read_bps, "blockIO.throttleReadBpsDevice", err) < 0 ||
                   check_rates(&io->write_bps, "blockIO.throttleWriteBpsDevice", err) < 0 ||
                   check_rates(&io->read_iops, "blockIO.throttleReadIOPSDevice", err) < 0 ||
                   check_rates(&io->write_iops, "blockIO.throttleWriteIOPSDevice", err) < 0
               ? -1
               : check_lists(more, err);
}

int resources_limits(json_t *document, const struct oci_resources *in, struct arena *arena, struct cgroup_limits *out, struct err *err)
{
    struct oci_resources_more more = { 0 };
    if (json_is_object(document) && json_decode(&oci_resources_more_table, document, &more, arena, NULL, err) < 0)
        return err_wrap(err, "resources");
    if (check_numbers(in, &more, err) < 0)
        return -1;
    *out = (struct cgroup_limits){ .memory_limit = in->memory_limit, .memory_swap = in->memory_swap,
                                   .memory_reservation = in->memory_reservation, .memory_kernel = more.memory.kernel,
                                   .memory_kernel_tcp = more.memory.kernel_tcp,
                                   .memory_swappiness = number_of(more.memory.swappiness),
                                   .oom_kill_disable = more.memory.disable_oom_killer,
                                   .memory_check = more.memory.check_before_update, .cpu_shares = in->cpu_shares,
                                   .cpu_quota = in->cpu_quota, .cpu_period = in->cpu_period,
                                   .cpu_rt_runtime = more.cpu.realtime_runtime, .cpu_rt_period = more.cpu.realtime_period,
                                   .cpu_burst = number_of(more.cpu.burst), .cpu_idle = number_of(more.cpu.idle),
                                   .cpuset_cpus = in->cpuset_cpus, .cpuset_mems = in->cpuset_mems, .pids_limit = in->pids_limit,
                                   .net_class = more.network.class_id };
    fill_block_io(&more.block_io, arena, out);
    fill_lists(&more, arena, out);
    return 0;
}

// Limits that a kernel or layout can't keep are an error here: the document is an order, not a wish.
int resources_apply(struct cgroup *cgroup, const struct cgroup_limits *limits, struct err *err)
{
    unsigned missing = 0;
    if (limits->unified_len && cgroup_layout_of(cgroup)->version != CGROUP_V2)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid configuration: cannot use unified on cgroup v1");
    if (limits->memory_kernel || limits->memory_kernel_tcp)
        log_warning_line("Kernel memory settings are ignored and will be removed");
    struct cgroup_limits wanted = *limits;
    wanted.memory_kernel = wanted.memory_kernel_tcp = 0;
    if (cgroup_limit(cgroup, &wanted, &missing, err) < 0)
        return -1;
    for (unsigned index = 0; index < 32; index++)
        if (missing >> index & 1)
            return err_set(err, ERR_NOT_IMPLEMENTED, "linux.resources: this machine has no cgroup controller for %s", cgroup_missing_name(1U << index));
    return 0;
}
