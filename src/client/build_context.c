// The walk decides what goes along, tar(1) writes it: it gets the names, and no folder to enter by itself.
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <sys/mman.h>

#include "base/file.h"
#include "base/num.h"
#include "build/dockerfile.h"
#include "client/build_context.h"

#define PEEK 512 // bytes that tell an archive

static int no_context(struct err *err, const char *message)
{
    return err_set(err, ERR_INVALID_ARGUMENT, "unable to prepare context: %s", message);
}

// ---- the Dockerfile -------------------------------------------------------------------------------------------------

// The part of `path` below `folder`; NULL when it is elsewhere.
static const char *below(const char *path, const char *folder)
{
    size_t size = strlen(folder);
    if (strncmp(path, folder, size) != 0 || (size > 1 && path[size] != '/'))
        return NULL;
    path += size;
    return path + (*path == '/');
}

// A Dockerfile that is not in the context goes along under a name of its own.
static int bring_along(struct call *call, struct build_context *context, struct err *err)
{
    const char *parent = getenv("TMPDIR");
    char *folder = mem_printf("%s/berth-build-XXXXXX", str_empty(parent) ? "/tmp" : parent), random[21];
    if (!mkdtemp(folder)) {
        err_errno(err, errno, "create %s", folder);
        free(folder);
        return -1;
    }
    random_hex(random, 20);
    context->extra = folder;
    context->extra_name = context->dockerfile = arena_printf(&call->arena, ".dockerfile.%s", random);
    const char *path = arena_printf(&call->arena, "%s/%s", folder, context->extra_name);
    return file_write_at(AT_FDCWD, path, buf_text(&context->dockerfile_text), context->dockerfile_text.size, 0600, false, err);
}

static int find_dockerfile(struct call *call, const char *file, struct build_context *context, struct err *err)
{
    const char *path = file ? file : arena_printf(&call->arena, "%s/Dockerfile", context->folder);
    if (str_eq(file, "-"))
        return file_read_fd(STDIN_FILENO, "Dockerfile", &context->dockerfile_text, err) < 0 ? -1 : bring_along(call, context, err);
    if (!file && access(path, F_OK) < 0 && access(arena_printf(&call->arena, "%s/dockerfile", context->folder), F_OK) == 0)
        path = arena_printf(&call->arena, "%s/dockerfile", context->folder);
    _cleanup_free_ char *real = realpath(path, NULL);
    if (!real)
        return no_context(err, arena_printf(&call->arena, "unable to evaluate symlinks in Dockerfile path: lstat %s: %s", path,
                                            errno == ENOENT ? "no such file or directory" : strerror(errno)));
    if (file_read_at(AT_FDCWD, real, &context->dockerfile_text, err) < 0)
        return -1;
    // The name as it is given, where that is in the context: a link there is the daemon's to follow.
    const char *inside = file ? NULL : path + strlen(context->folder) + 1;
    if (!inside)
        inside = below(real, context->folder);
    if (!inside)
        return bring_along(call, context, err);
    context->dockerfile = arena_strdup(&call->arena, inside);
    return 0;
}

// ---- .dockerignore --------------------------------------------------------------------------------------------------

// "NAME.dockerignore" beside the Dockerfile, else ".dockerignore" at the top. 0: there is none.
static int read_ignore(struct call *call, const struct build_context *context, const char *file, struct buf *text, struct err *err)
{
    const char *own = file && !str_eq(file, "-") ? arena_printf(&call->arena, "%s.dockerignore", file)
                                                 : arena_printf(&call->arena, "%s/Dockerfile.dockerignore", context->folder);
    const char *common = arena_printf(&call->arena, "%s/.dockerignore", context->folder);
    const char *path = access(own, F_OK) == 0 ? own : common;
    if (access(path, F_OK) < 0)
        return 0;
    return file_read_at(AT_FDCWD, path, text, err) < 0 ? -1 : 1;
}

// The daemon needs both files, whatever the patterns say of them.
static void keep(struct buf *text, const struct ignore *ignore, const char *name)
{
    if (name && ignore_match(ignore, name))
        buf_addf(text, "\n!%s", name);
}

static int find_ignore(struct call *call, const char *file, struct build_context *context, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(5u << 20);
    int there = read_ignore(call, context, file, &text, err);
    if (there <= 0)
        return there;
    if (ignore_parse((struct slice){ buf_text(&text), text.size }, &call->arena, &context->ignore, err) < 0)
        return err_wrap(err, "error checking context");
    keep(&text, context->ignore, ".dockerignore");
    keep(&text, context->ignore, context->extra ? NULL : context->dockerfile);
    return ignore_parse((struct slice){ buf_text(&text), text.size }, &call->arena, &context->ignore, err);
}

// ---- where it comes from --------------------------------------------------------------------------------------------

