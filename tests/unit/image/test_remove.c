// Names, prefixes, tags, and every way in which rmi answers.
#include "fixture.h"

struct user {
    const char *id; // of the image it was made of
    bool running;
};

static bool in_use(void *context, const char *image_id, char by[13], bool *running)
{
    const struct user *user = context;
    if (!str_eq(user->id, image_id))
        return false;
    snprintf(by, 13, "c0ffee123456");
    *running = user->running;
    return true;
}

static int take_away(struct box *box, const char *name, bool force, const struct user *user, struct image_removed *out)
{
    static const struct user nobody = { 0 };
    return image_remove(box->images, name, force, in_use, (void *)(user ? user : &nobody), &box->arena, out, &box->err);
}

static void expect_gone(struct box *box, const char *name)
{
    struct image image;
    assert_int_equal(image_get(box->images, name, &box->arena, &image, &box->err), -1);
    assert_int_equal(box->err.class, ERR_NOT_FOUND);
}

static void expect_there(struct box *box, const char *name)
{
    struct image image;
    OK(box, image_get(box->images, name, &box->arena, &image, &box->err));
}

static void an_image_answers_to_its_names(void **state)
{
    struct box *box = *state;
    struct image image;
    char *id = add(box, RECIPE("named", .layers = { "base" }, .references = { "debian:latest", "me/x:1" }));
    char *other = add(box, RECIPE("other", .layers = { "base" }));
    const char *const names[] = {
        "debian", "debian:latest", "docker.io/library/debian", "index.docker.io/library/debian:latest", "me/x:1", id, id + 7,
        arena_strndup(&box->arena, id, 19), arena_strndup(&box->arena, id + 7, 12),
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        OK(box, image_get(box->images, names[i], &box->arena, &image, &box->err));
        assert_string_equal(image.id, id);
    }
    static const struct {
        const char *name, *message;
        enum err_class class;
    } wrong[] = {
        { "nosuch", "No such image: nosuch:latest", ERR_NOT_FOUND },
        { "debian:1", "No such image: debian:1", ERR_NOT_FOUND },
        { "me/x", "No such image: me/x:latest", ERR_NOT_FOUND },
        { "x.y/z@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
          "No such image: x.y/z@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", ERR_NOT_FOUND },
        { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
          "No such image: sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", ERR_NOT_FOUND },
        { "", "invalid reference format", ERR_INVALID_ARGUMENT },
        { "UP", "invalid reference format: repository name (library/UP) must be lowercase", ERR_INVALID_ARGUMENT },
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_int_equal(image_get(box->images, wrong[i].name, &box->arena, &image, &box->err), -1);
        assert_string_equal(box->err.message, wrong[i].message);
        assert_int_equal(box->err.class, wrong[i].class);
    }
    // A reference wins over the prefix of another image.
    char *word = arena_strndup(&box->arena, other + 7, 12);
    OK(box, image_tag(box->images, id, word, &box->err));
    OK(box, image_get(box->images, word, &box->arena, &image, &box->err));
    assert_string_equal(image.id, id);
}

// With seventeen images two share their first digit.
static void a_prefix_of_several_is_none(void **state)
{
    struct box *box = *state;
    struct image image;
    char *first[16] = { 0 };
    for (int i = 0; i < 17; i++) {
        char *id = add(box, RECIPE(arena_printf(&box->arena, "config %d", i)));
        size_t digit = (size_t)(id[7] <= '9' ? id[7] - '0' : id[7] - 'a' + 10);
        if (!first[digit]) {
            first[digit] = id;
            continue;
        }
        char *prefix = arena_strndup(&box->arena, id + 7, 1);
        assert_int_equal(image_get(box->images, prefix, &box->arena, &image, &box->err), -1);
        assert_int_equal(box->err.class, ERR_NOT_FOUND);
        assert_string_equal(box->err.message,
                            arena_printf(&box->arena, "No such image: %s:latest (several image IDs begin so)", prefix));
        assert_int_equal(image_get(box->images, arena_printf(&box->arena, "sha256:%s", prefix), &box->arena, &image, &box->err), -1);
        expect_there(box, arena_strndup(&box->arena, id + 7, 12));
        return;
    }
    fail();
}

