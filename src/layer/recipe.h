// Writing a recipe: what of a tar is not file content, and where in the image the content is. Private to the room; reading is
// in layer.h.
//
// The file: 48 bytes (magic "berthrc1", size of the tar, its SHA-256 as 32 bytes; numbers little-endian), then one zstd stream of
// records, to the end of the file:
//
//     literal size | literal bytes | data size | (unless that is 0) where in the image, as the distance from the end of the
//     data before
//
// Sizes are varints (seven bits a byte, lowest first), the distance is one with the sign in its lowest bit.
#ifndef LAYER_RECIPE_H
#define LAYER_RECIPE_H

#include "base/buf.h"
#include "layer/layer.h"

#define RECIPE_MAGIC "berthrc1"
#define RECIPE_HEAD_SIZE 48

struct recipe;

// `fd`: an empty file, borrowed.
struct recipe *recipe_new(int fd);
void recipe_free(struct recipe *recipe);
// The next bytes of the tar; those before `settled` that no recipe_data() has named are literal. A tar_watch_fn.
int recipe_add(void *recipe, const void *data, size_t size, uint64_t settled, struct err *err);
// `size` bytes from `position` of the tar are in the image at `at`. In the tar's order.
int recipe_data(struct recipe *recipe, uint64_t position, uint64_t size, uint64_t at, struct err *err);
// What is still open is literal.
int recipe_end(struct recipe *recipe, const char *diff_id, struct err *err);

#endif
