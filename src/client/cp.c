// cp: a tar stream to or from the daemon; what becomes of it here is tar(1)'s work.
//
// The rules are cp's. Into a folder that is there, the source gets its own name in it ("source/.": its contents do). Into a name that is
// not there, the source gets that name. A folder never replaces a file.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "client/client_private.h"
#include "client/text.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/process.h"

#define GO_DIR (INT64_C(1) << 31)
#define GO_SYMLINK (INT64_C(1) << 27)
#define GO_SPECIAL (INT64_C(0x7) << 24 | INT64_C(1) << 21) // sockets, pipes, devices

struct place {
    const char *container; // NULL: here
    const char *path;
};

struct entry { // what is at the far end
    bool there, folder, link, special;
    unsigned mode;
    int64_t size, mtime_ns;
    const char *target;
};

static struct place parse_place(struct call *call, const char *text)
{
    const char *colon = strchr(text, ':');
    if (*text == '/' || *text == '.' || !colon || colon == text)
        return (struct place){ NULL, text };
    return (struct place){ arena_strndup(&call->arena, text, (size_t)(colon - text)), colon + 1 };
}

// ---- paths ----------------------------------------------------------------------------------------------------------

static bool ends_in_slash(const char *path)
{
    size_t size = strlen(path);
    return size && path[size - 1] == '/';
}

static bool means_contents(const char *path)
{
    size_t size = strlen(path);
    return str_eq(path, ".") || (size >= 2 && str_eq(path + size - 2, "/."));
}

