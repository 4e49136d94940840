#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "refused.h"
#include "tar_maker.h"

static int unpack(struct scratch *scratch, const struct buf *tar, struct layer_result *out, struct err *err)
{
    struct memory memory = { .data = tar->data, .size = tar->size, .step = 1000 };
    return layer_unpack(memory_read, &memory, NULL, scratch->fd, NULL, out, err);
}

static struct stat stat_of(const struct scratch *scratch, const char *path)
{
    struct stat st;
    if (fstatat(scratch->fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
        fail_msg("%s: %s", path, strerror(errno));
    return st;
}

static bool is_there(const struct scratch *scratch, const char *path)
{
    struct stat st;
    return fstatat(scratch->fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void assert_content(const struct scratch *scratch, const char *path, const char *expected)
{
    _cleanup_buf_ struct buf text = BUF_INIT(4096);
    struct err err;
    if (file_read_at(scratch->fd, path, &text, &err) < 0)
        fail_msg("%s", err.message);
    assert_string_equal(buf_text(&text), expected);
}

static bool is_whiteout(const struct scratch *scratch, const char *path)
{
    struct stat st = stat_of(scratch, path);
    return S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0);
}

// Unpacks entries up to one without a name.
static int unpack_entries(struct scratch *scratch, const struct tar_entry *entries, struct layer_result *out,
                          struct err *err)
{
    _cleanup_buf_ struct buf tar = BUF_INIT(TAR_MAX);
    for (; entries->name; entries++)
        tar_add(&tar, entries);
    tar_end(&tar);
    return unpack(scratch, &tar, out, err);
}

static void must_unpack(struct scratch *scratch, const struct tar_entry *entries, struct layer_result *out)
{
    struct err err;
    scratch_open(scratch);
    *out = (struct layer_result){ 0 };
    if (unpack_entries(scratch, entries, out, &err) < 0)
        fail_msg("%s", err.message);
}

static void finish(struct scratch *scratch, struct layer_result *out)
{
    layer_result_done(out);
    scratch_close(scratch);
}

static void test_kinds_and_attributes(void **state)
{
    static const struct tar_entry entries[] = {
        { "dir", .type = '5', .mode = 01777, .uid = 5, .gid = 6, .mtime = 1000000 },
        { "dir/file", .mode = 04755, .uid = 7, .gid = 8, .mtime = 2000000, .data = "hello",
          .pax = "mtime=2000000.123456789\nSCHILY.xattr.user.note=text\nSCHILY.xattr.trusted.overlay.opaque=y\n"
                 "SCHILY.xattr.user.overlay.opaque=y\nSCHILY.xattr.security.selinux=x\n" },
        { "dir/hard", .type = '1', .link = "dir/file" },
        { "dir/soft", .type = '2', .link = "../../etc/passwd", .uid = 9, .mtime = 3000000 },
        { "soft2", .type = '1', .link = "dir/soft" },
        { "fifo", .type = '6', .mode = 0600 },
        { "block", .type = '4', .major = 7, .minor = 300, .mode = 0640 },
        { "made/by/parents", .data = "x" },
        { "big", .uid = 0, .pax = "uid=3000000\ngid=3000001\nmtime=-5.5\n" },
        { .name = NULL },
    };
    struct scratch scratch;
    struct layer_result out;
    char value[16];
    must_unpack(&scratch, entries, &out);
    struct stat st = stat_of(&scratch, "dir");
    assert_int_equal(st.st_mode, S_IFDIR | 01777);
    assert_int_equal(st.st_uid, 5);
    assert_int_equal(st.st_mtime, 1000000); // although files came into it later
    st = stat_of(&scratch, "dir/file");
    assert_int_equal(st.st_mode, S_IFREG | 04755);
    assert_int_equal(st.st_gid, 8);
    assert_int_equal(st.st_nlink, 2);
    assert_int_equal(st.st_mtim.tv_nsec, 123456789);
    assert_content(&scratch, "dir/hard", "hello");
    char path[128];
    snprintf(path, sizeof(path), "%s/dir/file", scratch.path);
    assert_int_equal(getxattr(path, "user.note", value, sizeof(value)), 4);
    assert_int_equal(listxattr(path, NULL, 0), sizeof("user.note")); // and none of the others
    st = stat_of(&scratch, "dir/soft");
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(st.st_uid, 9);
    assert_int_equal(st.st_nlink, 2); // a hard link to a symlink links the symlink
    assert_true(S_ISFIFO(stat_of(&scratch, "fifo").st_mode));
    st = stat_of(&scratch, "block");
    assert_int_equal(st.st_mode, S_IFBLK | 0640);
    assert_int_equal(st.st_rdev, makedev(7, 300));
    assert_int_equal(stat_of(&scratch, "made/by").st_mode, S_IFDIR | 0755);
    st = stat_of(&scratch, "big");
    assert_int_equal(st.st_uid, 3000000);
    assert_true(st.st_mtime < 0);
    assert_int_equal(out.size, 6 + strlen("../../etc/passwd"));
    assert_int_equal(out.opaque.len, 0);
    finish(&scratch, &out);
}

static void test_capability_survives_owner(void **state)
{
    static const unsigned char value[20] = { 1, 0, 0, 2, 0, 4 };
    struct scratch scratch;
    struct layer_result out;
    struct err err;
    _cleanup_buf_ struct buf tar = BUF_INIT(TAR_MAX), record = BUF_INIT(1024);
    const char key[] = "SCHILY.xattr.security.capability=";
    size_t len = 3 + strlen(key) + sizeof(value) + 1;
    buf_addf(&record, "%zu %s", len, key);
    buf_add(&record, value, sizeof(value));
    buf_addc(&record, '\n');
    assert_int_equal(record.size, len);
    tar_header(&tar, &(struct tar_entry){ .name = "pax" }, 'x', record.size);
    buf_add(&tar, record.data, record.size);
    tar_pad(&tar);
    tar_add(&tar, &(struct tar_entry){ "ping", .mode = 0755, .uid = 1, .gid = 1, .data = "x" });
    tar_end(&tar);
    scratch_open(&scratch);
    if (unpack(&scratch, &tar, &out, &err) < 0)
        fail_msg("%s", err.message);
    char path[128], found[64];
    snprintf(path, sizeof(path), "%s/ping", scratch.path);
    assert_int_equal(getxattr(path, "security.capability", found, sizeof(found)), sizeof(value));
    assert_memory_equal(found, value, sizeof(value));
    finish(&scratch, &out);
}

static void test_sparse(void **state)
{
    static const struct tar_entry entries[] = {
        { "sparse", .data = "startend.", .size = 9,
          .pax = "GNU.sparse.size=10000000\nGNU.sparse.numblocks=2\nGNU.sparse.map=0,5,5000000,4\nGNU.sparse.name=holes\n" },
        { .name = NULL },
    };
    struct scratch scratch;
    struct layer_result out;
    must_unpack(&scratch, entries, &out);
    struct stat st = stat_of(&scratch, "holes");
    assert_int_equal(st.st_size, 10000000);
    assert_true(st.st_blocks < 100);
    char end[5] = { 0 };
    int fd = openat(scratch.fd, "holes", O_RDONLY | O_CLOEXEC);
    assert_int_equal(pread(fd, end, 4, 5000000), 4);
    assert_string_equal(end, "end.");
    close(fd);
    finish(&scratch, &out);
}

static void test_names_are_bytes(void **state)
{
    // Decomposed and broken UTF-8, in ustar and pax headers.
    static const struct tar_entry entries[] = {
        { "short-e\xcc\x81", .data = "1" },
        { "x", .data = "2", .pax = "path=long-e\xcc\x81\n" },
        { "x", .data = "3", .pax = "path=bad-\xff\xfe\n" },
        { "x", .type = '2', .pax = "path=link\nlinkpath=to-e\xcc\x81\n" },
        { "x", .type = '1', .pax = "path=hard\nlinkpath=long-e\xcc\x81\n" },
        { .name = NULL },
    };
    struct scratch scratch;
    struct layer_result out;
    char target[32] = { 0 };
    must_unpack(&scratch, entries, &out);
    assert_content(&scratch, "short-e\xcc\x81", "1");
    assert_content(&scratch, "long-e\xcc\x81", "2");
    assert_content(&scratch, "bad-\xff\xfe", "3");
    assert_content(&scratch, "hard", "2");
    assert_true(readlinkat(scratch.fd, "link", target, sizeof(target) - 1) > 0);
    assert_string_equal(target, "to-e\xcc\x81");
    finish(&scratch, &out);
}

// Nothing appears beside the layer.
static void test_refused(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(refused_cases); i++) {
        struct scratch outer, inner;
        struct layer_result out;
        struct err err;
        scratch_open(&outer);
        mkdirat(outer.fd, "layer", 0755);
        inner.fd = openat(outer.fd, "layer", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        struct tar_entry entries[4] = { refused_cases[i].entries[0], refused_cases[i].entries[1], { 0 } };
        assert_int_equal(unpack_entries(&inner, entries, &out, &err), -1);
        if (!strstr(err.message, refused_cases[i].message))
            fail_msg("case %zu: \"%s\" has no \"%s\"", i, err.message, refused_cases[i].message);
        close(inner.fd);
        assert_int_equal(unlinkat(outer.fd, "layer", AT_REMOVEDIR) < 0 ? errno == ENOTEMPTY : 1, 1);
        assert_false(is_there(&outer, "out"));
        scratch_close(&outer);
    }
}

// Links out of the layer resolve inside of it, wherever they point.
static void test_links_lead_inside(void **state)
{
    struct scratch outside, scratch;
    struct layer_result out;
    scratch_open(&outside);
    struct tar_entry entries[] = {
        { "/abs", .data = "1" },
        { "//a/./b/../c", .data = "2" },
        { "link", .type = '2', .link = outside.path },
        { "link/evil", .data = "3" },
        { "up", .type = '2', .link = "../../../../../../../.." },
        { "up/tmp/x", .data = "4" },
        { .name = NULL },
    };
    must_unpack(&scratch, entries, &out);
    assert_content(&scratch, "abs", "1");
    assert_content(&scratch, "a/c", "2");
    char inside[128];
    snprintf(inside, sizeof(inside), "%s/evil", outside.path + 1);
    assert_content(&scratch, inside, "3");
    assert_false(is_there(&outside, "evil"));
    assert_content(&scratch, "tmp/x", "4");
    finish(&scratch, &out);
    scratch_close(&outside);
}

static void test_links_to_themselves(void **state)
{
    // An absolute link whose own name is the first component: no way out of the loop, and none out of the layer.
    static const struct tar_entry entries[] = {
        { "etc", .type = '2', .link = "/etc" },
        { "etc/passwd", .data = "5" },
        { .name = NULL },
    };
    struct scratch scratch;
    struct layer_result out;
    struct err err;
    scratch_open(&scratch);
    assert_int_equal(unpack_entries(&scratch, entries, &out, &err), -1);
    assert_non_null(strstr(err.message, "layer entry etc/passwd"));
    scratch_close(&scratch);
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
        { "./", .type = '5', .mode = 0700, .uid = 9 },
        { .name = NULL },
    };
    struct scratch scratch;
    struct layer_result out;
    must_unpack(&scratch, entries, &out);
    assert_content(&scratch, "f", "new");
    assert_content(&scratch, "keep/x", "x");
    assert_int_equal(stat_of(&scratch, "keep").st_mode, S_IFDIR | 0750);
    assert_int_equal(stat_of(&scratch, "keep").st_mtime, 77);
    assert_content(&scratch, "dir", "file now");
    assert_content(&scratch, "file/in", "y");
    assert_content(&scratch, "link", "own");
    assert_content(&scratch, "self", "s");
    assert_content(&scratch, "hard", "new");
    assert_content(&scratch, "keep/y", "through");
    assert_int_equal(fchownat(scratch.fd, ".", (uid_t)-1, (gid_t)-1, 0), 0);
    assert_int_equal(stat_of(&scratch, ".").st_uid, 0);
    finish(&scratch, &out);
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
        { "before", .type = '5' },
        { .name = ".wh.before" },
        { .name = "was/.wh..wh..opq" },
        { "was", .data = "a file now" },
        { .name = "opaque/.wh..wh..opq" },
        { .name = NULL },
    };
    static const char *const opaque[] = { "before", "opaque", "replaced" };
    struct scratch scratch;
    struct layer_result out;
    must_unpack(&scratch, entries, &out);
    assert_true(is_whiteout(&scratch, "etc/gone"));
    assert_content(&scratch, "opaque/new", "n");
    assert_content(&scratch, "here", "stays");
    assert_content(&scratch, "replaced/x", "x");
    assert_false(is_there(&scratch, ".wh..wh.plnk"));
    assert_false(is_there(&scratch, "a/.wh..wh.aufs"));
    assert_false(is_there(&scratch, "opaque/.wh..wh..opq"));
    assert_int_equal(out.opaque.len, ARRAY_LEN(opaque));
    for (size_t i = 0; i < ARRAY_LEN(opaque); i++)
        assert_string_equal(out.opaque.items[i], opaque[i]);
    finish(&scratch, &out);
}

static void test_opaque_root(void **state)
{
    static const struct tar_entry entries[] = { { .name = ".wh..wh..opq" }, { .name = NULL } };
    struct scratch scratch;
    struct layer_result out;
    must_unpack(&scratch, entries, &out);
    assert_int_equal(out.opaque.len, 1);
    assert_string_equal(out.opaque.items[0], ".");
    finish(&scratch, &out);
}

static void test_digest_covers_padding(void **state)
{
    struct scratch scratch;
    struct layer_result out = { 0 };
    struct err err;
    _cleanup_buf_ struct buf tar = BUF_INIT(TAR_MAX);
    char expected[72];
    tar_add(&tar, &(struct tar_entry){ "f", .data = "x" });
    tar_end(&tar);
    tar_end(&tar);
    buf_adds(&tar, "what stands behind the end belongs to the digest, too");
    scratch_open(&scratch);
    assert_int_equal(unpack(&scratch, &tar, &out, &err), 0);
    struct layer_digest *digest = layer_digest_new();
    layer_digest_add(digest, tar.data, tar.size);
    layer_digest_end(digest, expected);
    assert_string_equal(out.diff_id, expected);
    finish(&scratch, &out);
}

// A tar cut anywhere never succeeds with half a file; garbage is no tar.
static void test_damaged(void **state)
{
    _cleanup_buf_ struct buf tar = BUF_INIT(TAR_MAX);
    static char data[3000];
    memset(data, 'd', sizeof(data));
    tar_add(&tar, &(struct tar_entry){ "f", .data = data, .size = sizeof(data) });
    for (size_t size = 1; size < 512 + sizeof(data); size += 97) {
        struct scratch scratch;
        struct layer_result out;
        struct err err;
        struct memory memory = { .data = tar.data, .size = size };
        scratch_open(&scratch);
        if (layer_unpack(memory_read, &memory, NULL, scratch.fd, NULL, &out, &err) == 0)
            fail_msg("a tar cut at %zu was taken", size);
        assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
        scratch_close(&scratch);
    }
    static const char *const garbage[] = { "x", "hello, this is no tar", "PK\003\004", "!<arch>\n" };
    for (size_t i = 0; i < ARRAY_LEN(garbage); i++) {
        struct scratch scratch;
        struct layer_result out;
        struct err err;
        struct memory memory = { .data = garbage[i], .size = strlen(garbage[i]) };
        scratch_open(&scratch);
        assert_int_equal(layer_unpack(memory_read, &memory, NULL, scratch.fd, NULL, &out, &err), -1);
        assert_non_null(strstr(err.message, "not a valid tar archive"));
        scratch_close(&scratch);
    }
}

static ssize_t broken_read(void *context, void *data, size_t size, struct err *err)
{
    return err_set(err, ERR_UNAVAILABLE, "the line is dead");
}

static void test_reader_error_comes_through(void **state)
{
    struct scratch scratch;
    struct layer_result out;
    struct err err;
    scratch_open(&scratch);
    assert_int_equal(layer_unpack(broken_read, NULL, NULL, scratch.fd, NULL, &out, &err), -1);
    assert_int_equal(err.class, ERR_UNAVAILABLE);
    assert_string_equal(err.message, "the line is dead");
    scratch_close(&scratch);
}

static void test_clean_name(void **state)
{
    static const struct {
        const char *raw, *clean; // NULL: refused
    } cases[] = {
        { "a", "a" },          { "/a//b/", "a/b" },   { "./a/./b", "a/b" }, { "", "" },        { "/", "" },
        { ".", "" },           { "a/..", "" },        { "a/b/../c", "a/c" }, { "a/../b", "b" }, { "...", "..." },
        { "..a/b..", "..a/b.." }, { "..", NULL },     { "a/../..", NULL },  { "/..", NULL },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char clean[PATH_MAX];
        int done = layer_clean_name(cases[i].raw, clean, NULL);
        assert_int_equal(done, cases[i].clean ? 0 : -1);
        if (cases[i].clean)
            assert_string_equal(clean, cases[i].clean);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds_and_attributes),
        cmocka_unit_test(test_capability_survives_owner),
        cmocka_unit_test(test_sparse),
        cmocka_unit_test(test_names_are_bytes),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_links_lead_inside),
        cmocka_unit_test(test_links_to_themselves),
        cmocka_unit_test(test_later_entries_win),
        cmocka_unit_test(test_whiteouts),
        cmocka_unit_test(test_opaque_root),
        cmocka_unit_test(test_digest_covers_padding),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_reader_error_comes_through),
        cmocka_unit_test(test_clean_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
