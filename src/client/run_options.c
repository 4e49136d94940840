// The body of POST /containers/create: what the flags' table puts in its place, and here what needs a look: files of variables,
// limits, devices, restart policies, security options. Ports and networks are in run_ports.c, mounts in run_mounts.c.
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>

#include "client/client_private.h"
#include "base/file.h"
#include "base/num.h"

static json_t *list_at(json_t *body, const char *path)
{
    json_t *list = json_array();
    body_put(body, path, list);
    return list;
}

static void append_text(json_t *list, const char *text)
{
    json_array_append_new(list, json_new_text(text));
}

// ---- environment, labels --------------------------------------------------------------------------------------------

// "NAME=value" as it is; "NAME" alone is our own variable, or, where we have none, the order to unset it.
static void add_variable(json_t *list, const char *text)
{
    const char *own = strchr(text, '=') ? NULL : getenv(text);
    _cleanup_free_ char *whole = own ? mem_printf("%s=%s", text, own) : mem_strdup(text);
    append_text(list, whole);
}

static int add_line(struct slice line, const char *path, int number, bool environment, json_t *out, struct err *err)
{
    while (line.size && (isspace((unsigned char)*line.data)))
        line = (struct slice){ line.data + 1, line.size - 1 };
    if (line.size && line.data[line.size - 1] == '\r')
        line.size--;
    if (!line.size || *line.data == '#')
        return 0;
    _cleanup_free_ char *text = mem_strndup(line.data, line.size);
    size_t name = strcspn(text, "=");
    if (!name)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid env file (%s): no variable name on line '%s'", path, text);
    for (size_t i = 0; i < name; i++)
        if (isspace((unsigned char)text[i]))
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid env file (%s): variable '%.*s' contains whitespaces", path, (int)name, text);
    if (!text[name] && !environment)
        append_text(out, text);
    else if (text[name] || getenv(text))
        add_variable(out, text);
    return 0;
}

int read_lines(const char *path, bool environment, json_t *out, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(16u << 20);
    struct slice rest, line;
    if (file_read_at(AT_FDCWD, path, &text, err) < 0)
        return err_set(err, ERR_NOT_FOUND, "open %s: no such file or directory", path);
    rest = (struct slice){ buf_text(&text), text.size };
    for (int number = 1; slice_cut(&rest, '\n', &line); number++)
        if (add_line(line, path, number, environment, out, err) < 0)
            return -1;
    return 0;
}

static int read_pairs(struct call *call, const char *files, const char *flag, bool environment, json_t *out, struct err *err)
{
    const struct strv *paths = flag_texts(&call->flags, files), *texts = flag_texts(&call->flags, flag);
    for (size_t i = 0; i < paths->len; i++)
        if (read_lines(paths->items[i], environment, out, err) < 0)
            return -1;
    for (size_t i = 0; i < texts->len; i++)
        if (environment)
            add_variable(out, texts->items[i]);
        else
            append_text(out, texts->items[i]);
    return 0;
}

static int put_environment(struct call *call, json_t *body, struct err *err)
{
    _cleanup_json_ json_t *labels = json_array();
    size_t i;
    json_t *one;
    json_t *environment = list_at(body, "Env");
    config_proxies(call->client, environment);
    if (read_pairs(call, "env-file", "env", true, environment, err) < 0 ||
        read_pairs(call, "label-file", "label", false, labels, err) < 0)
        return -1;
    json_t *map = json_object();
    json_object_set_new(body, "Labels", map);
    json_array_foreach(labels, i, one) {
        struct slice key, rest = slice_of(json_string_value(one));
        slice_cut(&rest, '=', &key);
        _cleanup_free_ char *name = mem_strndup(key.data, key.size);
        json_object_set_new(map, name, json_new_text(rest.data ? rest.data : ""));
    }
    return 0;
}

// ---- limits ---------------------------------------------------------------------------------------------------------

