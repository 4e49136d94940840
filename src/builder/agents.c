// RUN --mount=type=ssh: a socket in the container, behind which the client's ssh agent answers. It listens before the container is there; a thread
// hands each connection to the client until the step is over.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "builder_private.h"

#define BACKLOG 16

struct agent {
    struct agent *next;
    const struct build_request *request;
    const char *id;
    int listen_fd, stop_fd;
    pthread_t thread;
};

static void *serve(void *of)
{
    const struct agent *agent = of;
    struct err ignored = { 0 };
    agent->request->agent(agent->request->agent_of, agent->id, agent->listen_fd, agent->stop_fd, &ignored);
    return NULL;
}

// By its folder's descriptor: a path may be longer than a socket's address.
static int listen_at(int folder_fd, const char *name, struct err *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", folder_fd, name);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, BACKLOG) < 0)
        return err_errno(err, errno, "agent's socket");
    return take_fd(&fd);
}

struct agent *agent_start(const struct build_request *request, const char *id, int folder_fd, const char *name, struct arena *arena, struct err *err)
{
    struct agent *agent = arena_alloc(arena, sizeof(*agent));
    *agent = (struct agent){ .request = request, .id = id, .listen_fd = listen_at(folder_fd, name, err), .stop_fd = -1 };
    if (agent->listen_fd < 0)
        return NULL;
    if ((agent->stop_fd = eventfd(0, EFD_CLOEXEC)) >= 0 && (errno = pthread_create(&agent->thread, NULL, serve, agent)) == 0)
        return agent;
    err_errno(err, errno, "agent");
    fd_close(agent->listen_fd);
    fd_close(agent->stop_fd);
    return NULL;
}

void agent_stop(struct agent *agent)
{
    if (!agent)
        return;
    eventfd_write(agent->stop_fd, 1);
    pthread_join(agent->thread, NULL);
    fd_close(agent->listen_fd);
    fd_close(agent->stop_fd);
}

static int give(const struct run_mount *mount, const char *path, struct err *err)
{
    if (chown(path, (uid_t)MAX_OF(mount->uid, INT64_C(0)), (gid_t)MAX_OF(mount->gid, INT64_C(0))) < 0 ||
        chmod(path, mount->mode >= 0 ? (mode_t)(mount->mode & 0777) : 0600) < 0)
        return err_errno(err, errno, "agent's socket");
    return 0;
}

static int start(struct stage *stage, const struct run_mount *mount, const char *id, const char *target, struct step_mounts *out, struct err *err)
{
    struct arena *arena = stage->build->arena;
    if (secrets_folder_make(stage, out, err) < 0)
        return -1;
    const char *name = arena_printf(arena, "agent-%zu", out->agent_len), *path = arena_printf(arena, "%s/%s", out->secrets, name);
    _cleanup_close_ int folder_fd = open(out->secrets, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct agent *agent = folder_fd < 0 ? NULL : agent_start(stage->build->request, id, folder_fd, name, arena, err);
    if (!agent)
        return err->class != ERR_NONE ? -1 : err_errno(err, errno, "agent");
    agent->next = out->agents;
    out->agents = agent;
    if (give(mount, path, err) < 0)
        return -1;
    out->agent_len++;
    out->agent_path = out->agent_path ? out->agent_path : target;
    json_array_append_new(out->list, json_pack("{s:s, s:s, s:o}", "Type", "bind", "Source", path, "Target", json_new_text(target)));
    return 0;
}

int agent_add(struct stage *stage, const struct run_mount *mount, struct step_mounts *out, struct err *err)
{
    const struct build_request *request = stage->build->request;
    struct arena *arena = stage->build->arena;
    const char *id = str_empty(mount->id) ? "default" : mount->id;
    struct err missing = { 0 };
    const char *target = join_path(arena, stage->config.working_dir,
                                   str_empty(mount->target) ? arena_printf(arena, "/run/buildkit/ssh_agent.%zu", out->agent_len) : mount->target);
    source_note(stage->build, &(const struct build_source){ BUILD_SOURCE_AGENT, id, NULL, NULL, !mount->required });
    out->key = arena_printf(arena, "%s%s\n", out->key, mount->raw);
    if (request->agent(request->agent_of, id, -1, -1, &missing) == 0)
        return start(stage, mount, id, target, out, err);
    if (mount->required) // else a step may do without one
        return err_set(err, ERR_INVALID_ARGUMENT, "unset ssh forward key %.200s", id);
    return missing.class == ERR_CANCELLED ? err_set(err, ERR_CANCELLED, "%s", missing.message) : 0;
}

void agents_close(struct step_mounts *mounts)
{
    for (struct agent *agent = mounts->agents; agent; agent = agent->next)
        agent_stop(agent);
}
