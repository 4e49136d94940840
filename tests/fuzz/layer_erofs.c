// rooms: layer kernel base | libarchive nettle libisal libzstd
// A layer tar, plain or compressed, as an EROFS image and unpacked: either both take it, and then a reader of the format finds
// the same tree in the image as is in the folder, and the recipe gives the tar's bytes back; or neither does. What only one of them
// can refuse is told by its message.
#include <errno.h>
#include <sys/mman.h>

#include "base/file.h"
#include "layer/layer.h"
#include "../unit/layer/erofs_reader.h"

#define SIZE_MAX_HERE ((uint64_t)64 << 20)

struct input {
    const uint8_t *data;
    size_t size;
};

static ssize_t input_read(void *context, void *data, size_t size, struct err *err)
{
    struct input *input = context;
    size_t got = MIN_OF(size, input->size);
    if (got)
        memcpy(data, input->data, got);
    input->data += got;
    input->size -= got;
    return (ssize_t)got;
}

static int unpack(struct input input, struct tree_text *text, struct err *err)
{
    char path[] = "/tmp/berth-fuzz-XXXXXX";
    struct layer_result result;
    if (!mkdtemp(path))
        abort();
    int layer = file_open_dir(AT_FDCWD, path, NULL);
    int done = layer_unpack(input_read, &input, NULL, layer, NULL, &result, err);
    if (done == 0) {
        for (size_t i = 0; i < result.opaque.len; i++) {
            int fd = openat(layer, result.opaque.items[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            if (fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) < 0)
                abort();
            close(fd);
        }
        tree_add(text, layer, ".", ".");
        layer_result_done(&result);
    }
    fd_close(layer);
    if (file_remove_tree(AT_FDCWD, path, NULL) < 0)
        abort();
    return done;
}

static void check_tar(int image_fd, int recipe_fd, const struct layer_erofs_result *result)
{
    struct layer_recipe *recipe;
    char digest[72], data[4096];
    ssize_t got;
    struct layer_digest *hash = layer_digest_new();
    if (layer_recipe_open(recipe_fd, image_fd, &recipe, NULL) < 0)
        abort();
    while ((got = layer_recipe_read(recipe, data, sizeof(data), NULL)) > 0)
        layer_digest_add(hash, data, (size_t)got);
    layer_digest_end(hash, digest);
    if (got < 0 || !str_eq(digest, result->diff_id))
        abort();
    layer_recipe_free(recipe);
}

static void read_image(int fd, size_t size, struct tree_text *text)
{
    void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        abort();
    erofs_text(text, data, size);
    munmap(data, size);
}

// The file system that unpacking meets has bounds and tolerances of its own, and so has the image.
static bool refused_by_one(const struct err *err)
{
    return err->class == ERR_RESOURCE_EXHAUSTED || err->number == EFBIG || err->number == ENOSPC || strstr(err->message, "set ") ||
           strstr(err->message, "mknod") || strstr(err->message, "extended attribute") || strstr(err->message, "device number");
}

// Times that the file system of /tmp can't hold become its nearest: from there on they are not compared.
static bool has_odd_times(const struct tree_text *text)
{
    return strstr(buf_text(&text->out), " -2147483648.") || strstr(buf_text(&text->out), " 15032385535.");
}

static void compare(const struct err *image_err, bool image_done, const struct err *unpack_err, bool unpack_done,
                    const struct tree_text *image, const struct tree_text *unpacked)
{
    if (image_done != unpack_done) {
        const struct err *err = image_done ? unpack_err : image_err;
        if (refused_by_one(err))
            return;
        fprintf(stderr, "only one refuses: %s\n", err->message);
        abort();
    }
    if (image_done && !has_odd_times(unpacked) && !str_eq(buf_text(&image->out), buf_text(&unpacked->out))) {
        fprintf(stderr, "image:\n%s\nunpacked:\n%s\n", buf_text(&image->out), buf_text(&unpacked->out));
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { data, size }, again = input;
    struct layer_erofs_options options = { .size_max = SIZE_MAX_HERE, .plain = size % 2 };
    struct layer_erofs_result result;
    struct err image_err, unpack_err;
    struct tree_text image = { .out = BUF_INIT(TREE_TEXT_MAX) }, unpacked = image;
    int image_fd = memfd_create("image", MFD_CLOEXEC), recipe_fd = memfd_create("recipe", MFD_CLOEXEC);
    int image_done = layer_erofs_write(input_read, &input, image_fd, recipe_fd, &options, &result, &image_err);
    int unpack_done = unpack(again, &unpacked, &unpack_err);
    if (image_done == 0) {
        read_image(image_fd, result.image_size, &image);
        check_tar(image_fd, recipe_fd, &result);
    }
    compare(&image_err, image_done == 0, &unpack_err, unpack_done == 0, &image, &unpacked);
    tree_text_done(&image);
    tree_text_done(&unpacked);
    close(image_fd);
    close(recipe_fd);
    return 0;
}
