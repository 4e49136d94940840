#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "unit/data_root.h"
#include "volume/volume.h"

struct box {
    char root[DATA_ROOT_SIZE];
    int root_fd;
    struct store *store;
    struct volume_store *volumes;
    struct arena arena;
    struct err err;
};

static void open_box(struct box *box)
{
    box->store = data_root_store(box->root);
    OK(box, volume_store_open(box->store, box->root_fd, box->root, &box->volumes, &box->err));
}

static void close_box(struct box *box)
{
    volume_store_close(box->volumes);
    store_close(box->store);
    box->volumes = NULL;
    box->store = NULL;
}

static int setup(void **state)
{
    struct box *box = mem_new(struct box);
    box->root_fd = data_root_make(box->root, "volume");
    open_box(box);
    *state = box;
    return 0;
}

static int teardown(void **state)
{
    struct box *box = *state;
    close_box(box);
    data_root_remove(box->root, box->root_fd);
    arena_done(&box->arena);
    free(box);
    return 0;
}

static mode_t mode_of(const char *path)
{
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    return info.st_mode & 07777;
}

static void makes_once_and_finds(void **state)
{
    struct box *box = *state;
    struct volume volume, again;
    bool created;
    OK(box, volume_ensure(box->volumes, "data", &box->arena, &volume, &created, &box->err));
    assert_true(created && !volume.anonymous && volume.created_ns > 0);
    assert_int_equal(mode_of(volume.path), 0755);
    assert_string_equal(volume.path, arena_printf(&box->arena, "%s/volumes/data/_data", box->root));
    OK(box, volume_ensure(box->volumes, "data", &box->arena, &again, &created, &box->err));
    assert_false(created);
    assert_true(again.created_ns == volume.created_ns);
    close_box(box);
    open_box(box);
    OK(box, volume_get(box->volumes, "data", &box->arena, &again, &box->err));
    assert_true(again.created_ns == volume.created_ns);
}

static void anonymous_ones_have_64_digits(void **state)
{
    struct box *box = *state;
    struct volume first, second;
    bool created;
    OK(box, volume_ensure(box->volumes, NULL, &box->arena, &first, &created, &box->err));
    OK(box, volume_ensure(box->volumes, NULL, &box->arena, &second, &created, &box->err));
    assert_true(first.anonymous && strlen(first.name) == 64);
    assert_string_not_equal(first.name, second.name);
}

static void names_are_checked(void **state)
{
    struct box *box = *state;
    struct volume volume;
    bool created;
    char long_name[300];
    memset(long_name, 'a', sizeof(long_name));
    long_name[256] = 0;
    const char *const wrong[] = { "", "a", "..", ".a", "-a", "a/b", "../x", "a b", "ü1", "a\n", "a:b", long_name };
    const char *const right[] = { "ab", "a-b", "A_9.x", "0a" };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_int_equal(volume_ensure(box->volumes, wrong[i], &box->arena, &volume, &created, &box->err), -1);
        assert_int_equal(box->err.class, ERR_INVALID_ARGUMENT);
    }
    for (size_t i = 0; i < ARRAY_LEN(right); i++)
        OK(box, volume_ensure(box->volumes, right[i], &box->arena, &volume, &created, &box->err));
    volume_ensure(box->volumes, "a/b", &box->arena, &volume, &created, &box->err);
    assert_string_equal(box->err.message,
                        "create a/b: \"a/b\" includes invalid characters for a local volume name, only"
                        " \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute"
                        " path");
}

static void removal_takes_the_files(void **state)
{
    struct box *box = *state;
    struct volume volume;
    bool created;
    OK(box, volume_ensure(box->volumes, "data", &box->arena, &volume, &created, &box->err));
    OK(box, file_mkdirs(AT_FDCWD, arena_printf(&box->arena, "%s/a/b", volume.path), 0755, &box->err));
    OK(box, volume_remove(box->volumes, "data", &box->err));
    assert_int_equal(access(volume.path, F_OK), -1);
    assert_int_equal(volume_remove(box->volumes, "data", &box->err), -1);
    assert_int_equal(box->err.class, ERR_NOT_FOUND);
    assert_string_equal(box->err.message, "get data: no such volume");
    OK(box, volume_ensure(box->volumes, "data", &box->arena, &volume, &created, &box->err));
    assert_true(created);
    assert_int_equal(access(arena_printf(&box->arena, "%s/a", volume.path), F_OK), -1);
}

