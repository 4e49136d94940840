// An engine without host: a data root in a temporary folder, the list of containers and the event bus, no daemon's threads.
#ifndef TEST_ENGINE_FIXTURE_H
#define TEST_ENGINE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>

#include "engine/networks.h"

#define ID_A "aa00000000000000000000000000000000000000000000000000000000000001"
#define ID_B "ab00000000000000000000000000000000000000000000000000000000000002"

struct bench {
    char root[32];
    struct engine engine;
    struct arena arena;
    struct err err;
};

static inline void bench_open(struct bench *bench)
{
    struct engine *engine = &bench->engine;
    *bench = (struct bench){ .root = "/tmp/engine-test-XXXXXX" };
    assert_non_null(mkdtemp(bench->root));
    memcpy(engine->id, "0a1b2c3d", 9);
    engine->data_root = bench->root;
    engine->root_fd = open(bench->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(file_mkdirs(engine->root_fd, "containers", 0700, &bench->err), 0);
    engine->containers_fd = file_open_dir(engine->root_fd, "containers", &bench->err);
    mutex_init(&engine->list_lock, RANK_LIST);
    mutex_init(&engine->bus_lock, RANK_BUS);
    workers_init(engine);
    mutex_init(&engine->watch_lock, 0);
    assert_int_equal(loop_new(&engine->loop, &bench->err), 0);
    assert_int_equal(watches_start(engine, &bench->err), 0);
}

static inline void bench_close(struct bench *bench)
{
    struct engine *engine = &bench->engine;
    while (engine->containers)
        container_delist(engine->containers);
    workers_drop(engine);
    loop_free(engine->loop);
    fd_close(engine->watch_fd);
    mutex_done(&engine->watch_lock);
    events_done(engine);
    arena_done(&bench->arena);
    fd_close(engine->containers_fd);
    fd_close(engine->root_fd);
    assert_int_equal(file_remove_tree(AT_FDCWD, bench->root, &bench->err), 0);
}

// Listed, made of a create body in JSON. The list has the only reference.
static inline struct container *bench_container(struct bench *bench, const char *id, const char *name, const char *body)
{
    struct container *container = container_new(&bench->engine, id);
    if (json_parse(body, strlen(body), &container->body, &bench->err) < 0 ||
        json_decode(&container_config_table, container->body, &container->config, &container->arena, NULL, &bench->err) < 0)
        fail_msg("%s", bench->err.message);
    container_settle(container);
    container->name = mem_strdup(name);
    container->image_id = arena_strdup(&container->arena, "sha256:" ID_B);
    container->image_name = arena_strdup(&container->arena, "busybox");
    container->next = bench->engine.containers;
    bench->engine.containers = container;
    return container;
}

static inline void bench_set_status(struct container *container, enum container_status status)
{
    mutex_lock(&container->lock);
    container->state.status = status;
    mutex_unlock(&container->lock);
}

// The place on the default bridge that a start would have made.
static inline void bench_endpoint(struct container *container)
{
    struct endpoint *endpoint = endpoint_new("bridge", NULL);
    endpoint->bridge = endpoint->builtin = endpoint->up = true;
    endpoint->net = (struct net_endpoint){ .interface = "eth0", .address = "172.17.0.2", .gateway = "172.17.0.1", .prefix = 16,
                                           .mac = "02:42:ac:11:00:02", .netns_fd = -1 };
    endpoints_add(container, endpoint, true);
}

#endif
