// linux.resources beyond what every engine sets: block devices, huge pages, rdma, network classes, realtime, unified keys.
#include "spec/spec.h"

#define ROW(field_name, field_kind, type, member, ...) \
    JSON_FIELD(field_name, field_kind, struct type, member, ##__VA_ARGS__)

static const struct json_field memory_fields[] = {
    ROW("kernel", JSON_INT, oci_memory_more, kernel),
    ROW("kernelTCP", JSON_INT, oci_memory_more, kernel_tcp),
    ROW("swappiness", JSON_RAW, oci_memory_more, swappiness),
    ROW("disableOOMKiller", JSON_FLAG, oci_memory_more, disable_oom_killer),
    ROW("checkBeforeUpdate", JSON_FLAG, oci_memory_more, check_before_update),
};
static const struct json_table memory_table = JSON_TABLE(struct oci_memory_more, memory_fields);

static const struct json_field cpu_fields[] = {
    ROW("realtimeRuntime", JSON_INT, oci_cpu_more, realtime_runtime),
    ROW("realtimePeriod", JSON_INT, oci_cpu_more, realtime_period),
    ROW("burst", JSON_RAW, oci_cpu_more, burst),
    ROW("idle", JSON_RAW, oci_cpu_more, idle),
};
static const struct json_table cpu_table = JSON_TABLE(struct oci_cpu_more, cpu_fields);

static const struct json_field weight_fields[] = {
    ROW("major", JSON_INT, oci_weight_device, major),
    ROW("minor", JSON_INT, oci_weight_device, minor),
    ROW("weight", JSON_INT, oci_weight_device, weight),
    ROW("leafWeight", JSON_INT, oci_weight_device, leaf_weight),
};
static const struct json_table oci_weight_device_table = JSON_TABLE(struct oci_weight_device, weight_fields);

static const struct json_field rate_fields[] = {
    ROW("major", JSON_INT, oci_rate_device, major),
    ROW("minor", JSON_INT, oci_rate_device, minor),
    ROW("rate", JSON_INT, oci_rate_device, rate),
};
static const struct json_table oci_rate_device_table = JSON_TABLE(struct oci_rate_device, rate_fields);

static const struct json_field block_io_fields[] = {
    ROW("weight", JSON_INT, oci_block_io, weight),
    ROW("leafWeight", JSON_INT, oci_block_io, leaf_weight),
    ROW("weightDevice", JSON_LIST, oci_block_io, weight_device, .sub = &oci_weight_device_table),
    ROW("throttleReadBpsDevice", JSON_LIST, oci_block_io, read_bps, .sub = &oci_rate_device_table),
    ROW("throttleWriteBpsDevice", JSON_LIST, oci_block_io, write_bps, .sub = &oci_rate_device_table),
    ROW("throttleReadIOPSDevice", JSON_LIST, oci_block_io, read_iops, .sub = &oci_rate_device_table),
    ROW("throttleWriteIOPSDevice", JSON_LIST, oci_block_io, write_iops, .sub = &oci_rate_device_table),
};
static const struct json_table block_io_table = JSON_TABLE(struct oci_block_io, block_io_fields);

static const struct json_field huge_page_fields[] = {
    ROW("pageSize", JSON_TEXT, oci_huge_page_limit, page_size, .required = true),
    ROW("limit", JSON_INT, oci_huge_page_limit, limit),
};
static const struct json_table oci_huge_page_limit_table = JSON_TABLE(struct oci_huge_page_limit, huge_page_fields);

static const struct json_field priority_fields[] = {
    ROW("name", JSON_TEXT, oci_interface_priority, name, .required = true),
    ROW("priority", JSON_INT, oci_interface_priority, priority),
};
static const struct json_table oci_interface_priority_table = JSON_TABLE(struct oci_interface_priority, priority_fields);

static const struct json_field network_fields[] = {
    ROW("classID", JSON_INT, oci_network_resources, class_id),
    ROW("priorities", JSON_LIST, oci_network_resources, priorities, .sub = &oci_interface_priority_table),
};
static const struct json_table network_table = JSON_TABLE(struct oci_network_resources, network_fields);

static const struct json_field rdma_fields[] = {
    ROW("hcaHandles", JSON_RAW, oci_rdma, hca_handles),
    ROW("hcaObjects", JSON_RAW, oci_rdma, hca_objects),
};
const struct json_table oci_rdma_table = JSON_TABLE(struct oci_rdma, rdma_fields);

static const struct json_field more_fields[] = {
    ROW("memory", JSON_STRUCT, oci_resources_more, memory, .sub = &memory_table),
    ROW("cpu", JSON_STRUCT, oci_resources_more, cpu, .sub = &cpu_table),
    ROW("blockIO", JSON_STRUCT, oci_resources_more, block_io, .sub = &block_io_table),
    ROW("hugepageLimits", JSON_LIST, oci_resources_more, huge_pages, .sub = &oci_huge_page_limit_table),
    ROW("network", JSON_STRUCT, oci_resources_more, network, .sub = &network_table),
    ROW("rdma", JSON_MAP, oci_resources_more, rdma, .sub = &oci_rdma_table),
    ROW("unified", JSON_TEXT_MAP, oci_resources_more, unified),
};
const struct json_table oci_resources_more_table = JSON_TABLE(struct oci_resources_more, more_fields);
