// The seam between the engine, the supervisor of an instance, and the wall: frames, verbs, the task document.
// docs/architecture.md tells the whole; this header is the contract both sides compile against.
//
// One unix stream socket per instance, `<state>/t/<id>/task`, 0600 in a 0700 folder, peer checked by SO_PEERCRED. The shim
// serves, the daemon calls. A newer connection displaces the older one. Frames are little-endian:
//
//     u32 size of the payload | u16 type | u16 flags | u64 request id | payload
//
// Payloads are JSON. Descriptors travel with a frame's first byte; JSON names them by index ("fd": 0). A frame carries at most
// 253; more come in TASK_FDS frames with the same request id before it, indices running on.
//
//     REQUEST   {"verb": "kill", ...arguments}                 daemon -> shim
//     RESPONSE  {...results}   (type ERROR: {"class","errno","message"})       same request id
//     EVENT     {"seq": 7, "kind": "exited", ...}               shim -> daemon, kept and sent again until acknowledged
//
// Unknown fields are ignored, unknown verbs answer not_implemented.
#ifndef TASK_TASK_H
#define TASK_TASK_H

#include "base/fd.h"
#include "base/loop.h"
#include "spec/spec.h"

#define TASK_PROTO_MIN 1
#define TASK_PROTO_MAX 1
#define TASK_FRAME_MAX (4u << 20)
#define TASK_FD_MAX 1024 // descriptors of one request, over all its frames
#define TASK_SOCKET_NAME "task"

enum task_frame_type { TASK_REQUEST = 1, TASK_RESPONSE = 2, TASK_ERROR = 3, TASK_EVENT = 4, TASK_FDS = 5, TASK_DATA = 6 };

// ---- the task document ----------------------------------------------------------------------------------------------
//
// `create` carries it and the engine keeps it as <root>/containers/<id>/task.json. Host things are named (paths, as the
// engine knows them) and, in a request, also given as descriptor indices; a stored document has fd = -1 everywhere.

#define TASK_DOCUMENT_VERSION 1

struct task_layer {
    char *diff_id;
    char *dir, *erofs; // where it is on the host: an unpacked folder, or (vm) an EROFS image
    int64_t fd; // of the one that counts
};
struct task_upper {
    char *kind; // "dir"; "disk": an ext4 image, the guest makes upper/ and work/ on it
    char *path; // folder that holds upper/ and work/, or the image
    int64_t upper_fd, work_fd; // disk: upper_fd is the image, work_fd -1
    bool ephemeral;
};
struct task_rootfs {
    char *kind; // "layers" | "tree"
    struct json_list layers; // struct task_layer, top first
    struct task_upper upper;
    bool read_only;
};
struct task_mount {
    char *kind; // "bind" | "volume" | "image" | "tmpfs" | "shared": another container's mount at the same target
    char *source; // host path, for people and the next start; shared: the other's id
    char *target;
    int64_t fd; // shared: the other's mount namespace
    bool read_only, recursive, no_exec, no_suid, no_dev;
    bool writable_below; // what is mounted below the source keeps its own attributes
    bool mapped; // its ids are those of the container's user namespace, if it has one
    char *propagation, *data;
};
struct task_nic {
    char *name, *mac, *address, *gateway;
    char *address6, *gateway6; // "" or NULL: no IPv6
    int64_t prefix, prefix6, mtu; // mtu 0: the card's own
    int64_t netns_fd, tap_fd; // container: the namespace it is in; vm: the tap behind the guest's card
};
struct task_port {
    char *proto; // "tcp" | "udp"
    char *host_address, *target_address;
    int64_t host_port, target_port, listener_fd; // listener_fd -1: nothing of the host's is bound
    bool held; // the listener is kept, and nothing is relayed
};
struct task_file {
    char *path, *content; // path in the container; bind-mounted from <container folder>/files/<base name>; as
                          // writable as the root
    int64_t mode;
};
// A namespace that is there already, which the linux section does not list: another container's, or the user namespace of the run, whose
// maps the section has; network namespace, layers and upper are then given with its ids.
struct task_join {
    char *type; // in the words of the linux section: "ipc" "pid" "network" "user"
    char *container; // its id, for people
    int64_t fd;
};
// The daemon has read the client's options: what stands here is settled.
struct task_log {
    char *driver; // "none" "json-file" "local" "syslog" "journald" "gelf" "fluentd"
    char *path; // absolute host path of the file; "": none (of a remote one: what keeps a copy for docker logs)
    int64_t max_size, max_files; // bytes before it is rotated, 0: never; files altogether
    bool compress;
    char *attrs; // json-file, gelf: a JSON object for each line, "": none
    char *address; // "tcp://1.2.3.4:514" "udp://[::1]:514" "unix:///path" "unixgram:///path"
    int64_t facility;
    char *format, *hostname, *tag; // syslog: "" "rfc3164" "rfc5424" "rfc5424micro"
    struct kvs fields; // journald, fluentd: of each line
    char *compression; // gelf in datagrams: "gzip" "zlib" "none"
    int64_t compression_level; // zlib's, -1 to 9
    bool precise_time; // fluentd: with nanoseconds
    bool ack; // fluentd: each message is answered, or sent again
    int64_t ack_ns, write_ns; // fluentd: how long an answer may take, 0: LOG_STALL_NS; and one message to get out, 0: for ever
    bool late; // a start does not wait for the connection
    int64_t retry_ns; // between two tries to connect; 0: a second
    int64_t max_tries; // then what waits is lost, and the next line begins anew; 0: for ever
    bool non_blocking;
    int64_t buffer_size; // bytes that may wait for a remote log; 0: 1 MiB
};
struct task_stdio {
    bool terminal, open_stdin, stdin_once;
    int64_t height, width;
};
// The machine around a guest: what runs it and how big it is.
struct task_vm {
    char *accel; // "kvm": berth-vmm; "tcg": QEMU's software emulation
    char *vmm; // the program's path on the host
    char *cmdline; // words added to the kernel's command line, may be ""
    char *kernel; // its release, for people
    int64_t vcpus, memory_size; // bytes of guest RAM
    int64_t kernel_fd, initrd_fd;
    int64_t kvm_fd, vmm_fd; // kvm: /dev/kvm and the program; else -1
    int64_t uid; // of the jailed VMM, owner of the upper's disk
};
struct task_document {
    int64_t version;
    char *id, *daemon_id;
    char *isolation; // "container" | "vm"
    struct task_vm *vm; // NULL: a container
    struct oci_process process;
    struct oci_linux linux_section;
    char *hostname, *domainname;
    struct task_rootfs rootfs;
    struct json_list mounts, nics, ports, files; // task_mount, task_nic, task_port, task_file
    size_t path_mounts; // how many of the mounts have a host's path as source; they come first. Not sent
    struct json_list joins; // task_join
    struct task_log log;
    struct task_stdio stdio;
    char *stop_signal;
    bool init;
    struct oci_hooks *hooks; // NULL: none; containers only
};
extern const struct json_table task_document_table;
extern const struct json_table task_log_table, task_layer_table, task_mount_table, task_nic_table, task_port_table, task_file_table;
extern const struct json_table task_join_table;

