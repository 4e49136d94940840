// The erofs driver: layers that are files, where they are mounted, and when no longer. Beside the overlay driver in one root.
#include "fixture.h"

#include <sys/mount.h>

#include "layer/layer.h"

#define MOUNTS "state/layers"

static int setup_erofs(void **state)
{
    return setup_driver(state, "erofs");
}

static struct image_layers open_layers(struct box *box, const char *name)
{
    struct image_layers layers;
    struct image image = get(box, name);
    OK(box, image_layers_open(box->images, &image, &box->arena, &layers, &box->err));
    return layers;
}

static uint64_t mount_of(int fd)
{
    struct statx info;
    assert_int_equal(statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &info), 0);
    return info.stx_mnt_id;
}

// Mounts below the box, by the kernel's own table.
static size_t mount_len(struct box *box)
{
    _cleanup_buf_ struct buf text = BUF_INIT(8 << 20);
    OK(box, file_read_at(AT_FDCWD, "/proc/self/mountinfo", &text, &box->err));
    size_t len = 0;
    for (const char *at = buf_text(&text); (at = strstr(at, arena_printf(&box->arena, " %s/" MOUNTS "/", box->root))); at++)
        len++;
    return len;
}

static void check_word(int tree_fd, const char *word)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64);
    struct err err;
    assert_int_equal(file_read_at(tree_fd, "word", &text, &err), 0);
    assert_string_equal(buf_text(&text), word);
}

// ---- life of a mount ------------------------------------------------------------------------------------------------

static void mounted_once_when_wanted(void **state)
{
    struct box *box = *state;
    add(box, RECIPE("two", .layers = { "low", "high" }, .references = { "two" }));
    assert_int_equal(mount_len(box), 0);
    struct image_layers first = open_layers(box, "two"), second = open_layers(box, "two");
    assert_int_equal(first.len, 2);
    assert_int_equal(mount_len(box), 2);
    check_word(first.fds[0], "high");
    check_word(first.fds[1], "low");
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(mount_of(first.fds[i]), mount_of(second.fds[i]));
        assert_true(str_starts(first.paths.items[i], arena_printf(&box->arena, "%s/" MOUNTS "/", box->root)));
    }
    image_layers_done(&first);
    image_layers_done(&second);
}

static void a_removed_layer_is_unmounted(void **state)
{
    struct box *box = *state;
    struct image_removed removed = { 0 };
    add(box, RECIPE("two", .layers = { "low", "high" }, .references = { "two" }));
    add(box, RECIPE("one", .layers = { "low" }, .references = { "one" }));
    struct image_layers layers = open_layers(box, "two");
    OK(box, image_remove(box->images, "two", false, NULL, NULL, &box->arena, &removed, &box->err));
    assert_int_equal(mount_len(box), 1);
    assert_int_equal(entries(box, MOUNTS), 1);
    assert_int_equal(entries(box, "layers"), 1);
    check_word(layers.fds[0], "high"); // who has it open, keeps it
    image_layers_done(&layers);
}

static void the_next_life_finds_the_mounts(void **state)
{
    struct box *box = *state;
    add(box, RECIPE("one", .layers = { "low" }, .references = { "one" }));
    struct image_layers before = open_layers(box, "one");
    box_reopen(box);
    assert_int_equal(mount_len(box), 1);
    struct image_layers after = open_layers(box, "one");
    assert_int_equal(mount_of(before.fds[0]), mount_of(after.fds[0]));
    assert_int_equal(mount_len(box), 1);
    image_layers_done(&before);
    image_layers_done(&after);
    image_unmount_all(box->images);
    assert_int_equal(mount_len(box), 0);
    assert_int_equal(entries(box, MOUNTS), 0);
}

// The record went, the mount did not: a crash between the two.
static void a_mount_without_a_record_is_swept(void **state)
{
    struct box *box = *state;
    add(box, RECIPE("one", .layers = { "low" }, .references = { "one" }));
    struct image_layers layers = open_layers(box, "one");
    const char *name = strrchr(layers.paths.items[0], '/') + 1;
    const char *other = arena_printf(&box->arena, "%s/" MOUNTS "/%.60sffff", box->root, name);
    assert_int_equal(mkdir(other, 0700), 0);
    assert_int_equal(mount(layers.paths.items[0], other, NULL, MS_BIND, NULL), 0);
    assert_int_equal(mount_len(box), 2);
    box_reopen(box);
    assert_int_equal(mount_len(box), 1);
    assert_int_equal(entries(box, MOUNTS), 1);
    image_layers_done(&layers);
}

