#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/file.h"
#include "kernel/abi.h"
#include "kernel/mount.h"

#define LAYERS 3

struct stack {
    char dir[64];
    int base, lowers[LAYERS], upper, work;
    struct err err;
};

static int stack_up(void **state)
{
    struct stack *stack = mem_new(struct stack);
    snprintf(stack->dir, sizeof(stack->dir), "/tmp/berth-mount-XXXXXX");
    assert_non_null(mkdtemp(stack->dir));
    stack->base = open(stack->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < LAYERS; i++) {
        char name[32];
        snprintf(name, sizeof(name), "layer%d", i);
        assert_int_equal(mkdirat(stack->base, name, 0755), 0);
        stack->lowers[i] = openat(stack->base, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(file_write_at(stack->lowers[i], "same", name, 6, 0644, false, &stack->err), 0);
        assert_int_equal(file_write_at(stack->lowers[i], name, name, 6, 0644, false, &stack->err), 0);
    }
    assert_int_equal(mkdirat(stack->base, "upper", 0755) + mkdirat(stack->base, "work", 0755), 0);
    stack->upper = openat(stack->base, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    stack->work = openat(stack->base, "work", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *state = stack;
    return 0;
}

static int stack_down(void **state)
{
    struct stack *stack = *state;
    for (int i = 0; i < LAYERS; i++)
        close(stack->lowers[i]);
    close(stack->upper);
    close(stack->work);
    close(stack->base);
    assert_int_equal(file_remove_tree(AT_FDCWD, stack->dir, &stack->err), 0);
    free(stack);
    return 0;
}

#define NEED_ROOT()         \
    do {                    \
        if (geteuid() != 0) \
            skip();         \
    } while (0)

static void check_overlay(struct stack *stack, enum mount_overlay_way way, bool ephemeral)
{
    struct mount_overlay overlay = { .lower_fds = stack->lowers, .lower_len = LAYERS, .upper_fd = stack->upper, .work_fd = stack->work,
                                     .ephemeral = ephemeral };
    _cleanup_close_ int fd = mount_overlay(&overlay, way, &stack->err);
    if (fd < 0)
        fail_msg("%s", stack->err.message);
    _cleanup_buf_ struct buf text = BUF_INIT(100);
    assert_int_equal(file_read_at(fd, "same", &text, &stack->err), 0);
    assert_string_equal(buf_text(&text), "layer0"); // the top one
    assert_int_equal(faccessat(fd, "layer2", F_OK, 0), 0);
    assert_int_equal(file_write_at(fd, "written", "x", 1, 0644, false, &stack->err), 0);
    assert_int_equal(faccessat(stack->upper, "written", F_OK, 0), 0);
}

static void test_overlay_by_fd(void **state)
{
    NEED_ROOT();
    check_overlay(*state, MOUNT_OVERLAY_ANY, false);
}

static void test_overlay_by_path(void **state)
{
    NEED_ROOT();
    struct utsname name;
    unsigned major = 0, minor = 0;
    uname(&name);
    if (sscanf(name.release, "%u.%u", &major, &minor) == 2 && (major < 6 || (major == 6 && minor < 8))) {
        puts("skipped: Linux 6.8 can");
        return;
    }
    check_overlay(*state, MOUNT_OVERLAY_BY_PATH, false);
}

static void test_overlay_in_one_string(void **state)
{
    NEED_ROOT();
    check_overlay(*state, MOUNT_OVERLAY_ONE_STRING, false);
}

// An image of so many layers still starts on a kernel with one short option, and the current folder is as it was.
static void test_sixty_layers_fit_into_one_string(void **state)
{
    NEED_ROOT();
    struct stack *stack = *state;
    int lowers[100];
    char before[256], after[256];
    assert_non_null(getcwd(before, sizeof(before)));
    for (size_t i = 0; i < ARRAY_LEN(lowers); i++) {
        _cleanup_free_ char *name = mem_printf("many%zu", i);
        assert_int_equal(mkdirat(stack->base, name, 0755), 0);
        lowers[i] = openat(stack->base, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    struct mount_overlay overlay = { .lower_fds = lowers, .lower_len = 60, .upper_fd = stack->upper, .work_fd = stack->work };
    int fd = mount_overlay(&overlay, MOUNT_OVERLAY_ONE_STRING, &stack->err);
    if (fd < 0)
        fail_msg("%s", stack->err.message);
    close(fd);
    overlay.lower_len = 100;
    assert_int_equal(mount_overlay(&overlay, MOUNT_OVERLAY_ONE_STRING, &stack->err), -1);
    assert_int_equal(stack->err.class, ERR_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(stack->err.message, "100 layers"));
    assert_string_equal(getcwd(after, sizeof(after)), before);
    for (size_t i = 0; i < ARRAY_LEN(lowers); i++)
        close(lowers[i]);
}

// Descriptors that only name a folder do as well.
static void test_overlay_by_name(void **state)
{
    NEED_ROOT();
    struct stack *stack = *state;
    for (int i = 0; i < LAYERS; i++) {
        char name[32];
        snprintf(name, sizeof(name), "layer%d", i);
        close(stack->lowers[i]);
        stack->lowers[i] = openat(stack->base, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    check_overlay(stack, MOUNT_OVERLAY_ANY, false);
}

static void test_overlay_ephemeral(void **state)
{
    NEED_ROOT();
    check_overlay(*state, MOUNT_OVERLAY_ANY, true);
}

static void test_overlay_read_only(void **state)
{
    NEED_ROOT();
    struct stack *stack = *state;
    struct mount_overlay overlay = { .lower_fds = stack->lowers, .lower_len = LAYERS, .upper_fd = -1, .work_fd = -1 };
    _cleanup_close_ int fd = mount_overlay(&overlay, MOUNT_OVERLAY_ANY, &stack->err);
    assert_true(fd >= 0);
    assert_int_equal(openat(fd, "x", O_CREAT | O_WRONLY, 0644), -1);
    overlay.lower_len = 0;
    assert_int_equal(mount_overlay(&overlay, MOUNT_OVERLAY_ANY, &stack->err), -1);
}

static void test_errors_name_the_reason(void **state)
{
    NEED_ROOT();
    struct err err = { 0 };
    const struct mount_option bad = { .key = "nosuchoption", .value = "1" };
    assert_int_equal(mount_new("tmpfs", &bad, 1, 0, &err), -1);
    assert_non_null(strstr(err.message, "option nosuchoption: mount tmpfs"));
    assert_non_null(strstr(err.message, "Unknown parameter"));
    assert_int_equal(mount_new("nosuchfs", NULL, 0, 0, &err), -1);
    assert_non_null(strstr(err.message, "nosuchfs"));
}

// In a child with its own mount namespace: attach, clone, change.
static int attach_and_change(struct stack *stack)
{
    struct err err = { 0 };
    const struct mount_option options[] = { { .key = "size", .value = "64k" }, { .key = "mode", .value = "700" } };
    if (unshare(CLONE_NEWNS) < 0)
        return 1;
    struct mount_attr slave = { .propagation = MS_SLAVE };
    if (mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &slave, sizeof(slave)) < 0)
        return 2;
    int tmpfs = mount_new("tmpfs", options, 2, MOUNT_ATTR_NOEXEC, &err);
    char path[80]; // by path: the descriptors of the parent belong to the mounts of its namespace
    snprintf(path, sizeof(path), "%s/upper", stack->dir);
    int target = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (tmpfs < 0 || target < 0 || mount_attach(tmpfs, target, &err) < 0)
        return 3;
    if (file_write_at(tmpfs, "f", "x", 1, 0644, false, &err) < 0)
        return 4;
    int clone = mount_clone(tmpfs, true, &err);
    if (clone < 0 || mount_attr(clone, MOUNT_ATTR_RDONLY, 0, MS_PRIVATE, true, &err) < 0)
        return 5;
    if (openat(clone, "g", O_CREAT | O_WRONLY, 0644) >= 0 || faccessat(clone, "f", F_OK, 0) < 0)
        return 6;
    return openat(tmpfs, "g", O_CREAT | O_WRONLY | O_CLOEXEC, 0644) >= 0 ? 0 : 7;
}

static void test_attach(void **state)
{
    NEED_ROOT();
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(attach_and_change(*state));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 0);
}

static int chrooted_child(const char *dir)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount(dir, dir, NULL, MS_BIND, NULL) < 0 || chdir(dir) < 0 || mkdir("proc", 0755) < 0 ||
        mount("proc", "proc", "proc", 0, NULL) < 0 || chroot(".") < 0)
        return 2;
    return mount_is_chrooted();
}

static void test_a_chroot_is_known(void **state)
{
    NEED_ROOT();
    struct stack *stack = *state;
    int status;
    assert_false(mount_is_chrooted());
    pid_t pid = fork();
    if (pid == 0)
        _exit(chrooted_child(stack->dir));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 1 << 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_chroot_is_known, stack_up, stack_down),
        cmocka_unit_test_setup_teardown(test_overlay_by_fd, stack_up, stack_down),
        cmocka_unit_test_setup_teardown(test_overlay_by_path, stack_up, stack_down),
        cmocka_unit_test_setup_teardown(test_overlay_in_one_string, stack_up, stack_down),
        cmocka_unit_test_setup_teardown(test_sixty_layers_fit_into_one_string, stack_up, stack_down),
        cmocka_unit_test_setup_teardown(test_overlay_by_name, stack_up, stack_down),
        cmocka_unit_test_setup_teardown(test_overlay_ephemeral, stack_up, stack_down),
        cmocka_unit_test_setup_teardown(test_overlay_read_only, stack_up, stack_down),
        cmocka_unit_test(test_errors_name_the_reason),
        cmocka_unit_test_setup_teardown(test_attach, stack_up, stack_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
