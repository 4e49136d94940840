// Log drivers and --log-opt: what may be said, in Docker's words, and what becomes of it for the shim. The table of drivers is the
// index.
#include <sys/stat.h>

#include "base/pattern.h"
#include "engine/log_sockets.h"

#define MIB(n) (INT64_C(n) << 20)
#define FILES_MAX 1000 // of one log: a reader holds them all open

// ---- which options --------------------------------------------------------------------------------------------------

#define FILE_OPTIONS "max-size", "max-file", "compress"
#define ATTRIBUTE_OPTIONS "labels", "labels-regex", "env", "env-regex", "tag"

static const struct driver {
    const char *name;
    const char *options[16];
    bool readable, remote;
} drivers[] = {
    { "json-file", { FILE_OPTIONS, ATTRIBUTE_OPTIONS }, true, false },
    { "local", { FILE_OPTIONS }, true, false },
    { "none", { NULL }, false, false },
    { "syslog", { ATTRIBUTE_OPTIONS, "syslog-address", "syslog-facility", "syslog-format" }, false, true },
    { "journald", { ATTRIBUTE_OPTIONS }, false, true },
    { "gelf", { ATTRIBUTE_OPTIONS, "gelf-address", "gelf-compression-type", "gelf-compression-level", "gelf-tcp-reconnect-delay", "gelf-tcp-max-reconnect" }, false, true },
    { "fluentd", { ATTRIBUTE_OPTIONS, "fluentd-address", "fluentd-async", "fluentd-buffer-limit", "fluentd-retry-wait", "fluentd-max-retries", "fluentd-request-ack",
                   "fluentd-sub-second-precision", "fluentd-read-timeout", "fluentd-write-timeout" }, false, true },
};

// Of every driver: how it waits, and the copy that docker logs reads where the driver's own log can't be.
static const char *const common_options[] = { "mode", "max-buffer-size", "cache-disabled", "cache-max-size", "cache-max-file", "cache-compress" };

// Docker has these as well.
static const char *const later_drivers[] = { "awslogs", "splunk", "gcplogs", "etwlogs" };
static const char *const later_options[] = { "syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key",
                                             "syslog-tls-skip-verify", "fluentd-async-reconnect-interval" };

const char *log_driver_of(const struct container *container)
{
    const char *type = container->config.host_config.log_config.type;
    return str_empty(type) ? "json-file" : type;
}

static const struct driver *find_driver(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(drivers); i++)
        if (str_eq(drivers[i].name, str_empty(name) ? "json-file" : name))
            return &drivers[i];
    return NULL;
}

bool log_is_one_of(const char *word, const char *const *list, size_t len)
{
    for (size_t i = 0; i < len && list[i]; i++)
        if (str_eq(word, list[i]))
            return true;
    return false;
}

static int check_option(const struct driver *driver, const char *key, struct err *err)
{
    if (log_is_one_of(key, common_options, ARRAY_LEN(common_options)) || log_is_one_of(key, driver->options, ARRAY_LEN(driver->options)))
        return 0;
    if (log_is_one_of(key, later_options, ARRAY_LEN(later_options)))
        return err_set(err, ERR_NOT_IMPLEMENTED, "HostConfig.LogConfig.Config: %s is not supported yet", key);
    if (str_eq(driver->name, "local"))
        return err_set(err, ERR_INVALID_ARGUMENT, "unknown log opt '%.100s' for log driver local", key);
    const char *form = str_eq(driver->name, "gelf") ? "unknown log opt \"%.100s\" for %s log driver" : "unknown log opt '%.100s' for %s log driver";
    return err_set(err, ERR_INVALID_ARGUMENT, form, key, driver->name);
}

// ---- values ---------------------------------------------------------------------------------------------------------

// "10k", "1.5 MB": `base` 1000 as files are measured, 1024 as memory is.
int log_read_size(const char *text, int64_t base, int64_t *out, struct err *err)
{
    static const char units[] = "bkmgtp";
    char *end;
    double value = strtod(text, &end);
    end += *end == ' ';
    int64_t factor = 1;
    if (*end) {
        const char *unit = strchr(units, *end | 0x20);
        for (int64_t power = unit ? unit - units : 0; power > 0; power--)
            factor *= base;
        end += unit != NULL;
        end += unit && *unit != 'b' && (*end | 0x20) == 'b';
    }
    value *= (double)factor;
    if (*end || end == text || !(value >= 0) || value > 1e18)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid size: '%.100s'", text);
    *out = (int64_t)value;
    return 0;
}

