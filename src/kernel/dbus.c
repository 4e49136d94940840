#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/num.h"
#include "base/slice.h"
#include "kernel/dbus.h"

#define LINE_MAX_SIZE 512 // of the greeting

struct dbus {
    int fd;
    bool bus;
    uint32_t serial;
    int64_t timeout_ns;
    struct buf in; // what arrived; the message that was handed out is its first `used` bytes
    size_t used;
};

// ---- bytes with a time limit ----------------------------------------------------------------------------------------

static int wait_for(struct dbus *dbus, short events, int64_t deadline, struct err *err)
{
    for (;;) {
        int64_t left = deadline - clock_mono_ns();
        struct pollfd wait = { .fd = dbus->fd, .events = events };
        int got = left <= 0 ? 0 : poll(&wait, 1, (int)(left / NS_PER_MS) + 1);
        if (got > 0)
            return 0;
        if (got == 0)
            return err_set(err, ERR_UNAVAILABLE, "D-Bus: no answer within %lld ms",
                           (long long)(dbus->timeout_ns / NS_PER_MS));
        if (errno != EINTR)
            return err_errno(err, errno, "D-Bus: poll");
    }
}

static int send_all(struct dbus *dbus, const char *data, size_t size, int64_t deadline, struct err *err)
{
    while (size > 0) {
        ssize_t sent = send(dbus->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return err_errno(err, errno, "D-Bus: send");
        if (sent < 0 && wait_for(dbus, POLLOUT, deadline, err) < 0)
            return -1;
        data += sent > 0 ? sent : 0;
        size -= sent > 0 ? (size_t)sent : 0;
    }
    return 0;
}

// Some more bytes into dbus->in.
static int receive(struct dbus *dbus, int64_t deadline, struct err *err)
{
    if (wait_for(dbus, POLLIN, deadline, err) < 0)
        return -1;
    char chunk[4096];
    ssize_t got = recv(dbus->fd, chunk, sizeof(chunk), MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got == 0)
        return err_set(err, ERR_UNAVAILABLE, "D-Bus: the other end closed the connection");
    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : err_errno(err, errno, "D-Bus: receive");
    buf_add(&dbus->in, chunk, (size_t)got);
    return buf_check(&dbus->in, "D-Bus message", err);
}

// ---- the greeting ---------------------------------------------------------------------------------------------------

static int read_line(struct dbus *dbus, int64_t deadline, char line[LINE_MAX_SIZE], struct err *err)
{
    const char *end;
    while (!dbus->in.size || !(end = memchr(dbus->in.data, '\n', dbus->in.size))) {
        if (dbus->in.size >= LINE_MAX_SIZE)
            return err_set(err, ERR_INVALID_ARGUMENT, "D-Bus: the greeting is too long");
        if (receive(dbus, deadline, err) < 0)
            return -1;
    }
    size_t size = (size_t)(end - dbus->in.data);
    if (size >= LINE_MAX_SIZE)
        return err_set(err, ERR_INVALID_ARGUMENT, "D-Bus: the greeting is too long");
    memcpy(line, dbus->in.data, size);
    line[size] = '\0';
    buf_consume(&dbus->in, size + 1);
    return 0;
}

// The zero byte first, then SASL's EXTERNAL: the socket itself says who we are. BEGIN goes along, as systemd's own client
// does it: systemd does not look at a message that it reads in one with BEGIN before more arrives.
static int greet(struct dbus *dbus, uid_t uid, int64_t deadline, struct err *err)
{
    char digits[16], hex[40], text[80] = { '\0' }, line[LINE_MAX_SIZE];
    int size = snprintf(digits, sizeof(digits), "%u", (unsigned)uid);
    hex_encode(digits, (size_t)size, hex);
    size = snprintf(text + 1, sizeof(text) - 1, "AUTH EXTERNAL %s\r\nBEGIN\r\n", hex);
    if (send_all(dbus, text, (size_t)size + 1, deadline, err) < 0 || read_line(dbus, deadline, line, err) < 0)
        return -1;
    if (!slice_starts(slice_of(line), "OK "))
        return err_set(err, ERR_PERMISSION_DENIED, "D-Bus: not let in as user %u: %.100s", (unsigned)uid, line);
    return 0;
}

// ---- addresses ------------------------------------------------------------------------------------------------------

static bool is_plain(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c && strchr("-_/.\\*", c));
}

