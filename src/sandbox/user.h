// Who "user[:group]" is by a container's own etc/passwd and etc/group: for the child, as which it becomes, and for whoever has to say
// beforehand that there is no such user.
#ifndef SANDBOX_USER_H
#define SANDBOX_USER_H

#include <sys/types.h>

#include "base/err.h"

struct user_request {
    const char *name; // "user[:group]", NULL: the numbers
    uid_t uid;
    gid_t gid;
    const gid_t *extra;
    size_t extra_len;
    char *const *groups; // --group-add
    size_t group_len;
};

#define USER_GROUPS_MAX 256

struct user_found {
    uid_t uid;
    gid_t gid;
    gid_t groups[USER_GROUPS_MAX];
    size_t group_len;
    char home[256];
};

// Looks names up in etc/passwd and etc/group below root_fd. Without memory of its own: it runs in the child. A name that is not there is
// not_found, a number that can't be invalid_argument.
int user_find(int root_fd, const struct user_request *request, struct user_found *out, struct err *err);

#endif
