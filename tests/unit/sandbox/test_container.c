#include "fixture.h"

static void test_exit_codes(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    EXPECT(box, 0, RUN(box, "true"));
    EXPECT(box, 1, RUN(box, "/bin/false"));
    EXPECT(box, 7, SH(box, "exit 7"));
    // The first process of a pid namespace ignores what it has no handler for, but for its parent's SIGKILL.
    EXPECT(box, 137, SH(box, "sh -c 'kill -9 $$'; exit $?"));
    box_free(box);
}

static void test_what_it_sees(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    EXPECT(box, 0, SH(box, "hostname; echo pid $$; pwd; ls /dev; ls /dev/pts; readlink /dev/stdin; ip addr; id; env"));
    EXPECT_HAS(box, "box\n");
    EXPECT_HAS(box, "pid 1\n");
    EXPECT_HAS(box, "\n/\n");
    EXPECT_HAS(box, "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n");
    EXPECT_HAS(box, "/proc/self/fd/0");
    EXPECT_HAS(box, "LOOPBACK,UP");
    EXPECT_HAS(box, "uid=0(root) gid=0(root)");
    EXPECT_HAS(box, "HOME=/root");
    box_free(box);
}

static bool leaves_the_mounts(struct box *box)
{
    char *before = host_file("/proc/self/mountinfo");
    EXPECT(box, 0, SH(box, "true"));
    char *after = host_file("/proc/self/mountinfo");
    bool same = str_eq(before, after);
    free(before);
    free(after);
    return same;
}

// Others on the machine may mount something at the same moment, but not each time.
static void test_the_hosts_mounts_stay(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    bool same = false;
    for (int attempt = 0; attempt < 10 && !same; attempt++)
        same = leaves_the_mounts(box);
    assert_true(same);
    box_free(box);
}

static void test_mounts(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    box->section.shm_size = 1 << 20;
    EXPECT(box, 0, SH(box, "cat /proc/self/mountinfo"));
    static const char *const lines[] = {
        " / / rw,relatime - overlay overlay ", " /proc rw,nosuid,nodev,noexec,relatime - proc proc ", " /dev rw,nosuid - tmpfs tmpfs ",
        "size=65536k,mode=755", " /dev/pts rw,nosuid,noexec,relatime - devpts ", "gid=5,mode=620,ptmxmode=666",
        " /dev/shm rw,nosuid,nodev,noexec,relatime - tmpfs ", "size=1024k", " /dev/mqueue rw,nosuid,nodev,noexec,relatime - mqueue ",
        " /sys ro,nosuid,nodev,noexec,relatime - sysfs ", " /proc/sys ro,nosuid,nodev,noexec,relatime - proc ",
        "/null /proc/timer_list ", " /sys/firmware ro,nosuid,nodev,noexec,relatime - tmpfs ",
    };
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        EXPECT_HAS(box, lines[i]);
    // Nothing of the host's tree is left.
    EXPECT_LACKS(box, " - ext4 ");
    EXPECT_LACKS(box, " /tmp");
    box_free(box);
}

static void test_masks(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    EXPECT(box, 0, SH(box, "test -z \"$(head -c 1 /proc/timer_list)\" && test -z \"$(ls /sys/firmware)\" && test -c /proc/timer_list"));
    EXPECT(box, 1, SH(box, "echo 1 > /proc/sys/kernel/domainname"));
    EXPECT(box, 1, SH(box, "echo h > /proc/sysrq-trigger"));
    EXPECT(box, 1, SH(box, "touch /sys/firmware/x 2>/dev/null || exit 1"));
    box_free(box);
}

