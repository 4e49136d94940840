#include <errno.h>
#include <fcntl.h>

#include "base/slice.h"
#include "oci/oci_private.h"

#define MOUNTS_MAX 4096
#define PROPAGATIONS_MAX 8

struct reader {
    const struct oci_config *config;
    const char *bundle;
    bool rootless;
    struct arena *arena;
    struct mount_set *set;
};

static struct mount_option option_of(struct arena *arena, const char *word)
{
    struct slice value = slice_of(word), key;
    slice_cut(&value, '=', &key);
    return (struct mount_option){ .key = arena_strndup(arena, key.data, key.size),
                                  .value = value.data ? arena_strndup(arena, value.data, value.size) : NULL };
}

struct words {
    bool remount, bind;
    const char *unknown; // the first that only a file system may know
};

static int read_words(struct reader *reader, const struct oci_mount *in, struct config_mount *out, struct words *words, struct err *err)
{
    struct mount_option *options = arena_alloc(reader->arena, (in->options.len + 3) * sizeof(*options));
    uint64_t *propagations = arena_alloc(reader->arena, PROPAGATIONS_MAX * sizeof(*propagations)), propagation;
    size_t len = 0;
    if (!str_empty(in->source))
        options[len++] = (struct mount_option){ .key = "source", .value = in->source };
    for (size_t i = 0; i < in->options.len; i++) {
        const char *option;
        if (!mount_word(in->options.items[i], out, &propagation, &words->remount, &words->bind, &option) && !words->unknown)
            words->unknown = option;
        if (propagation && out->propagation_len == PROPAGATIONS_MAX)
            return err_set(err, ERR_INVALID_ARGUMENT, "more than %d propagation words", PROPAGATIONS_MAX);
        if (propagation)
            propagations[out->propagation_len++] = propagation;
        // "newinstance" is what every devpts is since Linux 4.7.
        if (option && *option && !str_eq(option, "newinstance"))
            options[len++] = option_of(reader->arena, option);
    }
    const char *label = reader->config->linux_section->mount_label;
    if (!str_empty(label) && (str_eq(in->type, "tmpfs") || str_eq(in->type, "mqueue")))
        options[len++] = (struct mount_option){ .key = "context", .value = label };
    out->options = options;
    out->option_len = len;
    out->propagation = propagations;
    return 0;
}

static int own(struct mount_set *set, int fd)
{
    set->owned_fds = mem_grow(set->owned_fds, (set->owned_len + 1) * sizeof(int));
    return set->owned_fds[set->owned_len++] = fd;
}

static int read_idmap(struct reader *reader, const struct oci_mount *in, struct config_mount *out, struct err *err)
{
    bool own_maps = in->uid_mappings.len || in->gid_mappings.len;
    if (out->idmap_fd < 0 && !own_maps)
        return 0;
    const struct oci_linux *section = reader->config->linux_section;
    const struct json_list *uids = own_maps ? &in->uid_mappings : &section->uid_mappings;
    const struct json_list *gids = own_maps ? &in->gid_mappings : &section->gid_mappings;
    if (!uids->len || !gids->len)
        return err_set(err, ERR_INVALID_ARGUMENT, "idmap mount needs uidMappings and gidMappings");
    if (reader->rootless)
        return err_set(err, ERR_PERMISSION_DENIED, "id-mapped mounts need the rights of root");
    int fd = idmap_namespace(uids, gids, err);
    if (fd < 0)
        return -1;
    out->idmap_fd = own(reader->set, fd);
    return 0;
}

static int read_bind(struct reader *reader, const struct oci_mount *in, struct config_mount *out, struct err *err)
{
    out->kind = CONFIG_MOUNT_BIND;
    if (str_empty(in->source))
        return err_set(err, ERR_INVALID_ARGUMENT, "bind mount of \"%s\" has no source", out->target);
    out->source = in->source[0] == '/' ? in->source : arena_printf(reader->arena, "%s/%s", reader->bundle, in->source);
    if (reader->rootless)
        return access(out->source, F_OK) == 0 ? 0 : err_errno(err, errno, "stat %s", out->source);
    int fd = open(out->source, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "stat %s", out->source);
    out->source_fd = own(reader->set, fd);
    return 0;
}

