// The log drivers with a socket: syslog, journald, gelf, fluentd. What may be said of each, in Docker's words; where its lines go, and what they
// say of their container.
#include <errno.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "engine/log_sockets.h"

#define FACILITY_DAEMON 3
#define RETRY_MAX_NS (INT64_C(3600) * NS_PER_S)

// ---- syslog ---------------------------------------------------------------------------------------------------------

static int read_facility(const char *text, int64_t *out, struct err *err)
{
    static const char *const names[] = { "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "", "", "", "",
                                         "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7" };
    uint64_t number;
    *out = FACILITY_DAEMON;
    if (str_empty(text))
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (str_eq(text, names[i])) {
            *out = (int64_t)i;
            return 0;
        }
    if (!num_parse_u64(slice_of(text), 23, &number))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid syslog facility");
    *out = (int64_t)number;
    return 0;
}

// Checked at create; a host's name is looked up at the start.
static int check_address(const char *text, struct err *err)
{
    struct stat st;
    if (str_empty(text) || str_starts(text, "tcp://") || str_starts(text, "udp://"))
        return 0;
    if (str_starts(text, "tcp+tls://"))
        return err_set(err, ERR_NOT_IMPLEMENTED, "HostConfig.LogConfig.Config: a syslog-address of tcp+tls is not supported yet");
    const char *path = str_starts(text, "unix://") ? text + 7 : str_starts(text, "unixgram://") ? text + 11 : NULL;
    const char *colon = strstr(text, "://");
    if (!path && colon)
        return err_set(err, ERR_INVALID_ARGUMENT, "unsupported scheme: '%.*s'", (int)MIN_OF(colon - text, 32), text);
    if (!path)
        return err_set(err, ERR_INVALID_ARGUMENT, "syslog-address should be in form proto://address, got %.200s", text);
    if (stat(path, &st) < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "stat %.200s: %s", path, errno == ENOENT ? "no such file or directory" : "cannot be reached");
    return 0;
}

static int read_syslog(const struct kvs *options, struct task_log *out, struct err *err)
{
    static const char *const formats[] = { "rfc3164", "rfc5424", "rfc5424micro" };
    out->address = (char *)kvs_get(options, "syslog-address");
    out->format = (char *)kvs_get(options, "syslog-format");
    if (!str_empty(out->format) && !log_is_one_of(out->format, formats, ARRAY_LEN(formats)))
        return err_set(err, ERR_INVALID_ARGUMENT, "Invalid syslog format");
    return check_address(out->address, err) < 0 ? -1 : read_facility(kvs_get(options, "syslog-facility"), &out->facility, err);
}

// ---- gelf -----------------------------------------------------------------------------------------------------------

static int check_gelf_address(const char *text, struct err *err)
{
    if (str_empty(text))
        return err_set(err, ERR_INVALID_ARGUMENT, "gelf-address is a required parameter");
    if (!str_starts(text, "udp://") && !str_starts(text, "tcp://"))
        return err_set(err, ERR_INVALID_ARGUMENT, "gelf: endpoint needs to be TCP or UDP");
    const char *host = text + strlen("udp://"), *colon = strrchr(host, ':');
    if (!colon || !colon[1] || strchr(colon, ']') || strchr(host, '/'))
        return err_set(err, ERR_INVALID_ARGUMENT, "gelf: please provide gelf-address as proto://host:port");
    return 0;
}

