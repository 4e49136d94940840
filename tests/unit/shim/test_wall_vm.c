// The machine's wall with a guest that does as it should, and with guests that don't.
#include "machine.h"

#include <sys/wait.h>

#include "fake_guest.h"

static void expect_exit(struct machine *machine, int code, const char *words)
{
    json_t *event = machine_event(machine, "exited");
    assert_int_equal(json_get_int(event, "exit_code", -1), code);
    const char *message = json_get_text(event, "message", "");
    if (words ? !strstr(message, words) : message[0] != '\0')
        fail_msg("message: %s", message);
    assert_null(machine->shim.init->sandbox);
}

static void run_fake(struct machine *machine, const char *mode, const char *words)
{
    machine_good(machine, machine_fake(machine, mode, words));
    machine_good(machine, machine_ask(machine, "start", NULL, NULL, 0));
}

// ---- as it should be ------------------------------------------------------------------------------------------------

static void a_life(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    uint64_t id = machine_fake(machine, "", "say hello 7");
    machine_good(machine, id);
    assert_string_equal(json_get_text(machine_answer(machine, id)->payload, "kernel", ""), "fake");
    machine_good(machine, machine_ask(machine, "start", NULL, NULL, 0));
    expect_exit(machine, 7, NULL);
    assert_true(json_get_int(machine_event(machine, "started"), "pid", 0) > 1);
    _cleanup_free_ char *log = machine_log(machine);
    assert_non_null(strstr(log, "{\"log\":\"hello\\n\",\"stream\":\"stdout\""));
    machine_good(machine, machine_ask(machine, "delete", NULL, NULL, 0));
}

static void input_and_output_of_a_client(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    int ends[2];
    fd_socketpair(SOCK_STREAM, ends, NULL);
    fd_set_nonblock(ends[0], true, NULL);
    fd_write_full(ends[0], "first bytes\n", 12, NULL); // before there is a machine
    _cleanup_free_ char *self = machine_self();
    json_t *document = machine_document(machine, self, "", "cat");
    json_object_set_new(document, "stdio", json_pack("{s:b, s:b}", "open_stdin", 1, "stdin_once", 1));
    json_t *attach = json_pack("[{s:i, s:b, s:b}]", "fd", 5, "in", 1, "out", 1);
    machine_good(machine, machine_create(machine, document, attach, &ends[1], 1));
    fd_close(ends[1]);
    machine_good(machine, machine_ask(machine, "start", NULL, NULL, 0));
    shutdown(ends[0], SHUT_WR);
    expect_exit(machine, 3, NULL);
    char text[64] = "";
    assert_int_equal(read(ends[0], text, sizeof(text)), 12);
    assert_string_equal(text, "first bytes\n");
    fd_close(ends[0]);
}

static void a_terminal_and_its_size(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    _cleanup_free_ char *self = machine_self();
    json_t *document = machine_document(machine, self, "", "cat");
    json_object_set_new(document, "stdio", json_pack("{s:b, s:b}", "open_stdin", 1, "terminal", 1));
    machine_good(machine, machine_create(machine, document, NULL, NULL, 0));
    machine_good(machine, machine_ask(machine, "start", NULL, NULL, 0));
    machine_good(machine, machine_ask(machine, "resize", json_pack("{s:i, s:i}", "height", 25, "width", 80), NULL, 0));
    machine_bad(machine, machine_ask(machine, "resize", json_pack("{s:i}", "height", 70000), NULL, 0), "invalid_argument", "size");
    machine_good(machine, machine_ask(machine, "kill", json_pack("{s:i}", "signal", 15), NULL, 0));
    expect_exit(machine, 143, NULL);
    _cleanup_free_ char *log = machine_log(machine);
    assert_non_null(strstr(log, "25x80"));
}

static uint64_t ask_exec(struct machine *machine, const char *words)
{
    json_t *process = json_pack("{s:{s:i, s:i}, s:o, s:s}", "user", "uid", 0, "gid", 0, "args", machine_args(words), "cwd", "/");
    return machine_ask(machine, "exec", json_pack("{s:s, s:o}", "exec_id", "e1", "process", process), NULL, 0);
}