const char *mount_clean_target(struct arena *arena, const char *path)
{
    char *out = arena_alloc(arena, strlen(path) + 2);
    struct slice rest = slice_of(path), part;
    size_t size = 0;
    while (slice_cut(&rest, '/', &part)) {
        if (part.size == 0 || slice_eq(part, "."))
            continue;
        out[size++] = '/';
        memcpy(out + size, part.data, part.size);
        size += part.size;
    }
    if (size == 0)
        out[0] = '/';
    return out;
}

bool mount_is_bind(const struct oci_mount *mount)
{
    bool word = str_eq(mount->type, "bind");
    for (size_t i = 0; i < mount->options.len; i++) {
        if (str_eq(mount->options.items[i], "remount"))
            return false;
        word |= str_eq(mount->options.items[i], "bind") || str_eq(mount->options.items[i], "rbind");
    }
    return word;
}

static int read_mount(struct reader *reader, const struct oci_mount *in, struct config_mount *out, struct err *err)
{
    struct words words = { 0 };
    if (str_empty(in->destination))
        return err_set(err, ERR_INVALID_ARGUMENT, "a mount without destination");
    *out = (struct config_mount){ .target = mount_clean_target(reader->arena, in->destination), .source_fd = -1, .idmap_fd = -1,
                                  .fstype = in->type, .source = in->source };
    if (read_words(reader, in, out, &words, err) < 0)
        return -1;
    words.bind |= str_eq(in->type, "bind");
    if (words.unknown && (words.remount || words.bind))
        return err_set(err, ERR_INVALID_ARGUMENT, "%s mounts cannot have any filesystem-specific options applied: %.100s",
                       words.remount ? "remount" : "bind", words.unknown);
    if (words.remount) {
        out->kind = CONFIG_MOUNT_REMOUNT;
        return 0;
    }
    if (words.bind)
        return read_bind(reader, in, out, err) < 0 ? -1 : read_idmap(reader, in, out, err);
    if (str_empty(in->type))
        return err_set(err, ERR_INVALID_ARGUMENT, "mount of \"%s\" has no type", out->target);
    if (out->copy_up && !str_eq(in->type, "tmpfs"))
        return err_set(err, ERR_INVALID_ARGUMENT, "tmpcopyup on \"%s\", which is no tmpfs", out->target);
    out->kind = str_eq(in->type, "cgroup") || str_eq(in->type, "cgroup2") ? CONFIG_MOUNT_CGROUP : CONFIG_MOUNT_NEW;
    if (out->kind == CONFIG_MOUNT_CGROUP && words.unknown)
        return err_set(err, ERR_INVALID_ARGUMENT, "a cgroup mount takes no option %.100s", words.unknown);
    if (out->kind == CONFIG_MOUNT_CGROUP && (out->idmap_fd >= 0 || in->uid_mappings.len))
        return err_set(err, ERR_INVALID_ARGUMENT, "a cgroup mount takes no id maps");
    return read_idmap(reader, in, out, err);
}

int mounts_read(const struct oci_config *config, const char *bundle, bool rootless, struct arena *arena, struct mount_set *out,
                struct err *err)
{
    struct reader reader = { config, bundle, rootless, arena, out };
    const struct oci_mount *items = config->mounts.items;
    *out = (struct mount_set){ 0 };
    if (config->mounts.len > MOUNTS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %d mounts", MOUNTS_MAX);
    out->mounts = arena_alloc(arena, (config->mounts.len + 1) * sizeof(*out->mounts));
    for (size_t i = 0; i < config->mounts.len; i++) {
        if (read_mount(&reader, &items[i], &out->mounts[out->len++], err) < 0) {
            mounts_done(out);
            return err_wrap(err, "mounts[%zu]", i);
        }
    }
    return 0;
}

void mounts_done(struct mount_set *set)
{
    for (size_t i = 0; i < set->owned_len; i++)
        fd_close(set->owned_fds[i]);
    free(set->owned_fds);
    *set = (struct mount_set){ 0 };
}