// Without "/." and slashes at the end.
static char *bare(struct call *call, const char *path)
{
    size_t size = strlen(path);
    while (size > 1 && (path[size - 1] == '/' || (path[size - 1] == '.' && path[size - 2] == '/')))
        size--;
    return arena_strndup(&call->arena, path, size);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static const char *folder_of(struct call *call, const char *path)
{
    const char *slash = strrchr(path, '/');
    return !slash ? "." : slash == path ? "/" : arena_strndup(&call->arena, path, (size_t)(slash - path));
}

// ---- the far end ----------------------------------------------------------------------------------------------------

static void put_archive(struct buf *path, const struct place *place, const char *inside)
{
    path_put(path, "/containers/", place->container, "/archive");
    query_add(path, "path", inside);
}

static int read_stat(struct call *call, const struct http_exchange *x, struct entry *out, struct err *err)
{
    _cleanup_buf_ struct buf text = BUF_INIT(65536);
    _cleanup_json_ json_t *stat = NULL;
    struct slice header;
    if (!http_exchange_header(x, "X-Docker-Container-Path-Stat", &header) || !base64_decode(header, &text) ||
        json_parse(buf_text(&text), text.size, &stat, err) < 0)
        return err_set(err, ERR_INTERNAL, "the daemon's answer has no X-Docker-Container-Path-Stat");
    int64_t mode = json_get_int(stat, "mode", 0);
    *out = (struct entry){ .there = true, .folder = mode & GO_DIR, .link = mode & GO_SYMLINK, .special = mode & GO_SPECIAL, .mode = (unsigned)mode & 0777,
                           .size = json_get_int(stat, "size", 0), .target = arena_strdup(&call->arena, json_get_text(stat, "linkTarget", "")) };
    clock_parse(slice_of(json_get_text(stat, "mtime", "")), &out->mtime_ns);
    return 0;
}

// Not there is no error.
static int stat_far(struct call *call, const struct place *place, const char *inside, struct entry *out, struct err *err)
{
    _cleanup_buf_ struct buf path = PATH_INIT;
    struct http_exchange x;
    *out = (struct entry){ 0 };
    put_archive(&path, place, inside);
    if (api_open(call->client, &x, err) < 0)
        return -1;
    int result = api_send(call->client, &x, "HEAD", buf_text(&path), NULL, NULL, err);
    if (result == 0)
        result = read_stat(call, &x, out, err);
    else if (x.status == 404)
        result = 0;
    api_close(call->client, &x);
    return result;
}

// ---- tar ------------------------------------------------------------------------------------------------------------

// For s,^old,new,: what sed takes for more than itself.
static void put_escaped(struct buf *out, const char *text, const char *special)
{
    for (; *text; text++)
        if (strchr(special, *text))
            buf_addf(out, "\\%c", *text);
        else
            buf_addc(out, *text);
}

static int spawn_tar(char *const argv[], int in, int out, struct process *process, struct err *err)
{
    _cleanup_free_ char *path = process_find("tar");
    struct process_io io = { .in = in, .out = out, .error = STDERR_FILENO };
    if (!path)
        return err_set(err, ERR_NOT_FOUND, "cp needs tar, which is not in PATH");
    return process_spawn(path, -1, argv, environ, &io, process, err);
}

static int wait_tar(struct process *process, struct err *err)
{
    int status;
    if (process_wait(process, &status, err) < 0)
        return -1;
    return process_exit_code(status) ? err_set(err, ERR_INTERNAL, "tar ended with exit code %d", process_exit_code(status)) : 0;
}

// ---- from a container -----------------------------------------------------------------------------------------------

struct target {
    const char *folder; // that is there, or that we make
    const char *file; // the name of a single file; NULL: by the archive
    bool replaces; // what has that name in `folder` is no choice of the user's: a link there is not followed
    bool strip; // the archive's top folder becomes `folder`
};

static int choose_target(struct call *call, const char *source, const char *path, const struct entry *entry, struct target *out, struct err *err)
{
    struct stat here;
    bool there = stat(path, &here) == 0, folder = there && S_ISDIR(here.st_mode);
    const char *plain = bare(call, path), *parent = folder_of(call, plain);
    *out = (struct target){ 0 };
    if (folder) {
        *out = (struct target){ .folder = path, .strip = entry->folder && means_contents(source) };
        if (!entry->folder)
            out->file = base_name(bare(call, source));
        out->replaces = true;
        return 0;
    }
    if (entry->folder) {
        if (there)
            return err_set(err, ERR_INVALID_ARGUMENT, "cannot copy directory");
        if (mkdir(plain, 0755) < 0)
            return err_set(err, ERR_NOT_FOUND, "invalid output path: directory \"%s\" does not exist", parent);
        *out = (struct target){ .folder = plain, .strip = true };
        return 0;
    }
    if (ends_in_slash(path))
        return err_set(err, ERR_INVALID_ARGUMENT, there ? "not a directory" : "destination directory must exist");
    if (access(parent, F_OK) < 0)
        return err_set(err, ERR_NOT_FOUND, "invalid output path: directory \"%s\" does not exist", parent);
    *out = (struct target){ .folder = parent, .file = base_name(plain) };
    return 0;
}

// The body through tar's standard input.
int body_to_tar(struct http_exchange *x, char *const argv[], int out, struct err *err)
{
    struct process tar = PROCESS_NONE;
    int pipe[2];
    if (fd_pipe(pipe, err) < 0)
        return -1;
    int result = spawn_tar(argv, pipe[0], out, &tar, err);
    fd_close(pipe[0]);
    struct err copying;
    err_clear(&copying);
    int copied = result == 0 ? copy_body(x, pipe[1], &copying) : 0;
    fd_close(pipe[1]);
    if (result == 0)
        result = wait_tar(&tar, err);
    if (result == 0 && copied < 0)
        *err = copying;
    return result < 0 || copied < 0 ? -1 : 0;
}

// What is no plain file, as it stands in the archive: a link (of which the header tells where it leads inside), a pipe, a device.
static int extract_special(struct http_exchange *x, const struct target *target, struct err *err)
{
    _cleanup_buf_ struct buf rename = BUF_INIT(65536);
    buf_adds(&rename, "--transform=flags=r;s,^.*$,");
    put_escaped(&rename, target->file, "\\&,");
    buf_addc(&rename, ',');
    char *const argv[] = { (char *)"tar", (char *)"-xf", (char *)"-", (char *)"-C", (char *)target->folder, (char *)buf_text(&rename), NULL };
    return body_to_tar(x, argv, -1, err);
}

static int extract_file(struct call *call, struct http_exchange *x, const struct target *target, const struct entry *entry, struct err *err)
{
    const char *path = arena_printf(&call->arena, "%s/%s", target->folder, target->file);
    char *const argv[] = { (char *)"tar", (char *)"-xOf", (char *)"-", NULL };
    struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { entry->mtime_ns / NS_PER_S, entry->mtime_ns % NS_PER_S } };
    if (entry->link || entry->special)
        return extract_special(x, target, err);
    struct stat here;
    if (target->replaces && lstat(path, &here) == 0 && !S_ISDIR(here.st_mode) && !S_ISREG(here.st_mode))
        unlink(path);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | (target->replaces ? O_NOFOLLOW : 0), 0600);
    if (fd < 0)
        return err_errno(err, errno, "create %s", path);
    if (body_to_tar(x, argv, fd, err) < 0)
        return -1;
    fchmod(fd, entry->mode);
    futimens(fd, times);
    return 0;
}

