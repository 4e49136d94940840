// The system calls of every architecture that a seccomp profile can name: number by name, and what a filter must know
// of each architecture. Numbers come from the kernel's headers (tools/syscall-table).
#ifndef KERNEL_SYSCALLS_H
#define KERNEL_SYSCALLS_H

#include "base/slice.h"

enum syscall_column {
    SYSCALL_X86_64, SYSCALL_X86, SYSCALL_X32, SYSCALL_ARM, SYSCALL_AARCH64, SYSCALL_LOONGARCH64, SYSCALL_MIPS,
    SYSCALL_MIPS64, SYSCALL_MIPS64N32, SYSCALL_PPC, SYSCALL_PPC64, SYSCALL_RISCV64, SYSCALL_S390, SYSCALL_S390X, SYSCALL_COLUMN_COUNT,
};

// Some architectures also (or only) have these behind one call, whose first argument says which is meant.
#define SYSCALL_SOCKET(number) (number) // behind socketcall
#define SYSCALL_IPC(number) (100 + (number)) // behind ipc

#define SYSCALL_NAME_MAX 32

// The name is here and not behind a pointer: a page of pointers is written at each start, of whoever links this.
struct syscall_row {
    char name[SYSCALL_NAME_MAX];
    uint8_t behind; // 0, SYSCALL_SOCKET or SYSCALL_IPC
    int32_t numbers[SYSCALL_COLUMN_COUNT]; // -1: has none; those of mips and x32 count from their base
};

struct syscall_arch {
    const char *name; // "SCMP_ARCH_X86_64", as profiles say
    const char *go_name; // "amd64", as Docker's includes and excludes say
    uint32_t audit_arch; // AUDIT_ARCH_*; x32 shares that of x86_64
    enum syscall_column column;
    uint32_t base;
    bool wide; // arguments have 64 bits
    bool big_endian;
    int32_t socketcall, ipc; // their numbers where calls stand behind them, else -1
};

const struct syscall_arch *syscall_archs(size_t *len);
const struct syscall_arch *syscall_arch_find(struct slice name); // by SCMP_ARCH_ name; NULL: unknown
const struct syscall_arch *syscall_arch_native(void); // NULL where there is no table for what this was built for

const struct syscall_row *syscall_find(struct slice name); // NULL: unknown to all
int64_t syscall_number(const struct syscall_arch *arch, const struct syscall_row *row); // -1: has none

extern const struct syscall_row syscall_rows[]; // sorted by name
extern const size_t syscall_row_len;

#endif
