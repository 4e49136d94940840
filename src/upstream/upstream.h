// Another registry as what ours is a cache of (registry/registry.h): its manifests, blobs and tags, by the client of registries.
//
// What is fetched is checked against its digest. Logins, certificates, proxies and pauses are the client's (distribution/distribution.h).
#ifndef UPSTREAM_UPSTREAM_H
#define UPSTREAM_UPSTREAM_H

#include "registry/registry.h"

struct upstream_options {
    const char *url; // "https://registry-1.docker.io", "http://host:5000": https without a good certificate, or plain http, for http:// alone
    const char *credentials; // file with "name:password" or an empty name and a token; NULL: none. Read once
};

struct upstream;
// Once in a program, before its first thread. invalid_argument: `url` is none. No network yet. Everything is copied.
int upstream_new(const struct upstream_options *options, struct upstream **out, struct err *err);
void upstream_free(struct upstream *upstream); // NULL is fine
// What a registry asks by; its context is `upstream`.
struct registry_upstream upstream_functions(struct upstream *upstream);

#endif
