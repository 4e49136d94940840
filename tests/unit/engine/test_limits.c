// Words of clients: signals, limits, capabilities, names, and what is said about limits that the kernel lacks.
#include <signal.h>
#include <sys/resource.h>

#include "fixture.h"
#include "kernel/caps.h"

static void test_signals(void **state)
{
    static const struct {
        const char *text;
        int number; // 0: refused
    } table[] = {
        { "SIGKILL", SIGKILL }, { "kill", SIGKILL },     { "9", 9 },           { "SIGTERM", SIGTERM },
        { "term", SIGTERM },    { "sigusr1", SIGUSR1 },  { "CLD", SIGCHLD },   { "RTMIN", 34 },
        { "SIGRTMIN+3", 37 },   { "RTMIN+30", 64 },      { "RTMAX", 64 },      { "SIGRTMAX-14", 50 },
        { "64", 64 },           { "65", 0 },             { "0", 0 },           { "-1", 0 },
        { "", 0 },              { "SIG", 0 },            { "NOSUCH", 0 },      { "RTMIN+31", 0 },
        { "RTMIN-1", 0 },       { "RTMAX+1", 0 },        { "RTMIN+", 0 },      { "9 ", 0 },
        { "SIGRTMIN+0000000001", 0 }, { "SIGSIGKILL", 0 },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct err err = { 0 };
        int number = 0, result = signal_parse(table[i].text, &number, &err);
        if (result != (table[i].number ? 0 : -1) || number != table[i].number)
            fail_msg("\"%s\": %d, result %d", table[i].text, number, result);
        if (result < 0)
            assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    }
}

static void test_limits(void **state)
{
    const int64_t mib = 1 << 20;
    const struct {
        struct host_config host;
        struct oci_resources expected;
    } table[] = {
        { { .memory = 64 * mib }, { .memory_limit = 64 * mib, .memory_swap = 128 * mib } },
        { { .memory = 64 * mib, .memory_swap = -1 }, { .memory_limit = 64 * mib, .memory_swap = -1 } },
        { { .memory = 64 * mib, .memory_swap = 65 * mib }, { .memory_limit = 64 * mib, .memory_swap = 65 * mib } },
        { { .memory = INT64_MAX }, { .memory_limit = INT64_MAX, .memory_swap = -1 } },
        { { .nano_cpus = 1500000000 }, { .cpu_quota = 150000, .cpu_period = 100000 } },
        { { .cpu_quota = 5000, .cpu_period = 20000 }, { .cpu_quota = 5000, .cpu_period = 20000 } },
        { { .cpu_shares = 7, .pids_limit = -1 }, { .cpu_shares = 7, .pids_limit = -1 } },
        { { .memory_reservation = mib }, { .memory_reservation = mib } },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct oci_resources got = { 0 };
        const struct oci_resources *expected = &table[i].expected;
        limits_from_config(&table[i].host, &got);
        assert_int_equal(got.memory_limit, expected->memory_limit);
        assert_int_equal(got.memory_swap, expected->memory_swap);
        assert_int_equal(got.memory_reservation, expected->memory_reservation);
        assert_int_equal(got.cpu_quota, expected->cpu_quota);
        assert_int_equal(got.cpu_period, expected->cpu_period);
        assert_int_equal(got.cpu_shares, expected->cpu_shares);
        assert_int_equal(got.pids_limit, expected->pids_limit);
    }
}

static struct strv words(struct arena *arena, const char *text)
{
    struct strv list = { 0 };
    struct slice rest = slice_of(text), part;
    while (slice_cut(&rest, ' ', &part))
        if (part.size)
            strv_push_arena(&list, arena, arena_strndup(arena, part.data, part.size));
    return list;
}

static void test_capabilities(void **state)
{
    static const struct {
        const char *add, *drop, *has, *lacks;
        bool refused;
    } table[] = {
        { "", "", "CAP_CHOWN CAP_NET_RAW", "CAP_SYS_ADMIN CAP_NET_ADMIN", false },
        { "NET_ADMIN", "", "CAP_NET_ADMIN CAP_CHOWN", "CAP_SYS_ADMIN", false },
        { "CAP_NET_ADMIN", "chown", "CAP_NET_ADMIN", "CAP_CHOWN", false },
        { "", "ALL", "", "CAP_CHOWN CAP_NET_RAW", false },
        { "SYS_TIME", "all", "CAP_SYS_TIME", "CAP_CHOWN", false },
        { "ALL", "SYS_ADMIN", "CAP_NET_ADMIN CAP_SYS_TIME", "CAP_SYS_ADMIN", false },
        { "NOSUCH", "", "", "", true },
        { "", "CAP_NOSUCH", "", "", true },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct err err = { 0 };
        struct oci_capabilities *caps = NULL;
        const struct host_config host = { .cap_add = words(&arena, table[i].add), .cap_drop = words(&arena, table[i].drop) };
        int result = capabilities_from_config(&host, &arena, &caps, &err);
        assert_int_equal(result, table[i].refused ? -1 : 0);
        if (table[i].refused) {
            assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
            continue;
        }
        const struct strv has = words(&arena, table[i].has), lacks = words(&arena, table[i].lacks);
        for (size_t k = 0; k < has.len; k++)
            assert_true(strv_has(&caps->bounding, has.items[k]) && strv_has(&caps->permitted, has.items[k]));
        for (size_t k = 0; k < lacks.len; k++)
            assert_false(strv_has(&caps->bounding, lacks.items[k]) || strv_has(&caps->effective, lacks.items[k]));
        assert_int_equal(caps->inheritable.len + caps->ambient.len, 0);
    }
}

