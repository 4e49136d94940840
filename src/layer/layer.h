// tar -> layer folder: inflate, hash, whiteouts, and nothing outside the folder ever touched, whatever the tar says.
// Runs in the image worker only, one thread per call. Names are bytes, whatever the locale.
#ifndef LAYER_LAYER_H
#define LAYER_LAYER_H

#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/slice.h"
#include "base/strv.h"

// Reads compressed or plain bytes; 0 is the end, -1 an error with *err filled.
typedef ssize_t layer_read_fn(void *context, void *data, size_t size, struct err *err);

// A bound against streams that become a multiple of themselves: what is inflated, over all streams of one transfer and all their
// threads, may be more than `floor` bytes only as long as it is at most `ratio` times of what came from outside. Layers of zeros are
// ordinary, so neither alone would do. Whoever reads the transfer's own bytes counts them in `came`. NULL, or a ratio of 0: no bound.
struct layer_bound {
    uint64_t ratio, floor;
    atomic_uint_least64_t came, inflated;
};

struct layer_result {
    char diff_id[72]; // "sha256:<hex>" of the plain tar, padding after its end included
    int64_t size; // bytes of files and of links' targets, as Docker counts
    struct strv opaque; // folders that hide what lower layers have there, relative ("." is the root), to be marked by
                        // the daemon: each is a folder of the layer, none twice
};

// Unpacks one layer tar (plain, gzip, zstd, bzip2, xz: by magic bytes) into the empty folder `target_fd` (may be
// O_PATH): owners, modes, times, xattrs (security.capability, user.*), hard links, sparse files, devices, fifos, long
// names. *out is filled on success only; layer_result_done() frees it.
//
// Names count from the layer's root: a leading "/" is dropped, "a/../b" is b, and a name, hard link or whiteout that
// climbs out is refused ("layer entry ../x: leads outside the layer"). Symlinks are kept as they are; what is written
// through one lands where it leads *inside* the layer (kernel/path.h). A later entry of the same name wins; a folder
// over a folder merges. Missing parents are made, 0755 root. The root's own entry changes nothing, as with Docker.
// ".wh.x" becomes a 0:0 character device, unless the same tar also has x: a whiteout hides lower layers only, so a
// folder x becomes opaque instead. trusted.*, user.overlay.* and foreign security.* attributes are dropped.
//
// invalid_argument: not a tar, damaged, or refused; resource_exhausted: a bound (entries, opaque folders, `bound`) or the disk.
//
// `keep` (NULL: nothing) is where what gives the exact tar back goes: two empty files, and an empty folder for what later entries of the
// same tar replace, on the target's file system.
struct layer_keep {
    int recipe_fd, table_fd, lost_fd; // readable and writable; borrowed
    bool no_devices; // device nodes are in the recipe alone: a user namespace may make none but 0:0
};
int layer_unpack(layer_read_fn *read, void *context, struct layer_bound *bound, int target_fd, const struct layer_keep *keep,
                 struct layer_result *out, struct err *err);
void layer_result_done(struct layer_result *result);

// ---- the same as one EROFS image, and back --------------------------------------------------------------------------

struct layer_erofs_options {
    uint64_t size_max; // bytes of the plain tar, and of the image; 0: what the format takes, 16 TiB
    struct layer_bound *bound; // NULL: none
    bool user_xattrs; // opaque folders are marked by user.overlay.opaque (rootless), else by trusted.overlay.opaque
    bool plain; // no file's content beside its inode: a guest can map each page of each file (DAX). Costs half a block a file
};

struct layer_erofs_result {
    char diff_id[72];
    int64_t size; // as above
    uint64_t image_size;
};

// Writes one layer tar, of all that layer_unpack() takes and by its rules, as an EROFS image (4 KiB blocks, nothing compressed)
// into the empty file `image_fd`, and into the empty file `recipe_fd` (-1: none) what gives the exact tar back. One pass; of the
// tar's content nothing stays in memory, of its names about 150 bytes each. Nothing is synced.
//
// The image depends on the tar alone. What no entry tells is told so: missing parents have the time of the entry that
// needs them, the root is 0755 root of 1970; whiteouts are 0:0 character devices, opaque folders have an attribute.
//
// Errors as layer_unpack(); resource_exhausted also for size_max. Attributes that EROFS cannot hold (value above
// 65,535 bytes, all of one inode above 256 KiB) are refused.
int layer_erofs_write(layer_read_fn *read, void *context, int image_fd, int recipe_fd, const struct layer_erofs_options *options,
                      struct layer_erofs_result *out, struct err *err);

