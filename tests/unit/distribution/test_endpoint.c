#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <fcntl.h>

#include "base/file.h"
#include "distribution/distribution_private.h"

#include <cmocka.h>

static void list(const char *name, enum distribution_purpose purpose, const struct distribution_options *options, const char *expected)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_buf_ struct buf text = BUF_INIT(4096);
    struct endpoints endpoints = { 0 };
    struct image_ref ref;
    struct err err = { 0 };
    if (image_ref_parse(name, true, &arena, &ref, &err) < 0 || endpoints_make(&ref, purpose, options, &endpoints, &err) < 0)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < endpoints.len; i++)
        buf_addf(&text, "%s%s%s", i ? " " : "", endpoints.items[i].base, endpoints.items[i].verify ? " checked" : "");
    assert_string_equal(buf_text(&text), expected);
    endpoints_done(&endpoints);
}

static void by_name(void **state)
{
    struct distribution_options options = { .certs_dir = "/nonexistent" };
    list("debian", DISTRIBUTION_PULL, &options, "https://registry-1.docker.io checked");
    list("r.example/x", DISTRIBUTION_PULL, &options, "https://r.example checked");
    list("127.0.0.1:5000/x", DISTRIBUTION_PULL, &options, "http://127.0.0.1:5000 https://127.0.0.1:5000");
    list("localhost/x", DISTRIBUTION_PULL, &options, "http://localhost https://localhost");
    list("[::1]:5000/x", DISTRIBUTION_PULL, &options, "http://[::1]:5000 https://[::1]:5000");
    list("localhost.example/x", DISTRIBUTION_PULL, &options, "https://localhost.example checked");
    list("127.0.0.1.example:80/x", DISTRIBUTION_PULL, &options, "https://127.0.0.1.example:80 checked");
}

static void insecure(void **state)
{
    struct distribution_options options = { .certs_dir = "/nonexistent" };
    strv_add(&options.insecure, "r.example");
    strv_add(&options.insecure, "s.example:5000");
    strv_add(&options.insecure, "10.1.0.0/16");
    list("r.example:5000/x", DISTRIBUTION_PULL, &options, "https://r.example:5000 http://r.example:5000");
    list("s.example:5000/x", DISTRIBUTION_PULL, &options, "https://s.example:5000 http://s.example:5000");
    list("s.example/x", DISTRIBUTION_PULL, &options, "https://s.example checked");
    list("10.1.2.3/x", DISTRIBUTION_PULL, &options, "https://10.1.2.3 http://10.1.2.3");
    list("10.2.2.3/x", DISTRIBUTION_PULL, &options, "https://10.2.2.3 checked");
    strv_done(&options.insecure);
}

static void mirrors(void **state)
{
    struct distribution_options options = { .certs_dir = "/nonexistent" };
    strv_add(&options.mirrors, "https://m.example/cache/");
    strv_add(&options.mirrors, "http://127.0.0.1:5000");
    list("debian", DISTRIBUTION_PULL, &options, "https://m.example/cache checked http://127.0.0.1:5000 https://registry-1.docker.io checked");
    list("debian", DISTRIBUTION_PUSH, &options, "https://registry-1.docker.io checked");
    list("r.example/x", DISTRIBUTION_PULL, &options, "https://r.example checked");
    strv_done(&options.mirrors);

    static const char *const bad[] = { "m.example", "ftp://m.example", "https://", "https:///x", "https://u:p@m.example", "https://m?x" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct image_ref ref = { .domain = (char *)"docker.io", .path = (char *)"library/x" };
        struct endpoints endpoints = { 0 };
        struct strv one = { 0 };
        strv_add(&one, bad[i]);
        options.mirrors = one;
        if (endpoints_make(&ref, DISTRIBUTION_PULL, &options, &endpoints, NULL) == 0)
            fail_msg("%s is taken", bad[i]);
        endpoints_done(&endpoints);
        strv_done(&one);
    }
}

static void certificates(void **state)
{
    char root[] = "/tmp/certs-XXXXXX";
    struct err err = { 0 };
    struct certs certs;
    assert_non_null(mkdtemp(root));
    _cleanup_close_ int fd = file_open_dir(AT_FDCWD, root, &err);
    assert_int_equal(file_mkdirs(fd, "127.0.0.1:5000", 0755, &err), 0);
    assert_int_equal(file_write_at(fd, "127.0.0.1:5000/ca.crt", "AUTHORITY", 9, 0644, false, &err), 0);
    assert_int_equal(file_write_at(fd, "127.0.0.1:5000/me.cert", "CERT", 4, 0644, false, &err), 0);
    assert_int_equal(certs_read(root, "127.0.0.1:5000", &certs, &err), -1);
    assert_non_null(strstr(err.message, "missing key me.key for client certificate me.cert"));
    assert_int_equal(file_write_at(fd, "127.0.0.1:5000/me.key", "KEY", 3, 0600, false, &err), 0);
    assert_int_equal(certs_read(root, "127.0.0.1:5000", &certs, &err), 0);
    assert_string_equal(certs.certificate, "CERT");
    assert_string_equal(certs.key, "KEY");
    assert_non_null(strstr(certs.authorities, "AUTHORITY"));
    certs_done(&certs);
    struct distribution_options options = { .certs_dir = root };
    list("127.0.0.1:5000/x", DISTRIBUTION_PULL, &options, "https://127.0.0.1:5000 checked"); // it is spoken to with them
    list("127.0.0.1:5001/x", DISTRIBUTION_PULL, &options, "http://127.0.0.1:5001 https://127.0.0.1:5001");
    file_remove_tree(AT_FDCWD, root, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(by_name), cmocka_unit_test(insecure), cmocka_unit_test(mirrors),
                                        cmocka_unit_test(certificates) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
