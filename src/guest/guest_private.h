// What the room's files share.
//
//     guest                 one
//      +- init              the container's first process      (struct guest_unit)
//      +- execs             further processes                  (struct guest_unit)
//           +- pipes        in, out, error or one terminal, each the end of a link's stream
#ifndef GUEST_GUEST_PRIVATE_H
#define GUEST_GUEST_PRIVATE_H

#include "base/clock.h"
#include "guest/guest.h"
#include "task/link.h"

#define GUEST_DRAIN_GRACE_NS (1 * NS_PER_S) // for pipes of a dead process that somebody else still holds open

// ---- the kernel's command line (cmdline.c) -------------------------------------------------------------------------

enum guest_transport { GUEST_SERIAL, GUEST_VSOCK };
// Reads `berth.link=`; the last one counts. invalid_argument when it is missing or unknown.
int cmdline_transport(const char *cmdline, enum guest_transport *out, struct err *err);

// ---- disks (disk.c) ------------------------------------------------------------------------------------------------

#define DISK_NAME_SIZE 32
#define DISK_MAX 32

struct disk {
    char name[DISK_NAME_SIZE]; // "vda", "pmem0"
    char serial[DISK_NAME_SIZE]; // "" when it has none
    bool read_only;
};
// The virtio and pmem disks of a machine, by name; /sys/block below `sys_fd`.
size_t disk_list(int sys_fd, struct disk out[DISK_MAX]);
bool disk_is_pmem(const struct disk *disk);
// pmem before everything; then the serial "layers"; then the first that can only be read. NULL: there is none.
const struct disk *disk_of_layers(const struct disk *disks, size_t len);
// The serial "upper"; else, where no disk has that serial, the first writable one.
const struct disk *disk_of_upper(const struct disk *disks, size_t len);
// "vda1", "pmem0p1".
void disk_partition(const struct disk *disk, size_t number, char out[2 * DISK_NAME_SIZE]);

// ---- waiting for devices (device.c) --------------------------------------------------------------------------------

int device_events(struct err *err); // the kernel's uevents, a descriptor; open it before what it should tell
typedef bool device_fn(void *context);
// Looks now and after each event until `there` says so; unavailable ("WHAT did not appear within 10 s") else.
int device_await(int events_fd, device_fn *there, void *context, const char *what, struct err *err);

// ---- the root (storage.c) ------------------------------------------------------------------------------------------

struct storage {
    int dir_fd; // folder for mount points, a tmpfs
    int events_fd; // borrowed
    bool has_root, has_upper, ephemeral;
    size_t layer_len;
    char upper_device[DISK_NAME_SIZE + 8];
};
int storage_open(struct storage *storage, const struct task_rootfs *rootfs, struct err *err);
int storage_open_parts(const struct storage *storage, int *upper_fd, int *lower_fd, struct err *err);
int storage_close(struct storage *storage, struct err *err);

// ---- the network (network.c) ---------------------------------------------------------------------------------------

int network_set(int events_fd, const struct json_list *nics, struct err *err);
// "aa:bb:cc:dd:ee:ff"; false when it is none.
bool network_parse_mac(const char *text, unsigned char out[6]);
// A netmask of that many bits, in network order.
uint32_t network_mask(int64_t prefix);

// ---- the way to the host (machine.c) -------------------------------------------------------------------------------

int machine_connect(enum guest_transport transport, int events_fd, int *port_fd, struct err *err);

// ---- processes (unit.c) --------------------------------------------------------------------------------------------

struct guest;

enum guest_unit_state { GUEST_UNIT_CREATED, GUEST_UNIT_RUNNING, GUEST_UNIT_DRAINING, GUEST_UNIT_ENDED };
enum guest_stream { GUEST_IN, GUEST_OUT, GUEST_ERROR, GUEST_STREAM_COUNT }; // a terminal is GUEST_OUT

