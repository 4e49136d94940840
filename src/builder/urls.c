// What URLs of ADD were, by their ETags: a server that says that one is still so spares the transfer where the step is in the cache.
#include "builder_private.h"

#define URLS_MAX 1000 // the latest used stay

struct finding {
    struct known_url *known;
    struct arena *arena;
};

static int take_row(void *context, const struct store_row *row, struct err *err)
{
    struct finding *finding = context;
    finding->known->etag = arena_strdup(finding->arena, store_text(row, 0));
    snprintf(finding->known->digest, OCI_DIGEST_SIZE, "%s", store_text(row, 1));
    finding->known->modified = store_int(row, 2);
    return 0;
}

int url_known(struct builder *builder, const char *url, struct arena *arena, struct known_url *out, struct err *err)
{
    struct finding finding = { out, arena };
    *out = (struct known_url){ 0 };
    return store_query(builder->store, err, take_row, &finding, "SELECT etag, digest, modified FROM build_urls WHERE url = ?", "t", url);
}

static int put(struct store *store, const char *url, const struct known_url *known, struct err *err)
{
    if (store_exec(store, err, "INSERT OR REPLACE INTO build_urls(url, etag, digest, modified, used_ns) VALUES(?, ?, ?, ?, ?)", "tttii", url, known->etag,
                   known->digest, known->modified, clock_wall_ns()) < 0)
        return -1;
    return store_exec(store, err, "DELETE FROM build_urls WHERE url NOT IN (SELECT url FROM build_urls ORDER BY used_ns DESC LIMIT ?)", "i", (int64_t)URLS_MAX);
}

// What can't be noted is fetched again.
void url_note(struct builder *builder, const char *url, const struct known_url *known)
{
    struct err ignored = { 0 };
    if (str_empty(known->etag) || store_begin(builder->store, &ignored) < 0)
        return;
    if (put(builder->store, url, known, &ignored) < 0)
        store_rollback(builder->store);
    else
        store_commit(builder->store, &ignored);
}
