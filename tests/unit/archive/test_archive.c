// Files to a tar and back, what a hostile tar or a container that exchanges its folders can't do, and what an overlay changed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "archive/archive.h"
#include "base/file.h"

struct box {
    char path[32];
    int top_fd, root_fd, other_fd; // a folder with "root" and "other" in it
    struct err err;
};

static int setup(void **state)
{
    struct box *box = mem_new(struct box);
    snprintf(box->path, sizeof(box->path), "/tmp/berth-archive-XXXXXX");
    assert_non_null(mkdtemp(box->path));
    box->top_fd = file_open_dir(AT_FDCWD, box->path, NULL);
    assert_int_equal(mkdirat(box->top_fd, "root", 0755) | mkdirat(box->top_fd, "other", 0755), 0);
    box->root_fd = file_open_dir(box->top_fd, "root", NULL);
    box->other_fd = file_open_dir(box->top_fd, "other", NULL);
    *state = box;
    return 0;
}

static int teardown(void **state)
{
    struct box *box = *state;
    fd_close(box->root_fd);
    fd_close(box->other_fd);
    fd_close(box->top_fd);
    file_remove_tree(AT_FDCWD, box->path, NULL);
    free(box);
    return 0;
}

static void ok(struct box *box, int result)
{
    if (result < 0)
        fail_msg("%s", box->err.message);
}

