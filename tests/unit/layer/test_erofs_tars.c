// Tars as others write them: GNU tar in its formats, Python's tarfile.
// Each becomes an image whose tree is the one that both unpacking and GNU tar make, and comes back byte for byte.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>

#include "erofs_fixture.h"

#define TAR_SIZE_MAX ((size_t)1 << 30)
#define SHELL "/bin/sh"
#define PYTHON "/usr/bin/python3"

static const struct layer_erofs_options ordinary = { 0 };

static void check_file(const struct scratch *scratch, const char *name, bool gnu)
{
    _cleanup_buf_ struct buf tar = BUF_INIT(TAR_SIZE_MAX);
    struct err err;
    if (file_read_at(scratch->fd, name, &tar, &err) < 0)
        fail_msg("%s", err.message);
    assert_true(tar.size > 0);
    assert_layer(tar.data, tar.size, true, gnu, &ordinary);
}

static void must_run(const char *program, const char *option, const char *script, const char *folder)
{
    struct err err;
    _cleanup_buf_ struct buf output = BUF_INIT(1 << 20);
    char *const argv[] = { (char *)program, (char *)option, (char *)script, (char *)"script", (char *)folder, NULL };
    if (process_run(argv, NULL, &output, &err) < 0)
        fail_msg("%s", err.message);
}

// A tree of all kinds, with times that the format at hand can tell.
static const char tree_script[] =
    "set -e; cd \"$1\"; mkdir -p t/dir/sub t/empty; echo hello >t/dir/file; ln t/dir/file t/hard; ln -s ../dir/file t/link;"
    "ln -s nowhere t/dir/dangling; mkfifo t/fifo; mknod t/null c 1 3; mknod t/disk b 8 17; : >t/dir/none;"
    "head -c 100000 /dev/urandom >t/dir/large; head -c 4000 /dev/urandom >t/dir/sub/small; chmod 4755 t/dir/file; chmod 1777 t/empty;"
    "truncate -s 20M t/dir/holes; printf x | dd of=t/dir/holes bs=1 seek=7000000 conv=notrunc 2>/dev/null; truncate -s 1M t/dir/hole;"
    "for i in $(seq 60); do echo $i >t/empty/number-$i; done; chown 1000:2000 t/dir/large; "
    "find t -exec touch -h -d @1700000000 {} +;";

static void check_tree(const char *more, bool gnu, const char *const *names)
{
    struct scratch scratch;
    scratch_open(&scratch);
    _cleanup_free_ char *script = mem_printf("%s%s", tree_script, more);
    must_run(SHELL, "-c", script, scratch.path);
    for (; *names; names++) {
        print_message("# %s\n", *names);
        check_file(&scratch, *names, gnu);
    }
    scratch_close(&scratch);
}

static void test_gnu_tar(void **state)
{
    static const char *const names[] = { "gnu.tar", "oldgnu.tar", "pax.tar", "posix.tar", "ustar.tar", "v7.tar", NULL };
    // v7 knows no devices and fifos; ustar and it no large ids.
    check_tree("for f in gnu oldgnu pax posix ustar; do tar -C t --format=$f -cf $f.tar .; done; rm t/fifo t/null t/disk;"
               "tar -C t --format=v7 -cf v7.tar .", true, names);
}

static void test_gnu_tar_extras(void **state)
{
    static const char *const names[] = { "sparse-gnu.tar", "sparse-0.0.tar", "sparse-0.1.tar", "sparse-1.0.tar", "xattrs.tar",
                                         "long.tar", "long-pax.tar", "ids.tar", "blocks.tar", NULL };
    check_tree("tar -C t -S --format=gnu -cf sparse-gnu.tar .; for v in 0.0 0.1 1.0; do"
               " tar -C t -S --format=pax --sparse-version=$v -cf sparse-$v.tar .; done;"
               "/usr/bin/python3 -c \"import os; os.setxattr('t/dir/file', 'user.note', b'bytes\\0\\xff'); os.setxattr('t/dir', 'user.d', b'1')\";"
               "tar -C t --xattrs --format=pax -cf xattrs.tar .;"
               "n=$(printf %0200d 0); mkdir -p t/$n/$n; echo x >t/$n/$n/$n; ln -s $n/$n/$n t/long; ln t/$n/$n/$n t/$n/hard;"
               "touch -d '2020-01-01 00:00:00.123456789' t/$n; find t -exec touch -h -d @1700000000.5 {} +;"
               "tar -C t --format=gnu -cf long.tar .; tar -C t --format=pax -cf long-pax.tar .;"
               "chown -h 3000000:4000000000 t/long t/dir/file; tar -C t --format=gnu -cf ids.tar .;"
               "tar -C t -b 200 --format=gnu -cf blocks.tar .", true, names);
}

static void test_python(void **state)
{
    static const char *const names[] = { "py-usTAR.tar", "py-gnu.tar", "py-pax.tar", NULL };
    check_tree("/usr/bin/python3 -c \"\nimport tarfile\n"
               "for name, form in ('usTAR', tarfile.USTAR_FORMAT), ('gnu', tarfile.GNU_FORMAT), ('pax', tarfile.PAX_FORMAT):\n"
               "    with tarfile.open(f'py-{name}.tar', 'w', format=form) as tar:\n"
               "        tar.add('t', arcname='.')\n\"", true, names);
}

// Archives appended to, with files that become folders and folders that become files: GNU tar does not replace those.
static void test_appended(void **state)
{
    static const char *const names[] = { "twice.tar", NULL };
    check_tree("tar -C t -cf twice.tar .; echo other >t/dir/file; rm -r t/empty; echo now a file >t/empty; rm t/link; mkdir t/link;"
               "touch -h -d @1700000001 t/link t/empty; tar -C t -rf twice.tar ./dir/file ./empty ./link", false, names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gnu_tar),
        cmocka_unit_test(test_gnu_tar_extras),
        cmocka_unit_test(test_python),
        cmocka_unit_test(test_appended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
