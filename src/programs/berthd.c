// berthd: the daemon. Opens the engine, listens, serves until SIGTERM or SIGINT. Ending it ends no container.
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/close_range.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "api/api.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/num.h"
#include "base/process.h"
#include "engine/engine.h"
#include "httpd/httpd.h"
#include "kernel/mount.h"
#include "kernel/notify.h"
#include "options/options.h"

#define DEFAULT_HOST "unix:///run/berth/berth.sock"
#define DEFAULT_GROUP "berth"
#define HOST_MAX 64
#define UNIX "unix://"
#define TCP "tcp://"
#define FD "fd://"
#define DOCKER_SOCKET "/var/run/docker.sock"
#define PROFILE_MAX ((size_t)1 << 20)

static _Noreturn void fail(const char *fmt, ...) _printf_(1, 2);
static _Noreturn void fail(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputs("berthd: ", stderr);
    vfprintf(stderr, fmt, args);
    fputs("\n", stderr);
    va_end(args);
    exit(1);
}

static const char *absolute(const char *path)
{
    if (path[0] == '/')
        return path;
    char here[PATH_MAX];
    if (!getcwd(here, sizeof(here)))
        fail("current folder: %m");
    return mem_printf("%s/%s", here, path);
}

// The daemon's other programs stand beside it.
static char *own_folder(void)
{
    static char path[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);
    if (len <= 0)
        fail("/proc/self/exe: %m");
    path[len] = 0;
    *strrchr(path, '/') = 0;
    return path;
}

// Who forgets TLS gives the host away: it is not enough to say nothing.
static void check_hosts(const struct options *options)
{
    bool has_tls = options->tls || options->tlsverify, plain_tcp = !has_tls && options_given(options, "tls");
    if (options->hosts.len > HOST_MAX)
        fail("more than %d --host", HOST_MAX);
    for (size_t i = 0; i < options->hosts.len; i++) {
        const char *host = options->hosts.items[i];
        if (str_starts(host, TCP) && !has_tls && !plain_tcp)
            fail("--host %s: --tlsverify with --tlscacert, --tlscert and --tlskey is needed, or --tls=false, which makes root of "
                 "everybody who reaches it", host);
        if (!str_starts(host, TCP) && !str_starts(host, UNIX "/") && !str_eq(host, FD) && !str_eq(host, FD "*"))
            fail("--host %s: not unix:///absolute/path, tcp://ADDRESS:PORT or fd://", host);
    }
    if (has_tls && (!options->tlscert || !options->tlskey))
        fail("--tls, --tlsverify: --tlscert and --tlskey are needed");
    if (options->tlsverify != (options->tlscacert != NULL))
        fail("--tlsverify and --tlscacert: one needs the other");
}

static void load_options(int argc, char *argv[], struct options *options, struct err *err)
{
    options_init(options);
    if (options_parse_flags(argc, argv, options, err) < 0)
        fail("%s", err->message);
}

// Everything that stands in the way of a start; `fail` names the first.
static struct options read_options(int argc, char *argv[])
{
    struct options options;
    struct err err = { 0 };
    load_options(argc, argv, &options, &err);
    if (options.help || options.version) {
        if (options.help)
            options_help(stdout);
        else
            puts("berthd version " BERTH_VERSION);
        exit(0);
    }
    if (options_read_file(&options, &err) < 0 || options_check(&options, &err) < 0)
        fail("%s", err.message);
    if (options.hosts.len == 0)
        strv_push_arena(&options.hosts, &options.arena, DEFAULT_HOST);
    check_hosts(&options);
    return options;
}

// ---- what the rooms below are told ----------------------------------------------------------------------------------

static struct engine_settings settings_of(const struct options *options)
{
    return (struct engine_settings){ .debug = options->debug, .labels = options->labels, .downloads = options->max_downloads,
                                     .uploads = options->max_uploads, .attempts = options->max_attempts,
                                     .insecure_registries = options->insecure_registries, .registry_mirrors = options->registry_mirrors,
                                     .runtime = options->default_runtime, .cgroupns_mode = options->cgroupns_mode,
                                     .ipc_mode = options->ipc_mode, .shm_size = options->shm_size };
}

