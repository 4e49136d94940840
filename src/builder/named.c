// Named contexts (--build-context NAME=...): what FROM, COPY --from and RUN --mount=from find in the place of a stage or an image of that name.
//
//     docker-image://REF    an image
//     local:NAME            a folder of the client's, which is asked for it once
//     oci-layout://NAME:TAG@sha256:...    an image in a folder of the client's
//     URL, git repository   as the build's own context
#include "builder_private.h"
#include "kernel/path.h"

struct named {
    const char *name, *value;
    const char *image; // its ID, once known
    int folder_fd; // its files, once they are here; -1
    struct build_kept *kept; // where they are from; NULL
    struct mutex lock; // unranked: held while it is brought
};

// As people write it: "alpine" for docker.io/library/alpine:latest.
static const char *familiar(const char *name, struct arena *arena)
{
    struct image_ref ref;
    struct err none = { 0 };
    if (image_ref_parse(name, true, arena, &ref, &none) < 0)
        return name;
    char *tag = strrchr(ref.familiar, ':');
    return tag && str_eq(tag, ":latest") ? arena_strndup(arena, ref.familiar, (size_t)(tag - ref.familiar)) : ref.familiar;
}

void named_open(struct build *build)
{
    const struct kvs *given = &build->request->contexts;
    build->named = arena_alloc(build->arena, (given->len + 1) * sizeof(*build->named));
    for (size_t i = 0; i < given->len; i++) {
        struct named *named = &build->named[build->named_len++];
        *named = (struct named){ .name = familiar(given->items[i].key, build->arena), .value = given->items[i].value, .folder_fd = -1 };
        mutex_init(&named->lock, 0);
    }
}

void named_close(struct build *build)
{
    for (size_t i = 0; i < build->named_len; i++) {
        fd_close(build->named[i].folder_fd);
        build_kept_free(build->named[i].kept);
        mutex_done(&build->named[i].lock);
    }
}

struct named *named_find(struct build *build, const char *name)
{
    if (build->named_len == 0 || str_empty(name))
        return NULL;
    const char *wanted = familiar(name, build->arena);
    for (size_t i = 0; i < build->named_len; i++)
        if (str_eq(build->named[i].name, wanted))
            return &build->named[i];
    return NULL;
}

// ---- what it is -----------------------------------------------------------------------------------------------------

static int take_local(struct build *build, struct named *named, const char *local, struct err *err)
{
    if (!build->request->folder)
        return err_set(err, ERR_NOT_IMPLEMENTED, "--build-context %s=%s: a folder is given by BuildKit's door alone", named->name, named->value);
    if (!named->kept && crew_folder(build, local, &named->kept, err) < 0)
        return -1;
    named->folder_fd = build_kept_tree(named->kept, err);
    return named->folder_fd < 0 ? -1 : 0;
}

const struct listing *named_listing(const struct named *named)
{
    return named->kept ? build_kept_listing(named->kept) : NULL;
}

static int take_remote(struct build *build, struct named *named, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(DOCKERFILE_SIZE_MAX);
    const char *prefix = arena_printf(build->arena, "named-%u-", build->folders++);
    named->folder_fd = remote_context(build, prefix, named->value, &text, err);
    if (named->folder_fd >= 0 && text.size > 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "--build-context %s=%.300s is no archive", named->name, named->value);
    return named->folder_fd < 0 ? -1 : 0;
}

struct layout_source {
    struct build *build;
    struct named_layout layout;
};

static int give_archive(void *of, build_take_fn *take, void *with, struct err *err)
{
    const struct layout_source *source = of;
    return crew_layout(source->build, &source->layout, take, with, err);
}

