// Seccomp profiles as programs for the kernel's filter: Docker's default, Docker's profile files (--security-opt
// seccomp=FILE) and the runtime-spec's linux.seccomp. All depend on the capabilities that the container is granted:
// some calls come with a capability.
#ifndef SANDBOX_SECCOMP_H
#define SANDBOX_SECCOMP_H

#include <jansson.h>

#include "kernel/filter.h"
#include "kernel/syscalls.h"

// `caps` is the bounding set. not_implemented on an architecture that has no table.
int seccomp_default_profile(uint64_t caps, struct filter_program *out, struct err *err);

// A profile in either form; the forms differ in that only Docker's has archMap, includes, excludes and `name`.
// - out->len is 0 when the profile neither names a default action nor any call: no filter is wanted.
// - Calls whose name no architecture knows are passed over, as by runc. Where the default action forbids, a call
//   newer than all that the profile names is ENOSYS instead, as by runc, unless defaultErrnoRet is ENOSYS anyway.
// - out->flags has what the profile's `flags` say (SPEC_ALLOW when it says nothing), and
//   SECCOMP_FILTER_FLAG_NEW_LISTENER when an action is SCMP_ACT_NOTIFY: load it with filter_load_listener(). Where
//   the listener goes (listenerPath, listenerMetadata) is for the caller to read.
// - A value beyond 2^63-1 is refused: JSON numbers end there. invalid_argument names the action, operator,
//   architecture, flag or call that is wrong, in runc's words.
int seccomp_compile(json_t *profile, uint64_t caps, struct filter_program *out, struct err *err);
int seccomp_compile_text(const char *text, size_t size, uint64_t caps, struct filter_program *out, struct err *err);

// The words that profiles may use, for `features`: the index-th of its kind, NULL behind the last.
enum seccomp_word { SECCOMP_ACTIONS, SECCOMP_OPERATORS, SECCOMP_ARCHITECTURES, SECCOMP_FLAGS };
const char *seccomp_word(enum seccomp_word kind, size_t index);
// Flags that this kernel takes.
bool seccomp_flag_supported(const char *flag);

// The default profile's rows.
enum seccomp_call_rule { SECCOMP_PLAIN, SECCOMP_SOCKET, SECCOMP_PERSONALITY, SECCOMP_CLONE, SECCOMP_ENOSYS };
struct seccomp_call {
    char name[SYSCALL_NAME_MAX];
    uint64_t caps; // 0: always; else with any of these
    uint8_t rule; // enum seccomp_call_rule
};
const struct seccomp_call *seccomp_calls(size_t *len);

#endif
