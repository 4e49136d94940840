// Questions to registries: asked by a worker, because the daemon itself speaks to no stranger.
#include "worker.h"

struct question {
    const char *key; // of the line that is the answer
    json_t *answer; // a reference
};

static int take_answer(struct worker *worker, json_t *object, struct err *err)
{
    struct question *question = worker->context;
    json_t *part = json_object_get(object, question->key);
    if (part && !question->answer)
        question->answer = json_incref(part);
    return 0;
}

static int ask(struct engine *engine, const char *verb, const char *what, const char *more, const struct engine_login *login,
               struct question *question, const struct cancel *cancel, struct err *err)
{
    _cleanup_(worker_done) struct worker worker = WORKER_INIT(engine);
    char *const argv[] = { (char *)"berth-image", (char *)verb, (char *)"--", (char *)what, (char *)more, NULL };
    worker.context = question;
    worker.line = take_answer;
    _cleanup_close_ int read_end = worker_open_words(&worker, err);
    if (read_end < 0 || worker_write_words(&worker, login, err) < 0 || worker_run(&worker, argv, read_end, cancel, err) < 0)
        return -1;
    return question->answer ? 0 : err_set(err, ERR_INTERNAL, "the image worker gave no answer");
}

// "https://index.docker.io/v1/" -> "docker.io", "https://r.example:5000/v2/" -> "r.example:5000".
static char *server_domain(const char *server, struct arena *arena)
{
    const char *host = strstr(server, "://");
    host = host ? host + 3 : server;
    char *domain = arena_strndup(arena, host, strcspn(host, "/"));
    bool hub = !*domain || str_eq(domain, "index.docker.io") || str_eq(domain, "registry-1.docker.io");
    return hub ? arena_strdup(arena, "docker.io") : domain;
}

int engine_registry_login(struct engine *engine, const char *server, const struct engine_login *login, struct arena *arena,
                          char **token, const struct cancel *cancel, struct err *err)
{
    struct question question = { .key = "login" };
    struct image_ref ref;
    char *domain = server_domain(server ? server : "", arena);
    // It must be what a reference may begin with.
    if (image_ref_parse(arena_printf(arena, "%s/x", domain), true, arena, &ref, NULL) < 0 || !str_eq(ref.domain, domain))
        return err_set(err, ERR_INVALID_ARGUMENT, "%.200s is not a registry's address", server);
    int result = ask(engine, "login", domain, NULL, login, &question, cancel, err);
    if (result == 0)
        *token = arena_strdup(arena, json_get_text(question.answer, "token", ""));
    json_decref(question.answer);
    return result;
}

static int ask_repository(struct engine *engine, const char *verb, const char *key, const char *reference, const struct engine_login *login,
                          json_t **out, const struct cancel *cancel, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct question question = { .key = key };
    struct image_ref ref;
    if (image_ref_parse(reference, true, &arena, &ref, err) < 0)
        return -1;
    int result = ask(engine, verb, reference, NULL, login, &question, cancel, err);
    if (result == 0)
        *out = question.answer;
    else
        json_decref(question.answer);
    return result;
}

int engine_registry_lookup(struct engine *engine, const char *reference, const struct engine_login *login, json_t **out,
                           const struct cancel *cancel, struct err *err)
{
    return ask_repository(engine, "lookup", "manifest", reference, login, out, cancel, err);
}

int engine_registry_tags(struct engine *engine, const char *repository, const struct engine_login *login, json_t **out,
                         const struct cancel *cancel, struct err *err)
{
    return ask_repository(engine, "tags", "tags", repository, login, out, cancel, err);
}

// ---- search ---------------------------------------------------------------------------------------------------------

// "host/term" is asked of that host, everything else of docker.io, where official images have a folder of their own.
static const char *split_term(const char *term, char **domain, struct arena *arena)
{
    const char *slash = strchr(term, '/');
    char *first = slash ? arena_strndup(arena, term, (size_t)(slash - term)) : NULL;
    bool host = first && (strpbrk(first, ".:") || str_eq(first, "localhost"));
    *domain = host ? server_domain(first, arena) : arena_strdup(arena, "docker.io");
    const char *name = host ? slash + 1 : term;
    return str_eq(*domain, "docker.io") && str_starts(name, "library/") ? name + strlen("library/") : name;
}

static char *encode(const char *text, struct arena *arena)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~";
    char *out = arena_alloc(arena, 3 * strlen(text) + 1), *at = out;
    for (; *text; text++)
        if (strchr(plain, *text))
            *at++ = *text;
        else
            at += snprintf(at, 4, "%%%02X", (unsigned char)*text);
    return out;
}

int engine_registry_search(struct engine *engine, const char *term, int64_t limit, const struct engine_login *login, json_t **out,
                           const struct cancel *cancel, struct err *err)
{
    enum { TERM_MAX = 4096 };
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct question question = { .key = "search" };
    struct image_ref ref;
    char *domain;
    if (strlen(term) > TERM_MAX || str_starts(term, "http://") || str_starts(term, "https://"))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid repository name: repository name (%.200s) should not have a scheme", term);
    const char *name = split_term(term, &domain, &arena);
    if (image_ref_parse(arena_printf(&arena, "%s/x", domain), true, &arena, &ref, NULL) < 0 || !str_eq(ref.domain, domain))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid index name (%.200s)", domain);
    char *query = arena_printf(&arena, "q=%s&n=%lld", encode(name, &arena), (long long)limit);
    int result = ask(engine, "search", domain, query, login, &question, cancel, err);
    if (result == 0)
        *out = question.answer;
    else
        json_decref(question.answer);
    return result;
}
