// What a COPY reads, said by looking at files and by a list of them: both say the same, or the list says nothing.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "archive/archive.h"
#include "base/file.h"
#include "build/listing.h"

struct box {
    char path[32];
    int fd;
    struct arena arena;
    struct listing listing;
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// The content's first bytes stand for its digest.
static void list_folder(struct box *box, int folder, const char *above)
{
    _cleanup_strv_ struct strv names = { 0 };
    assert_int_equal(file_list_names(folder, ".", &names, NULL), 0);
    if (names.len)
        qsort(names.items, names.len, sizeof(*names.items), compare_names);
    for (size_t i = 0; i < names.len; i++) {
        struct stat info;
        char link[64] = "";
        assert_int_equal(fstatat(folder, names.items[i], &info, AT_SYMLINK_NOFOLLOW), 0);
        struct listing_entry entry = { .path = arena_printf(&box->arena, "%s%s", above, names.items[i]), .mode = info.st_mode & 07777, .uid = info.st_uid, .gid = info.st_gid };
        entry.type = S_ISDIR(info.st_mode) ? LISTING_FOLDER : S_ISLNK(info.st_mode) ? LISTING_LINK : S_ISFIFO(info.st_mode) ? LISTING_FIFO : LISTING_FILE;
        entry.size = entry.type == LISTING_FILE ? info.st_size : 0;
        if (entry.type == LISTING_LINK)
            assert_true(readlinkat(folder, names.items[i], link, sizeof(link) - 1) > 0);
        entry.link = arena_strdup(&box->arena, link);
        _cleanup_close_ int fd = entry.type == LISTING_FIFO || entry.type == LISTING_LINK ? -1 : openat(folder, names.items[i], O_RDONLY | O_CLOEXEC);
        if (entry.type == LISTING_FILE)
            assert_true(read(fd, entry.digest, sizeof(entry.digest)) >= 0);
        assert_int_equal(listing_add(&box->listing, &entry, NULL), 0);
        if (entry.type == LISTING_FOLDER)
            list_folder(box, fd, arena_printf(&box->arena, "%s/", entry.path));
    }
}

static void file(struct box *box, const char *path, const char *text, mode_t mode)
{
    assert_int_equal(file_write_at(box->fd, path, text, strlen(text), mode, false, NULL), 0);
}

static int setup(void **state)
{
    struct box *box = mem_new(struct box);
    snprintf(box->path, sizeof(box->path), "/tmp/berth-listed-XXXXXX");
    assert_non_null(mkdtemp(box->path));
    box->fd = file_open_dir(AT_FDCWD, box->path, NULL);
    assert_int_equal(mkdirat(box->fd, "d", 0750) | mkdirat(box->fd, "d/e", 0700) | mkdirat(box->fd, "d-f", 0755) | mkdirat(box->fd, "empty", 0755) |
                         mkdirat(box->fd, "white", 0755) | mkdirat(box->fd, "n", 0755), 0);
    file(box, "a.c", "one", 0640);
    file(box, "b.c", "", 0755);
    file(box, "d/x.c", "two", 04755);
    file(box, "d/e/y", "three", 0600);
    file(box, "d-f/z", "four", 0644);
    file(box, "white/.wh.a", "", 0644);
    file(box, "n/\xff[a]*", "odd", 0644);
    assert_int_equal(symlinkat("../a.c", box->fd, "d/link") | symlinkat("d", box->fd, "way") | mkfifoat(box->fd, "d/pipe", 0600), 0);
    list_folder(box, box->fd, "");
    *state = box;
    return 0;
}

static int teardown(void **state)
{
    struct box *box = *state;
    listing_done(&box->listing);
    arena_done(&box->arena);
    fd_close(box->fd);
    file_remove_tree(AT_FDCWD, box->path, NULL);
    free(box);
    return 0;
}

static void add_said(void *of, const struct buf *record, const unsigned char *digest)
{
    buf_add(of, record->data, record->size);
    buf_addf(of, digest ? "=%.32s\n" : "\n", (const char *)digest);
}

// As the daemon reads it.
static void add_frames(struct buf *out, const char *data, size_t size)
{
    while (size > 0) {
        struct listing_frame frame;
        assert_true(size >= sizeof(frame));
        memcpy(&frame, data, sizeof(frame));
        assert_true(size - sizeof(frame) >= frame.size + frame.content);
        buf_add(out, data + sizeof(frame), frame.size);
        if (frame.file)
            buf_addf(out, "=%.*s", (int)frame.content, data + sizeof(frame) + frame.size);
        buf_addc(out, '\n');
        data += sizeof(frame) + frame.size + frame.content;
        size -= sizeof(frame) + frame.size + (size_t)frame.content;
    }
}

static int look(struct box *box, const char *const *paths, size_t len, bool roots, struct buf *out)
{
    struct archive_source sources[4];
    const struct archive_place place = { .sources = sources, .source_len = len, .target = "/", .roots = roots, .mode = -1, .time_max = -1 };
    _cleanup_close_ int fd = memfd_create("records", MFD_CLOEXEC);
    _cleanup_buf_ struct buf frames = BUF_INIT(1 << 20);
    struct err err = { 0 };
    for (size_t i = 0; i < len; i++)
        sources[i] = (struct archive_source){ .fd = box->fd, .path = paths[i] };
    if (archive_sources(&place, NULL, NULL, fd, &err) < 0)
        return -1;
    lseek(fd, 0, SEEK_SET);
    assert_int_equal(file_read_fd(fd, "records", &frames, NULL), 0);
    add_frames(out, frames.data, frames.size);
    return 0;
}

static void both_say_the_same(void **state)
{
    static const struct {
        const char *paths[3];
        bool known;
    } table[] = {
        { { "d" }, true },            { { "/d/" }, true },        { { "a.c" }, true },          { { "./d/../a.c" }, true }, { { "*.c" }, true },
        { { "d*" }, true },  { { "d*/z" }, true },           { { "*/x.c" }, false /* one may be a link */ },      { { "d/e", "a.c" }, true },   { { "a.c", "d/e" }, true },  { { "empty" }, true },
        { { "[ab].c", "d-f/?" }, true }, { { "d/[ex]*", "b.c" }, true }, { { "d/e/y" }, true },   { { "*/e/*" }, false /* a link is among them */ },
        { { "d/*" }, false /* a link */ }, { { "/" }, false /* a name that no layer has */ }, { { "white" }, false }, { { "way" }, false },
        { { "way/x.c" }, false },     { { "d/link" }, false },    { { "none" }, false },        { { "*.none" }, false },    { { "a.c/x" }, false },
        { { "n" }, true },            { { "d/e", "none" }, false }, { { "../d" }, true },
    };
    struct box *box = *state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        for (int roots = 0; roots < 2; roots++) {
            _cleanup_buf_ struct buf said = BUF_INIT(1 << 20), found = BUF_INIT(1 << 20);
            size_t len = table[i].paths[1] ? 2 : 1;
            const struct listing_wish wish = { table[i].paths, len, roots };
            bool known = listing_sources(&box->listing, &wish, add_said, &said);
            if (known != table[i].known)
                fail_msg("%s: known: %d", table[i].paths[0], known);
            if (!known)
                continue;
            assert_int_equal(look(box, table[i].paths, len, roots, &found), 0);
            if (said.size != found.size || memcmp(said.data, found.data, said.size) != 0)
                fail_msg("%s: %s\nand\n%s", table[i].paths[0], buf_text(&said), buf_text(&found));
        }
}

// ---- a tar ----------------------------------------------------------------------------------------------------------

static ssize_t read_tar(void *context, void *data, size_t size, struct err *err)
{
    return read(*(const int *)context, data, size);
}

// The rows of a tar, in the order of a walk.
static size_t list_tar(int tar_fd, struct arena *arena, struct listing_entry *out, size_t max)
{
    _cleanup_close_ int fd = memfd_create("frames", MFD_CLOEXEC);
    _cleanup_buf_ struct buf frames = BUF_INIT(1 << 20);
    struct listing_frame frame;
    struct err err = { 0 };
    size_t len = 0;
    bool marked;
    if (archive_list(read_tar, &tar_fd, fd, &marked, &err) < 0)
        fail_msg("%s", err.message);
    assert_true(marked);
    lseek(fd, 0, SEEK_SET);
    assert_int_equal(file_read_fd(fd, "frames", &frames, NULL), 0);
    for (size_t at = 0; at < frames.size; at += frame.size + (size_t)frame.content) {
        memcpy(&frame, frames.data + at, sizeof(frame));
        at += sizeof(frame);
        struct slice row = { frames.data + at, frame.size };
        assert_true(len < max && listing_take(&row, &out[len]));
        out[len].path = arena_strdup(arena, out[len].path);
        out[len].link = arena_strdup(arena, out[len].link);
        if (frame.file)
            memcpy(out[len].digest, frames.data + at + frame.size, MIN_OF((size_t)frame.content, (size_t)LISTING_DIGEST_SIZE));
        len++;
    }
    listing_sort(out, len);
    return len;
}

static void a_tar_is_listed_as_its_files_are(void **state)
{
    struct box *box = *state;
    struct listing_entry rows[32] = { 0 };
    _cleanup_close_ int tar = memfd_create("tar", MFD_CLOEXEC);
    assert_int_equal(archive_export(box->fd, NULL, tar, NULL), 0);
    lseek(tar, 0, SEEK_SET);
    assert_int_equal(list_tar(tar, &box->arena, rows, ARRAY_LEN(rows)), box->listing.len);
    for (size_t i = 0; i < box->listing.len; i++) {
        const struct listing_entry *one = &rows[i], *other = &box->listing.items[i];
        assert_string_equal(one->path, other->path);
        assert_string_equal(one->link, other->link);
        assert_true(one->type == other->type && one->mode == other->mode && one->uid == other->uid && one->size == other->size);
        assert_memory_equal(one->digest, other->digest, sizeof(one->digest));
    }
}

static void what_a_list_cannot_say(void **state)
{
    static const struct {
        const char *make;
        bool odd;
    } table[] = {
        { "touch a && tar c a", false },
        { "touch a && tar c ./a", false },
        { "touch a && tar c --transform 's,^,../,' -P a", true },
        { "touch a && tar c --transform 's,^,x/../,' -P a", true },
        { "touch a && ln a b && tar c --transform 's,^a$,x/../a,RSh' -P a b", true },
        { "touch a && setfattr -n user.x -v y a 2>/dev/null; tar c --format=pax --pax-option=SCHILY.xattr.user.x:=y a", false },
        { "ln -s gone l && tar c l", false },
    };
    struct box *box = *state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct listing_entry rows[8] = { 0 };
        bool odd = false;
        _cleanup_free_ char *line = mem_printf("rm -rf %s/t; mkdir %s/t && cd %s/t && { %s; } >../tar", box->path, box->path, box->path, table[i].make);
        assert_int_equal(system(line), 0);
        _cleanup_close_ int tar = openat(box->fd, "tar", O_RDONLY | O_CLOEXEC);
        size_t len = list_tar(tar, &box->arena, rows, ARRAY_LEN(rows));
        assert_true(len > 0);
        for (size_t k = 0; k < len; k++)
            odd = odd || rows[k].type == 0;
        if (odd != table[i].odd)
            fail_msg("%s", table[i].make);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(both_say_the_same, setup, teardown),
        cmocka_unit_test_setup_teardown(a_tar_is_listed_as_its_files_are, setup, teardown),
        cmocka_unit_test_setup_teardown(what_a_list_cannot_say, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
