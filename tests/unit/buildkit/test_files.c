// The client's files, from a client that is made up.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "made_up_client.h"

// Into a temporary file, as a tar.
static int receive(struct session *session, const struct strv *excludes, FILE **out, struct err *err)
{
    struct buildkit_session *found;
    struct solve solve = { .buildkit = session->buildkit, .events = BUF_INIT(EVENTS_MAX) };
    struct step step;
    struct files_sink sink;
    *out = tmpfile();
    struct tar_out tar = { .fd = fileno(*out) };
    const struct files_request request = { .folder = "context", .excludes = excludes };
    const struct cancel never = CANCEL_NEVER;
    client.asked = 0;
    assert_int_equal(session_get(session->buildkit, "s1", &never, &found, err), 0);
    tar_sink(&tar, &sink);
    step_start(&step, &solve, "load");
    int result = files_receive(found, &request, &sink, &step, &never, err);
    if (result == 0)
        tar_end(&tar, NULL);
    step_end(&step, NULL);
    session_put(found);
    buf_done(&solve.events);
    return result;
}

static char *tar_lists(FILE *tar)
{
    _cleanup_free_ char *line = mem_printf("tar -tvf /proc/%d/fd/%d --numeric-owner 2>&1", getpid(), fileno(tar));
    struct buf out = BUF_INIT(1 << 20);
    char part[4096];
    FILE *listing = popen(line, "r");
    size_t got;
    while ((got = fread(part, 1, sizeof(part), listing)) > 0)
        buf_add(&out, part, got);
    assert_int_equal(pclose(listing), 0);
    return buf_take(&out);
}

static char long_name[260];

static void test_files(void **state)
{
    memset(long_name, 'n', 250);
    const struct made_up files[] = {
        { "Dockerfile", NULL, "FROM scratch\n", 0644, 0, 0 },
        { "big", NULL, NULL, 0600, 5 << 20, 0 },
        { "dir", NULL, "", DIR | 0755, 0, 0 },
        { "dir/empty", NULL, "", 0644, 0, 0 },
        { "dir/hard", "Dockerfile", "FROM scratch\n", 0644, 0, 0 },
        { "dir/link", "../big", "", LINK | 0777, 0, 0 },
        { "dir/setuid", NULL, "x", 1u << 23 | 0755, 0, 0 },
        { long_name, NULL, "long", 0644, 0, 0 },
    };
    struct session session;
    struct err err = { 0 };
    FILE *tar;
    open_session(&session);
    client.files = files;
    client.len = ARRAY_LEN(files);
    client.lie = HONEST;
    assert_int_equal(receive(&session, NULL, &tar, &err), 0);
    _cleanup_free_ char *listing = tar_lists(tar);
    assert_int_equal(client.asked, 4); // not: the folder, the empty file, both links
    assert_non_null(strstr(listing, "-rw------- 0/0         5242880 1970-01-01 00:00 big\n"));
    assert_non_null(strstr(listing, "dir/hard link to Dockerfile\n"));
    assert_non_null(strstr(listing, "dir/link -> ../big\n"));
    assert_non_null(strstr(listing, "-rwsr-xr-x"));
    assert_non_null(strstr(listing, long_name));
    fclose(tar);
    close_session(&session);
}

// Small ones by the thousand: asked for ahead.
static void test_many(void **state)
{
    enum { MANY = 3000 };
    struct made_up *files = mem_alloc(MANY * sizeof(*files));
    struct session session;
    struct err err = { 0 };
    FILE *tar;
    for (size_t i = 0; i < MANY; i++)
        files[i] = (struct made_up){ mem_printf("f%04zu", i), NULL, NULL, 0644, (int64_t)(i * 37 % 9000), 0 };
    open_session(&session);
    client.files = files;
    client.len = MANY;
    client.lie = HONEST;
    assert_int_equal(receive(&session, NULL, &tar, &err), 0);
    _cleanup_free_ char *listing = tar_lists(tar);
    assert_non_null(strstr(listing, "f2999"));
    fclose(tar);
    close_session(&session);
    for (size_t i = 0; i < MANY; i++)
        free((char *)files[i].path);
    free(files);
}

static void test_patterns(void **state)
{
    char *patterns[] = { (char *)"*.o", (char *)"!a b", NULL }, *strange[] = { (char *)"\xc3\xa4 b", NULL };
    const struct strv plain = { patterns, 2, 0 }, encoded = { strange, 1, 0 };
    struct session session;
    struct err err = { 0 };
    FILE *tar;
    open_session(&session);
    client.len = 0;
    client.lie = HONEST;
    assert_int_equal(receive(&session, &plain, &tar, &err), 0);
    fclose(tar);
    assert_true(strv_has(&client.metadata, "dir-name=context"));
    assert_true(strv_has(&client.metadata, "exclude-patterns=*.o") && strv_has(&client.metadata, "exclude-patterns=!a b"));
    assert_int_equal(receive(&session, &encoded, &tar, &err), 0);
    fclose(tar);
    assert_true(strv_has(&client.metadata, "exclude-patterns=%C3%A4%20b") && strv_has(&client.metadata, "exclude-patterns-encoded=1"));
    close_session(&session);
}

static const struct {
    enum lie lie;
    const char *says; // NULL: it is taken
} lies[] = {
    { WRONG_ID, "not asked for" }, { UNASKED, "not asked for" },   { TOO_SHORT, "shorter" },           { TOO_LONG, NULL },
    { AN_ERROR, "no such folder" }, { NO_FIN, "ended" },           { NEGATIVE_SIZE, "malformed" },     { NO_PATH, "malformed" },
    { HANG_UP, "no access allowed" },
};

static void test_lies(void **state)
{
    const struct made_up files[] = { { "a", NULL, "hello", 0644, 0, 0 }, { "b", NULL, "world", 0644, 0, 0 } };
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        struct session session;
        struct err err = { 0 };
        FILE *tar;
        open_session(&session);
        client.files = files;
        client.len = ARRAY_LEN(files);
        client.lie = lies[i].lie;
        assert_int_equal(receive(&session, NULL, &tar, &err), lies[i].says ? -1 : 0);
        if (lies[i].says && !strstr(err.message, lies[i].says))
            fail_msg("%s", err.message);
        fclose(tar);
        close_session(&session);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_lies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
