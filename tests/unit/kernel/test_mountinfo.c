// mountinfo: lines as the kernel writes them, lines it would not write, and this machine's own.
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "kernel/mountinfo.h"

static void test_lines(void **state)
{
    static const struct {
        const char *line;
        uint64_t id; // 0: passed over
        const char *point, *fstype, *options;
        bool shared, slave;
    } table[] = {
        { "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue", 36, "/mnt2", "ext3",
          "rw,errors=continue", false, true },
        { "36 31 0:28 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu", 36, "/sys/fs/cgroup/cpu", "cgroup",
          "rw,cpu", true, false },
        { "7 1 0:5 / /a rw shared:9 master:3 propagate_from:2 unbindable - tmpfs x rw", 7, "/a", "tmpfs", "rw", true, true },
        { "7 1 0:5 / /a rw - tmpfs x rw", 7, "/a", "tmpfs", "rw", false, false },
        { "7 1 0:5 / /a rw - fuse.a-b x rw", 7, "/a", "fuse.a-b", "rw", false, false },
        { "7 1 0:5 / /a rw new-field:1 shared:2 - tmpfs  rw", 7, "/a", "tmpfs", "rw", true, false },
        { "7 1 0:5 / /a rw - tmpfs x", 0, NULL, NULL, NULL, false, false },
        { "7 1 0:5 / /a rw tmpfs x rw", 0, NULL, NULL, NULL, false, false },
        { "x 1 0:5 / /a rw - tmpfs x rw", 0, NULL, NULL, NULL, false, false },
        { "7 1", 0, NULL, NULL, NULL, false, false },
        { "", 0, NULL, NULL, NULL, false, false },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct slice rest = slice_of(table[i].line);
        struct mount_info info;
        bool found = mount_info_next(&rest, &info);
        if (found != (table[i].id > 0) ||
            (found && (info.id != table[i].id || !slice_eq(info.point, table[i].point) ||
                       !slice_eq(info.fstype, table[i].fstype) || !slice_eq(info.options, table[i].options) ||
                       info.shared != table[i].shared || info.slave != table[i].slave)))
            fail_msg("%s", table[i].line);
        assert_false(found && mount_info_next(&rest, &info));
    }
}

static void test_bad_lines_are_passed_over(void **state)
{
    struct slice rest = slice_of("garbage\n\n7 1 0:5 / /a rw - tmpfs x rw\n8 1\n9 1 0:5 / /b rw - tmpfs x rw\n");
    struct mount_info info;
    assert_true(mount_info_next(&rest, &info) && info.id == 7);
    assert_true(mount_info_next(&rest, &info) && info.id == 9);
    assert_false(mount_info_next(&rest, &info));
}

static void test_escapes(void **state)
{
    static const struct {
        const char *text, *path;
    } table[] = {
        { "/plain", "/plain" },       { "/a\\040b", "/a b" },  { "/\\011\\012\\134", "/\t\n\\" },
        { "/cut\\04", "/cut\\04" },   { "/end\\", "/end\\" },  { "/no\\089", "/no\\089" },
        { "/\\377", "/\377" },        { "", "" },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char out[32];
        mount_info_unescape(slice_of(table[i].text), out);
        assert_string_equal(out, table[i].path);
    }
}

static void test_of_a_descriptor(void **state)
{
    char dir[64] = "/tmp/berth mountinfo XXXXXX", point[64];
    _cleanup_buf_ struct buf text = BUF_INIT(MOUNTINFO_MAX);
    struct mount_info info;
    struct err err = { 0 };
    if (geteuid() != 0) {
        print_message("skipped: needs root\n");
        skip();
    }
    assert_non_null(mkdtemp(dir));
    assert_int_equal(mount("none", dir, "tmpfs", 0, "size=64k"), 0);
    static const struct {
        unsigned long flag;
        bool shared;
    } table[] = { { MS_SHARED, true }, { MS_PRIVATE, false } };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        assert_int_equal(mount(NULL, dir, NULL, table[i].flag, NULL), 0);
        _cleanup_close_ int fd = open(dir, O_PATH | O_CLOEXEC);
        if (mount_info_of(fd, &text, &info, &err) < 0)
            fail_msg("%s", err.message);
        mount_info_unescape(info.point, point);
        assert_string_equal(point, dir);
        assert_int_equal(info.shared, table[i].shared);
    }
    assert_int_equal(umount2(dir, MNT_DETACH), 0);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_bad_lines_are_passed_over),
        cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_of_a_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
