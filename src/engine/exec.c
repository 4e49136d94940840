// exec: further processes in a running container. An exec lives until its container's next start or removal.
#include <errno.h>
#include <fcntl.h>

#include "base/fd.h"
#include "engine_private.h"
#include "sandbox/user.h"
#include "vm.h"

#define CALL_TIMEOUT_NS (60 * NS_PER_S)
#define EXEC_MAX 4096 // records per container; finished ones are forgotten oldest first
#define ACTION_MAX 65536
#define CMD_MAX 131072
#define ENV_MAX 16384

static struct exec *find_exec(struct container *container, const char *id) REQUIRES(container->lock)
{
    for (struct exec *exec = container->execs; exec; exec = exec->next)
        if (str_eq(exec->id, id))
            return exec;
    return NULL;
}

static int check_live(struct container *container, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    mutex_lock(&container->lock);
    enum container_status status = container->state.status;
    mutex_unlock(&container->lock);
    if (status == STATUS_RESTARTING)
        return container_restarting(container, err);
    if (status == STATUS_PAUSED)
        return err_set(err, ERR_CONFLICT, "Container %s is paused, unpause the container before exec",
                       container_name(container, &arena));
    if (status != STATUS_RUNNING)
        return err_set(err, ERR_CONFLICT, "container %s is not running", container->id);
    return 0;
}

// The list is newest first, so the last one of a kind is the oldest. A finished one goes first, else one that nobody ever
// started; never one that runs.
static int make_room(struct container *container, struct err *err) REQUIRES(container->lock)
{
    size_t len = 0;
    struct exec **finished = NULL, **waiting = NULL;
    for (struct exec **at = &container->execs; *at; at = &(*at)->next, len++) {
        if (!(*at)->started)
            waiting = at;
        else if (!(*at)->running)
            finished = at;
    }
    if (len < EXEC_MAX)
        return 0;
    struct exec **oldest = finished ? finished : waiting;
    if (!oldest)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "container %s has %d execs already", container->id, EXEC_MAX);
    struct exec *gone = *oldest;
    *oldest = gone->next;
    exec_free(gone);
    return 0;
}

// "exec_start: sh -c ls", for the event; of a very long line the beginning.
static char *action_text(const char *verb, const struct exec *exec, struct arena *arena)
{
    _cleanup_buf_ struct buf text = BUF_INIT(ACTION_MAX);
    buf_addf(&text, "%s:", verb);
    for (size_t i = 0; i < exec->config.cmd.len && !text.overflow; i++)
        buf_addf(&text, " %s", exec->config.cmd.items[i]);
    return arena_strdup(arena, buf_text(&text));
}

// Docker looks the user up when an exec is made and again when it starts: whoever asks for one that is not there gets no exec. A guest's
// files are out of sight: there the start says it.
static int check_user(struct container *container, const char *user, struct err *err)
{
    if (str_empty(user) || vm_wanted(&container->config.host_config))
        return 0;
    mutex_lock(&container->lock);
    int64_t pid = container->state.pid;
    mutex_unlock(&container->lock);
    char path[40];
    snprintf(path, sizeof(path), "/proc/%lld/root", (long long)pid);
    _cleanup_close_ int root_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    const struct user_request request = { .name = user };
    struct user_found found;
    if (root_fd < 0 || user_find(root_fd, &request, &found, err) == 0)
        return 0; // it is just ending: the start says so
    err->class = ERR_INVALID_ARGUMENT;
    return -1;
}

int engine_exec_create(struct engine *engine, const char *ref, const struct exec_config *config, char id[65],
                       struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container)
        return -1;
    if (config->cmd.len == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "No exec command specified");
    if (config->cmd.len > CMD_MAX || config->env.len > ENV_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %d words or %d variables", CMD_MAX, ENV_MAX);
    if (check_live(container, err) < 0 || check_user(container, config->user, err) < 0)
        return -1;
    random_hex(id, 64);
    return exec_add(container, config, false, id, err);
}

int exec_add(struct container *container, const struct exec_config *config, bool unframed, const char *id, struct err *err)
{
    struct exec *exec = mem_new(struct exec);
    memcpy(exec->id, id, sizeof(exec->id));
    exec->unframed = unframed;
    // Through the table, so that everything is copied into the exec's own arena.
    _cleanup_json_ json_t *form = json_encode(&exec_config_table, config);
    if (json_decode(&exec_config_table, form, &exec->config, &exec->arena, NULL, err) < 0) {
        exec_free(exec);
        return -1;
    }
    exec->config.console_size_raw = NULL;
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    const char *action = action_text("exec_create", exec, &arena);

    mutex_lock(&container->lock);
    int result = make_room(container, err);
    if (result == 0) {
        exec->next = container->execs;
        container->execs = exec;
    }
    mutex_unlock(&container->lock);
    if (result < 0) {
        exec_free(exec);
        return -1;
    }
    event_container(container, action, "execID", id, NULL);
    return 0;
}

