// What a client asks to see inside: -v, --mount, --tmpfs, the image's volumes. Resolved once, at create, into a list
// that stands in the record.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "engine_private.h"
#include "kernel/mountinfo.h"
#include "mounts.h"

enum { MOUNTS_MAX = 900 }; // each is a descriptor of the start; the layers and ports need some too

enum mode_class { MODE_ACCESS, MODE_LABEL, MODE_PROPAGATION, MODE_COPY, MODE_CONSISTENCY, MODE_CLASSES };

static const struct {
    const char *word;
    enum mode_class class;
} mode_words[] = {
    { "ro", MODE_ACCESS },          { "rw", MODE_ACCESS },           { "z", MODE_LABEL },
    { "Z", MODE_LABEL },            { "private", MODE_PROPAGATION }, { "rprivate", MODE_PROPAGATION },
    { "shared", MODE_PROPAGATION }, { "rshared", MODE_PROPAGATION }, { "slave", MODE_PROPAGATION },
    { "rslave", MODE_PROPAGATION }, { "copy", MODE_COPY },           { "nocopy", MODE_COPY },
    { "cached", MODE_CONSISTENCY }, { "delegated", MODE_CONSISTENCY }, { "consistent", MODE_CONSISTENCY },
};

// The word of each class that a mode has, or NULL. Labels mean nothing without SELinux, consistency nothing on Linux.
struct mount_mode {
    const char *words[MODE_CLASSES];
};

static bool add_word(struct slice part, struct mount_mode *out)
{
    for (size_t i = 0; i < ARRAY_LEN(mode_words); i++) {
        const char **place = &out->words[mode_words[i].class];
        if (!slice_eq(part, mode_words[i].word))
            continue;
        if (*place)
            return false;
        *place = mode_words[i].word;
        return true;
    }
    return false;
}

// Words between commas, at most one of each class.
static int parse_mode(const char *text, struct mount_mode *out, struct err *err)
{
    struct slice rest = slice_of(text), part;
    *out = (struct mount_mode){ 0 };
    while (!str_empty(text) && slice_cut(&rest, ',', &part))
        if (!add_word(part, out))
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid mode: %s", text);
    return 0;
}

static bool is_propagation(const char *word)
{
    struct mount_mode mode = { 0 };
    return add_word(slice_of(word), &mode) && mode.words[MODE_PROPAGATION];
}

// What the functions below work on.
struct mounting {
    struct container *container;
    struct arena *arena; // of the request
    struct strv *fresh;
};

// The destination without doubled slashes, "." and "..": two spellings of one place are one place.
static char *clean_path(struct arena *arena, const char *path)
{
    struct slice rest = slice_of(path), part;
    char *clean = arena_alloc(arena, rest.size + 2);
    size_t len = 0;
    while (slice_cut(&rest, '/', &part)) {
        if (part.size == 0 || slice_eq(part, "."))
            continue;
        if (slice_eq(part, "..")) {
            while (len > 0 && clean[--len] != '/')
                ;
            continue;
        }
        clean[len++] = '/';
        memcpy(clean + len, part.data, part.size);
        len += part.size;
    }
    if (len == 0)
        clean[len++] = '/';
    clean[len] = 0; // behind a ".." stands what it took away
    return clean;
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
    mount->mode = mount->propagation = (char *)"";
    mount->rw = true;
    return mount;
}

// Cleans *destination. Duplicates are refused, and more than a container's descriptors could carry.
static int check_destination(struct mounting *mounting, const char **destination, struct err *err)
{
    const struct container *container = mounting->container;
    if (!*destination || **destination != '/')
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid mount config: mount path must be absolute: '%s'",
                       *destination ? *destination : "");
    *destination = clean_path(mounting->arena, *destination);
    if (str_eq(*destination, "/"))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid volume specification: destination can't be '/'");
    if (container->mount_len >= MOUNTS_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d mounts", MOUNTS_MAX);
    for (size_t i = 0; i < container->mount_len; i++)
        if (str_eq(container->mounts[i].destination, *destination))
            return err_set(err, ERR_INVALID_ARGUMENT, "Duplicate mount point: %s", *destination);
    return 0;
}