static void test_names(void **state)
{
    static const char *const good[] = { "ab", "a_", "0.", "web-1", "A.b_c-d" };
    static const char *const bad[] = { "", "a", "_a", "-a", ".a", "a b", "a/b", "a\n", "\xc3\xa4\xc3\xb6" };
    char longest[257];
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_true(container_name_valid(good[i]));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(container_name_valid(bad[i]));
    memset(longest, 'x', 256);
    longest[256] = 0;
    assert_false(container_name_valid(longest));
    assert_true(container_name_valid(longest + 1));
}

static void test_ulimits(void **state)
{
    assert_int_equal(ulimit_resource("nofile"), RLIMIT_NOFILE);
    assert_int_equal(ulimit_resource("NPROC"), RLIMIT_NPROC);
    assert_int_equal(ulimit_resource("nosuch"), -1);
    assert_int_equal(ulimit_resource(NULL), -1);
}

static void test_missing_limits(void **state)
{
    static const struct host_features all = { true, true, true, true, true, true, true, true, true, true }, none = { 0 };
    static const struct host_features no_swap = { true, false, true, true, true, true, true, true, true, true };
    const struct {
        const struct host_features *features;
        struct host_config host;
        size_t warnings;
        const char *text; // in the last one
    } table[] = {
        { &all, { .memory = 1 << 26, .pids_limit = 5, .cpu_shares = 2, .cpuset_cpus = (char *)"0" }, 0, NULL },
        { &none, { .memory = 0 }, 0, NULL },
        { &none, { .memory = 1 << 26 }, 1, "memory limit capabilities" },
        { &no_swap, { .memory = 1 << 26 }, 1, "Memory limited without swap." },
        { &no_swap, { .memory = 1 << 26, .memory_swap = -1 }, 0, NULL },
        { &none, { .memory_reservation = 1 << 26 }, 1, "soft limit" },
        { &none, { .pids_limit = 5 }, 1, "PIDs limit discarded." },
        { &none, { .pids_limit = -1 }, 0, NULL },
        { &none, { .cpu_shares = 5 }, 1, "Shares discarded." },
        { &none, { .cpu_quota = 5000 }, 1, "period/quota discarded." },
        { &none, { .cpuset_cpus = (char *)"0" }, 1, "Cpuset discarded." },
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct strv warnings = { 0 };
        struct err err = { 0 };
        assert_int_equal(features_check(table[i].features, &table[i].host, &arena, &warnings, &err), 0);
        assert_int_equal(warnings.len, table[i].warnings);
        if (table[i].text)
            assert_non_null(strstr(warnings.items[warnings.len - 1], table[i].text));
    }
    struct err err = { 0 };
    const struct host_config cpus = { .nano_cpus = 1 };
    assert_int_equal(features_check(&none, &cpus, NULL, NULL, &err), -1);
    assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
}

static void test_ulimits_of_a_guest(void **state)
{
    static const struct {
        const char *name;
        int64_t hard;
        bool clamped;
    } table[] = { { "nofile", 1 << 20, false }, { "nofile", (1 << 20) + 1, true }, { "nofile", -1, true }, { "nproc", -1, false },
                  { "memlock", INT64_C(1) << 40, false } };
    const struct host_features all = { 0 };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        struct ulimit one = { .name = (char *)table[i].name, .hard = table[i].hard };
        const struct host_config host = { .isolation = (char *)"vm", .ulimits = { .items = &one, .len = 1 } };
        struct strv warnings = { 0 };
        struct err err = { 0 };
        assert_int_equal(features_check(&all, &host, &arena, &warnings, &err), 0);
        assert_int_equal(warnings.len, table[i].clamped);
        if (table[i].clamped)
            assert_non_null(strstr(warnings.items[0], "clamped to 1048576"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signals), cmocka_unit_test(test_limits),  cmocka_unit_test(test_capabilities),
        cmocka_unit_test(test_names),   cmocka_unit_test(test_ulimits), cmocka_unit_test(test_missing_limits),
        cmocka_unit_test(test_ulimits_of_a_guest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
