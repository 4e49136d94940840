#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/num.h"
#include "client/flags.h"

static const struct flag rows[] = {
    FLAG("all", 'a', FLAG_BOOL, "?all", ""),
    FLAG("quiet", 'q', FLAG_BOOL, NULL, ""),
    FLAG("proxy", 0, FLAG_BOOL, NULL, "", .fallback = "true"),
    FLAG("name", 'n', FLAG_TEXT, "Name", ""),
    FLAG("time", 't', FLAG_INT, "?t", ""),
    FLAG("memory", 'm', FLAG_BYTES, "HostConfig.Memory", ""),
    FLAG("swap", 0, FLAG_BYTES, "HostConfig.MemorySwap", "", .fallback = "-1"),
    FLAG("cpus", 0, FLAG_CPUS, "HostConfig.NanoCpus", ""),
    FLAG("interval", 0, FLAG_DURATION, "Healthcheck.Interval", ""),
    FLAG("env", 'e', FLAG_LIST, "Env", ""),
    FLAG("label", 'l', FLAG_MAP, "Labels", ""),
    FLAG("alias", 0, FLAG_COMMAS, "Aliases", ""),
    FLAG("filter", 'f', FLAG_FILTER, NULL, ""),
    FLAG("trust", 0, FLAG_BOOL, NULL, "", .fallback = "true", .refused = "no"),
    FLAG("count", 0, FLAG_INT, NULL, "", .refused = "only there"),
};
static const struct flag_tables tables = { { rows, NULL }, { ARRAY_LEN(rows), 0 } };

struct parsed {
    struct arena arena;
    struct flags flags;
    struct strv args;
    bool help;
    int result;
    struct err err;
};

// A line's words, parted by blanks.
static void parse(struct parsed *out, const char *line, bool leading)
{
    char *argv[32];
    int argc = 0;
    struct slice word, rest = slice_of(line);
    *out = (struct parsed){ 0 };
    out->flags.arena = &out->arena;
    while (slice_cut(&rest, ' ', &word) && argc < 32)
        argv[argc++] = arena_strndup(&out->arena, word.data, word.size);
    out->result = flags_parse(&out->flags, &tables, argv, argc, leading, &out->args, &out->help, &out->err);
}

static void forms_of_values(void **state)
{
    static const struct {
        const char *line, *name;
    } lines[] = { { "-n x", "x" }, { "-nx", "x" }, { "-n=x", "x" }, { "--name x", "x" }, { "--name=x", "x" }, { "--name=", "" },
                  { "-aqnx", "x" }, { "-aq -n x", "x" }, { "--name a --name b", "b" }, { "--name --all", "--all" }, { "-n -", "-" } };
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct parsed got;
        parse(&got, lines[i].line, false);
        if (got.result < 0)
            fail_msg("%s: %s", lines[i].line, got.err.message);
        assert_string_equal(flag_text(&got.flags, "name"), lines[i].name);
        arena_done(&got.arena);
    }
}

static void where_arguments_begin(void **state)
{
    struct parsed got;
    parse(&got, "a -q b --all -- -x --name", false);
    assert_int_equal(got.args.len, 4);
    assert_true(flag_on(&got.flags, "quiet") && flag_on(&got.flags, "all") && !flag_set(&got.flags, "name"));
    arena_done(&got.arena);
    parse(&got, "-q image ls -a", true);
    assert_int_equal(got.args.len, 3);
    assert_false(flag_set(&got.flags, "all"));
    arena_done(&got.arena);
    parse(&got, "-", false);
    assert_int_equal(got.args.len, 1);
    arena_done(&got.arena);
}

static void into_a_body_and_a_query(void **state)
{
    struct parsed got;
    struct buf query = BUF_INIT(4096);
    json_t *body = json_object();
    parse(&got, "-n web -m 1.5g --swap -1 --cpus .5 --interval 1m30s -e A=1 -e B -l x=y=z -l k --alias a,b --alias c -a -t -1 -f x=y", false);
    assert_int_equal(got.result, 0);
    flags_to_body(&got.flags, body);
    flags_to_query(&got.flags, &query);
    char *text = json_text(body);
    assert_string_equal(text, "{\"Name\":\"web\",\"HostConfig\":{\"Memory\":1610612736,\"MemorySwap\":-1,\"NanoCpus\":500000000},"
                              "\"Healthcheck\":{\"Interval\":90000000000},\"Env\":[\"A=1\",\"B\"],\"Labels\":{\"x\":\"y=z\",\"k\":\"\"},"
                              "\"Aliases\":[\"a\",\"b\",\"c\"]}");
    assert_string_equal(buf_text(&query), "?all=1&t=-1");
    json_t *filters = flags_filters(&got.flags, "filter");
    char *filter_text = json_text(filters);
    assert_string_equal(filter_text, "{\"x\":{\"y\":true}}");
    free(filter_text);
    json_decref(filters);
    free(text);
    json_decref(body);
    buf_done(&query);
    arena_done(&got.arena);
}

