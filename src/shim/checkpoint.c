// checkpoint: CRIU writes the container's processes into a folder, and ends them unless they are to go on.
#include "shim/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "criu/criu.h"
#include "criu/protobuf.h"
#include "kernel/path.h"

#define DOCUMENT_MAX (16 << 20)

// ---- what both directions need --------------------------------------------------------------------------------------

int checkpoint_wish(const struct request *request, struct checkpoint_wish *out, struct err *err)
{
    json_t *said = json_object_get(request->payload, "checkpoint");
    if (!said)
        return 0;
    out->program = json_get_text(said, "program", "");
    out->images_fd = fd_list_get(&request->fds, json_get_int(said, "fd", -1), "checkpoint.fd", err);
    if (out->images_fd < 0)
        return -1;
    return 1;
}

static bool makes_namespace(const struct oci_linux *section, const char *type)
{
    const struct oci_namespace *namespaces = section->namespaces.items;
    for (size_t i = 0; i < section->namespaces.len; i++)
        if (str_eq(namespaces[i].type, type) && str_empty(namespaces[i].path))
            return true;
    return false;
}

bool checkpoint_own_network(const struct oci_linux *section)
{
    return makes_namespace(section, "network");
}

bool checkpoint_own_cgroups(const struct oci_linux *section)
{
    return makes_namespace(section, "cgroup");
}

int checkpoint_failed(int images_fd, const char *log, struct err *err)
{
    _cleanup_free_ char *reason = strstr(err->message, "Error (") ? NULL : criu_first_error(images_fd, log);
    struct err said = *err;
    return reason ? err_set(err, said.class, "%.400s: %.400s", said.message, reason) : -1;
}

// ---- the dump, in the aide ------------------------------------------------------------------------------------------

struct dump {
    const struct shim *shim;
    struct checkpoint_wish wish;
    bool leave_running;
    struct arena arena;
    struct task_document document;
};

static int read_document(struct dump *dump, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(DOCUMENT_MAX);
    if (file_read_at(dump->shim->container_fd, "task.json", &text, err) < 0)
        return -1;
    return json_decode_text(&task_document_table, buf_text(&text), text.size, &dump->document, &dump->arena, NULL, err);
}

// The names of our ends are those of the process's.
static int keep_stdio(const struct dump *dump, struct err *err)
{
    const struct stdio *stdio = &dump->shim->init->stdio;
    const int fds[CRIU_STDIO_LEN] = { stdio->in_fd, stdio->outlets[0].fd, stdio->outlets[1].fd };
    char names[CRIU_STDIO_LEN][64] = { "" }, link[32];
    for (size_t i = 0; i < CRIU_STDIO_LEN && !stdio->terminal; i++) {
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fds[i]);
        ssize_t size = fds[i] < 0 ? 0 : readlink(link, names[i], sizeof(names[i]) - 1);
        names[i][MAX_OF(size, (ssize_t)0)] = '\0';
    }
    return criu_keep_stdio(dump->wish.images_fd, (const char *const[]){ names[0], names[1], names[2] }, err);
}

static int put_network(const struct dump *dump, struct buf *out, struct err *err)
{
    struct stat st;
    char text[64];
    if (dump->shim->netns_fd < 0)
        return 0;
    if (fstat(dump->shim->netns_fd, &st) < 0)
        return err_errno(err, errno, "network namespace");
    snprintf(text, sizeof(text), "net[%ju]:" CHECKPOINT_NETWORK_KEY, (uintmax_t)st.st_ino);
    pb_text(out, CRIU_EXTERNAL, text);
    return 0;
}

static void put_place(struct dump *dump, int root_fd, const char *target, struct buf *out)
{
    const char *real = criu_resolved(&dump->arena, root_fd, "/", target);
    criu_external_mount(out, real ? real : target, real ? real : target);
}

