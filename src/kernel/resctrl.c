#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/file.h"
#include "base/num.h"
#include "kernel/mountinfo.h"
#include "kernel/resctrl.h"

#define SCHEMATA_MAX (64 << 10)
#define MONITORS "mon_groups"

int resctrl_open(struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(MOUNTINFO_MAX);
    struct mount_info info;
    if (file_read_at(AT_FDCWD, "/proc/self/mountinfo", &text, err) < 0)
        return -1;
    for (struct slice rest = slice_of(buf_text(&text)); mount_info_next(&rest, &info);) {
        if (!slice_eq(info.fstype, "resctrl"))
            continue;
        _cleanup_free_ char *path = mem_alloc(info.point.size + 1);
        mount_info_unescape(info.point, path);
        return file_open_dir(AT_FDCWD, path, err);
    }
    return err_set(err, ERR_NOT_IMPLEMENTED, "the resctrl file system is not mounted");
}

int resctrl_name_check(const char *name, struct err *err)
{
    static const char *const taken[] = { ".", "..", "info", MONITORS, "mon_data" };
    bool good = !str_empty(name) && !strpbrk(name, "/\n") && strlen(name) < 256;
    for (size_t i = 0; good && i < ARRAY_LEN(taken); i++)
        good = !str_eq(name, taken[i]);
    return good ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "\"%.100s\" can't be the name of a resctrl group", name ? name : "");
}

// The kernel's errno says little; its last word on it stands in a file.
static int with_last_word(int root_fd, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(4096);
    if (file_read_at(root_fd, "info/last_cmd_status", &text, NULL) < 0)
        return -1;
    struct slice word = slice_trim(slice_of(buf_text(&text)));
    struct err first = *err;
    return err_set(err, first.class, "%.300s: %.*s", first.message, (int)MIN_OF(word.size, (size_t)150), word.data);
}

// ---- schemata -------------------------------------------------------------------------------------------------------

// The bandwidth's lines are not the cache's business, says the runtime-spec.
static void add_lines(const char *text, bool cache, struct buf *out)
{
    struct slice rest = slice_of(text ? text : ""), line;
    while (slice_cut(&rest, '\n', &line))
        if (line.size && !(cache && line.size >= 3 && memcmp(line.data, "MB:", 3) == 0))
            buf_addf(out, "%.*s\n", (int)line.size, line.data);
}

// "0=7f0" of a resource; false when it is no such thing. Caches have hexadecimal masks.
static bool parse_part(struct slice part, bool hex, uint64_t *domain, uint64_t *value)
{
    struct slice id;
    if (!slice_cut(&part, '=', &id) || !part.data)
        return false;
    part = slice_trim(part);
    return num_parse_u64(slice_trim(id), UINT32_MAX, domain) && (hex ? num_parse_hex(part, value) : num_parse_u64(part, UINT64_MAX, value));
}

static bool part_is_there(struct slice parts, bool hex, uint64_t domain, uint64_t value)
{
    struct slice part;
    uint64_t other, has;
    while (slice_cut(&parts, ';', &part))
        if (parse_part(part, hex, &other, &has) && other == domain)
            return has == value;
    return false;
}

// "L3:0=7f0;1=1f" in a text of such lines, whatever their order, blanks and leading zeros.
static bool line_is_there(struct slice line, struct slice text)
{
    struct slice name, parts = line, part, other, row, rows = text;
    uint64_t domain, value;
    if (!slice_cut(&parts, ':', &name) || !parts.data)
        return false;
    name = slice_trim(name);
    while (slice_cut(&rows, '\n', &row)) {
        if (!slice_cut(&row, ':', &other) || !row.data)
            continue;
        other = slice_trim(other);
        if (other.size != name.size || memcmp(other.data, name.data, name.size) != 0)
            continue;
        bool hex = name.data[0] == 'L', same = true;
        while (same && slice_cut(&parts, ';', &part))
            same = parse_part(part, hex, &domain, &value) && part_is_there(row, hex, domain, value);
        return same;
    }
    return false;
}