static void what_is_wrong(void **state)
{
    static const struct {
        const char *line, *message;
    } lines[] = {
        { "--nosuch", "unknown flag: --nosuch" },
        { "--nosuch=1", "unknown flag: --nosuch" },
        { "-x", "unknown shorthand flag: 'x' in -x" },
        { "-ax", "unknown shorthand flag: 'x' in -x" },
        { "--name", "flag needs an argument: --name" },
        { "-an", "flag needs an argument: 'n' in -n" },
        { "---x", "bad flag syntax: ---x" },
        { "--=x", "bad flag syntax: --=x" },
        { "-m x", "invalid argument \"x\" for \"-m, --memory\" flag: invalid size: 'x'" },
        { "-m -1", "invalid argument \"-1\" for \"-m, --memory\" flag: invalid size: '-1'" },
        { "--cpus 1x", "invalid argument \"1x\" for \"--cpus\" flag: failed to parse 1x as a rational number" },
        { "-t 1x", "invalid argument \"1x\" for \"-t, --time\" flag: strconv.ParseInt: parsing \"1x\": invalid syntax" },
        { "--all=x", "invalid argument \"x\" for \"-a, --all\" flag: strconv.ParseBool: parsing \"x\": invalid syntax" },
        { "--interval 1", "invalid argument \"1\" for \"--interval\" flag: time: invalid duration \"1\"" },
        { "-f x", "invalid argument \"x\" for \"-f, --filter\" flag: bad format of filter (expected name=value)" },
        { "--trust=false", "--trust: no" },
        { "--count 2", "--count: only there" },
    };
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct parsed got;
        parse(&got, lines[i].line, false);
        assert_int_equal(got.result, -1);
        assert_string_equal(got.err.message, lines[i].message);
        arena_done(&got.arena);
    }
}

static void help_and_booleans(void **state)
{
    struct parsed got;
    parse(&got, "-q --help --nosuch", false);
    assert_true(got.help && got.result == 0);
    arena_done(&got.arena);
    parse(&got, "--proxy=false --all=1 --trust=true", false);
    assert_true(flag_set(&got.flags, "proxy") && !flag_on(&got.flags, "proxy") && flag_on(&got.flags, "all"));
    arena_done(&got.arena);
}

static void numbers(void **state)
{
    static const struct {
        const char *text;
        int64_t bytes; // -1: wrong
    } sizes[] = { { "0", 0 }, { "10", 10 }, { "10b", 10 }, { "10k", 10240 }, { "10KB", 10240 }, { "10KiB", 10240 }, { "1.5m", 1572864 }, { "1 g", 1073741824 },
                  { "2T", INT64_C(2) << 40 }, { "", -1 }, { "k", -1 }, { "-1", -1 }, { "1x", -1 }, { "1kk", -1 }, { "0x10", -1 }, { "1e3", 1000 }, { "9e99", -1 }, { "1.k", -1 } };
    static const struct {
        const char *text;
        int64_t ns;
    } times[] = { { "1s", 1000000000 }, { "1h2m3s", INT64_C(3723000000000) }, { "100ms", 100000000 }, { "1.5s", 1500000000 }, { "0", 0 }, { "-1s", -1000000000 },
                  { "5", INT64_MIN }, { "", INT64_MIN }, { "1d", INT64_MIN }, { "s", INT64_MIN }, { "1s1", INT64_MIN } };
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        int64_t got = -1;
        if (num_parse_bytes(sizes[i].text, &got) != (sizes[i].bytes >= 0) || got != sizes[i].bytes)
            fail_msg("%s gave %lld", sizes[i].text, (long long)got);
    }
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        int64_t got = INT64_MIN;
        if (num_parse_duration(times[i].text, &got) != (times[i].ns != INT64_MIN) || got != times[i].ns)
            fail_msg("%s gave %lld", times[i].text, (long long)got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms_of_values), cmocka_unit_test(where_arguments_begin), cmocka_unit_test(into_a_body_and_a_query),
        cmocka_unit_test(what_is_wrong),   cmocka_unit_test(help_and_booleans),     cmocka_unit_test(numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
