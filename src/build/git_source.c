#include "build/git_source.h"

#include "build/build_private.h"

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

// user@host:path
static bool is_scp(const char *text)
{
    const char *at = text;
    while (is_word(*at))
        at++;
    if (at == text || *at++ != '@')
        return false;
    const char *host = at;
    while (is_word(*at) || *at == '.')
        at++;
    return at > host && *at == ':' && at[1] != '/' && at[1];
}

static bool ends_git(struct slice path)
{
    while (path.size && path.data[path.size - 1] == '/')
        path.size--;
    return path.size > 4 && memcmp(path.data + path.size - 4, ".git", 4) == 0;
}

// By http only what ends in .git: all else is a file.
static bool is_git(const char *text)
{
    if (str_starts(text, "http://") || str_starts(text, "https://"))
        return ends_git((struct slice){ text, strcspn(text, "#?") });
    return str_starts(text, "git://") || str_starts(text, "ssh://") || is_scp(text);
}

static int wrong(const char *text, const char *what, struct err *err)
{
    return err_set(err, ERR_INVALID_ARGUMENT, "failed to parse git ref %.300s: %s", text, what);
}

// A commit, a branch or a tag, and no option of git's.
static bool ref_fits(const char *ref)
{
    for (const char *c = ref; *c; c++)
        if ((unsigned char)*c <= ' ' || strchr("~^:?*[\\\177", *c))
            return false;
    return *ref != '-' && !strstr(ref, "..");
}

struct reading {
    const char *text;
    struct git_source *out;
    const char *tag, *branch; // NULL: not said
    bool named; // its ref
    bool by_commit; // the checksum is what is fetched
    struct arena *arena;
    struct err *err;
};

static int take_ref(struct reading *reading, const char *ref)
{
    if (reading->named && !str_eq(reading->out->ref, ref))
        return wrong(reading->text, "its ref is said twice", reading->err);
    reading->named = true;
    reading->out->ref = ref;
    return ref_fits(ref) ? 0 : wrong(reading->text, "invalid ref", reading->err);
}

static int take_switch(struct reading *reading, const char *key, const char *value, bool *out)
{
    *out = true;
    if (!*value || parse_switch(value, out))
        return 0;
    return wrong(reading->text, arena_printf(reading->arena, "invalid value of %s: %.100s", key, value), reading->err);
}

static int take_query(struct reading *reading, const char *key, const char *value)
{
    struct git_source *out = reading->out;
    bool on;
    if (str_eq(key, "ref"))
        return take_ref(reading, value);
    if (str_eq(key, "tag")) {
        reading->tag = value;
    } else if (str_eq(key, "branch")) {
        reading->branch = value;
    } else if (str_eq(key, "subdir")) {
        if (*out->subdir && !str_eq(out->subdir, value))
            return wrong(reading->text, "its subdir is said twice", reading->err);
        out->subdir = value;
    } else if (str_eq(key, "checksum") || str_eq(key, "commit")) {
        out->checksum = value;
    } else if (str_eq(key, "keep-git-dir")) {
        if (take_switch(reading, key, value, &on) < 0)
            return -1;
        out->keep = on;
    } else if (str_eq(key, "submodules")) {
        return take_switch(reading, key, value, &out->submodules);
    } else if (str_eq(key, "fetch-by-commit")) {
        return take_switch(reading, key, value, &reading->by_commit);
    } else if (str_eq(key, "mtime")) {
        if (!str_eq(value, "checkout"))
            return wrong(reading->text, str_eq(value, "commit") ? "mtime=commit is not supported" : "invalid mtime value (must be \"checkout\" or \"commit\")", reading->err);
    } else {
        return wrong(reading->text, arena_printf(reading->arena, "unexpected query \"%.100s\"", key), reading->err);
    }
    return 0;
}

static int take_full_ref(struct reading *reading, const char *prefix, const char *name)
{
    return !name ? 0 : take_ref(reading, str_starts(name, prefix) ? name : arena_printf(reading->arena, "%s%s", prefix, name));
}

// What several queries say together.
static int settle(struct reading *reading)
{
    const char *commit = reading->out->checksum;
    if (reading->tag && reading->branch)
        return wrong(reading->text, "branch conflicts with tag", reading->err);
    if (take_full_ref(reading, "refs/tags/", reading->tag) < 0 || take_full_ref(reading, "refs/heads/", reading->branch) < 0)
        return -1;
    if (!reading->by_commit)
        return 0;
    if (!commit || strlen(commit) != strspn(commit, "0123456789abcdef") || strlen(commit) != 40)
        return wrong(reading->text, "fetch-by-commit requires a full commit SHA checksum", reading->err);
    reading->out->ref = commit;
    return 0;
}

static int take_queries(struct reading *reading, struct slice query)
{
    struct slice part, key;
    while (slice_cut(&query, '&', &part)) {
        slice_cut(&part, '=', &key);
        const char *value = part.data ? arena_strndup(reading->arena, part.data, part.size) : "";
        if (key.size && take_query(reading, arena_strndup(reading->arena, key.data, key.size), value) < 0)
            return -1;
    }
    return 0;
}

static int take_fragment(struct reading *reading, const char *fragment)
{
    const char *colon = strchr(fragment, ':');
    size_t size = colon ? (size_t)(colon - fragment) : strlen(fragment);
    if (colon)
        reading->out->subdir = colon + 1;
    return size ? take_ref(reading, arena_strndup(reading->arena, fragment, size)) : 0;
}

int git_source_parse(const char *text, struct arena *arena, struct git_source *out, struct err *err)
{
    struct reading reading = { .text = text, .out = out, .arena = arena, .err = err };
    if (!is_git(text))
        return 0;
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c <= ' ' || *c == 127)
            return wrong("", "invalid control character in URL", err);
    const char *hash = strchr(text, '#');
    size_t size = hash ? (size_t)(hash - text) : strlen(text), base = is_scp(text) ? size : MIN_OF(size, strcspn(text, "?"));
    *out = (struct git_source){ .url = arena_strndup(arena, text, base), .ref = "HEAD", .subdir = "", .keep = -1, .submodules = true };
    if (hash && take_fragment(&reading, hash + 1) < 0)
        return -1;
    if (base < size && take_queries(&reading, (struct slice){ text + base + 1, size - base - 1 }) < 0)
        return -1;
    return settle(&reading) < 0 ? -1 : 1;
}
