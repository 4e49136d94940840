// /proc/PID/mountinfo, read as what it is: lines that the kernel escapes, of fields that grew over time. See proc(5).
#ifndef KERNEL_MOUNTINFO_H
#define KERNEL_MOUNTINFO_H

#include "base/buf.h"
#include "base/slice.h"

#define MOUNTINFO_MAX (8 << 20) // a ceiling for the buffer that holds it whole

// Views into the text.
struct mount_info {
    uint64_t id;
    struct slice point; // escaped: blanks are \040
    struct slice fstype, options; // options of the super block
    bool shared, slave;
};

// Cuts the next whole line off *rest; lines of another shape are passed over. False at the end.
bool mount_info_next(struct slice *rest, struct mount_info *out);
// A path with the escapes undone, at most as long as it was, in `out` (room for path.size + 1 bytes).
void mount_info_unescape(struct slice path, char *out);
// The mount that `fd` (may be O_PATH) lies on, as the caller sees it; `text` gets the file and is what *out points into.
int mount_info_of(int fd, struct buf *text, struct mount_info *out, struct err *err);

#endif
