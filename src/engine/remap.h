// --userns-remap: whose ids containers have. Read once, when the engine opens.
#ifndef ENGINE_REMAP_H
#define ENGINE_REMAP_H

#include "kernel/users.h"

struct remap {
    struct users_map uids, gids;
    uid_t root_uid; // the host's number of their root
    gid_t root_gid;
};

// "default", "USER", "USER:GROUP", with numbers in a name's place; *out is NULL for "", "host" and root itself. "default" is the user
// dockremap, who is made where there is none. Errors in dockerd's words.
int remap_read(const char *wish, struct remap **out, struct err *err);
// Whether the file system of that folder takes id maps, and the kernel overlays with them. One line, if not.
int remap_probe(const struct remap *remap, int folder_fd, const char *folder, struct err *err);

#endif
