// Where `berth build` puts its result (build_output.c).
#ifndef CLIENT_BUILD_OUTPUT_H
#define CLIENT_BUILD_OUTPUT_H

#include "client/client_private.h"

enum build_output_kind { BUILD_OUTPUT_IMAGE, BUILD_OUTPUT_LOCAL, BUILD_OUTPUT_TAR, BUILD_OUTPUT_OCI, BUILD_OUTPUT_DOCKER, BUILD_OUTPUT_CACHE };
struct build_output {
    enum build_output_kind kind;
    const char *dest; // NULL: standard output
};
int build_output_parse(struct call *call, struct build_output *out, struct err *err);
// The image is wanted in no list: a result alone, or an archive without names.
bool build_output_unseen(const struct call *call, const struct build_output *out);
int build_output_fetch(struct call *call, const struct build_output *out, const char *id, struct err *err); // once it is built

#endif
