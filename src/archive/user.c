// Who a name is, in the container's own lists: small files, read whole, lines without a meaning passed over.
#include "base/num.h"
#include "kernel/path.h"
#include "tar.h"

#define LIST_MAX ((size_t)4 << 20)
#define FIELDS 4 // name : password : uid : gid, or name : password : gid

static bool cut_fields(struct slice line, struct slice fields[FIELDS])
{
    size_t len = 0;
    while (len < FIELDS && slice_cut(&line, ':', &fields[len]))
        len++;
    for (size_t i = len; i < FIELDS; i++)
        fields[i] = (struct slice){ "", 0 };
    return len >= 3;
}

// The line whose name is `name`, or whose third field is it.
static bool find_line(struct slice text, const char *name, struct slice fields[FIELDS])
{
    struct slice line;
    while (slice_cut(&text, '\n', &line))
        if (cut_fields(line, fields) && (slice_eq(fields[0], name) || slice_eq(fields[2], name)))
            return true;
    return false;
}

static bool find_in(int root_fd, const char *path, const char *name, char **text, struct slice fields[FIELDS])
{
    size_t size;
    return path_read_file(root_fd, path, LIST_MAX, text, &size, NULL) == 0 && find_line((struct slice){ *text, size }, name, fields);
}

static bool parse_id(struct slice text, uint32_t *out)
{
    uint64_t id;
    if (!num_parse_u64(text, UINT32_MAX - 1, &id))
        return false;
    *out = (uint32_t)id;
    return true;
}

static int find_group(int root_fd, const char *name, gid_t *gid, struct err *err)
{
    _cleanup_free_ char *text = NULL;
    struct slice fields[FIELDS];
    if (parse_id(slice_of(name), gid) || (find_in(root_fd, "/etc/group", name, &text, fields) && parse_id(fields[2], gid)))
        return 0;
    return err_set(err, ERR_NOT_FOUND, "unable to find group %s: no matching entries in group file", name);
}

int archive_user(int root_fd, const char *user, uid_t *uid, gid_t *gid, struct err *err)
{
    _cleanup_free_ char *name = mem_strdup(user), *text = NULL;
    struct slice fields[FIELDS];
    char *colon = strchr(name, ':');
    if (colon)
        *colon = '\0';
    *gid = 0;
    bool found = find_in(root_fd, "/etc/passwd", name, &text, fields) && parse_id(fields[2], uid) && parse_id(fields[3], gid);
    if (!found && !parse_id(slice_of(name), uid))
        return err_set(err, ERR_NOT_FOUND, "unable to find user %s: no matching entries in passwd file", name);
    return colon ? find_group(root_fd, colon + 1, gid, err) : 0;
}
