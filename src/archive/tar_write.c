// Theory of operation: ustar, with a pax header before an entry only where ustar's fields don't hold what it is: long names, large
// sizes and owners, extended attributes. Nothing depends on when or where a tar is written, only on the files.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/fd.h"
#include "base/file.h"
#include "base/strv.h"
#include "build/chmod.h"
#include "build/listing.h"
#include "tar.h"

#define CHUNK ((size_t)256 << 10)
#define SPLICE_MIN ((uint64_t)16 << 10) // below it a copy costs less than a call
#define EXTRA_MAX ((size_t)8 << 20)
#define DEPTH_MAX 1000 // folders in each other; each is a descriptor
#define LINKS_MAX ((size_t)1 << 20) // files with several names that are remembered; more are written whole
#define OCTAL7_MAX 07777777
#define OCTAL11_MAX 077777777777
#define XATTR_NAMES_MAX 65536

// ---- files with several names ---------------------------------------------------------------------------------------

struct link {
    dev_t device;
    ino_t inode;
    char *name; // malloc'ed; NULL: free
};

struct tar_links {
    struct link *slots; // open addressing
    size_t len, capacity;
};

static size_t slot_of(const struct tar_links *links, dev_t device, ino_t inode)
{
    size_t at = (size_t)((inode ^ (device << 20)) * UINT64_C(0x9e3779b97f4a7c15)) & (links->capacity - 1);
    while (links->slots[at].name && (links->slots[at].inode != inode || links->slots[at].device != device))
        at = (at + 1) & (links->capacity - 1);
    return at;
}

static void grow_links(struct tar_links *links)
{
    struct tar_links old = *links;
    links->capacity = old.capacity ? old.capacity * 2 : 256;
    links->slots = mem_alloc(links->capacity * sizeof(*links->slots));
    for (size_t i = 0; i < old.capacity; i++)
        if (old.slots[i].name)
            links->slots[slot_of(links, old.slots[i].device, old.slots[i].inode)] = old.slots[i];
    free(old.slots);
}

// The name under which it was written already; NULL: it was not, and is now.
static const char *seen_before(struct tar_writer *writer, const struct stat *info, const char *as)
{
    if (S_ISDIR(info->st_mode) || info->st_nlink < 2)
        return NULL;
    struct tar_links *links = writer->links;
    if (links->len * 2 >= links->capacity && links->len < LINKS_MAX)
        grow_links(links);
    struct link *slot = &links->slots[slot_of(links, info->st_dev, info->st_ino)];
    if (slot->name || links->len * 2 >= links->capacity)
        return slot->name;
    *slot = (struct link){ info->st_dev, info->st_ino, mem_strdup(as) };
    links->len++;
    return NULL;
}

void tar_writer_init(struct tar_writer *writer, int fd)
{
    *writer = (struct tar_writer){ .fd = fd, .links = mem_new(struct tar_links), .extra = BUF_INIT(EXTRA_MAX), .names = mem_alloc(XATTR_NAMES_MAX + TAR_XATTR_VALUE_MAX),
                                   .held = mem_alloc(CHUNK) };
}

void tar_writer_done(struct tar_writer *writer)
{
    for (size_t i = 0; i < writer->links->capacity; i++)
        free(writer->links->slots[i].name);
    free(writer->links->slots);
    free(writer->links);
    buf_done(&writer->extra);
    free(writer->names);
    free(writer->held);
}

// The worker has SIGPIPE ignored: a pipe that breaks is an error as it is.
static int flush(struct tar_writer *writer, struct err *err)
{
    size_t size = writer->held_size;
    writer->held_size = 0;
    return fd_write_file(writer->fd, writer->held, size, err);
}

static int put(struct tar_writer *writer, const void *data, size_t size, struct err *err)
{
    if (size > CHUNK - writer->held_size && flush(writer, err) < 0)
        return -1;
    if (size > CHUNK)
        return fd_write_file(writer->fd, data, size, err);
    memcpy(writer->held + writer->held_size, data, size);
    writer->held_size += size;
    return 0;
}

