// Checkpoint and restore of a container behind the thin wall, by CRIU (criu/criu.h), each in an aide.
//
// What comes from outside of the container is left out of the images: its root and binds, the network namespace, the pipes of its
// standard streams. The next start makes them as every start does and gives them to CRIU.
#ifndef SHIM_CHECKPOINT_H
#define SHIM_CHECKPOINT_H

#include "shim/aide.h"

// Namespaces and mounts by the names that both sides have for them.
#define CHECKPOINT_NETWORK_KEY "extRootNetNS"
#define CHECKPOINT_DUMP_LOG "dump.log"
#define CHECKPOINT_RESTORE_LOG "restore.log"

// What the request says of a checkpoint: a folder among its descriptors, and the program.
struct checkpoint_wish {
    int images_fd; // the request's
    const char *program;
};
// 1 when it says something, 0 when not.
int checkpoint_wish(const struct request *request, struct checkpoint_wish *out, struct err *err);
bool checkpoint_own_network(const struct oci_linux *section); // a network namespace that CRIU makes, too
bool checkpoint_own_cgroups(const struct oci_linux *section); // a cgroup namespace
// Adds CRIU's reason, out of its log in the folder.
int checkpoint_failed(int images_fd, const char *log, struct err *err);

int checkpoint_create(struct request *request, struct err *err); // the wall's verb: VERB_LATER

// `create` from a checkpoint: everything up to the moment in which the processes would go on. VERB_LATER. Then `start` lets them.
int restore_create(struct request *request, const struct task_document *document, const struct checkpoint_wish *wish, struct err *err);
int restore_start(struct request *request, struct err *err);

// wall_container.c: what both ways to a first process have in common.
int wall_adopt(struct request *request, struct unit *unit, struct sandbox *sandbox, int master_fd, const struct task_stdio *wish,
               struct err *err);
int wall_watch(struct unit *unit, struct err *err); // its end, from here on

#endif
