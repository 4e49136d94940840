// The Dockerfile language: a file's bytes to stages and instructions with typed fields.
//
//     bytes --lines--> logical lines --fields--> instructions --dockerfile_parse()--> struct dockerfile
//     instruction + variables --instruction_expand()--> instruction, ready to execute
//
// The room is a library and knows no daemon, no file and no image. It speaks the language of Dockerfile frontend 1.26
// (2026): every instruction and flag, heredocs, the directives syntax, escape and check. `# syntax=` is read and nothing
// is fetched for it. What a build does with an instruction is the builder's; what it says is here.
//
// **Memory.** Everything lives in the caller's arena: texts are NUL-terminated UTF-8 or whatever bytes the file had; a file
// with a NUL byte is refused. A list that is empty has len 0.
//
// **Bounds.** A file of at most DOCKERFILE_SIZE_MAX bytes, a physical line of at most 65,535 bytes outside of heredocs (as
// with Docker), DOCKERFILE_INSTRUCTIONS_MAX instructions, DOCKERFILE_STAGES_MAX stages, DOCKERFILE_HEREDOCS_MAX heredocs a line.
//
// **Errors** are invalid_argument with Docker's text ("dockerfile parse error on line 3: unknown instruction: FRM (did you
// mean FROM?)"), which is what a client of either builder shows. *place says where; dockerfile_excerpt() makes of it
// what BuildKit prints below its message: file, line, column, the lines around it and a mark.
//
// Any thread; no state beyond the arguments.
#ifndef BUILD_DOCKERFILE_H
#define BUILD_DOCKERFILE_H

#include "base/buf.h"
#include "base/slice.h"
#include "base/strv.h"

struct words;

#define DOCKERFILE_SIZE_MAX (4 << 20)
#define DOCKERFILE_LINE_MAX 65535
#define DOCKERFILE_INSTRUCTIONS_MAX 65536
#define DOCKERFILE_STAGES_MAX 4096
#define DOCKERFILE_HEREDOCS_MAX 256

// Lines and columns count from 1; 0 is "not known".
struct dockerfile_place {
    unsigned line; // the first line
    unsigned last_line;
    unsigned column; // in bytes, within `line`
    bool syntax; // of an error: it is about lines and words, found before an instruction is known; the classic builder puts
                 // "failed to parse NAME: " in front of its text
};

enum instruction_kind {
    INSTRUCTION_ADD,
    INSTRUCTION_ARG,
    INSTRUCTION_CMD,
    INSTRUCTION_COPY,
    INSTRUCTION_ENTRYPOINT,
    INSTRUCTION_ENV,
    INSTRUCTION_EXPOSE,
    INSTRUCTION_FROM, // a stage's first line; not among its instructions
    INSTRUCTION_HEALTHCHECK,
    INSTRUCTION_LABEL,
    INSTRUCTION_MAINTAINER,
    INSTRUCTION_ONBUILD,
    INSTRUCTION_RUN,
    INSTRUCTION_SHELL,
    INSTRUCTION_STOPSIGNAL,
    INSTRUCTION_USER,
    INSTRUCTION_VOLUME,
    INSTRUCTION_WORKDIR,
    INSTRUCTION_KIND_COUNT,
};

// "RUN"; the table's order is the enum's.
const char *instruction_kind_name(enum instruction_kind kind);

// A heredoc as written: `fd<<[-]name`. `content` has its tabs still, where `chomp` says that leading ones go
// (heredoc_content() takes them off).
struct heredoc {
    const char *name;
    const char *content; // every line with its end
    unsigned fd;
    bool chomp; // <<-
    bool expand; // the name had no quotes
};

struct heredocs {
    struct heredoc *items;
    size_t len;
};

const char *heredoc_content(const struct heredoc *doc, struct arena *arena);

