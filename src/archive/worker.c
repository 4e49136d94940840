#include "archive/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

#include "archive/archive.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/slice.h"
#include "build/ignore.h"
#include "json/json.h"
#include "kernel/path.h"
#include "view.h"

#define NAMES_SIZE_MAX ((size_t)512 << 20)

struct job {
    const struct verb *verb;
    const char *path, *owner;
    bool keep_kind, sync;
    struct view view;
    int data_fd, upper_fd, lower_fd, root_fd, spec_fd;
    int source_fds[ARCHIVE_ORDER_SOURCES_MAX];
    size_t source_len;
};

// ---- words to the daemon --------------------------------------------------------------------------------------------

static void tell(const char *key, json_t *value)
{
    _cleanup_json_ json_t *object = json_object();
    json_object_set_new(object, key, value);
    _cleanup_free_ char *text = json_text(object);
    printf("%s\n", text);
}

static void tell_error(const struct err *err)
{
    json_t *value = json_object();
    json_object_set_new(value, "class", json_string(err_class_name(err->class)));
    json_object_set_new(value, "errno", json_integer(err->number));
    json_object_set_new(value, "message", json_new_text(err->message));
    tell("error", value);
}

static int tell_stat(const struct job *job, struct err *err)
{
    struct archive_stat stat;
    if (archive_stat(job->root_fd, job->path, &stat, err) < 0)
        return -1;
    json_t *value = json_pack("{s:I, s:I, s:I}", "size", (json_int_t)stat.size, "mode", (json_int_t)stat.mode, "mtime_ns",
                              (json_int_t)stat.mtime_ns);
    json_object_set_new(value, "name", json_new_text(stat.name));
    json_object_set_new(value, "link_target", json_new_text(stat.link_target));
    tell("stat", value);
    return fflush(stdout) == 0 ? 0 : err_errno(err, errno, "report");
}

// A layer that changes nothing needs nobody who takes it.
static void tell_content(bool any)
{
    tell("content", json_boolean(any));
    fflush(stdout);
}

// ---- verbs ----------------------------------------------------------------------------------------------------------

static int run_stat(struct job *job, struct err *err)
{
    return tell_stat(job, err);
}

static int run_get(struct job *job, struct err *err)
{
    return tell_stat(job, err) < 0 ? -1 : archive_get(job->root_fd, job->path, job->data_fd, err);
}

static ssize_t read_data(void *context, void *data, size_t size, struct err *err)
{
    const struct job *job = context;
    ssize_t got;
    do
        got = read(job->data_fd, data, size);
    while (got < 0 && errno == EINTR);
    return got < 0 ? err_errno(err, errno, "read the archive") : got;
}

static int run_put(struct job *job, struct err *err)
{
    struct archive_put options = { .keep_kind = job->keep_kind, .give = !str_empty(job->owner) };
    if (options.give && archive_user(job->root_fd, job->owner, &options.uid, &options.gid, err) < 0)
        return -1;
    if (archive_put(job->root_fd, job->path, &options, read_data, job, err) < 0)
        return -1;
    _cleanup_close_ int root = job->sync ? open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    return root >= 0 && syncfs(root) < 0 ? err_errno(err, errno, "sync") : 0;
}

static int read_spec(const struct job *job, json_t **spec, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT((size_t)16 << 20);
    if (file_read_fd(job->spec_fd, "the order", &text, err) < 0)
        return -1;
    return json_parse(buf_text(&text), text.size, spec, err);
}

// Of an order without a spec: files' own, and no comparison of contents.
static int read_times(const struct job *job, struct archive_times *out, bool *exact, struct strv *stubs, struct err *err)
{
    _cleanup_json_ json_t *spec = NULL;
    const json_t *list;
    *out = (struct archive_times){ .max = -1 };
    *exact = false;
    if (job->spec_fd < 0)
        return 0;
    if (read_spec(job, &spec, err) < 0)
        return -1;
    *out = (struct archive_times){ .same = json_object_get(spec, "time"), .time = json_get_int(spec, "time", 0),
                                    .max = json_get_int(spec, "time_max", -1) };
    *exact = json_get_flag(spec, "exact", false);
    list = json_object_get(spec, "stubs");
    for (size_t i = 0; i < json_array_size(list); i++)
        strv_add(stubs, json_string_value(json_array_get(list, i)));
    return 0;
}

