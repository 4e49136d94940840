// What the files of this room share.
#ifndef IMAGETOOL_IMAGETOOL_PRIVATE_H
#define IMAGETOOL_IMAGETOOL_PRIVATE_H

#include "imagetool/imagetool.h"
#include "worker/worker.h"

#define IMAGETOOL_PROGRAM "/proc/self/exe" // the worker is this same program

// A data root that is open: a visitor's view (image/image.h).
struct visit {
    int root_fd;
    struct store *store;
    struct image_store *images;
    struct arena arena;
};

int imagetool_say(void *tool, json_t *object); // a worker_progress_fn, for standard error
// How registries are reached and who we are there, for the worker.
int imagetool_words(const struct imagetool *tool, const struct image_ref *ref, struct arena *arena, int fd, struct err *err);

int visit_begin(struct visit *visit, const struct imagetool *tool, struct err *err);
void visit_end(struct visit *visit);
#define _cleanup_visit_ _cleanup_(visit_end)
// Whether a container of the daemon's was made of it; an image_in_use_fn with the visit as its context. It counts as running, because
// only the daemon knows.
bool visit_in_use(void *visit, const char *image_id, char by[13], bool *running);

#endif
