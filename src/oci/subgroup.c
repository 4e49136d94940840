// exec --cgroup: groups below the container's, "sub" for all hierarchies or "cpu,memory:sub" for some.
#include <errno.h>
#include <fcntl.h>

#include "base/file.h"
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

// ---- cgroup v2 ------------------------------------------------------------------------------------------------------

// A group that hands controllers down may have no processes of its own: the container's first has moved to one below, and
// whoever comes is to be beside it.
static bool hands_down(const struct cgroup *cgroup)
{
    _cleanup_buf_ struct buf text = BUF_INIT(4096);
    return file_read_at(cgroup_clone_fd(cgroup), "cgroup.subtree_control", &text, NULL) == 0 && slice_trim(slice_of(buf_text(&text))).size;
}

static int open_group_of(const struct cgroup *top, pid_t pid, struct cgroup **out, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64 << 10);
    _cleanup_free_ char *file = mem_printf("/proc/%d/cgroup", (int)pid);
    if (file_read_at(AT_FDCWD, file, &text, err) < 0)
        return -1;
    struct slice rest = slice_of(buf_text(&text)), line = { 0 };
    slice_cut(&rest, '\n', &line);
    if (!slice_starts(line, "0::/"))
        return err_set(err, ERR_INTERNAL, "%s tells no cgroup2 group", file);
    _cleanup_free_ char *path = mem_strndup(line.data + strlen("0::/"), line.size - strlen("0::/"));
    size_t size = strlen(cgroup_path(top));
    if (!str_starts(path, cgroup_path(top)) || (path[size] && path[size] != '/'))
        return err_set(err, ERR_CONFLICT, "the container's cgroup %s takes no processes, and its first one is in %.200s", cgroup_path(top), path);
    return cgroup_open(cgroup_layout_of(top), path, out, err);
}

static int open_sub(const struct cgroup *top, struct slice sub, struct cgroup **out, struct err *err)
{
    const struct cgroup_layout *layout = cgroup_layout_of(top);
    while (sub.size && sub.data[0] == '/')
        sub = (struct slice){ sub.data + 1, sub.size - 1 };
    while (sub.size && sub.data[sub.size - 1] == '/')
        sub.size--;
    _cleanup_free_ char *path = mem_printf("%s%s%.*s", cgroup_path(top), sub.size ? "/" : "", (int)sub.size, sub.data);
    if (cgroup_open(layout, path, out, err) == 0)
        return 0;
    return err->number == ENOENT ? missing(&layout->hierarchies[0], path, err) : -1;
}

int subgroups_enter(struct cgroup **cgroup, const struct strv *list, pid_t init, struct err *err)
{
    struct cgroup *entered = NULL;
    if (!*cgroup || cgroup_layout_of(*cgroup)->version != CGROUP_V2 || (!list->len && !hands_down(*cgroup)))
        return 0;
    int result;
    if (!list->len)
        result = open_group_of(*cgroup, init, &entered, err);
    else if (strchr(list->items[0], ':') || list->len > 1)
        return 0; // by controllers: subgroups_read() says that there are none
    else
        result = check_sub(slice_of(list->items[0]), err) < 0 ? -1 : open_sub(*cgroup, slice_of(list->items[0]), &entered, err);
    if (result < 0)
        return -1;
    cgroup_free(*cgroup);
    *cgroup = entered;
    return 0;
}

void subgroups_done(struct subgroups *subgroups)
{
    for (size_t i = 0; i < subgroups->len; i++)
        fd_close(subgroups->fds[i]);
    subgroups->len = 0;
}
