// QEMU's command line and its disks; and, where there are a guest and QEMU, a machine that boots.
#include "machine.h"

#include <dirent.h>

#include "base/process.h"
#include "base/slice.h"

// ---- the command line -----------------------------------------------------------------------------------------------

struct line {
    struct arena arena;
    struct task_document document;
    struct fd_list fds;
    struct vmm_command command;
    json_t *json;
};

static int make_line(struct machine *machine, json_t *document, struct line *line, struct err *err)
{
    static const char *const names[] = { "kernel", "initrd", "one", "two", "upper", "one" };
    *line = (struct line){ .json = document };
    line->fds.fds = mem_alloc(ARRAY_LEN(names) * sizeof(int));
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        line->fds.fds[line->fds.len++] = openat(machine->dir_fd, names[i], O_RDWR | O_CLOEXEC);
    if (json_decode(&task_document_table, document, &line->document, &line->arena, NULL, err) < 0)
        fail_msg("%s", err->message);
    struct vmm_start start = { .document = &line->document, .fds = &line->fds, .arena = &line->arena, .link_fd = 2, .console_fd = 1 };
    return qemu_command(&start, &line->command, err);
}

static void line_done(struct line *line)
{
    vmm_keep_done(&line->command.keep);
    fd_list_done(&line->fds);
    arena_done(&line->arena);
    json_decref(line->json);
}

static const char *value_of(const struct line *line, const char *option, const char *start)
{
    for (size_t i = 0; i + 1 < line->command.args.len; i++) {
        if (str_eq(line->command.args.items[i], option) && str_starts(line->command.args.items[i + 1], start))
            return line->command.args.items[i + 1];
    }
    fail_msg("no %s %s...", option, start);
    return NULL;
}

static void the_words(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    struct line line;
    struct err err;
    json_t *document = machine_document(machine, "/usr/bin/qemu-system-x86_64", "more=words", "true");
    json_object_set_new(document, "nics", json_pack("[{s:s, s:s, s:i, s:i}]", "name", "eth0", "mac", "02:42:0a:00:00:07", "netns_fd",
                                                    -1, "tap_fd", 5));
    if (make_line(machine, document, &line, &err) < 0)
        fail_msg("%s", err.message);
    assert_string_equal(line.command.args.items[0], "/usr/bin/qemu-system-x86_64");
    assert_string_equal(value_of(&line, "-m", ""), "262144k");
    assert_string_equal(value_of(&line, "-smp", ""), "1");
    assert_non_null(strstr(value_of(&line, "-append", "console="), " berth.link=serial "));
    assert_non_null(strstr(value_of(&line, "-append", "console="), " more=words"));
    assert_string_equal(value_of(&line, "-chardev", "socket"), "socket,id=link,fd=3");
    assert_string_equal(value_of(&line, "-netdev", ""), "tap,id=net,fd=4");
    assert_string_equal(value_of(&line, "-device", "virtio-net"), "virtio-net-device,netdev=net,mac=02:42:0a:00:00:07");
    value_of(&line, "-device", "virtio-blk-device,drive=layers,serial=layers");
    value_of(&line, "-device", "virtio-blk-device,drive=upper,serial=upper");
    value_of(&line, "-sandbox", "on,");
    assert_int_equal(line.command.keep.len, 8); // link, tap, two layers, tail, head, descriptor, upper
    for (size_t i = 0; i < line.command.args.len; i++) {
        assert_null(strstr(line.command.args.items[i], machine->dir)); // nothing by a path of the host
        assert_false(str_eq(line.command.args.items[i], "-monitor") || str_eq(line.command.args.items[i], "-qmp"));
    }
    line_done(&line);
}

