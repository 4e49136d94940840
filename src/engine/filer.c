#include "filer.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "mounting.h"
#include "users.h"
#include "vm.h"

#define CALL_TIMEOUT_NS (60 * NS_PER_S)

enum { MESSAGE_LINES_MAX = 48, MESSAGE_SIZE_MAX = 8192 }; // archive/worker.h

void filer_done(struct filer *filer)
{
    const struct process none = PROCESS_NONE;
    container_tree_worker(filer->container, &filer->tree, &none);
    process_done(&filer->process);
    if (!filer->container)
        fd_close(take_fd(&filer->tree.root_fd));
    if (filer->booted) {
        container_release(filer->container);
        container_end(filer->container);
    }
    if (filer->container)
        container_tree_done(filer->container, &filer->tree);
    fd_close(filer->data_fd);
    fd_close(filer->report_fd);
    buf_done(&filer->report);
}

// ---- the order ------------------------------------------------------------------------------------------------------

struct order {
    int sock;
    struct buf lines;
    int fds[MESSAGE_LINES_MAX];
    bool owned[MESSAGE_LINES_MAX];
    size_t len;
};

static void drop_fds(struct order *order)
{
    for (size_t i = 0; i < order->len; i++)
        if (order->owned[i])
            fd_close(order->fds[i]);
    order->len = 0;
}

static void order_done(struct order *order)
{
    drop_fds(order);
    buf_done(&order->lines);
    fd_close(order->sock);
}

static int send_order(struct order *order, struct err *err)
{
    ssize_t sent = order->len ? fd_send(order->sock, buf_text(&order->lines), order->lines.size, order->fds, order->len, err) : 0;
    drop_fds(order);
    buf_clear(&order->lines);
    return sent < 0 ? -1 : 0;
}

static int add_line(struct order *order, const char *word, const char *target, int fd, bool owned, struct err *err)
{
    size_t size = strlen(word) + (target ? strlen(target) : 0) + 2;
    bool full = order->len == MESSAGE_LINES_MAX || order->lines.size + size > MESSAGE_SIZE_MAX;
    if (full && send_order(order, err) < 0) {
        if (owned)
            fd_close(fd);
        return -1;
    }
    buf_addf(&order->lines, "%s%s%s\n", word, target ? " " : "", target ? target : "");
    order->fds[order->len] = fd;
    order->owned[order->len++] = owned;
    return 0;
}

static int add_mounts(const struct container *container, const struct run_users *users, struct order *order, struct err *err)
{
    for (size_t i = 0; i < container->mount_len; i++) {
        const struct engine_mount *mount = &container->mounts[i];
        if (str_eq(mount->type, "tmpfs"))
            continue; // the container's memory
        int fd = mounts_open(container, mount, users, err);
        if (fd < 0 || add_line(order, mount->rw ? "mount" : "mount-ro", mount->destination, fd, true, err) < 0)
            return -1;
    }
    return 0;
}

// As the last start left them; before the first one there are none.
static int add_files(const struct container *container, struct order *order, struct err *err)
{
    static const char *const names[] = { "hostname", "hosts", "resolv.conf" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        _cleanup_free_ char *path = mem_printf("%s/files/%s", container->id, names[i]), *target = mem_printf("/etc/%s", names[i]);
        int fd = mounting_has(container, target) ? -1 : openat(container->engine->containers_fd, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && add_line(order, container->config.host_config.read_only_rootfs ? "mount-ro" : "mount", target, fd, true, err) < 0)
            return -1;
    }
    return 0;
}

// The worker's end of the pipe that its tar comes through.
static int open_output(struct filer *filer, struct err *err)
{
    int ends[2];
    if (fd_pipe(ends, err) < 0)
        return -1;
    filer->data_fd = ends[0];
    fcntl(ends[1], F_SETPIPE_SZ, 1 << 20); // fewer switches between the two; 64 KiB where it is refused
    return ends[1];
}

static int open_report(struct filer *filer, struct err *err)
{
    int ends[2];
    if (fd_pipe(ends, err) < 0)
        return -1;
    filer->report_fd = ends[0];
    fcntl(ends[1], F_SETPIPE_SZ, 1 << 20); // what "sources" tells waits while its data is read
    return ends[1];
}

