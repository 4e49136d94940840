// All layers of an image as one read-only disk: a partition table (GPT) in front, the layer files one after another, layer i
// as partition i + 1, zeros and the table's copy behind. The files stay what they are; the disk is an arrangement:
//
//     0          head: table      LAYERS_DISK_HEAD bytes
//     65536      file 0           whole blocks of 4 KiB, or a guest's DAX silently becomes a page cache
//     ...        file 1 ...
//     behind     tail: zeros, and the table's copy at the very end; the disk is a multiple of 2 MiB, or Linux makes no /dev/pmem
//
// berth-vmm maps the three parts behind a virtio-pmem device; QEMU opens them by a VMDK descriptor as a block device. A guest
// sees the same bytes, and since nothing in them is random, the same after a restore.
#ifndef KERNEL_LAYERS_DISK_H
#define KERNEL_LAYERS_DISK_H

#include "base/buf.h"

#define LAYERS_DISK_MAX 255 // partitions that Linux reads of one table
#define LAYERS_DISK_HEAD (64u << 10)

struct layers_disk {
    size_t len; // of files, 1 to LAYERS_DISK_MAX
    uint64_t sizes[LAYERS_DISK_MAX]; // bytes
    uint64_t size; // of the disk
    uint64_t tail_size; // LAYERS_DISK_HEAD to 2 MiB + LAYERS_DISK_HEAD
    uint8_t *head, *tail; // the disk's first and last bytes
};

#define _cleanup_layers_disk_ _cleanup_(layers_disk_done)

// invalid_argument: no file, too many, one that is empty or not in blocks of 4 KiB.
int layers_disk_make(const uint64_t *sizes, size_t len, struct layers_disk *out, struct err *err);
void layers_disk_done(struct layers_disk *disk); // a zeroed one is fine
uint64_t layers_disk_offset(const struct layers_disk *disk, size_t file); // file == len: the tail's
// The descriptor of a flat VMDK over the parts, to be opened read-only: `names` are head, files, tail as QEMU opens them
// ("/proc/self/fd/7"; no quotes, no line ends).
void layers_disk_vmdk(const struct layers_disk *disk, const char *const *names, struct buf *out);

#endif