static bool is_remote(const char *place)
{
    static const char *const starts[] = { "http://", "https://", "git://", "git@", "github.com/" };
    for (size_t i = 0; i < ARRAY_LEN(starts); i++)
        if (str_starts(place, starts[i]))
            return true;
    return false;
}

int build_context_find(struct call *call, const char *place, const char *file, struct build_context *out, struct err *err)
{
    if (str_eq(place, "-") && str_eq(file, "-"))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid argument: can't use stdin for both build context and dockerfile");
    out->dockerfile = file;
    if (str_eq(place, "-"))
        return 0;
    if (is_remote(place)) {
        out->remote = place;
        return str_eq(file, "-") ? no_context(err, "a Dockerfile from stdin needs a folder as context") : 0;
    }
    _cleanup_free_ char *real = realpath(place, NULL);
    struct stat there;
    if (!real || stat(real, &there) < 0)
        return no_context(err, arena_printf(&call->arena, "path \"%s\" not found", place));
    if (!S_ISDIR(there.st_mode))
        return no_context(err, arena_printf(&call->arena, "context must be a directory: %s", place));
    out->folder = arena_strdup(&call->arena, real);
    return find_dockerfile(call, file, out, err) < 0 ? -1 : find_ignore(call, file, out, err);
}

// ---- the walk -------------------------------------------------------------------------------------------------------

struct walk {
    const struct build_context *context;
    FILE *names; // each ended by a NUL
    size_t top; // bytes of the context's own path
};

// What is known of a folder on the way down: which patterns match it, and whether its name is written.
struct folder {
    bool written;
    bool matches[];
};

// A name and before it those of the folders above: one that is left out goes along for what is taken back below it.
static void write_name(const struct walk *walk, const FTSENT *entry, const char *path)
{
    struct folder *folder = entry->fts_pointer;
    if (entry->fts_level == 0 || (folder && folder->written))
        return;
    write_name(walk, entry->fts_parent, path);
    fwrite(path + walk->top + 1, 1, entry->fts_pathlen - walk->top - 1, walk->names);
    fputc(0, walk->names);
    if (folder)
        folder->written = true;
}

// 1 where the entry goes along, 0 where not; a folder's patterns are kept for what is below it.
static bool goes_along(const struct walk *walk, FTSENT *entry)
{
    const struct ignore *ignore = walk->context->ignore;
    const struct folder *above = entry->fts_parent->fts_pointer;
    struct folder *mine = mem_alloc(sizeof(*mine) + (ignore ? ignore_len(ignore) : 0));
    const char *name = entry->fts_path + walk->top + 1;
    bool out = ignore && ignore_match_below(ignore, name, entry->fts_level > 1 ? above->matches : NULL, mine->matches);
    if (entry->fts_info == FTS_D)
        entry->fts_pointer = mine;
    else
        free(mine);
    return !out;
}

static int visit(struct walk *walk, FTS *tree, FTSENT *entry, struct err *err)
{
    if (entry->fts_info == FTS_DP) {
        free(entry->fts_pointer);
        entry->fts_pointer = NULL;
        return 0;
    }
    if (entry->fts_level == 0 && entry->fts_info == FTS_D)
        return 0;
    bool along = entry->fts_level == 0 || goes_along(walk, entry);
    bool error = entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR || entry->fts_info == FTS_NS;
    if (error && along)
        return err_errno(err, entry->fts_errno, "error checking context: %s", entry->fts_path);
    if (along && !S_ISSOCK(entry->fts_statp->st_mode))
        write_name(walk, entry, entry->fts_path);
    if (!along && entry->fts_info == FTS_D && !ignore_takes_back_below(walk->context->ignore, entry->fts_path + walk->top + 1))
        fts_set(tree, entry, FTS_SKIP);
    return 0;
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

// The names of what goes along, in a file without a name.
static int list_names(const struct build_context *context, struct err *err)
{
    char *const roots[] = { (char *)context->folder, NULL };
    struct walk walk = { .context = context, .top = str_eq(context->folder, "/") ? 0 : strlen(context->folder) };
    _cleanup_close_ int fd = memfd_create("names", MFD_CLOEXEC);
    FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, by_name);
    int copy = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3), result = 0;
    walk.names = copy < 0 ? NULL : fdopen(copy, "w");
    if (!tree || !walk.names)
        result = err_errno(err, errno, "list the context");
    for (FTSENT *entry; result == 0 && (errno = 0, entry = fts_read(tree));)
        result = visit(&walk, tree, entry, err);
    if (result == 0 && errno)
        result = err_errno(err, errno, "list the context");
    if (walk.names && fclose(walk.names) != 0 && result == 0)
        result = err_errno(err, errno, "list the context");
    if (tree)
        fts_close(tree);
    if (result == 0 && lseek(fd, 0, SEEK_SET) == 0)
        return take_fd(&fd);
    return result < 0 ? -1 : err_errno(err, errno, "list the context");
}

// ---- the tar --------------------------------------------------------------------------------------------------------

