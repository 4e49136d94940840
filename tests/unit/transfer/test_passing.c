// Layers that are made while they pass, many at once, and in the form that the staging folder asks for.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "archive_maker.h"

#define LARGE ((size_t)5 << 20) // more than a document may have

// One file of so many bytes, all of them `fill`.
static void make_large(struct buf *out, char fill, size_t size)
{
    _cleanup_free_ char *data = mem_alloc(size);
    memset(data, fill, size);
    tar_add(out, &(struct tar_entry){ .name = (char[]){ fill, '\0' }, .data = data, .size = size });
    tar_end(out);
}

static void add_manifest(struct buf *archive, size_t layers)
{
    _cleanup_buf_ struct buf text = BUF_INIT(1 << 16);
    buf_adds(&text, "[{\"Config\":\"c\",\"RepoTags\":[\"x:1\"],\"Layers\":[");
    for (size_t i = 0; i < layers; i++)
        buf_addf(&text, "%s\"%zu/layer.tar\"", i ? "," : "", i);
    buf_adds(&text, "]}]");
    add_text(archive, "manifest.json", buf_text(&text));
}

static void add_layer(struct buf *archive, size_t number, const struct buf *layer)
{
    char name[40];
    snprintf(name, sizeof(name), "%zu/layer.tar", number);
    add_member(archive, name, layer);
}

static const char *layer_of(const struct run *run, size_t at)
{
    return json_get_text(json_array_get(json_object_get(json_array_get(run->images, 0), "layers"), at), "diff_id", "");
}

static void run_in_form(struct run *run, struct buf *archive, const char *form)
{
    tar_end(archive);
    run_start_in(run, archive, NULL, form);
}

static int64_t size_at(const struct run *run, const char *diff_id, const char *name)
{
    struct stat info;
    _cleanup_free_ char *path = mem_printf("layers/%s/%s", diff_id + 7, name);
    return fstatat(run->staging.fd, path, &info, AT_SYMLINK_NOFOLLOW) < 0 ? -1 : info.st_size;
}

// A large one passes, a small one is spooled; both forms.
static void test_both_ways(void **state)
{
    for (int erofs = 0; erofs < 2; erofs++) {
        struct run run;
        char large_id[72], small_id[72];
        _cleanup_buf_ struct buf archive = BUF_INIT(TAR_MAX), large = BUF_INIT(TAR_MAX), small = BUF_INIT(TAR_MAX), config = BUF_INIT(4096);
        make_large(&large, 'l', LARGE);
        make_large(&small, 's', 4000);
        digest_of(&large, large_id);
        digest_of(&small, small_id);
        make_config(&config, (const char *const[]){ large_id, small_id, large_id }, 3);
        add_layer(&archive, 0, &large);
        add_layer(&archive, 1, &small);
        tar_add(&archive, &(struct tar_entry){ "2/layer.tar", .type = '1', .link = "0/layer.tar" });
        add_member(&archive, "c", &config);
        add_manifest(&archive, 3);
        run_in_form(&run, &archive, erofs ? LAYER_FORM_EROFS : NULL);
        if (run.result < 0)
            fail_msg("%s", run.err.message);
        assert_string_equal(layer_of(&run, 0), large_id);
        assert_string_equal(layer_of(&run, 1), small_id);
        assert_string_equal(layer_of(&run, 2), large_id);
        if (erofs) {
            assert_true(size_at(&run, large_id, LAYER_IMAGE_NAME) > (int64_t)LARGE && size_at(&run, small_id, LAYER_RECIPE_NAME) > 0);
            assert_int_equal(size_at(&run, large_id, "l"), -1);
        } else {
            assert_int_equal(size_at(&run, large_id, "l"), LARGE);
            assert_int_equal(size_at(&run, small_id, "s"), 4000);
        }
        run_done(&run);
    }
}

