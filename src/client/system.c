// version, info, events.
#include <sys/utsname.h>
#include <time.h>

#include "client/client_private.h"
#include "client/text.h"
#include "base/clock.h"

static const char *word_of(const json_t *value, char out[32])
{
    if (json_is_string(value))
        return json_string_value(value);
    if (json_is_integer(value))
        snprintf(out, 32, "%lld", (long long)json_integer_value(value));
    else
        snprintf(out, 32, "%s", json_is_true(value) ? "true" : json_is_false(value) ? "false" : "");
    return out;
}

// ---- version --------------------------------------------------------------------------------------------------------

static json_t *client_version(const struct client *client)
{
    struct utsname name;
    char api[16], newest[16];
    uname(&name);
    snprintf(newest, sizeof(newest), "1.%d", CLIENT_API_NEWEST);
    snprintf(api, sizeof(api), "1.%d", client->api ? client->api : CLIENT_API_NEWEST);
    const char *machine = str_eq(name.machine, "x86_64") ? "amd64" : str_eq(name.machine, "aarch64") ? "arm64" : name.machine;
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "Version", BERTH_VERSION, "ApiVersion", api, "DefaultAPIVersion", newest,
                     "GitCommit", "", "GoVersion", "none: written in C", "Os", "linux", "Arch", machine, "BuildTime", "", "Context", "default");
}

// "2026-05-07T21:09:36+00:00" as C's asctime has it, for people; other texts stay.
static void rewrite_date(json_t *details)
{
    struct tm tm = { 0 };
    char text[64];
    const char *end = strptime(json_get_text(details, "BuildTime", ""), "%Y-%m-%dT%H:%M:%S", &tm);
    if (!end || !*end)
        return;
    timegm(&tm); // the day of the week
    strftime(text, sizeof(text), "%a %b %e %H:%M:%S %Y", &tm);
    json_object_set_new(details, "BuildTime", json_new_text(text));
}