static int read_gelf(const struct kvs *options, struct task_log *out, struct err *err)
{
    static const char *const types[] = { "gzip", "zlib", "none" };
    const char *type = kvs_get(options, "gelf-compression-type"), *level = kvs_get(options, "gelf-compression-level"),
               *delay = kvs_get(options, "gelf-tcp-reconnect-delay"), *tries = kvs_get(options, "gelf-tcp-max-reconnect");
    out->address = (char *)kvs_get(options, "gelf-address");
    if (check_gelf_address(out->address, err) < 0)
        return -1;
    bool tcp = str_starts(out->address, "tcp://");
    if (tcp && (type || level))
        return err_set(err, ERR_INVALID_ARGUMENT, "compression is only supported on UDP");
    if (!tcp && delay)
        return err_set(err, ERR_INVALID_ARGUMENT, "\"gelf-tcp-reconnect-delay\" is only valid for TCP");
    if (!tcp && tries)
        return err_set(err, ERR_INVALID_ARGUMENT, "\"gelf-tcp-max-reconnect\" is only valid for TCP");
    if (tries && (!num_parse_i64(slice_of(tries), &out->max_tries) || out->max_tries < 0 || out->max_tries >= INT32_MAX))
        return err_set(err, ERR_INVALID_ARGUMENT, "\"gelf-tcp-max-reconnect\" must be a positive integer");
    out->max_tries += tries != NULL; // the first one is no new one
    if (type && !log_is_one_of(type, types, ARRAY_LEN(types)))
        return err_set(err, ERR_INVALID_ARGUMENT, "unknown value \"%.100s\" for log opt \"gelf-compression-type\" for gelf log driver", type);
    out->compression = (char *)(type ? type : "gzip");
    out->compression_level = 1;
    if (level && (!num_parse_i64(slice_of(level), &out->compression_level) || out->compression_level < -1 || out->compression_level > 9))
        return err_set(err, ERR_INVALID_ARGUMENT, "unknown value \"%.100s\" for log opt \"gelf-compression-level\" for gelf log driver", level);
    int64_t seconds = 1;
    if (delay && (!num_parse_i64(slice_of(delay), &seconds) || seconds < 0))
        return err_set(err, ERR_INVALID_ARGUMENT, "\"gelf-tcp-reconnect-delay\" must be a positive integer");
    if (delay && (seconds < 1 || seconds > RETRY_MAX_NS / NS_PER_S))
        return err_set(err, ERR_INVALID_ARGUMENT, "gelf-tcp-reconnect-delay: seconds from 1 to 3600, got %.100s", delay);
    out->retry_ns = seconds * NS_PER_S;
    return 0;
}

static void fill_gelf(struct container *container, json_t *attrs, struct arena *arena, struct task_log *out)
{
    char created[CLOCK_TEXT_SIZE];
    const char *key;
    json_t *value;
    _cleanup_buf_ struct buf command = BUF_INIT(64 << 10);
    const struct strv *lists[] = { &container->config.process.entrypoint, &container->config.process.cmd };
    for (size_t l = 0; l < ARRAY_LEN(lists); l++)
        for (size_t i = 0; i < lists[l]->len; i++)
            buf_addf(&command, "%s%s", command.size ? " " : "", lists[l]->items[i]);
    clock_format(container->created_ns, created);
    const struct {
        const char *key, *value;
    } own[] = { { "host", out->hostname }, { "_container_id", container->id }, { "_container_name", container_name(container, arena) }, { "_image_id", container->image_id },
                { "_image_name", container->image_name }, { "_command", buf_text(&command) }, { "_tag", out->tag }, { "_created", created } };
    _cleanup_json_ json_t *extra = json_object();
    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        json_object_set_new(extra, own[i].key, json_new_text(own[i].value));
    json_object_foreach (attrs, key, value) {
        _cleanup_free_ char *name = mem_printf("_%s", key);
        json_object_set(extra, name, value);
    }
    _cleanup_free_ char *text = json_dumps(extra, JSON_COMPACT);
    out->attrs = arena_strdup(arena, text);
}

// ---- fluentd --------------------------------------------------------------------------------------------------------

#define FLUENTD_PORT "24224"
#define FLUENTD_TRIES 13 // what its client library takes 0 for

static int check_fluentd_address(const char *text, struct err *err)
{
    const char *scheme_end = strstr(text, "://"), *host = scheme_end ? scheme_end + 3 : text;
    if (str_starts(text, "unix://"))
        return *host ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "invalid fluentd-address (%.200s): path is empty", text);
    if (str_starts(text, "tls://"))
        return err_set(err, ERR_NOT_IMPLEMENTED, "HostConfig.LogConfig.Config: a fluentd-address of tls is not supported yet");
    if (scheme_end && !str_starts(text, "tcp://"))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid fluentd-address (%.200s): unsupported scheme: '%.*s'", text, (int)MIN_OF(scheme_end - text, 32), text);
    if (strchr(host, '/'))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid fluentd-address (%.200s): should not contain a path element", text);
    return 0;
}

