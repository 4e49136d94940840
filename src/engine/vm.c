// The VM wall's part of create, document and start.
#include <errno.h>
#include <strings.h>

#include "machine.h"
#include "namespaces.h"
#include "networks.h"
#include "vm.h"

#define UID_BASE INT64_C(0x42000000)
#define MEMORY_STEP (INT64_C(2) << 20) // what guest RAM is made of
#define MIB(n) (INT64_C(n) << 20)

// ---- which wall -----------------------------------------------------------------------------------------------------

enum wall { WALL_ANY, WALL_CONTAINER, WALL_VM, WALL_UNKNOWN };

static const struct {
    const char *word;
    enum wall wall;
} isolations[] = { { "default", WALL_ANY }, { "container", WALL_CONTAINER }, { "vm", WALL_VM } },
  runtimes[] = { { "berth", WALL_CONTAINER }, { "runc", WALL_CONTAINER }, { "berth-vm", WALL_VM } };

static enum wall wall_of_isolation(const char *word)
{
    for (size_t i = 0; i < ARRAY_LEN(isolations) && !str_empty(word); i++)
        if (strcasecmp(word, isolations[i].word) == 0)
            return isolations[i].wall;
    return str_empty(word) ? WALL_ANY : WALL_UNKNOWN;
}

static enum wall wall_of_runtime(const char *word)
{
    for (size_t i = 0; i < ARRAY_LEN(runtimes) && !str_empty(word); i++)
        if (str_eq(word, runtimes[i].word))
            return runtimes[i].wall;
    return str_empty(word) ? WALL_ANY : WALL_UNKNOWN;
}

bool vm_wanted(const struct host_config *host)
{
    return wall_of_isolation(host->isolation) == WALL_VM || wall_of_runtime(host->runtime) == WALL_VM;
}

int vm_check_words(const struct host_config *host, struct err *err)
{
    enum wall isolation = wall_of_isolation(host->isolation), runtime = wall_of_runtime(host->runtime);
    if (runtime == WALL_UNKNOWN)
        return err_set(err, ERR_INVALID_ARGUMENT, "unknown or invalid runtime name: %s", host->runtime);
    if (isolation == WALL_UNKNOWN)
        return err_set(err, ERR_INVALID_ARGUMENT, "HostConfig.Isolation: invalid isolation '%s' (default, container, vm)",
                       host->isolation);
    if (isolation != WALL_ANY && runtime != WALL_ANY && isolation != runtime)
        return err_set(err, ERR_INVALID_ARGUMENT, "HostConfig.Isolation: '%s' and the runtime '%s' are different walls",
                       host->isolation, host->runtime);
    return 0;
}

// ---- what is refused ------------------------------------------------------------------------------------------------

static bool asks_binds(const struct container_config *config)
{
    return config->host_config.binds.len > 0;
}

static bool asks_mounts(const struct container_config *config)
{
    const struct json_list *mounts = &config->host_config.mounts;
    for (size_t i = 0; i < mounts->len; i++) {
        const struct mount_request *mount = json_list_at(mounts, &mount_request_table, i);
        if (!str_eq(mount->type, "tmpfs"))
            return true;
    }
    return false;
}

static bool asks_volumes_from(const struct container_config *config)
{
    return config->host_config.volumes_from.len > 0;
}

static bool asks_volumes(const struct container_config *config)
{
    return config->process.volumes.len > 0;
}

static bool asks_networks(const struct container_config *config)
{
    return config->endpoints.len > 1;
}

static bool asks_devices(const struct container_config *config)
{
    return config->host_config.devices.len > 0;
}

static bool asks_device_rules(const struct container_config *config)
{
    return config->host_config.device_cgroup_rules.len > 0;
}

static bool asks_device_requests(const struct container_config *config)
{
    return config->host_config.device_requests.len > 0;
}

static bool asks_ipc(const struct container_config *config)
{
    const char *mode = config->host_config.ipc_mode;
    return str_eq(mode, "host") || namespaces_other(mode);
}

static bool asks_pid(const struct container_config *config)
{
    return !str_empty(config->host_config.pid_mode);
}

static bool asks_uts(const struct container_config *config)
{
    return !str_empty(config->host_config.uts_mode);
}

static bool asks_network(const struct container_config *config)
{
    return namespaces_network(config) != NULL;
}