void exec_forget(struct container *container, const char *id, int64_t *exit_code)
{
    for (struct exec **at = &container->execs; *at; at = &(*at)->next) {
        struct exec *exec = *at;
        if (!str_eq(exec->id, id))
            continue;
        if (exit_code)
            *exit_code = exec->exit_code;
        *at = exec->next;
        exec_free(exec);
        return;
    }
}

static int refuse_second(const struct exec *exec, struct err *err)
{
    return err_set(err, ERR_CONFLICT, "exec command %s %s", exec->id, exec->running ? "is already running" : "has already run");
}

int engine_exec_check(struct engine *engine, const char *exec_id, bool *terminal, struct err *err)
{
    _cleanup_container_ struct container *container = container_find_exec(engine, exec_id, err);
    int result = 0;
    if (!container || check_live(container, err) < 0)
        return -1;
    mutex_lock(&container->lock);
    struct exec *exec = find_exec(container, exec_id);
    if (!exec)
        result = err_set(err, ERR_NOT_FOUND, "No such exec instance: %s", exec_id);
    else if (exec->running || exec->started)
        result = refuse_second(exec, err);
    else
        *terminal = exec->config.tty;
    mutex_unlock(&container->lock);
    return result;
}

static json_t *exec_arguments(const struct exec *exec, struct task_exec *form, const int64_t size[2], bool attached)
{
    const struct task_attach one = {
        .fd = 0, .in = exec->config.attach_stdin, .out = exec->config.attach_stdout, .error = exec->config.attach_stderr,
        .framed = !exec->config.tty && !exec->unframed,
        .detach_keys = (char *)(str_empty(exec->config.detach_keys) ? "ctrl-p,ctrl-q" : exec->config.detach_keys),
    };
    const struct json_list list = { .items = (void *)&one, .len = attached ? 1 : 0 };
    if (size && size[0] > 0 && size[1] > 0) {
        form->stdio.height = form->process.console_size.height = size[0];
        form->stdio.width = form->process.console_size.width = size[1];
    }
    form->stdio.open_stdin = form->stdio.open_stdin && attached;
    json_t *arguments = json_encode(&task_exec_table, form);
    json_object_set_new(arguments, "attach", json_encode_list(&task_attach_table, &list));
    return arguments;
}

// Claims the exec for this start: only one can.
static int claim(struct container *container, const char *exec_id, struct exec **out, struct task_client **client,
                 struct err *err)
{
    int result = 0;
    mutex_lock(&container->lock);
    struct exec *exec = find_exec(container, exec_id);
    if (!exec)
        result = err_set(err, ERR_NOT_FOUND, "No such exec instance: %s", exec_id);
    else if (exec->started)
        result = refuse_second(exec, err);
    else if (container->state.status != STATUS_RUNNING || !container->client)
        result = err_set(err, ERR_CONFLICT, "container %s is not running", container->id);
    else
        exec->started = exec->running = true;
    *out = exec;
    *client = container->client;
    mutex_unlock(&container->lock);
    return result;
}

static void write_failure(int fd, bool terminal, const char *message)
{
    _cleanup_buf_ struct buf out = BUF_INIT(8192);
    size_t size = strlen(message) + 2;
    const unsigned char head[8] = { 1, 0, 0, 0, 0, 0, (unsigned char)(size >> 8), (unsigned char)size };
    if (!terminal)
        buf_add(&out, head, sizeof(head));
    buf_addf(&out, "%s\r\n", message);
    fd_write_full(fd, out.data, out.size, NULL);
}

// By its words, as Docker has it; what a shell would call neither "not found" nor "not executable" is 128.
static int64_t failed_code(const char *message)
{
    if (strstr(message, "permission denied"))
        return 126;
    static const char *const not_found[] = { "executable file not found", "no such file or directory", "not a directory" };
    for (size_t i = 0; i < ARRAY_LEN(not_found); i++)
        if (strstr(message, not_found[i]))
            return 127;
    return 128;
}

