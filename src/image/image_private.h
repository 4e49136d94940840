// What the files of this room share. Writers (commit, tag, remove, collect) hold image_lock() from their first query to their
// last rename, so between them the records and the folders do not move; readers only take the store's own lock. Other processes may have
// the same data root open: what one thread does under a lock here, no other process does meanwhile.
#ifndef IMAGE_IMAGE_PRIVATE_H
#define IMAGE_IMAGE_PRIVATE_H

#include "base/file.h"
#include "base/mutex.h"
#include "image/image.h"
#include "kernel/erofs_mount.h"

#define CONFIG_SIZE_MAX (8u << 20) // bytes of an image's configuration

// Between threads, and by a file of the data root between processes.
struct image_lock {
    struct mutex mutex;
    int fd;
};

struct image_store {
    struct store *store; // borrowed
    char *root_path;
    int layers_fd, blobs_fd, staging_fd;
    const struct image_driver *driver; // of new layers
    int mounts_fd; // <state>/layers; of a visitor the daemon's, or -1
    bool keep; // compressed originals of new layers
    bool visitor; // mounts nothing where others see it
    char *mounts_path;
    enum erofs_way erofs_way; // EROFS_ANY: this kernel mounts none
    struct image_lock mount_lock; // unranked, innermost: a layer is mounted, or moved away and unmounted, with it
    struct image_lock lock; // unranked: taken before every engine lock that image_in_use_fn takes
    struct mutex holds_lock; // unranked, innermost
    struct staging_hold *holds GUARDED_BY(holds_lock); // staging folders that are ours
    struct mutex erofs_lock; // unranked: nothing is taken or waited for inside it but `erofs_made`
    struct cond erofs_made;
    struct erofs_making *making GUARDED_BY(erofs_lock); // layers whose EROFS image is being made, by whom
};

extern const char *const image_migrations[];
extern const size_t image_migration_len;

// ---- lock.c ---------------------------------------------------------------------------------------------------------

int image_locks_open(struct image_store *images, int root_fd, struct err *err);
void image_locks_close(struct image_store *images);
void image_lock(struct image_store *images) ACQUIRES(&images->lock.mutex);
void image_unlock(struct image_store *images) RELEASES(&images->lock.mutex);
void image_mounts_lock(struct image_store *images) ACQUIRES(&images->mount_lock.mutex);
void image_mounts_unlock(struct image_store *images) RELEASES(&images->mount_lock.mutex);
// Says that an entry of the staging folder is in use, as long as `fd` (readable) is open in this process: no sweep removes it.
int image_hold(int fd, struct err *err);
bool image_is_held(const struct image_store *images, const char *name); // by whomever

// ---- digest.c -------------------------------------------------------------------------------------------------------

// Chain ID of a layer: the diff ID of the lowest (parent NULL), else the digest of "parent diff".
void image_chain_id(const char *parent, const char *diff_id, char out[OCI_DIGEST_SIZE]);

// The column `hidden`: in lists; deleted, and kept for a stopped container; a build's, in no list; the same with a loose layer.
enum { IMAGE_SHOWN = 0, IMAGE_DELETED = 1, IMAGE_STEP = 2, IMAGE_LOOSE = 3 };

// ---- record.c -------------------------------------------------------------------------------------------------------

struct image_reference {
    char *name; // normal form, the key
    char *familiar, *repository;
    bool by_digest;
};

struct image_references {
    struct image_reference *items;
    size_t len;
};

// Runs in one transaction, or outside of any: each row of one text column is appended.
int image_query_texts(struct image_store *images, struct strv *out, struct arena *arena, struct err *err, const char *sql,
                      const char *parameter);
// What `name` says. *id is arena memory; *reference is its normal form when it was one, NULL for an ID or a prefix.
int image_resolve(struct image_store *images, const char *name, struct arena *arena, char **id, char **reference,
                  struct err *err);
int image_references_of(struct image_store *images, const char *id, struct arena *arena, struct image_references *out,
                        struct err *err);
// Two at most of the images that were made from this one and are there.
int image_children(struct image_store *images, const char *id, struct arena *arena, struct strv *out, struct err *err);
// Points the reference at the image; inside a transaction.
int image_put_reference(struct image_store *images, const struct image_ref *ref, const char *id, struct err *err);
// Inside a transaction; one that is there stays.
int image_put_manifest(struct image_store *images, const char *id, const struct image_manifest *manifest, struct err *err);
// The key of a reference: "docker.io/library/debian:bookworm"; with a digest the tag is left out.
char *image_ref_key(const struct image_ref *ref, struct arena *arena);

// ---- graph drivers --------------------------------------------------------------------------------------------------

