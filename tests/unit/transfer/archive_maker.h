// Image archives in every form, small enough to be read in a test.
#ifndef TESTS_TRANSFER_ARCHIVE_MAKER_H
#define TESTS_TRANSFER_ARCHIVE_MAKER_H

#include "../layer/tar_maker.h"
#include "json/json.h"
#include "transfer/transfer.h"

static inline void digest_of(const struct buf *data, char out[72])
{
    struct layer_digest *digest = layer_digest_new();
    layer_digest_add(digest, buf_text(data), data->size);
    layer_digest_end(digest, out);
}

static inline void add_member(struct buf *archive, const char *name, const struct buf *data)
{
    tar_header(archive, &(struct tar_entry){ .name = name }, '0', data->size);
    buf_add(archive, buf_text(data), data->size);
    tar_pad(archive);
}

static inline void add_text(struct buf *archive, const char *name, const char *text)
{
    tar_add(archive, &(struct tar_entry){ .name = name, .data = text });
}

// Adds blobs/sha256/<hex> and gives its digest.
static inline void add_blob(struct buf *archive, const struct buf *data, char digest[72])
{
    char name[100];
    digest_of(data, digest);
    snprintf(name, sizeof(name), "blobs/sha256/%s", digest + 7);
    add_member(archive, name, data);
}

// A layer with one file.
static inline void make_layer(struct buf *out, const char *name, const char *content)
{
    tar_add(out, &(struct tar_entry){ .name = name, .data = content });
    tar_end(out);
}

static inline void make_config(struct buf *out, const char *const *diff_ids, size_t len)
{
    buf_adds(out, "{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[");
    for (size_t i = 0; i < len; i++)
        buf_addf(out, "%s\"%s\"", i > 0 ? "," : "", diff_ids[i]);
    buf_adds(out, "]}}");
}

// One load or import into a fresh staging folder.
struct run {
    struct scratch staging;
    int result;
    struct err err;
    struct buf report;
    json_t *images; // the "image" lines
};

// The stream comes from a file without a name.
static inline int stream_of(const struct buf *data)
{
    int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    fd_write_full(fd, buf_text(data), data->size, NULL);
    lseek(fd, 0, SEEK_SET);
    return fd;
}

// `form` of layers, NULL: unpacked.
static inline void run_start_in(struct run *run, const struct buf *data, const struct transfer_import *import, const char *form)
{
    char *text = NULL;
    size_t size = 0;
    *run = (struct run){ .report = BUF_INIT(1 << 20), .images = json_array() };
    scratch_open(&run->staging);
    if (form)
        file_write_at(run->staging.fd, LAYER_FORM_NAME, form, strlen(form), 0644, false, NULL);
    FILE *report = open_memstream(&text, &size);
    int input = stream_of(data);
    run->result = import ? transfer_import(input, run->staging.fd, import, report, &run->err)
                         : transfer_load(input, run->staging.fd, 0, report, &run->err);
    close(input);
    fclose(report);
    buf_add(&run->report, text, size);
    free(text);
    struct slice rest = { buf_text(&run->report), run->report.size }, line;
    while (slice_cut(&rest, '\n', &line)) {
        json_t *value = line.size ? json_loadb(line.data, line.size, 0, NULL) : NULL;
        json_t *image = json_object_get(value, "image");
        if (image)
            json_array_append(run->images, image);
        json_decref(value);
    }
}

static inline void run_start(struct run *run, const struct buf *data, const struct transfer_import *import)
{
    run_start_in(run, data, import, NULL);
}

static inline void run_load(struct run *run, struct buf *archive)
{
    tar_end(archive);
    run_start(run, archive, NULL);
}

static inline void run_done(struct run *run)
{
    scratch_close(&run->staging);
    buf_done(&run->report);
    json_decref(run->images);
}

#endif