static void test_privileges(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    EXPECT(box, 0, SH(box, "grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status"));
    EXPECT_HAS(box, "CapInh:\t0000000000000000");
    EXPECT_HAS(box, "CapEff:\t00000000a80425fb");
    EXPECT_HAS(box, "CapPrm:\t00000000a80425fb");
    EXPECT_HAS(box, "CapBnd:\t00000000a80425fb");
    EXPECT_HAS(box, "CapAmb:\t0000000000000000");
    EXPECT_HAS(box, "NoNewPrivs:\t0");
    EXPECT_HAS(box, "Seccomp:\t2");
    EXPECT(box, 1, SH(box, "unshare -m true"));
    EXPECT(box, 1, SH(box, "mount -t tmpfs x /tmp 2>/dev/null || exit 1"));
    box->process.no_new_privileges = true;
    EXPECT(box, 0, SH(box, "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status"));
    EXPECT_HAS(box, "NoNewPrivs:\t1");
    EXPECT_HAS(box, "Seccomp:\t2");
    box->section.seccomp_profile = arena_strdup(&box->arena, "unconfined");
    box->process.capabilities = NULL;
    EXPECT(box, 0, SH(box, "grep -E 'Cap|Seccomp:' /proc/self/status"));
    EXPECT_HAS(box, "Seccomp:\t0");
    EXPECT_HAS(box, "CapBnd:\t0000000000000000");
    EXPECT_HAS(box, "CapEff:\t0000000000000000");
    box_free(box);
}

static void test_all_capabilities(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    box_caps(box, caps_all()); // those we lack ourselves are left out without an error
    EXPECT(box, 0, SH(box, "mount -t tmpfs x /tmp && mount -t proc y /home && unshare -m true"));
    box_free(box);
}

static const struct {
    const char *user, *output;
} users[] = {
    { "mina", "uid=1000(mina) gid=1001(mina) groups=10(wheel),44(video),1001(mina)\n/home/mina" },
    { "1000", "uid=1000(mina) gid=1001(mina) groups=10(wheel),44(video),1001(mina)\n/home/mina" },
    { "mina:video", "uid=1000(mina) gid=44(video) groups=44(video)\n/home/mina" },
    { "1000:10", "uid=1000(mina) gid=10(wheel) groups=10(wheel)\n/home/mina" },
    { "4242", "uid=4242 gid=0(root) groups=0(root)\n/" },
    { "4242:4343", "uid=4242 gid=4343 groups=4343\n/" },
    { "root", "uid=0(root) gid=0(root) groups=0(root),10(wheel)\n/root" },
};

static void test_users(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    for (size_t i = 0; i < ARRAY_LEN(users); i++) {
        box->process.user.name = arena_strdup(&box->arena, users[i].user);
        EXPECT(box, 0, SH(box, "id; echo $HOME; grep CapEff /proc/self/status"));
        EXPECT_HAS(box, users[i].output);
        EXPECT_HAS(box, str_eq(users[i].user, "root") ? "CapEff:\t00000000a80425fb" : "CapEff:\t0000000000000000");
    }
    static const char *const wrong[][2] = {
        { "nobody2", "unable to find user nobody2: no matching entries in passwd file" },
        { "mina:nogroup2", "unable to find group nogroup2: no matching entries in group file" },
        { "4294967296", "uids and gids must be in range 0-2147483647" },
        { "4294967295", "uids and gids must be in range 0-2147483647" },
        { "-1", "uids and gids must be in range 0-2147483647" },
        { "0x0", "unable to find user 0x0: no matching entries in passwd file" },
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        box->process.user.name = arena_strdup(&box->arena, wrong[i][0]);
        assert_int_equal(RUN(box, "true"), -1);
        assert_string_equal(box->err.message, wrong[i][1]);
    }
    box_free(box);
}

static void test_numbers_as_they_are(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    box->process.user.uid = 5;
    box->process.user.gid = 6;
    box->process.user.umask = 027;
    box->process.user.groups = WORDS(box, "wheel", "77");
    EXPECT(box, 0, SH(box, "id; umask; echo out > /dev/stdout; echo err > /dev/stderr"));
    EXPECT_HAS(box, "uid=5 gid=6 groups=10(wheel),77");
    EXPECT_HAS(box, "0027\nout\nerr\n");
    box->process.user.uid = UINT32_MAX;
    assert_int_equal(RUN(box, "true"), -1);
    assert_int_equal(box->err.class, ERR_INVALID_ARGUMENT);
    box_free(box);
}

static const struct {
    const char *command, *message;
    enum err_class class;
} failures[] = {
    { "/nosuch", "exec: \"/nosuch\": stat /nosuch: no such file or directory", ERR_NOT_FOUND },
    { "nosuch", "exec: \"nosuch\": executable file not found in $PATH", ERR_NOT_FOUND },
    { "/etc/passwd", "exec: \"/etc/passwd\": permission denied", ERR_PERMISSION_DENIED },
    { "/etc", "exec: \"/etc\": permission denied", ERR_PERMISSION_DENIED },
    { "/tmp/junk", "exec: \"/tmp/junk\": exec format error", ERR_INTERNAL },
    { "/tmp/orphan", "exec: \"/tmp/orphan\": no such file or directory", ERR_NOT_FOUND },
};

