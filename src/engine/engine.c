// Opening and closing the engine, and --stop-all.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/utsname.h>

#include "dns/dns.h"
#include "machine.h"
#include "networks.h"
#include "quota.h"
#include "remap.h"

#define STOP_GRACE_NS (5 * NS_PER_S)

// ---- opening, stage by stage ----------------------------------------------------------------------------------------

static int check_kernel(struct err *err)
{
    enum { FLOOR_MAJOR = 5, FLOOR_MINOR = 14 };
    struct utsname host;
    int major = 0, minor = 0;
    if (uname(&host) < 0 || sscanf(host.release, "%d.%d", &major, &minor) != 2)
        return err_set(err, ERR_INTERNAL, "the kernel's version can't be read");
    if (major < FLOOR_MAJOR || (major == FLOOR_MAJOR && minor < FLOOR_MINOR))
        return err_set(err, ERR_NOT_IMPLEMENTED, "Linux %d.%d or later is needed (openat2, clone3, mount_setattr); this is %s",
                       FLOOR_MAJOR, FLOOR_MINOR, host.release);
    return 0;
}

// Opens a root folder and takes its lock, which carries our pid for people to read.
static int open_root(const char *path, mode_t mode, int *root_fd, int *lock_fd, struct err *err)
{
    char pid[16];
    if (file_mkdirs(AT_FDCWD, path, mode, err) < 0 || (*root_fd = file_open_dir(AT_FDCWD, path, err)) < 0)
        return -1;
    if (fchmod(*root_fd, mode) < 0)
        return err_errno(err, errno, "%s", path);
    if ((*lock_fd = file_own_at(*root_fd, "lock", err)) < 0)
        return err->class == ERR_CONFLICT ? err_set(err, ERR_CONFLICT, "%s is in use by another berthd", path) : -1;
    int len = snprintf(pid, sizeof(pid), "%d\n", getpid());
    if (ftruncate(*lock_fd, 0) < 0 || pwrite(*lock_fd, pid, (size_t)len, 0) != len)
        return err_errno(err, errno, "%s/lock", path);
    return 0;
}

static int open_below(int root_fd, const char *name, mode_t mode, int *out, struct err *err)
{
    return file_mkdirs(root_fd, name, mode, err) < 0 ? -1 : (*out = file_open_dir(root_fd, name, err)) < 0 ? -1 : 0;
}

static int open_folders(struct engine *engine, struct err *err)
{
    if (open_root(engine->data_root, 0710, &engine->root_fd, &engine->root_lock, err) < 0 ||
        open_root(engine->exec_root, 0700, &engine->state_fd, &engine->state_lock, err) < 0 ||
        open_below(engine->root_fd, "containers", 0710, &engine->containers_fd, err) < 0 ||
        open_below(engine->state_fd, "t", 0700, &engine->tasks_fd, err) < 0 ||
        open_below(engine->state_fd, DNS_LISTS_NAME, 0700, &engine->lists_fd, err) < 0)
        return -1;
    return 0;
}

// The programs that enter containers are copied once and sealed: no container can change what the next one runs.
static int seal_programs(struct engine *engine, struct err *err)
{
    _cleanup_free_ char *shim = mem_printf("%s/berth-shim", engine->program_dir);
    _cleanup_free_ char *init = mem_printf("%s/berth-init", engine->program_dir);
    if ((engine->shim_memfd = fd_sealed_copy(shim, err)) < 0 || (engine->init_memfd = fd_sealed_copy(init, err)) < 0)
        return -1;
    return 0;
}

static int open_net(struct engine *engine, const struct engine_options *options, struct err *err)
{
    _cleanup_free_ struct net_pool *pools = mem_alloc((options->address_pool_len + 1) * sizeof(*pools));
    for (size_t i = 0; i < options->address_pool_len; i++) {
        const struct engine_pool *from = &options->address_pools[i];
        if (strlen(from->base) >= sizeof(pools[i].base) || from->size > 32)
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid address pool: %.100s, %lld", from->base, (long long)from->size);
        pools[i].size = (int)from->size;
        memcpy(pools[i].base, from->base, strlen(from->base) + 1);
    }
    const struct engine_bridge *bridge = &options->bridge;
    struct net_config config = { .daemon_id = engine->id, .bip = options->bip, .pools = pools, .pool_len = options->address_pool_len,
                                       .bridge = bridge->name, .fixed_cidr = bridge->fixed_cidr, .gateway = bridge->gateway, .mtu = bridge->mtu,
                                       .ipv6 = bridge->ipv6, .bip6 = bridge->address6, .fixed_cidr6 = bridge->fixed_cidr6, .gateway6 = bridge->gateway6,
                                       .isolated = bridge->isolated, .no_masquerade = bridge->no_masquerade, .no_forward = options->no_forward,
                                       .no_rules = options->no_rules, .no_rules6 = options->no_rules6, .no_proxy = options->no_proxy,
                                       .direct_routing = options->direct_routing };
    if (network_read_mark(options->accept_mark, &config, err) < 0)
        return -1;
    return net_open(engine->store, &config, &engine->net, err);
}

