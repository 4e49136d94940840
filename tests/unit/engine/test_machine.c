// What runs guests on this host, and what is said when nothing does.
#include "guest_fixture.h"

static void test_parse_probe(void **state)
{
    static const struct {
        const char *text;
        bool understood, runs;
        const char *why;
    } table[] = {
        { "machines: yes\nprivileged guest code: 900.0 million instructions a second\nordinary kernels: yes\n", true, true, "" },
        { "machines: yes\nordinary kernels: no\nbecause: slow\n", true, false, "slow" },
        { "machines: no\nordinary kernels: no\nbecause: open /dev/kvm: no such file or directory\n", true, false,
          "open /dev/kvm: no such file or directory" },
        { "", false, false, "" },
        { "machines: yes\n", false, false, "" },
        { "ordinary kernels: yes\n", false, false, "" },
        { "machines: no\nordinary kernels: yes\n", false, true, "" },
        { "machines: yes\nordinary kernels: no\n", false, false, "" }, // and no reason
        { "machines: yes\nordinary kernels: maybe\nbecause: x\n", false, false, "" },
        { "machines: yes\nordinary kernels: yes\nordinary kernels: no\n", false, true, "" },
        { "machines: yes\nordinary kernels: yes please\n", false, false, "" },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char why[ERR_MESSAGE_SIZE];
        bool runs;
        if (machine_parse_probe(table[i].text, &runs, why) != table[i].understood)
            fail_msg("%s", table[i].text);
        if (table[i].understood && (runs != table[i].runs || !str_eq(why, table[i].why)))
            fail_msg("%s: %d \"%s\"", table[i].text, runs, why);
    }
}

static void test_choices(void **state)
{
    static const struct {
        const char *probe;
        int code;
        bool qemu;
        const char *wish, *accel, *says; // accel NULL: refused; says: of the reason or the refusal
    } table[] = {
        { PROBE_GOOD, 0, true, "auto", "kvm", "" },
        { PROBE_GOOD, 0, false, "auto", "kvm", "" },
        { PROBE_GOOD, 0, true, "tcg", "tcg", "" },
        { PROBE_GOOD, 0, false, "tcg", NULL, "qemu-system-x86_64 is not in PATH" },
        { PROBE_SLOW, 0, true, "auto", "tcg", "this KVM is slow" },
        { PROBE_SLOW, 0, true, "kvm", NULL, "--accel kvm: this KVM is slow" },
        { PROBE_NONE, 1, true, "auto", "tcg", "/dev/kvm: no such file" },
        { PROBE_NONE, 1, false, "auto", NULL, "qemu-system-x86_64 is not in PATH (package qemu-system-x86), and /dev/kvm: no such file" },
        { PROBE_GOOD, 1, true, "auto", "tcg", "berth-vmm: exit code 1" }, // it says one thing and does another
        { "hello", 0, true, "auto", "tcg", "not understood" },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct guest_host host;
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct machine_choice choice;
        guest_host_open(&host, table[i].probe, table[i].code, table[i].qemu);
        guest_files(&host, "guest");
        struct machines *machines = guest_machines(&host, table[i].wish);
        int result = machines_choose(machines, &arena, &choice, &host.err);
        const char *said = result < 0 ? host.err.message : choice.why;
        if ((result == 0) != (table[i].accel != NULL) || !strstr(said, table[i].says))
            fail_msg("%s, %s: %d, %s", table[i].probe, table[i].wish, result, said);
        if (result == 0) {
            assert_string_equal(choice.accel, table[i].accel);
            assert_string_equal(choice.kernel, KERNEL_RELEASE);
            assert_non_null(strstr(choice.vmm, str_eq(choice.accel, "kvm") ? "/bin/berth-vmm" : "/path/qemu-system-x86_64"));
        } else {
            assert_int_equal(host.err.class, ERR_UNAVAILABLE);
        }
        machines_free(machines);
        guest_host_close(&host);
    }
}

