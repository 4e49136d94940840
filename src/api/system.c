// _ping, version, info, events, and the plugins that there are none of.
#include <fcntl.h>
#include <sys/utsname.h>

#include "api_private.h"
#include "base/file.h"

int handle_system_ping(struct call *call, struct err *err)
{
    bool head = str_eq(httpd_method(call->request), "HEAD");
    httpd_set_header(call->request, "Cache-Control", "no-cache, no-store, must-revalidate");
    httpd_set_header(call->request, "Pragma", "no-cache");
    httpd_set_header(call->request, "Swarm", "inactive");
    // Docker's clients begin with this one: which server the next request needs is seen at a connection's beginning (httpd/httpd.h).
    if (head)
        httpd_set_header(call->request, "Connection", "close");
    httpd_reply(call->request, 200, "text/plain; charset=utf-8", "OK", head ? 0 : 2);
    return 0;
}

// Go's names of architectures.
static const char *go_architecture(const char *machine)
{
    static const char *const names[][2] = { { "x86_64", "amd64" }, { "aarch64", "arm64" } };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (str_eq(names[i][0], machine))
            return names[i][1];
    return machine;
}

int handle_system_version(struct call *call, struct err *err)
{
    struct utsname host = { 0 };
    uname(&host);
    const char *architecture = go_architecture(host.machine);
    json_t *details =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "ApiVersion", API_VERSION_TEXT, "Arch", architecture,
                  "BuildTime", "", "Experimental", engine_experimental(call->engine) ? "true" : "false", "GitCommit", "", "GoVersion", "", "KernelVersion",
                  host.release, "MinAPIVersion", API_VERSION_MIN_TEXT, "Os", "linux");
    json_t *engine = json_pack("{s:s, s:s, s:o}", "Name", "Engine", "Version", BERTH_VERSION, "Details", details);
    json_t *version = json_pack("{s:{s:s}, s:[o], s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "Platform", "Name",
                                "Berth", "Components", engine, "Version", BERTH_VERSION, "ApiVersion", API_VERSION_TEXT,
                                "MinAPIVersion", API_VERSION_MIN_TEXT, "GitCommit", "", "GoVersion", "", "Os", "linux",
                                "Arch", architecture, "KernelVersion", host.release, "BuildTime", "");
    if (engine_experimental(call->engine)) // else the key is not there, as with Docker
        json_object_set_new(version, "Experimental", json_true());
    return reply_json(call, 200, version);
}

// ---- info -----------------------------------------------------------------------------------------------------------

static json_t *shape_pairs(const struct strv *pairs)
{
    json_t *list = json_array();
    for (size_t i = 0; i + 1 < pairs->len; i += 2)
        json_array_append_new(list, json_pack("[s, s]", pairs->items[i], pairs->items[i + 1]));
    return list;
}

static json_t *info_counts(const struct engine_info *info)
{
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:o}", "ID", info->id, "Containers",
                     (json_int_t)info->containers, "ContainersRunning", (json_int_t)info->running, "ContainersPaused",
                     (json_int_t)info->paused, "ContainersStopped", (json_int_t)info->stopped, "Images",
                     (json_int_t)info->images, "Driver", info->driver, "DriverStatus",
                     shape_pairs(&info->driver_status));
}

static json_t *info_limits(const struct engine_info *info)
{
    return json_pack("{s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:b, s:s, s:s}", "MemoryLimit",
                     info->memory_limit, "SwapLimit", info->swap_limit, "CpuCfsPeriod", info->cpu_quota, "CpuCfsQuota",
                     info->cpu_quota, "CPUShares", info->cpu_shares, "CPUSet", info->cpuset, "PidsLimit",
                     info->pids_limit, "OomKillDisable", info->oom_kill_disable, "IPv4Forwarding", info->ipv4_forwarding, "CgroupDriver", info->cgroup_driver, "CgroupVersion",
                     info->cgroup_version);
}

static json_t *info_host(const struct engine_info *info)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:s, s:o}", "KernelVersion", info->kernel_version,
                     "OperatingSystem", info->operating_system, "OSVersion", info->os_version, "OSType", "linux",
                     "Architecture", info->architecture, "NCPU", (json_int_t)info->cpus, "MemTotal",
                     (json_int_t)info->memory, "Name", info->name, "SystemTime", shape_time(info->now_ns));
}

static json_t *index_config(const char *name, const struct strv *mirrors, bool secure)
{
    return json_pack("{s:s, s:o, s:b, s:b}", "Name", name, "Mirrors", mirrors ? shape_texts(mirrors) : json_array(), "Secure", secure, "Official",
                     mirrors != NULL);
}

// Networks stand apart from hosts; loopback is always among them.
static json_t *registry_config(const struct engine_info *info)
{
    json_t *networks = json_pack("[s, s]", "127.0.0.0/8", "::1/128"), *indexes = json_object();
    json_object_set_new(indexes, "docker.io", index_config("docker.io", &info->registry_mirrors, true));
    for (size_t i = 0; i < info->insecure_registries.len; i++) {
        const char *name = info->insecure_registries.items[i];
        if (strchr(name, '/'))
            json_array_append_new(networks, json_new_text(name));
        else
            json_object_set_new(indexes, name, index_config(name, NULL, false));
    }
    return json_pack("{s:o, s:o, s:o}", "IndexConfigs", indexes, "InsecureRegistryCIDRs", networks, "Mirrors",
                     shape_texts_or_null(&info->registry_mirrors));
}

static int64_t count_names(const char *folder)
{
    _cleanup_strv_ struct strv names = { 0 };
    return file_list_names(AT_FDCWD, folder, &names, NULL) < 0 ? 0 : (int64_t)names.len;
}

