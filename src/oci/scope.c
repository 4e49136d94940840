// --systemd-cgroup: the container's group is a scope of systemd's (kernel/systemd.h). A scope can't be made without a
// process in it, and the container's own is born into the group that it shall have. So a holder is put there first: it
// sleeps until that process is in, and dies with us. What the kernel has more than systemd has properties for is written
// into the group's files afterwards.
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/num.h"
#include "base/slice.h"
#include "kernel/systemd.h"
#include "oci/oci_private.h"

#define CALL_LIMIT_NS (30 * NS_PER_S) // of each call to systemd
#define ANNOTATION "org.systemd.property."
#define US_PER_S 1000000
#define DEFAULT_PERIOD 100000 // microseconds

// ---- names ----------------------------------------------------------------------------------------------------------

int scope_name(const char *wanted, const char *id, struct arena *arena, const char **slice, const char **unit, struct err *err)
{
    struct slice rest = slice_of(str_empty(wanted) ? "" : wanted), parts[3];
    *slice = NULL;
    if (str_empty(wanted)) {
        *unit = arena_printf(arena, "runc-%s.scope", id);
        return 0;
    }
    size_t len = 0;
    while (len < ARRAY_LEN(parts) && slice_cut(&rest, ':', &parts[len]))
        len++;
    if (len != ARRAY_LEN(parts) || rest.data)
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \"%.200s\" instead", wanted);
    if (parts[0].size)
        *slice = arena_printf(arena, "%.*s", (int)parts[0].size, parts[0].data);
    const char *name = arena_printf(arena, "%.*s", (int)parts[2].size, parts[2].data);
    bool is_slice = parts[2].size > 6 && str_eq(name + parts[2].size - 6, ".slice");
    *unit = is_slice ? name : arena_printf(arena, "%.*s-%s.scope", (int)parts[1].size, parts[1].data, name);
    return 0;
}

// ---- annotations ----------------------------------------------------------------------------------------------------

// What says where a scope lies, who is in it and what devices it has is the runtime's: an annotation is whoever's who wrote
// a pod (CVE-2024-3154).
static const char *const own_properties[] = { "Controller", "ControlGroup", "Delegate", "DeviceAllow", "DevicePolicy", "PIDs", "Slice" };

static int check_property(const char *name, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(own_properties); i++)
        if (str_eq(name, own_properties[i]))
            return err_set(err, ERR_INVALID_ARGUMENT, "annotation " ANNOTATION "%s: this property is the runtime's own", name);
    size_t size = strlen(name);
    if (size < 3)
        return err_set(err, ERR_INVALID_ARGUMENT, "annotation " ANNOTATION "%s: property name too short", name);
    for (size_t i = 0; i < size; i++)
        if (!((name[i] | 0x20) >= 'a' && (name[i] | 0x20) <= 'z'))
            return err_set(err, ERR_INVALID_ARGUMENT, "annotation " ANNOTATION "%.100s: not of letters alone", name);
    return 0;
}

// systemd writes what it is told into a unit's file, a line for each property.
static bool one_line(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            return false;
    return true;
}

// The texts of GVariant that properties of a scope have: 'text', true, uint64 5, 5.
static bool parse_value(const char *text, struct arena *arena, struct systemd_property *out)
{
    size_t size = strlen(text);
    const char *number = str_starts(text, "uint64 ") ? text + strlen("uint64 ") : text;
    if (size >= 2 && (text[0] == '\'' || text[0] == '"') && text[size - 1] == text[0] && !strchr(text, '\\') && one_line(text)) {
        out->kind = SYSTEMD_TEXT;
        out->text = arena_printf(arena, "%.*s", (int)size - 2, text + 1);
        return true;
    }
    if (str_eq(text, "true") || str_eq(text, "false")) {
        out->kind = SYSTEMD_FLAG;
        out->number = str_eq(text, "true");
        return true;
    }
    out->kind = SYSTEMD_U64;
    return num_parse_u64(slice_of(number), UINT64_MAX, &out->number);
}

// What is configured in seconds is asked for in microseconds: TimeoutStopSec is TimeoutStopUSec.
static int seconds_to_us(struct systemd_property *property, struct arena *arena, struct err *err)
{
    size_t size = strlen(property->name);
    if (property->kind != SYSTEMD_U64 || size < 4 || !str_eq(property->name + size - 3, "Sec") || property->name[size - 4] == 'U')
        return 0;
    if (property->number > UINT64_MAX / US_PER_S)
        return err_set(err, ERR_INVALID_ARGUMENT, "annotation " ANNOTATION "%s: too many seconds", property->name);
    property->number *= US_PER_S;
    property->name = arena_printf(arena, "%.*sUSec", (int)size - 3, property->name);
    return 0;
}

