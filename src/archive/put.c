// Theory of operation: each entry resolves its folder anew from the root, by the one resolver, and is made relative to that folder's
// descriptor with calls that follow nothing. Files one after the other in one folder resolve it once: none of them can become a way somewhere else. A link that the tar itself brings, or that the container puts there meanwhile, changes which
// folder inside the tree is written to, and nothing else.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include "base/fd.h"
#include "base/file.h"
#include "kernel/abi.h"
#include "kernel/path.h"
#include "tar.h"

#define FOLDER_TEXT_MAX ((size_t)256 << 20) // names of folders whose times are set at the end

struct folder {
    size_t path; // offset in `paths`
    struct timespec time;
};

struct put {
    int root_fd;
    const char *into; // the folder, cleaned; "" is the root
    const struct archive_put *options;
    int parent_fd; // of the last entry, if that was a file; -1
    char parent[PATH_MAX];
    struct tar_reader reader;
    struct buf paths;
    struct folder *folders;
    size_t folder_len, folder_capacity;
};

// ---- the folder -----------------------------------------------------------------------------------------------------

static uint64_t mount_of(int fd)
{
    struct statx info;
    return statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &info) == 0 ? info.stx_mnt_id : 0;
}

static int check_folder(int root_fd, const char *path, struct err *err)
{
    struct stat info;
    struct statvfs fs;
    _cleanup_close_ int fd = path_open(root_fd, path, false, err);
    if (fd < 0)
        return -1;
    if (fstat(fd, &info) < 0 || fstatvfs(fd, &fs) < 0)
        return err_errno(err, errno, "stat %s", path);
    if (!S_ISDIR(info.st_mode))
        return err_set(err, ERR_INVALID_ARGUMENT, "extraction point is not a directory");
    if (!(fs.f_flag & ST_RDONLY))
        return 0;
    bool own = mount_of(fd) == mount_of(root_fd);
    return err_set(err, ERR_PERMISSION_DENIED, own ? "container rootfs is marked read-only" : "mounted volume is marked read-only");
}

// ---- attributes -----------------------------------------------------------------------------------------------------

static bool xattr_wanted(const char *name, bool file)
{
    return (file && str_eq(name, "security.capability")) || (str_starts(name, "user.") && !str_starts(name, "user.overlay."));
}

// A file system without them just does not keep them, as with Docker.
static int set_xattrs(const struct put *put, int fd, const struct tar_entry *entry, struct err *err)
{
    for (size_t i = 0; i < entry->xattr_len && !put->options->plain; i++) {
        const struct tar_xattr *xattr = &entry->xattrs[i];
        if (xattr_wanted(xattr->name, entry->type == TAR_FILE) && fsetxattr(fd, xattr->name, xattr->value, xattr->size, 0) < 0 &&
            errno != EOPNOTSUPP && errno != EPERM)
            return err_errno(err, errno, "set attribute %.64s", xattr->name);
    }
    return 0;
}

// The order matters: a change of owner clears set-id bits and security.capability.
static int set_attributes(const struct put *put, int fd, const struct tar_entry *entry, struct err *err)
{
    bool give = put->options->give;
    if (fchown(fd, give ? put->options->uid : entry->uid, give ? put->options->gid : entry->gid) < 0)
        return err_errno(err, errno, "lchown %s", entry->name);
    if (set_xattrs(put, fd, entry, err) < 0)
        return -1;
    return fchmod(fd, entry->mode) < 0 ? err_errno(err, errno, "chmod %s", entry->name) : 0;
}

