// The image worker, the only program that touches bytes from registries and archives; and the same store by hand (imagetool/imagetool.h).
//
// Whoever keeps a store starts a worker per transfer:
//
//     berth-image --worker load [--max-inflate-ratio N]
//     berth-image --worker import [--max-inflate-ratio N] [--reference R] [--message M] [--platform P] [--change C]... [URL]
//     berth-image --worker save
//     berth-image --worker blobs COMPRESSION LEVEL COUNT
//     berth-image --worker range
//     berth-image --worker inflate
//     berth-image --worker fetch [--max-inflate-ratio N] [--platform P] REFERENCE
//     berth-image --worker receive REFERENCE
//     berth-image --worker login DOMAIN
//     berth-image --worker lookup REFERENCE
//     berth-image --worker tags REPOSITORY
//     berth-image --worker search DOMAIN QUERY
//     berth-image --worker send REFERENCE
//     berth-image --worker send-blobs REFERENCE
//     berth-image --worker download URL SIZE ETAG
//     berth-image --worker git URL REF resolve|fetch|fetch-keep[-submodules]
//
// Descriptor 3 is an empty staging folder, standard output the report (transfer/transfer.h); standard input is the archive, for
// save and range the order, for receive what a pull's fetching half sends, for download the file that is
// written, for git fetch the folder, for those that speak to registries what the daemon says. Exit code 0, or 1 after an error line, or 2 for wrong usage.
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
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
    bool help;
    struct arena arena;
};

static int run_load(struct job *job, struct err *err)
{
    return transfer_jail(STAGING_FD, err) < 0 ? -1 : transfer_load(STDIN_FILENO, STAGING_FD, job->inflate_ratio, stdout, err);
}

// Two processes; this one goes on as the jailed one.
static int import_url(struct job *job, const char *text, struct err *err)
{
    struct transfer_url url;
    int ends[2];
    if (fd_socketpair(SOCK_SEQPACKET, ends, err) < 0)
        return -1;
    pid_t child = fork();
    if (child < 0)
        return err_errno(err, errno, "fork");
    if (child == 0) {
        close(STAGING_FD);
        close(STDOUT_FILENO);
        close(ends[0]);
        if (distribution_setup(err) < 0 || transfer_jail_network(err) < 0) {
            transfer_fetch_failed(ends[1], err);
            _exit(1);
        }
        _exit(transfer_fetch_url(ends[1], text, err) < 0);
    }
    close(ends[1]);
    if (dup2(ends[0], STDIN_FILENO) < 0)
        return err_errno(err, errno, "link");
    // A daemon that is gone is not noticed while the other end of the URL says nothing; with this process the other half goes.
    if (transfer_jail(STAGING_FD, err) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || transfer_receive_url(STDIN_FILENO, text, &url, stdout, err) < 0)
        return -1;
    job->import.url = &url;
    return transfer_import(-1, STAGING_FD, &job->import, stdout, err);
}

static int run_import(struct job *job, struct err *err)
{
    job->import.inflate_ratio = job->inflate_ratio;
    if (job->word_len)
        return import_url(job, job->words[0], err);
    return transfer_jail(STAGING_FD, err) < 0 ? -1 : transfer_import(STDIN_FILENO, STAGING_FD, &job->import, stdout, err);
}

static int run_save(struct job *job, struct err *err)
{
    return transfer_jail(STAGING_FD, err) < 0 ? -1 : transfer_save(STDIN_FILENO, err);
}

static int run_blobs(struct job *job, struct err *err)
{
    int64_t level = -1, len;
    if ((!str_eq(job->words[1], "default") && !num_parse_i64(slice_of(job->words[1]), &level)) || !num_parse_i64(slice_of(job->words[2]), &len) || len < 0)
        return err_set(err, ERR_INTERNAL, "not a number");
    const struct transfer_blobs order = { job->words[0], (int)level, (size_t)len };
    return transfer_jail(STAGING_FD, err) < 0 ? -1 : transfer_blobs(STDIN_FILENO, &order, stdout, err);
}

