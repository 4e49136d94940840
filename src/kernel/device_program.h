// The device rules of a cgroup2 group. v1 had files for them; here an eBPF program on the group answers for each open and
// mknod. Rules mean what they mean to v1: applied in order, "a" starts anew with everything allowed or denied, what agrees
// with that start takes exceptions of the same device back, what differs is an exception. An allowed exception must cover
// the whole access that is asked for; a denied one bites when it has any part of it.
#ifndef KERNEL_DEVICE_PROGRAM_H
#define KERNEL_DEVICE_PROGRAM_H

#include <linux/bpf.h>

#include "kernel/cgroup.h"

#define DEVICE_RULES_MAX 256
#define DEVICE_PROGRAM_MAX (8 + 8 * DEVICE_RULES_MAX)

struct device_program {
    struct bpf_insn code[DEVICE_PROGRAM_MAX];
    size_t len;
};

// Fails with invalid_argument on a rule that makes no sense, with resource_exhausted on too many.
int device_program_compile(const struct cgroup_device_rule *rules, size_t rule_len, struct device_program *out,
                           struct err *err);
// Loads it and puts it on the group whose folder (O_PATH) is `dir_fd`, in the place of an earlier one.
int device_program_attach(const struct device_program *program, int dir_fd, struct err *err);

#endif
