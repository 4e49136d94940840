// The task document: what both walls need to know of a container, compiled from its configuration. No descriptors here;
// start.c opens what the document names and gives the indices.
#include "cdi.h"
#include "links.h"
#include "namespaces.h"
#include "networks.h"
#include "quota.h"
#include "tree.h"
#include "users.h"
#include "vm.h"

// ---- files ----------------------------------------------------------------------------------------------------------

// What the user mounts at the same place wins.
static void add_file(struct task_document *document, struct arena *arena, const char *path, char *content)
{
    for (size_t i = 0; i < document->mounts.len; i++) {
        const struct task_mount *mount = json_list_at(&document->mounts, &task_mount_table, i);
        if (str_eq(mount->target, path))
            return;
    }
    struct task_file *file = json_list_add(&document->files, &task_file_table, arena);
    *file = (struct task_file){ arena_strdup(arena, path), content, 0644 };
}

static char *resolv_text(const struct container *container, struct arena *arena) REQUIRES(container->lock)
{
    _cleanup_buf_ struct buf settings = BUF_INIT(1 << 20);
    const struct host_config *host = &container->config.host_config;
    const struct endpoint *leads6 = endpoint_gateway6(container);
    return names_wanted(container) ? resolv_content_named(host, names_outside(container), arena, &settings)
                                   : resolv_content(host, leads6 && leads6->net.gateway6[0], arena);
}

// Of a container that shares another's network they are the other's, and mounted already.
static void fill_files(struct container *container, const char *links, struct arena *arena, struct task_document *out)
    REQUIRES(container->lock)
{
    bool host = str_eq(namespaces_network(&container->config), "host");
    add_file(out, arena, "/etc/hostname", arena_printf(arena, "%s\n", container->config.hostname));
    add_file(out, arena, "/etc/hosts", host ? hosts_content_host(container, arena) : arena_printf(arena, "%s%s", hosts_content(container, arena), links));
    add_file(out, arena, "/etc/resolv.conf", host ? resolv_content_host(&container->config.host_config, arena) : resolv_text(container, arena));
}

// ---- the process ----------------------------------------------------------------------------------------------------

