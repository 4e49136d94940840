// What the machine's files share: the wall itself (wall_vm.c), its console (vm_console.c), what its guest is told
// (vm_document.c), and the programs that run it (vmm_*.c). Private to the room.
#ifndef SHIM_VM_H
#define SHIM_VM_H

#include "kernel/layers_disk.h"
#include "shim/wall.h"
#include "task/link.h"

#define VM_VCPUS_MAX 64
#define VM_MEMORY_MIN (INT64_C(32) << 20)
#define VM_MEMORY_MAX (INT64_C(1) << 40)
#define VM_CMDLINE_MAX 1024

// ---- console (vm_console.c) -----------------------------------------------------------------------------------------
//
// What the guest's kernel says on its serial port, and the VMM on its own streams: the last of it, for messages.

#define VM_CONSOLE_SIZE (16u << 10)

struct vm_console {
    int fd; // -1: ended
    struct loop_source *source;
    char *ring; // VM_CONSOLE_SIZE bytes
    size_t total; // written so far
};

int vm_console_open(struct vm_console *console, struct loop *loop, int *write_end, struct err *err);
void vm_console_drain(struct vm_console *console); // takes what is there
void vm_console_done(struct vm_console *console);
// The last lines in one, " | " between them, without what is not printable; "" when nothing was said.
void vm_console_tail(const struct vm_console *console, char *out, size_t size);

// ---- the guest's document (vm_document.c) ---------------------------------------------------------------------------

int vm_check_document(const struct task_document *document, struct err *err);
// What means something inside only: no paths of the host, no log, no ports, no machine, all indices -1.
json_t *vm_document(const struct task_document *document);

// ---- what runs it (vmm_qemu.c, vmm_kvm.c, vmm_jail.c) -----------------------------------------------------------------

struct vmm_start {
    const struct task_document *document;
    const struct fd_list *fds;
    struct cgroup *cgroup;
    struct arena *arena;
    int container_fd;
    int link_fd, console_fd; // the VMM's ends, borrowed
};

struct vmm {
    const char *accel;
    int64_t boot_ns; // until the guest says hello
    bool dials; // `link_fd` is no byte stream: the guest's connections are asked for over it (vm_dial.c)
    int (*start)(const struct vmm_start *start, struct sandbox **out, struct err *err);
};
extern const struct vmm vmm_qemu, vmm_kvm;

// Descriptors that the VMM gets: number 3 is the first.
struct vmm_keep {
    int fds[SANDBOX_KEEP_MAX];
    bool owned[SANDBOX_KEEP_MAX];
    size_t len;
};
void vmm_keep_done(struct vmm_keep *keep);
int vmm_keep(struct vmm_keep *keep, int fd, struct err *err); // the VMM's number of it; stays the caller's
int vmm_keep_own(struct vmm_keep *keep, int fd, struct err *err); // takes it, also on failure
// A description of its own of the file behind the document's descriptor, with these open flags.
int vmm_keep_file(struct vmm_keep *keep, const struct vmm_start *start, int64_t index, int flags, const char *what, struct err *err);
int vmm_keep_bytes(struct vmm_keep *keep, const char *name, const void *data, size_t size, struct err *err);

struct vmm_bind {
    int fd; // borrowed
    const char *target;
};

struct vmm_command {
    struct strv args;
    struct vmm_keep keep;
    struct vmm_bind binds[4]; // files that it opens by name
    size_t bind_len;
    // It jails the process that the guest can reach by itself, and needs root's rights in its tree for that.
    bool jails_itself;
};

// Behind the thin wall: an empty tree with the system's libraries, no capabilities, no network, the container's cgroup.
// Returns when it runs.
int vmm_jail(const struct vmm_start *start, const struct vmm_command *command, struct sandbox **out, struct err *err);

// The command lines for a document, with what each gets. For tests by themselves; the caller ends them with vmm_keep_done().
int qemu_command(const struct vmm_start *start, struct vmm_command *out, struct err *err);
int kvm_command(const struct vmm_start *start, struct vmm_command *out, struct err *err);

