// load, import and pull: the worker stages, we take over. And save.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "imagetool_private.h"
#include "base/file.h"

static const struct cancel never = CANCEL_NEVER;

static int open_input(const char *name, struct err *err)
{
    if (!name || str_eq(name, "-"))
        return fd_dup(STDIN_FILENO, err);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? err_errno(err, errno, "%s", name) : fd;
}

// A line for each step that ends; bars are for daemons' clients.
int imagetool_say(void *context, json_t *object)
{
    const struct imagetool *tool = context;
    const char *status = json_get_text(object, "status", ""), *id = json_get_text(object, "id", "");
    const json_t *detail = json_object_get(object, "progressDetail");
    if (!tool->quiet && (!detail || !json_object_get(detail, "current")))
        fprintf(stderr, "%s%s%s\n", id, *id ? ": " : "", status);
    return 0;
}

static int tell(struct worker *worker, const struct image_staged *staged, const char *id, struct arena *arena, struct err *err)
{
    const struct imagetool *tool = worker->owner;
    for (size_t i = 0; i < staged->references.len && !tool->quiet; i++)
        fprintf(stderr, "%s\n", staged->references.items[i]);
    puts(id);
    return 0;
}

static void add_option(struct strv *argv, struct arena *arena, const char *flag, const char *value)
{
    if (!str_empty(value))
        strv_push_arena(argv, arena, arena_printf(arena, "%s=%s", flag, value));
}

static int run(struct worker *worker, struct visit *visit, const struct strv *argv, int input, struct err *err)
{
    worker->told = tell;
    worker->progress = imagetool_say;
    worker->context = worker->owner;
    int result = worker_run(worker, argv->items, input, &never, err);
    return result == 0 && worker->image_len == 0 ? err_set(err, ERR_INVALID_ARGUMENT, "it holds no image") : result;
}

int imagetool_load(const struct imagetool *tool, char **words, size_t len, struct err *err)
{
    _cleanup_visit_ struct visit visit;
    struct strv argv = { 0 };
    _cleanup_close_ int input = open_input(tool->file, err);
    if (input < 0 || visit_begin(&visit, tool, err) < 0)
        return -1;
    _cleanup_(worker_done) struct worker worker = WORKER_INIT_OF(visit.images, IMAGETOOL_PROGRAM, (void *)tool);
    strv_push_arena(&argv, &visit.arena, "berth-image");
    strv_push_arena(&argv, &visit.arena, "load");
    add_option(&argv, &visit.arena, "--max-inflate-ratio", tool->inflate_ratio);
    return run(&worker, &visit, &argv, input, err);
}

int imagetool_import(const struct imagetool *tool, char **words, size_t len, struct err *err)
{
    _cleanup_visit_ struct visit visit;
    struct strv argv = { 0 };
    struct image_ref ref;
    _cleanup_close_ int input = open_input(words[0], err);
    if (input < 0 || visit_begin(&visit, tool, err) < 0 ||
        (len > 1 && image_ref_parse(words[1], true, &visit.arena, &ref, err) < 0))
        return -1;
    _cleanup_(worker_done) struct worker worker = WORKER_INIT_OF(visit.images, IMAGETOOL_PROGRAM, (void *)tool);
    strv_push_arena(&argv, &visit.arena, "berth-image");
    strv_push_arena(&argv, &visit.arena, "import");
    add_option(&argv, &visit.arena, "--max-inflate-ratio", tool->inflate_ratio);
    add_option(&argv, &visit.arena, "--reference", len > 1 ? words[1] : NULL);
    add_option(&argv, &visit.arena, "--message", tool->message);
    add_option(&argv, &visit.arena, "--platform", tool->platform);
    for (size_t i = 0; i < tool->changes.len; i++)
        add_option(&argv, &visit.arena, "--change", tool->changes.items[i]);
    return run(&worker, &visit, &argv, input, err);
}

// ---- pull -----------------------------------------------------------------------------------------------------------

static int take_line(struct worker *worker, json_t *object, struct err *err)
{
    json_t *diff_ids = json_object_get(object, "diff_ids"), *part = json_object_get(object, "progress");
    if (diff_ids)
        return worker_answer_layers(worker, diff_ids, err);
    if (part)
        worker_tell(worker, worker_progress(part));
    return 0;
}

