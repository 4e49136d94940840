// Snapshots of containers for inspect and ps, in the caller's arena.
#include "links.h"
#include "networks.h"
#include "quota.h"
#include "tree.h"
#include "vm.h"

static const char *const status_words[] = { "created", "running", "paused", "exited", "removing", "restarting" };

// The client's spelling may end with a slash.
static bool is_plain_tmpfs(const struct host_config *host, const char *destination)
{
    size_t size = strlen(destination);
    for (size_t i = 0; i < host->tmpfs.len; i++) {
        const char *key = host->tmpfs.items[i].key;
        if (str_starts(key, destination) && strspn(key + size, "/") == strlen(key) - size)
            return true;
    }
    return false;
}

// What --tmpfs asked for stands in HostConfig.Tmpfs alone, as Docker has it. The mode of a tmpfs is its options, which nobody is shown.
static void copy_mounts(const struct container *container, struct arena *arena, struct engine_container *out)
{
    out->mounts = arena_alloc(arena, (container->mount_len + 1) * sizeof(*out->mounts));
    for (size_t i = 0; i < container->mount_len; i++) {
        const struct engine_mount *from = &container->mounts[i];
        if (str_eq(from->type, "tmpfs") && is_plain_tmpfs(&container->config.host_config, from->destination))
            continue;
        out->mounts[out->mount_len++] = (struct engine_mount){
            .type = arena_strdup(arena, from->type), .name = arena_strdup(arena, from->name), .source = arena_strdup(arena, from->source),
            .destination = arena_strdup(arena, from->destination), .driver = arena_strdup(arena, from->driver),
            .mode = arena_strdup(arena, str_eq(from->type, "tmpfs") ? "" : from->mode), .propagation = arena_strdup(arena, from->propagation), .rw = from->rw
        };
    }
}

static void copy_ports(struct container *container, struct arena *arena, struct engine_container *out)
    REQUIRES(container->lock)
{
    const struct strv *exposed = &container->config.process.exposed_ports;
    out->ports = arena_alloc(arena, (container->port_len + exposed->len + 1) * sizeof(*out->ports));
    for (size_t i = 0; i < container->port_len; i++)
        out->ports[out->port_len++] = (struct engine_port){
            arena_strdup(arena, container->ports[i].host_address),
            (char *)net_proto_name(container->ports[i].proto), container->ports[i].host_port,
            container->ports[i].target_port
        };
    for (size_t i = 0; i < exposed->len; i++) {
        struct slice rest = slice_of(exposed->items[i]), number;
        uint64_t port;
        bool published = false;
        if (!slice_cut(&rest, '/', &number) || !num_parse_u64(number, 65535, &port))
            continue;
        const char *proto = rest.data ? rest.data : "tcp";
        for (size_t k = 0; k < container->port_len; k++)
            published = published || (out->ports[k].private_port == (int64_t)port && str_eq(out->ports[k].proto, proto));
        if (!published)
            out->ports[out->port_len++] = (struct engine_port){ NULL, arena_strdup(arena, proto), 0, (int64_t)port };
    }
}

static struct endpoint_request *copy_request(const struct endpoint_request *from, struct arena *arena)
{
    struct endpoint_request *to = arena_alloc(arena, sizeof(*to));
    _cleanup_json_ json_t *form = json_encode(&endpoint_request_table, from);
    return json_decode(&endpoint_request_table, form, to, arena, NULL, NULL) < 0 ? NULL : to;
}

static void copy_endpoint(struct container *container, const char *name, const struct endpoint *from, struct arena *arena,
                          struct engine_endpoint *to) REQUIRES(container->lock)
{
    *to = (struct engine_endpoint){ .network = arena_strdup(arena, from->network), .network_id = arena_strdup(arena, from->network_id),
                                    .request = copy_request(&from->request, arena), .up = from->up };
    if (!from->up)
        return;
    to->endpoint_id = arena_strdup(arena, from->net.endpoint_id);
    to->gateway = arena_strdup(arena, from->net.gateway);
    to->address = arena_strdup(arena, from->net.address);
    to->mac = arena_strdup(arena, from->net.mac);
    to->prefix = from->net.prefix;
    to->gateway6 = arena_strdup(arena, from->net.gateway6);
    to->address6 = arena_strdup(arena, from->net.address6);
    to->prefix6 = from->net.prefix6;
    if (!from->builtin)
        endpoint_names(container, name, from, arena, &to->dns_names);
}

static void copy_sandbox(struct container *container, struct arena *arena, struct engine_container *out) REQUIRES(container->lock)
{
    const struct host_config *host = &container->config.host_config;
    bool own = container_is_live(container) && !str_starts(host->network_mode ? host->network_mode : "", "container:");
    out->sandbox_id = (char *)(own ? container->id : "");
    out->sandbox_key = own && container->state.pid > 0 && !vm_wanted(host)
                           ? arena_printf(arena, "/proc/%lld/ns/net", (long long)container->state.pid)
                           : (char *)"";
}

