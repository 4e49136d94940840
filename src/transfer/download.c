// A file of a URL's for a build's ADD, in one process: nothing in it is looked at. The daemon gives the descriptor that it goes to.
#include "layer/layer.h"
#include "link.h"
#include "report.h"
#include "transfer/transfer.h"

#define TELL_SIZE ((int64_t)4 << 20) // from one word about the progress to the next

struct download {
    const char *url;
    int out_fd;
    uint64_t max;
    int64_t size, length, told;
    struct layer_digest *digest;
    FILE *report;
};

static int begin(void *context, int64_t length, struct err *err)
{
    struct download *download = context;
    download->length = MAX_OF(length, INT64_C(0));
    return 0;
}

static int take(void *context, const void *data, size_t size, struct err *err)
{
    struct download *download = context;
    if (size > download->max - MIN_OF((uint64_t)download->size, download->max))
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "%.300s is larger than %llu bytes", download->url, (unsigned long long)download->max);
    layer_digest_add(download->digest, data, size);
    download->size += (int64_t)size;
    if (fd_write_full(download->out_fd, data, size, err) < 0)
        return -1;
    if (download->size - download->told < TELL_SIZE)
        return 0;
    download->told = download->size;
    return report_progress(download->report, "", "Downloading", download->size, download->length, err);
}

static int tell(struct download *download, const struct distribution_document *document, struct err *err)
{
    char digest[OCI_DIGEST_SIZE];
    layer_digest_end(take_ptr(&download->digest), digest);
    json_t *said = json_pack("{s:b, s:s, s:I, s:I}", "unchanged", document->unchanged, "digest", digest, "size", (json_int_t)download->size, "modified",
                             (json_int_t)document->modified);
    if (document->etag)
        json_object_set_new(said, "etag", json_new_text(document->etag));
    if (document->type)
        json_object_set_new(said, "type", json_new_text(document->type));
    return report_line(download->report, "document", said, err);
}

int transfer_download(const char *url, uint64_t max, const char *etag, const char *authorization, int out_fd, FILE *report, struct err *err)
{
    struct download download = { .url = url, .out_fd = out_fd, .max = max, .report = report };
    struct distribution_document document = { .known = etag, .authorization = authorization };
    struct fetch_watch watch = { .fds = { fileno(report), -1 } };
    if (fetch_watch_start(&watch, err) < 0)
        return -1;
    download.digest = layer_digest_new();
    int done = distribution_url(url, &document, begin, take, &download, err);
    fetch_watch_stop(&watch);
    if (done == 0)
        done = tell(&download, &document, err);
    layer_digest_free(download.digest);
    distribution_document_done(&document);
    return done;
}