static int add_spec(json_t *spec, struct order *order, struct err *err)
{
    _cleanup_free_ char *text = json_text(spec);
    _cleanup_close_ int fd = memfd_create("spec", MFD_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "memfd");
    if (fd_write_full(fd, text, strlen(text), err) < 0)
        return -1;
    lseek(fd, 0, SEEK_SET);
    return add_line(order, "spec", NULL, take_fd(&fd), true, err);
}

static int give_order(struct filer *filer, const struct filer_wish *wish, struct order *order, struct err *err)
{
    const struct container_tree *tree = &filer->tree;
    if (add_line(order, "root", NULL, tree->root_fd, false, err) < 0 ||
        (tree->upper_fd >= 0 && add_line(order, "upper", NULL, tree->upper_fd, false, err) < 0) ||
        (tree->lower_fd >= 0 && add_line(order, "lower", NULL, tree->lower_fd, false, err) < 0) ||
        (tree->users && add_line(order, "users", NULL, tree->users->fd, false, err) < 0) ||
        (wish->data_fd >= 0 && add_line(order, "data", NULL, wish->data_fd, false, err) < 0))
        return -1;
    for (size_t i = 0; i < wish->source_len; i++)
        if (add_line(order, "source", NULL, wish->source_fds[i], false, err) < 0)
            return -1;
    if (wish->spec && add_spec(wish->spec, order, err) < 0)
        return -1;
    if (wish->mounts && (add_mounts(filer->container, filer->tree.users, order, err) < 0 || add_files(filer->container, order, err) < 0))
        return -1;
    int output = wish->output ? open_output(filer, err) : -1;
    if (wish->output && (output < 0 || add_line(order, "data", NULL, output, true, err) < 0))
        return -1;
    return send_order(order, err);
}

// ---- the worker -----------------------------------------------------------------------------------------------------

static int spawn(struct filer *filer, const struct filer_wish *wish, int order_end, struct err *err)
{
    const char *argv[8] = { "berth-archive", wish->verb };
    char *const envp[] = { NULL };
    size_t len = 2;
    if (wish->keep_kind)
        argv[len++] = "--keep-kind";
    if (!str_empty(wish->owner)) {
        argv[len++] = "--owner";
        argv[len++] = wish->owner;
    }
    if (wish->path) {
        argv[len++] = "--";
        argv[len++] = wish->path;
    }
    _cleanup_close_ int report_end = open_report(filer, err);
    if (report_end < 0)
        return -1;
    const struct process_io io = { order_end, report_end, STDERR_FILENO, NULL, 0 };
    _cleanup_free_ char *path = mem_printf("%s/berth-archive", filer->engine->program_dir);
    return process_spawn(path, -1, (char *const *)argv, envp, &io, &filer->process, err);
}

static int open_tree_of(struct filer *filer, const struct filer_wish *wish, struct err *err)
{
    if (filer->container)
        return container_tree_open(filer->container, wish->tree, &filer->tree, err);
    filer->tree.root_fd = fd_dup(wish->root_fd, err);
    return filer->tree.root_fd < 0 ? -1 : 0;
}

static int start_here(struct filer *filer, const struct filer_wish *wish, struct err *err)
{
    _cleanup_(order_done) struct order order = { .sock = -1, .lines = BUF_INIT(2 * MESSAGE_SIZE_MAX) };
    int ends[2];
    if (open_tree_of(filer, wish, err) < 0 || fd_socketpair(SOCK_SEQPACKET, ends, err) < 0)
        return -1;
    order.sock = ends[0];
    _cleanup_close_ int order_end = ends[1];
    if (spawn(filer, wish, order_end, err) < 0)
        return -1;
    container_tree_worker(filer->container, &filer->tree, &filer->process);
    return give_order(filer, wish, &order, err);
}

// ---- the worker of a guest ------------------------------------------------------------------------------------------