static void make_file(int dir_fd, const char *name, const char *text)
{
    int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void expect_file(int dir_fd, const char *name, const char *text)
{
    char content[256] = "";
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(read(fd, content, sizeof(content) - 1) >= 0);
    close(fd);
    assert_string_equal(content, text);
}

static bool is_there(int dir_fd, const char *name)
{
    struct stat info;
    return fstatat(dir_fd, name, &info, AT_SYMLINK_NOFOLLOW) == 0;
}

// ---- made-up tars ---------------------------------------------------------------------------------------------------

struct tar {
    char data[64 << 10];
    size_t size, at;
};

static void add_entry(struct tar *tar, char type, const char *name, const char *link, const char *content)
{
    char *head = tar->data + tar->size;
    size_t size = content ? strlen(content) : 0;
    unsigned sum = 0;
    memset(head, 0, 512);
    memcpy(head, name, strlen(name));
    memcpy(head + 100, "0000644", 8);
    memcpy(head + 108, "0000000", 8);
    memcpy(head + 116, "0000000", 8);
    snprintf(head + 124, 12, "%011zo", size);
    memcpy(head + 136, "14524770400", 12);
    memset(head + 148, ' ', 8);
    head[156] = type;
    if (link)
        memcpy(head + 157, link, strlen(link));
    memcpy(head + 257, "ustar\00000", 8);
    for (size_t i = 0; i < 512; i++)
        sum += (unsigned char)head[i];
    snprintf(head + 148, 8, "%06o", sum);
    if (content)
        memcpy(head + 512, content, size);
    tar->size += 512 + (size + 511) / 512 * 512;
}

static ssize_t read_tar(void *context, void *data, size_t size, struct err *err)
{
    struct tar *tar = context;
    size_t got = MIN_OF(size, tar->size - tar->at);
    memcpy(data, tar->data + tar->at, got);
    tar->at += got;
    return (ssize_t)got;
}

static int put(struct box *box, const char *path, struct tar *tar)
{
    const struct archive_put options = { 0 };
    tar->at = 0;
    return archive_put(box->root_fd, path, &options, read_tar, tar, &box->err);
}

// ---- there and back -------------------------------------------------------------------------------------------------

static ssize_t read_fd(void *context, void *data, size_t size, struct err *err)
{
    return read(*(int *)context, data, size);
}

#define LONG_NAME "a-name-of-more-than-one-hundred-bytes-which-the-old-header-does-not-hold-and-which-therefore-needs-a-record-of-its-own"

static void goes_there_and_back(void **state)
{
    struct box *box = *state;
    const struct archive_put options = { 0 };
    struct stat info;
    assert_int_equal(mkdirat(box->root_fd, "d", 01750), 0);
    assert_int_equal(fchmodat(box->root_fd, "d", 01750, 0), 0);
    make_file(box->root_fd, "d/file", "content");
    make_file(box->root_fd, "d/" LONG_NAME, "long");
    assert_int_equal(linkat(box->root_fd, "d/file", box->root_fd, "d/same", 0), 0);
    assert_int_equal(symlinkat("/nowhere/at/all", box->root_fd, "d/link"), 0);
    assert_int_equal(mkfifoat(box->root_fd, "d/pipe", 0600), 0);
    assert_int_equal(fchownat(box->root_fd, "d/" LONG_NAME, 3000000, 4000000000u, 0), 0);
    int fd = memfd_create("tar", MFD_CLOEXEC);
    ok(box, archive_get(box->root_fd, "/d", fd, &box->err));
    lseek(fd, 0, SEEK_SET);
    ok(box, archive_put(box->other_fd, "/", &options, read_fd, &fd, &box->err));
    close(fd);
    expect_file(box->other_fd, "d/file", "content");
    expect_file(box->other_fd, "d/" LONG_NAME, "long");
    assert_int_equal(fstatat(box->other_fd, "d/file", &info, 0), 0);
    assert_int_equal(info.st_nlink, 2);
    assert_int_equal(info.st_mode & 07777, 0640);
    assert_int_equal(fstatat(box->other_fd, "d", &info, 0), 0);
    assert_int_equal(info.st_mode & 07777, 01750);
    assert_int_equal(fstatat(box->other_fd, "d/" LONG_NAME, &info, 0), 0);
    assert_int_equal(info.st_uid, 3000000);
    assert_int_equal(info.st_gid, 4000000000u);
    assert_int_equal(fstatat(box->other_fd, "d/pipe", &info, 0), 0);
    assert_true(S_ISFIFO(info.st_mode));
    assert_true(is_there(box->other_fd, "d/link"));
}

static void names_are_dockers(void **state)
{
    struct box *box = *state;
    static const struct {
        const char *path, *name, *target;
        mode_t type;
    } cases[] = {
        { "/", "/", "", S_IFDIR },           { "d", "d", "", S_IFDIR },       { "/d/", "d", "", S_IFDIR },
        { "/d/.", ".", "", S_IFDIR },        { "../d/../d", "d", "", S_IFDIR }, { "/link", "link", "/d", S_IFLNK },
        { "/link/", "link", "", S_IFDIR },   { "/d/far", "far", "/d/file", S_IFLNK }, { "/link/file", "file", "", S_IFREG },
        { "/broken", "broken", "/no/where", S_IFLNK },
    };
    assert_int_equal(mkdirat(box->root_fd, "d", 0755), 0);
    make_file(box->root_fd, "d/file", "");
    assert_int_equal(symlinkat("/d", box->root_fd, "link") | symlinkat("../../../link/file", box->root_fd, "d/far") |
                         symlinkat("no/where", box->root_fd, "broken"), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct archive_stat stat;
        ok(box, archive_stat(box->root_fd, cases[i].path, &stat, &box->err));
        assert_string_equal(stat.name, cases[i].name);
        assert_string_equal(stat.link_target, cases[i].target);
        assert_int_equal(stat.mode & S_IFMT, cases[i].type);
    }
    struct archive_stat stat;
    assert_int_equal(archive_stat(box->root_fd, "/d/file/", &stat, &box->err), -1);
    assert_int_equal(box->err.number, ENOTDIR);
    assert_int_equal(archive_stat(box->root_fd, "/nosuch", &stat, &box->err), -1);
    assert_int_equal(box->err.class, ERR_NOT_FOUND);
}

// ---- ways out -------------------------------------------------------------------------------------------------------

static void links_lead_inside(void **state)
{
    struct box *box = *state;
    struct tar tar = { .size = 0 };
    _cleanup_free_ char *up = mem_printf("../../../../../..%s/other", box->path), *absolute = mem_printf("%s/other", box->path);
    add_entry(&tar, '2', "up", up, NULL);
    add_entry(&tar, '0', "up/one", NULL, "x");
    put(box, "/", &tar); // where it leads is made inside
    tar.size = 0;
    add_entry(&tar, '2', "way", absolute, NULL);
    add_entry(&tar, '0', "way/two", NULL, "x");
    put(box, "/", &tar);
    assert_false(is_there(box->other_fd, "one") || is_there(box->other_fd, "two"));
}

static void what_climbs_out_is_refused(void **state)
{
    struct box *box = *state;
    static const struct {
        char type;
        const char *name, *link, *message;
    } cases[] = {
        { '0', "../x", NULL, "\"../x\" is outside of \"/d\"" },
        { '0', "a/../../x", NULL, "is outside of" },
        { '5', "/../..", NULL, "is outside of" },
        { '1', "x", "../../etc/passwd", "invalid hardlink" },
    };
    assert_int_equal(mkdirat(box->root_fd, "d", 0755), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tar tar = { .size = 0 };
        add_entry(&tar, cases[i].type, cases[i].name, cases[i].link, NULL);
        assert_int_equal(put(box, "/d", &tar), -1);
        assert_int_equal(box->err.class, ERR_INVALID_ARGUMENT);
        assert_non_null(strstr(box->err.message, cases[i].message));
        assert_false(is_there(box->root_fd, "x"));
    }
}

struct exchange {
    struct box *box;
    atomic_bool stop;
};

// A container's process that makes the folder a link out of the tree, and back, as fast as it can (CVE-2018-15664).
static void *exchange_folders(void *context)
{
    struct exchange *exchange = context;
    while (!exchange->stop)
        syscall(SYS_renameat2, exchange->box->root_fd, "d", exchange->box->root_fd, "way-out", 1 << 1); // RENAME_EXCHANGE
    return NULL;
}

static void an_exchange_leads_nowhere(void **state)
{
    struct box *box = *state;
    struct exchange exchange = { .box = box };
    struct tar tar = { .size = 0 };
    pthread_t thread;
    _cleanup_free_ char *outside = mem_printf("../../../../../../%s/other", box->path);
    assert_int_equal(mkdirat(box->root_fd, "d", 0755), 0);
    assert_int_equal(symlinkat(outside, box->root_fd, "way-out"), 0);
    add_entry(&tar, '0', "caught", NULL, "x");
    add_entry(&tar, '5', "sub", NULL, NULL);
    assert_int_equal(pthread_create(&thread, NULL, exchange_folders, &exchange), 0);
    for (int i = 0; i < 3000; i++) {
        struct archive_stat stat;
        put(box, "/d", &tar);
        archive_stat(box->root_fd, "/d/caught", &stat, NULL);
    }
    exchange.stop = true;
    pthread_join(thread, NULL);
    assert_false(is_there(box->other_fd, "caught") || is_there(box->other_fd, "sub"));
}

static void damaged_tars_are_refused(void **state)
{
    struct box *box = *state;
    struct tar good = { .size = 0 };
    add_entry(&good, '0', "file", NULL, "content");
    for (size_t size = 1; size < good.size; size += 37) { // cut off anywhere; behind its content padding may lack
        struct tar cut = good;
        cut.size = size;
        assert_int_equal(put(box, "/", &cut), size >= 512 + strlen("content") ? 0 : -1);
    }
    static const struct {
        size_t at;
        const char *bytes;
    } damages[] = { { 0, "other" }, { 124, "zzzzzzzzzzz" }, { 148, "000000" }, { 156, "S" } };
    for (size_t i = 0; i < ARRAY_LEN(damages); i++) {
        struct tar bad = good;
        memcpy(bad.data + damages[i].at, damages[i].bytes, strlen(damages[i].bytes));
        assert_int_equal(put(box, "/", &bad), -1);
        assert_int_equal(box->err.class, ERR_INVALID_ARGUMENT);
    }
    struct tar none = { .size = 0 };
    ok(box, put(box, "/", &none));
}

static void kinds_stay_when_asked(void **state)
{
    struct box *box = *state;
    const struct archive_put keep = { .keep_kind = true };
    struct tar file = { .size = 0 }, folder = { .size = 0 };
    assert_int_equal(mkdirat(box->root_fd, "a", 0755), 0);
    make_file(box->root_fd, "b", "");
    add_entry(&file, '0', "a", NULL, "x");
    add_entry(&folder, '5', "b", NULL, NULL);
    assert_int_equal(archive_put(box->root_fd, "/", &keep, read_tar, &file, &box->err), -1);
    assert_string_equal(box->err.message, "cannot overwrite directory \"/a\" with non-directory \"/\"");
    assert_int_equal(archive_put(box->root_fd, "/", &keep, read_tar, &folder, &box->err), -1);
    assert_string_equal(box->err.message, "cannot overwrite non-directory \"/b\" with directory \"/\"");
    ok(box, put(box, "/", &file));
    expect_file(box->root_fd, "a", "x");
}

static void users_are_the_trees(void **state)
{
    struct box *box = *state;
    uid_t uid;
    gid_t gid;
    assert_int_equal(mkdirat(box->root_fd, "etc", 0755), 0);
    make_file(box->root_fd, "etc/passwd", "root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\n");
    make_file(box->root_fd, "etc/group", "staff:x:50:\n");
    ok(box, archive_user(box->root_fd, "app", &uid, &gid, &box->err));
    assert_true(uid == 1000 && gid == 1001);
    ok(box, archive_user(box->root_fd, "7:staff", &uid, &gid, &box->err));
    assert_true(uid == 7 && gid == 50);
    assert_int_equal(archive_user(box->root_fd, "nobody", &uid, &gid, &box->err), -1);
}

// ---- large files ----------------------------------------------------------------------------------------------------

enum { LARGE = 300 * 1024 + 7, ROOM = 1 << 20 };

static void make_large(int dir_fd, const char *name)
{
    _cleanup_free_ char *data = mem_alloc(LARGE);
    for (size_t i = 0; i < LARGE; i++)
        data[i] = (char)(i * 2654435761u >> 24);
    int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, LARGE), LARGE);
    close(fd);
}

