// RUN --mount and --device: comma-separated fields.
#include "build/build_private.h"

static const char *const type_names[] = { "bind", "cache", "tmpfs", "secret", "ssh" };
static const char *const sharing_names[] = { "shared", "private", "locked" };
static const char *const keys[] = { "type", "from", "source", "target", "readonly", "id", "sharing", "required", "size", "mode", "uid", "gid", "src",
                                    "dst", "destination", "ro", "rw", "readwrite", "env" };

struct mount_parse {
    struct run_mount *mount;
    struct arena *arena;
    bool read_only_given;
    struct err *err;
};

static int index_of(const char *const *names, size_t len, const char *name)
{
    for (size_t i = 0; i < len; i++)
        if (str_eq(names[i], name))
            return (int)i;
    return -1;
}

// The place of a word in a table, without case; else "MESSAGE "word" (did you mean ...?)".
static int word_in(struct mount_parse *parse, const char *const *names, size_t len, const char *word, const char *message)
{
    struct strv options = { .items = (char **)names, .len = len };
    int found = index_of(names, len, lower_case(word, parse->arena));
    if (found >= 0)
        return found;
    return err_suggest(parse->err, arena_printf(parse->arena, "%s %s", message, quoted(word, parse->arena)), word, &options, true, parse->arena);
}

static int wrong(struct mount_parse *parse, const char *key, const char *value)
{
    return err_set(parse->err, ERR_INVALID_ARGUMENT, "invalid value for %s: %s", key, value);
}

static int not_for_type(struct mount_parse *parse, const char *key)
{
    return err_set(parse->err, ERR_INVALID_ARGUMENT, "unexpected key '%s' for mount type '%s'", key, type_names[parse->mount->type]);
}

static int set_switch(struct mount_parse *parse, const char *key, const char *value)
{
    struct run_mount *mount = parse->mount;
    bool on = true;
    if (str_eq(key, "required") && mount->type != RUN_MOUNT_SECRET && mount->type != RUN_MOUNT_SSH)
        return not_for_type(parse, key);
    if (value && !parse_switch(value, &on))
        return wrong(parse, key, value);
    if (str_eq(key, "required")) {
        mount->required = on;
    } else {
        mount->read_only = str_eq(key, "ro") || str_eq(key, "readonly") ? on : !on;
        parse->read_only_given = true;
    }
    return 0;
}

static int set_number(struct mount_parse *parse, const char *key, const char *value, int64_t *out)
{
    uint64_t number;
    bool octal = str_eq(key, "mode");
    if (!(octal ? num_parse_octal(slice_of(value), UINT32_MAX, &number) : num_parse_u64(slice_of(value), UINT32_MAX, &number)))
        return err_set(parse->err, ERR_INVALID_ARGUMENT, "invalid value %s for %s", value, key);
    *out = (int64_t)number;
    return 0;
}

static int set_size(struct mount_parse *parse, const char *key, const char *value)
{
    int64_t size;
    if (parse->mount->type != RUN_MOUNT_TMPFS)
        return not_for_type(parse, key);
    if (!num_parse_bytes(value, &size))
        return wrong(parse, key, value);
    parse->mount->size = (uint64_t)size;
    return 0;
}

static int set_type(struct mount_parse *parse, const char *key, const char *value)
{
    int found = word_in(parse, type_names, ARRAY_LEN(type_names), value, "unsupported mount type");
    parse->mount->type = found < 0 ? RUN_MOUNT_BIND : (enum run_mount_type)found;
    return MIN_OF(found, 0);
}

static int set_sharing(struct mount_parse *parse, const char *key, const char *value)
{
    int found = word_in(parse, sharing_names, ARRAY_LEN(sharing_names), value, "unsupported sharing value");
    parse->mount->sharing = (enum run_mount_sharing)(found + 1);
    return MIN_OF(found, 0);
}

static int set_mode(struct mount_parse *parse, const char *key, const char *value)
{
    return set_number(parse, key, value, &parse->mount->mode);
}

static int set_uid(struct mount_parse *parse, const char *key, const char *value)
{
    return set_number(parse, key, value, &parse->mount->uid);
}

static int set_gid(struct mount_parse *parse, const char *key, const char *value)
{
    return set_number(parse, key, value, &parse->mount->gid);
}

// Keys with an offset hold a text; the others a function. Those of `alone` may stand without a value.
static const struct {
    const char *key;
    size_t text;
    int (*set)(struct mount_parse *parse, const char *key, const char *value);
    bool alone;
} rows[] = {
    { "type", 0, set_type, false },
    { "from", offsetof(struct run_mount, from), NULL, false },
    { "source", offsetof(struct run_mount, source), NULL, false },
    { "src", offsetof(struct run_mount, source), NULL, false },
    { "target", offsetof(struct run_mount, target), NULL, false },
    { "dst", offsetof(struct run_mount, target), NULL, false },
    { "destination", offsetof(struct run_mount, target), NULL, false },
    { "id", offsetof(struct run_mount, id), NULL, false },
    { "env", offsetof(struct run_mount, env), NULL, false },
    { "readonly", 0, set_switch, true },
    { "ro", 0, set_switch, true },
    { "readwrite", 0, set_switch, true },
    { "rw", 0, set_switch, true },
    { "required", 0, set_switch, true },
    { "size", 0, set_size, false },
    { "sharing", 0, set_sharing, false },
    { "mode", 0, set_mode, false },
    { "uid", 0, set_uid, false },
    { "gid", 0, set_gid, false },
};