// What its resources mean to a control group, on either side of a wall; what is not owned by `from` is in the arena.
struct cgroup_limits;
void task_limits(const struct oci_resources *from, struct arena *arena, struct cgroup_limits *out);

// ---- verbs ----------------------------------------------------------------------------------------------------------
//
//   verb         arguments (besides "verb")                          result
//   hello        proto_min proto_max                                 proto, version, pid
//   create       document, attach: [task_attach]                     pid; kernel (vm: the guest's release)
//                checkpoint: {fd: of its folder, program: criu}      instead of beginning, the processes of the checkpoint go on
//   start                                                            pid, started_ns
//   state                                                            task_state; descriptors: netns first, then listeners
//   delete                                                           (kills what still runs; the shim then ends)
//   kill         signal, exec_id ("" is the first process), all
//   exec         exec_id, process, stdio, attach: [task_attach]      pid
//   resize       exec_id, height, width
//   stdin_close  exec_id
//   attach       exec_id, attach: [task_attach]
//   pause, resume
//   checkpoint   checkpoint: {fd, program}, leave_running            (container) the processes are in that folder, and ended unless they are left
//   root                                                           (container) descriptor: a detached mount of its root, without other mounts
//   update       resources: oci_resources, of the host's cgroup
//   files        op path keep_kind owner freeze data_fd report_fd  (vm) a worker of the guest (archive/worker.h): its report, and its tar if
//                                                                  data_fd is not -1, go through these pipes
//   resolver     lists_fd, (container) udp_fd tcp_fd                 answers names there (dns/dns.h): lists by that folder, settings by the state folder
//   event_ack    seq                                                 (no response frame)
//
// Not yet: stats pids nic_* port_* mount_* file_put snapshot migrate_*.

// A client's hijacked socket, handed to the shim for good.
struct task_attach {
    int64_t fd;
    bool in, out, error;
    bool framed; // Docker's 8-byte multiplex headers
    char *detach_keys; // raw bytes' textual form as Docker's query has it ("ctrl-p,ctrl-q"); "" or NULL: none
};
extern const struct json_table task_attach_table;

struct task_exec {
    char *exec_id;
    struct oci_process process;
    struct task_stdio stdio;
    bool unconfined;
    char *seccomp_profile; // unless unconfined: a profile of its own, as JSON text; empty: the default one
};
extern const struct json_table task_exec_table;
const char *task_exec_seccomp(const struct task_exec *exec); // in the words of oci_linux.seccomp_profile

struct task_state {
    char *status; // "created" "running" "paused" "exited"
    int64_t pid, started_ns, exited_ns, exit_code;
    bool oom;
    struct strv execs; // running ones
};
extern const struct json_table task_state_table;

