#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/num.h"
#include "base/slice.h"
#include "oci/oci_private.h"

#define ID_MAX 1024
#define STATE_FILE "state.json"
#define CONFIG_FILE "config.json"
#define LOCK_WAIT_NS (30 * NS_PER_S)

int container_id_check(const char *id, struct err *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+.-";
    if (str_empty(id))
        return err_set(err, ERR_INVALID_ARGUMENT, "container id cannot be empty");
    if (strlen(id) > ID_MAX || id[strspn(id, allowed)] || str_eq(id, ".") || str_eq(id, ".."))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid container ID format");
    return 0;
}

// ---- the state folder -----------------------------------------------------------------------------------------------

int container_lock(struct container *container, struct err *err)
{
    int64_t deadline = clock_mono_ns() + LOCK_WAIT_NS;
    while ((container->lock_fd = file_lock_at(container->dir_fd, "lock", err)) < 0) {
        if (err->class != ERR_CONFLICT || clock_mono_ns() > deadline)
            return err_wrap(err, "container %s", container->id);
        nanosleep(&(struct timespec){ .tv_nsec = 5 * NS_PER_MS }, NULL);
    }
    err_clear(err);
    return 0;
}

int container_make(struct call *call, const char *id, struct container *out, struct err *err)
{
    if (container_id_check(id, err) < 0)
        return -1;
    if (file_mkdirs(AT_FDCWD, call->root, 0700, err) < 0)
        return -1;
    _cleanup_close_ int root = file_open_dir(AT_FDCWD, call->root, err);
    if (root < 0)
        return -1;
    if (mkdirat(root, id, 0711) < 0)
        return errno == EEXIST ? err_set(err, ERR_CONFLICT, "container with given ID already exists") : err_errno(err, errno, "mkdir %s", id);
    out->id = arena_strdup(&out->arena, id);
    out->dir_fd = file_open_dir(root, id, err);
    return out->dir_fd < 0 ? -1 : container_lock(out, err);
}

static char *text_member(struct container *container, const json_t *object, const char *key)
{
    return arena_strdup(&container->arena, json_get_text(object, key, ""));
}

// What container_save() writes, each member of its type.
static int check_state(json_t *state, struct err *err)
{
    json_error_t error;
    if (json_unpack_ex(state, &error, JSON_VALIDATE_ONLY, "{s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:b}", "version", "bundle", "rootfs",
                       "cgroup", "pid", "pid_start", "created_ns", "rootless") < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s", error.text);
    return 0;
}

static int read_state(struct container *container, struct err *err)
{
    struct buf text = BUF_INIT(1 << 20);
    _cleanup_json_ json_t *state = NULL;
    int result = file_read_at(container->dir_fd, STATE_FILE, &text, err);
    if (result == 0)
        result = json_parse(buf_text(&text), text.size, &state, err);
    if (result == 0)
        result = check_state(state, err);
    buf_done(&text);
    if (result < 0)
        return err_wrap(err, "%s/" STATE_FILE, container->id);
    container->version = text_member(container, state, "version");
    container->bundle = text_member(container, state, "bundle");
    container->rootfs = text_member(container, state, "rootfs");
    container->cgroup = text_member(container, state, "cgroup");
    container->unit = text_member(container, state, "unit");
    container->clos = text_member(container, state, "clos");
    container->pid = json_get_int(state, "pid", 0);
    container->pid_start = json_get_int(state, "pid_start", 0);
    container->created_ns = json_get_int(state, "created_ns", 0);
    container->mount_id = json_get_int(state, "mount_id", 0);
    container->rootless = json_get_flag(state, "rootless", false);
    for (size_t i = 0; i < STDIO_LEN; i++) {
        const char *name = json_string_value(json_array_get(json_object_get(state, "stdio"), i));
        container->stdio[i] = arena_strdup(&container->arena, name ? name : "");
    }
    return 0;
}

int container_load(struct call *call, const char *id, struct container *out, struct err *err)
{
    *out = (struct container)CONTAINER_NONE;
    if (container_id_check(id, err) < 0)
        return -1;
    out->id = arena_strdup(&out->arena, id);
    _cleanup_close_ int root = file_open_dir(AT_FDCWD, call->root, err);
    out->dir_fd = root < 0 ? -1 : file_open_dir(root, id, err);
    if (out->dir_fd < 0 || read_state(out, err) < 0)
        return err->number == ENOENT ? err_set(err, ERR_NOT_FOUND, "container does not exist") : -1;
    return 0;
}

int container_load_config(struct container *container, struct err *err)
{
    struct buf text = BUF_INIT(DOCUMENT_MAX);
    int result = file_read_at(container->dir_fd, CONFIG_FILE, &text, err);
    if (result == 0)
        result = json_parse(buf_text(&text), text.size, &container->document, err);
    if (result == 0)
        result = oci_config_decode(container->document, &container->config, &container->arena, err);
    buf_done(&text);
    return result;
}

int container_save(struct container *container, struct err *err)
{
    _cleanup_json_ json_t *state =
        json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:b,s:[o,o,o]}", "version", container->version, "bundle", container->bundle,
                  "rootfs", container->rootfs, "cgroup", container->cgroup, "unit", container->unit ? container->unit : "",
                  "clos", container->clos ? container->clos : "", "pid", (json_int_t)container->pid, "pid_start",
                  (json_int_t)container->pid_start, "created_ns", (json_int_t)container->created_ns, "mount_id",
                  (json_int_t)container->mount_id, "rootless",
                  container->rootless, "stdio", json_new_text(container->stdio[0]), json_new_text(container->stdio[1]),
                  json_new_text(container->stdio[2]));
    if (!state)
        return err_set(err, ERR_INVALID_ARGUMENT, "a path of the container is not UTF-8");
    _cleanup_free_ char *text = json_text(state);
    return file_write_at(container->dir_fd, STATE_FILE, text, strlen(text), 0600, false, err);
}

