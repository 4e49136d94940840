#include "engine/cdi.h"

#include <ctype.h>
#include <fcntl.h>

#include "engine/cdi_yaml.h"

#define SPEC_SIZE_MAX (4u << 20)
#define SPECS_MAX 256 // files of all folders

// ---- a file ---------------------------------------------------------------------------------------------------------

struct cdi_node {
    char *path, *host_path, *type, *permissions;
    json_t *mode_raw, *uid_raw, *gid_raw;
};

struct cdi_mount {
    char *host_path, *container_path, *type;
    struct strv options;
};

struct cdi_hook {
    char *when;
    struct oci_hook hook;
};

struct cdi_says {
    struct strv env;
    struct json_list nodes, mounts, hooks; // struct cdi_node, struct cdi_mount, struct cdi_hook
    json_t *rdt_raw, *net_devices_raw, *groups_raw;
};

struct cdi_device {
    char *name;
    struct cdi_says says;
};

struct cdi_spec {
    char *version, *kind;
    struct cdi_says says; // of every device of the file
    struct json_list devices; // struct cdi_device
    const char *path; // of the file
    bool applied;
};

#define ROW(field_name, field_kind, type, member, ...) JSON_FIELD(field_name, field_kind, struct type, member, ##__VA_ARGS__)

static const struct json_field node_fields[] = {
    ROW("path", JSON_TEXT, cdi_node, path, .required = true), ROW("hostPath", JSON_TEXT, cdi_node, host_path),
    ROW("type", JSON_TEXT, cdi_node, type),                   ROW("permissions", JSON_TEXT, cdi_node, permissions),
    ROW("fileMode", JSON_RAW, cdi_node, mode_raw),            ROW("uid", JSON_RAW, cdi_node, uid_raw),
    ROW("gid", JSON_RAW, cdi_node, gid_raw),                  JSON_KNOWN("major"), // the host's node says it
    JSON_KNOWN("minor"),
};
static const struct json_table node_table = JSON_TABLE(struct cdi_node, node_fields);

static const struct json_field mount_fields[] = {
    ROW("hostPath", JSON_TEXT, cdi_mount, host_path, .required = true),
    ROW("containerPath", JSON_TEXT, cdi_mount, container_path, .required = true),
    ROW("type", JSON_TEXT, cdi_mount, type),
    ROW("options", JSON_TEXTS, cdi_mount, options),
};
static const struct json_table mount_table = JSON_TABLE(struct cdi_mount, mount_fields);

static const struct json_field hook_fields[] = {
    ROW("hookName", JSON_TEXT, cdi_hook, when, .required = true), ROW("path", JSON_TEXT, cdi_hook, hook.path, .required = true),
    ROW("args", JSON_TEXTS, cdi_hook, hook.args),                 ROW("env", JSON_TEXTS, cdi_hook, hook.env),
    ROW("timeout", JSON_INT, cdi_hook, hook.timeout),
};
static const struct json_table hook_table = JSON_TABLE(struct cdi_hook, hook_fields);

static const struct json_field says_fields[] = {
    ROW("env", JSON_TEXTS, cdi_says, env),
    ROW("deviceNodes", JSON_LIST, cdi_says, nodes, .sub = &node_table),
    ROW("mounts", JSON_LIST, cdi_says, mounts, .sub = &mount_table),
    ROW("hooks", JSON_LIST, cdi_says, hooks, .sub = &hook_table),
    ROW("intelRdt", JSON_RAW, cdi_says, rdt_raw),
    ROW("netDevices", JSON_RAW, cdi_says, net_devices_raw),
    ROW("additionalGids", JSON_RAW, cdi_says, groups_raw),
};
static const struct json_table says_table = JSON_TABLE(struct cdi_says, says_fields);

static const struct json_field device_fields[] = {
    ROW("name", JSON_TEXT, cdi_device, name, .required = true),
    ROW("containerEdits", JSON_STRUCT, cdi_device, says, .sub = &says_table),
};
static const struct json_table device_table = JSON_TABLE(struct cdi_device, device_fields);

