#include "build/lint.h"

#define PAGE "https://docs.docker.com/go/dockerfile/rule/"

const struct lint_rule lint_rules[] = {
    [LINT_STAGE_NAME_CASING] = { "StageNameCasing", "Stage names should be lowercase", PAGE "stage-name-casing/", false },
    [LINT_FROM_AS_CASING] = { "FromAsCasing", "The 'as' keyword should match the case of the 'from' keyword", PAGE "from-as-casing/", false },
    [LINT_NO_EMPTY_CONTINUATION] = { "NoEmptyContinuation", "Empty continuation lines will become errors in a future release", PAGE "no-empty-continuation/", false },
    [LINT_CONSISTENT_INSTRUCTION_CASING] = { "ConsistentInstructionCasing",
                                             "All commands within the Dockerfile should use the same casing (either upper or lower)",
                                             PAGE "consistent-instruction-casing/", false },
    [LINT_DUPLICATE_STAGE_NAME] = { "DuplicateStageName", "Stage names should be unique", PAGE "duplicate-stage-name/", false },
    [LINT_RESERVED_STAGE_NAME] = { "ReservedStageName", "Reserved words should not be used as stage names", PAGE "reserved-stage-name/", false },
    [LINT_JSON_ARGS_RECOMMENDED] = { "JSONArgsRecommended",
                                     "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
                                     PAGE "json-args-recommended/", false },
    [LINT_MAINTAINER_DEPRECATED] = { "MaintainerDeprecated",
                                     "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
                                     PAGE "maintainer-deprecated/", false },
    [LINT_UNDEFINED_ARG_IN_FROM] = { "UndefinedArgInFrom", "FROM command must use declared ARGs", PAGE "undefined-arg-in-from/", false },
    [LINT_WORKDIR_RELATIVE_PATH] = { "WorkdirRelativePath",
                                     "Relative workdir without an absolute workdir declared within the build can have unexpected results if the "
                                     "base image changes",
                                     PAGE "workdir-relative-path/", false },
    [LINT_UNDEFINED_VAR] = { "UndefinedVar", "Variables should be defined before their use", PAGE "undefined-var/", false },
    [LINT_MULTIPLE_INSTRUCTIONS_DISALLOWED] = { "MultipleInstructionsDisallowed",
                                                "Multiple instructions of the same type should not be used in the same stage",
                                                PAGE "multiple-instructions-disallowed/", false },
    [LINT_LEGACY_KEY_VALUE_FORMAT] = { "LegacyKeyValueFormat", "Legacy key/value format with whitespace separator should not be used",
                                       PAGE "legacy-key-value-format/", false },
    [LINT_INVALID_BASE_IMAGE_PLATFORM] = { "InvalidBaseImagePlatform", "Base image platform does not match expected target platform", NULL, false },
    [LINT_REDUNDANT_TARGET_PLATFORM] = { "RedundantTargetPlatform",
                                         "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
                                         PAGE "redundant-target-platform/", false },
    [LINT_SECRETS_USED_IN_ARG_OR_ENV] = { "SecretsUsedInArgOrEnv", "Sensitive data should not be used in the ARG or ENV commands",
                                          PAGE "secrets-used-in-arg-or-env/", false },
    [LINT_INVALID_DEFAULT_ARG_IN_FROM] = { "InvalidDefaultArgInFrom", "Default value for global ARG results in an empty or invalid base image name",
                                           PAGE "invalid-default-arg-in-from/", false },
    [LINT_FROM_PLATFORM_FLAG_CONST_DISALLOWED] = { "FromPlatformFlagConstDisallowed", "FROM --platform flag should not use a constant value",
                                                   PAGE "from-platform-flag-const-disallowed/", false },
    [LINT_COPY_IGNORED_FILE] = { "CopyIgnoredFile", "Attempting to Copy file that is excluded by .dockerignore", PAGE "copy-ignored-file/", false },
    [LINT_INVALID_DEFINITION_DESCRIPTION] = { "InvalidDefinitionDescription",
                                              "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If "
                                              "this is not intended to be a description comment, add an empty line or comment between the "
                                              "instruction and the comment.",
                                              PAGE "invalid-definition-description/", true },
    [LINT_EXPOSE_PROTO_CASING] = { "ExposeProtoCasing", "Protocol in EXPOSE instruction should be lowercase", PAGE "expose-proto-casing/", false },
    [LINT_EXPOSE_INVALID_FORMAT] = { "ExposeInvalidFormat",
                                     "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a "
                                     "future release",
                                     PAGE "expose-invalid-format/", false },
    [LINT_RULE_COUNT] = { NULL, NULL, NULL, false },
};
