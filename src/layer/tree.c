#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/sysmacros.h>

#include "layer/layer.h"
#include "tree.h"
#include "base/fd.h"
#include "base/file.h"
#include "kernel/path.h"

void tree_init(struct tree *tree, int root_fd)
{
    *tree = (struct tree){ .root_fd = root_fd, .parent_fd = -1, .lost_fd = -1, .folder_paths = BUF_INIT(TREE_FOLDER_TEXT_MAX) };
}

static void forget_parent(struct tree *tree)
{
    fd_close(tree->parent_fd);
    tree->parent_fd = -1;
}

void tree_done(struct tree *tree)
{
    forget_parent(tree);
    buf_done(&tree->folder_paths);
    free(tree->folders);
    strv_done(&tree->opaque);
}

// ---- names ----------------------------------------------------------------------------------------------------------

static int leads_outside(struct err *err)
{
    return err_set(err, ERR_INVALID_ARGUMENT, "leads outside the layer");
}

int layer_clean_name(const char *raw, char out[PATH_MAX], struct err *err)
{
    size_t used = 0;
    for (const char *at = raw; *at;) {
        size_t size = strcspn(at, "/");
        if (size == 2 && at[0] == '.' && at[1] == '.') {
            if (used == 0)
                return leads_outside(err);
            while (used > 0 && out[used - 1] != '/')
                used--;
            used -= used > 0; // and the slash
        } else if (size > 0 && !(size == 1 && at[0] == '.')) {
            if (size > NAME_MAX || used + size + 2 > PATH_MAX)
                return err_errno(err, ENAMETOOLONG, "%.64s...", raw);
            if (used > 0)
                out[used++] = '/';
            memcpy(out + used, at, size);
            used += size;
        }
        at += size;
        at += strspn(at, "/");
    }
    out[used] = '\0';
    return 0;
}

int tree_parent(struct tree *tree, const char *path, const char **name, struct err *err)
{
    const char *slash = strrchr(path, '/');
    size_t size = slash ? (size_t)(slash - path) : 0;
    *name = slash ? slash + 1 : path;
    bool kept = tree->parent_fd >= 0 && !tree->parent_stale;
    if (kept && strlen(tree->parent) == size && memcmp(tree->parent, path, size) == 0)
        return tree->parent_fd;
    forget_parent(tree);
    _cleanup_free_ char *last = NULL;
    int fd = path_open_parent(tree->root_fd, path, true, &last, err);
    if (fd < 0)
        return -1;
    memcpy(tree->parent, path, size);
    tree->parent[size] = '\0';
    tree->parent_stale = false;
    return tree->parent_fd = fd;
}

// Files with content, and folders that may have some.
static bool is_lost(const struct tree *tree, int parent_fd, const char *name)
{
    struct stat st;
    return tree->lost_fd >= 0 && fstatat(parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode));
}

int tree_clear(struct tree *tree, int parent_fd, const char *name, struct err *err)
{
    if (is_lost(tree, parent_fd, name)) {
        char number[16];
        snprintf(number, sizeof(number), "%u", tree->lost_len++);
        tree->parent_stale = true;
        return renameat(parent_fd, name, tree->lost_fd, number) < 0 ? err_errno(err, errno, "replace") : 0;
    }
    tree->lost_len += tree->lost_fd >= 0; // a link: names may lead elsewhere now
    if (unlinkat(parent_fd, name, 0) < 0 && errno != ENOENT) {
        if (errno != EISDIR)
            return err_errno(err, errno, "replace");
        if (file_remove_tree(parent_fd, name, err) < 0)
            return err_wrap(err, "replace");
    }
    tree->parent_stale = true;
    return 0;
}

// ---- entries --------------------------------------------------------------------------------------------------------

int tree_new_file(struct tree *tree, const char *path, struct err *err)
{
    const char *name;
    int parent = tree_parent(tree, path, &name, err);
    if (parent < 0)
        return -1;
    for (int tries = 0; tries < 2; tries++) {
        int fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd >= 0)
            return fd;
        if (errno != EEXIST || tries > 0)
            break;
        if (tree_clear(tree, parent, name, err) < 0)
            return -1;
    }
    return err_errno(err, errno, "create");
}

