// Layers as EROFS images, from tars made header by header: the same tree as unpacking gives, whatever the tar says, and the tar back.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>

#include "erofs_fixture.h"
#include "refused.h"

static const struct layer_erofs_options ordinary = { 0 }, plain = { .plain = true };

static void make_tar(struct buf *tar, const struct tar_entry *entries)
{
    for (; entries->name; entries++)
        tar_add(tar, entries);
    tar_end(tar);
}

static void check(const struct tar_entry *entries, bool folder_times)
{
    _cleanup_buf_ struct buf tar = BUF_INIT(TAR_MAX);
    make_tar(&tar, entries);
    assert_same_layer(tar.data, tar.size, folder_times, &ordinary);
    assert_same_layer(tar.data, tar.size, folder_times, &plain);
}

static char long_text[5000];

static void test_kinds_and_attributes(void **state)
{
    static const struct tar_entry entries[] = {
        { "dir", .type = '5', .mode = 01777, .uid = 5, .gid = 6, .mtime = 1000000, .pax = "SCHILY.xattr.user.of=folder\n" },
        { "dir/file", .mode = 04755, .uid = 7, .gid = 8, .mtime = 2000000, .data = "hello",
          .pax = "mtime=2000000.123456789\nSCHILY.xattr.user.note=text\nSCHILY.xattr.trusted.overlay.opaque=y\n"
                 "SCHILY.xattr.user.overlay.opaque=y\nSCHILY.xattr.security.selinux=x\n" },
        { "dir/hard", .type = '1', .link = "dir/file" },
        { "dir/soft", .type = '2', .link = "../../etc/passwd", .uid = 9, .mtime = 3000000 },
        { "soft2", .type = '1', .link = "dir/soft" },
        { "fifo", .type = '6', .mode = 0600, .pax = "SCHILY.xattr.user.x=y\n" },
        { "block", .type = '4', .major = 7, .minor = 300, .mode = 0640 },
        { "char", .type = '3', .major = 259, .minor = 0x12345, .mode = 0666 },
        { "empty", .data = "" },
        { "big", .uid = 0, .pax = "uid=3000000\ngid=3000001\nmtime=-5.5\n" },
        { "dir", .type = '5', .mode = 0711, .mtime = 1000001, .pax = "SCHILY.xattr.user.too=2\n" },
        { .name = NULL },
    };
    check(entries, true);
}

// Around each bound of where content goes: behind the inode, in blocks, with and without attributes.
static void test_sizes(void **state)
{
    static const size_t sizes[] = { 1, 31, 32, 33, 4000, 4031, 4032, 4033, 4095, 4096, 4097, 8192, 8193, 300000 };
    _cleanup_buf_ struct buf tar = BUF_INIT(TAR_MAX);
    _cleanup_free_ char *data = mem_alloc(300000);
    for (size_t i = 0; i < 300000; i++)
        data[i] = (char)(i * 31 + i / 4096);
    for (size_t turn = 0; turn < 12; turn++)
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
            _cleanup_free_ char *name = mem_printf("f%zu-%zu", turn, sizes[i]);
            tar_add(&tar, &(struct tar_entry){ name, .data = data, .size = sizes[i], .pax = turn % 2 ? "SCHILY.xattr.user.a=b\n" : NULL });
        }
    tar_end(&tar);
    assert_same_layer(tar.data, tar.size, true, &ordinary);
    assert_same_layer(tar.data, tar.size, true, &plain);
}

static void test_attributes_repeat(void **state)
{
    _cleanup_buf_ struct buf tar = BUF_INIT(TAR_MAX);
    memset(long_text, 'v', 1500);
    long_text[1500] = '\0';
    for (int i = 0; i < 50; i++) {
        _cleanup_free_ char *name = mem_printf("f%d", i);
        _cleanup_free_ char *pax = mem_printf("SCHILY.xattr.user.all=same\nSCHILY.xattr.user.some=%d\nSCHILY.xattr.user.long=%s\n", i % 5, long_text);
        tar_add(&tar, &(struct tar_entry){ name, .data = "x", .pax = pax });
    }
    tar_end(&tar);
    assert_same_layer(tar.data, tar.size, true, &ordinary);
}

