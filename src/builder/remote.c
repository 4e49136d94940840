// ADD of a URL: a file of its name, 0600, with the time that the server says. Its content is what the step's key has of it, whatever server it
// comes from; where a checksum is asked for, that is known before anything is fetched. Of a git repository that is the commit.
#include <ctype.h>

#include "build/git_source.h"
#include "builder_private.h"
#include "engine/remote.h"

#define FILE_SIZE_MAX (UINT64_C(16) << 30)
#define NAME_SIZE_MAX 255
#define UNNAMED "__unnamed__" // as BuildKit has it

bool remote_is_git(const char *source)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct git_source git;
    struct err ignored = { 0 };
    return git_source_parse(source, &arena, &git, &ignored) != 0;
}

bool remote_is(const char *source)
{
    return str_starts(source, "http://") || str_starts(source, "https://") || remote_is_git(source);
}

void remote_done(struct remote *remote)
{
    fd_close(remote->tree_fd);
}

// ---- names ----------------------------------------------------------------------------------------------------------

static int hex_value(char c)
{
    return isdigit((unsigned char)c) ? c - '0' : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10 : -1;
}

static char *decoded(struct slice text, struct arena *arena)
{
    char *out = arena_alloc(arena, text.size + 1), *end = out;
    for (size_t i = 0; i < text.size; i++) {
        bool escape = text.data[i] == '%' && i + 2 < text.size && hex_value(text.data[i + 1]) >= 0 && hex_value(text.data[i + 2]) >= 0;
        *end++ = escape ? (char)(hex_value(text.data[i + 1]) * 16 + hex_value(text.data[i + 2])) : text.data[i];
        i += escape ? 2 : 0;
    }
    return out;
}

// The last part of the URL's path.
static const char *file_name(const char *url, struct arena *arena)
{
    const char *host = strstr(url, "://") + 3, *path = host + strcspn(host, "/?#");
    char *whole = decoded((struct slice){ path, strcspn(path, "?#") }, arena);
    for (size_t size = strlen(whole); size > 0 && whole[size - 1] == '/'; size--)
        whole[size - 1] = '\0';
    const char *slash = strrchr(whole, '/'), *name = slash ? slash + 1 : whole;
    bool none = !*name || str_eq(name, ".") || str_eq(name, "..") || strlen(name) > NAME_SIZE_MAX;
    return none ? UNNAMED : name;
}

// So that none of its characters is a wildcard.
static const char *escaped(const char *name, struct arena *arena)
{
    char *out = arena_alloc(arena, 2 * strlen(name) + 1), *end = out;
    for (; *name; *end++ = *name++)
        if (strchr("*?[\\", *name))
            *end++ = '\\';
    return out;
}

// ---- files ----------------------------------------------------------------------------------------------------------

static const char *identity_of(const struct remote *remote, int64_t modified, struct arena *arena)
{
    return arena_printf(arena, "url %s %lld %s", remote->digest, (long long)modified, remote->name);
}

// A folder of its own with the file. out->unchanged: nothing came.
static int download(struct stage *stage, struct remote *remote, const char *etag, struct remote_file *out, struct err *err)
{
    struct build *build = stage->build;
    struct remote_url url = { .url = remote->source, .etag = etag, .size_max = FILE_SIZE_MAX };
    const char *folder = arena_printf(build->arena, "url-%u", build->folders++);
    _cleanup_close_ int folder_fd = workshop_folder(build->workshop, folder, err);
    _cleanup_close_ int file_fd = folder_fd < 0 ? -1 : workshop_create(build->workshop, folder, remote->name, 0600, err);
    if (file_fd < 0 || login_of_url(build, remote->source, &url.authorization, err) < 0 || remote_download(build->engine, &url, file_fd, say_progress, build, build->arena, out, build->cancel, err) < 0)
        return -1;
    if (out->unchanged)
        return 0;
    if (remote->checksum && !str_eq(remote->checksum, out->digest))
        return err_set(err, ERR_INVALID_ARGUMENT, "digest mismatch %s: %s", out->digest, remote->checksum);
    remote->tree_fd = tree_of_folder(folder_fd, err);
    return remote->tree_fd < 0 ? -1 : 0;
}

static int look_at_url(struct stage *stage, struct remote *remote, struct err *err)
{
    struct build *build = stage->build;
    struct builder *builder = build->builder;
    struct known_url known;
    struct remote_file file;
    if (url_known(builder, remote->source, build->arena, &known, err) < 0 || download(stage, remote, known.etag, &file, err) < 0)
        return -1;
    if (!file.unchanged) {
        known = (struct known_url){ .etag = (char *)file.etag, .modified = file.modified };
        memcpy(known.digest, file.digest, sizeof(known.digest));
        url_note(builder, remote->source, &known);
    }
    memcpy(remote->digest, known.digest, sizeof(remote->digest));
    remote->identity = identity_of(remote, known.modified, build->arena);
    return 0;
}

// In the words of BuildKit's library.
static int check_digest(const char *digest, struct err *err)
{
    static const struct {
        const char *name;
        size_t size; // of its digits
    } algorithms[] = { { "sha256:", 64 }, { "sha384:", 96 }, { "sha512:", 128 } };
    const char *colon = strchr(digest, ':');
    if (!colon || colon == digest || !colon[1])
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid checksum digest format");
    size_t row = 0;
    while (row < ARRAY_LEN(algorithms) && !str_starts(digest, algorithms[row].name))
        row++;
    if (row == ARRAY_LEN(algorithms))
        return err_set(err, ERR_INVALID_ARGUMENT, "unsupported digest algorithm");
    if (strlen(colon + 1) != algorithms[row].size)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid checksum digest length");
    if (!hex_valid(slice_of(colon + 1)))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid checksum digest format");
    return row == 0 ? 0 : err_set(err, ERR_NOT_IMPLEMENTED, "ADD --checksum=%.200s: a digest as sha256:... is needed", digest);
}

