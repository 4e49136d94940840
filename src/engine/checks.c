// What a client's configuration may say. Refusals carry Docker's words where Docker has them.
#include <fcntl.h>
#include <sys/sysinfo.h>

#include "cdi.h"
#include "namespaces.h"
#include "vm.h"

enum { HOSTNAME_MAX = 64 }; // of sethostname(2)

// ---- processors and memory nodes ------------------------------------------------------------------------------------

enum { CPU_MAX = 4096 };

// "0-2,7" as the kernel writes it.
static bool parse_cpus(struct slice text, uint8_t bits[CPU_MAX / 8])
{
    struct slice rest = slice_trim(text), part, first;
    uint64_t from, to;
    while (slice_cut(&rest, ',', &part)) {
        slice_cut(&part, '-', &first);
        if (!num_parse_u64(first, CPU_MAX - 1, &from))
            return false;
        to = from;
        if (part.data && !num_parse_u64(part, CPU_MAX - 1, &to))
            return false;
        for (; from <= to; from++)
            bits[from / 8] |= (uint8_t)(1 << from % 8);
    }
    return true;
}

static int check_cpus(const char *asked, const char *online_file, const char *field, const char *what, struct err *err)
{
    _cleanup_buf_ struct buf online = BUF_INIT(4096);
    uint8_t wanted[CPU_MAX / 8] = { 0 }, there[CPU_MAX / 8] = { 0 };
    if (str_empty(asked))
        return 0;
    if (!parse_cpus(slice_of(asked), wanted))
        return err_set(err, ERR_INVALID_ARGUMENT, "Invalid value %s for %s", asked, field);
    if (file_read_at(AT_FDCWD, online_file, &online, NULL) < 0 || !parse_cpus(slice_of(buf_text(&online)), there))
        return 0; // this kernel does not tell; it refuses at start
    for (size_t i = 0; i < sizeof(wanted); i++)
        if (wanted[i] & ~there[i]) {
            struct slice available = slice_trim(slice_of(buf_text(&online)));
            return err_set(err, ERR_INVALID_ARGUMENT, "Requested %s are not available - requested %s, available: %.*s", what,
                           asked, (int)available.size, available.data);
        }
    return 0;
}

// ---- limits ---------------------------------------------------------------------------------------------------------

enum { MEMORY_MIN = 6 << 20 }; // below it no process starts

static int check_swappiness(const json_t *asked, struct err *err)
{
    if (!asked || json_is_null(asked))
        return 0;
    if (!json_is_integer(asked))
        return err_set(err, ERR_INVALID_ARGUMENT, "HostConfig.MemorySwappiness: not a number");
    if (json_integer_value(asked) < -1 || json_integer_value(asked) > 100)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid value: %lld, valid memory swappiness range is 0-100",
                       (long long)json_integer_value(asked));
    return 0;
}

// A group below the host's root, for people to find: no way around by "..".
static int check_cgroup_parent(const char *parent, struct err *err)
{
    enum { PARENT_MAX = 255 };
    struct slice rest = slice_of(parent ? parent : ""), part;
    size_t depth = 0;
    if (!parent || !*parent)
        return 0;
    while (slice_cut(&rest, '/', &part)) {
        if (slice_eq(part, "..") || slice_eq(part, "."))
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid cgroup parent: %.300s", parent);
        depth += part.size > 0;
    }
    if (depth == 0 || strlen(parent) > PARENT_MAX || strchr(parent, '\n'))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid cgroup parent: %.300s", parent);
    return 0;
}

