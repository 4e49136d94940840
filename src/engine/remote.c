// What a build takes from elsewhere: by the image worker, never by the daemon.
#include "remote.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "worker.h"

struct taking {
    struct worker worker;
    struct arena *arena;
    struct remote_file *file;
    bool told;
    const char *commit;
};

static int take_line(struct worker *worker, json_t *object, struct err *err)
{
    struct taking *taking = worker->owner;
    const json_t *part = json_object_get(object, "progress"), *said = json_object_get(object, "document");
    if (part)
        worker_tell(worker, worker_progress(part));
    if (!said)
        return 0;
    const char *digest = json_get_text(said, "digest", "");
    if (!oci_digest_valid(digest) || strlen(digest) >= OCI_DIGEST_SIZE)
        return err_set(err, ERR_INTERNAL, "the image worker said no digest");
    *taking->file = (struct remote_file){ .unchanged = json_get_flag(said, "unchanged", false), .size = json_get_int(said, "size", 0),
                                          .modified = json_get_int(said, "modified", -1), .etag = arena_strdup(taking->arena, json_get_text(said, "etag", NULL)),
                                          .type = arena_strdup(taking->arena, json_get_text(said, "type", NULL)) };
    memcpy(taking->file->digest, digest, strlen(digest) + 1);
    taking->told = true;
    return 0;
}

// What stands on no command line, and a descriptor, which may be -1; for the worker's standard input.
static int make_order(const char *authorization, int fd, struct err *err)
{
    int ends[2];
    const char *text = authorization ? authorization : "";
    if (fd_socketpair(SOCK_SEQPACKET, ends, err) < 0)
        return -1;
    _cleanup_close_ int ours = ends[0], theirs = ends[1];
    return fd_send(ours, text, strlen(text) + 1, &fd, fd >= 0, err) < 0 ? -1 : take_fd(&theirs);
}

// As an answer of another time would have it.
static int set_time(int file_fd, int64_t modified, struct err *err)
{
    const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = modified } };
    return modified >= 0 && futimens(file_fd, times) < 0 ? err_errno(err, errno, "time of a download") : 0;
}

int remote_download(struct engine *engine, const struct remote_url *url, int file_fd, engine_progress_fn *progress, void *context, struct arena *arena,
                    struct remote_file *out, const struct cancel *cancel, struct err *err)
{
    char max[24];
    snprintf(max, sizeof(max), "%llu", (unsigned long long)url->size_max);
    char *const argv[] = { (char *)"berth-image", (char *)"download", (char *)"--", (char *)url->url, max, (char *)(url->etag ? url->etag : ""), NULL };
    struct taking taking = { .worker = WORKER_INIT(engine), .arena = arena, .file = out };
    taking.worker.owner = &taking;
    taking.worker.progress = progress;
    taking.worker.context = context;
    taking.worker.line = take_line;
    _cleanup_close_ int order = remote_check(url->url, err) < 0 ? -1 : make_order(url->authorization, file_fd, err);
    int done = order < 0 ? -1 : worker_run(&taking.worker, argv, order, cancel, err);
    worker_done(&taking.worker);
    if (done < 0)
        return -1;
    return taking.told ? set_time(file_fd, out->modified, err) : err_set(err, ERR_INTERNAL, "the image worker fetched nothing");
}

// ---- git ------------------------------------------------------------------------------------------------------------

static int take_commit(struct worker *worker, json_t *object, struct err *err)
{
    struct taking *taking = worker->owner;
    const char *commit = json_get_text(object, "commit", NULL);
    if (commit)
        taking->commit = arena_strdup(taking->arena, commit);
    return 0;
}

int remote_git(struct engine *engine, const struct remote_git *git, int folder_fd, struct arena *arena, const char **commit, const struct cancel *cancel,
               struct err *err)
{
    const char *how = !git->fetch ? "resolve" : arena_printf(arena, "fetch%s%s", git->keep ? "-keep" : "", git->submodules ? "-submodules" : "");
    char *const argv[] = { (char *)"berth-image", (char *)"git", (char *)"--", (char *)git->url, (char *)git->ref, (char *)how, NULL };
    struct taking taking = { .worker = WORKER_INIT(engine), .arena = arena };
    taking.worker.owner = &taking;
    taking.worker.line = take_commit;
    _cleanup_close_ int order = make_order(git->authorization, folder_fd, err);
    int done = order < 0 ? -1 : worker_run(&taking.worker, argv, order, cancel, err);
    worker_done(&taking.worker);
    *commit = taking.commit;
    return done < 0 ? -1 : taking.commit ? 0 : err_set(err, ERR_INTERNAL, "git said no commit");
}
