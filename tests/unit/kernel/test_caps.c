#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernel/caps.h"

static void test_names(void **state)
{
    static const struct {
        const char *name;
        int number;
    } cases[] = {
        { "CAP_CHOWN", 0 }, { "chown", 0 }, { "Chown", 0 }, { "cap_sys_admin", 21 }, { "CAP_CHECKPOINT_RESTORE", 40 },
        { "", -1 },         { "CAP_", -1 }, { "ALL", -1 },  { NULL, -1 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(caps_number(cases[i].name), cases[i].number);
    assert_string_equal(caps_name(21), "CAP_SYS_ADMIN");
    assert_null(caps_name(-1));
    assert_null(caps_name(41));
    assert_int_equal(caps_docker_default(), 0xa80425fb);
    assert_true(caps_last() >= 40 && caps_last() <= 63);
}

// In a child, because what is dropped does not come back.
static int drop_and_look(void)
{
    struct err err = { 0 };
    struct caps_sets now, wanted = { .bounding = 3, .effective = 1, .permitted = 3, .inheritable = 2, .ambient = 2 };
    if (caps_drop_bounding(wanted.bounding, &err) < 0 || caps_set(&wanted, &err) < 0 || caps_get(&now, &err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    return now.bounding == 3 && now.effective == 1 && now.permitted == 3 && now.inheritable == 2 && now.ambient == 2 ? 0 : 2;
}

static void test_drop(void **state)
{
    if (geteuid() != 0)
        skip();
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(drop_and_look());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_names), cmocka_unit_test(test_drop) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
