// What becomes of a build: what a client may ask of an output, the tar of a root as entries, answers about a Dockerfile.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "buildkit/untar.h"

// ---- outputs --------------------------------------------------------------------------------------------------------

static const struct {
    const char *type, *key, *value, *says; // says: of the refusal; NULL: it passes
} asked[] = {
    { "moby", "name", "a,b:1", NULL },
    { "image", "push", "false", NULL },
    { "image", "push", "true", "tag is needed" },
    { "image", "oci-mediatypes", "false", NULL },
    { "image", "annotation.a", "b", "--annotation a=b" },
    { "oci", "compression", "uncompressed", NULL },
    { "image", "annotation-odd.a", "b", "unrecognized annotation type" },
    { "oci", "annotation.", "b", "unrecognized annotation type" },
    { "oci", "annotation[linux/amd64.a", "b", "unrecognized annotation type" },
    { "oci", "annotation.\xff", "b", "unrecognized annotation type" },
    { "oci", "annotation-index[linux/amd64].a", "b", NULL },
    { "oci", "compression", "zstd", NULL },
    { "oci", "compression", "estargz", "compression=estargz" },
    { "image", "compression", "zstd", "compression=zstd" },
    { "oci", "compression-level", "99", "compression-level=99" },
    { "oci", "tar", "false", NULL },
    { "oci", "rewrite-timestamp", "true", NULL },
    { "local", "mode", "delete", NULL },
    { "local", "mode", "odd", "mode=odd" },
    { "local", "name", "x", "name=x" },
    { "local", "something-new", "1", "something-new=1" },
    { "local", "something-new", "", NULL },
    { "odd", "name", "x", "exporter \"odd\"" },
};

static void test_outputs(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(asked); i++) {
        struct solve solve = { 0 };
        struct err err = { 0 };
        struct kv pair = { (char *)asked[i].key, (char *)asked[i].value };
        const struct kvs attributes = { &pair, 1 };
        int result = output_add(&solve, asked[i].type, &attributes, &err);
        assert_int_equal(result, asked[i].says ? -1 : 0);
        if (asked[i].says)
            assert_non_null(strstr(err.message, asked[i].says));
        arena_done(&solve.arena);
    }
}

static void test_names_are_those_of_images(void **state)
{
    struct solve solve = { 0 };
    struct strv names = { 0 };
    struct kv one = { (char *)"name", (char *)"a,b" }, two = { (char *)"name", (char *)"b,c" };
    assert_int_equal(output_add(&solve, "oci", &(struct kvs){ &one, 1 }, NULL), 0);
    assert_false(outputs_names(&solve, &solve.arena, &names));
    assert_int_equal(output_add(&solve, "image", &(struct kvs){ &one, 1 }, NULL), 0);
    assert_int_equal(output_add(&solve, "moby", &(struct kvs){ &two, 1 }, NULL), 0);
    assert_true(outputs_names(&solve, &solve.arena, &names));
    assert_int_equal(names.len, 3);
    while (solve.output_len < OUTPUTS_MAX)
        assert_int_equal(output_add(&solve, "tar", &(struct kvs){ 0 }, NULL), 0);
    assert_int_equal(output_add(&solve, "tar", &(struct kvs){ 0 }, NULL), -1);
    arena_done(&solve.arena);
}

// ---- a tar ----------------------------------------------------------------------------------------------------------

struct seen {
    struct buf text;
};

static int see_entry(void *of, const struct stat_message *stat, struct err *err)
{
    buf_addf(&((struct seen *)of)->text, "[%s>%s %o %lld ", stat->path, stat->linkname ? stat->linkname : "", stat->mode & 0777, (long long)stat->size);
    return 0;
}

static int see_content(void *of, const char *data, size_t size, struct err *err)
{
    buf_add(&((struct seen *)of)->text, data, size);
    return 0;
}

static int see_end(void *of, const struct stat_message *stat, struct err *err)
{
    buf_addc(&((struct seen *)of)->text, ']');
    return 0;
}

static void add_block(struct buf *tar, const char *name, const char *link, char type, const char *content)
{
    char head[UNTAR_BLOCK] = { 0 };
    size_t size = strlen(content);
    snprintf(head, 100, "%s", name);
    snprintf(head + 100, 8, "%07o", 0640);
    snprintf(head + 124, 12, "%011o", (unsigned)size);
    head[156] = type;
    snprintf(head + 157, 100, "%s", link);
    memcpy(head + 257, "ustar\00000", 8);
    buf_add(tar, head, sizeof(head));
    buf_add(tar, content, size);
    memset(head, 0, sizeof(head));
    buf_add(tar, head, (UNTAR_BLOCK - size % UNTAR_BLOCK) % UNTAR_BLOCK);
}

