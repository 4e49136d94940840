// What is wrong with a file, in Docker's words, and where it is.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "build/dockerfile.h"

#define F "FROM scratch\n"
#define LINE2 "dockerfile parse error on line 2: "

static const struct {
    const char *text, *message;
    unsigned line, column;
    bool syntax;
} cases[] = {
    { "FRM scratch", "dockerfile parse error on line 1: unknown instruction: FRM (did you mean FROM?)", 1, 1, false },
    { F "  rnu x", LINE2 "unknown instruction: rnu (did you mean run?)", 2, 3, false },
    { F "NONSENSE x", LINE2 "unknown instruction: NONSENSE", 2, 1, false },
    { F "RUN a \\\n b \\\n c\nCPY a b", "dockerfile parse error on line 5: unknown instruction: CPY (did you mean COPY?)", 5, 1, false },
    { "", "the Dockerfile cannot be empty", 0, 0, false },
    { "\n", "file with no instructions", 1, 0, true },
    { "# only\n# comments", "file with no instructions", 2, 0, true },
    { "ARG a", "dockerfile contains no stages to build", 0, 0, false },
    { "RUN x\n" F, "no build stage in current context", 1, 1, false },
    // directives
    { "# escape=x\n" F, "invalid escape token 'x' does not match ` or \\", 1, 1, true },
    { "# escape=`\n# Escape=`\n" F, "only one escape parser directive can be used", 2, 1, true },
    // words
    { F "ENV a", "ENV must have two arguments", 2, 1, true },
    { F "LABEL a", "LABEL must have two arguments", 2, 1, true },
    { F "ENV a=b c", "Syntax error - can't find = in \"c\". Must be of the form: name=value", 2, 1, true },
    { F "RUN [\"a\", 1]", "when using JSON array syntax, arrays must be comprised of strings only", 2, 1, true },
    { F "COPY [\"a\", [\"b\"]]", "when using JSON array syntax, arrays must be comprised of strings only", 2, 1, true },
    { F "RUN <<EOF\na\n", "unterminated heredoc", 2, 0, true },
    { F "RUN <<EOF <<B\na\nEOF\nb\n", "unterminated heredoc", 2, 0, true },
    // counts
    { F "ENV", LINE2 "ENV requires at least one argument", 2, 1, false },
    { F "LABEL ", LINE2 "LABEL requires at least one argument", 2, 1, false },
    { F "ARG", LINE2 "ARG requires at least one argument", 2, 1, false },
    { F "EXPOSE", LINE2 "EXPOSE requires at least one argument", 2, 1, false },
    { F "VOLUME []", LINE2 "VOLUME requires at least one argument", 2, 1, false },
    { F "VOLUME [\"a\", \" \"]", LINE2 "VOLUME specified can not be an empty string", 2, 1, false },
    { F "SHELL []", LINE2 "SHELL requires at least one argument", 2, 1, false },
    { F "SHELL bash -c", LINE2 "SHELL requires the arguments to be in JSON form", 2, 1, false },
    { F "ONBUILD", LINE2 "ONBUILD requires at least one argument", 2, 1, false },
    { F "USER", LINE2 "USER requires exactly one argument", 2, 1, false },
    { F "WORKDIR", LINE2 "WORKDIR requires exactly one argument", 2, 1, false },
    { F "STOPSIGNAL", LINE2 "STOPSIGNAL requires exactly one argument", 2, 1, false },
    { F "MAINTAINER", LINE2 "MAINTAINER requires exactly one argument", 2, 1, false },
    { F "COPY a", LINE2 "COPY requires at least two arguments, but only one was provided. Destination could not be determined", 2, 1, false },
    { F "ADD [\"a\"]", LINE2 "ADD requires at least two arguments, but only one was provided. Destination could not be determined", 2, 1, false },
    { F "COPY a <<EOF\nEOF", LINE2 "COPY cannot accept a heredoc as a destination", 2, 1, false },
    { "FROM", "dockerfile parse error on line 1: FROM requires either one or three arguments", 1, 1, false },
    { "FROM a b", "dockerfile parse error on line 1: FROM requires either one or three arguments", 1, 1, false },
    { "FROM a AZ b", "dockerfile parse error on line 1: FROM requires either one or three arguments", 1, 1, false },
    { "FROM a AS 1b", "dockerfile parse error on line 1: invalid name for build stage: \"1b\", name can't start with a number or contain symbols", 1, 1, false },
    { "FROM a AS b$", "dockerfile parse error on line 1: invalid name for build stage: \"b$\", name can't start with a number or contain symbols", 1, 1, false },
    { F "ENV =b", LINE2 "ENV names can not be blank", 2, 1, false },
    { F "ARG =b", LINE2 "ARG names can not be blank", 2, 1, false },
    // flags
    { F "COPY --form=a b c", LINE2 "unknown flag: --form (did you mean from?)", 2, 1, false },
    { F "COPY --nosuch a b", LINE2 "unknown flag: --nosuch", 2, 1, false },
    { F "ADD --from=a b c", LINE2 "unknown flag: --from", 2, 1, false },
    { F "WORKDIR --x /a", LINE2 "unknown flag: --x", 2, 1, false },
    { F "COPY --from b c", LINE2 "missing a value on flag: --from", 2, 1, false },
    { F "COPY --link= b c", LINE2 "missing a value on flag: --link", 2, 1, false },
    { F "COPY --link=maybe b c", LINE2 "expecting boolean value for flag --link, not: maybe", 2, 1, false },
    { F "COPY --from=a --from=b b c", LINE2 "duplicate flag specified: --from", 2, 1, false },
    { F "RUN --network=x y", LINE2 "invalid network mode \"x\"", 2, 1, false },
    { F "RUN --security=x y", LINE2 "security \"x\" is not valid", 2, 1, false },
    { F "RUN --mount=from=$x,target=/y z", LINE2 "'from' doesn't support variable expansion, define alias stage instead", 2, 1, false },
    { F "RUN --mount=type=bind,a\\\"b y", LINE2 "failed to parse csv mounts: parse error on line 1, column 12: bare \" in non-quoted-field", 2, 1, false },
    { F "RUN --device=a,name=b y", LINE2 "device name already set to a", 2, 1, false },
    // HEALTHCHECK
    { F "HEALTHCHECK", LINE2 "HEALTHCHECK requires at least one argument", 2, 1, false },
    { F "HEALTHCHECK NONE a", LINE2 "HEALTHCHECK NONE takes no arguments", 2, 1, false },
    { F "HEALTHCHECK CMD", LINE2 "Missing command after HEALTHCHECK CMD", 2, 1, false },
    { F "HEALTHCHECK echo", LINE2 "Unknown type \"ECHO\" in HEALTHCHECK (try CMD)", 2, 1, false },
    { F "HEALTHCHECK --interval=5 CMD a", LINE2 "time: invalid duration \"5\"", 2, 1, false },
    { F "HEALTHCHECK --timeout=1us CMD a", LINE2 "Interval \"timeout\" cannot be less than 1ms", 2, 1, false },
    { F "HEALTHCHECK --retries=-1 CMD a", LINE2 "--retries cannot be negative (-1)", 2, 1, false },
    { F "HEALTHCHECK --retries=x CMD a", LINE2 "strconv.ParseInt: parsing \"x\": invalid syntax", 2, 1, false },
    // ONBUILD
    { F "ONBUILD ONBUILD RUN x", LINE2 "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", 2, 1, false },
    { F "ONBUILD from x", LINE2 "FROM isn't allowed as an ONBUILD trigger", 2, 1, false },
    { F "ONBUILD MAINTAINER x", LINE2 "MAINTAINER isn't allowed as an ONBUILD trigger", 2, 1, false },
};