void dbus_escape(const char *text, struct buf *out)
{
    for (; *text; text++) {
        if (is_plain(*text))
            buf_addc(out, *text);
        else
            buf_addf(out, "%%%02x", (unsigned char)*text);
    }
}

static bool unescape(struct slice text, char *out, size_t room, size_t *size)
{
    *size = 0;
    for (size_t i = 0; i < text.size; i++) {
        uint64_t byte = (unsigned char)text.data[i];
        if (*size + 1 >= room)
            return false;
        if (byte == '%') {
            if (text.size - i < 3 || !num_parse_hex((struct slice){ text.data + i + 1, 2 }, &byte))
                return false;
            i += 2;
        }
        out[(*size)++] = (char)byte;
    }
    out[*size] = '\0';
    return true;
}

// "unix:path=/run/dbus/system_bus_socket,guid=..."
static bool parse_address(struct slice text, struct sockaddr_un *out, socklen_t *len)
{
    struct slice item, key;
    if (!slice_starts(text, "unix:"))
        return false;
    text = (struct slice){ text.data + 5, text.size - 5 };
    while (slice_cut(&text, ',', &item)) {
        size_t size;
        if (!slice_cut(&item, '=', &key) || !item.data || (!slice_eq(key, "path") && !slice_eq(key, "abstract")))
            continue;
        bool abstract = slice_eq(key, "abstract");
        *out = (struct sockaddr_un){ .sun_family = AF_UNIX };
        if (!unescape(item, out->sun_path + abstract, sizeof(out->sun_path) - abstract, &size))
            return false;
        *len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + 1); // the NUL before or behind it
        return size > 0;
    }
    return false;
}

static int connect_to(const char *address, struct err *err)
{
    struct slice rest = slice_of(address), one;
    struct err failed = { 0 };
    err_set(&failed, ERR_INVALID_ARGUMENT, "D-Bus: no address that can be used in \"%.200s\"", address);
    while (slice_cut(&rest, ';', &one)) {
        struct sockaddr_un peer;
        socklen_t len;
        if (!parse_address(one, &peer, &len))
            continue;
        // Non-blocking: with a full backlog a unix socket would wait for its server without a limit.
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd >= 0 && connect(fd, (struct sockaddr *)&peer, len) == 0)
            return take_fd(&fd);
        err_errno(&failed, errno, "D-Bus: connect to %.*s", (int)MIN_OF(one.size, (size_t)200), one.data);
    }
    if (err)
        *err = failed;
    return -1;
}

// ---- the connection -------------------------------------------------------------------------------------------------

int dbus_open(const char *address, uid_t uid, bool bus, int64_t timeout_ns, struct dbus **out, struct err *err)
{
    int fd = connect_to(address, err);
    if (fd < 0)
        return -1;
    struct dbus *dbus = mem_new(struct dbus);
    *dbus = (struct dbus){ .fd = fd, .bus = bus, .timeout_ns = timeout_ns, .in = BUF_INIT(2 * DBUS_MESSAGE_MAX) };
    const struct dbus_call hello = { "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello",
                                     "" };
    const struct buf nothing = BUF_INIT(0);
    if (greet(dbus, uid, clock_mono_ns() + timeout_ns, err) < 0 ||
        (bus && dbus_call(dbus, &hello, &nothing, NULL, NULL, NULL, err) < 0)) {
        dbus_close(dbus);
        return -1;
    }
    *out = dbus;
    return 0;
}

void dbus_close(struct dbus *dbus)
{
    if (!dbus)
        return;
    fd_close(dbus->fd);
    buf_done(&dbus->in);
    free(dbus);
}