static void copy_networks(struct container *container, struct arena *arena, struct engine_container *out)
    REQUIRES(container->lock)
{
    size_t len = 0;
    out->network = arena_strdup(arena, container->config.host_config.network_mode);
    copy_sandbox(container, arena, out);
    for (const struct endpoint *endpoint = container->endpoints; endpoint; endpoint = endpoint->next)
        len++;
    out->endpoints = arena_alloc(arena, (len + 1) * sizeof(*out->endpoints));
    for (const struct endpoint *endpoint = container->endpoints; endpoint; endpoint = endpoint->next)
        copy_endpoint(container, out->name, endpoint, arena, &out->endpoints[out->endpoint_len++]);
}

static void copy_state(struct container *container, struct arena *arena, struct engine_container *out)
    REQUIRES(container->lock)
{
    const struct container_state *state = &container->state;
    out->status = (char *)status_words[container->removed ? STATUS_REMOVING : state->status];
    out->running = container_is_up(container);
    out->restarting = state->status == STATUS_RESTARTING;
    out->restart_count = state->restart_count;
    out->paused = state->status == STATUS_PAUSED;
    out->oom_killed = state->oom_killed;
    out->pid = state->pid;
    out->exit_code = state->exit_code;
    out->started_ns = state->started_ns;
    out->finished_ns = state->finished_ns;
    out->error = arena_strdup(arena, state->error ? state->error : "");
    out->health = health_copy(container, arena);
    for (struct exec *exec = container->execs; exec; exec = exec->next)
        if (exec->running)
            strv_push_arena(&out->exec_ids, arena, exec->id);
}

static void copy_command(const struct container *container, struct arena *arena, struct engine_container *out)
{
    const struct strv *lists[] = { &container->config.process.entrypoint, &container->config.process.cmd };
    for (size_t l = 0; l < ARRAY_LEN(lists); l++)
        for (size_t i = 0; i < lists[l]->len; i++) {
            if (!out->path)
                out->path = arena_strdup(arena, lists[l]->items[i]);
            else
                strv_push_arena(&out->args, arena, lists[l]->items[i]);
        }
}

// The configuration once more, decoded into the caller's arena: the container may be gone before the answer is written.
// JSON_RAW members would borrow from the container's body, so the body is handed out as text instead.
static int copy_config(struct container *container, struct arena *arena, struct engine_container *out, struct err *err)
{
    struct container_config *config = arena_alloc(arena, sizeof(*config));
    _cleanup_json_ json_t *process = json_encode(&oci_image_process_table, &container->config.process);
    _cleanup_json_ json_t *links = links_show(container), *shown = NULL;
    mutex_lock(&container->lock);
    if (links)
        config_put(config_member(shown = json_deep_copy(container->body), "HostConfig"), "Links", json_incref(links));
    _cleanup_free_ char *text = json_text(shown ? shown : container->body);
    int decoded = json_decode(&container_config_table, container->body, config, arena, NULL, err);
    mutex_unlock(&container->lock);
    if (decoded < 0 || json_decode(&oci_image_process_table, process, &config->process, arena, NULL, err) < 0)
        return -1;
    config->hostname = arena_strdup(arena, container->config.hostname);
    config->host_config.network_mode = arena_strdup(arena, container->config.host_config.network_mode);
    config->stop_timeout = container->config.stop_timeout;
    config->stop_timeout_raw = NULL;
    config->host_config.console_size_raw = config->host_config.init_raw = NULL;
    config->host_config.masked_paths_raw = config->host_config.readonly_paths_raw = NULL;
    out->config = config;
    out->body_text = arena_strdup(arena, text);
    return 0;
}

static void copy_machine(struct container *container, struct arena *arena, struct engine_container *out)
{
    struct vm_size size = { 0 };
    if (!vm_wanted(&container->config.host_config))
        return;
    out->machine = arena_alloc(arena, sizeof(*out->machine));
    mutex_lock(&container->lock);
    vm_size(&container->config.host_config, &size, NULL); // it was checked at create
    *out->machine = (struct engine_machine){ .accel = arena_strdup(arena, container->accel ? container->accel : ""),
                                             .kernel = arena_strdup(arena, container->kernel ? container->kernel : ""),
                                             .vcpus = size.vcpus, .memory_size = size.memory_size };
    mutex_unlock(&container->lock);
    out->machine->disk_allocated = disk_allocated(container);
    out->upper_dir = container_path(container, arena, DISK_NAME);
    out->work_dir = NULL;
}

static void copy_labels(const struct container *container, struct arena *arena, struct engine_container *out)
{
    const struct kvs *labels = &container->config.process.labels;
    out->labels.items = arena_alloc(arena, (labels->len + 1) * sizeof(*labels->items));
    for (const struct kv *from = labels->items; out->labels.len < labels->len; from++)
        out->labels.items[out->labels.len++] = (struct kv){ arena_strdup(arena, from->key), arena_strdup(arena, from->value) };
}

