// An image into a folder with an OCI layout, by hand: the documents and blobs as they are, nothing unpacked.
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

#include "fetch.h"
#include "base/file.h"
#include "base/num.h"

#define INDEX_SIZE_MAX ((size_t)4 << 20)
#define REF_NAME "org.opencontainers.image.ref.name"

struct layout {
    int fd, blobs_fd;
    FILE *progress;
};

static void layout_done(struct layout *layout)
{
    fd_close(layout->fd);
    fd_close(layout->blobs_fd);
}

static int layout_open(const char *folder, FILE *progress, struct layout *out, struct err *err)
{
    static const char version[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
    *out = (struct layout){ .fd = -1, .blobs_fd = -1, .progress = progress };
    if (file_mkdirs(AT_FDCWD, folder, 0755, err) < 0 || (out->fd = file_open_dir(AT_FDCWD, folder, err)) < 0 ||
        file_mkdirs(out->fd, "blobs/sha256", 0755, err) < 0 || (out->blobs_fd = file_open_dir(out->fd, "blobs/sha256", err)) < 0 ||
        file_write_at(out->fd, "oci-layout", version, strlen(version), 0644, false, err) < 0)
        return err_wrap(err, "%s", folder);
    return 0;
}

// ---- blobs ----------------------------------------------------------------------------------------------------------

static bool has_blob(const struct layout *layout, const char *digest)
{
    return faccessat(layout->blobs_fd, oci_digest_hex(digest), F_OK, 0) == 0;
}

static int put_text(const struct layout *layout, const char *digest, const struct buf *text, struct err *err)
{
    return has_blob(layout, digest) ? 0 : file_write_at(layout->blobs_fd, oci_digest_hex(digest), buf_text(text), text->size, 0644, true, err);
}

static int write_file(void *context, const void *data, size_t size, struct err *err)
{
    return fd_write_full(*(int *)context, data, size, err);
}

static int keep_file(const struct layout *layout, int fd, const char *name, const char *hex, struct err *err)
{
    if (fsync(fd) < 0 || renameat(layout->blobs_fd, name, layout->blobs_fd, hex) < 0)
        return err_errno(err, errno, "blob %s", hex);
    return 0;
}

// Whole and checked, or not there.
static int get_layer(struct fetch *fetch, void *context, size_t position, struct err *err)
{
    const struct layout *layout = context;
    const char *hex = oci_digest_hex(fetch_layer(fetch, position)->digest);
    char random[17];
    random_hex(random, 16);
    _cleanup_free_ char *name = mem_printf(".%s", random);
    _cleanup_close_ int fd = openat(layout->blobs_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return err_errno(err, errno, "blob %s", hex);
    if (fetch_blob(fetch, position, true, write_file, &fd, err) == 0 && keep_file(layout, fd, name, hex, err) == 0) {
        fprintf(layout->progress, "%.12s: Download complete\n", hex);
        return 0;
    }
    unlinkat(layout->blobs_fd, name, 0);
    return -1;
}

static int get_layers(struct fetch *fetch, struct layout *layout, struct err *err)
{
    bool wanted[512] = { false };
    for (size_t i = 0; i < fetch->image.layers.len && i < ARRAY_LEN(wanted); i++) {
        const char *digest = fetch_layer(fetch, i)->digest;
        if (!digest || !oci_digest_valid(digest))
            return err_set(err, ERR_INVALID_ARGUMENT, "layer %zu: unsupported digest %.128s", i, digest ? digest : "");
        bool repeated = false;
        for (size_t below = 0; below < i; below++)
            repeated = repeated || str_eq(fetch_layer(fetch, below)->digest, digest);
        wanted[i] = !repeated && !has_blob(layout, digest);
        if (!wanted[i])
            fprintf(layout->progress, "%.12s: Already exists\n", oci_digest_hex(digest));
    }
    return fetch_layers(fetch, wanted, get_layer, layout, err);
}

// ---- index.json -----------------------------------------------------------------------------------------------------

static json_t *read_index(const struct layout *layout)
{
    _cleanup_buf_ struct buf text = BUF_INIT(INDEX_SIZE_MAX);
    json_t *index = NULL;
    if (file_read_at(layout->fd, "index.json", &text, NULL) == 0 && json_parse(buf_text(&text), text.size, &index, NULL) == 0 &&
        json_is_array(json_object_get(index, "manifests")))
        return index;
    json_decref(index);
    return json_pack("{s:i, s:[]}", "schemaVersion", 2, "manifests");
}

// The name moves to this image; whoever else writes the index waits.
static int add_to_index(const struct layout *layout, const struct fetch *fetch, struct err *err)
{
    const struct distribution_manifest *manifest = fetch->manifest.text.size ? &fetch->manifest : &fetch->top;
    if (flock(layout->fd, LOCK_EX) < 0)
        return err_errno(err, errno, "index.json");
    _cleanup_json_ json_t *index = read_index(layout);
    json_t *list = json_object_get(index, "manifests");
    for (size_t i = json_array_size(list); i-- > 0;) {
        const json_t *annotations = json_object_get(json_array_get(list, i), "annotations");
        if (str_eq(json_get_text(annotations, REF_NAME, ""), fetch->ref.familiar))
            json_array_remove(list, i);
    }
    json_array_append_new(list, json_pack("{s:s, s:s, s:I, s:{s:s}}", "mediaType", manifest->media_type, "digest", manifest->digest,
                                          "size", (json_int_t)manifest->text.size, "annotations", REF_NAME, fetch->ref.familiar));
    _cleanup_free_ char *text = json_text(index);
    return file_write_at(layout->fd, "index.json", text, strlen(text), 0644, true, err);
}

static int pull(struct fetch *fetch, struct layout *layout, struct err *err)
{
    if (fetch_documents(fetch, err) < 0)
        return -1;
    fprintf(layout->progress, "%s: Pulling from %s\n", fetch->ref.digest ? fetch->ref.digest : fetch->ref.tag, fetch->ref.path);
    const struct distribution_manifest *manifest = fetch->manifest.text.size ? &fetch->manifest : &fetch->top;
    if (get_layers(fetch, layout, err) < 0 || put_text(layout, fetch->image.config.digest, &fetch->config, err) < 0 ||
        put_text(layout, manifest->digest, &manifest->text, err) < 0 || add_to_index(layout, fetch, err) < 0)
        return -1;
    fprintf(layout->progress, "Digest: %s\n", fetch->top.digest);
    return 0;
}

int transfer_pull_layout(const char *reference, const char *platform, const struct transfer_remote *remote, const char *folder,
                         FILE *progress, struct err *err)
{
    _cleanup_(layout_done) struct layout layout;
    struct fetch fetch;
    int result = layout_open(folder, progress, &layout, err);
    if (result < 0)
        return -1;
    result = fetch_open(&fetch, reference, platform, remote, err);
    if (result == 0)
        result = pull(&fetch, &layout, err);
    fetch_done(&fetch);
    return result;
}
