// One run of berth-archive (archive/worker.h) on a container's files (filer.c).
#ifndef ENGINE_FILER_H
#define ENGINE_FILER_H

#include "tree.h"

struct filer {
    struct engine *engine; // borrowed, as is the next
    struct container *container; // NULL: a builder's, which names its tree itself
    struct container_tree tree;
    struct process process; // none behind the VM wall
    bool booted; // a machine of our own
    int data_fd; // what it writes; -1
    int report_fd;
    struct buf report; // not yet read lines
};
#define FILER_ALONE(of_engine) { .engine = (of_engine), .tree = TREE_INIT, .process = PROCESS_NONE, .data_fd = -1, .report_fd = -1, .report = BUF_INIT(1 << 20) }
#define FILER_INIT(of_container) { .engine = (of_container)->engine, .container = (of_container), .tree = TREE_INIT, .process = PROCESS_NONE, .data_fd = -1, .report_fd = -1, .report = BUF_INIT(1 << 20) }
void filer_done(struct filer *filer); // also ends what still runs

struct filer_wish {
    const char *verb, *path, *owner; // archive/worker.h
    bool keep_kind;
    struct tree_wish tree;
    bool mounts; // volumes, binds and the container's own files are seen too
    bool output; // filer->data_fd is what it writes
    bool freeze; // a guest's processes stand still meanwhile
    int data_fd; // what it reads, or else writes: borrowed; -1
    int root_fd; // without a container: a detached mount, borrowed
    const int *source_fds; // "source" and "spec" of its order: borrowed
    size_t source_len;
    json_t *spec; // NULL: none
};
// Behind the VM wall the worker is in the guest; a machine that does not run is booted for it, and goes with filer_done().
int filer_start(struct filer *filer, const struct filer_wish *wish, struct err *err);
// The next line that is not the last: 1; 0 when it has done all; -1 with what it says went wrong. *line is a reference.
int filer_next(struct filer *filer, const struct cancel *cancel, json_t **line, struct err *err);
int filer_end(struct filer *filer, const struct cancel *cancel, struct err *err); // reads to the end

#endif