static int run_range(struct job *job, struct err *err)
{
    return transfer_jail(STAGING_FD, err) < 0 ? -1 : transfer_range(STDIN_FILENO, err);
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

// The fetching half is whoever started us.
static int run_receive(struct job *job, struct err *err)
{
    if (transfer_jail(STAGING_FD, err) < 0)
        return -1;
    return transfer_pull(STDIN_FILENO, STAGING_FD, job->reference, NULL, job->inflate_ratio, stdout, err);
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

static int run_send_blobs(struct job *job, struct err *err)
{
    struct push_blobs *push = NULL;
    int result = begin_question(job, err);
    if (result == 0)
        result = transfer_push_blobs_new(job->reference, &job->remote, STDIN_FILENO, &push, err);
    if (result == 0)
        result = transfer_jail_network(err);
    if (result == 0)
        result = transfer_push_blobs(push, stdout, err);
    transfer_push_blobs_free(push);
    return result;
}

// ---- download, git: one process, to whom one message says who we are there, and gives the file or folder that it fills -------------------

#define AUTHORIZATION_SIZE 16384

struct order {
    char authorization[AUTHORIZATION_SIZE]; // "": nobody
    int fd; // -1: the staging folder will do
};

static int take_order(struct order *out, struct err *err)
{
    size_t fds = 1;
    out->fd = -1;
    ssize_t size = fd_recv(STDIN_FILENO, out->authorization, sizeof(out->authorization), &out->fd, &fds, err);
    if (size <= 0 || out->authorization[size - 1])
        return size < 0 ? -1 : err_set(err, ERR_INTERNAL, "no order");
    if (fds == 0)
        out->fd = -1;
    return 0;
}

static int run_download(struct job *job, struct err *err)
{
    struct order order;
    uint64_t max;
    if (take_order(&order, err) < 0)
        return -1;
    close(STAGING_FD);
    if (!num_parse_u64(slice_of(job->words[1]), INT64_MAX, &max))
        return err_set(err, ERR_INTERNAL, "not a size: %.40s", job->words[1]);
    if (distribution_setup(err) < 0 || transfer_jail_network(err) < 0)
        return -1;
    return transfer_download(job->words[0], max, job->words[2], order.authorization, order.fd, stdout, err);
}

static int run_git(struct job *job, struct err *err)
{
    const char *how = job->words[2];
    struct order order;
    const struct transfer_git git = { .url = job->words[0], .ref = job->words[1], .authorization = order.authorization, .fetch = str_starts(how, "fetch"),
                                      .keep = strstr(how, "-keep"), .submodules = strstr(how, "-submodules") };
    if (take_order(&order, err) < 0)
        return -1;
    if (order.fd >= 0 && dup2(order.fd, STAGING_FD) < 0)
        return err_errno(err, errno, "folder");
    if (transfer_jail_programs(STAGING_FD, err) < 0)
        return -1;
    close(STAGING_FD);
    _cleanup_close_ int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0)
        return err_errno(err, errno, "/dev/null");
    return transfer_git(&git, stdout, err);
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

static int run_tool(struct job *job, imagetool_verb *verb, struct err *err)
{
    job->tool.platform = job->platform;
    job->tool.message = job->import.message;
    job->tool.changes = job->import.changes;
    job->tool.remote = job->remote.options;
    return verb(&job->tool, job->words, job->word_len, err);
}

static int run_push(struct job *job, struct err *err)
{
    job->reference = job->words[1];
    return find_login(job, err) < 0 ? -1 : transfer_push_layout(job->words[0], job->reference, &job->remote, stdout, err);
}

static int run_pull(struct job *job, struct err *err)
{
    job->reference = job->words[0];
    if (find_login(job, err) < 0)
        return -1;
    return transfer_pull_layout(job->reference, job->platform, &job->remote, job->words[1], stdout, err);
}

// ---- the command line -----------------------------------------------------------------------------------------------

enum { OPT_INSECURE = 256, OPT_MIRROR, OPT_CERTS, OPT_RATIO, OPT_ROOT, OPT_FORCE, OPT_KEEP, OPT_HELP };

// `letter` stands for it in a verb's list.
static const struct flag {
    const char *name, *argument;
    int value;
    char letter;
    const char *help; // NULL: a worker's
} flags[] = {
    { "root", "DIR", OPT_ROOT, 'D', "The data root (default " IMAGETOOL_ROOT ")" },
    { "storage-driver", "NAME", 's', 's', "How layers are kept (default: as berthd chooses)" },
    { "keep-compressed", NULL, OPT_KEEP, 'K', "As berthd --help says" },
    { "file", "FILE", 'f', 'f', "Instead of the standard streams" },
    { "force", NULL, OPT_FORCE, 'F', "Although it has several names" },
    { "quiet", NULL, 'q', 'q', "What it is alone: IDs, of a push the digest" },
    { "change", "INSTRUCTION", 'c', 'c', "A Dockerfile's; may be repeated" },
    { "message", "TEXT", 'm', 'm', "For the history" },
    { "platform", "OS/ARCH[/VARIANT]", 'p', 'p', "Which one (default: this machine's)" },
    { "max-inflate-ratio", "N", OPT_RATIO, 'R', "As berthd --help says" },
    { "insecure-registry", "HOST[:PORT]|NETWORK", OPT_INSECURE, 'I', "May be spoken to without a good certificate, or by plain http; may be repeated" },
    { "registry-mirror", "URL", OPT_MIRROR, 'M', "Asked before docker.io; may be repeated" },
    { "registry-certs", "DIR", OPT_CERTS, 'C', "Certificates by host (default " DISTRIBUTION_CERTS_DIR ")" },
    { "help", NULL, OPT_HELP, 'h', "This text" },
    { "reference", "NAME", 'r', 'r', NULL },
};

struct verb {
    const char *name;
    int (*run)(struct job *job, struct err *err); // or the next
    imagetool_verb *tool;
    size_t word_min, word_max;
    const char *options; // letters of `flags`
    const char *words, *help; // NULL: a worker's
};

#define MANY 1000

static const struct verb worker_verbs[] = {
    { "load", run_load, NULL, 0, 0, "R", NULL, NULL },
    { "import", run_import, NULL, 0, 1, "Rrmpc", NULL, NULL },
    { "save", run_save, NULL, 0, 0, "", NULL, NULL },
    { "blobs", run_blobs, NULL, 3, 3, "", NULL, NULL },
    { "range", run_range, NULL, 0, 0, "", NULL, NULL },
    { "inflate", run_inflate, NULL, 0, 0, "", NULL, NULL },
    { "fetch", run_fetch, NULL, 1, 1, "Rp", NULL, NULL },
    { "receive", run_receive, NULL, 1, 1, "R", NULL, NULL },
    { "login", run_login, NULL, 1, 1, "", NULL, NULL },
    { "lookup", run_lookup, NULL, 1, 1, "", NULL, NULL },
    { "tags", run_tags, NULL, 1, 1, "", NULL, NULL },
    { "search", run_search, NULL, 2, 2, "", NULL, NULL },
    { "send", run_send, NULL, 1, 1, "", NULL, NULL },
    { "send-blobs", run_send_blobs, NULL, 1, 1, "", NULL, NULL },
    { "download", run_download, NULL, 3, 3, "", NULL, NULL },
    { "git", run_git, NULL, 3, 3, "", NULL, NULL },
    { NULL, NULL, NULL, 0, 0, NULL, NULL, NULL },
};

static const struct verb hand_verbs[] = {
    { "load", NULL, imagetool_load, 0, 0, "DsKfqRh", "", "An archive of docker save, podman save, or of an OCI layout, from standard input" },
    { "save", NULL, imagetool_save, 1, MANY, "Dfh", "IMAGE...", "As docker save: to standard output" },
    { "import", NULL, imagetool_import, 1, 2, "DsqcmpRh", "FILE|- [REFERENCE]", "A plain tar of a root becomes an image" },
    { "pull", NULL, imagetool_pull, 1, 1, "DsKqpRIMCh", "REFERENCE", "From its registry" },
    { "pull", run_pull, NULL, 2, 2, "pIMCh", "REFERENCE FOLDER", "The same into an OCI layout, without a data root" },
    { "push", NULL, imagetool_push, 1, 1, "DqICh", "REFERENCE", "To the registry that its name says" },
    { "push", run_push, NULL, 2, 2, "ICh", "FOLDER REFERENCE", "The same out of an OCI layout" },
    { "ls", NULL, imagetool_ls, 0, 0, "Dqh", "", "What is there" },
    { "inspect", NULL, imagetool_inspect, 1, MANY, "Dh", "IMAGE...", "What is known of it, as JSON" },
    { "rm", NULL, imagetool_rm, 1, MANY, "DFh", "IMAGE...", "Takes the name away; with the last one the image, if no container uses it" },
    { "unpack", NULL, imagetool_unpack, 2, 2, "Dh", "IMAGE FOLDER", "Its root as a tree of files, in an empty folder" },
    { "mount", NULL, imagetool_mount, 2, 2, "Dh", "IMAGE FOLDER", "The same read-only, without a copy; umount FOLDER ends it" },
    { "gc", NULL, imagetool_gc, 0, 0, "Dh", "", "Removes what no image has and nobody works on" },
    { NULL, NULL, NULL, 0, 0, NULL, NULL, NULL },
};

// ---- help -----------------------------------------------------------------------------------------------------------

static void print_flag(FILE *out, const struct flag *flag)
{
    char text[64];
    bool is_short = flag->value < 256;
    snprintf(text, sizeof(text), "  %c%c%s --%s%s%s", is_short ? '-' : ' ', is_short ? (char)flag->value : ' ', is_short ? "," : " ", flag->name,
             flag->argument ? " " : "", flag->argument ? flag->argument : "");
    bool fits = strlen(text) < 31;
    fprintf(out, fits ? "%-31s" : "%s\n%31s", text, "");
    fprintf(out, "%s\n", flag->help);
}

// With each of its forms.
static int print_verb(FILE *out, const struct verb *verb)
{
    for (const char *name = verb->name; str_eq(verb->name, name); verb++) {
        fprintf(out, "Usage: berth-image %s [OPTIONS]%s%s\n\n%s\n\n", name, *verb->words ? " " : "", verb->words, verb->help);
        for (size_t i = 0; i < ARRAY_LEN(flags); i++)
            if (strchr(verb->options, flags[i].letter))
                print_flag(out, &flags[i]);
        if (str_eq(verb[1].name, name))
            fputs("\n", out);
    }
    return -1;
}

static int print_all(FILE *out)
{
    fputs("Usage: berth-image [OPTIONS] VERB ...\n\nImages of a data root, the daemon's (also while it runs) or one of its own; OCI layouts for any user:\n\n", out);
    for (const struct verb *verb = hand_verbs; verb->name; verb++) {
        char text[64];
        snprintf(text, sizeof(text), "  %s %s", verb->name, verb->words);
        fprintf(out, "%-29s%s\n", text, verb->help);
    }
    fputs("\n", out);
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (flags[i].help)
            print_flag(out, &flags[i]);
    fputs("\nberth-image VERB --help says which of them a verb has. Logins are those of `docker login`: ~/.docker/config.json and the\n"
          "credential helpers that it names.\n", out);
    return -1;
}

// ---- reading it -----------------------------------------------------------------------------------------------------

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
    case OPT_KEEP:
        job->tool.keep_compressed = true;
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
        return num_parse_u64(slice_of(value), UINT32_MAX, &job->inflate_ratio) ? 0 : print_all(stderr);
    case OPT_HELP:
        job->help = true;
        return 0;
    default:
        return print_all(stderr);
    }
}

