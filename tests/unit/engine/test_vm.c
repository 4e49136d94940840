// What is different behind the VM wall, from a create body to the task document and the host's cgroup.
#include "guest_fixture.h"
#include "engine/vm.h"

#include <errno.h>

#define MIB(n) (INT64_C(n) << 20)

static json_t *parse(const char *quoted)
{
    json_t *value = NULL;
    struct err err = { 0 };
    _cleanup_free_ char *text = mem_strdup(quoted);
    for (char *c = text; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    if (json_parse(text, strlen(text), &value, &err) < 0)
        fail_msg("%s: %s", text, err.message);
    return value;
}

static void decode(json_t *body, struct arena *arena, struct container_config *out)
{
    struct err err = { 0 };
    if (json_decode(&container_config_table, body, out, arena, NULL, &err) < 0)
        fail_msg("%s", err.message);
}

static void test_words(void **state)
{
    static const struct {
        const char *isolation, *runtime;
        int result; // 1: the VM wall, 0: the container wall, -1 refused
    } table[] = {
        { NULL, NULL, 0 },          { "", "", 0 },
        { "default", "", 0 },       { "container", "", 0 },
        { "", "berth", 0 },         { "", "runc", 0 },
        { "container", "runc", 0 }, { "vm", "", 1 },
        { "VM", "", 1 },            { "", "berth-vm", 1 },
        { "default", "berth-vm", 1 }, { "vm", "berth-vm", 1 },
        { "vm", "berth", -1 },      { "vm", "runc", -1 },
        { "container", "berth-vm", -1 }, { "hyperv", "", -1 },
        { "", "kata", -1 },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const struct host_config host = { .isolation = (char *)table[i].isolation, .runtime = (char *)table[i].runtime };
        struct err err = { 0 };
        int result = vm_check_words(&host, &err);
        if (result < 0 ? table[i].result >= 0 || err.class != ERR_INVALID_ARGUMENT : vm_wanted(&host) != table[i].result)
            fail_msg("%s, %s: %d, %s", table[i].isolation, table[i].runtime, result, err.message);
    }
}

static void test_sizes(void **state)
{
    static const struct {
        int64_t nano_cpus, quota, period, memory;
        int64_t vcpus, memory_size; // 0: refused
    } table[] = {
        { 0, 0, 0, 0, 1, MIB(512) },
        { 500000000, 0, 0, 0, 1, MIB(512) },
        { 1000000000, 0, 0, 0, 1, MIB(512) },
        { 1000000001, 0, 0, 0, 2, MIB(512) },
        { 8000000000, 0, 0, 0, 8, MIB(512) },
        { 8000000001, 0, 0, 0, 0, 0 },
        { 0, 150000, 0, 0, 2, MIB(512) },
        { 0, 150000, 50000, 0, 3, MIB(512) },
        { 0, -1, 50000, 0, 1, MIB(512) },
        { 0, 900000, 100000, 0, 0, 0 },
        { 0, 0, 0, MIB(64), 1, MIB(160) },
        { 0, 0, 0, MIB(64) + 1, 1, MIB(162) },
        { 0, 0, 0, INT64_C(1) << 40, 0, 0 },
        { 0, 0, 0, INT64_MAX, 0, 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const struct host_config host = { .nano_cpus = table[i].nano_cpus, .cpu_quota = table[i].quota,
                                          .cpu_period = table[i].period, .memory = table[i].memory };
        struct vm_size size = { 0 };
        struct err err = { 0 };
        int result = vm_size(&host, &size, &err);
        if (table[i].vcpus == 0 ? result == 0 || err.class != ERR_INVALID_ARGUMENT
                                : size.vcpus != table[i].vcpus || size.memory_size != table[i].memory_size)
            fail_msg("row %zu: %d, %lld CPUs, %lld bytes, %s", i, result, (long long)size.vcpus, (long long)size.memory_size,
                     err.message);
    }
}

static void test_refusals(void **state)
{
    static const struct {
        const char *body, *path; // NULL: fine
    } table[] = {
        { "{'HostConfig':{'Isolation':'vm'}}", NULL },
        { "{'HostConfig':{'Isolation':'vm','Tmpfs':{'/t':''},'Mounts':[{'Type':'tmpfs','Target':'/u'}],'Privileged':true}}", NULL },
        { "{'HostConfig':{'Isolation':'vm','Binds':['/a:/b']}}", "HostConfig.Binds" },
        { "{'HostConfig':{'Isolation':'vm','Mounts':[{'Type':'tmpfs','Target':'/u'},{'Type':'bind','Source':'/a','Target':'/b'}]}}",
          "HostConfig.Mounts" },
        { "{'HostConfig':{'Runtime':'berth-vm','Mounts':[{'Type':'volume','Target':'/b'}]}}", "HostConfig.Mounts" },
        { "{'Volumes':{'/data':{}},'HostConfig':{'Isolation':'vm'}}", "Volumes" },
        { "{'HostConfig':{'Isolation':'vm','VolumesFrom':['a']}}", "HostConfig.VolumesFrom" },
        { "{'HostConfig':{'Isolation':'vm'},'NetworkingConfig':{'EndpointsConfig':{'a':{},'b':{}}}}", "NetworkingConfig.EndpointsConfig" },
        { "{'HostConfig':{'Isolation':'vm','Devices':[{'PathOnHost':'/dev/fuse'}]}}", "HostConfig.Devices" },
        { "{'HostConfig':{'Isolation':'vm','DeviceCgroupRules':['c 1:1 r']}}", "HostConfig.DeviceCgroupRules" },
        { "{'HostConfig':{'Isolation':'vm','NetworkMode':'host'}}", "HostConfig.NetworkMode" },
        { "{'HostConfig':{'Isolation':'vm','NetworkMode':'container:x'}}", "HostConfig.NetworkMode" },
        { "{'HostConfig':{'Isolation':'vm','IpcMode':'host'}}", "HostConfig.IpcMode" },
        { "{'HostConfig':{'Isolation':'vm','IpcMode':'container:x'}}", "HostConfig.IpcMode" },
        { "{'HostConfig':{'Isolation':'vm','IpcMode':'shareable','UsernsMode':'host'}}", NULL },
        { "{'HostConfig':{'Isolation':'vm','PidMode':'host'}}", "HostConfig.PidMode" },
        { "{'HostConfig':{'Isolation':'vm','UTSMode':'host'}}", "HostConfig.UTSMode" },
        { "{'Volumes':{'/data':{}},'HostConfig':{'Binds':['/a:/b']}}", NULL }, // a container
    };
    struct guest_host host;
    struct engine engine = { 0 };
    size_t tried = 0;
    guest_host_open(&host, PROBE_GOOD, 0, false);
    guest_files(&host, "guest");
    engine.machines = guest_machines(&host, NULL);
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        _cleanup_json_ json_t *body = parse(table[i].body);
        struct container_config config;
        struct err err = { 0 };
        decode(body, &arena, &config);
        int result = vm_check(&engine, &config, &err);
        if ((result < 0) != (table[i].path != NULL))
            fail_msg("%s: %d, %s", table[i].body, result, err.message);
        if (result == 0)
            continue;
        assert_int_equal(err.class, ERR_NOT_IMPLEMENTED);
        assert_true(str_starts(err.message, table[i].path));
        assert_non_null(strstr(err.message, "behind the VM wall"));
        tried++;
    }
    assert_true(tried >= vm_refusal_len);
    machines_free(engine.machines);
    guest_host_close(&host);
}

static void test_host_without_guests(void **state)
{
    struct guest_host host;
    struct engine engine = { 0 };
    const struct container_config config = { .host_config.isolation = (char *)"vm" };
    struct err err = { 0 };
    guest_host_open(&host, PROBE_NONE, 1, false);
    engine.machines = guest_machines(&host, NULL);
    assert_int_equal(vm_check(&engine, &config, &err), -1);
    assert_int_equal(err.class, ERR_UNAVAILABLE);
    assert_true(str_starts(err.message, "isolation vm: no guest kernel: "));
    machines_free(engine.machines);
    guest_host_close(&host);
}

// ---- the document ---------------------------------------------------------------------------------------------------

struct scene {
    struct bench bench;
    struct guest_host host;
    struct container *container;
    struct task_document document;
};

static void scene_open(struct scene *scene, const char *probe, const char *quoted, bool endpoint)
{
    _cleanup_json_ json_t *body = parse(quoted);
    _cleanup_free_ char *text = json_text(body);
    bench_open(&scene->bench);
    guest_host_open(&scene->host, probe, 0, true);
    guest_files(&scene->host, "guest");
    scene->bench.engine.machines = guest_machines(&scene->host, NULL);
    scene->container = bench_container(&scene->bench, ID_A, "web", text);
    if (endpoint)
        bench_endpoint(scene->container);
    if (document_build(scene->container, &scene->bench.arena, &scene->document, &scene->bench.err) < 0)
        fail_msg("%s", scene->bench.err.message);
}

static void scene_close(struct scene *scene)
{
    machines_free(scene->bench.engine.machines);
    guest_host_close(&scene->host);
    bench_close(&scene->bench);
}

static void test_document(void **state)
{
    struct scene scene;
    scene_open(&scene, PROBE_GOOD,
               "{'Cmd':['sh'],'HostConfig':{'Isolation':'vm','NanoCpus':1500000000,'Memory':67108864,'PidsLimit':50,"
               "'CpuShares':100,'CpusetCpus':'0','AutoRemove':true}}", true);
    const struct task_document *document = &scene.document;
    const struct oci_resources *resources = &document->linux_section.resources;
    const struct task_vm *vm = document->vm;
    assert_string_equal(document->isolation, "vm");
    assert_string_equal(vm->accel, "kvm");
    assert_non_null(strstr(vm->vmm, "/bin/berth-vmm"));
    assert_string_equal(vm->kernel, KERNEL_RELEASE);
    assert_int_equal(vm->vcpus, 2);
    assert_int_equal(vm->memory_size, 160 << 20);
    assert_int_equal(vm->uid, 0x42000000 + 0xaa0000);
    assert_true(vm->kernel_fd == -1 && vm->initrd_fd == -1 && vm->kvm_fd == -1 && vm->vmm_fd == -1);
    assert_string_equal(document->rootfs.upper.kind, "disk");
    assert_non_null(strstr(document->rootfs.upper.path, "/containers/" ID_A "/disk.ext4"));
    assert_true(document->rootfs.upper.ephemeral);
    // The guest keeps memory and tasks, the host the processors.
    assert_int_equal(resources->memory_limit, 67108864);
    assert_int_equal(resources->pids_limit, 50);
    assert_true(resources->cpu_quota == 0 && resources->cpu_period == 0 && resources->cpu_shares == 0);
    assert_null(resources->cpuset_cpus);
    assert_int_equal(document->nics.len, 1);
    const struct task_nic *nic = json_list_at(&document->nics, &task_nic_table, 0);
    assert_string_equal(nic->mac, "02:42:ac:11:00:02");
    assert_string_equal(nic->address, "172.17.0.2");
    assert_true(nic->tap_fd == -1 && nic->netns_fd == -1);
    scene_close(&scene);
}

// Read again as the next daemon reads it.
static void test_document_round_trip(void **state)
{
    struct scene scene;
    struct task_document again;
    scene_open(&scene, PROBE_SLOW, "{'Cmd':['sh'],'HostConfig':{'Runtime':'berth-vm'}}", true);
    _cleanup_json_ json_t *form = json_encode(&task_document_table, &scene.document);
    assert_int_equal(json_decode(&task_document_table, form, &again, &scene.bench.arena, NULL, &scene.bench.err), 0);
    assert_non_null(again.vm);
    assert_string_equal(again.vm->accel, "tcg");
    assert_non_null(strstr(again.vm->vmm, "/path/qemu-system-x86_64"));
    assert_string_equal(again.vm->kernel, KERNEL_RELEASE);
    assert_int_equal(again.vm->memory_size, VM_MEMORY_DEFAULT);
    scene_close(&scene);
}

static void test_document_without_network(void **state)
{
    struct scene scene;
    scene_open(&scene, PROBE_GOOD, "{'Cmd':['sh'],'HostConfig':{'Isolation':'vm','NetworkMode':'none'}}", false);
    assert_int_equal(scene.document.nics.len, 0);
    scene_close(&scene);
}

static bool has_word(const struct strv *list, const char *word)
{
    return strv_has(list, word);
}

static void test_privileged(void **state)
{
    struct scene scene;
    struct task_exec exec_form;
    struct exec exec = { .id = ID_B };
    scene_open(&scene, PROBE_GOOD, "{'Cmd':['sh'],'HostConfig':{'Isolation':'vm','Privileged':true,'CapDrop':['ALL']}}", true);
    const struct oci_linux *section = &scene.document.linux_section;
    assert_true(has_word(&scene.document.process.capabilities->bounding, "CAP_SYS_ADMIN"));
    assert_true(has_word(&scene.document.process.capabilities->effective, "CAP_MKNOD"));
    assert_string_equal(section->seccomp_profile, "unconfined");
    assert_int_equal(section->masked_paths.len, 0);
    assert_int_equal(section->readonly_paths.len, 0);
    assert_true(section->whole_machine);
    assert_int_equal(section->resources.devices.len, 1);
    const struct oci_device_rule *rule = section->resources.devices.items;
    assert_true(rule->allow && rule->type[0] == 'a' && rule->major == -1);
    strv_push_arena(&exec.config.cmd, &scene.bench.arena, "id");
    assert_int_equal(document_exec(scene.container, &exec, &scene.bench.arena, &exec_form, &scene.bench.err), 0);
    assert_true(exec_form.unconfined);
    assert_true(has_word(&exec_form.process.capabilities->bounding, "CAP_SYS_ADMIN"));
    scene_close(&scene);
}

// docker exec --privileged, in a guest that is not.
static void test_privileged_exec(void **state)
{
    struct scene scene;
    struct exec exec = { .id = ID_B };
    scene_open(&scene, PROBE_GOOD, "{'Cmd':['sh'],'HostConfig':{'Isolation':'vm'}}", true);
    strv_push_arena(&exec.config.cmd, &scene.bench.arena, "id");
    for (int privileged = 0; privileged < 2; privileged++) {
        struct task_exec form;
        exec.config.privileged = privileged;
        assert_int_equal(document_exec(scene.container, &exec, &scene.bench.arena, &form, &scene.bench.err), 0);
        assert_int_equal(form.unconfined, privileged);
        assert_int_equal(has_word(&form.process.capabilities->bounding, "CAP_SYS_ADMIN"), privileged);
    }
    scene_close(&scene);
}

static void test_host_limits(void **state)
{
    static const struct {
        const char *accel;
        int64_t allowance;
    } table[] = { { "kvm", 128 << 20 }, { "tcg", 512 << 20 } };
    const struct host_config host = { .memory = 64 << 20, .memory_reservation = 32 << 20, .nano_cpus = 1500000000,
                                      .cpu_shares = 100, .cpuset_cpus = (char *)"0", .pids_limit = 3 };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const struct task_vm vm = { .accel = (char *)table[i].accel, .memory_size = 160 << 20 };
        struct oci_resources out = { 0 };
        vm_host_limits(&host, &vm, &out);
        assert_int_equal(out.memory_limit, (160 << 20) + table[i].allowance);
        assert_true(out.memory_reservation == 0 && out.memory_swap == 0);
        assert_true(out.cpu_quota == 0 && out.cpu_period == 0 && out.cpu_shares == 0); // come after the boot
        assert_string_equal(out.cpuset_cpus, "0");
        assert_true(out.pids_limit > 3);
        const struct oci_device_rule *rules = out.devices.items;
        assert_true(!rules[0].allow && rules[0].type[0] == 'a');
        for (size_t k = 1; k < out.devices.len; k++)
            assert_true(rules[k].type[0] == 'c');
    }
}