static int open_rooms(struct engine *engine, const struct engine_options *options, struct err *err)
{
    _cleanup_free_ char *database = mem_printf("%s/berth.db", engine->data_root);
    const struct image_store_config images = { engine->root_fd, engine->state_fd, options->storage_driver, options->keep_compressed };
    if (store_open(database, &engine->store, err) < 0 ||
        store_migrate(engine->store, "engine", engine_migrations, engine_migration_len, err) < 0 ||
        record_daemon_id(engine->store, engine->id, &engine->created_ns, err) < 0 ||
        image_store_open(engine->store, &images, &engine->images, err) < 0 ||
        volume_store_open(engine->store, engine->root_fd, engine->data_root, &engine->volumes, err) < 0)
        return -1;
    if (engine->remap && remap_probe(engine->remap, engine->root_fd, engine->data_root, err) < 0)
        return -1;
    if (engine->remap)
        volume_store_own(engine->volumes, engine->remap->root_uid, engine->remap->root_gid);
    return open_net(engine, options, err);
}

static void *watcher_main(void *context)
{
    struct engine *engine = context;
    struct err err = { 0 };
    if (loop_run(engine->loop, &err) < 0)
        log_error("watcher: %s", err.message);
    return NULL;
}

static int start_threads(struct engine *engine, struct err *err)
{
    if (loop_new(&engine->loop, err) < 0 || watches_start(engine, err) < 0)
        return -1;
    int failed = pthread_create(&engine->watcher, NULL, watcher_main, engine);
    if (failed)
        return err_errno(err, failed, "watcher thread");
    engine->watcher_runs = true;
    return workers_start(engine, err);
}

static struct engine *engine_new(const struct engine_options *options)
{
    struct engine *engine = mem_new(struct engine);
    engine->data_root = mem_strdup(options->data_root);
    engine->exec_root = mem_strdup(options->exec_root);
    engine->program_dir = mem_strdup(options->program_dir);
    engine->experimental = options->experimental;
    engine->image_program = mem_printf("%s/berth-image", options->program_dir);
    engine->commit_program = mem_printf("%s/berth-commit", options->program_dir);
    engine->root_fd = engine->state_fd = engine->containers_fd = engine->tasks_fd = engine->lists_fd = -1;
    engine->root_lock = engine->state_lock = engine->shim_memfd = engine->init_memfd = -1;
    engine->watch_fd = -1;
    mutex_init(&engine->watch_lock, 0);
    mutex_init(&engine->disk_lock, 0);
    mutex_init(&engine->names_lock, 0);
    mutex_init(&engine->network_lock, 0);
    mutex_init(&engine->list_lock, RANK_LIST);
    mutex_init(&engine->bus_lock, RANK_BUS);
    mutex_init(&engine->pull_lock, 0);
    cond_init(&engine->pull_ended);
    defaults_copy(engine, &options->defaults);
    network_defaults_copy(engine, options);
    settings_init(engine, &options->settings);
    engine->registry_certs = mem_strdup(options->registry_certs);
    workers_init(engine);
    engine->inflate_ratio = options->inflate_ratio ? mem_printf("--max-inflate-ratio=%s", options->inflate_ratio) : NULL;
    return engine;
}

static int know_machines(struct engine *engine, const struct engine_options *options, struct err *err)
{
    const struct machines_config config = { .program_dir = engine->program_dir, .data_root = engine->data_root,
                                            .guest_dir = options->guest_dir, .accel = options->accel };
    return machines_new(&config, &engine->machines, err);
}

int engine_open(const struct engine_options *options, struct engine **out, struct err *err)
{
    struct engine *engine = engine_new(options);
    cgroup_layout_probe(&engine->cgroups);
    features_probe(&engine->cgroups, &engine->features);
    if (check_kernel(err) < 0 || defaults_check(engine, err) < 0 || remap_read(options->userns_remap, &engine->remap, err) < 0 || know_machines(engine, options, err) < 0 || open_folders(engine, err) < 0 || seal_programs(engine, err) < 0 ||
        open_rooms(engine, options, err) < 0 || start_threads(engine, err) < 0 || engine_adopt(engine, err) < 0) {
        engine_close(engine);
        return -1;
    }
    *out = engine;
    return 0;
}

bool engine_experimental(const struct engine *engine)
{
    return engine->experimental;
}

const char *engine_id(const struct engine *engine)
{
    return engine->id;
}