struct guest_pipe {
    struct guest_unit *unit;
    struct link_stream *stream; // NULL: ended, or never was
};

struct guest_unit {
    struct guest_unit *next;
    struct guest *guest;
    char *exec_id; // "" is the first process
    enum guest_unit_state state;
    struct sandbox *sandbox; // NULL once reaped
    int master_fd; // of its terminal, -1: none
    struct guest_pipe pipes[GUEST_STREAM_COUNT];
    struct loop_source *exit_source, *grace;
    int exit_code;
};

// Pipes and null devices, before the process is made. What is not taken is closed by guest_ends_done().
struct guest_ends {
    int theirs[GUEST_STREAM_COUNT], ours[GUEST_STREAM_COUNT];
};
#define GUEST_ENDS_NONE { { -1, -1, -1 }, { -1, -1, -1 } }
int guest_ends_open(const struct task_streams *numbers, bool terminal, struct guest_ends *out, struct err *err);
void guest_ends_done(struct guest_ends *ends);

struct guest_unit *guest_unit_new(struct guest *guest, const char *exec_id);
void guest_unit_free(struct guest_unit *unit); // kills what still runs, drops its streams
bool guest_unit_is_init(const struct guest_unit *unit);
bool guest_unit_is_live(const struct guest_unit *unit);
// Takes the sandbox and the terminal over, opens the streams, watches for the end.
int guest_unit_adopt(struct guest_unit *unit, struct sandbox *sandbox, int master_fd, struct guest_ends *ends,
                     const struct task_streams *numbers, const struct task_stdio *stdio, struct err *err);
int guest_unit_resize(struct guest_unit *unit, int64_t height, int64_t width, struct err *err);

// ---- the whole (guest.c, verbs.c) ----------------------------------------------------------------------------------

// ---- the container's files (files.c) --------------------------------------------------------------------------------

#define GUEST_FILES_MAX 32 // at one time

struct guest_files;
// A worker (archive/worker.h) in a process of its own, with its streams; `wish` is the verb's payload.
int guest_files_start(struct guest *guest, const json_t *wish, const struct task_streams *numbers, struct err *err);
void guest_files_end(struct guest *guest); // all of them, before the disk is put away

// ---- names (names.c) ------------------------------------------------------------------------------------------------

struct guest_names;
// Takes the container's questions from here on, and carries them over that stream; those before are forgotten.
int guest_names_start(struct guest *guest, int64_t number, struct err *err);
void guest_names_free(struct guest_names *names); // NULL is fine; before the link goes

struct guest {
    const struct guest_machine *machine;
    struct loop *loop;
    struct link *link;
    struct guest_unit *init, *execs;
    size_t exec_len; // living ones
    struct guest_files *files;
    size_t files_len;
    struct guest_names *names; // NULL: none
    struct cgroup *cgroup; // NULL before `create`
    int64_t oom_seen;
    bool oom, own_pid_namespace;
    bool reached; // the host has answered once
    bool over, halted, sweeping; // `over`: the task has ended or could not begin
    int64_t reach_before_ns, retry_ns;
    struct loop_source *retry, *power_off, *oom_source, *child_source;
    int oom_fd, child_fd; // inotify on the group's memory.events; signalfd of SIGCHLD
    struct err failed; // why guest_run() ends; of class ERR_NONE: it was told to
};

void guest_event(struct guest *guest, json_t *payload); // takes the reference
void guest_watch_oom(struct guest *guest);
void guest_check_oom(struct guest *guest);
void guest_reap_strays(struct guest *guest); // orphans of processes without a pid namespace of their own
// Units are freed from the loop, never under a caller that still looks at them; after the last one the machine halts.
void guest_schedule_sweep(struct guest *guest);
void guest_forget_task(struct guest *guest); // after a create or start that failed: halts too, once that is answered
// What link_handlers.request calls.
void guest_serve(void *context, uint64_t id, json_t *payload);

#endif
