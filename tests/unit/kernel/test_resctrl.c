// resctrl groups in a folder that looks like the file system: what is written where, and what is refused. A group that the
// kernel would fill with files has been filled before.
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/file.h"
#include "kernel/resctrl.h"

struct fake {
    char path[64];
    int root;
    struct err err;
};

static void put(const struct fake *fake, const char *name, const char *text)
{
    struct err err = { 0 };
    if (file_write_at(fake->root, name, text, strlen(text), 0644, false, &err) < 0)
        fail_msg("%s: %s", name, err.message);
}

static void add_group(const struct fake *fake, const char *path)
{
    char name[256];
    assert_int_equal(mkdirat(fake->root, path, 0755), 0);
    for (size_t i = 0; i < 2; i++) {
        snprintf(name, sizeof(name), "%s/%s", path, i ? "tasks" : "schemata");
        put(fake, name, i ? "" : "    L3:0=0fff;1=0fff\n    MB:0=100;1= 50\n");
    }
}

static void expect(const struct fake *fake, const char *name, const char *text)
{
    _cleanup_buf_ struct buf got = BUF_INIT(4096);
    assert_int_equal(file_read_at(fake->root, name, &got, NULL), 0);
    assert_string_equal(buf_text(&got), text);
}

static struct fake *fake_new(void)
{
    struct fake *fake = mem_new(struct fake);
    snprintf(fake->path, sizeof(fake->path), "/tmp/resctrl-test-XXXXXX");
    assert_non_null(mkdtemp(fake->path));
    fake->root = open(fake->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdirat(fake->root, "info", 0755), 0);
    put(fake, "info/last_cmd_status", "Non-consecutive 1-bits in mask\n");
    return fake;
}

static void fake_free(struct fake *fake)
{
    assert_int_equal(file_remove_tree(AT_FDCWD, fake->path, NULL), 0);
    close(fake->root);
    free(fake);
}

static void test_a_group_of_its_own(void **state)
{
    struct fake *fake = fake_new();
    add_group(fake, "web");
    put(fake, "web/schemata", ""); // a plain file keeps what a shorter text leaves
    // A line of the bandwidth among the cache's is left out.
    struct resctrl_group group = { .name = "web", .l3 = "L3:0=7f0;1=1f\nMB:0=10", .bandwidth = "MB:0=20;1=70" };
    assert_int_equal(resctrl_make(fake->root, &group, &fake->err), 0);
    expect(fake, "web/schemata", "L3:0=7f0;1=1f\nMB:0=20;1=70\n");
    assert_int_equal(resctrl_join(fake->root, &group, 4711, &fake->err), 0);
    expect(fake, "web/tasks", "4711");
    fake_free(fake);
}

static void test_made_and_removed(void **state)
{
    struct fake *fake = fake_new();
    struct resctrl_group group = { .name = "new" };
    struct stat st;
    assert_int_equal(resctrl_make(fake->root, &group, &fake->err), 0);
    assert_int_equal(fstatat(fake->root, "new", &st, 0), 0);
    assert_int_equal(resctrl_remove(fake->root, "new", &fake->err), 0);
    assert_int_equal(resctrl_remove(fake->root, "new", &fake->err), 0);
    assert_int_equal(fstatat(fake->root, "new", &st, 0), -1);
    // A schema that can't be written: the group goes again, and the kernel's last word is told.
    group.l3 = "L3:0=5";
    assert_int_equal(resctrl_make(fake->root, &group, &fake->err), -1);
    assert_non_null(strstr(fake->err.message, "resctrl group new"));
    assert_non_null(strstr(fake->err.message, "Non-consecutive 1-bits in mask"));
    assert_int_equal(fstatat(fake->root, "new", &st, 0), -1);
    fake_free(fake);
}

