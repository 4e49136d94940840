// The store itself, its blobs and its names.
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/file.h"
#include "shared_private.h"
#include "worker/worker.h"

bool shared_ref(const char *repository, struct arena *arena, struct image_ref *out)
{
    return image_ref_parse(repository, false, arena, out, NULL) == 0 && !out->tag && !out->digest;
}

static int blob(void *context, const char *digest, bool bytes, struct registry_blob *out, struct err *err)
{
    struct shared *shared = context;
    struct image_blob found = { -1, -1, 0 };
    int result = image_blob_open(shared->images, digest, bytes, &found, err);
    if (result > 0)
        *out = (struct registry_blob){ found.fd, found.recipe_fd, found.size };
    return result;
}

static int send_tar(void *context, const struct registry_blob *blob, const char *digest, int64_t start, int64_t size, registry_pipe_fn *sink,
                    void *sink_context, const struct cancel *cancel, struct err *err)
{
    struct shared *shared = context;
    const struct worker_range range = { blob->fd, blob->aside_fd, digest, start, size };
    return worker_range(shared->images, shared->program, &range, sink, sink_context, cancel, err);
}

static int tags(void *context, const char *repository, struct arena *arena, struct strv *out, struct err *err)
{
    struct shared *shared = context;
    struct image_ref ref;
    return shared_ref(repository, arena, &ref) ? image_repository_tags(shared->images, ref.familiar_name, arena, out, err) : 0;
}

static int repositories(void *context, struct arena *arena, struct strv *out, struct err *err)
{
    return image_repositories(((struct shared *)context)->images, arena, out, err);
}

// What a transfer that was killed has left. Nothing that a record names, or that somebody works on, by whichever process.
static int collect(void *context, struct err *err)
{
    return image_store_collect(((struct shared *)context)->images, err);
}

int shared_open(const char *root, const char *program, struct shared **out, struct err *err)
{
    if (geteuid() != 0)
        return err_set(err, ERR_PERMISSION_DENIED, "a data root is root's: must be run by root");
    struct shared *shared = mem_new(struct shared);
    shared->root_fd = -1;
    shared->program = mem_strdup(program);
    mutex_init(&shared->taking, 0);
    _cleanup_free_ char *database = mem_printf("%s/berth.db", root);
    int result = file_mkdirs(AT_FDCWD, root, 0710, err);
    if (result == 0)
        result = shared->root_fd = file_open_dir(AT_FDCWD, root, err);
    const struct image_store_config config = { .root_fd = shared->root_fd, .state_fd = -1 };
    if (result < 0 || store_open(database, &shared->store, err) < 0 || image_store_open(shared->store, &config, &shared->images, err) < 0) {
        shared_close(shared);
        return err_wrap(err, "%s", root);
    }
    *out = shared;
    return 0;
}

struct registry_engine shared_functions(struct shared *shared)
{
    return (struct registry_engine){ .context = shared, .blob = blob, .send = send_tar, .manifest = shared_manifest, .tags = tags,
                                     .repositories = repositories, .take = shared_take, .collect = collect };
}

void shared_close(struct shared *shared)
{
    if (!shared)
        return;
    image_store_close(shared->images);
    store_close(shared->store);
    fd_close(shared->root_fd);
    mutex_done(&shared->taking);
    free(shared->program);
    free(shared);
}