// Into a pipe the kernel moves pages of large files, elsewhere they are copied: it is the same tar, between small files, too.
static void a_pipe_gets_what_a_file_gets(void **state)
{
    struct box *box = *state;
    _cleanup_free_ char *piped = mem_alloc(ROOM), *filed = mem_alloc(ROOM);
    const struct archive_times times = { .max = -1 };
    int ends[2], file = openat(box->other_fd, "tar", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ok(box, fd_pipe(ends, &box->err));
    assert_true(fcntl(ends[1], F_SETPIPE_SZ, ROOM) >= ROOM); // all of it: nobody reads meanwhile
    make_file(box->root_fd, "a", "before");
    make_large(box->root_fd, "b");
    make_file(box->root_fd, "c", "behind");
    ok(box, archive_export(box->root_fd, &times, ends[1], &box->err));
    ok(box, archive_export(box->root_fd, &times, file, &box->err));
    close(ends[1]);
    ssize_t size = fd_read_full(ends[0], piped, ROOM, &box->err);
    assert_true(size > LARGE);
    assert_int_equal(pread(file, filed, ROOM, 0), size);
    assert_memory_equal(piped, filed, (size_t)size);
    close(ends[0]);
    close(file);
}

// ---- what changed ---------------------------------------------------------------------------------------------------

// The three trees as an overlay would show them: the merged one is given by hand.
static void tells_what_changed(void **state)
{
    struct box *box = *state;
    static const char *const expected[] = { "C /both", "A /both/new", "D /both/old", "D /gone", "A /made", "A /made/file", "C /text" };
    for (int i = 0; i < 3; i++)
        assert_int_equal(mkdirat(box->root_fd, (const char *[]){ "upper", "merged", "lower" }[i], 0755), 0);
    struct archive_layers layers = { .upper_fd = file_open_dir(box->root_fd, "upper", NULL),
                                     .merged_fd = file_open_dir(box->root_fd, "merged", NULL),
                                     .lower_fd = file_open_dir(box->root_fd, "lower", NULL) };
    const int all[] = { layers.upper_fd, layers.merged_fd, layers.lower_fd };
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        assert_int_equal(mkdirat(all[i], "both", 0755) | mkdirat(all[i], "etc", 0755), 0);
    make_file(layers.lower_fd, "both/old", "");
    make_file(layers.lower_fd, "gone", "");
    make_file(layers.lower_fd, "text", "a");
    make_file(layers.lower_fd, "stays", "");
    make_file(layers.merged_fd, "stays", "");
    for (int i = 0; i < 2; i++) {
        make_file(all[i], "both/new", "");
        make_file(all[i], "text", "b");
        make_file(all[i], "etc/hosts", ""); // the engine's own
        assert_int_equal(mkdirat(all[i], "made", 0755), 0);
        make_file(all[i], "made/file", "");
    }
    assert_int_equal(mknodat(layers.upper_fd, "gone", S_IFCHR, 0), 0);
    struct archive_changes changes;
    ok(box, archive_changes(&layers, &changes, &box->err));
    assert_int_equal(changes.len, ARRAY_LEN(expected));
    for (size_t i = 0; i < changes.len; i++) {
        _cleanup_free_ char *line = mem_printf("%c %s", "CAD"[changes.items[i].kind], changes.items[i].path);
        assert_string_equal(line, expected[i]);
    }
    archive_changes_done(&changes);
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        close(all[i]);
}

// The engine's mount points and the stubs go, with the folders that hold nothing else; what is in the others stays, and their times.
static void keeps_what_is_the_layers(void **state)
{
    struct box *box = *state;
    static const char *const folders[] = { "dev", "dev/pts", "proc", "etc", "made", "made/stub", "only", "only/for", "only/for/stub" };
    const struct timespec early[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
    char *places[] = { (char *)"/made/stub", (char *)"/only/for/stub", (char *)"/made/file" };
    const struct strv stubs = { .items = places, .len = ARRAY_LEN(places) };
    struct stat info;
    for (size_t i = 0; i < ARRAY_LEN(folders); i++)
        assert_int_equal(mkdirat(box->root_fd, folders[i], 0755), 0);
    make_file(box->root_fd, "dev/console", "");
    make_file(box->root_fd, "etc/hosts", "");
    make_file(box->root_fd, "etc/hostname", "not the engine's");
    make_file(box->root_fd, "made/file", "12345");
    assert_int_equal(utimensat(box->root_fd, "made", early, 0) | utimensat(box->root_fd, "etc", early, 0), 0);
    const struct archive_layers layers = { .upper_fd = box->root_fd, .merged_fd = box->root_fd, .lower_fd = box->other_fd, .stubs = &stubs };
    struct archive_kept kept;
    ok(box, archive_keep(&layers, &kept, &box->err));
    assert_true(kept.any);
    assert_int_equal(kept.size, strlen("not the engine's") + 5);
    assert_false(is_there(box->root_fd, "dev") || is_there(box->root_fd, "proc") || is_there(box->root_fd, "only"));
    assert_false(is_there(box->root_fd, "etc/hosts") || is_there(box->root_fd, "made/stub"));
    assert_true(is_there(box->root_fd, "etc/hostname") && is_there(box->root_fd, "made/file"));
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(fstatat(box->root_fd, (const char *[]){ "made", "etc" }[i], &info, 0), 0);
        assert_int_equal(info.st_mtim.tv_sec, 1000);
    }
    ok(box, archive_keep(&layers, &kept, &box->err)); // again
    assert_int_equal(kept.size, strlen("not the engine's") + 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(goes_there_and_back, setup, teardown),
        cmocka_unit_test_setup_teardown(names_are_dockers, setup, teardown),
        cmocka_unit_test_setup_teardown(links_lead_inside, setup, teardown),
        cmocka_unit_test_setup_teardown(what_climbs_out_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(an_exchange_leads_nowhere, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_tars_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(kinds_stay_when_asked, setup, teardown),
        cmocka_unit_test_setup_teardown(users_are_the_trees, setup, teardown),
        cmocka_unit_test_setup_teardown(a_pipe_gets_what_a_file_gets, setup, teardown),
        cmocka_unit_test_setup_teardown(tells_what_changed, setup, teardown),
        cmocka_unit_test_setup_teardown(keeps_what_is_the_layers, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