static void what_is_refused(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    static const struct { const char *section, *key, *value, *words; } cases[] = {
        { "vm", "vcpus", "0", "vm.vcpus" },
        { "vm", "vcpus", "65", "vm.vcpus" },
        { "vm", "memory_size", "1000", "vm.memory_size" },
        { "vm", "uid", "0", "vm.uid" },
        { "vm", "vmm", "\"qemu\"", "vm.vmm" },
        { "vm", "accel", "\"xen\"", "vm.accel: xen" },
        { "rootfs", "kind", "\"tree\"", "rootfs.kind" },
        { "rootfs", "layers", "[]", "rootfs.layers" },
        { "rootfs", "upper", "{\"kind\":\"dir\",\"upper_fd\":4,\"work_fd\":4}", "rootfs.upper.kind" },
        { "rootfs", "upper", "{\"kind\":\"disk\",\"upper_fd\":99,\"work_fd\":-1}", "rootfs.upper.upper_fd: descriptor 99 was not sent" },
        { "vm", "kernel_fd", "77", "vm.kernel_fd: descriptor 77 was not sent" },
        { NULL, "mounts", "[{\"kind\":\"bind\",\"target\":\"/x\",\"fd\":0}]", "mount /x: kind bind is not there behind a machine" },
        { NULL, "nics", "[{\"mac\":\"02:42,id=x:00:00:0\",\"netns_fd\":-1,\"tap_fd\":0}]", "nics.mac" },
        { NULL, "nics", "[{\"netns_fd\":-1,\"tap_fd\":0}]", "nics.mac" },
        { NULL, "nics", "[{\"netns_fd\":-1,\"tap_fd\":0},{\"netns_fd\":-1,\"tap_fd\":0}]", "a machine has one" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *document = machine_document(machine, "/usr/bin/qemu-system-x86_64", "", "true");
        json_t *section = cases[i].section ? json_object_get(document, cases[i].section) : document;
        json_object_set_new(section, cases[i].key, json_loads(cases[i].value, JSON_DECODE_ANY, NULL));
        struct task_frame *frame = machine_answer(machine, machine_create(machine, document, NULL, NULL, 0));
        const char *message = json_get_text(frame->payload, "message", "");
        if (frame->type != TASK_ERROR || !strstr(message, cases[i].words))
            fail_msg("%s: %s: %s", cases[i].key, cases[i].value, message);
        assert_null(machine->shim.init);
    }
}

static void without_a_card(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    struct line line;
    struct err err;
    json_t *document = machine_document(machine, "/usr/bin/qemu-system-x86_64", "", "true");
    json_object_set_new(document, "nics", json_pack("[{s:s, s:i, s:i}]", "name", "lo", "netns_fd", -1, "tap_fd", -1));
    if (make_line(machine, document, &line, &err) < 0 || vm_check_document(&line.document, &err) < 0)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < line.command.args.len; i++)
        assert_false(str_eq(line.command.args.items[i], "-netdev"));
    line_done(&line);
}

static void a_layer_that_is_no_disk_image(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    machine_file(machine, "two", 1000);
    json_t *document = machine_document(machine, "/usr/bin/qemu-system-x86_64", "", "true");
    machine_bad(machine, machine_create(machine, document, NULL, NULL, 0), "invalid_argument", "4 KiB");
}

static void a_container_with_a_machine(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    json_t *document = machine_document(machine, "/usr/bin/qemu-system-x86_64", "", "true");
    json_object_set_new(document, "isolation", json_string("container"));
    machine_bad(machine, machine_create(machine, document, NULL, NULL, 0), "invalid_argument", "the isolation is not vm");
}

// ---- the guest's document -------------------------------------------------------------------------------------------

static void expect_no_host(json_t *value)
{
    const char *key;
    json_t *item;
    size_t index;
    json_object_foreach(value, key, item) {
        size_t size = strlen(key);
        if (str_eq(key, "fd") || (size > 3 && str_eq(key + size - 3, "_fd")))
            assert_int_equal(json_integer_value(item), -1);
        expect_no_host(item);
    }
    json_array_foreach(value, index, item)
        expect_no_host(item);
}

