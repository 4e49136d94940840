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
    int64_t major, minor;
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
};

struct oci_linux {
    struct json_list namespaces; // struct oci_namespace
    struct json_list devices; // struct oci_device, besides the default ones
    struct strv masked_paths, readonly_paths;
    struct kvs sysctl;
    char *cgroups_path;
    struct oci_resources resources;
    char *seccomp_profile; // "default", "unconfined"; the spec's full section comes with the filter compiler
    char *rootfs_propagation;
    int64_t shm_size; // bytes of /dev/shm
    // Not of the spec: /dev has every device of the machine it runs on, and /sys and /sys/fs/cgroup are writable.
    bool whole_machine;
};

extern const struct json_table oci_linux_table;
extern const struct json_table oci_resources_table;

// ---- image-spec -----------------------------------------------------------------------------------------------------

#define MEDIA_OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define MEDIA_OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
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
