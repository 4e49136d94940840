#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "base/slice.h"
#include "guest_private.h"

static void read_attribute(int block_fd, const char *disk, const char *name, char *out, size_t size)
{
    char path[2 * DISK_NAME_SIZE];
    _cleanup_buf_ struct buf text = BUF_INIT(4096);
    snprintf(path, sizeof(path), "%s/%s", disk, name);
    out[0] = '\0';
    if (file_read_at(block_fd, path, &text, NULL) < 0)
        return;
    struct slice value = slice_trim(slice_of(buf_text(&text)));
    snprintf(out, size, "%.*s", (int)value.size, value.data ? value.data : "");
}

static bool is_disk_name(const char *name)
{
    return (str_starts(name, "vd") || str_starts(name, "pmem")) && strlen(name) < DISK_NAME_SIZE;
}

static int by_name(const void *a, const void *b)
{
    const struct disk *one = a, *other = b;
    size_t size = strlen(one->name), other_size = strlen(other->name);
    return size != other_size ? (size > other_size) - (size < other_size)
                              : strcmp(one->name, other->name); // vdb before vdaa
}

size_t disk_list(int sys_fd, struct disk out[DISK_MAX])
{
    size_t len = 0;
    int block_fd = openat(sys_fd, "block", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_dir_ DIR *dir = block_fd >= 0 ? fdopendir(block_fd) : NULL;
    for (struct dirent *entry; dir && len < DISK_MAX && (entry = readdir(dir));) {
        char word[4];
        if (!is_disk_name(entry->d_name))
            continue;
        struct disk *disk = &out[len++];
        *disk = (struct disk){ 0 };
        memcpy(disk->name, entry->d_name, strlen(entry->d_name));
        read_attribute(block_fd, disk->name, "serial", disk->serial, sizeof(disk->serial));
        read_attribute(block_fd, disk->name, "ro", word, sizeof(word));
        disk->read_only = str_eq(word, "1");
    }
    qsort(out, len, sizeof(*out), by_name);
    return len;
}

bool disk_is_pmem(const struct disk *disk)
{
    return str_starts(disk->name, "pmem");
}

static const struct disk *with_serial(const struct disk *disks, size_t len, const char *serial)
{
    for (size_t i = 0; i < len; i++) {
        if (!disk_is_pmem(&disks[i]) && str_eq(disks[i].serial, serial))
            return &disks[i];
    }
    return NULL;
}

static const struct disk *that_is(const struct disk *disks, size_t len, bool read_only)
{
    for (size_t i = 0; i < len; i++) {
        if (!disk_is_pmem(&disks[i]) && str_empty(disks[i].serial) && disks[i].read_only == read_only)
            return &disks[i];
    }
    return NULL;
}

const struct disk *disk_of_layers(const struct disk *disks, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (disk_is_pmem(&disks[i]))
            return &disks[i];
    }
    const struct disk *named = with_serial(disks, len, "layers");
    return named ? named : that_is(disks, len, true);
}

const struct disk *disk_of_upper(const struct disk *disks, size_t len)
{
    const struct disk *named = with_serial(disks, len, "upper");
    return named ? named : that_is(disks, len, false);
}

void disk_partition(const struct disk *disk, size_t number, char out[2 * DISK_NAME_SIZE])
{
    char last = disk->name[strlen(disk->name) - 1];
    snprintf(out, 2 * DISK_NAME_SIZE, "%s%s%zu", disk->name, last >= '0' && last <= '9' ? "p" : "", number);
}