static void tags_are_put_and_moved(void **state)
{
    struct box *box = *state;
    struct image image;
    char *one = add(box, RECIPE("one", .references = { "a:1" }));
    char *two = add(box, RECIPE("two", .references = { "b:1" }));
    OK(box, image_tag(box->images, "a:1", "docker.io/library/new", &box->err));
    OK(box, image_get(box->images, "new:latest", &box->arena, &image, &box->err));
    assert_string_equal(image.id, one);
    OK(box, image_tag(box->images, two, "new", &box->err));
    OK(box, image_get(box->images, "new:latest", &box->arena, &image, &box->err));
    assert_string_equal(image.id, two);
    static const struct {
        const char *name, *reference, *message;
        enum err_class class;
    } wrong[] = {
        { "nosuch", "x", "No such image: nosuch:latest", ERR_NOT_FOUND },
        { "a:1", "Bad", "Error parsing reference: invalid reference format: repository name (library/Bad) must be lowercase",
          ERR_INVALID_ARGUMENT },
        { "a:1", "x@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
          "refusing to create a tag with a digest reference", ERR_INVALID_ARGUMENT },
        { "a:1", "sha256:abc", "refusing to create an ambiguous tag using digest algorithm as name", ERR_INVALID_ARGUMENT },
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_int_equal(image_tag(box->images, wrong[i].name, wrong[i].reference, &box->err), -1);
        assert_string_equal(box->err.message, wrong[i].message);
        assert_int_equal(box->err.class, wrong[i].class);
    }
}

static void the_last_tag_takes_the_image(void **state)
{
    struct box *box = *state;
    struct image_removed out;
    struct image image;
    char *id = add(box, RECIPE("x", .layers = { "base", "x" }, .references = { "a:1", "b:1" }));
    OK(box, image_get(box->images, id, &box->arena, &image, &box->err));
    OK(box, take_away(box, "a:1", false, NULL, &out));
    assert_int_equal(out.untagged.len, 1);
    assert_int_equal(out.deleted.len, 0);
    assert_string_equal(out.untagged.items[0], "a:1");
    expect_there(box, "b:1");
    OK(box, take_away(box, "docker.io/library/b:1", false, NULL, &out));
    assert_string_equal(out.untagged.items[0], "b:1");
    assert_int_equal(out.deleted.len, 3); // the image, then its layers, top first
    assert_string_equal(out.deleted.items[0], id);
    assert_string_equal(out.deleted.items[1], image.chain_ids.items[1]);
    assert_string_equal(out.deleted.items[2], image.chain_ids.items[0]);
    expect_gone(box, id);
    assert_int_equal(entries(box, "layers") + entries(box, "blobs/sha256") + entries(box, "staging"), 0);
    assert_int_equal(take_away(box, "b:1", true, NULL, &out), -1);
    assert_string_equal(box->err.message, "No such image: b:1");
}

static void shared_layers_stay(void **state)
{
    struct box *box = *state;
    struct image_removed out;
    struct image image;
    struct image_layers layers;
    add(box, RECIPE("one", .layers = { "base", "x" }, .references = { "one" }));
    add(box, RECIPE("two", .layers = { "base", "y" }, .references = { "two" }));
    add(box, RECIPE("three", .layers = { "y", "x" }, .references = { "three" })); // shares folders, no chain
    OK(box, take_away(box, "one", false, NULL, &out));
    assert_int_equal(out.deleted.len, 2);
    OK(box, take_away(box, "two", false, NULL, &out));
    assert_int_equal(out.deleted.len, 3);
    assert_int_equal(entries(box, "layers"), 2);
    OK(box, image_get(box->images, "three", &box->arena, &image, &box->err));
    OK(box, image_layers_open(box->images, &image, &box->arena, &layers, &box->err));
    assert_int_equal(faccessat(layers.fds[0], "dir/x", F_OK, 0) + faccessat(layers.fds[1], "dir/y", F_OK, 0), 0);
    image_layers_done(&layers);
    box_reopen(box);
    expect_there(box, "three");
    OK(box, take_away(box, "three", false, NULL, &out));
    assert_int_equal(entries(box, "layers"), 0);
}

