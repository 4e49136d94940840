// Theory of operation: a container has namespaces of its own but for those that a mode names: "host" leaves one out of the task document's
// list, "container:ID" puts it into the list of those to join. What is joined is opened here, at each start, and travels as descriptors:
// the other container's end or a new process with its pid changes nothing any more.
//
// /dev/shm goes with the IPC namespace: the host's is a bind, another container's a clone of what it has mounted there, which lies in
// its mount namespace alone.
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>

#include "namespaces.h"
#include "users.h"
#include "vm.h"

#define SHM "/dev/shm"

static const char *const shared_files[] = { "hostname", "hosts", "resolv.conf" };

const char *namespaces_other(const char *mode)
{
    return mode && str_starts(mode, "container:") ? mode + strlen("container:") : NULL;
}

// ---- words ----------------------------------------------------------------------------------------------------------

static bool one_of(const char *mode, const char *const *words)
{
    for (; *words; words++)
        if (str_eq(mode, *words))
            return true;
    return str_empty(mode);
}

int namespaces_check_words(const struct host_config *host, struct err *err)
{
    static const char *const ipc[] = { "none", "private", "shareable", "host", NULL }, *const only_host[] = { "host", NULL },
                      *const cgroup[] = { "private", "host", NULL };
    if (!one_of(host->ipc_mode, ipc) && !namespaces_other(host->ipc_mode))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid IPC mode: %s", host->ipc_mode);
    if (!one_of(host->pid_mode, only_host) && str_empty(namespaces_other(host->pid_mode)))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid PID mode: %s", host->pid_mode);
    if (!one_of(host->uts_mode, only_host))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid UTS mode: %s", host->uts_mode);
    if (!one_of(host->userns_mode, only_host))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid user namespace mode: %s", host->userns_mode);
    if (!one_of(host->cgroupns_mode, cgroup))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid cgroup namespace mode: %s", host->cgroupns_mode);
    return 0;
}

const char *namespaces_network(const struct container_config *config)
{
    const char *mode = config->host_config.network_mode;
    return !config->network_disabled && (str_eq(mode, "host") || namespaces_other(mode)) ? mode : NULL;
}

static bool asks_mac(const struct container_config *config)
{
    bool asked = !str_empty(config->mac_address);
    for (size_t i = 0; i < config->endpoints.len; i++)
        asked = asked || !str_empty(((const struct endpoint_request *)json_map_at(&config->endpoints, &endpoint_request_table, i))->mac_address);
    return asked;
}

static int check_other_network(const struct container_config *config, struct err *err)
{
    const struct host_config *host = &config->host_config;
    const struct {
        bool asked;
        const char *what;
    } table[] = {
        { !str_empty(config->hostname), "hostname and the network mode" },
        { host->links.len > 0, "container type network can't be used with links. This would result in undefined behavior" },
        { host->dns.len > 0, "dns and the network mode" },
        { host->extra_hosts.len > 0, "custom host-to-IP mapping and the network mode" },
        { asks_mac(config), "mac-address and the network mode" },
        { host->port_bindings.len > 0 || host->publish_all_ports, "port publishing and the container type network mode" },
        { config->process.exposed_ports.len > 0, "port exposing and the container type network mode" },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].asked)
            return err_set(err, ERR_INVALID_ARGUMENT, "conflicting options: %s", table[i].what);
    return 0;
}

int namespaces_check_conflicts(const struct container_config *config, struct err *err)
{
    const char *network = config->host_config.network_mode, *other = namespaces_other(network);
    if (str_eq(network, "container") || (other && !*other))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid network mode: invalid container format container:<name|id>");
    if (other && check_other_network(config, err) < 0)
        return -1;
    if (str_eq(network, "host") && config->host_config.links.len)
        return err_set(err, ERR_INVALID_ARGUMENT, "conflicting options: host type networking can't be used with links. This would result in "
                                                  "undefined behavior");
    if (str_eq(network, "host") && asks_mac(config))
        return err_set(err, ERR_INVALID_ARGUMENT, "conflicting options: mac-address and the network mode");
    if (str_eq(config->host_config.uts_mode, "host") && !str_empty(config->hostname))
        return err_set(err, ERR_INVALID_ARGUMENT, "conflicting options: hostname and the UTS mode");
    return 0;
}

