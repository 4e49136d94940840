// Profiles as JSON: Docker's files and the runtime-spec's section.
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include "base/num.h"
#include "json/json.h"
#include "kernel/caps.h"
#include "seccomp.h"
#include "seccomp_rules.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

// ---- the document ---------------------------------------------------------------------------------------------------

struct profile_arg {
    int64_t index, value, value_two;
    char *op;
};

struct profile_scope { // includes and excludes
    struct strv caps, arches;
    char *min_kernel;
};

struct profile_call {
    struct strv names;
    char *name, *action;
    json_t *errno_ret;
    struct json_list args;
    struct profile_scope *includes, *excludes;
};

struct profile_arch {
    char *architecture;
    struct strv sub_architectures;
};

struct profile {
    char *default_action;
    json_t *default_errno_ret, *flags;
    struct strv architectures;
    struct json_list arch_map, calls;
};

#define ROW JSON_FIELD

static const struct json_field arg_fields[] = {
    ROW("index", JSON_INT, struct profile_arg, index),
    ROW("value", JSON_INT, struct profile_arg, value),
    ROW("valueTwo", JSON_INT, struct profile_arg, value_two),
    ROW("op", JSON_TEXT, struct profile_arg, op),
};
static const struct json_table arg_table = JSON_TABLE(struct profile_arg, arg_fields);

static const struct json_field scope_fields[] = {
    ROW("caps", JSON_TEXTS, struct profile_scope, caps),
    ROW("arches", JSON_TEXTS, struct profile_scope, arches),
    ROW("minKernel", JSON_TEXT, struct profile_scope, min_kernel),
};
static const struct json_table scope_table = JSON_TABLE(struct profile_scope, scope_fields);

static const struct json_field call_fields[] = {
    ROW("names", JSON_TEXTS, struct profile_call, names),
    ROW("name", JSON_TEXT, struct profile_call, name),
    ROW("action", JSON_TEXT, struct profile_call, action),
    ROW("errnoRet", JSON_RAW, struct profile_call, errno_ret),
    ROW("args", JSON_LIST, struct profile_call, args, .sub = &arg_table),
    ROW("includes", JSON_STRUCT_PTR, struct profile_call, includes, .sub = &scope_table),
    ROW("excludes", JSON_STRUCT_PTR, struct profile_call, excludes, .sub = &scope_table),
    JSON_KNOWN("comment"),
};
static const struct json_table call_table = JSON_TABLE(struct profile_call, call_fields);

static const struct json_field arch_fields[] = {
    ROW("architecture", JSON_TEXT, struct profile_arch, architecture),
    ROW("subArchitectures", JSON_TEXTS, struct profile_arch, sub_architectures),
};
static const struct json_table arch_table = JSON_TABLE(struct profile_arch, arch_fields);

static const struct json_field profile_fields[] = {
    ROW("defaultAction", JSON_TEXT, struct profile, default_action),
    ROW("defaultErrnoRet", JSON_RAW, struct profile, default_errno_ret),
    ROW("architectures", JSON_TEXTS, struct profile, architectures),
    ROW("archMap", JSON_LIST, struct profile, arch_map, .sub = &arch_table),
    ROW("flags", JSON_RAW, struct profile, flags),
    ROW("syscalls", JSON_LIST, struct profile, calls, .sub = &call_table),
    JSON_KNOWN("listenerPath"),
    JSON_KNOWN("listenerMetadata"),
};
static const struct json_table profile_table = JSON_TABLE(struct profile, profile_fields);

// ---- its words ------------------------------------------------------------------------------------------------------

struct word {
    const char *name;
    uint32_t value;
};

static const struct word actions[] = {
    { "SCMP_ACT_KILL", SECCOMP_RET_KILL_THREAD },
    { "SCMP_ACT_KILL_THREAD", SECCOMP_RET_KILL_THREAD },
    { "SCMP_ACT_KILL_PROCESS", SECCOMP_RET_KILL_PROCESS },
    { "SCMP_ACT_TRAP", SECCOMP_RET_TRAP },
    { "SCMP_ACT_ERRNO", SECCOMP_RET_ERRNO },
    { "SCMP_ACT_TRACE", SECCOMP_RET_TRACE },
    { "SCMP_ACT_ALLOW", SECCOMP_RET_ALLOW },
    { "SCMP_ACT_LOG", SECCOMP_RET_LOG },
    { "SCMP_ACT_NOTIFY", SECCOMP_RET_USER_NOTIF },
};

static const struct word operators[] = {
    { "SCMP_CMP_NE", FILTER_NE },
    { "SCMP_CMP_LT", FILTER_LT },
    { "SCMP_CMP_LE", FILTER_LE },
    { "SCMP_CMP_EQ", FILTER_EQ },
    { "SCMP_CMP_GE", FILTER_GE },
    { "SCMP_CMP_GT", FILTER_GT },
    { "SCMP_CMP_MASKED_EQ", FILTER_MASKED_EQ },
};