static void by_id(void **state)
{
    struct box *box = *state;
    struct image_removed out;
    char *id = add(box, RECIPE("x", .layers = { "base" }, .references = { "a:1", "b:1" }));
    char *prefix = arena_strndup(&box->arena, id + 7, 12);
    assert_int_equal(take_away(box, prefix, false, NULL, &out), -1);
    assert_int_equal(box->err.class, ERR_CONFLICT);
    assert_string_equal(box->err.message, arena_printf(&box->arena, "conflict: unable to delete %s (must be forced) - image is"
                                                                    " referenced in multiple repositories", prefix));
    expect_there(box, "a:1");
    OK(box, take_away(box, prefix, true, NULL, &out));
    assert_int_equal(out.untagged.len, 2);
    assert_int_equal(out.deleted.len, 2);
    expect_gone(box, id);
    // One tag, or none: no force needed.
    id = add(box, RECIPE("x", .layers = { "base" }, .references = { "a:1" }));
    OK(box, take_away(box, id, false, NULL, &out));
    assert_int_equal(out.untagged.len, 1);
    id = add(box, RECIPE("x", .layers = { "base" }));
    OK(box, take_away(box, id, false, NULL, &out));
    assert_int_equal(out.untagged.len, 0);
    assert_int_equal(out.deleted.len, 2);
}

#define DIGEST_1 "@sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define DIGEST_2 "@sha256:2222222222222222222222222222222222222222222222222222222222222222"

static void digests_go_with_the_last_tag(void **state)
{
    struct box *box = *state;
    struct image_removed out;
    struct image image;
    const struct recipe recipe = { .config = "x", .references = { "a:1", "a:2", "a" DIGEST_1, "b" DIGEST_2 } };
    char *id = add(box, &recipe);
    OK(box, image_get(box->images, "a" DIGEST_1, &box->arena, &image, &box->err));
    assert_int_equal(image.tags.len, 2);
    assert_string_equal(image.digests.items[1], "b" DIGEST_2);
    OK(box, take_away(box, "a:1", false, NULL, &out));
    assert_int_equal(out.untagged.len, 1);
    OK(box, take_away(box, "a:2", false, NULL, &out));
    assert_int_equal(out.untagged.len, 2);
    assert_string_equal(out.untagged.items[1], "a" DIGEST_1);
    assert_int_equal(out.deleted.len, 0);
    OK(box, take_away(box, "b" DIGEST_2, false, NULL, &out));
    assert_int_equal(out.deleted.len, 1);
    expect_gone(box, id);
    // A tag and its repository's digest count as one name.
    id = add(box, RECIPE("y", .references = { "a:1", "a" DIGEST_1 }));
    OK(box, take_away(box, id, false, NULL, &out));
    assert_int_equal(out.untagged.len, 2);
}

