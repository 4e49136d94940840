// The work on foreign bytes: load, import, save, pull and push (archive comes with the images issue). What `berth-image`
// does, as a library; never linked into the daemon.
//
// The daemon starts `berth-image load|import` with the client's stream on standard input, a staging folder as
// descriptor 3, and reads progress and the result as JSON lines from standard output:
//
//     {"progress":{"id":"...","status":"Loading layer","current":n,"total":n}}
//     {"image":{...image_staged...}}           one per image, after all its files are in place
//     {"error":{"class":"invalid_argument","errno":0,"message":"..."}}   then exit 1
#ifndef TRANSFER_TRANSFER_H
#define TRANSFER_TRANSFER_H

#include <stdio.h>

#include "base/fd.h"
#include "base/strv.h"
#include "distribution/distribution.h"

// The worker's jail, once, before the first foreign byte: no_new_privs, no core dumps, no descriptor but the standard
// streams and `staging_fd`, empty network namespace, the staging folder as root without devices, Landlock (nothing but
// that folder), only the capabilities that unpacking needs (CHOWN DAC_OVERRIDE FOWNER FSETID MKNOD SETFCAP). Needs
// root's rights. Afterwards `staging_fd` names the same folder through a mount of its own.
int transfer_jail(int staging_fd, struct err *err);

// Both leave in the staging folder, for image_commit_staged():
//     blobs/<hex>            configs, their exact bytes
//     layers/<diff hex>/     layers, one that several images share once; unpacked, or in the form that the folder's file "form"
//                            names (layer/layer.h)
// and need it empty but for that file. On failure the folder holds leftovers: remove it as a whole. Nothing is synced.
// invalid_argument: the archive is damaged, lies about a digest or is of no known form; resource_exhausted: the disk is full, or what came
// inflates to more than 4 GiB and to more than `inflate_ratio` times of itself (0: however much), counted over the whole transfer, so
// that compression inside of compression gains nothing.
#define TRANSFER_INFLATE_RATIO 200 // unless asked for otherwise; gzip of zeros is 1,030

// Every archive form that docker and podman write: docker-archive with manifest.json (v1.2 layout with <id>/layer.tar
// and the newer one), OCI layout (index.json), the oldest form with only `repositories`; plain or compressed as a
// whole. An archive of several platforms gives the host's.
int transfer_load(int input_fd, int staging_fd, uint64_t inflate_ratio, FILE *report, struct err *err);

// A plain root tar becomes a one-layer image. `changes` are Dockerfile instructions (CMD, ENTRYPOINT, ENV, EXPOSE,
// USER, VOLUME, WORKDIR, LABEL, HEALTHCHECK, ONBUILD: those of docker import -c), `message` goes into the history
// (NULL: "Imported from -"), `reference` and `platform` may be NULL. The time is now, or SOURCE_DATE_EPOCH of the
// environment.
struct transfer_import {
    const char *reference, *message, *platform;
    struct strv changes;
    uint64_t inflate_ratio;
    const struct transfer_url *url; // where it comes from instead of `input_fd`; NULL
};
// What a URL names, in two processes that are joined by a socket (SOCK_SEQPACKET): one behind transfer_jail_network() fetches, the other behind
// transfer_jail() makes the image. {"from":URL} is reported once something comes.
struct transfer_url {
    int link_fd, fd; // fd: its bytes
    int64_t length; // -1: not known
};
int transfer_fetch_url(int link_fd, const char *url, struct err *err); // tells the other its error, too
int transfer_receive_url(int link_fd, const char *url, struct transfer_url *out, FILE *report, struct err *err);
int transfer_url_whole(const struct transfer_url *url, struct err *err); // at the end of the bytes: they were all, or why not
int transfer_import(int input_fd, int staging_fd, const struct transfer_import *options, FILE *report, struct err *err);

// A URL's content to a descriptor, behind transfer_jail_network(); nothing of it is looked at. {"document":{"unchanged", "digest", "size",
// "modified" (seconds; -1), "etag", "type"}} at the end; with `etag` (NULL or "": none) nothing comes where it is still that. resource_exhausted:
// more than `max` bytes.
// `authorization`: that header's value; "": none.
int transfer_download(const char *url, uint64_t max, const char *etag, const char *authorization, int out_fd, FILE *report, struct err *err);

