// How a container's list of mounts is made, at create: mounts.c (-v, --tmpfs, the image's volumes), mount_requests.c (--mount) and
// volumes_from.c add to it, each through these.
#ifndef ENGINE_MOUNTING_H
#define ENGINE_MOUNTING_H

#include "mounts.h"

struct mounting {
    struct container *container;
    struct arena *arena; // of the request
    struct strv *fresh; // destinations of volumes that are still to be filled
};

// ---- mount_mode.c: the words of `-v src:dst:words` -------------------------------------------------------------------

enum mode_class { MODE_ACCESS, MODE_LABEL, MODE_PROPAGATION, MODE_COPY, MODE_CONSISTENCY, MODE_CLASSES };

// The word of each class that a mode has, or NULL. Labels mean nothing without SELinux, consistency nothing on Linux.
struct mount_mode {
    const char *words[MODE_CLASSES];
};

// Words between commas, at most one of each class. invalid_argument "invalid mode: ...".
int mount_mode_parse(const char *text, struct mount_mode *out, struct err *err);
bool mount_mode_is_propagation(const char *word);

// ---- mounts.c -------------------------------------------------------------------------------------------------------

// Without doubled slashes, "." and "..": two spellings of one place are one place. In the arena.
char *mounting_clean_path(struct arena *arena, const char *path);
// Cleans *destination. Duplicates are refused, and more mounts than a container's descriptors could carry.
int mounting_check_destination(struct mounting *mounting, const char **destination, struct err *err);
bool mounting_has(const struct container *container, const char *destination); // a clean one

// Each gives the new entry, valid until the next one is added. The destination is one that was checked.
struct engine_mount *mounting_add(struct container *container, const char *destination);
struct engine_mount *mounting_add_bind(struct container *container, const char *source, const char *destination, bool read_only,
                                       const char *propagation);
struct engine_mount *mounting_add_tmpfs(struct container *container, const char *destination, const char *options);

// A host's folder that is missing; it is the container's root's.
int mounting_make_source(struct mounting *mounting, const char *path, struct err *err);

struct volume_wish {
    const char *name; // NULL: an anonymous one
    const struct kvs *labels, *options; // of a new one; NULL: none
    bool read_only, no_copy;
};
// Makes the volume where it is missing, and holds it. NULL after a failure.
struct engine_mount *mounting_add_volume(struct mounting *mounting, const struct volume_wish *wish, const char *destination,
                                         struct err *err);

// ---- the other two --------------------------------------------------------------------------------------------------

int mounting_from_request(struct mounting *mounting, const struct mount_request *request, struct err *err);
// "CONTAINER[:words]". What the container has at the same place already stays.
int mounting_from_container(struct mounting *mounting, const char *text, struct err *err);

#endif
