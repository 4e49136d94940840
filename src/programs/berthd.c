// berthd: the daemon. Opens the engine, listens, serves until SIGTERM or SIGINT. Ending it ends no container.
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
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
#include "engine/engine.h"
#include "httpd/httpd.h"
#include "kernel/mount.h"

#define DEFAULT_HOST "unix:///run/berth/berth.sock"
#define HOST_MAX 8
#define UNIX "unix://"
#define TCP "tcp://"

struct options {
    struct engine_options engine;
    const char *hosts[HOST_MAX];
    size_t host_len;
    struct httpd_tls_files tls;
    bool has_tls, plain_tcp, verify_clients;
    const char *pidfile, *group;
    enum log_level level;
    bool json_log, stop_all;
};

// ---- the command line -----------------------------------------------------------------------------------------------

static const char usage[] =
    "Usage: berthd [OPTIONS]\n"
    "\n"
    "The Berth daemon: serves the Docker Engine API.\n"
    "\n"
    "      --accel WORD          What runs microVMs: kvm, tcg (emulation), or auto: KVM where it can (default auto)\n"
    "      --bip ADDRESS         Address of the default bridge, as 172.17.0.1/16 (default: the first free one)\n"
    "      --data-root DIR       Images, containers, volumes (default /var/lib/berth)\n"
    "  -D, --debug               The same as --log-level debug\n"
    "      --exec-root DIR       State that a reboot clears (default /run/berth)\n"
    "  -G, --group NAME          Group that may use the unix socket (default: root alone)\n"
    "  -H, --host ADDRESS        Where to listen: unix://PATH, or tcp://ADDRESS:PORT; may be repeated (default " DEFAULT_HOST ")\n"
    "      --guest DIR           The microVMs' kernel and initramfs (default: beside this program, in ../guest or\n"
    "                            ../lib/berth/guest, then guest in the data root)\n"
    "      --help                This text\n"
    "      --insecure-registry HOST[:PORT]|NETWORK\n"
    "                            A registry that may be without a good certificate, or without TLS; may be repeated\n"
    "      --log-format FORMAT   text or json (default text)\n"
    "  -l, --log-level LEVEL     debug, info, warn, error or fatal (default info)\n"
    "      --max-inflate-ratio N Images may inflate to N times of what is loaded or pulled, or to 4 GiB if that is more\n"
    "                            (default 200; 0: without bound)\n"
    "  -p, --pidfile FILE        Write the process id there\n"
    "      --registry-certs DIR  Registries' certificates, a folder for each host (default /etc/docker/certs.d)\n"
    "      --registry-mirror URL Asked for images of docker.io first; may be repeated\n"
    "      --stop-all            Stop all instances, remove everything of this daemon's from the host, and exit;\n"
    "                            a running daemon of the same roots is ended first. Images and volumes stay\n"
    "  -s, --storage-driver NAME How layers of images are kept: erofs or overlay2 (default erofs where the kernel mounts it)\n"
    "      --tls[=false]         TLS on tcp:// sockets, clients show no certificate; false: none there. One of the two, or\n"
    "                            --tlsverify, is needed for tcp://: who reaches such a socket is root on this host\n"
    "      --tlscacert FILE      With --tlsverify: who signs the clients' certificates\n"
    "      --tlscert FILE        The daemon's certificate, its chain behind it (PEM)\n"
    "      --tlskey FILE         The certificate's key\n"
    "      --tlsverify           TLS on tcp:// sockets, for clients with a certificate by --tlscacert\n"
    "  -v, --version             The version\n";

enum { OPT_ACCEL = 256, OPT_BIP, OPT_DATA_ROOT, OPT_EXEC_ROOT, OPT_STOP_ALL, OPT_GUEST, OPT_HELP, OPT_LOG_FORMAT, OPT_INSECURE,
       OPT_CERTS, OPT_MIRROR, OPT_RATIO, OPT_TLS, OPT_TLSCACERT, OPT_TLSCERT, OPT_TLSKEY, OPT_TLSVERIFY };

static const struct option long_options[] = {
    { "accel", required_argument, NULL, OPT_ACCEL },
    { "bip", required_argument, NULL, OPT_BIP },
    { "data-root", required_argument, NULL, OPT_DATA_ROOT },
    { "debug", no_argument, NULL, 'D' },
    { "exec-root", required_argument, NULL, OPT_EXEC_ROOT },
    { "group", required_argument, NULL, 'G' },
    { "guest", required_argument, NULL, OPT_GUEST },
    { "host", required_argument, NULL, 'H' },
    { "help", no_argument, NULL, OPT_HELP },
    { "insecure-registry", required_argument, NULL, OPT_INSECURE },
    { "log-format", required_argument, NULL, OPT_LOG_FORMAT },
    { "log-level", required_argument, NULL, 'l' },
    { "max-inflate-ratio", required_argument, NULL, OPT_RATIO },
    { "pidfile", required_argument, NULL, 'p' },
    { "registry-certs", required_argument, NULL, OPT_CERTS },
    { "registry-mirror", required_argument, NULL, OPT_MIRROR },
    { "stop-all", no_argument, NULL, OPT_STOP_ALL },
    { "storage-driver", required_argument, NULL, 's' },
    { "tls", optional_argument, NULL, OPT_TLS },
    { "tlscacert", required_argument, NULL, OPT_TLSCACERT },
    { "tlscert", required_argument, NULL, OPT_TLSCERT },
    { "tlskey", required_argument, NULL, OPT_TLSKEY },
    { "tlsverify", no_argument, NULL, OPT_TLSVERIFY },
    { "version", no_argument, NULL, 'v' },
    { NULL, 0, NULL, 0 },
};

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

