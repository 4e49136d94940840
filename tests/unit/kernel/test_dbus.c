// The D-Bus client: bytes, a made-up bus that answers and misbehaves, dbus-daemon, and this machine's systemd where it runs.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/num.h"
#include "kernel/dbus.h"
#include "kernel/systemd.h"

static void must(int result, struct err *err)
{
    if (result < 0)
        fail_msg("%s", err->message);
}

// ---- bytes ----------------------------------------------------------------------------------------------------------

// The specification's own shape: head, fields from byte 16 on, each at 8, the body at 8.
static void test_call_bytes(void **state)
{
    static const uint8_t want[] = {
        'l', 1, 0, 1, 12, 0, 0, 0, 7, 0, 0, 0, 40, 0, 0, 0, // body of 12 bytes, serial 7, fields of 40
        1, 1, 'o', 0, 2, 0, 0, 0, '/', 'a', 0, 0, 0, 0, 0, 0, // path
        3, 1, 's', 0, 4, 0, 0, 0, 'P', 'i', 'n', 'g', 0, 0, 0, 0, // member
        8, 1, 'g', 0, 2, 's', 'u', 0, // signature
        2, 0, 0, 0, 'h', 'i', 0, 0, 4, 3, 2, 1,
    };
    _cleanup_buf_ struct buf body = BUF_INIT(100), out = BUF_INIT(1000);
    struct err err = { 0 };
    dbus_put_text(&body, "hi"); // 4 + 3 bytes and one of padding
    dbus_put_u32(&body, 0x01020304);
    const struct dbus_call call = { .path = "/a", .member = "Ping", .signature = "su" };
    must(dbus_write_call(&call, 7, &body, &out, &err), &err);
    assert_int_equal(body.size, 12);
    assert_int_equal(out.size, sizeof(want));
    assert_memory_equal(out.data, want, sizeof(want));
}

static void test_call_read_back(void **state)
{
    _cleanup_buf_ struct buf body = BUF_INIT(1000), out = BUF_INIT(2000);
    struct err err = { 0 };
    struct dbus_message message;
    dbus_put_flag(&body, true);
    dbus_put_text(&body, "text");
    size_t array = dbus_open_array(&body, 8);
    dbus_put_struct(&body);
    dbus_put_text(&body, "Name");
    dbus_put_signature(&body, "t");
    dbus_put_u64(&body, UINT64_C(0x1122334455667788));
    dbus_close_array(&body, array, 8);
    const struct dbus_call call = { "org.x", "/org/x", "org.x.I", "Member", "bsa(sv)" };
    must(dbus_write_call(&call, 99, &body, &out, &err), &err);
    assert_int_equal(dbus_message_size((const uint8_t *)out.data), out.size);
    must(dbus_message_parse((const uint8_t *)out.data, out.size, &message, &err), &err);
    assert_int_equal(message.type, DBUS_METHOD_CALL);
    assert_int_equal(message.serial, 99);
    assert_string_equal(message.path, "/org/x");
    assert_string_equal(message.interface, "org.x.I");
    assert_string_equal(message.member, "Member");
    assert_string_equal(message.signature, "bsa(sv)");
    assert_int_equal(dbus_get_u32(&message.body), 1);
    assert_string_equal(dbus_get_text(&message.body), "text");
    assert_true(dbus_get_u32(&message.body) >= 24);
    assert_false(message.body.failed);
    for (size_t size = 0; size < out.size; size++)
        assert_int_equal(dbus_message_parse((const uint8_t *)out.data, size, &message, &err), -1);
}

static void test_big_endian(void **state)
{
    static const uint8_t bytes[] = {
        'B', 2, 1, 1, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 15, // a return, body of 8, serial 9, fields of 15
        5, 1, 'u', 0, 0, 0, 0, 77, // answers 77
        8, 1, 'g', 0, 1, 's', 0, 0,
        0, 0, 0, 3, 'a', 'b', 'c', 0,
    };
    struct dbus_message message;
    struct err err = { 0 };
    must(dbus_message_parse(bytes, sizeof(bytes), &message, &err), &err);
    assert_int_equal(message.type, DBUS_METHOD_RETURN);
    assert_int_equal(message.reply_serial, 77);
    assert_string_equal(dbus_get_text(&message.body), "abc");
}

