// Theory of operation: a container's user namespace comes before all else of a start, because a network namespace must be made in it, or
// sysfs can't be mounted there. Processes that hold it open for us live for a moment (kernel/users.h); from then on it is a descriptor,
// which the shim gets and joins. Layers and the container's folder travel as clones of their mounts with its map (remap.c).
//
// Who shares another container's namespaces shares its user namespace, too, as with Docker: rights over a namespace are rights in its owner.
#include "users.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "kernel/mount.h"
#include "namespaces.h"
#include "quota.h"
#include "remap.h"
#include "vm.h"

struct run_users *run_users_new(void)
{
    struct run_users *users = mem_new(struct run_users);
    users->fd = -1;
    return users;
}

void run_users_free(struct run_users *users)
{
    if (!users)
        return;
    fd_close(users->fd);
    free(users);
}

bool users_wanted(const struct container *container)
{
    const struct host_config *host = &container->config.host_config;
    return container->engine->remap && !str_eq(host->userns_mode, "host") && !vm_wanted(host);
}

void users_root(const struct container *container, uid_t *uid, gid_t *gid)
{
    bool wanted = users_wanted(container);
    *uid = wanted ? container->engine->remap->root_uid : 0;
    *gid = wanted ? container->engine->remap->root_gid : 0;
}

int users_check(const struct container *container, struct err *err)
{
    const struct host_config *host = &container->config.host_config;
    const struct {
        bool asked;
        const char *refusal;
    } table[] = {
        { host->privileged, "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when "
                            "running privileged mode" },
        { str_eq(host->network_mode, "host"), "cannot share the host's network namespace when user namespaces are enabled" },
        { str_eq(host->pid_mode, "host"), "cannot share the host PID namespace when user namespaces are enabled" },
        { str_eq(host->ipc_mode, "host"), "cannot share the host's IPC namespace when user namespaces are enabled" },
    };
    for (size_t i = 0; users_wanted(container) && i < ARRAY_LEN(table); i++)
        if (table[i].asked)
            return err_set(err, ERR_INVALID_ARGUMENT, "%s", table[i].refusal);
    return 0;
}

// ---- which one ------------------------------------------------------------------------------------------------------

static int make(const struct remap *remap, struct run_users **out, struct err *err)
{
    _cleanup_run_users_ struct run_users *users = run_users_new();
    users->uids = remap->uids;
    users->gids = remap->gids;
    users->root_uid = remap->root_uid;
    users->root_gid = remap->root_gid;
    if ((users->fd = users_make(&users->uids, &users->gids, err)) < 0)
        return -1;
    *out = take_ptr(&users);
    return 0;
}

static bool is_own(int fd)
{
    struct stat own, other;
    return fstat(fd, &other) == 0 && stat("/proc/self/ns/user", &own) == 0 && own.st_ino == other.st_ino && own.st_dev == other.st_dev;
}

// NULL for one in the host's. By what runs and not by what the daemon is told now: the option may have changed since its start.
static int read_running(struct container *other, struct run_users **out, struct err *err)
{
    _cleanup_run_users_ struct run_users *users = run_users_new();
    pid_t pid;
    if ((users->fd = namespaces_open(other, "user", &pid, err)) < 0)
        return -1;
    *out = NULL;
    if (is_own(users->fd))
        return 0;
    if (users_read(pid, &users->uids, &users->gids, err) < 0)
        return -1;
    if (!users_outside(&users->uids, 0, &users->root_uid) || !users_outside(&users->gids, 0, &users->root_gid))
        return err_set(err, ERR_INTERNAL, "container %s: its user namespace has no root", other->id);
    *out = take_ptr(&users);
    return 0;
}

// Whose namespaces it shares; "": nobody's.
static int find_donor(const struct host_config *host, const char **out, struct err *err)
{
    const char *const modes[] = { host->network_mode, host->ipc_mode, host->pid_mode };
    *out = "";
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        const char *other = namespaces_other(modes[i]);
        if (other && **out && !str_eq(*out, other))
            return err_set(err, ERR_INVALID_ARGUMENT,
                           "cannot share namespaces of two containers when user namespaces are enabled: each has one of its own");
        if (other)
            *out = other;
    }
    return 0;
}

static int share(struct container *container, const char *donor, struct run_users **out, struct err *err)
{
    _cleanup_container_ struct container *other = container_find(container->engine, donor, err);
    if (!other || read_running(other, out, err) < 0)
        return -1;
    return *out ? 0 : err_set(err, ERR_CONFLICT, "cannot share namespaces of container %s: it is in the host's user namespace", donor);
}

int users_of(struct container *container, bool live, struct run_users **out, struct err *err)
{
    *out = NULL;
    if (live)
        return read_running(container, out, err);
    return users_wanted(container) ? make(container->engine->remap, out, err) : 0;
}

// ---- a start --------------------------------------------------------------------------------------------------------

int users_begin(struct container *container, struct err *err)
{
    const char *donor;
    run_users_free(take_ptr(&container->users));
    if (!users_wanted(container))
        return 0;
    if (users_check(container, err) < 0 || find_donor(&container->config.host_config, &donor, err) < 0)
        return -1;
    return *donor ? share(container, donor, &container->users, err) : make(container->engine->remap, &container->users, err);
}

int users_own_network(const struct container *container, int *netns_fd, struct err *err)
{
    *netns_fd = -1;
    if (!container->users || namespaces_network(&container->config))
        return 0;
    _cleanup_close_ int fd = users_network(container->users->fd, err);
    if (fd < 0 || net_loopback_up(fd, err) < 0)
        return -1;
    *netns_fd = take_fd(&fd);
    return 0;
}

static void fill_map(const struct users_map *map, struct arena *arena, struct json_list *out)
{
    for (size_t i = 0; i < map->len; i++) {
        const struct users_range *range = &map->ranges[i];
        *(struct oci_id_mapping *)json_list_add(out, &oci_id_mapping_table, arena) = (struct oci_id_mapping){ range->inside, range->outside, range->len };
    }
}

void users_fill(const struct container *container, struct arena *arena, struct task_document *out)
{
    if (!container->users)
        return;
    fill_map(&container->users->uids, arena, &out->linux_section.uid_mappings);
    fill_map(&container->users->gids, arena, &out->linux_section.gid_mappings);
    *(struct task_join *)json_list_add(&out->joins, &task_join_table, arena) = (struct task_join){ (char *)"user", (char *)"", -1 };
}

// ---- files ----------------------------------------------------------------------------------------------------------

int users_map_layers(const struct run_users *users, struct image_layers *layers, struct err *err)
{
    for (size_t i = 0; users && i < layers->len; i++) {
        int clone = mount_clone_mapped(layers->fds[i], users->fd, err);
        if (clone < 0)
            return err_wrap(err, "layer %s", layers->paths.items[i]);
        fd_close(layers->fds[i]);
        layers->fds[i] = clone;
    }
    return 0;
}

static int open_plain(const struct container *container, struct err *err)
{
    int fd = openat(container->engine->containers_fd, container->id, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "container %s", container->id) : fd;
}

int users_open_folder(struct container *container, const struct run_users *users, struct err *err)
{
    _cleanup_close_ int fd = quota_has_disk(container) ? quota_open(container, err) : open_plain(container, err);
    if (fd < 0)
        return -1;
    return users ? mount_clone_mapped(fd, users->fd, err) : take_fd(&fd);
}