static void set_option(struct options *options, int option, const char *value)
{
    switch (option) {
    case OPT_ACCEL:
        options->engine.accel = value;
        break;
    case OPT_GUEST:
        options->engine.guest_dir = value;
        break;
    case OPT_BIP:
        options->engine.bip = value;
        break;
    case OPT_DATA_ROOT:
        options->engine.data_root = value;
        break;
    case OPT_EXEC_ROOT:
        options->engine.exec_root = value;
        break;
    case OPT_INSECURE:
        strv_add(&options->engine.insecure_registries, value);
        break;
    case OPT_MIRROR:
        strv_add(&options->engine.registry_mirrors, value);
        break;
    case OPT_CERTS:
        options->engine.registry_certs = absolute(value);
        break;
    case OPT_RATIO: {
        uint64_t ratio;
        if (!num_parse_u64(slice_of(value), UINT32_MAX, &ratio))
            fail("--max-inflate-ratio %s: not a number", value);
        options->engine.inflate_ratio = value;
        break;
    }
    case OPT_STOP_ALL:
        options->stop_all = true;
        break;
    case 'D':
        options->level = LOG_DEBUG;
        break;
    case 'G':
        options->group = value;
        break;
    case 'p':
        options->pidfile = value;
        break;
    case 'H':
        if (options->host_len == HOST_MAX)
            fail("more than %d --host", HOST_MAX);
        options->hosts[options->host_len++] = value;
        break;
    case 's':
        options->engine.storage_driver = value;
        break;
    case OPT_TLS:
        if (value && !str_eq(value, "true") && !str_eq(value, "false"))
            fail("--tls=%s: not true or false", value);
        options->has_tls = !value || str_eq(value, "true");
        options->plain_tcp = !options->has_tls;
        break;
    case OPT_TLSCACERT:
        options->tls.client_ca = value;
        break;
    case OPT_TLSCERT:
        options->tls.cert = value;
        break;
    case OPT_TLSKEY:
        options->tls.key = value;
        break;
    case OPT_TLSVERIFY:
        options->has_tls = options->verify_clients = true;
        break;
    case 'l':
        if (!log_level_parse(value, &options->level))
            fail("--log-level %s: not one of debug, info, warn, error, fatal", value);
        break;
    case OPT_LOG_FORMAT:
        if (!str_eq(value, "text") && !str_eq(value, "json"))
            fail("--log-format %s: not text or json", value);
        options->json_log = str_eq(value, "json");
        break;
    case 'v':
        puts("berthd version " BERTH_VERSION);
        exit(0);
    case OPT_HELP:
        fputs(usage, stdout);
        exit(0);
    default:
        fail("see berthd --help");
    }
}

// Who forgets TLS gives the host away: it is not enough to say nothing.
static void check_hosts(const struct options *options)
{
    for (size_t i = 0; i < options->host_len; i++) {
        const char *host = options->hosts[i];
        if (str_starts(host, TCP) && !options->has_tls && !options->plain_tcp)
            fail("--host %s: --tlsverify with --tlscacert, --tlscert and --tlskey is needed, or --tls=false, which makes root of "
                 "everybody who reaches it", host);
        if (!str_starts(host, TCP) && !str_starts(host, UNIX "/"))
            fail("--host %s: not unix:///absolute/path or tcp://ADDRESS:PORT", host);
    }
    if (options->has_tls && (!options->tls.cert || !options->tls.key))
        fail("--tls, --tlsverify: --tlscert and --tlskey are needed");
    if (options->verify_clients != (options->tls.client_ca != NULL))
        fail("--tlsverify and --tlscacert: one needs the other");
}

