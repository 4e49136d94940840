// What variables are worth where: ARG and ENV, global and of a stage, what the client gave and what is given by itself.
//
//     struct build_args   the client's --build-arg, platforms, target: the same for the whole build
//     struct scope        the variables at one point of the file; a copy is a snapshot
//
// One build:  scope_global()  over the ARGs before the first FROM; FROM's words are expanded in it.
//             scope_stage()   for each stage, from the base image's environment or from the base stage's scope.
//             scope_apply()   after each ARG and ENV (already expanded, but for ARG).
// An instruction sees the scope as it was before it, so one ENV line sees one state.
#ifndef BUILD_SCOPE_H
#define BUILD_SCOPE_H

#include "build/dockerfile.h"

#define SCOPE_VARIABLES_MAX 8192
#define SCOPE_VALUE_MAX 131071 // bytes of NAME=VALUE; the kernel takes no longer one at an exec

struct build_args {
    struct kvs given; // --build-arg; a value of NULL counts as absent
    const char *build_platform; // "linux/amd64"
    const char *target_platform; // "linux/amd64"; "linux/arm64/v8"
    const char *target_stage; // --target; NULL: "default"
};

struct scope {
    struct arena *arena;
    const struct build_args *args;
    const struct scope *global; // NULL in the global one
    struct strv env; // KEY=VALUE of ENV and of the base image
    struct strv set; // KEY=VALUE of ARGs with a value
    struct strv declared; // KEY of every ARG, in order
    bool env_wins; // an ENV beats a later ARG of its name, as in the classic builder; BuildKit takes the later one
};

// The scope of FROM lines: automatic platform ARGs, then the file's global ARGs. Defaults may use earlier ones.
int scope_global(const struct dockerfile *file, const struct build_args *args, struct arena *arena, struct scope *out,
                 struct err *err);
// A stage's first scope: `env` is the base image's environment. ARGs of a base stage are inherited by copying its
// scope instead.
void scope_stage(const struct scope *global, const struct strv *env, struct scope *out);
// A copy that can be changed without the other one noticing it.
void scope_copy(const struct scope *in, struct scope *out);
// The first scope of a stage on another one: ENV beats an ARG of its name again, whichever came later there.
void scope_inherit(const struct scope *in, struct scope *out);
// ARG: declares and gives values (client's, else the default, else the global ARG's). ENV: sets. Others: nothing. ENV must be expanded.
int scope_apply(struct scope *scope, const struct instruction *instruction, char escape, struct err *err);
// For struct words: `of` is the scope.
const char *scope_lookup(void *of, const char *name);
// The environment of a RUN: ENV, ARGs, and the proxies that the client gave.
void scope_run_env(const struct scope *scope, struct arena *arena, struct strv *out);
// KEY=VALUE of the declared ARGs that a RUN sees, sorted and without the proxies: the "|1 A=b" of its history and its cache key.
void scope_run_args(const struct scope *scope, struct arena *arena, struct strv *out);
// The client's build args that no ARG of the file declared and that aren't predefined ("[Warning] One or more
// build-args [foo] were not consumed").
void scope_unused(const struct dockerfile *file, const struct build_args *args, struct arena *arena, struct strv *out);
// HTTP_PROXY and its like, both cases.
bool scope_is_proxy(const char *name);

#endif
