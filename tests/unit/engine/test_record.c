// Containers through a real store, as the next daemon reads them; and the mounts that a record holds.
#include "engine/mounts.h"
#include "fixture.h"

static void open_store(struct bench *bench)
{
    char path[64];
    struct engine *engine = &bench->engine;
    bench_open(bench);
    snprintf(path, sizeof(path), "%s/berth.db", bench->root);
    if (store_open(path, &engine->store, &bench->err) < 0 ||
        store_migrate(engine->store, "engine", engine_migrations, engine_migration_len, &bench->err) < 0 ||
        volume_store_open(engine->store, engine->root_fd, bench->root, &engine->volumes, &bench->err) < 0)
        fail_msg("%s", bench->err.message);
}

static void close_store(struct bench *bench)
{
    while (bench->engine.containers)
        container_delist(bench->engine.containers);
    volume_store_close(bench->engine.volumes);
    store_close(bench->engine.store);
    bench_close(bench);
}

static void forget_and_load(struct bench *bench)
{
    while (bench->engine.containers)
        container_delist(bench->engine.containers);
    if (record_load_all(&bench->engine, &bench->err) < 0)
        fail_msg("%s", bench->err.message);
}

static int make_mounts(struct bench *bench, struct container *container, struct strv *fresh)
{
    return mounts_from_config(container, &bench->arena, fresh, &bench->err);
}

static void test_round_trip(void **state)
{
    static const char body[] =
        "{\"Image\":\"busybox\",\"Cmd\":[\"sh\",\"-c\",\"-c\"],\"HostConfig\":{\"AutoRemove\":true,\"Memory\":67108864,"
        "\"Binds\":[\"/tmp:/host:ro\",\"data:/data\"],\"Tmpfs\":{\"/t\":\"size=1m\"}}}";
    struct bench bench;
    struct strv fresh = { 0 };
    open_store(&bench);
    struct container *container = bench_container(&bench, ID_A, "web", body);
    container->created_ns = 42;
    assert_int_equal(make_mounts(&bench, container, &fresh), 0);
    assert_int_equal(record_insert(container, "web", &bench.err), 0);
    mutex_lock(&container->lock);
    container->state = (struct container_state){ .status = STATUS_EXITED, .pid = 5, .exit_code = 137, .started_ns = 1000, .finished_ns = 2000,
                                                 .oom_killed = true, .remove_volumes = true, .restart_count = 4, .stop_wanted = true,
                                                 .error = mem_strdup("lost \xff") };
    mutex_unlock(&container->lock);
    assert_int_equal(record_save_state(container, &bench.err), 0);
    assert_int_equal(record_rename(container, "other", &bench.err), 0);

    forget_and_load(&bench);
    struct container *loaded = bench.engine.containers;
    assert_non_null(loaded);
    assert_string_equal(loaded->id, ID_A);
    assert_string_equal(loaded->name, "other");
    assert_int_equal(loaded->created_ns, 42);
    assert_string_equal(loaded->image_name, "busybox");
    assert_int_equal(loaded->config.process.cmd.len, 3);
    assert_int_equal(loaded->config.host_config.memory, 67108864);
    assert_true(loaded->config.host_config.auto_remove);
    mutex_lock(&loaded->lock);
    const struct container_state *got = &loaded->state;
    assert_true(got->status == STATUS_EXITED && got->exit_code == 137 && got->started_ns == 1000 && got->finished_ns == 2000);
    assert_true(got->restart_count == 4 && got->stop_wanted);
    assert_true(got->oom_killed && got->remove_volumes && str_starts(got->error, "lost "));
    mutex_unlock(&loaded->lock);
    assert_int_equal(loaded->mount_len, 3);
    assert_string_equal(loaded->mounts[0].destination, "/host");
    assert_false(loaded->mounts[0].rw);
    assert_string_equal(loaded->mounts[1].name, "data");
    assert_string_equal(loaded->mounts[2].type, "tmpfs");
    close_store(&bench);
}

