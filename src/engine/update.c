// update: the limits and the restart policy of a container that is there already, live where it runs.
//
// A configuration is fixed once its container is visible, but for the members that are named here. They are written with both
// container_begin() and the container's lock, so either is enough to read them. The create body is patched as well: it is what
// the record keeps and what inspect shows.
#include "engine_private.h"
#include "vm.h"

#define CALL_TIMEOUT_NS (10 * NS_PER_S)

// ---- what may be asked ----------------------------------------------------------------------------------------------

static int conflict(struct err *err, const char *text)
{
    return err_set(err, ERR_CONFLICT, "%s", text);
}

static int64_t swap_of(const struct host_config *host)
{
    struct oci_resources limits = { 0 };
    limits_from_config(host, &limits);
    return limits.memory_swap;
}

// --cpus is period and quota in another word, so one can't be changed beside the other.
static int check_against(const struct host_config *now, const struct host_config *asked, struct err *err)
{
    int64_t swap = swap_of(now);
    if (asked->nano_cpus > 0 && now->cpu_period > 0)
        return conflict(err, "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set");
    if (asked->nano_cpus > 0 && now->cpu_quota > 0)
        return conflict(err, "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set");
    if (asked->cpu_period > 0 && now->nano_cpus > 0)
        return conflict(err, "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set");
    if (asked->cpu_quota > 0 && now->nano_cpus > 0)
        return conflict(err, "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set");
    if (asked->memory > swap && swap > 0 && asked->memory_swap == 0)
        return conflict(err, "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time");
    if (now->auto_remove && !str_empty(asked->restart_policy.name) && !str_eq(asked->restart_policy.name, "no"))
        return conflict(err, "Restart policy cannot be updated because AutoRemove is enabled for the container");
    return 0;
}

// A machine's memory and processors are made at its start; what its cgroup on the host holds can be changed.
static int check_machine(const struct host_config *now, const struct host_config *next, bool runs, struct err *err)
{
    struct vm_size before, after;
    if (!vm_wanted(now))
        return 0;
    if (vm_size(now, &before, NULL) < 0 || vm_size(next, &after, err) < 0)
        return -1;
    if (!runs)
        return 0;
    if (now->memory != next->memory || swap_of(now) != swap_of(next) || now->memory_reservation != next->memory_reservation)
        return err_set(err, ERR_NOT_IMPLEMENTED,
                       "HostConfig.Memory: not supported behind the VM wall while it runs: a machine's memory is made at its start");
    if (now->pids_limit != next->pids_limit)
        return err_set(err, ERR_NOT_IMPLEMENTED,
                       "HostConfig.PidsLimit: not supported behind the VM wall while it runs: the guest counts its own");
    if (after.vcpus > before.vcpus)
        return err_set(err, ERR_NOT_IMPLEMENTED,
                       "HostConfig.NanoCpus: not supported behind the VM wall while it runs: it was started with %lld processors",
                       (long long)before.vcpus);
    return 0;
}

// ---- the new configuration ------------------------------------------------------------------------------------------

static void take_number(int64_t *into, int64_t asked)
{
    if (asked)
        *into = asked;
}

static void merge(struct host_config *into, const struct update_request *request)
{
    const struct host_config *asked = &request->limits;
    if (into->memory && !into->memory_swap)
        into->memory_swap = swap_of(into); // what it has been so far stays
    take_number(&into->memory, asked->memory);
    take_number(&into->memory_swap, asked->memory_swap);
    take_number(&into->memory_reservation, asked->memory_reservation);
    take_number(&into->nano_cpus, asked->nano_cpus);
    take_number(&into->cpu_shares, asked->cpu_shares);
    take_number(&into->cpu_period, asked->cpu_period);
    take_number(&into->cpu_quota, asked->cpu_quota);
    take_number(&into->blkio_weight, asked->blkio_weight);
    if (!str_empty(asked->cpuset_cpus))
        into->cpuset_cpus = asked->cpuset_cpus;
    if (!str_empty(asked->cpuset_mems))
        into->cpuset_mems = asked->cpuset_mems;
    if (json_is_integer(request->pids_limit_raw)) // 0 and what is below: no limit
        into->pids_limit = MAX_OF((int64_t)json_integer_value(request->pids_limit_raw), INT64_C(0));
    if (!str_empty(asked->restart_policy.name))
        into->restart_policy = (struct restart_policy){ (char *)restart_word(asked->restart_policy.name),
                                                        asked->restart_policy.maximum_retry_count };
}