static int read_count(const char *text, int64_t *out, struct err *err)
{
    if (!num_parse_i64(slice_of(text), out))
        return err_set(err, ERR_INVALID_ARGUMENT, "strconv.Atoi: parsing \"%.100s\": invalid syntax", text);
    if (*out < 1)
        return err_set(err, ERR_INVALID_ARGUMENT, "max-file cannot be less than 1");
    if (*out > FILES_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "max-file cannot be more than %d", FILES_MAX);
    return 0;
}

int log_read_flag(const char *text, bool *out, struct err *err)
{
    static const char *const yes[] = { "1", "t", "T", "TRUE", "true", "True" }, *const no[] = { "0", "f", "F", "FALSE", "false", "False" };
    *out = log_is_one_of(text, yes, ARRAY_LEN(yes));
    if (*out || log_is_one_of(text, no, ARRAY_LEN(no)))
        return 0;
    return err_set(err, ERR_INVALID_ARGUMENT, "strconv.ParseBool: parsing \"%.100s\": invalid syntax", text);
}

// `prefix` "cache-" for the copy. What stands in *out are the driver's defaults.
static int read_rotation(const struct kvs *options, const char *prefix, struct task_log *out, struct err *err)
{
    char size_key[24], file_key[24], compress_key[24];
    snprintf(size_key, sizeof(size_key), "%smax-size", prefix);
    snprintf(file_key, sizeof(file_key), "%smax-file", prefix);
    snprintf(compress_key, sizeof(compress_key), "%scompress", prefix);
    const char *size = kvs_get(options, size_key), *files = kvs_get(options, file_key), *compress = kvs_get(options, compress_key);
    if ((size && log_read_size(size, 1000, &out->max_size, err) < 0) || (files && read_count(files, &out->max_files, err) < 0) ||
        (compress && log_read_flag(compress, &out->compress, err) < 0))
        return -1;
    if (size && out->max_size <= 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "max-size must be a positive number");
    if (out->compress && (out->max_files < 2 || out->max_size <= 0)) {
        if (compress)
            return err_set(err, ERR_INVALID_ARGUMENT, "compress cannot be true when max-file is less than 2 or max-size is not set");
        out->compress = false;
    }
    return 0;
}

static int read_mode(const struct kvs *options, struct task_log *out, struct err *err)
{
    const char *mode = kvs_get(options, "mode"), *size = kvs_get(options, "max-buffer-size");
    out->non_blocking = str_eq(mode, "non-blocking");
    if (!str_empty(mode) && !out->non_blocking && !str_eq(mode, "blocking"))
        return err_set(err, ERR_INVALID_ARGUMENT, "logger: logging mode not supported: %.100s", mode);
    if (size && !out->non_blocking)
        return err_set(err, ERR_INVALID_ARGUMENT, "logger: max-buffer-size option is only supported with 'mode=non-blocking'");
    if (size && log_read_size(size, 1024, &out->buffer_size, err) < 0)
        return err_wrap(err, "error parsing option max-buffer-size");
    if (out->buffer_size > LOG_BUFFER_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "max-buffer-size: at most 64m");
    return 0;
}

// ---- the tag --------------------------------------------------------------------------------------------------------

