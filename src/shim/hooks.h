// The OCI hooks of a container's document (devices by CDI have them), behind the thin wall. The programs are the host administrator's; each
// gets the runtime-spec's state on its standard input, and nothing inherited. The state's bundle is `<container>/bundle`: a config.json that
// says where the root is, `<container>/bundle/rootfs`, seen there by what runs before the container has entered it.
//
//     prestart, createRuntime    the shim, while the container stands still with all mounted
//     createContainer            its first process, in its namespaces, the host's files still in sight
//     startContainer             the same, in its root, after the start
//     poststart, poststop        the shim; what fails there changes nothing
//
// A hook that says no time has HOOKS_TIME_S: the shim waits for it.
#ifndef SHIM_HOOKS_H
#define SHIM_HOOKS_H

#include "sandbox/config.h"
#include "shim/shim_private.h"

#define HOOKS_TIME_S 30

struct hooks {
    struct shim *shim;
    const struct task_document *document;
    struct arena *arena;
    struct sandbox_config config; // for struct sandbox_spec
};
// Makes the bundle. *out must stay until the sandbox is created; `arena` as well.
int hooks_prepare(struct shim *shim, const struct task_document *document, struct arena *arena, struct hooks *out, struct err *err);
void hooks_started(struct shim *shim);
void hooks_stopped(struct shim *shim);

#endif
