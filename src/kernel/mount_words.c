#include <linux/mount.h>

#include "kernel/abi.h"
#include "kernel/mount.h"

#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif

#define ATIME MOUNT_ATTR__ATIME
// "relatime" is the kernel's zero: the field is cleared.
static const struct {
    const char *word;
    uint64_t set, clear;
} words[] = {
    { "ro", MOUNT_ATTR_RDONLY, 0 },          { "rw", 0, MOUNT_ATTR_RDONLY },
    { "nosuid", MOUNT_ATTR_NOSUID, 0 },      { "suid", 0, MOUNT_ATTR_NOSUID },
    { "nodev", MOUNT_ATTR_NODEV, 0 },        { "dev", 0, MOUNT_ATTR_NODEV },
    { "noexec", MOUNT_ATTR_NOEXEC, 0 },      { "exec", 0, MOUNT_ATTR_NOEXEC },
    { "noatime", MOUNT_ATTR_NOATIME, ATIME }, { "atime", 0, ATIME },
    { "nodiratime", MOUNT_ATTR_NODIRATIME, 0 }, { "diratime", 0, MOUNT_ATTR_NODIRATIME },
    { "relatime", 0, ATIME },                { "norelatime", 0, ATIME },
    { "strictatime", MOUNT_ATTR_STRICTATIME, ATIME }, { "nostrictatime", 0, ATIME },
    { "nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0 }, { "symfollow", 0, MOUNT_ATTR_NOSYMFOLLOW },
};

bool mount_attr_word(struct slice word, uint64_t *set, uint64_t *clear)
{
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (!slice_eq(word, words[i].word))
            continue;
        *set = (*set & ~words[i].clear) | words[i].set;
        *clear = (*clear & ~words[i].set) | words[i].clear;
        return true;
    }
    return false;
}

const char *mount_attr_word_at(size_t index)
{
    return index < ARRAY_LEN(words) ? words[index].word : NULL;
}
