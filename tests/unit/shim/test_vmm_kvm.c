// berth-vmm's command line, and what it is handed.
#include "machine.h"

struct line {
    struct arena arena;
    struct task_document document;
    struct fd_list fds;
    struct vmm_command command;
    json_t *json;
};

// Descriptor 5 of the document is /dev/kvm, 6 is the tap: files as good as these, as long as nobody runs.
static int make_line(struct machine *machine, json_t *document, struct line *line, struct err *err)
{
    static const char *const names[] = { "kernel", "initrd", "one", "two", "upper", "kernel", "initrd" };
    *line = (struct line){ .json = document };
    line->fds.fds = mem_alloc(ARRAY_LEN(names) * sizeof(int));
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        line->fds.fds[line->fds.len++] = openat(machine->dir_fd, names[i], O_RDWR | O_CLOEXEC);
    if (json_decode(&task_document_table, document, &line->document, &line->arena, NULL, err) < 0)
        fail_msg("%s", err->message);
    struct vmm_start start = { .document = &line->document, .fds = &line->fds, .arena = &line->arena, .link_fd = 2, .console_fd = 1 };
    return kvm_command(&start, &line->command, err);
}

static void line_done(struct line *line)
{
    vmm_keep_done(&line->command.keep);
    fd_list_done(&line->fds);
    arena_done(&line->arena);
    json_decref(line->json);
}

static json_t *kvm_document(struct machine *machine)
{
    json_t *document = machine_document(machine, "/usr/lib/berth-vmm", "more=words", "true");
    json_t *section = json_object_get(document, "vm");
    json_object_set_new(section, "accel", json_string("kvm"));
    json_object_set_new(section, "kvm_fd", json_integer(5));
    json_object_set_new(section, "vcpus", json_integer(2));
    json_object_set_new(document, "nics", json_pack("[{s:s, s:s, s:i, s:i}]", "name", "eth0", "mac", "02:42:0a:00:00:07", "netns_fd",
                                                    -1, "tap_fd", 6));
    return document;
}

static const char *value_of(const struct line *line, const char *option)
{
    for (size_t i = 1; i + 1 < line->command.args.len; i += 2) {
        if (str_eq(line->command.args.items[i], option))
            return line->command.args.items[i + 1];
    }
    return NULL;
}

// The file of the machine's folder behind descriptor N of the VMM, and whether it may be written.
static void expect_file(struct machine *machine, const struct line *line, size_t number, const char *name, int mode)
{
    struct stat found, wanted;
    assert_true(number >= 3 && number - 3 < line->command.keep.len);
    int fd = line->command.keep.fds[number - 3];
    assert_int_equal(fstat(fd, &found), 0);
    assert_int_equal(fstatat(machine->dir_fd, name, &wanted, 0), 0);
    assert_int_equal(found.st_ino, wanted.st_ino);
    assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, mode);
    for (size_t i = 0; i < line->command.args.len; i++)
        assert_null(strstr(line->command.args.items[i], machine->dir));
}

static void the_words(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    struct line line;
    struct err err;
    static const struct { const char *option, *value; } wanted[] = {
        { "--cpus", "2" },          { "--memory", "268435456" }, { "--uid", "61234" },    { "--gid", "61234" },
        { "--vsock", "3,fd:3" },    { "--serial", "fd:4" },      { "--kvm", "fd:5" },     { "--kernel", "fd:6" },
        { "--initrd", "fd:7" },     { "--pmem", "fd:8,fd:9" },   { "--disk", "fd:10" },
        { "--net", "fd:11,mac=02:42:0a:00:00:07" },
    };
    if (make_line(machine, kvm_document(machine), &line, &err) < 0)
        fail_msg("%s", err.message);
    assert_string_equal(line.command.args.items[0], "/usr/lib/berth-vmm");
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
        assert_string_equal(value_of(&line, wanted[i].option), wanted[i].value);
    assert_non_null(strstr(value_of(&line, "--cmdline"), " berth.link=vsock "));
    assert_non_null(strstr(value_of(&line, "--cmdline"), " more=words"));
    assert_int_equal(line.command.keep.len, 9);
    expect_file(machine, &line, 6, "kernel", O_RDONLY);
    expect_file(machine, &line, 7, "initrd", O_RDONLY);
    expect_file(machine, &line, 8, "one", O_RDONLY);
    expect_file(machine, &line, 9, "two", O_RDONLY);
    expect_file(machine, &line, 10, "upper", O_RDWR);
    assert_true(line.command.jails_itself);
    assert_int_equal(line.command.bind_len, 0); // it opens nothing by name
    line_done(&line);
}

static void without_card_and_disk(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    struct line line;
    struct err err;
    json_t *document = kvm_document(machine);
    json_object_set_new(document, "nics", json_array());
    json_object_set_new(json_object_get(document, "rootfs"), "upper",
                        json_pack("{s:s, s:i, s:i}", "kind", "", "upper_fd", -1, "work_fd", -1));
    if (make_line(machine, document, &line, &err) < 0)
        fail_msg("%s", err.message);
    assert_null(value_of(&line, "--net"));
    assert_null(value_of(&line, "--disk"));
    assert_non_null(value_of(&line, "--pmem"));
    line_done(&line);
}

static void what_was_not_sent(void **state)
{
    NEED_MACHINE(state);
    struct machine *machine = *state;
    static const char *const keys[] = { "kvm_fd", "kernel_fd", "initrd_fd" };
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct line line;
        struct err err;
        json_t *document = kvm_document(machine);
        json_object_set_new(json_object_get(document, "vm"), keys[i], json_integer(77));
        assert_int_equal(make_line(machine, document, &line, &err), -1);
        if (!strstr(err.message, keys[i]) || !strstr(err.message, "descriptor 77 was not sent"))
            fail_msg("%s: %s", keys[i], err.message);
        line_done(&line);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        MACHINE_TEST(the_words),
        MACHINE_TEST(without_card_and_disk),
        MACHINE_TEST(what_was_not_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