// The same of a layer that was unpacked, with user.* attributes, security.capability and the mark of opaque folders; others'
// attributes are left out. Links are not followed, sparse files stay so. The folder must not change meanwhile (conflict, where
// that is seen). Uses no other library: the daemon may call it.
int layer_erofs_from_folder(int folder_fd, int image_fd, const struct layer_erofs_options *options, uint64_t *image_size,
                            struct err *err);

// What stands beside an unpacked layer, in a folder of its own: a recipe, and these two. layer_content() writes to the end of `to_fd` the
// content over which that recipe gives the tar back, `size_max` bytes at most. Uses no other library: the daemon may call it. internal: it
// is damaged.
#define LAYER_KEPT_SUFFIX ".tar" // of that folder's name, behind the layer's
#define LAYER_TABLE_NAME "table"
#define LAYER_LOST_NAME "lost"
int layer_content(int folder_fd, int keep_fd, uint64_t size_max, int to_fd, struct err *err);
struct layer_row {
    char place;
    uint64_t inode, offset, size;
    const char *path;
};
int layer_row_next(struct slice *rest, struct layer_row *out, struct err *err); // 1, 0 at the table's end

// A layer in this form is a folder with these two files.
#define LAYER_IMAGE_NAME "image.erofs"
#define LAYER_RECIPE_NAME "recipe"
// Who wants layers in it says so in the folder where they are to be staged, by a file of this name and content.
#define LAYER_FORM_NAME "form"
#define LAYER_FORM_EROFS "erofs"
#define LAYER_FORM_NO_DEVICES "no-devices" // unpacked, in a user namespace
// Who wants the bytes of compressed layers kept as they came puts a file of the first name there. They are in the layer's folder, of unpacked
// ones in the one beside it, as a file named by the second and the hex digits of their digest.
#define LAYER_KEEP_NAME "keep"
#define LAYER_ORIGINAL_PREFIX "original-"

struct layer_recipe_info {
    uint64_t tar_size;
    char diff_id[72];
};

// What a recipe says of its tar. Uses no other library: the daemon may call it. internal: it is none, or damaged.
int layer_recipe_read_info(int recipe_fd, struct layer_recipe_info *out, struct err *err);

// Reads the tar back. Descriptors are borrowed until layer_recipe_free(). internal: recipe or image is damaged; what was
// read before may be wrong then, so whoever needs to know hashes it.
struct layer_recipe;
int layer_recipe_open(int recipe_fd, int image_fd, struct layer_recipe **out, struct err *err);
struct layer_recipe_info layer_recipe_info(const struct layer_recipe *recipe);
ssize_t layer_recipe_read(void *recipe, void *data, size_t size, struct err *err); // a layer_read_fn
// The next bytes as what they are, at most `size_max` of them: in memory until the next call, or (data NULL) so many bytes of the image
// from `image_at` on, which nobody has looked at. 1, or 0 at the end.
struct layer_piece {
    const void *data;
    uint64_t image_at, size;
};
int layer_recipe_next(struct layer_recipe *recipe, uint64_t size_max, struct layer_piece *out, struct err *err);
// Leaves out the next bytes, reading no content for that: how a range begins. invalid_argument: so many are not left.
int layer_recipe_skip(struct layer_recipe *recipe, uint64_t size, struct err *err);
void layer_recipe_free(struct layer_recipe *recipe); // NULL is fine

// ---- parts ----------------------------------------------------------------------------------------------------------

// A tar's name as a path from its root: no leading or double slashes, no "." and ".."; empty for the root itself.
// Refused ("leads outside the layer") when it climbs out, or when it is longer than the kernel takes.
int layer_clean_name(const char *raw, char out[PATH_MAX], struct err *err);

// Decompression alone, for archives inside archives: wraps a reader, gives plain bytes.
struct layer_inflate;
int layer_inflate_new(layer_read_fn *read, void *context, struct layer_bound *bound, struct layer_inflate **out, struct err *err);
ssize_t layer_inflate_read(void *inflate, void *data, size_t size, struct err *err); // a layer_read_fn
void layer_inflate_free(struct layer_inflate *inflate);

#define LAYER_MAGIC_SIZE 6
// Whether a stream that starts so (up to LAYER_MAGIC_SIZE bytes of it) would be inflated.
bool layer_is_compressed(const void *start, size_t size);

// SHA-256 as "sha256:<hex>", in pieces.
struct layer_digest;
struct layer_digest *layer_digest_new(void); // never NULL
void layer_digest_add(struct layer_digest *digest, const void *data, size_t size);
void layer_digest_end(struct layer_digest *digest, char out[72]); // frees it
void layer_digest_free(struct layer_digest *digest); // without a result; NULL is fine

#endif
