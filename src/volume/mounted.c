// What a volume's options name, at its folder: a file system of its own (tmpfs, nfs, a block device), or a folder of the host (`o=bind`).
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "kernel/abi.h"
#include "kernel/mount.h"
#include "volume_private.h"

#define OPTIONS_MAX 64

// `o` taken apart.
struct wish {
    uint64_t set, clear;
    bool bind, recursive;
    struct mount_option options[OPTIONS_MAX]; // the first is the source
    size_t len;
};

// The kernel takes no names for a server's address.
static const char *resolve(const char *host, struct arena *arena)
{
    char text[INET6_ADDRSTRLEN] = "";
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, NULL, &(struct addrinfo){ .ai_socktype = SOCK_STREAM }, &found) != 0)
        return host;
    getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST);
    freeaddrinfo(found);
    return text[0] ? arena_strdup(arena, text) : host;
}

static int add_word(struct wish *wish, struct slice word, struct arena *arena, struct err *err)
{
    struct slice value = word, key;
    if (mount_attr_word(word, &wish->set, &wish->clear) || word.size == 0 || slice_eq(word, "defaults"))
        return 0;
    if (slice_eq(word, "bind") || slice_eq(word, "rbind")) {
        wish->bind = true;
        wish->recursive |= word.data[0] == 'r';
        return 0;
    }
    if (wish->len == OPTIONS_MAX)
        return err_set(err, ERR_INVALID_ARGUMENT, "more than %d mount options", OPTIONS_MAX - 1);
    slice_cut(&value, '=', &key);
    const char *text = value.data ? arena_strndup(arena, value.data, value.size) : NULL;
    wish->options[wish->len++] = (struct mount_option){ .key = arena_strndup(arena, key.data, key.size),
                                                        .value = text && slice_eq(key, "addr") ? resolve(text, arena) : text };
    return 0;
}

static int parse(const struct volume *volume, struct arena *arena, struct wish *out, struct err *err)
{
    const char *text = kvs_get(&volume->options, "o");
    struct slice rest = slice_of(text ? text : ""), word;
    *out = (struct wish){ .options = { { .key = "source", .value = kvs_get(&volume->options, "device") } }, .len = 1 };
    while (text && slice_cut(&rest, ',', &word))
        if (add_word(out, word, arena, err) < 0)
            return -1;
    return 0;
}

static int open_folder(const char *device, const struct wish *wish, struct err *err)
{
    _cleanup_close_ int folder = open(device, O_PATH | O_CLOEXEC);
    if (folder < 0)
        return err_errno(err, errno, "%s", device);
    _cleanup_close_ int mount = mount_clone(folder, wish->recursive, err);
    if (mount < 0 || ((wish->set || wish->clear) && mount_attr(mount, wish->set, wish->clear, 0, false, err) < 0))
        return -1;
    return take_fd(&mount);
}

static bool is_mounted(int folder_fd)
{
    struct statx info;
    return statx(folder_fd, "", AT_EMPTY_PATH, 0, &info) == 0 && (info.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

int volume_mounted_put(const struct volume *volume, struct err *err)
{
    _cleanup_arena_ struct arena arena = ARENA_INIT;
    struct wish wish;
    _cleanup_close_ int target = open(volume->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (target < 0)
        return err_errno(err, errno, "%s", volume->path);
    if (is_mounted(target))
        return 0; // before the daemon started anew
    if (parse(volume, &arena, &wish, err) < 0)
        return -1;
    _cleanup_close_ int mount = wish.bind ? open_folder(wish.options[0].value, &wish, err)
                                          : mount_new(kvs_get(&volume->options, "type"), wish.options, wish.len, wish.set, err);
    return mount < 0 || mount_attach(mount, target, err) < 0 ? err_wrap(err, "failed to mount local volume") : 0;
}

bool volume_mounted_remove(const struct volume *volume)
{
    _cleanup_close_ int target = open(volume->path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (target < 0 || !is_mounted(target))
        return true;
    fd_close(take_fd(&target));
    return umount2(volume->path, UMOUNT_NOFOLLOW) == 0;
}
