// What is written and what is read of it, as step_text() tells it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "build/dockerfile.h"
#include "build/step.h"
#include "build/words.h"

static struct dockerfile *parsed(const char *text, struct arena *arena)
{
    struct dockerfile *file;
    struct err err;
    if (dockerfile_parse(slice_of(text), arena, &file, NULL, &err) < 0)
        fail_msg("%s: %s", text, err.message);
    return file;
}

static const char *lookup(void *of, const char *name)
{
    return str_eq(name, "v") ? "value" : str_eq(name, "two") ? "8080 9090" : str_eq(name, "e") ? "" : NULL;
}

// Every instruction of every stage, a line each; expanded where `words` is not NULL.
static void tell(const struct dockerfile *file, const struct words *words, struct buf *out)
{
    for (size_t i = 0; i < file->len; i++)
        for (size_t j = 0; j < file->stages[i].len; j++) {
            struct instruction instruction = file->stages[i].instructions[j];
            struct err err;
            if (words && instruction_expand(&file->stages[i].instructions[j], words, &instruction, &err) < 0)
                fail_msg("%s: %s", instruction.text, err.message);
            buf_adds(out, out->size ? "\n" : "");
            step_text(&instruction, out);
        }
}

static void check(const char *text, const char *expected, bool expand)
{
    struct arena arena = ARENA_INIT;
    struct buf got = BUF_INIT(100000);
    struct dockerfile *file = parsed(text, &arena);
    struct words words = { .arena = &arena, .escape = file->escape, .lookup = lookup };
    tell(file, expand ? &words : NULL, &got);
    assert_string_equal(buf_text(&got), expected);
    buf_done(&got);
    arena_done(&arena);
}

#define F "FROM scratch\n"

