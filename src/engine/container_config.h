// What a client asks for when it creates a container: Docker's Config, HostConfig and NetworkingConfig as one document.
// The tables are the index of the API's create body: each field is honoured (it has a member here), ignored (known and
// harmless), or refused with not_implemented and its JSON path. See "Options that can't be honoured" in
// docs/architecture.md; a generated test sends every field of the published API and checks the answer.
#ifndef ENGINE_CONTAINER_CONFIG_H
#define ENGINE_CONTAINER_CONFIG_H

#include "engine/network_request.h"
#include "spec/spec.h"

struct port_binding {
    char *host_ip, *host_port;
};

struct log_config {
    char *type; // "json-file" "none"; "" is the default
    struct kvs config;
};

struct restart_policy {
    char *name; // "no" "always" "unless-stopped" "on-failure"; "" is "no"
    int64_t maximum_retry_count; // of on-failure; 0: without end
};

struct ulimit {
    char *name;
    int64_t soft, hard;
};

struct device_mapping {
    char *path_on_host, *path_in_container, *cgroup_permissions; // the last two may be empty: the same, "rwm"
};

struct device_request {
    char *driver; // "cdi"
    int64_t count;
    struct strv device_ids; // "vendor.com/class=name"
    json_t *capabilities_raw;
    struct kvs options;
};

struct device_rate {
    char *path; // of a block device
    int64_t rate; // bytes or operations a second
};

struct device_weight {
    char *path;
    int64_t weight; // 10 to 1000
};

struct host_config {
    struct strv binds; // "src:dst[:opts]"
    struct strv volumes_from; // "container[:opts]"
    struct json_list mounts; // struct mount_request
    struct kvs tmpfs; // path -> options
    char *network_mode; // "default" "bridge" "none" "host"? "container:X"? (see the table)
    struct json_map port_bindings; // "80/tcp" -> list of struct port_binding
    bool publish_all_ports;
    bool auto_remove;
    struct strv cap_add, cap_drop;
    bool read_only_rootfs;
    struct kvs storage_opt; // "size" (quota.h)

    int64_t memory, memory_swap, memory_reservation; // bytes
    int64_t nano_cpus; // 1e9 per CPU
    int64_t cpu_shares, cpu_period, cpu_quota;
    char *cpuset_cpus, *cpuset_mems;
    int64_t pids_limit, blkio_weight;
    json_t *memory_swappiness_raw; // 0 to 100; null, absent or -1: as it is
    bool oom_kill_disable; // cgroup v1
    char *cgroup_parent; // "": the daemon's own group
    struct kvs annotations; // shown again; nothing here reads them
    struct json_list blkio_weights; // struct device_weight
    struct json_list blkio_read_bps, blkio_write_bps, blkio_read_iops, blkio_write_iops; // struct device_rate
    struct json_list devices; // struct device_mapping
    struct json_list device_requests; // struct device_request
    struct strv device_cgroup_rules; // "c 189:* rwm"
    int64_t shm_size;
    struct log_config log_config;
    struct restart_policy restart_policy;
    json_t *init_raw; // how `init` came: true, false or null
    struct strv links; // "name:alias", for the network mode's network
    struct strv group_add, extra_hosts, dns, dns_search, dns_options;
    json_t *masked_paths_raw, *readonly_paths_raw; // null: the defaults; [] none
    struct json_list ulimits; // struct ulimit
    struct strv security_opt; // "no-new-privileges", "seccomp=unconfined"
    int64_t oom_score_adj;
    struct kvs sysctls;
    json_t *console_size_raw; // [height, width]
    char *runtime; // "" "berth" "runc" "berth-vm"
    char *isolation; // "" "default" "container" "vm"
    bool privileged; // behind the VM wall: root of the guest and of nothing else
    char *cgroupns_mode; // "" "private" "host"
    char *ipc_mode, *pid_mode, *uts_mode, *userns_mode; // see namespaces.c
};

// What `docker update` may say; the members of `limits` that it can't are zero.
struct update_request {
    struct host_config limits;
    json_t *pids_limit_raw; // absent or null: as it is
};

struct mount_request {
    char *type; // "bind" "volume" "tmpfs" "image"
    char *source, *target;
    bool read_only;
    struct mount_bind_options {
        char *propagation;
        bool non_recursive, create_mountpoint, read_only_non_recursive, read_only_force_recursive;
    } *bind;
    struct mount_volume_options {
        bool no_copy;
        struct kvs labels; // of a new volume
        struct mount_driver {
            char *name;
            struct kvs options;
        } *driver;
        char *subpath;
    } *volume;
    struct mount_tmpfs_options {
        int64_t size_bytes, mode;
        json_t *options; // [["exec"]]
    } *tmpfs;
    struct mount_image_options {
        char *subpath;
    } *image;
};

struct container_config {
    char *image;
    struct oci_image_process process; // User ExposedPorts Env Entrypoint Cmd Volumes WorkingDir Labels StopSignal ...
    char *hostname, *domainname;
    bool attach_stdin, attach_stdout, attach_stderr;
    bool tty, open_stdin, stdin_once;
    bool network_disabled;
    char *mac_address; // of the mode's network, said by clients older than several networks
    bool no_image_volumes; // of a build's step: the image's volumes are folders of it
    int64_t stop_timeout; // seconds; -1 when absent
    json_t *stop_timeout_raw;
    struct host_config host_config;
    struct json_map endpoints; // NetworkingConfig.EndpointsConfig: struct endpoint_request
};

extern const struct json_table container_config_table; // the create body, whole
extern const struct json_table host_config_table, update_request_table;
extern const struct json_table port_binding_table, mount_request_table;
extern const struct json_table log_config_table, restart_policy_table, ulimit_table;
extern const struct json_table device_mapping_table, device_request_table, device_rate_table, device_weight_table;

#endif
