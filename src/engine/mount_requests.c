// --mount: HostConfig.Mounts, each with the options of its type.
#include <errno.h>
#include <fcntl.h>

#include "base/file.h"
#include "mounting.h"

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
                  { "image", "ImageOptions", request->image },
                  { "tmpfs", "TmpfsOptions", request->tmpfs } };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].given && !str_eq(request->type, table[i].type))
            return err_set(err, ERR_INVALID_ARGUMENT, "%s must not be specified on mount type \"%s\"", table[i].field, request->type);
    return 0;
}

// ---- bind -----------------------------------------------------------------------------------------------------------

static int check_bind(const struct mount_request *request, const struct mount_bind_options *options, struct err *err)
{
    if (!str_empty(options->propagation) && !mount_mode_is_propagation(options->propagation))
        return request_error(err, request, "invalid propagation mode: ", options->propagation);
    if (options->read_only_non_recursive && options->read_only_force_recursive)
        return request_error(err, request, "ReadOnlyNonRecursive and ReadOnlyForceRecursive exclude each other", "");
    if (!request->read_only && (options->read_only_non_recursive || options->read_only_force_recursive))
        return request_error(err, request, options->read_only_non_recursive ? "ReadOnlyNonRecursive" : "ReadOnlyForceRecursive",
                             " is for read-only mounts");
    return 0;
}

static int from_bind(struct mounting *mounting, const struct mount_request *request, const char *destination, struct err *err)
{
    static const struct mount_bind_options none;
    const struct mount_bind_options *options = request->bind ? request->bind : &none;
    const char *source = request->source;
    if (check_bind(request, options, err) < 0)
        return -1;
    if (str_empty(source))
        return request_error(err, request, "field Source must not be empty", "");
    if (source[0] != '/')
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "invalid mount config for type \"bind\": invalid mount path: '%s' mount path must be absolute", source);
    bool missing = access(source, F_OK) < 0;
    if (missing && !options->create_mountpoint)
        return request_error(err, request, "bind source path does not exist: ", source);
    if (missing && errno == ENOENT && mounting_make_source(mounting, source, err) < 0)
        return -1;
    struct engine_mount *mount = mounting_add_bind(mounting->container, source, destination, request->read_only, options->propagation);
    mount->alone = options->non_recursive;
    mount->writable_below = options->read_only_non_recursive;
    return 0;
}

// ---- volume ---------------------------------------------------------------------------------------------------------

// Go's filepath.IsLocal: no way out by words. Links are the resolver's to keep inside.
static bool is_local(const char *path)
{
    struct slice rest = slice_of(path), part;
    int depth = 0;
    if (path[0] == '/')
        return false;
    while (slice_cut(&rest, '/', &part)) {
        depth += slice_eq(part, "..") ? -1 : part.size > 0 && !slice_eq(part, ".");
        if (depth < 0)
            return false;
    }
    return true;
}

static int check_volume(const struct mount_request *request, const struct mount_volume_options *options, struct err *err)
{
    const char *driver = options->driver ? options->driver->name : NULL;
    if (!str_empty(driver) && !str_eq(driver, "local"))
        return err_set(err, ERR_NOT_FOUND, "error looking up volume plugin %.100s: plugin \"%.100s\" not found", driver, driver);
    if (str_empty(options->subpath))
        return 0;
    if (str_empty(request->source))
        return request_error(err, request, "must not set Subpath when using anonymous volumes", "");
    return is_local(options->subpath) ? 0 : request_error(err, request, "subpath must be a relative path within the volume", "");
}

static int from_volume(struct mounting *mounting, const struct mount_request *request, const char *destination, struct err *err)
{
    static const struct mount_volume_options none;
    const struct mount_volume_options *options = request->volume ? request->volume : &none;
    const struct volume_wish wish = { .name = str_empty(request->source) ? NULL : request->source, .labels = &options->labels,
                                      .options = options->driver ? &options->driver->options : NULL,
                                      .read_only = request->read_only, .no_copy = options->no_copy || !str_empty(options->subpath) };
    if (check_volume(request, options, err) < 0)
        return -1;
    struct engine_mount *mount = mounting_add_volume(mounting, &wish, destination, err);
    if (mount && !str_empty(options->subpath))
        mount->subpath = arena_strdup(&mounting->container->arena, options->subpath);
    return mount ? 0 : -1;
}

