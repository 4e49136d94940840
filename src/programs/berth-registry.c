// berth-registry: the image registry alone. Opens its folder, listens, serves until SIGTERM or SIGINT, and collects what
// nothing names any more.
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/num.h"
#include "registry/registry.h"
#include "shared/shared.h"
#include "upstream/upstream.h"

#define DEFAULT_ROOT "/var/lib/berth/registry"
#define DEFAULT_SHARED_ROOT "/var/lib/berth"
#define DEFAULT_LISTEN "127.0.0.1:5000"
#define LISTEN_MAX 8

struct options {
    struct registry_options registry;
    struct upstream_options upstream;
    struct httpd_tls_files tls;
    const char *listen[LISTEN_MAX];
    size_t listen_len;
    int64_t collect_every_s, grace_s;
    bool collect_once, json_log;
    bool shared;
    enum log_level level;
};

// ---- the command line -----------------------------------------------------------------------------------------------

static const char usage[] =
    "Usage: berth-registry [OPTIONS]\n"
    "\n"
    "An image registry: serves docker push and pull, and every other client of the OCI distribution specification.\n"
    "\n"
    "      --collect             Remove what nothing names any more, say how much, and exit\n"
    "      --collect-every SECONDS\n"
    "                            Do the same that often while serving; 0: never (default 3600)\n"
    "      --grace SECONDS       Age up to which an upload, or a blob without a manifest, is left alone (default 86400)\n"
    "      --help                This text\n"
    "      --htpasswd FILE       Who may use it: lines \"name:hash\", bcrypt; read anew when it changes (default: everybody)\n"
    "      --listen ADDRESS:PORT Where to listen; may be repeated (default " DEFAULT_LISTEN ")\n"
    "      --log-format FORMAT   text or json (default text)\n"
    "  -l, --log-level LEVEL     debug, info, warn, error or fatal (default info)\n"
    "      --proxy URL           Be a cache of the registry there: http[s]://HOST[:PORT]; pulls alone\n"
    "      --proxy-keep SECONDS  How long to keep what came from there and nobody asks for; 0: for ever (default 604800)\n"
    "      --proxy-login FILE    Who we are there: a line \"name:password\"\n"
    "      --read-only           Pulls alone\n"
    "      --realm TEXT          What a client that must log in is told\n"
    "      --root DIR            Where everything is kept (default " DEFAULT_ROOT ")\n"
    "      --shared              Hand out the engine's images, and make pushed ones its; --root is its data root then (default " DEFAULT_SHARED_ROOT ")\n"
    "      --tls-cert FILE       Serve TLS with this certificate, its chain behind it (PEM)\n"
    "      --tls-client-ca FILE  Only clients with a certificate that these have signed\n"
    "      --tls-key FILE        The certificate's key\n"
    "      --token               Let clients log in by bearer tokens, which the registry issues to the users of --htpasswd\n"
    "      --token-issuer NAME   The issuer that must have made tokens signed by --token-keys\n"
    "      --token-keys FILE     Take the bearer tokens of another issuer, signed by these keys or certificates (PEM, JWKS)\n"
    "      --token-realm URL     Where clients get tokens (with --token: this registry's /token)\n"
    "      --token-service NAME  For whom tokens must be (default berth-registry)\n"
    "  -v, --version             The version\n";

enum {
    OPT_COLLECT = 256, OPT_COLLECT_EVERY, OPT_GRACE, OPT_HELP, OPT_HTPASSWD, OPT_LISTEN, OPT_LOG_FORMAT, OPT_PROXY, OPT_PROXY_KEEP, OPT_PROXY_LOGIN, OPT_READ_ONLY,
    OPT_REALM, OPT_ROOT, OPT_SHARED, OPT_TLS_CERT, OPT_TLS_CLIENT_CA, OPT_TLS_KEY, OPT_TOKEN, OPT_TOKEN_ISSUER, OPT_TOKEN_KEYS,
    OPT_TOKEN_REALM, OPT_TOKEN_SERVICE,
};

