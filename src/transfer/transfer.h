// The work on foreign bytes: load and import (pull, push, save, archive come with the images issue). What `berth-image`
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

#include "base/strv.h"
#include "base/err.h"

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
// invalid_argument: the archive is damaged, lies about a digest or is of no known form.
//
// Every archive form that docker and podman write: docker-archive with manifest.json (v1.2 layout with <id>/layer.tar
// and the newer one), OCI layout (index.json), the oldest form with only `repositories`; plain or compressed as a
// whole. An archive of several platforms gives the host's.
int transfer_load(int input_fd, int staging_fd, FILE *report, struct err *err);

// A plain root tar becomes a one-layer image. `changes` are Dockerfile instructions (CMD, ENTRYPOINT, ENV, EXPOSE,
// USER, VOLUME, WORKDIR, LABEL, HEALTHCHECK, ONBUILD: those of docker import -c), `message` goes into the history
// (NULL: "Imported from -"), `reference` and `platform` may be NULL. The time is now, or SOURCE_DATE_EPOCH of the
// environment.
struct transfer_import {
    const char *reference, *message, *platform;
    struct strv changes;
};
int transfer_import(int input_fd, int staging_fd, const struct transfer_import *options, FILE *report, struct err *err);

// The last line of a failed run.
void transfer_report_error(FILE *report, const struct err *err);

#endif