static int run_export(struct job *job, struct err *err)
{
    _cleanup_strv_ struct strv stubs = { 0 };
    struct archive_times times;
    bool exact;
    return read_times(job, &times, &exact, &stubs, err) < 0 ? -1 : archive_export(job->root_fd, &times, job->data_fd, err);
}

static struct archive_layers layers_of(const struct job *job)
{
    return (struct archive_layers){ .upper_fd = job->upper_fd, .merged_fd = job->root_fd, .lower_fd = job->lower_fd };
}

static int run_changes(struct job *job, struct err *err)
{
    const struct archive_layers layers = layers_of(job);
    struct archive_changes changes;
    if (archive_changes(&layers, &changes, err) < 0)
        return -1;
    for (size_t i = 0; i < changes.len; i++) {
        json_t *value = json_pack("{s:i}", "kind", (int)changes.items[i].kind);
        json_object_set_new(value, "path", json_new_text(changes.items[i].path));
        tell("change", value);
    }
    archive_changes_done(&changes);
    return 0;
}

static int run_layer(struct job *job, struct err *err)
{
    _cleanup_strv_ struct strv stubs = { 0 };
    struct archive_layers layers = layers_of(job);
    struct archive_times times;
    layers.content = tell_content;
    layers.stubs = &stubs;
    return read_times(job, &times, &layers.exact, &stubs, err) < 0 ? -1 : archive_layer(&layers, &times, job->data_fd, err);
}

static int run_keep(struct job *job, struct err *err)
{
    _cleanup_strv_ struct strv stubs = { 0 };
    struct archive_layers layers = layers_of(job);
    struct archive_times times;
    struct archive_kept kept;
    layers.stubs = &stubs;
    if (read_times(job, &times, &layers.exact, &stubs, err) < 0 || archive_keep(&layers, &kept, err) < 0)
        return -1;
    tell("kept", json_pack("{s:b, s:I}", "any", kept.any, "size", (json_int_t)kept.size));
    return 0;
}

// ---- of a build -----------------------------------------------------------------------------------------------------

static int run_remove(struct job *job, struct err *err)
{
    _cleanup_free_ char *name = NULL;
    _cleanup_close_ int parent = path_open_parent(job->root_fd, job->path, false, &name, err);
    if (parent < 0)
        return -1;
    return unlinkat(parent, name, 0) < 0 ? err_errno(err, errno, "%s", job->path) : 0;
}

// What is not there was not to be there.
static int remove_path(const struct job *job, const char *path, struct err *err)
{
    _cleanup_free_ char *name = NULL;
    struct err missing = { 0 };
    _cleanup_close_ int parent = path_open_parent(job->root_fd, path, false, &name, &missing);
    if (parent < 0)
        return missing.class == ERR_NOT_FOUND ? 0 : err_set(err, missing.class, "%s", missing.message);
    return file_remove_tree(parent, name, err);
}

// The names come one behind the other, each with its NUL. Extended attributes stay with the client, as with Docker, whose builders lose or leave out
// those of a context's files.
static int run_update(struct job *job, struct err *err)
{
    const struct archive_put options = { .plain = true };
    _cleanup_buf_ struct buf names = BUF_INIT(NAMES_SIZE_MAX);
    if (job->source_len != 1 || file_read_fd(job->source_fds[0], "the order", &names, err) < 0)
        return job->source_len != 1 ? err_set(err, ERR_INTERNAL, "the order lacks a descriptor") : -1;
    for (size_t at = 0; at < names.size; at += strlen(names.data + at) + 1)
        if (remove_path(job, names.data + at, err) < 0)
            return -1;
    return archive_put(job->root_fd, "/", &options, read_data, job, err);
}

struct keeping {
    struct job *job;
    off_t at, begun; // what the file had already
};

