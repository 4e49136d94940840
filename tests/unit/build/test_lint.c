// What each rule says, and where; the same files without the fault say nothing.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "build/lint.h"

static const struct build_args args = { .build_platform = "linux/amd64", .target_platform = "linux/amd64" };

struct fixture {
    struct arena arena;
    struct lint_report report;
    struct buf told; // "line Rule: detail" of each
};

static const struct strv *base_env(void *of, size_t stage, const char *image)
{
    static char item[] = "FROMBASE=1";
    static char *items[] = { item, NULL };
    static const struct strv env = { .items = items, .len = 1 };
    return str_eq(image, "known") ? &env : NULL;
}

static void lint(struct fixture *f, const char *text, const char *ignored, const char *target)
{
    struct dockerfile *file;
    struct ignore *ignore = NULL;
    struct err err;
    *f = (struct fixture){ .told = BUF_INIT(100000) };
    if (dockerfile_parse(slice_of(text), &f->arena, &file, NULL, &err) < 0 || (ignored && ignore_parse(slice_of(ignored), &f->arena, &ignore, &err) < 0))
        fail_msg("%s: %s", text, err.message);
    struct lint_input input = { .args = &args, .target = target, .ignore = ignore, .base_env = base_env };
    if (lint_run(file, &input, &f->arena, &f->report, &err) < 0)
        fail_msg("%s: %s", text, err.message);
    for (size_t i = 0; i < f->report.len; i++)
        buf_addf(&f->told, "%s%u %s: %s", i ? "\n" : "", f->report.items[i].place.line, f->report.items[i].rule->name, f->report.items[i].detail);
}

static void done(struct fixture *f)
{
    buf_done(&f->told);
    arena_done(&f->arena);
}

static void check(const char *text, const char *ignored, const char *told)
{
    struct fixture f;
    lint(&f, text, ignored, NULL);
    assert_string_equal(buf_text(&f.told), told);
    done(&f);
}

#define F "FROM scratch\n"

