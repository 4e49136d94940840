// What the kernel charges for one container: the system calls that a runtime can't do without, in one static process that reads
// no configuration, keeps no state and checks nothing. The yardstick of bench/oci, not a runtime.
//
// Usage: oci_floor ROOTFS NAME: namespaces, one cgroup NAME per v1 hierarchy and on cgroup2, the mounts, devices, masks and
// read-only paths of a default configuration, then /bin/true in it, and everything is taken away again.
//
// oci_floor NETNS UPPER WORK ROOTFS NAME, for bench/shim: ROOTFS is the lower folder of an overlay and the network namespace is
// a given one. It waits for a byte of standard input with its cgroups made, prints the pid once /bin/hold executes, and waits for
// another byte before it takes all away.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const hierarchies[] = { "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "unified" };
static const char *const masked[] = { "/proc/acpi",  "/proc/asound",     "/proc/kcore",       "/proc/keys",       "/proc/latency_stats",
                                      "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi" };
static const char *const read_only[] = { "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger" };
static const struct {
    const char *path;
    unsigned major, minor;
} devices[] = { { "/dev/null", 1, 3 }, { "/dev/zero", 1, 5 },   { "/dev/full", 1, 7 },
                { "/dev/random", 1, 8 }, { "/dev/urandom", 1, 9 }, { "/dev/tty", 5, 0 } };

static int group_fds[sizeof(hierarchies) / sizeof(hierarchies[0])], unified_fd = -1;

static void need(int result, const char *what)
{
    if (result >= 0)
        return;
    fprintf(stderr, "oci_floor: %s: %s\n", what, strerror(errno));
    _exit(125);
}

static void group_path(char *out, size_t size, size_t i, const char *name, const char *file)
{
    snprintf(out, size, "/sys/fs/cgroup/%s/%s%s", hierarchies[i], name, file);
}

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    need(fd, path);
    need((int)write(fd, text, strlen(text)), path);
    close(fd);
}

static void make_groups(const char *name)
{
    char path[256];
    for (size_t i = 0; i < sizeof(group_fds) / sizeof(group_fds[0]); i++) {
        group_fds[i] = -1;
        group_path(path, sizeof(path), i, "", "cgroup.procs");
        if (access(path, F_OK) < 0)
            continue; // no such hierarchy here
        group_path(path, sizeof(path), i, name, "");
        need(mkdir(path, 0755), path);
        if (strcmp(hierarchies[i], "cpuset") == 0) {
            group_path(path, sizeof(path), i, name, "/cpuset.cpus");
            put(path, "0");
            group_path(path, sizeof(path), i, name, "/cpuset.mems");
            put(path, "0");
        }
        bool v2 = strcmp(hierarchies[i], "unified") == 0;
        group_path(path, sizeof(path), i, name, v2 ? "" : "/tasks");
        need(group_fds[i] = open(path, (v2 ? O_PATH : O_WRONLY) | O_CLOEXEC), path);
        unified_fd = v2 ? group_fds[i] : unified_fd;
    }
}

static void remove_groups(const char *name)
{
    char path[256];
    for (size_t i = 0; i < sizeof(group_fds) / sizeof(group_fds[0]); i++) {
        group_path(path, sizeof(path), i, name, "");
        if (group_fds[i] >= 0)
            need(rmdir(path), path);
    }
}

static void mount_at(const char *type, const char *path, const char *key, const char *value, uint64_t attrs)
{
    int context = fsopen(type, FSOPEN_CLOEXEC);
    need(context, type);
    if (key)
        need(fsconfig(context, FSCONFIG_SET_STRING, key, value, 0), type);
    need(fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0), type);
    int fd = fsmount(context, FSMOUNT_CLOEXEC, (unsigned)attrs);
    need(fd, type);
    need(move_mount(fd, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH), path);
    close(fd);
    close(context);
}

// A detached one, seen by nobody.
static int mount_overlay(const char *lower, const char *upper, const char *work)
{
    int context = fsopen("overlay", FSOPEN_CLOEXEC);
    need(context, "overlay");
    need(fsconfig(context, FSCONFIG_SET_STRING, "lowerdir", lower, 0), lower);
    need(fsconfig(context, FSCONFIG_SET_STRING, "upperdir", upper, 0), upper);
    need(fsconfig(context, FSCONFIG_SET_STRING, "workdir", work, 0), work);
    need(fsconfig(context, FSCONFIG_SET_FLAG, "volatile", NULL, 0), "volatile");
    need(fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0), "overlay");
    int fd = fsmount(context, FSMOUNT_CLOEXEC, 0);
    need(fd, "overlay");
    close(context);
    return fd;
}

