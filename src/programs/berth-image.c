// The image worker: the only program that touches bytes from registries and archives. The daemon starts it per
// transfer:
//
//     berth-image load [--max-inflate-ratio N]
//     berth-image import [--max-inflate-ratio N] [--reference R] [--message M] [--platform P] [--change C]...
//     berth-image commit [--reference R] [--change C]...
//     berth-image save
//     berth-image inflate
//     berth-image fetch [--max-inflate-ratio N] [--platform P] REFERENCE
//     berth-image login DOMAIN
//     berth-image lookup REFERENCE
//     berth-image search DOMAIN QUERY
//     berth-image send REFERENCE
//
// Descriptor 3 is an empty staging folder, standard output the report (transfer/transfer.h); standard input is the archive, for
// save the order, for those that speak to registries what the daemon says. Exit code 0, or 1 after an error line, or 2 for wrong usage.
//
// By hand:
//
//     berth-image pull [options] REFERENCE FOLDER
//     berth-image push [options] FOLDER REFERENCE
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/num.h"
#include "transfer/transfer.h"

#define STAGING_FD 3

struct job {
    int (*run)(struct job *job, struct err *err);
    struct transfer_import import;
    struct transfer_remote remote;
    const char *platform, *reference, *folder;
    uint64_t inflate_ratio;
    bool by_hand; // errors are for people
    struct arena arena;
};

static int run_load(struct job *job, struct err *err)
{
    return transfer_jail(STAGING_FD, err) < 0 ? -1 : transfer_load(STDIN_FILENO, STAGING_FD, job->inflate_ratio, stdout, err);
}

static int run_import(struct job *job, struct err *err)
{
    job->import.inflate_ratio = job->inflate_ratio;
    return transfer_jail(STAGING_FD, err) < 0 ? -1 : transfer_import(STDIN_FILENO, STAGING_FD, &job->import, stdout, err);
}

static int run_commit(struct job *job, struct err *err)
{
    const struct transfer_commit commit = { .reference = job->import.reference, .changes = job->import.changes };
    return transfer_jail(STAGING_FD, err) < 0 ? -1 : transfer_commit(STDIN_FILENO, STAGING_FD, &commit, stdout, err);
}

static int run_save(struct job *job, struct err *err)
{
    return transfer_jail(STAGING_FD, err) < 0 ? -1 : transfer_save(STDIN_FILENO, err);
}

// Its standard output is the bytes, and its standard input what is inflated.
static int run_inflate(struct job *job, struct err *err)
{
    if (transfer_jail(STAGING_FD, err) < 0 || transfer_inflate(STDIN_FILENO, STDOUT_FILENO, err) < 0)
        exit(1); // whoever reads finds that the end is missing
    return 0;
}

// ---- fetch: two processes -------------------------------------------------------------------------------------------

// The half that speaks to the registry: it has the daemon's end, and neither the report nor the staging folder.
static _Noreturn void run_network_half(struct job *job, int link_fd)
{
    struct err err = { 0 };
    struct fetch *fetch = NULL;
    int result = -1;
    close(STAGING_FD);
    close(STDOUT_FILENO);
    if (transfer_read_remote(STDIN_FILENO, &job->arena, &job->remote, &err) == 0 && distribution_setup(&err) == 0 &&
        transfer_fetch_new(job->reference, job->platform, &job->remote, &fetch, &err) == 0 && transfer_jail_network(&err) == 0)
        result = transfer_fetch(fetch, STDIN_FILENO, link_fd, &err);
    else
        transfer_fetch_failed(link_fd, &err);
    _exit(result < 0);
}

static int run_fetch(struct job *job, struct err *err)
{
    int ends[2];
    if (fd_socketpair(SOCK_SEQPACKET, ends, err) < 0)
        return -1;
    pid_t child = fork();
    if (child < 0)
        return err_errno(err, errno, "fork");
    if (child == 0) {
        close(ends[0]);
        run_network_half(job, ends[1]);
    }
    close(ends[1]);
    // The link takes the place of the daemon's words, which are the other's.
    if (dup2(ends[0], STDIN_FILENO) < 0)
        return err_errno(err, errno, "link");
    close(ends[0]);
    int result = transfer_jail(STAGING_FD, err);
    if (result == 0)
        result = transfer_pull(STDIN_FILENO, STAGING_FD, job->reference, job->platform, job->inflate_ratio, stdout, err);
    close(STDIN_FILENO); // the other half ends
    waitpid(child, NULL, 0);
    return result;
}