int imagetool_words(const struct imagetool *tool, const struct image_ref *ref, struct arena *arena, int fd, struct err *err)
{
    struct distribution_login login;
    if (distribution_login_find(ref->domain, arena, &login, err) < 0)
        return -1;
    const struct worker_remote remote = { login.username, login.password, login.identity_token, login.registry_token,
                                          tool->remote.certs_dir, &tool->remote.insecure, &tool->remote.mirrors, 0, 0, 0 };
    char *words = worker_remote_words(&remote);
    int result = fd_write_full(fd, words, strlen(words), err);
    explicit_bzero(words, strlen(words));
    free(words);
    return result;
}

int imagetool_pull(const struct imagetool *tool, char **words, size_t len, struct err *err)
{
    _cleanup_visit_ struct visit visit;
    struct strv argv = { 0 };
    struct image_ref ref;
    int ends[2];
    if (visit_begin(&visit, tool, err) < 0 || image_ref_parse(words[0], true, &visit.arena, &ref, err) < 0)
        return -1;
    const char *name = arena_printf(&visit.arena, "%s/%s%s%s", ref.domain, ref.path, ref.digest ? "@" : ":", ref.digest ? ref.digest : ref.tag);
    // Of several processes that want the same one fetches; the others then find its layers.
    _cleanup_close_ int turn = image_pull_turn(visit.images, name, &never, err);
    if (turn < 0 || fd_pipe(ends, err) < 0)
        return -1;
    _cleanup_close_ int read_end = ends[0];
    _cleanup_(worker_done) struct worker worker = WORKER_INIT_OF(visit.images, IMAGETOOL_PROGRAM, (void *)tool);
    worker.words_fd = ends[1];
    worker.line = take_line;
    strv_push_arena(&argv, &visit.arena, "berth-image");
    strv_push_arena(&argv, &visit.arena, "fetch");
    add_option(&argv, &visit.arena, "--platform", tool->platform);
    add_option(&argv, &visit.arena, "--max-inflate-ratio", tool->inflate_ratio);
    strv_push_arena(&argv, &visit.arena, name);
    return imagetool_words(tool, &ref, &visit.arena, worker.words_fd, err) < 0 ? -1 : run(&worker, &visit, &argv, read_end, err);
}

// ---- save -----------------------------------------------------------------------------------------------------------

static int give(void *context, int pipe_fd, size_t size)
{
    const int *output = context;
    char data[65536];
    while (size > 0) {
        ssize_t got = read(pipe_fd, data, MIN_OF(size, sizeof(data)));
        if (got <= 0 || fd_write_full(*output, data, (size_t)got, NULL) < 0)
            return -1;
        size -= (size_t)got;
    }
    return 0;
}

static int save_to(struct visit *visit, const struct strv *names, int output, struct err *err)
{
    if (worker_save(visit->images, IMAGETOOL_PROGRAM, names, give, &output, &never, err) == 0)
        return 0;
    return err->class == ERR_CANCELLED ? err_set(err, ERR_INTERNAL, "the archive can't be written") : -1;
}

// A file is there whole or not at all.
static int save_file(struct visit *visit, const struct strv *names, const char *file, struct err *err)
{
    _cleanup_free_ char *part = mem_printf("%s.part", file);
    _cleanup_close_ int output = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (output < 0)
        return err_errno(err, errno, "%s", part);
    if (save_to(visit, names, output, err) < 0) {
        unlink(part);
        return -1;
    }
    return rename(part, file) < 0 ? err_errno(err, errno, "%s", file) : 0;
}

int imagetool_save(const struct imagetool *tool, char **words, size_t len, struct err *err)
{
    _cleanup_visit_ struct visit visit;
    struct strv names = { 0 };
    if (!tool->file && isatty(STDOUT_FILENO))
        return err_set(err, ERR_INVALID_ARGUMENT, "an archive is not for a terminal: give a file by --file, or redirect it");
    if (visit_begin(&visit, tool, err) < 0)
        return -1;
    for (size_t i = 0; i < len; i++)
        strv_push_arena(&names, &visit.arena, words[i]);
    return tool->file ? save_file(&visit, &names, tool->file, err) : save_to(&visit, &names, STDOUT_FILENO, err);
}
