// `docker build --check`: what is legal in a Dockerfile and yet likely wrong, by BuildKit's rules, names and texts.
//
// A file says what it wants by `# check=skip=A,B;error=true;experimental=C` at the top, and by `# check=skip=A` just above an
// instruction. Rules that need a base image's environment ask for it by `base_env`. At most LINT_WARNINGS_MAX are kept.
#ifndef BUILD_LINT_H
#define BUILD_LINT_H

#include "build/ignore.h"
#include "build/scope.h"

#define LINT_WARNINGS_MAX 1000

struct lint_rule {
    const char *name; // "StageNameCasing"
    const char *description;
    const char *url; // NULL: none
    bool experimental; // silent unless asked for
};

enum lint_rule_index {
    LINT_STAGE_NAME_CASING,
    LINT_FROM_AS_CASING,
    LINT_NO_EMPTY_CONTINUATION,
    LINT_CONSISTENT_INSTRUCTION_CASING,
    LINT_DUPLICATE_STAGE_NAME,
    LINT_RESERVED_STAGE_NAME,
    LINT_JSON_ARGS_RECOMMENDED,
    LINT_MAINTAINER_DEPRECATED,
    LINT_UNDEFINED_ARG_IN_FROM,
    LINT_WORKDIR_RELATIVE_PATH,
    LINT_UNDEFINED_VAR,
    LINT_MULTIPLE_INSTRUCTIONS_DISALLOWED,
    LINT_LEGACY_KEY_VALUE_FORMAT,
    LINT_INVALID_BASE_IMAGE_PLATFORM, // for the builder, who has the image: lint_run() does not say it
    LINT_REDUNDANT_TARGET_PLATFORM,
    LINT_SECRETS_USED_IN_ARG_OR_ENV,
    LINT_INVALID_DEFAULT_ARG_IN_FROM,
    LINT_FROM_PLATFORM_FLAG_CONST_DISALLOWED,
    LINT_COPY_IGNORED_FILE,
    LINT_INVALID_DEFINITION_DESCRIPTION,
    LINT_EXPOSE_PROTO_CASING,
    LINT_EXPOSE_INVALID_FORMAT,
    LINT_RULE_COUNT,
};

// Every rule, in BuildKit's order, ended by a name of NULL.
extern const struct lint_rule lint_rules[];

struct lint_warning {
    const struct lint_rule *rule;
    const char *detail; // the sentence: "Stage name 'Web' should be lowercase"
    struct dockerfile_place place;
};

struct lint_report {
    struct lint_warning *items; // by place
    size_t len;
    bool error; // error=true and something was found: "lint violation found for rules: A, B"
};

struct lint_input {
    const struct build_args *args;
    const char *target; // NULL: the last stage
    bool needed; // what is in stages that the target does not need is passed over, as in a build; else that is so where a target is named
    const char *check; // options instead of the file's own (BUILDKIT_DOCKERFILE_CHECK); NULL: the file's
    const struct ignore *ignore; // NULL: none
    // The environment of the image that is stage `stage`'s base; NULL when it is not known: nothing is said about its
    // variables then. May be NULL.
    const struct strv *(*base_env)(void *of, size_t stage, const char *image);
    void *of;
};

// A file that can't be built is linted as far as it goes. Fails only where the check options are wrong.
int lint_run(const struct dockerfile *file, const struct lint_input *input, struct arena *arena, struct lint_report *out,
             struct err *err);
// "lint violation found for rules: A, B", each once.
void lint_violation(const struct lint_report *report, struct err *err);

#endif
