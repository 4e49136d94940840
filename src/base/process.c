#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/process.h"
#include "base/slice.h"

extern char **environ;

enum { FIRST_KEPT = 3, HIGH = 64 };
_Static_assert(FIRST_KEPT + PROCESS_KEEP_MAX < HIGH, "the numbers of the child lie below the copies");

// ---- spawning -------------------------------------------------------------------------------------------------------

// Copies of everything the child gets, high above the numbers they are moved to, so that no move hits a source.
struct plan {
    int high[FIRST_KEPT + PROCESS_KEEP_MAX + 1]; // and the program
    size_t len;
};

static void plan_done(struct plan *plan)
{
    for (size_t i = 0; i < plan->len; i++)
        fd_close(plan->high[i]);
}

static int lift(struct plan *plan, int fd, struct err *err)
{
    int high = fd < 0 ? open("/dev/null", O_RDWR | O_CLOEXEC) : fd;
    int copy = high < 0 ? -1 : fcntl(high, F_DUPFD_CLOEXEC, HIGH);
    int number = errno;
    if (fd < 0)
        fd_close(high);
    if (copy < 0)
        return err_errno(err, number, "descriptor for a child");
    plan->high[plan->len++] = copy;
    return copy;
}

static int plan_descriptors(struct plan *plan, const struct process_io *io, posix_spawn_file_actions_t *actions,
                            struct err *err)
{
    const int standard[] = { io->in, io->out, io->error };
    if (io->keep_len > PROCESS_KEEP_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "%zu descriptors for one child", io->keep_len);
    for (int i = 0; i < FIRST_KEPT + (int)io->keep_len; i++) {
        int source = i < FIRST_KEPT ? standard[i] : io->keep[i - FIRST_KEPT];
        int copy = lift(plan, source, err);
        if (copy < 0)
            return -1;
        posix_spawn_file_actions_adddup2(actions, copy, i);
    }
    return 0;
}

static void plan_signals(posix_spawnattr_t *attributes)
{
    sigset_t none, all;
    sigemptyset(&none);
    memset(&all, 0xff, sizeof(all)); // sigfillset() leaves out the C library's own two, which then start ignored
    posix_spawnattr_setsigmask(attributes, &none);
    posix_spawnattr_setsigdefault(attributes, &all);
    posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

static int open_pidfd(pid_t pid, struct process *out, struct err *err)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) {
        int number = errno;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return err_errno(err, number, "pidfd_open");
    }
    *out = (struct process){ pid, pidfd };
    return 0;
}

int process_spawn(const char *path, int exe_fd, char *const argv[], char *const envp[], const struct process_io *io,
                  struct process *out, struct err *err)
{
    _cleanup_(plan_done) struct plan plan = { .len = 0 };
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    char exe[64];
    pid_t pid = 0;
    int failed = 0, exe_high = -1;

    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    plan_signals(&attributes);
    int result = plan_descriptors(&plan, io, &actions, err);
    if (result == 0 && exe_fd >= 0) {
        exe_high = lift(&plan, exe_fd, err);
        result = exe_high < 0 ? -1 : 0;
        snprintf(exe, sizeof(exe), "/proc/self/fd/%d", exe_high);
    }
    if (result == 0)
        failed = posix_spawn(&pid, exe_fd >= 0 ? exe : path, &actions, &attributes, argv, envp);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (result < 0)
        return -1;
    return failed ? err_errno(err, failed, "run %s", path ? path : argv[0]) : open_pidfd(pid, out, err);
}

// ---- ending ---------------------------------------------------------------------------------------------------------

int process_wait(struct process *process, int *status, struct err *err)
{
    pid_t got;
    if (process->pid <= 0) // waitpid would take any child
        return err_set(err, ERR_INVALID_ARGUMENT, "no process to wait for");
    do
        got = waitpid(process->pid, status, 0);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return err_errno(err, errno, "wait for process %d", process->pid);
    fd_close(process->pidfd);
    *process = (struct process)PROCESS_NONE;
    return 0;
}

int process_wait_until(struct process *process, int64_t deadline_ns, int *status, struct err *err)
{
    struct pollfd end = { .fd = process->pidfd, .events = POLLIN };
    int ready;
    do {
        int64_t left = MAX_OF(deadline_ns - clock_mono_ns(), INT64_C(0));
        const struct timespec timeout = { .tv_sec = left / NS_PER_S, .tv_nsec = left % NS_PER_S };
        ready = ppoll(&end, 1, &timeout, NULL);
    } while (ready < 0 && errno == EINTR);
    if (ready < 0)
        return err_errno(err, errno, "wait for process %d", process->pid);
    if (ready == 0)
        return err_set(err, ERR_UNAVAILABLE, "process %d does not end", process->pid);
    return process_wait(process, status, err);
}

