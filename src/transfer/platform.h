// Platforms: the host's, and "os/architecture/variant" as --platform says it. Private to the room.
#ifndef TRANSFER_PLATFORM_H
#define TRANSFER_PLATFORM_H

#include "spec/spec.h"

const char *platform_host_architecture(void); // in the words of the image spec; "" for a machine it has none for
// NULL or "" is the host's. One word alone is an os or an architecture; variant is NULL when not given.
int platform_parse(const char *text, struct arena *arena, struct oci_platform *out, struct err *err);

#endif