static int start(struct build_context *context, char *const argv[], int in, const int *keep, size_t keep_len, struct err *err)
{
    int pipe[2];
    _cleanup_free_ char *path = process_find(argv[0]);
    if (!path)
        return err_set(err, ERR_NOT_FOUND, "build needs %s, which is not in PATH", argv[0]);
    if (fd_pipe(pipe, err) < 0)
        return -1;
    struct process_io io = { .in = in, .out = pipe[1], .error = STDERR_FILENO, .keep = keep, .keep_len = keep_len };
    int result = process_spawn(path, -1, argv, environ, &io, &context->packer, err);
    fd_close(pipe[1]);
    if (result < 0)
        fd_close(pipe[0]);
    else
        context->fd = pipe[0];
    return result;
}

static int pack_folder(struct build_context *context, bool compress, struct err *err)
{
    char *argv[24];
    size_t len = 0;
    _cleanup_close_ int names = context->folder ? list_names(context, err) : -1;
    static const char *const always[] = { "tar", "--create", "--file=-", "--format=gnu", "--owner=0", "--group=0", "--numeric-owner", "--no-recursion",
                                          "--null", "--verbatim-files-from" };
    if (context->folder && names < 0)
        return -1;
    for (; len < ARRAY_LEN(always); len++)
        argv[len] = (char *)always[len];
    if (compress)
        argv[len++] = (char *)"--gzip";
    const char *const folder[] = { "-C", context->folder, "-T", "/dev/fd/3" }, *const extra[] = { "-C", context->extra, context->extra_name };
    for (size_t i = 0; context->folder && i < ARRAY_LEN(folder); i++)
        argv[len++] = (char *)folder[i];
    for (size_t i = 0; context->extra && i < ARRAY_LEN(extra); i++)
        argv[len++] = (char *)extra[i];
    argv[len] = NULL;
    return start(context, argv, -1, &names, context->folder ? 1 : 0, err);
}

static bool is_archive(const char *head, size_t size)
{
    static const struct {
        const char *bytes;
        size_t size;
    } magic[] = { { "\x1f\x8b", 2 }, { "BZh", 3 }, { "\xfd" "7zXZ", 6 }, { "\x28\xb5\x2f\xfd", 4 } };
    for (size_t i = 0; i < ARRAY_LEN(magic); i++)
        if (size >= magic[i].size && memcmp(head, magic[i].bytes, magic[i].size) == 0)
            return true;
    return size >= 262 && memcmp(head + 257, "ustar", 5) == 0;
}

// What has been read of standard input, and then the rest of it: as one stream by cat(1).
static int pack_stream(struct build_context *context, const char *head, size_t size, struct err *err)
{
    char *const argv[] = { (char *)"cat", (char *)"/dev/fd/3", (char *)"-", NULL };
    _cleanup_close_ int fd = memfd_create("head", MFD_CLOEXEC);
    if (fd < 0 || fd_write_full(fd, head, size, err) < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return err_errno(err, errno, "hold standard input");
    return start(context, argv, STDIN_FILENO, &fd, 1, err);
}

// Standard input is a tar, or the Dockerfile of a build without context.
static int pack_input(struct call *call, struct build_context *context, struct err *err)
{
    char head[PEEK];
    size_t size = 0;
    for (ssize_t got; size < sizeof(head); size += (size_t)got) {
        got = read(STDIN_FILENO, head + size, sizeof(head) - size);
        if (got < 0)
            return err_errno(err, errno, "read standard input");
        if (got == 0)
            break;
    }
    if (is_archive(head, size))
        return pack_stream(context, head, size, err);
    if (context->dockerfile)
        return err_set(err, ERR_INVALID_ARGUMENT, "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles");
    buf_add(&context->dockerfile_text, head, size);
    if (size == sizeof(head) && file_read_fd(STDIN_FILENO, "Dockerfile", &context->dockerfile_text, err) < 0)
        return -1;
    return bring_along(call, context, err) < 0 ? -1 : pack_folder(context, false, err);
}

int build_context_pack(struct call *call, struct build_context *context, bool compress, struct err *err)
{
    if (context->remote)
        return 0;
    return context->folder ? pack_folder(context, compress, err) : pack_input(call, context, err);
}

int build_context_packed(struct build_context *context, struct err *err)
{
    int status;
    if (context->packer.pid == 0)
        return 0;
    fd_close(context->fd);
    context->fd = -1;
    if (process_wait(&context->packer, &status, err) < 0)
        return -1;
    return process_exit_code(status) ? err_set(err, ERR_INTERNAL, "packing the context ended with exit code %d", process_exit_code(status)) : 0;
}

void build_context_done(struct build_context *context)
{
    struct err ignored;
    process_done(&context->packer);
    if (context->fd >= 0)
        fd_close(context->fd);
    buf_done(&context->dockerfile_text);
    if (context->extra)
        file_remove_tree(AT_FDCWD, context->extra, &ignored);
    free(context->extra);
}
