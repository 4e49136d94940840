// An image store in a temporary root, and images as a worker would stage them.
#ifndef TEST_IMAGE_FIXTURE_H
#define TEST_IMAGE_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "image/image_private.h"
#include "layer/layer.h"
#include "unit/data_root.h"

struct box {
    char root[DATA_ROOT_SIZE];
    int root_fd;
    const char *driver;
    struct store *store;
    struct image_store *images;
    struct arena arena;
    struct err err;
};

#define LAYERS_OF_A_CASE 8

// What a case asks for: layers by a word each (the same word is the same diff), and names.
struct recipe {
    const char *config; // makes the configuration's bytes differ
    const char *layers[LAYERS_OF_A_CASE];
    const char *references[LAYERS_OF_A_CASE];
    const char *created;
};

static inline void box_open(struct box *box)
{
    box->store = data_root_store(box->root);
    OK(box, file_mkdirs(box->root_fd, "state", 0700, &box->err));
    _cleanup_close_ int state = file_open_dir(box->root_fd, "state", &box->err);
    const struct image_store_config config = { .root_fd = box->root_fd, .state_fd = state, .driver = box->driver };
    OK(box, image_store_open(box->store, &config, &box->images, &box->err));
}

static inline void box_close(struct box *box)
{
    image_store_close(box->images);
    store_close(box->store);
    box->images = NULL;
    box->store = NULL;
}

static inline void box_reopen(struct box *box)
{
    box_close(box);
    box_open(box);
}

static inline int setup_driver(void **state, const char *driver)
{
    struct box *box = mem_new(struct box);
    box->driver = driver;
    box->root_fd = data_root_make(box->root, "image");
    box_open(box);
    *state = box;
    return 0;
}

static inline int setup(void **state)
{
    return setup_driver(state, "overlay");
}

static inline int teardown(void **state)
{
    struct box *box = *state;
    image_unmount_all(box->images);
    box_close(box);
    data_root_remove(box->root, box->root_fd);
    arena_done(&box->arena);
    free(box);
    return 0;
}

static inline bool there(const struct box *box, const char *path)
{
    struct stat info;
    return fstatat(box->root_fd, path, &info, AT_SYMLINK_NOFOLLOW) == 0;
}

static inline size_t entries(const struct box *box, const char *path)
{
    int fd = file_open_dir(box->root_fd, path, NULL);
    assert_true(fd >= 0);
    DIR *dir = fdopendir(fd);
    size_t len = 0;
    for (struct dirent *entry; (entry = readdir(dir));)
        len += entry->d_name[0] != '.';
    closedir(dir);
    return len;
}

static inline char *diff_of(struct arena *arena, const char *word)
{
    char *digest = arena_alloc(arena, OCI_DIGEST_SIZE);
    image_digest(word, strlen(word), digest);
    return digest;
}

// A folder with a file "word", and "dir/" with a file of the word's name in it.
static inline void stage_layer(int staging_fd, const char *diff_id, const char *word)
{
    struct err err;
    char path[256];
    snprintf(path, sizeof(path), "layers/%s/dir", oci_digest_hex(diff_id));
    assert_int_equal(file_mkdirs(staging_fd, path, 0700, &err), 0);
    snprintf(path, sizeof(path), "layers/%s/word", oci_digest_hex(diff_id));
    assert_int_equal(file_write_at(staging_fd, path, word, strlen(word), 0644, false, &err), 0);
    snprintf(path, sizeof(path), "layers/%s/dir/%s", oci_digest_hex(diff_id), word);
    assert_int_equal(file_write_at(staging_fd, path, word, strlen(word), 0644, false, &err), 0);
}

static inline char *config_text(const struct recipe *recipe, const struct strv *diff_ids)
{
    json_t *list = json_array();
    for (size_t i = 0; i < diff_ids->len; i++)
        json_array_append_new(list, json_string(diff_ids->items[i]));
    json_t *config = json_pack("{s:s, s:s, s:s, s:{s:[s]}, s:s, s:{s:s, s:o}}", "architecture", "amd64", "os", "linux",
                               "created", recipe->created ? recipe->created : "2024-01-01T00:00:00Z", "config", "Cmd",
                               recipe->config, "unknown", recipe->config, "rootfs", "type", "layers", "diff_ids", list);
    char *text = json_text(config);
    json_decref(config);
    return text;
}

