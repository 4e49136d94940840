// One request from its frame to its answer, at once or later.
#include "shim/wall.h"

#define REQUESTS_MAX 2048 // that wait for their answer

struct request *request_open(struct connection *from, struct task_frame *frame)
{
    struct request *request = mem_new(struct request);
    *request = (struct request){ .shim = from->shim, .from = from, .id = frame->id, .payload = take_ptr(&frame->payload),
                                 .fds = { take_ptr(&frame->fds), frame->fd_len }, .result = json_object() };
    frame->fd_len = 0;
    return request;
}

static void request_free(struct request *request)
{
    client_list_discard(request->clients);
    fd_list_done(&request->fds);
    json_decref(request->payload);
    json_decref(request->result);
    arena_done(&request->arena);
    free(request);
}

void request_set_int(struct request *request, const char *key, int64_t value)
{
    json_object_set_new(request->result, key, json_integer(value));
}

int request_defer(struct request *request, struct err *err)
{
    struct shim *shim = request->shim;
    if (shim->request_len >= REQUESTS_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "%d requests wait already", REQUESTS_MAX);
    request->next = shim->requests;
    shim->requests = request;
    shim->request_len++;
    return VERB_LATER;
}

// True when it was one of those that wait.
static bool forget_deferred(struct request *request)
{
    struct shim *shim = request->shim;
    for (struct request **at = &shim->requests; *at; at = &(*at)->next) {
        if (*at != request)
            continue;
        *at = request->next;
        shim->request_len--;
        return true;
    }
    return false;
}

static bool answer(struct request *request, int outcome, const struct err *error)
{
    if (request->silent || !request->from)
        return true;
    int fd = request->from->fd;
    if (outcome < 0)
        return task_send_error(fd, request->id, error, NULL) == 0;
    return task_send(fd, TASK_RESPONSE, request->id, request->result, request->reply_fds, request->reply_fd_len, NULL) == 0;
}

bool request_finish(struct request *request, int outcome, struct err *err)
{
    bool later = forget_deferred(request);
    if (request->then)
        outcome = request->then(request, outcome, err);
    bool sent = answer(request, outcome, err);
    if (outcome >= 0 && request->after)
        request->after(request);
    if (!sent && later && request->from)
        connection_close(request->from);
    request_free(request);
    return sent;
}

void requests_connection_gone(struct shim *shim, const struct connection *connection)
{
    for (struct request *request = shim->requests; request; request = request->next) {
        if (request->from == connection)
            request->from = NULL;
    }
}

void requests_abandon(struct shim *shim, const struct err *error)
{
    while (shim->requests) {
        struct err err = *error;
        request_finish(shim->requests, -1, &err);
    }
}