int check_limits(const struct host_config *host, bool update, struct err *err)
{
    int cpus = get_nprocs();
    if (host->memory < 0 || host->memory_reservation < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "HostConfig.Memory: must not be negative");
    if (host->memory > 0 && host->memory < MEMORY_MIN)
        return err_set(err, ERR_INVALID_ARGUMENT, "Minimum memory limit allowed is 6MB");
    if (host->memory_reservation > 0 && host->memory_reservation < MEMORY_MIN)
        return err_set(err, ERR_INVALID_ARGUMENT, "Minimum memory reservation allowed is 6MB");
    if (host->memory_swap < -1)
        return err_set(err, ERR_INVALID_ARGUMENT, "HostConfig.MemorySwap: must be -1 or more");
    if (host->memory_swap > 0 && host->memory == 0 && !update)
        return err_set(err, ERR_INVALID_ARGUMENT, "You should always set the Memory limit when using Memoryswap limit, see usage");
    if (host->memory_swap > 0 && host->memory_swap < host->memory)
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "Minimum memoryswap limit should be larger than memory limit, see usage");
    if (host->memory && host->memory_reservation > host->memory)
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "Minimum memory limit can not be less than memory reservation limit, see usage");
    if (host->nano_cpus && (host->cpu_quota || host->cpu_period))
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "Conflicting options: Nano CPUs and CPU %s cannot both be set",
                       host->cpu_period ? "Period" : "Quota");
    if (host->nano_cpus < 0 || host->nano_cpus > cpus * INT64_C(1000000000))
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", cpus, cpus);
    if (host->cpu_period && (host->cpu_period < 1000 || host->cpu_period > 1000000))
        return err_set(err, ERR_INVALID_ARGUMENT, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
    if (host->cpu_quota > 0 && host->cpu_quota < 1000)
        return err_set(err, ERR_INVALID_ARGUMENT, "CPU cfs quota can not be less than 1ms (i.e. 1000)");
    if (host->cpu_shares < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid CPU shares (%lld): value must be a positive integer",
                       (long long)host->cpu_shares);
    if (host->oom_score_adj < -1000 || host->oom_score_adj > 1000)
        return err_set(err, ERR_INVALID_ARGUMENT, "Invalid value %lld, range for oom score adj is [-1000, 1000]",
                       (long long)host->oom_score_adj);
    if (host->shm_size < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "SHM size can not be less than 0");
    if (check_cpus(host->cpuset_cpus, "/sys/devices/system/cpu/online", "cpuset cpus", "CPUs", err) < 0 ||
        check_cpus(host->cpuset_mems, "/sys/devices/system/node/online", "cpuset mems", "memory nodes", err) < 0)
        return -1;
    return 0;
}

static int check_sysctls(const struct kvs *sysctls, struct err *err)
{
    static const char *const prefixes[] = { "net.", "fs.mqueue.", "kernel.shm", "kernel.msg", "kernel.sem" };
    for (size_t i = 0; i < sysctls->len; i++) {
        const char *key = sysctls->items[i].key;
        bool namespaced = !strstr(key, "..") && !strchr(key, '/');
        bool known = false;
        for (size_t k = 0; k < ARRAY_LEN(prefixes); k++)
            known = known || str_starts(key, prefixes[k]);
        if (!namespaced || !known)
            return err_set(err, ERR_INVALID_ARGUMENT, "sysctl '%s' is not allowed", key);
        if (strchr(sysctls->items[i].value, '\n'))
            return err_set(err, ERR_INVALID_ARGUMENT, "sysctl '%s': the value has a line break", key);
    }
    return 0;
}

// ---- names ----------------------------------------------------------------------------------------------------------

static int check_hostname(const struct container_config *config, struct err *err)
{
    const char *names[] = { config->hostname, config->domainname };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (!str_empty(names[i]) && (strlen(names[i]) > HOSTNAME_MAX || strpbrk(names[i], "\n\r\t /")))
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid hostname format: %s", names[i]);
    return 0;
}

static int check_ulimits(const struct json_list *ulimits, struct err *err)
{
    for (size_t i = 0; i < ulimits->len; i++) {
        const struct ulimit *ulimit = json_list_at(ulimits, &ulimit_table, i);
        if (ulimit_resource(ulimit->name) < 0)
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid ulimit type: %s", ulimit->name ? ulimit->name : "");
        bool unlimited = ulimit->hard == -1;
        if (!unlimited && (ulimit->soft > ulimit->hard || ulimit->soft == -1))
            return err_set(err, ERR_INVALID_ARGUMENT, "ulimit soft limit must be less than or equal to hard limit: %lld > %lld",
                           (long long)ulimit->soft, (long long)ulimit->hard);
    }
    return 0;
}

// ---- sizes ----------------------------------------------------------------------------------------------------------

