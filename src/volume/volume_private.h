#ifndef VOLUME_VOLUME_PRIVATE_H
#define VOLUME_VOLUME_PRIVATE_H

#include "base/mutex.h"
#include "volume/volume.h"

struct hold {
    struct hold *next;
    unsigned count;
    char name[];
};

struct use {
    struct use *next;
    unsigned users;
    enum use_state { USE_ABSENT, USE_CHANGING, USE_MOUNTED } state;
    char name[];
};

struct volume_store {
    struct store *store; // borrowed
    char *root_path;
    int volumes_fd;
    uid_t uid; // of new folders
    gid_t gid;
    struct mutex lock; // between a folder and its record
    struct cond changed; // the state of a use
    struct hold *holds GUARDED_BY(lock);
    struct use *uses GUARDED_BY(lock);
};

// options.c: as Docker's local driver has them; invalid_argument names what is wrong.
int volume_options_check(const struct kvs *options, struct err *err);
// mounted.c: what a volume's options say is mounted at its folder, unless something is there already; and taken off: false, it is busy.
int volume_mounted_put(const struct volume *volume, struct err *err);
bool volume_mounted_remove(const struct volume *volume);
// use.c
void volume_uses_free(struct volume_store *volumes);

#endif