static bool words_fit(const struct verb *verb, size_t len)
{
    return len >= verb->word_min && len <= verb->word_max;
}

// The form that takes so many words, else the first.
static const struct verb *find_verb(const struct verb *verbs, const char *name, size_t word_len)
{
    const struct verb *first = NULL;
    for (; verbs->name; verbs++)
        if (str_eq(name, verbs->name) && (!first || words_fit(verbs, word_len)))
            first = verbs;
    return first;
}

static const struct flag *find_flag(int value)
{
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (flags[i].value == value)
            return &flags[i];
    return NULL;
}

// Options may stand before the verb and after it; an option that the verb does not have is refused by name. `used`: one of each.
static int parse_options(int argc, char **argv, struct job *job, char used[ARRAY_LEN(flags) + 1])
{
    struct option options[ARRAY_LEN(flags) + 1] = { 0 };
    size_t len = 0;
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        options[i] = (struct option){ flags[i].name, flags[i].argument ? required_argument : no_argument, NULL, flags[i].value };
    for (int option; (option = getopt_long(argc, argv, "r:m:p:c:s:f:q", options, NULL)) != -1;) {
        const struct flag *flag = find_flag(option);
        if (set_option(job, option, optarg) < 0)
            return -1;
        if (flag && !strchr(used, flag->letter))
            used[len++] = flag->letter;
    }
    return 0;
}