void process_all_cpus(pid_t pid)
{
    uint8_t mask[1024];
    memset(mask, 0xff, sizeof(mask));
    syscall(SYS_sched_setaffinity, pid, sizeof(mask), mask); // one under a deadline keeps its own
}

void container_done(struct container *container)
{
    fd_close(container->dir_fd);
    fd_close(container->lock_fd);
    json_decref(container->document);
    buf_done(&container->text);
    arena_done(&container->arena);
    *container = (struct container)CONTAINER_NONE;
}

// ---- what is true now -----------------------------------------------------------------------------------------------

// Field 22 of /proc/<pid>/stat, counted from behind the name, which may hold anything.
int64_t process_start_time(pid_t pid)
{
    char path[64];
    struct buf text = BUF_INIT(4096);
    int64_t start = -1;
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    char *at = pid > 0 && file_read_at(AT_FDCWD, path, &text, NULL) == 0 ? strrchr(buf_text(&text), ')') : NULL;
    if (at && at[1] == ' ' && at[2] != 'Z' && at[2] != 'X') {
        struct slice rest = slice_of(at + 2), field = { 0 };
        for (int i = 3; i <= 22; i++)
            if (!slice_cut(&rest, ' ', &field))
                break;
        if (!num_parse_i64(field, &start))
            start = -1;
    }
    buf_done(&text);
    return start;
}

bool container_alive(const struct container *container)
{
    return container->pid > 0 && process_start_time((pid_t)container->pid) == container->pid_start;
}

static bool says(int dir_fd, const char *file, const char *words)
{
    struct buf text = BUF_INIT(4096);
    bool found = file_read_at(dir_fd, file, &text, NULL) == 0 && strstr(buf_text(&text), words);
    buf_done(&text);
    return found;
}

// By whichever hierarchy: on a hybrid host others may freeze by v1's where we do by cgroup2's.
bool cgroups_frozen(const struct cgroup *cgroup)
{
    const struct cgroup_layout *layout = cgroup_layout_of(cgroup);
    bool frozen = false;
    for (size_t i = 0; i < layout->len && !frozen; i++) {
        if (layout->hierarchies[i].v2)
            frozen = says(cgroup_dir_fd(cgroup, i), "cgroup.events", "frozen 1");
        else if (str_eq(layout->hierarchies[i].controllers, "freezer"))
            frozen = says(cgroup_dir_fd(cgroup, i), "freezer.state", "FROZEN");
    }
    return frozen;
}

static bool is_frozen(struct container *container)
{
    struct cgroup *cgroup = NULL;
    bool frozen = container_cgroup(container, &cgroup, NULL) == 0 && cgroup && cgroups_frozen(cgroup);
    cgroup_free(cgroup);
    return frozen;
}

enum status container_status(struct container *container)
{
    if (container->pid == 0)
        return STATUS_CREATING;
    if (!container_alive(container))
        return STATUS_STOPPED;
    if (is_frozen(container))
        return STATUS_PAUSED;
    return faccessat(container->dir_fd, "start", F_OK, 0) == 0 ? STATUS_CREATED : STATUS_RUNNING;
}