// TSYNC is no word of the runtime-spec; runc takes it. The child that loads a filter has one thread: it says nothing.
static const struct word flags[] = {
    { "SECCOMP_FILTER_FLAG_TSYNC", 0 },
    { "SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG },
    { "SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW },
    { "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV },
};

static const struct word *find_word(const struct word *words, size_t len, const char *name)
{
    for (size_t i = 0; i < len; i++)
        if (str_eq(words[i].name, name ? name : ""))
            return &words[i];
    return NULL;
}

const char *seccomp_word(enum seccomp_word kind, size_t index)
{
    size_t arch_len;
    const struct syscall_arch *archs = syscall_archs(&arch_len);
    switch (kind) {
    case SECCOMP_ACTIONS:
        return index < ARRAY_LEN(actions) ? actions[index].name : NULL;
    case SECCOMP_OPERATORS:
        return index < ARRAY_LEN(operators) ? operators[index].name : NULL;
    case SECCOMP_FLAGS:
        return index < ARRAY_LEN(flags) ? flags[index].name : NULL;
    case SECCOMP_ARCHITECTURES:
        return index < arch_len ? archs[index].name : NULL;
    }
    return NULL;
}

bool seccomp_flag_supported(const char *name)
{
    const struct word *flag = find_word(flags, ARRAY_LEN(flags), name);
    if (!flag)
        return false;
    // A filter at an address that can't be read: the kernel looks at the flags first.
    unsigned with = flag->value == SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0;
    return flag->value == 0 ||
           (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flag->value | with, NULL) < 0 && errno == EFAULT);
}

// EPERM where the profile names no number; 16 bits are what the kernel keeps.
static int read_errno(json_t *value, uint32_t *out, struct err *err)
{
    *out = EPERM;
    if (!value || json_is_null(value))
        return 0;
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > UINT16_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "seccomp: errnoRet must be a number from 0 to %d", UINT16_MAX);
    *out = (uint32_t)json_integer_value(value);
    return 0;
}

static int read_action(const char *name, json_t *number, uint32_t *out, struct err *err)
{
    const struct word *action = find_word(actions, ARRAY_LEN(actions), name);
    uint32_t data;
    if (!action)
        return err_set(err, ERR_INVALID_ARGUMENT, "string %.100s is not a valid action for seccomp", name ? name : "");
    if (read_errno(number, &data, err) < 0)
        return -1;
    bool carries = action->value == SECCOMP_RET_ERRNO || action->value == SECCOMP_RET_TRACE;
    *out = action->value | (carries ? data : 0);
    return 0;
}

static int read_flags(const struct profile *profile, unsigned *out, struct err *err)
{
    *out = 0;
    if (!profile->flags || json_is_null(profile->flags)) {
        *out = SECCOMP_FILTER_FLAG_SPEC_ALLOW;
        return 0;
    }
    if (!json_is_array(profile->flags))
        return err_set(err, ERR_INVALID_ARGUMENT, "flags: expected list");
    size_t index;
    json_t *item;
    json_array_foreach(profile->flags, index, item)
    {
        const char *name = json_is_string(item) ? json_string_value(item) : "";
        const struct word *flag = find_word(flags, ARRAY_LEN(flags), name);
        if (!flag)
            return err_set(err, ERR_INVALID_ARGUMENT, "seccomp flag %.100s is not known", name);
        *out |= flag->value;
    }
    return 0;
}

// ---- what it applies to ---------------------------------------------------------------------------------------------

struct scope_host {
    uint64_t caps;
    const struct syscall_arch *arch;
    uint64_t kernel, major;
};

static int host_of(uint64_t caps, struct scope_host *out, struct err *err)
{
    struct utsname name;
    char *dot = name.release, *end = name.release;
    uint64_t kernel = uname(&name) < 0 ? 0 : strtoull(name.release, &dot, 10), major = 0;
    if (kernel && *dot == '.')
        major = strtoull(dot + 1, &end, 10);
    if (end <= dot + 1)
        return err_set(err, ERR_INTERNAL, "the kernel does not tell its version");
    *out = (struct scope_host){ caps, syscall_arch_native(), kernel, major };
    if (!out->arch)
        return err_set(err, ERR_NOT_IMPLEMENTED, "seccomp has no table for this architecture");
    return 0;
}

// *out: the kernel is that new, or none is asked for.
static int new_enough(const struct scope_host *host, const char *text, bool *out, struct err *err)
{
    struct slice rest = slice_of(text), part;
    uint64_t kernel, major;
    if (!slice_cut(&rest, '.', &part) || !num_parse_u64(part, 255, &kernel) || !num_parse_u64(rest, 255, &major) ||
        (kernel == 0 && major == 0))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid kernel version: %.40s, expected \"<kernel>.<major>\"", text);
    *out = host->kernel > kernel || (host->kernel == kernel && host->major >= major);
    return 0;
}