// Loop devices with a file of the box in them.
static size_t loop_len(struct box *box)
{
    _cleanup_strv_ struct strv names = { 0 };
    size_t len = 0;
    OK(box, file_list_names(AT_FDCWD, "/sys/block", &names, &box->err));
    for (size_t i = 0; i < names.len; i++) {
        _cleanup_buf_ struct buf text = BUF_INIT(4096);
        _cleanup_free_ char *path = mem_printf("/sys/block/%s/loop/backing_file", names.items[i]);
        if (file_read_at(AT_FDCWD, path, &text, NULL) == 0)
            len += str_starts(buf_text(&text), box->root);
    }
    return len;
}

static void by_way(struct box *box, enum erofs_way way)
{
    box->images->erofs_way = way;
    struct image_layers layers = open_layers(box, "one");
    check_word(layers.fds[0], "low");
    assert_int_equal(loop_len(box), way == EROFS_LOOP);
    image_layers_done(&layers);
    image_unmount_all(box->images);
    for (int tries = 0; loop_len(box) > 0 && tries < 500; tries++)
        usleep(10000);
    assert_int_equal(loop_len(box), 0);
}

static void in_every_way_of_this_kernel(void **state)
{
    struct box *box = *state;
    add(box, RECIPE("one", .layers = { "low" }, .references = { "one" }));
    for (enum erofs_way way = box->images->erofs_way; way <= EROFS_LOOP; way++)
        by_way(box, way);
}

static void guests_get_the_same_file(void **state)
{
    struct box *box = *state;
    struct image_layers guest;
    struct stat staged, info;
    add(box, RECIPE("one", .layers = { "low" }, .references = { "one" }));
    struct image image = get(box, "one");
    OK(box, image_erofs_open(box->images, &image, &box->arena, &guest, &box->err));
    assert_int_equal(guest.len, 1);
    assert_int_equal(entries(box, "layers"), 1); // nothing was made beside it
    assert_int_equal(fstat(guest.fds[0], &info), 0);
    assert_int_equal(stat(guest.paths.items[0], &staged), 0);
    assert_int_equal(info.st_ino, staged.st_ino);
    assert_int_equal(info.st_mode & 07777, 0600);
    image_layers_done(&guest);
}

// ---- beside the other driver ----------------------------------------------------------------------------------------

static void each_layer_keeps_its_driver(void **state)
{
    struct box *box = *state;
    box->driver = "overlay2";
    box_reopen(box);
    assert_string_equal(image_driver_name(box->images), "overlay2");
    add(box, RECIPE("base", .layers = { "low" }, .references = { "base" }));
    box->driver = "erofs";
    box_reopen(box);
    assert_string_equal(image_driver_name(box->images), "erofs");
    add(box, RECIPE("both", .layers = { "low", "high" }, .references = { "both" }));
    struct image_layers layers = open_layers(box, "both");
    assert_int_equal(layers.len, 2);
    assert_int_equal(mount_len(box), 1);
    check_word(layers.fds[0], "high");
    check_word(layers.fds[1], "low");
    assert_true(str_starts(layers.paths.items[0], arena_printf(&box->arena, "%s/" MOUNTS "/", box->root)));
    assert_true(str_starts(layers.paths.items[1], arena_printf(&box->arena, "%s/layers/", box->root)));
    image_layers_done(&layers);
    box->driver = "overlay";
    box_reopen(box); // whole for the other as well
    layers = open_layers(box, "both");
    assert_int_equal(layers.len, 2);
    image_layers_done(&layers);
}

static void a_driver_that_there_is_not(void **state)
{
    struct box *box = *state;
    struct image_store *images = NULL;
    const struct image_store_config config = { .root_fd = box->root_fd, .state_fd = box->root_fd, .driver = "zfs" };
    assert_int_equal(image_store_open(box->store, &config, &images, &box->err), -1);
    assert_int_equal(box->err.class, ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(box->err.message, "storage driver zfs: not one of erofs, overlay"));
    assert_null(images);
}