const struct vm_refusal vm_refusals[] = {
    { "HostConfig.Binds", "-v, --volume", "a guest sees no folder of the host", asks_binds },
    { "HostConfig.Mounts", "--mount type=bind, type=volume, type=image", "a guest sees no folder of the host", asks_mounts },
    { "HostConfig.VolumesFrom", "--volumes-from", "a guest sees no folder of the host", asks_volumes_from },
    { "Volumes", "-v PATH, an image's VOLUME", "a volume is a folder of the host", asks_volumes },
    { "NetworkingConfig.EndpointsConfig", "--network, more than one", "a machine has one network card", asks_networks },
    { "HostConfig.NetworkMode", "--network host, --network container:X", "a machine has a network card of its own", asks_network },
    { "HostConfig.Devices", "--device", "a guest sees no device of the host", asks_devices },
    { "HostConfig.DeviceCgroupRules", "--device-cgroup-rule", "a guest sees no device of the host", asks_device_rules },
    { "HostConfig.DeviceRequests", "--device vendor.com/class=name", "a guest sees no device of the host", asks_device_requests },
    { "HostConfig.IpcMode", "--ipc host, --ipc container:X", "a guest has a kernel of its own", asks_ipc },
    { "HostConfig.PidMode", "--pid", "a guest has a kernel of its own", asks_pid },
    { "HostConfig.UTSMode", "--uts", "a guest has a kernel of its own", asks_uts },
};
const size_t vm_refusal_len = ARRAY_LEN(vm_refusals);

int vm_check(struct engine *engine, const struct container_config *config, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct machine_choice choice;
    struct vm_size size;
    if (!vm_wanted(&config->host_config))
        return 0;
    for (size_t i = 0; i < vm_refusal_len; i++)
        if (vm_refusals[i].asked(config))
            return err_set(err, ERR_NOT_IMPLEMENTED, "%s: not supported behind the VM wall yet: %s", vm_refusals[i].path,
                           vm_refusals[i].why);
    if (vm_size(&config->host_config, &size, err) < 0)
        return -1;
    return machines_choose(engine->machines, &arena, &choice, err) < 0 ? err_wrap(err, "isolation vm") : 0;
}

// ---- sizes ----------------------------------------------------------------------------------------------------------

static int64_t divide_up(int64_t value, int64_t by)
{
    return value / by + (value % by != 0);
}

static int64_t cpus_asked(const struct host_config *host, const char **path)
{
    enum { PERIOD_DEFAULT_US = 100000 };
    *path = host->nano_cpus ? "HostConfig.NanoCpus" : "HostConfig.CpuQuota";
    if (host->nano_cpus)
        return divide_up(host->nano_cpus, INT64_C(1000000000));
    if (host->cpu_quota <= 0)
        return 1;
    return divide_up(host->cpu_quota, host->cpu_period ? host->cpu_period : PERIOD_DEFAULT_US);
}

