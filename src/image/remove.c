// rmi as Docker's clients know it, and the collection of what it leaves.
//
// - By reference: it is untagged, with the digests of its repository when it was the repository's last tag. If nothing else
//   names the image it is deleted, except while a running container uses it (only reached with `force`).
// - By ID: refused while a running container uses it; without `force` also while a stopped one does, or while several
//   references name it. Else all of them go, and the image.
// - An image that others were made from stays as long as they do: its last reference is taken away alone, its ID is refused. With the
//   last of them it goes along, unless something names it or a container has it.
// - Deleted by force under a stopped container: the record is hidden and keeps its layers, so that the container can start
//   again; image_collect() deletes it when nobody uses it any more.
#include "base/num.h"
#include "image_private.h"

struct removal {
    const char *name; // as the caller said it
    char *id;
    char *reference; // what `name` resolved to; NULL for an ID
    bool force, keep_parents;
    struct image_references references;
    bool used, running;
    bool has_children;
    char by[13];
    struct strv untag; // keys
    bool delete;
    struct strv parents; // that are deleted, too
};

// ---- files ----------------------------------------------------------------------------------------------------------

void image_leftovers_done(struct image_leftovers *left)
{
    strv_done(&left->trash); // folders, trees and blobs are arena memory
}

void image_leftovers_unlink(struct image_store *images, struct image_leftovers *left)
{
    for (size_t i = 0; i < left->folders.len; i++) {
        _cleanup_free_ char *trash = NULL;
        if (image_trash_layer(images, left->folders.items[i], &trash, NULL) == 0)
            strv_add(&left->trash, trash);
    }
    for (size_t i = 0; i < left->trees.len; i++) {
        char random[17];
        random_hex(random, 16);
        _cleanup_free_ char *trash = mem_printf("trash-%s", random);
        if (renameat(images->layers_fd, left->trees.items[i], images->staging_fd, trash) == 0)
            strv_add(&left->trash, trash);
    }
    for (size_t i = 0; i < left->blobs.len; i++)
        unlinkat(images->blobs_fd, left->blobs.items[i], 0);
}

void image_leftovers_remove(struct image_store *images, const struct image_leftovers *left)
{
    for (size_t i = 0; i < left->trash.len; i++)
        file_remove_tree(images->staging_fd, left->trash.items[i], NULL);
}

// ---- records --------------------------------------------------------------------------------------------------------

static int delete_chain(struct image_store *images, const char *chain, struct arena *arena, struct strv *deleted,
                        struct image_leftovers *left, struct err *err)
{
    struct strv users = { 0 }, folder = { 0 }, sharing = { 0 };
    if (image_query_texts(images, &users, arena, err, "SELECT image_id FROM image_layers WHERE chain_id = ? LIMIT 1",
                          chain) < 0 ||
        image_query_texts(images, &folder, arena, err, "SELECT folder FROM image_chains WHERE id = ?", chain) < 0)
        return -1;
    if (users.len || !folder.len)
        return 0;
    if (store_exec(images->store, err, "DELETE FROM image_chains WHERE id = ?", "t", chain) < 0 ||
        image_query_texts(images, &sharing, arena, err, "SELECT id FROM image_chains WHERE folder = ? LIMIT 1",
                          folder.items[0]) < 0)
        return -1;
    if (!sharing.len)
        strv_push_arena(&left->folders, arena, folder.items[0]);
    _cleanup_free_ char *tree = image_tree_name(chain);
    strv_push_arena(&left->trees, arena, tree);
    if (deleted)
        strv_push_arena(deleted, arena, chain);
    return 0;
}

