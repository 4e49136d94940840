// What a build takes from elsewhere. Any thread; blocking.
#ifndef ENGINE_REMOTE_H
#define ENGINE_REMOTE_H

#include "engine/engine.h"

int remote_check(const char *url, struct err *err); // whether it may be one: http:// or https://, in one line

struct remote_url {
    const char *url;
    const char *etag; // of what is known of it; NULL: nothing
    const char *authorization; // who we are there, as the header says it; NULL: nobody
    uint64_t size_max;
};
struct remote_file {
    char digest[OCI_DIGEST_SIZE];
    int64_t size, modified; // seconds; -1: not said
    const char *etag, *type; // NULL: not said; arena memory
    bool unchanged; // it still has that ETag: nothing was fetched
};
// Into a file, which gets the time that the server says. Errors as distribution_url() has them.
int remote_download(struct engine *engine, const struct remote_url *url, int file_fd, engine_progress_fn *progress, void *context, struct arena *arena,
                    struct remote_file *out, const struct cancel *cancel, struct err *err);

struct remote_git {
    const char *url, *ref; // ref: "HEAD", a branch, a tag, a commit
    const char *authorization; // as above
    bool fetch; // else it is only asked which commit it is
    bool keep, submodules; // keep: its .git
};
#define REMOTE_GIT_TREE "/tree"
#define REMOTE_GIT_AGENT "agent"
// The commit that it is (arena memory). The folder is a workshop's, and empty, but for a socket REMOTE_GIT_AGENT, behind which an ssh agent answers; the
// files go into it, below REMOTE_GIT_TREE. -1: there is no agent, and nothing to fetch.
int remote_git(struct engine *engine, const struct remote_git *git, int folder_fd, struct arena *arena, const char **commit, const struct cancel *cancel,
               struct err *err);

#endif