// NULL for the built-in filter.
static const char *seccomp_of(struct options *options)
{
    const char *path = options->seccomp_profile;
    struct err err = { 0 };
    _cleanup_buf_ struct buf text = BUF_INIT(PROFILE_MAX);
    if (str_empty(path) || str_eq(path, "builtin"))
        return NULL;
    if (str_eq(path, "unconfined"))
        return path;
    if (file_read_at(AT_FDCWD, path, &text, &err) < 0)
        fail("--seccomp-profile: %s", err.message);
    return arena_strdup(&options->arena, buf_text(&text));
}

static void fill_ulimits(struct options *options, struct json_list *out)
{
    struct err err = { 0 };
    for (size_t i = 0; i < options->ulimits.len; i++) {
        struct ulimit *ulimit = json_list_add(out, &ulimit_table, &options->arena);
        if (options_parse_ulimit(options->ulimits.items[i], &options->arena, &ulimit->name, &ulimit->soft, &ulimit->hard, &err) < 0)
            fail("%s", err.message);
    }
}

static struct engine_defaults defaults_of(struct options *options)
{
    struct engine_defaults defaults = { .dns = options->dns, .dns_search = options->dns_search, .dns_options = options->dns_options,
                                        .host_gateways = options->host_gateway_ips, .cdi_folders = options->cdi_spec_dirs,
                                        .cgroup_parent = options->cgroup_parent,
                                        .seccomp = seccomp_of(options), .publish_ip = options->publish_ip,
                                        .stop_timeout = options->stop_timeout, .init = options->init,
                                        .no_new_privileges = options->no_new_privileges };
    if (!str_empty(options->host_gateway_ip))
        strv_push_arena(&defaults.host_gateways, &options->arena, options->host_gateway_ip);
    fill_ulimits(options, &defaults.ulimits);
    if (options_given(options, "log-driver") || options->log_opts.len > 0) {
        defaults.log_driver = options->log_driver;
        defaults.log_opts = options->log_opts;
    }
    return defaults;
}

static struct engine_pool *pools_of(struct options *options)
{
    struct err err = { 0 };
    struct engine_pool *pools = arena_alloc(&options->arena, (options->address_pools.len + 1) * sizeof(*pools));
    for (size_t i = 0; i < options->address_pools.len; i++)
        if (options_parse_pool(options->address_pools.items[i], &options->arena, &pools[i].base, &pools[i].size, &err) < 0)
            fail("--default-address-pool: %s", err.message);
    return pools;
}

static struct engine_options engine_options_of(struct options *options)
{
    return (struct engine_options){ .data_root = absolute(options->data_root), .exec_root = absolute(options->exec_root),
                                    .storage_driver = options->storage_driver, .bip = options->bip, .program_dir = own_folder(),
                                    .address_pools = pools_of(options), .address_pool_len = options->address_pools.len,
                                    .bridge = { .name = options->bridge, .fixed_cidr = options->fixed_cidr, .gateway = options->default_gateway,
                                                .ipv6 = options->ipv6, .address6 = options->bip6, .fixed_cidr6 = options->fixed_cidr6,
                                                .gateway6 = options->default_gateway6, .mtu = options->mtu, .isolated = !options->icc, .no_masquerade = !options->ip_masq || !options->iptables },
                                    .no_rules = !options->iptables, .no_rules6 = !options->ip6tables, .no_proxy = !options->userland_proxy,
                                    .direct_routing = options->direct_routing, .accept_mark = options->accept_mark, .no_forward = !options->ip_forward, .network_options = options->network_options,
                                    .keep_compressed = options->keep_compressed, .experimental = options->experimental,
                                    .guest_dir = options->guest ? absolute(options->guest) : NULL,
                                    .registry_certs = options->registry_certs ? absolute(options->registry_certs) : NULL,
                                    .inflate_ratio = options_given(options, "max-inflate-ratio")
                                                         ? arena_printf(&options->arena, "%lld", (long long)options->inflate_ratio) : NULL,
                                    .userns_remap = options->userns_remap,
                                    .accel = options->accel, .settings = settings_of(options), .defaults = defaults_of(options) };
}

// The worker programs find it in their environment, as they do when the daemon's own starter set it.
static void set_proxies(const struct options *options)
{
    const char *const table[][2] = { { "HTTP_PROXY", options->http_proxy }, { "HTTPS_PROXY", options->https_proxy },
                                     { "NO_PROXY", options->no_proxy } };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i][1])
            setenv(table[i][0], table[i][1], 1);
}

