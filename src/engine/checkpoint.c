// Checkpoints: a folder for each, below the container's own or where the client says; CRIU's images stand in it. The shim has them made,
// and a start hands them to the next shim. Nothing of them is in the store: they go with the container's folder.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "cargo.h"
#include "checkpoint.h"
#include "users.h"
#include "vm.h"

#define CHECKPOINTS "checkpoints"
#define CHECKPOINT_TIMEOUT_NS (600 * NS_PER_S) // memory is written to the disk
#define END_WAIT_NS (30 * NS_PER_S)

// ---- folders --------------------------------------------------------------------------------------------------------

static int check_name(const char *name, struct err *err)
{
    if (!str_empty(name) && container_name_valid(name))
        return 0;
    return err_set(err, ERR_INVALID_ARGUMENT, "Invalid checkpoint ID (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name ? name : "");
}

// Where a container's checkpoints stand; not_found where there were none yet, unless `make`.
static int open_place(const struct container *container, const char *folder, bool make, struct err *err)
{
    int base = str_empty(folder) ? container->engine->containers_fd : AT_FDCWD;
    _cleanup_free_ char *own = mem_printf("%s/" CHECKPOINTS, container->id);
    const char *path = str_empty(folder) ? own : folder;
    if (path == folder && folder[0] != '/')
        return err_set(err, ERR_INVALID_ARGUMENT, "the folder of checkpoints must be an absolute path: %s", folder);
    if (make && file_mkdirs(base, path, 0700, err) < 0)
        return -1;
    return file_open_dir(base, path, err);
}

static int missing(const char *ref, const char *name, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "checkpoint %s does not exist for container %s", name, ref);
}

// An O_DIRECTORY descriptor of one that is there.
static int open_checkpoint(const struct container *container, const char *ref, const char *name, const char *folder, struct err *err)
{
    struct err ignored = { 0 };
    if (check_name(name, err) < 0)
        return -1;
    _cleanup_close_ int place = open_place(container, folder, false, &ignored);
    if (place < 0)
        return ignored.class == ERR_INVALID_ARGUMENT ? err_set(err, ERR_INVALID_ARGUMENT, "%s", ignored.message) : missing(ref, name, err);
    int fd = openat(place, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd >= 0 ? fd : missing(ref, name, err);
}

static int make_checkpoint(const struct container *container, const char *ref, const char *name, const char *folder, struct err *err)
{
    _cleanup_close_ int place = open_place(container, folder, true, err);
    if (place < 0)
        return -1;
    if (mkdirat(place, name, 0700) < 0)
        return errno == EEXIST ? err_set(err, ERR_CONFLICT, "checkpoint with name %s already exists for container %s", name, ref)
                               : err_errno(err, errno, "checkpoint %s", name);
    return file_open_dir(place, name, err);
}

static void drop_checkpoint(const struct container *container, const char *name, const char *folder)
{
    _cleanup_close_ int place = open_place(container, folder, false, NULL);
    if (place >= 0)
        file_remove_tree(place, name, NULL);
}

// ---- create ---------------------------------------------------------------------------------------------------------

static int find_criu(char **out, struct err *err)
{
    *out = process_find("criu");
    return *out ? 0 : err_set(err, ERR_NOT_IMPLEMENTED, "criu: no such program: checkpoints need CRIU on the daemon's PATH");
}

static int check_wall(const struct container *container, struct err *err)
{
    if (vm_wanted(&container->config.host_config))
        return err_set(err, ERR_NOT_IMPLEMENTED, "checkpoint: not supported yet behind the VM wall");
    return users_wanted(container) ? err_set(err, ERR_NOT_IMPLEMENTED, "checkpoint: not supported yet in a user namespace: run the container with --userns host") : 0;
}

static int check_running(struct container *container, struct err *err)
{
    mutex_lock(&container->lock);
    enum container_status status = container->state.status;
    mutex_unlock(&container->lock);
    if (status == STATUS_PAUSED)
        return err_set(err, ERR_CONFLICT, "container %s is paused: unpause it for a checkpoint", container->id);
    return status == STATUS_RUNNING ? 0 : err_set(err, ERR_CONFLICT, "container %s is not running", container->id);
}

// Needs container_begin().
static int dump_held(struct container *container, const char *program, int folder_fd, bool leave_running, struct err *err)
{
    if (check_running(container, err) < 0)
        return -1;
    mutex_lock(&container->lock);
    struct task_client *client = container->client;
    mutex_unlock(&container->lock);
    _cleanup_json_ json_t *arguments = json_pack("{s:{s:i, s:s}, s:b}", "checkpoint", "fd", 0, "program", program, "leave_running", leave_running);
    if (!client || task_call(client, "checkpoint", arguments, &folder_fd, 1, CHECKPOINT_TIMEOUT_NS, NULL, NULL, NULL, err) < 0)
        return client ? -1 : check_running(container, err);
    event_container(container, "checkpoint", NULL);
    return 0;
}

// That it ends is what the client wants: its policy does nothing, as after a stop. Noted before, because the end may come at once.
static int dump(struct container *container, const char *program, int folder_fd, bool leave_running, struct err *err)
{
    if (container_begin(container, err) < 0)
        return -1;
    if (!leave_running)
        restart_hold(container, true);
    int result = dump_held(container, program, folder_fd, leave_running, err);
    if (!leave_running && result < 0)
        restart_hold(container, false);
    container_end(container);
    return result;
}

static int create(struct container *container, const char *ref, const struct engine_checkpoint *wish, const char *program, struct err *err)
{
    _cleanup_close_ int folder_fd = make_checkpoint(container, ref, wish->name, wish->folder, err);
    if (folder_fd < 0)
        return err_wrap(err, "cannot checkpoint container %s", ref);
    if (dump(container, program, folder_fd, wish->leave_running, err) < 0) {
        drop_checkpoint(container, wish->name, wish->folder);
        return err_wrap(err, "Cannot checkpoint container %s", ref);
    }
    // Whoever starts it next finds it stopped.
    return wish->leave_running ? 0 : MIN_OF(container_await_stop(container, END_WAIT_NS, NULL, err), 0);
}

int engine_checkpoint_create(struct engine *engine, const char *ref, const struct engine_checkpoint *wish, struct err *err)
{
    _cleanup_free_ char *program = NULL;
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container || check_running(container, err) < 0 || check_name(wish->name, err) < 0 || check_wall(container, err) < 0 ||
        find_criu(&program, err) < 0)
        return -1;
    return create(container, ref, wish, program, err);
}

