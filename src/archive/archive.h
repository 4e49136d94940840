// A container's files as a tar and back, and what it changed: the work of `docker cp`, `diff`, `export` and `commit`. Everything here
// stands on one descriptor, the root of the container's tree, and on the bytes of a stranger: names are resolved by kernel/path.h, what
// is walked is opened without following a link, and a tar is read by a parser of our own. No other library, so that it works in a program
// whose root is the container's (nothing is ever loaded from there) and in a guest.
//
// Paths are a client's: absolute or not, both count from the root; "." and ".." are taken out as text, as Docker does; "/" or "/." at the
// end means that a link there is followed and that a folder stands there. Errors: not_found, when there is nothing of that name;
// invalid_argument, for a tar that is none or what Docker refuses; permission_denied, where nothing can be written.
//
// Blocking; one thread a call. Descriptors stay the caller's.
#ifndef ARCHIVE_ARCHIVE_H
#define ARCHIVE_ARCHIVE_H

#include <limits.h>
#include <sys/types.h>

#include "base/err.h"

struct archive_stat {
    char name[NAME_MAX + 1]; // the path's last component; "/" for the root, "." for what ends so
    int64_t size, mtime_ns;
    uint32_t mode; // as stat(2) has it
    char link_target[PATH_MAX]; // of a link: where it leads in the end, absolute in the tree, as far as that exists; else ""
};
int archive_stat(int root_fd, const char *path, struct archive_stat *out, struct err *err);

// A tar of what `path` names, below its last component: "etc/", "etc/hosts". Times in whole seconds, names sorted, sockets left out, of a
// file's names all but the first are hard links; extended attributes user.* and security.capability. A failure after the first byte leaves
// the tar without its end.
int archive_get(int root_fd, const char *path, int out_fd, struct err *err);
// The times that a tar says instead of what files have; in seconds.
struct archive_times {
    bool same; // all are `time`
    int64_t time;
    int64_t max; // later ones become this one; -1: none does
};
// The whole tree, without an entry for the root. `times` NULL: their own.
int archive_export(int root_fd, const struct archive_times *times, int out_fd, struct err *err);

// Reads plain bytes; 0 is the end, -1 an error with *err filled.
typedef ssize_t archive_read_fn(void *context, void *data, size_t size, struct err *err);

struct archive_put {
    bool keep_kind; // a folder is not replaced by what is none, nor the other way
    bool give; // everything belongs to uid and gid, whatever the tar says
    uid_t uid;
    gid_t gid;
    bool plain; // without extended attributes
};
// Unpacks a plain tar (ustar, GNU's long names, pax) into the folder that `path` names. What has an entry's name is replaced, a folder
// merges. Links are made as they are said; names are resolved inside the tree at each entry, so neither a link nor an exchange leads out.
// An empty stream is a tar of nothing.
int archive_put(int root_fd, const char *path, const struct archive_put *options, archive_read_fn *read, void *context, struct err *err);

// The same tar without a tree: of each entry a struct listing_frame, a row (listing_put(); of type 0: a listing can't say what it is), and its content.
// *marked: it said its end itself, so it is the same tar whatever comes behind what was read.
int archive_list(archive_read_fn *read, void *context, int out_fd, bool *marked, struct err *err);

// "user", "uid", "user:group": by the tree's /etc/passwd and /etc/group. not_found: no such user.
int archive_user(int root_fd, const char *user, uid_t *uid, gid_t *gid, struct err *err);

// ---- a build's COPY and ADD ------------------------------------------------------------------------------------------

struct ignore; // build/ignore.h

// Told once, before the first byte of a layer's tar is written: whether it has an entry.
typedef void archive_content_fn(bool any);

