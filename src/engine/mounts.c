// What a client asks to see inside: -v, --mount, --tmpfs, the image's volumes. Resolved once, at create, into a list
// that stands in the record.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "engine_private.h"
#include "kernel/mountinfo.h"
#include "kernel/path.h"
#include "mounting.h"
#include "users.h"

enum { MOUNTS_MAX = 900 }; // each is a descriptor of the start; the layers and ports need some too

char *mounting_clean_path(struct arena *arena, const char *path)
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

struct engine_mount *mounting_add(struct container *container, const char *destination)
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

bool mounting_has(const struct container *container, const char *destination)
{
    for (size_t i = 0; i < container->mount_len; i++)
        if (str_eq(container->mounts[i].destination, destination))
            return true;
    return false;
}

int mounting_check_destination(struct mounting *mounting, const char **destination, struct err *err)
{
    const struct container *container = mounting->container;
    if (!*destination || **destination != '/')
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid mount path: '%s' mount path must be absolute", *destination ? *destination : "");
    *destination = mounting_clean_path(mounting->arena, *destination);
    if (str_eq(*destination, "/"))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid specification: destination can't be '/'");
    if (container->mount_len >= MOUNTS_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d mounts", MOUNTS_MAX);
    return mounting_has(container, *destination) ? err_set(err, ERR_INVALID_ARGUMENT, "Duplicate mount point: %s", *destination) : 0;
}

// As with Docker, a volume starts with what the image has there when it is empty, whoever made it.
static bool folder_is_empty(const char *path)
{
    _cleanup_strv_ struct strv names = { 0 };
    return file_list_names(AT_FDCWD, path, &names, NULL) == 0 && names.len == 0;
}

struct engine_mount *mounting_add_volume(struct mounting *mounting, const struct volume_wish *wish, const char *destination,
                                         struct err *err)
{
    struct container *container = mounting->container;
    struct volume_store *volumes = container->engine->volumes;
    const struct volume_birth birth = { wish->labels, wish->options };
    struct volume volume;
    bool created;
    if (volume_create(volumes, wish->name, &birth, &container->arena, &volume, &created, err) < 0 ||
        volume_hold(volumes, volume.name, err) < 0)
        return NULL;
    if (created)
        event_publish(container->engine, "volume", "create", volume.name, "driver", "local", NULL);
    struct engine_mount *mount = mounting_add(container, destination);
    mount->type = (char *)"volume";
    mount->name = volume.name;
    mount->source = volume.path;
    mount->driver = (char *)"local";
    mount->mode = (char *)"z";
    mount->rw = !wish->read_only;
    mount->needs_mount = volume_needs_mount(&volume);
    if (!wish->no_copy && (created || mount->needs_mount || folder_is_empty(volume.path)))
        strv_push_arena(mounting->fresh, mounting->arena, destination);
    return mount;
}

static int fill(struct container *container, const struct image *image, const struct engine_mount *mount, struct err *err)
{
    struct volume_store *volumes = container->engine->volumes;
    if (!mount->needs_mount)
        return volume_fill(container, image, mount->destination, mount->source, err);
    if (volume_use(volumes, mount->name, err) < 0)
        return -1;
    int result = folder_is_empty(mount->source) ? volume_fill(container, image, mount->destination, mount->source, err) : 0;
    volume_unuse(volumes, mount->name);
    return result;
}

int mounts_fill(struct container *container, const struct image *image, const struct strv *fresh, struct err *err)
{
    for (size_t i = 0; i < container->mount_len; i++)
        if (strv_has(fresh, container->mounts[i].destination) && fill(container, image, &container->mounts[i], err) < 0)
            return -1;
    return 0;
}

struct engine_mount *mounting_add_bind(struct container *container, const char *source, const char *destination, bool read_only,
                                     const char *propagation)
{
    struct engine_mount *mount = mounting_add(container, destination);
    mount->type = (char *)"bind";
    mount->source = arena_strdup(&container->arena, source);
    mount->rw = !read_only;
    mount->propagation = str_empty(propagation) ? (char *)"rprivate" : arena_strdup(&container->arena, propagation);
    return mount;
}

int mounting_make_source(struct mounting *mounting, const char *path, struct err *err)
{
    uid_t uid;
    gid_t gid;
    users_root(mounting->container, &uid, &gid);
    if (file_mkdirs(AT_FDCWD, path, 0755, err) < 0 || (uid && chown(path, uid, gid) < 0 && err_errno(err, errno, "chown")))
        return err_wrap(err, "error while creating mount source path '%s'", path);
    return 0;
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

// What is wrong with a place alone is said with what asked for it.
static int wrap_destination(const char *text, const char *type, struct err *err)
{
    return str_starts(err->message, "Duplicate") ? -1 : err_wrap(err, "invalid volume specification: '%s': invalid mount config for type \"%s\"", text, type);
}

// An absolute source is a host path, made as a folder when it is missing; else a volume's name.
static int from_bind(struct mounting *mounting, const char *text, struct err *err)
{
    struct bind_words bind = { 0 };
    struct mount_mode mode;
    if (split_bind(text, mounting->arena, &bind, err) < 0 || mount_mode_parse(bind.mode, &mode, err) < 0)
        return -1;
    if (mounting_check_destination(mounting, &bind.destination, err) < 0)
        return wrap_destination(text, bind.source && bind.source[0] == '/' ? "bind" : "volume", err);
    bool read_only = str_eq(mode.words[MODE_ACCESS], "ro");
    if (!bind.source || bind.source[0] != '/') {
        const struct volume_wish wish = { .name = bind.source, .read_only = read_only,
                                          .no_copy = str_eq(mode.words[MODE_COPY], "nocopy") };
        if (mode.words[MODE_PROPAGATION])
            return extra_field(text, "volume", "BindOptions", err);
        struct engine_mount *mount = mounting_add_volume(mounting, &wish, bind.destination, err);
        if (mount && !str_empty(bind.mode))
            mount->mode = arena_strdup(&mounting->container->arena, bind.mode);
        return mount ? 0 : -1;
    }
    if (mode.words[MODE_COPY])
        return extra_field(text, "bind", "VolumeOptions", err);
    if (access(bind.source, F_OK) < 0 && errno == ENOENT && mounting_make_source(mounting, bind.source, err) < 0)
        return -1;
    struct container *container = mounting->container;
    mounting_add_bind(container, bind.source, bind.destination, read_only, mode.words[MODE_PROPAGATION])->mode =
        arena_strdup(&container->arena, bind.mode);
    return 0;
}

struct engine_mount *mounting_add_tmpfs(struct container *container, const char *destination, const char *options)
{
    struct engine_mount *mount = mounting_add(container, destination);
    mount->type = (char *)"tmpfs";
    mount->source = (char *)"";
    mount->mode = arena_strdup(&container->arena, options);
    return mount;
}

// An image's volume, or -v with a path alone; where the user mounted something there already, that stays.
static int from_volume_path(struct mounting *mounting, const char *path, struct err *err)
{
    const char *destination = path;
    if (path[0] != '/')
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid volume specification: '%s'", path);
    if (mounting_has(mounting->container, mounting_clean_path(mounting->arena, path)))
        return 0;
    if (mounting_check_destination(mounting, &destination, err) < 0)
        return -1;
    struct engine_mount *mount = mounting_add_volume(mounting, &(struct volume_wish){ 0 }, destination, err);
    if (mount)
        mount->mode = (char *)"";
    return mount ? 0 : -1;
}

// ---- the order ------------------------------------------------------------------------------------------------------

static size_t depth_of(const char *path)
{
    size_t depth = 0;
    for (; *path; path++)
        depth += *path == '/';
    return depth;
}

// A place that lies in another one comes after it; else as they came.
static void sort_by_depth(struct container *container)
{
    for (size_t i = 1; i < container->mount_len; i++) {
        const struct engine_mount mount = container->mounts[i];
        size_t at = i;
        for (; at > 0 && depth_of(container->mounts[at - 1].destination) > depth_of(mount.destination); at--)
            container->mounts[at] = container->mounts[at - 1];
        container->mounts[at] = mount;
    }
}

// What was said of a place in plain words wins over what another container has there, and that over the image.
static int add_all(struct mounting *mounting, struct err *err)
{
    const struct host_config *host = &mounting->container->config.host_config;
    const struct strv *volumes = &mounting->container->config.process.volumes;
    for (size_t i = 0; i < host->binds.len; i++)
        if (from_bind(mounting, host->binds.items[i], err) < 0)
            return -1;
    for (size_t i = 0; i < host->mounts.len; i++)
        if (mounting_from_request(mounting, json_list_at(&host->mounts, &mount_request_table, i), err) < 0)
            return -1;
    for (size_t i = 0; i < host->tmpfs.len; i++) {
        const char *destination = host->tmpfs.items[i].key;
        if (mounting_check_destination(mounting, &destination, err) < 0)
            return -1;
        mounting_add_tmpfs(mounting->container, destination, host->tmpfs.items[i].value);
    }
    for (size_t i = host->volumes_from.len; i-- > 0;) // of two containers the later one wins
        if (mounting_from_container(mounting, host->volumes_from.items[i], err) < 0)
            return -1;
    for (size_t i = 0; i < volumes->len; i++)
        if (from_volume_path(mounting, volumes->items[i], err) < 0)
            return -1;
    return 0;
}

int mounts_from_config(struct container *container, struct arena *arena, struct strv *fresh, struct err *err)
{
    struct mounting mounting = { container, arena, fresh };
    if (add_all(&mounting, err) < 0)
        return -1;
    sort_by_depth(container);
    return 0;
}

// ---- at start -------------------------------------------------------------------------------------------------------

static void end_uses(struct container *container, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (container->mounts[i].needs_mount)
            volume_unuse(container->engine->volumes, container->mounts[i].name);
}

int mounts_begin_use(struct container *container, struct err *err)
{
    for (size_t i = 0; i < container->mount_len; i++)
        if (container->mounts[i].needs_mount && volume_use(container->engine->volumes, container->mounts[i].name, err) < 0) {
            end_uses(container, i);
            return -1;
        }
    mutex_lock(&container->lock);
    container->uses_volumes = true;
    mutex_unlock(&container->lock);
    return 0;
}

void mounts_end_use(struct container *container)
{
    mutex_lock(&container->lock);
    bool used = container->uses_volumes;
    container->uses_volumes = false;
    mutex_unlock(&container->lock);
    if (used)
        end_uses(container, container->mount_len);
}

int mounts_open(const struct container *container, const struct engine_mount *mount, const struct run_users *users, struct err *err)
{
    if (str_eq(mount->type, "image"))
        return mount_image_open(container, mount, users, err);
    int fd = open(mount->source, O_PATH | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid mount config for type \"%s\": bind source path does not exist: %s",
                       mount->type, mount->source);
    if (fd < 0)
        return err_errno(err, errno, "mount source %s", mount->source);
    if (str_empty(mount->subpath))
        return fd;
    int below = path_open(fd, mount->subpath, false, err);
    fd_close(fd);
    return below < 0 ? err_wrap(err, "cannot access path %s/%s", mount->source, mount->subpath) : below;
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
