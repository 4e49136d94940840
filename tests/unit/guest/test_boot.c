// The whole guest: build/guest (make guest) under QEMU's emulation, with an upper's disk, a card, and the link over a
// unix socket. Two boots, the second on the disk of the first: one with the layers on a flat VMDK, one with them as
// persistent memory.
#include "host.h"

#include <arpa/inet.h>
#include <libgen.h>
#include <limits.h>

#include "base/process.h"
#include "kernel/layers_disk.h"

#define WAIT_NS (120 * NS_PER_S)
#define LAYERS 20
#define BOTTOM "19"
#define MAC "02:42:0a:00:02:0f"

#define TOOL(...) run_tool((char *const[]){ __VA_ARGS__, NULL })

struct box {
    char dir[64], guest_dir[PATH_MAX];
    int dir_fd;
    struct process qemu;
    struct host host;
    int64_t began_ns;
};

static void run_tool(char *const argv[])
{
    struct err err;
    struct buf output = BUF_INIT(1 << 20);
    if (process_run(argv, NULL, &output, &err) < 0)
        fail_msg("%s: %s %s", argv[0], err.message, buf_text(&output));
    buf_done(&output);
}

// Beside the test programs' folder: build/obj/tests/x, build/guest.
static bool find_guest(char out[PATH_MAX])
{
    char self[PATH_MAX] = "", path[PATH_MAX + 16];
    if (readlink("/proc/self/exe", self, sizeof(self) - 1) <= 0)
        return false;
    snprintf(out, PATH_MAX, "%s/guest", dirname(dirname(dirname(self))));
    snprintf(path, sizeof(path), "%s/initramfs", out);
    return access(path, R_OK) == 0;
}

static bool has_tool(const char *name)
{
    struct err err;
    return process_run((char *const[]){ (char *)name, (char *)"--version", NULL }, NULL, NULL, &err) == 0 ||
           err.class != ERR_NOT_FOUND;
}

// ---- disks ---------------------------------------------------------------------------------------------------------

static char *in_box(struct box *box, const char *name)
{
    return mem_printf("%s/%s", box->dir, name);
}

static void put(struct box *box, const char *path, const char *text)
{
    assert_int_equal(file_write_at(box->dir_fd, path, text, strlen(text), 0644, false, NULL), 0);
}

// Layer 0 is the top one; what lies between is more than the new mount API of this kernel could name.
static void make_trees(struct box *box)
{
    static const char *const folders[] = { BOTTOM "/bin", BOTTOM "/tmp" };
    static const char *const applets[] = { "sh",   "cat",   "echo", "sleep", "ip", "id",   "nc",  "tail", "test",
                                           "head", "mknod", "tr",   "wc",    "ls", "grep", "tty", "stty", "mount" };
    for (size_t i = 0; i < LAYERS; i++) {
        char path[32];
        snprintf(path, sizeof(path), "%zu", i);
        assert_int_equal(mkdirat(box->dir_fd, path, 0755), 0);
        snprintf(path, sizeof(path), "%zu/layer%zu", i, i);
        put(box, path, "");
    }
    for (size_t i = 0; i < ARRAY_LEN(folders); i++)
        assert_int_equal(mkdirat(box->dir_fd, folders[i], 0755), 0);
    _cleanup_free_ char *busybox = in_box(box, BOTTOM "/bin/busybox");
    TOOL((char *)"cp", (char *)BUSYBOX, busybox);
    for (size_t i = 0; i < ARRAY_LEN(applets); i++) {
        char path[64];
        snprintf(path, sizeof(path), BOTTOM "/bin/%s", applets[i]);
        assert_int_equal(symlinkat("busybox", box->dir_fd, path), 0);
    }
    put(box, BOTTOM "/both", "bottom\n");
    put(box, BOTTOM "/deep", "from below\n");
    put(box, "0/both", "top\n");
}

static uint64_t make_image(struct box *box, size_t layer, const char *image)
{
    char name[32];
    struct stat status;
    snprintf(name, sizeof(name), "%zu", layer);
    _cleanup_free_ char *tree = in_box(box, name);
    TOOL((char *)"mkfs.erofs", (char *)"-Enoinline_data", (char *)image, tree);
    assert_int_equal(stat(image, &status), 0);
    return (uint64_t)status.st_size;
}