// Lists are compared with each other and copied; what is beyond these sizes is no container.
static int check_sizes(const struct container_config *config, struct err *err)
{
    const struct host_config *host = &config->host_config;
    const struct oci_image_process *process = &config->process;
    const struct {
        const char *path;
        size_t len, max;
    } table[] = {
        { "Env", process->env.len, 16384 },
        { "Cmd", process->cmd.len, 131072 },
        { "Entrypoint", process->entrypoint.len, 131072 },
        { "Labels", process->labels.len, 16384 },
        { "ExposedPorts", process->exposed_ports.len, 2 * 65536 },
        { "Volumes", process->volumes.len, 1024 },
        { "HostConfig.Binds", host->binds.len, 1024 },
        { "HostConfig.Mounts", host->mounts.len, 1024 },
        { "HostConfig.Tmpfs", host->tmpfs.len, 1024 },
        { "HostConfig.PortBindings", host->port_bindings.len, 1024 },
        { "HostConfig.ExtraHosts", host->extra_hosts.len, 4096 },
        { "HostConfig.Dns", host->dns.len, 64 },
        { "HostConfig.DnsSearch", host->dns_search.len, 256 },
        { "HostConfig.DnsOptions", host->dns_options.len, 256 },
        { "HostConfig.GroupAdd", host->group_add.len, 1024 },
        { "HostConfig.Ulimits", host->ulimits.len, 64 },
        { "HostConfig.Sysctls", host->sysctls.len, 1024 },
        { "HostConfig.VolumesFrom", host->volumes_from.len, 1024 },
        { "HostConfig.Annotations", host->annotations.len, 16384 },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].len > table[i].max)
            return err_set(err, ERR_INVALID_ARGUMENT, "%s: more than %zu items", table[i].path, table[i].max);
    return 0;
}

static int check_host_config(const struct host_config *host, struct err *err)
{
    if (vm_check_words(host, err) < 0)
        return -1;
    if (restart_check(&host->restart_policy, err) < 0)
        return -1;
    if (host->auto_remove && !str_empty(host->restart_policy.name) && !str_eq(host->restart_policy.name, "no"))
        return err_set(err, ERR_INVALID_ARGUMENT, "can't create 'AutoRemove' container with restart policy");
    for (size_t i = 0; i < host->annotations.len; i++)
        if (str_empty(host->annotations.items[i].key))
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid Annotations: the empty string is not permitted as an annotation key");
    if (check_swappiness(host->memory_swappiness_raw, err) < 0 || check_cgroup_parent(host->cgroup_parent, err) < 0 ||
        namespaces_check_words(host, err) < 0 || log_check(&host->log_config, err) < 0 ||
        check_limits(host, false, err) < 0 || check_sysctls(&host->sysctls, err) < 0 || check_names(host, err) < 0 ||
        check_ulimits(&host->ulimits, err) < 0 || check_ports(host, err) < 0)
        return -1;
    return cdi_check(&host->device_requests, err) < 0 ? -1 : devices_check(host, err);
}

int check_process(const struct oci_image_process *process, struct err *err)
{
    int ignored;
    if (!str_empty(process->working_dir) && process->working_dir[0] != '/')
        return err_set(err, ERR_INVALID_ARGUMENT, "the working directory '%s' is invalid, it needs to be an absolute path",
                       process->working_dir);
    if (!str_empty(process->stop_signal) && signal_parse(process->stop_signal, &ignored, err) < 0)
        return -1;
    for (size_t i = 0; i < process->env.len; i++)
        if (process->env.items[i][0] == '=' || process->env.items[i][0] == 0)
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid environment variable: %s", process->env.items[i]);
    return 0;
}

// Null or absent says nothing; another kind is no answer.
static int check_kinds(const struct container_config *config, struct err *err)
{
    const json_t *init = config->host_config.init_raw, *timeout = config->stop_timeout_raw;
    if (init && !json_is_null(init) && !json_is_boolean(init))
        return err_set(err, ERR_INVALID_ARGUMENT, "HostConfig.Init: expected boolean");
    if (timeout && !json_is_null(timeout) && !json_is_integer(timeout))
        return err_set(err, ERR_INVALID_ARGUMENT, "StopTimeout: expected integer");
    return 0;
}

int check_config(const struct container_config *config, struct err *err)
{
    if (check_kinds(config, err) < 0 || check_sizes(config, err) < 0 || check_hostname(config, err) < 0 ||
        health_check_config(config->process.healthcheck, err) < 0)
        return -1;
    return check_host_config(&config->host_config, err);
}