static bool has_cap(const struct scope_host *host, const char *name)
{
    int number = caps_number(name);
    return number >= 0 && number < 64 && (host->caps >> number & 1);
}

static int excluded(const struct scope_host *host, const struct profile_scope *scope, bool *out, struct err *err)
{
    *out = strv_has(&scope->arches, host->arch->go_name);
    for (size_t i = 0; i < scope->caps.len; i++)
        *out |= has_cap(host, scope->caps.items[i]);
    bool newer = false;
    if (!str_empty(scope->min_kernel) && new_enough(host, scope->min_kernel, &newer, err) < 0)
        return -1;
    *out |= newer;
    return 0;
}

static int included(const struct scope_host *host, const struct profile_scope *scope, bool *out, struct err *err)
{
    *out = scope->arches.len == 0 || strv_has(&scope->arches, host->arch->go_name);
    for (size_t i = 0; i < scope->caps.len; i++)
        *out &= has_cap(host, scope->caps.items[i]);
    bool newer = true;
    if (!str_empty(scope->min_kernel) && new_enough(host, scope->min_kernel, &newer, err) < 0)
        return -1;
    *out &= newer;
    return 0;
}

static int applies(const struct scope_host *host, const struct profile_call *call, bool *out, struct err *err)
{
    bool in = true, ex = false;
    if ((call->excludes && excluded(host, call->excludes, &ex, err) < 0) ||
        (call->includes && included(host, call->includes, &in, err) < 0))
        return -1;
    *out = in && !ex;
    return 0;
}

// ---- rules ----------------------------------------------------------------------------------------------------------

static int read_condition(const char *name, const struct profile_arg *arg, struct filter_condition *out,
                          struct err *err)
{
    const struct word *op = find_word(operators, ARRAY_LEN(operators), arg->op);
    if (!op)
        return err_set(err, ERR_INVALID_ARGUMENT, "string %.100s is not a valid operator for seccomp",
                       arg->op ? arg->op : "");
    if (arg->index < 0 || arg->index > 5)
        return err_set(err, ERR_INVALID_ARGUMENT, "seccomp: %.100s has no argument %lld", name, (long long)arg->index);
    // JSON's larger numbers arrive as the largest.
    if (arg->value < 0 || arg->value_two < 0 || arg->value == INT64_MAX || arg->value_two == INT64_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "seccomp: a value for %.100s is negative or beyond 2^63-1", name);
    *out = (struct filter_condition){ .arg = (uint8_t)arg->index,
                                      .compare = (uint8_t)op->value,
                                      .value = (uint64_t)arg->value };
    if (op->value == FILTER_MASKED_EQ) {
        out->mask = (uint64_t)arg->value;
        out->value = (uint64_t)arg->value_two;
    }
    return 0;
}

static bool looks_twice(const struct profile_call *call)
{
    unsigned seen = 0;
    for (size_t i = 0; i < call->args.len; i++) {
        const struct profile_arg *arg = json_list_at(&call->args, &arg_table, i);
        if (arg->index >= 0 && arg->index < 6 && seen >> arg->index & 1)
            return true;
        seen |= arg->index >= 0 && arg->index < 6 ? 1U << arg->index : 0;
    }
    return false;
}

// Conditions hold together; but where two look at one argument each is a rule of its own, as ever with runc.
static int add_named(struct seccomp_rules *rules, const char *name, const struct profile_call *call, uint32_t action,
                     struct err *err)
{
    const struct syscall_row *row = syscall_find(slice_of(name));
    struct filter_rule match = { .action = action };
    bool each = looks_twice(call);
    if (str_empty(name))
        return err_set(err, ERR_INVALID_ARGUMENT, "empty string is not a valid syscall");
    for (size_t i = 0; i < call->args.len; i++) {
        const struct profile_arg *arg = json_list_at(&call->args, &arg_table, i);
        if (read_condition(name, arg, &match.conditions[match.len], err) < 0)
            return -1;
        match.len++;
        if (each && row && seccomp_rules_add(rules, row, &match, err) < 0)
            return -1;
        match.len = each ? 0 : match.len;
    }
    return each || !row ? 0 : seccomp_rules_add(rules, row, &match, err);
}

static int check_notify(const char *name, uint32_t action, struct err *err)
{
    // The process that loads the filter still writes the listener's number to its parent, which nobody could answer
    // yet.
    if (action == SECCOMP_RET_USER_NOTIF && str_eq(name, "write"))
        return err_set(err, ERR_INVALID_ARGUMENT, "SCMP_ACT_NOTIFY cannot be used for the write syscall");
    return 0;
}