// A git repository, by the program git, behind transfer_jail_programs(), which puts the folder at /tmp. {"commit":"..."} tells what the reference
// names; with `fetch` the files of that commit are in /tmp/tree. Nobody is asked for a password. A socket "agent" in the folder is an ssh agent's.
struct transfer_git {
    const char *url, *ref; // ref: a branch, a tag, a commit, "HEAD"
    const char *authorization; // that header's value, for this repository alone; "": none
    bool fetch, keep, submodules; // keep: with its .git
};
int transfer_git(const struct transfer_git *git, FILE *report, struct err *err);

// A container as an image. The staging folder's file IMAGE_STAGING_ORDER is a JSON object: "config", the image's as it is to be but for what the
// changes and the layer add; "sizes" of its layers, which the daemon has; "step", the last one of its history. What comes is the tar of the layer
// on top; one that changes nothing is none.
struct transfer_commit {
    const char *reference; // NULL: none
    struct strv changes;
};
int transfer_commit(int input_fd, int staging_fd, const struct transfer_commit *options, FILE *report, struct err *err);

// A tar of what the messages on `order_fd` name, a SOCK_SEQPACKET that is read to its end first. A message has the lines of some
// members and, in the same order, their descriptors:
//
//     output             one descriptor: where the tar goes
//     file NAME          one: a file, taken whole
//     layer NAME         two: an EROFS image and the recipe over it; NAME ends with the digest that its tar must have
//     folder NAME        none
//
// internal: a layer is damaged, and the tar lacks its end.
#define TRANSFER_SAVE_MESSAGE_MAX ((size_t)32 << 10) // bytes
#define TRANSFER_SAVE_FDS_MAX 200 // of one message
#define TRANSFER_SAVE_NAME_MAX 99
#define TRANSFER_SAVE_MEMBERS_MAX 8000
int transfer_save(int order_fd, struct err *err);

// Layers' tars, compressed ("uncompressed", "gzip", "zstd"; level -1: its default), each into a file. For each of `len` layers one message on `order_fd`,
// a byte with three descriptors: that file, the layer's image, its recipe. {"blob":{"index", "digest", "size"}} as they are done.
#define TRANSFER_BLOBS_MAX 8000
struct transfer_blobs {
    const char *compression;
    int level;
    size_t len;
};
int transfer_blobs(int order_fd, const struct transfer_blobs *order, FILE *report, struct err *err);

// A part of a layer's tar. One message on `order_fd`: "START SIZE DIFF_ID", with descriptors for the output, the layer's image and its
// recipe. internal: the layer is damaged; a whole tar lacks at least its last byte then.
int transfer_range(int order_fd, struct err *err);

// Plain bytes of what may be compressed, in any way that a layer may be.
int transfer_inflate(int input_fd, int output_fd, struct err *err);

// ---- registries -----------------------------------------------------------------------------------------------------
//
// A pull has two halves, two processes: one speaks to the registry and has no right to anything of this machine but to read what
// all may read; the other has no network and all the fences of transfer_jail(), and checks every digest. They are joined by
// pipes, one for each layer, so download, hashes, inflate and writing overlap. The daemon's side:
//
//     daemon -> fetch   one line {"username":..., "insecure":[...], ...}    transfer_read_remote()
//     unpack -> daemon  {"diff_ids":["sha256:...", ...]}                    which of these are there?
//     daemon -> fetch   {"have":[-1, 4711, ...]}                            size of the layer, -1: fetch it
//     unpack -> daemon  {"progress":...} and at last {"image":...}

struct transfer_remote {
    struct distribution_login login;
    struct distribution_options options;
    int64_t downloads, uploads; // layers at a time; 0: the default
};

#define TRANSFER_LINE_MAX ((size_t)1 << 20)
int transfer_read_line(int fd, struct buf *line, struct err *err); // without its newline; nothing behind it is read
int transfer_read_remote(int fd, struct arena *arena, struct transfer_remote *out, struct err *err);

