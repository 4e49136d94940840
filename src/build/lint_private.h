// What the lint's files share: a run, and what it is allowed to say.
#ifndef BUILD_LINT_PRIVATE_H
#define BUILD_LINT_PRIVATE_H

#include "build/build_private.h"
#include "build/graph.h"
#include "build/lint.h"

struct lint_config {
    struct strv skip, experimental;
    bool skip_all, experimental_all, error;
};

struct linting {
    const struct dockerfile *file;
    const struct lint_input *input;
    struct lint_config config;
    struct arena *arena;
    struct lint_warning *items; // room for LINT_WARNINGS_MAX
    size_t len;
};

int lint_config_parse(const char *text, struct arena *arena, struct lint_config *config, struct err *err);
// Says it, unless the file or `comments` (the lines above an instruction; may be NULL) hush the rule.
void lint_warn(struct linting *run, enum lint_rule_index rule, const struct strv *comments, struct dockerfile_place place, const char *fmt, ...) _printf_(5, 6);

// What the text alone tells (lint_text.c), what FROM lines tell (lint_from.c), and what is seen by going through a stage (lint_stage.c).
void lint_text(struct linting *run);
void lint_from(struct linting *run, const struct scope *global);
void lint_stages(struct linting *run, const struct scope *global);

bool lint_is_lower(const char *text);
bool lint_is_upper(const char *text);
// " (did you mean PREFIX+WORD?)", or "".
const char *lint_hint(struct linting *run, const char *prefix, const char *word, const struct strv *options);

#endif
