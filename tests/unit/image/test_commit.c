#include "fixture.h"

#include <pthread.h>
#include <sys/xattr.h>

#include "base/clock.h"
#include "kernel/mount.h"

static void an_image_comes_in_whole(void **state)
{
    struct box *box = *state;
    struct image image;
    struct image_layers layers;
    char word[8] = "";
    char *id = add(box, RECIPE("one", .layers = { "base", "top" }, .references = { "debian:bookworm", "localhost:5000/x" },
                               .created = "2024-01-02T03:04:05Z"));
    OK(box, image_get(box->images, "debian:bookworm", &box->arena, &image, &box->err));
    assert_string_equal(image.id, id);
    assert_int_equal(image.size, strlen("base") + strlen("top"));
    assert_true(image.created_ns == INT64_C(1704164645) * NS_PER_S && image.tagged_ns > image.created_ns);
    assert_int_equal(image.tags.len, 2);
    assert_string_equal(image.tags.items[0], "debian:bookworm");
    assert_string_equal(image.tags.items[1], "localhost:5000/x:latest");
    assert_string_equal(image.config.config.cmd.items[0], "one");
    assert_non_null(strstr(image.config_text, "\"unknown\":\"one\""));
    assert_int_equal(image.chain_ids.len, 2);
    assert_string_equal(image.chain_ids.items[0], diff_of(&box->arena, "base"));
    assert_int_equal(image.layer_sizes[0], strlen("base"));
    assert_int_equal(image.layer_sizes[1], strlen("top"));
    OK(box, image_layers_open(box->images, &image, &box->arena, &layers, &box->err));
    assert_int_equal(layers.len, 2); // top first
    int fd = openat(layers.fds[0], "word", O_RDONLY | O_CLOEXEC);
    assert_int_equal(fd_read_full(fd, word, sizeof(word), &box->err), 3);
    assert_string_equal(word, "top");
    fd_close(fd);
    assert_string_equal(layers.diff_ids.items[0], diff_of(&box->arena, "top"));
    assert_string_equal(layers.paths.items[1],
                        arena_printf(&box->arena, "%s/layers/%s", box->root, oci_digest_hex(image.chain_ids.items[0])));
    image_layers_done(&layers);
    assert_int_equal(entries(box, "staging"), 0);
    box_reopen(box);
    OK(box, image_get(box->images, id, &box->arena, &image, &box->err));
    assert_int_equal(image.chain_ids.len, 2);
}

static void roots_are_closed_and_layers_open(void **state)
{
    struct box *box = *state;
    struct stat info;
    char *id = add(box, RECIPE("modes", .layers = { "only" }));
    static const char *const closed[] = { "layers", "staging", "blobs/sha256" };
    for (size_t i = 0; i < ARRAY_LEN(closed); i++) {
        assert_int_equal(fstatat(box->root_fd, closed[i], &info, 0), 0);
        assert_int_equal(info.st_mode & 07777, 0700);
    }
    assert_non_null(id);
    const char *layer = arena_printf(&box->arena, "layers/%s", oci_digest_hex(diff_of(&box->arena, "only")));
    assert_int_equal(fstatat(box->root_fd, layer, &info, 0), 0);
    assert_int_equal(info.st_mode & 07777, 0755);
}

// Counts what lies in <root>/layers after images that share in every way a layer can be shared.
static void layers_are_shared(void **state)
{
    struct box *box = *state;
    struct image image;
    struct image_layers layers;
    add(box, RECIPE("one", .layers = { "base", "a" }, .references = { "one" }));
    assert_int_equal(entries(box, "layers"), 2);
    add(box, RECIPE("two", .layers = { "base", "b" }, .references = { "two" }));
    assert_int_equal(entries(box, "layers"), 3);
    add(box, RECIPE("three", .layers = { "b", "base" }, .references = { "three" })); // the same diffs on other ground
    assert_int_equal(entries(box, "layers"), 3);
    add(box, RECIPE("four", .layers = { "new", "base", "new", "a", "new" }, .references = { "four" }));
    assert_int_equal(entries(box, "layers"), 4);
    OK(box, image_get(box->images, "four", &box->arena, &image, &box->err));
    assert_int_equal(image.chain_ids.len, 5);
    assert_int_equal(image.size, 3 * strlen("new") + strlen("base") + strlen("a"));
    OK(box, image_layers_open(box->images, &image, &box->arena, &layers, &box->err));
    assert_int_equal(layers.len, 3); // new, a, base
    assert_string_equal(layers.diff_ids.items[1], diff_of(&box->arena, "a"));
    // The kernel agrees that no folder is there twice.
    const struct mount_overlay overlay = { .lower_fds = layers.fds, .lower_len = layers.len, .upper_fd = -1, .work_fd = -1 };
    int fd = mount_overlay(&overlay, MOUNT_OVERLAY_ANY, &box->err);
    OK(box, fd);
    static const char *const words[] = { "dir/new", "dir/a", "dir/base" };
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        assert_int_equal(faccessat(fd, words[i], F_OK, 0), 0);
    fd_close(fd);
    image_layers_done(&layers);
}