static int record_one(struct engine *engine, json_t *host, const char *field, struct err *err)
{
    const char *other = namespaces_other(json_string_value(json_object_get(host, field)));
    if (str_empty(other))
        return 0;
    _cleanup_container_ struct container *container = container_find(engine, other, err);
    if (!container && str_eq(field, "NetworkMode"))
        return 0;
    if (!container) {
        if (err)
            err->class = ERR_INVALID_ARGUMENT; // what is not found is not what the request is about
        return -1;
    }
    _cleanup_free_ char *mode = mem_printf("container:%s", container->id);
    json_object_set_new(host, field, json_string(mode));
    return 0;
}

int namespaces_record(struct engine *engine, json_t *body, struct err *err)
{
    static const char *const fields[] = { "IpcMode", "PidMode", "NetworkMode" };
    json_t *host = json_object_get(body, "HostConfig");
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        if (record_one(engine, host, fields[i], err) < 0)
            return -1;
    return 0;
}

// ---- the document ---------------------------------------------------------------------------------------------------

static bool is_mounted(const struct task_document *document, const char *target)
{
    for (size_t i = 0; i < document->mounts.len; i++)
        if (str_eq(((const struct task_mount *)json_list_at(&document->mounts, &task_mount_table, i))->target, target))
            return true;
    return false;
}

// The files of the container whose network it is: what is written by one is read by all.
static void fill_etc(const struct container_config *config, struct arena *arena, struct task_document *out)
{
    for (size_t i = 0; i < ARRAY_LEN(shared_files); i++) {
        const char *target = arena_printf(arena, "/etc/%s", shared_files[i]);
        if (is_mounted(out, target))
            continue;
        struct task_mount *mount = json_list_add(&out->mounts, &task_mount_table, arena);
        *mount = (struct task_mount){ .kind = (char *)"bind", .source = (char *)namespaces_other(config->host_config.network_mode),
                                      .target = (char *)target, .fd = -1, .read_only = config->host_config.read_only_rootfs };
    }
}

static void fill_shm(const struct host_config *host, struct arena *arena, struct task_document *out)
{
    const char *other = namespaces_other(host->ipc_mode);
    out->linux_section.no_shm = str_eq(host->ipc_mode, "none");
    if ((!other && !str_eq(host->ipc_mode, "host")) || is_mounted(out, SHM))
        return;
    struct task_mount *mount = json_list_add(&out->mounts, &task_mount_table, arena);
    *mount = (struct task_mount){ .kind = (char *)(other ? "shared" : "bind"), .source = (char *)(other ? other : SHM), .target = (char *)SHM,
                                  .fd = -1, .no_exec = true, .no_suid = true, .no_dev = true };
}

void namespaces_fill(const struct container_config *config, struct arena *arena, struct task_document *out)
{
    const struct host_config *host = &config->host_config;
    const struct {
        const char *type, *mode;
    } table[] = {
        { "mount", NULL }, { "pid", host->pid_mode }, { "ipc", host->ipc_mode },
        { "uts", host->uts_mode }, { "network", namespaces_network(config) }, { "cgroup", host->cgroupns_mode },
    };
    struct oci_namespace *own = arena_alloc(arena, sizeof(*own) * ARRAY_LEN(table));
    out->linux_section.namespaces = (struct json_list){ .items = own };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const char *other = namespaces_other(table[i].mode);
        if (other)
            *(struct task_join *)json_list_add(&out->joins, &task_join_table, arena) =
                (struct task_join){ (char *)table[i].type, (char *)other, -1 };
        else if (!str_eq(table[i].mode, "host"))
            own[out->linux_section.namespaces.len++] = (struct oci_namespace){ .type = (char *)table[i].type };
    }
    if (str_eq(host->uts_mode, "host"))
        out->hostname = NULL;
    fill_shm(host, arena, out);
    if (namespaces_other(namespaces_network(config)))
        fill_etc(config, arena, out);
}

// ---- the others' ----------------------------------------------------------------------------------------------------

