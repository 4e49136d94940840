// What cgroup.c shares with the two implementations behind it.
#ifndef KERNEL_CGROUP_PRIVATE_H
#define KERNEL_CGROUP_PRIVATE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/fd.h"
#include "kernel/cgroup.h"

struct cgroup {
    struct cgroup_layout layout;
    char *path; // without a leading slash
    int dirs[CGROUP_HIERARCHY_MAX]; // O_PATH, one per hierarchy of the layout
    int tasks[CGROUP_HIERARCHY_MAX]; // v1 `tasks`, opened when first asked for
};

// The root folder of a hierarchy, checked to be one; the caller's.
int cgroup_open_root(const struct cgroup_layout *layout, size_t index, struct err *err);
// The folder of a v1 controller, or -1.
int cgroup_v1_dir(const struct cgroup *cgroup, const char *controller);
// The folder in the cgroup2 tree (v2 or hybrid), or -1.
int cgroup_v2_dir(const struct cgroup *cgroup);

// One write of a formatted text into a file of the group.
int cgroup_open_file(int dir_fd, const char *file, struct err *err);
int cgroup_write(int fd, const char *file, const char *text, struct err *err);
int cgroup_put(int dir_fd, const char *file, struct err *err, const char *fmt, ...) _printf_(4, 5);
int cgroup_read(int dir_fd, const char *file, struct buf *out, struct err *err);
// A file of one number; "max" and what does not parse is `fallback`.
int64_t cgroup_number(int dir_fd, const char *file, int64_t fallback);
// The number behind "key " at the start of a line.
int64_t cgroup_keyed(int dir_fd, const char *file, const char *key, int64_t fallback);

// What a group's hierarchy needs before tasks can join it; `made`: just now, by us.
int cgroup_v1_prepare(const char *controllers, int parent_fd, int dir_fd, bool made, struct err *err);
// Hands the controllers of a folder down to its children.
void cgroup_v2_delegate(int dir_fd);
// The same from the root of the cgroup2 tree down to the group: on a hybrid host only who asks for such a limit needs it.
void cgroup_hand_down(const struct cgroup *cgroup);

// Limits on their way to the files. Texts live until cgroup_changes_done().
struct cgroup_change {
    int dir_fd;
    const char *file;
    char *text;
    unsigned missing; // what to note when controller or file is not there; 0: nothing; CGROUP_MUST: fails
};
#define CGROUP_MUST (1U << 31)
struct cgroup_changes {
    struct arena arena;
    struct cgroup_change *items;
    size_t len, capacity;
};
void cgroup_changes_done(struct cgroup_changes *changes);
void cgroup_change_add(struct cgroup_changes *changes, int dir_fd, const char *file, unsigned missing, const char *fmt,
                       ...) _printf_(5, 6);
bool cgroup_has_file(int dir_fd, const char *file);

// One number or word of struct cgroup_limits and its file.
enum cgroup_limit_kind {
    CGROUP_NUMBER, // written as it is
    CGROUP_NUMBER_MAX, // negative is "max"
    CGROUP_SET_NUMBER, // struct cgroup_number
    CGROUP_WORD,
    CGROUP_FLAG, // "1"
    CGROUP_UNSUPPORTED, // a number that this layout has no file for
    CGROUP_SET_UNSUPPORTED, // the same of struct cgroup_number
};
struct cgroup_limit_file {
    const char *controller; // v1
    const char *file;
    enum cgroup_limit_kind kind;
    size_t offset;
    unsigned missing;
};
void cgroup_change_add_row(struct cgroup_changes *changes, int dir_fd, const struct cgroup_limit_file *row,
                           const struct cgroup_limits *limits, unsigned *missing);

// The same in both but for the end of the file's name.
void cgroup_change_add_huge_pages(struct cgroup_changes *changes, int dir_fd, const char *suffix,
                                  const struct cgroup_limits *limits);
void cgroup_change_add_rdma(struct cgroup_changes *changes, int dir_fd, const struct cgroup_limits *limits);

int cgroup_v1_changes(struct cgroup *cgroup, const struct cgroup_limits *limits, struct cgroup_changes *changes,
                      unsigned *missing, struct err *err);
int cgroup_v2_changes(struct cgroup *cgroup, const struct cgroup_limits *limits, struct cgroup_changes *changes,
                      unsigned *missing, struct err *err);
// What is not files, before and after they are written.
int cgroup_v1_after(struct cgroup *cgroup, const struct cgroup_limits *limits, struct err *err);
int cgroup_v2_after(struct cgroup *cgroup, const struct cgroup_limits *limits, unsigned *missing, struct err *err);
bool cgroup_v1_is_frozen(struct cgroup *cgroup);
int cgroup_v1_freeze(struct cgroup *cgroup, bool frozen, struct err *err);
int cgroup_v2_freeze(struct cgroup *cgroup, bool frozen, struct err *err);
// Asks for the death of all members; does not wait.
int cgroup_v1_kill(struct cgroup *cgroup, struct err *err);
int cgroup_v2_kill(struct cgroup *cgroup, struct err *err);
void cgroup_v1_stats(struct cgroup *cgroup, struct cgroup_stats *out);
void cgroup_v2_stats(struct cgroup *cgroup, struct cgroup_stats *out);

#endif
