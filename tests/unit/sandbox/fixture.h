// A container of a made-up rootfs (busybox) in a temporary folder, with Docker's defaults, for the tests of this folder.
#ifndef FIXTURE_H
#define FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/num.h"
#include "kernel/caps.h"
#include "sandbox/sandbox.h"

#define OUTPUT_MAX 65536
#define WORDS_MAX 64

struct box {
    struct arena arena;
    char dir[64];
    int dir_fd; // of the temporary folder; rootfs/ upper/ work/ are below
    int lower_fd;
    struct sandbox_spec spec;
    struct oci_process process;
    struct oci_capabilities caps;
    struct oci_linux section;
    struct cgroup_layout layout;
    char cgroup_path[64];
    char out[OUTPUT_MAX]; // what the last run wrote, both streams
    struct err err;
};

static char *box_busybox(void)
{
    static const char *const places[] = { "/bin/busybox", "/usr/bin/busybox", "/sbin/busybox" };
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        if (access(places[i], X_OK) == 0)
            return (char *)places[i];
    return NULL;
}

static inline bool box_possible(void)
{
    if (geteuid() == 0 && box_busybox())
        return true;
    print_message("skipped: needs root and a static busybox\n");
    return false;
}

#define NEED_BOX()          \
    do {                    \
        if (!box_possible()) \
            skip();         \
    } while (0)

static inline struct strv box_words(struct box *box, const char *const *words, size_t len)
{
    struct strv list = { .items = arena_alloc(&box->arena, (len + 1) * sizeof(char *)), .len = len };
    for (size_t i = 0; i < len; i++)
        list.items[i] = arena_strdup(&box->arena, words[i]);
    return list;
}

#define WORDS(box, ...) box_words((box), (const char *const[]){ __VA_ARGS__ }, ARRAY_LEN(((const char *const[]){ __VA_ARGS__ })))

static inline void box_write(struct box *box, const char *path, const char *text, mode_t mode)
{
    struct err err = { 0 };
    if (file_write_at(box->dir_fd, path, text, strlen(text), mode, false, &err) < 0)
        fail_msg("%s", err.message);
}

static inline void box_copy(struct box *box, const char *from, const char *path)
{
    int in = open(from, O_RDONLY | O_CLOEXEC), out = openat(box->dir_fd, path, O_CREAT | O_WRONLY | O_CLOEXEC, 0755);
    static char data[1 << 16];
    ssize_t size;
    while ((size = read(in, data, sizeof(data))) > 0)
        assert_int_equal(write(out, data, (size_t)size), size);
    close(in);
    close(out);
}

static inline void box_rootfs(struct box *box)
{
    static const char *const dirs[] = { "rootfs", "upper", "work", "rootfs/bin", "rootfs/etc", "rootfs/tmp", "rootfs/home" };
    static const char *const applets[] = { "sh", "true", "false", "cat", "echo", "ls", "id", "hostname", "mount", "env", "tty",
                                           "sleep", "kill", "grep", "head", "mkdir", "mknod", "pwd", "ps", "stty", "test",
                                           "touch", "umount", "unshare", "wc", "readlink", "dd", "ip", "stat", "chmod", "cut" };
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
        assert_int_equal(mkdirat(box->dir_fd, dirs[i], 0755), 0);
    box_copy(box, box_busybox(), "rootfs/bin/busybox");
    for (size_t i = 0; i < ARRAY_LEN(applets); i++) {
        char path[64];
        snprintf(path, sizeof(path), "rootfs/bin/%s", applets[i]);
        assert_int_equal(symlinkat("busybox", box->dir_fd, path), 0);
    }
    box_write(box, "rootfs/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nmina:x:1000:1001::/home/mina:/bin/sh\n", 0644);
    box_write(box, "rootfs/etc/group", "root:x:0:\nwheel:x:10:root,mina\nmina:x:1001:\nvideo:x:44:mina\n", 0644);
}

