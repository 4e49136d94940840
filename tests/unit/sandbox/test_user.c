// Users by the rules of Docker, on files that an image made.
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "sandbox/plan.h"

struct image {
    char dir[64];
    int root;
    struct err err;
};

static int image_up(void **state)
{
    struct image *image = mem_new(struct image);
    snprintf(image->dir, sizeof(image->dir), "/tmp/berth-user-XXXXXX");
    assert_non_null(mkdtemp(image->dir));
    image->root = open(image->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdirat(image->root, "etc", 0755), 0);
    *state = image;
    return 0;
}

static int image_down(void **state)
{
    struct image *image = *state;
    close(image->root);
    assert_int_equal(file_remove_tree(AT_FDCWD, image->dir, &image->err), 0);
    free(image);
    return 0;
}

static void put(struct image *image, const char *path, const char *text)
{
    assert_int_equal(file_write_at(image->root, path, text, strlen(text), 0644, false, &image->err), 0);
}

static int find(struct image *image, const char *name, struct user_found *out)
{
    struct user_request request = { .name = name };
    image->err = (struct err){ 0 };
    return user_find(image->root, &request, out, &image->err);
}

static void test_rules(void **state)
{
    static const struct {
        const char *name;
        int result;
        unsigned uid, gid;
        const char *home;
        size_t group_len;
    } cases[] = {
        { "root", 0, 0, 0, "/root", 1 },
        { "app", 0, 100, 101, "/srv", 3 },
        { "100", 0, 100, 101, "/srv", 3 },
        { "app:7", 0, 100, 7, "/srv", 1 },
        { "app:audio", 0, 100, 29, "/srv", 1 },
        { "100:29", 0, 100, 29, "/srv", 1 },
        { "55", 0, 55, 0, "/", 1 },
        { "55:audio", 0, 55, 29, "/", 1 },
        { ":audio", 0, 0, 29, "/root", 1 },
        { "app:", 0, 100, 101, "/srv", 3 },
        { "2147483647", 0, INT32_MAX, 0, "/", 1 },
        { "77", 0, 500, 500, "/seven", 1 }, // a user whose name is a number
        { "nohome", 0, 9, 9, "/", 1 },
        { "2147483648", -1, 0, 0, NULL, 0 },
        { "4294967295", -1, 0, 0, NULL, 0 },
        { "99999999999999999999999", -1, 0, 0, NULL, 0 },
        { "app:4294967295", -1, 0, 0, NULL, 0 },
        { "-1", -1, 0, 0, NULL, 0 },
        { "+0", -1, 0, 0, NULL, 0 },
        { " 0", -1, 0, 0, NULL, 0 },
        { "0 ", -1, 0, 0, NULL, 0 },
        { "nosuch", -1, 0, 0, NULL, 0 },
        { "app:nosuch", -1, 0, 0, NULL, 0 },
        { "bad", -1, 0, 0, NULL, 0 }, // its line is malformed
        { "neg", -1, 0, 0, NULL, 0 },
    };
    struct image *image = *state;
    put(image, "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\n\n#comment\nbad:x:abc:0::/:\nneg:x:-1:-1::/:\nshort:x:1\n"
        "77:x:500:500::/seven:\nnohome:x:9:9::relative:\napp:x:100:101:App:/srv:/bin/sh"); // no newline at the end
    put(image, "etc/group", "root:x:0:\naudio:x:29:app,root2\nlist:x:30:other,app\nxapp:x:31:appx,xapp\napp:x:101:\n");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct user_found found;
        int result = find(image, cases[i].name, &found);
        if (result != cases[i].result)
            fail_msg("%s: %d %s", cases[i].name, result, image->err.message);
        if (result == 0 && (found.uid != cases[i].uid || found.gid != cases[i].gid || !str_eq(found.home, cases[i].home) ||
                            found.group_len != cases[i].group_len))
            fail_msg("%s: %u:%u %s, %zu groups", cases[i].name, found.uid, found.gid, found.home, found.group_len);
    }
}

static void test_no_files(void **state)
{
    struct image *image = *state;
    struct user_found found;
    assert_int_equal(find(image, "0", &found), 0);
    assert_int_equal(find(image, "12:34", &found), 0);
    assert_int_equal(found.gid, 34);
    assert_int_equal(find(image, "root", &found), -1);
    assert_string_equal(image->err.message, "unable to find user root: no matching entries in passwd file");
    assert_int_equal(find(image, NULL, &found), 0);
    assert_string_equal(found.home, "/");
}

// Lines longer than any buffer, a file larger than any sense, more groups than the bound.
static void test_hostile_files(void **state)
{
    struct image *image = *state;
    struct user_found found;
    size_t size = 3 << 20;
    char *text = mem_alloc(size + 64);
    memset(text, 'x', size);
    memcpy(text + size, "\nlate:x:1:1::/:\n", 17);
    put(image, "etc/passwd", text);
    assert_int_equal(find(image, "late", &found), -1); // beyond the ceiling
    memcpy(text + 6000, "\nsoon:x:1:1::/:\n", 16);
    put(image, "etc/passwd", text);
    assert_int_equal(find(image, "soon", &found), 0); // behind one long line
    size_t used = 0;
    for (int i = 0; i < 300; i++)
        used += (size_t)snprintf(text + used, 64, "g%d:x:%d:soon\n", i, 1000 + i);
    put(image, "etc/group", text);
    assert_int_equal(find(image, "soon", &found), -1);
    assert_int_equal(image->err.class, ERR_RESOURCE_EXHAUSTED);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rules, image_up, image_down),
        cmocka_unit_test_setup_teardown(test_no_files, image_up, image_down),
        cmocka_unit_test_setup_teardown(test_hostile_files, image_up, image_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
