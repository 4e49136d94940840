// One microVM, by hand:
//
//     berth-vmm --kernel vmlinuz --initrd initrd.img --cmdline "console=ttyS0" --cpus 2 --memory 512M
//               --disk root.img --disk layers.img,ro --net tap0
//     berth-vmm --probe
//
// The guest's serial port is the terminal (--serial stdio), nothing (none) or the end of a file. SIGTERM presses the power
// button, a second one and SIGQUIT (Ctrl-\ on the terminal) end the machine. Exit code 0 when the guest powered off or reset,
// 1 when it crashed, could not start or was ended, 2 for wrong usage.
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>

#include "base/fd.h"
#include "base/num.h"
#include "vmm/vmm.h"

#define DISKS_MAX 8
#define NETS_MAX 4

struct options {
    const char *kernel, *initrd, *cmdline, *serial;
    const char *disks[DISKS_MAX], *nets[NETS_MAX];
    size_t disks_len, nets_len;
    unsigned cpus;
    uint64_t memory_size;
    bool probe;
};

// ---- words ---------------------------------------------------------------------------------------------------------

static int usage(void)
{
    fputs("usage: berth-vmm --kernel FILE [--initrd FILE] [--cmdline TEXT] [--cpus N] [--memory SIZE]\n"
          "                 [--serial stdio|none|FILE] [--disk FILE[,ro]]... [--net TAP]...\n"
          "       berth-vmm --probe\n", stderr);
    return -1;
}

// "512M": a number with an optional K, M or G; bytes without.
static bool parse_size(const char *text, uint64_t *out)
{
    static const char units[] = "KMG";
    struct slice digits = slice_of(text);
    unsigned shift = 0;
    const char *unit = digits.size ? strchr(units, text[digits.size - 1]) : NULL;
    if (unit && *unit) {
        shift = 10 * (unsigned)(unit - units + 1);
        digits.size--;
    }
    if (!num_parse_u64(digits, UINT64_MAX >> shift, out))
        return false;
    *out <<= shift;
    return true;
}

static int parse_option(int option, struct options *out)
{
    uint64_t number;
    switch (option) {
    case 'k': out->kernel = optarg; return 0;
    case 'i': out->initrd = optarg; return 0;
    case 'a': out->cmdline = optarg; return 0;
    case 's': out->serial = optarg; return 0;
    case 'p': out->probe = true; return 0;
    case 'c':
        if (!num_parse_u64(slice_of(optarg), MACHINE_CPUS_MAX, &number))
            return usage();
        out->cpus = (unsigned)number;
        return 0;
    case 'm': return parse_size(optarg, &out->memory_size) ? 0 : usage();
    case 'd':
        if (out->disks_len == DISKS_MAX)
            return usage();
        out->disks[out->disks_len++] = optarg;
        return 0;
    case 'n':
        if (out->nets_len == NETS_MAX)
            return usage();
        out->nets[out->nets_len++] = optarg;
        return 0;
    default: return usage();
    }
}

static int parse(int argc, char **argv, struct options *out)
{
    static const struct option words[] = {
        { "kernel", required_argument, NULL, 'k' }, { "initrd", required_argument, NULL, 'i' },
        { "cmdline", required_argument, NULL, 'a' }, { "cpus", required_argument, NULL, 'c' },
        { "memory", required_argument, NULL, 'm' }, { "serial", required_argument, NULL, 's' },
        { "disk", required_argument, NULL, 'd' },   { "net", required_argument, NULL, 'n' },
        { "probe", no_argument, NULL, 'p' },        { NULL, 0, NULL, 0 },
    };
    *out = (struct options){ .cmdline = "console=ttyS0", .serial = "stdio", .cpus = 1, .memory_size = UINT64_C(256) << 20 };
    int option;
    while ((option = getopt_long(argc, argv, "", words, NULL)) != -1)
        if (parse_option(option, out) < 0)
            return -1;
    return optind == argc && (out->kernel || out->probe) ? 0 : usage();
}

// ---- what the machine is made of -----------------------------------------------------------------------------------

static int open_file(const char *path, int flags, struct err *err)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);
    return fd < 0 ? err_errno(err, errno, "%s", path) : fd;
}

static int add_disk(struct machine *machine, const char *text, struct err *err)
{
    const char *comma = strrchr(text, ',');
    bool read_only = comma && str_eq(comma, ",ro");
    _cleanup_free_ char *path = mem_strndup(text, read_only ? (size_t)(comma - text) : strlen(text));
    _cleanup_close_ int fd = open_file(path, read_only ? O_RDONLY : O_RDWR, err);
    struct virtio_device *device;
    if (fd < 0 || virtio_blk_new(machine_memory(machine), fd, read_only, "", &device, err) < 0)
        return -1;
    take_fd(&fd);
    if (machine_add_virtio(machine, device, err) == 0)
        return 0;
    virtio_free(device);
    return -1;
}

static int open_tap(const char *name, struct err *err)
{
    struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
    if (strlen(name) >= IFNAMSIZ)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s: no name of an interface", name);
    memcpy(request.ifr_name, name, strlen(name) + 1);
    _cleanup_close_ int fd = open_file("/dev/net/tun", O_RDWR, err);
    if (fd < 0)
        return -1;
    if (ioctl(fd, TUNSETIFF, &request) < 0)
        return err_errno(err, errno, "tap %s", name);
    return take_fd(&fd);
}

static int add_net(struct machine *machine, const char *name, struct err *err)
{
    uint8_t mac[6];
    struct virtio_device *device;
    _cleanup_close_ int fd = open_tap(name, err);
    random_bytes(mac, sizeof(mac));
    mac[0] = (mac[0] & 0xfe) | 0x02; // one station, locally administered
    if (fd < 0 || virtio_net_new(machine_memory(machine), fd, mac, 0, &device, err) < 0)
        return -1;
    take_fd(&fd);
    if (machine_add_virtio(machine, device, err) == 0)
        return 0;
    virtio_free(device);
    return -1;
}

