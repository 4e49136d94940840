#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "archive_maker.h"

static json_t *import_config(struct run *run)
{
    _cleanup_buf_ struct buf text = BUF_INIT(1 << 20);
    const char *digest = json_get_text(json_array_get(run->images, 0), "config_digest", "sha256:");
    char path[128], found[72];
    snprintf(path, sizeof(path), "blobs/%s", digest + 7);
    assert_int_equal(file_read_at(run->staging.fd, path, &text, NULL), 0);
    digest_of(&text, found);
    assert_string_equal(found, digest);
    return json_loads(buf_text(&text), 0, NULL);
}

static void import_root(struct run *run, const struct transfer_import *options)
{
    _cleanup_buf_ struct buf root = BUF_INIT(TAR_MAX);
    make_layer(&root, "bin/sh", "#!");
    run_start(run, &root, options);
}

static void test_import(void **state)
{
    struct transfer_import options = { .reference = "made:1", .message = "by hand", .platform = "linux/arm64/v8" };
    struct run run;
    setenv("SOURCE_DATE_EPOCH", "1700000000", 1);
    import_root(&run, &options);
    unsetenv("SOURCE_DATE_EPOCH");
    if (run.result < 0)
        fail_msg("%s", run.err.message);
    const json_t *image = json_array_get(run.images, 0);
    assert_string_equal(json_string_value(json_array_get(json_object_get(image, "references"), 0)), "made:1");
    _cleanup_json_ json_t *config = import_config(&run);
    assert_string_equal(json_get_text(config, "created", ""), "2023-11-14T22:13:20Z");
    assert_string_equal(json_get_text(config, "architecture", ""), "arm64");
    assert_string_equal(json_get_text(config, "variant", ""), "v8");
    assert_string_equal(json_get_text(config, "os", ""), "linux");
    assert_string_equal(json_get_text(json_array_get(json_object_get(config, "history"), 0), "comment", ""), "by hand");
    const json_t *rootfs = json_object_get(config, "rootfs");
    assert_string_equal(json_string_value(json_array_get(json_object_get(rootfs, "diff_ids"), 0)),
                        json_get_text(json_array_get(json_object_get(image, "layers"), 0), "diff_id", "?"));
    run_done(&run);
}

