// Users and groups by name or number, by Docker's rules, from the container's own files. Lines longer than the buffer and
// files beyond the ceiling are cut off: they are the image's, and the image may lie.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/fd.h"
#include "base/num.h"
#include "kernel/path.h"
#include "plan.h"

#define FILE_MAX (1 << 20)
#define LINE_MAX_SIZE 4096
#define ID_MAX INT32_MAX // Docker's bound

struct lines {
    int fd;
    char data[LINE_MAX_SIZE];
    size_t start, end, total;
};

static int lines_open(struct lines *lines, int root_fd, const char *path)
{
    lines->start = lines->end = lines->total = 0;
    lines->fd = path_open_file(root_fd, path, NULL);
    return lines->fd;
}

static bool lines_fill(struct lines *lines)
{
    if (lines->start > 0) {
        memmove(lines->data, lines->data + lines->start, lines->end - lines->start);
        lines->end -= lines->start;
        lines->start = 0;
    }
    if (lines->end == sizeof(lines->data) || lines->total >= FILE_MAX)
        return false;
    ssize_t got = read(lines->fd, lines->data + lines->end, sizeof(lines->data) - lines->end);
    if (got <= 0)
        return false;
    lines->end += (size_t)got;
    lines->total += (size_t)got;
    return true;
}

static bool lines_next(struct lines *lines, struct slice *out)
{
    for (;;) {
        char *from = lines->data + lines->start;
        char *newline = memchr(from, '\n', lines->end - lines->start);
        if (newline) {
            *out = (struct slice){ from, (size_t)(newline - from) };
            lines->start += out->size + 1;
            return true;
        }
        if (lines_fill(lines))
            continue;
        // The last line without its newline, or one that is too long: it counts as far as it was read.
        *out = (struct slice){ lines->data + lines->start, lines->end - lines->start };
        lines->start = lines->end;
        return out->size > 0;
    }
}

static bool parse_id(struct slice text, uint32_t *out)
{
    uint64_t value;
    if (!num_parse_u64(text, ID_MAX, &value))
        return false;
    *out = (uint32_t)value;
    return true;
}

struct passwd_line {
    struct slice name, home;
    uint32_t uid, gid;
};

// name:password:uid:gid:comment:home:shell
static bool parse_passwd(struct slice line, struct passwd_line *out)
{
    struct slice parts[6] = { 0 };
    for (int i = 0; i < 6; i++)
        if (!slice_cut(&line, ':', &parts[i]) && i < 4)
            return false;
    out->name = parts[0];
    out->home = parts[5];
    return parts[0].size > 0 && parse_id(parts[2], &out->uid) && parse_id(parts[3], &out->gid);
}

struct group_line {
    struct slice name, members;
    uint32_t gid;
};

// name:password:gid:member,member
static bool parse_group(struct slice line, struct group_line *out)
{
    struct slice parts[4] = { 0 };
    for (int i = 0; i < 4; i++)
        if (!slice_cut(&line, ':', &parts[i]) && i < 3)
            return false;
    out->name = parts[0];
    out->members = parts[3];
    return parts[0].size > 0 && parse_id(parts[2], &out->gid);
}