int tar_write_raw(struct tar_writer *writer, const void *data, size_t size, struct err *err)
{
    return put(writer, data, size, err);
}

// ---- headers --------------------------------------------------------------------------------------------------------

// "27 path=some/long/name\n": the number counts itself.
static void add_record(struct tar_writer *writer, const char *key, const void *value, size_t size)
{
    size_t rest = strlen(key) + size + 3, digits = 1;
    for (size_t limit = 10; rest + digits >= limit; limit *= 10)
        digits++;
    buf_addf(&writer->extra, "%zu %s=", rest + digits, key);
    buf_add(&writer->extra, value, size);
    buf_addc(&writer->extra, '\n');
}

static void add_number(struct tar_writer *writer, const char *key, int64_t value)
{
    char text[24];
    int size = snprintf(text, sizeof(text), "%lld", (long long)value);
    add_record(writer, key, text, (size_t)size);
}

static void put_octal(char *field, size_t size, uint64_t value, uint64_t max)
{
    snprintf(field, size, "%0*llo", (int)size - 1, (unsigned long long)(value <= max ? value : 0));
}

// What does not fit goes into the records; then the field has as much as it holds.
static void put_text(struct tar_writer *writer, char *field, const char *text, const char *key)
{
    size_t size = strlen(text);
    if (size > 100)
        add_record(writer, key, text, size);
    memcpy(field, text, MIN_OF(size, (size_t)100));
}

static void checksum(char head[TAR_BLOCK])
{
    unsigned sum = 0;
    memset(head + 148, ' ', 8);
    for (size_t i = 0; i < TAR_BLOCK; i++)
        sum += (unsigned char)head[i];
    snprintf(head + 148, 8, "%06o", sum);
}

