// Several processes at one store: two lock files in the data root, and a lock on each staging folder as long as somebody works in it.
//
// flock() belongs to the open file, so it ends with the process whatever became of that. What a worker inherits is opened anew: a worker
// that outlives its starter for a moment would keep a folder that nobody comes back to.
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

#include "base/clock.h"
#include "base/num.h"
#include "image_private.h"

static int open_lock(struct image_lock *lock, int root_fd, const char *name, struct err *err)
{
    mutex_init(&lock->mutex, 0);
    lock->fd = openat(root_fd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    return lock->fd < 0 ? err_errno(err, errno, "%s", name) : 0;
}

int image_locks_open(struct image_store *images, int root_fd, struct err *err)
{
    int opened = open_lock(&images->lock, root_fd, "images.lock", err);
    return open_lock(&images->mount_lock, root_fd, "mounts.lock", err) < 0 ? -1 : opened;
}

void image_locks_close(struct image_store *images)
{
    struct image_lock *const locks[] = { &images->lock, &images->mount_lock };
    for (size_t i = 0; i < ARRAY_LEN(locks); i++) {
        fd_close(locks[i]->fd);
        mutex_done(&locks[i]->mutex);
    }
}

// Others hold it for a transaction and some renames at most.
static void lock_file(int fd)
{
    while (flock(fd, LOCK_EX) < 0 && errno == EINTR)
        ;
}

void image_lock(struct image_store *images)
{
    mutex_lock(&images->lock.mutex);
    lock_file(images->lock.fd);
}

void image_unlock(struct image_store *images)
{
    flock(images->lock.fd, LOCK_UN);
    mutex_unlock(&images->lock.mutex);
}

void image_mounts_lock(struct image_store *images)
{
    mutex_lock(&images->mount_lock.mutex);
    lock_file(images->mount_lock.fd);
}

void image_mounts_unlock(struct image_store *images)
{
    flock(images->mount_lock.fd, LOCK_UN);
    mutex_unlock(&images->mount_lock.mutex);
}

int image_hold(int fd, struct err *err)
{
    return flock(fd, LOCK_EX | LOCK_NB) < 0 ? err_errno(err, errno, "hold a staging folder") : 0;
}

bool image_is_held(const struct image_store *images, const char *name)
{
    _cleanup_close_ int fd = openat(images->staging_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

// ---- pulls ----------------------------------------------------------------------------------------------------------

// One byte of a lock file for each key, by its digest: nothing is left that would have to be cleaned up, and two keys that share a byte
// wait for each other in vain once in 2^62.
static off_t place_of(const char *key)
{
    char digest[OCI_DIGEST_SIZE];
    uint64_t place = 0;
    image_digest(key, strlen(key), digest);
    num_parse_hex((struct slice){ oci_digest_hex(digest), 15 }, &place);
    return (off_t)place;
}

int image_pull_turn(struct image_store *images, const char *key, const struct cancel *cancel, struct err *err)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = place_of(key), .l_len = 1 };
    _cleanup_free_ char *path = mem_printf("%s/pulls.lock", images->root_path);
    _cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(err, errno, "pulls.lock");
    while (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
        if (errno != EAGAIN && errno != EACCES && errno != EINTR)
            return err_errno(err, errno, "pulls.lock");
        if (cancel_wait(cancel, -1, clock_mono_ns() + 100 * NS_PER_MS, err) < 0)
            return -1;
    }
    return take_fd(&fd);
}
