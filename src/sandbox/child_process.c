#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "kernel/path.h"
#include "plan.h"

int op_user(struct child *child, const struct op *op, struct err *err)
{
    const struct sandbox_plan *plan = child->plan;
    if (user_find(child->root_fd, &plan->user, &child->user, err) < 0)
        return -1;
    if (plan->needs_home) {
        snprintf(child->home_env, sizeof(child->home_env), "HOME=%s", child->user.home);
        plan->envp[plan->env_len] = child->home_env; // the child's copy of the array
    }
    return 0;
}

int op_make_cwd(struct child *child, const struct op *op, struct err *err)
{
    _cleanup_close_ int fd = path_make_dir(child->root_fd, op->path, 0755, err);
    if (fd >= 0)
        return 0;
    return err->number == ENOTDIR ? err_set(err, ERR_INTERNAL, "Cannot mkdir: %s is not a directory", op->path)
                                  : err_wrap(err, "make working directory %s", op->path);
}

int op_cwd(struct child *child, const struct op *op, struct err *err)
{
    _cleanup_close_ int fd = path_open(child->root_fd, op->path, false, err);
    if (fd < 0 || fchdir(fd) < 0)
        return err_errno(err, fd < 0 ? err->number : errno, "chdir to cwd (\"%s\") set in config.json failed", op->path);
    // A working directory outside the root shows as "(unreachable)...": a leaked descriptor must never get this far.
    char where[PATH_MAX];
    if (syscall(SYS_getcwd, where, sizeof(where)) < 0)
        return err_errno(err, errno, "getcwd");
    return where[0] == '/' ? 0 : err_set(err, ERR_PERMISSION_DENIED, "working directory %s is outside of the container", op->path);
}

static int move_fd(int from, int to, int flags, struct err *err)
{
    return dup3(from, to, flags) < 0 ? err_errno(err, errno, "dup") : 0;
}

// Above all numbers that are given out, so that no move hits a source; what is left there is closed with the rest.
static int lift_fd(int *fd, int above, struct err *err)
{
    int copy = *fd < 0 ? -1 : fcntl(*fd, F_DUPFD_CLOEXEC, above);
    if (*fd >= 0 && copy < 0)
        return err_errno(err, errno, "dup");
    *fd = copy;
    return 0;
}

