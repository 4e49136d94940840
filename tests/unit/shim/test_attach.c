// Streams through a real container: attached clients, terminals, exec, published ports.
#include "fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>

struct attached {
    int fd; // the client's end
    int other; // sent to the shim
};

static struct attached attached_new(void)
{
    int ends[2];
    assert_int_equal(fd_socketpair(SOCK_STREAM, ends, NULL), 0);
    return (struct attached){ ends[0], ends[1] };
}

// The daemon's own copy goes once the shim has it.
static void sent(struct attached *attached)
{
    fd_close(take_fd(&attached->other));
}

static const struct task_attach raw_output = { .out = true, .error = true };
static const struct task_attach framed_output = { .out = true, .error = true, .framed = true };
static const struct task_attach both_ways = { .in = true, .out = true, .error = true };

static void run_attached(struct box *box, struct run run, const struct task_attach *attach, struct attached *attached)
{
    *attached = attached_new();
    run.attach = attach;
    run.attach_fds = &attached->other;
    run.attach_len = 1;
    box_run(box, &run);
    sent(attached);
}

static void put(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void kill_it(struct box *box)
{
    box_call(box, "kill", json_pack("{s:i}", "signal", SIGKILL));
    box_await(box, "exited", 0);
}

static void output_framed_whole_and_after_the_exit_is_known(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    struct attached client;
    box->hold_acks = true;
    run_attached(box, (struct run){ .script = "echo one; sleep 0.05; echo two >&2; sleep 0.05; echo three" }, &framed_output, &client);
    size_t at = box_await(box, "exited", 0);
    char bytes[64];
    static const char wanted[] = "\1\0\0\0\0\0\0\4one\n\2\0\0\0\0\0\0\4two\n\1\0\0\0\0\0\0\6three\n";
    assert_int_equal(fd_read_full(client.fd, bytes, sizeof(wanted) - 1, NULL), sizeof(wanted) - 1);
    assert_memory_equal(bytes, wanted, sizeof(wanted) - 1);
    struct pollfd wait = { client.fd, POLLIN, 0 };
    assert_int_equal(poll(&wait, 1, 200), 0); // not before the acknowledgement
    task_ack(box->client, box->events[at].seq);
    assert_int_equal(poll(&wait, 1, 5000), 1);
    assert_int_equal(read(client.fd, bytes, 1), 0);
    fd_close(client.fd);
}

static void without_a_daemon_the_stream_ends_by_itself(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    struct attached client;
    run_attached(box, (struct run){ .script = "sleep 0.2; echo end" }, &raw_output, &client);
    box_disconnect(box);
    _cleanup_free_ char *text = read_text(client.fd, NULL);
    assert_string_equal(text, "end\n");
    fd_close(client.fd);
}

static void much_output_is_whole(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    struct attached client;
    run_attached(box, (struct run){ .script = "seq 1 500000" }, &raw_output, &client);
    _cleanup_free_ char *text = read_text(client.fd, NULL);
    assert_int_equal(strlen(text), 3388895);
    assert_string_equal(text + strlen(text) - 14, "499999\n500000\n");
    _cleanup_free_ char *log = box_log(box);
    assert_non_null(strstr(log, "{\"log\":\"500000\\n\""));
    fd_close(client.fd);
}

static void input_to_the_end(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    struct attached client;
    run_attached(box, (struct run){ .script = "cat; exit 6", .open_stdin = true, .stdin_once = true }, &both_ways, &client);
    put(client.fd, "there and back\n");
    shutdown(client.fd, SHUT_WR);
    _cleanup_free_ char *text = read_text(client.fd, NULL);
    assert_string_equal(text, "there and back\n");
    assert_int_equal(box->events[box_await(box, "exited", 0)].exit_code, 6);
    fd_close(client.fd);
}

static void without_open_stdin_there_is_no_input(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    struct attached client;
    run_attached(box, (struct run){ .script = "cat; echo done" }, &both_ways, &client);
    put(client.fd, "nobody");
    shutdown(client.fd, SHUT_WR);
    _cleanup_free_ char *text = read_text(client.fd, NULL);
    assert_string_equal(text, "done\n");
    fd_close(client.fd);
}

static void several_clients_and_a_later_one(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    struct attached clients[3] = { attached_new(), attached_new(), attached_new() };
    int fds[2] = { clients[0].other, clients[1].other };
    struct task_attach attach[2] = { raw_output, both_ways };
    box_run(box, &(struct run){ .script = "while read line; do echo got $line; done", .open_stdin = true, .attach = attach,
                                .attach_fds = fds, .attach_len = 2 });
    put(clients[1].fd, "a\n");
    for (size_t i = 0; i < 2; i++) {
        _cleanup_free_ char *text = read_text(clients[i].fd, "got a\n");
        assert_string_equal(text, "got a\n");
    }
    struct run later = { .attach = &both_ways, .attach_len = 1 };
    struct err err;
    json_t *result = box_call_fds(box, "attach", json_pack("{s:o}", "attach", box_attach(&later, 0)), &clients[2].other, 1, &err);
    assert_non_null(result);
    json_decref(result);
    for (size_t i = 0; i < 3; i++)
        sent(&clients[i]);
    put(clients[2].fd, "b\n");
    for (size_t i = 0; i < 3; i++) {
        _cleanup_free_ char *text = read_text(clients[i].fd, "got b\n");
        assert_string_equal(text, "got b\n");
    }
    fd_close(clients[1].fd); // one leaves: the others stay, the process too
    put(clients[2].fd, "c\n");
    _cleanup_free_ char *text = read_text(clients[0].fd, "got c\n");
    assert_string_equal(text, "got c\n");
    box_call(box, "stdin_close", NULL);
    assert_int_equal(box->events[box_await(box, "exited", 0)].exit_code, 0);
    fd_close(clients[0].fd);
    fd_close(clients[2].fd);
}

static void no_log_is_no_file(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    struct attached client;
    run_attached(box, (struct run){ .script = "echo x", .no_log = true }, &raw_output, &client);
    _cleanup_free_ char *text = read_text(client.fd, NULL);
    assert_string_equal(text, "x\n");
    assert_int_equal(access(box->log_path, F_OK), -1);
    fd_close(client.fd);
}

// ---- terminal -------------------------------------------------------------------------------------------------------

static void a_terminal_has_its_size_and_name(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    struct attached client;
    run_attached(box, (struct run){ .script = "tty; stty size; read line; stty size; echo $line", .terminal = true,
                                    .open_stdin = true }, &both_ways, &client);
    _cleanup_free_ char *first = read_text(client.fd, "25 81\r\n");
    assert_string_equal(first, "/dev/pts/0\r\n25 81\r\n");
    box_call(box, "resize", json_pack("{s:i, s:i}", "height", 40, "width", 120));
    put(client.fd, "typed\n");
    _cleanup_free_ char *second = read_text(client.fd, NULL);
    assert_string_equal(second, "typed\r\n40 120\r\ntyped\r\n"); // the echo, then the answers
    struct err err;
    box_await(box, "exited", 0);
    assert_int_equal(box_try(box, "resize", json_pack("{s:i, s:i}", "height", 1, "width", 1), &err), -1);
    fd_close(client.fd);
}

static void detach_keys_leave_it_running(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    struct attached client;
    const struct task_attach attach = { .in = true, .out = true, .detach_keys = (char *)"ctrl-p,ctrl-q" };
    run_attached(box, (struct run){ .script = "exec cat", .terminal = true, .open_stdin = true }, &attach, &client);
    put(client.fd, "x\n");
    free(read_text(client.fd, "x\r\nx\r\n"));
    put(client.fd, "\x10\x11");
    _cleanup_free_ char *rest = read_text(client.fd, NULL);
    assert_string_equal(rest, "");
    box_await(box, "detached", 0);
    struct arena arena = ARENA_INIT;
    struct task_state now;
    box_state(box, &now, &arena);
    assert_string_equal(now.status, "running");
    arena_done(&arena);
    kill_it(box);
    fd_close(client.fd);
}

// ---- exec -----------------------------------------------------------------------------------------------------------

static void exec_has_its_own_streams_and_code(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    struct attached client = attached_new();
    struct err err;
    box_run(box, &(struct run){ .script = "exec sleep 1000" });
    struct run run = { .script = "hostname; cat; echo oops >&2; exit 42", .open_stdin = true, .stdin_once = true,
                       .attach = &both_ways, .attach_fds = &client.other, .attach_len = 1 };
    if (box_exec(box, "e1", &run, &err) < 0)
        fail_msg("%s", err.message);
    sent(&client);
    put(client.fd, "input\n");
    shutdown(client.fd, SHUT_WR);
    _cleanup_free_ char *text = read_text(client.fd, NULL);
    assert_string_equal(text, "box\ninput\noops\n");
    size_t at = box_await(box, "exec_exited", 0);
    assert_string_equal(box->events[at].exec_id, "e1");
    assert_int_equal(box->events[at].exit_code, 42);
    _cleanup_free_ char *log = box_log(box);
    assert_string_equal(log, ""); // an exec is not logged
    struct arena arena = ARENA_INIT;
    struct task_state now;
    box_state(box, &now, &arena);
    assert_int_equal(now.execs.len, 0);
    arena_done(&arena);
    kill_it(box);
    fd_close(client.fd);
}

static void exec_failures_leave_the_client_whole(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    struct attached client = attached_new();
    struct err err = { 0 };
    const char *const args[] = { "nosuch", NULL };
    box_run(box, &(struct run){ .script = "exec sleep 1000" });
    struct run run = { .args = args, .attach = &raw_output, .attach_fds = &client.other, .attach_len = 1 };
    assert_int_equal(box_exec(box, "e1", &run, &err), -1);
    assert_non_null(strstr(err.message, "exec: \"nosuch\": executable file not found in $PATH"));
    put(client.other, "the daemon's words"); // through its own copy
    sent(&client);
    _cleanup_free_ char *text = read_text(client.fd, NULL);
    assert_string_equal(text, "the daemon's words");
    fd_close(client.fd);
    kill_it(box);
    assert_int_equal(box_exec(box, "e2", &(struct run){ .script = "true" }, &err), -1);
    assert_int_equal(err.class, ERR_CONFLICT);
}

static void exec_on_a_terminal_detached_and_killed(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    struct attached client = attached_new();
    struct err err = { 0 };
    box_run(box, &(struct run){ .script = "exec sleep 1000" });
    struct run run = { .script = "stty size; exec cat", .terminal = true, .open_stdin = true, .attach = &both_ways,
                       .attach_fds = &client.other, .attach_len = 1 };
    if (box_exec(box, "e1", &run, &err) < 0)
        fail_msg("%s", err.message);
    sent(&client);
    free(read_text(client.fd, "25 81\r\n"));
    assert_int_equal(box_exec(box, "e1", &(struct run){ .script = "true" }, &err), -1); // the id is taken
    assert_int_equal(err.class, ERR_CONFLICT);
    box_call(box, "resize", json_pack("{s:s, s:i, s:i}", "exec_id", "e1", "height", 9, "width", 9));
    if (box_exec(box, "e2", &(struct run){ .script = "echo nowhere; exit 2" }, &err) < 0) // nobody attached
        fail_msg("%s", err.message);
    size_t at = box_await(box, "exec_exited", 0);
    assert_string_equal(box->events[at].exec_id, "e2");
    assert_int_equal(box->events[at].exit_code, 2);
    box_call(box, "kill", json_pack("{s:i, s:s}", "signal", SIGKILL, "exec_id", "e1"));
    at = box_await(box, "exec_exited", at + 1);
    assert_int_equal(box->events[at].exit_code, 137);
    free(read_text(client.fd, NULL));
    fd_close(client.fd);
    kill_it(box);
}

// A background child of an exec keeps its pipes: the exec ends all the same, after a short grace.
static void exec_does_not_wait_for_its_grandchildren(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    struct attached client = attached_new();
    struct err err = { 0 };
    box_run(box, &(struct run){ .script = "exec sleep 1000" });
    struct run run = { .script = "sleep 500 & echo started", .attach = &raw_output, .attach_fds = &client.other, .attach_len = 1 };
    int64_t begin = clock_mono_ns();
    if (box_exec(box, "e1", &run, &err) < 0)
        fail_msg("%s", err.message);
    sent(&client);
    _cleanup_free_ char *text = read_text(client.fd, NULL);
    assert_string_equal(text, "started\n");
    assert_true(clock_mono_ns() - begin < 5 * NS_PER_S);
    fd_close(client.fd);
    kill_it(box);
}

static void execs_die_with_the_container(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    struct attached client = attached_new();
    struct err err = { 0 };
    box_run(box, &(struct run){ .script = "exec sleep 1000" });
    struct run run = { .script = "exec sleep 1000", .attach = &raw_output, .attach_fds = &client.other, .attach_len = 1 };
    if (box_exec(box, "e1", &run, &err) < 0)
        fail_msg("%s", err.message);
    sent(&client);
    kill_it(box);
    assert_int_equal(box->events[box_await(box, "exec_exited", 0)].exit_code, 137);
    _cleanup_free_ char *text = read_text(client.fd, NULL);
    assert_string_equal(text, "");
    fd_close(client.fd);
}

// ---- descriptors that the shim keeps --------------------------------------------------------------------------------

static int listen_on_loopback(uint16_t *port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(fd, 8), 0);
    getsockname(fd, (struct sockaddr *)&address, &size);
    *port = ntohs(address.sin_port);
    return fd;
}

