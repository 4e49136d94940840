#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "base/num.h"
#include "base/slice.h"
#include "oci/oci_private.h"

// "64m", "1.5g", "-1": bytes as Docker writes them.
static int parse_bytes(const char *flag, const char *text, int64_t *out, struct err *err)
{
    static const char units[] = "kmgtp";
    char *end = NULL;
    if (str_eq(text, "-1")) {
        *out = -1;
        return 0;
    }
    double value = text[0] >= '0' && text[0] <= '9' ? strtod(text, &end) : -1;
    if (end && *end == ' ')
        end++;
    if (end && *end) {
        const char *unit = strchr(units, *end | 0x20);
        for (ptrdiff_t i = 0; unit && i <= unit - units; i++)
            value *= 1024;
        end += unit ? 1 : 0;
        if (unit && (*end == 'i' || *end == 'I'))
            end++;
        if (*end == 'b' || *end == 'B')
            end++;
        value = *end ? -1 : value;
    }
    if (value < 0 || value >= 0x1p63)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid value for %s: invalid size: '%.60s'", flag, text);
    *out = (int64_t)value;
    return 0;
}

static int parse_number(const char *flag, const char *text, int64_t *out, struct err *err)
{
    if (!num_parse_i64(slice_of(text), out))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid value for %s: strconv.ParseInt: parsing \"%.60s\": invalid syntax", flag, text);
    return 0;
}

static int parse_unsigned(const char *flag, const char *text, int64_t *out, struct err *err)
{
    uint64_t value;
    if (!num_parse_u64(slice_of(text), INT64_MAX, &value))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid value for %s: strconv.ParseUint: parsing \"%.60s\": invalid syntax", flag, text);
    *out = (int64_t)value;
    return 0;
}

static int from_flags(const struct args *args, struct cgroup_limits *out, struct err *err)
{
    const struct {
        const char *flag;
        int64_t *value;
        int (*parse)(const char *, const char *, int64_t *, struct err *);
    } numbers[] = {
        { "memory", &out->memory_limit, parse_bytes },
        { "memory-swap", &out->memory_swap, parse_bytes },
        { "memory-reservation", &out->memory_reservation, parse_bytes },
        { "cpu-period", &out->cpu_period, parse_unsigned },
        { "cpu-quota", &out->cpu_quota, parse_number },
        { "cpu-share", &out->cpu_shares, parse_unsigned },
        { "cpu-rt-period", &out->cpu_rt_period, parse_unsigned },
        { "cpu-rt-runtime", &out->cpu_rt_runtime, parse_number },
        { "blkio-weight", &out->io_weight, parse_unsigned },
        { "pids-limit", &out->pids_limit, parse_number },
    };
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        const char *text = args_text(args, numbers[i].flag);
        if (!str_empty(text) && numbers[i].parse(numbers[i].flag, text, numbers[i].value, err) < 0)
            return -1;
    }
    out->cpuset_cpus = args_text(args, "cpuset-cpus");
    out->cpuset_mems = args_text(args, "cpuset-mems");
    return 0;
}

static int from_file(const char *path, struct arena *arena, json_t **document, struct cgroup_limits *out, struct err *err)
{
    struct buf text = BUF_INIT(1 << 20);
    struct oci_resources resources;
    int result = str_eq(path, "-") ? file_read_fd(STDIN_FILENO, "standard input", &text, err) : file_read_at(AT_FDCWD, path, &text, err);
    if (result == 0)
        result = json_parse(buf_text(&text), text.size, document, err) < 0 ? err_wrap(err, "%s", path) : 0;
    buf_done(&text);
    if (result < 0)
        return -1;
    if (oci_resources_decode(*document, &resources, arena, err) < 0 ||
        resources_limits(*document, &resources, arena, out, err) < 0)
        return err_wrap(err, "%s", path);
    return resources.devices.len ? cgroups_devices(&resources.devices, arena, out, err) : 0;
}

static int apply(struct container *container, struct cgroup_limits *limits, struct err *err)
{
    struct cgroup *cgroup = NULL;
    if (container_cgroup(container, &cgroup, err) < 0)
        return -1;
    int result = cgroup ? scope_update(container, cgroup_layout_of(cgroup)->version, limits, err)
                        : err_set(err, ERR_NOT_IMPLEMENTED, "the container has no cgroup");
    if (result == 0)
        result = resources_apply(cgroup, limits, err);
    cgroup_free(cgroup);
    return result;
}

int verb_update(struct call *call, struct err *err)
{
    struct container container;
    struct cgroup_limits limits = { 0 };
    _cleanup_json_ json_t *document = NULL;
    const char *file = args_text(&call->args, "resources");
    int result = container_load(call, call->args.words.items[0], &container, err);
    if (result == 0)
        result = str_empty(file) ? from_flags(&call->args, &limits, err) : from_file(file, &call->arena, &document, &limits, err);
    if (args_given(&call->args, "kernel-memory") || args_given(&call->args, "kernel-memory-tcp"))
        log_warning_line("Kernel memory settings are ignored and will be removed");
    if (result == 0 && container_status(&container) == STATUS_STOPPED)
        result = err_set(err, ERR_CONFLICT, "container not running");
    const char *l3 = args_text(&call->args, "l3-cache-schema"), *bandwidth = args_text(&call->args, "mem-bw-schema");
    if (result == 0 && (!str_empty(l3) || !str_empty(bandwidth)) && (result = container_load_config(&container, err)) == 0)
        result = rdt_update(&container, l3, bandwidth, err);
    if (result == 0)
        result = apply(&container, &limits, err);
    container_done(&container);
    return result;
}