static void test_nonsense(void **state)
{
    struct dbus_message message;
    struct err err = { 0 };
    uint8_t bytes[24] = { 'l', 2, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 5, 1, 'u', 0, 1, 0, 0, 0 };
    must(dbus_message_parse(bytes, sizeof(bytes), &message, &err), &err);
    static const struct {
        size_t at;
        uint8_t value;
    } breaks[] = {
        { 0, 'x' }, { 3, 2 }, { 4, 1 }, { 7, 0xff }, { 12, 0xff }, { 15, 0x7f }, // head
        { 17, 200 }, { 18, 's' }, { 18, 'v' }, { 17, 0 }, { 18, '(' }, // field
    };
    for (size_t i = 0; i < ARRAY_LEN(breaks); i++) {
        uint8_t broken[24];
        memcpy(broken, bytes, 24);
        broken[breaks[i].at] = breaks[i].value;
        if (dbus_message_parse(broken, 24, &message, &err) == 0)
            fail_msg("byte %zu as %u", breaks[i].at, breaks[i].value);
    }
    struct dbus_reader reader = { .data = bytes, .size = 4 };
    dbus_get_text(&reader);
    assert_true(reader.failed && dbus_get_u32(&reader) == 0);
}

// ---- a made-up bus --------------------------------------------------------------------------------------------------

enum answer { GOOD, SILENT, CLOSES, REFUSES_LOGIN, LONG_GREETING, NONSENSE, HUGE, FLOOD, JOB_FAILS, EXISTS_ONCE, EXISTS, EARLY_SIGNAL };

struct fake {
    char dir[64], address[128];
    pid_t pid;
    struct err err;
};

// Bytes that our own writer makes of calls, turned into answers: type, and member become what is asked for.
static void put_head_field(struct buf *out, uint8_t field, const char *signature, const char *text, uint32_t number)
{
    dbus_put_struct(out);
    dbus_put_u8(out, field);
    dbus_put_signature(out, signature);
    if (*signature == 'u')
        dbus_put_u32(out, number);
    else if (*signature == 'g')
        dbus_put_signature(out, text);
    else
        dbus_put_text(out, text);
}

static void answer(int fd, uint8_t type, uint32_t to, const char *name, const char *signature, const struct buf *body)
{
    _cleanup_buf_ struct buf out = BUF_INIT(65536);
    const uint8_t head[4] = { 'l', type, 1, 1 };
    buf_add(&out, head, 4);
    dbus_put_u32(&out, (uint32_t)body->size);
    dbus_put_u32(&out, 1);
    size_t fields = dbus_open_array(&out, 8);
    if (type == DBUS_SIGNAL) {
        put_head_field(&out, 1, "o", "/org/freedesktop/systemd1", 0);
        put_head_field(&out, 2, "s", "org.freedesktop.systemd1.Manager", 0);
        put_head_field(&out, 3, "s", name, 0);
    } else {
        put_head_field(&out, 5, "u", NULL, to);
        put_head_field(&out, 9, "u", NULL, 3); // a field of a later version
    }
    if (type == DBUS_ERROR)
        put_head_field(&out, 4, "s", name, 0);
    if (*signature)
        put_head_field(&out, 8, "g", signature, 0);
    dbus_close_array(&out, fields, 8);
    while (out.size % 8)
        dbus_put_u8(&out, 0);
    if (body->size)
        buf_add(&out, body->data, body->size);
    if (write(fd, out.data, out.size) < 0)
        _exit(1);
}

static void job_removed(int fd, const char *job, const char *result)
{
    _cleanup_buf_ struct buf body = BUF_INIT(1000);
    dbus_put_u32(&body, 5);
    dbus_put_text(&body, job);
    dbus_put_text(&body, "x.scope");
    dbus_put_text(&body, result);
    answer(fd, DBUS_SIGNAL, 0, "JobRemoved", "uoss", &body);
}

static void answer_job(int fd, uint32_t serial, enum answer how)
{
    _cleanup_buf_ struct buf body = BUF_INIT(1000);
    if (how == EARLY_SIGNAL)
        job_removed(fd, "/job/1", "done");
    dbus_put_text(&body, "/job/1");
    answer(fd, DBUS_METHOD_RETURN, serial, NULL, "o", &body);
    job_removed(fd, "/job/0", "failed"); // somebody else's
    if (how != EARLY_SIGNAL)
        job_removed(fd, "/job/1", how == JOB_FAILS ? "failed" : "done");
}