// What a container's root is made of is found without the rest of the image.
static void layers_alone(void **state)
{
    struct box *box = *state;
    struct image whole, image;
    struct image_layers layers;
    char *id = add(box, RECIPE("image", .layers = { "base", "a", "base" }, .references = { "one" }));
    OK(box, image_get(box->images, id, &box->arena, &whole, &box->err));
    OK(box, image_get_layers(box->images, id, &box->arena, &image, &box->err));
    assert_string_equal(image.id, id);
    assert_int_equal(image.size, whole.size);
    assert_int_equal(image.chain_ids.len, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(image.chain_ids.items[i], whole.chain_ids.items[i]);
        assert_int_equal(image.layer_sizes[i], whole.layer_sizes[i]);
    }
    OK(box, image_layers_open(box->images, &image, &box->arena, &layers, &box->err));
    assert_int_equal(layers.len, 2);
    image_layers_done(&layers);
    id = add(box, RECIPE("empty"));
    OK(box, image_get_layers(box->images, id, &box->arena, &image, &box->err));
    assert_int_equal(image.chain_ids.len, 0);
    static const char *const wrong[] = { "one", "sha256:" };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_int_equal(image_get_layers(box->images, wrong[i], &box->arena, &image, &box->err), -1);
        assert_int_equal(box->err.class, ERR_NOT_FOUND);
    }
}

static void the_same_image_again_is_the_same(void **state)
{
    struct box *box = *state;
    struct image *all;
    size_t len;
    struct image image;
    char *first = add(box, RECIPE("same", .layers = { "base" }, .references = { "a:1" }));
    char *second = add(box, RECIPE("same", .layers = { "base" }, .references = { "a:2" }));
    assert_string_equal(first, second);
    OK(box, image_list(box->images, &box->arena, &all, &len, &box->err));
    assert_int_equal(len, 1);
    assert_int_equal(all[0].tags.len, 2);
    // A name moves to the image that has it last.
    char *third = add(box, RECIPE("other", .layers = { "base" }, .references = { "a:1" }, .created = "2025-01-01T00:00:00Z"));
    OK(box, image_get(box->images, "a:1", &box->arena, &image, &box->err));
    assert_string_equal(image.id, third);
    OK(box, image_list(box->images, &box->arena, &all, &len, &box->err));
    assert_int_equal(len, 2);
    assert_string_equal(all[0].id, third); // newest first
    assert_int_equal(all[1].tags.len, 1);
    assert_string_equal(all[1].tags.items[0], "a:2");
}

static void an_image_without_layers(void **state)
{
    struct box *box = *state;
    struct image image;
    struct image_layers layers;
    char *id = add(box, RECIPE("empty"));
    OK(box, image_get(box->images, id, &box->arena, &image, &box->err));
    assert_int_equal(image.size, 0);
    OK(box, image_layers_open(box->images, &image, &box->arena, &layers, &box->err));
    assert_int_equal(layers.len, 0);
    image_layers_done(&layers);
}

// ---- opaque folders -------------------------------------------------------------------------------------------------

static void opaque_folders_hide_what_is_below(void **state)
{
    struct box *box = *state;
    struct image_staged staged;
    struct image image;
    struct image_layers layers;
    char *name, *id;
    int fd = image_staging_new(box->images, &name, &box->err);
    OK(box, fd);
    stage(RECIPE("opaque", .layers = { "low", "high" }, .references = { "opaque" }), fd, true, &box->arena, &staged);
    struct image_staged_layer *high = (struct image_staged_layer *)staged.layers.items + 1;
    strv_push_arena(&high->opaque, &box->arena, "dir");
    OK(box, image_commit_staged(box->images, name, &staged, &box->arena, &id, &box->err));
    OK(box, image_get(box->images, "opaque", &box->arena, &image, &box->err));
    OK(box, image_layers_open(box->images, &image, &box->arena, &layers, &box->err));
    const struct mount_overlay overlay = { .lower_fds = layers.fds, .lower_len = layers.len, .upper_fd = -1, .work_fd = -1 };
    int mounted = mount_overlay(&overlay, MOUNT_OVERLAY_ANY, &box->err);
    OK(box, mounted);
    assert_int_equal(faccessat(mounted, "dir/high", F_OK, 0), 0);
    assert_int_equal(faccessat(mounted, "dir/low", F_OK, 0), -1);
    fd_close(mounted);
    image_layers_done(&layers);
    fd_close(fd);
    free(name);
}

