#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "machine_guest.h"

// ---- what a guest does by itself -----------------------------------------------------------------------------------

static const struct {
    const char *command;
    enum machine_protocol protocol;
    unsigned cpus;
    const char *says;
    enum machine_end_kind end;
} runs[] = {
    { "hello", MACHINE_BOOT_PVH, 1, "hello from a guest\n", MACHINE_POWERED_OFF },
    { "hello", MACHINE_BOOT_ANY, 1, "hello from a guest\n", MACHINE_POWERED_OFF },
    { "hello", MACHINE_BOOT_LINUX64, 1, "hello from a guest\n", MACHINE_POWERED_OFF },
    { "hello", MACHINE_BOOT_PVH, 8, "hello from a guest\n", MACHINE_POWERED_OFF },
    { "nonsense", MACHINE_BOOT_PVH, 1, "unknown command: nonsense\n", MACHINE_POWERED_OFF },
    { "exits", MACHINE_BOOT_PVH, 1, "exits ok\n", MACHINE_POWERED_OFF },
    { "interrupts", MACHINE_BOOT_PVH, 1, "interrupts 5\n", MACHINE_POWERED_OFF },
    { "smp", MACHINE_BOOT_PVH, 2, "two processors\n", MACHINE_POWERED_OFF },
    { "smp", MACHINE_BOOT_LINUX64, 2, "two processors\n", MACHINE_POWERED_OFF },
    { "wild", MACHINE_BOOT_PVH, 1, "wild and alive\n", MACHINE_POWERED_OFF },
    { "crash", MACHINE_BOOT_PVH, 1, "crashing\n", MACHINE_CRASHED },
    { "reset", MACHINE_BOOT_PVH, 1, "", MACHINE_RESET },
};

static void test_runs(void **state)
{
    if (!have_kvm())
        skip();
    for (size_t i = 0; i < ARRAY_LEN(runs); i++) {
        struct guest guest;
        guest_make(&guest, small_machine(runs[i].cpus));
        guest_boot(&guest, "basic", runs[i].command, runs[i].protocol);
        struct machine_end end = guest_end(&guest);
        if (end.kind != runs[i].end || !str_eq(guest.text, runs[i].says))
            fail_msg("%s: %s (%s), said \"%s\"", runs[i].command, machine_end_name(end.kind), end.why, guest.text);
        if (end.kind == MACHINE_CRASHED)
            assert_true(str_starts(end.why, "triple fault"));
        guest_done(&guest);
    }
}

static void test_shared_memory_and_large_guests(void **state)
{
    if (!have_kvm())
        skip();
    static const uint64_t gib = UINT64_C(1) << 30;
    const uint64_t sizes[] = { UINT64_C(8) << 20, 3 * gib, 3 * gib + (2 << 20), 6 * gib };
    for (size_t i = 0; i < 2 * ARRAY_LEN(sizes); i++) {
        struct guest guest;
        struct machine_config config = small_machine(1);
        config.memory_size = sizes[i / 2];
        config.shared_memory = i % 2;
        guest_make(&guest, config);
        const struct gmem *memory = machine_memory(guest.machine);
        uint64_t above = config.memory_size - MIN_OF(config.memory_size, UINT64_C(3) << 30);
        assert_true(above == 0 || gmem_at(memory, UINT64_C(4) << 30, above, true));
        assert_null(gmem_at(memory, (UINT64_C(4) << 30) + above, 1, false));
        assert_null(gmem_at(memory, UINT64_C(3) << 30, 1, false));
        guest_boot(&guest, "basic", "hello", MACHINE_BOOT_PVH);
        assert_int_equal(guest_end(&guest).kind, MACHINE_POWERED_OFF);
        assert_string_equal(guest.text, "hello from a guest\n");
        guest_done(&guest);
    }
}

// ---- what passes between the two sides -----------------------------------------------------------------------------