static void test_probed_once_and_late(void **state)
{
    struct guest_host host;
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_buf_ struct buf lines = BUF_INIT(64);
    struct machine_choice choice;
    guest_host_open(&host, PROBE_GOOD, 0, false);
    struct machines *machines = guest_machines(&host, NULL);
    char *probed = arena_printf(&arena, "%s/probed", host.root);
    assert_int_equal(machines_choose(machines, &arena, &choice, &host.err), -1);
    assert_non_null(strstr(host.err.message, "no guest kernel"));
    assert_non_null(strstr(host.err.message, "make guest"));
    assert_int_equal(access(probed, F_OK), -1); // nothing to run, nothing to probe for
    guest_files(&host, "guest"); // now it comes
    for (int i = 0; i < 3; i++)
        assert_int_equal(machines_choose(machines, &arena, &choice, &host.err), 0);
    assert_int_equal(file_read_at(AT_FDCWD, probed, &lines, &host.err), 0);
    assert_string_equal(buf_text(&lines), "x\n");
    machines_free(machines);
    guest_host_close(&host);
}

static void test_missing_tool(void **state)
{
    struct guest_host host;
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct machine_choice choice;
    guest_host_open(&host, PROBE_GOOD, 0, false);
    guest_files(&host, "guest");
    struct machines *machines = guest_machines(&host, NULL);
    assert_int_equal(machines_choose(machines, &arena, &choice, &host.err), 0);
    assert_int_equal(unlink(arena_printf(&arena, "%s/path/mke2fs", host.root)), 0);
    assert_int_equal(machines_choose(machines, &arena, &choice, &host.err), -1);
    assert_int_equal(host.err.class, ERR_UNAVAILABLE);
    assert_non_null(strstr(host.err.message, "mke2fs is not in PATH"));
    machines_free(machines);
    guest_host_close(&host);
}

static void test_guest_folders(void **state)
{
    struct guest_host host;
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct machine_choice choice;
    guest_host_open(&host, PROBE_GOOD, 0, false);
    guest_files(&host, "data/guest");
    struct machines *machines = guest_machines(&host, NULL);
    assert_int_equal(machines_choose(machines, &arena, &choice, &host.err), 0);
    assert_non_null(strstr(choice.guest_dir, "/data/guest"));
    guest_files(&host, "lib/berth/guest"); // as `make install` leaves them
    assert_int_equal(machines_choose(machines, &arena, &choice, &host.err), 0);
    assert_non_null(strstr(choice.guest_dir, "/bin/../lib/berth/guest"));
    guest_files(&host, "guest"); // beside the programs comes first
    assert_int_equal(machines_choose(machines, &arena, &choice, &host.err), 0);
    assert_non_null(strstr(choice.guest_dir, "/bin/../guest"));
    machines_free(machines);
    // --guest is the only place.
    char *programs = arena_printf(&arena, "%s/bin", host.root), *own = arena_printf(&arena, "%s/own", host.root);
    const struct machines_config config = { .program_dir = programs, .data_root = host.root, .guest_dir = own };
    assert_int_equal(machines_new(&config, &machines, &host.err), 0);
    assert_int_equal(machines_choose(machines, &arena, &choice, &host.err), -1);
    assert_non_null(strstr(host.err.message, "/own"));
    assert_null(strstr(host.err.message, " nor "));
    guest_files(&host, "own");
    assert_int_equal(machines_choose(machines, &arena, &choice, &host.err), 0);
    guest_file(&host, "own", MACHINE_KERNEL_RELEASE, "\n", 0644);
    assert_int_equal(machines_choose(machines, &arena, &choice, &host.err), -1);
    assert_non_null(strstr(host.err.message, "is empty"));
    machines_free(machines);
    guest_host_close(&host);
}

static void test_words(void **state)
{
    const struct machines_config config = { .program_dir = "/", .data_root = "/", .accel = "hvf" };
    struct machines *machines;
    struct err err;
    assert_int_equal(machines_new(&config, &machines, &err), -1);
    assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    assert_string_equal(err.message, "--accel hvf: not one of auto, kvm, tcg");
    machines_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_probe),   cmocka_unit_test(test_choices), cmocka_unit_test(test_probed_once_and_late),
        cmocka_unit_test(test_missing_tool), cmocka_unit_test(test_guest_folders), cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
