// Namespaces that a container shares with the host or with another container; see namespaces.c.
#ifndef ENGINE_NAMESPACES_H
#define ENGINE_NAMESPACES_H

#include "cargo.h"

// The id in a mode "container:ID"; NULL: another mode.
const char *namespaces_other(const char *mode);
// What can't be chosen beside a mode; before what the client left open is filled in.
int namespaces_check_conflicts(const struct container_config *config, struct err *err);
int namespaces_check_words(const struct host_config *host, struct err *err);
// The network mode if the container has no network of its own: "host" or "container:ID"; else NULL.
const char *namespaces_network(const struct container_config *config);
// Before the body is decoded: names of other containers become their ids, so that a new name changes nothing. A container that is not
// there is an error, unless it is its network that is wanted: then the start is the error, as with Docker.
int namespaces_record(struct engine *engine, json_t *body, struct err *err);
// What of it the task document says: the list of own namespaces, those to join, what /dev/shm is.
void namespaces_fill(const struct container_config *config, struct arena *arena, struct task_document *out);
// At start, before the document is built, and when a run is adopted: who shares another's network has its host name, and its /etc/hosts
// and /etc/resolv.conf are the other's files. Needs container_begin().
int namespaces_follow(struct container *container, struct err *err);
// A namespace of one that runs, by its file's name in /proc, and the pid that it was opened by.
int namespaces_open(struct container *other, const char *file, pid_t *pid, struct err *err);
// The descriptors of it; the others must run.
int namespaces_load(struct container *container, struct task_document *document, struct cargo *cargo, struct err *err);

#endif
