// A compiler for seccomp filters: spans of system call numbers with their actions, per architecture, become one cBPF
// program that searches them like a binary tree. A whole Docker profile is some 250 instructions, built in microseconds;
// the kernel reads about eight of them per call.
#ifndef KERNEL_FILTER_H
#define KERNEL_FILTER_H

#include <linux/filter.h>
#include <linux/seccomp.h>

#include "base/err.h"

// What happens: SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO | number, SECCOMP_RET_KILL_PROCESS, or a look at an argument.
#define FILTER_ERRNO(number) (SECCOMP_RET_ERRNO | (uint32_t)(number))
#define FILTER_CHECK(index) (0x12340000U | (uint32_t)(index)) // none of the kernel's actions

struct filter_span {
    uint32_t first, last; // both included
    uint32_t action;
};

// One argument, as a 32-bit value; anything in its upper half takes `otherwise` (unless only masked bits count).
struct filter_check {
    unsigned arg; // 0..5
    uint32_t mask; // != 0: SECCOMP_RET_ALLOW when none of these bits is set, else `otherwise`; spans are not used
    const struct filter_span *spans; // sorted
    size_t span_len;
    uint32_t otherwise; // for values outside all spans
};

struct filter_arch {
    uint32_t audit_arch; // AUDIT_ARCH_*
    uint32_t ignored_bits; // cleared from the number before the search (the x32 bit)
    struct filter_span *spans; // any order, never overlapping; sorted by filter_compile()
    size_t span_len;
    uint32_t otherwise;
};

#define FILTER_MAX 2048 // instructions; the kernel takes 4,096

struct filter_program {
    struct sock_filter code[FILTER_MAX];
    size_t len;
};

// A call by an architecture that is not listed kills the process.
int filter_compile(const struct filter_arch *arches, size_t arch_len, const struct filter_check *checks,
                   size_t check_len, struct filter_program *out, struct err *err);
// What the program does with a call; for tests. UINT32_MAX when it is malformed.
uint32_t filter_run(const struct filter_program *program, const struct seccomp_data *data);
// Loads it for the calling thread. Needs no_new_privs or CAP_SYS_ADMIN.
int filter_load(const struct filter_program *program, struct err *err);

#endif
