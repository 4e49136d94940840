// Daemons on the task socket. Anybody may connect who is root or runs as we do; the one that said hello last is the
// daemon, and whoever was it before is closed. Bytes that are no frames close their connection and nothing else.
#include <errno.h>
#include <sys/socket.h>

#include "shim/wall.h"

#define FRAMES_PER_TURN 16

void connection_close(struct connection *connection)
{
    if (connection->gone)
        return;
    struct shim *shim = connection->shim;
    connection->gone = true;
    loop_remove(take_ptr(&connection->source));
    shutdown(connection->fd, SHUT_RDWR);
    requests_connection_gone(shim, connection);
    shim_schedule_sweep(shim);
    if (shim->daemon == connection) {
        shim->daemon = NULL;
        shim_daemon_gone(shim);
    }
}

static void connection_free(struct connection *connection)
{
    loop_remove(connection->source);
    task_reader_free(connection->reader);
    fd_close(connection->fd);
    free(connection);
}

void connection_sweep(struct shim *shim)
{
    for (struct connection **at = &shim->connections; *at;) {
        struct connection *connection = *at;
        if (!connection->gone) {
            at = &connection->next;
            continue;
        }
        *at = connection->next;
        connection_free(connection);
    }
}

static void connection_readable(void *context, int fd, uint32_t events)
{
    struct connection *connection = context;
    struct err err;
    int got = 1;
    for (int frames = 0; frames < FRAMES_PER_TURN && !connection->gone;) {
        got = task_reader_feed(connection->reader, &err);
        if (got <= 0)
            break;
        _cleanup_frame_ struct task_frame frame = { 0 };
        got = task_reader_next(connection->reader, &frame, &err);
        if (got < 0 || (got && !verbs_serve(connection, &frame))) {
            got = -1;
            break;
        }
        frames += got;
    }
    if (got < 0)
        connection_close(connection);
}

static bool peer_may_command(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && (peer.uid == 0 || peer.uid == geteuid());
}

// Silent visitors do not pile up: the oldest that never became the daemon makes room.
static void make_room(struct shim *shim)
{
    size_t len = 0;
    struct connection *oldest = NULL;
    for (struct connection *connection = shim->connections; connection; connection = connection->next) {
        len += !connection->gone;
        if (!connection->gone && connection != shim->daemon)
            oldest = connection;
    }
    if (len >= SHIM_CONNECTION_MAX && oldest)
        connection_close(oldest);
}

static void listener_ready(void *context, int listener, uint32_t events)
{
    struct shim *shim = context;
    _cleanup_close_ int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 || !peer_may_command(fd))
        return;
    make_room(shim);
    struct connection *connection = mem_new(struct connection);
    *connection = (struct connection){ .shim = shim, .fd = take_fd(&fd) };
    if (task_reader_new(connection->fd, &connection->reader) < 0 ||
        loop_add_fd(shim->loop, connection->fd, EPOLLIN, connection_readable, connection, &connection->source, NULL) < 0) {
        connection_free(connection);
        return;
    }
    connection->next = shim->connections;
    shim->connections = connection;
}

int connection_listen(struct shim *shim, struct err *err)
{
    if (fd_set_nonblock(shim->listener, true, err) < 0)
        return -1;
    return loop_add_fd(shim->loop, shim->listener, EPOLLIN, listener_ready, shim, &shim->listener_source, err);
}

void connection_send_event(struct shim *shim, const struct task_event *event)
{
    struct connection *daemon = shim->daemon;
    if (!daemon)
        return;
    _cleanup_json_ json_t *payload = json_encode(&task_event_table, event);
    if (task_send(daemon->fd, TASK_EVENT, 0, payload, NULL, 0, NULL) < 0)
        connection_close(daemon);
}