// Whether it may be joined now, and by which pid.
static int ask_pid(struct container *other, pid_t *pid, struct err *err)
{
    mutex_lock(&other->lock);
    bool live = container_is_live(other), restarting = other->state.status == STATUS_RESTARTING;
    *pid = (pid_t)other->state.pid;
    mutex_unlock(&other->lock);
    if (restarting)
        return container_restarting(other, err);
    if (!live)
        return err_set(err, ERR_CONFLICT, "container %s is not running", other->id);
    if (vm_wanted(&other->config.host_config))
        return err_set(err, ERR_CONFLICT, "container %s: what is behind the VM wall has no namespace to share", other->id);
    return 0;
}

static bool is_member(const struct container *other, pid_t pid)
{
    _cleanup_buf_ struct buf text = BUF_INIT(65536);
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
    return file_read_at(AT_FDCWD, path, &text, NULL) == 0 && strstr(buf_text(&text), other->id);
}

// Our record of the pid is younger than its end: so it counts only if the process is in that container's group, and still lives when all
// is opened, so that it was the same one all the time.
int namespaces_open(struct container *other, const char *file, pid_t *pid, struct err *err)
{
    char path[64];
    if (ask_pid(other, pid, err) < 0)
        return -1;
    snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)*pid, file);
    _cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, *pid, 0);
    _cleanup_close_ int fd = pidfd < 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || !is_member(other, *pid) || syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) < 0)
        return err_set(err, ERR_CONFLICT, "container %s is not running", other->id);
    return take_fd(&fd);
}

static int open_namespace(struct container *other, const char *file, struct err *err)
{
    pid_t pid;
    return namespaces_open(other, file, &pid, err);
}

static bool shares_ipc(const struct container *other)
{
    const struct host_config *host = &other->config.host_config;
    for (size_t i = 0; i < other->mount_len; i++)
        if (str_eq(other->mounts[i].destination, SHM))
            return false;
    return str_eq(host->ipc_mode, "shareable") || str_eq(host->ipc_mode, "host") || namespaces_other(host->ipc_mode);
}

static const struct joinable {
    const char *type, *file, *failure;
} joinables[] = {
    { "ipc", "ipc", "failed to join IPC namespace" },
    { "pid", "pid", "failed to join PID namespace" },
    { "network", "net", "cannot join network namespace of container" },
};

// Docker's statuses: IPC is looked at before the start is under way, where a wrong request is told from a daemon's failure.
static int failed_to_join(const struct joinable *joinable, struct err *err)
{
    if (err && str_eq(joinable->type, "pid"))
        err->class = ERR_INTERNAL;
    else if (err && err->class == ERR_NOT_FOUND)
        err->class = ERR_INVALID_ARGUMENT;
    return err_wrap(err, "%s", joinable->failure);
}

static int load_join(struct engine *engine, struct task_join *join, struct cargo *cargo, struct err *err)
{
    const struct joinable *joinable = joinables;
    while (!str_eq(joinable->type, join->type))
        joinable++;
    _cleanup_container_ struct container *other = container_find(engine, join->container, err);
    int fd = other ? open_namespace(other, joinable->file, err) : -1;
    if (fd < 0)
        return failed_to_join(joinable, err);
    if (cargo_add(cargo, fd, true, &join->fd, err) < 0)
        return -1;
    if (!str_eq(join->type, "ipc") || shares_ipc(other))
        return 0;
    err_set(err, ERR_INVALID_ARGUMENT, "container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container)", other->id);
    return failed_to_join(joinable, err);
}

