// The flags in front of an instruction's arguments, each instruction's by its table.
#include "build/build_private.h"

static const struct flag_row *row_find(const struct flag_row *rows, const char *name)
{
    while (rows && rows->name && !str_eq(rows->name, name))
        rows++;
    return rows && rows->name ? rows : NULL;
}

static int unknown(const struct flag_row *rows, const char *name, struct arena *arena, struct err *err)
{
    struct strv names = { 0 };
    for (; rows && rows->name; rows++)
        strv_push_arena(&names, arena, rows->name);
    return err_suggest(err, arena_printf(arena, "unknown flag: --%s", name), name, &names, true, arena);
}

static int switch_read(const char *name, const char *value, enum tristate *out, struct arena *arena, struct err *err)
{
    const char *lower = value ? lower_case(value, arena) : "true";
    if (value && !*value)
        return err_set(err, ERR_INVALID_ARGUMENT, "missing a value on flag: --%s", name);
    if (!str_eq(lower, "true") && !str_eq(lower, "false"))
        return err_set(err, ERR_INVALID_ARGUMENT, "expecting boolean value for flag --%s, not: %s", name, value);
    *out = str_eq(lower, "true") ? TRISTATE_TRUE : TRISTATE_FALSE;
    return 0;
}

static int flag_read(const char *flag, const struct flag_row *rows, void *fields, struct arena *arena, struct strv *used, struct err *err)
{
    const char *equals = strchr(flag, '=');
    const char *name = arena_strndup(arena, flag + 2, equals ? (size_t)(equals - flag - 2) : strlen(flag) - 2);
    const struct flag_row *row = row_find(rows, name);
    if (!row)
        return unknown(rows, name, arena, err);
    void *place = (char *)fields + row->offset;
    if (strv_has(used, name) && row->form != FLAG_TEXTS)
        return err_set(err, ERR_INVALID_ARGUMENT, "duplicate flag specified: --%s", name);
    if (!strv_has(used, name))
        strv_push_arena(used, arena, name);
    if (row->form == FLAG_SWITCH)
        return switch_read(name, equals ? equals + 1 : NULL, place, arena, err);
    if (!equals)
        return err_set(err, ERR_INVALID_ARGUMENT, "missing a value on flag: --%s", name);
    if (row->form == FLAG_TEXTS)
        strv_push_arena(place, arena, equals + 1);
    else
        *(const char **)place = arena_strdup(arena, equals + 1);
    return 0;
}

int flags_read(const struct strv *flags, const struct flag_row *rows, void *fields, struct arena *arena, struct strv *used, struct err *err)
{
    struct strv names = { 0 };
    for (size_t i = 0; i < flags->len; i++)
        if (flag_read(flags->items[i], rows, fields, arena, &names, err) < 0)
            return -1;
    if (used)
        *used = names;
    return 0;
}