static void an_exec(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    run_fake(machine, "", "hang");
    uint64_t id = ask_exec(machine, "exit 9");
    machine_good(machine, id);
    assert_int_equal(json_get_int(machine_answer(machine, id)->payload, "pid", 0), 88);
    json_t *event = machine_event(machine, "exec_exited");
    assert_int_equal(json_get_int(event, "exit_code", -1), 9);
    assert_string_equal(json_get_text(event, "exec_id", ""), "e1");
    machine_good(machine, machine_ask(machine, "kill", json_pack("{s:i}", "signal", 9), NULL, 0));
    expect_exit(machine, 137, NULL);
}

static void memory_that_ran_out(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    run_fake(machine, "oom", "exit 137");
    expect_exit(machine, 137, NULL);
    assert_true(json_get_flag(machine_event(machine, "exited"), "oom", false));
}

// ---- a guest that refuses, in its own words --------------------------------------------------------------------------

static void refusals_keep_their_words(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    static const char words[] = "exec: \"nosuch\": executable file not found in $PATH";
    machine_bad(machine, machine_fake(machine, "refuse", "nosuch"), "not_found", words);
    assert_null(machine->shim.init);
    machine_good(machine, machine_fake(machine, "refusestart", "nosuch")); // and the shim takes another document
    machine_bad(machine, machine_ask(machine, "start", NULL, NULL, 0), "not_found", words);
    assert_null(machine->shim.init);
    run_fake(machine, "refuseexec", "hang");
    machine_bad(machine, ask_exec(machine, "nosuch"), "not_found", words);
    assert_null(machine->shim.execs);
    assert_int_equal(machine->shim.exec_len, 0);
}

// ---- a guest that dies, or says nothing, at every step ---------------------------------------------------------------

static void before_it_is_created(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    static const struct { const char *mode, *words; } cases[] = {
        { "die", "the machine has ended: its VMM ended with exit code 3: [    0.000000] Linux version fake | booting [1mdie" },
        { "silent", "did not say hello in time" },
        { "garbage", "broke the protocol" },
        { "diecreate", "exit code 4" },
        { "nocreate", "did not make its container in time" },
        { "early", "an exit that can't be" },
    };
    const struct vm_times usual = machine->times;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        machine->times = usual;
        if (str_eq(cases[i].mode, "silent"))
            machine->times.boot_ns = 300 * NS_PER_MS;
        if (str_eq(cases[i].mode, "nocreate"))
            machine->times.answer_ns = 300 * NS_PER_MS;
        uint64_t id = machine_fake(machine, cases[i].mode, "hang");
        if (str_eq(cases[i].mode, "early")) { // the answer was on its way behind the lie
            machine_answer(machine, id);
            if (machine->shim.init)
                machine_bad(machine, machine_ask(machine, "start", NULL, NULL, 0), "unavailable", cases[i].words);
        } else {
            machine_bad(machine, id, "unavailable", cases[i].words);
        }
        assert_null(machine->shim.init);
        assert_null(machine->shim.requests);
    }
}

static void before_it_is_started(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    static const struct { const char *mode, *words; } cases[] = {
        { "diecreated", "exit code 5" }, { "diestart", "exit code 6" }, { "nostart", "did not start its process in time" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        machine_good(machine, machine_fake(machine, cases[i].mode, "hang"));
        if (str_eq(cases[i].mode, "nostart"))
            machine->times.answer_ns = 300 * NS_PER_MS;
        machine_bad(machine, machine_ask(machine, "start", NULL, NULL, 0), "unavailable", cases[i].words);
        assert_null(machine->shim.init);
    }
}

static void expect_lie(void **state, const char *mode, const char *words, const char *reason)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    run_fake(machine, mode, words);
    expect_exit(machine, 137, reason);
}