// As if it had been fetched.
static int trust_checksum(struct stage *stage, struct remote *remote, struct err *err)
{
    if (check_digest(remote->checksum, err) < 0)
        return -1;
    snprintf(remote->digest, sizeof(remote->digest), "%s", remote->checksum);
    remote->identity = identity_of(remote, -1, stage->build->arena);
    return 0;
}

// ---- git ------------------------------------------------------------------------------------------------------------

static int git_checks(const struct copy_fields *fields, struct git_source *git, struct err *err)
{
    if (fields->keep_git_dir != TRISTATE_UNSET && git->keep >= 0 && git->keep != (fields->keep_git_dir == TRISTATE_TRUE))
        return err_set(err, ERR_INVALID_ARGUMENT, "inconsistent keep-git-dir configuration");
    if (git->keep < 0)
        git->keep = fields->keep_git_dir == TRISTATE_TRUE;
    if (fields->checksum && git->checksum && !str_eq(fields->checksum, git->checksum))
        return err_set(err, ERR_INVALID_ARGUMENT, "checksum mismatch \"%.100s\" != \"%.100s\"", fields->checksum, git->checksum);
    git->checksum = fields->checksum ? fields->checksum : git->checksum;
    return 0;
}

int git_fetch(struct build *build, struct remote_git *wish, int folder_fd, const char **commit, struct err *err)
{
    struct git_login login;
    int done = git_login_begin(build, wish->url, folder_fd, &login, err);
    wish->authorization = login.authorization;
    if (done == 0)
        done = remote_git(build->engine, wish, folder_fd, build->arena, commit, build->cancel, err);
    git_login_end(&login);
    return done;
}

// In a folder of its own.
static int run_git(struct stage *stage, const struct git_source *git, bool fetch, int *folder_fd, const char **commit, struct err *err)
{
    struct build *build = stage->build;
    struct remote_git wish = { .url = git->url, .ref = git->ref, .fetch = fetch, .keep = git->keep > 0, .submodules = git->submodules };
    *folder_fd = workshop_folder(build->workshop, arena_printf(build->arena, "git-%u", build->folders++), err);
    return *folder_fd < 0 ? -1 : git_fetch(build, &wish, *folder_fd, commit, err);
}

// Which commit it is, is asked; its files come when they are needed.
static int look_at_git(struct stage *stage, struct remote *remote, struct err *err)
{
    struct arena *arena = stage->build->arena;
    struct git_source *git = remote->git;
    const char *commit;
    _cleanup_close_ int folder_fd = -1;
    if (run_git(stage, git, false, &folder_fd, &commit, err) < 0)
        return -1;
    if (git->checksum && !str_starts(commit, git->checksum))
        return err_set(err, ERR_INVALID_ARGUMENT, "expected checksum to match %.100s, got %s", git->checksum, commit);
    git->commit = commit;
    source_note(stage->build, &(const struct build_source){ BUILD_SOURCE_GIT, git->url, commit, NULL, false });
    remote->path = arena_printf(arena, REMOTE_GIT_TREE "%s", escaped(join_path(arena, "/", git->subdir), arena));
    remote->identity = arena_printf(arena, "git %s %s%s%s", commit, git->subdir, git->keep > 0 ? " keep" : "", git->submodules ? "" : " alone");
    return 0;
}

static int fetch_git(struct stage *stage, struct remote *remote, struct err *err)
{
    const char *commit;
    _cleanup_close_ int folder_fd = -1;
    if (run_git(stage, remote->git, true, &folder_fd, &commit, err) < 0)
        return -1;
    if (!str_eq(commit, remote->git->commit))
        return err_set(err, ERR_CONFLICT, "%.300s changed while it was fetched", remote->source);
    remote->tree_fd = tree_of_folder(folder_fd, err);
    return remote->tree_fd < 0 ? -1 : 0;
}

// ---- either ---------------------------------------------------------------------------------------------------------

int remote_look(struct stage *stage, const char *source, const struct copy_fields *fields, struct remote *out, struct err *err)
{
    struct arena *arena = stage->build->arena;
    struct git_source *git = arena_alloc(arena, sizeof(*git));
    *out = (struct remote){ .source = source, .checksum = fields->checksum, .tree_fd = -1 };
    int is_git = git_source_parse(source, arena, git, err);
    if (is_git < 0)
        return -1;
    if (is_git) {
        out->git = git;
        return git_checks(fields, git, err) < 0 ? -1 : look_at_git(stage, out, err);
    }
    if (remote_check(source, err) < 0)
        return -1;
    out->name = file_name(source, arena);
    out->path = arena_printf(arena, "/%s", escaped(out->name, arena));
    if ((fields->checksum ? trust_checksum(stage, out, err) : look_at_url(stage, out, err)) < 0)
        return -1;
    source_note(stage->build, &(const struct build_source){ BUILD_SOURCE_URL, source, out->digest, NULL, false });
    return 0;
}

int remote_fetch(struct stage *stage, struct remote *remote, struct err *err)
{
    struct remote_file file;
    if (remote->tree_fd >= 0)
        return 0;
    if (remote->git)
        return fetch_git(stage, remote, err);
    if (download(stage, remote, NULL, &file, err) < 0)
        return -1;
    return str_eq(file.digest, remote->digest) ? 0 : err_set(err, ERR_CONFLICT, "%.300s changed while it was fetched", remote->source);
}