// More attributes than a block has room for: ext4 takes no such files, so the kernel's EROFS is compared with the reader alone.
static void test_many_attributes(void **state)
{
    _cleanup_buf_ struct buf tar = BUF_INIT(TAR_MAX), pax = BUF_INIT(TAR_MAX);
    struct layer_image image;
    struct tree_text read = { .out = BUF_INIT(TREE_TEXT_MAX) }, mounted = read;
    memset(long_text, 'l', 3000);
    long_text[3000] = '\0';
    for (int i = 0; i < 20; i++)
        buf_addf(&pax, "SCHILY.xattr.user.n%d=%d%s\n", i, i, long_text);
    tar_add(&tar, &(struct tar_entry){ "many", .data = "x", .pax = buf_text(&pax) });
    tar_add(&tar, &(struct tar_entry){ "large", .data = long_text, .size = 5000, .pax = buf_text(&pax) });
    tar_add(&tar, &(struct tar_entry){ "folder", .type = '5', .pax = buf_text(&pax) });
    tar_end(&tar);
    image_open(&image);
    assert_int_equal(image_write(&image, tar.data, tar.size, 0, &ordinary), 0);
    image_text(&image, &read);
    assert_non_null(strstr(buf_text(&read.out), "many 100644 0:0 1 1 0.000000000 "));
    const char *folder = strstr(buf_text(&read.out), "folder 40755 0:0 2 user.n0=306c6c");
    assert_non_null(folder);
    assert_non_null(strstr(folder, "user.n19=31396c6c"));
    if (mounted_text(&image, &mounted))
        assert_same_text(&read.out, &mounted.out);
    assert_fsck(&image);
    assert_tar_back(&image, tar.data, tar.size);
    tree_text_done(&read);
    tree_text_done(&mounted);
    image_close(&image);
}

// Names and links' targets as long as they get.
static void test_long_names(void **state)
{
    _cleanup_buf_ struct buf tar = BUF_INIT(TAR_MAX), link = BUF_INIT(TAR_MAX);
    memset(long_text, 'n', 255);
    long_text[255] = '\0';
    for (int i = 0; i < 15; i++)
        buf_addf(&link, "%s/", long_text);
    buf_adds(&link, "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz");
    _cleanup_free_ char *target = mem_printf("linkpath=%s%s\n", buf_text(&link), long_text + 106);
    tar_add(&tar, &(struct tar_entry){ "link", .type = '2', .link = "x", .pax = target });
    _cleanup_free_ char *deep = mem_printf("path=%sfile\n", buf_text(&link));
    deep[5 + 15 * 256] = 'f';
    memcpy(deep + 5 + 15 * 256, "file\n", 6);
    tar_add(&tar, &(struct tar_entry){ "deep", .data = "deep", .pax = deep });
    tar_end(&tar);
    assert_same_layer(tar.data, tar.size, false, &ordinary);
}