// What a list shows: no more, for lists are long and asked for often.
static void snapshot(struct container *container, struct arena *arena, struct engine_container *out)
{
    *out = (struct engine_container){ .id = arena_strdup(arena, container->id), .name = container_name(container, arena),
                                      .created_ns = container->created_ns,
                                      .image_id = arena_strdup(arena, container->image_id),
                                      .image_name = arena_strdup(arena, container->image_name) };
    copy_labels(container, arena, out);
    copy_command(container, arena, out);
    copy_mounts(container, arena, out);
    mutex_lock(&container->lock);
    copy_state(container, arena, out);
    copy_ports(container, arena, out);
    copy_networks(container, arena, out);
    mutex_unlock(&container->lock);
}

static void copy_paths(struct container *container, struct arena *arena, struct engine_container *out)
{
    out->hostname_path = container_path(container, arena, "files/hostname");
    out->hosts_path = container_path(container, arena, "files/hosts");
    out->resolv_conf_path = container_path(container, arena, "files/resolv.conf");
    out->log_path = str_eq(log_driver_of(container), "json-file") ? log_path(container, arena) : (char *)"";
    out->driver = arena_strdup(arena, image_driver_name(container->engine->images));
    out->root_dir = container_has_copy(container) ? container_path(container, arena, ROOT_COPY) : NULL;
    out->upper_dir = out->root_dir ? NULL : container_path(container, arena, arena_printf(arena, "%sdiff", quota_below(container)));
    out->work_dir = out->root_dir ? NULL : container_path(container, arena, arena_printf(arena, "%swork", quota_below(container)));
}

// What lies below the container's own folder; nothing where its image is gone.
static char *lower_dirs(const struct container *container, struct arena *arena)
{
    struct image image;
    struct strv paths = { 0 };
    _cleanup_buf_ struct buf text = BUF_INIT(1 << 20);
    if (image_get(container->engine->images, container->image_id, arena, &image, NULL) < 0 ||
        image_layer_paths(container->engine->images, &image, arena, &paths, NULL) < 0)
        return NULL;
    for (size_t i = 0; i < paths.len; i++)
        buf_addf(&text, "%s%s", i ? ":" : "", paths.items[i]);
    return arena_strdup(arena, buf_text(&text));
}

int engine_inspect(struct engine *engine, const char *ref, struct arena *arena, struct engine_container *out,
                   struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container)
        return -1;
    snapshot(container, arena, out);
    copy_paths(container, arena, out);
    copy_machine(container, arena, out);
    if (copy_config(container, arena, out, err) < 0)
        return -1;
    if (!vm_wanted(&container->config.host_config) && !out->root_dir)
        out->lower_dirs = lower_dirs(container, arena);
    return 0;
}

static int written_size(const struct container *container, const struct image *image, int64_t *rw, struct err *err)
{
    _cleanup_close_ int folder = file_open_dir(container->engine->containers_fd, container->id, err);
    if (folder >= 0 && quota_has_disk(container)) { // not mounted: it was not used since the host came up
        if (file_tree_size(folder, QUOTA_DISK "/diff", rw, NULL) < 0)
            *rw = disk_allocated(container);
        return 0;
    }
    if (folder >= 0 && !container_has_copy(container))
        return file_tree_size(folder, "diff", rw, err);
    return folder < 0 ? -1 : image_root_changed(container->engine->images, image, folder, ROOT_COPY, rw, err);
}

int engine_size(struct engine *engine, const char *ref, int64_t *rw, int64_t *root_fs, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct image image;
    struct err failed = { 0 };
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container || image_get(engine->images, container->image_id, &arena, &image, err) < 0)
        return -1;
    *rw = -1;
    if (vm_wanted(&container->config.host_config))
        *rw = disk_allocated(container);
    else if (written_size(container, &image, rw, &failed) < 0)
        log_warn("container %.12s: %s", container->id, failed.message);
    *root_fs = image.size + MAX_OF(*rw, INT64_C(0));
    return 0;
}

// References to all listed containers, so that the list lock is not held while each is copied.
static size_t take_all(struct engine *engine, struct arena *arena, struct container ***out)
{
    size_t len = 0, i = 0;
    mutex_lock(&engine->list_lock);
    for (struct container *c = engine->containers; c; c = c->next)
        len++;
    *out = arena_alloc(arena, (len + 1) * sizeof(**out));
    for (struct container *c = engine->containers; c; c = c->next)
        if (!c->hidden)
            (*out)[i++] = container_ref(c);
    mutex_unlock(&engine->list_lock);
    return i;
}

void engine_list(struct engine *engine, bool all, struct arena *arena, struct engine_container **out, size_t *len)
{
    struct container **containers;
    size_t count = take_all(engine, arena, &containers);
    *out = arena_alloc(arena, (count + 1) * sizeof(**out));
    *len = 0;
    for (size_t i = 0; i < count; i++) {
        snapshot(containers[i], arena, &(*out)[*len]);
        *len += all || (*out)[*len].running;
        container_unref(containers[i]);
    }
    engine_link_names(engine, arena, *out, *len);
}