// What the file has already, then what comes, which is written down as well.
static ssize_t read_and_keep(void *context, void *data, size_t size, struct err *err)
{
    struct keeping *keeping = context;
    int file = keeping->job->source_fds[0];
    if (keeping->at < keeping->begun) {
        size_t part = (size_t)MIN_OF((off_t)size, keeping->begun - keeping->at);
        off_t at = keeping->at;
        keeping->at += (off_t)part;
        return fd_read_at(file, data, part, at, err) < 0 ? -1 : (ssize_t)part;
    }
    ssize_t got = read_data(keeping->job, data, size, err);
    return got > 0 && fd_write_file(file, data, (size_t)got, err) < 0 ? -1 : got;
}

static int run_list(struct job *job, struct err *err)
{
    bool marked;
    if (job->source_len != 2)
        return err_set(err, ERR_INTERNAL, "the order lacks a descriptor");
    struct keeping keeping = { job, 0, lseek(job->source_fds[0], 0, SEEK_END) };
    if (keeping.begun < 0)
        return err_errno(err, errno, "the order's file");
    if (archive_list(read_and_keep, &keeping, job->source_fds[1], &marked, err) < 0)
        return -1;
    tell("marked", json_boolean(marked));
    return 0;
}

// A list of patterns; NULL without one.
static int take_patterns(const json_t *list, struct arena *arena, const struct ignore **out, struct err *err)
{
    struct strv patterns = { 0 };
    struct ignore *ignore;
    *out = NULL;
    for (size_t i = 0; i < json_array_size(list); i++)
        strv_push_arena(&patterns, arena, json_string_value(json_array_get(list, i)));
    if (patterns.len == 0)
        return 0;
    if (ignore_new(&patterns, arena, &ignore, err) < 0)
        return -1;
    *out = ignore;
    return 0;
}

static int take_sources(const struct job *job, const json_t *list, struct arena *arena, struct archive_source *out, struct err *err)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *from = json_array_get(list, i);
        int64_t tree = json_get_int(from, "tree", -1);
        if (tree < 0 || (size_t)tree >= job->source_len)
            return err_set(err, ERR_INTERNAL, "an order without a source");
        out[i] = (struct archive_source){ .fd = job->source_fds[tree], .path = json_get_text(from, "path", "/"),
                                          .exact = json_get_flag(from, "exact", false), .tar = json_get_flag(from, "tar", false), .required = json_get_text(from, "required", NULL) };
        if (take_patterns(json_object_get(from, "includes"), arena, &out[i].includes, err) < 0)
            return -1;
    }
    return 0;
}

