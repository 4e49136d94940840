// The image worker, the only program that touches bytes from registries and archives; and the same store by hand (imagetool/imagetool.h).
//
// Whoever keeps a store starts a worker per transfer:
//
//     berth-image --worker load [--max-inflate-ratio N]
//     berth-image --worker import [--max-inflate-ratio N] [--reference R] [--message M] [--platform P] [--change C]...
//     berth-image --worker commit [--reference R] [--change C]...
//     berth-image --worker save
//     berth-image --worker inflate
//     berth-image --worker fetch [--max-inflate-ratio N] [--platform P] REFERENCE
//     berth-image --worker login DOMAIN
//     berth-image --worker lookup REFERENCE
//     berth-image --worker tags REPOSITORY
//     berth-image --worker search DOMAIN QUERY
//     berth-image --worker send REFERENCE
//
// Descriptor 3 is an empty staging folder, standard output the report (transfer/transfer.h); standard input is the archive, for
// save the order, for those that speak to registries what the daemon says. Exit code 0, or 1 after an error line, or 2 for wrong usage.
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/num.h"
#include "imagetool/imagetool.h"
#include "transfer/transfer.h"
#include "worker/worker.h"

#define STAGING_FD 3

struct job {
    int (*run)(struct job *job, struct err *err);
    struct transfer_import import;
    struct transfer_remote remote;
    struct imagetool tool;
    imagetool_verb *tool_verb; // instead of `run`
    char **words;
    size_t word_len;
    const char *platform, *reference;
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
        result = transfer_search(distribution, job->words[1], stdout, err);
    distribution_free(distribution);
    return result;
}

static int ask_repository(struct job *job, int (*question)(struct fetch *, FILE *, struct err *), struct err *err)
{
    struct fetch *fetch = NULL;
    int result = begin_question(job, err);
    if (result == 0)
        result = transfer_fetch_new(job->reference, job->platform, &job->remote, &fetch, err);
    if (result == 0)
        result = transfer_jail_network(err);
    if (result == 0)
        result = question(fetch, stdout, err);
    transfer_fetch_free(fetch);
    return result;
}

static int run_lookup(struct job *job, struct err *err)
{
    return ask_repository(job, transfer_lookup, err);
}

static int run_tags(struct job *job, struct err *err)
{
    return ask_repository(job, transfer_tags, err);
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
    job->reference = job->words[1];
    return find_login(job, err) < 0 ? -1 : transfer_push_layout(job->words[0], job->reference, &job->remote, stdout, err);
}

static int run_tool(struct job *job, imagetool_verb *verb, struct err *err)
{
    job->tool.platform = job->platform;
    job->tool.message = job->import.message;
    job->tool.changes = job->import.changes;
    job->tool.remote = job->remote.options;
    return verb(&job->tool, job->words, job->word_len, err);
}

static int run_pull(struct job *job, struct err *err)
{
    job->reference = job->words[0];
    if (job->word_len == 1)
        return run_tool(job, imagetool_pull, err);
    if (find_login(job, err) < 0)
        return -1;
    return transfer_pull_layout(job->reference, job->platform, &job->remote, job->words[1], stdout, err);
}

// ---- the command line -----------------------------------------------------------------------------------------------