struct volume_wish {
    const char *name; // NULL: an anonymous one
    bool read_only, no_copy;
};

static int add_volume(struct mounting *mounting, const struct volume_wish *wish, const char *destination, struct err *err)
{
    struct container *container = mounting->container;
    struct volume volume;
    bool created;
    if (volume_ensure(container->engine->volumes, wish->name, &container->arena, &volume, &created, err) < 0 ||
        volume_hold(container->engine->volumes, volume.name, err) < 0)
        return -1;
    if (created)
        event_publish(container->engine, "volume", "create", volume.name, "driver", "local", NULL);
    struct engine_mount *mount = add(container, destination);
    mount->type = (char *)"volume";
    mount->name = volume.name;
    mount->source = volume.path;
    mount->driver = (char *)"local";
    mount->mode = (char *)"z";
    mount->rw = !wish->read_only;
    if (created && !wish->no_copy)
        strv_push_arena(mounting->fresh, mounting->arena, destination);
    return 0;
}

int mounts_fill(struct container *container, const struct image *image, const struct strv *fresh, struct err *err)
{
    for (size_t i = 0; i < container->mount_len; i++) {
        const struct engine_mount *mount = &container->mounts[i];
        if (strv_has(fresh, mount->destination) &&
            volume_fill(container, image, mount->destination, mount->source, err) < 0)
            return -1;
    }
    return 0;
}

static struct engine_mount *add_bind(struct container *container, const char *source, const char *destination, bool read_only,
                                     const char *propagation)
{
    struct engine_mount *mount = add(container, destination);
    mount->type = (char *)"bind";
    mount->source = arena_strdup(&container->arena, source);
    mount->rw = !read_only;
    mount->propagation = str_empty(propagation) ? (char *)"rprivate" : arena_strdup(&container->arena, propagation);
    return mount;
}

// "src:dst[:words]", or "dst" alone for an anonymous volume.
struct bind_words {
    const char *source, *destination, *mode;
};

static int split_bind(const char *text, struct arena *arena, struct bind_words *out, struct err *err)
{
    struct slice rest = slice_of(text), part[3] = { 0 };
    size_t len = 0;
    while (len < 3 && slice_cut(&rest, ':', &part[len]))
        len++;
    if (len == 0 || rest.data || part[0].size == 0 || (len > 1 && part[1].size == 0))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid volume specification: '%s'", text);
    *out = (struct bind_words){ .mode = len == 3 ? arena_strndup(arena, part[2].data, part[2].size) : "" };
    out->source = len > 1 ? arena_strndup(arena, part[0].data, part[0].size) : NULL;
    out->destination = arena_strndup(arena, part[len > 1].data, part[len > 1].size);
    return 0;
}

static int extra_field(const char *text, const char *type, const char *field, struct err *err)
{
    return err_set(err, ERR_INVALID_ARGUMENT,
                   "invalid volume specification: '%s': invalid mount config for type \"%s\": field %s must not be specified",
                   text, type, field);
}

// An absolute source is a host path, made as a folder when it is missing; else a volume's name.
static int from_bind(struct mounting *mounting, const char *text, struct err *err)
{
    struct bind_words bind = { 0 };
    struct mount_mode mode;
    if (split_bind(text, mounting->arena, &bind, err) < 0 || parse_mode(bind.mode, &mode, err) < 0 ||
        check_destination(mounting, &bind.destination, err) < 0)
        return -1;
    bool read_only = str_eq(mode.words[MODE_ACCESS], "ro");
    if (!bind.source || bind.source[0] != '/') {
        const struct volume_wish wish = { bind.source, read_only, str_eq(mode.words[MODE_COPY], "nocopy") };
        return mode.words[MODE_PROPAGATION] ? extra_field(text, "volume", "BindOptions", err)
                                            : add_volume(mounting, &wish, bind.destination, err);
    }
    if (mode.words[MODE_COPY])
        return extra_field(text, "bind", "VolumeOptions", err);
    if (access(bind.source, F_OK) < 0 && errno == ENOENT && file_mkdirs(AT_FDCWD, bind.source, 0755, err) < 0)
        return err_wrap(err, "error while creating mount source path '%s'", bind.source);
    struct container *container = mounting->container;
    add_bind(container, bind.source, bind.destination, read_only, mode.words[MODE_PROPAGATION])->mode =
        arena_strdup(&container->arena, bind.mode);
    return 0;
}

