// What an image is: references, records, the chain of layers, and the graph driver that turns a chain into something a
// wall can start from. Knows no daemon and never reads a foreign byte: tars are read by the worker (room transfer), which
// leaves a staged result that image_commit_staged() takes over in one transaction.
//
// One folder per chain ID. What is in it is its graph driver's matter, which its record names; all are stacked by overlayfs.
//
//     <root>/blobs/sha256/<hex>      configs (and manifests), immutable
//     <root>/layers/<chain hex>/     "erofs": layer/layer.h's image and recipe, mounted at <state>/layers/<chain hex>
//                                    "overlay": the unpacked diff, whiteouts as overlayfs wants them; "overlay-user": the same of a user namespace
//                                    "loose": the upper of a build's step, of which no image was made yet
//     <root>/layers/<chain hex>.tar/  beside an unpacked layer: what gives its exact tar back (layer/layer.h)
//     <root>/layers/<chain hex>.erofs  beside an unpacked layer: the same as an EROFS image, made when a guest first needs it
//     <root>/staging/<random>/       a transfer's work; removed at start
//
// Several processes may have one data root open, one of them with a state folder (the daemon, which sees to that).
//
// Thread-safe: records live in the store; files are made complete before a record names them, and removed after. A layer
// whose diff another chain has already shares that one's folder. No function may be called inside a store transaction.
#ifndef IMAGE_IMAGE_H
#define IMAGE_IMAGE_H

#include "base/cancel.h"
#include "kernel/mount.h"
#include "spec/spec.h"
#include "store/store.h"

struct image_store;

struct image_store_config {
    int root_fd; // the data root
    int state_fd; // the state folder, where layers are mounted below layers/; -1: a visitor, beside a daemon or without one. It sweeps
                  // nothing, and mounts layers where nobody else sees them
    const char *driver; // of new layers: "erofs", "overlay" or Docker's "overlay2", "vfs", "btrfs"; NULL: by a probe
    bool keep_compressed; // of new layers that come compressed: the bytes as they came stay, too
};
// The descriptors are only needed during the call; `store` is borrowed for the image store's life. Sweeps staging, layers, mounts
// and blobs that no record names, and forgets images whose files are not whole. invalid_argument: no such driver; the kernel's
// reason when it can't do the one that was asked for.
int image_store_open(struct store *store, const struct image_store_config *config, struct image_store **out, struct err *err);
void image_store_close(struct image_store *images);
// Removes what no record names and nobody works on: layers, blobs, staging folders of the dead; forgets images whose files are not whole.
// What the daemon does when it starts.
int image_store_collect(struct image_store *images, struct err *err);

// ---- references -----------------------------------------------------------------------------------------------------

// A reference in its normal form and in the form people read ("debian:bookworm"; docker.io/library/ left out, the tag
// always there, "name@sha256:..." kept).
struct image_ref {
    char *domain, *path, *tag, *digest; // "docker.io", "library/debian", "latest" or NULL, "sha256:..." or NULL
    char *familiar_name; // "debian", "localhost:5000/x"
    char *familiar; // familiar_name + ":" tag or "@" digest
};
// invalid_argument with Docker's text ("invalid reference format", "invalid reference format: repository name (library/Foo)
// must be lowercase"). A missing tag becomes latest when `default_tag`. Digests are sha256 only; with a tag and a digest
// the digest counts.
bool image_tag_valid(const char *text); // a tag alone
int image_ref_parse(const char *text, bool default_tag, struct arena *arena, struct image_ref *out, struct err *err);
// A name that an image shall get: with a tag, and not to be mistaken for an ID.
int image_ref_parse_new(const char *text, struct arena *arena, struct image_ref *out, struct err *err);

// ---- records --------------------------------------------------------------------------------------------------------

struct image {
    char *id; // "sha256:<hex>" of the config
    int64_t size; // bytes of all layers
    int64_t created_ns;
    int64_t tagged_ns; // last tag time, 0 when never
    char *parent; // the image that it was committed on, as long as that is there; NULL
    bool has_children; // it is the parent of one that is there
    struct strv tags; // familiar: "debian:bookworm"
    struct strv digests; // familiar: "debian@sha256:..."
    struct oci_image_config config;
    char *config_text; // the exact bytes, for fields the struct does not know
    struct strv chain_ids; // bottom first, one per diff ID
    int64_t *layer_sizes; // bytes, one per chain ID
};