static void put_pair(struct buf *out, const char *indent, const char *key, const char *value)
{
    buf_addf(out, "%s%s:\t%s\n", indent, key, value);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void put_component(const json_t *component, struct buf *out)
{
    json_t *details = json_object_get(component, "Details"), *value;
    const char *keys[64], *key;
    size_t len = 0;
    char word[32];
    buf_addf(out, " %s:\n", json_get_text(component, "Name", ""));
    put_pair(out, "  ", "Version", json_get_text(component, "Version", ""));
    if (str_eq(json_get_text(component, "Name", ""), "Engine")) {
        const char *build = json_get_text(details, "BuildTime", "");
        buf_addf(out, "  API version:\t%s (minimum version %s)\n", json_get_text(details, "ApiVersion", ""),
                 json_get_text(details, "MinAPIVersion", ""));
        put_pair(out, "  ", "Go version", json_get_text(details, "GoVersion", ""));
        put_pair(out, "  ", "Git commit", json_get_text(details, "GitCommit", ""));
        put_pair(out, "  ", "Built", build);
        buf_addf(out, "  OS/Arch:\t%s/%s\n", json_get_text(details, "Os", ""), json_get_text(details, "Arch", ""));
        put_pair(out, "  ", "Experimental", json_get_text(details, "Experimental", ""));
        return;
    }
    json_object_foreach(details, key, value)
        if (len < ARRAY_LEN(keys))
            keys[len++] = key;
    qsort(keys, len, sizeof(*keys), by_name);
    for (size_t i = 0; i < len; i++)
        put_pair(out, "  ", keys[i], word_of(json_object_get(details, keys[i]), word));
}

static void print_version(const struct client *client, json_t *all)
{
    _cleanup_buf_ struct buf text = BUF_INIT(1u << 20), table = BUF_INIT(1u << 20);
    const json_t *own = json_object_get(all, "Client"), *server = json_object_get(all, "Server");
    size_t i;
    json_t *component;
    buf_addf(&text, "Client:\n Version:\t%s\n API version:\t%s", BERTH_VERSION, json_get_text(own, "ApiVersion", ""));
    if (client->api && client->api < CLIENT_API_NEWEST)
        buf_addf(&text, " (downgraded from 1.%d)", CLIENT_API_NEWEST);
    buf_addf(&text, "\n OS/Arch:\t%s/%s\n Context:\tdefault\n", json_get_text(own, "Os", ""), json_get_text(own, "Arch", ""));
    if (json_is_object(server)) {
        const char *platform = json_get_text(json_object_get(server, "Platform"), "Name", "");
        buf_addf(&text, "\nServer:%s%s\n", *platform ? " " : "", platform);
        json_array_foreach(json_object_get(server, "Components"), i, component)
            put_component(component, &text);
    }
    text_table((struct slice){ buf_text(&text), text.size }, 20, 1, &table);
    fputs(buf_text(&table), stdout);
}

int command_version(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *all = json_object(), *server = NULL;
    const char *format = flag_text(&call->flags, "format");
    int answered = api_json(call->client, "GET", "/version", NULL, &server, err);
    size_t i;
    json_t *component;
    json_array_foreach(json_object_get(server, "Components"), i, component)
        rewrite_date(json_object_get(component, "Details"));
    json_object_set_new(all, "Client", client_version(call->client));
    if (!*json_get_text(server, "BuildTime", ""))
        json_object_del(server, "BuildTime");
    json_object_set(all, "Server", answered >= 0 ? server : json_null());
    if (str_empty(format)) {
        print_version(call->client, all);
    } else {
        int result = format_object("version", format, all, "system.versionInfo", err);
        if (result < 0)
            return result;
    }
    return answered < 0 ? -1 : 0;
}

// ---- info -----------------------------------------------------------------------------------------------------------

enum show { SHOW_ALWAYS, SHOW_FILLED, SHOW_LIST, SHOW_SIZE, SHOW_PAIRS, SHOW_LINES, SHOW_ID, SHOW_RUNTIMES, SHOW_SECURITY, SHOW_HEAD };

static const struct {
    const char *label, *path;
    enum show show;
} info_lines[] = {
    { " Containers:", "Containers", SHOW_ALWAYS },
    { "  Running:", "ContainersRunning", SHOW_ALWAYS },
    { "  Paused:", "ContainersPaused", SHOW_ALWAYS },
    { "  Stopped:", "ContainersStopped", SHOW_ALWAYS },
    { " Images:", "Images", SHOW_ALWAYS },
    { " Server Version:", "ServerVersion", SHOW_FILLED },
    { " Storage Driver:", "Driver", SHOW_FILLED },
    { "  ", "DriverStatus", SHOW_PAIRS },
    { " ", "SystemStatus", SHOW_PAIRS },
    { " Logging Driver:", "LoggingDriver", SHOW_FILLED },
    { " Cgroup Driver:", "CgroupDriver", SHOW_FILLED },
    { " Cgroup Version:", "CgroupVersion", SHOW_FILLED },
    { " Plugins:", NULL, SHOW_HEAD },
    { "  Volume:", "Plugins.Volume", SHOW_LIST },
    { "  Network:", "Plugins.Network", SHOW_LIST },
    { "  Log:", "Plugins.Log", SHOW_LIST },
    { " CDI spec directories:", "CDISpecDirs", SHOW_LINES },
    { " Swarm:", "Swarm.LocalNodeState", SHOW_ALWAYS },
    { " Runtimes:", "Runtimes", SHOW_RUNTIMES },
    { " Init Binary:", "InitBinary", SHOW_ALWAYS },
    { " containerd version:", "ContainerdCommit", SHOW_ID },
    { " runc version:", "RuncCommit", SHOW_ID },
    { " init version:", "InitCommit", SHOW_ID },
    { " Security Options:", "SecurityOptions", SHOW_SECURITY },
    { " Kernel Version:", "KernelVersion", SHOW_FILLED },
    { " Operating System:", "OperatingSystem", SHOW_FILLED },
    { " OSType:", "OSType", SHOW_FILLED },
    { " Architecture:", "Architecture", SHOW_FILLED },
    { " CPUs:", "NCPU", SHOW_ALWAYS },
    { " Total Memory:", "MemTotal", SHOW_SIZE },
    { " Name:", "Name", SHOW_FILLED },
    { " ID:", "ID", SHOW_FILLED },
    { " Docker Root Dir:", "DockerRootDir", SHOW_ALWAYS },
    { " Debug Mode:", "Debug", SHOW_ALWAYS },
    { " HTTP Proxy:", "HttpProxy", SHOW_FILLED },
    { " HTTPS Proxy:", "HttpsProxy", SHOW_FILLED },
    { " No Proxy:", "NoProxy", SHOW_FILLED },
    { " Labels:", "Labels", SHOW_LINES },
    { " Experimental:", "ExperimentalBuild", SHOW_ALWAYS },
    { " Insecure Registries:", "RegistryConfig.InsecureRegistryCIDRs", SHOW_LINES },
    { " Registry Mirrors:", "RegistryConfig.Mirrors", SHOW_LINES },
    { " Live Restore Enabled:", "LiveRestoreEnabled", SHOW_ALWAYS },
};

static json_t *at_path(json_t *object, const char *path)
{
    char key[64];
    const char *dot = path ? strchr(path, '.') : NULL;
    if (!path)
        return NULL;
    snprintf(key, sizeof(key), "%.*s", (int)strcspn(path, "."), path);
    object = json_object_get(object, key);
    return dot ? at_path(object, dot + 1) : object;
}

static void print_security(const char *label, const json_t *list)
{
    if (json_array_size(list))
        puts(label);
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct slice part, rest = slice_of(item_text(list, i));
        while (slice_cut(&rest, ',', &part))
            if (slice_starts(part, "name="))
                printf("  %.*s\n", (int)part.size - 5, part.data + 5);
            else if (slice_starts(part, "profile="))
                printf("   Profile: %.*s\n", (int)part.size - 8, part.data + 8);
    }
}