static int add_call(struct seccomp_rules *rules, const struct scope_host *host, const struct profile_call *call,
                    unsigned *filter_flags, struct err *err)
{
    uint32_t action = 0;
    bool wanted = false;
    if (call->name && call->names.len)
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'");
    if (applies(host, call, &wanted, err) < 0)
        return -1;
    if (!wanted)
        return 0;
    if (read_action(call->action, call->errno_ret, &action, err) < 0)
        return -1;
    *filter_flags |= action == SECCOMP_RET_USER_NOTIF ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0;
    size_t len = call->name ? 1 : call->names.len;
    for (size_t i = 0; i < len; i++) {
        const char *name = call->name ? call->name : call->names.items[i];
        if (check_notify(name, action, err) < 0 || add_named(rules, name, call, action, err) < 0)
            return -1;
    }
    return 0;
}

static int add_arch(struct seccomp_rules *rules, const char *name, struct err *err)
{
    const struct syscall_arch *arch = syscall_arch_find(slice_of(name ? name : ""));
    if (!arch)
        return err_set(err, ERR_INVALID_ARGUMENT, "string %.100s is not a valid arch for seccomp", name ? name : "");
    seccomp_rules_add_arch(rules, arch);
    return 0;
}

static int add_archs(struct seccomp_rules *rules, const struct profile *profile, const struct syscall_arch *native,
                     struct err *err)
{
    seccomp_rules_add_arch(rules, native);
    if (profile->architectures.len && profile->arch_map.len)
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "both 'architectures' and 'archMap' are specified in the seccomp profile, "
                       "use either 'architectures' or 'archMap'");
    for (size_t i = 0; i < profile->architectures.len; i++)
        if (add_arch(rules, profile->architectures.items[i], err) < 0)
            return -1;
    for (size_t i = 0; i < profile->arch_map.len; i++) {
        const struct profile_arch *map = json_list_at(&profile->arch_map, &arch_table, i);
        for (size_t k = 0;
             str_eq(map->architecture ? map->architecture : "", native->name) && k < map->sub_architectures.len; k++)
            if (add_arch(rules, map->sub_architectures.items[k], err) < 0)
                return -1;
    }
    return 0;
}

// A good tracer knows new calls itself, and what is allowed or logged reaches the kernel, which answers ENOSYS.
static bool forbids(uint32_t action)
{
    uint32_t kind = action & SECCOMP_RET_ACTION_FULL;
    return kind != SECCOMP_RET_ALLOW && kind != SECCOMP_RET_LOG && kind != SECCOMP_RET_TRACE;
}

static bool default_is_enosys(const struct profile *profile)
{
    return json_is_integer(profile->default_errno_ret) && json_integer_value(profile->default_errno_ret) == ENOSYS;
}

static int compile_profile(const struct profile *profile, uint64_t caps, struct filter_program *out, struct err *err)
{
    struct scope_host host = { 0 };
    _cleanup_(seccomp_rules_done) struct seccomp_rules rules = { 0 };
    if (host_of(caps, &host, err) < 0 || read_flags(profile, &out->flags, err) < 0 ||
        add_archs(&rules, profile, host.arch, err) < 0 ||
        read_action(profile->default_action, profile->default_errno_ret, &rules.default_action, err) < 0)
        return -1;
    if (rules.default_action == SECCOMP_RET_USER_NOTIF)
        return err_set(err, ERR_INVALID_ARGUMENT, "SCMP_ACT_NOTIFY cannot be used as default action");
    rules.newer_is_enosys = forbids(rules.default_action) && !default_is_enosys(profile);
    for (size_t i = 0; i < profile->calls.len; i++)
        if (add_call(&rules, &host, json_list_at(&profile->calls, &call_table, i), &out->flags, err) < 0)
            return -1;
    return seccomp_rules_compile(&rules, out, err);
}

int seccomp_compile(json_t *value, uint64_t caps, struct filter_program *out, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct profile profile;
    out->len = out->flags = 0;
    if (json_decode(&profile_table, value, &profile, &arena, NULL, err) < 0)
        return -1;
    if (str_empty(profile.default_action) && profile.calls.len == 0)
        return 0;
    return compile_profile(&profile, caps, out, err);
}

int seccomp_compile_text(const char *text, size_t size, uint64_t caps, struct filter_program *out, struct err *err)
{
    _cleanup_json_ json_t *value = NULL;
    if (json_parse(text, size, &value, err) < 0 || seccomp_compile(value, caps, out, err) < 0)
        return err_wrap(err, "Decoding seccomp profile failed");
    return 0;
}