static int compare(int group_fd, const char *wanted, const char *name, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(SCHEMATA_MAX);
    struct slice rest = slice_of(wanted), line;
    if (file_read_at(group_fd, "schemata", &text, err) < 0)
        return -1;
    while (slice_cut(&rest, '\n', &line))
        if (line.size && !line_is_there(line, slice_of(buf_text(&text))))
            return err_set(err, ERR_CONFLICT, "resctrl group %.100s has other schemata than %.*s", name,
                           (int)MIN_OF(line.size, (size_t)200), line.data);
    return 0;
}

// ---- groups ---------------------------------------------------------------------------------------------------------

static int make_monitor(int group_fd, const char *name, struct err *err)
{
    _cleanup_free_ char *path = mem_printf(MONITORS "/%s", name);
    if (resctrl_name_check(name, err) < 0)
        return -1;
    return mkdirat(group_fd, path, 0755) == 0 || errno == EEXIST ? 0 : err_errno(err, errno, "mkdir %.200s", path);
}

static int fill(int root_fd, const struct resctrl_group *group, bool made, const char *schemata, struct err *err)
{
    _cleanup_close_ int fd = file_open_dir(root_fd, group->name, err);
    if (fd < 0)
        return -1;
    if (!str_empty(schemata) && group->shared && !made) {
        if (compare(fd, schemata, group->name, err) < 0)
            return -1;
    } else if (!str_empty(schemata) && file_put(fd, "schemata", schemata, err) < 0) {
        return with_last_word(root_fd, err);
    }
    return str_empty(group->monitor) ? 0 : make_monitor(fd, group->monitor, err);
}

int resctrl_make(int root_fd, const struct resctrl_group *group, struct err *err)
{
    _cleanup_buf_ struct buf schemata = BUF_INIT(SCHEMATA_MAX);
    bool made = false;
    add_lines(group->l3, true, &schemata);
    add_lines(group->bandwidth, false, &schemata);
    if (resctrl_name_check(group->name, err) < 0 || buf_check(&schemata, "schemata", err) < 0)
        return -1;
    if (group->shared && schemata.size == 0 && faccessat(root_fd, group->name, F_OK, 0) < 0)
        return err_errno(err, errno, "resctrl group %.100s, which must be there when no schema is given", group->name);
    if (mkdirat(root_fd, group->name, 0755) == 0)
        made = true;
    else if (errno != EEXIST) {
        err_errno(err, errno, "mkdir resctrl group %.100s", group->name);
        return with_last_word(root_fd, err);
    }
    int result = fill(root_fd, group, made, buf_text(&schemata), err);
    if (result < 0 && made)
        unlinkat(root_fd, group->name, AT_REMOVEDIR);
    return result < 0 ? err_wrap(err, "resctrl group %.100s", group->name) : 0;
}

static int put_task(int root_fd, const char *path, pid_t pid, struct err *err)
{
    char text[24];
    snprintf(text, sizeof(text), "%d", (int)pid);
    return file_put(root_fd, path, text, err) < 0 ? with_last_word(root_fd, err) : 0;
}

int resctrl_join(int root_fd, const struct resctrl_group *group, pid_t pid, struct err *err)
{
    _cleanup_free_ char *tasks = mem_printf("%s/tasks", group->name);
    _cleanup_free_ char *watched = mem_printf("%s/" MONITORS "/%s/tasks", group->name, group->monitor ? group->monitor : "");
    if (put_task(root_fd, tasks, pid, err) < 0)
        return -1;
    return str_empty(group->monitor) ? 0 : put_task(root_fd, watched, pid, err);
}

bool resctrl_counts(int root_fd, const char *event)
{
    _cleanup_buf_ struct buf text = BUF_INIT(4096);
    struct slice rest, line;
    if (file_read_at(root_fd, "info/L3_MON/mon_features", &text, NULL) < 0)
        return false;
    for (rest = slice_of(buf_text(&text)); slice_cut(&rest, '\n', &line);)
        if (slice_eq(line, event))
            return true;
    return false;
}

int resctrl_remove(int root_fd, const char *path, struct err *err)
{
    return unlinkat(root_fd, path, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : err_errno(err, errno, "resctrl group %.200s", path);
}