static int call_exec(struct container *container, const struct exec *exec, struct task_client *client, int client_fd,
                     const int64_t size[2], int64_t *pid, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_json_ json_t *result = NULL;
    struct task_exec form;
    if (document_exec(container, exec, &arena, &form, err) < 0)
        return -1;
    _cleanup_json_ json_t *arguments = exec_arguments(exec, &form, size, client_fd >= 0);
    event_container(container, action_text("exec_start", exec, &arena), "execID", exec->id, NULL);
    if (!str_empty(exec->config.working_dir) && exec->config.working_dir[0] != '/')
        return err_set(err, ERR_INVALID_ARGUMENT, "OCI runtime exec failed: exec failed: Cwd must be an absolute path");
    if (task_call(client, "exec", arguments, &client_fd, client_fd >= 0 ? 1 : 0, CALL_TIMEOUT_NS, &result, NULL, NULL,
                  err) < 0)
        return err_wrap(err, "OCI runtime exec failed: exec failed: unable to start container process");
    *pid = json_get_int(result, "pid", 0);
    return 0;
}

// Needs container_begin(). While an exec counts as running nobody frees it; from the end of the lock on it may be gone.
int exec_run(struct container *container, const char *exec_id, int client_fd, const int64_t size[2], bool *terminal,
             struct err *err)
{
    struct exec *exec;
    struct task_client *client;
    int64_t pid = 0;
    if (claim(container, exec_id, &exec, &client, err) < 0)
        return -1;
    if (terminal)
        *terminal = exec->config.tty;
    int called = call_exec(container, exec, client, client_fd, size, &pid, err);
    mutex_lock(&container->lock);
    exec->pid = pid;
    if (called < 0) {
        exec->running = false;
        exec->exit_code = failed_code(err->message);
    }
    mutex_unlock(&container->lock);
    return called;
}

// The client has its answer already when there is a descriptor: a failure goes that way.
int engine_exec_start(struct engine *engine, const char *exec_id, int client_fd, const int64_t size[2], struct err *err)
{
    _cleanup_close_ int fd = client_fd;
    struct err local = { 0 };
    bool terminal = false;
    int result = -1;
    _cleanup_container_ struct container *container = container_find_exec(engine, exec_id, &local);
    if (container && container_begin(container, &local) == 0) {
        result = exec_run(container, exec_id, fd, size, &terminal, &local);
        container_end(container);
    }
    if (result < 0 && fd >= 0)
        write_failure(fd, terminal, local.message);
    if (result < 0 && err)
        *err = local;
    return result;
}

int engine_exec_resize(struct engine *engine, const char *exec_id, int64_t height, int64_t width, struct err *err)
{
    _cleanup_container_ struct container *container = container_find_exec(engine, exec_id, err);
    _cleanup_json_ json_t *arguments =
        json_pack("{s:s, s:I, s:I}", "exec_id", exec_id, "height", (json_int_t)height, "width", (json_int_t)width);
    if (!container || container_begin(container, err) < 0)
        return -1;
    mutex_lock(&container->lock);
    struct exec *exec = find_exec(container, exec_id);
    struct task_client *client = exec && exec->running ? container->client : NULL;
    mutex_unlock(&container->lock);
    int result = client ? task_call(client, "resize", arguments, NULL, 0, CALL_TIMEOUT_NS, NULL, NULL, NULL, err)
                        : err_set(err, ERR_CONFLICT, "exec %s is not running", exec_id);
    container_end(container);
    return result;
}

int engine_exec_inspect(struct engine *engine, const char *exec_id, struct arena *arena, struct engine_exec *out,
                        struct err *err)
{
    _cleanup_container_ struct container *container = container_find_exec(engine, exec_id, err);
    int result = 0;
    if (!container)
        return -1;
    struct exec_config *config = arena_alloc(arena, sizeof(*config));
    mutex_lock(&container->lock);
    struct exec *exec = find_exec(container, exec_id);
    if (!exec) {
        result = err_set(err, ERR_NOT_FOUND, "No such exec instance: %s", exec_id);
    } else {
        _cleanup_json_ json_t *form = json_encode(&exec_config_table, &exec->config);
        result = json_decode(&exec_config_table, form, config, arena, NULL, err);
        config->console_size_raw = NULL;
        *out = (struct engine_exec){ arena_strdup(arena, exec->id), arena_strdup(arena, container->id), config,
                                     exec->running, exec->started, exec->pid, exec->exit_code };
    }
    mutex_unlock(&container->lock);
    return result;
}