static enum log_level level_of(const struct options *options)
{
    enum log_level level = LOG_INFO;
    log_level_parse(options->log_level, &level);
    return options->debug ? LOG_DEBUG : level;
}

// ---- stages ---------------------------------------------------------------------------------------------------------

static void require_root(void)
{
    if (geteuid() != 0)
        fail("must be run by root");
    if (mount_is_chrooted())
        fail("runs in a chroot: docker exec would enter what lies below it; give it a root by pivot_root instead");
}

// SIGTERM, SIGINT and SIGHUP come through a descriptor; blocked before any thread exists, so that all inherit it.
static int setup_signals(void)
{
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGINT);
    sigaddset(&wanted, SIGHUP);
    sigprocmask(SIG_BLOCK, &wanted, NULL);
    signal(SIGPIPE, SIG_IGN);
    int fd = signalfd(-1, &wanted, SFD_CLOEXEC);
    if (fd < 0)
        fail("signalfd: %m");
    return fd;
}

// Out of the file alone: asking every source of names would load them all, for a group that is made here or nowhere.
static struct group *local_group(const char *name)
{
    FILE *file = fopen("/etc/group", "re");
    struct group *entry = NULL;
    while (file && (entry = fgetgrent(file)) && !str_eq(entry->gr_name, name))
        ;
    if (file)
        fclose(file);
    return entry;
}

static int listen_on_path(const char *path, const char *group, struct err *err)
{
    const char *name = strrchr(path, '/') + 1;
    _cleanup_free_ char *folder_path = mem_strndup(path, (size_t)(name - path));
    if (file_mkdirs(AT_FDCWD, str_eq(folder_path, "/") ? "/." : folder_path, 0755, err) < 0)
        return -1;
    _cleanup_close_ int folder = file_open_dir(AT_FDCWD, folder_path, err);
    _cleanup_close_ int sock = folder < 0 ? -1 : fd_unix_listen_at(folder, name, err);
    if (sock < 0)
        return -1;
    struct group *entry = group ? getgrnam(group) : local_group(DEFAULT_GROUP);
    if (group && !entry)
        return err_set(err, ERR_NOT_FOUND, "--group %s: no such group", group);
    if (entry && (fchownat(folder, name, 0, entry->gr_gid, 0) < 0 || fchmodat(folder, name, 0660, 0) < 0))
        return err_errno(err, errno, "%s", path);
    return take_fd(&sock);
}