// ---- a boot that is called off --------------------------------------------------------------------------------------

static void *abort_boot(void *argument)
{
    struct container *container = argument;
    return vm_boot_abort(container) ? container : NULL;
}

static void test_abort(void **state)
{
    struct bench bench;
    struct err err = { 0 };
    pthread_t thread;
    void *aborted = NULL;
    bench_open(&bench);
    struct container *container = bench_container(&bench, ID_A, "a", "{}");
    assert_false(vm_boot_abort(container)); // no boot
    vm_boot_begin(container, false);
    assert_false(vm_boot_abort(container)); // a container has none
    assert_int_equal(vm_boot_end(container, &err), 0);

    vm_boot_begin(container, true);
    assert_int_equal(vm_boot_check(container, &err), 0);
    assert_int_equal(pthread_create(&thread, NULL, abort_boot, container), 0);
    while (vm_boot_check(container, &err) == 0)
        usleep(1000);
    assert_int_equal(err.number, ECANCELED);
    assert_int_equal(vm_boot_end(container, &err), -1);
    pthread_join(thread, &aborted);
    assert_ptr_equal(aborted, container);
    vm_boot_begin(container, true); // the next one is another matter
    assert_int_equal(vm_boot_end(container, &err), 0);
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),      cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_refusals),   cmocka_unit_test(test_host_without_guests),
        cmocka_unit_test(test_document),   cmocka_unit_test(test_document_round_trip),
        cmocka_unit_test(test_privileged), cmocka_unit_test(test_privileged_exec),
        cmocka_unit_test(test_document_without_network),
        cmocka_unit_test(test_host_limits), cmocka_unit_test(test_abort),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