static void images_in_use(void **state)
{
    struct box *box = *state;
    struct image_removed out;
    char *id = add(box, RECIPE("x", .layers = { "base" }, .references = { "a:1", "b:1" }));
    const struct user running = { id, true }, stopped = { id, false };
    // With another name left, a name may go.
    OK(box, take_away(box, "b:1", false, &running, &out));
    assert_int_equal(out.deleted.len, 0);
    const struct {
        const char *name;
        bool force;
        const struct user *user;
        const char *message; // %s: the short ID
    } cases[] = {
        { "a:1", false, &running,
          "conflict: unable to remove repository reference \"a:1\" (must force) - container c0ffee123456 is using its"
          " referenced image %s" },
        { "a:1", false, &stopped,
          "conflict: unable to remove repository reference \"a:1\" (must force) - container c0ffee123456 is using its"
          " referenced image %s" },
        { id, false, &running,
          "conflict: unable to delete %s (cannot be forced) - image is being used by running container c0ffee123456" },
        { id, true, &running,
          "conflict: unable to delete %s (cannot be forced) - image is being used by running container c0ffee123456" },
        { id, false, &stopped,
          "conflict: unable to delete %s (must be forced) - image is being used by stopped container c0ffee123456" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char expected[256], short_id[13];
        snprintf(short_id, sizeof(short_id), "%s", id + 7);
        const char *mark = strstr(cases[i].message, "%s");
        snprintf(expected, sizeof(expected), "%.*s%s%s", (int)(mark - cases[i].message), cases[i].message, short_id, mark + 2);
        assert_int_equal(take_away(box, cases[i].name, cases[i].force, cases[i].user, &out), -1);
        assert_int_equal(box->err.class, ERR_CONFLICT);
        assert_string_equal(box->err.message, expected);
        expect_there(box, "a:1");
    }
    // Forced by name under a running container: the name goes, the image stays.
    OK(box, take_away(box, "a:1", true, &running, &out));
    assert_int_equal(out.untagged.len, 1);
    assert_int_equal(out.deleted.len, 0);
    expect_gone(box, "a:1");
    expect_there(box, arena_strndup(&box->arena, id + 7, 12));
}

// The stopped container can be started again; when it is gone, so are the layers.
static void forced_under_a_stopped_container(void **state)
{
    struct box *box = *state;
    struct image_removed out;
    struct image *all;
    size_t len;
    char *id = add(box, RECIPE("x", .layers = { "base" }, .references = { "a:1" }));
    struct user user = { id, false };
    OK(box, take_away(box, "a:1", true, &user, &out));
    assert_int_equal(out.untagged.len, 1);
    assert_int_equal(out.deleted.len, 1);
    assert_string_equal(out.deleted.items[0], id);
    OK(box, image_list(box->images, &box->arena, &all, &len, &box->err));
    assert_int_equal(len, 0);
    expect_gone(box, "a:1");
    expect_gone(box, arena_strndup(&box->arena, id + 7, 12));
    OK(box, image_collect(box->images, in_use, &user, &box->err));
    box_reopen(box);
    expect_there(box, id);
    assert_int_equal(entries(box, "layers"), 1);
    // Brought in again it is an image like any other.
    add(box, RECIPE("x", .layers = { "base" }));
    OK(box, image_list(box->images, &box->arena, &all, &len, &box->err));
    assert_int_equal(len, 1);
    OK(box, take_away(box, id, true, &user, &out));
    user.id = NULL;
    OK(box, image_collect(box->images, in_use, &user, &box->err));
    expect_gone(box, id);
    assert_int_equal(entries(box, "layers") + entries(box, "blobs/sha256") + entries(box, "staging"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_image_answers_to_its_names, setup, teardown),
        cmocka_unit_test_setup_teardown(a_prefix_of_several_is_none, setup, teardown),
        cmocka_unit_test_setup_teardown(tags_are_put_and_moved, setup, teardown),
        cmocka_unit_test_setup_teardown(the_last_tag_takes_the_image, setup, teardown),
        cmocka_unit_test_setup_teardown(shared_layers_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(by_id, setup, teardown),
        cmocka_unit_test_setup_teardown(digests_go_with_the_last_tag, setup, teardown),
        cmocka_unit_test_setup_teardown(images_in_use, setup, teardown),
        cmocka_unit_test_setup_teardown(forced_under_a_stopped_container, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