static bool same(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static void set_home(struct user_found *out, struct slice home)
{
    if (home.size == 0 || home.size >= sizeof(out->home) || home.data[0] != '/')
        return;
    memcpy(out->home, home.data, home.size);
    out->home[home.size] = '\0';
}

#define NAME_SIZE 256

struct wanted {
    struct slice user, group; // as given
    bool has_number;
    uint32_t number; // of the user
    char matched[NAME_SIZE]; // the name in passwd, "" when there was none
};

// The first line whose name, or whose number, is the wanted one.
static bool find_passwd(int root_fd, struct wanted *wanted, struct user_found *out)
{
    struct lines lines;
    if (lines_open(&lines, root_fd, "/etc/passwd") < 0)
        return false;
    struct slice line;
    bool found = false;
    while (!found && lines_next(&lines, &line)) {
        struct passwd_line entry;
        if (!parse_passwd(line, &entry) || entry.name.size >= NAME_SIZE)
            continue;
        if (!same(entry.name, wanted->user) && !(wanted->has_number && entry.uid == wanted->number))
            continue;
        found = true;
        out->uid = entry.uid;
        out->gid = entry.gid;
        set_home(out, entry.home);
        memcpy(wanted->matched, entry.name.data, entry.name.size);
        wanted->matched[entry.name.size] = '\0';
    }
    fd_close(lines.fd);
    return found;
}

static int add_group(struct user_found *out, gid_t gid, struct err *err)
{
    for (size_t i = 0; i < out->group_len; i++)
        if (out->groups[i] == gid)
            return 0;
    if (out->group_len == USER_GROUPS_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "user is in more than %d groups", USER_GROUPS_MAX);
    out->groups[out->group_len++] = gid;
    return 0;
}

static bool has_member(struct slice members, const char *name)
{
    struct slice member;
    while (slice_cut(&members, ',', &member))
        if (slice_eq(member, name))
            return true;
    return false;
}

static int add_memberships(int root_fd, const char *name, struct user_found *out, struct err *err)
{
    struct lines lines;
    if (!name[0] || lines_open(&lines, root_fd, "/etc/group") < 0)
        return 0;
    struct slice line;
    int result = 0;
    while (result == 0 && lines_next(&lines, &line)) {
        struct group_line entry;
        if (parse_group(line, &entry) && has_member(entry.members, name))
            result = add_group(out, entry.gid, err);
    }
    fd_close(lines.fd);
    return result;
}

static int find_group(int root_fd, struct slice wanted, gid_t *out, struct err *err)
{
    uint32_t number = 0;
    bool is_number = parse_id(wanted, &number);
    struct lines lines;
    if (lines_open(&lines, root_fd, "/etc/group") >= 0) {
        struct slice line;
        bool found = false;
        while (!found && lines_next(&lines, &line)) {
            struct group_line entry;
            found = parse_group(line, &entry) && (same(entry.name, wanted) || (is_number && entry.gid == number));
            if (found)
                *out = entry.gid;
        }
        fd_close(lines.fd);
        if (found)
            return 0;
    }
    if (!is_number)
        return err_set(err, ERR_NOT_FOUND, "unable to find group %.*s: no matching entries in group file",
                       (int)MIN_OF(wanted.size, (size_t)200), wanted.data);
    *out = number;
    return 0;
}

static bool all_digits(struct slice text)
{
    bool negative = text.size > 1 && text.data[0] == '-';
    for (size_t i = negative; i < text.size; i++)
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
    return text.size > 0;
}

static int find_by_name(int root_fd, struct wanted *wanted, struct user_found *out, struct err *err)
{
    if ((all_digits(wanted->user) && !wanted->has_number) ||
        (all_digits(wanted->group) && !parse_id(wanted->group, &(uint32_t){ 0 })))
        return err_set(err, ERR_INVALID_ARGUMENT, "uids and gids must be in range 0-%d", ID_MAX);
    if (!find_passwd(root_fd, wanted, out)) {
        if (!wanted->has_number)
            return err_set(err, ERR_NOT_FOUND, "unable to find user %.*s: no matching entries in passwd file",
                           (int)MIN_OF(wanted->user.size, (size_t)200), wanted->user.data);
        out->uid = wanted->number;
        out->gid = 0;
    }
    if (wanted->group.size > 0) {
        if (find_group(root_fd, wanted->group, &out->gid, err) < 0)
            return -1;
        return add_group(out, out->gid, err);
    }
    if (add_group(out, out->gid, err) < 0)
        return -1;
    return add_memberships(root_fd, wanted->matched, out, err);
}

// Numbers as they are; passwd is asked for the home only.
static void find_home(int root_fd, struct user_found *out)
{
    struct wanted wanted = { .has_number = true, .number = out->uid };
    struct user_found entry = { .uid = out->uid };
    if (find_passwd(root_fd, &wanted, &entry))
        memcpy(out->home, entry.home, sizeof(out->home));
}

int user_find(int root_fd, const struct user_request *request, struct user_found *out, struct err *err)
{
    *out = (struct user_found){ .uid = request->uid, .gid = request->gid };
    if (!str_empty(request->name)) {
        struct wanted wanted = { 0 };
        struct slice rest = slice_of(request->name);
        slice_cut(&rest, ':', &wanted.user);
        if (rest.data)
            wanted.group = rest;
        if (wanted.user.size == 0) // ":group" is root's
            wanted.user = slice_of("0");
        wanted.has_number = parse_id(wanted.user, &wanted.number);
        if (find_by_name(root_fd, &wanted, out, err) < 0)
            return -1;
    } else {
        find_home(root_fd, out);
    }
    if (!out->home[0])
        memcpy(out->home, "/", 2);
    for (size_t i = 0; i < request->extra_len; i++)
        if (add_group(out, request->extra[i], err) < 0)
            return -1;
    for (size_t i = 0; i < request->group_len; i++) {
        gid_t gid = 0;
        if (find_group(root_fd, slice_of(request->groups[i]), &gid, err) < 0 || add_group(out, gid, err) < 0)
            return -1;
    }
    return 0;
}