static int pad(struct tar_writer *writer, uint64_t size, struct err *err)
{
    static const char zeros[TAR_BLOCK];
    return writer->records ? 0 : put(writer, zeros, (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK, err);
}

static int write_extra(struct tar_writer *writer, struct err *err)
{
    char head[TAR_BLOCK] = "././@PaxHeader";
    if (buf_check(&writer->extra, "tar header", err) < 0)
        return -1;
    if (writer->extra.size == 0)
        return 0;
    memcpy(head + 100, "0000644", 7);
    put_octal(head + 124, 12, writer->extra.size, OCTAL11_MAX);
    put_octal(head + 136, 12, 0, 0);
    head[156] = 'x';
    memcpy(head + 257, "ustar\00000", 8);
    checksum(head);
    if (put(writer, head, TAR_BLOCK, err) < 0 || put(writer, writer->extra.data, writer->extra.size, err) < 0)
        return -1;
    return pad(writer, writer->extra.size, err);
}

static void put_owner(struct tar_writer *writer, char *field, uint32_t id, const char *key)
{
    if (id > OCTAL7_MAX)
        add_number(writer, key, id);
    put_octal(field, 8, id, OCTAL7_MAX);
}

struct tar_changes tar_changes_of(const struct archive_times *times)
{
    return (struct tar_changes){ .mode = -1, .time_max = times->max, .same_time = times->same, .time = times->time };
}

static struct stat changed(const struct tar_changes *changes, enum tar_type type, const struct stat *info)
{
    struct stat out = *info;
    if (!changes)
        return out;
    if (changes->give) {
        out.st_uid = changes->uid;
        out.st_gid = changes->gid;
    }
    if (changes->mode >= 0 && type != TAR_SYMLINK)
        out.st_mode = (out.st_mode & S_IFMT) | (mode_t)changes->mode;
    if (changes->chmod && type != TAR_SYMLINK) {
        uint32_t mode = out.st_mode & 07777;
        chmod_apply(changes->chmod, type == TAR_FOLDER, &mode);
        out.st_mode = (out.st_mode & S_IFMT) | mode;
    }
    if (changes->time_max >= 0 && out.st_mtim.tv_sec > changes->time_max)
        out.st_mtim = (struct timespec){ .tv_sec = changes->time_max };
    if (changes->same_time)
        out.st_mtim = (struct timespec){ .tv_sec = changes->time };
    return out;
}

static void tell_content(struct tar_writer *writer, bool any)
{
    archive_content_fn *content = take_ptr(&writer->content);
    if (content)
        content(any);
}

// Not a tar's header, but what makes the entry another one, its attributes behind it.
static int write_record(struct tar_writer *writer, enum tar_type type, const struct stat *info, const char *as, const char *link, struct err *err)
{
    const struct listing_entry entry = { .link = link, .type = type, .mode = info->st_mode & 07777, .uid = info->st_uid, .gid = info->st_gid, .size = info->st_size,
                                         .major = major(info->st_rdev), .minor = minor(info->st_rdev) };
    _cleanup_buf_ struct buf record = BUF_INIT(EXTRA_MAX + 3 * PATH_MAX);
    listing_record(&entry, as, &record);
    buf_add(&record, writer->extra.data, writer->extra.size);
    buf_clear(&writer->extra);
    const struct listing_frame head = { (uint32_t)record.size, type == TAR_FILE, type == TAR_FILE ? (uint64_t)info->st_size : 0 };
    if (buf_check(&record, "tar header", err) < 0 || put(writer, &head, sizeof(head), err) < 0)
        return -1;
    return put(writer, record.data, record.size, err);
}

// The records begin with extended attributes, if any; they are written and emptied.
static int write_header(struct tar_writer *writer, enum tar_type type, const struct stat *found, const char *as, const char *link,
                        struct err *err)
{
    char head[TAR_BLOCK] = { 0 };
    tell_content(writer, true);
    const struct stat own = changed(writer->changes, type, found), *info = &own;
    uint64_t size = type == TAR_FILE ? (uint64_t)info->st_size : 0;
    int64_t seconds = info->st_mtim.tv_sec;
    if (writer->records)
        return write_record(writer, type, info, as, link, err);
    put_text(writer, head, as, "path");
    put_text(writer, head + 157, link, "linkpath");
    put_octal(head + 100, 8, info->st_mode & 07777, OCTAL7_MAX);
    put_owner(writer, head + 108, info->st_uid, "uid");
    put_owner(writer, head + 116, info->st_gid, "gid");
    if (size > OCTAL11_MAX)
        add_number(writer, "size", (int64_t)size);
    if (seconds < 0 || seconds > OCTAL11_MAX)
        add_number(writer, "mtime", seconds);
    put_octal(head + 124, 12, size, OCTAL11_MAX);
    put_octal(head + 136, 12, (uint64_t)seconds, OCTAL11_MAX);
    head[156] = (char)type;
    memcpy(head + 257, "ustar\00000", 8);
    bool device = type == TAR_CHAR || type == TAR_BLOCK_DEVICE;
    put_octal(head + 329, 8, device ? major(info->st_rdev) : 0, OCTAL7_MAX);
    put_octal(head + 337, 8, device ? minor(info->st_rdev) : 0, OCTAL7_MAX);
    checksum(head);
    int done = write_extra(writer, err);
    buf_clear(&writer->extra);
    return done < 0 ? -1 : put(writer, head, TAR_BLOCK, err);
}

// ---- content --------------------------------------------------------------------------------------------------------

static bool xattr_wanted(const char *name)
{
    return str_eq(name, "security.capability") || (str_starts(name, "user.") && !str_starts(name, "user.overlay."));
}

static void add_xattrs(struct tar_writer *writer, int fd)
{
    char *names = writer->names, *value = writer->names + XATTR_NAMES_MAX;
    ssize_t size = flistxattr(fd, names, XATTR_NAMES_MAX);
    for (const char *name = names; size > 0 && name < names + size; name += strlen(name) + 1) {
        ssize_t len = xattr_wanted(name) ? fgetxattr(fd, name, value, TAR_XATTR_VALUE_MAX) : -1;
        _cleanup_free_ char *key = len < 0 ? NULL : mem_printf("SCHILY.xattr.%s", name);
        if (key)
            add_record(writer, key, value, (size_t)len);
    }
}

// Into a pipe the kernel moves a file's pages without copying them. What it can't move is left.
static int splice_content(struct tar_writer *writer, int fd, uint64_t *left, struct err *err)
{
    if (flush(writer, err) < 0)
        return -1;
    while (*left > 0) {
        ssize_t moved = splice(fd, NULL, writer->fd, NULL, (size_t)MIN_OF(*left, (uint64_t)CHUNK), SPLICE_F_MORE);
        if (moved < 0 && errno == EINTR)
            continue;
        if (moved <= 0)
            return 0; // read() says what it is
        *left -= (uint64_t)moved;
    }
    return 0;
}

// As many bytes as the header says. What grows meanwhile is cut; what becomes shorter can't be told any more.
static int write_content(struct tar_writer *writer, int fd, const char *as, uint64_t size, struct err *err)
{
    uint64_t left = size;
    if (size >= SPLICE_MIN && splice_content(writer, fd, &left, err) < 0)
        return -1;
    while (left > 0) {
        if (writer->held_size == CHUNK && flush(writer, err) < 0)
            return -1;
        ssize_t got = read(fd, writer->held + writer->held_size, MIN_OF(left, CHUNK - writer->held_size));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? err_errno(err, errno, "read %s", as) : err_set(err, ERR_CONFLICT, "%s: it became shorter while it was read", as);
        writer->held_size += (size_t)got;
        left -= (uint64_t)got;
    }
    return pad(writer, size, err);
}

// It may have become another file since it was looked at: what was opened counts.
static int write_file(struct tar_writer *writer, int dir_fd, const char *name, const char *as, struct err *err)
{
    struct stat info;
    _cleanup_close_ int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) < 0)
        return err_errno(err, errno, "open %s", as);
    if (!S_ISREG(info.st_mode))
        return err_set(err, ERR_CONFLICT, "%s: exchanged while it was read", as);
    add_xattrs(writer, fd);
    if (write_header(writer, TAR_FILE, &info, as, "", err) < 0)
        return -1;
    return write_content(writer, fd, as, (uint64_t)info.st_size, err);
}