const char *status_name(enum status status)
{
    static const char *const names[] = { "creating", "created", "running", "paused", "stopped" };
    return names[status];
}

const struct cgroup_layout *container_layout(struct container *container)
{
    if (!container->layout) {
        container->layout = arena_alloc(&container->arena, sizeof(*container->layout));
        cgroup_layout_probe(container->layout);
    }
    return container->layout;
}

int container_cgroup(struct container *container, struct cgroup **out, struct err *err)
{
    *out = NULL;
    if (str_empty(container->cgroup))
        return 0;
    return cgroup_open(container_layout(container), container->cgroup, out, err);
}

// By pidfd, checked again after it was opened: a pid that has come back is never hit.
int container_send(const struct container *container, int sig, struct err *err)
{
    _cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, (pid_t)container->pid, 0);
    if (pidfd < 0 || !container_alive(container))
        return err_set(err, ERR_NOT_FOUND, "container not running");
    if (syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) < 0)
        return err_errno(err, errno, "unable to signal init");
    return 0;
}

json_t *container_state(struct container *container, enum status status)
{
    json_t *state = json_object(), *annotations = json_object();
    json_object_set_new(state, "ociVersion", json_new_text(container->version));
    json_object_set_new(state, "id", json_new_text(container->id));
    json_object_set_new(state, "status", json_string(status_name(status)));
    if (status != STATUS_STOPPED && container->pid)
        json_object_set_new(state, "pid", json_integer(container->pid));
    json_object_set_new(state, "bundle", json_new_text(container->bundle));
    for (size_t i = 0; i < container->config.annotations.len; i++) {
        const struct kv *entry = &container->config.annotations.items[i];
        json_object_set_new(annotations, entry->key, json_new_text(entry->value));
    }
    if (json_object_size(annotations))
        json_object_set(state, "annotations", annotations);
    json_decref(annotations);
    return state;
}

// ---- the end --------------------------------------------------------------------------------------------------------

static int destroy_cgroup(struct container *container, struct err *err)
{
    struct cgroup *cgroup = NULL;
    struct err missed = { 0 };
    const struct cgroup_layout *layout = container_layout(container);
    if (str_empty(container->cgroup))
        return scope_stop(container, err);
    if (str_empty(container->unit) && cgroup_remove(layout, container->cgroup, 0, NULL) == 0)
        return 0; // mostly nobody is in it any more
    if (cgroup_open(layout, container->cgroup, &cgroup, &missed) == 0) {
        cgroup_freeze(cgroup, false, NULL); // what is frozen does not die on v1
        int killed = cgroup_kill(cgroup, 10 * NS_PER_S, err);
        cgroup_free(cgroup);
        if (killed < 0)
            return -1;
    }
    if (scope_stop(container, err) < 0)
        return -1;
    return cgroup_remove(layout, container->cgroup, 10 * NS_PER_S, err);
}

// The files that we know, then the folder: mostly there is nothing else.
static int remove_folder(int root, const struct container *container, struct err *err)
{
    static const char *const files[] = { "report", "start", CONFIG_FILE, STATE_FILE, "lock" };
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        unlinkat(container->dir_fd, files[i], 0);
    return unlinkat(root, container->id, AT_REMOVEDIR) == 0 ? 0 : file_remove_tree(root, container->id, err);
}

int container_destroy(struct call *call, struct container *container, struct err *err)
{
    if (container_alive(container))
        container_send(container, SIGKILL, NULL);
    scope_end_holder(container);
    if (destroy_cgroup(container, err) < 0 || rdt_remove(container, err) < 0 || host_mounts_remove(container, err) < 0)
        return -1;
    if (!container->document)
        container_load_config(container, NULL);
    _cleanup_close_ int root = file_open_dir(AT_FDCWD, call->root, err);
    if (root < 0 || remove_folder(root, container, err) < 0)
        return -1;
    struct err hook = { 0 };
    if (container->config.hooks && hooks_run(container, &container->config.hooks->poststop, "poststop", STATUS_STOPPED, &hook) < 0)
        log_warning_line(hook.message);
    return 0;
}

void container_clear_away(struct call *call, struct container *container, bool keep)
{
    struct err missed = { 0 };
    if (keep || container->dir_fd < 0)
        return;
    int result = container->lock_fd >= 0 ? 0 : container_lock(container, &missed);
    if (result < 0 && missed.number == ENOENT) // no file can be made in a folder that was removed
        return;
    if (result == 0)
        result = container_destroy(call, container, &missed);
    if (result < 0)
        log_error_line(missed.message);
}
