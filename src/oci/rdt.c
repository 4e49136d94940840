// linux.intelRdt: the container's class of service in the resctrl file system (kernel/resctrl.h), its own by the container's name
// or one that the document names and others use as well.
#include "base/fd.h"
#include "kernel/resctrl.h"
#include "oci/oci_private.h"

static struct resctrl_group group_of(const struct container *container)
{
    const struct oci_intel_rdt *rdt = container->config.linux_section->intel_rdt;
    bool shared = !str_empty(rdt->clos_id);
    return (struct resctrl_group){ .name = shared ? rdt->clos_id : container->id, .l3 = rdt->l3_cache_schema,
                                   .bandwidth = rdt->mem_bw_schema, .shared = shared,
                                   // A group of its own is counted as one anyway.
                                   .monitor = shared && (rdt->enable_cmt || rdt->enable_mbm) ? container->id : NULL };
}

static int check_counting(int root_fd, const struct oci_intel_rdt *rdt, struct err *err)
{
    if (rdt->enable_cmt && !resctrl_counts(root_fd, "llc_occupancy"))
        return err_set(err, ERR_NOT_IMPLEMENTED, "enableCMT: this machine does not count the cache's use");
    if (rdt->enable_mbm && !resctrl_counts(root_fd, "mbm_total_bytes") && !resctrl_counts(root_fd, "mbm_local_bytes"))
        return err_set(err, ERR_NOT_IMPLEMENTED, "enableMBM: this machine does not count the memory's bandwidth");
    return 0;
}

static bool has_rdt(const struct container *container)
{
    return container->config.linux_section && container->config.linux_section->intel_rdt;
}

// What is to be removed one day is written down before it is made.
static int make(struct container *container, int root_fd, struct err *err)
{
    struct resctrl_group group = group_of(container);
    if (check_counting(root_fd, container->config.linux_section->intel_rdt, err) < 0 || resctrl_name_check(group.name, err) < 0)
        return -1;
    if (!group.shared)
        container->clos = arena_strdup(&container->arena, group.name);
    else if (group.monitor)
        container->clos = arena_printf(&container->arena, "%s/mon_groups/%s", group.name, group.monitor);
    return container_save(container, err) < 0 ? -1 : resctrl_make(root_fd, &group, err);
}

int rdt_make(struct container *container, struct err *err)
{
    if (!has_rdt(container))
        return 0;
    _cleanup_close_ int root = resctrl_open(NULL);
    if (root < 0)
        return err_set(err, ERR_NOT_IMPLEMENTED, "intelRdt is specified in config, but Intel RDT is not enabled");
    return make(container, root, err) < 0 ? err_wrap(err, "linux.intelRdt") : 0;
}

int rdt_join(const struct container *container, pid_t pid, struct err *err)
{
    if (!has_rdt(container))
        return 0;
    struct resctrl_group group = group_of(container);
    _cleanup_close_ int root = resctrl_open(err);
    return root < 0 ? -1 : resctrl_join(root, &group, pid, err);
}

int rdt_remove(const struct container *container, struct err *err)
{
    if (str_empty(container->clos))
        return 0;
    _cleanup_close_ int root = resctrl_open(NULL);
    return root < 0 ? 0 : resctrl_remove(root, container->clos, err); // unmounted, it has no groups any more
}

json_t *rdt_stats(const struct container *container)
{
    _cleanup_close_ int root = has_rdt(container) ? resctrl_open(NULL) : -1;
    if (root < 0)
        return json_object();
    struct resctrl_group group = group_of(container);
    return rdt_report(root, &group);
}

int rdt_update(const struct container *container, const char *l3, const char *bandwidth, struct err *err)
{
    if (str_empty(l3) && str_empty(bandwidth))
        return 0;
    if (!has_rdt(container))
        return err_set(err, ERR_CONFLICT, "the container has no class of service (linux.intelRdt) whose schema could change");
    struct resctrl_group group = group_of(container);
    group.l3 = l3;
    group.bandwidth = bandwidth;
    group.shared = false; // it is meant to change
    _cleanup_close_ int root = resctrl_open(err);
    return root < 0 ? -1 : resctrl_make(root, &group, err);
}
