// The socket between the two halves of a pull: one message each, of a kind, with at most one descriptor. The half that has the blobs (it
// speaks to a registry, or is one) sends; the jailed half believes nothing of it.
#ifndef TRANSFER_LINK_H
#define TRANSFER_LINK_H

#include <pthread.h>
#include <stdint.h>

#include "base/err.h"

enum link_kind {
    LINK_TOP, // a memfd with what the reference names
    LINK_MANIFEST, // a memfd with the image's manifest, unless that is the same
    LINK_CONFIG, // a memfd with its configuration
    LINK_KNOWN, // the store has layer `position`, of `size` bytes
    LINK_LAYER, // a pipe, or a file, with the blob of layer `position`
    LINK_ERROR, // `err`; the last message
    LINK_END, // all is sent
};

struct link_message {
    enum link_kind kind;
    uint32_t position;
    int64_t size;
    struct err err;
};

// Nobody is left to fetch for, when the other end of one of these is gone: the process ends at once, whatever it waits for. A signal at the
// parent's death does not reach a process of another user.
struct fetch_watch {
    int fds[2]; // -1: none
    pthread_t thread;
};
int fetch_watch_start(struct fetch_watch *watch, struct err *err); // it must not move
void fetch_watch_stop(struct fetch_watch *watch);

int fetch_link_send(int link_fd, const struct link_message *message, int fd, struct err *err); // fd -1: none; it stays the caller's
int fetch_link_receive(int link_fd, struct link_message *message, int *fd, struct err *err); // *fd is the caller's; -1: none came

#endif