static void test_large_folder(void **state)
{
    _cleanup_buf_ struct buf tar = BUF_INIT(TAR_MAX);
    tar_add(&tar, &(struct tar_entry){ "d", .type = '5' });
    for (unsigned i = 0; i < 5000; i++) {
        _cleanup_free_ char *name = mem_printf("%s/%x%.*s", i % 3 ? "d" : ".", i * 2654435761u, (int)(i % 60), "!!aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        tar_add(&tar, &(struct tar_entry){ name, .data = i % 2 ? "one" : "" });
    }
    tar_end(&tar);
    assert_same_layer(tar.data, tar.size, true, &ordinary);
}

static void test_sparse(void **state)
{
    static const struct tar_entry entries[] = {
        { "a", .data = "startend.", .size = 9,
          .pax = "GNU.sparse.size=10000000\nGNU.sparse.numblocks=2\nGNU.sparse.map=0,5,5000000,4\nGNU.sparse.name=holes\n" },
        { "b", .data = "startend.", .size = 9, // in one block
          .pax = "GNU.sparse.size=3000\nGNU.sparse.numblocks=2\nGNU.sparse.map=0,5,2000,4\nGNU.sparse.name=small\n" },
        { "c", .data = "", // nothing but a hole
          .pax = "GNU.sparse.size=1000000\nGNU.sparse.numblocks=1\nGNU.sparse.map=1000000,0\nGNU.sparse.name=none\n" },
        { "d", .data = "at the end", // across blocks, with attributes
          .pax = "GNU.sparse.size=8193\nGNU.sparse.numblocks=1\nGNU.sparse.map=8183,10\nGNU.sparse.name=end\nSCHILY.xattr.user.a=b\n" },
        { "e", .data = "farfarther", // larger chunks
          .pax = "GNU.sparse.size=1099511627777\nGNU.sparse.numblocks=2\nGNU.sparse.map=5000000000,3,1099511627770,7\nGNU.sparse.name=huge\n" },
        { .name = NULL },
    };
    check(entries, true);
}

static void test_names_are_bytes(void **state)
{
    static const struct tar_entry entries[] = {
        { "short-e\xcc\x81", .data = "1" },
        { "x", .data = "2", .pax = "path=long-e\xcc\x81\n" },
        { "x", .data = "3", .pax = "path=bad-\xff\xfe\n" },
        { "x", .type = '2', .pax = "path=link\nlinkpath=to-e\xcc\x81\n" },
        { "x", .type = '1', .pax = "path=hard\nlinkpath=long-e\xcc\x81\n" },
        { "!a", .data = "before the dots" },
        { .name = NULL },
    };
    check(entries, true);
}

static void test_links_lead_inside(void **state)
{
    static const struct tar_entry entries[] = {
        { "/abs", .data = "1" },
        { "//a/./b/../c", .data = "2" },
        { "link", .type = '2', .link = "/nowhere/else" },
        { "link/evil", .data = "3" },
        { "up", .type = '2', .link = "../../../../../../../.." },
        { "up/tmp/x", .data = "4" },
        { "round", .type = '2', .link = "missing/../there" },
        { "round/y", .data = "5" },
        { "in/abs", .type = '2', .link = "/other" }, // from the root, wherever it stands
        { "in/abs/w", .data = "7" },
        { "in/rel", .type = '2', .link = "other" },
        { "in/rel/w", .data = "8" },
        { "two", .type = '2', .link = "link" },
        { "two/z", .data = "6" },
        { .name = NULL },
    };
    check(entries, false);
}

static void test_later_entries_win(void **state)
{
    static const struct tar_entry entries[] = {
        { "f", .data = "old" },
        { "f", .data = "new" },
        { "keep", .type = '5', .mode = 0700 },
        { "keep/x", .data = "x" },
        { "keep", .type = '5', .mode = 0750, .mtime = 77 },
        { "dir", .type = '5' },
        { "dir/deep/er", .data = "x" },
        { "away", .type = '1', .link = "dir/deep/er" }, // outlives its folder
        { "dir", .data = "file now" },
        { "file", .data = "x" },
        { "file", .type = '5' },
        { "file/in", .data = "y" },
        { "link", .type = '2', .link = "f" },
        { "link", .data = "own" },
        { "self", .data = "s" },
        { "self", .type = '1', .link = "self" },
        { "hard", .data = "gone" },
        { "hard", .type = '1', .link = "f" },
        { "folder", .type = '5' },
        { "folder", .type = '2', .link = "keep" },
        { "folder/y", .data = "through" },
        { "three", .type = '1', .link = "f" },
        { "f", .data = "newest" }, // the other two names keep the older one
        { "./", .type = '5', .mode = 0700, .uid = 9 },
        { .name = NULL },
    };
    check(entries, false);
}

static void test_whiteouts(void **state)
{
    static const struct tar_entry entries[] = {
        { "etc/.wh.gone", .data = "" },
        { .name = "opaque/.wh..wh..opq" },
        { "opaque/new", .data = "n" },
        { ".wh..wh.plnk/1.2", .data = "aufs" },
        { "a/.wh..wh.aufs", .data = "aufs" },
        { "here", .data = "stays" },
        { .name = ".wh.here" },
        { .name = ".wh.replaced" },
        { "replaced", .type = '5' },
        { "replaced/x", .data = "x" },
        { "before", .type = '5', .pax = "SCHILY.xattr.user.too=2\n" },
        { .name = ".wh.before" },
        { .name = "was/.wh..wh..opq" },
        { "was", .data = "a file now" },
        { .name = "opaque/.wh..wh..opq" },
        { .name = ".wh.hidden" },
        { "link", .type = '1', .link = "hidden" },
        { .name = ".wh..wh..opq" },
        { .name = NULL },
    };
    check(entries, false);
}

static void test_rootless_mark(void **state)
{
    static const struct tar_entry entries[] = { { .name = "d/.wh..wh..opq" }, { .name = NULL } };
    _cleanup_buf_ struct buf tar = BUF_INIT(TAR_MAX);
    struct layer_image image;
    struct tree_text text = { .out = BUF_INIT(TREE_TEXT_MAX) };
    make_tar(&tar, entries);
    image_open(&image);
    assert_int_equal(image_write(&image, tar.data, tar.size, 0, &(struct layer_erofs_options){ .user_xattrs = true }), 0);
    image_text(&image, &text);
    assert_non_null(strstr(buf_text(&text.out), "d 40755 0:0 2 user.overlay.opaque=79\n"));
    assert_null(strstr(buf_text(&text.out), "trusted"));
    tree_text_done(&text);
    image_close(&image);
}

static void test_refused(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(refused_cases); i++) {
        _cleanup_buf_ struct buf tar = BUF_INIT(TAR_MAX);
        struct tar_entry entries[4] = { refused_cases[i].entries[0], refused_cases[i].entries[1], { 0 } };
        struct layer_image image;
        make_tar(&tar, entries);
        image_open(&image);
        assert_int_equal(image_write(&image, tar.data, tar.size, 1000, &ordinary), -1);
        if (!strstr(image.err.message, refused_cases[i].message))
            fail_msg("case %zu: \"%s\" has no \"%s\"", i, image.err.message, refused_cases[i].message);
        image_close(&image);
    }
}

