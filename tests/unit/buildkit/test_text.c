// What a client says in texts: a .dockerignore's lines, a frontend's attributes, the classic stream.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "buildkit/buildkit_private.h"

static const struct {
    const char *text, *patterns; // joined by a blank
} ignores[] = {
    { "", "" },
    { "\n\n  \n#x\n", "" },
    { "a\n b \n#c\n # d\n", "a b # d" },
    { "/a/b/\n./c//d/../e\n../f\n/../g\na/../..\n", "a/b c/e ../f g .." },
    { "!keep\n! /also/\n!\n", "!keep !also" },
    { "\xef\xbb\xbf*.o\r\n**/tmp", "*.o **/tmp" },
    { ".", "." },
    { "/", "/" },
};

static void test_ignore(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(ignores); i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        _cleanup_buf_ struct buf joined = BUF_INIT(1000);
        struct strv patterns = { 0 };
        ignore_patterns(slice_of(ignores[i].text), &arena, &patterns);
        for (size_t j = 0; j < patterns.len; j++)
            buf_addf(&joined, j ? " %s" : "%s", patterns.items[j]);
        assert_string_equal(buf_text(&joined), ignores[i].patterns);
    }
}

static int read_one(struct arena *arena, const char *name, const char *value, struct buildkit_build *out, struct err *err)
{
    struct kv pair = { (char *)name, (char *)value };
    const struct kvs attributes = { &pair, 1 };
    *out = (struct buildkit_build){ 0 };
    *err = (struct err){ 0 };
    struct asked asked = { 0 };
    return attributes_read(&attributes, arena, out, &asked, err);
}

static void test_attributes(void **state)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct buildkit_build build;
    struct err err;
    assert_int_equal(read_one(&arena, "build-arg:A", "b=c", &build, &err), 0);
    assert_string_equal(kvs_get(&build.args, "A"), "b=c");
    assert_int_equal(read_one(&arena, "label:x:y", "z", &build, &err), 0);
    assert_string_equal(kvs_get(&build.labels, "x:y"), "z");
    assert_int_equal(read_one(&arena, "add-hosts", "a=1.2.3.4,\"b=::1\"", &build, &err), 0);
    assert_int_equal(build.extra_hosts.len, 2);
    assert_string_equal(build.extra_hosts.items[1], "b:::1");
    assert_int_equal(read_one(&arena, "shm-size", "65536", &build, &err), 0);
    assert_int_equal(build.shm_size, 65536);
    assert_int_equal(read_one(&arena, "ulimit", "nofile=1:2,nproc=3", &build, &err), 0);
    assert_string_equal(build.ulimits.items[1], "nproc=3");
    assert_int_equal(read_one(&arena, "no-cache", "", &build, &err), 0);
    assert_true(build.no_cache);
    assert_int_equal(read_one(&arena, "no-cache", "one,two", &build, &err), 0);
    assert_true(!build.no_cache && build.no_cache_stages.len == 2);
    assert_int_equal(read_one(&arena, "image-resolve-mode", "local", &build, &err), 0);
    assert_false(build.pull);
    assert_int_equal(read_one(&arena, "attest:provenance", "mode=min,inline-only=true", &build, &err), 0);
}

static const struct {
    const char *name, *value, *says;
    enum err_class class;
} refusals[] = {
    { "platform", "a/1,a/2,a/3,a/4,a/5,a/6,a/7,a/8,a/9,a/10,a/11,a/12,a/13,a/14,a/15,a/16,a/17", "more than 16 platforms", ERR_INVALID_ARGUMENT },
    { "context:base", "input:x", "input:x", ERR_NOT_IMPLEMENTED },
    { "attest:sbom", "odd=1", "odd=1 is not supported", ERR_NOT_IMPLEMENTED },
    { "attest:provenance", "mode=odd", "invalid mode", ERR_INVALID_ARGUMENT },
    { "attest:provenance", "filename=x", "filename=x is not supported", ERR_NOT_IMPLEMENTED },
    { "attest:odd", "", "unknown attestation type", ERR_INVALID_ARGUMENT },
    { "something-new", "1", "something-new", ERR_NOT_IMPLEMENTED },
};

static void test_refusals(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct buildkit_build build;
        struct err err;
        assert_int_equal(read_one(&arena, refusals[i].name, refusals[i].value, &build, &err), -1);
        assert_int_equal(err.class, refusals[i].class);
        assert_non_null(strstr(err.message, refusals[i].says));
    }
}

// The stream's events, decoded, as one line.
static void say(struct stream *stream, const char *key, const char *text)
{
    _cleanup_json_ json_t *object = json_pack("{s:s}", key, text);
    stream_take(stream, object);
}

