// PID 1 of the machine that bench/vm-emulated starts by hand: what a guest can't do without to run `true` in an image, and
// nothing else. Modules, the layers and the disk under an overlay, the process, power-off.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LAYERS_MAX 16

static int fail(const char *what)
{
    fprintf(stderr, "true_init: %s: %s\n", what, strerror(errno));
    return -1;
}

static int load_modules(void)
{
    char name[128];
    FILE *order = fopen("/modules/order", "r");
    while (order && fscanf(order, "%127s", name) == 1) {
        char path[160];
        snprintf(path, sizeof(path), "/modules/%s", name);
        int fd = open(path, O_RDONLY);
        if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) < 0)
            return fail(name);
        close(fd);
    }
    return order ? fclose(order) : fail("/modules/order");
}

// The disk with partitions has the layers, the other one is the upper: their order is the transport's.
static int find_disks(char *layers, char *upper)
{
    for (int i = 0; i < 5000; i++) {
        int first = access("/dev/vda1", F_OK) == 0;
        if ((first || access("/dev/vdb1", F_OK) == 0) && access("/dev/vda", F_OK) == 0 && access("/dev/vdb", F_OK) == 0) {
            *layers = first ? 'a' : 'b';
            *upper = first ? 'b' : 'a';
            return 0;
        }
        usleep(1000);
    }
    return fail("disks");
}

static int mount_layers(char disk, char *options, size_t size)
{
    size_t used = (size_t)snprintf(options, size, "upperdir=/upper/upper,workdir=/upper/work,lowerdir=");
    for (int i = 1; i <= LAYERS_MAX; i++) {
        char device[16], folder[16];
        snprintf(device, sizeof(device), "/dev/vd%c%d", disk, i);
        snprintf(folder, sizeof(folder), "/layer%d", i);
        if (i > 1 && access(device, F_OK) < 0)
            return 0;
        if (mkdir(folder, 0755) < 0 || mount(device, folder, "erofs", MS_RDONLY, NULL) < 0)
            return fail(device);
        used += (size_t)snprintf(options + used, size - used, "%s%s", i > 1 ? ":" : "", folder);
    }
    return 0;
}

static int mount_root(void)
{
    char options[512], device[16], layers, upper;
    if (find_disks(&layers, &upper) < 0 || mount_layers(layers, options, sizeof(options)) < 0)
        return -1;
    snprintf(device, sizeof(device), "/dev/vd%c", upper);
    mkdir("/upper", 0755);
    if (mount(device, "/upper", "ext4", MS_NOATIME, NULL) < 0)
        return fail(device);
    mkdir("/upper/upper", 0755);
    mkdir("/upper/work", 0700);
    mkdir("/image", 0755);
    return mount("overlay", "/image", "overlay", 0, options) < 0 ? fail("overlay") : 0;
}

static int run_true(void)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        char *argv[] = { (char *)"true", NULL };
        if (chroot("/image") < 0 || chdir("/") < 0 || execv("/bin/true", argv) < 0)
            _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        return fail("/bin/true");
    return 0;
}

int main(void)
{
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    int good = load_modules() == 0 && mount_root() == 0 && run_true() == 0;
    if (good)
        printf("true was run\n");
    fflush(stdout);
    umount("/image");
    umount("/upper");
    sync();
    reboot(RB_POWER_OFF);
    return 1;
}