static int add_ulimit(const char *text, json_t *list, struct err *err)
{
    static const char *const names[] = { "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss",
                                         "rtprio", "rttime", "sigpending", "stack" };
    struct slice name, soft, rest = slice_of(text);
    int64_t low, high;
    bool known = false;
    if (!slice_cut(&rest, '=', &name) || !rest.data || !name.size)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid ulimit argument: %s", text);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        known |= slice_eq(name, names[i]);
    if (!known)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid ulimit type: %.*s", (int)name.size, name.data);
    slice_cut(&rest, ':', &soft);
    if (!num_parse_i64(soft, &low) || (rest.data && !num_parse_i64(rest, &high)))
        return err_set(err, ERR_INVALID_ARGUMENT, "strconv.ParseInt: parsing \"%s\": invalid syntax", text + name.size + 1);
    if (!rest.data)
        high = low;
    if (high != -1 && low > high)
        return err_set(err, ERR_INVALID_ARGUMENT, "ulimit soft limit must be less than or equal to hard limit: %lld > %lld", (long long)low,
                       (long long)high);
    json_array_append_new(list, json_pack("{s:o, s:I, s:I}", "Name", json_stringn(name.data, name.size), "Hard", (json_int_t)high,
                                          "Soft", (json_int_t)low));
    return 0;
}

int put_ulimits(struct call *call, json_t *list, struct err *err)
{
    const struct strv *texts = flag_texts(&call->flags, "ulimit");
    for (size_t i = 0; i < texts->len; i++)
        if (add_ulimit(texts->items[i], list, err) < 0)
            return err_wrap(err, "invalid argument \"%s\" for \"--ulimit\" flag", texts->items[i]);
    return 0;
}

// "path:rate" of --device-*-* and --blkio-weight-device.
static int add_rate(const char *text, const char *key, bool bytes, json_t *list, struct err *err)
{
    struct slice path, rest = slice_of(text);
    int64_t rate;
    slice_cut(&rest, ':', &path);
    if (!rest.data || strchr(rest.data, ':'))
        return err_set(err, ERR_INVALID_ARGUMENT, "bad format: %s", text);
    if (!slice_starts(path, "/dev/"))
        return err_set(err, ERR_INVALID_ARGUMENT, "bad format for device path: %s", text);
    if (bytes ? !num_parse_bytes(rest.data, &rate) : !num_parse_i64(rest, &rate) || rate < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid rate for device: %s. The correct format is <device-path>:<number>%s", text,
                       bytes ? "[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
                             : ". Number must be a positive integer");
    json_array_append_new(list, json_pack("{s:o, s:I}", "Path", json_stringn(path.data, path.size), key, (json_int_t)rate));
    return 0;
}

static int put_limits(struct call *call, json_t *body, struct err *err)
{
    static const struct {
        const char *flag, *path, *key;
        bool bytes;
    } rates[] = {
        { "blkio-weight-device", "HostConfig.BlkioWeightDevice", "Weight", false },
        { "device-read-bps", "HostConfig.BlkioDeviceReadBps", "Rate", true },
        { "device-write-bps", "HostConfig.BlkioDeviceWriteBps", "Rate", true },
        { "device-read-iops", "HostConfig.BlkioDeviceReadIOps", "Rate", false },
        { "device-write-iops", "HostConfig.BlkioDeviceWriteIOps", "Rate", false },
    };
    const struct strv *texts = flag_texts(&call->flags, "ulimit");
    json_t *list = texts->len ? list_at(body, "HostConfig.Ulimits") : NULL;
    if (put_ulimits(call, list, err) < 0)
        return -1;
    for (size_t r = 0; r < ARRAY_LEN(rates); r++) {
        texts = flag_texts(&call->flags, rates[r].flag);
        list = texts->len ? list_at(body, rates[r].path) : NULL;
        for (size_t i = 0; i < texts->len; i++)
            if (add_rate(texts->items[i], rates[r].key, rates[r].bytes, list, err) < 0)
                return -1;
    }
    int64_t swappiness = flag_int(&call->flags, "memory-swappiness", -1);
    return swappiness < -1 || swappiness > 100
               ? err_set(err, ERR_INVALID_ARGUMENT, "invalid value: %lld. Valid memory swappiness range is 0-100", (long long)swappiness) : 0;
}

// ---- devices --------------------------------------------------------------------------------------------------------

