// Steps whose layer may never be wanted: a build reads from most of its stages, and exports one. What a RUN has written there stays the folder that overlayfs
// has written it to, moved from the container to the layers: nothing is read, hashed or copied. When it is wanted after all, the folder becomes
// the layer that it would have been, from the same list of changes (archive/keep.c).
#include <errno.h>
#include <fcntl.h>

#include "quota.h"
#include "stepping.h"
#include "users.h"
#include "vm.h"

// ---- kept -----------------------------------------------------------------------------------------------------------

// An upper that is a folder of the data root's, with the host's owners.
static bool can_keep(const struct container *container)
{
    return image_takes_loose(container->engine->images) && !vm_wanted(&container->config.host_config) && !container_has_copy(container) &&
           !users_wanted(container) && !quota_has_disk(container);
}

// The upper becomes what its layer would be unpacked. 1: it has something; 0: nothing.
static int trim(struct stepping *stepping, const struct step *step, struct err *err)
{
    _cleanup_json_ json_t *spec = stepping_layer_spec(step, false), *line = NULL;
    const struct filer_wish wish = { .verb = "keep", .tree = { .layers = true }, .data_fd = -1, .spec = spec };
    int more = filer_start(&stepping->filer, &wish, err) < 0 ? -1 : filer_next(&stepping->filer, stepping->cancel, &line, err);
    if (more < 0)
        return -1;
    const json_t *kept = more ? json_object_get(line, "kept") : NULL;
    if (!json_is_object(kept))
        return err_set(err, ERR_INTERNAL, "the archive worker said nothing of what it kept");
    stepping->layer_size = json_get_int(kept, "size", 0);
    return filer_end(&stepping->filer, stepping->cancel, err) < 0 ? -1 : json_get_flag(kept, "any", false);
}

// Out of the container, which gets an empty one: whoever looks at it finds a container.
static int take_upper(struct container *container, int staging_fd, const char *name, struct err *err)
{
    _cleanup_free_ char *from = mem_printf("%s/diff", container->id), *to = mem_printf("layers/%s", name);
    if (file_mkdirs(staging_fd, "layers", 0700, err) < 0 || container_begin(container, err) < 0)
        return -1;
    int done = renameat2(container->engine->containers_fd, from, staging_fd, to, RENAME_NOREPLACE);
    if (done < 0)
        err_errno(err, errno, "take %s", from);
    else
        done = file_mkdirs(container->engine->containers_fd, from, 0755, err);
    container_end(container);
    return done;
}

static int commit(struct stepping *stepping, struct container *container, int staging_fd, const char *staging, struct err *err)
{
    char random[65], digest[OCI_DIGEST_SIZE];
    struct image_staged staged = { .config_digest = digest, .step = true, .loose = true, .parent = stepping->step->parent };
    random_hex(random, 64);
    strv_push_arena(&stepping->config.rootfs.diff_ids, stepping->arena, arena_printf(stepping->arena, "sha256:%s", random));
    *(struct oci_history *)json_list_add(&stepping->config.history, &oci_history_table, stepping->arena) = stepping->history;
    if (take_upper(container, staging_fd, random, err) < 0 || stepping_stage_config(stepping, staging_fd, digest, err) < 0)
        return -1;
    stepping_list_layers(stepping, &staged);
    return image_commit_staged(stepping->engine->images, staging, &staged, stepping->arena, &stepping->id, err);
}

static int keep(struct stepping *stepping, struct container *container, char **id, struct err *err)
{
    struct image_store *images = stepping->engine->images;
    _cleanup_free_ char *staging = NULL;
    _cleanup_close_ int staging_fd = image_staging_new(images, &staging, err);
    if (staging_fd < 0)
        return -1;
    int done = commit(stepping, container, staging_fd, staging, err);
    image_staging_remove(images, staging);
    *id = stepping->id;
    return done;
}

int step_keep(struct engine *engine, const struct step *step, const char *ref, struct arena *arena, char **id, const struct cancel *cancel, struct err *err)
{
    _cleanup_container_ struct container *container = container_find(engine, ref, err);
    if (!container)
        return -1;
    if (!can_keep(container) || step->time_max >= 0)
        return step_container(engine, step, ref, arena, id, cancel, err);
    _cleanup_(stepping_done) struct stepping stepping = stepping_of(engine, step, arena);
    stepping.filer = (struct filer)FILER_INIT(container);
    stepping.cancel = cancel;
    int any = stepping_fill(&stepping, err) < 0 ? -1 : trim(&stepping, step, err);
    return any < 0 ? -1 : any ? keep(&stepping, container, id, err) : stepping_plain(&stepping, id, err);
}

// ---- wanted after all -----------------------------------------------------------------------------------------------

// The step as it was done, on another image.
static void fill_step(const struct image *kept, const char *parent, struct step *out)
{
    const struct json_list *history = &kept->config.history;
    const struct oci_history *last = history->len ? json_list_at(history, &oci_history_table, history->len - 1) : NULL;
    *out = (struct step){ .parent = parent, .process = &kept->config.config, .author = kept->config.author, .time_max = -1 };
    if (last) {
        out->created_by = last->created_by;
        out->comment = last->comment;
        clock_parse(slice_of(last->created ? last->created : ""), &out->created_ns);
    }
}

static int settle_folder(struct engine *engine, const struct image *kept, const struct step *step, int upper_fd, struct arena *arena, char **id,
                         const struct cancel *cancel, struct err *err)
{
    _cleanup_close_ int whole = tree_of_image(engine, kept->id, err), below = whole < 0 ? -1 : tree_of_image(engine, step->parent, err);
    if (below < 0)
        return -1;
    _cleanup_(stepping_done) struct stepping stepping = stepping_of(engine, step, arena);
    stepping.cancel = cancel;
    stepping.filer.tree.upper_fd = upper_fd;
    stepping.filer.tree.lower_fd = below;
    const struct filer_wish wish = { .verb = "layer", .root_fd = whole };
    return stepping_run(&stepping, &wish, id, err);
}

int step_settle(struct engine *engine, const char *kept_id, const char *parent, struct arena *arena, char **id, const struct cancel *cancel, struct err *err)
{
    struct image kept, below = { 0 };
    struct step step;
    if (image_get(engine->images, kept_id, arena, &kept, err) < 0 ||
        (parent && image_get_layers(engine->images, parent, arena, &below, err) < 0))
        return -1;
    fill_step(&kept, parent, &step);
    size_t layers = kept.chain_ids.len;
    if (layers == below.chain_ids.len)
        return step_plain(engine, &step, arena, id, err);
    _cleanup_close_ int upper = -1;
    int loose = image_loose_open(engine->images, &kept, arena, &upper, err);
    if (loose < 0)
        return -1;
    if (loose)
        return settle_folder(engine, &kept, &step, upper, arena, id, cancel, err);
    step.diff_id = kept.config.rootfs.diff_ids.items[layers - 1];
    step.layer_size = kept.layer_sizes[layers - 1];
    return step_plain(engine, &step, arena, id, err);
}
