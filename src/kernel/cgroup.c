#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>

#include "kernel/cgroup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/num.h"
#include "cgroup_private.h"
#include "kernel/abi.h"

#define CGROUP1_MAGIC 0x27e0eb
#define CGROUP2_MAGIC 0x63677270
#define PIDS_MAX 65536
#define DEPTH_MAX 16
#define READ_MAX (1 << 20)

// ---- small files ----------------------------------------------------------------------------------------------------

int cgroup_open_file(int dir_fd, const char *file, struct err *err)
{
    int fd = openat(dir_fd, file, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW);
    return fd >= 0 ? fd : err_errno(err, errno, "cgroup %s", file);
}

int cgroup_write(int fd, const char *file, const char *text, struct err *err)
{
    ssize_t size = (ssize_t)strlen(text);
    return write(fd, text, (size_t)size) == size ? 0 : err_errno(err, errno, "cgroup: write \"%.100s\" to %s", text, file);
}

int cgroup_put(int dir_fd, const char *file, struct err *err, const char *fmt, ...)
{
    char text[4096];
    va_list args;
    va_start(args, fmt);
    int size = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (size < 0 || (size_t)size >= sizeof(text))
        return err_set(err, ERR_INVALID_ARGUMENT, "cgroup %s: value too long", file);
    _cleanup_close_ int fd = cgroup_open_file(dir_fd, file, err);
    return fd < 0 ? -1 : cgroup_write(fd, file, text, err);
}

bool cgroup_has_file(int dir_fd, const char *file)
{
    return dir_fd >= 0 && faccessat(dir_fd, file, F_OK, 0) == 0;
}

int cgroup_read(int dir_fd, const char *file, struct buf *out, struct err *err)
{
    return file_read_at(dir_fd, file, out, err);
}

int64_t cgroup_number(int dir_fd, const char *file, int64_t fallback)
{
    _cleanup_buf_ struct buf text = BUF_INIT(256);
    int64_t value;
    if (dir_fd < 0 || cgroup_read(dir_fd, file, &text, NULL) < 0)
        return fallback;
    return num_parse_i64(slice_trim(slice_of(buf_text(&text))), &value) ? value : fallback;
}

int64_t cgroup_keyed(int dir_fd, const char *file, const char *key, int64_t fallback)
{
    _cleanup_buf_ struct buf text = BUF_INIT(READ_MAX);
    if (dir_fd < 0 || cgroup_read(dir_fd, file, &text, NULL) < 0)
        return fallback;
    struct slice rest = slice_of(buf_text(&text)), line, word;
    while (slice_cut(&rest, '\n', &line)) {
        int64_t value;
        if (slice_cut(&line, ' ', &word) && slice_eq(word, key))
            return num_parse_i64(slice_trim(line), &value) ? value : fallback;
    }
    return fallback;
}

// ---- folders --------------------------------------------------------------------------------------------------------

int cgroup_open_root(const struct cgroup_layout *layout, size_t index, struct err *err)
{
    const struct cgroup_hierarchy *hierarchy = &layout->hierarchies[index];
    _cleanup_close_ int fd = open(hierarchy->mount_point, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "cgroup %s", hierarchy->mount_point);
    struct statfs fs;
    if (!layout->trusted && (fstatfs(fd, &fs) < 0 || fs.f_type != (hierarchy->v2 ? CGROUP2_MAGIC : CGROUP1_MAGIC)))
        return err_set(err, ERR_PERMISSION_DENIED, "%s is no cgroup file system", hierarchy->mount_point);
    return take_fd(&fd);
}

static int open_child(int dir_fd, const char *name)
{
    struct open_how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                            .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV };
    return (int)syscall(SYS_openat2, dir_fd, name, &how, sizeof(how));
}