int image_delete_records(struct image_store *images, const char *id, struct arena *arena, struct strv *deleted,
                         struct image_leftovers *left, struct err *err)
{
    struct strv chains = { 0 };
    if (image_query_texts(images, &chains, arena, err,
                          "SELECT chain_id FROM image_layers WHERE image_id = ? ORDER BY position DESC", id) < 0 ||
        store_exec(images->store, err, "DELETE FROM images WHERE id = ?", "t", id) < 0)
        return -1;
    for (size_t i = 0; i < chains.len; i++)
        if (delete_chain(images, chains.items[i], arena, deleted, left, err) < 0)
            return -1;
    strv_push_arena(&left->blobs, arena, oci_digest_hex(id));
    return 0;
}

// ---- deciding -------------------------------------------------------------------------------------------------------

static const char *short_id(const char *id)
{
    return str_starts(id, "sha256:") ? id + 7 : id;
}

// At most one tag, and digests of one repository only, which is the tag's.
static bool is_single(const struct image_references *references)
{
    const struct image_reference *tag = NULL;
    if (references->len <= 1)
        return true;
    for (size_t i = 0; i < references->len; i++) {
        if (references->items[i].by_digest)
            continue;
        if (tag)
            return false;
        tag = &references->items[i];
    }
    const char *repository = tag ? tag->repository : references->items[0].repository;
    for (size_t i = 0; i < references->len; i++)
        if (!str_eq(references->items[i].repository, repository))
            return false;
    return true;
}

static int conflict(const struct removal *removal, const char *how, const char *why, const char *by, struct err *err)
{
    return err_set(err, ERR_CONFLICT, "conflict: unable to delete %.12s (%s) - image %s%s", short_id(removal->id), how, why, by);
}

static const struct image_reference *named(const struct removal *removal)
{
    for (size_t i = 0; i < removal->references.len; i++)
        if (str_eq(removal->references.items[i].name, removal->reference))
            return &removal->references.items[i];
    return NULL;
}

static void untag(struct removal *removal, struct arena *arena, const struct image_reference *reference)
{
    strv_push_arena(&removal->untag, arena, reference->name);
}

static int decide_by_reference(struct removal *removal, struct arena *arena, struct err *err)
{
    const struct image_reference *self = named(removal);
    bool tags_left = false;
    if (!self)
        return err_set(err, ERR_NOT_FOUND, "No such image: %s", removal->name);
    if (!removal->force && removal->used && is_single(&removal->references))
        return err_set(err, ERR_CONFLICT,
                       "conflict: unable to remove repository reference \"%s\" (must force) - container %s is using its"
                       " referenced image %.12s",
                       removal->name, removal->by, short_id(removal->id));
    untag(removal, arena, self);
    for (size_t i = 0; i < removal->references.len; i++) {
        const struct image_reference *other = &removal->references.items[i];
        tags_left = tags_left || (other != self && !other->by_digest && str_eq(other->repository, self->repository));
    }
    for (size_t i = 0; i < removal->references.len && !self->by_digest && !tags_left; i++) {
        const struct image_reference *other = &removal->references.items[i];
        if (other->by_digest && str_eq(other->repository, self->repository))
            untag(removal, arena, other);
    }
    removal->delete = removal->untag.len == removal->references.len && !removal->has_children && !(removal->used && removal->running);
    return 0;
}

static int decide_by_id(struct removal *removal, struct arena *arena, struct err *err)
{
    if (removal->has_children)
        return conflict(removal, "cannot be forced", "has dependent child images", "", err);
    if (removal->used && removal->running)
        return conflict(removal, "cannot be forced", "is being used by running container ", removal->by, err);
    if (!removal->force && !is_single(&removal->references))
        return conflict(removal, "must be forced", "is referenced in multiple repositories", "", err);
    if (!removal->force && removal->used)
        return conflict(removal, "must be forced", "is being used by stopped container ", removal->by, err);
    for (size_t i = 0; i < removal->references.len; i++)
        untag(removal, arena, &removal->references.items[i]);
    removal->delete = true;
    return 0;
}

