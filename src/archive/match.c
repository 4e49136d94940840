#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>

#include "base/fd.h"
#include "base/file.h"
#include "kernel/path.h"
#include "place.h"

#define MATCHES_MAX ((size_t)1 << 20)

static bool is_pattern(const char *part)
{
    return strpbrk(part, "*?[\\") != NULL;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool stands(int tree_fd, const char *path)
{
    _cleanup_close_ int fd = path_open(tree_fd, path, true, NULL);
    return fd >= 0;
}

static int add_match(int tree_fd, const char *path, struct strv *out, struct err *err)
{
    if (out->len == MATCHES_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %zu sources", MATCHES_MAX);
    if (stands(tree_fd, path))
        strv_add(out, path);
    return 0;
}

static int expand(int tree_fd, const char *done, const char *rest, struct strv *out, struct err *err);

// Every name of the folder that fits. A folder that is none has no names.
static int expand_names(int tree_fd, const char *done, const char *part, const char *behind, struct strv *out, struct err *err)
{
    _cleanup_strv_ struct strv names = { 0 };
    _cleanup_close_ int folder = path_open(tree_fd, *done ? done : "/", false, NULL);
    _cleanup_close_ int listed = folder < 0 ? -1 : openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (listed < 0)
        return 0;
    if (file_list_names(listed, ".", &names, err) < 0)
        return -1;
    if (names.len > 1)
        qsort(names.items, names.len, sizeof(*names.items), compare_names);
    for (size_t i = 0; i < names.len; i++) {
        if (fnmatch(part, names.items[i], 0) != 0)
            continue;
        _cleanup_free_ char *path = mem_printf("%s/%s", done, names.items[i]);
        if (expand(tree_fd, path, behind, out, err) < 0)
            return -1;
    }
    return 0;
}

static int expand(int tree_fd, const char *done, const char *rest, struct strv *out, struct err *err)
{
    rest += strspn(rest, "/");
    size_t size = strcspn(rest, "/");
    if (size == 0)
        return add_match(tree_fd, *done ? done : "/", out, err);
    _cleanup_free_ char *part = mem_strndup(rest, size);
    if (is_pattern(part))
        return expand_names(tree_fd, done, part, rest + size, out, err);
    _cleanup_free_ char *path = mem_printf("%s/%s", done, part);
    return expand(tree_fd, path, rest + size, out, err);
}

int source_matches(const struct archive_source *source, struct strv *out, struct err *err)
{
    char clean[PATH_MAX];
    enum name_end end;
    size_t before = out->len;
    if (name_clean(source->path, clean, &end, err) < 0 || (source->exact ? add_match(source->fd, clean, out, err) : expand(source->fd, "", clean, out, err)) < 0)
        return -1;
    if (out->len > before)
        return 0;
    if (source->exact || !is_pattern(clean))
        return err_errno(err, ENOENT, "%s", clean + 1);
    return source->optional ? 0 : err_set(err, ERR_INVALID_ARGUMENT, "no source files were specified");
}