// A relative path of plain components; a leading slash is forgiven.
static int check_path(const char **path, struct err *err)
{
    if (!*path)
        return err_set(err, ERR_INVALID_ARGUMENT, "cgroup without a path");
    while (**path == '/')
        (*path)++;
    struct slice rest = slice_of(*path), part;
    if (rest.size == 0 || rest.size >= 1024)
        return err_set(err, ERR_INVALID_ARGUMENT, "cgroup path \"%s\" is empty or too long", *path);
    while (slice_cut(&rest, '/', &part))
        if (part.size == 0 || part.size > 255 || slice_eq(part, ".") || slice_eq(part, ".."))
            return err_set(err, ERR_INVALID_ARGUMENT, "cgroup path \"%s\" is not plain", *path);
    return 0;
}

// Goes one component down, making it when asked; returns its descriptor.
static int step_down(const struct cgroup_hierarchy *hierarchy, bool v2_only, int parent_fd, const char *name, bool make,
                     struct err *err)
{
    if (make && hierarchy->v2 && v2_only)
        cgroup_v2_delegate(parent_fd);
    bool made = make && mkdirat(parent_fd, name, 0755) == 0;
    if (make && !made && errno != EEXIST)
        return err_errno(err, errno, "make cgroup %s in %s", name, hierarchy->mount_point);
    _cleanup_close_ int fd = open_child(parent_fd, name);
    if (fd < 0)
        return err_errno(err, errno, "cgroup %s in %s", name, hierarchy->mount_point);
    if (make && !hierarchy->v2 && cgroup_v1_prepare(hierarchy->controllers, parent_fd, fd, made, err) < 0)
        return -1;
    return take_fd(&fd);
}

static int walk(const struct cgroup_layout *layout, size_t index, const char *path, bool make, struct err *err)
{
    _cleanup_close_ int at = cgroup_open_root(layout, index, err);
    if (at < 0)
        return -1;
    struct slice rest = slice_of(path), part;
    while (slice_cut(&rest, '/', &part)) {
        char name[256];
        memcpy(name, part.data, part.size);
        name[part.size] = '\0';
        int next = step_down(&layout->hierarchies[index], layout->version == CGROUP_V2, at, name, make, err);
        if (next < 0)
            return -1;
        fd_close(at);
        at = next;
    }
    return take_fd(&at);
}

static int make_or_open(const struct cgroup_layout *layout, const char *path, bool make, struct cgroup **out,
                        struct err *err)
{
    if (check_path(&path, err) < 0)
        return -1;
    struct cgroup *cgroup = mem_new(struct cgroup);
    cgroup->layout = *layout;
    cgroup->path = mem_strdup(path);
    for (size_t i = 0; i < CGROUP_HIERARCHY_MAX; i++)
        cgroup->dirs[i] = cgroup->tasks[i] = -1;
    for (size_t i = 0; i < layout->len; i++) {
        cgroup->dirs[i] = walk(layout, i, path, make, err);
        if (cgroup->dirs[i] < 0) {
            cgroup_free(cgroup);
            return -1;
        }
    }
    *out = cgroup;
    return 0;
}

void cgroup_hand_down(const struct cgroup *cgroup)
{
    struct cgroup_layout alone = cgroup->layout;
    alone.version = CGROUP_V2;
    for (size_t i = 0; i < alone.len; i++)
        if (alone.hierarchies[i].v2)
            fd_close(walk(&alone, i, cgroup->path, true, NULL)); // what this could not do shows as a missing file
}

int cgroup_create(const struct cgroup_layout *layout, const char *path, struct cgroup **out, struct err *err)
{
    return make_or_open(layout, path, true, out, err);
}

int cgroup_open(const struct cgroup_layout *layout, const char *path, struct cgroup **out, struct err *err)
{
    return make_or_open(layout, path, false, out, err);
}

void cgroup_free(struct cgroup *cgroup)
{
    if (!cgroup)
        return;
    for (size_t i = 0; i < CGROUP_HIERARCHY_MAX; i++) {
        fd_close(cgroup->dirs[i]);
        fd_close(cgroup->tasks[i]);
    }
    free(cgroup->path);
    free(cgroup);
}

const char *cgroup_path(const struct cgroup *cgroup)
{
    return cgroup->path;
}

const struct cgroup_layout *cgroup_layout_of(const struct cgroup *cgroup)
{
    return &cgroup->layout;
}

int cgroup_dir_fd(const struct cgroup *cgroup, size_t index)
{
    return cgroup->dirs[index];
}

