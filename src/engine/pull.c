// Pulls. One thread runs the worker; clients follow what it says. Who asks for what is being fetched already hears everything from
// the beginning; when the last one has left, the worker is ended.
#include <errno.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "worker.h"

#define FOLLOWERS_MAX 256
#define WORDS_MAX 60000

struct follower {
    struct follower *next;
    int event_fd; // something new
};

struct pull {
    struct pull *next;
    struct engine *engine;
    char *key; // reference, platform, login
    char *reference, *platform, *words; // words: the line for the worker; it has secrets
    // Of the rest: guarded by engine->pull_lock.
    unsigned users; // the thread is one
    struct follower *followers;
    size_t follower_len;
    json_t *lines; // array of what was said
    bool ended, newer; // newer: the reference names another image than before
    int result;
    struct err err;
    int stop_fd; // an eventfd: nobody follows any more
};

// ---- life -----------------------------------------------------------------------------------------------------------

static void wipe(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

static void pull_unref(struct engine *engine, struct pull *pull) REQUIRES(engine->pull_lock)
{
    if (--pull->users > 0)
        return;
    wipe(pull->key);
    free(pull->reference);
    free(pull->platform);
    wipe(pull->words);
    json_decref(pull->lines);
    fd_close(pull->stop_fd);
    free(pull);
}

static void wake_followers(struct engine *engine, struct pull *pull) REQUIRES(engine->pull_lock)
{
    for (struct follower *follower = pull->followers; follower; follower = follower->next)
        eventfd_write(follower->event_fd, 1);
}

static int say(void *context, json_t *object)
{
    struct pull *pull = context;
    struct engine *engine = pull->engine;
    mutex_lock(&engine->pull_lock);
    json_array_append(pull->lines, object);
    wake_followers(engine, pull);
    mutex_unlock(&engine->pull_lock);
    return 0;
}

// ---- what the worker says -------------------------------------------------------------------------------------------

int pull_line(struct worker *worker, json_t *object, struct err *err)
{
    json_t *part = json_object_get(object, "progress");
    if (json_object_get(object, "diff_ids"))
        return worker_answer_layers(worker, json_object_get(object, "diff_ids"), err);
    if (part)
        worker_tell(worker, worker_progress(part));
    return 0;
}

static int tell_pulled(struct worker *worker, const struct image_staged *staged, const char *id, struct arena *arena, struct err *err)
{
    const struct pull *pull = worker->context;
    struct image_ref ref, digest;
    if (staged->references.len == 0 || image_ref_parse(pull->reference, true, arena, &ref, err) < 0 ||
        image_ref_parse(staged->references.items[staged->references.len - 1], true, arena, &digest, err) < 0)
        return -1;
    worker_tell(worker, json_pack("{s:o}", "status", json_sprintf("Digest: %s", digest.digest ? digest.digest : "")));
    event_reference(worker->owner, id, "pull", ref.familiar);
    return 0;
}

// ---- the run --------------------------------------------------------------------------------------------------------

// The image that a reference names now; "" when none.
static char *image_behind(struct engine *engine, const char *reference, struct arena *arena)
{
    struct image image;
    return image_get(engine->images, reference, arena, &image, NULL) == 0 ? image.id : arena_strdup(arena, "");
}

static int run_once(struct pull *pull, bool *again, struct err *err)
{
    _cleanup_(worker_done) struct worker worker = WORKER_INIT(pull->engine);
    const struct cancel cancel = { .fd = -1, .event_fd = pull->stop_fd };
    char *const argv[] = { (char *)"berth-image", (char *)"fetch", (char *)"--platform", pull->platform, pull->reference,
                           pull->engine->inflate_ratio, NULL };
    worker.progress = say;
    worker.context = pull;
    worker.told = tell_pulled;
    worker.line = pull_line;
    _cleanup_close_ int read_end = worker_open_words(&worker, err);
    if (read_end < 0 || fd_write_full(worker.words_fd, pull->words, strlen(pull->words), err) < 0)
        return -1;
    int result = worker_run(&worker, argv, read_end, &cancel, err);
    if (result == 0 && worker.image_len == 0)
        result = err_set(err, ERR_INTERNAL, "the image worker gave no image");
    *again = result < 0 && worker.known_len > 0;
    return result;
}

static bool layer_went(const struct err *err)
{
    return err->class == ERR_INVALID_ARGUMENT && strstr(err->message, " is missing");
}

static int run(struct pull *pull, bool *newer, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    bool again = false;
    const struct cancel cancel = { .fd = -1, .event_fd = pull->stop_fd };
    const char *before = image_behind(pull->engine, pull->reference, &arena);
    // berth-image by hand may be fetching the same.
    _cleanup_close_ int turn = image_pull_turn(pull->engine->images, pull->reference, &cancel, err);
    if (turn < 0)
        return -1;
    int result = run_once(pull, &again, err);
    // A layer that was there when the worker asked can go with another image before the commit.
    if (result < 0 && again && layer_went(err))
        result = run_once(pull, &again, err);
    if (result < 0)
        return -1;
    *newer = !str_eq(before, image_behind(pull->engine, pull->reference, &arena));
    return 0;
}

static void *pull_thread(void *context)
{
    struct pull *pull = context;
    struct engine *engine = pull->engine;
    struct err err = { 0 };
    bool newer = false;
    int result = run(pull, &newer, &err);
    mutex_lock(&engine->pull_lock);
    pull->newer = newer;
    pull->result = result;
    pull->err = err;
    pull->ended = true;
    wake_followers(engine, pull);
    for (struct pull **at = &engine->pulls; *at; at = &(*at)->next)
        if (*at == pull) {
            *at = pull->next;
            break;
        }
    pull_unref(engine, pull);
    cond_wake_all(&engine->pull_ended);
    mutex_unlock(&engine->pull_lock);
    return NULL;
}

// ---- following ------------------------------------------------------------------------------------------------------

// It is written before its reader runs: a pipe takes 64 KiB.
static int check_words(const char *words, struct err *err)
{
    return strlen(words) <= WORDS_MAX ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "the registry login is larger than %d bytes", WORDS_MAX);
}

