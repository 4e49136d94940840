// Copies from and to a machine: the daemon's two pipes become streams of the link, and what goes through them is between the daemon
// and its guest's worker (archive/worker.h).
#include "shim/vm.h"

enum { DATA, REPORT, FILES_STREAMS };

struct vm_files {
    struct vm_files *next;
    struct vm *vm;
    struct link_stream *streams[FILES_STREAMS];
    unsigned open; // of them
};

static void files_free(struct vm_files *files)
{
    struct vm_files **at = &files->vm->files;
    while (*at != files)
        at = &(*at)->next;
    *at = files->next;
    free(files);
}

static void stream_ended(struct vm_files *files, size_t which)
{
    files->streams[which] = NULL;
    if (--files->open == 0)
        files_free(files);
}

static void data_ended(void *context)
{
    stream_ended(context, DATA);
}

static void report_ended(void *context)
{
    stream_ended(context, REPORT);
}

static void drop(struct vm_files *files)
{
    for (size_t i = 0; i < FILES_STREAMS; i++)
        if (files->streams[i])
            link_stream_drop(files->streams[i]);
    files_free(files);
}

void vm_files_done(struct vm *vm)
{
    while (vm->files) {
        struct vm_files *files = vm->files;
        vm->files = files->next;
        free(files);
    }
}

static int open_stream(struct vm_files *files, size_t which, int fd, bool in, int64_t *number, struct err *err)
{
    struct vm *vm = files->vm;
    if (link_stream_open(vm->link, ++vm->last_stream, in ? fd : -1, in ? -1 : fd, which == DATA ? data_ended : report_ended, files,
                         &files->streams[which], err) < 0)
        return -1;
    files->open++;
    *number = vm->last_stream;
    return 0;
}

// The request's descriptors; a verb without a tar has none for that.
static int open_streams(struct request *request, struct task_streams *out, struct err *err)
{
    const struct arguments *arguments = &request->arguments;
    bool in = str_eq(json_get_text(request->payload, "op", ""), "put");
    *out = (struct task_streams){ 0 };
    if (arguments->data_fd >= 0) {
        int fd = fd_list_get(&request->fds, arguments->data_fd, "data_fd", err);
        if (fd < 0 || open_stream(request->files, DATA, fd, in, in ? &out->in : &out->out, err) < 0)
            return -1;
        request->fds.fds[arguments->data_fd] = -1;
    }
    int fd = fd_list_get(&request->fds, arguments->report_fd, "report_fd", err);
    if (fd < 0 || open_stream(request->files, REPORT, fd, false, &out->error, err) < 0)
        return -1;
    request->fds.fds[arguments->report_fd] = -1;
    return 0;
}

// By the time of an answer they may have ended already, or the machine was forgotten.
static int files_asked(struct request *request, int outcome, struct err *err)
{
    struct vm *vm = request->shim->vm;
    struct vm_files *files = vm ? vm->files : NULL;
    while (files && files != request->files)
        files = files->next;
    if (outcome < 0 && files)
        drop(files);
    return outcome;
}

int vm_files(struct request *request, struct err *err)
{
    struct vm *vm = request->shim->vm;
    struct task_streams streams;
    if (vm->state == VM_GONE)
        return err_set(err, ERR_UNAVAILABLE, "%s", vm->obituary);
    struct vm_files *files = request->files = mem_new(struct vm_files);
    *files = (struct vm_files){ .next = vm->files, .vm = vm };
    vm->files = files;
    request->then = files_asked;
    if (open_streams(request, &streams, err) < 0)
        return -1;
    json_t *arguments = json_deep_copy(request->payload);
    json_object_set_new(arguments, "streams", json_encode(&task_streams_table, &streams));
    return vm_ask(request, "files", arguments, false, NULL, err);
}