static int put_mounts(struct dump *dump, struct buf *out, struct err *err)
{
    const struct task_document *document = &dump->document;
    char root[64];
    snprintf(root, sizeof(root), "/proc/%d/root", (int)dump->shim->init->pid);
    _cleanup_close_ int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0)
        return err_errno(err, errno, "%s", root);
    for (size_t i = 0; i < document->mounts.len; i++) {
        const struct task_mount *mount = json_list_at(&document->mounts, &task_mount_table, i);
        if (!str_eq(mount->kind, "tmpfs"))
            put_place(dump, root_fd, mount->target, out);
    }
    for (size_t i = 0; i < document->files.len; i++)
        put_place(dump, root_fd, ((const struct task_file *)json_list_at(&document->files, &task_file_table, i))->path, out);
    criu_masked_files(&document->linux_section.masked_paths, root_fd, &dump->arena, out);
    criu_device_mounts(&document->linux_section.devices, out);
    return checkpoint_own_cgroups(&document->linux_section)
               ? 0 : criu_cgroup_mounts(document->linux_section.cgroups_path, "/sys/fs/cgroup", false, out, err);
}

static int put_options(struct dump *dump, struct buf *out, struct err *err)
{
    criu_begin_options(dump->wish.images_fd, CHECKPOINT_DUMP_LOG, CRIU_CGROUPS_DEFAULT, CRIU_CONFIG, out);
    pb_number(out, CRIU_PID, dump->shim->init->pid);
    pb_text(out, CRIU_ROOT, "/");
    pb_flag(out, CRIU_LEAVE_RUNNING, dump->leave_running);
    criu_lock_network(out);
    criu_freezer(dump->document.linux_section.cgroups_path, out);
    return put_network(dump, out, err) < 0 ? -1 : put_mounts(dump, out, err);
}

static int dump_job(void *context, int sock, struct err *err)
{
    struct dump *dump = context;
    _cleanup_buf_ struct buf options = BUF_INIT(CRIU_OPTIONS_MAX);
    struct criu criu = CRIU_NONE;
    if (read_document(dump, err) < 0)
        return -1;
    if (dump->document.joins.len > 0)
        return err_set(err, ERR_NOT_IMPLEMENTED, "a container that shares namespaces of another one has no checkpoints");
    if (dump->document.init)
        return err_set(err, ERR_NOT_IMPLEMENTED, "a container with --init has no checkpoints: CRIU can't bring back a program that is no file of it");
    if (keep_stdio(dump, err) < 0 || put_options(dump, &options, err) < 0 ||
        criu_start(dump->wish.program, false, NULL, 0, &criu, err) < 0)
        return -1;
    int result = criu_ask(&criu, CRIU_DUMP, &options, NULL, NULL, NULL, err);
    criu_done(&criu);
    return result < 0 ? checkpoint_failed(dump->wish.images_fd, CHECKPOINT_DUMP_LOG, err) : 0;
}

// ---- the verb -------------------------------------------------------------------------------------------------------

static void dumped(struct aide *aide, struct aide_word *word, int fd)
{
    struct request *request = take_ptr(&aide->request);
    fd_close(fd);
    aide_free(take_ptr(&aide->shim->aide));
    request_finish(request, word->result, &word->err);
}

int checkpoint_create(struct request *request, struct err *err)
{
    struct shim *shim = request->shim;
    struct dump dump = { .shim = shim, .leave_running = json_get_flag(request->payload, "leave_running", false) };
    int said = checkpoint_wish(request, &dump.wish, err);
    if (said <= 0)
        return said < 0 ? -1 : err_set(err, ERR_INVALID_ARGUMENT, "checkpoint: no folder was sent");
    if (aide_start(shim, dump_job, &dump, dumped, &shim->aide, err) < 0)
        return -1;
    int later = request_defer(request, err);
    if (later < 0)
        aide_free(take_ptr(&shim->aide));
    else
        shim->aide->request = request;
    return later;
}
