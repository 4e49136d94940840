// Flags and daemon.json: what is taken, in which form, and what is said of what is not.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>

#include "base/file.h"
#include "options/options.h"

#define FILE_NAME "daemon.json"

static int parse(struct options *options, struct err *err, const char *const *words)
{
    char *argv[16] = { (char *)"berthd" };
    int argc = 1;
    for (; words[argc - 1]; argc++)
        argv[argc] = (char *)words[argc - 1];
    options_init(options);
    return options_parse_flags(argc, argv, options, err);
}

#define PARSE(options, err, ...) parse((options), (err), (const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })

static void write_file(const char *text)
{
    assert_int_equal(file_write_at(AT_FDCWD, FILE_NAME, text, strlen(text), 0600, false, NULL), 0);
}

static void flags(void **state)
{
    struct options options;
    struct err err = { 0 };
    assert_int_equal(PARSE(&options, &err, "-D", "-Hunix:///a", "--host=unix:///b", "--label", "a=b", "--default-shm-size", "64m", "--init=false",
                           "--default-ulimit", "nofile=10:20"), 0);
    assert_true(options.debug);
    assert_int_equal(options.hosts.len, 2);
    assert_string_equal(options.hosts.items[1], "unix:///b");
    assert_int_equal(options.shm_size, 64 << 20);
    assert_false(options.init);
    assert_true(options_given(&options, "init"));
    assert_false(options_given(&options, "pidfile"));
    assert_string_equal(options.ulimits.items[0], "nofile=10:20");
    assert_int_equal(options_check(&options, &err), 0);
    options_done(&options);
}

