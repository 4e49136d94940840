// The index of the create body: what is honoured, what is harmless, what is refused. Order and names are Docker's.
#include "engine/engine.h"

#define AT(type, member) offsetof(struct type, member)
#define ROW(field_name, field_kind, type, member, ...) \
    { .name = (field_name), .kind = (field_kind), .offset = AT(type, member), ##__VA_ARGS__ }

static const struct json_field port_binding_fields[] = {
    ROW("HostIp", JSON_TEXT, port_binding, host_ip),
    ROW("HostPort", JSON_TEXT, port_binding, host_port),
};
const struct json_table port_binding_table = JSON_TABLE(struct port_binding, port_binding_fields);

static const struct json_field log_config_fields[] = {
    ROW("Type", JSON_TEXT, log_config, type),
    ROW("Config", JSON_TEXT_MAP, log_config, config),
};
const struct json_table log_config_table = JSON_TABLE(struct log_config, log_config_fields);

static const struct json_field restart_policy_fields[] = {
    ROW("Name", JSON_TEXT, restart_policy, name),
    ROW("MaximumRetryCount", JSON_INT, restart_policy, maximum_retry_count),
};
const struct json_table restart_policy_table = JSON_TABLE(struct restart_policy, restart_policy_fields);

static const struct json_field ulimit_fields[] = {
    ROW("Name", JSON_TEXT, ulimit, name),
    ROW("Soft", JSON_INT, ulimit, soft),
    ROW("Hard", JSON_INT, ulimit, hard),
};
const struct json_table ulimit_table = JSON_TABLE(struct ulimit, ulimit_fields);

static const struct json_field mount_tmpfs_fields[] = {
    ROW("SizeBytes", JSON_INT, mount_tmpfs_options, size_bytes),
    ROW("Mode", JSON_INT, mount_tmpfs_options, mode),
    ROW("Options", JSON_RAW, mount_tmpfs_options, options),
};
static const struct json_table mount_tmpfs_table = JSON_TABLE(struct mount_tmpfs_options, mount_tmpfs_fields);

static const struct json_field mount_bind_fields[] = {
    ROW("Propagation", JSON_TEXT, mount_bind_options, propagation),
    ROW("NonRecursive", JSON_FLAG, mount_bind_options, non_recursive),
    ROW("CreateMountpoint", JSON_FLAG, mount_bind_options, create_mountpoint),
    ROW("ReadOnlyNonRecursive", JSON_FLAG, mount_bind_options, read_only_non_recursive),
    ROW("ReadOnlyForceRecursive", JSON_FLAG, mount_bind_options, read_only_force_recursive),
};
static const struct json_table mount_bind_table = JSON_TABLE(struct mount_bind_options, mount_bind_fields);

static const struct json_field mount_driver_fields[] = {
    ROW("Name", JSON_TEXT, mount_driver, name),
    ROW("Options", JSON_TEXT_MAP, mount_driver, options),
};
static const struct json_table mount_driver_table = JSON_TABLE(struct mount_driver, mount_driver_fields);

static const struct json_field mount_volume_fields[] = {
    ROW("NoCopy", JSON_FLAG, mount_volume_options, no_copy),
    ROW("Labels", JSON_TEXT_MAP, mount_volume_options, labels),
    ROW("DriverConfig", JSON_STRUCT_PTR, mount_volume_options, driver, .sub = &mount_driver_table),
    ROW("Subpath", JSON_TEXT, mount_volume_options, subpath),
};
static const struct json_table mount_volume_table = JSON_TABLE(struct mount_volume_options, mount_volume_fields);

static const struct json_field mount_image_fields[] = {
    ROW("Subpath", JSON_TEXT, mount_image_options, subpath),
};
static const struct json_table mount_image_table = JSON_TABLE(struct mount_image_options, mount_image_fields);

static const struct json_field mount_request_fields[] = {
    ROW("Type", JSON_TEXT, mount_request, type, .required = true),
    ROW("Source", JSON_TEXT, mount_request, source),
    ROW("Target", JSON_TEXT, mount_request, target, .required = true),
    ROW("ReadOnly", JSON_FLAG, mount_request, read_only),
    ROW("TmpfsOptions", JSON_STRUCT_PTR, mount_request, tmpfs, .sub = &mount_tmpfs_table),
    JSON_KNOWN("Consistency"),
    ROW("BindOptions", JSON_STRUCT_PTR, mount_request, bind, .sub = &mount_bind_table),
    ROW("VolumeOptions", JSON_STRUCT_PTR, mount_request, volume, .sub = &mount_volume_table),
    ROW("ImageOptions", JSON_STRUCT_PTR, mount_request, image, .sub = &mount_image_table),
    JSON_REFUSED("ClusterOptions"),
};
const struct json_table mount_request_table = JSON_TABLE(struct mount_request, mount_request_fields);

static const struct json_field device_mapping_fields[] = {
    ROW("PathOnHost", JSON_TEXT, device_mapping, path_on_host),
    ROW("PathInContainer", JSON_TEXT, device_mapping, path_in_container),
    ROW("CgroupPermissions", JSON_TEXT, device_mapping, cgroup_permissions),
};
const struct json_table device_mapping_table = JSON_TABLE(struct device_mapping, device_mapping_fields);

static const struct json_field device_request_fields[] = {
    ROW("Driver", JSON_TEXT, device_request, driver),
    ROW("Count", JSON_INT, device_request, count),
    ROW("DeviceIDs", JSON_TEXTS, device_request, device_ids),
    ROW("Capabilities", JSON_RAW, device_request, capabilities_raw),
    ROW("Options", JSON_TEXT_MAP, device_request, options),
};
const struct json_table device_request_table = JSON_TABLE(struct device_request, device_request_fields);

static const struct json_field device_rate_fields[] = {
    ROW("Path", JSON_TEXT, device_rate, path),
    ROW("Rate", JSON_INT, device_rate, rate),
};
const struct json_table device_rate_table = JSON_TABLE(struct device_rate, device_rate_fields);

static const struct json_field device_weight_fields[] = {
    ROW("Path", JSON_TEXT, device_weight, path),
    ROW("Weight", JSON_INT, device_weight, weight),
};
const struct json_table device_weight_table = JSON_TABLE(struct device_weight, device_weight_fields);

static const struct json_field host_config_fields[] = {
    ROW("Binds", JSON_TEXTS, host_config, binds),
    JSON_KNOWN("ContainerIDFile"), // written by the client
    ROW("LogConfig", JSON_STRUCT, host_config, log_config, .sub = &log_config_table),
    ROW("NetworkMode", JSON_TEXT, host_config, network_mode),
    ROW("PortBindings", JSON_LIST_MAP, host_config, port_bindings, .sub = &port_binding_table),
    ROW("RestartPolicy", JSON_STRUCT, host_config, restart_policy, .sub = &restart_policy_table),
    ROW("AutoRemove", JSON_FLAG, host_config, auto_remove),
    JSON_REFUSED("VolumeDriver", .flags = JSON_NOOP_LOCAL_WORD),
    ROW("VolumesFrom", JSON_TEXTS, host_config, volumes_from),
    ROW("ConsoleSize", JSON_RAW, host_config, console_size_raw),
    ROW("Annotations", JSON_TEXT_MAP, host_config, annotations),
    ROW("CapAdd", JSON_TEXTS, host_config, cap_add, .flags = JSON_ONE_IS_LIST),
    ROW("CapDrop", JSON_TEXTS, host_config, cap_drop, .flags = JSON_ONE_IS_LIST),
    JSON_REFUSED("Capabilities"),
    ROW("CgroupnsMode", JSON_TEXT, host_config, cgroupns_mode),
    ROW("Dns", JSON_TEXTS, host_config, dns),
    ROW("DnsOptions", JSON_TEXTS, host_config, dns_options),
    ROW("DnsSearch", JSON_TEXTS, host_config, dns_search),
    ROW("ExtraHosts", JSON_TEXTS, host_config, extra_hosts),
    ROW("GroupAdd", JSON_TEXTS, host_config, group_add),
    ROW("IpcMode", JSON_TEXT, host_config, ipc_mode),
    JSON_REFUSED("Cgroup"),
    ROW("Links", JSON_TEXTS, host_config, links),
    ROW("OomScoreAdj", JSON_INT, host_config, oom_score_adj),
    ROW("PidMode", JSON_TEXT, host_config, pid_mode),
    ROW("Privileged", JSON_FLAG, host_config, privileged),
    ROW("PublishAllPorts", JSON_FLAG, host_config, publish_all_ports),
    ROW("ReadonlyRootfs", JSON_FLAG, host_config, read_only_rootfs),
    ROW("SecurityOpt", JSON_TEXTS, host_config, security_opt),
    ROW("StorageOpt", JSON_TEXT_MAP, host_config, storage_opt),
    ROW("Tmpfs", JSON_TEXT_MAP, host_config, tmpfs),
    ROW("UTSMode", JSON_TEXT, host_config, uts_mode),
    ROW("UsernsMode", JSON_TEXT, host_config, userns_mode),
    ROW("ShmSize", JSON_INT, host_config, shm_size),
    ROW("Sysctls", JSON_TEXT_MAP, host_config, sysctls),
    ROW("Runtime", JSON_TEXT, host_config, runtime),
    ROW("Isolation", JSON_TEXT, host_config, isolation),
    ROW("CpuShares", JSON_INT, host_config, cpu_shares),
    ROW("Memory", JSON_INT, host_config, memory),
    ROW("NanoCpus", JSON_INT, host_config, nano_cpus),
    ROW("CgroupParent", JSON_TEXT, host_config, cgroup_parent),
    ROW("BlkioWeight", JSON_INT, host_config, blkio_weight),
    ROW("BlkioWeightDevice", JSON_LIST, host_config, blkio_weights, .sub = &device_weight_table),
    ROW("BlkioDeviceReadBps", JSON_LIST, host_config, blkio_read_bps, .sub = &device_rate_table),
    ROW("BlkioDeviceWriteBps", JSON_LIST, host_config, blkio_write_bps, .sub = &device_rate_table),
    ROW("BlkioDeviceReadIOps", JSON_LIST, host_config, blkio_read_iops, .sub = &device_rate_table),
    ROW("BlkioDeviceWriteIOps", JSON_LIST, host_config, blkio_write_iops, .sub = &device_rate_table),
    ROW("CpuPeriod", JSON_INT, host_config, cpu_period),
    ROW("CpuQuota", JSON_INT, host_config, cpu_quota),
    JSON_REFUSED("CpuRealtimePeriod"),
    JSON_REFUSED("CpuRealtimeRuntime"),
    ROW("CpusetCpus", JSON_TEXT, host_config, cpuset_cpus),
    ROW("CpusetMems", JSON_TEXT, host_config, cpuset_mems),
    ROW("Devices", JSON_LIST, host_config, devices, .sub = &device_mapping_table),
    ROW("DeviceCgroupRules", JSON_TEXTS, host_config, device_cgroup_rules),
    ROW("DeviceRequests", JSON_LIST, host_config, device_requests, .sub = &device_request_table),
    JSON_KNOWN("KernelMemory"), // no kernel of today has it; Docker ignores it as well
    JSON_REFUSED("KernelMemoryTCP"),
    ROW("MemoryReservation", JSON_INT, host_config, memory_reservation),
    ROW("MemorySwap", JSON_INT, host_config, memory_swap),
    ROW("MemorySwappiness", JSON_RAW, host_config, memory_swappiness_raw),
    ROW("OomKillDisable", JSON_FLAG, host_config, oom_kill_disable),
    ROW("PidsLimit", JSON_INT, host_config, pids_limit),
    ROW("Ulimits", JSON_LIST, host_config, ulimits, .sub = &ulimit_table),
    JSON_REFUSED("CpuCount"),
    JSON_REFUSED("CpuPercent"),
    JSON_REFUSED("IOMaximumIOps"),
    JSON_REFUSED("IOMaximumBandwidth"),
    ROW("Mounts", JSON_LIST, host_config, mounts, .sub = &mount_request_table),
    ROW("MaskedPaths", JSON_RAW, host_config, masked_paths_raw),
    ROW("ReadonlyPaths", JSON_RAW, host_config, readonly_paths_raw),
    ROW("Init", JSON_RAW, host_config, init_raw),
};
const struct json_table host_config_table = JSON_TABLE(struct host_config, host_config_fields);

#define UPDATE_ROW(field_name, field_kind, member, ...) ROW(field_name, field_kind, update_request, limits.member, ##__VA_ARGS__)

static const struct json_field update_request_fields[] = {
    UPDATE_ROW("CpuShares", JSON_INT, cpu_shares),
    UPDATE_ROW("Memory", JSON_INT, memory),
    UPDATE_ROW("NanoCpus", JSON_INT, nano_cpus),
    JSON_REFUSED("CgroupParent"),
    UPDATE_ROW("BlkioWeight", JSON_INT, blkio_weight),
    JSON_REFUSED("BlkioWeightDevice"),
    JSON_REFUSED("BlkioDeviceReadBps"),
    JSON_REFUSED("BlkioDeviceWriteBps"),
    JSON_REFUSED("BlkioDeviceReadIOps"),
    JSON_REFUSED("BlkioDeviceWriteIOps"),
    UPDATE_ROW("CpuPeriod", JSON_INT, cpu_period),
    UPDATE_ROW("CpuQuota", JSON_INT, cpu_quota),
    JSON_REFUSED("CpuRealtimePeriod"),
    JSON_REFUSED("CpuRealtimeRuntime"),
    UPDATE_ROW("CpusetCpus", JSON_TEXT, cpuset_cpus),
    UPDATE_ROW("CpusetMems", JSON_TEXT, cpuset_mems),
    JSON_REFUSED("Devices"),
    JSON_REFUSED("DeviceCgroupRules"),
    JSON_REFUSED("DeviceRequests"),
    JSON_KNOWN("KernelMemory"),
    JSON_REFUSED("KernelMemoryTCP"),
    UPDATE_ROW("MemoryReservation", JSON_INT, memory_reservation),
    UPDATE_ROW("MemorySwap", JSON_INT, memory_swap),
    JSON_REFUSED("MemorySwappiness", .flags = JSON_NOOP_MINUS_ONE),
    JSON_REFUSED("OomKillDisable"),
    ROW("PidsLimit", JSON_RAW, update_request, pids_limit_raw),
    JSON_REFUSED("Ulimits"),
    JSON_REFUSED("CpuCount"),
    JSON_REFUSED("CpuPercent"),
    JSON_REFUSED("IOMaximumIOps"),
    JSON_REFUSED("IOMaximumBandwidth"),
    UPDATE_ROW("RestartPolicy", JSON_STRUCT, restart_policy, .sub = &restart_policy_table),
};
const struct json_table update_request_table = JSON_TABLE(struct update_request, update_request_fields);

static const struct json_field networking_fields[] = {
    // Offset of the member in the container: the section is flattened into it.
    ROW("EndpointsConfig", JSON_MAP, container_config, endpoints, .sub = &endpoint_request_table),
};
static const struct json_table networking_table = JSON_TABLE(struct container_config, networking_fields);

#define IMAGE_ROW(field_name, field_kind, member, ...) \
    { .name = (field_name), .kind = (field_kind), .offset = AT(container_config, process.member), ##__VA_ARGS__ }

static const struct json_field container_config_fields[] = {
    ROW("Hostname", JSON_TEXT, container_config, hostname),
    ROW("Domainname", JSON_TEXT, container_config, domainname),
    IMAGE_ROW("User", JSON_TEXT, user),
    ROW("AttachStdin", JSON_FLAG, container_config, attach_stdin),
    ROW("AttachStdout", JSON_FLAG, container_config, attach_stdout),
    ROW("AttachStderr", JSON_FLAG, container_config, attach_stderr),
    IMAGE_ROW("ExposedPorts", JSON_KEY_SET, exposed_ports),
    ROW("Tty", JSON_FLAG, container_config, tty),
    ROW("OpenStdin", JSON_FLAG, container_config, open_stdin),
    ROW("StdinOnce", JSON_FLAG, container_config, stdin_once),
    IMAGE_ROW("Env", JSON_TEXTS, env),
    IMAGE_ROW("Cmd", JSON_TEXTS, cmd, .flags = JSON_ONE_IS_LIST),
    IMAGE_ROW("Healthcheck", JSON_STRUCT_PTR, healthcheck, .sub = &oci_healthcheck_table),
    JSON_KNOWN("ArgsEscaped"), // Windows only
    ROW("Image", JSON_TEXT, container_config, image),
    IMAGE_ROW("Volumes", JSON_KEY_SET, volumes),
    IMAGE_ROW("WorkingDir", JSON_TEXT, working_dir),
    IMAGE_ROW("Entrypoint", JSON_TEXTS, entrypoint, .flags = JSON_ONE_IS_LIST),
    ROW("NetworkDisabled", JSON_FLAG, container_config, network_disabled),
    ROW("MacAddress", JSON_TEXT, container_config, mac_address),
    IMAGE_ROW("OnBuild", JSON_TEXTS, on_build),
    IMAGE_ROW("Labels", JSON_TEXT_MAP, labels),
    IMAGE_ROW("StopSignal", JSON_TEXT, stop_signal),
    ROW("StopTimeout", JSON_RAW, container_config, stop_timeout_raw),
    IMAGE_ROW("Shell", JSON_TEXTS, shell),
    ROW("HostConfig", JSON_STRUCT, container_config, host_config, .sub = &host_config_table),
    { .name = "NetworkingConfig", .kind = JSON_STRUCT, .offset = 0, .sub = &networking_table },
};
const struct json_table container_config_table = JSON_TABLE(struct container_config, container_config_fields);

static const struct json_field exec_config_fields[] = {
    ROW("AttachStdin", JSON_FLAG, exec_config, attach_stdin),
    ROW("AttachStdout", JSON_FLAG, exec_config, attach_stdout),
    ROW("AttachStderr", JSON_FLAG, exec_config, attach_stderr),
    ROW("Tty", JSON_FLAG, exec_config, tty),
    ROW("DetachKeys", JSON_TEXT, exec_config, detach_keys),
    ROW("User", JSON_TEXT, exec_config, user),
    ROW("WorkingDir", JSON_TEXT, exec_config, working_dir),
    ROW("Env", JSON_TEXTS, exec_config, env),
    ROW("Cmd", JSON_TEXTS, exec_config, cmd, .flags = JSON_ONE_IS_LIST),
    ROW("ConsoleSize", JSON_RAW, exec_config, console_size_raw),
    ROW("Privileged", JSON_FLAG, exec_config, privileged),
    JSON_KNOWN("Detach"), // said again at start
    JSON_KNOWN("Container"),
    JSON_KNOWN("ExecIDs"),
};
const struct json_table exec_config_table = JSON_TABLE(struct exec_config, exec_config_fields);
