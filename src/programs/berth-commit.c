// The image worker for what a container wrote (transfer/transfer.h): one layer on top of an image that is here. It is a program of its own, because each
// RUN and COPY of a build starts it: it loads a tenth of what berth-image does, which knows registries and every kind of archive.
//
//     berth-commit --worker [--reference R] [--change C]...
//
// Descriptor 3 is a staging folder with the order, standard input the layer's tar, standard output the report. Exit code 0, or 1 after an error
// line, or 2 for wrong usage.
#include <getopt.h>
#include <signal.h>
#include <stdio.h>

#include "transfer/transfer.h"

#define STAGING_FD 3

static const struct option options[] = { { "worker", no_argument, NULL, 'w' }, { "reference", required_argument, NULL, 'r' },
                                         { "change", required_argument, NULL, 'c' }, { NULL, 0, NULL, 0 } };

static int parse_arguments(int argc, char **argv, struct transfer_commit *out)
{
    bool is_worker = false;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'w')
            is_worker = true;
        else if (option == 'r')
            out->reference = optarg;
        else if (option == 'c')
            strv_add(&out->changes, optarg);
        else
            return -1;
    }
    return is_worker && optind == argc ? 0 : -1;
}

int main(int argc, char **argv)
{
    struct transfer_commit commit = { 0 };
    struct err err = { 0 };
    if (parse_arguments(argc, argv, &commit) < 0) {
        fprintf(stderr, "berth-commit is started by berthd.\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN); // a daemon that is gone is a write error
    setvbuf(stdout, NULL, _IOFBF, BUFSIZ);
    int done = transfer_jail(STAGING_FD, &err);
    if (done == 0)
        done = transfer_commit(STDIN_FILENO, STAGING_FD, &commit, stdout, &err);
    if (done < 0)
        transfer_report_error(stdout, &err);
    strv_done(&commit.changes);
    return done < 0 ? 1 : 0;
}
