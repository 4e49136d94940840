// Theory of operation: nothing is written but a tar. Its names are real ones, with every link of the tree resolved, so that no entry of the
// layer stands in the place of a folder's link (/lib, in many images). Beside each folder of a source goes the descriptor of the folder of
// the tree that it meets, or none: what is there already is known by one fstatat.
#include "place.h"

#include <errno.h>
#include <fcntl.h>

#include "base/fd.h"
#include "build/ignore.h"
#include "kernel/path.h"

// ---- folders on the way ---------------------------------------------------------------------------------------------

static int tell_folder(struct placing *placing, const char *path, struct err *err)
{
    struct stat info = { .st_mode = S_IFDIR | 0755, .st_mtim = { .tv_sec = placing->place->now } };
    if (strv_has(&placing->told, path))
        return 0;
    strv_add(&placing->told, path);
    const struct tar_changes *changes = placing->writer.changes, made = { .mode = -1, .time_max = changes->time_max };
    _cleanup_close_ int fd = path_open(placing->root_fd, path, true, NULL);
    bool there = fd >= 0 && fstat(fd, &info) == 0;
    if (there && !S_ISDIR(info.st_mode))
        return err_set(err, ERR_INVALID_ARGUMENT, "cannot copy to non-directory: %s", path);
    if (!there && placing->place->owner && !placing->within) {
        info.st_uid = placing->changes.uid;
        info.st_gid = placing->changes.gid;
    }
    placing->writer.changes = there ? NULL : &made;
    int done = tar_write_folder(&placing->writer, &info, path + 1, err);
    placing->writer.changes = changes;
    return done;
}

// "/a/b": /a, and with `itself` /a/b.
static int tell_way(struct placing *placing, const char *path, bool itself, struct err *err)
{
    if (placing->root_fd < 0)
        return 0;
    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        _cleanup_free_ char *above = mem_strndup(path, (size_t)(slash - path));
        if (tell_folder(placing, above, err) < 0)
            return -1;
    }
    return itself && path[1] ? tell_folder(placing, path, err) : 0;
}

// ---- sources --------------------------------------------------------------------------------------------------------

