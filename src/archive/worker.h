// The program that touches a container's files for the daemon, one verb a process. The daemon starts
//
//     berth-archive stat|get|put|export|changes|layer|keep|remove|list|update|sources|place [--keep-kind] [--owner USER] [PATH]
//
// with a SOCK_SEQPACKET on standard input, read to its end first. A message has lines and, in the same order, a descriptor for each:
//
//     root               the tree's mount, detached
//     mount TARGET       a folder or file of the host to be seen there, with all that is mounted below it; mount-ro: read-only
//     users              a user namespace: all of this is seen in it, by its root
//     data               where the tar goes, or comes from
//     source             sources, place: a tree, or a plain tar, by its number; update: the paths that go before the tar comes, each with its NUL;
//                        list: a file that has the tar's beginning and gets the rest, and the pipe of archive_list()
//     spec               sources, place: a file with {"sources":[{"tree":0,"path":"a/*","includes":["b"],"required":"/a/b"},{"tree":1,"tar":true}],
//                        "target","folder","optional","owner","roots","mode","chmod","excludes":["*.o"],"time_max","now","tell"}: struct archive_place;
//                        export, layer, keep: {"time","time_max","exact","stubs":["/a/b"]}, struct archive_times and archive_layers, or none
//     upper, lower       changes, layer, keep: struct archive_layers beside the root; no `lower` where there is none, no `upper` where the root is a copy
//
// It answers on standard output with JSON lines: {"stat":{"name","size","mode","mtime_ns","link_target"}} (stat, and get before its first
// byte), {"content":BOOL} (layer, place: before the first byte, whether the tar has an entry), {"kept":{"any","size"}} (keep: struct archive_kept), {"change":{"kind","path"}},
// {"marked":BOOL} (list: archive_list()), {"found":{"source","path","packed"}} (sources with "tell": at most ARCHIVE_FOUND_MAX), and at last {"done":true}, or {"error":{"class","errno","message"}} and exit code 1.
//
// Its jail: before the first name is resolved or the first byte read, the tree is the root of a mount namespace of its own in which
// nothing else is, the network is an empty one, and of all capabilities those for reading any file are left, for `put` those to make
// files of anybody. It is linked statically and loads nothing.
#ifndef ARCHIVE_WORKER_H
#define ARCHIVE_WORKER_H

#define ARCHIVE_ORDER_MESSAGE_MAX 8192 // bytes
#define ARCHIVE_ORDER_FDS_MAX 64 // of one message
#define ARCHIVE_ORDER_MOUNTS_MAX 1024
#define ARCHIVE_ORDER_SOURCES_MAX 256
#define ARCHIVE_FOUND_MAX 200

#include <stdbool.h>
#include <stddef.h>

// The same in a process that was forked for it, as a guest's PID 1 does; descriptors in the order's place.
struct archive_order {
    const char *verb, *path, *owner; // owner NULL: as the tar says
    bool keep_kind, sync; // sync: put returns when all is on the disk
    int tree_fd, data_fd, upper_fd, lower_fd; // -1: none
    int report_fd;
    struct {
        int fd;
        const char *target;
    } mounts[4];
    size_t mount_len;
};
// Keeps these descriptors, and closes all others. Does not return.
_Noreturn void archive_worker_run(const struct archive_order *order);

int archive_worker_main(int argc, char **argv); // the exit code: 0, 1 after an error line, 2 for wrong usage

#endif
