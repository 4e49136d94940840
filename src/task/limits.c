#include <stdio.h>

#include "kernel/cgroup.h"
#include "task/task.h"

static void fill_devices(const struct json_list *from, struct arena *arena, struct cgroup_limits *out)
{
    struct cgroup_device_rule *rules = arena_alloc(arena, (from->len + 1) * sizeof(*rules));
    const struct oci_device_rule *list = from->items;
    for (size_t i = 0; i < from->len; i++) {
        rules[i] = (struct cgroup_device_rule){ .allow = list[i].allow,
                                                .type = str_empty(list[i].type) ? 'a' : list[i].type[0],
                                                .major = list[i].major,
                                                .minor = list[i].minor };
        snprintf(rules[i].access, sizeof(rules[i].access), "%s", str_empty(list[i].access) ? "rwm" : list[i].access);
    }
    out->devices = rules;
    out->device_len = from->len;
}

void task_limits(const struct oci_resources *from, struct arena *arena, struct cgroup_limits *out)
{
    *out = (struct cgroup_limits){ .memory_limit = from->memory_limit,
                                   .memory_swap = from->memory_swap,
                                   .memory_reservation = from->memory_reservation,
                                   .cpu_shares = from->cpu_shares,
                                   .cpu_quota = from->cpu_quota,
                                   .cpu_period = from->cpu_period,
                                   .cpuset_cpus = from->cpuset_cpus,
                                   .cpuset_mems = from->cpuset_mems,
                                   .pids_limit = from->pids_limit,
                                   .io_weight = from->io_weight };
    fill_devices(&from->devices, arena, out);
}
