#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include "distribution/distribution_private.h"

#include <cmocka.h>

static struct challenge parse(const char *text, struct arena *arena)
{
    return challenge_parse(slice_of(text), arena);
}

static void of_docker_hub(void **state)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct challenge got = parse("Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\","
                                 "scope=\"repository:library/debian:pull,push\",error=\"invalid_token\"", &arena);
    assert_int_equal(got.kind, CHALLENGE_BEARER);
    assert_string_equal(got.realm, "https://auth.docker.io/token");
    assert_string_equal(got.service, "registry.docker.io");
    assert_string_equal(got.scope, "repository:library/debian:pull,push");
    assert_string_equal(got.error, "invalid_token");
}

static void several_schemes(void **state)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct challenge got = parse("Negotiate, Basic realm=\"a, b\", BEARER Realm = x", &arena);
    assert_int_equal(got.kind, CHALLENGE_BASIC); // "Realm = x" is no pair: a bearer without a realm is none
    got = parse("Basic realm=\"with \\\" and , inside\", bearer REALM=http://h/t, service=s", &arena);
    assert_int_equal(got.kind, CHALLENGE_BASIC); // an unquoted URL is no token
    got = parse("Basic realm=\"with \\\" and , inside\", bearer REALM=\"http://h/t\" , service=s", &arena);
    assert_int_equal(got.kind, CHALLENGE_BEARER);
    assert_string_equal(got.realm, "http://h/t");
    assert_string_equal(got.service, "s");
    got = parse("Digest realm=\"x\", qop=\"auth\", Basic realm=\"y\"", &arena);
    assert_int_equal(got.kind, CHALLENGE_BASIC);
    assert_string_equal(got.realm, "y");
}

static void nonsense(void **state)
{
    static const char *const bad[] = { "", " ", ",,,", "Bearer", "Bearer realm", "Bearer realm=", "Bearer realm=\"", "Bearer realm=\"x",
                                       "\"", "=", "Bearer realm=\"\"", "Bearer =x", "\xff\xfe", "Negotiate abc==" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        if (parse(bad[i], &arena).kind != CHALLENGE_NONE)
            fail_msg("\"%s\" is taken", bad[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(of_docker_hub), cmocka_unit_test(several_schemes),
                                        cmocka_unit_test(nonsense) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