static void answer_call(int fd, const struct dbus_message *call, enum answer how, int *starts)
{
    _cleanup_buf_ struct buf body = BUF_INIT(1000);
    bool start = str_eq(call->member, "StartTransientUnit"), stop = str_eq(call->member, "StopUnit");
    bool conflict = start && (how == EXISTS || (how == EXISTS_ONCE && (*starts)++ == 0));
    if (conflict) {
        dbus_put_text(&body, "Unit x.scope already exists.");
        answer(fd, DBUS_ERROR, call->serial, "org.freedesktop.systemd1.UnitExists", "s", &body);
    } else if (start || stop) {
        answer_job(fd, call->serial, how);
    } else if (str_eq(call->member, "Get")) {
        dbus_put_signature(&body, "s");
        dbus_put_text(&body, strstr(call->path, "/unit/") ? "/system.slice/x.scope" : "252.38-1~deb12u1");
        answer(fd, DBUS_METHOD_RETURN, call->serial, NULL, "v", &body);
    } else if (str_eq(call->member, "GetUnit")) {
        dbus_put_text(&body, "/org/freedesktop/systemd1/unit/x_2escope");
        answer(fd, DBUS_METHOD_RETURN, call->serial, NULL, "o", &body);
    } else {
        dbus_put_text(&body, ":1.1");
        answer(fd, DBUS_METHOD_RETURN, call->serial, NULL, "s", &body);
    }
}

static void serve_calls(int fd, enum answer how)
{
    uint8_t bytes[65536];
    struct dbus_message call;
    int starts = 0;
    for (;;) {
        struct err err = { 0 };
        if (fd_read_full(fd, bytes, DBUS_HEAD_SIZE, &err) != DBUS_HEAD_SIZE)
            return;
        size_t size = dbus_message_size(bytes);
        if (size == 0 || size > sizeof(bytes) || fd_read_full(fd, bytes + DBUS_HEAD_SIZE, size - DBUS_HEAD_SIZE, &err) < 0 ||
            dbus_message_parse(bytes, size, &call, &err) < 0)
            _exit(1);
        if (how == NONSENSE && write(fd, "this is no D-Bus message at all", 31) < 0)
            _exit(1);
        if (how == HUGE && write(fd, "l\2\0\1\xff\xff\xff\x07\1\0\0\0\0\0\0\0", 16) < 0)
            _exit(1);
        while (how == FLOOD)
            job_removed(fd, "/job/7", "done");
        if (how == SILENT)
            pause();
        if (how == CLOSES)
            return;
        answer_call(fd, &call, how, &starts);
    }
}

static void serve(int listener, enum answer how)
{
    char line[600];
    size_t size = 0;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    while (size < sizeof(line) - 1 && (size == 0 || line[size - 1] != '\n') && read(fd, line + size, 1) == 1)
        size++;
    line[size] = '\0';
    char hex[40], digits[16], want[100];
    int len = snprintf(digits, sizeof(digits), "%u", geteuid());
    hex_encode(digits, (size_t)len, hex);
    snprintf(want, sizeof(want), "AUTH EXTERNAL %s\r\n", hex);
    if (line[0] != '\0' || !str_eq(line + 1, want))
        _exit(1);
    static char zeros[2000];
    memset(zeros, 'x', sizeof(zeros));
    const char *reply = how == REFUSES_LOGIN ? "REJECTED EXTERNAL\r\n" : "OK 0123456789abcdef\r\n";
    if (how == LONG_GREETING ? write(fd, zeros, sizeof(zeros)) < 0 : write(fd, reply, strlen(reply)) < 0)
        _exit(1);
    struct err err = { 0 };
    if (how == REFUSES_LOGIN || how == LONG_GREETING || fd_read_full(fd, line, 7, &err) != 7 || memcmp(line, "BEGIN\r\n", 7) != 0)
        _exit(0);
    serve_calls(fd, how);
}

static void fake_start(struct fake *fake, enum answer how)
{
    *fake = (struct fake){ .pid = -1 };
    snprintf(fake->dir, sizeof(fake->dir), "/tmp/berth dbus-XXXXXX"); // a blank, which addresses escape
    assert_non_null(mkdtemp(fake->dir));
    _cleanup_buf_ struct buf path = BUF_INIT(100);
    dbus_escape(fake->dir, &path);
    snprintf(fake->address, sizeof(fake->address), "tcp:host=x;unix:path=%s/bus,guid=1", buf_text(&path));
    _cleanup_close_ int dir = file_open_dir(AT_FDCWD, fake->dir, &fake->err);
    _cleanup_close_ int listener = fd_unix_listen_at(dir, "bus", &fake->err);
    assert_true(listener >= 0);
    fake->pid = fork();
    if (fake->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGPIPE, SIG_DFL);
        fd_set_nonblock(listener, false, NULL);
        serve(listener, how);
        _exit(0);
    }
}

