// The OCI documents as C types, with the field tables that read and write them.
//
// Runtime side (runtime-spec 1.2, config.md and config-linux.md): the process and linux sections that travel in the task
// document and that the sandbox compiles into a plan. Image side (image-spec 1.1): config, manifest, index, and the
// manifest.json of `docker save`. All strings and lists live in the arena that the decoder was given.
#ifndef SPEC_SPEC_H
#define SPEC_SPEC_H

#include "json/json.h"

// ---- runtime-spec: process ------------------------------------------------------------------------------------------

struct oci_user {
    int64_t uid, gid;
    int64_t umask; // -1 when unset
    json_t *additional_gids_raw; // array of integers, may be NULL
    // Not in the spec: "user[:group]" by name or number, as an image's User says it. Looked up by the wall in the
    // rootfs; wins over the numbers. NULL or "" when unset.
    char *name;
    struct strv groups; // not in the spec: --group-add, names or numbers
};

struct oci_box {
    int64_t height, width;
};

struct oci_capabilities {
    struct strv bounding, effective, inheritable, permitted, ambient; // "CAP_CHOWN"
};

struct oci_rlimit {
    char *type; // "RLIMIT_NOFILE"
    int64_t soft, hard;
};

struct oci_process {
    bool terminal;
    struct oci_box console_size; // 0x0: the kernel's default
    struct oci_user user;
    struct strv args;
    struct strv env;
    char *cwd; // absolute
    struct oci_capabilities *capabilities; // NULL: none at all
    struct json_list rlimits; // struct oci_rlimit
    bool no_new_privileges;
    int64_t oom_score_adj;
    bool keep_oom_score; // not in the spec: the document says nothing of oomScoreAdj
    char *apparmor_profile, *selinux_label;
    struct oci_scheduler *scheduler;
    struct oci_io_priority *io_priority;
    struct oci_cpu_affinity *exec_cpu_affinity;
};

struct oci_scheduler {
    char *policy; // "SCHED_OTHER"
    int64_t nice, priority;
    struct strv flags; // "SCHED_FLAG_RESET_ON_FORK"
    int64_t runtime, deadline, period; // ns
};

struct oci_io_priority {
    char *class; // "IOPRIO_CLASS_BE"
    int64_t priority;
};

struct oci_cpu_affinity {
    char *initial, *final; // "0-3,7"
};

extern const struct json_table oci_rlimit_table;
extern const struct json_table oci_process_table;

// ---- runtime-spec: linux --------------------------------------------------------------------------------------------

struct oci_namespace {
    char *type; // "pid" "network" "mount" "ipc" "uts" "cgroup" "user" "time"
    char *path; // join this one instead of making one; NULL makes
};

struct oci_device {
    char *path; // in the container
    char *type; // "c" "b" "p"
    int64_t major, minor; // -1: absent where the type needs them
    int64_t file_mode, uid, gid;
};

struct oci_device_rule {
    bool allow;
    char *type; // "a" "c" "b"
    int64_t major, minor; // -1: any
    char *access; // "rwm"
};

// Limits as the spec's linux.resources has them; 0 means "not set" unless said otherwise.
struct oci_resources {
    struct json_list devices; // struct oci_device_rule, applied in order
    // The members of each part stand together: the field tables count on it.
    int64_t memory_limit; // bytes
    int64_t memory_swap; // bytes, memory and swap together; -1 unlimited
    int64_t memory_reservation;
    int64_t cpu_shares;
    int64_t cpu_quota; // microseconds per period; -1 unlimited
    int64_t cpu_period; // microseconds
    char *cpuset_cpus, *cpuset_mems;
    int64_t pids_limit; // -1 unlimited
    int64_t io_weight; // 10 to 1000
};

// The rest of linux.resources, read from the same object by a table of its own. A json_t is an integer or absent.
struct oci_memory_more {
    int64_t kernel, kernel_tcp;
    json_t *swappiness;
    bool disable_oom_killer, check_before_update;
};

