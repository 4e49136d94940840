// Capabilities by name and number, and the calls that set them on the calling thread.
#ifndef KERNEL_CAPS_H
#define KERNEL_CAPS_H

#include "base/err.h"

// "CAP_CHOWN", "chown", "Chown" -> 0; -1 when unknown. The other way: "CAP_CHOWN", NULL when unknown.
int caps_number(const char *name);
const char *caps_name(int number);
int caps_last(void); // the kernel's highest, at most 63
uint64_t caps_docker_default(void); // the fourteen that Docker grants
uint64_t caps_all(void);

struct caps_sets {
    uint64_t bounding, effective, permitted, inheritable, ambient;
};
// What the calling thread has.
int caps_get(struct caps_sets *out, struct err *err);
// Drops everything outside `bounding` from the bounding set. Needs CAP_SETPCAP; bits we lack already are no error.
int caps_drop_bounding(uint64_t bounding, struct err *err);
// Sets the other four (ambient last). Bits the caller does not have are silently left out of permitted and effective:
// a daemon without CAP_SYS_RESOURCE starts containers without it.
int caps_set(const struct caps_sets *sets, struct err *err);

#endif