static bool device_mode(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (!strchr("rwm", text.data[i]))
            return false;
    return text.size > 0;
}

static int add_device(const char *text, json_t *list, json_t *cdi, struct err *err)
{
    struct slice part[3] = { { 0 } }, rest = slice_of(text);
    size_t len = 0;
    if (*text != '/' && strchr(text, '/') && strchr(text, '=')) {
        append_text(cdi, text);
        return 0;
    }
    while (len < 3 && slice_cut(&rest, ':', &part[len]))
        len++;
    if (rest.data || !len || !part[0].size)
        return err_set(err, ERR_INVALID_ARGUMENT, "bad format for path: %s", text);
    struct slice inside = part[0], mode = slice_of("rwm");
    if (len == 3 || (len == 2 && !device_mode(part[1])))
        inside = part[1];
    if (len == 3 || (len == 2 && device_mode(part[1])))
        mode = part[len - 1];
    if (!device_mode(mode))
        return err_set(err, ERR_INVALID_ARGUMENT, "bad mode specified: %.*s", (int)mode.size, mode.data);
    if (*inside.data != '/')
        return err_set(err, ERR_INVALID_ARGUMENT, "%.*s is not an absolute path", (int)inside.size, inside.data);
    json_array_append_new(list, json_pack("{s:o, s:o, s:o}", "PathOnHost", json_stringn(part[0].data, part[0].size), "PathInContainer",
                                          json_stringn(inside.data, inside.size), "CgroupPermissions", json_stringn(mode.data, mode.size)));
    return 0;
}

static void add_commas(json_t *list, struct slice text)
{
    struct slice part;
    while (slice_cut(&text, ',', &part))
        json_array_append_new(list, json_stringn(part.data, part.size));
}

// "all", "2", "device=0", "count=1,capabilities=compute,driver=...", and lists in quotes: "\"device=0,1\"".
int gpus_option(const char *text, json_t *requests, struct err *err)
{
    json_t *request = json_object(), *capabilities = json_array();
    _cleanup_free_ char *copy = mem_strdup(text);
    char *rest = copy, *field;
    int64_t count = 1;
    append_text(capabilities, "gpu");
    json_array_append_new(requests, request);
    while ((field = next_field(&rest))) {
        struct slice key, part = slice_of(field);
        slice_cut(&part, '=', &key);
        if (!part.data) {
            part = key;
            key = slice_of("count");
        }
        if (slice_eq(key, "count") && slice_eq(part, "all"))
            count = -1;
        else if (slice_eq(key, "count") && num_parse_i64(part, &count))
            continue;
        else if (slice_eq(key, "driver"))
            json_object_set_new(request, "Driver", json_stringn(part.data, part.size));
        else if (slice_eq(key, "device"))
            add_commas(list_at(request, "DeviceIDs"), part);
        else if (slice_eq(key, "capabilities"))
            add_commas(capabilities, part);
        else {
            json_decref(capabilities);
            return err_set(err, ERR_INVALID_ARGUMENT, "unexpected key '%.*s' in '%s'", (int)key.size, key.data, text);
        }
    }
    if (!json_object_get(request, "DeviceIDs"))
        json_object_set_new(request, "Count", json_integer(count));
    json_object_set_new(request, "Capabilities", json_pack("[o]", capabilities));
    return 0;
}

static int put_devices(struct call *call, json_t *body, struct err *err)
{
    const struct strv *devices = flag_texts(&call->flags, "device"), *gpus = flag_texts(&call->flags, "gpus");
    const struct strv *rules = flag_texts(&call->flags, "device-cgroup-rule");
    _cleanup_json_ json_t *cdi = json_array();
    json_t *requests = json_array(), *list = json_array();
    body_put(body, "HostConfig.Devices", list);
    body_put(body, "HostConfig.DeviceRequests", requests);
    for (size_t i = 0; i < devices->len; i++)
        if (add_device(devices->items[i], list, cdi, err) < 0)
            return -1;
    for (size_t i = 0; i < gpus->len; i++)
        if (gpus_option(gpus->items[i], requests, err) < 0)
            return -1;
    if (json_array_size(cdi))
        json_array_append_new(requests, json_pack("{s:s, s:O}", "Driver", "cdi", "DeviceIDs", cdi));
    if (rules->len)
        list = list_at(body, "HostConfig.DeviceCgroupRules");
    for (size_t i = 0; i < rules->len; i++)
        append_text(list, rules->items[i]);
    return 0;
}

