// start, kill, delete, pause, resume.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <strings.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/num.h"
#include "base/slice.h"
#include "oci/oci_private.h"

// ---- start ----------------------------------------------------------------------------------------------------------

// The child holds the fifo until it executes the process, or dies: then nobody reads it any more.
static int wait_for_exec(int fifo)
{
    struct pollfd fd = { .fd = fifo };
    while (poll(&fd, 1, -1) < 0 && errno == EINTR)
        ;
    return 0;
}

static int read_report(struct container *container, struct err *err)
{
    struct err report;
    _cleanup_close_ int fd = openat(container->dir_fd, "report", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || read(fd, &report, sizeof(report)) != sizeof(report))
        return 0;
    report.message[sizeof(report.message) - 1] = '\0';
    *err = report;
    return -1;
}

static int let_go(struct container *container, struct err *err)
{
    char word = 1;
    _cleanup_close_ int fifo = openat(container->dir_fd, "start", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (fifo < 0)
        return errno == ENXIO ? err_set(err, ERR_CONFLICT, "cannot start a container that has stopped") : err_errno(err, errno, "start fifo");
    if (unlinkat(container->dir_fd, "start", 0) < 0 || write(fifo, &word, 1) != 1)
        return err_errno(err, errno, "start fifo");
    wait_for_exec(fifo);
    return read_report(container, err);
}

static int start(struct call *call, struct container *container, struct err *err)
{
    enum status status = container_status(container);
    if (status == STATUS_STOPPED)
        return err_set(err, ERR_CONFLICT, "cannot start a container that has stopped");
    if (status == STATUS_RUNNING)
        return err_set(err, ERR_CONFLICT, "cannot start an already running container");
    if (status != STATUS_CREATED)
        return err_set(err, ERR_CONFLICT, "cannot start a container in the %s state", status_name(status));
    if (let_go(container, err) < 0 || container_load_config(container, err) < 0)
        return -1;
    if (container->config.hooks && hooks_run(container, &container->config.hooks->poststart, "poststart", STATUS_RUNNING, err) < 0) {
        container_destroy(call, container, &(struct err){ 0 });
        return -1;
    }
    return 0;
}

int verb_start(struct call *call, struct err *err)
{
    struct container container;
    int result = container_load(call, call->args.words.items[0], &container, err);
    if (result == 0 && (result = container_lock(&container, err)) == 0)
        result = start(call, &container, err);
    container_done(&container);
    return result;
}

// ---- kill -----------------------------------------------------------------------------------------------------------

static int parse_signal(const char *text, int *out, struct err *err)
{
    uint64_t number;
    if (num_parse_u64(slice_of(text), NSIG - 1, &number)) {
        *out = (int)number;
        return 0;
    }
    const char *name = strncasecmp(text, "SIG", 3) == 0 ? text + 3 : text;
    for (int sig = 1; sig < NSIG; sig++) {
        const char *known = sigabbrev_np(sig);
        if (known && strcasecmp(known, name) == 0) {
            *out = sig;
            return 0;
        }
    }
    if (str_starts(name, "RTMIN+") && num_parse_u64(slice_of(name + strlen("RTMIN+")), (uint64_t)(SIGRTMAX - SIGRTMIN), &number)) {
        *out = SIGRTMIN + (int)number;
        return 0;
    }
    return err_set(err, ERR_INVALID_ARGUMENT, "unknown signal \"%.60s\"", text);
}

static int signal_all(struct container *container, int sig, struct err *err)
{
    struct cgroup *cgroup = NULL;
    if (container_cgroup(container, &cgroup, err) < 0)
        return -1;
    if (!cgroup)
        return container_send(container, sig, err);
    int result = sig == SIGKILL ? cgroup_kill(cgroup, 10 * NS_PER_S, err) : cgroup_signal_all(cgroup, sig, err);
    cgroup_free(cgroup);
    return result;
}

static bool shares_pids(struct container *container)
{
    const struct oci_namespace *items = container->config.linux_section->namespaces.items;
    for (size_t i = 0; i < container->config.linux_section->namespaces.len; i++)
        if (str_eq(items[i].type, "pid"))
            return !str_empty(items[i].path);
    return true;
}

static bool has_processes(struct container *container)
{
    struct cgroup *cgroup = NULL;
    _cleanup_free_ pid_t *pids = NULL;
    size_t len = 0;
    if (container_cgroup(container, &cgroup, NULL) == 0 && cgroup)
        cgroup_pids(cgroup, &pids, &len, NULL);
    cgroup_free(cgroup);
    return len > 0;
}

static int kill_it(struct container *container, int sig, bool all, struct err *err)
{
    enum status status = container_status(container);
    if (all)
        return status == STATUS_STOPPED && !container->cgroup[0] ? 0 : signal_all(container, sig, err);
    // Without a pid namespace of its own the death of the first process does not end the others.
    if (sig == SIGKILL && status != STATUS_CREATING && container_load_config(container, NULL) == 0 && shares_pids(container) &&
        has_processes(container))
        return signal_all(container, sig, err);
    if (status == STATUS_STOPPED || status == STATUS_CREATING)
        return err_set(err, ERR_NOT_FOUND, "container not running");
    if (container_send(container, sig, err) < 0)
        return -1;
    if (sig == SIGKILL && status == STATUS_PAUSED) { // on v1 a frozen process does not die
        struct cgroup *cgroup = NULL;
        if (container_cgroup(container, &cgroup, NULL) == 0 && cgroup)
            cgroup_freeze(cgroup, false, NULL);
        cgroup_free(cgroup);
    }
    return 0;
}

int verb_kill(struct call *call, struct err *err)
{
    struct container container = CONTAINER_NONE;
    const struct strv *words = &call->args.words;
    int sig = SIGTERM;
    int result = container_load(call, words->items[0], &container, err);
    if (result == 0 && words->len > 1)
        result = parse_signal(words->items[1], &sig, err);
    if (result == 0)
        result = kill_it(&container, sig, args_flag(&call->args, "all"), err);
    container_done(&container);
    return result;
}

// ---- delete ---------------------------------------------------------------------------------------------------------

// A folder without state.json: its maker died before anything else was made.
static int delete_remains(struct call *call, const char *id, bool force, struct err *err)
{
    struct err missed = { 0 };
    _cleanup_close_ int root = file_open_dir(AT_FDCWD, call->root, NULL);
    if (root >= 0 && container_id_check(id, NULL) == 0 && file_remove_tree(root, id, &missed) < 0)
        fprintf(stderr, "remove %s/%s: %s\n", call->root, id, missed.message);
    if (!force)
        return -1;
    err_clear(err); // what is not there any more is deleted
    return 0;
}

static int delete_it(struct call *call, struct container *container, bool force, struct err *err)
{
    enum status status = container_status(container);
    if (status != STATUS_STOPPED && status != STATUS_CREATED && !force)
        return err_set(err, ERR_CONFLICT, "cannot delete container %s that is not stopped: %s", container->id, status_name(status));
    return container_destroy(call, container, err);
}

int verb_delete(struct call *call, struct err *err)
{
    struct container container;
    const char *id = call->args.words.items[0];
    bool force = args_flag(&call->args, "force");
    int result = container_load(call, id, &container, err);
    if (result < 0 && err->class == ERR_NOT_FOUND)
        result = delete_remains(call, id, force, err);
    else if (result == 0 && (result = container_lock(&container, err)) == 0)
        result = delete_it(call, &container, force, err);
    container_done(&container);
    return result;
}

// ---- pause and resume -----------------------------------------------------------------------------------------------

static int freeze(struct call *call, bool frozen, struct err *err)
{
    struct container container;
    struct cgroup *cgroup = NULL;
    int result = container_load(call, call->args.words.items[0], &container, err);
    if (result == 0 && (result = container_lock(&container, err)) == 0) {
        enum status status = container_status(&container);
        if (frozen && status != STATUS_RUNNING && status != STATUS_CREATED)
            result = err_set(err, ERR_CONFLICT, "container not running");
        if (!frozen && status != STATUS_PAUSED)
            result = err_set(err, ERR_CONFLICT, "container not paused");
    }
    if (result == 0 && (result = container_cgroup(&container, &cgroup, err)) == 0)
        result = cgroup ? cgroup_freeze(cgroup, frozen, err) : err_set(err, ERR_NOT_IMPLEMENTED, "the container has no cgroup to freeze");
    cgroup_free(cgroup);
    container_done(&container);
    return result;
}

int verb_pause(struct call *call, struct err *err)
{
    return freeze(call, true, err);
}

int verb_resume(struct call *call, struct err *err)
{
    return freeze(call, false, err);
}
