// Limits in systemd's words. What systemd has no word for (bursts, throttles, huge pages, ...) is written to the
// group's files alone.
#include <stdio.h>

#include "base/num.h"
#include "base/slice.h"
#include "systemd_private.h"

#define INFINITY_U64 UINT64_MAX
#define CPUS_MAX 8192
#define PERIOD 100000 // the kernel's own
// The versions that brought CPUQuotaPeriodUSec, AllowedCPUs, and CPUWeight=idle.
#define HAS_PERIOD 242
#define HAS_CPUSET 244
#define HAS_IDLE 252

static void put_name(struct buf *body, const char *name, const char *signature)
{
    dbus_put_struct(body);
    dbus_put_text(body, name);
    dbus_put_signature(body, signature);
}

void systemd_put_text(struct buf *body, const char *name, const char *value)
{
    put_name(body, name, "s");
    dbus_put_text(body, value);
}

void systemd_put_flag(struct buf *body, const char *name, bool value)
{
    put_name(body, name, "b");
    dbus_put_flag(body, value);
}

void systemd_put_u64(struct buf *body, const char *name, uint64_t value)
{
    put_name(body, name, "t");
    dbus_put_u64(body, value);
}

static uint64_t or_infinity(int64_t value)
{
    return value < 0 ? INFINITY_U64 : (uint64_t)value;
}

// ---- processors -----------------------------------------------------------------------------------------------------

// Microseconds a second, a whole percent.
static uint64_t per_second(int64_t quota, int64_t period)
{
    uint64_t usec = (uint64_t)quota * 1000000 / (uint64_t)period;
    return (usec + 9999) / 10000 * 10000;
}

int64_t systemd_cpu_quota(int64_t quota, int64_t period)
{
    period = period > 0 ? period : PERIOD;
    if (quota <= 0 || quota > INT64_MAX / 1000000)
        return quota;
    uint64_t exact = (uint64_t)quota * 1000000 / (uint64_t)period;
    return exact % 10000 == 0 ? quota : (int64_t)(per_second(quota, period) * (uint64_t)period / 1000000);
}

static int put_quota(struct buf *body, int64_t quota, int64_t period, int version, struct err *err)
{
    if (period < 0 || quota > INT64_MAX / 1000000)
        return err_set(err, ERR_INVALID_ARGUMENT, "cpu quota or period is out of range");
    if (period && version >= HAS_PERIOD)
        systemd_put_u64(body, "CPUQuotaPeriodUSec", (uint64_t)period);
    if (quota || period)
        systemd_put_u64(body, "CPUQuotaPerSecUSec",
                        quota > 0 ? per_second(quota, period ? period : PERIOD) : INFINITY_U64);
    return 0;
}

// A list as a mask, the lowest processor first.
static int put_set(struct buf *body, const char *name, const char *list, struct err *err)
{
    uint8_t mask[CPUS_MAX / 8] = { 0 };
    uint16_t numbers[CPUS_MAX];
    size_t len, size = 0;
    if (!cgroup_list_parse(list, numbers, ARRAY_LEN(numbers), &len) || len == 0 || numbers[len - 1] >= CPUS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s=\"%.100s\": not a list of processors or nodes", name, list);
    for (size_t i = 0; i < len; i++) {
        mask[numbers[i] / 8] |= (uint8_t)(1U << numbers[i] % 8);
        size = numbers[i] / 8U + 1;
    }
    put_name(body, name, "ay");
    size_t array = dbus_open_array(body, 1);
    buf_add(body, mask, size);
    dbus_close_array(body, array, 1);
    return 0;
}

static int put_sets(struct buf *body, const struct cgroup_limits *limits, int version, struct err *err)
{
    if (version < HAS_CPUSET)
        return 0;
    if (!str_empty(limits->cpuset_cpus) && put_set(body, "AllowedCPUs", limits->cpuset_cpus, err) < 0)
        return -1;
    return str_empty(limits->cpuset_mems) ? 0 : put_set(body, "AllowedMemoryNodes", limits->cpuset_mems, err);
}

// ---- devices --------------------------------------------------------------------------------------------------------

