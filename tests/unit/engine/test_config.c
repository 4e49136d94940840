// The create body. What is refused is read from the tables themselves, so a field that becomes honoured needs no change here.
#include "fixture.h"

static int decode(json_t *body, struct arena *arena, struct json_report *report, struct container_config *config, struct err *err)
{
    return json_decode(&container_config_table, body, config, arena, report, err);
}

// {"HostConfig": {"X": value}} for the path HostConfig.X; `value` is taken over.
static json_t *wrap(const char *section, const char *name, json_t *value)
{
    json_t *inner = json_pack("{s:o}", name, value);
    return section ? json_pack("{s:o}", section, inner) : inner;
}

static void expect_refused(const char *section, const struct json_field *field)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct container_config config;
    struct err err = { 0 };
    char path[128];
    snprintf(path, sizeof(path), "%s%s%s", section ? section : "", section ? "." : "", field->name);
    json_t *const values[] = { json_string("something"), json_integer(7), json_pack("[s]", "x"), json_pack("{s:s}", "k", "v") };
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        _cleanup_json_ json_t *body = wrap(section, field->name, values[i]);
        if (decode(body, &arena, NULL, &config, &err) != -1 || err.class != ERR_NOT_IMPLEMENTED)
            fail_msg("%s with a value: %s", path, err.message);
        if (!strstr(err.message, path))
            fail_msg("no path %s in: %s", path, err.message);
    }
}

static void expect_harmless(const char *section, const struct json_field *field)
{
    static const struct {
        unsigned flag;
        const char *word;
    } flagged[] = { { JSON_NOOP_DEFAULT_WORD, "default" }, { JSON_NOOP_NO_WORD, "no" }, { JSON_NOOP_PRIVATE_WORD, "private" },
                  { JSON_NOOP_LOCAL_WORD, "local" } };
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    json_t *values[12] = { json_null(), json_string(""), json_array(), json_object(), json_integer(0), json_false() };
    size_t len = 6;
    for (size_t i = 0; i < ARRAY_LEN(flagged); i++)
        if (field->flags & flagged[i].flag)
            values[len++] = json_string(flagged[i].word);
    if (field->flags & JSON_NOOP_MINUS_ONE)
        values[len++] = json_integer(-1);
    for (size_t i = 0; i < len; i++) {
        struct container_config config;
        struct err err = { 0 };
        _cleanup_json_ json_t *body = wrap(section, field->name, values[i]);
        if (decode(body, &arena, NULL, &config, &err) < 0)
            fail_msg("%s: %s", field->name, err.message);
    }
}

static void test_refused_fields(void **state)
{
    static const struct {
        const char *section;
        const struct json_table *table;
    } tables[] = { { NULL, &container_config_table }, { "HostConfig", &host_config_table } };
    size_t seen = 0;
    for (size_t t = 0; t < ARRAY_LEN(tables); t++)
        for (size_t i = 0; i < tables[t].table->field_len; i++) {
            const struct json_field *field = &tables[t].table->fields[i];
            if (field->kind != JSON_UNHONOURED)
                continue;
            seen++;
            expect_refused(tables[t].section, field);
            expect_harmless(tables[t].section, field);
        }
    assert_true(seen > 0);
}