static void test_kicks_stay_in_the_kernel(void **state)
{
    if (!have_kvm())
        skip();
    struct guest guest;
    struct err err;
    int fds[2];
    guest_make(&guest, small_machine(1));
    for (int i = 0; i < 2; i++)
        fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    check(machine_add_kick(guest.machine, true, 0x510, 4, 7, fds[0], &err), &err);
    check(machine_add_kick(guest.machine, false, 0xd0200000, 4, 1, fds[1], &err), &err);
    guest_boot(&guest, "basic", "kicks", MACHINE_BOOT_PVH);
    assert_int_equal(guest_end(&guest).kind, MACHINE_POWERED_OFF);
    for (int i = 0; i < 2; i++) {
        uint64_t count = 0;
        assert_int_equal(read(fds[i], &count, sizeof(count)), sizeof(count));
        assert_int_equal(count, 3);
    }
    guest_done(&guest);
    fd_close(fds[0]);
    fd_close(fds[1]);
}

static void test_serial_input_longer_than_its_fifo(void **state)
{
    if (!have_kvm())
        skip();
    struct guest guest;
    char sent[1001];
    for (size_t i = 0; i < 999; i++)
        sent[i] = (char)('a' + i % 26);
    memcpy(sent + 999, ".", 2);
    guest_make(&guest, small_machine(1));
    guest_boot(&guest, "basic", "echo", MACHINE_BOOT_PVH);
    assert_true(guest_listen(&guest, "ready\n", 10000));
    assert_int_equal(write(guest.in, sent, 1000), 1000);
    assert_true(guest_listen(&guest, sent, 10000));
    assert_int_equal(guest_end(&guest).kind, MACHINE_POWERED_OFF);
    guest_done(&guest);
}

// Nobody reads what it says: the pipe runs full, then the port's own buffer, and the machine still pauses and ends.
static void test_nobody_reads_the_console(void **state)
{
    if (!have_kvm())
        skip();
    struct guest guest;
    struct err err;
    struct machine_end end;
    guest_make(&guest, small_machine(1));
    assert_true(fcntl(guest.out, F_SETPIPE_SZ, 4096) > 0);
    guest_boot(&guest, "basic", "count", MACHINE_BOOT_PVH);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(machine_wait(guest.machine, clock_mono_ns() + 30 * NS_PER_MS, &end), 0);
        check(machine_pause(guest.machine, &err), &err);
        check(machine_resume(guest.machine, &err), &err);
    }
    guest_done(&guest);
}

// ---- pause, save, restore ------------------------------------------------------------------------------------------

// The lines so far are 1, 2, 3, ... without gap or repetition; the last may be unfinished. Returns how many.
static unsigned check_sequence(const char *text)
{
    unsigned len = 0;
    for (const char *line = text, *end; (end = strchr(line, '\n')); line = end + 1)
        if (strtoul(line, NULL, 10) != ++len)
            fail_msg("line %u is %.20s", len, line);
    return len;
}

static void test_pause_resume(void **state)
{
    if (!have_kvm())
        skip();
    for (unsigned cpus = 1; cpus <= 2; cpus++) {
        struct guest guest;
        struct err err;
        guest_make(&guest, small_machine(cpus));
        guest_boot(&guest, "basic", cpus == 1 ? "count" : "count-smp", MACHINE_BOOT_PVH);
        for (int i = 0; i < 30; i++) {
            check(machine_pause(guest.machine, &err), &err);
            guest_listen(&guest, NULL, 0);
            size_t size = guest.size;
            guest_listen(&guest, NULL, 2);
            assert_int_equal(guest.size, size); // it stands still
            check(machine_resume(guest.machine, &err), &err);
            guest_listen(&guest, NULL, 0);
            usleep(2000);
        }
        assert_true(guest_listen(&guest, "\n50\n", 10000));
        machine_stop(guest.machine);
        assert_int_equal(guest_end(&guest).kind, MACHINE_STOPPED);
        assert_int_equal(machine_pause(guest.machine, &err), -1);
        assert_int_equal(err.class, ERR_UNAVAILABLE);
        check_sequence(guest.text);
        guest_done(&guest);
    }
}