static void print_list(const json_t *list, const char *between)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        printf("%s%s", between, item_text(list, i));
}

static void print_line(json_t *info, const char *label, enum show show, json_t *value)
{
    char word[32], size[TEXT_SIZE];
    const char *text = word_of(value, word), *key;
    json_t *item;
    switch (show) {
    case SHOW_FILLED:
        if (!*text)
            return;
        // fallthrough
    case SHOW_ALWAYS:
        printf("%s %s\n", label, text);
        return;
    case SHOW_HEAD:
        puts(label);
        return;
    case SHOW_LIST:
        fputs(label, stdout);
        print_list(value, " ");
        puts(json_array_size(value) ? "" : " ");
        return;
    case SHOW_LINES:
        if (json_array_size(value)) {
            fputs(label, stdout);
            print_list(value, "\n  ");
            puts("");
        }
        return;
    case SHOW_SIZE:
        printf("%s %s\n", label, text_size_1024((double)json_integer_value(value), size));
        return;
    case SHOW_PAIRS:
        for (size_t i = 0; i < json_array_size(value); i++) {
            item = json_array_get(value, i);
            printf("%s%s: %s\n", label, item_text(item, 0), item_text(item, 1));
        }
        return;
    case SHOW_ID:
        printf("%s %s\n", label, json_get_text(value, "ID", ""));
        return;
    case SHOW_RUNTIMES:
        if (!json_object_size(value))
            return;
        fputs(label, stdout);
        json_object_foreach(value, key, item)
            printf(" %s", key);
        printf("\n Default Runtime: %s\n", json_get_text(info, "DefaultRuntime", ""));
        return;
    case SHOW_SECURITY:
        print_security(label, value);
        return;
    }
}

static void print_info(const struct client *client, json_t *info)
{
    size_t i;
    json_t *warning;
    printf("Client:\n Version:    %s\n Context:    default\n Debug Mode: %s\n\nServer:\n", BERTH_VERSION, client->debug ? "true" : "false");
    if (!info)
        return;
    for (i = 0; i < ARRAY_LEN(info_lines); i++)
        print_line(info, info_lines[i].label, info_lines[i].show, at_path(info, info_lines[i].path));
    puts("");
    fflush(stdout);
    json_array_foreach(json_object_get(info, "Warnings"), i, warning)
        fprintf(stderr, "%s\n", json_string_value(warning));
}