static int extract_folder(struct call *call, struct http_exchange *x, const struct target *target, struct err *err)
{
    char *argv[10];
    size_t len = 0;
    argv[len++] = (char *)"tar";
    argv[len++] = (char *)"-xpf";
    argv[len++] = (char *)"-";
    argv[len++] = (char *)"-C";
    argv[len++] = (char *)target->folder;
    argv[len++] = (char *)(flag_on(&call->flags, "archive") ? "--numeric-owner" : "--no-same-owner");
    if (target->strip)
        argv[len++] = (char *)"--strip-components=1";
    argv[len] = NULL;
    return body_to_tar(x, argv, -1, err);
}

static int copy_out(struct call *call, const struct place *from, const char *to, struct err *err)
{
    _cleanup_buf_ struct buf path = PATH_INIT;
    struct http_exchange x;
    struct entry entry;
    struct target target;
    const char *inside = bare(call, from->path);
    if (ends_in_slash(from->path) && !ends_in_slash(inside)) // a folder is meant, also behind a link
        inside = arena_printf(&call->arena, "%s/", inside);
    if (flag_on(&call->flags, "follow-link")) {
        if (stat_far(call, from, inside, &entry, err) < 0)
            return -1;
        if (entry.link)
            inside = *entry.target == '/' ? entry.target : arena_printf(&call->arena, "%s/%s", folder_of(call, inside), entry.target);
    }
    put_archive(&path, from, str_eq(to, "-") && !flag_on(&call->flags, "follow-link") ? from->path : inside);
    if (api_open(call->client, &x, err) < 0)
        return -1;
    int result = api_send(call->client, &x, "GET", buf_text(&path), NULL, NULL, err);
    if (result == 0 && str_eq(to, "-"))
        result = copy_body(&x, STDOUT_FILENO, err);
    else if (result == 0 && (result = read_stat(call, &x, &entry, err)) == 0 &&
             (result = choose_target(call, from->path, to, &entry, &target, err)) == 0)
        result = target.file ? extract_file(call, &x, &target, &entry, err) : extract_folder(call, &x, &target, err);
    api_close(call->client, &x);
    if (result == 0 && !str_eq(to, "-") && on_terminal(STDERR_FILENO) && !flag_on(&call->flags, "quiet"))
        fprintf(stderr, "Successfully copied to %s\n", to);
    return result;
}

// ---- to a container -------------------------------------------------------------------------------------------------

// The folder to unpack in, and the name that the source gets there; NULL: its contents alone.
static int choose_far(struct call *call, const struct place *to, const char *source, bool folder, const char **in, const char **name, struct err *err)
{
    struct entry entry;
    const char *inside = *to->path == '/' ? to->path : arena_printf(&call->arena, "/%s", to->path), *plain = bare(call, inside);
    if (stat_far(call, to, plain, &entry, err) < 0)
        return -1;
    if (entry.link) {
        plain = *entry.target == '/' ? entry.target : arena_printf(&call->arena, "%s/%s", folder_of(call, plain), entry.target);
        if (stat_far(call, to, plain, &entry, err) < 0)
            return -1;
    }
    if (entry.folder) {
        *in = plain;
        *name = means_contents(source) ? NULL : base_name(bare(call, source));
        return 0;
    }
    if (entry.there && folder)
        return err_set(err, ERR_INVALID_ARGUMENT, "cannot copy directory");
    if (ends_in_slash(inside) && !folder)
        return err_set(err, ERR_INVALID_ARGUMENT, entry.there ? "not a directory" : "no such directory");
    *in = folder_of(call, plain);
    *name = base_name(plain);
    return 0;
}