// ---- the rest -------------------------------------------------------------------------------------------------------

int put_restart(struct call *call, json_t *body, struct err *err)
{
    const char *text = flag_text(&call->flags, "restart");
    struct slice name, rest = slice_of(str_empty(text) ? "no" : text);
    int64_t count = 0;
    slice_cut(&rest, ':', &name);
    if (rest.data && (!num_parse_i64(rest, &count)))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid restart policy format: maximum retry count must be an integer");
    if (flag_on(&call->flags, "rm") && !slice_eq(name, "no"))
        return err_set(err, ERR_INVALID_ARGUMENT, "conflicting options: cannot specify both --restart and --rm");
    body_put(body, "HostConfig.RestartPolicy",
             json_pack("{s:o, s:I}", "Name", json_stringn(name.data, name.size), "MaximumRetryCount", (json_int_t)count));
    return 0;
}

static int add_security(const char *text, json_t *list, json_t *host, struct err *err)
{
    const char *value = text + strcspn(text, "=:");
    if (str_eq(text, "systempaths=unconfined")) {
        json_object_set_new(host, "MaskedPaths", json_array());
        json_object_set_new(host, "ReadonlyPaths", json_array());
        return 0;
    }
    if (!*value && !str_starts(text, "no-new-privileges"))
        return err_set(err, ERR_INVALID_ARGUMENT, "Invalid --security-opt: \"%s\"", text);
    bool file = str_starts(text, "seccomp") && (size_t)(value - text) == 7 && !str_eq(value + 1, "unconfined") && !str_eq(value + 1, "builtin");
    if (!file) {
        append_text(list, text);
        return 0;
    }
    _cleanup_buf_ struct buf profile = BUF_INIT(16u << 20), line = BUF_INIT(32u << 20);
    _cleanup_json_ json_t *parsed = NULL;
    if (file_read_at(AT_FDCWD, value + 1, &profile, err) < 0)
        return err_set(err, ERR_NOT_FOUND, "opening seccomp profile (%s) failed: open %s: no such file or directory", value + 1, value + 1);
    if (json_parse(buf_text(&profile), profile.size, &parsed, err) < 0)
        return err_wrap(err, "compacting json for seccomp profile (%s) failed", value + 1);
    buf_adds(&line, "seccomp=");
    json_write(parsed, &line);
    append_text(list, buf_text(&line));
    return 0;
}

static int put_security(struct call *call, json_t *body, struct err *err)
{
    const struct strv *texts = flag_texts(&call->flags, "security-opt");
    json_t *list = list_at(body, "HostConfig.SecurityOpt");
    for (size_t i = 0; i < texts->len; i++)
        if (add_security(texts->items[i], list, json_object_get(body, "HostConfig"), err) < 0)
            return -1;
    return 0;
}

static int put_health(struct call *call, json_t *body, struct err *err)
{
    const char *command = flag_text(&call->flags, "health-cmd");
    json_t *check = json_object_get(body, "Healthcheck");
    const char *key;
    json_t *value;
    if (flag_on(&call->flags, "no-healthcheck")) {
        if (check || !str_empty(command))
            return err_set(err, ERR_INVALID_ARGUMENT, "--no-healthcheck conflicts with --health-* options");
        body_put(body, "Healthcheck.Test", json_pack("[s]", "NONE"));
        return 0;
    }
    json_object_foreach(check, key, value)
        if (json_integer_value(value) < 0)
            return err_set(err, ERR_INVALID_ARGUMENT, "--health-%s cannot be negative",
                           str_eq(key, "Interval") ? "interval" : str_eq(key, "Timeout") ? "timeout" : str_eq(key, "Retries") ? "retries"
                           : str_eq(key, "StartPeriod") ? "start-period" : "start-interval");
    if (!str_empty(command))
        body_put(body, "Healthcheck.Test", json_pack("[s, s]", "CMD-SHELL", command));
    return 0;
}