static struct options parse_options(int argc, char *argv[])
{
    struct options options = { .engine = { .data_root = "/var/lib/berth", .exec_root = "/run/berth" }, .level = LOG_INFO };
    int option;
    while ((option = getopt_long(argc, argv, "DG:H:l:p:s:v", long_options, NULL)) != -1)
        set_option(&options, option, optarg);
    if (optind < argc)
        fail("unexpected argument: %s", argv[optind]);
    if (options.host_len == 0)
        options.hosts[options.host_len++] = DEFAULT_HOST;
    check_hosts(&options);
    return options;
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

// ---- stages ---------------------------------------------------------------------------------------------------------

static void require_root(void)
{
    if (geteuid() != 0)
        fail("must be run by root");
    if (mount_is_chrooted())
        fail("runs in a chroot: docker exec would enter what lies below it; give it a root by pivot_root instead");
}

// SIGTERM and SIGINT come through a descriptor; blocked before any thread exists, so that all inherit it.
static int setup_signals(void)
{
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGINT);
    sigprocmask(SIG_BLOCK, &wanted, NULL);
    signal(SIGPIPE, SIG_IGN);
    int fd = signalfd(-1, &wanted, SFD_CLOEXEC);
    if (fd < 0)
        fail("signalfd: %m");
    return fd;
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
    struct group *entry = group ? getgrnam(group) : NULL;
    if (group && !entry)
        return err_set(err, ERR_NOT_FOUND, "--group %s: no such group", group);
    if (entry && (fchownat(folder, name, 0, entry->gr_gid, 0) < 0 || fchmodat(folder, name, 0660, 0) < 0))
        return err_errno(err, errno, "%s", path);
    return take_fd(&sock);
}

static int listen_on(const struct options *options, const char *host, struct httpd *httpd, struct httpd_tls *tls, struct err *err)
{
    if (str_starts(host, UNIX)) {
        int sock = listen_on_path(host + strlen(UNIX), options->group, err);
        return sock < 0 ? -1 : httpd_listen(httpd, sock, err);
    }
    int sock = httpd_tcp_socket(host + strlen(TCP), err);
    if (sock >= 0 && !options->verify_clients)
        log_warn("%s: who reaches it has root's rights on this host", host);
    return sock < 0 ? -1 : httpd_listen_tls(httpd, sock, tls, err);
}

static void remove_sockets(const struct options *options)
{
    for (size_t i = 0; i < options->host_len; i++)
        if (str_starts(options->hosts[i], UNIX))
            unlink(options->hosts[i] + strlen(UNIX));
}

static void write_pidfile(const char *path)
{
    char text[16];
    struct err err = { 0 };
    int len = snprintf(text, sizeof(text), "%d\n", getpid());
    if (path && file_write_at(AT_FDCWD, path, text, (size_t)len, 0644, false, &err) < 0)
        fail("%s", err.message);
}

static void serve(const struct options *options, struct engine *engine, int signal_fd)
{
    struct err err = { 0 };
    struct api *api = NULL;
    struct httpd *httpd = NULL;
    struct httpd_tls *tls = NULL;
    struct signalfd_siginfo got;
    if (api_new(engine, &api, &err) < 0)
        fail("%s", err.message);
    const struct httpd_config config = { .handle = api_handle, .body = api_body, .is_urgent = api_is_urgent, .context = api,
                                         .body_max = 4 << 20, .connection_max = 2048 };
    if ((options->has_tls && httpd_tls_new(&options->tls, &tls, &err) < 0) || httpd_new(&config, &httpd, &err) < 0)
        fail("%s", err.message);
    for (size_t i = 0; i < options->host_len; i++)
        if (listen_on(options, options->hosts[i], httpd, tls, &err) < 0)
            fail("--host %s: %s", options->hosts[i], err.message);
    if (httpd_start(httpd, &err) < 0)
        fail("%s", err.message);
    write_pidfile(options->pidfile);
    engine_resume(engine);
    log_info("serving %s, daemon %s", options->hosts[0], engine_id(engine));

    while (read(signal_fd, &got, sizeof(got)) != sizeof(got))
        ;
    log_info("signal %u: ending; instances go on", got.ssi_signo);
    remove_sockets(options);
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
    _cleanup_close_ int root = open(options->engine.data_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
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

static int stop_all(const struct options *options)
{
    struct err err = { 0 };
    struct engine *engine = NULL;
    if (access(options->engine.data_root, F_OK) < 0)
        return 0;
    end_running_daemon(options);
    if (engine_open(&options->engine, &engine, &err) < 0 || engine_stop_all(engine, &err) < 0)
        fail("%s", err.message);
    engine_close(engine);
    remove_sockets(options);
    if (file_remove_tree(AT_FDCWD, options->engine.exec_root, &err) < 0)
        fail("%s", err.message);
    return 0;
}

int main(int argc, char *argv[])
{
    struct options options = parse_options(argc, argv);
    struct engine *engine = NULL;
    struct err err = { 0 };

    require_root();
    mallopt(M_ARENA_MAX, 2); // each of many short threads would else leave an arena of its own behind: 0.2 MiB for each of 16
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC); // what our starter left open stays out of every child
    log_setup("berthd", options.level, options.json_log);
    options.engine.program_dir = own_folder();
    options.engine.data_root = absolute(options.engine.data_root);
    options.engine.exec_root = absolute(options.engine.exec_root);
    if (options.engine.guest_dir)
        options.engine.guest_dir = absolute(options.engine.guest_dir);
    umask(022);
    int signal_fd = setup_signals();
    json_object_seed(0);
    if (options.stop_all)
        return stop_all(&options);
    if (engine_open(&options.engine, &engine, &err) < 0)
        fail("%s", err.message);
    serve(&options, engine, signal_fd);
    engine_close(engine);
    return 0;
}