char *worker_words(struct engine *engine, const struct engine_login *login)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct engine_settings settings;
    settings_get(engine, &arena, &settings);
    const struct worker_remote remote = { login->username, login->password, login->identity_token, login->registry_token,
                                          engine->registry_certs, &settings.insecure_registries, &settings.registry_mirrors,
                                          settings.downloads, settings.uploads, settings.attempts };
    return worker_remote_words(&remote);
}

int worker_open_words(struct worker *worker, struct err *err)
{
    int ends[2];
    if (fd_pipe(ends, err) < 0)
        return -1;
    worker->words_fd = ends[1];
    return ends[0];
}

int worker_open_talk(struct worker *worker, struct err *err)
{
    int ends[2];
    if (fd_socketpair(SOCK_STREAM, ends, err) < 0)
        return -1;
    worker->words_fd = ends[1];
    return ends[0];
}

int worker_write_words(const struct worker *worker, const struct engine_login *login, struct err *err)
{
    char *words = worker_words(worker->owner, login);
    int result = check_words(words, err);
    if (result == 0)
        result = fd_write_full(worker->words_fd, words, strlen(words), err);
    wipe(words);
    return result;
}

static struct pull *pull_new(struct engine *engine, const char *key, const char *reference, const char *platform, const char *words)
{
    struct pull *pull = mem_new(struct pull);
    *pull = (struct pull){ .engine = engine, .key = mem_strdup(key), .reference = mem_strdup(reference),
                           .platform = mem_strdup(platform ? platform : ""), .words = mem_strdup(words), .lines = json_array(),
                           .users = 1, .stop_fd = eventfd(0, EFD_CLOEXEC) };
    return pull;
}

static int start(struct engine *engine, struct pull *pull, struct err *err) REQUIRES(engine->pull_lock)
{
    pthread_t thread = 0;
    int failed = pull->stop_fd < 0 ? errno : pthread_create(&thread, NULL, pull_thread, pull);
    if (failed) {
        pull_unref(engine, pull);
        return err_errno(err, failed, "pull");
    }
    pthread_detach(thread);
    pull->next = engine->pulls;
    engine->pulls = pull;
    return 0;
}

// The pull of that key, found or begun, with us among its followers.
static struct pull *join(struct engine *engine, const char *key, const char *reference, const char *platform, const char *words,
                         struct follower *self, struct err *err)
{
    struct pull *pull;
    mutex_lock(&engine->pull_lock);
    for (pull = engine->pulls; pull && (pull->ended || pull->follower_len == 0 || !str_eq(pull->key, key)); pull = pull->next)
        ;
    if (pull && pull->follower_len >= FOLLOWERS_MAX) {
        err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d clients pull %s", FOLLOWERS_MAX, reference);
        pull = NULL;
    } else if (!pull) {
        pull = pull_new(engine, key, reference, platform, words);
        if (start(engine, pull, err) < 0)
            pull = NULL;
    }
    if (pull) {
        pull->users++;
        pull->follower_len++;
        self->next = pull->followers;
        pull->followers = self;
    }
    mutex_unlock(&engine->pull_lock);
    return pull;
}

