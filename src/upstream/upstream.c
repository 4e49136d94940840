#include <fcntl.h>
#include <string.h>

#include "base/file.h"
#include "distribution/distribution.h"
#include "upstream/upstream.h"

#define CREDENTIALS_MAX 16384
#define PATIENCE_S 5 // a client waits, and there may be a copy to give it

struct upstream {
    char *domain;
    struct distribution_login login; // malloc'ed
    struct distribution_options options;
};

// ---- what the operator says -----------------------------------------------------------------------------------------

static int read_credentials(struct upstream *upstream, const char *path, struct err *err)
{
    _cleanup_buf_ struct buf file = BUF_INIT(CREDENTIALS_MAX);
    struct slice rest, name;
    if (file_read_at(AT_FDCWD, path, &file, err) < 0)
        return -1;
    rest = slice_trim((struct slice){ buf_text(&file), file.size });
    slice_cut(&rest, ':', &name);
    if (!rest.data || name.size == 0 || memchr(rest.data, '\n', rest.size))
        return err_set(err, ERR_INVALID_ARGUMENT, "%s: not one line \"name:password\"", path);
    upstream->login.username = mem_strndup(name.data, name.size);
    upstream->login.password = mem_strndup(rest.data, rest.size);
    explicit_bzero(file.data, file.size);
    return 0;
}

static int bad_url(const char *url, struct err *err)
{
    return err_set(err, ERR_INVALID_ARGUMENT, "%.200s: not of the form http[s]://HOST[:PORT]", url);
}

// Docker Hub by any of its names.
static bool is_hub(const char *host)
{
    return str_eq(host, "docker.io") || str_eq(host, "index.docker.io") || str_eq(host, "registry-1.docker.io") || str_eq(host, "hub.docker.com");
}

static int read_url(struct upstream *upstream, const char *url, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct image_ref ref;
    bool plain = str_starts(url, "http://");
    if (!plain && !str_starts(url, "https://"))
        return bad_url(url, err);
    const char *host = strstr(url, "://") + 3;
    size_t size = strcspn(host, "/");
    if (size == 0 || host[size + strspn(host + size, "/")])
        return bad_url(url, err);
    upstream->domain = is_hub(arena_strndup(&arena, host, size)) ? mem_strdup("docker.io") : mem_strndup(host, size);
    // It must be what a reference may begin with.
    if (image_ref_parse(arena_printf(&arena, "%s/x", upstream->domain), true, &arena, &ref, NULL) < 0 || !str_eq(ref.domain, upstream->domain))
        return bad_url(url, err);
    if (plain)
        strv_add(&upstream->options.insecure, upstream->domain);
    return 0;
}

int upstream_new(const struct upstream_options *options, struct upstream **out, struct err *err)
{
    struct upstream *upstream = mem_new(struct upstream);
    if (read_url(upstream, options->url, err) < 0 ||
        (options->credentials && read_credentials(upstream, options->credentials, err) < 0) || distribution_setup(err) < 0) {
        upstream_free(upstream);
        return -1;
    }
    *out = upstream;
    return 0;
}

void upstream_free(struct upstream *upstream)
{
    if (!upstream)
        return;
    free(upstream->domain);
    free(upstream->login.username);
    if (upstream->login.password)
        explicit_bzero(upstream->login.password, strlen(upstream->login.password));
    free(upstream->login.password);
    strv_done(&upstream->options.insecure);
    free(upstream);
}

// ---- asking ---------------------------------------------------------------------------------------------------------

static int connect(const struct upstream *upstream, const char *repository, int tries, int patience_s, struct distribution **out, struct err *err)
{
    const struct image_ref ref = { .domain = upstream->domain, .path = (char *)repository, .familiar_name = (char *)repository };
    struct distribution_options options = upstream->options;
    options.attempts = tries;
    options.patience_s = patience_s;
    return distribution_new(&ref, DISTRIBUTION_PULL, &upstream->login, &options, out, err);
}

static int get_digest(void *context, const char *repository, const char *reference, char digest[REGISTRY_DIGEST_SIZE], struct err *err)
{
    char found[OCI_DIGEST_SIZE];
    struct distribution *distribution = NULL;
    int result = connect(context, repository, 1, PATIENCE_S, &distribution, err);
    if (result == 0)
        result = distribution_manifest_digest(distribution, reference, found, err);
    distribution_free(distribution);
    if (result == 0)
        snprintf(digest, REGISTRY_DIGEST_SIZE, "%s", found);
    return result;
}

static int get_manifest(void *context, const char *repository, const char *digest, struct buf *text, char media_type[128], struct err *err)
{
    struct distribution_manifest manifest = DISTRIBUTION_MANIFEST_INIT;
    struct distribution *distribution = NULL;
    int result = connect(context, repository, 2, 0, &distribution, err);
    if (result == 0)
        result = distribution_manifest_get(distribution, digest, &manifest, err);
    if (result == 0) {
        buf_add(text, manifest.text.data, manifest.text.size);
        snprintf(media_type, 128, "%s", manifest.media_type);
        result = buf_check(text, "manifest", err);
    }
    distribution_manifest_done(&manifest);
    distribution_free(distribution);
    return result;
}

static int get_blob(void *context, const char *repository, const char *digest, registry_size_fn *begin, registry_sink_fn *sink,
                    void *sink_context, struct err *err)
{
    struct oci_descriptor blob = { .digest = (char *)digest };
    struct distribution *distribution = NULL;
    int result = connect(context, repository, 0, 0, &distribution, err);
    if (result == 0)
        result = distribution_blob_size(distribution, digest, &blob.size, err);
    if (result == 0)
        result = begin(sink_context, blob.size, err);
    if (result == 0)
        result = distribution_blob_get(distribution, &blob, true, sink, sink_context, err);
    distribution_free(distribution);
    return result;
}

static int get_tags(void *context, const char *repository, struct strv *out, struct err *err)
{
    struct distribution *distribution = NULL;
    int result = connect(context, repository, 1, PATIENCE_S, &distribution, err);
    if (result == 0)
        result = distribution_tags(distribution, out, err);
    distribution_free(distribution);
    return result;
}

struct registry_upstream upstream_functions(struct upstream *upstream)
{
    return (struct registry_upstream){ .context = upstream, .digest = get_digest, .manifest = get_manifest, .blob = get_blob, .tags = get_tags };
}