static inline void box_namespaces(struct box *box)
{
    static const char *const types[] = { "pid", "network", "mount", "ipc", "uts", "cgroup" };
    struct oci_namespace *list = arena_alloc(&box->arena, sizeof(*list) * ARRAY_LEN(types));
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        list[i].type = arena_strdup(&box->arena, types[i]);
    box->section.namespaces = (struct json_list){ .items = list, .len = ARRAY_LEN(types) };
}

static inline void box_caps(struct box *box, uint64_t mask)
{
    const char *names[64];
    size_t len = 0;
    for (int cap = 0; cap < 64; cap++)
        if ((mask >> cap & 1) && caps_name(cap))
            names[len++] = caps_name(cap);
    struct strv list = box_words(box, names, len);
    box->caps = (struct oci_capabilities){ .bounding = list, .effective = list, .permitted = list };
    box->process.capabilities = &box->caps;
}

static inline struct box *box_new(void)
{
    struct box *box = mem_new(struct box);
    snprintf(box->dir, sizeof(box->dir), "/tmp/berth-box-XXXXXX");
    assert_non_null(mkdtemp(box->dir));
    assert_int_equal(chmod(box->dir, 0755), 0);
    box->dir_fd = open(box->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    box_rootfs(box);
    box->lower_fd = openat(box->dir_fd, "rootfs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    box_namespaces(box);
    box_caps(box, caps_docker_default());
    box->section.seccomp_profile = arena_strdup(&box->arena, "default");
    box->section.masked_paths = WORDS(box, "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi",
                                      "/sys/firmware", "/sys/devices/virtual/powercap", "/proc/nosuch");
    box->section.readonly_paths = WORDS(box, "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger");
    box->process.env = WORDS(box, "PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C");
    box->process.user.umask = -1;
    box->process.cwd = arena_strdup(&box->arena, "/");
    box->spec = (struct sandbox_spec){ .process = &box->process,
                                       .linux_section = &box->section,
                                       .hostname = "box",
                                       .netns_fd = -1,
                                       .init_fd = -1,
                                       .rootfs = { .kind = SANDBOX_ROOTFS_LAYERS,
                                                   .lower_fds = &box->lower_fd,
                                                   .lower_len = 1,
                                                   .tree_fd = -1,
                                                   .ephemeral = true } };
    box->spec.rootfs.upper_fd = openat(box->dir_fd, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    box->spec.rootfs.work_fd = openat(box->dir_fd, "work", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return box;
}

// The writable folder itself as the root, without an overlay.
static inline void box_use_tree(struct box *box)
{
    box->spec.rootfs.kind = SANDBOX_ROOTFS_TREE;
    box->spec.rootfs.tree_fd = box->lower_fd;
}

// In the layout that is set already.
static inline void box_use_cgroup_in(struct box *box, const struct cgroup_limits *limits)
{
    char digits[9];
    random_hex(digits, 8);
    snprintf(box->cgroup_path, sizeof(box->cgroup_path), "berth-test-%s/box", digits);
    if (cgroup_create(&box->layout, box->cgroup_path, &box->spec.cgroup, &box->err) < 0)
        fail_msg("%s", box->err.message);
    if (limits && cgroup_limit(box->spec.cgroup, limits, NULL, &box->err) < 0)
        fail_msg("%s", box->err.message);
}

static inline void box_use_cgroup(struct box *box, const struct cgroup_limits *limits)
{
    cgroup_layout_probe(&box->layout);
    box_use_cgroup_in(box, limits);
}

static inline void box_free(struct box *box)
{
    struct err err = { 0 };
    if (box->spec.cgroup) {
        if (cgroup_kill(box->spec.cgroup, 2 * NS_PER_S, &err) < 0)
            fail_msg("%s", err.message);
        cgroup_free(box->spec.cgroup);
        *strchr(box->cgroup_path, '/') = '\0';
        if (cgroup_remove(&box->layout, box->cgroup_path, 2 * NS_PER_S, &err) < 0)
            fail_msg("%s", err.message);
    }
    // An ephemeral overlay leaves its mark, which forbids a second mount of the same upper.
    close(box->lower_fd);
    close(box->spec.rootfs.upper_fd);
    close(box->spec.rootfs.work_fd);
    close(box->dir_fd);
    if (file_remove_tree(AT_FDCWD, box->dir, &err) < 0)
        fail_msg("%s", err.message);
    arena_done(&box->arena);
    free(box);
}

// A fresh upper for the next run.
static inline void box_refresh(struct box *box)
{
    file_remove_tree(box->dir_fd, "work/incompat", NULL);
    file_remove_tree(box->dir_fd, "work/work", NULL);
}

struct box_run {
    struct sandbox *sandbox;
    int out; // read end
    int in; // write end
    int master;
};

static inline void box_collect(struct box *box, int fd)
{
    size_t used = 0;
    ssize_t size;
    while (used + 1 < OUTPUT_MAX && (size = read(fd, box->out + used, OUTPUT_MAX - 1 - used)) > 0)
        used += (size_t)size;
    box->out[used] = '\0';
}

static inline int box_create(struct box *box, struct box_run *run)
{
    int in[2], out[2];
    struct sandbox_plan *plan = NULL;
    *run = (struct box_run){ .out = -1, .in = -1, .master = -1 };
    box->err = (struct err){ 0 };
    box_refresh(box);
    if (sandbox_plan_new(&box->spec, &plan, &box->err) < 0)
        return -1;
    fd_pipe(in, NULL);
    fd_pipe(out, NULL);
    struct sandbox_stdio stdio = { .terminal = box->process.terminal, .in = in[0], .out = out[1], .error = out[1] };
    int result = sandbox_create(plan, &stdio, &run->sandbox, &run->master, &box->err);
    sandbox_plan_free(plan);
    close(in[0]);
    close(out[1]);
    run->in = in[1];
    run->out = out[0];
    return result;
}

static inline void box_run_done(struct box_run *run)
{
    sandbox_free(run->sandbox);
    fd_close(run->in);
    fd_close(run->out);
    fd_close(run->master);
}

// Create, start, wait, with the output in box->out; the exit code, or -1 with box->err.
static inline int box_finish(struct box *box, struct box_run *run)
{
    int code = -1;
    if (sandbox_start(run->sandbox, &box->err) == 0) {
        fd_close(take_fd(&run->in));
        box_collect(box, run->master >= 0 ? run->master : run->out);
        if (sandbox_wait(run->sandbox, &code, &box->err) < 0)
            code = -1;
    }
    box_run_done(run);
    return code;
}

static inline int box_run_words(struct box *box, const char *const *words, size_t len)
{
    struct box_run run;
    box->process.args = box_words(box, words, len);
    box->out[0] = '\0';
    if (box_create(box, &run) < 0) {
        box_run_done(&run);
        return -1;
    }
    return box_finish(box, &run);
}

#define RUN(box, ...) \
    box_run_words((box), (const char *const[]){ __VA_ARGS__ }, ARRAY_LEN(((const char *const[]){ __VA_ARGS__ })))
#define SH(box, script) RUN((box), "sh", "-c", (script))

static inline void box_expect(struct box *box, int got, int want)
{
    if (got != want)
        fail_msg("exit %d instead of %d: %s | %s", got, want, box->err.message, box->out);
}

#define EXPECT(box, want, run) box_expect((box), (run), (want))
#define EXPECT_HAS(box, text)                                                        \
    do {                                                                             \
        if (!strstr((box)->out, (text)))                                             \
            fail_msg("\"%s\" is not in the output: %s", (text), (box)->out);         \
    } while (0)
#define EXPECT_LACKS(box, text)                                                      \
    do {                                                                             \
        if (strstr((box)->out, (text)))                                              \
            fail_msg("\"%s\" is in the output: %s", (text), (box)->out);             \
    } while (0)

static inline char *host_file(const char *path)
{
    struct buf text = BUF_INIT(1 << 22);
    if (file_read_at(AT_FDCWD, path, &text, NULL) < 0)
        return mem_strdup("");
    char *copy = mem_strdup(buf_text(&text));
    buf_done(&text);
    return copy;
}

#endif
