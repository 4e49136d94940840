// create: the client's configuration is checked whole, merged with the image's, and becomes a record. Nothing runs yet.
#include <errno.h>
#include <fcntl.h>
#include <sys/utsname.h>

#include "links.h"
#include "mounts.h"
#include "namespaces.h"
#include "networks.h"
#include "quota.h"
#include "tree.h"
#include "users.h"
#include "vm.h"

// ---- names ----------------------------------------------------------------------------------------------------------

static const char *const first_words[] = { "brave", "calm", "clear", "deep", "eager", "fair", "gentle", "keen",
                                           "lively", "merry", "mild", "noble", "proud", "quiet", "rapid", "steady",
                                           "swift", "tidal", "trim", "windy" };
static const char *const second_words[] = { "anchor", "beacon", "bollard", "buoy", "capstan", "compass", "cutter", "ferry",
                                            "gull", "harbor", "jetty", "keel", "ketch", "lagoon", "mast", "mooring",
                                            "pier", "quay", "rudder", "schooner", "sextant", "sloop", "tern", "tide" };

static bool name_taken(struct engine *engine, const char *name, char id[65]) REQUIRES(engine->list_lock)
{
    for (struct container *c = engine->containers; c; c = c->next)
        if (str_eq(c->name, name)) {
            memcpy(id, c->id, 65);
            return true;
        }
    return false;
}

static char *draw_name(struct engine *engine) REQUIRES(engine->list_lock)
{
    for (unsigned attempt = 0;; attempt++) {
        uint32_t draw[3];
        char taken_by[65];
        random_bytes(draw, sizeof(draw));
        char *name = mem_printf("%s_%s", first_words[draw[0] % ARRAY_LEN(first_words)],
                                second_words[draw[1] % ARRAY_LEN(second_words)]);
        if (attempt > 2) {
            char *longer = mem_printf("%s%u", name, draw[2] % 10000);
            free(name);
            name = longer;
        }
        if (!name_taken(engine, name, taken_by))
            return name;
        free(name);
    }
}

// Puts the container into the list under its name, so that nobody else gets the name from here on.
static int enlist(struct container *container, const char *name, struct err *err)
{
    struct engine *engine = container->engine;
    char taken_by[65];
    int result = 0;
    mutex_lock(&engine->list_lock);
    if (name && name_taken(engine, name, taken_by)) {
        result = err_set(err, ERR_CONFLICT,
                         "Conflict. The container name \"/%s\" is already in use by container \"%s\". You have to remove "
                         "(or rename) that container to be able to reuse that name.",
                         name, taken_by);
    } else {
        container->name = name ? mem_strdup(name) : draw_name(engine);
        container->hidden = true;
        container->next = engine->containers;
        engine->containers = container_ref(container);
    }
    mutex_unlock(&engine->list_lock);
    return result;
}

void container_delist(struct container *container)
{
    struct engine *engine = container->engine;
    struct container *listed = NULL;
    mutex_lock(&engine->list_lock);
    for (struct container **at = &engine->containers; *at; at = &(*at)->next)
        if (*at == container) {
            listed = container;
            *at = container->next;
            break;
        }
    mutex_unlock(&engine->list_lock);
    container_unref(listed);
}

// ---- the verb -------------------------------------------------------------------------------------------------------

// What the body leaves open and the record does not repeat: the same at create and when the record is read again.
void container_settle(struct container *container)
{
    struct container_config *config = &container->config;
    const char *mode = config->host_config.network_mode;
    if (str_empty(config->hostname))
        config->hostname = arena_strndup(&container->arena, container->id, 12);
    if (str_empty(mode) || str_eq(mode, "default"))
        config->host_config.network_mode = (char *)"bridge";
    defaults_apply(container->engine, &config->host_config, &container->arena);
    config->stop_timeout =
        json_is_integer(config->stop_timeout_raw) ? json_integer_value(config->stop_timeout_raw) : -1;
}

// With the host's network a container is called as the host is. Recorded, since that may get another name.
static void record_hostname(struct container *container, json_t *body)
{
    struct container_config *config = &container->config;
    struct utsname names = { 0 };
    if (!str_eq(namespaces_network(config), "host") || !str_empty(config->hostname))
        return;
    uname(&names);
    config->hostname = arena_strdup(&container->arena, names.nodename);
    json_object_set_new(body, "Hostname", json_string(names.nodename));
}

static int parse_body(struct container *container, json_t *body, struct err *err)
{
    struct container_config *config = &container->config;
    container->body = json_incref(body);
    if (json_decode(&container_config_table, body, config, &container->arena, NULL, err) < 0 ||
        namespaces_check_conflicts(config, err) < 0)
        return -1;
    record_hostname(container, body);
    container_settle(container);
    return 0;
}

static int fill_from_image(struct container *container, struct image *image, struct arena *arena, struct strv *warnings,
                           struct err *err)
{
    struct container_config *config = &container->config;
    if (str_empty(config->image))
        return err_set(err, ERR_INVALID_ARGUMENT, "config.Image must be specified");
    if (image_get(container->engine->images, config->image, arena, image, err) < 0)
        return -1;
    container->image_id = arena_strdup(&container->arena, image->id);
    container->image_name = arena_strdup(&container->arena, config->image);
    if (container->no_image_volumes)
        image->config.config.volumes = (struct strv){ 0 };
    merge_image_config(config, container->body, &container->arena, &image->config.config);
    if (config->process.entrypoint.len + config->process.cmd.len == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "no command specified");
    return check_process(&config->process, err);
}

