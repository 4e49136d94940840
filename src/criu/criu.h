// The program criu, spoken to as `criu swrk`: one process for one request, over a socket pair that it finds as descriptor 3.
// Requests and answers are the messages of CRIU's rpc.proto; descriptors in them are ours (criu opens them through our
// /proc/PID/fd) but for those of inherit_fd, which are criu's own.
#ifndef CRIU_CRIU_H
#define CRIU_CRIU_H

#include <sys/types.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/process.h"
#include "base/slice.h"
#include "spec/spec.h"

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

#define CRIU_CONFIG "/etc/criu/runc.conf" // options of the host's administrator, where runc has them, too
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

// ---- options.c: what a dump and a restore say to it ---------------------------------------------------------------------

#define CRIU_STDIO_LEN 3

enum criu_cgroups { CRIU_CGROUPS_IGNORE = 0, CRIU_CGROUPS_SOFT = 3, CRIU_CGROUPS_FULL = 4, CRIU_CGROUPS_STRICT = 5, CRIU_CGROUPS_DEFAULT = 6 };

// What every request has: where images and log are, and that links, addresses and a terminal's master are ours. `config` is a file
// whose options win; a missing one is none, and so is "".
void criu_begin_options(int images_fd, const char *log_name, enum criu_cgroups mode, const char *config, struct buf *out);
void criu_pair(struct buf *out, unsigned field, const char *first, const char *second); // a message of two texts, numbers 1 and 2
void criu_inherit(struct buf *out, const char *key, int number); // that key is criu's own descriptor of this number
// The mount on `path` is left to the restore, which finds its source by that path again.
void criu_external_mount(struct buf *out, const char *path, const char *source);
// Its path as the kernel names it, with all links followed, from `root` on; NULL when it is not there.
char *criu_resolved(struct arena *arena, int root_fd, const char *root, const char *path);
// The cgroup folders of a mount of type cgroup on v1 and hybrid hosts, for a container without a cgroup namespace. `from`: their
// source is told (restore), else their name again (dump).
int criu_cgroup_mounts(const char *cgroup, const char *target, bool from, struct buf *out, struct err *err);
void criu_device_mounts(const struct json_list *devices, struct buf *out); // struct oci_device: those, and what every container has
void criu_masked_files(const struct strv *paths, int root_fd, struct arena *arena, struct buf *out); // a dump's: by what masks them
// Of a dump: all processes are stopped at once through this cgroup; connections are held back by what this host has.
void criu_freezer(const char *cgroup, struct buf *out);
void criu_lock_network(struct buf *out);
// Of a restore: the cgroups of the images are those that this process is in.
int criu_cgroup_roots(pid_t pid, struct buf *out, struct err *err);
int criu_bring_lo_up(pid_t pid, struct err *err); // of a network namespace of the container's own, which comes back empty
// The pipes of the standard streams: their names ("pipe:[7]"; "" and NULL: no pipe) are kept beside the images, and at the restore they
// go on as criu's descriptors of these numbers (-1: none).
int criu_keep_stdio(int images_fd, const char *const names[CRIU_STDIO_LEN], struct err *err);
int criu_inherit_stdio(int images_fd, const int numbers[CRIU_STDIO_LEN], struct buf *out, struct err *err);
bool criu_is_noise(struct slice message); // an error that CRIU tells, and lives with
// The first error in the log, which is the reason of those after it; malloc'ed, NULL when there is none.
char *criu_first_error(int dirfd, const char *log);

#endif
