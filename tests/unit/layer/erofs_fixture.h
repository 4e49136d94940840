// A layer written as an image, read back, and beside it unpacked.
#ifndef TESTS_LAYER_EROFS_FIXTURE_H
#define TESTS_LAYER_EROFS_FIXTURE_H

#include <sys/mman.h>
#include <sys/mount.h>

#include "base/process.h"
#include "erofs_reader.h"
#include "tar_maker.h"

struct layer_image {
    struct scratch scratch;
    int image_fd, recipe_fd;
    struct layer_erofs_result result;
    struct err err;
};

static inline int new_file(const struct scratch *scratch, const char *name)
{
    return openat(scratch->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
}

// `fast`: not to be mounted.
static inline void image_open_at(struct layer_image *image, bool fast)
{
    *image = (struct layer_image){ .image_fd = -1 };
    (fast ? scratch_open_fast : scratch_open)(&image->scratch);
    image->image_fd = new_file(&image->scratch, "image");
    image->recipe_fd = new_file(&image->scratch, "recipe");
}

static inline void image_open(struct layer_image *image)
{
    image_open_at(image, false);
}

static inline void image_close(struct layer_image *image)
{
    close(image->image_fd);
    close(image->recipe_fd);
    scratch_close(&image->scratch);
}

static inline int image_write(struct layer_image *image, const void *data, size_t size, size_t step,
                              const struct layer_erofs_options *options)
{
    struct memory memory = { .data = data, .size = size, .step = step };
    return layer_erofs_write(memory_read, &memory, image->image_fd, image->recipe_fd, options, &image->result, &image->err);
}

// What the reader of the format sees in it; everything checked on the way.
static inline void image_text(const struct layer_image *image, struct tree_text *text)
{
    size_t size = image->result.image_size;
    void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, image->image_fd, 0);
    assert_true(data != MAP_FAILED);
    erofs_text(text, data, size);
    munmap(data, size);
}

// The first line in which they differ is the message.
static inline void assert_same_text(const struct buf *one, const struct buf *other)
{
    struct slice a = { one->data, one->size }, b = { other->data, other->size }, left, right;
    bool more_left, more_right;
    do {
        more_left = slice_cut(&a, '\n', &left);
        more_right = slice_cut(&b, '\n', &right);
        if (more_left != more_right || (more_left && (left.size != right.size || memcmp(left.data, right.data, left.size) != 0)))
            fail_msg("\"%.*s\" here is \"%.*s\" there", more_left ? (int)left.size : 0, left.data, more_right ? (int)right.size : 0,
                     right.data);
    } while (more_left);
}

// The unpacked folder copied into an image is the same tree again.
static inline void assert_same_copy(const struct scratch *scratch, const struct tree_text *unpacked, bool plain)
{
    struct layer_image image;
    struct tree_text text = { .out = BUF_INIT(TREE_TEXT_MAX), .folder_times = unpacked->folder_times };
    image_open_at(&image, true);
    if (layer_erofs_from_folder(scratch->fd, image.image_fd, &(struct layer_erofs_options){ .plain = plain },
                                &image.result.image_size, &image.err) < 0)
        fail_msg("%s", image.err.message);
    image_text(&image, &text);
    assert_same_text(&unpacked->out, &text.out);
    tree_text_done(&text);
    image_close(&image);
}

