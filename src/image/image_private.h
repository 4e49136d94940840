// What the files of this room share. Writers (commit, tag, remove, collect) hold `lock` from their first query to their
// last rename, so between them the records and the folders do not move; readers only take the store's own lock.
#ifndef IMAGE_IMAGE_PRIVATE_H
#define IMAGE_IMAGE_PRIVATE_H

#include "base/file.h"
#include "base/mutex.h"
#include "image/image.h"

#define CONFIG_SIZE_MAX (8u << 20) // bytes of an image's configuration

struct image_store {
    struct store *store; // borrowed
    char *root_path;
    int layers_fd, blobs_fd, staging_fd;
    struct mutex lock; // unranked: taken before every engine lock that image_in_use_fn takes
    struct mutex erofs_lock; // unranked: nothing is taken or waited for inside it but `erofs_made`
    struct cond erofs_made;
    struct erofs_making *making GUARDED_BY(erofs_lock); // layers whose EROFS image is being made, by whom
};

extern const char *const image_migrations[];
extern const size_t image_migration_len;

// ---- digest.c -------------------------------------------------------------------------------------------------------

void image_digest(const void *data, size_t size, char out[OCI_DIGEST_SIZE]);
// Chain ID of a layer: the diff ID of the lowest (parent NULL), else the digest of "parent diff".
void image_chain_id(const char *parent, const char *diff_id, char out[OCI_DIGEST_SIZE]);

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
// Points the reference at the image; inside a transaction.
int image_put_reference(struct image_store *images, const struct image_ref *ref, const char *id, struct err *err);
// The key of a reference: "docker.io/library/debian:bookworm"; with a digest the tag is left out.
char *image_ref_key(const struct image_ref *ref, struct arena *arena);

// ---- layers.c: the overlay driver -----------------------------------------------------------------------------------

// The folders of an image's layers, top first, and their diff IDs, in the arena.
int image_layer_folders(struct image_store *images, const struct image *image, struct arena *arena, struct strv *out,
                        struct strv *diff_ids, struct err *err);
int image_set_opaque(int layer_fd, const struct strv *folders, struct err *err);
// Puts a staged layer in its place, or gives an error; a folder without a record that is in the way is moved out.
int image_publish_layer(struct image_store *images, int staging_fd, const char *from, const char *folder, struct err *err);
// Takes a folder out of the layers at once; what it was is in *trash (a name in staging, malloc'ed) to be removed later.
int image_trash_layer(struct image_store *images, const char *folder, char **trash, struct err *err);

// ---- erofs.c: the same layers as images for guests --------------------------------------------------------------------

char *image_erofs_name(const char *folder); // "<folder>.erofs", malloc'ed
void image_erofs_remove(struct image_store *images, const char *folder); // missing is fine

// ---- sweep.c --------------------------------------------------------------------------------------------------------

int image_sweep(struct image_store *images, struct err *err);

// ---- remove.c -------------------------------------------------------------------------------------------------------

// What a deletion leaves to be removed from disk once its transaction is through.
struct image_leftovers {
    struct strv folders, blobs, trash;
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
