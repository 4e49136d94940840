// A shim by hand, in this process, with a task of a machine whose VMM is a fake guest in the real jail; its verbs are served
// and its loop is turned by the test.
#ifndef MACHINE_H
#define MACHINE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "shim/vm.h"

#define MACHINE_ID "00aa11bb22cc33dd44ee55ff66007788990011223344556677889900aabbccdd"
#define MACHINE_UID 61234
#define FRAMES_MAX 64

struct machine {
    struct shim shim;
    struct vm_times times;
    char dir[64], log_path[96];
    int dir_fd, far;
    struct task_reader *reader;
    struct task_frame frames[FRAMES_MAX]; // all that came
    size_t frame_len;
    uint64_t last_id;
};

static inline void machine_file(struct machine *machine, const char *name, size_t size)
{
    char *bytes = mem_alloc(size + 1);
    memset(bytes, name[0], size);
    assert_int_equal(file_write_at(machine->dir_fd, name, bytes, size, 0600, false, NULL), 0);
    free(bytes);
}

static inline void machine_connect(struct machine *machine)
{
    int ends[2];
    fd_socketpair(SOCK_STREAM, ends, NULL);
    fd_set_nonblock(ends[1], true, NULL);
    machine->far = ends[1];
    task_reader_new(machine->far, &machine->reader);
    struct connection *connection = mem_new(struct connection);
    *connection = (struct connection){ .shim = &machine->shim, .fd = ends[0] };
    task_reader_new(connection->fd, &connection->reader);
    connection->next = machine->shim.connections;
    machine->shim.connections = machine->shim.daemon = connection;
}

static inline int machine_set_up(void **state)
{
    *state = NULL;
    if (geteuid() != 0)
        return 0;
    struct machine *machine = mem_new(struct machine);
    snprintf(machine->dir, sizeof(machine->dir), "/tmp/berth-test-vm-XXXXXX");
    assert_non_null(mkdtemp(machine->dir));
    machine->dir_fd = file_open_dir(AT_FDCWD, machine->dir, NULL);
    snprintf(machine->log_path, sizeof(machine->log_path), "%s/log", machine->dir);
    machine->times = (struct vm_times){ 20 * NS_PER_S, 20 * NS_PER_S, 20 * NS_PER_S, 20 * NS_PER_S };
    machine->shim = (struct shim){ .daemon_id = "0123abcd", .container_id = MACHINE_ID, .listener = -1, .init_fd = -1,
                                   .state_fd = machine->dir_fd, .container_fd = machine->dir_fd, .netns_fd = -1,
                                   .copy = mem_alloc(SHIM_COPY_SIZE), .vm_times = &machine->times };
    assert_int_equal(loop_new(&machine->shim.loop, NULL), 0);
    machine_file(machine, "kernel", 100);
    machine_file(machine, "initrd", 100);
    machine_file(machine, "one", 8192);
    machine_file(machine, "two", 4096);
    machine_file(machine, "upper", 65536);
    machine_connect(machine);
    *state = machine;
    return 0;
}

static inline void machine_stop(void *context)
{
    loop_stop(context);
}

static inline void machine_turn(struct machine *machine)
{
    struct loop_source *timer;
    loop_add_timer(machine->shim.loop, 2 * NS_PER_MS, machine_stop, machine->shim.loop, &timer, NULL);
    loop_run(machine->shim.loop, NULL);
    loop_remove(timer);
    while (machine->frame_len < FRAMES_MAX) {
        int got = task_reader_next(machine->reader, &machine->frames[machine->frame_len], NULL);
        if (got == 1)
            machine->frame_len++;
        else if (got < 0 || task_reader_feed(machine->reader, NULL) <= 0)
            return;
    }
}