// One change (lines of a small Dockerfile) and what it makes of a member of the config.
static void test_changes(void **state)
{
    static const struct {
        const char *change, *member, *expected;
    } cases[] = {
        { "CMD [\"a\", \"b c\"]", "Cmd", "[\"a\",\"b c\"]" },
        { "cmd echo $HOME", "Cmd", "[\"/bin/sh\",\"-c\",\"echo $HOME\"]" },
        { "CMD [\"a\", 'b']", "Cmd", "[\"/bin/sh\",\"-c\",\"[\\\"a\\\", 'b']\"]" },
        { "STOPSIGNAL ${n:-9}", "StopSignal", "\"9\"" },
        { "ENV a=x.tar.gz\nLABEL b=${a%%.*}", "Labels", "{\"b\":\"x\"}" },
        { "ENTRYPOINT [\"/x\"]", "Entrypoint", "[\"/x\"]" },
        { "ENV a=1 b=\"2 3\" c=4\\ 5 d='$a'", "Env", "[\"a=1\",\"b=2 3\",\"c=4 5\",\"d=$a\"]" },
        { "ENV a rest of  line", "Env", "[\"a=rest of  line\"]" },
        { "ENV a=1\nENV a=2 b=$a", "Env", "[\"a=2\",\"b=1\"]" },
        { "ENV a=1\nENV b=${a}x c=${n:-d} d=${a:+e} e=${n+f} f=\\$a g=${a:-${n}}", "Env",
          "[\"a=1\",\"b=1x\",\"c=d\",\"d=e\",\"e=\",\"f=$a\",\"g=1\"]" },
        { "# comment\n\nENV a=1 \\\n  b=2\n", "Env", "[\"a=1\",\"b=2\"]" },
        { "EXPOSE 80 53/UDP 8000-8002/tcp 80/tcp", "ExposedPorts",
          "{\"53/udp\":{},\"80/tcp\":{},\"8000/tcp\":{},\"8001/tcp\":{},\"8002/tcp\":{}}" },
        { "LABEL a=b \"c d\"=e\nLABEL a=f", "Labels", "{\"a\":\"f\",\"c d\":\"e\"}" },
        { "ENV u=app\nUSER $u:1", "User", "\"app:1\"" },
        { "ENV v=b\nVOLUME /a /$v", "Volumes", "{\"/a\":{},\"/b\":{}}" },
        { "VOLUME [\"/a\", \"/b c\"]", "Volumes", "{\"/a\":{},\"/b c\":{}}" },
        { "WORKDIR /a/./b\nWORKDIR ../c", "WorkingDir", "\"/a/c\"" },
        { "WORKDIR ..", "WorkingDir", "\"/\"" },
        { "WORKDIR x", "WorkingDir", "\"/x\"" },
        { "ONBUILD RUN make", "OnBuild", "[\"RUN make\"]" },
        { "HEALTHCHECK NONE", "Healthcheck", "{\"Test\":[\"NONE\"]}" },
        { "HEALTHCHECK --interval=1m30s --timeout=1.5s --retries=3 CMD curl x", "Healthcheck",
          "{\"Test\":[\"CMD-SHELL\",\"curl x\"],\"Interval\":90000000000,\"Timeout\":1500000000,\"Retries\":3}" },
        { "HEALTHCHECK CMD [\"/ok\"]", "Healthcheck", "{\"Test\":[\"CMD\",\"/ok\"]}" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *changes[] = { (char *)(uintptr_t)cases[i].change, NULL };
        struct transfer_import options = { .changes = { changes, 1 } };
        struct run run;
        import_root(&run, &options);
        if (run.result < 0)
            fail_msg("%s: %s", cases[i].change, run.err.message);
        _cleanup_json_ json_t *config = import_config(&run);
        json_t *member = json_object_get(json_object_get(config, "config"), cases[i].member);
        _cleanup_free_ char *text = json_dumps(member, JSON_COMPACT | JSON_ENCODE_ANY);
        if (!str_eq(text, cases[i].expected))
            fail_msg("%s: %s is %s, not %s", cases[i].change, cases[i].member, text ? text : "absent", cases[i].expected);
        run_done(&run);
    }
}

static void test_refused(void **state)
{
    static const struct {
        const char *change, *platform, *message;
    } cases[] = {
        { "RUN make", NULL, "RUN is not a valid change command" },
        { "CMD [\"a\", 1]", NULL, "arrays must be comprised of strings only" },
        { "CMD", NULL, "CMD requires at least one argument" },
        { "ENV a", NULL, "ENV must have two arguments" },
        { "ENV a=1 b", NULL, "can't find =" },
        { "ENV =1", NULL, "names can not be blank" },
        { "ENV a=\"b", NULL, "looking for matching double-quote" },
        { "LABEL a=${b", NULL, "missing '}'" },
        { "LABEL a=${b:-c", NULL, "missing '}'" },
        { "LABEL a=${b^c}", NULL, "unsupported modifier (^) in substitution" },
        { "EXPOSE 70000", NULL, "invalid containerPort: 70000" },
        { "EXPOSE 90-80", NULL, "invalid containerPort" },
        { "EXPOSE 80/http", NULL, "invalid proto" },
        { "USER", NULL, "USER requires exactly one argument" },
        { "VOLUME [\"\"]", NULL, "can not be an empty string" },
        { "ONBUILD FROM x", NULL, "FROM isn't allowed as an ONBUILD trigger" },
        { "HEALTHCHECK --interval=1 CMD x", NULL, "invalid duration \"1\"" },
        { "HEALTHCHECK --interval=1ns CMD x", NULL, "cannot be less than 1ms" },
        { "HEALTHCHECK --fast CMD x", NULL, "unknown flag: --fast" },
        { "HEALTHCHECK CMD", NULL, "Missing command after HEALTHCHECK CMD" },
        { "CMD x", "windows/amd64", "operating system is not supported: windows" },
        { "CMD x", "linux/a/b/c", "invalid platform" },
        { "CMD x", "linux//", "invalid platform" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *changes[] = { (char *)(uintptr_t)cases[i].change, NULL };
        struct transfer_import options = { .platform = cases[i].platform, .changes = { changes, 1 } };
        struct run run;
        import_root(&run, &options);
        assert_int_equal(run.result, -1);
        if (!strstr(run.err.message, cases[i].message))
            fail_msg("%s: \"%s\" has no \"%s\"", cases[i].change, run.err.message, cases[i].message);
        assert_int_equal(run.err.class, ERR_INVALID_ARGUMENT);
        run_done(&run);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_import),
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
