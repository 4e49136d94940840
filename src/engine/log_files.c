#include "log_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/fd.h"

#define FILES_MAX 1001
#define TRIES 20
#define PIECE (64u << 10)
#define GZIP_WINDOW (15 + 16)

static int open_one(const char *path, size_t number, bool *packed)
{
    _cleanup_free_ char *plain = number ? mem_printf("%s.%zu", path, number) : mem_strdup(path);
    _cleanup_free_ char *other = mem_printf("%s.gz", plain);
    int fd = open(plain, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    *packed = fd < 0 && number;
    return *packed ? open(other, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : fd;
}

static bool is_same(const char *path, int fd)
{
    struct stat by_name, by_fd;
    return stat(path, &by_name) == 0 && fstat(fd, &by_fd) == 0 && by_name.st_ino == by_fd.st_ino && by_name.st_dev == by_fd.st_dev;
}

void log_files_done(struct log_files *files)
{
    for (size_t i = 0; i < files->len; i++)
        fd_close(files->items[i].fd);
    free(files->items);
    *files = (struct log_files){ 0 };
}

// False when the row changed meanwhile, or has a gap: the shim is between two names.
static bool open_row(const char *path, struct log_files *out)
{
    bool packed;
    int fd;
    out->items = mem_alloc(FILES_MAX * sizeof(*out->items));
    while (out->len < FILES_MAX && (fd = open_one(path, out->len, &packed)) >= 0)
        out->items[out->len++] = (struct log_part){ fd, packed };
    int beyond = open_one(path, out->len + 1, &packed);
    fd_close(beyond);
    return beyond < 0 && (out->len == 0 || is_same(path, out->items[0].fd));
}

int log_files_open(const char *path, struct log_files *out, struct err *err)
{
    for (int i = 0; i < TRIES; i++) {
        *out = (struct log_files){ 0 };
        if (open_row(path, out))
            return 0;
        if (i == TRIES - 1 && out->len)
            return 0; // what a crash of the host has left: a gap for ever
        log_files_done(out);
        usleep(1000);
    }
    return err_errno(err, errno, "%s", path);
}

// ---- unpacking ------------------------------------------------------------------------------------------------------

static int nameless(const char *path)
{
    const char *slash = strrchr(path, '/');
    _cleanup_free_ char *folder = mem_strndup(path, (size_t)(slash - path));
    int fd = open(folder, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    return fd >= 0 ? fd : memfd_create("berth-log", MFD_CLOEXEC);
}

static int unpack(int from, int to, struct err *err)
{
    z_stream stream = { 0 };
    unsigned char in[4096];
    _cleanup_free_ unsigned char *out = mem_alloc(PIECE);
    int state = inflateInit2(&stream, GZIP_WINDOW), written = 0;
    while (state == Z_OK && written == 0) {
        ssize_t got = read(from, in, sizeof(in));
        if (got <= 0)
            break; // cut off: what is there is shown
        stream.next_in = in;
        stream.avail_in = (unsigned)got;
        do {
            stream.next_out = out;
            stream.avail_out = PIECE;
            state = inflate(&stream, Z_NO_FLUSH);
            written = fd_write_full(to, out, PIECE - stream.avail_out, err);
        } while (state == Z_OK && stream.avail_out == 0 && written == 0);
        state = state == Z_BUF_ERROR ? Z_OK : state;
    }
    inflateEnd(&stream);
    return written;
}

int log_files_plain(struct log_files *files, size_t index, const char *path, struct err *err)
{
    struct log_part *part = &files->items[index];
    if (part->packed) {
        int fd = nameless(path);
        if (fd < 0)
            return err_errno(err, errno, "unpack a log");
        if (unpack(part->fd, fd, err) < 0) {
            fd_close(fd);
            return -1;
        }
        fd_close(part->fd);
        *part = (struct log_part){ fd, false };
    }
    return lseek(part->fd, 0, SEEK_SET) < 0 ? err_errno(err, errno, "%s", path) : part->fd;
}

int log_files_next(const char *path, int fd)
{
    char name[4200];
    int newer = -1;
    if (is_same(path, fd))
        return -1;
    for (size_t number = 0; number < FILES_MAX; number++) {
        snprintf(name, sizeof(name), number ? "%s.%zu" : "%s", path, number);
        if (number && is_same(name, fd))
            return newer; // the one just before
        int next = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (next < 0)
            break; // it is packed or gone: the oldest that is left will do
        fd_close(newer);
        newer = next;
    }
    return newer;
}
