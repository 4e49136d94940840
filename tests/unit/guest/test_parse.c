// What a guest reads before it has a host: the kernel's command line, its disks, the text of addresses.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "guest/guest_private.h"

static void the_link_of_the_command_line(void **state)
{
    static const struct {
        const char *cmdline;
        int expected; // -1: refused
    } rows[] = {
        { "berth.link=serial\n", GUEST_SERIAL },
        { "quiet berth.link=vsock console=ttyS0\n", GUEST_VSOCK },
        { "berth.link=serial berth.link=vsock", GUEST_VSOCK },
        { "  berth.link=serial  ", GUEST_SERIAL },
        { "", -1 },
        { "quiet", -1 },
        { "berth.link=", -1 },
        { "berth.link=serial2", -1 },
        { "xberth.link=serial", -1 },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        enum guest_transport transport = 99;
        struct err err = { 0 };
        int result = cmdline_transport(rows[i].cmdline, &transport, &err);
        if (rows[i].expected < 0)
            assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
        if (result != (rows[i].expected < 0 ? -1 : 0) || (result == 0 && (int)transport != rows[i].expected))
            fail_msg("\"%s\": %d, %d", rows[i].cmdline, result, transport);
    }
}

static void which_disk_is_which(void **state)
{
    static const struct disk pmem[] = { { "pmem0", "", false }, { "vda", "", false } };
    assert_string_equal(disk_of_layers(pmem, 2)->name, "pmem0");
    assert_string_equal(disk_of_upper(pmem, 2)->name, "vda");

    static const struct disk named[] = { { "vda", "upper", false }, { "vdb", "layers", true }, { "vdc", "", false } };
    assert_string_equal(disk_of_layers(named, 3)->name, "vdb");
    assert_string_equal(disk_of_upper(named, 3)->name, "vda");

    static const struct disk plain[] = { { "vda", "", true }, { "vdb", "", false } };
    assert_string_equal(disk_of_layers(plain, 2)->name, "vda");
    assert_string_equal(disk_of_upper(plain, 2)->name, "vdb");

    static const struct disk foreign[] = { { "vda", "data", true }, { "vdb", "more", false } };
    assert_null(disk_of_layers(foreign, 2));
    assert_null(disk_of_upper(foreign, 2));
    assert_null(disk_of_layers(NULL, 0));
}

static void names_of_partitions(void **state)
{
    char name[2 * DISK_NAME_SIZE];
    disk_partition(&(struct disk){ .name = "vda" }, 1, name);
    assert_string_equal(name, "vda1");
    disk_partition(&(struct disk){ .name = "pmem0" }, 130, name);
    assert_string_equal(name, "pmem0p130");
}

static void put(int dir_fd, const char *dir, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof(path), "block/%s", dir);
    assert_int_equal(file_mkdirs(dir_fd, path, 0755, NULL), 0);
    snprintf(path, sizeof(path), "block/%s/%s", dir, name);
    assert_int_equal(file_write_at(dir_fd, path, text, strlen(text), 0644, false, NULL), 0);
}

static void disks_of_a_machine(void **state)
{
    char dir[] = "/tmp/berth-test-guest-XXXXXX";
    struct disk disks[DISK_MAX];
    assert_non_null(mkdtemp(dir));
    int dir_fd = file_open_dir(AT_FDCWD, dir, NULL);
    put(dir_fd, "vdaa", "ro", "0\n");
    put(dir_fd, "vdb", "serial", "upper\n");
    put(dir_fd, "vdb", "ro", "0\n");
    put(dir_fd, "vda", "serial", "layers");
    put(dir_fd, "vda", "ro", "1\n");
    put(dir_fd, "loop0", "ro", "0\n");
    put(dir_fd, "vd-a-name-that-is-longer-than-any-disk-has-ever-had", "ro", "0\n");
    assert_int_equal(disk_list(dir_fd, disks), 3);
    assert_string_equal(disks[0].name, "vda");
    assert_string_equal(disks[0].serial, "layers");
    assert_true(disks[0].read_only);
    assert_string_equal(disks[1].name, "vdb");
    assert_string_equal(disks[1].serial, "upper");
    assert_string_equal(disks[2].name, "vdaa");
    assert_string_equal(disks[2].serial, "");
    assert_false(disks[2].read_only);
    fd_close(dir_fd);
    assert_int_equal(file_remove_tree(AT_FDCWD, dir, NULL), 0);
}

static void addresses(void **state)
{
    unsigned char mac[6];
    assert_true(network_parse_mac("02:42:ac:11:00:0F", mac));
    assert_memory_equal(mac, "\x02\x42\xac\x11\x00\x0f", 6);
    static const char *const bad[] = { "",
                                       "02:42:ac:11:00",
                                       "02:42:ac:11:00:02:03",
                                       "2:42:ac:11:00:02",
                                       "02:42:ac:11:00:0g",
                                       "02:42:ac:11:00: 2",
                                       "02-42-ac-11-00-02",
                                       "02:42:ac:11:00:02:" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (network_parse_mac(bad[i], mac))
            fail_msg("\"%s\" is no mac", bad[i]);
    }
    assert_int_equal(network_mask(24), htonl(0xffffff00));
    assert_int_equal(network_mask(16), htonl(0xffff0000));
    assert_int_equal(network_mask(32), htonl(0xffffffff));
    assert_int_equal(network_mask(1), htonl(0x80000000));
    assert_int_equal(network_mask(0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_link_of_the_command_line),
        cmocka_unit_test(which_disk_is_which),
        cmocka_unit_test(names_of_partitions),
        cmocka_unit_test(disks_of_a_machine),
        cmocka_unit_test(addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