static int read_tar(const struct buf *tar, size_t piece, struct seen *seen, struct err *err)
{
    const struct files_sink sink = { see_entry, see_content, see_end, seen };
    struct untar untar;
    int result = 0;
    untar_init(&untar, &sink);
    for (size_t at = 0; at < tar->size && result == 0; at += piece)
        result = untar_add(&untar, tar->data + at, MIN_OF(piece, tar->size - at), err);
    if (result == 0)
        result = untar_end(&untar, err);
    untar_done(&untar);
    return result;
}

static void test_a_tar_in_pieces(void **state)
{
    static const size_t pieces[] = { 1, 7, 511, 512, 513, 100000 };
    struct buf tar = BUF_INIT(1 << 20);
    char end[2 * UNTAR_BLOCK] = { 0 };
    add_block(&tar, "d/", "", '5', "");
    add_block(&tar, "x", "", 'x', "20 path=d/long/name\n23 linkpath=over/there\n12 bad\n");
    add_block(&tar, "short", "", '0', "content");
    add_block(&tar, "l", "d/long/name", '1', "");
    add_block(&tar, "e", "", '0', "");
    buf_add(&tar, end, sizeof(end));
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        struct seen seen = { BUF_INIT(1 << 16) };
        struct err err = { 0 };
        assert_int_equal(read_tar(&tar, pieces[i], &seen, &err), 0);
        assert_string_equal(buf_text(&seen.text), "[d> 640 0 ][d/long/name>over/there 640 7 content][l>d/long/name 640 0 ][e> 640 0 ]");
        buf_done(&seen.text);
    }
    buf_done(&tar);
}

static void test_a_tar_that_is_none(void **state)
{
    struct buf tar = BUF_INIT(1 << 20);
    struct seen seen = { BUF_INIT(1 << 16) };
    struct err err = { 0 };
    add_block(&tar, "whole", "", '0', "content");
    assert_int_equal(read_tar(&tar, 512, &seen, &err), -1);
    assert_non_null(strstr(err.message, "lacks its end"));
    buf_adds(&tar, "junk");
    while (tar.size % UNTAR_BLOCK)
        buf_addc(&tar, 'x');
    assert_int_equal(read_tar(&tar, 512, &seen, &err), -1);
    assert_non_null(strstr(err.message, "damaged"));
    buf_done(&seen.text);
    buf_done(&tar);
}

// ---- questions ------------------------------------------------------------------------------------------------------

static const char *ask(struct arena *arena, const char *text, const char *question, const char *key, struct err *err)
{
    const struct kvs none = { 0 };
    const struct call_input input = { .source = slice_of(text), .ignore = { "", 0 }, .name = "Dockerfile", .platform = "linux/amd64", .args = &none };
    struct kvs out = { 0 };
    *err = (struct err){ 0 };
    return call_answer(&input, question, arena, &out, err) < 0 ? NULL : kvs_get(&out, key);
}

static void test_questions(void **state)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct err err;
    assert_string_equal(ask(&arena, "FROM scratch\n", "frontend.lint", "result.statuscode", &err), "0");
    assert_string_equal(ask(&arena, "FROM scratch as Web\n", "frontend.lint", "result.statuscode", &err), "1");
    assert_non_null(strstr(ask(&arena, "FROM scratch as Web\n", "frontend.lint", "result.json", &err), "StageNameCasing"));
    assert_non_null(strstr(ask(&arena, "FRM x\n", "frontend.lint", "result.json", &err), "buildError"));
    assert_non_null(strstr(ask(&arena, "FROM scratch AS a\nFROM a\n", "frontend.targets", "result.json", &err), "\"default\": true"));
    assert_non_null(strstr(ask(&arena, "FROM scratch\nARG WHAT=x\n", "frontend.outline", "result.json", &err), "WHAT"));
    assert_null(ask(&arena, "FRM x\n", "frontend.targets", "result.json", &err));
    assert_null(ask(&arena, "FROM scratch\n", "frontend.odd", "result.json", &err));
    assert_int_equal(err.class, ERR_NOT_IMPLEMENTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outputs),
        cmocka_unit_test(test_names_are_those_of_images),
        cmocka_unit_test(test_a_tar_in_pieces),
        cmocka_unit_test(test_a_tar_that_is_none),
        cmocka_unit_test(test_questions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
