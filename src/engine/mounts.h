// The mounts of a container record; see mounts.c.
#ifndef ENGINE_MOUNTS_H
#define ENGINE_MOUNTS_H

#include "engine_private.h"

// Fills container->mounts from its configuration; volumes are made where missing. `fresh` gets the destinations of those
// that are still to be filled, in `arena`. They are held, also when it fails: until the container is to be found by everybody, or given up.
int mounts_from_config(struct container *container, struct arena *arena, struct strv *fresh, struct err *err);
void mounts_release(const struct container *container);
int mounts_fill(struct container *container, const struct image *image, const struct strv *fresh, struct err *err);
// For a run: volumes that have something mounted have it from here on, until the end of use. Needs container_begin().
int mounts_begin_use(struct container *container, struct err *err);
void mounts_end_use(struct container *container); // once or never
// At start: an O_PATH descriptor of what is mounted, of a volume's folder if one was named.
// Of an image's: a detached mount with the ids of `users`, good for one use.
int mounts_open(const struct container *container, const struct engine_mount *mount, const struct run_users *users, struct err *err);
// Whether the propagation that the user chose is possible from this source (O_PATH).
int mounts_check_propagation(const struct task_mount *mount, int source_fd, struct err *err);
// Of those that nobody named and no other container has.
void mounts_remove_anonymous(struct container *container);
// mount_image.c: the images that HostConfig.Mounts names, as they are called now; before the container is in the list. not_found.
int mount_images_hold(struct container *container, struct arena *arena, struct err *err);
bool mount_images_have(const struct engine *engine, const struct container *container, const char *image_id) REQUIRES(engine->list_lock);
// An image's root as one tree that nobody may write to: a folder, or a detached mount, with the ids of `users` (NULL: as they are).
int mount_image_root(struct image_store *images, const struct image *image, const struct run_users *users, bool *detached, struct err *err);
int mount_image_open(const struct container *container, const struct engine_mount *mount, const struct run_users *users, struct err *err);
// volume_fill.c: copies what the image has at `destination` into the fresh volume at `volume_path`.
int volume_fill(struct container *container, const struct image *image, const char *destination, const char *volume_path,
                struct err *err);

#endif