// Events: started exited exec_exited oom paused resumed detached. Unused fields are absent.
struct task_event {
    int64_t seq, time_ns, pid, exit_code;
    char *kind, *exec_id, *message;
    bool oom;
};
extern const struct json_table task_event_table;

// <root>/containers/<id>/exit.json, written and renamed before the exited event is sent.
struct task_exit_record {
    int64_t exit_code, time_ns, started_ns;
    bool oom;
    char *boot_id;
};
extern const struct json_table task_exit_record_table;
#define TASK_EXIT_RECORD_NAME "exit.json"

// ---- the guest's part -------------------------------------------------------------------------------------------------
//
// What a shim says to berth-guest over the guest link (link.h). The document is the same one, without what only means something on
// the host: paths, log, ports; all indices are -1. Layer i stands in partition i + 1 of the layers' disk, the upper on the disk after it.
//
//   verb    arguments                                  result
//   create  document, streams: task_streams            kernel; everything is made up to the exec
//   start                                              pid
//   exec    task_exec's, streams: task_streams         pid
//   kill    signal, exec_id ("" is the first), all
//   resize  exec_id, height, width
//   files   op path keep_kind owner freeze, streams: report as `error`, tar as `in` or `out`
//   resolver  streams: `in`, both ways                                takes questions on 127.0.0.11, port 53
//
// The resolver's stream has DNS messages as TCP has them, each with a tag before it that the guest draws and that its answer has, too:
//     u16 size (big-endian) | u32 tag | message          a tag with TASK_NAMES_STREAM is of a client by TCP, whose answers may be long
//
// Events: {"kind": "exited", "exit_code", "oom"} when the first process has ended, {"kind": "exec_exited", "exec_id", "exit_code"},
// {"kind": "oom"}, and as the last one {"kind": "halted"}: all output is sent, the upper is synced and unmounted, the machine may go.

#define TASK_NAMES_TAG_SIZE 4 // in the machine's byte order: only the guest reads it, but for this bit
#define TASK_NAMES_STREAM 0x80000000u

// Numbers of a process's streams; 0: none. With a terminal only that, both ways.
struct task_streams {
    int64_t in, out, error, terminal;
};
extern const struct json_table task_streams_table;

// ---- frames ---------------------------------------------------------------------------------------------------------

struct task_frame {
    uint16_t type, flags;
    uint64_t id;
    json_t *payload; // owned; NULL for FDS
    int *fds; // owned
    size_t fd_len;
};
void task_frame_done(struct task_frame *frame);
#define _cleanup_frame_ _cleanup_(task_frame_done)

// Blocking send of one frame (with TASK_FDS frames before it where needed). Descriptors and payload stay the caller's.
int task_send(int sock, uint16_t type, uint64_t id, json_t *payload, const int *fds, size_t fd_len, struct err *err);
int task_send_error(int sock, uint64_t id, const struct err *error, struct err *err);

// Incremental reader for a non-blocking or blocking socket: feed when readable, take complete frames. All sizes are
// checked before anything is allocated; a violation is invalid_argument and the connection must be closed.
struct task_reader;
int task_reader_new(int sock, struct task_reader **out);
void task_reader_free(struct task_reader *reader); // the socket stays the caller's
// One recvmsg. 1: something came, 0: would block, -1: error or end of stream (ERR_UNAVAILABLE "connection closed").
int task_reader_feed(struct task_reader *reader, struct err *err);
// 1 and a frame (the caller owns it), 0 none complete yet, -1 malformed. FDS frames are folded into the next one.
int task_reader_next(struct task_reader *reader, struct task_frame *out, struct err *err);

// ---- the calling side -----------------------------------------------------------------------------------------------

// One connection to a shim. Calls block the calling thread (any thread) until the answer comes; the connection is read in the
// watcher's loop, which also gets the events: `on_event` and `on_closed` run there and must only queue work.
struct task_client;
typedef void task_event_fn(void *context, const struct task_event *event);
typedef void task_closed_fn(void *context);
int task_client_new(int sock, struct loop *loop, task_event_fn *on_event, task_closed_fn *on_closed, void *context,
                    struct task_client **out, struct err *err); // takes the socket; sends hello and checks the answer
// Blocks until no callback runs any more; not from the loop's own thread unless the loop is what calls it. No call may be under way:
// whoever calls and whoever frees take turns (container_begin() in the engine).
void task_client_free(struct task_client *client);
// `arguments` is borrowed (the verb is added to a copy). *result (may be NULL) is a new reference; *fds (may be NULL) a malloc'ed array of
// owned descriptors. The shim's error comes back as it is. ERR_UNAVAILABLE when the shim is gone or silent for `timeout_ns`.
int task_call(struct task_client *client, const char *verb, json_t *arguments, const int *send_fds, size_t send_len,
              int64_t timeout_ns, json_t **result, int **fds, size_t *fd_len, struct err *err);
void task_ack(struct task_client *client, int64_t seq);

#endif