static const char usage_text[] =
    "Usage: berth-image [OPTIONS] VERB ...\n"
    "\n"
    "Images of a data root, the daemon's (also while it runs) or one of its own:\n"
    "\n"
    "  load                       An archive of docker save, podman save, or of an OCI layout, from standard input\n"
    "  save IMAGE...              As docker save: to standard output\n"
    "  import FILE|- [REFERENCE]  A plain tar of a root becomes an image\n"
    "  pull REFERENCE             From its registry\n"
    "  ls                         What is there\n"
    "  inspect IMAGE...           What is known of it, as JSON\n"
    "  rm IMAGE...                Takes the name away; with the last one the image, if no container uses it\n"
    "  unpack IMAGE FOLDER        Its root as a tree of files, in an empty folder\n"
    "  mount IMAGE FOLDER         The same read-only, without a copy; umount FOLDER ends it\n"
    "  gc                         Removes what no image has and nobody works on\n"
    "\n"
    "OCI layouts, without a data root, for any user:\n"
    "\n"
    "  pull REFERENCE FOLDER      An image into an OCI layout\n"
    "  push FOLDER REFERENCE      And back\n"
    "\n"
    "      --root DIR             The data root (default " IMAGETOOL_ROOT ")\n"
    "  -s, --storage-driver NAME  load, import, pull: how layers are kept (default: as berthd chooses)\n"
    "  -f, --file FILE            load, save: instead of the standard streams\n"
    "      --force                rm: although it has several names\n"
    "  -q, --quiet                ls: IDs alone; load, import, pull: the ID alone\n"
    "  -c, --change INSTRUCTION   import: a Dockerfile's; may be repeated\n"
    "  -m, --message TEXT         import: for the history\n"
    "      --platform OS/ARCH[/VARIANT]\n"
    "                             import, pull: which one (default: this machine's)\n"
    "      --max-inflate-ratio N  load, import, pull: as berthd --help says\n"
    "      --insecure-registry HOST[:PORT]|NETWORK\n"
    "                             May be spoken to without a good certificate, or by plain http; may be repeated\n"
    "      --registry-mirror URL  pull: asked before docker.io; may be repeated\n"
    "      --registry-certs DIR   Certificates by host (default " DISTRIBUTION_CERTS_DIR ")\n"
    "\n"
    "Logins are those of `docker login`: ~/.docker/config.json and the credential helpers that it names.\n";

static int usage(void)
{
    fputs(usage_text, stderr);
    return -1;
}

enum { OPT_INSECURE = 256, OPT_MIRROR, OPT_CERTS, OPT_RATIO, OPT_ROOT, OPT_FORCE, OPT_HELP };

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
    case 's':
        job->tool.driver = value;
        return 0;
    case 'f':
        job->tool.file = value;
        return 0;
    case 'q':
        job->tool.quiet = true;
        return 0;
    case OPT_ROOT:
        job->tool.root = value;
        return 0;
    case OPT_FORCE:
        job->tool.force = true;
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
        job->tool.inflate_ratio = value;
        return num_parse_u64(slice_of(value), UINT32_MAX, &job->inflate_ratio) ? 0 : usage();
    case OPT_HELP:
        fputs(usage_text, stdout);
        exit(0);
    default:
        return usage();
    }
}

static const struct option options[] = {
    { "reference", required_argument, NULL, 'r' }, // a worker's
    { "message", required_argument, NULL, 'm' },
    { "platform", required_argument, NULL, 'p' },
    { "change", required_argument, NULL, 'c' },
    { "storage-driver", required_argument, NULL, 's' },
    { "file", required_argument, NULL, 'f' },
    { "quiet", no_argument, NULL, 'q' },
    { "root", required_argument, NULL, OPT_ROOT },
    { "force", no_argument, NULL, OPT_FORCE },
    { "insecure-registry", required_argument, NULL, OPT_INSECURE },
    { "registry-mirror", required_argument, NULL, OPT_MIRROR },
    { "registry-certs", required_argument, NULL, OPT_CERTS },
    { "max-inflate-ratio", required_argument, NULL, OPT_RATIO },
    { "help", no_argument, NULL, OPT_HELP },
    { NULL, 0, NULL, 0 },
};

struct verb {
    const char *name;
    int (*run)(struct job *job, struct err *err); // or the next
    imagetool_verb *tool;
    size_t word_min, word_max;
    const char *options; // letters, and I M C: those of registries; R: the ratio
};

#define MANY 1000

static const struct verb worker_verbs[] = {
    { "load", run_load, NULL, 0, 0, "R" },
    { "import", run_import, NULL, 0, 0, "Rrmpc" },
    { "commit", run_commit, NULL, 0, 0, "rc" },
    { "save", run_save, NULL, 0, 0, "" },
    { "inflate", run_inflate, NULL, 0, 0, "" },
    { "fetch", run_fetch, NULL, 1, 1, "Rp" },
    { "login", run_login, NULL, 1, 1, "" },
    { "lookup", run_lookup, NULL, 1, 1, "" },
    { "tags", run_tags, NULL, 1, 1, "" },
    { "search", run_search, NULL, 2, 2, "" },
    { "send", run_send, NULL, 1, 1, "" },
    { NULL, NULL, NULL, 0, 0, NULL },
};