// "NAME:TAG@sha256:...": what the client calls the folder is before the tag.
static int take_layout(struct build *build, struct named *named, const char *text, const char *platform, struct err *err)
{
    const char *at = strchr(text, '@');
    const size_t size = strcspn(text, ":@");
    char *id;
    if (!at || !oci_digest_valid(at + 1) || size == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "--build-context %s=%.300s: a layout is given with a digest", named->name, named->value);
    if (!build->request->layout)
        return err_set(err, ERR_NOT_IMPLEMENTED, "--build-context %s=%.300s: a layout is given by BuildKit's door alone", named->name, named->value);
    struct layout_source of = { build, { arena_printf(build->arena, "oci:%.*s", (int)size, text), at + 1,
                                         str_empty(platform) ? build->request->platform : platform } };
    const struct import_source source = { give_archive, &of };
    const char *name = arena_printf(build->arena, "image %s of an OCI layout%s%s", at + 1, str_empty(of.layout.platform) ? "" : " for ",
                                    of.layout.platform ? of.layout.platform : "");
    if (import_archive(build->builder, name, &source, build->arena, &id, build->cancel, err) < 0)
        return err_wrap(err, "context %s", named->name);
    named->image = id;
    source_note(build, &(const struct build_source){ BUILD_SOURCE_LAYOUT, named->name, at + 1, of.layout.platform, false });
    return 0;
}

static int take(struct build *build, struct named *named, const char *platform, struct err *err)
{
    static const char image[] = "docker-image://", local[] = "local:", layout[] = "oci-layout://";
    if (named->image || named->folder_fd >= 0)
        return 0;
    if (str_starts(named->value, image))
        return find_image(build, named->value + strlen(image), platform, &named->image, err);
    if (str_starts(named->value, local))
        return take_local(build, named, named->value + strlen(local), err);
    if (str_starts(named->value, layout))
        return take_layout(build, named, named->value + strlen(layout), platform, err);
    if (remote_is(named->value))
        return take_remote(build, named, err);
    return err_set(err, ERR_NOT_IMPLEMENTED, "--build-context %s=%.300s is not supported", named->name, named->value);
}

int named_bring(struct build *build, struct named *named, struct err *err)
{
    mutex_lock(&named->lock);
    int taken = take(build, named, NULL, err);
    mutex_unlock(&named->lock);
    return taken;
}

const char *named_id(const struct named *named)
{
    return named->folder_fd < 0 ? named->image : NULL;
}

int named_tree(struct build *build, struct named *named, struct err *err)
{
    if (named_bring(build, named, err) < 0)
        return -1;
    return named->folder_fd < 0 ? tree_of_image(build->engine, named->image, err) : tree_of_folder(named->folder_fd, err);
}

// A folder's files on nothing.
static int image_of_folder(struct stage *stage, struct named *named, struct err *err)
{
    struct build *build = stage->build;
    const struct oci_image_process nothing = { 0 };
    const char *text = arena_printf(build->arena, "#(nop) context %s", named->name);
    char key[OCI_DIGEST_SIZE], *id;
    struct step_sources looked;
    struct stage alone = { .build = build, .index = stage->index, .config = nothing };
    _cleanup_close_ int tree = tree_of_folder(named->folder_fd, err);
    if (tree < 0)
        return -1;
    const struct step_source source = { .tree_fd = tree, .listing = named_listing(named), .path = "/" };
    const struct step_place place = { .sources = &source, .source_len = 1, .target = "/", .folder = true, .roots = true, .mode = -1, .time_max = build->time_max,
                                      .now = build->created_ns / NS_PER_S };
    if (look_place(build, &place, &looked, err) < 0)
        return -1;
    cache_key(&alone, text, looked.digest, key);
    int found = cache_take(&alone, key, err);
    if (found != 0) {
        named->image = alone.image;
        return found < 0 ? -1 : 0;
    }
    const struct step step = step_of(&alone, text);
    if (step_place(build->engine, &step, &place, &looked, build->arena, &id, build->cancel, err) < 0)
        return -1;
    named->image = alone.image = id;
    cache_put(&alone, key, NULL, text);
    return 0;
}

int named_image(struct stage *stage, struct named *named, const char *platform, const char **id, struct err *err)
{
    mutex_lock(&named->lock);
    int made = take(stage->build, named, platform, err);
    if (made == 0 && !named->image)
        made = image_of_folder(stage, named, err);
    mutex_unlock(&named->lock);
    *id = named->image;
    return made;
}