// What `docker run busybox` sends without any flag, from a client of 2025 and one of 2020.
static const char *const cli_bodies[] = {
    "{\"Hostname\":\"\",\"Domainname\":\"\",\"User\":\"\",\"AttachStdin\":false,\"AttachStdout\":true,\"AttachStderr\":true,"
    "\"Tty\":false,\"OpenStdin\":false,\"StdinOnce\":false,\"Env\":null,\"Cmd\":null,\"Image\":\"busybox\",\"Volumes\":{},"
    "\"WorkingDir\":\"\",\"Entrypoint\":null,\"OnBuild\":null,\"Labels\":{},\"HostConfig\":{\"Binds\":null,"
    "\"ContainerIDFile\":\"\",\"LogConfig\":{\"Type\":\"\",\"Config\":{}},\"NetworkMode\":\"default\",\"PortBindings\":{},"
    "\"RestartPolicy\":{\"Name\":\"no\",\"MaximumRetryCount\":0},\"AutoRemove\":false,\"VolumeDriver\":\"\","
    "\"VolumesFrom\":null,\"ConsoleSize\":[24,80],\"CapAdd\":null,\"CapDrop\":null,\"CgroupnsMode\":\"\",\"Dns\":[],"
    "\"DnsOptions\":[],\"DnsSearch\":[],\"ExtraHosts\":null,\"GroupAdd\":null,\"IpcMode\":\"\",\"Cgroup\":\"\","
    "\"Links\":null,\"OomScoreAdj\":0,\"PidMode\":\"\",\"Privileged\":false,\"PublishAllPorts\":false,"
    "\"ReadonlyRootfs\":false,\"SecurityOpt\":null,\"UTSMode\":\"\",\"UsernsMode\":\"\",\"ShmSize\":0,\"Isolation\":\"\","
    "\"CpuShares\":0,\"Memory\":0,\"NanoCpus\":0,\"CgroupParent\":\"\",\"BlkioWeight\":0,\"BlkioWeightDevice\":[],"
    "\"BlkioDeviceReadBps\":[],\"BlkioDeviceWriteBps\":[],\"BlkioDeviceReadIOps\":[],\"BlkioDeviceWriteIOps\":[],"
    "\"CpuPeriod\":0,\"CpuQuota\":0,\"CpuRealtimePeriod\":0,\"CpuRealtimeRuntime\":0,\"CpusetCpus\":\"\","
    "\"CpusetMems\":\"\",\"Devices\":[],\"DeviceCgroupRules\":null,\"DeviceRequests\":null,\"MemoryReservation\":0,"
    "\"MemorySwap\":0,\"MemorySwappiness\":-1,\"OomKillDisable\":false,\"PidsLimit\":0,\"Ulimits\":[],\"CpuCount\":0,"
    "\"CpuPercent\":0,\"IOMaximumIOps\":0,\"IOMaximumBandwidth\":0,\"MaskedPaths\":null,\"ReadonlyPaths\":null},"
    "\"NetworkingConfig\":{\"EndpointsConfig\":{\"default\":{\"IPAMConfig\":null,\"Links\":null,\"Aliases\":null,"
    "\"MacAddress\":\"\",\"DriverOpts\":null,\"GwPriority\":0,\"NetworkID\":\"\",\"EndpointID\":\"\",\"Gateway\":\"\","
    "\"IPAddress\":\"\",\"IPPrefixLen\":0,\"IPv6Gateway\":\"\",\"GlobalIPv6Address\":\"\",\"GlobalIPv6PrefixLen\":0,"
    "\"DNSNames\":null}}}}",
    "{\"Hostname\":\"\",\"Domainname\":\"\",\"User\":\"\",\"AttachStdin\":false,\"AttachStdout\":true,\"AttachStderr\":true,"
    "\"Tty\":false,\"OpenStdin\":false,\"StdinOnce\":false,\"Env\":[],\"Cmd\":null,\"Image\":\"busybox\",\"Volumes\":{},"
    "\"WorkingDir\":\"\",\"Entrypoint\":null,\"OnBuild\":null,\"Labels\":{},\"HostConfig\":{\"Binds\":null,"
    "\"ContainerIDFile\":\"\",\"LogConfig\":{\"Type\":\"\",\"Config\":{}},\"NetworkMode\":\"default\",\"PortBindings\":{},"
    "\"RestartPolicy\":{\"Name\":\"no\",\"MaximumRetryCount\":0},\"AutoRemove\":false,\"VolumeDriver\":\"\","
    "\"VolumesFrom\":null,\"CapAdd\":null,\"CapDrop\":null,\"CgroupnsMode\":\"\",\"Dns\":[],\"DnsOptions\":[],"
    "\"DnsSearch\":[],\"ExtraHosts\":null,\"GroupAdd\":null,\"IpcMode\":\"\",\"Cgroup\":\"\",\"Links\":null,"
    "\"OomScoreAdj\":0,\"PidMode\":\"\",\"Privileged\":false,\"PublishAllPorts\":false,\"ReadonlyRootfs\":false,"
    "\"SecurityOpt\":null,\"UTSMode\":\"\",\"UsernsMode\":\"\",\"ShmSize\":0,\"ConsoleSize\":[0,0],\"Isolation\":\"\","
    "\"CpuShares\":0,\"Memory\":0,\"NanoCpus\":0,\"CgroupParent\":\"\",\"BlkioWeight\":0,\"BlkioWeightDevice\":[],"
    "\"BlkioDeviceReadBps\":null,\"BlkioDeviceWriteBps\":null,\"BlkioDeviceReadIOps\":null,\"BlkioDeviceWriteIOps\":null,"
    "\"CpuPeriod\":0,\"CpuQuota\":0,\"CpuRealtimePeriod\":0,\"CpuRealtimeRuntime\":0,\"CpusetCpus\":\"\","
    "\"CpusetMems\":\"\",\"Devices\":[],\"DeviceCgroupRules\":null,\"DeviceRequests\":null,\"KernelMemory\":0,"
    "\"KernelMemoryTCP\":0,\"MemoryReservation\":0,\"MemorySwap\":0,\"MemorySwappiness\":-1,\"OomKillDisable\":false,"
    "\"PidsLimit\":0,\"Ulimits\":null,\"CpuCount\":0,\"CpuPercent\":0,\"IOMaximumIOps\":0,\"IOMaximumBandwidth\":0,"
    "\"MaskedPaths\":null,\"ReadonlyPaths\":null},\"NetworkingConfig\":{\"EndpointsConfig\":{}}}",
};

