#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/num.h"
#include "base/slice.h"
#include "kernel/dbus.h"
#include "systemd_private.h"

#define DESTINATION "org.freedesktop.systemd1"
#define ROOT_PATH "/org/freedesktop/systemd1"
#define MANAGER "org.freedesktop.systemd1.Manager"
#define PROPERTIES "org.freedesktop.DBus.Properties"
#define BODY_MAX (DBUS_MESSAGE_MAX / 2)
#define JOBS_MAX 16
#define UNIT_MAX 255 // a unit name's characters

// Jobs that ended while their call's answer was still on its way; a ring.
struct job {
    char path[128], result[32];
};

struct systemd {
    struct dbus *dbus;
    bool user;
    int version; // 0: not asked yet
    struct job jobs[JOBS_MAX];
    size_t job_len;
};

// ---- calls ----------------------------------------------------------------------------------------------------------

static bool note_job(const struct dbus_message *signal, void *context)
{
    struct systemd *systemd = context;
    if (!str_eq(signal->member, "JobRemoved") || !str_eq(signal->interface, MANAGER) ||
        !str_eq(signal->signature, "uoss"))
        return false;
    struct dbus_reader body = signal->body;
    struct job *job = &systemd->jobs[systemd->job_len++ % JOBS_MAX];
    dbus_get_u32(&body);
    snprintf(job->path, sizeof(job->path), "%s", dbus_get_text(&body));
    dbus_get_text(&body);
    snprintf(job->result, sizeof(job->result), "%s", dbus_get_text(&body));
    return true;
}

static int call(struct systemd *systemd, const char *path, const char *interface, const char *member,
                const char *signature, const struct buf *body, struct dbus_message *reply, struct err *err)
{
    const struct dbus_call message = { dbus_has_bus(systemd->dbus) ? DESTINATION : NULL, path, interface, member,
                                       signature };
    return dbus_call(systemd->dbus, &message, body, note_job, systemd, reply, err);
}

static int manager(struct systemd *systemd, const char *member, const char *signature, const struct buf *body,
                   struct dbus_message *reply, struct err *err)
{
    return call(systemd, ROOT_PATH, MANAGER, member, signature, body, reply, err);
}

