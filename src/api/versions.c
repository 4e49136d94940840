// What documents were in older versions of the API. Handlers make the newest; each row here takes one step back.
#include <strings.h>

#include "api_private.h"

typedef void age_fn(json_t *object);

// Only in what the client sent: its keys may be spelled in any case, as Go reads them.
static json_t *member(json_t *object, const char *key)
{
    const char *name;
    json_t *value;
    json_object_foreach (object, name, value)
        if (strcasecmp(name, key) == 0)
            return value;
    return NULL;
}

static void forget(json_t *object, const char *key)
{
    const char *name;
    void *next;
    json_t *value;
    json_object_foreach_safe (object, next, name, value)
        if (strcasecmp(name, key) == 0)
            json_object_del(object, name);
}

static void set_missing(json_t *object, const char *key, json_t *value)
{
    if (json_object_get(object, key))
        json_decref(value);
    else
        json_object_set_new(object, key, value);
}

// ---- info -----------------------------------------------------------------------------------------------------------

static void info_bridge_rules(json_t *info)
{
    json_object_set_new(info, "BridgeNfIptables", json_false());
    json_object_set_new(info, "BridgeNfIp6tables", json_false());
}

static void info_commits(json_t *info)
{
    static const char *const keys[] = { "ContainerdCommit", "RuncCommit", "InitCommit" };
    json_object_del(info, "FirewallBackend");
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        json_t *commit = json_object_get(info, keys[i]);
        json_object_set(commit, "Expected", json_object_get(commit, "ID"));
    }
}

static void info_artifacts(json_t *info)
{
    json_t *registries = json_object_get(info, "RegistryConfig");
    json_object_set_new(registries, "AllowNondistributableArtifactsCIDRs", json_null());
    json_object_set_new(registries, "AllowNondistributableArtifactsHostnames", json_null());
}

static void info_kernel_memory(json_t *info)
{
    json_object_set_new(info, "KernelMemory", json_false());
    json_object_set_new(info, "KernelMemoryTCP", json_false());
}

// "name=seccomp,profile=builtin" was "seccomp".
static void info_old_security(json_t *info)
{
    size_t index;
    json_t *option, *names = json_array();
    json_array_foreach (json_object_get(info, "SecurityOptions"), index, option) {
        const char *text = json_string_value(option) + strlen("name=");
        json_array_append_new(names, json_stringn(text, strcspn(text, ",")));
    }
    json_object_set_new(info, "SecurityOptions", names);
    json_object_set_new(info, "ExecutionDriver", json_string("<not supported>"));
}

// ---- images ---------------------------------------------------------------------------------------------------------

static void image_config(json_t *image)
{
    static const char *const texts[] = { "Hostname", "Domainname", "Image" };
    static const char *const flags[] = { "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce" };
    json_t *config = json_object_get(image, "Config");
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        set_missing(config, texts[i], json_string(""));
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        set_missing(config, flags[i], json_false());
}

// It was always empty here: no image is made out of a container's own configuration.
static void image_container(json_t *image)
{
    static const char *const lists[] = { "Env", "Cmd", "Entrypoint", "OnBuild", "Labels", "Volumes" };
    json_t *copy = json_object(), *config = json_object();
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        json_object_set_new(config, lists[i], json_null());
    json_object_set_new(config, "User", json_string(""));
    json_object_set_new(config, "WorkingDir", json_string(""));
    json_object_set_new(copy, "Config", config);
    image_config(copy);
    json_object_set(image, "ContainerConfig", config);
    json_decref(copy);
}

static void image_size(json_t *image)
{
    json_object_set(image, "VirtualSize", json_object_get(image, "Size"));
}

static void row_containers(json_t *row)
{
    json_object_set_new(row, "Containers", json_integer(-1));
}

// ---- the table ------------------------------------------------------------------------------------------------------

// Newest first, so that each finds what the next newer version had.
static const struct {
    enum document document;
    int before; // versions below this one
    age_fn *age;
} changes[] = {
    { DOCUMENT_INFO, 50, info_bridge_rules },
    { DOCUMENT_INFO, 49, info_commits },
    { DOCUMENT_INFO, 47, info_artifacts },
    { DOCUMENT_INFO, 42, info_kernel_memory },
    { DOCUMENT_INFO, 25, info_old_security },
    { DOCUMENT_IMAGE, 50, image_config },
    { DOCUMENT_IMAGE, 45, image_container },
    { DOCUMENT_IMAGE, 44, image_size },
    { DOCUMENT_IMAGE_ROW, 51, row_containers },
    { DOCUMENT_IMAGE_ROW, 44, image_size },
};

void document_age(enum document document, int version, json_t *object)
{
    for (size_t i = 0; i < ARRAY_LEN(changes); i++)
        if (changes[i].document == document && version < changes[i].before)
            changes[i].age(object);
}

// Before 1.45 the short id stood among the aliases; DNSNames came with 1.44, GwPriority with 1.48.
void networks_age(int version, const struct engine_container *container, json_t *networks)
{
    const char *name;
    json_t *endpoint;
    json_object_foreach (networks, name, endpoint) {
        json_t *aliases = json_object_get(endpoint, "Aliases");
        bool named = json_is_array(json_object_get(endpoint, "DNSNames"));
        if (version < 45 && named) {
            if (!json_is_array(aliases))
                json_object_set_new(endpoint, "Aliases", aliases = json_array());
            json_array_append_new(aliases, json_stringn(container->id, 12));
        }
        if (version < 44)
            json_object_del(endpoint, "DNSNames");
        if (version < 48)
            json_object_del(endpoint, "GwPriority");
    }
}

// ---- create bodies --------------------------------------------------------------------------------------------------

static void body_priorities(json_t *body)
{
    const char *name;
    json_t *endpoint;
    json_object_foreach (member(member(body, "NetworkingConfig"), "EndpointsConfig"), name, endpoint)
        forget(endpoint, "GwPriority");
}

static void body_start_interval(json_t *body)
{
    forget(member(body, "Healthcheck"), "StartInterval");
}

static void body_annotations(json_t *body)
{
    forget(member(body, "HostConfig"), "Annotations");
}

// The size of the first terminal is a promise of 1.42; older clients resize after the start, some with junk here.
static void body_console(json_t *body)
{
    size_t index;
    json_t *mount, *host = member(body, "HostConfig");
    forget(host, "ConsoleSize");
    json_array_foreach (member(host, "Mounts"), index, mount) {
        const char *type = json_string_value(member(mount, "Type"));
        forget(member(mount, "BindOptions"), "CreateMountpoint");
        if (!str_eq(type, "volume"))
            forget(mount, "VolumeOptions");
        if (!str_eq(type, "tmpfs"))
            forget(mount, "TmpfsOptions");
    }
}

static void body_recursion(json_t *body)
{
    size_t index;
    json_t *mount;
    json_array_foreach (member(member(body, "HostConfig"), "Mounts"), index, mount)
        forget(member(mount, "BindOptions"), "NonRecursive");
}

// Such a client removes the container itself.
static void body_auto_remove(json_t *body)
{
    forget(member(body, "HostConfig"), "AutoRemove");
}

static const struct {
    int before;
    age_fn *age;
} bodies[] = {
    { 48, body_priorities }, { 44, body_start_interval }, { 43, body_annotations },
    { 42, body_console },    { 40, body_recursion },      { 25, body_auto_remove },
};

void create_body_age(int version, json_t *body)
{
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++)
        if (version < bodies[i].before)
            bodies[i].age(body);
}
