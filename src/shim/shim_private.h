// What the shim's files share. One thread, one loop; nothing here is locked.
//
//     shim                 one per process
//      +- connections      daemons that connected; one of them has said hello and counts
//      +- events           what happened, in order, until acknowledged
//      +- init             the container's first process           (struct unit)
//      +- execs            further processes                       (struct unit)
//           +- stdio       two outlets (or a terminal), one inlet
//                +- clients  attached sockets
//
// Callbacks may end anything while a caller further up still looks at it. So ending only marks (`gone`, UNIT_ENDED) and
// gives descriptors back; memory goes in shim_sweep(), which runs from the loop itself.
#ifndef SHIM_SHIM_PRIVATE_H
#define SHIM_SHIM_PRIVATE_H

#include <stdio.h>
#include <sys/types.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/loop.h"
#include "kernel/cgroup.h"
#include "sandbox/document.h"
#include "sandbox/sandbox.h"
#include "shim/log.h"
#include "shim/shim.h"
#include "task/task.h"

#define SHIM_COPY_SIZE (64u << 10) // the one buffer that bytes pass through
#define SHIM_EVENT_MAX 4096 // not acknowledged; beyond it nothing new is started
#define SHIM_CONNECTION_MAX 8
#define SHIM_DRAIN_GRACE_NS (1 * NS_PER_S) // for the pipes of a dead process that somebody else still holds open
// A reader at its budget holds the output back; one that then takes nothing at all for so long is dropped.
#define SHIM_READER_STALL_NS (10 * NS_PER_S)

struct shim;
struct unit;
struct stdio;

// ---- detach keys (detach_keys.c) ------------------------------------------------------------------------------------

#define DETACH_KEYS_MAX 32

struct detach_keys {
    uint8_t keys[DETACH_KEYS_MAX];
    size_t len; // 0: never detaches
    size_t matched; // of the sequence, held back so far
};

// "ctrl-p,ctrl-q", "a", "ctrl-x,a", "DEL"; "" and NULL are none. invalid_argument for an unknown key.
int detach_keys_parse(const char *text, struct detach_keys *out, struct err *err);
// Passes input on to `out` (room for size + DETACH_KEYS_MAX bytes) without the held-back start of a sequence; *out_size
// is the count. True when the sequence is complete: what follows it in `in` is dropped.
bool detach_keys_filter(struct detach_keys *keys, const uint8_t *in, size_t size, uint8_t *out, size_t *out_size);

// ---- attached clients (attach.c) ------------------------------------------------------------------------------------

enum stdio_stream { STDIO_IN = 0, STDIO_OUT = 1, STDIO_ERROR = 2 };

enum client_patience { PATIENCE_ENDLESS, PATIENCE_SHORT, PATIENCE_LONG };

struct client {
    struct client *next;
    struct stdio *stdio;
    int fd; // its own, a socket
    bool in, out, error, framed;
    bool finishing; // closes once the queue is empty
    bool hung_up; // the peer is gone, its last input is not read yet
    bool gone; // closed; swept later
    struct detach_keys keys;
    struct loop_source *source;
    struct loop_source *stall; // timer, of that patience
    struct loop_source *head_wait; // timer: looks whether what stood in the socket before us was read
    int64_t head_until_ns; // no longer than until then; 0: it was
    enum client_patience patience;
    struct buf queue; // not sent yet, from queue_head on
    size_t queue_head;
};

// Takes `fd` on success only.
int client_new(const struct task_attach *attach, int fd, struct client **out, struct err *err);
// Never adopted: memory and descriptor go, the connection itself (which may live on elsewhere) stays.
void client_discard(struct client *client);
void client_list_discard(struct client *list);
int client_watch(struct client *client, struct err *err); // joins the loop, after stdio_add_client()
void client_write(struct client *client, enum stdio_stream stream, const void *data, size_t size);
void client_finish(struct client *client); // sends what is queued, then closes
void client_drop(struct client *client); // closes now, for every holder of the connection
void client_read_on(struct client *client); // there is room for input again
size_t client_pending(const struct client *client);

// ---- stdio of one process (stdio.c) ---------------------------------------------------------------------------------