static void add_tmpfs(struct container *container, const char *destination, const char *options)
{
    struct engine_mount *mount = add(container, destination);
    mount->type = (char *)"tmpfs";
    mount->source = (char *)"";
    mount->mode = arena_strdup(&container->arena, options);
}

static void add_tmpfs_request(struct container *container, const struct mount_request *request, const char *destination)
{
    char options[64];
    size_t used = (size_t)snprintf(options, sizeof(options), "%s", request->read_only ? ",ro" : "");
    if (request->tmpfs && request->tmpfs->size_bytes > 0)
        used += (size_t)snprintf(options + used, sizeof(options) - used, ",size=%lld", (long long)request->tmpfs->size_bytes);
    if (request->tmpfs && request->tmpfs->mode > 0)
        snprintf(options + used, sizeof(options) - used, ",mode=%llo", (long long)request->tmpfs->mode & 07777);
    add_tmpfs(container, destination, options[0] ? options + 1 : "");
}

static int request_error(struct err *err, const struct mount_request *request, const char *what, const char *name)
{
    return err_set(err, ERR_INVALID_ARGUMENT, "invalid mount config for type \"%s\": %s%s", request->type, what, name);
}

// Options of another type of mount say that the client means something else.
static int check_options(const struct mount_request *request, struct err *err)
{
    const struct {
        const char *type, *field;
        bool given;
    } table[] = { { "bind", "BindOptions", request->bind },
                  { "volume", "VolumeOptions", request->volume },
                  { "tmpfs", "TmpfsOptions", request->tmpfs } };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].given && !str_eq(request->type, table[i].type))
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid mount config for type \"%s\": field %s must not be specified",
                           request->type, table[i].field);
    return 0;
}

static int from_bind_request(struct mounting *mounting, const struct mount_request *request, const char *destination,
                             struct err *err)
{
    const char *source = request->source, *propagation = request->bind ? request->bind->propagation : NULL;
    if (!str_empty(propagation) && !is_propagation(propagation))
        return request_error(err, request, "invalid propagation mode: ", propagation);
    if (str_empty(source))
        return request_error(err, request, "field Source must not be empty", "");
    if (source[0] != '/')
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "invalid mount config for type \"bind\": invalid mount path: '%s' mount path must be absolute", source);
    if (access(source, F_OK) < 0)
        return request_error(err, request, "bind source path does not exist: ", source);
    add_bind(mounting->container, source, destination, request->read_only, propagation);
    return 0;
}

static int from_request(struct mounting *mounting, const struct mount_request *request, struct err *err)
{
    const char *destination = request->target;
    if (check_options(request, err) < 0 || check_destination(mounting, &destination, err) < 0)
        return -1;
    if (str_eq(request->type, "volume")) {
        const struct volume_wish wish = { str_empty(request->source) ? NULL : request->source, request->read_only,
                                          request->volume && request->volume->no_copy };
        return add_volume(mounting, &wish, destination, err);
    }
    if (str_eq(request->type, "bind"))
        return from_bind_request(mounting, request, destination, err);
    if (!str_eq(request->type, "tmpfs"))
        return request_error(err, request, "mount type unknown", "");
    if (!str_empty(request->source))
        return request_error(err, request, "field Source must not be specified", "");
    add_tmpfs_request(mounting->container, request, destination);
    return 0;
}

