// A real root, as mmdebstrap wrote it (kept by tools/rootfs): the tree in the image is the one that unpacking and GNU tar make.
// LAYER_TAR=FILE takes another layer, which may have whiteouts and so is none for GNU tar.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <glob.h>

#include "erofs_fixture.h"

#define TAR_SIZE_MAX ((size_t)1 << 30)

static void test_debian_root(void **state)
{
    glob_t found;
    const char *own = getenv("LAYER_TAR");
    if (own && glob(own, 0, NULL, &found) != 0)
        fail_msg("%s: not there", own);
    if (!own && glob("build/cache/debian-*.tar", 0, NULL, &found) != 0 && glob("../cache/debian-*.tar", 0, NULL, &found) != 0) {
        print_message("# no Debian root in build/cache (tools/rootfs makes it)\n");
        skip();
    }
    _cleanup_buf_ struct buf tar = BUF_INIT(TAR_SIZE_MAX);
    struct err err;
    if (file_read_at(AT_FDCWD, found.gl_pathv[0], &tar, &err) < 0)
        fail_msg("%s", err.message);
    globfree(&found);
    assert_layer(tar.data, tar.size, true, !own, &(struct layer_erofs_options){ 0 });
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_debian_root) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
