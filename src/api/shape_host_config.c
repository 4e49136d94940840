// HostConfig as inspect shows it: every key that Docker has, with what the client said or else the default.
#include <strings.h>

#include "api_private.h"

// Docker's keys and the JSON text of their defaults. `zero_is_default`: the client's "", 0 or {} means the default as well.
static const struct {
    const char *key, *text;
    bool zero_is_default;
} defaults[] = {
    { "Binds", "null", false },
    { "ContainerIDFile", "\"\"", false },
    { "LogConfig", "{\"Type\":\"json-file\",\"Config\":{}}", false },
    { "NetworkMode", "\"bridge\"", false },
    { "PortBindings", "{}", false },
    { "RestartPolicy", "{\"Name\":\"no\",\"MaximumRetryCount\":0}", false },
    { "AutoRemove", "false", false },
    { "VolumeDriver", "\"\"", false },
    { "VolumesFrom", "null", false },
    { "ConsoleSize", "[0,0]", false },
    { "CapAdd", "null", false },
    { "CapDrop", "null", false },
    { "CgroupnsMode", "\"private\"", true },
    { "Dns", "[]", false },
    { "DnsOptions", "[]", false },
    { "DnsSearch", "[]", false },
    { "ExtraHosts", "null", false },
    { "GroupAdd", "null", false },
    { "IpcMode", "\"private\"", true },
    { "Cgroup", "\"\"", false },
    { "Links", "null", false },
    { "OomScoreAdj", "0", false },
    { "PidMode", "\"\"", false },
    { "Privileged", "false", false },
    { "PublishAllPorts", "false", false },
    { "ReadonlyRootfs", "false", false },
    { "SecurityOpt", "null", false },
    { "UTSMode", "\"\"", false },
    { "UsernsMode", "\"\"", false },
    { "ShmSize", "67108864", true },
    { "Runtime", "\"berth\"", true },
    { "Isolation", "\"\"", false },
    { "CpuShares", "0", false },
    { "Memory", "0", false },
    { "NanoCpus", "0", false },
    { "CgroupParent", "\"\"", false },
    { "BlkioWeight", "0", false },
    { "BlkioWeightDevice", "[]", false },
    { "BlkioDeviceReadBps", "[]", false },
    { "BlkioDeviceWriteBps", "[]", false },
    { "BlkioDeviceReadIOps", "[]", false },
    { "BlkioDeviceWriteIOps", "[]", false },
    { "CpuPeriod", "0", false },
    { "CpuQuota", "0", false },
    { "CpuRealtimePeriod", "0", false },
    { "CpuRealtimeRuntime", "0", false },
    { "CpusetCpus", "\"\"", false },
    { "CpusetMems", "\"\"", false },
    { "Devices", "[]", false },
    { "DeviceCgroupRules", "null", false },
    { "DeviceRequests", "null", false },
    { "MemoryReservation", "0", false },
    { "MemorySwap", "0", false },
    { "MemorySwappiness", "null", false },
    { "OomKillDisable", "false", false },
    { "PidsLimit", "null", true },
    { "Ulimits", "[]", false },
    { "CpuCount", "0", false },
    { "CpuPercent", "0", false },
    { "IOMaximumIOps", "0", false },
    { "IOMaximumBandwidth", "0", false },
    { "MaskedPaths", "null", false }, // the engine's own list, see adjust()
    { "ReadonlyPaths", "null", false },
};

// Keys that Docker shows only when they were set.
static const char *const optional[] = { "Mounts", "Tmpfs", "Sysctls", "StorageOpt", "Annotations", "Init" };

static json_t *find(json_t *object, const char *key)
{
    const char *name;
    json_t *value, *exact = json_object_get(object, key);
    if (exact)
        return exact;
    json_object_foreach (object, name, value)
        if (strcasecmp(name, key) == 0)
            return value;
    return NULL;
}

static bool is_zero(const json_t *value)
{
    return !value || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0) ||
           (json_is_integer(value) && json_integer_value(value) == 0);
}

static json_t *parse_default(const char *text)
{
    return json_loads(text, JSON_DECODE_ANY, NULL);
}

static void fill_paths(json_t *object, const char *key, const char *const *paths)
{
    if (!json_is_null(json_object_get(object, key)))
        return;
    json_t *list = json_array();
    for (; *paths; paths++)
        json_array_append_new(list, json_string(*paths));
    json_object_set_new(object, key, list);
}

// The defaults that depend on other values, and the members that Docker normalises.
static void adjust(json_t *object, const struct host_config *effective)
{
    json_t *log = json_object_get(object, "LogConfig"), *restart = json_object_get(object, "RestartPolicy");
    if (is_zero(find(log, "Type")))
        json_object_set_new(log, "Type", json_string("json-file"));
    if (!json_is_object(find(log, "Config")))
        json_object_set_new(log, "Config", json_object());
    if (is_zero(find(restart, "Name")))
        json_object_set_new(restart, "Name", json_string("no"));
    if (!find(restart, "MaximumRetryCount"))
        json_object_set_new(restart, "MaximumRetryCount", json_integer(0));
    if (!str_empty(effective->network_mode) && !str_eq(effective->network_mode, "default"))
        json_object_set_new(object, "NetworkMode", shape_text(effective->network_mode));
    else
        json_object_set_new(object, "NetworkMode", json_string("bridge"));
    if (effective->memory > 0 && effective->memory_swap == 0)
        json_object_set_new(object, "MemorySwap", json_integer(2 * effective->memory));
    if (json_integer_value(json_object_get(object, "MemorySwappiness")) == -1)
        json_object_set_new(object, "MemorySwappiness", json_null());
    if (json_integer_value(json_object_get(object, "PidsLimit")) < 0)
        json_object_set_new(object, "PidsLimit", json_null());
    if (!effective->privileged) { // else none, and null says so
        fill_paths(object, "MaskedPaths", engine_masked_paths);
        fill_paths(object, "ReadonlyPaths", engine_readonly_paths);
    }
}

// Both words, whichever the client said.
void shape_wall(json_t *host_config)
{
    json_object_set_new(host_config, "Isolation", json_string("vm"));
    json_object_set_new(host_config, "Runtime", json_string("berth-vm"));
}

json_t *shape_host_config(const char *body_text, const struct host_config *effective)
{
    _cleanup_json_ json_t *body = json_loads(body_text ? body_text : "{}", 0, NULL);
    json_t *asked = find(body, "HostConfig"), *object = json_object();
    for (size_t i = 0; i < ARRAY_LEN(defaults); i++) {
        json_t *value = find(asked, defaults[i].key);
        bool absent = !value || json_is_null(value) || (defaults[i].zero_is_default && is_zero(value));
        json_object_set_new(object, defaults[i].key, absent ? parse_default(defaults[i].text) : json_deep_copy(value));
    }
    for (size_t i = 0; i < ARRAY_LEN(optional); i++) {
        json_t *value = find(asked, optional[i]);
        if (value && !json_is_null(value) && !((json_is_object(value) || json_is_array(value)) &&
                                               json_object_size(value) + json_array_size(value) == 0))
            json_object_set_new(object, optional[i], json_deep_copy(value));
    }
    adjust(object, effective);
    return object;
}
