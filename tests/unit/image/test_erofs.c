// Layers as EROFS images: what they keep, when they are made and when they go.
#include "fixture.h"

#include <pthread.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define LAYER(box, word) arena_printf(&(box)->arena, "layers/%s", oci_digest_hex(diff_of(&(box)->arena, word)))

static struct image_layers open_layers(struct box *box, const char *name)
{
    struct image_layers layers;
    struct image image = get(box, name);
    OK(box, image_erofs_open(box->images, &image, &box->arena, &layers, &box->err));
    return layers;
}

static ino_t inode_of(int fd)
{
    struct stat info;
    assert_int_equal(fstat(fd, &info), 0);
    return info.st_ino;
}

static void made_once_top_first(void **state)
{
    struct box *box = *state;
    add(box, RECIPE("two", .layers = { "low", "high" }, .references = { "two" }));
    assert_int_equal(entries(box, "layers"), 2);
    struct image_layers first = open_layers(box, "two"), second = open_layers(box, "two");
    assert_int_equal(first.len, 2);
    assert_string_equal(first.diff_ids.items[0], diff_of(&box->arena, "high"));
    assert_int_equal(entries(box, "layers"), 4);
    assert_int_equal(entries(box, "staging"), 0);
    for (size_t i = 0; i < 2; i++) {
        struct stat info;
        assert_int_equal(inode_of(first.fds[i]), inode_of(second.fds[i]));
        assert_int_equal(stat(first.paths.items[i], &info), 0);
        assert_int_equal(info.st_ino, inode_of(first.fds[i]));
        assert_int_equal(info.st_mode & 0777, 0600);
        assert_int_equal(info.st_size % 4096, 0);
    }
    image_layers_done(&first);
    image_layers_done(&second);
}

// ---- what is in it --------------------------------------------------------------------------------------------------