struct oci_cpu_more {
    int64_t realtime_runtime, realtime_period;
    json_t *burst, *idle;
};

struct oci_weight_device {
    int64_t major, minor, weight, leaf_weight;
};

struct oci_rate_device {
    int64_t major, minor, rate;
};

struct oci_block_io {
    int64_t weight, leaf_weight;
    struct json_list weight_device; // struct oci_weight_device
    struct json_list read_bps, write_bps, read_iops, write_iops; // struct oci_rate_device
};

struct oci_huge_page_limit {
    char *page_size;
    int64_t limit;
};

struct oci_interface_priority {
    char *name;
    int64_t priority;
};

struct oci_network_resources {
    int64_t class_id;
    struct json_list priorities; // struct oci_interface_priority
};

struct oci_rdma {
    json_t *hca_handles, *hca_objects;
};

struct oci_resources_more {
    struct oci_memory_more memory;
    struct oci_cpu_more cpu;
    struct oci_block_io block_io;
    struct json_list huge_pages; // struct oci_huge_page_limit
    struct oci_network_resources network;
    struct json_map rdma; // struct oci_rdma
    struct kvs unified;
};

extern const struct json_table oci_resources_more_table;
extern const struct json_table oci_rdma_table;

struct oci_linux {
    struct json_list namespaces; // struct oci_namespace
    struct json_list devices; // struct oci_device, besides the default ones
    struct strv masked_paths, readonly_paths;
    struct kvs sysctl;
    char *cgroups_path;
    struct oci_resources resources;
    char *seccomp_profile; // not in the spec: "default", "unconfined", or a profile of Docker's as its JSON text
    json_t *seccomp; // as it is; the sandbox compiles it
    char *rootfs_propagation;
    int64_t shm_size; // bytes of /dev/shm
    struct json_list uid_mappings, gid_mappings; // struct oci_id_mapping
    struct json_map time_offsets; // "boottime", "monotonic": struct oci_time_offset
    char *mount_label;
    struct oci_personality *personality;
    struct oci_intel_rdt *intel_rdt;
    // Not of the spec: /dev has every device of the machine it runs on, and /sys and /sys/fs/cgroup are writable.
    bool whole_machine;
    bool writable_cgroups; // so are its own groups, as with whole_machine
    bool no_shm; // nor of the spec: there is no /dev/shm
};

struct oci_id_mapping {
    int64_t container_id, host_id, size;
};

struct oci_time_offset {
    int64_t secs, nanosecs;
};

struct oci_personality {
    char *domain; // "LINUX", "LINUX32"
    struct strv flags;
};

struct oci_intel_rdt {
    char *clos_id, *l3_cache_schema, *mem_bw_schema;
    bool enable_cmt, enable_mbm;
};

extern const struct json_table oci_linux_table;
extern const struct json_table oci_resources_table;
extern const struct json_table oci_id_mapping_table;
extern const struct json_table oci_time_offset_table;

// ---- runtime-spec: the rest of config.json --------------------------------------------------------------------------

struct oci_root {
    char *path; // absolute, or relative to the bundle
    bool read_only;
};

struct oci_mount {
    char *destination, *type, *source;
    struct strv options;
    struct json_list uid_mappings, gid_mappings; // struct oci_id_mapping
};

struct oci_hook {
    char *path;
    struct strv args, env;
    int64_t timeout; // seconds; 0: none; -1: what is said is no time
};

struct oci_hooks {
    struct json_list prestart, create_runtime, create_container, start_container, poststart, poststop; // struct oci_hook
};

struct oci_config {
    char *version;
    struct oci_process *process; // NULL when absent, like all below
    struct oci_root *root;
    char *hostname, *domainname;
    struct json_list mounts; // struct oci_mount
    struct oci_hooks *hooks;
    struct kvs annotations;
    struct oci_linux *linux_section;
};