static int new_file(void)
{
    int fd = memfd_create("saved machine", MFD_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

// In a process of its own: a counting machine, saved to `file` at some point; what it said goes to `said`.
static void count_and_save(unsigned cpus, bool shared, const char *until, int file, int said)
{
    struct guest guest;
    struct err err;
    struct machine_config config = small_machine(cpus);
    config.shared_memory = shared;
    guest_make(&guest, config);
    guest_boot(&guest, "basic", cpus == 1 ? "count" : "count-smp", MACHINE_BOOT_PVH);
    assert_true(guest_listen(&guest, until, 10000));
    check(machine_pause(guest.machine, &err), &err);
    check(machine_save(guest.machine, file, &err), &err);
    guest_listen(&guest, NULL, 0);
    check(fd_write_full(said, guest.text, guest.size, &err), &err);
    guest_done(&guest);
}

static void restore_and_count(struct guest *guest, bool shared, int file)
{
    struct err err;
    struct machine_config config = MACHINE_CONFIG_INIT;
    config.state_fd = file;
    config.shared_memory = shared;
    size_t size = guest->size;
    char *before = mem_strndup(guest->text, size);
    guest_make(guest, config);
    memcpy(guest->text, before, size);
    guest->size = size;
    free(before);
    check(machine_restore(guest->machine, &err), &err);
    check(machine_start(guest->machine, &err), &err);
}

static void test_restore_in_another_process(void **state)
{
    if (!have_kvm())
        skip();
    for (unsigned i = 0; i < 4; i++) {
        unsigned cpus = 1 + i % 2;
        bool shared = i / 2;
        struct guest guest = { 0 };
        struct err err;
        int status, said[2];
        _cleanup_close_ int file = new_file(), again = new_file();
        check(fd_pipe(said, &err), &err);
        pid_t child = fork();
        if (child == 0) {
            count_and_save(cpus, shared, "\n20\n", file, said[1]);
            _exit(0);
        }
        fd_close(said[1]);
        guest.size = (size_t)fd_read_full(said[0], guest.text, sizeof(guest.text) - 1, &err);
        fd_close(said[0]);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        guest.text[guest.size] = '\0';
        assert_true(check_sequence(guest.text) >= 20);

        // It goes on; saved again from there and restored a second time, it still does.
        restore_and_count(&guest, shared, file);
        assert_true(guest_listen(&guest, "\n200\n", 10000));
        check(machine_pause(guest.machine, &err), &err);
        guest_listen(&guest, NULL, 0);
        check(machine_save(guest.machine, again, &err), &err);
        struct guest first = guest;
        restore_and_count(&guest, shared, again);
        assert_true(guest_listen(&guest, "\n400\n", 10000));
        assert_true(check_sequence(guest.text) >= 400);
        guest_done(&guest);
        guest_done(&first);
    }
}

static void test_state_files_that_are_none(void **state)
{
    if (!have_kvm())
        skip();
    struct machine *machine;
    struct err err;
    struct machine_config config = MACHINE_CONFIG_INIT;
    int said[2];
    _cleanup_close_ int file = new_file();
    check(fd_pipe(said, &err), &err);
    count_and_save(1, false, "\n3\n", file, said[1]);
    off_t size = lseek(file, 0, SEEK_END);
    uint8_t page[4096];
    assert_int_equal(pread(file, page, sizeof(page), 0), sizeof(page));
    config.state_fd = file;
    for (unsigned i = 0; i < 46; i++) { // each byte of the header
        uint8_t changed = page[i] ^ 0x81;
        assert_int_equal(pwrite(file, &changed, 1, i), 1);
        if (machine_new(&config, &machine, &err) == 0) { // a size that still makes sense: its sections don't
            assert_int_equal(machine_restore(machine, &err), -1);
            machine_free(machine);
        }
        assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
        assert_int_equal(pwrite(file, page + i, 1, i), 1);
    }
    for (off_t cut = size - 1; cut > 0; cut /= 3) {
        assert_int_equal(ftruncate(file, cut), 0);
        assert_int_equal(machine_new(&config, &machine, &err), -1);
        assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    }
    fd_close(said[0]);
    fd_close(said[1]);
}

// A machine's own bytes, changed anywhere: refused, or a machine that runs and ends; never more.
static void test_damaged_sections(void **state)
{
    if (!have_kvm())
        skip();
    struct err err;
    int said[2];
    unsigned seed = 1, refused = 0;
    _cleanup_close_ int file = new_file();
    check(fd_pipe(said, &err), &err);
    count_and_save(1, false, "\n3\n", file, said[1]);
    for (int i = 0; i < 40; i++) {
        struct guest guest;
        struct machine_config config = MACHINE_CONFIG_INIT;
        uint8_t byte, changed;
        seed = seed * 1103515245 + 12345;
        off_t at = 4096 + (seed >> 8) % 6000;
        assert_int_equal(pread(file, &byte, 1, at), 1);
        changed = byte ^ (uint8_t)(1u << (seed >> 4 & 7));
        assert_int_equal(pwrite(file, &changed, 1, at), 1);
        config.state_fd = file;
        guest_make(&guest, config);
        if (machine_restore(guest.machine, &err) < 0)
            refused++;
        else
            check(machine_start(guest.machine, &err), &err);
        usleep(1000);
        guest_done(&guest);
        assert_int_equal(pwrite(file, &byte, 1, at), 1);
    }
    fd_close(said[0]);
    fd_close(said[1]);
}

// ---- a virtio device in the machine --------------------------------------------------------------------------------

static int new_disk(void)
{
    int fd = memfd_create("disk", MFD_CLOEXEC);
    assert_true(fd >= 0 && ftruncate(fd, 64 * 512) == 0);
    return fd;
}

static void add_disk(struct guest *guest, int disk)
{
    struct virtio_device *device;
    struct err err;
    int fd = fd_dup(disk, &err); // becomes the device's
    check(virtio_blk_new(machine_memory(guest->machine), fd, false, "disk", &device, &err), &err);
    check(machine_add_virtio(guest->machine, device, &err), &err);
}

static void test_virtio_disk(void **state)
{
    if (!have_kvm())
        skip();
    struct guest guest;
    uint64_t word;
    _cleanup_close_ int disk = new_disk();
    guest_make(&guest, small_machine(1));
    add_disk(&guest, disk);
    guest_boot(&guest, "virtio", "100", MACHINE_BOOT_PVH);
    assert_int_equal(guest_end(&guest).kind, MACHINE_POWERED_OFF);
    assert_non_null(strstr(guest.text, "\n100\ndisk ok\n"));
    assert_int_equal(pread(disk, &word, sizeof(word), 100 % 64 * 512), sizeof(word));
    assert_int_equal(word, 100);
    guest_done(&guest);
}

// Beside each other: one that does everything wrong, and one that works meanwhile. Its disk ends where it ends.
static void test_hostile_guest_hurts_nobody_else(void **state)
{
    if (!have_kvm())
        skip();
    struct guest hostile, good;
    struct stat st;
    _cleanup_close_ int disk = new_disk(), other = new_disk();
    guest_make(&hostile, small_machine(1));
    add_disk(&hostile, disk);
    guest_make(&good, small_machine(1));
    add_disk(&good, other);
    guest_boot(&good, "virtio", "30", MACHINE_BOOT_PVH);
    guest_boot(&hostile, "virtio", "hostile", MACHINE_BOOT_PVH);
    struct machine_end end = guest_end(&hostile);
    if (end.kind != MACHINE_POWERED_OFF || !str_eq(hostile.text, "1\n2\n3\ndisk ok\n"))
        fail_msg("%s (%s), said \"%s\"", machine_end_name(end.kind), end.why, hostile.text);
    assert_int_equal(guest_end(&good).kind, MACHINE_POWERED_OFF);
    assert_non_null(strstr(good.text, "\n30\ndisk ok\n"));
    assert_true(fstat(disk, &st) == 0 && st.st_size == 64 * 512);
    guest_done(&hostile);
    guest_done(&good);
}

// Paused and saved again and again while requests are on their way: none is lost, none is done twice.
static void test_virtio_disk_saved(void **state)
{
    if (!have_kvm())
        skip();
    struct guest guest;
    struct err err;
    struct machine_config config = small_machine(1);
    _cleanup_close_ int disk = new_disk();
    guest_make(&guest, config);
    add_disk(&guest, disk);
    guest_boot(&guest, "virtio", "", MACHINE_BOOT_PVH);
    assert_true(guest_listen(&guest, "\n10\n", 10000));
    for (int i = 0; i < 20; i++) {
        _cleanup_close_ int file = new_file();
        struct guest before;
        check(machine_pause(guest.machine, &err), &err);
        check(machine_save(guest.machine, file, &err), &err);
        guest_listen(&guest, NULL, 0);
        before = guest;
        config.state_fd = file;
        guest_make(&guest, config);
        add_disk(&guest, disk);
        memcpy(guest.text, before.text, before.size);
        guest.size = before.size;
        guest_done(&before);
        check(machine_restore(guest.machine, &err), &err);
        check(machine_start(guest.machine, &err), &err);
        char later[16];
        snprintf(later, sizeof(later), "\n%u\n", check_sequence(before.text) + 3);
        if (!guest_listen(&guest, later, 10000))
            fail_msg("after restore %d it hangs: ...%s", i, guest.text + (guest.size > 60 ? guest.size - 60 : 0));
    }
    assert_null(strstr(guest.text, "failed"));
    check_sequence(guest.text);
    guest_done(&guest);
}

// ---- order of calls, and sizes -------------------------------------------------------------------------------------

static void test_configurations_that_are_none(void **state)
{
    if (!have_kvm())
        skip();
    static const struct {
        unsigned cpus;
        uint64_t memory_size;
    } wrong[] = {
        { 0, MEMORY_SIZE }, { 9, MEMORY_SIZE }, { 1, 0 }, { 1, 4096 }, { 1, MEMORY_SIZE + 4096 }, { 1, UINT64_MAX },
        { 1, UINT64_C(2) << 40 },
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct machine *machine;
        struct err err;
        struct machine_config config = small_machine(wrong[i].cpus);
        config.memory_size = wrong[i].memory_size;
        assert_int_equal(machine_new(&config, &machine, &err), -1);
        assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    }
}

static void test_calls_out_of_order(void **state)
{
    if (!have_kvm())
        skip();
    struct guest guest;
    struct err err;
    unsigned gsi;
    guest_make(&guest, small_machine(1));
    assert_int_equal(machine_start(guest.machine, &err), -1);
    assert_int_equal(machine_pause(guest.machine, &err), -1);
    assert_int_equal(machine_restore(guest.machine, &err), -1);
    guest_boot(&guest, "basic", "spin", MACHINE_BOOT_PVH);
    assert_int_equal(machine_start(guest.machine, &err), -1);
    assert_int_equal(machine_resume(guest.machine, &err), -1);
    assert_int_equal(machine_add_line(guest.machine, &guest.device.line, &gsi, &err), -1);
    assert_int_equal(machine_save(guest.machine, -1, &err), -1);
    assert_int_equal(err.class, ERR_CONFLICT);
    guest_done(&guest);
}

static void test_probe(void **state)
{
    if (!have_kvm())
        skip();
    struct vmm_probe probe;
    vmm_probe(-1, &probe);
    if (!probe.usable)
        fail_msg("%s", probe.why);
    assert_true(probe.privileged_mips > 0);
    assert_true(probe.runs_kernels == !probe.why[0]);
    _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    vmm_probe(null, &probe);
    assert_false(probe.usable || probe.runs_kernels);
    assert_true(probe.why[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_shared_memory_and_large_guests),
        cmocka_unit_test(test_kicks_stay_in_the_kernel),
        cmocka_unit_test(test_serial_input_longer_than_its_fifo),
        cmocka_unit_test(test_nobody_reads_the_console),
        cmocka_unit_test(test_pause_resume),
        cmocka_unit_test(test_restore_in_another_process),
        cmocka_unit_test(test_state_files_that_are_none),
        cmocka_unit_test(test_damaged_sections),
        cmocka_unit_test(test_virtio_disk),
        cmocka_unit_test(test_hostile_guest_hurts_nobody_else),
        cmocka_unit_test(test_virtio_disk_saved),
        cmocka_unit_test(test_configurations_that_are_none),
        cmocka_unit_test(test_calls_out_of_order),
        cmocka_unit_test(test_probe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