static void the_guest_learns_nothing_of_the_host(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    struct line line;
    struct err err;
    json_t *document = machine_document(machine, "/secret/qemu", "secret=words", "true");
    json_object_set_new(document, "mounts", json_pack("[{s:s, s:s, s:s, s:i}]", "kind", "tmpfs", "source", "/secret/source",
                                                      "target", "/mnt", "fd", 7));
    json_object_set_new(document, "nics", json_pack("[{s:s, s:s, s:s, s:i, s:i}]", "name", "eth0", "mac", "02:42:0a:00:00:07",
                                                    "address", "10.0.0.7", "netns_fd", 3, "tap_fd", 5));
    json_object_set_new(document, "ports", json_pack("[{s:s, s:i, s:s, s:i, s:i}]", "proto", "tcp", "host_port", 80,
                                                     "target_address", "10.0.0.7", "target_port", 81, "listener_fd", 1));
    json_object_set_new(document, "secret", json_string("a newer daemon's /secret"));
    json_object_set_new(json_object_get(document, "linux"), "cgroupsPath", json_string("/secret/group"));
    json_object_set_new(json_object_get(document, "linux"), "namespaces", json_pack("[{s:s, s:s}]", "type", "network", "path", "/secret/ns"));
    make_line(machine, document, &line, &err);
    json_t *told = vm_document(&line.document);
    _cleanup_free_ char *text = json_text(told);
    if (strstr(text, "secret") || strstr(text, machine->dir) || strstr(text, "host_port") != NULL)
        fail_msg("%s", text);
    assert_non_null(strstr(text, "10.0.0.7")); // what it needs is there
    assert_int_equal(json_array_size(json_object_get(json_object_get(told, "rootfs"), "layers")), 2);
    assert_string_equal(json_get_text(told, "isolation", ""), "vm");
    expect_no_host(told);
    json_decref(told);
    line_done(&line);
}

// ---- the console ----------------------------------------------------------------------------------------------------

static void say(struct vm_console *console, int fd, const char *text)
{
    fd_write_full(fd, text, strlen(text), NULL);
    vm_console_drain(console);
}

static void its_last_lines(void **state)
{
    struct loop *loop;
    struct vm_console console = { .fd = -1 };
    char tail[128];
    int fd;
    vm_console_tail(&console, tail, sizeof(tail));
    assert_string_equal(tail, "");
    loop_new(&loop, NULL);
    assert_int_equal(vm_console_open(&console, loop, &fd, NULL), 0);
    vm_console_tail(&console, tail, sizeof(tail));
    assert_string_equal(tail, "");
    say(&console, fd, "one\r\n\n\x1b[1mtwo\x07\n\n");
    vm_console_tail(&console, tail, sizeof(tail));
    assert_string_equal(tail, "one | [1mtwo");
    for (int i = 0; i < 5000; i++)
        say(&console, fd, i == 4999 ? "the end\n" : "a line of some length\n");
    vm_console_tail(&console, tail, sizeof(tail));
    assert_non_null(strstr(tail, "a line of some length | the end"));
    assert_true(strlen(tail) < sizeof(tail));
    for (int i = 0; i < 100; i++)
        say(&console, fd, "no end of this line, ever");
    vm_console_tail(&console, tail, sizeof(tail));
    assert_true(strlen(tail) > 40 && strlen(tail) < sizeof(tail));
    fd_close(fd);
    vm_console_drain(&console);
    assert_int_equal(console.fd, -1);
    vm_console_done(&console);
    loop_free(loop);
}

// ---- a real one -----------------------------------------------------------------------------------------------------

#define QEMU "/usr/bin/qemu-system-x86_64"

static void run_tool(const char *const *words)
{
    struct err err;
    struct buf output = BUF_INIT(1 << 20);
    setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
    if (process_run((char *const *)words, NULL, &output, &err) < 0)
        fail_msg("%s", err.message);
    buf_done(&output);
}

// Busybox in the lower layer, a file in the upper one, an empty disk.
static void make_real_disks(struct machine *machine)
{
    _cleanup_free_ char *script = mem_printf(
        "cd %s && mkdir -p l1/bin l1/etc l1/tmp l2/etc && cp /bin/busybox l1/bin/ && for a in sh cat echo uname stty sleep; do "
        "ln -s busybox l1/bin/$a; done && echo root:x:0:0:root:/:/bin/sh >l1/etc/passwd && echo layered >l2/etc/motd && "
        "rm -f one two upper && mkfs.erofs one l2 && mkfs.erofs two l1 && truncate -s 64M upper && mke2fs -q -t ext4 -F upper", machine->dir);
    run_tool((const char *const[]){ "sh", "-c", script, NULL });
}