static void make(struct box *box, const char *path)
{
    OK(box, file_mkdirs(box->root_fd, path, 0755, &box->err));
}

// Folders and records that a crash left apart from each other.
static void a_start_settles_what_a_crash_left(void **state)
{
    struct box *box = *state;
    struct volume volume;
    bool created;
    OK(box, volume_ensure(box->volumes, "lost", &box->arena, &volume, &created, &box->err));
    OK(box, volume_ensure(box->volumes, "kept", &box->arena, &volume, &created, &box->err));
    make(box, "volumes/kept/_data/precious");
    close_box(box);
    make(box, "volumes/found/_data/precious"); // made, the record missing
    make(box, "volumes/.berth-0123/_data"); // half made, or half removed
    make(box, "volumes/not-one");
    OK(box, renameat(box->root_fd, "volumes/lost", box->root_fd, "volumes/.berth-4567")); // removed, the record still there
    open_box(box);
    assert_int_equal(volume_get(box->volumes, "lost", &box->arena, &volume, &box->err), -1);
    assert_int_equal(volume_get(box->volumes, "not-one", &box->arena, &volume, &box->err), -1);
    OK(box, volume_get(box->volumes, "found", &box->arena, &volume, &box->err));
    assert_true(!volume.anonymous && volume.created_ns > 0);
    OK(box, volume_get(box->volumes, "kept", &box->arena, &volume, &box->err));
    assert_int_equal(faccessat(box->root_fd, "volumes/kept/_data/precious", F_OK, 0), 0);
    assert_int_equal(faccessat(box->root_fd, "volumes/found/_data/precious", F_OK, 0), 0);
    assert_int_equal(faccessat(box->root_fd, "volumes/.berth-0123", F_OK, 0), -1);
    assert_int_equal(faccessat(box->root_fd, "volumes/.berth-4567", F_OK, 0), -1);
}

struct racer {
    struct box *box;
    int created, failed;
};

static void *race(void *context)
{
    struct racer *racer = context;
    for (int i = 0; i < 50; i++) {
        struct arena arena = ARENA_INIT;
        struct volume volume;
        struct err err = { 0 };
        char name[16];
        bool created = false;
        snprintf(name, sizeof(name), "volume%d", i);
        racer->failed += volume_ensure(racer->box->volumes, name, &arena, &volume, &created, &err) < 0;
        racer->created += created;
        arena_done(&arena);
    }
    return NULL;
}

