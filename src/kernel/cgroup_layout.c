#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "kernel/cgroup.h"
#include "kernel/mountinfo.h"

// Options of a v1 super block that are no controllers.
static const char *const plain_options[] = { "rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode",
                                             "favordynmods", "nofavordynmods" };

static bool is_controller(struct slice word)
{
    for (size_t i = 0; i < ARRAY_LEN(plain_options); i++)
        if (slice_eq(word, plain_options[i]))
            return false;
    return word.size > 0 && !slice_starts(word, "release_agent=");
}

static void controllers_of(struct slice options, char out[64])
{
    struct slice word;
    size_t used = 0;
    out[0] = '\0';
    while (slice_cut(&options, ',', &word)) {
        if (!is_controller(word) || used + word.size + 2 > 64)
            continue;
        int wrote = snprintf(out + used, 64 - used, "%s%.*s", used ? "," : "", (int)word.size, word.data);
        used += (size_t)wrote;
    }
}

static bool hierarchy_of(const struct mount_info *mount, struct cgroup_hierarchy *out)
{
    *out = (struct cgroup_hierarchy){ .v2 = slice_eq(mount->fstype, "cgroup2") };
    if ((!out->v2 && !slice_eq(mount->fstype, "cgroup")) || mount->point.size >= sizeof(out->mount_point))
        return false;
    mount_info_unescape(mount->point, out->mount_point);
    if (!out->v2)
        controllers_of(mount->options, out->controllers);
    return true;
}

// A hierarchy that is mounted twice counts once, where it was mounted first.
static bool known(const struct cgroup_layout *layout, const struct cgroup_hierarchy *hierarchy)
{
    for (size_t i = 0; i < layout->len; i++)
        if (layout->hierarchies[i].v2 == hierarchy->v2 &&
            str_eq(layout->hierarchies[i].controllers, hierarchy->controllers))
            return true;
    return false;
}

static enum cgroup_version version_of(const struct cgroup_layout *layout)
{
    bool v1 = false, v2 = false;
    for (size_t i = 0; i < layout->len; i++) {
        v2 |= layout->hierarchies[i].v2;
        v1 |= !layout->hierarchies[i].v2;
    }
    if (v1)
        return v2 ? CGROUP_HYBRID : CGROUP_V1;
    return v2 ? CGROUP_V2 : CGROUP_NONE;
}

void cgroup_layout_parse(struct slice mountinfo, struct cgroup_layout *out)
{
    struct mount_info mount;
    *out = (struct cgroup_layout){ 0 };
    while (out->len < CGROUP_HIERARCHY_MAX && mount_info_next(&mountinfo, &mount)) {
        struct cgroup_hierarchy hierarchy;
        if (hierarchy_of(&mount, &hierarchy) && !known(out, &hierarchy))
            out->hierarchies[out->len++] = hierarchy;
    }
    out->version = version_of(out);
}

void cgroup_layout_probe(struct cgroup_layout *out)
{
    _cleanup_buf_ struct buf text = BUF_INIT(MOUNTINFO_MAX);
    if (file_read_at(AT_FDCWD, "/proc/self/mountinfo", &text, NULL) < 0)
        buf_clear(&text);
    cgroup_layout_parse((struct slice){ buf_text(&text), text.size }, out);
}

static bool lists(struct slice words, char separator, const char *controller)
{
    struct slice word;
    while (slice_cut(&words, separator, &word))
        if (slice_eq(slice_trim(word), controller))
            return true;
    return false;
}

static bool tree_has(const struct cgroup_hierarchy *tree, const char *controller)
{
    char path[sizeof(tree->mount_point) + 32];
    snprintf(path, sizeof(path), "%s/cgroup.controllers", tree->mount_point);
    _cleanup_buf_ struct buf text = BUF_INIT(4096);
    if (file_read_at(AT_FDCWD, path, &text, NULL) < 0)
        return false;
    return lists(slice_trim(slice_of(buf_text(&text))), ' ', controller);
}

bool cgroup_layout_has(const struct cgroup_layout *layout, const char *controller)
{
    for (size_t i = 0; i < layout->len; i++) {
        const struct cgroup_hierarchy *hierarchy = &layout->hierarchies[i];
        if (hierarchy->v2 ? tree_has(hierarchy, controller) : lists(slice_of(hierarchy->controllers), ',', controller))
            return true;
    }
    return false;
}
