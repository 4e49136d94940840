// A compiler for seccomp filters: spans of system call numbers with their actions, per architecture, become one cBPF
// program that searches them like a balanced tree; calls whose arguments count lead to checks behind the trees. A whole
// Docker profile is some 300 instructions, built in microseconds; the kernel reads about ten of them per call.
#ifndef KERNEL_FILTER_H
#define KERNEL_FILTER_H

#include <linux/filter.h>
#include <linux/seccomp.h>

#include "base/err.h"

// What happens: SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO | number, SECCOMP_RET_KILL_PROCESS, or a look at the arguments.
#define FILTER_ERRNO(number) (SECCOMP_RET_ERRNO | (uint32_t)(number))
#define FILTER_CHECK(index) (0x12340000U | (uint32_t)(index)) // none of the kernel's actions
#define FILTER_CHECKS_MAX 65536

struct filter_span {
    uint32_t first, last; // both included
    uint32_t action;
};

// Comparisons are unsigned.
enum filter_compare { FILTER_NE, FILTER_LT, FILTER_LE, FILTER_EQ, FILTER_GE, FILTER_GT, FILTER_MASKED_EQ };

struct filter_condition {
    uint8_t arg; // 0..5
    uint8_t compare; // enum filter_compare
    uint64_t value;
    uint64_t mask; // MASKED_EQ: (argument & mask) == (value & mask)
};

#define FILTER_CONDITIONS_MAX 6

struct filter_rule {
    struct filter_condition conditions[FILTER_CONDITIONS_MAX]; // all must hold
    size_t len;
    uint32_t action; // of the kernel's
};

// The first rule that holds decides.
struct filter_check {
    const struct filter_rule *rules;
    size_t rule_len;
    uint32_t otherwise;
    bool wide; // arguments have 64 bits; else only the lower 32 of argument and value count
    bool big_endian;
};

struct filter_arch {
    uint32_t audit_arch; // AUDIT_ARCH_*, each at most once
    struct filter_span *spans; // any order, never overlapping; sorted by filter_compile()
    size_t span_len;
    uint32_t otherwise;
};

#define FILTER_MAX BPF_MAXINSNS // instructions; the kernel takes no more

struct filter_program {
    struct sock_filter code[FILTER_MAX];
    size_t len;
    unsigned flags; // SECCOMP_FILTER_FLAG_*, for filter_load(); filter_compile() leaves them alone
};

// `foreign` is what a call by an architecture that is not listed gets.
int filter_compile(const struct filter_arch *arches, size_t arch_len, const struct filter_check *checks,
                   size_t check_len, uint32_t foreign, struct filter_program *out, struct err *err);
// What the program does with a call; for tests. UINT32_MAX when it is malformed.
uint32_t filter_run(const struct filter_program *program, const struct seccomp_data *data);

// Loads it for the calling thread. Needs no_new_privs or CAP_SYS_ADMIN. A program with SECCOMP_FILTER_FLAG_NEW_LISTENER
// has a listener, which filter_load() would lose and therefore refuses; filter_load_listener() returns its descriptor.
int filter_load(const struct filter_program *program, struct err *err);
int filter_load_listener(const struct filter_program *program, struct err *err);

#endif