static bool real_guest(struct machine *machine)
{
    _cleanup_free_ char *self = machine_self();
    *strrchr(self, '/') = '\0';
    static const char *const names[] = { "vmlinux", "initramfs" }, *const links[] = { "kernel", "initrd" };
    for (size_t i = 0; i < 2; i++) {
        _cleanup_free_ char *path = mem_printf("%s/../../guest/%s", self, names[i]);
        unlinkat(machine->dir_fd, links[i], 0);
        if (access(path, R_OK) < 0 || symlinkat(path, machine->dir_fd, links[i]) < 0)
            return false;
    }
    return access(QEMU, X_OK) == 0 && access("/usr/bin/mkfs.erofs", X_OK) == 0 && access("/bin/busybox", X_OK) == 0;
}

static void a_real_boot(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    if (!real_guest(machine)) {
        print_message("skipped: needs QEMU, mkfs.erofs, a static busybox, and the guest that `make guest` makes\n");
        skip();
    }
    make_real_disks(machine);
    machine->times = vm_times_usual;
    int ends[2];
    fd_socketpair(SOCK_STREAM, ends, NULL);
    fd_set_nonblock(ends[0], true, NULL);
    json_t *document = machine_document(machine, QEMU, "", "/bin/sh");
    json_object_set_new(json_object_get(document, "process"), "args",
                        json_pack("[s, s, s]", "/bin/sh", "-c", "uname -r; cat /etc/motd; echo err >&2; cat; echo kept >/tmp/f; exit 42"));
    json_object_set_new(document, "stdio", json_pack("{s:b, s:b}", "open_stdin", 1, "stdin_once", 1));
    json_t *attach = json_pack("[{s:i, s:b, s:b}]", "fd", 5, "in", 1, "out", 1);
    int64_t start_ns = clock_mono_ns();
    machine_good(machine, machine_create(machine, document, attach, &ends[1], 1));
    fd_close(ends[1]);
    print_message("created after %lld ms\n", (long long)((clock_mono_ns() - start_ns) / NS_PER_MS));
    machine_good(machine, machine_ask(machine, "start", NULL, NULL, 0));
    json_t *process = json_pack("{s:{s:i, s:i}, s:[s, s, s], s:s}", "user", "uid", 0, "gid", 0, "args", "/bin/sh", "-c", "exit 9", "cwd", "/");
    machine_good(machine, machine_ask(machine, "exec", json_pack("{s:s, s:o}", "exec_id", "e1", "process", process), NULL, 0));
    assert_int_equal(json_get_int(machine_event(machine, "exec_exited"), "exit_code", -1), 9);
    process = json_pack("{s:{s:i, s:i}, s:[s], s:s}", "user", "uid", 0, "gid", 0, "args", "nosuch", "cwd", "/");
    machine_bad(machine, machine_ask(machine, "exec", json_pack("{s:s, s:o}", "exec_id", "e2", "process", process), NULL, 0), "not_found",
                "exec: \"nosuch\": executable file not found in $PATH");
    fd_write_full(ends[0], "to the guest and back\n", 22, NULL);
    shutdown(ends[0], SHUT_WR);
    json_t *event = machine_event(machine, "exited");
    assert_int_equal(json_get_int(event, "exit_code", -1), 42);
    print_message("over after %lld ms\n", (long long)((clock_mono_ns() - start_ns) / NS_PER_MS));
    char text[256] = "";
    assert_true(read(ends[0], text, sizeof(text) - 1) > 0);
    assert_non_null(strstr(text, "layered\nto the guest and back\n"));
    _cleanup_free_ char *log = machine_log(machine);
    assert_non_null(strstr(log, "{\"log\":\"err\\n\",\"stream\":\"stderr\""));
    fd_close(ends[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MACHINE_TEST(the_words),
        MACHINE_TEST(without_a_card),
        MACHINE_TEST(what_is_refused),
        MACHINE_TEST(a_layer_that_is_no_disk_image),
        MACHINE_TEST(a_container_with_a_machine),
        MACHINE_TEST(the_guest_learns_nothing_of_the_host),
        cmocka_unit_test(its_last_lines),
        MACHINE_TEST(a_real_boot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