// The exact tar comes back of what was staged.
static void test_recipe_of_a_passing_layer(void **state)
{
    struct run run;
    char id[72], text[64];
    struct layer_recipe *recipe;
    _cleanup_buf_ struct buf archive = BUF_INIT(TAR_MAX), layer = BUF_INIT(TAR_MAX), config = BUF_INIT(4096);
    make_large(&layer, 'x', LARGE + 777);
    digest_of(&layer, id);
    make_config(&config, (const char *const[]){ id }, 1);
    add_layer(&archive, 0, &layer);
    add_member(&archive, "c", &config);
    add_manifest(&archive, 1);
    run_in_form(&run, &archive, LAYER_FORM_EROFS);
    assert_int_equal(run.result, 0);
    _cleanup_free_ char *image_path = mem_printf("layers/%s/" LAYER_IMAGE_NAME, id + 7);
    _cleanup_free_ char *recipe_path = mem_printf("layers/%s/" LAYER_RECIPE_NAME, id + 7);
    int image_fd = openat(run.staging.fd, image_path, O_RDONLY | O_CLOEXEC), recipe_fd = openat(run.staging.fd, recipe_path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(layer_recipe_open(recipe_fd, image_fd, &recipe, &run.err), 0);
    assert_string_equal(layer_recipe_info(recipe).diff_id, id);
    size_t at = 0;
    for (ssize_t got; (got = layer_recipe_read(recipe, text, sizeof(text), &run.err)) != 0; at += (size_t)got) {
        assert_true(got > 0 && at + (size_t)got <= layer.size);
        assert_memory_equal(text, buf_text(&layer) + at, (size_t)got);
    }
    assert_int_equal(at, layer.size);
    layer_recipe_free(recipe);
    close(image_fd);
    close(recipe_fd);
    run_done(&run);
}

static void load_spoiled(struct run *run, const char *how)
{
    char id[72];
    _cleanup_buf_ struct buf archive = BUF_INIT(TAR_MAX), layer = BUF_INIT(TAR_MAX), config = BUF_INIT(4096);
    make_large(&layer, 'x', LARGE);
    if (str_eq(how, "climbs out")) {
        buf_clear(&layer);
        make_large(&layer, '.', LARGE);
        memcpy(layer.data, "../x", 4);
        memcpy(layer.data + 148, "        ", 8); // the sum over the head, with blanks in its own place
        unsigned sum = 0;
        for (size_t i = 0; i < 512; i++)
            sum += (unsigned char)layer.data[i];
        snprintf(layer.data + 148, 7, "%06o", sum);
    }
    digest_of(&layer, id);
    if (str_eq(how, "not its DiffID"))
        layer.data[1000] ^= 1;
    if (str_eq(how, "cut"))
        layer.size = LARGE - 5000;
    make_config(&config, (const char *const[]){ id }, 1);
    add_layer(&archive, 0, &layer);
    add_member(&archive, "c", &config);
    if (str_eq(how, "not asked for")) { // a second one, which is broken
        layer.size = LARGE - 5000;
        add_layer(&archive, 7, &layer);
    }
    if (str_eq(how, "archive cut")) {
        archive.size = LARGE / 2;
        run_start_in(run, &archive, NULL, LAYER_FORM_EROFS);
        return;
    }
    add_manifest(&archive, 1);
    run_in_form(run, &archive, LAYER_FORM_EROFS);
}

static void test_what_is_wrong_is_told_in_its_place(void **state)
{
    static const struct {
        const char *how, *message; // NULL: loads
    } cases[] = {
        { "climbs out", "layer 0: layer entry ../x: leads outside the layer" },
        { "not its DiffID", "invalid diffID for layer 0: expected" },
        { "cut", "layer 0: layer entry x: not a valid tar archive" },
        { "archive cut", "archive member 0/layer.tar: not a valid tar archive" },
        { "not asked for", NULL },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct run run;
        load_spoiled(&run, cases[i].how);
        assert_int_equal(run.result, cases[i].message ? -1 : 0);
        if (cases[i].message && !strstr(run.err.message, cases[i].message))
            fail_msg("%s: \"%s\" has no \"%s\"", cases[i].how, run.err.message, cases[i].message);
        if (cases[i].message)
            assert_int_equal(run.err.class, ERR_INVALID_ARGUMENT);
        run_done(&run);
    }
}

// A promise by name: what passes under a digest's name is held to it.
static void test_a_passing_blob_is_verified(void **state)
{
    struct run run;
    char id[72];
    _cleanup_buf_ struct buf archive = BUF_INIT(TAR_MAX), layer = BUF_INIT(TAR_MAX), config = BUF_INIT(4096), manifest = BUF_INIT(4096);
    make_large(&layer, 'x', LARGE);
    digest_of(&layer, id);
    make_config(&config, (const char *const[]){ id }, 1);
    add_member(&archive, "blobs/sha256/1111111111111111111111111111111111111111111111111111111111111111", &layer);
    add_member(&archive, "c", &config);
    add_text(&archive, "manifest.json", "[{\"Config\":\"c\",\"Layers\":["
                                        "\"blobs/sha256/1111111111111111111111111111111111111111111111111111111111111111\"]}]");
    run_in_form(&run, &archive, NULL);
    assert_int_equal(run.result, -1);
    assert_non_null(strstr(run.err.message, "has another digest"));
    run_done(&run);
}

// More than there are threads, with one that is wrong among them.
static void test_many_at_once(void **state)
{
    enum { LAYERS = 40 };
    for (int wrong = 0; wrong < 2; wrong++) {
        struct run run;
        char ids[LAYERS][72];
        const char *list[LAYERS];
        _cleanup_buf_ struct buf archive = BUF_INIT(TAR_MAX), config = BUF_INIT(1 << 16);
        for (size_t i = 0; i < LAYERS; i++) {
            _cleanup_buf_ struct buf layer = BUF_INIT(TAR_MAX);
            make_large(&layer, (char)('0' + i), 100000 + i);
            digest_of(&layer, ids[i]);
            list[i] = ids[i];
            if (wrong && i == 23)
                layer.data[600] ^= 1;
            add_layer(&archive, i, &layer);
        }
        make_config(&config, list, LAYERS);
        add_member(&archive, "c", &config);
        add_manifest(&archive, LAYERS);
        run_in_form(&run, &archive, LAYER_FORM_EROFS);
        assert_int_equal(run.result, wrong ? -1 : 0);
        if (wrong)
            assert_non_null(strstr(run.err.message, "invalid diffID for layer 23"));
        for (size_t i = 0; i < LAYERS && !wrong; i++) {
            assert_string_equal(layer_of(&run, i), ids[i]);
            assert_true(size_at(&run, ids[i], LAYER_IMAGE_NAME) > 100000);
        }
        run_done(&run);
    }
}

static void test_a_form_that_there_is_not(void **state)
{
    struct run run;
    _cleanup_buf_ struct buf archive = BUF_INIT(TAR_MAX);
    add_text(&archive, "manifest.json", "[]");
    run_in_form(&run, &archive, "squashfs");
    assert_int_equal(run.result, -1);
    assert_non_null(strstr(run.err.message, "squashfs"));
    run_done(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ways),
        cmocka_unit_test(test_recipe_of_a_passing_layer),
        cmocka_unit_test(test_what_is_wrong_is_told_in_its_place),
        cmocka_unit_test(test_a_passing_blob_is_verified),
        cmocka_unit_test(test_many_at_once),
        cmocka_unit_test(test_a_form_that_there_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
