// A tar as rows of a listing with their contents, in its order: nothing is unpacked.
#include <sys/sysmacros.h>

#include "build/listing.h"
#include "tar.h"

// What a listing can't say: names that archive_put() refuses or that mean nothing.
static bool is_odd(const struct tar_entry *entry)
{
    return strstr(entry->name, "..") || (entry->type == TAR_HARDLINK && strstr(entry->link, "..")) || (entry->type == TAR_SYMLINK && str_empty(entry->link));
}

static int put_frame(struct tar_writer *out, const struct tar_entry *entry, const char *path, const char *link, struct err *err)
{
    const struct listing_entry told = { .path = path, .link = link, .type = is_odd(entry) ? 0 : entry->type, .mode = entry->mode & 07777, .uid = entry->uid,
                                        .gid = entry->gid, .size = entry->type == TAR_FILE ? entry->size : 0,
                                        .major = major(entry->device), .minor = minor(entry->device) };
    _cleanup_buf_ struct buf row = BUF_INIT(4 * PATH_MAX);
    listing_put(&told, &row);
    const struct listing_frame frame = { (uint32_t)row.size, entry->type == TAR_FILE, entry->type == TAR_FILE ? (uint64_t)entry->size : 0 };
    if (buf_check(&row, "a name in the archive", err) < 0 || tar_write_raw(out, &frame, sizeof(frame), err) < 0)
        return -1;
    return tar_write_raw(out, row.data, row.size, err);
}

static int put_entry(struct tar_writer *out, struct tar_reader *reader, const struct tar_entry *entry, struct err *err)
{
    char path[PATH_MAX], link[PATH_MAX] = "/";
    enum name_end end;
    const char *data;
    ssize_t got;
    if (name_clean(entry->name, path, &end, err) < 0 || (entry->type == TAR_HARDLINK && name_clean(entry->link, link, &end, err) < 0))
        return -1;
    if (!path[1] && entry->type == TAR_FOLDER)
        return 0; // the top itself
    if (put_frame(out, entry, path + 1, entry->type == TAR_SYMLINK ? entry->link : link + 1, err) < 0)
        return -1;
    while ((got = tar_reader_content(reader, &data, err)) > 0)
        if (tar_write_raw(out, data, (size_t)got, err) < 0)
            return -1;
    return (int)got;
}

int archive_list(archive_read_fn *read, void *context, int out_fd, bool *marked, struct err *err)
{
    struct tar_reader reader;
    struct tar_writer out;
    struct tar_entry *entry;
    int more;
    tar_reader_init(&reader, read, context);
    tar_writer_init(&out, out_fd);
    out.records = true;
    while ((more = tar_reader_next(&reader, &entry, err)) > 0)
        if (put_entry(&out, &reader, entry, err) < 0) {
            more = -1;
            break;
        }
    if (more == 0)
        more = tar_write_end(&out, err);
    *marked = reader.marked;
    tar_writer_done(&out);
    tar_reader_done(&reader);
    return more;
}
