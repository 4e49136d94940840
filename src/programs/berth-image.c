// The image worker: the only program that touches bytes from registries and archives. The daemon starts it per
// transfer:
//
//     berth-image load
//     berth-image import [--reference R] [--message M] [--platform P] [--change C]...
//
// Standard input is the archive, descriptor 3 an empty staging folder, standard output the report
// (transfer/transfer.h). Exit code 0, or 1 after an error line, or 2 for wrong usage.
#include <getopt.h>
#include <signal.h>
#include <stdio.h>

#include "transfer/transfer.h"

#define STAGING_FD 3

struct job {
    int (*run)(const struct job *job, struct err *err);
    struct transfer_import import;
};

static int run_load(const struct job *job, struct err *err)
{
    return transfer_load(STDIN_FILENO, STAGING_FD, stdout, err);
}

static int run_import(const struct job *job, struct err *err)
{
    return transfer_import(STDIN_FILENO, STAGING_FD, &job->import, stdout, err);
}

static int usage(void)
{
    fputs("usage: berth-image load|import [options] <archive 3<staging-folder\n", stderr);
    return -1;
}

static int parse_import(int argc, char **argv, struct transfer_import *out)
{
    static const struct option options[] = {
        { "reference", required_argument, NULL, 'r' }, { "message", required_argument, NULL, 'm' },
        { "platform", required_argument, NULL, 'p' },  { "change", required_argument, NULL, 'c' },
        { NULL, 0, NULL, 0 },
    };
    for (int option; (option = getopt_long(argc, argv, "r:m:p:c:", options, NULL)) != -1;) {
        switch (option) {
        case 'r':
            out->reference = optarg;
            break;
        case 'm':
            out->message = optarg;
            break;
        case 'p':
            out->platform = optarg;
            break;
        case 'c':
            strv_add(&out->changes, optarg);
            break;
        default:
            return usage();
        }
    }
    return optind == argc ? 0 : usage();
}

static int parse_arguments(int argc, char **argv, struct job *job)
{
    const char *verb = argc > 1 ? argv[1] : "";
    if (str_eq(verb, "load") && argc == 2) {
        job->run = run_load;
        return 0;
    }
    job->run = run_import;
    return str_eq(verb, "import") ? parse_import(argc - 1, argv + 1, &job->import) : usage();
}

int main(int argc, char **argv)
{
    struct job job = { 0 };
    struct err err = { 0 };
    if (parse_arguments(argc, argv, &job) < 0)
        return 2;
    signal(SIGPIPE, SIG_IGN); // a daemon that is gone is a write error
    int done = transfer_jail(STAGING_FD, &err);
    if (done == 0)
        done = job.run(&job, &err);
    if (done < 0)
        transfer_report_error(stdout, &err);
    strv_done(&job.import.changes);
    return done < 0 ? 1 : 0;
}
