#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "api/api_private.h"

static void test_durations(void **state)
{
    static const struct {
        int64_t seconds;
        const char *words;
    } cases[] = {
        { 0, "Less than a second" }, { 1, "1 second" }, { 2, "2 seconds" }, { 59, "59 seconds" }, { 60, "About a minute" },
        { 119, "About a minute" }, { 120, "2 minutes" }, { 3599, "59 minutes" }, { 3600, "About an hour" },
        { 5399, "About an hour" }, { 5400, "2 hours" }, { 47 * 3600, "47 hours" }, { 48 * 3600, "2 days" },
        { 13 * 86400, "13 days" }, { 14 * 86400, "2 weeks" }, { 59 * 86400, "8 weeks" }, { 60 * 86400, "2 months" },
        { 729 * 86400, "24 months" }, { 730 * 86400, "2 years" }, { -5, "Less than a second" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char words[64];
        duration_words(cases[i].seconds * NS_PER_S, words, sizeof(words));
        assert_string_equal(words, cases[i].words);
    }
}

static void test_statuses(void **state)
{
    const int64_t now = 1000000 * NS_PER_S;
    const struct {
        struct engine_container container;
        const char *words;
    } cases[] = {
        { { .status = (char *)"created" }, "Created" },
        { { .status = (char *)"running", .running = true, .started_ns = now - 2 * NS_PER_S }, "Up 2 seconds" },
        { { .status = (char *)"paused", .running = true, .paused = true, .started_ns = now - 300 * NS_PER_S },
          "Up 5 minutes (Paused)" },
        { { .status = (char *)"exited", .exit_code = 3, .started_ns = 1, .finished_ns = now - 240 * NS_PER_S },
          "Exited (3) 4 minutes ago" },
        { { .status = (char *)"removing", .started_ns = 1 }, "Removal In Progress" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        assert_string_equal(status_words(&cases[i].container, now, &arena), cases[i].words);
    }
}

static const char *text_at(const json_t *object, const char *key)
{
    return json_get_text(object, key, "(no text)");
}

static void test_host_config(void **state)
{
    static const char body[] =
        "{\"Image\":\"bb\",\"HostConfig\":{\"Memory\":52428800,\"Binds\":[\"/a:/b\"],\"ShmSize\":0,"
        "\"NetworkMode\":\"default\",\"RestartPolicy\":{\"Name\":\"\"},\"LogConfig\":{},\"PidsLimit\":0,"
        "\"MemorySwappiness\":-1,\"CapAdd\":null,\"MaskedPaths\":[],\"Nonsense\":1,\"Tmpfs\":{\"/x\":\"\"},"
        "\"cpushares\":7}}";
    const struct host_config effective = { .network_mode = (char *)"bridge", .memory = 52428800 };
    _cleanup_json_ json_t *shape = shape_host_config(body, &effective);
    assert_int_equal(json_get_int(shape, "Memory", 0), 52428800);
    assert_int_equal(json_get_int(shape, "MemorySwap", 0), 104857600);
    assert_int_equal(json_get_int(shape, "ShmSize", 0), 67108864);
    assert_int_equal(json_get_int(shape, "CpuShares", 0), 7);
    assert_string_equal(text_at(shape, "NetworkMode"), "bridge");
    assert_string_equal(text_at(json_object_get(shape, "RestartPolicy"), "Name"), "no");
    assert_string_equal(text_at(json_object_get(shape, "LogConfig"), "Type"), "json-file");
    assert_string_equal(json_string_value(json_array_get(json_object_get(shape, "Binds"), 0)), "/a:/b");
    assert_true(json_is_null(json_object_get(shape, "CapAdd")) && json_is_null(json_object_get(shape, "PidsLimit")));
    assert_true(json_is_null(json_object_get(shape, "MemorySwappiness")));
    assert_int_equal(json_array_size(json_object_get(shape, "MaskedPaths")), 0);
    assert_int_equal(json_array_size(json_object_get(shape, "ReadonlyPaths")), 5);
    assert_non_null(json_object_get(shape, "Tmpfs"));
    assert_null(json_object_get(shape, "Nonsense"));
    assert_null(json_object_get(shape, "Mounts"));

    // Every default is valid JSON, and a body without HostConfig gets them all.
    const struct host_config none = { 0 };
    _cleanup_json_ json_t *plain = shape_host_config("{}", &none);
    assert_int_equal(json_object_size(plain), 63);
    assert_string_equal(text_at(plain, "NetworkMode"), "bridge");
}

static void test_container_row(void **state)
{
    char *args[] = { (char *)"a b", (char *)"c", NULL };
    struct engine_port ports[] = { { (char *)"0.0.0.0", (char *)"tcp", 8080, 80 }, { NULL, (char *)"udp", 0, 53 } };
    const struct container_config config = { 0 };
    struct engine_endpoint endpoint = { .network = (char *)"bridge" };
    struct engine_container container = {
        .endpoints = &endpoint, .endpoint_len = 1,
        .id = (char *)"abc", .name = (char *)"web", .path = (char *)"echo", .args = { args, 2, 0 }, .created_ns = 5 * NS_PER_S,
        .status = (char *)"running", .running = true, .image_id = (char *)"sha256:1", .image_name = (char *)"bb",
        .config = &config, .network = (char *)"bridge", .ports = ports, .port_len = 2,
    };
    _cleanup_json_ json_t *row = shape_container_row(&container, "bb");
    assert_string_equal(text_at(row, "Command"), "echo 'a b' c");
    assert_string_equal(json_string_value(json_array_get(json_object_get(row, "Names"), 0)), "/web");
    assert_int_equal(json_get_int(row, "Created", 0), 5);
    assert_int_equal(json_array_size(json_object_get(row, "Ports")), 2);
    assert_null(json_object_get(json_array_get(json_object_get(row, "Ports"), 1), "PublicPort"));
    assert_int_equal(json_object_size(json_object_get(row, "Labels")), 0);
    assert_non_null(json_object_get(json_object_get(json_object_get(row, "NetworkSettings"), "Networks"), "bridge"));

    container.running = false;
    _cleanup_json_ json_t *stopped = shape_container_row(&container, "bb");
    assert_int_equal(json_array_size(json_object_get(stopped, "Ports")), 0);
}

static void test_exec(void **state)
{
    char *cmd[] = { (char *)"sh", (char *)"-c", (char *)"x", NULL };
    const struct exec_config config = { .cmd = { cmd, 3, 0 }, .user = (char *)"u", .attach_stdout = true };
    struct engine_exec exec = { .id = (char *)"e", .container_id = (char *)"c", .config = &config, .running = true,
                                .started = true, .pid = 9 };
    _cleanup_json_ json_t *running = shape_exec(&exec);
    assert_true(json_is_null(json_object_get(running, "ExitCode")));
    json_t *process = json_object_get(running, "ProcessConfig");
    assert_string_equal(text_at(process, "entrypoint"), "sh");
    assert_int_equal(json_array_size(json_object_get(process, "arguments")), 2);
    assert_string_equal(text_at(process, "user"), "u");
    exec.running = false;
    exec.exit_code = 4;
    _cleanup_json_ json_t *ended = shape_exec(&exec);
    assert_int_equal(json_get_int(ended, "ExitCode", -1), 4);
    exec.started = false;
    _cleanup_json_ json_t *waiting = shape_exec(&exec);
    assert_true(json_is_null(json_object_get(waiting, "ExitCode")));
}

static void test_images_by_version(void **state)
{
    const struct image image = { .id = (char *)"sha256:1", .size = 7 };
    _cleanup_json_ json_t *old = shape_image(&image, "overlay2", 41), *now = shape_image(&image, "overlay2", 47);
    assert_int_equal(json_get_int(old, "VirtualSize", 0), 7);
    assert_non_null(json_object_get(old, "ContainerConfig"));
    assert_null(json_object_get(now, "VirtualSize"));
    assert_null(json_object_get(now, "ContainerConfig"));
    assert_true(json_is_array(json_object_get(now, "RepoDigests")));
    assert_string_equal(text_at(now, "Created"), "0001-01-01T00:00:00Z");

    _cleanup_json_ json_t *old_row = shape_image_row(&image, 41), *row = shape_image_row(&image, 47);
    assert_string_equal(json_string_value(json_array_get(json_object_get(old_row, "RepoTags"), 0)), "<none>:<none>");
    assert_int_equal(json_array_size(json_object_get(row, "RepoTags")), 0);
    assert_int_equal(json_get_int(row, "SharedSize", 0), -1);
}

static void test_event(void **state)
{
    struct kv attributes[] = { { (char *)"image", (char *)"bb" }, { (char *)"name", (char *)"web" } };
    const struct engine_event event = { "container", "start", "abc", { attributes, 2 }, 3 * NS_PER_S + 7 };
    _cleanup_json_ json_t *shape = shape_event(&event);
    assert_string_equal(text_at(shape, "status"), "start");
    assert_string_equal(text_at(shape, "from"), "bb");
    assert_string_equal(text_at(json_object_get(json_object_get(shape, "Actor"), "Attributes"), "name"), "web");
    assert_int_equal(json_get_int(shape, "time", 0), 3);
    assert_int_equal(json_get_int(shape, "timeNano", 0), 3 * NS_PER_S + 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_durations),     cmocka_unit_test(test_statuses),
        cmocka_unit_test(test_host_config),   cmocka_unit_test(test_container_row),
        cmocka_unit_test(test_exec),          cmocka_unit_test(test_images_by_version),
        cmocka_unit_test(test_event),
    };
    return cmocka_run_group_tests_name("api_shape", tests, NULL, NULL);
}