static void leave(struct pull *pull, struct follower *self)
{
    struct engine *engine = pull->engine;
    mutex_lock(&engine->pull_lock);
    for (struct follower **at = &pull->followers; *at; at = &(*at)->next)
        if (*at == self) {
            *at = self->next;
            break;
        }
    if (--pull->follower_len == 0 && !pull->ended)
        eventfd_write(pull->stop_fd, 1);
    pull_unref(engine, pull);
    mutex_unlock(&engine->pull_lock);
}

// The next line, a reference; NULL with *ended: no more will come.
static json_t *next_line(struct pull *pull, size_t *at, bool *ended)
{
    mutex_lock(&pull->engine->pull_lock);
    json_t *line = json_incref(json_array_get(pull->lines, *at));
    *at += line != NULL;
    *ended = pull->ended;
    mutex_unlock(&pull->engine->pull_lock);
    return line;
}

static int follow(struct pull *pull, const struct follower *self, engine_progress_fn *progress, void *context, bool *newer,
                  const struct cancel *cancel, struct err *err)
{
    eventfd_t count;
    size_t at = 0;
    for (bool ended = false;;) {
        json_t *line = next_line(pull, &at, &ended);
        if (line) {
            int result = progress(context, line);
            json_decref(line);
            if (result < 0)
                return err_set(err, ERR_CANCELLED, "the client is gone");
            continue;
        }
        if (ended)
            break;
        if (cancel_wait(cancel, self->event_fd, -1, err) < 0)
            return -1;
        eventfd_read(self->event_fd, &count);
    }
    mutex_lock(&pull->engine->pull_lock);
    int result = pull->result;
    *newer = pull->newer;
    if (result < 0)
        *err = pull->err;
    mutex_unlock(&pull->engine->pull_lock);
    return result;
}

static int pull_one(struct engine *engine, const struct image_ref *ref, const char *platform, const struct engine_login *login,
                    engine_progress_fn *progress, void *context, bool *newer, const struct cancel *cancel, struct err *err)
{
    _cleanup_free_ char *name = mem_printf("%s/%s%s%s", ref->domain, ref->path, ref->digest ? "@" : ":", ref->digest ? ref->digest : ref->tag);
    char *words = worker_words(engine, login);
    char *key = mem_printf("%s %s %s", name, platform ? platform : "", words);
    struct follower self = { .event_fd = eventfd(0, EFD_CLOEXEC) };
    struct pull *pull = NULL;
    if (self.event_fd < 0)
        err_errno(err, errno, "pull");
    else if (check_words(words, err) == 0)
        pull = join(engine, key, name, platform, words, &self, err);
    int result = pull ? follow(pull, &self, progress, context, newer, cancel, err) : -1;
    if (pull)
        leave(pull, &self);
    fd_close(self.event_fd);
    wipe(words);
    wipe(key);
    return result;
}

static int tell_status(engine_progress_fn *progress, void *context, bool newer, const char *name)
{
    _cleanup_json_ json_t *line = json_pack("{s:o}", "status", json_sprintf("Status: %s for %s", newer ? "Downloaded newer image"
                                                                            : "Image is up to date", name));
    progress(context, line);
    return 0;
}

int engine_pull(struct engine *engine, const char *reference, const char *platform, const struct engine_login *login,
                engine_progress_fn *progress, void *context, const struct cancel *cancel, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct image_ref ref;
    bool newer = false;
    if (image_ref_parse(reference, true, &arena, &ref, err) < 0 ||
        pull_one(engine, &ref, platform, login, progress, context, &newer, cancel, err) < 0)
        return -1;
    return tell_status(progress, context, newer, ref.familiar);
}

int engine_pull_all(struct engine *engine, const char *repository, const char *platform, const struct engine_login *login,
                    engine_progress_fn *progress, void *context, const struct cancel *cancel, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    _cleanup_json_ json_t *tags = NULL;
    struct image_ref ref;
    json_t *tag;
    size_t i;
    bool newer = false;
    if (image_ref_parse(repository, false, &arena, &ref, err) < 0 ||
        engine_registry_tags(engine, repository, login, &tags, cancel, err) < 0)
        return -1;
    json_array_foreach(tags, i, tag) {
        bool one = false;
        ref.tag = (char *)json_string_value(tag);
        if (pull_one(engine, &ref, platform, login, progress, context, &one, cancel, err) < 0)
            return -1;
        newer |= one;
    }
    return tell_status(progress, context, newer, ref.familiar_name);
}

void pulls_end(struct engine *engine)
{
    mutex_lock(&engine->pull_lock);
    for (struct pull *pull = engine->pulls; pull; pull = pull->next)
        eventfd_write(pull->stop_fd, 1);
    while (engine->pulls)
        cond_wait(&engine->pull_ended, &engine->pull_lock);
    mutex_unlock(&engine->pull_lock);
}