// "500ms", "2s", "1m"; `key` is the option's name.
static int read_wait(const char *key, const char *text, int64_t *out_ns, struct err *err)
{
    static const struct {
        const char *unit;
        int64_t ns;
    } units[] = { { "ms", NS_PER_MS }, { "s", NS_PER_S }, { "m", 60 * NS_PER_S } };
    size_t digits = strspn(text, "0123456789");
    int64_t number;
    for (size_t i = 0; num_parse_i64((struct slice){ text, digits }, &number) && i < ARRAY_LEN(units); i++)
        if (str_eq(text + digits, units[i].unit) && number > 0 && number <= RETRY_MAX_NS / units[i].ns) {
            *out_ns = number * units[i].ns;
            return 0;
        }
    if (digits == 0 || strspn(text + digits, ".0123456789mushn") < strlen(text + digits))
        return err_set(err, ERR_INVALID_ARGUMENT, "time: invalid duration \"%.100s\"", text);
    if (!text[digits])
        return err_set(err, ERR_INVALID_ARGUMENT, "time: missing unit in duration \"%.100s\"", text);
    return err_set(err, ERR_INVALID_ARGUMENT, "invalid value for %s: a duration from 1ms to 60m, got %.100s", key, text);
}

// Nothing and zero leave *out_ns alone.
static int read_timeout(const struct kvs *options, const char *key, int64_t *out_ns, struct err *err)
{
    static const char *const zeros[] = { "", "0", "0ms", "0s", "0m" };
    const char *text = kvs_get(options, key);
    if (!text || log_is_one_of(text, zeros, ARRAY_LEN(zeros)))
        return 0;
    int64_t ns;
    bool negative = *text == '-';
    if (read_wait(key, text + negative, &ns, err) < 0)
        return err_wrap(err, "invalid value for %s: value must be a duration", key);
    if (negative)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid value for %s: value must be a duration that is non-negative", key);
    *out_ns = ns;
    return 0;
}