// What an unpacked layer keeps of its tar gives the tar back.
static inline void assert_kept(int layer_fd, int kept_fd, const struct layer_keep *keep, const char *diff_id)
{
    struct layer_recipe *recipe;
    struct layer_recipe_info info;
    struct err err = { 0 };
    char data[4096], digest[72];
    ssize_t got;
    int content = openat(kept_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    struct layer_digest *hash = layer_digest_new();
    if (layer_recipe_read_info(keep->recipe_fd, &info, &err) < 0 || layer_content(layer_fd, kept_fd, info.tar_size, content, &err) < 0 ||
        layer_recipe_open(keep->recipe_fd, content, &recipe, &err) < 0)
        fail_msg("%s", err.message);
    while ((got = layer_recipe_read(recipe, data, sizeof(data), &err)) > 0)
        layer_digest_add(hash, data, (size_t)got);
    if (got < 0)
        fail_msg("%s", err.message);
    layer_digest_end(hash, digest);
    assert_string_equal(digest, diff_id);
    layer_recipe_free(recipe);
    close(content);
}

// The same tar unpacked, as text; opaque folders marked as the daemon does.
static inline int unpacked_text(const void *data, size_t size, struct tree_text *text, struct err *err)
{
    struct scratch scratch, kept;
    struct layer_result result;
    struct memory memory = { .data = data, .size = size };
    scratch_open_fast(&scratch);
    scratch_open_fast(&kept);
    assert_int_equal(mkdirat(kept.fd, LAYER_LOST_NAME, 0700), 0);
    struct layer_keep keep = { new_file(&kept, LAYER_RECIPE_NAME), new_file(&kept, LAYER_TABLE_NAME),
                               openat(kept.fd, LAYER_LOST_NAME, O_RDONLY | O_DIRECTORY | O_CLOEXEC), false };
    int done = layer_unpack(memory_read, &memory, NULL, scratch.fd, &keep, &result, err);
    if (done == 0) {
        assert_kept(scratch.fd, kept.fd, &keep, result.diff_id);
        for (size_t i = 0; i < result.opaque.len; i++) {
            int fd = openat(scratch.fd, result.opaque.items[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            assert_int_equal(fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0), 0);
            close(fd);
        }
        tree_add(text, scratch.fd, ".", ".");
        layer_result_done(&result);
        assert_same_copy(&scratch, text, size / 512 % 2);
    }
    close(keep.recipe_fd);
    close(keep.table_fd);
    close(keep.lost_fd);
    scratch_close(&kept);
    scratch_close(&scratch);
    return done;
}

// GNU tar's opinion of the same tree; it knows no whiteouts.
static inline void gnu_text(const void *data, size_t size, struct tree_text *text)
{
    struct scratch scratch;
    struct err err;
    scratch_open_fast(&scratch);
    _cleanup_buf_ struct buf output = BUF_INIT(1 << 20);
    assert_int_equal(file_write_at(scratch.fd, "tar", data, size, 0600, false, &err), 0);
    _cleanup_free_ char *command = mem_printf("cd %s && mkdir tree && tar -C tree --numeric-owner --xattrs --xattrs-include='*' -xpf tar", scratch.path);
    if (process_run((char *[]){ (char *)"/bin/sh", (char *)"-c", command, NULL }, NULL, &output, &err) < 0)
        fail_msg("%s", err.message);
    int fd = openat(scratch.fd, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    tree_add(text, fd, ".", ".");
    close(fd);
    scratch_close(&scratch);
}

// The recipe gives the same bytes, read in odd pieces, and any range of them.
static inline void assert_tar_back(const struct layer_image *image, const void *data, size_t size)
{
    struct layer_recipe *recipe;
    struct err err;
    static const size_t starts[] = { 0, 1, 511, 512, 513, 100000 };
    char *back = mem_alloc(size + 7);
    for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
        size_t start = MIN_OF(starts[i], size), at = start;
        if (i > 0 && i + 1 < ARRAY_LEN(starts) && size > (16u << 20))
            continue;
        ssize_t got = 0;
        if (layer_recipe_open(image->recipe_fd, image->image_fd, &recipe, &err) < 0 || layer_recipe_skip(recipe, start, &err) < 0)
            fail_msg("%s", err.message);
        struct layer_recipe_info info = layer_recipe_info(recipe);
        assert_int_equal(info.tar_size, size);
        assert_string_equal(info.diff_id, image->result.diff_id);
        while ((got = layer_recipe_read(recipe, back + at, MIN_OF(size + 7 - at, (size_t)70001), &err)) > 0)
            at += (size_t)got;
        if (got < 0)
            fail_msg("%s", err.message);
        assert_int_equal(at, size);
        if (size > start)
            assert_memory_equal(back + start, (const char *)data + start, size - start);
        layer_recipe_free(recipe);
    }
    free(back);
}

// fsck.erofs as a second opinion, where it is installed.
static inline void assert_fsck(const struct layer_image *image)
{
    _cleanup_free_ char *tool = process_find("fsck.erofs"), *path = mem_printf("%s/image", image->scratch.path);
    _cleanup_buf_ struct buf output = BUF_INIT(1 << 20);
    struct err err;
    if (tool && process_run((char *[]){ tool, path, NULL }, NULL, &output, &err) < 0)
        fail_msg("fsck.erofs: %s", err.message);
}

// The kernel's opinion, where it mounts EROFS from a file: *text stays empty elsewhere. mount(2) of the file itself; its first
// bytes are read before, a cold file makes the kernel complain.
static inline bool mounted_text(const struct layer_image *image, struct tree_text *text)
{
    char first[EROFS_BLOCK];
    _cleanup_free_ char *path = mem_printf("%s/image", image->scratch.path), *at = mem_printf("%s/mount", image->scratch.path);
    assert_int_equal(pread(image->image_fd, first, sizeof(first), 0), sizeof(first));
    assert_int_equal(mkdir(at, 0700), 0);
    if (mount(path, at, "erofs", MS_RDONLY, NULL) < 0) {
        assert_true(errno == ENOTBLK || errno == ENODEV || errno == EPERM);
        print_message("# this kernel does not mount EROFS from a file\n");
        return false;
    }
    int fd = open(at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    tree_add(text, fd, ".", ".");
    close(fd);
    assert_int_equal(umount2(at, 0), 0);
    return true;
}

// All of it: reader, kernel and fsck.erofs agree with what unpacking makes of the same tar (and with GNU tar, where `gnu` is set), and
// the tar comes back.
static inline void assert_layer(const void *data, size_t size, bool folder_times, bool gnu, const struct layer_erofs_options *options)
{
    struct layer_image image;
    struct tree_text unpacked = { .out = BUF_INIT(TREE_TEXT_MAX), .folder_times = folder_times }, read = unpacked, mounted = unpacked,
                     extracted = unpacked;
    struct err err;
    image_open(&image);
    if (image_write(&image, data, size, 100003, options) < 0)
        fail_msg("%s", image.err.message);
    if (unpacked_text(data, size, &unpacked, &err) < 0)
        fail_msg("%s", err.message);
    image_text(&image, &read);
    assert_same_text(&unpacked.out, &read.out);
    if (mounted_text(&image, &mounted))
        assert_same_text(&unpacked.out, &mounted.out);
    if (gnu) {
        gnu_text(data, size, &extracted);
        assert_same_text(&unpacked.out, &extracted.out);
    }
    assert_fsck(&image);
    assert_tar_back(&image, data, size);
    tree_text_done(&unpacked);
    tree_text_done(&read);
    tree_text_done(&mounted);
    tree_text_done(&extracted);
    image_close(&image);
}

static inline void assert_same_layer(const void *data, size_t size, bool folder_times, const struct layer_erofs_options *options)
{
    assert_layer(data, size, folder_times, false, options);
}

#endif