static void test_exec_failures(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    box_write(box, "rootfs/tmp/junk", "\x01\x02\x03nothing", 0755);
    box_write(box, "rootfs/tmp/orphan", "#!/no/interpreter\n", 0755);
    assert_int_equal(fchmodat(box->dir_fd, "rootfs/tmp/junk", 0755, 0), 0);
    assert_int_equal(fchmodat(box->dir_fd, "rootfs/tmp/orphan", 0755, 0), 0);
    for (size_t i = 0; i < ARRAY_LEN(failures); i++) {
        assert_int_equal(RUN(box, failures[i].command), -1);
        assert_string_equal(box->err.message, failures[i].message);
        assert_int_equal(box->err.class, failures[i].class);
    }
    box_free(box);
}

static void test_working_directory(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    box->process.cwd = arena_strdup(&box->arena, "/srv/made/here");
    EXPECT(box, 0, RUN(box, "pwd"));
    EXPECT_HAS(box, "/srv/made/here\n");
    box_free(box);
}

static void test_terminal(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    box->process.terminal = true;
    box->process.console_size = (struct oci_box){ .height = 33, .width = 111 };
    EXPECT(box, 0, SH(box, "tty; stty size; echo here > /dev/console; ls /dev/pts; echo there > /dev/tty"));
    EXPECT_HAS(box, "/dev/pts/0\r\n33 111\r\nhere\r\n");
    EXPECT_HAS(box, "there");
    box_free(box);
}

static void test_volumes(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    mkdirat(box->dir_fd, "volume", 0755);
    box_write(box, "volume/there", "inside\n", 0644);
    box_write(box, "single", "a file\n", 0644);
    int volume = openat(box->dir_fd, "volume", O_PATH | O_CLOEXEC), single = openat(box->dir_fd, "single", O_PATH | O_CLOEXEC);
    struct sandbox_mount mounts[] = {
        { .source_fd = volume, .target = "/data/rw", .recursive = true },
        { .source_fd = volume, .target = "/data/ro", .read_only = true, .recursive = true },
        { .source_fd = single, .target = "/etc/new/file" },
        { .kind = SANDBOX_MOUNT_TMPFS, .target = "/run", .data = "size=64k,mode=1777,noexec", .no_suid = true, .source_fd = -1 },
    };
    box->spec.mounts = mounts;
    box->spec.mount_len = ARRAY_LEN(mounts);
    EXPECT(box, 0, SH(box, "cat /data/ro/there /etc/new/file && echo more > /data/rw/made && cat /data/ro/made && "
                           "! touch /data/ro/x 2>/dev/null && mount && stat -c %a /run"));
    EXPECT_HAS(box, "inside\na file\nmore\n");
    EXPECT_HAS(box, "tmpfs on /run type tmpfs (rw,nosuid,noexec,relatime,size=64k)");
    EXPECT_HAS(box, "1777");
    assert_int_equal(faccessat(box->dir_fd, "volume/made", F_OK, 0), 0);
    // A file on a folder.
    mounts[2].target = "/tmp";
    assert_int_equal(RUN(box, "true"), -1);
    assert_non_null(strstr(box->err.message, "bind /tmp: not a directory: are you trying to mount"));
    close(volume);
    close(single);
    box_free(box);
}