static void fake_stop(struct fake *fake)
{
    kill(fake->pid, SIGKILL);
    waitpid(fake->pid, NULL, 0);
    must(file_remove_tree(AT_FDCWD, fake->dir, &fake->err), &fake->err);
}

static const struct cgroup_limits some = { .memory_limit = 64 << 20, .memory_swap = 128 << 20, .cpu_shares = 512, .pids_limit = 20 };

// One life of a scope on a bus that behaves so. Says how far it got.
static int run(enum answer how, struct err *err)
{
    struct fake fake;
    struct systemd *systemd = NULL;
    int steps = 0;
    const struct systemd_scope scope = { .unit = "x.scope", .pid = getpid(), .version = CGROUP_V2, .limits = &some };
    fake_start(&fake, how);
    if (systemd_open_at(fake.address, true, NS_PER_S / 2, &systemd, err) == 0) {
        char *path = NULL;
        steps++;
        if (systemd_start(systemd, &scope, err) == 0 && ++steps &&
            systemd_update(systemd, "x.scope", CGROUP_V2, &some, err) == 0 && ++steps &&
            systemd_cgroup_path(systemd, "x.scope", &path, err) == 0 && str_eq(path, "system.slice/x.scope") && ++steps &&
            systemd_version(systemd) == 252 && systemd_stop(systemd, "x.scope", err) == 0)
            steps++;
        free(path);
    }
    systemd_close(systemd);
    fake_stop(&fake);
    return steps;
}