// ---- questions: one process, without a staging folder's rights -------------------------------------------------------

static int begin_question(struct job *job, struct err *err)
{
    close(STAGING_FD);
    return transfer_read_remote(STDIN_FILENO, &job->arena, &job->remote, err) < 0 ? -1 : distribution_setup(err);
}

static int run_login(struct job *job, struct err *err)
{
    struct distribution *distribution = NULL;
    int result = begin_question(job, err);
    if (result == 0)
        result = transfer_login_new(job->reference, &job->remote, &distribution, err);
    if (result == 0)
        result = transfer_jail_network(err);
    if (result == 0)
        result = transfer_login(distribution, stdout, err);
    distribution_free(distribution);
    return result;
}

static int run_search(struct job *job, struct err *err)
{
    struct distribution *distribution = NULL;
    int result = begin_question(job, err);
    if (result == 0)
        result = transfer_search_new(job->reference, &job->remote, &distribution, err);
    if (result == 0)
        result = transfer_jail_network(err);
    if (result == 0)
        result = transfer_search(distribution, job->folder, stdout, err);
    distribution_free(distribution);
    return result;
}

static int run_lookup(struct job *job, struct err *err)
{
    struct fetch *fetch = NULL;
    int result = begin_question(job, err);
    if (result == 0)
        result = transfer_fetch_new(job->reference, job->platform, &job->remote, &fetch, err);
    if (result == 0)
        result = transfer_jail_network(err);
    if (result == 0)
        result = transfer_lookup(fetch, stdout, err);
    transfer_fetch_free(fetch);
    return result;
}

static int run_send(struct job *job, struct err *err)
{
    struct push *push = NULL;
    int result = begin_question(job, err);
    if (result == 0)
        result = transfer_push_new(job->reference, &job->remote, STDIN_FILENO, &push, err);
    if (result == 0)
        result = transfer_jail_network(err);
    if (result == 0)
        result = transfer_push(push, stdout, err);
    transfer_push_free(push);
    return result;
}

// ---- by hand --------------------------------------------------------------------------------------------------------

static int find_login(struct job *job, struct err *err)
{
    struct image_ref ref;
    if (image_ref_parse(job->reference, true, &job->arena, &ref, err) < 0 ||
        distribution_login_find(ref.domain, &job->arena, &job->remote.login, err) < 0)
        return -1;
    return distribution_setup(err);
}

static int run_push(struct job *job, struct err *err)
{
    return find_login(job, err) < 0 ? -1 : transfer_push_layout(job->folder, job->reference, &job->remote, stdout, err);
}

static int run_pull(struct job *job, struct err *err)
{
    if (find_login(job, err) < 0)
        return -1;
    return transfer_pull_layout(job->reference, job->platform, &job->remote, job->folder, stdout, err);
}

// ---- the command line -----------------------------------------------------------------------------------------------

static const char usage_text[] =
    "Usage: berth-image pull [OPTIONS] REFERENCE FOLDER    an image into an OCI layout\n"
    "       berth-image push [OPTIONS] FOLDER REFERENCE    and back\n"
    "\n"
    "      --platform OS/ARCH[/VARIANT]  pull: of an image for several (default: this machine's)\n"
    "      --insecure-registry HOST[:PORT]|NETWORK\n"
    "                                    May be spoken to without a good certificate, or by plain http; may be repeated\n"
    "      --registry-mirror URL         pull: asked before docker.io; may be repeated\n"
    "      --registry-certs DIR          Certificates by host (default " DISTRIBUTION_CERTS_DIR ")\n"
    "\n"
    "Logins are those of `docker login`: ~/.docker/config.json and the credential helpers that it names.\n"
    "The daemon starts `berth-image load|import|commit|save|inflate|fetch|login|lookup|search|send`.\n";

static int usage(void)
{
    fputs(usage_text, stderr);
    return -1;
}

enum { OPT_INSECURE = 256, OPT_MIRROR, OPT_CERTS, OPT_RATIO, OPT_HELP };

static int set_option(struct job *job, int option, char *value)
{
    struct distribution_options *remote = &job->remote.options;
    switch (option) {
    case 'r':
        job->import.reference = value;
        return 0;
    case 'm':
        job->import.message = value;
        return 0;
    case 'p':
        job->import.platform = job->platform = value;
        return 0;
    case 'c':
        strv_add(&job->import.changes, value);
        return 0;
    case OPT_INSECURE:
        strv_push_arena(&remote->insecure, &job->arena, value);
        return 0;
    case OPT_MIRROR:
        strv_push_arena(&remote->mirrors, &job->arena, value);
        return 0;
    case OPT_CERTS:
        remote->certs_dir = value;
        return 0;
    case OPT_RATIO:
        return num_parse_u64(slice_of(value), UINT32_MAX, &job->inflate_ratio) ? 0 : usage();
    case OPT_HELP:
        fputs(usage_text, stdout);
        exit(0);
    default:
        return usage();
    }
}

