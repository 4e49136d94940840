// Filters of the build cache, in the form in which BuildKit's clients send them: "type==regular,inuse" is a text, all of whose parts hold; of several texts
// one is enough. A part is a field, or a field, an operator ("==", "!=", "~=": an expression) and a word, plain or in quotes.
#include <regex.h>

#include "builder_private.h"

#define PARTS_MAX 32

static const struct field {
    const char *name;
    bool flag; // it is there, or not
} fields[] = { { "id", false }, { "parent", false }, { "type", false }, { "description", false }, { "inuse", true }, { "shared", true }, { "private", true },
               { "mutable", true }, { "immutable", true } };

static int bad(const char *text, struct err *err)
{
    return err_set(err, ERR_INVALID_ARGUMENT, "invalid filter: %.200s", text);
}

static int parse_part(const char *text, struct slice part, struct arena *arena, struct entry_filter *out, struct err *err)
{
    static const char *const operators[] = { "==", "!=", "~=" };
    const char *copy = arena_strndup(arena, part.data, part.size);
    size_t name = strspn(copy, "abcdefghijklmnopqrstuvwxyz");
    *out = (struct entry_filter){ .field = arena_strndup(arena, copy, name) };
    bool known = false;
    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        known = known || str_eq(fields[i].name, out->field);
    if (!known)
        return bad(text, err);
    if (!copy[name])
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(operators); i++)
        if (str_starts(copy + name, operators[i]))
            out->operator = operators[i][0];
    if (!out->operator)
        return bad(text, err);
    const char *word = copy + name + 2;
    size_t size = strlen(word);
    bool quoted = size >= 2 && word[0] == '"' && word[size - 1] == '"';
    out->word = quoted ? arena_strndup(arena, word + 1, size - 2) : word;
    regex_t expression;
    if (out->operator == '~' && regcomp(&expression, out->word, REG_EXTENDED | REG_NOSUB) != 0)
        return bad(text, err);
    if (out->operator == '~')
        regfree(&expression);
    return 0;
}

// The text to the next comma that is in no quotes.
static bool next_part(struct slice *rest, struct slice *part)
{
    size_t size = 0;
    bool quoted = false;
    if (!rest->data)
        return false;
    while (size < rest->size && (quoted || rest->data[size] != ','))
        quoted ^= rest->data[size++] == '"';
    *part = (struct slice){ rest->data, size };
    *rest = size < rest->size ? (struct slice){ rest->data + size + 1, rest->size - size - 1 } : (struct slice){ 0 };
    return true;
}

static int parse_text(const char *text, struct arena *arena, struct entry_filters *out, struct err *err)
{
    struct slice rest = slice_of(text), part;
    struct entry_filter *last = NULL;
    while (next_part(&rest, &part)) {
        if (out->len == PARTS_MAX)
            return err_set(err, ERR_INVALID_ARGUMENT, "a filter has more than %d parts", PARTS_MAX);
        last = &out->items[out->len++];
        if (parse_part(text, part, arena, last, err) < 0)
            return -1;
    }
    if (last)
        last->ends = true;
    return 0;
}

int entry_filters_parse(const struct strv *texts, struct arena *arena, struct entry_filters *out, struct err *err)
{
    *out = (struct entry_filters){ .items = arena_alloc(arena, PARTS_MAX * sizeof(*out->items)) };
    for (size_t i = 0; texts && i < texts->len; i++)
        if (*texts->items[i] && parse_text(texts->items[i], arena, out, err) < 0) // a client says "" for none
            return -1;
    return 0;
}

static bool matches(const char *expression, const char *text)
{
    regex_t compiled;
    if (regcomp(&compiled, expression, REG_EXTENDED | REG_NOSUB) != 0)
        return false;
    bool found = regexec(&compiled, text, 0, NULL, 0) == 0;
    regfree(&compiled);
    return found;
}

static bool flag_fits(const struct entry_filter *filter, const struct build_entry *entry)
{
    bool mount = !entry->image_id;
    bool is = str_eq(filter->field, "inuse") ? entry->in_use : str_eq(filter->field, "shared") ? entry->shared : str_eq(filter->field, "private") ? !entry->shared
              : str_eq(filter->field, "mutable") ? mount : !mount;
    bool wanted = !filter->operator || str_eq(filter->word, "true") || str_eq(filter->word, "1");
    return filter->operator == '!' ? is != wanted : is == wanted;
}

static bool word_fits(const struct entry_filter *filter, const struct build_entry *entry)
{
    const char *value = str_eq(filter->field, "id") ? entry->id : str_eq(filter->field, "parent") ? entry->parent : str_eq(filter->field, "type") ? entry->type : entry->description;
    value = value ? value : "";
    if (!filter->operator)
        return *value;
    if (filter->operator == '~')
        return matches(filter->word, value);
    bool digest = str_eq(filter->field, "id") || str_eq(filter->field, "parent"); // which are listed without their algorithm, too
    bool same = str_eq(value, filter->word) || (digest && *value && str_eq(value + strlen("sha256:"), filter->word));
    return same == (filter->operator == '=');
}

bool entry_filters_fit(const struct entry_filters *filters, const struct build_entry *entry)
{
    bool all = true;
    for (size_t i = 0; i < filters->len; i++) {
        const struct entry_filter *filter = &filters->items[i];
        bool flag = false;
        for (size_t k = 0; k < ARRAY_LEN(fields); k++)
            flag = flag || (fields[k].flag && str_eq(fields[k].name, filter->field));
        all = all && (flag ? flag_fits(filter, entry) : word_fits(filter, entry));
        if (filter->ends && all)
            return true;
        all = all || filter->ends;
    }
    return filters->len == 0;
}