static void a_published_port_is_relayed_and_handed_back(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    struct run run = { .script = "exec sleep 1000" };
    uint16_t published, target;
    int listener = listen_on_loopback(&published), server = listen_on_loopback(&target);
    int fds[5] = { openat(box->dir_fd, "layer", O_RDONLY | O_CLOEXEC), openat(box->dir_fd, "upper", O_RDONLY | O_CLOEXEC),
                   openat(box->dir_fd, "work", O_RDONLY | O_CLOEXEC), listener, open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC) };
    json_t *document = box_document(box, &run);
    json_object_set_new(document, "ports", json_pack("[{s:s, s:s, s:i, s:i}]", "proto", "tcp", "target_address", "127.0.0.1",
                                                     "target_port", target, "listener_fd", 3));
    json_object_set_new(document, "nics", json_pack("[{s:s, s:i, s:i}]", "name", "eth0", "netns_fd", 4, "tap_fd", -1));
    json_array_remove(json_object_get(json_object_get(document, "linux"), "namespaces"), 4);
    struct err err;
    json_t *result = box_call_fds(box, "create", json_pack("{s:o}", "document", document), fds, 5, &err);
    if (!result)
        fail_msg("%s", err.message);
    json_decref(result);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        fd_close(fds[i]);
    box_call(box, "start", NULL);

    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(published), .sin_addr = { htonl(INADDR_LOOPBACK) } };
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
    int accepted = accept(server, NULL, NULL);
    put(client, "hello");
    shutdown(client, SHUT_WR);
    _cleanup_free_ char *text = read_text(accepted, NULL);
    assert_string_equal(text, "hello");

    int *back;
    size_t back_len;
    assert_int_equal(task_call(box->client, "state", NULL, NULL, 0, CALL_NS, NULL, &back, &back_len, &err), 0);
    assert_int_equal(back_len, 2); // the network namespace, then the listener
    struct stat ours, theirs;
    int listening = 0;
    socklen_t size = sizeof(listening);
    fstat(back[0], &theirs);
    stat("/proc/self/ns/net", &ours);
    assert_true(ours.st_ino == theirs.st_ino);
    assert_int_equal(getsockopt(back[1], SOL_SOCKET, SO_ACCEPTCONN, &listening, &size), 0);
    assert_int_equal(listening, 1);
    fd_close(back[0]);
    fd_close(back[1]);
    free(back);

    kill_it(box);
    int again = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(again, (struct sockaddr *)&address, sizeof(address)), -1); // the port is free
    fd_close(again);
    fd_close(client);
    fd_close(accepted);
    fd_close(server);
}

