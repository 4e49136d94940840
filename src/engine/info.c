// What this host and this daemon are, for `docker info`.
#include <errno.h>
#include <fcntl.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include "engine_private.h"
#include "machine.h"

// A value of /etc/os-release, unquoted.
static char *os_release(const char *key, struct arena *arena)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64 << 10);
    struct slice rest, line;
    size_t key_size = strlen(key);
    if (file_read_at(AT_FDCWD, "/etc/os-release", &text, NULL) < 0)
        return (char *)"";
    for (rest = slice_of(buf_text(&text)); slice_cut(&rest, '\n', &line);)
        if (line.size > key_size && slice_starts(line, key) && line.data[key_size] == '=') {
            const char *value = line.data + key_size + 1;
            size_t size = line.size - key_size - 1;
            if (size >= 2 && value[0] == '"' && value[size - 1] == '"')
                return arena_strndup(arena, value + 1, size - 2);
            return arena_strndup(arena, value, size);
        }
    return (char *)"";
}

static void count_containers(struct engine *engine, struct engine_info *out)
{
    mutex_lock(&engine->list_lock);
    for (struct container *c = engine->containers; c; c = c->next) {
        if (c->hidden)
            continue;
        mutex_lock(&c->lock);
        out->containers++;
        out->running += c->state.status == STATUS_RUNNING;
        out->paused += c->state.status == STATUS_PAUSED;
        mutex_unlock(&c->lock);
    }
    mutex_unlock(&engine->list_lock);
    out->stopped = out->containers - out->running - out->paused;
}

static bool forwarding(void)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64);
    return file_read_at(AT_FDCWD, "/proc/sys/net/ipv4/ip_forward", &text, NULL) == 0 && buf_text(&text)[0] == '1';
}

static void describe_cgroups(const struct engine *engine, struct engine_info *out)
{
    const struct host_features *features = &engine->features;
    out->cgroup_driver = (char *)(engine->cgroups.version == CGROUP_NONE ? "none" : "cgroupfs");
    out->cgroup_version = (char *)(engine->cgroups.version == CGROUP_V2 ? "2" : "1");
    out->memory_limit = features->memory;
    out->swap_limit = features->swap;
    out->cpu_quota = features->cpu_quota;
    out->cpu_shares = features->cpu_shares;
    out->cpuset = features->cpuset;
    out->pids_limit = features->pids;
    out->oom_kill_disable = features->oom_control;
}

// What clients print of it: the wall among the security options, and a line of warning where guests are
// emulated, or can not run.
static void describe_guests(struct engine *engine, struct arena *arena, struct engine_info *out)
{
    struct machine_choice choice = { .accel = "unavailable" };
    struct err lack = { 0 };
    if (machines_choose(engine->machines, arena, &choice, &lack) < 0)
        strv_push_arena(&out->warnings, arena, arena_printf(arena, "WARNING: --isolation vm is not available: %s", lack.message));
    strv_push_arena(&out->security_options, arena, arena_printf(arena, "name=isolation-vm,profile=%s", choice.accel));
    if (!str_empty(choice.why))
        strv_push_arena(&out->warnings, arena,
                        arena_printf(arena, "WARNING: --isolation vm emulates its processors and is slow: %s", choice.why));
}

static void describe_settings(struct engine *engine, struct arena *arena, struct engine_info *out)
{
    struct engine_settings settings;
    const struct engine_defaults *defaults = &engine->defaults;
    settings_get(engine, arena, &settings);
    out->labels = settings.labels;
    out->insecure_registries = settings.insecure_registries;
    out->registry_mirrors = settings.registry_mirrors;
    out->debug = settings.debug;
    out->experimental = engine->experimental;
    for (size_t i = 0; i < defaults->cdi_folders.len; i++)
        strv_push_arena(&out->cdi_folders, arena, defaults->cdi_folders.items[i]);
    out->log_driver = arena_strdup(arena, str_empty(defaults->log_driver) ? "json-file" : defaults->log_driver);
    out->runtime = arena_strdup(arena, str_empty(settings.runtime) ? "berth" : settings.runtime);
    mutex_lock(&engine->bus_lock);
    out->events = (int64_t)engine->next_serial;
    for (const struct subscriber *s = engine->subscribers; s; s = s->next)
        out->event_listeners++;
    mutex_unlock(&engine->bus_lock);
}

int engine_info(struct engine *engine, struct arena *arena, struct engine_info *out, struct err *err)
{
    struct utsname host;
    struct image *images;
    size_t image_len = 0;
    *out = (struct engine_info){ .id = arena_strdup(arena, engine->id), .now_ns = clock_wall_ns() };
    if (uname(&host) < 0)
        return err_errno(err, errno, "uname");
    if (image_list(engine->images, arena, &images, &image_len, err) < 0)
        return -1;
    count_containers(engine, out);
    describe_settings(engine, arena, out);
    describe_cgroups(engine, out);
    out->images = (int64_t)image_len;
    out->name = arena_strdup(arena, host.nodename);
    out->kernel_version = arena_strdup(arena, host.release);
    out->architecture = arena_strdup(arena, host.machine);
    out->operating_system = os_release("PRETTY_NAME", arena);
    out->os_version = os_release("VERSION_ID", arena);
    out->driver = arena_strdup(arena, image_driver_name(engine->images));
    image_driver_status(engine->images, arena, &out->driver_status);
    out->data_root = arena_strdup(arena, engine->data_root);
    out->cpus = get_nprocs();
    out->memory = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    out->ipv4_forwarding = forwarding();
    const char *seccomp = engine->defaults.seccomp;
    strv_push_arena(&out->security_options, arena,
                    arena_printf(arena, "name=seccomp,profile=%s", !seccomp ? "builtin" : str_eq(seccomp, "unconfined") ? seccomp : "custom"));
    strv_push_arena(&out->security_options, arena, "name=cgroupns");
    if (engine->remap)
        strv_push_arena(&out->security_options, arena, "name=userns");
    describe_guests(engine, arena, out);
    _cleanup_free_ char *drop = net_foreign_drop(engine->net);
    if (drop)
        strv_push_arena(&out->warnings, arena, drop);
    return 0;
}
