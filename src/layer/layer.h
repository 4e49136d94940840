// tar -> layer folder: inflate, hash, whiteouts, and nothing outside the folder ever touched, whatever the tar says.
// Runs in the image worker only, one thread per call. Names are bytes, whatever the locale.
#ifndef LAYER_LAYER_H
#define LAYER_LAYER_H

#include <limits.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/strv.h"

// Reads compressed or plain bytes; 0 is the end, -1 an error with *err filled.
typedef ssize_t layer_read_fn(void *context, void *data, size_t size, struct err *err);

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
// invalid_argument: not a tar, damaged, or refused; resource_exhausted: a bound (entries, opaque folders) or the disk.
int layer_unpack(layer_read_fn *read, void *context, int target_fd, struct layer_result *out, struct err *err);
void layer_result_done(struct layer_result *result);

// A tar's name as a path from its root: no leading or double slashes, no "." and ".."; empty for the root itself.
// Refused ("leads outside the layer") when it climbs out, or when it is longer than the kernel takes.
int layer_clean_name(const char *raw, char out[PATH_MAX], struct err *err);

// Decompression alone, for archives inside archives: wraps a reader, gives plain bytes.
struct layer_inflate;
int layer_inflate_new(layer_read_fn *read, void *context, struct layer_inflate **out, struct err *err);
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