int cgroup_v1_dir(const struct cgroup *cgroup, const char *controller)
{
    for (size_t i = 0; i < cgroup->layout.len; i++) {
        struct slice words = slice_of(cgroup->layout.hierarchies[i].controllers), word;
        while (!cgroup->layout.hierarchies[i].v2 && slice_cut(&words, ',', &word))
            if (slice_eq(word, controller))
                return cgroup->dirs[i];
    }
    return -1;
}

int cgroup_v2_dir(const struct cgroup *cgroup)
{
    for (size_t i = 0; i < cgroup->layout.len; i++)
        if (cgroup->layout.hierarchies[i].v2)
            return cgroup->dirs[i];
    return -1;
}

// ---- members --------------------------------------------------------------------------------------------------------

int cgroup_join(struct cgroup *cgroup, pid_t pid, struct err *err)
{
    for (size_t i = 0; i < cgroup->layout.len; i++)
        if (cgroup_put(cgroup->dirs[i], "cgroup.procs", err, "%d", (int)pid) < 0)
            return err_wrap(err, "join %s in %s", cgroup->path, cgroup->layout.hierarchies[i].mount_point);
    return 0;
}

int cgroup_clone_fd(const struct cgroup *cgroup)
{
    return cgroup_v2_dir(cgroup);
}