// The layers' files stay what they are: QEMU puts a table in front of them and its copy behind.
static void make_layers_disk(struct box *box)
{
    uint64_t sizes[LAYERS];
    char *names[LAYERS + 2];
    _cleanup_layers_disk_ struct layers_disk disk = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char name[32];
        snprintf(name, sizeof(name), "part%02zu", i);
        names[i] = in_box(box, name);
    }
    for (size_t i = 0; i < LAYERS; i++)
        sizes[i] = make_image(box, i, names[i + 1]);
    assert_int_equal(layers_disk_make(sizes, LAYERS, &disk, NULL), 0);
    assert_int_equal(file_write_at(AT_FDCWD, names[0], disk.head, LAYERS_DISK_HEAD, 0644, false, NULL), 0);
    assert_int_equal(file_write_at(AT_FDCWD, names[LAYERS + 1], disk.tail, disk.tail_size, 0644, false, NULL), 0);
    _cleanup_buf_ struct buf descriptor = BUF_INIT(16384);
    layers_disk_vmdk(&disk, (const char *const *)names, &descriptor);
    put(box, "layers.vmdk", buf_text(&descriptor));
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        free(names[i]);
}

// The same bytes in one file: QEMU's persistent memory is one mapping.
static void make_layers_memory(struct box *box)
{
    _cleanup_free_ char *command = mem_printf("cd %s && cat part* >layers.img", box->dir);
    TOOL((char *)"sh", (char *)"-c", command);
}

static void make_upper(struct box *box)
{
    put(box, "upper.img", "");
    _cleanup_free_ char *image = in_box(box, "upper.img");
    assert_int_equal(truncate(image, 64 << 20), 0);
    TOOL((char *)"mke2fs", (char *)"-q", (char *)"-t", (char *)"ext4", (char *)"-F", image);
}

// The bit that a journal leaves which must be replayed.
static bool needs_recovery(struct box *box)
{
    unsigned char features[4];
    int fd = openat(box->dir_fd, "upper.img", O_RDONLY | O_CLOEXEC);
    assert_int_equal(pread(fd, features, sizeof(features), 1024 + 0x60), sizeof(features));
    fd_close(fd);
    return features[0] & 4;
}

// ---- QEMU ----------------------------------------------------------------------------------------------------------

static unsigned cpu_khz(void)
{
    struct buf text = BUF_INIT(1 << 20);
    file_read_at(AT_FDCWD, "/proc/cpuinfo", &text, NULL);
    const char *line = strstr(buf_text(&text), "cpu MHz");
    const char *colon = line ? strchr(line, ':') : NULL;
    unsigned khz = colon ? (unsigned)(strtod(colon + 1, NULL) * 1000) : 2000000;
    buf_done(&text);
    return khz;
}

static void add_layers(struct box *box, bool pmem, struct strv *argv)
{
    struct stat status;
    if (!pmem) {
        strv_add(argv, "-drive");
        strv_addf(argv, "if=none,id=layers,file=%s/layers.vmdk,format=vmdk,read-only=on", box->dir);
        strv_add(argv, "-device");
        strv_add(argv, "virtio-blk-pci,drive=layers,serial=layers");
        return;
    }
    assert_int_equal(fstatat(box->dir_fd, "layers.img", &status, 0), 0);
    strv_add(argv, "-object");
    strv_addf(argv, "memory-backend-file,id=layers,share=on,readonly=on,mem-path=%s/layers.img,size=%lld", box->dir,
              (long long)status.st_size);
    strv_add(argv, "-device");
    strv_add(argv, "virtio-pmem-pci,memdev=layers");
}

