// exec --cgroup: groups below the container's, "sub" for all hierarchies or "cpu,memory:sub" for some.
#include <errno.h>
#include <fcntl.h>

#include "base/slice.h"
#include "oci/oci_private.h"

static int check_sub(struct slice sub, struct err *err)
{
    struct slice rest = sub, part;
    while (slice_cut(&rest, '/', &part))
        if (slice_eq(part, ".."))
            return err_set(err, ERR_INVALID_ARGUMENT, "bad sub cgroup path: %.*s is not a sub cgroup path", (int)sub.size, sub.data);
    return 0;
}

static int missing(const struct cgroup_hierarchy *hierarchy, const char *path, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "error adding pid to cgroups: error adding pid 0: openat2 %s/%s/cgroup.procs: no such file or directory",
                   hierarchy->mount_point, path);
}

static bool lists(const struct cgroup_hierarchy *hierarchy, struct slice controller)
{
    struct slice rest = slice_of(hierarchy->controllers), word;
    while (slice_cut(&rest, ',', &word))
        if (word.size == controller.size && memcmp(word.data, controller.data, word.size) == 0)
            return true;
    return false;
}

static int open_tasks(struct cgroup *cgroup, size_t index, struct slice sub, struct subgroups *out, struct err *err)
{
    const struct cgroup_hierarchy *hierarchy = &cgroup_layout_of(cgroup)->hierarchies[index];
    while (sub.size && sub.data[0] == '/')
        sub = (struct slice){ sub.data + 1, sub.size - 1 };
    _cleanup_free_ char *path = mem_printf("./%.*s/tasks", (int)sub.size, sub.data);
    int fd = openat(cgroup_dir_fd(cgroup, index), path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        _cleanup_free_ char *whole = mem_printf("%s/%.*s", cgroup_path(cgroup), (int)sub.size, sub.data);
        return errno == ENOENT ? missing(hierarchy, whole, err) : err_errno(err, errno, "%s", path);
    }
    if (out->len == ARRAY_LEN(out->fds)) {
        fd_close(fd);
        return err_set(err, ERR_INVALID_ARGUMENT, "--cgroup: too many");
    }
    out->fds[out->len++] = fd;
    return 0;
}

static int add_controller(struct cgroup *cgroup, struct slice controller, struct slice sub, struct subgroups *out, struct err *err)
{
    const struct cgroup_layout *layout = cgroup_layout_of(cgroup);
    for (size_t i = 0; i < layout->len; i++)
        if (!layout->hierarchies[i].v2 && lists(&layout->hierarchies[i], controller))
            return open_tasks(cgroup, i, sub, out, err);
    return err_set(err, ERR_INVALID_ARGUMENT, "unknown controller %.*s in SubCgroupPaths", (int)controller.size, controller.data);
}

static int add_all(struct cgroup *cgroup, struct slice sub, struct subgroups *out, struct err *err)
{
    const struct cgroup_layout *layout = cgroup_layout_of(cgroup);
    for (size_t i = 0; i < layout->len; i++)
        if (!layout->hierarchies[i].v2 && open_tasks(cgroup, i, sub, out, err) < 0)
            return -1;
    return 0;
}

int subgroups_read(struct cgroup *cgroup, const struct strv *list, struct subgroups *out, struct err *err)
{
    out->len = 0;
    if (list->len && cgroup_layout_of(cgroup)->version == CGROUP_V2)
        return err_set(err, ERR_NOT_IMPLEMENTED, "--cgroup on cgroup v2 is not supported yet");
    for (size_t i = 0; i < list->len; i++) {
        struct slice rest = slice_of(list->items[i]), controllers, word;
        slice_cut(&rest, ':', &controllers);
        struct slice sub = rest.data ? rest : controllers;
        if (check_sub(sub, err) < 0)
            return -1;
        if (!rest.data && list->len != 1)
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid --cgroup argument: %s (missing <controller>: prefix)", list->items[i]);
        if (!rest.data && add_all(cgroup, sub, out, err) < 0)
            return -1;
        while (rest.data && slice_cut(&controllers, ',', &word))
            if (add_controller(cgroup, word, sub, out, err) < 0)
                return -1;
    }
    return 0;
}

void subgroups_done(struct subgroups *subgroups)
{
    for (size_t i = 0; i < subgroups->len; i++)
        fd_close(subgroups->fds[i]);
    subgroups->len = 0;
}
