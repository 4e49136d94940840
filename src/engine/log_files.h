// A log that may have been rotated: PATH, PATH.1, PATH.2.gz ... The shim renames them while they are read, so what is opened is
// looked at once more until it was the whole row; from then on only the descriptors count.
#ifndef ENGINE_LOG_FILES_H
#define ENGINE_LOG_FILES_H

#include <sys/types.h>

#include "base/err.h"

struct log_files {
    struct log_part {
        int fd;
        bool packed;
    } *items; // newest first
    size_t len; // 0: nothing was ever written
};

int log_files_open(const char *path, struct log_files *out, struct err *err);
void log_files_done(struct log_files *files);
// The descriptor of one, at its beginning, unpacked into a nameless file first where that is needed; stays the set's.
int log_files_plain(struct log_files *files, size_t index, const char *path, struct err *err);
// The file that came after the one which is open as `fd`, when that is not the newest any more; -1 when it is, or nothing is there.
int log_files_next(const char *path, int fd);

#endif
