// A git repository as ADD and a remote context name it:
//
//     https://host/repo.git  http://... git://... ssh://...  git@host:path      with #REF:SUBDIR
//     https://host/repo.git?ref=...&tag=&branch=&subdir=&checksum=&commit=&keep-git-dir=&submodules=&mtime=checkout&fetch-by-commit=
#ifndef BUILD_GIT_SOURCE_H
#define BUILD_GIT_SOURCE_H

#include "base/arena.h"
#include "base/err.h"

struct git_source {
    const char *url; // without fragment and query
    const char *ref; // "HEAD" where none is named
    const char *subdir; // "" for all of it
    const char *checksum; // a commit's beginning; NULL: any
    int keep; // its .git: 1, 0; -1: not said
    bool submodules;
    const char *commit; // the caller's: what it found
};

// 1: it is one, and in the arena; 0: it is something else; -1: it would be one but for *err (invalid_argument).
int git_source_parse(const char *text, struct arena *arena, struct git_source *out, struct err *err);

#endif
