// berth-image by hand: verbs on a data root, the daemon's or one of its own, beside a running daemon and beside each other. Foreign bytes
// are read by the same jailed worker that the daemon starts (worker/worker.h). Needs root's rights. For a program: output goes to
// standard output, progress to standard error.
#ifndef IMAGETOOL_IMAGETOOL_H
#define IMAGETOOL_IMAGETOOL_H

#include "base/strv.h"
#include "distribution/distribution.h"

#define IMAGETOOL_ROOT "/var/lib/berth"

struct imagetool {
    const char *root; // NULL: IMAGETOOL_ROOT; made if missing
    const char *driver; // of new layers; NULL: chosen
    const char *platform, *message, *file; // NULL: none
    const char *inflate_ratio; // NULL: the worker's own
    bool force, quiet;
    bool keep_compressed; // load, pull: layers that come compressed stay so, too
    struct strv changes;
    struct distribution_options remote;
};

// A verb of these words; their number is right. Errors are for people, one line.
typedef int imagetool_verb(const struct imagetool *tool, char **words, size_t len, struct err *err);
imagetool_verb imagetool_load, imagetool_import, imagetool_pull, imagetool_push, imagetool_save; // `file`: where from, where to; NULL: standard streams
imagetool_verb imagetool_ls, imagetool_inspect, imagetool_rm, imagetool_gc;
imagetool_verb imagetool_unpack, imagetool_mount;

#endif
