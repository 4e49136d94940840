// What a client asks to see inside: -v, --mount, --tmpfs, the image's volumes. Resolved once, at create, into a list
// that stands in the record.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "engine_private.h"
#include "mounts.h"

struct mount_words {
    bool read_only;
    const char *propagation;
};

static const char *const propagations[] = { "rprivate", "private", "rshared", "shared", "rslave", "slave" };
static const char *const harmless[] = { "rw", "z", "Z", "cached", "delegated", "consistent", "nocopy", "volume-nocopy" };

static bool among(const char *word, const char *const *list, size_t len, const char **out)
{
    for (size_t i = 0; i < len; i++)
        if (str_eq(word, list[i])) {
            *out = list[i];
            return true;
        }
    return false;
}

static int parse_words(const char *text, const char *whole, struct mount_words *out, struct err *err)
{
    struct slice rest = slice_of(text), part;
    const char *found;
    while (slice_cut(&rest, ',', &part)) {
        char word[16] = "";
        if (part.size < sizeof(word))
            memcpy(word, part.data, part.size);
        if (part.size == 0)
            continue;
        if (str_eq(word, "ro"))
            out->read_only = true;
        else if (among(word, propagations, ARRAY_LEN(propagations), &found))
            out->propagation = found;
        else if (!among(word, harmless, ARRAY_LEN(harmless), &found))
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid volume specification: '%s': invalid mode: %s", whole, text);
    }
    return 0;
}

static struct engine_mount *add(struct container *container, const char *destination)
{
    struct arena *arena = &container->arena;
    struct engine_mount *grown = arena_alloc(arena, (container->mount_len + 1) * sizeof(*grown));
    if (container->mount_len)
        memcpy(grown, container->mounts, container->mount_len * sizeof(*grown));
    container->mounts = grown;
    struct engine_mount *mount = &grown[container->mount_len++];
    mount->destination = arena_strdup(arena, destination);
    size_t len = strlen(mount->destination);
    while (len > 1 && mount->destination[len - 1] == '/')
        mount->destination[--len] = 0;
    mount->mode = mount->propagation = (char *)"";
    mount->rw = true;
    return mount;
}

static int check_destination(const struct container *container, const char *destination, struct err *err)
{
    if (!destination || destination[0] != '/')
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid mount config: mount path must be absolute: '%s'",
                       destination ? destination : "");
    if (str_eq(destination, "/"))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid volume specification: destination can't be '/'");
    for (size_t i = 0; i < container->mount_len; i++)
        if (str_eq(container->mounts[i].destination, destination))
            return err_set(err, ERR_INVALID_ARGUMENT, "Duplicate mount point: %s", destination);
    return 0;
}

static int add_volume(struct container *container, const struct image *image, const char *name, const char *destination,
                      bool read_only, struct err *err)
{
    struct volume volume;
    bool created;
    if (volume_ensure(container->engine->volumes, name, &container->arena, &volume, &created, err) < 0)
        return -1;
    struct engine_mount *mount = add(container, destination);
    mount->type = (char *)"volume";
    mount->name = volume.name;
    mount->source = volume.path;
    mount->driver = (char *)"local";
    mount->mode = (char *)"z";
    mount->rw = !read_only;
    return created ? volume_fill(container, image, destination, volume.path, err) : 0;
}

static void add_bind(struct container *container, const char *source, const char *destination, const char *mode,
                     const struct mount_words *words)
{
    struct engine_mount *mount = add(container, destination);
    mount->type = (char *)"bind";
    mount->source = arena_strdup(&container->arena, source);
    mount->mode = arena_strdup(&container->arena, mode);
    mount->rw = !words->read_only;
    mount->propagation = (char *)(words->propagation ? words->propagation : "rprivate");
}

