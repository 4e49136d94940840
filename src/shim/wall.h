// What a wall does for the supervisor, and the requests that it does it for. Private to the room.
//
// A verb's life: request_open() takes everything that came with the frame; the verb's function checks it and calls the wall;
// request_finish() completes the verb, answers, and frees. A wall that knows at once (the container's) returns its outcome. One
// that must ask first (a guest, over its link) returns VERB_LATER, keeps the request, and calls request_finish() itself:
// exactly once, whatever becomes of the guest. Meanwhile the connection may go: then nobody is answered, but the verb is
// completed all the same, as if the daemon had died a moment after the answer.
#ifndef SHIM_WALL_H
#define SHIM_WALL_H

#include "shim/shim_private.h"

#define VERB_LATER 1
#define REPLY_FD_MAX 128 // the network namespace and listeners

struct arguments {
    int64_t proto_min, proto_max, signal, height, width, seq, data_fd, report_fd, udp_fd, tcp_fd, lists_fd;
    char *exec_id;
    bool all;
    struct json_list attach; // struct task_attach
};

struct request {
    struct request *next; // of those that wait for their answer
    struct shim *shim;
    struct connection *from; // NULL: it is gone
    uint64_t id;
    bool silent; // no answer
    json_t *payload; // owned
    struct fd_list fds; // owned; what is taken is -1 afterwards
    struct arena arena;
    struct arguments arguments;
    struct client *clients; // not adopted yet: discarded with the request
    struct unit *unit; // exec: the new one
    struct vm_files *files; // behind a machine: their streams
    json_t *result;
    int reply_fds[REPLY_FD_MAX]; // borrowed
    size_t reply_fd_len;
    // Completes the verb, before the answer: `outcome` is the wall's, *err what it says. Returns the one that is answered.
    int (*then)(struct request *request, int outcome, struct err *err);
    void (*after)(struct request *request); // once a good answer is sent
};

// Takes payload and descriptors out of the frame.
struct request *request_open(struct connection *from, struct task_frame *frame);
// False when the answer could not be sent: the connection must be closed (it is, for a verb that was answered later).
bool request_finish(struct request *request, int outcome, struct err *err);
// VERB_LATER. resource_exhausted when too many wait already.
int request_defer(struct request *request, struct err *err);
void requests_connection_gone(struct shim *shim, const struct connection *connection);
void requests_abandon(struct shim *shim, const struct err *error); // finishes all that wait
void request_set_int(struct request *request, const char *key, int64_t value);

// The outcome of each is 0, VERB_LATER, or -1 with *err filled. Nothing of a failed create or exec remains: the caller frees
// the unit, and what the wall did behind it is undone by the wall.
struct wall_ops {
    const char *isolation; // its word in the task document
    // May this document be run behind it? Before anything is taken.
    int (*check)(const struct shim *shim, const struct task_document *document, struct err *err);
    // shim->init is there and has no stdio yet; log, cgroup, ports and network are the shim's already. `document` lives as
    // long as the request.
    int (*create)(struct request *request, const struct task_document *document, struct err *err);
    int (*start)(struct request *request, struct err *err);
    int (*exec)(struct request *request, const struct task_exec *exec, struct err *err); // for request->unit
    int (*signal)(struct request *request, struct unit *unit, int number, struct err *err);
    int (*signal_all)(struct request *request, int number, struct err *err);
    int (*resize)(struct request *request, struct unit *unit, int64_t height, int64_t width, struct err *err);
    // A detached mount of the container's root goes with the answer.
    int (*root)(struct request *request, struct err *err);
    // The files of the container are read or written behind the wall; `payload` says how.
    int (*files)(struct request *request, struct err *err);
    // The container's questions for names are answered from here on, of which shim->resolver is the answering part.
    int (*resolver)(struct request *request, struct err *err);
    // Writes the processes into a folder; NULL where a wall has no checkpoints. Then it takes no `create` from one either.
    int (*checkpoint)(struct request *request, struct err *err);
    // Ends everything behind the wall at once; units are freed afterwards. Never called from below the wall's own callbacks.
    void (*end)(struct shim *shim);
    // The task is forgotten: what the wall keeps beside the units goes. May be called from anywhere.
    void (*forget)(struct shim *shim);
};
extern const struct wall_ops wall_container, wall_vm;

#endif
