// spec: a config.json to start from, the same as runc's.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"
#include "kernel/cgroup.h"
#include "oci/oci_private.h"

static const char *const capabilities[] = { "CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE" };
static const char *const masked[] = { "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                                      "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi" };
static const char *const read_only[] = { "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger" };

static const struct {
    const char *destination, *type, *source;
    const char *options[8];
} mounts[] = {
    { "/proc", "proc", "proc", { NULL } },
    { "/dev", "tmpfs", "tmpfs", { "nosuid", "strictatime", "mode=755", "size=65536k" } },
    { "/dev/pts", "devpts", "devpts", { "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5" } },
    { "/dev/shm", "tmpfs", "shm", { "nosuid", "noexec", "nodev", "mode=1777", "size=65536k" } },
    { "/dev/mqueue", "mqueue", "mqueue", { "nosuid", "noexec", "nodev" } },
    { "/sys", "sysfs", "sysfs", { "nosuid", "noexec", "nodev", "ro" } },
    { "/sys/fs/cgroup", "cgroup", "cgroup", { "nosuid", "noexec", "nodev", "relatime", "ro" } },
};

static json_t *texts(const char *const *list, size_t len)
{
    json_t *array = json_array();
    for (size_t i = 0; i < len; i++)
        json_array_append_new(array, json_string(list[i]));
    return array;
}

static json_t *process_section(void)
{
    json_t *caps = json_object();
    static const char *const sets[] = { "bounding", "effective", "permitted", "ambient" };
    for (size_t i = 0; i < ARRAY_LEN(sets); i++)
        json_object_set_new(caps, sets[i], texts(capabilities, ARRAY_LEN(capabilities)));
    return json_pack("{s:b,s:{s:i,s:i},s:[s],s:[s,s],s:s,s:o,s:[{s:s,s:i,s:i}],s:b}", "terminal", 1, "user", "uid", 0, "gid", 0,
                     "args", "sh", "env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", "cwd",
                     "/", "capabilities", caps, "rlimits", "type", "RLIMIT_NOFILE", "hard", 1024, "soft", 1024,
                     "noNewPrivileges", 1);
}

static bool for_rootless(const char *option)
{
    return !str_starts(option, "gid=") && !str_starts(option, "uid=");
}

static json_t *mounts_section(bool rootless)
{
    static const char *const sys_options[] = { "rbind", "nosuid", "noexec", "nodev", "ro" };
    json_t *list = json_array();
    for (size_t i = 0; i < ARRAY_LEN(mounts); i++) {
        bool sys = rootless && str_eq(mounts[i].destination, "/sys");
        json_t *options = sys ? texts(sys_options, ARRAY_LEN(sys_options)) : json_array();
        for (size_t o = 0; !sys && mounts[i].options[o]; o++)
            if (!rootless || for_rootless(mounts[i].options[o]))
                json_array_append_new(options, json_string(mounts[i].options[o]));
        json_t *mount = json_pack("{s:s,s:s,s:s}", "destination", mounts[i].destination, "type", sys ? "none" : mounts[i].type,
                                  "source", sys ? "/sys" : mounts[i].source);
        if (json_array_size(options))
            json_object_set(mount, "options", options);
        json_decref(options);
        json_array_append_new(list, mount);
    }
    return list;
}

static json_t *linux_section(bool rootless)
{
    static const char *const namespaces[] = { "pid", "network", "ipc", "uts", "mount" };
    struct cgroup_layout layout;
    json_t *section = json_object(), *list = json_array();
    cgroup_layout_probe(&layout);
    if (rootless) {
        json_object_set_new(section, "uidMappings", json_pack("[{s:i,s:I,s:i}]", "containerID", 0, "hostID", (json_int_t)geteuid(), "size", 1));
        json_object_set_new(section, "gidMappings", json_pack("[{s:i,s:I,s:i}]", "containerID", 0, "hostID", (json_int_t)getegid(), "size", 1));
    } else {
        json_object_set_new(section, "resources", json_pack("{s:[{s:b,s:s}]}", "devices", "allow", 0, "access", "rwm"));
    }
    for (size_t i = 0; i < ARRAY_LEN(namespaces); i++)
        if (!rootless || !str_eq(namespaces[i], "network"))
            json_array_append_new(list, json_pack("{s:s}", "type", namespaces[i]));
    if (layout.version == CGROUP_V2)
        json_array_append_new(list, json_pack("{s:s}", "type", "cgroup"));
    if (rootless)
        json_array_append_new(list, json_pack("{s:s}", "type", "user"));
    json_object_set_new(section, "namespaces", list);
    json_object_set_new(section, "maskedPaths", texts(masked, ARRAY_LEN(masked)));
    json_object_set_new(section, "readonlyPaths", texts(read_only, ARRAY_LEN(read_only)));
    return section;
}

int verb_spec(struct call *call, struct err *err)
{
    const char *bundle = args_text(&call->args, "bundle");
    bool rootless = args_flag(&call->args, "rootless");
    if (!str_empty(bundle) && chdir(bundle) < 0)
        return err_errno(err, errno, "chdir %s", bundle);
    if (access("config.json", F_OK) == 0)
        return err_set(err, ERR_CONFLICT, "File config.json exists. Remove it first");
    _cleanup_json_ json_t *document = json_pack("{s:s,s:o,s:{s:s,s:b},s:s,s:o,s:o}", "ociVersion", SPEC_VERSION, "process",
                                                process_section(), "root", "path", "rootfs", "readonly", 1, "hostname", "runc",
                                                "mounts", mounts_section(rootless), "linux", linux_section(rootless));
    _cleanup_free_ char *text = json_dumps(document, JSON_INDENT(1));
    struct buf tabbed = BUF_INIT(1 << 20);
    bool start = true;
    for (const char *at = text; at && *at; at++) { // jansson indents by blanks, Go by tabs
        buf_addc(&tabbed, start && *at == ' ' ? '\t' : *at);
        start = *at == '\n' || (start && *at == ' ');
    }
    int result = file_write_at(AT_FDCWD, "config.json", tabbed.data, tabbed.size, 0644, false, err);
    buf_done(&tabbed);
    return result;
}