// The mode of the folder below, else the kernel's, else the user's; read-only only when all mounts are in place.
static void test_tmpfs(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    mkdirat(box->dir_fd, "rootfs/home/mine", 0710);
    int tmp = openat(box->dir_fd, "rootfs/tmp", O_PATH | O_CLOEXEC);
    const struct sandbox_mount mounts[] = {
        { .kind = SANDBOX_MOUNT_TMPFS, .target = "/home/mine", .source_fd = -1 },
        { .kind = SANDBOX_MOUNT_TMPFS, .target = "/fresh/one", .source_fd = -1 },
        { .kind = SANDBOX_MOUNT_TMPFS, .target = "/fresh/two", .data = "ro,mode=0500", .source_fd = -1 },
        { .source_fd = tmp, .target = "/fresh/two/tmp" },
        { .kind = SANDBOX_MOUNT_TMPFS, .target = "/run/data", .source_fd = -1 },
    };
    box->spec.mounts = mounts;
    box->spec.mount_len = ARRAY_LEN(mounts);
    box->process.cwd = arena_strdup(&box->arena, "/run/data");
    box->spec.cwd_before_mounts = true;
    EXPECT(box, 0, SH(box, "stat -c %a /home/mine /fresh/one /fresh/two /run/data; touch /fresh/two/tmp/x; touch /fresh/two/x"
                           " || echo refused"));
    EXPECT_HAS(box, "710\n1777\n500\n755\n");
    EXPECT_HAS(box, "refused");
    assert_int_equal(faccessat(box->dir_fd, "rootfs/tmp/x", F_OK, 0), 0);
    close(tmp);
    box_free(box);
}

static void test_read_only_root(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    box->spec.rootfs.read_only = true;
    box->process.cwd = arena_strdup(&box->arena, "/not/yet/there");
    EXPECT(box, 0, SH(box, "pwd; ! touch /x 2>/dev/null && touch /dev/shm/x"));
    EXPECT_HAS(box, "/not/yet/there\n");
    box->spec.rootfs.read_only = false;
    int upper = box->spec.rootfs.upper_fd;
    box->spec.rootfs.upper_fd = -1; // a stack without an upper is read-only too
    EXPECT(box, -1, SH(box, "true")); // but then /proc has no folder to stand on
    box->spec.rootfs.upper_fd = upper;
    box_free(box);
}

static void test_rlimits_and_sysctls(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    struct oci_rlimit limits[] = { { (char *)"RLIMIT_NOFILE", 100, 200 }, { (char *)"RLIMIT_NPROC", INT64_MAX, INT64_MAX },
                                   { (char *)"RLIMIT_CORE", -1, -1 } };
    struct kv sysctls[] = { { (char *)"net.ipv4.ip_unprivileged_port_start", (char *)"7" },
                            { (char *)"kernel.shm_rmid_forced", (char *)"1" } };
    box->process.rlimits = (struct json_list){ .items = limits, .len = ARRAY_LEN(limits) };
    box->process.oom_score_adj = 321;
    box->section.sysctl = (struct kvs){ sysctls, ARRAY_LEN(sysctls) };
    EXPECT(box, 0, SH(box, "ulimit -n; ulimit -Hn; cat /proc/sys/net/ipv4/ip_unprivileged_port_start "
                           "/proc/sys/kernel/shm_rmid_forced /proc/self/oom_score_adj"));
    EXPECT_HAS(box, "100\n200\n7\n1\n321\n");
    box->process.oom_score_adj = -900; // more than we may: tolerated
    EXPECT(box, 0, RUN(box, "true"));
    static const char *const wrong[] = { "kernel.core_pattern", "kernel.panic", "../x", "net/../kernel/panic", "net.ipv4.x+y", "" };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        sysctls[0].key = (char *)wrong[i];
        assert_int_equal(RUN(box, "true"), -1);
        assert_int_equal(box->err.class, ERR_INVALID_ARGUMENT);
    }
    box_free(box);
}

static void test_no_descriptor_leaks(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    int strangers[5];
    for (int i = 0; i < 5; i++)
        strangers[i] = open("/", O_RDONLY | O_DIRECTORY); // not close-on-exec, as a careless caller's would be
    EXPECT(box, 0, SH(box, "ls -1 /proc/self/fd | wc -l; ls -l /proc/self/fd"));
    assert_true(str_starts(box->out, "4\n")); // 0 1 2 and the folder that ls reads
    for (int i = 0; i < 5; i++)
        close(strangers[i]);
    box_free(box);
}

static void test_tree(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    box_use_tree(box);
    EXPECT(box, 0, SH(box, "echo kept > /kept; cat /proc/self/mountinfo"));
    assert_int_equal(faccessat(box->dir_fd, "rootfs/kept", F_OK, 0), 0);
    box_free(box);
}

