// --mount, --volume and --tmpfs.
#include <ctype.h>

#include "client/client_private.h"
#include "base/num.h"

enum option_kind { OPTION_TEXT, OPTION_FLAG, OPTION_BYTES, OPTION_OCTAL, OPTION_PAIR };

// Where a word of --mount goes. `type` is the mount it belongs to, NULL: any.
static const struct {
    const char *word, *path;
    enum option_kind kind;
    const char *type;
} words[] = {
    { "type", "Type", OPTION_TEXT, NULL },
    { "source", "Source", OPTION_TEXT, NULL },
    { "src", "Source", OPTION_TEXT, NULL },
    { "target", "Target", OPTION_TEXT, NULL },
    { "dst", "Target", OPTION_TEXT, NULL },
    { "destination", "Target", OPTION_TEXT, NULL },
    { "readonly", "ReadOnly", OPTION_FLAG, NULL },
    { "ro", "ReadOnly", OPTION_FLAG, NULL },
    { "consistency", "Consistency", OPTION_TEXT, NULL },
    { "bind-propagation", "BindOptions.Propagation", OPTION_TEXT, "bind" },
    { "bind-nonrecursive", "BindOptions.NonRecursive", OPTION_FLAG, "bind" },
    { "volume-subpath", "VolumeOptions.Subpath", OPTION_TEXT, "volume" },
    { "volume-nocopy", "VolumeOptions.NoCopy", OPTION_FLAG, "volume" },
    { "volume-label", "VolumeOptions.Labels", OPTION_PAIR, "volume" },
    { "volume-driver", "VolumeOptions.DriverConfig.Name", OPTION_TEXT, "volume" },
    { "volume-opt", "VolumeOptions.DriverConfig.Options", OPTION_PAIR, "volume" },
    { "image-subpath", "ImageOptions.Subpath", OPTION_TEXT, "image" },
    { "tmpfs-size", "TmpfsOptions.SizeBytes", OPTION_BYTES, "tmpfs" },
    { "tmpfs-mode", "TmpfsOptions.Mode", OPTION_OCTAL, "tmpfs" },
};

static json_t *value_of(enum option_kind kind, const char *text)
{
    int64_t number;
    uint64_t octal;
    switch (kind) {
    case OPTION_FLAG:
        if (strchr("1tT", *text) && *text)
            return json_true();
        return strchr("0fF", *text) && *text ? json_false() : NULL;
    case OPTION_BYTES:
        return num_parse_bytes(text, &number) ? json_integer(number) : NULL;
    case OPTION_OCTAL:
        return num_parse_octal(slice_of(text), UINT32_MAX, &octal) ? json_integer((json_int_t)octal) : NULL;
    case OPTION_TEXT:
    case OPTION_PAIR:
        break;
    }
    return json_new_text(text);
}

static void put_pair(json_t *mount, const char *path, const char *text)
{
    char inner[128];
    struct slice key, rest = slice_of(text);
    slice_cut(&rest, '=', &key);
    snprintf(inner, sizeof(inner), "%s.", path);
    json_t *map = mount, *next;
    struct slice part, names = slice_of(path);
    while (slice_cut(&names, '.', &part)) {
        snprintf(inner, sizeof(inner), "%.*s", (int)part.size, part.data);
        next = json_object_get(map, inner);
        if (!next)
            json_object_set_new(map, inner, next = json_object());
        map = next;
    }
    _cleanup_free_ char *name = mem_strndup(key.data, key.size);
    if (*name)
        json_object_set_new(map, name, json_new_text(rest.data ? rest.data : ""));
}

// A source below the folder we are in, made absolute.
static char *absolute(const char *path)
{
    char *real = *path == '.' ? realpath(path, NULL) : NULL;
    if (*path != '.' || real)
        return real ? real : mem_strdup(path);
    _cleanup_free_ char *here = getcwd(NULL, 0);
    return mem_printf("%s/%s", here ? here : "", path + (str_starts(path, "./") ? 2 : 0));
}

static int recursive(json_t *mount, const char *text, struct err *err)
{
    if (str_eq(text, "enabled"))
        return 0;
    const char *path = str_eq(text, "disabled") ? "BindOptions.NonRecursive" : str_eq(text, "writable") ? "BindOptions.ReadOnlyNonRecursive"
                     : str_eq(text, "readonly") ? "BindOptions.ReadOnlyForceRecursive" : NULL;
    if (!path)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid value for bind-recursive: %s (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")", text);
    body_put(mount, path, json_true());
    return 0;
}

