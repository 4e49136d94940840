// The engine's image store as what a registry hands out and fills (registry/registry.h: struct registry_engine).
//
// What goes out: configurations as they are; a layer as the blob that it came as, where that is kept, and else as its tar, made again by a
// jailed worker for each request. So an image has each of the manifests that came with it whose blobs are there, and one with plain tars, which
// is always the same.
//
// What comes in: an image that is pushed by tag is unpacked by a jailed worker, as a pull's, and is an image of the engine when the push is
// answered. Layers that the store has come without a byte. The blobs that did come stay with their layers, each as one file: its manifest is
// given back as it was pushed.
//
// One root, by any number of processes, also beside a daemon. Thread-safe.
#ifndef SHARED_SHARED_H
#define SHARED_SHARED_H

#include "registry/registry.h"

struct shared;

// `root` is the engine's data root, made when missing; `program` the path of berth-image. permission_denied: not root.
int shared_open(const char *root, const char *program, struct shared **out, struct err *err);
struct registry_engine shared_functions(struct shared *shared);
void shared_close(struct shared *shared); // NULL is fine

#endif