static void files_are_in_their_places(void **state)
{
    NEED_BOX(state);
    struct box *box = *state;
    struct attached client;
    run_attached(box, (struct run){ .script = "cat /etc/hosts; echo more >> /etc/hosts; hostname" }, &raw_output, &client);
    _cleanup_free_ char *text = read_text(client.fd, NULL);
    assert_string_equal(text, "127.0.0.1 localhost\nbox\n");
    struct buf hosts = BUF_INIT(4096);
    assert_int_equal(file_read_at(box->container_fd, "files/hosts", &hosts, NULL), 0);
    buf_addc(&hosts, '\0');
    assert_string_equal(hosts.data, "127.0.0.1 localhost\nmore\n");
    buf_done(&hosts);
    fd_close(client.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOX_TEST(output_framed_whole_and_after_the_exit_is_known),
        BOX_TEST(without_a_daemon_the_stream_ends_by_itself),
        BOX_TEST(much_output_is_whole),
        BOX_TEST(input_to_the_end),
        BOX_TEST(without_open_stdin_there_is_no_input),
        BOX_TEST(several_clients_and_a_later_one),
        BOX_TEST(no_log_is_no_file),
        BOX_TEST(a_terminal_has_its_size_and_name),
        BOX_TEST(detach_keys_leave_it_running),
        BOX_TEST(exec_has_its_own_streams_and_code),
        BOX_TEST(exec_failures_leave_the_client_whole),
        BOX_TEST(exec_on_a_terminal_detached_and_killed),
        BOX_TEST(exec_does_not_wait_for_its_grandchildren),
        BOX_TEST(execs_die_with_the_container),
        BOX_TEST(a_published_port_is_relayed_and_handed_back),
        BOX_TEST(files_are_in_their_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