static const struct {
    const char *l3, *bandwidth, *refused; // NULL: taken
} shared_cases[] = {
    { NULL, NULL, NULL },
    { "L3:0=fff;1=fff", NULL, NULL },
    { "L3:1=FFF;0=0fff", "MB:1=50;0=100", NULL },
    { "L3:1=fff", "", NULL },
    { "L3:0=ff", NULL, "other schemata than L3:0=ff" },
    { "L3:2=fff", NULL, "other schemata" },
    { "L3CODE:0=fff", NULL, "other schemata" },
    { NULL, "MB:0=50", "other schemata than MB:0=50" },
    { "garbage", NULL, "other schemata than garbage" },
    { "L3:0", NULL, "other schemata" },
    { "L3:", "MB:0=x", "other schemata" },
};

// Its schemata are never written, only compared.
static void test_a_shared_group(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(shared_cases); i++) {
        struct fake *fake = fake_new();
        add_group(fake, "gold");
        struct resctrl_group group = { .name = "gold", .l3 = shared_cases[i].l3, .bandwidth = shared_cases[i].bandwidth, .shared = true };
        int result = resctrl_make(fake->root, &group, &fake->err);
        if (result != (shared_cases[i].refused ? -1 : 0) ||
            (shared_cases[i].refused && !strstr(fake->err.message, shared_cases[i].refused)))
            fail_msg("case %zu: %s", i, fake->err.message);
        expect(fake, "gold/schemata", "    L3:0=0fff;1=0fff\n    MB:0=100;1= 50\n");
        fake_free(fake);
    }
}

static void test_a_shared_group_that_is_not_there(void **state)
{
    struct fake *fake = fake_new();
    struct resctrl_group group = { .name = "gold", .shared = true };
    assert_int_equal(resctrl_make(fake->root, &group, &fake->err), -1);
    assert_non_null(strstr(fake->err.message, "must be there when no schema is given"));
    fake_free(fake);
}

static void test_counting(void **state)
{
    struct fake *fake = fake_new();
    struct resctrl_group group = { .name = "gold", .shared = true, .monitor = "web" };
    assert_false(resctrl_counts(fake->root, "llc_occupancy"));
    assert_int_equal(mkdirat(fake->root, "info/L3_MON", 0755), 0);
    put(fake, "info/L3_MON/mon_features", "llc_occupancy\nmbm_total_bytes\n");
    assert_true(resctrl_counts(fake->root, "llc_occupancy") && resctrl_counts(fake->root, "mbm_total_bytes"));
    assert_false(resctrl_counts(fake->root, "mbm_local_bytes") || resctrl_counts(fake->root, "llc"));
    add_group(fake, "gold");
    assert_int_equal(mkdirat(fake->root, "gold/mon_groups", 0755), 0);
    assert_int_equal(resctrl_make(fake->root, &group, &fake->err), 0);
    put(fake, "gold/mon_groups/web/tasks", "");
    assert_int_equal(resctrl_join(fake->root, &group, 12, &fake->err), 0);
    expect(fake, "gold/tasks", "12");
    expect(fake, "gold/mon_groups/web/tasks", "12");
    assert_int_equal(unlinkat(fake->root, "gold/mon_groups/web/tasks", 0), 0);
    assert_int_equal(resctrl_remove(fake->root, "gold/mon_groups/web", &fake->err), 0);
    fake_free(fake);
}

static void test_names(void **state)
{
    static const char *const bad[] = { "", ".", "..", "info", "mon_groups", "mon_data", "a/b", "/a", "../a", "a\nb", NULL };
    struct err err = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(resctrl_name_check(bad[i], &err), -1);
    assert_int_equal(resctrl_name_check("gold", &err), 0);
    struct fake *fake = fake_new();
    struct resctrl_group group = { .name = "info" };
    assert_int_equal(resctrl_make(fake->root, &group, &fake->err), -1);
    fake_free(fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_group_of_its_own), cmocka_unit_test(test_made_and_removed),
        cmocka_unit_test(test_a_shared_group),     cmocka_unit_test(test_a_shared_group_that_is_not_there),
        cmocka_unit_test(test_counting),           cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
