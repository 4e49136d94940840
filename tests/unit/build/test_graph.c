#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "build/graph.h"

static const struct build_args no_args = { .build_platform = "linux/amd64", .target_platform = "linux/amd64" };

static int make(const char *text, const char *target, struct arena *arena, struct graph **graph, struct dockerfile_place *place, struct err *err)
{
    struct dockerfile *file;
    struct scope *global = arena_alloc(arena, sizeof(*global));
    if (dockerfile_parse(slice_of(text), arena, &file, NULL, err) < 0 || scope_global(file, &no_args, arena, global, err) < 0)
        fail_msg("%s", err->message);
    return graph_make(file, global, target, arena, graph, place, err);
}

// "label<base[needs](images)" of the stages that are needed.
static void tell(const struct graph *graph, struct buf *out)
{
    static const char *const origins[] = { "stage", "scratch", "image" };
    for (size_t i = 0; i < graph->len; i++) {
        const struct graph_node *node = &graph->nodes[i];
        if (!node->needed)
            continue;
        buf_addf(out, "%s%s<%s:%s", out->size ? " " : "", node->label, origins[node->origin], node->base);
        for (size_t j = 0; j < node->needs_len; j++)
            buf_addf(out, "+%zu", node->needs[j]);
        for (size_t j = 0; j < node->images.len; j++)
            buf_addf(out, "+%s", node->images.items[j]);
        if (node->platform)
            buf_addf(out, "@%s", node->platform);
    }
}

