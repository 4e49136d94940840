// What is different behind the VM wall: who gets there, what is refused there for now, and what the task document and the host's
// cgroup say of the machine. The rest of the engine asks vm_wanted() and is the same for both walls.
#ifndef ENGINE_VM_H
#define ENGINE_VM_H

#include "engine_private.h"

#define VM_FILES_MAX 1048576 // open files of a process: what a guest's kernel allows

// HostConfig.Isolation "vm", or Runtime "berth-vm".
bool vm_wanted(const struct host_config *host);
// Isolation and Runtime are words that are known and agree, else invalid_argument.
int vm_check_words(const struct host_config *host, struct err *err);

// What a container can do and a guest can't yet: the one list of it. docs/isolation.md explains each row and the end-to-end
// tests leave out by its rows what they can't try.
struct vm_refusal {
    const char *path; // in the create body
    const char *option; // of the docker client
    const char *why;
    bool (*asked)(const struct container_config *config);
};
extern const struct vm_refusal vm_refusals[];
extern const size_t vm_refusal_len;
// For a configuration with the image's merged in: what of the list it asks for is not_implemented; a size that no machine has
// invalid_argument; unavailable when this host can run no guest. Nothing to say about containers.
int vm_check(struct engine *engine, const struct container_config *config, struct err *err);

#define VM_CPUS_MAX 8
#define VM_MEMORY_MAX (INT64_C(1) << 40)
#define VM_MEMORY_DEFAULT (INT64_C(512) << 20) // of the guest, when no limit is asked for
#define VM_MEMORY_OWN (INT64_C(96) << 20) // for the guest's kernel and agent, above the limit
struct vm_size {
    int64_t vcpus, memory_size; // bytes of guest RAM
};
int vm_size(const struct host_config *host, struct vm_size *out, struct err *err);

// The finishing touch to a document that document_build() made for a guest.
int vm_complete(struct container *container, struct arena *arena, struct task_document *out, struct err *err);
// The limits of the VMM's cgroup on the host while it boots; those of `out` that the document has for the guest are replaced.
void vm_host_limits(const struct host_config *host, const struct task_vm *vm, struct oci_resources *out);
// The exact share of processors, once the guest has booted: a boot takes seconds of a whole one, and has a deadline.
int vm_limit_processors(struct container *container, struct err *err);

// ---- a boot ---------------------------------------------------------------------------------------------------------

// A start that takes seconds can be called off: whoever wants the container stopped ends its machine and waits for the start to
// fail. The starting thread says where it is: one that was called off is unavailable, with ECANCELED.
void vm_boot_begin(struct container *container, bool guest) EXCLUDES(container->lock);
int vm_boot_check(struct container *container, struct err *err) EXCLUDES(container->lock);
int vm_boot_end(struct container *container, struct err *err) EXCLUDES(container->lock);
// For others: true when there was a boot, which is over now.
bool vm_boot_abort(struct container *container) EXCLUDES(container->lock);

// ---- the upper disk (disk.c) ----------------------------------------------------------------------------------------

#define DISK_NAME "disk.ext4" // in the container's folder
#define DISK_SIZE (INT64_C(10) << 30) // bytes; sparse; where the client names none

// Opens the container's disk for reading and writing, made from the template when it is missing; owned by `uid`.
int disk_open(struct container *container, int64_t uid, struct err *err);
// Bytes that the disk takes on the host; 0 without a disk.
int64_t disk_allocated(const struct container *container);

#endif
