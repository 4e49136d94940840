#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/fd.h"
#include "kernel/path.h"
#include "tar.h"

#define LINKS_MAX 40

// ---- names ----------------------------------------------------------------------------------------------------------

static enum name_end end_of(const char *path)
{
    size_t size = strlen(path);
    if (size > 0 && path[size - 1] == '/')
        return NAME_SLASH;
    bool dot = size > 0 && path[size - 1] == '.' && (size == 1 || path[size - 2] == '/');
    return dot ? NAME_DOT : NAME_PLAIN;
}

int name_clean(const char *path, char out[PATH_MAX], enum name_end *end, struct err *err)
{
    struct slice rest = slice_of(path), part;
    size_t used = 0;
    while (slice_cut(&rest, '/', &part)) {
        if (part.size == 0 || slice_eq(part, "."))
            continue;
        if (slice_eq(part, "..")) {
            while (used > 0 && out[--used] != '/')
                ;
            continue;
        }
        if (part.size > NAME_MAX || used + part.size + 4 > PATH_MAX)
            return err_errno(err, ENAMETOOLONG, "%.64s...", path);
        out[used++] = '/';
        memcpy(out + used, part.data, part.size);
        used += part.size;
    }
    if (used == 0)
        out[used++] = '/';
    out[used] = '\0';
    *end = end_of(path);
    return 0;
}

const char *name_base(const char *clean, enum name_end end)
{
    if (end == NAME_DOT)
        return ".";
    const char *slash = strrchr(clean, '/');
    return slash[1] ? slash + 1 : "/";
}

int name_open(int root_fd, const char *clean, enum name_end end, struct err *err)
{
    struct stat info;
    _cleanup_close_ int fd = path_open(root_fd, clean, end == NAME_PLAIN, err);
    if (fd < 0)
        return -1;
    if (end != NAME_PLAIN && fstat(fd, &info) == 0 && !S_ISDIR(info.st_mode))
        return err_errno(err, ENOTDIR, "lstat %s", clean);
    return take_fd(&fd);
}

// ---- where a link leads ---------------------------------------------------------------------------------------------

struct follow {
    char done[PATH_MAX], rest[PATH_MAX]; // "/a/b" or ""; "c/d"
    int links;
};

static bool append(char path[PATH_MAX], const char *name, size_t size)
{
    size_t used = strlen(path);
    if (used + size + 2 > PATH_MAX)
        return false;
    path[used] = '/';
    memcpy(path + used + 1, name, size);
    path[used + 1 + size] = '\0';
    return true;
}

static void drop_last(char path[PATH_MAX])
{
    char *slash = strrchr(path, '/');
    if (slash)
        *slash = '\0';
}

// What the link done/name says goes in front of the rest. False: it is none.
static bool take_link(int root_fd, struct follow *follow, const char *name, const char *behind)
{
    char target[PATH_MAX], next[PATH_MAX];
    _cleanup_close_ int parent = path_open(root_fd, follow->done[0] ? follow->done : "/", false, NULL);
    ssize_t size = parent < 0 ? -1 : readlinkat(parent, name, target, sizeof(target) - 1);
    if (size < 0 || ++follow->links > LINKS_MAX)
        return false;
    target[size] = '\0';
    if ((size_t)snprintf(next, sizeof(next), "%s/%s", target, behind) >= sizeof(next))
        return false;
    if (target[0] == '/')
        follow->done[0] = '\0';
    memcpy(follow->rest, next, sizeof(next));
    return true;
}

// Whoever opens what it says resolves it anew.
void name_follow(int root_fd, const char *clean, char out[PATH_MAX])
{
    struct follow follow = { .links = 0 };
    char name[NAME_MAX + 1];
    snprintf(follow.rest, sizeof(follow.rest), "%s", clean);
    for (;;) {
        const char *at = follow.rest + strspn(follow.rest, "/");
        size_t size = strcspn(at, "/");
        if (size == 0 || size > NAME_MAX)
            break;
        memcpy(name, at, size);
        name[size] = '\0';
        char behind[PATH_MAX];
        snprintf(behind, sizeof(behind), "%s", at + size);
        if (str_eq(name, ".."))
            drop_last(follow.done);
        else if (!str_eq(name, ".") && take_link(root_fd, &follow, name, behind))
            continue;
        else if (!str_eq(name, ".") && !append(follow.done, name, size))
            break;
        memcpy(follow.rest, behind, sizeof(behind));
    }
    snprintf(out, PATH_MAX, "%s", follow.done[0] ? follow.done : "/");
}

// ---- the face -------------------------------------------------------------------------------------------------------

int archive_stat(int root_fd, const char *path, struct archive_stat *out, struct err *err)
{
    char clean[PATH_MAX];
    enum name_end end;
    struct stat info;
    if (name_clean(path, clean, &end, err) < 0)
        return -1;
    _cleanup_close_ int fd = name_open(root_fd, clean, end, err);
    if (fd < 0)
        return -1;
    if (fstat(fd, &info) < 0)
        return err_errno(err, errno, "lstat %s", clean);
    *out = (struct archive_stat){ .size = info.st_size, .mode = info.st_mode,
                                  .mtime_ns = info.st_mtim.tv_sec * NS_PER_S + info.st_mtim.tv_nsec };
    snprintf(out->name, sizeof(out->name), "%s", name_base(clean, end));
    if (S_ISLNK(info.st_mode))
        name_follow(root_fd, clean, out->link_target);
    return 0;
}
