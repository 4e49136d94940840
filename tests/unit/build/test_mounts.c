#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "build/dockerfile.h"
#include "build/step.h"
#include "build/words.h"

static const char *lookup(void *of, const char *name)
{
    return str_eq(name, "t") ? "cache" : str_eq(name, "v") ? "value" : NULL;
}

// RUN with one mount, expanded: its text or its error.
static void check(const char *mount, const char *expected)
{
    struct arena arena = ARENA_INIT;
    struct buf got = BUF_INIT(10000);
    struct dockerfile *file;
    struct instruction run;
    struct err err = { 0 };
    struct words words = { .arena = &arena, .escape = '\\', .lookup = lookup };
    char *text = arena_printf(&arena, "FROM scratch\nRUN --mount=%s x", mount);
    if (dockerfile_parse(slice_of(text), &arena, &file, NULL, &err) == 0 && instruction_expand(&file->stages[0].instructions[0], &words, &run, &err) == 0)
        step_text(&run, &got);
    else
        buf_adds(&got, err.message);
    const char *tail = str_starts(buf_text(&got), "RUN shell=\"x\" ") ? buf_text(&got) + 14 : buf_text(&got);
    assert_string_equal(tail, expected);
    buf_done(&got);
    arena_done(&arena);
}

static void mounts(void **state)
{
    static const char *const rows[][2] = {
        { "target=/a", "mount{type=bind target=\"/a\" ro}" },
        { "type=bind,source=/s,from=st,dst=/a", "mount{type=bind from=\"st\" source=\"/s\" target=\"/a\" ro}" },
        { "type=BIND,destination=/a,rw", "mount{type=bind target=\"/a\"}" },
        { "target=/a,readwrite=false", "mount{type=bind target=\"/a\" ro}" },
        { "target=/a,ro=0", "mount{type=bind target=\"/a\"}" },
        { "TARGET=/a,Type=cache", "mount{type=cache target=\"/a\"}" },
        { "type=cache,target=/c,id=x,sharing=locked,mode=0755,uid=1,gid=2,ro", "mount{type=cache target=\"/c\" id=\"x\" sharing=\"locked\" ro mode=493 uid=1 gid=2}" },
        { "type=cache,target=/c,sharing=Private,from=st,source=/s", "mount{type=cache from=\"st\" source=\"/s\" target=\"/c\" sharing=\"private\"}" },
        { "type=tmpfs,target=/t,size=64m", "mount{type=tmpfs target=\"/t\" size=67108864}" },
        { "type=secret,id=s", "mount{type=secret id=\"s\" ro}" },
        { "type=secret,id=s,target=/x,required,mode=0444", "mount{type=secret target=\"/x\" id=\"s\" ro required mode=292}" },
        { "type=secret,id=s,env=A,required=true", "mount{type=secret id=\"s\" env=\"A\" ro required}" },
        { "type=secret,src=s", "mount{type=secret source=\"s\" ro}" },
        { "type=ssh", "mount{type=ssh ro}" },
        { "type=ssh,id=k,target=/x,required=false,uid=7", "mount{type=ssh target=\"/x\" id=\"k\" ro uid=7}" },
        { "type=$t,target=/${v}x,id=${v:+y}", "mount{type=cache target=\"/valuex\" id=\"y\"}" },
        { "'type=cache,\"target=/a,b\"'", "mount{type=cache target=\"/a,b\"}" },
        // wrong
        { "type=bnd,target=/a", "unsupported mount type \"bnd\" (did you mean bind?)" },
        { "type=volume,target=/a", "unsupported mount type \"volume\"" },
        { "tagret=/a", "unexpected key 'tagret' in 'tagret=/a' (did you mean target?)" },
        { "target", "invalid field 'target' must be a key=value pair" },
        { "target=/a,ro=maybe", "invalid value for ro: maybe" },
        { "target=/a,required", "unexpected key 'required' for mount type 'bind'" },
        { "type=cache,target=/a,size=1m", "unexpected key 'size' for mount type 'cache'" },
        { "type=tmpfs,target=/a,size=x", "invalid value for size: x" },
        { "type=cache,target=/a,sharing=lockd", "unsupported sharing value \"lockd\" (did you mean locked?)" },
        { "type=cache,target=/a,mode=9", "invalid value 9 for mode" },
        { "type=cache,target=/a,uid=-1", "invalid value -1 for uid" },
        { "type=cache,target=/a,gid=4294967296", "invalid value 4294967296 for gid" },
        { "target=/a,mode=0", "mode not allowed for \"bind\" type mounts" },
        { "type=tmpfs,target=/a,uid=0", "uid not allowed for \"tmpfs\" type mounts" },
        { "target=/a,gid=0", "gid not allowed for \"bind\" type mounts" },
        { "type=secret", "invalid secret mount. one of source, target required" },
        { "type=secret,id=a,from=b", "secret mount should not have a from" },
        { "type=secret,id=a,sharing=shared", "secret mount should not define sharing" },
        { "type=secret,id=a,source=b", "both source and id can't be set" },
        { "type=ssh,sharing=shared", "invalid cache sharing set for ssh mount" },
        { "type=cache,target=${v", "failed to process \"${v\": syntax error: missing '}'" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check(rows[i][0], rows[i][1]);
}

static void wrong_ports(void **state)
{
    static const char *const rows[][2] = {
        { "x", "invalid containerPort: x" }, { "65536", "invalid containerPort: 65536" }, { "2-1", "invalid containerPort: 2-1" }, { "80/icmp", "invalid port: \"80/icmp\": invalid proto: icmp" },
        { "/tcp", "invalid port: \"/tcp\": no port specified" }, { "x:80", "invalid hostPort: x" }, { "1.2.3:1:80", "invalid IP address: 1.2.3" },
        { "1-3:80-81", "invalid ranges specified for container and host Ports: 1-3:80-81" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena arena = ARENA_INIT;
        struct strv words = { 0 }, out;
        struct err err;
        strv_push_arena(&words, &arena, rows[i][0]);
        assert_int_equal(expose_ports(&words, &arena, &out, &err), -1);
        assert_string_equal(err.message, rows[i][1]);
        arena_done(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(mounts), cmocka_unit_test(wrong_ports) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