static const struct option long_options[] = {
    { "collect", no_argument, NULL, OPT_COLLECT },
    { "collect-every", required_argument, NULL, OPT_COLLECT_EVERY },
    { "grace", required_argument, NULL, OPT_GRACE },
    { "help", no_argument, NULL, OPT_HELP },
    { "htpasswd", required_argument, NULL, OPT_HTPASSWD },
    { "listen", required_argument, NULL, OPT_LISTEN },
    { "log-format", required_argument, NULL, OPT_LOG_FORMAT },
    { "log-level", required_argument, NULL, 'l' },
    { "proxy", required_argument, NULL, OPT_PROXY },
    { "proxy-keep", required_argument, NULL, OPT_PROXY_KEEP },
    { "proxy-login", required_argument, NULL, OPT_PROXY_LOGIN },
    { "read-only", no_argument, NULL, OPT_READ_ONLY },
    { "realm", required_argument, NULL, OPT_REALM },
    { "root", required_argument, NULL, OPT_ROOT },
    { "shared", no_argument, NULL, OPT_SHARED },
    { "tls-cert", required_argument, NULL, OPT_TLS_CERT },
    { "tls-client-ca", required_argument, NULL, OPT_TLS_CLIENT_CA },
    { "tls-key", required_argument, NULL, OPT_TLS_KEY },
    { "token", no_argument, NULL, OPT_TOKEN },
    { "token-issuer", required_argument, NULL, OPT_TOKEN_ISSUER },
    { "token-keys", required_argument, NULL, OPT_TOKEN_KEYS },
    { "token-realm", required_argument, NULL, OPT_TOKEN_REALM },
    { "token-service", required_argument, NULL, OPT_TOKEN_SERVICE },
    { "version", no_argument, NULL, 'v' },
    { NULL, 0, NULL, 0 },
};

static _Noreturn void fail(const char *fmt, ...) _printf_(1, 2);
static _Noreturn void fail(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputs("berth-registry: ", stderr);
    vfprintf(stderr, fmt, args);
    fputs("\n", stderr);
    va_end(args);
    exit(1);
}

static int64_t seconds(const char *option, const char *value)
{
    enum { SECONDS_MAX = 1 << 30 };
    uint64_t number;
    if (!num_parse_u64(slice_of(value), SECONDS_MAX, &number))
        fail("%s %s: not a number of seconds", option, value);
    return (int64_t)number;
}

// What will stand between quotes in a header.
static const char *header_text(const char *option, const char *value)
{
    if (strpbrk(value, "\"\\\r\n"))
        fail("%s %s: no quotes, backslashes or line breaks", option, value);
    return value;
}

