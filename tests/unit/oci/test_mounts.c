#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/mount.h>

#include "kernel/abi.h"
#include "oci/oci_private.h"

static void test_words(void **state)
{
    static const struct {
        const char *words[4];
        uint64_t set, clear, rec_set, rec_clear;
    } cases[] = {
        { { "ro" }, MOUNT_ATTR_RDONLY, 0, 0, 0 },
        { { "ro", "rw" }, 0, MOUNT_ATTR_RDONLY, 0, 0 },
        { { "rw", "ro" }, MOUNT_ATTR_RDONLY, 0, 0, 0 },
        { { "noatime", "relatime" }, 0, MOUNT_ATTR__ATIME, 0, 0 },
        { { "rro", "rnosuid" }, 0, 0, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, 0 },
        { { "rrw" }, 0, 0, 0, MOUNT_ATTR_RDONLY },
        { { "defaults", "async" }, 0, 0, 0, 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct config_mount mount = { .idmap_fd = -1 };
        bool remount = false, bind = false;
        for (size_t w = 0; w < 4 && cases[i].words[w]; w++) {
            uint64_t propagation;
            const char *option;
            assert_true(mount_word(cases[i].words[w], &mount, &propagation, &remount, &bind, &option));
            assert_null(option);
        }
        assert_int_equal(mount.set, cases[i].set);
        assert_int_equal(mount.clear, cases[i].clear);
        assert_int_equal(mount.rec_set, cases[i].rec_set);
        assert_int_equal(mount.rec_clear, cases[i].rec_clear);
    }
}

static void test_other_words(void **state)
{
    struct config_mount mount = { .idmap_fd = -1 };
    bool remount = false, bind = false;
    uint64_t propagation;
    const char *option;
    mount_word("rbind", &mount, &propagation, &remount, &bind, &option);
    assert_true(bind && mount.recursive);
    mount_word("rslave", &mount, &propagation, &remount, &bind, &option);
    assert_int_equal(propagation, MS_SLAVE | MS_REC);
    mount_word("size=64m", &mount, &propagation, &remount, &bind, &option);
    assert_string_equal(option, "size=64m");
    mount_word("ridmap", &mount, &propagation, &remount, &bind, &option);
    assert_true(mount.idmap_fd == 0 && mount.idmap_recursive);
    // Words that only begin like a recursive one are the file system's.
    mount_word("rsize=1", &mount, &propagation, &remount, &bind, &option);
    assert_string_equal(option, "rsize=1");
}

static void test_cgroup_paths(void **state)
{
    static const struct {
        const char *wanted, *path;
    } cases[] = {
        { NULL, "id" }, { "", "id" }, { "/a/b", "a/b" }, { "a//./b/", "a/b" }, { "../x", NULL }, { "/a/../..", NULL }, { "/", NULL },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena arena = ARENA_INIT;
        const char *path = NULL;
        int result = cgroups_path(cases[i].wanted, "id", &arena, &path, NULL);
        assert_int_equal(result, cases[i].path ? 0 : -1);
        if (cases[i].path)
            assert_string_equal(path, cases[i].path);
        arena_done(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_words), cmocka_unit_test(test_other_words), cmocka_unit_test(test_cgroup_paths) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