// The descriptor of a folder of the tree, to look at what is in it; -1: it is not there.
static int open_met(const struct placing *placing, const char *path)
{
    _cleanup_close_ int fd = placing->root_fd < 0 ? -1 : path_open(placing->root_fd, path, true, NULL);
    return fd < 0 ? -1 : openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

// The target of a folder's content, which gets the time of that folder, whether it is new or not: BuildKit's way. A new one's mode is 0755 whatever
// the source has, or what is asked for in numbers.
static int tell_target(struct placing *placing, int from_fd, int met_fd, const char *target, struct err *err)
{
    const struct tar_changes *changes = placing->writer.changes;
    struct tar_changes made = placing->changes, kept = { .mode = -1, .time_max = changes->time_max };
    struct stat from, info = { .st_mode = S_IFDIR | 0755 };
    made.chmod = NULL;
    _cleanup_close_ int other = placing->root_fd < 0 || met_fd >= 0 ? -1 : path_open(placing->root_fd, target, true, NULL);
    if (other >= 0)
        return err_set(err, ERR_INVALID_ARGUMENT, "cannot copy to non-directory: %s", target);
    if (fstat(from_fd, &from) < 0 || (met_fd >= 0 && fstat(met_fd, &info) < 0))
        return err_errno(err, errno, "%s", target);
    info.st_mtim = from.st_mtim;
    strv_add(&placing->told, target);
    placing->writer.changes = met_fd >= 0 ? &kept : &made;
    int done = tar_write_folder(&placing->writer, &info, target + 1, err);
    placing->writer.changes = changes;
    return done;
}

static int put_folder(struct placing *placing, const struct archive_source *source, int from_fd, const char *target, struct err *err)
{
    _cleanup_close_ int met = open_met(placing, target);
    if (tell_way(placing, target, false, err) < 0)
        return -1;
    if (target[1] && !strv_has(&placing->told, target) && tell_target(placing, from_fd, met, target, err) < 0)
        return -1;
    return place_children(placing, source, from_fd, met, target + 1, err);
}

static int put_file(struct placing *placing, int tree_fd, const char *path, const char *target, struct err *err)
{
    struct stat info;
    char real[PATH_MAX];
    _cleanup_free_ char *name = NULL;
    name_follow(tree_fd, path, real);
    _cleanup_close_ int parent = path_open_parent(tree_fd, real, false, &name, err);
    if (parent < 0)
        return -1;
    if (fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return err_errno(err, errno, "%s", path + 1);
    const char *last = strrchr(target, '/');
    _cleanup_free_ char *above = mem_strndup(target, last == target ? 1 : (size_t)(last - target));
    _cleanup_close_ int beside = open_met(placing, above), met = -1;
    if (place_refuse_name(last + 1, err) < 0 || place_meet(beside, last + 1, false, target + 1, &met, err) < 0 || tell_way(placing, target, false, err) < 0)
        return -1;
    return tar_write_entry(&placing->writer, parent, name, &info, target + 1, err);
}

// A file that is a source itself is left out by its own name.
static bool is_left_out(const struct placing *placing, const char *path)
{
    return placing->place->excludes && ignore_match(placing->place->excludes, strrchr(path, '/') + 1);
}

// Under the target's name, or in it under its own.
static int put_match(struct placing *placing, const struct archive_source *source, const char *path, const char *target, bool inside, struct err *err)
{
    struct stat info;
    _cleanup_close_ int fd = path_open(source->fd, path, false, err);
    if (fd < 0)
        return -1;
    if (fstat(fd, &info) < 0)
        return err_errno(err, errno, "%s", path + 1);
    if (!S_ISDIR(info.st_mode)) {
        _cleanup_free_ char *within = mem_printf("%s%s", target[1] ? target : "", strrchr(path, '/'));
        return is_left_out(placing, path) ? 0 : put_file(placing, source->fd, path, inside ? within : target, err);
    }
    _cleanup_close_ int folder = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return folder < 0 ? err_errno(err, errno, "open %s", path + 1) : put_folder(placing, source, folder, target, err);
}

// What a source names. A path that --parents says in full must be there.
static int find_matches(const struct archive_source *source, struct strv *out, struct err *err)
{
    if (source->required) {
        _cleanup_close_ int there = path_open(source->fd, source->required, true, NULL);
        if (there < 0)
            return err_errno(err, ENOENT, "%s", source->required + 1);
    }
    return source_matches(source, out, err);
}

static int put_matches(struct placing *placing, const struct archive_source *source, struct err *err)
{
    _cleanup_strv_ struct strv matches = { 0 };
    if (find_matches(source, &matches, err) < 0)
        return -1;
    if (matches.len > 1 && !placing->folder)
        return err_set(err, ERR_INVALID_ARGUMENT, "When using COPY with more than one source file, the destination must be a directory and end with a /");
    for (size_t i = 0; i < matches.len; i++)
        if (put_match(placing, source, matches.items[i], placing->target, placing->folder, err) < 0)
            return -1;
    return 0;
}

// ---- archives -------------------------------------------------------------------------------------------------------

static ssize_t read_tar(void *context, void *data, size_t size, struct err *err)
{
    ssize_t got;
    do
        got = read(*(const int *)context, data, size);
    while (got < 0 && errno == EINTR);
    return got < 0 ? err_errno(err, errno, "read the archive") : got;
}

// The real name in the tree of a name in the archive. A link at the end is itself.
static int real_name(const struct placing *placing, const char *name, char out[PATH_MAX], struct err *err)
{
    char clean[PATH_MAX], above[PATH_MAX], whole[PATH_MAX];
    enum name_end end;
    if (strstr(name, "..") && (str_starts(name, "../") || strstr(name, "/../") || str_eq(name, "..")))
        return err_set(err, ERR_INVALID_ARGUMENT, "\"%.512s\" is outside of the archive", name);
    if (name_clean(name, clean, &end, err) < 0)
        return -1;
    if ((size_t)snprintf(whole, sizeof(whole), "%s%s", placing->target[1] ? placing->target : "", clean[1] ? clean : "") >= sizeof(whole))
        return err_errno(err, ENAMETOOLONG, "%.64s...", name);
    char *last = strrchr(whole, '/');
    if (!last || !clean[1]) {
        snprintf(out, PATH_MAX, "%s", placing->target);
        return 0;
    }
    *last = '\0';
    name_follow(placing->root_fd, *whole ? whole : "/", above);
    return (size_t)snprintf(out, PATH_MAX, "%s/%s", above[1] ? above : "", last + 1) >= PATH_MAX ? err_errno(err, ENAMETOOLONG, "%.64s...", name) : 0;
}

static int put_member(struct placing *placing, struct tar_reader *reader, const struct tar_entry *entry, struct err *err)
{
    char name[PATH_MAX], link[PATH_MAX] = "/";
    _cleanup_close_ int met = -1;
    if (real_name(placing, entry->name, name, err) < 0 || (entry->type == TAR_HARDLINK && real_name(placing, entry->link, link, err) < 0))
        return -1;
    if (!name[1] || str_eq(name, placing->target))
        return 0; // the folder itself
    const char *last = strrchr(name, '/');
    _cleanup_free_ char *above = mem_strndup(name, last == name ? 1 : (size_t)(last - name));
    _cleanup_close_ int beside = open_met(placing, above);
    bool folder = entry->type == TAR_FOLDER;
    if (place_refuse_name(last + 1, err) < 0 || place_meet(beside, last + 1, folder, name + 1, &met, err) < 0 || tell_way(placing, name, false, err) < 0)
        return -1;
    if (folder)
        strv_add(&placing->told, name);
    const char *target = entry->type == TAR_SYMLINK ? entry->link : link + 1;
    return tar_write_copy(&placing->writer, reader, entry, name + 1, target, err);
}

static int put_tar(struct placing *placing, const struct archive_source *source, struct err *err)
{
    struct tar_reader reader;
    struct tar_entry *entry;
    int fd = source->fd, more;
    // Its members belong to whom it says, unless somebody else is asked for.
    struct tar_changes changes = placing->changes;
    changes.give = placing->place->owner != NULL;
    if (tell_way(placing, placing->target, true, err) < 0)
        return -1;
    placing->writer.changes = &changes;
    placing->within = true;
    tar_reader_init(&reader, read_tar, &fd);
    while ((more = tar_reader_next(&reader, &entry, err)) > 0)
        if (put_member(placing, &reader, entry, err) < 0) {
            more = -1;
            break;
        }
    tar_reader_done(&reader);
    placing->within = false;
    placing->writer.changes = &placing->changes;
    return more;
}

// ---- the whole ------------------------------------------------------------------------------------------------------

static int begin(struct placing *placing, int out_fd, struct err *err)
{
    const struct archive_place *place = placing->place;
    placing->changes = (struct tar_changes){ .give = place->roots || place->owner, .mode = place->mode, .chmod = place->chmod, .time_max = place->time_max };
    if (place->owner && archive_user(placing->root_fd, place->owner, &placing->changes.uid, &placing->changes.gid, err) < 0)
        return -1;
    tar_writer_init(&placing->writer, out_fd);
    placing->writer.changes = &placing->changes;
    placing->writer.content = place->content;
    return 0;
}

static int find_target(struct placing *placing, struct err *err)
{
    char clean[PATH_MAX];
    enum name_end end;
    if (name_clean(placing->place->target, clean, &end, err) < 0)
        return -1;
    name_follow(placing->root_fd, clean, placing->target);
    _cleanup_close_ int there = open_met(placing, placing->target);
    placing->folder = placing->place->folder || end != NAME_PLAIN || there >= 0;
    return 0;
}

static int put_all(struct placing *placing, struct err *err)
{
    const struct archive_place *place = placing->place;
    if (find_target(placing, err) < 0)
        return -1;
    _cleanup_close_ int there = open_met(placing, placing->target);
    if (place->source_len == 0 && !place->optional && there < 0 && tell_way(placing, placing->target, true, err) < 0)
        return -1;
    for (size_t i = 0; i < place->source_len; i++) {
        const struct archive_source *source = &place->sources[i];
        if ((source->tar ? put_tar(placing, source, err) : put_matches(placing, source, err)) < 0)
            return -1;
    }
    return tar_write_end(&placing->writer, err);
}

int archive_place(int root_fd, const struct archive_place *place, int out_fd, struct err *err)
{
    struct placing placing = { .root_fd = root_fd, .place = place };
    if (begin(&placing, out_fd, err) < 0)
        return -1;
    int done = put_all(&placing, err);
    tar_writer_done(&placing.writer);
    strv_done(&placing.told);
    return done;
}

// ---- to be hashed ---------------------------------------------------------------------------------------------------

static bool looks_packed(int fd)
{
    static const struct {
        const char *bytes;
        size_t at, size;
    } magics[] = { { "\x1f\x8b", 0, 2 }, { "BZh", 0, 3 }, { "\xfd" "7zXZ", 0, 5 }, { "\x28\xb5\x2f\xfd", 0, 4 }, { "ustar", 257, 5 } };
    char head[TAR_BLOCK];
    ssize_t size = fd_read_full(fd, head, sizeof(head), NULL);
    for (size_t i = 0; i < ARRAY_LEN(magics); i++)
        if (size >= (ssize_t)(magics[i].at + magics[i].size) && memcmp(head + magics[i].at, magics[i].bytes, magics[i].size) == 0)
            return true;
    return false;
}

static int tell_found(const struct placing *placing, size_t index, const char *path, archive_found_fn *each, void *context, struct err *err)
{
    const struct archive_source *source = &placing->place->sources[index];
    struct stat info;
    _cleanup_close_ int fd = path_open(source->fd, path, false, err);
    if (fd < 0)
        return -1;
    if (fstat(fd, &info) < 0)
        return err_errno(err, errno, "%s", path + 1);
    if (!S_ISDIR(info.st_mode) && is_left_out(placing, path))
        return 0;
    _cleanup_close_ int file = S_ISREG(info.st_mode) ? path_open_file(source->fd, path, err) : -1;
    if (S_ISREG(info.st_mode) && file < 0)
        return -1;
    const struct archive_found found = { .path = path, .folder = S_ISDIR(info.st_mode), .packed = file >= 0 && looks_packed(file) };
    return each(context, index, &found, err);
}

static int hash_source(struct placing *placing, size_t index, archive_found_fn *each, void *context, struct err *err)
{
    const struct archive_source *source = &placing->place->sources[index];
    _cleanup_strv_ struct strv matches = { 0 };
    if (find_matches(source, &matches, err) < 0)
        return -1;
    for (size_t i = 0; i < matches.len; i++) {
        char target[64];
        snprintf(target, sizeof(target), "/%zu/%zu", index, i);
        if ((each && tell_found(placing, index, matches.items[i], each, context, err) < 0) ||
            put_match(placing, source, matches.items[i], target, true, err) < 0)
            return -1;
    }
    return 0;
}

int archive_sources(const struct archive_place *place, archive_found_fn *each, void *context, int out_fd, struct err *err)
{
    struct placing placing = { .root_fd = -1, .place = place, .folder = true };
    placing.changes = (struct tar_changes){ .give = place->roots, .mode = -1, .time_max = 0 };
    tar_writer_init(&placing.writer, out_fd);
    placing.writer.records = true;
    placing.writer.changes = &placing.changes;
    int done = 0;
    for (size_t i = 0; i < place->source_len && done == 0; i++)
        done = hash_source(&placing, i, each, context, err);
    if (done == 0)
        done = tar_write_end(&placing.writer, err);
    tar_writer_done(&placing.writer);
    strv_done(&placing.told);
    return done;
}
