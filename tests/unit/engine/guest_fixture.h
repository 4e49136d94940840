// A host that can run guests, as far as files tell: a folder with kernel and initramfs, a berth-vmm that says what a test wants,
// and a PATH with the tools that make disks, with or without QEMU.
#ifndef TEST_ENGINE_GUEST_FIXTURE_H
#define TEST_ENGINE_GUEST_FIXTURE_H

#include "fixture.h"
#include "engine/machine.h"

#define KERNEL_RELEASE "6.1.0-99-cloud-amd64"

#define PROBE_GOOD "machines: yes\\nordinary kernels: yes\\n"
#define PROBE_SLOW "machines: yes\\nordinary kernels: no\\nbecause: this KVM is slow\\n"
#define PROBE_NONE "machines: no\\nordinary kernels: no\\nbecause: /dev/kvm: no such file\\n"

struct guest_host {
    char root[32];
    char *path_before;
    struct err err;
};

static inline void guest_file(struct guest_host *host, const char *folder, const char *name, const char *text, mode_t mode)
{
    _cleanup_free_ char *dir = mem_printf("%s/%s", host->root, folder);
    _cleanup_free_ char *path = mem_printf("%s/%s", dir, name);
    assert_int_equal(file_mkdirs(AT_FDCWD, dir, 0755, &host->err), 0);
    assert_int_equal(file_write_at(AT_FDCWD, path, text, strlen(text), mode, false, &host->err), 0);
}

static inline void guest_files(struct guest_host *host, const char *folder)
{
    guest_file(host, folder, MACHINE_KERNEL, "kernel", 0644);
    guest_file(host, folder, MACHINE_INITRD, "initramfs", 0644);
    guest_file(host, folder, MACHINE_KERNEL_RELEASE, KERNEL_RELEASE "\n", 0644);
}

// Each run of the probe leaves a line in `probed`.
static inline void guest_probe(struct guest_host *host, const char *output, int code)
{
    _cleanup_free_ char *text =
        mem_printf("#!/bin/sh\necho x >>%s/probed\nprintf '%s'\nexit %d\n", host->root, output, code);
    guest_file(host, "bin", "berth-vmm", text, 0755);
}

static inline void guest_host_open(struct guest_host *host, const char *probe, int code, bool qemu)
{
    *host = (struct guest_host){ .root = "/tmp/guest-host-XXXXXX" };
    assert_non_null(mkdtemp(host->root));
    guest_probe(host, probe, code);
    guest_file(host, "path", "mke2fs", "#!/bin/sh\n", 0755);
    if (qemu)
        guest_file(host, "path", "qemu-system-x86_64", "#!/bin/sh\n", 0755);
    host->path_before = mem_strdup(getenv("PATH"));
    _cleanup_free_ char *path = mem_printf("%s/path", host->root);
    setenv("PATH", path, 1);
}

static inline void guest_host_close(struct guest_host *host)
{
    setenv("PATH", host->path_before, 1);
    free(host->path_before);
    assert_int_equal(file_remove_tree(AT_FDCWD, host->root, &host->err), 0);
}

static inline struct machines *guest_machines(struct guest_host *host, const char *accel)
{
    _cleanup_free_ char *programs = mem_printf("%s/bin", host->root);
    _cleanup_free_ char *data = mem_printf("%s/data", host->root);
    const struct machines_config config = { .program_dir = programs, .data_root = data, .accel = accel };
    struct machines *machines = NULL;
    if (machines_new(&config, &machines, &host->err) < 0)
        fail_msg("%s", host->err.message);
    return machines;
}

#endif
