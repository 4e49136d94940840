// The descriptors that travel with `create`, in the order of their indices; see cargo.c.
#ifndef ENGINE_CARGO_H
#define ENGINE_CARGO_H

#include "engine_private.h"

struct cargo {
    int fds[TASK_FD_MAX];
    size_t len;
    uint8_t owned[TASK_FD_MAX];
};
void cargo_done(struct cargo *cargo);
int cargo_add(struct cargo *cargo, int fd, bool owned, int64_t *index, struct err *err); // takes an owned one in any case

// Opens the layers that the wall wants and names them in the document, which has no indices yet.
int cargo_layers(struct container *container, const struct image *image, struct arena *arena, struct task_document *document,
                 struct image_layers *out, struct err *err);
// Everything that the document names, with its index there. The container's own descriptors (network, listening sockets) and
// the layers' stay the caller's; the attaches that wait are taken, and listed in `attaches`.
int cargo_load(struct container *container, const struct image_layers *layers, struct arena *arena,
               struct task_document *document, struct json_list *attaches, struct cargo *cargo, struct err *err);

#endif