static void start_qemu(struct box *box, bool pmem)
{
    struct strv argv = { 0 };
    struct err err;
    strv_add(&argv, "qemu-system-x86_64");
    static const char *const plain[] = { "-accel",      "tcg",
                                         "-cpu",        "max",
                                         "-M",          "q35,smm=off,sata=off,smbus=off,vmport=off",
                                         "-m",          "256M,slots=2,maxmem=1G",
                                         "-nodefaults", "-no-user-config",
                                         "-display",    "none",
                                         "-no-reboot" };
    for (size_t i = 0; i < ARRAY_LEN(plain); i++)
        strv_add(&argv, plain[i]);
    static const char *const devices[] = { "virtio-serial-pci", "virtserialport,chardev=link,name=" LINK_SERIAL_NAME,
                                           "virtio-blk-pci,drive=upper,serial=upper",
                                           "virtio-net-pci,netdev=net,mac=" MAC ",romfile=", "virtio-rng-pci" };
    strv_add(&argv, "-kernel");
    strv_addf(&argv, "%s/vmlinux", box->guest_dir);
    strv_add(&argv, "-initrd");
    strv_addf(&argv, "%s/initramfs", box->guest_dir);
    strv_add(&argv, "-append");
    strv_addf(
        &argv,
        "console=ttyS0 berth.link=serial tsc_early_khz=%u no_timer_check mitigations=off nokaslr audit=0 "
        "8250.nr_uarts=1 random.trust_cpu=on cryptomgr.notests rcupdate.rcu_expedited=1 lpj=4000000 nomodeset quiet "
        "panic=-1",
        cpu_khz());
    strv_add(&argv, "-serial");
    strv_addf(&argv, "file:%s/console", box->dir);
    strv_add(&argv, "-chardev");
    strv_addf(&argv, "socket,id=link,path=%s/link,server=on,wait=off", box->dir);
    add_layers(box, pmem, &argv);
    strv_add(&argv, "-drive");
    strv_addf(&argv, "if=none,id=upper,file=%s/upper.img,format=raw,cache=unsafe", box->dir);
    strv_add(&argv, "-netdev");
    strv_add(&argv, "user,id=net");
    for (size_t i = 0; i < ARRAY_LEN(devices); i++) {
        strv_add(&argv, "-device");
        strv_add(&argv, devices[i]);
    }
    box->began_ns = clock_mono_ns();
    unlinkat(box->dir_fd, "link", 0);
    const struct process_io io = { -1, -1, STDERR_FILENO, NULL, 0 };
    if (process_spawn("/usr/bin/qemu-system-x86_64", -1, argv.items, (char *const[]){ NULL }, &io, &box->qemu, &err) <
        0)
        fail_msg("%s", err.message);
    strv_done(&argv);
}

static void show_console(struct box *box)
{
    struct buf text = BUF_INIT(1 << 20);
    file_read_at(box->dir_fd, "console", &text, NULL);
    print_message("console: %s\n", buf_text(&text));
    buf_done(&text);
}

static void print_cpu_time(struct box *box, const char *what)
{
    char path[32];
    struct buf text = BUF_INIT(4096);
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)box->qemu.pid);
    file_read_at(AT_FDCWD, path, &text, NULL);
    const char *rest = strrchr(buf_text(&text), ')');
    if (rest)
        sscanf(rest + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    print_message("%s: %.2f s, of QEMU's CPU time %.2f s\n", what, (double)(clock_mono_ns() - box->began_ns) / 1e9,
                  (double)(user + system) / (double)sysconf(_SC_CLK_TCK));
    buf_done(&text);
}

static void boot(struct box *box, bool pmem)
{
    host_init(&box->host, WAIT_NS);
    start_qemu(box, pmem);
    int fd = -1;
    for (int i = 0; i < 6000 && fd < 0; i++) {
        fd = fd_unix_connect_at(box->dir_fd, "link", NULL);
        if (fd < 0)
            poll(NULL, 0, 10);
    }
    assert_true(fd >= 0);
    assert_int_equal(link_connect(box->host.link, fd, NULL), 0);
    HOST_UNTIL(&box->host, box->host.hello || box->host.closed);
    if (!box->host.hello) {
        show_console(box);
        fail_msg("the guest did not say hello");
    }
    print_cpu_time(box, "hello");
}

static void end_machine(struct box *box)
{
    process_done(&box->qemu);
    host_done(&box->host);
}

// ---- set up and tear down ------------------------------------------------------------------------------------------

static int set_up(void **state)
{
    *state = NULL;
    struct box *box = mem_new(struct box);
    if (access(BUSYBOX, X_OK) < 0 || !find_guest(box->guest_dir) || !has_tool("qemu-system-x86_64") ||
        !has_tool("mkfs.erofs")) {
        free(box);
        return 0;
    }
    box->qemu = (struct process)PROCESS_NONE;
    snprintf(box->dir, sizeof(box->dir), "/tmp/berth-test-boot-XXXXXX");
    assert_non_null(mkdtemp(box->dir));
    box->dir_fd = file_open_dir(AT_FDCWD, box->dir, NULL);
    make_trees(box);
    make_layers_disk(box);
    make_layers_memory(box);
    make_upper(box);
    *state = box;
    return 0;
}

