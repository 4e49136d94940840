#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "build/scope.h"
#include "build/words.h"

static struct kv given_items[] = { { (char *)"given", (char *)"from client" }, { (char *)"HTTP_PROXY", (char *)"http://p" }, { (char *)"over", (char *)"client" },
                                   { (char *)"TARGETARCH", (char *)"riscv64" }, { (char *)"unknown", (char *)"x" },          { (char *)"nothing", NULL } };
static const struct build_args args = { .given = { given_items, ARRAY_LEN(given_items) }, .build_platform = "linux/amd64", .target_platform = "linux/arm64/v8" };

struct fixture {
    struct arena arena;
    struct dockerfile *file;
    struct scope global, stage;
};

static void start(struct fixture *f, const char *text)
{
    struct err err;
    *f = (struct fixture){ 0 };
    if (dockerfile_parse(slice_of(text), &f->arena, &f->file, NULL, &err) < 0 || scope_global(f->file, &args, &f->arena, &f->global, &err) < 0)
        fail_msg("%s", err.message);
}

// Through the last stage's instructions, as a build does.
static void run(struct fixture *f, const struct strv *env)
{
    const struct dockerfile_stage *stage = &f->file->stages[f->file->len - 1];
    scope_stage(&f->global, env, &f->stage);
    for (size_t i = 0; i < stage->len; i++) {
        struct words words = { .arena = &f->arena, .escape = '\\', .lookup = scope_lookup, .of = &f->stage };
        struct instruction expanded;
        struct err err;
        if (instruction_expand(&stage->instructions[i], &words, &expanded, &err) < 0 || scope_apply(&f->stage, &expanded, '\\', &err) < 0)
            fail_msg("%s", err.message);
    }
}

static void is(const struct scope *scope, const char *name, const char *value)
{
    const char *got = scope_lookup((void *)scope, name);
    if (!str_eq(got, value))
        fail_msg("%s is %s, not %s", name, got ? got : "unset", value ? value : "unset");
}

static void global(void **state)
{
    struct fixture f;
    start(&f, "ARG a=1 b=${a}2\nARG given=default over\nARG none nothing=dflt\nFROM x AS last\n");
    is(&f.global, "a", "1");
    is(&f.global, "b", "12");
    is(&f.global, "given", "from client");
    is(&f.global, "over", "client");
    is(&f.global, "none", NULL);
    is(&f.global, "nothing", "dflt");
    is(&f.global, "unknown", NULL);
    is(&f.global, "HTTP_PROXY", NULL);
    is(&f.global, "BUILDPLATFORM", "linux/amd64");
    is(&f.global, "BUILDOS", "linux");
    is(&f.global, "BUILDARCH", "amd64");
    is(&f.global, "BUILDVARIANT", "");
    is(&f.global, "TARGETPLATFORM", "linux/arm64/v8");
    is(&f.global, "TARGETARCH", "riscv64");
    is(&f.global, "TARGETVARIANT", "v8");
    is(&f.global, "TARGETSTAGE", "last");
    arena_done(&f.arena);
}

static void stages(void **state)
{
    struct fixture f;
    struct strv env = { 0 };
    start(&f, "ARG g=global h=hidden\nFROM x\nARG g\nARG TARGETARCH\nARG own=$g/$PATH given\nENV E=$own E2=$E\nENV E=new F=$E\nARG late=$F over=d\nARG E=arg\n");
    strv_push_arena(&env, &f.arena, "PATH=/bin");
    run(&f, &env);
    is(&f.stage, "g", "global");
    is(&f.stage, "h", NULL);
    is(&f.stage, "TARGETARCH", "riscv64");
    is(&f.stage, "BUILDARCH", NULL);
    is(&f.stage, "own", "global//bin");
    is(&f.stage, "given", "from client");
    is(&f.stage, "E2", ""); // the line saw E as it was before it
    is(&f.stage, "F", "global//bin");
    is(&f.stage, "late", "global//bin");
    is(&f.stage, "over", "client");
    is(&f.stage, "E", "arg");
    f.stage.env_wins = true;
    is(&f.stage, "E", "new");
    struct strv got;
    scope_run_env(&f.stage, &f.arena, &got);
    assert_string_equal(strv_env(&got, "E"), "new");
    assert_string_equal(strv_env(&got, "own"), "global//bin");
    assert_string_equal(strv_env(&got, "HTTP_PROXY"), "http://p");
    assert_null(strv_env(&got, "unknown"));
    scope_run_args(&f.stage, &f.arena, &got);
    assert_int_equal(got.len, 6);
    assert_string_equal(got.items[0], "TARGETARCH=riscv64");
    assert_string_equal(got.items[5], "own=global//bin");
    assert_false(strv_env(&got, "HTTP_PROXY"));
    // a copy goes its own way
    struct scope copy;
    scope_copy(&f.stage, &copy);
    strv_env_set(&copy.env, &f.arena, "E=other");
    is(&copy, "E", "other");
    is(&f.stage, "E", "new");
    arena_done(&f.arena);
}

static void an_env_after_its_arg(void **state)
{
    struct fixture f;
    struct strv got;
    start(&f, "FROM x\nARG over=a\nENV over=env\n");
    run(&f, NULL);
    is(&f.stage, "over", "env");
    scope_run_args(&f.stage, &f.arena, &got);
    assert_int_equal(got.len, 0);
    arena_done(&f.arena);
}

static void nobody_asked(void **state)
{
    struct fixture f;
    struct strv got;
    start(&f, "FROM x\nARG given\nFROM y\nARG over\n");
    scope_unused(f.file, &args, &f.arena, &got);
    assert_int_equal(got.len, 2);
    assert_string_equal(got.items[0], "nothing");
    assert_string_equal(got.items[1], "unknown");
    arena_done(&f.arena);
}

static void bounds(void **state)
{
    struct arena arena = ARENA_INIT;
    struct buf text = BUF_INIT(DOCKERFILE_SIZE_MAX);
    struct dockerfile *file;
    struct scope scope;
    struct err err;
    for (int i = 0; i < 400; i++) {
        buf_adds(&text, "ARG");
        for (int j = 0; j < 1000; j++)
            buf_addf(&text, " a%d", 1000 * i + j);
        buf_adds(&text, "\n");
    }
    buf_adds(&text, "FROM x\n");
    assert_int_equal(dockerfile_parse((struct slice){ text.data, text.size }, &arena, &file, NULL, &err), 0);
    assert_int_equal(scope_global(file, &args, &arena, &scope, &err), -1);
    assert_string_equal(err.message, "the Dockerfile has more than 8192 variables");
    buf_clear(&text);
    buf_adds(&text, "ARG a=0123456789\n"); // doubled until it is too long
    for (int i = 0; i < 100; i++)
        buf_adds(&text, "ARG a=$a$a\n");
    buf_adds(&text, "FROM x\n");
    assert_int_equal(dockerfile_parse((struct slice){ text.data, text.size }, &arena, &file, NULL, &err), 0);
    assert_int_equal(scope_global(file, &args, &arena, &scope, &err), -1);
    assert_string_equal(err.message, "the value of a is longer than 131071 bytes");
    buf_done(&text);
    arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(global), cmocka_unit_test(stages), cmocka_unit_test(an_env_after_its_arg), cmocka_unit_test(nobody_asked),
                                        cmocka_unit_test(bounds) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
