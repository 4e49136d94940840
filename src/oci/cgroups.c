#include <fcntl.h>
#include <limits.h>

#include "base/file.h"
#include "base/slice.h"
#include "oci/oci_private.h"

#define PATH_SIZE_MAX 1024 // what kernel/cgroup.c takes

// A path below the roots of the hierarchies. What is not absolute counts from there, too.
int cgroups_path(const char *wanted, const char *id, struct arena *arena, const char **out, struct err *err)
{
    const char *path = str_empty(wanted) ? id : wanted;
    struct slice rest = slice_of(path), part;
    if (rest.size >= PATH_SIZE_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "linux.cgroupsPath: \"%.200s...\" is too long", path);
    char *clean = arena_alloc(arena, rest.size + 1);
    size_t size = 0;
    while (slice_cut(&rest, '/', &part)) {
        if (part.size == 0 || slice_eq(part, "."))
            continue;
        if (slice_eq(part, ".."))
            return err_set(err, ERR_INVALID_ARGUMENT, "linux.cgroupsPath: \"%.200s\" leads out of the hierarchy", path);
        if (part.size > NAME_MAX)
            return err_set(err, ERR_INVALID_ARGUMENT, "linux.cgroupsPath: \"%.200s...\" has a name that is too long", path);
        if (size)
            clean[size++] = '/';
        memcpy(clean + size, part.data, part.size);
        size += part.size;
    }
    if (size == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "linux.cgroupsPath: \"%.200s\" is the root", path);
    *out = clean;
    return 0;
}

// What every container may use, after the document's own rules: the devices that all have, and mknod. A device that the
// document lists may be used only by a rule of the document.
static const struct cgroup_device_rule default_rules[] = {
    { true, 'c', -1, -1, "m" }, { true, 'b', -1, -1, "m" }, { true, 'c', 1, 3, "rwm" },   { true, 'c', 1, 8, "rwm" },
    { true, 'c', 1, 7, "rwm" }, { true, 'c', 5, 0, "rwm" }, { true, 'c', 1, 5, "rwm" },   { true, 'c', 1, 9, "rwm" },
    { true, 'c', 136, -1, "rwm" }, { true, 'c', 5, 2, "rwm" }, { true, 'c', 10, 200, "rwm" },
};

static int convert_rule(const struct oci_device_rule *in, struct cgroup_device_rule *out, struct err *err)
{
    const char *type = str_empty(in->type) ? "a" : in->type;
    const char *access = str_empty(in->access) ? "rwm" : in->access;
    if (strlen(type) != 1 || !strchr("acb", type[0]))
        return err_set(err, ERR_INVALID_ARGUMENT, "linux.resources.devices: unknown type \"%.20s\"", type);
    *out = (struct cgroup_device_rule){ .allow = in->allow, .type = type[0], .major = in->major, .minor = in->minor };
    // Each of the three letters once; others mean nothing, as to runc.
    for (size_t i = 0, len = 0; i < 3; i++)
        if (strchr(access, "rwm"[i]))
            out->access[len++] = "rwm"[i];
    return 0;
}

int cgroups_devices(const struct json_list *list, struct arena *arena, struct cgroup_limits *out, struct err *err)
{
    const struct oci_device_rule *rules = list->items;
    if (!list->len)
        return 0;
    struct cgroup_device_rule *all = arena_alloc(arena, (list->len + ARRAY_LEN(default_rules)) * sizeof(*all));
    size_t len = 0;
    for (size_t i = 0; i < list->len; i++)
        if (convert_rule(&rules[i], &all[len++], err) < 0)
            return -1;
    for (size_t i = 0; i < ARRAY_LEN(default_rules); i++)
        all[len++] = default_rules[i];
    out->devices = all;
    out->device_len = len;
    return 0;
}

int cgroups_limits(struct container *container, struct arena *arena, struct cgroup_limits *out, struct err *err)
{
    const struct oci_resources *in = &container->config.linux_section->resources;
    json_t *document = json_object_get(json_object_get(container->document, "linux"), "resources");
    if (resources_limits(document, in, arena, out, err) < 0)
        return err_wrap(err, "linux");
    // A user may not filter devices; what it can't open anyway is kept from it by the devices' own modes.
    return container->rootless ? 0 : cgroups_devices(&in->devices, arena, out, err);
}

// The group of a user's container lies beside the user's own, as a member of which it could not get controllers.
static const char *beside_own(struct arena *arena, const char *path)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64 << 10);
    if (file_read_at(AT_FDCWD, "/proc/self/cgroup", &text, NULL) < 0 || !str_starts(buf_text(&text), "0::/"))
        return path;
    char *own = arena_strdup(arena, buf_text(&text) + strlen("0::/"));
    own[strcspn(own, "\n")] = '\0';
    char *slash = strrchr(own, '/');
    return slash ? arena_printf(arena, "%.*s/%s", (int)(slash - own), own, path) : path;
}