int vm_size(const struct host_config *host, struct vm_size *out, struct err *err)
{
    const char *path;
    int64_t cpus = cpus_asked(host, &path);
    if (cpus > VM_CPUS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s: %lld CPUs; a microVM has at most %d", path, (long long)cpus, VM_CPUS_MAX);
    if (host->memory > VM_MEMORY_MAX - VM_MEMORY_OWN)
        return err_set(err, ERR_INVALID_ARGUMENT, "HostConfig.Memory: %lld bytes; a microVM has at most 1 TiB",
                       (long long)host->memory);
    out->vcpus = MAX_OF(cpus, INT64_C(1));
    out->memory_size = host->memory > 0 ? divide_up(host->memory + VM_MEMORY_OWN, MEMORY_STEP) * MEMORY_STEP : VM_MEMORY_DEFAULT;
    return 0;
}

// ---- the document ---------------------------------------------------------------------------------------------------

// One for each container, the same over its life because it owns the disk. Two that share one by chance are as far from the
// host as two others.
static int64_t jail_uid(const struct container *container)
{
    char digits[7];
    uint64_t draw = 0;
    snprintf(digits, sizeof(digits), "%s", container->id);
    num_parse_hex(slice_of(digits), &draw);
    return UID_BASE + (int64_t)draw;
}

// The exact share of the CPUs and which of them are the host's to keep: the guest's own numbers mean others.
static void leave_to_host(struct oci_resources *resources)
{
    resources->cpu_shares = resources->cpu_quota = resources->cpu_period = 0;
    resources->cpuset_cpus = resources->cpuset_mems = NULL;
    resources->io_weight = 0;
}

int vm_complete(struct container *container, struct arena *arena, struct task_document *out, struct err *err)
{
    struct machine_choice choice;
    struct vm_size size;
    if (machines_choose(container->engine->machines, arena, &choice, err) < 0 ||
        vm_size(&container->config.host_config, &size, err) < 0)
        return -1;
    out->isolation = (char *)"vm";
    out->vm = arena_alloc(arena, sizeof(*out->vm));
    *out->vm = (struct task_vm){ .accel = (char *)choice.accel, .vmm = choice.vmm, .cmdline = (char *)"", .kernel = choice.kernel,
                                 .vcpus = size.vcpus, .memory_size = size.memory_size, .kernel_fd = -1, .initrd_fd = -1,
                                 .kvm_fd = -1, .vmm_fd = -1, .uid = jail_uid(container) };
    out->rootfs.upper.kind = (char *)"disk";
    out->rootfs.upper.path = container_path(container, arena, DISK_NAME);
    leave_to_host(&out->linux_section.resources);
    mutex_lock(&container->lock);
    if (!endpoint_gateway(container) && !endpoint_gateway6(container))
        out->nics = (struct json_list){ 0 }; // "lo" names a namespace of the host's
    mutex_unlock(&container->lock);
    return 0;
}

// ---- the host's cgroup ----------------------------------------------------------------------------------------------

// What a VMM opens by itself, jailed; its disks, its tap and /dev/kvm are handed over open. Nodes may be made, because whoever
// makes the jail's /dev is in the group already.
static const struct oci_device_rule vmm_devices[] = {
    { false, (char *)"a", -1, -1, (char *)"rwm" }, { true, (char *)"c", -1, -1, (char *)"m" },
    { true, (char *)"c", 1, 3, (char *)"rw" }, // null
    { true, (char *)"c", 1, 9, (char *)"r" }, // urandom
    { true, (char *)"c", 10, 232, (char *)"rw" }, // kvm
};

void vm_host_limits(const struct host_config *host, const struct task_vm *vm, struct oci_resources *out)
{
    // Beside guest RAM: an emulator has its translated code and its device models, berth-vmm next to nothing.
    int64_t allowance = str_eq(vm->accel, "kvm") ? MIB(128) : MIB(512);
    enum { VMM_TASKS_MAX = 256 };
    limits_from_config(host, out);
    out->memory_limit = vm->memory_size + allowance;
    out->memory_swap = out->memory_reservation = 0;
    out->pids_limit = VMM_TASKS_MAX; // threads of one program
    out->cpu_quota = out->cpu_period = out->cpu_shares = 0; // vm_limit_processors()
    out->devices = (struct json_list){ .items = (void *)vmm_devices, .len = ARRAY_LEN(vmm_devices) };
}

static int open_group(const struct container *container, struct cgroup **out, struct err *err)
{
    char path[CONTAINER_CGROUP_SIZE];
    container_cgroup_path(container, path);
    return cgroup_open(&container->engine->cgroups, path, out, err);
}

int vm_limit_processors(struct container *container, struct err *err)
{
    struct oci_resources asked = { 0 };
    _cleanup_(cgroup_freep) struct cgroup *cgroup = NULL;
    limits_from_config(&container->config.host_config, &asked);
    const struct cgroup_limits limits = { .cpu_shares = asked.cpu_shares, .cpu_quota = asked.cpu_quota,
                                          .cpu_period = asked.cpu_period };
    if (open_group(container, &cgroup, err) < 0 || cgroup_limit(cgroup, &limits, NULL, err) < 0)
        return err_wrap(err, "limit the machine's processors");
    return 0;
}

// ---- a boot ---------------------------------------------------------------------------------------------------------

#define ABORT_STEP_NS (100 * NS_PER_MS)

void vm_boot_begin(struct container *container, bool guest)
{
    mutex_lock(&container->lock);
    container->booting = guest;
    container->boot_aborted = false;
    mutex_unlock(&container->lock);
}

static int check_aborted(const struct container *container, struct err *err) REQUIRES(container->lock)
{
    if (!container->boot_aborted)
        return 0;
    err_set(err, ERR_UNAVAILABLE, "container was stopped while its machine started");
    if (err)
        err->number = ECANCELED;
    return -1;
}

int vm_boot_check(struct container *container, struct err *err)
{
    mutex_lock(&container->lock);
    int result = check_aborted(container, err);
    mutex_unlock(&container->lock);
    return result;
}

int vm_boot_end(struct container *container, struct err *err)
{
    mutex_lock(&container->lock);
    int result = check_aborted(container, err);
    container->booting = container->boot_aborted = false;
    cond_wake_all(&container->idle);
    mutex_unlock(&container->lock);
    return result;
}

// By name: the starting thread has the handle.
static void kill_machine(const struct container *container)
{
    _cleanup_(cgroup_freep) struct cgroup *cgroup = NULL;
    if (open_group(container, &cgroup, NULL) == 0)
        cgroup_kill(cgroup, NS_PER_S, NULL);
}

// Again and again: the machine may not be there yet at the first try.
bool vm_boot_abort(struct container *container)
{
    bool any = false;
    mutex_lock(&container->lock);
    while (container->booting) {
        any = container->boot_aborted = true;
        mutex_unlock(&container->lock);
        kill_machine(container);
        mutex_lock(&container->lock);
        if (container->booting)
            cond_wait_until(&container->idle, &container->lock, clock_mono_ns() + ABORT_STEP_NS);
    }
    mutex_unlock(&container->lock);
    return any;
}