static const struct json_field spec_fields[] = {
    ROW("cdiVersion", JSON_TEXT, cdi_spec, version, .required = true),
    ROW("kind", JSON_TEXT, cdi_spec, kind, .required = true),
    ROW("containerEdits", JSON_STRUCT, cdi_spec, says, .sub = &says_table),
    ROW("devices", JSON_LIST, cdi_spec, devices, .sub = &device_table),
};
static const struct json_table spec_table = JSON_TABLE(struct cdi_spec, spec_fields);

static bool is_empty(const json_t *value)
{
    return !value || json_is_null(value) || (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

// ---- the folders ----------------------------------------------------------------------------------------------------

// The files, in the order in which they count: later folders and names win.
struct library {
    struct cdi_spec *specs[SPECS_MAX];
    json_t *documents[SPECS_MAX]; // raw members of the specs are in them
    size_t len;
    char trouble[512]; // the first file that could not be read, "" when all could
};

static void library_done(struct library *library)
{
    for (size_t i = 0; i < library->len; i++)
        json_decref(library->documents[i]);
}

static bool ends_with(const char *text, const char *ending)
{
    size_t size = strlen(text), tail = strlen(ending);
    return size >= tail && str_eq(text + size - tail, ending);
}

static int read_spec(struct library *library, const char *path, struct arena *arena, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(SPEC_SIZE_MAX);
    _cleanup_json_ json_t *document = NULL;
    struct cdi_spec *spec = arena_alloc(arena, sizeof(*spec));
    if (library->len == SPECS_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d CDI files", SPECS_MAX);
    if (file_read_at(AT_FDCWD, path, &text, err) < 0)
        return -1;
    if (ends_with(path, ".json")) {
        if (json_parse(buf_text(&text), text.size, &document, err) < 0)
            return -1;
    } else if (!(document = yaml_as_json((struct slice){ buf_text(&text), text.size }, err))) {
        return -1;
    }
    *spec = (struct cdi_spec){ 0 };
    if (json_decode(&spec_table, document, spec, arena, NULL, err) < 0)
        return -1;
    spec->path = arena_strdup(arena, path);
    library->documents[library->len] = take_ptr(&document);
    library->specs[library->len++] = spec;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void read_folders(struct library *library, const struct strv *folders, struct arena *arena)
{
    for (size_t i = 0; i < folders->len; i++) {
        _cleanup_strv_ struct strv names = { 0 };
        if (file_list_names(AT_FDCWD, folders->items[i], &names, NULL) < 0)
            continue; // most hosts have none
        qsort(names.items, names.len, sizeof(*names.items), by_name);
        for (size_t k = 0; k < names.len; k++) {
            struct err trouble = { 0 };
            const char *name = names.items[k], *path = arena_printf(arena, "%s/%s", folders->items[i], name);
            bool ours = ends_with(name, ".json") || ends_with(name, ".yaml") || ends_with(name, ".yml");
            if (ours && read_spec(library, path, arena, &trouble) < 0 && !*library->trouble)
                snprintf(library->trouble, sizeof(library->trouble), "%s: %.200s", path, trouble.message);
        }
    }
}

static struct cdi_spec *find(const struct library *library, const char *name, const struct cdi_device **device)
{
    const char *equals = strchr(name, '=');
    struct slice kind = { name, (size_t)(equals - name) };
    for (size_t i = library->len; i-- > 0;) {
        struct cdi_spec *spec = library->specs[i];
        for (size_t k = 0; slice_eq(kind, spec->kind) && k < spec->devices.len; k++) {
            *device = json_list_at(&spec->devices, &device_table, k);
            if (str_eq((*device)->name, equals + 1))
                return spec;
        }
    }
    return NULL;
}

// ---- what it comes to -----------------------------------------------------------------------------------------------

static int64_t number_or(const json_t *value, int64_t otherwise)
{
    return json_is_integer(value) ? json_integer_value(value) : otherwise;
}

static int add_mount(const struct cdi_mount *from, const char *path, struct arena *arena, struct cdi_edits *out, struct err *err)
{
    static const char *const propagations[] = { "private", "rprivate", "slave", "rslave", "shared", "rshared" };
    struct task_mount *mount = json_list_add(&out->mounts, &task_mount_table, arena);
    *mount = (struct task_mount){ .kind = (char *)"bind", .source = from->host_path, .target = from->container_path, .fd = -1 };
    if (!str_empty(from->type) && !str_eq(from->type, "bind") && !str_eq(from->type, "none"))
        return err_set(err, ERR_NOT_IMPLEMENTED, "%s: mounts of type %.50s are not supported", path, from->type);
    if (from->host_path[0] != '/' || from->container_path[0] != '/')
        return err_set(err, ERR_INVALID_ARGUMENT, "%s: a mount's paths must be absolute", path);
    for (size_t i = 0; i < from->options.len; i++) {
        const char *option = from->options.items[i];
        const struct {
            const char *word;
            bool *flag;
        } flags[] = { { "ro", &mount->read_only }, { "rbind", &mount->recursive }, { "noexec", &mount->no_exec }, { "nosuid", &mount->no_suid },
                      { "nodev", &mount->no_dev } };
        bool known = str_eq(option, "rw") || str_eq(option, "bind");
        for (size_t k = 0; k < ARRAY_LEN(flags); k++)
            if (str_eq(option, flags[k].word))
                *flags[k].flag = known = true;
        for (size_t k = 0; k < ARRAY_LEN(propagations); k++)
            if (str_eq(option, propagations[k])) {
                mount->propagation = (char *)option;
                known = true;
            }
        if (!known)
            return err_set(err, ERR_NOT_IMPLEMENTED, "%s: the mount option %.50s is not supported", path, option);
    }
    return 0;
}

static int add_hook(const struct cdi_hook *from, const char *path, struct arena *arena, struct cdi_edits *out, struct err *err)
{
    struct oci_hooks *hooks = &out->hooks;
    const struct {
        const char *word;
        struct json_list *list;
    } moments[] = { { "prestart", &hooks->prestart }, { "createRuntime", &hooks->create_runtime }, { "createContainer", &hooks->create_container },
                    { "startContainer", &hooks->start_container }, { "poststart", &hooks->poststart }, { "poststop", &hooks->poststop } };
    if (from->hook.path[0] != '/' || from->hook.timeout < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "%s: a hook has an absolute path, and no negative time", path);
    if (out->hook_len++ == CDI_HOOKS_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "%s: more than %d hooks", path, CDI_HOOKS_MAX);
    for (size_t i = 0; i < ARRAY_LEN(moments); i++)
        if (str_eq(from->when, moments[i].word)) {
            *(struct oci_hook *)json_list_add(moments[i].list, &oci_hook_table, arena) = from->hook;
            return 0;
        }
    return err_set(err, ERR_INVALID_ARGUMENT, "%s: unknown hook %.50s", path, from->when);
}

static int apply(const struct cdi_says *says, const char *path, struct arena *arena, struct cdi_edits *out, struct err *err)
{
    const struct {
        const char *name;
        const json_t *value;
    } not_built[] = { { "intelRdt", says->rdt_raw }, { "netDevices", says->net_devices_raw } };
    for (size_t i = 0; i < ARRAY_LEN(not_built); i++)
        if (!is_empty(not_built[i].value))
            return err_set(err, ERR_NOT_IMPLEMENTED, "%s: %s are not supported yet", path, not_built[i].name);
    for (size_t i = 0; i < says->env.len; i++)
        strv_env_set(&out->env, arena, says->env.items[i]);
    for (size_t i = 0; i < says->nodes.len; i++) {
        const struct cdi_node *node = json_list_at(&says->nodes, &node_table, i);
        if (out->node_len == CDI_NODES_MAX)
            return err_set(err, ERR_RESOURCE_EXHAUSTED, "%s: more than %d device nodes", path, CDI_NODES_MAX);
        out->nodes[out->node_len++] = (struct device_wish){ { str_empty(node->host_path) ? node->path : node->host_path, node->path, node->permissions },
                                                           number_or(node->mode_raw, -1), number_or(node->uid_raw, -1), number_or(node->gid_raw, -1) };
    }
    for (size_t i = 0; i < says->mounts.len; i++)
        if (add_mount(json_list_at(&says->mounts, &mount_table, i), path, arena, out, err) < 0)
            return -1;
    for (size_t i = 0; i < says->hooks.len; i++)
        if (add_hook(json_list_at(&says->hooks, &hook_table, i), path, arena, out, err) < 0)
            return -1;
    for (size_t i = 0; i < json_array_size(says->groups_raw); i++)
        strv_push_arena(&out->groups, arena, arena_printf(arena, "%lld", (long long)number_or(json_array_get(says->groups_raw, i), 0)));
    return 0;
}

static int collect(struct library *library, const struct json_list *requests, struct arena *arena, struct cdi_edits *out, struct err *err)
{
    for (size_t r = 0; r < requests->len; r++) {
        const struct device_request *request = json_list_at(requests, &device_request_table, r);
        for (size_t i = 0; i < request->device_ids.len; i++) {
            const struct cdi_device *device = NULL;
            const char *name = request->device_ids.items[i];
            struct cdi_spec *spec = find(library, name, &device);
            if (!spec)
                return err_set(err, ERR_INTERNAL, "CDI device injection failed: unresolvable CDI devices %s%s%s", name, *library->trouble ? "; " : "",
                               library->trouble);
            if ((!spec->applied && apply(&spec->says, spec->path, arena, out, err) < 0) || apply(&device->says, spec->path, arena, out, err) < 0)
                return -1;
            spec->applied = true;
        }
    }
    return 0;
}

int cdi_collect(const struct json_list *requests, const struct strv *folders, struct arena *arena, struct cdi_edits *out, struct err *err)
{
    *out = (struct cdi_edits){ 0 };
    if (!requests->len)
        return 0;
    struct library *library = mem_new(struct library);
    out->nodes = arena_alloc(arena, CDI_NODES_MAX * sizeof(*out->nodes));
    read_folders(library, folders, arena);
    int done = collect(library, requests, arena, out, err);
    library_done(library);
    free(library);
    return done;
}

// ---- what may be said -----------------------------------------------------------------------------------------------

static bool is_word(struct slice text, const char *inside)
{
    if (!text.size || !isalnum((unsigned char)text.data[0]) || !isalnum((unsigned char)text.data[text.size - 1]))
        return false;
    for (size_t i = 0; i < text.size; i++)
        if (!isalnum((unsigned char)text.data[i]) && !strchr(inside, text.data[i]))
            return false;
    return true;
}

// "vendor.com/class=name"
static bool is_name(const char *text)
{
    struct slice rest = slice_of(text), vendor, class;
    return slice_cut(&rest, '/', &vendor) && rest.data && slice_cut(&rest, '=', &class) && rest.data && is_word(vendor, "-_.") && is_word(class, "-_") &&
           is_word(rest, "-_.:");
}

static void capability_words(const json_t *lists, struct buf *out)
{
    size_t i, k;
    json_t *list, *word;
    json_array_foreach (lists, i, list) {
        buf_adds(out, i ? " [" : "[");
        json_array_foreach (list, k, word)
            buf_addf(out, "%s%.50s", k ? " " : "", json_is_string(word) ? json_string_value(word) : "");
        buf_addc(out, ']');
    }
}

int cdi_check(const struct json_list *requests, struct err *err)
{
    size_t devices = 0;
    for (size_t r = 0; r < requests->len; r++) {
        const struct device_request *request = json_list_at(requests, &device_request_table, r);
        if (!str_eq(request->driver, "cdi")) {
            _cleanup_buf_ struct buf words = BUF_INIT(1024);
            capability_words(request->capabilities_raw, &words);
            return err_set(err, ERR_NOT_IMPLEMENTED, "HostConfig.DeviceRequests: could not select device driver \"%.100s\" with capabilities: [%s]",
                           request->driver ? request->driver : "", buf_text(&words));
        }
        if (request->options.len || !is_empty(request->capabilities_raw) || request->count)
            return err_set(err, ERR_INVALID_ARGUMENT, "HostConfig.DeviceRequests: devices by CDI are named, without a count, capabilities or options");
        devices += request->device_ids.len;
        for (size_t i = 0; i < request->device_ids.len; i++)
            if (!is_name(request->device_ids.items[i]))
                return err_set(err, ERR_INVALID_ARGUMENT, "HostConfig.DeviceRequests: \"%.200s\" is no CDI device (vendor/class=name)",
                               request->device_ids.items[i]);
    }
    return devices <= CDI_DEVICES_MAX ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "HostConfig.DeviceRequests: more than %d devices", CDI_DEVICES_MAX);
}
