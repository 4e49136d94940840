// What COPY and ADD make of a tree, as a layer's tar: names are real, folders on the way say what they are, and a digest knows no time.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "archive/archive.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/strv.h"
#include "build/ignore.h"

struct box {
    char path[32];
    int top_fd, root_fd, source_fd;
    struct err err;
};

static int setup(void **state)
{
    struct box *box = mem_new(struct box);
    snprintf(box->path, sizeof(box->path), "/tmp/berth-archive-XXXXXX");
    assert_non_null(mkdtemp(box->path));
    box->top_fd = file_open_dir(AT_FDCWD, box->path, NULL);
    assert_int_equal(mkdirat(box->top_fd, "root", 0755) | mkdirat(box->top_fd, "source", 0755), 0);
    box->root_fd = file_open_dir(box->top_fd, "root", NULL);
    box->source_fd = file_open_dir(box->top_fd, "source", NULL);
    *state = box;
    return 0;
}

static int teardown(void **state)
{
    struct box *box = *state;
    fd_close(box->root_fd);
    fd_close(box->source_fd);
    fd_close(box->top_fd);
    file_remove_tree(AT_FDCWD, box->path, NULL);
    free(box);
    return 0;
}

static void make_file(int dir_fd, const char *name, const char *text)
{
    assert_int_equal(file_write_at(dir_fd, name, text, strlen(text), 0640, false, NULL), 0);
}

// "name mode uid" of each entry, a line each.
static char *entries_of(int fd)
{
    struct buf out = BUF_INIT(1 << 20);
    char head[512];
    off_t at = 0;
    while (pread(fd, head, sizeof(head), at) == sizeof(head) && head[0]) {
        buf_addf(&out, "%s %03lo %lu\n", head, strtoul(head + 100, NULL, 8), strtoul(head + 108, NULL, 8));
        at += 512 + (off_t)(strtoul(head + 124, NULL, 8) + 511) / 512 * 512;
    }
    return buf_take(&out);
}

static int place(struct box *box, const char *path, struct archive_place wish, char **entries)
{
    const struct archive_source source = { .fd = box->source_fd, .path = path };
    int fd = memfd_create("tar", MFD_CLOEXEC);
    wish.sources = &source;
    wish.source_len = path != NULL;
    int done = archive_place(box->root_fd, &wish, fd, &box->err);
    *entries = entries_of(fd);
    close(fd);
    return done;
}

#define WISH(...) (struct archive_place){ .roots = true, .mode = -1, .time_max = -1, ##__VA_ARGS__ }

static void expect(struct box *box, const char *path, struct archive_place wish, const char *wanted)
{
    _cleanup_free_ char *entries = NULL;
    if (place(box, path, wish, &entries) < 0)
        fail_msg("%s", box->err.message);
    assert_string_equal(entries, wanted);
}

static void refuse(struct box *box, const char *path, struct archive_place wish, enum err_class class, const char *why)
{
    _cleanup_free_ char *entries = NULL;
    assert_int_equal(place(box, path, wish, &entries), -1);
    assert_int_equal(box->err.class, class);
    assert_non_null(strstr(box->err.message, why));
}

static void names_are_real(void **state)
{
    struct box *box = *state;
    make_file(box->source_fd, "f", "x");
    assert_int_equal(mkdirat(box->root_fd, "usr", 0711) | mkdirat(box->root_fd, "usr/lib", 0700) | symlinkat("usr/lib", box->root_fd, "lib"), 0);
    expect(box, "f", WISH(.target = "/lib"), "usr/ 711 0\nusr/lib/ 700 0\nusr/lib/f 640 0\n");
    expect(box, "f", WISH(.target = "/lib/new/g"), "usr/ 711 0\nusr/lib/ 700 0\nusr/lib/new/ 755 0\nusr/lib/new/g 640 0\n");
    struct archive_place private = WISH(.target = "/g");
    private.mode = 0600;
    expect(box, "f", private, "g 600 0\n");
}

static void folders_give_their_content(void **state)
{
    struct box *box = *state;
    assert_int_equal(mkdirat(box->source_fd, "d", 0751) | mkdirat(box->source_fd, "d/sub", 0750), 0);
    make_file(box->source_fd, "d/sub/f", "x");
    expect(box, "d", WISH(.target = "/new"), "new/ 755 0\nnew/sub/ 750 0\nnew/sub/f 640 0\n");
    assert_int_equal(mkdirat(box->root_fd, "new", 0755) | fchmodat(box->root_fd, "new", 01777, 0), 0);
    expect(box, "d/", WISH(.target = "/new"), "new/ 1777 0\nnew/sub/ 750 0\nnew/sub/f 640 0\n");
    expect(box, "/d/s*", WISH(.target = "/"), "f 640 0\n");
}