int cgroups_name(struct call *call, struct container *container, struct err *err)
{
    const char *wanted = container->config.linux_section->cgroups_path, *path, *slice;
    if (call->systemd) {
        container->cgroup = (char *)"";
        return scope_name(wanted, container->id, &container->arena, &slice, (const char **)&container->unit, err);
    }
    if (cgroups_path(wanted, container->id, &container->arena, &path, err) < 0)
        return -1;
    bool absolute = !str_empty(wanted) && wanted[0] == '/';
    container->cgroup = (char *)(call->rootless && !absolute ? beside_own(&container->arena, path) : path);
    return 0;
}

static bool wants_limits(const struct cgroup_limits *limits)
{
    return limits->memory_limit || limits->memory_swap || limits->memory_reservation || limits->memory_swappiness.set ||
           limits->oom_kill_disable || limits->cpu_shares || limits->cpu_quota || limits->cpu_period || limits->cpu_rt_runtime ||
           limits->cpu_rt_period || limits->cpu_burst.set || limits->cpu_idle.set || !str_empty(limits->cpuset_cpus) ||
           !str_empty(limits->cpuset_mems) || limits->pids_limit || limits->io_weight || limits->io_leaf_weight ||
           limits->io_weight_len || limits->io_read_bps_len || limits->io_write_bps_len || limits->io_read_iops_len ||
           limits->io_write_iops_len || limits->huge_page_len || limits->rdma_len || limits->net_class ||
           limits->net_priority_len || limits->unified_len;
}

// Asked of each hierarchy alone: such a group need not be in all of them.
static bool frozen_before(const struct cgroup_layout *layout, const char *path)
{
    for (size_t i = 0; i < layout->len; i++) {
        const struct cgroup_hierarchy *hierarchy = &layout->hierarchies[i];
        bool freezer = str_eq(hierarchy->controllers, "freezer");
        if (!hierarchy->v2 && !freezer)
            continue;
        struct buf text = BUF_INIT(4096);
        _cleanup_free_ char *file = mem_printf("%s/%s/%s", hierarchy->mount_point, path, freezer ? "freezer.state" : "cgroup.events");
        bool frozen = file_read_at(AT_FDCWD, file, &text, NULL) == 0 && strstr(buf_text(&text), freezer ? "FROZEN" : "frozen 1");
        buf_done(&text);
        if (frozen)
            return true;
    }
    return false;
}

// A group that was there before: its processes are warned of, and in a frozen one nothing would ever start. Then it is not
// ours to remove, either.
static int check_present(const struct cgroup_layout *layout, struct container *container, struct err *err)
{
    struct cgroup *cgroup = NULL;
    _cleanup_free_ pid_t *pids = NULL;
    size_t len = 0;
    if (frozen_before(layout, container->cgroup)) {
        container->cgroup = (char *)"";
        return err_set(err, ERR_CONFLICT, "container's cgroup unexpectedly frozen");
    }
    if (cgroup_open(layout, container->cgroup, &cgroup, NULL) < 0)
        return 0;
    if (cgroup_pids(cgroup, &pids, &len, NULL) == 0 && len) {
        _cleanup_free_ char *line = mem_printf("container's cgroup is not empty: %zu process(es) found", len);
        log_warning_line(line);
    }
    cgroup_free(cgroup);
    return 0;
}

// systemd has made the group where it has a controller of its own; the others' hierarchies are ours. Its parents' are not.
static int make_by_systemd(const struct cgroup_layout *layout, struct container *container, struct cgroup_limits *limits, struct cgroup **out,
                           struct err *err)
{
    const char *slice, *unit = container->unit;
    struct cgroup *cgroup = NULL;
    if (scope_name(container->config.linux_section->cgroups_path, container->id, &container->arena, &slice, &unit, err) < 0 ||
        scope_make(container, slice, layout->version, limits, err) < 0)
        return err_wrap(err, "unable to start unit \"%s\"", unit);
    if ((layout->version == CGROUP_V2 ? cgroup_open : cgroup_create)(layout, container->cgroup, &cgroup, err) < 0)
        return -1;
    scope_round(limits);
    if (resources_apply(cgroup, limits, err) < 0) {
        cgroup_free(cgroup);
        return -1;
    }
    *out = cgroup;
    return 0;
}

int cgroups_make(struct call *call, struct container *container, struct cgroup **out, struct err *err)
{
    struct cgroup_limits limits;
    const struct cgroup_layout *layout = container_layout(container);
    if (cgroups_limits(container, &container->arena, &limits, err) < 0)
        return -1;
    *out = NULL;
    if (layout->version == CGROUP_NONE && !wants_limits(&limits)) {
        container->cgroup = (char *)"";
        return 0;
    }
    struct cgroup *cgroup = NULL;
    if (!str_empty(container->unit))
        return make_by_systemd(layout, container, &limits, out, err);
    if (check_present(layout, container, err) < 0)
        return -1;
    if (cgroup_create(layout, container->cgroup, &cgroup, err) < 0) {
        if (!call->lax_cgroups || wants_limits(&limits))
            return -1;
        err_clear(err); // a user without a delegated group runs without one
        container->cgroup = (char *)"";
        return 0;
    }
    if (resources_apply(cgroup, &limits, err) < 0) {
        cgroup_free(cgroup);
        return -1;
    }
    *out = cgroup;
    return 0;
}