static int tell_found(void *context, size_t source, const struct archive_found *found, struct err *err)
{
    size_t *told = context;
    if ((*told)++ == ARCHIVE_FOUND_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d files that may be archives in one instruction", ARCHIVE_FOUND_MAX);
    json_t *value = json_pack("{s:I, s:b}", "source", (json_int_t)source, "packed", found->packed);
    json_object_set_new(value, "path", json_new_text(found->path));
    tell("found", value);
    return 0;
}

static int run_spec(struct job *job, bool hash, struct err *err)
{
    _cleanup_json_ json_t *spec = NULL;
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    if (read_spec(job, &spec, err) < 0)
        return -1;
    const json_t *list = json_object_get(spec, "sources");
    const char *owner = json_get_text(spec, "owner", "");
    _cleanup_free_ struct archive_source *sources = mem_alloc((json_array_size(list) + 1) * sizeof(*sources));
    struct archive_place place = { .sources = sources, .source_len = json_array_size(list), .target = json_get_text(spec, "target", "/"),
                                         .folder = json_get_flag(spec, "folder", false), .owner = str_empty(owner) ? NULL : owner,
                                         .roots = json_get_flag(spec, "roots", false), .mode = json_get_int(spec, "mode", -1), .chmod = json_get_text(spec, "chmod", NULL),
                                         .time_max = json_get_int(spec, "time_max", -1), .now = json_get_int(spec, "now", 0), .content = tell_content };
    size_t told = 0;
    place.optional = json_get_flag(spec, "optional", false);
    if (take_patterns(json_object_get(spec, "excludes"), &arena, &place.excludes, err) < 0 || take_sources(job, list, &arena, sources, err) < 0)
        return -1;
    for (size_t i = 0; i < place.source_len; i++)
        sources[i].optional = place.optional;
    return hash ? archive_sources(&place, json_get_flag(spec, "tell", false) ? tell_found : NULL, &told, job->data_fd, err) : archive_place(job->root_fd, &place, job->data_fd, err);
}

static int run_sources(struct job *job, struct err *err)
{
    return run_spec(job, true, err);
}

static int run_place(struct job *job, struct err *err)
{
    return run_spec(job, false, err);
}

static const struct verb {
    const char *name;
    int (*run)(struct job *job, struct err *err);
    bool path, data, layers, writes, spec;
} verbs[] = {
    { "stat", run_stat, .path = true },
    { "get", run_get, .path = true, .data = true },
    { "put", run_put, .path = true, .data = true, .writes = true },
    { "export", run_export, .data = true },
    { "changes", run_changes, .layers = true },
    { "layer", run_layer, .data = true, .layers = true },
    { "keep", run_keep, .layers = true, .writes = true },
    { "list", run_list, .data = true },
    { "update", run_update, .data = true, .writes = true },
    { "remove", run_remove, .path = true, .writes = true },
    { "sources", run_sources, .data = true, .spec = true },
    { "place", run_place, .data = true, .spec = true },
};

// ---- the order ------------------------------------------------------------------------------------------------------

static int take_line(struct job *job, struct slice line, int fd, struct err *err)
{
    const struct {
        const char *word;
        int *place;
    } places[] = { { "root", &job->view.tree_fd }, { "data", &job->data_fd }, { "upper", &job->upper_fd }, { "lower", &job->lower_fd },
                   { "spec", &job->spec_fd }, { "users", &job->view.users_fd } };
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        if (slice_eq(line, places[i].word) && *places[i].place < 0) {
            *places[i].place = fd;
            return 0;
        }
    if (slice_eq(line, "source") && job->source_len < ARCHIVE_ORDER_SOURCES_MAX) {
        job->source_fds[job->source_len++] = fd;
        return 0;
    }
    bool read_only = slice_starts(line, "mount-ro /");
    size_t word = strlen(read_only ? "mount-ro " : "mount ");
    if ((!read_only && !slice_starts(line, "mount /")) || job->view.mount_len == ARCHIVE_ORDER_MOUNTS_MAX)
        return err_set(err, ERR_INTERNAL, "not an order: %.*s", (int)MIN_OF(line.size, (size_t)100), line.data);
    return view_add(&job->view, fd, mem_strndup(line.data + word, line.size - word), read_only, err);
}

static int read_order(struct job *job, struct err *err)
{
    char message[ARCHIVE_ORDER_MESSAGE_MAX];
    for (;;) {
        int fds[ARCHIVE_ORDER_FDS_MAX];
        size_t fd_len = ARRAY_LEN(fds), used = 0;
        ssize_t got = fd_recv(STDIN_FILENO, message, sizeof(message), fds, &fd_len, err);
        if (got <= 0)
            return (int)got;
        struct slice rest = { message, (size_t)got }, line;
        while (slice_cut(&rest, '\n', &line))
            if (line.size > 0 && (used == fd_len ? err_set(err, ERR_INTERNAL, "an order without a descriptor")
                                                 : take_line(job, line, fds[used++], err)) < 0)
                return -1;
    }
}

static int check_order(const struct job *job, struct err *err)
{
    if (job->view.tree_fd < 0 || (job->verb->data && job->data_fd < 0) || (job->verb->spec && job->spec_fd < 0))
        return err_set(err, ERR_INTERNAL, "the order lacks a descriptor");
    return 0;
}

// ---- the whole ------------------------------------------------------------------------------------------------------

static const struct option options[] = { { "keep-kind", no_argument, NULL, 'k' }, { "owner", required_argument, NULL, 'o' }, { NULL, 0, NULL, 0 } };

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (str_eq(name, verbs[i].name))
            return &verbs[i];
    return NULL;
}

