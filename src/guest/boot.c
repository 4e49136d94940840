// From the kernel's hand to a machine that can be served.
//
// The initramfs can't be left by pivot_root, which each container's child does later: so its place is taken by a tmpfs
// with nothing but mount points, and what was read from it is deleted, because it is memory. The descriptors of PID 1
// are the only way back.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include "base/file.h"
#include "guest_private.h"
#include "kernel/abi.h"
#include "kernel/mount.h"

#define RUN_DIR "/run/berth"
#define ORDER_MAX (64u << 10)
#define FILES_LIMIT 1048576 // open files of a process, as Docker's daemon grants

struct guest_boot {
    struct guest_machine machine;
    struct storage storage;
    enum guest_transport transport;
    struct utsname names;
    int initramfs_fd, events_fd;
    int port_fd; // the serial port, until the link has it
};

// ---- file systems --------------------------------------------------------------------------------------------------

static const struct mount_option root_options[] = { { .key = "mode", .value = "755" },
                                                    { .key = "size", .value = "1m" } };
static const struct mount_option run_options[] = { { .key = "mode", .value = "700" } };

static const struct {
    const char *path, *fstype;
    uint64_t attrs;
    const struct mount_option *options;
    size_t option_len;
} file_systems[] = {
    { "/dev", "devtmpfs", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, NULL, 0 },
    { "/proc", "proc", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV, NULL, 0 },
    { "/run", "tmpfs", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, run_options, ARRAY_LEN(run_options) },
    { "/sys", "sysfs", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV, NULL, 0 },
    { "/sys/fs/cgroup", "cgroup2", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV, NULL, 0 },
};

static int enter_new_root(struct err *err)
{
    _cleanup_close_ int root =
        mount_new("tmpfs", root_options, ARRAY_LEN(root_options), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err);
    _cleanup_close_ int old = root < 0 ? -1 : file_open_dir(AT_FDCWD, "/", err);
    if (old < 0 || mount_attach(root, old, err) < 0)
        return err_wrap(err, "root");
    if (fchdir(root) < 0 || chroot(".") < 0)
        return err_errno(err, errno, "enter the root");
    return 0;
}

static int mount_file_systems(struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(file_systems); i++) {
        const char *path = file_systems[i].path;
        if (!strchr(path + 1, '/') && mkdir(path, 0755) < 0)
            return err_errno(err, errno, "make %s", path);
        _cleanup_close_ int target = file_open_dir(AT_FDCWD, path, err);
        _cleanup_close_ int made = target < 0 ? -1
                                              : mount_new(file_systems[i].fstype, file_systems[i].options,
                                                          file_systems[i].option_len, file_systems[i].attrs, err);
        if (made < 0 || mount_attach(made, target, err) < 0)
            return err_wrap(err, "%s", path);
    }
    return 0;
}

// ---- modules -------------------------------------------------------------------------------------------------------

static int load_module(int modules_fd, const char *name, struct err *err)
{
    _cleanup_close_ int fd = openat(modules_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "module %s", name);
    if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST)
        return err_errno(err, errno, "load module %s", name);
    return 0;
}

static int load_modules(int initramfs_fd, struct err *err)
{
    _cleanup_buf_ struct buf order = BUF_INIT(ORDER_MAX);
    _cleanup_close_ int modules_fd = file_open_dir(initramfs_fd, "modules", err);
    if (modules_fd < 0 || file_read_at(modules_fd, "order", &order, err) < 0)
        return -1;
    struct slice rest = slice_of(buf_text(&order)), line;
    while (slice_cut(&rest, '\n', &line)) {
        _cleanup_free_ char *name = mem_strndup(line.data, line.size);
        if (*name && load_module(modules_fd, name, err) < 0)
            return -1;
    }
    return 0;
}

// ---- the machine's functions ---------------------------------------------------------------------------------------

static int connect_to_host(void *context, struct err *err)
{
    struct guest_boot *boot = context;
    return machine_connect(boot->transport, boot->events_fd, &boot->port_fd, err);
}

static int open_rootfs(void *context, const struct task_rootfs *rootfs, struct err *err)
{
    return storage_open(&((struct guest_boot *)context)->storage, rootfs, err);
}

static int open_parts(void *context, int *upper_fd, int *lower_fd, struct err *err)
{
    return storage_open_parts(&((struct guest_boot *)context)->storage, upper_fd, lower_fd, err);
}

static int close_rootfs(void *context, struct err *err)
{
    return storage_close(&((struct guest_boot *)context)->storage, err);
}