static int make_copy(struct container *container, const struct image *image, struct err *err)
{
    struct image_store *images = container->engine->images;
    if (!image_store_copies(images) || vm_wanted(&container->config.host_config) || image->chain_ids.len == 0)
        return 0;
    _cleanup_close_ int folder = file_open_dir(container->engine->containers_fd, container->id, err);
    return folder < 0 ? -1 : image_root_copy(images, image, folder, ROOT_COPY, err);
}

// By this file programs know that they are in a container. What the image has of that name stays.
static int mark_root(struct container *container, struct err *err)
{
    const bool copied = image_store_copies(container->engine->images);
    if (vm_wanted(&container->config.host_config))
        return 0;
    _cleanup_free_ char *path = mem_printf("%s/%s", container->id, copied ? ROOT_COPY : "diff");
    _cleanup_close_ int root = file_open_dir(container->engine->containers_fd, path, err);
    if (root < 0)
        return copied && errno == ENOENT ? 0 : -1; // of an image without layers there is no copy
    _cleanup_close_ int mark = openat(root, ".dockerenv", O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0755);
    return mark < 0 && errno != EEXIST ? err_errno(err, errno, "container folder %s", container->id) : 0;
}

static int make_folder(struct container *container, struct err *err)
{
    char path[80];
    snprintf(path, sizeof(path), "%s/diff", container->id);
    if (file_mkdirs(container->engine->containers_fd, path, 0755, err) < 0)
        return -1;
    snprintf(path, sizeof(path), "%s/work", container->id);
    if (file_mkdirs(container->engine->containers_fd, path, 0700, err) < 0)
        return -1;
    return fchmodat(container->engine->containers_fd, container->id, 0710, 0) < 0
               ? err_errno(err, errno, "container folder %s", container->id)
               : 0;
}

static int build(struct container *container, json_t *body, struct image *image, struct arena *arena,
                 struct strv *warnings, struct err *err)
{
    const struct host_config *host = &container->config.host_config;
    if (parse_body(container, body, err) < 0 || check_config(&container->config, err) < 0 ||
        security_check(host, &container->arena, err) < 0 ||
        features_check(&container->engine->features, host, arena, warnings, err) < 0 ||
        endpoints_from_config(container, err) < 0 || fill_from_image(container, image, arena, warnings, err) < 0 ||
        vm_check(container->engine, &container->config, err) < 0 ||
        quota_check(container->engine, host, err) < 0 || users_check(container, err) < 0 || mount_images_hold(container, arena, err) < 0)
        return -1;
    security_note_labels(container);
    return 0;
}

static void set_status(struct container *container, enum container_status status, bool remove_volumes)
{
    mutex_lock(&container->lock);
    container->state.status = status;
    container->state.remove_volumes = remove_volumes;
    mutex_unlock(&container->lock);
}

// Copying into fresh volumes takes its time: until it is done the record says that the container is to be removed, so
// that a daemon that starts after a crash does that.
static int record_and_fill(struct container *container, const struct image *image, const struct strv *fresh,
                           struct err *err)
{
    bool filling = fresh->len > 0;
    if (filling)
        set_status(container, STATUS_REMOVING, true);
    if (record_insert(container, container->name, err) < 0)
        return -1;
    if (!filling)
        return 0;
    if (mounts_fill(container, image, fresh, err) == 0) {
        set_status(container, STATUS_CREATED, false);
        if (record_save_state(container, err) == 0)
            return 0;
    }
    record_delete(container, NULL);
    return -1;
}

// From here on the image cannot go while it is in use, so it is looked at once more: it may have gone before.
static int make(struct container *container, struct arena *arena, struct err *err)
{
    struct image found, *image = &found;
    struct strv fresh = { 0 };
    if (image_get_layers(container->engine->images, container->image_id, arena, image, err) < 0 ||
        mounts_from_config(container, arena, &fresh, err) < 0 || make_folder(container, err) < 0 || make_copy(container, image, err) < 0 ||
        mark_root(container, err) < 0 ||
        record_and_fill(container, image, &fresh, err) < 0) {
        mounts_release(container);
        mounts_remove_anonymous(container);
        file_remove_tree(container->engine->containers_fd, container->id, NULL);
        return -1;
    }
    return 0;
}

static void show(struct container *container)
{
    struct engine *engine = container->engine;
    mutex_lock(&engine->list_lock);
    container->hidden = false;
    mutex_unlock(&engine->list_lock);
}

int engine_create(struct engine *engine, const char *name, const struct container_config *config, json_t *body,
                  struct arena *arena, char id[65], struct strv *warnings, struct err *err)
{
    char fresh_id[65];
    struct image image;
    if (!str_empty(name) && name[0] == '/')
        name++;
    if (!str_empty(name) && !container_name_valid(name))
        return err_set(err, ERR_INVALID_ARGUMENT,
                       "Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name);
    random_hex(fresh_id, 64);
    defaults_record(engine, body);
    _cleanup_container_ struct container *container = container_new(engine, fresh_id);
    container->created_ns = clock_wall_ns();
    container->no_image_volumes = config->no_image_volumes;
    if (namespaces_record(engine, body, err) < 0 || links_record(engine, body, err) < 0 || build(container, body, &image, arena, warnings, err) < 0 || enlist(container, str_empty(name) ? NULL : name, err) < 0)
        return -1;
    if (make(container, arena, err) < 0) {
        container_delist(container);
        return -1;
    }
    show(container);
    mounts_release(container);
    event_container(container, "create", NULL);
    memcpy(id, fresh_id, sizeof(fresh_id));
    return 0;
}
