// From a create body and an image's configuration to the task document.
#include "fixture.h"

struct merging {
    const char *body, *image; // JSON; ' for "
    const char *entrypoint, *cmd, *env; // expected, blanks between words
};

static const struct merging mergings[] = {
    { "{}", "{'Cmd':['echo','a','a']}", "", "echo a a", "" },
    { "{'Cmd':['x','x']}", "{'Cmd':['y']}", "", "x x", "" },
    { "{}", "{'Entrypoint':['e'],'Cmd':['c']}", "e", "c", "" },
    { "{'Cmd':['d']}", "{'Entrypoint':['e'],'Cmd':['c']}", "e", "d", "" },
    { "{'Entrypoint':['f']}", "{'Entrypoint':['e'],'Cmd':['c']}", "f", "", "" },
    { "{'Entrypoint':['f'],'Cmd':['d']}", "{'Entrypoint':['e'],'Cmd':['c']}", "f", "d", "" },
    { "{'Entrypoint':['']}", "{'Entrypoint':['e'],'Cmd':['c']}", "", "", "" },
    { "{'Entrypoint':[''],'Cmd':['d']}", "{'Entrypoint':['e'],'Cmd':['c']}", "", "d", "" },
    { "{'Entrypoint':[]}", "{'Entrypoint':['e'],'Cmd':['c']}", "", "c", "" },
    { "{'Entrypoint':null}", "{'Entrypoint':['e']}", "e", "", "" },
    { "{'Env':['B=2','A=3']}", "{'Env':['PATH=/x','A=1']}", "", "", "B=2 A=3 PATH=/x" },
    { "{'Env':['A']}", "{'Env':['A=1','AB=2']}", "", "", "A AB=2" },
};

static json_t *parse(struct arena *arena, const char *quoted)
{
    json_t *value = NULL;
    struct err err = { 0 };
    char *text = arena_strdup(arena, quoted);
    for (char *c = text; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    if (json_parse(text, strlen(text), &value, &err) < 0)
        fail_msg("%s: %s", text, err.message);
    return value;
}

static void expect_words(const char *body, const struct strv *list, const char *expected)
{
    _cleanup_buf_ struct buf text = BUF_INIT(4096);
    for (size_t i = 0; i < list->len; i++)
        buf_addf(&text, i ? " %s" : "%s", list->items[i]);
    if (!str_eq(buf_text(&text), expected))
        fail_msg("%s: \"%s\", not \"%s\"", body, buf_text(&text), expected);
}

static void test_merge(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(mergings); i++) {
        const struct merging *one = &mergings[i];
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        _cleanup_json_ json_t *body = parse(&arena, one->body), *image_form = parse(&arena, one->image);
        struct container_config config;
        struct oci_image_process image;
        assert_int_equal(json_decode(&container_config_table, body, &config, &arena, NULL, NULL), 0);
        assert_int_equal(json_decode(&oci_image_process_table, image_form, &image, &arena, NULL, NULL), 0);
        merge_image_config(&config, body, &arena, &image);
        expect_words(one->body, &config.process.entrypoint, one->entrypoint);
        expect_words(one->body, &config.process.cmd, one->cmd);
        expect_words(one->body, &config.process.env, one->env);
    }
}

static void test_merge_of_the_rest(void **state)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_json_ json_t *body = parse(&arena, "{'User':'u','Labels':{'a':'mine'},'ExposedPorts':{'80/tcp':{}}}");
    _cleanup_json_ json_t *form = parse(&arena, "{'User':'root','WorkingDir':'/w','StopSignal':'SIGINT','Labels':{'a':'1','b':'2'},"
                                                "'ExposedPorts':{'80/tcp':{},'81/udp':{}},'Volumes':{'/v':{}}}");
    struct container_config config;
    struct oci_image_process image;
    assert_int_equal(json_decode(&container_config_table, body, &config, &arena, NULL, NULL), 0);
    assert_int_equal(json_decode(&oci_image_process_table, form, &image, &arena, NULL, NULL), 0);
    merge_image_config(&config, body, &arena, &image);
    assert_string_equal(config.process.user, "u");
    assert_string_equal(config.process.working_dir, "/w");
    assert_string_equal(config.process.stop_signal, "SIGINT");
    assert_string_equal(kvs_get(&config.process.labels, "a"), "mine");
    assert_string_equal(kvs_get(&config.process.labels, "b"), "2");
    expect_words("ports", &config.process.exposed_ports, "80/tcp 81/udp");
    expect_words("volumes", &config.process.volumes, "/v");
}

// ---- the document ---------------------------------------------------------------------------------------------------

