// Rules by name on their way to a filter: what a profile says, before architectures give the names their numbers.
#ifndef SANDBOX_SECCOMP_RULES_H
#define SANDBOX_SECCOMP_RULES_H

#include "kernel/filter.h"
#include "kernel/syscalls.h"

#define SECCOMP_RULES_MAX 4096
#define SECCOMP_ARCHS_MAX 32

struct seccomp_rule {
    const struct syscall_row *row;
    struct filter_rule match; // without conditions: always
};

struct seccomp_rules {
    uint32_t default_action;
    bool newer_is_enosys; // a number above all that the rules name on an architecture is ENOSYS there
    const struct syscall_arch *archs[SECCOMP_ARCHS_MAX];
    size_t arch_len;
    struct seccomp_rule *rules;
    size_t len, capacity;
};

void seccomp_rules_done(struct seccomp_rules *rules);
// An architecture that is there already is not added again.
void seccomp_rules_add_arch(struct seccomp_rules *rules, const struct syscall_arch *arch);
int seccomp_rules_add(struct seccomp_rules *rules, const struct syscall_row *row, const struct filter_rule *match,
                      struct err *err);
// As libseccomp has it: a rule whose action is the default's says nothing; of several rules for one call the first
// without conditions decides alone; else the first whose conditions hold. Sockets and System V IPC are also meant
// where they stand behind socketcall and ipc.
int seccomp_rules_compile(const struct seccomp_rules *rules, struct filter_program *out, struct err *err);

#endif