// "{{.Name}}/{{.ID}}": the words that Docker's templates know, and no more of its language. `container` NULL: only a check.
static int expand_tag(const char *text, struct container *container, struct arena *arena, char **out, struct err *err)
{
    static const char *const words[] = { "ID", "FullID", "Name", "ImageID", "ImageFullID", "ImageName", "DaemonName" };
    _cleanup_buf_ struct buf tag = BUF_INIT(16384);
    const char *image = container ? container->image_id + strlen("sha256:") : "";
    const char *const values[] = { container ? arena_strndup(arena, container->id, 12) : "", container ? container->id : "",
                                   container ? container_name(container, arena) : "", arena_printf(arena, "%.12s", image),
                                   container ? container->image_id : "", container ? container->image_name : "", "docker" };
    while (*text) {
        const char *open = strstr(text, "{{"), *close = open ? strstr(open, "}}") : NULL;
        buf_add(&tag, text, open ? (size_t)(open - text) : strlen(text));
        if (!open)
            break;
        struct slice word = close ? slice_trim((struct slice){ open + 2, (size_t)(close - open - 2) }) : (struct slice){ open, 0 };
        size_t i = 0;
        while (i < ARRAY_LEN(words) && !(word.size && word.data[0] == '.' && slice_eq((struct slice){ word.data + 1, word.size - 1 }, words[i])))
            i++;
        if (i == ARRAY_LEN(words))
            return err_set(err, ERR_NOT_IMPLEMENTED, "HostConfig.LogConfig.Config: tag: this template is not supported: %.100s", open);
        buf_adds(&tag, values[i]);
        text = close + 2;
    }
    *out = arena_strdup(arena, buf_text(&tag));
    return buf_check(&tag, "tag", err);
}

// ---- all of a configuration -----------------------------------------------------------------------------------------

// By value, what needs no look at the host or the container; *kept: there is a file.
static int read_options(const struct driver *driver, const struct kvs *options, struct task_log *out, bool *kept, struct err *err)
{
    const char *disabled = kvs_get(options, "cache-disabled");
    bool no_cache = false;
    *out = (struct task_log){ .driver = (char *)driver->name, .max_files = 1 };
    if (driver->remote || str_eq(driver->name, "local")) { // as Docker's local driver, which also keeps the copies
        out->max_size = MIB(20);
        out->max_files = 5;
        out->compress = true;
    }
    if (!str_empty(disabled) && log_read_flag(disabled, &no_cache, NULL) < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid value for option cache-disabled: %.100s", disabled);
    *kept = driver->readable || (driver->remote && !no_cache);
    if (read_mode(options, out, err) < 0 || read_rotation(options, driver->remote ? "cache-" : "", out, err) < 0)
        return -1;
    return driver->remote ? log_read_remote(options, out, err) : 0;
}

static int check_patterns(const struct kvs *options, struct err *err)
{
    static const char *const keys[] = { "labels-regex", "env-regex" };
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        const char *pattern = kvs_get(options, keys[i]);
        regex_t compiled;
        if (str_empty(pattern))
            continue;
        if (pattern_compile(pattern, &compiled, err) < 0)
            return err_wrap(err, "%s", keys[i]);
        regfree(&compiled);
    }
    return 0;
}

int log_check(const struct log_config *log, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    const struct driver *driver = find_driver(log->type);
    struct task_log settled;
    bool kept;
    char *ignored;
    if (!driver && log_is_one_of(log->type, later_drivers, ARRAY_LEN(later_drivers)))
        return err_set(err, ERR_NOT_IMPLEMENTED, "HostConfig.LogConfig.Type: %s is not supported yet", log->type);
    if (!driver)
        return err_set(err, ERR_INVALID_ARGUMENT, "error looking up logging plugin %.100s: plugin \"%.100s\" not found", log->type, log->type);
    if (str_eq(driver->name, "none"))
        return 0;
    for (size_t i = 0; i < log->config.len; i++)
        if (check_option(driver, log->config.items[i].key, err) < 0)
            return -1;
    const char *tag = kvs_get(&log->config, "tag");
    if (check_patterns(&log->config, err) < 0)
        return -1;
    return read_options(driver, &log->config, &settled, &kept, err) < 0 ? -1 : expand_tag(tag ? tag : "", NULL, &arena, &ignored, err);
}

// ---- for one start --------------------------------------------------------------------------------------------------

char *log_path(const struct container *container, struct arena *arena)
{
    struct task_log settled;
    bool kept;
    const struct driver *driver = find_driver(log_driver_of(container));
    if (!driver || read_options(driver, &container->config.host_config.log_config.config, &settled, &kept, NULL) < 0 || !kept)
        return NULL;
    if (driver->remote)
        return container_path(container, arena, "container-cached.log");
    return container_path(container, arena, str_eq(driver->name, "local") ? "container.log" : arena_printf(arena, "%s-json.log", container->id));
}

