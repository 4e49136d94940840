#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "spec/spec.h"

// As the runtime-spec's own examples write it.
static const char process_text[] =
    "{\"terminal\":true,\"consoleSize\":{\"height\":25,\"width\":80},"
    "\"user\":{\"uid\":1,\"gid\":2,\"umask\":63,\"additionalGids\":[5,6],\"name\":\"app:staff\",\"groups\":[\"video\"]},"
    "\"args\":[\"sh\",\"-c\",\"true\"],\"env\":[\"PATH=/bin\"],\"cwd\":\"/\","
    "\"capabilities\":{\"bounding\":[\"CAP_CHOWN\"],\"effective\":[\"CAP_CHOWN\"],\"permitted\":[\"CAP_CHOWN\"],"
    "\"inheritable\":[],\"ambient\":[\"CAP_KILL\"]},\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"hard\":1024,\"soft\":512}],"
    "\"noNewPrivileges\":true,\"oomScoreAdj\":100,\"apparmorProfile\":\"unknown here\"}";

static const char linux_text[] =
    "{\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"network\",\"path\":\"/proc/1/ns/net\"}],"
    "\"devices\":[{\"path\":\"/dev/fuse\",\"type\":\"c\",\"major\":10,\"minor\":229,\"fileMode\":438,\"uid\":3,\"gid\":4}],"
    "\"maskedPaths\":[\"/proc/kcore\"],\"readonlyPaths\":[\"/proc/sys\"],\"sysctl\":{\"net.ipv4.ip_forward\":\"1\"},"
    "\"cgroupsPath\":\"berth/x\",\"resources\":{\"devices\":[{\"allow\":false,\"access\":\"rwm\"},"
    "{\"allow\":true,\"type\":\"c\",\"major\":10,\"minor\":-1,\"access\":\"rw\"}],"
    "\"memory\":{\"limit\":536870912,\"swap\":-1,\"reservation\":1024},"
    "\"cpu\":{\"shares\":512,\"quota\":100000,\"period\":50000,\"cpus\":\"0-1\",\"mems\":\"0\"},\"pids\":{\"limit\":32}},"
    "\"seccompProfile\":\"default\",\"rootfsPropagation\":\"slave\",\"shmSize\":67108864,\"wholeMachine\":true}";

// Decodes `text`, then decodes again what was encoded of it: `check` sees both.
static void both_ways(const struct json_table *table, const char *text, void *out, void (*check)(const void *))
{
    struct arena arena = ARENA_INIT;
    struct err err = { 0 };
    json_t *value, *again;
    if (json_parse(text, strlen(text), &value, &err) < 0 || json_decode(table, value, out, &arena, NULL, &err) < 0)
        fail_msg("%s", err.message);
    check(out);
    again = json_encode(table, out);
    if (json_decode(table, again, out, &arena, NULL, &err) < 0)
        fail_msg("%s", err.message);
    check(out);
    json_decref(value);
    json_decref(again);
    arena_done(&arena);
}

static void check_process(const void *in)
{
    const struct oci_process *process = in;
    const struct oci_rlimit *limit = process->rlimits.items;
    assert_true(process->terminal && process->no_new_privileges);
    assert_int_equal(process->console_size.height, 25);
    assert_int_equal(process->console_size.width, 80);
    assert_int_equal(process->user.uid, 1);
    assert_int_equal(process->user.gid, 2);
    assert_int_equal(process->user.umask, 077);
    assert_int_equal(json_integer_value(json_array_get(process->user.additional_gids_raw, 1)), 6);
    assert_string_equal(process->user.name, "app:staff");
    assert_true(strv_has(&process->user.groups, "video"));
    assert_int_equal(process->args.len, 3);
    assert_string_equal(process->env.items[0], "PATH=/bin");
    assert_string_equal(process->cwd, "/");
    assert_true(strv_has(&process->capabilities->bounding, "CAP_CHOWN") && strv_has(&process->capabilities->ambient, "CAP_KILL"));
    assert_int_equal(process->capabilities->inheritable.len, 0);
    assert_int_equal(process->rlimits.len, 1);
    assert_string_equal(limit->type, "RLIMIT_NOFILE");
    assert_int_equal(limit->soft, 512);
    assert_int_equal(limit->hard, 1024);
    assert_int_equal(process->oom_score_adj, 100);
}

