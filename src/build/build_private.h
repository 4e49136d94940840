// What the files of this room share: the parsed line between the reader (lines.c) and the instructions, and small helpers.
#ifndef BUILD_PRIVATE_H
#define BUILD_PRIVATE_H

#include "build/dockerfile.h"
#include "base/path.h"
#include "base/num.h"
#include "build/words.h"

// Bytes that one file's parse or expansion may cost in all; a doubling `ENV a=$a$a` ends here.
#define BUILD_MEMORY_MAX ((size_t)256 << 20)

// One logical line, taken apart as far as that is the same for every instruction.
struct line {
    struct slice text; // trimmed, NUL-terminated
    struct dockerfile_place place;
    struct strv comments;
    struct heredocs heredocs;
    // set by line_split():
    const char *name; // "RUN"
    struct strv flags; // "--mount=..." unquoted
    const char *rest; // what is behind name and flags, trimmed
};

// Calls `each` for every instruction's line, in order. Directives, escape and empty continuations go into *file.
struct line_reader {
    struct arena *arena;
    struct dockerfile *file;
    struct dockerfile_place *place;
    int (*each)(void *of, struct line *line, struct err *err);
    void *of;
};
int lines_read(struct line_reader *reader, struct err *err);

// Name, flags and rest of a line.
void line_split(struct line *line, char escape, struct arena *arena);
// The instruction that takes heredocs: the line's own or that of its ONBUILD; false where none can be.
bool line_takes_heredocs(const struct line *line, char escape, struct arena *arena);
// The heredocs that a line announces, without contents.
int line_heredocs(const char *text, struct arena *arena, struct heredocs *out, struct err *err);
// A word as a heredoc ("<<EOF", "3<<-'EOF'"): 1 and *out, or 0.
int heredoc_parse(const char *word, struct arena *arena, struct heredoc *out, struct err *err);

// Words divided by blanks, with their quotes and escapes still in them (ARG, ENV, LABEL).
void split_words(const char *text, char escape, struct arena *arena, struct strv *out);
// Words divided by blanks and nothing else.
void split_blanks(const char *text, struct arena *arena, struct strv *out);
// A JSON list of texts: 1 and *out, 0 when it is none, -1 when it is a list of something else.
int split_json(const char *text, struct arena *arena, struct strv *out, struct err *err);
// A comma-separated line with quoted fields.
int split_csv(const char *text, struct arena *arena, struct strv *out, struct err *err);

// One line to an instruction. A `stage` is given for FROM: it gets name, base, platform.
int instruction_parse(const struct line *line, char escape, struct arena *arena, struct instruction *out, struct dockerfile_stage *stage,
                      struct err *err);

// Flags of an instruction, by a table that an empty name ends.
enum flag_form { FLAG_TEXT, FLAG_TEXTS, FLAG_SWITCH };
struct flag_row {
    const char *name;
    enum flag_form form;
    size_t offset; // in the fields: const char *, struct strv, enum tristate
};
int flags_read(const struct strv *flags, const struct flag_row *rows, void *fields, struct arena *arena, struct strv *used, struct err *err);

// --mount and --device.
int run_mount_check(struct run_mount *mount, struct arena *arena, struct err *err);
int run_mount_expand(struct run_mount *mount, const struct words *words, struct err *err);
int run_device_parse(const char *text, struct arena *arena, struct run_device *out, struct err *err);

// Removes the heads and tails that match a pattern, replaces matches (pattern.c).
enum pattern_side { PATTERN_HEAD, PATTERN_TAIL };
int pattern_cut(const char *pattern, const char *value, enum pattern_side side, bool longest, struct arena *arena, const char **out, struct err *err);
int pattern_replace(const char *pattern, const char *replacement, const char *value, bool every, struct arena *arena, const char **out,
                    struct err *err);

// Bytes of the blank at the start, 0 when there is none: Unicode's, as Go's unicode.IsSpace has them.
size_t blank_len(const char *text);
struct slice blank_trim(struct slice text);
// The text as %q writes it, in the arena.
const char *quoted(const char *text, struct arena *arena);
const char *lower_case(const char *text, struct arena *arena);
const char *upper_case(const char *text, struct arena *arena);
// "message (did you mean X?)" as invalid_argument.
int err_suggest(struct err *err, const char *message, const char *word, const struct strv *options, bool with_case, struct arena *arena);
// strconv.ParseBool's words.
bool parse_switch(const char *text, bool *out);
bool digits_only(const char *text);
// Fails when the arena has grown past BUILD_MEMORY_MAX.
int memory_check(const struct arena *arena, struct err *err);

#endif