// What remains: 0, 1, 2, what is passed on from 3, then what is ours until the exec: the parent's socket, the init, the start
// fifo and the report.
int op_close(struct child *child, const struct op *op, struct err *err)
{
    int next = 3 + (int)child->plan->keep_len, above = next + 4;
    child->init_fd = child->plan->init_fd;
    child->start_fd = child->plan->start_fd;
    child->report_fd = child->plan->report_fd;
    int *ours[] = { &child->sock, &child->init_fd, &child->start_fd, &child->report_fd };
    for (size_t i = 0; i < ARRAY_LEN(ours); i++)
        if (lift_fd(ours[i], above, err) < 0)
            return -1;
    for (int i = 0; i < next - 3; i++) {
        if (lift_fd(&child->passed_fds[i], above, err) < 0)
            return -1;
    }
    for (int i = 0; i < next - 3; i++) {
        if (child->passed_fds[i] < 0)
            close(3 + i); // a hole: what has the number is not for the process
        else if (move_fd(child->passed_fds[i], 3 + i, 0, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
        if (*ours[i] < 0)
            continue;
        if (move_fd(*ours[i], next, O_CLOEXEC, err) < 0)
            return -1;
        *ours[i] = next++;
    }
    child->root_fd = child->slave_fd = child->slave_fd >= 0 ? 0 : -1; // only "is there one" still matters
    return close_range((unsigned)next, ~0U, 0) == 0 ? 0 : err_errno(err, errno, "close_range");
}

int op_rlimit(struct child *child, const struct op *op, struct err *err)
{
    const struct plan_rlimit *limit = &child->plan->rlimits[op->index];
    struct rlimit64 wanted = { .rlim_cur = limit->soft, .rlim_max = limit->hard }, now;
    if (prlimit64(0, limit->resource, &wanted, NULL) == 0)
        return 0;
    if (child->plan->strict)
        return err_errno(err, errno, "error setting rlimit type %d", limit->resource);
    if (errno != EPERM || prlimit64(0, limit->resource, NULL, &now) < 0)
        return err_errno(err, errno, "setrlimit");
    // Without CAP_SYS_RESOURCE nobody gets above the hard limit: as far as it goes.
    wanted.rlim_max = MIN_OF(wanted.rlim_max, now.rlim_max);
    wanted.rlim_cur = MIN_OF(wanted.rlim_cur, wanted.rlim_max);
    return prlimit64(0, limit->resource, &wanted, NULL) == 0 ? 0 : err_errno(err, errno, "setrlimit");
}

int op_no_new_privs(struct child *child, const struct op *op, struct err *err)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? 0 : err_errno(err, errno, "prctl");
}

int op_seccomp(struct child *child, const struct op *op, struct err *err)
{
    const struct filter_program *filter = child->plan->filter;
    if (!(filter->flags & SECCOMP_FILTER_FLAG_NEW_LISTENER))
        return filter_load(filter, err);
    _cleanup_close_ int listener = filter_load_listener(filter, err);
    return listener < 0 ? -1 : child_stage(child, SANDBOX_STAGE_LISTENER, listener, err);
}

static int set_ids(const struct user_found *user, bool keep_groups, struct err *err)
{
    // By system call: glibc's wrappers would look for other threads of a process that has been cloned without them.
    if (syscall(SYS_setgroups, user->group_len, user->groups) < 0 && !(keep_groups && errno == EPERM))
        return err_errno(err, errno, "setgroups");
    if (syscall(SYS_setresgid, user->gid, user->gid, user->gid) < 0)
        return err_errno(err, errno, "set gid %u", user->gid);
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
        return err_errno(err, errno, "keep capabilities");
    if (syscall(SYS_setresuid, user->uid, user->uid, user->uid) < 0)
        return err_errno(err, errno, "set uid %u", user->uid);
    if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
        return err_errno(err, errno, "keep capabilities");
    return 0;
}

int op_identity(struct child *child, const struct op *op, struct err *err)
{
    const struct sandbox_plan *plan = child->plan;
    struct caps_sets caps = plan->caps;
    if (child->user.uid != 0)
        caps.permitted = caps.effective = caps.ambient; // what a user other than root holds, it holds by inheritance
    if (caps_drop_bounding(caps.bounding, err) < 0 || set_ids(&child->user, plan->keep_groups, err) < 0)
        return -1;
    // The change of uid has emptied the effective set; caps_set() raises what is due from the kept permitted one.
    if (caps_set(&caps, err) < 0)
        return -1;
    umask(plan->has_umask ? plan->umask : 0022);
    // Late, because a change of ids clears it. A parent that died before is noticed in op_ready().
    if (plan->die_with_parent && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
        return err_errno(err, errno, "parent death signal");
    return 0;
}

int op_ready(struct child *child, const struct op *op, struct err *err)
{
    char word = 0;
    if (child_send(child, MESSAGE_READY, NULL, -1) < 0 || fd_read_full(child->sock, &word, 1, NULL) != 1)
        _exit(127); // the parent is gone or does not want us any more
    child->started = child->start_fd >= 0; // its word was that it leaves: another one says "start"
    if (child->started && fd_read_full(child->start_fd, &word, 1, NULL) != 1)
        _exit(127);
    return 0;
}

// ---- exec -----------------------------------------------------------------------------------------------------------

static int command_error(struct err *err, const char *command, int number)
{
    if (number == EISDIR || number == EPERM)
        number = EACCES;
    return err_errno(err, number, "exec: \"%s\"", command);
}

static bool executable(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && !S_ISDIR(st.st_mode) && faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0;
}

static const char *path_of(char *const *envp)
{
    for (; *envp; envp++)
        if (str_starts(*envp, "PATH="))
            return *envp + 5;
    return "";
}

// The command as the container's own PATH finds it, in `out`; relative entries are skipped, as in a shell that is careful.
static int search(const char *command, char *const *envp, char out[PATH_MAX], struct err *err)
{
    const char *rest = path_of(envp);
    while (*rest) {
        size_t size = strcspn(rest, ":");
        int wrote = snprintf(out, PATH_MAX, "%.*s/%s", (int)size, rest, command);
        if (rest[0] == '/' && wrote > 0 && wrote < PATH_MAX && executable(out))
            return 0;
        rest += size + (rest[size] == ':');
    }
    return err_set(err, ERR_NOT_FOUND, "exec: \"%s\": executable file not found in $PATH", command);
}

static int locate(const char *command, char *const *envp, char out[PATH_MAX], struct err *err)
{
    if (!strchr(command, '/'))
        return search(command, envp, out, err);
    struct stat st;
    if (strlen(command) >= PATH_MAX)
        return command_error(err, command, ENAMETOOLONG);
    if (stat(command, &st) < 0)
        return err_errno(err, errno, "exec: \"%s\": stat %s", command, command);
    if (S_ISDIR(st.st_mode) || faccessat(AT_FDCWD, command, X_OK, AT_EACCESS) < 0)
        return command_error(err, command, EACCES);
    memcpy(out, command, strlen(command) + 1);
    return 0;
}

int child_find_command(struct child *child, struct err *err)
{
    child->found = locate(child->plan->command, child->plan->envp, child->command, err) == 0;
    return child->found ? 0 : -1;
}

int op_exec(struct child *child, const struct op *op, struct err *err)
{
    const struct sandbox_plan *plan = child->plan;
    if (child->init_fd >= 0) {
        // Before it has its own way with them a signal to the first process would be dropped: so all wait.
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        syscall(SYS_execveat, child->init_fd, "", plan->argv, plan->envp, AT_EMPTY_PATH);
        return err_errno(err, errno, "exec init");
    }
    if (!child->found && child_find_command(child, err) < 0)
        return -1;
    execve(child->command, plan->argv, plan->envp);
    return command_error(err, plan->command, errno);
}