extern const struct json_table oci_config_table;
extern const struct json_table oci_hook_table, oci_hooks_table;
extern const struct json_table oci_mount_table;

// config.json (or, the second, a process.json) from its parsed text, with the values that differ from zero when a field is
// absent put right. `document` must live as long as *out.
int oci_config_decode(json_t *document, struct oci_config *out, struct arena *arena, struct err *err);
int oci_resources_decode(json_t *document, struct oci_resources *out, struct arena *arena, struct err *err);
int oci_process_decode(json_t *document, struct oci_process *out, struct arena *arena, struct err *err);

// ---- image-spec -----------------------------------------------------------------------------------------------------

#define MEDIA_OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define MEDIA_OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define MEDIA_BUILDKIT_CACHE "application/vnd.buildkit.cacheconfig.v0" // not an image: a list of a build's steps
#define MEDIA_OCI_CONFIG "application/vnd.oci.image.config.v1+json"
#define MEDIA_OCI_LAYER "application/vnd.oci.image.layer.v1.tar"
#define MEDIA_DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"
#define MEDIA_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define MEDIA_DOCKER_CONFIG "application/vnd.docker.container.image.v1+json"

struct oci_healthcheck {
    struct strv test;
    int64_t interval, timeout, start_period, start_interval, retries; // ns, count
};

// The `config` object of an image config, which is also the Config of Docker's API (Image, Hostname ... are the
// engine's own). Field names are Docker's.
struct oci_image_process {
    char *user;
    struct strv exposed_ports; // "80/tcp"
    struct strv env;
    struct strv entrypoint, cmd;
    struct strv volumes; // paths
    char *working_dir;
    struct kvs labels;
    char *stop_signal;
    struct strv shell, on_build;
    struct oci_healthcheck *healthcheck;
    bool args_escaped;
};

struct oci_history {
    char *created, *created_by, *author, *comment;
    bool empty_layer;
};

struct oci_rootfs {
    char *type; // "layers"
    struct strv diff_ids; // "sha256:<hex>", bottom first
};

// Whether a layer of this media type is a tar, plain or compressed in a way that is known.
bool oci_layer_is_tar(const char *media_type);

struct oci_image_config {
    char *created, *author, *architecture, *os, *os_version, *variant;
    char *docker_version, *comment, *container; // Docker's own additions
    struct oci_image_process config;
    struct oci_rootfs rootfs;
    struct json_list history; // struct oci_history
};

struct oci_platform {
    char *architecture, *os, *variant;
};

struct oci_descriptor {
    char *media_type, *digest;
    int64_t size;
    struct kvs annotations;
    struct oci_platform *platform;
};

struct oci_manifest {
    int64_t schema_version;
    char *media_type;
    struct oci_descriptor config;
    struct json_list layers; // struct oci_descriptor
    struct kvs annotations;
};

struct oci_index {
    int64_t schema_version;
    char *media_type;
    struct json_list manifests; // struct oci_descriptor
    struct kvs annotations;
};

// One entry of the manifest.json that `docker save` writes.
struct docker_archive_image {
    char *config; // path in the archive
    struct strv repo_tags, layers;
};

extern const struct json_table oci_healthcheck_table;
extern const struct json_table oci_image_process_table;
extern const struct json_table oci_image_config_table;
extern const struct json_table oci_history_table;
extern const struct json_table oci_descriptor_table;
extern const struct json_table oci_manifest_table;
extern const struct json_table oci_index_table;
extern const struct json_table docker_archive_image_table;

// "sha256:<64 lower-case hex>".
bool oci_digest_valid(const char *digest);
#define OCI_DIGEST_SIZE 72 // with the NUL
// The 64 hex digits behind "sha256:"; the digest must be valid.
static inline const char *oci_digest_hex(const char *digest)
{
    return digest + 7;
}

#endif