bool dbus_has_bus(const struct dbus *dbus)
{
    return dbus->bus;
}

static int fill(struct dbus *dbus, size_t size, int64_t deadline, struct err *err)
{
    while (dbus->in.size < size)
        if (receive(dbus, deadline, err) < 0)
            return -1;
    return 0;
}

static int next_message(struct dbus *dbus, int64_t deadline, struct dbus_message *out, struct err *err)
{
    buf_consume(&dbus->in, dbus->used);
    dbus->used = 0;
    if (fill(dbus, DBUS_HEAD_SIZE, deadline, err) < 0)
        return -1;
    size_t size = dbus_message_size((const uint8_t *)dbus->in.data);
    if (size == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "D-Bus: the other end sends nonsense");
    if (fill(dbus, size, deadline, err) < 0)
        return -1;
    dbus->used = size;
    return dbus_message_parse((const uint8_t *)dbus->in.data, size, out, err);
}

static int answer_error(const struct dbus_message *reply, struct err *err)
{
    static const struct {
        const char *end;
        enum err_class class;
    } classes[] = {
        { ".UnitExists", ERR_CONFLICT },
        { ".NoSuchUnit", ERR_NOT_FOUND },
        { ".AccessDenied", ERR_PERMISSION_DENIED },
        { ".InvalidArgs", ERR_INVALID_ARGUMENT },
        { ".InteractiveAuthorizationRequired", ERR_PERMISSION_DENIED },
        { ".PropertyReadOnly", ERR_INVALID_ARGUMENT },
        { ".ServiceUnknown", ERR_UNAVAILABLE },
        { ".NoReply", ERR_UNAVAILABLE },
        { ".UnknownMethod", ERR_NOT_IMPLEMENTED },
        { ".UnknownProperty", ERR_NOT_IMPLEMENTED },
    };
    struct dbus_reader body = reply->body;
    const char *text = *reply->signature == 's' ? dbus_get_text(&body) : "";
    enum err_class class = ERR_INTERNAL;
    size_t size = strlen(reply->error_name);
    for (size_t i = 0; i < ARRAY_LEN(classes); i++)
        if (size >= strlen(classes[i].end) && str_eq(reply->error_name + size - strlen(classes[i].end), classes[i].end))
            class = classes[i].class;
    return err_set(err, class, "%.200s: %.500s", reply->error_name, text);
}

int dbus_call(struct dbus *dbus, const struct dbus_call *call, const struct buf *body, dbus_signal_fn *fn,
              void *context, struct dbus_message *reply, struct err *err)
{
    _cleanup_buf_ struct buf out = BUF_INIT(2 * DBUS_MESSAGE_MAX);
    int64_t deadline = clock_mono_ns() + dbus->timeout_ns;
    struct dbus_message message = { 0 };
    uint32_t serial = ++dbus->serial;
    if (dbus_write_call(call, serial, body, &out, err) < 0 || send_all(dbus, out.data, out.size, deadline, err) < 0)
        return -1;
    for (;;) {
        if (next_message(dbus, deadline, &message, err) < 0)
            return err_wrap(err, "%s", call->member);
        if (message.type == DBUS_SIGNAL && fn)
            fn(&message, context);
        if (message.reply_serial != serial)
            continue;
        if (message.type == DBUS_ERROR)
            return answer_error(&message, err);
        if (message.type == DBUS_METHOD_RETURN)
            break;
    }
    if (reply)
        *reply = message;
    return 0;
}

int dbus_wait(struct dbus *dbus, dbus_signal_fn *fn, void *context, struct err *err)
{
    int64_t deadline = clock_mono_ns() + dbus->timeout_ns;
    struct dbus_message message = { 0 };
    do {
        if (next_message(dbus, deadline, &message, err) < 0)
            return -1;
    } while (message.type != DBUS_SIGNAL || !fn(&message, context));
    return 0;
}