// ---- a worker that lies ---------------------------------------------------------------------------------------------

struct lie {
    const char *what;
    void (*tell)(struct box *box, int fd, struct image_staged *staged);
    const char *message; // part of it
};

static char *staged_path(struct box *box, const char *folder, const char *digest)
{
    return arena_printf(&box->arena, "%s/%s", folder, oci_digest_hex(digest));
}

static void change_config(struct box *box, int fd, struct image_staged *staged)
{
    OK(box, file_write_at(fd, staged_path(box, "blobs", staged->config_digest), "{}", 2, 0600, false, &box->err));
}

static void link_config(struct box *box, int fd, struct image_staged *staged)
{
    OK(box, unlinkat(fd, staged_path(box, "blobs", staged->config_digest), 0));
    OK(box, symlinkat("/etc/passwd", fd, staged_path(box, "blobs", staged->config_digest)));
}

static void escape_digest(struct box *box, int fd, struct image_staged *staged)
{
    staged->config_digest = arena_strdup(&box->arena, "sha256:../../../../../../../../../../../../../../../../../../../etc/passwd");
}

static void other_layers(struct box *box, int fd, struct image_staged *staged)
{
    ((struct image_staged_layer *)staged->layers.items)[0].diff_id = diff_of(&box->arena, "another");
}

static void fewer_layers(struct box *box, int fd, struct image_staged *staged)
{
    staged->layers.len--;
}

static void negative_size(struct box *box, int fd, struct image_staged *staged)
{
    ((struct image_staged_layer *)staged->layers.items)[0].size = -1;
}

static void bad_reference(struct box *box, int fd, struct image_staged *staged)
{
    strv_push_arena(&staged->references, &box->arena, "Not:A:Reference");
}

static void missing_layer(struct box *box, int fd, struct image_staged *staged)
{
    const struct image_staged_layer *layer = (struct image_staged_layer *)staged->layers.items + 1;
    OK(box, file_remove_tree(fd, staged_path(box, "layers", layer->diff_id), &box->err));
}

static void layer_is_a_link(struct box *box, int fd, struct image_staged *staged)
{
    const struct image_staged_layer *layer = (struct image_staged_layer *)staged->layers.items + 1;
    missing_layer(box, fd, staged);
    OK(box, symlinkat("/etc", fd, staged_path(box, "layers", layer->diff_id)));
}

static void layers_are_a_link(struct box *box, int fd, struct image_staged *staged)
{
    OK(box, file_remove_tree(fd, "layers", &box->err));
    OK(box, symlinkat("../..", fd, "layers"));
}

static void opaque_outside(struct box *box, int fd, struct image_staged *staged)
{
    struct image_staged_layer *layer = (struct image_staged_layer *)staged->layers.items + 1;
    OK(box, symlinkat(box->root, fd, arena_printf(&box->arena, "%s/way", staged_path(box, "layers", layer->diff_id))));
    strv_push_arena(&layer->opaque, &box->arena, "way");
}

static void opaque_file(struct box *box, int fd, struct image_staged *staged)
{
    strv_push_arena(&((struct image_staged_layer *)staged->layers.items)[1].opaque, &box->arena, "word");
}