static void what_stands_in_the_way_is_told(void **state)
{
    struct box *box = *state;
    assert_int_equal(mkdirat(box->source_fd, "d", 0755) | mkdirat(box->source_fd, "d/lib", 0755) | mkdirat(box->root_fd, "etc", 0755) |
                         symlinkat("etc", box->root_fd, "lib"),
                     0);
    make_file(box->source_fd, "etc", "x");
    make_file(box->source_fd, ".wh.gone", "");
    make_file(box->root_fd, "file", "x");
    refuse(box, "d", WISH(.target = "/"), ERR_INVALID_ARGUMENT, "cannot copy to non-directory: /lib");
    refuse(box, "etc", WISH(.target = "/", .folder = true), ERR_INVALID_ARGUMENT, "cannot overwrite directory \"/etc\"");
    refuse(box, "d", WISH(.target = "/file"), ERR_INVALID_ARGUMENT, "cannot copy to non-directory: /file");
    refuse(box, "etc", WISH(.target = "/file/x"), ERR_INVALID_ARGUMENT, "cannot copy to non-directory: /file");
    refuse(box, ".wh.gone", WISH(.target = "/", .folder = true), ERR_INVALID_ARGUMENT, ".wh.");
    refuse(box, "nothing", WISH(.target = "/x"), ERR_NOT_FOUND, "nothing");
    refuse(box, "*.none", WISH(.target = "/x"), ERR_INVALID_ARGUMENT, "no source files");
    refuse(box, "etc", WISH(.target = "/x", .owner = "nobody-here"), ERR_NOT_FOUND, "nobody-here");
}

static void sources_stay_in_their_tree(void **state)
{
    struct box *box = *state;
    make_file(box->top_fd, "secret", "x");
    assert_int_equal(symlinkat("../secret", box->source_fd, "up") | symlinkat("/secret", box->source_fd, "top"), 0);
    refuse(box, "up", WISH(.target = "/x"), ERR_NOT_FOUND, "o such file");
    refuse(box, "top", WISH(.target = "/x"), ERR_NOT_FOUND, "o such file");
    refuse(box, "../secret", WISH(.target = "/x"), ERR_NOT_FOUND, "o such file");
}

static void a_folder_alone_is_made_once(void **state)
{
    struct box *box = *state;
    expect(box, NULL, WISH(.target = "/a/b", .folder = true), "a/ 755 0\na/b/ 755 0\n");
    assert_int_equal(mkdirat(box->root_fd, "a", 0700) | mkdirat(box->root_fd, "a/b", 0700), 0);
    expect(box, NULL, WISH(.target = "/a/b", .folder = true), "");
}

// ---- parts of folders -----------------------------------------------------------------------------------------------

static struct ignore *patterns(struct arena *arena, const char *words)
{
    struct strv list = { 0 };
    struct slice rest = slice_of(words), word;
    struct ignore *out;
    while (slice_cut(&rest, ' ', &word))
        strv_push_arena(&list, arena, arena_strndup(arena, word.data, word.size));
    assert_int_equal(ignore_new(&list, arena, &out, NULL), 0);
    return out;
}

static void make_tree(struct box *box)
{
    static const char *const folders[] = { "a", "a/b", "a/b/c", "a/empty", "d" };
    static const char *const files[] = { "a/x.o", "a/x.txt", "a/b/y.o", "a/b/y.txt", "a/b/c/z.txt", "d/w.o", "top.o" };
    for (size_t i = 0; i < ARRAY_LEN(folders); i++)
        assert_int_equal(mkdirat(box->source_fd, folders[i], 0750), 0);
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        make_file(box->source_fd, files[i], "x");
}

static void what_is_excluded_is_left_out(void **state)
{
    struct box *box = *state;
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    make_tree(box);
    expect(box, "a", WISH(.target = "/t", .excludes = patterns(&arena, "**/*.o empty")),
           "t/ 755 0\nt/b/ 750 0\nt/b/c/ 750 0\nt/b/c/z.txt 640 0\nt/b/y.txt 640 0\nt/x.txt 640 0\n");
    expect(box, "a", WISH(.target = "/t", .excludes = patterns(&arena, "b x.* !b/c")), "t/ 755 0\nt/b/ 750 0\nt/b/c/ 750 0\nt/b/c/z.txt 640 0\nt/empty/ 750 0\n");
    expect(box, "a", WISH(.target = "/t", .excludes = patterns(&arena, "*")), "t/ 755 0\n");
    expect(box, "*.o", WISH(.target = "/t/", .folder = true, .excludes = patterns(&arena, "*.o")), "");
}