// All that overlayfs and the kernel read beside the bytes.
static void decorate(struct box *box, const char *layer)
{
    static const char capability[20] = { 1, 0, 0, 2, 0, 0x20 };
    const struct timespec old[2] = { { 1000000000, 5 }, { 1000000000, 5 } };
    _cleanup_close_ int fd = openat(box->root_fd, layer, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_close_ int file = openat(fd, "word", O_RDONLY | O_CLOEXEC), folder = openat(fd, "dir", O_RDONLY | O_CLOEXEC);
    assert_int_equal(mknodat(fd, "gone", S_IFCHR, makedev(0, 0)), 0);
    assert_int_equal(linkat(fd, "word", fd, "again", 0), 0);
    assert_int_equal(fchownat(fd, "dir", 70000, 70001, 0), 0);
    assert_int_equal(fsetxattr(folder, "trusted.overlay.opaque", "y", 1, 0), 0);
    assert_int_equal(fsetxattr(file, "security.capability", capability, sizeof(capability), 0), 0);
    assert_int_equal(fchmod(file, 04711), 0);
    assert_int_equal(futimens(file, old), 0);
}

// mount(2) of the file itself; a mount(8) would make a loop device.
static bool mount_image(const char *image, const char *at)
{
    char block[4096];
    _cleanup_close_ int fd = open(image, O_RDONLY | O_CLOEXEC);
    assert_true(read(fd, block, sizeof(block)) == (ssize_t)sizeof(block)); // a cold file makes the kernel complain
    return mount(image, at, "erofs", MS_RDONLY, NULL) == 0;
}

static void check_contents(const char *at)
{
    struct stat info;
    char value[64];
    _cleanup_close_ int fd = open(at, O_PATH | O_DIRECTORY | O_CLOEXEC);
    _cleanup_free_ char *dir = mem_printf("%s/dir", at), *file = mem_printf("%s/word", at);
    assert_int_equal(fstatat(fd, "gone", &info, 0), 0);
    assert_true(S_ISCHR(info.st_mode) && info.st_rdev == makedev(0, 0));
    assert_int_equal(getxattr(dir, "trusted.overlay.opaque", value, sizeof(value)), 1);
    assert_int_equal(getxattr(file, "security.capability", value, sizeof(value)), 20);
    assert_int_equal(fstatat(fd, "dir", &info, 0), 0);
    assert_true(info.st_uid == 70000 && info.st_gid == 70001);
    assert_int_equal(fstatat(fd, "word", &info, 0), 0);
    assert_int_equal(info.st_mode & 07777, 04711);
    assert_int_equal(info.st_nlink, 2);
    assert_true(info.st_mtim.tv_sec == 1000000000 && info.st_mtim.tv_nsec == 5);
}

static void keeps_what_a_layer_says(void **state)
{
    struct box *box = *state;
    add(box, RECIPE("one", .layers = { "low" }, .references = { "one" }));
    decorate(box, LAYER(box, "low"));
    struct image_layers layers = open_layers(box, "one");
    const char *at = arena_printf(&box->arena, "%s/mount", box->root); // not to be freed: skip() leaves by longjmp
    assert_int_equal(mkdir(at, 0700), 0);
    bool mounted = mount_image(layers.paths.items[0], at);
    if (mounted) {
        check_contents(at);
        assert_int_equal(umount2(at, MNT_DETACH), 0);
    }
    image_layers_done(&layers);
    if (!mounted) {
        print_message("this kernel does not mount EROFS from a file\n");
        skip();
    }
}

static char *hash_of(struct box *box, const char *path)
{
    _cleanup_buf_ struct buf text = BUF_INIT(1 << 20);
    char *digest = arena_alloc(&box->arena, OCI_DIGEST_SIZE);
    OK(box, file_read_at(AT_FDCWD, path, &text, &box->err));
    image_digest(text.data, text.size, digest);
    return digest;
}

static void depends_on_the_layer_alone(void **state)
{
    struct box *box = *state;
    add(box, RECIPE("one", .layers = { "low" }, .references = { "one" }));
    struct image_layers layers = open_layers(box, "one");
    char *first = hash_of(box, layers.paths.items[0]);
    assert_int_equal(unlink(layers.paths.items[0]), 0);
    image_layers_done(&layers);
    usleep(1100 * 1000); // another second of the clock
    layers = open_layers(box, "one");
    assert_string_equal(hash_of(box, layers.paths.items[0]), first);
    image_layers_done(&layers);
}

// ---- several at once ------------------------------------------------------------------------------------------------

struct opening {
    struct box *box;
    struct image image;
    struct arena arena;
    struct image_layers layers;
    int result;
};

static void *open_thread(void *argument)
{
    struct opening *opening = argument;
    opening->result = image_erofs_open(opening->box->images, &opening->image, &opening->arena, &opening->layers, NULL);
    return NULL;
}

static void several_want_it_at_once(void **state)
{
    struct box *box = *state;
    struct opening openings[6];
    pthread_t threads[ARRAY_LEN(openings)];
    add(box, RECIPE("two", .layers = { "low", "high" }, .references = { "two" }));
    for (size_t i = 0; i < ARRAY_LEN(openings); i++) {
        openings[i] = (struct opening){ .box = box, .image = get(box, "two") };
        assert_int_equal(pthread_create(&threads[i], NULL, open_thread, &openings[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(openings); i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < ARRAY_LEN(openings); i++) {
        assert_int_equal(openings[i].result, 0);
        for (size_t k = 0; k < 2; k++)
            assert_int_equal(inode_of(openings[i].layers.fds[k]), inode_of(openings[0].layers.fds[k]));
    }
    for (size_t i = 0; i < ARRAY_LEN(openings); i++) {
        image_layers_done(&openings[i].layers);
        arena_done(&openings[i].arena);
    }
    assert_int_equal(entries(box, "staging"), 0);
}

// ---- its end --------------------------------------------------------------------------------------------------------

static void goes_with_its_layer(void **state)
{
    struct box *box = *state;
    struct image_removed removed;
    add(box, RECIPE("one", .layers = { "low" }, .references = { "one" }));
    struct image_layers layers = open_layers(box, "one");
    image_layers_done(&layers);
    assert_int_equal(entries(box, "layers"), 2);
    OK(box, image_remove(box->images, "one", false, NULL, NULL, &box->arena, &removed, &box->err));
    assert_int_equal(entries(box, "layers"), 0);
}

static void a_start_clears_what_has_no_layer(void **state)
{
    struct box *box = *state;
    add(box, RECIPE("one", .layers = { "low" }, .references = { "one" }));
    struct image_layers layers = open_layers(box, "one");
    image_layers_done(&layers);
    OK(box, file_write_at(box->root_fd, "layers/0123.erofs", "x", 1, 0600, false, &box->err));
    OK(box, file_write_at(box->root_fd, "staging/erofs-0123", "x", 1, 0600, false, &box->err));
    box_reopen(box);
    assert_int_equal(entries(box, "layers"), 2);
    assert_int_equal(entries(box, "staging"), 0);
    assert_true(there(box, arena_printf(&box->arena, "%s.erofs", LAYER(box, "low"))));
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(made_once_top_first),     TEST(keeps_what_a_layer_says), TEST(depends_on_the_layer_alone),
        TEST(several_want_it_at_once), TEST(goes_with_its_layer),     TEST(a_start_clears_what_has_no_layer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
