#ifndef SHARED_SHARED_PRIVATE_H
#define SHARED_SHARED_PRIVATE_H

#include "base/mutex.h"
#include "image/image.h"
#include "shared/shared.h"

struct shared {
    int root_fd;
    char *program;
    struct store *store;
    struct image_store *images;
    struct mutex taking; // unranked, outermost: one image is taken over at a time
};

// The engine's name of a registry's repository; false: it can have none of that name.
bool shared_ref(const char *repository, struct arena *arena, struct image_ref *out);
// manifests.c, take.c: as registry.h says
int shared_manifest(void *shared, const char *repository, const char *reference, const char *last, struct arena *arena,
                    struct registry_manifest *out, struct err *err);
int shared_take(void *shared, const struct registry_image *image, struct err *err);

#endif
