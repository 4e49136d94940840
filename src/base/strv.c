#include <stdarg.h>
#include <stdio.h>

#include "base/strv.h"

void strv_done(struct strv *list)
{
    for (size_t i = 0; i < list->len; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct strv){ 0 };
}

static void push(struct strv *list, char *item)
{
    list->items = mem_grow(list->items, (list->len + 2) * sizeof(*list->items));
    list->items[list->len++] = item;
    list->items[list->len] = NULL;
}

void strv_add(struct strv *list, const char *s)
{
    push(list, mem_strdup(s));
}

void strv_addf(struct strv *list, const char *fmt, ...)
{
    va_list args;
    char *text = NULL;
    va_start(args, fmt);
    if (vasprintf(&text, fmt, args) < 0)
        abort();
    va_end(args);
    push(list, text);
}

void strv_push_arena(struct strv *list, struct arena *arena, const char *s)
{
    if (list->len + 2 > list->capacity) {
        size_t capacity = MAX_OF((size_t)8, 2 * (list->len + 2));
        char **items = arena_alloc(arena, capacity * sizeof(*items));
        if (list->len)
            memcpy(items, list->items, list->len * sizeof(*items));
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->len++] = arena_strdup(arena, s);
    list->items[list->len] = NULL;
}

bool strv_has(const struct strv *list, const char *s)
{
    for (size_t i = 0; i < list->len; i++)
        if (str_eq(list->items[i], s))
            return true;
    return false;
}

static size_t find_env(const struct strv *list, const char *key, size_t key_len)
{
    for (size_t i = 0; i < list->len; i++)
        if (strncmp(list->items[i], key, key_len) == 0 && (list->items[i][key_len] == '=' || !list->items[i][key_len]))
            return i;
    return list->len;
}

const char *strv_env(const struct strv *list, const char *key)
{
    size_t key_len = strlen(key);
    size_t at = find_env(list, key, key_len);
    return at < list->len && list->items[at][key_len] == '=' ? list->items[at] + key_len + 1 : NULL;
}

void strv_env_set(struct strv *list, struct arena *arena, const char *assignment)
{
    const char *equals = strchr(assignment, '=');
    size_t key_len = equals ? (size_t)(equals - assignment) : strlen(assignment);
    size_t at = find_env(list, assignment, key_len);
    if (at == list->len) {
        if (equals)
            strv_push_arena(list, arena, assignment);
        return;
    }
    if (equals) {
        list->items[at] = arena_strdup(arena, assignment);
        return;
    }
    memmove(list->items + at, list->items + at + 1, (list->len - at) * sizeof(*list->items));
    list->len--;
}

const char *kvs_get(const struct kvs *map, const char *key)
{
    for (size_t i = 0; i < map->len; i++)
        if (str_eq(map->items[i].key, key))
            return map->items[i].value;
    return NULL;
}
