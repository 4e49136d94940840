#include <errno.h>
#include <fcntl.h>

#include "base/fd.h"
#include "kernel/path.h"
#include "tar.h"

static int get_folder(struct tar_writer *writer, int folder_fd, const char *as, struct err *err)
{
    struct stat info;
    if (fstat(folder_fd, &info) < 0)
        return err_errno(err, errno, "stat %s", as);
    return tar_write_entry(writer, folder_fd, ".", &info, as, err) < 0 ? -1 : tar_write_tree(writer, folder_fd, as, 0, err);
}

static int get_other(struct tar_writer *writer, int root_fd, const char *clean, const char *as, struct err *err)
{
    _cleanup_free_ char *name = NULL;
    struct stat info;
    _cleanup_close_ int parent = path_open_parent(root_fd, clean, false, &name, err);
    if (parent < 0)
        return -1;
    if (fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(err, errno, "lstat %s", clean);
    return tar_write_entry(writer, parent, name, &info, as, err);
}

static int get_named(struct tar_writer *writer, int root_fd, const char *clean, enum name_end end, struct err *err)
{
    struct stat info;
    _cleanup_close_ int named = name_open(root_fd, clean, end, err);
    if (named < 0)
        return -1;
    if (fstat(named, &info) < 0)
        return err_errno(err, errno, "stat %s", clean);
    if (!S_ISDIR(info.st_mode))
        return get_other(writer, root_fd, clean, name_base(clean, end), err);
    _cleanup_close_ int folder = openat(named, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return folder < 0 ? err_errno(err, errno, "open %s", clean) : get_folder(writer, folder, name_base(clean, end), err);
}

int archive_get(int root_fd, const char *path, int out_fd, struct err *err)
{
    char clean[PATH_MAX];
    enum name_end end;
    struct tar_writer writer;
    if (name_clean(path, clean, &end, err) < 0)
        return -1;
    tar_writer_init(&writer, out_fd);
    int done = get_named(&writer, root_fd, clean, end, err);
    if (done == 0)
        done = tar_write_end(&writer, err);
    tar_writer_done(&writer);
    return done;
}

int archive_export(int root_fd, const struct archive_times *times, int out_fd, struct err *err)
{
    struct tar_writer writer;
    _cleanup_close_ int folder = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return err_errno(err, errno, "open the root");
    const struct tar_changes changes = times ? tar_changes_of(times) : (struct tar_changes){ 0 };
    tar_writer_init(&writer, out_fd);
    writer.changes = times ? &changes : NULL;
    int done = tar_write_tree(&writer, folder, "", 0, err);
    if (done == 0)
        done = tar_write_end(&writer, err);
    tar_writer_done(&writer);
    return done;
}
