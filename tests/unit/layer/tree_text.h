// A tree as text, a line a name, so that two of them can be compared: one of folders and files here, one in an EROFS image in
// erofs_reader.h. The root's own attributes are left out (an unpacked layer has its caller's), and of whiteouts all but that they
// are there.
#ifndef TESTS_LAYER_TREE_TEXT_H
#define TESTS_LAYER_TREE_TEXT_H

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/strv.h"

#define TREE_TEXT_MAX ((size_t)1 << 30)
#define TREE_SUM_WHOLE ((uint64_t)32 << 20) // of a larger file both ends count

struct tree_node {
    mode_t mode;
    uid_t uid;
    gid_t gid;
    uint64_t nlink, size, number; // `number`: whatever tells files apart
    dev_t device;
    struct timespec mtime;
};

typedef ssize_t tree_read_fn(void *context, void *data, size_t size, uint64_t offset);

struct tree_text {
    struct buf out;
    bool folder_times; // false: they are left out
    uint64_t *linked; // files of several names, in the order they are met
    size_t linked_len;
};

static inline void tree_text_done(struct tree_text *text)
{
    buf_done(&text->out);
    free(text->linked);
}

static inline size_t tree_linked(struct tree_text *text, uint64_t number)
{
    size_t i = 0;
    while (i < text->linked_len && text->linked[i] != number)
        i++;
    if (i == text->linked_len) {
        text->linked = mem_grow(text->linked, (i + 1) * sizeof(*text->linked));
        text->linked[text->linked_len++] = number;
    }
    return i;
}

static inline uint64_t tree_sum(tree_read_fn *read_at, void *context, uint64_t size)
{
    static char data[65536];
    uint64_t sum = 14695981039346656037u;
    for (uint64_t at = 0; at < size;) {
        if (size > TREE_SUM_WHOLE && at == sizeof(data))
            at = size - sizeof(data);
        ssize_t got = read_at(context, data, (size_t)MIN_OF((uint64_t)sizeof(data), size - at), at);
        if (got <= 0)
            return 0;
        for (ssize_t i = 0; i < got; i++)
            sum = (sum ^ (unsigned char)data[i]) * 1099511628211u;
        at += (uint64_t)got;
    }
    return sum;
}

static inline bool tree_is_whiteout(const struct tree_node *node)
{
    return S_ISCHR(node->mode) && node->device == 0;
}

// All but content, target and extended attributes.
static inline void tree_line(struct tree_text *text, const char *path, const struct tree_node *node)
{
    bool root = str_eq(path, ".");
    buf_adds(&text->out, path);
    buf_addf(&text->out, " %o", tree_is_whiteout(node) ? S_IFCHR : root ? S_IFDIR : node->mode);
    if (root || tree_is_whiteout(node))
        return;
    buf_addf(&text->out, " %u:%u %ju", node->uid, node->gid, (uintmax_t)node->nlink);
    if (!S_ISDIR(node->mode) && node->nlink > 1)
        buf_addf(&text->out, " link%zu", tree_linked(text, node->number));
    if (S_ISREG(node->mode))
        buf_addf(&text->out, " %ju", (uintmax_t)node->size);
    if (S_ISCHR(node->mode) || S_ISBLK(node->mode))
        buf_addf(&text->out, " %u,%u", major(node->device), minor(node->device));
    if (!S_ISDIR(node->mode) || text->folder_times)
        buf_addf(&text->out, " %jd.%09ld", (intmax_t)node->mtime.tv_sec, node->mtime.tv_nsec);
}

static inline int tree_compare_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static inline void tree_sort(struct strv *list)
{
    if (list->len > 1)
        qsort(list->items, list->len, sizeof(*list->items), tree_compare_text);
}

static inline void tree_xattr(struct strv *list, const char *name, const void *value, size_t size)
{
    _cleanup_buf_ struct buf line = BUF_INIT(1 << 20);
    buf_addf(&line, " %s=", name);
    for (size_t i = 0; i < size; i++)
        buf_addf(&line, "%02x", ((const unsigned char *)value)[i]);
    strv_add(list, buf_text(&line));
}

static inline void tree_xattrs_end(struct tree_text *text, struct strv *list)
{
    tree_sort(list);
    for (size_t i = 0; i < list->len; i++)
        buf_adds(&text->out, list->items[i]);
    strv_done(list);
}

// ---- of a folder ----------------------------------------------------------------------------------------------------

static inline ssize_t tree_read_fd(void *context, void *data, size_t size, uint64_t offset)
{
    return pread(*(int *)context, data, size, (off_t)offset);
}

static inline void tree_folder_xattrs(struct tree_text *text, int fd)
{
    struct strv list = { 0 };
    static char names[1 << 16], value[1 << 16];
    ssize_t size = flistxattr(fd, names, sizeof(names));
    for (char *name = names; size > 0 && name < names + size; name += strlen(name) + 1) {
        ssize_t got = fgetxattr(fd, name, value, sizeof(value));
        tree_xattr(&list, name, value, got < 0 ? 0 : (size_t)got);
    }
    tree_xattrs_end(text, &list);
}

static inline void tree_add(struct tree_text *text, int parent_fd, const char *name, const char *path)
{
    struct stat st;
    if (fstatat(parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        abort();
    struct tree_node node = { st.st_mode, st.st_uid, st.st_gid, st.st_nlink, (uint64_t)st.st_size, st.st_ino, st.st_rdev, st.st_mtim };
    tree_line(text, path, &node);
    if (S_ISLNK(st.st_mode)) {
        char target[PATH_MAX + 1] = "";
        ssize_t size = readlinkat(parent_fd, name, target, PATH_MAX);
        buf_addf(&text->out, " -> %.*s", (int)size, target);
    }
    _cleanup_close_ int fd = -1;
    if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
        fd = openat(parent_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (S_ISREG(st.st_mode))
        buf_addf(&text->out, " %016jx", (uintmax_t)tree_sum(tree_read_fd, &fd, node.size));
    if (fd >= 0)
        tree_folder_xattrs(text, fd);
    buf_addc(&text->out, '\n');
    if (!S_ISDIR(st.st_mode))
        return;
    struct strv names = { 0 };
    DIR *dir = fdopendir(take_fd(&fd));
    for (struct dirent *entry; (entry = readdir(dir));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            strv_add(&names, entry->d_name);
    tree_sort(&names);
    for (size_t i = 0; i < names.len; i++) {
        _cleanup_free_ char *below = strcmp(path, ".") == 0 ? mem_strdup(names.items[i]) : mem_printf("%s/%s", path, names.items[i]);
        tree_add(text, dirfd(dir), names.items[i], below);
    }
    strv_done(&names);
    closedir(dir);
}

#endif