static void messages(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena arena = ARENA_INIT;
        struct dockerfile *file;
        struct dockerfile_place place;
        struct err err = { 0 };
        if (dockerfile_parse(slice_of(cases[i].text), &arena, &file, &place, &err) == 0)
            fail_msg("%s passed", cases[i].text);
        assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
        assert_string_equal(err.message, cases[i].message);
        if (place.line != cases[i].line || place.column != cases[i].column || place.syntax != cases[i].syntax)
            fail_msg("%s: %u:%u %d", cases[i].text, place.line, place.column, place.syntax);
        arena_done(&arena);
    }
}

static void excerpts(void **state)
{
    static const char text[] = "# one\n# two\n\nFROM a\nRUN b \\\n  c\n  CPY x y\nRUN d\n\nRUN e\nRUN f\n";
    struct buf out = BUF_INIT(10000);
    dockerfile_excerpt(slice_of(text), "Dockerfile", (struct dockerfile_place){ 7, 7, 3, false }, &out);
    assert_string_equal(buf_text(&out), "Dockerfile:7:3\n--------------------\n   4 |     FROM a\n   5 |     RUN b \\\n   6 |       c\n   7 | >>>   CPY x y\n"
                                        "     |       ^\n   8 |     RUN d\n   9 |     \n  10 |     RUN e\n--------------------\n");
    buf_clear(&out);
    dockerfile_excerpt(slice_of(text), "a/b", (struct dockerfile_place){ 10, 11, 0, false }, &out);
    assert_string_equal(buf_text(&out), "a/b:10\n--------------------\n   7 |       CPY x y\n   8 |     RUN d\n   9 |     \n  10 | >>> RUN e\n  11 | >>> RUN f\n--------------------\n");
    buf_clear(&out);
    dockerfile_excerpt(slice_of(text), "x", (struct dockerfile_place){ 0 }, &out);
    assert_int_equal(out.size, 0);
    buf_done(&out);
}