// Without a password that stands in it.
static json_t *proxy_text(const char *variable)
{
    const char *url = getenv(variable), *host = url ? strstr(url, "://") : NULL, *at = host ? strchr(host, '@') : NULL;
    if (at)
        return json_sprintf("%.*s://xxxxx:xxxxx%s", (int)(host - url), url, at);
    return shape_text(url);
}

static json_t *info_proxies(void)
{
    return json_pack("{s:o, s:o, s:o}", "HttpProxy", proxy_text("HTTP_PROXY"), "HttpsProxy", proxy_text("HTTPS_PROXY"), "NoProxy",
                     proxy_text("NO_PROXY"));
}

// Threads stand where Docker counts goroutines.
static json_t *info_numbers(const struct engine_info *info)
{
    return json_pack("{s:I, s:I, s:I}", "NFd", (json_int_t)count_names("/proc/self/fd"), "NGoroutines",
                     (json_int_t)count_names("/proc/self/task"), "NEventsListener", (json_int_t)info->event_listeners);
}

static json_t *info_engine(const struct engine_info *info)
{
    return json_pack("{s:s, s:s, s:s, s:b, s:b, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "ServerVersion", BERTH_VERSION,
                     "DockerRootDir", info->data_root, "LoggingDriver", info->log_driver, "Debug", info->debug, "ExperimentalBuild", info->experimental,
                     "IndexServerAddress", "https://index.docker.io/v1/", "InitBinary", "berth-init", "DefaultRuntime",
                     info->runtime, "Labels", shape_texts(&info->labels), "RegistryConfig", registry_config(info), "SecurityOptions", shape_texts(&info->security_options), "Warnings",
                     shape_texts_or_null(&info->warnings), "CDISpecDirs", shape_texts(&info->cdi_folders));
}

// What is the same for every Berth. Clients look for the keys, and some dereference them without a check.
static json_t *info_constants(void)
{
    static const char text[] =
        "{\"Plugins\":{\"Volume\":[\"local\"],\"Network\":[\"bridge\",\"host\",\"macvlan\",\"null\"],\"Authorization\":null,"
        "\"Log\":[\"fluentd\",\"gelf\",\"journald\",\"json-file\",\"local\",\"none\",\"syslog\"]},"
        "\"Runtimes\":{\"berth\":{\"path\":\"berth-shim\"},\"berth-vm\":{\"path\":\"berth-shim\"}},\"LiveRestoreEnabled\":true,"
        "\"Swarm\":{\"NodeID\":\"\",\"NodeAddr\":\"\",\"LocalNodeState\":\"inactive\",\"ControlAvailable\":false,"
        "\"Error\":\"\",\"RemoteManagers\":null},"
        "\"ContainerdCommit\":{\"ID\":\"N/A\"},\"RuncCommit\":{\"ID\":\"N/A\"},\"InitCommit\":{\"ID\":\"N/A\"},"
        "\"FirewallBackend\":{\"Driver\":\"nftables\"},\"DefaultAddressPools\":[],"
        "\"GenericResources\":null}";
    return json_loads(text, 0, NULL);
}

int handle_system_info(struct call *call, struct err *err)
{
    struct engine_info info;
    if (engine_info(call->engine, call->arena, &info, err) < 0)
        return -1;
    json_t *parts[] = { info_counts(&info), info_limits(&info), info_host(&info), info_engine(&info), info_numbers(&info), info_proxies(), info_constants() };
    json_t *object = json_object();
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        json_object_update(object, parts[i]);
        json_decref(parts[i]);
    }
    document_age(DOCUMENT_INFO, call->version, object);
    return reply_json(call, 200, object);
}

// ---- events ---------------------------------------------------------------------------------------------------------

struct listening {
    struct httpd_request *request;
    const struct filters *filters;
    int version;
};

#define CREATED_SINCE 46 // that an image was made is told from this version on

static int tell_event(void *context, const struct engine_event *event)
{
    const struct listening *listening = context;
    if (!event || !event_fits(listening->filters, event))
        return 0;
    if (listening->version < CREATED_SINCE && str_eq(event->type, "image") && str_eq(event->action, "create"))
        return 0;
    _cleanup_json_ json_t *object = shape_event(event);
    _cleanup_free_ char *text = json_text(object);
    _cleanup_free_ char *line = mem_printf("%s\n", text);
    return httpd_stream_write(listening->request, line, strlen(line));
}

int handle_system_events(struct call *call, struct err *err)
{
    struct filters filters;
    struct listening listening = { call->request, &filters, call->version };
    int64_t since_ns, until_ns;
    if (filters_parse(httpd_query(call->request, "filters"), event_filter_keys, call->arena, &filters, err) < 0 ||
        query_time(call, "since", &since_ns, err) < 0 || query_time(call, "until", &until_ns, err) < 0)
        return -1;
    if (until_ns && since_ns > until_ns)
        return err_set(err, ERR_INVALID_ARGUMENT, "`since` time (%s) cannot be after `until` time (%s)",
                       httpd_query(call->request, "since"), httpd_query(call->request, "until"));
    // At once: a client waits for the head before it does what it wants to see.
    if (httpd_stream_begin(call->request, 200, "application/json") == 0)
        engine_events(call->engine, since_ns, until_ns, tell_event, &listening, httpd_cancel(call->request), err);
    httpd_stream_end(call->request);
    return 0;
}

// Any path: who asks before a request from another site learns nothing.
int handle_options(struct call *call, struct err *err)
{
    return reply_empty(call, 200);
}

// ---- plugins --------------------------------------------------------------------------------------------------------

int handle_plugin_list(struct call *call, struct err *err)
{
    return reply_json(call, 200, json_array());
}

int handle_plugin_missing(struct call *call, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "plugin \"%.200s\" not found", call->values[0]);
}