static int write_folder(struct tar_writer *writer, int dir_fd, const char *name, const char *as, struct err *err)
{
    struct stat info;
    _cleanup_close_ int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) < 0)
        return err_errno(err, errno, "open %s", as);
    _cleanup_free_ char *named = mem_printf("%s/", str_eq(as, "/") ? "" : as);
    add_xattrs(writer, fd);
    return write_header(writer, TAR_FOLDER, &info, named, "", err);
}

static int write_symlink(struct tar_writer *writer, int dir_fd, const char *name, const struct stat *info, const char *as, struct err *err)
{
    char target[PATH_MAX];
    ssize_t size = readlinkat(dir_fd, name, target, sizeof(target) - 1);
    if (size < 0)
        return err_errno(err, errno, "readlink %s", as);
    target[size] = '\0';
    return write_header(writer, TAR_SYMLINK, info, as, target, err);
}

int tar_write_entry(struct tar_writer *writer, int dir_fd, const char *name, const struct stat *info, const char *as, struct err *err)
{
    const char *other = seen_before(writer, info, as);
    if (other)
        return write_header(writer, TAR_HARDLINK, info, as, other, err);
    switch (info->st_mode & S_IFMT) {
    case S_IFREG:
        return write_file(writer, dir_fd, name, as, err);
    case S_IFDIR:
        return write_folder(writer, dir_fd, name, as, err);
    case S_IFLNK:
        return write_symlink(writer, dir_fd, name, info, as, err);
    case S_IFCHR:
        return write_header(writer, TAR_CHAR, info, as, "", err);
    case S_IFBLK:
        return write_header(writer, TAR_BLOCK_DEVICE, info, as, "", err);
    case S_IFIFO:
        return write_header(writer, TAR_FIFO, info, as, "", err);
    default:
        return 0; // a socket means nothing elsewhere
    }
}