// What a kernel would not take and a format could not say.
static void test_refused_here(void **state)
{
    _cleanup_buf_ struct buf value = BUF_INIT(TAR_MAX), values = BUF_INIT(TAR_MAX);
    for (int i = 0; i < 65536; i++)
        buf_addc(&value, 'v');
    _cleanup_free_ char *large = mem_printf("SCHILY.xattr.user.large=%s\n", buf_text(&value));
    for (int i = 0; i < 5; i++)
        buf_addf(&values, "SCHILY.xattr.user.n%d=%s\n", i, buf_text(&value) + 1);
    const struct {
        struct tar_entry entry;
        enum err_class class;
        const char *message;
    } cases[] = {
        { { "x", .pax = large }, ERR_INVALID_ARGUMENT, "layer entry x: extended attribute user.large" },
        { { "x", .pax = buf_text(&values) }, ERR_INVALID_ARGUMENT, "layer entry x: extended attributes are too large" },
        { { "x", .type = '3', .major = 4096 }, ERR_INVALID_ARGUMENT, "layer entry x: device number is out of range" },
        { { "x", .data = "1",
            .pax = "GNU.sparse.size=17592186040321\nGNU.sparse.numblocks=1\nGNU.sparse.map=0,1\nGNU.sparse.name=y\n" },
          ERR_RESOURCE_EXHAUSTED, "layer entry y: file of 17592186040321 bytes is too large" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_buf_ struct buf tar = BUF_INIT(TAR_MAX);
        struct tar_entry entries[2] = { cases[i].entry, { 0 } };
        struct layer_image image;
        make_tar(&tar, entries);
        image_open(&image);
        if (image_write(&image, tar.data, tar.size, 0, &ordinary) == 0)
            fail_msg("case %zu was taken", i);
        if (!strstr(image.err.message, cases[i].message) || image.err.class != cases[i].class)
            fail_msg("case %zu: \"%s\" has no \"%s\"", i, image.err.message, cases[i].message);
        image_close(&image);
    }
}

// Endless zeros: one file's content, or behind the archive's end.
struct bomb {
    struct memory start;
    uint64_t left;
};

static ssize_t bomb_read(void *context, void *data, size_t size, struct err *err)
{
    struct bomb *bomb = context;
    ssize_t got = memory_read(&bomb->start, data, size, err);
    if (got != 0)
        return got;
    size = (size_t)MIN_OF((uint64_t)size, bomb->left);
    memset(data, 0, size);
    bomb->left -= size;
    return (ssize_t)size;
}

static void test_bombs_meet_the_bound(void **state)
{
    const struct layer_erofs_options options = { .size_max = 64 << 20 };
    for (int behind = 0; behind < 2; behind++) {
        _cleanup_buf_ struct buf tar = BUF_INIT(TAR_MAX);
        struct layer_image image;
        if (!behind)
            tar_header(&tar, &(struct tar_entry){ .name = "big" }, '0', (size_t)7 << 30);
        else
            tar_end(&tar);
        struct bomb bomb = { { .data = tar.data, .size = tar.size }, (uint64_t)7 << 30 };
        image_open(&image);
        assert_int_equal(layer_erofs_write(bomb_read, &bomb, image.image_fd, image.recipe_fd, &options, &image.result, &image.err), -1);
        assert_int_equal(image.err.class, ERR_RESOURCE_EXHAUSTED);
        if (!strstr(image.err.message, "layer needs more than 64 MiB"))
            fail_msg("%s", image.err.message);
        assert_true(bomb.left > (uint64_t)6 << 30);
        image_close(&image);
    }
}

// Whatever stands behind the end comes back, too; so does a tar that is nothing but its end, or nothing at all.
static void test_all_bytes_come_back(void **state)
{
    _cleanup_buf_ struct buf tar = BUF_INIT(TAR_MAX);
    assert_same_layer("", 0, true, &ordinary);
    tar_end(&tar);
    assert_same_layer(tar.data, tar.size, true, &ordinary);
    tar_add(&tar, &(struct tar_entry){ "hidden behind the end", .data = "x" });
    tar_add(&tar, &(struct tar_entry){ "h", .type = '1', .link = "y", .data = "a link with content" });
    buf_adds(&tar, "what stands behind the end belongs to the digest, too");
    assert_same_layer(tar.data, tar.size, true, &ordinary);
    buf_clear(&tar);
    tar_add(&tar, &(struct tar_entry){ "f", .data = "x" });
    tar_add(&tar, &(struct tar_entry){ .name = ".wh.g", .data = "content that nobody sees" });
    tar_add(&tar, &(struct tar_entry){ "h", .type = '1', .link = "f", .data = "a link with content", .pax = "comment=x\n" });
    tar_end(&tar);
    assert_same_layer(tar.data, tar.size, true, &ordinary);
}

static void test_damaged(void **state)
{
    _cleanup_buf_ struct buf tar = BUF_INIT(TAR_MAX);
    static char data[3000];
    memset(data, 'd', sizeof(data));
    tar_add(&tar, &(struct tar_entry){ "f", .data = data, .size = sizeof(data) });
    for (size_t size = 1; size < 512 + sizeof(data); size += 97) {
        struct layer_image image;
        image_open(&image);
        if (image_write(&image, tar.data, size, 0, &ordinary) == 0)
            fail_msg("a tar cut at %zu was taken", size);
        assert_int_equal(image.err.class, ERR_INVALID_ARGUMENT);
        image_close(&image);
    }
}

// Any byte of a recipe changed, or its end missing: an error, unless the tar is the same without that byte.
static void test_damaged_recipe(void **state)
{
    _cleanup_buf_ struct buf tar = BUF_INIT(TAR_MAX), text = BUF_INIT(TAR_MAX);
    struct layer_image image;
    make_tar(&tar, (const struct tar_entry[]){ { "a", .data = "1" }, { "b", .data = "22" }, { .name = NULL } });
    image_open(&image);
    assert_int_equal(image_write(&image, tar.data, tar.size, 0, &ordinary), 0);
    assert_int_equal(file_read_at(image.scratch.fd, "recipe", &text, &image.err), 0);
    for (size_t i = 0; i < 2 * text.size; i++) {
        struct layer_recipe *recipe;
        char back[8192];
        size_t got = 0;
        ssize_t more = -1;
        if (i < text.size) {
            char changed = (char)(text.data[i] ^ 0x55);
            assert_int_equal(pwrite(image.recipe_fd, &changed, 1, (off_t)i), 1);
        } else {
            assert_int_equal(ftruncate(image.recipe_fd, (off_t)(i - text.size)), 0);
        }
        if (layer_recipe_open(image.recipe_fd, image.image_fd, &recipe, &image.err) == 0) {
            while ((more = layer_recipe_read(recipe, back + got, sizeof(back) - got, &image.err)) > 0)
                got += (size_t)more;
            layer_recipe_free(recipe);
        }
        if (more == 0 && (i >= text.size || got != tar.size || memcmp(back, tar.data, got) != 0))
            fail_msg("change %zu of %zu is not found", i, text.size);
        assert_int_equal(pwrite(image.recipe_fd, text.data, text.size, 0), text.size);
    }
    image_close(&image);
}

static ssize_t broken_read(void *context, void *data, size_t size, struct err *err)
{
    return err_set(err, ERR_UNAVAILABLE, "the line is dead");
}

static void test_reader_error_comes_through(void **state)
{
    struct layer_image image;
    image_open(&image);
    assert_int_equal(layer_erofs_write(broken_read, NULL, image.image_fd, image.recipe_fd, &ordinary, &image.result, &image.err), -1);
    assert_int_equal(image.err.class, ERR_UNAVAILABLE);
    assert_string_equal(image.err.message, "the line is dead");
    image_close(&image);
}

static void test_depends_on_the_tar_alone(void **state)
{
    _cleanup_buf_ struct buf tar = BUF_INIT(TAR_MAX), first = BUF_INIT(TAR_MAX), second = BUF_INIT(TAR_MAX);
    static const struct tar_entry entries[] = { { "a/b", .data = "1", .mtime = 5 }, { .name = ".wh.c" }, { .name = NULL } };
    make_tar(&tar, entries);
    for (int i = 0; i < 2; i++) {
        struct layer_image image;
        image_open(&image);
        assert_int_equal(image_write(&image, tar.data, tar.size, i ? 1 : 0, &ordinary), 0);
        assert_int_equal(file_read_at(image.scratch.fd, "image", i ? &second : &first, &image.err), 0);
        assert_int_equal(file_read_at(image.scratch.fd, "recipe", i ? &second : &first, &image.err), 0);
        image_close(&image);
    }
    assert_int_equal(first.size, second.size);
    assert_memory_equal(first.data, second.data, first.size);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds_and_attributes),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_attributes_repeat),
        cmocka_unit_test(test_many_attributes),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_large_folder),
        cmocka_unit_test(test_sparse),
        cmocka_unit_test(test_names_are_bytes),
        cmocka_unit_test(test_links_lead_inside),
        cmocka_unit_test(test_later_entries_win),
        cmocka_unit_test(test_whiteouts),
        cmocka_unit_test(test_rootless_mark),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_refused_here),
        cmocka_unit_test(test_bombs_meet_the_bound),
        cmocka_unit_test(test_all_bytes_come_back),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_damaged_recipe),
        cmocka_unit_test(test_reader_error_comes_through),
        cmocka_unit_test(test_depends_on_the_tar_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