int command_info(struct call *call, struct err *err)
{
    _cleanup_json_ json_t *info = NULL;
    const char *format = flag_text(&call->flags, "format");
    int answered = api_json(call->client, "GET", "/info", NULL, &info, err);
    if (str_empty(format)) {
        print_info(call->client, info);
        if (answered < 0) {
            fflush(stdout);
            fprintf(stderr, "ERROR: %s\n", err->message);
            return err_set(err, err->class, "errors pretty printing info");
        }
        return 0;
    }
    if (!info)
        info = json_object();
    json_object_set_new(info, "ClientInfo", json_pack("{s:b, s:s, s:s, s:[], s:n}", "Debug", call->client->debug, "Version", BERTH_VERSION, "Context",
                                                      "default", "Plugins", "Warnings"));
    int result = format_object("", format, info, NULL, err);
    return result < 0 ? result : answered < 0 ? -1 : 0;
}

// ---- events ---------------------------------------------------------------------------------------------------------

static void print_event(json_t *event)
{
    json_t *actor = json_object_get(event, "Actor"), *attributes = json_object_get(actor, "Attributes"), *value;
    int64_t ns = json_get_int(event, "timeNano", 0), rest;
    const char *keys[256], *key;
    size_t len = 0;
    char text[64], zone[8];
    struct tm tm;
    if (!ns)
        ns = text_ns(json_get_int(event, "time", 0));
    rest = ns % NS_PER_S;
    time_t seconds = (time_t)(ns / NS_PER_S);
    localtime_r(&seconds, &tm);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    strftime(zone, sizeof(zone), "%z", &tm);
    if (str_eq(zone, "+0000"))
        printf("%s.%09lldZ ", text, (long long)rest);
    else
        printf("%s.%09lld%.3s:%s ", text, (long long)rest, zone, zone + 3);
    printf("%s %s %s", json_get_text(event, "Type", ""), json_get_text(event, "Action", ""), json_get_text(actor, "ID", ""));
    json_object_foreach(attributes, key, value)
        if (len < ARRAY_LEN(keys))
            keys[len++] = key;
    qsort(keys, len, sizeof(*keys), by_name);
    for (size_t i = 0; i < len; i++)
        printf("%s%s=%s%s", i ? ", " : " (", keys[i], json_get_text(attributes, keys[i], ""), i + 1 == len ? ")" : "");
    puts("");
}

static int show_events(struct api_stream *stream, const struct template *template, struct err *err)
{
    for (;;) {
        json_t *event _cleanup_json_ = NULL;
        _cleanup_buf_ struct buf text = BUF_INIT(TEMPLATE_OUTPUT_MAX);
        struct template_data data;
        int more = api_stream_next(stream, &event, err);
        if (more <= 0)
            return more;
        memset(&data, 0, sizeof(data));
        data.root = event;
        if (!template)
            print_event(event);
        else if (template_run(template, &data, &text, err) < 0)
            return -1;
        else
            printf("%s\n", buf_text(&text));
        if (flush_output(err) < 0)
            return -1;
    }
}

int command_events(struct call *call, struct err *err)
{
    static const char *const times[] = { "since", "until" };
    _cleanup_template_ struct template *template = NULL;
    _cleanup_buf_ struct buf path = PATH_INIT;
    _cleanup_json_ json_t *filters = flags_filters(&call->flags, "filter");
    struct api_stream stream = { .text = BUF_INIT(4u << 20) };
    const char *format = flag_text(&call->flags, "format");
    if (!str_empty(format) && template_parse("", str_eq(format, "json") ? "{{json .}}" : format, &template, err) < 0) {
        err_wrap(err, "Error parsing format");
        return -EXIT_TEMPLATE;
    }
    buf_adds(&path, "/events");
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        _cleanup_buf_ struct buf time = BUF_INIT(128);
        const char *text = flag_text(&call->flags, times[i]);
        if (str_empty(text))
            continue;
        if (time_argument(text, &time, err) < 0)
            return -1;
        query_add(&path, times[i], buf_text(&time));
    }
    if (json_object_size(filters)) {
        _cleanup_free_ char *text = json_text(filters);
        query_add(&path, "filters", text);
    }
    if (api_open(call->client, &stream.x, err) < 0)
        return -1;
    int result = api_send(call->client, &stream.x, "GET", buf_text(&path), NULL, NULL, err);
    if (result == 0)
        result = show_events(&stream, template, err);
    api_stream_done(call->client, &stream);
    return result;
}
