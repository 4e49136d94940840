#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "spec/spec.h"

#define DIGEST_A "sha256:" "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// The shape that Docker's builder writes, with fields nobody reads.
static const char config_text[] =
    "{\"architecture\":\"amd64\",\"os\":\"linux\",\"os.version\":\"1.2\",\"variant\":\"v2\",\"created\":\"2023-11-14T22:13:20Z\","
    "\"author\":\"me\",\"docker_version\":\"20.10\",\"comment\":\"c\",\"container\":\"abc\",\"container_config\":{\"Cmd\":null},"
    "\"config\":{\"Hostname\":\"h\",\"User\":\"app\",\"ExposedPorts\":{\"80/tcp\":{},\"53/udp\":{}},\"Env\":[\"PATH=/bin\",\"A=\"],"
    "\"Cmd\":\"sh\",\"Entrypoint\":null,\"Volumes\":{\"/data\":{}},\"WorkingDir\":\"/srv\",\"Labels\":{\"a\":\"b\"},"
    "\"StopSignal\":\"SIGINT\",\"Shell\":[\"/bin/bash\",\"-c\"],\"OnBuild\":null,\"ArgsEscaped\":true,"
    "\"Healthcheck\":{\"Test\":[\"CMD\",\"true\"],\"Interval\":1000000000,\"Retries\":3}},"
    "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" DIGEST_A "\"]},"
    "\"history\":[{\"created_by\":\"ADD x\"},{\"created_by\":\"CMD\",\"empty_layer\":true}]}";

static void check_config(const struct oci_image_config *image)
{
    const struct oci_history *history = image->history.items;
    assert_string_equal(image->os_version, "1.2");
    assert_string_equal(image->variant, "v2");
    assert_string_equal(image->docker_version, "20.10");
    assert_string_equal(image->config.user, "app");
    assert_true(strv_has(&image->config.exposed_ports, "53/udp"));
    assert_int_equal(image->config.env.len, 2);
    assert_string_equal(image->config.cmd.items[0], "sh");
    assert_int_equal(image->config.entrypoint.len, 0);
    assert_true(strv_has(&image->config.volumes, "/data"));
    assert_string_equal(kvs_get(&image->config.labels, "a"), "b");
    assert_string_equal(image->config.stop_signal, "SIGINT");
    assert_int_equal(image->config.shell.len, 2);
    assert_true(image->config.args_escaped);
    assert_int_equal(image->config.healthcheck->interval, 1000000000);
    assert_int_equal(image->config.healthcheck->retries, 3);
    assert_string_equal(image->rootfs.diff_ids.items[0], DIGEST_A);
    assert_int_equal(image->history.len, 2);
    assert_true(!history[0].empty_layer && history[1].empty_layer);
}

static void reads_and_writes_a_config(void **state)
{
    struct arena arena = ARENA_INIT;
    struct oci_image_config image;
    struct err err = { 0 };
    if (json_decode_text(&oci_image_config_table, config_text, strlen(config_text), &image, &arena, NULL, &err) < 0)
        fail_msg("%s", err.message);
    check_config(&image);
    json_t *value = json_encode(&oci_image_config_table, &image);
    char *text = json_text(value);
    if (json_decode_text(&oci_image_config_table, text, strlen(text), &image, &arena, NULL, &err) < 0)
        fail_msg("%s", err.message);
    check_config(&image);
    free(text);
    json_decref(value);
    arena_done(&arena);
}

// What inspect shows of an image that says nothing: null where Docker writes null, nothing where it writes nothing.
static void an_empty_process_looks_as_dockers(void **state)
{
    const struct oci_image_process process = { 0 };
    json_t *value = json_encode(&oci_image_process_table, &process);
    static const char *const nulls[] = { "Cmd", "Entrypoint", "Volumes", "OnBuild", "Labels" };
    static const char *const absent[] = { "ExposedPorts", "StopSignal", "Shell", "Healthcheck", "ArgsEscaped" };
    for (size_t i = 0; i < ARRAY_LEN(nulls); i++)
        assert_true(json_is_null(json_object_get(value, nulls[i])));
    for (size_t i = 0; i < ARRAY_LEN(absent); i++)
        assert_null(json_object_get(value, absent[i]));
    assert_string_equal(json_get_text(value, "User", "-"), "");
    json_decref(value);
}

static void reads_manifest_and_index(void **state)
{
    static const char manifest_text[] =
        "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_OCI_MANIFEST "\",\"config\":{\"mediaType\":\"" MEDIA_OCI_CONFIG
        "\",\"digest\":\"" DIGEST_A "\",\"size\":7},\"layers\":[{\"digest\":\"" DIGEST_A "\",\"size\":8}]}";
    static const char index_text[] =
        "{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"" DIGEST_A "\",\"size\":9,\"platform\":{\"architecture\":\"arm64\","
        "\"os\":\"linux\",\"variant\":\"v8\"},\"annotations\":{\"io.containerd.image.name\":\"docker.io/library/x:1\"}}]}";
    struct arena arena = ARENA_INIT;
    struct oci_manifest manifest;
    struct oci_index index;
    struct err err = { 0 };
    if (json_decode_text(&oci_manifest_table, manifest_text, strlen(manifest_text), &manifest, &arena, NULL, &err) < 0 ||
        json_decode_text(&oci_index_table, index_text, strlen(index_text), &index, &arena, NULL, &err) < 0)
        fail_msg("%s", err.message);
    const struct oci_descriptor *layer = manifest.layers.items, *entry = index.manifests.items;
    assert_int_equal(manifest.schema_version, 2);
    assert_string_equal(manifest.config.digest, DIGEST_A);
    assert_int_equal(layer->size, 8);
    assert_null(layer->platform);
    assert_string_equal(entry->platform->architecture, "arm64");
    assert_string_equal(kvs_get(&entry->annotations, "io.containerd.image.name"), "docker.io/library/x:1");
    arena_done(&arena);
}

static void reads_an_archives_manifest(void **state)
{
    static const char text[] = "{\"Config\":\"c.json\",\"RepoTags\":null,\"Layers\":[\"a/layer.tar\"],\"LayerSources\":{}}";
    struct arena arena = ARENA_INIT;
    struct docker_archive_image image;
    struct err err = { 0 };
    assert_int_equal(json_decode_text(&docker_archive_image_table, text, strlen(text), &image, &arena, NULL, &err), 0);
    assert_string_equal(image.config, "c.json");
    assert_int_equal(image.repo_tags.len, 0);
    assert_string_equal(image.layers.items[0], "a/layer.tar");
    assert_int_equal(json_decode_text(&docker_archive_image_table, "{}", 2, &image, &arena, NULL, &err), -1);
    arena_done(&arena);
}

static void knows_a_digest(void **state)
{
    static const char *const wrong[] = {
        NULL, "", "sha256:", "sha256:abc", "sha512:" "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "sha256:" "AAaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", DIGEST_A "a",
        "sha256:" "../aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    };
    assert_true(oci_digest_valid(DIGEST_A));
    assert_int_equal(strlen(DIGEST_A) + 1, OCI_DIGEST_SIZE);
    assert_string_equal(oci_digest_hex(DIGEST_A), DIGEST_A + 7);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_false(oci_digest_valid(wrong[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_and_writes_a_config),
        cmocka_unit_test(an_empty_process_looks_as_dockers),
        cmocka_unit_test(reads_manifest_and_index),
        cmocka_unit_test(reads_an_archives_manifest),
        cmocka_unit_test(knows_a_digest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