static void base_env(const struct container_config *config, const struct strv *links, struct arena *arena, bool terminal, struct strv *out)
{
    strv_push_arena(out, arena, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    strv_push_arena(out, arena, arena_printf(arena, "HOSTNAME=%s", config->hostname));
    if (terminal)
        strv_push_arena(out, arena, "TERM=xterm");
    for (size_t i = 0; i < links->len; i++)
        strv_env_set(out, arena, links->items[i]);
    for (size_t i = 0; i < config->process.env.len; i++)
        strv_env_set(out, arena, config->process.env.items[i]);
}

static void fill_rlimits(const struct json_list *ulimits, struct arena *arena, struct json_list *out)
{
    for (size_t i = 0; i < ulimits->len; i++) {
        const struct ulimit *ulimit = json_list_at(ulimits, &ulimit_table, i);
        struct oci_rlimit *rlimit = json_list_add(out, &oci_rlimit_table, arena);
        rlimit->type = arena_printf(arena, "RLIMIT_%s", ulimit->name ? ulimit->name : "");
        for (char *c = rlimit->type; *c; c++)
            *c = (char)(*c >= 'a' && *c <= 'z' ? *c - 32 : *c);
        rlimit->soft = ulimit->soft;
        rlimit->hard = ulimit->hard;
    }
}

static void console_size(const json_t *raw, int64_t *height, int64_t *width)
{
    if (json_array_size(raw) == 2) {
        *height = json_integer_value(json_array_get(raw, 0));
        *width = json_integer_value(json_array_get(raw, 1));
    }
}

static int fill_process(struct container *container, const struct strv *links, struct arena *arena, struct oci_process *out, struct err *err)
{
    const struct container_config *config = &container->config;
    const struct host_config *host = &config->host_config;
    for (size_t i = 0; i < config->process.entrypoint.len; i++)
        strv_push_arena(&out->args, arena, config->process.entrypoint.items[i]);
    for (size_t i = 0; i < config->process.cmd.len; i++)
        strv_push_arena(&out->args, arena, config->process.cmd.items[i]);
    out->terminal = config->tty;
    base_env(config, links, arena, config->tty, &out->env);
    out->cwd = str_empty(config->process.working_dir) ? (char *)"/" : config->process.working_dir;
    out->user.name = str_empty(config->process.user) ? (char *)"0" : config->process.user;
    out->user.groups = host->group_add;
    out->user.umask = -1;
    out->no_new_privileges = security_no_new_privileges(host);
    out->oom_score_adj = host->oom_score_adj;
    console_size(host->console_size_raw, &out->console_size.height, &out->console_size.width);
    fill_rlimits(&host->ulimits, arena, &out->rlimits);
    return capabilities_from_config(host, arena, &out->capabilities, err);
}

// ---- the linux section ----------------------------------------------------------------------------------------------

const char *const engine_masked_paths[] = { "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore",
                                            "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                                            "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
                                            "/sys/firmware", "/sys/devices/virtual/powercap", NULL };
const char *const engine_readonly_paths[] = { "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
                                              NULL };

static void fill_paths(json_t *asked, const char *const *defaults, struct arena *arena, struct strv *out)
{
    size_t i;
    json_t *item;
    if (!json_is_array(asked)) {
        for (i = 0; defaults[i]; i++)
            strv_push_arena(out, arena, defaults[i]);
        return;
    }
    json_array_foreach (asked, i, item)
        if (json_is_string(item))
            strv_push_arena(out, arena, json_string_value(item));
}

// Docker's two: users without rights may serve port 80 and ping, in a network namespace that is the container's own. In a user namespace the
// second names groups that are none.
static void fill_sysctls(const struct kvs *asked, bool own_network, bool own_users, struct arena *arena, struct kvs *out)
{
    static const struct kv defaults[] = { { (char *)"net.ipv4.ip_unprivileged_port_start", (char *)"0" },
                                          { (char *)"net.ipv4.ping_group_range", (char *)"0 2147483647" } };
    out->items = arena_alloc(arena, (asked->len + ARRAY_LEN(defaults)) * sizeof(*out->items));
    out->len = 0;
    for (size_t i = 0; own_network && i < ARRAY_LEN(defaults) - own_users; i++)
        if (!kvs_get(asked, defaults[i].key))
            out->items[out->len++] = defaults[i];
    for (size_t i = 0; i < asked->len; i++)
        out->items[out->len++] = asked->items[i];
}

static const struct oci_device_rule device_rules[] = {
    { false, (char *)"a", -1, -1, (char *)"rwm" }, { true, (char *)"c", -1, -1, (char *)"m" },
    { true, (char *)"b", -1, -1, (char *)"m" },    { true, (char *)"c", 1, 3, (char *)"rwm" },
    { true, (char *)"c", 1, 5, (char *)"rwm" },    { true, (char *)"c", 1, 7, (char *)"rwm" },
    { true, (char *)"c", 1, 8, (char *)"rwm" },    { true, (char *)"c", 1, 9, (char *)"rwm" },
    { true, (char *)"c", 5, 0, (char *)"rwm" },    { true, (char *)"c", 5, 1, (char *)"rwm" },
    { true, (char *)"c", 5, 2, (char *)"rwm" },    { true, (char *)"c", 136, -1, (char *)"rwm" },
    { true, (char *)"c", 10, 200, (char *)"rwm" }, // tunnels: a node is the container's to make, and an interface wants CAP_NET_ADMIN, as everywhere
};

static const struct oci_device_rule every_device[] = { { true, (char *)"a", -1, -1, (char *)"rwm" } };
static const char *const no_paths[] = { NULL };

static int fill_linux(struct container *container, const struct cdi_edits *edits, struct arena *arena, struct oci_linux *out, struct err *err)
{
    const struct host_config *host = &container->config.host_config;
    fill_paths(host->masked_paths_raw, host->privileged ? no_paths : engine_masked_paths, arena, &out->masked_paths);
    fill_paths(host->readonly_paths_raw, host->privileged ? no_paths : engine_readonly_paths, arena, &out->readonly_paths);
    fill_sysctls(&host->sysctls, !namespaces_network(&container->config), container->users, arena, &out->sysctl);
    out->cgroups_path = arena_alloc(arena, CONTAINER_CGROUP_SIZE);
    container_cgroup_path(container, out->cgroups_path);
    limits_from_config(host, &out->resources);
    out->resources.devices = (struct json_list){ .items = (void *)device_rules, .len = ARRAY_LEN(device_rules) };
    if (host->privileged)
        out->resources.devices = (struct json_list){ .items = (void *)every_device, .len = ARRAY_LEN(every_device) };
    out->seccomp_profile = (char *)security_seccomp(host);
    out->shm_size = host->shm_size;
    out->whole_machine = host->privileged;
    out->writable_cgroups = security_writable_cgroups(host);
    return devices_fill(host, edits->nodes, edits->node_len, arena, out, err);
}

// ---- rootfs, mounts, network ----------------------------------------------------------------------------------------

// A build's caches and files have the ids that containers know. Nothing else of the data root has, whoever asks for it by name.
static bool has_own_ids(const struct container *container, const struct engine_mount *mount)
{
    static const char *const folders[] = { "/build-cache/", "/staging/" };
    const char *root = container->engine->data_root;
    bool ours = false;
    for (size_t i = 0; i < ARRAY_LEN(folders) && str_eq(mount->type, "bind") && str_starts(mount->source, root); i++)
        ours = ours || str_starts(mount->source + strlen(root), folders[i]);
    return ours;
}

static void fill_mounts(const struct container *container, struct arena *arena, struct task_document *out)
{
    for (size_t i = 0; i < container->mount_len; i++) {
        const struct engine_mount *from = &container->mounts[i];
        struct task_mount *mount = json_list_add(&out->mounts, &task_mount_table, arena);
        bool tmpfs = str_eq(from->type, "tmpfs");
        char *source = str_empty(from->subpath) ? from->source : arena_printf(arena, "%s/%s", from->source, from->subpath);
        *mount = (struct task_mount){ .kind = from->type, .source = source, .target = from->destination, .fd = -1,
                                      .read_only = !from->rw, .recursive = !from->alone, .writable_below = from->writable_below, .propagation = from->propagation,
                                      .mapped = has_own_ids(container, from), .data = tmpfs ? from->mode : NULL, .no_exec = tmpfs, .no_suid = tmpfs, .no_dev = tmpfs };
    }
}

static void fill_network(struct container *container, struct arena *arena, struct task_document *out)
    REQUIRES(container->lock)
{
    for (const struct endpoint *endpoint = container->endpoints; endpoint; endpoint = endpoint->next) {
        if (!endpoint->up)
            continue;
        struct task_nic *nic = json_list_add(&out->nics, &task_nic_table, arena);
        *nic = (struct task_nic){ .name = arena_strdup(arena, endpoint->net.interface), .mac = arena_strdup(arena, endpoint->net.mac),
                                  .address = arena_strdup(arena, endpoint->net.address),
                                  .gateway = arena_strdup(arena, endpoint->net.gateway), .prefix = endpoint->net.prefix,
                                  .address6 = arena_strdup(arena, endpoint->net.address6),
                                  .gateway6 = arena_strdup(arena, endpoint->net.gateway6), .prefix6 = endpoint->net.prefix6,
                                  .mtu = endpoint->mtu,
                                  .netns_fd = -1, .tap_fd = -1 };
    }
    if (out->nics.len == 0 && !namespaces_network(&container->config))
        *(struct task_nic *)json_list_add(&out->nics, &task_nic_table, arena) =
            (struct task_nic){ .name = (char *)"lo", .netns_fd = -1, .tap_fd = -1 };
    for (size_t i = 0; i < container->port_len; i++) {
        const struct net_port *from = &container->ports[i];
        bool six = strchr(from->host_address, ':');
        const struct endpoint *to = six ? endpoint_published6(container) : endpoint_published(container);
        const char *target = !to ? "" : six && to->net.address6[0] ? to->net.address6 : to->net.address;
        struct task_port *port = json_list_add(&out->ports, &task_port_table, arena);
        *port = (struct task_port){ .proto = (char *)net_proto_name(from->proto),
                                    .host_address = arena_strdup(arena, from->host_address), .host_port = from->host_port,
                                    .target_address = arena_strdup(arena, target),
                                    .target_port = from->target_port, .held = container->engine->no_proxy || from->proto == IPPROTO_SCTP, .listener_fd = -1 };
    }
}

static void fill_rootfs(struct container *container, struct arena *arena, struct task_document *out)
{
    const struct host_config *host = &container->config.host_config;
    out->rootfs.kind = (char *)"layers";
    out->rootfs.read_only = host->read_only_rootfs;
    const char *upper = container_has_copy(container) ? ROOT_COPY : arena_printf(arena, "%sdiff", quota_below(container));
    out->rootfs.upper = (struct task_upper){ .kind = (char *)"dir", .path = container_path(container, arena, upper),
                                             .upper_fd = -1, .work_fd = -1, .ephemeral = host->auto_remove && !quota_has_disk(container) };
}

// What named devices bring beside their nodes.
static void add_edits(const struct cdi_edits *edits, struct arena *arena, struct task_document *out)
{
    struct oci_process *process = &out->process;
    struct strv groups = { 0 };
    for (size_t i = 0; i < edits->env.len; i++)
        strv_env_set(&process->env, arena, edits->env.items[i]);
    for (size_t i = 0; i < edits->mounts.len; i++)
        *(struct task_mount *)json_list_add(&out->mounts, &task_mount_table, arena) =
            *(const struct task_mount *)json_list_at(&edits->mounts, &task_mount_table, i);
    if (edits->hook_len) {
        out->hooks = arena_alloc(arena, sizeof(*out->hooks));
        *out->hooks = edits->hooks;
    }
    if (!edits->groups.len)
        return;
    for (size_t i = 0; i < process->user.groups.len; i++) // the configuration's own list stays as it is
        strv_push_arena(&groups, arena, process->user.groups.items[i]);
    for (size_t i = 0; i < edits->groups.len; i++)
        strv_push_arena(&groups, arena, edits->groups.items[i]);
    process->user.groups = groups;
}

int document_build(struct container *container, struct arena *arena, struct task_document *out, struct err *err)
{
    const struct container_config *config = &container->config;
    struct strv links = { 0 };
    struct cdi_edits edits;
    char *link_lines;
    *out = (struct task_document){ .version = TASK_DOCUMENT_VERSION, .id = container->id, .daemon_id = container->engine->id,
                                   .isolation = (char *)"container", .hostname = config->hostname,
                                   .domainname = config->domainname, .init = json_is_true(config->host_config.init_raw),
                                   .stop_signal = (char *)container_stop_signal(container) };
    if (cdi_collect(&config->host_config.device_requests, &container->engine->defaults.cdi_folders, arena, &edits, err) < 0 ||
        links_resolve(container, arena, &links, &link_lines, err) < 0 || fill_process(container, &links, arena, &out->process, err) < 0 ||
        fill_linux(container, &edits, arena, &out->linux_section, err) < 0)
        return -1;
    fill_rootfs(container, arena, out);
    fill_mounts(container, arena, out);
    add_edits(&edits, arena, out);
    out->path_mounts = out->mounts.len;
    namespaces_fill(config, arena, out);
    users_fill(container, arena, out);
    out->stdio = (struct task_stdio){ config->tty, config->open_stdin, config->stdin_once,
                                      out->process.console_size.height, out->process.console_size.width };
    if (log_fill(container, arena, &out->log, err) < 0)
        return -1;
    mutex_lock(&container->lock);
    fill_network(container, arena, out);
    fill_files(container, link_lines, arena, out);
    mutex_unlock(&container->lock);
    return vm_wanted(&config->host_config) ? vm_complete(container, arena, out, err) : 0;
}

// ---- exec -----------------------------------------------------------------------------------------------------------

int document_exec(struct container *container, const struct exec *exec, struct arena *arena, struct task_exec *out,
                  struct err *err)
{
    const struct container_config *config = &container->config;
    struct strv links = { 0 };
    struct host_config rights = config->host_config;
    struct oci_process *process = &out->process;
    rights.privileged = rights.privileged || exec->config.privileged;
    const char *profile = security_seccomp(&rights);
    bool own = !str_eq(profile, "default") && !str_eq(profile, "unconfined");
    *out = (struct task_exec){ .exec_id = (char *)exec->id, .unconfined = str_eq(profile, "unconfined"),
                               .seccomp_profile = (char *)(own ? profile : NULL) };
    process->args = exec->config.cmd;
    process->terminal = exec->config.tty;
    links_environment(container, arena, &links);
    base_env(config, &links, arena, exec->config.tty, &process->env);
    for (size_t i = 0; i < exec->config.env.len; i++)
        strv_env_set(&process->env, arena, exec->config.env.items[i]);
    process->cwd = !str_empty(exec->config.working_dir)      ? exec->config.working_dir
                   : !str_empty(config->process.working_dir) ? config->process.working_dir
                                                             : (char *)"/";
    process->user.name = !str_empty(exec->config.user)      ? exec->config.user
                         : !str_empty(config->process.user) ? config->process.user
                                                            : (char *)"0";
    process->user.groups = config->host_config.group_add;
    process->user.umask = -1;
    process->no_new_privileges = security_no_new_privileges(&config->host_config);
    console_size(exec->config.console_size_raw, &process->console_size.height, &process->console_size.width);
    fill_rlimits(&config->host_config.ulimits, arena, &process->rlimits);
    out->stdio = (struct task_stdio){ exec->config.tty, exec->config.attach_stdin, true, process->console_size.height,
                                      process->console_size.width };
    return capabilities_from_config(&rights, arena, &process->capabilities, err);
}