static void lies_change_nothing(void **state)
{
    static const struct lie lies[] = {
        { "config", change_config, "digest is sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" },
        { "config link", link_config, "no such file" },
        { "digest", escape_digest, "invalid image digest" },
        { "diff ids", other_layers, "invalid diffID for layer 0" },
        { "count", fewer_layers, "layers length mismatch: expected 2, got 1" },
        { "size", negative_size, "invalid layer" },
        { "reference", bad_reference, "invalid reference format" },
        { "missing", missing_layer, "is missing" },
        { "link", layer_is_a_link, "" },
        { "links", layers_are_a_link, "is missing" },
        { "opaque link", opaque_outside, "make folder opaque: way" },
        { "opaque file", opaque_file, "make folder opaque: word" },
    };
    struct box *box = *state;
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        struct image_staged staged;
        struct image *all;
        size_t len;
        char *name, *id;
        int fd = image_staging_new(box->images, &name, &box->err);
        OK(box, fd);
        stage(RECIPE("lies", .layers = { "low", "high" }, .references = { "lies" }), fd, true, &box->arena, &staged);
        lies[i].tell(box, fd, &staged);
        if (image_commit_staged(box->images, name, &staged, &box->arena, &id, &box->err) == 0)
            fail_msg("%s: accepted", lies[i].what);
        if (!strcasestr(box->err.message, lies[i].message))
            fail_msg("%s: %s", lies[i].what, box->err.message);
        OK(box, image_list(box->images, &box->arena, &all, &len, &box->err));
        assert_int_equal(len, 0);
        assert_int_equal(entries(box, "layers") + entries(box, "blobs/sha256"), 0);
        assert_int_equal(getxattr(box->root, "trusted.overlay.opaque", NULL, 0), -1);
        image_staging_remove(box->images, name);
        assert_int_equal(entries(box, "staging"), 0);
        fd_close(fd);
        free(name);
    }
    // And the truth still comes in.
    add(box, RECIPE("lies", .layers = { "low", "high" }, .references = { "lies" }));
}

static void only_own_staging_folders_are_removed(void **state)
{
    struct box *box = *state;
    add(box, RECIPE("kept", .layers = { "base" }));
    static const char *const names[] = { "", ".", "..", "../layers", "0123", "/etc", NULL };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        image_staging_remove(box->images, names[i]);
    assert_int_equal(entries(box, "layers"), 1);
    assert_true(there(box, "staging"));
}

// ---- several at once ------------------------------------------------------------------------------------------------

struct racer {
    struct image_store *images;
    int number;
    char failure[ERR_MESSAGE_SIZE];
};

static bool nobody(void *context, const char *id, char by[13], bool *running)
{
    return false;
}

static int race_once(struct racer *racer, int round, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct image image;
    struct image_layers layers;
    struct image_removed removed;
    char name[32], *id;
    snprintf(name, sizeof(name), "racer%d:%d", racer->number, round);
    const struct recipe recipe = { .config = racer->number ? "odd" : "even", .layers = { "base", racer->number ? "x" : "y", "z" },
                                   .references = { name } };
    if (bring_in(racer->images, &recipe, &arena, &id, err) < 0 || image_get(racer->images, name, &arena, &image, err) < 0 ||
        image_layers_open(racer->images, &image, &arena, &layers, err) < 0)
        return -1;
    size_t len = layers.len;
    image_layers_done(&layers);
    if (len != 3)
        return err_set(err, ERR_INTERNAL, "%zu layers", len);
    return image_remove(racer->images, name, false, nobody, NULL, &arena, &removed, err);
}

static void *race(void *context)
{
    struct racer *racer = context;
    struct err err = { 0 };
    for (int round = 0; round < 25; round++)
        if (race_once(racer, round, &err) < 0) {
            snprintf(racer->failure, sizeof(racer->failure), "round %d: %s", round, err.message);
            break;
        }
    return NULL;
}

// Both bring in and remove images that share their layers: nobody's layer goes while somebody else's image has it.
static void two_threads_share_layers(void **state)
{
    struct box *box = *state;
    struct racer racers[2] = { { .images = box->images }, { .images = box->images, .number = 1 } };
    pthread_t threads[2];
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    for (size_t i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < 2; i++)
        assert_string_equal(racers[i].failure, "");
    assert_int_equal(entries(box, "layers") + entries(box, "blobs/sha256") + entries(box, "staging"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_image_comes_in_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(roots_are_closed_and_layers_open, setup, teardown),
        cmocka_unit_test_setup_teardown(layers_are_shared, setup, teardown),
        cmocka_unit_test_setup_teardown(layers_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(the_same_image_again_is_the_same, setup, teardown),
        cmocka_unit_test_setup_teardown(an_image_without_layers, setup, teardown),
        cmocka_unit_test_setup_teardown(opaque_folders_hide_what_is_below, setup, teardown),
        cmocka_unit_test_setup_teardown(lies_change_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(only_own_staging_folders_are_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(two_threads_share_layers, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