static void as_written(void **state)
{
    static const struct {
        const char *text, *steps;
    } rows[] = {
        // commands, in both forms
        { F "RUN echo hi", "RUN shell=\"echo hi\"" },
        { F "run   echo  'a  b'  ", "RUN shell=\"echo  'a  b'\"" },
        { F "RUN [\"echo\", \"hi\"]", "RUN exec=\"echo\" exec=\"hi\"" },
        { F "RUN  [ \"a\\tb\\u00e9\" ] ", "RUN exec=\"a\\tb\xc3\xa9\"" },
        { F "RUN ['echo', 'hi']", "RUN shell=\"['echo', 'hi']\"" },
        { F "RUN [\"echo\"", "RUN shell=\"[\\\"echo\\\"\"" },
        { F "RUN [\"echo\"] && x", "RUN shell=\"[\\\"echo\\\"] && x\"" },
        { F "RUN [ -f x ]", "RUN shell=\"[ -f x ]\"" },
        { F "RUN []", "RUN" },
        { F "RUN", "RUN" },
        { F "CMD [\"a\"]", "CMD exec=\"a\"" },
        { F "CMD a b", "CMD shell=\"a b\"" },
        { F "CMD []", "CMD" },
        { F "ENTRYPOINT [\"/x\", \"\"]", "ENTRYPOINT exec=\"/x\" exec=\"\"" },
        { F "SHELL [\"bash\", \"-c\"]", "SHELL exec=\"bash\" exec=\"-c\"" },
        // continuation
        { F "RUN a \\\n  b", "RUN shell=\"a   b\"" },
        { F "RUN a\\\nb", "RUN shell=\"ab\"" },
        { F "RUN a \\  \t\nb", "RUN shell=\"a b\"" },
        { F "RUN a \\\n# comment\n  # another\n b", "RUN shell=\"a  b\"" },
        { F "RUN a \\\n\n \t\n b\nCMD c", "RUN shell=\"a  b\"\nCMD shell=\"c\"" },
        { F "RUN a \\\r\n b\r\nCMD c\r\n", "RUN shell=\"a  b\"\nCMD shell=\"c\"" },
        { F "RUN a \\\\\nCMD b", "RUN shell=\"a \\\\\\\\\"\nCMD shell=\"b\"" },
        { F "RUN a \\", "RUN shell=\"a\"" },
        { F "RUN echo # no comment", "RUN shell=\"echo # no comment\"" },
        { F "\\\nRUN \\\na", "RUN shell=\"a\"" },
        { "# escape=`\n" F "RUN a `\n b \\\nCMD c", "RUN shell=\"a  b \\\\\"\nCMD shell=\"c\"" },
        { "\xef\xbb\xbf" F "CMD a", "CMD shell=\"a\"" },
        { F " \t CMD a", "CMD shell=\"a\"" },
        // pairs
        { F "ENV a=b c=\"d e\" f=g\\ h i='j k'", "ENV \"a\"=\"b\" \"c\"=\"\\\"d e\\\"\" \"f\"=\"g\\\\ h\" \"i\"=\"'j k'\"" },
        { F "ENV a b c", "ENV \"a\"=\"b c\"" },
        { F "ENV a   \"b\" c=d", "ENV \"a\"=\"\\\"b\\\" c=d\"" },
        { F "ENV a= b=c=d", "ENV \"a\"=\"\" \"b\"=\"c=d\"" },
        { F "LABEL a.b/c=d \"x y\"=z", "LABEL \"a.b/c\"=\"d\" \"\\\"x y\\\"\"=\"z\"" },
        { F "LABEL a b", "LABEL \"a\"=\"b\"" },
        { F "ARG a b=c d=", "ARG \"a\" \"b\"=\"c\" \"d\"=\"\"" },
        // COPY and ADD
        { F "COPY a b /c/", "COPY source=\"a\" source=\"b\" target=\"/c/\"" },
        { F "COPY [\"a b\", \"c\"]", "COPY source=\"a b\" target=\"c\"" },
        { F "COPY [a, b", "COPY source=\"[a,\" target=\"b\"" },
        { F "COPY --from=x --chown=1:2 --chmod=u+x --link --parents=true --exclude=*.o --exclude=b a c",
          "COPY from=\"x\" source=\"a\" target=\"c\" chown=\"1:2\" chmod=\"u+x\" exclude=\"*.o\" exclude=\"b\" link parents" },
        { F "COPY --link=false --parents=FALSE a b", "COPY source=\"a\" target=\"b\"" },
        { F "COPY --chown=\"a b\" x y", "COPY source=\"x\" target=\"y\" chown=\"a b\"" },
        { F "COPY --from=a -- --b c", "COPY from=\"a\" source=\"--b\" target=\"c\"" },
        { F "ADD --checksum=sha256:1 --keep-git-dir --unpack=false http://x/y z",
          "ADD source=\"http://x/y\" target=\"z\" checksum=\"sha256:1\" keep-git-dir=true unpack=false" },
        // the others
        { F "EXPOSE 80 443/udp 22", "EXPOSE value=\"22\" value=\"443/udp\" value=\"80\"" },
        { F "VOLUME /a /b", "VOLUME value=\"/a\" value=\"/b\"" },
        { F "VOLUME [\"/a b\"]", "VOLUME value=\"/a b\"" },
        { F "WORKDIR /a b", "WORKDIR value=\"/a b\"" },
        { F "USER me:us", "USER value=\"me:us\"" },
        { F "STOPSIGNAL SIGINT", "STOPSIGNAL value=\"SIGINT\"" },
        { F "MAINTAINER A <b@c>", "MAINTAINER value=\"A <b@c>\"" },
        { F "HEALTHCHECK NONE", "HEALTHCHECK test=\"NONE\"" },
        { F "HEALTHCHECK --interval=1m30s --timeout=5s --start-period=0 --start-interval=1ms --retries=3 cmd a b",
          "HEALTHCHECK test=\"CMD-SHELL\" test=\"a b\" interval=90000000000 timeout=5000000000 start-interval=1000000 retries=3" },
        { F "HEALTHCHECK CMD [\"a\"]", "HEALTHCHECK test=\"CMD\" test=\"a\"" },
        { F "ONBUILD  run  a", "ONBUILD value=\"run  a\"" },
        { F "ONBUILD COPY --from=x a b", "ONBUILD value=\"COPY --from=x a b\"" },
        // RUN's flags
        { F "RUN --network=none --security=insecure x", "RUN shell=\"x\" network=\"none\" security=\"insecure\"" },
        { F "RUN --device=v.com/d=a,required --device=name=v.com/c=b x", "RUN shell=\"x\" device=\"v.com/d=a\" required device=\"v.com/c=b\"" },
        { F "RUN --network=default x --network=none", "RUN shell=\"x --network=none\"" },
        // heredocs
        { F "RUN <<EOF\na\n  b\nEOF\nCMD c", "RUN shell=\"<<EOF\" heredoc=\"EOF\" content=\"a\\n  b\\n\"\nCMD shell=\"c\"" },
        { F "RUN cat <<A >x && cat <<'B' >y\na\nA\nb\nB", "RUN shell=\"cat <<A >x && cat <<'B' >y\" heredoc=\"A\" content=\"a\\n\" heredoc=\"B\" literal=\"b\\n\"" },
        { F "RUN 3<<-\"X Y\" cat\n\ta\n\t\tX Y\n", "RUN shell=\"3<<-\\\"X Y\\\" cat\" fd=3 chomped=\"X Y\" literal=\"\\ta\\n\"" },
        { F "RUN <<EOF\n# kept \\\n\nFROM x\nEOF", "RUN shell=\"<<EOF\" heredoc=\"EOF\" content=\"# kept \\\\\\n\\nFROM x\\n\"" },
        { F "RUN << EOF cat\r\na\r\nEOF\r\n", "RUN shell=\"<< EOF cat\" heredoc=\"EOF\" content=\"a\\r\\n\"" },
        { F "RUN echo '<<EOF'", "RUN shell=\"echo '<<EOF'\"" },
        { F "RUN cat <<<EOF", "RUN shell=\"cat <<<EOF\"" },
        { F "RUN echo $((1<<2)) <<EOF\nEOF", "RUN shell=\"echo $((1<<2)) <<EOF\" heredoc=\"EOF\" content=\"\"" },
        { F "RUN [\"<<EOF\"]", "RUN exec=\"<<EOF\"" },
        { F "CMD <<EOF", "CMD shell=\"<<EOF\"" },
        { F "COPY <<a.txt <<-'b' c /d/\nx $v\na.txt\n\ty\n\tb", "COPY source=\"c\" file=\"a.txt\" content=\"x $v\\n\" file=\"b\" literal=\"y\\n\" target=\"/d/\"" },
        { F "COPY <<E /x\nE\nCMD a", "COPY file=\"E\" content=\"\" target=\"/x\"\nCMD shell=\"a\"" },
        { F "ONBUILD RUN <<EOF\na\nEOF", "ONBUILD value=\"RUN <<EOF\\na\\nEOF\"" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check(rows[i].text, rows[i].steps, false);
}

static void expanded(void **state)
{
    static const struct {
        const char *text, *steps;
    } rows[] = {
        { F "ENV $v=\"a $v\" b='$v' c=$v\\ d e=${n:-x}", "ENV \"value\"=\"a value\" \"b\"=\"$v\" \"c\"=\"value d\" \"e\"=\"x\"" },
        { F "LABEL a $v \"b\"", "LABEL \"a\"=\"value b\"" },
        { F "ARG a=$v", "ARG \"a\"=\"$v\"" },
        { F "RUN echo $v", "RUN shell=\"echo $v\"" },
        { F "CMD $v", "CMD shell=\"$v\"" },
        { F "ONBUILD RUN $v", "ONBUILD value=\"RUN $v\"" },
        { F "WORKDIR /$v/\"x y\"", "WORKDIR value=\"/value/x y\"" },
        { F "USER $v:$n", "USER value=\"value:\"" },
        { F "STOPSIGNAL ${n:-9}", "STOPSIGNAL value=\"9\"" },
        { F "VOLUME /$v [$v]", "VOLUME value=\"/value\" value=\"[value]\"" },
        { F "EXPOSE $two 80/UDP 1-3 [::1]:7:8 127.0.0.1:9:9 5-6:5-6", "EXPOSE value=\"8080/tcp\" value=\"9090/tcp\" value=\"1/tcp\" value=\"2/tcp\" value=\"3/tcp\" value=\"9/tcp\" "
                                                             "value=\"5/tcp\" value=\"6/tcp\" value=\"80/udp\" value=\"8/tcp\"" },
        { F "COPY --chown=$v --chmod=$v --from=x $v \"a\"$e $v/", "COPY from=\"x\" source=\"value\" source=\"a\" target=\"value/\" chown=\"value\" chmod=\"value\"" },
        { F "COPY <<E <<'G' /x\n'$v' \"${n:-y}\" \\$v\nE\n$v\nG", "COPY file=\"E\" content=\"'value' \\\"y\\\" $v\\n\" file=\"G\" literal=\"$v\\n\" target=\"/x\"" },
        { "# escape=`\n" F "COPY <<E /x\n\\$v `$v\nE\nENV a=`$v b=\\$v", "COPY file=\"E\" content=\"$v `value\\n\" target=\"/x\"\nENV \"a\"=\"$v\" \"b\"=\"\\\\value\"" },
        { F "RUN --mount=type=cache,target=/$v,id=$n x", "RUN shell=\"x\" mount{type=cache target=\"/value\"}" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check(rows[i].text, rows[i].steps, true);
}

static void stages(void **state)
{
    struct arena arena = ARENA_INIT;
    struct dockerfile *file = parsed("# syntax = docker/dockerfile:1 x\n#check=skip=all\n\nARG a=1\n# b the second\nARG b c\n"
                                     "# web serves\nFROM --platform=$BUILDPLATFORM debian:$a AS Web\nRUN x\nRUN y\nfrom Web\nCMD a \\\n\n b\n", &arena);
    assert_string_equal(file->syntax, "docker/dockerfile:1 x");
    assert_string_equal(file->check, "skip=all");
    assert_int_equal(file->check_place.line, 2);
    assert_int_equal(file->globals_len, 2);
    assert_string_equal(file->globals[1].pairs.items[0].comment, "the second");
    assert_null(file->globals[1].pairs.items[1].comment);
    assert_int_equal(file->len, 2);
    assert_string_equal(file->stages[0].name, "web");
    assert_string_equal(file->stages[0].name_written, "Web");
    assert_string_equal(file->stages[0].base, "debian:$a");
    assert_string_equal(file->stages[0].platform, "$BUILDPLATFORM");
    assert_string_equal(file->stages[0].comment, "serves");
    assert_int_equal(file->stages[0].from.place.line, 8);
    assert_int_equal(file->stages[0].len, 2);
    assert_null(file->stages[1].name);
    assert_string_equal(file->stages[1].from.name, "from");
    assert_int_equal(file->stages[1].instructions[0].place.line, 12);
    assert_int_equal(file->stages[1].instructions[0].place.last_line, 14);
    assert_string_equal(file->stages[1].instructions[0].text, "CMD a  b");
    assert_int_equal(file->empty_continuations_len, 1);
    assert_int_equal(file->empty_continuations[0].line, 14);
    arena_done(&arena);
}

// Only in the first lines, and only as comments.
static void directives(void **state)
{
    static const struct {
        const char *text;
        char escape;
    } rows[] = {
        { "# escape=`\n" F, '`' }, { "#ESCAPE = ` \n" F, '`' }, { "#!/bin/x\n# escape=`\n" F, '`' }, { "# syntax=a\n# escape=`\n" F, '`' }, { "# a\n# escape=`\n" F, '\\' },
        { "\n# escape=`\n" F, '\\' }, { "# other=1\n# escape=`\n" F, '\\' }, { F "# escape=`\n", '\\' }, { "// escape=`\n", 0 }, { "# escape\n" F, '\\' }, { "# escape=\n" F, '\\' },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena arena = ARENA_INIT;
        if (rows[i].escape)
            assert_int_equal(parsed(rows[i].text, &arena)->escape, rows[i].escape);
        arena_done(&arena);
    }
}

static void triggers(void **state)
{
    struct arena arena = ARENA_INIT;
    struct instruction *run;
    struct err err;
    struct dockerfile_place at = { 7, 7, 1, false };
    assert_int_equal(dockerfile_parse_trigger("RUN <<-EOF\n\ta\nEOF", at, &arena, &run, &err), 0);
    assert_int_equal(run->place.line, 7);
    assert_string_equal(heredoc_content(&run->run.heredocs.items[0], &arena), "a\n");
    static const char *const wrong[][2] = { { "FROM x", "FROM isn't allowed as an ONBUILD trigger" }, { "ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed" },
                                            { "RUN a\nRUN b", "onbuild trigger should be a single expression" }, { "", "file with no instructions" }, { "NONSENSE x", "unknown instruction: NONSENSE" } };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_int_equal(dockerfile_parse_trigger(wrong[i][0], at, &arena, &run, &err), -1);
        assert_string_equal(err.message, wrong[i][1]);
    }
    arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(as_written), cmocka_unit_test(expanded), cmocka_unit_test(stages), cmocka_unit_test(directives),
                                        cmocka_unit_test(triggers) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
