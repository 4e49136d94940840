// The supervisor of one instance behind either wall: its life, its stdio, its log, its exit record. One thread, one epoll
// loop, bounded memory; nobody's child once it runs (double-forked, own session, subreaper). It survives the daemon and
// serves whichever one connects next; it ends when the daemon has acknowledged the end and sent `delete`.
//
// Started by the daemon by exec of a sealed memfd as `berth-shim <daemon id> <container id>` with descriptors
//     3  the listening task socket       5  the container's folder (<root>/containers/<id>)
//     4  the state folder (<state>/t/<id>)   6  sealed memfd of berth-init
// Its first parent returns at once with exit code 0 when the shim is up.
//
// Order at the end (Docker's CLI reads the exit code once, when the stream closes): flush output, write the exit record,
// send `exited` or `exec_exited`, and close clients only when that event is acknowledged, or no daemon is there.
#ifndef SHIM_SHIM_H
#define SHIM_SHIM_H

#include "base/err.h"

#define SHIM_FD_LISTENER 3
#define SHIM_FD_STATE 4
#define SHIM_FD_CONTAINER 5
#define SHIM_FD_INIT 6

#define SHIM_EXEC_MAX 1024 // running execs
#define SHIM_ATTACH_MAX 256 // clients of one instance
#define SHIM_READER_BUDGET (1u << 20) // bytes an attached reader may lag behind before it is dropped

// Serves until `delete`. Returns the process's exit code.
int shim_run(const char *daemon_id, const char *container_id);

#endif
