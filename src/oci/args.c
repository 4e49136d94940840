#include <stdio.h>

#include "oci/oci_private.h"

static const struct flag *find(const struct args *args, const char *name, size_t size)
{
    for (size_t i = 0; i < args->flag_len; i++) {
        const struct flag *flag = &args->flags[i];
        bool by_name = strlen(flag->name) == size && strncmp(flag->name, name, size) == 0;
        bool by_letter = size > 0 && strlen(flag->letter) == size && strncmp(flag->letter, name, size) == 0;
        if (by_name || by_letter)
            return flag;
    }
    return NULL;
}

static bool bool_word(const char *word, bool *out)
{
    static const char *const yes[] = { "1", "t", "T", "true", "TRUE", "True" }, *const no[] = { "0", "f", "F", "false", "FALSE", "False" };
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (str_eq(word, yes[i]) || str_eq(word, no[i])) {
            *out = str_eq(word, yes[i]);
            return true;
        }
    }
    return false;
}

// One dash or two mean the same, and a value may be the rest of the word or the next one.
static int read_flag(struct args *args, int argc, char **argv, int *at, struct err *err)
{
    const char *name = argv[*at] + (argv[*at][1] == '-' ? 2 : 1), *equals = strchr(name, '=');
    size_t size = equals ? (size_t)(equals - name) : strlen(name);
    const struct flag *flag = find(args, name, size);
    if (!flag)
        return err_set(err, ERR_INVALID_ARGUMENT, "flag provided but not defined: -%.*s", (int)MIN_OF(size, (size_t)100), name);
    const char *value = equals ? equals + 1 : NULL;
    bool on = true;
    if (flag->kind == FLAG_BOOL && value && !bool_word(value, &on))
        return err_set(err, ERR_INVALID_ARGUMENT, "invalid boolean value \"%.100s\" for -%s: parse error", value, flag->name);
    if (flag->kind == FLAG_BOOL)
        value = on ? "true" : "false";
    else if (!value && *at + 1 < argc)
        value = argv[++*at];
    if (!value)
        return err_set(err, ERR_INVALID_ARGUMENT, "flag needs an argument: -%s", flag->name);
    strv_push_arena(&args->values[flag - args->flags], args->arena, value);
    return 0;
}

int args_read(struct args *args, int argc, char **argv, int *at, bool mixed, struct err *err)
{
    bool only_words = false;
    for (; *at < argc; ++*at) {
        const char *word = argv[*at];
        bool is_flag = !only_words && word[0] == '-' && word[1] != '\0';
        if (is_flag && str_eq(word, "--")) {
            only_words = true;
            if (!mixed && args->words.len == 0)
                continue;
            if (mixed)
                continue;
        }
        if (is_flag && !str_eq(word, "--")) {
            if (read_flag(args, argc, argv, at, err) < 0)
                return -1;
            continue;
        }
        if (!mixed)
            only_words = true; // the first word ends the flags
        strv_push_arena(&args->words, args->arena, word);
    }
    return 0;
}

static const struct strv *values_of(const struct args *args, const char *name)
{
    const struct flag *flag = find(args, name, strlen(name));
    return flag ? &args->values[flag - args->flags] : NULL;
}

const char *args_text(const struct args *args, const char *name)
{
    const struct strv *values = values_of(args, name);
    return values && values->len ? values->items[values->len - 1] : NULL;
}

bool args_given(const struct args *args, const char *name)
{
    return args_text(args, name) != NULL;
}

bool args_flag(const struct args *args, const char *name)
{
    return str_eq(args_text(args, name), "true");
}

const struct strv *args_list(const struct args *args, const char *name)
{
    static const struct strv none;
    const struct strv *values = values_of(args, name);
    return values ? values : &none;
}

void args_help(const struct flag *flags, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char name[64];
        bool lettered = flags[i].letter[0];
        snprintf(name, sizeof(name), "--%s%s%s%s", flags[i].name, flags[i].kind == FLAG_BOOL ? "" : " value",
                 lettered ? ", -" : "", flags[i].letter);
        printf("   %-28s %s\n", name, flags[i].help);
    }
}
