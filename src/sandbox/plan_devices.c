// The devices of a whole machine, for a process that is its root: the nodes that stand in /dev when the plan is made.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "plan.h"

#define DEPTH_MAX 8
#define DEVICE_MAX 4096

// Every container has these of its own, made by the rest of the plan.
static const char *const own[] = { "null", "zero",   "full",   "random", "urandom", "tty", "console", "ptmx",
                                   "fd",   "stdin",  "stdout", "stderr", "pts",     "shm", "mqueue",  "log",
                                   "core", "initctl" };

static bool is_own(const char *path)
{
    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        if (str_eq(own[i], path))
            return true;
    return false;
}

static void add(struct sandbox_plan *plan, enum op_type type, const char *path, const struct stat *st)
{
    struct op *op = plan_add(plan, type);
    op->slot = SLOT_DEV;
    op->path = path;
    op->mode = type == OP_DIR ? st->st_mode & 07777 : st->st_mode;
    op->device = st->st_rdev;
    op->uid = st->st_uid;
    op->gid = st->st_gid;
}

static void scan(struct sandbox_plan *plan, int parent_fd, const char *name, const char *prefix, int depth, size_t *left);

// What goes away meanwhile, and what is neither a folder nor a device, is left out.
static void look_at(struct sandbox_plan *plan, int dir_fd, const char *name, const char *prefix, int depth, size_t *left)
{
    struct stat st;
    const char *path = arena_printf(&plan->arena, "%s%s", prefix, name);
    if (*left == 0 || is_own(path) || fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return;
    if (S_ISDIR(st.st_mode)) {
        add(plan, OP_DIR, path, &st);
        scan(plan, dir_fd, name, arena_printf(&plan->arena, "%s/", path), depth + 1, left);
    } else if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) {
        add(plan, OP_NODE, path, &st);
    } else {
        return;
    }
    (*left)--;
}

static void scan(struct sandbox_plan *plan, int parent_fd, const char *name, const char *prefix, int depth, size_t *left)
{
    struct dirent *entry;
    int fd = depth < DEPTH_MAX ? openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        fd_close(fd);
        return;
    }
    while ((entry = readdir(dir)))
        if (!str_eq(entry->d_name, ".") && !str_eq(entry->d_name, ".."))
            look_at(plan, fd, entry->d_name, prefix, depth, left);
    closedir(dir);
}

void plan_machine_devices(struct sandbox_plan *plan)
{
    size_t left = DEVICE_MAX;
    scan(plan, AT_FDCWD, "/dev", "", 0, &left);
}
