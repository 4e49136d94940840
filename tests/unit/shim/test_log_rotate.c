// Rotation of a log file: names, compressed ones, an end in the middle.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <zlib.h>

#include "base/num.h"
#include "shim/shim_private.h"

struct fixture {
    char folder[64], path[96];
    struct loop *loop;
    struct log *log;
};

static void begin(struct fixture *fixture, int64_t max_size, int64_t max_files, bool compress)
{
    *fixture = (struct fixture){ .folder = "/tmp/berth-test-rotate-XXXXXX" };
    assert_non_null(mkdtemp(fixture->folder));
    snprintf(fixture->path, sizeof(fixture->path), "%s/log", fixture->folder);
    const struct task_log wish = { .driver = (char *)"json-file", .path = fixture->path, .max_size = max_size, .max_files = max_files,
                                   .compress = compress, .attrs = (char *)"{\"a\":\"b\"}" };
    assert_int_equal(loop_new(&fixture->loop, NULL), 0);
    assert_int_equal(log_new(&wish, fixture->loop, NULL, NULL, &fixture->log, NULL), 0);
}

static void end(struct fixture *fixture)
{
    log_free(take_ptr(&fixture->log));
    loop_free(take_ptr(&fixture->loop));
}

static void clear(struct fixture *fixture)
{
    assert_int_equal(file_remove_tree(AT_FDCWD, fixture->folder, NULL), 0);
}

static void write_lines(struct fixture *fixture, int from, int to)
{
    char text[16];
    for (int i = from; i < to; i++) {
        snprintf(text, sizeof(text), "%04d\n", i);
        log_write(fixture->log, LOG_STDOUT, text, 5, NS_PER_S);
    }
}

// The numbers of the first and the last line of PATH.ENDING; -1 where there is no such file.
static int first_of(struct fixture *fixture, const char *ending, bool packed)
{
    char name[128], text[32] = "";
    snprintf(name, sizeof(name), "%s%s", fixture->path, ending);
    if (access(name, F_OK) < 0)
        return -1;
    gzFile file = gzopen(name, "r");
    assert_int_equal(gzdirect(file), !packed);
    assert_int_equal(gzread(file, text, 12), 12);
    gzclose(file);
    int64_t number;
    text[12] = 0;
    assert_true(num_parse_i64(slice_of(text + 8), &number)); // behind {"log":"
    return (int)number;
}

#define LINE ((int64_t)strlen("{\"log\":\"0000\\n\",\"stream\":\"stdout\",\"attrs\":{\"a\":\"b\"},\"time\":\"1970-01-01T00:00:01Z\"}\n"))

static void names(void **state)
{
    struct fixture fixture;
    begin(&fixture, 10 * LINE, 3, false);
    write_lines(&fixture, 0, 45);
    end(&fixture);
    assert_int_equal(first_of(&fixture, "", false), 40);
    assert_int_equal(first_of(&fixture, ".1", false), 30);
    assert_int_equal(first_of(&fixture, ".2", false), 20);
    assert_int_equal(first_of(&fixture, ".3", false), -1);
    clear(&fixture);
}

static void one_file(void **state)
{
    struct fixture fixture;
    begin(&fixture, 10 * LINE, 1, false);
    write_lines(&fixture, 0, 45);
    end(&fixture);
    assert_int_equal(first_of(&fixture, "", false), 40);
    assert_int_equal(first_of(&fixture, ".1", false), -1);
    clear(&fixture);
}

// One read may bring more than a file takes.
static void within_one_read(void **state)
{
    struct fixture fixture;
    _cleanup_buf_ struct buf text = BUF_INIT(1 << 16);
    begin(&fixture, 10 * LINE, 9, false);
    for (int i = 0; i < 45; i++)
        buf_addf(&text, "%04d\n", i);
    log_write(fixture.log, LOG_STDOUT, text.data, text.size, NS_PER_S);
    end(&fixture);
    assert_int_equal(first_of(&fixture, "", false), 40);
    assert_int_equal(first_of(&fixture, ".4", false), 0);
    clear(&fixture);
}

static void stop(void *context)
{
    loop_stop(context);
}

static void compressed(void **state)
{
    struct fixture fixture;
    struct loop_source *timer;
    begin(&fixture, 10 * LINE, 4, true);
    write_lines(&fixture, 0, 25); // the second rotation finishes the first one's file
    assert_int_equal(first_of(&fixture, ".2.gz", true), 0);
    assert_int_equal(first_of(&fixture, ".1", false), 10); // its turn comes with the loop
    assert_int_equal(loop_add_timer(fixture.loop, 100 * NS_PER_MS, stop, fixture.loop, &timer, NULL), 0);
    assert_int_equal(loop_run(fixture.loop, NULL), 0);
    assert_int_equal(first_of(&fixture, ".1.gz", true), 10);
    assert_int_equal(first_of(&fixture, ".1", false), -1);
    write_lines(&fixture, 25, 35);
    end(&fixture); // in the middle of the third
    assert_int_equal(first_of(&fixture, ".1.gz", true), 20);
    assert_int_equal(first_of(&fixture, ".3.gz", true), 0);
    assert_int_equal(first_of(&fixture, "", false), 30);
    clear(&fixture);
}

// A folder that takes no other name: the log goes on as it is.
static void what_can_not_be_rotated(void **state)
{
    struct fixture fixture;
    char taken[128];
    begin(&fixture, 10 * LINE, 2, false);
    snprintf(taken, sizeof(taken), "%s.1", fixture.path);
    assert_int_equal(mkdir(taken, 0700), 0);
    write_lines(&fixture, 0, 15);
    end(&fixture);
    assert_int_equal(first_of(&fixture, "", false), 0);
    clear(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),      cmocka_unit_test(one_file),
        cmocka_unit_test(compressed), cmocka_unit_test(within_one_read),
        cmocka_unit_test(what_can_not_be_rotated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