static void test_devices(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    struct oci_device devices[] = { { (char *)"/dev/sub/zero2", (char *)"c", 1, 5, 0600, 7, 8 },
                                    { (char *)"/opt/null2", (char *)"c", 1, 3, 0, 0, 0 } };
    box->section.devices = (struct json_list){ .items = devices, .len = 2 };
    EXPECT(box, 0, SH(box, "stat -c '%a %u %g %t %T' /dev/sub/zero2 /opt/null2"));
    EXPECT_HAS(box, "600 7 8 1 5\n666 0 0 1 3\n");
    box_free(box);
}

static void test_whole_machine(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    struct stat kmsg;
    box->section.whole_machine = true;
    box->section.masked_paths = box->section.readonly_paths = (struct strv){ 0 };
    EXPECT(box, 0, SH(box, "grep -E ' /sys sysfs rw,| /dev/(pts|shm|mqueue) ' /proc/mounts; test ! -e /dev/console || echo console; "
                           "stat -c '%t %T' /dev/null /dev/tty; stat -c 'kmsg %t %T' /dev/kmsg || true"));
    EXPECT_HAS(box, "/sys sysfs rw");
    EXPECT_HAS(box, "/dev/shm");
    EXPECT_HAS(box, "1 3\n5 0\n");
    EXPECT_LACKS(box, "console");
    if (stat("/dev/kmsg", &kmsg) == 0)
        EXPECT_HAS(box, "kmsg 1 b\n");
    box->section.whole_machine = false;
    EXPECT(box, 1, SH(box, "test -e /dev/kmsg || grep ' /sys sysfs rw' /proc/mounts"));
    box_free(box);
}

// docker run --pid container:X --ipc container:X --network container:X
static void test_foreign_namespaces(void **state)
{
    NEED_BOX();
    struct box *first = box_new(), *second = box_new();
    struct box_run run;
    first->process.args = WORDS(first, "sleep", "1000");
    assert_int_equal(box_create(first, &run), 0);
    assert_int_equal(sandbox_start(run.sandbox, &first->err), 0);
    static const char *const names[] = { "pid", "net", "mnt", "ipc", "uts", "cgroup" }; // as the fixture lists them
    static const bool joined[] = { true, true, false, true, true, false };
    struct oci_namespace *list = second->section.namespaces.items;
    for (int i = 0; i < 6; i++)
        if (joined[i])
            list[i].path = arena_printf(&second->arena, "/proc/%d/ns/%s", (int)sandbox_pid(run.sandbox), names[i]);
    second->spec.hostname = NULL;
    EXPECT(second, 0, SH(second, "hostname; head -c 5 /proc/1/cmdline; echo; for n in pid ipc uts net mnt; do "
                                 "test $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) && echo same $n; done; true"));
    assert_string_equal(second->out, "box\nsleep\nsame pid\nsame ipc\nsame uts\nsame net\n");
    second->spec.hostname = "other"; // whose it is must not be changed
    assert_int_equal(RUN(second, "true"), -1);
    list[2].path = list[0].path;
    assert_int_equal(RUN(second, "true"), -1);
    assert_int_equal(second->err.class, ERR_NOT_IMPLEMENTED);
    box_run_done(&run);
    box_free(second);
    box_free(first);
}

// The host's namespace, and nothing of its groups but the own.
static void test_hosts_cgroup_namespace(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    char own[64] = "";
    assert_true(readlink("/proc/self/ns/cgroup", own, sizeof(own) - 1) > 0);
    box->section.namespaces.len--; // "cgroup" is the last
    box_use_cgroup(box, &(struct cgroup_limits){ .pids_limit = 77 });
    EXPECT(box, 0, SH(box, "readlink /proc/self/ns/cgroup; grep :pids: /proc/self/cgroup"));
    EXPECT_HAS(box, own);
    if (box->layout.version != CGROUP_V2) {
        EXPECT_HAS(box, box->cgroup_path);
        EXPECT(box, 0, SH(box, "cat /sys/fs/cgroup/pids/pids.max; ! touch /sys/fs/cgroup/pids/x"));
        EXPECT_HAS(box, "77\n");
    }
    box_free(box);
}

