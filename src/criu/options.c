#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/slice.h"
#include "criu/criu.h"
#include "criu/protobuf.h"
#include "json/json.h"
#include "kernel/cgroup.h"
#include "kernel/path.h"

#define LOG_LEVEL 4
#define LOG_MAX (16 << 20) // bytes of a log that are read
#define STDIO_FILE "descriptors.json" // runc's name for it

enum { NETWORK_LOCK_NFTABLES = 2 };

void criu_begin_options(int images_fd, const char *log_name, enum criu_cgroups mode, const char *config, struct buf *out)
{
    pb_number(out, CRIU_IMAGES_DIR_FD, images_fd);
    pb_number(out, CRIU_LOG_LEVEL, LOG_LEVEL);
    pb_text(out, CRIU_LOG_FILE, log_name);
    pb_flag(out, CRIU_NOTIFY_SCRIPTS, true);
    pb_flag(out, CRIU_ORPHAN_PTS_MASTER, true);
    pb_flag(out, CRIU_MANAGE_CGROUPS, true);
    pb_number(out, CRIU_MANAGE_CGROUPS_MODE, mode);
    pb_number(out, CRIU_EMPTY_NS, CLONE_NEWNET); // links and addresses are whoever's who made them
    pb_text(out, CRIU_CONFIG_FILE, *config ? config : NULL);
}

void criu_pair(struct buf *out, unsigned field, const char *first, const char *second)
{
    _cleanup_buf_ struct buf pair = BUF_INIT(16 << 10);
    pb_text(&pair, 1, first);
    pb_text(&pair, 2, second);
    pb_message(out, field, &pair);
}

void criu_inherit(struct buf *out, const char *key, int number)
{
    _cleanup_buf_ struct buf inherit = BUF_INIT(PATH_MAX + 64);
    pb_text(&inherit, 1, key);
    pb_number(&inherit, 2, number);
    pb_message(out, CRIU_INHERIT_FD, &inherit);
}

// ---- mounts ---------------------------------------------------------------------------------------------------------

void criu_external_mount(struct buf *out, const char *path, const char *source)
{
    criu_pair(out, CRIU_EXT_MNT, path, source);
}

char *criu_resolved(struct arena *arena, int root_fd, const char *root, const char *path)
{
    char link[32], real[PATH_MAX];
    _cleanup_close_ int fd = path_open(root_fd, path, false, NULL);
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t size = fd < 0 ? -1 : readlink(link, real, sizeof(real) - 1);
    if (size < 0)
        return NULL;
    real[size] = '\0';
    size_t skip = str_eq(root, "/") ? 0 : strlen(root);
    return str_starts(real, root) && real[skip] == '/' ? arena_strdup(arena, real + skip) : NULL;
}

int criu_cgroup_mounts(const char *cgroup, const char *target, bool from, struct buf *out, struct err *err)
{
    struct cgroup_layout layout;
    char inside[PATH_MAX], outside[PATH_MAX];
    cgroup_layout_probe(&layout);
    if (layout.version == CGROUP_V2 || str_empty(cgroup))
        return 0;
    for (size_t i = 0; i < layout.len; i++) {
        const char *point = layout.hierarchies[i].mount_point, *slash = strrchr(point, '/');
        if (snprintf(inside, sizeof(inside), "%s/%s", target, slash ? slash + 1 : point) >= (int)sizeof(inside) ||
            snprintf(outside, sizeof(outside), "%s/%s", point, cgroup) >= (int)sizeof(outside))
            return err_set(err, ERR_INVALID_ARGUMENT, "path of the cgroup is too long");
        criu_external_mount(out, inside, from ? outside : inside);
    }
    return 0;
}

// Where nodes can't be made (a user namespace) they are binds of the host's. A name that is no mount hurts nobody.
void criu_device_mounts(const struct json_list *devices, struct buf *out)
{
    static const char *const always[] = { "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty" };
    const struct oci_device *items = devices->items;
    for (size_t i = 0; i < ARRAY_LEN(always); i++)
        criu_external_mount(out, always[i], always[i]);
    for (size_t i = 0; i < devices->len; i++)
        if (!str_empty(items[i].path))
            criu_external_mount(out, items[i].path, items[i].path);
}

void criu_masked_files(const struct strv *paths, int root_fd, struct arena *arena, struct buf *out)
{
    struct stat st;
    for (size_t i = 0; i < paths->len; i++) {
        const char *path = criu_resolved(arena, root_fd, "/", paths->items[i]);
        if (path && fstatat(root_fd, path + 1, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode))
            criu_external_mount(out, path, "/dev/null");
    }
}