// The fetching process: no privilege, a user id of its own, no file written, no program started. Before its first thread.
int transfer_jail_network(struct err *err);
// One that starts programs which speak to others: the same, but everything can be read and run as it is, and nothing be written but the folder,
// which belongs to that user then and is at /tmp. Its next child is the first process of a PID namespace: with it all others end.
int transfer_jail_programs(int folder_fd, struct err *err);
// Its work: reads answers from `answers_fd`, hands over to `link_fd`. Tells errors there as well. When the other end of either is
// gone, the process ends.
struct fetch;
int transfer_fetch_new(const char *reference, const char *platform, const struct transfer_remote *remote, struct fetch **out,
                       struct err *err);
int transfer_fetch(struct fetch *fetch, int answers_fd, int link_fd, struct err *err);
void transfer_fetch_failed(int link_fd, const struct err *err); // what went wrong before that
void transfer_fetch_free(struct fetch *fetch);
// The unpacking process, jailed: leaves in the staging folder what transfer_load() does. `platform` NULL: as it comes.
int transfer_pull(int link_fd, int staging_fd, const char *reference, const char *platform, uint64_t inflate_ratio, FILE *report,
                  struct err *err);

// Where whoever keeps the store has the image's documents and blobs itself, it takes the fetching half's place (transfer/link.h), and layers
// may be plain files.

// A push, in one such process too, which gets what it needs by descriptors over `daemon_fd`, each message one byte: first the
// request (JSON: "diff_ids", "recipes": whether each layer's files follow, "originals": digests of blobs that are kept as they came, a third descriptor, "manifests": struct image_manifest) and the image's
// configuration; then for each of those layers its recipe and its image (layer/layer.h). At the end {"pushed":{...image_manifest...}}.
struct push;
int transfer_push_new(const char *reference, const struct transfer_remote *remote, int daemon_fd, struct push **out, struct err *err);
int transfer_push(struct push *push, FILE *report, struct err *err);
void transfer_push_free(struct push *push);

// A push of what stands in files: the first message is a descriptor of a document, {"items":[{"digest", "media_type", "name"}]}, blobs (without a media
// type) before manifests; then one for each of them with its file. A manifest is put under its name, "": under its digest alone.
struct push_blobs;
int transfer_push_blobs_new(const char *repository, const struct transfer_remote *remote, int daemon_fd, struct push_blobs **out, struct err *err);
int transfer_push_blobs(struct push_blobs *push, FILE *report, struct err *err);
void transfer_push_blobs_free(struct push_blobs *push);

// What only asks, in one process that becomes the fetching one between the two calls: {"login":{"token":...}} with the identity
// token, if the registry gives any; {"manifest":{"Descriptor":..., "Platforms":[...]}} in the form of Docker's API.
int transfer_login_new(const char *domain, const struct transfer_remote *remote, struct distribution **out, struct err *err);
int transfer_login(struct distribution *distribution, FILE *report, struct err *err);
// {"search":[{"name", "description", "star_count", "is_official", "is_automated"}]}; `distribution` of transfer_search_new().
int transfer_search_new(const char *domain, const struct transfer_remote *remote, struct distribution **out, struct err *err);
int transfer_search(struct distribution *distribution, const char *query, FILE *report, struct err *err);
// {"tags":["1", ...]}, all that the repository has; `fetch` of transfer_fetch_new().
int transfer_tags(struct fetch *fetch, FILE *report, struct err *err);
int transfer_lookup(struct fetch *fetch, FILE *report, struct err *err);

// By hand: an image into a folder with an OCI layout, made if missing; images that it has stay. No root needed.
int transfer_pull_layout(const char *reference, const char *platform, const struct transfer_remote *remote, const char *folder,
                         FILE *progress, struct err *err);

// The other way: the image of that name (or the only one), with all that it is an index of.
int transfer_push_layout(const char *folder, const char *reference, const struct transfer_remote *remote, FILE *progress, struct err *err);

// The last line of a failed run.
void transfer_report_error(FILE *report, const struct err *err);

#endif