static const struct verb hand_verbs[] = {
    { "load", NULL, imagetool_load, 0, 0, "RsfqD" },
    { "save", NULL, imagetool_save, 1, MANY, "fD" },
    { "import", NULL, imagetool_import, 1, 2, "RsqmpcD" },
    { "pull", run_pull, NULL, 1, 2, "RsqpIMCD" },
    { "push", run_push, NULL, 2, 2, "IC" },
    { "ls", NULL, imagetool_ls, 0, 0, "qD" },
    { "inspect", NULL, imagetool_inspect, 1, MANY, "D" },
    { "rm", NULL, imagetool_rm, 1, MANY, "FD" },
    { "unpack", NULL, imagetool_unpack, 2, 2, "D" },
    { "mount", NULL, imagetool_mount, 2, 2, "D" },
    { "gc", NULL, imagetool_gc, 0, 0, "D" },
    { NULL, NULL, NULL, 0, 0, NULL },
};

static char letter_of(int option)
{
    switch (option) {
    case OPT_INSECURE:
        return 'I';
    case OPT_MIRROR:
        return 'M';
    case OPT_CERTS:
        return 'C';
    case OPT_RATIO:
        return 'R';
    case OPT_ROOT:
        return 'D';
    case OPT_FORCE:
        return 'F';
    default:
        return (char)option;
    }
}

static const struct verb *find_verb(const struct verb *verbs, const char *name)
{
    for (; verbs->name; verbs++)
        if (str_eq(name, verbs->name))
            return verbs;
    return NULL;
}

#define USED_MAX 64

// Options may stand before the verb and after it; an option that the verb does not have is refused by name.
static int parse_options(int argc, char **argv, struct job *job, char used[USED_MAX])
{
    size_t len = 0;
    for (int option; (option = getopt_long(argc, argv, "r:m:p:c:s:f:q", options, NULL)) != -1;) {
        if (set_option(job, option, optarg) < 0)
            return -1;
        if (len + 1 < USED_MAX && !memchr(used, letter_of(option), len))
            used[len++] = letter_of(option);
    }
    return 0;
}

static int check_used(const struct verb *verb, const char *used)
{
    for (; *used; used++) {
        if (strchr(verb->options, *used))
            continue;
        for (const struct option *option = options; option->name; option++)
            if (letter_of(option->val) == *used)
                fprintf(stderr, "berth-image: %s has no option --%s\n", verb->name, option->name);
        return -1;
    }
    return 0;
}

static int parse_arguments(int argc, char **argv, struct job *job)
{
    char used[USED_MAX] = "";
    job->by_hand = argc < 2 || !str_eq(argv[1], WORKER_MODE);
    argc -= !job->by_hand;
    argv += !job->by_hand;
    if (parse_options(argc, argv, job, used) < 0)
        return -1;
    if (optind >= argc)
        return usage();
    const struct verb *verb = find_verb(job->by_hand ? hand_verbs : worker_verbs, argv[optind]);
    job->words = argv + optind + 1;
    job->word_len = (size_t)(argc - optind - 1);
    if (!verb || job->word_len < verb->word_min || job->word_len > verb->word_max)
        return usage();
    job->run = verb->run;
    job->tool_verb = verb->tool;
    job->reference = job->word_len ? job->words[0] : NULL;
    return check_used(verb, used);
}

int main(int argc, char **argv)
{
    struct job job = { .inflate_ratio = TRANSFER_INFLATE_RATIO };
    struct err err = { 0 };
    if (parse_arguments(argc, argv, &job) < 0)
        return 2;
    signal(SIGPIPE, SIG_IGN); // a daemon that is gone is a write error
    setvbuf(stdout, NULL, job.by_hand ? _IOLBF : _IOFBF, BUFSIZ);
    int done = job.run ? job.run(&job, &err) : run_tool(&job, job.tool_verb, &err);
    if (done < 0 && job.by_hand)
        fprintf(stderr, "berth-image: %s\n", err.message);
    else if (done < 0)
        transfer_report_error(stdout, &err);
    strv_done(&job.import.changes);
    arena_done(&job.arena);
    return done < 0 ? 1 : 0;
}
