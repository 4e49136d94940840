#include "mounting.h"

static const struct {
    const char *word;
    enum mode_class class;
} mode_words[] = {
    { "ro", MODE_ACCESS },          { "rw", MODE_ACCESS },           { "z", MODE_LABEL },
    { "Z", MODE_LABEL },            { "private", MODE_PROPAGATION }, { "rprivate", MODE_PROPAGATION },
    { "shared", MODE_PROPAGATION }, { "rshared", MODE_PROPAGATION }, { "slave", MODE_PROPAGATION },
    { "rslave", MODE_PROPAGATION }, { "copy", MODE_COPY },           { "nocopy", MODE_COPY },
    { "cached", MODE_CONSISTENCY }, { "delegated", MODE_CONSISTENCY }, { "consistent", MODE_CONSISTENCY },
};

static bool add_word(struct slice part, struct mount_mode *out)
{
    for (size_t i = 0; i < ARRAY_LEN(mode_words); i++) {
        const char **place = &out->words[mode_words[i].class];
        if (!slice_eq(part, mode_words[i].word))
            continue;
        if (*place)
            return false;
        *place = mode_words[i].word;
        return true;
    }
    return false;
}

int mount_mode_parse(const char *text, struct mount_mode *out, struct err *err)
{
    struct slice rest = slice_of(text), part;
    *out = (struct mount_mode){ 0 };
    while (!str_empty(text) && slice_cut(&rest, ',', &part))
        if (!add_word(part, out))
            return err_set(err, ERR_INVALID_ARGUMENT, "invalid mode: %s", text);
    return 0;
}

bool mount_mode_is_propagation(const char *word)
{
    struct mount_mode mode = { 0 };
    return add_word(slice_of(word), &mode) && mode.words[MODE_PROPAGATION];
}