static void a_death_while_it_runs(void **state)
{
    expect_lie(state, "dierunning", "hang", "its VMM ended with exit code 9: ");
}
static void its_last_words(void **state)
{
    expect_lie(state, "dierunning", "hang", "Kernel panic - not syncing: Attempted to kill init!");
}
static void rubbish_while_it_runs(void **state)
{
    expect_lie(state, "laterubbish", "hang", "broke the protocol");
}
static void an_exec_that_nobody_started(void **state)
{
    expect_lie(state, "ghost", "hang", "an exec's exit that can't be");
}
static void an_exit_code_that_can_not_be(void **state)
{
    expect_lie(state, "code", "exit 1", "an exit that can't be");
}
static void a_halt_without_an_exit(void **state)
{
    expect_lie(state, "haltonly", "hang", "its guest halted");
}

// The exit code was told: it stays, whatever comes then.
static void an_exit_and_then_nothing(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    machine->times.halt_ns = 200 * NS_PER_MS;
    run_fake(machine, "nohalt", "exit 4");
    expect_exit(machine, 4, "may not be whole: the machine has ended: its guest did not halt in time");
}

static void a_disk_that_was_not_put_away(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    run_fake(machine, "torn", "exit 4");
    expect_exit(machine, 4, "may not be whole: its guest could not sync the upper: ?[1minput/output error");
}

static void two_exits(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    run_fake(machine, "twice", "exit 4");
    expect_exit(machine, 4, "an exit that can't be");
}

// A lie, and at once behind it an exit that could be: it is not heard.
static void who_lied_is_heard_no_more(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    run_fake(machine, "ghost", "exit 4");
    expect_exit(machine, 137, "an exec's exit that can't be");
}

static void a_killed_vmm_and_its_execs(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    run_fake(machine, "", "hang");
    machine_good(machine, ask_exec(machine, "hang"));
    kill(machine->shim.init->pid, SIGKILL);
    expect_exit(machine, 137, "its VMM was killed by signal 9");
    assert_int_equal(json_get_int(machine_event(machine, "exec_exited"), "exit_code", -1), 137);
}

static void an_exec_that_is_never_answered(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    run_fake(machine, "noexec", "hang");
    uint64_t id = ask_exec(machine, "hang");
    machine_turn(machine);
    assert_int_equal(machine->shim.request_len, 1);
    kill(machine->shim.init->pid, SIGKILL);
    machine_bad(machine, id, "unavailable", "killed by signal 9");
    expect_exit(machine, 137, "its VMM was killed by signal 9");
    assert_int_equal(machine->shim.exec_len, 0);
}

static void a_sigkill_that_is_not_carried_out(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    machine->times.kill_ns = 200 * NS_PER_MS;
    run_fake(machine, "deaf", "hang");
    uint64_t term = machine_ask(machine, "kill", json_pack("{s:i}", "signal", 15), NULL, 0);
    uint64_t id = machine_ask(machine, "kill", json_pack("{s:i}", "signal", 9), NULL, 0);
    machine_good(machine, id);
    expect_exit(machine, 137, "did not carry out SIGKILL");
    machine_bad(machine, term, "unavailable", "the machine has ended");
}

static void a_flood_of_events(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    run_fake(machine, "flood", "exit 2");
    expect_exit(machine, 2, NULL);
    assert_true(machine->shim.events.len <= 3); // started, one oom, exited
}

// ---- answers that come later ----------------------------------------------------------------------------------------

static void a_daemon_that_goes_meanwhile(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    machine_fake(machine, "", "hang");
    connection_close(machine->shim.daemon);
    task_reader_free(machine->reader);
    fd_close(machine->far);
    machine_connect(machine);
    for (int i = 0; i < 5000 && machine->shim.requests; i++)
        machine_turn(machine);
    assert_null(machine->shim.requests); // completed, for nobody
    machine_good(machine, machine_ask(machine, "start", NULL, NULL, 0));
}

