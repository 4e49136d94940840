#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>

#include "api/api_private.h"

static void parse(struct arena *arena, const char *const *keys, const char *text, struct filters *out)
{
    struct err err = { 0 };
    if (filters_parse(text, keys, arena, out, &err) < 0)
        fail_msg("%s: %s", text, err.message);
}

static void test_both_forms(void **state)
{
    static const char *const texts[] = { "{\"name\":[\"a\",\"b\"]}", "{\"name\":{\"a\":true,\"b\":true}}" };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct filters filters;
        parse(&arena, container_filter_keys, texts[i], &filters);
        const struct strv *values = filters_get(&filters, "name");
        assert_non_null(values);
        assert_int_equal(values->len, 2);
        assert_true(strv_has(values, "a") && strv_has(values, "b"));
        assert_null(filters_get(&filters, "id"));
    }
}

static void test_what_is_refused(void **state)
{
    static const char *const texts[] = { "{", "[]", "\"x\"", "{\"nosuch\":[\"x\"]}", "{\"name\":3}", "{\"name\":[3]}" };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct filters filters;
        struct err err = { 0 };
        assert_int_equal(filters_parse(texts[i], container_filter_keys, &arena, &filters, &err), -1);
        assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
        if (strstr(texts[i], "nosuch"))
            assert_string_equal(err.message, "invalid filter 'nosuch'");
    }
}

static void test_values_that_are_refused(void **state)
{
    static const char *const texts[] = { "{\"status\":[\"nosuch\"]}", "{\"exited\":[\"x\"]}", "{\"health\":[\"x\"]}",
                                         "{\"publish\":[\"x/tcp\"]}", "{\"expose\":[\"90-80\"]}", "{\"publish\":[\"80/x\"]}" };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct filters filters;
        parse(&arena, container_filter_keys, texts[i], &filters);
        if (container_filters_check(&filters, NULL) == 0)
            fail_msg("%s passes", texts[i]);
    }
}

static struct kv label = { (char *)"kind", (char *)"a" };
static struct engine_mount mount = { .type = (char *)"volume", .name = (char *)"vol", .source = (char *)"/v/vol/_data",
                                     .destination = (char *)"/data" };
static struct engine_port ports[] = { { (char *)"0.0.0.0", (char *)"tcp", 8080, 80 }, { NULL, (char *)"udp", 0, 53 } };

static void test_containers(void **state)
{
    static const struct {
        const char *filters;
        bool fits;
    } cases[] = {
        { "", true },
        { "{\"name\":[\"web\"]}", true },
        { "{\"name\":[\"/web1\"]}", true },
        { "{\"name\":[\"^/web1$\"]}", true },
        { "{\"name\":[\"^eb\"]}", false },
        { "{\"name\":[\"x\",\"web\"]}", true },
        { "{\"id\":[\"abc\"]}", true },
        { "{\"id\":[\"^bc\"]}", false },
        { "{\"label\":[\"kind\"]}", true },
        { "{\"label\":[\"kind=a\"]}", true },
        { "{\"label\":[\"kind=b\"]}", false },
        { "{\"label\":[\"kind\",\"other\"]}", false },
        { "{\"status\":[\"running\"]}", true },
        { "{\"status\":[\"exited\",\"created\"]}", false },
        { "{\"exited\":[\"0\"]}", false },
        { "{\"ancestor\":[\"bb\"]}", true },
        { "{\"ancestor\":[\"other\"]}", false },
        { "{\"volume\":[\"vol\"]}", true },
        { "{\"volume\":[\"/data\"]}", true },
        { "{\"volume\":[\"nosuch\"]}", false },
        { "{\"network\":[\"bridge\"]}", true },
        { "{\"network\":[\"none\"]}", false },
        { "{\"publish\":[\"8080\"]}", true },
        { "{\"publish\":[\"8000-9000/tcp\"]}", true },
        { "{\"publish\":[\"8080/udp\"]}", false },
        { "{\"publish\":[\"80\"]}", false },
        { "{\"expose\":[\"80\"]}", true },
        { "{\"expose\":[\"53/udp\"]}", true },
        { "{\"expose\":[\"53\"]}", false },
        { "{\"health\":[\"none\"]}", true },
        { "{\"health\":[\"healthy\"]}", false },
        { "{\"is-task\":[\"true\"]}", false },
        { "{\"is-task\":[\"false\"]}", true },
        { "{\"name\":[\"web\"],\"label\":[\"kind=b\"]}", false },
    };
    struct engine_endpoint endpoint = { .network = (char *)"bridge", .network_id = (char *)"11" };
    const struct engine_container container = {
        .endpoints = &endpoint, .endpoint_len = 1,
        .id = (char *)"abcdef", .name = (char *)"web1", .status = (char *)"running", .running = true,
        .image_name = (char *)"bb", .image_id = (char *)"sha256:11", .labels = { &label, 1 }, .network = (char *)"bridge",
        .mounts = &mount, .mount_len = 1, .ports = ports, .port_len = ARRAY_LEN(ports), .started_ns = 1,
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct filters filters;
        bool fits;
        struct err err = { 0 };
        parse(&arena, container_filter_keys, cases[i].filters, &filters);
        const struct container_query query = { .filters = &filters, .arena = &arena };
        if (container_fits(&query, &container, &fits, &err) < 0 || fits != cases[i].fits)
            fail_msg("%s: %d %s", cases[i].filters, fits, err.message);
    }
}