static bool is_whiteout(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

int tree_open_folder(struct tree *tree, const char *path, struct err *err)
{
    const char *name;
    int parent = tree_parent(tree, path, &name, err);
    if (parent < 0)
        return -1;
    if (mkdirat(parent, name, 0755) < 0) {
        struct stat st;
        if (errno != EEXIST)
            return err_errno(err, errno, "mkdir");
        if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return err_errno(err, errno, "stat");
        if (!S_ISDIR(st.st_mode)) {
            if (tree_clear(tree, parent, name, err) < 0)
                return -1;
            if (mkdirat(parent, name, 0755) < 0)
                return err_errno(err, errno, "mkdir");
            // The tar hides what lower layers have under this name and gives a folder of its own.
            if (is_whiteout(&st) && tree_opaque(tree, path, err) < 0)
                return -1;
            parent = tree_parent(tree, path, &name, err);
            if (parent < 0)
                return -1;
        }
    }
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd >= 0 ? fd : err_errno(err, errno, "open");
}

int tree_symlink(struct tree *tree, const char *path, const char *target, struct err *err)
{
    const char *name;
    int parent = tree_parent(tree, path, &name, err);
    if (parent < 0)
        return -1;
    if (symlinkat(target, parent, name) == 0)
        return 0;
    if (errno != EEXIST)
        return err_errno(err, errno, "symlink");
    if (tree_clear(tree, parent, name, err) < 0)
        return -1;
    return symlinkat(target, parent, name) == 0 ? 0 : err_errno(err, errno, "symlink");
}

static bool same_file(int a_fd, const char *a, int b_fd, const char *b)
{
    struct stat one, other;
    return fstatat(a_fd, a, &one, AT_SYMLINK_NOFOLLOW) == 0 && fstatat(b_fd, b, &other, AT_SYMLINK_NOFOLLOW) == 0 &&
           one.st_ino == other.st_ino && one.st_dev == other.st_dev;
}

int tree_hardlink(struct tree *tree, const char *path, const char *target, struct err *err)
{
    char from[PATH_MAX];
    if (layer_clean_name(target, from, err) < 0)
        return err_wrap(err, "hard link to %s", target);
    if (!*from)
        return err_set(err, ERR_INVALID_ARGUMENT, "hard link to a folder");
    _cleanup_free_ char *from_name = NULL;
    _cleanup_close_ int from_fd = path_open_parent(tree->root_fd, from, false, &from_name, err);
    if (from_fd < 0)
        return err_wrap(err, "hard link to %s", target);
    const char *name;
    int parent = tree_parent(tree, path, &name, err);
    if (parent < 0)
        return -1;
    // Flags 0: a symlink at the end is linked itself, never followed.
    if (linkat(from_fd, from_name, parent, name, 0) == 0)
        return 0;
    if (errno == EEXIST && same_file(from_fd, from_name, parent, name))
        return 0;
    if (errno == EEXIST) {
        if (tree_clear(tree, parent, name, err) < 0)
            return -1;
        if (linkat(from_fd, from_name, parent, name, 0) == 0)
            return 0;
    }
    return err_errno(err, errno, "hard link to %s", target);
}

int tree_node(struct tree *tree, const char *path, mode_t mode, dev_t device, struct err *err)
{
    const char *name;
    int parent = tree_parent(tree, path, &name, err);
    if (parent < 0)
        return -1;
    if (mknodat(parent, name, mode, device) == 0)
        return 0;
    if (errno != EEXIST)
        return err_errno(err, errno, "mknod");
    if (tree_clear(tree, parent, name, err) < 0)
        return -1;
    return mknodat(parent, name, mode, device) == 0 ? 0 : err_errno(err, errno, "mknod");
}

// ---- what hides lower layers ----------------------------------------------------------------------------------------

int tree_whiteout(struct tree *tree, const char *path, struct err *err)
{
    const char *name;
    int parent = tree_parent(tree, path, &name, err);
    if (parent < 0)
        return -1;
    if (mknodat(parent, name, S_IFCHR, makedev(0, 0)) == 0)
        return 0;
    struct stat st;
    if (errno != EEXIST)
        return err_errno(err, errno, "whiteout");
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(err, errno, "whiteout");
    // What this tar itself brings stays; only a folder would let lower content shine through.
    return S_ISDIR(st.st_mode) ? tree_opaque(tree, path, err) : 0;
}

int tree_opaque(struct tree *tree, const char *path, struct err *err)
{
    if (*path) {
        _cleanup_close_ int fd = path_make_dir(tree->root_fd, path, 0755, err);
        if (fd < 0)
            return -1;
    }
    tree->opaque_text += strlen(path) + 1;
    if (tree->opaque.len >= TREE_OPAQUE_MAX || tree->opaque_text > TREE_OPAQUE_TEXT_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "too many opaque folders");
    strv_add(&tree->opaque, *path ? path : ".");
    return 0;
}

// ---- at the end -----------------------------------------------------------------------------------------------------

int tree_folder_time(struct tree *tree, const char *path, struct timespec time, struct err *err)
{
    if (tree->folder_len == tree->folder_capacity) {
        tree->folder_capacity = tree->folder_capacity ? tree->folder_capacity * 2 : 256;
        tree->folders = mem_grow(tree->folders, tree->folder_capacity * sizeof(*tree->folders));
    }
    tree->folders[tree->folder_len++] = (struct tree_folder){ tree->folder_paths.size, time };
    buf_add(&tree->folder_paths, path, strlen(path) + 1);
    return buf_check(&tree->folder_paths, "names of folders", err);
}

static bool is_folder(struct tree *tree, const char *path, int *fd)
{
    struct stat st;
    *fd = path_open(tree->root_fd, path, true, NULL);
    return *fd >= 0 && fstat(*fd, &st) == 0 && S_ISDIR(st.st_mode);
}

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void settle_opaque(struct tree *tree, struct strv *out)
{
    struct strv *found = &tree->opaque;
    if (found->len > 1)
        qsort(found->items, found->len, sizeof(*found->items), compare_text);
    for (size_t i = 0; i < found->len; i++) {
        _cleanup_close_ int fd = -1;
        bool again = i > 0 && str_eq(found->items[i - 1], found->items[i]);
        if (!again && is_folder(tree, found->items[i], &fd))
            strv_add(out, found->items[i]);
    }
}

int tree_finish(struct tree *tree, struct strv *opaque, struct err *err)
{
    // In the tar's order: of two entries for one folder the later one counts. Setting one folder's time leaves others'.
    for (size_t i = 0; i < tree->folder_len; i++) {
        _cleanup_close_ int fd = -1;
        const struct timespec times[2] = { tree->folders[i].time, tree->folders[i].time };
        const char *path = tree->folder_paths.data + tree->folders[i].path;
        if (is_folder(tree, path, &fd) && utimensat(fd, "", times, AT_EMPTY_PATH) < 0)
            return err_errno(err, errno, "layer entry %s: set time", path);
    }
    settle_opaque(tree, opaque);
    return 0;
}
