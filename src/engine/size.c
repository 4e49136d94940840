// How much a container takes on the host: what docker ps -s and inspect -s ask for.
#include <errno.h>
#include <fcntl.h>

#include "vm.h"

// What a container made is of any shape: below this depth nothing is counted.
enum { DEPTH_MAX = 128 };

static int64_t folder_size(int dirfd, const char *name, int depth);

// A file with several names counts once, a part of it for each.
static int64_t entry_size(int dirfd, const char *name, int depth)
{
    struct stat info;
    if (fstatat(dirfd, name, &info, AT_SYMLINK_NOFOLLOW) < 0)
        return 0; // it just went
    if (S_ISDIR(info.st_mode))
        return depth < DEPTH_MAX ? folder_size(dirfd, name, depth + 1) : 0;
    return S_ISREG(info.st_mode) || S_ISLNK(info.st_mode) ? info.st_size / (int64_t)MAX_OF(info.st_nlink, (nlink_t)1) : 0;
}

static int64_t folder_size(int dirfd, const char *name, int depth)
{
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    _cleanup_dir_ DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    int64_t size = 0;
    if (!dir) {
        fd_close(fd);
        return 0;
    }
    while ((entry = readdir(dir)))
        if (!str_eq(entry->d_name, ".") && !str_eq(entry->d_name, ".."))
            size += entry_size(fd, entry->d_name, depth);
    return size;
}

void engine_sizes(struct engine *engine, const struct engine_container *container, struct arena *arena, int64_t *rw,
                  int64_t *root)
{
    struct image image;
    *rw = container->machine ? container->machine->disk_allocated
                             : folder_size(engine->containers_fd, arena_printf(arena, "%s/diff", container->id), 0);
    *root = *rw;
    if (image_get(engine->images, container->image_id, arena, &image, NULL) == 0)
        *root += image.size;
}