int scope_properties(const struct kvs *annotations, struct arena *arena, struct systemd_property **out, size_t *len, struct err *err)
{
    *len = 0;
    *out = arena_alloc(arena, (annotations->len + 1) * sizeof(**out));
    for (size_t i = 0; i < annotations->len; i++) {
        const struct kv *entry = &annotations->items[i];
        if (!str_starts(entry->key, ANNOTATION))
            continue;
        struct systemd_property *property = &(*out)[*len];
        *property = (struct systemd_property){ .name = entry->key + strlen(ANNOTATION) };
        if (check_property(property->name, err) < 0)
            return -1;
        if (!parse_value(entry->value, arena, property))
            return err_set(err, ERR_INVALID_ARGUMENT, "annotation %.100s: value \"%.100s\" is no quoted text of one line, flag or number", entry->key, entry->value);
        if (seconds_to_us(property, arena, err) < 0)
            return -1;
        (*len)++;
    }
    return 0;
}

// ---- the scope ------------------------------------------------------------------------------------------------------

static int connect_systemd(const struct container *container, struct systemd **out, struct err *err)
{
    if (!systemd_is_running())
        return err_set(err, ERR_UNAVAILABLE, "systemd not running on this host, cannot use systemd cgroups manager");
    return systemd_open(container->rootless, CALL_LIMIT_NS, out, err);
}

static int start_holder(pid_t *out, struct err *err)
{
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        return err_errno(err, errno, "fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (getppid() == parent)
            pause();
        _exit(0);
    }
    *out = pid;
    return 0;
}

void scope_end_holder(struct container *container)
{
    if (container->holder <= 0)
        return;
    kill(container->holder, SIGKILL);
    while (waitpid(container->holder, NULL, 0) < 0 && errno == EINTR)
        ;
    container->holder = 0;
}

int scope_make(struct container *container, const char *slice, enum cgroup_version version, const struct cgroup_limits *limits, struct err *err)
{
    _cleanup_(systemd_closep) struct systemd *systemd = NULL;
    struct systemd_property *more = NULL;
    _cleanup_free_ char *path = NULL;
    struct systemd_scope scope = { .unit = container->unit, .slice = slice, .version = version, .limits = limits };
    scope.description = arena_printf(&container->arena, "libcontainer container %s", container->id);
    if (scope_properties(&container->config.annotations, &container->arena, &more, &scope.more_len, err) < 0 ||
        connect_systemd(container, &systemd, err) < 0) {
        container->unit = (char *)""; // there is none to be stopped
        return -1;
    }
    scope.more = more;
    const char *end = strrchr(container->unit, '.');
    if (str_eq(end, ".scope") && start_holder(&container->holder, err) < 0)
        return -1;
    scope.pid = container->holder;
    if (systemd_start(systemd, &scope, err) < 0) {
        if (err->class == ERR_CONFLICT) // somebody else's: not to be stopped
            container->unit = (char *)"";
        return -1;
    }
    if (systemd_cgroup_path(systemd, container->unit, &path, err) < 0)
        return -1;
    container->cgroup = arena_strdup(&container->arena, path);
    return container_save(container, err);
}

int scope_update(const struct container *container, enum cgroup_version version, struct cgroup_limits *limits, struct err *err)
{
    _cleanup_(systemd_closep) struct systemd *systemd = NULL;
    if (str_empty(container->unit))
        return 0;
    if (connect_systemd(container, &systemd, err) < 0 || systemd_update(systemd, container->unit, version, limits, err) < 0)
        return err_wrap(err, "unable to update unit \"%s\"", container->unit);
    scope_round(limits);
    return 0;
}

void scope_round(struct cgroup_limits *limits)
{
    if (limits->cpu_quota > 0)
        limits->cpu_quota = systemd_cpu_quota(limits->cpu_quota, limits->cpu_period ? limits->cpu_period : DEFAULT_PERIOD);
}

int scope_stop(const struct container *container, struct err *err)
{
    _cleanup_(systemd_closep) struct systemd *systemd = NULL;
    if (str_empty(container->unit) || !systemd_is_running())
        return 0;
    return connect_systemd(container, &systemd, err) < 0 ? -1 : systemd_stop(systemd, container->unit, err);
}