// Fills a staging folder and what the worker would report of it.
static inline void stage(const struct recipe *recipe, int staging_fd, bool with_layers, struct arena *arena,
                         struct image_staged *out)
{
    struct err err;
    struct strv diff_ids = { 0 };
    *out = (struct image_staged){ .config_digest = arena_alloc(arena, OCI_DIGEST_SIZE) };
    struct image_staged_layer *layers = arena_alloc(arena, LAYERS_OF_A_CASE * sizeof(*layers));
    for (; out->layers.len < LAYERS_OF_A_CASE && recipe->layers[out->layers.len]; out->layers.len++) {
        const char *word = recipe->layers[out->layers.len];
        char *diff_id = diff_of(arena, word);
        layers[out->layers.len] = (struct image_staged_layer){ .diff_id = diff_id, .size = (int64_t)strlen(word) };
        strv_push_arena(&diff_ids, arena, diff_id);
        if (with_layers)
            stage_layer(staging_fd, diff_id, word);
    }
    out->layers.items = layers;
    for (size_t i = 0; i < LAYERS_OF_A_CASE && recipe->references[i]; i++)
        strv_push_arena(&out->references, arena, recipe->references[i]);
    _cleanup_free_ char *text = config_text(recipe, &diff_ids);
    image_digest(text, strlen(text), out->config_digest);
    assert_int_equal(file_mkdirs(staging_fd, "blobs", 0700, &err), 0);
    _cleanup_free_ char *path = mem_printf("blobs/%s", oci_digest_hex(out->config_digest));
    assert_int_equal(file_write_at(staging_fd, path, text, strlen(text), 0600, false, &err), 0);
}

// Makes of the staged folders what a worker stages where EROFS is asked for; the recipes are for nobody to read.
static inline void as_images(int staging_fd)
{
    const struct layer_erofs_options options = { 0 };
    _cleanup_strv_ struct strv names = { 0 };
    uint64_t size;
    struct err err;
    _cleanup_close_ int layers = file_open_dir(staging_fd, "layers", NULL);
    assert_true(layers >= 0 && file_list_names(layers, ".", &names, NULL) == 0);
    for (size_t i = 0; i < names.len; i++) {
        _cleanup_close_ int source = file_open_dir(layers, names.items[i], NULL);
        assert_int_equal(renameat(layers, names.items[i], staging_fd, "unpacked") | mkdirat(layers, names.items[i], 0755), 0);
        _cleanup_close_ int folder = file_open_dir(layers, names.items[i], NULL);
        _cleanup_close_ int image = openat(folder, LAYER_IMAGE_NAME, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        assert_int_equal(layer_erofs_from_folder(source, image, &options, &size, &err), 0);
        assert_int_equal(file_write_at(folder, LAYER_RECIPE_NAME, "r", 1, 0666, false, &err), 0);
        assert_int_equal(file_remove_tree(staging_fd, "unpacked", &err), 0);
    }
}

// A whole transfer; *id is arena memory.
static inline int bring_in(struct image_store *images, const struct recipe *recipe, struct arena *arena, char **id,
                           struct err *err)
{
    struct image_staged staged;
    char *name;
    int fd = image_staging_new(images, &name, err);
    if (fd < 0)
        return -1;
    stage(recipe, fd, true, arena, &staged);
    if (images->driver == &image_driver_erofs && recipe->layers[0])
        as_images(fd);
    int result = image_commit_staged(images, name, &staged, arena, id, err);
    image_staging_remove(images, name);
    fd_close(fd);
    free(name);
    return result;
}

static inline char *add(struct box *box, const struct recipe *recipe)
{
    char *id;
    OK(box, bring_in(box->images, recipe, &box->arena, &id, &box->err));
    return id;
}

static inline struct image get(struct box *box, const char *name)
{
    struct image image;
    OK(box, image_get(box->images, name, &box->arena, &image, &box->err));
    return image;
}

#define RECIPE(config_word, ...) (&(const struct recipe){ .config = (config_word), ##__VA_ARGS__ })

#endif
