// Contexts that come as tars, kept as they came: <data root>/build-contexts/<name>/ with `tar`, its `list`, and what a build reads of it itself: `text-0`, the
// Dockerfile, `text-1`, the .dockerignore, and `about`, the tar's size and the Dockerfile's path.
//
// Theory of operation: a classic client sends all of its context each time. While that is, byte for byte, what came the last time, nothing needs to be
// written, read as an archive or hashed: all that can be known of it is known. Where it differs, what came until then is taken from the file, and the
// tar is looked at as any other.
//
// As with folders the list goes before anything changes, and comes back when all else is in its place; it says of which file it is.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "builder_private.h"

#define KEY_MAX ((size_t)4096)

static const char *const texts[] = { "text-0", "text-1" };

// ---- what was kept --------------------------------------------------------------------------------------------------

static char *describe(int64_t size, const char *dockerfile)
{
    return mem_printf("%lld %s", (long long)size, dockerfile);
}

static bool is_described(const struct build_kept *kept, int64_t size, const char *dockerfile)
{
    _cleanup_free_ char *wanted = describe(size, dockerfile);
    _cleanup_buf_ struct buf found = BUF_INIT(2 * PATH_MAX);
    struct err missing = { 0 };
    return file_read_at(kept->top_fd, "about", &found, &missing) == 0 && str_eq(buf_text(&found), wanted);
}

static int read_texts(struct kept_tar *tar)
{
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct err missing = { 0 };
        tar->found[i] = file_read_at(tar->kept->top_fd, texts[i], &tar->texts[i], &missing) == 0;
        if (!tar->found[i] && missing.number != ENOENT)
            return -1;
    }
    return tar->found[0] ? 0 : -1;
}

static int load(struct kept_tar *tar, const char *dockerfile)
{
    struct stat info;
    struct err ignored = { 0 };
    struct build_kept *kept = tar->kept;
    _cleanup_close_ int fd = openat(kept->top_fd, "tar", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) < 0 || !is_described(kept, info.st_size, dockerfile) || kept_mark(kept, fd, &ignored) < 0 || kept_read_list(kept) < 0 || read_texts(tar) < 0)
        return -1;
    kept->size = info.st_size;
    kept->unknown = false;
    tar->fd = take_fd(&fd);
    return 0;
}

static char *key_of(const struct build *build)
{
    const struct strv *tags = &build->request->tags;
    struct buf key = BUF_INIT(KEY_MAX);
    buf_adds(&key, "tar");
    for (size_t i = 0; i < tags->len; i++)
        buf_addf(&key, "\n%s", tags->items[i]);
    if (!key.overflow)
        return buf_take(&key);
    buf_done(&key);
    return NULL;
}

void kept_tar_open(struct build *build, const char *dockerfile, struct kept_tar *out)
{
    struct err ignored = { 0 };
    _cleanup_free_ char *key = key_of(build);
    *out = (struct kept_tar){ .fd = -1, .texts = { BUF_INIT(DOCKERFILE_SIZE_MAX + 1), BUF_INIT(IGNORE_SIZE_MAX) } };
    if (key && kept_open_top(build->builder, key, "local source for context", &out->kept, &ignored) == 0)
        load(out, dockerfile);
}

void kept_tar_close(struct kept_tar *tar)
{
    fd_close(tar->fd);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        buf_done(&tar->texts[i]);
    build_kept_free(tar->kept);
}

// ---- what is kept ---------------------------------------------------------------------------------------------------

static int put_text(const struct build_kept *kept, const char *name, const void *data, size_t size, struct err *err)
{
    return file_write_at(kept->top_fd, name, size ? data : "", size, 0600, false, err);
}

static int put_texts(const struct build_kept *kept, const struct step_wanted wanted[2], struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        const struct buf *text = &wanted[i].text;
        if (unlinkat(kept->top_fd, texts[i], 0) < 0 && errno != ENOENT)
            return err_errno(err, errno, "kept context");
        if (wanted[i].found && put_text(kept, texts[i], text->data, text->size, err) < 0)
            return -1;
    }
    _cleanup_free_ char *about = describe(kept->size, wanted[0].path);
    return put_text(kept, "about", about, strlen(about), err);
}

static int put(struct build *build, struct build_kept *kept, const struct step_wanted wanted[2], struct err *err)
{
    struct stat info;
    _cleanup_buf_ struct buf list = BUF_INIT(LISTING_SIZE_MAX);
    if (fstat(build->context->spool_fd, &info) < 0 || (unlinkat(kept->top_fd, "list", 0) < 0 && errno != ENOENT))
        return err_errno(err, errno, "kept context");
    kept->size = info.st_size;
    if (workshop_give_spool(build->workshop, kept->top_fd, "tar", err) < 0 || put_texts(kept, wanted, err) < 0 || kept_mark(kept, build->context->spool_fd, err) < 0)
        return -1;
    return kept_write_list(kept, build->context->listing, &list, err);
}

bool kept_tar_put(struct build *build, const struct step_wanted wanted[2])
{
    struct build_kept *kept = build->context->kept.kept;
    struct err ignored = { 0 };
    if (kept)
        kept->unknown = put(build, kept, wanted, &ignored) < 0;
    return kept && !kept->unknown;
}