static void test_waits_for_start(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    struct box_run run;
    box->process.args = WORDS(box, "sh", "-c", "echo ran");
    assert_int_equal(box_create(box, &run), 0);
    struct pollfd poller = { .fd = run.out, .events = POLLIN };
    assert_int_equal(poll(&poller, 1, 30), 0);
    EXPECT(box, 0, box_finish(box, &run));
    assert_string_equal(box->out, "ran\n");
    // Never started: gone with its handle.
    assert_int_equal(box_create(box, &run), 0);
    pid_t pid = sandbox_pid(run.sandbox);
    box_run_done(&run);
    assert_int_equal(kill(pid, 0), -1);
    box_free(box);
}

static void test_plan_prints(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    struct sandbox_plan *plan = NULL;
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    box->process.args = WORDS(box, "true");
    assert_int_equal(sandbox_plan_new(&box->spec, &plan, &box->err), 0);
    sandbox_plan_print(plan, to);
    fclose(to);
    assert_non_null(strstr(text, "\nenter rootfs\n"));
    assert_non_null(strstr(text, "\nmount /proc proc nosuid nodev noexec\n"));
    assert_non_null(strstr(text, "\nmake device /dev/null c 1:3 0666\n"));
    assert_non_null(strstr(text, "\nmake link /dev/fd -> /proc/self/fd\n"));
    assert_non_null(strstr(text, "\nmask path /proc/kcore\n"));
    // What is protected is protected after the last mount, and the filter comes before the identity.
    assert_true(strstr(text, "mask path") > strstr(text, "mount /sys"));
    assert_true(strstr(text, "take identity") > strstr(text, "load seccomp filter"));
    free(text);
    sandbox_plan_free(plan);
    box_free(box);
}

// Exactly those that are listed, in their order, however their own numbers lie.
static void test_further_descriptors(void **state)
{
    NEED_BOX();
    struct box *box = box_new();
    int pipes[3][2], keep[4];
    for (int i = 0; i < 3; i++) {
        fd_pipe(pipes[i], NULL);
        dprintf(pipes[i][1], "word %d\n", i);
        close(pipes[i][1]);
    }
    int low = fcntl(pipes[0][0], F_DUPFD_CLOEXEC, 3);
    keep[0] = pipes[2][0];
    keep[1] = pipes[1][0];
    keep[2] = low;
    keep[3] = pipes[2][0]; // a second time
    box->spec.keep_fds = keep;
    box->spec.keep_len = ARRAY_LEN(keep);
    // Only shells that keep no descriptor of their own open here: ls has one, that of the folder itself.
    EXPECT(box, 0, SH(box, "cat <&3; cat <&4; cat <&5; cat <&6; exec ls /proc/self/fd"));
    assert_string_equal(box->out, "word 2\nword 1\nword 0\n0\n1\n2\n3\n4\n5\n6\n7\n");
    keep[1] = 1;
    EXPECT(box, -1, RUN(box, "true"));
    keep[1] = 9999;
    EXPECT(box, -1, RUN(box, "true"));
    box->spec.keep_len = SANDBOX_KEEP_MAX + 1;
    EXPECT(box, -1, RUN(box, "true"));
    for (int i = 0; i < 3; i++)
        close(pipes[i][0]);
    close(low);
    box_free(box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exit_codes),          cmocka_unit_test(test_what_it_sees), cmocka_unit_test(test_the_hosts_mounts_stay),
        cmocka_unit_test(test_mounts),              cmocka_unit_test(test_masks),
        cmocka_unit_test(test_privileges),          cmocka_unit_test(test_all_capabilities),
        cmocka_unit_test(test_users),               cmocka_unit_test(test_numbers_as_they_are),
        cmocka_unit_test(test_exec_failures),       cmocka_unit_test(test_working_directory),
        cmocka_unit_test(test_terminal),            cmocka_unit_test(test_volumes),
        cmocka_unit_test(test_read_only_root),      cmocka_unit_test(test_rlimits_and_sysctls),
        cmocka_unit_test(test_further_descriptors), cmocka_unit_test(test_no_descriptor_leaks), cmocka_unit_test(test_tree),
        cmocka_unit_test(test_whole_machine),
        cmocka_unit_test(test_devices),             cmocka_unit_test(test_waits_for_start),
        cmocka_unit_test(test_tmpfs),               cmocka_unit_test(test_hosts_cgroup_namespace),
        cmocka_unit_test(test_plan_prints),         cmocka_unit_test(test_foreign_namespaces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
