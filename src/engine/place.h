// What the archive worker is told of a COPY or ADD (place.c).
#ifndef ENGINE_PLACE_H
#define ENGINE_PLACE_H

#include "filer.h"
#include "inflate.h"
#include "steps.h"

// A file from its beginning, which it is at again afterwards.
enum file_form { FILE_FORM_FAILED = -1, FILE_FORM_NONE, FILE_FORM_TAR, FILE_FORM_COMPRESSED }; // a tar in either case
enum file_form file_form_of(struct engine *engine, int file_fd, struct err *err);

struct place_order {
    struct engine *engine;
    json_t *spec; // archive/worker.h
    int *fds; // of its sources, borrowed
    size_t len;
    int *own_fds; // files that are archives
    size_t own_len;
    struct inflate **inflates; // of those that are compressed
    size_t inflate_len;
};
void place_order_init(struct place_order *order, struct engine *engine, const struct step_place *place, bool tell);
// `looked` NULL: files are files, whatever is in them.
int place_order_add(struct place_order *order, const struct step_place *place, const struct step_sources *looked, struct err *err);
void place_order_done(struct place_order *order);

#endif
