// An instruction with its variables replaced.
#include "build/build_private.h"

static int text_expand(const struct words *words, const char **text, struct err *err)
{
    return *text ? words_expand(words, *text, text, err) : 0;
}

static int list_expand(const struct words *words, const struct strv *in, struct strv *out, struct err *err)
{
    *out = (struct strv){ .items = arena_alloc(words->arena, (in->len + 1) * sizeof(char *)), .len = in->len };
    for (size_t i = 0; i < in->len; i++) {
        const char *text = in->items[i];
        if (text_expand(words, &text, err) < 0)
            return -1;
        out->items[i] = (char *)text;
    }
    return 0;
}

// Contents have no quotes; their escape is a backslash whatever the file's is.
static int files_expand(const struct words *words, struct copy_fields *copy, struct err *err)
{
    struct words raw = *words;
    struct inline_file *files = arena_alloc(words->arena, (copy->files_len + 1) * sizeof(*files));
    raw.escape = '\\';
    raw.flags |= WORDS_PLAIN_QUOTES;
    for (size_t i = 0; i < copy->files_len; i++) {
        files[i] = copy->files[i];
        if (files[i].expand && text_expand(&raw, &files[i].content, err) < 0)
            return -1;
    }
    copy->files = files;
    return 0;
}

static int copy_expand(const struct words *words, struct copy_fields *copy, struct err *err)
{
    struct strv sources = copy->sources;
    if (text_expand(words, &copy->chown, err) < 0 || text_expand(words, &copy->chmod, err) < 0 || text_expand(words, &copy->checksum, err) < 0 ||
        list_expand(words, &sources, &copy->sources, err) < 0 || text_expand(words, &copy->target, err) < 0)
        return -1;
    return files_expand(words, copy, err);
}

static int pairs_expand(const struct words *words, struct dockerfile_pairs *pairs, struct err *err)
{
    struct dockerfile_pair *items = arena_alloc(words->arena, (pairs->len + 1) * sizeof(*items));
    for (size_t i = 0; i < pairs->len; i++) {
        items[i] = pairs->items[i];
        if (text_expand(words, &items[i].key, err) < 0 || text_expand(words, &items[i].value, err) < 0)
            return -1;
    }
    pairs->items = items;
    return 0;
}

static int mounts_expand(const struct words *words, struct run_fields *run, struct err *err)
{
    struct run_mount *mounts = arena_alloc(words->arena, (run->mounts_len + 1) * sizeof(*mounts));
    for (size_t i = 0; i < run->mounts_len; i++) {
        mounts[i] = run->mounts[i];
        if (run_mount_expand(&mounts[i], words, err) < 0)
            return -1;
    }
    run->mounts = mounts;
    return 0;
}

static int expose_expand(const struct words *words, struct strv *ports, struct err *err)
{
    struct strv all = { 0 }, some;
    for (size_t i = 0; i < ports->len; i++) {
        if (words_split(words, ports->items[i], &some, err) < 0)
            return -1;
        for (size_t j = 0; j < some.len; j++)
            strv_push_arena(&all, words->arena, some.items[j]);
    }
    return expose_ports(&all, words->arena, ports, err);
}

static int volumes_expand(const struct words *words, struct strv *paths, struct err *err)
{
    struct strv written = *paths;
    if (list_expand(words, &written, paths, err) < 0)
        return -1;
    for (size_t i = 0; i < paths->len; i++)
        if (!*paths->items[i])
            return err_set(err, ERR_INVALID_ARGUMENT, "VOLUME specified can not be an empty string");
    return 0;
}

int instruction_expand(const struct instruction *in, const struct words *words, struct instruction *out, struct err *err)
{
    *out = *in;
    switch (in->kind) {
    case INSTRUCTION_ADD:
    case INSTRUCTION_COPY: return copy_expand(words, &out->copy, err);
    case INSTRUCTION_ENV:
    case INSTRUCTION_LABEL: return pairs_expand(words, &out->pairs, err);
    case INSTRUCTION_RUN: return mounts_expand(words, &out->run, err);
    case INSTRUCTION_EXPOSE: return expose_expand(words, &out->list, err);
    case INSTRUCTION_VOLUME: return volumes_expand(words, &out->list, err);
    case INSTRUCTION_STOPSIGNAL:
    case INSTRUCTION_USER:
    case INSTRUCTION_WORKDIR: return text_expand(words, &out->value, err);
    default: return 0;
    }
}