// What the image was made from, step by step, as long as nothing else needs it.
static int find_parents(struct image_store *images, struct removal *removal, image_in_use_fn *in_use, void *context, struct arena *arena,
                        struct err *err)
{
    for (const char *child = removal->id;; child = removal->parents.items[removal->parents.len - 1]) {
        struct strv parent = { 0 }, names = { 0 }, children = { 0 };
        char by[13];
        bool running;
        if (image_query_texts(images, &parent, arena, err, "SELECT parent_id FROM image_parents JOIN images ON images.id = parent_id"
                                                           " WHERE image_id = ?1 AND parent_id != ?1 AND hidden = 0", child) < 0)
            return -1;
        if (!parent.len || strv_has(&removal->parents, parent.items[0]))
            return 0;
        const char *id = parent.items[0];
        if (image_query_texts(images, &names, arena, err, "SELECT name FROM image_references WHERE image_id = ? LIMIT 1", id) < 0 ||
            image_children(images, id, arena, &children, err) < 0)
            return -1;
        if (names.len || children.len > 1 || (in_use && in_use(context, id, by, &running)))
            return 0;
        strv_push_arena(&removal->parents, arena, id);
    }
}

// ---- doing ----------------------------------------------------------------------------------------------------------

static int apply(struct image_store *images, const struct removal *removal, struct arena *arena, struct image_removed *out,
                 struct image_leftovers *left, struct err *err)
{
    for (size_t i = 0; i < removal->untag.len; i++)
        if (store_exec(images->store, err, "DELETE FROM image_references WHERE name = ?", "t", removal->untag.items[i]) < 0)
            return -1;
    for (size_t i = 0; i < removal->references.len; i++)
        if (strv_has(&removal->untag, removal->references.items[i].name))
            strv_push_arena(&out->untagged, arena, removal->references.items[i].familiar);
    if (!removal->delete)
        return 0;
    strv_push_arena(&out->deleted, arena, removal->id);
    strv_push_arena(&out->images, arena, removal->id);
    if (removal->used)
        return store_exec(images->store, err, "UPDATE images SET hidden = 1 WHERE id = ?", "t", removal->id);
    if (image_delete_records(images, removal->id, arena, &out->deleted, left, err) < 0)
        return -1;
    for (size_t i = 0; i < removal->parents.len; i++) {
        strv_push_arena(&out->deleted, arena, removal->parents.items[i]);
        strv_push_arena(&out->images, arena, removal->parents.items[i]);
        if (image_delete_records(images, removal->parents.items[i], arena, &out->deleted, left, err) < 0)
            return -1;
    }
    return 0;
}

static int remove_locked(struct image_store *images, struct removal *removal, image_in_use_fn *in_use, void *context,
                         struct arena *arena, struct image_removed *out, struct image_leftovers *left, struct err *err)
{
    struct strv children = { 0 };
    if (image_resolve(images, removal->name, arena, &removal->id, &removal->reference, err) < 0 ||
        image_references_of(images, removal->id, arena, &removal->references, err) < 0 ||
        image_children(images, removal->id, arena, &children, err) < 0)
        return -1;
    removal->has_children = children.len > 0;
    removal->used = in_use && in_use(context, removal->id, removal->by, &removal->running);
    if ((removal->reference ? decide_by_reference(removal, arena, err) : decide_by_id(removal, arena, err)) < 0)
        return -1;
    if (removal->delete && !removal->used && !removal->keep_parents && find_parents(images, removal, in_use, context, arena, err) < 0)
        return -1;
    if (store_begin_removal(images->store, err) < 0)
        return -1;
    if (apply(images, removal, arena, out, left, err) < 0) {
        store_rollback(images->store);
        return -1;
    }
    if (store_commit(images->store, err) < 0)
        return -1;
    image_leftovers_unlink(images, left);
    return 0;
}

