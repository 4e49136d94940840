#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "distribution/distribution_private.h"

#include <cmocka.h>

#define DIGEST(c) "sha256:" c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c c
#define ENTRY(c, platform) "{\"mediaType\":\"" MEDIA_OCI_MANIFEST "\",\"digest\":\"" DIGEST(c) "\",\"size\":1,\"platform\":{" platform "}}"

static const char text[] =
    "{\"schemaVersion\":2,\"manifests\":["
    "{\"mediaType\":\"" MEDIA_OCI_MANIFEST "\",\"digest\":\"" DIGEST("ee") "\",\"size\":1,\"annotations\":{\"vnd.docker.reference.type\":"
    "\"attestation-manifest\"},\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}},"
    ENTRY("a1", "\"os\":\"linux\",\"architecture\":\"amd64\"") ","
    ENTRY("a5", "\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v5\"") ","
    ENTRY("a7", "\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v7\"") ","
    ENTRY("a8", "\"os\":\"linux\",\"architecture\":\"arm64\",\"variant\":\"v8\"") ","
    ENTRY("b1", "\"os\":\"windows\",\"architecture\":\"amd64\"") "]}";

static void expect(const char *architecture, const char *variant, const char *digest)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct oci_index index;
    struct oci_descriptor got;
    struct err err = { 0 };
    const struct oci_platform wanted = { .os = (char *)"linux", .architecture = (char *)architecture, .variant = (char *)variant };
    assert_int_equal(json_decode_text(&oci_index_table, text, strlen(text), &index, &arena, NULL, &err), 0);
    int result = distribution_choose(&index, &wanted, &got, &err);
    if (!digest) {
        assert_int_equal(result, -1);
        assert_non_null(strstr(err.message, "no matching manifest for linux/"));
        return;
    }
    assert_int_equal(result, 0);
    assert_string_equal(got.digest, digest);
}

static void platforms(void **state)
{
    expect("amd64", NULL, DIGEST("a1"));
    expect("arm", NULL, DIGEST("a7"));
    expect("arm", "v7", DIGEST("a7"));
    expect("arm", "v6", DIGEST("a5"));
    expect("arm64", NULL, DIGEST("a8"));
    expect("arm64", "v8", DIGEST("a8"));
    expect("s390x", NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(platforms) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