static inline int machine_tear_down(void **state)
{
    struct machine *machine = *state;
    if (!machine)
        return 0;
    struct shim *shim = &machine->shim;
    for (struct connection *connection = shim->connections; connection; connection = connection->next)
        connection_close(connection);
    connection_sweep(shim);
    if (shim->init)
        shim->wall->end(shim);
    requests_abandon(shim, &(struct err){ .class = ERR_UNAVAILABLE });
    vm_sweep(shim);
    while (shim->execs) {
        struct unit *unit = shim->execs;
        shim->execs = unit->next;
        unit_free(unit);
    }
    unit_free(shim->init);
    relay_set_free(shim->relays);
    log_free(shim->log);
    if (shim->cgroup)
        cgroup_free(shim->cgroup);
    event_queue_done(&shim->events);
    loop_remove(shim->settle);
    loop_remove(shim->housekeeping);
    loop_free(shim->loop);
    free(shim->copy);
    for (size_t i = 0; i < machine->frame_len; i++)
        task_frame_done(&machine->frames[i]);
    task_reader_free(machine->reader);
    fd_close(machine->far);
    fd_close(machine->dir_fd);
    file_remove_tree(AT_FDCWD, machine->dir, NULL);
    free(machine);
    return 0;
}

// ---- calls ----------------------------------------------------------------------------------------------------------

// The number of the request; takes `arguments`, copies the descriptors.
static inline uint64_t machine_ask(struct machine *machine, const char *verb, json_t *arguments, const int *fds, size_t len)
{
    struct task_frame frame = { .type = TASK_REQUEST, .id = ++machine->last_id, .fd_len = len };
    frame.payload = arguments ? arguments : json_object();
    json_object_set_new(frame.payload, "verb", json_string(verb));
    frame.fds = mem_alloc((len + 1) * sizeof(int));
    for (size_t i = 0; i < len; i++)
        frame.fds[i] = fd_dup(fds[i], NULL);
    if (machine->shim.daemon)
        verbs_serve(machine->shim.daemon, &frame);
    task_frame_done(&frame);
    return machine->last_id;
}

static inline struct task_frame *machine_answer(struct machine *machine, uint64_t id)
{
    int64_t deadline = clock_mono_ns() + 40 * NS_PER_S;
    while (clock_mono_ns() < deadline) {
        for (size_t i = 0; i < machine->frame_len; i++) {
            if (machine->frames[i].id == id && machine->frames[i].type != TASK_EVENT)
                return &machine->frames[i];
        }
        machine_turn(machine);
    }
    fail_msg("no answer to request %llu", (unsigned long long)id);
    return NULL;
}

static inline json_t *machine_event(struct machine *machine, const char *kind)
{
    int64_t deadline = clock_mono_ns() + 40 * NS_PER_S;
    while (clock_mono_ns() < deadline) {
        for (size_t i = 0; i < machine->frame_len; i++) {
            json_t *payload = machine->frames[i].payload;
            if (machine->frames[i].type == TASK_EVENT && str_eq(json_get_text(payload, "kind", ""), kind))
                return payload;
        }
        machine_turn(machine);
    }
    fail_msg("no event %s", kind);
    return NULL;
}

static inline void machine_good(struct machine *machine, uint64_t id)
{
    struct task_frame *frame = machine_answer(machine, id);
    if (frame->type == TASK_ERROR)
        fail_msg("%s", json_get_text(frame->payload, "message", ""));
}

static inline void machine_bad(struct machine *machine, uint64_t id, const char *class, const char *words)
{
    struct task_frame *frame = machine_answer(machine, id);
    assert_int_equal(frame->type, TASK_ERROR);
    const char *message = json_get_text(frame->payload, "message", "");
    if (!strstr(message, words))
        fail_msg("\"%s\" is not in \"%s\"", words, message);
    assert_string_equal(json_get_text(frame->payload, "class", ""), class);
}

// ---- documents ------------------------------------------------------------------------------------------------------

static inline json_t *machine_args(const char *words)
{
    json_t *args = json_array();
    _cleanup_free_ char *copy = mem_strdup(words);
    for (char *at = copy, *word; (word = strsep(&at, " "));)
        json_array_append_new(args, json_string(word));
    return args;
}