// `tree`: what mount_overlay() made, or -1 for a bind of the folder.
static void enter_root(const char *rootfs, int tree)
{
    need(mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &(struct mount_attr){ .propagation = MS_SLAVE }, sizeof(struct mount_attr)), "slave");
    const char *place = tree < 0 ? rootfs : "/";
    if (tree < 0)
        tree = open_tree(AT_FDCWD, rootfs, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    need(tree, rootfs);
    need(move_mount(tree, "", AT_FDCWD, place, MOVE_MOUNT_F_EMPTY_PATH), place);
    need(fchdir(tree), rootfs);
    need((int)syscall(SYS_pivot_root, ".", "."), "pivot_root");
    need(umount2(".", MNT_DETACH), "umount");
    need(chdir("/"), "/");
}

static void mount_all(void)
{
    const uint64_t plain = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV;
    mount_at("proc", "/proc", NULL, NULL, 0);
    mount_at("tmpfs", "/dev", "mode", "755", MOUNT_ATTR_NOSUID);
    mkdir("/dev/pts", 0755);
    mkdir("/dev/shm", 0755);
    mkdir("/dev/mqueue", 0755);
    mount_at("devpts", "/dev/pts", "ptmxmode", "0666", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    mount_at("tmpfs", "/dev/shm", "mode", "1777", plain);
    mount_at("mqueue", "/dev/mqueue", NULL, NULL, plain);
    mount_at("sysfs", "/sys", NULL, NULL, plain | MOUNT_ATTR_RDONLY);
    for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
        need(mknod(devices[i].path, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)), devices[i].path);
}

static void bind(const char *from, const char *to, uint64_t attrs)
{
    int tree = open_tree(AT_FDCWD, from, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree < 0)
        return; // not on this kernel
    struct mount_attr attr = { .attr_set = attrs };
    if (attrs)
        need(mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)), from);
    move_mount(tree, "", AT_FDCWD, to, MOVE_MOUNT_F_EMPTY_PATH);
    close(tree);
}

static void hide(void)
{
    for (size_t i = 0; i < sizeof(masked) / sizeof(masked[0]); i++) {
        struct stat info;
        if (stat(masked[i], &info) < 0)
            continue;
        if (S_ISDIR(info.st_mode))
            mount_at("tmpfs", masked[i], NULL, NULL, MOUNT_ATTR_RDONLY);
        else
            bind("/dev/null", masked[i], 0);
    }
    for (size_t i = 0; i < sizeof(read_only) / sizeof(read_only[0]); i++)
        bind(read_only[i], read_only[i], MOUNT_ATTR_RDONLY);
}

static void child(const char *rootfs, int tree, int netns, const char *program)
{
    char *const argv[] = { (char *)program, NULL }, *const envp[] = { NULL };
    for (size_t i = 0; i < sizeof(group_fds) / sizeof(group_fds[0]); i++)
        if (group_fds[i] >= 0 && group_fds[i] != unified_fd)
            need((int)write(group_fds[i], "0", 1), hierarchies[i]);
    need(unshare(CLONE_NEWCGROUP), "cgroup namespace");
    if (netns >= 0)
        need(setns(netns, CLONE_NEWNET), "network namespace");
    enter_root(rootfs, tree);
    mount_all();
    hide();
    execve(program, argv, envp);
    need(-1, program);
}

static pid_t launch(const char *rootfs, int tree, int netns, const char *program)
{
    struct clone_args args = { .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | (netns < 0 ? CLONE_NEWNET : 0),
                               .exit_signal = SIGCHLD };
    if (unified_fd >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)unified_fd;
    }
    long pid = syscall(SYS_clone3, &args, sizeof(args));
    need((int)pid, "clone3");
    if (pid == 0)
        child(rootfs, tree, netns, program);
    return (pid_t)pid;
}

static void wait_for_byte(void)
{
    char byte;
    need(read(STDIN_FILENO, &byte, 1) == 1 ? 0 : -1, "standard input");
}

// The exec closes the pipe's last end for writing.
static pid_t launch_between_bytes(char *const *args)
{
    int executes[2];
    char byte;
    printf("ready\n");
    fflush(stdout);
    wait_for_byte();
    int netns = open(args[0], O_RDONLY | O_CLOEXEC);
    need(netns, args[0]);
    need(pipe2(executes, O_CLOEXEC), "pipe");
    pid_t pid = launch(args[3], mount_overlay(args[3], args[1], args[2]), netns, "/bin/hold");
    close(executes[1]);
    need((int)read(executes[0], &byte, 1), "pipe");
    printf("%d\n", (int)pid);
    fflush(stdout);
    wait_for_byte();
    kill(pid, SIGKILL);
    return pid;
}

int main(int argc, char *argv[])
{
    int status;
    if (argc != 3 && argc != 6)
        return 2;
    make_groups(argv[argc - 1]);
    pid_t pid = argc == 6 ? launch_between_bytes(argv + 1) : launch(argv[1], -1, -1, "/bin/true");
    need(waitpid(pid, &status, 0), "wait");
    remove_groups(argv[argc - 1]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : argc == 6 ? 0 : 125;
}