static void rules(void **state)
{
    static const char *const rows[][2] = {
        { "FROM scratch AS Web", "1 StageNameCasing: Stage name 'Web' should be lowercase" },
        { "FROM scratch as web", "1 FromAsCasing: 'as' and 'FROM' keywords' casing do not match" },
        { "from scratch AS web", "1 FromAsCasing: 'AS' and 'from' keywords' casing do not match" },
        { "from scratch as web", "" },
        { "FROM scratch AS web", "" },
        { F "COPY a \\\n\n b", "4 NoEmptyContinuation: Empty continuation line" },
        { F "copy a b\nCOPY a b", "2 ConsistentInstructionCasing: Command 'copy' should match the case of the command majority (uppercase)" },
        { "from scratch\ncopy a b\nCopy a b", "3 ConsistentInstructionCasing: Command 'Copy' should match the case of the command majority (lowercase)" },
        { "FROM scratch AS b\nFROM scratch AS b", "2 DuplicateStageName: Duplicate stage name \"b\", stage names should be unique" },
        { "FROM scratch AS context", "1 ReservedStageName: Stage name should not use the same name as reserved stage \"context\"" },
        { F "CMD a b", "2 JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals" },
        { F "ENTRYPOINT a", "2 JSONArgsRecommended: JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals" },
        { F "CMD [\"a\"]", "" },
        { F "SHELL [\"sh\"]\nCMD a", "" },
        { F "MAINTAINER me", "2 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label" },
        { "ARG foo=x\nFROM $fooo AS a", "2 InvalidDefaultArgInFrom: Default value for ARG $fooo results in empty or invalid base image name\n"
                                         "2 UndefinedArgInFrom: FROM argument 'fooo' is not declared (did you mean foo?)" },
        { "ARG foo\nFROM x:$foo", "2 InvalidDefaultArgInFrom: Default value for ARG x:$foo results in empty or invalid base image name" },
        { "ARG foo=1\nFROM x:$foo", "" },
        { "ARG foo\nFROM x:${foo:-1}", "" },
        { "FROM Upper", "1 InvalidDefaultArgInFrom: Default value for ARG Upper results in empty or invalid base image name" },
        { F "WORKDIR a\nWORKDIR b", "2 WorkdirRelativePath: Relative workdir \"a\" can have unexpected results if the base image changes" },
        { F "WORKDIR /a\nWORKDIR b", "" },
        { "FROM scratch AS a\nWORKDIR /x\nFROM a\nWORKDIR b", "" },
        { F "COPY $foo /x", "2 UndefinedVar: Usage of undefined variable '$foo'" },
        { F "ARG foo\nCOPY $foo /x", "" },
        { F "ENV DIR_BIN=1\nCOPY $DIRBIN ${DIR_BIN} /", "3 UndefinedVar: Usage of undefined variable '$DIRBIN' (did you mean $DIR_BIN?)" },
        { F "COPY $PATH /", "" },
        { F "ARG a=$b", "2 UndefinedVar: Usage of undefined variable '$b'" },
        { F "ARG b=1 a=$b", "" },
        { F "RUN echo $foo", "" },
        { F "RUN --mount=type=cache,target=/$foo x", "2 UndefinedVar: Usage of undefined variable '$foo'" },
        { F "COPY <<E <<'G' /\n$foo\nE\n$bar\nG", "2 UndefinedVar: Usage of undefined variable '$foo'" },
        { "FROM known\nCOPY $FROMBASE $FROMBASS /", "2 UndefinedVar: Usage of undefined variable '$FROMBASS' (did you mean $FROMBASE?)" },
        { "FROM unknown\nCOPY $FROMBASE /", "" },
        { F "CMD [\"a\"]\nCMD [\"b\"]", "2 MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used" },
        { F "HEALTHCHECK NONE\nHEALTHCHECK CMD x", "2 MultipleInstructionsDisallowed: Multiple HEALTHCHECK instructions should not be used in the same stage because only the last one will be used" },
        { "FROM scratch AS a\nCMD [\"a\"]\nFROM a\nCMD [\"b\"]", "" },
        { F "ENV a b", "2 LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format" },
        { F "LABEL a b", "2 LegacyKeyValueFormat: \"LABEL key=value\" should be used instead of legacy \"LABEL key value\" format" },
        { "FROM --platform=$TARGETPLATFORM scratch", "1 RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior" },
        { "FROM --platform=${BUILDPLATFORM} scratch", "" },
        { "FROM --platform=linux/arm64 scratch", "1 FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value \"linux/arm64\"" },
        { "FROM --platform=linux/arm64 scratch AS for-arm64", "" },
        { F "ENV SECRET_X=1 my_PassWD=2\nARG API_KEY", "2 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV \"SECRET_X\")\n"
                                              "2 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV \"my_PassWD\")\n"
                                              "3 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"API_KEY\")" },
        { F "ENV PUBLIC_KEY=1 KEYS=2 TOKEN_FILE=3 MONKEY=4 _=5", "" },
        { F "EXPOSE 80/TcP", "2 ExposeProtoCasing: Defined protocol '80/TcP' in EXPOSE instruction should be lowercase" },
        { F "EXPOSE 8080:80 127.0.0.1:1:1", "2 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:1:1'\n"
                                            "2 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '8080:80'" },
        { F "EXPOSE 80/tcp 90-91", "" },
        // said or not said
        { "# check=skip=JSONArgsRecommended,MaintainerDeprecated\n" F "CMD a\nMAINTAINER me\nWORKDIR a", "5 WorkdirRelativePath: Relative workdir \"a\" can have unexpected results if the base image changes" },
        { "# check=skip=all\n" F "CMD a\nMAINTAINER me", "" },
        { F "# check=skip=JSONArgsRecommended\nCMD a\nENTRYPOINT a", "4 JSONArgsRecommended: JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals" },
        { "# check=experimental=InvalidDefinitionDescription\n# bad words\nARG foo=1\n# foo good words\nARG foo=1\n# far\nARG a b\n#\nARG c\n# BasE x\nFROM scratch AS base",
          "3 InvalidDefinitionDescription: Comment for ARG should follow the format: `# foo <description>`\n"
          "7 InvalidDefinitionDescription: Comment for ARG should follow the format: `# <arg_key> <description>`\n"
          "11 InvalidDefinitionDescription: Comment for FROM should follow the format: `# base <description>`" },
        { "# bad words\nARG foo=1\n" F, "" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check(rows[i][0], NULL, rows[i][1]);
}

static void ignored_files(void **state)
{
    static const char *const rows[][3] = {
        { F "COPY Dockerfile .\nADD Dockerfile /x", "Dockerfile\n", "2 CopyIgnoredFile: Attempting to Copy file \"Dockerfile\" that is excluded by .dockerignore\n"
                                                        "3 CopyIgnoredFile: Attempting to Add file \"Dockerfile\" that is excluded by .dockerignore" },
        { F "COPY ./foo/ a /x", "foo", "2 CopyIgnoredFile: Attempting to Copy file \"foo\" that is excluded by .dockerignore" },
        { F "COPY . /x", "*", "2 CopyIgnoredFile: Attempting to Copy file \".\" that is excluded by .dockerignore" },
        { F "COPY . /x", "foo", "" },
        { F "COPY foo /x", "foo\n!foo/a", "" },
        { "FROM scratch AS a\nFROM scratch\nCOPY --from=a foo /x", "foo", "" },
        { F "ADD http://h/foo git@h:foo /x", "**/foo", "" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check(rows[i][0], rows[i][1], rows[i][2]);
}

static void targets_and_errors(void **state)
{
    struct fixture f;
    struct err err;
    lint(&f, "# check=error=true\nFROM scratch AS a\nWORKDIR x\nFROM scratch AS b\nCMD x\nENV a b\nCMD y", NULL, "b");
    assert_string_equal(buf_text(&f.told), "5 JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals\n"
                                           "5 MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used\n"
                                           "6 LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format\n"
                                           "7 JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals");
    assert_true(f.report.error);
    lint_violation(&f.report, &err);
    assert_string_equal(err.message, "lint violation found for rules: JSONArgsRecommended, MultipleInstructionsDisallowed, LegacyKeyValueFormat");
    done(&f);
    lint(&f, "# check=error=true\n" F "COPY a b", NULL, NULL);
    assert_false(f.report.error);
    done(&f);
}

static void wrong_options(void **state)
{
    static const char *const rows[][2] = {
        { "wrong", "failed to parse check options: invalid check option \"wrong\"" },
        { "skip=a;no=b", "failed to parse check options: invalid check option \"no\"" },
        { "error=maybe", "failed to parse check options: failed to parse check option \"error=maybe\": not a boolean" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena arena = ARENA_INIT;
        struct dockerfile *file;
        struct lint_report report;
        struct err err;
        struct lint_input input = { .args = &args, .check = rows[i][0] };
        assert_int_equal(dockerfile_parse(slice_of(F), &arena, &file, NULL, &err), 0);
        assert_int_equal(lint_run(file, &input, &arena, &report, &err), -1);
        assert_string_equal(err.message, rows[i][1]);
        arena_done(&arena);
    }
    for (size_t i = 0; i < LINT_RULE_COUNT; i++)
        assert_non_null(lint_rules[i].name);
    assert_null(lint_rules[LINT_RULE_COUNT].name);
}

static void many(void **state)
{
    struct fixture f;
    struct buf text = BUF_INIT(1 << 20);
    buf_adds(&text, "FROM scratch\n");
    for (int i = 0; i < 5000; i++)
        buf_adds(&text, "CMD a\n");
    lint(&f, buf_text(&text), NULL, NULL);
    assert_int_equal(f.report.len, LINT_WARNINGS_MAX);
    done(&f);
    buf_done(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(rules), cmocka_unit_test(ignored_files), cmocka_unit_test(targets_and_errors),
                                        cmocka_unit_test(wrong_options), cmocka_unit_test(many) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