static int set_network(void *context, const struct json_list *nics, struct err *err)
{
    return network_set(((struct guest_boot *)context)->events_fd, nics, err);
}

static void power_off(void *context)
{
    sync();
    reboot(RB_POWER_OFF);
    reboot(RB_AUTOBOOT); // a machine that can't be switched off can at least be reset
}

// ---- the whole -----------------------------------------------------------------------------------------------------

static int read_cmdline(struct guest_boot *boot, struct err *err)
{
    _cleanup_buf_ struct buf cmdline = BUF_INIT(ORDER_MAX);
    if (file_read_at(AT_FDCWD, "/proc/cmdline", &cmdline, err) < 0)
        return -1;
    return cmdline_transport(buf_text(&cmdline), &boot->transport, err);
}

// The processes of the container inherit these.
static void raise_limits(void)
{
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){ FILES_LIMIT, FILES_LIMIT });
    setrlimit(RLIMIT_NPROC, &(struct rlimit){ RLIM_INFINITY, RLIM_INFINITY });
    setrlimit(RLIMIT_CORE, &(struct rlimit){ RLIM_INFINITY, RLIM_INFINITY });
}

// What stays of the initramfs is in use by descriptor only.
static int leave_initramfs(struct guest_boot *boot, struct err *err)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d/berth-init", boot->initramfs_fd);
    boot->machine.init_fd = access(path, X_OK) == 0 ? fd_sealed_copy(path, err) : -1;
    unlinkat(boot->initramfs_fd, "berth-init", 0);
    unlinkat(boot->initramfs_fd, "init", 0);
    int removed = file_remove_tree(boot->initramfs_fd, "modules", err);
    fd_close(take_fd(&boot->initramfs_fd));
    return removed;
}

static int open_folders(struct guest_boot *boot, struct err *err)
{
    if (file_mkdirs(AT_FDCWD, RUN_DIR "/container", 0700, err) < 0)
        return -1;
    boot->storage.dir_fd = file_open_dir(AT_FDCWD, RUN_DIR, err);
    boot->machine.files_fd = boot->storage.dir_fd < 0 ? -1 : file_open_dir(AT_FDCWD, RUN_DIR "/container", err);
    boot->machine.netns_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (boot->machine.netns_fd < 0)
        return err_errno(err, errno, "network namespace");
    return boot->machine.files_fd < 0 ? -1 : 0;
}

int guest_boot(struct guest_boot **out, struct err *err)
{
    struct guest_boot *boot = mem_new(struct guest_boot);
    *boot = (struct guest_boot){ .port_fd = -1 };
    boot->machine = (struct guest_machine){ .context = boot,
                                            .connect = connect_to_host,
                                            .open_rootfs = open_rootfs,
                                            .open_parts = open_parts,
                                            .close_rootfs = close_rootfs,
                                            .set_network = set_network,
                                            .power_off = power_off,
                                            .cgroup_path = "container",
                                            .kernel = boot->names.release };
    uname(&boot->names);
    raise_limits();
    boot->initramfs_fd = file_open_dir(AT_FDCWD, "/", err);
    if (boot->initramfs_fd < 0 || enter_new_root(err) < 0 || mount_file_systems(err) < 0 || read_cmdline(boot, err) < 0)
        return -1;
    boot->events_fd = boot->storage.events_fd = device_events(err);
    if (boot->events_fd < 0 || load_modules(boot->initramfs_fd, err) < 0)
        return -1;
    if (open_folders(boot, err) < 0 || leave_initramfs(boot, err) < 0)
        return -1;
    *out = boot;
    return 0;
}

const struct guest_machine *guest_boot_machine(struct guest_boot *boot)
{
    return &boot->machine;
}

// Before /dev is mounted the kernel's own console is what we were started with.
static int open_console(void)
{
    static const char *const consoles[] = { "/dev/console", "/dev/ttyS0" };
    for (size_t i = 0; i < ARRAY_LEN(consoles); i++) {
        int fd = open(consoles[i], O_WRONLY | O_NOCTTY | O_CLOEXEC);
        if (fd >= 0)
            return fd;
    }
    return STDERR_FILENO;
}

_Noreturn void guest_die(const struct err *error)
{
    char line[ERR_MESSAGE_SIZE + 32];
    int size = snprintf(line, sizeof(line), "berth-guest: %s\n", error->message);
    fd_write_full(open_console(), line, (size_t)size, NULL);
    power_off(NULL);
    for (;;)
        pause();
}