// "src:dst[:words]": an absolute source is a host path, made as a folder when it is missing; else a volume's name.
static int from_bind(struct container *container, const struct image *image, const char *text, struct err *err)
{
    struct slice rest = slice_of(text), part[3] = { 0 };
    struct arena *arena = &container->arena;
    struct mount_words words = { 0 };
    size_t len = 0;
    while (len < 3 && slice_cut(&rest, ':', &part[len]))
        len++;
    if (len < 2 || part[0].size == 0 || part[1].size == 0 || rest.data)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid volume specification: '%s'", text);
    const char *source = arena_strndup(arena, part[0].data, part[0].size);
    const char *destination = arena_strndup(arena, part[1].data, part[1].size);
    const char *mode = len == 3 ? arena_strndup(arena, part[2].data, part[2].size) : "";
    if (parse_words(mode, text, &words, err) < 0 || check_destination(container, destination, err) < 0)
        return -1;
    if (source[0] != '/')
        return add_volume(container, image, source, destination, words.read_only, err);
    if (access(source, F_OK) < 0 && errno == ENOENT && file_mkdirs(AT_FDCWD, source, 0755, err) < 0)
        return err_wrap(err, "error while creating mount source path '%s'", source);
    add_bind(container, source, destination, mode, &words);
    return 0;
}

static void add_tmpfs(struct container *container, const char *destination, const char *options)
{
    struct engine_mount *mount = add(container, destination);
    mount->type = (char *)"tmpfs";
    mount->source = (char *)"";
    mount->mode = arena_strdup(&container->arena, options);
}

static int from_request(struct container *container, const struct image *image, const struct mount_request *request,
                        struct err *err)
{
    const struct mount_words words = { .read_only = request->read_only };
    if (check_destination(container, request->target, err) < 0)
        return -1;
    if (str_eq(request->type, "volume"))
        return add_volume(container, image, str_empty(request->source) ? NULL : request->source, request->target,
                          request->read_only, err);
    if (str_eq(request->type, "tmpfs")) {
        char options[64] = "";
        if (request->tmpfs && request->tmpfs->size_bytes > 0)
            snprintf(options, sizeof(options), "size=%lld", (long long)request->tmpfs->size_bytes);
        if (request->tmpfs && request->tmpfs->mode > 0)
            snprintf(options + strlen(options), sizeof(options) - strlen(options), "%smode=%llo", options[0] ? "," : "",
                     (long long)request->tmpfs->mode & 07777);
        add_tmpfs(container, request->target, options);
        return 0;
    }
    if (!str_eq(request->type, "bind"))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid mount config for type \"%s\": mount type unknown", request->type);
    if (str_empty(request->source) || request->source[0] != '/')
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "invalid mount config for type \"bind\": invalid mount path: '%s' mount path must be absolute",
                       request->source ? request->source : "");
    if (access(request->source, F_OK) < 0)
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "invalid mount config for type \"bind\": bind source path does not exist: %s", request->source);
    add_bind(container, request->source, request->target, "", &words);
    return 0;
}

int mounts_from_config(struct container *container, const struct image *image, struct err *err)
{
    const struct host_config *host = &container->config.host_config;
    for (size_t i = 0; i < host->binds.len; i++)
        if (from_bind(container, image, host->binds.items[i], err) < 0)
            return -1;
    for (size_t i = 0; i < host->mounts.len; i++)
        if (from_request(container, image, json_list_at(&host->mounts, &mount_request_table, i), err) < 0)
            return err_wrap(err, "HostConfig.Mounts[%zu]", i);
    for (size_t i = 0; i < host->tmpfs.len; i++) {
        if (check_destination(container, host->tmpfs.items[i].key, err) < 0)
            return -1;
        add_tmpfs(container, host->tmpfs.items[i].key, host->tmpfs.items[i].value);
    }
    const struct strv *volumes = &container->config.process.volumes;
    for (size_t i = 0; i < volumes->len; i++) {
        struct err ignored = { 0 };
        if (volumes->items[i][0] != '/')
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid volume specification: '%s'", volumes->items[i]);
        if (check_destination(container, volumes->items[i], &ignored) < 0)
            continue; // the user mounted something there
        if (add_volume(container, image, NULL, volumes->items[i], false, err) < 0)
            return -1;
    }
    return 0;
}

// Anonymous volumes go with their container (rm -v, --rm); named ones stay.
void mounts_remove_anonymous(struct container *container)
{
    for (size_t i = 0; i < container->mount_len; i++) {
        struct engine_mount *mount = &container->mounts[i];
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct volume volume;
        struct err ignored = { 0 };
        if (str_eq(mount->type, "volume") &&
            volume_get(container->engine->volumes, mount->name, &arena, &volume, &ignored) == 0 && volume.anonymous)
            volume_remove(container->engine->volumes, mount->name, &ignored);
    }
}
