#include <linux/audit.h>

#include "kernel/syscalls.h"

#ifndef AUDIT_ARCH_LOONGARCH64
#define AUDIT_ARCH_LOONGARCH64 (258 | __AUDIT_ARCH_64BIT | __AUDIT_ARCH_LE)
#endif
#define X32_BASE 0x40000000U

// clang-format off
static const struct syscall_arch archs[] = {
    { "SCMP_ARCH_X86_64", "amd64", AUDIT_ARCH_X86_64, SYSCALL_X86_64, 0, true, false, -1, -1 },
    { "SCMP_ARCH_X86", "x86", AUDIT_ARCH_I386, SYSCALL_X86, 0, false, false, 102, 117 },
    { "SCMP_ARCH_X32", "x32", AUDIT_ARCH_X86_64, SYSCALL_X32, X32_BASE, true, false, -1, -1 },
    { "SCMP_ARCH_ARM", "arm", AUDIT_ARCH_ARM, SYSCALL_ARM, 0, false, false, -1, -1 },
    { "SCMP_ARCH_AARCH64", "arm64", AUDIT_ARCH_AARCH64, SYSCALL_AARCH64, 0, true, false, -1, -1 },
    { "SCMP_ARCH_LOONGARCH64", "loongarch64", AUDIT_ARCH_LOONGARCH64, SYSCALL_LOONGARCH64, 0, true, false, -1, -1 },
    { "SCMP_ARCH_MIPS", "mips", AUDIT_ARCH_MIPS, SYSCALL_MIPS, 4000, false, true, 4102, 4117 },
    { "SCMP_ARCH_MIPSEL", "mipsel", AUDIT_ARCH_MIPSEL, SYSCALL_MIPS, 4000, false, false, 4102, 4117 },
    { "SCMP_ARCH_MIPS64", "mips64", AUDIT_ARCH_MIPS64, SYSCALL_MIPS64, 5000, true, true, -1, -1 },
    { "SCMP_ARCH_MIPSEL64", "mipsel64", AUDIT_ARCH_MIPSEL64, SYSCALL_MIPS64, 5000, true, false, -1, -1 },
    { "SCMP_ARCH_MIPS64N32", "mips64n32", AUDIT_ARCH_MIPS64N32, SYSCALL_MIPS64N32, 6000, false, true, -1, -1 },
    { "SCMP_ARCH_MIPSEL64N32", "mipsel64n32", AUDIT_ARCH_MIPSEL64N32, SYSCALL_MIPS64N32, 6000, false, false, -1, -1 },
    { "SCMP_ARCH_PPC", "ppc", AUDIT_ARCH_PPC, SYSCALL_PPC, 0, false, true, 102, 117 },
    { "SCMP_ARCH_PPC64", "ppc64", AUDIT_ARCH_PPC64, SYSCALL_PPC64, 0, true, true, 102, 117 },
    { "SCMP_ARCH_PPC64LE", "ppc64le", AUDIT_ARCH_PPC64LE, SYSCALL_PPC64, 0, true, false, 102, 117 },
    { "SCMP_ARCH_RISCV64", "riscv64", AUDIT_ARCH_RISCV64, SYSCALL_RISCV64, 0, true, false, -1, -1 },
    { "SCMP_ARCH_S390", "s390", AUDIT_ARCH_S390, SYSCALL_S390, 0, false, true, 102, 117 },
    { "SCMP_ARCH_S390X", "s390x", AUDIT_ARCH_S390X, SYSCALL_S390X, 0, true, true, 102, 117 },
};
// clang-format on

#if defined(__x86_64__) && defined(__LP64__)
#define NATIVE "SCMP_ARCH_X86_64"
#elif defined(__i386__)
#define NATIVE "SCMP_ARCH_X86"
#elif defined(__aarch64__)
#define NATIVE "SCMP_ARCH_AARCH64"
#elif defined(__arm__)
#define NATIVE "SCMP_ARCH_ARM"
#elif defined(__loongarch64)
#define NATIVE "SCMP_ARCH_LOONGARCH64"
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
#define NATIVE "SCMP_ARCH_PPC64LE"
#elif defined(__powerpc64__)
#define NATIVE "SCMP_ARCH_PPC64"
#elif defined(__riscv) && __riscv_xlen == 64
#define NATIVE "SCMP_ARCH_RISCV64"
#elif defined(__s390x__)
#define NATIVE "SCMP_ARCH_S390X"
#elif defined(__mips64) && defined(__MIPSEL__)
#define NATIVE "SCMP_ARCH_MIPSEL64"
#elif defined(__mips64)
#define NATIVE "SCMP_ARCH_MIPS64"
#else
#define NATIVE ""
#endif

const struct syscall_arch *syscall_archs(size_t *len)
{
    *len = ARRAY_LEN(archs);
    return archs;
}

const struct syscall_arch *syscall_arch_find(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(archs); i++)
        if (slice_eq(name, archs[i].name))
            return &archs[i];
    return NULL;
}

const struct syscall_arch *syscall_arch_native(void)
{
    return syscall_arch_find(slice_of(NATIVE));
}

static int compare(const void *key, const void *item)
{
    const struct slice *name = key;
    const struct syscall_row *row = item;
    int order = strncmp(name->data, row->name, name->size);
    return order ? order : row->name[name->size] ? -1 : 0;
}

const struct syscall_row *syscall_find(struct slice name)
{
    return name.size == 0 || memchr(name.data, '\0', name.size)
               ? NULL
               : bsearch(&name, syscall_rows, syscall_row_len, sizeof(*syscall_rows), compare);
}

int64_t syscall_number(const struct syscall_arch *arch, const struct syscall_row *row)
{
    int32_t number = row->numbers[arch->column];
    return number < 0 ? -1 : (int64_t)number + arch->base;
}