static void shapes(void **state)
{
    static const struct {
        const char *text, *target, *nodes;
    } rows[] = {
        { "FROM a", NULL, "stage-0<image:a" },
        { "FROM a\nFROM scratch\nCOPY --from=0 x y", "", "stage-0<image:a stage-1<scratch:scratch+0" },
        { "FROM a AS b\nFROM c\nFROM b", NULL, "b<image:a stage-2<stage:b+0" },
        { "FROM a AS b\nFROM c AS d\nFROM b", "D", "d<image:c" },
        { "FROM a AS b\nFROM c AS d\nFROM b", "0", "b<image:a" },
        { "FROM a AS b\nFROM c AS d\nCOPY --from=B x y\nCOPY --from=b z y\nRUN --mount=from=nginx,target=/x y", "d", "b<image:a d<image:c+0+nginx" },
        { "FROM a\nRUN --mount=type=cache,target=/c x\nRUN --mount=from=0img,target=/y z", NULL, "stage-0<image:a+0img" },
        { "FROM a AS n\nFROM n AS n\nFROM n", NULL, "n<image:a n<stage:n+0 stage-2<stage:n+1" },
        { "ARG v=b\nFROM a AS b\nFROM $v\nFROM ${v}c:${TARGETARCH}", "1", "b<image:a stage-1<stage:b+0" },
        { "ARG v=b\nFROM --platform=$BUILDPLATFORM ${v}c:${TARGETARCH}", NULL, "stage-0<image:bc:amd64@linux/amd64" },
        { "FROM a AS a", NULL, "a<image:a" },
        { "FROM a\nCOPY --from=scratch x y", NULL, "stage-0<image:a" },
        { "FROM a AS x\nCOPY --from=y 1 2\nFROM b AS y\nFROM c", NULL, "stage-2<image:c" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena arena = ARENA_INIT;
        struct buf got = BUF_INIT(10000);
        struct graph *graph;
        struct err err;
        if (make(rows[i].text, rows[i].target, &arena, &graph, NULL, &err) < 0)
            fail_msg("%s: %s", rows[i].text, err.message);
        tell(graph, &got);
        assert_string_equal(buf_text(&got), rows[i].nodes);
        buf_done(&got);
        arena_done(&arena);
    }
}

static void wrong(void **state)
{
    static const struct {
        const char *text, *target, *message;
        unsigned line;
    } rows[] = {
        { "FROM a AS web", "wed", "target stage \"wed\" could not be found (did you mean web?)", 0 },
        { "FROM a AS web", "1", "target stage \"1\" could not be found", 0 },
        { "FROM a\nCOPY --from=1 x y", NULL, "invalid stage index 1", 2 },
        { "FROM a\nCOPY --from=0 x y", NULL, "circular dependency detected on stage: stage-0", 1 },
        { "FROM a AS b\nCOPY --from=b x y", NULL, "circular dependency detected on stage: b", 1 },
        { "FROM a AS b\nCOPY --from=c x y\nFROM a AS c\nRUN --mount=from=b,target=/x y", NULL, "circular dependency detected on stage: b", 1 },
        { "FROM a AS b\nCOPY --from=c x y\nFROM b AS c", NULL, "circular dependency detected on stage: b", 1 },
        { "FROM a AS b\nCOPY --from=c x y\nFROM a AS c\nFROM b", NULL, "cannot copy from stage \"c\", it needs to be defined before current stage \"b\"", 1 },
        { "FROM $no", NULL, "base name ($no) should not be blank", 1 },
        { "FROM ${no:?must}", NULL, "failed to process \"${no:?must}\": no: must", 1 },
        { "FROM --platform=$BULIDPLATFORM x", NULL, "empty platform value from expression $BULIDPLATFORM (did you mean BUILDPLATFORM?)", 1 },
        { "FROM --platform=a/b/c/d x", NULL, "failed to parse platform a/b/c/d: \"a/b/c/d\": invalid argument", 1 },
        { "FROM x\nFROM y\nCOPY --from=$a b c", NULL, "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround", 3 },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena arena = ARENA_INIT;
        struct graph *graph;
        struct dockerfile_place place;
        struct err err;
        if (make(rows[i].text, rows[i].target, &arena, &graph, &place, &err) == 0)
            fail_msg("%s passed", rows[i].text);
        assert_string_equal(err.message, rows[i].message);
        assert_int_equal(place.line, rows[i].line);
        arena_done(&arena);
    }
}

static void triggers(void **state)
{
    struct arena arena = ARENA_INIT;
    struct buf got = BUF_INIT(1000);
    struct graph *graph;
    struct instruction *copy;
    struct err err;
    assert_int_equal(make("FROM a AS one\nFROM b AS two\nFROM c AS three", NULL, &arena, &graph, NULL, &err), 0);
    assert_int_equal(dockerfile_parse_trigger("COPY --from=one x y", (struct dockerfile_place){ 3, 3, 1, false }, &arena, &copy, &err), 0);
    assert_int_equal(graph_add(graph, 2, copy, 1, &arena, &err), 1);
    assert_int_equal(graph_add(graph, 2, copy, 1, &arena, &err), 0);
    tell(graph, &got);
    assert_string_equal(buf_text(&got), "one<image:a three<image:c+0");
    assert_int_equal(dockerfile_parse_trigger("COPY --from=three x y", (struct dockerfile_place){ 1, 1, 1, false }, &arena, &copy, &err), 0);
    assert_int_equal(graph_add(graph, 0, copy, 1, &arena, &err), -1);
    assert_string_equal(err.message, "circular dependency detected on stage: one");
    buf_done(&got);
    arena_done(&arena);
}

// Four thousand stages, each on the one before.
static void a_long_chain(void **state)
{
    struct arena arena = ARENA_INIT;
    struct buf text = BUF_INIT(DOCKERFILE_SIZE_MAX);
    struct graph *graph;
    struct err err;
    buf_adds(&text, "FROM a AS s0\n");
    for (int i = 1; i < DOCKERFILE_STAGES_MAX; i++)
        buf_addf(&text, "FROM s%d AS s%d\nCOPY --from=s0 x y\n", i - 1, i);
    assert_int_equal(make(buf_text(&text), NULL, &arena, &graph, NULL, &err), 0);
    assert_int_equal(graph->needed_len, DOCKERFILE_STAGES_MAX);
    buf_done(&text);
    arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(shapes), cmocka_unit_test(wrong), cmocka_unit_test(triggers), cmocka_unit_test(a_long_chain) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