// ---- closing --------------------------------------------------------------------------------------------------------

// Nobody else is there any more who could change the list.
static void drop_clients(struct engine *engine)
{
    mutex_lock(&engine->list_lock);
    struct container *list = engine->containers;
    mutex_unlock(&engine->list_lock);
    for (struct container *container = list; container; container = container->next)
        container_drop_client(container);
}

static void free_containers(struct engine *engine)
{
    mutex_lock(&engine->list_lock);
    struct container *list = take_ptr(&engine->containers);
    mutex_unlock(&engine->list_lock);
    for (struct container *next; list; list = next) {
        next = list->next;
        health_abandon(list);
        container_unref(list);
    }
}

void engine_close(struct engine *engine)
{
    if (!engine)
        return;
    pulls_end(engine);
    // Workers first: what was seen is still recorded; then the connections, while the watcher still turns.
    workers_stop(engine);
    drop_clients(engine);
    if (engine->watcher_runs) {
        loop_stop(engine->loop);
        pthread_join(engine->watcher, NULL);
    }
    workers_drop(engine);
    free_containers(engine);
    loop_free(engine->loop);
    net_close(engine->net);
    volume_store_close(engine->volumes);
    image_store_close(engine->images);
    store_close(engine->store);
    events_done(engine);
    const int fds[] = { engine->watch_fd, engine->shim_memfd, engine->init_memfd, engine->tasks_fd, engine->containers_fd, engine->lists_fd,
                        engine->state_fd, engine->root_fd, engine->state_lock, engine->root_lock };
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        fd_close(fds[i]);
    free(engine->data_root);
    free(engine->exec_root);
    free(engine->program_dir);
    free(engine->image_program);
    free(engine->commit_program);
    arena_done(&engine->defaults_arena);
    free(engine->remap);
    settings_done(engine);
    free(engine->registry_certs);
    free(engine->inflate_ratio);
    machines_free(engine->machines);
    mutex_done(&engine->watch_lock);
    mutex_done(&engine->disk_lock);
    mutex_done(&engine->names_lock);
    mutex_done(&engine->network_lock);
    mutex_done(&engine->list_lock);
    mutex_done(&engine->bus_lock);
    mutex_done(&engine->pull_lock);
    cond_done(&engine->pull_ended);
    workers_done(engine);
    free(engine);
}

// ---- --stop-all -----------------------------------------------------------------------------------------------------

static void signal_all(struct engine *engine)
{
    _cleanup_strv_ struct strv ids = { 0 };
    container_list_ids(engine, &ids);
    for (size_t i = 0; i < ids.len; i++) {
        struct err ignored = { 0 };
        _cleanup_container_ struct container *container = container_find(engine, ids.items[i], &ignored);
        if (container)
            container_signal(container, container_stop_signal(container), &ignored);
    }
}

// All were asked at once, so the grace is shared; who is still there after it is killed.
static int stop_each(struct engine *engine, struct err *err)
{
    int64_t deadline = clock_mono_ns() + STOP_GRACE_NS;
    _cleanup_strv_ struct strv ids = { 0 };
    container_list_ids(engine, &ids);
    for (size_t i = 0; i < ids.len; i++) {
        struct err ignored = { 0 };
        _cleanup_container_ struct container *container = container_find(engine, ids.items[i], &ignored);
        if (!container)
            continue;
        if (container_await_stop(container, MAX_OF(deadline - clock_mono_ns(), INT64_C(0)), NULL, err) == 0) {
            container_signal(container, "SIGKILL", &ignored);
            if (container_await_stop(container, 10 * NS_PER_S, NULL, err) <= 0)
                return err_set(err, ERR_INTERNAL, "container %s did not stop", container->id);
        }
        // Whoever handles the exit is done once the container can be had exclusively.
        if (container_begin(container, &ignored) == 0) {
            container_release(container);
            quota_unmount(engine, container->id);
            container_end(container);
        }
    }
    return 0;
}

static int remove_host_objects(struct engine *engine, struct err *err)
{
    char path[32];
    snprintf(path, sizeof(path), "berth-%s", engine->id);
    if (net_teardown(engine->net, err) < 0 || cgroup_remove(&engine->cgroups, path, 5 * NS_PER_S, err) < 0)
        return -1;
    image_unmount_all(engine->images);
    volume_sweep(engine->volumes);
    return file_remove_tree(engine->state_fd, "t", err) < 0 ? -1 : file_remove_tree(engine->state_fd, DNS_LISTS_NAME, err);
}

int engine_stop_all(struct engine *engine, struct err *err)
{
    signal_all(engine);
    if (stop_each(engine, err) < 0 || remove_host_objects(engine, err) < 0)
        return -1;
    return 0;
}
