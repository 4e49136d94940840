// Theory of operation: the client lists what it has; what is the same in the list of the kept folder is there already, and is not asked for. The rest goes as a
// tar through a pipe to the worker that has the folder; what is hashed on the way is what comes to stand there. Times and sizes are believed, as
// BuildKit believes them: a file that changed without either is the old one.
#include <errno.h>
#include <gnutls/crypto.h>
#include <pthread.h>

#include "base/fd.h"
#include "build/listing.h"
#include "buildkit_private.h"

#define MODE_TYPES (MODE_DIR | MODE_SYMLINK | MODE_DEVICE | MODE_PIPE | MODE_SOCKET | MODE_CHAR)
#define KEY_MAX 4096

struct sync {
    const struct sync_request *request;
    const struct buildkit_keeping *keeping;
    struct build_kept *kept;
    struct files *files;
    struct listing now;
    size_t *places; // of the listing's entries among the files
    struct strv removed;
    int fd; // of the tar
    struct tar_out tar;
    struct files_sink to_tar;
    size_t at; // the entry under way
    int64_t left; // of its content
    gnutls_hash_hd_t hash;
    struct err err; // of the thread that sends the tar
    bool failed;
};

// ---- what the client has --------------------------------------------------------------------------------------------

static uint32_t type_of(const struct stat_message *stat)
{
    switch (stat->mode & MODE_TYPES) {
    case MODE_DIR:
        return LISTING_FOLDER;
    case MODE_SYMLINK:
        return LISTING_LINK;
    case MODE_DEVICE:
        return LISTING_BLOCK;
    case MODE_DEVICE | MODE_CHAR:
        return LISTING_CHAR;
    case MODE_PIPE:
        return LISTING_FIFO;
    case 0:
        return str_empty(stat->linkname) ? LISTING_FILE : LISTING_NAME;
    default:
        return 0;
    }
}

static uint32_t mode_of(uint32_t mode)
{
    return (mode & 0777) | (mode & MODE_SETUID ? 04000 : 0) | (mode & MODE_SETGID ? 02000 : 0) | (mode & MODE_STICKY ? 01000 : 0);
}

// What no archive can have, is left out.
static int list_entry(struct sync *sync, size_t index, struct err *err)
{
    const struct stat_message *stat = files_stat(sync->files, index);
    const struct listing_entry entry = { .path = stat->path, .link = stat->linkname ? stat->linkname : "", .type = type_of(stat), .mode = mode_of(stat->mode),
                                         .uid = stat->uid, .gid = stat->gid, .size = type_of(stat) == LISTING_FILE ? stat->size : 0, .mtime_ns = stat->mtime_ns,
                                         .major = stat->major, .minor = stat->minor };
    if (stat->mode & MODE_SOCKET) {
        files_skip(sync->files, index);
        return 0;
    }
    if (listing_add(&sync->now, &entry, err) < 0)
        return -1;
    sync->places[sync->now.len - 1] = index;
    return 0;
}

// How many entries there are to fetch.
static int compare(struct sync *sync, size_t *fresh, struct err *err)
{
    size_t len = files_len(sync->files);
    sync->places = mem_alloc((len + 1) * sizeof(*sync->places));
    for (size_t i = 0; i < len; i++)
        if (list_entry(sync, i, err) < 0)
            return -1;
    *fresh = listing_compare(sync->keeping->listing(sync->kept), &sync->now, &sync->removed);
    for (size_t i = 0; i < sync->now.len; i++)
        if (!sync->now.items[i].fresh)
            files_skip(sync->files, sync->places[i]);
    return 0;
}

// ---- what comes -----------------------------------------------------------------------------------------------------

static int begin_entry(void *of, const struct stat_message *stat, struct err *err)
{
    struct sync *sync = of;
    while (files_stat(sync->files, sync->places[sync->at]) != stat)
        sync->at++;
    sync->left = sync->now.items[sync->at].size;
    return sync->to_tar.entry(sync->to_tar.of, stat, err);
}