// ---- what a worker may not leave ------------------------------------------------------------------------------------

static void spoil(int folder, const char *how)
{
    struct err err;
    if (str_eq(how, "no image"))
        assert_int_equal(unlinkat(folder, LAYER_IMAGE_NAME, 0), 0);
    if (str_eq(how, "no recipe"))
        assert_int_equal(unlinkat(folder, LAYER_RECIPE_NAME, 0), 0);
    if (str_eq(how, "a link"))
        assert_int_equal(unlinkat(folder, LAYER_IMAGE_NAME, 0) | symlinkat("/etc/passwd", folder, LAYER_IMAGE_NAME), 0);
    if (str_eq(how, "another name"))
        assert_int_equal(linkat(folder, LAYER_IMAGE_NAME, folder, "other", 0), 0);
    if (str_eq(how, "a fifo"))
        assert_int_equal(unlinkat(folder, LAYER_RECIPE_NAME, 0) | mkfifoat(folder, LAYER_RECIPE_NAME, 0600), 0);
    if (str_eq(how, "half a block"))
        assert_int_equal(file_write_at(folder, LAYER_IMAGE_NAME, "x", 1, 0600, false, &err), 0);
}

static void what_is_no_layer_is_refused(void **state)
{
    static const char *const ways[] = { "no image", "no recipe", "a link", "another name", "a fifo", "half a block" };
    struct box *box = *state;
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        struct image_staged staged;
        char *name, *id;
        _cleanup_close_ int fd = image_staging_new(box->images, &name, &box->err);
        OK(box, fd);
        stage(RECIPE(ways[i], .layers = { "low" }, .references = { "bad" }), fd, true, &box->arena, &staged);
        as_images(fd);
        _cleanup_close_ int folder = file_open_dir(fd, arena_printf(&box->arena, "layers/%s", oci_digest_hex(diff_of(&box->arena, "low"))),
                                                   &box->err);
        spoil(folder, ways[i]);
        assert_int_equal(image_commit_staged(box->images, name, &staged, &box->arena, &id, &box->err), -1);
        image_staging_remove(box->images, name);
        free(name);
    }
    assert_int_equal(entries(box, "layers"), 0);
    assert_int_equal(entries(box, "staging"), 0);
    assert_int_equal(entries(box, "blobs/sha256"), 0);
}

static void a_layer_that_lost_a_file_is_forgotten(void **state)
{
    struct box *box = *state;
    struct image image;
    char *id = add(box, RECIPE("one", .layers = { "low" }, .references = { "one" }));
    image = get(box, "one");
    assert_int_equal(unlinkat(box->root_fd, arena_printf(&box->arena, "layers/%s/" LAYER_RECIPE_NAME,
                                                         oci_digest_hex(image.chain_ids.items[0])), 0), 0);
    box_reopen(box);
    assert_int_equal(image_get(box->images, id, &box->arena, &image, &box->err), -1);
    assert_int_equal(entries(box, "layers"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(mounted_once_when_wanted, setup_erofs, teardown),
        cmocka_unit_test_setup_teardown(a_removed_layer_is_unmounted, setup_erofs, teardown),
        cmocka_unit_test_setup_teardown(the_next_life_finds_the_mounts, setup_erofs, teardown),
        cmocka_unit_test_setup_teardown(a_mount_without_a_record_is_swept, setup_erofs, teardown),
        cmocka_unit_test_setup_teardown(in_every_way_of_this_kernel, setup_erofs, teardown),
        cmocka_unit_test_setup_teardown(guests_get_the_same_file, setup_erofs, teardown),
        cmocka_unit_test_setup_teardown(each_layer_keeps_its_driver, setup_erofs, teardown),
        cmocka_unit_test_setup_teardown(a_driver_that_there_is_not, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_layer_is_refused, setup_erofs, teardown),
        cmocka_unit_test_setup_teardown(a_layer_that_lost_a_file_is_forgotten, setup_erofs, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
