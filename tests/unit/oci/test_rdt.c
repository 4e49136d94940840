// What `events` says of Intel RDT, out of a folder that looks like the file system.
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "kernel/resctrl.h"
#include "oci/oci_private.h"

static const struct {
    const char *path, *text;
} files[] = {
    { "schemata", "    L3:0=fff;1=fff\n    MB:0=100;1=100\n" },
    { "info/L3/cbm_mask", "fff\n" },
    { "info/L3/min_cbm_bits", "2\n" },
    { "info/L3/num_closids", "16\n" },
    { "info/MB/bandwidth_gran", "10\n" },
    { "info/MB/delay_linear", "1\n" },
    { "info/MB/min_bandwidth", "10\n" },
    { "info/MB/num_closids", "8\n" },
    { "info/L3_MON/mon_features", "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes\n" },
    { "web/schemata", "    L3:0=00f;1=00f\n    MB:0= 20;1= 70\n" },
    { "web/mon_data/mon_L3_01/llc_occupancy", "Unavailable\n" },
    { "web/mon_data/mon_L3_01/mbm_total_bytes", "300\n" },
    { "web/mon_data/mon_L3_01/mbm_local_bytes", "0\n" },
    { "web/mon_data/mon_L3_00/llc_occupancy", "4096\n" },
    { "web/mon_data/mon_L3_00/mbm_total_bytes", "200\n" },
    { "web/mon_data/mon_L3_00/mbm_local_bytes", "100\n" },
    { "web/mon_groups/one/mon_data/mon_L3_00/llc_occupancy", "64\n" },
    { "web/mon_groups/one/mon_data/mon_L3_00/mbm_total_bytes", "7\n" },
    { "web/mon_groups/one/mon_data/mon_L3_00/mbm_local_bytes", "5\n" },
};

static int fill(const char *root, const char *only)
{
    int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        _cleanup_free_ char *folder = mem_strdup(files[i].path);
        char *slash = strrchr(folder, '/');
        if (only && strncmp(files[i].path, only, strlen(only)) != 0 && strncmp(files[i].path, "web/schemata", 12) != 0)
            continue;
        if (slash) {
            *slash = '\0';
            assert_int_equal(file_mkdirs(fd, folder, 0755, NULL), 0);
        }
        assert_int_equal(file_write_at(fd, files[i].path, files[i].text, strlen(files[i].text), 0644, false, NULL), 0);
    }
    return fd;
}

static void expect(const char *only, const struct resctrl_group *group, const char *wanted)
{
    char root[] = "/tmp/rdt-test-XXXXXX";
    assert_non_null(mkdtemp(root));
    int fd = fill(root, only);
    _cleanup_json_ json_t *got = rdt_report(fd, group), *want = json_loads(wanted, 0, NULL);
    assert_non_null(want);
    if (!json_equal(got, want))
        fail_msg("%s", json_dumps(got, JSON_INDENT(1)));
    close(fd);
    assert_int_equal(file_remove_tree(AT_FDCWD, root, NULL), 0);
}

#define MEANS                                                                                                           \
    "\"l3_cache_info\":{\"cbm_mask\":\"fff\",\"min_cbm_bits\":2,\"num_closids\":16},"                                   \
    "\"mem_bw_info\":{\"bandwidth_gran\":10,\"delay_linear\":1,\"min_bandwidth\":10,\"num_closids\":8},"                \
    "\"l3_cache_schema_root\":\"L3:0=fff;1=fff\",\"mem_bw_schema_root\":\"MB:0=100;1=100\","                            \
    "\"l3_cache_schema\":\"L3:0=00f;1=00f\",\"mem_bw_schema\":\"MB:0= 20;1= 70\",\"schemata\":[\"L3:0=00f;1=00f\",\"MB:0= 20;1= 70\"]"

static void test_all_of_it(void **state)
{
    expect(NULL, &(struct resctrl_group){ .name = "web" },
           "{" MEANS ",\"mbm_stats\":[{\"mbm_total_bytes\":200,\"mbm_local_bytes\":100},{\"mbm_total_bytes\":300,\"mbm_local_bytes\":0}],"
           "\"cmt_stats\":[{\"llc_occupancy\":4096},{}]}");
}

// In a group that others use as well the container's own monitoring group counts.
static void test_a_monitoring_group(void **state)
{
    expect(NULL, &(struct resctrl_group){ .name = "web", .monitor = "one" },
           "{" MEANS ",\"mbm_stats\":[{\"mbm_total_bytes\":7,\"mbm_local_bytes\":5}],\"cmt_stats\":[{\"llc_occupancy\":64}]}");
}

static void test_a_machine_that_has_less(void **state)
{
    expect("info/L3/", &(struct resctrl_group){ .name = "web" },
           "{\"l3_cache_info\":{\"cbm_mask\":\"fff\",\"min_cbm_bits\":2,\"num_closids\":16},\"l3_cache_schema\":\"L3:0=00f;1=00f\","
           "\"mem_bw_schema\":\"MB:0= 20;1= 70\",\"schemata\":[\"L3:0=00f;1=00f\",\"MB:0= 20;1= 70\"]}");
    expect("nothing", &(struct resctrl_group){ .name = "gone" }, "{}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_of_it),
        cmocka_unit_test(test_a_monitoring_group),
        cmocka_unit_test(test_a_machine_that_has_less),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