static void one_thing_at_a_time(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    uint64_t id = machine_fake(machine, "", "hang");
    machine_bad(machine, machine_ask(machine, "start", NULL, NULL, 0), "conflict", "being created");
    machine_bad(machine, machine_fake(machine, "", "hang"), "conflict", "created already");
    machine_good(machine, machine_ask(machine, "state", NULL, NULL, 0)); // and others are answered
    machine_good(machine, id);
}

static void a_delete_meanwhile(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    uint64_t id = machine_fake(machine, "silent", "hang");
    machine_turn(machine);
    machine_good(machine, machine_ask(machine, "delete", NULL, NULL, 0));
    machine_bad(machine, id, "unavailable", "deleted");
    assert_null(machine->shim.init);
    assert_null(machine->shim.vm);
}

// ---- the jail -------------------------------------------------------------------------------------------------------

static char *status_line(pid_t pid, const char *key)
{
    struct buf text = BUF_INIT(65536);
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    assert_int_equal(file_read_at(AT_FDCWD, path, &text, NULL), 0);
    char *at = strstr(text.data, key);
    assert_non_null(at);
    char *line = mem_strndup(at, strcspn(at, "\n"));
    buf_done(&text);
    return line;
}

static void the_vmm_is_jailed(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    static const struct { const char *key, *line; } wanted[] = {
        { "Uid:", "Uid:\t61234\t61234\t61234\t61234" }, { "Groups:", "Groups:\t" }, { "CapEff:", "CapEff:\t0000000000000000" },
        { "CapBnd:", "CapBnd:\t0000000000000000" },      { "NoNewPrivs:", "NoNewPrivs:\t1" }, { "Seccomp:", "Seccomp:\t2" },
    };
    run_fake(machine, "", "hang");
    pid_t pid = machine->shim.init->pid;
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        _cleanup_free_ char *line = status_line(pid, wanted[i].key);
        assert_memory_equal(line, wanted[i].line, strlen(wanted[i].line));
    }
    static const char *const namespaces[] = { "pid", "net", "mnt", "ipc", "uts", "cgroup" };
    for (size_t i = 0; i < ARRAY_LEN(namespaces); i++) {
        char ours[64], theirs[64], path[64];
        snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, namespaces[i]);
        ssize_t size = readlink(path, theirs, sizeof(theirs));
        snprintf(path, sizeof(path), "/proc/self/ns/%s", namespaces[i]);
        assert_true(size > 0 && readlink(path, ours, sizeof(ours)) > 0);
        assert_memory_not_equal(ours, theirs, (size_t)size);
    }
}

static char state_of(pid_t pid)
{
    char path[64], state = 'X';
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file || fscanf(file, "%*d %*s %c", &state) != 1)
        state = 'X';
    if (file)
        fclose(file);
    return state;
}

static void the_vmm_dies_with_its_shim(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    int ends[2];
    fd_pipe(ends, NULL);
    pid_t child = fork();
    if (child == 0) {
        machine_good(machine, machine_fake(machine, "", "hang"));
        fd_write_full(ends[1], &machine->shim.init->pid, sizeof(pid_t), NULL);
        _exit(0); // as if killed: nothing is put away
    }
    pid_t vmm = 0;
    assert_int_equal(read(ends[0], &vmm, sizeof(vmm)), sizeof(vmm));
    waitpid(child, NULL, 0);
    for (int i = 0; i < 500 && !strchr("XZ", state_of(vmm)); i++)
        usleep(10000);
    assert_non_null(strchr("XZ", state_of(vmm)));
    fd_close(ends[0]);
    fd_close(ends[1]);
}

// ---- pausing --------------------------------------------------------------------------------------------------------

struct group {
    struct cgroup_layout layout;
    struct cgroup *cgroup;
    char path[64];
};

static void group_make(struct group *group)
{
    char digits[9];
    struct err err;
    random_hex(digits, 8);
    snprintf(group->path, sizeof(group->path), "berth-test-%s", digits);
    cgroup_layout_probe(&group->layout);
    if (cgroup_create(&group->layout, group->path, &group->cgroup, &err) < 0)
        fail_msg("%s", err.message);
}

