// The program criu, spoken to as `criu swrk`: one process for one request, over a socket pair that it finds as descriptor 3.
// Requests and answers are the messages of CRIU's rpc.proto; descriptors in them are ours (criu opens them through our
// /proc/PID/fd) but for those of inherit_fd, which are criu's own.
#ifndef OCI_CRIU_H
#define OCI_CRIU_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/process.h"

enum criu_request { CRIU_DUMP = 1, CRIU_RESTORE = 2, CRIU_NOTIFY = 6, CRIU_FEATURE_CHECK = 9, CRIU_SINGLE_PRE_DUMP = 13 };

// Numbers of criu_opts.
enum criu_option {
    CRIU_IMAGES_DIR_FD = 1, CRIU_PID = 2, CRIU_LEAVE_RUNNING = 3, CRIU_EXT_UNIX_SK = 4, CRIU_TCP_ESTABLISHED = 5,
    CRIU_EVASIVE_DEVICES = 6, CRIU_SHELL_JOB = 7, CRIU_FILE_LOCKS = 8, CRIU_LOG_LEVEL = 9, CRIU_LOG_FILE = 10,
    CRIU_PAGE_SERVER = 11, CRIU_NOTIFY_SCRIPTS = 12, CRIU_ROOT = 13, CRIU_PARENT_IMG = 14, CRIU_TRACK_MEM = 15,
    CRIU_AUTO_DEDUP = 16, CRIU_WORK_DIR_FD = 17, CRIU_LINK_REMAP = 18, CRIU_EXT_MNT = 23, CRIU_MANAGE_CGROUPS = 24,
    CRIU_CG_ROOT = 25, CRIU_RST_SIBLING = 26, CRIU_INHERIT_FD = 27, CRIU_MANAGE_CGROUPS_MODE = 34, CRIU_EXTERNAL = 37,
    CRIU_EMPTY_NS = 38, CRIU_JOIN_NS = 39, CRIU_FREEZE_CGROUP = 44, CRIU_TCP_SKIP_IN_FLIGHT = 46, CRIU_LAZY_PAGES = 48,
    CRIU_ORPHAN_PTS_MASTER = 50, CRIU_CONFIG_FILE = 51, CRIU_LSM_PROFILE = 53, CRIU_LSM_MOUNT_CONTEXT = 63,
    CRIU_NETWORK_LOCK = 64,
};

#define CRIU_NOISE "rlimit: " // in errors that CRIU tells, and lives with
#define CRIU_OPTIONS_MAX (256 << 10)
#define CRIU_FIRST_KEPT 4 // the number that the first kept descriptor has there

struct criu {
    struct process process;
    int sock;
};
#define CRIU_NONE { PROCESS_NONE, -1 }

struct criu_answer {
    bool mem_track, lazy_pages; // of a feature check
};

// A stage of the work, by CRIU's name for its action scripts; it goes on when the call returns. `fd` is -1 or borrowed.
typedef int criu_notice_fn(const char *script, pid_t pid, int fd, void *context, struct err *err);

// Where the program is: `given`, or what PATH has. malloc'ed; NULL with not_found.
char *criu_find(const char *given, struct err *err);
// `own_stdio`: it has our standard streams, else /dev/null.
int criu_start(const char *program, bool own_stdio, const int *keep, size_t keep_len, struct criu *out, struct err *err);
// Sends the request, passes on what comes meanwhile, waits for the answer and the program's end. `options` and `notice` may
// be NULL. An error has CRIU's own first message.
int criu_ask(struct criu *criu, enum criu_request type, const struct buf *options, criu_notice_fn *notice, void *context,
             struct criu_answer *answer, struct err *err);
void criu_done(struct criu *criu); // kills what still runs

#endif
