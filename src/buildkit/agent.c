// moby.sshforward.v1.SSH: a connection to the client's ssh agent is a call, whose messages are the bytes of either direction.
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "buildkit_private.h"

#define LINKS_MAX 32 // of one step at a time; others wait
#define PART_MAX ((size_t)1 << 20)

struct link {
    struct grpc_call *call;
    int fd; // the step's end
    bool used;
    bool over GUARDED_BY(*lock);
    struct mutex *lock; // unranked
    pthread_t thread;
};

static int ask(struct buildkit_session *session, const char *id, struct err *err)
{
    _cleanup_buf_ struct buf message = BUF_INIT(4096), answer = BUF_INIT(4096);
    const struct secret_request request = { (char *)id }; // the same form
    const struct grpc_request call = { .path = "/moby.sshforward.v1.SSH/CheckAgent", .timeout_ns = WAIT_NS };
    proto_encode(&secret_request_table, &request, &message);
    return grpc_unary(session->grpc, &call, (struct slice){ buf_text(&message), message.size }, &answer, err);
}

// ---- one connection -------------------------------------------------------------------------------------------------

static void *bytes_forth(void *of)
{
    struct link *link = of;
    char part[16384];
    ssize_t got;
    while ((got = read(link->fd, part, sizeof(part))) > 0 || (got < 0 && errno == EINTR)) {
        _cleanup_buf_ struct buf message = BUF_INIT(PART_MAX);
        const struct bytes_message bytes = { { part, (size_t)MAX_OF(got, (ssize_t)0) } };
        proto_encode(&bytes_table, &bytes, &message);
        if (grpc_send(link->call, (struct slice){ buf_text(&message), message.size }, NULL) < 0)
            break;
    }
    grpc_send_end(link->call);
    return NULL;
}

static void receive_bytes(struct link *link)
{
    _cleanup_buf_ struct buf message = BUF_INIT(PART_MAX);
    while (grpc_recv(link->call, &message, NULL) > 0) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct bytes_message bytes;
        if (proto_decode((struct slice){ buf_text(&message), message.size }, &bytes_table, &arena, &bytes, NULL) < 0 ||
            fd_write_full(link->fd, bytes.data.data, bytes.data.size, NULL) < 0)
            break;
    }
}

static void *link_run(void *of)
{
    struct link *link = of;
    pthread_t sender;
    bool sends = pthread_create(&sender, NULL, bytes_forth, link) == 0;
    if (sends)
        receive_bytes(link);
    shutdown(link->fd, SHUT_RDWR);
    if (sends)
        pthread_join(sender, NULL);
    mutex_lock(link->lock);
    link->over = true;
    mutex_unlock(link->lock);
    return NULL;
}

static void link_end(struct link *link)
{
    pthread_join(link->thread, NULL);
    grpc_call_free(link->call);
    fd_close(link->fd);
    link->used = false;
}

// ---- all of a socket ------------------------------------------------------------------------------------------------

struct agent {
    struct buildkit_session *session;
    const char *id;
    struct link links[LINKS_MAX];
    struct mutex lock;
};

// A place that is free, or becomes so now; NULL: there is none.
static struct link *find_place(struct agent *agent)
{
    for (size_t i = 0; i < LINKS_MAX; i++) {
        struct link *link = &agent->links[i];
        mutex_lock(&agent->lock);
        bool over = link->used && link->over;
        mutex_unlock(&agent->lock);
        if (over)
            link_end(link);
        if (!link->used)
            return link;
    }
    return NULL;
}

static void take_connection(struct agent *agent, int listen_fd)
{
    const struct kv metadata[] = { { (char *)"buildkit.ssh.id", (char *)agent->id } };
    const struct grpc_request request = { .path = "/moby.sshforward.v1.SSH/ForwardAgent", .metadata = metadata, .metadata_len = 1 };
    struct link *link = find_place(agent);
    _cleanup_close_ int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
    struct grpc_call *call;
    if (!link || fd < 0 || grpc_call_new(agent->session->grpc, &request, &call, NULL) < 0)
        return;
    *link = (struct link){ .call = call, .fd = take_fd(&fd), .used = true, .lock = &agent->lock };
    if (pthread_create(&link->thread, NULL, link_run, link) == 0)
        return;
    grpc_call_free(call);
    fd_close(link->fd);
    link->used = false;
}

static void serve(struct agent *agent, int listen_fd, int stop_fd)
{
    struct pollfd fds[] = { { .fd = listen_fd, .events = POLLIN }, { .fd = stop_fd, .events = POLLIN } };
    while (poll(fds, ARRAY_LEN(fds), -1) >= 0 || errno == EINTR) {
        if (fds[1].revents)
            break;
        if (fds[0].revents)
            take_connection(agent, listen_fd);
    }
    for (size_t i = 0; i < LINKS_MAX; i++)
        if (agent->links[i].used) {
            shutdown(agent->links[i].fd, SHUT_RDWR);
            link_end(&agent->links[i]);
        }
}

int buildkit_agent(struct buildkit_session *session, const char *id, int listen_fd, int stop_fd, struct err *err)
{
    if (listen_fd < 0)
        return ask(session, id, err);
    struct agent *agent = mem_new(struct agent);
    agent->session = session;
    agent->id = id;
    mutex_init(&agent->lock, 0);
    serve(agent, listen_fd, stop_fd);
    mutex_done(&agent->lock);
    free(agent);
    return 0;
}
