// What a start finds after a crash, and what it makes of it.
#include "fixture.h"

#include <signal.h>
#include <sys/wait.h>

static char *layer_path(struct box *box, const char *word)
{
    return arena_printf(&box->arena, "layers/%s", oci_digest_hex(diff_of(&box->arena, word)));
}

static size_t image_count(struct box *box)
{
    struct image *all;
    size_t len;
    OK(box, image_list(box->images, &box->arena, &all, &len, &box->err));
    return len;
}

static void staged_but_not_committed(void **state)
{
    struct box *box = *state;
    struct image_staged staged;
    char *name;
    int fd = image_staging_new(box->images, &name, &box->err);
    OK(box, fd);
    stage(RECIPE("crash", .layers = { "low" }), fd, true, &box->arena, &staged);
    assert_int_equal(entries(box, "staging"), 1);
    box_reopen(box);
    assert_int_equal(entries(box, "staging"), 0);
    char *id;
    assert_int_equal(image_commit_staged(box->images, name, &staged, &box->arena, &id, &box->err), -1);
    assert_int_equal(box->err.class, ERR_NOT_FOUND);
    fd_close(fd);
    free(name);
}

// The layer and the blob are in place, the transaction never came.
static void published_but_not_recorded(void **state)
{
    struct box *box = *state;
    add(box, RECIPE("kept", .layers = { "kept" }, .references = { "kept" }));
    OK(box, file_mkdirs(box->root_fd, arena_printf(&box->arena, "%s/half", layer_path(box, "low")), 0755, &box->err));
    OK(box, file_write_at(box->root_fd, "blobs/sha256/0123", "x", 1, 0600, false, &box->err));
    box_reopen(box);
    assert_false(there(box, layer_path(box, "low")));
    assert_int_equal(entries(box, "blobs/sha256"), 1);
    assert_true(there(box, layer_path(box, "kept")));
    assert_int_equal(image_count(box), 1);
}

// The same within one life: a folder without a record is in the way of a commit, and may be incomplete.
static void a_leftover_is_replaced(void **state)
{
    struct box *box = *state;
    OK(box, file_mkdirs(box->root_fd, arena_printf(&box->arena, "%s/half", layer_path(box, "low")), 0755, &box->err));
    add(box, RECIPE("new", .layers = { "low" }, .references = { "new" }));
    assert_false(there(box, arena_printf(&box->arena, "%s/half", layer_path(box, "low"))));
    assert_true(there(box, arena_printf(&box->arena, "%s/dir/low", layer_path(box, "low"))));
    assert_int_equal(entries(box, "staging"), 0);
}

static void an_image_without_its_files_is_forgotten(void **state)
{
    struct box *box = *state;
    char *no_layer = add(box, RECIPE("a", .layers = { "base", "a" }, .references = { "name-a" }));
    char *no_blob = add(box, RECIPE("b", .layers = { "base", "b" }, .references = { "name-b" }));
    char *bad_blob = add(box, RECIPE("c", .layers = { "base", "c" }, .references = { "name-c" }));
    char *whole = add(box, RECIPE("d", .layers = { "base" }, .references = { "name-d" }));
    struct image image;
    OK(box, image_get(box->images, "name-a", &box->arena, &image, &box->err));
    OK(box, file_remove_tree(box->root_fd, arena_printf(&box->arena, "layers/%s", oci_digest_hex(image.chain_ids.items[1])),
                             &box->err));
    OK(box, unlinkat(box->root_fd, arena_printf(&box->arena, "blobs/sha256/%s", oci_digest_hex(no_blob)), 0));
    OK(box, file_write_at(box->root_fd, arena_printf(&box->arena, "blobs/sha256/%s", oci_digest_hex(bad_blob)), "", 0, 0600,
                          false, &box->err));
    box_reopen(box);
    const char *const gone[] = { no_layer, no_blob, bad_blob, "name-a", "name-b", "name-c" };
    for (size_t i = 0; i < ARRAY_LEN(gone); i++)
        assert_int_equal(image_get(box->images, gone[i], &box->arena, &image, &box->err), -1);
    OK(box, image_get(box->images, whole, &box->arena, &image, &box->err));
    assert_int_equal(entries(box, "layers"), 1);
    assert_int_equal(entries(box, "blobs/sha256"), 1);
    // It can come again.
    add(box, RECIPE("a", .layers = { "base", "a" }, .references = { "name-a" }));
}

// Killed at any moment of many commits and removals, a process leaves a store in which every image is whole.
static void survives_kill_at_any_moment(void **state)
{
    struct box *box = *state;
    for (int round = 0; round < 12; round++) {
        box_close(box);
        pid_t child = fork();
        if (child == 0) {
            box_open(box);
            for (;;) {
                struct image_removed removed;
                add(box, RECIPE("x", .layers = { "base", "x" }, .references = { "x" }));
                add(box, RECIPE("y", .layers = { "base", "y" }, .references = { "y" }));
                OK(box, image_remove(box->images, "x", false, NULL, NULL, &box->arena, &removed, &box->err));
                OK(box, image_remove(box->images, "y", false, NULL, NULL, &box->arena, &removed, &box->err));
            }
        }
        usleep((useconds_t)(20000 + round * 7919));
        int status;
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        size_t before;
        box_open(box);
        struct image *all;
        OK(box, image_list(box->images, &box->arena, &all, &before, &box->err));
        for (size_t i = 0; i < before; i++) {
            struct image_layers layers;
            OK(box, image_layers_open(box->images, &all[i], &box->arena, &layers, &box->err));
            assert_int_equal(layers.len, 2);
            for (size_t j = 0; j < layers.len; j++)
                assert_int_equal(faccessat(layers.fds[j], "word", F_OK, 0), 0);
            image_layers_done(&layers);
        }
        assert_int_equal(entries(box, "blobs/sha256"), before);
        assert_int_equal(entries(box, "layers"), before ? before + 1 : 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(staged_but_not_committed, setup, teardown),
        cmocka_unit_test_setup_teardown(published_but_not_recorded, setup, teardown),
        cmocka_unit_test_setup_teardown(a_leftover_is_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(an_image_without_its_files_is_forgotten, setup, teardown),
        cmocka_unit_test_setup_teardown(survives_kill_at_any_moment, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
