#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "kernel/cgroup.h"
#include "task/task.h"

static const char whole[] =
    "{\"version\":1,\"id\":\"ab\",\"isolation\":\"container\",\"process\":{\"args\":[\"/bin/true\"],\"cwd\":\"/\","
    "\"user\":{\"uid\":0,\"gid\":0}},\"linux\":{\"cgroupsPath\":\"berth-1/ab\"},\"rootfs\":{\"kind\":\"layers\","
    "\"layers\":[{\"dir\":\"/l\",\"fd\":2}],\"upper\":{\"kind\":\"dir\",\"upper_fd\":3,\"work_fd\":4,\"ephemeral\":true}},"
    "\"mounts\":[{\"kind\":\"bind\",\"source\":\"/s\",\"target\":\"/t\",\"fd\":5,\"recursive\":true}],"
    "\"ports\":[{\"proto\":\"tcp\",\"host_port\":80,\"target_address\":\"172.17.0.2\",\"target_port\":8080,\"listener_fd\":6}],"
    "\"files\":[{\"path\":\"/etc/hosts\",\"content\":\"x\",\"mode\":420}],\"log\":{\"driver\":\"json-file\",\"path\":\"/p\"},"
    "\"stdio\":{\"open_stdin\":true,\"stdin_once\":true},\"init\":true,\"later\":1}";

static void reads_and_writes_itself(void **state)
{
    struct arena arena = ARENA_INIT;
    struct task_document first, second;
    json_t *value, *again;
    struct err err = { 0 };
    if (json_parse(whole, strlen(whole), &value, &err) < 0 ||
        json_decode(&task_document_table, value, &first, &arena, NULL, &err) < 0)
        fail_msg("%s", err.message);
    again = json_encode(&task_document_table, &first);
    if (json_decode(&task_document_table, again, &second, &arena, NULL, &err) < 0)
        fail_msg("%s", err.message);
    const struct task_document *documents[] = { &first, &second };
    for (size_t i = 0; i < 2; i++) {
        const struct task_document *document = documents[i];
        assert_string_equal(document->id, "ab");
        assert_string_equal(document->process.args.items[0], "/bin/true");
        assert_string_equal(document->linux_section.cgroups_path, "berth-1/ab");
        assert_int_equal(((struct task_layer *)document->rootfs.layers.items)[0].fd, 2);
        assert_int_equal(document->rootfs.upper.work_fd, 4);
        assert_true(document->rootfs.upper.ephemeral);
        assert_int_equal(((struct task_mount *)document->mounts.items)[0].fd, 5);
        assert_int_equal(((struct task_port *)document->ports.items)[0].listener_fd, 6);
        assert_int_equal(((struct task_file *)document->files.items)[0].mode, 0644);
        assert_true(document->stdio.stdin_once && document->init);
    }
    json_decref(value);
    json_decref(again);
    arena_done(&arena);
}

// An index that is not there must not be read as descriptor 0.
static void indices_are_mandatory(void **state)
{
    static const struct { const struct json_table *table; const char *text; } cases[] = {
        { &task_layer_table, "{\"dir\":\"/l\"}" },
        { &task_mount_table, "{\"kind\":\"bind\",\"target\":\"/t\"}" },
        { &task_nic_table, "{\"name\":\"eth0\"}" },
        { &task_port_table, "{\"proto\":\"tcp\",\"target_address\":\"::1\",\"target_port\":1}" },
        { &task_attach_table, "{\"in\":true}" },
        { &task_document_table, "{\"version\":1,\"id\":\"a\",\"process\":{},\"linux\":{},\"rootfs\":{\"kind\":\"layers\"}}" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena arena = ARENA_INIT;
        struct err err = { 0 };
        void *out = mem_alloc(cases[i].table->size);
        assert_int_equal(json_decode_text(cases[i].table, cases[i].text, strlen(cases[i].text), out, &arena, NULL, &err), -1);
        assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
        free(out);
        arena_done(&arena);
    }
}

static void events_leave_out_what_is_empty(void **state)
{
    struct task_event event = { .seq = 7, .kind = (char *)"started", .time_ns = 5, .pid = 12 };
    json_t *value = json_encode(&task_event_table, &event);
    char *text = json_text(value);
    assert_string_equal(text, "{\"seq\":7,\"kind\":\"started\",\"time_ns\":5,\"pid\":12}");
    free(text);
    json_decref(value);
}

static void limits_of_a_control_group(void **state)
{
    struct arena arena = ARENA_INIT;
    struct oci_device_rule rules[] = { { false, NULL, -1, -1, NULL }, { true, (char *)"c", 1, 3, (char *)"rw" } };
    const struct oci_resources resources = { .memory_limit = 1, .memory_swap = 2, .memory_reservation = 3, .cpu_shares = 4,
                                             .cpu_quota = 5, .cpu_period = 6, .cpuset_cpus = (char *)"0", .pids_limit = 7,
                                             .devices = { .items = rules, .len = 2 } };
    struct cgroup_limits limits;
    task_limits(&resources, &arena, &limits);
    assert_true(limits.memory_limit == 1 && limits.memory_swap == 2 && limits.memory_reservation == 3);
    assert_true(limits.cpu_shares == 4 && limits.cpu_quota == 5 && limits.cpu_period == 6 && limits.pids_limit == 7);
    assert_string_equal(limits.cpuset_cpus, "0");
    assert_int_equal(limits.device_len, 2);
    assert_true(!limits.devices[0].allow && limits.devices[0].type == 'a' && limits.devices[0].major == -1);
    assert_string_equal(limits.devices[0].access, "rwm");
    assert_true(limits.devices[1].allow && limits.devices[1].type == 'c' && limits.devices[1].minor == 3);
    assert_string_equal(limits.devices[1].access, "rw");
    arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_of_a_control_group),
        cmocka_unit_test(reads_and_writes_itself),
        cmocka_unit_test(indices_are_mandatory),
        cmocka_unit_test(events_leave_out_what_is_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