static int load_shm(struct engine *engine, struct task_mount *mount, struct cargo *cargo, struct err *err)
{
    if (str_eq(mount->kind, "bind")) {
        int fd = open(SHM, O_PATH | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? err_set(err, ERR_INTERNAL, "/dev/shm is not mounted, but must be for --ipc=host")
                      : cargo_add(cargo, fd, true, &mount->fd, err);
    }
    _cleanup_container_ struct container *other = container_find(engine, mount->source, err);
    int fd = other ? open_namespace(other, "mnt", err) : -1;
    return fd < 0 ? failed_to_join(&joinables[0], err) : cargo_add(cargo, fd, true, &mount->fd, err);
}

// ---- another's network ----------------------------------------------------------------------------------------------

// The one whose network it is in the end, where each shares the next one's. A reference.
static struct container *find_owner(struct engine *engine, const char *id, struct err *err)
{
    enum { CHAIN_MAX = 64 };
    struct container *owner = container_find(engine, id, err);
    for (int i = 0; owner && i < CHAIN_MAX; i++) {
        const char *next = namespaces_other(namespaces_network(&owner->config));
        if (!next)
            return owner;
        struct container *other = container_find(engine, next, err);
        container_unref(owner);
        owner = other;
    }
    container_unref(owner);
    return NULL;
}

static const char *word_of(struct container *other)
{
    static const char *const words[] = { [STATUS_CREATED] = "created",   [STATUS_RUNNING] = "running",   [STATUS_PAUSED] = "paused",
                                         [STATUS_EXITED] = "exited",     [STATUS_REMOVING] = "removing", [STATUS_RESTARTING] = "restarting" };
    mutex_lock(&other->lock);
    enum container_status status = other->state.status;
    mutex_unlock(&other->lock);
    return words[status];
}

// What the start would find later, told first and in Docker's words.
static int check_owner(struct container *container, struct container *other, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    pid_t pid;
    struct err why = { 0 };
    if (other == container)
        return err_set(err, ERR_INTERNAL, "cannot join own network namespace");
    if (ask_pid(other, &pid, &why) == 0)
        return 0;
    const char *word = word_of(other);
    if (str_eq(word, "running") || str_eq(word, "paused") || str_eq(word, "restarting"))
        return err_set(err, why.class, "cannot join network namespace of container: %s", why.message);
    return err_set(err, ERR_CONFLICT, "cannot join network namespace of a non running container: container %s is %s",
                   container_name(other, &arena), word);
}

int namespaces_follow(struct container *container, struct err *err)
{
    const char *id = namespaces_other(namespaces_network(&container->config));
    if (!id)
        return 0;
    _cleanup_container_ struct container *other = container_find(container->engine, id, err);
    if (!other) {
        if (err)
            err->class = ERR_INTERNAL;
        return err_wrap(err, "joining network namespace of container");
    }
    if (check_owner(container, other, err) < 0)
        return -1;
    struct container_config *config = &container->config;
    mutex_lock(&container->lock);
    if (!str_eq(config->hostname, other->config.hostname))
        config->hostname = arena_strdup(&container->arena, other->config.hostname);
    if (!str_eq(config->domainname, other->config.domainname))
        config->domainname = arena_strdup(&container->arena, other->config.domainname);
    mutex_unlock(&container->lock);
    return 0;
}

// A container whose own mounts hide one of the files has none, as has one that was never started.
static int load_etc(struct engine *engine, struct task_mount *mount, struct cargo *cargo, struct err *err)
{
    _cleanup_container_ struct container *owner = find_owner(engine, mount->source, err);
    if (!owner)
        return err_set(err, ERR_INTERNAL, "joining network namespace of container: No such container: %s", mount->source);
    _cleanup_free_ char *path = mem_printf("%s/files/%s", owner->id, mount->target + strlen("/etc/"));
    int fd = openat(engine->containers_fd, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "%s of container %s", mount->target, owner->id) : cargo_add(cargo, fd, true, &mount->fd, err);
}

int namespaces_load(struct container *container, struct task_document *document, struct cargo *cargo, struct err *err)
{
    for (size_t i = 0; i < document->joins.len; i++) {
        struct task_join *join = json_list_at(&document->joins, &task_join_table, i);
        bool users = str_eq(join->type, "user");
        if ((users ? cargo_add(cargo, container->users->fd, false, &join->fd, err) : load_join(container->engine, join, cargo, err)) < 0)
            return -1;
    }
    for (size_t i = document->path_mounts; i < document->mounts.len; i++) {
        struct task_mount *mount = json_list_at(&document->mounts, &task_mount_table, i);
        if ((str_starts(mount->target, "/etc/") ? load_etc : load_shm)(container->engine, mount, cargo, err) < 0)
            return -1;
    }
    return 0;
}