static int read_fluentd(const struct kvs *options, struct task_log *out, struct err *err)
{
    const char *address = kvs_get(options, "fluentd-address"), *async = kvs_get(options, "fluentd-async"), *limit = kvs_get(options, "fluentd-buffer-limit"),
               *wait = kvs_get(options, "fluentd-retry-wait"), *precise = kvs_get(options, "fluentd-sub-second-precision"),
               *tries = kvs_get(options, "fluentd-max-retries"), *ack = kvs_get(options, "fluentd-request-ack");
    out->address = (char *)(str_empty(address) ? "127.0.0.1:" FLUENTD_PORT : address);
    if (check_fluentd_address(out->address, err) < 0 || (wait && read_wait("fluentd-retry-wait", wait, &out->retry_ns, err) < 0) ||
        read_timeout(options, "fluentd-read-timeout", &out->ack_ns, err) < 0 || read_timeout(options, "fluentd-write-timeout", &out->write_ns, err) < 0)
        return -1;
    if ((async && log_read_flag(async, &out->late, err) < 0) || (precise && log_read_flag(precise, &out->precise_time, err) < 0) ||
        (ack && log_read_flag(ack, &out->ack, err) < 0))
        return -1;
    if (tries && (!num_parse_i64(slice_of(tries), &out->max_tries) || out->max_tries < 0 || out->max_tries > INT32_MAX))
        return err_set(err, ERR_INVALID_ARGUMENT, "strconv.ParseUint: parsing \"%.100s\": invalid syntax", tries);
    if (tries && out->max_tries == 0)
        out->max_tries = FLUENTD_TRIES;
    if (limit && log_read_size(limit, 1024, &out->buffer_size, err) < 0)
        return -1;
    if (out->buffer_size > LOG_BUFFER_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid value for fluentd-buffer-limit: at most 64m, got %.100s", limit);
    return 0;
}

static void fill_fluentd(struct container *container, json_t *attrs, struct arena *arena, struct task_log *out)
{
    const char *key;
    json_t *value;
    out->fields.items = arena_alloc(arena, (2 + json_object_size(attrs)) * sizeof(*out->fields.items));
    out->fields.items[out->fields.len++] = (struct kv){ (char *)"container_id", container->id };
    out->fields.items[out->fields.len++] = (struct kv){ (char *)"container_name", arena_printf(arena, "/%s", container_name(container, arena)) };
    json_object_foreach (attrs, key, value)
        out->fields.items[out->fields.len++] = (struct kv){ arena_strdup(arena, key), arena_strdup(arena, json_string_value(value)) };
    if (!strstr(out->address, "://"))
        out->address = arena_printf(arena, "tcp://%s", out->address);
}

// ---- journald -------------------------------------------------------------------------------------------------------

// The journal's names: capital letters, digits and "_", which does not come first.
static char *field_name(const char *key, struct arena *arena)
{
    char *name = arena_strdup(arena, key);
    for (char *c = name; *c; c++) {
        bool small = *c >= 'a' && *c <= 'z', good = (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9');
        *c = (char)(small ? *c - 32 : good ? *c : '_');
    }
    return name + strspn(name, "_");
}

static void fill_journal(struct container *container, json_t *attrs, struct arena *arena, struct task_log *out)
{
    const struct kv own[] = { { (char *)"CONTAINER_ID", arena_strndup(arena, container->id, 12) }, { (char *)"CONTAINER_ID_FULL", container->id },
                              { (char *)"CONTAINER_NAME", container_name(container, arena) }, { (char *)"CONTAINER_TAG", out->tag },
                              { (char *)"IMAGE_NAME", container->image_name }, { (char *)"SYSLOG_IDENTIFIER", out->tag } };
    const char *key;
    json_t *value;
    out->address = (char *)"unixgram:///run/systemd/journal/socket";
    out->fields.items = arena_alloc(arena, (ARRAY_LEN(own) + json_object_size(attrs)) * sizeof(*out->fields.items));
    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        out->fields.items[out->fields.len++] = own[i];
    json_object_foreach (attrs, key, value)
        out->fields.items[out->fields.len++] = (struct kv){ field_name(key, arena), arena_strdup(arena, json_string_value(value)) };
}

// ---- all of them ----------------------------------------------------------------------------------------------------

// The shim can't look names up: it gets a number.
static int resolve(struct arena *arena, struct task_log *out, const char *usual_port, struct err *err)
{
    bool udp = str_starts(out->address, "udp://");
    if (!udp && !str_starts(out->address, "tcp://"))
        return 0;
    char *host = arena_strdup(arena, out->address + strlen("tcp://")), *colon = strrchr(host, ':'), number[64], port[16];
    if (colon && strchr(colon, ']'))
        colon = NULL;
    const char *service = colon ? colon + 1 : usual_port;
    if (colon)
        *colon = 0;
    if (host[0] == '[' && host[strlen(host) - 1] == ']') {
        host[strlen(host) - 1] = 0;
        host++;
    }
    const struct addrinfo hints = { .ai_socktype = udp ? SOCK_DGRAM : SOCK_STREAM };
    struct addrinfo *found = NULL;
    int failed = getaddrinfo(host, service, &hints, &found);
    if (failed || getnameinfo(found->ai_addr, found->ai_addrlen, number, sizeof(number), port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV)) {
        if (found)
            freeaddrinfo(found);
        return err_set(err, ERR_INTERNAL, "failed to initialize logging driver: dial %.3s: lookup %.200s: %s", out->address, host,
                       failed ? gai_strerror(failed) : "no address");
    }
    bool v6 = found->ai_family == AF_INET6;
    freeaddrinfo(found);
    out->address = arena_printf(arena, "%.3s://%s%s%s:%s", out->address, v6 ? "[" : "", number, v6 ? "]" : "", port);
    return 0;
}

int log_read_remote(const struct kvs *options, struct task_log *out, struct err *err)
{
    if (str_eq(out->driver, "syslog"))
        return read_syslog(options, out, err);
    if (str_eq(out->driver, "gelf"))
        return read_gelf(options, out, err);
    return str_eq(out->driver, "fluentd") ? read_fluentd(options, out, err) : 0;
}

int log_fill_remote(struct container *container, json_t *attrs, struct arena *arena, struct task_log *out, struct err *err)
{
    out->hostname = arena_alloc(arena, 256);
    if (gethostname(out->hostname, 255) < 0)
        out->hostname = (char *)"-";
    if (str_eq(out->driver, "journald"))
        fill_journal(container, attrs, arena, out);
    else if (str_eq(out->driver, "gelf"))
        fill_gelf(container, attrs, arena, out);
    else if (str_eq(out->driver, "fluentd"))
        fill_fluentd(container, attrs, arena, out);
    else if (str_empty(out->address))
        out->address = (char *)"unixgram:///dev/log"; // the host's own syslog
    return resolve(arena, out, str_eq(out->driver, "fluentd") ? FLUENTD_PORT : "514", err);
}
