// linux.seccomp: the filter, and its listener for the agent that the document names.
#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "kernel/caps.h"
#include "oci/oci_private.h"
#include "sandbox/seccomp.h"

int seccomp_of(const struct oci_config *config, const struct oci_process *process, struct arena *arena,
               const struct filter_program **out, struct err *err)
{
    json_t *profile = config->linux_section->seccomp;
    uint64_t caps = 0;
    *out = NULL;
    if (!profile || json_is_null(profile))
        return 0;
    for (size_t i = 0; process->capabilities && i < process->capabilities->bounding.len; i++) {
        int number = caps_number(process->capabilities->bounding.items[i]);
        caps |= number >= 0 ? UINT64_C(1) << number : 0;
    }
    struct filter_program *program = arena_alloc(arena, sizeof(*program));
    if (seccomp_compile(profile, caps, program, err) < 0)
        return err_wrap(err, "linux.seccomp");
    if (program->len == 0)
        return 0;
    // Who names a listener gets one, whether or not a rule of today notifies.
    if (*json_get_text(profile, "listenerPath", ""))
        program->flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
    if ((program->flags & SECCOMP_FILTER_FLAG_NEW_LISTENER) && !*json_get_text(profile, "listenerPath", ""))
        return err_set(err, ERR_INVALID_ARGUMENT, "no listenerPath specified for SCMP_ACT_NOTIFY");
    *out = program;
    return 0;
}

static json_t *agent_state(struct container *container, pid_t pid, const char *metadata)
{
    json_t *state = json_pack("{s:s,s:[s],s:i,s:o}", "ociVersion", SPEC_VERSION, "fds", "seccompFd", "pid", (int)pid, "state",
                              container_state(container, STATUS_CREATING));
    if (metadata && state)
        json_object_set_new(state, "metadata", json_new_text(metadata));
    return state;
}

int seccomp_send_listener(struct container *container, pid_t pid, int listener_fd, struct err *err)
{
    const json_t *profile = container->config.linux_section->seccomp;
    const char *path = json_get_text(profile, "listenerPath", "");
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    _cleanup_close_ int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sock < 0)
        return err_errno(err, errno, "socket");
    if (strlen(path) >= sizeof(address.sun_path))
        return err_errno(err, ENAMETOOLONG, "seccomp listener %s", path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (connect(sock, (struct sockaddr *)&address, sizeof(address)) < 0)
        return err_errno(err, errno, "failed to connect with seccomp agent specified in the seccomp profile: dial unix %s: connect", path);
    _cleanup_json_ json_t *state = agent_state(container, pid, json_get_text(profile, "listenerMetadata", NULL));
    _cleanup_free_ char *text = json_text(state);
    return fd_send(sock, text, strlen(text), &listener_fd, 1, err) < 0 ? -1 : 0;
}