int process_exit_code(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void process_done(struct process *process)
{
    int status;
    if (process->pid <= 0)
        return;
    syscall(SYS_pidfd_send_signal, process->pidfd, SIGKILL, NULL, 0);
    process_wait(process, &status, NULL);
}

// ---- running a tool -------------------------------------------------------------------------------------------------

char *process_find(const char *name)
{
    const char *path = getenv("PATH");
    struct slice rest = slice_of(path ? path : "/usr/sbin:/usr/bin:/sbin:/bin"), folder;
    if (strchr(name, '/'))
        return mem_strdup(name);
    while (slice_cut(&rest, ':', &folder)) {
        if (folder.size == 0) // the working folder by convention; not for a daemon
            continue;
        char *candidate = mem_printf("%.*s/%s", (int)folder.size, folder.data, name);
        if (access(candidate, X_OK) == 0)
            return candidate;
        free(candidate);
    }
    return NULL;
}

// Keeps what fits: the first line must survive for the error even when the whole is too large.
static void collect(struct buf *output, const char *chunk, size_t size)
{
    size_t fits = MIN_OF(size, output->ceiling - MIN_OF(output->size, output->ceiling));
    buf_add(output, chunk, fits);
    if (fits < size)
        output->overflow = true;
}

// One step of feeding; false when the tool wants no more. Its exit code tells whether that was right.
static bool feed_some(int feed, struct slice *left)
{
    ssize_t n = fd_write_some(feed, left->data, left->size);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    *left = (struct slice){ left->data + n, left->size - (size_t)n };
    return left->size > 0;
}

// Feeds the input while collecting the output: neither pipe may fill up while we wait on the other. Takes `in`.
static int exchange(int in, const char *input, int out, struct buf *output, struct err *err)
{
    _cleanup_close_ int feed = in;
    struct slice left = slice_of(input);
    char chunk[4096];
    if (fd_set_nonblock(feed, true, err) < 0)
        return -1;
    if (left.size == 0)
        fd_close(take_fd(&feed));
    for (;;) {
        struct pollfd fds[] = { { out, POLLIN, 0 }, { feed, POLLOUT, 0 } };
        if (poll(fds, ARRAY_LEN(fds), -1) < 0) {
            if (errno == EINTR)
                continue;
            return err_errno(err, errno, "poll");
        }
        if (fds[1].revents && !feed_some(feed, &left))
            fd_close(take_fd(&feed));
        if (!fds[0].revents)
            continue;
        ssize_t n = read(out, chunk, sizeof(chunk));
        if (n > 0)
            collect(output, chunk, (size_t)n);
        else if (n == 0 || errno != EINTR)
            return n == 0 ? 0 : err_errno(err, errno, "read");
    }
}

static int tell_failure(const char *tool, int code, const char *text, struct err *err)
{
    struct slice rest = slice_of(text), line = { 0 };
    while (line.size == 0 && slice_cut(&rest, '\n', &line))
        line = slice_trim(line);
    return err_set(err, ERR_INTERNAL, "%s: exit code %d%s%.*s", tool, code, line.size ? ": " : "", (int)line.size,
                   line.size ? line.data : "");
}

static int run_found(const char *path, char *const argv[], const char *input, struct buf *output, struct err *err)
{
    int in[2], out[2];
    if (fd_pipe(in, err) < 0)
        return -1;
    _cleanup_close_ int in_child = in[0], in_ours = in[1];
    if (fd_pipe(out, err) < 0)
        return -1;
    _cleanup_close_ int out_ours = out[0], out_child = out[1];
    _cleanup_(process_done) struct process process = PROCESS_NONE;
    const struct process_io io = { in_child, out_child, out_child, NULL, 0 };
    if (process_spawn(path, -1, argv, environ, &io, &process, err) < 0)
        return -1;
    fd_close(take_fd(&in_child));
    fd_close(take_fd(&out_child));
    size_t before = output->size;
    int status = 0;
    if (exchange(take_fd(&in_ours), input, out_ours, output, err) < 0 || process_wait(&process, &status, err) < 0)
        return -1;
    int code = process_exit_code(status);
    return code ? tell_failure(argv[0], code, buf_text(output) + before, err) : 0;
}

int process_run(char *const argv[], const char *input, struct buf *output, struct err *err)
{
    _cleanup_free_ char *path = process_find(argv[0]);
    _cleanup_buf_ struct buf unwanted = BUF_INIT(4096);
    if (!path)
        return err_set(err, ERR_NOT_FOUND, "%s: not found in PATH", argv[0]);
    if (run_found(path, argv, input ? input : "", output ? output : &unwanted, err) < 0)
        return -1;
    return output ? buf_check(output, argv[0], err) : 0;
}

// ---- this process ---------------------------------------------------------------------------------------------------

// Segments that can't be written hold nothing of their own: their pages are the file's.
static int unmap_constants(struct dl_phdr_info *object, size_t size, void *context)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        const uintptr_t start = (object->dlpi_addr + part->p_vaddr) & ~(page - 1), end = object->dlpi_addr + part->p_vaddr + part->p_memsz;
        if (part->p_type == PT_LOAD && !(part->p_flags & PF_W))
            madvise((void *)start, end - start, MADV_DONTNEED);
    }
    return 0;
}

void process_settle(void)
{
    malloc_trim(0);
    dl_iterate_phdr(unmap_constants, NULL);
}