// Only what changes: the kernel is not asked to take the rest again. Unlimited is -1 in a group.
static void changed_limits(const struct host_config *now, const struct host_config *next, struct oci_resources *out)
{
    struct oci_resources before = { 0 };
    limits_from_config(now, &before);
    limits_from_config(next, out);
    if (before.memory_limit == out->memory_limit && before.memory_swap == out->memory_swap)
        out->memory_limit = out->memory_swap = 0;
    if (before.memory_reservation == out->memory_reservation)
        out->memory_reservation = 0;
    if (before.cpu_shares == out->cpu_shares)
        out->cpu_shares = 0;
    if (before.cpu_quota == out->cpu_quota && before.cpu_period == out->cpu_period)
        out->cpu_quota = out->cpu_period = 0;
    if (str_eq(before.cpuset_cpus, out->cpuset_cpus))
        out->cpuset_cpus = NULL;
    if (str_eq(before.cpuset_mems, out->cpuset_mems))
        out->cpuset_mems = NULL;
    if (before.io_weight == out->io_weight)
        out->io_weight = 0;
    out->pids_limit = before.pids_limit == out->pids_limit ? 0 : out->pids_limit ? out->pids_limit : -1;
}

static int apply_live(struct container *container, const struct host_config *next, struct err *err)
{
    struct oci_resources limits = { 0 };
    mutex_lock(&container->lock);
    struct task_client *client = container_is_live(container) ? container->client : NULL;
    mutex_unlock(&container->lock);
    if (!client)
        return 0;
    changed_limits(&container->config.host_config, next, &limits);
    _cleanup_json_ json_t *arguments = json_object();
    json_object_set_new(arguments, "resources", json_encode(&oci_resources_table, &limits));
    return task_call(client, "update", arguments, NULL, 0, CALL_TIMEOUT_NS, NULL, NULL, NULL, err);
}

// ---- keeping it -----------------------------------------------------------------------------------------------------

static void patch_body(struct container *container) REQUIRES(container->lock)
{
    const struct host_config *host = &container->config.host_config;
    json_t *section = config_member(container->body, "HostConfig");
    if (!json_is_object(section))
        config_put(container->body, "HostConfig", section = json_object());
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = { { "Memory", host->memory }, { "MemorySwap", host->memory_swap }, { "MemoryReservation", host->memory_reservation },
                    { "NanoCpus", host->nano_cpus }, { "CpuShares", host->cpu_shares }, { "CpuPeriod", host->cpu_period },
                    { "CpuQuota", host->cpu_quota }, { "BlkioWeight", host->blkio_weight }, { "PidsLimit", host->pids_limit } };
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (numbers[i].value || config_member(section, numbers[i].name))
            config_put(section, numbers[i].name, json_integer(numbers[i].value));
    config_put(section, "CpusetCpus", json_new_text(host->cpuset_cpus));
    config_put(section, "CpusetMems", json_new_text(host->cpuset_mems));
    config_put(section, "RestartPolicy", json_encode(&restart_policy_table, &host->restart_policy));
}

// Texts that an update brings are the container's, in place of those of the update before.
static void adopt_text(char **held, char **text, const char *before)
{
    if (str_eq(*text, before)) {
        *text = (char *)before;
        return;
    }
    char *copy = mem_strdup(*text);
    free(*held);
    *held = *text = copy;
}

static int keep(struct container *container, struct host_config *next, struct err *err)
{
    struct host_config *now = &container->config.host_config;
    mutex_lock(&container->lock);
    adopt_text(&container->updated_cpus, &next->cpuset_cpus, now->cpuset_cpus);
    adopt_text(&container->updated_mems, &next->cpuset_mems, now->cpuset_mems);
    *now = *next;
    patch_body(container);
    mutex_unlock(&container->lock);
    return record_save_body(container, err);
}

// Needs container_begin().
static int update_held(struct container *container, const struct update_request *request, struct err *err)
{
    const struct host_config *now = &container->config.host_config;
    struct host_config next = *now;
    mutex_lock(&container->lock);
    bool runs = container_is_live(container), going = container->state.status == STATUS_REMOVING;
    mutex_unlock(&container->lock);
    merge(&next, request);
    if (going)
        return conflict(err, "container is marked for removal and cannot be \"update\"");
    if (check_against(now, &request->limits, err) < 0 || check_machine(now, &next, runs, err) < 0 || apply_live(container, &next, err) < 0)
        return -1;
    return keep(container, &next, err);
}

int engine_update(struct engine *engine, const char *ref, const struct update_request *request, struct arena *arena,
                  struct strv *warnings, struct err *err)
{
    if (check_limits(&request->limits, true, err) < 0 || restart_check(&request->limits.restart_policy, err) < 0 ||
        features_check(&engine->features, &request->limits, arena, warnings, err) < 0)
        return -1;
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container || container_begin(container, err) < 0)
        return -1;
    int result = update_held(container, request, err);
    container_end(container);
    if (result < 0)
        return err && err->class == ERR_NOT_IMPLEMENTED ? -1 : err_wrap(err, "Cannot update container %s", container->id);
    event_container(container, "update", NULL);
    return 0;
}
