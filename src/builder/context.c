// A build's context that is elsewhere: a git repository, an archive of a URL's, or a Dockerfile of a URL's, which then stands alone.
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "build/git_source.h"
#include "builder_private.h"
#include "engine/remote.h"
#include "kernel/path.h"

#define CONTEXT_SIZE_MAX (UINT64_C(64) << 30)

static int git_context(struct build *build, const char *prefix, const struct git_source *git, struct err *err)
{
    const char *keep = kvs_get(&build->request->args, "BUILDKIT_CONTEXT_KEEP_GIT_DIR"), *commit;
    struct remote_git wish = { .url = git->url, .ref = git->ref, .fetch = true, .keep = git->keep > 0 || (git->keep < 0 && str_eq(keep ? keep : "", "1")),
                                     .submodules = git->submodules };
    _cleanup_close_ int folder = workshop_folder(build->workshop, arena_printf(build->arena, "%srepository", prefix), err);
    if (folder < 0 || git_fetch(build, &wish, folder, &commit, err) < 0)
        return -1;
    if (git->checksum && !str_starts(commit, git->checksum))
        return err_set(err, ERR_INVALID_ARGUMENT, "expected checksum to match %.100s, got %s", git->checksum, commit);
    const char *path = arena_printf(build->arena, REMOTE_GIT_TREE "%s", join_path(build->arena, "/", git->subdir));
    _cleanup_close_ int found = path_open(folder, path, false, err), root = found < 0 ? -1 : openat(found, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return root < 0 ? err_set(err, ERR_INVALID_ARGUMENT, "subdir %.300s of the repository is no folder", git->subdir) : take_fd(&root);
}

static int url_context(struct build *build, const char *prefix, const char *source, struct buf *text, struct err *err)
{
    struct remote_url url = { .url = source, .size_max = CONTEXT_SIZE_MAX };
    struct remote_file ignored;
    const char *name = arena_printf(build->arena, "%sdownload", prefix);
    _cleanup_close_ int folder = workshop_folder(build->workshop, name, err);
    _cleanup_close_ int file = folder < 0 ? -1 : workshop_create(build->workshop, name, "context", 0600, err);
    if (file < 0 || login_of_url(build, source, &url.authorization, err) < 0 || remote_download(build->engine, &url, file, say_progress, build, build->arena, &ignored, build->cancel, err) < 0)
        return -1;
    _cleanup_close_ int context = workshop_folder(build->workshop, arena_printf(build->arena, "%scontext", prefix), err);
    int unpacked = context < 0 ? -1 : folder_unpack_file(build->engine, context, file, build->cancel, err);
    if (unpacked < 0)
        return -1;
    if (!unpacked && (file_read_fd(file, "the Dockerfile", text, err) < 0 || text->size == 0))
        return text->size == 0 ? err_set(err, ERR_INVALID_ARGUMENT, "the Dockerfile (%.300s) cannot be empty", source) : -1;
    return take_fd(&context);
}

int remote_context(struct build *build, const char *prefix, const char *source, struct buf *text, struct err *err)
{
    struct git_source git;
    int is_git = git_source_parse(source, build->arena, &git, err);
    if (is_git < 0)
        return -1;
    if (is_git)
        return git_context(build, prefix, &git, err);
    return remote_check(source, err) < 0 ? -1 : url_context(build, prefix, source, text, err);
}
