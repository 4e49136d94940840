// What `berth build` sends: a folder as a tar without what its .dockerignore leaves out, a tar from standard input, or the address of
// something that the daemon fetches.
#ifndef CLIENT_BUILD_CONTEXT_H
#define CLIENT_BUILD_CONTEXT_H

#include "base/process.h"
#include "build/ignore.h"
#include "client/client_private.h"

struct build_context {
    const char *folder; // absolute; NULL: standard input, or remote
    const char *remote; // an address; NULL
    const char *dockerfile; // its name within the context
    struct buf dockerfile_text; // read; empty when it is within a tar or remote
    struct ignore *ignore; // NULL: nothing is left out
    char *extra; // a folder of ours with a Dockerfile that comes from elsewhere; NULL
    const char *extra_name; // of that file
    int fd; // the tar, or -1: nothing is sent
    struct process packer; // who writes it
};

#define BUILD_CONTEXT_INIT { .dockerfile_text = BUF_INIT(5u << 20), .fd = -1, .packer = PROCESS_NONE }

// Looks at the arguments and reads the Dockerfile and .dockerignore; nothing is packed yet.
int build_context_find(struct call *call, const char *place, const char *file, struct build_context *out, struct err *err);
// Starts the packing: `fd` is what to send.
int build_context_pack(struct call *call, struct build_context *context, bool compress, struct err *err);
// The packer's end, when all has been sent.
int build_context_packed(struct build_context *context, struct err *err);
void build_context_done(struct build_context *context);

// The daemon's stream on a terminal (build_view.c); *aux as with progress_show().
int build_view(struct api_stream *stream, json_t **aux, struct err *err);

#endif