// ---- image ----------------------------------------------------------------------------------------------------------

static int from_image(struct mounting *mounting, const struct mount_request *request, const char *destination, struct err *err)
{
    const char *subpath = request->image ? request->image->subpath : NULL;
    struct arena *arena = &mounting->container->arena;
    struct image image;
    if (str_empty(request->source))
        return request_error(err, request, "field Source must not be empty", "");
    if (!str_empty(subpath) && !is_local(subpath))
        return request_error(err, request, "subpath must be a relative path within the volume", ""); // Docker's words, here too
    if (image_get(mounting->container->engine->images, kvs_get(&mounting->container->mount_images, request->source), mounting->arena, &image, err) < 0)
        return -1;
    struct engine_mount *mount = mounting_add(mounting->container, destination);
    mount->type = (char *)"image";
    mount->name = arena_strdup(arena, request->source);
    mount->source = arena_strdup(arena, image.id);
    mount->propagation = (char *)"rprivate";
    mount->rw = false;
    mount->subpath = str_empty(subpath) ? NULL : arena_strdup(arena, subpath);
    return 0;
}

// ---- tmpfs ----------------------------------------------------------------------------------------------------------

// [["exec"], ["noexec"]]: what Docker lets through.
static int add_tmpfs_words(const struct mount_request *request, struct buf *out, struct err *err)
{
    size_t i;
    const json_t *option;
    json_array_foreach (request->tmpfs->options, i, option) {
        const char *word = json_string_value(json_array_get(option, 0));
        if (json_array_size(option) < 1 || json_array_size(option) > 2 || !word)
            return request_error(err, request, "invalid option array length", "");
        if (json_array_size(option) != 1 || (!str_eq(word, "exec") && !str_eq(word, "noexec")))
            return request_error(err, request, "invalid option: ", word);
        buf_addf(out, ",%s", word);
    }
    return 0;
}

static int from_tmpfs(struct mounting *mounting, const struct mount_request *request, const char *destination, struct err *err)
{
    _cleanup_buf_ struct buf options = BUF_INIT(4096);
    if (!str_empty(request->source))
        return request_error(err, request, "field Source must not be specified", "");
    buf_adds(&options, request->read_only ? ",ro" : "");
    if (request->tmpfs && request->tmpfs->size_bytes > 0)
        buf_addf(&options, ",size=%lld", (long long)request->tmpfs->size_bytes);
    if (request->tmpfs && request->tmpfs->mode > 0)
        buf_addf(&options, ",mode=%llo", (long long)request->tmpfs->mode & 07777);
    if (request->tmpfs && add_tmpfs_words(request, &options, err) < 0)
        return -1;
    mounting_add_tmpfs(mounting->container, destination, options.size ? buf_text(&options) + 1 : "");
    return 0;
}

int mounting_from_request(struct mounting *mounting, const struct mount_request *request, struct err *err)
{
    const char *destination = request->target;
    if (check_options(request, err) < 0)
        return -1;
    if (mounting_check_destination(mounting, &destination, err) < 0)
        return str_starts(err->message, "Duplicate") ? -1 : err_wrap(err, "invalid mount config for type \"%s\"", request->type);
    if (str_eq(request->type, "volume"))
        return from_volume(mounting, request, destination, err);
    if (str_eq(request->type, "bind"))
        return from_bind(mounting, request, destination, err);
    if (str_eq(request->type, "image"))
        return from_image(mounting, request, destination, err);
    if (str_eq(request->type, "tmpfs"))
        return from_tmpfs(mounting, request, destination, err);
    return request_error(err, request, "mount type unknown", "");
}
