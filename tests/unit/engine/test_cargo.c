// What travels with `create` for a guest: each index of the document names the right descriptor.
#include "guest_fixture.h"
#include "engine/cargo.h"
#include "engine/vm.h"

struct scene {
    struct bench bench;
    struct guest_host host;
    struct container *container;
    struct task_document document;
    struct image_layers layers;
    struct cargo cargo;
};

static int open_new(struct scene *scene, const char *name)
{
    int fd = openat(scene->bench.engine.root_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    return fd;
}

static void scene_open(struct scene *scene, const char *probe, bool network)
{
    *scene = (struct scene){ 0 };
    bench_open(&scene->bench);
    mutex_init(&scene->bench.engine.disk_lock, 0);
    guest_host_open(&scene->host, probe, 0, true);
    guest_files(&scene->host, "guest");
    scene->bench.engine.machines = guest_machines(&scene->host, NULL);
    setenv("PATH", scene->host.path_before, 1); // the disk needs mke2fs; QEMU comes from there too where it is installed
    scene->container = bench_container(&scene->bench, ID_A, "a", "{\"Cmd\":[\"sh\"],\"HostConfig\":{\"Isolation\":\"vm\"}}");
    assert_int_equal(file_mkdirs(scene->bench.engine.containers_fd, ID_A, 0700, &scene->bench.err), 0);
    if (network)
        bench_endpoint(scene->container);
    mutex_lock(&scene->container->lock);
    if (network)
        scene->container->tap_fd = open_new(scene, "tap");
    mutex_unlock(&scene->container->lock);
    if (document_build(scene->container, &scene->bench.arena, &scene->document, &scene->bench.err) < 0)
        fail_msg("%s", scene->bench.err.message);
    scene->layers.fds = mem_alloc(2 * sizeof(int));
    for (size_t i = 0; i < 2; i++) {
        char name[8];
        snprintf(name, sizeof(name), "layer%zu", i);
        scene->layers.fds[scene->layers.len++] = open_new(scene, name);
        json_list_add(&scene->document.rootfs.layers, &task_layer_table, &scene->bench.arena);
    }
}

static void scene_load(struct scene *scene)
{
    struct json_list attaches = { 0 };
    if (cargo_load(scene->container, &scene->layers, &scene->bench.arena, &scene->document, &attaches, &scene->cargo,
                   &scene->bench.err) < 0)
        fail_msg("%s", scene->bench.err.message);
}

static void scene_close(struct scene *scene)
{
    cargo_done(&scene->cargo);
    image_layers_done(&scene->layers);
    machines_free(scene->bench.engine.machines);
    guest_host_close(&scene->host);
    bench_close(&scene->bench);
}

static void expect_file(const struct scene *scene, int64_t index, const char *end)
{
    char link[32], path[512];
    assert_in_range(index, 0, scene->cargo.len - 1);
    snprintf(link, sizeof(link), "/proc/self/fd/%d", scene->cargo.fds[index]);
    ssize_t size = readlink(link, path, sizeof(path) - 1);
    assert_true(size > 0);
    path[size] = 0;
    if (size < (ssize_t)strlen(end) || !str_eq(path + size - strlen(end), end))
        fail_msg("index %lld: %s, not %s", (long long)index, path, end);
}

static void test_emulated(void **state)
{
    struct scene scene;
    scene_open(&scene, PROBE_SLOW, true);
    scene_load(&scene);
    const struct task_document *document = &scene.document;
    const struct task_layer *layers = document->rootfs.layers.items;
    const struct task_nic *nic = json_list_at(&document->nics, &task_nic_table, 0);
    assert_int_equal(scene.cargo.len, 6);
    expect_file(&scene, layers[0].fd, "/layer0");
    expect_file(&scene, layers[1].fd, "/layer1");
    expect_file(&scene, document->rootfs.upper.upper_fd, "/" ID_A "/disk.ext4");
    assert_int_equal(document->rootfs.upper.work_fd, -1);
    expect_file(&scene, nic->tap_fd, "/tap");
    assert_int_equal(nic->netns_fd, -1);
    expect_file(&scene, document->vm->kernel_fd, "/guest/vmlinux");
    expect_file(&scene, document->vm->initrd_fd, "/guest/initramfs");
    assert_true(document->vm->kvm_fd == -1 && document->vm->vmm_fd == -1);
    scene_close(&scene);
}

static void test_kvm(void **state)
{
    struct scene scene;
    if (access("/dev/kvm", R_OK | W_OK) < 0)
        skip();
    scene_open(&scene, PROBE_GOOD, true);
    scene_load(&scene);
    assert_int_equal(scene.cargo.len, 8);
    expect_file(&scene, scene.document.vm->kvm_fd, "/dev/kvm");
    expect_file(&scene, scene.document.vm->vmm_fd, "/bin/berth-vmm");
    scene_close(&scene);
}

static void test_no_network(void **state)
{
    struct scene scene;
    scene_open(&scene, PROBE_SLOW, false);
    scene_load(&scene);
    assert_int_equal(scene.cargo.len, 5);
    assert_int_equal(scene.document.nics.len, 0);
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_emulated), cmocka_unit_test(test_kvm), cmocka_unit_test(test_no_network) };
    if (geteuid() != 0) {
        puts("1..0 # SKIP gives files away: needs root");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
