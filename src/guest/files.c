// The container's files for the host's clients: each verb is a process of its own, jailed in a clone of the container's root, whose
// report and whose tar are streams of the link. PID 1 itself resolves no path of a client's and reads no tar.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>

#include "archive/worker.h"
#include "guest_private.h"

#define END_WAIT_MS 1000

struct guest_files {
    struct guest_files *next;
    struct guest *guest;
    int pidfd;
    bool froze; // the container stands still meanwhile
    struct guest_pipe pipes[GUEST_STREAM_COUNT]; // unit NULL
    unsigned open; // of them
};

// ---- the end --------------------------------------------------------------------------------------------------------

static void files_free(struct guest_files *files)
{
    struct guest *guest = files->guest;
    for (struct guest_files **at = &guest->files; *at; at = &(*at)->next)
        if (*at == files) {
            *at = files->next;
            guest->files_len--;
            break;
        }
    if (files->froze)
        cgroup_freeze(guest->cgroup, false, NULL);
    fd_close(files->pidfd);
    free(files);
}

static void kill_worker(const struct guest_files *files)
{
    syscall(SYS_pidfd_send_signal, files->pidfd, SIGKILL, NULL, 0);
}

static void stream_ended(void *context)
{
    struct guest_files *files = context;
    if (--files->open == 0)
        files_free(files);
}

void guest_files_end(struct guest *guest)
{
    for (struct guest_files *files = guest->files; files; files = files->next) {
        struct pollfd ended = { .fd = files->pidfd, .events = POLLIN };
        kill_worker(files);
        poll(&ended, 1, END_WAIT_MS);
    }
    guest_reap_strays(guest);
}

// ---- the start ------------------------------------------------------------------------------------------------------

struct parts {
    int tree_fd, upper_fd, lower_fd, files_fds[3];
};
#define PARTS_NONE { -1, -1, -1, { -1, -1, -1 } }

static void parts_done(struct parts *parts)
{
    fd_close(parts->tree_fd);
    fd_close(parts->upper_fd);
    fd_close(parts->lower_fd);
    for (size_t i = 0; i < ARRAY_LEN(parts->files_fds); i++)
        fd_close(parts->files_fds[i]);
}

static int open_parts(const struct guest *guest, bool layers, struct parts *out, struct err *err)
{
    const struct guest_machine *machine = guest->machine;
    if (sandbox_tree(sandbox_pidfd(guest->init->sandbox), "/", &out->tree_fd, err) < 0)
        return -1;
    return layers ? machine->open_parts(machine->context, &out->upper_fd, &out->lower_fd, err) : 0;
}

// What the machine itself puts into /etc, as the container sees it.
static void add_files(const struct guest *guest, struct parts *parts, struct archive_order *order)
{
    static const char *const names[] = { "hostname", "hosts", "resolv.conf" };
    static const char *const targets[] = { "/etc/hostname", "/etc/hosts", "/etc/resolv.conf" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char path[64];
        snprintf(path, sizeof(path), "files/%s", names[i]);
        parts->files_fds[i] = openat(guest->machine->files_fd, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (parts->files_fds[i] < 0)
            continue;
        order->mounts[order->mount_len].fd = parts->files_fds[i];
        order->mounts[order->mount_len++].target = targets[i];
    }
}

static int open_stream(struct guest_files *files, enum guest_stream which, int64_t number, struct guest_ends *ends, struct err *err)
{
    int none = -1, *end = &ends->ours[which];
    if (*end < 0)
        return 0;
    if (link_stream_open(files->guest->link, (uint32_t)number, which == GUEST_IN ? none : *end, which == GUEST_IN ? *end : none, stream_ended,
                         files, &files->pipes[which].stream, err) < 0)
        return -1;
    *end = -1;
    files->open++;
    return 0;
}

static int open_streams(struct guest_files *files, const struct task_streams *numbers, struct guest_ends *ends, struct err *err)
{
    if (open_stream(files, GUEST_IN, numbers->in, ends, err) < 0 || open_stream(files, GUEST_OUT, numbers->out, ends, err) < 0)
        return -1;
    return open_stream(files, GUEST_ERROR, numbers->error, ends, err);
}

static int start_worker(struct guest_files *files, const struct archive_order *order, struct err *err)
{
    pid_t child = fork();
    if (child == 0)
        archive_worker_run(order);
    if (child < 0)
        return err_errno(err, errno, "fork");
    files->pidfd = (int)syscall(SYS_pidfd_open, child, 0); // not reaped before the loop's next turn
    return files->pidfd < 0 ? err_errno(err, errno, "pidfd_open") : 0;
}

static int launch(struct guest_files *files, const json_t *wish, const struct task_streams *numbers, struct err *err)
{
    struct guest *guest = files->guest;
    const char *verb = json_get_text(wish, "op", ""), *owner = json_get_text(wish, "owner", "");
    bool layers = str_eq(verb, "changes") || str_eq(verb, "layer");
    _cleanup_(parts_done) struct parts parts = PARTS_NONE;
    _cleanup_(guest_ends_done) struct guest_ends ends = GUEST_ENDS_NONE;
    if (open_parts(guest, layers, &parts, err) < 0 || guest_ends_open(numbers, false, &ends, err) < 0)
        return -1;
    struct archive_order order = { .verb = verb, .path = json_get_text(wish, "path", ""), .owner = *owner ? owner : NULL,
                                   .keep_kind = json_get_flag(wish, "keep_kind", false), .sync = guest->init->state == GUEST_UNIT_CREATED,
                                   .tree_fd = parts.tree_fd, .upper_fd = parts.upper_fd, .lower_fd = parts.lower_fd,
                                   .data_fd = ends.theirs[str_eq(verb, "put") ? GUEST_IN : GUEST_OUT], .report_fd = ends.theirs[GUEST_ERROR] };
    if (!layers && !str_eq(verb, "export"))
        add_files(guest, &parts, &order);
    if (json_get_flag(wish, "freeze", false) && guest->cgroup)
        files->froze = cgroup_freeze(guest->cgroup, true, NULL) == 0;
    return start_worker(files, &order, err) < 0 ? -1 : open_streams(files, numbers, &ends, err);
}

static void give_up(struct guest_files *files)
{
    if (files->pidfd >= 0)
        kill_worker(files);
    for (size_t i = 0; i < GUEST_STREAM_COUNT; i++)
        if (files->pipes[i].stream)
            link_stream_drop(files->pipes[i].stream);
    files_free(files);
}

int guest_files_start(struct guest *guest, const json_t *wish, const struct task_streams *numbers, struct err *err)
{
    if (guest->files_len >= GUEST_FILES_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "%d copies are under way already", GUEST_FILES_MAX);
    if (numbers->error == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "streams: no report");
    struct guest_files *files = mem_new(struct guest_files);
    *files = (struct guest_files){ .next = guest->files, .guest = guest, .pidfd = -1 };
    guest->files = files;
    guest->files_len++;
    if (launch(files, wish, numbers, err) == 0)
        return 0;
    give_up(files);
    return -1;
}
