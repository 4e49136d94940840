// The system calls of each kind of thread, and why it makes them. Any other ends the process.
//
// The calls of memory, locks and signals are what the C library needs for malloc, mutexes and the end of a thread. No list has
// a call that opens a path, makes a process, a thread or an internet socket, executes, or changes rights.
#include <linux/audit.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "vmm/jail.h"

#define O (1u << MACHINE_THREAD_OWNER)
#define P (1u << MACHINE_THREAD_PROCESSOR)
#define I (1u << MACHINE_THREAD_IO)

enum check { NO_CHECK, CHECK_IOCTL, CHECK_PROT, CHECK_FCNTL, CHECK_LEN };

static const struct {
    unsigned number;
    unsigned threads;
    enum check check;
    const char *why;
} calls[] = {
    // memory and locks
    { SYS_brk, O | P | I, NO_CHECK, "malloc" },
    { SYS_mmap, O | P | I, CHECK_PROT, "malloc" },
    { SYS_mprotect, O | P | I, CHECK_PROT, "malloc: a heap of another thread grows" },
    { SYS_munmap, O | P | I, NO_CHECK, "free, and the end of a thread" },
    { SYS_mremap, O | P | I, NO_CHECK, "realloc" },
    { SYS_madvise, O | P | I, NO_CHECK, "free, and the end of a thread" },
    { SYS_futex, O | P | I, NO_CHECK, "locks and conditions" },
    // signals and ends
    { SYS_getpid, O | P | I, NO_CHECK, "pthread_kill: who is to be kicked" },
    { SYS_gettid, O | P | I, NO_CHECK, "pthread_kill: a processor that ends the machine kicks itself too" },
    { SYS_tgkill, O | P | I, NO_CHECK, "the kick that interrupts processors; abort" },
    { SYS_rt_sigreturn, O | P | I, NO_CHECK, "back from the kick's handler" },
    { SYS_rt_sigprocmask, O | P | I, NO_CHECK, "around pthread_kill, the end of a thread, writing to a pipe" },
    { SYS_rt_sigpending, O | P | I, NO_CHECK, "serial output to a pipe that has no reader" },
    { SYS_rt_sigtimedwait, O | P | I, NO_CHECK, "the same" },
    { SYS_restart_syscall, O | P | I, NO_CHECK, "a wait that a stop of the process interrupted" },
    { SYS_exit, O | P | I, NO_CHECK, "the end of a thread" },
    { SYS_exit_group, O, NO_CHECK, "the end of the process" },
    { SYS_clock_gettime, O | P | I, NO_CHECK, "where the kernel gives no clock without a call" },
    // descriptors
    { SYS_ioctl, O | P, CHECK_IOCTL, "KVM; the offloads of a tap when a driver comes or goes" },
    { SYS_read, O | I, NO_CHECK, "O: signals, the end, the wake-up; I: kicks, the tap, serial input, the wake-up" },
    { SYS_write, O | P | I, NO_CHECK, "kicks and wake-ups; serial output; O: the last words" },
    { SYS_sendto, O | P | I, NO_CHECK, "O: answers; P, I: serial output to a socket; I: vsock: asking the host for one" },
    { SYS_close, O | P | I, NO_CHECK, "O: connections, all at the end; P, I: a guest's socket that ended" },
    { SYS_epoll_wait, O | I, NO_CHECK, "their loops; I: which of a guest's sockets are ready" },
    { SYS_epoll_ctl, O | P | I, NO_CHECK, "O: connections; P: a driver came or went; I: a guest's sockets, tap, serial port" },
    { SYS_poll, O | P | I, NO_CHECK, "O: the last answers are taken; P, I: serial output has room; I: whether a socket has hung up" },
    { SYS_fcntl, O | I, CHECK_FCNTL, "new sockets don't wait" },
    // control
    { SYS_accept4, O, NO_CHECK, "control connections" },
    { SYS_recvmsg, O, NO_CHECK, "requests with descriptors; host's connections to the guest" },
    { SYS_newfstatat, O, NO_CHECK, "saving: is this an empty file? (the root folder is empty: there are no paths)" },
    { SYS_ftruncate, O, NO_CHECK, "saving: the file's size" },
    { SYS_lseek, O, NO_CHECK, "saving: where shared memory has data" },
    { SYS_pread64, O, NO_CHECK, "saving: which pages are in use" },
    // devices
    { SYS_readv, I, NO_CHECK, "vsock: into the guest's buffers" },
    { SYS_writev, I, NO_CHECK, "network: a packet of several buffers" },
    { SYS_preadv, I, NO_CHECK, "disk: read" },
    { SYS_pwritev, I, NO_CHECK, "disk: write" },
    { SYS_pwrite64, O | I, NO_CHECK, "O: saving; I: disk: write zeroes where the file system can't" },
    { SYS_fallocate, I, NO_CHECK, "disk: discard, write zeroes" },
    { SYS_fdatasync, I, NO_CHECK, "disk: flush" },
    { SYS_sendmsg, O | I, NO_CHECK, "O: control answers; I: vsock: to the host's socket" },
    { SYS_shutdown, I, NO_CHECK, "vsock: the guest closed one direction" },
    { SYS_getrandom, O | I, NO_CHECK, "I: the guest's random numbers; O: malloc" },
};