static void refused(const char *text, size_t size, const char *message)
{
    struct arena arena = ARENA_INIT;
    struct dockerfile *file;
    struct dockerfile_place place;
    struct err err = { 0 };
    assert_int_equal(dockerfile_parse((struct slice){ text, size }, &arena, &file, &place, &err), -1);
    assert_string_equal(err.message, message);
    arena_done(&arena);
}

static void bounds(void **state)
{
    size_t size = DOCKERFILE_SIZE_MAX + 1;
    char *text = mem_alloc(size);
    refused("FROM a\nRUN \0b\n", 14, "the Dockerfile has a NUL byte on line 2");
    memset(text, 'x', size);
    refused(text, size, "the Dockerfile is larger than 4 MiB");
    refused(text, 70000, "dockerfile line greater than max allowed size of 65535");
    memset(text, '\\', 60000);
    for (size_t i = 0; i + 7 <= size - 1; i += 7)
        memcpy(text + i, "FROM a\n", 7);
    refused(text, size - 1 - (size - 1) % 7, "the Dockerfile has more than 4096 stages");
    memcpy(text, "FROM a\n", 7);
    for (size_t i = 7; i + 6 <= size - 1; i += 6)
        memcpy(text + i, "CMD a\n", 6);
    refused(text, 7 + 6 * 70000, "the Dockerfile has more than 65536 instructions");
    free(text);
}

// A million ARGs, a giant heredoc and ten thousand continuations are no trouble.
static void large(void **state)
{
    struct arena arena = ARENA_INIT;
    struct dockerfile *file;
    struct buf text = BUF_INIT(DOCKERFILE_SIZE_MAX);
    struct err err;
    buf_adds(&text, "FROM a\nARG");
    for (int i = 0; i < 30000; i++)
        buf_adds(&text, " a");
    buf_adds(&text, "\nRUN x");
    for (int i = 0; i < 10000; i++)
        buf_adds(&text, " \\\n y");
    buf_adds(&text, "\nCOPY <<E /x\n");
    for (int i = 0; i < 1000000; i++)
        buf_adds(&text, "z");
    buf_adds(&text, "\nE\nCMD a\n");
    if (dockerfile_parse((struct slice){ text.data, text.size }, &arena, &file, NULL, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(file->stages[0].len, 4);
    assert_int_equal(file->stages[0].instructions[0].pairs.len, 30000);
    assert_int_equal(strlen(file->stages[0].instructions[2].copy.files[0].content), 1000001);
    buf_done(&text);
    arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(messages), cmocka_unit_test(excerpts), cmocka_unit_test(bounds), cmocka_unit_test(large) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
