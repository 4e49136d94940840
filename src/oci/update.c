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
    char *end;
    if (str_eq(text, "-1")) {
        *out = -1;
        return 0;
    }
    double value = text[0] >= '0' && text[0] <= '9' ? strtod(text, &end) : -1;
    if (value >= 0 && *end == ' ')
        end++;
    if (value >= 0 && *end) {
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

static int from_flags(const struct args *args, struct oci_resources *out, struct err *err)
{
    const struct {
        const char *flag;
        int64_t *value;
        int (*parse)(const char *, const char *, int64_t *, struct err *);
    } numbers[] = {
        { "memory", &out->memory_limit, parse_bytes },
        { "memory-swap", &out->memory_swap, parse_bytes },
        { "memory-reservation", &out->memory_reservation, parse_bytes },
        { "cpu-period", &out->cpu_period, parse_number },
        { "cpu-quota", &out->cpu_quota, parse_number },
        { "cpu-share", &out->cpu_shares, parse_number },
        { "pids-limit", &out->pids_limit, parse_number },
    };
    static const char *const refused[] = { "blkio-weight", "cpu-rt-period", "cpu-rt-runtime", "l3-cache-schema", "mem-bw-schema" };
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        const char *text = args_text(args, numbers[i].flag);
        if (!str_empty(text) && numbers[i].parse(numbers[i].flag, text, numbers[i].value, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        if (!str_empty(args_text(args, refused[i])))
            return err_set(err, ERR_NOT_IMPLEMENTED, "--%s is not supported yet", refused[i]);
    out->cpuset_cpus = (char *)args_text(args, "cpuset-cpus");
    out->cpuset_mems = (char *)args_text(args, "cpuset-mems");
    return 0;
}

static int from_file(const char *path, struct arena *arena, struct oci_resources *out, struct err *err)
{
    struct buf text = BUF_INIT(1 << 20);
    int result = file_read_at(AT_FDCWD, str_eq(path, "-") ? "/dev/stdin" : path, &text, err);
    if (result == 0)
        result = oci_resources_decode(buf_text(&text), text.size, out, arena, err);
    buf_done(&text);
    return result;
}

static int apply(struct container *container, const struct oci_resources *in, struct err *err)
{
    struct cgroup *cgroup = NULL;
    struct cgroup_limits limits = { .memory_limit = in->memory_limit, .memory_swap = in->memory_swap,
                                          .memory_reservation = in->memory_reservation, .cpu_shares = in->cpu_shares,
                                          .cpu_quota = in->cpu_quota, .cpu_period = in->cpu_period, .cpuset_cpus = in->cpuset_cpus,
                                          .cpuset_mems = in->cpuset_mems, .pids_limit = in->pids_limit };
    unsigned missing = 0;
    if (in->devices.len && cgroups_devices(&in->devices, &container->arena, &limits, err) < 0)
        return -1;
    if (container_cgroup(container, &cgroup, err) < 0)
        return -1;
    if (!cgroup)
        return err_set(err, ERR_NOT_IMPLEMENTED, "the container has no cgroup");
    int result = cgroup_limit(cgroup, &limits, &missing, err);
    if (result == 0 && missing)
        result = err_set(err, ERR_NOT_IMPLEMENTED, "a limit needs a cgroup controller that this machine has not");
    cgroup_free(cgroup);
    return result;
}

int verb_update(struct call *call, struct err *err)
{
    struct container container;
    struct oci_resources resources = { 0 };
    const char *file = args_text(&call->args, "resources");
    int result = container_load(call, call->args.words.items[0], &container, err);
    if (result == 0)
        result = str_empty(file) ? from_flags(&call->args, &resources, err) : from_file(file, &call->arena, &resources, err);
    if (result == 0 && container_status(&container) == STATUS_STOPPED)
        result = err_set(err, ERR_CONFLICT, "container not running");
    if (result == 0)
        result = apply(&container, &resources, err);
    container_done(&container);
    return result;
}