static void check_linux(const void *in)
{
    const struct oci_linux *section = in;
    const struct oci_namespace *namespaces = section->namespaces.items;
    const struct oci_device *device = section->devices.items;
    const struct oci_device_rule *rules = section->resources.devices.items;
    assert_int_equal(section->namespaces.len, 2);
    assert_null(namespaces[0].path);
    assert_string_equal(namespaces[1].path, "/proc/1/ns/net");
    assert_int_equal(device->minor, 229);
    assert_int_equal(device->file_mode, 0666);
    assert_int_equal(section->resources.devices.len, 2);
    assert_false(rules[0].allow);
    assert_int_equal(rules[1].minor, -1);
    assert_string_equal(section->masked_paths.items[0], "/proc/kcore");
    assert_string_equal(section->readonly_paths.items[0], "/proc/sys");
    assert_string_equal(kvs_get(&section->sysctl, "net.ipv4.ip_forward"), "1");
    assert_string_equal(section->cgroups_path, "berth/x");
    assert_int_equal(section->resources.memory_limit, 536870912);
    assert_int_equal(section->resources.memory_swap, -1);
    assert_int_equal(section->resources.memory_reservation, 1024);
    assert_int_equal(section->resources.cpu_shares, 512);
    assert_int_equal(section->resources.cpu_quota, 100000);
    assert_int_equal(section->resources.cpu_period, 50000);
    assert_string_equal(section->resources.cpuset_cpus, "0-1");
    assert_string_equal(section->resources.cpuset_mems, "0");
    assert_int_equal(section->resources.pids_limit, 32);
    assert_string_equal(section->seccomp_profile, "default");
    assert_string_equal(section->rootfs_propagation, "slave");
    assert_int_equal(section->shm_size, 64 << 20);
    assert_true(section->whole_machine);
}

static void reads_and_writes_the_process(void **state)
{
    struct oci_process process;
    both_ways(&oci_process_table, process_text, &process, check_process);
}

static void reads_and_writes_the_linux_section(void **state)
{
    struct oci_linux section;
    both_ways(&oci_linux_table, linux_text, &section, check_linux);
}

static void check_empty(const void *in)
{
    const struct oci_linux *section = in;
    assert_int_equal(section->namespaces.len, 0);
    assert_int_equal(section->resources.memory_limit, 0);
    assert_int_equal(section->resources.devices.len, 0);
}

static void absent_sections_are_empty(void **state)
{
    struct oci_linux section;
    both_ways(&oci_linux_table, "{}", &section, check_empty);
    both_ways(&oci_linux_table, "{\"resources\":null,\"namespaces\":null}", &section, check_empty);
    both_ways(&oci_linux_table, "{\"resources\":{\"memory\":null,\"cpu\":{}}}", &section, check_empty);
}

static void names_what_is_wrong(void **state)
{
    static const struct {
        const struct json_table *table;
        const char *text, *message;
    } cases[] = {
        { &oci_process_table, "{\"rlimits\":[{\"soft\":1}]}", "rlimits[0].type: missing" },
        { &oci_process_table, "{\"args\":\"sh\"}", "args: expected list of strings, got string" },
        { &oci_linux_table, "{\"resources\":{\"memory\":{\"limit\":\"1g\"}}}",
          "resources.memory.limit: expected integer, got string" },
        { &oci_linux_table, "{\"namespaces\":[{\"path\":\"/x\"}]}", "namespaces[0].type: missing" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena arena = ARENA_INIT;
        struct err err = { 0 };
        union {
            struct oci_process process;
            struct oci_linux section;
        } out;
        json_t *value;
        assert_int_equal(json_parse(cases[i].text, strlen(cases[i].text), &value, &err), 0);
        assert_int_equal(json_decode(cases[i].table, value, &out, &arena, NULL, &err), -1);
        assert_string_equal(err.message, cases[i].message);
        assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
        json_decref(value);
        arena_done(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_and_writes_the_process),
        cmocka_unit_test(reads_and_writes_the_linux_section),
        cmocka_unit_test(absent_sections_are_empty),
        cmocka_unit_test(names_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