static void test_clients_without_flags(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(cli_bodies); i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        _cleanup_json_ json_t *body = NULL;
        struct container_config config;
        struct json_report report = { 0 };
        struct err err = { 0 };
        assert_int_equal(json_parse(cli_bodies[i], strlen(cli_bodies[i]), &body, &err), 0);
        if (decode(body, &arena, &report, &config, &err) < 0 || check_config(&config, &err) < 0 ||
            security_check(&config.host_config, &arena, &err) < 0)
            fail_msg("body %zu: %s", i, err.message);
        assert_int_equal(report.unknown.len, 0);
        assert_string_equal(config.image, "busybox");
    }
}

struct checked {
    const char *body;
    enum err_class class; // ERR_NONE: passes
    const char *text;
};

static const struct checked checked[] = {
    { "{'HostConfig':{'Memory':1}}", ERR_INVALID_ARGUMENT, "Minimum memory limit allowed is 6MB" },
    { "{'HostConfig':{'Memory':6291456}}", ERR_NONE, NULL },
    { "{'HostConfig':{'MemorySwap':7000000}}", ERR_INVALID_ARGUMENT, "You should always set the Memory limit" },
    { "{'HostConfig':{'Memory':8000000,'MemorySwap':7000000}}", ERR_INVALID_ARGUMENT, "larger than memory limit" },
    { "{'HostConfig':{'Memory':8000000,'MemorySwap':-1}}", ERR_NONE, NULL },
    { "{'HostConfig':{'NanoCpus':1000,'CpuQuota':1000}}", ERR_INVALID_ARGUMENT, "Conflicting options" },
    { "{'HostConfig':{'NanoCpus':900000000000000}}", ERR_INVALID_ARGUMENT, "range of CPUs is from 0.01" },
    { "{'HostConfig':{'CpuPeriod':1}}", ERR_INVALID_ARGUMENT, "CPU cfs period" },
    { "{'HostConfig':{'CpusetCpus':'0-'}}", ERR_INVALID_ARGUMENT, "Invalid value 0-" },
    { "{'HostConfig':{'CpusetCpus':'4000'}}", ERR_INVALID_ARGUMENT, "Requested CPUs are not available" },
    { "{'HostConfig':{'OomScoreAdj':1001}}", ERR_INVALID_ARGUMENT, "range for oom score adj" },
    { "{'HostConfig':{'ShmSize':-1}}", ERR_INVALID_ARGUMENT, "SHM size" },
    { "{'HostConfig':{'Ulimits':[{'Name':'nosuch','Soft':1,'Hard':1}]}}", ERR_INVALID_ARGUMENT, "invalid ulimit type: nosuch" },
    { "{'HostConfig':{'Ulimits':[{'Name':'nofile','Soft':2,'Hard':1}]}}", ERR_INVALID_ARGUMENT, "less than or equal" },
    { "{'HostConfig':{'Ulimits':[{'Name':'core','Soft':-1,'Hard':-1}]}}", ERR_NONE, NULL },
    { "{'HostConfig':{'ExtraHosts':['a:1.2.3.4','b:host-gateway','c:::1']}}", ERR_NONE, NULL },
    { "{'HostConfig':{'ExtraHosts':['a']}}", ERR_INVALID_ARGUMENT, "bad format for add-host" },
    { "{'HostConfig':{'ExtraHosts':['a:nosuch']}}", ERR_INVALID_ARGUMENT, "invalid IP address in add-host" },
    { "{'HostConfig':{'ExtraHosts':['a\\n1.1.1.1 b:1.2.3.4']}}", ERR_INVALID_ARGUMENT, "bad format" },
    { "{'HostConfig':{'Dns':['1.1.1.1\\nsearch x']}}", ERR_INVALID_ARGUMENT, "nameserver" },
    { "{'HostConfig':{'DnsSearch':['x\\nnameserver 1.1.1.1']}}", ERR_INVALID_ARGUMENT, "line break" },
    { "{'Hostname':'a\\nb'}", ERR_INVALID_ARGUMENT, "invalid hostname format" },
    { "{'Hostname':'web.example.com'}", ERR_NONE, NULL },
    { "{'HostConfig':{'NetworkMode':'host'}}", ERR_NONE, NULL },
    { "{'HostConfig':{'IpcMode':'nosuch'}}", ERR_INVALID_ARGUMENT, "invalid IPC mode: nosuch" },
    { "{'HostConfig':{'PidMode':'container:'}}", ERR_INVALID_ARGUMENT, "invalid PID mode: container:" },
    { "{'HostConfig':{'NetworkMode':'nosuch'}}", ERR_NONE, NULL }, // 201 at create, 404 at start
    { "{'HostConfig':{'LogConfig':{'Type':'awslogs'}}}", ERR_NOT_IMPLEMENTED, "HostConfig.LogConfig.Type" },
    { "{'HostConfig':{'LogConfig':{'Type':'nosuch'}}}", ERR_INVALID_ARGUMENT, "plugin \"nosuch\" not found" },
    { "{'HostConfig':{'LogConfig':{'Config':{'max-size':'1.5 MB','max-file':'3','compress':'T'}}}}", ERR_NONE, NULL },
    { "{'HostConfig':{'LogConfig':{'Config':{'max-size':'0'}}}}", ERR_INVALID_ARGUMENT, "max-size must be a positive number" },
    { "{'HostConfig':{'LogConfig':{'Config':{'max-size':'1x'}}}}", ERR_INVALID_ARGUMENT, "invalid size: '1x'" },
    { "{'HostConfig':{'LogConfig':{'Config':{'max-size':'1kk'}}}}", ERR_INVALID_ARGUMENT, "invalid size: '1kk'" },
    { "{'HostConfig':{'LogConfig':{'Config':{'max-size':'nan'}}}}", ERR_INVALID_ARGUMENT, "invalid size: 'nan'" },
    { "{'HostConfig':{'LogConfig':{'Config':{'max-size':'99999999p'}}}}", ERR_INVALID_ARGUMENT, "invalid size" },
    { "{'HostConfig':{'LogConfig':{'Config':{'max-file':'2000','max-size':'1k'}}}}", ERR_INVALID_ARGUMENT, "max-file cannot be more than" },
    { "{'HostConfig':{'LogConfig':{'Config':{'tag':'{{.Name}}-{{ .ID }}'}}}}", ERR_NONE, NULL },
    { "{'HostConfig':{'LogConfig':{'Config':{'tag':'{{.Name'}}}}", ERR_NOT_IMPLEMENTED, "this template is not supported" },
    { "{'HostConfig':{'LogConfig':{'Config':{'tag':'{{range}}'}}}}", ERR_NOT_IMPLEMENTED, "this template is not supported" },
    { "{'HostConfig':{'LogConfig':{'Config':{'env-regex':'('}}}}", ERR_INVALID_ARGUMENT, "env-regex: bad pattern: (" },
    { "{'HostConfig':{'LogConfig':{'Type':'syslog','Config':{'syslog-address':'tcp+tls://a:1'}}}}", ERR_NOT_IMPLEMENTED, "tcp+tls" },
    { "{'HostConfig':{'LogConfig':{'Type':'syslog','Config':{'cache-disabled':'1','syslog-facility':'7'}}}}", ERR_NONE, NULL },
    { "{'HostConfig':{'LogConfig':{'Type':'journald','Config':{'mode':'non-blocking','max-buffer-size':'65m'}}}}", ERR_INVALID_ARGUMENT, "at most 64m" },
    { "{'HostConfig':{'LogConfig':{'Type':'none','Config':{'whatever':'1'}}}}", ERR_NONE, NULL },
    { "{'HostConfig':{'SecurityOpt':['apparmor=mine']}}", ERR_NOT_IMPLEMENTED, "HostConfig.SecurityOpt" },
    { "{'HostConfig':{'SecurityOpt':['no-new-privileges']}}", ERR_NONE, NULL },
    { "{'HostConfig':{'SecurityOpt':['seccomp=builtin']}}", ERR_NONE, NULL },
    { "{'HostConfig':{'SecurityOpt':['seccomp={\\\"defaultAction\\\":\\\"SCMP_ACT_ALLOW\\\"}']}}", ERR_NONE, NULL },
    { "{'HostConfig':{'SecurityOpt':['seccomp:{\\\"defaultAction\\\":\\\"SCMP_ACT_ALLOW\\\"}']}}", ERR_NONE, NULL },
    { "{'HostConfig':{'SecurityOpt':['seccomp=/a/file']}}", ERR_INVALID_ARGUMENT, "HostConfig.SecurityOpt: Decoding seccomp profile failed" },
    { "{'HostConfig':{'SecurityOpt':['seccomp={']}}", ERR_INVALID_ARGUMENT, "Decoding seccomp profile failed" },
    { "{'HostConfig':{'SecurityOpt':['seccomp={\\\"defaultAction\\\":\\\"SCMP_ACT_PAINT\\\"}']}}", ERR_INVALID_ARGUMENT, "SCMP_ACT_PAINT" },
    { "{'HostConfig':{'SecurityOpt':['seccomp={\\\"defaultAction\\\":\\\"SCMP_ACT_NOTIFY\\\"}']}}", ERR_INVALID_ARGUMENT, "SCMP_ACT_NOTIFY" },
    // The last one counts: what is before it is not even read.
    { "{'HostConfig':{'SecurityOpt':['seccomp={','seccomp=unconfined']}}", ERR_NONE, NULL },
    { "{'HostConfig':{'CapAdd':['NOSUCH']}}", ERR_INVALID_ARGUMENT, "NOSUCH" },
    { "{'HostConfig':{'Sysctls':{'kernel.panic':'1'}}}", ERR_INVALID_ARGUMENT, "is not allowed" },
    { "{'HostConfig':{'Sysctls':{'net.ipv4.ip_forward':'1'}}}", ERR_NONE, NULL },
    { "{'HostConfig':{'Sysctls':{'net.../../x':'1'}}}", ERR_INVALID_ARGUMENT, "is not allowed" },
    { "{'HostConfig':{'AutoRemove':true,'RestartPolicy':{'Name':'always'}}}", ERR_INVALID_ARGUMENT, "AutoRemove" },
    { "{'HostConfig':{'RestartPolicy':{'Name':'sometimes'}}}", ERR_INVALID_ARGUMENT, "unknown policy 'sometimes'" },
    { "{'HostConfig':{'RestartPolicy':{'Name':'always','MaximumRetryCount':1}}}", ERR_INVALID_ARGUMENT, "only be used with 'on-failure'" },
    { "{'HostConfig':{'PortBindings':{'80/tcp':[{'HostPort':'8000-8010'}]}}}", ERR_NONE, NULL },
    { "{'HostConfig':{'PortBindings':{'80':null}}}", ERR_NONE, NULL },
    { "{'HostConfig':{'CgroupnsMode':'host'}}", ERR_NONE, NULL },
    { "{'HostConfig':{'CgroupnsMode':'private'}}", ERR_NONE, NULL },
    { "{'HostConfig':{'CgroupnsMode':'shared'}}", ERR_INVALID_ARGUMENT, "invalid cgroup namespace mode: shared" },
    { "{'Healthcheck':{}}", ERR_NONE, NULL },
    { "{'Healthcheck':{'Test':[]}}", ERR_NONE, NULL },
    { "{'Healthcheck':{'Test':['NONE']}}", ERR_NONE, NULL },
    { "{'Healthcheck':{'Test':['CMD','true'],'Interval':1000000}}", ERR_NONE, NULL },
    { "{'Healthcheck':{'Interval':999999}}", ERR_INVALID_ARGUMENT, "Interval in Healthcheck cannot be less than 1ms" },
    { "{'Healthcheck':{'StartInterval':-1}}", ERR_INVALID_ARGUMENT, "StartInterval in Healthcheck cannot be less than 1ms" },
    { "{'Healthcheck':{'Retries':-1}}", ERR_INVALID_ARGUMENT, "Retries in Healthcheck cannot be negative" },
    { "{'HostConfig':{'PortBindings':{'0/tcp':[{}]}}}", ERR_INVALID_ARGUMENT, "invalid port specification: \"0\"" },
    { "{'HostConfig':{'PortBindings':{'80/nosuch':[{}]}}}", ERR_INVALID_ARGUMENT, "invalid proto" },
    { "{'HostConfig':{'PortBindings':{'80/sctp':[{}]}}}", ERR_NONE, NULL },
    { "{'HostConfig':{'PortBindings':{'80/tcp':[{'HostPort':'70000'}]}}}", ERR_INVALID_ARGUMENT, "\"70000\"" },
    { "{'HostConfig':{'PortBindings':{'80/tcp':[{'HostPort':'90-80'}]}}}", ERR_INVALID_ARGUMENT, "\"90-80\"" },
    { "{'HostConfig':{'PortBindings':{'80/tcp':[{'HostIp':'nosuch'}]}}}", ERR_INVALID_ARGUMENT, "invalid IP address" },
};

