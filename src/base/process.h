// Child processes. A pid that lives across a wait travels with its pidfd. Started by posix_spawn: nothing of ours runs
// between fork and exec.
#ifndef BASE_PROCESS_H
#define BASE_PROCESS_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/fd.h"

struct process {
    pid_t pid; // 0 when none
    int pidfd; // -1 when none
};

#define PROCESS_NONE { 0, -1 }

#define PROCESS_KEEP_MAX 16

// The child has these descriptors, and no others as long as all of ours are CLOEXEC: a program marks at its start what it
// inherited. They stay the caller's.
struct process_io {
    int in, out, error; // -1 is /dev/null; STDERR_FILENO passes ours on
    const int *keep; // further descriptors the child sees as 3, 4, 5, ... in this order; PROCESS_KEEP_MAX at most
    size_t keep_len;
};

// `path` is executed without a PATH search; `exe_fd` >= 0 instead executes that descriptor (a sealed memfd), and `path`
// only names it in errors. The child starts with no signal blocked or ignored.
int process_spawn(const char *path, int exe_fd, char *const argv[], char *const envp[], const struct process_io *io,
                  struct process *out, struct err *err);
// Waits; *status as waitpid gives it. The process is gone afterwards and *process PROCESS_NONE.
int process_wait(struct process *process, int *status, struct err *err);
// The same, but not beyond `deadline_ns` of clock_mono_ns(): unavailable then, and the process is as before.
int process_wait_until(struct process *process, int64_t deadline_ns, int *status, struct err *err);
int process_exit_code(int status); // 128 + signal when killed
void process_done(struct process *process); // kills and reaps what still runs
// Runs a tool with `input` on its standard input (may be NULL), appending its output (stdout and stderr) to `output` (may
// be NULL). Fails with the tool's own first line when it exits non-zero (internal), and when its output is larger than the
// ceiling of `output` (resource_exhausted, after it ended by itself). Searches PATH; a missing tool is not_found.
char *process_find(const char *name); // where PATH has it, malloc'ed; NULL when nowhere
int process_run(char *const argv[], const char *input, struct buf *output, struct err *err);

// ---- this process ---------------------------------------------------------------------------------------------------

// After a start that ran through much more than what comes: gives back free heap, and unmaps the pages of code and constants,
// which stay in the page cache and are mapped again at the first touch. So what is resident is what is used.
void process_settle(void);

#endif
