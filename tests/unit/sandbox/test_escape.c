// What an image or a container may try. Each test is a row of the list of escapes that other runtimes had.
#include "fixture.h"

static int mount_entries(const char *dir)
{
    DIR *list = opendir(dir);
    int count = 0;
    assert_non_null(list);
    while (readdir(list))
        count++;
    closedir(list);
    return count - 2;
}

// A folder on the host that links of the image point to; it must stay empty.
struct outside {
    char dir[64];
};

static void outside_make(struct outside *outside)
{
    snprintf(outside->dir, sizeof(outside->dir), "/tmp/berth-outside-XXXXXX");
    assert_non_null(mkdtemp(outside->dir));
}

static void outside_check(struct outside *outside)
{
    assert_int_equal(mount_entries(outside->dir), 0);
    assert_int_equal(rmdir(outside->dir), 0);
}

static void link_in_image(struct box *box, const char *path, const char *target)
{
    char full[128];
    snprintf(full, sizeof(full), "rootfs/%s", path);
    unlinkat(box->dir_fd, full, AT_REMOVEDIR);
    assert_int_equal(symlinkat(target, box->dir_fd, full), 0);
}

// CVE-2026-41579, CVE-2026-47766, CVE-2019-16884, CVE-2023-27561
static void test_system_folders_are_links(void **state)
{
    NEED_BOX();
    static const char *const folders[] = { "proc", "dev", "sys" };
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        struct box *box = box_new();
        struct outside outside;
        outside_make(&outside);
        link_in_image(box, folders[i], outside.dir);
        assert_int_equal(RUN(box, "true"), -1);
        assert_non_null(strstr(box->err.message, "must be mounted on ordinary directory"));
        unlinkat(box->dir_fd, i == 0 ? "rootfs/proc" : i == 1 ? "rootfs/dev" : "rootfs/sys", 0);
        link_in_image(box, folders[i], "/tmp"); // one that stays inside is refused too
        assert_int_equal(RUN(box, "true"), -1);
        outside_check(&outside);
        box_free(box);
    }
}

// CVE-2021-30465, CVE-2024-45310: targets through links end inside the root.
static void test_volume_through_link(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    struct outside outside;
    outside_make(&outside);
    mkdirat(box->dir_fd, "volume", 0755);
    box_write(box, "volume/there", "inside\n", 0644);
    int volume = openat(box->dir_fd, "volume", O_PATH | O_CLOEXEC);
    char up[128];
    snprintf(up, sizeof(up), "../../../../../../..%s", outside.dir);
    link_in_image(box, "absolute", outside.dir);
    link_in_image(box, "relative", up);
    link_in_image(box, "loop", "loop");
    struct sandbox_mount mounts[] = { { .source_fd = volume, .target = "/absolute/a" },
                                      { .source_fd = volume, .target = "/relative/b" } };
    box->spec.mounts = mounts;
    box->spec.mount_len = 2;
    EXPECT(box, 0, SH(box, "cat /absolute/a/there /relative/b/there; readlink /absolute"));
    EXPECT_HAS(box, "inside\ninside\n");
    mounts[0].target = "/loop/x";
    assert_int_equal(RUN(box, "true"), -1);
    close(volume);
    outside_check(&outside);
    box_free(box);
}

// CVE-2019-19921, CVE-2025-52881: nothing of a user's comes to stand on procfs, by whatever name.
static void test_volume_on_proc(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    int volume = openat(box->dir_fd, "rootfs/etc", O_PATH | O_CLOEXEC), file = openat(box->dir_fd, "rootfs/etc/group", O_PATH | O_CLOEXEC);
    link_in_image(box, "innocent", "/proc/sys");
    link_in_image(box, "alsoproc", "proc");
    static const char *const targets[] = { "/proc", "/proc/sys", "/proc/self", "/innocent", "/alsoproc", "/alsoproc/sys/kernel",
                                           "/tmp/../proc/fs", "/", "/.", "//", "/tmp/.." };
    struct sandbox_mount mounts[] = { { .source_fd = volume } };
    box->spec.mounts = mounts;
    box->spec.mount_len = 1;
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        mounts[0].target = targets[i];
        if (RUN(box, "true") != -1)
            fail_msg("a volume stands on %s", targets[i]);
    }
    mounts[0] = (struct sandbox_mount){ .kind = SANDBOX_MOUNT_TMPFS, .target = "/innocent", .source_fd = -1 };
    assert_int_equal(RUN(box, "true"), -1);
    mounts[0] = (struct sandbox_mount){ .source_fd = file, .target = "/proc/uptime" }; // as lxcfs does
    EXPECT(box, 0, RUN(box, "cat", "/proc/uptime"));
    EXPECT_HAS(box, "wheel");
    close(volume);
    close(file);
    box_free(box);
}

// CVE-2025-31133: masks are made of our own null device, whatever stands at /dev/null.
static void test_mask_with_foreign_null(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    int file = openat(box->dir_fd, "rootfs/etc/group", O_PATH | O_CLOEXEC);
    struct sandbox_mount mounts[] = { { .source_fd = file, .target = "/dev/null" } };
    box->spec.mounts = mounts;
    box->spec.mount_len = 1;
    EXPECT(box, 0, SH(box, "test -f /dev/null && test -c /proc/timer_list && stat -c %t:%T /proc/timer_list"));
    EXPECT_HAS(box, "1:3\n");
    close(file);
    box_free(box);
}

