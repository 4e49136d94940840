// Docker's default seccomp profile, as a program for the kernel's filter. It depends on the capabilities that the
// container is granted: some calls come with a capability.
#ifndef SANDBOX_SECCOMP_H
#define SANDBOX_SECCOMP_H

#include "kernel/filter.h"

// `caps` is the bounding set. not_implemented on an architecture that has no table yet.
int seccomp_default_profile(uint64_t caps, struct filter_program *out, struct err *err);

// The profile's rows, for tests against another source of the numbers.
struct seccomp_call {
    const char *name;
    int16_t x86_64, i386, x32; // -1: has none; x32 only where its number is one of its own
    uint64_t caps; // 0: always; else with any of these
    uint8_t rule; // enum seccomp_rule
};
enum seccomp_rule { SECCOMP_PLAIN, SECCOMP_SOCKET, SECCOMP_PERSONALITY, SECCOMP_CLONE, SECCOMP_ENOSYS };
const struct seccomp_call *seccomp_calls(size_t *len);

#endif
