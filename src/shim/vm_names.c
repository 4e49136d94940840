// A guest's questions for names: PID 1 takes them on 127.0.0.11 in the machine, one stream of the link brings them here, and they are
// answered by the resolver that a container has, too. What is not known is asked from the host's network, since a guest has none here.
#include <sys/socket.h>

#include "shim/resolver.h"
#include "shim/vm.h"

static void stream_ended(void *context)
{
    struct vm *vm = context;
    vm->names = NULL;
}

static int open_stream(struct vm *vm, int fd, int64_t *number, struct err *err)
{
    _cleanup_close_ int read_fd = fd_dup(fd, err), write_fd = fd_dup(fd, err);
    if (read_fd < 0 || write_fd < 0)
        return -1;
    if (vm->names)
        link_stream_drop(take_ptr(&vm->names));
    if (link_stream_open(vm->link, ++vm->last_stream, read_fd, write_fd, stream_ended, vm, &vm->names, err) < 0)
        return -1;
    take_fd(&read_fd);
    take_fd(&write_fd);
    *number = vm->last_stream;
    return 0;
}

// The machine may have been forgotten meanwhile, and its resolver with it.
static int guest_asked(struct request *request, int outcome, struct err *err)
{
    struct shim *shim = request->shim;
    if (outcome >= 0 || !shim->vm)
        return outcome;
    if (shim->vm->names)
        link_stream_drop(take_ptr(&shim->vm->names));
    resolver_free(take_ptr(&shim->resolver));
    return outcome;
}

int vm_resolver(struct request *request, struct err *err)
{
    struct vm *vm = request->shim->vm;
    struct task_streams streams = { 0 };
    int ends[2];
    if (vm->state == VM_GONE)
        return err_set(err, ERR_UNAVAILABLE, "%s", vm->obituary);
    if (fd_socketpair(SOCK_STREAM, ends, err) < 0)
        return -1;
    _cleanup_close_ int far = ends[1];
    struct resolver_config config = { .netns_fd = -1, .udp_fd = -1, .tcp_fd = -1, .guest_fd = ends[0] };
    if (resolver_install(request, &config, err) < 0) {
        fd_close(ends[0]);
        return -1;
    }
    request->then = guest_asked;
    if (open_stream(vm, far, &streams.in, err) < 0)
        return -1;
    json_t *arguments = json_object();
    json_object_set_new(arguments, "streams", json_encode(&task_streams_table, &streams));
    return vm_ask(request, "resolver", arguments, false, NULL, err);
}
