// config.json: reading, and the checks that runc makes before anything is made, in its words.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include "base/file.h"
#include "kernel/caps.h"
#include "oci/oci_private.h"

int document_read(const char *path, struct buf *text, json_t **out, struct err *err)
{
    if (file_read_at(AT_FDCWD, path, text, err) < 0)
        return err->number == ENOENT ? err_set(err, ERR_NOT_FOUND, "JSON specification file %s not found", path) : -1;
    return json_parse(buf_text(text), text->size, out, err) < 0 ? err_wrap(err, "%s", path) : 0;
}

int process_check(const struct oci_process *process, struct err *err)
{
    if (!process)
        return err_set(err, ERR_INVALID_ARGUMENT, "process property must not be empty");
    if (str_empty(process->cwd))
        return err_set(err, ERR_INVALID_ARGUMENT, "Cwd property must not be empty");
    if (process->cwd[0] != '/')
        return err_set(err, ERR_INVALID_ARGUMENT, "Cwd must be an absolute path");
    if (process->args.len == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "args must not be empty");
    for (size_t i = 0; i < process->env.len; i++)
        if (!strchr(process->env.items[i], '='))
            return err_set(err, ERR_INVALID_ARGUMENT, "process.env[%zu]: invalid environment variable: missing '='", i);
    const struct oci_rlimit *limits = process->rlimits.items;
    for (size_t i = 0; i < process->rlimits.len; i++)
        for (size_t before = 0; before < i; before++)
            if (str_eq(limits[i].type, limits[before].type))
                return err_set(err, ERR_INVALID_ARGUMENT, "process.rlimits[%zu]: %.40s is there twice", i, limits[i].type);
    const struct oci_box *size = &process->console_size;
    if (process->terminal && (size->height < 0 || size->width < 0 || size->height > UINT16_MAX || size->width > UINT16_MAX))
        return err_set(err, ERR_INVALID_ARGUMENT, "process.consoleSize is out of range 0-%d", UINT16_MAX);
    if (!str_empty(process->selinux_label) && access("/sys/fs/selinux/enforce", F_OK) < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "selinux label is specified in config, but selinux is disabled or not supported");
    return 0;
}

const struct oci_namespace *config_namespace(const struct oci_config *config, const char *type)
{
    const struct oci_namespace *items = config->linux_section->namespaces.items;
    for (size_t i = 0; i < config->linux_section->namespaces.len; i++)
        if (str_eq(items[i].type, type))
            return &items[i];
    return NULL;
}

static bool is_host_network(const struct oci_config *config)
{
    const struct oci_namespace *ns = config_namespace(config, "network");
    struct stat own, other;
    if (!ns || str_empty(ns->path))
        return !ns;
    return stat("/proc/self/ns/net", &own) == 0 && stat(ns->path, &other) == 0 && own.st_dev == other.st_dev &&
           own.st_ino == other.st_ino;
}

static const char *const ipc_sysctls[] = { "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni",  "kernel.sem",
                                           "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced" };

static bool is_ipc_sysctl(const char *key)
{
    for (size_t i = 0; i < ARRAY_LEN(ipc_sysctls); i++)
        if (str_eq(ipc_sysctls[i], key))
            return true;
    return str_starts(key, "fs.mqueue.");
}

static int check_sysctl(const struct oci_config *config, const char *given, struct err *err)
{
    char key[256];
    size_t size = MIN_OF(strlen(given), sizeof(key) - 1);
    bool slashes = given[strcspn(given, "./")] == '/';
    for (size_t i = 0; i < size; i++)
        key[i] = !slashes ? given[i] : given[i] == '/' ? '.' : given[i] == '.' ? '/' : given[i];
    key[size] = '\0';
    if (is_ipc_sysctl(key))
        return config_namespace(config, "ipc") ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "sysctl \"%s\" is not allowed in the hosts ipc namespace", key);
    if (str_starts(key, "net."))
        return !is_host_network(config) ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "sysctl \"%s\" not allowed in host network namespace", key);
    if (config_namespace(config, "uts") && str_eq(key, "kernel.domainname"))
        return 0;
    if (config_namespace(config, "uts") && str_eq(key, "kernel.hostname"))
        return err_set(err, ERR_INVALID_ARGUMENT, "sysctl \"%s\" is not allowed as it conflicts with the OCI \"hostname\" field", key);
    return err_set(err, ERR_INVALID_ARGUMENT, "sysctl \"%s\" is not in a separate kernel namespace", key);
}

