// rooms: kernel base
// /proc/self/mountinfo: what is found lies in the text, paths do not grow, and the cgroup layout stays within its bounds.
#include <stdint.h>
#include <stdlib.h>

#include "kernel/cgroup.h"
#include "kernel/mountinfo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must_lie_in(struct slice part, struct slice whole)
{
    if (part.data < whole.data || part.data + part.size > whole.data + whole.size)
        abort();
}

static void check_mount(const struct mount_info *mount, struct slice whole)
{
    must_lie_in(mount->point, whole);
    must_lie_in(mount->fstype, whole);
    must_lie_in(mount->options, whole);
    char *path = mem_alloc(mount->point.size + 1);
    mount_info_unescape(mount->point, path);
    if (strnlen(path, mount->point.size + 1) > mount->point.size)
        abort();
    free(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct slice whole = { (const char *)data, size };
    struct slice rest = whole;
    struct mount_info mount;
    struct cgroup_layout layout;
    while (mount_info_next(&rest, &mount))
        check_mount(&mount, whole);
    cgroup_layout_parse(whole, &layout);
    if (layout.len > CGROUP_HIERARCHY_MAX || (layout.version == CGROUP_NONE) != (layout.len == 0))
        abort();
    for (size_t i = 0; i < layout.len; i++)
        if (!memchr(layout.hierarchies[i].controllers, 0, sizeof(layout.hierarchies[i].controllers)) ||
            !memchr(layout.hierarchies[i].mount_point, 0, sizeof(layout.hierarchies[i].mount_point)))
            abort();
    return 0;
}