static inline json_t *machine_document(struct machine *machine, const char *vmm, const char *cmdline, const char *words)
{
    json_t *document = json_object();
    json_object_set_new(document, "version", json_integer(1));
    json_object_set_new(document, "id", json_string(MACHINE_ID));
    json_object_set_new(document, "daemon_id", json_string("0123abcd"));
    json_object_set_new(document, "isolation", json_string("vm"));
    json_object_set_new(document, "vm", json_pack("{s:s, s:s, s:s, s:i, s:I, s:i, s:i, s:i, s:i, s:i}", "accel", "tcg", "vmm",
                                                  vmm, "cmdline", cmdline, "vcpus", 1, "memory_size", (json_int_t)256 << 20,
                                                  "kernel_fd", 0, "initrd_fd", 1, "kvm_fd", -1, "vmm_fd", -1, "uid", MACHINE_UID));
    json_object_set_new(document, "process", json_pack("{s:{s:i, s:i}, s:o, s:[s], s:s}", "user", "uid", 0, "gid", 0, "args",
                                                       machine_args(words), "env", "PATH=/bin", "cwd", "/"));
    json_object_set_new(document, "linux", json_pack("{s:[{s:s}, {s:s}]}", "namespaces", "type", "pid", "type", "mount"));
    json_object_set_new(document, "rootfs",
                        json_pack("{s:s, s:[{s:s, s:i}, {s:s, s:i}], s:{s:s, s:s, s:i, s:i}}", "kind", "layers", "layers", "erofs",
                                  "/secret/one", "fd", 2, "erofs", "/secret/two", "fd", 3, "upper", "kind", "disk", "path",
                                  "/secret/upper", "upper_fd", 4, "work_fd", -1));
    json_object_set_new(document, "log", json_pack("{s:s, s:s}", "driver", "json-file", "path", machine->log_path));
    json_object_set_new(document, "stdio", json_object());
    return document;
}

// Takes the document; the id of the request.
static inline uint64_t machine_create(struct machine *machine, json_t *document, json_t *attach, const int *more, size_t more_len)
{
    static const char *const names[] = { "kernel", "initrd", "one", "two", "upper" };
    int fds[32];
    size_t len = 0;
    for (; len < ARRAY_LEN(names); len++)
        fds[len] = openat(machine->dir_fd, names[len], O_RDWR | O_CLOEXEC);
    for (size_t i = 0; i < more_len; i++)
        fds[len++] = more[i];
    json_t *arguments = json_pack("{s:o, s:o}", "document", document, "attach", attach ? attach : json_array());
    uint64_t id = machine_ask(machine, "create", arguments, fds, len);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        fd_close(fds[i]);
    return id;
}

static inline char *machine_self(void)
{
    char path[4096];
    ssize_t size = readlink("/proc/self/exe", path, sizeof(path));
    assert_true(size > 0);
    return mem_strndup(path, (size_t)size);
}

// A created machine with the fake guest in that mode.
static inline uint64_t machine_fake(struct machine *machine, const char *mode, const char *words)
{
    _cleanup_free_ char *self = machine_self();
    _cleanup_free_ char *cmdline = mem_printf("fake=%s", mode);
    return machine_create(machine, machine_document(machine, self, cmdline, words), NULL, NULL, 0);
}

// The same in berth-vmm's place.
static inline uint64_t machine_fake_kvm(struct machine *machine, const char *mode, const char *words)
{
    _cleanup_free_ char *self = machine_self();
    _cleanup_free_ char *cmdline = mem_printf("fake=%s", mode);
    json_t *document = machine_document(machine, self, cmdline, words);
    json_t *section = json_object_get(document, "vm");
    json_object_set_new(section, "accel", json_string("kvm"));
    json_object_set_new(section, "kvm_fd", json_integer(0)); // nobody looks
    return machine_create(machine, document, NULL, NULL, 0);
}

static inline char *machine_log(struct machine *machine)
{
    struct buf text = BUF_INIT(1 << 20);
    file_read_at(AT_FDCWD, machine->log_path, &text, NULL);
    return buf_take(&text);
}

#define NEED_MACHINE(state)                          \
    do {                                             \
        if (!*(state)) {                             \
            print_message("skipped: needs root\n");  \
            skip();                                  \
        }                                            \
    } while (0)

#define MACHINE_TEST(fn) cmocka_unit_test_setup_teardown(fn, machine_set_up, machine_tear_down)

#endif
