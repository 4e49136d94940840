// What a folder's files are, without the files: a build's context as its client lists it, and as it is kept between builds.
//
// Entries are in the order of a walk: a folder before what is in it, names of one folder in the order of their bytes, all of a folder before its
// next sibling. listing_add() takes no others, so a listing has no path twice, none that leads out, and none below what is no folder.
//
// A listing that came from a file is checked the same way: whoever wrote it, what is in memory is one.
//
// Texts are borrowed, unless a function says otherwise. One thread at a time.
#ifndef BUILD_LISTING_H
#define BUILD_LISTING_H

#include "base/buf.h"
#include "base/slice.h"
#include "base/strv.h"

#define LISTING_LEN_MAX 1000000
#define LISTING_SIZE_MAX ((size_t)512 << 20) // of its file
#define LISTING_DIGEST_SIZE 32

enum listing_type { // as tar has them
    LISTING_FILE = '0',
    LISTING_NAME = '1', // another name of a file that stands before it
    LISTING_LINK = '2',
    LISTING_CHAR = '3',
    LISTING_BLOCK = '4',
    LISTING_FOLDER = '5',
    LISTING_FIFO = '6',
};

struct listing_entry {
    const char *path; // "a/b": no slash at either end, no "." and ".."
    const char *link; // where a LINK leads, the first name of a NAME; else ""
    uint32_t type, mode, uid, gid; // mode: 07777
    int64_t size, mtime_ns, major, minor; // size: of a FILE, else 0
    unsigned char digest[LISTING_DIGEST_SIZE]; // SHA-256 of a FILE's content
    uint32_t above; // the folder that it is in: its place and one; 0: the top
    bool fresh; // listing_compare(): it is not what it was
};

struct listing {
    struct listing_entry *items;
    size_t len, capacity;
    void *text; // what the texts of a listing from a file point into; malloc'ed
};
void listing_done(struct listing *listing);

// `entry->above` and `fresh` are filled here. invalid_argument: it is not the next of a walk; resource_exhausted.
int listing_add(struct listing *listing, const struct listing_entry *entry, struct err *err);
// NULL: no entry has that path.
const struct listing_entry *listing_find(const struct listing *listing, const char *path);
int64_t listing_size(const struct listing *listing); // bytes of all files

// ---- what changed ---------------------------------------------------------------------------------------------------

// Says of each entry of `now` whether it is what it was in `before`, by all that is known but content; it then has the digest from there. What is
// not, is fresh, and so are other names of files always, and the folder that something came into, went from, or changed in. *removed (malloc'ed
// texts) are the paths that are not there any more, without those below them. Returns how many entries are fresh.
size_t listing_compare(const struct listing *before, struct listing *now, struct strv *removed);

// ---- its file -------------------------------------------------------------------------------------------------------

// `mark`: what the reader has to say, too: a file of another mark is none.
void listing_write(const struct listing *listing, const char *mark, struct buf *out);
// Takes the bytes, malloc'ed, in any case. invalid_argument for what is no listing.
int listing_read(char *take_data, size_t size, const char *mark, struct listing *out, struct err *err);

// One entry as it stands there; a row that is cut off is none. `above` and `fresh` are not in it, nor is it checked.
void listing_put(const struct listing_entry *entry, struct buf *out);
bool listing_take(struct slice *rest, struct listing_entry *out);
// Into the order of a walk, whatever order they came in.
void listing_sort(struct listing_entry *entries, size_t len);

// ---- what a COPY reads ----------------------------------------------------------------------------------------------

// Everything about an entry that makes it another one for whoever copies it, but its content, as bytes; `as` is its name there. No time.
void listing_record(const struct listing_entry *entry, const char *as, struct buf *out);

// Where files are looked at, what stands before a record and, behind that, a content.
struct listing_frame {
    uint32_t size; // of the record
    uint32_t file; // 1: it has a content, which may be empty
    uint64_t content;
};

// What paths of a Dockerfile name.
struct listing_wish {
    const char *const *paths; // "/a", "b/*"
    size_t len;
    bool roots; // owners don't count
};
// What archive/archive.h's archive_sources() says of the files: `each` gets a record, and the content's digest (NULL: it has no content). True; false:
// a list can't say that (a link on the way, a name that is not there, or that no image can have), and the files are to be looked at.
typedef void listing_each_fn(void *of, const struct buf *record, const unsigned char *digest);
bool listing_sources(const struct listing *listing, const struct listing_wish *wish, listing_each_fn *each, void *of);

#endif
