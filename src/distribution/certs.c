// Certificates of one host as Docker keeps them: in <dir>/<host[:port]>/ every *.crt is an authority, NAME.cert is ours with
// its key in NAME.key. They are read before the fetching process gives up its rights, so keys may be root's alone.
#include <errno.h>
#include <fcntl.h>

#include "base/file.h"
#include "distribution_private.h"

#define PEM_MAX ((size_t)4 << 20)

static const char *const system_bundles[] = { "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                                              "/etc/ssl/cert.pem" };

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text), end_size = strlen(end);
    return size > end_size && str_eq(text + size - end_size, end);
}

void certs_done(struct certs *certs)
{
    free(certs->authorities);
    free(certs->certificate);
    free(certs->key);
    *certs = (struct certs){ 0 };
}

static int add_authorities(int folder, const struct strv *names, char **out, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(PEM_MAX);
    bool own = false;
    for (size_t i = 0; i < ARRAY_LEN(system_bundles) && text.size == 0; i++)
        file_read_at(AT_FDCWD, system_bundles[i], &text, NULL);
    for (size_t i = 0; i < names->len; i++) {
        if (!ends_with(names->items[i], ".crt"))
            continue;
        buf_addc(&text, '\n');
        own = true;
        if (file_read_at(folder, names->items[i], &text, err) < 0)
            return -1;
    }
    if (own)
        *out = buf_take(&text);
    return 0;
}

static int read_pair(int folder, const char *name, struct certs *out, struct err *err)
{
    _cleanup_buf_ struct buf certificate = BUF_INIT(PEM_MAX), key = BUF_INIT(PEM_MAX);
    _cleanup_free_ char *key_name = mem_printf("%.*s.key", (int)(strlen(name) - strlen(".cert")), name);
    if (file_read_at(folder, name, &certificate, err) < 0)
        return -1;
    if (file_read_at(folder, key_name, &key, err) < 0)
        return err_wrap(err, "missing key %s for client certificate %s", key_name, name);
    out->certificate = buf_take(&certificate);
    out->key = buf_take(&key);
    return 0;
}

int certs_read(const char *dir, const char *host, struct certs *out, struct err *err)
{
    _cleanup_free_ char *path = mem_printf("%s/%s", dir, host);
    _cleanup_strv_ struct strv names = { 0 };
    *out = (struct certs){ 0 };
    _cleanup_close_ int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? 0 : err_errno(err, errno, "%s", path);
    out->found = true;
    int done = file_list_names(folder, ".", &names, err);
    if (done == 0)
        done = add_authorities(folder, &names, &out->authorities, err);
    for (size_t i = 0; i < names.len && done == 0 && !out->certificate; i++)
        if (ends_with(names.items[i], ".cert"))
            done = read_pair(folder, names.items[i], out, err);
    if (done < 0)
        certs_done(out);
    return done < 0 ? err_wrap(err, "%s", path) : 0;
}