// As much of it as the tar takes: a file that has grown is as long as it was said to be.
static int add_content(void *of, const char *data, size_t size, struct err *err)
{
    struct sync *sync = of;
    size_t part = (size_t)MIN_OF((int64_t)size, sync->left);
    gnutls_hash(sync->hash, data, part);
    sync->left -= (int64_t)part;
    return sync->to_tar.content(sync->to_tar.of, data, size, err);
}

static int end_entry(void *of, const struct stat_message *stat, struct err *err)
{
    struct sync *sync = of;
    gnutls_hash_output(sync->hash, sync->now.items[sync->at].digest);
    return sync->to_tar.entry_end(sync->to_tar.of, stat, err);
}

static int send_tar(struct sync *sync)
{
    const struct files_sink sink = { begin_entry, add_content, end_entry, sync };
    if (gnutls_hash_init(&sync->hash, GNUTLS_DIG_SHA256) < 0)
        return err_set(&sync->err, ERR_INTERNAL, "no SHA-256");
    sync->tar.fd = sync->fd;
    tar_sink(&sync->tar, &sync->to_tar);
    int done = files_fetch(sync->files, &sink, &sync->err) < 0 ? -1 : tar_end(&sync->tar, &sync->err);
    gnutls_hash_deinit(sync->hash, NULL);
    if (done < 0)
        tar_break(&sync->tar);
    return done;
}

static void *run_sender(void *of)
{
    struct sync *sync = of;
    sync->failed = send_tar(sync) < 0;
    fd_close(sync->fd);
    return NULL;
}

// The sender's error is the more telling one, unless the worker has closed the pipe because it had failed itself.
static int change(struct sync *sync, struct err *err)
{
    int ends[2];
    pthread_t thread;
    if (fd_pipe(ends, err) < 0)
        return -1;
    sync->fd = ends[1];
    int failed = pthread_create(&thread, NULL, run_sender, sync);
    if (failed) {
        fd_close(ends[0]);
        fd_close(ends[1]);
        return err_errno(err, failed, "start a thread");
    }
    int result = sync->keeping->change(sync->kept, &sync->removed, ends[0], sync->request->cancel, err);
    fd_close(ends[0]);
    pthread_join(thread, NULL);
    if (sync->failed && sync->err.number != EPIPE) {
        *err = sync->err;
        return -1;
    }
    return result < 0 ? -1 : sync->keeping->settle(sync->kept, &sync->now, err);
}

// ---- the whole ------------------------------------------------------------------------------------------------------

// BuildKit's: the folder's name, what the frontend says of it, and the session's own key. A client that says nothing of itself is nobody's.
static int open_kept(struct sync *sync, struct err *err)
{
    const struct sync_request *request = sync->request;
    const struct buildkit *buildkit = request->session->buildkit;
    const char *own = request->session->key;
    _cleanup_free_ char *key = *own ? mem_printf("%s:%s:%s", request->files.folder, request->hint, own) : NULL;
    _cleanup_free_ char *description = mem_printf("local source for %.200s", request->files.folder);
    if (key && strlen(key) > KEY_MAX)
        free(take_ptr(&key));
    return sync->keeping->open(buildkit->config.of, key, description, &sync->kept, err);
}

static int run(struct sync *sync, struct step *step, struct err *err)
{
    const struct sync_request *request = sync->request;
    static const struct files_sink nothing;
    size_t fresh;
    if (open_kept(sync, err) < 0 || files_list(request->session, &request->files, step, request->cancel, &sync->files, err) < 0 ||
        compare(sync, &fresh, err) < 0)
        return -1;
    if (fresh > 0 || sync->removed.len > 0)
        return change(sync, err);
    return files_fetch(sync->files, &nothing, err);
}

int sync_folder(const struct sync_request *request, struct build_kept **out, struct err *err)
{
    struct sync *sync = mem_new(struct sync);
    struct step step;
    sync->request = request;
    sync->keeping = &request->session->buildkit->config.keeping;
    step_start(&step, request->solve, request->step);
    int result = run(sync, &step, err);
    step_end(&step, result < 0 ? err : NULL);
    if (result == 0)
        *out = take_ptr(&sync->kept);
    sync->keeping->free(sync->kept);
    listing_done(&sync->now);
    free(sync->places);
    strv_done(&sync->removed);
    files_close(sync->files);
    free(sync);
    return result;
}