// Signals are sent only to those who ask: the bus for their kind, the manager for any.
static int subscribe(struct systemd *systemd, struct err *err)
{
    _cleanup_buf_ struct buf rule = BUF_INIT(1024), nothing = BUF_INIT(0);
    const struct dbus_call match = { "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                                     "AddMatch", "s" };
    dbus_put_text(&rule, "type='signal',sender='" DESTINATION "',interface='" MANAGER "',member='JobRemoved'");
    if (dbus_has_bus(systemd->dbus) && dbus_call(systemd->dbus, &match, &rule, NULL, NULL, NULL, err) < 0)
        return -1;
    return manager(systemd, "Subscribe", "", &nothing, NULL, err);
}

bool systemd_is_running(void)
{
    struct stat st;
    return lstat("/run/systemd/system", &st) == 0 && S_ISDIR(st.st_mode);
}

int systemd_open_at(const char *address, bool bus, int64_t timeout_ns, struct systemd **out, struct err *err)
{
    struct systemd *systemd = mem_new(struct systemd);
    if (dbus_open(address, geteuid(), bus, timeout_ns, &systemd->dbus, err) < 0 || subscribe(systemd, err) < 0) {
        systemd_close(systemd);
        return err_wrap(err, "systemd");
    }
    *out = systemd;
    return 0;
}

static int open_user(int64_t timeout_ns, struct systemd **out, struct err *err)
{
    _cleanup_buf_ struct buf address = BUF_INIT(8192);
    const char *session = getenv("DBUS_SESSION_BUS_ADDRESS"), *runtime = getenv("XDG_RUNTIME_DIR");
    if (!str_empty(session)) {
        buf_adds(&address, session);
    } else if (!str_empty(runtime)) {
        buf_adds(&address, "unix:path=");
        dbus_escape(runtime, &address);
        buf_adds(&address, "/bus");
    } else {
        return err_set(err, ERR_UNAVAILABLE,
                       "systemd: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR says where the user's bus is");
    }
    if (buf_check(&address, "D-Bus address", err) < 0 ||
        systemd_open_at(buf_text(&address), true, timeout_ns, out, err) < 0)
        return -1;
    (*out)->user = true;
    return 0;
}

int systemd_open(bool user, int64_t timeout_ns, struct systemd **out, struct err *err)
{
    const char *address = getenv("DBUS_SYSTEM_BUS_ADDRESS");
    if (user)
        return open_user(timeout_ns, out, err);
    if (str_empty(address))
        address = "unix:path=/run/dbus/system_bus_socket";
    struct err failed = { 0 };
    if (systemd_open_at(address, true, timeout_ns, out, &failed) == 0)
        return 0;
    if (geteuid() == 0 && systemd_open_at("unix:path=/run/systemd/private", false, timeout_ns, out, NULL) == 0)
        return 0;
    if (err)
        *err = failed;
    return -1;
}

void systemd_close(struct systemd *systemd)
{
    if (!systemd)
        return;
    dbus_close(systemd->dbus);
    free(systemd);
}

// ---- questions ------------------------------------------------------------------------------------------------------

// A property of text; *out points into the answer.
static int get_text(struct systemd *systemd, const char *path, const char *interface, const char *name,
                    const char **out, struct err *err)
{
    _cleanup_buf_ struct buf body = BUF_INIT(BODY_MAX);
    struct dbus_message reply;
    dbus_put_text(&body, interface);
    dbus_put_text(&body, name);
    if (call(systemd, path, PROPERTIES, "Get", "ss", &body, &reply, err) < 0)
        return -1;
    bool text = str_eq(reply.signature, "v") && str_eq(dbus_get_signature(&reply.body), "s");
    *out = dbus_get_text(&reply.body);
    if (!text || reply.body.failed)
        return err_set(err, ERR_INTERNAL, "systemd answers %s with something else than a text", name);
    return 0;
}

// "252.38-1~deb12u1", "v256"
int systemd_version(struct systemd *systemd)
{
    const char *text;
    uint64_t version;
    if (systemd->version || get_text(systemd, ROOT_PATH, MANAGER, "Version", &text, NULL) < 0)
        return systemd->version;
    while (*text && (*text < '0' || *text > '9'))
        text++;
    size_t digits = strspn(text, "0123456789");
    if (num_parse_u64((struct slice){ text, digits }, 100000, &version))
        systemd->version = (int)version;
    return systemd->version;
}

static int check_unit(const char *unit, struct err *err)
{
    size_t size = unit ? strlen(unit) : 0;
    bool suffix = size > 6 && (str_eq(unit + size - 6, ".scope") || str_eq(unit + size - 6, ".slice"));
    if (!suffix || size > UNIT_MAX || strchr(unit, '/'))
        return err_set(err, ERR_INVALID_ARGUMENT, "\"%.300s\" is no name of a scope or slice", unit ? unit : "");
    return 0;
}

static bool is_slice(const char *unit)
{
    return str_eq(unit + strlen(unit) - 6, ".slice");
}

int systemd_cgroup_path(struct systemd *systemd, const char *unit, char **out, struct err *err)
{
    _cleanup_buf_ struct buf body = BUF_INIT(BODY_MAX);
    struct dbus_message reply;
    if (check_unit(unit, err) < 0)
        return -1;
    dbus_put_text(&body, unit);
    if (manager(systemd, "GetUnit", "s", &body, &reply, err) < 0)
        return -1;
    _cleanup_free_ char *path = str_eq(reply.signature, "o") ? mem_strdup(dbus_get_text(&reply.body)) : NULL;
    const char *group;
    if (!path)
        return err_set(err, ERR_INTERNAL, "systemd answers GetUnit with something else than a path");
    if (get_text(systemd, path, is_slice(unit) ? DESTINATION ".Slice" : DESTINATION ".Scope", "ControlGroup", &group,
                 err) < 0)
        return -1;
    if (str_empty(group))
        return err_set(err, ERR_NOT_FOUND, "unit %s has no cgroup", unit);
    *out = mem_strdup(*group == '/' ? group + 1 : group);
    return 0;
}

// ---- jobs -----------------------------------------------------------------------------------------------------------

static const struct job *find_job(const struct systemd *systemd, const char *path)
{
    size_t kept = MIN_OF(systemd->job_len, (size_t)JOBS_MAX);
    for (size_t i = 0; i < kept; i++)
        if (str_eq(systemd->jobs[i].path, path))
            return &systemd->jobs[i];
    return NULL;
}

// A call that starts a job, and the end of that job.
static int run_job(struct systemd *systemd, const char *member, const char *signature, const struct buf *body,
                   const char *unit, struct err *err)
{
    struct dbus_message reply;
    char path[128];
    const struct job *job;
    systemd->job_len = 0;
    if (manager(systemd, member, signature, body, &reply, err) < 0)
        return -1;
    snprintf(path, sizeof(path), "%s", str_eq(reply.signature, "o") ? dbus_get_text(&reply.body) : "");
    while (!(job = find_job(systemd, path)))
        if (dbus_wait(systemd->dbus, note_job, systemd, err) < 0)
            return err_wrap(err, "%s %s", member, unit);
    if (!str_eq(job->result, "done"))
        return err_set(err, ERR_UNAVAILABLE, "%s %s: systemd says \"%s\"", member, unit, job->result);
    return 0;
}

static void reset_failed(struct systemd *systemd, const char *unit)
{
    _cleanup_buf_ struct buf body = BUF_INIT(BODY_MAX);
    dbus_put_text(&body, unit);
    manager(systemd, "ResetFailedUnit", "s", &body, NULL, NULL);
}

static void put_pid(struct buf *body, pid_t pid)
{
    dbus_put_struct(body);
    dbus_put_text(body, "PIDs");
    dbus_put_signature(body, "au");
    size_t array = dbus_open_array(body, 4);
    dbus_put_u32(body, (uint32_t)pid);
    dbus_close_array(body, array, 4);
}

// A slice hangs on its parent by a dependency, a scope lies in its slice and is the caller's to divide.
static void put_place(struct buf *body, const struct systemd_scope *scope, const char *slice)
{
    if (!is_slice(scope->unit)) {
        systemd_put_text(body, "Slice", slice);
        systemd_put_flag(body, "Delegate", true);
        return;
    }
    dbus_put_struct(body);
    dbus_put_text(body, "Wants");
    dbus_put_signature(body, "as");
    size_t array = dbus_open_array(body, 4);
    dbus_put_text(body, slice);
    dbus_close_array(body, array, 4);
}

static void put_more(struct buf *body, const struct systemd_scope *scope)
{
    for (size_t i = 0; i < scope->more_len; i++) {
        const struct systemd_property *property = &scope->more[i];
        switch (property->kind) {
        case SYSTEMD_TEXT:
            systemd_put_text(body, property->name, property->text);
            break;
        case SYSTEMD_FLAG:
            systemd_put_flag(body, property->name, property->number);
            break;
        case SYSTEMD_U64:
            systemd_put_u64(body, property->name, property->number);
            break;
        }
    }
}

static void put_accounting(struct buf *body)
{
    static const char *const names[] = { "MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting" };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        systemd_put_flag(body, names[i], true);
}

// How systemd ends all of a scope's processes when one of them runs out of memory: only when it is made (v253).
static void put_oom_policy(struct buf *body, const struct cgroup_limits *limits, int version)
{
    for (size_t i = 0; limits && version >= 253 && i < limits->unified_len; i++)
        if (str_eq(limits->unified[i].file, "memory.oom.group"))
            systemd_put_text(body, "OOMPolicy", str_eq(limits->unified[i].value, "1") ? "kill" : "continue");
}

static int put_start(struct systemd *systemd, const struct systemd_scope *scope, struct buf *body, struct err *err)
{
    const char *slice = scope->slice ? scope->slice : systemd->user ? "user.slice" : "system.slice";
    int version = systemd_version(systemd);
    dbus_put_text(body, scope->unit);
    dbus_put_text(body, "replace");
    size_t properties = dbus_open_array(body, 8);
    systemd_put_text(body, "Description", scope->description ? scope->description : scope->unit);
    put_place(body, scope, slice);
    if (scope->pid > 0)
        put_pid(body, scope->pid);
    put_accounting(body);
    systemd_put_flag(body, "DefaultDependencies", false);
    put_oom_policy(body, scope->limits, version);
    if (scope->limits && systemd_put_limits(body, scope->version, scope->limits, version, err) < 0)
        return -1;
    put_more(body, scope);
    dbus_close_array(body, properties, 8);
    dbus_close_array(body, dbus_open_array(body, 8), 8); // no further units
    return 0;
}

int systemd_start(struct systemd *systemd, const struct systemd_scope *scope, struct err *err)
{
    _cleanup_buf_ struct buf body = BUF_INIT(BODY_MAX);
    struct err failed = { 0 };
    if (check_unit(scope->unit, err) < 0 || put_start(systemd, scope, &body, err) < 0)
        return -1;
    int result = run_job(systemd, "StartTransientUnit", "ssa(sv)a(sa(sv))", &body, scope->unit, &failed);
    if (result < 0 && failed.class == ERR_CONFLICT) { // a failed unit of that name, perhaps
        reset_failed(systemd, scope->unit);
        failed = (struct err){ 0 };
        result = run_job(systemd, "StartTransientUnit", "ssa(sv)a(sa(sv))", &body, scope->unit, &failed);
    } else if (result < 0) {
        reset_failed(systemd, scope->unit);
    }
    if (result < 0 && err)
        *err = failed;
    return result;
}

int systemd_update(struct systemd *systemd, const char *unit, enum cgroup_version version,
                   const struct cgroup_limits *limits, struct err *err)
{
    _cleanup_buf_ struct buf body = BUF_INIT(BODY_MAX);
    if (check_unit(unit, err) < 0)
        return -1;
    dbus_put_text(&body, unit);
    dbus_put_flag(&body, true); // only until the next boot
    size_t properties = dbus_open_array(&body, 8);
    if (systemd_put_limits(&body, version, limits, systemd_version(systemd), err) < 0)
        return -1;
    dbus_close_array(&body, properties, 8);
    return manager(systemd, "SetUnitProperties", "sba(sv)", &body, NULL, err);
}

int systemd_stop(struct systemd *systemd, const char *unit, struct err *err)
{
    _cleanup_buf_ struct buf body = BUF_INIT(BODY_MAX);
    struct err failed = { 0 };
    if (check_unit(unit, err) < 0)
        return -1;
    dbus_put_text(&body, unit);
    dbus_put_text(&body, "replace");
    int result = run_job(systemd, "StopUnit", "ss", &body, unit, &failed);
    if (result < 0 && failed.class == ERR_NOT_FOUND)
        return 0;
    reset_failed(systemd, unit); // lets systemd forget one that failed
    if (result < 0 && err)
        *err = failed;
    return result;
}

// ---- names ----------------------------------------------------------------------------------------------------------

int systemd_slice_path(const char *slice, char **out, struct err *err)
{
    size_t size = slice ? strlen(slice) : 0;
    if (size <= 6 || size > UNIT_MAX || !str_eq(slice + size - 6, ".slice") || strchr(slice, '/'))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid slice name: %.300s", slice ? slice : "");
    _cleanup_buf_ struct buf path = BUF_INIT(UNIT_MAX * UNIT_MAX);
    struct slice name = { slice, size - 6 }, rest = name, part;
    if (slice_eq(name, "-")) {
        *out = mem_strdup("");
        return 0;
    }
    while (slice_cut(&rest, '-', &part)) {
        if (part.size == 0)
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid slice name: %s", slice);
        size_t until = (size_t)(part.data + part.size - slice);
        buf_addf(&path, "%s%.*s.slice", path.size ? "/" : "", (int)until, slice);
    }
    *out = buf_take(&path);
    return 0;
}