struct archive_source {
    int fd; // a tree; with `tar`: a plain tar that is read once
    const char *path; // below the tree; with * ? [ ] as Go's filepath.Match has them. "/": all of it
    bool exact; // no character of the path is a wildcard
    bool tar; // its members are placed, not itself
    bool optional; // a pattern that fits nothing names nothing
    const struct ignore *includes; // of the folders that `path` names these parts alone, with the folders above them; NULL: all
    const char *required; // "/a/b", which must be there; NULL: nothing
};
struct archive_place {
    const struct archive_source *sources;
    size_t source_len; // 0: the target is made as a folder
    bool optional; // 0 sources are nothing at all
    const char *target; // absolute
    bool folder; // the target is one, whatever stands there
    const char *owner; // archive_user()'s; NULL: as the sources say, and root's what is made besides
    bool roots; // without `owner`: root's
    int64_t mode; // -1: as the sources say
    const char *chmod; // a change of it in build/chmod.h's form; NULL: none
    const struct ignore *excludes; // paths below a source's folder, and names of sources that are files, that are left out; NULL: none
    int64_t time_max; // seconds: later times become this one; -1: none does
    int64_t now; // seconds: the time of folders that are made
    archive_content_fn *content; // NULL: nobody asks
};
// The layer, as a tar, of what copying the sources to the target makes of the tree `root_fd`, which is only looked at: a folder's
// content, not itself, goes into the target; a link that a source path ends with is followed, one inside of it is copied. Folders on the
// way say what they are, or are made (0755). Errors: not_found with ENOENT, a source is not there; invalid_argument, and Docker's words.
int archive_place(int root_fd, const struct archive_place *place, int out_fd, struct err *err);

// What the sources are, to be hashed: their contents, names, modes (and owners, but for `roots`), and nothing else. Of each entry comes a struct
// listing_frame (build/listing.h), its record, and its content. `each`, which may be NULL, is told of every source that was found.
struct archive_found {
    const char *path; // "/a/b"
    bool folder;
    bool packed; // a file that begins like a tar, or like something compressed
};
typedef int archive_found_fn(void *context, size_t source, const struct archive_found *found, struct err *err);
int archive_sources(const struct archive_place *place, archive_found_fn *each, void *context, int out_fd, struct err *err);

// ---- what an overlay changed ----------------------------------------------------------------------------------------

struct archive_layers {
    int upper_fd; // what was written; -1: the merged tree is no overlay but a copy of the lower one
    int merged_fd; // as the container sees it, without other mounts
    int lower_fd; // the layers below as one tree; -1: there is none
    bool exact; // without an upper: a file is the same only if its content is, whatever its time says
    archive_content_fn *content; // of archive_layer(); NULL: nobody asks
    const struct strv *stubs; // "/a/b": places of mounts, which the layer leaves out where they are new and empty, with the new folders above; NULL: none
};

enum archive_kind { ARCHIVE_CHANGED = 0, ARCHIVE_ADDED = 1, ARCHIVE_DELETED = 2 }; // Docker's numbers

struct archive_change {
    enum archive_kind kind;
    char *path; // "/etc/hosts"
};
struct archive_changes {
    struct archive_change *items;
    size_t len, capacity;
};
// Sorted by name, a folder before what is in it; a folder counts as changed when something in it did. What the engine itself puts into
// each container's upper (/etc/hosts and the like, as empty mount points) is no change. resource_exhausted: millions of them.
int archive_changes(const struct archive_layers *layers, struct archive_changes *out, struct err *err);
void archive_changes_done(struct archive_changes *changes);
// The same as an image layer's tar: whiteouts for what was deleted. `times` NULL: their own.
int archive_layer(const struct archive_layers *layers, const struct archive_times *times, int out_fd, struct err *err);
// Makes of an overlay's upper, which nobody else has in use, what that layer would be unpacked: the engine's own mount points and the stubs go.
struct archive_kept {
    bool any; // something was changed
    int64_t size; // bytes of its files
};
int archive_keep(const struct archive_layers *layers, struct archive_kept *out, struct err *err);

#endif