static int add_random(struct machine *machine, struct err *err)
{
    struct virtio_device *device;
    if (virtio_rng_new(machine_memory(machine), &device, err) < 0)
        return -1;
    if (machine_add_virtio(machine, device, err) == 0)
        return 0;
    virtio_free(device);
    return -1;
}

static int add_devices(struct machine *machine, const struct options *options, struct err *err)
{
    for (size_t i = 0; i < options->disks_len; i++)
        if (add_disk(machine, options->disks[i], err) < 0)
            return -1;
    for (size_t i = 0; i < options->nets_len; i++)
        if (add_net(machine, options->nets[i], err) < 0)
            return -1;
    return add_random(machine, err);
}

static int boot(struct machine *machine, const struct options *options, struct err *err)
{
    _cleanup_close_ int kernel = open_file(options->kernel, O_RDONLY, err), initrd = -1;
    if (kernel < 0 || (options->initrd && (initrd = open_file(options->initrd, O_RDONLY, err)) < 0))
        return -1;
    return machine_boot(machine, &(struct machine_kernel){ kernel, initrd, options->cmdline, MACHINE_BOOT_ANY }, err);
}

// ---- terminal and signals ------------------------------------------------------------------------------------------

struct terminal {
    bool changed;
    struct termios before;
};

// Keys go to the guest one by one, Ctrl-C and Ctrl-Z too; Ctrl-\ stays ours.
static void terminal_take(struct terminal *terminal)
{
    struct termios raw;
    if (tcgetattr(STDIN_FILENO, &terminal->before) < 0)
        return;
    raw = terminal->before;
    raw.c_iflag &= ~(tcflag_t)(ICRNL | INLCR | IXON);
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN);
    raw.c_cc[VINTR] = raw.c_cc[VSUSP] = _POSIX_VDISABLE;
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    terminal->changed = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

static void terminal_done(struct terminal *terminal)
{
    if (terminal->changed)
        tcsetattr(STDIN_FILENO, TCSANOW, &terminal->before);
}

// Before any thread: all inherit the mask.
static int take_signals(struct err *err)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < 4; i++)
        sigaddset(&set, (int[]){ SIGTERM, SIGINT, SIGQUIT, SIGHUP }[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? err_errno(err, errno, "signalfd") : fd;
}

static void wait_for_end(struct machine *machine, int signals, struct machine_end *end)
{
    struct pollfd waits[] = { { .fd = signals, .events = POLLIN }, { .fd = machine_end_fd(machine), .events = POLLIN } };
    struct signalfd_siginfo signal_info;
    bool pressed = false;
    while (!waits[1].revents) {
        if (poll(waits, ARRAY_LEN(waits), -1) < 0 || read(signals, &signal_info, sizeof(signal_info)) != sizeof(signal_info))
            continue;
        if (signal_info.ssi_signo == SIGTERM && !pressed)
            machine_press_power(machine);
        else
            machine_stop(machine);
        pressed = true;
    }
    machine_wait(machine, -1, end);
}

// ---- stages --------------------------------------------------------------------------------------------------------

static int probe(void)
{
    struct vmm_probe found;
    vmm_probe(-1, &found);
    printf("machines: %s\n", found.usable ? "yes" : "no");
    if (found.usable)
        printf("privileged guest code: %.1f million instructions a second\n", found.privileged_mips);
    printf("ordinary kernels: %s\n", found.runs_kernels ? "yes" : "no");
    if (found.why[0])
        printf("because: %s\n", found.why);
    return found.usable ? 0 : 1;
}

static int open_serial(const char *serial, struct machine_config *config, struct err *err)
{
    if (str_eq(serial, "stdio")) {
        config->serial_in_fd = STDIN_FILENO;
        config->serial_out_fd = STDOUT_FILENO;
    } else if (!str_eq(serial, "none")) {
        config->serial_out_fd = open_file(serial, O_WRONLY | O_CREAT | O_APPEND, err);
        return config->serial_out_fd < 0 ? -1 : 0;
    }
    return 0;
}

static int run(const struct options *options, struct machine_end *end, struct err *err)
{
    struct machine_config config = MACHINE_CONFIG_INIT;
    struct machine *machine = NULL;
    _cleanup_(terminal_done) struct terminal terminal = { 0 };
    _cleanup_close_ int signals = take_signals(err);
    config.cpus = options->cpus;
    config.memory_size = options->memory_size;
    if (signals < 0 || open_serial(options->serial, &config, err) < 0 || machine_new(&config, &machine, err) < 0)
        return -1;
    int result = -1;
    if (add_devices(machine, options, err) == 0 && boot(machine, options, err) == 0) {
        if (config.serial_in_fd == STDIN_FILENO)
            terminal_take(&terminal);
        result = machine_start(machine, err);
        if (result == 0)
            wait_for_end(machine, signals, end);
    }
    machine_free(machine);
    return result;
}

int main(int argc, char **argv)
{
    struct options options;
    struct machine_end end = { 0 };
    struct err err = { 0 };
    if (parse(argc, argv, &options) < 0)
        return 2;
    if (options.probe)
        return probe();
    if (run(&options, &end, &err) < 0) {
        fprintf(stderr, "berth-vmm: %s\n", err.message);
        return 1;
    }
    if (end.kind == MACHINE_POWERED_OFF || end.kind == MACHINE_RESET)
        return 0;
    fprintf(stderr, "berth-vmm: the machine %s%s%s\n", machine_end_name(end.kind), end.why[0] ? ": " : "", end.why);
    return 1;
}