static void test_health(void **state)
{
    static const char text[] = "{\"status\":\"unhealthy\",\"exec_id\":\"" ID_B "\",\"failing_streak\":7,\"log\":["
                               "{\"start_ns\":1,\"end_ns\":2,\"exit_code\":-1,\"output\":\"a\\nb\"}]}";
    struct bench bench;
    open_store(&bench);
    struct container *container = bench_container(&bench, ID_A, "web", "{\"Healthcheck\":{\"Test\":[\"CMD\",\"true\"]}}");
    assert_int_equal(record_insert(container, "web", &bench.err), 0);
    health_parse(container, "no json");
    assert_null(container->health);
    health_parse(container, text);
    record_note_health(container);
    forget_and_load(&bench);
    struct container *loaded = bench.engine.containers;
    mutex_lock(&loaded->lock);
    _cleanup_free_ char *got = health_text(loaded);
    const struct engine_health *copy = health_copy(loaded, &bench.arena);
    mutex_unlock(&loaded->lock);
    assert_string_equal(got, text);
    assert_string_equal(copy->status, "unhealthy");
    assert_int_equal(copy->log_len, 1);
    assert_string_equal(copy->log[0].output, "a\nb");
    close_store(&bench);
}

// What the body leaves open is the same after a restart of the daemon.
static void test_settled_fields(void **state)
{
    struct bench bench;
    open_store(&bench);
    struct container *container = bench_container(&bench, ID_A, "web", "{\"HostConfig\":{\"NetworkMode\":\"default\"}}");
    assert_int_equal(record_insert(container, "web", &bench.err), 0);
    forget_and_load(&bench);
    const struct container_config *config = &bench.engine.containers->config;
    assert_string_equal(config->hostname, "aa0000000000");
    assert_string_equal(config->host_config.network_mode, "bridge");
    assert_int_equal(config->stop_timeout, -1);
    close_store(&bench);
}

static void test_names_and_order(void **state)
{
    struct bench bench;
    open_store(&bench);
    struct container *first = bench_container(&bench, ID_A, "one", "{}"), *second = bench_container(&bench, ID_B, "two", "{}");
    first->created_ns = 1;
    second->created_ns = 2;
    assert_int_equal(record_insert(second, "two", &bench.err), 0);
    assert_int_equal(record_insert(first, "two", &bench.err), -1);
    assert_int_equal(bench.err.class, ERR_CONFLICT);
    assert_int_equal(record_insert(first, "one", &bench.err), 0);
    forget_and_load(&bench);
    assert_string_equal(bench.engine.containers->name, "two"); // newest first
    assert_int_equal(record_delete(bench.engine.containers, &bench.err), 0);
    forget_and_load(&bench);
    assert_string_equal(bench.engine.containers->name, "one");
    assert_null(bench.engine.containers->next);
    close_store(&bench);
}

static void test_daemon_id(void **state)
{
    struct bench bench;
    char first[9], second[9];
    int64_t made, again, before = clock_wall_ns();
    open_store(&bench);
    assert_int_equal(record_daemon_id(bench.engine.store, first, &made, &bench.err), 0);
    assert_int_equal(record_daemon_id(bench.engine.store, second, &again, &bench.err), 0);
    assert_string_equal(first, second);
    assert_int_equal(strlen(first), 8);
    assert_true(made >= before && made <= clock_wall_ns());
    assert_int_equal(made, again);
    close_store(&bench);
}

// ---- mounts ---------------------------------------------------------------------------------------------------------