static void one_of_two_threads_makes_it(void **state)
{
    struct racer racers[2] = { { *state, 0, 0 }, { *state, 0, 0 } };
    pthread_t threads[2];
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    for (size_t i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(racers[0].failed + racers[1].failed, 0);
    assert_int_equal(racers[0].created + racers[1].created, 50);
}

static void labels_are_the_makers(void **state)
{
    struct box *box = *state;
    struct volume volume, *all;
    struct kv items[] = { { (char *)"color", (char *)"red" }, { (char *)"quote\"", (char *)"" } };
    const struct kvs labels = { items, 2 };
    size_t len;
    bool created;
    OK(box, volume_create(box->volumes, "second", &(struct volume_birth){ .labels = &labels }, &box->arena, &volume, &created, &box->err));
    OK(box, volume_create(box->volumes, "second", NULL, &box->arena, &volume, &created, &box->err));
    OK(box, volume_ensure(box->volumes, "first", &box->arena, &volume, &created, &box->err));
    close_box(box);
    open_box(box);
    OK(box, volume_list(box->volumes, &box->arena, &all, &len, &box->err));
    assert_int_equal(len, 2);
    assert_string_equal(all[0].name, "first");
    assert_int_equal(all[0].labels.len, 0);
    assert_string_equal(kvs_get(&all[1].labels, "color"), "red");
    assert_string_equal(kvs_get(&all[1].labels, "quote\""), "");
}

static void a_held_one_stays(void **state)
{
    struct box *box = *state;
    struct volume volume;
    bool created;
    assert_int_equal(volume_hold(box->volumes, "data", &box->err), -1);
    assert_int_equal(box->err.class, ERR_NOT_FOUND);
    OK(box, volume_ensure(box->volumes, "data", &box->arena, &volume, &created, &box->err));
    OK(box, volume_hold(box->volumes, "data", &box->err));
    OK(box, volume_hold(box->volumes, "data", &box->err));
    volume_release(box->volumes, "data");
    assert_int_equal(volume_remove(box->volumes, "data", &box->err), -1);
    assert_int_equal(box->err.class, ERR_CONFLICT);
    OK(box, volume_get(box->volumes, "data", &box->arena, &volume, &box->err));
    volume_release(box->volumes, "data");
    OK(box, volume_remove(box->volumes, "data", &box->err));
}

static bool is_mount(const char *path)
{
    struct statx info;
    return statx(AT_FDCWD, path, 0, 0, &info) == 0 && (info.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

// A volume "ram" with a tmpfs while it is used.
static void make_ram(struct box *box, struct volume *out)
{
    struct kv items[] = { { (char *)"type", (char *)"tmpfs" }, { (char *)"device", (char *)"ram" }, { (char *)"o", (char *)"size=1m,nosuid,mode=700" } };
    const struct kvs options = { items, ARRAY_LEN(items) };
    bool created;
    OK(box, volume_create(box->volumes, "ram", &(struct volume_birth){ .options = &options }, &box->arena, out, &created, &box->err));
    assert_true(volume_needs_mount(out));
}

static void the_first_user_mounts_and_the_last_takes_off(void **state)
{
    struct box *box = *state;
    struct volume volume;
    if (geteuid() != 0)
        skip();
    make_ram(box, &volume);
    assert_false(is_mount(volume.path));
    OK(box, volume_use(box->volumes, "ram", &box->err));
    OK(box, volume_use(box->volumes, "ram", &box->err));
    assert_int_equal(mode_of(volume.path), 0700);
    volume_unuse(box->volumes, "ram");
    assert_true(is_mount(volume.path));
    volume_sweep(box->volumes);
    assert_true(is_mount(volume.path));
    volume_unuse(box->volumes, "ram");
    assert_false(is_mount(volume.path));
}

static void what_an_earlier_daemon_mounted(void **state)
{
    struct box *box = *state;
    struct volume volume;
    if (geteuid() != 0)
        skip();
    make_ram(box, &volume);
    for (int sweep = 0; sweep < 2; sweep++) {
        OK(box, volume_use(box->volumes, "ram", &box->err));
        _cleanup_free_ char *file = mem_printf("%s/file", volume.path);
        assert_int_equal(mknod(file, S_IFREG | 0600, 0), 0);
        close_box(box);
        open_box(box);
        if (sweep) {
            volume_sweep(box->volumes);
            assert_false(is_mount(volume.path));
            continue;
        }
        OK(box, volume_use(box->volumes, "ram", &box->err)); // the same one, with its files
        assert_int_equal(access(file, F_OK), 0);
        volume_unuse(box->volumes, "ram");
    }
    OK(box, volume_use(box->volumes, "ram", &box->err));
    close_box(box);
    open_box(box);
    OK(box, volume_remove(box->volumes, "ram", &box->err)); // what is mounted is taken off, not emptied
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(makes_once_and_finds, setup, teardown),
        cmocka_unit_test_setup_teardown(labels_are_the_makers, setup, teardown),
        cmocka_unit_test_setup_teardown(a_held_one_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(the_first_user_mounts_and_the_last_takes_off, setup, teardown),
        cmocka_unit_test_setup_teardown(what_an_earlier_daemon_mounted, setup, teardown),
        cmocka_unit_test_setup_teardown(anonymous_ones_have_64_digits, setup, teardown),
        cmocka_unit_test_setup_teardown(names_are_checked, setup, teardown),
        cmocka_unit_test_setup_teardown(removal_takes_the_files, setup, teardown),
        cmocka_unit_test_setup_teardown(a_start_settles_what_a_crash_left, setup, teardown),
        cmocka_unit_test_setup_teardown(one_of_two_threads_makes_it, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