int cgroup_self_join_fds(struct cgroup *cgroup, int fds[CGROUP_HIERARCHY_MAX], size_t *len, struct err *err)
{
    *len = 0;
    for (size_t i = 0; i < cgroup->layout.len; i++) {
        if (cgroup->layout.hierarchies[i].v2)
            continue;
        if (cgroup->tasks[i] < 0)
            cgroup->tasks[i] = openat(cgroup->dirs[i], "tasks", O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
        if (cgroup->tasks[i] < 0)
            return err_errno(err, errno, "cgroup %s: tasks", cgroup->layout.hierarchies[i].mount_point);
        fds[(*len)++] = cgroup->tasks[i];
    }
    return 0;
}

struct pid_list {
    pid_t *pids;
    size_t len, capacity;
};

static int add_pids(int dir_fd, struct pid_list *list, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(READ_MAX);
    if (cgroup_read(dir_fd, "cgroup.procs", &text, err) < 0)
        return -1;
    struct slice rest = slice_of(buf_text(&text)), line;
    while (slice_cut(&rest, '\n', &line)) {
        uint64_t pid;
        if (line.size == 0 || !num_parse_u64(line, INT32_MAX, &pid))
            continue;
        if (list->len == PIDS_MAX)
            return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d processes", PIDS_MAX);
        if (list->len == list->capacity) {
            list->capacity = list->capacity ? list->capacity * 2 : 64;
            list->pids = mem_grow(list->pids, list->capacity * sizeof(pid_t));
        }
        list->pids[list->len++] = (pid_t)pid;
    }
    return 0;
}

typedef int dir_fn(int dir_fd, int parent_fd, const char *name, void *context, struct err *err);

// Calls fn for every group below `dir_fd`, children first.
static int for_each_below(int dir_fd, int depth, dir_fn *fn, void *context, struct err *err)
{
    int list_fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_dir_ DIR *dir = list_fd < 0 ? NULL : fdopendir(list_fd);
    if (!dir && (errno == ENOENT || errno == ENODEV)) // gone meanwhile
        return 0;
    if (!dir)
        return err_errno(err, errno, "list cgroup");
    struct dirent *entry;
    while ((entry = readdir(dir))) {
        if (entry->d_type != DT_DIR || str_eq(entry->d_name, ".") || str_eq(entry->d_name, ".."))
            continue;
        _cleanup_close_ int child = open_child(dir_fd, entry->d_name);
        if (child < 0)
            continue; // gone meanwhile
        if (depth >= DEPTH_MAX)
            return err_set(err, ERR_RESOURCE_EXHAUSTED, "cgroup nested deeper than %d", DEPTH_MAX);
        if (for_each_below(child, depth + 1, fn, context, err) < 0 ||
            fn(child, dir_fd, entry->d_name, context, err) < 0)
            return -1;
    }
    return 0;
}

static int pids_of_group(int dir_fd, int parent_fd, const char *name, void *context, struct err *err)
{
    // A group that vanished between the listing and here had no members.
    struct err missed = { 0 };
    if (add_pids(dir_fd, context, &missed) < 0 && missed.number != ENODEV && missed.number != ENOENT) {
        *err = missed;
        return -1;
    }
    return 0;
}

// Where members are counted: the cgroup2 tree where there is one, else the first v1 hierarchy.
static int members_dir(const struct cgroup *cgroup)
{
    int dir = cgroup_v2_dir(cgroup);
    if (dir < 0)
        dir = cgroup_v1_dir(cgroup, "freezer");
    return dir >= 0 || cgroup->layout.len == 0 ? dir : cgroup->dirs[0];
}

int cgroup_pids(struct cgroup *cgroup, pid_t **out, size_t *len, struct err *err)
{
    int dir = members_dir(cgroup);
    if (dir < 0)
        return err_set(err, ERR_NOT_IMPLEMENTED, "this machine has no cgroups");
    struct pid_list list = { 0 };
    struct err local = { 0 };
    err = err ? err : &local;
    if (add_pids(dir, &list, err) < 0 || for_each_below(dir, 0, pids_of_group, &list, err) < 0) {
        free(list.pids);
        return err_wrap(err, "processes of %s", cgroup->path);
    }
    *out = list.pids;
    *len = list.len;
    return 0;
}

int cgroup_signal_all(struct cgroup *cgroup, int sig, struct err *err)
{
    _cleanup_free_ pid_t *pids = NULL;
    size_t len = 0;
    if (cgroup_pids(cgroup, &pids, &len, err) < 0)
        return -1;
    for (size_t i = 0; i < len; i++)
        if (kill(pids[i], sig) < 0 && errno != ESRCH)
            return err_errno(err, errno, "signal %d to process %d", sig, (int)pids[i]);
    return 0;
}

static void nap(int64_t ns)
{
    nanosleep(&(struct timespec){ .tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S }, NULL);
}

static bool is_empty(struct cgroup *cgroup)
{
    _cleanup_free_ pid_t *pids = NULL;
    size_t len = 0;
    struct err err = { 0 };
    if (cgroup_pids(cgroup, &pids, &len, &err) < 0)
        return err.number == ENODEV || err.number == ENOENT; // removed meanwhile
    return len == 0;
}

// On a hybrid host somebody else may have frozen by v1's freezer (runc; a CRIU that was killed): cgroup2's thaw and kill
// don't reach what it holds.
static void thaw_v1(struct cgroup *cgroup)
{
    int dir = cgroup_v1_dir(cgroup, "freezer");
    if (dir >= 0 && cgroup_v2_dir(cgroup) >= 0)
        cgroup_put(dir, "freezer.state", NULL, "THAWED");
}

int cgroup_kill(struct cgroup *cgroup, int64_t timeout_ns, struct err *err)
{
    if (members_dir(cgroup) < 0)
        return err_set(err, ERR_NOT_IMPLEMENTED, "this machine has no cgroups");
    int64_t deadline = clock_mono_ns() + timeout_ns, pause = NS_PER_MS / 4;
    bool by_file = cgroup_v2_dir(cgroup) >= 0 && !cgroup->layout.trusted;
    while (!is_empty(cgroup)) {
        // Asked again each turn: on v1 a fork can slip out of the list that was signalled.
        struct err missed = { 0 };
        if ((by_file ? cgroup_v2_kill(cgroup, &missed) : cgroup_v1_kill(cgroup, &missed)) < 0) {
            if (missed.number == ENOENT || missed.number == ENODEV) // systemd takes an empty scope's group away
                return 0;
            return err ? (*err = missed, err_wrap(err, "kill %s", cgroup->path)) : -1;
        }
        thaw_v1(cgroup);
        if (clock_mono_ns() >= deadline)
            return err_set(err, ERR_UNAVAILABLE, "processes of %s do not die", cgroup->path);
        nap(pause);
        pause = MIN_OF(pause * 2, 20 * NS_PER_MS);
    }
    return 0;
}

int cgroup_freeze(struct cgroup *cgroup, bool frozen, struct err *err)
{
    if (!frozen)
        thaw_v1(cgroup);
    return cgroup_v2_dir(cgroup) >= 0 ? cgroup_v2_freeze(cgroup, frozen, err) : cgroup_v1_freeze(cgroup, frozen, err);
}

bool cgroup_is_frozen(struct cgroup *cgroup)
{
    int dir = cgroup_v2_dir(cgroup);
    if (dir >= 0)
        return cgroup_keyed(dir, "cgroup.events", "frozen", 0) == 1;
    return cgroup_v1_is_frozen(cgroup);
}

int64_t cgroup_oom_kills(struct cgroup *cgroup)
{
    if (cgroup->layout.version == CGROUP_V2)
        return cgroup_keyed(cgroup_v2_dir(cgroup), "memory.events", "oom_kill", 0);
    return cgroup_keyed(cgroup_v1_dir(cgroup, "memory"), "memory.oom_control", "oom_kill", 0);
}

int cgroup_stats(struct cgroup *cgroup, struct cgroup_stats *out, struct err *err)
{
    if (cgroup->layout.version == CGROUP_NONE)
        return err_set(err, ERR_NOT_IMPLEMENTED, "this machine has no cgroups");
    *out = (struct cgroup_stats){ 0 };
    if (cgroup->layout.version == CGROUP_V2)
        cgroup_v2_stats(cgroup, out);
    else
        cgroup_v1_stats(cgroup, out);
    return 0;
}

// ---- the end --------------------------------------------------------------------------------------------------------

static int remove_group(int dir_fd, int parent_fd, const char *name, void *context, struct err *err)
{
    int64_t deadline = *(int64_t *)context, pause = NS_PER_MS / 4;
    while (unlinkat(parent_fd, name, AT_REMOVEDIR) < 0) {
        if (errno == ENOENT)
            return 0;
        if ((errno != EBUSY && errno != EAGAIN) || clock_mono_ns() >= deadline)
            return err_errno(err, errno, "remove cgroup %s", name);
        nap(pause);
        pause = MIN_OF(pause * 2, 20 * NS_PER_MS);
    }
    return 0;
}

// With everything below it.
static int remove_groups(const struct cgroup_layout *layout, size_t index, const char *path, int parent, const char *name,
                         int64_t deadline, struct err *err)
{
    struct err missed = { 0 };
    _cleanup_close_ int dir = walk(layout, index, path, false, &missed);
    if (dir < 0)
        return missed.class == ERR_NOT_FOUND ? 0 : (*err = missed, -1);
    if (for_each_below(dir, 0, remove_group, &deadline, err) < 0)
        return -1;
    return remove_group(dir, parent, name, &deadline, err);
}

static int remove_from(const struct cgroup_layout *layout, size_t index, const char *path, int64_t deadline,
                       struct err *err)
{
    struct err missed = { 0 };
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    _cleanup_free_ char *parent_path = slash ? mem_strndup(path, (size_t)(slash - path)) : NULL;
    _cleanup_close_ int parent = parent_path ? walk(layout, index, parent_path, false, &missed) : cgroup_open_root(layout, index, &missed);
    if (parent < 0)
        return missed.class == ERR_NOT_FOUND ? 0 : (*err = missed, -1);
    if (layout->trusted) // plain files, which rmdir would not take along
        return file_remove_tree(parent, name, err);
    // Mostly it is empty; whether it has groups below it costs more to find out than to try.
    if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return 0;
    return remove_groups(layout, index, path, parent, name, deadline, err);
}

int cgroup_remove(const struct cgroup_layout *layout, const char *path, int64_t timeout_ns, struct err *err)
{
    struct err local = { 0 };
    err = err ? err : &local;
    if (check_path(&path, err) < 0)
        return -1;
    int64_t deadline = clock_mono_ns() + timeout_ns;
    for (size_t i = 0; i < layout->len; i++)
        if (remove_from(layout, i, path, deadline, err) < 0)
            return err_wrap(err, "remove cgroup %s in %s", path, layout->hierarchies[i].mount_point);
    return 0;
}
