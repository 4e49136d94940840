// What runs before the C library: the exec that gets a program which enters containers out of their reach (programs/berth-oci.c
// says why and has the last word; what goes wrong here is left to it). glibc asks the processor some forty times for its
// features and touches its own pages, 0.4 ms where a hypervisor answers, and would do so twice.
//
// Nothing is relocated here yet and there is no thread-local storage: no stack protector, no errno, no table of pointers, no
// function of another file.
#ifdef __x86_64__
#include <elf.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>

// Nor may the compiler make a loop into strlen(): that is a pointer until it is relocated.
#ifdef __clang__
#define BEFORE_LIBC __attribute__((no_stack_protector, no_builtin, no_sanitize("address", "undefined")))
#else
#define BEFORE_LIBC __attribute__((no_stack_protector, optimize("no-tree-loop-distribute-patterns"), no_sanitize("address", "undefined")))
#endif

// The program's entry point (programs/meson.build names it). The stack is as the kernel has made it, and stays so.
void oci_before_libc(void);
__asm__(".text\n"
        ".globl oci_before_libc\n"
        ".type oci_before_libc, @function\n"
        "oci_before_libc:\n"
        "    endbr64\n"
        "    mov %rsp, %rdi\n"
        "    mov %rdx, %rbx\n" // for the C library's own _start
        "    mov %rsp, %rbp\n"
        "    and $-16, %rsp\n"
        "    call oci_get_out_of_reach\n"
        "    mov %rbp, %rsp\n"
        "    mov %rbx, %rdx\n"
        "    xor %ebp, %ebp\n"
        "    jmp _start\n"
        ".size oci_before_libc, .-oci_before_libc\n");

BEFORE_LIBC static long call5(long number, long a, long b, long c, long d, long e)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
    return result;
}

BEFORE_LIBC static bool starts(const char *text, const char *with, bool whole)
{
    for (; *with; text++, with++)
        if (*text != *with)
            return false;
    return !whole || *text == '\0';
}

// One too many costs an exec; one too few is found by main().
BEFORE_LIBC static bool may_enter(char **argv)
{
    for (; *argv; argv++)
        if (starts(*argv, "run", true) || starts(*argv, "create", true) || starts(*argv, "exec", true))
            return true;
    return false;
}

BEFORE_LIBC static bool by_descriptor(char **envp)
{
    while (*envp)
        envp++;
    for (const Elf64_auxv_t *at = (const Elf64_auxv_t *)(envp + 1); at->a_type != AT_NULL; at++)
        if (at->a_type == AT_EXECFN)
            return starts((const char *)at->a_un.a_val, "/dev/fd/", false);
    return true;
}

void oci_get_out_of_reach(long *stack);
BEFORE_LIBC __attribute__((used)) void oci_get_out_of_reach(long *stack)
{
    struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };
    char **argv = (char **)(stack + 1), **envp = argv + stack[0] + 1;
    if (stack[0] < 2 || !may_enter(argv) || by_descriptor(envp))
        return;
    long fd = call5(SYS_open_tree, AT_FDCWD, (long)"/proc/self/exe", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC, 0, 0);
    if (fd < 0)
        return;
    if (call5(SYS_mount_setattr, fd, (long)"", AT_EMPTY_PATH, (long)&attr, sizeof(attr)) == 0)
        call5(SYS_execveat, fd, (long)"", (long)argv, (long)envp, AT_EMPTY_PATH);
    call5(SYS_close, fd, 0, 0, 0, 0);
}
#endif