static void test_values(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(checked); i++) {
        _cleanup_arena_ struct arena arena = ARENA_INIT;
        _cleanup_json_ json_t *body = NULL;
        struct container_config config;
        struct err err = { 0 };
        char *text = arena_strdup(&arena, checked[i].body);
        for (char *c = text; *c; c++)
            *c = *c == '\'' ? '"' : *c;
        assert_int_equal(json_parse(text, strlen(text), &body, &err), 0);
        assert_int_equal(decode(body, &arena, NULL, &config, &err), 0);
        int result = check_config(&config, &err);
        result = result < 0 ? result : security_check(&config.host_config, &arena, &err);
        if (result != (checked[i].class ? -1 : 0) || err.class != checked[i].class ||
            (checked[i].text && !strstr(err.message, checked[i].text)))
            fail_msg("%s: %s", checked[i].body, err.message);
    }
}

static void test_sizes(void **state)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct container_config config = { 0 };
    struct err err = { 0 };
    for (size_t i = 0; i < 16385; i++)
        strv_push_arena(&config.process.env, &arena, "A=b");
    assert_int_equal(check_config(&config, &err), -1);
    assert_int_equal(err.class, ERR_INVALID_ARGUMENT);
    config.process.env.len--;
    assert_int_equal(check_config(&config, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_fields), cmocka_unit_test(test_clients_without_flags),
        cmocka_unit_test(test_values),         cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