// A volume over all of /dev does not redirect the nodes that we make, nor the masks.
static void test_volume_over_dev(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    mkdirat(box->dir_fd, "volume", 0755);
    int volume = openat(box->dir_fd, "volume", O_PATH | O_CLOEXEC);
    struct sandbox_mount mounts[] = { { .source_fd = volume, .target = "/dev" } };
    box->spec.mounts = mounts;
    box->spec.mount_len = 1;
    EXPECT(box, 0, SH(box, "ls /dev; test -c /proc/timer_list"));
    assert_int_equal(faccessat(box->dir_fd, "volume/null", F_OK, 0), -1);
    close(volume);
    box_free(box);
}

// CVE-2024-21626: no descriptor of the host as a working directory.
static void test_working_directory_by_descriptor(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    char path[64];
    int host = open("/", O_RDONLY | O_DIRECTORY);
    for (int fd = 3; fd < 20; fd++) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        box->process.cwd = arena_strdup(&box->arena, path);
        if (RUN(box, "pwd") != -1)
            fail_msg("%s: runs in %s", path, box->out);
    }
    close(host);
    box_free(box);
}

// CVE-2022-29162 and its kin.
static void test_no_inheritable(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    box->process.user.name = arena_strdup(&box->arena, "mina");
    EXPECT(box, 0, SH(box, "grep -E 'CapInh|CapPrm|CapAmb' /proc/self/status"));
    EXPECT_HAS(box, "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapAmb:\t0000000000000000");
    box->caps.inheritable = box->caps.ambient = WORDS(box, "CAP_NET_RAW");
    EXPECT(box, 0, SH(box, "grep -E 'CapInh|CapPrm|CapAmb' /proc/self/status"));
    EXPECT_HAS(box, "CapInh:\t0000000000002000\nCapPrm:\t0000000000002000\nCapAmb:\t0000000000002000");
    box_free(box);
}

// CVE-2022-0492: release_agent is out of reach.
static void test_cgroups_cannot_be_written(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    box_use_cgroup(box, NULL);
    box_caps(box, caps_all());
    EXPECT(box, 0, SH(box, "cat /proc/self/cgroup | cut -d: -f3 | grep -v '^/$'; mount | grep cgroup | grep -v '(ro,'; "
                           "for f in /sys/fs/cgroup/*/cgroup.procs; do echo $$ 2>/dev/null > $f && echo wrote $f; done; "
                           "ls /sys/fs/cgroup/*/release_agent 2>/dev/null; mkdir /sys/fs/cgroup/x 2>/dev/null && echo made; true"));
    assert_string_equal(box->out, "");
    box_free(box);
}

// passwd is the image's: a link, a device or a giant must not be read as one.
static void test_passwd_of_the_image(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    unlinkat(box->dir_fd, "rootfs/etc/passwd", 0);
    assert_int_equal(symlinkat("../../../../../../etc/passwd", box->dir_fd, "rootfs/etc/passwd"), 0);
    box->process.user.name = arena_strdup(&box->arena, "daemon"); // the host has one
    assert_int_equal(RUN(box, "true"), -1);
    unlinkat(box->dir_fd, "rootfs/etc/passwd", 0);
    assert_int_equal(mkfifoat(box->dir_fd, "rootfs/etc/passwd", 0644), 0); // must not block
    assert_int_equal(RUN(box, "true"), -1);
    unlinkat(box->dir_fd, "rootfs/etc/passwd", 0);
    int big = openat(box->dir_fd, "rootfs/etc/passwd", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    assert_int_equal(ftruncate(big, INT64_C(1) << 40), 0);
    close(big);
    assert_int_equal(RUN(box, "true"), -1);
    assert_string_equal(box->err.message, "unable to find user daemon: no matching entries in passwd file");
    box_free(box);
}

// Links exchanged while targets are made: whoever wins, nothing appears outside.
static void test_exchange_race(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    struct outside outside;
    outside_make(&outside);
    box_use_tree(box);
    mkdirat(box->dir_fd, "rootfs/a", 0755);
    link_in_image(box, "b", outside.dir);
    mkdirat(box->dir_fd, "volume", 0755);
    int volume = openat(box->dir_fd, "volume", O_PATH | O_CLOEXEC);
    struct sandbox_mount mounts[] = { { .source_fd = volume, .target = "/a/x/y" } };
    box->spec.mounts = mounts;
    box->spec.mount_len = 1;
    pid_t racer = fork();
    if (racer == 0)
        for (;;)
            syscall(SYS_renameat2, box->lower_fd, "a", box->lower_fd, "b", 2 /* RENAME_EXCHANGE */);
    for (int i = 0; i < 40; i++)
        RUN(box, "true"); // some fail, and may
    kill(racer, SIGKILL);
    waitpid(racer, NULL, 0);
    close(volume);
    outside_check(&outside);
    box_free(box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_system_folders_are_links), cmocka_unit_test(test_volume_through_link),
        cmocka_unit_test(test_volume_on_proc),           cmocka_unit_test(test_mask_with_foreign_null),
        cmocka_unit_test(test_volume_over_dev),          cmocka_unit_test(test_working_directory_by_descriptor),
        cmocka_unit_test(test_no_inheritable),           cmocka_unit_test(test_cgroups_cannot_be_written),
        cmocka_unit_test(test_passwd_of_the_image),      cmocka_unit_test(test_exchange_race),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