static void group_remove(struct group *group)
{
    cgroup_kill(group->cgroup, 5 * NS_PER_S, NULL);
    cgroup_free(group->cgroup);
    cgroup_remove(&group->layout, group->path, 5 * NS_PER_S, NULL);
}

static void run_in_group(struct machine *machine, const struct group *group)
{
    _cleanup_free_ char *self = machine_self();
    json_t *document = machine_document(machine, self, "", "hang");
    json_object_set_new(json_object_get(document, "linux"), "cgroupsPath", json_string(group->path));
    machine_good(machine, machine_create(machine, document, NULL, NULL, 0));
    machine_good(machine, machine_ask(machine, "start", NULL, NULL, 0));
}

static void a_paused_machine(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    struct group group;
    group_make(&group);
    run_in_group(machine, &group);
    pid_t *pids;
    size_t len;
    assert_int_equal(cgroup_pids(group.cgroup, &pids, &len, NULL), 0);
    assert_int_equal(len, 1);
    assert_int_equal(pids[0], machine->shim.init->pid);
    free(pids);
    machine_good(machine, machine_ask(machine, "pause", NULL, NULL, 0));
    machine_event(machine, "paused");
    // Heard when it goes on.
    machine_good(machine, machine_ask(machine, "kill", json_pack("{s:i}", "signal", 10), NULL, 0));
    for (int i = 0; i < 20; i++)
        machine_turn(machine);
    assert_int_equal(machine->shim.init->state, UNIT_RUNNING);
    machine_good(machine, machine_ask(machine, "resume", NULL, NULL, 0));
    expect_exit(machine, 138, NULL);
    group_remove(&group);
}

static void a_paused_machine_that_must_go(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    struct group group;
    machine->times.kill_ns = 100 * NS_PER_MS;
    group_make(&group);
    run_in_group(machine, &group);
    machine_good(machine, machine_ask(machine, "pause", NULL, NULL, 0));
    machine_good(machine, machine_ask(machine, "kill", json_pack("{s:i}", "signal", 9), NULL, 0));
    expect_exit(machine, 137, "did not carry out SIGKILL");
    group_remove(&group);
}

static void a_paused_machine_is_deleted(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    struct group group;
    group_make(&group);
    run_in_group(machine, &group);
    machine_good(machine, machine_ask(machine, "pause", NULL, NULL, 0));
    machine_good(machine, machine_ask(machine, "delete", NULL, NULL, 0));
    group_remove(&group);
}

// ---- a guest that dials ---------------------------------------------------------------------------------------------

static void a_life_over_vsock(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    machine_good(machine, machine_fake_kvm(machine, "", "say hello 7"));
    machine_good(machine, machine_ask(machine, "start", NULL, NULL, 0));
    expect_exit(machine, 7, NULL);
    _cleanup_free_ char *log = machine_log(machine);
    assert_non_null(strstr(log, "{\"log\":\"hello\\n\",\"stream\":\"stdout\""));
}

static void deaths_over_vsock(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    machine_bad(machine, machine_fake_kvm(machine, "die", "hang"), "unavailable", "exit code 3");
    machine_bad(machine, machine_fake_kvm(machine, "diecreate", "hang"), "unavailable", "exit code 4");
    machine_good(machine, machine_fake_kvm(machine, "dierunning", "hang"));
    machine_good(machine, machine_ask(machine, "start", NULL, NULL, 0));
    expect_exit(machine, 137, "its VMM ended with exit code 9: ");
}

static void run_fake_kvm(struct machine *machine, const char *mode)
{
    machine_good(machine, machine_fake_kvm(machine, mode, "hang"));
    machine_good(machine, machine_ask(machine, "start", NULL, NULL, 0));
}

// Root of a guest can dial as its PID 1 does: that costs it its machine, and nobody else anything.
static void others_who_dial(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    run_fake_kvm(machine, "againjunk");
    expect_exit(machine, 137, "broke the protocol");
    machine_good(machine, machine_ask(machine, "delete", NULL, NULL, 0));
}

