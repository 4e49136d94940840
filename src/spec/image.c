// The image side: config, manifest, index (image-spec 1.1), and what `docker save` adds. Unknown fields are ignored on reading;
// who needs them keeps the text.
#include "base/num.h"
#include "spec/spec.h"

#define ROW(field_name, field_kind, type, member, ...) \
    JSON_FIELD(field_name, field_kind, struct type, member, ##__VA_ARGS__)
#define OPTIONAL .flags = JSON_OMIT_EMPTY

static const struct json_field healthcheck_fields[] = {
    ROW("Test", JSON_TEXTS, oci_healthcheck, test, OPTIONAL),
    ROW("Interval", JSON_INT, oci_healthcheck, interval, OPTIONAL),
    ROW("Timeout", JSON_INT, oci_healthcheck, timeout, OPTIONAL),
    ROW("StartPeriod", JSON_INT, oci_healthcheck, start_period, OPTIONAL),
    ROW("StartInterval", JSON_INT, oci_healthcheck, start_interval, OPTIONAL),
    ROW("Retries", JSON_INT, oci_healthcheck, retries, OPTIONAL),
};
const struct json_table oci_healthcheck_table = JSON_TABLE(struct oci_healthcheck, healthcheck_fields);

static const struct json_field image_process_fields[] = {
    ROW("User", JSON_TEXT, oci_image_process, user),
    ROW("ExposedPorts", JSON_KEY_SET, oci_image_process, exposed_ports, OPTIONAL),
    ROW("Env", JSON_TEXTS, oci_image_process, env),
    ROW("Entrypoint", JSON_TEXTS, oci_image_process, entrypoint, .flags = JSON_ONE_IS_LIST | JSON_NULL_EMPTY),
    ROW("Cmd", JSON_TEXTS, oci_image_process, cmd, .flags = JSON_ONE_IS_LIST | JSON_NULL_EMPTY),
    ROW("Volumes", JSON_KEY_SET, oci_image_process, volumes, .flags = JSON_NULL_EMPTY),
    ROW("WorkingDir", JSON_TEXT, oci_image_process, working_dir),
    ROW("Labels", JSON_TEXT_MAP, oci_image_process, labels, .flags = JSON_NULL_EMPTY),
    ROW("StopSignal", JSON_TEXT, oci_image_process, stop_signal, OPTIONAL),
    ROW("Shell", JSON_TEXTS, oci_image_process, shell, OPTIONAL),
    ROW("OnBuild", JSON_TEXTS, oci_image_process, on_build, .flags = JSON_NULL_EMPTY),
    ROW("Healthcheck", JSON_STRUCT_PTR, oci_image_process, healthcheck, .sub = &oci_healthcheck_table, OPTIONAL),
    ROW("ArgsEscaped", JSON_FLAG, oci_image_process, args_escaped, OPTIONAL),
};
const struct json_table oci_image_process_table = JSON_TABLE(struct oci_image_process, image_process_fields);

static const struct json_field history_fields[] = {
    ROW("created", JSON_TEXT, oci_history, created, OPTIONAL),
    ROW("created_by", JSON_TEXT, oci_history, created_by, OPTIONAL),
    ROW("author", JSON_TEXT, oci_history, author, OPTIONAL),
    ROW("comment", JSON_TEXT, oci_history, comment, OPTIONAL),
    ROW("empty_layer", JSON_FLAG, oci_history, empty_layer, OPTIONAL),
};
const struct json_table oci_history_table = JSON_TABLE(struct oci_history, history_fields);

static const struct json_field rootfs_fields[] = {
    ROW("type", JSON_TEXT, oci_rootfs, type),
    ROW("diff_ids", JSON_TEXTS, oci_rootfs, diff_ids),
};
static const struct json_table rootfs_table = JSON_TABLE(struct oci_rootfs, rootfs_fields);

static const struct json_field image_config_fields[] = {
    ROW("created", JSON_TEXT, oci_image_config, created, OPTIONAL),
    ROW("author", JSON_TEXT, oci_image_config, author, OPTIONAL),
    ROW("architecture", JSON_TEXT, oci_image_config, architecture),
    ROW("os", JSON_TEXT, oci_image_config, os),
    ROW("os.version", JSON_TEXT, oci_image_config, os_version, OPTIONAL),
    ROW("variant", JSON_TEXT, oci_image_config, variant, OPTIONAL),
    ROW("docker_version", JSON_TEXT, oci_image_config, docker_version, OPTIONAL),
    ROW("comment", JSON_TEXT, oci_image_config, comment, OPTIONAL),
    ROW("container", JSON_TEXT, oci_image_config, container, OPTIONAL),
    ROW("config", JSON_STRUCT, oci_image_config, config, .sub = &oci_image_process_table),
    ROW("rootfs", JSON_STRUCT, oci_image_config, rootfs, .sub = &rootfs_table),
    ROW("history", JSON_LIST, oci_image_config, history, .sub = &oci_history_table),
};
const struct json_table oci_image_config_table = JSON_TABLE(struct oci_image_config, image_config_fields);

static const struct json_field platform_fields[] = {
    ROW("architecture", JSON_TEXT, oci_platform, architecture),
    ROW("os", JSON_TEXT, oci_platform, os),
    ROW("variant", JSON_TEXT, oci_platform, variant, OPTIONAL),
};
static const struct json_table platform_table = JSON_TABLE(struct oci_platform, platform_fields);

static const struct json_field descriptor_fields[] = {
    ROW("mediaType", JSON_TEXT, oci_descriptor, media_type),
    ROW("digest", JSON_TEXT, oci_descriptor, digest),
    ROW("size", JSON_INT, oci_descriptor, size),
    ROW("annotations", JSON_TEXT_MAP, oci_descriptor, annotations, OPTIONAL),
    ROW("platform", JSON_STRUCT_PTR, oci_descriptor, platform, .sub = &platform_table, OPTIONAL),
};
const struct json_table oci_descriptor_table = JSON_TABLE(struct oci_descriptor, descriptor_fields);

static const struct json_field manifest_fields[] = {
    ROW("schemaVersion", JSON_INT, oci_manifest, schema_version),
    ROW("mediaType", JSON_TEXT, oci_manifest, media_type, OPTIONAL),
    ROW("config", JSON_STRUCT, oci_manifest, config, .sub = &oci_descriptor_table),
    ROW("layers", JSON_LIST, oci_manifest, layers, .sub = &oci_descriptor_table),
    ROW("annotations", JSON_TEXT_MAP, oci_manifest, annotations, OPTIONAL),
};
const struct json_table oci_manifest_table = JSON_TABLE(struct oci_manifest, manifest_fields);

static const struct json_field index_fields[] = {
    ROW("schemaVersion", JSON_INT, oci_index, schema_version),
    ROW("mediaType", JSON_TEXT, oci_index, media_type, OPTIONAL),
    ROW("manifests", JSON_LIST, oci_index, manifests, .sub = &oci_descriptor_table),
    ROW("annotations", JSON_TEXT_MAP, oci_index, annotations, OPTIONAL),
};
const struct json_table oci_index_table = JSON_TABLE(struct oci_index, index_fields);

static const struct json_field archive_fields[] = {
    ROW("Config", JSON_TEXT, docker_archive_image, config, .required = true),
    ROW("RepoTags", JSON_TEXTS, docker_archive_image, repo_tags),
    ROW("Layers", JSON_TEXTS, docker_archive_image, layers),
};
const struct json_table docker_archive_image_table = JSON_TABLE(struct docker_archive_image, archive_fields);

bool oci_digest_valid(const char *digest)
{
    return digest && str_starts(digest, "sha256:") && strlen(digest) == 71 && hex_valid(slice_of(digest + 7));
}

bool oci_layer_is_tar(const char *media_type)
{
    static const char *const types[] = {
        MEDIA_OCI_LAYER,
        MEDIA_OCI_LAYER "+gzip",
        MEDIA_OCI_LAYER "+zstd",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
    };
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (str_eq(media_type, types[i]))
            return true;
    return false;
}