static const char *content(const struct task_document *document, const char *path)
{
    for (size_t i = 0; i < document->files.len; i++) {
        const struct task_file *file = json_list_at(&document->files, &task_file_table, i);
        if (str_eq(file->path, path))
            return file->content;
    }
    fail_msg("no %s", path);
    return NULL;
}

static void build(struct bench *bench, const char *quoted, bool endpoint, struct task_document *out)
{
    struct container *container = bench_container(bench, ID_A, "web", "{}");
    json_decref(container->body);
    container->body = parse(&bench->arena, quoted);
    assert_int_equal(json_decode(&container_config_table, container->body, &container->config, &container->arena, NULL, NULL), 0);
    container_settle(container);
    if (endpoint)
        bench_endpoint(container);
    if (document_build(container, &bench->arena, out, &bench->err) < 0)
        fail_msg("%s", bench->err.message);
}

static bool has_namespace(const struct task_document *document, const char *type)
{
    const struct oci_namespace *list = document->linux_section.namespaces.items;
    for (size_t i = 0; i < document->linux_section.namespaces.len; i++)
        if (str_eq(list[i].type, type))
            return true;
    return false;
}

static void test_defaults(void **state)
{
    struct bench bench;
    struct task_document document;
    bench_open(&bench);
    build(&bench, "{'Cmd':['sh']}", true, &document);
    assert_string_equal(document.hostname, "aa0000000000");
    assert_string_equal(content(&document, "/etc/hostname"), "aa0000000000\n");
    assert_non_null(strstr(content(&document, "/etc/hosts"), "172.17.0.2\taa0000000000\n"));
    assert_string_equal(document.process.cwd, "/");
    assert_string_equal(document.process.user.name, "0");
    assert_null(strv_env(&document.process.env, "TERM"));
    assert_string_equal(strv_env(&document.process.env, "HOSTNAME"), "aa0000000000");
    assert_string_equal(strv_env(&document.process.env, "PATH"), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    assert_string_equal(document.linux_section.cgroups_path, "berth-0a1b2c3d/" ID_A);
    assert_string_equal(document.linux_section.seccomp_profile, "default");
    assert_string_equal(document.stop_signal, "SIGTERM");
    assert_string_equal(document.log.driver, "json-file");
    assert_true(document.linux_section.masked_paths.len > 0 && document.linux_section.readonly_paths.len > 0);
    const struct task_nic *nic = json_list_at(&document.nics, &task_nic_table, 0);
    assert_string_equal(nic->name, "eth0");
    assert_string_equal(nic->address, "172.17.0.2");
    assert_true(has_namespace(&document, "cgroup") && has_namespace(&document, "network"));
    bench_close(&bench);
    bench_open(&bench);
    build(&bench, "{'Cmd':['sh'],'HostConfig':{'CgroupnsMode':'host'}}", true, &document);
    assert_true(!has_namespace(&document, "cgroup") && has_namespace(&document, "network"));
    bench_close(&bench);
}

static void test_environment(void **state)
{
    struct bench bench;
    struct task_document document;
    bench_open(&bench);
    build(&bench, "{'Cmd':['sh'],'Tty':true,'Env':['PATH','TERM=vt100','HOSTNAME=other','EMPTY=','A=1']}", false, &document);
    assert_null(strv_env(&document.process.env, "PATH"));
    assert_string_equal(strv_env(&document.process.env, "TERM"), "vt100");
    assert_string_equal(strv_env(&document.process.env, "HOSTNAME"), "other");
    assert_string_equal(strv_env(&document.process.env, "EMPTY"), "");
    assert_int_equal(document.process.env.len, 4);
    bench_close(&bench);
}

static void test_files(void **state)
{
    struct bench bench;
    struct task_document document;
    bench_open(&bench);
    build(&bench,
          "{'Cmd':['sh'],'Hostname':'web','Domainname':'example.com','HostConfig':{"
          "'ExtraHosts':['db:10.0.0.9','six:2001:db8::1','gw:host-gateway'],'Dns':['9.9.9.9'],'DnsSearch':['a.b','c'],"
          "'DnsOptions':['ndots:2']}}",
          true, &document);
    const char *hosts = content(&document, "/etc/hosts"), *resolv = content(&document, "/etc/resolv.conf");
    assert_non_null(strstr(hosts, "127.0.0.1\tlocalhost\n"));
    assert_non_null(strstr(hosts, "10.0.0.9\tdb\n"));
    assert_non_null(strstr(hosts, "2001:db8::1\tsix\n"));
    assert_non_null(strstr(hosts, "172.17.0.1\tgw\n"));
    assert_non_null(strstr(hosts, "172.17.0.2\tweb.example.com web\n"));
    assert_non_null(strstr(resolv, "nameserver 9.9.9.9\n"));
    assert_non_null(strstr(resolv, "search a.b c\n"));
    assert_non_null(strstr(resolv, "options ndots:2\n"));
    bench_close(&bench);
}

static void test_without_network(void **state)
{
    struct bench bench;
    struct task_document document;
    bench_open(&bench);
    build(&bench, "{'Cmd':['sh'],'HostConfig':{'NetworkMode':'none','ExtraHosts':['gw:host-gateway']}}", false, &document);
    assert_null(strstr(content(&document, "/etc/hosts"), "gw"));
    const struct task_nic *nic = json_list_at(&document.nics, &task_nic_table, 0);
    assert_string_equal(nic->name, "lo");
    bench_close(&bench);
}

static void test_open_paths(void **state)
{
    struct bench bench;
    struct task_document document;
    bench_open(&bench);
    build(&bench, "{'Cmd':['sh'],'HostConfig':{'MaskedPaths':[],'ReadonlyPaths':['/proc/x'],'SecurityOpt':['seccomp=unconfined',"
                  "'no-new-privileges:false'],'AutoRemove':true,'LogConfig':{'Type':'none'},'Init':true}}",
          false, &document);
    assert_int_equal(document.linux_section.masked_paths.len, 0);
    assert_int_equal(document.linux_section.readonly_paths.len, 1);
    assert_string_equal(document.linux_section.seccomp_profile, "unconfined");
    assert_false(document.process.no_new_privileges);
    assert_true(document.rootfs.upper.ephemeral && document.init);
    assert_string_equal(document.log.driver, "none");
    bench_close(&bench);
}

#define PROFILE "{\\\"defaultAction\\\":\\\"SCMP_ACT_ALLOW\\\"}"

static const struct {
    const char *host_config, *profile;
} seccomp_cases[] = {
    { "{}", "default" },
    { "{'SecurityOpt':['seccomp=builtin']}", "default" },
    { "{'SecurityOpt':['seccomp=unconfined','seccomp=builtin']}", "default" },
    { "{'SecurityOpt':['seccomp:unconfined']}", "unconfined" },
    { "{'SecurityOpt':['seccomp=" PROFILE "']}", "{\"defaultAction\":\"SCMP_ACT_ALLOW\"}" },
    { "{'Privileged':true}", "unconfined" },
    { "{'Privileged':true,'SecurityOpt':['seccomp=builtin']}", "default" },
};

// The process and its execs are under the same.
static void test_seccomp(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(seccomp_cases); i++) {
        struct bench bench;
        struct task_document document;
        struct task_exec form;
        struct exec exec = { .id = ID_B };
        bench_open(&bench);
        build(&bench, arena_printf(&bench.arena, "{'Cmd':['sh'],'HostConfig':%s}", seccomp_cases[i].host_config), false, &document);
        assert_string_equal(document.linux_section.seccomp_profile, seccomp_cases[i].profile);
        strv_push_arena(&exec.config.cmd, &bench.arena, "id");
        assert_int_equal(document_exec(bench.engine.containers, &exec, &bench.arena, &form, &bench.err), 0);
        assert_string_equal(task_exec_seccomp(&form), seccomp_cases[i].profile);
        bench_close(&bench);
    }
}

static void test_exec_environment(void **state)
{
    struct bench bench;
    struct task_document ignored;
    struct task_exec form;
    struct exec exec = { .id = ID_B };
    bench_open(&bench);
    build(&bench, "{'Cmd':['sh'],'User':'1000','WorkingDir':'/w','Env':['A=1','B=2']}", false, &ignored);
    strv_push_arena(&exec.config.env, &bench.arena, "A");
    strv_push_arena(&exec.config.env, &bench.arena, "B=3");
    strv_push_arena(&exec.config.cmd, &bench.arena, "id");
    assert_int_equal(document_exec(bench.engine.containers, &exec, &bench.arena, &form, &bench.err), 0);
    assert_null(strv_env(&form.process.env, "A"));
    assert_string_equal(strv_env(&form.process.env, "B"), "3");
    assert_string_equal(form.process.cwd, "/w");
    assert_string_equal(form.process.user.name, "1000");
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merge),           cmocka_unit_test(test_merge_of_the_rest), cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_environment),     cmocka_unit_test(test_files),             cmocka_unit_test(test_without_network),
        cmocka_unit_test(test_open_paths),      cmocka_unit_test(test_exec_environment),  cmocka_unit_test(test_seccomp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
