#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/num.h"
#include "kernel/mountinfo.h"

// "36 31 0:28 / /sys/fs/cgroup/cpu rw,relatime shared:9 master:1 - cgroup cgroup rw,cpu"
static bool parse_line(struct slice line, struct mount_info *out)
{
    struct slice words[6], word = { 0 }, source;
    *out = (struct mount_info){ 0 };
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (!slice_cut(&line, ' ', &words[i]))
            return false;
    for (;;) {
        if (!slice_cut(&line, ' ', &word))
            return false;
        if (slice_eq(word, "-"))
            break;
        out->shared |= slice_starts(word, "shared:");
        out->slave |= slice_starts(word, "master:");
    }
    out->point = words[4];
    return num_parse_u64(words[0], INT64_MAX, &out->id) && slice_cut(&line, ' ', &out->fstype) &&
           slice_cut(&line, ' ', &source) && slice_cut(&line, ' ', &out->options);
}

bool mount_info_next(struct slice *rest, struct mount_info *out)
{
    struct slice line;
    while (slice_cut(rest, '\n', &line))
        if (parse_line(line, out))
            return true;
    return false;
}

static bool octal(const char *digits, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (digits[i] < '0' || digits[i] > '7')
            return false;
    return true;
}

void mount_info_unescape(struct slice path, char *out)
{
    size_t used = 0;
    for (size_t i = 0; i < path.size; i++) {
        const char *at = path.data + i;
        if (*at == '\\' && path.size - i > 3 && octal(at + 1, 3)) {
            out[used++] = (char)((at[1] - '0') << 6 | (at[2] - '0') << 3 | (at[3] - '0'));
            i += 3;
        } else {
            out[used++] = *at;
        }
    }
    out[used] = '\0';
}

int mount_info_of(int fd, struct buf *text, struct mount_info *out, struct err *err)
{
    struct statx info;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &info) < 0)
        return err_errno(err, errno, "statx");
    buf_clear(text);
    if (file_read_at(AT_FDCWD, "/proc/self/mountinfo", text, err) < 0)
        return -1;
    struct slice rest = { buf_text(text), text->size };
    while (mount_info_next(&rest, out))
        if (out->id == info.stx_mnt_id)
            return 0;
    return err_set(err, ERR_NOT_FOUND, "mount %llu is not in mountinfo", (unsigned long long)info.stx_mnt_id);
}