// What a layer's folder (named by its chain) has in it, and how that becomes a tree. `folder_fd` is open for reading.
struct image_driver {
    const char *word; // in records, and what --storage-driver calls it
    const char *name; // what Docker's clients know
    const char *form; // LAYER_FORM_*, which the worker is asked for; NULL: unpacked
    const struct image_driver *rootless; // what it is in a user namespace; NULL: not there
    enum image_copies { COPIES_NOTHING, COPIES_FILES, COPIES_SNAPSHOT } copies; // of the image for each container (whole.c)
    // Makes a staged layer complete, or refuses it; nothing is synced yet.
    int (*complete)(int folder_fd, const struct image_staged_layer *staged, struct err *err);
    bool (*is_whole)(int folder_fd); // not after every crash
    // The tree, as an O_PATH descriptor that overlayfs stacks; where it is (arena), then and later.
    int (*open)(struct image_store *images, const char *folder, struct err *err);
    char *(*path)(const struct image_store *images, const char *folder, struct arena *arena);
    // The layer as an EROFS image for guests: a readable descriptor, and its path (arena).
    int (*open_image)(struct image_store *images, const char *folder, struct arena *arena, char **path, struct err *err);
    // The recipe of its exact tar, and what that lies over; not_implemented: it is not known.
    int (*open_recipe)(struct image_store *images, const char *folder, struct err *err);
    int (*open_content)(struct image_store *images, const char *folder, uint64_t tar_size, struct err *err);
};
extern const struct image_driver image_driver_loose; // no word of an operator's: what a build's step has left, as overlayfs wrote it
extern const struct image_driver image_driver_overlay, image_driver_erofs, image_driver_vfs, image_driver_btrfs;
// Their layers as a user namespace unpacks them: marks of overlayfs are user.overlay.*, no device is there, owners are the namespace's. The
// record says so, and each side refuses the layers of the other when they are to be opened.
extern const struct image_driver image_driver_overlay_user, image_driver_vfs_user;

// ---- driver_overlay.c ------------------------------------------------------------------------------------------------

const char *image_opaque_name(void); // of overlayfs's attribute, as this user namespace can have it

// ---- driver.c -------------------------------------------------------------------------------------------------------

const struct image_driver *image_driver_by_word(const char *word); // of a record; NULL: none
int image_driver_choose(struct image_store *images, const char *wanted, struct err *err);

// ---- layer_mount.c: mounts of the erofs driver ------------------------------------------------------------------------

int image_mount_layer(struct image_store *images, const char *folder, struct err *err); // its root, O_PATH
void image_unmount_layer(struct image_store *images, const char *folder); // with the mount lock; not mounted is fine
void image_sweep_mounts(struct image_store *images, const struct strv *keep); // all but those of these folders

// ---- layers.c -------------------------------------------------------------------------------------------------------

// One layer's folder, as the records have it; the driver is one that there is. `arena` is set by the caller.
struct image_place {
    char *folder, *driver;
    struct arena *arena;
};
int image_find_place(struct image_store *images, const struct image *image, size_t index, struct image_place *out, struct err *err);
// tars.c: the recipe of its tar, and (`with_content`) what that lies over. What is open afterwards, also after an error, is the caller's.
int image_place_tar(struct image_store *images, const struct image_place *place, bool with_content, struct image_tar *out, struct err *err);
// Puts a staged layer in its place, or gives an error; a folder without a record that is in the way is moved out.
int image_publish_layer(struct image_store *images, int staging_fd, const char *from, const char *folder, struct err *err);
// Takes a folder out of the layers at once; what it was is in *trash (a name in staging, malloc'ed) to be removed later.
int image_trash_layer(struct image_store *images, const char *folder, char **trash, struct err *err);

void image_kept_remove(struct image_store *images, const char *folder); // what an unpacked layer keeps of its tar; missing is fine

// ---- guest_image.c: unpacked layers as images for guests --------------------------------------------------------------

// One that makes something out of a layer, or of an image; on the maker's stack. Who begins waits for who makes the same.
struct erofs_making {
    struct erofs_making *next;
    const char *folder;
};
void image_making_begin(struct image_store *images, struct erofs_making *mine);
void image_making_end(struct image_store *images, const struct erofs_making *mine);
int image_guest_open(struct image_store *images, const char *folder, struct arena *arena, char **path, struct err *err);
char *image_erofs_name(const char *folder); // "<folder>.erofs", malloc'ed
void image_erofs_remove(struct image_store *images, const char *folder); // missing is fine

// ---- copy.c, whole.c -------------------------------------------------------------------------------------------------

int image_run_deep(void *(*run)(void *), void *context, struct err *err); // in a thread with a large stack, which is waited for
int image_apply_layer(int layer_fd, int to_fd, struct err *err); // an unpacked layer over what is there: whiteouts and all
char *image_tree_name(const char *chain); // "<hex>.tree" in the layers' folder, malloc'ed

// ---- sweep.c --------------------------------------------------------------------------------------------------------

int image_sweep(struct image_store *images, struct err *err);

// ---- remove.c -------------------------------------------------------------------------------------------------------

// What a deletion leaves to be removed from disk once its transaction is through.
struct image_leftovers {
    struct strv folders, trees, blobs, trash;
};
#define _cleanup_leftovers_ _cleanup_(image_leftovers_done)
void image_leftovers_done(struct image_leftovers *left);
// Inside a transaction: the image's record and those of its layers that no other image has; their chain IDs are appended
// to *deleted (may be NULL), top first.
int image_delete_records(struct image_store *images, const char *id, struct arena *arena, struct strv *deleted,
                         struct image_leftovers *left, struct err *err);
// After the transaction, with the lock: moves them away. Then, without: removes them.
void image_leftovers_unlink(struct image_store *images, struct image_leftovers *left);
void image_leftovers_remove(struct image_store *images, const struct image_leftovers *left);

#endif
