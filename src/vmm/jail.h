// The fence around a process that runs a machine, so that a guest that broke out of its devices finds nothing: it sees an empty
// root folder, no process but its own, no network, holds no capability and only the descriptors it was handed, and each of its
// threads has a list of the system calls it is for (jail_calls.c has them, with reasons).
//
//     jail_prepare()   in the parent: the next child is the first process of its own pid namespace (and of a user namespace
//                      where the parent is not root)
//     fork()
//     jail_enter()     in the child, while it has one thread and before it has read the first foreign byte
//     jail_thread()    in each thread, before the guest runs: the machine calls it (vmm.h, machine_thread_fn)
//
// Descriptors must be open by then; nothing can be opened by a path afterwards.
#ifndef VMM_JAIL_H
#define VMM_JAIL_H

#include "kernel/filter.h"
#include "vmm/vmm.h"

// Who the process is when root made it: an id that owns nothing on any host.
#define JAIL_ID_DEFAULT 2147480000u

struct jail {
    uint32_t uid, gid; // used only when the parent is root
    const int *keep; // all descriptors that stay open beside 0, 1 and 2; sorted, no doubles
    size_t keep_len;
};

int jail_prepare(struct err *err);
int jail_enter(const struct jail *jail, struct err *err);
int jail_thread(void *context, enum machine_thread thread, struct err *err); // machine_thread_fn; no context
// The list itself, for tests: jail_thread() loads it.
int jail_filter(enum machine_thread thread, struct filter_program *out, struct err *err);

#endif