static int set_attributes_at(const struct put *put, int parent, const char *name, const struct tar_entry *entry, struct err *err)
{
    const struct timespec times[2] = { entry->mtime, entry->mtime };
    bool give = put->options->give;
    if (fchownat(parent, name, give ? put->options->uid : entry->uid, give ? put->options->gid : entry->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(err, errno, "lchown %s", entry->name);
    if (entry->type != TAR_SYMLINK && fchmodat(parent, name, entry->mode, 0) < 0)
        return err_errno(err, errno, "chmod %s", entry->name);
    return utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? err_errno(err, errno, "set time of %s", entry->name) : 0;
}

// ---- entries --------------------------------------------------------------------------------------------------------

static int put_content(struct put *put, int fd, struct err *err)
{
    const char *data;
    ssize_t got;
    while ((got = tar_reader_content(&put->reader, &data, err)) > 0)
        if (fd_write_file(fd, data, (size_t)got, err) < 0)
            return -1;
    return (int)got;
}

static int put_file(struct put *put, int parent, const char *name, const struct tar_entry *entry, struct err *err)
{
    const struct timespec times[2] = { entry->mtime, entry->mtime };
    _cleanup_close_ int fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(err, errno, "open %s", entry->name);
    if (put_content(put, fd, err) < 0 || set_attributes(put, fd, entry, err) < 0)
        return -1;
    return futimens(fd, times) < 0 ? err_errno(err, errno, "set time of %s", entry->name) : 0;
}

static int remember_folder(struct put *put, const char *path, struct timespec time, struct err *err)
{
    if (put->folder_len == put->folder_capacity) {
        put->folder_capacity = put->folder_capacity ? put->folder_capacity * 2 : 64;
        put->folders = mem_grow(put->folders, put->folder_capacity * sizeof(*put->folders));
    }
    put->folders[put->folder_len++] = (struct folder){ put->paths.size, time };
    buf_add(&put->paths, path, strlen(path) + 1);
    return buf_check(&put->paths, "names of folders", err);
}

static int put_folder(struct put *put, int parent, const char *name, const char *path, const struct tar_entry *entry, struct err *err)
{
    if (mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
        return err_errno(err, errno, "mkdir %s", entry->name);
    _cleanup_close_ int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "open %s", entry->name);
    return set_attributes(put, fd, entry, err) < 0 ? -1 : remember_folder(put, path, entry->mtime, err);
}

static int outside(const struct put *put, const char *name, struct err *err)
{
    return err_set(err, ERR_INVALID_ARGUMENT, "\"%.512s\" is outside of \"%.256s\"", name, *put->into ? put->into : "/");
}

// The entry's place, "/into/name", without a way out; "" for the folder itself.
static int place_of(const struct put *put, const char *name, char out[PATH_MAX], struct err *err)
{
    struct slice rest = slice_of(name), part;
    int depth = 0;
    char clean[PATH_MAX];
    enum name_end end;
    while (slice_cut(&rest, '/', &part)) {
        depth += slice_eq(part, "..") ? -1 : part.size > 0 && !slice_eq(part, ".");
        if (depth < 0)
            return outside(put, name, err);
    }
    if (name_clean(name, clean, &end, err) < 0)
        return -1;
    if (strlen(put->into) + strlen(clean) >= PATH_MAX)
        return err_errno(err, ENAMETOOLONG, "%.64s...", name);
    snprintf(out, PATH_MAX, "%s%s", put->into, clean[1] ? clean : "");
    if (!clean[1])
        out[0] = '\0';
    return 0;
}

static int put_hardlink(struct put *put, int parent, const char *name, const struct tar_entry *entry, struct err *err)
{
    char from[PATH_MAX];
    _cleanup_free_ char *from_name = NULL;
    if (place_of(put, entry->link, from, err) < 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid hardlink \"%.256s\" -> \"%.256s\"", entry->name, entry->link);
    _cleanup_close_ int from_fd = path_open_parent(put->root_fd, from, false, &from_name, err);
    if (from_fd < 0)
        return err_wrap(err, "link %s", entry->name);
    // Flags 0: a link at the end is linked itself.
    return linkat(from_fd, from_name, parent, name, 0) < 0 ? err_errno(err, errno, "link %s", entry->name) : 0;
}

static int put_other(struct put *put, int parent, const char *name, const struct tar_entry *entry, struct err *err)
{
    const mode_t types[] = { [TAR_CHAR - TAR_FILE] = S_IFCHR, [TAR_BLOCK_DEVICE - TAR_FILE] = S_IFBLK, [TAR_FIFO - TAR_FILE] = S_IFIFO };
    int made = entry->type == TAR_SYMLINK ? symlinkat(entry->link, parent, name)
                                          : mknodat(parent, name, types[entry->type - TAR_FILE] | 0600, entry->device);
    if (made < 0)
        return err_errno(err, errno, "make %s", entry->name);
    return set_attributes_at(put, parent, name, entry, err);
}

// What has the name already: a folder meets a folder, all else goes, unless its kind is to stay.
static int make_room(const struct put *put, int parent, const char *name, const char *path, const struct tar_entry *entry, struct err *err)
{
    struct stat info;
    const char *into = *put->into ? put->into : "/";
    bool folder = entry->type == TAR_FOLDER;
    if (fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_errno(err, errno, "lstat %s", path);
    if (put->options->keep_kind && S_ISDIR(info.st_mode) && !folder)
        return err_set(err, ERR_INVALID_ARGUMENT, "cannot overwrite directory \"%.256s\" with non-directory \"%.256s\"", path, into);
    if (put->options->keep_kind && !S_ISDIR(info.st_mode) && folder)
        return err_set(err, ERR_INVALID_ARGUMENT, "cannot overwrite non-directory \"%.256s\" with directory \"%.256s\"", path, into);
    if (S_ISDIR(info.st_mode) && folder)
        return 0;
    if (!S_ISDIR(info.st_mode))
        return unlinkat(parent, name, 0) < 0 && errno != ENOENT ? err_errno(err, errno, "unlinkat %s", path) : 0;
    return file_remove_tree(parent, name, err);
}

static int put_kind(struct put *put, int parent, const char *name, const char *path, const struct tar_entry *entry, struct err *err)
{
    if (make_room(put, parent, name, path, entry, err) < 0)
        return -1;
    switch (entry->type) {
    case TAR_FILE:
        return put_file(put, parent, name, entry, err);
    case TAR_FOLDER:
        return put_folder(put, parent, name, path, entry, err);
    case TAR_HARDLINK:
        return put_hardlink(put, parent, name, entry, err);
    default:
        return put_other(put, parent, name, entry, err);
    }
}

static void forget_parent(struct put *put)
{
    fd_close(put->parent_fd);
    put->parent_fd = -1;
}

// In the folder of the last file, or in one that is looked up.
static int put_in_folder(struct put *put, const char *path, const struct tar_entry *entry, struct err *err)
{
    size_t size = (size_t)(strrchr(path, '/') - path);
    _cleanup_free_ char *name = NULL;
    if (put->parent_fd >= 0 && strncmp(put->parent, path, size) == 0 && put->parent[size] == '\0')
        return put_kind(put, put->parent_fd, path + size + 1, path, entry, err);
    forget_parent(put);
    put->parent_fd = path_open_parent(put->root_fd, path, true, &name, err);
    if (put->parent_fd < 0)
        return -1;
    snprintf(put->parent, sizeof(put->parent), "%.*s", (int)size, path);
    return put_kind(put, put->parent_fd, name, path, entry, err);
}

static int put_entry(struct put *put, const struct tar_entry *entry, struct err *err)
{
    char path[PATH_MAX];
    if (place_of(put, entry->name, path, err) < 0)
        return -1;
    if (!path[0])
        return entry->type == TAR_FOLDER ? 0 : outside(put, entry->name, err);
    int done = put_in_folder(put, path, entry, err);
    if (entry->type != TAR_FILE)
        forget_parent(put);
    return done;
}

// Of two entries for one folder the later one counts.
static void set_folder_times(struct put *put)
{
    for (size_t i = 0; i < put->folder_len; i++) {
        const struct timespec times[2] = { put->folders[i].time, put->folders[i].time };
        _cleanup_free_ char *name = NULL;
        _cleanup_close_ int parent = path_open_parent(put->root_fd, put->paths.data + put->folders[i].path, false, &name, NULL);
        if (parent >= 0)
            utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW);
    }
}

int archive_put(int root_fd, const char *path, const struct archive_put *options, archive_read_fn *read, void *context, struct err *err)
{
    char clean[PATH_MAX];
    enum name_end end;
    struct tar_entry *entry;
    int more;
    if (name_clean(path, clean, &end, err) < 0 || check_folder(root_fd, clean, err) < 0)
        return -1;
    struct put put = { .root_fd = root_fd, .parent_fd = -1, .into = clean[1] ? clean : "", .options = options, .paths = BUF_INIT(FOLDER_TEXT_MAX) };
    tar_reader_init(&put.reader, read, context);
    while ((more = tar_reader_next(&put.reader, &entry, err)) > 0)
        if (put_entry(&put, entry, err) < 0) {
            more = -1;
            break;
        }
    if (more == 0)
        set_folder_times(&put);
    forget_parent(&put);
    tar_reader_done(&put.reader);
    buf_done(&put.paths);
    free(put.folders);
    return more;
}