// Docker's resolution: full reference, familiar name (tag latest), full ID with or without sha256:, unique ID prefix
// (at least one hex digit; a reference wins over a prefix). not_found: "No such image: NAME" with the tag added as Docker
// does, also for a prefix that several images have; invalid_argument as image_ref_parse().
int image_get(struct image_store *images, const char *name, struct arena *arena, struct image *out, struct err *err);
// Of the image with that full ID what its tree is made of, at a fraction of the price: id, size, chain_ids and layer_sizes. not_found.
int image_get_layers(struct image_store *images, const char *id, struct arena *arena, struct image *out, struct err *err);
int image_find(struct image_store *images, const char *name, char id[OCI_DIGEST_SIZE], struct err *err); // its ID alone
// All images, newest first.
int image_list(struct image_store *images, struct arena *arena, struct image **out, size_t *len, struct err *err);
// A tag that names another image already moves. invalid_argument: `reference` is none, or has a digest.
int image_tag(struct image_store *images, const char *name, const char *reference, struct err *err);

struct image_removed {
    struct strv untagged, deleted; // references; image IDs and, after each, chain IDs of the layers that went ("sha256:...")
    struct strv images; // of those deleted, the images
};
enum image_remove_flag {
    IMAGE_REMOVE_FORCE = 1,
    IMAGE_REMOVE_KEEP_PARENTS = 2, // else those go along that have no name, no container and no other child
};
// Docker's rmi: a reference is untagged; an ID, or the last tag, deletes the image unless `in_use` answers true
// for it (conflict, Docker's text with the container's short id from in_use's `by`). With several tags and an ID: conflict
// unless forced. One that others were made from here (their parent) stays for them: by its last tag it is untagged alone, by its ID it is a
// conflict that can't be forced. Layers without images go at once. Forced while a stopped container uses it, the image leaves the list and
// keeps its layers: image_get() finds it by its full "sha256:..." until image_collect() deletes it.
//
// `in_use` tells whether a container (`by`: its short id) was made of the image, and whether one of them is running; it is
// called with the image store's lock held: it must not call this room, and the caller must hold no lock that it takes.
typedef bool image_in_use_fn(void *context, const char *image_id, char by[13], bool *running);
int image_remove(struct image_store *images, const char *name, unsigned flags, image_in_use_fn *in_use, void *context,
                 struct arena *arena, struct image_removed *out, struct err *err);
// Deletes what a forced removal left for stopped containers that are gone now: after a container's removal, and once at start.
int image_collect(struct image_store *images, image_in_use_fn *in_use, void *context, struct err *err);

// ---- taking over what a worker staged -------------------------------------------------------------------------------

// A manifest of an image as a registry has it.
struct image_manifest {
    char *image_id; // empty in what a worker stages
    char *repository; // "docker.io/library/debian"
    char *digest, *media_type;
    char *text; // its exact bytes
    int64_t shared; // image_manifests(): so many layers, from the lowest, are those of the image that was asked for
};
extern const struct json_table image_manifest_table;

// The worker writes into a folder of ours and ends with a list of images in this form:
//   staging/blobs/<hex>              the config
//   staging/layers/<diff hex>/       a layer, in the form that staging/form asks for (layer/layer.h); none: unpacked, whiteouts made,
//                                    and <diff hex>.tar/ beside it
//   staging/order                    of a commit: what is asked of the worker (transfer/transfer.h); the daemon writes it
// and per unpacked layer the folders that must become opaque (the attribute is ours to set, from this checked list).
#define IMAGE_STAGING_ORDER "order"
struct image_staged_layer {
    char *diff_id; // "sha256:<hex>"
    int64_t size; // bytes of content
    struct strv opaque; // relative folders
};
struct image_staged {
    char *config_digest; // "sha256:<hex>"
    bool step; // of a build: in no list until image_show(). No worker's word
    bool loose; // what is staged is an overlay's upper, and its diff ID a name. No worker's word
    struct strv references; // as the archive says them; normalised here
    struct json_list layers; // struct image_staged_layer, bottom first
    struct image_manifest *manifest; // NULL: it comes from no registry
    const char *parent; // the image that it was made from, as the daemon knows; NULL: none. No worker's word
};
extern const struct json_table image_staged_table;

