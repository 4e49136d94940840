// Running the worker: what it stages is taken over in one transaction, what it reports is passed on.
#include <errno.h>
#include <stdlib.h>

#include "worker/worker.h"
#include "base/file.h"

#define REPORT_LINE_MAX (8u << 20)

// ---- the worker -----------------------------------------------------------------------------------------------------

void worker_done(struct worker *worker)
{
    process_done(&worker->process);
    fd_close(worker->report_fd);
    fd_close(worker->words_fd);
    if (worker->staging)
        image_staging_remove(worker->images, worker->staging);
    free(worker->staging);
}

// Registries may be behind a proxy, which the daemon was told of as everybody is.
static void worker_environment(struct strv *out)
{
    static const char *const passed[] = { "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy" };
    strv_add(out, "LC_ALL=C.UTF-8");
    for (size_t i = 0; i < ARRAY_LEN(passed); i++)
        if (getenv(passed[i]))
            strv_addf(out, "%s=%s", passed[i], getenv(passed[i]));
}

static void worker_arguments(char *const words[], struct strv *out)
{
    strv_add(out, words[0]);
    strv_add(out, WORKER_MODE);
    for (size_t i = 1; words[i]; i++)
        strv_add(out, words[i]);
}

static int write_order(const struct worker *worker, int staging_fd, struct err *err)
{
    const char *order = worker->order;
    return order ? file_write_at(staging_fd, IMAGE_STAGING_ORDER, order, strlen(order), 0600, false, err) : 0;
}

static int spawn_worker(struct worker *worker, char *const argv[], int input_fd, struct err *err)
{
    int pipe_fds[2];
    _cleanup_close_ int staging = image_staging_new(worker->images, &worker->staging, err);
    if (staging < 0 || write_order(worker, staging, err) < 0 || fd_pipe(pipe_fds, err) < 0)
        return -1;
    _cleanup_close_ int write_end = pipe_fds[1];
    worker->report_fd = pipe_fds[0];
    const struct process_io io = { input_fd, write_end, STDERR_FILENO, &staging, 1 };
    _cleanup_strv_ struct strv environment = { 0 }, arguments = { 0 };
    worker_environment(&environment);
    worker_arguments(argv, &arguments);
    return process_spawn(worker->program, -1, arguments.items, environment.items, &io, &worker->process, err);
}

void worker_tell(const struct worker *worker, json_t *object)
{
    worker->progress(worker->context, object);
    json_decref(object);
}

static int take_image(struct worker *worker, json_t *form, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct image_staged staged;
    char *id;
    if (json_decode(&image_staged_table, form, &staged, &arena, NULL, err) < 0 || (worker->ready && worker->ready(worker, &staged, err) < 0) ||
        image_commit_staged(worker->images, worker->staging, &staged, &arena, &id, err) < 0)
        return -1;
    worker->image_len++;
    return worker->told(worker, &staged, id, &arena, err);
}

static int handle_line(struct worker *worker, const char *line, size_t size, struct err *err)
{
    _cleanup_json_ json_t *object = NULL;
    json_t *part;
    if (json_parse(line, size, &object, err) < 0)
        return err_wrap(err, "the image worker's report");
    if ((part = json_object_get(object, "error")))
        return err_set(err, err_class_parse(json_get_text(part, "class", "internal")), "%s",
                       json_get_text(part, "message", "the image worker failed"));
    if ((part = json_object_get(object, "image")))
        return take_image(worker, part, err);
    return worker->line ? worker->line(worker, object, err) : 0;
}

static int read_report(struct worker *worker, const struct cancel *cancel, struct err *err)
{
    _cleanup_buf_ struct buf pending = BUF_INIT(REPORT_LINE_MAX);
    for (;;) {
        if (cancel_wait(cancel, worker->report_fd, -1, err) < 0)
            return -1;
        char *room = buf_reserve(&pending, 65536);
        if (!room)
            return err_set(err, ERR_INTERNAL, "the image worker's report has a line above %u bytes", REPORT_LINE_MAX);
        ssize_t n = read(worker->report_fd, room, 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? err_errno(err, errno, "read the image worker's report") : 0;
        buf_commit(&pending, (size_t)n);
        char *newline;
        while ((newline = memchr(pending.data, '\n', pending.size))) {
            size_t size = (size_t)(newline - pending.data);
            if (handle_line(worker, pending.data, size, err) < 0)
                return -1;
            buf_consume(&pending, size + 1);
        }
    }
}

int worker_run(struct worker *worker, char *const argv[], int input_fd, const struct cancel *cancel, struct err *err)
{
    int status;
    if (spawn_worker(worker, argv, input_fd, err) < 0 || (worker->started && worker->started(worker, err) < 0) || read_report(worker, cancel, err) < 0 ||
        process_wait(&worker->process, &status, err) < 0)
        return -1;
    if (process_exit_code(status) != 0)
        return err_set(err, ERR_INTERNAL, "the image worker ended with exit code %d", process_exit_code(status));
    return 0;
}

// ---- questions and progress -----------------------------------------------------------------------------------------

int worker_answer_layers(struct worker *worker, json_t *diff_ids, struct err *err)
{
    _cleanup_json_ json_t *answer = json_pack("{s:[]}", "have");
    size_t i;
    json_t *diff_id;
    json_array_foreach(diff_ids, i, diff_id) {
        int64_t size = -1;
        const char *text = json_string_value(diff_id);
        if (text && oci_digest_valid(text) && image_layer_size(worker->images, text, &size, err) < 0)
            return -1;
        worker->known_len += size >= 0;
        json_array_append_new(json_object_get(answer, "have"), json_integer(size));
    }
    _cleanup_free_ char *text = json_text(answer), *line = mem_printf("%s\n", text);
    return fd_write_full(worker->words_fd, line, strlen(line), err);
}

json_t *worker_progress(const json_t *part)
{
    const char *status = json_get_text(part, "status", "");
    int64_t current = json_get_int(part, "current", 0), total = json_get_int(part, "total", 0);
    json_t *line = json_pack("{s:s, s:s}", "status", status, "id", json_get_text(part, "id", ""));
    if (total > 0)
        json_object_set_new(line, "progressDetail", json_pack("{s:I, s:I}", "current", (json_int_t)current, "total", (json_int_t)total));
    else if (!str_starts(status, "Pulling from "))
        json_object_set_new(line, "progressDetail", json_object());
    return line;
}

char *worker_remote_words(const struct worker_remote *remote)
{
    _cleanup_json_ json_t *object = json_pack("{s:s*, s:s*, s:s*, s:s*, s:s*, s:[], s:[], s:I, s:I, s:I}", "username", remote->username, "password",
                                              remote->password, "identity_token", remote->identity_token, "registry_token",
                                              remote->registry_token, "certs_dir", remote->certs_dir, "insecure", "mirrors", "downloads",
                                              (json_int_t)remote->downloads, "uploads", (json_int_t)remote->uploads, "attempts",
                                              (json_int_t)remote->attempts);
    for (size_t i = 0; i < remote->insecure->len; i++)
        json_array_append_new(json_object_get(object, "insecure"), json_string(remote->insecure->items[i]));
    for (size_t i = 0; i < remote->mirrors->len; i++)
        json_array_append_new(json_object_get(object, "mirrors"), json_string(remote->mirrors->items[i]));
    _cleanup_free_ char *text = json_text(object);
    return mem_printf("%s\n", text);
}