// One that systemd opened: what reaches it from elsewhere needs what tcp:// needs.
static int listen_on_passed(const struct options *options, int sock, struct httpd *httpd, struct httpd_tls *tls, struct err *err)
{
    int domain = 0, listens = 0;
    socklen_t size = sizeof(int);
    if (getsockopt(sock, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0 || getsockopt(sock, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0 || !listens)
        return err_set(err, ERR_INVALID_ARGUMENT, "descriptor %d is no listening socket", sock);
    if (domain == AF_UNIX)
        return httpd_listen(httpd, sock, err);
    if (!tls && !options_given(options, "tls"))
        return err_set(err, ERR_INVALID_ARGUMENT, "a network socket needs --tlsverify, or --tls=false, which makes root of everybody who reaches it");
    return httpd_listen_tls(httpd, sock, tls, err);
}

static int listen_on_all_passed(const struct options *options, int passed, struct httpd *httpd, struct httpd_tls *tls, struct err *err)
{
    if (passed == 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "no sockets found via socket activation: make sure the service was started by systemd");
    for (int i = 0; i < passed; i++)
        if (listen_on_passed(options, NOTIFY_FIRST_FD + i, httpd, tls, err) < 0)
            return -1;
    return 0;
}

static int listen_on(const struct options *options, const char *host, int passed, struct httpd *httpd, struct httpd_tls *tls, struct err *err)
{
    if (str_starts(host, FD))
        return listen_on_all_passed(options, passed, httpd, tls, err);
    if (str_starts(host, UNIX)) {
        int sock = listen_on_path(host + strlen(UNIX), options->group, err);
        return sock < 0 ? -1 : httpd_listen(httpd, sock, err);
    }
    int sock = httpd_tcp_socket(host + strlen(TCP), err);
    if (sock >= 0 && !options->tlsverify)
        log_warn("%s: who reaches it has root's rights on this host", host);
    return sock < 0 ? -1 : httpd_listen_tls(httpd, sock, tls, err);
}

static void remove_sockets(const struct options *options)
{
    for (size_t i = 0; i < options->hosts.len; i++)
        if (str_starts(options->hosts.items[i], UNIX))
            unlink(options->hosts.items[i] + strlen(UNIX));
}

static const char *linked_socket(const struct options *options)
{
    for (size_t i = 0; i < options->hosts.len; i++)
        if (str_starts(options->hosts.items[i], UNIX))
            return options->hosts.items[i] + strlen(UNIX);
    return DEFAULT_HOST + strlen(UNIX); // where berthd.socket listens
}

static bool is_linked(const struct options *options)
{
    char target[PATH_MAX];
    ssize_t size = readlink(DOCKER_SOCKET, target, sizeof(target) - 1);
    return size > 0 && slice_eq((struct slice){ target, (size_t)size }, linked_socket(options));
}

// For clients that know no other name. A name that somebody has is left to him; a link of ours is what a killed daemon left.
static void link_docker_socket(const struct options *options)
{
    if (!options->docker_socket || symlink(linked_socket(options), DOCKER_SOCKET) == 0)
        return;
    int number = errno;
    if (number != EEXIST || !is_linked(options))
        log_warn("--docker-socket: " DOCKER_SOCKET ": %s", number == EEXIST ? "the name is taken" : strerror(number));
}

static void unlink_docker_socket(const struct options *options)
{
    if (options->docker_socket && is_linked(options))
        unlink(DOCKER_SOCKET);
}

static void write_pidfile(const char *path)
{
    char text[16];
    struct err err = { 0 };
    int len = snprintf(text, sizeof(text), "%d\n", getpid());
    if (path && file_write_at(AT_FDCWD, path, text, (size_t)len, 0644, false, &err) < 0)
        fail("%s", err.message);
}

// Nobody who waits for it is no reason to end.
static void tell_manager(const char *text)
{
    struct err err = { 0 };
    if (notify_send(text, &err) < 0)
        log_warn("%s", err.message);
}

static void reload(int argc, char *argv[], struct engine *engine)
{
    struct options options;
    struct err err = { 0 };
    tell_manager("RELOADING=1");
    options_init(&options);
    if (options_parse_flags(argc, argv, &options, &err) == 0 && options_read_file(&options, &err) == 0 && options_check(&options, &err) == 0) {
        const struct engine_settings settings = settings_of(&options);
        log_set_level(level_of(&options));
        engine_reload(engine, &settings);
        log_info("reloaded from %s", options.config_file);
    } else {
        log_error("nothing is reloaded: %s", err.message);
    }
    options_done(&options);
    tell_manager("READY=1");
}

// Until a signal says that it is time to end.
static uint32_t await_end(int signal_fd, int argc, char *argv[], struct engine *engine)
{
    struct signalfd_siginfo got;
    for (;;) {
        if (read(signal_fd, &got, sizeof(got)) != sizeof(got))
            continue;
        if (got.ssi_signo != SIGHUP)
            return got.ssi_signo;
        reload(argc, argv, engine);
    }
}

// Metrics have a server of their own: nobody who only counts gets at the API.
static struct httpd *serve_metrics(const struct options *options, struct api *api)
{
    struct err err = { 0 };
    struct httpd *httpd = NULL;
    const struct httpd_config config = { .handle = api_handle_metrics, .body = api_body_metrics, .is_urgent = api_is_urgent, .context = api,
                                         .body_max = 4096, .connection_max = 64 };
    if (str_empty(options->metrics_addr))
        return NULL;
    int sock = httpd_tcp_socket(options->metrics_addr, &err);
    if (sock < 0 || httpd_new(&config, &httpd, &err) < 0 || httpd_listen(httpd, sock, &err) < 0 || httpd_start(httpd, &err) < 0)
        fail("--metrics-addr %s: %s", options->metrics_addr, err.message);
    return httpd;
}

static void serve(const struct options *options, struct engine *engine, int signal_fd, int passed, int argc, char *argv[])
{
    struct err err = { 0 };
    struct api *api = NULL;
    struct httpd *httpd = NULL;
    struct httpd_tls *tls = NULL;
    const struct httpd_tls_files files = { options->tlscert, options->tlskey, options->tlscacert };
    if (api_new(engine, &api, &err) < 0)
        fail("%s", err.message);
    const struct httpd_config config = { .handle = api_handle, .body = api_body, .is_urgent = api_is_urgent, .http2 = api_http2, .context = api,
                                         .body_max = 4 << 20, .connection_max = 2048 };
    if (((options->tls || options->tlsverify) && httpd_tls_new(&files, &tls, &err) < 0) || httpd_new(&config, &httpd, &err) < 0)
        fail("%s", err.message);
    for (size_t i = 0; i < options->hosts.len; i++)
        if (listen_on(options, options->hosts.items[i], passed, httpd, tls, &err) < 0)
            fail("--host %s: %s", options->hosts.items[i], err.message);
    if (httpd_start(httpd, &err) < 0)
        fail("%s", err.message);
    struct httpd *metrics = serve_metrics(options, api);
    write_pidfile(options->pidfile);
    link_docker_socket(options);
    engine_resume(engine);
    log_info("serving %s, daemon %s", options->hosts.items[0], engine_id(engine));

    tell_manager("READY=1");
    process_settle(); // the start took three times of what stays
    log_info("signal %u: ending; instances go on", await_end(signal_fd, argc, argv, engine));
    tell_manager("STOPPING=1");
    unlink_docker_socket(options);
    remove_sockets(options);
    if (metrics) {
        httpd_stop(metrics);
        httpd_free(metrics);
    }
    httpd_stop(httpd);
    httpd_free(httpd);
    httpd_tls_free(tls);
    api_free(api);
    if (options->pidfile)
        unlink(options->pidfile);
}

// ---- --stop-all -----------------------------------------------------------------------------------------------------

// Ends the daemon that holds the data root, by the pid in its lock file, and waits for the lock.
static void end_running_daemon(const struct options *options)
{
    _cleanup_buf_ struct buf text = BUF_INIT(64);
    uint64_t pid;
    _cleanup_close_ int root = open(options->data_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || file_read_at(root, "lock", &text, NULL) < 0)
        return;
    for (int64_t deadline = clock_mono_ns() + 20 * NS_PER_S; clock_mono_ns() < deadline; poll(NULL, 0, 20)) {
        struct err err = { 0 };
        int lock = file_lock_at(root, "lock", &err);
        if (lock >= 0) {
            fd_close(lock);
            return;
        }
        if (num_parse_u64(slice_trim(slice_of(buf_text(&text))), INT_MAX, &pid) && pid > 1)
            kill((pid_t)pid, SIGTERM);
    }
    fail("the running daemon (pid %s) did not end", buf_text(&text));
}

static int stop_all(struct options *options)
{
    struct err err = { 0 };
    struct engine *engine = NULL;
    if (access(options->data_root, F_OK) < 0)
        return 0;
    end_running_daemon(options);
    const struct engine_options wanted = engine_options_of(options);
    if (engine_open(&wanted, &engine, &err) < 0 || engine_stop_all(engine, &err) < 0)
        fail("%s", err.message);
    engine_close(engine);
    unlink_docker_socket(options);
    remove_sockets(options);
    if (file_remove_tree(AT_FDCWD, wanted.exec_root, &err) < 0)
        fail("%s", err.message);
    return 0;
}

int main(int argc, char *argv[])
{
    struct options options = read_options(argc, argv);
    struct engine *engine = NULL;
    struct err err = { 0 };

    if (options.validate) {
        fputs("configuration OK\n", stderr);
        return 0;
    }
    require_root();
    mallopt(M_ARENA_MAX, 2); // each of many short threads would else leave an arena of its own behind: 0.2 MiB for each of 16
    int passed = notify_listen_fds();
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC); // what our starter left open stays out of every child
    log_setup("berthd", level_of(&options), str_eq(options.log_format, "json"));
    set_proxies(&options);
    umask(022);
    int signal_fd = setup_signals();
    json_object_seed(0);
    if (options.stop_all)
        return stop_all(&options);
    const struct engine_options wanted = engine_options_of(&options);
    if (engine_open(&wanted, &engine, &err) < 0)
        fail("%s", err.message);
    serve(&options, engine, signal_fd, passed, argc, argv);
    engine_close(engine);
    options_done(&options);
    return 0;
}