// NAME=VALUE of ARG, ENV and LABEL.
struct dockerfile_pair {
    const char *key;
    const char *value; // NULL: an ARG without a default
    const char *comment; // ARG: the description in the comment above, or NULL
    bool legacy; // ENV, LABEL: "NAME VALUE" without a '='
};

struct dockerfile_pairs {
    struct dockerfile_pair *items;
    size_t len;
};

// A command in its two forms.
//
//     ["a", "b"]   exec form:  json is true, args are the words
//     a b          shell form: json is false, args has one text, to be put behind the stage's shell
//
// Text that looks like JSON and isn't is a shell command, as with Docker.
struct dockerfile_command {
    struct strv args;
    bool json;
};

enum tristate { TRISTATE_UNSET = 0, TRISTATE_FALSE, TRISTATE_TRUE };

// A file that a heredoc of COPY or ADD brings along.
struct inline_file {
    const char *name; // the heredoc's word: the file's name
    const char *content; // tabs of <<- are off; variables are still in it where expand is true
    bool expand;
};

// COPY and ADD. What only one of them has is unset in the other.
struct copy_fields {
    struct strv sources; // paths; ADD: also URLs and git repositories; without those of heredocs
    const char *target; // its trailing slash matters
    struct inline_file *files; // heredocs among the sources
    size_t files_len;
    const char *from; // COPY --from: a stage's name or number, an image or a named context; NULL: the build context
    const char *chown; // NULL when absent
    const char *chmod;
    const char *checksum; // ADD
    struct strv excludes;
    bool link;
    bool parents; // COPY
    enum tristate keep_git_dir; // ADD
    enum tristate unpack; // ADD
};

enum run_mount_type { RUN_MOUNT_BIND = 0, RUN_MOUNT_CACHE, RUN_MOUNT_TMPFS, RUN_MOUNT_SECRET, RUN_MOUNT_SSH };
enum run_mount_sharing { RUN_SHARING_UNSET = 0, RUN_SHARING_SHARED, RUN_SHARING_PRIVATE, RUN_SHARING_LOCKED };

// One RUN --mount. Before instruction_expand() only `raw` and `from` are set (the other values may hold variables).
// Defaults that depend on other things are the builder's: a cache's id is its cleaned target, a secret's target
// /run/secrets/ID (mode 0400), an ssh socket's /run/buildkit/ssh_agent.N (mode 0600).
struct run_mount {
    const char *raw; // the flag's value as written
    enum run_mount_type type;
    const char *from; // NULL: cache: empty; else the build context
    const char *source;
    const char *target; // may be relative to WORKDIR
    const char *id; // cache, secret, ssh
    const char *env; // secret as a variable: its name; "" the default name; NULL when absent
    enum run_mount_sharing sharing;
    bool read_only; // bind, secret and ssh: true unless rw is asked
    bool required; // secret, ssh
    uint64_t size; // tmpfs, bytes; 0: not limited
    int64_t mode; // -1: not given; these three for cache, secret and ssh alone
    int64_t uid;
    int64_t gid;
};

struct run_device {
    const char *name; // a CDI name
    bool required;
};

struct run_fields {
    struct dockerfile_command command; // of a shell form: the text of the logical line (heredocs not in it)
    struct heredocs heredocs;
    struct run_mount *mounts;
    size_t mounts_len;
    struct run_device *devices;
    size_t devices_len;
    const char *network; // "default", "none", "host"
    const char *security; // "sandbox", "insecure"
    struct strv flags_used; // names, for builders that know only some
};

struct healthcheck_fields {
    struct strv test; // {"NONE"}, {"CMD", ...} or {"CMD-SHELL", text}: as in an image's config
    int64_t interval_ns; // 0: not given
    int64_t timeout_ns;
    int64_t start_period_ns;
    int64_t start_interval_ns;
    int retries;
};

