// docker run --link on the default bridge: a container (the parent) knows another (the child) by an alias, in its /etc/hosts and by environment
// variables. The record of the parent's create body is all there is of a link: HostConfig.Links has "CHILD'S ID:ALIAS", so renames and
// restarts need no second list. With a link to a container that is gone nothing starts, as with Docker. On networks of clients a link is a name by DNS instead (resolver.c).
#ifndef ENGINE_LINKS_H
#define ENGINE_LINKS_H

#include "engine_private.h"

// Names become ids, in a create body. invalid_argument when there is no such container, in Docker's words.
int links_record(struct engine *engine, json_t *body, struct err *err);
// "ID:ALIAS"; false for another form.
bool link_split(const char *text, char id[65], const char **alias);
// At a start: what its links add to its environment and its /etc/hosts. internal while a child does not run, or is not on the default bridge.
int links_resolve(struct container *container, struct arena *arena, struct strv *env, char **hosts, struct err *err);
// Of an exec: the variables alone, of those children that run.
void links_environment(struct container *container, struct arena *arena, struct strv *env);
void links_children(struct container *container, struct arena *arena, struct strv *ids);
// It has its address on the default bridge: in the /etc/hosts of parents that run. Guests have theirs to themselves.
void links_tell_parents(struct container *container);
// HostConfig.Links as inspect shows it: ["/CHILD:/PARENT/ALIAS"]; NULL where it has none. A reference.
json_t *links_show(struct container *container);
// "PARENT/ALIAS": the child's id.
bool links_find(const struct container *parent, const char *alias, char id[65]) REQUIRES(parent->lock);
// Fills in link_names.
void engine_link_names(struct engine *engine, struct arena *arena, struct engine_container *containers, size_t len);
bool links_any(const struct container_config *config); // it has links of this kind

#endif
