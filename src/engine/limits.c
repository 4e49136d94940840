// Small translations from what clients say to what the wall takes: limits, signals.
#include <signal.h>
#include <strings.h>
#include <sys/resource.h>

#include "engine_private.h"

static const struct {
    const char *name;
    int number;
} signals[] = {
    { "ABRT", SIGABRT },   { "ALRM", SIGALRM }, { "BUS", SIGBUS },   { "CHLD", SIGCHLD },     { "CONT", SIGCONT },
    { "FPE", SIGFPE },     { "HUP", SIGHUP },   { "ILL", SIGILL },   { "INT", SIGINT },       { "IO", SIGIO },
    { "KILL", SIGKILL },   { "PIPE", SIGPIPE }, { "PROF", SIGPROF }, { "PWR", SIGPWR },       { "QUIT", SIGQUIT },
    { "SEGV", SIGSEGV },   { "STOP", SIGSTOP }, { "SYS", SIGSYS },   { "TERM", SIGTERM },     { "TRAP", SIGTRAP },
    { "TSTP", SIGTSTP },   { "TTIN", SIGTTIN }, { "TTOU", SIGTTOU }, { "URG", SIGURG },       { "USR1", SIGUSR1 },
    { "USR2", SIGUSR2 },   { "VTALRM", SIGVTALRM }, { "WINCH", SIGWINCH }, { "XCPU", SIGXCPU }, { "XFSZ", SIGXFSZ },
    { "CLD", SIGCHLD },    { "POLL", SIGPOLL }, { "IOT", SIGIOT },   { "STKFLT", SIGSTKFLT },
};

// RTMIN+3, RTMAX-14, as glibc numbers them (34 to 64).
static bool realtime_signal(const char *name, int *out)
{
    uint64_t offset = 0;
    bool from_min = str_starts(name, "RTMIN");
    if (!from_min && !str_starts(name, "RTMAX"))
        return false;
    if (name[5] && (name[5] != (from_min ? '+' : '-') || !num_parse_u64(slice_of(name + 6), 30, &offset)))
        return false;
    *out = from_min ? 34 + (int)offset : 64 - (int)offset;
    return true;
}

int signal_parse(const char *text, int *out, struct err *err)
{
    uint64_t number;
    char upper[16];
    if (num_parse_u64(slice_of(text), 64, &number) && number > 0) {
        *out = (int)number;
        return 0;
    }
    if (num_parse_u64(slice_of(text), UINT64_MAX, &number) && number > 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "the linux daemon does not support signal %s", text);
    size_t len = strlen(text);
    if (len >= sizeof(upper))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid signal: %s", text);
    for (size_t i = 0; i < len; i++)
        upper[i] = (char)(text[i] >= 'a' && text[i] <= 'z' ? text[i] - 32 : text[i]);
    upper[len] = 0;
    const char *name = str_starts(upper, "SIG") ? upper + 3 : upper;
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        if (str_eq(signals[i].name, name)) {
            *out = signals[i].number;
            return 0;
        }
    if (realtime_signal(name, out))
        return 0;
    return err_set(err, ERR_INVALID_ARGUMENT, "invalid signal: %s", text);
}

const char *container_stop_signal(const struct container *container)
{
    const char *signal = container->config.process.stop_signal;
    return str_empty(signal) ? "SIGTERM" : signal;
}

int ulimit_resource(const char *name)
{
    static const struct {
        const char *name;
        int resource;
    } table[] = {
        { "as", RLIMIT_AS },         { "core", RLIMIT_CORE },   { "cpu", RLIMIT_CPU },       { "data", RLIMIT_DATA },
        { "fsize", RLIMIT_FSIZE },   { "locks", RLIMIT_LOCKS }, { "memlock", RLIMIT_MEMLOCK }, { "msgqueue", RLIMIT_MSGQUEUE },
        { "nice", RLIMIT_NICE },     { "nofile", RLIMIT_NOFILE }, { "nproc", RLIMIT_NPROC }, { "rss", RLIMIT_RSS },
        { "rtprio", RLIMIT_RTPRIO }, { "rttime", RLIMIT_RTTIME }, { "sigpending", RLIMIT_SIGPENDING }, { "stack", RLIMIT_STACK },
    };
    for (size_t i = 0; name && i < ARRAY_LEN(table); i++)
        if (strcasecmp(table[i].name, name) == 0)
            return table[i].resource;
    return -1;
}

void limits_from_config(const struct host_config *host, struct oci_resources *out)
{
    enum { PERIOD_US = 100000 };
    out->memory_limit = host->memory;
    out->memory_reservation = host->memory_reservation;
    int64_t twice = host->memory > INT64_MAX / 2 ? -1 : 2 * host->memory; // Docker's default; -1 has no bound
    out->memory_swap = host->memory && !host->memory_swap ? twice : host->memory_swap;
    out->cpu_shares = host->cpu_shares;
    out->cpu_period = host->nano_cpus ? PERIOD_US : host->cpu_period;
    out->cpu_quota = host->nano_cpus ? host->nano_cpus * PERIOD_US / INT64_C(1000000000) : host->cpu_quota;
    out->cpuset_cpus = host->cpuset_cpus;
    out->cpuset_mems = host->cpuset_mems;
    out->pids_limit = host->pids_limit;
    out->io_weight = host->blkio_weight;
}