static int check_namespaces(const struct oci_config *config, struct err *err)
{
    const struct oci_linux *section = config->linux_section;
    if ((!str_empty(config->hostname) || !str_empty(config->domainname)) && !config_namespace(config, "uts"))
        return err_set(err, ERR_INVALID_ARGUMENT, "unable to set hostname without a private UTS namespace");
    if ((section->masked_paths.len || section->readonly_paths.len) && !config_namespace(config, "mount"))
        return err_set(err, ERR_INVALID_ARGUMENT, "unable to restrict sys entries without a private MNT namespace");
    const struct oci_namespace *user = config_namespace(config, "user");
    if (!str_empty(config->domainname) && kvs_get(&section->sysctl, "kernel.domainname") &&
        !str_eq(kvs_get(&section->sysctl, "kernel.domainname"), config->domainname))
        return err_set(err, ERR_INVALID_ARGUMENT, "the sysctl \"kernel.domainname\" conflicts with the OCI \"domainname\" field");
    if (!user && (section->uid_mappings.len || section->gid_mappings.len))
        return err_set(err, ERR_INVALID_ARGUMENT, "User namespace mappings specified, but USER namespace isn't enabled in the config");
    if (geteuid() != 0 && !user)
        return err_set(err, ERR_INVALID_ARGUMENT, "rootless container requires user namespaces");
    return 0;
}

void config_default_maps(struct oci_config *config, struct arena *arena)
{
    struct oci_linux *section = config->linux_section;
    const struct oci_namespace *user = section ? config_namespace(config, "user") : NULL;
    bool root = geteuid() == 0;
    if (!user || !str_empty(user->path) || section->uid_mappings.len || section->gid_mappings.len)
        return;
    struct oci_id_mapping *uid = json_list_add(&section->uid_mappings, &oci_id_mapping_table, arena);
    struct oci_id_mapping *gid = json_list_add(&section->gid_mappings, &oci_id_mapping_table, arena);
    *uid = (struct oci_id_mapping){ 0, root ? 0 : geteuid(), root ? UINT32_MAX : 1 };
    *gid = (struct oci_id_mapping){ 0, root ? 0 : getegid(), root ? UINT32_MAX : 1 };
}

static void warn_unknown(const struct strv *names)
{
    for (size_t i = 0; i < names->len; i++) {
        if (caps_number(names->items[i]) >= 0)
            continue;
        _cleanup_free_ char *line = mem_printf("ignoring unknown or unavailable capabilities: [%.100s]", names->items[i]);
        log_warning_line(line);
    }
}

void warn_unknown_caps(const struct oci_process *process)
{
    const struct oci_capabilities *caps = process->capabilities;
    if (!caps)
        return;
    warn_unknown(&caps->bounding); // the others can't have what this one has not
}

static int check_propagation(const char *word, struct err *err)
{
    static const char *const known[] = { "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable" };
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (str_empty(word) || str_eq(known[i], word))
            return 0;
    return err_set(err, ERR_INVALID_ARGUMENT, "rootfsPropagation=%.60s is not supported", word);
}

int config_check(const struct oci_config *config, struct err *err)
{
    if (process_check(config->process, err) < 0)
        return -1;
    if (!config->root)
        return err_set(err, ERR_INVALID_ARGUMENT, "root must be specified");
    if (!config->linux_section)
        return err_set(err, ERR_INVALID_ARGUMENT, "linux must be specified");
    const struct oci_linux *section = config->linux_section;
    if (check_propagation(section->rootfs_propagation, err) < 0 || check_namespaces(config, err) < 0)
        return -1;
    for (size_t i = 0; i < section->sysctl.len; i++)
        if (check_sysctl(config, section->sysctl.items[i].key, err) < 0)
            return -1;
    return 0;
}

char *config_rootfs(const struct oci_config *config, const char *bundle, struct arena *arena, struct err *err)
{
    const char *given = config->root->path ? config->root->path : "";
    char *path = given[0] == '/' ? arena_strdup(arena, given) : arena_printf(arena, "%s/%s", bundle, given);
    for (size_t size = strlen(path); size > 1 && path[size - 1] == '/'; size--)
        path[size - 1] = '\0';
    char real[PATH_MAX];
    if (!realpath(path, real)) {
        err_errno(err, errno, "invalid rootfs: stat %s", path);
        return NULL;
    }
    struct stat st;
    if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode)) {
        err_set(err, ERR_INVALID_ARGUMENT, "invalid rootfs: not an absolute path, or a symlink");
        return NULL;
    }
    return arena_strdup(arena, real);
}