// ---- list and remove ------------------------------------------------------------------------------------------------

int engine_checkpoint_list(struct engine *engine, const char *ref, const char *folder, struct arena *arena, struct strv *out, struct err *err)
{
    _cleanup_strv_ struct strv names = { 0 };
    struct err none = { 0 };
    struct stat st;
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    _cleanup_close_ int place = container ? open_place(container, folder, false, &none) : -1;
    *out = (struct strv){ 0 };
    if (!container)
        return -1;
    if (place < 0)
        return str_empty(folder) && none.class == ERR_NOT_FOUND ? 0 : err_set(err, none.class, "%s", none.message);
    if (file_list_names(place, ".", &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++)
        if (fstatat(place, names.items[i], &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
            strv_push_arena(out, arena, names.items[i]);
    return 0;
}

int engine_checkpoint_remove(struct engine *engine, const char *ref, const char *name, const char *folder, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container)
        return -1;
    _cleanup_close_ int fd = open_checkpoint(container, ref, name, folder, err);
    if (fd < 0)
        return -1;
    _cleanup_close_ int place = open_place(container, folder, false, err);
    return place < 0 ? -1 : file_remove_tree(place, name, err);
}

// ---- start ----------------------------------------------------------------------------------------------------------

int checkpoint_load(const struct checkpoint *checkpoint, struct cargo *cargo, json_t *arguments, struct err *err)
{
    int64_t index;
    if (cargo_add(cargo, checkpoint->folder_fd, false, &index, err) < 0)
        return -1;
    json_object_set_new(arguments, "checkpoint", json_pack("{s:I, s:s}", "fd", (json_int_t)index, "program", checkpoint->program));
    return 0;
}

int engine_start_from(struct engine *engine, const char *ref, const char *name, const char *folder, struct err *err)
{
    _cleanup_free_ char *program = NULL;
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container || container_check_startable(container, err) < 0 || check_wall(container, err) < 0)
        return -1;
    _cleanup_close_ int folder_fd = open_checkpoint(container, ref, name, folder, err);
    if (folder_fd < 0 || find_criu(&program, err) < 0)
        return -1;
    return container_start_from(container, &(struct checkpoint){ folder_fd, program }, err);
}