static int upload_archive(struct call *call, const struct place *to, const char *in, int fd, struct err *err)
{
    _cleanup_buf_ struct buf path = PATH_INIT;
    struct api_stream stream;
    put_archive(&path, to, in);
    query_add(&path, "noOverwriteDirNonDir", "true");
    if (flag_on(&call->flags, "archive"))
        query_add(&path, "copyUIDGID", "true");
    if (api_upload(call->client, "PUT", buf_text(&path), "Content-Type: application/x-tar\r\n", fd, &stream, err) < 0)
        return -1;
    api_stream_done(call->client, &stream);
    return 0;
}

static int upload_tree(struct call *call, const struct place *to, const char *source, struct err *err)
{
    struct stat here;
    struct process tar = PROCESS_NONE;
    const char *plain = bare(call, source), *in = NULL, *name = NULL;
    int pipe[2];
    bool follow = flag_on(&call->flags, "follow-link") || ends_in_slash(source) || means_contents(source);
    if ((follow ? stat : lstat)(plain, &here) < 0)
        return err_set(err, ERR_NOT_FOUND, "lstat %s: no such file or directory", plain);
    if (choose_far(call, to, source, S_ISDIR(here.st_mode), &in, &name, err) < 0)
        return -1;
    if (follow && !S_ISDIR(here.st_mode)) {
        char *real = realpath(plain, NULL);
        plain = arena_strdup(&call->arena, real ? real : plain);
        free(real);
    }
    _cleanup_buf_ struct buf rename = BUF_INIT(65536);
    bool folder = S_ISDIR(here.st_mode);
    buf_adds(&rename, "--transform=flags=rSh;s,^");
    put_escaped(&rename, folder ? "." : base_name(plain), "\\.*[]^$,");
    buf_addc(&rename, ',');
    put_escaped(&rename, name ? name : ".", "\\&,");
    buf_addc(&rename, ',');
    char *const argv[] = { (char *)"tar", (char *)"-cf", (char *)"-", (char *)"-C", (char *)(folder ? plain : folder_of(call, plain)),
                           (char *)buf_text(&rename), (char *)"--", (char *)(folder ? "." : base_name(plain)), NULL };
    if (fd_pipe(pipe, err) < 0)
        return -1;
    int result = spawn_tar(argv, -1, pipe[1], &tar, err);
    fd_close(pipe[1]);
    if (result == 0)
        result = upload_archive(call, to, in, pipe[0], err);
    fd_close(pipe[0]);
    if (result < 0)
        process_done(&tar);
    else
        result = wait_tar(&tar, err);
    if (result == 0 && on_terminal(STDERR_FILENO) && !flag_on(&call->flags, "quiet"))
        fprintf(stderr, "Successfully copied to %s:%s\n", to->container, to->path);
    return result;
}

int command_cp(struct call *call, struct err *err)
{
    struct place from = parse_place(call, call->args.items[0]), to = parse_place(call, call->args.items[1]);
    if (!*call->args.items[0])
        return err_set(err, ERR_INVALID_ARGUMENT, "source can not be empty");
    if (!*call->args.items[1])
        return err_set(err, ERR_INVALID_ARGUMENT, "destination can not be empty");
    if (from.container && to.container)
        return err_set(err, ERR_INVALID_ARGUMENT, "copying between containers is not supported");
    if (!from.container && !to.container)
        return err_set(err, ERR_INVALID_ARGUMENT, "must specify at least one container source");
    if (from.container)
        return copy_out(call, &from, to.path, err);
    return str_eq(from.path, "-") ? upload_archive(call, &to, to.path, STDIN_FILENO, err) : upload_tree(call, &to, from.path, err);
}
