// /etc/subuid and /etc/subgid: "NAME:FIRST:COUNT" lines of which user has which further ids. No files, no lookups: the file's text.
#ifndef ENGINE_SUBID_H
#define ENGINE_SUBID_H

#include "kernel/users.h"

#define SUBID_TEXT_MAX (1u << 20)

// The ranges of a user, named or by number, in the file's order, as a map from 0 on. Lines of others are none of ours, whatever they say.
// invalid_argument: a line of theirs is none, or the ranges make no map (nothing in it, more ids than there are, twice the same one, or the
// host's root). `what` is "subuid" or "subgid". Not found: not_found.
int subid_parse(const char *text, const char *what, const char *user, uid_t uid, struct users_map *out, struct err *err);
// The first id from 100000 on behind everybody's ranges; 0: there is no room for `count`.
uint32_t subid_free(const char *text, uint32_t count);

#endif
