#include <errno.h>
#include <fcntl.h>

#include "base/fd.h"
#include "kernel/abi.h"
#include "plan.h"

static int set_attributes(int fd, const struct mount_attr *attr, bool recursive, struct err *err)
{
    if (!attr->attr_set && !attr->attr_clr && !attr->propagation)
        return 0;
    if (mount_setattr(fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), (struct mount_attr *)attr, sizeof(*attr)) < 0)
        return err_errno(err, errno, "change mount attributes");
    return 0;
}

// The times words are one choice of three, so that setting one clears the field.
static uint64_t cleared(uint64_t set, uint64_t clear)
{
    return clear | (set & MOUNT_ATTR__ATIME ? MOUNT_ATTR__ATIME : 0);
}

int clone_bind(const struct plan_bind *bind, int source_fd, struct err *err)
{
    _cleanup_close_ int fd = bind->detached ? fd_dup(source_fd, err) : mount_clone(source_fd, bind->recursive, err);
    struct mount_attr own = { .attr_set = bind->attrs, .attr_clr = cleared(bind->attrs, bind->clear) };
    struct mount_attr all = { .attr_set = bind->rec_set, .attr_clr = cleared(bind->rec_set, bind->rec_clear) };
    struct mount_attr spread = { .propagation = bind->propagation };
    if (fd < 0 || set_attributes(fd, &spread, bind->recursive, err) < 0)
        return -1;
    if (bind->idmap_fd > 0 && mount_map_ids(fd, bind->idmap_fd, bind->idmap_recursive, err) < 0)
        return -1;
    bool once = !bind->source && !bind->own_attrs; // Docker's binds carry their attributes to all that comes along
    if (set_attributes(fd, &own, once && bind->recursive, err) < 0 || set_attributes(fd, &all, true, err) < 0)
        return -1;
    return take_fd(&fd);
}