static bool names(const char *list, const char *key)
{
    struct slice rest = slice_of(list), part;
    while (slice_cut(&rest, ',', &part))
        if (part.size && slice_eq(part, key))
            return true;
    return false;
}

// Everything that the list names, comma by comma, or whose name fits the pattern.
static void put_fitting(const struct kvs *all, const char *list, const char *pattern, json_t *object)
{
    regex_t compiled;
    bool has_pattern = !str_empty(pattern) && pattern_compile(pattern, &compiled, NULL) == 0;
    for (size_t i = 0; i < all->len; i++) {
        const char *key = all->items[i].key;
        if (names(list, key) || (has_pattern && pattern_fits(&compiled, key)))
            json_object_set_new(object, key, json_new_text(all->items[i].value));
    }
    if (has_pattern)
        regfree(&compiled);
}

static struct kvs variables(const struct strv *env, struct arena *arena)
{
    struct kvs all = { .items = arena_alloc(arena, (env->len + 1) * sizeof(struct kv)) };
    for (size_t i = 0; i < env->len; i++) {
        const char *equals = strchr(env->items[i], '=');
        if (equals)
            all.items[all.len++] = (struct kv){ arena_strndup(arena, env->items[i], (size_t)(equals - env->items[i])), (char *)equals + 1 };
    }
    return all;
}

// The labels and variables that were asked for, as attributes of each line.
static json_t *attributes(const struct container *container, const struct kvs *options, struct arena *arena)
{
    const struct oci_image_process *process = &container->config.process;
    const struct kvs env = variables(&process->env, arena);
    json_t *object = json_object();
    put_fitting(&process->labels, kvs_get(options, "labels"), kvs_get(options, "labels-regex"), object);
    put_fitting(&env, kvs_get(options, "env"), kvs_get(options, "env-regex"), object);
    return object;
}

int log_fill(struct container *container, struct arena *arena, struct task_log *out, struct err *err)
{
    const struct kvs *options = &container->config.host_config.log_config.config;
    const struct driver *driver = find_driver(log_driver_of(container));
    const char *tag = kvs_get(options, "tag");
    bool kept;
    _cleanup_json_ json_t *attrs = attributes(container, options, arena);
    if (!driver)
        return err_set(err, ERR_INTERNAL, "failed to initialize logging driver: %s", log_driver_of(container));
    if (read_options(driver, options, out, &kept, err) < 0)
        return err_wrap(err, "failed to initialize logging driver");
    if (expand_tag(str_empty(tag) ? driver->remote ? "{{.ID}}" : "" : tag, container, arena, &out->tag, err) < 0)
        return -1;
    const char *path = log_path(container, arena);
    out->path = (char *)(path ? path : "");
    if (driver->remote)
        return log_fill_remote(container, attrs, arena, out, err);
    if (!str_empty(out->tag))
        json_object_set_new(attrs, "tag", json_new_text(out->tag));
    if (str_eq(driver->name, "json-file") && json_object_size(attrs) > 0) {
        _cleanup_free_ char *text = json_dumps(attrs, JSON_COMPACT | JSON_SORT_KEYS);
        out->attrs = arena_strdup(arena, text);
    }
    return 0;
}

// ---- the daemon's own -----------------------------------------------------------------------------------------------

// What the client leaves open is the daemon's, and stands in the record, so that it is the same for ever. Single options are
// filled in where the driver is the same.
void log_settle(const struct engine_defaults *defaults, json_t *host)
{
    json_t *log = config_member(host, "LogConfig");
    if (!json_is_object(log))
        config_put(host, "LogConfig", log = json_object());
    const char *type = json_string_value(config_member(log, "Type"));
    if (!str_empty(type) && !str_eq(type, defaults->log_driver))
        return;
    config_put(log, "Type", json_string(defaults->log_driver));
    json_t *options = config_member(log, "Config");
    if (!json_is_object(options))
        config_put(log, "Config", options = json_object());
    for (size_t i = 0; i < defaults->log_opts.len; i++) {
        const char *option = defaults->log_opts.items[i], *equals = strchr(option, '=');
        _cleanup_free_ char *key = mem_strndup(option, (size_t)(equals - option));
        if (!json_object_get(options, key))
            json_object_set_new(options, key, json_new_text(equals + 1));
    }
}