static int parse_arguments(int argc, char **argv, struct job *job)
{
    job->verb = argc > 1 ? find_verb(argv[1]) : NULL;
    if (!job->verb)
        return -1;
    for (int option; (option = getopt_long(argc - 1, argv + 1, "", options, NULL)) != -1;) {
        if (option == 'k')
            job->keep_kind = true;
        else if (option == 'o')
            job->owner = optarg;
        else
            return -1;
    }
    if (argc - 1 - optind != job->verb->path)
        return -1;
    job->path = job->verb->path ? argv[1 + optind] : NULL;
    return 0;
}

static int work(struct job *job, struct err *err)
{
    job->root_fd = view_enter(&job->view, job->verb->writes, err);
    return job->root_fd < 0 ? -1 : job->verb->run(job, err);
}

static int end(struct job *job, int done, const struct err *err)
{
    if (done < 0)
        tell_error(err);
    else
        tell("done", json_true());
    view_done(&job->view);
    return fflush(stdout) != 0 || done < 0; // in any case: a forked one ends without it
}

static int run(struct job *job, struct err *err)
{
    if (close_range(3, ~0U, 0) < 0)
        return err_errno(err, errno, "close_range");
    return read_order(job, err) < 0 || check_order(job, err) < 0 ? -1 : work(job, err);
}

#define JOB_INIT { .view = VIEW_INIT, .data_fd = -1, .upper_fd = -1, .lower_fd = -1, .root_fd = -1, .spec_fd = -1 }

int archive_worker_main(int argc, char **argv)
{
    struct job job = JOB_INIT;
    struct err err = { 0 };
    if (parse_arguments(argc, argv, &job) < 0) {
        fprintf(stderr, "berth-archive is started by berthd.\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN); // a daemon that is gone is a write error
    int done = run(&job, &err);
    return end(&job, done, &err);
}

// ---- forked ---------------------------------------------------------------------------------------------------------

static int compare_fds(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

// Everything but these goes: a parent's descriptors are none of ours.
static void close_others(int *kept, size_t len)
{
    qsort(kept, len, sizeof(*kept), compare_fds);
    int from = 3;
    for (size_t i = 0; i < len; i++) {
        if (kept[i] > from)
            close_range((unsigned)from, (unsigned)kept[i] - 1, 0);
        from = MAX_OF(from, kept[i] + 1);
    }
    close_range((unsigned)from, ~0U, 0);
}

static void drop_parents(const struct archive_order *order, const struct job *job)
{
    int kept[4 + ARRAY_LEN(order->mounts)] = { order->tree_fd, order->data_fd, order->upper_fd, order->lower_fd };
    size_t len = 4;
    for (size_t i = 0; i < job->view.mount_len; i++)
        kept[len++] = job->view.mounts[i].fd;
    close_others(kept, len);
}

static int run_order(const struct archive_order *order, struct job *job, struct err *err)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    job->verb = find_verb(order->verb);
    if (!job->verb || (job->verb->path && !order->path))
        return err_set(err, ERR_INVALID_ARGUMENT, "unknown verb %.64s", order->verb);
    for (size_t i = 0; i < order->mount_len; i++)
        if (view_add(&job->view, order->mounts[i].fd, mem_strdup(order->mounts[i].target), false, err) < 0)
            return -1;
    drop_parents(order, job);
    return check_order(job, err) < 0 ? -1 : work(job, err);
}

_Noreturn void archive_worker_run(const struct archive_order *order)
{
    struct job job = JOB_INIT;
    struct err err = { 0 };
    signal(SIGPIPE, SIG_IGN);
    if (dup2(order->report_fd, STDOUT_FILENO) < 0)
        _exit(1);
    job.path = order->path;
    job.owner = order->owner;
    job.keep_kind = order->keep_kind;
    job.sync = order->sync;
    job.view.tree_fd = order->tree_fd;
    job.data_fd = order->data_fd;
    job.upper_fd = order->upper_fd;
    job.lower_fd = order->lower_fd;
    int done = run_order(order, &job, &err);
    _exit(end(&job, done, &err));
}