static void test_mount_words(void **state)
{
    static const struct {
        const char *body;
        const char *text; // of the refusal; NULL: passes with one mount at /b
    } table[] = {
        { "{'HostConfig':{'Binds':['/tmp:/b']}}", NULL },
        { "{'HostConfig':{'Binds':['/tmp://./x/..//b/']}}", NULL },
        { "{'HostConfig':{'Binds':['/tmp:/b:ro,rslave,z']}}", NULL },
        { "{'HostConfig':{'Binds':['/b']}}", NULL },
        { "{'HostConfig':{'Tmpfs':{'/b':''}}}", NULL },
        { "{'Volumes':{'/b':{}},'HostConfig':{'Binds':['/tmp:/b/']}}", NULL },
        { "{'Volumes':{'/b/':{}}}", NULL },
        { "{'HostConfig':{'Mounts':[{'Type':'tmpfs','Target':'/b','TmpfsOptions':{'SizeBytes':1}}]}}", NULL },
        { "{'HostConfig':{'Binds':['/tmp:/b','/tmp:/b/']}}", "Duplicate mount point: /b" },
        { "{'HostConfig':{'Binds':['/tmp:/b'],'Tmpfs':{'//b':''}}}", "Duplicate mount point: /b" },
        { "{'HostConfig':{'Binds':['/tmp:/']}}", "destination can't be '/'" },
        { "{'HostConfig':{'Binds':['/tmp:/x/..']}}", "destination can't be '/'" },
        { "{'HostConfig':{'Binds':['/tmp:b']}}", "must be absolute" },
        { "{'HostConfig':{'Binds':['/a:/b:/c:/d']}}", "invalid volume specification" },
        { "{'HostConfig':{'Binds':['/tmp:']}}", "invalid volume specification" },
        { "{'HostConfig':{'Binds':['']}}", "invalid volume specification" },
        { "{'HostConfig':{'Binds':['/tmp:/b:nosuch']}}", "invalid mode" },
        { "{'HostConfig':{'Binds':['a b:/b']}}", "invalid characters" },
        { "{'HostConfig':{'Mounts':[{'Type':'bind','Source':'/no/such','Target':'/b'}]}}", "bind source path does not exist" },
        { "{'HostConfig':{'Mounts':[{'Type':'nosuch','Target':'/b'}]}}", "mount type unknown" },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct bench bench;
        struct strv fresh = { 0 };
        open_store(&bench);
        char *body = arena_strdup(&bench.arena, table[i].body);
        for (char *c = body; *c; c++)
            *c = *c == '\'' ? '"' : *c;
        struct container *container = bench_container(&bench, ID_A, "web", body);
        int result = make_mounts(&bench, container, &fresh);
        if (result != (table[i].text ? -1 : 0) || (table[i].text && !strstr(bench.err.message, table[i].text)))
            fail_msg("%s: %d %s", table[i].body, result, bench.err.message);
        if (result == 0) {
            assert_int_equal(container->mount_len, 1);
            assert_string_equal(container->mounts[0].destination, "/b");
        }
        close_store(&bench);
    }
}

static bool volume_exists(struct bench *bench, const char *name)
{
    struct volume volume;
    return volume_get(bench->engine.volumes, name, &bench->arena, &volume, NULL) == 0;
}

// An anonymous volume goes with its container, but not under the feet of another that names it.
static void test_anonymous_volumes(void **state)
{
    struct bench bench;
    struct strv fresh = { 0 };
    open_store(&bench);
    struct container *first = bench_container(&bench, ID_A, "one", "{\"Volumes\":{\"/v\":{}},\"HostConfig\":{\"Binds\":[\"kept:/k\"]}}");
    assert_int_equal(make_mounts(&bench, first, &fresh), 0);
    assert_int_equal(fresh.len, 2);
    const char *anonymous = arena_strdup(&bench.arena, first->mounts[1].name);
    const char *body = arena_printf(&bench.arena, "{\"HostConfig\":{\"Binds\":[\"%s:/w\"]}}", anonymous);
    struct container *second = bench_container(&bench, ID_B, "two", body);
    fresh.len = 0;
    assert_int_equal(make_mounts(&bench, second, &fresh), 0);
    assert_int_equal(fresh.len, 1); // still empty
    mounts_release(first);
    mounts_remove_anonymous(first);
    assert_true(volume_exists(&bench, anonymous) && volume_exists(&bench, "kept"));
    mounts_release(second);
    container_delist(second);
    mounts_remove_anonymous(first);
    assert_false(volume_exists(&bench, anonymous));
    assert_true(volume_exists(&bench, "kept"));
    close_store(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_health), cmocka_unit_test(test_round_trip), cmocka_unit_test(test_settled_fields), cmocka_unit_test(test_names_and_order),
        cmocka_unit_test(test_daemon_id),  cmocka_unit_test(test_mount_words),    cmocka_unit_test(test_anonymous_volumes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