// An image's volume, or -v with a path alone; where the user mounted something there already, that stays.
static int from_volume_path(struct mounting *mounting, const char *path, struct err *err)
{
    const char *destination = path;
    if (path[0] != '/')
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid volume specification: '%s'", path);
    const char *clean = clean_path(mounting->arena, path);
    for (size_t i = 0; i < mounting->container->mount_len; i++)
        if (str_eq(mounting->container->mounts[i].destination, clean))
            return 0;
    if (check_destination(mounting, &destination, err) < 0)
        return -1;
    return add_volume(mounting, &(struct volume_wish){ 0 }, destination, err);
}

int mounts_from_config(struct container *container, struct arena *arena, struct strv *fresh, struct err *err)
{
    const struct host_config *host = &container->config.host_config;
    const struct strv *volumes = &container->config.process.volumes;
    struct mounting mounting = { container, arena, fresh };
    for (size_t i = 0; i < host->binds.len; i++)
        if (from_bind(&mounting, host->binds.items[i], err) < 0)
            return -1;
    for (size_t i = 0; i < host->mounts.len; i++)
        if (from_request(&mounting, json_list_at(&host->mounts, &mount_request_table, i), err) < 0)
            return err_wrap(err, "HostConfig.Mounts[%zu]", i);
    for (size_t i = 0; i < host->tmpfs.len; i++) {
        const char *destination = host->tmpfs.items[i].key;
        if (check_destination(&mounting, &destination, err) < 0)
            return -1;
        add_tmpfs(container, destination, host->tmpfs.items[i].value);
    }
    for (size_t i = 0; i < volumes->len; i++)
        if (from_volume_path(&mounting, volumes->items[i], err) < 0)
            return -1;
    return 0;
}

// What is mounted in the container later, or on the host, can only travel over a mount that the host lets travel.
int mounts_check_propagation(const struct task_mount *mount, int source_fd, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(MOUNTINFO_MAX);
    struct mount_info on;
    bool shared = str_eq(mount->propagation, "shared") || str_eq(mount->propagation, "rshared");
    bool slave = str_eq(mount->propagation, "slave") || str_eq(mount->propagation, "rslave");
    if (!shared && !slave)
        return 0;
    if (mount_info_of(source_fd, &text, &on, err) < 0)
        return err_wrap(err, "mount source %s", mount->source);
    if (on.shared || (slave && on.slave))
        return 0;
    _cleanup_free_ char *point = mem_alloc(on.point.size + 1);
    mount_info_unescape(on.point, point);
    return err_set(err, ERR_INTERNAL, "path %s is mounted on %s but it is not a shared%s mount", mount->source, point,
                   slave ? " or slave" : "");
}

void mounts_release(const struct container *container)
{
    for (size_t i = 0; i < container->mount_len; i++)
        if (str_eq(container->mounts[i].type, "volume"))
            volume_release(container->engine->volumes, container->mounts[i].name);
}

// One that is still being made is not looked at: its list grows. It holds its volumes.
static bool another_has(const struct container *container, const char *volume)
{
    struct engine *engine = container->engine;
    bool found = false;
    mutex_lock(&engine->list_lock);
    for (const struct container *c = engine->containers; c && !found; c = c->next)
        for (size_t i = 0; c != container && !c->hidden && i < c->mount_len && !found; i++)
            found = str_eq(c->mounts[i].type, "volume") && str_eq(c->mounts[i].name, volume);
    mutex_unlock(&engine->list_lock);
    return found;
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
            volume_get(container->engine->volumes, mount->name, &arena, &volume, &ignored) == 0 && volume.anonymous &&
            !another_has(container, mount->name) &&
            volume_remove(container->engine->volumes, mount->name, &ignored) == 0)
            event_publish(container->engine, "volume", "destroy", mount->name, "driver", "local", NULL);
    }
}