static void refusals(void **state)
{
    static const struct {
        const char *words[3];
        enum err_class class;
        const char *says;
    } cases[] = {
        { { "--live-restore=false" }, ERR_NOT_IMPLEMENTED, "--live-restore=false is not supported: " },
        { { "--exec-opt", "native.cgroupdriver=systemd" }, ERR_NOT_IMPLEMENTED, "--exec-opt=native.cgroupdriver=systemd is not supported: " },
        { { "--feature", "containerd-snapshotter=true" }, ERR_NOT_IMPLEMENTED, "--feature=containerd-snapshotter=true is not supported: " },
        { { "--nosuch" }, ERR_INVALID_ARGUMENT, "unknown flag: --nosuch" },
        { { "-Z" }, ERR_INVALID_ARGUMENT, "unknown flag: -Z" },
        { { "--pidfile" }, ERR_INVALID_ARGUMENT, "flag needs an argument: --pidfile" },
        { { "--tls=maybe" }, ERR_INVALID_ARGUMENT, "invalid argument \"maybe\" for \"--tls\": " },
        { { "--max-concurrent-uploads", "-1" }, ERR_INVALID_ARGUMENT, "invalid argument \"-1\" for \"--max-concurrent-uploads\": " },
        { { "--default-ulimit", "nofile=2:1" }, ERR_INVALID_ARGUMENT, "ulimit soft limit must be less than or equal to hard limit: 2 > 1" },
        { { "--default-ulimit", "nofile" }, ERR_INVALID_ARGUMENT, "invalid ulimit argument: nofile" },
        { { "--default-shm-size", "9999999t" }, ERR_INVALID_ARGUMENT, "not a size" },
        { { "--default-runtime", "crun" }, ERR_INVALID_ARGUMENT, "not one of berth|runc|berth-vm" },
        { { "--log-opt", "max-size" }, ERR_INVALID_ARGUMENT, "KEY=VALUE" },
        { { "stray" }, ERR_INVALID_ARGUMENT, "unexpected argument: stray" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct options options;
        struct err err = { 0 };
        assert_int_equal(parse(&options, &err, cases[i].words), -1);
        assert_int_equal(err.class, cases[i].class);
        assert_non_null(strstr(err.message, cases[i].says));
        options_done(&options);
    }
}

static void what_asks_for_nothing_passes(void **state)
{
    struct options options;
    struct err err = { 0 };
    assert_int_equal(PARSE(&options, &err, "--icc", "--iptables=true", "--exec-opt", "native.cgroupdriver=cgroupfs", "--mtu=1500", "--live-restore",
                           "--feature", "buildkit=true", "--shutdown-timeout=3", "--userland-proxy=false", "--bridge="), 0);
    options_done(&options);
}

// Every row has what its readers need, and no name stands twice.
static void the_table(void **state)
{
    for (size_t i = 0; i < option_len; i++) {
        const struct option_row *row = &option_table[i];
        assert_true(row->flag || row->key);
        assert_non_null(row->help);
        assert_true(row->answer != OPTION_REFUSED || !row->words);
        for (size_t k = 0; k < i; k++) {
            assert_false(row->flag && str_eq(row->flag, option_table[k].flag));
            assert_false(row->key && str_eq(row->key, option_table[k].key));
            assert_false(row->letter && row->letter == option_table[k].letter);
        }
    }
}

static void the_file(void **state)
{
    struct options options;
    struct err err = { 0 };
    write_file("\xef\xbb\xbf{\"debug\": true, \"labels\": [\"a=1\", \"b=2\"], \"log-opts\": {\"max-size\": \"10m\"}, \"max-concurrent-downloads\": 7,"
               " \"default-ulimits\": {\"nofile\": {\"Name\": \"nofile\", \"Soft\": 5, \"Hard\": 6}}, \"default-shm-size\": \"1g\","
               " \"proxies\": {\"http-proxy\": \"http://p\"}, \"hosts\": [\"unix:///x\"], \"icc\": true, \"features\": {\"buildkit\": true},"
               " \"dns\": null, \"runtimes\": {}}");
    assert_int_equal(PARSE(&options, &err, "--config-file", FILE_NAME), 0);
    assert_int_equal(options_read_file(&options, &err), 0);
    assert_true(options.debug);
    assert_int_equal(options.labels.len, 2);
    assert_string_equal(options.log_opts.items[0], "max-size=10m");
    assert_string_equal(options.ulimits.items[0], "nofile=5:6");
    assert_string_equal(options.http_proxy, "http://p");
    assert_int_equal(options.max_downloads, 7);
    assert_int_equal(options.shm_size, 1 << 30);
    assert_int_equal(options.dns.len, 0);
    options_done(&options);
}

static void bad_files(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        { "{\"nosuch\": 1, \"debug\": true, \"tls-verify\": true}",
          "the following directives don't match any configuration option: nosuch, tls-verify" },
        { "{\"label\": [\"a=b\"]}", "the following directives don't match any configuration option: label" },
        { "{\"labels\": [\"c=d\", \"e=f\"], \"log-level\": \"warn\"}",
          "the following directives are specified both as a flag and in the configuration file: labels: (from flag: [a=b], from file: "
          "[c=d e=f]), log-level: (from flag: debug, from file: warn)" },
        { "{\"debug\": \"yes\"}", "debug: invalid JSON: expected true or false" },
        { "{\"dns\": \"1.1.1.1\"}", "dns: invalid JSON: expected a list" },
        { "{\"cpu-rt-period\": 1400}", "cpu-rt-period: is not supported: " },
        { "{\"runtimes\": {\"crun\": {\"path\": \"crun\"}}}", "runtimes: is not supported: " },
        { "{\"default-address-pools\": [{\"base\": \"10.0.0.0/8\"}]}", "default-address-pools: not of the form base=" },
        { "{\"default-network-opts\": {\"bridge\": {\"x\": 1}}}", "default-network-opts: invalid JSON: " },
        { "{\"debug\": true,}", "invalid JSON" },
        { "[]", "invalid JSON: expected an object" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct options options;
        struct err err = { 0 };
        write_file(cases[i].text);
        assert_int_equal(PARSE(&options, &err, "--config-file", FILE_NAME, "--label", "a=b", "-l", "debug"), 0);
        assert_int_equal(options_read_file(&options, &err), -1);
        assert_true(str_starts(err.message, "unable to configure the daemon with file " FILE_NAME ": "));
        if (!strstr(err.message, cases[i].says))
            fail_msg("%s", err.message);
        options_done(&options);
    }
}

static void an_empty_file_and_none(void **state)
{
    struct options options;
    struct err err = { 0 };
    write_file(" \n");
    assert_int_equal(PARSE(&options, &err, "--config-file", FILE_NAME), 0);
    assert_int_equal(options_read_file(&options, &err), 0);
    unlink(FILE_NAME);
    assert_int_equal(options_read_file(&options, &err), -1);
    options_done(&options);
    assert_int_equal(PARSE(&options, &err), 0);
    options.config_file = (char *)"/nosuch/daemon.json"; // not named by a flag
    assert_int_equal(options_read_file(&options, &err), 0);
    options_done(&options);
}

static void checks(void **state)
{
    static const struct {
        const char *words[5], *says;
    } cases[] = {
        { { "--label", "a=1", "--label", "a=2" }, "conflict labels for a=2 and a=1" },
        { { "--label", "a" }, "bad attribute format: a" },
        { { "--log-level", "loud" }, "invalid logging level: loud" },
        { { "--log-format", "xml" }, "invalid log format: xml" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct options options;
        struct err err = { 0 };
        assert_int_equal(parse(&options, &err, cases[i].words), 0);
        assert_int_equal(options_check(&options, &err), -1);
        assert_string_equal(err.message, cases[i].says);
        options_done(&options);
    }
}

static int to_folder(void **state)
{
    char folder[] = "/tmp/test-options-XXXXXX";
    *state = strdup(mkdtemp(folder));
    return chdir(*state);
}

static int from_folder(void **state)
{
    file_remove_tree(AT_FDCWD, *state, NULL);
    free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flags),    cmocka_unit_test(refusals),  cmocka_unit_test(what_asks_for_nothing_passes), cmocka_unit_test(the_table),
        cmocka_unit_test(the_file), cmocka_unit_test(bad_files), cmocka_unit_test(an_empty_file_and_none),       cmocka_unit_test(checks),
    };
    return cmocka_run_group_tests(tests, to_folder, from_folder);
}