// ---- a guest that connects (vm_dial.c) ------------------------------------------------------------------------------
//
// berth-vmm asks by 8 bytes { u32 host port, u32 guest port } what a connection of its guest shall be, and gets the same 8
// bytes back, with a stream socket or (refused) without. Each one for LINK_VSOCK_PORT is the guest link, in the last one's
// place.

struct vm_dial {
    int fd; // -1: not this way
    struct loop_source *source;
    struct link *link; // borrowed
    uint8_t question[8];
    size_t size; // of it, so far
};

int vm_dial_open(struct vm_dial *dial, struct loop *loop, struct link *link, int fd, struct err *err); // takes fd on success
void vm_dial_done(struct vm_dial *dial);

// ---- the machine (vm_guest.c, wall_vm.c) ------------------------------------------------------------------------------

enum vm_state { VM_BOOTING, VM_CREATING, VM_READY, VM_RUNNING, VM_HALTING, VM_GONE };

// A verb that went to the guest.
struct vm_call {
    struct vm_call *next;
    struct vm *vm;
    struct request *request; // NULL: finished already
    bool fatal; // a SIGKILL of the first process
    void (*answered)(struct request *request, const json_t *result); // before a good outcome is told; may be NULL
};

struct vm {
    struct vm *next; // of the forgotten
    struct shim *shim; // NULL: forgotten
    enum vm_state state;
    struct link *link;
    struct vm_call *calls;
    struct vm_files *files; // copies under way
    struct link_stream *names; // the guest's questions; NULL: ended, or there are none
    struct request *life; // `create`, while it waits for the guest
    json_t *document;
    struct stdio_ends ends; // of the first process, until the guest is told
    struct task_stdio wish;
    const struct vmm *vmm;
    struct vm_dial dial;
    struct vm_console console;
    struct loop_source *deadline, *kill_deadline;
    const char *late; // what the deadline is for
    uint32_t last_stream;
    char *reason; // why we ended it
    bool halted; // its guest has said so: the disk is put away
    bool lost; // the VMM has ended
    char *obituary; // how, for who asks later
};

// How long a guest may take.
struct vm_times {
    int64_t boot_ns; // to its hello; 0: the VMM's own
    int64_t answer_ns; // for `create`, for `start`
    int64_t kill_ns; // to carry out a SIGKILL of the first process
    int64_t halt_ns; // from that one's exit to the machine's end
};
extern const struct vm_times vm_times_usual;

extern const struct link_handlers vm_link_handlers; // context: struct vm
void vm_process_exited(void *context, int fd, uint32_t events); // the VMM's pidfd; context: struct vm
// What is frozen does not die, so it is thawed. The rest follows when the pidfd tells. `reason` may be NULL.
void vm_kill_machine(struct vm *vm, const char *reason);
// What the guest has to do by then ("say hello"), or the machine ends; NULL: nothing.
void vm_expect(struct vm *vm, const char *late, int64_t ns);
void vm_forget_deadlines(struct vm *vm);
// A verb that the guest carries out; VERB_LATER. Takes `arguments`.
int vm_ask(struct request *request, const char *verb, json_t *arguments, bool fatal,
           void (*answered)(struct request *, const json_t *), struct err *err);
// The same for what needs no answer of a guest that is frozen: it will hear it first of all.
int vm_tell(struct request *request, const char *verb, json_t *arguments, bool fatal, struct err *err);
// Takes the ends that became streams. Nothing is said to the guest here: the numbers travel with the verb.
int vm_open_streams(struct vm *vm, struct unit *unit, const struct task_stdio *wish, struct stdio_ends *ends,
                    struct task_streams *out, struct err *err);
// The container's files (vm_files.c): struct wall_ops' files().
int vm_files(struct request *request, struct err *err);
void vm_files_done(struct vm *vm); // when the link is gone
// Questions of the guest's (vm_names.c): struct wall_ops' resolver().
int vm_resolver(struct request *request, struct err *err);
void vm_sweep(struct shim *shim); // frees machines that were forgotten

#endif
