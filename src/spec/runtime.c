// The runtime side: process and linux sections of config.json (runtime-spec 1.2), field by field.
#include "spec/spec.h"

#define ROW(field_name, field_kind, type, member, ...) \
    JSON_FIELD(field_name, field_kind, struct type, member, ##__VA_ARGS__)

// ---- process --------------------------------------------------------------------------------------------------------

static const struct json_field user_fields[] = {
    ROW("uid", JSON_INT, oci_user, uid),
    ROW("gid", JSON_INT, oci_user, gid),
    ROW("umask", JSON_INT, oci_user, umask),
    ROW("additionalGids", JSON_RAW, oci_user, additional_gids_raw),
    ROW("name", JSON_TEXT, oci_user, name, .flags = JSON_OMIT_EMPTY),
    ROW("groups", JSON_TEXTS, oci_user, groups, .flags = JSON_OMIT_EMPTY),
};
static const struct json_table user_table = JSON_TABLE(struct oci_user, user_fields);

static const struct json_field box_fields[] = {
    ROW("height", JSON_INT, oci_box, height),
    ROW("width", JSON_INT, oci_box, width),
};
static const struct json_table box_table = JSON_TABLE(struct oci_box, box_fields);

static const struct json_field capabilities_fields[] = {
    ROW("bounding", JSON_TEXTS, oci_capabilities, bounding),
    ROW("effective", JSON_TEXTS, oci_capabilities, effective),
    ROW("inheritable", JSON_TEXTS, oci_capabilities, inheritable),
    ROW("permitted", JSON_TEXTS, oci_capabilities, permitted),
    ROW("ambient", JSON_TEXTS, oci_capabilities, ambient),
};
static const struct json_table capabilities_table = JSON_TABLE(struct oci_capabilities, capabilities_fields);

static const struct json_field rlimit_fields[] = {
    ROW("type", JSON_TEXT, oci_rlimit, type, .required = true),
    ROW("soft", JSON_INT, oci_rlimit, soft),
    ROW("hard", JSON_INT, oci_rlimit, hard),
};
const struct json_table oci_rlimit_table = JSON_TABLE(struct oci_rlimit, rlimit_fields);

static const struct json_field scheduler_fields[] = {
    ROW("policy", JSON_TEXT, oci_scheduler, policy, .required = true),
    ROW("nice", JSON_INT, oci_scheduler, nice),
    ROW("priority", JSON_INT, oci_scheduler, priority),
    ROW("flags", JSON_TEXTS, oci_scheduler, flags),
    ROW("runtime", JSON_INT, oci_scheduler, runtime),
    ROW("deadline", JSON_INT, oci_scheduler, deadline),
    ROW("period", JSON_INT, oci_scheduler, period),
};
static const struct json_table scheduler_table = JSON_TABLE(struct oci_scheduler, scheduler_fields);

static const struct json_field io_priority_fields[] = {
    ROW("class", JSON_TEXT, oci_io_priority, class, .required = true),
    ROW("priority", JSON_INT, oci_io_priority, priority),
};
static const struct json_table io_priority_table = JSON_TABLE(struct oci_io_priority, io_priority_fields);

static const struct json_field affinity_fields[] = {
    ROW("initial", JSON_TEXT, oci_cpu_affinity, initial),
    ROW("final", JSON_TEXT, oci_cpu_affinity, final),
};
static const struct json_table affinity_table = JSON_TABLE(struct oci_cpu_affinity, affinity_fields);

static const struct json_field process_fields[] = {
    ROW("terminal", JSON_FLAG, oci_process, terminal),
    ROW("consoleSize", JSON_STRUCT, oci_process, console_size, .sub = &box_table),
    ROW("user", JSON_STRUCT, oci_process, user, .sub = &user_table),
    ROW("args", JSON_TEXTS, oci_process, args),
    ROW("env", JSON_TEXTS, oci_process, env),
    ROW("cwd", JSON_TEXT, oci_process, cwd),
    ROW("capabilities", JSON_STRUCT_PTR, oci_process, capabilities, .sub = &capabilities_table),
    ROW("rlimits", JSON_LIST, oci_process, rlimits, .sub = &oci_rlimit_table),
    ROW("noNewPrivileges", JSON_FLAG, oci_process, no_new_privileges),
    ROW("oomScoreAdj", JSON_INT, oci_process, oom_score_adj),
    ROW("apparmorProfile", JSON_TEXT, oci_process, apparmor_profile, .flags = JSON_OMIT_EMPTY),
    ROW("selinuxLabel", JSON_TEXT, oci_process, selinux_label, .flags = JSON_OMIT_EMPTY),
    ROW("scheduler", JSON_STRUCT_PTR, oci_process, scheduler, .sub = &scheduler_table, .flags = JSON_OMIT_EMPTY),
    ROW("ioPriority", JSON_STRUCT_PTR, oci_process, io_priority, .sub = &io_priority_table, .flags = JSON_OMIT_EMPTY),
    ROW("execCPUAffinity", JSON_STRUCT_PTR, oci_process, exec_cpu_affinity, .sub = &affinity_table, .flags = JSON_OMIT_EMPTY),
};
const struct json_table oci_process_table = JSON_TABLE(struct oci_process, process_fields);

// ---- linux ----------------------------------------------------------------------------------------------------------

static const struct json_field namespace_fields[] = {
    ROW("type", JSON_TEXT, oci_namespace, type, .required = true),
    ROW("path", JSON_TEXT, oci_namespace, path, .flags = JSON_OMIT_EMPTY),
};
static const struct json_table namespace_table = JSON_TABLE(struct oci_namespace, namespace_fields);

static const struct json_field device_fields[] = {
    ROW("path", JSON_TEXT, oci_device, path, .required = true),
    ROW("type", JSON_TEXT, oci_device, type, .required = true),
    ROW("major", JSON_INT, oci_device, major),
    ROW("minor", JSON_INT, oci_device, minor),
    ROW("fileMode", JSON_INT, oci_device, file_mode),
    ROW("uid", JSON_INT, oci_device, uid),
    ROW("gid", JSON_INT, oci_device, gid),
};
static const struct json_table device_table = JSON_TABLE(struct oci_device, device_fields);

static const struct json_field device_rule_fields[] = {
    ROW("allow", JSON_FLAG, oci_device_rule, allow),
    ROW("type", JSON_TEXT, oci_device_rule, type),
    ROW("major", JSON_INT, oci_device_rule, major),
    ROW("minor", JSON_INT, oci_device_rule, minor),
    ROW("access", JSON_TEXT, oci_device_rule, access),
};
static const struct json_table device_rule_table = JSON_TABLE(struct oci_device_rule, device_rule_fields);

// resources.memory, .cpu and .pids are objects in the spec and runs of neighbouring members of one struct here: each sub table
// starts at the first of them.
#define PART_ROW(first, field_name, field_kind, member) \
    { .name = (field_name), .kind = (field_kind), \
      .offset = offsetof(struct oci_resources, member) - offsetof(struct oci_resources, first) }
#define PART_TABLE(first, last, field_array) \
    { "struct oci_resources", offsetof(struct oci_resources, last) + sizeof(((struct oci_resources *)0)->last) - \
                                  offsetof(struct oci_resources, first), (field_array), ARRAY_LEN(field_array) }

static const struct json_field memory_fields[] = {
    PART_ROW(memory_limit, "limit", JSON_INT, memory_limit),
    PART_ROW(memory_limit, "swap", JSON_INT, memory_swap),
    PART_ROW(memory_limit, "reservation", JSON_INT, memory_reservation),
};
static const struct json_table memory_table = PART_TABLE(memory_limit, memory_reservation, memory_fields);

static const struct json_field cpu_fields[] = {
    PART_ROW(cpu_shares, "shares", JSON_INT, cpu_shares),
    PART_ROW(cpu_shares, "quota", JSON_INT, cpu_quota),
    PART_ROW(cpu_shares, "period", JSON_INT, cpu_period),
    PART_ROW(cpu_shares, "cpus", JSON_TEXT, cpuset_cpus),
    PART_ROW(cpu_shares, "mems", JSON_TEXT, cpuset_mems),
};
static const struct json_table cpu_table = PART_TABLE(cpu_shares, cpuset_mems, cpu_fields);

static const struct json_field pids_fields[] = {
    PART_ROW(pids_limit, "limit", JSON_INT, pids_limit),
};
static const struct json_table pids_table = PART_TABLE(pids_limit, pids_limit, pids_fields);

static const struct json_field block_io_fields[] = {
    PART_ROW(io_weight, "weight", JSON_INT, io_weight),
};
static const struct json_table block_io_table = PART_TABLE(io_weight, io_weight, block_io_fields);

static const struct json_field resources_fields[] = {
    ROW("devices", JSON_LIST, oci_resources, devices, .sub = &device_rule_table),
    ROW("memory", JSON_STRUCT, oci_resources, memory_limit, .sub = &memory_table),
    ROW("cpu", JSON_STRUCT, oci_resources, cpu_shares, .sub = &cpu_table),
    ROW("pids", JSON_STRUCT, oci_resources, pids_limit, .sub = &pids_table),
    ROW("blockIO", JSON_STRUCT, oci_resources, io_weight, .sub = &block_io_table),
};
const struct json_table oci_resources_table = JSON_TABLE(struct oci_resources, resources_fields);

static const struct json_field id_mapping_fields[] = {
    ROW("containerID", JSON_INT, oci_id_mapping, container_id),
    ROW("hostID", JSON_INT, oci_id_mapping, host_id),
    ROW("size", JSON_INT, oci_id_mapping, size),
};
const struct json_table oci_id_mapping_table = JSON_TABLE(struct oci_id_mapping, id_mapping_fields);

static const struct json_field time_offset_fields[] = {
    ROW("secs", JSON_INT, oci_time_offset, secs),
    ROW("nanosecs", JSON_INT, oci_time_offset, nanosecs),
};
const struct json_table oci_time_offset_table = JSON_TABLE(struct oci_time_offset, time_offset_fields);

static const struct json_field personality_fields[] = {
    ROW("domain", JSON_TEXT, oci_personality, domain, .required = true),
    ROW("flags", JSON_TEXTS, oci_personality, flags),
};
static const struct json_table personality_table = JSON_TABLE(struct oci_personality, personality_fields);

static const struct json_field intel_rdt_fields[] = {
    ROW("closID", JSON_TEXT, oci_intel_rdt, clos_id),
    ROW("l3CacheSchema", JSON_TEXT, oci_intel_rdt, l3_cache_schema),
    ROW("memBwSchema", JSON_TEXT, oci_intel_rdt, mem_bw_schema),
    ROW("enableCMT", JSON_FLAG, oci_intel_rdt, enable_cmt),
    ROW("enableMBM", JSON_FLAG, oci_intel_rdt, enable_mbm),
};
static const struct json_table intel_rdt_table = JSON_TABLE(struct oci_intel_rdt, intel_rdt_fields);

static const struct json_field linux_fields[] = {
    ROW("namespaces", JSON_LIST, oci_linux, namespaces, .sub = &namespace_table),
    ROW("devices", JSON_LIST, oci_linux, devices, .sub = &device_table),
    ROW("maskedPaths", JSON_TEXTS, oci_linux, masked_paths),
    ROW("readonlyPaths", JSON_TEXTS, oci_linux, readonly_paths),
    ROW("sysctl", JSON_TEXT_MAP, oci_linux, sysctl),
    ROW("cgroupsPath", JSON_TEXT, oci_linux, cgroups_path),
    ROW("resources", JSON_STRUCT, oci_linux, resources, .sub = &oci_resources_table),
    ROW("seccompProfile", JSON_TEXT, oci_linux, seccomp_profile),
    ROW("rootfsPropagation", JSON_TEXT, oci_linux, rootfs_propagation),
    ROW("shmSize", JSON_INT, oci_linux, shm_size),
    ROW("uidMappings", JSON_LIST, oci_linux, uid_mappings, .sub = &oci_id_mapping_table, .flags = JSON_OMIT_EMPTY),
    ROW("gidMappings", JSON_LIST, oci_linux, gid_mappings, .sub = &oci_id_mapping_table, .flags = JSON_OMIT_EMPTY),
    ROW("timeOffsets", JSON_MAP, oci_linux, time_offsets, .sub = &oci_time_offset_table, .flags = JSON_OMIT_EMPTY),
    ROW("mountLabel", JSON_TEXT, oci_linux, mount_label, .flags = JSON_OMIT_EMPTY),
    ROW("seccomp", JSON_RAW, oci_linux, seccomp, .flags = JSON_OMIT_EMPTY),
    ROW("personality", JSON_STRUCT_PTR, oci_linux, personality, .sub = &personality_table, .flags = JSON_OMIT_EMPTY),
    ROW("intelRdt", JSON_STRUCT_PTR, oci_linux, intel_rdt, .sub = &intel_rdt_table, .flags = JSON_OMIT_EMPTY),
    ROW("wholeMachine", JSON_FLAG, oci_linux, whole_machine),
    ROW("writableCgroups", JSON_FLAG, oci_linux, writable_cgroups),
    ROW("noShm", JSON_FLAG, oci_linux, no_shm, .flags = JSON_OMIT_EMPTY),
};
const struct json_table oci_linux_table = JSON_TABLE(struct oci_linux, linux_fields);

// ---- config.json ----------------------------------------------------------------------------------------------------

static const struct json_field root_fields[] = {
    ROW("path", JSON_TEXT, oci_root, path),
    ROW("readonly", JSON_FLAG, oci_root, read_only),
};
static const struct json_table root_table = JSON_TABLE(struct oci_root, root_fields);

static const struct json_field mount_fields[] = {
    ROW("destination", JSON_TEXT, oci_mount, destination),
    ROW("type", JSON_TEXT, oci_mount, type),
    ROW("source", JSON_TEXT, oci_mount, source),
    ROW("options", JSON_TEXTS, oci_mount, options),
    ROW("uidMappings", JSON_LIST, oci_mount, uid_mappings, .sub = &oci_id_mapping_table),
    ROW("gidMappings", JSON_LIST, oci_mount, gid_mappings, .sub = &oci_id_mapping_table),
};
const struct json_table oci_mount_table = JSON_TABLE(struct oci_mount, mount_fields);

static const struct json_field hook_fields[] = {
    ROW("path", JSON_TEXT, oci_hook, path),
    ROW("args", JSON_TEXTS, oci_hook, args),
    ROW("env", JSON_TEXTS, oci_hook, env),
    ROW("timeout", JSON_INT, oci_hook, timeout),
};
const struct json_table oci_hook_table = JSON_TABLE(struct oci_hook, hook_fields);

static const struct json_field hooks_fields[] = {
    ROW("prestart", JSON_LIST, oci_hooks, prestart, .sub = &oci_hook_table),
    ROW("createRuntime", JSON_LIST, oci_hooks, create_runtime, .sub = &oci_hook_table),
    ROW("createContainer", JSON_LIST, oci_hooks, create_container, .sub = &oci_hook_table),
    ROW("startContainer", JSON_LIST, oci_hooks, start_container, .sub = &oci_hook_table),
    ROW("poststart", JSON_LIST, oci_hooks, poststart, .sub = &oci_hook_table),
    ROW("poststop", JSON_LIST, oci_hooks, poststop, .sub = &oci_hook_table),
};
const struct json_table oci_hooks_table = JSON_TABLE(struct oci_hooks, hooks_fields);

static const struct json_field config_fields[] = {
    ROW("ociVersion", JSON_TEXT, oci_config, version),
    ROW("process", JSON_STRUCT_PTR, oci_config, process, .sub = &oci_process_table),
    ROW("root", JSON_STRUCT_PTR, oci_config, root, .sub = &root_table),
    ROW("hostname", JSON_TEXT, oci_config, hostname),
    ROW("domainname", JSON_TEXT, oci_config, domainname),
    ROW("mounts", JSON_LIST, oci_config, mounts, .sub = &oci_mount_table),
    ROW("hooks", JSON_STRUCT_PTR, oci_config, hooks, .sub = &oci_hooks_table),
    ROW("annotations", JSON_TEXT_MAP, oci_config, annotations),
    ROW("linux", JSON_STRUCT_PTR, oci_config, linux_section, .sub = &oci_linux_table),
};
const struct json_table oci_config_table = JSON_TABLE(struct oci_config, config_fields);

static bool has(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return value && !json_is_null(value);
}

static void mark_absent(const json_t *document, struct oci_process *process)
{
    process->keep_oom_score = !has(document, "oomScoreAdj");
    if (!has(json_object_get(document, "user"), "umask"))
        process->user.umask = -1;
    // Names are Berth's own addition to the task document; a stranger's config.json has numbers.
    process->user.name = NULL;
    process->user.groups = (struct strv){ 0 };
}

// A number that is left out of a device rule means any; and in a device it is zero.
static void mark_any(const json_t *resources, struct json_list *rules)
{
    const json_t *list = json_object_get(resources, "devices");
    struct oci_device_rule *items = rules->items;
    for (size_t i = 0; i < rules->len; i++) {
        const json_t *rule = json_array_get(list, i);
        items[i].major = has(rule, "major") ? items[i].major : -1;
        items[i].minor = has(rule, "minor") ? items[i].minor : -1;
    }
}

// Nodes have numbers, pipes have none.
static void mark_unnumbered(const json_t *section, struct json_list *devices)
{
    const json_t *list = json_object_get(section, "devices");
    struct oci_device *items = devices->items;
    for (size_t i = 0; i < devices->len; i++) {
        const json_t *device = json_array_get(list, i);
        if (items[i].type && items[i].type[0] != 'p' && !(has(device, "major") && has(device, "minor")))
            items[i].major = items[i].minor = -1;
    }
}

// Zero is no time, and what is absent is zero.
static void mark_no_time(const json_t *list, struct json_list *hooks)
{
    struct oci_hook *items = hooks->items;
    for (size_t i = 0; i < hooks->len; i++)
        if (has(json_array_get(list, i), "timeout") && items[i].timeout <= 0)
            items[i].timeout = -1;
}

static void mark_hooks(const json_t *document, struct oci_hooks *hooks)
{
    mark_no_time(json_object_get(document, "prestart"), &hooks->prestart);
    mark_no_time(json_object_get(document, "createRuntime"), &hooks->create_runtime);
    mark_no_time(json_object_get(document, "createContainer"), &hooks->create_container);
    mark_no_time(json_object_get(document, "startContainer"), &hooks->start_container);
    mark_no_time(json_object_get(document, "poststart"), &hooks->poststart);
    mark_no_time(json_object_get(document, "poststop"), &hooks->poststop);
}

int oci_resources_decode(json_t *document, struct oci_resources *out, struct arena *arena, struct err *err)
{
    if (json_decode(&oci_resources_table, document, out, arena, NULL, err) < 0)
        return -1;
    mark_any(document, &out->devices);
    return 0;
}

int oci_process_decode(json_t *document, struct oci_process *out, struct arena *arena, struct err *err)
{
    if (json_decode(&oci_process_table, document, out, arena, NULL, err) < 0)
        return -1;
    mark_absent(document, out);
    return 0;
}

int oci_config_decode(json_t *document, struct oci_config *out, struct arena *arena, struct err *err)
{
    if (json_decode(&oci_config_table, document, out, arena, NULL, err) < 0)
        return -1;
    if (out->process)
        mark_absent(json_object_get(document, "process"), out->process);
    if (out->hooks)
        mark_hooks(json_object_get(document, "hooks"), out->hooks);
    if (out->linux_section) {
        mark_unnumbered(json_object_get(document, "linux"), &out->linux_section->devices);
        out->linux_section->seccomp_profile = NULL; // the task document's words, too
        out->linux_section->whole_machine = out->linux_section->writable_cgroups = false;
        mark_any(json_object_get(json_object_get(document, "linux"), "resources"), &out->linux_section->resources.devices);
    }
    return 0;
}