static int tear_down(void **state)
{
    struct box *box = *state;
    if (!box)
        return 0;
    process_done(&box->qemu);
    fd_close(box->dir_fd);
    file_remove_tree(AT_FDCWD, box->dir, NULL);
    free(box);
    return 0;
}

// ---- tests ---------------------------------------------------------------------------------------------------------

// Somebody to talk to beyond the card: QEMU's user network calls this host 10.0.2.2.
static int listen_here(uint16_t *port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static void expect_call(int listener)
{
    char text[16] = "";
    struct pollfd wait = { listener, POLLIN, 0 };
    assert_int_equal(poll(&wait, 1, 60000), 1);
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_int_equal(fd_read_full(fd, text, 6, NULL), 6);
    assert_string_equal(text, "called");
    fd_close(fd);
}

static void first_boot(struct box *box)
{
    struct host *host = &box->host;
    uint16_t port;
    int listener = listen_here(&port);
    char call[128];
    boot(box, false);
    json_t *more = json_pack("{s:[{s:s, s:s, s:s, s:i, s:s, s:i, s:i}]}", "nics", "name", "eth0", "mac", MAC, "address",
                             "10.0.2.15", "prefix", 24, "gateway", "10.0.2.2", "netns_fd", -1, "tap_fd", -1);
    struct host_run run = {
        .script = "cat /both /deep; ls / | grep -c layer; cat /proc/1/comm; echo kept >/kept; ip -o -4 addr show eth0 "
                  "| grep -o 10.0.2.15/24; "
                  "ip route | grep -o 'default via 10.0.2.2'; ls /dev | grep -c vd; "
                  "mknod /disk b $(tr : ' ' </sys/block/vdb/dev); head -c 1 /disk 2>&1; "
                  "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; grep Seccomp: /proc/self/status; echo ready; "
                  "read line; exit 3",
        .init = true,
        .confined = true,
        .sysctl = json_pack("{s:s}", "net.ipv4.ip_unprivileged_port_start", "7"),
        .more = more
    };
    json_t *created = host_call(host, "create", host_create_arguments(host, &run, LAYERS));
    print_cpu_time(box, "created");
    assert_string_equal(json_get_text(created, "kernel", "-"), json_get_text(host->hello, "kernel", ""));
    json_decref(created);
    host_do(host, "start", NULL);
    print_cpu_time(box, "started");
    host_await_text(host, 2, "ready\n");
    host_expect_text(host, 2,
                     "top\nfrom below\n20\ndocker-init\n10.0.2.15/24\ndefault via 10.0.2.2\n0\nhead: /disk: Operation "
                     "not permitted\n7\nSeccomp:\t2\nready\n");

    snprintf(call, sizeof(call), "echo called | nc 10.0.2.2 %u; tty; exit 6", port);
    host_do(host, "exec", host_exec_arguments(host, "e", &(struct host_run){ .script = call, .terminal = true }, 10));
    expect_call(listener);
    assert_int_equal(json_get_int(host_await(host, "exec_exited"), "exit_code", -1), 6);
    host_await_text(host, 10, "/dev/pts/0");
    fd_close(listener);

    fd_write_full(host->streams[1].feed_fd, "go\n", 3, NULL);
    assert_int_equal(host_exit_code(host), 3);
    print_cpu_time(box, "exited");
    assert_null(json_object_get(host_await(host, "halted"), "message"));
    print_cpu_time(box, "halted");
    assert_null(host_find_event(host, "oom"));
    end_machine(box);
    assert_false(needs_recovery(box));
}

static void second_boot(struct box *box)
{
    struct host *host = &box->host;
    boot(box, true);
    struct host_run run = { .script = "cat /kept /both; ls /sys/block | grep -c pmem0; exec tail /dev/zero",
                            .memory_limit = 32 << 20 };
    host_run_task(host, &run, LAYERS);
    assert_int_equal(host_exit_code(host), 137);
    assert_true(json_get_flag(host_find_event(host, "exited"), "oom", false));
    assert_non_null(host_find_event(host, "oom"));
    host_await(host, "halted");
    host_expect_text(host, 2, "kept\ntop\n1\n");
    end_machine(box);
}

static void two_boots(void **state)
{
    struct box *box = *state;
    if (!box) {
        print_message("skipped: needs build/guest (make guest), QEMU, mkfs.erofs and a static busybox\n");
        skip();
    }
    first_boot(box);
    second_boot(box);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test_setup_teardown(two_boots, set_up, tear_down) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