static void put_device_policy(struct buf *body, const char *policy)
{
    put_name(body, "DeviceAllow", "a(ss)"); // empty: what an earlier call allowed goes
    dbus_close_array(body, dbus_open_array(body, 8), 8);
    systemd_put_text(body, "DevicePolicy", policy);
}

// systemd knows a list of what is allowed: rules that end there can be said, but for "any major, this minor". Others
// are left to the rules that the caller puts on the group itself; systemd then forbids all of it.
static bool device_name(const struct cgroup_device_rule *rule, char out[64])
{
    const char *kind = rule->type == 'b' ? "block" : "char";
    if (rule->major < 0 && rule->minor >= 0)
        return false;
    if (rule->major < 0)
        snprintf(out, 64, "%s-*", kind);
    else if (rule->minor < 0)
        snprintf(out, 64, "%s-%lld", kind, (long long)rule->major);
    else
        snprintf(out, 64, "/dev/%s/%lld:%lld", kind, (long long)rule->major, (long long)rule->minor);
    return true;
}

static bool same_device(const struct cgroup_device_rule *a, const struct cgroup_device_rule *b)
{
    return a->type == b->type && a->major == b->major && a->minor == b->minor;
}

// What of the rule's access no later rule for the same device takes back.
static void access_left(const struct cgroup_limits *limits, size_t index, char out[4])
{
    const struct cgroup_device_rule *rule = &limits->devices[index];
    size_t used = 0;
    for (const char *c = rule->access; *c && c < rule->access + 3; c++) {
        bool gone = false;
        for (size_t i = index + 1; i < limits->device_len; i++)
            gone |= !limits->devices[i].allow && same_device(&limits->devices[i], rule) &&
                    strchr(limits->devices[i].access, *c);
        if (!gone)
            out[used++] = *c;
    }
    out[used] = '\0';
}

static void put_devices(struct buf *body, const struct cgroup_limits *limits)
{
    size_t first = 0;
    bool open = false; // what the last rule for all devices says; systemd's strict list begins closed
    for (size_t i = 0; i < limits->device_len; i++) {
        if (limits->devices[i].type == 'a') {
            open = limits->devices[i].allow;
            first = i + 1;
        }
    }
    if (open && first == limits->device_len) {
        put_device_policy(body, "auto");
        return;
    }
    put_device_policy(body, "strict");
    if (open)
        return;
    put_name(body, "DeviceAllow", "a(ss)");
    size_t array = dbus_open_array(body, 8);
    for (size_t i = first; i < limits->device_len; i++) {
        char name[64], access[4];
        access_left(limits, i, access);
        if (!limits->devices[i].allow || !*access || !device_name(&limits->devices[i], name))
            continue;
        dbus_put_struct(body);
        dbus_put_text(body, name);
        dbus_put_text(body, access);
    }
    dbus_close_array(body, array, 8);
}

// ---- unified keys ---------------------------------------------------------------------------------------------------

static int bad_setting(const struct cgroup_setting *setting, struct err *err)
{
    return err_set(err, ERR_INVALID_ARGUMENT, "unified resource \"%.100s\" value invalid: \"%.100s\"", setting->file,
                   setting->value);
}

static int put_number_setting(struct buf *body, const char *property, const struct cgroup_setting *setting,
                              struct err *err)
{
    uint64_t number = INFINITY_U64;
    struct slice value = slice_trim(slice_of(setting->value));
    if (!slice_eq(value, "max") && !num_parse_u64(value, UINT64_MAX, &number))
        return bad_setting(setting, err);
    systemd_put_u64(body, property, str_eq(property, "TasksMax") ? MAX_OF(number, UINT64_C(1)) : number);
    return 0;
}

static int put_max_setting(struct buf *body, const struct cgroup_setting *setting, int version, struct err *err)
{
    struct slice value = slice_trim(slice_of(setting->value)), first;
    int64_t quota = 0, period = PERIOD;
    if (!slice_cut(&value, ' ', &first) || (!slice_eq(first, "max") && !num_parse_i64(first, &quota)) ||
        (value.data && !num_parse_i64(slice_trim(value), &period)))
        return bad_setting(setting, err);
    return put_quota(body, quota, period, version, err);
}

