#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "registry/registry_private.h"

#include <cmocka.h>

static void names(void **state)
{
    static const char *const good[] = { "a", "debian", "library/debian", "a.b", "a_b", "a__b", "a-b", "a--b", "a/b/c/d", "0" };
    static const char *const bad[] = { "", "/a", "a/", "a//b", "A", "a..b", "a___b", "-a", "a-", "a.", "a b", "a/../b", ".", "ä", "a:b" };
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (!name_valid(good[i]))
            fail_msg("%s is refused", good[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (name_valid(bad[i]))
            fail_msg("\"%s\" is taken", bad[i]);
}

static void long_names(void **state)
{
    char name[NAME_SIZE_MAX + 2];
    memset(name, 'a', sizeof(name));
    name[NAME_SIZE_MAX + 1] = 0;
    assert_false(name_valid(name));
    name[NAME_SIZE_MAX] = 0;
    assert_true(name_valid(name));
}

static void tags(void **state)
{
    char tag[130];
    static const char *const good[] = { "latest", "1.0", "_a", "A-b.c_D" };
    static const char *const bad[] = { "", ".a", "-a", "a b", "a/b", "a:b", "ä" };
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (!tag_valid(good[i]))
            fail_msg("%s is refused", good[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (tag_valid(bad[i]))
            fail_msg("\"%s\" is taken", bad[i]);
    memset(tag, 'a', sizeof(tag));
    tag[129] = 0;
    assert_false(tag_valid(tag));
    tag[128] = 0;
    assert_true(tag_valid(tag));
}

#define SHA256_OF_NOTHING "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void digests(void **state)
{
    char path[BLOB_PATH_SIZE], digest[DIGEST_SIZE];
    static const char *const bad[] = { "", "sha256", "sha256:", ":" SHA256_OF_NOTHING, "md5:" SHA256_OF_NOTHING,
                                       "sha512:" SHA256_OF_NOTHING, "sha256:" SHA256_OF_NOTHING "0", "sha256:../../../../etc/passwd",
                                       "SHA256:" SHA256_OF_NOTHING,
                                       "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (digest_valid(bad[i]))
            fail_msg("\"%s\" is taken", bad[i]);
    assert_true(digest_valid("sha256:" SHA256_OF_NOTHING));
    digest_path("sha256:" SHA256_OF_NOTHING, path);
    assert_string_equal(path, "blobs/sha256/" SHA256_OF_NOTHING);

    digest_hash_end(digest_hash_new("sha256:whatever"), digest);
    assert_string_equal(digest, "sha256:" SHA256_OF_NOTHING);
    struct digest_hash *hash = digest_hash_new("sha512");
    assert_true(digest_hash_is(hash, "sha512:x"));
    assert_false(digest_hash_is(hash, "sha256:x"));
    digest_hash_add(hash, "abc", 3);
    digest_hash_end(hash, digest);
    assert_true(digest_valid(digest));
    assert_true(str_starts(digest, "sha512:ddaf35a193617aba"));
    assert_null(digest_hash_new("md5"));
}

int main(void)
{
    const struct CMUnitTest cases[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(long_names),
        cmocka_unit_test(tags),
        cmocka_unit_test(digests),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