struct outlet {
    struct stdio *stdio;
    enum stdio_stream stream;
    int fd; // -1: ended, or never was
    struct loop_source *source; // NULL while held back
    struct loop_source *retry; // a terminal without an open slave is looked at again
};

struct stdio {
    struct loop *loop;
    char *copy; // SHIM_COPY_SIZE bytes, shared by all
    struct log *log; // borrowed; NULL: output is not logged
    int64_t stall_ns;
    bool terminal, stdin_once;
    bool far; // a terminal is behind the wall: its bytes come through pipes like all others
    bool process_dead; // no holding back any more; a terminal ends with its slave
    struct outlet outlets[2];
    int in_fd; // -1: closed, or never open
    struct loop_source *in_source; // while `in_pending` has bytes
    struct buf in_pending;
    bool in_closing; // closes once in_pending is written
    struct client *clients;
    void (*on_drained)(void *context); // all outlets have ended
    void (*on_detached)(void *context);
    void (*on_client_gone)(void *context);
    void *context;
};

// The process's ends; -1 where a terminal takes their place. Given to the sandbox, closed afterwards.
struct stdio_ends {
    int in, out, error;
};
#define STDIO_ENDS_NONE { -1, -1, -1 }
void stdio_ends_done(struct stdio_ends *ends);

// `discard`: nobody will ever look (a detached exec), everything is /dev/null.
int stdio_open(struct stdio *stdio, const struct task_stdio *wish, bool discard, struct stdio_ends *ends,
               struct err *err);
// Takes the terminal's master (-1 where there is none, or it is far) and begins to read.
int stdio_begin(struct stdio *stdio, int master_fd, const struct task_stdio *wish, struct err *err);
void stdio_done(struct stdio *stdio); // clients that are left are closed
int stdio_resize(struct stdio *stdio, int64_t height, int64_t width, struct err *err);
void stdio_add_client(struct stdio *stdio, struct client *client);
void stdio_finish_clients(struct stdio *stdio);
bool stdio_has_clients(const struct stdio *stdio);
void stdio_sweep(struct stdio *stdio); // frees clients that are gone
bool stdio_drained(const struct stdio *stdio);
void stdio_process_died(struct stdio *stdio);
void stdio_abandon_output(struct stdio *stdio); // takes what is there and ends the outlets
void stdio_reader_changed(struct stdio *stdio); // a client has caught up or left, or the log has room again

bool stdio_input_open(const struct stdio *stdio);
bool stdio_input_ready(const struct stdio *stdio); // takes input now
void stdio_input(struct stdio *stdio, const void *data, size_t size); // only when ready; at most SHIM_COPY_SIZE
void stdio_close_input(struct stdio *stdio); // after what is pending

// ---- published ports (port_relay.c) ---------------------------------------------------------------------------------

#define RELAY_TCP_MAX 512
#define RELAY_UDP_MAX 256
#define RELAY_UDP_IDLE_NS (90 * NS_PER_S)

struct relay_set;
struct relay_set *relay_set_new(struct loop *loop, char *copy);
void relay_set_stop(struct relay_set *set); // closes the listeners; connections run on until their last byte
void relay_set_free(struct relay_set *set); // closes everything
// Takes the listener on success only.
int relay_set_add(struct relay_set *set, const struct task_port *port, int listener, struct err *err);
// The container's address is another one from here on; connections that stand go on.
int relay_set_retarget(struct relay_set *set, const char *address, const char *address6, struct err *err);
size_t relay_set_listeners(const struct relay_set *set, int *fds, size_t max); // borrowed, in the order they were added

// ---- names (resolver.h) ---------------------------------------------------------------------------------------------

struct resolver;
void resolver_free(struct resolver *resolver); // NULL is fine

// ---- exit record (exit_record.c) ------------------------------------------------------------------------------------

int exit_record_write(int container_fd, int exit_code, int64_t time_ns, int64_t started_ns, bool oom, struct err *err);

// ---- events (event_queue.c) -----------------------------------------------------------------------------------------

struct event {
    struct event *next;
    struct task_event event; // strings malloc'ed
};
struct event_queue {
    struct event *first, *last;
    size_t len;
    int64_t last_seq;
};
// Copies the event, gives it its number and time.
const struct task_event *event_queue_add(struct event_queue *queue, const struct task_event *event);
bool event_queue_ack(struct event_queue *queue, int64_t seq); // false: not there
void event_queue_done(struct event_queue *queue);

