#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "image/image_private.h"

#define HEX64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define DIGEST "sha256:" HEX64
#define A127 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void valid_references(void **state)
{
    static const struct {
        const char *text, *key, *familiar, *familiar_name;
    } cases[] = {
        { "debian", "docker.io/library/debian:latest", "debian:latest", "debian" },
        { "debian:bookworm", "docker.io/library/debian:bookworm", "debian:bookworm", "debian" },
        { "library/debian", "docker.io/library/debian:latest", "debian:latest", "debian" },
        { "docker.io/debian", "docker.io/library/debian:latest", "debian:latest", "debian" },
        { "docker.io/library/debian:1", "docker.io/library/debian:1", "debian:1", "debian" },
        { "index.docker.io/debian", "docker.io/library/debian:latest", "debian:latest", "debian" },
        { "index.docker.io/me/x", "docker.io/me/x:latest", "me/x:latest", "me/x" },
        { "me/app:v1", "docker.io/me/app:v1", "me/app:v1", "me/app" },
        { "library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest", "library/a/b" },
        { "docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest", "docker.io/a.b/c" },
        { "docker.io/localhost/c", "docker.io/localhost/c:latest", "docker.io/localhost/c:latest", "docker.io/localhost/c" },
        { "localhost/x", "localhost/x:latest", "localhost/x:latest", "localhost/x" },
        { "localhost:5000/x:1", "localhost:5000/x:1", "localhost:5000/x:1", "localhost:5000/x" },
        { "127.0.0.1:5000/lib/bt:2", "127.0.0.1:5000/lib/bt:2", "127.0.0.1:5000/lib/bt:2", "127.0.0.1:5000/lib/bt" },
        { "[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest", "[::1]:5000/x" },
        { "[fe80::Ab]/x", "[fe80::Ab]/x:latest", "[fe80::Ab]/x:latest", "[fe80::Ab]/x" },
        { "Example.com/x", "Example.com/x:latest", "Example.com/x:latest", "Example.com/x" },
        { "UPPER/x", "UPPER/x:latest", "UPPER/x:latest", "UPPER/x" }, // no namespace has capitals: a domain
        { "a.b-c.d/e", "a.b-c.d/e:latest", "a.b-c.d/e:latest", "a.b-c.d/e" },
        { "a.b_c__d-e---f", "docker.io/library/a.b_c__d-e---f:latest", "a.b_c__d-e---f:latest", "a.b_c__d-e---f" },
        { "x:UP_per.-1", "docker.io/library/x:UP_per.-1", "x:UP_per.-1", "x" },
        { "x:_", "docker.io/library/x:_", "x:_", "x" },
        { "x:a" A127, "docker.io/library/x:a" A127, "x:a" A127, "x" },
        { "x@" DIGEST, "docker.io/library/x@" DIGEST, "x@" DIGEST, "x" },
        { "x:1@" DIGEST, "docker.io/library/x@" DIGEST, "x@" DIGEST, "x" },
        { "sha256:abc", "docker.io/library/sha256:abc", "sha256:abc", "sha256" },
        { HEX64 "a", "docker.io/library/" HEX64 "a:latest", HEX64 "a:latest", HEX64 "a" },
        { "me/" HEX64, "docker.io/me/" HEX64 ":latest", "me/" HEX64 ":latest", "me/" HEX64 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena arena = ARENA_INIT;
        struct image_ref ref;
        struct err err = { 0 };
        if (image_ref_parse(cases[i].text, true, &arena, &ref, &err) < 0)
            fail_msg("%s: %s", cases[i].text, err.message);
        assert_string_equal(image_ref_key(&ref, &arena), cases[i].key);
        assert_string_equal(ref.familiar, cases[i].familiar);
        assert_string_equal(ref.familiar_name, cases[i].familiar_name);
        arena_done(&arena);
    }
}

#define INVALID "invalid reference format"

static void invalid_references(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        { "", INVALID },
        { ":", INVALID },
        { "x:", INVALID },
        { ":x", INVALID },
        { "/x", INVALID },
        { "x/", INVALID },
        { "a//b", INVALID },
        { "-x", INVALID },
        { "x-", INVALID },
        { "x.", INVALID },
        { ".x", INVALID },
        { "_x", INVALID },
        { "a..b", INVALID },
        { "a___b", INVALID },
        { "a_-b", INVALID },
        { "a._b", INVALID },
        { "a b", INVALID },
        { "a\n", INVALID },
        { "\xc3\xa9", INVALID },
        { "x:a:b", INVALID },
        { "x:a/b", INVALID },
        { "x:.a", INVALID },
        { "x:-a", INVALID },
        { "x:aa" A127, INVALID },
        { "x:a b", INVALID },
        { "-a.b/x", INVALID },
        { "a.b-/x", INVALID },
        { "a..b/x", INVALID },
        { "a.b:/x", INVALID },
        { "a.b:1x/x", INVALID },
        { "a.b./x", INVALID },
        { "[::1/x", INVALID },
        { "[]:1/x", INVALID },
        { "[::1]x/y.", INVALID },
        { "a.b/", INVALID },
        { "a@b@c", INVALID },
        { "x@", INVALID },
        { "x@sha256", INVALID },
        { "x@sha256:", INVALID },
        { "x@sha256:zz", INVALID },
        { "x@sha256:abc", "invalid checksum digest length" },
        { "x@sha512:" HEX64 HEX64, "unsupported digest algorithm" },
        { "Foo", INVALID ": repository name (library/Foo) must be lowercase" },
        { "Foo:1", INVALID ": repository name (library/Foo) must be lowercase" },
        { "me/Foo", INVALID ": repository name (me/Foo) must be lowercase" },
        { "a.b/Foo/x:T", INVALID ": repository name (Foo/x) must be lowercase" },
        { HEX64, "invalid repository name (" HEX64 "), cannot specify 64-byte hexadecimal strings" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena arena = ARENA_INIT;
        struct image_ref ref;
        struct err err = { 0 };
        if (image_ref_parse(cases[i].text, true, &arena, &ref, &err) == 0)
            fail_msg("accepted: \"%s\" as %s", cases[i].text, ref.familiar);
        assert_string_equal(err.message, cases[i].message);
        assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
        arena_done(&arena);
    }
}

static void lengths_are_bounded(void **state)
{
    struct arena arena = ARENA_INIT;
    struct image_ref ref;
    struct err err;
    char text[4096];
    memset(text, 'a', sizeof(text));
    text[sizeof(text) - 1] = 0;
    assert_int_equal(image_ref_parse(text, true, &arena, &ref, &err), -1);
    assert_true(arena.used < 4096); // nothing is kept of it
    text[256] = 0;
    memcpy(text, "me/", 3);
    assert_int_equal(image_ref_parse(text, true, &arena, &ref, &err), -1);
    assert_string_equal(err.message, "repository name must not be more than 255 characters");
    text[255] = 0;
    assert_int_equal(image_ref_parse(text, true, &arena, &ref, &err), 0);
    arena_done(&arena);
}

static void no_tag_where_none_is_wanted(void **state)
{
    struct arena arena = ARENA_INIT;
    struct image_ref ref;
    assert_int_equal(image_ref_parse("debian", false, &arena, &ref, NULL), 0);
    assert_null(ref.tag);
    assert_string_equal(ref.familiar, "debian");
    assert_string_equal(ref.domain, "docker.io");
    assert_string_equal(ref.path, "library/debian");
    arena_done(&arena);
}

// The well-known answers: of the empty text, and of a chain as the image specification defines it.
static void digests_and_chains(void **state)
{
    char out[OCI_DIGEST_SIZE], chain[OCI_DIGEST_SIZE];
    image_digest("", 0, out);
    assert_string_equal(out, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    image_chain_id(NULL, DIGEST, chain);
    assert_string_equal(chain, DIGEST);
    image_chain_id(chain, DIGEST, chain);
    image_digest(DIGEST " " DIGEST, 2 * strlen(DIGEST) + 1, out);
    assert_string_equal(chain, out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_references),
        cmocka_unit_test(invalid_references),
        cmocka_unit_test(lengths_are_bounded),
        cmocka_unit_test(no_tag_where_none_is_wanted),
        cmocka_unit_test(digests_and_chains),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