static bool is_idle(const struct cgroup_limits *limits)
{
    for (size_t i = 0; i < limits->unified_len; i++)
        if (str_eq(limits->unified[i].file, "cpu.idle") &&
            slice_eq(slice_trim(slice_of(limits->unified[i].value)), "1"))
            return true;
    return limits->cpu_idle.set && limits->cpu_idle.value == 1;
}

static int put_setting(struct buf *body, const struct cgroup_limits *limits, const struct cgroup_setting *setting,
                       int version, struct err *err)
{
    static const struct {
        const char *file, *property;
    } numbers[] = {
        { "memory.high", "MemoryHigh" }, { "memory.low", "MemoryLow" },          { "memory.min", "MemoryMin" },
        { "memory.max", "MemoryMax" },   { "memory.swap.max", "MemorySwapMax" }, { "pids.max", "TasksMax" },
        { "cpu.weight", "CPUWeight" },
    };
    bool idle = version >= HAS_IDLE && is_idle(limits);
    if (str_empty(setting->file) || strchr(setting->file, '/'))
        return err_set(err, ERR_INVALID_ARGUMENT, "unified resource \"%.100s\" must be a file name (no slashes)",
                       setting->file ? setting->file : "");
    if (!setting->value)
        return bad_setting(&(struct cgroup_setting){ setting->file, "" }, err);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (str_eq(setting->file, numbers[i].file))
            return idle && str_eq(setting->file, "cpu.weight")
                       ? 0
                       : put_number_setting(body, numbers[i].property, setting, err);
    if (str_eq(setting->file, "cpu.max"))
        return put_max_setting(body, setting, version, err);
    if (str_eq(setting->file, "cpuset.cpus") && version >= HAS_CPUSET)
        return put_set(body, "AllowedCPUs", setting->value, err);
    if (str_eq(setting->file, "cpuset.mems") && version >= HAS_CPUSET)
        return put_set(body, "AllowedMemoryNodes", setting->value, err);
    return 0; // the file alone has it
}

// ---- all ------------------------------------------------------------------------------------------------------------

static int put_v2(struct buf *body, const struct cgroup_limits *limits, int version, struct err *err)
{
    int64_t swap;
    bool none, idle = version >= HAS_IDLE && is_idle(limits);
    if (cgroup_swap_alone(limits->memory_limit, limits->memory_swap, &swap, &none, err) < 0)
        return -1;
    if (limits->memory_limit)
        systemd_put_u64(body, "MemoryMax", or_infinity(limits->memory_limit));
    if (limits->memory_reservation)
        systemd_put_u64(body, "MemoryLow", or_infinity(limits->memory_reservation));
    if (swap || none)
        systemd_put_u64(body, "MemorySwapMax", or_infinity(swap));
    if (idle)
        systemd_put_u64(body, "CPUWeight", 0); // systemd's way to say cpu.idle
    else if (limits->cpu_shares > 0)
        systemd_put_u64(body, "CPUWeight", cgroup_weight_of_shares((uint64_t)limits->cpu_shares));
    for (size_t i = 0; i < limits->unified_len; i++)
        if (put_setting(body, limits, &limits->unified[i], version, err) < 0)
            return -1;
    return 0;
}

static void put_v1(struct buf *body, const struct cgroup_limits *limits)
{
    if (limits->memory_limit)
        systemd_put_u64(body, "MemoryLimit", or_infinity(limits->memory_limit));
    if (limits->cpu_shares > 0)
        systemd_put_u64(body, "CPUShares", (uint64_t)limits->cpu_shares);
    if (limits->io_weight > 0)
        systemd_put_u64(body, "BlockIOWeight", (uint64_t)limits->io_weight);
}

int systemd_put_limits(struct buf *body, enum cgroup_version cgroups, const struct cgroup_limits *limits, int version,
                       struct err *err)
{
    if (limits->device_len)
        put_devices(body, limits);
    if (cgroups != CGROUP_V2)
        put_v1(body, limits);
    if (put_quota(body, limits->cpu_quota, limits->cpu_period, version, err) < 0 ||
        put_sets(body, limits, version, err) < 0)
        return -1;
    if (limits->pids_limit)
        systemd_put_u64(body, "TasksMax", or_infinity(limits->pids_limit));
    return cgroups == CGROUP_V2 ? put_v2(body, limits, version, err) : 0; // last: unified keys win
}