// ---- processes (unit.c) ---------------------------------------------------------------------------------------------

#define UNIT_STREAM_MAX 3

struct link_stream;

enum unit_state { UNIT_CREATED, UNIT_RUNNING, UNIT_DRAINING, UNIT_ENDED };

struct unit {
    struct unit *next;
    struct shim *shim;
    char *exec_id; // "" is the container's first process
    enum unit_state state;
    // The process's own, or (the first one of a machine) that of the VMM; NULL once reaped, and for an exec in a guest.
    struct sandbox *sandbox;
    pid_t pid;
    struct loop_source *exit_source, *grace;
    int64_t grace_ns; // for output after the process's end
    bool held; // does not end before unit_release()
    struct link_stream *streams[UNIT_STREAM_MAX]; // behind a machine: the far ends of its stdio
    int64_t started_ns, exited_ns;
    int exit_code;
    bool oom;
    char *message; // why it ended, where the exit code does not tell; may be NULL
    int64_t end_seq; // of the event that tells the end
    struct stdio stdio;
};

struct unit *unit_new(struct shim *shim, const char *exec_id);
void unit_free(struct unit *unit); // kills what still runs
void unit_drop_streams(struct unit *unit);
bool unit_is_init(const struct unit *unit);
bool unit_is_live(const struct unit *unit);
void unit_take_clients(struct unit *unit, struct client **clients);
void unit_exited(struct unit *unit, int exit_code); // the process is dead; what it wrote may still come
void unit_release(struct unit *unit); // held no longer

// ---- the whole (shim.c, connection.c, verbs.c, request.c) ----------------------------------------------------------------------

struct connection {
    struct connection *next;
    struct shim *shim;
    int fd;
    struct task_reader *reader;
    struct loop_source *source;
    bool gone;
};

struct wall_ops;
struct aide;
struct request;
struct vm;
struct vm_times;

struct shim {
    const char *daemon_id, *container_id;
    int listener, state_fd, container_fd, init_fd;
    struct loop *loop;
    struct loop_source *listener_source;
    struct loop_source *settle; // one second after the start
    struct loop_source *housekeeping;
    char *copy;
    struct connection *connections;
    struct connection *daemon; // the one that counts, NULL: none
    struct event_queue events;
    struct request *requests; // that wait for their answer
    size_t request_len;
    bool busy; // with `create` or `start`
    const struct wall_ops *wall; // NULL before `create`
    struct vm *vm; // the machine; NULL behind the other wall
    const struct vm_times *vm_times;
    struct vm *forgotten; // machines that are freed by the next sweep
    struct aide *aide; // a checkpoint or a restore is under way; NULL: none
    struct unit *init; // NULL before `create`
    struct unit *execs;
    size_t exec_len; // living ones
    struct cgroup *cgroup;
    int64_t oom_seen;
    bool oom, paused, own_pid_namespace;
    bool hooked; // its document has hooks (hooks.h)
    uid_t root_uid; // the host's number of the root of the container's user namespace; 0: it has none
    gid_t root_gid;
    struct log *log;
    struct relay_set *relays; // NULL before `create`
    struct resolver *resolver; // NULL where no network has names
    int netns_fd; // -1: none was handed over
    bool leaving; // `delete` was answered
    bool sweeping; // a sweep is queued
    unsigned idle_rounds;
};

void shim_emit(struct shim *shim, const struct task_event *event, int64_t *seq);
void shim_schedule_sweep(struct shim *shim);
void shim_watch_housekeeping(struct shim *shim);
void shim_settle(struct shim *shim); // the container has started
void shim_oom_check(struct shim *shim);
void shim_init_ended(struct shim *shim); // ports and pausing end with the first process
void shim_leave(struct shim *shim);
void shim_daemon_gone(struct shim *shim); // nobody will acknowledge: clients go

int connection_listen(struct shim *shim, struct err *err);
void connection_close(struct connection *connection);
void connection_sweep(struct shim *shim);
void connection_send_event(struct shim *shim, const struct task_event *event);

// Answers one request; false when the connection must be closed.
bool verbs_serve(struct connection *connection, struct task_frame *frame);

#endif