// Numbers of ioctl, sorted when the filter is made.
static const struct {
    uint32_t request;
    unsigned threads;
} ioctls[] = {
    { KVM_RUN, P },
    { KVM_GET_REGS, O | P }, // P: where the guest failed
    { TUNSETOFFLOAD, P },
    { KVM_KVMCLOCK_CTRL, O }, // resume
    { KVM_GET_SREGS, O }, // from here on: saving
    { KVM_GET_MSRS, O },
    { KVM_GET_MSR_INDEX_LIST, O },
    { KVM_GET_LAPIC, O },
    { KVM_GET_XSAVE, O },
    { KVM_GET_XSAVE2, O },
    { KVM_GET_XCRS, O },
    { KVM_GET_DEBUGREGS, O },
    { KVM_GET_VCPU_EVENTS, O },
    { KVM_GET_MP_STATE, O },
    { KVM_GET_IRQCHIP, O },
    { KVM_GET_PIT2, O },
    { KVM_GET_CLOCK, O },
    { KVM_CHECK_EXTENSION, O },
};

static struct filter_rule equals(uint8_t arg, uint64_t value)
{
    return (struct filter_rule){ .conditions = { { .arg = arg, .compare = FILTER_EQ, .value = value } }, .len = 1,
                                 .action = SECCOMP_RET_ALLOW };
}

static size_t ioctls_of(unsigned thread, struct filter_rule *out)
{
    size_t len = 0;
    for (size_t i = 0; i < ARRAY_LEN(ioctls); i++)
        if (ioctls[i].threads & thread)
            out[len++] = equals(1, ioctls[i].request);
    return len;
}

static size_t calls_of(unsigned thread, struct filter_span *out)
{
    size_t len = 0;
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        uint32_t action = calls[i].check == NO_CHECK ? SECCOMP_RET_ALLOW : FILTER_CHECK(calls[i].check - 1);
        if (calls[i].threads & thread)
            out[len++] = (struct filter_span){ calls[i].number, calls[i].number, action };
    }
    return len;
}

int jail_filter(enum machine_thread thread, struct filter_program *out, struct err *err)
{
    const struct filter_rule modes[] = { equals(1, 3 /* F_GETFL */), equals(1, 4 /* F_SETFL */) };
    const struct filter_rule not_executable = {
        .conditions = { { .arg = 2, .compare = FILTER_MASKED_EQ, .value = 0, .mask = PROT_EXEC } }, .len = 1,
        .action = SECCOMP_RET_ALLOW };
    struct filter_rule requests[ARRAY_LEN(ioctls)];
    struct filter_span spans[ARRAY_LEN(calls)];
    const struct filter_check checks[CHECK_LEN - 1] = {
        [CHECK_IOCTL - 1] = { .rules = requests, .rule_len = ioctls_of(1u << thread, requests),
                              .otherwise = SECCOMP_RET_KILL_PROCESS, .wide = true },
        [CHECK_PROT - 1] = { .rules = &not_executable, .rule_len = 1, .otherwise = SECCOMP_RET_KILL_PROCESS, .wide = true },
        [CHECK_FCNTL - 1] = { .rules = modes, .rule_len = ARRAY_LEN(modes), .otherwise = SECCOMP_RET_KILL_PROCESS, .wide = true },
    };
    const struct filter_arch arch = { .audit_arch = AUDIT_ARCH_X86_64, .spans = spans, .span_len = calls_of(1u << thread, spans),
                                      .otherwise = SECCOMP_RET_KILL_PROCESS };
    out->flags = 0;
    return filter_compile(&arch, 1, checks, ARRAY_LEN(checks), SECCOMP_RET_KILL_PROCESS, out, err);
}