static void set_option(struct options *options, int option, const char *value)
{
    switch (option) {
    case OPT_COLLECT:
        options->collect_once = true;
        break;
    case OPT_COLLECT_EVERY:
        options->collect_every_s = seconds("--collect-every", value);
        break;
    case OPT_GRACE:
        options->grace_s = seconds("--grace", value);
        break;
    case OPT_HTPASSWD:
        options->registry.htpasswd = value;
        break;
    case OPT_LISTEN:
        if (options->listen_len == LISTEN_MAX)
            fail("more than %d --listen", LISTEN_MAX);
        options->listen[options->listen_len++] = value;
        break;
    case OPT_LOG_FORMAT:
        if (!str_eq(value, "text") && !str_eq(value, "json"))
            fail("--log-format %s: not text or json", value);
        options->json_log = str_eq(value, "json");
        break;
    case OPT_PROXY:
        options->upstream.url = value;
        break;
    case OPT_PROXY_KEEP:
        options->registry.keep_ns = seconds("--proxy-keep", value) * NS_PER_S;
        break;
    case OPT_PROXY_LOGIN:
        options->upstream.credentials = value;
        break;
    case OPT_READ_ONLY:
        options->registry.read_only = true;
        break;
    case OPT_REALM:
        options->registry.realm = header_text("--realm", value);
        break;
    case OPT_ROOT:
        options->registry.root = value;
        break;
    case OPT_SHARED:
        options->shared = true;
        break;
    case OPT_TLS_CERT:
        options->tls.cert = value;
        break;
    case OPT_TLS_CLIENT_CA:
        options->tls.client_ca = value;
        break;
    case OPT_TLS_KEY:
        options->tls.key = value;
        break;
    case OPT_TOKEN:
        options->registry.token = true;
        break;
    case OPT_TOKEN_ISSUER:
        options->registry.token_issuer = value;
        break;
    case OPT_TOKEN_KEYS:
        options->registry.token_keys = value;
        break;
    case OPT_TOKEN_REALM:
        options->registry.token_realm = header_text("--token-realm", value);
        break;
    case OPT_TOKEN_SERVICE:
        options->registry.token_service = header_text("--token-service", value);
        break;
    case 'l':
        if (!log_level_parse(value, &options->level))
            fail("--log-level %s: not one of debug, info, warn, error, fatal", value);
        break;
    case 'v':
        puts("berth-registry version " BERTH_VERSION);
        exit(0);
    case OPT_HELP:
        fputs(usage, stdout);
        exit(0);
    default:
        fail("see berth-registry --help");
    }
}

static void check_tokens(const struct registry_options *options)
{
    if (options->token && (!options->htpasswd || options->token_keys || options->token_issuer))
        fail("--token needs --htpasswd, and neither --token-keys nor --token-issuer: the registry is the issuer");
    if (options->token_keys && !options->token_realm)
        fail("--token-keys needs --token-realm: where clients get their tokens");
    if (!options->token && !options->token_keys && (options->token_issuer || options->token_realm || options->token_service))
        fail("--token-issuer, --token-realm, --token-service: for --token-keys or --token");
}

static struct options parse_options(int argc, char *argv[])
{
    struct options options = { .registry = { .keep_ns = 604800 * NS_PER_S }, .collect_every_s = 3600, .grace_s = 86400, .level = LOG_INFO };
    int option;
    while ((option = getopt_long(argc, argv, "l:v", long_options, NULL)) != -1)
        set_option(&options, option, optarg);
    if (optind < argc)
        fail("unexpected argument: %s", argv[optind]);
    if (!options.tls.cert != !options.tls.key || (options.tls.client_ca && !options.tls.cert))
        fail("--tls-cert, --tls-key: one needs the other, and --tls-client-ca needs both");
    check_tokens(&options.registry);
    if (options.upstream.credentials && !options.upstream.url)
        fail("--proxy-login: for --proxy");
    if (options.shared && options.upstream.url)
        fail("--shared: not with --proxy: nothing is pushed to a cache");
    if (options.shared && options.registry.token_keys)
        fail("--shared: not with --token-keys: whoever is let in sees all images of the engine");
    if (!options.registry.root)
        options.registry.root = options.shared ? DEFAULT_SHARED_ROOT : DEFAULT_ROOT;
    options.registry.is_tls = options.tls.cert;
    if (options.listen_len == 0)
        options.listen[options.listen_len++] = DEFAULT_LISTEN;
    return options;
}

// ---- stages ---------------------------------------------------------------------------------------------------------

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

static int collect(struct registry *registry, const struct options *options)
{
    struct err err = { 0 };
    struct registry_collected collected;
    if (registry_collect(registry, options->grace_s * NS_PER_S, &collected, &err) < 0) {
        log_warn("%s", err.message);
        return -1;
    }
    if (options->collect_once || collected.blobs || collected.uploads)
        log_info("collected %lld blobs of %lld bytes and %lld abandoned uploads", (long long)collected.blobs,
                 (long long)collected.blob_bytes, (long long)collected.uploads);
    return 0;
}

