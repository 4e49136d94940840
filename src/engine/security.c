// What a container may do: its capabilities and what HostConfig.SecurityOpt says.
#include <linux/seccomp.h>
#include <strings.h>

#include "engine_private.h"
#include "kernel/caps.h"
#include "sandbox/seccomp.h"

// ---- capabilities ---------------------------------------------------------------------------------------------------

// In its full form, as the kernel's headers have it.
static int unknown_capability(const char *which, const char *name, struct err *err)
{
    char full[64];
    snprintf(full, sizeof(full), "%s%s", strncasecmp(name, "CAP_", 4) == 0 ? "" : "CAP_", name);
    for (char *at = full; *at; at++)
        *at = (char)(*at >= 'a' && *at <= 'z' ? *at - 32 : *at);
    return err_set(err, ERR_INVALID_ARGUMENT, "invalid %s: unknown capability: \"%s\"", which, full);
}

static int caps_mask(const struct strv *names, const char *which, uint64_t *mask, bool *all, struct err *err)
{
    for (size_t i = 0; i < names->len; i++) {
        if (strcasecmp(names->items[i], "ALL") == 0) {
            *all = true;
            continue;
        }
        int number = caps_number(names->items[i]);
        if (number < 0)
            return unknown_capability(which, names->items[i], err);
        *mask |= UINT64_C(1) << number;
    }
    return 0;
}

int capabilities_from_config(const struct host_config *host, struct arena *arena, struct oci_capabilities **out,
                             struct err *err)
{
    uint64_t add = 0, drop = 0;
    bool add_all = false, drop_all = false;
    if (caps_mask(&host->cap_add, "CapAdd", &add, &add_all, err) < 0 ||
        caps_mask(&host->cap_drop, "CapDrop", &drop, &drop_all, err) < 0)
        return -1;
    // Docker: ALL on either side is the base, the names on the other side are the exceptions.
    uint64_t mask = host->privileged ? caps_all() : add_all ? caps_all() & ~drop : drop_all ? add : (caps_docker_default() | add) & ~drop;

    struct oci_capabilities *caps = arena_alloc(arena, sizeof(*caps));
    for (int number = 0; number <= caps_last(); number++)
        if (mask >> number & 1) {
            strv_push_arena(&caps->bounding, arena, caps_name(number));
            strv_push_arena(&caps->effective, arena, caps_name(number));
            strv_push_arena(&caps->permitted, arena, caps_name(number));
        }
    *out = caps;
    return 0;
}

// ---- SecurityOpt ----------------------------------------------------------------------------------------------------

bool security_no_new_privileges(const struct host_config *host)
{
    const struct strv *options = &host->security_opt;
    for (size_t i = 0; i < options->len; i++)
        if (str_starts(options->items[i], "no-new-privileges") && !strstr(options->items[i], "false"))
            return true;
    return false;
}

// The last one counts.
bool security_writable_cgroups(const struct host_config *host)
{
    bool writable = false;
    for (size_t i = 0; i < host->security_opt.len; i++)
        if (str_starts(host->security_opt.items[i], "writable-cgroups"))
            writable = str_eq(host->security_opt.items[i] + strlen("writable-cgroups="), "true");
    return writable;
}

// What stands behind "seccomp=" or its older spelling; NULL for another option.
static const char *seccomp_value(const char *option)
{
    return str_starts(option, "seccomp=") || str_starts(option, "seccomp:") ? option + strlen("seccomp=") : NULL;
}

// The last one counts; without any, who is privileged has none.
const char *security_seccomp(const struct host_config *host)
{
    for (size_t i = host->security_opt.len; i > 0; i--) {
        const char *value = seccomp_value(host->security_opt.items[i - 1]);
        if (value)
            return str_empty(value) || str_eq(value, "builtin") ? "default" : value;
    }
    return host->privileged ? "unconfined" : "default";
}

static uint64_t bounding_set(const struct oci_capabilities *caps)
{
    uint64_t mask = 0;
    for (size_t i = 0; i < caps->bounding.len; i++)
        mask |= UINT64_C(1) << caps_number(caps->bounding.items[i]);
    return mask;
}

static int check_profile(const char *text, uint64_t caps, struct err *err)
{
    struct filter_program *program = mem_new(struct filter_program);
    int result = seccomp_compile_text(text, strlen(text), caps, program, err);
    if (result == 0 && (program->flags & SECCOMP_FILTER_FLAG_NEW_LISTENER))
        result = err_set(err, ERR_NOT_IMPLEMENTED, "a seccomp profile with SCMP_ACT_NOTIFY is not supported: nobody would listen");
    free(program);
    return result < 0 ? err_wrap(err, "HostConfig.SecurityOpt") : 0;
}

static int check_words(const struct strv *options, struct err *err)
{
    static const char *const known[] = { "no-new-privileges",       "no-new-privileges:true",  "no-new-privileges=true",
                                         "no-new-privileges:false", "no-new-privileges=false", "label=disable",
                                         "label:disable",           "apparmor=unconfined",     "apparmor:unconfined",
                                         "writable-cgroups=true",   "writable-cgroups=false",  "writable-cgroups:true",
                                         "writable-cgroups:false" };
    static const char *const modules[] = { "label", "apparmor" }; // what they are asked for is a wall
    for (size_t i = 0; i < options->len; i++) {
        bool found = seccomp_value(options->items[i]) != NULL;
        for (size_t k = 0; k < ARRAY_LEN(known) && !found; k++)
            found = str_eq(options->items[i], known[k]);
        for (size_t k = 0; k < ARRAY_LEN(modules) && !found; k++)
            if (str_starts(options->items[i], modules[k]))
                return err_set(err, ERR_NOT_IMPLEMENTED, "HostConfig.SecurityOpt: %s is not supported yet", options->items[i]);
        if (!found)
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid --security-opt %d: \"%.200s\"", strpbrk(options->items[i], "=:") ? 2 : 1, options->items[i]);
    }
    return 0;
}

// Docker says so of who shares the host's processes or has no wall, with or without SELinux: what it asks for is the state of things here.
void security_note_labels(struct container *container)
{
    struct host_config *host = &container->config.host_config;
    if (!host->privileged && !str_eq(host->pid_mode, "host") && !str_eq(host->ipc_mode, "host"))
        return;
    for (size_t i = 0; i < host->security_opt.len; i++)
        if (str_starts(host->security_opt.items[i], "label="))
            return;
    strv_push_arena(&host->security_opt, &container->arena, "label=disable");
    json_t *shown = json_object_get(container->body, "HostConfig"), *options = json_object_get(shown, "SecurityOpt");
    if (json_is_array(options))
        json_array_append_new(options, json_string("label=disable"));
    else
        json_object_set_new(shown, "SecurityOpt", json_pack("[s]", "label=disable"));
}

int security_check(const struct host_config *host, struct arena *arena, struct err *err)
{
    struct oci_capabilities *caps;
    if (check_words(&host->security_opt, err) < 0 || capabilities_from_config(host, arena, &caps, err) < 0)
        return -1;
    const char *profile = security_seccomp(host);
    return str_eq(profile, "default") || str_eq(profile, "unconfined") ? 0 : check_profile(profile, bounding_set(caps), err);
}