// ---- cgroups and network --------------------------------------------------------------------------------------------

// v1's where there is one.
void criu_freezer(const char *cgroup, struct buf *out)
{
    struct cgroup_layout layout;
    cgroup_layout_probe(&layout);
    for (size_t i = 0; i < layout.len && !str_empty(cgroup); i++) {
        const struct cgroup_hierarchy *hierarchy = &layout.hierarchies[i];
        if (layout.version == CGROUP_V2 ? !hierarchy->v2 : !str_eq(hierarchy->controllers, "freezer"))
            continue;
        _cleanup_free_ char *path = mem_printf("%s/%s", hierarchy->mount_point, cgroup);
        pb_text(out, CRIU_FREEZE_CGROUP, path);
        return;
    }
}

void criu_lock_network(struct buf *out)
{
    _cleanup_free_ char *iptables = process_find("iptables-restore");
    if (!iptables)
        pb_number(out, CRIU_NETWORK_LOCK, NETWORK_LOCK_NFTABLES);
}

int criu_cgroup_roots(pid_t pid, struct buf *out, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64 << 10);
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
    if (file_read_at(AT_FDCWD, path, &text, err) < 0)
        return -1;
    struct slice rest = slice_of(buf_text(&text)), line, id, names, name;
    while (slice_cut(&rest, '\n', &line)) {
        if (!slice_cut(&line, ':', &id) || !slice_cut(&line, ':', &names) || !line.data)
            continue;
        do {
            bool more = slice_cut(&names, ',', &name);
            _cleanup_free_ char *controller = mem_strndup(more ? name.data : "", more ? name.size : 0);
            _cleanup_free_ char *place = mem_strndup(line.data, line.size);
            criu_pair(out, CRIU_CG_ROOT, controller, place);
        } while (names.data);
    }
    return 0;
}

int criu_bring_lo_up(pid_t pid, struct err *err)
{
    struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
    _cleanup_close_ int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), other = open(path, O_RDONLY | O_CLOEXEC);
    if (own < 0 || other < 0 || setns(other, CLONE_NEWNET) < 0)
        return err_errno(err, errno, "enter the network namespace");
    _cleanup_close_ int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int failed = sock < 0 || ioctl(sock, SIOCSIFFLAGS, &request) < 0 ? errno : 0;
    if (setns(own, CLONE_NEWNET) < 0)
        return err_errno(err, errno, "leave the network namespace");
    return failed ? err_errno(err, failed, "lo") : 0;
}

// ---- standard streams -----------------------------------------------------------------------------------------------

int criu_keep_stdio(int images_fd, const char *const names[CRIU_STDIO_LEN], struct err *err)
{
    _cleanup_json_ json_t *list = json_array();
    for (size_t i = 0; i < CRIU_STDIO_LEN; i++)
        json_array_append_new(list, json_new_text(names[i]));
    _cleanup_free_ char *text = json_text(list);
    return file_write_at(images_fd, STDIO_FILE, text, strlen(text), 0600, false, err);
}

int criu_inherit_stdio(int images_fd, const int numbers[CRIU_STDIO_LEN], struct buf *out, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64 << 10);
    _cleanup_json_ json_t *list = NULL;
    if (file_read_at(images_fd, STDIO_FILE, &text, err) < 0 || json_parse(buf_text(&text), text.size, &list, err) < 0)
        return -1;
    for (size_t i = 0; i < CRIU_STDIO_LEN; i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (numbers[i] >= 0 && name && str_starts(name, "pipe:"))
            criu_inherit(out, name, numbers[i]);
    }
    return 0;
}

// ---- what went wrong ------------------------------------------------------------------------------------------------

// Limits that it may not raise, and a probe that the container's device rules refuse.
bool criu_is_noise(struct slice message)
{
    static const char *const words[] = { "rlimit: ", "tun: Unable to create tun" };
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (memmem(message.data, message.size, words[i], strlen(words[i])))
            return true;
    return false;
}

char *criu_first_error(int dirfd, const char *log)
{
    struct buf text = BUF_INIT(LOG_MAX);
    struct slice rest, line;
    char *found = NULL;
    file_read_at(dirfd, log, &text, NULL);
    rest = slice_of(buf_text(&text));
    while (!found && slice_cut(&rest, '\n', &line)) {
        const char *word = memmem(line.data, line.size, "Error (", 7);
        if (word && !criu_is_noise(line))
            found = mem_strndup(word, MIN_OF(line.size - (size_t)(word - line.data), (size_t)400));
    }
    buf_done(&text);
    return found;
}
