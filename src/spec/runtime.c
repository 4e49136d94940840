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

static const struct json_field resources_fields[] = {
    ROW("devices", JSON_LIST, oci_resources, devices, .sub = &device_rule_table),
    ROW("memory", JSON_STRUCT, oci_resources, memory_limit, .sub = &memory_table),
    ROW("cpu", JSON_STRUCT, oci_resources, cpu_shares, .sub = &cpu_table),
    ROW("pids", JSON_STRUCT, oci_resources, pids_limit, .sub = &pids_table),
};
const struct json_table oci_resources_table = JSON_TABLE(struct oci_resources, resources_fields);

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
    ROW("wholeMachine", JSON_FLAG, oci_linux, whole_machine),
};
const struct json_table oci_linux_table = JSON_TABLE(struct oci_linux, linux_fields);