int image_remove(struct image_store *images, const char *name, unsigned flags, image_in_use_fn *in_use, void *context,
                 struct arena *arena, struct image_removed *out, struct err *err)
{
    _cleanup_leftovers_ struct image_leftovers left = { 0 };
    struct removal removal = { .name = name, .force = flags & IMAGE_REMOVE_FORCE, .keep_parents = flags & IMAGE_REMOVE_KEEP_PARENTS };
    struct image_removed removed = { 0 };
    image_lock(images);
    int result = remove_locked(images, &removal, in_use, context, arena, &removed, &left, err);
    image_unlock(images);
    if (result < 0)
        return -1;
    // Large trees take their time: nobody waits for the lock meanwhile.
    image_leftovers_remove(images, &left);
    *out = removed;
    return 0;
}

// ---- collection -----------------------------------------------------------------------------------------------------

static int collect_locked(struct image_store *images, image_in_use_fn *in_use, void *context, struct arena *arena,
                          struct image_leftovers *left, struct err *err)
{
    struct strv hidden = { 0 };
    if (image_query_texts(images, &hidden, arena, err, "SELECT id FROM images WHERE hidden = 1", NULL) < 0)
        return -1;
    for (size_t i = 0; i < hidden.len; i++) {
        char by[13];
        bool running = false;
        if (in_use(context, hidden.items[i], by, &running))
            continue;
        if (store_begin_removal(images->store, err) < 0)
            return -1;
        if (image_delete_records(images, hidden.items[i], arena, NULL, left, err) < 0) {
            store_rollback(images->store);
            return -1;
        }
        if (store_commit(images->store, err) < 0)
            return -1;
    }
    image_leftovers_unlink(images, left);
    return 0;
}

int image_collect(struct image_store *images, image_in_use_fn *in_use, void *context, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_leftovers_ struct image_leftovers left = { 0 };
    image_lock(images);
    int result = collect_locked(images, in_use, context, &arena, &left, err);
    image_unlock(images);
    if (result == 0)
        image_leftovers_remove(images, &left);
    return result;
}

// ---- steps of a build -----------------------------------------------------------------------------------------------

static int sum_sizes(void *context, const struct store_row *row, struct err *err)
{
    *(int64_t *)context = store_int(row, 0);
    return 0;
}

// Of the layers that no other image has.
static int own_size(struct image_store *images, const char *id, int64_t *size, struct err *err)
{
    *size = 0;
    return store_query(images->store, err, sum_sizes, size,
                       "SELECT COALESCE(SUM(size), 0) FROM image_chains WHERE id IN (SELECT chain_id FROM image_layers WHERE image_id = ?)"
                       " AND id NOT IN (SELECT chain_id FROM image_layers WHERE image_id <> ?)",
                       "tt", id, id);
}

static int forget_locked(struct image_store *images, const char *id, struct arena *arena, int64_t *size, struct image_leftovers *left, struct err *err)
{
    struct strv found = { 0 };
    if (store_begin_removal(images->store, err) < 0)
        return -1;
    int done = image_query_texts(images, &found, arena, err, "SELECT id FROM images WHERE id = ? AND hidden IN (2, 3)", id);
    if (done == 0 && found.len > 0)
        done = own_size(images, id, size, err);
    if (done == 0 && found.len > 0)
        done = image_delete_records(images, id, arena, NULL, left, err);
    if (done < 0 || found.len == 0) {
        store_rollback(images->store);
        return done;
    }
    if (store_commit(images->store, err) < 0)
        return -1;
    image_leftovers_unlink(images, left);
    return 1;
}

int image_forget(struct image_store *images, const char *id, image_in_use_fn *in_use, void *context, int64_t *size, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_leftovers_ struct image_leftovers left = { 0 };
    char by[13];
    bool running = false;
    *size = 0;
    image_lock(images);
    int result = in_use(context, id, by, &running) ? 2 : forget_locked(images, id, &arena, size, &left, err);
    image_unlock(images);
    if (result == 1)
        image_leftovers_remove(images, &left);
    return result;
}