// On a stack of a connection's size: a pattern must not be able to end the daemon.
static void *match_patterns(void *context)
{
    static const char *const refused[] = { "((a{1,250}){1,250}){1,250}", "a{1,30000}", "(",
                                           "(.*)\\\\1", "a{2}b{2}" };
    bool *good = context;
    for (size_t i = 0; i < ARRAY_LEN(refused) + 1; i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct filters filters;
        struct err err = { 0 };
        char deep[600] = { 0 };
        bool fits;
        memset(deep, '(', 400);
        char *text = arena_printf(&arena, "{\"name\":[\"%s\"]}", i < ARRAY_LEN(refused) ? refused[i] : deep);
        *good = *good && filters_parse(text, container_filter_keys, &arena, &filters, &err) == 0 &&
                filters_match(&filters, "name", "x", &fits, &err) < 0 && err.class == ERR_INVALID_ARGUMENT;
    }
    return NULL;
}

static void test_patterns_are_bounded(void **state)
{
    pthread_attr_t attributes;
    pthread_t thread;
    bool good = true;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 128 << 10);
    assert_int_equal(pthread_create(&thread, &attributes, match_patterns, &good), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
    assert_true(good);
}

static void test_globs(void **state)
{
    static const struct {
        const char *pattern, *text;
        bool fits;
    } cases[] = {
        { "debian", "debian", true },       { "debian", "debian:12", false }, { "deb*", "debian", true },
        { "*", "debian", true },            { "*", "a/b", false },            { "*/*", "a/b", true },
        { "a*b*c", "axxbyyc", true },       { "a*b*c", "axxbyy", false },     { "d?bian", "debian", true },
        { "a?b", "a/b", false },            { "[a-d]ebian", "debian", true }, { "[^d]ebian", "debian", false },
        { "[!d]ebian", "febian", true },    { "[d", "d", false },             { "x\\*", "x*", true },
        { "x\\*", "xy", false },            { "", "", true },                 { "", "a", false },
        { "a*/b", "ax/b", true },           { "*a/b", "xa/xa/b", false },     { "[]]", "]", true },
        { "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (glob_match(cases[i].pattern, cases[i].text) != cases[i].fits)
            fail_msg("%s against %s", cases[i].text, cases[i].pattern);
}

static void test_events(void **state)
{
    static const struct {
        const char *filters;
        bool fits;
    } cases[] = {
        { "", true },
        { "{\"type\":[\"container\"]}", true },
        { "{\"type\":[\"image\"]}", false },
        { "{\"event\":[\"exec_create\"]}", true },
        { "{\"event\":[\"start\"]}", false },
        { "{\"container\":[\"web1\"]}", true },
        { "{\"container\":[\"abc\"]}", true },
        { "{\"container\":[\"web\"]}", true }, // the beginning of its name
        { "{\"container\":[\"eb1\"]}", false },
        { "{\"network\":[\"bridge\"]}", false },
        { "{\"image\":[\"bb\"]}", true },
        { "{\"image\":[\"bb:1\"]}", true },
        { "{\"image\":[\"cc\"]}", false },
        { "{\"label\":[\"kind=a\"]}", true },
        { "{\"label\":[\"kind=b\"]}", false },
        { "{\"container\":[\"web1\"],\"event\":[\"start\"]}", false },
    };
    struct kv attributes[] = { { (char *)"name", (char *)"web1" }, { (char *)"image", (char *)"bb:1" }, label };
    const struct engine_event event = { "container", "exec_create: sh", "abcdef", { attributes, ARRAY_LEN(attributes) }, 1 };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct filters filters;
        parse(&arena, event_filter_keys, cases[i].filters, &filters);
        if (event_fits(&filters, &event) != cases[i].fits)
            fail_msg("%s", cases[i].filters);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_forms),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_values_that_are_refused),
        cmocka_unit_test(test_containers),
        cmocka_unit_test(test_patterns_are_bounded),
        cmocka_unit_test(test_globs),
        cmocka_unit_test(test_events),
    };
    return cmocka_run_group_tests_name("api_filters", tests, NULL, NULL);
}