static int parse_options(int argc, char **argv, const struct option *options, struct job *job)
{
    for (int option; (option = getopt_long(argc, argv, "r:m:p:c:", options, NULL)) != -1;)
        if (set_option(job, option, optarg) < 0)
            return -1;
    return 0;
}

static const struct option import_options[] = {
    { "reference", required_argument, NULL, 'r' }, { "message", required_argument, NULL, 'm' },
    { "platform", required_argument, NULL, 'p' },  { "change", required_argument, NULL, 'c' },
    { "max-inflate-ratio", required_argument, NULL, OPT_RATIO },
    { NULL, 0, NULL, 0 },
};
static const struct option load_options[] = { { "max-inflate-ratio", required_argument, NULL, OPT_RATIO }, { NULL, 0, NULL, 0 } };
static const struct option fetch_options[] = {
    { "platform", required_argument, NULL, 'p' },
    { "max-inflate-ratio", required_argument, NULL, OPT_RATIO },
    { NULL, 0, NULL, 0 },
};
static const struct option pull_options[] = { // push takes all but the first two
    { "platform", required_argument, NULL, 'p' },
    { "registry-mirror", required_argument, NULL, OPT_MIRROR },
    { "insecure-registry", required_argument, NULL, OPT_INSECURE },
    { "registry-certs", required_argument, NULL, OPT_CERTS },
    { "help", no_argument, NULL, OPT_HELP },
    { NULL, 0, NULL, 0 },
};
static const struct option no_options[] = { { "help", no_argument, NULL, OPT_HELP }, { NULL, 0, NULL, 0 } };

static const struct verb {
    const char *name;
    int (*run)(struct job *job, struct err *err);
    const struct option *options;
    int arguments;
    bool by_hand;
} verbs[] = {
    { "load", run_load, load_options, 0, false },
    { "import", run_import, import_options, 0, false },
    { "commit", run_commit, import_options, 0, false },
    { "save", run_save, no_options, 0, false },
    { "inflate", run_inflate, no_options, 0, false },
    { "fetch", run_fetch, fetch_options, 1, false },
    { "login", run_login, no_options, 1, false },
    { "search", run_search, no_options, 2, false },
    { "lookup", run_lookup, no_options, 1, false },
    { "send", run_send, no_options, 1, false },
    { "pull", run_pull, pull_options, 2, true },
    { "push", run_push, &pull_options[2], 2, true },
};

static int parse_arguments(int argc, char **argv, struct job *job)
{
    const struct verb *verb = NULL;
    for (size_t i = 0; i < ARRAY_LEN(verbs) && argc > 1; i++)
        if (str_eq(argv[1], verbs[i].name))
            verb = &verbs[i];
    if (!verb)
        return argc > 1 && str_eq(argv[1], "--help") ? set_option(job, OPT_HELP, NULL) : usage();
    if (parse_options(argc - 1, argv + 1, verb->options, job) < 0)
        return -1;
    char **words = argv + 1 + optind;
    if (argc - 1 - optind != verb->arguments)
        return usage();
    job->run = verb->run;
    job->by_hand = verb->by_hand;
    bool folder_first = verb->run == run_push;
    job->reference = verb->arguments > folder_first ? words[folder_first] : NULL;
    job->folder = verb->arguments > 1 ? words[!folder_first] : NULL;
    return 0;
}

int main(int argc, char **argv)
{
    struct job job = { .inflate_ratio = TRANSFER_INFLATE_RATIO };
    struct err err = { 0 };
    if (parse_arguments(argc, argv, &job) < 0)
        return 2;
    signal(SIGPIPE, SIG_IGN); // a daemon that is gone is a write error
    setvbuf(stdout, NULL, job.by_hand ? _IOLBF : _IOFBF, BUFSIZ);
    int done = job.run(&job, &err);
    if (done < 0 && job.by_hand)
        fprintf(stderr, "berth-image: %s\n", err.message);
    else if (done < 0)
        transfer_report_error(stdout, &err);
    strv_done(&job.import.changes);
    arena_done(&job.arena);
    return done < 0 ? 1 : 0;
}