int tar_write_empty(struct tar_writer *writer, const char *as, struct err *err)
{
    const struct stat info = { .st_mode = 0600 };
    return write_header(writer, TAR_FILE, &info, as, "", err);
}

int tar_write_folder(struct tar_writer *writer, const struct stat *info, const char *as, struct err *err)
{
    _cleanup_free_ char *named = mem_printf("%s/", as);
    return write_header(writer, TAR_FOLDER, info, named, "", err);
}

int tar_write_copy(struct tar_writer *writer, struct tar_reader *reader, const struct tar_entry *entry, const char *as, const char *link,
                   struct err *err)
{
    const struct stat info = { .st_mode = entry->mode, .st_uid = entry->uid, .st_gid = entry->gid, .st_size = entry->size,
                               .st_mtim = entry->mtime, .st_rdev = entry->device };
    _cleanup_free_ char *folder = entry->type == TAR_FOLDER ? mem_printf("%s/", as) : NULL;
    const char *data;
    ssize_t got;
    for (size_t i = 0; i < entry->xattr_len; i++) {
        _cleanup_free_ char *key = xattr_wanted(entry->xattrs[i].name) ? mem_printf("SCHILY.xattr.%s", entry->xattrs[i].name) : NULL;
        if (key)
            add_record(writer, key, entry->xattrs[i].value, entry->xattrs[i].size);
    }
    if (write_header(writer, entry->type, &info, folder ? folder : as, link, err) < 0)
        return -1;
    while ((got = tar_reader_content(reader, &data, err)) > 0)
        if (put(writer, data, (size_t)got, err) < 0)
            return -1;
    return got < 0 ? -1 : pad(writer, entry->type == TAR_FILE ? (uint64_t)entry->size : 0, err);
}

int tar_write_end(struct tar_writer *writer, struct err *err)
{
    static const char zeros[2 * TAR_BLOCK];
    tell_content(writer, false);
    return !writer->records && put(writer, zeros, sizeof(zeros), err) < 0 ? -1 : flush(writer, err);
}

// ---- trees ----------------------------------------------------------------------------------------------------------

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int write_child(struct tar_writer *writer, int folder_fd, const char *name, const char *as, unsigned depth, struct err *err)
{
    struct stat info;
    if (fstatat(folder_fd, name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : err_errno(err, errno, "stat %s", as); // it went meanwhile
    if (tar_write_entry(writer, folder_fd, name, &info, as, err) < 0)
        return -1;
    if (!S_ISDIR(info.st_mode))
        return 0;
    _cleanup_close_ int child = openat(folder_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return child < 0 ? err_errno(err, errno, "open %s", as) : tar_write_tree(writer, child, as, depth + 1, err);
}

int tar_write_tree(struct tar_writer *writer, int folder_fd, const char *as, unsigned depth, struct err *err)
{
    _cleanup_strv_ struct strv names = { 0 };
    if (depth > DEPTH_MAX)
        return err_set(err, ERR_RESOURCE_EXHAUSTED, "folders nested deeper than %d", DEPTH_MAX);
    if (file_list_names(folder_fd, ".", &names, err) < 0)
        return -1;
    if (names.len > 1)
        qsort(names.items, names.len, sizeof(*names.items), compare_names);
    for (size_t i = 0; i < names.len; i++) {
        const char *name = names.items[i];
        _cleanup_free_ char *child = str_empty(as) ? mem_strdup(name) : mem_printf("%s/%s", str_eq(as, "/") ? "" : as, name);
        if (write_child(writer, folder_fd, name, child, depth, err) < 0)
            return -1;
    }
    return 0;
}