// Until a signal comes; collecting in between.
static void wait_and_collect(struct registry *registry, const struct options *options, int signal_fd)
{
    struct pollfd fd = { signal_fd, POLLIN, 0 };
    int64_t every_ns = options->collect_every_s * NS_PER_S, next_ns = clock_mono_ns() + every_ns;
    for (;;) {
        int64_t left_ms = MAX_OF(next_ns - clock_mono_ns(), 0) / NS_PER_MS;
        int ready = poll(&fd, 1, every_ns ? (int)MIN_OF(left_ms, INT32_MAX) : -1);
        if (ready > 0)
            return;
        if (ready == 0 && clock_mono_ns() >= next_ns) {
            collect(registry, options);
            next_ns = clock_mono_ns() + every_ns;
        }
    }
}

static void serve(struct registry *registry, const struct options *options, int signal_fd)
{
    struct err err = { 0 };
    struct httpd *httpd = NULL;
    struct httpd_tls *tls = NULL;
    const struct httpd_config config = { .handle = registry_handle, .body = registry_body, .is_urgent = registry_is_urgent,
                                         .context = registry, .body_max = REGISTRY_MANIFEST_MAX, .connection_max = 2048 };
    if ((options->tls.cert && httpd_tls_new(&options->tls, &tls, &err) < 0) || httpd_new(&config, &httpd, &err) < 0)
        fail("%s", err.message);
    for (size_t i = 0; i < options->listen_len; i++) {
        int sock = httpd_tcp_socket(options->listen[i], &err);
        if (sock < 0 || httpd_listen_tls(httpd, sock, tls, &err) < 0)
            fail("--listen %s: %s", options->listen[i], err.message);
    }
    if (httpd_start(httpd, &err) < 0)
        fail("%s", err.message);
    for (size_t i = 0; i < options->listen_len; i++)
        log_info("serving %s on %s", options->registry.root, options->listen[i]);
    wait_and_collect(registry, options, signal_fd);
    log_info("ending");
    httpd_stop(httpd);
    httpd_free(httpd);
    httpd_tls_free(tls);
}

// The engine's store, and a folder in it for what only a registry has.
static struct shared *open_shared(struct options *options, char **own_root, struct registry_engine *functions)
{
    struct err err = { 0 };
    struct shared *shared = NULL;
    char program[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", program, sizeof(program) - 1);
    if (size < 0)
        fail("/proc/self/exe: %m");
    program[size] = 0;
    _cleanup_free_ char *worker = mem_printf("%.*s/berth-image", (int)(strrchr(program, '/') - program), program);
    if (shared_open(options->registry.root, worker, &shared, &err) < 0)
        fail("--shared: %s", err.message);
    *own_root = mem_printf("%s/registry", options->registry.root);
    *functions = shared_functions(shared);
    options->registry.root = *own_root;
    options->registry.engine = functions;
    return shared;
}

int main(int argc, char *argv[])
{
    struct options options = parse_options(argc, argv);
    struct registry *registry = NULL;
    struct upstream *upstream = NULL;
    struct registry_upstream functions;
    struct shared *shared = NULL;
    struct registry_engine engine;
    _cleanup_free_ char *own_root = NULL;
    struct err err = { 0 };

    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    log_setup("berth-registry", options.level, options.json_log);
    umask(077);
    int signal_fd = setup_signals();
    if (options.upstream.url) {
        if (upstream_new(&options.upstream, &upstream, &err) < 0)
            fail("--proxy: %s", err.message);
        functions = upstream_functions(upstream);
        options.registry.upstream = &functions;
    }
    if (options.shared)
        shared = open_shared(&options, &own_root, &engine);
    if (registry_open(&options.registry, &registry, &err) < 0)
        fail("%s", err.message);
    int result = 0;
    if (options.collect_once)
        result = collect(registry, &options);
    else
        serve(registry, &options, signal_fd);
    registry_close(registry);
    shared_close(shared);
    return result < 0;
}