struct instruction {
    enum instruction_kind kind;
    const char *name; // as written: "RUN", "run"
    const char *text; // the logical line: continuations joined, comments out, trimmed; without heredocs' lines
    struct dockerfile_place place;
    struct strv comments; // the comment lines just above
    union {
        struct copy_fields copy; // ADD, COPY
        struct dockerfile_pairs pairs; // ARG, ENV, LABEL
        struct dockerfile_command command; // CMD, ENTRYPOINT; SHELL (always the exec form)
        struct run_fields run;
        struct healthcheck_fields healthcheck;
        struct strv list; // EXPOSE: ports as written, sorted; after instruction_expand() "80/tcp". VOLUME: paths
        const char *value; // MAINTAINER, STOPSIGNAL, USER, WORKDIR; ONBUILD: the trigger's text, with its heredocs
    };
};

struct dockerfile_stage {
    const char *name; // lower case; NULL: it has none
    const char *name_written; // as written
    const char *base; // as written, with variables
    const char *platform; // --platform, with variables; NULL: none
    const char *comment; // the stage's description, or NULL
    struct instruction from; // kind FROM: its name, text, place and comments
    struct instruction *instructions;
    size_t len;
};

struct dockerfile {
    struct slice source; // the bytes that were parsed, in the arena
    char escape; // '\\' or '`'
    const char *syntax; // the directives' values; NULL when absent
    const char *check;
    struct dockerfile_place check_place;
    struct instruction *globals; // the ARG instructions before the first FROM
    size_t globals_len;
    struct dockerfile_stage *stages;
    size_t len; // 1 or more
    struct dockerfile_place *empty_continuations; // instructions with an empty line in a continuation (their last line)
    size_t empty_continuations_len;
};

// Parses a whole file. `place` (may be NULL) is filled on errors. Returns 0, or -1 with *err.
int dockerfile_parse(struct slice source, struct arena *arena, struct dockerfile **out, struct dockerfile_place *place,
                     struct err *err);

// Parses one ONBUILD trigger (an image's config.OnBuild entry, or an ONBUILD instruction's value). FROM, ONBUILD and
// MAINTAINER are refused. `at` becomes the instruction's place.
int dockerfile_parse_trigger(const char *text, struct dockerfile_place at, struct arena *arena, struct instruction **out,
                             struct err *err);

// Parses instructions without a stage, as `docker commit --change` has them. Only those named in `allowed` (upper case, ended by NULL).
int dockerfile_parse_changes(struct slice source, const char *const *allowed, struct arena *arena, struct instruction **out, size_t *len,
                             struct err *err);

// What WORKDIR `path` makes of the folder before (NULL: none): absolute and clean, ".." never leaves the root.
const char *dockerfile_workdir(const char *before, const char *path, struct arena *arena);

// What BuildKit prints below an error: "NAME:LINE:COLUMN", the lines around with numbers, those in question marked, and a
// caret below the column where it is known. `name` is the file's name as the user gave it.
void dockerfile_excerpt(struct slice source, const char *name, struct dockerfile_place place, struct buf *out);

// The instruction with variables replaced by `words` (build/words.h, whose lookup is usually scope_lookup() of build/scope.h): what
// Docker expands is expanded (sources, targets, owners, keys and values, mounts, contents of heredocs of COPY, ...), the rest is the same.
// Words of EXPOSE are split and read ("8000-8001/udp" is two), mounts of RUN are parsed. ARG and ONBUILD come back as
// they are: scope_arg() knows what an ARG is worth. `out` shares texts with `in`.
int instruction_expand(const struct instruction *in, const struct words *words, struct instruction *out, struct err *err);

// EXPOSE's words "[ip:][host:]80-81/udp" as "80/udp", "81/udp".
int expose_ports(const struct strv *words, struct arena *arena, struct strv *out, struct err *err);

// A suggestion for a mistyped word: the nearest of `options` at an edit distance below 3, or NULL. Without case: the answer has the case of
// `word`.
const char *dockerfile_suggest(const char *word, const struct strv *options, bool with_case, struct arena *arena);

#endif