static void expect_parts(struct box *box, const char *path, const char *parts, const char *excludes, const char *wanted)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    const struct archive_source source = { .fd = box->source_fd, .path = path, .includes = patterns(&arena, parts) };
    const struct archive_place wish = WISH(.sources = &source, .source_len = 1, .target = "/t", .folder = true, .excludes = *excludes ? patterns(&arena, excludes) : NULL);
    int fd = memfd_create("tar", MFD_CLOEXEC);
    assert_int_equal(archive_place(box->root_fd, &wish, fd, &box->err), 0);
    _cleanup_free_ char *entries = entries_of(fd);
    close(fd);
    assert_string_equal(entries, wanted);
}

static void parts_keep_the_folders_above(void **state)
{
    struct box *box = *state;
    make_tree(box);
    expect_parts(box, "/", "a/b/y.txt", "", "t/ 755 0\nt/a/ 750 0\nt/a/b/ 750 0\nt/a/b/y.txt 640 0\n");
    expect_parts(box, "/", "**/*.o", "d", "t/ 755 0\nt/a/ 750 0\nt/a/b/ 750 0\nt/a/b/y.o 640 0\nt/a/x.o 640 0\nt/top.o 640 0\n");
    expect_parts(box, "/a", "b/c", "", "t/ 755 0\nt/b/ 750 0\nt/b/c/ 750 0\nt/b/c/z.txt 640 0\n");
    expect_parts(box, "/", "none/*", "", "t/ 755 0\n");
    assert_int_equal(mkdirat(box->root_fd, "t", 0700), 0);
    make_file(box->root_fd, "t/d", "a file where no folder has to go");
    expect_parts(box, "/", "a/x.txt", "", "t/ 700 0\nt/a/ 750 0\nt/a/x.txt 640 0\n");
}

static void a_part_that_must_be_there(void **state)
{
    struct box *box = *state;
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    const struct archive_source source = { .fd = box->source_fd, .path = "/", .includes = patterns(&arena, "a/none"), .required = "/a/none" };
    const struct archive_place wish = WISH(.sources = &source, .source_len = 1, .target = "/t", .folder = true);
    int fd = memfd_create("tar", MFD_CLOEXEC);
    make_tree(box);
    assert_int_equal(archive_place(box->root_fd, &wish, fd, &box->err), -1);
    close(fd);
    assert_int_equal(box->err.class, ERR_NOT_FOUND);
    assert_int_equal(box->err.number, ENOENT);
}

static void modes_change_by_what_they_are(void **state)
{
    struct box *box = *state;
    assert_int_equal(mkdirat(box->source_fd, "d", 0700), 0);
    make_file(box->source_fd, "d/f", "x");
    expect(box, "d", WISH(.target = "/t", .chmod = "go=u,a+X"), "t/ 755 0\nt/f 666 0\n");
}

static char *hash_input(struct box *box)
{
    const struct archive_source source = { .fd = box->source_fd, .path = "*" };
    const struct archive_place wish = WISH(.sources = &source, .source_len = 1, .target = "/");
    struct buf out = BUF_INIT(1 << 20);
    int fd = memfd_create("tar", MFD_CLOEXEC);
    assert_int_equal(archive_sources(&wish, NULL, NULL, fd, &box->err), 0);
    lseek(fd, 0, SEEK_SET);
    assert_int_equal(file_read_fd(fd, "tar", &out, NULL), 0);
    close(fd);
    for (size_t i = 0; i < out.size; i++) // as a text, to be compared
        out.data[i] = out.data[i] ? out.data[i] : '.';
    return buf_take(&out);
}

static void a_digest_knows_no_time(void **state)
{
    struct box *box = *state;
    const struct timespec times[2] = { { .tv_sec = 5 }, { .tv_sec = 5 } };
    make_file(box->source_fd, "f", "x");
    _cleanup_free_ char *first = hash_input(box);
    assert_int_equal(utimensat(box->source_fd, "f", times, 0), 0);
    _cleanup_free_ char *later = hash_input(box);
    assert_string_equal(first, later);
    assert_int_equal(fchmodat(box->source_fd, "f", 0600, 0), 0);
    _cleanup_free_ char *mode = hash_input(box);
    assert_string_not_equal(first, mode);
    make_file(box->source_fd, "f", "y");
    _cleanup_free_ char *content = hash_input(box);
    assert_string_not_equal(first, content);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names_are_real, setup, teardown),
        cmocka_unit_test_setup_teardown(folders_give_their_content, setup, teardown),
        cmocka_unit_test_setup_teardown(what_stands_in_the_way_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(sources_stay_in_their_tree, setup, teardown),
        cmocka_unit_test_setup_teardown(a_folder_alone_is_made_once, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_excluded_is_left_out, setup, teardown),
        cmocka_unit_test_setup_teardown(parts_keep_the_folders_above, setup, teardown),
        cmocka_unit_test_setup_teardown(a_part_that_must_be_there, setup, teardown),
        cmocka_unit_test_setup_teardown(modes_change_by_what_they_are, setup, teardown),
        cmocka_unit_test_setup_teardown(a_digest_knows_no_time, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