static int field_set(struct mount_parse *parse, const char *field, const char *key, const char *value)
{
    struct strv options = { .items = (char **)keys, .len = ARRAY_LEN(keys) };
    size_t i = 0;
    while (i < ARRAY_LEN(rows) && !str_eq(rows[i].key, key))
        i++;
    if (!value && (i == ARRAY_LEN(rows) || !rows[i].alone))
        return err_set(parse->err, ERR_INVALID_ARGUMENT, "invalid field '%s' must be a key=value pair", field);
    if (i == ARRAY_LEN(rows))
        return err_suggest(parse->err, arena_printf(parse->arena, "unexpected key '%s' in '%s'", key, field), key, &options, true, parse->arena);
    if (rows[i].set)
        return rows[i].set(parse, key, value);
    *(const char **)((char *)parse->mount + rows[i].text) = value;
    return 0;
}

static const char *key_of(const char *field, const char **value, struct arena *arena)
{
    const char *equals = strchr(field, '=');
    *value = equals ? equals + 1 : NULL;
    return lower_case(arena_strndup(arena, field, equals ? (size_t)(equals - field) : strlen(field)), arena);
}

static int fields_of(const char *text, const char *what, struct arena *arena, struct strv *out, struct err *err)
{
    return split_csv(text, arena, out, err) < 0 ? err_wrap(err, "failed to parse csv %s", what) : 0;
}

int run_mount_check(struct run_mount *mount, struct arena *arena, struct err *err)
{
    struct strv fields;
    mount->mode = mount->uid = mount->gid = -1;
    if (fields_of(mount->raw, "mounts", arena, &fields, err) < 0)
        return -1;
    for (size_t i = 0; i < fields.len; i++) {
        const char *value, *key = key_of(fields.items[i], &value, arena);
        const char *dollar = value ? strchr(value, '$') : NULL;
        if (!value || !str_eq(key, "from"))
            continue;
        if (dollar && dollar[1])
            return err_set(err, ERR_INVALID_ARGUMENT, "'from' doesn't support variable expansion, define alias stage instead");
        mount->from = str_empty(value) ? NULL : value;
    }
    return 0;
}

// What belongs together in a mount.
static int whole_check(struct mount_parse *parse)
{
    const struct run_mount *mount = parse->mount;
    const char *wrong_key = mount->mode >= 0 ? "mode" : mount->uid >= 0 ? "uid" : mount->gid >= 0 ? "gid" : NULL;
    const char *message = NULL;
    if (wrong_key && (mount->type == RUN_MOUNT_BIND || mount->type == RUN_MOUNT_TMPFS))
        return err_set(parse->err, ERR_INVALID_ARGUMENT, "%s not allowed for \"%s\" type mounts", wrong_key, type_names[mount->type]);
    if (mount->type == RUN_MOUNT_SECRET) {
        if (mount->from)
            message = "secret mount should not have a from";
        else if (mount->sharing)
            message = "secret mount should not define sharing";
        else if (!mount->source && !mount->target && !mount->id)
            message = "invalid secret mount. one of source, target required";
        else if (mount->source && mount->id)
            message = "both source and id can't be set";
    }
    if (message)
        return err_set(parse->err, ERR_INVALID_ARGUMENT, "%s", message);
    if (mount->sharing && mount->type != RUN_MOUNT_CACHE)
        return err_set(parse->err, ERR_INVALID_ARGUMENT, "invalid cache sharing set for %s mount", type_names[mount->type]);
    return 0;
}

static const char *null_if_empty(const char *text)
{
    return str_empty(text) ? NULL : text;
}

int run_mount_expand(struct run_mount *mount, const struct words *words, struct err *err)
{
    struct mount_parse parse = { .mount = mount, .arena = words->arena, .err = err };
    struct strv fields;
    *mount = (struct run_mount){ .raw = mount->raw, .mode = -1, .uid = -1, .gid = -1 };
    if (fields_of(mount->raw, "mounts", words->arena, &fields, err) < 0)
        return -1;
    for (size_t i = 0; i < fields.len; i++) {
        const char *value, *key = key_of(fields.items[i], &value, words->arena);
        if ((value && words_expand(words, value, &value, err) < 0) || field_set(&parse, fields.items[i], key, value) < 0)
            return -1;
    }
    mount->from = null_if_empty(mount->from);
    mount->source = null_if_empty(mount->source);
    mount->target = null_if_empty(mount->target);
    mount->id = null_if_empty(mount->id);
    if (!parse.read_only_given)
        mount->read_only = mount->type != RUN_MOUNT_CACHE && mount->type != RUN_MOUNT_TMPFS;
    return whole_check(&parse);
}

int run_device_parse(const char *text, struct arena *arena, struct run_device *out, struct err *err)
{
    struct strv fields;
    if (fields_of(text, "devices", arena, &fields, err) < 0)
        return -1;
    for (size_t i = 0; i < fields.len; i++) {
        const char *value, *field = fields.items[i], *key = key_of(field, &value, arena);
        static const char *const names[] = { "name", "required" };
        struct strv options = { .items = (char **)names, .len = ARRAY_LEN(names) };
        if (str_eq(key, "required")) {
            out->required = true;
            if (value && !parse_switch(value, &out->required))
                return err_set(err, ERR_INVALID_ARGUMENT, "invalid value for %s: %s", key, value);
        } else if (value && str_eq(key, "name")) {
            if (out->name)
                return err_set(err, ERR_INVALID_ARGUMENT, "device name already set to %s", out->name);
            out->name = value;
        } else if (!out->name) {
            out->name = field;
        } else if (!value) {
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid field '%s' must be a key=value pair", field);
        } else {
            return err_suggest(err, arena_printf(arena, "unexpected key '%s' in '%s'", key, field), key, &options, true, arena);
        }
    }
    return 0;
}