static int check_used(const struct verb *verb, const char *used)
{
    for (; *used; used++) {
        if (strchr(verb->options, *used))
            continue;
        for (size_t i = 0; i < ARRAY_LEN(flags); i++)
            if (flags[i].letter == *used)
                fprintf(stderr, "berth-image: %s has no option --%s\n", verb->name, flags[i].name);
        return -1;
    }
    return 0;
}

static _Noreturn void help(const struct verb *verb)
{
    verb ? print_verb(stdout, verb) : print_all(stdout);
    exit(0);
}

static int parse_arguments(int argc, char **argv, struct job *job)
{
    char used[ARRAY_LEN(flags) + 1] = "";
    job->by_hand = argc < 2 || !str_eq(argv[1], WORKER_MODE);
    argc -= !job->by_hand;
    argv += !job->by_hand;
    if (parse_options(argc, argv, job, used) < 0)
        return -1;
    job->words = argv + optind + (optind < argc);
    job->word_len = (size_t)(argc - optind - (optind < argc));
    const struct verb *verb = optind < argc ? find_verb(job->by_hand ? hand_verbs : worker_verbs, argv[optind], job->word_len) : NULL;
    if (job->help && job->by_hand)
        help(optind < argc ? find_verb(hand_verbs, argv[optind], 0) : NULL);
    if (!verb)
        return print_all(stderr);
    if (!words_fit(verb, job->word_len))
        return job->by_hand ? print_verb(stderr, verb) : print_all(stderr);
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
