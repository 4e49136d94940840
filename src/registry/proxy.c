// A cache of another registry: manifests and tags. A manifest by its digest is what it is, so a copy does for ever; what a tag names is
// asked anew each time, and where the upstream does not answer, what it named last is given.
#include "base/log.h"
#include "registry_private.h"

#define REST_NS (10 * NS_PER_S) // who did not answer is not asked again so soon: each client would wait for it
#define TOUCH_NS (3600 * NS_PER_S)

// ---- an upstream that does not answer -------------------------------------------------------------------------------

static bool is_resting(struct registry *registry)
{
    return clock_mono_ns() < atomic_load(&registry->rests_until_ns);
}

static void note_failure(struct call *call, const struct err *err)
{
    atomic_store(&call->registry->rests_until_ns, clock_mono_ns() + REST_NS);
    log_warn("upstream: %s: %s", call->repository, err->message);
}

void proxy_refuse(struct call *call, const struct err *err)
{
    if (err->class == ERR_NOT_FOUND)
        call_refuse(call, MANIFEST_UNKNOWN, "%s", err->message);
    else if (err->class == ERR_RESOURCE_EXHAUSTED)
        call_failed(call, err);
    else
        call_refuse(call, UNAVAILABLE, "upstream: %s", err->message);
}

// ---- records --------------------------------------------------------------------------------------------------------

static int has_manifest(struct call *call, const char *digest, struct err *err)
{
    char *found = NULL;
    if (record_text(call, &found, err, "SELECT digest FROM manifests WHERE repository = ? AND digest = ?", "tt", call->repository, digest) < 0)
        return -1;
    return found != NULL;
}

static int has_tag(struct call *call, struct err *err)
{
    char *found = NULL;
    if (record_text(call, &found, err, "SELECT digest FROM tags WHERE repository = ? AND name = ?", "tt", call->repository, call->reference) < 0)
        return -1;
    return found != NULL;
}

static int set_tag(struct call *call, const char *digest, struct err *err)
{
    struct store *store = call->registry->store;
    char *now = NULL;
    if (record_text(call, &now, err, "SELECT digest FROM tags WHERE repository = ? AND name = ?", "tt", call->repository, call->reference) < 0)
        return -1;
    if (str_eq(now, digest))
        return 0;
    if (store_begin(store, err) < 0)
        return -1;
    if (store_exec(store, err,
                   "INSERT INTO tags(repository, name, digest) VALUES(?, ?, ?) ON CONFLICT DO UPDATE SET digest = excluded.digest", "ttt",
                   call->repository, call->reference, digest) < 0) {
        store_rollback(store);
        return -1;
    }
    return store_commit(store, err);
}

static int take_flag(void *context, const struct store_row *row, struct err *err)
{
    *(bool *)context = true;
    return 0;
}

// What is asked for stays: its age counts from now. Once an hour will do.
static int touch(struct call *call, const char *digest, struct err *err)
{
    struct store *store = call->registry->store;
    int64_t now = clock_wall_ns();
    bool old = false;
    if (store_query(store, err, take_flag, &old, "SELECT 1 FROM manifests WHERE repository = ? AND digest = ? AND pushed_ns < ?", "tti",
                    call->repository, digest, now - TOUCH_NS) < 0)
        return -1;
    if (!old)
        return 0;
    if (store_begin(store, err) < 0)
        return -1;
    if (store_exec(store, err, "UPDATE manifests SET pushed_ns = ?1 WHERE repository = ?2 AND digest = ?3", "itt", now, call->repository, digest) < 0) {
        store_rollback(store);
        return -1;
    }
    return store_commit(store, err);
}

// ---- manifests ------------------------------------------------------------------------------------------------------

static int fetch(struct call *call, const char *digest, struct err *err)
{
    const struct registry_upstream *upstream = &call->registry->upstream;
    _cleanup_buf_ struct buf text = BUF_INIT(REGISTRY_MANIFEST_MAX);
    char media_type[128];
    if (upstream->manifest(upstream->context, call->repository, digest, &text, media_type, err) < 0)
        return -1;
    return manifest_keep(call, digest, media_type, buf_text(&text), text.size, err);
}

static int bring(struct call *call, const char *digest, struct err *err)
{
    int found = has_manifest(call, digest, err);
    if (found < 0 || (!found && fetch(call, digest, err) < 0))
        return -1;
    return touch(call, digest, err);
}

// 1: *digest is what the tag names there; 0: nobody says, so what is on record counts; -1: refused.
static int ask_tag(struct call *call, char digest[DIGEST_SIZE], struct err *err)
{
    const struct registry_upstream *upstream = &call->registry->upstream;
    if (is_resting(call->registry) && has_tag(call, NULL) > 0)
        return 0;
    if (upstream->digest(upstream->context, call->repository, call->reference, digest, err) == 0)
        return 1;
    if (err->class == ERR_NOT_FOUND)
        return -1;
    note_failure(call, err);
    return has_tag(call, NULL) > 0 ? 0 : -1;
}

bool proxy_manifest(struct call *call)
{
    struct err err = { 0 };
    char digest[DIGEST_SIZE];
    bool by_digest = strchr(call->reference, ':') != NULL;
    if (by_digest ? !digest_valid(call->reference) : !tag_valid(call->reference))
        return true; // there is none, as everywhere
    int asked = 1;
    if (by_digest)
        snprintf(digest, sizeof(digest), "%s", call->reference);
    else
        asked = ask_tag(call, digest, &err);
    if (asked == 0)
        return true;
    if (asked > 0 && bring(call, digest, &err) == 0 && (by_digest || set_tag(call, digest, &err) == 0))
        return true;
    // The tag has moved on to what can't be had: the client gets what it was before.
    if (asked > 0 && !by_digest && err.class == ERR_UNAVAILABLE && has_tag(call, NULL) > 0) {
        note_failure(call, &err);
        return true;
    }
    proxy_refuse(call, &err);
    return false;
}

// ---- tags -----------------------------------------------------------------------------------------------------------

bool proxy_tags(struct call *call, struct strv *out)
{
    const struct registry_upstream *upstream = &call->registry->upstream;
    struct err err = { 0 };
    if (is_resting(call->registry))
        return false;
    if (upstream->tags(upstream->context, call->repository, out, &err) == 0)
        return true;
    if (err.class != ERR_NOT_FOUND)
        note_failure(call, &err);
    return false;
}

// ---- what nobody has asked for --------------------------------------------------------------------------------------

struct old {
    struct arena *arena;
    struct strv *repositories, *digests;
};

static int take_old(void *context, const struct store_row *row, struct err *err)
{
    const struct old *old = context;
    strv_push_arena(old->repositories, old->arena, store_text(row, 0));
    strv_push_arena(old->digests, old->arena, store_text(row, 1));
    return 0;
}

int proxy_forget(struct registry *registry, int64_t before_ns, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct strv repositories = { 0 }, digests = { 0 };
    struct old old = { &arena, &repositories, &digests };
    if (store_query(registry->store, err, take_old, &old, "SELECT repository, digest FROM manifests WHERE pushed_ns < ?", "i", before_ns) < 0)
        return -1;
    for (size_t i = 0; i < digests.len; i++) {
        mutex_lock(&registry->files);
        int result = manifest_drop(registry, repositories.items[i], digests.items[i], err);
        mutex_unlock(&registry->files);
        if (result < 0)
            return -1;
    }
    return 0;
}