static void test_stream(void **state)
{
    struct buildkit *buildkit;
    struct buildkit_config config = { 0 };
    struct err err = { 0 };
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    assert_int_equal(buildkit_new(&config, &buildkit, &err), 0);
    struct solve solve = { .buildkit = buildkit, .events = BUF_INIT(EVENTS_MAX) };
    struct stream stream = { .solve = &solve };
    say(&stream, "stream", "lost: there is no step yet\n");
    say(&stream, "stream", "Step 1/2 : FROM scratch\n");
    say(&stream, "stream", " ---> 0123456789ab\n");
    say(&stream, "stream", "Step 2/2 : RUN make\n");
    say(&stream, "stream", " ---> Using cache\n");
    say(&stream, "stream", "hello\n");
    err_set(&err, ERR_INTERNAL, "broke");
    step_end(&stream.step, &err);
    struct status_response all;
    assert_int_equal(proto_decode((struct slice){ solve.events.data, solve.events.size }, &status_response_table, &arena, &all, &err), 0);
    const struct vertex *vertexes = all.vertexes.items;
    const struct vertex_log *logs = all.logs.items;
    assert_int_equal(all.vertexes.len, 4);
    assert_string_equal(vertexes[0].name, "[1/2] FROM scratch");
    assert_true(vertexes[0].completed_ns == 0 && vertexes[1].completed_ns >= vertexes[0].started_ns);
    assert_string_equal(vertexes[1].digest, vertexes[0].digest);
    assert_string_not_equal(vertexes[2].digest, vertexes[0].digest);
    assert_true(vertexes[3].cached);
    assert_string_equal(vertexes[3].error, "broke");
    assert_int_equal(all.logs.len, 1);
    assert_memory_equal(logs[0].message.data, "hello\n", 6);
    buf_done(&solve.events);
    buildkit_free(buildkit);
}

static void say_of(struct stream *stream, int stage, const char *key, const char *text, const char *label)
{
    _cleanup_json_ json_t *object = json_pack("{s:s, s:i}", key, text, "stage", stage);
    if (label)
        json_object_set_new(object, "label", json_string(label));
    stream_take(stream, object);
}

static const struct vertex *last_named(const struct status_response *all, const char *name)
{
    const struct vertex *vertexes = all->vertexes.items, *found = NULL;
    for (size_t i = 0; i < all->vertexes.len; i++)
        if (strcmp(vertexes[i].name, name) == 0)
            found = &vertexes[i];
    assert_non_null(found);
    return found;
}

// Two stages side by side: one fails, the other is cancelled for it, a third was put down before.
static void test_stages(void **state)
{
    struct buildkit *buildkit;
    struct buildkit_config config = { 0 };
    struct err err = { 0 };
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    assert_int_equal(buildkit_new(&config, &buildkit, &err), 0);
    struct solve solve = { .buildkit = buildkit, .events = BUF_INIT(EVENTS_MAX) };
    struct stream stream = { .solve = &solve };
    say_of(&stream, 0, "stream", "Step 1/6 : FROM a\n", "a 1/2");
    say_of(&stream, 3, "stream", "Step 5/6 : FROM b\n", "b 1/2");
    say_of(&stream, 1, "stream", "Step 3/6 : FROM c\n", "c 1/2");
    say_of(&stream, 1, "end", "waits", NULL);
    say_of(&stream, 3, "stream", "of b\n", NULL);
    say_of(&stream, 0, "stream", "of a\n", NULL);
    say_of(&stream, 5000, "stream", "nobody's\n", NULL);
    say_of(&stream, 3, "end", "failed", NULL);
    say_of(&stream, 0, "end", "cancelled", NULL);
    err_set(&err, ERR_INTERNAL, "broke");
    stream_end(&stream, &err);
    struct status_response all;
    assert_int_equal(proto_decode((struct slice){ solve.events.data, solve.events.size }, &status_response_table, &arena, &all, &err), 0);
    const struct vertex_log *logs = all.logs.items;
    assert_int_equal(all.vertexes.len, 6);
    assert_string_equal(last_named(&all, "[b 1/2] FROM b")->error, "broke");
    assert_string_equal(last_named(&all, "[a 1/2] FROM a")->error, "context canceled");
    assert_true(str_empty(last_named(&all, "[c 1/2] FROM c")->error) && last_named(&all, "[c 1/2] FROM c")->completed_ns > 0);
    assert_int_equal(all.logs.len, 2);
    assert_string_equal(logs[0].vertex, last_named(&all, "[b 1/2] FROM b")->digest);
    assert_string_equal(logs[1].vertex, last_named(&all, "[a 1/2] FROM a")->digest);
    buf_done(&solve.events);
    buildkit_free(buildkit);
}

// Three megabytes of one step: two are told, and that they are cut.
static void test_log_limit(void **state)
{
    struct buildkit *buildkit;
    struct buildkit_config config = { 0 };
    char text[10001];
    assert_int_equal(buildkit_new(&config, &buildkit, NULL), 0);
    struct solve solve = { .buildkit = buildkit, .events = BUF_INIT(EVENTS_MAX) };
    struct step step;
    step_start(&step, &solve, "much");
    memset(text, 'x', 10000);
    text[10000] = 0;
    for (int i = 0; i < 300; i++)
        step_log(&step, slice_of(text));
    step_end(&step, NULL);
    assert_true(solve.events.size > STEP_LOG_MAX && solve.events.size < STEP_LOG_MAX + 100000);
    assert_non_null(memmem(solve.events.data, solve.events.size, "log limit 2MiB", 14));
    buf_done(&solve.events);
    buildkit_free(buildkit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ignore), cmocka_unit_test(test_attributes), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_stages), cmocka_unit_test(test_log_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