static void who_dials_and_greets_anew(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    run_fake_kvm(machine, "againhello");
    expect_exit(machine, 137, "another session");
    machine_good(machine, machine_ask(machine, "delete", NULL, NULL, 0));
}

static void who_dials_and_is_silent(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    machine->times.kill_ns = 200 * NS_PER_MS;
    run_fake_kvm(machine, "againmute");
    for (int i = 0; i < 50; i++) // until it has dialled
        machine_turn(machine);
    machine_good(machine, machine_ask(machine, "kill", json_pack("{s:i}", "signal", 9), NULL, 0));
    expect_exit(machine, 137, "did not carry out SIGKILL in time");
    machine_good(machine, machine_ask(machine, "delete", NULL, NULL, 0));
}

static void another_greeting(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    run_fake(machine, "againhello", "hang");
    expect_exit(machine, 137, "broke the protocol");
    machine_good(machine, machine_ask(machine, "delete", NULL, NULL, 0));
}

static void a_vmm_that_jails_itself(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    machine_good(machine, machine_fake_kvm(machine, "", "hang"));
    _cleanup_free_ char *caps = status_line(machine->shim.init->pid, "CapEff:");
    _cleanup_free_ char *bounding = status_line(machine->shim.init->pid, "CapBnd:");
    assert_string_equal(caps, "CapEff:\t00000000002001c0"); // SETGID SETUID SETPCAP SYS_ADMIN
    assert_string_equal(bounding, "CapBnd:\t00000000002001c0");
}

int main(int argc, char **argv)
{
    if (argc > 1 && (str_eq(argv[1], "-nodefaults") || str_eq(argv[1], "--cpus")))
        return fake_main(argc, argv);
    const struct CMUnitTest tests[] = {
        MACHINE_TEST(a_life),
        MACHINE_TEST(input_and_output_of_a_client),
        MACHINE_TEST(a_terminal_and_its_size),
        MACHINE_TEST(an_exec),
        MACHINE_TEST(memory_that_ran_out),
        MACHINE_TEST(refusals_keep_their_words),
        MACHINE_TEST(before_it_is_created),
        MACHINE_TEST(before_it_is_started),
        MACHINE_TEST(a_death_while_it_runs),
        MACHINE_TEST(its_last_words),
        MACHINE_TEST(rubbish_while_it_runs),
        MACHINE_TEST(an_exec_that_nobody_started),
        MACHINE_TEST(an_exit_code_that_can_not_be),
        MACHINE_TEST(a_halt_without_an_exit),
        MACHINE_TEST(an_exit_and_then_nothing),
        MACHINE_TEST(a_disk_that_was_not_put_away),
        MACHINE_TEST(two_exits),
        MACHINE_TEST(who_lied_is_heard_no_more),
        MACHINE_TEST(a_killed_vmm_and_its_execs),
        MACHINE_TEST(an_exec_that_is_never_answered),
        MACHINE_TEST(a_sigkill_that_is_not_carried_out),
        MACHINE_TEST(a_flood_of_events),
        MACHINE_TEST(a_daemon_that_goes_meanwhile),
        MACHINE_TEST(one_thing_at_a_time),
        MACHINE_TEST(a_delete_meanwhile),
        MACHINE_TEST(the_vmm_is_jailed),
        MACHINE_TEST(the_vmm_dies_with_its_shim),
        MACHINE_TEST(a_paused_machine),
        MACHINE_TEST(a_paused_machine_that_must_go),
        MACHINE_TEST(a_paused_machine_is_deleted),
        MACHINE_TEST(a_life_over_vsock),
        MACHINE_TEST(deaths_over_vsock),
        MACHINE_TEST(others_who_dial),
        MACHINE_TEST(who_dials_and_greets_anew),
        MACHINE_TEST(who_dials_and_is_silent),
        MACHINE_TEST(another_greeting),
        MACHINE_TEST(a_vmm_that_jails_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
