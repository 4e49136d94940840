// Which stages a build needs, and in which order they can be made.
//
// A stage depends on its base stage, on the stages of its COPY --from and of its RUN --mount=from. Everything else that is named
// is an image (or a named context), and the builder's to find. `scratch` is neither.
#ifndef BUILD_GRAPH_H
#define BUILD_GRAPH_H

#include "build/scope.h"

enum graph_origin { GRAPH_STAGE, GRAPH_SCRATCH, GRAPH_IMAGE };

struct graph_node {
    const struct dockerfile_stage *stage;
    const char *label; // its name, or "stage-0"
    enum graph_origin origin;
    const char *base; // the base with variables replaced
    size_t base_stage; // origin GRAPH_STAGE: which
    const char *platform; // --platform with variables replaced, or NULL
    size_t *needs; // stages that must be finished before this one ends; each once, base first; those of a needed stage all come before it in the file
    size_t needs_len;
    struct strv images; // images named by COPY --from and RUN --mount=from, each once
    bool needed; // by the target
};

struct graph {
    struct graph_node *nodes; // one for each stage, in the file's order
    size_t len;
    size_t target;
    size_t needed_len;
};

// `target`: a stage's name or number; NULL or "": the last stage. Stages that nothing needs are there, but not `needed`. `place` as in dockerfile_parse().
int graph_make(const struct dockerfile *file, const struct scope *global, const char *target, struct arena *arena,
               struct graph **out, struct dockerfile_place *place, struct err *err);
// What a --from of stage `at` names: GRAPH_STAGE with *stage, or GRAPH_IMAGE. Numbers and names of earlier stages.
int graph_from(const struct graph *graph, size_t at, const char *from, enum graph_origin *origin, size_t *stage, struct err *err);
// Triggers of a base image (or of the base stage) may need further stages: adds what `instructions` name to node `at`, marks
// what is newly needed. Returns 1 when something was, 0 when not.
int graph_add(struct graph *graph, size_t at, const struct instruction *instructions, size_t len, struct arena *arena, struct err *err);

#endif