// The size of a layer that some image has, -1: none has it. It may be gone by the time of a commit, which then says so.
int image_layer_size(struct image_store *images, const char *diff_id, int64_t *size, struct err *err);
// A fresh <root>/staging/<random>/; returns its O_PATH|O_DIRECTORY descriptor and, in name (malloc'ed), the folder's name.
int image_staging_new(struct image_store *images, char **name, struct err *err);
void image_staging_remove(struct image_store *images, const char *name);
// Takes the image's layers out of the staging folder, except those that exist already. One transaction. *id is arena memory.
// invalid_argument: the configuration's bytes are not its digest's, its diff IDs are not the layers', its history has more
// layers than there are, a reference is none, or a layer is neither staged nor known.
int image_commit_staged(struct image_store *images, const char *staging, const struct image_staged *staged,
                        struct arena *arena, char **id, struct err *err);

void image_digest(const void *data, size_t size, char out[OCI_DIGEST_SIZE]); // "sha256:<hex>" of these bytes

// ---- steps of a build -----------------------------------------------------------------------------------------------

// An image that a build made on its way is in no list; it is found by its ID and its beginning, and stays until it is forgotten, or shown:
// then it is one like others.
int image_show(struct image_store *images, const char *id, struct err *err);
// Deletes it, unless it was shown (0) or `in_use` says that a container was made of it (2): 1 when it went. *size: the bytes that were freed.
int image_forget(struct image_store *images, const char *id, image_in_use_fn *in_use, void *context, int64_t *size, struct err *err);

// A *loose* layer is the upper of a step's container, as it was left: a folder without a tar, and so without a diff ID; a random name has its place. An image with
// such a layer is as good as any other as a tree, to stand on and to read from; but its ID is no digest of its content, so it is found by its full ID alone, and
// nobody names, shows or saves it (conflict). Who needs one makes the same layer of its folder, with an image of its own.
bool image_takes_loose(const struct image_store *images); // layers are stacked by overlayfs, with marks as ours are
// Whether the image's topmost layer is one: 1, and *fd its folder (O_PATH, the caller's); 0.
int image_loose_open(struct image_store *images, const struct image *image, struct arena *arena, int *fd, struct err *err);

// One at a time, of all processes that have this root open, pulls what `key` says: the others wait, and find its layers. A descriptor that
// is closed when the pull is over. cancelled: as `cancel` says.
int image_pull_turn(struct image_store *images, const char *key, const struct cancel *cancel, struct err *err);

// ---- for pushing ----------------------------------------------------------------------------------------------------

// The manifests that registries have of this image, then those of images that share layers with it: struct image_manifest, a few
// at most.
int image_manifests(struct image_store *images, const char *id, struct arena *arena, struct json_list *out, struct err *err);
// What a push has made: the manifest, and "repository@digest" as one of the image's references.
int image_record_push(struct image_store *images, const struct image_manifest *manifest, struct err *err);
// What gives the exact tar of the image's layer number `index` back (layer_recipe_open()): two readable descriptors. 1; 0 when there
// is none: an older version has unpacked it.
int image_layer_recipe(struct image_store *images, const struct image *image, size_t index, int *recipe_fd, int *image_fd, struct err *err);

// The same layer's blob as it came, where that is kept (keep_compressed): 1, with its digest and a readable descriptor; 0: it is not.
int image_layer_original(struct image_store *images, const struct image *image, size_t index, char digest[OCI_DIGEST_SIZE], int *fd, struct err *err);

// ---- for a registry that hands the store's images out (blobs.c) --------------------------------------------------------