static int call_guest(struct filer *filer, const struct filer_wish *wish, struct task_client *client, struct err *err)
{
    if (wish->spec)
        return err_set(err, ERR_NOT_IMPLEMENTED, "times of a microVM's files can't be changed (rewrite-timestamp)");
    _cleanup_close_ int report_end = open_report(filer, err), output = wish->output ? open_output(filer, err) : -1;
    if (report_end < 0 || (wish->output && output < 0))
        return -1;
    const int fds[] = { report_end, wish->output ? output : wish->data_fd };
    _cleanup_json_ json_t *arguments = json_pack("{s:s, s:b, s:b, s:i, s:i}", "op", wish->verb, "keep_kind", wish->keep_kind, "freeze",
                                                 wish->freeze, "report_fd", 0, "data_fd", fds[1] < 0 ? -1 : 1);
    if (wish->path)
        json_object_set_new(arguments, "path", json_new_text(wish->path));
    if (!str_empty(wish->owner))
        json_object_set_new(arguments, "owner", json_new_text(wish->owner));
    return task_call(client, "files", arguments, fds, fds[1] < 0 ? 1 : 2, CALL_TIMEOUT_NS, NULL, NULL, NULL, err);
}

// Needs container_begin(), and keeps it for a machine that is booted.
static int start_held(struct filer *filer, const struct filer_wish *wish, struct err *err)
{
    struct container *container = filer->container;
    mutex_lock(&container->lock);
    bool live = container_is_live(container) && container->client;
    mutex_unlock(&container->lock);
    if (!live) {
        filer->booted = true;
        if (container_boot_aside(container, err) < 0)
            return -1;
    }
    return call_guest(filer, wish, container->client, err);
}

static int start_in_guest(struct filer *filer, const struct filer_wish *wish, struct err *err)
{
    if (container_begin(filer->container, err) < 0)
        return -1;
    int started = start_held(filer, wish, err);
    if (!filer->booted)
        container_end(filer->container);
    return started;
}

int filer_start(struct filer *filer, const struct filer_wish *wish, struct err *err)
{
    return filer->container && vm_wanted(&filer->container->config.host_config) ? start_in_guest(filer, wish, err) : start_here(filer, wish, err);
}

// ---- its report -----------------------------------------------------------------------------------------------------

static int read_some(struct filer *filer, const struct cancel *cancel, struct err *err)
{
    if (cancel_wait(cancel, filer->report_fd, -1, err) < 0)
        return -1;
    char *room = buf_reserve(&filer->report, 65536);
    if (!room)
        return err_set(err, ERR_INTERNAL, "the archive worker's report has a line without end");
    ssize_t got;
    do
        got = read(filer->report_fd, room, 65536);
    while (got < 0 && errno == EINTR);
    if (got <= 0)
        return got < 0 ? err_errno(err, errno, "read the archive worker's report") : err_set(err, ERR_INTERNAL, "the archive worker failed");
    buf_commit(&filer->report, (size_t)got);
    return 0;
}

static int judge(json_t *object, json_t **line, struct err *err)
{
    const json_t *error = json_object_get(object, "error");
    if (error) {
        err_set(err, err_class_parse(json_get_text(error, "class", "internal")), "%s", json_get_text(error, "message", "the archive worker failed"));
        if (err)
            err->number = (int)json_get_int(error, "errno", 0);
        return -1;
    }
    if (json_object_get(object, "done"))
        return 0;
    *line = json_incref(object);
    return 1;
}

int filer_next(struct filer *filer, const struct cancel *cancel, json_t **line, struct err *err)
{
    _cleanup_json_ json_t *object = NULL;
    char *newline;
    while (!(newline = filer->report.size ? memchr(filer->report.data, '\n', filer->report.size) : NULL))
        if (read_some(filer, cancel, err) < 0)
            return -1;
    size_t size = (size_t)(newline - filer->report.data);
    if (json_parse(filer->report.data, size, &object, err) < 0)
        return err_wrap(err, "the archive worker's report");
    buf_consume(&filer->report, size + 1);
    return judge(object, line, err);
}

int filer_end(struct filer *filer, const struct cancel *cancel, struct err *err)
{
    int more;
    json_t *line;
    while ((more = filer_next(filer, cancel, &line, err)) > 0)
        json_decref(line);
    return more;
}