static void test_fake_bus(void **state)
{
    static const struct {
        enum answer how;
        int steps;
        enum err_class class;
        const char *says;
    } cases[] = {
        { GOOD, 5, ERR_NONE, "" },
        { EARLY_SIGNAL, 5, ERR_NONE, "" },
        { EXISTS_ONCE, 5, ERR_NONE, "" },
        { EXISTS, 1, ERR_CONFLICT, "org.freedesktop.systemd1.UnitExists: Unit x.scope already exists." },
        { JOB_FAILS, 1, ERR_UNAVAILABLE, "StartTransientUnit x.scope: systemd says \"failed\"" },
        { SILENT, 0, ERR_UNAVAILABLE, "no answer within 500 ms" },
        { FLOOD, 0, ERR_UNAVAILABLE, "no answer within 500 ms" },
        { CLOSES, 0, ERR_UNAVAILABLE, "closed the connection" },
        { REFUSES_LOGIN, 0, ERR_PERMISSION_DENIED, "REJECTED EXTERNAL" },
        { LONG_GREETING, 0, ERR_INVALID_ARGUMENT, "greeting is too long" },
        { NONSENSE, 0, ERR_INVALID_ARGUMENT, "sends nonsense" },
        { HUGE, 0, ERR_INVALID_ARGUMENT, "sends nonsense" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = { 0 };
        int64_t start = clock_mono_ns();
        int steps = run(cases[i].how, &err);
        if (steps != cases[i].steps || err.class != cases[i].class || !strstr(err.message, cases[i].says))
            fail_msg("case %zu: %d steps, %s: %s", i, steps, err_class_name(err.class), err.message);
        assert_true(clock_mono_ns() - start < 10 * NS_PER_S);
    }
}

static void test_addresses(void **state)
{
    static const char *const bad[] = { "", "x", "tcp:host=1", "unix:", "unix:path=", "unix:path=%4", "unix:path=/nonexistent/bus",
                                       "unix:abstract=berth-nobody-is-here" };
    struct dbus *dbus;
    struct err err = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (dbus_open(bad[i], geteuid(), true, NS_PER_S, &dbus, &err) == 0 || err.class == ERR_NONE)
            fail_msg("%s", bad[i]);
}

// ---- names and numbers ----------------------------------------------------------------------------------------------

static void test_names(void **state)
{
    static const struct {
        const char *slice, *path; // NULL: refused
    } cases[] = {
        { "system.slice", "system.slice" }, { "a-b-c.slice", "a.slice/a-b.slice/a-b-c.slice" }, { "-.slice", "" }, { ".slice", NULL },
        { "a--b.slice", NULL }, { "-a.slice", NULL }, { "a-.slice", NULL }, { "a/b.slice", NULL }, { "a.scope", NULL }, { "", NULL },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_free_ char *path = NULL;
        int result = systemd_slice_path(cases[i].slice, &path, NULL);
        if ((result < 0) != !cases[i].path || (path && !str_eq(path, cases[i].path)))
            fail_msg("%s: %s", cases[i].slice, path ? path : "refused");
    }
    assert_int_equal(systemd_cpu_quota(50000, 100000), 50000);
    assert_int_equal(systemd_cpu_quota(33333, 100000), 34000);
    assert_int_equal(systemd_cpu_quota(-1, 0), -1);
    assert_int_equal(systemd_cpu_quota(0, 1000), 0);
    assert_int_equal(systemd_cpu_quota(1001, 0), 2000);
}

// ---- dbus-daemon ----------------------------------------------------------------------------------------------------

static bool owner_changed(const struct dbus_message *signal, void *context)
{
    struct dbus_reader body = signal->body;
    return str_eq(signal->member, "NameOwnerChanged") && str_eq(dbus_get_text(&body), context);
}

static int bus_call(struct dbus *dbus, const char *member, const char *signature, const struct buf *body,
                    struct dbus_message *reply, struct err *err)
{
    const struct dbus_call call = { "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", member, signature };
    return dbus_call(dbus, &call, body, NULL, NULL, reply, err);
}

static void talk(const char *address)
{
    _cleanup_buf_ struct buf nothing = BUF_INIT(0), body = BUF_INIT(1000), unknown = BUF_INIT(1000), match = BUF_INIT(1000);
    struct dbus *dbus = NULL, *other = NULL;
    struct dbus_message reply;
    struct err err = { 0 };
    must(dbus_open(address, geteuid(), true, 5 * NS_PER_S, &dbus, &err), &err);
    must(bus_call(dbus, "GetId", "", &nothing, &reply, &err), &err);
    assert_string_equal(reply.signature, "s");
    assert_int_equal(strlen(dbus_get_text(&reply.body)), 32);
    dbus_put_text(&body, "org.berth.Test");
    dbus_put_u32(&body, 0);
    dbus_put_text(&match, "type='signal',member='NameOwnerChanged'");
    must(bus_call(dbus, "AddMatch", "s", &match, NULL, &err), &err);
    must(dbus_open(address, geteuid(), true, 5 * NS_PER_S, &other, &err), &err);
    must(bus_call(other, "RequestName", "su", &body, &reply, &err), &err);
    assert_int_equal(dbus_get_u32(&reply.body), 1);
    must(dbus_wait(dbus, owner_changed, (void *)(uintptr_t)"org.berth.Test", &err), &err);
    dbus_close(other);
    dbus_put_text(&unknown, "org.nobody");
    assert_int_equal(bus_call(dbus, "GetNameOwner", "s", &unknown, &reply, &err), -1);
    assert_non_null(strstr(err.message, "org.freedesktop.DBus.Error.NameHasNoOwner"));
    assert_int_equal(bus_call(dbus, "GetNameOwner", "u", &body, &reply, &err), -1); // and the connection lives on
    dbus_close(dbus);
    assert_int_equal(dbus_open(address, geteuid() + 1, true, 5 * NS_PER_S, &dbus, &err), -1); // we are not that user
}

static void test_dbus_daemon(void **state)
{
    char dir[] = "/tmp/berth-bus-XXXXXX", address[100], argument[120];
    struct err err = { 0 };
    pid_t pid;
    assert_non_null(mkdtemp(dir));
    snprintf(address, sizeof(address), "unix:path=%s/bus", dir);
    snprintf(argument, sizeof(argument), "--address=%s", address);
    if (access("/usr/bin/dbus-daemon", X_OK) < 0) {
        print_message("skipped: dbus-daemon is not installed\n");
        rmdir(dir);
        return;
    }
    pid = fork();
    if (pid == 0) { // ends with us, and keeps no one waiting for our output
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(null, 1);
        dup2(null, 2);
        execl("/usr/bin/dbus-daemon", "dbus-daemon", "--session", "--nofork", "--nopidfile", argument, NULL);
        _exit(1);
    }
    struct dbus *dbus = NULL;
    for (int i = 0; i < 200 && dbus_open(address, geteuid(), true, NS_PER_S, &dbus, &err) < 0; i++)
        usleep(25000);
    if (!dbus)
        fail_msg("%s", err.message);
    dbus_close(dbus);
    talk(address);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    must(file_remove_tree(AT_FDCWD, dir, &err), &err);
}

// ---- systemd itself -------------------------------------------------------------------------------------------------

static void file_says(const char *group, const char *file, const char *want)
{
    char path[300];
    struct err err = { 0 };
    _cleanup_buf_ struct buf text = BUF_INIT(1000);
    snprintf(path, sizeof(path), "/sys/fs/cgroup/%s/%s", group, file);
    must(file_read_at(AT_FDCWD, path, &text, &err), &err);
    if (!str_eq(buf_text(&text), want))
        fail_msg("%s: \"%s\", not \"%s\"", path, buf_text(&text), want);
}

static void scope_life(struct systemd *systemd, bool user)
{
    static const struct cgroup_setting settings[] = { { "memory.high", "33554432" } };
    static const struct cgroup_device_rule rules[] = { { .type = 'a' }, { .allow = true, .type = 'c', .major = 1, .minor = -1, .access = "rwm" },
                                                       { .allow = true, .type = 'c', .major = 5, .minor = 2, .access = "rw" } };
    static const struct systemd_property more[] = { { .name = "TimeoutStopUSec", .kind = SYSTEMD_U64, .number = 2000000 },
                                                    { .name = "CollectMode", .kind = SYSTEMD_TEXT, .text = "inactive-or-failed" } };
    const struct cgroup_limits first = { .memory_limit = 64 << 20, .memory_swap = 64 << 20, .cpu_shares = 512, .pids_limit = 20,
                                         .unified = settings, .unified_len = 1, .devices = user ? NULL : rules, .device_len = user ? 0 : 3 };
    const struct cgroup_limits second = { .memory_limit = 96 << 20, .cpu_quota = 33333, .cpu_period = 100000, .pids_limit = -1, .cpuset_cpus = user ? "" : "0" };
    struct err err = { 0 };
    char unit[64];
    _cleanup_free_ char *path = NULL;
    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            pause();
    snprintf(unit, sizeof(unit), "berth-test-%d.scope", (int)pid);
    const struct systemd_scope scope = { .unit = unit, .slice = user ? NULL : "berth-test.slice", .description = "a test", .pid = pid,
                                         .version = CGROUP_V2, .limits = &first, .more = more, .more_len = 2 };
    must(systemd_start(systemd, &scope, &err), &err);
    must(systemd_cgroup_path(systemd, unit, &path, &err), &err);
    print_message("systemd %d: %s\n", systemd_version(systemd), path);
    char member[32];
    snprintf(member, sizeof(member), "%d\n", (int)pid);
    file_says(path, "cgroup.procs", member);
    file_says(path, "memory.max", "67108864\n");
    file_says(path, "memory.high", "33554432\n");
    file_says(path, "pids.max", "20\n");
    if (!user)
        file_says(path, "cpu.weight", "59\n");
    assert_int_equal(systemd_start(systemd, &scope, &err), -1); // it lives
    assert_int_equal(err.class, ERR_CONFLICT);
    must(systemd_update(systemd, unit, CGROUP_V2, &second, &err), &err);
    file_says(path, "memory.max", "100663296\n");
    file_says(path, "pids.max", "max\n");
    if (!user) {
        file_says(path, "cpu.max", "34000 100000\n");
        file_says(path, "cpuset.cpus", "0\n");
    }
    must(systemd_stop(systemd, unit, &err), &err);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    must(systemd_stop(systemd, unit, &err), &err); // no longer there: fine
    assert_int_equal(systemd_cgroup_path(systemd, unit, &path, &err), -1);
    assert_int_equal(err.class, ERR_NOT_FOUND);
}

static void test_systemd(void **state)
{
    struct cgroup_layout layout;
    struct systemd *systemd = NULL;
    struct err err = { 0 };
    bool user = geteuid() != 0;
    cgroup_layout_probe(&layout);
    if (!systemd_is_running() || layout.version != CGROUP_V2) {
        print_message("skipped: needs systemd and cgroup v2\n");
        return;
    }
    must(systemd_open(user, 20 * NS_PER_S, &systemd, &err), &err);
    scope_life(systemd, user);
    systemd_close(systemd);
    if (user)
        return;
    must(systemd_open_at("unix:path=/run/systemd/private", false, 20 * NS_PER_S, &systemd, &err), &err);
    scope_life(systemd, false);
    systemd_close(systemd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_call_bytes), cmocka_unit_test(test_call_read_back), cmocka_unit_test(test_big_endian),
        cmocka_unit_test(test_nonsense),   cmocka_unit_test(test_fake_bus),       cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_names),      cmocka_unit_test(test_dbus_daemon),    cmocka_unit_test(test_systemd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