// A blob by its digest: an image's configuration; a layer as it came, where that is kept; the exact tar of a layer, whose digest is the
// diff ID.
struct image_blob {
    int fd; // of a file that is the blob; of a tar what its recipe lies over
    int recipe_fd; // -1: it is a file
    int64_t size;
};
// 1; 0: the store has no such blob. With `bytes` false the size alone counts, and a tar's `fd` is -1. Caller closes with image_blob_done().
int image_blob_open(struct image_store *images, const char *digest, bool bytes, struct image_blob *out, struct err *err);
void image_blob_done(struct image_blob *blob);
// Whether the layer with that diff ID is there and has that blob: its tar, or its original. *size as image_layer_size() has it.
int image_layer_has(struct image_store *images, const char *diff_id, const char *digest, int64_t *size, struct err *err);
// The blob that a layer came as stays with it from now on: `fd` is a whole file of that digest, which must inflate to the layer's tar, and
// lies on the store's file system. A second link of the same file; the layer is gone already: nothing is done.
int image_layer_keep(struct image_store *images, const char *diff_id, const char *digest, int fd, struct err *err);
// The manifest whose layers are plain tars, as docker save writes it; arena. NULL: not_implemented when a layer's tar is not known.
char *image_plain_manifest(struct image_store *images, const struct image *image, struct arena *arena, char digest[OCI_DIGEST_SIZE], struct err *err);
// Repositories that have a tag, the tags of one, and the images that one has by tag or digest; all sorted, names familiar.
int image_repositories(struct image_store *images, struct arena *arena, struct strv *out, struct err *err);
int image_repository_tags(struct image_store *images, const char *repository, struct arena *arena, struct strv *out, struct err *err);
int image_repository_images(struct image_store *images, const char *repository, struct arena *arena, struct strv *out, struct err *err);

// ---- the graph driver -----------------------------------------------------------------------------------------------

// What a wall starts from, by descriptors (O_PATH): the layers' trees top first, each once, so `len` may be less than the
// image's number of layers; none for an image without layers. Caller closes with image_layers_done().
//
// A layer that is a file is mounted when it is first wanted, once, and stays so until it is removed or everything stops. Nobody counts
// its users: whatever stacks it holds the mount's file system by itself, beyond the mount's end. A next life finds the mounts again.
struct image_layers {
    int *fds;
    size_t len;
    struct strv paths; // of the same folders, for the task document, in the arena
    struct strv diff_ids; // of the same folders, in the arena
};
int image_layers_open(struct image_store *images, const struct image *image, struct arena *arena,
                      struct image_layers *out, struct err *err);
void image_layers_done(struct image_layers *layers);
// The paths alone, mounted or not.
int image_layer_paths(struct image_store *images, const struct image *image, struct arena *arena, struct strv *out, struct err *err);
// The same layers as EROFS images, for guests: readable descriptors, and the paths of the images. For a layer that is one already,
// that file; else what is missing is made, once for a layer: of two callers the second waits.
int image_erofs_open(struct image_store *images, const struct image *image, struct arena *arena, struct image_layers *out,
                     struct err *err);
// The exact tars of an image's layers, bottom first, as what layer_recipe_open() takes; one that is there twice is there twice.
// not_implemented: a layer that an older version has unpacked. Caller closes with image_tars_done().
struct image_tar {
    const char *diff_id; // the image's
    uint64_t size; // of the tar
    int image_fd, recipe_fd;
};
struct image_tars {
    struct image_tar *items;
    size_t len;
};
int image_tars_open(struct image_store *images, const struct image *image, struct arena *arena, struct image_tars *out,
                    struct err *err);
void image_tars_done(struct image_tars *tars);
// The OCI manifest of the image with these tars as its layers, and its digest.
char *image_tars_manifest(const struct image *image, const struct image_tars *tars, struct arena *arena, char digest[OCI_DIGEST_SIZE]);
// The exact bytes of the configuration, for reading.
int image_config_open(struct image_store *images, const struct image *image, struct err *err);

// Where the driver's containers have a copy of the image each instead of an overlay (vfs, btrfs). Of an image with layers; descriptors
// are readable and the caller's.
bool image_store_copies(const struct image_store *images);
int image_tree_open(struct image_store *images, const struct image *image, struct err *err); // the image's root, which nobody may write to
int image_root_copy(struct image_store *images, const struct image *image, int dir_fd, const char *name, struct err *err); // `name` is new
// Bytes of the files in such a copy that are not the image's any more.
int image_root_changed(struct image_store *images, const struct image *image, int dir_fd, const char *name, int64_t *size, struct err *err);
// All that is in one folder into another: also links, hard links, holes, devices, user.* attributes and capabilities, times.
int image_copy_tree(int from_fd, int to_fd, struct err *err);

void image_unmount_all(struct image_store *images); // nothing of ours is on the host any more; what is stacked goes on
const char *image_driver_name(const struct image_store *images); // of new layers, as Docker's clients know it: "overlay2", "erofs"
// What `docker info` says of it: pairs of key and value, in the arena.
void image_driver_status(const struct image_store *images, struct arena *arena, struct strv *out);

#endif
