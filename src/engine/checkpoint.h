// A start from a checkpoint, inside of the engine; see checkpoint.c.
#ifndef ENGINE_CHECKPOINT_H
#define ENGINE_CHECKPOINT_H

#include "engine_private.h"

struct cargo;

struct checkpoint {
    int folder_fd;
    const char *program; // criu
};
int checkpoint_load(const struct checkpoint *checkpoint, struct cargo *cargo, json_t *arguments, struct err *err); // into those of `create`

// start.c
int container_check_startable(struct container *container, struct err *err);
int container_start_from(struct container *container, const struct checkpoint *checkpoint, struct err *err);
// restart.c: the policy does nothing until the next start; or it does again.
void restart_hold(struct container *container, bool hold);

#endif