static void put_command(struct call *call, json_t *body)
{
    const struct strv *attach = flag_texts(&call->flags, "attach");
    const char *entrypoint = flag_text(&call->flags, "entrypoint");
    bool in = flag_on(&call->flags, "interactive") || strv_has(attach, "stdin");
    json_object_set_new(body, "Image", json_new_text(call->args.items[0]));
    if (call->args.len > 1)
        for (size_t i = 1; i < call->args.len; i++)
            append_text(i == 1 ? list_at(body, "Cmd") : json_object_get(body, "Cmd"), call->args.items[i]);
    if (entrypoint)
        append_text(list_at(body, "Entrypoint"), entrypoint);
    json_object_set_new(body, "AttachStdin", json_boolean(in));
    json_object_set_new(body, "AttachStdout", json_boolean(!attach->len || strv_has(attach, "stdout")));
    json_object_set_new(body, "AttachStderr", json_boolean(!attach->len || strv_has(attach, "stderr")));
    json_object_set_new(body, "OpenStdin", json_boolean(flag_on(&call->flags, "interactive")));
    json_object_set_new(body, "StdinOnce", json_boolean(flag_on(&call->flags, "interactive") && in));
}

static int check_attach(struct call *call, struct err *err)
{
    const struct strv *attach = flag_texts(&call->flags, "attach");
    for (size_t i = 0; i < attach->len; i++) {
        char *text = attach->items[i];
        for (char *c = text; *c; c++)
            *c = (char)tolower((unsigned char)*c);
        if (!str_eq(text, "stdin") && !str_eq(text, "stdout") && !str_eq(text, "stderr"))
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid argument \"%s\" for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR", text);
    }
    return 0;
}

// Hosts of --add-host: "name:address" and "name=address".
static void put_hosts(struct call *call, json_t *body)
{
    const struct strv *texts = flag_texts(&call->flags, "add-host");
    json_t *list = texts->len ? list_at(body, "HostConfig.ExtraHosts") : NULL;
    for (size_t i = 0; i < texts->len; i++) {
        char *equals = strchr(texts->items[i], '=');
        if (equals)
            *equals = ':';
        append_text(list, texts->items[i]);
    }
}

static int check_modes(struct call *call, struct err *err)
{
    static const struct {
        const char *flag, *word, *also; // what is valid beside nothing and "host"
    } modes[] = { { "pid", "PID", "container:" }, { "uts", "UTS", NULL }, { "userns", "USER", NULL }, { "cgroupns", "CGROUP", "private" } };
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        const char *text = flag_text(&call->flags, modes[i].flag);
        if (!str_empty(text) && !str_eq(text, "host") && !(modes[i].also && str_starts(text, modes[i].also)))
            return err_set(err, ERR_INVALID_ARGUMENT, "--%s: invalid %s mode", modes[i].flag, modes[i].word);
    }
    return 0;
}

int container_body(struct call *call, json_t **out, struct err *err)
{
    json_t *body = json_object();
    unsigned rows = 0, columns = 0;
    body_put(body, "HostConfig", json_object());
    if (check_attach(call, err) < 0 || check_modes(call, err) < 0)
        goto failed;
    flags_to_body(&call->flags, body);
    put_command(call, body);
    put_hosts(call, body);
    if (put_environment(call, body, err) < 0 || put_limits(call, body, err) < 0 || put_devices(call, body, err) < 0 ||
        put_restart(call, body, err) < 0 || put_security(call, body, err) < 0 || put_health(call, body, err) < 0 ||
        put_ports(call, body, err) < 0 || put_mounts(call, body, err) < 0 || put_networks(call, body, err) < 0)
        goto failed;
    terminal_size(STDOUT_FILENO, &rows, &columns);
    if (call->client->api >= 42)
        body_put(body, "HostConfig.ConsoleSize", json_pack("[i, i]", (int)rows, (int)columns));
    *out = body;
    return 0;
failed:
    json_decref(body);
    return -1;
}