static int mount_word(json_t *mount, char *field, const char **needs, struct err *err)
{
    char *value = strchr(field, '=');
    size_t i = 0, size = value ? (size_t)(value - field) : strlen(field);
    if (size == 14 && value && strncasecmp(field, "bind-recursive", 14) == 0) {
        *needs = "bind";
        return recursive(mount, value + 1, err);
    }
    while (i < ARRAY_LEN(words) && (strlen(words[i].word) != size || strncasecmp(words[i].word, field, size) != 0))
        i++;
    if (!value && (i == ARRAY_LEN(words) || words[i].kind != OPTION_FLAG))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid field '%s' must be a key=value pair", field);
    if (i == ARRAY_LEN(words))
        return err_set(err, ERR_INVALID_ARGUMENT, "unexpected key '%.*s' in '%s'", (int)size, field, field);
    if (words[i].type)
        *needs = words[i].type;
    if (words[i].kind == OPTION_PAIR) {
        put_pair(mount, words[i].path, value + 1);
        return 0;
    }
    _cleanup_free_ char *source = value && str_eq(words[i].path, "Source") ? absolute(value + 1) : NULL;
    json_t *json = value_of(words[i].kind, source ? source : value ? value + 1 : "true");
    if (!json)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid value for %s: %s", words[i].word, value + 1);
    body_put(mount, words[i].path, json);
    return 0;
}

char *next_field(char **rest)
{
    char *field = *rest, *to, *from;
    if (!field)
        return NULL;
    if (*field != '"') {
        char *comma = strchr(field, ',');
        *rest = comma ? comma + 1 : NULL;
        if (comma)
            *comma = 0;
        return field;
    }
    for (to = from = field + 1; *from && (*from != '"' || from[1] == '"'); *to++ = *from++)
        from += *from == '"';
    *rest = !from[0] || !from[1] ? NULL : from + 1 + (from[1] == ','); // what stands behind a quote is a field of its own
    *to = 0;
    return field + 1;
}

int mount_option(const char *text, json_t *mounts, struct err *err)
{
    _cleanup_free_ char *copy = mem_strdup(text);
    _cleanup_json_ json_t *mount = json_pack("{s:s}", "Type", "volume");
    const char *needs = NULL;
    char *rest = copy, *field;
    while ((field = next_field(&rest)))
        if (mount_word(mount, field, &needs, err) < 0)
            return -1;
    const char *type = json_get_text(mount, "Type", "");
    if (!*json_get_text(mount, "Target", ""))
        return err_set(err, ERR_INVALID_ARGUMENT, *type ? "target is required" : "type is required");
    if (needs && !str_eq(needs, type))
        return err_set(err, ERR_INVALID_ARGUMENT, "cannot mix '%s-*' options with mount type '%s'", needs, type);
    const json_t *bind = json_object_get(mount, "BindOptions");
    bool forced = json_get_flag(bind, "ReadOnlyForceRecursive", false);
    if ((forced || json_get_flag(bind, "ReadOnlyNonRecursive", false)) && !json_get_flag(mount, "ReadOnly", false))
        return err_set(err, ERR_INVALID_ARGUMENT, "option 'bind-recursive=%s' requires 'readonly' to be specified in conjunction",
                       forced ? "readonly" : "writable");
    if (forced && !str_eq(json_get_text(bind, "Propagation", ""), "rprivate"))
        return err_set(err, ERR_INVALID_ARGUMENT, "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction");
    json_array_append(mounts, mount);
    return 0;
}

// -v /path is an anonymous volume; -v source:/path[:options] a bind or a named one.
static int add_volume(const char *text, json_t *binds, json_t *volumes, struct err *err)
{
    const char *colon = strchr(text, ':');
    if (!*text)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid empty volume spec");
    if (!colon) {
        json_object_set_new(volumes, text, json_object());
        return 0;
    }
    if (colon == text || !colon[1])
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid spec: %s: empty section between colons", text);
    _cleanup_free_ char *source = mem_strndup(text, (size_t)(colon - text)), *whole = absolute(source), *bind = mem_printf("%s%s", whole, colon);
    json_array_append_new(binds, json_new_text(bind));
    return 0;
}

int put_mounts(struct call *call, json_t *body, struct err *err)
{
    const struct strv *texts = flag_texts(&call->flags, "mount");
    json_t *mounts = json_array(), *binds = json_array(), *volumes = json_object(), *tmpfs = json_object();
    body_put(body, "HostConfig.Mounts", mounts);
    body_put(body, "HostConfig.Binds", binds);
    body_put(body, "Volumes", volumes);
    body_put(body, "HostConfig.Tmpfs", tmpfs);
    for (size_t i = 0; i < texts->len; i++)
        if (mount_option(texts->items[i], mounts, err) < 0)
            return err_wrap(err, "invalid argument \"%s\" for \"--mount\" flag", texts->items[i]);
    texts = flag_texts(&call->flags, "volume");
    for (size_t i = 0; i < texts->len; i++)
        if (add_volume(texts->items[i], binds, volumes, err) < 0)
            return -1;
    texts = flag_texts(&call->flags, "tmpfs");
    for (size_t i = 0; i < texts->len; i++) {
        struct slice path, rest = slice_of(texts->items[i]);
        slice_cut(&rest, ':', &path);
        _cleanup_free_ char *key = mem_strndup(path.data, path.size);
        json_object_set_new(tmpfs, key, json_new_text(rest.data ? rest.data : ""));
    }
    return 0;
}
