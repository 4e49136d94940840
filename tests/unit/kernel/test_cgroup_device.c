// Device rules on a real group of this machine's cgroup2 tree: what a process in it may open and make.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/num.h"
#include "kernel/cgroup.h"

struct attempt {
    unsigned major, minor; // of a character device
    int flags; // -1: only mknod
    int expected; // errno, 0: it works
};

// In a child that has joined the group; the errno of what failed.
static int try_device(struct cgroup *cgroup, const struct attempt *attempt)
{
    char path[64];
    int status;
    snprintf(path, sizeof(path), "/dev/shm/berth-test-%d", (int)getpid());
    unlink(path);
    if (attempt->flags >= 0 && mknod(path, S_IFCHR | 0600, makedev(attempt->major, attempt->minor)) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        if (cgroup_join(cgroup, getpid(), NULL) < 0)
            _exit(255);
        if (attempt->flags < 0)
            _exit(mknod(path, S_IFCHR | 0600, makedev(attempt->major, attempt->minor)) == 0 ? 0 : errno);
        _exit(open(path, attempt->flags) >= 0 ? 0 : errno);
    }
    waitpid(pid, &status, 0);
    unlink(path);
    return WEXITSTATUS(status);
}

// The cgroup2 tree alone, also of a hybrid machine.
static bool find_tree(struct cgroup_layout *out)
{
    struct cgroup_layout all;
    cgroup_layout_probe(&all);
    *out = (struct cgroup_layout){ .version = CGROUP_V2 };
    for (size_t i = 0; i < all.len; i++) {
        if (all.hierarchies[i].v2)
            out->hierarchies[out->len++] = all.hierarchies[i];
    }
    return out->len == 1 && geteuid() == 0;
}

static void check(const struct cgroup_device_rule *rules, size_t rule_len, const struct attempt *attempts, size_t len)
{
    struct cgroup_layout layout;
    struct cgroup *cgroup;
    struct err err = { 0 };
    char path[48] = "berth-test-";
    unsigned missing = 0;
    if (!find_tree(&layout)) {
        print_message("skipped: needs root and a cgroup2 tree\n");
        skip();
    }
    random_hex(path + strlen(path), 8);
    if (cgroup_create(&layout, path, &cgroup, &err) < 0)
        fail_msg("%s", err.message);
    struct cgroup_limits limits = { .devices = rules, .device_len = rule_len };
    int limited = cgroup_limit(cgroup, &limits, &missing, &err);
    for (size_t i = 0; limited == 0 && !missing && i < len; i++) {
        int got = try_device(cgroup, &attempts[i]);
        if (got != attempts[i].expected)
            print_message("%u:%u flags %d: %s\n", attempts[i].major, attempts[i].minor, attempts[i].flags,
                          strerror(got));
        limited = got == attempts[i].expected ? 0 : -1;
    }
    cgroup_free(cgroup);
    cgroup_remove(&layout, path, 2 * NS_PER_S, NULL);
    if (missing) {
        print_message("skipped: this kernel has no device programs\n");
        skip();
    }
    if (limited < 0)
        fail_msg("%s", err.message);
}

#define CHECK(rules, attempts) check((rules), ARRAY_LEN(rules), (attempts), ARRAY_LEN(attempts))

static void only_what_is_listed(void **state)
{
    static const struct cgroup_device_rule rules[] = {
        { false, 'a', -1, -1, "rwm" },
        { true, 'c', -1, -1, "m" },
        { true, 'c', 1, 3, "rwm" },
        { true, 'c', 1, 5, "r" },
    };
    static const struct attempt attempts[] = {
        { 1, 3, O_RDWR, 0 },       { 1, 5, O_RDONLY, 0 },     { 1, 5, O_WRONLY, EPERM }, { 1, 5, O_RDWR, EPERM },
        { 1, 7, O_RDONLY, EPERM }, { 5, 3, O_RDONLY, EPERM }, { 1, 7, -1, 0 },           { 1, 3, -1, 0 },
    };
    CHECK(rules, attempts);
}

static void the_last_rule_counts(void **state)
{
    static const struct cgroup_device_rule rules[] = {
        { true, 'a', -1, -1, "rwm" },
        { false, 'c', 1, -1, "w" },
        { true, 'c', 1, 3, "rwm" },
        { false, 'b', -1, -1, "rwm" },
    };
    static const struct attempt attempts[] = {
        { 1, 3, O_RDWR, 0 }, { 1, 5, O_RDONLY, 0 }, { 1, 5, O_WRONLY, EPERM }, { 1, 5, O_RDWR, EPERM }, { 1, 9, -1, 0 },
    };
    CHECK(rules, attempts);
}

static void nothing_that_fits_is_allowed(void **state)
{
    static const struct cgroup_device_rule rules[] = { { false, 'c', 1, 5, "m" } };
    static const struct attempt attempts[] = { { 1, 5, O_RDONLY, 0 }, { 1, 5, -1, EPERM }, { 1, 3, -1, 0 } };
    CHECK(rules, attempts);
}

static void all_or_nothing(void **state)
{
    static const struct cgroup_device_rule none[] = { { false, 'a', -1, -1, "rwm" } },
                                           all[] = { { true, 'a', -1, -1, "rwm" } };
    static const struct attempt refused[] = { { 1, 3, O_RDONLY, EPERM }, { 1, 3, -1, EPERM } };
    static const struct attempt allowed[] = { { 1, 3, O_RDONLY, 0 }, { 1, 3, -1, 0 } };
    CHECK(none, refused);
    CHECK(all, allowed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_is_listed),
        cmocka_unit_test(the_last_rule_counts),
        cmocka_unit_test(nothing_that_fits_is_allowed),
        cmocka_unit_test(all_or_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
