// What the runtime-spec demands of a document and runc lets pass, and what stands in its later versions: told before anything is made, by the
// property's name. What no version knows is passed over, as the specification wants it.
#include "oci/oci_private.h"

static const struct {
    const char *way[4];
    const char *name;
} later[] = {
    { { "linux", "memoryPolicy" }, "linux.memoryPolicy" },
    { { "linux", "netDevices" }, "linux.netDevices" },
    { { "linux", "intelRdt", "schemata" }, "linux.intelRdt.schemata" },
    { { "linux", "intelRdt", "enableMonitoring" }, "linux.intelRdt.enableMonitoring" },
};

static const json_t *find(const json_t *document, const char *const *way, size_t len)
{
    for (size_t i = 0; i < len && way[i]; i++)
        document = json_object_get(document, way[i]);
    return document;
}

static bool asks(const json_t *value)
{
    return value && !json_is_null(value) && !json_is_false(value) && !(json_is_array(value) && json_array_size(value) == 0) &&
           !(json_is_object(value) && json_object_size(value) == 0);
}

static int check_later(const json_t *document, struct err *err)
{
    static const char *const hierarchy[] = { "linux", "resources", "memory", "useHierarchy" };
    for (size_t i = 0; i < ARRAY_LEN(later); i++)
        if (asks(find(document, later[i].way, ARRAY_LEN(later[i].way))))
            return err_set(err, ERR_NOT_IMPLEMENTED, "%s is not supported", later[i].name);
    if (json_is_false(find(document, hierarchy, ARRAY_LEN(hierarchy))))
        return err_set(err, ERR_NOT_IMPLEMENTED, "linux.resources.memory.useHierarchy: a group's memory counts in those above it, always");
    return 0;
}

static int check_hooks(const struct oci_config *config, struct err *err)
{
    static const struct {
        const char *kind;
        size_t offset;
    } kinds[] = { { "prestart", offsetof(struct oci_hooks, prestart) },
                  { "createRuntime", offsetof(struct oci_hooks, create_runtime) },
                  { "createContainer", offsetof(struct oci_hooks, create_container) },
                  { "startContainer", offsetof(struct oci_hooks, start_container) },
                  { "poststart", offsetof(struct oci_hooks, poststart) },
                  { "poststop", offsetof(struct oci_hooks, poststop) } };
    for (size_t kind = 0; config->hooks && kind < ARRAY_LEN(kinds); kind++) {
        const struct json_list *list = (const void *)((const char *)config->hooks + kinds[kind].offset);
        const struct oci_hook *hooks = list->items;
        for (size_t i = 0; i < list->len; i++) {
            if (str_empty(hooks[i].path) || hooks[i].path[0] != '/')
                return err_set(err, ERR_INVALID_ARGUMENT, "hooks.%s[%zu].path is not absolute", kinds[kind].kind, i);
            if (hooks[i].timeout < 0)
                return err_set(err, ERR_INVALID_ARGUMENT, "hooks.%s[%zu].timeout is not greater than zero", kinds[kind].kind, i);
        }
    }
    return 0;
}

static int check_linux(const struct oci_linux *section, struct err *err)
{
    const struct oci_namespace *namespaces = section->namespaces.items;
    for (size_t i = 0; i < section->namespaces.len; i++)
        if (!str_empty(namespaces[i].path) && namespaces[i].path[0] != '/')
            return err_set(err, ERR_INVALID_ARGUMENT, "linux.namespaces[%zu].path is not absolute", i);
    if (json_object_get(section->seccomp, "listenerMetadata") && !*json_get_text(section->seccomp, "listenerPath", ""))
        return err_set(err, ERR_INVALID_ARGUMENT, "linux.seccomp.listenerMetadata without a listenerPath");
    return 0;
}

int config_check_spec(const json_t *document, const struct oci_config *config, struct err *err)
{
    if (!str_empty(config->version) && !str_starts(config->version, "1."))
        return err_set(err, ERR_INVALID_ARGUMENT, "ociVersion \"%.40s\" is not supported: 1.x is", config->version);
    for (size_t i = 0; i < config->annotations.len; i++)
        if (str_empty(config->annotations.items[i].key))
            return err_set(err, ERR_INVALID_ARGUMENT, "annotations: a key is empty");
    if (check_later(document, err) < 0 || check_hooks(config, err) < 0)
        return -1;
    return check_linux(config->linux_section, err);
}
